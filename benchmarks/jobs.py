"""What running side by side brings: the time of several jobs as a share of one, and what each engine costs to start.

    python benchmarks/jobs.py                     # speed-up of --jobs 2, on a quiet machine
    python benchmarks/jobs.py --start             # seconds to start and end under each engine that is installed

The speed-up is of the demonstration's comparison (36 runs, single-threaded), in a process of its own as
a user starts it: imports, evaluation, tables and plots are in it. Rounds alternate, and the median of each counts. The
target is at most 0.6 on two cores. The start is the time of a comparison of two runs that train for a moment, less what
they trained.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = ["--epochs", "1", "--num-mega-batches", "1", "--mega-batch-size", "20", "--test-limit", "50"]
ENGINES = {
    "one after the other (--jobs 1)": ["--jobs", "1"],
    "side by side (--jobs 2)": ["--jobs", "2"],
    "SLURM (submitit's local jobs)": ["--engine", "slurm", "--engine-option", "cluster=local"],
    "Ray (begun and ended with it)": ["--engine", "ray", "--engine-option", "address=local"],
}
NEEDED = {"slurm": "submitit", "ray": "ray"}


def seconds_of(words: list[str]) -> tuple[float, float]:
    """Run a comparison; return its seconds, and those that its runs trained."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lure", "compare", *words, "--threads", "1", "--out", f"{folder}/out"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        took = time.perf_counter() - began
        results = [json.loads(path.read_text()) for path in Path(folder).rglob("result.json")]
        return took, sum(result["train_seconds"] + result["unlearn_seconds"] for result in results)


def main() -> None:
    """Measure, and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each case (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default 2)")
    parser.add_argument("--start", action="store_true", help="measure what each engine costs to start")
    arguments = parser.parse_args()
    if arguments.start:
        for name, words in ENGINES.items():
            needed = NEEDED.get(words[1])
            if needed and importlib.util.find_spec(needed) is None:
                print(f"{name}: {needed} is not installed")
                continue
            costs = []
            for _ in range(arguments.rounds):
                took, trained = seconds_of([*TINY, "--unlearners", "lure,scratch", "--seeds", "0", *words])
                costs.append(took - trained)
            print(f"{name}: {statistics.median(costs):.1f} s, n = {len(costs)}", flush=True)
        return
    compared = ["--unlearners", "warm-start,scratch,lure,shrink-perturb", "--seeds", "0,1,2"]
    times: dict[int, list[float]] = {1: [], arguments.jobs: []}
    for _ in range(arguments.rounds):
        for jobs, taken in times.items():
            taken.append(seconds_of([*compared, "--jobs", str(jobs)])[0])
            print(f"--jobs {jobs}: {taken[-1]:.1f} s", flush=True)
    one, several = (statistics.median(taken) for taken in times.values())
    print(f"--jobs {arguments.jobs} takes {several / one:.2f} of the time of one (target on two cores: 0.60)")


if __name__ == "__main__":
    main()
