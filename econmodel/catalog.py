"""What is known and from where: the one reader of `data/`, which checks every row before it hands out a number."""

import difflib
import math
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from econmodel.units import UNITS

_PACKAGED = Path(__file__).parent / "data"
#: Folder of the CSV files, inside an installed wheel or beside the package in a checkout.
DATA = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "data"

COLUMNS = ["item", "parameter", "value", "low", "high", "unit", "kind", "source", "locator", "retrieved", "note"]
KINDS = ("measured", "vendor", "reported", "derived", "assumed")
#: Units of values that are not numbers but an ISO date or a name.
WORDS = ("date", "text")
#: Separates the fields of an item that takes several to name, such as model | task.
SEPARATOR = " | "


class _Rows:
    """The rows of one CSV file, able to say where a fault is."""

    def __init__(self, path, columns):
        self.path = Path(path)
        self.frame = pd.read_csv(self.path, dtype=str, keep_default_na=False, encoding="utf-8")
        if list(self.frame.columns) != list(columns):
            raise ValueError(f"{self.path.name}, row 1: columns are {list(self.frame.columns)}, not {list(columns)}")

    def require(self, good, reason):
        """Raise for the first row where `good` is false; `reason` may quote {columns} of that row."""
        bad = np.flatnonzero(~np.asarray(good, dtype=bool))
        if bad.size:
            row = self.frame.iloc[bad[0]]
            raise ValueError(f"{self.path.name}, row {bad[0] + 2}: {reason.format(**row)}")


def _is_date(text):
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_facts(path):
    """
    Read one CSV file of sourced facts and check every row.

    Parameters
    ----------
    path : str or pathlib.Path
        A file whose columns are `COLUMNS`.

    Returns
    -------
    pandas.DataFrame
        The rows; `low` and `high` as floats (nan where not given), `value` as float except for dates and texts.

    Raises
    ------
    ValueError
        Names file, row and reason: wrong columns, nothing in a required field, a unit, kind or source that is not
        known, a value that is no number, a range that does not hold the value, a share above 100 %, a repeated key.

    Examples
    --------
    >>> rows = read_facts(DATA / "swebench.csv")
    >>> rows.loc[rows.item == "GPT-5 (2025-08-07) (medium reasoning)", ["parameter", "value", "unit"]].iloc[0].tolist()
    ['resolved', 65.0, '%']
    """
    rows = _Rows(path, COLUMNS)
    frame = rows.frame
    for column in ("item", "parameter", "unit", "kind", "source", "locator", "retrieved"):
        rows.require(frame[column].str.strip() != "", f"no {column}")
    rows.require(frame["unit"].isin([*UNITS, *WORDS]), "unknown unit {unit!r}")
    rows.require(frame["kind"].isin(KINDS), "unknown kind {kind!r}; one of " + ", ".join(KINDS))
    rows.require(frame["source"].isin(sources().index), "source {source!r} is not in sources.csv")
    rows.require(frame["retrieved"].map(_is_date), "retrieved {retrieved!r} is not a date")
    words = frame["unit"].isin(WORDS)
    rows.require((frame["unit"] != "date") | frame["value"].map(_is_date), "{value!r} is not a date")
    numbers = {name: frame[name].map(_number) for name in ("value", "low", "high")}
    for name, column in numbers.items():
        rows.require((frame[name] == "") | words | np.isfinite(column), f"{name} {{{name}!r}} is not a number")
    value, low, high = numbers.values()
    rows.require(words | value.notna() | (low.notna() & high.notna()), "neither a value nor a range for {parameter}")
    rows.require(~(low > high) & ~(value < low) & ~(value > high), "{value} lies outside {low} to {high}")
    share = frame["unit"].eq("%") & ~frame["parameter"].str.endswith("change")
    rows.require(~share | ~((value < 0) | (value > 100)), "{value} % is no share")
    rows.require(~frame.duplicated(["item", "parameter"]), "{item}, {parameter} stands here twice")
    frame["value"] = value.astype(object).where(~words, frame["value"])
    return frame.assign(low=low, high=high)


