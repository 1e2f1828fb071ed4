"""What does a finished task cost: demand over the week, queues, waiting contexts and failed attempts in one model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import gammaincc, gammaln

from econmodel import simulate, units

#: Bars of the waterfall, in the order in which their causes are switched on.
CAUSES = ("ideal", "provisioning for the peak", "latency headroom", "contexts waiting in memory", "failed attempts")
#: How the fleet follows demand.
SCALINGS = ("fixed", "hourly", "perfect")
#: Relative values, each as likely, of an exponential law with mean 1.
_EXPONENTIAL = -np.log1p(-(np.arange(64) + 0.5) / 64) / np.mean(-np.log1p(-(np.arange(64) + 0.5) / 64))
#: Mixes of two workloads at which replicas are computed; between them is interpolated.
_MIXES = 5
_HOUR = 3600.0


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
    new_quantiles: np.ndarray | Sequence[float] | None = None
    output_quantiles: np.ndarray | Sequence[float] | None = None

    def __post_init__(self):
        """Check what was given."""
        hours = units.non_negative(self.tasks_per_s, "tasks_per_s")
        if not hours.ndim or not hours.shape[-1]:
            raise ValueError(f"tasks_per_s = {self.tasks_per_s} is not allowed: at least one hour")
        units.non_negative(np.subtract(self.calls_per_task, 1), "calls_per_task - 1")
        units.non_negative(np.subtract(self.attempts, 1), "attempts - 1")
        units.positive(self.input_tokens, "input_tokens")
        units.positive(self.output_tokens, "output_tokens")
        units.non_negative(self.cached_tokens, "cached_tokens")
        units.positive(np.subtract(self.input_tokens, self.cached_tokens), "input_tokens - cached_tokens")
        for name in ("wait_s", "cpu_s"):
            units.non_negative(getattr(self, name), name)
        for name in ("peak_tokens", "pairs", "input_quantiles", "new_quantiles", "output_quantiles"):
            if getattr(self, name) is not None:
                units.non_negative(getattr(self, name), name)


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
    new = table["input_tokens"] - np.minimum(table["cached_tokens"], table["input_tokens"] - 1)
    later = table["session"].duplicated()
    peak = (table["input_tokens"] + table["output_tokens"]).groupby(table["session"]).transform("max")
    levels = (np.arange(64) + 0.5) / 64

    def law(column):
        edges = np.array_split(np.sort(column.to_numpy(float)), 64 if len(column) >= 64 else 1)
        return np.array([part.mean() for part in edges]) if len(column) >= 64 else np.quantile(column, levels)

    return Workload(
        name=name, tasks_per_s=tasks_per_s, attempts=attempts, calls_per_task=float(len(table) / (~later).sum()),
        input_tokens=float(table["input_tokens"].mean()), output_tokens=float(table["output_tokens"].mean()),
        cached_tokens=float((table["input_tokens"] - new).mean()),
        wait_s=float(table["wait_s"][later].mean()) if later.any() else 0.0,
        cpu_s=float(table["cpu_s"].mean()) if "cpu_s" in table else 0.0, peak_tokens=float(peak.mean()),
        pairs=float((new * (table["input_tokens"] - new / 2)).mean()),
        input_quantiles=law(table["input_tokens"]), new_quantiles=law(new),
        output_quantiles=law(table["output_tokens"]),
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
        for name in self.__dataclass_fields__:
            if name != "basis":
                units.non_negative(getattr(self, name), name)


class _Prompt(NamedTuple):
    """Moments of the part of a prompt that is computed: mean over calls."""

    tokens: np.ndarray
    square: np.ndarray
    steps: np.ndarray
    short: np.ndarray
    pairs: np.ndarray


class _Calls(NamedTuple):
    """Means over the calls of a mix; what they read and the room they take is weighted by how long they decode."""

    new: _Prompt
    whole: _Prompt
    output: np.ndarray
    read: np.ndarray
    room: np.ndarray
    tokens: np.ndarray
    peak: np.ndarray
    waits: np.ndarray
    returning: np.ndarray
    cpu: np.ndarray


class _Box(NamedTuple):
    """A replica under a policy: steps by number of tokens, and what fits."""

    server: simulate.Server
    policy: simulate.Policy
    step: np.ndarray
    slow: np.ndarray
    link: float
    tier_bytes: float


def _axis(value):
    return np.asarray(value, dtype=float)[..., None]


def _law(values):
    relative = _EXPONENTIAL if values is None else np.asarray(values, dtype=float)
    return relative / relative.mean()


def _prompt(mean, values, pairs, chunk):
    law = _law(values)
    tokens = _axis(mean) * law
    short = np.minimum(tokens, chunk)
    return _Prompt(
        np.asarray(mean, float), (tokens**2).mean(-1), np.ceil(np.maximum(tokens, 1) / chunk).mean(-1),
        (short**2).mean(-1) / short.mean(-1), np.asarray(pairs, float),
    )  # fmt: skip


def _calls(w, chunk):
    """Means over the calls of one workload."""
    new, spread = np.subtract(w.input_tokens, w.cached_tokens), (_law(w.output_quantiles) ** 2).mean()
    square = [np.square(mean) * (_law(law) ** 2).mean() / 2
              for mean, law in ((new, w.new_quantiles), (w.input_tokens, w.input_quantiles))]  # fmt: skip
    pairs = np.multiply(new, w.cached_tokens) + square[0] if w.pairs is None else w.pairs
    output, tokens = np.asarray(w.output_tokens, float), np.add(w.input_tokens, w.output_tokens)
    returning = 1 - 1 / np.asarray(w.calls_per_task, float)
    return _Calls(
        _prompt(new, w.new_quantiles, pairs, chunk), _prompt(w.input_tokens, w.input_quantiles, square[1], chunk),
        output, output * (w.input_tokens + output * spread / 2), output * tokens, tokens,
        tokens if w.peak_tokens is None else np.maximum(w.peak_tokens, tokens),
        returning * np.add(w.wait_s, w.cpu_s), returning, np.asarray(w.cpu_s, float),
    )  # fmt: skip


def _mixed(shares, values):
    """Weighted sum over workloads, field by field; shares have an axis of mixes at the end."""
    if isinstance(values[0], tuple):
        return type(values[0])(*(_mixed(shares, field) for field in zip(*values, strict=True)))
    return sum(share * _axis(value) for share, value in zip(shares, values, strict=True))


def _box(replica, policy, context, speed):
    server = simulate.server(
        replica, max_batch=policy.max_batch, chunk_tokens=policy.chunk_tokens, context_tokens=context
    )
    tiers = policy.tiers if policy.residency in ("move", "evict") else ()
    link = min([policy.link_bytes_per_s, *(tier.bandwidth_bytes_per_s for tier in tiers)]) if tiers else np.inf
    slow = 1 / units.positive(speed, "speed")[..., None, None]
    step = np.asarray(server.step_s, float)
    return _Box(server, policy, step, slow, link, sum(tier.capacity_bytes for tier in tiers))


def _step(box, tokens):
    """Time of a step by its tokens, linear between whole numbers."""
    tokens = np.clip(tokens, 0, len(box.step) - 1)
    low = np.minimum(tokens.astype(np.int64), len(box.step) - 2)
    return box.step[low] + (tokens - low) * (box.step[low + 1] - box.step[low])


class _Share(NamedTuple):
    """Share of calls whose context is moved out and back, and of those that compute it again."""

    moved: np.ndarray
    lost: np.ndarray


def _kv(box, tokens):
    return box.server.kv_fixed_bytes + box.server.kv_bytes_per_token * tokens


def _fates(box, calls, rate):
    """What becomes of contexts at a rate of calls per replica."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wait = np.where(calls.returning > 0, calls.waits / calls.returning, 0.0)
        size, policy = _kv(box, calls.tokens), box.policy
        if policy.residency == "hold":
            out = np.zeros_like(wait)
        elif policy.residency == "evict":
            free = np.maximum(box.server.memory_bytes / size - rate * calls.output * box.step[1] * box.slow[..., 0], 0)
            out = 1 - np.minimum(free / (rate * calls.waits), 1.0)
            out = np.where(rate * calls.waits > 0, out, 0.0)
        else:
            idle = policy.idle_s if policy.residency == "move" else 0.0
            out = np.where(wait > 0, np.exp(-idle / wait), 0.0)
        there = rate * out * calls.waits * size
        kept = np.where(there > box.tier_bytes, box.tier_bytes / there, 1.0) if box.tier_bytes else 0.0
    return _Share(calls.returning * out * kept, out * (1 - kept))


