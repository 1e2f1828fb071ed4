"""When do requests come, how bursty, and how large is a session?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from econmodel.units import count, non_negative, positive, probability


class LoadShape(NamedTuple):
    """Shape of a load over time: ratios to its mean, and shares of its bins below a level of the peak."""

    mean: float
    peak_to_mean: float
    trough_to_mean: float
    load_factor: float
    below_half_peak: float
    below_quarter_peak: float


def load_shape(counts, *, missing=None):
    r"""
    Shape of a load, given bin by bin.

    Parameters
    ----------
    counts : array_like, shape (bins,)
        Requests, or any other load, per bin of equal length.
    missing : array_like of bool, shape (bins,), optional
        Bins in which nothing was recorded. They count as neither load nor idleness; a gap read as zero load is a
        false trough.

    Returns
    -------
    LoadShape
        `mean` in the unit of `counts`; ratios of the highest and the lowest bin to it; `load_factor`
        :math:`= \text{mean} / \text{peak}`, the best utilization of a fleet that is sized for the peak bin; shares of
        bins below a half and a quarter of the peak. [1]

    Raises
    ------
    ValueError
        Negative or nan counts in a bin that is not missing, a mask of another shape, no load at all.

    Examples
    --------
    >>> shape = load_shape([1, 1, 2, 4, 0], missing=[False, False, False, False, True])
    >>> shape.mean, shape.load_factor, shape.below_half_peak
    (2.0, 0.5, 0.5)
    """
    counts = np.asarray(counts, dtype=float)
    if missing is not None:
        missing = np.asarray(missing, dtype=bool)
        if missing.shape != counts.shape:
            raise ValueError(f"missing = shape {missing.shape} is not allowed: counts have shape {counts.shape}")
        counts = counts[~missing]
    counts = non_negative(counts, "counts")
    if counts.ndim != 1 or not counts.size or not counts.any():
        raise ValueError("counts = nothing is not allowed: one bin at least must hold load")
    mean, peak = counts.mean(), counts.max()
    shares = (np.mean(counts < level * peak) for level in (0.5, 0.25))
    return LoadShape(*map(float, (mean, peak / mean, counts.min() / mean, mean / peak, *shares)))


def _sorted_times(timestamps):
    times = np.asarray(timestamps, dtype=float)
    if times.ndim != 1 or times.size < 2:
        raise ValueError(f"timestamps = {times.size} stamps are not allowed: two at least, in one dimension")
    gaps = np.diff(times)
    bad = np.flatnonzero(~(gaps >= 0))
    if bad.size:
        where = bad[0] + 1
        raise ValueError(f"timestamps = {times[where]:g} at position {where} is not allowed: before {times[bad[0]]:g}")
    if times[-1] == times[0]:
        raise ValueError(f"timestamps = {times[0]:g} throughout is not allowed: the trace has no length")
    return times, gaps


def interarrival_cv(timestamps):
    """
    Coefficient of variation of the gaps between arrivals: 1 for a Poisson process, 0 for a clock.

    Parameters
    ----------
    timestamps : array_like, shape (arrivals,)
        Times in order. [s]

    Returns
    -------
    float
        Standard deviation of the gaps, over their mean. [1]

    Raises
    ------
    ValueError
        Fewer than two stamps, a stamp before the last one (with its position) or nan, no length.

    Examples
    --------
    >>> interarrival_cv([0, 1, 2, 3])
    0.0
    """
    _, gaps = _sorted_times(timestamps)
    return float(gaps.std() / gaps.mean())


def dispersion_index(timestamps, *, window):
    """
    Index of dispersion of counts: variance over mean of the arrivals per window, 1 for a Poisson process.

    Parameters
    ----------
    timestamps : array_like, shape (arrivals,)
        Times in order. [s]
    window : float
        Length of a window; complete ones count, from the first stamp on. [s]

    Returns
    -------
    float
        Variance, with the number of windows in the denominator, over the mean. [1]

    Raises
    ------
    ValueError
        As for `interarrival_cv`; a window longer than the trace.

    Examples
    --------
    >>> round(dispersion_index([0, 0.1, 0.2, 0.3, 2, 2.1, 4], window=1), 2)
    1.83
    """
    counts = window_counts(timestamps, window=window)
    return float(counts.var() / counts.mean())


def window_counts(timestamps, *, window):
    """
    Arrivals per complete window from the first stamp on; parameters and errors as for `dispersion_index`.

    Examples
    --------
    >>> window_counts([0, 0.5, 1, 2.5], window=1).tolist()
    [2, 1]
    """
    times, _ = _sorted_times(timestamps)
    n = int((times[-1] - times[0]) // positive(window, "window"))
    if n < 1:
        raise ValueError(f"window = {window:g} is not allowed: the trace is {times[-1] - times[0]:g} s long")
    index = ((times - times[0]) // window).astype(int)
    return np.bincount(index, minlength=n)[:n]


def modulation_variances(dispersions, *, windows, rate_per_s):
    r"""
    Variances of nested gamma factors that give an arrival process the dispersion measured at several windows.

    Parameters
    ----------
    dispersions : array_like, shape (scales,)
        Index of dispersion at each window. [1]
    windows : array_like, shape (scales,)
        Windows, each a multiple of the one before. [s]
    rate_per_s : float
        Mean rate. [1/s]

    Returns
    -------
    numpy.ndarray, shape (scales,)
        Variance :math:`v_m` of a factor of mean 1 that is drawn anew for each window of length :math:`w_m`. [1]

    Raises
    ------
    ValueError
        Names the first window whose dispersion no such process has: arrivals driven by a random rate have an index
        that rises with the window, and by no more per second than at the window before.

    Notes
    -----
    Two instants that share a window of length :math:`w_m`, but no shorter one, have rates of covariance
    :math:`\lambda^2 V_m` with :math:`1 + V_m = \prod_{k \ge m} (1 + v_k)`. Summed over a window,

    .. math:: D(w_m) = 1 + \lambda \sum_{j \le m} (w_j - w_{j-1}) V_j

    with :math:`w_0 = 0`, which is solved from the bottom up; :math:`v_m = (1 + V_m) / (1 + V_{m+1}) - 1`.

    Examples
    --------
    >>> modulation_variances([3, 12], windows=[1, 10], rate_per_s=2).round(3)
    array([0.333, 0.5  ])
    """
    windows = positive(np.atleast_1d(windows), "windows")
    edges = np.concatenate([[0], windows])
    index = non_negative(np.atleast_1d(dispersions), "dispersions")
    shared = np.diff(np.concatenate([[1], index])) / (np.diff(edges) * positive(rate_per_s, "rate_per_s"))
    variances = (1 + shared) / (1 + np.append(shared[1:], 0)) - 1
    bad = np.flatnonzero((variances < -1e-12) | (shared < -1e-12))
    if bad.size:
        m = bad[0] if shared[bad[0]] < 0 else bad[0] + 1
        raise ValueError(
            f"dispersions = {index[m]:g} at a window of {windows[m]:g} s is not allowed: a random rate cannot reach it"
        )
    return np.maximum(variances, 0)


def _expected_arrivals(rate_per_s, bin_seconds, rng, windows, variances):
    """Edges of the cells in which the rate is constant, and the expected arrivals in each."""
    rate = np.atleast_1d(non_negative(rate_per_s, "rate_per_s"))
    end = rate.size * float(positive(bin_seconds, "bin_seconds"))
    steps = [np.arange(0, end, step) for step in (bin_seconds, *positive(windows, "windows"))]
    edges = np.append(np.unique(np.concatenate(steps)), end)
    middle = (edges[1:] + edges[:-1]) / 2
    expected = np.diff(edges) * rate[np.minimum((middle // bin_seconds).astype(int), rate.size - 1)]
    for window, variance in zip(windows, non_negative(variances, "variances"), strict=True):
        if variance > 0:
            block = (middle // window).astype(int)
            n = block[-1] + 1
            strata = (rng.permutation(n) + rng.random(n)) / n
            expected = expected * (variance * gammaincinv(1 / variance, strata))[block]
    return edges, expected


def sample_arrivals(rate_per_s, *, bin_seconds, rng, windows: Sequence[float] = (), variances: Sequence[float] = ()):
    """
    Times of arrivals that follow a profile, in bursts.

    Parameters
    ----------
    rate_per_s : array_like, shape (bins,)
        Mean rate in each bin of the profile, such as the hours of a week. [1/s]
    bin_seconds : float
        Length of a bin. [s]
    rng : numpy.random.Generator
        Source of randomness.
    windows, variances : sequence of float
        Bursts: the rate is multiplied by gamma factors of mean 1, one drawn anew for every window of each length,
        with these variances; see `modulation_variances`. None by default: a Poisson process. [s], [1]

    Returns
    -------
    numpy.ndarray
        Times from 0 to the end of the profile, in order. [s]

    Raises
    ------
    ValueError
        A negative rate or variance, a length that is not above 0.

    Notes
    -----
    The rate is constant between the edges of bins and windows, so thinning a process of the highest rate comes down
    to a Poisson number per cell at uniform times; nothing is thrown away.

    Examples
    --------
    >>> times = sample_arrivals([1, 0, 3], bin_seconds=1000, rng=np.random.default_rng(1))
    >>> bool(((times > 1000) & (times < 2000)).any()), 3500 < times.size < 4500
    (False, True)
    """
    edges, expected = _expected_arrivals(rate_per_s, bin_seconds, rng, windows, variances)
    cell = np.repeat(np.arange(expected.size), rng.poisson(expected))
    return np.sort(edges[cell] + rng.random(cell.size) * np.diff(edges)[cell])


def sample_counts(rate_per_s, *, bin_seconds, rng, windows: Sequence[float] = (), variances: Sequence[float] = ()):
    """
    Arrivals per cell of the same process as `sample_arrivals`, where single times would be too many to hold.

    Returns
    -------
    numpy.ndarray
        Arrivals between neighbouring edges of bins and windows; with nested windows, per shortest window.

    Examples
    --------
    >>> sample_counts([1e6, 0], bin_seconds=3600, rng=np.random.default_rng(1), windows=[600], variances=[0.1]).shape
    (12,)
    """
    return rng.poisson(_expected_arrivals(rate_per_s, bin_seconds, rng, windows, variances)[1])


class SessionTokens(NamedTuple):
    """Tokens of a session: sent as input, of these read from cache and computed, then generated; largest context."""

    sent: float
    cached: float
    computed: float
    generated: float
    peak_context: float


def session_tokens(n_calls, *, system_tokens, input_tokens_per_call, output_tokens_per_call, cached_fraction):
    r"""
    Tokens of a session in which every call sends the whole conversation again.

    Parameters
    ----------
    n_calls : array_like
        Calls of the session, 0, 1, 2, ...
    system_tokens, input_tokens_per_call, output_tokens_per_call : array_like
        Prompt at the start; new input of each call, from a person or a tool; answer to it. [token]
    cached_fraction : array_like
        Share of the tokens sent once more that a prefix cache provides. [1]

    Returns
    -------
    SessionTokens
        `sent` = `cached` + `computed`; `generated`; `peak_context` with the last answer. [token]

    Raises
    ------
    ValueError
        Negative tokens, a fraction of a call, a share outside [0, 1].

    Notes
    -----
    With :math:`n` calls, a prompt of :math:`s`, :math:`i` tokens in and :math:`o` out per call, and
    :math:`T_n = n (n + 1) / 2`,

    .. math:: \text{sent} = n s + i T_n + o T_{n-1}

    .. math:: \text{sent again} = (n-1) s + (i + o) T_{n-1}

    so that what is computed grows with :math:`n^2` without a cache, and with :math:`n` where the cache holds all.

    Examples
    --------
    >>> sizes = dict(system_tokens=1000, input_tokens_per_call=100, output_tokens_per_call=50)
    >>> session_tokens(3, **sizes, cached_fraction=1.0)
    SessionTokens(sent=3750.0, cached=2450.0, computed=1300.0, generated=150.0, peak_context=1450.0)
    """
    n = count(n_calls, "n_calls")
    system = non_negative(system_tokens, "system_tokens")
    given = non_negative(input_tokens_per_call, "input_tokens_per_call")
    answer = non_negative(output_tokens_per_call, "output_tokens_per_call")
    pairs, some = n * (n - 1) / 2, n > 0
    again = (n - some) * system + (given + answer) * pairs
    fresh = some * system + n * given
    cached = probability(cached_fraction, "cached_fraction") * again
    sent = fresh + again
    parts = (sent, cached, sent - cached, n * answer, fresh + n * answer)
    if sent.ndim or cached.ndim:
        return SessionTokens(*np.broadcast_arrays(*parts))
    return SessionTokens(*map(float, parts))


def active_share(*, active_time, person_time, autonomy):
    r"""
    Share of a session's wall time in which the agent computes or runs a tool.

    Parameters
    ----------
    active_time, person_time : array_like
        Time of model and tools; time that the agent waits for a person. [s]
    autonomy : array_like
        Share of the waits for a person that an agent left to itself would not make. [1]

    Returns
    -------
    numpy.ndarray or float
        :math:`a / (a + (1 - \alpha) p)`: as recorded at autonomy 0, and 1 at autonomy 1.

    Raises
    ------
    ValueError
        No time at all, or a negative one; an autonomy outside [0, 1].

    Examples
    --------
    >>> active_share(active_time=1, person_time=9, autonomy=[0, 1]).tolist()
    [0.1, 1.0]
    """
    active = positive(active_time, "active_time")
    person = non_negative(person_time, "person_time")
    return (active / (active + (1 - probability(autonomy, "autonomy")) * person))[()]


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """
    A distribution known by its quantiles: body by interpolation, tail by a power law.

    Parameters
    ----------
    levels, values : tuple of float
        Probabilities that rise, and the values below which these shares lie.
    tail : float
        Index of the Pareto tail beyond the last level; `inf` where the last value is the largest.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]
    tail: float = np.inf

    def __post_init__(self):
        levels = probability(self.levels, "levels")
        values = non_negative(self.values, "values")
        if levels.shape != values.shape or (np.diff(levels) <= 0).any() or (np.diff(values) < 0).any():
            raise ValueError(f"values = {self.values} is not allowed: as many as levels, both rising")
        positive(self.tail, "tail")

    @cached_property
    def _knots(self):
        return _score(self.levels), np.log1p(self.values)