@cache
def sources():
    """
    Licence and origin of every source, by its key in the book's references.

    Returns
    -------
    pandas.DataFrame
        Columns `title`, `licence`, `origin`, `used_for`; index `source`.

    Examples
    --------
    >>> sources().loc["tau2bench", "licence"]
    'MIT'
    """
    rows = _Rows(DATA / "sources.csv", ["source", "title", "licence", "origin", "used_for"])
    rows.require(~rows.frame.duplicated("source"), "source {source!r} stands here twice")
    rows.require(rows.frame["licence"].str.strip() != "", "no licence for {source!r}")
    return rows.frame.set_index("source")


def tables():
    """
    Names of the tables of facts.

    Examples
    --------
    >>> "swebench" in tables()
    True
    """
    no_facts = {"sources", "claims"}
    return sorted(path.stem for path in DATA.glob("*.csv") if path.stem not in no_facts)


def _near(name, known):
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.3)
    return f"{name!r} is not known" + (f"; near: {', '.join(near)}" if near else "")


@cache
def _facts(table):
    if table not in tables():
        raise KeyError(_near(table, tables()))
    return read_facts(DATA / f"{table}.csv")


def facts(table):
    """
    The rows of one table, one sourced value each.

    Parameters
    ----------
    table : str
        One of `tables`.

    Returns
    -------
    pandas.DataFrame
        As from `read_facts`.

    Raises
    ------
    KeyError
        Unknown table; names the nearest ones.

    Examples
    --------
    >>> facts("swebenh")
    Traceback (most recent call last):
    ...
    KeyError: "'swebenh' is not known; near: swebench"
    """
    return _facts(table).copy()


def fact(table, item, parameter):
    """
    One sourced value with its range.

    Parameters
    ----------
    table, item, parameter : str
        Where it stands.

    Returns
    -------
    pandas.Series
        The row: `value`, `low`, `high`, `unit`, `kind`, `source`, ...

    Raises
    ------
    KeyError
        Unknown table, item or parameter; names the nearest ones.

    Examples
    --------
    >>> fact("swebench", "GPT-5 (2025-08-07) (medium reasoning)", "mean_calls").value
    13.21
    """
    rows = _facts(table)
    for column, name in (("item", item), ("parameter", parameter)):
        known = rows[column].unique()
        rows = rows[rows[column] == name]
        if rows.empty:
            raise KeyError(_near(name, known))
    return rows.iloc[0].copy()


def _wide(table, fields):
    """One line per item, one column per parameter; the item split into `fields`; as stored, not converted."""
    rows = _facts(table)
    frame = rows.pivot(index="item", columns="parameter", values="value").loc[rows["item"].unique()]
    frame.columns.name = None
    names = pd.DataFrame(frame.index.str.split(SEPARATOR, regex=False).tolist(), columns=fields, index=frame.index)
    return pd.concat([names, frame.infer_objects()], axis=1).reset_index(drop=True)


def metr_horizons():
    """
    Published time horizons of agents: the human time of tasks that they finish half, or four fifths, of the time.

    Returns
    -------
    pandas.DataFrame
        Columns `model`, `benchmark`, `snapshot` (date of the published table), `release_date`, `p50_horizon`,
        `p80_horizon` [min], `average_score`. A model stands here once per benchmark and snapshot.

    Examples
    --------
    >>> len(metr_horizons())
    71
    """
    return _wide("metr_horizons", ["model", "benchmark", "snapshot"])


def metr_task_success():
    """
    Success of agents, and of people, on tasks whose human time is known.

    Returns
    -------
    pandas.DataFrame
        Columns `model`, `task_id`, `task_family`, `human_time` [min], `n_runs`, `n_success`, `n_usage_limit`
        (runs stopped at a limit; they count as failures).

    Raises
    ------
    ValueError
        More successes or stopped runs than runs; a run of a task that is not in `metr_tasks`.

    Examples
    --------
    >>> runs = metr_task_success()
    >>> int(runs.n_runs[runs.model == "GPT-4o"].sum())
    885
    """
    runs = _wide("metr_runs", ["model", "task_id"])
    for part in ("n_success", "n_usage_limit"):
        _refuse("metr_runs", "n_runs", runs, runs[part] > runs["n_runs"], part + " above n_runs")
    tasks = _wide("metr_tasks", ["task_id"])
    runs = runs.merge(tasks, on="task_id", how="left")
    _refuse("metr_runs", "n_runs", runs, runs["human_time"].isna(), "task is not in metr_tasks.csv")
    runs.insert(2, "task_family", runs["task_id"].str.split("/").str[0])
    return runs


