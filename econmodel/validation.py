"""Predicted against measured: set-ups of the measured series, the fit of the losses, and what it misses left out."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from econmodel import catalog
from econmodel.inference import (
    ENGINES,
    Engine,
    decode_step_time,
    predict_latency,
    predict_throughput,
    prefill_time,
)

#: Constants that are fitted to engines since 2025, to older ones, and to times to the first token, each with a guess
#: made before the fit, which counts where the rows say nothing.
FREE = {
    "compute": 0.8, "four_bit": 0.7, "expert_width": 500.0, "attention": 0.7, "bandwidth": 0.9, "cache": 0.9,
    "link": 0.5, "layer_s": 5e-5, "latent_s": 2.5e-5, "stream_s": 3e-5, "reserve_bytes": 2e9,
}  # fmt: skip
OLD_FREE = {"compute": 0.8, "cache": 0.9, "pace": 1.0, "reserve_bytes": 4e9}
FIRST_FREE = {"request_s": 1e-2, "bunching": 1.0}
_OTHER = {"deferral": 0.3, "TensorRT-LLM": 1.0, "vLLM": 1.0, "SGLang": 1.0}
#: How the measured series name an engine -> key of `inference.ENGINES`.
_NAMES = {
    "trtllm": "TensorRT-LLM", "TensorRT-LLM 1.0": "TensorRT-LLM", "TensorRT-LLM 0.14": "TensorRT-LLM 2024",
    "TensorRT-LLM 0.9": "TensorRT-LLM 2024", "vllm": "vLLM", "vLLM 0.9.1": "vLLM", "sglang": "SGLang",
}  # fmt: skip


@cache
def _setups():
    series = {}
    rows = catalog.measurements("inference_throughput")
    series["throughput"] = rows.assign(n=rows["tp"] * rows["pp"], concurrency=rows["batch"], value=rows["output_rate"])
    rows = catalog.measurements("serving_latency")
    rows = rows[rows["mode"] == "agg"].assign(concurrency=rows["concurrency"].fillna(rows["batch"]))
    copies = rows["attention_dp"].fillna(1) > 1
    several = ~rows["model"].map(has_experts) & (rows["batch"] != rows["concurrency"])
    rows = rows.assign(
        n=rows[["tp", "moe_tp", "moe_ep"]].max(axis=1),
        layout=np.where(copies, "dep", "tp"),
        weight_bits=rows["weight_bits"].fillna(16.0),
        value=rows["time_per_output_token"],
    )
    series["token"] = rows[~several]
    rows = catalog.measurements("batch_latency")
    series["batch"] = rows.assign(n=rows["tp"], concurrency=rows["batch"], value=rows["latency"])
    rows = catalog.measurements("first_token")
    series["prompt"] = rows.assign(n=rows["tp"], concurrency=1.0, output_tokens=1.0, value=rows["time_to_first_token"])
    table = pd.concat([rows.assign(task=task) for task, rows in series.items()], ignore_index=True)
    table["software"] = table["engine"].map(_NAMES)
    table["layout"] = table["layout"].fillna("tp")
    ratio = table["input_tokens"] / table["output_tokens"]
    table["length"] = np.select([ratio >= 4, ratio <= 0.25], ["long prompt", "long answer"], "even")
    table["length"] += np.where(table["input_tokens"] + table["output_tokens"] > 4500, ", over 4500", "")
    table["architecture"] = table["model"].replace("DeepSeek-R1", "DeepSeek-V3")
    columns = [
        "task", "software", "engine", "model", "architecture", "accelerator", "n", "layout", "weight_bits", "kv_bits",
        "input_tokens", "output_tokens", "length", "concurrency", "value", "time_to_first_token",
    ]  # fmt: skip
    return table[columns].drop_duplicates().reset_index(drop=True)


def has_experts(model):
    """
    Whether a model of the catalog routes tokens among experts.

    Examples
    --------
    >>> has_experts("DeepSeek-V3"), has_experts("Llama-2-7B")
    (True, False)
    """
    return any(mlp.experts > 1 for mlp in catalog.llm(model).mlp)


def setups():
    """
    Measured set-ups that the model can predict, with what was measured, one line each.

    Returns
    -------
    pandas.DataFrame
        Columns `task` ("throughput": output tokens/s of the group; "token": time per output token at fixed
        concurrency; "batch": latency of a batch; "prompt": first token of one prompt), `software` (a key of
        `inference.ENGINES`), `engine`, `model`, `architecture` (models that differ in nothing counted once),
        `accelerator`, `n` (accelerators), `layout`, `weight_bits` (16 where the source gives none), `kv_bits` (nan for
        the default), `input_tokens`, `output_tokens`, `length` (class), `concurrency` (nan at the highest load),
        `value`, `time_to_first_token`. [SI] Left out: prefill and decode on different chips, and rows of dense models
        whose requests were spread over several groups.

    Examples
    --------
    >>> setups().task.value_counts().to_dict()
    {'token': 1509, 'throughput': 219, 'prompt': 20, 'batch': 16}
    """
    return _setups().copy()


def predict(table, engines=None):
    """
    What the model says to `setups`, or rows like them.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns of `setups`; `value` is not looked at.
    engines : econmodel.inference.Engine or dict, optional
        One engine for all rows, or one for each `software`; None for `inference.ENGINES`.

    Returns
    -------
    numpy.ndarray
        In the unit of `value`; 0 or inf where the model does not fit.

    Examples
    --------
    >>> rows = setups()[lambda t: t.task == "batch"].head(1)
    >>> bool(abs(predict(rows)[0] / rows["value"].iloc[0] - 1) < 0.5)
    True
    """
    return _outcomes(table, engines, _value)


def predict_first(table, engines=None):
    """
    Times to the first token of the rows of `setups` whose task is "token".

    Parameters and result as for `predict`.

    Examples
    --------
    >>> rows = setups()[lambda t: t.task == "token"].head(2)
    >>> bool((predict_first(rows) > 0).all())
    True
    """
    return _outcomes(table, engines, lambda g, own: predict_latency(**own, **_load(g)).time_to_first_token)


def _outcomes(table, engines, outcome):
    out = np.empty(len(table))
    known = {**ENGINES, **engines} if isinstance(engines, dict) else ENGINES
    columns = ["task", "software", "model", "accelerator", "layout"]
    for keys, place in table.groupby(columns, sort=False).indices.items():
        _, software, model, accelerator, layout = keys
        g = table.iloc[place]
        bits = {name: g[name].to_numpy(float) for name in ("weight_bits", "kv_bits")}
        given = ~np.isnan(bits["kv_bits"])
        engine = engines if isinstance(engines, Engine) else known[software]
        for some in (given, ~given):
            if some.any():
                own = {
                    "llm": catalog.llm(model), "accelerator": catalog.accelerator(accelerator), "layout": layout,
                    "n_accelerators": g["n"].to_numpy(float)[some], "weight_bits": bits["weight_bits"][some],
                    "kv_bits": bits["kv_bits"][some] if some is given else None, "engine": engine,
                }  # fmt: skip
                out[place[some]] = outcome(g[some], own)
    return out


def _load(g):
    return {name: g[name].to_numpy(float) for name in ("concurrency", "input_tokens", "output_tokens")}


def _value(g, own):
    task, load = g["task"].iloc[0], _load(g)
    concurrency = load.pop("concurrency")
    if task == "throughput":
        cap = np.fmin(concurrency, own["engine"].max_sequences)
        return predict_throughput(**own | {"engine": replace(own["engine"], max_sequences=cap)}, **load)
    if task == "token":
        return predict_latency(**own, concurrency=concurrency, **load).time_per_output_token
    first = prefill_time(**own, input_tokens=load["input_tokens"], prompts=concurrency)
    if task == "prompt":
        return first
    context = load["input_tokens"] + load["output_tokens"] / 2
    return first + load["output_tokens"] * decode_step_time(**own, batch=concurrency, context_tokens=context)


def row_weights(table):
    """
    How much each row of `setups` counts in a fit.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `setups`.

    Returns
    -------
    numpy.ndarray
        The inverse root of the size of its group (task, engine, model, chip and precision), over the root of the sum
        of these in its task: neither a long sweep of one model nor a large task drowns the others.

    Examples
    --------
    >>> weights = row_weights(setups())
    >>> bool(weights.min() > 0)
    True
    """
    groups = ["task", "software", "model", "accelerator", "weight_bits"]
    weight = table.groupby(groups)["value"].transform("size").to_numpy() ** -0.5
    return weight / np.sqrt(pd.Series(weight).groupby(table["task"].to_numpy()).transform("sum").to_numpy())


def _log_error(table, predicted):
    return np.clip(np.log(np.maximum(predicted, 1e-300) / table["value"].to_numpy(float)), -3.0, 3.0)


def _adjust(table, guess, build, start, *, weights=None, steps=30, predicted=predict):
    """Values of the names in `guess` with the least weighted soft-L1 loss of the log error, bent at 0.15."""
    from scipy.optimize import least_squares

    weights, names = row_weights(table) if weights is None else weights, list(guess)

    def loss(logs):
        error = _log_error(table, predicted(table, build(dict(zip(names, np.exp(logs), strict=True))))) / 0.15
        rows = np.sqrt(2 * weights * (np.sqrt(1 + error**2) - 1))
        return np.concatenate([rows, 0.3 * (logs - np.log(list(guess.values())))])

    shares = [name in {"compute", "four_bit", "attention", "bandwidth", "cache", "link", "deferral"} for name in names]
    upper = np.where(shares, 0.0, np.log(1e12))
    first = np.minimum(np.log([start[name] for name in names]), upper - 1e-3)
    found = least_squares(loss, first, bounds=(-60.0, upper), diff_step=1e-3, x_scale=0.3, max_nfev=steps)
    return dict(zip(names, map(float, np.exp(found.x)), strict=True))


def fit(table, start=None, *, weights=None, steps=30):
    """
    Fit the losses to measured set-ups.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `setups`.
    start : dict of econmodel.inference.Engine, optional
        Where to begin; None for `inference.ENGINES`.
    weights : array_like, optional
        Of the rows; None to let a row count less in a large group of rows of one task, engine, model and chip.
    steps : int
        Most steps of the optimizer in each of its stages.

    Returns
    -------
    dict of econmodel.inference.Engine
        As `inference.ENGINES`: the constants of `FREE` and the paces of recent engines together; then `OLD_FREE` from
        rows of 2024; then `FIRST_FREE` from times to the first token.

    Notes
    -----
    Loss: soft L1 of the log of predicted over measured, bent at 0.15, so that a row counts by its relative error and
    outliers count linearly; and a tenth of the squared log of value over guess, which only decides what the rows leave
    open. Paces are normalised to a geometric mean of 1 over the recent engines.
    """
    engines, weights = dict(start or ENGINES), row_weights(table) if weights is None else np.asarray(weights)
    recent = [name for name in engines if name != "TensorRT-LLM 2024"]

    def shared(values):
        own = {name: values[name] for name in FREE}
        paces = {name: values.get(name, 1.0) for name in recent}
        mean = np.prod(list(paces.values())) ** (1 / len(paces))
        own |= {"layer_s": own["layer_s"] * mean, "latent_s": own["latent_s"] * mean}
        new = {name: replace(engines[name], **own, pace=pace / mean) for name, pace in paces.items()}
        return new | {"SGLang": replace(new["SGLang"], deferral=values["deferral"])}

    def stage(rows, guess, build, begin, predicted=predict):
        part = table[rows]
        return build(_adjust(part, guess, build, begin, weights=weights[rows], steps=steps, predicted=predicted))

    first = vars(engines[recent[0]])
    begin = {name: first[name] * (first["pace"] if name in ("layer_s", "latent_s") else 1) for name in FREE}
    begin |= {name: engines[name].pace / first["pace"] for name in recent[1:]} | {
        "deferral": engines["SGLang"].deferral
    }
    rows = table["software"].isin(recent).to_numpy() & (table["task"] != "prompt").to_numpy()
    engines |= stage(rows, {name: {**FREE, **_OTHER}[name] for name in begin}, shared, begin)

    def old(values):
        return {"TensorRT-LLM 2024": replace(engines[recent[0]], deferral=0.0, **values)}

    rows = (table["software"] == "TensorRT-LLM 2024").to_numpy()
    if rows.any():
        engines |= stage(rows, OLD_FREE, old, vars(engines["TensorRT-LLM 2024"]))

    def prompt(values):
        return {name: replace(engine, **values) for name, engine in engines.items()}

    rows = (table["task"] == "token").to_numpy()
    if rows.any():
        timed = table.assign(value=table["time_to_first_token"].fillna(1.0))
        timed = timed[rows]
        found = _adjust(timed, FIRST_FREE, prompt, first, weights=weights[rows], steps=steps, predicted=predict_first)
        engines |= prompt(found)
    return engines


def fit_chip(table, engines):
    """
    What serving software makes of a chip, relative to those on which `fit` rests.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `setups`, of one accelerator and one engine.
    engines : dict of econmodel.inference.Engine
        From `fit`.

    Returns
    -------
    tuple of float
        `layer_overhead` and `link_share` of `parts.Accelerator`.
    """
    software, known = table["software"].iloc[0], catalog.accelerator(table["accelerator"].iloc[0])
    engine, guess = engines[software], {"pace": 1.0, "link": FREE["link"]}

    def build(values):
        return {software: replace(engine, **values)}

    found = _adjust(table, guess, build, vars(engine))
    return (
        known.layer_overhead * found["pace"] / engine.pace,
        known.link_share * found["link"] / engine.link,
    )


#: Columns of `setups` by whose groups rows are left out.
GROUPS = ("architecture", "accelerator", "length")


def left_out(table, engines, by, *, groups=None, steps=8):
    """
    Predictions for each group of rows by a model fitted to all the others.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `setups`.
    engines : dict of econmodel.inference.Engine
        Fitted to all rows: where each fit begins.
    by : str
        One of `GROUPS`. A chip is predicted without what was fitted to its own rows, `layer_overhead` and
        `link_share`.
    groups : sequence of str, optional
        Which groups; None for all.
    steps : int
        Most steps of the optimizer.

    Returns
    -------
    numpy.ndarray
        As from `predict`; nan for groups that were not asked for.
    """
    out, weights = np.full(len(table), np.nan), row_weights(table)
    for group in table[by].unique() if groups is None else groups:
        own = (table[by] == group).to_numpy()
        others = fit(table[~own], engines, weights=weights[~own], steps=steps)
        if by == "accelerator":
            chip = catalog.accelerator(group)
            others = {
                name: replace(e, pace=e.pace / chip.layer_overhead, link=min(e.link / chip.link_share, 1.0))
                for name, e in others.items()
            }
        out[own] = predict(table[own], others)
    return out


def scaled(table, predicted, by):
    """
    Predictions times one constant per task, fitted to the groups that are not predicted: a baseline.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `setups`.
    predicted : array_like
        For them; rows where it is 0 or inf count for nothing.
    by : str or None
        One of `GROUPS`; None to fit the constant to all rows of the task.

    Returns
    -------
    numpy.ndarray
        `predicted` times the median of measured over predicted.

    Examples
    --------
    >>> rows = setups()[lambda t: t.task == "prompt"]
    >>> bool(np.allclose(scaled(rows, 3 * rows["value"].to_numpy(), None), rows["value"]))
    True
    """
    predicted = np.asarray(predicted, dtype=float)
    ratio = (table["value"] / predicted).where((predicted > 0) & np.isfinite(predicted)).to_numpy()
    out = np.empty(len(table))
    for rows in table.groupby("task").indices.values():
        groups = np.zeros(len(rows)) if by is None else table[by].to_numpy()[rows]
        for group in pd.unique(groups):
            own = groups == group
            rest = rows if by is None or own.all() else rows[~own]
            out[rows[own]] = predicted[rows[own]] * np.nanmedian(ratio[rest])
    return out


def coverage(table, error, by, *, level=0.9):
    """
    How often an interval from the errors of the other groups holds the measurement.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `setups`.
    error : array_like
        Log of predicted over measured of the left-out predictions.
    by : str
        One of `GROUPS`.
    level : float
        Of the interval.

    Returns
    -------
    pandas.DataFrame
        Index `task`; columns `factor` (quantile of the error over all groups, up or down, as a factor), `inside` (share
        of rows within the factor that the groups besides their own give; nan with one group) and `rows`.

    Notes
    -----
    The interval is symmetric: a group that nobody has seen may be off to either side, whatever the side of the few
    that were seen. A row counts by the inverse root of the size of its group.
    """
    size, lines = np.abs(np.asarray(error)), []
    for task, rows in table.groupby("task").indices.items():
        groups, inside = table[by].iloc[rows], np.full(len(rows), np.nan)
        weights = groups.map(groups.value_counts()).to_numpy() ** -0.5

        def quantile(some, rows=rows, weights=weights):
            return np.quantile(size[rows[some]], level, weights=weights[some], method="inverted_cdf")

        for group in groups.unique():
            own = (groups == group).to_numpy()
            if not own.all():
                inside[own] = size[rows[own]] <= quantile(~own)
        every = quantile(np.ones(len(rows), dtype=bool))
        lines.append({"task": task, "factor": np.exp(every), "inside": inside.mean(), "rows": len(rows)})
    return pd.DataFrame(lines).set_index("task")
