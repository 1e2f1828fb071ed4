"""The data load, say what the sources say, and refuse what is broken."""

import csv
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment

from econmodel import catalog
from econmodel.units import UNITS

FACTS = Path(__file__).parents[2] / "shared" / "facts"
TABLES = catalog.tables()


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_unit_kind_source_and_place(table):
    rows = catalog.facts(table)
    assert list(rows.columns) == catalog.COLUMNS
    assert len(rows) > 0
    assert (rows[["item", "parameter", "unit", "kind", "source", "locator", "retrieved"]] != "").all(axis=None)
    assert set(rows["unit"]) <= {*UNITS, *catalog.WORDS}


def test_every_source_is_used():
    series = {key for name in catalog.measured_series() for key in catalog.measurements(name)["source"]}
    assert set(catalog.sources().index) == {*catalog.register()["source"], *series}


def test_every_column_of_the_series_is_explained_and_used():
    used = {column for name in catalog.measured_series() for column in catalog.measurements(name)}
    assert set(catalog.series_columns().index) == used


def test_an_origin_that_names_an_address_is_a_link():
    links = catalog.sources()["link"]
    assert links["megascale2024"] == "https://arxiv.org/abs/2402.15627"
    assert links["tau2bench"] == "https://github.com/sierra-research/tau2-bench/tree/a2c0247251"
    assert links["hicache2025"] == "https://lmsys.org/blog/2025-09-10-sglang-hicache"
    assert links["mooncake2025"] == ""
    assert (links != "").mean() > 0.8


@pytest.fixture
def corrupted(tmp_path):
    """Return a function that copies a table, alters fields of one row and loads the copy."""

    def load(table="swebench", row=3, **fields):
        with open(catalog.DATA / f"{table}.csv", newline="", encoding="utf-8") as source:
            rows = list(csv.DictReader(source))
        rows[row - 2] |= fields
        copy = tmp_path / f"{table}.csv"
        with open(copy, "w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return catalog.read_facts(copy)

    return load


def test_an_unaltered_copy_loads(corrupted):
    pd.testing.assert_frame_equal(corrupted(), catalog.facts("swebench"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"item": ""}, "no item"),
        ({"parameter": ""}, "no parameter"),
        ({"kind": ""}, "no kind"),
        ({"retrieved": ""}, "no retrieved"),
        ({"unit": "date"}, "'74.4' is not a date"),
        ({"unit": ""}, "no unit"),
        ({"locator": " "}, "no locator"),
        ({"source": ""}, "no source"),
        ({"source": "hearsay"}, "source 'hearsay' is not in sources.csv"),
        ({"unit": "parsec"}, "unknown unit 'parsec'"),
        ({"kind": "guessed"}, "unknown kind 'guessed'"),
        ({"retrieved": "2026-13-01"}, "retrieved '2026-13-01' is not a date"),
        ({"value": "abc"}, "value 'abc' is not a number"),
        ({"value": "inf"}, "value 'inf' is not a number"),
        ({"low": "1,5"}, "low '1,5' is not a number"),
        ({"value": ""}, "neither a value nor a range"),
        ({"low": "80", "high": "90"}, "74.4 lies outside 80 to 90"),
        ({"value": "", "low": "90", "high": "80"}, "lies outside 90 to 80"),
        ({"value": "174.4"}, "174.4 % is no share"),
        ({"parameter": "resolved"}, "resolved stands here twice"),
    ],
)
def test_a_corrupted_row_is_refused_with_file_row_and_reason(corrupted, fields, reason):
    with pytest.raises(ValueError, match=rf"swebench.csv, row 3: .*{reason}"):
        corrupted(**fields)


