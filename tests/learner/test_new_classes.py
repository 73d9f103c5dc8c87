"""Classes that arrive late: the head grows, versions keep their own classes, and the gate judges the old ones."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lure import UNLEARNERS, Examples, InputError, Learner, Recipe, Stage, run
from lure.cli import main
from lure.data.sources import Dataset, load_examples
from lure.experiment.evaluate import evaluate_version
from lure.learner.gate import Gate
from lure.learner.production import accept, init, rollback, status, update, verify
from lure.learner.version import Version, write_predictions
from lure.recipe import Experiment

CENTRES = 3 * torch.eye(5)
RECIPE = Recipe(
    model="mlp:width=8:depth=1",
    unlearner="shrink-perturb",
    epochs=3,
    batch_size=16,
    lr=0.05,
    milestones=(),
    threads=1,
    new_classes="grow",
)


def points(labels: list[int], seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.tensor(labels)
    return Examples(CENTRES[chosen] + torch.randn(len(chosen), 5, generator=generator), chosen)


CHUNKS = [points([0, 1] * 20, 1), points([0, 1, 2] * 14, 2), points([1, 2, 3, 4] * 10, 3), points([0, 1] * 20, 4)]
TEST = points([0, 1, 2, 3, 4] * 12, 9)


def learn_all(path: Path, recipe: Recipe = RECIPE, **options: Any) -> list[Stage]:
    with Learner.open(path, recipe=recipe, test=TEST, **options) as learner:
        return [learner.learn(chunk) for chunk in CHUNKS]


def tensors(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.glob("versions/*/*"))}


def test_the_head_grows_with_the_stage_that_brings_a_class(tmp_path: Path) -> None:
    stages = learn_all(tmp_path / "run")
    assert [stage.num_classes for stage in stages] == [2, 3, 5, 5]
    assert [stage.new_classes for stage in stages] == [[], ["2"], ["3", "4"], []]
    for stage in stages:  # a class that has not come is an error, and known_accuracy leaves it out
        assert stage.num_classes is not None
        assert stage.accuracy is not None
        assert stage.known_accuracy == pytest.approx(stage.accuracy * 5 / stage.num_classes)
    outputs = [next(Version.load(tmp_path / "run", number).logits(TEST)).shape[1] for number in (1, 2, 3, 4)]
    assert outputs == [2, 3, 5, 5]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "carried": {"optimizer": "adam", "lr": 0.01, "carry_optimizer": True},
    "pulled": {"unlearner": "knowledge-evolution", "l2_init": 0.01},
    "averaged": {"average_interval": 3, "replay": "buffer:capacity=20"},
    "served as an average": {"regularizers": ("ema:decay=0.9",)},
    "distilled": {"regularizers": ("distill",)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_process_for_each_chunk_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    recipe = Recipe(**{field: getattr(RECIPE, field) for field in Recipe.__dataclass_fields__} | OPTIONS[name])
    learn_all(tmp_path / "once", recipe)
    for chunk in CHUNKS:
        with Learner.open(tmp_path / "apart", recipe=recipe, test=TEST) as learner:
            learner.learn(chunk)
    assert tensors(tmp_path / "once") == tensors(tmp_path / "apart")


@pytest.mark.parametrize("method", sorted(UNLEARNERS))
def test_every_unlearner_meets_a_head_that_has_grown(method: str, tmp_path: Path) -> None:
    recipe = Recipe(**{field: getattr(RECIPE, field) for field in Recipe.__dataclass_fields__} | {"unlearner": method})
    with Learner.open(tmp_path / "run", recipe=recipe, test=TEST) as learner:
        for chunk in CHUNKS[:2]:
            learner.learn(chunk)
        assert learner.predict(TEST).shape == (60, 3)


class Grows(nn.Module):
    """The head is registered first, so that only a builder can say which layer it is."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(6, num_classes)
        self.body = nn.Linear(5, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.body(inputs)))
        return out


def fixed() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))


def roomy() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 9))


