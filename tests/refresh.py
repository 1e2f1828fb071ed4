"""Re-run the notebooks in order; refresh stored outputs, committed results and the front pages."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def refresh(path):
    """Execute one notebook in place, without marks of time or machine."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, record_timing=False, resources={"metadata": {"path": path.parent}}).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    # the appendix measures the error of the throughput model, which earlier chapters carry
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"), key=lambda p: (p.stem != "11_validation", p.name)):
        print(f"running {path.name}")
        refresh(path)
        result = ROOT / "_build" / "results" / f"{path.stem}.csv"
        if result.exists():
            shutil.copyfile(result, ROOT / "data" / "results" / result.name)
    subprocess.run([sys.executable, ROOT / "book" / "_ext" / "front.py"], check=True)
