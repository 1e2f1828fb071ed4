"""Check that the lowest declared versions pass the notebooks, and that a wheel alone can load its catalog."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = [str(Path(sys.executable).parent / "uv")]


def run(*command, cwd=ROOT):
    """Run a command; stop with its output when it fails."""
    ran = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, check=False, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}")
    return ran.stdout


def environment(folder):
    """Make a virtual environment; return its Python."""
    run(*UV, "venv", "-q", "--python", sys.executable, folder)
    return folder / "bin" / "python"


def lowest(folder):
    """Run unit tests and strict nbval with the lowest versions that pyproject.toml allows."""
    python = environment(folder / "lowest")
    run(*UV, "pip", "install", "-q", "--python", python, "--resolution", "lowest-direct", "-e", ".[book,test]")
    run(
        python,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not slow",
        "tests/test_units.py",
        "tests/test_compound_error.py",
        "tests/test_data.py",
    )
    said = run(python, "-m", "pytest", "-q", "-c", "tests/nbval.ini", "--rootdir", ".", "--nbval", "notebooks")
    print("lowest versions:", said.strip().splitlines()[-1])


def wheel(folder):
    """Build a wheel, install it alone, and load the catalog from an empty folder."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    python = environment(folder / "alone")
    run(*UV, "pip", "install", "-q", "--python", python, next(folder.glob("*.whl")))
    (folder / "empty").mkdir()
    code = (
        "from econmodel import catalog; print(len(catalog.register()), len(catalog.claims()), len(catalog.results()))"
    )
    print("wheel alone: facts, claims, results:", run(python, "-c", code, cwd=folder / "empty").strip())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        wheel(Path(scratch))
        lowest(Path(scratch))
