"""What does a finished task cost: demand over the week, queues, waiting contexts and failed attempts in one model."""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaincc, gammaln, ndtr

from econmodel import simulate, traces, units

#: Bars of the waterfall, in the order in which their causes are switched on.
CAUSES = ("ideal", "provisioning for the peak", "latency headroom", "contexts waiting in memory", "failed attempts")
#: How the fleet follows demand.
SCALINGS = ("fixed", "hourly", "perfect")
#: Relative values, each as likely, of an exponential law with mean 1.
_EXPONENTIAL = -np.log1p(-(np.arange(256) + 0.5) / 256)
#: Mixes of two workloads at which replicas are computed; between them is interpolated.
_MIXES = 5
#: Rates of 0, rooms without end and logarithms of nothing are answers here.
_QUIET = np.errstate(divide="ignore", invalid="ignore", over="ignore")


@dataclass(frozen=True, kw_only=True)
class Workload:
    r"""
    Tasks that are asked for through the week, and the calls they are made of; numbers may be arrays over draws.

    Parameters
    ----------
    name : str
        Such as "agents".
    tasks_per_s : array_like, shape (..., hours)
        Tasks asked for in each hour. [task/s]
    calls_per_task : array_like
        Calls of one attempt, at least 1. [call/task]
    input_tokens, cached_tokens, output_tokens : array_like
        Means per call: the whole prompt, how much of it the session had seen before, and the answer. [token/call]
    wait_s : array_like
        Mean time of a tool or person between two calls of a task. [s]
    cpu_s : array_like
        Time of a core of the fleet per call, for tools that run there. [s]
    attempts : array_like
        Attempts per finished task, at least 1, as from `compound_error.expected_attempts`. [run/task]
    peak_tokens : array_like, optional
        Largest context of a session, mean over calls; None for input and output of the mean call. [token]
    pairs : array_like, optional
        Pairs of a computed prompt token and a token before it, mean per call; None for independent lengths. [pair]
    input_quantiles, new_quantiles, output_quantiles : array_like, optional
        Laws of the whole prompt, of what is computed of it, and of the answer: values each as likely, of which only
        the shape counts, the mean is given above. None for an exponential law.

    Raises
    ------
    ValueError
        A number out of range, more cached than in the prompt.

    Examples
    --------
    >>> chat = Workload(name="chat", tasks_per_s=[2, 1], calls_per_task=1, input_tokens=500, cached_tokens=0,
    ...                 output_tokens=200)
    >>> chat.attempts
    1.0
    """

    name: str
    tasks_per_s: np.ndarray | Sequence[float]
    calls_per_task: float
    input_tokens: float
    cached_tokens: float
    output_tokens: float
    wait_s: float = 0.0
    cpu_s: float = 0.0
    attempts: float = 1.0
    peak_tokens: float | None = None
    pairs: float | None = None
    input_quantiles: np.ndarray | Sequence[float] | None = None
    peak_quantiles: np.ndarray | Sequence[float] | None = None
    new_quantiles: np.ndarray | Sequence[float] | None = None
    output_quantiles: np.ndarray | Sequence[float] | None = None

    def __post_init__(self):
        """Check what was given."""
        for name in self.__dataclass_fields__:
            if name != "name" and getattr(self, name) is not None:
                units.non_negative(getattr(self, name), name)
        if not np.ndim(self.tasks_per_s) or not np.size(self.tasks_per_s):
            raise ValueError(f"tasks_per_s = {self.tasks_per_s} is not allowed: at least one hour")
        for name in ("calls_per_task", "attempts"):
            units.non_negative(np.subtract(getattr(self, name), 1), f"{name} - 1")
        units.positive(self.output_tokens, "output_tokens")
        units.positive(np.subtract(self.input_tokens, self.cached_tokens), "input_tokens - cached_tokens")


