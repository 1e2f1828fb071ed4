"""Predicted against measured: the set-ups of the measured series, baselines, and how wide an interval must be."""

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
    busy = rows["output_tokens"] * rows["time_per_output_token"]
    served = busy / (busy + rows["time_to_first_token"])
    rows = rows.assign(
        n=rows[["tp", "moe_tp", "moe_ep"]].max(axis=1),
        in_flight=rows["concurrency"],
        concurrency=rows["concurrency"] * served.where(served < 0.5, 1.0),
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
        "input_tokens", "output_tokens", "length", "concurrency", "in_flight", "value",
        "time_to_first_token",
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
    r"""
    Measured set-ups that the model can predict, with what was measured, one line each.

    Returns
    -------
    pandas.DataFrame
        Columns `task` ("throughput": output tokens/s of the group; "token": time per output token at fixed
        concurrency; "batch": latency of a batch; "prompt": first token of one prompt), `software` (a key of
        `inference.ENGINES`), `engine`, `model`, `architecture` (models that differ in nothing counted once),
        `accelerator`, `n` (accelerators), `layout`, `weight_bits` (16 where the source gives none), `kv_bits` (nan for
        the default), `input_tokens`, `output_tokens`, `length` (class), `concurrency` (requests in service; nan at the
        highest load), `in_flight` (requests that clients kept open, task "token" alone), `value`,
        `time_to_first_token`. [SI] Left out: prefill and decode on different chips, and rows of dense models whose
        requests were spread over several groups.

    Notes
    -----
    A time to the first token includes the wait for a place. By Little's law, of `in_flight` requests with first token
    after :math:`T` and :math:`O` more, :math:`t` apart,

    .. math:: c = \text{in flight} \cdot \frac{O t}{T + O t}

    are being answered. Where that is less than half, more stand in line than are served, and `concurrency` is
    :math:`c`; everywhere else the two are equal. The rule was found by looking at what the model missed, it takes both
    measured times, the one to be predicted among them, and the half was not tuned. `predict_first` keeps to
    `in_flight`; ``predict(rows.assign(concurrency=rows["in_flight"]))`` does without the rule.

    Examples
    --------
    >>> setups().task.value_counts().to_dict()
    {'token': 1509, 'throughput': 219, 'prompt': 20, 'batch': 16}
    >>> setups().query("task == 'token' and concurrency < in_flight").shape[0]
    18
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
    Times to the first token, wait for a place included, of the rows of `setups` whose task is "token".

    Parameters and result as for `predict`.

    Examples
    --------
    >>> rows = setups()[lambda t: t.task == "token"].head(2)
    >>> bool((predict_first(rows) > 0).all())
    True
    """
    table = table.assign(concurrency=table["in_flight"])
    return _outcomes(table, engines, lambda g, own: predict_latency(**own, **_load(g)).time_to_first_token)


def _outcomes(table, engines, outcome):
    out = np.empty(len(table))
    known = {**ENGINES, **engines} if isinstance(engines, dict) else ENGINES
    columns = ["task", "software", "model", "accelerator", "layout", table["kv_bits"].isna()]
    for keys, place in table.groupby(columns, sort=False).indices.items():
        _, software, model, accelerator, layout, default = keys
        g = table.iloc[place]
        own = {
            "llm": catalog.llm(model), "accelerator": catalog.accelerator(accelerator), "layout": layout,
            "n_accelerators": g["n"].to_numpy(float), "weight_bits": g["weight_bits"].to_numpy(float),
            "kv_bits": None if default else g["kv_bits"].to_numpy(float),
            "engine": engines if isinstance(engines, Engine) else known[software],
        }  # fmt: skip
        out[place] = outcome(g, own)
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


#: Columns of `setups` by whose groups rows are left out.
GROUPS = ("architecture", "accelerator", "length")


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
