"""The one line for anybody's loop: any loader, any optimiser, a measured report, and nothing half done."""

import copy
from collections import UserDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearn import OnDevice, apply_, unlearn_
from lure.unlearners import UNLEARNERS, Context, Lure, RandomReset, Scratch
from lure.weights.optimizer_state import clear_optimizer_state_


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def pairs(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 5, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(count)]


def known_and_new(model: nn.Module) -> list[list[tuple[Tensor, Tensor]]]:
    """Two chunks, one that a model has all right, and one that it has all wrong."""
    answers = [(inputs, copy.deepcopy(model).eval()(inputs).argmax(1)) for inputs, _ in pairs()]
    return [answers, [(inputs, (labels + 1) % 3) for inputs, labels in answers]]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    for inputs, labels in pairs(steps):

        def closure(inputs: Tensor = inputs, labels: Tensor = labels) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            return loss

        optimizer.step(closure)
    optimizer.zero_grad()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    return copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer and optimizer.state_dict()})


def assert_equal(first: Any, second: Any) -> None:
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        for a, b in zip(first, second, strict=True):
            assert_equal(a, b)
    else:
        assert first == second


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "plain SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "Adam": torch.optim.Adam,
    "AMSGrad": lambda p: torch.optim.Adam(p, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "Adamax": torch.optim.Adamax,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "RMSprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.25),
    "Adadelta": torch.optim.Adadelta,
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.07),
    "ASGD": torch.optim.ASGD,
}
# Where the state of a parameter that was never stepped is not zero.
BEGINNINGS = {("Adagrad", "sum"): 0.25, ("Rprop", "step_size"): 0.07}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_cleared_where_weights_changed_and_nowhere_else(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer)
    weights, state = copy.deepcopy(list(model.parameters())), copy.deepcopy(optimizer.state_dict()["state"])
    report = unlearn_(model, pairs(), optimizer=optimizer, forget_fraction=0.4)
    assert report.changed_count == round(0.4 * (40 + 48 + 18))
    num_cleared = 0
    for index, (parameter, before) in enumerate(zip(model.parameters(), weights, strict=True)):
        changed = parameter != before
        for key, old in state.get(index, {}).items():
            new = optimizer.state[parameter][key]
            if not isinstance(old, Tensor) or old.dim() == 0:
                assert new == old, key
                continue
            assert torch.equal(new[~changed], old[~changed]), key
            expected = parameter if key == "ax" else torch.full_like(new, BEGINNINGS.get((name, key), 0.0))
            assert torch.equal(new[changed], expected[changed]), key
            num_cleared += int(changed.sum())
    assert num_cleared > 0 or name == "plain SGD"
    train(model, optimizer)  # it goes on from there


def test_the_beginning_of_each_state_is_what_the_optimizer_itself_begins_with() -> None:
    for name, build in OPTIMIZERS.items():
        parameter = nn.Parameter(torch.linspace(1, 2, 4))
        optimizer = build([parameter])
        parameter.grad = torch.zeros(4)
        optimizer.step()
        after_no_gradient = copy.deepcopy(optimizer.state[parameter])
        parameter.grad = torch.ones(4)
        optimizer.step()
        clear_optimizer_state_(optimizer, {parameter: torch.ones(4, dtype=torch.bool)})
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor) and value.dim() and key != "ax":
                torch.testing.assert_close(value, after_no_gradient[key], msg=f"{name} {key}")


class Strange(torch.optim.SGD):
    """Keeps something of a parameter's shape that nobody else knows."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["z"] = parameter.detach().clone()
        return super().step(closure)


class Factored(torch.optim.SGD):
    """Keeps a well-known state, but by rows."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["exp_avg_sq"] = torch.zeros(len(parameter), 1)
        return super().step(closure)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: torch.optim.LBFGS(p, max_iter=1), "LBFGS keeps"),  # with more, 16 examples may end in NaN
        (torch.optim.Adafactor, "'row_var' that Adafactor keeps for '0.weight'"),
        (lambda p: Strange(p, lr=0.1), "'z' that Strange keeps for '0.weight'"),
        (lambda p: Factored(p, lr=0.1), "'exp_avg_sq' that Factored keeps for '0.weight'"),
    ],
    ids=["LBFGS", "Adafactor", "unknown", "factored"],
)
def test_state_that_is_not_kept_by_entries_is_refused_before_anything_happens(build: Any, message: str) -> None:
    model = network()
    optimizer = build(model.parameters())
    train(model, optimizer)
    before = everything(model, optimizer)
    with pytest.raises(InputError, match=f"{message}.*cannot be cleared entry by entry: make a new optimiser"):
        unlearn_(model, pairs(), optimizer=optimizer)
    assert_equal(everything(model, optimizer), before)


