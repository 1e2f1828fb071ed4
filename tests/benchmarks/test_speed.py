"""Speed as a ratio to a named alternative, both timed in one run."""

import timeit

import numpy as np
from scipy import optimize

from econmodel import compound_error as ce
from econmodel import memory_tiers as mt


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


def test_hit_curves_of_a_million_references_take_a_third_of_a_second_at_most(benchmark):
    rng = np.random.default_rng(2)
    for ids in (rng.zipf(1.2, 1_000_000), rng.integers(0, 1_000_000, 1_000_000), rng.integers(0, 10_000, 1_000_000)):
        mt.lru_hit_curve(ids[:10])
        seconds = best(lambda ids=ids: mt.lru_hit_curve(ids))
        assert seconds <= 0.3, f"{seconds:.2f} s"
    benchmark.pedantic(mt.lru_hit_curve, (ids,), rounds=3)
