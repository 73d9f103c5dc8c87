"""Compare policies from Python: the embedded demonstration, made short, for three unlearners and two seeds.

The same as `lure compare --epochs 2 --train-limit 600 ...`, and resumable like it: call it again with the same `out`
and finished runs are skipped. Read the interval in the last sentence before you believe the order.

    python examples/compare_policies.py [OUT]    # a temporary folder by default
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from lure.experiment.compare import compare
from lure.recipe import load_experiment
from lure.report.records import read_runs
from lure.report.verdict import verdict

POLICIES = ("warm-start", "scratch", "lure")

with tempfile.TemporaryDirectory() as temporary:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
    experiment = load_experiment("demo", {"epochs": 2, "train_limit": 600, "test_limit": 500, "mega_batch_size": 120})
    runs = compare(
        experiment,
        POLICIES,
        seeds=(0, 1),
        out=out,
        on_stage=lambda run, stage: print(f"{run.label}, stage {stage.stage}: {stage.accuracy:.1%}"),
    )
    for policy in POLICIES:
        results = [json.loads((run / "result.json").read_text()) for run in runs if run.parent.name == policy]
        accuracy = statistics.fmean(result["final_accuracy"] for result in results)
        cost = statistics.fmean(result["train_flops"] + result["unlearn_flops"] for result in results)
        print(f"{policy}: final accuracy {accuracy:.1%}, {cost / 1e9:.2f} GFLOP, n = {len(results)} seeds")
    print(verdict(read_runs(runs)))
