"""How many replicas, how idle, how long a wait; and what sharing wins."""

from typing import NamedTuple

import numpy as np

from econmodel import units


class Queue(NamedTuple):
    """What `state_dependent_queue` returns; fields are numbers or arrays."""

    p_empty: float
    mean_in_system: float
    mean_time: float
    busy_share: float
    throughput: float
    p_wait: float
    mean_wait: float


def _states(rates, n):
    return np.concatenate([rates, np.repeat(rates[..., -1:], n - rates.shape[-1], axis=-1)], axis=-1)


def state_dependent_queue(arrival_rate, completion_rates):
    r"""
    Birth-death chain: one replica whose pace depends on how much it has in hand.

    Parameters
    ----------
    arrival_rate : array_like
        A number, or an array over its last axis by number in system 0, 1, ..; the last one holds beyond. Zero closes
        the door: a finite source, or a queue that sheds. Leading axes broadcast. [1/s]
    completion_rates : array_like
        Total rate with 1, 2, .. in service along the last axis; the last one holds beyond, where the rest waits. Zero
        is allowed: a replica that cannot serve. [1/s]

    Returns
    -------
    Queue
        `p_empty`; `mean_in_system`; `mean_time` of one customer, wait included [s]; `busy_share`, the throughput over
        the last completion rate: in M/M/c the busy share of servers (the share of time with any work is 1 - p_empty);
        `throughput` [1/s]; `p_wait`, share of customers that wait for a slot; `mean_wait` over all of them [s]. A queue
        that grows without bound has mean_time inf.

    Raises
    ------
    ValueError
        A rate that is negative or nan, or no rate at all.

    Notes
    -----
    .. math:: p_n \propto \prod_{i=1}^{n} \frac{\lambda_{i-1}}{\mu_i}, \qquad
       T = \frac{\sum_n n\, p_n}{\sum_n \lambda_n p_n},

    with the products taken as sums of logarithms. Exact for exponential work; where all in hand share the service
    equally, as in processor sharing, it holds for any law of work with the same mean.

    References
    ----------
    F. P. Kelly, "Reversibility and Stochastic Networks", Wiley 1979, chapter 3. ``kelly1979``

    Examples
    --------
    >>> one = state_dependent_queue(0.8, [1.0])
    >>> round(float(one.mean_time), 9), round(float(one.p_empty), 9)
    (5.0, 0.2)
    >>> closed = state_dependent_queue([0.3, 0.2, 0.1, 0.0], [1.0])  # three sources, each asks every 10 s
    >>> round(float(closed.busy_share), 4)
    0.2679
    """
    birth = np.atleast_1d(units.non_negative(arrival_rate, "arrival_rate"))
    death = np.atleast_1d(units.non_negative(completion_rates, "completion_rates"))
    for rates, name in ((birth, "arrival_rate"), (death, "completion_rates")):
        if not rates.shape[-1]:
            raise ValueError(f"{name} = [] is not allowed: at least one rate")
    slots = death.shape[-1]
    last = max(slots, birth.shape[-1] - 1)
    birth, death = _states(birth, last + 1), _states(death, last)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(birth[..., :-1] == 0, -np.inf, np.log(birth[..., :-1]) - np.log(death))
        ratio = np.where(birth[..., -1] == 0, 0.0, birth[..., -1] / death[..., -1])
        log_p = np.cumsum(steps, axis=-1)
        log_p = np.where(np.isnan(log_p), -np.inf, log_p)  # behind a closed door nothing happens
    log_p = np.concatenate([np.zeros((*log_p.shape[:-1], 1)), log_p], axis=-1)
    endless = np.isposinf(log_p).any(axis=-1) | ((ratio >= 1) & (log_p[..., -1] > -np.inf))
    log_p = np.where(endless[..., None], 0.0, log_p)
    p = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
    tail = p[..., -1] * np.where(endless, 0.0, ratio) / np.where(endless, 1.0, 1 - ratio)
    beyond = tail / np.where(endless, 1.0, 1 - ratio)
    n = np.arange(last + 1)
    total = p.sum(axis=-1) + tail
    in_system = (p @ n + last * tail + beyond) / total
    waiting = (p @ np.maximum(n - slots, 0) + (last - slots) * tail + beyond) / total
    entering = p * birth
    throughput = (entering.sum(axis=-1) + tail * birth[..., -1]) / total
    late = (entering[..., slots:].sum(axis=-1) + tail * birth[..., -1]) / total
    served = np.where(throughput > 0, throughput, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_time = np.where(throughput > 0, in_system / served, 1 / death[..., 0])
        busy_share = np.where(throughput > 0, throughput / death[..., -1], 0.0)

    def settled(stable, unstable):
        return np.where(endless, unstable, stable)[()]

    return Queue(settled(p[..., 0] / total, 0.0), settled(in_system, np.inf), settled(mean_time, np.inf),
                 settled(busy_share, 1.0), settled(throughput, death[..., -1]), settled(late / served, 1.0),
                 settled(waiting / served, np.inf))  # fmt: skip


def _log_poisson(n, mean):
    """Log of the probability of n events, without the cancellation of its three large terms; ``loader2000``."""
    from scipy.special import gammaln

    x = np.maximum(n, 1.0)
    series = (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / x**2) / x**2) / x**2) / x
    small = gammaln(x + 1) - (x + 0.5) * np.log(x) + x - 0.5 * np.log(2 * np.pi)
    off = (mean - n) / x
    with np.errstate(divide="ignore"):
        logs = np.where(off < -0.5, np.log(mean / x), np.log1p(off))
        log_p = -np.where(x < 16, small, series) - x * (off - logs) - 0.5 * np.log(2 * np.pi * x)
    return np.where(n == 0, -mean, log_p)


