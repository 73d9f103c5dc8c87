import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from lure.data.examples import Examples
from lure.data.sources import load_dataset
from lure.errors import InputError
from lure.metrics import compare_versions, corrupt, corruption_accuracy, evaluate, negative_log_likelihood
from lure.metrics.corruptions import KINDS
from lure.metrics.hits import pack_hits, unpack_hits


def make_images(count, seed=0):
    """Test images of the embedded sample of Fashion-MNIST, different ones for each seed."""
    return load_dataset("fashion-mnist-sample").test[seed * 300 : seed * 300 + count]


@pytest.fixture(scope="module")
def model():
    data = load_dataset("fashion-mnist-sample").train[:1500]
    inputs = data.inputs.float() / 255
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(784, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10))
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(12):
            for rows in torch.randperm(len(data)).split(100):
                loss = nn.functional.cross_entropy(network(inputs[rows]), data.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    network.zero_grad()
    return network


@pytest.fixture(scope="module")
def full(model):
    return evaluate(
        model,
        make_images(300, seed=1),
        validation=make_images(100, seed=2),
        class_names=["one", "two", "three"],
        corruptions=True,
        adversarial=True,
        steps=4,
    )


def test_the_keys_are_the_names_of_the_metrics(full):
    assert {
        "accuracy", "class_balanced_accuracy", "negative_log_likelihood", "brier_score", "expected_calibration_error",
        "expected_calibration_error_equal_mass", "reliability", "per_class", "temperature_scaling", "corruptions",
        "adversarial",
    } <= set(full)  # fmt: skip
    assert set(full["corruptions"]["kinds"]) == set(KINDS)
    assert [p["severity"] for p in full["corruptions"]["kinds"]["gaussian_noise"]["severities"]] == [1, 2, 3, 4, 5]
    assert full["adversarial"]["pgd"]["linf"]["curve"][0]["epsilon"] == 0
    assert [row.get("name") for row in full["per_class"]] == ["one", "two", "three"] + [None] * 7


def test_the_result_is_json(full):
    assert json.loads(json.dumps(full, allow_nan=False)) == full


def test_corruptions_and_attacks_lower_accuracy(full):
    clean = full["accuracy"]
    assert clean > 0.65
    kinds = full["corruptions"]["kinds"]
    by_severity = [np.mean([kinds[kind]["severities"][s]["accuracy"] for kind in KINDS]) for s in (0, 2, 4)]
    assert clean > by_severity[0] > by_severity[1] > by_severity[2]
    for attack in ("fgsm", "pgd"):
        curve = full["adversarial"][attack]["linf"]["curve"]
        assert curve[0]["accuracy"] == clean
        assert curve[-1]["accuracy"] < 0.5 * clean


def test_means_over_corruptions(full):
    part = full["corruptions"]
    usual = list(KINDS)[:15]
    expected = np.mean([p["accuracy"] for kind in usual for p in part["kinds"][kind]["severities"]])
    assert part["mean_corruption_accuracy"] == pytest.approx(expected)
    assert part["relative_accuracy"] == pytest.approx(expected / full["accuracy"])
    assert part["kinds"]["frost"]["synthetic"] is True
    assert part["kinds"]["fog"]["synthetic"] is False


def test_temperature_comes_from_validation_data_only(model):
    test, held = make_images(100, seed=1), make_images(100, seed=2)
    scaled = evaluate(model, test, validation=held)["temperature_scaling"]
    wrong = Examples(test.inputs, (test.labels + 1) % 10)
    assert evaluate(model, wrong, validation=held)["temperature_scaling"]["temperature"] == scaled["temperature"]
    assert scaled["validation_examples"] == 100
    model.eval()
    logits = model(test.inputs / 255) / scaled["temperature"]
    assert scaled["negative_log_likelihood"] == pytest.approx(negative_log_likelihood(logits, test.labels), rel=1e-5)
    assert "temperature_scaling" not in evaluate(model, test)


def test_a_temperature_that_validation_data_do_not_determine_is_one_and_says_so(model):
    test, held = make_images(100, seed=1), make_images(40, seed=2)
    model.eval()
    with torch.no_grad():
        held = Examples(held.inputs, model(held.inputs / 255).argmax(1))
    result = evaluate(model, test, validation=held)
    assert result["temperature_scaling"]["undetermined"] == "every example is right"
    assert result["temperature_scaling"]["temperature"] == 1
    assert result["temperature_scaling"]["negative_log_likelihood"] == result["negative_log_likelihood"]


def test_corruptions_are_the_same_for_every_model_and_differ_between_batches():
    seen = []

    def spy(inputs):
        seen.append(inputs.clone())
        return torch.zeros(len(inputs), 10)

    examples = make_images(30)
    corruption_accuracy(spy, examples, ["fog"], seed=3)
    first = [*seen]
    seen.clear()
    corruption_accuracy(lambda inputs: spy(inputs) + torch.rand(10), examples, ["gaussian_noise", "fog"], seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first[1:], seen[6:], strict=True))
    seen.clear()
    large = Examples(examples.inputs[:10].expand(-1, 3, -1, -1).repeat(1, 1, 8, 8), examples.labels[:10])
    corruption_accuracy(spy, Examples.concatenate([large] * 3), ["fog"], seed=3)  # too large for one batch
    assert [len(batch) for batch in seen] == [10] * 3 * 6
    assert torch.equal(seen[0], seen[1])  # the clean images
    assert not torch.equal(seen[3], seen[4])  # the fog over them


