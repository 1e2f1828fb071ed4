"""When requests come, how bursty, and how large a session is: formulas, limits, and draws against their laws."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from econmodel import catalog
from econmodel import demand as dm

BURSTS = catalog.derived("burstiness")


def test_the_published_load_factors_follow_from_the_hourly_profiles():
    profiles = catalog.derived("load_profiles")
    facts = catalog.facts("load_shapes")
    for (item, parameter), field in {
        (item, parameter): field
        for item in facts["item"].unique()
        for parameter, field in [
            ("peak_to_mean_1h", "peak_to_mean"), ("trough_to_mean_1h", "trough_to_mean"), ("load_factor_1h", "load_factor")
        ]
    }.items():  # fmt: skip
        known = facts.query("item == @item and parameter == @parameter")
        if known.empty:
            continue
        own = profiles[profiles["series"] == item.split(" | ")[0]]
        shape = dm.load_shape(own["rate"].fillna(0), missing=own["missing"])
        value = known["value"].iloc[0] / (100 if parameter == "load_factor_1h" else 1)
        assert getattr(shape, field) == pytest.approx(value, abs=6e-4), f"{item}, {parameter}"


def test_half_of_the_hours_below_half_of_the_peak_as_published_for_the_azure_week():
    own = catalog.derived("load_profiles").query("series == 'azure2024_conv'")
    shape = dm.load_shape(own["rate"])
    assert round(shape.below_half_peak, 2) == 0.31
    assert shape.below_quarter_peak == 0
    days = own["rate"].to_numpy().reshape(7, 24).mean(axis=1) / own["rate"].mean()
    assert [round(x, 2) for x in days] == [0.64, 1.18, 1.22, 1.13, 1.14, 1.03, 0.66]


def test_a_flat_load_has_no_shape_and_a_gap_is_no_trough():
    assert dm.load_shape([3, 3, 3]) == (3, 1, 1, 1, 0, 0)
    assert dm.load_shape([3, 3, 0], missing=[False, False, True]).trough_to_mean == 1
    assert dm.load_shape([3, 3, 0]).trough_to_mean == 0


@given(st.lists(st.floats(0.01, 1e9), min_size=1, max_size=50), st.floats(1e-3, 1e3))
def test_the_shape_of_a_load_has_no_unit_and_keeps_its_bounds(counts, scale):
    shape, scaled = dm.load_shape(counts), dm.load_shape(np.multiply(counts, scale))
    np.testing.assert_allclose(shape[1:4], scaled[1:4], rtol=1e-9)
    assert 0 < shape.trough_to_mean <= 1 + 1e-9
    assert shape.peak_to_mean >= 1 - 1e-9
    assert 0 <= shape.below_quarter_peak <= shape.below_half_peak < 1


def test_a_clock_and_a_poisson_process_have_their_known_burstiness():
    clock = np.arange(1000.0)
    assert dm.interarrival_cv(clock) == 0
    assert dm.dispersion_index(clock, window=10) == 0
    times = dm.sample_arrivals([5.0], bin_seconds=40_000, rng=np.random.default_rng(0))
    assert dm.interarrival_cv(times) == pytest.approx(1, abs=3 / math.sqrt(times.size))
    for window in (1, 10, 60):  # the index of n windows scatters by sqrt(2 / n)
        assert dm.dispersion_index(times, window=window) == pytest.approx(1, abs=3 * math.sqrt(2 * window / 40_000))


def test_the_windows_start_at_the_first_stamp_and_incomplete_ones_do_not_count():
    assert dm.window_counts([100.0, 100.5, 101.2, 102.9], window=1).tolist() == [2, 1]
    shifted = dm.dispersion_index(np.array([0, 0.1, 0.2, 2.5, 4.0]) + 1e6, window=1)
    assert shifted == pytest.approx(dm.dispersion_index([0, 0.1, 0.2, 2.5, 4.0], window=1))


@pytest.mark.parametrize("call", [dm.interarrival_cv, lambda t: dm.dispersion_index(t, window=1)])
@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([], "0 stamps"),
        ([1.0], "1 stamps"),
        ([0.0, 2.0, 1.0], "1 at position 2 is not allowed: before 2"),
        ([0.0, math.nan, 1.0], "nan at position 1"),
        ([5.0, 5.0], "no length"),
    ],
)
def test_bad_times_are_refused_with_their_place(call, times, reason):
    with pytest.raises(ValueError, match=f"timestamps = .*{reason}"):
        call(times)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: dm.dispersion_index([0, 1], window=2), "window = 2"),
        (lambda: dm.dispersion_index([0, 1], window=0), "window = 0"),
        (lambda: dm.load_shape([1, -1]), "counts = -1"),
        (lambda: dm.load_shape([1, math.nan]), "counts = nan"),
        (lambda: dm.load_shape([0, 0]), "counts = nothing"),
        (lambda: dm.load_shape([]), "counts = nothing"),
        (lambda: dm.load_shape([1, 2], missing=[True]), "missing = shape"),
        (lambda: dm.sample_arrivals([-1], bin_seconds=1, rng=np.random.default_rng(0)), "rate_per_s = -1"),
        (lambda: dm.sample_arrivals([1], bin_seconds=0, rng=np.random.default_rng(0)), "bin_seconds = 0"),
        (lambda: dm.session_tokens(2.5, **SIZES, cached_fraction=0), "n_calls = 2.5"),
        (lambda: dm.session_tokens(2, **SIZES | {"system_tokens": -1}, cached_fraction=0), "system_tokens = -1"),
        (lambda: dm.session_tokens(2, **SIZES, cached_fraction=1.1), "cached_fraction = 1.1"),
        (lambda: dm.active_share(active_time=1, person_time=1, autonomy=2), "autonomy = 2"),
        (lambda: dm.Quantiles(levels=(0.5, 0.2), values=(1, 2)), "values ="),
        (lambda: dm.Quantiles(levels=(0.2, 0.5), values=(2, 1)), "values ="),
        (lambda: dm.fit_tail([0, 0.5], [1, 2], mean=1), "mean = 1"),
        (lambda: dm.sample_sessions(catalog.session_laws("agent")[:1], 1, rng=np.random.default_rng(0)), "laws = "),
    ],
)
def test_bad_input_is_refused_by_name_and_value(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()


def test_a_random_rate_has_the_dispersion_that_its_variances_promise():
    """Mean over traces of the index, within three standard errors."""
    variances = dm.modulation_variances([3, 12, 25], windows=[1, 10, 60], rate_per_s=2)
    drawn = np.zeros((30, 3))
    for seed in range(30):
        counts = dm.sample_counts(
            [2.0], bin_seconds=30_000, rng=np.random.default_rng(seed), windows=[1, 10, 60], variances=variances
        )
        for scale, window in enumerate((1, 10, 60)):
            whole = counts.reshape(-1, window).sum(axis=1)
            drawn[seed, scale] = whole.var() / whole.mean()
    error = drawn.std(axis=0) / math.sqrt(30)
    np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - [3, 12, 25]), 3 * error)


def test_bursts_that_no_random_rate_makes_are_refused_at_their_window():
    with pytest.raises(ValueError, match="at a window of 10 s is not allowed"):
        dm.modulation_variances([7.9, 2.1, 2.9], windows=[1, 10, 60], rate_per_s=3.4)
    with pytest.raises(ValueError, match="at a window of 10 s"):
        dm.modulation_variances([2, 50], windows=[1, 10], rate_per_s=1)
    assert dm.modulation_variances([1, 1], windows=[1, 10], rate_per_s=1).tolist() == [0, 0]


def test_arrivals_follow_the_profile_bin_by_bin():
    rate = np.array([0.5, 0, 4, 1])
    counts = np.zeros(4)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        times = dm.sample_arrivals(rate, bin_seconds=3600, rng=rng, windows=[60], variances=[0.5])
        assert (np.diff(times) >= 0).all()
        counts += np.bincount((times // 3600).astype(int), minlength=4)
    assert counts[1] == 0
    expected = 20 * 3600 * rate
    spread = np.sqrt(expected + 20 * 60 * (60 * rate) ** 2 * 0.5)
    np.testing.assert_array_less(np.abs(counts - expected), 3 * spread + 1e-9)


def test_counts_and_times_come_from_one_process():
    one = dm.sample_counts([3.0, 1.0], bin_seconds=600, rng=np.random.default_rng(2), windows=[60], variances=[1.0])
    times = dm.sample_arrivals([3.0, 1.0], bin_seconds=600, rng=np.random.default_rng(2), windows=[60], variances=[1.0])
    assert np.bincount((times // 60).astype(int), minlength=20).tolist() == one.tolist()


def bursts(series, seed, seconds):
    own = BURSTS[BURSTS["series"] == series].set_index("window_s")
    factors = own["variance"].dropna()
    times = dm.sample_arrivals(
        [own["rate"].iloc[0]], bin_seconds=seconds, rng=np.random.default_rng(seed),
        windows=list(factors.index), variances=list(factors),
    )  # fmt: skip
    return own, times


@pytest.mark.parametrize(("series", "seconds"), [("azure2023_code", 3436), ("mooncake_conversation", 3537)])
def test_generated_hours_have_on_average_the_dispersion_of_the_real_one(series, seconds):
    drawn = []
    for seed in range(100):
        own, times = bursts(series, seed, seconds)
        if series == "mooncake_conversation":
            times = np.floor(times / 3) * 3  # its stamps come every 3 s
        drawn.append([dm.dispersion_index(times, window=window) for window in (1, 10, 60)])
    band = own.loc[[1, 10, 60]]
    assert (np.mean(drawn, axis=0) > band["low"]).all()
    assert (np.mean(drawn, axis=0) < band["high"]).all()


@pytest.mark.parametrize("series", ["servegen_m_large", "servegen_m_small"])
def test_generated_fortnights_have_the_dispersion_of_the_real_one_at_ten_minutes(series):
    own = BURSTS.query("series == @series and window_s == 600").iloc[0]
    hours = catalog.derived("load_profiles").query("series == @series")
    rate = hours["rate"].interpolate().to_numpy()
    known = np.repeat(~hours["missing"].to_numpy(), 6)
    for seed in range(10):
        counts = dm.sample_counts(
            rate, bin_seconds=3600, rng=np.random.default_rng(seed), windows=[600], variances=[own["variance"]]
        )[known]
        assert own["low"] < counts.var() / counts.mean() < own["high"]


SIZES = dict(system_tokens=1000, input_tokens_per_call=100, output_tokens_per_call=50)


@given(st.integers(0, 40), st.floats(0, 1e5), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1))
def test_the_tokens_of_a_session_equal_a_sum_over_its_calls(n, system, given_tokens, answer, share):
    sent = cached = context = 0.0
    for call in range(n):
        again = context
        context = (context if call else system) + given_tokens
        sent += context
        cached += share * again
        context += answer
    tokens = dm.session_tokens(
        n,
        system_tokens=system,
        input_tokens_per_call=given_tokens,
        output_tokens_per_call=answer,
        cached_fraction=share,
    )
    np.testing.assert_allclose(tokens, (sent, cached, sent - cached, n * answer, context), rtol=1e-9, atol=1e-6)


def test_a_session_without_calls_costs_nothing_and_arrays_equal_scalars():
    assert dm.session_tokens(0, **SIZES, cached_fraction=0.5) == (0, 0, 0, 0, 0)
    n, share = np.arange(6)[:, None], np.array([0, 0.3, 1])
    together = dm.session_tokens(n, **SIZES, cached_fraction=share)
    for i, j in np.ndindex(6, 3):
        alone = dm.session_tokens(i, **SIZES, cached_fraction=float(share[j]))
        np.testing.assert_allclose([field[i, j] for field in together], alone)
    assert all(type(field) is float for field in alone)


def test_a_perfect_cache_turns_growth_with_the_square_into_growth_in_proportion():
    n = np.array([100, 200])
    with_cache = dm.session_tokens(n, **SIZES, cached_fraction=1.0).computed
    without = dm.session_tokens(n, **SIZES, cached_fraction=0.0).computed
    assert with_cache[1] / with_cache[0] == pytest.approx(2, rel=0.05)
    assert without[1] / without[0] == pytest.approx(4, rel=0.15)


@given(st.floats(0.01, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_autonomy_only_raises_the_active_share(active, person, autonomy):
    recorded = dm.active_share(active_time=active, person_time=person, autonomy=0)
    assert recorded == pytest.approx(active / (active + person))
    assert recorded - 1e-12 <= dm.active_share(active_time=active, person_time=person, autonomy=autonomy) <= 1
    assert dm.active_share(active_time=active, person_time=person, autonomy=1) == 1


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_quantiles_return_what_they_were_given_and_rise_between(values, at):
    levels = np.linspace(0, 1, len(values))
    law = dm.Quantiles(levels=tuple(levels), values=tuple(np.sort(values)))
    np.testing.assert_allclose(dm.quantile(law, levels), np.sort(values), rtol=1e-9, atol=1e-9)
    assert (np.diff(dm.quantile(law, np.sort(at))) >= -1e-9).all()


def test_a_pareto_tail_is_continued_with_its_own_index():
    """Quantiles of a Pareto law up to p90 and its mean give back the index, and with it p99 and the share of the tail."""
    levels = np.linspace(0, 0.9, 400)
    index = 1.5
    law = dm.fit_tail(levels, (1 - levels) ** (-1 / index), mean=index / (index - 1))
    assert law.tail == pytest.approx(index, rel=5e-3)
    assert dm.quantile(law, 0.99) == pytest.approx(0.01 ** (-1 / index), rel=0.01)


def test_the_tail_of_tool_time_predicts_the_published_share_of_long_calls():
    """Body and mean of TraceLab's tool calls in; out: the share of calls over a minute and their share of the time."""
    tool = catalog.facts("agent_duty_cycle").query("item == 'TraceLab | single tool call'").set_index("parameter").value
    values = [0, *(tool[f"tool_latency_s_{p}"] for p in ("p50", "p90", "p99"))]
    law = dm.fit_tail([0, 0.5, 0.9, 0.99], values, mean=tool["tool_latency_s_mean"])
    time = dm.quantile(law, (np.arange(4_000_000) + 0.5) / 4_000_000)
    published = catalog.facts("agent_workload").set_index("parameter").value
    long = time > 60
    assert 100 * long.mean() == pytest.approx(published["tool_calls_over_60s_share_of_calls"], abs=1)
    assert 100 * time[long].sum() / time.sum() == pytest.approx(published["tool_calls_over_60s_share_of_time"], abs=6)


