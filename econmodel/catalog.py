"""What is known and from where: the one reader of `data/`, which checks every row before it hands out a number."""

import difflib
import math
import re
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from econmodel.demand import Quantiles, SessionLaw
from econmodel.parts import (
    Accelerator,
    Attention,
    Llm,
    Mlp,
    Recurrent,
    Tier,
    count_params,
    kv_bytes_per_token,
    state_bytes,
)
from econmodel.units import UNITS, non_negative, positive, probability, to_si

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


#: A median spot price that falls below this share of the quote before it was introductory until then; outside of the
#: three series that do, no step in `gpu_prices.csv` is larger than an eighth.
_FALL = 0.6


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
        Columns `title`, `licence`, `origin`, `used_for`, `link` (web address that the origin names, "" if it names
        none); index `source`.

    Examples
    --------
    >>> sources().loc["tau2bench", "licence"]
    'MIT'
    """
    rows = _Rows(DATA / "sources.csv", ["source", "title", "licence", "origin", "used_for"])
    rows.require(~rows.frame.duplicated("source"), "source {source!r} stands here twice")
    rows.require(rows.frame["licence"].str.strip() != "", "no licence for {source!r}")
    return rows.frame.assign(link=rows.frame["origin"].map(_link)).set_index("source")


def _link(origin):
    if paper := re.search(r"arXiv (\d{4}\.\d{5})", origin):
        return f"https://arxiv.org/abs/{paper[1]}"
    if state := re.search(r"github\.com/([\w.-]+/[\w.-]+)@([0-9a-f]{7,40})", origin):
        return f"https://github.com/{state[1]}/tree/{state[2]}"
    page = re.match(r"(?:[\w-]+\.)+[a-z]{2,}\b(?:/[\w.~-]+)*", origin)
    return f"https://{page[0]}" if page else ""


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


def _look_up(name, known):
    """Raise KeyError with the nearest names, unless the name is known."""
    if name not in known:
        near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.3)
        raise KeyError(f"{name!r} is not known" + (f"; near: {', '.join(near)}" if near else ""))


@cache
def _facts(table):
    _look_up(table, tables())
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
    KeyError: "'swebenh' is not known; near: swebench, wages"
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
        _look_up(name, rows[column].unique())
        rows = rows[rows[column] == name]
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
        raise _fault(table, _facts(table)["item"].unique()[np.flatnonzero(bad)[0]], parameter, reason)


def _fault(table, item, parameter, reason):
    rows = _facts(table)
    row = rows.index[(rows["item"] == item) & (rows["parameter"] == parameter)][0]
    return ValueError(f"{table}.csv, row {row + 2}: {item}: {reason}")


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


def interruptions():
    """
    What stopped a training run of 54 days on 16,384 accelerators, by component.

    Returns
    -------
    pandas.DataFrame
        Columns `component`, `category`, `interruptions` with `low` and `high` where the source contradicts itself
        (else equal to it) [event], `share` (of all) and `published_share`, which need not agree.

    Raises
    ------
    ValueError
        A printed share that no number of interruptions in the range gives, to the digits printed.

    Examples
    --------
    >>> table = interruptions()
    >>> int(table.interruptions.sum()), round(float(table.published_share.sum()), 3)
    (419, 0.949)
    """
    frame = _wide("interruptions", ["component", "category"])
    counts = _facts("interruptions").query("parameter == 'interruptions'").reset_index()
    frame["low"] = counts["low"].fillna(frame["interruptions"])
    frame["high"] = counts["high"].fillna(frame["interruptions"])
    total = frame["interruptions"].sum()
    low, high = (100 * frame[end] / total for end in ("low", "high"))
    printed = frame["published_share"]
    odd = (printed < low - 0.06) | (printed > high + 0.06)
    reason = "the count is another share of all, and no range says that sources conflict"
    _refuse("interruptions", "published_share", frame, odd, reason)
    return frame.assign(share=frame["interruptions"] / total, published_share=printed / 100)


def series(table):
    """
    Facts whose item is a subject and a period, as a tidy table in SI.

    Parameters
    ----------
    table : str
        One of `tables`, such as "hbm_market" or "memory_prices".

    Returns
    -------
    pandas.DataFrame
        Columns `subject`, `period` (a year, quarter or month), `parameter`, `value` (the middle of the range where
        only that is given), `low`, `high` (nan where not given), `kind`, `source`; numbers in SI.

    Raises
    ------
    KeyError
        Unknown table.
    ValueError
        Shares of all makers in one period that do not add up to 100 %, rounding apart.

    Examples
    --------
    >>> prices = series("memory_prices")
    >>> prices[prices.subject == "DDR5 RDIMM 64 GB"].period.tolist()
    ['2025-Q3', '2025-Q4', '2026-Q1', '2026-Q2']
    """
    rows = _facts(table)
    rows = rows[rows["item"].str.contains(SEPARATOR, regex=False) & ~rows["unit"].isin(WORDS)]
    frame = rows["item"].str.split(SEPARATOR, n=1, regex=False, expand=True).set_axis(["subject", "period"], axis=1)
    frame["parameter"] = rows["parameter"]
    middle = rows["value"].astype(float).fillna((rows["low"] + rows["high"]) / 2)
    factor = rows["unit"].map(lambda unit: UNITS[unit][0])
    for name, column in (("value", middle), ("low", rows["low"]), ("high", rows["high"])):
        frame[name] = column * factor
    makers = frame[frame["parameter"].str.endswith(("revenue_share", "shipment_share"))]
    for (period, parameter), own in makers.groupby(["period", "parameter"], sort=False):
        if len(own) == 3 and abs(own["value"].sum() - 1) > 0.011:
            row = own.index[0] + 2
            raise ValueError(f"{table}.csv, row {row}: {parameter} of {period} adds up to {own['value'].sum():.0%}")
    return frame.assign(kind=rows["kind"], source=rows["source"]).reset_index(drop=True)


def quantities(table):
    """
    Numbers of one table in SI, with their ranges.

    Parameters
    ----------
    table : str
        One of `tables`.

    Returns
    -------
    pandas.DataFrame
        Index `item`, `parameter`; columns `value` (the middle of the range where only that is given), `low`, `high`
        (nan where not given).

    Raises
    ------
    KeyError
        Unknown table.

    Examples
    --------
    >>> quantities("training_reliability").loc[("MegaScale", "catch_up_time"), ["low", "high"]].tolist()
    [0.0, 900.0]
    """
    rows = _facts(table)
    rows = rows[~rows["unit"].isin(WORDS)]
    middle = rows["value"].astype(float).fillna((rows["low"] + rows["high"]) / 2)
    factor = rows["unit"].map(lambda unit: UNITS[unit][0])
    frame = pd.DataFrame({"value": middle * factor, "low": rows["low"] * factor, "high": rows["high"] * factor})
    return frame.set_index(pd.MultiIndex.from_frame(rows[["item", "parameter"]]))


def measured_series():
    """
    Names of the bulk series of measurements: wide tables whose columns `columns` of the data explain.

    Examples
    --------
    >>> "inference_throughput" in measured_series()
    True
    """
    return sorted(path.stem for path in (DATA / "series").glob("*.csv") if path.stem != "columns")


@cache
def _columns():
    rows = _Rows(DATA / "series" / "columns.csv", ["column", "role", "unit", "least", "most", "meaning"])
    rows.require(~rows.frame.duplicated("column"), "column {column!r} stands here twice")
    rows.require(rows.frame["role"].isin(["given", "measured"]), "unknown role {role!r}; one of given, measured")
    rows.require(rows.frame["unit"].isin([*UNITS, *WORDS]), "unknown unit {unit!r}")
    rows.require(rows.frame["meaning"] != "", "no meaning for {column!r}")
    for end in ("least", "most"):
        rows.frame[end] = rows.frame[end].map(_number)
    words = rows.frame["unit"].isin(WORDS)
    rows.require(words | (rows.frame["least"] < rows.frame["most"]), "no range from least to most for {column!r}")
    return rows.frame.set_index("column")


def series_columns():
    """
    What the columns of the measured series mean.

    Returns
    -------
    pandas.DataFrame
        Index `column`; columns `role` ("given": the set-up, "measured": the outcome), `unit` (as stored; handed out
        in SI), `least` and `most` (outside of them a value is a slip), `meaning`.

    Examples
    --------
    >>> series_columns().loc["time_per_output_token", ["role", "unit"]].tolist()
    ['measured', 'ms']
    """
    return _columns().copy()


@cache
def _measurements(table):
    _look_up(table, measured_series())
    path, known = DATA / "series" / f"{table}.csv", _columns()
    header = pd.read_csv(path, nrows=0).columns
    for column in header.difference(known.index):
        raise ValueError(f"{path.name}, row 1: {column!r} is not in columns.csv")
    rows = _Rows(path, header)
    about = known.loc[header]
    outcomes = list(about.index[about["role"] == "measured"])
    rows.require(rows.frame["source"].isin(sources().index), "source {source!r} is not in sources.csv")
    rows.require(rows.frame["locator"].str.strip() != "", "no locator")
    rows.require((rows.frame[outcomes] != "").any(axis=1), "nothing measured")
    rows.require(~rows.frame.duplicated(), "the same row stands here twice")
    frame = rows.frame.copy()
    for name, column in about.iterrows():
        if column["unit"] == "date":
            rows.require((frame[name] == "") | frame[name].map(_is_date), f"{name} {{{name}!r}} is not a date")
        if column["unit"] in WORDS:
            continue
        number = frame[name].map(_number)
        rows.require((frame[name] == "") | np.isfinite(number), f"{name} {{{name}!r}} is not a number")
        inside = number.isna() | number.between(column["least"], column["most"])
        rows.require(inside, f"{name} {{{name}}} {column['unit']} lies outside {column['least']} to {column['most']}")
        frame[name] = to_si(number.to_numpy(), column["unit"])
    _one_measurement_once(rows, frame, outcomes)
    return frame


def _one_measurement_once(rows, frame, outcomes):
    """Refuse what upstream lists get wrong: one run under two names, a width that is none, rates at odds with times."""
    if len(outcomes) > 1:
        names = frame.columns.intersection(["model", "published_as", "submitter", "system", "upstream_row", "locator"])
        same = frame.drop(columns=names).duplicated() & frame[outcomes].notna().all(axis=1)
        rows.require(~same, "set-up and outcome equal an earlier row: one run under two names")
    if "mode" in frame:
        rows.require(~((frame["mode"] == "agg") & (frame["tp"] > 8)), "tp {tp} of one node: no tensor-parallel width")
    if {"batch", "output_rate", "p50_time_per_output_token"} <= set(frame):
        time = frame["p50_time_to_first_token"] + (frame["output_tokens"] - 1) * frame["p50_time_per_output_token"]
        ratio = frame["output_rate"] * time / (frame["batch"] * frame["output_tokens"])
        rows.require(ratio.between(0.7, 1.3), "output_rate {output_rate} is over 30 % off what its latencies give")


def measurements(table):
    """
    One series of measurements, every value in SI.

    Parameters
    ----------
    table : str
        One of `measured_series`, such as "inference_throughput" or "training_mosaic".

    Returns
    -------
    pandas.DataFrame
        One run a line; what its columns mean, and in which unit they are stored: `series_columns`. Numbers are nan,
        and words empty, where the source gives nothing.

    Raises
    ------
    KeyError
        Unknown table; names the nearest ones.
    ValueError
        Names file, row and reason: a column that nothing explains, a source that is not known, nothing measured, a
        number outside its range, a row that stands there twice, one run under two names, a tensor-parallel width
        over the node, a rate that its own time per token contradicts.

    Examples
    --------
    >>> rows = measurements("batch_latency")
    >>> [float(rows.latency[rows.batch == n].min()) for n in (1, 128)]
    [17.236, 46.484]
    """
    return _measurements(table).copy()


def training_runs():
    """
    Published training runs that form series over the size of the cluster, with what is known of their layout.

    Returns
    -------
    pandas.DataFrame
        One run a line: `series`, `machine` and `software` (the names over which constants are shared), `accelerator`,
        `n_accelerators`, `params`, `step` (of the whole timed run where only that is known) [s], `tokens` (of a step,
        per accelerator) [token], `sequences` (until the target is met, nan elsewhere), `global_batch`, the layout
        (`layers`, `hidden_size`, `sequence`, `tensor`, `stages`, `chunks`, `context`, `microbatch`, `exchange` [B per
        parameter], `rings`), and the network (`node`, `between`, `scale_up` [B/s]).

    Raises
    ------
    ValueError
        A layout whose chip is not in `training_networks`.

    Examples
    --------
    >>> runs = training_runs()
    >>> runs.groupby("machine", sort=False).series.nunique().to_dict()
    {'H100': 8, 'TPU v6e': 1, 'Blackwell': 2, 'A100': 4, 'TPU v5e': 3}
    """
    submitted, megascale = measurements("mlperf_training"), measurements("training_megascale")
    mosaic, maxtext = measurements("training_mosaic"), measurements("training_maxtext")
    submitted["name"], submitted["sequence"] = submitted["model"], submitted["sequence_tokens"]
    submitted["step"] = submitted["median_time"] * submitted["global_batch"] / submitted["sequences"]
    batch = megascale["global_batch"].astype(int).astype(str)
    megascale["name"] = megascale["run"].str.split().str[0] + ", batch " + batch
    of_all = mosaic.groupby("model")["n_accelerators"].transform("max") == mosaic["n_accelerators"].max()
    mosaic = mosaic[of_all & (mosaic["sequence_tokens"] == 2048) & (mosaic["n_accelerators"] >= 128)]
    mosaic = mosaic.assign(name=mosaic["model"], sequence=mosaic["sequence_tokens"])
    mosaic["step"] = mosaic["global_batch"] * mosaic["sequence"] / mosaic["n_accelerators"] / mosaic["token_rate"]
    maxtext["name"] = "MaxText " + maxtext["model"]
    own = ["name", "accelerator", "n_accelerators", "params", "global_batch", "sequence", "sequences", "step", "mfu"]
    frame = pd.concat([submitted, megascale, mosaic, maxtext])[own]
    frame["series"] = frame["name"] + SEPARATOR + frame["accelerator"]
    layouts = pd.DataFrame.from_dict(_by_item("training_layouts"), orient="index")
    networks = pd.DataFrame.from_dict(_by_item("training_networks"), orient="index")
    frame = frame[frame["series"].isin(layouts.index)]
    layouts = layouts.rename(columns={"sequence": "length"})
    frame = frame.join(layouts, on="series").join(networks, on="accelerator")
    _refuse("training_layouts", "software", layouts, ~layouts.index.isin(frame.dropna(subset="machine")["series"]),
            "no such run, or its chip is not in training_networks.csv")  # fmt: skip
    frame["sequence"] = frame["sequence"].fillna(frame.pop("length"))
    shapes = llms().set_index("model")
    for size in ("layers", "hidden_size"):
        frame[size] = frame[size].fillna(frame["name"].map(shapes[size]))
    frame = frame.join(
        _accelerators().set_index("accelerator")[["bf16_flop_per_s", "scale_up_bytes_per_s"]], "accelerator"
    )
    per_chip = frame.pop("sequences_per_chip")
    frame["tokens"] = per_chip.fillna(frame["global_batch"] / frame["n_accelerators"]) * frame["sequence"]
    from_mfu = 6 * frame["params"] * frame["tokens"] / (frame.pop("mfu") * frame.pop("bf16_flop_per_s"))
    frame["step"] = frame["step"].fillna(from_mfu)
    return frame.rename(columns={"scale_up_bytes_per_s": "scale_up"}).reset_index(drop=True)


def inference_errors():
    """
    Errors of the inference model on the measured set-ups: fitted to all rows, and with whole groups left out.

    Returns
    -------
    pandas.DataFrame
        One line per row of `validation.setups`, in its order: what identifies it, `value`, and the log of predicted
        over measured, at most 3 either way: `fitted`, and `without_architecture`, `without_accelerator` and
        `without_length`, fitted to the other groups.

    Examples
    --------
    >>> errors = inference_errors()
    >>> bool(errors["fitted"].abs().median() < errors["without_architecture"].abs().median())
    True
    """
    return pd.read_csv(DATA / "derived" / "inference_errors.csv")


class Price(NamedTuple):
    """Price of one GPU-hour over the clouds that quote it: median, range, number of quotes, and the oldest of them."""

    value: float
    low: float
    high: float
    quotes: int
    oldest: str


@cache
def _quotes():
    """Every quote of a GPU-hour, why it is doubted if it is, and whether its dearest region is."""
    wide = _wide("gpu_prices", ["cloud", "accelerator", "instance", "date"])
    for less, more in (
        *((basis, "on_demand") for basis in ("spot", "commit_1y", "commit_3y")),
        ("spot_us_central1", "on_demand_us_central1"),
    ):
        _refuse("gpu_prices", less, wide, wide[less] > wide[more], f"{less} above {more}")
    rows = _facts("gpu_prices")
    frame = rows["item"].str.split(SEPARATOR, regex=False, expand=True)
    frame.columns = ["cloud", "accelerator", "instance", "date"]
    middle = rows["value"].astype(float).fillna((rows["low"] + rows["high"]) / 2)
    frame = frame.assign(
        basis=rows["parameter"], value=middle, low=rows["low"], high=rows["high"], source=rows["source"], reason=""
    )
    dated = frame["date"].map(lambda day: _is_date(day) or _is_date(f"{day}-01"))
    frame.loc[~dated, "reason"] = "no date"
    frame["dearest_doubted"] = False
    spot = frame[dated & (frame["basis"] == "spot")].sort_values("date", kind="stable")
    for _, own in spot.groupby(["cloud", "accelerator", "instance"]):
        value, high = own["value"].to_numpy(), own["high"].to_numpy()
        falls = np.flatnonzero(value[1:] < _FALL * value[:-1])
        if falls.size:
            first = falls[-1] + 1
            same = rows["item"].isin(rows["item"][own.index[:first]]) & frame["basis"].str.startswith("spot")
            frame.loc[same, "reason"] = (
                f"introductory: before a fall of the median to {value[first] / value[first - 1]:.0%}"
            )
            still = np.logical_and.accumulate(high[first:] > 0.99 * high[first - 1])
            frame.loc[own.index[first:][still], "dearest_doubted"] = True
    return frame


def prices():
    """
    Dated prices of a GPU-hour.

    Returns
    -------
    pandas.DataFrame
        Columns `cloud`, `accelerator` (as in `accelerators` where it is listed there), `instance`, `date`, `basis`
        ("on_demand", "spot", "reservation", "commit_1y", "commit_3y", and the first two for the region us-central1
        alone), `value` (median over regions), `low`, `high` [USD per GPU-hour], `source`. What two rules doubt is left
        out, see `prices_left_out`.

    Raises
    ------
    ValueError
        A spot or committed price above the price on demand of the same day.

    Examples
    --------
    >>> dated = prices()
    >>> dated[(dated.accelerator == "H100-SXM-80GB") & (dated.cloud == "azure")].date.unique().tolist()
    ['2026-09-06', '2026-11-09']
    """
    frame = _quotes()
    frame = frame.assign(high=frame["high"].mask(frame["dearest_doubted"]))
    return frame[frame["reason"] == ""].drop(columns=["reason", "dearest_doubted"]).reset_index(drop=True)


def prices_left_out():
    """
    Quotes that `prices` does not hand out, with the reason.

    Returns
    -------
    pandas.DataFrame
        Columns as in `prices`, and `reason`: no date; or a spot price before the median fell by over 40 % from one
        quote to the next, which no other series does: an introductory price. Where one region keeps that price
        afterwards, the quote counts and only its upper end is left out.

    Examples
    --------
    >>> prices_left_out().reason.str.split(":").str[0].value_counts().to_dict()
    {'introductory': 39, 'no date': 30, 'dearest region still at its introductory price': 16}
    """
    frame = _quotes()
    kept = frame["dearest_doubted"]
    reason = frame["reason"].mask(kept, "dearest region still at its introductory price: upper end left out")
    return frame.assign(reason=reason)[reason != ""].drop(columns="dearest_doubted").reset_index(drop=True)


def price(accelerator, *, on, basis, within_days=180):
    """
    Price of a GPU-hour on a day: the latest quote of every cloud and instance, not older than a limit.

    Parameters
    ----------
    accelerator : str
        Name as in `prices`.
    on : str
        ISO date.
    basis : str
        As in `prices`.
    within_days : int
        Oldest quote that still counts. [day]

    Returns
    -------
    Price
        Median over clouds of their median quote, range over all quotes. [USD per GPU-hour]

    Raises
    ------
    KeyError
        No such accelerator or basis; names the nearest ones.
    ValueError
        No quote in that time; names the dates that there are.

    Examples
    --------
    >>> quoted = price("H100-SXM-80GB", on="2026-11-09", basis="on_demand")
    >>> (quoted.low, quoted.high)
    (2.69, 15.8304)
    """
    rows = prices()
    for column, name in (("accelerator", accelerator), ("basis", basis)):
        _look_up(name, rows[column].unique())
        rows = rows[rows[column] == name]
    rows = rows.assign(day=pd.to_datetime(rows["date"], format="ISO8601"))
    age = (pd.Timestamp(on) - rows["day"]).dt.days
    recent = rows[(age >= 0) & (age <= within_days)]
    if recent.empty:
        known = ", ".join(sorted(rows["date"].unique())[:: max(1, rows["date"].nunique() // 5)])
        raise ValueError(f"on = {on} is not allowed: no quote within {within_days} days; there are {known}")
    latest = recent.sort_values("day").groupby(["cloud", "instance"]).tail(1)
    by_cloud = latest.groupby("cloud")["value"].median()
    low, high = latest["low"].fillna(latest["value"]).min(), latest["high"].fillna(latest["value"]).max()
    return Price(float(by_cloud.median()), float(low), float(high), len(latest), latest["date"].min())


def price_series():
    """
    How fresh the prices are: one line per accelerator and basis.

    Returns
    -------
    pandas.DataFrame
        Columns `accelerator`, `basis`, `quotes`, `first`, `last` (dates), `clouds`.

    Examples
    --------
    >>> fresh = price_series().set_index(["accelerator", "basis"])
    >>> fresh.loc[("H100-SXM-80GB", "on_demand"), "last"]
    '2026-11-09'
    """
    grouped = prices().groupby(["accelerator", "basis"], sort=False)
    dates = grouped["date"].agg(quotes="size", first="min", last="max")
    return dates.assign(clouds=grouped["cloud"].nunique()).reset_index()


def token_prices():
    """
    Dated list prices of tokens. Three lists repeat each other, so a line is not an observation of its own.

    Returns
    -------
    pandas.DataFrame
        Columns `seller`, `model`, `date` (valid from or until, or seen on: the note says which), `list`, `input`,
        `cached_input`, `cache_write`, `output` [USD per million tokens], nan where not sold.

    Raises
    ------
    ValueError
        An output that is free, or a cached input dearer than the input.

    Examples
    --------
    >>> dated = token_prices()
    >>> dated.loc[(dated.model == "gpt-4o") & (dated.date == "2026-08-05"), ["input", "output"]].to_numpy().tolist()
    [[2.5, 10.0]]
    """
    frame = _wide("token_prices", ["seller", "model", "date", "list"])
    _refuse("token_prices", "output", frame, frame["output"] <= 0, "output is free")
    _refuse("token_prices", "cached_input", frame, frame["cached_input"] > frame["input"], "cached_input above input")
    return frame


def token_price_conflicts():
    """
    Models whose latest list price differs from list to list.

    Returns
    -------
    pandas.DataFrame
        Columns `seller`, `model`, `list`, `date`, `input`, `cached_input`, `output` [USD per million tokens], a line
        per list. The dates tell whether a list is stale or the lists contradict each other.

    Examples
    --------
    >>> token_price_conflicts().query("model == 'o3'").groupby("list").output.first().to_dict()
    {'litellm': 8.0, 'pydantic': 8.0, 'simonw': 40.0}
    """
    frame = token_prices()
    day = pd.to_datetime(frame["date"], format="ISO8601", errors="coerce")
    latest = frame.assign(day=day).sort_values("day", kind="stable").groupby(["seller", "model", "list"]).tail(1)
    prices = latest.groupby(["seller", "model"])[["input", "output"]]
    disagree = (prices.transform("max") > 1.01 * prices.transform("min")).any(axis=1)
    shown = ["seller", "model", "list", "date", "input", "cached_input", "output"]
    return latest.loc[disagree, shown].sort_values(["seller", "model", "list"], ignore_index=True)


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
    if chapter is not None:
        _look_up(chapter, files)
        files = {chapter: files[chapter]}
    frames = [pd.read_csv(path, dtype={"unit": str}).assign(chapter=name) for name, path in files.items()]
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
        Columns `RESULT_COLUMNS`; numbers are stored with nine digits. Only a claim without data has no value.

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
    if missing or table["key"].duplicated().any() or (table["value"].isna() & ~table["key"].isin(claims().index)).any():
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


def _by_item(table):
    """Facts of a table by item and parameter, numbers in SI."""
    items: dict[str, dict] = {}
    for row in _facts(table).itertuples():
        number = (row.low + row.high) / 2 if pd.isna(row.value) else row.value
        value = row.value if row.unit in WORDS else float(to_si(number, row.unit))
        items.setdefault(row.item, {})[row.parameter] = value
    return items


#: Parameter of `accelerators.csv` -> field of `Accelerator`.
_RATES = {
    "bandwidth": "bandwidth_bytes_per_s",
    **{rate: f"{rate}_flop_per_s" for rate in ("bf16", "fp8", "fp4", "bf16_measured", "fp8_measured")},
    "scale_up": "scale_up_bytes_per_s",
    "host_link": "host_bytes_per_s",
    "power": "power_w",
    **{name: name for name in ("layer_overhead", "link_share")},
}


@cache
def _accelerators(table="accelerators"):
    frame = pd.DataFrame.from_dict(_by_item(table), orient="index")
    frame = frame.reindex(columns=frame.columns.union([*_RATES, "memory_reported"]))
    label, reported = frame["memory_label"], frame["memory_reported"]
    missing = label.isna() | frame["bandwidth"].isna()
    _refuse(table, "vendor", frame, missing, "no memory_label or no bandwidth")
    _refuse(table, "memory_reported", frame, (reported / label - 1).abs() > 0.15, "more than 15 % off the label")
    rows = _facts(table)
    for less, more in (("bf16", "fp8"), ("fp8", "fp4")):
        _refuse(table, more, frame, frame[more] < frame[less], f"{more} below {less}")
        dense = rows.loc[(rows["parameter"] == more) & rows["note"].str.contains("dense"), "item"]
        sparse = (frame[more] > 2.2 * frame[less]) & ~frame.index.isin(dense)
        _refuse(table, more, frame, sparse, f"over 2.2 times {less}: a sparse rate, unless the note says dense")
    for rate in ("bf16", "fp8"):
        share = frame[f"{rate}_measured"] / frame[rate]
        _refuse(table, rate, frame, (share < 0.5) | (share > 1), "measured is not 50 to 100 % of it: a sparse rate?")
    frame = frame.fillna({"layer_overhead": 1.0, "link_share": 1.0}).assign(memory_bytes=reported.fillna(label))
    frame = frame.rename(columns=_RATES)
    names = ["vendor", "status", "release", "memory_type", "scale_up_name", "host_link_name"]
    return frame[["memory_bytes", *_RATES.values(), *names]].rename_axis("accelerator").reset_index()


def accelerators():
    """
    The accelerators, one line each: dense rates, and one direction of a link.

    Returns
    -------
    pandas.DataFrame
        Columns `accelerator` (name), the fields of `parts.Accelerator` in SI, `vendor`, `status`, `release` (year or
        month), `memory_type`, `scale_up_name`, `host_link_name`; nan where nothing is published. `memory_bytes` is
        what a program sees, or the label, read as GiB, where nobody reported that. Ranges: `facts("accelerators")`.

    Raises
    ------
    ValueError
        Names file, row and reason: no memory or bandwidth, a reported memory over 15 % off the label, a rate at fewer
        bits below that at more, a sparse rate.

    Examples
    --------
    >>> chips = accelerators().set_index("accelerator")
    >>> round(float(chips.memory_bytes["H100-SXM-80GB"]) / 2**30, 2)
    79.65
    """
    return _accelerators().copy()


def accelerator(name):
    """
    One accelerator as a part, to use or to alter with `dataclasses.replace`.

    Parameters
    ----------
    name : str
        One of `accelerators`, or an older chip that measurements name.

    Returns
    -------
    econmodel.parts.Accelerator
        Its facts in SI; None where nothing is published.

    Raises
    ------
    KeyError
        Unknown name; gives the nearest ones.

    Examples
    --------
    >>> accelerator("H100-SXM-80GB").bandwidth_bytes_per_s
    3350000000000.0
    >>> accelerator("H100")
    Traceback (most recent call last):
    ...
    KeyError: "'H100' is not known; near: H100-SXM-80GB, H100-NVL-94GB, H100-PCIe-80GB"
    """
    frame = pd.concat([_accelerators(), _accelerators("older_accelerators")]).set_index("accelerator")
    _look_up(name, frame.index)
    numbers = frame.loc[name, ["memory_bytes", *_RATES.values()]].dropna()
    return Accelerator(name=name, **{field: float(number) for field, number in numbers.items()})


#: What the parameters "group.field" of `models.csv` describe.
_GROUPS: dict[str, type] = {
    **dict.fromkeys(("full", "windowed", "selected", "compressed"), Attention),
    **dict.fromkeys(("dense", "shared", "routed"), Mlp),
    "recurrent": Recurrent,
}
#: Parameters of every model besides.
_OWN = {
    *("family", "attention", "layers", "hidden_size", "vocab", "embeddings", "max_positions"),
    *("published_params_total", "published_params_active"),
}


@cache
def _llms(table="models"):
    """Models built from their architecture and checked; beside each its facts that belong to no group of layers."""
    built = {}
    for name, known in _by_item(table).items():
        fields: dict[str, dict] = {"": {}}
        for parameter, value in known.items():
            group, _, field = parameter.rpartition(".")
            whole = isinstance(value, float) and value.is_integer()
            fields.setdefault(group, {})[field] = int(value) if whole else value
        own, first = fields.pop(""), next(iter(known))
        wrong = (_OWN - own.keys()) | (fields.keys() - _GROUPS.keys())
        if wrong:
            raise _fault(table, name, first, f"missing or unknown: {', '.join(sorted(wrong))}")
        try:
            parts = [_GROUPS[group](**its) for group, its in fields.items()]
            llm = Llm(
                name=name,
                params_total=None,
                params_active=None,
                attention=tuple(part for part in parts if isinstance(part, Attention)),
                recurrent=next((part for part in parts if isinstance(part, Recurrent)), None),
                mlp=tuple(part for part in parts if isinstance(part, Mlp)),
                **{field: own[field] for field in ("hidden_size", "vocab", "embeddings", "max_positions")},
            )
            counts = count_params(llm)
        except (TypeError, ValueError) as error:
            raise _fault(table, name, first, error) from error
        published, active = own["published_params_total"], own["published_params_active"]
        mixing = sum(fields[group]["layers"] for group in ("full", "windowed", "recurrent") if group in fields)
        routed = fields.get("routed", {"layers": 0})["layers"]
        if own["layers"] not in (mixing, mixing + routed):
            raise _fault(table, name, "layers", f"full, windowed and recurrent layers are {mixing}")
        if active > published:
            raise _fault(table, name, "published_params_active", "more than published_params_total")
        if not 0.97 < counts.total / published < 1.03:
            reason = f"{counts.total:.4g} counted from the architecture, over 3 % off"
            raise _fault(table, name, "published_params_total", reason)
        if not 0.85 < counts.active / active < 1.15:
            reason = f"{counts.active:.4g} counted from the architecture, over 15 % off"
            raise _fault(table, name, "published_params_active", reason)
        built[name] = replace(llm, params_total=counts.total, params_active=counts.active), own
    return built


def llms():
    """
    The language models, one line each.

    Returns
    -------
    pandas.DataFrame
        Columns `model` (name), `family`, `attention`, `layers`, `hidden_size`, `vocab`, `max_positions` [token],
        `experts`, `experts_per_token` (1 where nothing is routed), `params_total`, `params_active` (counted, as
        `parts.count_params` does), `published_params_total`, `published_params_active` [parameter],
        `kv_bytes_per_token` (growth, at 16 bits or as served) and `state_bytes` [B].

    Raises
    ------
    ValueError
        Names file, row and reason: a size that a part refuses, layers that do not add up, more active than total
        parameters, a published number over 3 % (active: 15 %) off the one counted.

    Examples
    --------
    >>> models = llms().set_index("model")
    >>> (models.kv_bytes_per_token[["Meta-Llama-3.1-405B", "DeepSeek-V3"]] / 1024).tolist()
    [504.0, 68.625]
    """
    lines = []
    for llm, own in _llms().values():
        routed = max(llm.mlp, key=lambda mlp: mlp.experts)
        line = {"model": llm.name} | {field: own[field] for field in ("family", "attention", "layers")}
        line |= {field: getattr(llm, field) for field in ("hidden_size", "vocab", "max_positions")}
        line |= {field: getattr(routed, field) for field in ("experts", "experts_per_token")}
        line |= {field: getattr(llm, field) for field in ("params_total", "params_active")}
        line |= {field: own[field] for field in ("published_params_total", "published_params_active")}
        lines.append(line | {"kv_bytes_per_token": kv_bytes_per_token(llm), "state_bytes": state_bytes(llm)})
    return pd.DataFrame(lines)


def llm(name):
    """
    One language model as a part, to use or to alter with `dataclasses.replace`.

    Parameters
    ----------
    name : str
        One of `llms`, or an older model that measurements name.

    Returns
    -------
    econmodel.parts.Llm
        Its architecture; `params_total` and `params_active` are counted from it.

    Raises
    ------
    KeyError
        Unknown name; gives the nearest ones.

    Examples
    --------
    >>> round(llm("DeepSeek-V3").params_total / 1e9)
    671
    """
    built = _llms() | _llms("older_models")
    _look_up(name, built)
    return built[name][0]


#: Field of `parts.Tier` -> parameters of `memory_tiers.csv` that give it, measured before nominal.
_TIER_FIELDS = {
    "capacity_bytes": (
        "capacity_per_cpu",
        "pool_size",
        "fabric_memory",
        "capacity_per_controller",
        "capacity_per_stack",
    ),
    "bandwidth_bytes_per_s": (
        "measured_h2d",
        "measured_read_of_grace_memory_one_gpu",
        "bandwidth",
        "aggregate_bandwidth",
        "fabric_bandwidth",
        "stream_triad_floor_per_cpu_480_gb_part",
        "bandwidth_per_cpu",
        "bandwidth_per_socket",
        "measured_8x400_gb_s_roce",
        "unidirectional",
        "seq_read_per_drive",
        "card_bandwidth",
        "max_bandwidth_per_stack",
    ),
    "latency_s": ("load_latency", "read_latency"),
}


def tiers():
    """
    Memories and links where a cache can wait or move: the best known number of each, measured before nominal.

    Returns
    -------
    pandas.DataFrame
        Columns `tier` and the fields of `parts.Tier` in SI (nan where nothing is known). A link has a bandwidth and
        no capacity. HBM's latency was measured by nobody that we found. All values: `facts("memory_tiers")`.

    Examples
    --------
    >>> links = tiers().set_index("tier")
    >>> float(links.bandwidth_bytes_per_s["PCIe 5.0 x16 host-to-GPU"])
    55430000000.0
    """
    lines = []
    for name, known in _by_item("memory_tiers").items():
        fields = {field: next((known[p] for p in order if p in known), None) for field, order in _TIER_FIELDS.items()}
        lines.append({"tier": name, **fields})
    frame = pd.DataFrame(lines).dropna(subset=list(_TIER_FIELDS), how="all")
    return frame.astype(dict.fromkeys(_TIER_FIELDS, float)).reset_index(drop=True)


def tier(name):
    """
    One memory or link as a part, to use or to alter with `dataclasses.replace`.

    Parameters
    ----------
    name : str
        One of `tiers`.

    Returns
    -------
    econmodel.parts.Tier
        Its facts in SI; None where nothing is known.

    Raises
    ------
    KeyError
        Unknown name; gives the nearest ones.

    Examples
    --------
    >>> tier("PCIe 5.0 x16").bandwidth_bytes_per_s
    63000000000.0
    """
    frame = tiers().set_index("tier")
    _look_up(name, frame.index)
    return Tier(name=name, **{field: float(number) for field, number in frame.loc[name].dropna().items()})


def derived(name):
    """
    One table of aggregates that ``tests/derive.py`` derives from raw logs, which are not part of the project.

    Parameters
    ----------
    name : str
        One of the tables in `data/derived`; "files" says from which raw files, with source and hash.

    Returns
    -------
    pandas.DataFrame
        As the function of that name there documents it.

    Raises
    ------
    KeyError
        Unknown table; names the nearest ones.

    Examples
    --------
    >>> derived("agent_requests").session.nunique()
    350
    """
    known = [path.stem for path in sorted((DATA / "derived").glob("*.csv"))]
    _look_up(name, known)
    return pd.read_csv(DATA / "derived" / f"{name}.csv")


def session_laws(population):
    """
    Laws of recorded sessions, for `demand.sample_sessions`.

    Parameters
    ----------
    population : str
        "agent" or "chat".

    Returns
    -------
    tuple of econmodel.demand.SessionLaw
        One per kind of session.

    Raises
    ------
    KeyError
        Unknown population.

    Examples
    --------
    >>> [law.name for law in session_laws("agent")]
    ['resumed', 'fresh']
    """
    table = derived("session_laws")
    _look_up(population, table["population"].unique())
    laws = []
    for name, own in table[table["population"] == population].groupby("name", sort=False):
        fields: dict = {"name": name}
        for field, rows in own.groupby("field", sort=False):
            levels, values = tuple(rows["level"]), tuple(rows["value"])
            kind = SessionLaw.__annotations__[field]
            if kind is Quantiles:
                fields[field] = Quantiles(levels=levels, values=values)
            elif field.endswith("_map"):
                fields[field] = (levels, values)
            elif field == "correlation":
                fields[field] = tuple(map(tuple, np.reshape(values, (3, 3))))
            else:
                fields[field] = values[0] if kind is float else values
        laws.append(SessionLaw(**fields))
    return tuple(laws)


@cache
def _mean_context():
    calls = derived("trace_quantiles").set_index(["series", "field"])
    return calls.loc[("weka_claude_code", "input_tokens"), "mean"]


@cache
def _reuse_grid(pace):
    table = derived("reuse_curves").pivot(index="open_sessions", columns="capacity_tokens", values=pace)
    return table.index.to_numpy(), table.columns.to_numpy()[:-1], table.to_numpy()


def _reuse(pace, sessions, room):
    known, rooms, shares = _reuse_grid(pace)
    place = np.minimum(np.log2(sessions).astype(int), len(known) - 2)
    weight = np.log2(sessions) - place
    # the first step, from no room at all, counts as one more of the same length
    at = np.interp(np.log(np.maximum(room, rooms[1] / 2)), np.log([rooms[1] / 2, *rooms[1:]]), np.arange(len(rooms)))
    step = np.minimum(at.astype(int), len(rooms) - 2)
    ends = [shares[place + i, step] * (1 - at + step) + shares[place + i, step + 1] * (at - step) for i in (0, 1)]
    ends = [np.where(np.isinf(room), shares[place + i, -1], ends[i]) for i in (0, 1)]
    return (1 - weight) * ends[0] + weight * ends[1]


def reuse_share(open_sessions, capacity_tokens, *, in_line=0.0):
    r"""
    Share of input tokens that a cache of whole contexts provides to recorded agent sessions, open side by side.

    Parameters
    ----------
    open_sessions : array_like
        From 1 to 2048. [session]
    capacity_tokens : array_like
        Room of the cache; `inf` for no limit. [token]
    in_line : array_like
        Share of the sessions that stand in a line for service: 0 on a replica that answers at once. [1]

    Returns
    -------
    numpy.ndarray or float
        Between the replays of `derived("reuse_curves")`, linear in the logarithms of both. [1]

    Raises
    ------
    ValueError
        Sessions outside 1 to 2048, a negative capacity, `in_line` outside [0, 1].

    Notes
    -----
    Whoever stands in line :math:`u` is served, and uses a mean context :math:`c`, before a session that joins behind.
    What is left of a room :math:`M` serves the :math:`N (1 - u)` others at the pace of the recordings,

    .. math:: h(N, M; u) = h\big(N (1 - u),\; M - u N c\big),

    but never less than if all came in turn, the worst order for such a cache.

    Examples
    --------
    >>> reuse_share([8, 32, 128], 1e6).round(2)
    array([0.91, 0.53, 0.02])
    >>> reuse_share(32, 3e6, in_line=[0, 0.4, 0.8]).round(2)
    array([0.92, 0.86, 0.05])
    """
    sessions, room, line = np.broadcast_arrays(
        positive(open_sessions, "open_sessions"),
        non_negative(capacity_tokens, "capacity_tokens"),
        probability(in_line, "in_line"),
    )
    known = _reuse_grid("hit_share")[0]
    if np.any((sessions < known[0]) | (sessions > known[-1])):
        raise ValueError(f"open_sessions = {open_sessions} is not allowed: from {known[0]} to {known[-1]}")
    others, taken = np.maximum(sessions * (1 - line), 1), sessions * line * _mean_context()
    crowded = _reuse("hit_share", others, np.maximum(room - taken, 0))
    return np.maximum(crowded, np.minimum(_reuse("in_step", sessions, room), _reuse("hit_share", sessions, room)))[()]


class Reuse(NamedTuple):
    """Shares of input tokens that HBM provides, HBM and a tier together, and a cache without limit."""

    hit_hbm: float
    hit_tiers: float
    reusable: float


def reuse_by_tier(open_sessions, *, hbm_tokens, tier_tokens=0.0, pooled_by=1, in_line=0.0):
    """
    What HBM, and a tier behind it, provide to recorded agent sessions.

    Parameters
    ----------
    open_sessions : array_like
        On one replica. [session]
    hbm_tokens, tier_tokens : array_like
        Room of its HBM, and its part of the tier. [token]
    pooled_by : int
        Replicas that share the tier, and so the sum of their contexts; their HBM counts as shared too, which flatters
        the pool. No more are taken than the replays reach.
    in_line : array_like
        As in `reuse_share`. [1]

    Returns
    -------
    Reuse
        Arguments of `memory_tiers.tiered_throughput`. [1]

    Raises
    ------
    ValueError
        As `reuse_share`.

    Examples
    --------
    >>> [round(float(hit), 2) for hit in reuse_by_tier(128, hbm_tokens=3e6, tier_tokens=6e6)]
    [0.43, 0.89, 0.96]
    """
    together = np.clip(_reuse_grid("hit_share")[0][-1] // open_sessions, 1, pooled_by)
    room = (hbm_tokens + non_negative(tier_tokens, "tier_tokens")) * together
    hbm, every = reuse_share(open_sessions, hbm_tokens, in_line=in_line), reuse_share(open_sessions, np.inf)
    both = reuse_share(open_sessions * together, room, in_line=in_line)
    hbm = np.minimum(hbm, every)
    return Reuse(hbm, np.clip(both, hbm, every)[()], every)
