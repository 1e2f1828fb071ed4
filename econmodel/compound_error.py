"""When do small errors sink a long job, and what does repair cost?"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, xlog1py

from econmodel.units import count, non_negative, positive, probability


def success_probability(step_error, n_steps):
    r"""
    Probability that a job of independent steps, each of which must be right, succeeds.

    Parameters
    ----------
    step_error : array_like
        Probability that one step is wrong. [1]
    n_steps : array_like
        Steps of the job, any number from 0. [step]

    Returns
    -------
    numpy.ndarray or float
        :math:`(1-\epsilon)^n`, exact to rounding also at error 0 or 1 and for very long jobs. [1]

    Raises
    ------
    ValueError
        `step_error` outside [0, 1] or `n_steps` below 0.

    Examples
    --------
    >>> round(float(success_probability(0.02, 50)), 3)
    0.364
    """
    step_error = probability(step_error, "step_error")
    n_steps = non_negative(n_steps, "n_steps")
    endless = np.isinf(n_steps) & (step_error == 0)
    return np.exp(xlog1py(np.where(endless, 0, n_steps), -step_error))[()]


def max_steps(success, *, step_error):
    r"""
    Longest job that independent steps finish with a wanted probability.

    Parameters
    ----------
    success : array_like
        Wanted probability. [1]
    step_error : array_like
        Probability that one step is wrong. [1]

    Returns
    -------
    numpy.ndarray or float
        :math:`n = \ln s / \ln(1-\epsilon)`, a real number; `inf` at error 0 or where nothing is asked. [step]

    Raises
    ------
    ValueError
        An argument outside [0, 1].

    Examples
    --------
    >>> [round(float(max_steps(s, step_error=0.02)), 1) for s in (0.5, 0.8, 0.99)]
    [34.3, 11.0, 0.5]
    """
    success, step_error = np.broadcast_arrays(probability(success, "success"), probability(step_error, "step_error"))
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(success) / np.log1p(-step_error)
    return np.where((step_error == 0) | (success == 0), np.inf, steps + 0.0)[()]


def max_step_error(success, *, n_steps):
    r"""
    Largest step error with which a job still succeeds with a wanted probability.

    Parameters
    ----------
    success : array_like
        Wanted probability. [1]
    n_steps : array_like
        Steps of the job. [step]

    Returns
    -------
    numpy.ndarray or float
        :math:`\epsilon = 1 - s^{1/n}`; 1 for a job without steps. [1]

    Raises
    ------
    ValueError
        `success` outside [0, 1] or `n_steps` below 0.

    Examples
    --------
    >>> f"{max_step_error(0.99, n_steps=200):.1e}"
    '5.0e-05'
    """
    success, n_steps = np.broadcast_arrays(probability(success, "success"), non_negative(n_steps, "n_steps"))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = -np.expm1(np.log(success) / n_steps)
    return np.where((n_steps == 0) | (success == 0), 1.0, error + 0.0)[()]


#: Factors of the beta-binomial product that are multiplied one by one; the rest follows Euler and Maclaurin.
_DIRECT = 64


def _log_sum(start, step, n):
    """Sum of ln(start + i step), i = 0 .. n-1, for start well above step: Euler-Maclaurin, no division by step."""
    end = start + n * step
    growth = n * step / start
    mean_log = np.divide(np.log1p(growth), growth, out=np.ones_like(growth), where=growth > 0)
    ends = step / end - step / start, (step / end) ** 3 - (step / start) ** 3
    return n * (np.log(end) + mean_log - 1) - np.log1p(growth) / 2 + ends[0] / 12 - ends[1] / 360


def _log_all_alike(k, other, correlation):
    """Logarithm of P(k tries of one task all come out one way) when the other way has the mean `other`."""
    k, other, correlation = np.broadcast_arrays(k, other, correlation)
    spread = 1 - correlation
    gap = other * spread
    total = np.zeros(k.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(int(min(np.ceil(k.max(initial=0)), _DIRECT))):
            total += np.where(i < k, np.log1p(-(gap / (spread + i * correlation) if i else other)), 0.0)
        rest = np.maximum(k - _DIRECT, 0)
        if rest.any():
            base = spread + _DIRECT * correlation
            tail = _log_sum(base - gap, correlation, rest) - _log_sum(base, correlation, rest)
            total += np.where(rest > 0, np.where(base > gap, tail, -np.inf), 0.0)
    return total


def pass_hat_k(k, *, mean, correlation):
    r"""
    Probability that k tries at one task all succeed, when tasks differ in difficulty.

    The success probability of a task is drawn from a beta distribution with this mean and this correlation between two
    tries at the same task; 0 makes all tries independent, 1 makes a task always or never solvable.

    Parameters
    ----------
    k : array_like
        Number of tries. [run]
    mean : array_like
        Mean success probability over tasks. [1]
    correlation : array_like
        Intra-task correlation. [1]

    Returns
    -------
    numpy.ndarray or float
        Probability; 1 at k = 0. Its logarithm is good to about k times 1e-15. [1]

    Raises
    ------
    ValueError
        `k` no whole number, another argument outside [0, 1].

    Notes
    -----
    .. math:: P_k = \prod_{i=0}^{k-1} \frac{m(1-r) + i r}{1 - r + i r}

    Stable for any correlation, however small: nothing is divided by it.

    References
    ----------
    The metric is that of tau-bench, ``taubench2024``; the closed form is the beta-binomial distribution.

    Examples
    --------
    >>> [round(float(pass_hat_k(4, mean=0.585, correlation=r)), 3) for r in (0, 1e-15, 0.5, 1)]
    [0.117, 0.117, 0.358, 0.585]
    """
    k = count(k, "k")
    mean = probability(mean, "mean")
    return np.exp(_log_all_alike(k, 1 - mean, probability(correlation, "correlation")))[()]


def pass_at_k(k, *, mean, correlation):
    r"""
    Probability that at least one of k tries at one task succeeds, when tasks differ in difficulty.

    Parameters, errors and model as for `pass_hat_k`.

    Returns
    -------
    numpy.ndarray or float
        :math:`1 - P_k` of the failures; 0 at k = 0. [1]

    Examples
    --------
    >>> [round(float(pass_at_k(4, mean=0.585, correlation=r)), 3) for r in (0, 0.5, 1)]
    [0.97, 0.798, 0.585]
    """
    k = count(k, "k")
    mean = probability(mean, "mean")
    return (0.0 - np.expm1(_log_all_alike(k, mean, probability(correlation, "correlation"))))[()]


def pass_hat_k_estimate(k, solved):
    r"""
    Unbiased pass^k from the number of tasks solved 0, 1, .. n times in n trials.

    Parameters
    ----------
    k : int
        Number of tries, at most n. [run]
    solved : array_like, shape (..., n + 1)
        Tasks solved 0 .. n times. [task]

    Returns
    -------
    numpy.ndarray or float
        Mean over tasks of :math:`\binom{c}{k} / \binom{n}{k}`. [1]

    Raises
    ------
    ValueError
        `k` no whole number or above n, a negative number of tasks.

    Examples
    --------
    >>> [round(float(pass_hat_k_estimate(k, [2, 1, 0, 1, 6])), 3) for k in (1, 4)]
    [0.7, 0.6]
    """
    solved = non_negative(solved, "solved")
    trials = solved.shape[-1] - 1
    k = int(count(k, "k"))
    if k > trials:
        raise ValueError(f"k = {k} is not allowed: at most {trials} trials")
    share = np.array([math.comb(c, k) for c in range(trials + 1)]) / math.comb(trials, k)
    return ((solved @ share) / solved.sum(axis=-1))[()]


class Clustering(NamedTuple):
    """Success probability over tasks: its mean, and the correlation of two tries at one task."""

    mean: float | np.ndarray
    correlation: float | np.ndarray


def _pass_pair(pass_1, pass_2):
    pass_1, pass_2 = probability(pass_1, "pass_1"), probability(pass_2, "pass_2")
    if np.any(pass_2 > pass_1):
        raise ValueError(f"pass_2 = {np.max(np.where(pass_2 > pass_1, pass_2, 0)):g} is not allowed: above pass_1")
    return pass_1, pass_2


def fit_pass_hat_k(pass_1, pass_2):
    r"""
    Mean and intra-task correlation from the shares of tasks solved once and twice out of two tries.

    Parameters
    ----------
    pass_1, pass_2 : array_like
        pass^1 and pass^2. [1]

    Returns
    -------
    Clustering
        mean :math:`p_1` and correlation :math:`(p_2 - p_1^2) / (p_1 - p_1^2)`. A pass^2 below :math:`p_1^2`, which
        chance alone can produce, gives correlation 0. The correlation is nan where pass^1 is 0 or 1: nothing varies.

    Raises
    ------
    ValueError
        A share outside [0, 1], or pass^2 above pass^1.

    Examples
    --------
    >>> [round(float(x), 2) for x in fit_pass_hat_k(0.6, 0.45)]
    [0.6, 0.38]
    """
    pass_1, pass_2 = _pass_pair(pass_1, pass_2)
    varies = pass_1 * (1 - pass_1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(varies > 0, np.maximum(pass_2 - pass_1**2, 0) / varies, np.nan)
    mean, correlation = np.broadcast_arrays(pass_1, correlation)
    return Clustering(mean[()], correlation[()])


def frailty_success(step_error, n_steps, *, frailty):
    r"""
    Probability that a job succeeds when tasks differ in how error-prone they are.

    Every step of one task has the same hazard; over tasks the hazard is gamma-distributed with mean
    :math:`\lambda = -\ln(1-\epsilon)` and squared coefficient of variation `frailty`.

    Parameters
    ----------
    step_error : array_like
        Probability that a step is wrong, at the mean hazard. [1]
    n_steps : array_like
        Steps of the job. k tries at a job of n steps that all succeed are k n steps. [step]
    frailty : array_like
        Squared coefficient of variation of the hazard over tasks; 0 for equal tasks. [1]

    Returns
    -------
    numpy.ndarray or float
        Probability, never below that of equal tasks. [1]

    Raises
    ------
    ValueError
        `step_error` outside [0, 1], another argument negative.

    Notes
    -----
    .. math:: S(n) = (1 + \theta \lambda n)^{-1/\theta} \xrightarrow{\theta \to 0} (1 - \epsilon)^n

    Each task has a constant hazard, and yet the hazard of the mixture falls with n, because the hard tasks drop out.

    Examples
    --------
    >>> [round(float(frailty_success(0.02, 50, frailty=theta)), 3) for theta in (0, 1, 3)]
    [0.364, 0.497, 0.628]
    """
    hazard = -xlog1py(non_negative(n_steps, "n_steps"), -probability(step_error, "step_error"))
    hazard, frailty = np.broadcast_arrays(hazard, non_negative(frailty, "frailty"))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_success = -np.log1p(frailty * hazard) / frailty
    return np.exp(np.where(frailty * hazard < 1e-300, -hazard, log_success))[()]


class Frailty(NamedTuple):
    """Hazard of one try at the mean over tasks, and its squared coefficient of variation over tasks."""

    hazard: float | np.ndarray
    frailty: float | np.ndarray


def fit_frailty(pass_1, pass_2):
    r"""
    Hazard per try and its spread over tasks, from pass^1 and pass^2.

    Parameters
    ----------
    pass_1, pass_2 : array_like
        Shares of tasks solved once, and twice out of two tries. [1]

    Returns
    -------
    Frailty
        The `hazard` x and `frailty` :math:`\theta` with :math:`(1+\theta x)^{-1/\theta} = p_1` and
        :math:`(1+2\theta x)^{-1/\theta} = p_2`. Frailty 0 where pass^2 is at or below :math:`p_1^2`, inf where the two
        shares are equal, nan where pass^1 is 0 or 1.

    Raises
    ------
    ValueError
        A share outside [0, 1], or pass^2 above pass^1.

    Examples
    --------
    >>> hazard, frailty = fit_frailty(0.6, 0.45)
    >>> [round(float(x), 2) for x in (hazard, frailty)]
    [0.76, 1.48]
    """
    from scipy.optimize.elementwise import find_root

    pass_1, pass_2 = np.broadcast_arrays(*_pass_pair(pass_1, pass_2))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(pass_2) / np.log(pass_1)
        solvable = (ratio > 1) & (ratio < 2 - 1e-12)
        wanted = np.where(solvable, ratio, 1.5)
        # ln(1 + 2y) / ln(1 + y) falls from 2 to 1 as y = theta x grows; solved for ln y
        root = find_root(
            lambda u, r: np.logaddexp(0, u + np.log(2)) / np.logaddexp(0, u) - r, (-30, 1e6), args=(wanted,)
        )
        log_growth = np.logaddexp(0, root.x)
        theta = np.where(solvable, -log_growth / np.log(pass_1), np.where(ratio <= 1, np.inf, 0.0))
        hazard = np.where(solvable, np.exp(root.x) / theta, -np.log(pass_1))
    known = (pass_1 > 0) & (pass_1 < 1)
    return Frailty(np.where(known, hazard, np.nan)[()], np.where(known, theta, np.nan)[()])


class Verified(NamedTuple):
    """What a verifier makes of a step."""

    step_error: float | np.ndarray
    undetected_error: float | np.ndarray
    attempts: float | np.ndarray


def with_verifier(step_error, *, catch, max_retries, false_alarm=0.0):
    r"""
    A step whose result is checked and repeated when the check fails.

    Parameters
    ----------
    step_error : array_like
        Probability that one attempt is wrong. [1]
    catch : array_like
        Probability that a wrong attempt is flagged. [1]
    max_retries : array_like
        Repeats after the first attempt, `inf` allowed; flagged after the last one is a known failure. [1]
    false_alarm : array_like
        Probability that a right attempt is flagged. [1]

    Returns
    -------
    Verified
        `step_error` = 1 - P(right and accepted), `undetected_error` = P(wrong and accepted), and the expected
        `attempts`, `inf` where every attempt is flagged and retries are unbounded.

    Raises
    ------
    ValueError
        A probability outside [0, 1], `max_retries` no whole number.

    Notes
    -----
    With :math:`\varphi = \epsilon c + (1-\epsilon) f` flagged per attempt and R retries,
    :math:`a = (1-\varphi^{R+1})/(1-\varphi)` attempts are made; :math:`\epsilon (1-c)\, a` are accepted wrong and
    :math:`\varphi^{R+1}` end flagged. Unbounded retries without false alarms give
    :math:`\epsilon(1-c)/(1-\epsilon c)`.

    Examples
    --------
    >>> checked = with_verifier(0.02, catch=0.8, max_retries=float("inf"))
    >>> round(float(success_probability(checked.step_error, 50)), 3)
    0.816
    """
    error = probability(step_error, "step_error")
    catch, alarm = probability(catch, "catch"), probability(false_alarm, "false_alarm")
    tries = count(max_retries, "max_retries", infinite=True) + 1
    accepted = (1 - error) * (1 - alarm) + error * (1 - catch)
    with np.errstate(divide="ignore", invalid="ignore"):
        attempts = np.where(accepted > 0, -np.expm1(xlog1py(tries, -accepted)) / accepted, tries)
        undetected = np.where(error * (1 - catch) > 0, error * (1 - catch) * attempts, 0.0)
        known_failure = np.where(accepted > 0, np.exp(xlog1py(tries, -accepted)), 1.0)
    return Verified(*(x[()] for x in np.broadcast_arrays(undetected + known_failure, undetected, attempts)))


class Voted(NamedTuple):
    """What a vote makes of a step."""

    step_error: float | np.ndarray
    votes: float | np.ndarray


def with_voting(step_error, *, lead):
    r"""
    A step repeated until one of two answers leads by `lead` votes (the gambler's ruin).

    Parameters
    ----------
    step_error : array_like
        Probability that one vote is wrong; votes are independent and all wrong ones agree. [1]
    lead : array_like
        Votes by which the winner must lead, at least 1. [1]

    Returns
    -------
    Voted
        `step_error` :math:`= 1/(1+((1-\epsilon)/\epsilon)^k)` and the expected number of `votes`
        :math:`= k\,(1 - 2\epsilon')/(1 - 2\epsilon)`, which is :math:`k^2` at a toss-up.

    Raises
    ------
    ValueError
        `step_error` outside [0, 1], `lead` no whole number of at least 1.

    References
    ----------
    Used on a job of a million steps in ``maker2025``.

    Examples
    --------
    >>> error, votes = with_voting(0.02, lead=3)
    >>> f"{error:.1e}", round(float(votes), 2), round(float(success_probability(error, 50)), 4)
    ('8.5e-06', 3.12, 0.9996)
    """
    error = probability(step_error, "step_error")
    lead = count(lead, "lead", least=1)
    with np.errstate(divide="ignore"):
        odds = np.log1p(-error) - np.log(error)
    with np.errstate(invalid="ignore"):
        votes = np.where(odds == 0, lead**2, lead * np.tanh(lead * odds / 2) / np.tanh(odds / 2))
    wrong = (error > 0) / (1 + np.exp(np.minimum(lead * odds, 709)))
    return Voted(*(x[()] for x in np.broadcast_arrays(wrong, votes)))


def checkpoint_steps(step_error, *, check_steps):
    r"""
    Number of steps between tests that makes a job cheapest that goes back to the last good state on failure.

    Parameters
    ----------
    step_error : array_like
        Probability that a step is wrong. [1]
    check_steps : array_like
        Cost of a test. [step]

    Returns
    -------
    numpy.ndarray or float
        :math:`m^* = \tfrac12 \left(\sqrt{v^2 + 4 v / \lambda} - v\right)` with
        :math:`\lambda = -\ln(1-\epsilon)`, a real number; `inf` at error 0, 0 for a free test: the least of the
        expected :math:`\frac{n}{m} \frac{m + v}{(1-\epsilon)^m}` steps. [step]

    Raises
    ------
    ValueError
        `step_error` outside [0, 1], `check_steps` negative.

    Notes
    -----
    For rare errors it tends to :math:`\sqrt{v/\lambda}`, a factor :math:`\sqrt2` below the rule of Young and Daly,
    which has failures noticed at once and so loses half an interval where this loses a whole one.

    Examples
    --------
    >>> round(float(checkpoint_steps(0.02, check_steps=1)), 1)
    6.6
    """
    check = non_negative(check_steps, "check_steps")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        per_hazard = check / -np.log1p(-probability(step_error, "step_error"))
        best = per_hazard / (check / 2 + np.sqrt(check**2 / 4 + per_hazard))
    best = np.where(np.isinf(per_hazard), np.inf, best)
    return np.where(check == 0, 0.0, best)[()]


#: Attempts that are summed one by one; the rest is integrated over the logarithm of their number.
_SUMMED = 256
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


def _later_attempts(n, mean, correlation, detection):
    """Sum of the probabilities that attempt j + 1 is made, j = _SUMMED .. n - 1, by Euler and Maclaurin."""

    def reached(j):
        log_fail = _log_all_alike(j, mean, correlation)
        return np.exp(log_fail + np.where(j * (1 - detection) > 0, xlog1py(j, detection - 1), 0.0))

    with np.errstate(divide="ignore"):
        last = np.minimum(n, np.maximum(_SUMMED, 745 / np.abs(np.log(detection))))
    half_span = np.log(last / _SUMMED) / 2
    number = _SUMMED * np.exp(half_span * (1 + _NODES[:, None]))
    area = (_WEIGHTS[:, None] * number * reached(number)).sum(axis=0) * half_span
    edges = np.stack([np.full_like(last, _SUMMED), last])
    ends = reached(edges)
    slopes = reached(edges + 0.5) - reached(edges - 0.5)
    return np.where(last > _SUMMED, area + (ends[0] - ends[1]) / 2 + (slopes[1] - slopes[0]) / 12, 0.0)


def _spend(max_attempts, mean, correlation, detection):
    """Expected attempts and P(a success is delivered), with at most `max_attempts` attempts at one task."""
    n = count(max_attempts, "max_attempts", least=1, infinite=True)
    mean, correlation = probability(mean, "mean"), probability(correlation, "correlation")
    detection = probability(detection, "detection")
    n, mean, correlation, detection = np.broadcast_arrays(n, mean, correlation, detection)
    attempts, delivered, reached = np.zeros(n.shape), np.zeros(n.shape), np.ones(n.shape)
    for j in range(int(min(n.max(initial=0), _SUMMED))):
        fail = 1 - mean
        if j:
            fail = (fail * (1 - correlation) + j * correlation) / (1 - correlation + j * correlation)
        made = np.where(j < n, reached, 0.0)
        attempts += made
        delivered += made * (1 - fail)
        reached = reached * fail * detection
    more = (n > _SUMMED) & (reached > 0)
    endless = more & np.isinf(n) & (detection == 1)
    more &= ~endless
    if more.any():
        case = [x[more] for x in (n, mean, correlation, detection)]
        later = _later_attempts(*case)
        end = np.where(np.isinf(case[0]), 0, case[0])
        last = np.exp(_log_all_alike(end, case[1], case[2]) + xlog1py(end, case[3] - 1)) * (end > 0)
        attempts[more] += later
        delivered[more] += np.where(case[1] > 0, (reached[more] - last - (1 - case[3]) * later) / case[3], 0.0)
    if endless.any():
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_of_inverse = (1 - 2 * correlation) / (mean * (1 - correlation) - correlation)
        finite = np.where(correlation < mean / (1 + mean), mean_of_inverse, np.where(mean == 1, 1.0, np.inf))
        attempts[endless] = finite[endless]
        never = np.where(correlation == 1, 1 - mean, np.where(mean == 0, 1.0, 0.0))
        delivered[endless] = 1 - never[endless]
    return attempts, delivered


def expected_attempts(max_attempts, *, mean, correlation=0.0, detection=1.0):
    r"""
    Expected attempts at one task until a success, an unnoticed failure, or the last attempt allowed.

    Parameters
    ----------
    max_attempts : array_like
        Attempts allowed, at least 1; `inf` for no limit. [run]
    mean, correlation : array_like
        Success probability over tasks, as for `pass_hat_k`. [1]
    detection : array_like
        Probability that a failed attempt is noticed; else it is delivered, wrong. [1]

    Returns
    -------
    numpy.ndarray or float
        Expected attempts. [run]

    Raises
    ------
    ValueError
        `max_attempts` no whole number of at least 1, another argument outside [0, 1].

    Notes
    -----
    .. math:: A = \sum_{j=0}^{N-1} d^j F_j

    with :math:`F_j` the probability that j tries all fail. Without limit and with every failure noticed this is
    :math:`E[1/p] = (1-2r) / (m(1-r) - r)`, which is *infinite* once :math:`r \ge m/(1+m)`: too much of the beta
    distribution lies on tasks that are next to impossible.

    Examples
    --------
    >>> [round(float(expected_attempts(float("inf"), mean=0.6, correlation=r)), 2) for r in (0, 0.3, 0.375)]
    [1.67, 3.33, inf]
    """
    return _spend(max_attempts, mean, correlation, detection)[0][()]


def cost_per_success(cost_per_attempt, *, max_attempts, mean, correlation=0.0, detection=1.0):
    r"""
    Expected spend per task that is finished, and finished right.

    Parameters
    ----------
    cost_per_attempt : array_like
        Cost of one attempt. [USD, or any unit]
    max_attempts, mean, correlation, detection : array_like
        As for `expected_attempts`.

    Returns
    -------
    numpy.ndarray or float
        Expected spend over P(a success is delivered); `inf` where none is delivered or attempts are infinite. [USD]

    Raises
    ------
    ValueError
        `cost_per_attempt` negative, another argument as for `expected_attempts`.

    Examples
    --------
    >>> [round(float(cost_per_success(1, max_attempts=n, mean=0.6, correlation=0.5)), 2) for n in (1, 4, float("inf"))]
    [1.67, 2.35, inf]
    """
    cost = non_negative(cost_per_attempt, "cost_per_attempt")
    attempts, delivered = _spend(max_attempts, mean, correlation, detection)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(delivered > 0, cost * attempts / delivered, np.inf)[()]


class Survival(NamedTuple):
    """A law of success against task length: length at success 0.5, shape, log-likelihood of the fit [nat]."""

    horizon: float | np.ndarray
    shape: float | np.ndarray
    log_likelihood: float | np.ndarray


def survival(duration, *, horizon, shape=1.0):
    r"""
    Probability of finishing a task of given length: the Weibull law with success 0.5 at `horizon`.

    Parameters
    ----------
    duration : array_like
        Length of the task. [s, or any unit of time]
    horizon : array_like
        Length at which half of the tasks succeed. [same unit]
    shape : array_like
        1 is a constant hazard (a half-life); below 1 the hazard falls with length. [1]

    Returns
    -------
    numpy.ndarray or float
        :math:`S(t) = 2^{-(t/h)^k}`. [1]

    Raises
    ------
    ValueError
        `duration` negative, another argument not above 0.

    References
    ----------
    Constant hazard for agents: ``ord2025halflife``.

    Examples
    --------
    >>> [round(float(survival(t, horizon=60)), 3) for t in (0, 60, 120)]
    [1.0, 0.5, 0.25]
    """
    duration = non_negative(duration, "duration")
    horizon, shape = positive(horizon, "horizon"), positive(shape, "shape")
    with np.errstate(over="ignore"):
        return np.exp2(-((duration / horizon) ** shape))[()]


def horizon_at(success, *, horizon, shape=1.0):
    r"""
    Length of the tasks that succeed with a wanted probability, under the law of `survival`.

    Parameters
    ----------
    success : array_like
        Wanted probability. [1]
    horizon, shape : array_like
        As for `survival`.

    Returns
    -------
    numpy.ndarray or float
        :math:`t = h\,(-\log_2 s)^{1/k}`; `inf` at probability 0. [unit of `horizon`]

    Raises
    ------
    ValueError
        `success` outside [0, 1], another argument not above 0.

    Examples
    --------
    >>> round(float(horizon_at(0.8, horizon=1)), 3)
    0.322
    """
    success = probability(success, "success")
    horizon, shape = positive(horizon, "horizon"), positive(shape, "shape")
    with np.errstate(divide="ignore", over="ignore"):
        return (horizon * (0.0 - np.log2(success)) ** (1 / shape))[()]


def shape_from_horizons(p50_horizon, p80_horizon):
    r"""
    Weibull shape that two published horizons imply.

    Parameters
    ----------
    p50_horizon, p80_horizon : array_like
        Lengths at success 0.5 and 0.8. [same unit]

    Returns
    -------
    numpy.ndarray or float
        :math:`k = \ln(\log_2 1.25) / \ln(t_{80}/t_{50})`, 1 for a constant hazard. [1]

    Raises
    ------
    ValueError
        A horizon not above 0, or the one at 0.8 not below the one at 0.5.

    Examples
    --------
    >>> round(float(shape_from_horizons(203.0, 38.3)), 2)
    0.68
    """
    ratio = positive(p80_horizon, "p80_horizon") / positive(p50_horizon, "p50_horizon")
    if not np.all(ratio < 1):
        raise ValueError(f"p80_horizon = {np.max(p80_horizon):g} is not allowed: a length below p50_horizon")
    return (np.log(np.log2(1.25)) / np.log(ratio))[()]


#: Law -> (link of the failure probability, value of the linear predictor at success 0.5, whether the shape is free)
LAWS = {
    "exponential": ("cloglog", np.log(np.log(2)), False),
    "weibull": ("cloglog", np.log(np.log(2)), True),
    "log-logistic": ("logit", 0.0, True),
}


def _law(name):
    if name not in LAWS:
        raise KeyError(f"{name!r} is not known; one of {', '.join(LAWS)}")
    return LAWS[name]


def _binomial(link, eta):
    """P(success), ln P(success), ln P(failure) and d P(success) / d eta of a falling success curve."""
    if link == "logit":
        log_success, log_failure = -np.logaddexp(0, eta), -np.logaddexp(0, -eta)
        return np.exp(log_success), log_success, log_failure, -np.exp(log_success + log_failure)
    log_success = -np.exp(eta)
    success = np.exp(log_success)
    with np.errstate(divide="ignore"):
        return success, log_success, np.log(-np.expm1(log_success)), log_success * success


def success_at(duration, fit, *, law):
    r"""
    Probability of finishing a task of given length under a fitted law.

    Parameters
    ----------
    duration : array_like
        Length of the task. [s, or any unit of time]
    fit : Survival
        From `fit_survival`, or any horizon and shape.
    law : str
        The law that was fitted.

    Returns
    -------
    numpy.ndarray or float
        Probability; 0.5 at `fit.horizon`. [1]

    Raises
    ------
    ValueError
        `duration` negative.
    KeyError
        Unknown law.

    Examples
    --------
    >>> fit = Survival(horizon=60, shape=1.0, log_likelihood=0.0)
    >>> [round(float(success_at(120, fit, law=law)), 3) for law in ("weibull", "log-logistic")]
    [0.25, 0.333]
    """
    link, at_half, _ = _law(law)
    with np.errstate(divide="ignore"):
        eta = at_half + fit.shape * np.log(non_negative(duration, "duration") / fit.horizon)
    return _binomial(link, eta)[0][()]


def fit_survival(duration, n_success, n_runs, *, law, weights=1.0):
    r"""
    Maximum-likelihood law of success against task length.

    Parameters
    ----------
    duration : array_like, shape (tasks,)
        Length of each task. [s, or any unit of time]
    n_success, n_runs : array_like, shape (..., tasks)
        Successful runs, and all runs; simulated outcomes go along the leading axes. [run]
    law : str
        "exponential", "weibull" or "log-logistic".
    weights : array_like, shape (..., tasks)
        How often each task counts; bootstrap replicates go along the leading axes.

    Returns
    -------
    Survival
        `horizon` [unit of `duration`], `shape` (1 for the exponential law) and `log_likelihood` [nat] without the
        binomial coefficients, each of shape (...). nan where all weighted runs succeed or all fail.

    Raises
    ------
    ValueError
        A length not above 0, more successes than runs, no runs at all.
    KeyError
        Unknown law.

    Notes
    -----
    All three are binomial regressions on the logarithm of length :math:`x = \ln t`: the Weibull law is
    :math:`\ln(-\ln S) = \alpha + k x`, the exponential law the same with k = 1, the log-logistic law
    :math:`\ln((1-S)/S) = \alpha + k x`. Fitted by Fisher scoring with bounded steps.

    Examples
    --------
    >>> lengths = np.array([1.0, 10.0, 100.0])
    >>> fit = fit_survival(lengths, 1000 * survival(lengths, horizon=20, shape=0.5), [1000] * 3, law="weibull")
    >>> round(float(fit.horizon), 3), round(float(fit.shape), 3)
    (20.0, 0.5)
    """
    link, at_half, free = _law(law)
    x = np.log(positive(duration, "duration"))
    won, runs = non_negative(n_success, "n_success"), non_negative(n_runs, "n_runs")
    if np.any(won > runs):
        raise ValueError(f"n_success = {won[won > runs][0]:g} is not allowed: above n_runs")
    won, runs, weights = np.broadcast_arrays(won, runs, non_negative(weights, "weights"))
    won, runs = weights * won, weights * runs
    if np.any(runs.sum(axis=-1) == 0):
        raise ValueError("n_runs = 0 is not allowed: no run to fit")
    known = (won.sum(axis=-1) > 0) & (won.sum(axis=-1) < runs.sum(axis=-1))
    center = (runs * x).sum(axis=-1, keepdims=True) / runs.sum(axis=-1, keepdims=True)
    level, shape = np.zeros(center.shape), np.full(center.shape, 0.5 if free else 1.0)
    design = np.stack(np.broadcast_arrays(1.0, x - center)) if free else np.ones((1, *runs.shape))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(100):
            success, _, log_failure, slope = _binomial(link, level + shape * (x - center))
            per_variance = np.where(success > 0, slope / (success * np.exp(log_failure)), slope)
            score = (design * (won - runs * success) * per_variance).sum(axis=-1)
            information = np.einsum("i...t,j...t,...t->...ij", design, design, runs * slope * per_variance)
            ridge = 1e-9 * np.eye(len(design))
            step = np.linalg.solve(information + ridge, np.moveaxis(score, 0, -1)[..., None])[..., 0]
            step *= np.minimum(1, 1 / np.abs(step).max(axis=-1, keepdims=True).clip(1e-12))
            level = level + step[..., :1]
            shape = shape + step[..., 1:2] if free else shape
            if np.abs(step[known]).max(initial=0) < 1e-10:
                break
        _, log_success, log_failure, _ = _binomial(link, level + shape * (x - center))
        horizon = np.exp(center + (at_half - level) / shape)[..., 0]
        log_likelihood = np.where(won > 0, won * log_success, 0) + np.where(won < runs, (runs - won) * log_failure, 0)
    values = horizon, shape[..., 0], log_likelihood.sum(axis=-1)
    return Survival(*(np.where(known, value, np.nan)[()] for value in values))


class VarianceShares(NamedTuple):
    """Where the variance of run outcomes lies; the three shares add up to 1."""

    within_task: float | np.ndarray
    length: float | np.ndarray
    other_between_tasks: float | np.ndarray


def variance_shares(expected, n_success, n_runs, *, weights=1.0):
    r"""
    Split the variance of run outcomes into chance, task length and the rest of task difficulty.

    Parameters
    ----------
    expected : array_like, shape (..., tasks)
        Success probability of each task by its length alone, such as a fitted `survival`. [1]
    n_success, n_runs : array_like, shape (tasks,)
        Successful runs, and all runs. [run]
    weights : array_like, shape (..., tasks)
        How often each task counts, for bootstrap replicates.

    Returns
    -------
    VarianceShares
        With tasks weighted by runs and :math:`\bar p` the mean success: within-task variance (unbiased) and the
        variance of `expected`, both over :math:`\bar p (1-\bar p)`, and what is left. [1]

    Raises
    ------
    ValueError
        `expected` outside [0, 1], more successes than runs.

    Examples
    --------
    >>> coin_flips = variance_shares([0.5, 0.5], [50, 50], [100, 100])
    >>> [round(float(share), 2) for share in coin_flips]
    [1.01, 0.0, -0.01]
    """
    expected = probability(expected, "expected")
    runs = non_negative(n_runs, "n_runs")
    share = probability(np.divide(n_success, runs), "n_success / n_runs")
    weights = non_negative(weights, "weights") * runs
    weights = weights / weights.sum(axis=-1, keepdims=True)
    mean = (weights * share).sum(axis=-1)
    total = mean * (1 - mean)
    unbiased = share * (1 - share) * runs / np.maximum(runs - 1, 1)
    center = (weights * expected).sum(axis=-1, keepdims=True)
    within = (weights * unbiased).sum(axis=-1) / total
    length = (weights * (expected - center) ** 2).sum(axis=-1) / total
    return VarianceShares(within[()], length[()], (1 - within - length)[()])


class Repaired(NamedTuple):
    """Cost per finished task, as a multiple of one flawless run, and share of tasks finished."""

    cost: float | np.ndarray
    finished: float | np.ndarray


class Repairs(NamedTuple):
    """What four ways of repair achieve."""

    retry: Repaired
    verifier: Repaired
    voting: Repaired
    checkpoints: Repaired


#: Points at which a distribution of tasks is represented.
_TASKS = 200


def repair(n_steps, *, step_error, frailty, max_attempts, test_steps, verifier_steps, catch, lead):
    r"""
    Cost per finished task of four ways to repair errors, over tasks that differ in difficulty.

    Tasks differ as in `frailty_success`. In all four a test after the job finds any error, and the job may be tried
    `max_attempts` times: *retry* does no more than that; *verifier* also checks each step with an imperfect critic and
    repeats what it flags; *voting* takes each step by vote; *checkpoints* tests every `checkpoint_steps` and repeats
    only the segment, at most `max_attempts` times.

    Parameters
    ----------
    n_steps : array_like
        Steps of the job, at least 1. [step]
    step_error : array_like
        Probability that a step is wrong, at the mean hazard over tasks. [1]
    frailty : float
        Squared coefficient of variation of the hazard over tasks. [1]
    max_attempts : int
        Attempts allowed. [run]
    test_steps, verifier_steps : float
        Cost of a test that finds every error, and of the critic's look at one step. [step]
    catch : float
        Probability that the critic flags a wrong step. [1]
    lead : int
        Votes by which an answer must lead.

    Returns
    -------
    Repairs
        For each way the expected spend over the share of tasks finished, over n (`inf` where no task is finished),
        and that share. A way can be cheap because it gives up on hard tasks: read both. [1]

    Raises
    ------
    ValueError
        An argument out of range.

    Examples
    --------
    >>> prices = dict(max_attempts=8, test_steps=5, verifier_steps=0.25, catch=0.8, lead=3)
    >>> repairs = repair(200, step_error=0.02, frailty=0, **prices)
    >>> {name: round(float(way.cost), 1) for name, way in repairs._asdict().items()}
    {'retry': 58.3, 'verifier': 2.9, 'voting': 3.2, 'checkpoints': 1.8}
    """
    n = positive(n_steps, "n_steps")[..., None]
    mean_error = probability(step_error, "step_error")[..., None]
    frailty, test = float(non_negative(frailty, "frailty")), float(non_negative(test_steps, "test_steps"))
    critic = float(non_negative(verifier_steps, "verifier_steps"))
    tries = float(count(max_attempts, "max_attempts", least=1))
    quantiles = (np.arange(_TASKS) + 0.5) / _TASKS
    hardness = gammaincinv(1 / frailty, quantiles) * frailty if frailty > 1e-9 else np.ones(1)
    error = -np.expm1(xlog1py(hardness, -mean_error))
    checked = with_verifier(error, catch=catch, max_retries=np.inf)
    voted = with_voting(error, lead=lead)
    interval = np.clip(np.round(checkpoint_steps(mean_error, check_steps=test)), 1, n)

    def finished(cost, success, tries):
        with np.errstate(divide="ignore", invalid="ignore"):
            ever = -np.expm1(xlog1py(tries, -success))
            spend = cost * np.where(success > 0, ever / success, tries)
        return spend, ever

    def over_tasks(spend, share):
        finished = share.mean(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            cost = np.where(finished > 0, spend.mean(axis=-1) / finished / n[..., 0], np.inf)
        return Repaired(cost[()], finished[()])

    segments = n / interval
    segment_cost, segment_success = finished(interval + test, success_probability(error, interval), tries)
    job_success = segment_success**segments
    with np.errstate(divide="ignore", invalid="ignore"):
        started = np.where(segment_success < 1, (1 - job_success) / (1 - segment_success), segments)
    plain = finished(n + test, success_probability(error, n), tries)
    verified = finished(n * checked.attempts * (1 + critic) + test, success_probability(checked.step_error, n), tries)
    by_vote = finished(n * voted.votes + test, success_probability(voted.step_error, n), tries)
    by_segment = segment_cost * started, job_success
    return Repairs(*(over_tasks(*way) for way in (plain, verified, by_vote, by_segment)))


def routed_cost(small, large, *, price, catch, check):
    r"""
    Cost of a small model with escalation to a large one, over the large one alone, at the large one's success.

    Parameters
    ----------
    small, large : array_like, shape (..., tasks)
        Probability that one attempt of either solves a task, over tasks. [1]
    price : array_like
        Cost of an attempt of the small model over one of the large. [1]
    catch : array_like
        Probability that the check flags a wrong answer; right ones pass. [1]
    check : array_like
        Cost of checking an attempt over the cost of the attempt. [1]

    Returns
    -------
    numpy.ndarray or float
        Mean over tasks. [1]

    Raises
    ------
    ValueError
        A probability outside [0, 1], a negative cost.

    Notes
    -----
    What the check flags goes to the large model, once, or once more if its answer is checked and flagged too. Only the
    share of tasks is checked at all that reaches the mean success of `large`; where neither way reaches it, both models
    run on every task. The same check serves both.

    References
    ----------
    L. Chen, M. Zaharia, J. Zou, "FrugalGPT", 2023. ``chen2023frugalgpt``

    Examples
    --------
    >>> routed = routed_cost([1.0, 0.0], [1.0, 0.6], price=0.1, catch=1.0, check=0.0)
    >>> round(float(routed), 3)  # 0.1 always, 1 for the hard half
    0.6
    """
    q, p = probability(small, "small"), probability(large, "large")
    price, catch, check = (_column(x) for x in (
        non_negative(price, "price"), probability(catch, "catch"), non_negative(check, "check")))  # fmt: skip
    up, again = (1 - q) * catch, (1 - p) * catch
    reach = [x.mean(axis=-1) for x in np.broadcast_arrays(q, q + up * p, q + up * p * (1 + again), p)]
    first = price * (1 + check)
    spend = [x.mean(axis=-1) for x in np.broadcast_arrays(price, first + up, first + up * (1 + check + again))]
    cost = np.where(reach[0] >= reach[3], spend[0], 1 + spend[0])
    for success, spent in zip(reach[1:3], spend[1:], strict=True):
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (reach[3] - reach[0]) / (success - reach[0])
        cost = np.where((part > 0) & (part <= 1), np.minimum(cost, spend[0] + part * (spent - spend[0])), cost)
    return cost[()]


def _column(x):
    return np.asarray(x)[..., None]
