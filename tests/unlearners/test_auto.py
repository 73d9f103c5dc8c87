"""Auto: how much it forgets, which candidate it takes, what it says of both, and what it leaves behind."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from sample_networks import NETWORKS, trained
from torch import Tensor, nn

from lure.errors import InputError
from lure.unlearn import apply_, unlearn_
from lure.unlearners import Auto, Context, Fire, Probed, ShrinkPerturb

# Small matrices are often ill-conditioned; FIRE says so.
pytestmark = pytest.mark.filterwarnings("ignore:fire left")


class Statistics(nn.Module):
    """Passes on what comes, and counts what it saw in training: a buffer, as BatchNorm has, but no BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.count += len(inputs)
        return inputs


def network(norm: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), norm or Statistics(), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


def chunk(model: nn.Module, right: int, count: int = 20) -> list[tuple[Tensor, Tensor]]:
    """Batches of four, of which the model has the first `right` examples right, and the others wrong."""
    inputs = torch.randn(count, 5, generator=torch.Generator().manual_seed(right))
    answers = copy.deepcopy(model).eval()(inputs).argmax(1)
    labels = torch.where(torch.arange(count) < right, answers, (answers + 1) % 4)
    return list(zip(inputs.split(4), labels.split(4), strict=True))


def context_for(model: nn.Module, right: int, **facts: object) -> Context:
    new = chunk(model, right)
    return Context(**{"batches": new, "chunks": [new], "train_accuracy": 1.0} | facts)


def trains(losses: dict[str, float], seen: list[nn.Module] | None = None) -> Callable[[nn.Module, float], Probed]:
    """Return a probe that adds one to every weight and buffer, and knows the losses beforehand.

    FIRE's first layer has a rescaled orthogonal matrix; by that the two candidates are told apart.
    """

    def probe(model: nn.Module, share: float) -> Probed:
        weight = model[0].weight.detach()
        product = weight.mT @ weight * 5 / 8
        name = "fire" if torch.allclose(product, torch.eye(5), atol=0.2) else "mild"
        if seen is not None:
            seen.append(copy.deepcopy(model))
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor += 1
        return Probed(losses[name], {"fire": 5, "mild": 7}[name], {"fire": 11, "mild": 13}[name])

    return probe


def equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_a_model_that_generalises_is_left_as_it_is() -> None:
    model = network()
    before = copy.deepcopy(model)
    report = apply_(Auto(), model, context_for(model, right=20))
    assert equal(model, before)
    assert report.changed_count == 0
    taken = report.choices[-1]
    assert (taken["candidate"], taken["memorised"]) == ("shrink-perturb:shrink=1:perturb=0", 0.0)
    # It may also know the new data better than the old ones.
    apply_(Auto(), model, context_for(model, right=20, train_accuracy=0.5))
    assert equal(model, before)


@pytest.mark.parametrize(
    ("right", "effort", "strength", "shrink"),
    [
        (15, None, 2.0, 0.5),
        (15, 1.0, 2.0, 0.5),
        (15, 0.25, 2.0, 0.75),  # a quarter of the length: half as much, by the square root
        (15, 9.0, 2.0, 0.5),
        (15, None, 1.0, 0.75),
        (0, None, 2.0, 0.0),  # not below zero
    ],
)
def test_what_was_memorised_and_can_be_relearned_is_forgotten(
    right: int, effort: float | None, strength: float, shrink: float
) -> None:
    model, expected = network(), network()
    context = context_for(model, right, effort=effort, generator=torch.Generator().manual_seed(3))
    Auto(strength=strength)(model, context)
    same_seed = Context(batches=[], generator=torch.Generator().manual_seed(3))
    ShrinkPerturb(shrink=shrink, perturb=(1 - shrink) / 4)(expected, same_seed)
    assert equal(model, expected)
    assert context.choices == [
        {"candidate": "version in use", "taken": False, "examples_read": 20},
        {
            "candidate": f"shrink-perturb:shrink={shrink:g}:perturb={(1 - shrink) / 4:g}",
            "memorised": 1 - right / 20,
            "relearnable": min(1.0, effort or 1.0),
            "taken": True,
        },
    ]


@pytest.mark.parametrize(("best", "losses"), [("mild", [0.5, 0.6]), ("fire", [0.6, 0.5]), ("mild", [0.5, 0.5])])
def test_the_better_probe_goes_on_and_the_other_leaves_no_trace(best: str, losses: list[float]) -> None:
    model, expected = network(), network()
    seen: list[nn.Module] = []
    probe = trains(dict(zip(("mild", "fire"), losses, strict=True)), seen)
    context = context_for(model, 15, probe=probe, generator=torch.Generator().manual_seed(3))
    Auto()(model, context)
    generator = torch.Generator().manual_seed(3)
    method = ShrinkPerturb(shrink=0.5, perturb=0.125) if best == "mild" else Fire()
    method(expected, Context(batches=[], generator=generator))
    assert equal(seen[best == "fire"], expected), "each candidate starts from the version in use"
    probe(expected, 0.1)
    assert equal(model, expected)
    read, mild, fire = context.choices
    assert read == {"candidate": "version in use", "taken": False, "examples_read": 20}
    assert mild == {
        "candidate": "shrink-perturb:shrink=0.5:perturb=0.125",
        "memorised": 0.25,
        "relearnable": 1.0,
        "loss": losses[0],
        "examples_trained": 7,
        "examples_read": 13,
        "taken": best == "mild",
    }
    assert fire == {
        "candidate": "fire",
        "loss": losses[1],
        "examples_trained": 5,
        "examples_read": 11,
        "taken": best == "fire",
    }


