import dataclasses
import gzip
import hashlib
import io
import urllib.request

import numpy as np
import pytest
import torch
from miniatures import idx_bytes, write_mnist

from lure.data.sources import idx, load_dataset
from lure.errors import InputError


def refusal(*arguments, **options):
    with pytest.raises(InputError) as caught:
        load_dataset(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "fashion-mnist")])
def test_files_are_found_in_the_folder_or_below_its_parent(tmp_path, name, folder, compress):
    files = write_mnist(tmp_path / folder, compress=compress)
    for place in (tmp_path, files):
        dataset = load_dataset(name, place)
        assert (len(dataset.train), len(dataset.test)) == (20, 10)
        assert dataset.train.input_shape == (1, 28, 28)
        expected = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
        assert torch.equal(dataset.train.inputs[:, 0], torch.from_numpy(expected))
        assert dataset.train.labels.tolist() == [*range(10), *range(10)]


def test_the_two_sets_are_not_confused(tmp_path):
    write_mnist(tmp_path / "mnist", train=7)
    write_mnist(tmp_path / "fashion-mnist", train=8)
    assert len(load_dataset("mnist", tmp_path).train) == 7
    fashion = load_dataset("fashion-mnist", tmp_path)
    assert len(fashion.train) == 8
    assert fashion.class_names[5] == "sandal"


LABELS = np.zeros(20)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", b"", "is not an IDX file"),
        ("train-images-idx3-ubyte.gz", idx_bytes(LABELS), "is not an IDX file of bytes in 3 dimensions"),
        ("train-images-idx3-ubyte.gz", idx_bytes(np.zeros((20, 28, 28)))[:-1], "promises 15680 bytes"),
        ("train-images-idx3-ubyte.gz", idx_bytes(np.zeros((20, 28, 28))) + b"x", "it has more"),
        ("train-images-idx3-ubyte.gz", gzip.compress(idx_bytes(np.zeros((20, 28, 28))), mtime=0)[:-9], "cannot read"),
        ("train-images-idx3-ubyte.gz", idx_bytes(np.zeros((20, 27, 28))), "holds images of 27x28"),
        ("train-images-idx3-ubyte.gz", b"\0\0\x08\x03" + b"\x7f" * 12, "more than the"),
        ("train-images-idx3-ubyte.gz", idx_bytes(np.zeros((0, 28, 28))), "holds no examples"),
        ("t10k-labels-idx1-ubyte.gz", idx_bytes(LABELS), "holds 20 labels for the 10 images"),
        ("train-labels-idx1-ubyte.gz", idx_bytes(LABELS + 10), "holds the label 10"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    folder = write_mnist(tmp_path)
    (folder / name).write_bytes(content)
    told = refusal("mnist", folder)
    assert message in told
    assert str(folder / name) in told


def test_missing_files_are_named(tmp_path):
    assert "--download" in refusal("mnist")
    assert "--download" in refusal("mnist", tmp_path)
    (write_mnist(tmp_path) / "t10k-images-idx3-ubyte.gz").unlink()
    assert "t10k-images-idx3-ubyte" in refusal("mnist", tmp_path)


def test_the_four_files_are_downloaded(tmp_path):
    server = write_mnist(tmp_path / "server")
    checksums = {name: hashlib.sha256((server / f"{name}.gz").read_bytes()).hexdigest() for name in idx.MNIST.checksums}
    layout = dataclasses.replace(idx.MNIST, url=f"{server.as_uri()}/", checksums=checksums)
    dataset = idx.load_files(layout, tmp_path / "data", download=True)
    assert (len(dataset.train), len(dataset.test)) == (20, 10)
    assert len(list((tmp_path / "data").iterdir())) == 4
    (tmp_path / "data" / f"{idx.TEST_LABELS}.gz").unlink()  # as after an interrupted download
    assert len(idx.load_files(layout, tmp_path / "data", download=True).test) == 10


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_download_with_a_wrong_checksum_leaves_nothing(tmp_path, monkeypatch, name):
    asked = []

    def serve(url, **options):
        asked.append(url)
        return io.BytesIO(b"another file")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert "wrong checksum" in refusal(name, tmp_path / "new", download=True)
    layout = idx.MNIST if name == "mnist" else idx.FASHION_MNIST
    assert asked == [f"{layout.url}train-images-idx3-ubyte.gz"]
    assert not (tmp_path / "new").exists()
