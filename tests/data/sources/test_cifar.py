import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import tracemalloc
import urllib.request

import numpy as np
import pytest
import torch
from miniatures import (
    CIFAR10_FILES,
    cifar_content,
    pack,
    pack_members,
    write_cifar10_binary,
    write_cifar10_python,
    write_cifar100_binary,
    write_cifar100_python,
)

from lure.data.sources import cifar, load_dataset, unpickler
from lure.errors import InputError


def same(first, second):
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)


def refusal(*arguments, **options):
    with pytest.raises(InputError) as caught:
        load_dataset(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_training_files_follow_one_another_in_order(tmp_path):
    dataset = load_dataset("cifar10", write_cifar10_python(tmp_path))
    pixels = [cifar_content(10, 10, seed)[0] for seed in range(5)]
    assert torch.equal(dataset.train.inputs, torch.from_numpy(np.concatenate(pixels)).view(50, 3, 32, 32))
    assert dataset.train.labels.tolist() == list(range(10)) * 5
    assert torch.equal(dataset.test.inputs, torch.from_numpy(cifar_content(10, 10, 5)[0]).view(10, 3, 32, 32))
    assert dataset.train.input_dtype == torch.uint8
    assert dataset.class_names[9] == "truck"
    assert dataset.mean == (0.4914, 0.4822, 0.4465)


def test_every_form_of_cifar10_holds_the_same_examples(tmp_path):
    python = write_cifar10_python(tmp_path / "a")
    binary = write_cifar10_binary(tmp_path / "b")
    archives = [
        pack(python, tmp_path / "cifar-10-python.tar.gz"),
        pack(binary, tmp_path / "any name.tgz"),
        pack(binary, tmp_path / "b" / "packed.tar.gz"),
    ]
    first = load_dataset("cifar10", python)
    for place in (python.parent, binary, binary.parent, tmp_path, *archives):
        dataset = load_dataset("cifar10", place)
        assert same(dataset.train, first.train)
        assert same(dataset.test, first.test)


@pytest.mark.parametrize("labels", ["fine", "coarse"])
def test_every_form_of_cifar100_holds_the_same_examples(tmp_path, labels):
    python = write_cifar100_python(tmp_path)
    binary = write_cifar100_binary(tmp_path)
    expected = [label // (5 if labels == "coarse" else 1) for label in range(100)]
    for place in (python, binary, tmp_path, pack(python, tmp_path / "p.tar.gz"), pack(binary, tmp_path / "b.tar.gz")):
        dataset = load_dataset(f"cifar100:labels={labels}", place)
        assert dataset.train.labels.tolist() == expected
        assert torch.equal(dataset.test.inputs, torch.from_numpy(cifar_content(100, 100, 1)[0]).view(100, 3, 32, 32))
        assert len(dataset.class_names) == len(set(dataset.class_names)) == (100 if labels == "fine" else 20)
        assert list(dataset.class_names) == sorted(dataset.class_names)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_pickled_by_any_version_are_read(tmp_path, protocol):
    dataset = load_dataset("cifar10", write_cifar10_python(tmp_path, protocol=protocol))
    assert torch.equal(dataset.test.inputs, torch.from_numpy(cifar_content(10, 10, 5)[0]).view(10, 3, 32, 32))


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_the_pickles_of_python_2_are_read_under_either_name_of_numpy(tmp_path, module):
    # The official files are written like this: byte strings, and an array by its state.
    pixels, labels = cifar_content(2, 10, 0)
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = (
        b"c"
        + module.encode()
        + b"\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01bt R".replace(b" ", b"")
        + b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + len(pixels.tobytes()).to_bytes(4, "little")
        + pixels.tobytes()
        + b"tb"
    )
    content = b"\x80\x02}(U\x04data" + array + b"U\x06labels](" + numbers + b"eu."
    for name in CIFAR10_FILES:
        (tmp_path / name).write_bytes(content)
    test = load_dataset("cifar10", tmp_path).test
    assert torch.equal(test.inputs, torch.from_numpy(pixels).view(2, 3, 32, 32))
    assert test.labels.tolist() == labels


def test_the_python_version_is_read_if_both_are_there(tmp_path):
    write_cifar10_binary(tmp_path, count=4)
    assert len(load_dataset("cifar10", tmp_path).train) == 20
    pack(write_cifar10_python(tmp_path / "elsewhere", count=3), tmp_path / "cifar-10-python.tar.gz")
    assert len(load_dataset("cifar10", tmp_path).train) == 15
    write_cifar10_python(tmp_path, count=2)
    assert len(load_dataset("cifar10", tmp_path).train) == 10


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch, packed):
    monkeypatch.chdir(tmp_path)
    folder = write_cifar10_python(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps({"data": Harmful(), "labels": [0]}))
    place = pack(folder, tmp_path / "hostile.tar.gz") if packed else folder
    message = refusal("cifar10", place)
    assert "data_batch_3 asks to load posix.mkdir" in message or "nt.mkdir" in message
    assert not (tmp_path / "made_by_a_pickle").exists()


@pytest.mark.parametrize(
    "batch",
    [
        {"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]},
        {"data": np.array([[None]]), "labels": [0]},
        {"data": np.zeros((2, 3000), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1.0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1 << 70]},
        {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 1]},
        {"data": b"0" * 6144, "labels": [0, 1]},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
        [1, 2],
    ],
)
def test_wrong_content_is_named_with_its_file(tmp_path, batch):
    folder = write_cifar10_python(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=4))
    assert str(folder / "data_batch_2") in refusal("cifar10", folder)


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
@pytest.mark.parametrize("share", [0, 0.35, 0.999])
def test_truncated_files_are_named(tmp_path, name, share):
    for folder, suffix in ((write_cifar10_python(tmp_path), ""), (write_cifar10_binary(tmp_path), ".bin")):
        file = folder / (name + suffix)
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        assert name + suffix in refusal("cifar10", folder)