def _in_service(box, calls):
    """Most calls in service: places of the batch, and room for their contexts."""
    with np.errstate(divide="ignore"):
        return np.minimum(box.policy.max_batch, box.server.memory_bytes / _kv(box, calls.room / calls.output))


def _nodes(top):
    """Numbers in hand at which a chain is evaluated: each one at first, then a root apart."""
    nodes = [0]
    while nodes[-1] < top:
        nodes.append(nodes[-1] + max(1, int(0.7 * np.sqrt(nodes[-1]))))
    return np.array(nodes, float)


class _Pace(NamedTuple):
    """Calls per second with so many in service, how long a call then takes where, and its time of the GPUs."""

    rate: np.ndarray
    wait: np.ndarray
    alone: np.ndarray
    decoding: np.ndarray
    step: np.ndarray
    line: np.ndarray
    prefill_s: np.ndarray
    decode_s: np.ndarray


def _rates(box, calls, fates, nodes):
    """Calls finished per second with so many in service: a closed network of link, prefill and decoding."""
    keep = 1 - fates.lost
    prompt = _Prompt(*(keep * n + fates.lost * w for n, w in zip(calls.new, calls.whole, strict=True)))
    prompt = _Prompt(*(field[..., None] for field in prompt))
    output, context = np.maximum(calls.output - 1, 1)[..., None], (calls.read / calls.output)[..., None]
    moved, chunk = fates.moved[..., None], box.policy.chunk_tokens
    transfer = _kv(box, calls.tokens)[..., None] / box.link
    room = _in_service(box, calls)[..., None]
    n = np.maximum(np.minimum(nodes[1:], room), 1e-9)
    others = np.maximum(1 - 1 / n, 0)
    pair_s = box.server.attention_s * prompt.pairs

    def at(decoding):
        beside = decoding * others
        bare = _step(box, beside) + box.server.context_s * context * beside
        busy = _step(box, 1 + beside) + box.server.context_s * context * (1 + beside)
        together = beside / output
        with np.errstate(invalid="ignore", divide="ignore"):
            shared = np.where(together > 0, together / -np.expm1(-together), 1.0)
        width = np.minimum(prompt.short * shared, chunk)
        own = (_step(box, beside + width) - _step(box, beside)) * prompt.tokens / width + pair_s
        rate = decoding / (output * busy + decoding * others * own) / box.slow
        line = (prompt.tokens / chunk * (bare + _step(box, beside + chunk) - _step(box, beside)) + pair_s) * box.slow
        used = rate * line * others
        link = 2 * rate * moved * transfer * others
        with np.errstate(divide="ignore", invalid="ignore"):
            behind = line * used * prompt.square / prompt.tokens**2 / (2 * (1 - used))
            queue = moved * link * transfer / (2 * (1 - link))
        aligned = others * box.slow / 2 * (bare + np.minimum(used, 1) * own * width / prompt.tokens)
        wait = np.where((used < 1) & (link < 1), behind + queue + aligned, np.inf)
        alone = (prompt.steps * bare + own) * box.slow + moved * transfer
        return _Pace(
            rate,
            wait,
            alone,
            decoding / rate,
            bare * box.slow,
            used,
            own * box.slow,
            output * busy * box.slow / decoding,
        )

    low, high = np.zeros_like(n), n + np.zeros(np.broadcast_shapes(n.shape, box.slow.shape, moved.shape))
    low = low + 0 * high
    for _ in range(30):
        middle = (low + high) / 2
        pace = at(middle)
        over = middle + pace.rate * (pace.wait + pace.alone) > n
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    pace = at(low)
    return pace._replace(rate=np.maximum.accumulate(np.where(room >= 1, pace.rate, 0.0), axis=-1))


