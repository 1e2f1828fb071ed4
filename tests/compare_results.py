"""Compare the results of this run, in _build/results, with the committed ones."""

import math
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]


def differences(fresh_folder, committed_folder):
    """Yield what differs, naming file, row and column."""
    fresh = {path.name for path in Path(fresh_folder).glob("*.csv")}
    committed = {path.name for path in Path(committed_folder).glob("*.csv")}
    yield from (f"{name}: this run wrote it, but it is not committed" for name in sorted(fresh - committed))
    yield from (f"{name}: committed, but this run did not write it" for name in sorted(committed - fresh))
    for name in sorted(fresh & committed):
        new, old = (pd.read_csv(Path(folder) / name).set_index("key") for folder in (fresh_folder, committed_folder))
        if list(new.index) != list(old.index) or list(new.columns) != list(old.columns):
            yield f"{name}: rows or columns differ"
            continue
        for key, row in new.iterrows():
            for column, value in row.items():
                stored = old.at[key, column]
                both = isinstance(value, float) and isinstance(stored, float)
                same = value == stored or (both and math.isnan(value) and math.isnan(stored))
                if not (same or (both and math.isclose(value, stored, rel_tol=1e-6))):
                    yield f"{name}, row {key}, column {column}: {value} now, {stored} committed"


if __name__ == "__main__":
    found = list(differences(ROOT / "_build" / "results", ROOT / "data" / "results"))
    print(*found or ["results equal the committed ones"], sep="\n")
    sys.exit(bool(found))
