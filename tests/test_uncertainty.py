"""Verdicts, intervals and the bootstrap of groups."""

import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest

from econmodel import uncertainty as un

RULE = pd.DataFrame({"relation": [">="], "lenient": [0.25], "strict": [0.5], "kind": ["model"]}, index=["X"])


@pytest.mark.parametrize(
    ("lenient", "strict", "kind", "words"),
    [
        (1.0, 0.9, "model", "holds"),
        (1.0, 0.89, "model", "holds in part"),
        (0.5, 0.0, "measured", "holds in part"),
        (0.49, 0.0, "model", "undecided"),
        (0.11, 0.0, "model", "undecided"),
        (0.1, 0.0, "model", "fails as stated"),
        (math.nan, math.nan, "open", "not testable"),
        (1.0, 1.0, "opinion", "opinion"),
    ],
)
def test_verdicts_follow_the_rule_at_its_borders(lenient, strict, kind, words):
    assert un.verdict(lenient, strict, kind=kind) == words


@pytest.mark.parametrize(
    ("relation", "p_lenient", "p_strict"), [(">=", 0.75, 0.5), (">", 0.5, 0.25), ("<=", 0.5, 0.75), ("<", 0.25, 0.5)]
)
def test_relations_count_draws_at_the_threshold(relation, p_lenient, p_strict):
    """Of 0.1, 0.25, 0.5, 0.9 one lies on each threshold."""
    row = un.judge(RULE.assign(relation=relation), {"X": [0.1, 0.25, 0.5, 0.9]}).iloc[0]
    assert (row["p_lenient"], row["p_strict"]) == (p_lenient, p_strict)


def test_a_pair_of_draws_judges_each_rule_on_its_own_population():
    row = un.judge(RULE, {"X": ([1.0], [0.0, 0.2])}).iloc[0]
    assert (row["p_lenient"], row["p_strict"], row["value"]) == (1.0, 0.0, 0.1)


def test_interval_holds_nine_draws_in_ten():
    row = un.judge(RULE, {"X": np.arange(101.0)}).iloc[0]
    assert (row["low"], row["value"], row["high"]) == (5, 50, 95)


@pytest.mark.parametrize("draws", [[], [0.1, math.nan], ([0.1], [])])
def test_empty_or_undefined_draws_are_refused(draws):
    with pytest.raises(ValueError, match="draws = X is not allowed"):
        un.judge(RULE, {"X": draws})


def test_unknown_claims_are_refused():
    with pytest.raises(KeyError, match="Y9"):
        un.judge(RULE, {"Y9": [0.1]})


def test_bootstrap_draws_whole_groups():
    groups = ["a", "b", "b", "c", "c", "c"]
    weights = un.cluster_weights(groups, 20_000, rng=np.random.default_rng(0))
    assert np.all(weights[:, 1] == weights[:, 2])
    assert np.all(weights[:, [0, 1, 3]].sum(axis=1) == 3)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=4 * math.sqrt(2 / 3 / 20_000))


def test_ledger_keeps_unjudged_claims_without_a_verdict():
    results = pd.DataFrame({"value": [1.0], "low": [0.5], "high": [2.0], "p_lenient": [1.0], "p_strict": [0.3]}, ["X"])
    ledger = un.verdicts(pd.concat([RULE, RULE.rename(index={"X": "Z"})]), results)
    assert ledger["verdict"].tolist() == ["holds in part", ""]
    assert ledger["words"].tolist() == ["almost certain (1.0)", ""]
    strict = un.verdicts(RULE, results.assign(p_strict=0.9))
    assert strict["words"].tolist() == ["very likely (0.9)"]


@pytest.mark.parametrize(
    ("p", "words"), [(1.0, "almost certain (1.0)"), (0.5, "about even (0.5)"), (0, "almost excluded (0.0)")]
)
def test_probabilities_are_told_in_words_and_one_digit(p, words):
    assert un.in_words(p) == words
    with pytest.raises(ValueError, match="p = 1.5"):
        un.in_words(1.5)