def test_a_missing_column_is_refused(tmp_path):
    text = (catalog.DATA / "swebench.csv").read_text(encoding="utf-8").replace(",unit,", ",units,", 1)
    (tmp_path / "swebench.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"swebench.csv, row 1: columns are"):
        catalog.read_facts(tmp_path / "swebench.csv")


@pytest.fixture
def altered(tmp_path, monkeypatch):
    """Point the catalog at a copy of the data; return a function that replaces text in one of its files."""
    folder = shutil.copytree(catalog.DATA, tmp_path / "data")
    monkeypatch.setattr(catalog, "DATA", folder)
    caches = [f for f in vars(catalog).values() if hasattr(f, "cache_clear")]
    for cached in caches:
        cached.cache_clear()

    def replace(table, old, new):
        text = (folder / table).read_text(encoding="utf-8")
        assert old in text
        (folder / table).write_text(text.replace(old, new, 1), encoding="utf-8")

    yield replace
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize(
    ("table", "old", "new", "load", "message"),
    [
        ("tau2_pass_hat_k.csv", "pass_2,66.8", "pass_2,76.8", "tau2_pass_hat_k", r"tau2_pass_hat_k.csv, row \d+: .*pass_2 above pass_1"),
        ("metr_runs.csv", "n_success,0", "n_success,36", "metr_task_success", r"metr_runs.csv, row 2: .*n_success above n_runs"),
        ("metr_runs.csv", "n_usage_limit,35", "n_usage_limit,36", "metr_task_success", r"row 2: .*n_usage_limit above"),
        ("metr_tasks.csv", "ai_rd_fix_embedding/main", "ai_rd_fix/main", "metr_task_success", r"task is not in metr_tasks.csv"),
        ("claims.csv", "D3,demand", "D1,demand", "claims", r"claims.csv, row \d+: claim D1 stands here twice"),
        ("claims.csv", ",<,0.5,0.5", ",~,0.5,0.5", "claims", r"claims.csv, row \d+: unknown relation '~'"),
        ("claims.csv", ",<,0.5,0.5", ",<,half,0.5", "claims", r"claims.csv, row \d+: lenient 'half' is not a number"),
        ("claims.csv", ",02_compound_error,model,", ",02_compound_error,hunch,", "claims", r"unknown kind 'hunch'"),
        ("hbm_market.csv", "revenue_share,57", "revenue_share,67", "series", r"hbm_market.csv, row \d+: revenue_share of 2025-Q3 adds up to 110%"),
        ("gpu_prices.csv", ",spot,1.1572,1.102,1.2122", ",spot,4.1572,1.102,5", "prices", r"gpu_prices.csv, row \d+: .*spot above on_demand"),
        ("gpu_prices.csv", ",commit_1y,2.3377", ",commit_1y,4.3377", "prices", r"gpu_prices.csv, row \d+: .*commit_1y above on_demand"),
        ("gpu_prices.csv", "2023-05-25,spot_us_central1,1.", "2023-05-25,spot_us_central1,9.", "prices", r"gpu_prices.csv, row \d+: .*spot_us_central1 above on_demand_us_central1"),
        ("token_prices.csv", "2026-08-05 | simonw,output,150", "2026-08-05 | simonw,output,0", "token_prices", r"token_prices.csv, row \d+: .*output is free"),
        ("token_prices.csv", "simonw,cached_input,37.5", "simonw,cached_input,97.5", "token_prices", r"token_prices.csv, row \d+: .*cached_input above input"),
        ("interruptions.csv", "Bug | Dependency,interruptions,54", "Bug | Dependency,interruptions,55", "interruptions", r"interruptions.csv, row \d+: .*another share of all"),
        ("series/columns.csv", "tp,given,1,", "tp,given,parsec,", "measurements", r"columns.csv, row \d+: unknown unit 'parsec'"),
        ("series/columns.csv", "latency,measured", "latency,guessed", "measurements", r"columns.csv, row \d+: unknown role 'guessed'"),
        ("series/columns.csv", "latency,measured", "batch,measured", "measurements", r"column 'batch' stands here twice"),
        ("series/columns.csv", "latency,measured,s,0.01", "latency,measured,s,1e9", "measurements", r"no range from least to most for 'latency'"),
        ("series/batch_latency.csv", "batch,", "crowd,", "measurements", r"batch_latency.csv, row 1: 'crowd' is not in columns.csv"),
        ("series/batch_latency.csv", "17.236,rocmvllm2025", "17.236,hearsay", "measurements", r"batch_latency.csv, row 2: source 'hearsay' is not"),
        ("series/batch_latency.csv", "17.236,rocmvllm2025,f8c9a3852 docs/dev-docker/README.md", "17.236,rocmvllm2025,", "measurements", r"row 2: no locator"),
        ("series/batch_latency.csv", "17.236,", ",", "measurements", r"batch_latency.csv, row 2: nothing measured"),
        ("series/batch_latency.csv", "17.236,", "fast,", "measurements", r"batch_latency.csv, row 2: latency 'fast' is not a number"),
        ("series/batch_latency.csv", "17.236,", "-17.236,", "measurements", r"row 2: latency -17.236 s lies outside 0.01 to"),
        ("training_layouts.csv", "MPT-70B | H100", "MPT-71B | H100", "training_runs", r"training_layouts.csv, row \d+: .*no such run"),
        ("series/columns.csv", ",key of the references", ",", "measurements", r"columns.csv, row \d+: no meaning for 'source'"),
        ("sources.csv", "leaderboard submissions,MIT", "leaderboard submissions,", "sources", r"sources.csv, row \d+: no licence for 'tau2bench'"),
        ("sources.csv", "tau2bench,", "swebench,", "sources", r"sources.csv, row \d+: source 'swebench' stands here twice"),
    ],
)  # fmt: skip
def test_rules_of_single_tables_refuse_an_altered_copy(altered, table, old, new, load, message):
    argument = {"series": ["hbm_market"], "measurements": ["batch_latency"]}.get(load, [])
    getattr(catalog, load)(*argument)
    for cached in [f for f in vars(catalog).values() if hasattr(f, "cache_clear")]:
        cached.cache_clear()
    altered(table, old, new)
    with pytest.raises(ValueError, match=message):
        getattr(catalog, load)(*argument)


@pytest.mark.parametrize(
    ("old", "new", "item", "reason"),
    [
        ("L4 | g2-standard-4 | 2024-10-31,spot,0.2725,0.1733,0.3761", "L4 | g2-standard-4 | 2024-10-31,spot,0.6,0.1733,0.7", "L4 | g2-standard-4 | 2024-10-31", "introductory: before a fall of the median to 45%"),
        ("nebius | L40S | L40S (Intel) | 2026-09-25", "nebius | L40S | L40S (Intel) | autumn", "L40S | L40S (Intel) | autumn", "no date"),
    ],
)  # fmt: skip
def test_a_price_that_no_rule_can_date_or_believe_is_left_out(altered, old, new, item, reason):
    altered("gpu_prices.csv", old, new)
    kept, doubted = (
        quotes[quotes[["accelerator", "instance", "date"]].agg(" | ".join, axis=1) == item]
        for quotes in (catalog.prices(), catalog.prices_left_out())
    )
    assert reason in set(doubted["reason"])
    assert not set(kept["basis"]) & set(doubted["basis"])


def test_a_region_that_keeps_an_introductory_price_is_no_upper_end(altered):
    high = catalog.prices().query("instance == 'a3-highgpu-8g' and basis == 'spot'").set_index("date")["high"]
    assert math.isnan(high["2025-10-30"])
    assert high["2025-11-27"] < 5
    row = catalog.fact("gpu_prices", "gcp | H100-SXM-80GB | a3-highgpu-8g | 2025-11-27", "spot")
    altered(
        "gpu_prices.csv",
        f"2025-11-27,spot,{row.value},{row.low},{row.high}",
        f"2025-11-27,spot,{row.value},{row.low},11.13",
    )
    catalog._facts.cache_clear()
    catalog._quotes.cache_clear()
    high = catalog.prices().query("instance == 'a3-highgpu-8g' and basis == 'spot'").set_index("date")["high"]
    assert math.isnan(high["2025-11-27"])
    assert high["2025-12-25"] < 5


def repeat_a_row(frame):
    return pd.concat([frame, frame.iloc[[3]]])


def rename_a_run(frame):
    copy = frame[frame["published_as"] == "DeepSeek-R1"].iloc[[0]]
    return pd.concat([frame, copy.assign(model="DeepSeek-V3", published_as="DeepSeek-V3", upstream_row=1)])


def widen_a_node(frame):
    return frame.assign(tp=frame["tp"].where(frame.index != 5, "64"))


def halve_a_rate(frame):
    return frame.assign(output_rate=frame["output_rate"].where(frame.index != 5, "60"))


def misdate_a_run(frame):
    return frame.assign(date=frame["date"].where(frame.index != 0, "2026-02-31"))


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("serving_latency", repeat_a_row, "row 1824: the same row stands here twice"),
        ("serving_latency", rename_a_run, "row 1824: .* one run under two names"),
        ("serving_latency", widen_a_node, "row 7: tp 64 of one node"),
        ("serving_latency", misdate_a_run, "row 2: date '2026-02-31' is not a date"),
        ("neuron_inference", halve_a_rate, "row 7: output_rate 60 is over 30 % off"),
    ],
)
def test_what_upstream_lists_get_wrong_is_refused(altered, table, change, message):
    path = catalog.DATA / "series" / f"{table}.csv"
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=rf"{table}.csv, {message}"):
        catalog.measurements(table)


