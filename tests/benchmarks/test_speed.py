"""Speed as a ratio to a named alternative, both timed in one run."""

import timeit

import numpy as np
from scipy import optimize

from econmodel import catalog, demand, fleet, inference, simulate
from econmodel import compound_error as ce
from econmodel import memory_tiers as mt
from econmodel.parts import Replica


def best(function, number=3):
    """Least time of several runs, in seconds."""
    return min(timeit.repeat(function, number=1, repeat=number))


def test_a_million_job_successes_cost_little_more_than_the_bare_expression(benchmark):
    error, steps = np.random.default_rng(0).random((2, 1_000_000)) * [[0.1], [500]]
    benchmark.pedantic(ce.success_probability, (error, steps), rounds=3)
    bare = best(lambda: (1 - error) ** steps)
    own = best(lambda: ce.success_probability(error, steps))
    assert own <= max(4 * bare, bare + 0.02), f"{own / bare:.1f} times the bare expression"


def test_fitting_many_bootstraps_at_once_beats_a_loop_over_a_general_optimizer(benchmark):
    rng = np.random.default_rng(1)
    length, runs = np.exp(rng.uniform(0, 6, 80)), np.full(80, 8)
    won = rng.binomial(runs, ce.survival(length, horizon=30, shape=0.6), (50, 80))
    benchmark.pedantic(ce.fit_survival, (length, won, runs), {"law": "weibull"}, rounds=3)

    def loop():
        for w in won:

            def loss(x, w=w):
                s = np.clip(ce.survival(length, horizon=np.exp(x[0]), shape=np.exp(x[1])), 1e-12, 1 - 1e-12)
                return -(w * np.log(s) + (runs - w) * np.log1p(-s)).sum()

            optimize.minimize(loss, [3.0, -0.5], method="BFGS")

    ratio = best(loop, 1) / best(lambda: ce.fit_survival(length, won, runs, law="weibull"))
    assert ratio > 10, f"only {ratio:.0f} times faster"


def test_a_million_serving_set_ups_cost_a_few_dozen_bare_rooflines(benchmark):
    rng = np.random.default_rng(2)
    llm, chip = catalog.llm("Meta-Llama-3.1-70B"), catalog.accelerator("H200-SXM-141GB")
    prompt, answer = rng.uniform(20, 30_000, (2, 1_000_000))
    chips, bits = rng.choice([1.0, 2.0, 4.0, 8.0], 1_000_000), rng.choice([4.0, 8.0, 16.0], 1_000_000)
    load = dict(n_accelerators=chips, weight_bits=bits, input_tokens=prompt, output_tokens=answer)
    benchmark.pedantic(inference.predict_throughput, (llm, chip), load, rounds=3)

    def roofline():
        weights = 70e9 * bits / 8
        batch = np.floor((0.9 * chips * 141e9 - weights) / (3.3e5 * (prompt + answer)))
        read = (weights + batch * 3.3e5 * (prompt + answer / 2)) / (chips * 4.8e12)
        return batch / np.maximum(read, batch * 1.4e11 * (1 + prompt / answer) / (chips * 9.9e14))

    own = best(lambda: inference.predict_throughput(llm, chip, **load))
    assert own < 60 * best(roofline)
    assert own < 1, f"{own:.2f} s"


def test_the_tokens_of_a_million_sessions_cost_at_most_twice_the_bare_expression(benchmark):
    rng = np.random.default_rng(2)
    n, share = rng.integers(0, 200, 1_000_000), rng.random(1_000_000)
    system, given, answer = rng.random((3, 1_000_000)) * 1e4

    def bare():
        pairs = n * (n - 1) / 2
        again, fresh = (n - (n > 0)) * system + (given + answer) * pairs, (n > 0) * system + n * given
        return fresh + again, share * again, fresh + again - share * again, n * answer, fresh + n * answer

    def own():
        return demand.session_tokens(
            n, system_tokens=system, input_tokens_per_call=given, output_tokens_per_call=answer, cached_fraction=share
        )

    benchmark.pedantic(own, rounds=3)
    least, took = best(bare, 7), best(own, 7)
    assert took <= max(2 * least, least + 0.002), f"{took / least:.1f} times the bare expression"


def test_a_scalar_call_takes_at_most_ten_microseconds(benchmark):
    sizes = dict(system_tokens=1e4, input_tokens_per_call=1e3, output_tokens_per_call=300, cached_fraction=0.9)
    benchmark(demand.session_tokens, 50, **sizes)
    calls = {
        "session_tokens": lambda: demand.session_tokens(50, **sizes),
        "active_share": lambda: demand.active_share(active_time=3.0, person_time=9.0, autonomy=0.5),
    }
    for name, call in calls.items():
        one = min(timeit.repeat(call, number=2000, repeat=7)) / 2000
        assert one <= 10e-6, f"{name}: {1e6 * one:.1f} us"


def test_hit_curves_of_a_million_references_take_a_third_of_a_second_at_most(benchmark):
    rng = np.random.default_rng(2)
    for ids in (rng.zipf(1.2, 1_000_000), rng.integers(0, 1_000_000, 1_000_000), rng.integers(0, 10_000, 1_000_000)):
        mt.lru_hit_curve(ids[:10])
        seconds = best(lambda ids=ids: mt.lru_hit_curve(ids))
        assert seconds <= 0.3, f"{seconds:.2f} s"
    benchmark.pedantic(mt.lru_hit_curve, (ids,), rounds=3)


def test_bars_of_8192_draws_beat_a_loop_of_plans(benchmark):
    llm, chip = catalog.llm("Meta-Llama-3.1-70B"), catalog.accelerator("H100-SXM-80GB")
    group = Replica(llm=llm, accelerator=chip, n_accelerators=4, weight_bits=8, kv_bits=8)
    week = catalog.derived("load_profiles").query("series == 'azure2024_conv'")["rate"].to_numpy() / 500
    rng, draws = np.random.default_rng(2), 8192
    keep = simulate.Policy(residency="hold", max_batch=256, chunk_tokens=2048)

    def agents(n):
        means = dict(output_tokens=rng.uniform(300, 500, n), wait_s=rng.uniform(10, 40, n))
        means |= dict(calls_per_task=rng.uniform(20, 60, n), attempts=rng.uniform(1, 2, n))
        for name in means:
            means[name] = means[name] if n > 1 else means[name][0]
        return fleet.Workload(name="agents", tasks_per_s=week, input_tokens=60_000, cached_tokens=57_000, **means)

    own = dict(prices=fleet.Prices(gpu_usd_per_hour=2.0), latency_target=20.0, policy=keep)
    many = agents(draws)
    benchmark.pedantic(fleet.bars, (many, group), own, rounds=2)
    one = best(lambda: fleet.plan(agents(1), group, **own))
    all_ = best(lambda: fleet.bars(many, group, **own))
    print(f"\nbars: {draws} draws in {all_:.2f} s, a loop of plans would take {draws * one / all_:.0f} times that")
    assert all_ <= draws * one / 100