class _State(NamedTuple):
    """A replica at a rate of calls."""

    time: np.ndarray
    in_service: np.ndarray
    wait: np.ndarray
    p_wait: np.ndarray
    weights: np.ndarray


def _chain(rates, nodes):
    """Sum of the logarithms of rates up to each node, and how many numbers a node stands for."""
    with np.errstate(divide="ignore"):
        log = np.log(rates)
    log = np.concatenate([log[..., :1], log], axis=-1)
    gap = np.diff(nodes)
    steps = (gap * (log[..., 1:] + log[..., :-1]) + log[..., 1:] - log[..., :-1]) / 2
    total = np.concatenate([np.zeros((*log.shape[:-1], 1)), np.cumsum(steps, axis=-1)], axis=-1)
    weight = (np.append(gap, 1) + np.append(1, gap)) / 2
    return total, weight


def _held_rate(box, calls, rates, nodes):
    """Highest rate at which sessions that keep their room can be served."""
    held = _held(box, calls)[..., None]
    total, weight = _chain(rates, nodes)
    ref, waits = rates[..., -1:], calls.waits[..., None]

    def mass(room):
        with np.errstate(divide="ignore", invalid="ignore"):
            left = room - nodes
            log = nodes * np.log(ref) - total + np.where(left > 0, left * np.log(ref * waits), 0.0)
            log = np.where(left > -1, log - gammaln(np.maximum(left + 1, 1e-12)), -np.inf)
            top = log.max(axis=-1, keepdims=True)
            top = np.where(np.isfinite(top), top, 0.0)
            return top[..., 0] + np.log((weight * np.exp(log - top)).sum(axis=-1))

    with np.errstate(over="ignore", invalid="ignore"):
        rate = ref[..., 0] * np.exp(mass(held - 1) - mass(held))
    rate = np.where((calls.waits > 0) & np.isfinite(held[..., 0]), rate, ref[..., 0])
    return np.where(held[..., 0] >= 1, np.minimum(np.nan_to_num(rate, nan=0.0), ref[..., 0]), 0.0)


