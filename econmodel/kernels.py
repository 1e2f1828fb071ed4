"""The event loops of `simulate`, compiled by numba when first used; nothing else imports this module."""

from collections import namedtuple

import numpy as np
from numba import njit

jit = njit(cache=True, nogil=True, forceinline=True)

#: Fate of a call.
SERVED, SHED, LOST, NEVER_FITS = 1, 2, 3, 4
#: Where the KV cache of a session is; tiers count on from TIER, and after them comes the line for prefill.
NOWHERE, IDLE, HELD, LEAVING, LOADING, IN_SERVICE, TIER = -1, 0, 1, 2, 3, 4, 5
#: Counters and sums of the state.
RUNNING, WAITING, DECODING, CONTEXT, STEP, PENDING, MOVES, MOVED, DONE = range(9)
USED, LEAVING_BYTES, LINK_FREE, BYTES_OUT, BYTES_IN, BYTES_DROPPED, BYTES_CANCELLED, PEAK_BYTES = range(8)
#: Rows of the time series before those of the tiers.
BUSY, TOKENS, STEPS, READ, PAIRS, RUN, WAIT, HBM, LINK = range(9)

#: A call: what is asked, and what becomes of it.
CALL = np.dtype(
    [(name, np.int64) for name in ("input", "cached", "output", "prefilled", "reused", "status")]
    + [(name, np.float64) for name in ("wait", "cpu", "ready", "start", "first_token", "end", "cpu_start")]
)
#: A session: its level, its calls, and the progress of the one at hand.
SESSION = np.dtype(
    [(name, np.int64) for name in ("level", "last", "peak", "call", "place", "stamp")]
    + [(name, np.int64) for name in ("made", "base", "todo", "at", "finish")]
    + [(name, np.float64) for name in ("bytes", "since")]
)
#: An entry of a heap or of the line of the link.
ENTRY = np.dtype([("key", np.float64), ("who", np.int64), ("stamp", np.int64)])
TIERS = np.dtype([("capacity", np.float64), ("rate", np.float64), ("used", np.float64)])


#: Replica and policy as numbers.
Rules = namedtuple(
    "Rules",
    "context_s attention_s kv_fixed kv_token memory max_batch chunk hold idle_s preempt max_waiting n_levels until",
)
#: Doubly linked lists of sessions, each of which is in at most one: links before and after, first and last.
Lists = namedtuple("Lists", "links ends")
#: Everything that changes. Lists of `queue`: waiting by level, in service by level, ready; of `cache`: by place.
State = namedtuple("State", "queue cache sessions calls due ending cores moves tiers n x")


@jit
def push(lists, which, item, front):
    """Put a session at the front or the back of a list."""
    side = 0 if front else 1
    old = lists.ends[which, side]
    lists.links[item, side], lists.links[item, 1 - side] = -1, old
    lists.ends[which, side] = item
    if old < 0:
        lists.ends[which, 1 - side] = item
    else:
        lists.links[old, side] = item


@jit
def remove(lists, which, item):
    """Take a session out of a list."""
    for side in range(2):
        neighbour, other = lists.links[item, side], lists.links[item, 1 - side]
        if neighbour < 0:
            lists.ends[which, side] = other
        else:
            lists.links[neighbour, 1 - side] = other


@jit
def sift_up(heap, place, key, who):
    """Put an entry into a heap at the hole `place` or above."""
    while place > 0 and heap[(place - 1) >> 1].key > key:
        heap[place].key, heap[place].who = heap[(place - 1) >> 1].key, heap[(place - 1) >> 1].who
        place = (place - 1) >> 1
    heap[place].key, heap[place].who = key, who


@jit
def sift_down(heap, size, place, key, who):
    """Put an entry into a heap of some size at the hole `place` or below."""
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1].key < heap[child].key:
            child += 1
        if heap[child].key >= key:
            break
        heap[place].key, heap[place].who = heap[child].key, heap[child].who
        place = child
    heap[place].key, heap[place].who = key, who