@pytest.fixture(scope="module", params=[("agent", 20_000), ("chat", 100_000)], ids=["agent", "chat"])
def population(request):
    name, n = request.param
    calls = dm.sample_sessions(catalog.session_laws(name), n, rng=np.random.default_rng(11))
    return name, pd.DataFrame(calls._asdict())


def test_drawn_sessions_are_consistent_call_by_call(population):
    name, calls = population
    assert (calls[["input_tokens", "cached_tokens", "output_tokens", "wait_s"]] >= 0).all(axis=None)
    assert (calls["cached_tokens"] <= calls["input_tokens"]).all()
    first = ~calls["session"].duplicated()
    assert (calls.loc[first, ["cached_tokens", "wait_s"]] == 0).all(axis=None)
    before = calls["input_tokens"].shift()
    assert (calls["cached_tokens"] <= before)[~first].all()
    assert (np.diff(calls["session"]) >= 0).all()
    assert calls["session"].nunique() == {"agent": 20_000, "chat": 100_000}[name]
    np.testing.assert_array_equal(calls[["input_tokens", "cached_tokens"]] % 1, 0)


def test_drawn_calls_match_recorded_quantiles_from_p10_to_p99(population):
    name, calls = population
    calls = calls.assign(new_tokens=calls["input_tokens"] - calls["cached_tokens"])
    later = calls["session"].duplicated()
    drawn = {field: calls[field] for field in ("input_tokens", "output_tokens", "new_tokens")}
    drawn["tool_wait_s"] = calls.loc[later & ~calls["by_person"], "wait_s"]
    drawn["person_wait_s"] = calls.loc[later & calls["by_person"], "wait_s"]
    table = catalog.derived("trace_quantiles").set_index("field")
    table = table[table["series"] == {"agent": "weka_main_chain", "chat": "mooncake_chats"}[name]]
    levels = [p for p in table.columns if p[0] == "p" and 10 <= float(p[1:]) <= 99]
    assert len(table) == {"agent": 5, "chat": 4}[name]
    for field, known in table[levels].astype(float).iterrows():
        off = np.quantile(drawn[field], [float(p[1:]) / 100 for p in levels]) / known - 1
        if (name, field) == ("chat", "new_tokens"):
            # between follow-up turns and new documents the recorded quantiles leap; the chapter shows this miss
            assert off.drop(["p35", "p40", "p45"]).abs().max() < 0.1
            assert off.abs().max() < 0.25
        else:
            assert off.abs().max() < 0.1, f"{field}: {off.abs().idxmax()} is off by {off[off.abs().idxmax()]:+.0%}"


def test_drawn_sessions_are_the_same_for_the_same_seed_and_share_out_their_kinds():
    laws = catalog.session_laws("agent")
    one, two = (dm.sample_sessions(laws, 50, rng=np.random.default_rng(3)) for _ in "ab")
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left, right)
    assert math.isclose(sum(law.share for law in laws), 1)
