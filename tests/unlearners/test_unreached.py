"""What the data cannot reach is not taken for unimportant: it leaves the ranking and the count, and is named."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

import lure
from lure import InputError, unlearn_
from lure.unlearners import build_unlearner
from lure.weights import ranking
from lure.weights.layers import trainable
from lure.weights.ranking import Reach, positions_read

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
    prune.random_unstructured(model.table, "weight", amount=5)
    both = {"table.weight_orig": "5 pruned entries; 1 row that no batch mentions"}
    assert unlearn_(model, everything, "lure").left_out == both

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 16)

        def forward(self, items: Tensor) -> Tensor:
            return F.linear(self.table(items), self.table.weight)

    assert unlearn_(Decoder(), [(torch.arange(4), torch.arange(4))], "lure").left_out == {}


class Folded(nn.Embedding):
    """Is given larger numbers than it has rows, as tables of positions in language models may be."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs % 10)


@pytest.mark.parametrize("kind", ["folded", "vmap"])
def test_a_table_that_is_read_in_another_way_is_noted_by_its_gradients(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential((Folded if kind == "folded" else nn.Embedding)(10, 8), nn.Tanh(), nn.Linear(8, 4))
    items = torch.arange(12, 17) if kind == "folded" else torch.arange(2, 7)

    def loss(net: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(torch.vmap(net)(batch[0]) if kind == "vmap" else net(batch[0]), batch[1])

    report = unlearn_(model, [(items, items % 4)], "lure", loss=loss, forget_fraction=0.5)
    assert report.left_out == {"0.weight": "5 rows that no batch mentions"}
    assert report.changed_count == round(0.5 * (5 * 8 + 32))


def test_the_option_is_known_by_name() -> None:
    assert build_unlearner("lure:unseen_rows=rank") == lure.UNLEARNERS["lure"](unseen_rows="rank")
    with pytest.raises(InputError, match="unseen_rows"):
        build_unlearner("lure:unseen_rows=drop")


# Inputs


class OneHot(nn.Module):
    """Reads categories as inputs of 0 or 1: in a linear layer, as channels of an image, or as a sequence."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first: nn.Module = {
            "linear": nn.Linear(20, 8),
            "frozen": nn.Linear(20, 8),
            "convolution": nn.Conv2d(20, 8, 2),
            "recurrent": nn.LSTM(20, 8, batch_first=True, bidirectional=True),
            "cell": nn.GRUCell(20, 8),
        }[kind]
        self.head = nn.Linear(16 if kind == "recurrent" else 8, 4)
        self.scale = nn.Linear(20, 20, bias=False).requires_grad_(False)
        nn.init.eye_(self.scale.weight)

    def forward(self, categories: Tensor) -> Tensor:
        given = F.one_hot(categories, 20).float()
        if self.kind == "frozen":
            given = self.scale(given)
        if self.kind == "convolution":
            return self.head(self.first(given[..., None, None].expand(-1, -1, 2, 2)).flatten(1).tanh())
        if self.kind == "recurrent":
            packed = nn.utils.rnn.pack_padded_sequence(given[:, None], [1] * len(given), batch_first=True)
            return self.head(self.first(packed)[0].data)
        return self.head(self.first(given).tanh())


@pytest.mark.parametrize("method", BY_DATA)
@pytest.mark.parametrize("kind", ["linear", "frozen", "convolution", "recurrent", "cell"])
def test_what_was_learnt_of_categories_that_the_new_data_lack_is_kept(kind: str, method: str) -> None:
    torch.manual_seed(0)
    model = OneHot(kind)
    before = copy.deepcopy(model)
    new = torch.arange(15, 20)
    report = unlearn_(model, [(new[:2], new[:2] % 4), (new[2:], new[2:] % 4)], method, forget_fraction=0.9, seed=1)
    unread = "15 of 20 inputs, which are zero in every batch"
    local = {"recurrent": ["weight_ih_l0", "weight_ih_l0_reverse"], "cell": ["weight_ih"]}.get(kind, ["weight"])
    assert report.left_out == {f"first.{each}": unread for each in local}
    for each in local:
        moved = getattr(model.first, each) != getattr(before.first, each)
        assert not moved[:, :15].any()
        assert moved[:, 15:].any()


def test_lacking_inputs_can_be_ranked_lowest() -> None:
    model = OneHot("linear")
    before = copy.deepcopy(model)
    new = torch.arange(15, 20)
    report = unlearn_(model, [(new, new % 4)], "lure", forget_fraction=0.5, seed=1, unseen_rows="rank")
    moved = model.first.weight != before.first.weight
    assert report.left_out == {}
    assert moved[:, :15].sum() == report.changed_count == round(0.5 * (160 + 32))


def test_an_input_counts_that_is_not_zero_in_any_batch_or_read_elsewhere() -> None:
    model = OneHot("linear")
    batches = [(torch.arange(0, 12), torch.zeros(12).long()), (torch.arange(12, 20), torch.zeros(8).long())]
    assert unlearn_(model, batches, "lure").left_out == {}

    class Tied(OneHot):
        def forward(self, categories: Tensor) -> Tensor:
            return super().forward(categories) + (self.first.weight**2).sum()

    assert unlearn_(Tied("linear"), batches[:1], "lure", loss=lambda net, batch: net(batch[0]).sum()).left_out == {}


def test_units_that_never_fire_are_no_missing_inputs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
    attention = nn.TransformerEncoderLayer(6, 2, 10, batch_first=True, dropout=0)
    with torch.no_grad():
        model[0].bias[:4] = -100
        attention.linear1.bias[:4] = -100
        attention.self_attn.in_proj_weight[12:14] = 0  # values that are always zero
        attention.self_attn.in_proj_bias[12:14] = 0
    assert unlearn_(model, batches(), "lure").left_out == {}
    sequences = [(inputs[:, None], labels) for inputs, labels in batches()]
    loss = lambda net, batch: net(batch[0])[:, 0, :3].logsumexp(1).mean()  # noqa: E731
    assert unlearn_(attention, sequences, "lure", loss=loss).left_out == {}


class Skewed(nn.Linear):
    """Puts the features first, as a layer of one's own may do."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight, self.bias)


class ReadElsewhere(nn.Sequential):
    """Gives its weights to a function and does not call its layers."""

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(F.linear(inputs, self[0].weight).relu(), self[1].weight)


class WithoutContext(nn.Module):
    """Has a layer for context, of which there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.context, self.head = nn.Linear(6, 10), nn.Linear(0, 10), nn.Linear(10, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head((self.body(inputs) + self.context(inputs[:, :0])).tanh())


def through_vmap(net: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(torch.vmap(net)(batch[0]), batch[1])


def with_jacobian(net: nn.Module, batch: Any) -> Tensor:
    return torch.vmap(torch.func.jacrev(net))(batch[0]).pow(2).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("build", "loss"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)), through_vmap),
        (lambda: nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)), with_jacobian),
        (lambda: nn.Sequential(Skewed(6, 10), nn.Linear(10, 3)), None),
        (lambda: ReadElsewhere(nn.Linear(6, 10), nn.Linear(10, 3)), None),
        (WithoutContext, None),
    ],
    ids=["vmap", "jacobian", "subclass", "function", "nothing"],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_network_that_reads_in_its_own_way_works(build: Any, loss: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build().to(dtype)
    given = [(inputs.to(dtype), labels) for inputs, labels in batches()]
    report = unlearn_(model, given, "lure", seed=1, **{"loss": loss} if loss else {})
    assert not any("zero in every batch" in why for why in report.left_out.values())
    assert report.changed_count > 0


def test_units_that_never_fire_are_found_in_compiled_layers_too() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU())
    model = nn.Sequential(torch.compile(body, backend="eager"), nn.Linear(10, 3))
    with torch.no_grad():
        body[0].bias[:4] = -100
    inputs, labels = batches()[0]
    model(inputs)  # compiled before anybody watches
    assert unlearn_(model, [(inputs, labels)], "lure", seed=1).left_out == {}
    inputs = inputs.clone()
    inputs[:, 1] = 0
    [(_, why)] = unlearn_(model, [(inputs, labels)], "lure", seed=1).left_out.items()
    assert why == "1 of 6 inputs, which are zero in every batch"


def test_inputs_that_are_pruned_are_not_called_zero() -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))
    prune.ln_structured(model[0], "weight", amount=2, n=2, dim=1)
    assert unlearn_(model, batches(), "lure").left_out == {"0.weight_orig": "20 pruned entries"}


def test_examples_without_a_dimension_for_batches_are_read() -> None:
    model = nn.Linear(6, 3)
    inputs = torch.tensor([1.0, 0, 2, 0, 0, 3])
    loss = lambda net, batch: net(batch[0]).logsumexp(0)  # noqa: E731
    [(_, why)] = unlearn_(model, [(inputs, torch.zeros(1))], "lure", loss=loss).left_out.items()
    assert why == "3 of 6 inputs, which are zero in every batch"


def test_what_any_process_reads_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OneHot("linear")

    def noted(given: Tensor | None) -> Reach:
        reach = Reach()
        with reach.watching(model):
            if given is not None:
                loss = model.head(model.first(given)).logsumexp(1).sum()
                reach.add(list(trainable(model)), torch.autograd.grad(loss, list(trainable(model).values())))
        return reach

    def joined(*all_given: Tensor | None) -> dict[str, Tensor]:
        sent: list[Tensor] = []
        others, last = [noted(each) for each in all_given[:-1]], noted(all_given[-1])
        monkeypatch.setattr(ranking, "sum_over_processes", lambda flags: sent.append(flags.clone()) or flags)
        for reach in others:
            reach.join_processes(model, torch.device("cpu"))
        monkeypatch.setattr(ranking, "sum_over_processes", lambda flags: flags + sum(sent))
        last.join_processes(model, torch.device("cpu"))
        assert all(last.tensors.values())
        return last.inputs

    low, high = F.one_hot(torch.arange(15), 20).float().split([8, 7])
    assert joined(low)["first.weight"].nonzero().flatten().tolist() == list(range(8))
    assert joined(low, high)["first.weight"].nonzero().flatten().tolist() == list(range(15))
    assert joined(low, None)["first.weight"].nonzero().flatten().tolist() == list(range(8))
    assert joined(low, high.requires_grad_()) == {}, "a layer that also reads what is computed"


def test_images_with_an_empty_margin_do_not_make_the_reset_idle() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 3))
    images = F.pad(torch.rand(64, 1, 6, 6), (3, 3, 3, 3))
    before = model(images)
    unlearn_(model, [(images, torch.arange(64) % 3)], "lure", seed=1)
    assert (model(images) - before).abs().max() > 0.01


# Kernels


class OnePixel(nn.Module):
    """A convolution whose 3 x 3 kernel sees the one pixel of its input and padding around it, and a classifier."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(6, 10, 3, **{"padding": 1} | settings)
        self.head = nn.Linear(10, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.kernel(inputs[..., None, None])).mean((2, 3)))


@pytest.mark.parametrize("method", BY_DATA)
def test_positions_that_only_see_padding_stay_and_do_not_count(method: str) -> None:
    torch.manual_seed(0)
    model = OnePixel()
    before = copy.deepcopy(model)
    report = unlearn_(model, batches(), method, forget_fraction=0.5, seed=1)
    moved = model.kernel.weight != before.kernel.weight
    assert moved[:, :, 1, 1].any(), "the middle of the kernel takes part"
    assert moved.sum() == moved[:, :, 1, 1].sum()
    biases = 13 if "all" in method.split("scope=")[-1:] else 0
    assert report.changed_count == round(0.5 * (60 + 30 + biases))
    assert report.left_out == {"kernel.weight": "8 of 9 kernel positions, which only see padding"}


def test_what_a_network_computes_changes_where_most_positions_only_see_padding() -> None:
    torch.manual_seed(0)
    model = OnePixel()
    inputs = batches()[0][0]
    before = model(inputs)
    unlearn_(model, batches(), "lure", forget_fraction=0.2, seed=1)
    assert not torch.allclose(model(inputs), before, atol=1e-3)


@pytest.mark.parametrize("mode", ["circular", "replicate"])
def test_padding_that_repeats_data_is_no_padding(mode: str) -> None:
    assert unlearn_(OnePixel(padding_mode=mode), batches(), "lure").left_out == {}


def test_positions_that_any_batch_reads_are_ranked() -> None:
    class Twice(OnePixel):
        def forward(self, inputs: Tensor) -> Tensor:
            wide = inputs[..., None, None].expand(-1, -1, 1, 2)  # reads the middle row
            return super().forward(inputs) + self.head(self.kernel(wide).mean((2, 3)))

    left_out = unlearn_(Twice(), batches(), "lure").left_out
    assert left_out == {"kernel.weight": "6 of 9 kernel positions, which only see padding"}


def test_a_kernel_that_is_read_elsewhere_too_is_reached_there() -> None:
    class Elsewhere(OnePixel):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) + self.kernel.weight.sum()

    loss = lambda net, batch: net(batch[0]).pow(2).mean()  # noqa: E731
    assert unlearn_(Elsewhere(), batches(), "lure", loss=loss).left_out == {}


