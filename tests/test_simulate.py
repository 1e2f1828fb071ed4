"""The simulator against closed forms, against brute force, against SimPy and ciw; nothing is lost on the way."""

import heapq
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from econmodel import catalog, inference, simulate
from econmodel import utilization as u
from econmodel.parts import Replica, Tier

INF = math.inf
PLAIN = dict(context_s=0.0, attention_s=0.0, kv_bytes_per_token=0.0, memory_bytes=INF)
TOKENS_PER_S = 1e6


def requests(ready, output, prompt=1):
    """Sessions of one call each."""
    return pd.DataFrame(
        dict(session=np.arange(len(ready)), input_tokens=prompt, cached_tokens=0, output_tokens=output, wait_s=ready)
    )


def latency(served, share=0.9):
    """Latencies of the later calls."""
    times = (served.calls["end_s"] - served.calls["ready_s"]).to_numpy()
    return times[int(len(times) * (1 - share)) :]


def within_three_errors(values, exact, n=20):
    """Whether a mean agrees with a closed form, by batch means."""
    means = np.array([part.mean() for part in np.array_split(values, n)])
    error = means.std(ddof=1) / math.sqrt(n)
    print(f"simulated {means.mean():.4f} +- {error:.4f}, exact {exact:.4f}")
    return abs(means.mean() - exact) <= 3 * error


def whole(work):
    """Work in seconds as tokens."""
    return np.maximum(np.rint(work * TOKENS_PER_S), 1).astype(int)


LAWS = {
    "exponential": lambda rng, n: rng.exponential(size=n),
    "lognormal": lambda rng, n: rng.lognormal(-0.5, 1, n),
    "constant": lambda rng, n: np.ones(n),
}


# queue_waits


@given(st.integers(0, 60), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_waits_equal_a_heap_in_plain_python(n, servers, seed):
    rng = np.random.default_rng(seed)
    arrivals, services = (
        rng.integers(-20, 20, n).cumsum() if n == 0 else np.sort(rng.uniform(-10, 50, n)),
        rng.exponential(5, n),
    )
    free, waits = [-INF] * servers, []
    for arrival, service in zip(arrivals, services, strict=True):
        start = max(arrival, heapq.heappop(free))
        waits.append(start - arrival)
        heapq.heappush(free, start + service)
    assert simulate.queue_waits(arrivals, services, servers).tolist() == waits


def test_waits_equal_simpy_and_ciw():
    """Same arrivals and services, three engines."""
    import ciw
    import simpy

    rng, n, servers = np.random.default_rng(0), 3000, 5
    arrivals, services = rng.exponential(1 / 4.5, n).cumsum(), rng.exponential(size=n)
    ours = simulate.queue_waits(arrivals, services, servers)
    env, theirs = simpy.Environment(), np.empty(n)
    pool = simpy.Resource(env, servers)

    def customer(i):
        yield env.timeout(arrivals[i])
        with pool.request() as turn:
            yield turn
            theirs[i] = env.now - arrivals[i]
            yield env.timeout(services[i])

    for i in range(n):
        env.process(customer(i))
    env.run()
    assert_allclose(ours, theirs, atol=1e-9)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Sequential([*np.diff(arrivals, prepend=0.0), INF])],
        service_distributions=[ciw.dists.Sequential([*services])],
        number_of_servers=[servers],
    )
    run = ciw.Simulation(network)
    run.simulate_until_max_customers(n, method="Finish")
    records = sorted(run.get_all_records(), key=lambda record: record.arrival_date)
    assert_allclose(ours[: len(records)], [record.waiting_time for record in records], atol=1e-9)
    assert len(records) == n


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 0], [1, 1], 1), "arrival_times = 0 at place 1"),
        (([0, 1], [1, -1], 1), "service_times = -1"),
        (([0, math.nan, 1], [1, 1, 1], 1), "arrival_times = nan"),
        (([0, INF], [1, 1], 1), "inf or nan"),
        (([0, 1], [1], 1), "service_times = "),
        (([0, 1], [1, 1], 0), "n_servers = 0"),
    ],
)
def test_bad_queues_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate.queue_waits(*arguments)


# serve in the special cases that have closed forms