@jit
def fifo_waits(arrivals, services, n_servers):
    """Waits of customers that take the first server that is free, in order of arrival."""
    free = np.full(n_servers, -np.inf)
    waits = np.empty(arrivals.size)
    for i in range(arrivals.size):
        start = max(arrivals[i], free[0])
        waits[i] = start - arrivals[i]
        end, place, child = start + services[i], 0, 1
        while child < n_servers:
            if child + 1 < n_servers and free[child + 1] < free[child]:
                child += 1
            if free[child] >= end:
                break
            free[place] = free[child]
            place, child = child, 2 * child + 1
        free[place] = end
    return waits


@jit
def release(s, i):
    """Forget the KV cache of a session, wherever it is."""
    own = s.sessions[i]
    place = own.place
    if place == IDLE or place >= TIER:
        remove(s.cache, place, i)
    if place >= TIER:
        s.tiers[place - TIER].used -= own.bytes
    elif place != NOWHERE:
        s.x[USED] -= own.bytes
    if place == LEAVING:
        cancel(s, i)
    own.place = NOWHERE
    own.bytes = 0.0


@jit
def cancel(s, i):
    """The context is wanted again before it has left: the copy in HBM still serves."""
    s.sessions[i].stamp += 1
    s.x[LEAVING_BYTES] -= s.sessions[i].bytes
    s.x[BYTES_CANCELLED] += s.sessions[i].bytes


@jit
def send(s, i, tier, t):
    """Put a context on the link to or from a tier, behind all that was put there before."""
    s.x[LINK_FREE] = max(s.x[LINK_FREE], t) + s.sessions[i].bytes / s.tiers[tier].rate
    last = s.moves[s.n[MOVES]]
    last.key, last.who, last.stamp = s.x[LINK_FREE], i, s.sessions[i].stamp
    s.n[MOVES] += 1


@jit
def tier_for(s, n_bytes, tier):
    """First tier from this one on that could ever hold so much; -1 if none."""
    for k in range(tier, s.tiers.size):
        if s.tiers[k].capacity >= n_bytes:
            return k
    return -1


@jit
def leave(s, i, t):
    """An idle context leaves HBM: over the link to a tier, or it is dropped."""
    n_bytes = s.sessions[i].bytes
    tier = tier_for(s, n_bytes, 0)
    if tier < 0:
        s.x[BYTES_DROPPED] += n_bytes
        release(s, i)
    else:
        remove(s.cache, IDLE, i)
        s.sessions[i].place = LEAVING
        s.x[LEAVING_BYTES] += n_bytes
        send(s, i, tier, t)


@jit
def keep(s, i, tier, n_bytes):
    """Put a context into a tier."""
    s.sessions[i].place = TIER + tier
    s.sessions[i].bytes = n_bytes
    s.tiers[tier].used += n_bytes
    push(s.cache, TIER + tier, i, False)


@jit
def store(s, i):
    """A context has arrived below HBM; what was used least recently overflows to the next tier, or is dropped."""
    n_bytes = s.sessions[i].bytes
    s.x[USED] -= n_bytes
    s.x[LEAVING_BYTES] -= n_bytes
    s.x[BYTES_OUT] += n_bytes
    keep(s, i, tier_for(s, n_bytes, 0), n_bytes)
    for tier in range(s.tiers.size):
        while s.tiers[tier].used > s.tiers[tier].capacity:
            oldest = s.cache.ends[TIER + tier, 0]
            n_bytes = s.sessions[oldest].bytes
            below = tier_for(s, n_bytes, tier + 1)
            release(s, oldest)
            if below < 0:
                s.x[BYTES_DROPPED] += n_bytes
            else:
                keep(s, oldest, below, n_bytes)


@jit
def serve_now(s, r, i):
    """A session whose context is in HBM joins the calls in service, and the line for prefill."""
    s.sessions[i].place = IN_SERVICE
    push(s.queue, r.n_levels + s.sessions[i].level, i, True)
    push(s.cache, TIER + s.tiers.size, i, False)


