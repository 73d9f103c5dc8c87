"""Labels mean the same in every form of data: names that are numbers are those numbers."""

import numpy as np
import pytest
import torch
from miniatures import write_image

from lure.cli import main
from lure.data.sources import load_dataset, load_examples
from lure.data.sources.files import load_alike, read_class_names
from lure.errors import InputError

TWELVE = [str(number) for number in range(12)]


def refusal(action, *arguments, **options):
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_folders(path, names):
    """One image for each class."""
    for name in names:
        write_image(path / name / "1.png")
    return path


def write_npz(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, inputs=np.zeros((len(labels), 10, 12, 3), np.uint8), labels=labels)
    return path


def meant(examples, names):
    """The numbers that labels stand for."""
    return [int(names[label]) for label in examples.labels.tolist()]


def test_numbers_beside_folders_that_are_named_by_numbers_mean_those(tmp_path):
    write_folders(tmp_path / "train", TWELVE)
    write_npz(tmp_path / "test.npz", [2, 10, 11, 1])
    dataset = load_dataset("file", tmp_path)
    assert meant(dataset.train, dataset.class_names) == [int(name) for name in sorted(TWELVE)]
    assert meant(dataset.test, dataset.class_names) == [2, 10, 11, 1]


def test_folders_that_are_named_by_numbers_beside_numbers_mean_those(tmp_path):
    write_npz(tmp_path / "train.npz", list(range(12)))
    write_folders(tmp_path / "test", ["10", "2", "09"])
    dataset = load_dataset("file", tmp_path)
    assert dataset.class_names == ()
    assert dataset.test.labels.tolist() == [9, 10, 2]


def test_numbers_of_no_known_class_are_refused(tmp_path):
    write_folders(tmp_path / "train", ["3", "7", "11"])
    file = write_npz(tmp_path / "test.npz", [3, 11, 4])
    assert f"{file}: the label 4 of example 2 is not one of the known classes: 3, 7, 11" in refusal(
        load_dataset, "file", tmp_path
    )


def test_tables_agree_with_folders(tmp_path):
    datasets = pytest.importorskip("datasets")
    labels = [2, 10, 11, 0]
    datasets.Dataset.from_dict({"inputs": [[0.0]] * 4, "label": labels}).to_parquet(tmp_path / "numbers.parquet")
    datasets.Dataset.from_dict({"inputs": [[0.0]] * 4, "label": [*map(str, labels)]}).to_parquet(
        tmp_path / "names.parquet"
    )
    for name in ("numbers", "names"):
        examples = load_examples(tmp_path / f"{name}.parquet", sorted(TWELVE))
        assert meant(examples, sorted(TWELVE)) == labels
    assert load_alike(tmp_path / "names.parquet", (), (1,)).labels.tolist() == labels


def test_names_and_numbers_do_not_agree(tmp_path):
    write_npz(tmp_path / "train.npz", [0, 1])
    write_folders(tmp_path / "test", ["cat", "dog"])
    told = refusal(load_dataset, "file", tmp_path)
    assert f"{tmp_path / 'test'} names its classes (cat, dog), and {tmp_path / 'train.npz'} numbers them" in told
    other = tmp_path / "other"
    write_folders(other / "train", ["cat", "dog"])
    write_npz(other / "test.npz", [0, 1])
    with pytest.warns(UserWarning, match="numbers its classes, and .*train names them: 0 is 'cat', 1 is 'dog'"):
        assert load_dataset("file", other).test.labels.tolist() == [0, 1]


def test_a_chunk_of_numbers_fits_a_holdout_of_folders_named_by_numbers(tmp_path, capsys):
    for seed, name in enumerate(TWELVE):
        for number in range(3):
            write_image(tmp_path / "holdout" / name / f"{number}.png", seed)
    holdout = load_examples(tmp_path / "holdout")
    numbers = [int(read_class_names(tmp_path / "holdout")[label]) for label in holdout.labels]
    np.savez(tmp_path / "chunk.npz", inputs=holdout.inputs.permute(0, 2, 3, 1).numpy(), labels=numbers)
    model = str(tmp_path / "model")
    words = [
        "--model",
        "mlp:width=64",
        "--epochs",
        "40",
        "--threads",
        "1",
        "--validation-fraction",
        "0",
        "--lr",
        "0.05",
    ]
    assert main(["init", model, "--holdout", str(tmp_path / "holdout"), *words]) == 0
    assert main(["update", model, str(tmp_path / "chunk.npz")]) == 0
    assert "100.00 % of the holdout right" in capsys.readouterr().out
    assert torch.bincount(holdout.labels).tolist() == [3] * 12


def begin(tmp_path, labels):
    write_npz(tmp_path / "holdout.npz", labels)
    words = ["--model", "mlp:width=4", "--epochs", "1", "--threads", "1"]
    return main(["init", str(tmp_path / "model"), "--holdout", str(tmp_path / "holdout.npz"), *words])


def test_a_beginning_says_which_classes_the_holdout_shows(tmp_path, capsys):
    assert begin(tmp_path, [0, 1, 2, 1]) == 0
    shown = f"the holdout {tmp_path / 'holdout.npz'} shows 3 of 3 classes: 0 (1), 1 (2), 2 (1)"
    assert capsys.readouterr().out.splitlines()[0] == shown


@pytest.mark.filterwarnings("default")
def test_a_beginning_warns_of_classes_that_the_holdout_does_not_show(tmp_path, capsys):
    assert begin(tmp_path, [0, 1, 4, 3]) == 0
    told = capsys.readouterr()
    assert "shows no example of 1 of 5 classes (2): nothing will be known about them" in told.err
    assert "shows 4 of 5 classes" in told.out


@pytest.mark.parametrize("labels", [[17, 711, 9001], [100, 101, 102]])
def test_labels_that_number_no_classes_are_refused(tmp_path, capsys, labels):
    assert begin(tmp_path, labels) == 2
    told = capsys.readouterr().err
    assert f"the labels {', '.join(map(str, labels))} would make {labels[-1] + 1} classes" in told
    assert not (tmp_path / "model").exists()
    write_npz(tmp_path / "train.npz", labels)
    write_npz(tmp_path / "test.npz", labels)
    assert f"would make {labels[-1] + 1} classes" in refusal(load_dataset, "file", tmp_path)
