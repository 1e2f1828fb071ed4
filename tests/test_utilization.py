"""Queues: published numbers, limits, arrays against scalars, properties, and simulation as the judge."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from econmodel import simulate
from econmodel import utilization as u

INF = math.inf
MMC = dict(service_rate=1.0)


# published numbers


@pytest.mark.parametrize(("load", "servers", "waits"), [(1, 2, 1 / 3), (2, 3, 4 / 9), (0.9, 1, 0.9), (8, 10, 0.409)])
def test_textbook_values_of_erlang_c(load, servers, waits):
    assert u.erlang_c(load, servers) == pytest.approx(waits, abs=5e-4)


def test_one_server_is_the_exponential_law_of_the_textbook():
    for p in (0.1, 0.5, 0.99):
        assert u.sojourn_quantile(p, arrival_rate=0.8, n_servers=1, **MMC) == pytest.approx(-math.log1p(-p) / 0.2)
    assert u.mean_wait(arrival_rate=0.8, n_servers=1, **MMC) == pytest.approx(4.0)


def test_machine_repair_by_hand():
    """Three machines, one repairman: weights 1, 0.3, 0.06, 0.006."""
    assert u.finite_source_utilization(3, 1, busy_time=1, think_time=10) == pytest.approx(0.366 / 1.366)


# limits


@pytest.mark.parametrize("servers", [1, 2, 7, 100, 10**4])
def test_erlang_c_equals_its_recursion(servers):
    for share in (0.1, 0.7, 0.99):
        inverse = 1.0
        for k in range(1, servers + 1):
            inverse = 1 + inverse * k / (share * servers)
        exact = 1 / (inverse * (1 - share) + share)
        assert u.erlang_c(share * servers, servers) == pytest.approx(exact, rel=1e-12)


def test_a_million_servers_follow_the_square_root_rule():
    """Halfin and Whitt: with c = a + b sqrt(a), P(wait) tends to 1 / (1 + b Phi(b) / phi(b))."""
    load, b = 1e6 - 1e3, 1.0
    phi, cumulative = math.exp(-(b**2) / 2) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(b / math.sqrt(2)))
    assert u.erlang_c(load, 10**6) == pytest.approx(1 / (1 + b * cumulative / phi), rel=2e-3)


def test_queues_at_the_edges():
    assert u.erlang_c(0, 5) == 0
    assert u.erlang_c([5, 6], 5).tolist() == [1, 1]
    assert u.mean_wait(arrival_rate=0, n_servers=5, **MMC) == 0
    assert u.mean_wait(arrival_rate=5, n_servers=5, **MMC) == INF
    assert u.wait_quantile(1, arrival_rate=1, n_servers=5, **MMC) == INF
    assert u.wait_quantile(0.3, arrival_rate=1, n_servers=5, **MMC) == 0
    assert u.sojourn_quantile(0.9, arrival_rate=[0, 7, 9], n_servers=7, **MMC).tolist() == [
        pytest.approx(math.log(10)), INF, INF,
    ]  # fmt: skip
    assert u.sojourn_quantile([0, 1], arrival_rate=1, n_servers=2, **MMC).tolist() == [0, INF]


def test_where_both_rates_meet_the_sojourn_is_continuous():
    """At c - a = 1 the two exponentials coincide."""
    near = u.sojourn_quantile(0.99, arrival_rate=7 + np.array([-1e-9, 0, 1e-9]), n_servers=8, **MMC)
    assert_allclose(near, near[1], rtol=1e-8)
    waits, time = u.erlang_c(7, 8), near[1]
    assert math.exp(-time) * (1 + waits * time) == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize("p", [1e-12, 0.5, 1 - 1e-12])
def test_quantiles_solve_their_equation_far_out(p):
    time = u.sojourn_quantile(p, arrival_rate=95, n_servers=100, **MMC)
    waits = u.erlang_c(95, 100)
    beyond = math.exp(-time) + waits * (math.exp(-5 * time) - math.exp(-time)) / (1 - 5)
    assert 1 - p == pytest.approx(beyond, rel=1e-9)


def test_birth_death_contains_erlang_c_and_the_shedding_queue():
    rates = np.arange(1, 101.0)
    queue = u.state_dependent_queue(95.0, rates)
    assert queue.p_wait == pytest.approx(u.erlang_c(95, 100), rel=1e-12)
    assert queue.mean_time == pytest.approx(1 + u.mean_wait(arrival_rate=95, n_servers=100, **MMC), rel=1e-12)
    assert queue.mean_wait == pytest.approx(queue.mean_time - 1, rel=1e-9)
    assert queue.busy_share == pytest.approx(0.95)
    loss = u.state_dependent_queue([3.0] * 5 + [0.0], np.arange(1, 6.0))
    erlang_b = (3**5 / 120) / sum(3**k / math.factorial(k) for k in range(6))
    assert loss.throughput == pytest.approx(3 * (1 - erlang_b), rel=1e-12)
    assert (loss.p_wait, loss.mean_wait, loss.mean_time) == (0, 0, pytest.approx(1))


def test_birth_death_keeps_its_digits_with_many_states():
    queue = u.state_dependent_queue(99_900.0, np.arange(1, 100_001.0))
    assert queue.mean_wait == pytest.approx(u.mean_wait(arrival_rate=99_900, n_servers=100_000, **MMC), rel=1e-9)


def test_birth_death_at_the_edges():
    assert u.state_dependent_queue(0, [2.0]).mean_time == 0.5
    assert u.state_dependent_queue(2, [2.0]).mean_time == INF
    assert u.state_dependent_queue(1, [2.0, 0.0]).mean_in_system == INF
    assert u.state_dependent_queue(1, [0.0]).busy_share == 1
    assert u.state_dependent_queue([1, 0], [2.0, 0.0]).p_empty == pytest.approx(2 / 3)
    assert u.state_dependent_queue([0, 5], [2.0]).throughput == 0


def test_ceilings_in_the_head():
    """Ten contexts fit and a call is busy half of the time: five of the twenty that saturate."""
    ceilings = u.busy_share_ceilings(
        busy_time=1, think_time=1, kv_bytes=1, memory_bytes=10, link_bytes_per_s=10, step_concurrency=20
    )
    assert ceilings == (1, 0.25, 0.25)
    wide = u.busy_share_ceilings(
        busy_time=1, think_time=[0, 9], kv_bytes=1, memory_bytes=INF, link_bytes_per_s=INF, step_concurrency=20
    )
    assert [x.tolist() for x in wide] == [[1, 1], [1, 1], [1, 1]]


def test_replica_fleet_in_the_head():
    """A single server at rate 1 keeps a mean time of 4 up to load 3/4."""
    assert u.replicas_for(75.0, completion_rates=[1.0], max_time=4.0) == 100
    assert u.replicas_for([75.0, 75.01, 0], completion_rates=[1.0], max_time=4.0).tolist() == [100, 101, 0]


def test_autoscalers_in_the_head():
    perfect = u.perfect_autoscaler([0, 10, 25, 30.000000000000004], capacity_per_server=10)
    assert (perfect.servers.tolist(), perfect.peak, perfect.mean, perfect.server_bins) == ([0, 1, 3, 3], 3, 1.75, 7)
    late = u.lagged_autoscaler([10, 10, 30, 10, 10, 10], capacity_per_server=10, lag_bins=1, hold_bins=1)
    assert late.servers.tolist() == [1, 1, 1, 3, 3, 1]
    assert late.unserved_share == 20 / 80
    assert u.lagged_autoscaler([10, 30], capacity_per_server=10, lag_bins=0).unserved_share == 0
    ready = u.lagged_autoscaler([10, 12, 14], capacity_per_server=1, lag_bins=1, headroom=0.2)
    assert ready.unserved_share == 0


def test_opposite_time_zones_halve_the_fleet_and_equal_ones_win_nothing():
    day = np.array([4, 4, 0, 0])
    assert u.pooling_gain([day, day]) == 1
    assert u.pooling_gain([day, day], shifts=[0, 2]) == 2


# arrays, properties, bad input


def test_arrays_equal_scalars():
    loads, servers = np.array([0.5, 3.0, 9.9]), np.array([1, 4, 10])
    for f, more in ((u.sojourn_quantile, (0.9,)), (u.wait_quantile, (0.9,)), (u.mean_wait, ())):
        many = f(*more, arrival_rate=loads, n_servers=servers, **MMC)
        assert_allclose(
            many, [f(*more, arrival_rate=a, n_servers=c, **MMC) for a, c in zip(loads, servers, strict=True)]
        )
    many = u.state_dependent_queue(loads[:, None], [4.0, 8.0, 10.5])
    for i, load in enumerate(loads):
        assert_allclose([field[i] for field in many], u.state_dependent_queue(load, [4.0, 8.0, 10.5]))
    finite = u.finite_source_utilization([1, 30], 4, busy_time=1, think_time=[3, 5])
    assert_allclose(
        finite, [u.finite_source_utilization(n, 4, busy_time=1, think_time=z) for n, z in ((1, 3), (30, 5))]
    )


@given(st.floats(0, 0.999), st.integers(1, 300), st.floats(0.01, 0.99))
def test_sojourns_contain_service_and_grow_with_load(share, servers, p):
    low, high = u.sojourn_quantile(
        p, arrival_rate=np.array([share, (1 + share) / 2]) * servers, n_servers=servers, **MMC
    )
    assert -math.log1p(-p) <= low * (1 + 1e-12)
    assert low <= high * (1 + 1e-12)
    assert u.wait_quantile(p, arrival_rate=share * servers, n_servers=servers, **MMC) <= low


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_chains_balance_and_close(rates, arrivals):
    """Little's law, probability and balance by brute force on a chain with a closed door."""
    arrivals = [*arrivals, 0.0]
    queue = u.state_dependent_queue(arrivals, rates)
    p = [1.0]
    for n in range(1, len(arrivals)):
        p.append(p[-1] * arrivals[n - 1] / rates[min(n, len(rates)) - 1])
    p = np.array(p) / sum(p)
    assert queue.p_empty == pytest.approx(p[0], rel=1e-9)
    assert queue.mean_in_system == pytest.approx(p @ np.arange(len(p)), rel=1e-9, abs=1e-12)
    assert queue.throughput == pytest.approx(p @ arrivals, rel=1e-9, abs=1e-12)
    if queue.throughput:
        assert queue.mean_time * queue.throughput == pytest.approx(queue.mean_in_system, rel=1e-9)