def _refuse(table, parameter, frame, bad, reason):
    """Raise for the first item of a wide table where `bad` is true, pointing at the row of its `parameter`."""
    if bad.any():
        rows = _facts(table)
        item = rows["item"].unique()[np.flatnonzero(bad)[0]]
        row = rows.index[(rows["item"] == item) & (rows["parameter"] == parameter)][0]
        raise ValueError(f"{table}.csv, row {row + 2}: {item}: {reason}")


def tau2_pass_hat_k():
    """
    Share of customer-service tasks that an agent solves k times out of k, for k = 1 to 4, over four trials a task.

    Returns
    -------
    pandas.DataFrame
        Columns `model`, `domain`, `submission`, `n_tasks`, `pass_1` to `pass_4` (shares, nan where not published),
        `run_cost` [USD], `self_reported`, `solved_0` to `solved_4` and `histogram`. With four trials the four shares
        are moments of the number of tasks solved 0, 1, .. 4 times, and invert to it. `histogram` says how well:
        "exact" (whole numbers that give the published shares to 0.01 %), "rounded", "impossible" (a negative count:
        some published value is wrong) or "none" (fewer than four shares).

    Raises
    ------
    ValueError
        A pass^k that rises with k.

    Examples
    --------
    >>> tau2_pass_hat_k().histogram.value_counts().to_dict()
    {'none': 77, 'exact': 60, 'rounded': 20, 'impossible': 1}
    """
    frame = _wide("tau2_pass_hat_k", ["model", "domain", "submission"])
    shares = [f"pass_{k}" for k in (1, 2, 3, 4)]
    frame[shares] /= 100
    for less, more in zip(shares[1:], shares, strict=False):
        _refuse("tau2_pass_hat_k", less, frame, frame[less] > frame[more], f"{less} above {more}")
    measured = _facts("tau2_pass_hat_k").groupby("item", sort=False)["kind"].first()
    frame["self_reported"] = (measured == "reported").to_numpy()
    # a task solved c times out of 4 adds C(c, k) / C(4, k) to pass^k: invert the triangular system from the top
    at_least = np.array([[math.comb(c, k) / math.comb(4, k) for c in range(5)] for k in range(5)])
    passed = np.column_stack([np.ones(len(frame)), frame[shares]])
    solved = frame["n_tasks"].to_numpy()[:, None] * np.linalg.solve(at_least, passed.T).T
    nearest = np.round(solved)
    whole = np.abs(nearest @ at_least.T / frame["n_tasks"].to_numpy()[:, None] - passed).max(axis=1) < 6e-5
    frame[[f"solved_{c}" for c in range(5)]] = np.where(whole[:, None], nearest, solved)
    negative = solved.min(axis=1) < -0.6
    known = ~np.isnan(solved).any(axis=1)
    frame["histogram"] = np.select([~known, whole & ~negative, negative], ["none", "exact", "impossible"], "rounded")
    return frame


def swebench():
    """
    Calls, cost and success of models on SWE-bench Verified, all with one scaffold.

    Returns
    -------
    pandas.DataFrame
        Columns `model`, `resolved` and `resolved_per_instance` (shares), `mean_calls`, `p50_calls`, `p90_calls`,
        `mean_calls_resolved`, `mean_calls_unresolved` [call], `mean_cost` [USD]; nan where not recorded.

    Examples
    --------
    >>> agents = swebench().set_index("model")
    >>> round(float(agents.resolved["Minimax M2"]), 2)
    0.61
    """
    frame = _wide("swebench", ["model"])
    shares = ["resolved", "resolved_per_instance"]
    frame[shares] /= 100
    return frame.dropna(subset="resolved").dropna(axis=1, how="all").reset_index(drop=True)


