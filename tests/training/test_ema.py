"""EMA against the formula written out, and the average as what is evaluated, kept, committed and gone on from."""

import contextlib
import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from unlearners.sample_networks import NETWORKS, trained

from lure import Ema, Examples, FitContext, InputError, Learner, Recipe
from lure.training.fit import Epoch, fit
from lure.training.loader import Loader

RECIPE = Recipe(epochs=4, batch_size=4, lr=0.1, milestones=(), threads=1, keep="last", regularizers=("ema:decay=0.8",))


def slow_twin(steps: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """The average by its formula; `steps` are the states before training and after each step."""
    average = {name: tensor.double() for name, tensor in steps[0].items()}
    for n, state in enumerate(steps[1:]):
        d = min(decay, (1 + n) / (10 + n))
        average = {name: d * average[name] + (1 - d) * tensor.double() for name, tensor in state.items()}
    return average


def test_the_average_is_the_formula_with_batchnorm_statistics() -> None:
    network = NETWORKS["convolutions"]
    model = trained(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ema, steps = Ema(decay=0.5).start(model, FitContext()), [copy.deepcopy(model.state_dict())]
    for step in range(14):  # the warm-up ends after the eighth
        inputs, labels = network.batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        ema.after_step()
        steps.append(copy.deepcopy(model.state_dict()))
    expected = slow_twin(steps, 0.5)
    with ema.serving():
        served = copy.deepcopy(model.state_dict())
    for name, tensor in served.items():
        if name.endswith("num_batches_tracked"):
            assert tensor == steps[-1][name]  # of the model that is trained
        else:
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(tensor, steps[-1][name]) for name, tensor in model.state_dict().items())


def test_weights_come_back_when_an_evaluation_fails() -> None:
    model = nn.Linear(2, 2)
    ema = Ema().start(model, FitContext())
    nn.init.ones_(model.weight)
    ema.after_step()
    with contextlib.suppress(KeyboardInterrupt), ema.serving():
        assert not bool((model.weight == 1).any())
        raise KeyboardInterrupt
    assert bool((model.weight == 1).all())


def data(seed: int, count: int = 12) -> Loader:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 5, generator=generator)
    return Loader(Examples(inputs, torch.randint(3, (count,), generator=generator)), "cpu")


def test_a_fit_evaluates_and_keeps_the_average() -> None:
    """The epoch that is kept is the best epoch of the average, with the optimiser of the weights that trained."""
    train, validation, ends, epochs = data(1), data(2, 30), [], []
    for number in range(1, 5):
        model = trained(NETWORKS["mlp"])
        fit(model, train, validation, dataclasses.replace(RECIPE, epochs=number))
        with torch.no_grad():
            right = model.eval()(validation.examples.inputs).argmax(1) == validation.examples.labels
        ends.append((float(right.double().mean()), model.state_dict()))
    accuracies = [accuracy for accuracy, _ in ends]
    best = trained(NETWORKS["mlp"])
    state = fit(best, train, validation, dataclasses.replace(RECIPE, keep="best"), on_epoch=epochs.append)
    assert [epoch.validation_accuracy for epoch in epochs if isinstance(epoch, Epoch)] == pytest.approx(accuracies)
    assert state.kept_epoch == 1 + accuracies.index(max(accuracies))
    kept = ends[state.kept_epoch - 1][1]
    assert all(torch.equal(tensor, kept[name]) for name, tensor in best.state_dict().items())
    assert state.kept_epoch < 4, "choose other data: the restored epoch must not be the last"


def test_the_average_is_committed_and_gone_on_from(tmp_path: Path) -> None:
    """With a rate of zero from stage 2 on, stage 2 commits what it started from: the average, its statistics too."""
    images = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chunks = [Examples(images[i : i + 20], torch.arange(20) % 2) for i in (0, 20)]
    recipe = Recipe(
        model="convnet:width=4", unlearner="warm-start", epochs=2, batch_size=8, lr=0.05, later_lr=0.0,
        weight_decay=0.0, validation_fraction=0.0, milestones=(), threads=1, replay="none",
        regularizers=("ema:decay=0.9",),
    )  # fmt: skip
    versions = {}
    for name, chosen in (("ema", recipe), ("plain", dataclasses.replace(recipe, regularizers=()))):
        with Learner.open(tmp_path / name, recipe=chosen, test=chunks[0]) as learner:
            for chunk in chunks:
                stage = learner.learn(chunk)
            assert learner.model is not None
            served = learner.model.state_dict()
        versions[name] = [load_file(tmp_path / name / f"versions/000{n}/model.safetensors") for n in (1, 2)]
        assert all(torch.equal(tensor, served[key]) for key, tensor in versions[name][1].items())
        assert stage.accuracy is not None
    first, second = versions["ema"]
    weights = [key for key in first if key.endswith(("weight", "bias"))]
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in weights)
    assert not any(torch.equal(first[key], versions["plain"][0][key]) for key in weights)


def test_half_precision_is_averaged_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(model.weight)
    ema = Ema(decay=0.999).start(model, FitContext())
    nn.init.constant_(model.weight, 2.0)
    for _ in range(5):
        ema.after_step()
    slow = ema.state_dict()["slow.weight"]
    assert slow.dtype == torch.float32
    expected = 1.0
    for n in range(5):
        expected += (2 - expected) * (1 - (1 + n) / (10 + n))
    assert slow.item() == pytest.approx(expected)


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"^decay must lie in \[0, 1\), got 1$"):
        Ema(decay=1)
