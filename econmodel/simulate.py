"""Discrete events: first-come queues, and a replica that serves sessions of calls by continuous batching."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from econmodel import units
from econmodel.parts import Tier

#: What becomes of a KV cache between two calls of its session.
RESIDENCIES = ("hold", "move", "evict", "recompute")
#: Fate of a call, by number.
STATUS = ("served", "shed", "lost", "never fits")
NEEDED = ("session", "input_tokens", "cached_tokens", "output_tokens", "wait_s")


def queue_waits(arrival_times, service_times, n_servers):
    """
    Waits in a first-come, first-served queue with several servers, whatever the laws of arrival and service: G/G/c.

    Parameters
    ----------
    arrival_times : array_like, shape (n,)
        In order. [s]
    service_times : array_like, shape (n,)
        Of the same customers. [s]
    n_servers : int
        Servers.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Wait of each customer. [s]

    Raises
    ------
    ValueError
        Arrivals out of order, negative or infinite times, shapes that differ, no server.

    Examples
    --------
    >>> queue_waits([0, 1, 2, 3], [4, 4, 4, 4], 2)
    array([0., 0., 2., 2.])
    """
    arrivals = np.asarray(arrival_times, dtype=float)
    services = units.non_negative(service_times, "service_times")
    if arrivals.ndim != 1 or arrivals.shape != services.shape:
        raise ValueError(f"service_times = {services.shape} is not allowed: a row as long as arrival_times")
    servers = int(units.count(n_servers, "n_servers", least=1))
    if arrivals.size and not (np.isfinite(arrivals[0]) and np.isfinite(arrivals[-1] + services.max())):
        raise ValueError("arrival_times, service_times = inf or nan is not allowed: finite times")
    if not np.all(late := arrivals[1:] >= arrivals[:-1]):
        bad = int(np.argmin(late)) + 1
        raise ValueError(f"arrival_times = {arrivals[bad]:g} at place {bad} is not allowed: not before the one ahead")
    from econmodel import kernels

    return kernels.fifo_waits(arrivals, services, servers)


@dataclass(frozen=True, kw_only=True)
class Engine:
    r"""
    A replica as the event loop sees it: how long a step takes, and how much cache fits.

    A step passes some tokens through the weights: one for each sequence that decodes, and a chunk of the prompts in
    line. It takes ``step_s[tokens]``, plus `context_s` for each token of context that the decoding sequences read, plus
    `attention_s` for each pair of a prompt token and a token before it.

    Parameters
    ----------
    step_s : array_like, shape (n,)
        Time of a step by its tokens 0, 1, ... [s]
    context_s, attention_s : float
        Slopes as above. [s/token], [s/pair]
    kv_bytes_per_token, kv_fixed_bytes : float
        Cache of a session: a constant part, and one that grows. [B/token], [B]
    memory_bytes : float
        Left for caches; inf is allowed. [B]
    ideal_token_s, ideal_pair_s : float
        The part of a token and of a pair in a step at peak arithmetic; gives the compute share of the time series. [s]
    ideal_step_s, ideal_context_s : float
        The part of the weights and of a token of context at full memory bandwidth; gives its bandwidth share. [s]

    Raises
    ------
    ValueError
        Steps that take no time, negative slopes or sizes; names argument and value.

    Examples
    --------
    >>> chip = Engine(step_s=[0.01] * 600, context_s=0.0, attention_s=0.0, kv_bytes_per_token=1e5, memory_bytes=40e9)
    >>> len(chip.step_s)
    600
    """

    step_s: np.ndarray | Sequence[float]
    context_s: float
    attention_s: float
    kv_bytes_per_token: float
    memory_bytes: float
    kv_fixed_bytes: float = 0.0
    ideal_token_s: float = np.nan
    ideal_pair_s: float = np.nan
    ideal_step_s: float = np.nan
    ideal_context_s: float = np.nan

    def __post_init__(self):
        """Check what was given."""
        units.positive(self.step_s, "step_s")
        for name in ("context_s", "attention_s", "kv_bytes_per_token", "kv_fixed_bytes", "memory_bytes"):
            units.non_negative(getattr(self, name), name)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """
    How a replica schedules calls, and where caches wait between the calls of a session.

    Parameters
    ----------
    residency : str
        "hold": a session keeps room for its largest context from first call to last. "move": a context that was idle
        for `idle_s` goes over the link to the first tier that could hold it. "evict": contexts go only when room is
        needed, the least recently used first, to a tier, or dropped where there is none. "recompute": all is dropped at
        the end of each call.
    max_batch, chunk_tokens : int
        Calls in service at once; prompt tokens that a step takes in. Calls wait in order of arrival.
    idle_s : float
        For "move". [s]
    tiers : sequence of Tier
        Below HBM, fastest first, all behind one link; each overflows into the next, the last one drops.
    link_bytes_per_s : float
        That link, one transfer at a time; a tier may be slower. [B/s]
    cpu_cores : float
        Cores that the tools of all sessions share; inf for no limit.
    max_waiting : float
        Calls in line beyond which a new one is shed, with the rest of its session.
    preempt : bool
        Whether a call may push out calls of lower priority, which are computed anew later.

    Raises
    ------
    ValueError
        An unknown residency, "move" without a tier, a tier without capacity or bandwidth, a number out of range.

    Examples
    --------
    >>> Policy(residency="move", max_batch=64, chunk_tokens=512, tiers=[Tier(name="DDR5", capacity_bytes=1e12)])
    Traceback (most recent call last):
    ...
    ValueError: bandwidth_bytes_per_s = None is not allowed: DDR5 needs one to be a tier
    """

    residency: str
    max_batch: int
    chunk_tokens: int
    idle_s: float = 0.0
    tiers: Sequence[Tier] = ()
    link_bytes_per_s: float = np.inf
    cpu_cores: float = np.inf
    max_waiting: float = np.inf
    preempt: bool = False

    def __post_init__(self):
        """Check what was given."""
        if self.residency not in RESIDENCIES:
            raise ValueError(f"residency = {self.residency!r} is not allowed: one of {', '.join(RESIDENCIES)}")
        if self.residency == "move" and not self.tiers:
            raise ValueError("tiers = () is not allowed: move needs somewhere to move to")
        for tier in self.tiers:
            for name in ("bandwidth_bytes_per_s", "capacity_bytes"):
                if getattr(tier, name) is None:
                    raise ValueError(f"{name} = None is not allowed: {tier.name} needs one to be a tier")
        for name, infinite in dict(max_batch=False, chunk_tokens=False, cpu_cores=True).items():
            units.count(getattr(self, name), name, least=1, infinite=infinite)
        units.count(self.max_waiting, "max_waiting", infinite=True)
        units.non_negative(self.idle_s, "idle_s")
        units.positive(self.link_bytes_per_s, "link_bytes_per_s")


class Served(NamedTuple):
    """What `serve` returns."""

    calls: pd.DataFrame
    series: pd.DataFrame
    totals: dict


def _checked(sessions):
    """Columns of the calls, and where each session begins."""
    table = pd.DataFrame(sessions if isinstance(sessions, pd.DataFrame) else sessions._asdict())
    if missing := [name for name in NEEDED if name not in table]:
        raise ValueError(f"sessions = without {', '.join(missing)} is not allowed: needed are {', '.join(NEEDED)}")
    given = {name: table[name].to_numpy() for name in NEEDED}
    names = given.pop("session")
    first = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]])) if len(names) else np.zeros(0, int)
    if len(first) != len(pd.unique(names)):
        again = names[first][pd.Series(names[first]).duplicated().to_numpy()][0]
        raise ValueError(f"session = {again} is not allowed: calls out of order, another session's stand between")
    tokens = {
        name: units.count(given[name], name, least=least).astype(np.int64)
        for name, least in (("input_tokens", 1), ("cached_tokens", 0), ("output_tokens", 1))
    }
    wait = units.non_negative(given["wait_s"], "wait_s")
    cpu = units.non_negative(table["cpu_s"].to_numpy() if "cpu_s" in table else np.zeros(len(names)), "cpu_s")
    if not np.isfinite(wait.sum() + cpu.sum()):
        raise ValueError("wait_s, cpu_s = inf is not allowed: finite times")
    level = table["priority"].to_numpy() if "priority" in table else np.zeros(len(names))
    level = units.count(level, "priority").astype(np.int64)[first]
    seen = np.concatenate([[0], (tokens["input_tokens"] + tokens["output_tokens"])[:-1]])
    seen[first] = 0
    if np.any(bad := tokens["cached_tokens"] > np.minimum(seen, tokens["input_tokens"])):
        where = int(np.argmax(bad))
        raise ValueError(
            f"cached_tokens = {tokens['cached_tokens'][where]} at place {where} is not allowed: calls out of order? "
            f"the session had seen {seen[where]} tokens"
        )
    return names, np.append(first, len(names)), (*tokens.values(), wait, cpu), level


def serve(sessions, replica, policy, *, seed, n_replicas=1, bin_s=60.0):
    """
    Serve sessions of calls, event by event: continuous batching with chunked prefill, tool gaps and KV tiers.

    Parameters
    ----------
    sessions : pandas.DataFrame or named tuple of columns
        One row a call, the calls of a session together and in order: `session`; `input_tokens`, the whole prompt;
        `cached_tokens`, how much of it the session has seen before; `output_tokens`; `wait_s`, time of a tool or person
        since the session's last answer, of its first call since the clock started [s]. Optional: `cpu_s`, time of a
        core before that wait [s], and `priority` of the session, 0 first.
    replica : Engine
        What serves them.
    policy : Policy
        How.
    seed : int
        Of the generator that deals sessions among replicas; with one replica nothing is random.
    n_replicas : int
        Equal replicas, each with its own link, tiers and cores.
    bin_s : float
        Width of the bins of the time series. [s]

    Returns
    -------
    Served
        `calls`: `ready_s` (asked), `start_s` (joins the batch), `first_token_s`, `end_s`; `prefilled` and `reused`
        tokens; `status` "served", "shed" (turned away), "lost" (came later in a shed session) or "never fits" (its
        session outgrows the memory). `series`, by replica and bin: shares of busy time, compute, bandwidth and link;
        tokens/s; calls in service and in line; bytes reserved in HBM and held in tiers; busy cores. `totals`: what went
        in and what came out.

    Raises
    ------
    ValueError
        Missing columns, calls out of order, negative or infinite times, tokens that are no whole numbers, steps of the
        engine not tabulated as far as batch and chunk go.

    Notes
    -----
    Room is reserved for the context at the end of a call when the call joins the batch, so a batch never overflows;
    engines that reserve page by page fit a little more. Between two events all steps have the same members and their
    times form an arithmetic series, which is summed at once: the cost grows with calls, not with tokens.

    Examples
    --------
    >>> chip = Engine(step_s=[0.01] * 600, context_s=0.0, attention_s=0.0, kv_bytes_per_token=1e5, memory_bytes=40e9)
    >>> fifo = Policy(residency="evict", max_batch=8, chunk_tokens=512)
    >>> tokens = dict(input_tokens=[600, 800], cached_tokens=[0, 700], output_tokens=[100, 10])
    >>> two = pd.DataFrame(dict(session=[0, 0], wait_s=[1.0, 30.0], **tokens))
    >>> calls = serve(two, chip, fifo, seed=0).calls
    >>> calls[["ready_s", "first_token_s", "end_s", "prefilled"]].round(2).values.tolist()
    [[1.0, 1.02, 2.01, 600.0], [32.01, 32.02, 32.11, 100.0]]
    """
    names, first, columns, level = _checked(sessions)
    n_replicas = int(units.count(n_replicas, "n_replicas", least=1))
    width = float(units.positive(bin_s, "bin_s"))
    steps = np.ascontiguousarray(replica.step_s, dtype=float)
    if len(steps) <= policy.max_batch + policy.chunk_tokens:
        raise ValueError(f"step_s = {len(steps)} steps is not allowed: one more than max_batch + chunk_tokens")
    owner = np.random.default_rng(seed).integers(n_replicas, size=len(level))
    parts = []
    for own in range(n_replicas):
        mine = np.flatnonzero(owner == own)
        rows = np.repeat(owner == own, np.diff(first))
        start = np.concatenate([[0], np.cumsum(np.diff(first)[mine])])
        one = _run([column[rows] for column in columns], start, level[mine], steps, replica, policy, width)
        one.calls.insert(0, "session", names[rows])
        parts.append((own, rows, one))
    calls = pd.concat([one.calls.assign(replica=own) for own, _, one in parts], ignore_index=True)
    order = np.argsort(np.concatenate([np.flatnonzero(rows) for _, rows, _ in parts]))
    series = pd.concat([one.series.assign(replica=own) for own, _, one in parts], ignore_index=True)
    totals = {
        name: (max if name in ("end_s", "peak_hbm_bytes") else sum)(one.totals[name] for *_, one in parts)
        for name in parts[0][2].totals
    }
    return Served(calls.iloc[order].reset_index(drop=True), series, totals)


def _run(columns, first, level, steps, replica, policy, width):
    """One replica: prepare the arrays of the loop, run it, and read them."""
    from econmodel import kernels

    n_sessions, n_levels, n_calls = len(level), int(level.max(initial=0)) + 1, len(columns[0])
    calls = np.zeros(n_calls, kernels.CALL)
    for name in ("ready", "start", "first_token", "end", "cpu_start"):
        calls[name] = np.nan
    for name, column in zip(("input", "cached", "output", "wait", "cpu"), columns, strict=True):
        calls[name] = column
    tiers = () if policy.residency in ("hold", "recompute") else policy.tiers
    rates = [min(tier.bandwidth_bytes_per_s, policy.link_bytes_per_s) for tier in tiers]
    own = np.zeros(n_sessions, kernels.SESSION)
    own["level"], own["call"], own["last"], own["place"] = level, first[:-1], first[1:] - 1, kernels.NOWHERE
    if n_calls:
        own["peak"] = np.maximum.reduceat(calls["input"] + calls["output"], first[:-1])
    fits = replica.kv_fixed_bytes + replica.kv_bytes_per_token * own["peak"] <= replica.memory_bytes
    calls["status"][np.repeat(~fits, np.diff(first))] = kernels.NEVER_FITS
    arrival = np.argsort(calls["wait"][first[:-1]], kind="stable")

    def heap(n):
        return np.zeros(n, kernels.ENTRY)

    def lists(n):
        return kernels.Lists(np.full((n_sessions, 2), -1), np.full((n, 2), -1))

    state = kernels.State(
        lists(2 * n_levels + 1), lists(kernels.TIER + len(tiers) + 1), own, calls, heap(n_sessions + 1),
        heap(policy.max_batch + 1), heap(int(policy.cpu_cores) if np.isfinite(policy.cpu_cores) else 0),
        heap(2 * n_calls if tiers else 0),
        np.array([(tier.capacity_bytes, rate, 0.0) for tier, rate in zip(tiers, rates, strict=True)], kernels.TIERS),
        np.zeros(kernels.DONE + 1, np.int64), np.zeros(kernels.PEAK_BYTES + 1),
    )  # fmt: skip
    idle_s = {"move": float(policy.idle_s), "recompute": 0.0}.get(policy.residency, np.inf)
    rules = kernels.Rules(
        float(replica.context_s), float(replica.attention_s), float(replica.kv_fixed_bytes),
        float(replica.kv_bytes_per_token), float(replica.memory_bytes) * (1 + 1e-12), int(policy.max_batch),
        int(policy.chunk_tokens), policy.residency == "hold", idle_s, bool(policy.preempt), float(policy.max_waiting),
        n_levels,
    )  # fmt: skip
    progress = np.zeros(2, np.int64)
    rows, end = _watched(kernels.run, (state, rules, steps, arrival[fits[arrival]], width, progress), n_calls)
    return _report(rows, end, state, replica, tiers, width, kernels)


def _watched(loop, arguments, n_calls):
    """Run a compiled loop beside a progress bar that shows once the run is long; stop it on an interrupt."""
    progress = arguments[-1]
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(loop, *arguments)
        try:
            while True:
                try:
                    return job.result(timeout=2.0)
                except StillRunning:
                    share = progress[0] / n_calls
                    if sys.stderr.isatty():
                        print(f"\r[{'#' * int(40 * share):40}] {share:.0%} of calls", end="", file=sys.stderr)
        finally:
            progress[1] = 1


def _report(rows, end, state, replica, tiers, width, kernels):
    calls, column = state.calls, rows.T
    table = pd.DataFrame({f"{name}_s": calls[name] for name in ("ready", "start", "first_token", "end")})
    table["prefilled"], table["reused"] = calls["prefilled"], calls["reused"]
    table["status"] = pd.Categorical.from_codes(calls["status"] - 1, STATUS)
    edges = width * np.arange(len(rows) + 1.0)
    edges[-1] = max(end, np.nextafter(edges[-2], np.inf))
    span = np.diff(edges)
    ran = np.isfinite(calls["cpu_start"]) & (calls["cpu"] > 0)
    core_time = _elapsed(edges, calls["cpu_start"][ran]) - _elapsed(edges, (calls["cpu_start"] + calls["cpu"])[ran])
    pairs = column[kernels.PAIRS] + column[kernels.READ]
    amounts = dict(
        busy_share=column[kernels.BUSY],
        compute_share=column[kernels.TOKENS] * replica.ideal_token_s + pairs * replica.ideal_pair_s,
        bandwidth_share=column[kernels.STEPS] * replica.ideal_step_s + column[kernels.READ] * replica.ideal_context_s,
        tokens_per_s=column[kernels.TOKENS], in_service=column[kernels.RUN], waiting=column[kernels.WAIT],
        hbm_bytes=column[kernels.HBM], link_share=column[kernels.LINK], cores=np.diff(core_time),
    )  # fmt: skip
    amounts |= {f"{tier.name}_bytes": row for tier, row in zip(tiers, column[kernels.LINK + 1 :], strict=True)}
    series = pd.DataFrame(dict(time_s=edges[:-1], span_s=span) | {name: row / span for name, row in amounts.items()})
    served = calls[calls["status"] == kernels.SERVED]
    sums = ("BYTES_OUT", "BYTES_IN", "BYTES_DROPPED", "BYTES_CANCELLED")
    totals = {name.replace(" ", "_"): int((calls["status"] == n + 1).sum()) for n, name in enumerate(STATUS)}
    totals |= dict(
        prompt_tokens=int(served["input"].sum()), generated_tokens=int(served["output"].sum()),
        prefilled_tokens=int(calls["prefilled"].sum()), reused_tokens=int(calls["reused"].sum()),
        bytes_left=float(state.x[kernels.USED] + state.tiers["used"].sum()),
        peak_hbm_bytes=float(state.x[kernels.PEAK_BYTES]), end_s=end,
    )  # fmt: skip
    return Served(table, series, totals | {name.lower(): float(state.x[getattr(kernels, name)]) for name in sums})


def _elapsed(edges, starts):
    """Time since each of the starts, summed over them, at each edge."""
    starts = np.sort(starts)
    before = np.searchsorted(starts, edges)
    return before * edges - np.concatenate([[0.0], np.cumsum(starts)])[before]
