import importlib.resources
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import write_image

from lure.data.sources import SOURCES, load_dataset, load_examples
from lure.errors import InputError


def refusal(action, *arguments, **options):
    with pytest.raises(InputError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_embedded_sample_is_small_and_comes_with_its_licence():
    folder = importlib.resources.files("lure.data.sources")
    assert len((folder / "fashion_mnist_sample.npz").read_bytes()) <= 2_500_000
    assert "Copyright © 2017 Zalando SE" in (folder / "fashion_mnist_sample.LICENSE").read_text("utf-8")


def test_the_embedded_sample_holds_the_first_images_of_the_official_files():
    dataset = load_dataset("fashion-mnist-sample")
    assert dataset.train.inputs.shape == (3000, 1, 28, 28)
    assert dataset.test.inputs.shape == (1000, 1, 28, 28)
    # The first labels of the official files, and the mean brightness of the whole data set.
    assert dataset.train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert dataset.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert float(dataset.train.inputs.float().mean()) / 255 == pytest.approx(0.286, abs=0.003)
    assert torch.bincount(dataset.train.labels).min() > 250


def test_the_embedded_sample_takes_no_folder(tmp_path):
    assert "takes no data folder" in refusal(load_dataset, "fashion-mnist-sample", tmp_path)


def test_unknown_names_and_options_are_refused():
    assert "did you mean 'cifar10'" in refusal(load_dataset, "cifar1O")
    assert "unknown value of cifar100:labels 'corse'" in refusal(load_dataset, "cifar100:labels=corse")
    assert "unknown option of cifar10 'size'" in refusal(load_dataset, "cifar10:size=3")


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_what_it_needs(name):
    if name != "fashion-mnist-sample":
        assert "--data DIR" in refusal(load_dataset, name)


def save(path, count, shape=(4, 4), classes=2):
    inputs = np.arange(count * np.prod(shape)).reshape(count, *shape) % 256
    np.savez(path, inputs=inputs.astype(np.uint8), labels=np.arange(count) % classes)


def test_a_folder_with_two_parts_is_a_data_set(tmp_path):
    save(tmp_path / "train.npz", 6)
    save(tmp_path / "test.npz", 3)
    dataset = load_dataset("file", tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.class_names) == (6, 3, ())
    for part in ("train", "test"):
        for name in ("dog/a.png", "cat/b.png"):
            write_image(tmp_path / "pictures" / part / name)
    dataset = load_dataset("file:size=4", tmp_path / "pictures")
    assert dataset.test.inputs.shape == (2, 3, 4, 4)
    assert dataset.class_names == ("cat", "dog")


def test_a_missing_part_and_parts_of_different_shapes_are_named(tmp_path):
    save(tmp_path / "train.npz", 6)
    assert "lacks test" in refusal(load_dataset, "file", tmp_path)
    save(tmp_path / "test.npz", 3, (5, 5))
    told = refusal(load_dataset, "file", tmp_path)
    assert "test.npz holds inputs of shape (1, 5, 5), the model takes (1, 4, 4)" in told


def test_inputs_of_another_shape_than_the_model_takes_are_refused(tmp_path):
    save(tmp_path / "new.npz", 6)
    assert len(load_examples(tmp_path / "new.npz", input_shape=(1, 4, 4))) == 6
    assert "the model takes (3, 4, 4)" in refusal(load_examples, tmp_path / "new.npz", input_shape=(3, 4, 4))


@pytest.mark.parametrize("load", [lambda path: load_examples(path), lambda path: load_dataset("cifar10", path)])
def test_an_error_of_the_system_is_one_line_that_names_the_file(tmp_path, monkeypatch, load):
    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", refuse)
    monkeypatch.setattr(Path, "is_file", refuse)
    assert refusal(load, tmp_path) == f"cannot read {tmp_path}: Permission denied"


def test_a_missing_path_and_an_unknown_format_are_named(tmp_path):
    assert f"there is nothing at {tmp_path / 'new.npz'}" in refusal(load_examples, tmp_path / "new.npz")
    (tmp_path / "new.txt").write_text("1,2")
    assert f"cannot tell what {tmp_path / 'new.txt'} holds" in refusal(load_examples, tmp_path / "new.txt")
    (tmp_path / "new.npz").write_text("1,2")
    assert f"cannot read {tmp_path / 'new.npz'}" in refusal(load_examples, tmp_path / "new.npz")