def test_what_the_collectors_found_inconsistent_is_refused(altered):
    """One run of Mistral on Inferentia2 whose rate is two thirds of what its time per token gives."""
    path = catalog.DATA / "series" / "neuron_inference.csv"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    same = rows[(rows["model"] == "Mistral-7B") & (rows["batch"] == "1")].iloc[[0]]
    broken = same.assign(
        input_tokens="4096", output_tokens="4096", output_rate="81.7", p50_time_per_output_token="7.87"
    )
    pd.concat([rows, broken]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"neuron_inference.csv, row 31: output_rate 81.7"):
        catalog.measurements("neuron_inference")


def test_an_impossible_histogram_is_marked():
    impossible = catalog.tau2_pass_hat_k().query("histogram == 'impossible'")
    assert impossible[["model", "domain"]].to_numpy().tolist() == [["GLM-5", "banking_knowledge"]]
    assert (impossible[[f"solved_{c}" for c in range(5)]] < 0).any(axis=None)


def test_unknown_names_come_with_near_ones():
    with pytest.raises(KeyError, match="near: swebench"):
        catalog.facts("swe-bench")
    with pytest.raises(KeyError, match=r"near: .*mean_calls"):
        catalog.fact("swebench", "Minimax M2", "mean_call")
    with pytest.raises(KeyError, match=r"near: .*Minimax M2"):
        catalog.fact("swebench", "MiniMax-M2", "mean_calls")
    with pytest.raises(KeyError, match="near: 02_compound_error"):
        catalog.results("02_compound_errors")


def test_a_price_is_the_latest_quote_of_every_cloud():
    """Azure and AWS quote 12.29 and 6.88 on the day; the specialists' quotes are a few weeks old."""
    quoted = catalog.price("H100-SXM-80GB", on="2026-11-09", basis="on_demand", within_days=0)
    assert (quoted.value, quoted.low, quoted.high, quoted.quotes) == (pytest.approx((12.29 + 6.88) / 2), 6.88, 12.29, 2)
    wider = catalog.price("H100-SXM-80GB", on="2026-11-09", basis="on_demand")
    assert wider.low == 2.69
    assert wider.oldest >= "2026-05"
    with pytest.raises(ValueError, match="on = 2001-01-01 is not allowed: no quote"):
        catalog.price("H100-SXM-80GB", on="2001-01-01", basis="spot")
    with pytest.raises(KeyError, match="near: H100-SXM-80GB"):
        catalog.price("H100-SXM", on="2026-11-09", basis="spot")


def test_measured_links_come_before_nominal_ones():
    links = catalog.tiers().set_index("tier")["bandwidth_bytes_per_s"]
    assert (
        links["PCIe 5.0 x16 host-to-GPU"]
        < links["PCIe 5.0 x16"]
        < links["NVLink-C2C (Grace-Blackwell)"]
        < links["HBM3e"]
    )
    assert catalog.tier("NVMe").latency_s == pytest.approx(17.5e-6)
    assert catalog.tier("PCIe 5.0 x16").capacity_bytes is None
    with pytest.raises(KeyError, match=r"near: .*PCIe 5.0 x16"):
        catalog.tier("PCIe 5 x16")


def test_what_is_handed_out_can_be_changed_without_harm():
    rows = catalog.facts("swebench")
    rows["value"] = 0
    assert catalog.fact("swebench", "Minimax M2", "resolved").value == 61


def test_results_are_written_beside_the_build_and_refused_when_broken(tmp_path, monkeypatch):
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    good = pd.DataFrame({c: [0.5] for c in catalog.RESULT_COLUMNS}).assign(key="a", unit="1")
    assert catalog.write_results("99_test", good) == 1
    assert pd.read_csv(tmp_path / "_build" / "results" / "99_test.csv").loc[0, "value"] == 0.5
    assert catalog.write_results("99_test", good.assign(key="R1", value=math.nan)) == 1
    for bad in (good.drop(columns="low"), pd.concat([good, good]), good.assign(value=math.nan)):
        with pytest.raises(ValueError, match="99_test"):
            catalog.write_results("99_test", bad)


# the maintainers' tables, where they are at hand

at_hand = pytest.mark.skipif(not FACTS.is_dir(), reason="the maintainers' tables are not at hand")


@at_hand
def test_claims_stand_as_they_were_written():
    assert (catalog.DATA / "claims.csv").read_bytes() == (FACTS.parent / "claims.csv").read_bytes()


