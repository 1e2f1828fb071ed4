"""Training: what communication, the slowest of n, failures and larger batches take."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtri
from scipy.stats import norm

from econmodel import catalog, training

FACTS = Path(__file__).parents[2] / "shared" / "facts"
NODE = dict(inside_bytes_per_s=450e9, between_bytes_per_s=50e9, node_copies=8)


# communication


def test_one_chip_has_nothing_to_add_up_and_many_send_the_vector_twice():
    for algorithm in ("ring", "tree"):
        assert training.all_reduce_time(1e9, 1, bandwidth_bytes_per_s=1e9, algorithm=algorithm) == 0
    assert training.all_reduce_time(1e9, 10**9, bandwidth_bytes_per_s=1e9) == pytest.approx(2)
    assert training.all_reduce_time(1e9, 2, bandwidth_bytes_per_s=1e9) == pytest.approx(1)


def test_a_ring_sends_fewer_bytes_and_a_tree_takes_fewer_hops():
    n = 2 ** np.arange(2, 14)
    large, small = 1e12, 1
    link = dict(bandwidth_bytes_per_s=50e9, latency_s=1e-7)
    assert (
        training.all_reduce_time(large, n, **link) < training.all_reduce_time(large, n, algorithm="tree", **link)
    ).all()
    assert (
        training.all_reduce_time(small, n, **link) > training.all_reduce_time(small, n, algorithm="tree", **link)
    ).all()
    assert training.all_reduce_time(0, 1024, algorithm="tree", **link) == pytest.approx(2e-6)


def test_an_exchange_within_one_node_is_a_ring_and_across_nodes_carries_a_share_each():
    alone = training.exchange_time(16e9, 8, latency_s=1e-3, **NODE)
    assert alone == pytest.approx(training.all_reduce_time(16e9, 8, bandwidth_bytes_per_s=450e9))
    flat = training.exchange_time(16e9, 64, between_bytes_per_s=50e9, latency_s=1e-6, rings=3)
    assert flat == pytest.approx(training.all_reduce_time(16e9, 64, bandwidth_bytes_per_s=50e9, latency_s=3e-6))
    assert training.exchange_time(16e9, 64, **NODE) - alone == pytest.approx(7 / 4 * 2e9 / 50e9)
    assert training.exchange_time(16e9, 0.5, **NODE) == 0


def test_tensor_parallel_chips_send_four_all_reduces_per_layer():
    one = training.all_reduce_time(1000 * 8 * 4096 * 2, 8, bandwidth_bytes_per_s=1e9)
    shape = dict(layers=32, hidden_size=4096, width=8, bandwidth_bytes_per_s=1e9)
    assert training.tensor_parallel_time(1000, **shape) == pytest.approx(4 * 32 * one)
    assert training.tensor_parallel_time(1000, **shape | dict(width=1)) == 0


# the slowest of n


def test_the_expected_maximum_equals_its_closed_forms_and_tables():
    root = np.sqrt(np.pi)
    known = {1: 0, 2: 1 / root, 3: 1.5 / root, 10: 1.5387527308, 100: 2.5075936364, 1000: 3.2414357691}
    found = training.slowest_of(list(known), mean=0, std=1)
    np.testing.assert_allclose(found, list(known.values()), rtol=1e-9, atol=1e-15)
    assert training.slowest_of(100, mean=3, std=0.5) == pytest.approx(3 + 0.5 * 2.5075936364)


@pytest.mark.parametrize("n", [7, 1e4, 1e6, 1e9])
def test_the_expected_maximum_equals_another_integral(n):
    level = ndtri(1 - 1 / n)
    above, _ = quad(lambda z: -np.expm1(n * log_ndtr(z)), 0, level + 20, points=[level], epsabs=1e-12, limit=200)
    below, _ = quad(lambda z: np.exp(n * log_ndtr(z)), -40, 0, epsabs=1e-13)
    assert training.slowest_of(n, mean=0, std=1) == pytest.approx(above - below, rel=1e-9)


def test_the_expected_maximum_equals_monte_carlo():
    rng = np.random.default_rng(1)
    for n, rounds in ((8, 40000), (1024, 4000)):
        drawn = rng.normal(1.0, 0.1, (rounds, n)).max(axis=1)
        error = drawn.std() / np.sqrt(rounds)
        assert abs(training.slowest_of(n, mean=1, std=0.1) - drawn.mean()) < 3 * error


def test_the_gumbel_limit_is_reached_slowly():
    n = 10.0 ** np.arange(2, 10)
    level = -ndtri(1 / n)
    limit = level + np.euler_gamma / (n * norm.pdf(level))
    off = np.abs(training.slowest_of(n, mean=0, std=1) / limit - 1)
    assert (np.diff(off) < 0).all()
    assert 0.005 < off[0] < 0.02
    assert off[-1] < 0.002


def test_the_maximum_of_a_sample_equals_enumeration_and_tends_to_its_largest():
    sample = [3.0, 1.0, 2.0, 2.0]
    for n in (1, 2, 3, 5):
        exact = np.mean([max(drawn) for drawn in product(sample, repeat=n)])
        assert training.slowest_of_sample(n, sample) == pytest.approx(exact)
    assert training.slowest_of_sample(10**9, sample) == pytest.approx(3)
    quantiles = ndtri((np.arange(200000) + 0.5) / 200000)
    assert training.slowest_of_sample(64, quantiles) == pytest.approx(training.slowest_of(64, mean=0, std=1), abs=1e-3)


# failures


def young(cost, mtbf):
    return np.sqrt(2 * cost * mtbf)


def daly(cost, mtbf):
    x = cost / (2 * mtbf)
    return young(cost, mtbf) * (1 + np.sqrt(x) / 3 + x / 9) - cost


@given(st.floats(1e-3, 1e5), st.floats(1, 1e9), st.floats(0, 1e4))
@settings(deadline=None)
def test_no_interval_beats_the_optimum_neither_young_nor_daly(cost, mtbf, restart):
    job = dict(checkpoint_time=cost, mtbf=mtbf, restart_time=restart)
    best = training.checkpoint_interval(**job)
    most = training.goodput(interval=best, **job)
    assert 0 < best <= mtbf
    others = [young(cost, mtbf), max(daly(cost, mtbf), 0), 0.8 * best, 1.25 * best]
    assert (training.goodput(interval=others, **job) <= most * (1 + 1e-12)).all()
    assert 0 <= most <= 1


def test_young_and_daly_lose_where_failures_are_frequent_and_win_back_where_they_are_rare():
    job = dict(checkpoint_time=600.0, mtbf=1800.0)
    most = training.goodput(interval=training.checkpoint_interval(**job), **job)
    for rule in (young, daly):
        assert training.goodput(interval=rule(600, 1800), **job) < most
        for share in (1e-6, 1e-10, 1e-15):
            found = training.checkpoint_interval(checkpoint_time=share, mtbf=1.0)
            assert found == pytest.approx(rule(share, 1.0), rel=np.sqrt(share))
    assert daly(600, 1800) == pytest.approx(training.checkpoint_interval(**job), rel=0.01)


@pytest.mark.parametrize("share", [1e-18, 1e-12, 1e-6, 9.999e-4, 1.001e-3, 0.1, 1.0, 20.0, 700.0, 1e6])
def test_the_optimum_solves_its_equation_at_extreme_ratios(share):
    x = training.checkpoint_interval(checkpoint_time=share, mtbf=1.0)
    if share < 1e-9:
        assert x == pytest.approx(np.sqrt(2 * share) - 2 * share / 3, rel=1e-9)
    elif share < 30:
        assert -np.log1p(-x) - x == pytest.approx(share, rel=1e-7)
    else:
        assert x == pytest.approx(1)


def test_without_failures_nobody_writes_checkpoints_and_free_ones_are_written_all_the_time():
    assert training.checkpoint_interval(checkpoint_time=60, mtbf=np.inf) == np.inf
    assert training.goodput(interval=np.inf, checkpoint_time=60, mtbf=np.inf) == 1
    assert training.goodput(interval=np.inf, checkpoint_time=60, mtbf=1e6) == 0
    assert training.checkpoint_interval(checkpoint_time=0, mtbf=100) == 0
    assert training.goodput(interval=0, checkpoint_time=0, mtbf=100, restart_time=10) == pytest.approx(np.exp(-0.1))
    assert training.goodput(interval=100, checkpoint_time=25, mtbf=np.inf) == pytest.approx(0.8)
    assert training.goodput(interval=0, checkpoint_time=1, mtbf=100) == 0


def simulated_segment(length, restart, mtbf, rng):
    """Time from one checkpoint to the next, failures and failed restarts included."""
    spent = 0.0
    while (failure := rng.exponential(mtbf)) < length:
        spent += failure
        while (again := rng.exponential(mtbf)) < restart:
            spent += again
        spent += restart
    return spent + length


@pytest.mark.parametrize(("interval", "cost", "restart"), [(900, 60, 600), (200, 100, 50), (3000, 30, 1500)])
def test_goodput_equals_a_simulation_of_its_events(interval, cost, restart):
    rng, mtbf = np.random.default_rng(5), 3600.0
    spent = np.array([simulated_segment(interval + cost, restart, mtbf, rng) for _ in range(20000)])
    expected = interval / training.goodput(interval=interval, checkpoint_time=cost, mtbf=mtbf, restart_time=restart)
    assert abs(spent.mean() - expected) < 3 * spent.std() / np.sqrt(spent.size)


# a step


steps = st.fixed_dictionaries(
    {
        "compute_time": st.floats(1e-3, 100),
        "exchange_bytes": st.floats(0, 1e12),
        "between_bytes_per_s": st.floats(1e9, 1e12),
        "inside_bytes_per_s": st.floats(1e12, 1e13),
        "node_chips": st.sampled_from([1, 8, 72]),
        "latency_s": st.floats(0, 1e-3),
        "rings": st.integers(1, 200),
        "exposed": st.floats(0, 3),
        "jitter": st.floats(0, 0.3),
    }
)


@given(steps, st.lists(st.integers(1, 10**6), min_size=2, max_size=6), st.floats(1.1, 100))
@settings(deadline=None)
def test_efficiency_lies_in_its_range_falls_with_size_and_rises_with_bandwidth(step, sizes, faster):
    sizes = np.sort(sizes)
    found = training.scaling_efficiency(sizes, **step)
    assert ((found > 0) & (found <= 1)).all()
    assert (np.diff(found) <= 1e-12).all()
    links = ("between_bytes_per_s", "inside_bytes_per_s")
    better = training.scaling_efficiency(sizes, **step | {link: faster * step[link] for link in links})
    assert (better >= found - 1e-12).all()
    alone = training.step_time(1, **step)
    assert alone.exchange == 0
    assert alone.waiting == 0
    assert training.scaling_efficiency(1, **step) == 1
    np.testing.assert_allclose(found, [training.scaling_efficiency(n, **step) for n in sizes])


def test_a_pipeline_idles_while_it_fills_and_a_copy_that_does_not_fit_does_nothing():
    step = dict(compute_time=2.0, exchange_bytes=1e9, between_bytes_per_s=1e10)
    piped = training.step_time(64, stages=8, chunks=2, microbatches=14, copy_chips=8, **step)
    assert piped.bubble == pytest.approx(2 * 7 / (2 * 14))
    assert piped.total == pytest.approx(sum(piped))
    assert training.scaling_efficiency([4, 8], copy_chips=8, **step).tolist() == [0, 1]


def test_efficiency_halves_where_the_exchange_takes_as_long_as_the_arithmetic():
    assert training.scaling_efficiency(2, compute_time=1, exchange_bytes=1e9, between_bytes_per_s=1e9) == 0.5


def test_the_best_batch_reaches_the_target_first():
    job = dict(token_time=3e-3, step_overhead=0.4, critical_batch=25e6)
    n = np.array([64, 4096, 1e5])
    best = training.best_batch(n, **job)
    assert best[1] / best[0] == pytest.approx(8)

    def time(batch):
        tokens = training.tokens_to_target(batch, least_tokens=1e12, critical_batch=25e6)
        return tokens / batch * (3e-3 * batch / n + 0.4)

    for factor in (0.9, 1.1):
        assert (time(factor * best) > time(best)).all()
    assert training.tokens_to_target(25e6, least_tokens=1e12, critical_batch=25e6) == pytest.approx(2e12)


# the fit


@pytest.fixture
def invented():
    """Runs of an invented machine whose constants are known."""
    truth = {"exposed": 0.6, "latency": 30e-6, "jitter": 0.015}
    sizes = np.tile([64, 256, 1024, 4096], 3)
    frame = pd.DataFrame({
        "series": np.repeat(["a", "b", "c"], 4), "software": "S", "machine": "M", "n_accelerators": sizes,
        "params": np.repeat([7e9, 70e9, 7e9], 4), "sequence": 4096, "scale_up": 450e9, "between": 50e9, "node": 8,
        "tokens": np.r_[4e6 / sizes[:4], 16e6 / sizes[:4], np.full(4, 8192)], "layers": 32, "hidden_size": 4096,
        "tensor": np.repeat([1, 8, 1], 4), "stages": np.repeat([1, 4, 1], 4), "chunks": 2, "context": 1,
        "microbatch": 1, "exchange": 3, "rings": np.repeat([1, 1, 96], 4),
    })  # fmt: skip
    runs = training.step_terms(frame)
    names = [("token_time", name) for name in "abc"] + [("exposed", "S"), ("latency", "M"), ("jitter", "M")]
    logs = np.log([1e-4, 1e-3, 1e-4, *truth.values()])
    runs["step"] = training.predict_step_time(training.StepFit(names, logs, logs), runs).total
    return runs, truth


def fitted(runs, seed=1, **options):
    guesses = {"exposed": (1, 3), "latency": (20e-6, 2), "jitter": (0.02, 2)}
    return training.fit_step_time(runs, guesses=guesses, rng=np.random.default_rng(seed), **options)


def test_the_fit_finds_what_was_put_in_and_predicts_what_was_left_out(invented):
    runs, truth = invented
    kept = runs["n_accelerators"] < 4096
    fit = fitted(runs[kept], noise=0.001, n=200)
    for (constant, _), log in zip(fit.names[3:], fit.best[3:], strict=True):
        assert np.exp(log) == pytest.approx(truth[constant], rel=0.15)
    predicted = training.predict_step_time(fit, runs[~kept]).total
    np.testing.assert_allclose(predicted, runs.loc[~kept, "step"], rtol=0.01)
    drawn = training.predict_step_time(fit, runs[~kept], drawn=True).total
    low, high = np.quantile(drawn, [0.01, 0.99], axis=0)
    assert ((low < runs.loc[~kept, "step"]) & (runs.loc[~kept, "step"] < high)).all()
    again = fitted(runs[kept], noise=0.001, n=200)
    np.testing.assert_array_equal(fit.draws, again.draws)


def test_lost_shares_are_those_of_the_largest_cluster(invented):
    runs, _ = invented
    left_out = runs["n_accelerators"] == 4096
    table = training.lost_shares(runs, left_out, {"M": fitted(runs[~left_out], noise=0.001, n=200)})
    rate = (runs["tokens"] / runs["step"]).to_numpy().reshape(3, 4)
    np.testing.assert_allclose(table["lost"], 1 - rate[:, -1] / rate[:, 0])
    np.testing.assert_allclose(table["predicted"], table["lost"], atol=0.01)
    assert table["largest"].tolist() == [4096] * 3
    assert ((table["low"] <= table["lost"]) & (table["lost"] <= table["high"])).all()
    without = training.lost_shares(runs, left_out, {"M": fitted(runs[~left_out], noise=0.001, n=0)})
    assert without["low"].isna().all()
    assert without["predicted"].equals(table["predicted"])
    assert table.loc["a", "power_law"] < 0.8 * table.loc["a", "lost"]


def test_one_odd_run_does_not_bend_the_fit(invented):
    runs, _ = invented
    odd = runs.assign(step=runs["step"].where(runs.index != 2, 1.5 * runs["step"]))
    predicted = training.predict_step_time(fitted(odd, noise=0.001, n=0), runs).total
    np.testing.assert_allclose(predicted, runs["step"], rtol=0.01)


def test_draws_widen_with_the_noise(invented):
    runs, _ = invented
    spreads = [fitted(runs, noise=noise, n=500).draws.std(axis=0)[:3].mean() for noise in (0.001, 0.03)]
    assert spreads[1] > 2 * spreads[0]


def test_more_chips_than_sequences_share_one(invented):
    runs, _ = invented
    wide = training.step_terms(runs.assign(tokens=1024))
    assert wide["copy"].tolist()[:4] == [4] * 4
    assert (wide["tensor_time"][:4] > 0).all()


def test_a_constant_without_a_guess_and_a_name_without_a_fit_are_missed(invented):
    runs, _ = invented
    with pytest.raises(KeyError, match="latency"):
        training.fit_step_time(runs, guesses={"exposed": (1, 3)}, noise=0.01, rng=np.random.default_rng(1))
    fit = fitted(runs, noise=0.01, n=0)
    with pytest.raises(KeyError, match="other"):
        training.predict_step_time(fit, runs.assign(machine="other"))


def test_a_power_law_is_its_own_power_law():
    n = np.array([1, 8, 64])
    assert training.power_law_lost(n, 3 * n**-0.1, 512) == pytest.approx(1 - 512**-0.1)
    assert training.power_law_lost([8, 8], [1, 1], 512) == pytest.approx(0)


# bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training.all_reduce_time(-1, 2, bandwidth_bytes_per_s=1), "n_bytes = -1"),
        (lambda: training.all_reduce_time(1, 0, bandwidth_bytes_per_s=1), "n_chips = 0"),
        (lambda: training.all_reduce_time(1, 2, bandwidth_bytes_per_s=0), "bandwidth_bytes_per_s = 0"),
        (lambda: training.all_reduce_time(1, 2, bandwidth_bytes_per_s=1, latency_s=np.nan), "latency_s = nan"),
        (lambda: training.all_reduce_time(1, 2, bandwidth_bytes_per_s=1, algorithm="star"), "algorithm = 'star'"),
        (lambda: training.exchange_time(1, 0, between_bytes_per_s=1), "n_copies = 0"),
        (lambda: training.tensor_parallel_time(1, layers=1, hidden_size=1, width=0.5, bandwidth_bytes_per_s=1), "width = 0.5"),
        (lambda: training.slowest_of(0, mean=0, std=1), "n = 0"),
        (lambda: training.slowest_of(2, mean=np.nan, std=1), "mean = nan"),
        (lambda: training.slowest_of(2, mean=0, std=-1), "std = -1"),
        (lambda: training.slowest_of_sample(2, []), "sample is not allowed"),
        (lambda: training.checkpoint_interval(checkpoint_time=-1, mtbf=1), "checkpoint_time = -1"),
        (lambda: training.checkpoint_interval(checkpoint_time=1, mtbf=0), "mtbf = 0"),
        (lambda: training.goodput(interval=np.nan, checkpoint_time=1, mtbf=1), "interval = nan"),
        (lambda: training.goodput(interval=1, checkpoint_time=1, mtbf=1, restart_time=-2), "restart_time = -2"),
        (lambda: training.scaling_efficiency(8, compute_time=0, exchange_bytes=1, between_bytes_per_s=1), "compute_time = 0"),
        (lambda: training.tokens_to_target(1, least_tokens=1, critical_batch=0), "critical_batch = 0"),
        (lambda: training.best_batch(1, token_time=1, step_overhead=0, critical_batch=1), "step_overhead = 0"),
        (lambda: training.power_law_lost([1, 2], [1, 0], 4), "rate = 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_arrays_equal_scalars():
    costs, mtbfs = np.array([0.0, 1e-4, 60, 600]), np.array([[1e3], [np.inf]])
    table = training.checkpoint_interval(checkpoint_time=costs, mtbf=mtbfs)
    shares = training.goodput(interval=500, checkpoint_time=costs, mtbf=mtbfs)
    assert table.shape == shares.shape == (2, 4)
    for (i, j), value in np.ndenumerate(table):
        job = dict(checkpoint_time=costs[j], mtbf=mtbfs[i, 0])
        assert np.isscalar(training.checkpoint_interval(**job))
        assert training.checkpoint_interval(**job) == value
        assert training.goodput(interval=500, **job) == shares[i, j]


# the runs


def test_layouts_agree_with_the_published_parameters():
    runs = catalog.training_runs()
    mpt = runs[runs["name"].str.startswith("MPT")].drop_duplicates("series")
    counted = 12 * mpt["layers"] * mpt["hidden_size"] ** 2 + 50368 * mpt["hidden_size"]
    np.testing.assert_allclose(counted, mpt["params"], rtol=0.005)
    assert runs.groupby("series").size().min() >= 2
    assert runs.drop(columns=["layers", "hidden_size", "sequences", "global_batch"]).notna().all(axis=None)


@pytest.mark.skipif(not FACTS.is_dir(), reason="the maintainers' tables are not at hand")
def test_runs_equal_the_collected_throughput():
    runs = catalog.training_runs()
    rate = runs["tokens"] / runs["step"]
    submitted = pd.read_csv(FACTS / "mlperf_training_scaling.csv")
    chips = submitted["acc"].str.contains("H100|trillium|B200")
    expected = submitted[chips & (submitted["n_acc"] * submitted["gbs"] != 64 * 2048)]["tok_s_per_acc"]
    own = runs["sequences"].notna()
    np.testing.assert_allclose(rate[own], expected, rtol=1e-4)
    megascale = pd.read_csv(FACTS / "training_mfu_published.csv")
    own = runs["machine"] == "A100"
    np.testing.assert_allclose((rate * runs["n_accelerators"])[own], megascale["tok_s_total"], rtol=0.01)
