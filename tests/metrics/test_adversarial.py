import pytest
import torch
from torch import nn

from lure.errors import InputError
from lure.metrics import accuracy, adversarial_accuracy, fgsm, pgd
from lure.metrics.adversarial import masking_warning


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Plane:
    """A linear model of two classes: logits (w . x - offset, 0)."""

    def __init__(self, weights, offset):
        self.weights, self.offset = torch.tensor(weights), offset

    def __call__(self, inputs):
        height = inputs.flatten(1) @ self.weights - self.offset
        return torch.stack([height, torch.zeros_like(height)], dim=1)


@pytest.fixture(scope="module")
def trained():
    """A small network with eight inputs, and its training data."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = torch.rand(300, 8)
        labels = ((inputs[:, :4].sum(1) - inputs[:, 4:].sum(1)).abs() > 0.6).long()
        model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 2))
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(150):
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.zero_grad()
    return model.eval(), inputs, labels


def share(model, inputs, labels):
    return accuracy(model(inputs), labels)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_is_moved_by_the_closed_form(norm):
    model, inputs, labels = Plane([0.3, -0.4], -0.3), torch.full((1, 2), 0.5), torch.tensor([0])
    step = torch.tensor([[-1.0, 1.0]]) if norm == "linf" else torch.tensor([[-0.6, 0.8]])
    best = inputs + 0.1 * step
    assert torch.allclose(fgsm(model, inputs, labels, 0.1, norm), best)
    assert torch.allclose(pgd(model, inputs, labels, 0.1, norm), best, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 0.8])
def test_a_linear_model_is_moved_by_the_closed_form_within_the_range_of_inputs(epsilon):
    slope = torch.linspace(-1, 1, 8)
    model, labels = Plane(slope.tolist(), -10.0), torch.zeros(50, dtype=torch.int64)
    inputs = torch.rand(50, 8, generator=generator())
    best = (inputs - epsilon * slope.sign()).clamp(0, 1)
    for moved in (fgsm(model, inputs, labels, epsilon), pgd(model, inputs, labels, epsilon)):
        assert torch.allclose(moved @ slope, best @ slope, atol=1e-5)


def test_inputs_that_are_not_numbers_are_refused():
    with pytest.raises(InputError, match=r"floats in \[0, 1\]"):
        pgd(Plane([1.0, 1.0], 0.0), torch.tensor([[0.5, float("nan")]]), torch.tensor([0]), 0.1)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 7.0), ("l2", 5.0)])
def test_a_linear_model_falls_exactly_where_the_margin_ends(norm, dual):
    model, labels = Plane([3.0, -4.0], -0.85), torch.tensor([0])
    inputs = torch.tensor([[0.5, 0.5]])
    radius = float(model(inputs)[0, 0]) / dual
    for attack in (fgsm, pgd):
        assert share(model, attack(model, inputs, labels, 0.99 * radius, norm), labels) == 1
        assert share(model, attack(model, inputs, labels, 1.01 * radius, norm), labels) == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_epsilon_zero_is_clean(trained, norm):
    model, inputs, labels = trained
    for attack in (fgsm, pgd):
        assert torch.equal(attack(model, inputs, labels, 0.0, norm), inputs)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.6])
def test_attacks_stay_in_the_ball_and_in_range(trained, norm, epsilon):
    model, inputs, labels = trained
    order = float("inf") if norm == "linf" else 2
    for moved in (fgsm(model, inputs, labels, epsilon, norm), pgd(model, inputs, labels, epsilon, norm, steps=5)):
        assert (moved - inputs).norm(order, dim=1).max() <= epsilon * (1 + 1e-5)
        assert moved.min() >= 0
        assert moved.max() <= 1
        assert not torch.equal(moved, inputs)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.01, 0.03, 0.05, 0.1, 0.3])
def test_pgd_is_never_above_fgsm_and_restarts_never_help_the_model(trained, norm, epsilon):
    model, inputs, labels = trained
    one_step = share(model, fgsm(model, inputs, labels, epsilon, norm), labels)
    many = [
        share(
            model,
            pgd(
                model, inputs, labels, epsilon, norm, steps=3, restarts=count, step_size=epsilon, generator=generator()
            ),
            labels,
        )
        for count in (1, 2, 4)
    ]
    assert one_step >= many[0] >= many[1] >= many[2]


def test_many_small_steps_find_more_than_one_large(trained):
    model, inputs, labels = trained
    single = share(model, fgsm(model, inputs, labels, 0.06), labels)
    assert share(model, pgd(model, inputs, labels, 0.06, restarts=2), labels) < single - 0.01


def test_restarts_find_more(trained):
    model, inputs, labels = trained
    options = {"steps": 1, "step_size": 0.0, "norm": "l2"}
    once, often = (
        share(model, pgd(model, inputs, labels, 0.3, restarts=count, **options), labels) for count in (1, 30)
    )
    assert often < once


def test_a_certain_model_is_attacked_as_well_as_a_doubtful_one(trained):
    model, inputs, labels = trained
    doubtful = share(model, pgd(model, inputs, labels, 0.03), labels)
    certain = share(model, pgd(lambda x: 3e4 * model(x), inputs, labels, 0.03), labels)
    assert certain == pytest.approx(doubtful, abs=0.02)


def test_a_misclassified_input_stays_misclassified():
    model, inputs = Plane([1.0, 0.0], 0.5), torch.tensor([[0.4, 0.5]])
    assert share(model, pgd(model, inputs, torch.tensor([0]), 0.05), torch.tensor([0])) == 0


def test_model_inputs_and_global_state_are_not_changed(trained):
    model, inputs, labels = trained
    before, state = inputs.clone(), torch.get_rng_state()
    pgd(model, inputs, labels, 0.1, restarts=2)
    fgsm(model, inputs, labels, 0.1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(inputs, before)
    assert torch.equal(state, torch.get_rng_state())


def test_the_seed_decides(trained):
    model, inputs, labels = trained
    options = {"steps": 1, "step_size": 0.0, "norm": "l2"}
    first, again, other = (pgd(model, inputs, labels, 0.2, generator=generator(s), **options) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def starting_points(centre, epsilon, norm, seed=0):
    """Return where PGD starts: the last inputs of the model, if its only step has length 0."""
    shown = []

    def model(inputs):
        shown.append(inputs.detach().clone())
        return Plane([1.0, 1.0, 1.0], 0.0)(inputs)

    labels = torch.zeros(len(centre), dtype=torch.int64)
    pgd(model, centre, labels, epsilon, norm, steps=1, step_size=0.0, generator=generator(seed))
    return shown[-1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attacks_start_anywhere_in_the_ball(norm):
    centre = torch.full((4000, 3), 0.5)
    away = starting_points(centre, 0.2, norm) - centre
    distance = away.abs().amax(1) if norm == "linf" else away.norm(dim=1)
    assert distance.max() <= 0.2 + 1e-6
    assert float((distance < 0.2 * 0.5 ** (1 / 3)).float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starting_points_come_from_the_generator_alone(norm):
    centre, state = torch.full((5, 3), 0.5), torch.get_rng_state()
    first, again, other = (starting_points(centre, 0.2, norm, seed) - centre for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.nn.functional.cosine_similarity(first, other).max() < 0.999
    assert torch.equal(state, torch.get_rng_state())


def test_accuracy_falls_as_epsilon_grows(trained):
    model, inputs, labels = trained
    batches = [(inputs[:200], labels[:200]), (inputs[200:], labels[200:])]
    result = adversarial_accuracy(model, batches, [0.08, 0.0, 0.02, 0.04], steps=10)
    assert [point["epsilon"] for point in result["curve"]] == [0.0, 0.02, 0.04, 0.08]
    values = [point["accuracy"] for point in result["curve"]]
    assert values[0] == pytest.approx(share(model, inputs, labels))
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 0.1
    assert result["warning"] is None
    assert result["examples"] == 300


def test_a_model_without_a_gradient_is_suspected(trained):
    _, inputs, labels = trained

    def steps(x):
        return nn.functional.one_hot((x[:, 0] * 4).long().clamp(0, 1), 2).float() + 0 * x.sum(1, keepdim=True)

    labels = steps(inputs).argmax(1)
    result = adversarial_accuracy(steps, [(inputs, labels)], [0.0, 1e-4, 2e-4], attack="fgsm")
    assert "did not fall from epsilon 0 (100.0 %) to 0.0001 (100.0 %)" in result["warning"]
    assert result["steps"] is None


def test_accuracy_of_zero_cannot_fall_and_is_not_suspected():
    assert masking_warning([0, 1, 2], [0.5, 0.0, 0.0]) is None
    assert masking_warning([0, 1], [0.5, 0.6]) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be at least 0, got -0.1"),
        ({"norm": "l1"}, "unknown norm 'l1'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"step_size": -1.0}, "step_size must be at least 0"),
        ({"inputs": torch.tensor([[1.5, 0.0]])}, r"floats in \[0, 1\]"),
        ({"inputs": torch.tensor([[1, 0]])}, r"floats in \[0, 1\]"),
        ({"inputs": torch.zeros(0, 2)}, r"floats in \[0, 1\]"),
    ],
)
def test_bad_settings_are_refused(change, message):
    given = {"inputs": torch.tensor([[0.5, 0.5]]), "labels": torch.tensor([0]), "epsilon": 0.1} | change
    with pytest.raises(InputError, match=message):
        pgd(Plane([1.0, 1.0], 0.5), **given)


def test_an_unknown_attack_and_no_batches_are_refused():
    with pytest.raises(InputError, match="unknown attack 'pdg': did you mean 'pgd'"):
        adversarial_accuracy(Plane([1.0], 0.0), [(torch.zeros(1, 1), torch.tensor([0]))], [0.1], attack="pdg")
    with pytest.raises(InputError, match="at least one batch"):
        adversarial_accuracy(Plane([1.0], 0.0), [], [0.1])
