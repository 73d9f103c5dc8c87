"""What the data cannot reach is not taken for unimportant: it leaves the ranking and the count, and is named."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import lure
from lure import InputError, unlearn_
from lure.unlearners import build_unlearner

BY_DATA = ["lure", "lure:scope=all", "fisher-reset", "lure:ties=all"]


class WithAuxiliaryHead(nn.Module):
    """The auxiliary head is computed while training only."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Linear(6, 10), nn.Linear(10, 3), nn.Linear(10, 3)

    def forward(self, inputs: Tensor) -> Any:
        hidden = torch.tanh(self.body(inputs))
        return (self.head(hidden), self.auxiliary(hidden)) if self.training else self.head(hidden)


class WithTwoTasks(nn.Module):
    """Each batch names its task, and is answered by that task's head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 10)
        self.heads = nn.ModuleList([nn.Linear(10, 3), nn.Linear(10, 3)])

    def forward(self, inputs: Tensor, task: int = 0) -> Tensor:
        return self.heads[task](torch.tanh(self.body(inputs)))


class Experts(nn.Module):
    """The first feature's sign chooses the expert; an expert that nobody chose is not run."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList([nn.Linear(6, 8), nn.Linear(6, 8)]), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        chosen = (inputs[:, 0] > 0).long()
        hidden = torch.zeros(len(inputs), 8)
        for number, expert in enumerate(self.experts):
            if bool((chosen == number).any()):
                hidden = hidden.index_put((chosen == number,), expert(inputs[chosen == number]))
        return self.head(torch.tanh(hidden))


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(8, 6, generator=generator), torch.arange(8) % 3) for _ in range(count)]


def changes(model: nn.Module, before: nn.Module) -> dict[str, int]:
    return {name: int((p != before.get_parameter(name)).sum()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("method", BY_DATA)
@pytest.mark.parametrize(
    ("build", "unreached"),
    [(WithAuxiliaryHead, "auxiliary"), (WithTwoTasks, "heads.1"), (Experts, "experts.0")],
)
def test_a_tensor_that_no_batch_reaches_stays_and_is_named(method: str, build: type[nn.Module], unreached: str) -> None:
    torch.manual_seed(0)
    model = build()
    before = copy.deepcopy(model)
    report = unlearn_(model, batches(), method, forget_fraction=0.5, seed=1)
    moved = changes(model, before)
    assert not any(count for name, count in moved.items() if name.startswith(unreached))
    ranked = [
        name
        for name, parameter in model.named_parameters()
        if not name.startswith(unreached) and ("all" in method.split("scope=")[-1:] or parameter.dim() > 1)
    ]
    assert report.changed_count == round(0.5 * sum(model.get_parameter(name).numel() for name in ranked))
    assert report.left_out[f"{unreached}.weight"] == "no batch reaches it"
    assert f"left out of the ranking: {unreached}.weight (no batch reaches it)" in str(report)
    assert set(report.left_out) <= {f"{unreached}.weight", f"{unreached}.bias"}


def test_a_head_that_any_batch_reaches_is_ranked() -> None:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, int]) -> Tensor:
        inputs, labels, task = batch
        return F.cross_entropy(model(inputs, task), labels)

    both = [(*batch, task) for task, batch in enumerate(batches(2))]
    assert unlearn_(WithTwoTasks(), both, "lure", loss=loss).left_out == {}


def test_dash_does_not_shrink_what_it_has_no_direction_for() -> None:
    torch.manual_seed(0)
    model = WithAuxiliaryHead()
    before = copy.deepcopy(model)
    report = unlearn_(model, batches(), "dash")
    assert changes(model, before)["auxiliary.weight"] == 0
    assert changes(model, before)["body.weight"] > 0
    assert "auxiliary.weight" in report.left_out


def test_dead_units_are_reached_and_forgotten_first() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
    with torch.no_grad():
        model[0].bias[:4] = -100
    before = copy.deepcopy(model)
    report = unlearn_(model, batches(), "lure", forget_fraction=0.4)
    assert report.left_out == {}
    assert bool((model[0].weight != before[0].weight)[:4].all())
    assert not bool((model[0].weight != before[0].weight)[4:].any())


def test_nothing_reached_is_an_error() -> None:
    model = WithTwoTasks()
    free = nn.Parameter(torch.zeros(1))
    model.register_parameter("free", free)
    with pytest.raises(InputError, match="no batch reaches any weight"):
        unlearn_(model, batches(), "lure", loss=lambda net, batch: net.free.sum())


