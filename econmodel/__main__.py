"""Command line: what a finished task of a request log costs, and which part of it is waste."""

import argparse
import sys

import numpy as np
import pandas as pd

from econmodel import catalog, fleet, simulate, traces
from econmodel.parts import Replica


def _parser():
    parser = argparse.ArgumentParser("python -m econmodel", description=__doc__)
    add = parser.add_argument
    add("log", help="one line a call: .csv, .csv.gz, .jsonl or .parquet")
    add("columns", nargs="+", metavar="NAME=COLUMN",
        help=f"how the log names its columns; NAME is one of {', '.join(traces.TIDY)}; the first, and input_tokens and "
        "output_tokens, are needed")  # fmt: skip
    add("--llm", required=True, help="model, as the catalog names it")
    add("--accelerator", required=True, help="accelerator, as the catalog names it")
    add("--n", type=int, default=1, help="accelerators of a replica (default 1)")
    add("--bits", type=float, default=8, help="of the weights (default 8)")
    add("--usd", type=float, required=True, help="price of an accelerator-hour")
    add("--latency", type=float, default=np.inf, help="mean time of a call that no hour may exceed, s (default none)")
    add("--attempts", type=float, default=1.0, help="attempts per finished task (default 1)")
    add("--share", type=float, default=1.0, help="share of the fleet's calls that the log holds (default 1)")
    add("--residency", choices=("hold", "evict", "recompute"), default="evict", help="contexts that wait")
    add("--scaling", choices=fleet.SCALINGS, default="fixed", help="how the fleet follows demand")
    return parser


def main(arguments=None):
    """Plan a fleet for a log and print the waterfall; an error says what is missing."""
    own = _parser().parse_args(arguments)
    try:
        columns = dict(pair.split("=", 1) for pair in own.columns)
        calls = pd.concat(traces.read_log(own.log, columns=columns))
        work = fleet.from_log(calls, attempts=own.attempts, share=own.share)
        replica = Replica(llm=catalog.llm(own.llm), accelerator=catalog.accelerator(own.accelerator),
                          n_accelerators=own.n, weight_bits=own.bits, kv_bits=min(own.bits, 16))  # fmt: skip
        policy = simulate.Policy(residency=own.residency, max_batch=256, chunk_tokens=2048)
        planned = fleet.plan(work, replica, prices=fleet.Prices(gpu_usd_per_hour=own.usd), latency_target=own.latency,
                             policy=policy, scaling=own.scaling)  # fmt: skip
        if not np.isfinite(planned.totals["usd_per_task"]):
            raise ValueError(f"{own.llm} on {own.n} {own.accelerator} cannot: more memory, or a longer --latency")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyError as error:
        sys.exit(f"error: {error.args[0]}")
    for cause, usd in planned.waterfall.items():
        print(f"{usd:12.4f}  {cause}")
    print(f"{planned.totals['usd_per_task']:12.4f}  USD per finished task")
    names = ("replicas_at_peak", "gpu_hours", "busy_share", "mean_time", "p99")
    print(", ".join(f"{name.replace('_', ' ')} {planned.totals[name]:.4g}" for name in names))


if __name__ == "__main__":
    main()