def _held(box, calls):
    return box.server.memory_bytes / _kv(box, calls.peak)


def _state(rate, box, calls, rates, nodes, top, held):
    """Birth-death chain of one replica; `top` is the rate at which it saturates."""
    total, weight = _chain(rates, nodes)
    room = _in_service(box, calls)[..., None]
    rate = np.asarray(rate, float)[..., None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log = np.where(nodes > 0, nodes * np.log(rate), 0.0) - total
        log = np.where(np.isnan(log), -np.inf, log)
        p = weight * np.exp(log - np.where(np.isfinite(log), log, -np.inf).max(axis=-1, keepdims=True))
        if held:
            waits, left = rate * calls.waits[..., None], _held(box, calls)[..., None] - nodes
            inside = np.where(left > -1, gammaincc(np.maximum(left + 1, 1e-12), waits), 0.0)
            inside = np.where(waits > 0, inside, left >= 0)
            at = np.where(left > -1, left * np.log(waits) - waits - gammaln(np.maximum(left + 1, 1e-12)), -np.inf)
            full = p * np.where(waits > 0, np.exp(at), 0.0)
        else:
            inside, full = 1.0, np.where(nodes == nodes[-1], p / weight, 0.0)
        ratio = np.minimum(rate[..., 0] / top, 1.0)
        last = full.sum(axis=-1)
        tail = last * ratio / (1 - ratio)
        beyond = tail / (1 - ratio)
        serving = np.minimum(nodes, room)
        mass = (p * inside).sum(axis=-1) + tail
        each = np.where(last > 0, (full * serving).sum(axis=-1) / last, 0.0)
        in_service = ((p * inside * serving).sum(axis=-1) + tail * each) / mass
        line = ((p * inside * (nodes - serving)).sum(axis=-1) + beyond) / mass
        if not held:
            line = line + tail * (nodes[-1] - each) / mass
        late = ((p * inside * (nodes >= room)).sum(axis=-1) + tail) / mass
        seen = p * inside
        weights = seen / seen.sum(axis=-1, keepdims=True)
        alone = 1 / rates[..., 0]
        rate = rate[..., 0]
        time = np.where(rate > 0, (in_service + line) / rate, alone)
        wait = np.where(rate > 0, line / rate, 0.0)
    bad = ~(ratio < 1)
    return _State(np.where(bad, np.inf, time), in_service, np.where(bad, np.inf, wait), late, weights)


def _capacity(target, box, calls, rates, nodes, held):
    """Highest rate of calls at which a replica keeps the mean time of a call at or below a target."""
    top = _held_rate(box, calls, rates, nodes) if held else rates[..., -1]
    with np.errstate(divide="ignore"):
        top = np.minimum(top, box.policy.cpu_cores / np.maximum(calls.cpu, 1e-300))
        limit = rates[..., -1] if not held else _held_rate(box, calls, rates, nodes)
        low, high = np.zeros_like(top), top
        for _ in range(40):
            middle = (low + high) / 2
            ok = _state(middle, box, calls, rates, nodes, limit, held).time <= target
            low, high = np.where(ok, middle, low), np.where(ok, high, middle)
    return np.where(np.isinf(target), top, low)


def _settled(target, box, calls, nodes, held):
    """Rate at a target with waiting contexts where the policy puts them, whose fates depend on that rate."""
    rate = _capacity(
        target, box, calls, _rates(box, calls, _Share(0 * calls.cpu, 0 * calls.cpu), nodes).rate, nodes, False
    )
    if box.policy.residency == "hold":
        fates = _fates(box, calls, rate)
        return np.minimum(rate, _capacity(target, box, calls, _rates(box, calls, fates, nodes).rate, nodes, True))
    free, seen = rate, rate
    for _ in range(12):
        fates = _fates(box, calls, seen)
        rate = np.minimum(free, _capacity(target, box, calls, _rates(box, calls, fates, nodes).rate, nodes, False))
        if np.allclose(rate, seen, rtol=1e-9):
            break
        fixed = (fates.lost == 0) & (fates.moved == calls.returning * 0 + fates.moved)
        seen = (seen + rate) / 2 if not np.all(fixed) else rate
    return rate


def _mixes(calls_per_s):
    """Shares of workloads at which capacity is computed, and a function that brings it to the hours."""
    total = sum(calls_per_s)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.where(total > 0, own / total, 1 / len(calls_per_s)) for own in calls_per_s]
    if len(shares) == 1:
        return [np.ones((*total.shape[:-1], 1))], lambda value: value
    if len(shares) > 2 or total.shape[-1] <= _MIXES:
        return shares, lambda value: value
    low, high = shares[0].min(-1, keepdims=True), shares[0].max(-1, keepdims=True)
    first = low + (high - low) * np.linspace(0, 1, _MIXES)
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(high > low, (shares[0] - low) / (high - low), 0.0) * (_MIXES - 1)
    left = np.minimum(place.astype(int), _MIXES - 2)

    def at_hours(value):
        value = np.broadcast_to(value, np.broadcast_shapes(value.shape, first.shape))
        index = np.broadcast_to(left, (*value.shape[:-1], left.shape[-1]))
        a, b = (np.take_along_axis(1 / value, index + i, axis=-1) for i in (0, 1))
        return 1 / (a + (place - left) * (b - a))

    return [first, 1 - first], at_hours


