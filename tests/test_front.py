"""One file, one picture: a changed row changes the ledger, the front pages and their figure, and no text is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tamper

CODE = "import sys; from econmodel import catalog, uncertainty as u; print(u.verdicts(catalog.claims(), catalog.results()).loc[sys.argv[1], 'verdict'])"


def run(folder, *command):
    """Run Python in the copy, with the package of the copy."""
    ran = subprocess.run(
        [sys.executable, *command], cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return ran.stdout.strip()


@pytest.mark.slow
def test_one_changed_result_changes_ledger_front_pages_and_picture(tmp_path):
    folder = tmp_path / "project"
    tamper.copy_project(folder)
    pages = [folder / name for name in ("README.md", "book/index.md", "book/_static/headline.svg")]
    run(folder, "book/_ext/front.py")
    before = [page.read_text(encoding="utf-8") for page in pages]
    assert run(folder, "-c", CODE, "R2") != "fails as stated"

    path = folder / "data" / "results" / "10_conclusions.csv"
    rows = pd.read_csv(path).set_index("key")
    rows.loc["waterfall_session_ideal", ["value", "low", "high"]] *= 10
    rows.loc["R2", ["value", "p_lenient", "p_strict"]] = [4.0, 0.0, 0.0]
    rows.to_csv(path)
    run(folder, "book/_ext/front.py")
    after = [page.read_text(encoding="utf-8") for page in pages]

    assert run(folder, "-c", CODE, "R2") == "fails as stated"
    value = f"ideal {rows.loc['waterfall_session_ideal', 'value']:.2g}"
    readme, index, picture = after
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert value in readme
    assert value in index
    assert "coding support and data entry | **fails as stated** | 4 " in readme
    assert "largest bar: ideal for a coding session" in readme or "ideal for a" in readme
    assert f"{rows.loc['waterfall_session_ideal', 'value']:.2g} USD" in picture