@pytest.mark.parametrize(
    ("method", "norm", "right", "known", "shares"),
    [
        (Auto(), None, 15, 1.0, [0.1, 0.1]),
        (Auto(probe_share=0.2), None, 15, 1.0, [0.2, 0.2]),
        (Auto(probe_share=0), None, 15, 1.0, []),
        (Auto(), None, 17, 1.0, [0.1, 0.1]),  # more than a tenth of what it knew was by heart
        (Auto(), None, 19, 1.0, []),
        (Auto(), None, 8, 0.46, [0.1, 0.1]),  # likewise, though the two accuracies are but 0.06 apart
        (Auto(), None, 0, 0.0, []),  # nothing was known
        (Auto(), nn.BatchNorm1d(8), 15, 1.0, []),
        (Auto(), nn.LayerNorm(8), 15, 1.0, [0.1, 0.1]),
    ],
)
def test_probes_are_run_where_they_may_be_worth_it(
    method: Auto, norm: nn.Module | None, right: int, known: float, shares: list[float]
) -> None:
    model, seen = network(norm), []

    def probe(probed: nn.Module, share: float) -> Probed:
        seen.append(share)
        return Probed(1.0, 0, 0)

    context = context_for(model, right, probe=probe, train_accuracy=known)
    method(model, context)
    assert seen == shares
    assert [row["taken"] for row in context.choices] == [False, True, False][: 3 if shares else 2]


def test_of_a_class_that_the_model_does_not_know_nothing_is_asked() -> None:
    model = network()
    new = [(inputs, labels.where(torch.arange(4) < 2, 7)) for inputs, labels in chunk(model, 10)]
    context = Context(batches=new, chunks=[new], train_accuracy=1.0, num_known=4)
    Auto()(model, context)
    assert context.choices[0]["examples_read"] == 20
    assert context.choices[1]["memorised"] == 0.4  # six of the ten whose class is known
    before, context = copy.deepcopy(model), Context(batches=new, chunks=[new], train_accuracy=1.0, num_known=0)
    Auto()(model, context)
    assert equal(model, before), "without any example of a known class, it is not known what was memorised"


def test_what_the_model_knows_is_read_where_nobody_says_it() -> None:
    model = network()
    chunks = [chunk(model, 20), chunk(model, 16), chunk(model, 5)]
    report = unlearn_(model, chunks[-1], "auto:strength=1", chunks=chunks, seed=0)
    memorised = 36 / 40 - 5 / 20
    assert report.choices[0]["examples_read"] == 60
    assert report.choices[1]["memorised"] == pytest.approx(memorised)
    assert report.choices[1]["candidate"] == f"shrink-perturb:shrink={1 - memorised:g}:perturb={memorised / 4:.4g}"


def test_a_few_hundred_examples_are_enough() -> None:
    model = network()
    new = chunk(model, 200, 200) + chunk(model, 0, 100)  # what comes after 200 is not read
    context = Context(batches=new, chunks=[new], train_accuracy=1.0)
    Auto()(model, context)
    assert context.choices[0]["examples_read"] == 200
    assert context.choices[1]["memorised"] == 0


def test_modes_stay_and_dropout_has_no_part_in_the_measurement() -> None:
    model = network(nn.BatchNorm1d(8))
    model[1].eval()
    modes = [layer.training for layer in model.modules()]
    statistics = copy.deepcopy(model[1].state_dict())
    context = context_for(model, 20)
    Auto()(model, context)
    assert context.choices[-1]["memorised"] == 0
    assert [layer.training for layer in model.modules()] == modes
    assert all(torch.equal(value, statistics[name]) for name, value in model[1].state_dict().items())


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        (None, r"^auto reads the new data on their own: give chunks=\[\.\.\.\], oldest first, the new one last$"),
        (1, r"^auto compares the new data with those that the model knows: give chunks=.* or train_accuracy=$"),
        (2, r"^auto reads the accuracy on each chunk: pass a loader with at least one batch for each$"),
    ],
)
def test_without_something_to_compare_it_changes_nothing(chunks: int | None, message: str) -> None:
    model = network()
    before, new = copy.deepcopy(model), chunk(model, 5)
    with pytest.raises(InputError, match=message):
        unlearn_(model, new, "auto", chunks=None if chunks is None else [[], new][-chunks:])
    assert equal(model, before)