def _fleet(need, scaling, whole=True):
    """Replicas by hour."""
    if scaling == "perfect":
        return need
    hourly = np.ceil(need * (1 - 1e-12)) if whole else need
    return hourly if scaling == "hourly" else hourly.max(-1, keepdims=True) + 0 * hourly


class _Costs(NamedTuple):
    """A week, by hour."""

    replicas: np.ndarray
    idle: np.ndarray
    cores: np.ndarray
    tier_gb: np.ndarray
    usd: np.ndarray


def _cost(need, cores, tier_gb, scaling, prices, n_chips, whole=True):
    fleet = _fleet(need, scaling, whole)
    with np.errstate(invalid="ignore"):
        idle = fleet - _fleet(need, "hourly", whole) if scaling == "fixed" else 0 * fleet
    cores = _fleet(cores, scaling, False)
    usd = n_chips * (fleet * _axis(prices.gpu_usd_per_hour) - idle * _axis(prices.fill_usd_per_gpu_hour))
    usd = usd + cores * _axis(prices.core_usd_per_hour) + tier_gb * _axis(prices.tier_usd_per_gb_hour)
    return _Costs(fleet, idle, cores, tier_gb, usd)


def _checked(works, latency_target, scaling, policy):
    works = [works] if isinstance(works, Workload) else list(works)
    if not works:
        raise ValueError("workload = [] is not allowed: at least one")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling = {scaling!r} is not allowed: one of {', '.join(SCALINGS)}")
    hours = {np.shape(w.tasks_per_s)[-1] for w in works}
    if len(hours) > 1:
        raise ValueError(f"tasks_per_s = rows of {sorted(hours)} hours are not allowed: all as long")
    return works, units.positive(latency_target, "latency_target")


