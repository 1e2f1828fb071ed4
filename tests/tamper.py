"""Tamper with a scratch copy of the project, one fault at a time, and see that the guard in charge notices."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNIT_TESTS = ["-m", "pytest", "-q", "-x"]
NBVAL = ["-m", "pytest", "-q", "-x", "-c", "tests/nbval.ini", "--rootdir", ".", "--nbval"]
BUILD = [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "-n", "--keep-going"]
GUARD = {
    "pytest": [*UNIT_TESTS, "tests/test_imports.py", "tests/test_book.py"],
    "nbval": NBVAL,
    "build": BUILD,
    "results": ["tests/compare_results.py"],
}


def edit(path, pattern, replacement):
    """Replace the first match in a file; a pattern that is not there is a fault of this script."""
    text = path.read_text(encoding="utf-8")
    changed, n = re.subn(pattern, replacement, text, count=1)
    assert n, f"{path.name}: nothing matches {pattern}"
    path.write_text(changed, encoding="utf-8")


def cells(path, change):
    """Apply a change to the code cells of a notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change([cell for cell in notebook["cells"] if cell["cell_type"] == "code"])
    path.write_text(json.dumps(notebook), encoding="utf-8")


def flip_output(code):
    """Change a digit of the first text output."""
    for cell in code:
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                output["text"] = re.sub(r"\d(?=\D*$)", lambda m: str((int(m[0]) + 1) % 10), "".join(output["text"]))
                return
    raise AssertionError("no text output to flip")


def empty(code):
    """Drop all outputs and counts."""
    for cell in code:
        cell["outputs"], cell["execution_count"] = [], None


def value(folder):
    """Raise a measured value that the first chapter uses."""
    edit(folder / "data" / "derived" / "load_profiles.csv", r"(azure2024_conv,12,)(\d)", r"\g<1>9\2")


def result(folder):
    """Change a committed result, as a fresh run would show."""
    built = folder / "_build" / "results"
    shutil.copytree(folder / "data" / "results", built)
    first = min((folder / "data" / "results").glob("*.csv"))
    edit(first, r"(?<=,)(\d+\.\d*)", lambda m: str(float(m[1]) * 1.001))


def bar(folder):
    """Change a bar of the waterfall and leave the front pages as they are."""
    edit(folder / "data" / "results" / "10_conclusions.csv", r"(waterfall_session_ideal,)([\d.]+)", r"\g<1>9\2")


def first_notebook(folder):
    """Path of the first chapter."""
    return min((folder / "notebooks").glob("*.ipynb"))


def append(path, text):
    """Add a line to a page."""
    path.write_text(path.read_text(encoding="utf-8") + f"\n{text}\n", encoding="utf-8")


#: name -> (what is done to the copy, the guard, what its message must say)
CASES = {
    "a flipped stored output": (lambda f: cells(first_notebook(f), flip_output), "nbval", r"(?s)\d\d_\w+\.ipynb.*mismatch"),
    "a flipped data value": (value, "nbval", r"(?s)\d\d_\w+\.ipynb.*mismatch"),
    "a flipped committed result": (result, "results", r"\.csv, row \w+, column \w+: \S+ now, \S+ committed"),
    "a front page older than its results": (bar, "pytest", r"headline.svg is stale|shows old results"),
    "a misspelt glue key": (
        lambda f: edit(f / "book" / "index.md", r"::(\w+):", r"::\1x:"), "pytest", r"book/index.md: \S+ has no value '\w+x'",
    ),
    "a misspelt glue key in the build": (
        lambda f: edit(f / "book" / "index.md", r"::(\w+):", r"::\1x:"), "build", r"index.md.*WARNING: .*x",
    ),
    "a misspelt reference": (
        lambda f: append(f / "book" / "index.md", "{cite}`nobody2020`"), "pytest", r"book/index.md: 'nobody2020' is not in",
    ),
    "a misspelt reference in the build": (
        lambda f: append(f / "book" / "index.md", "{cite}`nobody2020`"), "build", r"index.md.*nobody2020",
    ),
    "a reference to nowhere": (
        lambda f: append(f / "book" / "index.md", "{doc}`nowhere`"), "build", r"index.md.*nowhere",
    ),
    "a notebook without outputs": (
        lambda f: cells(first_notebook(f), empty), "pytest", r"\d\d_\w+\.ipynb, cell \d+: execution count None",
    ),
    "a chapter missing from the contents": (
        lambda f: edit(f / "_toc.yml", r"\n *- file: notebooks/\w+", ""), "pytest", r"_toc.yml: missing \['notebooks/",
    ),
    "a number typed in prose": (
        lambda f: append(f / "book" / "index.md", "Agents fail 37 % of the time."), "pytest", r"book/index.md: number '37 %' is typed",
    ),
    "an import that goes up": (
        lambda f: append(f / "econmodel" / "compound_error.py", "from econmodel import catalog"),
        "pytest", r"econmodel/compound_error.py, line \d+: import of catalog goes up",
    ),
    "an import that goes sideways": (
        lambda f: append(f / "econmodel" / "compound_error.py", "import econmodel.demand"),
        "pytest", r"econmodel/compound_error.py, line \d+: import of demand goes sideways",
    ),
}  # fmt: skip


def copy_project(folder):
    """Copy what git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)


def noticed(name):
    """Run one case; return "" or what went wrong."""
    fault, guard, message = CASES[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        copy_project(folder)
        fault(folder)
        command = [sys.executable, *GUARD[guard], *([f"{first_notebook(folder)}"] if guard == "nbval" else [])]
        ran = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            check=False,
            text=True,
        )
        said = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr)
        if ran.returncode == 0:
            return "nothing failed"
        return "" if re.search(message, said) else f"failed without saying {message}:\n{said[-1500:]}"


if __name__ == "__main__":
    wrong = {name: fault for name in CASES if (fault := noticed(name)) or print(f"noticed: {name}", flush=True)}
    print(*(f"NOT noticed: {name}: {fault}" for name, fault in wrong.items()), sep="\n")
    print(f"{len(CASES) - len(wrong)} of {len(CASES)} tampered copies were noticed")
    sys.exit(bool(wrong))
