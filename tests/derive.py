"""
Derive the tables of data/derived from raw request logs, which are not part of the project.

``python tests/derive.py RAW`` writes them anew; each function takes the folder of the raw files.
"""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

from econmodel import catalog
from econmodel.demand import (
    Quantiles,
    SessionLaw,
    dispersion_index,
    interarrival_cv,
    modulation_variances,
    sample_arrivals,
    sample_sessions,
    window_counts,
)
from econmodel.memory_tiers import lru_hit_share, replay
from econmodel.traces import FORMATS, read_log

# how public rates are read: columns of time and value, factor to requests (or USD) per second, series, missing.
_RATES = {
    "azure2024_conv_hourly_digitised.csv": ("azure2024_conv", "hour_utc", "requests_per_min_mean", 1 / 60),
    "deepseek_2025-02-27_hourly.csv": ("deepseek_v3r1_2025", "hour_index", "theoretical_income_usd", 1 / 3600),
    "servegen_rate_10min.csv": (None, "t_s", "rate_rps", 1.0),
}
# Shares at which distributions are recorded.
LEVELS = (0, 0.001, 0.005, 0.01, 0.02, 0.05, *np.arange(2, 19) / 20, 0.95, 0.98, 0.99, 0.995, 0.999, 1)
# raw file -> key of its source
ORIGINS = {
    "azure2024_conv_hourly_digitised.csv": "azure2024llm",
    "deepseek_2025-02-27_hourly.csv": "deepseek2025day",
    "servegen_rate_10min.csv": "servegen2025",
    "azure2023_code.csv": "azure2023llm",
    "mooncake_conversation_trace.jsonl": "kimi2025mooncake",
    "weka_agent_requests_odd.csv": "wekatraces2026",
}
_LOGS = {
    "azure2023_code": ("azure2023_code.csv", "azure"),
    "mooncake_conversation": ("mooncake_conversation_trace.jsonl", "mooncake"),
    "weka_claude_code": ("weka_agent_requests_odd.csv", "agent"),
}


def read_rates(path):
    """
    Published rates over time: the Azure week, ServeGen's fourteen days and DeepSeek's day.

    Parameters
    ----------
    path : str or pathlib.Path
        One of the three files, by its name.

    Returns
    -------
    pandas.DataFrame
        Columns `series`, `time_s` (from the first bin), `rate` (requests per second; for DeepSeek, USD of tokens
        per second) and `missing` (recording gaps).

    Raises
    ------
    ValueError
        A file of another name.
    """
    path = Path(path)
    if path.name not in _RATES:
        raise ValueError(f"path = {path.name} is not allowed: one of {', '.join(_RATES)}")
    series, time, value, factor = _RATES[path.name]
    raw = pd.read_csv(path)
    if time == "hour_utc":
        stamps = pd.to_datetime(raw[time], utc=True)
        seconds = (stamps - stamps.iloc[0]).dt.total_seconds()
    else:
        seconds = raw[time] * (3600.0 if time == "hour_index" else 1.0)
    name = "servegen_" + raw["model"] if series is None else series
    missing = raw["suspect_gap"] == 1 if "suspect_gap" in raw else False
    return pd.DataFrame({"series": name, "time_s": seconds, "rate": raw[value] * factor, "missing": missing})


