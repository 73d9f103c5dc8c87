import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from lure.cli import main
from lure.data.sources import load_examples
from lure.data.sources.arrays import FREE_BYTES, MappedRows
from lure.data.sources.dataset import Hints
from lure.errors import InputError

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        load_examples(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


CASES = {
    "grey images": (PIXELS[..., 0], PIXELS[:, None, :, :, 0]),
    "channels last": (PIXELS, PIXELS.transpose(0, 3, 1, 2)),
    "channels first": (PIXELS.transpose(0, 3, 1, 2), PIXELS.transpose(0, 3, 1, 2)),
    "channels second or last": (PIXELS[:, :3], PIXELS[:, :3]),
    "columns first": (np.asfortranarray(PIXELS), PIXELS.transpose(0, 3, 1, 2)),
    "wide pixels": (PIXELS.astype(np.int64), PIXELS.transpose(0, 3, 1, 2)),
    "float images": (PIXELS / 255, (PIXELS / 255).transpose(0, 3, 1, 2).astype(np.float32)),
    "table": (np.linspace(-1, 1, 30).reshape(6, 5), np.linspace(-1, 1, 30).reshape(6, 5).astype(np.float32)),
    "other byte order": (np.arange(12.0).reshape(6, 2).astype(">f4"), np.arange(12).reshape(6, 2).astype(np.float32)),
    "tokens": (np.arange(-6, 6, dtype=np.int16).reshape(6, 2), np.arange(-6, 6).reshape(6, 2)),
    "bytes": (PIXELS[:, 0, :, 0], PIXELS[:, 0, :, 0]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_shape_and_type_is_read(tmp_path, case, save):
    stored, expected = CASES[case]
    save(tmp_path / "data.npz", inputs=stored, labels=LABELS.astype(np.uint16))
    examples = load_examples(tmp_path / "data.npz")
    assert torch.equal(examples.inputs, torch.from_numpy(np.ascontiguousarray(expected)))
    assert torch.equal(examples[[4, 0, 4]].inputs, torch.from_numpy(expected[[4, 0, 4]]))
    assert examples.labels.tolist() == LABELS.tolist()
    assert isinstance(examples.parts[0].inputs, MappedRows) == (save is np.savez)


def test_stored_and_compressed_files_have_the_same_fingerprint(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=PIXELS, labels=LABELS)
    np.savez_compressed(tmp_path / "b.npz", labels=LABELS, inputs=PIXELS.transpose(0, 3, 1, 2))
    assert load_examples(tmp_path / "a.npz").fingerprint == load_examples(tmp_path / "b.npz").fingerprint


def test_a_mapped_array_is_pickled_as_a_path(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.zeros((2000, 32, 32), np.uint8), labels=np.zeros(2000, int))
    store = load_examples(tmp_path / "a.npz").parts[0].inputs
    assert store[torch.tensor([1])].shape == (1, 1, 32, 32)
    pickled = pickle.dumps(store)
    assert len(pickled) < 2000
    assert torch.equal(pickle.loads(pickled)[torch.tensor([5])], store[torch.tensor([5])])


def test_labels_may_be_missing_only_if_they_are_not_needed(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=PIXELS)
    assert load_examples(tmp_path / "a.npz", labelled=False).labels.tolist() == [0] * 6
    assert "lacks the array 'labels'" in refusal(tmp_path / "a.npz")


NAN = np.zeros((6, 2))
NAN[3, 1] = np.nan
HUGE = np.zeros((6, 2))
HUGE[2] = 1e300


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inputs": np.array([[1, None]], object), "labels": [0]}, "only whole numbers and floats are read"),
        ({"inputs": np.array([["a"]]), "labels": [0]}, "only whole numbers and floats are read"),
        ({"inputs": np.zeros((6, 2), complex), "labels": LABELS}, "only whole numbers and floats are read"),
        ({"inputs": NAN, "labels": LABELS}, "NaN, infinity or a number too large for float32 at example 3"),
        ({"inputs": HUGE, "labels": LABELS}, "at example 2"),
        ({"inputs": np.full((6, 2), 2**63, np.uint64), "labels": LABELS}, "a number of 2**63 or more"),
        ({"inputs": np.full((6, 2, 2), 256), "labels": LABELS}, "a pixel outside of [0, 255] at example 0"),
        ({"inputs": np.full((6, 2, 2), -1), "labels": LABELS}, "a pixel outside of [0, 255]"),
        ({"inputs": np.zeros(6), "labels": LABELS}, "got shape (6,)"),
        ({"inputs": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "got shape (0, 2)"),
        ({"inputs": NAN * 0, "labels": LABELS[:5]}, "at example 3"),
        ({"inputs": HUGE * 0, "labels": LABELS[:5]}, "holds 6 inputs and 5 labels"),
        ({"inputs": HUGE * 0, "labels": LABELS * 1.0}, "labels must be a vector of integers, got float64"),
        ({"inputs": HUGE * 0, "labels": LABELS == 0}, "only whole numbers and floats are read"),
        ({"inputs": HUGE * 0, "labels": LABELS[:, None]}, "of shape (6, 1)"),
        ({"inputs": HUGE * 0, "labels": LABELS - 1}, "got -1 at example 0"),
        ({"inputs": HUGE * 0, "labels": np.full(6, 2**63, np.uint64)}, "labels must lie in [0, 999999]"),
        ({"pictures": PIXELS, "labels": LABELS}, "must hold 'inputs' and 'labels', and holds labels, pictures"),
        ({}, "and holds nothing"),
    ],
)
def test_unusable_content_is_named(tmp_path, save, content, message):
    save(tmp_path / "bad.npz", **content)
    assert message in refusal(tmp_path / "bad.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("share", [0, 0.2, 0.6, 0.99])
def test_a_truncated_file_is_named(tmp_path, save, share):
    file = tmp_path / "cut.npz"
    save(file, inputs=PIXELS, labels=LABELS)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refusal(file)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_single_changed_bit_is_noticed(tmp_path, save):
    file = tmp_path / "changed.npz"
    save(file, inputs=GENERATOR.integers(0, 256, (40, 32, 32), dtype=np.uint8), labels=np.zeros(40, int))
    content = bytearray(file.read_bytes())
    content[30_000] ^= 1
    file.write_bytes(content)
    refusal(file)


def write_npy(path, shape, kind, data, method=zipfile.ZIP_DEFLATED):
    """Write an archive whose header of `inputs` claims this shape and type, whatever the data."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    labels = io.BytesIO()
    np.save(labels, np.zeros(2, np.int64))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("inputs.npy", header.getvalue() + data)
        archive.writestr("labels.npy", labels.getvalue())
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", [(2, 1 << 50), (1 << 62, 1 << 62), (-2, -8), (2, 7)])
def test_a_header_that_claims_another_size_is_refused_without_allocating_it(tmp_path, shape, method):
    assert "is damaged" in refusal(write_npy(tmp_path / "liar.npz", shape, "|u1", bytes(16), method))


def test_an_array_of_objects_is_never_unpickled(tmp_path):
    path = write_npy(tmp_path / "objects.npz", (2,), "|O", pickle.dumps([1, 2]))
    assert "only whole numbers and floats are read" in refusal(path)


@pytest.mark.parametrize("name", ["inputs.npy", "labels.npy"])
def test_a_member_that_is_not_an_array_is_named(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("inputs.npy", b"nothing")
        archive.writestr("labels.npy", b"nothing")
    assert "has no valid header" in refusal(tmp_path / "a.npz")


def test_a_compressed_array_that_expands_a_thousandfold_is_refused(tmp_path):
    zeros, labels = np.zeros((20, (FREE_BYTES >> 4) + 1), np.uint8), np.zeros(20, int)
    np.savez_compressed(tmp_path / "bomb.npz", inputs=zeros, labels=labels)
    assert f"would unpack to {zeros.size} bytes" in refusal(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "free.npz", inputs=zeros[:15], labels=labels[:15])
    assert len(load_examples(tmp_path / "free.npz")) == 15
    np.savez(tmp_path / "plain.npz", inputs=zeros, labels=labels)
    assert len(load_examples(tmp_path / "plain.npz")) == 20


def save_shape(path, *shape, classes=2):
    np.savez(path, inputs=np.zeros(shape, np.uint8), labels=np.arange(shape[0]) % classes)
    return path


@pytest.mark.parametrize("shape", [(4, 6, 6, 13), (4, 13, 6, 6), (4, 2, 6, 6), (4, 6, 6, 2)])
def test_where_no_place_holds_the_usual_channels_the_layout_must_be_said(tmp_path, shape):
    file = save_shape(tmp_path / "a.npz", *shape)
    told = refusal(file)
    assert f"inputs have the shape {shape}" in told
    assert "--layout channels-first or --layout channels-last" in told
    _, one, two, three = shape
    assert load_examples(file, hints=Hints(layout="channels-first")).input_shape == (one, two, three)
    assert load_examples(file, hints=Hints(layout="channels-last")).input_shape == (three, one, two)


def test_the_model_tells_the_layout(tmp_path):
    for shape in ((4, 6, 6, 13), (4, 13, 6, 6)):
        assert load_examples(save_shape(tmp_path / "a.npz", *shape), input_shape=(13, 6, 6)).input_shape == (13, 6, 6)
    # Both places hold usual channels, and one of them fits.
    examples = load_examples(save_shape(tmp_path / "a.npz", 4, 3, 8, 4), input_shape=(4, 3, 8))
    assert examples.input_shape == (4, 3, 8)
    assert "neither the second" in refusal(save_shape(tmp_path / "a.npz", 4, 6, 6, 6), input_shape=(6, 6, 6))


def test_the_layout_is_a_flag_of_every_command_and_an_option_of_the_data_set(tmp_path, capsys):
    rows = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 13), np.uint8)
    for name in ("train", "test"):
        np.savez(tmp_path / f"{name}.npz", inputs=rows, labels=np.arange(12) % 2)
    model, file = str(tmp_path / "model"), str(tmp_path / "test.npz")
    words = ["--model", "mlp:width=4", "--epochs", "1", "--threads", "1"]
    assert main(["init", model, "--holdout", file, *words]) == 2
    assert "channels-last" in capsys.readouterr().err
    assert main(["init", model, "--holdout", file, "--layout", "channels-last", *words]) == 0
    for command in (["update", model, file], ["predict", model, file], ["evaluate", model, "--on", file]):
        assert main([*command, "--layout", "channels-last"]) == 0
        assert main([*command, "--layout", "channels-first"]) == 2
        assert main(command) == 0  # the model tells
    out = ["--out", str(tmp_path / "run"), "--data", str(tmp_path), "--num-mega-batches", "2", *words]
    assert main(["run", "own-data", *out]) == 2
    assert main(["run", "own-data", *out, "--layout", "channels-last"]) == 0
    assert 'dataset = "file:layout=channels-last"' in (tmp_path / "run" / "recipe.toml").read_text()