@at_hand
def test_agent_reliability_equals_the_collected_tables():
    theirs = pd.read_csv(FACTS / "tau2_pass_hat_k.csv")
    ours = catalog.tau2_pass_hat_k()
    for k in (1, 2, 3, 4):
        np.testing.assert_allclose(ours[f"pass_{k}"] * 100, theirs[f"pass_{k}"], rtol=1e-12)
    np.testing.assert_array_equal(ours["n_tasks"], theirs["n_tasks"])
    given = theirs["cost_usd_per_trajectory"].where(lambda cost: cost > 0)  # zero means that none was given
    np.testing.assert_allclose(ours["run_cost"], given)
    exact = theirs["histogram_exact"].eq(True).to_numpy()
    assert np.all(ours.loc[exact, "histogram"] == "exact")
    counts = [f"solved_{c}" for c in range(5)]
    np.testing.assert_array_equal(ours.loc[exact, counts], theirs.loc[exact, [f"tasks_with_{c}" for c in range(5)]])
    runs, counted = catalog.metr_task_success(), pd.read_csv(FACTS / "metr_task_success.csv")
    for mine, upstream in [("n_runs",) * 2, ("n_success",) * 2, ("human_time", "human_minutes")]:
        np.testing.assert_allclose(runs[mine].astype(float), counted[upstream])
    assert (runs["task_family"].to_numpy() == counted["task_family"].to_numpy()).all()
    horizons, published = catalog.metr_horizons(), pd.read_csv(FACTS / "metr_horizons.csv")
    np.testing.assert_allclose(horizons["p80_horizon"] / horizons["p50_horizon"], published["p80_over_p50"], atol=1e-4)
    swe, summary = catalog.swebench(), pd.read_csv(FACTS / "swebench_bash_only_summary.csv")
    np.testing.assert_allclose(swe["resolved"] * 100, summary["headline_resolved_pct"])


SERIES = {
    "batch_latency": ("batch_latency_mi300x", {"latency": "e2e_s", "batch": "batch", "tp": "tp", "input_tokens": "isl", "output_tokens": "osl"}),
    "decode_stress": ("decode_vs_context_concurrency", {"p50_time_to_first_token": "median_ttft_ms", "p50_time_per_output_token": "median_tpot_ms", "p99_time_per_output_token": "p99_tpot_ms", "output_rate": "output_tok_s", "input_rate": "input_tok_s", "concurrency": "concurrency", "input_tokens": "isl", "output_tokens": "osl"}),
    "deepseek_hours": ("deepseek_v3r1_day", {"mean_nodes": "h800_nodes_mean", "cost": "cost_usd", "income": "theoretical_income_kusd", "hour": "hour_utc8"}),
    "first_token": ("ttft_batch1", {"time_to_first_token": "ttft_ms", "input_tokens": "isl", "tp": "tp"}),
    "inference_throughput": ("inference_throughput", {"output_rate": "output_tok_s", "input_tokens": "isl", "output_tokens": "osl", "batch": "batch", "tp": "tp", "pp": "pp"}),
    "mlperf_inference": ("mlperf_inference", {"output_rate": "tok_s", "sample_rate": "samp_s", "n_accelerators": "n_acc", "mean_time_to_first_token": "ttft_mean_ms", "p99_time_to_first_token": "ttft_p99_ms", "mean_time_per_output_token": "tpot_mean_ms", "p99_time_per_output_token": "tpot_p99_ms"}),
    "mlperf_training": ("mlperf_training_scaling", {"fastest_time": "ttt_min_fastest", "median_time": "ttt_min_median", "slowest_time": "ttt_min_slowest", "least_step": "step_s_min", "median_step": "step_s_median", "most_step": "step_s_max", "start_time": "init_min", "step_excess": "step_mean_over_p50_excess_pct", "slow_steps": "share_steps_over_1p1", "outside_steps": "non_step_time_pct", "n_accelerators": "n_acc", "runs": "runs", "params": "params", "global_batch": "gbs", "sequence_tokens": "seq", "sequences": "sequences_median"}),
    "neuron_inference": ("neuron_inference", {"output_rate": "output_tok_s", "p50_time_to_first_token": "ttft_p50_ms", "p50_time_per_output_token": "tpot_p50_ms", "tp": "tp_neuroncores", "batch": "batch", "input_tokens": "isl", "output_tokens": "osl"}),
    "serving_latency": ("serving_latency_silicon", {"time_to_first_token": "silicon_ttft_ms", "time_per_output_token": "silicon_tpot_ms", "input_tokens": "isl", "output_tokens": "osl", "batch": "batch_size", "concurrency": "concurrency", "tp": "tp_size", "attention_dp": "attention_dp_size", "moe_tp": "moe_tp_size", "moe_ep": "moe_ep_size", "prefill_batch": "prefill_batch_size", "prefill_workers": "prefill_num_workers", "prefill_tp": "prefill_tp_size", "prefill_attention_dp": "prefill_attention_dp_size", "prefill_moe_ep": "prefill_moe_ep_size", "decode_batch": "decode_batch_size", "decode_workers": "decode_num_workers", "decode_tp": "decode_tp_size", "decode_attention_dp": "decode_attention_dp_size", "decode_moe_ep": "decode_moe_ep_size", "upstream_row": "row"}),
    "spot_availability": ("spot_availability", {"mean_up": "mean_up_spell_h", "mean_down": "mean_down_spell_h", "up_spells": "up_spells", "nodes": "nodes", "devices": "devices_per_instance", "interval": "gap_s", "ticks": "ticks", "length": "days", "most": "max_value", "all_available": "frac_fully_available", "mean_available": "mean_value_over_max"}),
    "training_maxtext": ("training_maxtext_tpu", {"mfu": "mfu_pct", "flop_rate": "tflops_per_chip", "n_accelerators": "chips", "slices": "slices"}),
    "training_megascale": ("training_mfu_published", {"mfu": "mfu_pct", "step": "iter_time_s", "total_token_rate": "tok_s_total", "n_accelerators": "n_acc", "global_batch": "global_batch", "params": "params_b"}),
    "training_mosaic": ("training_mosaic_mpt", {"mfu": "mfu_pct", "hfu": "hfu_pct", "token_rate": "tok_s_per_gpu", "n_accelerators": "n_gpus", "sequence_tokens": "seqlen", "microbatch": "microbatch", "grad_accum": "grad_accum", "global_batch": "global_batch", "params": "params"}),
    "training_nemo": ("training_nemo", {"token_rate": "tok_s_per_gpu", "flop_rate": "model_tflops_per_gpu", "n_accelerators": "n_gpus", "global_batch": "gbs", "microbatch": "mbs", "sequence_tokens": "seqlen", "fsdp": "fsdp", "tp": "tp", "pp": "pp", "cp": "cp", "vp": "vp", "ep": "ep"}),
}  # fmt: skip
#: Units of the collected columns where they are not the stored ones.
THEIR_UNITS = {
    "days": 24, "params_b": 1e9, "theoretical_income_kusd": 1e3,
    "frac_fully_available": 100, "mean_value_over_max": 100, "share_steps_over_1p1": 100,
}  # fmt: skip


