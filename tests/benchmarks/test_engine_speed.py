"""Speed of the event loops as ratios to named alternatives, timed in one run; the ratios are printed."""

import time

import numba
import numpy as np
import pandas as pd
import pytest
import simpy

from econmodel import simulate

ENGINE = simulate.Server(step_s=np.maximum(0.012, 2e-5 * np.arange(1000)) + 0.003, context_s=2e-8, attention_s=1e-10,
                         kv_bytes_per_token=1.3e5, memory_bytes=60e9)  # fmt: skip
POLICY = simulate.Policy(residency="recompute", max_batch=256, chunk_tokens=512)


def best(function, repeat=5):
    """Least processor time of several runs, in seconds: other work on the machine counts less."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def customers(n, servers=100, load=0.95):
    """Arrivals and services of M/M/c."""
    rng = np.random.default_rng(0)
    return rng.exponential(1 / (load * servers), n).cumsum(), rng.exponential(size=n), servers


@numba.njit
def bare(arrivals, services, servers):
    """A heap of free times, and nothing else."""
    free, waits = np.zeros(servers), np.empty(arrivals.size)
    for i in range(arrivals.size):
        start = max(arrivals[i], free[0])
        waits[i] = start - arrivals[i]
        end, place = start + services[i], 0
        while True:
            child = 2 * place + 1
            if child >= servers:
                break
            if child + 1 < servers and free[child + 1] < free[child]:
                child += 1
            if free[child] >= end:
                break
            free[place] = free[child]
            place = child
        free[place] = end
    return waits


def in_simpy(arrivals, services, servers):
    """The same queue as processes and a resource."""
    env, waits = simpy.Environment(), np.empty(arrivals.size)
    pool = simpy.Resource(env, servers)

    def customer(i):
        with pool.request() as turn:
            yield turn
            waits[i] = env.now - arrivals[i]
            yield env.timeout(services[i])

    def source():
        for i, gap in enumerate(np.diff(arrivals, prepend=0.0)):
            yield env.timeout(gap)
            env.process(customer(i))

    env.process(source())
    env.run()
    return waits


def test_waits_beat_simpy_a_hundredfold_and_keep_up_with_a_bare_loop(benchmark):
    many, few = customers(1_000_000), customers(20_000)
    np.testing.assert_allclose(simulate.queue_waits(*few), in_simpy(*few), atol=1e-6)
    np.testing.assert_array_equal(simulate.queue_waits(*few), bare(*few))
    benchmark.pedantic(simulate.queue_waits, many, rounds=3)
    own, loop = (best(lambda f=f: f(*many)) for f in (simulate.queue_waits, bare))
    process = best(lambda: in_simpy(*few), 2) * 50
    print(
        f"\nqueue_waits: {1 / own:.1f} M customers/s, {process / own:.0f} times SimPy, {own / loop:.2f} of a bare loop's time"
    )
    assert process >= 100 * own
    assert own <= 1.5 * loop


def chat(n, rate=25.0):
    """Requests like chat: 600 tokens in, 200 out; most of the batch in use."""
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        dict(session=np.arange(n), input_tokens=rng.lognormal(6, 0.8, n).astype(int) + 1, cached_tokens=0,
             output_tokens=rng.geometric(1 / 200, n), wait_s=rng.exponential(1 / rate, n).cumsum())
    )  # fmt: skip


def test_half_a_million_requests_a_second_are_served(benchmark):
    calls = chat(200_000)
    served = benchmark.pedantic(simulate.serve, (calls, ENGINE, POLICY), dict(seed=0), rounds=3)
    own = best(lambda: simulate.serve(calls, ENGINE, POLICY, seed=0))
    busy = served.series["in_service"][5:-5].mean()
    print(f"\nserve: {len(calls) / own / 1e6:.2f} M requests/s with {busy:.0f} calls in service")
    assert len(calls) / own >= 5e5


@pytest.mark.parametrize("few", [100_000])
def test_ten_million_requests_cost_n_log_n(benchmark, few):
    """A hundred times the requests take at most a hundred times (log n / log few) the time, and half more for caches."""
    times = {}
    for n in (few, 10 * few, 100 * few):
        calls = chat(n)
        times[n] = best(
            lambda calls=calls: simulate.serve(calls, ENGINE, POLICY, seed=0, bin_s=3600.0), 3 if n == few else 1
        )
        print(f"\nserve: {n:.0e} requests in {times[n]:.2f} s, {n / times[n] / 1e6:.2f} M/s", end="")
    benchmark.pedantic(simulate.serve, (chat(few), ENGINE, POLICY), dict(seed=0), rounds=1)
    growth = 100 * np.log(100 * few) / np.log(few)
    assert times[100 * few] / times[few] <= 1.5 * growth