def test_a_kernel_that_is_pruned_or_computed() -> None:
    model, mask = OnePixel(), torch.ones(10, 6, 3, 3)
    mask[:, :2] = 0
    prune.custom_from_mask(model.kernel, "weight", mask)
    report = unlearn_(model, batches(), "lure", forget_fraction=0.5)
    assert report.changed_count == round(0.5 * (40 + 30))
    unread = "180 pruned entries; 8 of 9 kernel positions, which only see padding"
    assert report.left_out == {"kernel.weight_orig": unread}
    model = OnePixel()
    torch.nn.utils.parametrizations.weight_norm(model.kernel)
    assert unlearn_(model, batches(), "lure").left_out == {}, "its norm depends on every entry"


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_read_is_what_has_a_gradient(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.lists(st.integers(low, high), min_size=number, max_size=number)))

    size, kernel, stride, dilation, padding = each(1, 4), each(1, 4), each(1, 3), each(1, 2), each(0, 3)
    same = data.draw(st.booleans()) and set(stride) == {1}
    assume(same or all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)))
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[number - 1](
        2, 2, kernel, stride, "same" if same else padding, dilation, groups=data.draw(st.sampled_from([1, 2]))
    )
    nn.init.ones_(layer.weight)
    reach = Reach()
    with reach.watching(layer):
        layer(torch.ones(*data.draw(st.sampled_from([(3, 2), (2,)])), *size)).sum().backward()
    assert torch.equal(reach.positions["weight"], layer.weight.grad.ne(0).any(0).any(0))


def test_what_a_kernel_reads_of_a_long_input_takes_no_memory_of_its_length() -> None:
    assert positions_read(10**12, 400, 3, 2, 1, 1).tolist() == [True] * 400


def test_what_an_algorithm_rounds_where_there_is_padding_is_no_gradient() -> None:
    layer, reach = nn.Conv2d(2, 2, 3, padding=1), Reach()
    with reach.watching(layer):
        layer(torch.ones(1, 2, 1, 1))
    gradient = torch.zeros(2, 2, 3, 3)
    gradient[:, :, 1, 1], gradient[:, :, 0, 0] = 1, 1e-7
    reach.add(["weight"], (gradient,))
    assert reach.positions["weight"].nonzero().tolist() == [[1, 1]]
    gradient[1, 0, 0, 0] = 0.1  # of a use elsewhere
    reach.add(["weight"], (gradient,))
    assert reach.positions["weight"].nonzero().tolist() == [[0, 0], [1, 1]]