def test_a_binary_file_cut_between_two_records_is_noticed(tmp_path):
    folder = write_cifar10_binary(tmp_path)
    file = folder / "data_batch_4.bin"
    file.write_bytes(file.read_bytes()[: 3073 * 5])
    assert "data_batch_4.bin in" in refusal("cifar10", folder)
    assert "is truncated or too long: it has 5 images instead of 10" in refusal("cifar10", folder)


def write_black(file, count):
    """Write `count` black images of class 0 in the binary layout, as a sparse file."""
    with file.open("wb") as stream:
        stream.truncate(3073 * count)


def test_a_test_file_shorter_than_official_is_noticed_beside_official_training_files(tmp_path):
    for name in CIFAR10_FILES:
        write_black(tmp_path / f"{name}.bin", 10_000)
    dataset = load_dataset("cifar10", tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (50_000, 10_000)
    write_black(tmp_path / "test_batch.bin", 9_999)
    assert "is truncated or too long: it has 9999 images instead of 10000" in refusal("cifar10", tmp_path)


def test_a_wrong_label_in_a_binary_file_is_named(tmp_path):
    folder = write_cifar10_binary(tmp_path)
    content = bytearray((folder / "test_batch.bin").read_bytes())
    content[3073 * 7] = 12
    (folder / "test_batch.bin").write_bytes(content)
    assert refusal("cifar10", folder).endswith(
        "test_batch.bin holds the label 12 at image 7; labels must lie in [0, 9]"
    )


def test_a_missing_file_is_named(tmp_path):
    folder = write_cifar10_python(tmp_path)
    (folder / "data_batch_5").unlink()
    assert "lacks data_batch_5" in refusal("cifar10", folder)
    assert "lacks data_batch_5" in refusal("cifar10", pack(folder, tmp_path / "cifar.tar.gz"))
    (folder / "data_batch_1").write_bytes(b"")
    assert refusal("cifar10", folder).endswith("data_batch_1 is truncated or not a file of cifar10: it ends early")


def test_without_data_the_error_says_what_to_do(tmp_path):
    for message in (refusal("cifar10"), refusal("cifar10", tmp_path)):
        assert "cifar-10-batches-py" in message
        assert "--download" in message


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_truncated_archive_is_named(tmp_path, share):
    archive = pack(write_cifar10_python(tmp_path / "a"), tmp_path / "cifar-10-python.tar.gz")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    assert f"cannot read {archive}" in refusal("cifar10", tmp_path)
    for content in (b"no archive at all", gzip.compress(b"no archive inside" * 100)):
        archive.write_bytes(content)
        assert f"cannot read {archive}" in refusal("cifar10", tmp_path)


def test_an_archive_whose_checksum_is_wrong_is_named(tmp_path):
    archive = pack(write_cifar10_python(tmp_path / "a"), tmp_path / "cifar-10-python.tar.gz")
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1  # the checksum of the unpacked content
    archive.write_bytes(content)
    assert "CRC check failed" in refusal("cifar10", archive)


def test_links_and_folders_in_an_archive_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    archive = tmp_path / "hostile.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for name in CIFAR10_FILES:
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
            members.addfile(member)
    assert "holds no file of cifar10" in refusal("cifar10", archive)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path):
    pack_members(tmp_path / "a.tar.gz", {"other": bytes(4_000_000)})
    # A long name is read by tarfile itself, before it returns a member.
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as members:
        members.addfile(tarfile.TarInfo("x" * 3_000_000))
    for name in ("a.tar.gz", "b.tar.gz"):
        with pytest.raises(InputError, match="unpacks to more than 1048576 bytes"):
            list(cifar.read_archive(cifar.CIFAR10, tmp_path / name, max_bytes=1 << 20))