def test_state_that_lbfgs_keeps_under_a_parameter_of_another_model_is_noticed() -> None:
    model, other = network(), nn.Linear(2, 2)
    optimizer = torch.optim.LBFGS([*other.parameters(), *model.parameters()], max_iter=1)
    train(model, optimizer)
    before = everything(model, optimizer)
    with pytest.raises(InputError, match=r"LBFGS keeps for a parameter of shape \(2, 2\)"):
        unlearn_(model, pairs(), optimizer=optimizer)
    with pytest.raises(InputError, match=r"LBFGS keeps for a parameter of shape \(2, 2\)"):
        clear_optimizer_state_(optimizer, {p: torch.ones_like(p, dtype=torch.bool) for p in model.parameters()})
    assert_equal(everything(model, optimizer), before)


class Wrapped:
    """An optimiser inside another object, as accelerate hands it out."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups, self.state = optimizer, optimizer.param_groups, optimizer.state


def test_an_error_names_the_optimizer_inside_a_wrapper() -> None:
    model = network()
    optimizer = torch.optim.Adafactor(model.parameters())
    train(model, optimizer)
    with pytest.raises(InputError, match="that Adafactor keeps"):
        unlearn_(model, pairs(), optimizer=Wrapped(optimizer))


class Apart(torch.optim.Optimizer):
    """Wraps an optimiser, with a state of its own beside that of the one inside."""

    def __init__(self, base: torch.optim.Optimizer, inside: Callable[[Any], Any] = lambda base: base) -> None:
        super().__init__([p for group in base.param_groups for p in group["params"]], {})
        self.base, self.inside = base, inside(base)
        self.param_groups = base.param_groups

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)


class Slow(torch.optim.SGD):
    """Keeps copies of the weights in an attribute, in a group, or in the state under a name, as the place says."""

    def __init__(self, parameters: Any, place: str) -> None:
        super().__init__(parameters, lr=0.1)
        copies = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]
        if place == "attribute":
            self.slow_weights = copies
        elif place == "group":
            self.param_groups[0]["slow_weights"] = copies[0]
        else:
            self.state["slow_weights"] = {"all": copies[0]}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: Apart(torch.optim.Adam(p)), r"Apart wraps another optimiser \(\.(base|inside)\)"),
        (lambda p: Wrapped(Apart(torch.optim.Adam(p))), "Apart wraps another optimiser"),
        (lambda p: Slow(p, "attribute"), r"Slow keeps tensors of its own \(\.slow_weights\)"),
        (lambda p: Slow(p, "group"), r"Slow keeps tensors of its own \(\.param_groups\)"),
        (lambda p: Slow(p, "state"), r"Slow keeps tensors of its own \(\.state\)"),
    ],
    ids=["wrapper", "wrapped wrapper", "attribute", "group", "state"],
)
def test_what_an_optimizer_keeps_elsewhere_is_refused_before_anything_happens(build: Any, message: str) -> None:
    model = network()
    optimizer = build(list(model.parameters()))
    before = everything(model)
    with pytest.raises(InputError, match=f"{message}.*make a new"):
        unlearn_(model, pairs(), optimizer=optimizer)
    assert_equal(everything(model), before)


def test_a_wrapper_that_shows_the_state_inside_is_cleared() -> None:
    model = network()
    inside = torch.optim.Adam(model.parameters())
    train(model, inside)
    before = {p: inside.state[p]["exp_avg"].clone() for p in model.parameters()}
    assert unlearn_(model, pairs(), optimizer=Wrapped(inside)).changed_count
    assert any(not torch.equal(inside.state[p]["exp_avg"], before[p]) for p in before)


def test_sparse_adam_is_cleared_by_entries() -> None:
    model = nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), nn.Linear(12, 3))
    optimizer = torch.optim.SparseAdam(model[0].parameters())
    tokens = [(torch.randint(7, (8, 3)), torch.randint(3, (8,)))]
    nn.functional.cross_entropy(model(tokens[0][0]), tokens[0][1]).backward()
    optimizer.step()
    before, state = model[0].weight.detach().clone(), copy.deepcopy(optimizer.state[model[0].weight])
    unlearn_(model, tokens, optimizer=optimizer, forget_fraction=0.5)
    changed = model[0].weight != before
    assert 0 < int(changed.sum()) < 28
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(optimizer.state[model[0].weight][key], state[key].masked_fill(changed, 0))


def test_muon_is_cleared_by_entries() -> None:
    model = nn.Sequential(nn.Linear(5, 3, bias=False))
    optimizer = torch.optim.Muon(model.parameters())
    train(model, optimizer)
    before = model[0].weight.detach().clone()
    unlearn_(model, pairs(), optimizer=optimizer)
    assert torch.equal(optimizer.state[model[0].weight]["momentum_buffer"] == 0, model[0].weight != before)


def test_an_optimizer_of_another_model_is_refused() -> None:
    model = network()
    with pytest.raises(InputError, match="optimizer must be one optimiser of torch, got list"):
        unlearn_(model, pairs(), optimizer=[torch.optim.SGD(model.parameters(), lr=0.1)])
    with pytest.raises(InputError, match="holds none of the model's parameters"):
        unlearn_(network(), pairs(), optimizer=torch.optim.SGD(network().parameters(), lr=0.1))


def test_an_optimizer_that_was_never_stepped_gets_no_state() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    unlearn_(model, pairs(), optimizer=optimizer)
    assert not optimizer.state


def test_an_optimizer_of_a_part_of_the_model_is_cleared_for_that_part() -> None:
    model = network()
    optimizer = torch.optim.SGD(model[5].parameters(), lr=0.1, momentum=0.9)
    train(model, optimizer)
    unlearn_(model, None, "scratch", optimizer=optimizer)
    assert set(optimizer.state) == set(model[5].parameters())
    assert not any(state["momentum_buffer"].any() for state in optimizer.state.values())


def test_the_report_counts_what_a_comparison_counts() -> None:
    model = network()
    nn.init.constant_(model[1].bias, 0.5)  # zero moved by zero has no relative distance to compare
    before = copy.deepcopy(model)
    report = unlearn_(model, pairs(), forget_fraction=0.25)
    assert report.method == "lure:forget_fraction=0.25"
    assert [t.name for t in report.tensors] == [name for name, _ in model.named_parameters()]
    for change, (name, parameter) in zip(report.tensors, model.named_parameters(), strict=True):
        old = before.get_parameter(name)
        assert (change.count, change.changed) == (old.numel(), int((parameter != old).sum()))
        assert change.changed_fraction == change.changed / change.count
        assert change.relative_distance == pytest.approx(float(((parameter - old).norm() / old.norm()).detach()))
    flat, old = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (model, before))
    assert report.changed_count == int((flat != old).sum())
    assert report.changed_fraction == report.changed_count / len(flat)
    assert report.relative_distance == pytest.approx(float((flat - old).norm() / old.norm()))
    assert report.seconds > 0


def test_the_report_prints_as_a_table() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.bias)
    lines = str(unlearn_(model, None, "random-reset", forget_fraction=0.5)).splitlines()
    assert lines[0].startswith("random-reset:forget_fraction=0.5: 0.")
    assert lines[1].split("  ")[0] == "tensor"
    assert [line.split()[:4] for line in lines[2:]] == [
        ["weight", "6", "3", "50.0"],
        ["bias", "2", "0", "0.0"],
        ["total", "8", "3", "37.5"],
    ]


def test_distances_from_zero_are_infinite_and_nan_that_stays_is_no_change() -> None:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.bias[0] = torch.nan
    report = unlearn_(model, None, "random-reset", forget_fraction=0.5)
    assert report.tensors[0].relative_distance == float("inf")
    assert report.tensors[1].changed == 0
    assert unlearn_(nn.Linear(2, 2), None, "warm-start").relative_distance == 0


Pair = namedtuple("Pair", ["inputs", "labels"])


def dict_loss(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch["inputs"]), batch["labels"])


@pytest.mark.parametrize(
    ("loader", "loss"),
    [
        (pairs(), None),
        ([list(pair) for pair in pairs()], None),
        ([Pair(*pair) for pair in pairs()], None),
        (iter(pairs()), None),
        (torch.utils.data.DataLoader([(x, y) for xs, ys in pairs() for x, y in zip(xs, ys, strict=True)], 8), None),
        ([{"inputs": x, "labels": y} for x, y in pairs()], dict_loss),
        ([UserDict(inputs=x, labels=y) for x, y in pairs()], dict_loss),
    ],
    ids=["tuples", "lists", "named tuples", "iterator", "DataLoader", "dicts", "mappings"],
)
def test_any_loader_will_do(loader: Any, loss: Any) -> None:
    model, expected = network(), network()
    Lure()(expected, Context(batches=pairs(), generator=torch.Generator().manual_seed(0)))
    unlearn_(model, loader, loss=loss, seed=0)
    assert_equal(model.state_dict(), expected.state_dict())


@pytest.mark.parametrize("method", [*UNLEARNERS, "lure:sample_size=9"])
def test_the_global_random_state_is_not_moved_by_a_loader_that_draws_from_it(method: str) -> None:
    model = network()
    loaders = [
        torch.utils.data.DataLoader(
            [(x, y) for xs, ys in batches for x, y in zip(xs, ys, strict=True)], 8, shuffle=True
        )
        for batches in (*known_and_new(model), pairs())
    ]
    state = torch.get_rng_state()
    unlearn_(model, loaders[-1], method, chunks=loaders[:2])
    assert torch.equal(torch.get_rng_state(), state)


def test_tokens_and_images_will_do() -> None:
    tokens = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2))
    report = unlearn_(tokens, [(torch.arange(12).view(4, 3) % 7, torch.randint(2, (4,)))])
    assert report.changed_count == round(0.2 * (28 + 24))
    images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    assert unlearn_(images, [(torch.rand(4, 3, 6, 6), torch.randint(2, (4,)))], "dash").changed_fraction > 0.9


class Movable:
    """Like a packed sequence or a graph: no tensor, but it knows how to move."""

    device = "cpu"

    def to(self, device: torch.device) -> "Movable":
        self.device = str(device)
        return self


class Encoding(UserDict):
    """Like a tokenizer's output: a mapping that knows how to move, and whose values are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        if name == "data":
            raise AttributeError(name)
        return self.data[name]

    def to(self, device: torch.device) -> "Encoding":
        return Encoding({name: tensor.to(device) for name, tensor in self.data.items()})


