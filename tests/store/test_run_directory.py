"""The run directory: a ledger that shows every damage, commits that are whole or absent, and one process at a time."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pytest
import torch

import lure.store.durable
from lure.data.examples import Examples
from lure.errors import InputError
from lure.store.agreement import Agreement
from lure.store.chunks import digest_rows
from lure.store.durable import StorageError, make_folder, replace_file, to_json, write_folder
from lure.store.ledger import LEDGER, SEAL, Ledger, read_ledger, standing
from lure.store.run_directory import RunDirectory
from lure.store.stage import Stage
from lure.store.tensors import tensors_to_bytes
from lure.store.verify import verify
from lure.store.versions import VersionFiles


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# The ledger


def stage(version: int, parent: int, accepted: bool = True, taken_in: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "event": "stage",
        "stage": version,
        "version": version,
        "parent": parent,
        "accepted": accepted,
        "taken_in": list(taken_in or (version,)),
        "loss": float("nan"),
        "name": "Größe\n",
    }


LINES = [
    stage(1, 0),
    stage(2, 1, accepted=False),
    stage(3, 1),
    {"event": "accept", "version": 2, "becomes_current": False, "taken_in": [2]},
    {"event": "prune", "versions": [1]},
]


def write_ledger(folder: Path, lines: list[dict[str, Any]]) -> bytes:
    folder.mkdir(exist_ok=True)
    for line in lines:
        Ledger(folder).append(line)
    return (folder / LEDGER).read_bytes()


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == []
    write_ledger(tmp_path, LINES)
    assert read_ledger(tmp_path) == [json.loads(to_json(line)) for line in LINES]
    assert read_ledger(tmp_path)[0]["loss"] is None


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    whole = write_ledger(tmp_path, LINES)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (tmp_path / LEDGER).write_bytes(damaged)
        with pytest.raises(InputError, match=r"ledger.jsonl(, line \d is damaged| was cut short)"):
            read_ledger(tmp_path)


def test_every_cut_is_found(tmp_path: Path) -> None:
    whole = write_ledger(tmp_path, LINES)
    for length in range(len(whole)):
        (tmp_path / LEDGER).write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"ledger.jsonl was cut short: it had 5 lines and has [0-4]; restore"):
            read_ledger(tmp_path)
    (tmp_path / LEDGER).unlink()
    with pytest.raises(InputError, match="was cut short: it had 5 lines and has 0"):
        read_ledger(tmp_path)


def test_a_line_that_is_gone_doubled_or_out_of_place_is_found(tmp_path: Path) -> None:
    lines = write_ledger(tmp_path, LINES).splitlines(keepends=True)
    for order in ([1, 2, 3, 4], [0, 2, 3, 4, 4], [0, 1, 2, 4, 3], [0, 0, 1, 2, 3, 4], [0, 1, 2, 4, 4]):
        (tmp_path / LEDGER).write_bytes(b"".join(lines[i] for i in order))
        with pytest.raises(InputError, match=r"line \d is damaged"):
            read_ledger(tmp_path)


def test_a_ledger_of_another_run_is_found(tmp_path: Path) -> None:
    other = write_ledger(tmp_path / "other", [*LINES[:4], {"event": "prune", "versions": [2]}])
    write_ledger(tmp_path / "mine", LINES)
    (tmp_path / "mine" / LEDGER).write_bytes(other)
    with pytest.raises(InputError, match="line 5 is damaged"):
        read_ledger(tmp_path / "mine")


def test_a_damaged_seal_is_named(tmp_path: Path) -> None:
    write_ledger(tmp_path, LINES)
    whole = (tmp_path / SEAL).read_bytes()
    for content in (whole[:20], whole.replace(b"5", b"4", 1), b"\xff\n"):
        (tmp_path / SEAL).write_bytes(content)
        with pytest.raises(InputError, match=r"ledger.seal is damaged"):
            read_ledger(tmp_path)


def test_a_line_that_was_never_finished_is_no_commit_and_is_replaced(tmp_path: Path) -> None:
    before = write_ledger(tmp_path, LINES[:2])
    seal = (tmp_path / SEAL).read_bytes()
    whole = write_ledger(tmp_path, LINES[2:3])
    for length in range(len(before), len(whole), 9):
        (tmp_path / LEDGER).write_bytes(whole[:length])
        (tmp_path / SEAL).write_bytes(seal)
        assert len(read_ledger(tmp_path)) == 2
        Ledger(tmp_path).append(LINES[2])
        assert (tmp_path / LEDGER).read_bytes() == whole


def test_a_line_that_the_seal_does_not_know_yet_is_a_commit(tmp_path: Path) -> None:
    write_ledger(tmp_path, LINES[:2])
    seal = (tmp_path / SEAL).read_bytes()
    Ledger(tmp_path).append(LINES[2])
    (tmp_path / SEAL).write_bytes(seal)
    assert len(read_ledger(tmp_path)) == 3
    Ledger(tmp_path).append(LINES[3])
    assert len(read_ledger(tmp_path)) == 4


@pytest.mark.parametrize(
    "tail",
    [bytes(40) + b"\n", b'{"event": "prune", "ver\n', b'{"event": \n\0', b'{"line_sha256": "' + b"0" * 9 + b'"}\n'],
)
def test_a_last_line_that_is_torn_and_that_the_seal_does_not_know_is_no_commit(tail: bytes, tmp_path: Path) -> None:
    """After a loss of power the last block of a file may hold anything."""
    before = write_ledger(tmp_path, LINES[:2])
    (tmp_path / LEDGER).write_bytes(before + tail)
    assert len(read_ledger(tmp_path)) == 2
    assert Ledger(tmp_path).unfinished
    Ledger(tmp_path).append(LINES[2])
    assert [dict(line) for line in read_ledger(tmp_path)] == [json.loads(to_json(line)) for line in LINES[:3]]
    assert (tmp_path / LEDGER).read_bytes().startswith(before)
    assert tail not in (tmp_path / LEDGER).read_bytes()
    (tmp_path / LEDGER).write_bytes(before + tail + b"\n" + tail)
    with pytest.raises(InputError, match="line 3 is damaged"):
        read_ledger(tmp_path)


def test_a_hard_linked_backup_stays_as_it_was(tmp_path: Path) -> None:
    before = write_ledger(tmp_path, LINES[:2])
    for name in (LEDGER, SEAL):
        os.link(tmp_path / name, tmp_path / f"backup of {name}")
    seal = (tmp_path / SEAL).read_bytes()
    Ledger(tmp_path).append(LINES[2])
    assert len(read_ledger(tmp_path)) == 3
    assert (tmp_path / f"backup of {LEDGER}").read_bytes() == before
    assert (tmp_path / f"backup of {SEAL}").read_bytes() == seal


@pytest.mark.parametrize("line", [b"[1]", b"null", b"[" * 100_000, b'{"line_sha256": 1}', b'{"a": 1e999}', b"\xff"])
def test_a_line_of_anything_else_is_damage(line: bytes, tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_bytes(line + b"\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        read_ledger(tmp_path)


def test_a_ledger_that_is_held_knows_what_it_appended_without_reading_it_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for count, line in enumerate(LINES, start=1):
        ledger.append(line)
        (tmp_path / LEDGER).rename(tmp_path / "aside")  # whatever it says now comes from memory
        assert (len(ledger.events), len(ledger.events)) == (count, count)
        assert ledger.standing == standing(LINES[:count])
        (tmp_path / "aside").rename(tmp_path / LEDGER)
    assert list(read_ledger(tmp_path)) == list(ledger.events)


def test_a_line_that_the_disk_refused_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    ledger.append(LINES[0])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            ledger.append(LINES[1])
    assert list(ledger.events) == list(read_ledger(tmp_path))


def test_what_the_disk_refuses_after_the_commit_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.replace

    def refuse_the_seal(source: Path, target: Path) -> None:
        if target.name == SEAL:
            full(0)
        original(source, target)

    monkeypatch.setattr(os, "replace", refuse_the_seal)
    ledger = Ledger(tmp_path)
    for line in LINES[:2]:
        with pytest.warns(UserWarning, match=r"ledger.seal: No space left on device .* is committed"):
            ledger.append(line)
    assert list(read_ledger(tmp_path)) == list(ledger.events) == [json.loads(to_json(line)) for line in LINES[:2]]
    monkeypatch.undo()
    Ledger(tmp_path).append(LINES[2])
    assert len(read_ledger(tmp_path)) == 3
    assert (tmp_path / SEAL).exists()


def test_a_line_that_cannot_be_flushed_is_taken_back_and_else_it_is_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ledger(tmp_path, LINES[:1])
    before = (tmp_path / LEDGER).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError):
            Ledger(tmp_path).append(LINES[1])
        assert (tmp_path / LEDGER).read_bytes() == before
        patched.setattr(os, "ftruncate", lambda *_: full(0))
        with pytest.warns(UserWarning, match="No space left on device .* is committed") as said:
            Ledger(tmp_path).append(LINES[1])
        assert any(LEDGER in str(warning.message) for warning in said)
    assert len(read_ledger(tmp_path)) == 2


def test_standing_follows_acceptance_by_hand_and_rollback() -> None:
    refused = stage(2, 1, accepted=False)
    late = {"event": "accept", "version": 2, "becomes_current": False, "taken_in": [2]}
    at_once = {"event": "accept", "version": 2, "becomes_current": True, "taken_in": [2]}
    assert standing([]).current == 0
    assert standing([stage(1, 0), refused]).current == 1
    assert standing([stage(1, 0), refused]).accepted == {1}
    assert standing([stage(1, 0), refused, at_once]).lineage == (2, 1)
    lines = [stage(1, 0), refused, stage(3, 1), late]
    assert standing(lines).lineage == (3, 1)
    assert standing(lines).waiting == (2,)
    assert standing(lines).accepted == {1, 2, 3}
    # A chunk that was let in waits until a version with it is accepted.
    lines.append(stage(4, 3, accepted=False, taken_in=(2, 4)))
    assert standing(lines).waiting == (2,)
    assert standing([*lines, stage(5, 3, taken_in=(2, 5))]).waiting == ()
    accepted = {"event": "accept", "version": 4, "becomes_current": True, "taken_in": [2, 4]}
    assert standing([*lines, accepted]).waiting == ()
    back = standing([*lines, {"event": "rollback", "version": 1}])
    assert (back.lineage, back.waiting) == ((1,), ())
    assert standing([*LINES]).pruned == {1}


# Files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    replace_file(file, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write to .*file: No space left on device \(what is committed"):
        replace_file(file, b"new" * 1000)
    with pytest.raises(StorageError, match="No space left on device"):
        write_folder(tmp_path / "folder", {"a": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() == b"old"


def test_a_link_that_somebody_left_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / ".file.tmp").symlink_to(outside)
    (tmp_path / ".folder.tmp").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    replace_file(tmp_path / "file", b"new")
    write_folder(tmp_path / "folder", {"a": b"1"})
    assert outside.read_bytes() == b"precious"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "folder" / "a").read_bytes() == b"1"
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(FileExistsError):
        lure.store.durable.write_new(tmp_path / "link", b"new")


# Chunks

CHUNK = Examples(torch.arange(24, dtype=torch.uint8).view(4, 1, 2, 3), torch.tensor([0, 1, 0, 1]))


def stored(tmp_path: Path, examples: Examples = CHUNK) -> tuple[RunDirectory, Path]:
    directory = RunDirectory(tmp_path)
    directory.chunks.store(examples)
    return directory, tmp_path / "chunks" / examples.fingerprint


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64, torch.int64])
def test_a_chunk_comes_back_mapped_and_is_plain_numpy(kind: torch.dtype, tmp_path: Path) -> None:
    rows = torch.arange(9000, dtype=torch.int64).view(9000, 1).expand(9000, 3).to(kind)
    examples = Examples(rows, torch.arange(9000) % 5)
    directory, folder = stored(tmp_path, examples)
    again = directory.chunks.read(examples.fingerprint)
    assert torch.equal(again.inputs, rows)
    assert torch.equal(again.labels, examples.labels)
    assert np.array_equal(np.load(folder / "inputs.npy"), rows.numpy())


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    directory, folder = stored(tmp_path)
    for file in ("inputs.npy", "labels.npy"):
        whole = (folder / file).read_bytes()
        for damaged in (whole[:-1], whole[:50], b"", whole[:-1] + b"\x07", b"\x80\x04" + whole[2:], whole + b"\0"):
            (folder / file).write_bytes(damaged)
            with pytest.raises(InputError, match=f"stored chunk {folder}"):
                directory.chunks.read(CHUNK.fingerprint)
        (folder / file).write_bytes(whole)
    (folder / "labels.npy").unlink()
    with pytest.raises(InputError, match="cannot read the stored chunk"):
        directory.chunks.read(CHUNK.fingerprint)


@pytest.mark.parametrize("name", ["../../etc", "", "a" * 63, "A" * 64])
def test_a_fingerprint_is_no_way_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the fingerprint of a chunk"):
        RunDirectory(tmp_path).chunks.read(name)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float16, torch.float32, torch.float64, torch.int64, torch.bool])
def test_what_stands_on_disk_has_the_fingerprint_of_the_examples(kind: torch.dtype, tmp_path: Path) -> None:
    rows = torch.randint(0, 2, (5000, 2, 3), generator=torch.Generator().manual_seed(0)).to(kind)
    examples = Examples(rows, torch.arange(5000) % 7)
    directory, _ = stored(tmp_path, examples)
    directory.chunks.check(examples.fingerprint)  # computed by numpy from the files, not by torch from the tensors
    again = directory.chunks.open(examples.fingerprint)
    assert Examples(again.inputs, again.labels).fingerprint == examples.fingerprint


@pytest.mark.parametrize("lost", ["inputs.npy", "labels.npy", "row_digests.npy"])
def test_a_half_chunk_that_nothing_names_is_named_by_verify_and_written_anew(lost: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunDirectory(path) as directory:
        begin(directory)
        other = Examples(CHUNK.inputs + 1, CHUNK.labels)
        directory.chunks.store(other)
        directory.undo.clear()  # as if the process had died here
    folder = path / "chunks" / other.fingerprint
    whole = (folder / lost).read_bytes()
    assert list(verify(path)) == []
    for content in (b"", whole[:-1]):
        (folder / lost).write_bytes(content)
        assert [str(folder) in complaint for complaint in verify(path)] == [True]
    with RunDirectory(path) as directory:
        assert torch.equal(directory.chunks.store(other).inputs, other.inputs)
        directory.undo.clear()
    assert (folder / lost).read_bytes() == whole
    assert list(verify(path)) == []


def test_a_damaged_chunk_that_is_committed_is_never_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunDirectory(path) as directory:
        begin(directory)
        directory.undo.clear()
    damaged = path / "chunks" / CHUNK.fingerprint / "inputs.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    before = damaged.read_bytes()
    with RunDirectory(path) as directory, pytest.raises(InputError, match="cannot read the stored chunk"):
        directory.chunks.store(CHUNK)
    assert damaged.read_bytes() == before


def test_digests_of_rows_stand_beside_a_chunk_and_are_written_where_they_are_missing(tmp_path: Path) -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]).repeat(2000, 1)
    directory, folder = stored(tmp_path, Examples(rows, torch.zeros(6000, dtype=torch.int64)))
    digests = directory.chunks.row_digests(folder.name)
    assert len(digests) == 6000
    assert len(np.unique(digests)) == 2
    assert (digests[0::3] == digests[2::3]).all()
    assert np.array_equal(digests, digest_rows(rows.numpy()))
    whole = (folder / "row_digests.npy").read_bytes()
    (folder / "row_digests.npy").unlink()  # as an earlier version of lure left it
    assert np.array_equal(directory.chunks.row_digests(folder.name), digests)
    assert (folder / "row_digests.npy").read_bytes() == whole
    directory.chunks.check_row_digests(folder.name)
    for damaged in (whole[:-1] + b"\x07", whole[:-8], b"", whole + b"more"):
        (folder / "row_digests.npy").write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{folder}"):
            directory.chunks.check_row_digests(folder.name)


# One process at a time, and nothing left behind


def test_a_directory_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with RunDirectory(tmp_path):
        with (
            pytest.raises(InputError, match="is in use by another process that is still running"),
            RunDirectory(tmp_path),
        ):
            pass
        assert list(RunDirectory(tmp_path).ledger.events) == []  # reading needs no lock
    with RunDirectory(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file/run", "file"])
def test_a_place_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with (
        pytest.raises(InputError, match=r"cannot create .*file/run: |file is a file: give a directory"),
        RunDirectory(tmp_path / name) as directory,
    ):
        directory.create()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def begin(directory: RunDirectory) -> None:
    directory.create()
    holdout = directory.chunks.store(CHUNK).fingerprint
    directory.begin(
        "epochs = 1\n",
        Agreement(
            holdout=holdout,
            independent=None,
            class_names=[],
            columns=[],
            normalization=None,
            gate={},
            recipe={"epochs": 1},
        ),
    )


def steps_of(directory: RunDirectory) -> list[Callable[[], Any]]:
    return [
        lambda: begin(directory),
        lambda: directory.store_initial({"w": torch.zeros(3)}),
        lambda: directory.progress.save({"w": torch.zeros(3)}, {"stage": 1, "epoch": 2}),
    ]


def trained() -> tuple[Stage, VersionFiles]:
    """Return a first stage, and the files of its version."""
    kinds = {field.name: field.type for field in dataclasses.fields(Stage)}
    optional = {name for name, kind in kinds.items() if type(None) in get_args(kind)}
    fields = {name: None if name in optional else (get_origin(kind) or kind)() for name, kind in kinds.items()}
    record = Stage(**fields | {"stage": 1, "parent": 0, "accepted": True, "taken_in": [1], "files": {}})
    return record, VersionFiles(model={"w": torch.ones(3)}, state={}, task={}, replay={})


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_bad_input_takes_back_what_was_written(count: int, existed: bool, tmp_path: Path) -> None:
    path = tmp_path / "above" / "run"
    if existed:
        path.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="bad"):
        write_then_fail(path, count)
    assert sorted(tmp_path.rglob("*")) == before


def write_then_fail(path: Path, count: int, commit: bool = False) -> None:
    with RunDirectory(path) as directory:
        for step in steps_of(directory)[:count]:
            step()
        assert (path / "recipe.toml").exists()
        if commit:
            directory.commit(*trained())
        raise InputError("bad")


def test_what_is_committed_stays_whatever_comes(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(InputError, match="bad"):
        write_then_fail(path, 3, commit=True)
    names = {".lock", "chunks", "initial.safetensors", LEDGER, SEAL, "production.json", "recipe.toml", "versions"}
    assert {item.name for item in path.iterdir()} == names
    directory = RunDirectory(path)
    files = directory.versions.read(directory.stages[0])
    assert torch.equal(files.model["w"], torch.ones(3))
    assert (files.state, files.task, files.replay) == ({}, {}, {})
    assert directory.recipe_text() == "epochs = 1\n"


def test_the_leftover_of_an_interrupted_commit_is_replaced(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        for step in steps_of(directory):
            step()
        write_folder(directory.path / "versions" / "0001", {"model.safetensors": b"other", "more": b"1"})
        directory.commit(*trained())
    files = sorted(path.name for path in (tmp_path / "run" / "versions" / "0001").iterdir())
    assert files == ["model.safetensors", "state.json", "state.safetensors"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        for step in steps_of(directory):
            step()
        record, tensors = (tmp_path / "run" / "progress" / name for name in ("progress.json", "0001-00002.safetensors"))
        assert directory.progress.read() is not None
        for file in (tensors, record):
            whole = file.read_bytes()
            for damaged in (whole[:-3], whole[:9], b"", whole.replace(b"w", b"v", 1).replace(b"2", b"3", 1)):
                file.write_bytes(damaged)
                with pytest.raises(InputError, match=f"{file} is damaged: remove the folder"):
                    directory.progress.read()
            file.write_bytes(whole)


def test_a_folder_that_another_process_makes_at_the_same_time_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def is_dir_and_then_made(path: Path) -> bool:
        there = is_dir(path)
        if not there:
            os.mkdir(path)  # the other process, right after this one has looked
        return there

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", is_dir_and_then_made)
        make_folder(tmp_path / "policy")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_equal_tensors_are_equal_files() -> None:
    tensors = {"b": torch.ones(2, 3).T, "a": torch.zeros(1)}
    swapped = {"a": torch.zeros(1), "b": torch.ones(3, 2)}
    assert tensors_to_bytes(tensors) == tensors_to_bytes(swapped)


def test_a_checkpoint_that_is_removed_halfway_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunDirectory(tmp_path / "run") as directory:
        for step in steps_of(directory):
            step()
        monkeypatch.setattr(shutil, "rmtree", lambda *_: None)  # the process dies before the folder goes
        directory.progress.clear()
        assert directory.progress.read() is None