def erlang_c(offered_load, n_servers):
    r"""
    Share of customers that wait in an M/M/c queue.

    Parameters
    ----------
    offered_load : array_like
        Arrival rate times mean service time, :math:`a`. [servers]
    n_servers : array_like
        Servers, :math:`c`, up to a million and more. [servers]

    Returns
    -------
    numpy.ndarray or float
        Probability of waiting; 1 where the load reaches the servers.

    Raises
    ------
    ValueError
        A negative load, or servers that are no whole number above 0.

    Notes
    -----
    .. math:: C = \frac{B}{1 - \rho (1 - B)}, \quad B = \frac{a^c / c!}{\sum_{k \le c} a^k / k!}, \quad \rho = a / c,

    where :math:`B` is a Poisson probability over its cumulative one.

    References
    ----------
    A. K. Erlang 1917; in R. W. Wolff, "Stochastic Modeling and the Theory of Queues", 1989. ``wolff1989``

    Examples
    --------
    >>> round(float(erlang_c(2.0, 3)), 6)
    0.444444
    """
    from scipy.special import gammaincc

    load = units.non_negative(offered_load, "offered_load")
    servers = units.count(n_servers, "n_servers", least=1)
    stable = np.where(load < servers, load, 0.0)
    blocked = np.exp(_log_poisson(servers, stable)) / gammaincc(servers + 1, stable)
    waits = blocked / (1 - stable / servers * (1 - blocked))
    return np.where(load < servers, waits, 1.0)[()]


def _mmc(arrival_rate, service_rate, n_servers):
    """Probability of waiting, and the rate at which the queue drains while all servers are busy."""
    arrival = units.non_negative(arrival_rate, "arrival_rate")
    service = units.positive(service_rate, "service_rate")
    waits = erlang_c(arrival / service, n_servers)
    return waits, np.maximum(np.asarray(n_servers) * service - arrival, 0.0)