@jit
def begin(s, r, i, need, t):
    """A call takes a place in the batch and room in HBM; its context is loaded first if it waits in a tier."""
    own, call = s.sessions[i], s.calls[s.sessions[i].call]
    place, held = own.place, own.bytes
    s.n[WAITING] -= 1
    s.n[RUNNING] += 1
    if np.isnan(call.start):
        call.start = t
    reused = 0 if place == NOWHERE else min(call.cached, call.input - 1)
    own.base, own.todo = reused, call.input + own.made - reused
    call.reused += reused
    call.prefilled += own.todo
    if place == LEAVING:
        cancel(s, i)
    elif place == IDLE or place >= TIER:
        remove(s.cache, place, i)
    if place >= TIER:
        s.tiers[place - TIER].used -= held
        s.x[BYTES_IN] += held
        send(s, i, place - TIER, t)
        own.place = LOADING
        held = 0.0
    else:
        serve_now(s, r, i)
    s.x[USED] += need
    s.x[PEAK_BYTES] = max(s.x[PEAK_BYTES], s.x[USED])
    own.bytes = held + need


@jit
def preempt(s, r, level):
    """The latest call of the lowest level below this one gives way; it will be computed anew up to where it was."""
    for low in range(r.n_levels - 1, level, -1):
        i = s.queue.ends[r.n_levels + low, 0]
        if i < 0:
            continue
        own = s.sessions[i]
        remove(s.queue, r.n_levels + low, i)
        if own.todo > 0:
            remove(s.cache, TIER + s.tiers.size, i)
        else:
            own.made = s.calls[own.call].output - (own.finish - s.n[STEP])
            s.n[CONTEXT] -= own.at + s.n[STEP]
            s.n[DECODING] -= 1
            last, hole = s.n[DECODING], 0
            while s.ending[hole].who != i:
                hole += 1
            if hole < last:
                step, other = s.ending[last].key, s.ending[last].who
                sift_down(s.ending, last, hole, step, other)
                if s.ending[hole].who == other:
                    sift_up(s.ending, hole, step, other)
        release(s, i)
        s.n[RUNNING] -= 1
        s.n[WAITING] += 1
        push(s.queue, low, i, True)
        return True
    return False


@jit
def admit(s, r, t):
    """Let calls in, by level and in order, while batch and memory allow; idle contexts and lower levels give way."""
    ready = 2 * r.n_levels
    while s.n[RUNNING] < r.max_batch and s.queue.ends[ready, 0] >= 0:
        i = s.queue.ends[ready, 0]
        remove(s.queue, ready, i)
        begin(s, r, i, 0.0, t)
    for level in range(r.n_levels):
        while s.queue.ends[level, 0] >= 0:
            i = s.queue.ends[level, 0]
            if s.n[RUNNING] >= r.max_batch and not (r.preempt and preempt(s, r, level)):
                return
            own, call = s.sessions[i], s.calls[s.sessions[i].call]
            need = r.kv_fixed + r.kv_token * (own.peak if r.hold else call.input + call.output)
            if own.place == IDLE or own.place == LEAVING:
                need -= own.bytes
            stays = own.bytes if own.place == LEAVING else 0.0
            other = s.cache.ends[IDLE, 0]
            while r.memory - s.x[USED] + s.x[LEAVING_BYTES] - stays < need and other >= 0:
                after = s.cache.links[other, 1]
                if other != i:
                    leave(s, other, t)
                other = after
            while r.memory - s.x[USED] + s.x[LEAVING_BYTES] - stays < need and r.preempt and preempt(s, r, level):
                pass
            if r.memory - s.x[USED] < need:
                return
            remove(s.queue, level, i)
            begin(s, r, i, need, t)


