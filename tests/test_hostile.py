"""Hostile input: nothing is executed, nothing outside is written, memory stays bounded, and one line is said."""

import json
import os
import pickle
import random
import re
import resource
import shlex
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lure.store.durable
import lure.store.ledger
import lure.store.progress
import lure.store.run_directory
import lure.store.verify
import lure.store.versions
from lure import InputError, Learner, Recipe
from lure.cli import main
from lure.learner.gate import Gate
from lure.learner.production import init, prune, rollback, status, update, verify
from lure.learner.version import Version
from lure.report.plots import plot_accuracy_over_stages
from lure.report.records import read_runs

RECIPE = Recipe(model="mlp:width=4:depth=1", epochs=1, batch_size=32, milestones=(), threads=1)
MEMORY = 300  # megabytes that a refusal may take at most; what is refused below would take gigabytes


class Payload:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("executed",)


@pytest.fixture(autouse=True)
def _in_a_folder_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "outside" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)


def save(name: str, seed: int, count: int = 30) -> None:
    inputs = np.random.default_rng(seed).normal(size=(count, 3, 4, 4)).astype(np.float32)
    np.savez(name, inputs=inputs, labels=np.arange(count) % 3)


@pytest.fixture
def run() -> Path:
    for seed, name in enumerate(("holdout.npz", "one.npz", "two.npz")):
        save(name, seed)
    init("run", "holdout.npz", recipe=RECIPE, gate=Gate(significance=0, margin=1))
    update("run", "one.npz")
    return Path("run")


def tree(path: Path | str = "..") -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(Path(path).rglob("*")) if p.name != ".lock"}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Chunks


