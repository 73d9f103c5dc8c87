# %% [markdown]
# # Your own loop
#
# Three ways through the same plain PyTorch loop, side by side: go on from the last model (warm start), begin anew with
# every chunk (scratch), and forget the least salient weights first (LURE). Data and network are small, so that the page
# takes seconds to make; what it prints is from one seed, which shows how to measure and decides nothing.
#
# This page is the notebook `docs/notebooks/own_loop.py`, in the percent format: editors open it cell by cell, Jupyter
# with jupytext, and `python docs/notebooks/own_loop.py` runs it.

# %%
import torch
from matplotlib import pyplot as plt
from torch import nn

import lure
from lure.data.sources import load_dataset

# %% [markdown]
# ## Data that arrive in chunks
#
# The embedded sample of Fashion-MNIST, cut into four chunks of 250 images. A fifth of the labels are wrong: with clean
# labels there may be nothing worth forgetting.

# %%
dataset = load_dataset("fashion-mnist-sample")


def as_tensors(examples: lure.Examples) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs (N, 784) in [0, 1], and labels (N,)."""
    return examples.inputs.flatten(1) / 255, examples.labels


generator = torch.Generator().manual_seed(0)
inputs, labels = as_tensors(dataset.train[:1000])
wrong = torch.rand(len(labels), generator=generator) < 0.2
labels = torch.where(wrong, torch.randint(10, labels.shape, generator=generator), labels)
chunks = list(zip(inputs.split(250), labels.split(250), strict=True))
test_inputs, test_labels = as_tensors(dataset.test)
print(len(chunks), "chunks of", len(chunks[0][1]), "images;", len(test_labels), "test images")

# %% [markdown]
# ## The loop
#
# `prepare` is what differs. It gets the model, the batches of all data so far, the optimiser and the number of the
# chunk, before every chunk but the first. For LURE it is the one line.


# %%
def build() -> nn.Module:
    """Return a network of two layers."""
    return nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


def warm_start(model, batches, optimizer, number):
    """Leave everything as it is."""


def scratch(model, batches, optimizer, number):
    """Draw everything anew: the expensive reference."""
    lure.unlearn_(model, batches, "scratch", optimizer=optimizer, seed=number)


def forget_a_fifth(model, batches, optimizer, number):
    """Draw the least salient fifth of the weights anew, and clear the optimiser's state there."""
    report = lure.unlearn_(model, batches, "lure", optimizer=optimizer, seed=number, forget_fraction=0.2)
    print(f"chunk {number + 1}: {report.changed_fraction:.1%} of the parameters were redrawn")


def keep_current(prepare, epochs=8) -> list[float]:
    """Return the test accuracy after each chunk."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    accuracies = []
    for number in range(len(chunks)):
        seen = [torch.cat(parts) for parts in zip(*chunks[: number + 1], strict=True)]  # full replay
        batches = list(zip(*(part.split(50) for part in seen), strict=True))
        if number:
            prepare(model, batches, optimizer, number)
        for _ in range(epochs):
            for batch, targets in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch), targets).backward()
                optimizer.step()
        with torch.no_grad():
            accuracies.append((model(test_inputs).argmax(1) == test_labels).float().mean().item())
    return accuracies


curves = {prepare.__name__: keep_current(prepare) for prepare in (warm_start, scratch, forget_a_fifth)}

# %% [markdown]
# ## Results

# %%
for name, accuracies in curves.items():
    print(f"{name:15}", *(f"{accuracy:6.1%}" for accuracy in accuracies))

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for (name, accuracies), mark in zip(curves.items(), "os^", strict=True):
    axes.plot(range(1, len(chunks) + 1), [100 * accuracy for accuracy in accuracies], marker=mark, label=name)
axes.set(xlabel="chunk", ylabel="test accuracy, %", xticks=range(1, len(chunks) + 1))
axes.legend(frameon=False)

# %% [markdown]
# One seed decides nothing. `lure compare` runs every policy with several seeds, at several budgets, and says which is
# the cheapest that is not worse than retraining: [how to choose](../unlearners.md), [how it is
# decided](../evaluation.md#the-price). Any method of [the list](../methods/index.md) takes the place of `"lure"`; its
# hyperparameters are keywords. What happens to the optimiser, to frozen and tied weights, and to networks with an
# initialisation of their own is on the page of the [unlearners](../unlearners.md#in-any-loop).
