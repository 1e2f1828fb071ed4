"""Refit the inference model: prints the constants, writes their intervals and the errors of left-out groups."""

import sys
from dataclasses import fields

import numpy as np
import pandas as pd

from econmodel import catalog, validation
from econmodel.inference import ENGINES, Engine

UNITS = {
    "layer_s": ("us", 1e-6), "latent_s": ("us", 1e-6), "stream_s": ("us", 1e-6), "request_s": ("ms", 1e-3),
    "reserve_bytes": ("GB", 1e9),
}  # fmt: skip
RESTS = {
    **dict.fromkeys(validation.FREE, "serving_latency, inference_throughput since TensorRT-LLM 1.0, batch_latency"),
    **dict.fromkeys(validation.FIRST_FREE, "times to the first token of serving_latency"),
}
ERRORS = catalog.DATA / "derived" / "inference_errors.csv"


def constants():
    """Fit from the values in the code until nothing moves; print what the code should hold."""
    engines = validation.fit(validation.setups(), steps=40)
    for name, engine in engines.items():
        print(name, {f.name: float(f"{getattr(engine, f.name):.4g}") for f in fields(Engine)})
    own = validation.setups().query("accelerator == 'MI300X'")
    print("layer_overhead and link_share of MI300X", [round(x, 3) for x in validation.fit_chip(own, engines)])


def errors():
    """Log errors of every row, fitted and left out."""
    table = validation.setups()

    def log(predicted):
        return np.clip(np.log(np.maximum(predicted, 1e-300) / table["value"]), -3, 3).round(4)

    names = ["task", "software", "model", "accelerator", "n", "layout", "weight_bits", "input_tokens", "output_tokens"]
    out = table[[*names, "concurrency", "value"]].assign(fitted=log(validation.predict(table)))
    for by in validation.GROUPS:
        error = log(validation.left_out(table, ENGINES, by))
        out[f"without_{by}"] = error
        print(by, (100 * np.expm1(error).abs()).groupby(table["task"]).mean().round(1).to_dict(), flush=True)
    ERRORS.parent.mkdir(exist_ok=True)
    out.to_csv(ERRORS, index=False, float_format="%.6g", lineterminator="\n")


def intervals(draws=40):
    """Central 90 % of the constants over groups (task, architecture, accelerator, engine) drawn with replacement."""
    table, rng, found = validation.setups(), np.random.default_rng(5), []
    weights = validation.row_weights(table)
    group = table.groupby(["task", "architecture", "accelerator", "software"], sort=False).ngroup().to_numpy()
    n = group.max() + 1
    for times in rng.multinomial(n, np.full(n, 1 / n), size=draws):
        drawn = times[group] > 0
        found.append(validation.fit(table[drawn], weights=(weights * times[group])[drawn], steps=4))
    lines = []
    sets = {"recent engines": [*validation.FREE, *validation.FIRST_FREE], "TensorRT-LLM 2024": [*validation.OLD_FREE]}
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