CLAIM_COLUMNS = [
    "id", "part", "chapter", "kind", "claim", "statistic", "population", "relation", "lenient", "strict",
]  # fmt: skip


def claims():
    """
    The essay's claims, each with the rule that judges it, written before the results.

    Returns
    -------
    pandas.DataFrame
        Index `id`; columns `part`, `chapter`, `kind`, `claim`, `statistic`, `population`, `relation`, and the
        thresholds `lenient` and `strict`.

    Raises
    ------
    ValueError
        A relation or kind that is not known, a threshold that is no number, a repeated id.

    Examples
    --------
    >>> claims().loc["D3", ["kind", "relation"]].tolist()
    ['model', '<']
    """
    rows = _Rows(DATA / "claims.csv", CLAIM_COLUMNS)
    rows.require(rows.frame["relation"].isin(["<", "<=", ">", ">="]), "unknown relation {relation!r}")
    rows.require(rows.frame["kind"].isin(["measured", "model", "opinion", "open"]), "unknown kind {kind!r}")
    rows.require(~rows.frame.duplicated("id"), "claim {id} stands here twice")
    for name in ("lenient", "strict"):
        rows.require(rows.frame[name].map(_number).notna(), f"{name} {{{name}!r}} is not a number")
    return rows.frame.astype({"lenient": float, "strict": float}).set_index("id")


RESULT_COLUMNS = ["key", "value", "low", "high", "unit", "p_lenient", "p_strict"]


def results(chapter=None):
    """
    Results that chapters hand on: committed values, each with its interval.

    Parameters
    ----------
    chapter : str, optional
        Name of one chapter; all by default.

    Returns
    -------
    pandas.DataFrame
        Index `key`; columns `chapter`, `value`, `low`, `high` (90 % interval, nan where there is none), `unit`, and
        for claims the probabilities `p_lenient` and `p_strict` that the two rules are met.

    Raises
    ------
    KeyError
        Unknown chapter.

    Examples
    --------
    >>> results("02_compound_error").loc["D3", "unit"]
    '1'
    """
    files = {path.stem: path for path in sorted((DATA / "results").glob("*.csv"))}
    if chapter is not None and chapter not in files:
        raise KeyError(_near(chapter, files))
    chosen = files if chapter is None else {chapter: files[chapter]}
    frames = [pd.read_csv(path).assign(chapter=name) for name, path in chosen.items()]
    empty = pd.DataFrame(columns=[*RESULT_COLUMNS, "chapter"])
    return (pd.concat(frames) if frames else empty).set_index("key")


def write_results(chapter, table):
    """
    Hand on the results of a chapter: writes `_build/results/<chapter>.csv` at the root of the checkout.

    Parameters
    ----------
    chapter : str
        Name of the chapter.
    table : pandas.DataFrame
        Columns `RESULT_COLUMNS`; numbers are stored with nine digits.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    ValueError
        A missing column, a repeated key, a value that is not a number.
    """
    missing = set(RESULT_COLUMNS) - set(table.columns)
    if missing or table["key"].duplicated().any() or table["value"].isna().any():
        raise ValueError(f"table = {chapter} is not allowed: needs {RESULT_COLUMNS}, unique keys and values")
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "_config.yml").exists()), here)
    folder = root / "_build" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    table[RESULT_COLUMNS].to_csv(folder / f"{chapter}.csv", index=False, float_format="%.9g", lineterminator="\n")
    return len(table)


def register():
    """
    Every sourced value of every table, one row each: what the data page shows.

    Returns
    -------
    pandas.DataFrame
        Column `table` and `COLUMNS`.

    Examples
    --------
    >>> bool((register().source.isin(sources().index)).all())
    True
    """
    return pd.concat([facts(table).assign(table=table) for table in tables()], ignore_index=True)[["table", *COLUMNS]]