def _score(probabilities):
    return ndtri(np.minimum(np.maximum(probabilities, 1e-4), 1 - 1e-4))


def quantile(law, probabilities):
    r"""
    Value below which a share of a distribution lies.

    Parameters
    ----------
    law : Quantiles
        The distribution. Between its levels :math:`\ln(1 + x)` is linear in the normal score of the probability, so
        that it is lognormal there; the extremes hold a probability of 1e-4 each. Beyond the last level,
        :math:`x = x_k ((1 - p_k) / (1 - p))^{1/\text{tail}}`; below the first one, the first value.
    probabilities : array_like
        Probabilities; uniform draws give draws of the distribution. [1]

    Returns
    -------
    numpy.ndarray
        In the unit of the values.

    Examples
    --------
    >>> tool_time = Quantiles(levels=(0.5, 0.9), values=(0.3, 13.6), tail=1.0)
    >>> quantile(tool_time, [0.5, 0.9, 0.99]).round(1).tolist()
    [0.3, 13.6, 136.0]
    """
    u = probability(probabilities, "probabilities")
    body = np.expm1(np.interp(_score(u), *law._knots))
    last = law.levels[-1]
    if last == 1 or np.isinf(law.tail):
        return body
    beyond = np.maximum(1 - u, np.finfo(float).tiny) / (1 - last)
    return body * np.minimum(beyond, 1) ** (-1 / law.tail)