@given(st.integers(0, 60), st.integers(1, 20), st.floats(0, 5), st.floats(0, 50))
def test_busy_slots_are_a_share_that_grows_with_sessions(sessions, slots, busy, think):
    times = dict(busy_time=busy, think_time=think)
    less, more = u.finite_source_utilization([sessions, sessions + 1], slots, **times)
    assert 0 <= less <= more * (1 + 1e-9) <= 1 + 2e-9
    assert u.finite_source_utilization(sessions, slots, busy_time=1, think_time=0) == min(sessions / slots, 1)


@given(st.floats(0.1, 500), st.floats(0.5, 0.999), st.floats(0, 3))
def test_the_fleet_for_a_target_is_the_smallest(load, p, wait):
    servers = u.servers_for(arrival_rate=load, probability=p, max_wait=wait, **MMC)
    assert u.wait_quantile(p, arrival_rate=load, n_servers=servers, **MMC) <= wait
    fewer = max(servers - 1, 1)
    assert servers == 1 or u.wait_quantile(p, arrival_rate=load, n_servers=fewer, **MMC) > wait


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: u.erlang_c(-1, 2), "offered_load = -1"),
        (lambda: u.erlang_c(1, 0), "n_servers = 0"),
        (lambda: u.erlang_c(1, 1.5), "n_servers = 1.5"),
        (lambda: u.mean_wait(arrival_rate=1, service_rate=0, n_servers=1), "service_rate = 0"),
        (lambda: u.sojourn_quantile(1.5, arrival_rate=1, service_rate=2, n_servers=1), "probability = 1.5"),
        (lambda: u.state_dependent_queue(-1, [1]), "arrival_rate = -1"),
        (lambda: u.state_dependent_queue(1, [math.nan]), "completion_rates = nan"),
        (lambda: u.state_dependent_queue(1, []), "completion_rates = \\[\\]"),
        (lambda: u.finite_source_utilization(2, 1, busy_time=1, think_time=-1), "think_time = -1"),
        (lambda: u.servers_for(arrival_rate=1, service_rate=1, probability=1, max_wait=1), "probability = 1"),
        (lambda: u.replicas_for(1, completion_rates=[1], max_time=1), "max_time = 1"),
        (lambda: u.perfect_autoscaler([1, math.nan], capacity_per_server=1), "counts = nan"),
        (lambda: u.perfect_autoscaler([], capacity_per_server=1), "counts = "),
        (lambda: u.lagged_autoscaler([1], capacity_per_server=1, lag_bins=0.5), "lag_bins = 0.5"),
        (lambda: u.pooling_gain([1, 2]), "counts = "),
        (lambda: u.batch_latency_quantile(0.5, lengths=[-1], queue=u.state_dependent_queue(1, [2])), "lengths = -1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# simulation as the judge


@pytest.mark.parametrize("share", [0.8, 0.95])
@pytest.mark.parametrize("servers", [1, 8, 100])
def test_sojourn_quantiles_equal_simulation(servers, share):
    rng, n = np.random.default_rng(servers), 4_000_000
    service = rng.exponential(size=n)
    waits = simulate.queue_waits(rng.exponential(1 / (share * servers), n).cumsum(), service, servers)
    batches = np.array_split((waits + service)[n // 10 :], 20)
    for p in (0.5, 0.99):
        found = np.array([np.quantile(batch, p) for batch in batches])
        exact = u.sojourn_quantile(p, arrival_rate=share * servers, n_servers=servers, **MMC)
        error = found.std(ddof=1) / math.sqrt(len(found))
        assert abs(found.mean() - exact) <= 3 * error, (
            f"p{100 * p:g}: {found.mean():.4f} +- {error:.4f} against {exact:.4f}"
        )


def test_batching_latency_quantiles_equal_simulation_when_shared_equally():
    """A pace that stops growing at 16 in hand: median and 90th percentile within 2 %, 99th within 4 %."""
    rng, n, slots, mean = np.random.default_rng(5), 200_000, 64, 1e6
    lengths = np.maximum(rng.lognormal(-0.5, 1, n) * mean, 1).astype(int)
    engine = simulate.Server(step_s=np.maximum(np.arange(slots + 65), 16) / 16 / mean, context_s=0.0, attention_s=0.0,
                             kv_bytes_per_token=0.0, memory_bytes=INF)  # fmt: skip
    policy = simulate.Policy(residency="recompute", max_batch=slots, chunk_tokens=64)
    n_in = np.arange(1, slots + 1)
    rates = n_in / np.maximum(n_in, 16) * 16
    for share in (0.5, 0.8):
        calls = dict(session=np.arange(n), input_tokens=1, cached_tokens=0, output_tokens=lengths)
        served = simulate.serve(
            pd.DataFrame(calls).assign(wait_s=rng.exponential(1 / (16 * share), n).cumsum()), engine, policy, seed=0
        )
        latency = (served.calls["end_s"] - served.calls["ready_s"])[n // 10 :]
        queue = u.state_dependent_queue(16 * share, rates)
        for p, allowed in ((0.5, 0.02), (0.9, 0.02), (0.99, 0.04)):
            ours = u.batch_latency_quantile(p, lengths=lengths, queue=queue)
            print(f"load {share}, p{100 * p:g}: {ours / np.quantile(latency, p) - 1:+.1%}")
            assert ours == pytest.approx(np.quantile(latency, p), rel=allowed)


def test_idle_blocks_add_up_to_the_idle_hours():
    servers = np.random.default_rng(0).integers(0, 9, 200)
    assert u.idle_blocks(servers, fleet=10).sum() == (10 - servers).sum()
    assert u.idle_blocks([0, 0, 0], fleet=2).tolist() == [3, 3]
    assert u.idle_blocks([2, 2], fleet=2).size == 0
    with pytest.raises(ValueError, match="servers = 3"):
        u.idle_blocks([3], fleet=2)


@pytest.mark.parametrize("servers", [1, 8])
def test_batching_latency_with_constant_pace_is_the_sojourn_in_a_queue(servers):
    """Then wait and service are independent and both exact, whatever the number of slots."""
    lengths = -np.log1p(-(np.arange(20_000) + 0.5) / 20_000)
    queue = u.state_dependent_queue(0.9 * servers, np.arange(1, servers + 1.0))
    for p in (0.5, 0.9, 0.99):
        exact = u.sojourn_quantile(p, arrival_rate=0.9 * servers, n_servers=servers, **MMC)
        assert u.batch_latency_quantile(p, lengths=lengths, queue=queue) == pytest.approx(exact, rel=2e-3)
