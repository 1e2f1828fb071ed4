"""Where a waiting context should live: closed forms, a replica under memory pressure, caches against brute force."""

import heapq
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from econmodel import catalog, demand, inference, simulate
from econmodel import memory_tiers as mt
from econmodel.parts import Replica, Tier

SHARED = Path(__file__).parents[2] / "shared"
MOONCAKE = SHARED / "traces" / "mooncake_conversation_trace.jsonl"
CURVES = SHARED / "facts" / "trace_kv_lru_curves.csv"

PRICE = 2.5 / 3600
PCIE5 = 55.4e9


def at_hand(*paths):
    """Skip where the raw files are not there."""
    return pytest.mark.skipif(not all(path.exists() for path in paths), reason="the raw traces are not at hand")


# ---- closed forms


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(80e9, 2.9), (141e9, 5.1), (143.771e9, 5.2), (143_771 * 2**20, 5.4)],
    ids=["H100", "H200, label", "H200, MiB read as MB", "H200, bytes that a program sees"],
)
def test_swapping_a_whole_memory_takes_seconds(memory, expected):
    """The 5.2 s that are quoted for an H200 need its 143,771 MiB read as decimal megabytes; neither reading gives it."""
    rent = mt.memory_rent(memory, gpu_usd_per_s=PRICE)
    wait = mt.break_even_idle_time(link_bytes_per_s=PCIE5, gpu_usd_per_s=PRICE, hbm_rent_usd_per_byte_s=rent)
    assert round(wait, 1) == expected
    assert wait == pytest.approx(2 * memory / PCIE5)


def test_at_the_break_even_both_ways_cost_the_same_whatever_the_context():
    prices = dict(link_bytes_per_s=PCIE5, gpu_usd_per_s=PRICE, stall_fraction=0.7)
    wait = mt.break_even_idle_time(**prices, hbm_rent_usd_per_byte_s=9e-15, tier_rent_usd_per_byte_s=1e-16)
    size = np.array([1e6, 1e9, 1e12])
    held = mt.hold_cost(wait, kv_bytes=size, rent_usd_per_byte_s=9e-15)
    moved = mt.move_cost(wait, kv_bytes=size, **prices, rent_usd_per_byte_s=1e-16)
    np.testing.assert_allclose(held, moved)


def test_a_slack_memory_is_never_left_and_a_hidden_transfer_always_pays():
    prices = dict(link_bytes_per_s=PCIE5, gpu_usd_per_s=PRICE)
    assert mt.break_even_idle_time(**prices, hbm_rent_usd_per_byte_s=0) == np.inf
    assert mt.break_even_idle_time(**prices, hbm_rent_usd_per_byte_s=1e-15, tier_rent_usd_per_byte_s=1e-15) == np.inf
    assert mt.break_even_idle_time(**prices, hbm_rent_usd_per_byte_s=1e-15, stall_fraction=0) == 0
    assert mt.memory_rent(80e9, gpu_usd_per_s=PRICE, elasticity=0) == 0
    assert mt.hold_cost(np.inf, kv_bytes=1e9, rent_usd_per_byte_s=0) == 0


def test_cheapest_place_is_the_cheapest_and_arrays_equal_scalars():
    context = dict(kv_bytes=8e9, prefill_time=3.0, link_bytes_per_s=PCIE5, gpu_usd_per_s=PRICE)
    rent = dict(hbm_rent_usd_per_byte_s=PRICE / 50e9, tier_rent_usd_per_byte_s=1e-17)
    waits = np.geomspace(0.01, 1e7, 60)
    found = mt.cheapest_place(waits, **context, **rent)
    for i, wait in enumerate(waits):
        one = mt.cheapest_place(wait, **context, **rent)
        costs = dict(zip(mt.PLACES, one[2:], strict=True))
        assert one.place == found.place[i] == min(costs, key=costs.get)
        assert one.cost == pytest.approx(found.cost[i]) == min(costs.values())
    order = [place for place, before in zip(found.place, ["", *found.place], strict=False) if place != before]
    assert order == ["hold", "move", "recompute"]
    free = mt.cheapest_place(waits, **context, hbm_rent_usd_per_byte_s=0.0)
    assert set(free.place) == {"hold"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"link_bytes_per_s": 0}, "link_bytes_per_s = 0"),
        ({"stall_fraction": 1.5}, "stall_fraction = 1.5"),
        ({"gpu_usd_per_s": -1}, "gpu_usd_per_s = -1"),
        ({"hbm_rent_usd_per_byte_s": np.nan}, "rent_usd_per_byte_s = nan"),
        ({"kv_bytes": -1}, "kv_bytes = -1"),
        ({"prefill_time": -1}, "prefill_time = -1"),
        ({"idle_time": -1}, "idle_time = -1"),
    ],
)
def test_bad_prices_are_named(change, message):
    good = dict(idle_time=1, kv_bytes=1, prefill_time=1, link_bytes_per_s=1, gpu_usd_per_s=1, hbm_rent_usd_per_byte_s=1)
    with pytest.raises(ValueError, match=message):
        mt.cheapest_place(**good | change)