@at_hand
@pytest.mark.parametrize("table", SERIES)
def test_measured_series_equal_the_collected_ones(table):
    theirs, columns = SERIES[table]
    ours, known = catalog.measurements(table), pd.read_csv(FACTS / f"{theirs}.csv")
    if table == "serving_latency":  # 133 runs stand there under two names
        known = known.set_index("row", drop=False).loc[ours["upstream_row"].astype(int)]
    if table == "neuron_inference":  # one run whose rate contradicts its time per token
        known = known.query("not (model == 'Mistral-7B-Instruct-v0.2' and batch == 1 and isl == 4096)")
    factors = catalog.series_columns()["unit"].map(lambda unit: UNITS.get(unit, (1.0,))[0])
    assert len(ours) == len(known)
    for mine, upstream in columns.items():
        wanted = known[upstream].astype(float) * THEIR_UNITS.get(upstream, 1)
        np.testing.assert_allclose(ours[mine].astype(float) / factors[mine], wanted, rtol=1e-9, err_msg=upstream)


def quantiles(*names):
    return {name: (name, "value") for name in names}


#: Collected table -> our table, our item by their fields, and for their columns our parameter and field.
EXACT = {
    "metr_horizons": ("metr_horizons", "{model} | {benchmark} | {snapshot}", {"p50_minutes": ("p50_horizon", "value"), "p50_ci_low": ("p50_horizon", "low"), "p50_ci_high": ("p50_horizon", "high"), "p80_minutes": ("p80_horizon", "value"), "p80_ci_low": ("p80_horizon", "low"), "p80_ci_high": ("p80_horizon", "high"), "average_score": ("average_score", "value")}),
    "metr_task_success": ("metr_runs", "{model} | {task_id}", quantiles("n_runs", "n_success", "n_usage_limit")),
    "metr_survival_fits_hamilton": ("metr_published_fits metr_fit_details", "{model}", {"n": ("n_runs", "value"), "logistic_b0": ("logistic_intercept", "value"), "logistic_b1": ("logistic_slope", "value"), "exponential_lambda": ("exponential_rate", "value"), "weibull_lambda": ("weibull_rate", "value"), "lambda_ci_low": ("weibull_rate", "low"), "lambda_ci_high": ("weibull_rate", "high"), "ll_logistic": ("log_likelihood_logistic", "value"), "ll_exponential": ("log_likelihood_exponential", "value"), "ll_weibull": ("log_likelihood_weibull", "value"), "weibull_k": ("weibull_shape", "value"), "k_ci_low": ("weibull_shape", "low"), "k_ci_high": ("weibull_shape", "high")}),
    "swebench_bash_only_summary": ("swebench", "{model}", {"headline_resolved_pct": ("resolved", "value"), "per_instance_resolved_pct": ("resolved_per_instance", "value"), "mean_cost_usd": ("mean_cost", "value"), "p50_cost_usd": ("p50_cost", "value"), "p90_cost_usd": ("p90_cost", "value"), **quantiles("n_instances", "mean_calls", "p10_calls", "p50_calls", "p90_calls", "p99_calls", "max_calls", "mean_calls_resolved", "mean_calls_unresolved")}),
    "gpu_prices": ("gpu_prices", "{cloud} | {accelerator} | {instance} | {catalog_date}", {"ondemand_usd_gpu_h_median": ("on_demand", "value"), "ondemand_min": ("on_demand", "low"), "ondemand_max": ("on_demand", "high"), "spot_usd_gpu_h_median": ("spot", "value"), "spot_min": ("spot", "low"), "spot_max": ("spot", "high"), "commit1y_usd_gpu_h": ("commit_1y", "value"), "commit3y_usd_gpu_h": ("commit_3y", "value"), "reservation": ("reservation", "value"), "us_central1_ondemand": ("on_demand_us_central1", "value"), "us_central1_spot": ("spot_us_central1", "value")}),
    "trace_token_quantiles": ("request_sizes", "{trace} | {field}", quantiles("mean", "p5", "p25", "p50", "p75", "p90", "p95", "p99", "max", "requests")),
    "trace_kv_lru_curves": ("cache_curves", "{trace} | {room}", {"lru_hit_frac": ("lru_hit_share", "value"), "lru_hit_frac_p5": ("lru_hit_share", "low"), "lru_hit_frac_p95": ("lru_hit_share", "high")}),
    "trace_demand_peak_to_mean": ("load_shapes", "{series} | {span}", {"mean_over_peak_hour": ("load_factor_1h", "value"), **quantiles("requests", "peak_to_mean_1min", "peak_to_mean_10min", "peak_to_mean_1h", "trough_to_mean_1h")}),
    "trace_acme_util_quantiles": ("cluster_utilization", "{cluster} | {metric}", {"mean_from_cdf": ("mean", "value"), "share_le_1_pct": ("at_most_1", "value"), "share_gt_95_pct": ("above_95", "value"), **quantiles("p10", "p25", "p50", "p75", "p90", "p95")}),
    "trace_llama3_interruptions": ("interruptions", "{component} | {category}", {"count": ("interruptions", "value"), "published_pct": ("published_share", "value"), "count_from_pct": ("interruptions", "low")}),
}  # fmt: skip
#: Our values are rounded by no more than this.
ROUNDED = {"metr_survival_fits_hamilton": 6e-4, "swebench_bash_only_summary": 6e-5}
MODEL_SIZES = ["layers", "layers_full_kv", "layers_windowed", "layers_linear_or_ssm", "q_heads", "kv_heads", "head_dim", "v_head_dim", "kv_lora_rank", "qk_rope_head_dim", "sliding_window", "hidden_size", "experts", "experts_per_token", "vocab", "max_positions", "params_total_b_label", "params_active_b_label"]  # fmt: skip
GPU_NAMES = {"A100-40GB": "A100-SXM-40GB", "A100-80GB": "A100-SXM-80GB", "H100-80GB": "H100-SXM-80GB", "H200-141GB": "H200-SXM-141GB", "B200-180GB": "B200-HGX-180GB", "B300": "B300-HGX", "MI300X-192GB": "MI300X", "TPU v6e": "TPU v6e (Trillium)"}  # fmt: skip