def _stages(works, replica, prices, target, policy, scaling, speed, whole=True):
    """Costs with one cause after the other switched on, and tasks finished in the week."""
    context = float(np.mean([np.mean(w.input_tokens) for w in works]))
    box = _box(replica, policy, context, speed)
    each = [_calls(w, policy.chunk_tokens) for w in works]
    target = target[..., None]
    asked = [_axis(w.calls_per_task) * w.tasks_per_s for w in works]
    tried = [rate * _axis(w.attempts) for rate, w in zip(asked, works, strict=True)]
    stages, before = [], None
    for rates in (asked, tried):
        total, (shares, at_hours) = sum(rates), _mixes(rates)
        calls = _mixed(shares, each)
        top = float(np.nanmax(_in_service(box, calls), initial=1))
        nodes = _nodes(max(1, np.ceil(min(top, policy.max_batch))))
        if before is None:
            free = _rates(box, calls, _Share(0 * calls.cpu, 0 * calls.cpu), nodes).rate
            caps = [_capacity(t, box, calls, free, nodes, False) for t in (np.inf + 0 * target, target)]
        held = _settled(target, box, calls, nodes, policy.residency == "hold")
        fates = _fates(box, calls, held)
        parked = held * fates.moved / np.maximum(calls.returning, 1e-300) * calls.waits * _kv(box, calls.tokens) / 1e9
        with np.errstate(divide="ignore", invalid="ignore"):
            cores = sum(own * _axis(w.cpu_s) for own, w in zip(rates, works, strict=True))

            def need(cap, total=total, at_hours=at_hours):
                return np.where(total > 0, total / at_hours(cap), 0.0)

            tier_gb = np.where(total > 0, total * at_hours(held / np.maximum(parked, 1e-300)) ** -1, 0.0)
            tier_gb = np.where(np.isfinite(tier_gb), tier_gb, 0.0)
        n = replica.n_accelerators
        if before is None:
            stages.append(_cost(need(caps[0]), cores, 0.0 * total, "perfect", prices, n, whole))
            stages += [_cost(need(cap), cores, 0.0 * total, scaling, prices, n, whole) for cap in caps]
        stages.append(_cost(need(held), cores, tier_gb, scaling, prices, n, whole))
        before = held
    tasks = _HOUR * sum(np.asarray(w.tasks_per_s, float) for w in works)
    return stages, tasks, box, each, tried


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
    works, target = _checked(workload, latency_target, scaling, policy)
    stages, tasks, *_ = _stages(works, replica, prices, target, policy, scaling, speed)
    with np.errstate(invalid="ignore", divide="ignore"):
        costs = np.stack(np.broadcast_arrays(*((stage.usd.sum(-1) / tasks.sum(-1)) for stage in stages)))
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
        Mean time of a call, from request to last token, that no hour may exceed; inf for none. [s]
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
    and sessions that hold their room are counted with a truncated product form.

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
    works, target = _checked(workload, latency_target, scaling, policy)
    own = (works, replica, prices, target, policy, scaling, speed)
    stages, tasks, box, each, tried = _stages(*own)
    last, finished = stages[-1], tasks.sum()
    if last.usd.ndim > 1:
        raise ValueError(f"workload = arrays of shape {last.usd.shape[:-1]} are not allowed: bars takes draws")
    with np.errstate(invalid="ignore", divide="ignore"):
        hours, tokens_s = _hours(last, box, works, each, tried)
        waterfall = pd.Series(bars(workload, replica, prices=prices, latency_target=latency_target, policy=policy,
                                   scaling=scaling, speed=speed), name="usd_per_task")  # fmt: skip
        calls = hours["calls_per_s"].to_numpy()
        usd, gpu_hours = last.usd.sum(), replica.n_accelerators * last.replicas.sum()
        idle = replica.n_accelerators * last.idle.sum()
        served, seconds = _HOUR * calls.sum(), tokens_s.sum(axis=1)
        kept = waterfall.iloc[3] / waterfall.iloc[:4].sum()
        names = ("input_tokens", "cached_tokens", "output_tokens")
        amounts = [
            _HOUR * sum((rate * getattr(w, name)).sum() for rate, w in zip(tried, works, strict=True)) for name in names
        ]
        parts = usd * np.array([(1 - kept) * seconds[0] / seconds.sum(), kept, (1 - kept) * seconds[1] / seconds.sum()])
        amounts[0] -= amounts[1]
        million = dict(zip(("input", "cached", "output"), 1e6 * parts / amounts, strict=True))
        totals = dict(
            gpu_hours=gpu_hours, replicas_at_peak=last.replicas.max(), usd=usd, tasks=finished,
            usd_per_task=usd / finished,
            **{f"usd_per_million_{name}_tokens": value for name, value in million.items()},
            mean_time=(hours["mean_time"] * calls).sum() / calls.sum(), p99=(hours["p99"] * calls).sum() / calls.sum(),
            busy_share=(hours["busy_share"] * last.replicas).sum() / last.replicas.sum(), idle_gpu_hours=idle,
            fill_usd=idle * np.asarray(prices.fill_usd_per_gpu_hour, float), calls=served,
        )  # fmt: skip
    totals |= _marginal(own)
    return Plan(hours, {name: float(value) for name, value in totals.items()}, waterfall.astype(float))


