"""The command line answers for a log, or says what is missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from econmodel import fleet
from econmodel.__main__ import main

COLUMNS = ("time_s=t", "input_tokens=prompt", "output_tokens=answer")
REPLICA = ("--llm", "Meta-Llama-3.1-70B", "--accelerator", "H100-SXM-80GB", "--n", "4", "--usd", "2.5")


@pytest.fixture
def log(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "log.csv"
    table = dict(t=np.sort(rng.uniform(0, 6 * 3600, 4000)), prompt=rng.integers(100, 3000, 4000))
    pd.DataFrame(table | dict(answer=rng.integers(1, 600, 4000))).to_csv(path, index=False)
    return path


def test_bars_of_the_command_line_add_up(log, capsys):
    main([str(log), *COLUMNS, *REPLICA, "--latency", "30"])
    printed = capsys.readouterr().out.splitlines()
    bars = [float(line.split()[0]) for line in printed[: len(fleet.CAUSES)]]
    total = float(printed[len(fleet.CAUSES)].split()[0])
    assert total > 0
    assert sum(bars) == pytest.approx(total, abs=1e-3 * total + 3e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("--llm", "Meta-Llama-3.1-7B"), "Meta-Llama-3.1-8B"),
        (("--n", "1", "--bits", "16"), "cannot: more memory"),
        (("--latency", "0.5"), "longer --latency"),
        (("--attempts", "0.5"), "attempts"),
    ],
)
def test_what_is_missing_is_said(log, change, reason):
    with pytest.raises(SystemExit, match=reason):
        main([str(log), *COLUMNS, *REPLICA, *change])


def test_a_log_without_a_column_is_refused(log):
    with pytest.raises(SystemExit, match=r"log\.csv.*output_tokens"):
        main([str(log), *COLUMNS[:2], *REPLICA])


def test_a_sample_of_a_log_stands_for_the_whole():
    calls = pd.DataFrame(dict(time_s=[0.0, 1800.0, 7000.0, 7300.0], session=[1, 1, 2, 3], input_tokens=100))
    calls = calls.assign(output_tokens=10, wait_s=[0.0, 60.0, 0.0, 0.0], cached_tokens=[0, 90, 0, 0])
    work = fleet.from_log(calls, share=0.5)
    assert work.calls_per_task == pytest.approx(4 / 3)
    # two calls in the first hour, one in the second, the third is cut; half the calls are in the log
    assert work.tasks_per_s * 3600 == pytest.approx([3.0, 1.5])
    assert work.wait_s == 60


@pytest.mark.slow
def test_the_chapter_runs_on_a_log_of_ones_own(log, tmp_path):
    papermill = pytest.importorskip("papermill")
    columns = dict(pair.split("=") for pair in COLUMNS)
    given = dict(log=str(log), columns=columns, usd_per_gpu_hour=2.5, share_of_calls=1.0, attempts=1.0)
    notebook = Path(__file__).parents[1] / "notebooks" / "12_your_fleet.ipynb"
    done = papermill.execute_notebook(notebook, tmp_path / "mine.ipynb", given, cwd=notebook.parent, progress_bar=False)
    shown = "".join(str(output.get("data", "")) for cell in done.cells for output in cell.get("outputs", []))
    assert "failed attempts" in shown