def test_a_limit_takes_the_same_examples_for_every_model(model):
    part = evaluate(model, make_images(100), corruptions=["contrast"], limit=20)
    assert part["examples"] == 100
    assert part["corruptions"]["examples"] == 20
    seen = []

    def spy(inputs):
        seen.append(inputs.clone())
        return torch.rand(len(inputs), 10)

    for seed in (0, 0, 1):
        evaluate(spy, make_images(100), corruptions=["contrast"], limit=20, seed=seed)
    # Each time the whole set, the 20 chosen ones as they are, and the five severities.
    assert [len(inputs) for inputs in seen] == [100, *[20] * 6] * 3
    first, again, other = seen[1], seen[8], seen[15]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_published_files_are_read_instead(model, tmp_path):
    data = make_images(10)
    levels = [corrupt(data.inputs.float() / 255, "contrast", severity) for severity in range(1, 6)]
    array = (torch.cat(levels) * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.save(tmp_path / "contrast.npy", array)
    np.save(tmp_path / "labels.npy", data.labels.repeat(5).numpy())
    part = evaluate(model, data, corruptions=["contrast"], corrupted_files=tmp_path)["corruptions"]
    model.eval()
    expected = []
    for start in range(0, 50, 10):
        images = torch.from_numpy(array[start : start + 10]).permute(0, 3, 1, 2) / 255
        expected.append(float((model(images).argmax(1) == data.labels).float().mean()))
    assert [p["accuracy"] for p in part["kinds"]["contrast"]["severities"]] == pytest.approx(expected)


def test_versions_are_compared_in_predictions_and_weights(model):
    after = copy.deepcopy(model)
    with torch.no_grad():
        after[-1].weight.mul_(-1)
    test = make_images(100)
    change = compare_versions(model, after, test)
    before_hits, after_hits = (unpack_hits(evaluate(version, test)["correct"], 100) for version in (model, after))
    assert change["paired_test"]["only_second_right"] == int((before_hits & ~after_hits).sum()) > 50
    assert change["paired_test"]["only_first_right"] == int((after_hits & ~before_hits).sum())
    assert sum(row["became_wrong"] for row in change["per_class"]) == change["paired_test"]["only_second_right"]
    moved = {row["name"]: row["cosine"] for row in change["weights"]}
    assert moved["4.weight"] == pytest.approx(-1)
    assert moved["1.weight"] == pytest.approx(1)


def test_with_more_classes_than_examples_only_classes_that_have_some_are_listed():
    before, after = nn.Linear(4, 5000), nn.Linear(4, 5000)
    data = Examples(torch.rand(6, 4), torch.tensor([4999, 7, 7, 7, 300, 300]))
    result = evaluate(after, data)
    assert [(row["label"], row["examples"]) for row in result["per_class"]] == [(7, 3), (300, 2), (4999, 1)]
    change = compare_versions(before, after, data)
    assert [row["label"] for row in change["per_class"]] == [7, 300, 4999]
    assert len(json.dumps([result, change])) < 10_000


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100])
def test_hits_are_the_same_after_packing(count):
    hits = torch.rand(count, generator=torch.Generator().manual_seed(0)) < 0.5
    assert unpack_hits(pack_hits(hits), count).tolist() == hits.tolist()
    with pytest.raises(InputError, match="hits of"):
        unpack_hits(pack_hits(hits), count + 8)


def test_the_model_and_the_global_state_are_restored(model):
    model.train()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    state = torch.get_rng_state()
    evaluate(model, make_images(20), corruptions=["snow"], adversarial=True, steps=1)
    assert model.training
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_tables_can_be_evaluated_but_not_corrupted():
    table = Examples(torch.eye(3), torch.tensor([0, 1, 2]))
    assert evaluate(lambda inputs: inputs, table)["accuracy"] == 1
    with pytest.raises(InputError, match=r"need uint8 images .* got float32 of shape \(3,\)"):
        evaluate(lambda inputs: inputs, table, corruptions=True)
    with pytest.raises(InputError, match="need uint8 images"):
        evaluate(lambda inputs: inputs, table, adversarial=True)


def test_bad_requests_are_refused(model):
    with pytest.raises(InputError, match="unknown corruption 'fogg': did you mean 'fog'"):
        evaluate(model, make_images(5), corruptions=["fogg"])
    with pytest.raises(InputError, match="no examples"):
        evaluate(model, make_images(5)[:0])
    with pytest.raises(InputError, match="limit must be at least 1"):
        evaluate(model, make_images(5), adversarial=True, limit=0)


def test_large_images_come_in_small_batches():
    sizes = []

    def model(inputs):
        sizes.append(len(inputs))
        return inputs.flatten(1)[:, :2]

    def images(shape):
        sizes.clear()
        generator = torch.Generator().manual_seed(0)
        return Examples(torch.randint(256, (12, *shape), dtype=torch.uint8, generator=generator), torch.arange(12) % 2)

    examples = images((3, 224, 224))
    assert evaluate(model, examples, corruptions=["contrast"], adversarial=True, steps=1)["examples"] == 12
    assert max(sizes) == 10
    evaluate(model, images((3, 32, 32)))
    assert sizes == [12]