def load_profiles(folder):
    """
    Hourly means of the published rates; an hour is missing where all of its windows are.

    Returns
    -------
    pandas.DataFrame
        Columns `series`, `hour`, `rate`, `missing`, and the variance of the 10-min windows about the hour's mean.
    """
    rates = pd.concat([read_rates(Path(folder) / name) for name in _RATES])
    rates["hour"] = (rates["time_s"] // 3600).astype(int)
    rates["known"] = rates["rate"].mask(rates["missing"])
    hours = rates.groupby(["series", "hour"], sort=False)["known"]
    frame = pd.DataFrame({"rate": hours.mean(), "variance_10min": hours.var(ddof=0), "windows": hours.count()})
    return frame.assign(missing=frame["windows"] == 0).reset_index()


def _dispersion_band(counts, block, *, n, rng):
    """Index of dispersion of counts, with the ends of its 95 % interval from resampled blocks."""
    starts = rng.integers(0, max(len(counts) - block, 0) + 1, (n, -(-len(counts) // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(n, -1)[:, : len(counts)]
    drawn = counts[np.minimum(index, len(counts) - 1)]
    return counts.var() / counts.mean(), *np.quantile(drawn.var(axis=1) / drawn.mean(axis=1), [0.025, 0.975])


def _modulation(measured, *, rate, span, rng):
    """Variances of gamma factors with which an hour drawn like the trace has, on average, the dispersion measured."""
    windows, target = list(measured), np.array(list(measured.values()))
    variances = modulation_variances(target, windows=windows, rate_per_s=rate)
    drawn = []
    for _ in range(200):
        times = sample_arrivals([rate], bin_seconds=span, rng=rng, windows=windows, variances=variances)
        drawn.append([dispersion_index(times, window=window) for window in windows])
    # one trace underestimates the dispersion of its process: aim higher by as much as the draws fell short
    return modulation_variances(target**2 / np.mean(drawn, axis=0), windows=windows, rate_per_s=rate)


def burstiness(folder):
    """
    Dispersion of counts by window, with 95 % block-bootstrap bands, and the gamma factors that reproduce it.

    Returns
    -------
    pandas.DataFrame
        Columns `series`, `window_s`, `windows`, `dispersion`, `low`, `high`, `rate` [1/s], `variance` (of the factor
        of that window for `demand.sample_arrivals`; nan where it has none), `gap_cv` (variation of the gaps). Blocks
        are 5 min long (a day for the two-week series). The stamps of the conversation trace come every 3 s: under the
        window 3 they are counted batch by batch.
    """
    rng, rows = np.random.default_rng(4), []
    for series, chosen in (("azure2023_code", (1, 10, 60)), ("mooncake_conversation", (3, 60))):
        times = request_times(folder, series)
        rate, own = len(times) / times[-1], {}
        counted = {window: window_counts(times, window=window) for window in (1, 10, 60, 600)}
        if 3 in chosen:
            counted[3] = np.bincount(np.rint(times / 3).astype(int))[:-1]
        for window, counts in counted.items():
            own[window] = _dispersion_band(counts, max(300 // window, 1), n=2000, rng=rng)
        measured = {window: own[window][0] for window in chosen}
        variances = dict(zip(chosen, _modulation(measured, rate=rate, span=times[-1], rng=rng), strict=True))
        cv = interarrival_cv(times)
        rows += [(series, w, len(counted[w]), *own[w], rate, variances.get(w, np.nan), cv) for w in sorted(own)]
    rates = read_rates(Path(folder) / "servegen_rate_10min.csv").query("series != 'servegen_mm_image'")
    hours = load_profiles(folder).groupby("series")
    for series, own in rates[~rates["missing"]].groupby("series", sort=False):
        counts = own["rate"].to_numpy() * 600
        hour = hours.get_group(series)
        variance = hour["variance_10min"].mean() / (hour["rate"] ** 2).mean()
        band = _dispersion_band(counts, 144, n=2000, rng=rng)
        rows.append((series, 600, len(counts), *band, counts.mean() / 600, variance, np.nan))
    columns = ["series", "window_s", "windows", "dispersion", "low", "high", "rate", "variance", "gap_cv"]
    return pd.DataFrame(rows, columns=columns)


def _log(folder, series):
    name, form = _LOGS[series]
    return pd.concat(read_log(Path(folder) / name, **FORMATS[form]))


def request_times(folder, series):
    """Times of the requests of one of the raw logs, from the first. [s]."""
    times = _log(folder, series)["time_s"].to_numpy()
    return times - times[0]


def _agent_calls(folder):
    calls = _log(folder, "weka_claude_code").reset_index(drop=True)
    calls["new_tokens"] = calls["input_tokens"] - calls["cached_tokens"]
    calls["wait_s"] = calls["wait_s"].fillna(0)
    calls["timed"] = calls["service_s"].notna()
    typical = calls.groupby("trigger")["service_s"].transform("median")
    calls["service_s"] = calls["service_s"].fillna(typical)
    calls["by_person"] = calls["trigger"] == "user"
    return calls


def agent_requests(folder):
    """
    Recorded coding-agent sessions, one line per request of a person: the calls up to the next one.

    Returns
    -------
    pandas.DataFrame
        Columns `session`, `calls`, `new_tokens`, `cached_tokens` (longest prefix already seen in the session),
        `output_tokens`, `peak_context` [token], `model_s`, `tool_s` (waits before calls that tools made), `person_s`
        (wait before the request), `wall_s` (first call to last answer), `longest_pause_s` (longest wait after which a
        call still reused a prefix). Sub-agents count as tokens and calls, not as time. Durations of calls that were
        not recorded (a tenth) are the median of their kind.
    """
    calls = _agent_calls(folder)
    main = calls["subagent"] == 0
    starts = (main & calls["by_person"]) | (calls["session"] != calls["session"].shift())
    calls["request"] = starts.cumsum()
    calls["context"] = calls["input_tokens"] + calls["output_tokens"]
    calls["model_s"] = calls["service_s"].where(main, 0)
    calls["tool_s"] = calls["wait_s"].where(main & ~starts, 0)
    calls["person_s"] = calls["wait_s"].where(starts, 0)
    calls["end_s"] = (calls["time_s"] + calls["service_s"]).where(main)
    calls["begin_s"] = calls["time_s"].where(main)
    calls["pause_s"] = calls["wait_s"].where(main & (calls["cached_tokens"] > 0), 0)
    grouped = calls.groupby("request")
    frame = grouped[["new_tokens", "cached_tokens", "output_tokens", "model_s", "tool_s", "person_s"]].sum()
    frame.insert(0, "session", grouped["session"].first())
    frame.insert(1, "calls", grouped.size())
    frame.insert(5, "peak_context", grouped["context"].max())
    frame["longest_pause_s"] = grouped["pause_s"].max()
    frame["wall_s"] = grouped["end_s"].max() - grouped["begin_s"].min()
    frame["session"] = frame["session"].str.removeprefix("trace_").astype(int)
    return frame.round(1).reset_index(drop=True)


def _chat_calls(folder):
    """Requests of the conversation trace, joined to the session whose prefix they continue."""
    log = _log(folder, "mooncake_conversation").reset_index(drop=True)
    times, joined, owner = log["time_s"].to_numpy(), [], {}
    for number, (size, blocks) in enumerate(zip(log["input_tokens"], log["blocks"], strict=True)):
        full = blocks[: int(size) // 512]
        # block 0 is the prompt that all share; a longer prefix tells whose turn this is
        known = next((j for j in range(len(full) - 1, 0, -1) if full[j] in owner), None)
        parent = None if known is None else owner[full[known]]
        if parent is None or times[parent] == times[number]:
            joined.append((number, 0, 0.0))
        else:
            joined.append((joined[parent][0], 512 * (known + 1), times[number] - times[parent]))
        if len(full) > 1:
            owner[full[-1]] = number
    calls = log.drop(columns="blocks")
    calls[["session", "cached_tokens", "wait_s"]] = pd.DataFrame(joined, calls.index)
    calls["new_tokens"] = calls["input_tokens"] - calls["cached_tokens"]
    return calls.assign(by_person=True)


def chat_sessions(folder):
    """
    Chats of the conversation trace, put together from the prefixes that their requests share.

    Returns
    -------
    pandas.DataFrame
        Columns `turns`, `new_tokens`, `cached_tokens`, `output_tokens`, `peak_context` [token]. The trace lasts an
        hour, so that chats are cut at both ends.
    """
    calls = _chat_calls(folder)
    calls["context"] = calls["input_tokens"] + calls["output_tokens"]
    grouped = calls.groupby("session")
    frame = grouped[["new_tokens", "cached_tokens", "output_tokens"]].sum()
    frame.insert(0, "turns", grouped.size())
    frame["peak_context"] = grouped["context"].max()
    return frame.reset_index(drop=True)


def trace_quantiles(folder):
    """
    Quantiles of tokens, gaps and waits in the raw logs, and in the chains of calls that the session laws imitate.

    Returns
    -------
    pandas.DataFrame
        Columns `series`, `field`, `n`, `mean` and one column per level of `LEVELS`.
    """
    fields = {}
    for series in ("azure2023_code", "mooncake_conversation"):
        log = _log(folder, series)
        fields |= {(series, name): log[name] for name in ("input_tokens", "output_tokens")}
        fields[series, "gap_s"] = log["time_s"].diff().dropna()
    calls = _agent_calls(folder)
    for name in ("input_tokens", "output_tokens", "new_tokens"):
        fields["weka_claude_code", name] = calls[name]
    tool = (calls["trigger"] == "tool") & calls["timed"]
    fields["weka_claude_code", "tool_wait_s"] = calls.loc[tool, "wait_s"]
    fields["weka_claude_code", "model_s"] = calls.loc[tool, "service_s"]
    for series, chain in (("weka_main_chain", calls[calls["subagent"] == 0]), ("mooncake_chats", _chat_calls(folder))):
        fields |= {(series, name): chain[name] for name in ("input_tokens", "new_tokens", "output_tokens")}
        later, person = chain["session"].duplicated(), chain["by_person"]
        fields[series, "tool_wait_s"] = chain.loc[later & ~person, "wait_s"]
        fields[series, "person_wait_s"] = chain.loc[later & person, "wait_s"]
    rows = [(*key, len(x), x.mean(), *np.quantile(x, LEVELS)) for key, x in fields.items() if len(x)]
    return pd.DataFrame(rows, columns=["series", "field", "n", "mean", *(f"p{100 * p:g}" for p in LEVELS)])


def cache_lifetimes(folder):
    """
    What a prefix cache of limited lifetime saves, replayed on the main chains of the recorded agent sessions.

    Returns
    -------
    pandas.DataFrame
        Columns `lifetime_s`; `hit_share` of input tokens; `amplification` (new tokens over those with an unlimited
        lifetime); `idle_share` of the token-seconds in which a context is held between its first call and last answer.
    """
    calls = _agent_calls(folder)
    calls = calls[calls["subagent"] == 0]
    later = calls["session"].duplicated()
    held_idle = (calls["input_tokens"].shift() * calls["wait_s"])[later]
    active = (calls["input_tokens"] * calls["service_s"]).sum()
    rows = []
    for lifetime in (30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 86400, np.inf):
        kept = calls["cached_tokens"].where(calls["wait_s"] <= lifetime, 0).sum()
        idle = (held_idle * np.minimum(1, lifetime / calls["wait_s"][later].clip(lower=1e-9))).sum()
        rows.append(
            (lifetime, kept / calls["input_tokens"].sum(), calls["input_tokens"].sum() - kept, idle / (idle + active))
        )
    frame = pd.DataFrame(rows, columns=["lifetime_s", "hit_share", "amplification", "idle_share"])
    frame["amplification"] /= frame["amplification"].iloc[-1]
    return frame


def _quantiles(values, levels=LEVELS):
    return Quantiles(levels=tuple(levels), values=tuple(np.maximum.accumulate(np.quantile(values, levels))))


def _fit_kind(name, calls, *, block, common):
    """One kind of session; `common` is what holds for its whole population."""
    grouped = calls.groupby("session")
    table = grouped["input_tokens"].agg(calls="size", start="first", rise="max")
    table["rise"] -= table["start"]
    scores = ndtri((table.rank() - 0.5) / len(table))
    correlation = np.where(np.eye(3) == 1, 1, scores.corr().fillna(0))
    place = grouped.cumcount() / (grouped["input_tokens"].transform("size") - 1).clip(lower=1)
    peak, first = grouped["input_tokens"].transform("max"), grouped["input_tokens"].transform("first")
    risen = ((calls["input_tokens"] - first) / (peak - first))[peak > first]
    progress = risen.groupby((10 * place[peak > first]).round()).mean().reindex(range(11)).interpolate().fillna(1)
    progress = np.maximum.accumulate([0, *progress.iloc[1:]])
    later = calls[calls["session"].duplicated()]
    growth = grouped["input_tokens"].diff().loc[later.index]
    relative = growth[growth > 0] / later["session"].map(growth[growth > 0].groupby(later["session"]).mean())
    broken = ~(later["new_tokens"] - growth).between(-block, block)
    before = (later["input_tokens"] - growth)[broken]
    lost = np.clip(later["cached_tokens"][broken] / before, 0, 1)
    person = later["by_person"]
    return SessionLaw(
        name=name,
        share=len(table) / common["sessions"],
        calls=_quantiles(table["calls"]),
        start=_quantiles(table["start"]),
        rise=_quantiles(table["rise"]),
        correlation=tuple(map(tuple, correlation)),
        progress=tuple(progress),
        growth=_quantiles(relative.dropna() if len(later) else [1.0]),
        lost=_quantiles(lost if len(lost) else [1.0]),
        by_person=float(person.mean()) if len(later) else 1.0,
        broken_by_tool=float(broken[~person].mean()) if (~person).any() else 0.0,
        broken_by_person=float(broken[person].mean()) if person.any() else 0.0,
        **{name: common[name] for name in ("output", "tool_wait", "person_wait")},
    )


def fit_session_laws(calls, groups, *, block):
    """
    Fit the laws of `demand.sample_sessions` to recorded calls.

    Parameters
    ----------
    calls : pandas.DataFrame
        Calls in order, with `session`, `input_tokens`, `cached_tokens`, `new_tokens`, `output_tokens`, `wait_s` and
        `by_person`.
    groups : pandas.Series
        Kind of each call's session.
    block : int
        Size of a cache block: a prefix counts as broken where more than that is missing. [token]

    Returns
    -------
    list of SessionLaw
        One per kind; two maps, the same for all, bring contexts and new tokens to the recorded quantiles.
    """
    later = calls["session"].duplicated()
    tool = later & ~calls["by_person"]
    common = {
        "sessions": calls["session"].nunique(),
        "output": _quantiles(calls["output_tokens"]),
        "tool_wait": _quantiles(calls.loc[tool, "wait_s"] if tool.any() else [0.0]),
        "person_wait": _quantiles(calls.loc[later & calls["by_person"], "wait_s"]),
    }
    kinds = calls.groupby(groups, sort=False)
    laws = [_fit_kind(str(name), own, block=block, common=common) for name, own in kinds]
    fine = np.unique([*LEVELS, *np.arange(6, 95) / 100, *np.arange(380, 400) / 400])
    recorded = {"context_map": calls["input_tokens"], "new_map": calls["new_tokens"][later]}
    for name, target in recorded.items():
        drawn = sample_sessions(laws, 20_000, rng=np.random.default_rng(1))
        raw = drawn.input_tokens
        if name == "new_map":
            raw = (drawn.input_tokens - drawn.cached_tokens)[1:][np.diff(drawn.session) == 0]
        pairs = pd.DataFrame({"raw": np.quantile(raw, fine), "recorded": np.quantile(target, fine)})
        pairs = pairs.drop_duplicates("raw", keep="last")
        laws = [replace(law, **{name: (tuple(pairs["raw"]), tuple(pairs["recorded"]))}) for law in laws]
    return laws


def session_laws(folder):
    """
    Laws of agent sessions (fresh ones, and ones that resume a context) and of chats (of one turn, and of more).

    Returns
    -------
    pandas.DataFrame
        Columns `population`, `name`, `field`, `level`, `value`: what `catalog.session_laws` builds the laws from.
    """
    agent = _agent_calls(folder)
    agent = agent[agent["subagent"] == 0]
    chat = _chat_calls(folder).sort_values(["session", "time_s"], kind="stable")
    start = agent.groupby("session")["input_tokens"].transform("first")
    turns = chat.groupby("session")["time_s"].transform("size")
    fitted = {
        "agent": fit_session_laws(
            agent, pd.Series(np.where(start < 45_000, "fresh", "resumed"), agent.index), block=64
        ),
        "chat": fit_session_laws(chat, pd.Series(np.where(turns > 1, "turns", "single"), chat.index), block=1024),
    }
    rows = []
    for population, laws in fitted.items():
        for law in laws:
            for field, value in vars(law).items():
                if isinstance(value, Quantiles):
                    pairs = zip(value.levels, value.values, strict=True)
                elif field.endswith("_map"):
                    pairs = zip(*value, strict=True)
                else:
                    pairs = enumerate(np.ravel(value)) if field != "name" else ()
                rows += [(population, law.name, field, *pair) for pair in pairs]
    return pd.DataFrame(rows, columns=["population", "name", "field", "level", "value"])


def agent_contexts(folder):
    """
    Calls of the recorded agent sessions with the context that each extends, to replay them side by side.

    Returns
    -------
    pandas.DataFrame
        Columns `session`, `time_s` since its start (gaps of over an hour count as an hour), `context` (the main chain
        of a session, or one run of a sub-agent), `input_tokens`, `cached_tokens`; by session and time.
    """
    calls = _log(folder, "weka_claude_code").reset_index(drop=True)
    session, beside = calls["session"], calls["subagent"] == 1
    back = beside & (calls["time_s"] < calls["time_s"].shift())
    starts = (session != session.shift()) | (beside != beside.shift()) | back
    main = session.ne(session.shift()).cumsum()
    calls["context"] = pd.factorize(starts.cumsum().where(beside, -main))[0]
    calls = calls.assign(session=main).sort_values(["session", "time_s"], kind="stable", ignore_index=True)
    gaps = calls.groupby("session")["time_s"].diff().fillna(0).clip(upper=3600)
    calls["time_s"] = gaps.groupby(calls["session"]).cumsum()
    return calls[["session", "time_s", "context", "input_tokens", "cached_tokens"]]


def reuse_curves(folder):
    """
    What a cache of whole contexts saves when recorded agent sessions run side by side.

    Returns
    -------
    pandas.DataFrame
        Columns `open_sessions`, `capacity_tokens`, `hit_share` of input tokens: median of 40 replays of 8 h (longer
        with few sessions, fewer with many), `low` and `high` (90 % of them); `in_step`, the share if sessions come in
        turn instead, as in a long line; `interval_s`, mean time between two calls of an open session.
    """
    calls = agent_contexts(folder)
    small, large = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, np.inf)
    capacity = np.array([0, *np.multiply(small, 1e5), *np.multiply(large, 1e6)])
    turn = 80.0 * calls.groupby("session").cumcount()
    rows = []
    for n_open in 2 ** np.arange(12):
        slots = dict(n_open=n_open, horizon_s=8 * 3600 * max(1, 16 / n_open), stagger_s=1800, pause_s=60)
        shares, intervals = [], []
        for seed in range(np.clip(5120 // n_open, 4, 40)):
            for times in (calls["time_s"], turn):
                call, play = replay(calls["session"], times, rng=np.random.default_rng([n_open, seed]), **slots)
                now = calls.iloc[call]
                sizes = dict(sizes=now["input_tokens"].to_numpy(), reusable=now["cached_tokens"].to_numpy())
                contexts = play * len(calls) + now["context"].to_numpy()
                shares.append(lru_hit_share(capacity, contexts=contexts, **sizes))
                intervals.append(n_open * (slots["horizon_s"] - slots["stagger_s"] / 2) / len(call))
        ends = np.quantile(shares[::2], [0.5, 0.05, 0.95], axis=0)
        step, interval = np.median(shares[1::2], axis=0), np.mean(intervals[::2])
        rows += [(n_open, *row, interval) for row in zip(capacity, *ends, step, strict=True)]
    names = ["open_sessions", "capacity_tokens", "hit_share", "low", "high", "in_step", "interval_s"]
    return pd.DataFrame(rows, columns=names)


# derived table -> function, raw files
DERIVED = {
    "load_profiles": (load_profiles, tuple(_RATES)),
    "burstiness": (burstiness, ("azure2023_code.csv", "mooncake_conversation_trace.jsonl", "servegen_rate_10min.csv")),
    "trace_quantiles": (trace_quantiles, tuple(name for name, _ in _LOGS.values())),
    "agent_requests": (agent_requests, ("weka_agent_requests_odd.csv",)),
    "chat_sessions": (chat_sessions, ("mooncake_conversation_trace.jsonl",)),
    "cache_lifetimes": (cache_lifetimes, ("weka_agent_requests_odd.csv",)),
    "reuse_curves": (reuse_curves, ("weka_agent_requests_odd.csv",)),
    "session_laws": (session_laws, ("weka_agent_requests_odd.csv", "mooncake_conversation_trace.jsonl")),
}


def write_derived(raw, out):
    """
    Derive all aggregates from the raw files, with the hash of each file beside them.

    Parameters
    ----------
    raw, out : str or pathlib.Path
        Folder of the raw files; folder for the tables and `files.csv`.

    Returns
    -------
    list of str
        Names of the tables written.
    """
    out, used = Path(out), {}
    for name, (derive, files) in DERIVED.items():
        derive(raw).to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
        for file in files:
            used.setdefault(file, []).append(name)
    hashes = [
        (name, ORIGINS[name], hashlib.sha256((Path(raw) / name).read_bytes()).hexdigest(), " ".join(tables))
        for name, tables in used.items()
    ]
    columns = ["raw_file", "source", "sha256", "tables"]
    pd.DataFrame(hashes, columns=columns).to_csv(out / "files.csv", index=False, lineterminator="\n")
    return list(DERIVED)


if __name__ == "__main__":
    print(*write_derived(sys.argv[1], catalog.DATA / "derived"))