@pytest.mark.parametrize(("builder", "widths"), [(Grows, [2, 3, 5]), (fixed, [2, 3, 5]), (roomy, [9, 9, 9])])
def test_networks_of_ones_own_grow_and_load(builder: Any, widths: list[int], tmp_path: Path) -> None:
    for chunk in CHUNKS[:3]:
        with Learner.open(tmp_path / "run", recipe=RECIPE, model=builder, test=TEST) as learner:
            learner.learn(chunk)
    loaded = [Version.load(tmp_path / "run", number, model=builder) for number in (1, 2, 3)]
    assert [next(version.logits(TEST)).shape[1] for version in loaded] == widths
    with Learner.open(tmp_path / "run", model=builder, test=TEST) as learner:
        assert torch.equal(learner.predict(TEST), torch.cat(list(loaded[-1].logits(TEST))))


def needs_classes(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, num_classes))


def test_a_builder_that_must_be_told_the_number_of_classes_is(tmp_path: Path) -> None:
    learn_all(tmp_path / "run", model=needs_classes)
    assert Version.load(tmp_path / "run", 1, model=needs_classes).model[2].out_features == 2


def test_a_builder_that_builds_another_head_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    def square() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 2), nn.LayerNorm(2))

    with Learner.open(tmp_path / "run", recipe=RECIPE, model=square, test=TEST) as learner:
        learner.learn(CHUNKS[0])
        before = tensors(tmp_path)
        with pytest.raises(
            InputError, match=r"the network fails .* after layer 2 grew for 3 classes: it needs a builder"
        ):
            learner.learn(CHUNKS[1])
        assert tensors(tmp_path) == before


def test_refused_by_default(tmp_path: Path) -> None:
    recipe = Recipe(model="mlp:width=8", epochs=1, threads=1)
    with Learner.open(tmp_path / "run", recipe=recipe) as learner:
        learner.learn(CHUNKS[0])
        with pytest.raises(InputError, match=r"label 2 is not one of the known classes: 0 to 1; .*--new-classes grow"):
            learner.learn(CHUNKS[1])
    with Learner.open(tmp_path / "run", new_classes="grow") as learner:
        assert learner.learn(CHUNKS[1]).num_classes == 3


def test_a_stream_whose_classes_arrive_over_time(tmp_path: Path) -> None:
    data = Dataset(points([0, 1, 2, 3] * 30, 1), points([0, 1, 2, 3] * 10, 2), ("ant", "bee", "cow", "dog"))
    fields = {field: getattr(RECIPE, field) for field in Recipe.__dataclass_fields__}
    experiment = Experiment(**fields, num_mega_batches=3, order="class")
    stages = run(experiment, tmp_path / "run", dataset=data)
    assert [(stage.num_classes, stage.new_classes) for stage in stages] == [(2, []), (3, ["cow"]), (4, ["dog"])]
    assert [stage.test_examples for stage in stages] == [40] * 3
    assert Version.load(tmp_path / "run", 1).class_names == ["ant", "bee"]
    assert [stage.negative_flips is not None for stage in stages] == [False, True, True]
    # What is known to its end, and is not to grow, has all outputs from the start.
    stages = run(Experiment(**fields | {"new_classes": "refuse"}, num_mega_batches=3, order="class"),
                 tmp_path / "all", dataset=data)  # fmt: skip
    assert [stage.num_classes for stage in stages] == [4, 4, 4]


# In production


