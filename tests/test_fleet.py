"""The joint model against event by event simulation of real weeks, in its limits, and as a sum of bars."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from econmodel import catalog, demand, fleet, simulate
from econmodel.parts import Accelerator, Attention, Llm, Replica, Tier

INF = math.inf
LAYERS = Attention(layers=80, q_heads=64, kv_heads=8, head_dim=128, v_head_dim=128)
LLAMA = Llm(name="70B", params_total=70e9, params_active=70e9, attention=(LAYERS,), hidden_size=8192)
CHIP = Accelerator(name="chip", memory_bytes=80e9, bandwidth_bytes_per_s=3e12, bf16_flop_per_s=1e15)
GROUP = Replica(llm=LLAMA, accelerator=CHIP, n_accelerators=4, weight_bits=16, kv_bits=16)
DRAM = Tier(name="DRAM", capacity_bytes=1e12, bandwidth_bytes_per_s=2e11)
TABLE = dict(max_batch=64, chunk_tokens=2048)
PRICES = fleet.Prices(
    gpu_usd_per_hour=2.0, core_usd_per_hour=0.04, tier_usd_per_gb_hour=0.005, fill_usd_per_gpu_hour=0.5
)
AGENTS = fleet.Workload(name="agents", tasks_per_s=[0.1, 0.4, 0.2], calls_per_task=20, input_tokens=20_000,
                        cached_tokens=18_000, output_tokens=300, wait_s=30, cpu_s=1.0, attempts=1.5)  # fmt: skip
CHATS = fleet.Workload(
    name="chats", tasks_per_s=[20.0, 5.0, 0.0], calls_per_task=1, input_tokens=900, cached_tokens=0, output_tokens=250
)


def policy(residency, **changes):
    tiers = (DRAM,) if residency == "move" else ()
    return simulate.Policy(**(dict(residency=residency, tiers=tiers) | TABLE | changes))


def bars(workload, residency="hold", *, target=30.0, group=GROUP, **options):
    own = dict(prices=PRICES, latency_target=target, policy=policy(residency)) | options
    return fleet.bars(workload, group, **own)


def huge(group):
    return replace(group, accelerator=replace(group.accelerator, memory_bytes=1e18))


@pytest.mark.parametrize("seed", range(12))
def test_no_cause_is_negative_and_one_that_is_switched_off_costs_nothing(seed):
    rng = np.random.default_rng(seed)
    residency, scaling = simulate.RESIDENCIES[seed % 4], ("fixed", "hourly")[seed // 4 % 2]
    context, target = 10 ** rng.uniform(2.5, 4.7), rng.uniform(20, 300)
    agents = replace(
        AGENTS, tasks_per_s=rng.exponential(10 ** rng.uniform(-3, 1), 5), calls_per_task=1 + rng.exponential(20),
        input_tokens=context, cached_tokens=context * rng.uniform(0, 0.99), output_tokens=10 ** rng.uniform(1, 3),
        wait_s=10 ** rng.uniform(-1, 3), attempts=1 + rng.exponential(),
    )  # fmt: skip
    works = [agents, replace(CHATS, tasks_per_s=rng.exponential(10, 5))] if rng.random() < 0.5 else [agents]
    own = dict(target=target, scaling=scaling)
    every = bars(works, residency, **own)
    assert all(bar >= -1e-9 * every["ideal"] for bar in every.values()), every
    if np.isfinite(sum(every.values())):
        planned = fleet.plan(
            works, GROUP, prices=PRICES, latency_target=target, policy=policy(residency), scaling=scaling
        )
        total = planned.totals["usd"] / planned.totals["tasks"]
        assert_allclose([planned.waterfall.sum(), planned.totals["usd_per_task"]], total, rtol=1e-9)
    sure = [replace(work, attempts=1.0) for work in works]
    patient = [replace(work, wait_s=0.0, cpu_s=0.0) for work in works]
    for cause, off in (
        ("failed attempts", bars(sure, residency, **own)),
        ("latency headroom", bars(works, residency, scaling=scaling, target=INF)),
        ("provisioning for the peak", bars(works, residency, target=target, scaling="perfect")),
        ("contexts waiting in memory", bars(patient, residency, **own)),
        ("contexts waiting in memory", bars(works, "hold", group=huge(GROUP), **own)),
    ):
        assert off[cause] == 0, (cause, off)
        assert all(bar >= -1e-9 * off["ideal"] for bar in off.values()), (cause, off)


@pytest.mark.parametrize("residency", simulate.RESIDENCIES)
@pytest.mark.parametrize("others", [[], [CHATS]], ids=["alone", "with chats"])
def test_whatever_is_drawn_a_bar_is_a_number_or_without_bound(residency, others):
    rng, n = np.random.default_rng(9), 150
    context = 10 ** rng.uniform(2, 6, n)
    drawn = replace(
        AGENTS, input_tokens=context, cached_tokens=context * rng.uniform(0, 0.999, n), cpu_s=rng.exponential(3, n),
        output_tokens=10 ** rng.uniform(0, 4, n), wait_s=10 ** rng.uniform(-1, 4, n) * (rng.random(n) > 0.1),
        calls_per_task=1 + rng.exponential(10, n) * (rng.random(n) > 0.1), attempts=1 + rng.exponential(1, n),
    )  # fmt: skip
    own = dict(target=10 ** rng.uniform(0, 3, n), speed=rng.uniform(0.3, 2, n), policy=policy(residency, cpu_cores=32))
    every = np.stack([*bars([drawn, *others], residency, **own).values()])
    assert not np.isnan(every).any()
    finite = np.isfinite(every.sum(axis=0))
    assert 0.3 < finite.mean() < 0.9
    assert (every[:, finite] >= -1e-9 * every[0, finite]).all()


@pytest.mark.parametrize("residency", simulate.RESIDENCIES)
def test_arrays_equal_scalars(residency):
    rng = np.random.default_rng(0)
    draws = dict(output_tokens=rng.uniform(200, 400, 6), wait_s=rng.uniform(0, 60, 6), attempts=rng.uniform(1, 3, 6),
                 tasks_per_s=rng.uniform(0, 1, (6, 3)))  # fmt: skip
    speed, price, target = rng.uniform(0.7, 1.3, 6), rng.uniform(1, 4, 6), rng.uniform(15, 60, 6)
    for others in ([], [CHATS]):
        together = bars([replace(AGENTS, **draws), *others], residency, target=target, speed=speed,
                        prices=replace(PRICES, gpu_usd_per_hour=price))  # fmt: skip
        for i in range(6):
            one = bars([replace(AGENTS, **{name: values[i] for name, values in draws.items()}), *others], residency,
                       target=target[i], speed=speed[i], prices=replace(PRICES, gpu_usd_per_hour=price[i]))  # fmt: skip
            for cause, bar in one.items():
                assert_allclose(together[cause][i], bar, rtol=1e-6, atol=1e-12, err_msg=cause)


def test_without_load_a_call_takes_what_a_lone_call_takes():
    lone = replace(CHATS, tasks_per_s=[1e-6, 0.0], output_quantiles=[1.0], new_quantiles=[1.0])
    planned = fleet.plan(lone, GROUP, prices=PRICES, latency_target=30.0, policy=policy("hold"))
    call = pd.DataFrame(dict(session=[0], input_tokens=900, cached_tokens=0, output_tokens=250, wait_s=0.0))
    alone = simulate.serve(call, GROUP, policy("hold"), seed=0).calls["end_s"][0]
    assert planned.totals["mean_time"] == pytest.approx(alone, rel=0.005)
    assert planned.hours["p99"][0] == pytest.approx(alone, rel=0.005)
    assert planned.hours["replicas"].tolist() == [1, 1]
    assert planned.totals["busy_share"] < 1e-5
    assert planned.totals["idle_gpu_hours"] == 4


def test_half_the_pace_costs_twice_and_a_flat_week_needs_no_provision():
    own = dict(scaling="perfect", prices=fleet.Prices(gpu_usd_per_hour=2.0))
    flat = replace(AGENTS, tasks_per_s=[0.2, 0.2], cpu_s=0.0, wait_s=0.0)
    once, slow = bars(flat, target=30.0, **own), bars(flat, target=60.0, speed=0.5, **own)
    assert_allclose([*slow.values()], [2 * bar for bar in once.values()], rtol=1e-6)
    mixed = [AGENTS, CHATS]
    separate = sum(sum(bars(work, **own).values()) * np.sum(work.tasks_per_s) for work in mixed)
    assert sum(bars(mixed, **own).values()) * sum(np.sum(work.tasks_per_s) for work in mixed) < 2 * separate


def test_a_call_slower_than_the_target_costs_without_bound():
    every = bars(AGENTS, target=1.0)
    assert every["latency headroom"] == INF
    assert sum(every.values()) == INF
    long = replace(AGENTS, input_tokens=2e6, cached_tokens=1.9e6)
    assert bars(long)["ideal"] == INF


def test_sessions_that_hold_their_room_need_memory_for_all_that_wait():
    """By hand: long waits, so that calls in service do not count; half a context is left over on average."""
    alike = replace(AGENTS, wait_s=1e6, cpu_s=0.0, attempts=1.0, tasks_per_s=[1.0], peak_quantiles=[1.0])
    own = dict(target=INF, scaling="perfect", prices=fleet.Prices(gpu_usd_per_hour=1.0))
    server = simulate.server(GROUP, context_tokens=20_000, **TABLE)
    context = server.kv_fixed_bytes + server.kv_bytes_per_token * 20_300
    replicas = 20 * (1 - 1 / 20) * 1e6 / (server.memory_bytes / context - 0.5)
    assert sum(bars(alike, "hold", **own).values()) == pytest.approx(4 * replicas / 3600, rel=0.01)
    free = bars(alike, "move", **own)
    assert free["contexts waiting in memory"] > 0  # DRAM overflows
    roomy = policy("move", tiers=(replace(DRAM, capacity_bytes=1e18, bandwidth_bytes_per_s=1e15),))
    assert bars(alike, policy=roomy, **own)["contexts waiting in memory"] < 1e-3 * free["ideal"]


def test_dropped_contexts_are_computed_again():
    """By hand: with one token to answer, work is the prompt: ten times of it, ten times the fleet."""
    prompts = replace(AGENTS, output_tokens=1.0, cached_tokens=18_000, attempts=1.0, cpu_s=0.0, pairs=0.0)
    own = dict(target=INF, scaling="perfect")
    every = bars(prompts, "recompute", **own)
    assert sum(every.values()) / every["ideal"] == pytest.approx(10, rel=0.2)  # attention makes it more


def test_few_nodes_of_the_chain_stand_for_all():
    """Against every number in hand, and against the chain of `utilization`."""
    from econmodel import utilization

    rules = policy("recompute", max_batch=512)
    box = fleet._box(GROUP, rules, 900.0, 1.0)
    calls = fleet._mixed([np.ones(1)], [fleet._calls(replace(CHATS, new_quantiles=[1.0], input_quantiles=[1.0]), box)])
    with np.errstate(all="ignore"):
        few, every = (
            fleet._chain(box, calls, fleet._NONE, nodes) for nodes in (fleet._nodes(box, calls), np.arange(513.0))
        )
    for load in (0.1, 0.5, 0.9, 0.99):
        rate = load * every.limit
        with np.errstate(all="ignore"):
            one, all_ = fleet._state(few, rate), fleet._state(every, rate)
        assert_allclose(one.time, all_.time, rtol=0.005)  # a tenth of what the mean may miss
        bare = utilization.state_dependent_queue(rate[0], every.pace.rate[0])
        assert_allclose(all_.time - all_.queued - all_.extra, bare.mean_time, rtol=1e-6)


def test_more_of_a_part_saves_where_it_binds():
    saved = fleet.plan(AGENTS, GROUP, prices=PRICES, latency_target=30.0, policy=policy("hold")).totals
    assert saved["saved_usd_per_gb_hbm"] > 0
    assert saved["saved_usd_per_gb_s_hbm"] > 0
    assert saved["saved_usd_per_gb_s_link"] == 0
    tight = policy("move", link_bytes_per_s=3e9, cpu_cores=2)
    saved = fleet.plan(AGENTS, GROUP, prices=PRICES, latency_target=60.0, policy=tight).totals
    assert saved["saved_usd_per_gb_s_link"] > 0 or saved["saved_usd_per_core"] > 0


@pytest.mark.parametrize(
    "rules",
    [
        policy("hold"), policy("recompute"), policy("evict"), policy("evict", tiers=(DRAM,)), policy("move"),
        policy("move", tiers=(replace(DRAM, capacity_bytes=5e10, bandwidth_bytes_per_s=2e10),)),
    ],
    ids=["hold", "recompute", "evict", "evict to DRAM", "move", "move and overflow"],
)  # fmt: skip
def test_more_time_or_more_of_a_part_never_costs_more(rules):
    def cost(group=GROUP, target=30.0, rules=rules):
        long = replace(AGENTS, input_tokens=40_000, cached_tokens=38_000, wait_s=60)
        own = dict(scaling="perfect", prices=fleet.Prices(gpu_usd_per_hour=2.0))
        return sum(bars(long, group=group, target=target, policy=rules, **own).values())

    base, times = cost(), [cost(target=target) for target in (20.0, 25.0, 30.0, 45.0, 90.0, 300.0, INF)]
    assert all(longer <= shorter * (1 + 1e-6) for shorter, longer in pairwise(times)), times
    for part in ("memory_bytes", "bandwidth_bytes_per_s", "bf16_flop_per_s"):
        better = replace(GROUP, accelerator=replace(CHIP, **{part: 1.2 * getattr(CHIP, part)}))
        assert cost(group=better) < base, part
    wide = [
        replace(t, bandwidth_bytes_per_s=1.2 * t.bandwidth_bytes_per_s, capacity_bytes=1.2 * t.capacity_bytes)
        for t in rules.tiers
    ]
    assert cost(rules=replace(rules, tiers=wide)) <= base * (1 + 1e-6)


def test_tokens_pay_for_the_week():
    for residency in ("hold", "move"):
        planned = fleet.plan([AGENTS, CHATS], GROUP, prices=PRICES, latency_target=30.0, policy=policy(residency))
        totals, calls = planned.totals, planned.hours["calls_per_s"]
        agents = 3600 * sum(AGENTS.tasks_per_s) * 20 * 1.5
        chats = 3600 * sum(CHATS.tasks_per_s)
        paid = totals["usd_per_million_input_tokens"] * (agents * 2000 + chats * 900) / 1e6
        paid += totals["usd_per_million_cached_tokens"] * agents * 18_000 / 1e6
        paid += totals["usd_per_million_output_tokens"] * (agents * 300 + chats * 250) / 1e6
        assert paid == pytest.approx(totals["usd"], rel=1e-9)
        assert totals["calls"] == pytest.approx(3600 * calls.sum())
        assert (planned.hours["mean_time"] <= 30 * (1 + 1e-6)).all()
        assert (planned.hours["p99"] > planned.hours["mean_time"]).all()
        assert planned.hours["usd"].sum() == pytest.approx(totals["usd"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(AGENTS, attempts=0.5), "attempts - 1 = -0.5"),
        (lambda: replace(AGENTS, calls_per_task=0), "calls_per_task - 1 = -1"),
        (lambda: replace(AGENTS, cached_tokens=20_000), "input_tokens - cached_tokens = 0"),
        (lambda: replace(AGENTS, tasks_per_s=1.0), "tasks_per_s = 1.0 is not allowed: at least one hour"),
        (lambda: replace(AGENTS, wait_s=math.nan), "wait_s = nan"),
        (lambda: fleet.Prices(gpu_usd_per_hour=-1.0), "gpu_usd_per_hour = -1"),
        (lambda: bars(AGENTS, target=0.0), "latency_target = 0"),
        (lambda: bars(AGENTS, scaling="weekly"), "scaling = 'weekly'"),
        (lambda: bars(AGENTS, speed=0.0), "speed = 0"),
        (lambda: bars([AGENTS, replace(CHATS, tasks_per_s=[1.0])]), "tasks_per_s of different length"),
        (
            lambda: fleet.plan(replace(AGENTS, wait_s=np.ones(2)), GROUP, prices=PRICES, latency_target=30.0,
                               policy=policy("hold")),
            "bars takes draws",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# against simulation


def sessions(kind, n, rng):
    """Calls of single chats, or of agents that their model's context can hold."""
    if kind != "agents":
        mean = [catalog.fact("request_sizes", f"{kind} | {side}_tokens", "mean").value for side in ("input", "output")]
        tokens = np.ceil(rng.exponential(mean, (n, 2))).T
        return pd.DataFrame(
            dict(session=np.arange(n), input_tokens=tokens[0], cached_tokens=0, output_tokens=tokens[1], wait_s=0.0)
        )
    calls = pd.DataFrame(demand.sample_sessions(catalog.session_laws("agent"), n, rng=rng)._asdict())
    calls["output_tokens"], calls["wait_s"] = calls["output_tokens"].clip(lower=1), calls["wait_s"].clip(upper=60)
    longest = (calls["input_tokens"] + calls["output_tokens"]).groupby(calls["session"]).transform("max")
    return calls[longest <= catalog.llm("Meta-Llama-3.1-70B").max_positions].reset_index(drop=True)