def test_a_claim_without_data_is_handed_on_and_is_not_testable():
    register = pd.DataFrame(
        dict(kind=["open", "measured"], relation=[">=", ">="], lenient=[1.0, 0.5], strict=[10.0, 0.9]),
        index=["R1", "D2"],
    )
    judged = un.judge(register, {"R1": None, "D2": [0.3, 0.4]})
    assert judged["value"].isna().tolist() == [True, False]
    ledger = un.verdicts(register, judged.set_index("key"))
    assert ledger["verdict"].tolist() == [un.NOT_TESTABLE, un.FAILS]


LAWS = {
    "hours": un.Spread(2.0, 1.0, 4.0, law="triangular"),
    "price": un.Spread(3.0, 1.5, 9.0, law="lognormal"),
    "agent": np.array([0.3, 0.5, 0.9]),
    "fee": 0.25,
}


def finished_cost(hours, price, agent, fee):
    """A small model of one's own: spend over the chance to succeed."""
    return {"cost": (hours * price + fee) / agent, "doubled": 2 * hours}


def drawn(seed=0, n=4096, **options):
    return un.propagate(finished_cost, LAWS, n=n, rng=np.random.default_rng(seed), **options)


def test_a_triangular_law_has_its_textbook_mean_and_median():
    """Mean (low + value + high) / 3; half of the mass of (0, 1, 4) lies below 4 - sqrt(6)."""
    levels = (np.arange(100_000) + 0.5) / 100_000
    law = un.Spread(1.0, 0.0, 4.0, law="triangular")
    assert un.quantiles(law, levels).mean() == pytest.approx(5 / 3, rel=1e-6)
    assert un.quantiles(law, 0.5) == pytest.approx(4 - math.sqrt(6))


def test_a_lognormal_law_holds_its_share_between_its_ends():
    law = un.Spread(3.0, 2.0, 12.0, law="lognormal", share=0.8)
    np.testing.assert_allclose(un.quantiles(law, [0.1, 0.5, 0.9]), [2, 3, 12])
    assert un.quantiles(law, 0.9 + 1e-9) > 12


@pytest.mark.parametrize("law", ["triangular", "uniform"])
def test_bounded_laws_reach_their_ends_and_no_further(law):
    ends = un.quantiles(un.Spread(2.0, 1.0, 5.0, law=law), np.array([0.0, 1.0]))
    np.testing.assert_allclose(ends, [1, 5])


@pytest.mark.parametrize("law", un.LAWS)
def test_a_range_without_width_is_a_number(law):
    np.testing.assert_array_equal(un.quantiles(un.Spread(2.0, 2.0, 2.0, law=law), [0.1, 0.9]), 2)


def test_given_draws_come_back_equally_often_and_unmixed():
    values, times = np.unique(drawn().inputs["agent"], return_counts=True)
    assert values.tolist() == [0.3, 0.5, 0.9]
    np.testing.assert_allclose(times, 4096 / 3, atol=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(law="normal"), "law = normal"),
        (dict(value=9.0), "value = 9.0"),
        (dict(low=math.nan), "value = 2.0"),
        (dict(low=0.0, law="lognormal"), "low = 0"),
        (dict(law="lognormal", share=1.0), "share = 1.0"),
    ],
)
def test_laws_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        un.Spread(**dict(value=2.0, low=1.0, high=4.0, law="uniform") | change)


@pytest.mark.parametrize("draws", [[], [1.0, math.nan]])
def test_draws_without_a_number_are_refused(draws):
    with pytest.raises(ValueError, match="law is not allowed"):
        un.quantiles(draws, 0.5)


def test_only_a_power_of_two_is_balanced():
    with pytest.raises(ValueError, match="n = 1000"):
        drawn(n=1000)


def test_means_are_those_of_the_laws():
    """Inputs are independent: the mean cost is the product of the means."""
    found = drawn(n=16_384)
    price = LAWS["price"]
    levels = (np.arange(200_000) + 0.5) / 200_000
    expected = (7 / 3 * un.quantiles(price, levels).mean() + 0.25) * np.mean(1 / LAWS["agent"])
    assert found.outcomes["cost"].mean() == pytest.approx(expected, rel=2e-3)
    assert (found.outcomes["doubled"] == 2 * found.inputs["hours"]).all()