@pytest.mark.slow
def test_no_archive_is_read_beyond_the_size_of_the_official_ones(tmp_path):
    # A tar header, then zeros: the same compressed piece again and again.
    member = tarfile.TarInfo("other")
    member.size = 2 * cifar.MAX_ARCHIVE_BYTES
    zeros = gzip.compress(bytes(1 << 25))
    with (tmp_path / "a.tar.gz").open("wb") as file:
        file.write(gzip.compress(member.tobuf()))
        for _ in range(2 * cifar.MAX_ARCHIVE_BYTES >> 25):
            file.write(zeros)
    tracemalloc.start()
    assert "unpacks to more than 536870912 bytes" in refusal("cifar10", tmp_path / "a.tar.gz")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_file_larger_than_any_official_one_is_not_read(tmp_path):
    folder = write_cifar10_binary(tmp_path)
    with (folder / "data_batch_1.bin").open("wb") as file:
        file.truncate(cifar.MAX_FILE_BYTES + 1)  # a sparse file
    assert "data_batch_1.bin is larger than any official file" in refusal("cifar10", folder)
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size = cifar.MAX_FILE_BYTES + 1
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(member.tobuf()))
    assert "data_batch_1.bin is larger than any official file" in refusal("cifar10", tmp_path / "a.tar.gz")


def test_a_pickle_that_claims_much_memory_is_refused(tmp_path):
    folder = write_cifar10_python(tmp_path)
    for hostile in (
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"xx.",  # a byte string of a terabyte
        b"\x80\x05\x96" + (3 << 30).to_bytes(8, "little") + b".",  # bytes that may be changed, three gigabytes
        b"\x80\x04\x95" + (3 << 30).to_bytes(8, "little") + b".",  # a frame of three gigabytes
        b"\x80\x04Nr" + (20_000_000).to_bytes(4, "little") + b".",  # a memo entry of number twenty million
    ):
        (folder / "data_batch_1").write_bytes(hostile)
        tracemalloc.start()
        assert "data_batch_1" in refusal("cifar10", folder)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()


def test_a_pickle_that_repeats_its_bytes_stays_small(tmp_path):
    folder = write_cifar10_python(tmp_path)
    text = b"X" + (1_000_000).to_bytes(4, "little") + b"a" * 1_000_000 + b"q\x01X\x06\x00\x00\x00latin1q\x02"
    encode = b"h\x00h\x01h\x02\x86Ra"  # append another copy of the bytes to a list
    array = b"h\x03)R(K\x01K\x01\x85NNh\x01tba"  # append another array of them
    start = b"\x80\x02c_codecs\nencode\nq\x000cnumpy\nndarray\nq\x030" + text + b"00]"
    for hostile in (start + encode * 300 + b".", start + array * 300 + b"."):
        (folder / "data_batch_1").write_bytes(hostile)
        tracemalloc.start()
        assert "data_batch_1" in refusal("cifar10", folder)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        tracemalloc.stop()


@pytest.mark.parametrize(
    "name", ["numpy\nndarray", "numpy\ndtype", "numpy._core.multiarray\n_reconstruct", "_codecs\nencode"]
)
def test_a_pickle_cannot_change_what_reads_it(tmp_path, name):
    # BUILD with a pair (None, {attribute: value}) sets attributes of the object below it on the stack.
    content = b"\x80\x02c" + name.encode() + b"\nN}X\x06\x00\x00\x00hiddenK\x01s\x86b."
    folder = write_cifar10_python(tmp_path)
    (folder / "data_batch_1").write_bytes(content)
    assert "data_batch_1" in refusal("cifar10", folder)
    assert not any(hasattr(admitted, "hidden") for admitted in unpickler.ADMITTED.values())


def test_a_downloaded_archive_is_kept_and_read(tmp_path):
    archive = pack(write_cifar10_python(tmp_path / "server"), tmp_path / "server" / "cifar-10-python.tar.gz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    layout = dataclasses.replace(cifar.CIFAR10, url=archive.as_uri(), sha256=digest)
    target = tmp_path / "data"
    assert len(cifar.load_files(layout, target, download=True).train) == 50
    assert [file.name for file in target.iterdir()] == ["cifar-10-python.tar.gz"]
    archive.unlink()
    assert len(cifar.load_files(layout, target, download=True).train) == 50


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10"), ("cifar100", "cifar-100")])
def test_a_download_with_a_wrong_checksum_leaves_nothing(tmp_path, monkeypatch, name, folder):
    asked = []

    def serve(url, **options):
        asked.append(url)
        return io.BytesIO(b"another file")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert "wrong checksum" in refusal(name, tmp_path / "new" / "folder", download=True)
    assert asked == [f"https://www.cs.toronto.edu/~kriz/{folder}-python.tar.gz"]
    assert not (tmp_path / "new").exists()