def fit_tail(levels, values, *, mean):
    r"""
    Continue quantiles beyond the last one by the Pareto tail that gives the distribution a known mean.

    Parameters
    ----------
    levels, values : sequence of float
        As for `Quantiles`; the last level below 1.
    mean : float
        Mean of the distribution.

    Returns
    -------
    Quantiles
        The distribution with its tail.

    Raises
    ------
    ValueError
        A mean that no tail gives: body and last quantile alone exceed it.

    Notes
    -----
    With mean :math:`m`, of which :math:`b` comes from below the last quantile :math:`x_k`, the index :math:`a` obeys

    .. math:: \frac{a}{a - 1} = \frac{m - b}{(1 - p_k) x_k}

    Examples
    --------
    >>> round(fit_tail([0, 0.5], [1.0, 1.0], mean=1.5).tail, 3)
    2.0
    """
    grid = (np.arange(20_000) + 0.5) / 20_000 * levels[-1]
    body = levels[-1] * quantile(Quantiles(levels=tuple(levels), values=tuple(values)), grid).mean()
    excess = (positive(mean, "mean") - body) / ((1 - levels[-1]) * values[-1])
    if not excess > 1:
        raise ValueError(f"mean = {mean:g} is not allowed: the quantiles alone give more than that")
    return Quantiles(levels=tuple(levels), values=tuple(values), tail=float(excess / (excess - 1)))


