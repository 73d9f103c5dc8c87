"""Keep a model current over a directory of chunks, one process per chunk if you like.

Chunks are .npz files with `inputs` and `labels`. The learner opens its own directory, sees which chunks it has already
learned, and learns the rest in order. Run it again after new chunks have arrived, or after it was killed: what is
committed is not trained again, and the weights are the same bits as in one uninterrupted run.

    python examples/keep_current.py [FOLDER]     # a temporary folder with four made-up chunks by default
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import lure
from lure.data.sources import load_examples


def make_chunks(folder: Path) -> None:
    """Write a test set and four chunks of 200 examples: two interleaved classes of points in the plane."""
    generator = np.random.default_rng(0)
    for name in ("test", *(f"chunk-{number}" for number in range(4))):
        inputs = generator.uniform(-1, 1, size=(200, 2)).astype(np.float32)
        np.savez(folder / f"{name}.npz", inputs=inputs, labels=(inputs[:, 0] * inputs[:, 1] > 0).astype(np.int64))


def learn_what_is_new(folder: Path) -> None:
    """Learn the chunks of a folder that the model in FOLDER/model has not seen yet."""
    recipe = lure.Recipe(model="mlp:width=32", unlearner="lure", epochs=10, lr=0.1, threads=1)
    test = load_examples(folder / "test.npz")
    with lure.Learner.open(folder / "model", recipe=recipe, test=test) as learner:
        known = {stage.data_fingerprint for stage in learner.stages}
        for path in sorted(folder.glob("chunk-*.npz")):
            chunk = load_examples(path)
            if chunk.fingerprint in known:
                print(f"{path.name}: learned before")
                continue
            stage = learner.learn(chunk)
            print(f"{path.name}: version {stage.version}, {stage.train_examples} trained on, {stage.accuracy:.1%}")


with tempfile.TemporaryDirectory() as temporary:
    place = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
    if not (place / "test.npz").exists():
        make_chunks(place)
    learn_what_is_new(place)
    learn_what_is_new(place)  # nothing left to do: each chunk is known by the fingerprint of its content
    model = lure.Learner.open(place / "model")
    print("a point of class 1:", model.predict(torch.tensor([[0.5, 0.5]])).softmax(1))