@jit
def arrive(s, r, i, when):
    """A call joins its line, or is turned away with the rest of its session if the line is too long."""
    own = s.sessions[i]
    s.calls[own.call].ready = when
    if s.n[WAITING] >= r.max_waiting:
        s.calls[own.call].status = SHED
        for k in range(own.call + 1, own.last + 1):
            s.calls[k].status = LOST
        s.n[DONE] += own.last + 1 - own.call
        release(s, i)
    else:
        s.n[WAITING] += 1
        push(s.queue, 2 * r.n_levels if own.place == HELD else own.level, i, False)


@jit
def complete(s, r, i, t):
    """A call has its last token; the tool runs, and the context waits."""
    own = s.sessions[i]
    s.calls[own.call].end, s.calls[own.call].status = t, SERVED
    remove(s.queue, r.n_levels + own.level, i)
    s.n[RUNNING] -= 1
    s.n[DONE] += 1
    own.made = 0
    if own.call == own.last:
        release(s, i)
        return
    if r.hold:
        own.place = HELD
    else:
        own.place, own.since = IDLE, t
        push(s.cache, IDLE, i, False)
    own.call += 1
    call, start = s.calls[own.call], t
    if s.cores.size and call.cpu > 0:
        start = max(t, s.cores[0].key)
        sift_down(s.cores, s.cores.size, 0, start + call.cpu, 0)
    call.cpu_start = start
    sift_up(s.due, s.n[PENDING], start + call.cpu + call.wait, i)
    s.n[PENDING] += 1


@jit
def decode_or_complete(s, r, i, t):
    """The end of a prefill brings the next token."""
    own, call = s.sessions[i], s.calls[s.sessions[i].call]
    if np.isnan(call.first_token):
        call.first_token = t
    left = call.output - own.made - 1
    if left == 0:
        complete(s, r, i, t)
        return
    context = call.input + own.made + 1
    own.at, own.finish = context - s.n[STEP], s.n[STEP] + left
    s.n[CONTEXT] += context
    sift_up(s.ending, s.n[DECODING], float(own.finish), i)
    s.n[DECODING] += 1


@jit
def next_event(s, r, order, arrived):
    """Time and kind of what happens next outside the batch."""
    when, kind = np.inf, -1
    if arrived < order.size:
        when, kind = s.calls[s.sessions[order[arrived]].call].wait, 0
    if s.n[PENDING] and s.due[0].key < when:
        when, kind = s.due[0].key, 1
    if s.n[MOVED] < s.n[MOVES] and s.moves[s.n[MOVED]].key < when:
        when, kind = s.moves[s.n[MOVED]].key, 2
    i = s.cache.ends[IDLE, 0]
    if i >= 0 and s.sessions[i].since + r.idle_s < when:
        when, kind = s.sessions[i].since + r.idle_s, 3
    return when, kind


@jit
def happen(s, r, order, arrived, when, kind):
    """Let one event take place; return how many sessions have arrived."""
    if kind == 0:
        arrive(s, r, order[arrived], when)
        return arrived + 1
    if kind == 1:
        i = s.due[0].who
        s.n[PENDING] -= 1
        sift_down(s.due, s.n[PENDING], 0, s.due[s.n[PENDING]].key, s.due[s.n[PENDING]].who)
        arrive(s, r, i, when)
    elif kind == 2:
        moved = s.moves[s.n[MOVED]]
        s.n[MOVED] += 1
        if moved.stamp == s.sessions[moved.who].stamp:
            if s.sessions[moved.who].place == LOADING:
                serve_now(s, r, moved.who)
            else:
                store(s, moved.who)
    else:
        leave(s, s.cache.ends[IDLE, 0], when)
    return arrived


@jit
def spread(series, bin_s, t, dt, amount):
    """Add amounts that accrue evenly over an interval to the bins it covers; return the series, longer if need be."""
    low, high = int(t / bin_s), int((t + dt) / bin_s)
    while high >= series.shape[0]:
        series = np.concatenate((series, np.zeros_like(series)))
    for b in range(low, high + 1):
        share = 1.0 if low == high else (min(t + dt, (b + 1) * bin_s) - max(t, b * bin_s)) / dt
        for row in range(amount.size):
            series[b, row] += share * amount[row]
    return series