def test_doubling_the_draws_moves_the_ends_of_an_interval_by_less_than_one_per_cent():
    once, twice = (un.intervals(drawn(n=n).outcomes).set_index("key")[["low", "high"]] for n in (8192, 16_384))
    assert (once / twice - 1).abs().max().max() < 0.01


def test_one_seed_gives_one_answer_and_another_seed_another():
    pd.testing.assert_frame_equal(drawn(3).outcomes, drawn(3).outcomes, check_exact=True)
    assert not drawn(3).outcomes.equals(drawn(4).outcomes)


def test_a_model_may_return_one_array_or_one_number():
    rng = np.random.default_rng
    array = un.propagate(lambda x: x**2, {"x": LAWS["hours"]}, n=8, rng=rng(0))
    number = un.propagate(lambda x: 5.0, {"x": LAWS["hours"]}, n=8, rng=rng(0))
    np.testing.assert_allclose(array.outcomes["outcome"], array.inputs["x"] ** 2)
    assert number.outcomes["outcome"].tolist() == [5.0] * 8


def digest(**options):
    """Bytes of draws and of indices; more blocks than workers, the last one not full."""
    table = un.sensitivity(finished_cost, LAWS, n=512, rng=np.random.default_rng(5), resamples=20, **options)
    found = drawn(n=4096, **options)
    return [frame.to_numpy().tobytes() for frame in (*found, table.drop(columns=["outcome", "input"]))]


def test_processes_give_the_bytes_of_the_serial_run():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert digest(executor=pool) == digest()


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_the_bytes_of_the_serial_run():
    distributed = pytest.importorskip("distributed")
    options = dict(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        assert digest(executor=client.get_executor()) == digest()


def ishigami(a, b, c):
    return np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)


CUBE = dict.fromkeys("abc", un.Spread(0.0, -math.pi, math.pi, law="uniform"))


def test_ishigami_has_its_analytic_indices():
    found = un.sensitivity(ishigami, CUBE, n=8192, rng=np.random.default_rng(1)).set_index("input")
    variance = 7**2 / 8 + 0.1 * math.pi**4 / 5 + 0.01 * math.pi**8 / 18 + 0.5
    first = np.array([(1 + 0.1 * math.pi**4 / 5) ** 2 / 2, 7**2 / 8, 0]) / variance
    crossed = 0.01 * math.pi**8 * (1 / 18 - 1 / 50) / variance
    for name, known in (("first", first), ("total", first + np.array([crossed, 0, crossed]))):
        assert ((found[f"{name}_low"] < known) & (known < found[f"{name}_high"])).all()
        np.testing.assert_allclose(found[name], known, atol=0.015)
    assert (found["total_high"] - found["total_low"]).between(0.001, 0.1).all()


@pytest.mark.parametrize(("model", "laws"), [(ishigami, CUBE), (finished_cost, LAWS)])
def test_indices_equal_those_of_salib(model, laws, monkeypatch):
    """SALib's estimators on the same outcomes; it lays them out draw by draw."""
    analyze = pytest.importorskip("SALib.analyze.sobol").analyze
    seen, outcomes = {}, un._outcomes
    monkeypatch.setattr(un, "_outcomes", lambda *given: seen.setdefault("y", outcomes(*given)))
    found = un.sensitivity(model, laws, n=1024, rng=np.random.default_rng(2))
    varied = [name for name, law in laws.items() if isinstance(law, un.Spread) or np.ndim(law)]
    problem = dict(num_vars=len(varied), names=varied, bounds=[[0, 1]] * len(varied))
    for outcome, values in seen["y"].items():
        a, b, *mixed = values.to_numpy().reshape(-1, 1024)
        theirs = analyze(problem, np.stack([a, *mixed, b], axis=1).ravel(), calc_second_order=False, seed=1)
        ours = found[found["outcome"] == outcome]
        np.testing.assert_allclose(ours["first"], theirs["S1"], atol=1e-10)
        np.testing.assert_allclose(ours["total"], theirs["ST"], atol=1e-10)
        np.testing.assert_allclose(
            (ours["total_high"] - ours["total_low"]) / 2 * 1.96 / 1.645, theirs["ST_conf"], rtol=0.35, atol=1e-3
        )