@pytest.mark.parametrize(
    ("batch", "got"),
    [
        ({"inputs": torch.zeros(2, 5), "labels": torch.zeros(2)}, "not a dict"),
        ((torch.zeros(2, 5),), "not a tuple"),
        ((torch.zeros(2, 5), ["cat", "dog"]), "got list"),
        ((torch.zeros(2, 5), torch.zeros(2)), r"got float32 \(2,\)"),
        ((torch.zeros(2, 5), torch.zeros(2, 4, dtype=torch.int64)), r"got int64 \(2, 4\)"),
    ],
)
def test_right_answers_can_be_counted_only_where_each_example_has_a_class(batch: object, got: str) -> None:
    counts = r"^auto counts right answers: let each chunk give pairs \(inputs, labels\) with one integer label"
    with pytest.raises(InputError, match=f"{counts} for each example, {got}$"):
        unlearn_(network(), None, "auto", chunks=[[batch], [batch]])


def test_that_nothing_is_to_be_forgotten_is_an_answer_and_no_warning() -> None:
    model = network()
    known = chunk(model, right=20)
    assert unlearn_(model, None, "auto", chunks=[known, known]).changed_count == 0  # warnings are errors here


def test_a_probe_that_fails_leaves_the_model_as_it_was() -> None:
    model = network()
    before = copy.deepcopy(model)

    def probe(probed: nn.Module, share: float) -> Probed:
        trains({"mild": 1.0, "fire": 1.0})(probed, share)
        raise InputError("the loss is nan")

    with pytest.raises(InputError, match="the loss is nan"):
        apply_(Auto(), model, context_for(model, 15, probe=probe))
    assert equal(model, before)


def test_where_fire_is_refused_the_first_candidate_goes_on() -> None:
    net = NETWORKS["normalised-weights"]
    model, new = trained(net), [net.batch(1)]
    before = copy.deepcopy(model)
    context = Context(batches=new, chunks=[new], train_accuracy=1.0, probe=lambda model, share: Probed(1.0, 5, 0))
    report = apply_(Auto(strength=0), model, context)
    assert equal(model, before), "nothing that FIRE began is left"
    assert [choice["taken"] for choice in report.choices] == [False, True, False]
    assert "is computed by a parametrisation" in report.choices[2]["refused"]


def test_of_earlier_chunks_the_latest_are_read_first() -> None:
    model = network()
    oldest, latest, new = chunk(model, right=0, count=240), chunk(model, right=240, count=240), chunk(model, right=0)
    context = Context(batches=new, chunks=[oldest, latest, new])
    Auto()(model, context)
    assert context.choices[-1]["memorised"] == 1.0, "all of the latest are right, none of the oldest"
    assert context.choices[0]["examples_read"] == 20 + 200


def test_reading_goes_on_past_classes_that_nobody_could_know() -> None:
    model = network()
    unknown = [(inputs, torch.full_like(labels, 7)) for inputs, labels in chunk(model, right=0, count=240)]
    new = [*unknown, *chunk(model, right=10)]
    context = Context(batches=new, chunks=[new], train_accuracy=1.0, num_known=4)
    Auto()(model, context)
    assert context.choices[-1]["memorised"] == 0.5


def test_an_error_that_is_no_refusal_ends_the_choice() -> None:
    model, calls = network(), []

    def probe(probed: nn.Module, share: float) -> Probed:
        calls.append(share)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return Probed(1.0, 5, 0)

    with pytest.raises(RuntimeError, match="out of memory"):
        apply_(Auto(), model, context_for(model, 15, probe=probe))


@pytest.mark.parametrize(("diverges", "refused"), [(1, ["the loss is nan", None]), (2, [None, "the loss is nan"])])
def test_where_a_probe_diverges_the_other_candidate_goes_on(diverges: int, refused: list[str | None]) -> None:
    model, calls = network(), []

    def probe(probed: nn.Module, share: float) -> Probed:
        calls.append(copy.deepcopy(probed))
        if len(calls) == diverges:
            raise InputError("the loss is nan")
        return Probed(1.0, 5, 0)

    report = apply_(Auto(), model, context_for(model, 15, probe=probe))
    assert [choice.get("refused") for choice in report.choices[1:]] == refused
    assert [choice["taken"] for choice in report.choices[1:]] == [why is None for why in refused]
    assert equal(model, calls[2 - diverges]), "the weights of the probe that came to its end"


def test_the_report_says_what_was_measured_and_taken() -> None:
    model = network()
    context = context_for(model, 15, probe=trains({"mild": 1.104, "fire": 1.2}))
    lines = str(apply_(Auto(), model, context)).splitlines()
    assert lines[-1] == "chose shrink-perturb:shrink=0.5:perturb=0.125 (validation loss 1.10 after a probe; fire 1.20)"
    assert math.isclose(context.choices[1]["loss"], 1.104)
    lines = str(apply_(Auto(), model, context_for(model, 15))).splitlines()
    assert lines[-1] == "chose shrink-perturb:shrink=0.5:perturb=0.125"