#: Points spread evenly in the unit cube of five dimensions.
_POINTS = ((np.arange(1, 4097) / 1.1673039782614187 ** np.arange(1, 6)[:, None]) + 0.5) % 1


def _slowest(probability, works, shares, calls, box, fates, state, mean):
    """Time that a share of calls do not exceed: waits, prefill, load and answer drawn independently of each other."""
    answer, prompt, place, line, fate = _POINTS

    def late(mean, share, u):
        share = np.clip(share, 1e-12, 1)[:, None]
        return np.where(u < share, -mean[:, None] / share * np.log(np.maximum(u / share, 1e-12)), 0.0)

    waits = late(state.wait, state.p_wait, place) + late(mean["wait"], mean["line"], line)
    moved, lost = fates.moved[:, None], fates.lost[:, None]
    load = np.where((fate > lost) & (fate < lost + moved), (_kv(box, calls.tokens) / box.link)[:, None], 0.0)
    per_token = mean["prefill_s"] / (calls.new.tokens + fates.lost * (calls.whole.tokens - calls.new.tokens))
    times, weights = [], []
    for w, share in zip(works, shares, strict=True):
        new, whole, output = (np.quantile(_law(law), u) * value for law, u, value in (
            (w.new_quantiles, prompt, w.input_tokens - w.cached_tokens), (w.input_quantiles, prompt, w.input_tokens),
            (w.output_quantiles, answer, w.output_tokens)))  # fmt: skip
        computed = np.where(fate < lost, whole, new)
        steps = np.ceil(np.maximum(computed, 1) / box.policy.chunk_tokens) * mean["step"][:, None]
        decoding = (mean["decoding"] / np.maximum(calls.output - 1, 1))[:, None] * np.maximum(output - 1, 0)
        times.append(waits + load + steps + computed * per_token[:, None] + decoding)
        weights.append(np.broadcast_to(share[:, None], times[-1].shape))
    times, weights = np.concatenate(times, axis=1), np.concatenate(weights, axis=1)
    order = np.argsort(times, axis=1)
    passed = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    where = (passed < probability * passed[:, -1:]).sum(axis=1)
    return np.take_along_axis(times, np.take_along_axis(order, where[:, None], axis=1), axis=1)[:, 0]


