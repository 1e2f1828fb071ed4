"""The book keeps its promises: cells executed, figures described, keys resolved, numbers never typed."""

import ast
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from econmodel import catalog

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "book").glob("*.md"))
BIB = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")

#: What may stand in prose as a number: the essay's own figures, names, and the language of intervals.
ALLOWED = [
    r"2 % (error )?(per call|of its calls|over)",
    r"\b2 %(?= sits|\.)",
    r"(error of|At|at) 2 %",
    r"10 to 50 times",
    r"(90|95) % (interval|confidence)",
    r"(50|80) % horizon",
    r"Python 3\.\d+",
    r"(CXL|PCIe) \d\.0\b|Llama-3\.\d",
    r"CC BY(-NC)? 4\.0",
    r"\bv\d+(\.\d+)+",
]
UNIT = r"(?:%|USD|x\b|times\b|GB\b|GiB\b|TB\b|MB\b|kB\b|ms\b|min\b|h\b|W\b|kW\b|MW\b|TFLOP|PFLOP|nats?\b)"
NUMBER = re.compile(rf"\d+\.\d+|\d[\d,]*\s?{UNIT}|(?:USD|\$)\s?\d")


def cells(path, kind):
    """Cells of one kind, with their position in the notebook."""
    notebook = nbformat.read(path, as_version=4)
    return [(i, cell) for i, cell in enumerate(notebook.cells, 1) if cell.cell_type == kind]


def prose():
    """Every piece of prose with the place where it stands: Markdown cells and pages."""
    for path in NOTEBOOKS:
        yield from ((f"notebooks/{path.name}, cell {i}", cell.source) for i, cell in cells(path, "markdown"))
    for path in PAGES:
        text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        yield f"book/{path.name}", text


def plain(text):
    """Prose without code, roles, equations, comments and addresses."""
    text = re.sub(r"^```\{(code-cell|eval-rst)\}.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^`{3,}.*$|^:\w+:.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$|<!--.*?-->|\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$\n]+\$", " ", text, flags=re.DOTALL)
    return re.sub(r"https?://\S+|\]\([^)]*\)", " ", text)


@pytest.mark.parametrize(("place", "text"), list(prose()), ids=lambda value: value[:40] if "\n" not in value else "")
def test_no_number_is_typed_in_prose(place, text):
    for line in plain(text).splitlines():
        cleaned = re.sub("|".join(ALLOWED), " ", line)
        found = NUMBER.search(cleaned)
        assert not found, f"{place}: number {found[0]!r} is typed, not glued: {line.strip()[:120]}"


def test_every_notebook_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"] or [])}
    present = {f"notebooks/{p.stem}" for p in NOTEBOOKS} | {f"book/{p.stem}" for p in PAGES}
    assert listed == present, f"_toc.yml: missing {sorted(present - listed)}, without a file {sorted(listed - present)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_every_cell_was_executed_in_order(path):
    for count, (i, cell) in enumerate(cells(path, "code"), 1):
        assert cell.execution_count == count, (
            f"{path.name}, cell {i}: execution count {cell.execution_count}, not {count}"
        )
        shows = ast.parse(cell.source).body[-1]
        if isinstance(shows, ast.Expr) and not isinstance(shows.value, ast.Call):
            assert cell.outputs, f"{path.name}, cell {i}: no stored output"
    assert any(cell.outputs for _, cell in cells(path, "code")), f"{path.name}: no stored outputs"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_cells_are_thin_and_stable(path):
    for i, cell in cells(path, "code"):
        where, lines = f"{path.name}, cell {i}", cell.source.splitlines()
        says_only = all(ast.unparse(n).startswith("figures.say(") for n in ast.parse(cell.source).body)
        assert len(lines) <= 15 or says_only, f"{where}: {len(lines)} lines; its logic belongs in the package"
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE), f"{where}: defines something"
        text = str([o.get("text", o.get("data", {}).get("text/plain", "")) for o in cell.outputs])
        assert not re.search(r"0x[0-9a-f]{6,}|\d\.\d{9,}", text), f"{where}: output has an address or too many digits"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_every_figure_has_name_caption_and_alternative_text(path):
    for i, cell in cells(path, "code"):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            about = cell.metadata.get("mystnb", {})
            figure, image = about.get("figure", {}), about.get("image", {})
            for field in (figure.get("name"), figure.get("caption"), image.get("alt")):
                assert field, f"{path.name}, cell {i}: the figure needs name, caption and alt text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_every_notebook_describes_itself(path):
    assert nbformat.read(path, as_version=4).metadata.get("description"), f"{path.name}: no description"


def glued(path):
    """Keys that the stored outputs of a notebook provide."""
    outputs = [output for _, cell in cells(path, "code") for output in cell.outputs]
    return {o.metadata["scrapbook"]["name"] for o in outputs if "scrapbook" in o.get("metadata", {})}


def test_every_quoted_key_exists_and_every_key_is_quoted():
    provided = {path.name: glued(path) for path in NOTEBOOKS}
    quoted = {name: set() for name in provided}
    for place, text in prose():
        for target in re.findall(r"\{glue:\w+\}`([^`]+)`", text):
            page, _, rest = target.rpartition("::") if "::" in target else (place.split(",")[0], "", target)
            name, key = Path(page).name, rest.split(":")[0]
            assert key in provided[name], f"{place}: {name} has no value {key!r}"
            quoted[name].add(key)
    unused = {name: sorted(provided[name] - quoted[name]) for name in provided}
    assert not any(unused.values()), f"glued but not quoted anywhere: {unused}"


def test_every_reference_resolves_and_is_used():
    entries = re.findall(r"^@\w+\{(\w+),", BIB, re.MULTILINE)
    assert len(entries) == len(set(entries)), "references.bib: a key stands there twice"
    cited = {}
    for place, text in prose():
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
            cited |= {key.strip(): place for key in keys.split(",")}
    for key, place in cited.items():
        assert key in entries, f"{place}: {key!r} is not in references.bib"
    sources = set(catalog.sources().index)
    assert sources <= set(entries), f"sources.csv: not in references.bib: {sorted(sources - set(entries))}"
    in_code = {key for path in (ROOT / "econmodel").glob("*.py") for key in re.findall(r"``(\w+)``", path.read_text())}
    unused = set(entries) - set(cited) - sources - in_code
    assert not unused, f"references.bib: nobody cites {sorted(unused)}"


def test_dependencies_are_declared_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert environment[0] == f"python{project['requires-python']}"
    assert environment[-1]["pip"] == [f"-e .[{','.join(extras)}]"]
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    for declared in map(Requirement, [*project["dependencies"], *chain.from_iterable(extras.values())]):
        name = declared.name.lower()
        assert name in locked, f"requirements.txt: {name} is not locked; run make lock"
        assert declared.specifier.contains(locked[name]), (
            f"requirements.txt: {name} {locked[name]} is not {declared.specifier}"
        )
    assert not re.search(r"https?://|--index|/home/|/root/", lock), "requirements.txt names an address or a path"


def test_front_figure_and_readme_show_the_committed_results():
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    import front

    assert front.fingerprint() in front.FIGURE.read_text(encoding="utf-8"), "headline.svg is stale: run make results"
    for page, renew in ((ROOT / "README.md", front.readme), (ROOT / "book" / "index.md", front.index)):
        text = page.read_text(encoding="utf-8")
        assert renew(text) == text, f"{page.name} shows old results: run make results"


def test_the_first_lines_of_the_readme_run(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    exec(code, {})
    assert re.fullmatch(r"\d+% of agents would retry for ever\n", capsys.readouterr().out)
