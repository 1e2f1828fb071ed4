"""The package stays small, and its imports point one way: down."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "econmodel"
FLOORS = [
    {"__init__", "units", "parts"},
    {"compound_error", "demand", "utilization", "training", "inference", "memory_tiers", "cost", "figures", "kernels"},
    {"catalog", "traces", "simulate"},
    {"fleet", "validation"},
    {"uncertainty"},
    {"__main__"},
]
FLOOR = {module: height for height, modules in enumerate(FLOORS) for module in modules}
#: parts may use units, both on the ground floor; no other module may use one of its own floor
SAME_FLOOR = {("parts", "units")}


def imported(path):
    """Modules of the package that a file imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "econmodel":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("econmodel."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            yield from ((a.name.split(".")[1], node.lineno) for a in node.names if a.name.startswith("econmodel."))


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.stem)
def test_imports_only_go_down(path):
    assert path.stem in FLOOR, f"{path.name} has no floor: give it one in {Path(__file__).name}"
    for name, line in imported(path):
        own, other = FLOOR[path.stem], FLOOR.get(name, len(FLOORS))
        way = "up" if other > own else "sideways"
        down = other < own or (path.stem, name) in SAME_FLOOR
        assert down, f"econmodel/{path.name}, line {line}: import of {name} goes {way}"


def test_figures_know_no_model():
    names = {name for name, _ in imported(PACKAGE / "figures.py")}
    assert not names, f"econmodel/figures.py imports {names}: it takes arrays and tables"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda p: p.stem)
def test_only_the_catalog_reads_data(path):
    text = path.read_text(encoding="utf-8")
    reads = any(call in text for call in ("read_csv(", "DATA /", "open("))
    assert path.stem in {"catalog", "traces"} or not reads, f"econmodel/{path.name} reads files: the catalog does that"


def test_the_package_stays_small():
    def lines(path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = set()
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                docs |= set(range(node.lineno, node.end_lineno + 1))
        text = path.read_text(encoding="utf-8").splitlines()
        return sum(i not in docs and bool(line.strip()) and line.strip()[0] != "#" for i, line in enumerate(text, 1))

    sizes = {path.stem: lines(path) for path in PACKAGE.glob("*.py")}
    models = sum(size for name, size in sizes.items() if name not in {"catalog", "traces", "figures"})
    assert models <= 3200, sizes
    assert sum(sizes.values()) <= 4450, sizes


def test_importing_the_package_is_quick():
    """At most 0.25 s beyond numpy and pandas; medians of three fresh processes."""
    code = "import time, numpy, pandas; start = time.perf_counter(); import econmodel{}; print(time.perf_counter() - start)"

    def seconds(module):
        runs = [
            subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, check=True) for _ in "abc"
        ]
        return sorted(float(run.stdout) for run in runs)[1]

    assert seconds("") < 0.25
    assert "scipy.stats" not in subprocess.run(
        [sys.executable, "-c", "import sys, econmodel.compound_error, econmodel.uncertainty, econmodel.catalog, econmodel.simulate; print(*sys.modules)"],
        capture_output=True, check=True, text=True,
    ).stdout.split()  # fmt: skip
