"""Fit the inference model: print its constants, write their intervals and the errors of left-out groups."""

import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from econmodel import catalog, validation
from econmodel.inference import ENGINES, Engine
from econmodel.validation import predict, predict_first

#: Constants that are fitted to engines since 2025, to older ones, and to times to the first token, each with a guess
#: made before the fit, which counts where the rows say nothing.
FREE = {
    "compute": 0.8, "four_bit": 0.7, "expert_width": 500.0, "attention": 0.7, "bandwidth": 0.9, "cache": 0.9,
    "link": 0.5, "layer_s": 5e-5, "latent_s": 2.5e-5, "stream_s": 3e-5, "reserve_bytes": 2e9,
}  # fmt: skip
OLD_FREE = {"compute": 0.8, "cache": 0.9, "pace": 1.0, "reserve_bytes": 4e9}
FIRST_FREE = {"request_s": 1e-2, "bunching": 1.0}
_OTHER = {"deferral": 0.3, "TensorRT-LLM": 1.0, "vLLM": 1.0, "SGLang": 1.0}

UNITS = {
    "layer_s": ("us", 1e-6), "latent_s": ("us", 1e-6), "stream_s": ("us", 1e-6), "request_s": ("ms", 1e-3),
    "reserve_bytes": ("GB", 1e9),
}  # fmt: skip
RESTS = {
    **dict.fromkeys(FREE, "serving_latency, inference_throughput since TensorRT-LLM 1.0, batch_latency"),
    **dict.fromkeys(FIRST_FREE, "times to the first token of serving_latency"),
}
ERRORS = catalog.DATA / "derived" / "inference_errors.csv"


def row_weights(table):
    """
    How much each row of `validation.setups` counts in a fit.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `validation.setups`.

    Returns
    -------
    numpy.ndarray
        The inverse root of the size of its group (task, engine, model, chip and precision), over the root of the sum
        of these in its task: neither a long sweep of one model nor a large task drowns the others.

    """
    groups = ["task", "software", "model", "accelerator", "weight_bits"]
    weight = table.groupby(groups)["value"].transform("size").to_numpy() ** -0.5
    return weight / np.sqrt(pd.Series(weight).groupby(table["task"].to_numpy()).transform("sum").to_numpy())


def _log_error(table, predicted):
    return np.clip(np.log(np.maximum(predicted, 1e-300) / table["value"].to_numpy(float)), -3.0, 3.0)


def _adjust(table, guess, build, start, *, weights=None, steps=30, predicted=predict):
    """Values of the names in `guess` with the least weighted soft-L1 loss of the log error, bent at 0.15."""
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
        Rows of `validation.setups`.
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
        Rows of `validation.setups`, of one accelerator and one engine.
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


def left_out(table, engines, by, *, groups=None, steps=8):
    """
    Predictions for each group of rows by a model fitted to all the others.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `validation.setups`.
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


def constants():
    """Fit from the values in the code until nothing moves; print what the code should hold."""
    engines = fit(validation.setups(), steps=40)
    for name, engine in engines.items():
        print(name, {f.name: float(f"{getattr(engine, f.name):.4g}") for f in fields(Engine)})
    own = validation.setups().query("accelerator == 'MI300X'")
    print("layer_overhead and link_share of MI300X", [round(x, 3) for x in fit_chip(own, engines)])


def errors():
    """Log errors of every row, fitted and left out."""
    table = validation.setups()

    def log(predicted):
        return np.clip(np.log(np.maximum(predicted, 1e-300) / table["value"]), -3, 3).round(4)

    names = ["task", "software", "model", "accelerator", "n", "layout", "weight_bits", "input_tokens", "output_tokens"]
    out = table[[*names, "concurrency", "value"]].assign(fitted=log(predict(table)))
    for by in validation.GROUPS:
        error = log(left_out(table, ENGINES, by))
        out[f"without_{by}"] = error
        print(by, (100 * np.expm1(error).abs()).groupby(table["task"]).mean().round(1).to_dict(), flush=True)
    ERRORS.parent.mkdir(exist_ok=True)
    out.to_csv(ERRORS, index=False, float_format="%.6g", lineterminator="\n")


def intervals(draws=40):
    """Central 90 % of the constants over groups (task, architecture, accelerator, engine) drawn with replacement."""
    table, rng, found = validation.setups(), np.random.default_rng(5), []
    weights = row_weights(table)
    group = table.groupby(["task", "architecture", "accelerator", "software"], sort=False).ngroup().to_numpy()
    n = group.max() + 1
    for times in rng.multinomial(n, np.full(n, 1 / n), size=draws):
        drawn = times[group] > 0
        found.append(fit(table[drawn], weights=(weights * times[group])[drawn], steps=4))
    lines = []
    sets = {"recent engines": [*FREE, *FIRST_FREE], "TensorRT-LLM 2024": [*OLD_FREE]}
    sets |= {name: ["pace"] for name in ("TensorRT-LLM", "vLLM")} | {"SGLang": ["pace", "deferral"]}
    for item, names in sets.items():
        key = "TensorRT-LLM" if item == "recent engines" else item
        for name in names:
            unit, factor = UNITS.get(name, ("1", 1.0))
            value = getattr(ENGINES[key], name) / factor
            low, high = np.quantile([getattr(f[key], name) / factor for f in found], [0.05, 0.95])
            rests = RESTS.get(name, "rows of the engine") if item == "recent engines" else f"rows of {item}"
            lines.append(
                [item, name, "", f"{min(low, value):.4g}", f"{max(high, value):.4g}", unit, "derived", "authors2026",
                 "tests/calibrate.py", "2026-11-24", f"90 % of fits to resampled groups of {rests}; the value stands in econmodel.inference"]
            )  # fmt: skip
    pd.DataFrame(lines, columns=catalog.COLUMNS).to_csv(
        catalog.DATA / "inference_constants.csv", index=False, lineterminator="\n"
    )


if __name__ == "__main__":
    for step in sys.argv[1:] or ["constants", "errors", "intervals"]:
        globals()[step]()
