"""On a CUDA device: the same masks and data order as on the CPU, and a stage that is interrupted and resumed there.

These tests need a GPU and are left out by default: `pytest -m gpu`.
"""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import lure
from lure import Examples, Learner, Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]

IMAGES = Examples(
    torch.randint(256, (120, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(120) % 3,
)
CHUNKS = [IMAGES[:60], IMAGES[60:]]
RECIPE = Recipe(model="convnet:width=8", epochs=3, batch_size=16, lr=0.05, milestones=(), threads=1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)),
    )


# What auto does without a probe, shrink-perturb does.
@pytest.mark.parametrize("method", sorted(lure.UNLEARNERS.keys() - {"auto"}))
def test_a_method_does_on_the_gpu_what_it_does_on_the_cpu(method: str) -> None:
    loader = [(IMAGES[rows].inputs.float() / 255, IMAGES[rows].labels) for rows in (slice(0, 40), slice(40, 80))]
    models, reports, momenta = [], [], []
    for device in ("cpu", "cuda"):
        model = network().to(device)
        initial = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        for inputs, labels in loader:
            nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()
            optimizer.step()
        before = copy.deepcopy(model.state_dict())
        reports.append(lure.unlearn_(model, loader, method, optimizer=optimizer, seed=3, initial=initial))
        models.append({name: value.cpu() for name, value in model.state_dict().items()})
        momenta.append(
            [
                bool((optimizer.state[p]["momentum_buffer"][p != before[name]] == 0).all())
                for name, p in model.named_parameters()
            ]
        )
    on_cpu, on_gpu = reports
    # Saliency is rounded otherwise there: a few entries beside the threshold may change places.
    assert on_gpu.changed_count == pytest.approx(on_cpu.changed_count, abs=max(4, 0.02 * on_cpu.count))
    assert on_gpu.relative_distance == pytest.approx(on_cpu.relative_distance, rel=0.1, abs=1e-6)
    assert all(momenta[0]) == all(momenta[1])
    for name, tensor in models[1].items():
        assert torch.isfinite(tensor.float()).all(), name


@pytest.mark.parametrize(
    "unlearner", ["warm-start", "scratch", "lure", "shrink-perturb", "dash", "fire", "redo", "auto"]
)
def test_a_learner_on_the_gpu_learns_and_serves(unlearner: str, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, unlearner=unlearner)
    with Learner.open(tmp_path / "run", recipe=recipe, test=IMAGES, device="cuda") as learner:
        stages = [learner.learn(chunk) for chunk in CHUNKS]
        logits = learner.predict(IMAGES)
    assert [stage.exact for stage in stages] == [False, False]
    with Learner.open(tmp_path / "run", device="cpu") as learner:  # trained there, served here
        torch.testing.assert_close(learner.predict(IMAGES), logits, rtol=0.02, atol=0.02)


def test_a_stage_that_is_interrupted_on_the_gpu_resumes_after_its_last_epoch(tmp_path: Path) -> None:
    def stop(progress: object) -> None:
        if getattr(progress, "epoch", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Learner.open(tmp_path / "run", recipe=RECIPE, device="cuda") as learner:
        learner.learn(CHUNKS[0], stop)
    epochs = []
    with Learner.open(tmp_path / "run", recipe=RECIPE, device="cuda") as learner:
        stage = learner.learn(CHUNKS[0], lambda progress: epochs.append(progress.epoch))
    assert (epochs[0], stage.epochs_run) == (3, 3)


def test_regularizers_augmentation_and_mixed_precision_work_on_the_gpu(tmp_path: Path) -> None:
    recipe = Recipe(
        model="resnet18:width=8",
        epochs=2,
        batch_size=16,
        lr=0.01,
        milestones=(),
        augment="crop-flip",
        precision="bf16",
        average_interval=3,
        average_decay=0.9,
        l2_init=1e-4,
        regularizers=("ema:decay=0.9", "distill:focal=true", "parseval"),
        carry_optimizer=True,
        threads=1,
    )
    with Learner.open(tmp_path / "run", recipe=recipe, test=IMAGES, device="cuda") as learner:
        stages = [learner.learn(chunk) for chunk in CHUNKS]
    assert all(stage.negative_log_likelihood < 10 for stage in stages)