def dealt(calls, starts, rng):
    """Sessions out of a pool, one at each start."""
    first = np.flatnonzero(~calls["session"].duplicated())
    chosen = rng.integers(len(first), size=len(starts))
    size = np.diff(np.append(first, len(calls)))[chosen]
    begin = size.cumsum() - size
    table = calls.iloc[np.repeat(first[chosen] - begin, size) + np.arange(size.sum())].reset_index(drop=True)
    table["session"] = np.repeat(np.arange(len(starts)), size)
    table.loc[begin, "wait_s"] = starts
    return table


LARGE, MEDIUM = ("Meta-Llama-3.1-405B", 8), ("Meta-Llama-3.1-70B", 4)
#: Kind of calls, policy, model, latency target, calls per second at the peak.
CASES = [
    ("agents", "hold", MEDIUM, 12.0, 7.0),
    ("agents", "move", MEDIUM, 12.0, 7.0),
    ("mooncake_conversation", "recompute", MEDIUM, 12.0, 10.0),
    ("servegen_m_large", "recompute", LARGE, 20.0, 10.0),
]


def compared(kind, residency, model, target, peak, *, hours, bursty=False):
    """
    Plan and simulation of thinned hours of a chat service: mean, p99, and the fleet with which the calls of the busiest
    hours take as long as planned, between whole replicas by interpolation of the pace.
    """
    rng, table = np.random.default_rng(5), dict(max_batch=256, chunk_tokens=2048)
    llm, chip = catalog.llm(model[0]), catalog.accelerator("H100-SXM-80GB")
    group = Replica(llm=llm, accelerator=chip, n_accelerators=model[1], weight_bits=8, kv_bits=8)
    link = model[1] * catalog.tier("PCIe 5.0 x16 host-to-GPU").bandwidth_bytes_per_s
    dram = Tier(name="DRAM", capacity_bytes=2e12, bandwidth_bytes_per_s=link)
    rules = simulate.Policy(residency=residency, tiers=(dram,) if residency == "move" else (), **table)
    week = catalog.derived("load_profiles").query("series == 'azure2024_conv'")["rate"].to_numpy()[:hours]
    pool = sessions(kind, 4000 if kind == "agents" else 40_000, rng)
    tasks_per_s = peak * week / week.max() * pool["session"].nunique() / len(pool)
    work = fleet.workload(pool, name=kind, tasks_per_s=tasks_per_s)
    planned = fleet.plan(work, group, prices=PRICES, latency_target=target, policy=rules)
    bursts = catalog.derived("burstiness").query("series == 'mooncake_conversation' and variance > 0")
    bursts = dict(windows=bursts["window_s"], variances=bursts["variance"]) if bursty else {}
    calls = dealt(pool, demand.sample_arrivals(tasks_per_s, bin_seconds=3600.0, rng=rng, **bursts), rng)
    server = simulate.server(group, context_tokens=work.input_tokens, **table)
    busiest = planned.hours["calls_per_s"].nlargest(hours // 12).index
    size, clock = int(planned.totals["replicas_at_peak"]), dict(seed=1, bin_s=3600.0, until_s=3600.0 * hours)

    def simulated(n):
        served = simulate.serve(calls, server, rules, n_replicas=n, **clock).calls.query("status == 'served'")
        time = served["end_s"] - served["ready_s"]
        by_hour = time.groupby((served["ready_s"] // 3600).astype(int))
        count = by_hour.size()
        late = by_hour.sum()[busiest].sum() / count[busiest].sum() / planned.hours["mean_time"][busiest].mean()
        return late, time.mean(), (by_hour.quantile(0.99) * count).sum() / count.sum()

    late, mean, p99 = simulated(size)
    row = dict(mean=planned.totals["mean_time"] / mean - 1, p99=planned.totals["p99"] / p99 - 1)
    if not bursty:
        other = size - 1 if late <= 1 else size + 1
        found = np.interp(1.0, *zip(*sorted([(1 / late, size), (1 / simulated(other)[0], other)]), strict=True))
        row |= dict(fleet=size / found - 1)
    print(f"{kind:22} {residency:10} bursty {bursty!s:5} replicas {size}: plan over simulation",
          ", ".join(f"{name} {value:+.1%}" for name, value in row.items()))  # fmt: skip
    return row


@pytest.mark.parametrize("case", [1, 2])
def test_a_day_is_as_simulated(case):
    off = compared(*CASES[case][:-1], 5.0, hours=24)
    assert abs(off["fleet"]) < 0.1
    assert abs(off["mean"]) < 0.05
    assert abs(off["p99"]) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("bursty", [False, True])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_week_is_as_simulated(case, bursty):
    """Run with -s to see the table."""
    off = compared(*CASES[case], hours=168, bursty=bursty)
    assert 1 / 1.5 < 1 + off["p99"] < 1.5
    if not bursty:
        assert abs(off["fleet"]) < 0.1
        assert abs(off["mean"]) < 0.05
        assert abs(off["p99"]) < 0.2
