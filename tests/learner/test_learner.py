"""The learner: what a stage records, exactness over processes and interruptions, and what it refuses."""

import dataclasses
import hashlib
import json
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from lure import Examples, InputError, Learner, Recipe, Split, Stage
from lure.training.fit import Progress
from lure.unlearners import UNLEARNERS, Context, Dash

TIMING = {"unlearn_seconds", "train_seconds", "committed_at"}


def chunk(seed: int, count: int = 40, classes: int = 3) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Examples(images, torch.arange(count) % classes)


CHUNKS = [chunk(seed) for seed in range(3)]
TEST = chunk(99)
RECIPE = Recipe(
    model="convnet:width=4", epochs=3, batch_size=8, lr=0.05, milestones=(2,), augment="crop-flip", threads=1, seed=5
)


def digest(directory: Path) -> dict[str, str]:
    """Everything committed that is not a measurement of time."""
    files = {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("versions", "chunks")
        for path in sorted((directory / folder).rglob("*"))
        if path.is_file()
    }
    ledger = [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if k not in TIMING | {"line_sha256"}} for line in ledger]
    return files | {"ledger": json.dumps(kept)}


def learn_all(directory: Path, recipe: Recipe = RECIPE, chunks: list[Examples] | None = None) -> list[Stage]:
    with Learner.open(directory, recipe=recipe, test=TEST) as learner:
        for mega_batch in (chunks or CHUNKS)[len(learner.stages) :]:
            learner.learn(mega_batch)
        return learner.stages


def test_a_stage_records_what_happened(tmp_path: Path) -> None:
    stages = learn_all(tmp_path / "run")
    assert [s.stage for s in stages] == [1, 2, 3]
    assert [s.train_examples for s in stages] == [36, 72, 108]
    assert [s.validation_examples for s in stages] == [4, 8, 12]
    assert [s.examples_seen for s in stages] == [108, 216, 324]
    assert stages[2].cumulative_errors == sum(s.error_count for s in stages)
    assert stages[0].changed_fraction == 0
    assert 0.15 < stages[1].changed_fraction < 0.2  # a fifth of the weights; biases and norm scales stay
    assert stages[0].forgotten == {}
    assert {name.rpartition(".")[2] for name, share in stages[1].forgotten.items() if share} == {"weight"}
    assert {share for name, share in stages[1].forgotten.items() if name.endswith("bias")} == {0.0}
    assert stages[1].unlearn_flops == stages[1].train_flops / stages[1].examples_seen * 36
    assert stages[1].data_fingerprint == CHUNKS[1].fingerprint
    assert stages[0].accuracy == pytest.approx(1 - stages[0].error_count / 40)
    assert stages[0].generalization_gap == pytest.approx(stages[0].train_accuracy - stages[0].validation_accuracy)


def test_an_unlearner_that_chooses_says_what_it_tried_and_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It probes, though little is memorised, in a network with BatchNorm, whose statistics cost something, too.
    monkeypatch.setattr("lure.unlearners.auto.WORTH_A_PROBE", 0)
    monkeypatch.setattr("lure.unlearners.auto.has_batch_norm", lambda model: False)
    recipe = dataclasses.replace(RECIPE, unlearner="auto:probe_share=0.5", epochs=2)
    first, second = learn_all(tmp_path, recipe, CHUNKS[:2])
    assert (first.choices, first.chosen) == ([], None)
    read, mild, fire = second.choices
    assert [choice["candidate"] for choice in (read, fire)] == ["version in use", "fire"]
    assert second.chosen == min((mild, fire), key=lambda choice: choice["loss"])["candidate"]
    # The whole of the new mega-batch; half of two epochs of nine steps; eight that validate, and all for BatchNorm.
    assert read["examples_read"] == 36
    assert (mild["examples_trained"], mild["examples_read"]) == (72, 8 + 72)
    assert (fire["examples_trained"], fire["examples_read"]) == (72, 8 + 72)
    per_example = second.train_flops // second.examples_seen
    assert second.unlearn_flops == 2 * 72 * per_example + (36 + 2 * 80) * per_example // 3
    assert mild["memorised"] <= max(0.0, first.train_accuracy)
    assert mild["relearnable"] == 1
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert "choices" not in lines[0], "what has nothing to say is written as before"
    assert Stage.from_dict({k: v for k, v in lines[1].items() if k != "line_sha256"}, "here") == second