@dataclass(frozen=True, kw_only=True)
class SessionLaw:
    """
    What it takes to draw sessions of one kind; `catalog.session_laws` builds it from recorded ones.

    Parameters
    ----------
    name : str
        Kind of session.
    share : float
        Share of the sessions of its population. [1]
    calls, start, rise : Quantiles
        Calls; first input, and what the largest one adds to it [token].
    correlation : tuple
        Normal-score correlations of these three, as a 3 x 3 matrix. [1]
    progress : tuple of float
        How far the context has grown from start to largest, at equal steps of the session. [1]
    growth : Quantiles
        Growth by a call over the mean of its session. [1]
    lost : Quantiles
        Share of the context that is still cached where a prefix breaks. [1]
    by_person, broken_by_tool, broken_by_person : float
        Share of calls made by a person, and shares of calls of either sort whose prefix breaks. [1]
    output, tool_wait, person_wait : Quantiles
        Tokens generated by a call [token]; wait before a call that a tool or a person makes [s].
    context_map, new_map : tuple
        Pairs of rising sequences (raw, recorded): what draws of context and new tokens are mapped to. [token]
    """

    name: str
    share: float
    calls: Quantiles
    start: Quantiles
    rise: Quantiles
    correlation: tuple
    progress: tuple[float, ...]
    growth: Quantiles
    lost: Quantiles
    by_person: float
    broken_by_tool: float
    broken_by_person: float
    output: Quantiles
    tool_wait: Quantiles
    person_wait: Quantiles
    context_map: tuple = ((0.0, 1e9), (0.0, 1e9))
    new_map: tuple = ((0.0, 1e9), (0.0, 1e9))