def renamed(theirs, rows):
    """Fields of a collected table as our items spell them."""
    if theirs == "metr_horizons":
        rows["benchmark"] = rows["benchmark"].str.removeprefix("METR-Horizon-")
    if theirs == "gpu_prices":
        rows["accelerator"] = rows["accelerator"].replace(GPU_NAMES)
        rows.loc[rows["kind"] == "stale", "catalog_date"] = np.nan
        rows["catalog_date"] = rows["catalog_date"].fillna("undated")
        rows["reservation"] = rows["ondemand_usd_gpu_h_median"].where(rows["kind"] == "reservation")
        rows.loc[rows["kind"] == "reservation", ["ondemand_usd_gpu_h_median", "ondemand_min", "ondemand_max"]] = np.nan
    if theirs == "trace_token_quantiles":
        names = {"input": "input_tokens", "output": "output_tokens", "input_not_reusable_from_prefix": "new_tokens"}
        rows["field"] = rows["field"].replace(names)
    if theirs == "trace_kv_lru_curves":
        room = rows["capacity_tokens"].map("{:.0f}".format)
        endless = rows["capacity_tokens"] >= np.where(rows["trace"].str.startswith("weka"), 1e12, 1e9)
        opened = rows["open_sessions"].map(lambda n: "" if np.isnan(n) else f"{n:.0f} open | ")
        rows["room"] = opened + room.mask(endless, "unlimited")
    if theirs == "trace_acme_util_quantiles":
        rows["metric"] = rows["metric"].str.replace("_pct$|_W$", "", regex=True)
    if theirs == "trace_demand_peak_to_mean":
        rows["span"] = rows["span"].str.replace(r" \(dates.*", "", regex=True)
    return rows


@at_hand
@pytest.mark.parametrize("theirs", EXACT)
def test_every_collected_value_of_a_wide_table_is_a_fact(theirs):
    table, item, columns = EXACT[theirs]
    ours = pd.concat(map(catalog.facts, table.split())).set_index(["item", "parameter"])[["value", "low", "high"]]
    ours = ours[[not isinstance(value, str) for value in ours["value"]]].astype(float)
    ends = ours.apply(lambda end: end.fillna(ours["value"]))
    scales = {column: 100 if column.startswith(("lru_", "mean_over")) else 1 for column in columns}
    rounded, missing = ROUNDED.get(theirs, 0.0), set()
    for row in renamed(theirs, pd.read_csv(FACTS / f"{theirs}.csv")).to_dict("records"):
        name = item.format(**row)
        for column, (parameter, field) in columns.items():
            wanted, found = scales[column] * row[column], ends[field].get((name, parameter), math.nan)
            if not math.isnan(wanted) and not math.isclose(found, wanted, rel_tol=1e-6, abs_tol=rounded):
                missing.add((name, column))
    assert {place for place in missing if not left_out(theirs, *place)} == set()


@at_hand
def test_the_rules_leave_out_the_prices_that_the_collectors_flagged_and_no_others():
    known = renamed("gpu_prices", pd.read_csv(FACTS / "gpu_prices.csv"))
    known["item"] = known["cloud"] + known["accelerator"] + known["instance"] + known["catalog_date"]
    ours = catalog.prices_left_out()
    ours["item"] = ours["cloud"] + ours["accelerator"] + ours["instance"] + ours["date"]
    for flagged, reason in [
        (known["kind"].isin(["stale", "undated"]), "no date"),
        (known["spot_flag"] == "suspect", "introductory"),
        (known["spot_flag"] == "max suspect", "dearest region"),
    ]:
        assert set(known["item"][flagged]) == set(ours["item"][ours["reason"].str.startswith(reason)])
    # a rule on the spread over regions could not: the prices of 2026 spread more than those that are suspect
    spread = (known["spot_max"] / known["spot_min"]).groupby(known["spot_flag"].fillna("good")).max()
    assert spread["good"] > spread["suspect"]


@at_hand
def test_every_collected_price_of_tokens_is_a_fact():
    ours, known = catalog.facts("token_prices"), pd.read_csv(FACTS / "llm_api_prices.csv")
    ours["model"] = (
        ours["item"]
        .str.split(catalog.SEPARATOR, regex=False)
        .str[1]
        .str.replace(r", (off-)?peak hours$", "", regex=True)
    )
    for parameter in ("input", "cached_input", "cache_write", "output"):
        rows = ours[ours["parameter"] == parameter].astype({"value": float})
        wanted = known.dropna(subset=f"{parameter}_usd_mtok").sort_values(["model", f"{parameter}_usd_mtok"])
        rows = rows.sort_values(["model", "value"])
        np.testing.assert_array_equal(rows["model"], wanted["model"])
        np.testing.assert_allclose(rows["value"], wanted[f"{parameter}_usd_mtok"])


@at_hand
def test_every_collected_size_of_a_model_is_a_fact():
    """Layers and heads stand here by group of layers, so the numbers of one model are compared as a set."""
    ours = catalog.facts("models").query("unit != 'text'").groupby("item")["value"].agg(set)
    for row in pd.read_csv(FACTS / "models.csv").to_dict("records"):
        for column in MODEL_SIZES:
            known = math.isnan(row[column]) or row[column] in ours[row["model"]]
            assert known or left_out("models", row["model"], column), (row["model"], column)