# ---- a replica, simulated event by event


def simulated(*, sessions, slots, wait, output, step, step_more, calls, rng, exclusive=0.0, swap=0.0, moved=0.0):
    """
    Calls per second of a replica with room for `slots` contexts.

    Sessions decode, wait, call again. While one waits, its context keeps its slot, or with probability `moved` leaves
    it, which freezes the GPU for `swap`; coming in freezes it for `exclusive + swap`. With a contexts at work the mean
    call takes `output (step + a step_more)`. Lengths and waits are exponential; the first fifth is dropped.
    """
    now = work = frozen = begun = 0.0
    active, waiting, free, ready, done = [], [], slots, sessions, 0
    while done < calls:
        while free and ready:
            free, ready = free - 1, ready - 1
            frozen = max(frozen, now) + exclusive + swap
            heapq.heappush(active, work + rng.exponential(output))
        pace = step + len(active) * step_more
        finish = max(now, frozen) + (active[0] - work) * pace if active else np.inf
        if waiting and waiting[0][0] < finish:
            back, holds = heapq.heappop(waiting)
            work += max(0.0, back - max(now, frozen)) / pace
            now = back
            if holds:
                heapq.heappush(active, work + rng.exponential(output))
            else:
                ready += 1
            continue
        work, now, done = heapq.heappop(active), finish, done + 1
        leaves = rng.random() < moved
        if leaves:
            frozen, free = max(frozen, now) + swap, free + 1
        heapq.heappush(waiting, (now + rng.exponential(wait), not leaves))
        begun = now if done == calls // 5 else begun
    return (done - calls // 5) / (now - begun)


def crossing(waits, *, moved, **run):
    """Wait above which moving that share of the contexts serves more calls than holding all, from simulations."""
    gains = []
    for wait in waits:
        some, none = (simulated(**run, wait=wait, moved=m, rng=np.random.default_rng(7)) for m in (moved, 0.0))
        gains.append(np.log(some / none))
    slope, level = np.polyfit(np.log(waits), gains, 1)
    return np.exp(-level / slope)


def test_the_formula_equals_a_replica_that_moves_every_context():
    """Steps bound by weights, as few contexts give: the price over the HBM that contexts compete for is exact."""
    slots, kv_bytes = 9, 8.2e9
    rent = mt.memory_rent(slots * kv_bytes, gpu_usd_per_s=PRICE)
    wait = mt.break_even_idle_time(link_bytes_per_s=PCIE5, gpu_usd_per_s=PRICE, hbm_rent_usd_per_byte_s=rent)
    run = dict(sessions=100_000, slots=slots, swap=kv_bytes / PCIE5, output=300, step=0.011, step_more=0.0)
    found = crossing(wait * np.array([0.8, 1.0, 1.25]), moved=1.0, calls=20_000, **run)
    assert found == pytest.approx(wait, rel=0.1)


@pytest.mark.parametrize(("swap", "step_more"), [(0.036, 0.0), (0.072, 1e-3), (0.05, 3e-4)])
def test_the_formula_with_shadow_prices_equals_a_replica_that_moves_some_contexts(swap, step_more):
    """Memory and GPU time each priced by what they add to throughput, decoding sessions slowing each other."""
    slots, output, step = 24, 300, 0.015
    sizes = dict(output_tokens=output, step_time=step, step_time_per_context=step_more)

    def predicted(wait, h=0.005):
        def rate(n, stall):
            return mt.session_throughput(n, wait_time=wait, exclusive_time=stall, **sizes).rate

        of_memory = np.log(rate(slots * (1 + h), 0) / rate(slots * (1 - h), 0)) / (2 * h)
        of_time = np.log(rate(slots, 0) / rate(slots, h)) / h / rate(slots, 0)
        rent = mt.memory_rent(slots * swap * PCIE5, gpu_usd_per_s=PRICE, elasticity=of_memory)
        return mt.break_even_idle_time(
            link_bytes_per_s=PCIE5, gpu_usd_per_s=PRICE * of_time, hbm_rent_usd_per_byte_s=rent
        )

    wait = 1.0
    for _ in range(60):
        wait = predicted(wait)
    run = dict(sessions=100_000, slots=slots, swap=swap, output=output, step=step, step_more=step_more)
    found = crossing(wait * np.array([0.7, 1.0, 1.4]), moved=0.3, calls=100_000, **run)
    assert found == pytest.approx(wait, rel=0.1)


@pytest.mark.parametrize("sessions", [1, 4, 16, 64, 256])
@pytest.mark.parametrize("slots", [6, 1000])
def test_session_throughput_equals_a_simulation(sessions, slots):
    law = dict(output=300, step=0.015, step_more=1e-3)
    sizes = dict(output_tokens=300, step_time=0.015, step_time_per_context=1e-3)
    run = dict(exclusive=0.4, moved=1.0, calls=20_000, rng=np.random.default_rng(3))
    found = simulated(sessions=sessions, slots=slots, wait=20, **law, **run)
    model = mt.session_throughput(sessions, wait_time=20, exclusive_time=0.4, max_batch=slots, **sizes).rate
    assert model == pytest.approx(found, rel=0.03)


def test_limits_of_a_replica_for_sessions():
    calls = dict(wait_time=20, exclusive_time=0.5, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    assert mt.session_throughput(1, **calls).rate == pytest.approx(1 / (20 + 0.5 + 8.4))
    crowd = mt.session_throughput(1e9, **calls)
    assert crowd.rate == pytest.approx(1 / (0.5 + 0.4))
    assert crowd.call_time == pytest.approx(1e9 * 0.9, rel=1e-3)
    assert mt.session_throughput(1e9, **calls, link_time=5).rate == pytest.approx(1 / 5)
    none = mt.session_throughput(10, **calls, max_batch=0)
    assert (none.rate, none.decoding, none.call_time) == (0, 0, np.inf)
    assert mt.session_throughput(0, **calls).rate == 0
    full = mt.session_throughput(1e6, **calls, max_batch=10)
    assert full.decoding == pytest.approx(10)
    assert full.rate == pytest.approx(10 / (400 * 0.02 + 10 * 0.9))
    with pytest.raises(ValueError, match="output_tokens = 0"):
        mt.session_throughput(1, **calls | {"output_tokens": 0})


def test_throughput_of_sessions_never_falls_with_more_of_anything_and_arrays_equal_scalars():
    rng = np.random.default_rng(5)
    names = ("wait_time", "exclusive_time", "output_tokens", "step_time", "step_time_per_context", "link_time")
    drawn = dict(zip(names, np.exp(rng.normal([2, -1, 5, -4, -7, -2], 1.5, (300, 6)).T), strict=True))
    n, room = rng.integers(1, 300, 300), rng.integers(1, 100, 300)
    base = mt.session_throughput(n, **drawn, max_batch=room)
    assert (mt.session_throughput(n + 1, **drawn, max_batch=room).rate >= base.rate * (1 - 1e-9)).all()
    assert (mt.session_throughput(n, **drawn, max_batch=room + 1).rate >= base.rate * (1 - 1e-9)).all()
    for name in names:
        slower = mt.session_throughput(n, **drawn | {name: 1.1 * drawn[name]}, max_batch=room)
        assert (slower.rate <= base.rate * (1 + 1e-9)).all(), name
    np.testing.assert_allclose(base.rate * (base.call_time + drawn["wait_time"]), n, rtol=1e-6)
    assert (base.decoding <= room + 1e-9).all()
    for i in range(0, 300, 30):
        one = mt.session_throughput(n[i], **{k: v[i] for k, v in drawn.items()}, max_batch=room[i])
        assert one.rate == pytest.approx(base.rate[i])


def test_a_tier_replaces_recomputing_and_a_hidden_transfer_costs_nothing_until_its_link_is_full():
    decode = dict(wait_time=60, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    context = dict(reusable=0.96, prefill_time=8, prefill_new_time=0.4)
    none = mt.tiered_throughput(1e6, hit_hbm=0.3, hit_tiers=0.3, **context, **decode).rate
    lost = 1 - 0.3 / 0.96
    assert none == pytest.approx(1 / (lost * 8 + (1 - lost) * 0.4 + 0.4), rel=1e-3)
    stalled, hidden, slow = (
        mt.tiered_throughput(1e6, hit_hbm=0.3, hit_tiers=0.96, transfer_time=t, stall_fraction=s, **context, **decode)
        for t, s in ((0.5, 1), (0.5, 0), (50, 0))
    )
    assert hidden.rate == pytest.approx(1 / (0.4 + 0.4), rel=1e-3)
    assert stalled.rate == pytest.approx(1 / (0.4 + 0.4 + lost * 0.5), rel=1e-3)
    assert slow.rate == pytest.approx(1 / (lost * 50), rel=1e-3)
    alone = mt.tiered_throughput(1, hit_hbm=0, hit_tiers=0.96, transfer_time=5, **context, **decode)
    assert alone.call_time == pytest.approx(0.4 + 5 + 400 * 0.021)
    with pytest.raises(ValueError, match="hit_tiers"):
        mt.tiered_throughput(1, hit_hbm=0.5, hit_tiers=0.4, **context, **decode)


def in_turn(*, sessions, room, wait, whole, new, decode, calls, rng):
    """Calls per second of a first-come server whose cache holds some contexts, the least recently used out first."""
    line = [(rng.exponential(wait), i) for i in range(sessions)]
    heapq.heapify(line)
    free, begun, stack = 0.0, 0.0, []
    for done in range(calls):
        came, i = heapq.heappop(line)
        free = max(came, free) + (new if i in stack[:room] else whole) + decode
        stack = [i] + [j for j in stack if j != i]
        begun = free if done == calls // 4 else begun
        heapq.heappush(line, (free + rng.exponential(wait), i))
    return (calls - calls // 4) / (free - begun)


@pytest.mark.parametrize("sessions", [8, 20, 24, 28, 32, 36, 40, 64, 128])
def test_a_line_crowds_contexts_out_as_in_a_simulation(sessions):
    """Sessions that come back at random: those in line take their room, the others share what is left."""
    room, law = 24, dict(wait_time=60, prefill_time=6, prefill_new_time=0.4)
    law |= dict(output_tokens=1, step_time=1e-9, step_time_per_context=0.6)
    same = dict(sessions=sessions, room=room, wait=60, whole=6, new=0.4, decode=0.6, calls=8000)
    found = in_turn(**same, rng=np.random.default_rng(1))

    def hits(in_line):
        share = np.clip((room - sessions * in_line) / np.maximum(sessions * (1 - in_line), 1e-9), 0, 1)
        return share, share, 1.0

    for start in (0, 1):
        assert mt.queued_throughput(sessions, hits, start=start, **law).rate == pytest.approx(found, rel=0.1)
    if sessions >= 36:
        assert mt.queued_throughput(sessions, lambda u: hits(0 * u), **law).rate > 1.15 * found


def test_near_the_edge_a_burst_leaves_a_replica_thrashing_and_far_from_it_makes_no_difference():
    replica = dict(wait_time=60, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    replica |= dict(prefill_time=8, prefill_new_time=0.4)

    def rates(n):
        def hits(in_line):
            share = np.where(n * in_line > 10, 0.0, 0.9)
            return share, share, 1.0

        return mt.queued_throughput(n, hits, start=[0, 1], **replica).rate

    assert rates(8)[1] == pytest.approx(rates(8)[0])
    assert rates(24)[1] < 0.5 * rates(24)[0]
    one = mt.queued_throughput(24, lambda u: (0.9 * (24 * u <= 10),) * 2 + (1.0,), start=1, **replica)
    assert one.rate == pytest.approx(rates(24)[1])
    with pytest.raises(ValueError, match="start = 2"):
        mt.queued_throughput(8, lambda u: (0, 0, 1), start=2, **replica)


# ---- caches


def brute_force(items, sizes, capacity):
    """Hits of a least-recently-used cache that holds what fits, from the most recent on, a miss included."""
    stack, hits = [], []
    for item, size in zip(items, sizes, strict=True):
        kept, used = [], 0
        for other, its in stack:
            used += its
            if used > capacity:
                break
            kept.append(other)
        hits.append(item in kept)
        stack = [(item, size)] + [entry for entry in stack if entry[0] != item]
    return hits


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=60), st.integers(0, 60))
def test_stack_distances_equal_a_brute_force_cache(references, capacity):
    items, sizes = map(list, zip(*references, strict=True))
    assert (mt.stack_distances(items, sizes=sizes) <= capacity).tolist() == brute_force(items, sizes, capacity)
    curve = mt.lru_hit_curve(items)
    assert curve.size == len(set(items)) + 1
    for room, share in enumerate(curve):
        assert share == pytest.approx(np.mean(brute_force(items, [1] * len(items), room)))
    shares = mt.lru_hit_share([capacity, np.inf], contexts=items, sizes=np.add(sizes, 1), reusable=sizes)
    hit = brute_force(items, np.add(sizes, 1), capacity)
    assert shares[0] == pytest.approx(np.dot(hit, sizes) / np.sum(np.add(sizes, 1)))


def test_hit_curves_known_by_heart():
    assert mt.lru_hit_curve([5]).tolist() == [0, 0]
    assert mt.lru_hit_curve([5, 5, 5, 5]).tolist() == [0, 0.75]
    around = mt.lru_hit_curve(np.tile(np.arange(10), 5))
    assert around[:10].max() == 0
    assert around[10] == 0.8


@pytest.mark.parametrize("bad", [[], [[1, 2], [3, 4]], [1.0, np.nan]])
def test_references_must_be_a_list(bad):
    with pytest.raises(ValueError, match="items"):
        mt.lru_hit_curve(bad)


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="sizes"):
        mt.stack_distances([1, 2], sizes=[1])
    with pytest.raises(ValueError, match="sizes = -1"):
        mt.stack_distances([1, 2], sizes=[1, -1])
    with pytest.raises(ValueError, match="reusable"):
        mt.lru_hit_share(1, contexts=[1, 1], sizes=[1, 1], reusable=[0, 2])


def test_replay_plays_whole_sessions_in_order_and_stops():
    rng = np.random.default_rng(2)
    sessions = np.repeat(np.arange(20), 5)
    times = np.sort(rng.uniform(0, 100, (20, 5)), axis=1)
    times = (times - times[:, :1]).ravel()
    call, play = mt.replay(sessions, times, n_open=4, horizon_s=600, stagger_s=50, pause_s=10, rng=rng)
    for which in np.unique(play):
        own = call[play == which]
        assert (np.diff(own) == 1).all()
        assert own[0] % 5 == 0
    assert len(np.unique(play)) >= 20
    cut, _ = mt.replay([1, 1, 1], [0, 40, 60], n_open=1, horizon_s=50, stagger_s=0, pause_s=0, rng=rng)
    assert cut.tolist() == [0, 1]
    for wrong in ([1, 2, 1], [1, 1, 1]):
        with pytest.raises(ValueError, match="sessions"):
            mt.replay(
                wrong,
                [0, 0, -0.0] if wrong[1] == 2 else [0, 5, 3],
                n_open=1,
                horizon_s=1,
                stagger_s=1,
                pause_s=1,
                rng=rng,
            )


@at_hand(MOONCAKE, CURVES)
def test_the_conversation_trace_gives_the_known_curve():
    requests = [json.loads(line) for line in MOONCAKE.read_text(encoding="utf-8").splitlines()]
    curve = mt.lru_hit_curve(np.concatenate([r["hash_ids"][: r["input_length"] // 512] for r in requests]).astype(int))
    known = pd.read_csv(CURVES).query("trace == 'mooncake_conversation'")
    room = np.minimum(known["capacity_tokens"] // 512, curve.size - 1).astype(int)
    np.testing.assert_allclose(curve[room], known["lru_hit_frac"], atol=1e-4)


def test_replayed_sessions_reproduce_the_known_medians():
    """Another program's replays of the same sessions; the committed curves are recomputed in the tests of traces."""
    own = catalog.derived("reuse_curves").set_index(["open_sessions", "capacity_tokens"])["hit_share"]
    known = catalog.facts("cache_curves").set_index("item")["value"]
    off = {
        (n, room): own[n, room] - known[f"weka_claude_code | {n} open | {room:.0f}"] / 100
        for n in (1, 8, 32, 128)
        for room in own[n].index
        if f"weka_claude_code | {n} open | {room:.0f}" in known.index
    }
    assert len(off) >= 50
    assert max(map(abs, off.values())) < 0.02, max(off, key=lambda key: abs(off[key]))
    assert own[32].is_monotonic_increasing


def test_whoever_stands_in_line_takes_room_from_the_others():
    rooms, lines = np.array([[1e6], [3e6], [1e7], [np.inf]]), np.linspace(0, 1, 21)
    for n in (1, 8, 32, 128, 2048):
        shares = catalog.reuse_share(n, rooms, in_line=lines)
        assert (np.diff(shares, axis=1) <= 0.01).all()
        np.testing.assert_allclose(shares[-1], shares[-1, 0], atol=0.005)
    assert catalog.reuse_share(32, 3e6, in_line=0.9) < 0.1 < 0.9 < catalog.reuse_share(32, 3e6)
    one = [catalog.reuse_share(32, 3e6, in_line=u) for u in lines]
    np.testing.assert_allclose(catalog.reuse_share(32, 3e6, in_line=lines), one)
    with pytest.raises(ValueError, match="in_line"):
        catalog.reuse_share(8, 1e6, in_line=1.1)


@pytest.mark.slow
def test_served_agents_agree_with_the_event_simulation():
    """Sessions drawn like recorded ones on four H100: at the edge of the cliff the simulation lies between two states."""
    llm, chip = catalog.llm("Meta-Llama-3.1-70B"), catalog.accelerator("H100-SXM-80GB")
    own = dict(n_accelerators=4, weight_bits=8, kv_bits=8)
    group, table, span, warm = Replica(llm=llm, accelerator=chip, **own), dict(max_batch=128, chunk_tokens=2048), 4, 1.5
    rng, span, warm = np.random.default_rng(2026), 3600.0 * span, 3600.0 * warm
    calls = pd.DataFrame(demand.sample_sessions(catalog.session_laws("agent"), 8400, rng=rng)._asdict())
    calls["output_tokens"], calls["wait_s"] = calls["output_tokens"].clip(lower=1), calls["wait_s"].clip(upper=3600)
    calls["session"] = rng.permutation(8400)[calls["session"]]
    calls = calls.sort_values("session", kind="stable", ignore_index=True)
    link = 4 * catalog.tier("PCIe 5.0 x16 host-to-GPU").bandwidth_bytes_per_s
    dram = Tier(name="DRAM", capacity_bytes=1e12, bandwidth_bytes_per_s=link)
    server = simulate.server(group, context_tokens=calls["input_tokens"].mean(), **table)
    for n_open in (8, 12, 16, 20, 24, 32, 48, 64, 96):
        rows = []
        for seed in range(6):
            some = calls[calls["session"].between(1400 * seed, 1400 * seed + 14 * n_open - 1)]
            lanes = simulate.open_sessions(some, n_open, span_s=span, pause_s=60, rng=np.random.default_rng(seed))
            for name, tiers in (("HBM", ()), ("DRAM", (dram,))):
                policy = simulate.Policy(residency="evict", tiers=tiers, **table)
                ended = simulate.serve(lanes, server, policy, seed=0, until_s=span).calls["end_s"].between(warm, span)
                asked = lanes[ended.to_numpy()]
                whole = inference.prefill_time(llm, chip, input_tokens=asked["input_tokens"], **own)
                known = inference.prefill_time(llm, chip, input_tokens=asked["cached_tokens"].clip(lower=1), **own)
                context = asked["input_tokens"].mean()
                replica = dict(
                    wait_time=some["wait_s"].where(some["session"].duplicated(), 60).mean(),
                    output_tokens=asked["output_tokens"].mean(), step_time=server.step_s[1],
                    step_time_per_context=server.context_s * context, prefill_time=whole.mean(),
                    prefill_new_time=(whole - known).mean(), stall_fraction=0.0,
                    transfer_time=server.kv_bytes_per_token * context / link,
                    max_batch=server.memory_bytes / server.kv_bytes_per_token / context,
                )  # fmt: skip
                # the curves are of recorded contexts; these are a little shorter or longer
                size = 117_235 / context / server.kv_bytes_per_token
                rooms = dict(hbm_tokens=size * server.memory_bytes, tier_tokens=size * 1e12 * len(tiers))
                hits = partial(catalog.reuse_by_tier, n_open, **rooms)
                law = (
                    mt.queued_throughput(n_open, lambda u, hits=hits: hits(in_line=u), start=u, **replica).rate
                    for u in (1, 0)
                )
                rows.append((name, ended.sum() / (span - warm), *law))
        mean = pd.DataFrame(rows, columns=["memory", "found", "burst", "idle"]).groupby("memory").mean()
        between = (mean["burst"] + mean["idle"]) / 2 / mean["found"]
        assert between.to_dict() == pytest.approx(dict.fromkeys(between.index, 1), abs=0.2), n_open
        if n_open >= 32:
            assert between["HBM"] == pytest.approx(1, abs=0.05), n_open
        assert mean.loc["HBM", "burst"] < 1.2 * mean.loc["HBM", "found"] < 1.3 * mean.loc["HBM", "idle"], n_open


def thrashing(rate, per_session):
    """Sessions 1 .. 40 of which each brings calls until too many of them thrash."""
    n = np.arange(1.0, 41.0)
    calls = rate * n / (1 + (n / per_session) ** 3)
    return n, mt.SessionLoad(calls, np.zeros(40), n / calls - 10)


def test_most_calls_stop_where_the_limit_of_time_is_reached_and_keep_littles_law():
    n = np.geomspace(1, 1e4, 200)
    replica = dict(wait_time=20.0, exclusive_time=0.5, output_tokens=400, step_time=0.02, step_time_per_context=1e-3)
    found = mt.most_calls(n, mt.session_throughput(n, **replica), wait_time=20.0, max_time=25.0)
    again = mt.session_throughput(found.sessions, **replica)
    assert again.call_time == pytest.approx(25.0, rel=0.01)
    assert again.rate == pytest.approx(found.rate, rel=0.01)
    assert found.sessions == pytest.approx(found.rate * 45.0)


def test_most_calls_turn_sessions_away_before_they_thrash():
    n, load = thrashing(0.1, 12.0)
    found = mt.most_calls(n, load, wait_time=10.0, max_time=np.inf)
    assert (found.rate, found.sessions) == (load.rate.max(), n[load.rate.argmax()])


def test_most_calls_are_none_where_not_even_one_session_is_answered_in_time():
    n, load = thrashing(0.01, 12.0)
    assert mt.most_calls(n, load, wait_time=10.0, max_time=5.0).rate == 0


@given(st.floats(0.02, 0.2), st.floats(2, 30), st.floats(1, 300), st.floats(1, 3))
def test_more_time_never_means_fewer_calls(rate, per_session, limit, longer):
    n, load = thrashing(rate, per_session)
    few, many = (mt.most_calls(n, load, wait_time=10.0, max_time=t).rate for t in (limit, limit * longer))
    assert few <= many * (1 + 1e-9)


def test_most_calls_of_rows_are_those_of_each_row():
    n, first = thrashing(0.1, 12.0)
    second = thrashing(0.15, 5.0)[1]
    both = mt.SessionLoad(*(np.stack(pair) for pair in zip(first, second, strict=True)))
    together = mt.most_calls(n, both, wait_time=10.0, max_time=30.0)
    alone = [mt.most_calls(n, load, wait_time=10.0, max_time=30.0) for load in (first, second)]
    assert np.allclose(np.transpose(together), alone)


def test_most_calls_refuse_sessions_in_disorder():
    n, load = thrashing(0.1, 12.0)
    with pytest.raises(ValueError, match="n_sessions"):
        mt.most_calls(n[::-1], load, wait_time=10.0, max_time=5.0)