def test_an_outcome_that_nothing_moves_or_that_is_infinite_has_no_indices():
    table = un.sensitivity(
        lambda x, y: {"fixed": 1.0, "endless": np.where(x > 1.5, np.inf, y)},
        {"x": LAWS["hours"], "y": LAWS["price"]}, n=64, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert table["total"].isna().all()


def test_a_row_of_the_catalog_becomes_a_law():
    from econmodel import catalog

    quoted = catalog.price("H100-SXM-80GB", on="2026-11-09", basis="on_demand")
    law = un.spread(quoted, "triangular")
    assert (law.low, law.value, law.high) == quoted[1:2] + quoted[:1] + quoted[2:3]
    with pytest.raises(ValueError, match="nan"):
        un.spread(catalog.fact("agent_workload", "coding agent request", "tool_calls_per_request_mean"), "uniform")


def joint_model():
    """The joint model of a fleet as chapter 10 has it for coding agents, and laws for all its inputs."""
    from econmodel import catalog, simulate
    from econmodel.parts import Replica

    chip, llm = catalog.accelerator("H100-SXM-80GB"), catalog.llm("Meta-Llama-3.1-70B")
    replica = Replica(llm=llm, accelerator=chip, n_accelerators=4, weight_bits=8, kv_bits=8)
    week = 1 + 0.5 * np.sin(np.arange(168) * 2 * math.pi / 24)
    policy = simulate.Policy(residency="hold", max_batch=128, chunk_tokens=2048)
    laws = dict(
        week=[0, 1], autonomy=un.Spread(0.5, 0.0, 1.0, law="uniform"), speed=un.Spread(1.0, 0.8, 1.3, law="triangular"),
        gpu_price=un.Spread(1.7, 1.3, 2.3, law="triangular"), tier_price=0.0, calls=un.Spread(10, 5, 20, law="triangular"),
        context=un.Spread(120e3, 90e3, 150e3, law="triangular"), new_tokens=un.Spread(3e3, 2e3, 5e3, law="uniform"),
        answer=un.Spread(400, 300, 500, law="triangular"), tool_wait=un.Spread(20, 5, 60, law="triangular"),
        person_wait=10.0, attempts=un.Spread(2.4, 1.1, 6.0, law="triangular"), latency_target=un.Spread(40, 30, 60, law="uniform"),
    )  # fmt: skip
    model = partial(un.agent_task, weeks=[week, week**2], call_rate=200.0, replica=replica, policy=policy)
    return model, laws


def test_bars_of_an_agent_task_add_up_and_follow_its_attempts_and_prices():
    model, laws = joint_model()
    at = {name: un.quantiles(law, [0.5]) for name, law in laws.items()}
    bars = model(**at)
    total = bars.pop("total")
    np.testing.assert_allclose(sum(bars.values()), total)
    dearer = model(**at | {"gpu_price": 2 * at["gpu_price"]})["total"]
    np.testing.assert_allclose(dearer, 2 * total)
    once, twice = (model(**at | {"attempts": np.array([n])}, scaling="perfect")["total"] for n in (1.0, 2.0))
    np.testing.assert_allclose(twice, 2 * once)
    assert model(**at | {"autonomy": np.array([1.0])})["provisioning for the peak"] < 0.01 * total
    alone = model(**at | {"autonomy": np.array([1.0])}, scaling="perfect")
    quick = model(**at | {"autonomy": np.array([1.0]), "person_wait": np.zeros(1)}, scaling="perfect")
    np.testing.assert_allclose(alone["total"], quick["total"])


@pytest.mark.slow
def test_the_joint_model_is_settled_and_the_same_wherever_it_runs():
    """8,192 draws in at most 3 s of processor time; twice as many move the ends of the total by less than 1 %."""
    model, laws = joint_model()
    rng = np.random.default_rng
    once = un.propagate(model, laws, n=8192, rng=rng(1)).outcomes
    twice = un.propagate(model, laws, n=16_384, rng=rng(1)).outcomes
    ends, later = (un.intervals(x).set_index("key").loc["total", ["low", "high"]].astype(float) for x in (once, twice))
    assert (ends / later - 1).abs().max() < 0.01
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        apart = un.propagate(model, laws, n=8192, rng=rng(1), executor=pool).outcomes
    assert apart.to_numpy().tobytes() == once.to_numpy().tobytes()
