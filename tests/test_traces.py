"""Logs stream into one tidy form, say where they are broken, and give the committed aggregates again."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import derive
import numpy as np
import pandas as pd
import pytest

from econmodel import catalog, traces
from econmodel.demand import dispersion_index, interarrival_cv

RAW = Path(__file__).parents[2] / "shared" / "traces"
at_hand = pytest.mark.skipif(not RAW.is_dir(), reason="the raw traces are not at hand")
NAMES = dict(time_s="t", input_tokens="in", output_tokens="out")


def log(folder, text, name="log.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(path, **changes):
    return pd.concat(traces.read_log(path, **{"columns": NAMES} | changes))


def test_the_same_log_reads_the_same_from_csv_json_lines_and_parquet(tmp_path):
    frame = pd.DataFrame({"t": [0.0, 1.5, 1.5, 9.0], "in": [10, 20, 30, 40], "out": [1, 0, 3, 4], "user": list("abcd")})
    frame.to_csv(tmp_path / "log.csv", index=False)
    with gzip.open(tmp_path / "log.csv.gz", "wt") as file:
        frame.to_csv(file, index=False)
    frame.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "log.parquet")
    csv = read(tmp_path / "log.csv", chunk_rows=3)
    assert csv.columns.tolist() == ["time_s", "input_tokens", "output_tokens"]
    assert csv.index.tolist() == [2, 3, 4, 5]
    for name in ("log.csv.gz", "log.jsonl", "log.parquet"):
        other = read(tmp_path / name, chunk_rows=2)
        np.testing.assert_array_equal(other, csv)


def test_texts_are_read_as_times_with_or_without_a_zone(tmp_path):
    plain = read(log(tmp_path, "t,in,out\n2023-11-16 18:17:03.5,1,1\n2023-11-16 18:17:04,1,1\n"))
    assert plain["time_s"].diff().iloc[1] == 0.5
    zoned = read(log(tmp_path, "t,in,out\n2024-05-12T02:00+02:00,1,1\n2024-05-12T03:00+02:00,1,1\n"))
    assert zoned["time_s"].iloc[0] == pd.Timestamp("2024-05-12", tz="UTC").timestamp()
    milliseconds = read(log(tmp_path, "t,in,out\n0,1,1\n1500,1,1\n"), time_unit=1e-3)
    assert milliseconds["time_s"].tolist() == [0, 1.5]


ZONE = "t,in,out\n2024-05-12T00:00Z,1,1\n2024-05-12T01:00Z,1,1\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "t,in,out\n", "line 1: no rows"),
        ("a.csv", "", "line 1: no rows"),
        ("a.jsonl", "\n\n", "line 1: no rows"),
        ("a.csv", "t,in,out\n1,1,1\n3,1,1\n2,1,1\n", "line 4: time 2.0 is before that of the line above"),
        ("a.csv", "t,in,out\n1,1,1\n2,-5,1\n", "line 3: input_tokens -5 is negative"),
        ("a.csv", "t,in,out\n1,1,1\n2,5,\n", "line 3: output_tokens is missing"),
        ("a.csv", "t,in,out\n1,1,1\n2,many,1\n", "line 3: input_tokens 'many' is not a number"),
        ("a.csv", "t,in\n1,1\n", "out"),
        ("a.csv", ZONE + "2024-05-12T04:00+02:00,1,1\n", r"line 4: time .*02:00 is not in the zone of the lines before it \(Z\)"),
        ("a.csv", ZONE + "2024-05-12T04:00,1,1\n", "line 4: time .* is not in the zone"),
        ("a.csv", ZONE + "yesterdayZ,1,1\n", "line 4: time 'yesterdayZ' is no time"),
        ("a.jsonl", '{"t": 1, "in": 1, "out": 1}\n\n{"t": 2, "in": 1, "o', "line 3: no complete JSON object"),
        ("a.jsonl", '{"t": 1, "in": 1, "out": 1}\n[1]\n', "line 2: no complete JSON object"),
        ("a.jsonl", '{"t": 1, "in": 1, "out": 1}\n{"t": 2, "in": 1}\n', "line 2: output_tokens is missing"),
        ("a.txt", "1", "the file ends in .csv"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk_rows", [1, 100])
def test_a_broken_log_is_refused_with_file_line_and_reason(tmp_path, name, text, reason, chunk_rows):
    with pytest.raises(ValueError, match=rf"{name}.*{reason}"):
        read(log(tmp_path, text, name), chunk_rows=chunk_rows)


def test_columns_that_are_missing_or_unknown_are_refused(tmp_path):
    path = log(tmp_path, "t,in,out\n0,1,1\n")
    for columns in ({"time_s": "t"}, NAMES | {"latency": "out"}):
        with pytest.raises(ValueError, match="columns must name time_s"):
            read(path, columns=columns)


def test_a_log_by_session_restarts_its_clock_with_each_session(tmp_path):
    path = log(tmp_path, "t,in,out,s\n5,1,1,a\n9,1,1,a\n0,1,1,b\n")
    columns = NAMES | {"session": "s"}
    assert len(read(path, columns=columns, clock="session")) == 3
    with pytest.raises(ValueError, match="line 4: time 0.0 is before"):
        read(path, columns=columns)


def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"econmodel\[fleet\]"):
        read(tmp_path / "log.parquet")


def test_a_profile_adds_up_whatever_the_chunks(tmp_path):
    rng = np.random.default_rng(0)
    times, tokens = np.sort(rng.random(500) * 1e4), rng.integers(0, 100, (500, 2))
    frame = pd.DataFrame({"t": times, "in": tokens[:, 0], "out": tokens[:, 1]})
    frame.to_csv(tmp_path / "log.csv", index=False)
    profiles = [
        traces.log_profile(traces.read_log(tmp_path / "log.csv", columns=NAMES, chunk_rows=rows), bin_seconds=600)
        for rows in (7, 1000)
    ]
    pd.testing.assert_frame_equal(*profiles)
    assert profiles[0]["requests"].sum() == 500
    assert profiles[0][["input_tokens", "output_tokens"]].sum().tolist() == tokens.sum(axis=0).tolist()
    with pytest.raises(ValueError, match="no rows"):
        traces.log_profile([])


def test_every_derived_table_is_committed_with_its_sources():
    files = catalog.derived("files")
    assert set(files["source"]) <= set(catalog.sources().index)
    assert {table for tables in files["tables"] for table in tables.split()} == set(derive.DERIVED)
    with pytest.raises(KeyError, match="near: agent_requests"):
        catalog.derived("agent_request")
    with pytest.raises(KeyError, match="not known"):
        catalog.session_laws("crowd")


def test_a_law_that_is_flattened_and_built_again_is_the_same():
    agent = catalog.session_laws("agent")
    assert [law.share for law in agent] == pytest.approx([149 / 350, 201 / 350], abs=1e-5)
    for law in (*agent, *catalog.session_laws("chat")):
        assert np.allclose(law.correlation, np.transpose(law.correlation))
        assert np.linalg.eigvalsh(law.correlation).min() > 0
        assert law.progress[0] == 0
        assert (np.diff(law.context_map[0]) > 0).all()


# the raw files, where they are at hand


@at_hand
@pytest.mark.parametrize("name", list(derive.DERIVED))
def test_committed_aggregates_equal_a_recomputation(name):
    function, files = derive.DERIVED[name]
    known = catalog.derived("files").set_index("raw_file")["sha256"]
    for file in files:
        assert hashlib.sha256((RAW / file).read_bytes()).hexdigest() == known[file]
    computed, committed = function(RAW), catalog.derived(name)
    assert list(computed.columns) == list(committed.columns)
    for column in committed:
        if pd.api.types.is_numeric_dtype(committed[column]) and committed[column].dtype != bool:
            np.testing.assert_allclose(
                computed[column].astype(float), committed[column], rtol=1e-5, atol=1e-5, err_msg=column
            )
        else:
            assert (computed[column].to_numpy() == committed[column].to_numpy()).all()


@at_hand
@pytest.mark.parametrize(
    ("series", "cv", "dispersions"),
    [("azure2023_code", 13.2, (13.2, 71.6, 164, 195)), ("mooncake_conversation", 3.03, (7.9, 2.1, 2.9, 12.8))],
)
def test_burstiness_equals_the_published_digits(series, cv, dispersions):
    times = derive.request_times(RAW, series)
    assert interarrival_cv(times) == pytest.approx(cv, abs=0.05 if cv > 10 else 0.005)
    for window, known in zip((1, 10, 60, 600), dispersions, strict=True):
        assert dispersion_index(times, window=window) == pytest.approx(known, abs=0.5 if known > 100 else 0.05)


@at_hand
def test_totals_of_the_logs_equal_the_published_ones():
    azure, chat, agent = (derive._log(RAW, series) for series in derive._LOGS)
    assert azure[["input_tokens", "output_tokens"]].sum().tolist() == [18_059_974, 245_896]
    assert chat[["input_tokens", "output_tokens"]].sum().tolist() == [144_793_823, 4_122_048]
    sums = agent[["input_tokens", "cached_tokens", "output_tokens", "subagent"]].sum().astype(int)
    assert sums.tolist() == [2_957_358_181, 2_844_703_232, 11_179_688, 237]
    assert agent["trigger"].value_counts().to_dict() == {"tool": 20_901, "user": 4_325}


@at_hand
def test_quantiles_of_the_logs_equal_the_collected_table():
    """The facts were computed by others from the same files."""
    facts = catalog.facts("request_sizes").set_index(["item", "parameter"])["value"]
    table = catalog.derived("trace_quantiles").set_index(["series", "field"])
    short = {"input": "input_tokens", "output": "output_tokens"}
    seen = 0
    for (item, parameter), value in facts.items():
        series, field = item.split(" | ")
        key = (series, short.get(field, field))
        column = "p100" if parameter == "max" else parameter
        if key in table.index and column in table:
            assert table.loc[key, column] == pytest.approx(value, rel=1e-4, abs=0.06), f"{item}, {parameter}"
            seen += 1
    assert seen > 50


@at_hand
def test_facts_on_demand_equal_the_collected_tables():
    facts = RAW.parent / "facts"
    curves = pd.read_csv(facts / "trace_kv_lru_curves.csv")
    np.testing.assert_allclose(catalog.facts("cache_curves")["value"].astype(float), 100 * curves["lru_hit_frac"])
    shapes = pd.read_csv(facts / "trace_demand_peak_to_mean.csv").set_index("series")
    for row in catalog.facts("load_shapes").itertuples():
        if row.parameter in shapes:
            theirs = shapes.loc[row.item.split(" | ")[0], row.parameter]
            assert row.value == (theirs if isinstance(theirs, str) else pytest.approx(theirs))


@at_hand
def test_split_of_agent_time_equals_the_collected_rows():
    facts = catalog.facts("agent_duty_cycle").set_index("parameter")["value"]
    table = catalog.derived("trace_quantiles").query("series == 'weka_claude_code'").set_index("field")
    for level in ("p10", "p25", "p50", "p75", "p90", "p99"):
        assert table.loc["tool_wait_s", level] == pytest.approx(facts[f"tool_wait_s_{level}"], abs=0.5)
        assert table.loc["model_s", level] == pytest.approx(facts[f"api_time_s_{level}"], abs=0.006)
    sessions = catalog.derived("agent_requests").groupby("session")
    calls = sessions["calls"].sum()
    assert calls.median() == facts["requests_per_session_p50"]
    assert sessions["output_tokens"].sum().mean() == pytest.approx(facts["output_tokens_per_session_mean"], rel=1e-4)


TEN_MILLION = """
import re, sys, time
from econmodel import traces
start = time.perf_counter()
columns = dict(time_s="t", input_tokens="in", output_tokens="out")
profile = traces.log_profile(traces.read_log(sys.argv[1], columns=columns, time_unit=1e-3), bin_seconds=3600)
# the high-water mark of this program: getrusage would count that of the process that started it
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(int(profile.requests.sum()), round(time.perf_counter() - start, 1), round(peak))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is read from /proc")
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_ten_million_rows_stream_in_bounded_memory(tmp_path, suffix):
    """Measured on two shared cores: see the printed seconds and MiB. A tenth of the rows needs as much memory."""
    used = {}
    for rows in (1_000_000, 10_000_000):
        path = tmp_path / f"log.{suffix}"
        with open(path, "w") as file:
            if suffix == "csv":
                file.write("t,in,out\n")
            for first in range(0, rows, 100_000):
                t = range(first, first + 100_000)
                line = "%d,%d,%d\n" if suffix == "csv" else '{"t": %d, "in": %d, "out": %d}\n'
                file.write("".join(line % (61 * i, i % 9000, i % 700) for i in t))
        ran = subprocess.run([sys.executable, "-c", TEN_MILLION, str(path)], capture_output=True, text=True, check=True)
        counted, seconds, peak = map(float, ran.stdout.split())
        print(f"{suffix}: {counted:,.0f} rows in {seconds} s, peak {peak:.0f} MiB")
        assert counted == rows
        used[rows] = peak
    assert used[10_000_000] < 1.2 * used[1_000_000]
    assert used[10_000_000] < 500
