"""Compound error: published numbers, limits, arrays against scalars, properties, brute force."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.special import betaln

from econmodel import compound_error as ce

INF = math.inf
probabilities = st.floats(0, 1)
inner = st.floats(0.01, 0.99)


# published numbers


def test_two_per_cent_over_fifty_calls_fails_most_of_the_time():
    assert ce.success_probability(0.02, 50) == pytest.approx(0.98**50, rel=1e-14)
    assert ce.max_steps(0.5, step_error=0.02) == pytest.approx(34.3, abs=0.05)


def test_half_life_rule_of_ord_2025():
    """T80 = 0.322, T90 = 0.152, T99 = 0.0145 half-lives (arXiv 2505.05115)."""
    t80, t90, t99 = ce.horizon_at([0.8, 0.9, 0.99], horizon=1)
    assert (round(t80, 3), round(t90, 3), round(t99, 4)) == (0.322, 0.152, 0.0145)


@pytest.mark.parametrize(("catch", "success"), [(0.5, 0.602), (0.8, 0.816), (0.9, 0.903), (0.95, 0.950)])
def test_step_verifier_lifts_the_job(catch, success):
    checked = ce.with_verifier(0.02, catch=catch, max_retries=INF)
    assert checked.step_error == pytest.approx(0.02 * (1 - catch) / (1 - 0.02 * catch), rel=1e-12)
    assert checked.attempts == pytest.approx(1 / (1 - 0.02 * catch), rel=1e-12)
    assert ce.success_probability(checked.step_error, 50) == pytest.approx(success, abs=5e-4)


@pytest.mark.parametrize(("lead", "votes", "success"), [(2, 2.08, 0.979), (3, 3.12, 0.9996)])
def test_first_to_lead_voting_of_maker(lead, votes, success):
    voted = ce.with_voting(0.02, lead=lead)
    assert voted.votes == pytest.approx(votes, abs=0.005)
    assert ce.success_probability(voted.step_error, 50) == pytest.approx(success, abs=5e-4)


def test_restart_of_a_fifty_step_job_costs_137_steps():
    mean = ce.success_probability(0.02, 50)
    assert ce.cost_per_success(50, max_attempts=INF, mean=mean) == pytest.approx(137.3, abs=0.05)


def test_best_checkpoint_is_every_seven_steps_and_costs_a_third():
    assert ce.checkpoint_steps(0.02, check_steps=1) == pytest.approx(6.6, abs=0.05)
    costs = [ce.checkpointed_steps(1, step_error=0.02, interval=m, check_steps=1) for m in range(1, 20)]
    assert np.argmin(costs) + 1 == 7
    assert min(costs) == pytest.approx(1.32, abs=0.005)


def test_gpt5_horizons_imply_a_weibull_shape_of_two_thirds():
    assert ce.shape_from_horizons(203.0, 38.3) == pytest.approx(0.68, abs=0.005)


# limits


@pytest.mark.parametrize(
    ("error", "steps", "success"),
    [(0, 1e300, 1), (0, INF, 1), (1, 0, 1), (1, 1, 0), (0.5, INF, 0), (1e-12, 1e12, math.exp(-1)), (0.3, 1, 0.7)],
)
def test_success_at_the_edges(error, steps, success):
    assert ce.success_probability(error, steps) == pytest.approx(success, rel=1e-9)


def test_inverses_at_the_edges():
    assert ce.max_steps(0.9, step_error=0) == INF
    assert ce.max_steps(0, step_error=1) == INF
    assert ce.max_steps(1, step_error=0.1) == 0
    assert ce.max_steps(0.5, step_error=1) == 0
    assert ce.max_step_error(0.5, n_steps=0) == 1
    assert ce.max_step_error(0, n_steps=3) == 1
    assert ce.max_step_error(1, n_steps=3) == 0
    assert ce.max_step_error(0.5, n_steps=INF) == 0


def test_no_tries_succeed_trivially_and_never_once():
    assert ce.pass_hat_k(0, mean=0.3, correlation=0.5) == 1
    assert ce.pass_at_k(0, mean=0.3, correlation=0.5) == 0


def test_equal_tasks_make_tries_independent_and_fixed_tasks_make_them_alike():
    assert ce.pass_hat_k(4, mean=0.6, correlation=0) == pytest.approx(0.6**4)
    assert ce.pass_hat_k(4, mean=0.6, correlation=1e-15) == pytest.approx(0.6**4, rel=1e-12)
    assert ce.pass_hat_k(4, mean=0.6, correlation=1) == pytest.approx(0.6)
    assert ce.pass_at_k(1_000_000, mean=0.6, correlation=1) == pytest.approx(0.6)


@pytest.mark.parametrize("k", [65, 1000, 10**6, 10**12])
def test_many_tries_keep_their_precision(k):
    mean, correlation = 0.7, 0.4
    a, b = (p * (1 - correlation) / correlation for p in (mean, 1 - mean))
    # Gamma(a+b)/Gamma(a) * k^-b (1 + ..): betaln loses digits only beyond 1e9, where the asymptote is exact
    exact = betaln(a + k, b) - betaln(a, b) if k < 1e9 else math.lgamma(a + b) - math.lgamma(a) - b * math.log(k)
    assert np.log(ce.pass_hat_k(k, mean=mean, correlation=correlation)) == pytest.approx(exact, rel=1e-8, abs=2e-15 * k)


def test_tiny_success_is_not_lost():
    assert ce.pass_at_k(3, mean=1e-20, correlation=0.1) == pytest.approx(2.6e-20, rel=0.05)


def test_attempts_become_infinite_where_the_mean_of_one_over_p_does():
    mean = 0.6
    limit = mean / (1 + mean)
    assert np.isfinite(ce.expected_attempts(INF, mean=mean, correlation=limit - 1e-9))
    assert ce.expected_attempts(INF, mean=mean, correlation=limit) == INF
    assert ce.cost_per_success(1, max_attempts=INF, mean=mean, correlation=limit) == INF
    assert ce.expected_attempts(INF, mean=1, correlation=0.9) == 1
    assert ce.expected_attempts(INF, mean=0) == INF


def test_unnoticed_failures_are_delivered():
    assert ce.expected_attempts(10, mean=0.6, correlation=0.3, detection=0) == 1
    assert ce.cost_per_success(2, max_attempts=10, mean=0.5, detection=0) == 4
    assert ce.cost_per_success(1, max_attempts=10, mean=0) == INF


def test_verifier_edges():
    blind = ce.with_verifier(0.1, catch=0, max_retries=5)
    assert blind.step_error == pytest.approx(0.1)
    assert blind.attempts == 1
    perfect = ce.with_verifier(0.1, catch=1, max_retries=2)
    assert perfect.undetected_error == 0
    assert perfect.step_error == pytest.approx(0.1**3)
    paranoid = ce.with_verifier(0.0, catch=1, max_retries=INF, false_alarm=1)
    assert (paranoid.step_error, paranoid.attempts) == (1, INF)
    assert ce.with_verifier(1.0, catch=1, max_retries=3).attempts == 4


def test_voting_on_a_coin_takes_the_square_of_the_lead():
    voted = ce.with_voting(0.5, lead=4)
    assert voted.step_error == pytest.approx(0.5)
    assert voted.votes == pytest.approx(16)
    assert ce.with_voting(0.0, lead=3) == (0, 3)
    assert ce.with_voting(1.0, lead=3) == (1, 3)


def test_checkpoints_tend_to_young_and_daly_without_the_factor_of_two():
    rare = 1e-10
    assert ce.checkpoint_steps(rare, check_steps=1) == pytest.approx(math.sqrt(1 / rare), rel=1e-4)
    assert ce.checkpoint_steps(0, check_steps=1) == INF
    assert ce.checkpoint_steps(0.1, check_steps=0) == 0
    assert ce.checkpointed_steps(10, step_error=1, interval=1, check_steps=0) == INF


def test_frailty_zero_is_independence_and_any_frailty_helps_long_jobs():
    assert ce.frailty_success(0.02, 50, frailty=0) == pytest.approx(0.98**50, rel=1e-14)
    assert ce.frailty_success(0.02, 50, frailty=1e-12) == pytest.approx(0.98**50, rel=1e-9)
    assert ce.frailty_success(0.02, 1e6, frailty=1) == pytest.approx(1 / (1 - 1e6 * math.log(0.98)))
    assert ce.frailty_success(1, 1, frailty=1) == 0


def test_nothing_is_identified_when_all_tasks_are_solved_or_none():
    for share in (0.0, 1.0):
        assert np.isnan(ce.fit_pass_hat_k(share, share).correlation)
        assert np.isnan(ce.fit_frailty(share, share).frailty)
    assert ce.fit_pass_hat_k(0.5, 0.2).correlation == 0
    assert ce.fit_frailty(0.5, 0.2).frailty == 0
    assert ce.fit_frailty(0.5, 0.5).frailty == INF


# arrays equal scalars

ARGUMENTS = {
    "success_probability": ([0.0, 0.02, 0.3], [50, 3, 0]),
    "max_steps": ([0.9, 0.5, 0.1], {"step_error": [0.0, 0.1, 1.0]}),
    "max_step_error": ([0.9, 0.5, 0.1], {"n_steps": [0, 10, 1000]}),
    "pass_hat_k": ([1, 70, 1000], {"mean": [0.2, 0.9, 1.0], "correlation": [0, 0.3, 1]}),
    "pass_at_k": ([1, 70, 1000], {"mean": [0.2, 0.9, 1.0], "correlation": [0, 0.3, 1]}),
    "fit_pass_hat_k": ([0.5, 0.7, 0.0], [0.4, 0.6, 0.0]),
    "fit_frailty": ([0.5, 0.7, 0.9], [0.4, 0.6, 0.9]),
    "frailty_success": ([0.0, 0.02, 1.0], [50, 50, 1], {"frailty": [1, 0, 2]}),
    "with_verifier": ([0.1, 0.2, 1.0], {"catch": [0, 0.5, 1], "max_retries": [2, INF, 9], "false_alarm": [0.1, 0, 0]}),
    "with_voting": ([0.1, 0.5, 1.0], {"lead": [1, 2, 3]}),
    "checkpointed_steps": ([10, 20, 30], {"step_error": [0, 0.1, 1], "interval": [1, 2, 3], "check_steps": [0, 1, 2]}),
    "checkpoint_steps": ([0.0, 0.1, 0.2], {"check_steps": [1, 0, 2]}),
    "expected_attempts": ([1, 300, INF], {"mean": [0.5, 0.1, 0.8], "correlation": [1, 0.3, 0.2], "detection": [1, 0.9, 1]}),
    "cost_per_success": ([1, 2, 3], {"max_attempts": [1, 300, INF], "mean": [0.5, 0.1, 0.8], "correlation": [1, 0.3, 0]}),
    "survival": ([0, 5, INF], {"horizon": [1, 2, 3], "shape": [1, 0.5, 2]}),
    "horizon_at": ([0.0, 0.8, 1.0], {"horizon": [1, 2, 3], "shape": [1, 0.5, 2]}),
    "shape_from_horizons": ([10, 20, 30], [1, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arrays_equal_scalars(name):
    function = getattr(ce, name)
    args = ARGUMENTS[name]
    keywords = args[-1] if isinstance(args[-1], dict) else {}
    places = [a for a in args if not isinstance(a, dict)]
    together = function(*places, **keywords)
    for i in range(3):
        alone = function(*(a[i] for a in places), **{k: v[i] for k, v in keywords.items()})
        assert np.ndim(np.asarray(alone).flat[0]) == 0
        at_i = [np.asarray(field)[i] for field in together] if isinstance(together, tuple) else together[i]
        np.testing.assert_allclose(at_i, alone, rtol=1e-12)
    first = function(*(a[0] for a in places), **{k: v[0] for k, v in keywords.items()})
    assert all(isinstance(x, float) for x in (first if isinstance(first, tuple) else [first]))


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("bad", [math.nan, -0.5])
def test_bad_input_names_argument_and_value(name, bad):
    function = getattr(ce, name)
    names = list(inspect.signature(function).parameters)
    args = ARGUMENTS[name]
    good = {}
    for value in args:
        good |= value if isinstance(value, dict) else {names[len(good)]: value}
    for broken in good:
        call = {k: v[1] for k, v in good.items()} | {broken: bad}
        with pytest.raises(ValueError, match=rf"{broken}.* = {bad:g} is not allowed"):
            function(**call)


def test_impossible_shares_are_refused():
    with pytest.raises(ValueError, match=r"success = 1.2 is not allowed"):
        ce.max_steps(1.2, step_error=0.1)
    with pytest.raises(ValueError, match=r"pass_2 = 0.6 .*above pass_1"):
        ce.fit_pass_hat_k(0.5, 0.6)
    with pytest.raises(ValueError, match=r"n_success = 3 .*above n_runs"):
        ce.fit_survival([1, 2], [3, 0], [2, 2], law="weibull")
    with pytest.raises(KeyError, match="gompertz.*weibull"):
        ce.fit_survival([1, 2], [1, 0], [2, 2], law="gompertz")


# properties


@given(success=inner, error=st.floats(1e-9, 0.9))
def test_longest_job_has_the_wanted_success(success, error):
    assert ce.success_probability(error, ce.max_steps(success, step_error=error)) == pytest.approx(success, rel=1e-9)


@given(success=inner, steps=st.floats(1, 1e9))
def test_largest_error_gives_the_wanted_success(success, steps):
    error = ce.max_step_error(success, n_steps=steps)
    assert ce.success_probability(error, steps) == pytest.approx(success, rel=1e-6)


@given(mean=probabilities, correlation=probabilities)
def test_pass_hat_k_falls_and_pass_at_k_rises(mean, correlation):
    k = np.arange(6)
    hat, at = (f(k, mean=mean, correlation=correlation) for f in (ce.pass_hat_k, ce.pass_at_k))
    assert np.all(np.diff(hat) <= 1e-12)
    assert np.all(np.diff(at) >= -1e-12)
    assert hat[1] == pytest.approx(mean, abs=1e-12)
    assert at[1] == pytest.approx(mean, abs=1e-12)


def test_estimate_of_pass_hat_k_is_the_share_of_lucky_draws():
    """Drawing k of the n trials of each task without replacement; all tasks once lucky in c of n ways."""
    solved = [3, 0, 4, 0, 5]
    assert ce.pass_hat_k_estimate(0, solved) == 1
    assert ce.pass_hat_k_estimate(1, solved) == pytest.approx((4 * 2 + 5 * 4) / (12 * 4))
    assert ce.pass_hat_k_estimate(2, solved) == pytest.approx((4 * 1 / 6 + 5) / 12)
    np.testing.assert_allclose(ce.pass_hat_k_estimate(2, [solved, [0, 0, 0, 0, 1]]), [(4 / 6 + 5) / 12, 1])
    with pytest.raises(ValueError, match="k = 5 is not allowed"):
        ce.pass_hat_k_estimate(5, solved)


@given(mean=inner, correlation=st.floats(0.001, 0.99))
def test_two_moments_are_recovered(mean, correlation):
    pair = [float(ce.pass_hat_k(k, mean=mean, correlation=correlation)) for k in (1, 2)]
    fit = ce.fit_pass_hat_k(*pair)
    assert fit.correlation == pytest.approx(correlation, abs=1e-9)
    hazard, frailty = ce.fit_frailty(*pair)
    np.testing.assert_allclose([(1 + k * frailty * hazard) ** (-1 / frailty) for k in (1, 2)], pair, rtol=1e-6)
    if hazard < 20:
        got = ce.frailty_success(-math.expm1(-hazard), [1, 2], frailty=frailty)
        np.testing.assert_allclose(got, pair, rtol=1e-6)


@given(error=probabilities, catch=probabilities, alarm=probabilities, retries=st.integers(0, 30))
def test_verifier_outcomes_are_probabilities_that_match_a_sum(error, catch, alarm, retries):
    checked = ce.with_verifier(error, catch=catch, max_retries=retries, false_alarm=alarm)
    flagged = error * catch + (1 - error) * alarm
    attempts = sum(flagged**j for j in range(retries + 1))
    assert checked.attempts == pytest.approx(attempts, rel=1e-9)
    assert checked.step_error == pytest.approx(1 - (1 - error) * (1 - alarm) * attempts, abs=1e-9)
    assert checked.undetected_error == pytest.approx(error * (1 - catch) * attempts, abs=1e-9)


@given(n=st.integers(1, 40), mean=probabilities, correlation=probabilities, detection=probabilities)
def test_attempts_match_a_sum_over_the_beta_binomial(n, mean, correlation, detection):
    made = [detection**j * (1 - ce.pass_at_k(j, mean=mean, correlation=correlation)) for j in range(n)]
    assert ce.expected_attempts(n, mean=mean, correlation=correlation, detection=detection) == pytest.approx(
        sum(made), rel=1e-9
    )


@pytest.mark.parametrize("detection", [0.9, 0.999, 1.0])
@pytest.mark.parametrize("correlation", [0.0, 1e-9, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [256, 257, 20_000])
def test_long_campaigns_match_a_sum(n, correlation, detection):
    mean = 0.5
    reached, attempts, delivered = 1.0, 0.0, 0.0
    for j in range(n):
        fail = (
            1 - mean
            if j == 0
            else ((1 - mean) * (1 - correlation) + j * correlation) / (1 - correlation + j * correlation)
        )
        attempts += reached
        delivered += reached * (1 - fail)
        reached *= fail * detection
    given_args = dict(mean=mean, correlation=correlation, detection=detection)
    assert ce.expected_attempts(n, **given_args) == pytest.approx(attempts, rel=1e-8)
    assert ce.cost_per_success(1, max_attempts=n, **given_args) == pytest.approx(attempts / delivered, rel=1e-8)


@given(mean=inner, correlation=probabilities, detection=st.floats(0, 0.999))
def test_unlimited_attempts_are_the_limit_of_many(mean, correlation, detection):
    given_args = dict(mean=mean, correlation=correlation, detection=detection)
    many = ce.expected_attempts(10**6, **given_args)
    assert ce.expected_attempts(INF, **given_args) == pytest.approx(many, rel=1e-8)


@given(duration=st.floats(0.001, 1e4), horizon=st.floats(0.1, 1e4), shape=st.floats(0.2, 3))
def test_horizon_inverts_survival(duration, horizon, shape):
    success = ce.survival(duration, horizon=horizon, shape=shape)
    if 1e-300 < success < 1 - 1e-9:
        assert ce.horizon_at(success, horizon=horizon, shape=shape) == pytest.approx(duration, rel=1e-5)
    assert ce.survival(horizon, horizon=horizon, shape=shape) == pytest.approx(0.5)


# fits against an independent optimizer, and repair against simulation


@pytest.mark.parametrize("law", ce.LAWS)
def test_fit_equals_a_general_optimizer(law):
    rng = np.random.default_rng(3)
    length = np.exp(rng.uniform(0, 6, 60))
    runs = rng.integers(1, 9, 60)
    won = rng.binomial(runs, ce.survival(length, horizon=30, shape=0.6))

    def curve(horizon, shape):
        if law == "log-logistic":
            return 1 / (1 + (length / horizon) ** shape)
        return ce.survival(length, horizon=horizon, shape=shape if law == "weibull" else 1.0)

    def loss(x):
        return -(stats.binom.logpmf(won, runs, curve(*np.exp(x))) - stats.binom.logpmf(won, runs, won / runs)).sum()

    fit = ce.fit_survival(length, won, runs, law=law)
    best = optimize.minimize(loss, [3.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert fit.horizon == pytest.approx(np.exp(best.x[0]), rel=1e-5)
    if law != "exponential":
        assert fit.shape == pytest.approx(np.exp(best.x[1]), rel=1e-5)
    assert loss(np.log([fit.horizon, fit.shape])) == pytest.approx(best.fun, abs=1e-7)


def test_weights_replicate_rows():
    length, won, runs = np.array([1.0, 5.0, 30.0]), np.array([4, 3, 1]), np.array([5, 5, 5])
    weighted = ce.fit_survival(length, won, runs, law="weibull", weights=[[2, 1, 1], [1, 1, 1]])
    repeated = ce.fit_survival(length[[0, 0, 1, 2]], won[[0, 0, 1, 2]], runs[[0, 0, 1, 2]], law="weibull")
    np.testing.assert_allclose([f[0] for f in weighted], repeated, rtol=1e-8)


def test_nothing_is_fitted_when_all_runs_end_alike():
    assert all(np.isnan(x) for x in ce.fit_survival([1, 2], [0, 0], [5, 5], law="weibull"))
    assert all(np.isnan(x) for x in ce.fit_survival([1, 2], [5, 5], [5, 5], law="log-logistic"))


def test_variance_shares_separate_chance_from_difficulty():
    """Half of the tasks always solved, half never: all variance lies between tasks; known by length or not."""
    assert ce.variance_shares([1, 0], [9, 0], [9, 9]) == pytest.approx((0, 1, 0))
    assert ce.variance_shares([0.5, 0.5], [9, 0], [9, 9]) == pytest.approx((0, 0, 1))


def test_a_verified_job_equals_a_simulation():
    rng = np.random.default_rng(7)
    n, error, catch, alarm, retries = 200_000, 0.3, 0.6, 0.1, 2
    wrong = rng.random((n, retries + 1)) < error
    flagged = rng.random((n, retries + 1)) < np.where(wrong, catch, alarm)
    accepted = ~flagged
    first = np.argmax(accepted, axis=1)
    ever = accepted.any(axis=1)
    right = ever & ~wrong[np.arange(n), first]
    attempts = np.where(ever, first + 1, retries + 1)
    checked = ce.with_verifier(error, catch=catch, max_retries=retries, false_alarm=alarm)
    assert checked.step_error == pytest.approx(1 - right.mean(), abs=3 * math.sqrt(0.25 / n))
    assert checked.attempts == pytest.approx(attempts.mean(), abs=3 * attempts.std() / math.sqrt(n))


def test_repairs_of_equal_tasks_reduce_to_their_closed_forms():
    prices = dict(test_steps=0.0, verifier_steps=0.0, catch=1.0, lead=1)
    n, error = 50.0, 0.02
    repairs = ce.repair(n, step_error=error, frailty=0, max_attempts=1, **prices)
    assert repairs.retry.cost == pytest.approx(1 / 0.98**50)
    assert repairs.voting.cost == pytest.approx(1 / 0.98**50)
    assert repairs.verifier.cost == pytest.approx(1 / 0.98)
    many = ce.repair(n, step_error=error, frailty=0, max_attempts=10_000, **(prices | {"test_steps": 1.0}))
    exact = ce.checkpointed_steps(n, step_error=error, interval=7, check_steps=1) / n
    assert many.checkpoints.cost == pytest.approx(exact, rel=1e-9)


def test_repairs_over_uneven_tasks_equal_a_simulation_of_retries():
    rng = np.random.default_rng(11)
    hazard = -math.log(1 - 0.02) * rng.gamma(0.5, 2.0, 400_000)
    success = np.exp(-20 * hazard)
    tries = np.minimum(rng.geometric(np.maximum(success, 1e-12)), 5)
    won = rng.random(tries.size) < 1 - (1 - success) ** 5
    got = ce.repair(
        20, step_error=0.02, frailty=2.0, max_attempts=5, test_steps=0, verifier_steps=0, catch=0, lead=1
    ).retry
    assert got.finished == pytest.approx(won.mean(), rel=0.01)
    assert got.cost == pytest.approx(tries.sum() / won.sum(), rel=0.02)


@given(n=st.floats(1, 2000), error=st.floats(0, 0.5), frailty=st.floats(0, 5))
def test_no_repair_is_cheaper_than_a_flawless_run(n, error, frailty):
    prices = dict(max_attempts=6, test_steps=2, verifier_steps=0.2, catch=0.8, lead=2)
    for way in ce.repair(n, step_error=error, frailty=frailty, **prices):
        assert way.cost >= 1
        assert 0 <= way.finished <= 1


# long statistics


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "correlation", "detection"), [(0.6, 0.1, 1.0), (0.6, 0.5, 0.9), (0.2, 0.3, 0.7)])
def test_campaigns_of_retries_equal_a_simulation(mean, correlation, detection):
    rng, tasks, limit = np.random.default_rng(5), 2_000_000, 12
    a, b = (p * (1 - correlation) / correlation for p in (mean, 1 - mean))
    success = rng.beta(a, b, tasks)
    attempts, delivered, active = np.zeros(tasks), np.zeros(tasks, bool), np.ones(tasks, bool)
    for _ in range(limit):
        attempts += active
        won = active & (rng.random(tasks) < success)
        delivered |= won
        active &= ~won & (rng.random(tasks) < detection)
    asked = dict(max_attempts=limit, mean=mean, correlation=correlation, detection=detection)
    error = 4 * attempts.std() / math.sqrt(tasks)
    assert ce.expected_attempts(**asked) == pytest.approx(attempts.mean(), abs=error)
    share = delivered.mean()
    error = (
        4 * attempts.mean() / share * math.sqrt((attempts.var() / attempts.mean() ** 2 + (1 - share) / share) / tasks)
    )
    assert ce.cost_per_success(1, **asked) == pytest.approx(attempts.mean() / share, abs=error)


@pytest.mark.slow
def test_weibull_fits_cover_the_truth_as_often_as_they_say():
    """Of 400 simulated agents, the 90 % bootstrap interval of the shape holds the truth in 85 to 95 %."""
    from econmodel.uncertainty import cluster_weights

    rng, covered = np.random.default_rng(8), []
    length = np.exp(rng.uniform(0, 6, 80))
    runs = np.full(80, 8)
    for _ in range(400):
        won = rng.binomial(runs, ce.survival(length, horizon=30, shape=0.6))
        weights = cluster_weights(np.arange(80), 200, rng=rng)
        low, high = np.quantile(ce.fit_survival(length, won, runs, law="weibull", weights=weights).shape, [0.05, 0.95])
        covered.append(low <= 0.6 <= high)
    assert 0.85 <= np.mean(covered) <= 0.95


def test_a_small_model_that_is_as_able_is_used_alone():
    assert ce.routed_cost([0.9, 0.5], [0.8, 0.5], price=0.1, catch=0.5, check=3.0) == pytest.approx(0.1)


def test_without_a_check_that_finds_anything_both_models_run():
    assert ce.routed_cost([0.5], [0.8], price=0.1, catch=0.0, check=0.2) == pytest.approx(1.1)


def test_both_models_run_where_no_escalation_reaches_the_large_one():
    assert ce.routed_cost([0.5], [0.9], price=0.1, catch=0.3, check=0.2) == pytest.approx(1.1)


def test_routing_equals_a_simulation_of_its_tasks():
    rng = np.random.default_rng(3)
    large, n = rng.uniform(0.3, 0.9, 400), 4000
    small, price, catch, check = 0.8 * large, 0.2, 0.9, 0.1
    hit = rng.random((n, 400)) < small
    up = ~hit & (rng.random((n, 400)) < catch)
    solved = hit | (up & (rng.random((n, 400)) < large))
    share = (large.mean() - small.mean()) / (solved.mean() - small.mean())
    spent = price + share * (price * check + up.mean())
    assert 0 < share < 1
    assert ce.routed_cost(small, large, price=price, catch=catch, check=check) == pytest.approx(spent, rel=0.01)


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0, 1), st.floats(0.1, 1), st.floats(0, 1))
def test_a_better_check_never_makes_routing_dearer(q, p, price, catch, check):
    better = min(1.0, 1.2 * catch)
    worse, good = (ce.routed_cost([q], [p], price=price, catch=c, check=check) for c in (catch, better))
    assert good <= worse + 1e-9
    assert good >= price * (1 - 1e-9)


def test_routing_of_rows_is_that_of_each_row():
    small, large = [[0.5, 0.2], [0.6, 0.4]], [[0.9, 0.5], [0.8, 0.7]]
    rows = ce.routed_cost(small, large, price=[0.1, 0.3], catch=0.8, check=0.2)
    each = [
        ce.routed_cost(s, t, price=c, catch=0.8, check=0.2) for s, t, c in zip(small, large, (0.1, 0.3), strict=True)
    ]
    assert np.allclose(rows, each)


@pytest.mark.parametrize("name", ["price", "catch", "check"])
def test_routing_names_what_is_out_of_range(name):
    with pytest.raises(ValueError, match=name):
        ce.routed_cost([0.5], [0.6], **{"price": 0.1, "catch": 0.5, "check": 0.1, name: -1.0})
