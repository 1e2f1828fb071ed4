"""Carry ranges to the answer and judge the claims by rules that were written before it."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from econmodel import fleet
from econmodel.units import count, positive, probability

_RELATIONS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}

#: Verdicts in words.
HOLDS, IN_PART, FAILS, UNDECIDED = "holds", "holds in part", "fails as stated", "undecided"
NOT_TESTABLE, OPINION = "not testable", "opinion"

#: How a value may spread between its low and its high end.
LAWS = ("triangular", "uniform", "lognormal")

#: Draws that are handed to a model at once, whoever computes them.
BLOCK = 1024


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
        `claims` with the columns `value`, `low`, `high`, `p_lenient`, `p_strict`, `verdict` ("" while not judged) and
        `words`, the probability that decides it in words: of the strict rule where that holds, else of the lenient one.

    Examples
    --------
    >>> register = pd.DataFrame(dict(kind=["model", "model"]), index=["D3", "D4"])
    >>> found = pd.DataFrame(dict(value=[0.6], low=[0.5], high=[0.7], p_lenient=[1.0], p_strict=[0.2]), index=["D3"])
    >>> verdicts(register, found)[["verdict", "words"]].to_numpy().tolist()
    [['holds in part', 'almost certain (1.0)'], ['', '']]
    """
    judged = results.loc[results.index.isin(claims.index), ["value", "low", "high", "p_lenient", "p_strict"]]
    ledger = claims.join(judged)
    ledger["verdict"] = [
        verdict(row.p_lenient, row.p_strict, kind=row.kind) if name in judged.index else ""
        for name, row in ledger.iterrows()
    ]
    decides = ledger["p_strict"].where(ledger["verdict"] == HOLDS, ledger["p_lenient"])
    ledger["words"] = ["" if np.isnan(p) else in_words(p) for p in decides]
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


@dataclass(frozen=True)
class Spread:
    """
    A value with its range, and the law that draws from it.

    Parameters
    ----------
    value, low, high : float
        As a row of `data/`, a price or a result gives them.
    law : str
        "triangular": between the ends, most likely at the value; "uniform": between the ends, whatever the value;
        "lognormal": median at the value, `share` of the draws between the ends, each side with its own width.
    share : float
        See the lognormal law. [1]

    Raises
    ------
    ValueError
        An unknown law, a value outside its range, a lognormal law of what is not above zero.

    Examples
    --------
    >>> Spread(3.0, 1.0, 2.0, law="uniform")
    Traceback (most recent call last):
    ...
    ValueError: value = 3.0 is not allowed: between low = 1.0 and high = 2.0
    """

    value: float
    low: float
    high: float
    law: str
    share: float = 0.9

    def __post_init__(self):
        """Check the range and the law."""
        if self.law not in LAWS:
            raise ValueError(f"law = {self.law} is not allowed: one of {', '.join(LAWS)}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value = {self.value} is not allowed: between low = {self.low} and high = {self.high}")
        if self.law == "lognormal":
            positive(self.low, "low")
            if not 0 < self.share < 1:
                raise ValueError(f"share = {self.share} is not allowed: between 0 and 1")


def spread(row, law, *, scale=1.0, share=0.9):
    """
    Law of a sourced row.

    Parameters
    ----------
    row : object
        With `value`, `low` and `high`: a fact, a price or a result of the catalog.
    law, share : str, float
        As for `Spread`.
    scale : float
        Factor on all three, such as a unit's.

    Returns
    -------
    Spread

    Raises
    ------
    ValueError
        As for `Spread`; a row without a range.

    Examples
    --------
    >>> spread(pd.Series(dict(value=2.0, low=1.0, high=4.0)), "triangular", scale=10)
    Spread(value=20.0, low=10.0, high=40.0, law='triangular', share=0.9)
    """
    return Spread(*(float(getattr(row, end)) * scale for end in ("value", "low", "high")), law=law, share=share)


