# %% [markdown]
# # Keep a model current
#
# Four chunks arrive at a model in use. One of them has wrong labels: the version trained on it does worse on the
# holdout, so it is refused, and the earlier one stays in use. What the commands `lure init`, `update`, `status` and
# `rollback` do is done here from Python; [operations](../operations.md) has the commands, cron and recovery.
#
# This page is the notebook `docs/notebooks/keep_current.py`, in the percent format: editors open it cell by cell,
# Jupyter with jupytext, and `python docs/notebooks/keep_current.py` runs it.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import lure
from lure.data.sources import load_examples
from lure.learner.gate import Gate
from lure.learner.production import init, rollback, status, update, verify

os.chdir(tempfile.mkdtemp())  # a trial; in earnest a directory that is backed up
model = Path("model")

# %% [markdown]
# ## Data
#
# Three clouds of points, which move a little from week to week, as the world does.


# %%
def save(name: str, seed: int, count: int, drift: float = 0.0, shift: int = 0) -> Path:
    """Write a chunk; a shift makes every label wrong."""
    generator, labels = np.random.default_rng(seed), np.arange(count) % 3
    inputs = 2.5 * np.eye(4)[labels] + drift + generator.normal(size=(count, 4))
    path = Path(f"{name}.npz")
    np.savez(path, inputs=inputs.astype(np.float32), labels=(labels + shift) % 3)
    return path


holdout = save("holdout", seed=0, count=600, drift=0.2)
chunks = [
    save("week-1", seed=1, count=60),
    save("week-2", seed=2, count=240, drift=0.2),
    save("week-3", seed=3, count=900, drift=0.3, shift=1),
    save("week-4", seed=4, count=240, drift=0.4),
]

# %% [markdown]
# ## Fix what decides
#
# The holdout decides on every version and is never trained on. The gate's margin is how far a version may fall below
# the best of its line; the default is one point, here it is two, because 600 examples cannot tell a point.

# %%
recipe = lure.Recipe(model="mlp:width=16", unlearner="lure", epochs=10, lr=0.05, threads=1)
print(init(model, holdout, recipe=recipe, gate=Gate(margin=0.02)))

# %% [markdown]
# ## A chunk arrives, again and again
#
# Each call could be another process on another day. If it is killed, the same call resumes it.

# %%
for chunk in chunks:
    stage, _ = update(model, chunk)
    last = status(model)["versions"][-1]
    print(f"{chunk.name}: {stage.accuracy:.1%} on the holdout,", "accepted" if stage.accepted else "refused")
    for reason in last["decision"]["reasons"]:
        print("   because", reason)
    for warning in last["arrival"]["warnings"]:
        print("   warning:", warning)

# %% [markdown]
# The refused version is kept, and its chunk is quarantined: week 4 went on from week 2. If somebody finds that the
# labels of week 3 were right after all, `lure.learner.production.accept` accepts version and chunk.

# %%
versions = status(model)["versions"]
numbers = [version["version"] for version in versions]
accuracies = [100 * version["accuracy"] for version in versions]
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
in_line = [(n, a) for n, a, v in zip(numbers, accuracies, versions, strict=True) if "refused" not in v["status"]]
refused = [(n, a) for n, a, v in zip(numbers, accuracies, versions, strict=True) if "refused" in v["status"]]
axes.plot(*zip(*in_line, strict=True), marker="o", label="in use, one after the other")
axes.scatter(*zip(*refused, strict=True), facecolors="none", edgecolors="C3", marker="o", label="refused")
axes.set(xlabel="version", ylabel="accuracy on the holdout, %", xticks=numbers)
axes.legend(frameon=False)

# %% [markdown]
# ## Go back
#
# Any accepted version can be put in use again. It adds a line to the ledger, and deletes nothing.

# %%
print(rollback(model, 2, reason="the sensor of week 4 was replaced"))
for version in status(model)["versions"]:
    print("version", version["version"], f"{version['accuracy']:.1%}", version["status"])

# %% [markdown]
# ## Use it

# %%
new = load_examples(save("new", seed=9, count=6, drift=0.4))
with lure.Learner.open(model) as learner:
    print("predicted", learner.predict(new).argmax(1).tolist(), "true", new.labels.tolist())
print("damaged files:", list(verify(model)))

# %% [markdown]
# [Export and serve](../serving.md) shows how other programs use a version, the [page on pandas](../pandas.md) how to
# read the ledgers of many runs.