# Pruning


def pruned_network() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))
    prune.l1_unstructured(model[0], "weight", amount=40)
    prune.random_unstructured(model[2], "weight", amount=10)
    return model


@pytest.mark.parametrize("method", [*BY_DATA, "magnitude-reset", "random-reset"])
@pytest.mark.parametrize("builder", ["none", "pruned", "plain"])
def test_pruned_entries_stay_and_do_not_count(method: str, builder: str) -> None:
    torch.manual_seed(0)
    model = pruned_network()
    model(batches()[0][0])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    draw = {
        "none": None,
        "pruned": pruned_network,
        "plain": lambda: nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)),
    }[builder]
    report = unlearn_(model, batches(), method, forget_fraction=0.5, draw=draw, seed=1)
    in_use = 90 - 50 + (13 if "scope=all" in method else 0)
    assert report.changed_count == round(0.5 * in_use)
    for number, removed in ((0, 40), (2, 10)):
        gone = model[number].weight_mask == 0
        name = f"{number}.weight_orig"
        assert int(gone.sum()) == removed
        assert torch.equal(model.get_parameter(name)[gone], before[name][gone])
        assert report.left_out[name] == f"{removed} pruned entries"
    model(batches()[0][0])
    assert not bool(model[0].weight[model[0].weight_mask == 0].any())


def test_scratch_redraws_a_pruned_network() -> None:
    model = pruned_network()
    mask = model[0].weight_mask.clone()
    model(batches()[0][0])
    assert unlearn_(model, None, "scratch").changed_fraction == 1
    assert torch.equal(model[0].weight_mask, mask)


# Embeddings


class Items(nn.Module):
    """Scores of classes for an item, from a table of items."""

    def __init__(self, items: int, bag: bool = False, **options: Any) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(items, 16) if bag else nn.Embedding(items, 16, **options)
        self.bag, self.hidden, self.head = bag, nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, items: Tensor) -> Tensor:
        rows = self.table(items[:, None]) if self.bag else self.table(items)
        return self.head(torch.relu(self.hidden(rows)))


def fit(model: nn.Module, items: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(model(items), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("method", ["lure", "fisher-reset"])
def test_items_that_the_new_data_do_not_mention_are_kept(method: str, bag: bool) -> None:
    torch.manual_seed(0)
    labels = torch.randint(4, (400,))
    old, new = torch.arange(300), torch.arange(300, 400)
    model = Items(400, bag)
    fit(model, old, labels[old])
    fit(model, torch.arange(400), labels)
    before = copy.deepcopy(model)

    def accuracy(net: nn.Module) -> float:
        return float((net(old).argmax(1) == labels[old]).double().mean())

    assert accuracy(model) == 1
    ranked, control = copy.deepcopy(model), copy.deepcopy(model)
    report = unlearn_(model, [(new, labels[new])], method, forget_fraction=0.2, seed=1)
    assert torch.equal(model.table.weight[:300], before.table.weight[:300])
    assert report.left_out == {"table.weight": "300 rows that no batch mentions"}
    assert report.changed_count == round(0.2 * (100 * 16 + 16 * 32 + 32 * 4))
    unlearn_(ranked, [(new, labels[new])], method, forget_fraction=0.2, seed=1, unseen_rows="rank")
    assert not torch.equal(ranked.table.weight[:300], before.table.weight[:300])
    unlearn_(control, None, "random-reset", forget_fraction=0.2, seed=1)
    assert accuracy(model) > accuracy(control)


def test_a_padding_row_is_not_ranked_and_a_tied_table_is_reached_everywhere() -> None:
    torch.manual_seed(0)
    model = Items(10, padding_idx=0)
    everything = [(torch.arange(10), torch.arange(10) % 4)]
    assert unlearn_(model, everything, "lure").left_out == {"table.weight": "1 row that no batch mentions"}

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 16)

        def forward(self, items: Tensor) -> Tensor:
            return F.linear(self.table(items), self.table.weight)

    assert unlearn_(Decoder(), [(torch.arange(4), torch.arange(4))], "lure").left_out == {}


def test_the_option_is_known_by_name() -> None:
    assert build_unlearner("lure:unseen_rows=rank") == lure.UNLEARNERS["lure"](unseen_rows="rank")
    with pytest.raises(InputError, match="unseen_rows"):
        build_unlearner("lure:unseen_rows=drop")
