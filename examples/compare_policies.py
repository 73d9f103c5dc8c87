"""Compare policies from Python: the embedded demonstration, made short, for three policies and two budgets.

The same as `lure compare --epochs 2 --train-limit 600 ...`, and resumable like it: call it again with the same `out`
and finished runs are skipped. So few epochs say little: read the intervals before you believe a price.

    python examples/compare_policies.py [OUT]    # a temporary folder by default
"""

import sys
import tempfile
from pathlib import Path

import lure
from lure.recipe import load_experiment

POLICIES = ("scratch", "lure", "smooth=unlearner=warm-start label_smoothing=0.1")

with tempfile.TemporaryDirectory() as temporary:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
    answer = lure.compare(
        load_experiment("demo", {"epochs": 2, "train_limit": 600, "test_limit": 500, "mega_batch_size": 120}),
        POLICIES,
        seeds=(0, 1, 2),
        budgets=(0.5, 1),
        out=out,
        jobs=1,  # leave it out for one run on each core
        on_end=lambda run, problem: print(f"{run.label}: {problem or 'done'}"),
    )
    print(answer)  # tables, prices, and the answer in one sentence
    for price in answer.price():
        print(f"{price.policy}: {price.text}")
    answer.to_csv(out / "stages.csv")  # a row for each run and stage, for pandas
    finals = [run.final.accuracy for run in answer.runs if run.policy == "scratch" and run.budget == 1]
    print(f"retraining: final accuracies {', '.join(f'{accuracy:.1%}' for accuracy in finals)}")
    print(lure.evaluate(out / "lure" / "seed-0").table().splitlines()[0])
