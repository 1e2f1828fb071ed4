"""The data load, say what the sources say, and refuse what is broken."""

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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


@at_hand
@pytest.mark.parametrize(
    ("table", "theirs", "columns"),
    [
        ("inference_throughput", "inference_throughput", {"output_rate": "output_tok_s", "input_tokens": "isl", "output_tokens": "osl", "tp": "tp", "pp": "pp"}),
        ("batch_latency", "batch_latency_mi300x", {"latency": "e2e_s", "batch": "batch"}),
        ("first_token", "ttft_batch1", {"time_to_first_token": "ttft_ms", "input_tokens": "isl", "tp": "tp"}),
        ("mlperf_inference", "mlperf_inference", {"output_rate": "tok_s", "n_accelerators": "n_acc", "p99_time_per_output_token": "tpot_p99_ms"}),
        ("decode_stress", "decode_vs_context_concurrency", {"p50_time_per_output_token": "median_tpot_ms", "concurrency": "concurrency"}),
        ("mlperf_training", "mlperf_training_scaling", {"median_time": "ttt_min_median", "n_accelerators": "n_acc", "global_batch": "gbs", "sequences": "sequences_median"}),
        ("training_megascale", "training_mfu_published", {"mfu": "mfu_pct", "step": "iter_time_s", "n_accelerators": "n_acc"}),
        ("training_mosaic", "training_mosaic_mpt", {"mfu": "mfu_pct", "token_rate": "tok_s_per_gpu", "n_accelerators": "n_gpus"}),
        ("training_nemo", "training_nemo", {"token_rate": "tok_s_per_gpu", "flop_rate": "model_tflops_per_gpu"}),
        ("training_maxtext", "training_maxtext_tpu", {"mfu": "mfu_pct", "flop_rate": "tflops_per_chip", "n_accelerators": "chips"}),
        ("spot_availability", "spot_availability", {"mean_up": "mean_up_spell_h", "mean_down": "mean_down_spell_h"}),
        ("deepseek_hours", "deepseek_v3r1_day", {"mean_nodes": "h800_nodes_mean", "cost": "cost_usd", "hour": "hour_utc8"}),
    ],
)  # fmt: skip
def test_measured_series_equal_the_collected_ones(table, theirs, columns):
    ours, known = catalog.measurements(table), pd.read_csv(FACTS / f"{theirs}.csv")
    factors = catalog.series_columns()["unit"].map(lambda unit: UNITS.get(unit, (1.0,))[0])
    assert len(ours) == len(known)
    for mine, upstream in columns.items():
        np.testing.assert_allclose(ours[mine] / factors[mine], known[upstream].astype(float), rtol=1e-9)


@at_hand
def test_serving_runs_stand_here_once():
    """The collectors' list holds 133 runs under two names; the rest is here, row by row."""
    ours, known = catalog.measurements("serving_latency"), pd.read_csv(FACTS / "serving_latency_silicon.csv")
    known = known.set_index("row").loc[ours["upstream_row"].astype(int)]
    np.testing.assert_allclose(1e3 * ours["time_per_output_token"], known["silicon_tpot_ms"])
    np.testing.assert_allclose(1e3 * ours["time_to_first_token"], known["silicon_ttft_ms"])
    dropped = pd.read_csv(FACTS / "serving_latency_silicon.csv").query("row not in @known.index")
    assert len(dropped) == 133
    assert set(dropped["model_path"]) == {"deepseek-ai/DeepSeek-V3"}


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
