"""Networks that return their logits inside something else: read as `.logits`, refused in words otherwise."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lure.cli import main
from lure.learner.version import Version
from lure.store.ledger import read_ledger

NETWORK = """
from types import SimpleNamespace
from torch import nn


class Network(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, num_classes))

    def forward(self, inputs):
        outputs = self.body(inputs)
        return WRAPPED


def build(num_classes):
    return Network(num_classes)
"""
RECIPE = ["--epochs", "1", "--milestones", "", "--threads", "1", "--batch-size", "16"]


@pytest.fixture(autouse=True)
def _with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    random = np.random.default_rng(0)
    for name in ("holdout", "one", "two"):
        np.savez(name, inputs=random.integers(0, 256, (30, 3, 4, 4), dtype=np.uint8), labels=np.arange(30) % 3)


def write(name: str, returned: str) -> str:
    Path(f"{name}.py").write_text(NETWORK.replace("WRAPPED", returned))
    sys.modules.pop(name, None)
    return f"{name}:build"


def weights(directory: str) -> dict[str, torch.Tensor]:
    return Version.load(directory, model=f"{directory}:build", device="cpu").model.state_dict()


def test_logits_inside_an_object_train_and_predict_as_plain_ones_do(capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for name, returned in (("plain", "outputs"), ("wrapped", "SimpleNamespace(logits=outputs, loss=None)")):
        model = ["--model", write(name, returned)]
        assert main(["init", name, "--holdout", "holdout.npz", "--unlearner", "lure", *RECIPE, *model]) == 0
        for chunk in ("one.npz", "two.npz"):
            assert main(["update", name, chunk, *model]) in (0, 3)
        capsys.readouterr()
        assert main(["predict", name, "two.npz", *model]) == 0
        answers.append(capsys.readouterr().out)
        assert main(["evaluate", name, "--corruptions", "--adversarial", "--limit", "4", "--json", *model]) == 0
        result = json.loads(capsys.readouterr().out)
        answers.append(json.dumps({key: result[key] for key in ("accuracy", "corruptions", "adversarial")}))
    assert answers[:2] == answers[2:]
    first, second = weights("plain"), weights("wrapped")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [line["train_flops"] for line in read_ledger(Path("plain"))] == [
        line["train_flops"] for line in read_ledger(Path("wrapped"))
    ]


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        ("(outputs, outputs)", "tuple"),
        ("{'scores': outputs}", "dict"),
        ("(outputs, outputs) if self.training else outputs", "tuple"),  # which shows only in training
    ],
)
def test_other_outputs_are_refused_in_one_line(returned: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", write("other", returned)]
    words = ["init", "run", "--holdout", "holdout.npz", *RECIPE, *model]
    if "training" in returned:
        assert main(words) == 0
        words = ["update", "run", "one.npz", *model]
    before = sorted(Path("run").rglob("*"))
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"error: the model returns a {kind}, and must return logits, a tensor (batch, classes), or an object that has "
        f"them as .logits\n"
    )
    assert sorted(Path("run").rglob("*")) == before