#: Collected tables with one value a row: the tables of ours, and the columns that name a row and that hold its values.
NAMED = {
    "agent_workload": (["agent_workload"], ["metric", "scope"], ["value"]),
    "trace_agent_duty_cycle": (["agent_duty_cycle", "agent_workload", "agent_contexts"], ["metric"], ["value"]),
    "memory_tiers": (["memory_tiers", "memory_prices"], ["tier", "quantity", "date"], ["value", "low", "high"]),
    "kv_offload_results": (["kv_offload"], ["system", "tier", "setup", "metric"], ["baseline", "result"]),
    "hbm_market": (["hbm_market", "memory_prices"], ["metric", "period"], ["sk_hynix", "samsung", "micron", "total_or_value", "value_low", "value_high"]),
    "dram_contract_changes": (["memory_prices"], ["item", "quarter", "stage"], ["change_low_pct", "change_high_pct"]),
    "h100_rental_index": (["gpu_rental_index"], ["basis", "period"], ["usd_gpu_h_low", "usd_gpu_h_high"]),
    "purchase_prices": (["costs"], ["item", "period"], ["low_usd", "high_usd"]),
    "power_and_sites": (["costs"], ["quantity", "period"], ["value", "low", "high"]),
    "published_points": (["deepseek_day", "trainium_latency", "training_reliability"], ["model", "quantity"], ["value", "low", "high"]),
    "trace_gpu_utilization": (["fleet_utilization", "pooling"], ["system", "metric", "period"], ["value"]),
    "trace_harvest_pool_systems": (["pooling", "fleet_utilization"], ["system", "year", "metric"], ["value", "low", "high"]),
    "training_reliability": (["training_reliability", "interruptions"], ["quantity"], ["value"]),
}  # fmt: skip
#: Factors from their units to ours: cents, shares and per cent, kB.
CONVERTED = {
    "power_and_sites": [0.01], "published_points": [0.01], "trace_agent_duty_cycle": [100],
    "trace_gpu_utilization": [100], "trace_harvest_pool_systems": [100],
}  # fmt: skip
#: Words that one quantity has in two tables of the collection.
SAME = {
    "turn": "request",
    "round": "step",
    "p50": "median",
    "60s": "1min",
    "prefix": "cached",
    "llm": "agent",
    "append": "uncached",
    "response": "request",
}


def words(*texts):
    found = re.findall(r"[a-z]+|\d+(?:\.\d+)?s?", " ".join(map(str, texts)).lower().replace("_", " "))
    return {SAME.get(word.rstrip("s"), SAME.get(word, word.rstrip("s"))) for word in found} - {""}


def named_cells(theirs):
    """Every number of a collected table with the words that name it; a range of no width counts once."""
    _, names, columns = NAMED[theirs]
    for row in pd.read_csv(FACTS / f"{theirs}.csv").to_dict("records"):
        seen = set()
        for column in columns:
            cell = str(row[column])
            for number in map(float, re.findall(r"\d+(?:\.\d+)?(?:e\d+)?", cell)):
                if not (column.endswith(("high_pct", "high_usd", "h_high")) and number in seen):
                    title = [row[name] for name in names] + [column] * (column in ("sk_hynix", "samsung", "micron"))
                    yield " | ".join(map(str, title[: len(names)])), column, words(*title), number
                seen.add(number)


@at_hand
@pytest.mark.parametrize("theirs", NAMED)
def test_every_collected_value_of_a_long_table_is_a_fact(theirs):
    """Each number has a row of its own here, equal after conversion, that shares a third of the words that name it."""
    ours = catalog.register().query("table in @NAMED[@theirs][0] and unit not in ('text', 'date')")
    numbers = ours[["value", "low", "high"]].astype(float).stack()
    named = [words(*ours.loc[place, ["item", "parameter", "note"]]) for place, _ in numbers.index]
    cells = [cell for cell in named_cells(theirs) if not left_out(theirs, *cell[:2])]
    score = np.zeros((len(cells), len(numbers)))
    for i, (*_, name, number) in enumerate(cells):
        same = number * np.array([1, *CONVERTED.get(theirs, [])])
        gain = [1 + number / 100] if theirs == "kv_offload_results" else []  # +75 % is 1.75 times
        equal = np.isclose(numbers.abs().to_numpy()[:, None], [*same, *gain], rtol=1e-6, atol=0)
        for j in np.flatnonzero(equal.any(axis=1)):
            score[i, j] = len(name & named[j]) / len(name)
    best = dict(zip(*linear_sum_assignment(-score), strict=True))
    assert [cell[:2] for i, cell in enumerate(cells) if i not in best or score[i, best[i]] < 0.3] == []


def left_out(theirs, *place):
    return any(all(part in text for part, text in zip(known, place, strict=True)) for known in LEFT_OUT.get(theirs, {}))