def mean_wait(*, arrival_rate, service_rate, n_servers):
    r"""
    Mean wait in an M/M/c queue, over all customers.

    Parameters
    ----------
    arrival_rate, service_rate : array_like
        Of the whole queue and of one server. [1/s]
    n_servers : array_like
        Servers, :math:`c`. [servers]

    Returns
    -------
    numpy.ndarray or float
        :math:`C / (c \mu - \lambda)`, service not included; inf where the queue is unstable. [s]

    Raises
    ------
    ValueError
        Negative arrivals, service not above 0, servers that are no whole number above 0.

    Examples
    --------
    >>> round(float(mean_wait(arrival_rate=2, service_rate=1, n_servers=3)), 6)
    0.444444
    """
    waits, drain = _mmc(arrival_rate, service_rate, n_servers)
    with np.errstate(divide="ignore"):
        return np.where(drain > 0, waits / drain, np.inf)[()]


def wait_quantile(probability, *, arrival_rate, service_rate, n_servers):
    r"""
    Wait that a share of the customers of an M/M/c queue do not exceed.

    Parameters
    ----------
    probability : array_like
        That share, :math:`p`. [1]
    arrival_rate, service_rate, n_servers : array_like
        As in `mean_wait`.

    Returns
    -------
    numpy.ndarray or float
        :math:`\max(0, \ln(C / (1 - p)) / (c \mu - \lambda))`; inf where the queue is unstable. [s]

    Raises
    ------
    ValueError
        As `mean_wait`, or a probability outside [0, 1].

    Examples
    --------
    >>> round(float(wait_quantile(0.99, arrival_rate=2, service_rate=1, n_servers=3)), 4)
    3.7942
    """
    waits, drain = _mmc(arrival_rate, service_rate, n_servers)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.log(waits) - np.log1p(-units.probability(probability, "probability"))
        return np.where(drain > 0, np.where(excess > 0, excess / drain, 0.0), np.inf)[()]