SEEN: list[tuple[list[list[int]], list[int]]] = []  # of each mega-batch the labels, and all labels shuffled in fives


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watching:
    """An unlearner that notes what the context offers."""

    def __call__(self, model: nn.Module, context: Context) -> None:
        """Note it."""
        chunks = [torch.cat([labels for _, labels in chunk]).tolist() for chunk in context.chunks]
        assert [*chain(*chunks)] == torch.cat([labels for _, labels in context.all_batches]).tolist()
        batches = [labels for _, labels in context.shuffled(5, torch.Generator().manual_seed(0))]
        assert all(len(labels) == 5 for labels in batches[:-1])
        SEEN.append((chunks, torch.cat(batches).tolist()))


@pytest.mark.parametrize(
    ("replay", "sizes"),
    [("full", [36, 36, 36]), ("last", [36, 36]), ("none", [36]), ("buffer:capacity=10", [7, 3, 36])],
)
def test_an_unlearner_is_told_where_each_mega_batch_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replay: str, sizes: list[int]
) -> None:
    monkeypatch.setitem(UNLEARNERS, "watching", Watching)
    stage = learn_all(tmp_path, dataclasses.replace(RECIPE, unlearner="watching", replay=replay, epochs=1))[-1]
    chunks, shuffled = SEEN[-1]
    SEEN.clear()
    assert [len(chunk) for chunk in chunks][-1] == 36
    assert len(chunks) == len(sizes)
    assert sum(map(len, chunks)) == sum(sizes)
    assert shuffled != [*chain(*chunks)]
    assert sorted(shuffled) == sorted(chain(*chunks))
    # What was read by chunks, as a whole and shuffled has its price.
    assert stage.unlearn_flops == 3 * sum(sizes) * stage.train_flops / stage.examples_seen


def test_the_forms_of_dash_differ_and_are_exact(tmp_path: Path) -> None:
    weights = {}
    for number, form in enumerate(("dash", *Dash.presets)):
        learn_all(tmp_path / str(number), dataclasses.replace(RECIPE, unlearner=form, epochs=1))
        weights[number] = digest(tmp_path / str(number))["versions/0002/model.safetensors"]
    assert weights[0] == weights[4]
    assert len(set(weights.values())) == 4


def test_a_rehearsal_does_not_warn_of_fresh_weights(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, unlearner="fire:iterations=1", epochs=1)
    with Learner.open(tmp_path, recipe=recipe, test=TEST) as learner:
        learner.rehearse()  # a warning would be an error here
        learner.learn(CHUNKS[0])
        with pytest.warns(UserWarning, match="far from orthogonal"):
            learner.learn(CHUNKS[1])


VARIANTS = {
    "default": RECIPE,
    "carried optimiser": dataclasses.replace(RECIPE, carry_optimizer=True, optimizer="adam", lr=0.01),
    "dropout": dataclasses.replace(RECIPE, model="tests_dropout"),
    "reservoir": dataclasses.replace(RECIPE, replay="buffer:capacity=10:validation_capacity=3", keep="last"),
    "released buffer": dataclasses.replace(RECIPE, replay="buffer:capacity=10:rule=released"),
    "last": dataclasses.replace(RECIPE, replay="last", unlearner="dash", sample="all"),
    "averaged and pulled": dataclasses.replace(RECIPE, average_interval=3, average_decay=0.5, l2_init=1e-2),
    "cosine, clipped, smoothed": dataclasses.replace(
        RECIPE, epochs=5, budget=0.6, schedule="cosine", warmup=1, clip_norm=0.5, label_smoothing=0.1
    ),
    "patience": dataclasses.replace(RECIPE, epochs=9, patience=3, budget=0.8, validation_fraction=0.3),
    "averages, taught and carried": dataclasses.replace(
        RECIPE, regularizers=("ema:decay=0.8", "distill:focal=true", "parseval"), carry_optimizer=True, unlearner="redo"
    ),
    "chosen by probes": dataclasses.replace(RECIPE, unlearner="auto:strength=1:probe_share=0.2", l2_init=1e-3),
    "no replay": dataclasses.replace(RECIPE, replay="none", unlearner="scratch", sample_augmented=True),
}