class Calls(NamedTuple):
    """Calls of sessions, in order: number of the session, tokens of each call, wait before it and for whom."""

    session: np.ndarray
    input_tokens: np.ndarray
    cached_tokens: np.ndarray
    output_tokens: np.ndarray
    wait_s: np.ndarray
    by_person: np.ndarray


def _draw(law, n, rng):
    return quantile(law, rng.random(n))


def sample_sessions(laws, n_sessions, *, rng):
    """
    Sessions with the sizes, growth, prefix reuse and pauses of recorded ones.

    Parameters
    ----------
    laws : sequence of SessionLaw
        Kinds of sessions, whose shares add up to 1.
    n_sessions : int
        How many to draw.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Calls
        One entry per call; tokens are whole, `cached_tokens` is what an unlimited prefix cache of the session would
        provide, `wait_s` the time from the last answer of the session to this call (0 at its first).

    Raises
    ------
    ValueError
        Shares that do not add up to 1.

    Notes
    -----
    Calls, start and rise of a session come from their quantiles through a Gaussian copula. The context then grows
    along the recorded progress by random steps, some of them large; a broken prefix is computed anew. Two monotone
    maps bring contexts and new tokens of single calls to their recorded quantiles. A session is never compacted:
    what compaction takes away is netted against growth.
    """
    share = np.array([law.share for law in laws])
    if abs(share.sum() - 1) > 1e-9:
        raise ValueError(f"laws = shares that add up to {share.sum():g} are not allowed: 1")
    numbers = rng.multinomial(int(count(n_sessions, "n_sessions")), share)
    kinds = [_sample_kind(law, n, rng) for law, n in zip(laws, numbers, strict=True) if n]
    firsts = np.cumsum([0, *(kind.session[-1] + 1 for kind in kinds)])
    kinds = [kind._replace(session=kind.session + first) for kind, first in zip(kinds, firsts, strict=False)]
    return Calls(*map(np.concatenate, zip(*kinds, strict=True)))


def _sample_kind(law, n_sessions, rng):
    u = ndtr(rng.multivariate_normal(np.zeros(3), law.correlation, n_sessions)).T
    calls = np.maximum(np.rint(quantile(law.calls, u[0])), 1).astype(int)
    start, rise = quantile(law.start, u[1]), quantile(law.rise, u[2])
    session = np.repeat(np.arange(n_sessions), calls)
    n, first = session.size, np.cumsum(calls) - calls
    place = (np.arange(n) - first[session]) / np.maximum(calls - 1, 1)[session]
    steps = np.linspace(0, 1, len(law.progress))
    slope = np.interp(place, (steps[1:] + steps[:-1]) / 2, np.maximum(np.diff(law.progress), 1e-3))
    step = slope * _draw(law.growth, n, rng)
    step[first] = 0
    grown = np.cumsum(step)
    grown -= grown[first][session]
    total = np.maximum(grown[first + calls - 1], np.finfo(float).tiny)
    context = start[session] + (rise * law.progress[-1] / total)[session] * grown
    context = np.rint(np.interp(context, *law.context_map))
    before = np.concatenate([[0], context[:-1]])
    before[first] = 0
    person = rng.random(n) < law.by_person
    broken = rng.random(n) < np.where(person, law.broken_by_person, law.broken_by_tool)
    kept = np.where(broken, np.minimum(_draw(law.lost, n, rng), 1), 1)
    new = np.interp(context - kept * before, *law.new_map)
    cached = np.minimum(np.floor(np.clip(context - new, 0, before)), context)
    person[first] = True
    wait = np.where(person, _draw(law.person_wait, n, rng), _draw(law.tool_wait, n, rng))
    wait[first] = 0
    return Calls(session, context, cached, np.rint(_draw(law.output, n, rng)), wait, person)
