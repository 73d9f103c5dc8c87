"""The code in docs/unlearners.md runs as it stands, from top to bottom, and the document names every method."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sample_networks import NETWORKS, trained
from torch import nn

import lure

TEXT = (Path(__file__).parents[2] / "docs" / "unlearners.md").read_text()


def test_the_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "document"}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(block, "docs/unlearners.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("lure:forget_fraction=0.3: ") == 2
    assert float(printed.splitlines()[-1]) == pytest.approx(round(0.1 * (20 * 32 + 32 * 4)) / 804)


class Watched(list[Any]):
    """Batches that know whether they were read."""

    read = False

    def __iter__(self) -> Iterator[Any]:
        self.read = True
        return super().__iter__()


@pytest.mark.parametrize("name", lure.UNLEARNERS)
def test_the_table_says_of_every_method_what_it_does(name: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
    reads_data, *columns = (cell.strip(" ¹²³") for cell in row.split("|")[3:-1])
    network = NETWORKS["convolutions"]
    model = trained(network)
    before = copy.deepcopy(model)
    new, everything = Watched([network.batch(1)]), Watched([network.batch(1), network.batch(2)])
    unlearner = lure.UNLEARNERS[name](**({"tau": 0.8} if name == "redo" else {}))
    unlearner(model, lure.Context(batches=new, all_batches=everything, chunks=[new], train_accuracy=1.0))
    assert ("no", "yes", "yes, all so far")[2 * everything.read or new.read] == reads_data
    norms = {n for n, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    moved = {n for n, t in model.state_dict().items() if not torch.equal(t, before.state_dict()[n])}
    biases = {n for n in moved if n.endswith("bias") and n.rpartition(".")[0] not in norms}
    scales = {n for n in moved if n.endswith("weight") and n.rpartition(".")[0] in norms}
    statistics = moved - dict(model.named_parameters()).keys()
    for said, found in zip(columns, (biases, scales, statistics), strict=True):
        assert (said == "stay") == (not found)