@pytest.mark.parametrize("share", [0.7, 0.95])
def test_a_batch_whose_pace_ignores_its_size_is_a_queue_with_servers(share):
    """Call by call the same as G/G/c, to the length of a step; and its mean is M/M/c's."""
    rng, n, servers = np.random.default_rng(1), 400_000, 8
    ready, output = rng.exponential(1 / (share * servers), n).cumsum(), whole(rng.exponential(size=n))
    engine = simulate.Server(step_s=np.full(servers + 2, 1 / TOKENS_PER_S), **PLAIN)
    served = simulate.serve(
        requests(ready, output),
        engine,
        simulate.Policy(residency="recompute", max_batch=servers, chunk_tokens=1),
        seed=0,
    )
    expected = simulate.queue_waits(ready, output / TOKENS_PER_S, servers) + output / TOKENS_PER_S
    assert np.abs(latency(served, 1) - expected).max() < 3e-4  # a chunk of one token lets one call in per step
    assert within_three_errors(
        latency(served), 1 + u.mean_wait(arrival_rate=share * servers, service_rate=1, n_servers=servers)
    )


@pytest.mark.parametrize("law", LAWS)
def test_a_batch_whose_pace_is_shared_is_processor_sharing(law):
    """Mean latency 1 / (1 - load) whatever the law of lengths."""
    rng, n = np.random.default_rng(2), 300_000
    step = np.maximum(np.arange(3002), 1) / TOKENS_PER_S
    policy = simulate.Policy(residency="recompute", max_batch=2000, chunk_tokens=1000)
    calls = requests(rng.exponential(1 / 0.7, n).cumsum(), whole(LAWS[law](rng, n)))
    assert within_three_errors(
        latency(simulate.serve(calls, simulate.Server(step_s=step, **PLAIN), policy, seed=0)), 1 / 0.3
    )