def quantiles(law, levels):
    """
    Quantiles of an uncertain input: what turns evenly spread numbers into draws from it.

    Parameters
    ----------
    law : Spread or array_like
        A law, or draws that count equally, such as left-out residuals.
    levels : array_like
        Probabilities. [1]

    Returns
    -------
    numpy.ndarray
        In the shape of `levels`; of given draws, the smallest below which lies the level: no value in between.

    Raises
    ------
    ValueError
        Levels outside [0, 1], draws that are empty or nan.

    Examples
    --------
    >>> quantiles(Spread(2.0, 1.0, 4.0, law="lognormal"), [0.05, 0.5, 0.95]).round(6).tolist()
    [1.0, 2.0, 4.0]
    >>> quantiles([30, 10, 20], [0.0, 0.3, 0.5, 0.9]).tolist()
    [10, 10, 20, 30]
    """
    levels = probability(levels, "levels")
    if not isinstance(law, Spread):
        known = np.sort(np.ravel(law))
        if not known.size or np.isnan(known).any():
            raise ValueError("law is not allowed: empty or nan")
        return known[np.minimum((levels * known.size).astype(int), known.size - 1)]
    if law.law == "uniform" or law.low == law.high:
        return law.low + levels * (law.high - law.low)
    if law.law == "triangular":
        width, below, above = law.high - law.low, law.value - law.low, law.high - law.value
        left, right = np.sqrt(levels * width * below), np.sqrt((1 - levels) * width * above)
        return np.where(levels * width <= below, law.low + left, law.high - right)
    from scipy.special import ndtri

    sides = np.log([law.value / law.low, law.high / law.value]) / ndtri((1 + law.share) / 2)
    z = ndtri(levels)
    return law.value * np.exp(z * np.where(z < 0, *sides))


class Propagated(NamedTuple):
    """Draws of the inputs and of the outcomes, one line each."""

    inputs: pd.DataFrame
    outcomes: pd.DataFrame


def _even(n, dimensions, rng):
    from scipy.stats import qmc

    if count(n, "n", least=1) and n & (n - 1):
        raise ValueError(f"n = {n} is not allowed: a power of two, at which the sequence is balanced")
    # at the ends of [0, 1) a lognormal law is without bounds; half a grid step away it is not
    return np.clip(qmc.Sobol(dimensions, scramble=True, rng=rng).random(n), 2.0**-33, 1 - 2.0**-33)


def _varying(inputs):
    return [name for name, law in inputs.items() if isinstance(law, Spread) or np.ndim(law)]


def _drawn(inputs, levels):
    fixed = {name: np.full(len(levels), law) for name, law in inputs.items() if name not in _varying(inputs)}
    return fixed | {name: quantiles(inputs[name], u) for name, u in zip(_varying(inputs), levels.T, strict=True)}


def _call(function, block):
    out = function(**block)
    out = out if hasattr(out, "items") else {"outcome": out}
    size = len(next(iter(block.values())))
    return {name: np.array(np.broadcast_to(values, size)) for name, values in out.items()}


def _outcomes(function, drawn, executor):
    n = len(next(iter(drawn.values())))
    blocks = [{name: x[start : start + BLOCK] for name, x in drawn.items()} for start in range(0, n, BLOCK)]
    parts = list((executor.map if executor else map)(partial(_call, function), blocks))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def propagate(function, inputs, *, n, rng, executor=None):
    """
    Carry uncertain inputs through a model.

    Parameters
    ----------
    function : callable
        Takes the inputs as keyword arguments, arrays of one length, at most `BLOCK`, and returns an array or a mapping
        of names to arrays: what the model makes of each draw. No draw may know of another.
    inputs : dict
        Name -> `Spread`, draws that count equally, or a number. They vary independently of each other; what belongs
        together goes in as one, such as the place of a row.
    n : int
        Draws, a power of two.
    rng : numpy.random.Generator
        Scrambles the sequence.
    executor : concurrent.futures.Executor, optional
        Computes the blocks: a pool of processes, a Dask client's `get_executor()`; in this process if left out.

    Returns
    -------
    Propagated
        Tables `inputs` and `outcomes` of `n` lines. All that is random is drawn before the blocks are handed out, and
        the blocks are always the same, so the bytes do not depend on the executor.

    Raises
    ------
    ValueError
        `n` that is not a power of two; as `quantiles`.

    Notes
    -----
    Scrambled Sobol sequence (Owen 1998, ``owen1998scrambling``): it fills the space of the inputs more evenly than
    chance, so that the ends of intervals settle with fewer draws.

    Examples
    --------
    >>> laws = {"hours": Spread(2.0, 1.0, 4.0, law="triangular"), "price": [2.0, 3.0], "fee": 0.5}
    >>> bill = propagate(lambda hours, price, fee: hours * price + fee, laws, n=256, rng=np.random.default_rng(0))
    >>> bill.outcomes.shape, bool(bill.outcomes.min().item() >= 2.5)
    ((256, 1), True)
    """
    drawn = _drawn(inputs, _even(n, max(len(_varying(inputs)), 1), rng)[:, : len(_varying(inputs))])
    return Propagated(pd.DataFrame(drawn), _outcomes(function, drawn, executor))