def npy(shape: str, content: bytes, kind: str = "<f4") -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npz(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def labels(count: int) -> bytes:
    return npy(f"({count},)", np.arange(count, dtype="<i8").tobytes(), "<i8")


def objects(path: Path) -> None:
    array = np.empty(3, dtype=object)
    array[:] = [Payload()] * 3
    with np.errstate(all="ignore"):
        np.savez(path, inputs=np.zeros((3, 3, 4, 4), np.float32), labels=array, allow_pickle=True)


def bomb(path: Path) -> None:
    count = 1 << 20  # two hundred megabytes of zeros, in two hundred kilobytes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("inputs.npy", "w") as file:
            file.write(npy(f"({count}, 3, 4, 4)", b""))
            for _ in range(48):
                file.write(bytes(4 * count))
        archive.writestr("labels.npy", labels(10))


def climbing(path: Path) -> None:
    good = {"inputs.npy": npy("(3, 3, 4, 4)", bytes(576)), "labels.npy": npy("(3,)", bytes(24), "<i8")}
    npz(path, {"../../escaped.npy": good["inputs.npy"], "/escaped.npy": b"x"} | {"labels.npy": good["labels.npy"]})


def png(width: int, height: int) -> bytes:
    def piece(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", header) + piece(b"IDAT", pixels) + piece(b"IEND", b"")


def plain(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


INPUTS = np.zeros((3, 3, 4, 4), np.float32)
CHUNKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), "cannot read hostile.npz: File is not a zip"),
    "a pickle in a zip": (
        lambda path: npz(path, {"inputs.npy": pickle.dumps(Payload()), "labels.npy": labels(3)}),
        "the array 'inputs' has no valid header",
    ),
    "objects": (objects, "'labels' is of type object; only whole numbers and floats are read"),
    "a structured type": (
        lambda path: npz(path, {"inputs.npy": npy("(1,)", bytes(4), "V4"), "labels.npy": labels(1)}),
        "only whole numbers and floats",
    ),
    "paths that climb out": (climbing, "lacks the array 'inputs'"),
    "a bomb": (bomb, "would unpack to"),
    "sizes that are not there": (
        lambda path: npz(path, {"inputs.npy": npy("(99999999999, 3, 4, 4)", b""), "labels.npy": labels(3)}),
        "'inputs' is damaged",
    ),
    "sizes without end": (
        lambda path: npz(path, {"inputs.npy": npy("(" + "9" * 4000 + ", 2)", b""), "labels.npy": labels(3)}),
        "hostile.npz: the array 'inputs'",
    ),
    "a truth value for a size": (
        lambda path: npz(path, {"inputs.npy": npy("(4, 14, 14, True)", bytes(3136)), "labels.npy": labels(4)}),
        "'inputs' is damaged: shape (4, 14, 14, True)",
    ),
    "negative sizes": (
        lambda path: npz(path, {"inputs.npy": npy("(-3, 3, -4, 4)", bytes(384)), "labels.npy": labels(3)}),
        "'inputs'",
    ),
    "NaN": (plain(inputs=np.full_like(INPUTS, np.nan), labels=[0, 1, 2]), "inputs hold NaN, infinity"),
    "infinity": (plain(inputs=np.full_like(INPUTS, np.inf), labels=[0, 1, 2]), "inputs hold NaN, infinity"),
    "labels as floats": (
        plain(inputs=INPUTS, labels=[0.0, 1.0, 2.0]),
        "labels must be a vector of integers, got float",
    ),
    "labels as text": (plain(inputs=INPUTS, labels=["a", "b", "c"]), "only whole numbers and floats"),
    "labels below zero": (plain(inputs=INPUTS, labels=[0, -1, 2]), "labels must lie in"),
    "labels without end": (plain(inputs=INPUTS, labels=[0, 1, 2**40]), "labels must lie in"),
    "labels of no class": (plain(inputs=INPUTS, labels=[0, 1, 3]), "'3' (1 example); it knows 0, 1, 2; if they"),
    "another shape": (plain(inputs=INPUTS[:, :1], labels=[0, 1, 2]), "the model takes (3, 4, 4)"),
    "another count": (plain(inputs=INPUTS, labels=[0, 1]), "3 inputs and 2 labels"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot read hostile.npz"),
    "a name that writes to the terminal": (
        lambda path: npz(path, {"\x1b[2J\nerror: all is well": b"", "labels.npy": labels(1)}),
        r"\x1b[2J\nerror: all is well",
    ),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_hostile_chunk_is_one_line_and_nothing_else(kind: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    write, message = CHUNKS[kind]
    write(Path("hostile.npz"))
    before, memory = tree(), peak()
    assert main(["update", "run", "hostile.npz"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err
    assert tree() == before
    assert peak() - memory < MEMORY


@pytest.mark.parametrize("name", ["hostile.parquet", "hostile.safetensors", "hostile.pt", "hostile.pkl", "hostile"])
def test_a_pickle_by_another_name_is_not_opened(name: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    Path(name).write_bytes(pickle.dumps(Payload()))
    before = tree()
    assert main(["update", "run", name]) == 2
    assert capsys.readouterr().err.startswith("error: c")
    assert tree() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_and_a_device_do_not_hang_or_flood(run: Path, capsys: pytest.CaptureFixture) -> None:
    os.mkfifo("pipe.npz")
    Path("zero.npz").symlink_to("/dev/zero")
    sources = ("pipe.npz", "zero.npz")
    for name in sources:
        memory = peak()
        assert main(["update", "run", name]) == 2
        assert f"error: {name} is not a file" in capsys.readouterr().err
        assert peak() - memory < MEMORY


@pytest.mark.filterwarnings("ignore")
def test_a_table_is_no_bomb_names_no_file_and_leaves_nothing_at_home(
    run: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    import pyarrow  # extras, so not imported above
    import pyarrow.parquet
    from PIL import Image

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(Path("../home").resolve()))
    length = 600_000
    row = pyarrow.ListArray.from_arrays(pyarrow.array([0, length], pyarrow.int32()), pyarrow.array(np.zeros(length)))
    bomb = pyarrow.table({"inputs": pyarrow.chunked_array([row] * 20), "label": list(range(20))})
    pyarrow.parquet.write_table(bomb, "bomb.parquet")
    Image.new("RGB", (4, 4)).save("../secret.png")
    cells = [{"bytes": None, "path": str(Path("../secret.png").resolve())}] * 3
    features = {"image": {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    links = pyarrow.table({"image": pyarrow.array(cells, kind), "label": [0, 1, 2]})
    links = links.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(links, "links.parquet")
    np.savez("images.npz", inputs=np.zeros((6, 5, 5, 3), np.uint8), labels=[0, 1, 2] * 2)
    assert main(["init", "pictures", "--holdout", "images.npz", "--model", "mlp:width=4", "--threads", "1"]) == 0
    capsys.readouterr()
    before, memory = tree(), peak()
    for directory, name, message in (
        ("run", "bomb.parquet", "bomb.parquet would unpack to 12000020 values"),
        ("pictures", "links.parquet", "there is no image in row 0 of links.parquet, column 'image'"),
    ):
        assert main(["update", directory, name]) == 2
        assert message in capsys.readouterr().err
    assert peak() - memory < MEMORY
    assert tree() == before


def test_images_of_a_billion_pixels_and_images_that_are_none(capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("PIL")
    from PIL import Image  # an extra, so not imported above

    for name in ("cat", "dog"):
        Path("good", name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(f"good/{name}/1.png")
        Path("huge", name).mkdir(parents=True)
        Path("huge", name, "1.png").write_bytes(png(40_000, 40_000))
        Path("pickled", name).mkdir(parents=True)
        Path("pickled", name, "1.png").write_bytes(pickle.dumps(Payload()))
    flags = ["--model", "mlp:width=4", "--epochs", "1", "--milestones", "", "--threads", "1"]
    assert main(["init", "run", "--holdout", "good", *flags]) == 0
    capsys.readouterr()
    before, memory = tree(), peak()
    for name, reason in (("huge", "exceeds limit"), ("pickled", "unknown format")):
        assert main(["update", "run", name]) == 2
        error = capsys.readouterr().err
        assert f"error: cannot decode the image {Path(name).resolve()}/cat/1.png: " in error
        assert reason in error
        assert main(["init", "other", "--holdout", name, *flags]) == 2
        assert "cannot decode the image" in capsys.readouterr().err
    assert tree() == before
    assert peak() - memory < MEMORY


# Recipes and code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('data = "/home/somebody/.ssh"', "unknown recipe field 'data'"),
        ('out = "../../elsewhere"', "unknown recipe field 'out'"),
        ('model = "os:getcwd"', r"names code to run: give it on the command line, too \(--model os:getcwd\)"),
        ('model = "/home/somebody/net:build"', "names code to run"),
        ('model = "../../net"', r"unknown model '../../net'"),
        ('unlearner = "os:system"', r"names code to run: give it on the command line, too \(--unlearner os:system\)"),
        ('replay = "builtins:exec"', "unknown replay regime"),
        ('dataset = "../../data"', "unknown data set"),
        ("epochs = 1979-05-27", "epochs must be a whole number"),
        ("epochs = [[[[1]]]]", "epochs"),
        ('milestones = [1, "2", {a = 1}]', "milestones"),
        ("model = " + "[" * 20_000, "is not valid TOML"),
        ("lr = nan", "lr must be at least 0, got nan"),
        ("epochs = " + "9" * 5000, "is not valid TOML"),
        ("a" + ".a" * 100_000 + " = 1", "is not valid TOML: it holds 100000 dots"),
        ("x = {" + '"a"."b".' * 50_000 + "c = 1}", "is not valid TOML: it holds 100000 dots"),
    ],
)
def test_a_hostile_recipe_is_one_line(text: str, message: str, capsys: pytest.CaptureFixture) -> None:
    Path("plan.toml").write_text(text + "\n")
    before = tree()
    assert main(["run", "plan.toml", "--out", "here"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert tree() == before


def own_builder(directory: str) -> None:
    """Write a module whose import makes a folder."""
    Path(directory, "trojan.py").write_text(
        "import os\nos.makedirs('executed', exist_ok=True)\nfrom torch import nn\n"
        "def build(num_classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))\n"
    )


def test_code_is_run_only_if_this_command_line_names_it(capsys: pytest.CaptureFixture) -> None:
    for seed, name in enumerate(("holdout.npz", "one.npz", "two.npz")):
        save(name, seed)
    own_builder(".")
    flags = ["--epochs", "1", "--milestones", "", "--threads", "1", "--model", "trojan:build"]
    assert main(["init", "run", "--holdout", "holdout.npz", *flags]) == 0
    assert main(["update", "run", "one.npz", "--model", "trojan:build"]) == 0
    Path("executed").rmdir()
    del sys.modules["trojan"]
    capsys.readouterr()
    for words in (
        ["update", "run", "two.npz"],
        ["predict", "run", "two.npz"],
        ["export", "run", "net.safetensors"],
        ["update", "run", "two.npz", "--model", "trojan:other"],
    ):
        assert main(words) == 2
        assert "trojan:build" in capsys.readouterr().err
        assert not Path("executed").exists()
        assert "trojan" not in sys.modules
    for words in (["status", "run"], ["verify", "run"], ["rollback", "run", "1"], ["prune", "run", "--keep", "1"]):
        assert main(words) == 0
        assert not Path("executed").exists()
    assert main(["predict", "run", "two.npz", "--model", "trojan:build"]) == 0


# Run directories that somebody else wrote


def test_files_of_a_run_that_are_pickles_are_not_opened(run: Path) -> None:
    evil = pickle.dumps(Payload())
    names = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"]
    for path in names:
        whole = path.read_bytes()
        path.write_bytes(evil)
        messages: list[str] = []
        for work in (lambda: update("run", "two.npz"), lambda: Version.load("run"), lambda: list(verify("run"))):
            try:
                work()
            except InputError as error:
                messages.append(str(error))
        assert any(re.search("damaged|cannot read|not UTF-8|cut short", message) for message in messages)
        assert not Path("executed").exists()
        path.write_bytes(whole)


def test_a_checkpoint_cannot_name_a_file_outside(run: Path) -> None:
    outside = Path("../secret.safetensors")
    outside.write_bytes(b"")
    (run / "progress").mkdir()
    facts = {"stage": 2, "epoch": 1, "file": "../../../secret.safetensors", "sha256": lure.store.durable.checksum(b"")}
    (run / "progress" / "progress.json").write_bytes(lure.store.durable.seal(facts))
    with pytest.raises(InputError, match=r"run/progress/secret.safetensors is damaged"):
        update("run", "two.npz")


def test_a_ledger_cannot_name_a_chunk_outside(run: Path) -> None:
    events = lure.store.ledger.read_ledger(run)
    for name in ("ledger.jsonl", "ledger.seal"):
        (run / name).unlink()
    lure.store.ledger.Ledger(run).append(dict(events[0]) | {"data_fingerprint": "../../../elsewhere"})
    with pytest.raises(InputError, match="is not the fingerprint of a chunk"):
        update("run", "two.npz")
    assert any("is not the fingerprint of a chunk" in complaint for complaint in verify("run"))


def reseal(run: Path, **fields: Any) -> None:
    """Write the first line of a ledger anew with other fields, and with the checksums that belong to them."""
    events = lure.store.ledger.read_ledger(run)
    for name in ("ledger.jsonl", "ledger.seal"):
        (run / name).unlink()
    for number, event in enumerate(events):
        lure.store.ledger.Ledger(run).append(dict(event) | ({} if number else fields))


ARRIVAL = {"examples": 3, "class_counts": [1, 1, 1], "prequential_accuracy": 0.5, "warnings": [], "name": "one.npz"}


@pytest.mark.parametrize(
    "fields",
    [
        {"parent": 1},
        {"parent": 2},
        {"parent": -1},
        {"parent": "0"},
        {"parent": None},
        {"accepted": "yes"},
        {"taken_in": None},
        {"taken_in": [7]},
        {"taken_in": ["1"]},
        {"accuracy": "high"},
        {"train_seconds": "long"},
        {"train_seconds": None},
        {"data_fingerprint": 5},
        {"files": [1]},
        {"files": None},
        {"decision": "good"},
        {"arrival": [1]},
        {"data_examples": {}},
        {"unlearner": ["lure"]},
        {"forgotten": {"weight": "all"}},
        {"left_out": {"weight": 1}},
        {"choices": {"candidate": "fire", "taken": True}},
        {"choices": ["fire"]},
        {"choices": [{"candidate": "fire", "taken": True}, {"taken": False}]},
        {"choices": [{"candidate": "fire", "taken": 1}]},
        {"choices": [{"candidate": "fire", "taken": True, "loss": "low"}]},
        {"again": "no"},
        {"arrival": {}},
        {"arrival": {**ARRIVAL, "prequential_accuracy": "high"}},
        {"arrival": {**ARRIVAL, "name": 5}},
        {"arrival": {**ARRIVAL, "warnings": "none"}},
        {"arrival": {**ARRIVAL, "class_counts": {"cat": 1}}},
        {"decision": {}},
        {"decision": {"accepted": True, "reasons": 5, "comparisons": []}},
        {"decision": {"accepted": True, "reasons": [5], "comparisons": []}},
        {"decision": {"accepted": True, "reasons": [], "comparisons": [5]}},
        {"decision": {"accepted": True, "reasons": [], "comparisons": [], "warnings": "none"}},
        {"independent": {"accuracy": "high"}},
        {"environment": {"torch": 2}},
    ],
)
def test_other_values_in_a_ledger_whose_checksums_are_right_are_one_line(
    fields: dict[str, Any], run: Path, capsys: pytest.CaptureFixture
) -> None:
    reseal(run, **fields)
    for words in (
        ["status", "run"],
        ["verify", "run"],
        ["report", "run"],
        ["report", "run", "--json"],
        ["report", "run", "--html", "page.html"],
        ["evaluate", "run"],
        ["predict", "run", "two.npz"],
        ["rollback", "run", "1"],
        ["prune", "run", "--keep", "1"],
        ["update", "run", "one.npz"],
        ["update", "run", "two.npz"],
    ):
        assert main(words) in (0, 2), words
        assert "Traceback" not in capsys.readouterr().err
    assert main(["status", "run"]) == 2
    assert re.search(r"run/ledger.jsonl(, line 1)? is damaged \(.*\): restore it", capsys.readouterr().err)


@pytest.mark.parametrize(
    "event",
    [
        {"event": "rollback", "committed_at": "today"},
        {"event": "accept", "version": [1], "becomes_current": False, "taken_in": [], "committed_at": "today"},
        {"event": "accept", "version": 7, "becomes_current": False, "taken_in": [], "committed_at": "today"},
        {"event": "prune", "versions": ["1"], "committed_at": "today"},
        {"event": "prune", "versions": [7], "committed_at": "today"},
        {"event": "prune", "versions": 1, "committed_at": "today"},
        {"event": "prune", "versions": [[1]], "committed_at": "today"},
    ],
)
def test_another_event_in_a_ledger_whose_checksums_are_right_is_one_line(
    event: dict[str, Any], run: Path, capsys: pytest.CaptureFixture
) -> None:
    lure.store.ledger.Ledger(run).append(event)
    for words in (["status", "run"], ["rollback", "run", "1"], ["prune", "run", "--keep", "1"], ["report", "run"]):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert re.match(r"error: run/ledger.jsonl is damaged \(.*\): restore it", error), error
        assert error.count("\n") == 1


def test_names_that_are_no_text_or_too_long_are_one_line(run: Path, capsys: pytest.CaptureFixture) -> None:
    Image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog\udcff"):
        Path("pictures", name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(Path("pictures", name, "1.png"))
    before = tree()
    for words, message in (
        (["init", "new", "--holdout", "pictures", "--model", "mlp:width=4"], r"'dog\udcff' is no text"),
        (["rollback", "run", "1", "--reason", "so \udcff"], "is in use already"),
        (["export", "run", "net\udcff.safetensors"], r"'net\udcff.safetensors' is no text"),
        (["init", "new/" + "x" * 257, "--holdout", "one.npz"], "File name too long"),
        (["status", "x" * 257], "File name too long"),
    ):
        code = main(words)
        said = capsys.readouterr()
        assert message in said.err + said.out, words
        assert said.err.count("\n") == (code == 2)
        assert tree() == before
    prune("run", 1)
    update("run", "two.npz")
    assert main(["rollback", "run", "1", "--reason", "so \udcff"]) == 2
    assert r"'so \udcff' is no text (UTF-8)" in capsys.readouterr().err
    Path("run").rename("run\udcff")
    for words in (["status"], ["report"], ["verify"], ["evaluate"], ["report", "--html", "page.html"]):
        assert main([words[0], "run\udcff", *words[1:]]) == 0
    assert r"run\udcff" in Path("page.html").read_text(encoding="utf-8")


def test_memory_that_is_refused_is_one_line(capsys: pytest.CaptureFixture) -> None:
    before = tree()
    assert main(["run", "--out", "here", "--model", f"mlp:width={10**14}"]) == 2
    assert capsys.readouterr().err == "error: there is not enough memory for this\n"
    assert tree() == before


def test_a_report_does_not_show_what_was_edited(capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "--out", "demo", "--epochs", "1", "--threads", "1"]) == 0
    assert main(["report", "demo"]) == 0
    capsys.readouterr()
    for name, old, new in (
        ("result.json", b'"final_accuracy": 0.', b'"final_accuracy": 0.9'),
        ("recipe.toml", b"epochs = 1", b"epochs = 9"),
        ("ledger.jsonl", b'"accuracy": 0.', b'"accuracy": 0.9'),
    ):
        file = Path("demo", name)
        whole = file.read_bytes()
        assert old in whole
        file.write_bytes(whole.replace(old, new, 1))
        for flags in ([], ["--json"], ["--html", "page.html"]):
            assert main(["report", "demo", *flags]) == 2
            assert str(file) in capsys.readouterr().err
        file.write_bytes(whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_is_full_closed_or_plain_is_one_line(run: Path) -> None:
    def lure(words: str, redirect: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", f"{shlex.quote(sys.executable)} -m lure {words} {redirect}"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        return done.returncode, done.stderr

    said = "cannot read or write standard output: No space left on device\n"
    for words in ("status run", "status run --json", "predict run two.npz"):
        code, error = lure(words, "> /dev/full")
        assert (code, error) == (2, f"error: {said}"), words
    for words in ("status run", "predict run two.npz"):
        assert lure(words, ">&-") == (0, "")
    code, error = lure("update run two.npz --json", "> /dev/full")
    assert (code, error) == (0, "warning: cannot write to standard output: No space left on device\n")
    assert status("run")["current_version"] == 2
    (run.parent / "größe").symlink_to(run.name)
    assert lure("status größe", "", PYTHONIOENCODING="ascii") == (0, "")


def test_links_inside_a_run_are_not_written_through(run: Path) -> None:
    precious = Path("../precious")
    precious.write_bytes(b"gold")
    treasury = Path("../treasury")
    treasury.mkdir()
    for name in (".ledger.seal.tmp", ".recipe.toml.tmp"):
        (run / name).symlink_to(precious.resolve())
    (run / "versions" / ".0002.tmp").symlink_to(treasury.resolve())
    (run / "versions" / "0002").symlink_to(treasury.resolve())
    (run / "progress").symlink_to(treasury.resolve())
    update("run", "two.npz")
    assert precious.read_bytes() == b"gold"
    assert list(treasury.iterdir()) == []
    assert not (run / "versions" / "0002").is_symlink()


@pytest.mark.parametrize("name", [".lock", "ledger.jsonl", "chunks", "versions"])
def test_a_run_whose_parts_lie_elsewhere_is_not_written_to(name: str, run: Path) -> None:
    elsewhere = Path("../elsewhere")
    (run / name).rename(elsewhere)
    (run / name).symlink_to(elsewhere.resolve())
    before = tree()
    with pytest.raises(InputError, match=f"{name} is a link to somewhere else"):
        update("run", "two.npz")
    assert tree() == before
    assert status("run")["current_version"] == 1  # reading is harmless


def test_evaluations_and_plots_are_not_written_through_links(run: Path, capsys: pytest.CaptureFixture) -> None:
    precious, treasury = Path("../precious"), Path("../treasury")
    precious.write_bytes(b"gold")
    treasury.mkdir()
    (run / "evaluations").symlink_to(treasury.resolve())
    before = tree()
    assert main(["evaluate", "run"]) == 2
    assert "run/evaluations is a link to somewhere else" in capsys.readouterr().err
    assert tree() == before
    assert main(["evaluate", "run", "--on", "two.npz"]) == 0  # nothing is kept of that
    (run / "evaluations").unlink()
    (run / "evaluations").mkdir()
    for link in (run / "evaluations" / "1.json", run / "accuracy_over_stages.png"):
        link.symlink_to(precious.resolve())
    assert main(["evaluate", "run"]) == 0
    plot_accuracy_over_stages(read_runs(["run"]), run / "accuracy_over_stages.png")
    assert precious.read_bytes() == b"gold"
    assert (run / "accuracy_over_stages.png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", "run"]) == 0


def test_pruning_a_version_that_is_a_link_removes_nothing_elsewhere(run: Path) -> None:
    update("run", "two.npz")
    treasury = Path("../treasury")
    (run / "versions" / "0001").rename(treasury)
    (run / "versions" / "0001").symlink_to(treasury.resolve())
    before = tree(treasury)
    with pytest.raises(InputError, match="0001 is a link to somewhere else"):
        prune("run", 1)
    assert tree(treasury) == before


def mutate(content: bytes, generator: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 3))):
        at, length = generator.randrange(len(data) + 1), generator.choice((1, 2, 8, 40))
        kind = generator.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at : at + length] = generator.randbytes(length)
        elif kind == 2:
            del data[at : at + generator.choice((length, len(data)))]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at : at + 1] = generator.choice((b"9", b"-", b"null", b"[]", b"{}", b'""', b"1e400", b"true"))
        else:
            # Another value where one stood.
            words = [b'"accepted"', b"1", b"true", b"null", b'"version"', b"0.1", b"[", b"}"]
            data = bytearray(bytes(data).replace(generator.choice(words), generator.choice(words), 1))
    return bytes(data)


def check_everything(run: Path) -> None:
    """Read a run in all ways; each either works or says what is wrong."""
    works: list[Callable[[], Any]] = [
        lambda: Version.load(run, device="cpu"),
        lambda: status(run),
        lambda: list(verify(run)),
        lambda: Learner.open(run, device="cpu").close(),
        lambda: rollback(run, 1),
    ]
    for work in works:
        try:
            work()
        except InputError:
            continue


@pytest.mark.parametrize("trusting", [False, True])
def test_a_mutated_run_is_read_or_refused(trusting: bool, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update("run", "two.npz")
    with Learner.open(run, device="cpu") as learner:
        learner.directory.progress.save({"w": torch.zeros(2)}, {"stage": 3, "epoch": 1, "unlearned": {}})
    if trusting:
        # Somebody who can write the files can mend the checksums, too: then only the parsers stand in the way.
        for module in (lure.store.durable, lure.store.run_directory, lure.store.versions, lure.store.ledger):
            monkeypatch.setattr(module, "checksum", lambda data: "0" * 64)
        for module in (lure.store.durable, lure.store.progress, lure.store.verify):
            monkeypatch.setattr(module, "file_checksum", lambda path: "0" * 64)
        rewrite(run)
    generator = random.Random(int(trusting))
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"]
    contents = {path: path.read_bytes() for path in files}
    check_everything(run)
    rounds = 12 if trusting else 5
    for path, whole in contents.items():
        if path.suffix == ".npy" and trusting:
            continue  # a chunk is checked by its content, which nobody can mend
        for number in range(rounds):
            mutant = mutate(whole, generator)
            path.write_bytes(mutant)
            try:
                check_everything(run)
            except Exception as error:
                raise AssertionError(f"{path}, round {number}: {type(error).__name__}: {error}\n{mutant!r}") from error
            for file, content in contents.items():
                if not file.exists() or file.read_bytes() != content:
                    file.parent.mkdir(exist_ok=True)
                    file.write_bytes(content)


def rewrite(run: Path) -> None:
    """Replace every checksum by the one that then counts, so that mutants get past it."""
    lines = []
    for line in (run / "ledger.jsonl").read_text().splitlines():
        event = json.loads(line)
        event["line_sha256"] = "0" * 64
        event["files"] = dict.fromkeys(event["files"], "0" * 64)
        lines.append(json.dumps(event))
    (run / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    record = json.dumps({"lines": len(lines), "line_sha256": "0" * 64})
    (run / "ledger.seal").write_text(record + "\n" + "0" * 64 + "\n")
    for name in ("production.json", "progress/progress.json"):
        text = (run / name).read_text().splitlines()[0]
        facts = json.loads(text)
        if "sha256" in facts:
            facts["sha256"] = "0" * 64
        (run / name).write_text(json.dumps(facts) + "\n" + "0" * 64 + "\n")
