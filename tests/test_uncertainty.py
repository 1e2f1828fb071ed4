"""Verdicts, intervals and the bootstrap of groups."""

import math

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