def _root(excess, low, high):
    """Where a falling function crosses zero, element by element, to the last digit."""
    for _ in range(100):
        middle = 0.5 * (low + high)
        above = excess(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return 0.5 * (low + high)


def sojourn_quantile(probability, *, arrival_rate, service_rate, n_servers):
    r"""
    Time in an M/M/c queue, wait and service, that a share of its customers do not exceed.

    Parameters
    ----------
    probability : array_like
        That share, :math:`p`. [1]
    arrival_rate, service_rate, n_servers : array_like
        As in `mean_wait`.

    Returns
    -------
    numpy.ndarray or float
        Exact quantile; inf where the queue is unstable. [s]

    Raises
    ------
    ValueError
        As `wait_quantile`.

    Notes
    -----
    With :math:`\theta = c\mu - \lambda` the time exceeds :math:`t` with probability

    .. math:: e^{-\mu t} + C \mu \, \frac{e^{-\theta t} - e^{-\mu t}}{\mu - \theta},

    and :math:`e^{-\mu t}(1 + C \mu t)` where the two rates meet; solved by bisection. To add the *mean* service to a
    quantile of the wait, as is sometimes done, misses most of the tail where few of many customers wait.

    Examples
    --------
    >>> tail = dict(service_rate=1.0, n_servers=100)
    >>> [round(float(sojourn_quantile(0.99, arrival_rate=a, **tail)), 3) for a in (80, 95)]
    [4.606, 4.724]
    """
    waits, drain = _mmc(arrival_rate, service_rate, n_servers)
    pace = np.where(waits > 0, drain / service_rate, 1.0)
    with np.errstate(divide="ignore"):
        target = np.log1p(-units.probability(probability, "probability"))
    slower, apart = np.minimum(pace, 1.0), np.abs(1 - pace)

    def excess(time):
        with np.errstate(divide="ignore", invalid="ignore"):
            mixed = np.where(apart * time > 0, -np.expm1(-apart * time) / apart, time)
            return np.log(np.exp((slower - 1) * time) + waits * mixed) - slower * time - target

    solvable = (pace > 0) & np.isfinite(target)
    with np.errstate(divide="ignore", invalid="ignore"):
        high = np.where(solvable, (1 - target) * (1 + 1 / pace), 0.0)
    time = np.where(solvable, _root(excess, np.zeros_like(high), high), np.inf) / service_rate
    return np.where((target == 0) & (pace > 0), 0.0, time)[()]


def finite_source_utilization(n_sessions, n_slots, *, busy_time, think_time):
    r"""
    Busy share of slots that serve a fixed number of sessions, each of which thinks between calls: M/M/c//N.

    Parameters
    ----------
    n_sessions, n_slots : array_like
        Sessions that are open, and calls that are served at once. [sessions], [slots]
    busy_time, think_time : array_like
        Mean time of a call in service, and mean time until the next one. [s]

    Returns
    -------
    numpy.ndarray or float
        Mean busy slots over all slots.

    Raises
    ------
    ValueError
        Sessions or slots that are no whole numbers, no slot, a time that is negative.

    Notes
    -----
    `state_dependent_queue` with :math:`\lambda_n = (N - n) / Z` and :math:`\mu_n = \min(n, c) / S`. The law of think
    time does not matter, that of service does once sessions wait for slots.

    Examples
    --------
    >>> round(float(finite_source_utilization(3, 1, busy_time=1, think_time=10)), 4)
    0.2679
    """
    sessions = units.count(n_sessions, "n_sessions")
    slots = units.count(n_slots, "n_slots", least=1)
    busy, think = units.non_negative(busy_time, "busy_time"), units.non_negative(think_time, "think_time")

    with np.errstate(invalid="ignore"):
        working = np.where(busy > 0, busy / (busy + think), 0.0)

    def one(sessions, slots, working):
        at_most = min(sessions / slots, 1.0)
        if at_most == 0 or working in (0, 1):
            return at_most * working
        n = np.arange(int(sessions) + 1)
        completions = np.minimum(n[1:], slots) * (1 - working)
        return at_most * state_dependent_queue((sessions - n) * working, completions).busy_share

    return np.vectorize(one, otypes=[float])(sessions, slots, working)[()]


class Ceilings(NamedTuple):
    """What `busy_share_ceilings` returns; fields are numbers or arrays."""

    compute: float
    residency: float
    link: float


def busy_share_ceilings(*, busy_time, think_time, kv_bytes, memory_bytes, link_bytes_per_s, step_concurrency):
    r"""
    What bounds the busy share of a replica that serves sessions with tool waits.

    Parameters
    ----------
    busy_time, think_time : array_like
        Mean time of a call in service, and between calls. [s]
    kv_bytes : array_like
        KV cache of one session. [B]
    memory_bytes : array_like
        Memory left for KV caches. [B]
    link_bytes_per_s : array_like
        Link over which contexts are moved out and back, both ways together. [B/s]
    step_concurrency : array_like
        Batch that saturates the replica. [sequences]

    Returns
    -------
    Ceilings
        Shares of that batch: `compute` is 1; `residency`, if waiting contexts are held in memory; `link`, if each
        waiting context is moved out and back. None above 1.

    Raises
    ------
    ValueError
        A time that is negative, no time at all, or another argument not above 0.

    Notes
    -----
    .. math:: \text{residency} = \frac{M}{K} \, \frac{S}{S + Z} \, \frac{1}{B}, \qquad
       \text{link} = \frac{W S}{2 K B}

    Examples
    --------
    >>> agents = dict(busy_time=10, think_time=30, kv_bytes=40e9, memory_bytes=500e9, step_concurrency=32)
    >>> [round(float(share), 3) for share in busy_share_ceilings(link_bytes_per_s=64e9, **agents)]
    [1.0, 0.098, 0.25]
    """
    busy, think = units.non_negative(busy_time, "busy_time"), units.non_negative(think_time, "think_time")
    units.positive(busy + think, "busy_time + think_time")
    batch = units.positive(step_concurrency, "step_concurrency")
    context = units.positive(kv_bytes, "kv_bytes") * batch
    residency = units.positive(memory_bytes, "memory_bytes") / context * busy / (busy + think)
    link = units.positive(link_bytes_per_s, "link_bytes_per_s") * busy / (2 * context)
    shares = np.broadcast_arrays(1.0, np.minimum(residency, 1), np.minimum(link, 1))
    return Ceilings(*(share[()] for share in shares))


def servers_for(*, arrival_rate, service_rate, probability, max_wait):
    """
    Fewest servers of an M/M/c queue that keep a quantile of the wait below a limit.

    Parameters
    ----------
    arrival_rate, service_rate : array_like
        Of the whole queue and of one server. [1/s]
    probability : array_like
        Share of customers that must not wait longer, below 1. [1]
    max_wait : array_like
        The limit. [s]

    Returns
    -------
    numpy.ndarray or int
        Servers.

    Raises
    ------
    ValueError
        No number of servers reaches it: a probability of 1 with any load; or bad input as in `wait_quantile`.

    Examples
    --------
    >>> servers_for(arrival_rate=80, service_rate=1, probability=0.99, max_wait=0.1)
    np.int64(97)
    """
    load = units.non_negative(arrival_rate, "arrival_rate") / units.positive(service_rate, "service_rate")
    allowed = units.non_negative(max_wait, "max_wait")
    if np.any((units.probability(probability, "probability") == 1) & (load > 0)):
        raise ValueError("probability = 1 is not allowed: some customer always waits longer, below 1 is needed")
    units.positive(1 / (1 + load), "1 / (1 + arrival_rate / service_rate)")

    def waits(servers):
        return wait_quantile(probability, arrival_rate=arrival_rate, service_rate=service_rate, n_servers=servers)

    low, high = np.broadcast_arrays(np.floor(load), np.floor(load) + 1, allowed, probability)[:2]
    while np.any(late := waits(high) > allowed):
        low, high = np.where(late, high, low), np.where(late, 2 * high, high)
    while np.any(high - low > 1):
        middle = np.maximum(np.floor((low + high) / 2), 1)
        late = waits(middle) > allowed
        low, high = np.where(late, middle, low), np.where(late, high, middle)
    return np.asarray(high, dtype=int)[()]


def replicas_for(arrival_rate, *, completion_rates, max_time):
    """
    Fewest replicas that keep the mean time of a request below a limit when arrivals are dealt among them at random.

    Parameters
    ----------
    arrival_rate : array_like
        Of the whole fleet, such as one number an hour. [1/s]
    completion_rates : array_like, shape (n,)
        Of one replica, as in `state_dependent_queue`. [1/s]
    max_time : float
        The limit, above the time of a lone request. [s]

    Returns
    -------
    numpy.ndarray or int
        Replicas, at least 1 where anything arrives.

    Raises
    ------
    ValueError
        A limit that not even a lone request keeps.

    Examples
    --------
    >>> replicas_for([0, 1, 75], completion_rates=[1.0], max_time=4.0)
    array([  0,   2, 100])
    """
    fleet = units.non_negative(arrival_rate, "arrival_rate")
    rates = units.non_negative(completion_rates, "completion_rates")
    limit = float(units.positive(max_time, "max_time"))
    alone = float(state_dependent_queue(0.0, rates).mean_time)
    if not alone < limit:
        raise ValueError(f"max_time = {limit:g} is not allowed: above {alone:g}, which a lone request takes")
    one = _root(lambda rate: limit - state_dependent_queue(rate, rates).mean_time, 0.0, float(rates[-1]))
    return np.ceil(fleet / one * (1 - 1e-12)).astype(int)[()]


def batch_latency_quantile(probability, *, lengths, queue):
    r"""
    Latency of a batching replica that a share of its requests do not exceed.

    Parameters
    ----------
    probability : float
        That share. [1]
    lengths : array_like, shape (n,)
        Work of requests, each as likely: a sample, or quantiles of tokens to generate. [token]
    queue : Queue
        The replica at its load, from `state_dependent_queue`.

    Returns
    -------
    float
        Quantile of wait and service. [s]

    Raises
    ------
    ValueError
        A probability outside [0, 1], negative lengths.

    Notes
    -----
    A request of length :math:`x` is served in :math:`x` times the mean time per token, after a wait that has an atom at
    zero and an exponential tail. The mean given the length is exact under processor sharing; that the time per token
    varies little around it is an approximation, the better the more requests share the replica. Against simulation at
    loads up to 0.8, with a pace that stops growing at 16 or 64 in hand, the median and the 90th percentile of
    exponential and lognormal lengths are within 2 %, the 99th within 4 %. Do not use it with fewer in hand, nor for
    lengths that are all alike near saturation: there the 99th is up to 70 % too low.

    Examples
    --------
    >>> busy = state_dependent_queue(8.0, np.minimum(np.arange(1, 33), 16) * 1.0)
    >>> round(batch_latency_quantile(0.99, lengths=np.arange(1, 200), queue=busy), 2)
    1.98
    """
    target = 1 - float(units.probability(probability, "probability"))
    lengths = units.non_negative(lengths, "lengths")
    service = lengths * (queue.mean_time - queue.mean_wait) / lengths.mean()
    if not np.isfinite(queue.mean_time) or (target == 0 and queue.p_wait > 0):
        return np.inf
    pace = queue.p_wait / queue.mean_wait if queue.mean_wait > 0 else np.inf

    def excess(time):
        late = np.where(service < time, queue.p_wait * np.exp(-pace * np.maximum(time - service, 0)), 1.0)
        return late.mean() - target

    longest = service.max()
    if target > 0 and queue.mean_wait > 0:
        longest += max(0.0, np.log(queue.p_wait / target)) / pace
    return float(_root(excess, 0.0, longest))


class Autoscaled(NamedTuple):
    """What `perfect_autoscaler` returns."""

    servers: np.ndarray
    peak: int
    mean: float
    server_bins: int


def _servers(counts, capacity_per_server):
    capacity = units.positive(capacity_per_server, "capacity_per_server")
    counts = units.non_negative(counts, "counts")
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"counts = {counts.shape} is not allowed: one row of at least one bin")
    return np.ceil(counts / capacity * (1 - 1e-12)).astype(int)  # a part in 1e12 above a whole number is rounding