@jit
def run(s, r, step_s, order, bin_s, progress):
    """Serve all sessions; return the time series, by bin and row, and the end of time."""
    series = np.zeros((64, LINK + 1 + s.tiers.size))
    amount = np.zeros(series.shape[1])
    line = TIER + s.tiers.size
    t, arrived = 0.0, 0
    while progress[1] == 0 and t < r.until:
        when, kind = next_event(s, r, order, arrived)
        while when <= t:
            arrived = happen(s, r, order, arrived, when, kind)
            when, kind = next_event(s, r, order, arrived)
        if s.n[WAITING]:
            admit(s, r, t)
            when, kind = next_event(s, r, order, arrived)
        decoding, head = s.n[DECODING], s.cache.ends[line, 0]
        amount[:] = 0.0
        k, prompt = 0, 0
        if decoding == 0 and head < 0:
            if when == np.inf:
                break
            dt = min(when, r.until) - t
        else:
            k, pairs, more = 1, 0.0, 0.0
            if head < 0:
                k = int(s.ending[0].key) - s.n[STEP]
            elif s.sessions[head].todo > r.chunk:  # whole chunks of one prompt, all but its last
                k, prompt = (s.sessions[head].todo - 1) // r.chunk, r.chunk
                pairs, more = r.chunk * (s.sessions[head].base + 0.5 * r.chunk), float(r.chunk) * r.chunk
            else:  # one step, whose chunk several prompts may fill
                i = head
                while i >= 0 and prompt < r.chunk:
                    take = min(s.sessions[i].todo, r.chunk - prompt)
                    pairs += take * (s.sessions[i].base + 0.5 * take)
                    prompt += take
                    i = s.cache.links[i, 1]
            if decoding:
                k = min(k, int(s.ending[0].key) - s.n[STEP])
            dt = step_s[decoding + prompt] + r.context_s * s.n[CONTEXT] + r.attention_s * pairs
            slope = r.context_s * decoding + r.attention_s * more
            if k > 1 and min(when, r.until) < np.inf:  # the first step that ends after the next event
                linear, gap = dt - 0.5 * slope, min(when, r.until) - t
                root = 2 * gap / (linear + np.sqrt(linear * linear + 2 * slope * gap))
                k = max(1, int(min(float(k), np.ceil(root))))
            ramp = 0.5 * k * (k - 1.0)
            dt = k * dt + slope * ramp
            amount[BUSY], amount[TOKENS], amount[STEPS] = dt, k * (decoding + prompt), k
            amount[READ], amount[PAIRS] = k * s.n[CONTEXT] + decoding * ramp, k * pairs + more * ramp
            amount[RUN], amount[WAIT] = s.n[RUNNING] * dt, s.n[WAITING] * dt
        amount[HBM] = s.x[USED] * dt
        amount[LINK] = max(0.0, min(t + dt, s.x[LINK_FREE]) - t)
        for tier in range(s.tiers.size):
            amount[LINK + 1 + tier] = s.tiers[tier].used * dt
        series = spread(series, bin_s, t, dt, amount)
        t += dt
        s.n[STEP] += k
        s.n[CONTEXT] += decoding * k
        prompt *= k
        i = head
        while prompt > 0:
            after, own = s.cache.links[i, 1], s.sessions[i]
            take = min(own.todo, prompt)
            own.todo -= take
            own.base += take
            prompt -= take
            if own.todo == 0:
                remove(s.cache, line, i)
                decode_or_complete(s, r, i, t)
            i = after
        while s.n[DECODING] and s.ending[0].key == s.n[STEP]:
            i, last = s.ending[0].who, s.n[DECODING] - 1
            s.n[CONTEXT] -= s.sessions[i].at + s.n[STEP]
            s.n[DECODING] = last
            sift_down(s.ending, last, 0, s.ending[last].key, s.ending[last].who)
            complete(s, r, i, t)
        progress[0] = s.n[DONE]
    return series[: int(t / bin_s) + 1], t