def test_a_mapping_that_moves_itself_keeps_its_kind() -> None:
    moved = next(iter(OnDevice([Encoding(tokens=torch.zeros(2))], torch.device("meta"))))
    assert moved.tokens.device.type == "meta"


def test_batches_are_moved_to_the_device_of_the_model() -> None:
    batch = (torch.zeros(2), [UserDict({"mask": torch.zeros(2), "name": "first"})], Pair(torch.zeros(1), 3), Movable())
    for _ in range(2):  # re-iterable, as the loader is
        moved = next(iter(OnDevice([batch], torch.device("meta"))))
        assert moved[0].device.type == moved[1][0]["mask"].device.type == moved[2].inputs.device.type == "meta"
        assert moved[1][0]["name"] == "first"
        assert moved[2].labels == 3
        assert moved[3].device == "meta"
    assert batch[0].device.type == "cpu"


def test_every_registered_method_works_by_its_name() -> None:
    for name in UNLEARNERS:
        model = network()
        report = unlearn_(model, pairs(), name, chunks=known_and_new(model))
        assert report.method == name
        assert (report.changed_count > 0) == (name != "warm-start") or name == "redo"


def test_methods_may_be_given_as_choices_objects_and_functions() -> None:
    first, second, third = network(), network(), network()
    unlearn_(first, None, "random-reset:forget_fraction=0.5")
    unlearn_(second, None, RandomReset(forget_fraction=0.5))
    unlearn_(third, None, "random-reset", forget_fraction=0.5)
    assert_equal(first.state_dict(), second.state_dict())
    assert_equal(first.state_dict(), third.state_dict())

    def zero_the_head(model: nn.Module, context: Context) -> None:
        nn.init.zeros_(model[5].weight)

    assert unlearn_(first, None, zero_the_head).method == "zero_the_head"


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    models = [network() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        torch.rand(3)
        unlearn_(model, pairs(), seed=seed)
    assert_equal(models[0].state_dict(), models[1].state_dict())
    assert not torch.equal(models[0][0].weight, models[2][0].weight)


def test_what_is_passed_reaches_the_method() -> None:
    def ones() -> nn.Module:
        built = network()
        for parameter in built.parameters():
            nn.init.ones_(parameter)
        return built

    model = network()
    initial = {name: torch.full_like(tensor, 9) for name, tensor in model.state_dict().items()}
    unlearn_(model, None, "scratch", initial=initial, draw=ones)
    assert all((parameter == 1).all() for parameter in model.parameters())
    assert all((buffer == 9).all() for buffer in model.buffers())


def test_mistakes_are_answered_with_what_would_be_right() -> None:
    for arguments, message in [
        ({"method": "lurre"}, "unknown unlearner 'lurre': did you mean 'lure'"),
        ({"forget_fractoin": 0.3}, "unknown option of lure 'forget_fractoin': did you mean 'forget_fraction'"),
        ({"forget_fraction": 1.3}, r"forget_fraction must lie in \[0, 1\], got 1.3"),
        ({"loader": None}, "pass a loader with at least one"),
        ({"loader": [{"inputs": 1}]}, r"must be a pair \(inputs, labels\), got dict: pass loss="),
        ({"method": Scratch(), "shrink": 0.1}, "give shrink to the unlearner itself"),
        ({"method": Scratch}, r"unlearner, such as Lure\(\), got <class .*Scratch'>"),
        ({"method": 3}, "got 3"),
        ({"scope": "weigths"}, "unknown value of scope 'weigths': did you mean 'weights'"),
    ]:
        with pytest.raises(InputError, match=message):
            unlearn_(network(), **{"loader": pairs(), **arguments})
    with pytest.raises(InputError, match="meta device"):
        unlearn_(nn.Linear(2, 2, device="meta"), pairs())
    with pytest.raises(InputError, match="pass draw="):
        unlearn_(Free(), None, "scratch")


class Free(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.ones(2))


def test_a_method_that_fails_half_way_leaves_everything_as_it_was() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer)
    before = everything(model, optimizer)

    def destroy(model: nn.Module, context: Context) -> None:
        with torch.no_grad():
            model[0].weight.zero_()
            model[1].running_mean.zero_()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_(destroy, model, Context(batches=[]), optimizer)
    assert_equal(everything(model, optimizer), before)

    def failing() -> Iterator[tuple[Tensor, Tensor]]:
        yield pairs()[0]
        raise OSError("disk")

    for name in ("lure", "dash", "redo"):
        with pytest.raises(OSError, match="disk"):
            unlearn_(model, failing(), name, optimizer=optimizer)
    assert_equal(everything(model, optimizer), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_it_works_inside_wrappers() -> None:
    model, expected = network(), network()
    unlearn_(expected, pairs())
    report = unlearn_(nn.DataParallel(model), pairs())
    assert_equal(model.state_dict(), expected.state_dict())
    assert report.tensors[0].name == "0.weight"


def test_without_a_seed_the_weights_give_it() -> None:
    torch.manual_seed(0)
    first = nn.Linear(6, 4)
    again, next_week = copy.deepcopy(first), copy.deepcopy(first)
    with torch.no_grad():
        next_week.bias[2] += 1e-3
    before = first.weight.detach().clone()
    reports = [unlearn_(model, None, "random-reset", forget_fraction=1) for model in (first, again, next_week)]
    assert torch.equal(first.weight, again.weight)
    assert not bool((first.weight == next_week.weight).any())
    assert reports[0].seed == reports[1].seed != reports[2].seed
    assert f"seed {reports[0].seed}" in str(reports[0]).splitlines()[0]
    # Once more the fresh weights are others, and a seed that was reported gives the same again.
    repeated = copy.deepcopy(first)
    assert unlearn_(first, None, "random-reset", forget_fraction=1).tensors[0].changed_fraction == 1
    assert not bool((first.weight == before).any())
    with pytest.warns(UserWarning, match="changed no weight"):
        unlearn_(repeated, None, "random-reset", forget_fraction=1, seed=reports[0].seed)


def test_every_type_of_weight_gives_a_seed() -> None:
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        model = nn.Linear(6, 4).to(dtype)
        assert unlearn_(model, None, "random-reset").seed != unlearn_(model, None, "random-reset").seed


def test_a_report_says_that_nothing_changed() -> None:
    model = nn.Linear(6, 4)
    unlearn_(model, None, "random-reset", forget_fraction=1, seed=7)
    with pytest.warns(UserWarning, match=r"changed no weight .*seed 7.*: give another seed"):
        report = unlearn_(model, None, "random-reset", forget_fraction=1, seed=7)
    assert "no weight changed" in str(report)
    assert "no weight changed" in str(unlearn_(model, None, "warm-start"))  # which is meant: no warning
