"""Speed as a ratio to a named alternative, both timed in one run."""

import timeit

import numpy as np
from scipy import optimize

from econmodel import catalog, inference
from econmodel import compound_error as ce


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
