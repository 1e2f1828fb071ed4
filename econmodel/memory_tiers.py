"""Where should a waiting KV cache live: hold it, move it out and back, or recompute it?"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from econmodel.units import count, non_negative, positive, probability

#: What can be done with the context of a session that waits.
PLACES = ("hold", "move", "recompute")


def _product(*factors):
    """Product in which nothing, held for ever, costs nothing."""
    with np.errstate(invalid="ignore"):
        product = np.prod(np.broadcast_arrays(*factors), axis=0)
    return np.where(np.isnan(product), 0.0, product)[()]


def memory_rent(memory_bytes, *, gpu_usd_per_s, elasticity=1.0):
    r"""
    Rent of memory whose only use is to let a GPU do more: the shadow price of capacity.

    Parameters
    ----------
    memory_bytes : array_like
        Memory that contexts compete for: HBM left after weights, of all chips that `gpu_usd_per_s` pays for. [B]
    gpu_usd_per_s : array_like
        Price of the replica. [USD/s]
    elasticity : array_like
        :math:`\varepsilon = d \ln X / d \ln M`, by how much throughput rises with memory: 0 while capacity is slack, 1
        where throughput is proportional to it, more where a cache falls off its cliff. [1]

    Returns
    -------
    numpy.ndarray or float
        :math:`r = \varepsilon g / M`. [USD/B/s]

    Raises
    ------
    ValueError
        Memory not above 0, a negative price or elasticity.

    Notes
    -----
    A byte more raises throughput :math:`X` by :math:`dX / dM`, which saves :math:`(g / X)\, dX / dM` of GPU time.

    Examples
    --------
    >>> float(memory_rent(80e9, gpu_usd_per_s=2.5 / 3600)) * 1e9 * 3600
    0.03125
    """
    memory = positive(memory_bytes, "memory_bytes")
    return (non_negative(gpu_usd_per_s, "gpu_usd_per_s") * non_negative(elasticity, "elasticity") / memory)[()]


def hold_cost(idle_time, *, kv_bytes, rent_usd_per_byte_s):
    """
    Cost of leaving a context where it is while its session waits.

    Parameters
    ----------
    idle_time : array_like
        How long. [s]
    kv_bytes : array_like
        Size of the context. [B]
    rent_usd_per_byte_s : array_like
        Of the memory it lies in: 0 while that is slack, see `memory_rent`. [USD/B/s]

    Returns
    -------
    numpy.ndarray or float
        size x time x rent. [USD]

    Raises
    ------
    ValueError
        A negative or nan argument.

    Examples
    --------
    >>> hold_cost(60, kv_bytes=10e9, rent_usd_per_byte_s=[0, 1e-14]).tolist()
    [0.0, 0.006]
    """
    return _product(
        non_negative(idle_time, "idle_time"),
        non_negative(kv_bytes, "kv_bytes"),
        non_negative(rent_usd_per_byte_s, "rent_usd_per_byte_s"),
    )


def move_cost(idle_time, *, kv_bytes, link_bytes_per_s, gpu_usd_per_s, rent_usd_per_byte_s, stall_fraction=1.0):
    """
    Cost of moving a context out to another memory and back.

    Parameters
    ----------
    idle_time : array_like
        How long it lies there. [s]
    kv_bytes : array_like
        Size of the context. [B]
    link_bytes_per_s : array_like
        Rate of the link, one direction. [B/s]
    gpu_usd_per_s : array_like
        Price of the GPUs that wait for the transfer. [USD/s]
    rent_usd_per_byte_s : array_like
        Of the memory it moves to. [USD/B/s]
    stall_fraction : array_like
        Share of the transfer during which the GPUs stand still: 1 stalled, 0 hidden behind other work. [1]

    Returns
    -------
    numpy.ndarray or float
        2 x size / link x stall x price + size x time x rent. [USD]

    Raises
    ------
    ValueError
        A negative or nan argument, a link without bandwidth, a share outside [0, 1].

    Examples
    --------
    >>> transfer = dict(link_bytes_per_s=50e9, gpu_usd_per_s=0.001, rent_usd_per_byte_s=1e-17)
    >>> move_cost([0, 100], kv_bytes=10e9, **transfer).round(6).tolist()
    [0.0004, 0.00041]
    """
    kv_bytes = non_negative(kv_bytes, "kv_bytes")
    stalled = 2 * kv_bytes / positive(link_bytes_per_s, "link_bytes_per_s")
    stalled = stalled * probability(stall_fraction, "stall_fraction") * non_negative(gpu_usd_per_s, "gpu_usd_per_s")
    return (stalled + hold_cost(idle_time, kv_bytes=kv_bytes, rent_usd_per_byte_s=rent_usd_per_byte_s))[()]


def recompute_cost(*, prefill_time, gpu_usd_per_s):
    """
    Cost of dropping a context and computing it again.

    Parameters
    ----------
    prefill_time : array_like
        To process its tokens once more. [s]
    gpu_usd_per_s : array_like
        Price of the GPUs that do it. [USD/s]

    Returns
    -------
    numpy.ndarray or float
        time x price, whatever the wait. [USD]

    Raises
    ------
    ValueError
        A negative or nan argument.

    Examples
    --------
    >>> recompute_cost(prefill_time=[0.5, 3], gpu_usd_per_s=0.001).tolist()
    [0.0005, 0.003]
    """
    return _product(non_negative(prefill_time, "prefill_time"), non_negative(gpu_usd_per_s, "gpu_usd_per_s"))


def break_even_idle_time(
    *, link_bytes_per_s, gpu_usd_per_s, hbm_rent_usd_per_byte_s, tier_rent_usd_per_byte_s=0.0, stall_fraction=1.0
):
    r"""
    Wait above which moving a context out and back is cheaper than holding it: the five-minute rule of a KV cache.

    Parameters
    ----------
    link_bytes_per_s, gpu_usd_per_s, stall_fraction : array_like
        As for `move_cost`.
    hbm_rent_usd_per_byte_s, tier_rent_usd_per_byte_s : array_like
        Rent of the memory it leaves and of the one it goes to. [USD/B/s]

    Returns
    -------
    numpy.ndarray or float
        The context's size cancels. `inf` where the memory it leaves is no dearer. [s]

    Raises
    ------
    ValueError
        A negative or nan argument, a link without bandwidth, a share outside [0, 1].

    Notes
    -----
    .. math:: T^* = \frac{2 \sigma g}{B\,(r_\text{HBM} - r_\text{tier})}

    with stall :math:`\sigma`, GPU price :math:`g` and link :math:`B`. With the price spread over all HBM, :math:`r =
    g / M`, it is the time to swap the whole memory, :math:`2 M / B`; with the rent of the throughput model
    (`memory_rent`) :math:`2 M / (\varepsilon B)`, and never where capacity is slack. Where a copy of all but the last
    tokens stays in the tier, only the way back counts: half.

    References
    ----------
    J. Gray and F. Putzolu, "The 5 minute rule for trading memory for disc accesses", 1987. ``gray1987fiveminute``

    Examples
    --------
    >>> price = 2.5 / 3600
    >>> spread = memory_rent([80e9, 141e9, 143_771 * 2**20], gpu_usd_per_s=price)  # H100; H200 by label, as seen
    >>> break_even_idle_time(link_bytes_per_s=55.4e9, gpu_usd_per_s=price, hbm_rent_usd_per_byte_s=spread).round(1)
    array([2.9, 5.1, 5.4])
    """
    hbm = non_negative(hbm_rent_usd_per_byte_s, "hbm_rent_usd_per_byte_s")
    saved = hbm - non_negative(tier_rent_usd_per_byte_s, "tier_rent_usd_per_byte_s")
    stalled = 2 * probability(stall_fraction, "stall_fraction") * non_negative(gpu_usd_per_s, "gpu_usd_per_s")
    stalled = stalled / positive(link_bytes_per_s, "link_bytes_per_s")
    stalled, saved = np.broadcast_arrays(stalled, saved)
    return np.divide(stalled, saved, out=np.full(saved.shape, np.inf), where=saved > 0)[()]


class Placement(NamedTuple):
    """Cheapest of `PLACES` for a waiting context, what it costs, and what each of them would cost."""

    place: str
    cost: float
    hold: float
    move: float
    recompute: float


def cheapest_place(
    idle_time,
    *,
    kv_bytes,
    prefill_time,
    link_bytes_per_s,
    gpu_usd_per_s,
    hbm_rent_usd_per_byte_s,
    tier_rent_usd_per_byte_s=0.0,
    stall_fraction=1.0,
):
    """
    Cheapest place for a context whose session waits a known time.

    Parameters
    ----------
    idle_time, kv_bytes, link_bytes_per_s, gpu_usd_per_s, tier_rent_usd_per_byte_s, stall_fraction : array_like
        As for `move_cost`; the link is the one to the tier that it would move to.
    prefill_time : array_like
        As for `recompute_cost`. [s]
    hbm_rent_usd_per_byte_s : array_like
        Rent of the memory it lies in. [USD/B/s]

    Returns
    -------
    Placement
        `place`, the earliest of `PLACES` where several cost the same; the four costs. [USD]

    Raises
    ------
    ValueError
        As its parts.

    Examples
    --------
    >>> rent = memory_rent(40e9, gpu_usd_per_s=0.001)
    >>> context = dict(kv_bytes=10e9, prefill_time=3.0, link_bytes_per_s=50e9, gpu_usd_per_s=0.001)
    >>> cheapest_place([1, 5, 1e6], **context, hbm_rent_usd_per_byte_s=rent, tier_rent_usd_per_byte_s=1e-17).place
    array(['hold', 'move', 'recompute'], dtype='<U9')
    """
    costs = np.broadcast_arrays(
        hold_cost(idle_time, kv_bytes=kv_bytes, rent_usd_per_byte_s=hbm_rent_usd_per_byte_s),
        move_cost(
            idle_time,
            kv_bytes=kv_bytes,
            link_bytes_per_s=link_bytes_per_s,
            gpu_usd_per_s=gpu_usd_per_s,
            rent_usd_per_byte_s=tier_rent_usd_per_byte_s,
            stall_fraction=stall_fraction,
        ),
        recompute_cost(prefill_time=prefill_time, gpu_usd_per_s=gpu_usd_per_s),
    )
    best = np.argmin(costs, axis=0)
    place = np.asarray(PLACES)[best]
    if not place.ndim:
        return Placement(str(place), *(float(cost) for cost in (np.min(costs), *costs)))
    return Placement(place, np.min(costs, axis=0), *costs)


class SessionLoad(NamedTuple):
    """Calls per second of all sessions, sessions that decode at a time, and the time that a call takes."""

    rate: float
    decoding: float
    call_time: float


def session_throughput(
    n_sessions,
    *,
    wait_time,
    exclusive_time,
    output_tokens,
    step_time,
    step_time_per_context,
    link_time=0.0,
    max_batch=np.inf,
):
    r"""
    Calls per second of a replica that serves sessions with waits between their calls.

    Parameters
    ----------
    n_sessions : array_like
        Open sessions :math:`N`. [session]
    wait_time : array_like
        Mean time :math:`Z` from an answer to the next call: tool or person. [s]
    exclusive_time : array_like
        GPU time :math:`P` that a call takes from all others: prefill of what no cache had, stalled transfers. [s]
    output_tokens : array_like
        Generated per call, :math:`o`. [token]
    step_time, step_time_per_context : array_like
        A decoding step with :math:`a` sessions lasts :math:`t_0 + a t_1`. [s]
    link_time : array_like
        Time :math:`D` that a call occupies a link while the GPU does other work. [s]
    max_batch : array_like
        Contexts that memory holds at a time; 0 if none fits. [session]

    Returns
    -------
    SessionLoad
        `rate` :math:`X`; `decoding` :math:`a`; `call_time`, from a call to its answer, with the queue before it.

    Raises
    ------
    ValueError
        A negative or nan argument, no output token, no time at all.

    Notes
    -----
    A call meets the queues that the other :math:`N - 1` sessions make, :math:`X' = X (N - 1) / N` (as in approximate
    mean-value analysis); decoding gets what prefill leaves. Little's law closes the circle:

    .. math:: N = X \left( Z + \frac{P}{1 - X' P} + \frac{D}{1 - X' D}
       + \frac{o (t_0 + t_1)}{1 - X' (P + o t_1)} \right),

    solved for :math:`X` by bisection, below the limit that :math:`a \le` `max_batch` sets. Tests hold it against a
    simulation.

    References
    ----------
    M. Reiser and S. Lavenberg, "Mean-value analysis of closed multichain queuing networks", 1980. ``reiser1980mva``

    Examples
    --------
    >>> calls = dict(wait_time=20, exclusive_time=0.5, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    >>> session_throughput([1, 32, 1e6], **calls).rate.round(3)
    array([0.035, 0.73 , 1.111])
    """
    sessions, wait = non_negative(n_sessions, "n_sessions"), non_negative(wait_time, "wait_time")
    own, link = non_negative(exclusive_time, "exclusive_time"), non_negative(link_time, "link_time")
    output = positive(output_tokens, "output_tokens")
    bare = output * positive(step_time, "step_time")
    more = output * non_negative(step_time_per_context, "step_time_per_context")
    room = non_negative(max_batch, "max_batch")
    shape = np.broadcast_shapes(*(np.shape(x) for x in (sessions, wait, own, link, bare, more, room)))
    with np.errstate(divide="ignore", invalid="ignore"):
        others = np.where(sessions > 1, 1 - 1 / sessions, 0.0)
        full = np.where(room == 0, 0.0, 1 / (bare / room + own + more))
        top = np.minimum(np.minimum(full, 1 / link), sessions / (wait + own + link + bare + more)) + np.zeros(shape)
        low, high = np.zeros(shape), top
        for _ in range(40):
            rate = (low + high) / 2
            met = rate * others
            decode = (bare + more) / (1 - met * (own + more))
            needed = rate * (wait + own / (1 - met * own) + link / (1 - met * link) + decode)
            low, high = np.where(needed <= sessions, rate, low), np.where(needed <= sessions, high, rate)
        rate = high
        decoding = np.minimum(rate * (bare + more) / np.maximum(1 - rate * others * (own + more), 0), room)
        call_time = np.where(rate > 0, sessions / rate - wait, np.inf)
    return SessionLoad(rate[()], decoding[()], call_time[()])


def tiered_throughput(
    n_sessions,
    *,
    hit_hbm,
    hit_tiers,
    reusable,
    prefill_time,
    prefill_new_time,
    transfer_time=0.0,
    stall_fraction=1.0,
    **decode,
):
    r"""
    Calls per second of a replica whose waiting contexts lie in HBM, in a tier behind a link, or nowhere.

    Parameters
    ----------
    n_sessions : array_like
        Open sessions. [session]
    hit_hbm, hit_tiers : array_like
        Share of input tokens that HBM provides, and HBM and tier together, see `lru_hit_share`. [1]
    reusable : array_like
        Share that a cache without limit would provide. [1]
    prefill_time, prefill_new_time : array_like
        To compute a whole context, and only what is new in a call. [s]
    transfer_time : array_like
        To bring a context back; copies are written through as tokens come, beside other work. [s]
    stall_fraction : array_like
        Share of the transfer during which the GPUs stand still. [1]
    **decode
        `wait_time`, `output_tokens`, `step_time`, `step_time_per_context`, `max_batch` of `session_throughput`.

    Returns
    -------
    SessionLoad
        As from `session_throughput`.

    Raises
    ------
    ValueError
        As `session_throughput`; shares that do not rise from `hit_hbm` to `reusable`.

    Notes
    -----
    A cache keeps or loses whole contexts. Of the calls, :math:`h_\text{HBM} / h_\infty` find theirs in HBM, further
    :math:`(h_\text{tiers} - h_\text{HBM}) / h_\infty` load it, the rest compute it.

    Examples
    --------
    >>> decode = dict(wait_time=60, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    >>> context = dict(reusable=0.96, prefill_time=8, prefill_new_time=0.4, transfer_time=0.1)
    >>> tiered_throughput(64, hit_hbm=0.3, hit_tiers=[0.3, 0.9], **context, **decode).rate.round(2)
    array([0.16, 0.61])
    """
    hbm, tiers = probability(hit_hbm, "hit_hbm"), probability(hit_tiers, "hit_tiers")
    every = positive(probability(reusable, "reusable"), "reusable")
    if np.any(hbm > tiers + 1e-9) or np.any(tiers > every + 1e-9):
        raise ValueError(f"hit_tiers = {tiers} is not allowed: between hit_hbm and reusable")
    lost, loads = np.maximum(1 - tiers / every, 0), np.maximum(tiers - hbm, 0) / every
    computed = lost * non_negative(prefill_time, "prefill_time")
    computed = computed + (1 - lost) * non_negative(prefill_new_time, "prefill_new_time")
    loaded = loads * non_negative(transfer_time, "transfer_time")
    stalled = loaded * probability(stall_fraction, "stall_fraction")
    return session_throughput(n_sessions, exclusive_time=computed + stalled, link_time=loaded - stalled, **decode)


def queued_throughput(n_sessions, hits, *, start=0.0, **replica):
    r"""
    Calls per second of a replica whose line crowds the contexts of others out of its cache.

    Parameters
    ----------
    n_sessions : array_like
        Open sessions. [session]
    hits : callable
        From the share of the sessions that stand in line, between 0 and 1, to `hit_hbm`, `hit_tiers` and `reusable`,
        such as `catalog.reuse_by_tier` with its `in_line`.
    start : array_like
        Share in line at first: 0 for a replica that was idle, 1 after a burst. [1]
    **replica
        The other arguments of `tiered_throughput`.

    Returns
    -------
    SessionLoad
        As from `tiered_throughput`.

    Raises
    ------
    ValueError
        As `tiered_throughput`; a start outside [0, 1].

    Notes
    -----
    A session that joins a line finds its context only if those of all ahead of it fit beside it. The share in line is

    .. math:: u = 1 - \frac{Z + R_0}{Z + R},

    with wait :math:`Z`, time of a call :math:`R`, and :math:`R_0` if nobody else were there and its context were at
    hand. Misses lengthen the line, which makes misses. Near the edge two states keep themselves up, one with a short
    line and one that thrashes: the answer is the one reached from `start`. Where both exist chance moves a real replica
    from one to the other, and its mean lies between them.

    Examples
    --------
    >>> replica = dict(wait_time=60, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    >>> replica |= dict(prefill_time=8, prefill_new_time=0.4)
    >>> def hits(in_line):  # with more than a third in line nobody's context lasts until it is asked for
    ...     share = np.where(in_line > 1 / 3, 0.0, 0.9)
    ...     return share, share, 1.0
    >>> queued_throughput(16, hits, start=[0, 1], **replica).rate.round(2)
    array([0.22, 0.11])
    """
    alone = tiered_throughput(1, hit_hbm=1.0, hit_tiers=1.0, reusable=1.0, **replica).call_time
    wait, in_line = replica["wait_time"], probability(start, "start")
    for _ in range(30):
        hit_hbm, hit_tiers, reusable = hits(in_line)
        load = tiered_throughput(n_sessions, hit_hbm=hit_hbm, hit_tiers=hit_tiers, reusable=reusable, **replica)
        in_line = np.clip(1 - (wait + alone) / (wait + load.call_time), 0, 1)
    return load


class MostCalls(NamedTuple):
    """Highest rate of calls per second within a limit of time, and the open sessions that bring it."""

    rate: float
    sessions: float


def most_calls(n_sessions, load, *, wait_time, max_time):
    r"""
    Highest rate of calls of a replica that lets in as many sessions as an answer within a limit allows.

    Parameters
    ----------
    n_sessions : array_like, shape (sessions,)
        Open sessions that were tried, rising. [session]
    load : SessionLoad, shape (..., sessions)
        What they bring, as from `tiered_throughput`.
    wait_time : float
        Mean time from an answer to the next call. [s]
    max_time : float
        Limit of the mean time of a call; inf for none. [s]

    Returns
    -------
    MostCalls
        Either at the most sessions that keep the limit, between those tried by linear interpolation, or at fewer
        where more would thrash the caches; 0 where not even the fewest keep it.

    Raises
    ------
    ValueError
        Sessions that do not rise, a negative wait, a limit not above 0.

    Examples
    --------
    >>> load = SessionLoad(np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([1.0, 3.0, 9.0]))
    >>> [float(x) for x in most_calls([10, 25, 60], load, wait_time=10.0, max_time=6.0)]
    [2.5, 40.0]
    """
    sessions, wait = positive(n_sessions, "n_sessions"), non_negative(wait_time, "wait_time")
    if sessions.ndim != 1 or np.any(np.diff(sessions) <= 0):
        raise ValueError(f"n_sessions = {n_sessions} is not allowed: one row of rising numbers")
    limit, keeps = positive(max_time, "max_time"), load.call_time <= max_time
    last = np.cumprod(keeps, axis=-1).sum(axis=-1, keepdims=True) - 1
    ends = np.clip(np.concatenate([last, last + 1], axis=-1), 0, len(sessions) - 1)
    (before, after), (early, late) = (
        np.moveaxis(np.take_along_axis(x, ends, axis=-1), -1, 0) for x in (load.rate, load.call_time)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(late > early, (limit - early) / (late - early), 0.0)
        edge = np.where(last[..., 0] >= 0, before + np.clip(part, 0, 1) * (after - before), 0.0)
    inside = np.where(keeps, load.rate, 0.0)
    top, where = inside.max(axis=-1), sessions[inside.argmax(axis=-1)]
    at_edge = (edge > top) & np.isfinite(limit)
    return MostCalls(np.maximum(edge, top)[()], np.where(at_edge, edge * (wait + limit), where)[()])


def _distances(items, sizes, last, tree, out):
    n, total = items.size, tree[0]
    for now in range(n):
        before = last[items[now]]
        if before >= 0:
            older, i = tree[0], before
            while i > 0:
                older += tree[i]
                i -= i & -i
            out[now] = total - older
            total -= sizes[before]
            i = before + 1
            while i <= n:
                tree[i] -= sizes[before]
                i += i & -i
        total += sizes[now]
        i = now + 1
        while i <= n:
            tree[i] += sizes[now]
            i += i & -i
        last[items[now]] = now


@cache
def _compiled():
    from numba import njit

    return njit(cache=True)(_distances)


def stack_distances(items, *, sizes=None):
    r"""
    Memory that a least-recently-used cache needs for each reference to be a hit, in one pass.

    Parameters
    ----------
    items : array_like, shape (references,)
        What is used, in order: blocks, or whole contexts; numbers or names.
    sizes : array_like, shape (references,), optional
        Size of the item from this use on, until its next one; 1 by default.

    Returns
    -------
    numpy.ndarray, shape (references,)
        Sizes of all different items used since the last use of this one, its own included; `inf` at the first use.

    Raises
    ------
    ValueError
        Not one-dimensional, nothing, nan; sizes of another shape or below 0.

    Notes
    -----
    A cache of capacity :math:`c` hits where the distance is at most :math:`c`, so one pass gives the curve over all
    capacities. A Fenwick tree over positions sums the sizes that follow the last use: :math:`n \log n`. Blocks of
    a prefix that are used in order need no rule of their own: a block is never nearer than the ones before it.

    References
    ----------
    R. Mattson et al., "Evaluation techniques for storage hierarchies", 1970. ``mattson1970stack``

    Examples
    --------
    >>> stack_distances(["a", "b", "a", "a"]).tolist()
    [inf, inf, 2.0, 1.0]
    >>> stack_distances(["a", "b", "a"], sizes=[10, 5, 12]).tolist()
    [inf, inf, 15.0]
    """
    items = np.asarray(items)
    if items.ndim != 1 or not items.size or pd.isna(items).any():
        raise ValueError(f"items = shape {items.shape} is not allowed: one dimension, not empty, no nan")
    codes, names = pd.factorize(items)
    weights = np.ones(codes.size, np.int64) if sizes is None else non_negative(sizes, "sizes")
    if weights.shape != codes.shape:
        raise ValueError(f"sizes = shape {weights.shape} is not allowed: one for each of {codes.size} items")
    out = np.full(codes.size, np.inf)
    _compiled()(codes, weights, np.full(len(names), -1), np.zeros(codes.size + 1, weights.dtype), out)
    return out


def lru_hit_curve(blocks):
    """
    Hit share of a least-recently-used cache at every capacity, exact, in one pass.

    Parameters
    ----------
    blocks : array_like, shape (references,)
        Blocks in the order in which they are used; numbers or names.

    Returns
    -------
    numpy.ndarray, shape (different blocks + 1,)
        `h[c]`: share of the references that hit with room for `c` blocks. [1]

    Raises
    ------
    ValueError
        As `stack_distances`.

    Examples
    --------
    >>> lru_hit_curve([1, 2, 1, 3, 2]).tolist()
    [0.0, 0.0, 0.2, 0.4]
    """
    distances = stack_distances(blocks)
    seen = np.isfinite(distances)
    different = distances.size - np.count_nonzero(seen)
    hits = np.bincount(distances[seen].astype(np.int64), minlength=different + 1)
    return np.cumsum(hits) / distances.size


def lru_hit_share(capacity, *, contexts, sizes, reusable):
    """
    Share of input tokens that a least-recently-used cache of whole contexts provides.

    Parameters
    ----------
    capacity : array_like
        Room of the cache. [token]
    contexts : array_like, shape (calls,)
        Whose call it is, in the order of time.
    sizes : array_like, shape (calls,)
        Input of the call, which is what its context holds from then on. [token]
    reusable : array_like, shape (calls,)
        Prefix of the input that the context's earlier calls have left in the cache, if it is still there. [token]

    Returns
    -------
    numpy.ndarray or float
        Provided tokens over input tokens. [1]

    Raises
    ------
    ValueError
        As `stack_distances`; negative tokens, more of them reusable than in the input.

    Examples
    --------
    >>> calls = dict(contexts=[1, 2, 1, 2], sizes=[10, 10, 20, 20], reusable=[0, 0, 10, 10])
    >>> lru_hit_share([10, 20, 30], **calls).round(2)
    array([0.  , 0.17, 0.33])
    """
    capacity, reusable = non_negative(capacity, "capacity"), non_negative(reusable, "reusable")
    distances = stack_distances(contexts, sizes=sizes)
    if reusable.shape != distances.shape or (reusable > sizes).any():
        raise ValueError(f"reusable = shape {reusable.shape} is not allowed: one per call, at most its size")
    order = np.argsort(distances, kind="stable")
    provided = np.concatenate([[0.0], np.cumsum(reusable[order])]) / np.sum(sizes)
    return provided[np.searchsorted(distances[order], np.minimum(capacity, np.finfo(float).max), side="right")]


def replay(sessions, times, *, n_open, horizon_s, stagger_s, pause_s, rng):
    """
    Play recorded sessions side by side: each slot one after the other, in an order of its own.

    Parameters
    ----------
    sessions : array_like, shape (calls,)
        Session of each call; calls of one session stand together, in the order of time.
    times : array_like, shape (calls,)
        Time of the call since its session began. [s]
    n_open : int
        Slots, each with one session open at a time.
    horizon_s, stagger_s, pause_s : float
        When all stop; latest start of a slot, drawn evenly; time between two sessions of a slot. [s]
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    call : numpy.ndarray of int
        Calls in the order in which they come, as positions in `sessions`.
    play : numpy.ndarray of int
        Which playing of a session each belongs to; a session played twice is two.

    Raises
    ------
    ValueError
        Calls of a session apart or out of order, no slot, a time that is not above 0.

    Examples
    --------
    >>> call, play = replay([7, 7, 9], [0, 5, 0], n_open=2, horizon_s=20, stagger_s=1, pause_s=10,
    ...                     rng=np.random.default_rng(1))
    >>> call.tolist(), play.tolist()
    ([0, 2, 1, 0, 2, 1], [0, 2, 0, 3, 1, 3])
    """
    times, slots = non_negative(times, "times"), int(count(n_open, "n_open", least=1))
    codes, names = pd.factorize(np.asarray(sessions))
    starts = np.searchsorted(codes, np.arange(len(names) + 1))
    if (np.diff(codes) < 0).any() or (np.diff(times)[np.diff(codes) == 0] < 0).any():
        raise ValueError("sessions = calls apart or out of order are not allowed: sort them by session and time")
    horizon, pause = positive(horizon_s, "horizon_s"), non_negative(pause_s, "pause_s")
    calls, begins = [], []
    for begin in rng.uniform(0, non_negative(stagger_s, "stagger_s"), slots):
        for session in rng.permutation(len(names)):
            if begin >= horizon:
                break
            calls.append(np.arange(starts[session], starts[session + 1]))
            begins.append(begin)
            begin += times[calls[-1][-1]] + pause
    play = np.repeat(np.arange(len(calls)), [own.size for own in calls])
    call = np.concatenate(calls)
    when = times[call] + np.asarray(begins)[play]
    order = np.argsort(when, kind="stable")
    order = order[when[order] < horizon]
    return call[order], play[order]
