"""The published files of CIFAR-10-C: cut by severity; what is missing, damaged or of another kind is refused."""

import numpy as np
import pytest

from lure.errors import InputError
from lure.metrics.corruptions import read_corrupted


@pytest.fixture
def published(tmp_path):
    images = np.zeros((20, 4, 4, 3), np.uint8)
    images[:, 0, 1, 2] = np.arange(20)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(4, dtype=np.uint8), 5))
    return tmp_path


def test_published_files_are_cut_by_severity(published):
    examples = read_corrupted(published, "fog", 3)
    assert examples.input_shape == (3, 4, 4)
    assert examples.inputs[:, 2, 0, 1].tolist() == [8, 9, 10, 11]
    assert examples.labels.tolist() == [0, 1, 2, 3]


def test_labels_of_one_severity_serve_all(published):
    np.save(published / "labels.npy", np.array([3, 2, 1, 0]))
    assert read_corrupted(published, "fog", 5).labels.tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("fog", np.zeros((21, 4, 4, 3), np.uint8), r"fog\.npy must hold uint8 images"),
        ("fog", np.zeros((20, 4, 4, 3), np.float32), r"fog\.npy must hold uint8 images"),
        ("labels", np.zeros(7, np.uint8), r"labels\.npy must hold an integer label for each image"),
        ("labels", np.zeros(4), r"labels\.npy must hold an integer label for each image"),
    ],
)
def test_wrong_arrays_are_refused(published, name, array, message):
    np.save(published / f"{name}.npy", array)
    with pytest.raises(InputError, match=message):
        read_corrupted(published, "fog", 1)


def test_missing_damaged_and_pickled_files_are_refused(published):
    with pytest.raises(InputError, match=r"there is no file .*snow\.npy"):
        read_corrupted(published, "snow", 1)
    (published / "fog.npy").write_bytes((published / "fog.npy").read_bytes()[:200])
    with pytest.raises(InputError, match=r"fog\.npy cannot be read as an array"):
        read_corrupted(published, "fog", 1)
    np.save(published / "fog.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"fog\.npy cannot be read as an array"):
        read_corrupted(published, "fog", 1)
