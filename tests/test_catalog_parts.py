"""The tables of accelerators and models: they build parts, say what was collected, and refuse what is broken."""

import csv
import math
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from econmodel import catalog
from econmodel.parts import Accelerator, kv_bytes_per_token

FACTS = Path(__file__).parents[2] / "shared" / "facts"


def forget():
    for function in vars(catalog).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@pytest.fixture
def altered(tmp_path, monkeypatch):
    """Point the catalog at a copy of the data; return a function that alters one row of it and says which."""
    folder = shutil.copytree(catalog.DATA, tmp_path / "data")
    monkeypatch.setattr(catalog, "DATA", folder)

    def alter(table, item, parameter, /, **changes):
        path = folder / f"{table}.csv"
        with open(path, newline="", encoding="utf-8") as source:
            rows = list(csv.DictReader(source))
        place = next(i for i, row in enumerate(rows) if (row["item"], row["parameter"]) == (item, parameter))
        rows[place] |= changes
        with open(path, "w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, catalog.COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        forget()
        return place + 2

    forget()
    yield alter
    forget()


@pytest.mark.parametrize(
    ("item", "parameter", "changes", "reason"),
    [
        ("H100-SXM-80GB", "fp8", {"value": "900", "low": "", "high": ""}, "fp8 below bf16"),
        ("B200-HGX-180GB", "fp4", {"value": "4000", "low": "", "high": ""}, "fp4 below fp8"),
        ("H200-SXM-141GB", "fp8", {"value": "3958", "low": "", "high": ""}, "a sparse rate, unless the note says dense"),
        ("MI355X", "fp8", {"value": "10100"}, "over 2.2 times bf16: a sparse rate"),
        ("Trainium3", "fp8", {"note": ""}, "over 2.2 times bf16: a sparse rate"),
        ("GB300 (per GPU)", "fp4", {"note": ""}, "over 2.2 times fp8: a sparse rate"),
        ("A100-SXM-80GB", "bf16", {"value": "624"}, "measured is not 50 to 100 % of it: a sparse rate?"),
        ("A100-SXM-80GB", "bf16", {"value": "270"}, "measured is not 50 to 100 % of it"),
        ("B300-HGX", "memory_reported", {"value": "144"}, "more than 15 % off the label"),
        ("L4", "bandwidth", {"parameter": "bandwith"}, "no memory_label or no bandwidth"),
        ("B200-HGX-180GB", "bandwidth", {"value": "8.2"}, "8.2 lies outside 7.7 to 8"),
        ("H100-SXM-80GB", "bandwidth", {"unit": "TiB/s"}, "unknown unit 'TiB/s'"),
    ],
)  # fmt: skip
def test_a_broken_accelerator_is_refused_with_file_row_and_reason(altered, item, parameter, changes, reason):
    catalog.accelerators()
    row = altered("accelerators", item, parameter, **changes)
    if parameter == "bandwidth" and "parameter" in changes:
        row = catalog.facts("accelerators").query("item == @item and parameter == 'vendor'").index[0] + 2
    with pytest.raises(ValueError, match=rf"^accelerators\.csv, row {row}: .*{reason}"):
        catalog.accelerator("L40S")


@pytest.mark.parametrize(
    ("item", "parameter", "changes", "at", "reason"),
    [
        ("Qwen2.5-7B", "published_params_active", {"value": "9"}, None, "more than published_params_total"),
        ("Qwen3-32B", "dense.size", {"value": "22600"}, "published_params_total", "counted from the architecture, over 3 % off"),
        ("DeepSeek-V3", "published_params_total", {"value": "700"}, None, "over 3 % off"),
        ("DeepSeek-V3", "routed.experts_per_token", {"value": "16"}, "published_params_active", "over 15 % off"),
        ("gpt-oss-20b", "windowed.layers", {"value": "11"}, "layers", "full, windowed and recurrent layers are 23"),
        ("Meta-Llama-3.1-8B", "full.kv_heads", {"value": "7"}, "family", "kv_heads = 7 is not allowed"),
        ("Mixtral-8x7B-v0.1", "routed.experts_per_token", {"value": "9"}, "family", "experts_per_token = 9 is not allowed"),
        ("Mixtral-8x7B-v0.1", "routed.size", {"parameter": "routed.sise"}, "family", "unexpected keyword argument 'sise'"),
        ("Mixtral-8x7B-v0.1", "routed.size", {"parameter": "router.size"}, "family", "missing or unknown: router"),
        ("Mixtral-8x7B-v0.1", "vocab", {"parameter": "vocabulary"}, "family", "missing or unknown: vocab"),
        ("Qwen3-8B", "full.head_dim", {"value": "12.5"}, "family", "head_dim = 12.5 is not allowed"),
    ],
)  # fmt: skip
def test_a_broken_model_is_refused_with_file_row_and_reason(altered, item, parameter, changes, at, reason):
    catalog.llms()
    row = altered("models", item, parameter, **changes)
    if at:
        row = catalog.facts("models").query("item == @item and parameter == @at").index[0] + 2
    with pytest.raises(ValueError, match=rf"^models\.csv, row {row}: .*{reason}"):
        catalog.llm("Mistral-7B")


def test_a_new_accelerator_takes_only_rows(altered):
    path = catalog.DATA / "accelerators.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    mine = rows[rows["item"] == "L4"].assign(item="mine")
    pd.concat([rows, mine]).to_csv(path, index=False)
    forget()
    assert replace(catalog.accelerator("mine"), name="L4") == catalog.accelerator("L4")


def test_unknown_names_come_with_near_ones():
    with pytest.raises(KeyError, match="near: H100-SXM-80GB"):
        catalog.accelerator("H100 SXM 80GB")
    with pytest.raises(KeyError, match=r"near: .*Meta-Llama-3.1-70B"):
        catalog.llm("Llama-3.1-70B")


def test_every_line_of_a_table_is_a_part_with_the_same_numbers():
    chips = catalog.accelerators().set_index("accelerator")
    for name, line in chips.iterrows():
        part = catalog.accelerator(name)
        for field in fields(Accelerator)[1:]:
            value = getattr(part, field.name)
            assert math.isnan(line[field.name]) if value is None else value == line[field.name]
    for line in catalog.llms().itertuples():
        model = catalog.llm(line.model)
        assert (model.params_total, model.params_active) == (line.params_total, line.params_active)
        assert kv_bytes_per_token(model) == line.kv_bytes_per_token


def test_memory_is_what_a_program_sees_or_else_the_label():
    assert catalog.accelerator("H100-SXM-80GB").memory_bytes == 79.65 * 2**30
    assert catalog.accelerator("MI300X").memory_bytes == 192 * 2**30


def test_what_is_handed_out_can_be_changed_without_harm():
    chips = catalog.accelerators()
    chips["memory_bytes"] = 0
    assert catalog.accelerators().loc[0, "memory_bytes"] == 40 * 2**30


at_hand = pytest.mark.skipif(not FACTS.is_dir(), reason="maintainers' tables not at hand")
COLLECTED = {
    "memory_label": "mem_capacity_label_gb",
    "memory_reported": "mem_capacity_reported_gib",
    "bandwidth": "mem_bw_tb_s",
    "bf16": "bf16_dense_tflops",
    "fp8": "fp8_dense_tflops",
    "fp4": "fp4_dense_tflops",
    "bf16_measured": "measured_bf16_matmul_tflops",
    "scale_up": "scaleup_gb_s_per_direction",
    "host_link": "host_gb_s_per_direction",
    "power": "tdp_w",
}


@at_hand
@pytest.mark.parametrize(("parameter", "column"), COLLECTED.items())
def test_accelerators_equal_the_collected_table(parameter, column):
    theirs = pd.read_csv(FACTS / "accelerators.csv").set_index("accelerator")
    if parameter == "memory_reported":  # of cloud chips the collected cell repeats the label
        theirs.loc[theirs["vendor"].isin(["Google", "AWS"]), column] = np.nan
    rows = catalog.facts("accelerators")
    ours = rows[rows["parameter"] == parameter].set_index("item")["value"].reindex(theirs.index).astype(float)
    assert set(theirs.index) <= set(catalog.accelerators()["accelerator"])
    np.testing.assert_array_equal(ours, theirs[column])


@at_hand
@pytest.mark.parametrize(
    ("column", "collected"),
    [("layers", "layers"), ("hidden_size", "hidden_size"), ("vocab", "vocab"), ("max_positions", "max_positions"),
     ("attention", "attention"), ("family", "family")],
)  # fmt: skip
def test_models_equal_the_collected_table(column, collected):
    theirs = pd.read_csv(FACTS / "models.csv")
    ours = catalog.llms().set_index("model").loc[theirs["model"]]
    assert ours[column].tolist() == theirs[collected].tolist()
    np.testing.assert_array_equal(ours["experts"].replace(1, np.nan), theirs["experts"])