def intervals(draws, *, unit="1"):
    """
    Median and 90 % interval of draws.

    Parameters
    ----------
    draws : mapping of str to array_like
        Such as the outcomes of `propagate`.
    unit : str
        Of all of them.

    Returns
    -------
    pandas.DataFrame
        Columns `key`, `value`, `low`, `high`, `unit`: rows for `catalog.write_results`.

    Examples
    --------
    >>> intervals({"x": np.arange(101.0)}).loc[0, ["value", "low", "high"]].tolist()
    [50.0, 5.0, 95.0]
    """
    rows = [(key, *np.quantile(x, [0.5, 0.05, 0.95]), unit) for key, x in draws.items()]
    return pd.DataFrame(rows, columns=["key", "value", "low", "high", "unit"])


def sensitivity(function, inputs, *, n, rng, executor=None, resamples=200):
    r"""
    Which uncertain input moves an outcome: Sobol indices of first order and total, each with its interval.

    Parameters
    ----------
    function, inputs, executor : callable, dict, concurrent.futures.Executor
        As for `propagate`.
    n : int
        Base draws, a power of two; the function sees (inputs that vary + 2) times as many.
    rng : numpy.random.Generator
        Scrambles the sequence and resamples it.
    resamples : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        A line for each outcome and input that varies: `outcome`, `input`, `first`, `first_low`, `first_high`, `total`,
        `total_low`, `total_high` (90 % interval of the bootstrap); nan where an outcome does not vary or is infinite.

    Raises
    ------
    ValueError
        As `propagate`.

    Notes
    -----
    .. math:: S_i = \frac{\overline{f_B (f_{AB_i} - f_A)}}{V}, \qquad
              T_i = \frac{\overline{(f_A - f_{AB_i})^2}}{2 V}

    A and B are independent draws of all inputs, :math:`AB_i` is A with input i taken from B, V the variance
    (Saltelli et al. 2010, ``saltelli2010variance``).
    :math:`S_i` is the share of the variance that would go if input i were known, :math:`T_i` the share that would stay
    if all others were. The bootstrap takes the draws as independent, which makes its intervals wide rather than narrow.

    Examples
    --------
    >>> laws = {name: Spread(0.5, 0.0, 1.0, law="uniform") for name in "xy"}
    >>> found = sensitivity(lambda x, y: 3 * x + y, laws, n=1024, rng=np.random.default_rng(0))
    >>> found.set_index("input")["total"].round(2).to_dict()
    {'x': 0.9, 'y': 0.1}
    """
    names = _varying(inputs)
    levels = _even(n, 2 * len(names), rng)
    a, b = levels[:, : len(names)], levels[:, len(names) :]
    mixed = [np.where(np.arange(len(names)) == i, b, a) for i in range(len(names))]
    outcomes = _outcomes(function, _drawn(inputs, np.concatenate([a, b, *mixed])), executor)
    weights = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=resamples)]) / n
    tables = []
    for outcome, values in outcomes.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            y_a, y_b, *y_ab = (values.to_numpy(float) - values.mean()).reshape(-1, n)
            variance = weights @ (y_a**2 + y_b**2) / 2 - (weights @ (y_a + y_b) / 2) ** 2
            first = weights @ (y_b * (y_ab - y_a)).T / variance[:, None]
            total = weights @ ((y_a - y_ab) ** 2).T / 2 / variance[:, None]
        columns = {"outcome": outcome, "input": names}
        for name, share in (("first", first), ("total", total)):
            low, high = np.quantile(share[1:], [0.05, 0.95], axis=0)
            columns |= {name: share[0], f"{name}_low": low, f"{name}_high": high}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def agent_task(week, autonomy, speed, gpu_price, tier_price, calls, context, new_tokens, answer, tool_wait, person_wait,
               attempts, latency_target, *, weeks, call_rate, replica, policy, scaling="fixed"):  # fmt: skip
    """
    Cost of a finished agent task by cause, for draws of what is uncertain about it: a model for `propagate`.

    Parameters
    ----------
    week : array_like
        Which of `weeks` the people's demand follows; a whole number.
    autonomy : array_like
        Share of the agents that do not wait for people, and whose demand is flat. [1]
    speed : array_like
        Measured over predicted pace of the replica. [1]
    gpu_price, tier_price : array_like
        Of an accelerator and of memory below HBM. [USD/h], [USD/GB/h]
    calls : array_like
        Calls of one attempt. [call]
    context, new_tokens, answer : array_like
        Mean prompt of a call, what of it the session has not seen, and output. [token]
    tool_wait, person_wait : array_like
        Mean wait for a tool between two calls; mean wait for a person that autonomy does away with. [s]
    attempts : array_like
        Attempts per finished task. [run]
    latency_target : array_like
        Mean time of a call. [s]
    weeks : array_like, shape (weeks, hours)
        Demand by hour over its mean. [1]
    call_rate : float
        Calls asked for, mean over the week, before any is repeated. [1/s]
    replica, policy, scaling
        As in `fleet.bars`.

    Returns
    -------
    dict of str to numpy.ndarray
        One of `fleet.CAUSES` each, and their sum "total". [USD/task]

    Examples
    --------
    >>> from econmodel import catalog, simulate
    >>> from econmodel.parts import Replica
    >>> chip, llm = catalog.accelerator("H200-SXM-141GB"), catalog.llm("Meta-Llama-3.1-70B")
    >>> hold = simulate.Policy(residency="hold", max_batch=64, chunk_tokens=2048)
    >>> own = dict(weeks=[[0.5, 1.5]], call_rate=20.0, policy=hold,
    ...            replica=Replica(llm=llm, accelerator=chip, n_accelerators=4, weight_bits=8, kv_bits=8))
    >>> bars = agent_task(week=[0, 0], autonomy=[1.0, 0.0], speed=1.0, gpu_price=2.0, tier_price=0.0, calls=10,
    ...                   context=50e3, new_tokens=2e3, answer=300, tool_wait=10, person_wait=0, attempts=2,
    ...                   latency_target=30, **own)
    >>> bool(bars["total"][0] < bars["total"][1])
    True
    """
    clock = np.asarray(autonomy, dtype=float)[..., None]
    shape = clock + (1 - clock) * np.asarray(weeks)[np.asarray(week, dtype=int)]
    work = fleet.Workload(
        name="agents", tasks_per_s=call_rate * shape / np.asarray(calls, dtype=float)[..., None], calls_per_task=calls,
        input_tokens=context, cached_tokens=np.subtract(context, new_tokens), output_tokens=answer,
        wait_s=tool_wait + (1 - clock[..., 0]) * person_wait, attempts=attempts,
    )  # fmt: skip
    prices = fleet.Prices(gpu_usd_per_hour=gpu_price, tier_usd_per_gb_hour=tier_price)
    bars = fleet.bars(
        work, replica, prices=prices, latency_target=latency_target, policy=policy, scaling=scaling, speed=speed
    )
    return bars | {"total": sum(bars.values())}