def workload(calls, *, name, tasks_per_s, attempts=1.0):
    """
    Describe recorded or drawn sessions as a workload: means and laws of their calls.

    Parameters
    ----------
    calls : pandas.DataFrame or named tuple of columns
        As in `simulate.serve`: `session`, `input_tokens`, `cached_tokens`, `output_tokens`, `wait_s`, and `cpu_s` if
        tools run in the fleet; the wait of a first call is ignored.
    name, tasks_per_s, attempts
        As in `Workload`; a task is a session.

    Returns
    -------
    Workload

    Examples
    --------
    >>> calls = pd.DataFrame(dict(session=[0, 0], input_tokens=[100, 300], cached_tokens=[0, 150], output_tokens=50,
    ...                           wait_s=[0.0, 8.0]))
    >>> described = workload(calls, name="agents", tasks_per_s=[1.0])
    >>> described.calls_per_task, described.cached_tokens, described.wait_s, described.peak_tokens
    (2.0, 75.0, 8.0, 350.0)
    """
    table = pd.DataFrame(calls if isinstance(calls, pd.DataFrame) else calls._asdict())
    asked, later = table["input_tokens"], table["session"].duplicated()
    cached, levels = np.minimum(table["cached_tokens"], asked - 1), (np.arange(256) + 0.5) / 256
    peak = (asked + table["output_tokens"]).groupby(table["session"]).transform("max")
    laws = dict(input=asked, peak=peak, new=asked - cached, output=table["output_tokens"])
    means = dict(input_tokens=asked, cached_tokens=cached, output_tokens=table["output_tokens"], peak_tokens=peak)
    means |= dict(wait_s=table["wait_s"][later], cpu_s=table.get("cpu_s", 0.0 * asked))
    means |= dict(pairs=(asked - cached) * (asked + cached) / 2)
    return Workload(
        name=name, tasks_per_s=tasks_per_s, attempts=attempts, calls_per_task=float(len(table) / (~later).sum()),
        **{key: float(values.mean()) if len(values) else 0.0 for key, values in means.items()},
        **{f"{key}_quantiles": np.quantile(values, levels) for key, values in laws.items()},
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Prices:
    """
    What the fleet pays; numbers may be arrays over draws.

    Parameters
    ----------
    gpu_usd_per_hour : array_like
        An accelerator with its share of the host, used or not. [USD/h]
    core_usd_per_hour : array_like
        A CPU core for tools. [USD/h]
    tier_usd_per_gb_hour : array_like
        Memory below HBM, for what lies there. [USD/GB/h]
    fill_usd_per_gpu_hour : array_like
        What other work pays for an idle GPU-hour. [USD/h]
    basis : str
        Where the price comes from, such as "owned" or "on demand".

    Raises
    ------
    ValueError
        A negative price.

    Examples
    --------
    >>> Prices(gpu_usd_per_hour=2.0).fill_usd_per_gpu_hour
    0.0
    """

    gpu_usd_per_hour: float
    core_usd_per_hour: float = 0.0
    tier_usd_per_gb_hour: float = 0.0
    fill_usd_per_gpu_hour: float = 0.0
    basis: str = "rented"

    def __post_init__(self):
        """Check what was given."""
        for name in list(self.__dataclass_fields__)[:-1]:
            units.non_negative(getattr(self, name), name)


#: What is computed of prompts: mean, mean square, steps and pairs; mean of a step's part; moments with pairs.
_Prompt = namedtuple("_Prompt", "tokens square steps part pairs cross pairs_square")
#: Means over calls; tokens read and room taken are weighted by answers, contexts sent by calls that return, parked by
#: waits, peaks by how long a session stays.
_Calls = namedtuple("_Calls", "new whole output read room size squares sent parked stay peak peaks waits returning cpu")
#: Calls per second by number in service, and of a call: waits for link and prefill, own prefill and load, decoding,
#: a step without prompts, share of time with a line for prefill; what decides how that line holds decoding up: share
#: lost, wait and time in line, time if always held up, work in line of a call and what is left of it; GPU time.
_Pace = namedtuple("_Pace", "rate wait alone decoding step line slowed behind first full work left prefill_s decode_s")
#: Share of calls whose context is moved out and back, and of those that compute it again.
_Fates = namedtuple("_Fates", "moved lost")
#: A replica as a birth-death chain: sums of log rates, weights of nodes, calls served at each; sessions that fit.
_Chain = namedtuple("_Chain", "nodes pace total weight serving fits scale waits first limit")
#: A chain at a rate of calls.
_State = namedtuple("_State", "time in_service wait late share queued extra blocked")
#: A replica under a policy: table of steps, what fits below HBM, and the link to it.
_Box = namedtuple("_Box", "server policy step slow link tier_bytes")
_NONE = _Fates(np.zeros(1), np.zeros(1))


def _axis(value):
    return np.asarray(value, dtype=float)[..., None]


def _law(values):
    relative = _EXPONENTIAL if values is None else np.asarray(values, dtype=float)
    return relative / relative.mean()


def _prompt(mean, cached, law, pairs, again, box):
    """Moments of what is computed of a prompt; `again` is the rate at which a session that does not wait calls."""
    chunk, tokens = box.policy.chunk_tokens, _axis(mean) * _law(law)
    part, over = np.minimum(tokens, chunk), tokens * (_axis(cached) + tokens / 2)
    over = over if pairs is None else over * _axis(pairs) / over.mean(-1, keepdims=True)
    steps = np.ceil(np.maximum(tokens, 1) / chunk)
    # behind a long prompt there wait no more calls than there are sessions: of those outside exp(-t / Z) are left
    alone = (tokens / chunk * box.step[chunk] + box.server.attention_s * over) * box.slow[..., 0]
    met = 1 / (1 + alone * _axis(again) / 3)
    means = [x.mean(-1) for x in (tokens, met * tokens**2, steps, part**2, over, met * over * tokens, met * over**2)]
    return _Prompt(*means)._replace(part=means[3] / part.mean(-1))


def _calls(w, box):
    output, size = np.asarray(w.output_tokens, float), np.add(w.input_tokens, w.output_tokens)
    returning, spread = 1 - 1 / np.asarray(w.calls_per_task, float), (_law(w.output_quantiles) ** 2).mean()
    peak, cached = size if w.peak_tokens is None else np.maximum(w.peak_tokens, size), np.asarray(w.cached_tokens)
    squares, peaks = (x**2 * (_law(q) ** 2).mean() for x, q in ((size, w.input_quantiles), (peak, w.peak_quantiles)))
    gap, decoding = np.add(w.wait_s, w.cpu_s), output * box.step[1] * box.slow[..., 0, 0]
    again, waits, stay = returning / (gap + decoding), returning * gap, returning * gap + decoding
    return _Calls(
        _prompt(np.subtract(w.input_tokens, cached), cached, w.new_quantiles, w.pairs, again, box),
        _prompt(w.input_tokens, 0.0 * cached, w.input_quantiles, None, again, box), output,
        output * (w.input_tokens + output * spread / 2), output * size, size, squares, returning * size, waits * size,
        stay, stay * peak, stay * peaks, waits, returning, np.asarray(w.cpu_s, float),
    )  # fmt: skip


def _mixed(shares, values):
    """Weighted sum over workloads, field by field; shares have an axis of mixes at the end."""
    if isinstance(values[0], tuple):
        return type(values[0])(*(_mixed(shares, field) for field in zip(*values, strict=True)))
    return sum(share * _axis(value) for share, value in zip(shares, values, strict=True))


def _box(replica, policy, context, speed):
    batch, chunk = policy.max_batch, policy.chunk_tokens
    server = simulate.server(replica, max_batch=batch, chunk_tokens=chunk, context_tokens=context)
    tiers = policy.tiers if policy.residency in ("move", "evict") else ()
    link = min([policy.link_bytes_per_s, *(tier.bandwidth_bytes_per_s for tier in tiers)]) if tiers else np.inf
    slow, step = 1 / units.positive(speed, "speed")[..., None, None], np.asarray(server.step_s, float)
    return _Box(server, policy, step, slow, link, sum(tier.capacity_bytes for tier in tiers))


def _kv(box, tokens):
    return box.server.kv_fixed_bytes + box.server.kv_bytes_per_token * tokens


def _transfer(box, calls):
    return _kv(box, calls.sent / np.maximum(calls.returning, 1e-300)) / box.link


def _packed(box, mean, square, weighted):
    """
    Contexts of unequal size that fit at a time, and their number's squared variation per context.

    The next in line waits until it fits: half of its size, which is more likely a large one, stays empty on average.
    """
    fixed, each = box.server.kv_fixed_bytes, box.server.kv_bytes_per_token
    ratio = (fixed**2 + 2 * fixed * each * mean + each**2 * square) / _kv(box, mean)
    return np.maximum(box.server.memory_bytes - ratio / 2, 0) / _kv(box, weighted), ratio / _kv(box, mean)


def _nodes(box, calls):
    """Numbers in hand at which a chain is evaluated: each one at first, then less than a root apart."""
    room, spread = _packed(box, calls.size, calls.squares, calls.room / calls.output)
    reach = 6 * np.sqrt(room * np.maximum(spread - 1, 0))
    batch, nodes = box.policy.max_batch, [0]
    top = np.max(np.where(room - reach > batch, batch, np.minimum(room + reach, 2 * batch)) + 1)
    while nodes[-1] < top:
        nodes.append(nodes[-1] + max(1, int(0.7 * np.sqrt(nodes[-1]) - 1)))
    return np.array(nodes, float)


def _root(falling, low, high):
    """Largest argument known to have a value not below zero, by false position with the Illinois rule."""
    at_low, at_high, side = falling(low), falling(high), np.zeros(np.shape(low))
    for _ in range(11):
        x = low + (high - low) * at_low / (at_low - at_high)
        x = np.where((x > low) & (x < high), x, (low + high) / 2)
        y = falling(x)
        up = y >= 0
        at_high = np.where(up, np.where(side > 0, at_high / 2, at_high), y)
        at_low = np.where(up, y, np.where(side < 0, at_low / 2, at_low))
        low, high, side = np.where(up, x, low), np.where(up, high, x), np.where(up, 1, -1)
    return low


def _step(box, tokens):
    low = np.minimum(tokens.astype(np.int64), len(box.step) - 2)
    return box.step[low] + (tokens - low) * (box.step[low + 1] - box.step[low])


def _pace(box, calls, fates, n):
    """Closed network of link, line for prefill and decoding with n calls, by approximate mean-value analysis."""
    prompt = _Prompt(*((a + fates.lost * (b - a))[..., None] for a, b in zip(calls.new, calls.whole, strict=True)))
    output, context = np.maximum(calls.output - 1, 1)[..., None], (calls.read / calls.output)[..., None]
    moved, transfer = fates.moved[..., None], _transfer(box, calls)[..., None]
    chunk, others, pair_s = box.policy.chunk_tokens, np.maximum(1 - 1 / n, 0), box.server.attention_s

    def at(decoding):
        beside = decoding * others
        read = box.server.context_s * context
        plain = _step(box, beside)
        bare, busy = plain + read * beside, _step(box, 1 + beside) + read * (1 + beside)
        together = np.maximum(beside / output, 1e-12)  # prompts that come within a step share it
        part = np.minimum(prompt.part * together / -np.expm1(-together), chunk)
        own = (_step(box, beside + part) - plain) * prompt.tokens / part + pair_s * prompt.pairs
        rate = decoding / (output * busy + decoding * others * own) / box.slow
        long = bare + _step(box, beside + chunk) - plain
        work = (prompt.tokens / chunk * long + pair_s * prompt.pairs) * box.slow
        square = (long / chunk) ** 2 * prompt.square + 2 * long / chunk * pair_s * prompt.cross
        left = (square + pair_s**2 * prompt.pairs_square) * box.slow**2 / (2 * work)
        line, link = rate * work * others, 2 * rate * moved * transfer * others
        # while the line is held up by a prompt, few answers end and few calls come back to it
        met = line * bare / (long * (1 - line) + line * bare)
        behind = np.where(line < 1, met * left / (1 - line), np.inf)
        queue = np.where(link < 1, moved * link * transfer / (2 * (1 - link)), np.inf)
        aligned = others / 2 * box.slow * (bare + np.minimum(line, 1) * own * part / prompt.tokens)
        first = (prompt.steps * bare + own) * box.slow
        return _Pace(
            rate, behind + queue + aligned, first + moved * transfer, decoding / rate, bare * box.slow, line,
            1 - bare / long, behind, first, output * long * box.slow, work, left, own * box.slow,
            output * busy * box.slow / np.maximum(decoding, 1e-300),
        )  # fmt: skip

    def lacking(decoding):
        pace = at(decoding)
        held = np.minimum(decoding + pace.rate * (pace.wait + pace.alone), 1e300)
        return (n - held) / (n + held)

    low = np.zeros(np.broadcast_shapes(n.shape, box.slow.shape, moved.shape)) + 1e-9 * n
    return at(_root(lacking, low, n + 0 * low))


def _chain(box, calls, fates, nodes, hold=False):
    """Birth-death chain of one replica; `hold` where sessions keep their room between calls."""
    room, spread = (x[..., None] for x in _packed(box, calls.size, calls.squares, calls.room / calls.output))
    peak = calls.peak / calls.stay
    fits, variation = (x[..., None] for x in _packed(box, peak, calls.peaks / calls.stay, peak))
    waits = calls.waits[..., None]
    kept = hold & (waits > 0) & np.isfinite(fits)
    fits = np.where(kept, fits, np.inf)
    sigma = np.sqrt(np.maximum(room * (spread - 1), 1e-12))
    over = np.where(np.isfinite(room), (nodes - room) / sigma, -np.inf)
    excess = sigma * (over * ndtr(over) + np.exp(-(over**2) / 2) / np.sqrt(2 * np.pi))
    serving = np.clip(nodes - np.where(kept | (over < -38), 0.0, excess), 1e-9, box.policy.max_batch)
    pace = _pace(box, calls, fates, serving[..., 1:])
    rate = np.maximum.accumulate(np.where(np.minimum(fits, room) >= 1, pace.rate, 0.0), axis=-1)
    log, gap = np.log(np.concatenate([rate[..., :1], rate], axis=-1)), np.diff(nodes)
    steps = (gap * (log[..., 1:] + log[..., :-1]) + log[..., 1:] - log[..., :-1]) / 2
    total = np.concatenate([0 * steps[..., :1], np.cumsum(steps, axis=-1)], axis=-1)
    weight, top = (np.append(gap, 1) + np.append(1, gap)) / 2, rate[..., -1:]
    chain = _Chain(nodes, pace._replace(rate=rate), total, weight, serving, fits, 1 / variation, waits,
                   1 - calls.returning, top[..., 0])  # fmt: skip
    if not kept.any():
        return chain
    log = nodes * np.log(top) - total + np.log(weight)
    full, before = (log + _log_full(chain, top, fits - less) for less in (0, 1))
    most = np.maximum(full, before).max(-1, keepdims=True)
    ratio = np.exp(before - most).sum(-1) / np.exp(full - most).sum(-1)
    return chain._replace(limit=np.where(kept[..., 0], np.fmin(ratio, 1.0), 1.0) * top[..., 0])


def _log_full(chain, rate, fits):
    """Logarithm of the probability that just the sessions wait that fit beside those in service."""
    left, mean = (fits - chain.nodes) * chain.scale, rate * chain.waits * chain.scale
    log = left * np.log(mean) - mean - gammaln(np.maximum(left + 1, 1e-12))
    return np.where((left > -1) & np.isfinite(fits), log, -np.inf)


def _state(chain, rate):
    """A replica at a rate of calls, as by `utilization.state_dependent_queue`, with sessions that hold their room."""
    nodes, pace, lam = chain.nodes, chain.pace, rate[..., None]
    left = (chain.fits - nodes) * chain.scale
    log = np.where(nodes > 0, nodes * np.log(lam), 0.0) - chain.total
    log = np.where(np.isnan(log) | (left <= -1), -np.inf, log)
    p, inside = chain.weight * np.exp(log - log.max(axis=-1, keepdims=True)), 1.0
    if np.isfinite(chain.fits).any():
        inside = gammaincc(np.maximum(left + 1, 1e-12), lam * chain.waits * chain.scale)
        inside = np.where(np.isfinite(left), inside * (left > -1), 1.0)
    full = p * np.exp(_log_full(chain, lam, chain.fits))
    seen = p * inside
    grows, held = rate / pace.rate[..., -1], rate / chain.limit
    last = seen[..., -1] / chain.weight[-1] * grows / (1 - grows)  # more in hand than the last node
    outside = full.sum(-1) * held / (1 - held)  # more sessions than fit
    each = np.where(outside > 0, (full * chain.serving).sum(-1) / full.sum(-1), 0.0)
    mass = seen.sum(-1) + last + outside
    serving = (seen * chain.serving).sum(-1) + last * chain.serving[..., -1] + outside * each
    line = (seen * (nodes - chain.serving)).sum(-1) + outside / (1 - held)
    line = (line + last * (nodes[-1] - chain.serving[..., -1] + 1 / (1 - grows))) / mass
    late = 1 - (seen * chain.serving / np.maximum(nodes, 1)).sum(-1) / mass - seen[..., 0] / mass
    late = np.where(outside > 0, (full.sum(-1) + outside) / mass * chain.first, np.maximum(late, 0.0))
    share = seen[..., 1:] * pace.rate
    share = np.where(share.any(-1, keepdims=True), share / share.sum(-1, keepdims=True), nodes[1:] == 1)
    queued, extra, blocked = _held_up(rate, *((share * np.where(share > 0, x, 0)).sum(-1) for x in pace[6:12]))
    time = np.where(rate > 0, (serving / mass + line) / rate + queued + extra, 1 / pace.rate[..., 0])
    wait = np.where(rate > 0, line / rate, 0.0)
    stable = (rate < chain.limit) | (rate == 0)
    time, wait = (np.where(stable, x, np.inf) for x in (time, wait))
    return _State(time, serving / mass, wait, late, share, queued, extra, blocked)


def _held_up(rate, slowed, behind, first, full, work, left):
    """
    Time by which the line that a call leaves behind at its first token holds its decoding up, beyond the mean.

    The line is a first-come queue with load r, which lasts a busy period that starts with the work r T of the calls
    that came in the time T of the call ahead. If the call would decode M if always held up, it loses the share `slowed`
    of the shorter of both; both taken as exponential, with the busy period's transform to second order.
    """
    busy = np.minimum(rate * work, 1 - 1e-9)
    waited = busy * left / (1 - busy)
    slope = 1 - busy - left / full
    ends = (np.sqrt(slope**2 + 4 * left / full) - slope) / (2 * left)
    ahead = busy * (waited + first) * ends
    return np.maximum(waited - behind, 0), slowed * full * ahead / (1 + ahead), busy


def _capacity(target, box, calls, chain):
    """Highest rate of calls at which a replica keeps the mean time of a call at or below a target."""
    top = np.minimum(chain.limit, box.policy.cpu_cores / calls.cpu) + np.zeros(np.shape(target))
    rate = _root(lambda rate: 1 / _state(chain, rate).time - 1 / target, 0 * top, top)
    return np.where(np.isinf(target), top, rate)


def _parked(box, calls):
    """Bytes of contexts that wait, times how long, per call."""
    return box.server.kv_fixed_bytes * calls.waits + box.server.kv_bytes_per_token * calls.parked


def _fates(box, calls, rate):
    """What becomes of contexts at a rate of calls per replica."""
    wait, there = calls.waits / calls.returning, rate * _parked(box, calls)
    idle = dict(hold=np.inf, move=box.policy.idle_s).get(box.policy.residency, 0.0)
    out = np.where(wait > 0, np.exp(-idle / wait), 0.0)
    if box.policy.residency == "evict":  # waits taken as exponential: the last ones to leave are found
        working = rate * calls.output * box.step[1] * box.slow[..., 0] * _kv(box, calls.room / calls.output)
        out = np.maximum(1 - np.maximum(box.server.memory_bytes - working, 0) / there, 0.0)
        out = np.where(there > 0, out, 0.0)
    kept = np.nan_to_num(np.minimum(box.tier_bytes / (there * out), 1)) if box.tier_bytes else 0.0
    return _Fates(calls.returning * out * kept, out * (1 - kept))


def _settled(target, box, calls, nodes, free):
    """Highest rate at a target with waiting contexts where the policy puts them, and what becomes of them."""

    def chain(rate):
        return _chain(box, calls, _fates(box, calls, rate), nodes, box.policy.residency == "hold")

    low = np.minimum(free, _capacity(target, box, calls, chain(free)))  # the more calls, the more contexts are lost
    if not np.allclose(_fates(box, calls, low).lost, _fates(box, calls, free).lost, atol=1e-12):
        bound = -1 / np.minimum(target, _state(chain(low), low).time)

        def spare(rate):
            time = _state(chain(rate), rate).time
            return np.where(np.isfinite(time), 1 / time - 1 / target, bound)

        low = _root(spare, low, free)
    return low, _fates(box, calls, low)


def _mixes(rates):
    """Shares of workloads at which capacity is computed, and a function that brings it to the hours."""
    total = sum(rates)
    shares = [np.where(total > 0, own / total, 1 / len(rates)) for own in rates]
    if len(rates) != 2:
        return [share[..., : 1 if len(rates) == 1 else None] for share in shares], lambda value: value
    low, high = shares[0].min(-1, keepdims=True), shares[0].max(-1, keepdims=True)
    first = low + (high - low) * np.linspace(0, 1, _MIXES)
    place = (shares[0] - low) / np.maximum(high - low, 1e-300) * (_MIXES - 1)
    left = np.minimum(place.astype(int), _MIXES - 2)

    def at_hours(value):
        shape = np.broadcast_shapes(value.shape[:-1], left.shape[:-1])
        inverse, index = (np.broadcast_to(x, (*shape, x.shape[-1])) for x in (np.minimum(1 / value, 1e300), left))
        a, b = (np.take_along_axis(inverse, index + i, axis=-1) for i in (0, 1))
        mixed = a + (place - left) * (b - a)
        return np.where(mixed < 1e250, 1 / mixed, 0.0)

    return [first, 1 - first], at_hours


def _fleet(need, scaling, whole):
    """Replicas by hour."""
    hourly = need if scaling == "perfect" or not whole else np.ceil(need * (1 - 1e-12))
    return hourly.max(-1, keepdims=True) + np.zeros(hourly.shape) if scaling == "fixed" else hourly


#: A week, by hour.
_Costs = namedtuple("_Costs", "replicas idle cores tier_gb usd")


def _cost(need, cores, tier_gb, scaling, prices, n_chips, whole):
    fleet, cores = _fleet(need, scaling, whole), _fleet(cores, scaling, False)
    idle = np.nan_to_num(fleet - _fleet(need, "hourly", whole) if scaling == "fixed" else 0 * fleet)
    usd = n_chips * (fleet * _axis(prices.gpu_usd_per_hour) - idle * _axis(prices.fill_usd_per_gpu_hour))
    usd = usd + cores * _axis(prices.core_usd_per_hour) + tier_gb * _axis(prices.tier_usd_per_gb_hour)
    return _Costs(fleet, idle, cores, tier_gb, usd)


def _checked(works, latency_target, scaling):
    works = [works] if isinstance(works, Workload) else list(works)
    if scaling not in SCALINGS:
        raise ValueError(f"scaling = {scaling!r} is not allowed: one of {', '.join(SCALINGS)}")
    if len({np.shape(w.tasks_per_s)[-1] for w in works}) != 1:
        raise ValueError("workload = rows of tasks_per_s of different length, or none, are not allowed")
    return works, units.positive(latency_target, "latency_target")


def _stages(works, replica, prices, target, policy, scaling, speed, whole=True):
    """Costs with one cause after the other switched on, and what the plan needs besides."""
    box = _box(replica, policy, float(np.mean([np.mean(w.input_tokens) for w in works])), speed)
    each = [_calls(w, box) for w in works]
    asked = [_axis(w.calls_per_task) * w.tasks_per_s for w in works]
    tried = [rate * _axis(w.attempts) for rate, w in zip(asked, works, strict=True)]
    stages, least, rest = [], 0.0, (prices, replica.n_accelerators, whole)
    for rates in (asked, tried):
        total, (shares, at_hours) = sum(rates), _mixes(rates)
        cores = sum(own * _axis(w.cpu_s) for own, w in zip(rates, works, strict=True))
        if not stages or len(works) > 1:  # failed attempts change the mix of several workloads
            nodes = _nodes(box, calls := _mixed(shares, each))
            chain = _chain(box, calls, _NONE, nodes)
            caps = [_capacity(t[..., None], box, calls, chain) for t in (np.full_like(target, np.inf), target)]
            cap, fates = _settled(target[..., None], box, calls, nodes, caps[1])
            gb = fates.moved / np.maximum(calls.returning, 1e-300) * _parked(box, calls) / 1e9
        *free, need = (np.where(total > 0, total / at_hours(rate), 0.0) for rate in (*caps, cap))
        least = need = np.maximum(need, least)  # quick calls that fail lower the mean time, but release no replica
        tier_gb = total / at_hours(1 / np.maximum(gb, 1e-300))
        if not stages:
            stages.append(_cost(free[0], cores, 0.0, "perfect", *rest))
            stages += [_cost(each_hour, cores, 0.0, scaling, *rest) for each_hour in free]
        stages.append(_cost(need, cores, tier_gb, scaling, *rest))
    tasks = 3600 * sum(np.asarray(w.tasks_per_s, float) for w in works)
    return stages, tasks, box, each, tried


@_QUIET
def bars(workload, replica, *, prices, latency_target, policy, scaling="fixed", speed=1.0):
    r"""
    Dollars per finished task, by cause: the waterfall of `plan`, vectorised over draws.

    Parameters
    ----------
    workload, replica, prices, latency_target, policy, scaling, speed
        As in `plan`; numbers of workloads and prices, the target and the speed may be arrays that broadcast.

    Returns
    -------
    dict of str to numpy.ndarray
        One of `CAUSES` each. [USD/task]

    Raises
    ------
    ValueError
        As `plan`.

    Notes
    -----
    Each bar is :math:`b_k = C_k - C_{k-1}`, where :math:`C_k` is the cost of a week with the first k causes switched
    on, over the tasks finished.
    """
    works, target = _checked(workload, latency_target, scaling)
    return _bars(*_stages(works, replica, prices, target, policy, scaling, speed)[:2])


def _bars(stages, tasks):
    costs = np.stack(np.broadcast_arrays(*(stage.usd.sum(-1) / tasks.sum(-1) for stage in stages)))
    steps = np.where(np.isinf(costs[:-1]), 0.0, np.diff(costs, axis=0))
    return dict(zip(CAUSES, [costs[0], *steps], strict=True))


class Plan(NamedTuple):
    """
    What `plan` returns.

    `hours`, one row an hour: `calls_per_s`, `replicas`, `busy_share` (rate over saturation rate), `mean_time` and `p99`
    of a call [s], `in_service` and `waiting_contexts` of the fleet, `hbm_share` (of the memory for contexts),
    `link_share`, `cores`, `tier_gb`, `usd`. `totals`: see `plan`. `waterfall`: dollars per finished task by cause.
    """

    hours: pd.DataFrame
    totals: dict
    waterfall: pd.Series


@_QUIET
def plan(workload, replica, *, prices, latency_target, policy, scaling="fixed", speed=1.0):
    """
    Plan a fleet for a week: replicas by hour, latency, dollars per finished task and what causes them.

    Parameters
    ----------
    workload : Workload or sequence of Workload
        Who asks; several are served together by one fleet, call by call. Single numbers, rows of hours.
    replica : econmodel.parts.Replica
        What serves; without a layout tensor parallel.
    prices : Prices
        What it costs.
    latency_target : float
        Mean time over all calls of an hour, from request to last token, that no hour may exceed; inf for none. Where
        quick calls that fail lower the mean, they release no replica. [s]
    policy : econmodel.simulate.Policy
        How a replica schedules, and where contexts wait; `simulate.serve` takes the same one. `preempt` and
        `max_waiting` are left out; cores limit the rate of calls, their line is left out.
    scaling : str
        "fixed": the fleet of the busiest hour all week; "hourly": whole replicas each hour; "perfect": fractions.
    speed : float
        Pace of the replica over what the throughput model predicts. [1]

    Returns
    -------
    Plan
        `totals`: `gpu_hours`, `replicas_at_peak`, `usd`, `tasks`, `usd_per_task`; `usd_per_million_cached_tokens` (the
        bar of waiting contexts), `usd_per_million_input_tokens` (computed ones) and `usd_per_million_output_tokens`
        (the rest, by GPU time of prefill and of decoding); `mean_time` and `p99` over the calls of the week [s];
        `busy_share`; `idle_gpu_hours` and `fill_usd`, what they earn; `saved_usd_per_gb_hbm`, `..._per_gb_s_hbm`,
        `..._per_tflop_s`, `..._per_gb_s_link`, `..._per_core`: dollars of a week that one more of it in every
        accelerator (link and cores: in every replica) saves, replicas taken as fractions.

    Raises
    ------
    ValueError
        A number out of range, an array where a single number is needed, an unknown scaling.

    Notes
    -----
    A call waits for a place, loads its context if that was moved out, waits in line for prefill, and decodes beside the
    others. With n in service these stations form a closed network; its throughput, by approximate mean-value analysis,
    is the completion rate of a birth-death chain in n. Tool waits are a delay station: calls arrive as if at random,
    and sessions that hold their room are counted with a truncated product form. Beyond the chain, calls that come while
    a prompt is processed wait in line as in a first-come queue, and the line that a call leaves behind at its first
    token holds its decoding up. Weeks of chats and agents, served event by event: mean time within 2 %, 99th percentile
    up to 15 % too low, fleet within one replica, as long as prompts take less than 0.7 of the time of a replica; above,
    up to 8 % too slow. Where sessions hold their room and fill nine tenths of it, or where rare prompts block a replica
    for minutes, the wait for room is longer than planned; plan for less.
    Within an hour calls come as if at random: bursts like those of a chat log change little, those of a log of code
    completions make calls wait several times as long as planned.

    References
    ----------
    F. P. Kelly, "Reversibility and Stochastic Networks", Wiley 1979, chapter 3. ``kelly1979``
    M. Reiser and S. Lavenberg, "Mean-value analysis of closed multichain queuing networks", 1980. ``reiser1980mva``

    Examples
    --------
    >>> from econmodel.parts import Accelerator, Attention, Llm, Replica
    >>> layers = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
    >>> llama = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(layers,))
    >>> chip = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12, bf16_flop_per_s=1e15)
    >>> group = Replica(llm=llama, accelerator=chip, n_accelerators=4, weight_bits=16, kv_bits=16)
    >>> agents = Workload(name="agents", tasks_per_s=[0.1, 0.2], calls_per_task=20, input_tokens=20_000,
    ...                   cached_tokens=18_000, output_tokens=300, wait_s=10, attempts=1.5)
    >>> keep = simulate.Policy(residency="hold", max_batch=64, chunk_tokens=2048)
    >>> planned = plan(agents, group, prices=Prices(gpu_usd_per_hour=2.0), latency_target=20.0, policy=keep)
    >>> bool(abs(planned.waterfall.sum() / planned.totals["usd_per_task"] - 1) < 1e-9)
    True
    """
    works, target = _checked(workload, latency_target, scaling)
    own = (works, replica, prices, target, policy, scaling, speed)
    stages, tasks, box, each, tried = _stages(*own)
    last = stages[-1]
    if last.usd.ndim > 1:
        raise ValueError(f"workload = arrays of shape {last.usd.shape[:-1]} are not allowed: bars takes draws")
    hours, (prefill, decode) = _hours(last, box, works, each, tried)
    waterfall = pd.Series(_bars(stages, tasks), name="usd_per_task").astype(float)
    calls, usd, chips, replicas = hours["calls_per_s"], last.usd.sum(), replica.n_accelerators, last.replicas
    names = ("input_tokens", "cached_tokens", "output_tokens")
    sent, cached, output = (
        3600 * sum((x * getattr(w, name)).sum() for x, w in zip(tried, works, strict=True)) for name in names
    )
    memory = usd * waterfall.iloc[3] / waterfall.iloc[:4].sum()
    compute = (usd - memory) / (prefill + decode)
    totals = dict(
        gpu_hours=chips * replicas.sum(), replicas_at_peak=replicas.max(), usd=usd, tasks=tasks.sum(),
        calls=3600 * calls.sum(), usd_per_task=usd / tasks.sum(),
        usd_per_million_input_tokens=1e6 * compute * prefill / (sent - cached),
        usd_per_million_cached_tokens=1e6 * memory / cached,
        usd_per_million_output_tokens=1e6 * compute * decode / output,
        **{name: (hours[name] * calls).sum() / calls.sum() for name in ("mean_time", "p99")},
        busy_share=(hours["busy_share"] * replicas).sum() / replicas.sum(), idle_gpu_hours=chips * last.idle.sum(),
        fill_usd=chips * (last.idle * prices.fill_usd_per_gpu_hour).sum(),
    )  # fmt: skip
    return Plan(hours, {name: float(x) for name, x in (totals | _marginal(*own)).items()}, waterfall)


#: Points spread evenly in the unit cube of eight dimensions.
_POINTS = (np.arange(1, 4097) / 1.0850702245491451 ** np.arange(1, 9)[:, None] + 0.5) % 1


def _slowest(probability, works, shares, calls, box, fates, chain, state):
    """Time that a share of calls do not exceed: waits, prefill, load and answer drawn independently of each other."""
    answer, prompt, place, line, fate, crowd, blocked, kind = _POINTS
    number = (np.cumsum(state.share, axis=-1)[:, None, :-1] < crowd[:, None]).sum(-1)
    pace = _Pace(*(np.take_along_axis(x + 0 * state.share, number, axis=1) for x in chain.pace))

    def late(mean, share, u):
        share = np.clip(share, 1e-12, 1)
        return np.where(u < share, -mean / share * np.log(np.maximum(u / share, 1e-12)), 0.0)

    which = (np.cumsum(shares, axis=0)[:-1, :, None] <= kind).sum(axis=0)

    def drawn(law, u, mean):
        return np.choose(which, [np.quantile(_law(getattr(w, law)), u) * mean(w) for w in works])

    new = drawn("new_quantiles", prompt, lambda w: w.input_tokens - w.cached_tokens)
    made = np.maximum(drawn("output_quantiles", answer, lambda w: w.output_tokens) - 1, 0)
    moved, lost, busy = fates.moved[:, None], fates.lost[:, None], state.blocked[:, None]
    own = np.where(fate < lost, drawn("input_quantiles", prompt, lambda w: w.input_tokens), new)
    computed = (calls.new.tokens + fates.lost * (calls.whole.tokens - calls.new.tokens))[:, None]
    times = (
        late(state.wait[:, None], state.late[:, None], place), late(pace.wait, pace.line, line),
        late(state.extra[:, None], busy, blocked), late(state.queued[:, None], busy, line),
        np.where((fate >= lost) & (fate < lost + moved), _transfer(box, calls)[:, None], 0.0),
        np.ceil(np.maximum(own, 1) / box.policy.chunk_tokens) * pace.step, own / computed * pace.prefill_s,
        pace.decoding / np.maximum(calls.output - 1, 1)[:, None] * made,
    )  # fmt: skip
    return np.quantile(sum(times), probability, axis=1)


def _hours(costs, box, works, each, tried):
    """State of the fleet in every hour, and GPU time of prefill and of decoding."""
    total = sum(tried)
    shares = [np.where(total > 0, own / np.where(total > 0, total, 1.0), 1 / len(tried)) for own in tried]
    calls, hold = _mixed(shares, each), box.policy.residency == "hold"
    rate = total / np.maximum(costs.replicas, 1e-300)
    fates, nodes = _fates(box, calls, rate), _nodes(box, calls)
    state = _state(chain := _chain(box, calls, fates, nodes, hold), rate)
    in_hbm = state.in_service * _kv(box, calls.peak / calls.stay if hold else calls.room / calls.output)
    in_hbm = in_hbm + hold * rate * calls.waits * _kv(box, calls.peak / calls.stay)
    table = pd.DataFrame(dict(
        hour=np.arange(len(total)), calls_per_s=total, replicas=costs.replicas, busy_share=rate / chain.limit,
        mean_time=state.time, p99=_slowest(0.99, works, shares, calls, box, fates, chain, state),
        in_service=state.in_service * costs.replicas, waiting_contexts=total * calls.waits,
        hbm_share=in_hbm / box.server.memory_bytes, cores=costs.cores, tier_gb=costs.tier_gb, usd=costs.usd,
        link_share=2 * rate * fates.moved * _transfer(box, calls),
    ))  # fmt: skip
    return table, [((state.share * x).sum(-1) * total).sum() for x in (chain.pace.prefill_s, chain.pace.decode_s)]


def _marginal(works, replica, prices, target, policy, scaling, speed):
    """Dollars of a week that one more of a part saves, by planning again with a hundredth more of it."""
    chip = replica.accelerator

    def usd(rules=policy, **parts):
        better = replace(replica, accelerator=replace(chip, **parts))
        return _stages(works, better, prices, target, rules, scaling, speed, whole=False)[0][-1].usd.sum()

    def more(part, *names):
        return {name: 1.01 * getattr(part, name) for name in names if getattr(part, name) is not None}

    rates = [f"{kind}_flop_per_s" for kind in ("bf16", "fp8", "fp4", "bf16_measured", "fp8_measured")]
    peak = (chip.fp8_flop_per_s if replica.weight_bits <= 8 else None) or chip.bf16_flop_per_s or np.inf
    tiers = [replace(tier, **more(tier, "bandwidth_bytes_per_s")) for tier in policy.tiers]
    link = min([policy.link_bytes_per_s, *(tier.bandwidth_bytes_per_s for tier in policy.tiers)])
    planned = dict(
        gb_hbm=(usd(**more(chip, "memory_bytes")), chip.memory_bytes / 1e11),
        tflop_s=(usd(**more(chip, *rates)), peak / 1e14),
        gb_s_hbm=(usd(**more(chip, "bandwidth_bytes_per_s")), chip.bandwidth_bytes_per_s / 1e11),
        gb_s_link=(usd(replace(policy, tiers=tiers, **more(policy, "link_bytes_per_s"))), link / 1e11),
        core=(usd(replace(policy, cpu_cores=policy.cpu_cores + 1)), 1.0),
    )  # fmt: skip
    base = usd()
    return {f"saved_usd_per_{name}": (base - cost) / amount for name, (cost, amount) in planned.items()}


def from_log(calls, *, name="log", attempts=1.0, share=1.0):
    """
    Describe a request log as a workload.

    Parameters
    ----------
    calls : pandas.DataFrame
        Rows of `traces.read_log`, in order of time. Without `session` every call is a task of its own; without
        `cached_tokens` and `wait_s` nothing was seen before and nothing waits.
    name, attempts
        As in `Workload`.
    share : float
        Share of the fleet's calls that the log holds. [1]

    Returns
    -------
    Workload
        Its hours begin with the first call; the last one is left out if it is cut. A task is spread over the hours as
        calls are.

    Raises
    ------
    ValueError
        As `Workload`; a share that is not above 0.

    Examples
    --------
    >>> calls = dict(time_s=[0.0, 10.0, 3700.0], input_tokens=[100, 200, 50], output_tokens=[5, 5, 5])
    >>> from_log(pd.DataFrame(calls)).tasks_per_s * 3600
    array([2.])
    """
    table = calls.reset_index(drop=True)
    given = {column: table.get(column, 0.0) for column in ("cached_tokens", "wait_s")}
    table = table.assign(session=table.get("session", table.index.to_series()), **given)
    described = workload(table, name=name, tasks_per_s=[0.0], attempts=attempts)
    whole = traces.log_profile([table])["requests"].to_numpy()
    whole = whole[:-1] if len(whole) > 1 else whole
    whole = whole / units.positive(share, "share")
    return replace(described, tasks_per_s=whole / 3600 / described.calls_per_task)