class WithSpareHead(nn.Module):
    """Has a head that no batch reaches, as a network of several tasks has."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), nn.Linear(64, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


def test_the_ledger_names_what_unlearning_could_not_judge(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, model="own", epochs=1, augment="none")
    with Learner.open(tmp_path / "run", recipe=recipe, model=WithSpareHead, test=TEST) as learner:
        first, second = (learner.learn(mega_batch) for mega_batch in CHUNKS[:2])
    assert (first.left_out, second.left_out) == ({}, {"spare.weight": "no batch reaches it"})
    lines = [json.loads(line) for line in (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()]
    assert "left_out" not in lines[0], "what has nothing to say is written as before"
    assert Stage.from_dict({k: v for k, v in lines[1].items() if k != "line_sha256"}, "here") == second


def dropout_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 3))


@pytest.mark.parametrize("name", VARIANTS)
def test_one_process_for_each_chunk_equals_one_for_all(name: str, tmp_path: Path) -> None:
    recipe = VARIANTS[name]
    model = dropout_net if recipe.model == "tests_dropout" else None
    with Learner.open(tmp_path / "one", recipe=recipe, model=model, test=TEST) as learner:
        for mega_batch in CHUNKS:
            learner.learn(mega_batch)
    for mega_batch in CHUNKS:
        torch.rand(7)  # whatever the caller draws must not matter
        with Learner.open(tmp_path / "many", recipe=recipe, model=model, test=TEST) as learner:
            learner.learn(mega_batch)
    assert digest(tmp_path / "one") == digest(tmp_path / "many")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stage_interrupted_in_any_epoch_goes_on_exactly(name: str, tmp_path: Path) -> None:
    every_epoch = float("inf")
    recipe = VARIANTS[name]
    model = dropout_net if recipe.model == "tests_dropout" else None

    def learn(directory: Path, stop: tuple[int, int] | None) -> None:
        def watch(moment: Progress) -> None:
            if stop == (moment.stage, moment.epoch):
                raise KeyboardInterrupt

        with Learner.open(directory, recipe=recipe, model=model, test=TEST, checkpoint_share=every_epoch) as learner:
            for mega_batch in CHUNKS[len(learner.stages) :]:
                learner.learn(mega_batch, watch)

    learn(tmp_path / "straight", None)
    for stage in (1, 2, 3):
        for epoch in (1, 2, 3):
            with pytest.raises(KeyboardInterrupt):
                learn(tmp_path / "stopped", (stage, epoch))
    learn(tmp_path / "stopped", None)
    assert digest(tmp_path / "straight") == digest(tmp_path / "stopped")


def test_a_stage_interrupted_while_it_is_measured_need_not_train_again(tmp_path: Path) -> None:
    armed = []

    class Interrupted(nn.Sequential):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if armed:
                raise KeyboardInterrupt
            return super().forward(inputs)

    def network() -> nn.Module:
        return Interrupted(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))

    def opened(directory: str) -> Learner:
        return Learner.open(tmp_path / directory, recipe=RECIPE, model=network, test=TEST)

    for directory in ("straight", "stopped"):
        with opened(directory) as learner:
            learner.learn(CHUNKS[0])
    with opened("stopped") as learner, pytest.raises(KeyboardInterrupt):
        # Once the last epoch has ended, all that still reads the network is the measuring.
        learner.learn(CHUNKS[1], on_epoch=lambda epoch: armed.append(1) if epoch.epoch == RECIPE.epochs else None)
    armed.clear()
    trained: list[Progress] = []
    for directory, watch in (("straight", None), ("stopped", trained.append)):
        with opened(directory) as learner:
            learner.learn(CHUNKS[1], watch)
    assert trained == []
    assert digest(tmp_path / "straight") == digest(tmp_path / "stopped")


def test_a_checkpoint_is_really_used(tmp_path: Path) -> None:
    epochs = []

    def stop_in_third(moment: Progress) -> None:
        epochs.append(moment.epoch)
        if moment.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Learner.open(tmp_path / "run", recipe=RECIPE, test=TEST) as learner:
        learner.learn(CHUNKS[0], stop_in_third)
    again = []
    with Learner.open(tmp_path / "run", recipe=RECIPE, test=TEST) as learner:
        learner.learn(CHUNKS[0], lambda moment: again.append(moment.epoch))
    assert epochs[-1] == 3
    assert again == [3]


def test_the_seed_decides_and_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    learn_all(tmp_path / "a")
    assert torch.equal(before, torch.get_rng_state())
    learn_all(tmp_path / "b")
    learn_all(tmp_path / "c", dataclasses.replace(RECIPE, seed=6))
    files = [digest(tmp_path / name) for name in "abc"]
    assert files[0] == files[1]
    assert files[0]["versions/0001/model.safetensors"] != files[2]["versions/0001/model.safetensors"]


def test_methods_share_their_first_stage_and_their_data_order(tmp_path: Path) -> None:
    for name in ("warm-start", "scratch"):
        learn_all(tmp_path / name, dataclasses.replace(RECIPE, unlearner=name))
    warm, scratch = digest(tmp_path / "warm-start"), digest(tmp_path / "scratch")
    assert warm["versions/0001/model.safetensors"] == scratch["versions/0001/model.safetensors"]
    assert warm["versions/0002/model.safetensors"] != scratch["versions/0002/model.safetensors"]


def test_the_best_validation_epoch_is_kept_with_its_optimiser(tmp_path: Path) -> None:
    accuracies = {}
    with Learner.open(tmp_path / "run", recipe=dataclasses.replace(RECIPE, epochs=6), test=TEST) as learner:
        stage = learner.learn(CHUNKS[0], lambda moment: accuracies.setdefault(moment.epoch - 1, moment.accuracy))
        assert stage.validation_accuracy == max(a for e, a in accuracies.items() if e) or stage.kept_epoch == 6
        assert stage.kept_epoch == min(
            e for e in range(1, 7) if accuracies.get(e, stage.validation_accuracy) == stage.validation_accuracy
        )


def test_a_mega_batch_that_comes_cut_is_not_cut_again(tmp_path: Path) -> None:
    with Learner.open(tmp_path / "run", recipe=RECIPE, test=TEST) as learner:
        stage = learner.learn(Split(train=CHUNKS[0][:30], validation=CHUNKS[0][30:]))
        assert (stage.train_examples, stage.validation_examples, stage.data_validation) == (30, 10, 10)
        learner.learn(CHUNKS[1])
    with Learner.open(tmp_path / "run", recipe=RECIPE, test=TEST) as learner:
        assert learner.learn(CHUNKS[2]).train_examples == 30 + 36 + 36


def test_predict_gives_the_logits_of_the_last_version(tmp_path: Path) -> None:
    with Learner.open(tmp_path / "run", recipe=RECIPE, test=TEST) as learner:
        with pytest.raises(InputError, match="has no model yet"):
            learner.predict(TEST)
        stage = learner.learn(CHUNKS[0])
        logits = learner.predict(TEST.inputs)
    errors = int((logits.argmax(1) != TEST.labels).sum())
    assert (logits.shape, errors) == ((40, 3), stage.error_count)
    with Learner.open(tmp_path / "run") as learner:
        assert torch.equal(learner.predict(TEST), logits)


BAD = {
    "empty": (CHUNKS[0][:0], "mega-batch 2 is empty"),
    "unseen label": (
        Examples(CHUNKS[0].inputs, CHUNKS[0].labels + 1),
        "label 3 is not one of the known classes: 0 to 2",
    ),
    "another shape": (
        Examples(torch.zeros(9, 1, 9, 9, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64)),
        r"uint8 of shape \(1, 9, 9\), but the model takes uint8 of shape \(1, 8, 8\)",
    ),
    "another type": (
        Examples(torch.zeros(9, 1, 8, 8), torch.zeros(9, dtype=torch.int64)),
        r"float32 of shape \(1, 8, 8\), but the model takes uint8",
    ),
}


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("name", BAD)
def test_bad_mega_batches_change_nothing(name: str, tmp_path: Path) -> None:
    mega_batch, message = BAD[name]
    learn_all(tmp_path / "run", chunks=CHUNKS[:1])
    before = tree(tmp_path)
    with (
        pytest.raises(InputError, match=message),
        Learner.open(tmp_path / "run", recipe=RECIPE, test=TEST) as learner,
    ):
        learner.learn(mega_batch)
    assert tree(tmp_path) == before


def test_a_loss_that_becomes_nan_keeps_what_is_committed(tmp_path: Path) -> None:
    wild = dataclasses.replace(RECIPE, lr=1e30)
    with (
        pytest.raises(InputError, match=r"loss became (nan|inf) at stage 1, epoch 1, step \d+: lower"),
        Learner.open(tmp_path / "run", recipe=wild, test=TEST) as learner,
    ):
        learner.learn(CHUNKS[0])
    assert not (tmp_path / "run").exists()


def test_a_network_that_the_last_step_broke_is_not_committed(tmp_path: Path) -> None:
    wild = dataclasses.replace(RECIPE, model="mlp:width=8", augment="none", lr=1e38, epochs=1, max_steps=1)
    with (
        pytest.raises(InputError, match="outputs became NaN or infinite by the end of stage 1, epoch 1, step 1 of the"),
        Learner.open(tmp_path / "run", recipe=wild) as learner,
    ):
        learner.learn(Examples(torch.full((40, 3), 1e6), torch.arange(40) % 2))
    assert not (tmp_path / "run").exists()


def test_another_recipe_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    learn_all(tmp_path / "run", chunks=CHUNKS[:1])
    before = tree(tmp_path)
    other = dataclasses.replace(RECIPE, lr=0.2, epochs=4)
    with pytest.raises(InputError, match=r"another recipe \(epochs: 3 -> 4; lr: 0.05 -> 0.2\)"):
        Learner.open(tmp_path / "run", recipe=other, test=TEST)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("replay", ["full", "none"])
def test_data_given_again_must_be_the_same(replay: str, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, replay=replay)
    with Learner.open(tmp_path / "run", recipe=recipe, test=TEST, stream=CHUNKS) as learner:
        learner.learn(CHUNKS[0])
    assert not (tmp_path / "run" / "chunks").exists()
    before = tree(tmp_path)
    with pytest.raises(InputError, match="data of stage 1 are not those"):
        Learner.open(tmp_path / "run", recipe=recipe, test=TEST, stream=CHUNKS[::-1])
    with pytest.raises(InputError, match="data of stage 1 are not those"):
        Learner.open(tmp_path / "run", recipe=recipe, test=TEST, stream=[])
    with pytest.raises(InputError, match="test examples are not those"):
        Learner.open(tmp_path / "run", recipe=recipe, test=TEST[1:], stream=CHUNKS)
    assert tree(tmp_path) == before


def test_augmentation_needs_images(tmp_path: Path) -> None:
    table = Examples(torch.rand(20, 4), torch.arange(20) % 2)
    with (
        pytest.raises(InputError, match="augment = crop-flip needs images"),
        Learner.open(tmp_path / "run", recipe=dataclasses.replace(RECIPE, model="mlp"), test=table) as learner,
    ):
        learner.learn(table)
    assert not (tmp_path / "run").exists()


def moved(directory: Path, recipe: Recipe) -> float:
    """How far one stage carries the weights from where they began."""
    with Learner.open(directory, recipe=recipe, test=TEST) as learner:
        learner.learn(CHUNKS[0])
        after = {name: p.detach() for name, p in learner.model.named_parameters()}
        before = learner.directory.read_initial()
    return float(sum((after[name] - before[name]).square().sum() for name in after))


def test_the_pull_towards_the_initial_weights_keeps_the_network_nearer_to_them(tmp_path: Path) -> None:
    free = moved(tmp_path / "free", RECIPE)
    assert moved(tmp_path / "pulled", dataclasses.replace(RECIPE, l2_init=1.0)) < 0.8 * free


def test_setting_back_to_a_slow_average_slows_the_network(tmp_path: Path) -> None:
    free = moved(tmp_path / "free", RECIPE)
    slow = dataclasses.replace(RECIPE, average_interval=1, average_decay=0.99)
    assert moved(tmp_path / "slow", slow) < 0.5 * free
    assert moved(tmp_path / "still", dataclasses.replace(slow, average_decay=0.0)) == pytest.approx(free)


@pytest.mark.parametrize(("model", "innermost"), [("convnet:width=4", True), ("resnet18:width=4", False)])
def test_convolutions_run_with_the_channels_innermost_where_that_is_safe(
    model: str, innermost: bool, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, model=model, epochs=1)
    with Learner.open(tmp_path / "run", recipe=recipe, test=TEST) as learner:
        learner.learn(CHUNKS[0])
        assert learner.model
        filters = [p for p in learner.model.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
        assert filters
        assert all(p.is_contiguous(memory_format=torch.channels_last) == innermost for p in filters)
