"""The production cycle from Python: init, update, a refused version, accept, rollback, predict.

The same steps as `lure init`, `lure update` and so on, for a service that calls them itself. One chunk has wrong
labels: its version is worse on the holdout, so the gate refuses it and the earlier version stays in use.

    python examples/production_cycle.py
"""

import tempfile
from pathlib import Path

import numpy as np

import lure
from lure.data.sources import load_examples
from lure.learner.production import accept, init, rollback, status, update


def save(path: Path, seed: int, count: int, shift: int = 0) -> Path:
    """Write three clouds of points as a .npz; a shift makes every label wrong."""
    generator, labels = np.random.default_rng(seed), np.arange(count) % 3
    inputs = 3 * np.eye(4)[labels] + generator.normal(size=(count, 4))
    np.savez(path, inputs=inputs.astype(np.float32), labels=(labels + shift) % 3)
    return path


def show(model: Path) -> None:
    """Print the versions of a model and which one is in use."""
    versions = status(model)["versions"]
    print("   " + "; ".join(f"version {v['version']}: {v['accuracy']:.1%}, {v['status']}" for v in versions))


with tempfile.TemporaryDirectory() as temporary:
    folder, model = Path(temporary), Path(temporary) / "model"
    recipe = lure.Recipe(model="mlp:width=16", unlearner="lure", epochs=5, lr=0.05, threads=1)
    init(model, save(folder / "holdout.npz", 0, 300), recipe=recipe)

    for number, (name, shift) in enumerate({"monday": 0, "tuesday": 1}.items(), start=1):
        chunk = save(folder / f"{name}.npz", number, 600, shift)
        stage, _ = update(model, chunk, on_arrival=lambda arrival: print("   warnings:", list(arrival.warnings)))
        reasons = status(model)["versions"][-1]["decision"]["reasons"]
        print(f"update with {name}:", "accepted" if stage.accepted else f"refused, because {reasons}")
        show(model)

    print("accept:", accept(model, 2, reason="somebody checked the labels, or thought so"))
    print("rollback:", rollback(model, 1, reason="the labels were wrong after all"))
    show(model)

    new = load_examples(save(folder / "new.npz", 9, 5))
    print("predictions:", lure.Learner.open(model).predict(new).argmax(1).tolist(), "labels:", new.labels.tolist())
