"""Keep a model current on CSV files as they come: with names, text, missing numbers and an id.

What becomes of each column is fixed once, by the holdout. The command line does the same: `lure init model --holdout
holdout.csv --label left --id customer --ignore name`, then `lure update model april.csv`. Needs the extra `data`.

    python examples/customer_table.py
"""

import csv
import random
import sys
import tempfile
from pathlib import Path

import lure
from lure.data.sources.dataset import Hints
from lure.data.sources.files import load_examples, read_ids
from lure.learner.production import init, update
from lure.learner.version import Version, write_predictions


def save(path: Path, seed: int, count: int, month: int | None = None) -> Path:
    """Write customers as a CSV file: young ones on the basic plan leave. Without `month`, all months are in it."""
    draw = random.Random(seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["customer", "name", "age", "plan", "calls", "month", "left"])
        for number in range(count):
            age, plan = draw.randint(18, 80), draw.choice(["basic", "family", "business"])
            left = "yes" if age < 50 and plan == "basic" else "no"
            known = age if draw.random() < 0.9 else ""
            calls, when = f"{draw.expovariate(1):.4f}", month or draw.randint(1, 12)
            table.writerow([f"{seed}-{number:03}", "A. Name", known, plan, calls, when, left])
    return path


with tempfile.TemporaryDirectory() as temporary:
    folder, model = Path(temporary), Path(temporary) / "model"
    hints = Hints(label="left", id="customer", ignore=("name",))
    recipe = lure.Recipe(model="mlp:width=32", unlearner="lure", epochs=20, lr=0.05, threads=1)
    print(init(model, save(folder / "holdout.csv", 1, 400), recipe=recipe, hints=hints))

    for seed, name in enumerate(["april", "may"], start=4):
        chunk = save(folder / f"{name}.csv", seed, 500, month=seed)
        stage, _ = update(model, chunk, on_arrival=lambda arrival: print("  warnings:", list(arrival.warnings)))
        print(f"{name}: {stage.accuracy:.1%} of the holdout right")

    # A version knows its columns: what `lure predict` does.
    version, new = Version.load(model), save(folder / "new.csv", 9, 3)
    form = version.task.form
    examples = load_examples(new, version.class_names, version.task.input_shape, form=form, labelled=False)
    write_predictions(version, examples, sys.stdout, "csv", read_ids(new, form=form))
