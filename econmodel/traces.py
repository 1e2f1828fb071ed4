"""Request logs, public and the user's own, streamed into one tidy form."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from econmodel.units import positive

#: Columns of the tidy form. Times and waits in seconds; the rest in tokens or as written.
TIDY = (
    "time_s", "session", "input_tokens", "output_tokens", "cached_tokens", "wait_s", "service_s", "trigger",
    "subagent", "blocks",
)  # fmt: skip
_NEEDED = ("time_s", "input_tokens", "output_tokens", "cached_tokens")
_NUMBERS = (*_NEEDED, "wait_s", "service_s", "subagent")

#: Arguments of `read_log` for public logs, such as `read_log(path, **FORMATS["azure"])`.
FORMATS: dict[str, dict] = {
    "azure": {"columns": dict(time_s="TIMESTAMP", input_tokens="ContextTokens", output_tokens="GeneratedTokens")},
    "mooncake": {
        "columns": dict(
            time_s="timestamp", input_tokens="input_length", output_tokens="output_length", blocks="hash_ids"
        ),
        "time_unit": 1e-3,
    },
    "agent": {
        "columns": dict(
            time_s="t_s", session="session", input_tokens="input_tokens", output_tokens="output_tokens",
            cached_tokens="reusable_prefix_tokens", wait_s="wait_before_s", service_s="api_time_s", trigger="trigger",
            subagent="is_subagent",
        ),
        "clock": "session",
    },
}  # fmt: skip


def _raw_csv(path, names, chunk_rows):
    first = 2
    try:
        with pd.read_csv(path, usecols=names, chunksize=chunk_rows, skip_blank_lines=False) as reader:
            for frame in reader:
                yield np.arange(first, first + len(frame)), frame
                first += len(frame)
    except pd.errors.EmptyDataError:
        return
    except (pd.errors.ParserError, ValueError) as error:
        raise ValueError(f"{Path(path).name}: {str(error).strip()}") from error


def _raw_jsonl(path, names, chunk_rows):
    lines, records = [], []
    with open(path, encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
                records.append([record.get(name) for name in names])
            except (json.JSONDecodeError, AttributeError) as error:
                raise ValueError(f"{Path(path).name}, line {line}: no complete JSON object ({error})") from error
            lines.append(line)
            if len(lines) == chunk_rows:
                yield np.array(lines), pd.DataFrame(records, columns=names)
                lines, records = [], []
    if lines:
        yield np.array(lines), pd.DataFrame(records, columns=names)


def _raw_parquet(path, names, chunk_rows):
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("reading Parquet needs pyarrow: pip install 'econmodel[fleet]'") from error
    first = 1
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=chunk_rows, columns=names):
        yield np.arange(first, first + batch.num_rows), batch.to_pandas()
        first += batch.num_rows


_READERS = {".csv": _raw_csv, ".gz": _raw_csv, ".jsonl": _raw_jsonl, ".parquet": _raw_parquet}
_ZONE = re.compile(r"(?:[Zz]|[+-]\d\d:?\d\d)$")


def read_log(path, *, columns, time_unit=1.0, clock="log", chunk_rows=100_000):
    r"""
    Stream a request log, CSV, JSON Lines or Parquet, into the tidy form, checking every row.

    Parameters
    ----------
    path : str or pathlib.Path
        File ending in .csv, .csv.gz, .jsonl or .parquet (the last needs the extra `fleet`).
    columns : dict of str to str
        Tidy name (see `TIDY`) -> name in the file; `time_s`, `input_tokens` and `output_tokens` at least.
    time_unit : float
        Seconds per unit of the times, where they are numbers. Texts are ISO 8601, all with the same zone or all
        without one, which counts as UTC. [s]
    clock : str
        "log" if times rise through the file, "session" if they rise within consecutive rows of a session.
    chunk_rows : int
        Rows held at a time.

    Yields
    ------
    pandas.DataFrame
        The given columns under their tidy names; the index is the line of the file (of Parquet: the row).

    Raises
    ------
    ValueError
        Names file, line and reason: a time before the last one, negative or missing tokens or waits, a line of JSON
        that is not complete, a second time zone; a file without rows, or of another kind.
    ImportError
        Parquet without pyarrow.

    Notes
    -----
    Ten million rows need about 180 MiB, as one million do; on two shared cores CSV took 4 s where times are numbers,
    JSON Lines about a minute.

    Examples
    --------
    >>> import tempfile
    >>> log = Path(tempfile.mkdtemp()) / "log.csv"
    >>> _ = log.write_text("t,tokens_in,tokens_out\n0,10,5\n1,20,6\n")
    >>> names = dict(time_s="t", input_tokens="tokens_in", output_tokens="tokens_out")
    >>> next(read_log(log, columns=names)).input_tokens.tolist()
    [10, 20]
    """
    path = Path(path)
    missing = {"time_s", "input_tokens", "output_tokens"} - set(columns)
    unknown = set(columns) - set(TIDY)
    if missing or unknown or clock not in ("log", "session") or path.suffix not in _READERS:
        raise ValueError(
            f"{path.name}: columns must name time_s, input_tokens and output_tokens, and may name {', '.join(TIDY)}; "
            f"clock is log or session; the file ends in {', '.join(_READERS)}"
        )
    last, zone = None, None
    for lines, raw in _READERS[path.suffix](path, list(columns.values()), chunk_rows):
        if raw.empty:
            continue
        chunk = raw[list(columns.values())].set_axis(list(columns), axis=1).set_index(lines)

        def refuse(bad, reason, chunk=chunk):
            bad = np.flatnonzero(bad)
            if bad.size:
                row = {name: chunk[name].iloc[bad[0]] for name in columns}
                raise ValueError(f"{path.name}, line {chunk.index[bad[0]]}: {reason.format(**row)}")

        times = chunk["time_s"]
        if not pd.api.types.is_numeric_dtype(times):
            text = times.astype(str)
            zones = text.map(lambda t: match[0] if (match := _ZONE.search(t)) else "none")
            zone = zone or zones.iloc[0]
            refuse(zones != zone, f"time {{time_s}} is not in the zone of the lines before it ({zone})")
            stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
            refuse(stamps.isna(), "time {time_s!r} is no time")
            chunk["time_s"] = (stamps - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
        else:
            chunk["time_s"] = times * positive(time_unit, "time_unit")
        for name in set(_NUMBERS) & set(columns):
            number = pd.to_numeric(chunk[name], errors="coerce")
            refuse(number.isna() & chunk[name].notna(), f"{name} {{{name}!r}} is not a number")
            refuse(number.isna() & (name in _NEEDED), f"{name} is missing")
            refuse((number < 0) & (name != "time_s"), f"{name} {{{name}}} is negative")
            chunk[name] = number
        # sub-agents run beside their session, on clocks of their own
        own = (chunk["subagent"] == 0) if "subagent" in chunk else np.full(len(chunk), True)
        now = chunk.loc[own, ["time_s"]].assign(session=chunk["session"] if clock == "session" else 0)
        joined = now if last is None else pd.concat([last, now])
        before = joined.shift().loc[now.index]
        late = (now["time_s"] < before["time_s"]) & (now["session"] == before["session"])
        refuse(late.reindex(chunk.index, fill_value=False), "time {time_s} is before that of the line above")
        last = joined.iloc[-1:]
        yield chunk
    if last is None:
        raise ValueError(f"{path.name}, line 1: no rows")


def log_profile(chunks, *, bin_seconds=3600.0):
    """
    Load by bin of a log of any length, in the memory of its bins.

    Parameters
    ----------
    chunks : iterable of pandas.DataFrame
        From `read_log`.
    bin_seconds : float
        Length of a bin; the first starts at the first request. [s]

    Returns
    -------
    pandas.DataFrame
        Columns `time_s` (start of the bin), `requests`, `input_tokens`, `output_tokens`.

    Examples
    --------
    >>> chunk = pd.DataFrame({"time_s": [5, 6, 70], "input_tokens": [1, 2, 3], "output_tokens": [1, 1, 1]})
    >>> log_profile([chunk], bin_seconds=60).requests.tolist()
    [2, 1]
    """
    origin, total = None, np.zeros((0, 3))
    for chunk in chunks:
        origin = chunk["time_s"].iloc[0] if origin is None else origin
        index = ((chunk["time_s"] - origin) // positive(bin_seconds, "bin_seconds")).astype(int).to_numpy()
        more = max(index.max() + 1 - len(total), 0)
        total = np.concatenate([total, np.zeros((more, 3))])
        for column, weight in enumerate((None, "input_tokens", "output_tokens")):
            weights = None if weight is None else chunk[weight].to_numpy()
            total[:, column] += np.bincount(index, weights, minlength=len(total))
    if origin is None:
        raise ValueError("chunks = nothing is not allowed: no rows")
    frame = pd.DataFrame(total, columns=["requests", "input_tokens", "output_tokens"])
    frame["requests"] = frame["requests"].astype(int)
    frame.insert(0, "time_s", origin + bin_seconds * np.arange(len(frame)))
    return frame
