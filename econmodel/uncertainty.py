"""Carry ranges to the answer and judge the claims by rules that were written before it."""

import numpy as np
import pandas as pd

from econmodel.units import count, probability

_RELATIONS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}

#: Verdicts in words.
HOLDS, IN_PART, FAILS, UNDECIDED = "holds", "holds in part", "fails as stated", "undecided"
NOT_TESTABLE, OPINION = "not testable", "opinion"


def cluster_weights(groups, n, *, rng):
    """
    Weights of a bootstrap that draws whole groups of rows, for rows that depend on each other within a group.

    Parameters
    ----------
    groups : array_like, shape (rows,)
        Group of each row.
    n : int
        Replicates.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray, shape (n, rows)
        How often the group of each row was drawn.

    Examples
    --------
    >>> cluster_weights(["a", "a", "b"], 2, rng=np.random.default_rng(1)).sum(axis=0).shape
    (3,)
    """
    count(n, "n")
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    return rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)[:, index]


def verdict(p_lenient, p_strict, *, kind="model"):
    """
    Judge one claim from the probabilities that its rules are met.

    Parameters
    ----------
    p_lenient, p_strict : float
        Probability that the relation holds at the lenient and at the strict threshold; nan without data. [1]
    kind : str
        Kind of the claim; an opinion gets no verdict.

    Returns
    -------
    str
        "holds" (strict met with probability of at least 0.9), "holds in part" (lenient met with at least 0.5), "fails
        as stated" (lenient met with at most 0.1), else "undecided"; "not testable" without data, "opinion".

    Raises
    ------
    ValueError
        A probability outside [0, 1].

    Examples
    --------
    >>> [verdict(1.0, 0.95), verdict(1.0, 0.2), verdict(0.3, 0.0), verdict(0.0, 0.0)]
    ['holds', 'holds in part', 'undecided', 'fails as stated']
    """
    if kind == "opinion":
        return OPINION
    if np.isnan(p_lenient) and np.isnan(p_strict):
        return NOT_TESTABLE
    lenient, strict = probability(p_lenient, "p_lenient"), probability(p_strict, "p_strict")
    if strict >= 0.9:
        return HOLDS
    if lenient >= 0.5:
        return IN_PART
    return FAILS if lenient <= 0.1 else UNDECIDED


def judge(claims, draws):
    """
    Value, interval and probabilities of claims from draws of the statistics that decide them.

    Parameters
    ----------
    claims : pandas.DataFrame
        Register of claims with `relation`, `lenient` and `strict`; index `id`.
    draws : dict
        Claim id -> draws of its statistic, or a pair (for the lenient rule, for the strict rule) where the rules look
        at different populations; value and interval are then those of the strict one. None where nothing was found.

    Returns
    -------
    pandas.DataFrame
        Columns `key`, `value` (median), `low`, `high` (90 % interval), `unit`, `p_lenient`, `p_strict`: rows for
        `catalog.write_results`.

    Raises
    ------
    KeyError
        A claim that is not in the register.
    ValueError
        Draws that are empty or hold nan.

    Examples
    --------
    >>> register = pd.DataFrame(dict(relation=["<"], lenient=[0.5], strict=[0.5]), index=["D3"])
    >>> judge(register, {"D3": [0.3, 0.4, 0.6, 0.7]}).loc[0, ["value", "p_strict"]].tolist()
    [0.5, 0.5]
    """
    rows = []
    for name, given in draws.items():
        rule = claims.loc[name]
        if given is None:
            rows.append((name, *[np.nan] * 3, "1", np.nan, np.nan))
            continue
        lenient, strict = given if isinstance(given, tuple) else (given, given)
        lenient, strict = np.atleast_1d(lenient), np.atleast_1d(strict)
        if not (lenient.size and strict.size) or np.isnan(lenient).any() or np.isnan(strict).any():
            raise ValueError(f"draws = {name} is not allowed: empty or nan")
        holds = _RELATIONS[rule["relation"]]
        value, low, high = np.quantile(strict, [0.5, 0.05, 0.95])
        rows.append((name, value, low, high, "1", np.mean(holds(lenient, rule["lenient"])),
                     np.mean(holds(strict, rule["strict"]))))  # fmt: skip
    return pd.DataFrame(rows, columns=["key", "value", "low", "high", "unit", "p_lenient", "p_strict"])


def verdicts(claims, results):
    """
    The ledger: every claim with its value, interval and verdict, where a chapter has judged it.

    Parameters
    ----------
    claims : pandas.DataFrame
        Register of claims, index `id`.
    results : pandas.DataFrame
        Results of the chapters, index `key`.

    Returns
    -------
    pandas.DataFrame
        `claims` with the columns `value`, `low`, `high`, `p_lenient`, `p_strict` and `verdict` ("" while not judged).

    Examples
    --------
    >>> register = pd.DataFrame(dict(kind=["model", "model"]), index=["D3", "D4"])
    >>> found = pd.DataFrame(dict(value=[0.6], low=[0.5], high=[0.7], p_lenient=[1.0], p_strict=[0.2]), index=["D3"])
    >>> verdicts(register, found).verdict.tolist()
    ['holds in part', '']
    """
    judged = results.loc[results.index.isin(claims.index), ["value", "low", "high", "p_lenient", "p_strict"]]
    ledger = claims.join(judged)
    ledger["verdict"] = [
        verdict(row.p_lenient, row.p_strict, kind=row.kind) if name in judged.index else ""
        for name, row in ledger.iterrows()
    ]
    return ledger


def in_words(p):
    """
    A probability in words, with one digit.

    Parameters
    ----------
    p : float
        Probability. [1]

    Returns
    -------
    str
        Such as "likely (0.7)".

    Raises
    ------
    ValueError
        `p` outside [0, 1].

    Examples
    --------
    >>> in_words(0.72), in_words(0.02)
    ('likely (0.7)', 'almost excluded (0.0)')
    """
    steps = [(0.95, "almost certain"), (0.85, "very likely"), (0.6, "likely"), (0.4, "about even"),
             (0.15, "unlikely"), (0.05, "very unlikely"), (0.0, "almost excluded")]  # fmt: skip
    p = float(probability(p, "p"))
    return next(word for least, word in steps if p >= least) + f" ({p:.1f})"