def _hours(costs, box, works, each, tried):
    """State of the fleet in every hour, and GPU time of prefill and of decoding."""
    total = sum(tried)
    shares = [np.where(total > 0, own / total, 1 / len(tried)) for own in tried]
    calls = _mixed(shares, each)
    rate = np.where(costs.replicas > 0, total / costs.replicas, 0.0)
    nodes = _nodes(max(1, np.ceil(min(np.nanmax(_in_service(box, calls)), box.policy.max_batch))))
    fates, held = _fates(box, calls, rate), box.policy.residency == "hold"
    pace = _rates(box, calls, fates, nodes)
    top = _held_rate(box, calls, pace.rate, nodes) if held else pace.rate[..., -1]
    state = _state(rate, box, calls, pace.rate, nodes, top, held)
    weights = state.weights[..., 1:] / np.maximum(state.weights[..., 1:].sum(-1, keepdims=True), 1e-300)
    with np.errstate(invalid="ignore"):
        mean = {name: (weights * np.where(weights > 0, getattr(pace, name), 0.0)).sum(-1)
                for name in pace._fields[1:]}  # fmt: skip
    size = _kv(box, calls.tokens)
    transfer = fates.moved * size / box.link
    waiting = total * calls.waits
    held_bytes = rate * calls.waits * _kv(box, calls.peak) if held else 0.0
    in_hbm = state.in_service * _kv(box, calls.peak if held else calls.room / calls.output) + held_bytes
    table = pd.DataFrame(dict(
        hour=np.arange(len(total)), calls_per_s=total, replicas=costs.replicas, busy_share=rate / top,
        mean_time=state.time,
        p99=_slowest(0.99, works, shares, calls, box, fates, state, mean),
        in_service=state.in_service * costs.replicas,
        waiting_contexts=waiting, hbm_share=in_hbm / box.server.memory_bytes, link_share=2 * rate * transfer,
        cores=costs.cores, tier_gb=costs.tier_gb, usd=costs.usd,
    ))  # fmt: skip
    return table, np.stack([mean["prefill_s"] * total, mean["decode_s"] * total])


def _marginal(own):
    """Dollars of a week that one more of a part saves, by planning again with a hundredth more of it."""
    works, replica, prices, target, policy, scaling, speed = own
    chip = replica.accelerator

    def usd(replica, policy):
        return _stages(works, replica, prices, target, policy, scaling, speed, whole=False)[0][-1].usd.sum()

    def more(*names):
        scaled = {name: 1.01 * getattr(chip, name) for name in names if getattr(chip, name) is not None}
        return replace(replica, accelerator=replace(chip, **scaled)), policy

    rates = [f"{kind}{which}_flop_per_s" for kind in ("bf16", "fp8", "fp4") for which in ("", "_measured")]
    rates = [name for name in rates if hasattr(chip, name)]
    peak = (chip.fp8_flop_per_s if replica.weight_bits <= 8 else None) or chip.bf16_flop_per_s or np.nan
    faster = replace(
        policy, link_bytes_per_s=1.01 * policy.link_bytes_per_s,
        tiers=[replace(tier, bandwidth_bytes_per_s=1.01 * tier.bandwidth_bytes_per_s) for tier in policy.tiers],
    )  # fmt: skip
    link = min([policy.link_bytes_per_s, *(tier.bandwidth_bytes_per_s for tier in policy.tiers)])
    changes = dict(
        gb_hbm=(more("memory_bytes"), 0.01 * chip.memory_bytes / 1e9),
        gb_s_hbm=(more("bandwidth_bytes_per_s"), 0.01 * chip.bandwidth_bytes_per_s / 1e9),
        tflop_s=(more(*rates), 0.01 * peak / 1e12), gb_s_link=((replica, faster), 0.01 * link / 1e9),
        core=((replica, replace(policy, cpu_cores=policy.cpu_cores + 1)), 1.0),
    )  # fmt: skip
    base = usd(replica, policy)
    with np.errstate(invalid="ignore"):
        return {f"saved_usd_per_{name}": (base - usd(*changed)) / amount for name, (changed, amount) in changes.items()}