def perfect_autoscaler(counts, *, capacity_per_server):
    """
    Lower bound of any autoscaler: in each bin just the servers that its demand needs.

    Parameters
    ----------
    counts : array_like, shape (bins,)
        Demand by bin, such as requests or tokens. [unit/bin]
    capacity_per_server : float
        What one server does in a bin, within its latency target. [unit/bin]

    Returns
    -------
    Autoscaled
        `servers` by bin, their `peak` and `mean`, and `server_bins` in all.

    Raises
    ------
    ValueError
        Demand that is negative or nan, no bin, capacity not above 0.

    Examples
    --------
    >>> perfect_autoscaler([5, 25, 10], capacity_per_server=10).server_bins
    5
    """
    servers = _servers(counts, capacity_per_server)
    return Autoscaled(servers, int(servers.max()), float(servers.mean()), int(servers.sum()))


class Lagged(NamedTuple):
    """What `lagged_autoscaler` returns."""

    servers: np.ndarray
    peak: int
    mean: float
    server_bins: int
    unserved_share: float


def lagged_autoscaler(counts, *, capacity_per_server, lag_bins, hold_bins=0, headroom=0.0):
    """
    Autoscaler that sees demand late: it runs what the busiest of some past bins needed, with headroom.

    Parameters
    ----------
    counts, capacity_per_server
        As in `perfect_autoscaler`.
    lag_bins : int
        Bins from a demand to the servers that answer it: to notice, to start, to load weights.
    hold_bins : int
        Further bins for which a server is kept once it runs.
    headroom : float
        Share of servers above what was seen.

    Returns
    -------
    Lagged
        As `Autoscaled`, and `unserved_share` of the demand that found no server in its bin.

    Raises
    ------
    ValueError
        As `perfect_autoscaler`; bins that are no whole number, negative headroom.

    Examples
    --------
    >>> late = lagged_autoscaler([10, 30, 30, 10], capacity_per_server=10, lag_bins=1)
    >>> late.servers, late.unserved_share
    (array([1, 1, 3, 3]), 0.25)
    """
    lag, hold = (int(units.count(bins, name)) for bins, name in ((lag_bins, "lag_bins"), (hold_bins, "hold_bins")))
    wanted = _servers(np.multiply(counts, 1 + units.non_negative(headroom, "headroom")), capacity_per_server)
    counts = np.asarray(counts, dtype=float)
    seen = np.concatenate([np.repeat(wanted[:1], lag + hold), wanted])[: len(wanted) + hold]
    servers = np.lib.stride_tricks.sliding_window_view(seen, hold + 1).max(axis=-1)
    missed = np.maximum(counts - servers * capacity_per_server, 0).sum()
    unserved = missed / counts.sum() if counts.sum() else 0.0
    return Lagged(servers, int(servers.max()), float(servers.mean()), int(servers.sum()), float(unserved))


