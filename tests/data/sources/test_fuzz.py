"""Random mutations of every file format: the result is data or a one-line error, never anything else."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import (
    pack,
    write_cifar10_binary,
    write_cifar10_python,
    write_cifar100_python,
    write_image,
    write_mnist,
)

from lure.data.examples import Examples
from lure.data.sources import load_dataset
from lure.data.sources.dataset import Hints
from lure.data.sources.files import load_examples, read_form
from lure.errors import InputError
from lure.recipe import load_experiment

pytestmark = pytest.mark.filterwarnings("ignore:.*left out")  # a mutated header may leave a column without a name


def mutate(content: bytes, generator: random.Random) -> bytes:
    """Return the content with a few random errors: changed bits and bytes, pieces removed, repeated or replaced."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 5))):
        at = generator.randrange(len(data) + 1)
        # Headers are at the beginning and, in archives, at the end: errors there do the most harm.
        at = generator.choice((at, min(at, generator.randrange(200)), max(0, len(data) - generator.randrange(1, 200))))
        length = generator.choice((1, 4, 8, 50))
        kind = generator.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            data[at : at + length] = generator.randbytes(length)
        elif kind == 2:
            del data[at : at + generator.choice((1, length, len(data)))]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = generator.choice((b"\xff", b"\x00", b"9", b"\x7f")) * length
    return bytes(data)


def read_all(examples: Examples) -> None:
    assert len(examples.labels) == len(examples)
    assert len(examples[:5000].inputs) == min(5000, len(examples))
    assert examples.fingerprint


def npz(folder: Path, compressed: bool) -> Path:
    writer = np.savez_compressed if compressed else np.savez
    writer(folder / "data.npz", inputs=np.arange(96, dtype=np.uint8).reshape(6, 4, 4), labels=np.arange(6) % 3)
    return folder / "data.npz"


def floats(folder: Path) -> Path:
    np.savez(folder / "table.npz", inputs=np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 4), labels=np.arange(10))
    return folder / "table.npz"


def parquet(folder: Path) -> Path:
    pytest.importorskip("datasets")
    from pyarrow import parquet, table  # from an extra, so not imported at the top

    columns = {
        "width": np.linspace(0, 1, 40),
        "height": np.arange(40),
        "label": [["cat", "dog"][i % 2] for i in range(40)],
    }
    parquet.write_table(table(columns), folder / "table.parquet")
    return folder / "table.parquet"


def table_of_text(folder: Path) -> Path:
    pytest.importorskip("datasets")
    rows = [f"{i},{i / 7:.3f},{['red', '', 'blue'][i % 3]},{['', i][i % 2]},{['cat', 'dog'][i % 2]}" for i in range(40)]
    (folder / "table.csv").write_text("\n".join(["key,width,colour,age,label", *rows]))
    return folder / "table.csv"


def read_table_of_text(path: Path) -> None:
    hints = Hints(id="key")
    read_all(load_examples(path, form=read_form(path, hints), hints=hints))


def image(folder: Path, ending: str) -> Path:
    write_image(folder / "images" / "dog" / "a.png", 1)
    return write_image(folder / "images" / "cat" / f"b.{ending}", 0)


def recipe(folder: Path) -> Path:
    (folder / "plan.toml").write_text(
        'model = "mlp:width=8"\nunlearner = "dash:alpha=0.1"\nreplay = "buffer:capacity=9"\nmilestones = [1, 2]\n'
        'epochs = 3\nlr = 0.5\nimbalance = [9, 2, 1.5]\norder = "iid"\ncompile = false\n'
    )
    return folder / "plan.toml"


def named(name: str, write: Callable[[Path], Path], file: str) -> tuple[Callable[[Path], Path], Callable[[Path], None]]:
    def make(folder: Path) -> Path:
        place = write(folder)
        return place if not file else place / file

    def read(path: Path) -> None:
        dataset = load_dataset(name, path if not file else path.parent)
        read_all(dataset.train)
        read_all(dataset.test)

    return make, read


# For each format, how to write a small file and how to read it.
FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None]]] = {
    "npz": (lambda folder: npz(folder, False), lambda path: read_all(load_examples(path))),
    "npz compressed": (lambda folder: npz(folder, True), lambda path: read_all(load_examples(path))),
    "npz of floats": (floats, lambda path: read_all(load_examples(path))),
    "parquet": (parquet, lambda path: read_all(load_examples(path))),
    "csv": (table_of_text, read_table_of_text),
    "png": (lambda folder: image(folder, "png"), lambda path: read_all(load_examples(path.parent.parent))),
    "jpeg": (lambda folder: image(folder, "jpg"), lambda path: read_all(load_examples(path.parent.parent))),
    "gif": (lambda folder: image(folder, "gif"), lambda path: read_all(load_examples(path.parent.parent))),
    "tiff": (lambda folder: image(folder, "tiff"), lambda path: read_all(load_examples(path.parent.parent))),
    "idx": named("mnist", lambda folder: write_mnist(folder / "mnist", compress=False), "t10k-images-idx3-ubyte"),
    "idx.gz": named("mnist", lambda folder: write_mnist(folder / "mnist"), "train-labels-idx1-ubyte.gz"),
    "cifar binary": named("cifar10", write_cifar10_binary, "data_batch_3.bin"),
    "cifar python": named("cifar10", write_cifar10_python, "data_batch_2"),
    "cifar100 python": named("cifar100", write_cifar100_python, "train"),
    "cifar archive": named("cifar10", lambda folder: pack(write_cifar10_binary(folder, 2), folder / "c.tar.gz"), ""),
    "recipe": (recipe, lambda path: load_experiment(str(path)) and None),
}


# A round of these costs as much as hundreds of others, because a separate process inspects the file first.
FEWER_ROUNDS = {"parquet": 6}


def attack(kind: str, folder: Path, rounds: int, seed: int) -> int:
    make, read = FORMATS[kind]
    path = make(folder)
    read(path)
    whole, messages = path.read_bytes(), []
    generator = random.Random(f"{kind} {seed}")
    for number in range(rounds):
        mutant = mutate(whole, generator)
        path.write_bytes(mutant)
        try:
            read(path)
        except InputError as error:
            messages.append(str(error))
        except Exception as error:
            kept = Path(folder, "mutant")
            kept.write_bytes(mutant)
            raise AssertionError(f"round {number}: {type(error).__name__}: {error}; the file is {kept}") from error
    assert [message for message in messages if "\n" in message] == []
    return len(messages)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mutated_file_is_data_or_a_one_line_error(kind: str, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path.parent))
    folder = tmp_path / "inside"
    folder.mkdir()
    state = torch.get_rng_state()
    rounds = 60 // FEWER_ROUNDS.get(kind, 1)
    assert attack(kind, folder, rounds, seed=0) > rounds / 12
    assert sorted(os.listdir(tmp_path.parent)) == before
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_many_mutated_files_are_data_or_a_one_line_error(kind: str, tmp_path: Path) -> None:
    for seed in range(1, 6):
        shutil.rmtree(tmp_path / "inside", ignore_errors=True)
        (tmp_path / "inside").mkdir()
        rounds = 400 // FEWER_ROUNDS.get(kind, 1)
        assert attack(kind, tmp_path / "inside", rounds, seed) > rounds / 10