#: Collected rows that are not facts of ours: the names of row and column, or parts of them, and why.
LEFT_OUT = {
    "h100_rental_index": {("tier-2 clouds", ""): "the page is unreliable: two catalogues contradict it"},
    "hbm_market": {("undated 2026 headline", ""): "not traceable"},
    "models": {
        ("gemma-4-26B-A4B", "label"): "the maker's page has 25.2 and 3.8",
        ("Nemotron-3-Nano-30B-A3B", "label"): "the maker's page has 31.6 and 3.2",
    },
    "swebench_bash_only_summary": {("Gemini 2.0 flash", "mean_"): "upstream records no calls and no cost"},
    "trace_agent_duty_cycle": {
        ("kv_hit_within_turn", ""): "known from a third party's summary, not verified",
        ("kv_hit_across_turns", ""): "as kv_hit_within_turn",
        ("tokens_per_llm_call_mean", ""): "as kv_hit_within_turn",
        ("llm_calls_per_session_mean", ""): "as kv_hit_within_turn",
    },
    "trace_gpu_utilization": {("Alibaba Model Studio market", ""): "the market that Aegaeon serves, in pooling.csv"},
    "training_reliability": {("unexpected interruptions in 54 days", "value"): "the sum of interruptions.csv"},
}
#: Columns of numbers that are not facts of ours, and why.
COLUMNS_LEFT_OUT = {
    "decode_vs_context_concurrency": {"date": "a date here, compared as the rest of the set-up"},
    "batch_latency_mi300x": {"n_gpus": "equal to tp"},
    "deepseek_v3r1_day": {"income_share": "derived", "income_per_node_hour_usd": "derived"},
    "gpu_prices": {
        "gpus": "prices are per GPU",
        "regions_or_zones": "how many regions the range is over",
        "spot_over_ondemand_median": "derived",
    },
    "inference_throughput": {"n_gpus": "tp times pp", "output_tok_s_per_gpu": "derived"},
    "metr_horizons": {
        "p80_over_p50": "derived",
        "implied_weibull_k": "derived",
        "usage_usd": "holds zeros",
        "usage_working_time": "holds zeros, and no unit is stated",
    },
    "metr_survival_fits_hamilton": {"delta_ll_weibull_minus_exponential": "derived"},
    "metr_task_success": {"human_minutes": "stands in metr_tasks.csv, compared above"},
    "mlperf_inference": {"tok_s_per_acc": "derived"},
    "mlperf_training_scaling": {
        "tokens_to_target": "derived",
        "tok_s_per_acc": "derived",
        "model_tflops_per_acc_6N": "derived",
    },
    "models": {
        "params_total_b_computed": "computed, compared in test_parts.py",
        "params_active_b_computed": "computed, compared in test_parts.py",
        "kv_bytes_per_token_bf16_growing": "computed, compared in test_parts.py",
        "kv_bytes_per_token_low": "computed",
        "kv_bytes_per_token_high": "computed",
        "kv_bytes_per_seq_window_bf16": "computed, compared in test_parts.py",
        "kv_gib_at_128k_bf16": "computed, compared in test_parts.py",
    },
    "published_points": {"n": "in the name of the item"},
    "serving_latency_silicon": {"pp_size": "one, wherever it is given"},
    "swebench_bash_only_summary": {"naive_per_call_error": "derived", "cost_per_resolved_usd": "derived"},
    "trace_kv_lru_curves": {
        "capacity_gb_at_320KiB": "derived",
        "capacity_tokens": "names the row",
        "open_sessions": "names the row",
    },
    "trace_llama3_interruptions": {"recomputed_pct_of_419": "derived"},
    "training_reliability": {"n_accelerators": "in the name of the item"},
    "ttft_batch1": {"n_gpus": "equal to tp", "batch": "one, in every row"},
}
#: Tables that other tests compare whole.
ELSEWHERE = {"accelerators", "llm_api_prices", "metr_survival_fits_derived", "tau2_pass_hat_k"}


@at_hand
def test_every_collected_column_is_compared_or_left_out_with_a_reason():
    compared = {theirs: set(columns.values()) for theirs, columns in SERIES.values()}
    compared |= {theirs: set(columns) for theirs, (*_, columns) in EXACT.items()}
    compared |= {theirs: {*names, *columns} for theirs, (_, names, columns) in NAMED.items()}
    compared["models"] = set(MODEL_SIZES)
    collected = {path.stem: pd.read_csv(path) for path in FACTS.glob("*.csv")}
    assert set(collected) == {*compared, *ELSEWHERE}
    for theirs, columns in compared.items():
        numbers = set(collected[theirs].select_dtypes("number").columns)
        reasons = COLUMNS_LEFT_OUT.get(theirs, {})
        assert numbers - columns <= set(reasons), (theirs, sorted(numbers - columns - set(reasons)))
        assert not set(reasons) & columns, theirs


@at_hand
def test_survival_fits_equal_the_collected_ones():
    from econmodel.compound_error import LAWS, fit_survival, survival, variance_shares

    reference = pd.read_csv(FACTS / "metr_survival_fits_derived.csv").set_index("model")
    runs = catalog.metr_task_success()
    for model, known in reference.iterrows():
        own = runs[runs["model"] == model]
        fits = {law: fit_survival(own["human_time"], own["n_success"], own["n_runs"], law=law) for law in LAWS}
        for law, name in [("exponential", "exponential"), ("weibull", "weibull"), ("log-logistic", "loglogistic")]:
            assert -fits[law].log_likelihood == pytest.approx(known[f"nll_{name}"], abs=0.06)
        assert fits["weibull"].shape == pytest.approx(known["weibull_k"], abs=6e-4)
        assert known["weibull_k_ci_low"] <= fits["weibull"].shape <= known["weibull_k_ci_high"]
        by_length = survival(own["human_time"], horizon=fits["weibull"].horizon, shape=fits["weibull"].shape)
        shares = variance_shares(by_length, own["n_success"], own["n_runs"])
        expected = known[["variance_share_within_task", "variance_share_duration", "variance_share_other_between_task"]]
        np.testing.assert_allclose(shares, expected.astype(float), atol=0.011)


def test_reuse_between_replays_is_between_them():
    table = catalog.derived("reuse_curves")
    known = catalog.reuse_share(table["open_sessions"], table["capacity_tokens"])
    np.testing.assert_allclose(known, table["hit_share"], atol=1e-12)
    sessions, room = np.meshgrid(np.geomspace(1, 2048, 40), np.geomspace(1e4, 1e9, 60))
    share = catalog.reuse_share(sessions, room)
    assert (np.diff(share, axis=0) >= -2e-3).all()
    assert (share >= 0).all()
    assert (share <= catalog.reuse_share(sessions, np.inf) + 2e-3).all()
    assert catalog.reuse_share(12.0, 1e6) == share.dtype.type(catalog.reuse_share([12.0], [1e6])[0])
    for wrong in (0, 4096, np.nan):
        with pytest.raises(ValueError, match="open_sessions"):
            catalog.reuse_share(wrong, 1e6)
