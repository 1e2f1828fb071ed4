"""What does one more chip buy? Communication, the slowest of n, failures and checkpoints, larger batches."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.special import lambertw, ndtri_exp

from econmodel.units import count, non_negative, positive


def _ring(n_bytes, n, bandwidth, latency):
    return 2 * (n - 1) / n * n_bytes / bandwidth + 2 * (n - 1) * latency


def all_reduce_time(n_bytes, n_chips, *, bandwidth_bytes_per_s, latency_s=0.0, algorithm="ring"):
    r"""
    Time until every chip holds the sum of what all chips held.

    Parameters
    ----------
    n_bytes : array_like
        Size of the vector on each chip. [B]
    n_chips : array_like
        Chips that take part. [1]
    bandwidth_bytes_per_s : array_like
        Rate of one chip's link, one direction. [B/s]
    latency_s : array_like
        Delay of one hop. [s]
    algorithm : str
        "ring", or "tree" (two binary trees, each for one half of the vector, pipelined).

    Returns
    -------
    numpy.ndarray or float
        Ring :math:`2 \frac{n-1}{n} \frac{V}{W} + 2 (n-1) a`, which sends the fewest bytes; tree
        :math:`2 \frac{V}{W} + 2 \lceil \log_2 n \rceil a`, which takes the fewest hops. 0 on one chip. [s]

    Raises
    ------
    ValueError
        `n_bytes` or `latency_s` below 0, no chip or a fraction of one, a bandwidth not above 0, another algorithm.

    References
    ----------
    R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH", 2005.
    ``thakur2005collective``

    Examples
    --------
    >>> link = dict(bandwidth_bytes_per_s=50e9, latency_s=5e-6)
    >>> [round(1e3 * float(all_reduce_time(1e9, n, **link)), 2) for n in (1, 2, 1024)]
    [0.0, 20.01, 50.19]
    >>> round(1e3 * float(all_reduce_time(1e9, 1024, algorithm="tree", **link)), 2)
    40.1
    """
    n_bytes, n = non_negative(n_bytes, "n_bytes"), count(n_chips, "n_chips", least=1)
    bandwidth = positive(bandwidth_bytes_per_s, "bandwidth_bytes_per_s")
    latency = non_negative(latency_s, "latency_s")
    if algorithm == "ring":
        return _ring(n_bytes, n, bandwidth, latency)[()]
    if algorithm == "tree":
        return np.where(n > 1, 2 * n_bytes / bandwidth + 2 * np.ceil(np.log2(n)) * latency, 0.0)[()]
    raise ValueError(f"algorithm = {algorithm!r} is not allowed: ring or tree")


def exchange_time(
    n_bytes, n_copies, *, between_bytes_per_s, inside_bytes_per_s=np.inf, node_copies=1, latency_s=0.0, rings=1
):
    r"""
    Time in which the copies of a model add up their gradients: rings inside the nodes, then between them.

    Parameters
    ----------
    n_bytes : array_like
        What each chip of a copy brings. [B]
    n_copies : array_like
        Copies that are trained side by side, whole or not; one or less have nothing to exchange. [1]
    between_bytes_per_s, inside_bytes_per_s : array_like
        Rate of one chip's link to other nodes and within its own, one direction. [B/s]
    node_copies : array_like
        Copies that share a node, one at least. [1]
    latency_s : array_like
        Delay of one hop from node to node. [s]
    rings : array_like
        Exchanges one after the other that together move `n_bytes`, such as one per layer. [1]

    Returns
    -------
    numpy.ndarray or float
        With :math:`d` copies, :math:`k = \min(d, \text{node copies})` of them in a node and :math:`m = d / k` nodes,
        :math:`2\frac{k-1}{k}\frac{V}{W_i} + 2\frac{m-1}{m}\frac{V}{k W_b} + 2 r (m - 1) a`: each chip of a node carries
        one :math:`k`-th of the sum to the other nodes. [s]

    Raises
    ------
    ValueError
        A rate or a number of copies not above 0, an argument below 0.

    Examples
    --------
    >>> links = dict(inside_bytes_per_s=450e9, between_bytes_per_s=50e9, node_copies=8)
    >>> [round(float(exchange_time(16e9, d, **links)), 3) for d in (1, 8, 64)]
    [0.0, 0.062, 0.132]
    """
    n_bytes, latency = non_negative(n_bytes, "n_bytes"), non_negative(latency_s, "latency_s")
    copies = np.maximum(positive(n_copies, "n_copies"), 1)
    inside = np.minimum(copies, np.maximum(positive(node_copies, "node_copies"), 1))
    delay = positive(rings, "rings") * latency
    within = _ring(n_bytes, inside, positive(inside_bytes_per_s, "inside_bytes_per_s"), 0.0)
    among = _ring(n_bytes / inside, copies / inside, positive(between_bytes_per_s, "between_bytes_per_s"), delay)
    return (within + among)[()]


def tensor_parallel_time(tokens_per_chip, *, layers, hidden_size, width, bandwidth_bytes_per_s, activation_bytes=2.0):
    r"""
    Time in which chips that split every layer among them add up its activations.

    Parameters
    ----------
    tokens_per_chip : array_like
        Tokens of a step divided by all chips. [token]
    layers, hidden_size : array_like
        Of the model. [1]
    width : array_like
        Chips that share a layer. [1]
    bandwidth_bytes_per_s : array_like
        Rate of one chip's link among them, one direction. [B/s]
    activation_bytes : array_like
        Size of one element. [B]

    Returns
    -------
    numpy.ndarray or float
        Four all-reduces per layer and token, two forward and two backward. A chip sees :math:`t` times its own
        tokens, so :math:`4 L h b \cdot 2 (t - 1) x / W`. [s]

    Raises
    ------
    ValueError
        `tokens_per_chip` below 0, another argument not above 0, `width` below 1.

    References
    ----------
    M. Shoeybi and others, "Megatron-LM", 2019, section 3. ``megatron2019``

    Examples
    --------
    >>> node = dict(layers=96, hidden_size=12288, width=8, bandwidth_bytes_per_s=300e9)
    >>> round(float(tensor_parallel_time(6144, **node)), 2)
    2.71
    """
    elements = positive(layers, "layers") * positive(hidden_size, "hidden_size")
    volume = 4 * elements * positive(activation_bytes, "activation_bytes") * non_negative(tokens_per_chip, "tokens")
    others = count(width, "width", least=1) - 1
    return (2 * others * volume / positive(bandwidth_bytes_per_s, "bandwidth_bytes_per_s"))[()]


#: Points and weights of the Gumbel density, for integrals over the maximum of many.
_GUMBEL = np.arange(-5, 45, 0.1)
_WEIGHT = np.exp(-_GUMBEL - np.exp(-_GUMBEL))
_WEIGHT /= _WEIGHT.sum()


def slowest_of(n, *, mean, std):
    r"""
    Expected maximum of n independent normal times: what a synchronized step waits for.

    Parameters
    ----------
    n : array_like
        Workers. [1]
    mean, std : array_like
        Mean and standard deviation of one worker's time. [s]

    Returns
    -------
    numpy.ndarray or float
        :math:`\mu + \sigma \int_0^1 \Phi^{-1}(u^{1/n}) \, du`, exact to rounding for one worker and for 1e9. [s]

    Raises
    ------
    ValueError
        No worker or a fraction of one, `mean` nan, `std` below 0.

    Notes
    -----
    With :math:`u = \exp(-e^{-g})` the integral runs over the Gumbel density, where equal steps converge faster than any
    power of their width; the quantile is taken from the logarithm of the probability. For large n the integral tends to
    :math:`b_n + \gamma / b_n` with :math:`b_n = \Phi^{-1}(1 - 1/n)`, slowly.

    Examples
    --------
    >>> [round(float(slowest_of(n, mean=0, std=1)), 4) for n in (1, 2, 8, 10**4, 10**9)]
    [0.0, 0.5642, 1.4236, 3.8516, 6.0877]
    """
    n, std = count(n, "n", least=1), non_negative(std, "std")
    mean = np.asarray(mean, dtype=float)
    if np.isnan(mean).any():
        raise ValueError("mean = nan is not allowed: a number")
    spread = ndtri_exp(-np.exp(-_GUMBEL) / n[..., None]) @ _WEIGHT
    return (mean + std * np.where(n == 1, 0.0, spread))[()]


def slowest_of_sample(n, sample):
    r"""
    Expected maximum of n times drawn from measured ones.

    Parameters
    ----------
    n : array_like
        Workers. [1]
    sample : array_like, shape (values,)
        Measured times of single workers. [s]

    Returns
    -------
    numpy.ndarray or float
        :math:`\sum_i x_{(i)} \left[ (i/m)^n - ((i-1)/m)^n \right]` over the m ordered values, exact; it tends to
        the largest value, since nothing slower was seen. [s]

    Raises
    ------
    ValueError
        No worker or a fraction of one; a sample that is empty or holds nan.

    Examples
    --------
    >>> hosts = [1.0] * 199 + [1.1]  # one host in 200 is a tenth slower
    >>> [round(float(slowest_of_sample(n, hosts)), 3) for n in (1, 10, 100, 1000)]
    [1.0, 1.005, 1.039, 1.099]
    """
    n = count(n, "n", least=1)
    ordered = np.sort(np.asarray(sample, dtype=float).ravel())
    if ordered.size == 0 or np.isnan(ordered).any():
        raise ValueError("sample is not allowed: empty or nan")
    with np.errstate(divide="ignore"):
        log_share = np.log(np.arange(ordered.size + 1) / ordered.size)
    return (np.diff(np.exp(n[..., None] * log_share)) @ ordered)[()]


def checkpoint_interval(*, checkpoint_time, mtbf, restart_time=0.0):
    r"""
    Work between two checkpoints that makes `goodput` largest.

    Parameters
    ----------
    checkpoint_time : array_like
        What one checkpoint costs. [s]
    mtbf : array_like
        Mean time between failures of the whole job, exponential. [s]
    restart_time : array_like
        Detection and restart after a failure. It costs, but does not move the optimum. [s]

    Returns
    -------
    numpy.ndarray or float
        :math:`\tau = M \left[ 1 + W_0(-e^{-1 - \delta/M}) \right]`, never above :math:`M`; `inf` without failures. [s]

    Raises
    ------
    ValueError
        `checkpoint_time` or `restart_time` below 0, `mtbf` not above 0.

    Notes
    -----
    For :math:`\delta \ll M` it tends to Young's :math:`\sqrt{2 \delta M}`. Where the exponential rounds to the branch
    point of Lambert's function, its series in :math:`p = \sqrt{2 (1 - e^{-\delta/M})}` takes over.

    References
    ----------
    J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", 2006. ``daly2006``

    Examples
    --------
    >>> hour = 3600
    >>> round(float(checkpoint_interval(checkpoint_time=60, mtbf=3 * hour)) / 60, 1)
    18.3
    """
    cost, mtbf = non_negative(checkpoint_time, "checkpoint_time"), positive(mtbf, "mtbf")
    non_negative(restart_time, "restart_time")
    cost, mtbf = np.broadcast_arrays(cost, mtbf)
    finite = np.where(np.isinf(mtbf), 1, mtbf)
    share = cost / finite
    p = np.sqrt(-2 * np.expm1(-share))
    coefficients = [0, 1, -1 / 3, 11 / 72, -43 / 540, 769 / 17280, -221 / 8505, 680863 / 43545600]
    near = np.polynomial.polynomial.polyval(p, coefficients)
    exact = 1 + lambertw(-np.exp(-1 - share)).real
    ratio = np.where(share < 1e-3, near, exact)
    return np.where(np.isinf(mtbf), np.where(cost == 0, 0.0, np.inf), finite * ratio)[()]


def goodput(*, interval, checkpoint_time, mtbf, restart_time=0.0):
    r"""
    Share of the time in which a job makes progress that lasts.

    Parameters
    ----------
    interval : array_like
        Work between two checkpoints. [s]
    checkpoint_time, mtbf, restart_time : array_like
        As for `checkpoint_interval`; failures also strike while a checkpoint is written and while the job restarts. [s]

    Returns
    -------
    numpy.ndarray or float
        :math:`\frac{\tau}{M} e^{-R/M} \big/ \left( e^{(\tau + \delta)/M} - 1 \right)`. [1]

    Raises
    ------
    ValueError
        `mtbf` not above 0 or another argument below 0.

    References
    ----------
    J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", 2006. ``daly2006``

    Examples
    --------
    >>> job = dict(checkpoint_time=60, mtbf=3 * 3600, restart_time=600)
    >>> round(float(goodput(interval=checkpoint_interval(**job), **job)), 3)
    0.85
    """
    tau, cost = non_negative(interval, "interval"), non_negative(checkpoint_time, "checkpoint_time")
    mtbf, restart = positive(mtbf, "mtbf"), non_negative(restart_time, "restart_time")
    tau, cost, mtbf, restart = np.broadcast_arrays(tau, cost, mtbf, restart)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, d = tau / mtbf, cost / mtbf
        share = x * np.exp(-restart / mtbf) / np.expm1(x + d)
        share = np.where(np.isinf(mtbf), tau / (tau + cost), share)
    at_once = np.where(np.isinf(mtbf), 1.0, np.exp(-restart / mtbf))
    share = np.where((tau == 0) & (cost == 0), at_once, share)
    return np.where(np.isinf(tau), np.where(np.isinf(mtbf) & np.isfinite(cost), 1.0, 0.0), share)[()]


class StepTime(NamedTuple):
    """What one training step consists of, in seconds."""

    compute: np.ndarray
    tensor: np.ndarray
    bubble: np.ndarray
    exchange: np.ndarray
    waiting: np.ndarray

    @property
    def total(self):
        """Sum of the parts. [s]"""
        return self.compute + self.tensor + self.bubble + self.exchange + self.waiting


def step_time(
    n_chips,
    *,
    compute_time,
    exchange_bytes,
    between_bytes_per_s,
    inside_bytes_per_s=np.inf,
    node_chips=1,
    copy_chips=1,
    latency_s=0.0,
    rings=1,
    exposed=1.0,
    tensor_time=0.0,
    stages=1,
    chunks=1,
    microbatches=1.0,
    jitter=0.0,
):
    r"""
    Time of one synchronized training step, part by part.

    Parameters
    ----------
    n_chips : array_like
        All chips. [1]
    compute_time : array_like
        Arithmetic of one chip in one step: constant if the batch grows with the chips, falling as 1/n if not. [s]
    exchange_bytes : array_like
        Gradients and weights that each chip adds up with its fellows in other copies. [B]
    between_bytes_per_s, inside_bytes_per_s, latency_s, rings
        As for `exchange_time`.
    node_chips, copy_chips : array_like
        Chips of a node, and of one copy of the model. [1]
    exposed : array_like
        Exchange that is not hidden behind arithmetic, as a multiple of the exchange at the rate of the links. [1]
    tensor_time : array_like
        From `tensor_parallel_time`. [s]
    stages, chunks, microbatches : array_like
        Stages of the pipeline, pieces into which each stage is cut, micro-batches of a copy in a step. [1]
    jitter : array_like
        Standard deviation of one chip's time over `compute_time`. [1]

    Returns
    -------
    StepTime
        `compute`; `tensor`; `bubble` = compute (s - 1) / (v m); `exchange`; `waiting` = compute x jitter x expected
        maximum of n standard normals. A copy that needs more chips than there are has `exchange` `inf`. [s]

    Raises
    ------
    ValueError
        An argument that is negative, or zero where that has no meaning.

    References
    ----------
    D. Narayanan and others, "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM", 2021,
    section 2. ``megatron2021``

    Examples
    --------
    >>> node = dict(inside_bytes_per_s=450e9, between_bytes_per_s=50e9, node_chips=8, exchange_bytes=16e9)
    >>> parts = step_time(1024, compute_time=1.0, jitter=0.01, **node)
    >>> [round(float(part), 3) for part in parts]
    [1.0, 0.0, 0.0, 0.142, 0.032]
    """
    n, compute = count(n_chips, "n_chips", least=1), positive(compute_time, "compute_time")
    copy, node = count(copy_chips, "copy_chips", least=1), count(node_chips, "node_chips", least=1)
    links = dict(inside_bytes_per_s=inside_bytes_per_s, between_bytes_per_s=between_bytes_per_s)
    node_copies = np.maximum(node / copy, 1)
    volume = exchange_time(exchange_bytes, n / copy, node_copies=node_copies, **links)
    delay = exchange_time(0, n / copy, node_copies=node_copies, latency_s=latency_s, rings=rings, **links)
    exchange = np.where(n < copy, np.inf, non_negative(exposed, "exposed") * volume + delay)
    idle = (count(stages, "stages", least=1) - 1) / count(chunks, "chunks", least=1)
    bubble = compute * idle / positive(microbatches, "microbatches")
    waiting = compute * slowest_of(n, mean=0, std=jitter)
    parts = np.broadcast_arrays(compute, non_negative(tensor_time, "tensor_time"), bubble, exchange, waiting)
    return StepTime(*(part[()] for part in parts))


def scaling_efficiency(n_chips, **step):
    """
    Share of a training step that is arithmetic.

    Parameters
    ----------
    n_chips : array_like
        All chips. [1]
    **step
        Further arguments of `step_time`.

    Returns
    -------
    numpy.ndarray or float
        compute / sum of all parts, in (0, 1]; 1 on one chip without a pipeline, 0 where a copy does not fit. [1]

    Raises
    ------
    ValueError
        As for `step_time`.

    Examples
    --------
    >>> slow, fast = (dict(compute_time=1.0, exchange_bytes=2e9, between_bytes_per_s=w) for w in (5e9, 50e9))
    >>> [round(float(scaling_efficiency(n, **link)), 3) for link in (slow, fast) for n in (1, 8, 4096)]
    [1.0, 0.588, 0.556, 1.0, 0.935, 0.926]
    """
    parts = step_time(n_chips, **step)
    return (parts.compute / parts.total)[()]


def tokens_to_target(batch, *, least_tokens, critical_batch):
    r"""
    Tokens that a training needs to reach its target, with the batch it uses.

    Parameters
    ----------
    batch : array_like
        Tokens of one step. [token]
    least_tokens : array_like
        What the smallest batches need. [token]
    critical_batch : array_like
        Batch at which twice as many are needed. [token]

    Returns
    -------
    numpy.ndarray or float
        :math:`T_0 (1 + B / B_c)`. [token]

    Raises
    ------
    ValueError
        An argument not above 0.

    References
    ----------
    S. McCandlish and others, "An Empirical Model of Large-Batch Training", 2018, section 2. ``mccandlish2018``

    Examples
    --------
    >>> round(float(tokens_to_target(4e6, least_tokens=1e12, critical_batch=40e6)) / 1e12, 2)
    1.1
    """
    batch, critical = positive(batch, "batch"), positive(critical_batch, "critical_batch")
    return (positive(least_tokens, "least_tokens") * (1 + batch / critical))[()]


def best_batch(n_chips, *, token_time, step_overhead, critical_batch):
    r"""
    Batch with which n chips reach the target first.

    Parameters
    ----------
    n_chips : array_like
        All chips. [1]
    token_time : array_like
        Time of one chip for one token, whatever the batch. [s/token]
    step_overhead : array_like
        What a step takes beyond that and does not shrink with more chips: exposed exchange, bubble. [s]
    critical_batch : array_like
        As for `tokens_to_target`. [token]

    Returns
    -------
    numpy.ndarray or float
        :math:`\sqrt{c B_c n / a}`, the minimum of :math:`(1 + B/B_c)(a/n + c/B)`: the batch grows with the root of the
        cluster, and so do tokens and steps fall short of it. [token]

    Raises
    ------
    ValueError
        An argument not above 0.

    Examples
    --------
    >>> job = dict(token_time=3e-3, step_overhead=0.5, critical_batch=40e6)
    >>> [round(float(best_batch(n, **job)) / 1e6, 1) for n in (1e3, 1e5)]
    [2.6, 25.8]
    """
    overhead, critical = positive(step_overhead, "step_overhead"), positive(critical_batch, "critical_batch")
    work = positive(token_time, "token_time") / positive(n_chips, "n_chips")
    return np.sqrt(overhead * critical / work)[()]


def step_terms(runs):
    r"""
    What a step consists of before any constant is fitted.

    Parameters
    ----------
    runs : pandas.DataFrame
        One run a line, as from `catalog.training_runs`.

    Returns
    -------
    pandas.DataFrame
        `runs` with `copy` (accelerators that hold one set of weights), `tensor_time` [s], `bubble` (tokens of
        one accelerator that filling the pipeline costs), `volume` (`exchange_time` at the rate of the links) [s],
        `hops` (the same at a latency of one) and `spread` (expected maximum of n standard normals).

    Notes
    -----
    More accelerators than sequences must share one: then the layers are split over
    :math:`\lceil \text{sequence} / \text{tokens} \rceil` of them, within the node.

    Examples
    --------
    See chapter 3.
    """
    shared = runs["tensor"] * runs["stages"] * runs["context"]
    width = np.where(shared > 1, runs["tensor"], np.maximum(np.ceil(runs["sequence"] / runs["tokens"]), 1))
    copy = width * runs["stages"]
    shape = {name: runs[name].fillna(1) for name in ("layers", "hidden_size")}
    tensor = tensor_parallel_time(runs["tokens"], width=width, bandwidth_bytes_per_s=runs["scale_up"], **shape)
    bubble = (runs["stages"] - 1) / runs["chunks"] * runs["sequence"] * runs["microbatch"] / (copy * runs["context"])
    exchange = dict(
        n_copies=runs["n_accelerators"] / copy,
        node_copies=np.maximum(runs["node"] / copy, 1),
        inside_bytes_per_s=runs["scale_up"],
        between_bytes_per_s=runs["between"],
    )
    volume = exchange_time(runs["params"] * runs["exchange"] / copy, **exchange)
    hops = exchange_time(0, latency_s=1, rings=runs["rings"], **exchange)
    spread = slowest_of(runs["n_accelerators"], mean=0, std=1)
    return runs.assign(copy=copy, tensor_time=tensor, bubble=bubble, volume=volume, hops=hops, spread=spread)


#: Constants of `fit_step_time`, and the column of the runs over whose names each is shared.
SHARED = {"token_time": "series", "exposed": "software", "latency": "machine", "jitter": "machine"}

_TERMS = ("tokens", "tensor_time", "bubble", "volume", "hops", "spread")


class StepFit(NamedTuple):
    """Fitted constants; `names` are pairs such as ("exposed", "NeMo on H100")."""

    names: list
    best: np.ndarray
    draws: np.ndarray


def fit_step_time(runs, *, guesses, noise, rng, n=1000):
    r"""
    Fit what runs of one machine, one software and one series share.

    Parameters
    ----------
    runs : pandas.DataFrame
        From `step_terms`.
    guesses : dict
        "exposed", "latency" and "jitter" -> what physics expects, and the factor by which it may be off (one standard
        deviation of the logarithm).
    noise : float
        Standard deviation of the logarithm of a measured step.
    rng : numpy.random.Generator
        Source of randomness.
    n : int
        Draws wanted, 0 for none; rounded up to full rounds of the chains.

    Returns
    -------
    StepFit
        Logarithms of the constants of greatest posterior density, `best`, and `draws` from the posterior. The time of
        a token is free in each series.

    Raises
    ------
    ValueError
        `noise` not above 0, `n` no whole number.
    KeyError
        No guess for a constant.

    Notes
    -----
    .. math:: t = a x \, (1 + s e_n) + a b + T + \kappa G + \alpha H

    Deviations count by their square up to about `noise`, linearly beyond, so that one odd machine cannot bend the rest.
    Draws come from chains that jump along the difference of two other chains.

    References
    ----------
    C. J. F. ter Braak, "A Markov Chain Monte Carlo version of the genetic algorithm Differential Evolution", 2006.
    ``terbraak2006``

    Examples
    --------
    See chapter 3.
    """
    positive(noise, "noise")
    count(n, "n")
    names = [(constant, group) for constant, by in SHARED.items() for group in dict.fromkeys(runs[by])]
    free = len(set(runs["series"]))
    expected, factor = np.transpose([guesses[constant] for constant, _ in names[free:]])
    centre, width = np.log(expected), np.log(factor)
    measured, columns = np.log(runs["step"].to_numpy()), {name: runs[name].to_numpy() for name in runs}

    def residuals(logs):
        off = (np.log(predict_step_time(StepFit(names, logs, logs), columns).total) - measured) / noise
        robust = np.sign(off) * np.sqrt(2 * np.hypot(1, off) - 2)
        return np.concatenate([robust, (logs[..., free:] - centre) / width], axis=-1)

    pace = {name: np.log((own["step"] / own["tokens"]).min()) for name, own in runs.groupby("series")}
    start = np.r_[[pace[name] for _, name in names[:free]], centre]
    best = least_squares(residuals, start, x_scale=0.1).x
    if n == 0:
        return StepFit(names, best, np.empty((0, best.size)))
    return StepFit(names, best, _posterior(lambda logs: -0.5 * (residuals(logs) ** 2).sum(axis=-1), best, n, rng))


def _posterior(log_density, best, n, rng, *, every=30, burn=600):
    """Draws by differential evolution: all chains jump at once, each along the difference of two others."""
    size = best.size
    # rounded, so that the last digits of a machine's optimum do not send the chains elsewhere
    chains = np.round(best, 3) + 0.1 * rng.standard_normal((64, size))
    level, kept = log_density(chains), []
    for round_ in range(burn + every * -(-n // len(chains))):
        shift = rng.integers(1, len(chains), 2)
        away = np.roll(chains, shift[0], axis=0) - np.roll(chains, shift[1], axis=0)
        scale = 1.0 if round_ % 10 == 0 else 2.38 / np.sqrt(2 * size)
        proposal = chains + scale * away + 1e-4 * rng.standard_normal(chains.shape)
        proposed = log_density(proposal)
        better = np.log(rng.random(len(chains))) < proposed - level
        chains, level = np.where(better[:, None], proposal, chains), np.where(better, proposed, level)
        if round_ >= burn and (round_ - burn) % every == every - 1:
            kept.append(chains)
    return np.concatenate(kept)


def predict_step_time(fit, runs, *, drawn=False):
    """
    Steps of runs, measured or imagined, from fitted constants.

    Parameters
    ----------
    fit : StepFit
        From `fit_step_time`.
    runs : pandas.DataFrame
        As there, without `step`; names must have been fitted.
    drawn : bool
        Whether to return a row for every draw of the constants, instead of their best values.

    Returns
    -------
    StepTime
        Parts of shape (runs,), or (draws, runs). [s]

    Raises
    ------
    KeyError
        A name that was not fitted.

    Examples
    --------
    See chapter 3.
    """
    place = {name: i for i, name in enumerate(fit.names)}
    values = np.exp(fit.draws if drawn else fit.best)
    a, exposed, latency, jitter = (
        values[..., [place[constant, group] for group in runs[by]]] for constant, by in SHARED.items()
    )
    tokens, tensor, bubble, volume, hops, spread = (np.asarray(runs[name]) for name in _TERMS)
    compute = a * tokens
    exchange = exposed * volume + latency * hops
    return StepTime(compute, np.broadcast_to(tensor, compute.shape), a * bubble, exchange, compute * jitter * spread)


def lost_shares(runs, left_out, fits):
    """
    Lost share of throughput at the largest cluster of every series: measured, predicted, and by a power law.

    Parameters
    ----------
    runs : pandas.DataFrame
        From `step_terms`.
    left_out : pandas.Series of bool
        Runs that the fits have not seen, the largest of every series among them.
    fits : dict of str to StepFit
        Machine -> fit to the rest of its runs.

    Returns
    -------
    pandas.DataFrame
        Index series; `machine`, `smallest`, `largest`, `lost`, `predicted`, `low`, `high` (90 % of the draws; nan
        without any), `power_law`: one less throughput per accelerator over the median at the smallest size. [1]

    Examples
    --------
    See chapter 3.
    """
    lines = {}
    for series, own in runs.groupby("series", sort=False):
        rate, sizes = own["tokens"] / own["step"], own["n_accelerators"]
        base, last = rate[sizes == sizes.min()].median(), own.loc[[sizes.idxmax()]]
        machine, kept = last["machine"].item(), ~left_out[own.index]
        best, drawn = (predict_step_time(fits[machine], last, drawn=drawn).total for drawn in (False, True))
        shares = 1 - last["tokens"].item() / drawn / base
        low, high = np.quantile(shares, [0.05, 0.95]) if shares.size else (np.nan, np.nan)
        lines[series] = {
            "machine": machine,
            "smallest": sizes.min(),
            "largest": sizes.max(),
            "lost": 1 - rate[last.index].item() / base,
            "predicted": 1 - last["tokens"].item() / best.item() / base,
            "low": low,
            "high": high,
            "power_law": power_law_lost(sizes[kept], rate[kept], sizes.max()),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("series")


def power_law_lost(n_chips, rate, n_new):
    """
    Baseline: lost share of throughput per chip at a new size, from a power law through smaller ones.

    Parameters
    ----------
    n_chips, rate : array_like, shape (runs,)
        Sizes and throughput per chip; flat where all sizes are the same. [1]
    n_new : float
        Size asked for. [1]

    Returns
    -------
    float
        One less throughput there over the median at the smallest size. [1]

    Raises
    ------
    ValueError
        A size or a rate not above 0.

    Examples
    --------
    >>> round(power_law_lost([1, 10], [1.0, 0.9], 100), 2)
    0.19
    """
    n, rate = positive(n_chips, "n_chips"), positive(rate, "rate")
    smallest = np.median(rate[n == n.min()])
    slope, level = np.polyfit(np.log(n), np.log(rate), 1) if np.unique(n).size > 1 else (0.0, np.log(rate).mean())
    return float(1 - np.exp(level + slope * np.log(positive(n_new, "n_new"))) / smallest)