@pytest.mark.parametrize(("sessions", "slots", "think"), [(12, 4, 2.0), (6, 1, 10.0), (40, 10, 2.5)])
def test_sessions_that_think_are_a_finite_source(sessions, slots, think):
    rng, calls = np.random.default_rng(3), 8000
    n = sessions * calls
    table = pd.DataFrame(
        dict(session=np.repeat(np.arange(sessions), calls), input_tokens=1, cached_tokens=0,
             output_tokens=whole(rng.exponential(size=n)), wait_s=rng.exponential(think, n))
    )  # fmt: skip
    engine = simulate.Server(step_s=np.full(slots + 100, 1 / TOKENS_PER_S), **PLAIN)
    policy = simulate.Policy(residency="recompute", max_batch=slots, chunk_tokens=90)
    served = simulate.serve(table, engine, policy, seed=0, bin_s=100.0)
    busy = served.series["in_service"].to_numpy() / slots
    length = int(0.7 * len(busy))  # before the first session runs out of calls
    assert within_three_errors(
        busy[length // 10 : length], u.finite_source_utilization(sessions, slots, busy_time=1, think_time=think)
    )


def test_a_static_batch_takes_the_sum_of_its_steps():
    """One step reads all prompts, then all decode together over contexts that grow by one."""
    batch, prompt, output = 32, 100, 50
    engine = simulate.Server(
        step_s=0.01 + 1e-5 * np.arange(4000), context_s=1e-7, attention_s=1e-9, kv_bytes_per_token=1.0, memory_bytes=1e9
    )
    policy = simulate.Policy(residency="recompute", max_batch=batch, chunk_tokens=batch * prompt)
    served = simulate.serve(requests(np.zeros(batch), output, prompt), engine, policy, seed=0)
    read = batch * sum(prompt + k for k in range(1, output))
    prefill = 0.01 + 1e-5 * batch * prompt + 1e-9 * batch * prompt**2 / 2
    assert_allclose(served.calls["first_token_s"], prefill, rtol=1e-12)
    assert_allclose(served.calls["end_s"], prefill + (output - 1) * (0.01 + 1e-5 * batch) + 1e-7 * read, rtol=1e-12)


def test_sessions_equal_simpy():
    """Six sessions think and queue for two slots: same draws, same ends."""
    import simpy

    rng, calls = np.random.default_rng(7), 300
    work, think = rng.exponential(size=(6, calls)), rng.exponential(2.0, (6, calls))
    env, ends = simpy.Environment(), np.empty((6, calls))
    slots = simpy.Resource(env, 2)

    def session(i):
        for k in range(calls):
            yield env.timeout(think[i, k])
            with slots.request() as turn:
                yield turn
                yield env.timeout(work[i, k])
            ends[i, k] = env.now

    for i in range(6):
        env.process(session(i))
    env.run()
    columns = dict(
        session=np.repeat(np.arange(6), calls), input_tokens=1, cached_tokens=0, output_tokens=whole(work).ravel()
    )
    engine = simulate.Server(step_s=np.full(20, 1 / TOKENS_PER_S), **PLAIN)
    policy = simulate.Policy(residency="recompute", max_batch=2, chunk_tokens=10)
    served = simulate.serve(pd.DataFrame(columns).assign(wait_s=think.ravel()), engine, policy, seed=0)
    assert_allclose(served.calls["end_s"], ends.ravel(), atol=5 * calls / TOKENS_PER_S)


def brute_force(sessions, engine, policy):
    """Plain batching of sessions step by step and token by token, without memory limits; ends of calls."""
    rows = sessions.to_dict("records")
    last = {row["session"]: None for row in rows}
    follow = {}
    for k, row in enumerate(rows):
        if last[row["session"]] is not None:
            follow[last[row["session"]]] = k
        last[row["session"]] = k
    heads = set(range(len(rows))) - set(follow.values())
    events = [(rows[k]["wait_s"], k) for k in heads]
    heapq.heapify(events)
    keeps, time, line, batch, ends = policy.residency != "recompute", 0.0, [], [], [None] * len(rows)
    while events or line or batch:
        while events and events[0][0] <= time:
            line.append(heapq.heappop(events)[1])
        while line and len(batch) < policy.max_batch:
            row = rows[k := line.pop(0)]
            reused = min(row["cached_tokens"], row["input_tokens"] - 1) if keeps else 0
            batch.append(dict(k=k, base=reused, todo=row["input_tokens"] - reused, left=row["output_tokens"]))
        if not batch:
            time = events[0][0]
            continue
        decoding = [call for call in batch if call["todo"] == 0]
        budget, pairs, prompts = policy.chunk_tokens, 0.0, []
        for call in batch:
            if call["todo"] and budget:
                take = min(call["todo"], budget)
                pairs += take * (call["base"] + take / 2)
                budget -= take
                prompts.append((call, take))
        tokens = len(decoding) + policy.chunk_tokens - budget
        time += (
            engine.step_s[tokens]
            + engine.context_s * sum(call["base"] for call in decoding)
            + engine.attention_s * pairs
        )
        for call, take in prompts:
            call["todo"] -= take
            call["base"] += take
            if call["todo"] == 0:
                call["left"] -= 1
                call["base"] += 1
        for call in decoding:
            call["left"] -= 1
            call["base"] += 1
        for call in [call for call in batch if call["left"] == 0]:
            batch.remove(call)
            ends[call["k"]] = time
            if call["k"] in follow:
                heapq.heappush(events, (time + rows[follow[call["k"]]]["wait_s"], follow[call["k"]]))
    return ends


def random_sessions(rng, n_sessions, *, calls=4, tokens=60):
    """Sessions with growing contexts, tool times and CPU times."""
    rows = []
    for session in range(n_sessions):
        seen = 0
        for call in range(rng.integers(1, calls + 1)):
            cached = int(rng.integers(0, seen + 1)) if seen else 0
            prompt, output = cached + int(rng.integers(1, tokens)), int(rng.integers(1, tokens))
            rows.append(
                (
                    session,
                    prompt,
                    cached,
                    output,
                    rng.exponential(3.0 if call else 10.0),
                    rng.exponential(0.5) * bool(call),
                )
            )
            seen = prompt + output
    return pd.DataFrame(rows, columns=[*simulate.NEEDED, "cpu_s"])


@given(
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 50),
    st.sampled_from(["evict", "recompute"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_sums_over_steps_equal_one_step_after_the_other(n_sessions, batch, chunk, residency, seed):
    rng = np.random.default_rng(seed)
    sessions = random_sessions(rng, n_sessions).assign(cpu_s=0.0)
    engine = simulate.Server(step_s=0.01 + 1e-4 * np.arange(batch + chunk + 1), context_s=1e-5, attention_s=1e-6,
                             kv_bytes_per_token=1.0, memory_bytes=INF)  # fmt: skip
    policy = simulate.Policy(residency=residency, max_batch=batch, chunk_tokens=chunk)
    served = simulate.serve(sessions, engine, policy, seed=0)
    assert_allclose(served.calls["end_s"], brute_force(sessions, engine, policy), rtol=1e-9)


# conservation


@st.composite
def scenes(draw):
    """A random load, replica and policy."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sessions = random_sessions(rng, draw(st.integers(1, 25)))
    sessions["priority"] = sessions["session"] % draw(st.integers(1, 3))
    tiers = [Tier(name=f"t{k}", capacity_bytes=float(draw(st.integers(50, 900))), bandwidth_bytes_per_s=float(10 ** draw(st.integers(1, 4))))
             for k in range(draw(st.integers(0, 2)))]  # fmt: skip
    batch, chunk = draw(st.integers(1, 8)), draw(st.integers(1, 80))
    engine = simulate.Server(step_s=0.01 + 1e-4 * np.arange(batch + chunk + 1), context_s=1e-5, attention_s=1e-6, kv_bytes_per_token=1.0,
                             kv_fixed_bytes=float(draw(st.integers(0, 9))), memory_bytes=float(draw(st.integers(150, 900))),
                             ideal_token_s=1e-5, ideal_pair_s=0.0, ideal_step_s=1e-3, ideal_context_s=1e-6)  # fmt: skip
    residency = draw(st.sampled_from(["hold", "evict", "recompute"] + ["move"] * bool(tiers)))
    return sessions, engine, simulate.Policy(
        residency=residency, max_batch=batch, chunk_tokens=chunk, idle_s=draw(st.sampled_from([0.0, 1.0, 5.0])), tiers=tiers,
        link_bytes_per_s=10.0 ** draw(st.integers(1, 4)), cpu_cores=draw(st.sampled_from([1, 3, INF])),
        preempt=draw(st.booleans()), max_waiting=draw(st.sampled_from([INF, 4])),
    )  # fmt: skip


@given(scenes(), st.integers(1, 3))
@settings(max_examples=200)
def test_nothing_is_lost(scene, n_replicas):
    sessions, engine, policy = scene
    served = simulate.serve(sessions, engine, policy, seed=1, n_replicas=n_replicas, bin_s=2.0)
    calls, series, totals = served
    assert sum(totals[name.replace(" ", "_")] for name in simulate.STATUS) == len(sessions)
    done = (calls["status"] == "served").to_numpy()
    assert np.all(np.diff(calls.loc[done, ["ready_s", "start_s", "first_token_s", "end_s"]], axis=1) >= 0)
    prompt = sessions["input_tokens"].to_numpy()
    work = (calls["prefilled"] + calls["reused"]).to_numpy()
    assert np.all(work[done] >= prompt[done])
    if not policy.preempt:
        assert np.all(work[done] == prompt[done])
    assert np.all(work[~done] == 0)
    assert totals["generated_tokens"] == sessions["output_tokens"][done].sum()
    assert totals["bytes_left"] == 0, "all room is given back"
    assert totals["peak_hbm_bytes"] <= engine.memory_bytes
    stepped = (series["tokens_per_s"] * series["span_s"]).sum()
    # one token of each call comes with its prompt; a call pushed out brings another one each time it resumes
    expected = calls["prefilled"].sum() + totals["generated_tokens"] - done.sum()
    assert stepped == pytest.approx(expected) if not policy.preempt else stepped <= expected + 1e-6
    for name in ("busy_share", "link_share"):
        assert series[name].between(0, 1 + 1e-9).all()
    assert (series["hbm_bytes"] <= engine.memory_bytes * (1 + 1e-9)).all()
    for tier in policy.tiers if policy.residency in ("move", "evict") else ():
        assert (series[f"{tier.name}_bytes"] <= tier.capacity_bytes * (1 + 1e-9)).all()
    if policy.max_waiting == INF:
        assert totals["bytes_out"] <= totals["bytes_in"] + totals["bytes_dropped"] + 1e-6
    ran = sessions["cpu_s"].to_numpy()[calls["ready_s"].notna() & (sessions.groupby("session").cumcount() > 0)].sum()
    assert (series["cores"] * series["span_s"]).sum() == pytest.approx(ran, abs=1e-6)
    again = simulate.serve(sessions, engine, policy, seed=1, n_replicas=n_replicas, bin_s=2.0)
    pd.testing.assert_frame_equal(calls, again.calls)


def agents(rng, n_sessions, n_calls, *, kv, think, output=100):
    """Sessions of constant context that think in between."""
    n = n_sessions * n_calls
    first = np.arange(n) % n_calls == 0
    return pd.DataFrame(
        dict(session=np.repeat(np.arange(n_sessions), n_calls), input_tokens=kv - output, cached_tokens=np.where(first, 0, kv - output),
             output_tokens=output, wait_s=rng.exponential(think, n))
    )  # fmt: skip


def test_held_contexts_bound_the_batch_as_the_ceiling_says():
    """Forty sessions, room for ten contexts, and a think time four times the busy time: two of ten slots busy."""
    rng = np.random.default_rng(4)
    engine = simulate.Server(
        step_s=np.full(300, 0.01), context_s=0.0, attention_s=0.0, kv_bytes_per_token=1.0, memory_bytes=1e4
    )
    policy = simulate.Policy(residency="hold", max_batch=20, chunk_tokens=200)
    served = simulate.serve(agents(rng, 40, 200, kv=1000, think=4.0), engine, policy, seed=0)
    ceilings = u.busy_share_ceilings(
        busy_time=1.0, think_time=4.0, kv_bytes=1e3, memory_bytes=1e4, link_bytes_per_s=1, step_concurrency=20
    )
    assert served.series["in_service"][2:-10].mean() / 20 == pytest.approx(ceilings.residency, rel=0.03)


def test_a_slow_link_bounds_the_batch_as_the_ceiling_says():
    rng = np.random.default_rng(5)
    engine = simulate.Server(
        step_s=np.full(300, 0.01), context_s=0.0, attention_s=0.0, kv_bytes_per_token=1.0, memory_bytes=1e5
    )
    tier = Tier(name="DDR5", capacity_bytes=INF, bandwidth_bytes_per_s=INF)
    policy = simulate.Policy(residency="move", max_batch=20, chunk_tokens=200, tiers=[tier], link_bytes_per_s=1e4)
    served = simulate.serve(agents(rng, 60, 200, kv=1000, think=1.0), engine, policy, seed=0)
    ceilings = u.busy_share_ceilings(
        busy_time=1.0, think_time=1.0, kv_bytes=1e3, memory_bytes=INF, link_bytes_per_s=1e4, step_concurrency=20
    )
    rate = served.totals["served"] / served.totals["end_s"]
    assert served.series["link_share"][5:-20].mean() == pytest.approx(1, abs=0.02)
    assert rate * 1.0 / 20 == pytest.approx(ceilings.link, rel=0.05)


# policies in the head


SLOW = simulate.Server(
    step_s=np.full(2000, 0.01), context_s=0.0, attention_s=0.0, kv_bytes_per_token=1.0, memory_bytes=1500.0
)


def two_calls(**changes):
    """A session of two calls."""
    calls = dict(
        session=[0, 0], input_tokens=[500, 700], cached_tokens=[0, 600], output_tokens=[100, 100], wait_s=[0.0, 10.0]
    )
    return pd.DataFrame(calls | changes)


@pytest.mark.parametrize(("residency", "prefilled"), [("hold", 100), ("evict", 100), ("recompute", 700), ("move", 100)])
def test_only_dropped_contexts_are_computed_again(residency, prefilled):
    tiers = [Tier(name="DDR5", capacity_bytes=1e6, bandwidth_bytes_per_s=100.0)]
    policy = simulate.Policy(residency=residency, max_batch=4, chunk_tokens=1000, tiers=tiers)
    calls, _, totals = simulate.serve(two_calls(), SLOW, policy, seed=0)
    assert calls["prefilled"].tolist() == [500, prefilled]
    moved = residency == "move"  # 600 bytes out and back at 100 B/s, then one step of prefill
    assert (totals["bytes_out"], totals["bytes_in"]) == (600 * moved, 600 * moved)
    assert calls["first_token_s"][1] - calls["ready_s"][1] == pytest.approx(0.01 + 6 * moved)


def test_the_least_recently_used_context_goes_first():
    """Three sessions of 500 fill the memory; the third call of another one evicts the oldest only."""
    rows = [(i, 400, 0, 100, float(i)) for i in range(3)] + [(3, 400, 0, 100, 5.0)]
    later = [(i, 401, 400, 1, 20.0 + i) for i in range(3)]
    table = pd.DataFrame(sorted(rows + later, key=lambda row: row[0]), columns=simulate.NEEDED)
    calls = simulate.serve(
        table, SLOW, simulate.Policy(residency="evict", max_batch=4, chunk_tokens=1000), seed=0
    ).calls
    assert calls["prefilled"][table["cached_tokens"] > 0].tolist() == [401, 1, 1]


def test_a_full_tier_overflows_into_the_next():
    """Room for one context in the first tier: the older one goes on to the second, and neither is computed again."""
    table = pd.concat([two_calls(session=[i, i], wait_s=[3.0 * i, 20.0]) for i in range(2)])
    for below, prefilled in ((1e6, 100), (599.0, 700)):
        sizes = dict(bandwidth_bytes_per_s=1e4)
        tiers = [Tier(name="DDR5", capacity_bytes=1000.0, **sizes), Tier(name="NVMe", capacity_bytes=below, **sizes)]
        policy = simulate.Policy(residency="move", max_batch=4, chunk_tokens=1000, tiers=tiers)
        calls, series, totals = simulate.serve(table, SLOW, policy, seed=0, bin_s=1.0)
        assert calls["prefilled"].tolist() == [500, prefilled, 500, 100]
        assert totals["bytes_dropped"] == 600 * (below < 600)
        assert series["NVMe_bytes"].max() == pytest.approx(600 if below > 600 else 0)


def test_tools_queue_for_cores():
    table = pd.concat([two_calls(session=[i, i], cpu_s=[0.0, 8.0], wait_s=[0.0, 1.0]) for i in range(2)])
    big = simulate.Server(step_s=SLOW.step_s, context_s=0.0, attention_s=0.0, kv_bytes_per_token=1.0, memory_bytes=1e6)
    policy = simulate.Policy(residency="evict", max_batch=4, chunk_tokens=1000, cpu_cores=1)
    calls, series, _ = simulate.serve(table, big, policy, seed=0, bin_s=1.0)
    ends = calls["end_s"].to_numpy()
    assert calls["ready_s"].to_numpy()[[1, 3]] == pytest.approx([ends[0] + 9, ends[2] + 17])
    assert series["cores"].max() <= 1 + 1e-9


def test_urgent_calls_push_out_others_which_lose_nothing_but_time():
    patient, urgent = requests([0.0], 1000, 100), requests([2.0], 10, 100).assign(session=1)
    table = pd.concat([patient.assign(priority=1), urgent.assign(priority=0)])
    results = {}
    for preempt in (False, True):
        policy = simulate.Policy(residency="recompute", max_batch=1, chunk_tokens=1000, preempt=preempt)
        results[preempt] = simulate.serve(table, SLOW, policy, seed=0).calls
    assert results[False]["start_s"][1] == pytest.approx(10.0)
    assert results[True]["start_s"][1] == pytest.approx(2.0)
    assert results[True]["end_s"].tolist() == pytest.approx([10.1, 2.1])
    assert results[True]["prefilled"].tolist() == [100 + 300, 100]


def test_a_simulation_stops_when_it_is_told_to():
    policy = simulate.Policy(residency="recompute", max_batch=1, chunk_tokens=1000)
    served = simulate.serve(requests([0.0, 0.5, 30.0], 100), SLOW, policy, seed=0, until_s=1.5)
    assert served.calls["status"].tolist() == ["served", "unfinished", "unfinished"]
    assert served.totals["end_s"] == pytest.approx(1.5)
    assert served.totals["bytes_left"] == 101


def test_load_is_shed_in_sight():
    policy = simulate.Policy(residency="recompute", max_batch=1, chunk_tokens=1000, max_waiting=2)
    served = simulate.serve(requests(0.01 * np.arange(6), 100), SLOW, policy, seed=0)
    assert served.calls["status"].tolist() == ["served"] * 3 + ["shed"] * 3
    assert served.totals["shed"] == 3


def test_a_session_that_can_never_fit_is_reported():
    table = pd.concat([two_calls(input_tokens=[500, 1401]), two_calls(session=[1, 1])])
    served = simulate.serve(table, SLOW, simulate.Policy(residency="evict", max_batch=4, chunk_tokens=1000), seed=0)
    assert served.calls["status"].tolist() == ["never fits"] * 2 + ["served"] * 2
    assert served.totals["never_fits"] == 2


def test_no_calls_take_no_time():
    served = simulate.serve(
        two_calls().iloc[:0], SLOW, simulate.Policy(residency="evict", max_batch=4, chunk_tokens=10), seed=0
    )
    assert (len(served.calls), served.totals["served"]) == (0, 0)


EVICT = dict(residency="evict", max_batch=4, chunk_tokens=10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate.serve(two_calls(wait_s=[0, -1]), SLOW, simulate.Policy(**EVICT), seed=0), "wait_s = -1"),
        (lambda: simulate.serve(two_calls(cpu_s=[0, math.nan]), SLOW, simulate.Policy(**EVICT), seed=0), "cpu_s = nan"),
        (lambda: simulate.serve(two_calls(cached_tokens=[600, 0]), SLOW, simulate.Policy(**EVICT), seed=0), "cached_tokens = 600 at place 0"),
        (lambda: simulate.serve(pd.concat([two_calls(), two_calls(session=[1, 1]), two_calls()]), SLOW, simulate.Policy(**EVICT), seed=0), "session = 0 .* out of order"),
        (lambda: simulate.serve(two_calls(output_tokens=[1, 0]), SLOW, simulate.Policy(**EVICT), seed=0), "output_tokens = 0"),
        (lambda: simulate.serve(two_calls().drop(columns="wait_s"), SLOW, simulate.Policy(**EVICT), seed=0), "without wait_s"),
        (lambda: simulate.serve(two_calls(), SLOW, simulate.Policy(**EVICT | dict(max_batch=1995)), seed=0), "step_s = 2000 steps"),
        (lambda: simulate.Policy(**EVICT | dict(residency="keep")), "residency = 'keep'"),
        (lambda: simulate.Policy(**EVICT | dict(residency="move")), "tiers = "),
        (lambda: simulate.Policy(**EVICT, tiers=[Tier(name="CXL", capacity_bytes=1.0)]), "bandwidth_bytes_per_s = None .* CXL"),
        (lambda: simulate.Policy(**EVICT, link_bytes_per_s=0), "link_bytes_per_s = 0"),
        (lambda: simulate.Policy(**EVICT, idle_s=-1), "idle_s = -1"),
        (lambda: simulate.Server(step_s=[0.0, 1.0], **PLAIN), "step_s = 0"),
        (lambda: simulate.Server(step_s=[1.0], **PLAIN | dict(memory_bytes=-1)), "memory_bytes = -1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the law of a batching replica


BATCH, CHUNK, PROMPT, MEAN = 128, 512, 600, 200
REPLICA = simulate.Server(step_s=np.maximum(0.010, 2e-5 * np.arange(BATCH + CHUNK + 1)) + 0.004, context_s=5e-8, attention_s=1e-10,
                          kv_bytes_per_token=1.3e5, memory_bytes=INF)  # fmt: skip
LENGTHS = {
    "geometric": lambda rng, n: rng.geometric(1 / MEAN, n),
    "lognormal": lambda rng, n: np.maximum(np.rint(rng.lognormal(math.log(MEAN) - 0.5, 1, n)), 1).astype(int),
    "constant": lambda rng, n: np.full(n, MEAN),
}


@pytest.mark.slow
@pytest.mark.parametrize("law", LENGTHS)
def test_birth_death_predicts_the_latency_of_continuous_batching(law):
    """Within 3 % at loads from 0.3 to 0.9; M/M/c with as many servers and the same capacity stands beside it."""
    rng, n = np.random.default_rng(6), 400_000
    output = LENGTHS[law](rng, n)
    rates = simulate.completion_rates(REPLICA, max_batch=BATCH, chunk_tokens=CHUNK, input_tokens=PROMPT,
                                      output_tokens=output.mean(), output_cv=output.std() / output.mean())  # fmt: skip
    policy = simulate.Policy(residency="recompute", max_batch=BATCH, chunk_tokens=CHUNK)
    for load in (0.3, 0.5, 0.7, 0.9):
        rate = load * rates[-1]
        served = simulate.serve(
            requests(rng.exponential(1 / rate, n).cumsum(), output, PROMPT), REPLICA, policy, seed=0
        )
        truth, per_server = latency(served).mean(), rates[-1] / BATCH
        ours = u.state_dependent_queue(rate, rates).mean_time / truth - 1
        erlang = (1 / per_server + u.mean_wait(arrival_rate=rate, service_rate=per_server, n_servers=BATCH)) / truth - 1
        print(f"{law}, load {load}: birth-death {ours:+.1%}, M/M/c {erlang:+.1%}")
        assert abs(ours) <= 0.03


@pytest.fixture(scope="module")
def llama():
    """A real replica."""
    llm, chip = catalog.llm("Meta-Llama-3.1-70B"), catalog.accelerator("H100-SXM-80GB")
    return Replica(llm=llm, accelerator=chip, n_accelerators=4, weight_bits=8, kv_bits=8)


@pytest.mark.slow
@pytest.mark.parametrize(("prompt", "answer", "allowed"), [(914, 155, 0.03), (12035, 343, 0.15)])
def test_the_law_fits_a_real_replica_well_for_short_chats_and_less_for_long(llama, prompt, answer, allowed):
    rng, n = np.random.default_rng(8), 200_000
    table = dict(max_batch=512, chunk_tokens=2048)
    server = simulate.server(llama, context_tokens=prompt + answer, **table)
    fits = min(512, int(server.memory_bytes / server.kv_bytes_per_token / (prompt + answer)))
    rates = simulate.completion_rates(server, input_tokens=prompt, output_tokens=answer, **table)[:fits]
    for load in (0.3, 0.6, 0.9):
        calls = requests(rng.exponential(1 / (load * rates[-1]), n).cumsum(), rng.geometric(1 / answer, n), prompt)
        policy = simulate.Policy(residency="recompute", max_batch=fits, chunk_tokens=2048)
        error = (
            u.state_dependent_queue(load * rates[-1], rates).mean_time
            / latency(simulate.serve(calls, server, policy, seed=0)).mean()
            - 1
        )
        print(f"prompts of {prompt}, load {load}: birth-death {error:+.1%}")
        assert abs(error) <= allowed


def test_a_tabulated_replica_keeps_the_pace_that_inference_predicts(llama):
    """Closed loop of 64 requests: time per token within 2 % of the formula for a fixed concurrency."""
    losses = inference.Engine(stream_s=0.0)
    server = simulate.server(llama, max_batch=64, chunk_tokens=2048, context_tokens=1100, engine=losses)
    calls = pd.concat([requests(np.zeros(64), 200, 1000)] * 20).sort_values("session", kind="stable")
    served = simulate.serve(
        calls, server, simulate.Policy(residency="recompute", max_batch=64, chunk_tokens=2048), seed=0
    )
    pace = ((served.calls["end_s"] - served.calls["first_token_s"]) / 199)[640:].mean()
    own = dict(n_accelerators=4, weight_bits=8, kv_bits=8, layout="tp", engine=losses)
    predicted = inference.predict_latency(
        llama.llm, llama.accelerator, concurrency=64, input_tokens=1000, output_tokens=200, **own
    )
    assert pace == pytest.approx(predicted.time_per_output_token, rel=0.05)


def test_replicas_are_tabulated_on_the_way(llama):
    calls, policy = requests([0.0, 1.0], 10, 500), simulate.Policy(residency="evict", max_batch=4, chunk_tokens=512)
    server = simulate.server(llama, max_batch=4, chunk_tokens=512, context_tokens=500)
    direct, tabulated = (simulate.serve(calls, one, policy, seed=0) for one in (llama, server))
    pd.testing.assert_frame_equal(direct.calls, tabulated.calls)
    assert direct.series["compute_share"].between(0, 1).all()
    assert server.ideal_token_s == pytest.approx(2 * llama.llm.params_active / (4 * 1979e12), rel=0.01)


def test_a_model_that_does_not_fit_serves_nobody(llama):
    small = Replica(llm=llama.llm, accelerator=llama.accelerator, n_accelerators=1, weight_bits=16, kv_bits=16)
    policy = simulate.Policy(residency="evict", max_batch=4, chunk_tokens=512)
    assert simulate.serve(requests([0.0], 10, 500), small, policy, seed=0).totals["never_fits"] == 1


def test_lanes_hold_whole_sessions_in_order():
    calls = random_sessions(np.random.default_rng(1), 40)
    lanes = simulate.open_sessions(calls, 5, span_s=1e9, pause_s=60.0, rng=np.random.default_rng(2))
    assert len(lanes) == len(calls)
    assert lanes["session"].nunique() == 5
    columns = ["input_tokens", "cached_tokens", "output_tokens"]
    assert sorted(map(tuple, lanes[columns].to_numpy())) == sorted(map(tuple, calls[columns].to_numpy()))
    begins = lanes["cached_tokens"].eq(0) & lanes["wait_s"].eq(60.0)
    assert begins.sum() == 35
    short = simulate.open_sessions(calls, 5, span_s=20.0, pause_s=60.0, rng=np.random.default_rng(2))
    assert short.groupby("session")["wait_s"].sum().max() < 20
    with pytest.raises(ValueError, match="n_open = 41"):
        simulate.open_sessions(calls, 41, span_s=1.0, pause_s=1.0, rng=np.random.default_rng(2))