def idle_blocks(servers, *, fleet):
    """
    Stretches in which the servers of a fleet are idle, when the last to start is the first to stop.

    Parameters
    ----------
    servers : array_like, shape (bins,)
        Servers needed by bin, as of `perfect_autoscaler`.
    fleet : int
        Servers that there are.

    Returns
    -------
    numpy.ndarray
        Length of every stretch of every server. [bin]

    Raises
    ------
    ValueError
        Servers that are no whole number, or more than the fleet.

    Examples
    --------
    >>> idle_blocks([2, 1, 1, 2, 0], fleet=2)
    array([1, 2, 1])
    """
    needed = units.count(servers, "servers")
    if np.any(needed > units.count(fleet, "fleet")):
        raise ValueError(f"servers = {needed.max():g} is not allowed: at most fleet = {fleet}")
    idle = needed < np.arange(1, int(fleet) + 1)[:, None]
    edges = np.diff(np.pad(idle, ((0, 0), (1, 1))).astype(int), axis=1)
    return np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]


def pooling_gain(counts, *, probability=1.0, shifts=0):
    r"""
    Capacity of separate fleets over that of one fleet that serves all.

    Parameters
    ----------
    counts : array_like, shape (services, bins)
        Demand of each service. [unit/bin]
    probability : float
        Share of bins that a fleet must cover; 1 covers the peak. [1]
    shifts : array_like
        Bins by which each service is moved round the clock, as time zones do.

    Returns
    -------
    float
        :math:`\sum_i q_p(x_i) / q_p(\sum_i x_i)`; at least 1 at the peak.

    Raises
    ------
    ValueError
        Demand that is negative or nan or has no two axes, a probability outside [0, 1], shifts that are not
        whole.

    Examples
    --------
    >>> float(pooling_gain([[1, 3, 1, 3], [3, 1, 3, 1]]))
    1.5
    """
    counts = units.non_negative(counts, "counts")
    if counts.ndim != 2 or not counts.size:
        raise ValueError(f"counts = {counts.shape} is not allowed: services by bins")
    share = units.probability(probability, "probability")
    shifts = np.broadcast_to(units.count(np.mod(shifts, counts.shape[1]), "shifts"), len(counts)).astype(int)
    moved = np.stack([np.roll(row, shift) for row, shift in zip(counts, shifts, strict=True)])
    return (np.quantile(moved, share, axis=1).sum() / np.quantile(moved.sum(axis=0), share))[()]