def images(folder: str, classes: dict[str, int], count: int, seed: int) -> str:
    """Images in which the class is the mean colour; `classes` says which colour each name has."""
    numbers = np.random.default_rng(seed)
    for name, channel in classes.items():
        Path(folder, name).mkdir(parents=True)
        for number in range(count):
            pixels = numbers.integers(0, 100, (4, 4, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(Path(folder, name, f"{number}.png"))
    return folder


FLAGS = [
    *("--model", "mlp:width=8:depth=1", "--epochs", "4", "--lr", "0.05", "--milestones", "3", "--batch-size", "16"),
    *("--threads", "1", "--significance", "0", "--margin", "0.5"),
]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with one version that knows cat and dog, and data that bring birds."""
    monkeypatch.chdir(tmp_path)
    images("holdout", {"cat": 0, "dog": 1}, 20, 0)
    images("one", {"cat": 0, "dog": 1}, 15, 1)
    images("two", {"cat": 0, "dog": 1, "bird": 2}, 12, 2)
    images("birds", {"bird": 2}, 10, 3)
    assert main(["init", "run", "--holdout", "holdout", *FLAGS]) == 0
    assert main(["update", "run", "one"]) == 0


def tree() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file() and p.name != ".lock"}


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(words)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.usefixtures("begun")
def test_a_new_class_is_refused_in_one_line_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    before = tree()
    assert said(["update", "run", "two"], capsys) == (
        2,
        "",
        "error: two holds classes that the model does not know: 'bird' (12 examples); it knows cat, dog; if they are "
        "new, let its head grow (--new-classes grow)\n",
    )
    assert tree() == before


@pytest.mark.usefixtures("begun")
def test_growth_is_said_reported_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(["update", "run", "two", "--new-classes", "grow", "--holdout-add", "birds"], capsys)
    assert code == 0, err
    version = status("run")["versions"][1]
    share = version["decision"]["new_classes"]["bird"]
    assert f"  new class bird: {100 * share:.2f} % of the holdout's right\n" in out
    assert (version["num_classes"], version["new_classes"], version["test_examples"]) == (3, ["bird"], 50)
    assert version["decision"]["comparisons"][0]["accuracy"] == status("run")["versions"][0]["accuracy"]
    assert status("run")["holdout"]["examples"] == 50
    assert "new with version 2" in said(["status", "run"], capsys)[1]
    # The same command again changes nothing, and the next update knows the class.
    before = tree()
    code, out, _ = said(["update", "run", "two", "--new-classes", "grow", "--holdout-add", "birds"], capsys)
    assert (code, tree()) == (0, before)
    assert "committed already, as version 2" in out
    images("three", {"bird": 2, "dog": 1}, 10, 4)
    assert main(["update", "run", "three"]) == 0
    third = status("run")["versions"][2]
    assert (third["new_classes"], third["test_examples"]) == ([], 50)
    assert "new_classes" not in third["decision"]
    assert list(verify("run")) == []
    labels = Path("run", "chunks", str(version["holdout_added"]), "labels.npy")
    labels.write_bytes(labels.read_bytes()[:-1])
    assert len(list(verify("run"))) == 1


@pytest.mark.usefixtures("begun")
def test_old_versions_load_predict_roll_back_and_are_evaluated() -> None:
    update("run", "two", new_classes="grow", holdout_add="birds")
    heads = []
    for number in (1, 2):
        text = io.StringIO()
        version = Version.load("run", number)
        write_predictions(version, load_examples("one", labelled=False), text, "csv")
        heads.append(next(csv.reader(io.StringIO(text.getvalue()))))
    assert heads == [["row", "file", "prediction", "cat", "dog"], ["row", "file", "prediction", "cat", "dog", "bird"]]
    assert evaluate_version("run", 1)["examples"] == 40  # of birds it can know nothing
    grown = evaluate_version("run", 2)
    assert (grown["examples"], len(grown["change"]["per_class"])) == (50, 3)
    rollback("run", 1)
    images("three", {"cat": 0, "dog": 1}, 10, 4)
    stage, _ = update("run", "three")
    assert (stage.parent, stage.num_classes, stage.new_classes) == (1, 2, [])
    assert (stage.test_examples, stage.decision["comparisons"][0]["version"]) == (50, 1)
    with pytest.raises(InputError, match=r"'bird' \(12 examples\); it knows cat, dog; .*--new-classes grow"):
        update("run", "two", again=True)
    known_accuracy = stage.known_accuracy
    stage, _ = update("run", "two", again=True, new_classes="grow")
    assert stage.decision["comparisons"][0]["accuracy"] == known_accuracy
    assert (stage.parent, stage.num_classes, stage.new_classes) == (3, 3, ["bird"])


@pytest.mark.usefixtures("begun")
def test_a_label_means_one_class_for_ever_though_its_version_was_refused() -> None:
    images("bad", {"cat": 1, "dog": 0, "bird": 2}, 40, 5)  # cats and dogs exchanged
    init("other", "holdout", recipe=RECIPE_OF_IMAGES, gate=Gate(significance=1e-6, margin=0.1))
    update("other", "one")
    stage, _ = update("other", "bad")
    assert (stage.accepted, stage.new_classes) == (False, ["bird"])
    images("three", {"dog": 1, "fish": 2}, 10, 6)
    stage, _ = update("other", "three")
    assert (stage.parent, stage.num_classes, stage.new_classes) == (1, 4, ["bird", "fish"])
    accept("other", 2, "all is well")
    stage, _ = update("other", "two")
    assert stage.taken_in == [2, 4]
    assert Version.load("other", 4).class_names == ["cat", "dog", "bird", "fish"]


RECIPE_OF_IMAGES = Recipe(
    model="mlp:width=8:depth=1", epochs=4, lr=0.05, milestones=(3,), batch_size=16, threads=1, new_classes="grow"
)


@pytest.mark.usefixtures("begun")
def test_growth_without_holdout_examples_is_allowed_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(["update", "run", "two", "--new-classes", "bird"], capsys)
    assert code == 0
    assert "class bird is new, and the holdout shows no example of it: nothing will be known about it" in err
    assert "balance" not in err
    assert "  new class bird: the holdout shows none\n" in out
    # They may come later, with data that bring nothing new.
    images("three", {"cat": 0, "dog": 1}, 10, 4)
    assert main(["update", "run", "three", "--holdout-add", "birds"]) == 0
    assert [version["test_examples"] for version in status("run")["versions"]] == [40, 40, 50]


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize(
    ("classes", "words", "message"),
    [
        ({"cat": 0, "Dog": 1}, ["grow"], "did you mean 'dog' by the new class 'Dog'? correct it, or name it"),
        ({"cat": 0, "catt": 1, "bird": 2}, ["cow"], "class 'bird' is new, too: name it as well (--new-classes)"),
        ({"cat": 0, "Dog": 1}, [], "'Dog' (8 examples); did you mean 'dog' by 'Dog'? it knows cat, dog; if they"),
        ({"cat": 0, "bird": 2}, ["refuse"], "'bird' (8 examples); it knows cat, dog; if they are new"),
        (
            {"bird": 2},
            ["grow", "--holdout-add", "one"],
            "the holdout shows class cat already: only examples of classes",
        ),
        ({"cat": 0}, ["grow", "--holdout-add", "birds"], "birds/bird: unknown class 'bird'"),
    ],
)
def test_bad_input_changes_nothing(
    classes: dict[str, int], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images("new", classes, 8, 7)
    before = tree()
    flags = ["--new-classes", *words] if words else []
    code, _, err = said(["update", "run", "new", *flags], capsys)
    assert code == 2
    assert message in err
    assert err.splitlines()[-1].startswith("error: ")
    assert tree() == before


@pytest.mark.usefixtures("begun")
def test_a_class_that_is_named_may_look_like_another() -> None:
    images("new", {"cat": 0, "Dog": 2}, 8, 7)
    stage, _ = update("run", "new", new_classes=["Dog"])
    assert stage.new_classes == ["Dog"]


def save(path: str, labels: list[int], seed: int) -> str:
    examples = points(labels, seed)
    np.savez(path, inputs=examples.inputs.numpy(), labels=examples.labels.numpy())
    return path


def test_classes_that_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save("holdout.npz", [0, 1] * 20, 0)
    init("run", "holdout.npz", recipe=RECIPE, gate=Gate(significance=0, margin=0.5))
    update("run", save("one.npz", [0, 1] * 20, 1))
    for flag in ("refuse", "grow"):
        code, _, err = said(["update", "run", save("slip.npz", [0, 1, 4] * 10, 2), "--new-classes", flag], capsys)
        assert code == 2
        assert ("would make 5 classes, and 2 of the new ones have no example" in err) == (flag == "grow")
    stage, _ = update("run", save("two.npz", [1, 2] * 20, 3), holdout_add=save("more.npz", [2] * 10, 4))
    assert (stage.num_classes, stage.new_classes, stage.test_examples) == (3, ["2"], 50)
    stage, _ = update("run", "slip.npz", new_classes=["4"])
    assert (stage.num_classes, stage.new_classes) == (5, ["3", "4"])
    rollback("run", 1)
    save("three.npz", [0, 1] * 12, 5)
    save("fours.npz", [4] * 5, 6)
    with pytest.raises(InputError, match="the holdout to add shows class 4, which neither the model nor the new"):
        update("run", "three.npz", holdout_add="fours.npz")


def test_names_that_are_numbers_take_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images("holdout", {"10": 0, "7": 1}, 12, 0)
    init("run", "holdout", recipe=RECIPE_OF_IMAGES, gate=Gate(significance=0, margin=0.5))
    update("run", images("one", {"10": 0, "7": 1}, 10, 1))
    inputs = np.random.default_rng(0).integers(0, 255, (20, 3, 4, 4), dtype=np.uint8)
    np.savez("two.npz", inputs=inputs, labels=np.array([7, 3] * 10))
    stage, _ = update("run", "two.npz")
    assert stage.new_classes == ["3"]
    assert Version.load("run").class_names == ["10", "7", "3"]


def table(path: str, labels: list[str], seed: int) -> str:
    numbers = np.random.default_rng(seed)
    rows = [f"{3 * (label == 'cat') + n:.3f},{3 * (label == 'dog') + m:.3f},{label}" for label, (n, m) in
            zip(labels, numbers.normal(size=(len(labels), 2)), strict=True)]  # fmt: skip
    Path(path).write_text("\n".join(["a,b,label", *rows]) + "\n")
    return path


def test_a_table_brings_a_class_and_a_slip_in_it_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    init("run", table("holdout.csv", ["cat", "dog"] * 20, 0), recipe=RECIPE, gate=Gate(significance=0, margin=0.5))
    update("run", table("one.csv", ["cat", "dog"] * 20, 1))
    with pytest.raises(InputError, match=r"slip\.csv: did you mean 'dog' by the new class 'Dog'"):
        update("run", table("slip.csv", ["cat", "Dog"] * 20, 2))
    stage, _ = update("run", table("two.csv", ["cat", "bird"] * 20, 3), holdout_add=table("more.csv", ["bird"] * 9, 4))
    assert (stage.new_classes, stage.test_examples) == (["bird"], 49)
    assert Version.load("run").class_names == ["cat", "dog", "bird"]


def test_the_first_chunk_may_show_more_than_the_holdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images("holdout", {"cat": 0, "dog": 1}, 12, 0)
    init("run", "holdout", recipe=RECIPE_OF_IMAGES)
    stage, _ = update("run", images("one", {"cat": 0, "bird": 2}, 10, 1))
    assert (stage.num_classes, stage.new_classes) == (3, ["bird"])
    assert Version.load("run").class_names == ["cat", "dog", "bird"]
    assert update("run", images("two", {"bird": 2, "cow": 1}, 10, 2))[0].new_classes == ["cow"]


def test_a_network_that_cannot_grow_is_refused_at_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets_that_cannot_grow.py").write_text(
        "from torch import nn\n"
        "class Convolutions(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.head = nn.Conv1d(5, 2, 1)\n"
        "    def forward(self, inputs):\n"
        "        return self.head(inputs[..., None]).squeeze(-1)\n"
    )
    save("holdout.npz", [0, 1] * 20, 0)
    before = sorted(os.listdir())
    fields = {field: getattr(RECIPE, field) for field in Recipe.__dataclass_fields__}
    with pytest.raises(InputError, match="no Linear layer"):
        init(
            "run",
            "holdout.npz",
            recipe=Recipe(**fields | {"model": "nets_that_cannot_grow:Convolutions", "unlearner": "lure"}),
        )
    assert [name for name in sorted(os.listdir()) if name != "__pycache__"] == before


@pytest.mark.usefixtures("begun")
def test_the_gate_judges_the_old_classes_by_themselves() -> None:
    """A version that learns the new class and loses old ones is refused, however well it does on the whole."""
    images("flood", {"bird": 2, "cat": 1, "dog": 0}, 60, 8)  # cats and dogs exchanged
    images("many", {"bird": 2}, 400, 9)
    init("other", "holdout", recipe=RECIPE_OF_IMAGES, gate=Gate(significance=1e-6, margin=0.1, minimum_accuracy=0.5))
    update("other", "one")
    stage, _ = update("other", "flood", holdout_add="many")
    assert not stage.accepted
    reasons = " ".join(stage.decision["reasons"])
    assert "significantly worse than version 1" in reasons
    assert "is below the minimum of 0.5" in reasons
    assert stage.decision["new_classes"]["bird"] > 0.5
    comparison = stage.decision["comparisons"][0]
    assert comparison["lost"] == stage.negative_flips == sum(stage.negative_flips_by_class.values())
    assert comparison["lost"] <= 40
    # Accepted all the same, it does not lower the bar: the version before is still the one to match.
    accept("other", 2, "let us see")
    stage, _ = update("other", "two")
    assert [comparison["version"] for comparison in stage.decision["comparisons"]] == [2, 1]
    assert json.loads(Path("other/production.json").read_bytes().splitlines()[0])["recipe"]["new_classes"] == "grow"
