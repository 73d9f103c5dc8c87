"""Tables in files: Parquet, one file or a folder of them, and copies that `save_to_disk` of `datasets` wrote.

The library `datasets` reads them, with tables that are mapped into memory. It is imported only when it is needed.
"""

import atexit
import functools
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lure.data.sources.column_kinds import differing_columns, kind_of
from lure.data.sources.dataset import tell
from lure.errors import InputError

# A Parquet file may hold FREE_VALUES values, or VALUES_PER_BYTE for each of its bytes, whichever is more.
FREE_VALUES, VALUES_PER_BYTE = 1 << 23, 1000
# The name of the folder for rows that have no value in the column by which a table is partitioned.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
# What pandas calls the index of a table where it has no name: in Parquet, in a CSV file that was read again, in CSV.
UNNAMED_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0|")


def import_datasets() -> Any:
    """Return the library `datasets`.

    Raises:
        InputError: if it is missing; says what to install.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("CSV, Parquet and Hugging Face data need datasets: pip install 'lure-torch[data]'") from error
    return datasets


@contextmanager
def reading_table(place: str) -> Iterator[Any]:
    """Run a block with `datasets`, without its progress bars and log; any error becomes an `InputError`."""
    datasets = import_datasets()
    bars, verbosity = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield datasets
    except InputError:
        raise
    except Exception as error:
        # If reading fails, `datasets` says only that it failed; the cause says why.
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise InputError(f"cannot read {place}: {reason}") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


@dataclass(frozen=True)
class Facts:
    """What a Parquet file says about itself.

    Attributes:
        rows: how many rows it claims to have.
        values: how many values.
        kinds: the kind of each column by its name, in order; see `column_kinds`.
        index: the columns that pandas wrote for the index of the table.
    """

    rows: int
    values: int
    kinds: dict[str, str]
    index: tuple[str, ...]


def open_parquet(path: Path, keep: Collection[str] = ()) -> Any:
    """Open a Parquet file, or all files of a folder in the order of their names, as a table mapped into memory.

    Folders inside that are named `column=value` add that column: it holds numbers if all values are whole numbers.
    The mapped table is an unpacked copy in a temporary folder, which is removed when the process ends. The columns of
    an index that pandas wrote are left out, with a warning: they number or name the rows.

    Args:
        path: a file, or a folder.
        keep: columns that stay, even if pandas says that they are its index.

    Raises:
        InputError: if a file is damaged, claims more rows than it has bytes or far more values, or has other columns
            or other kinds of columns than the first file, or if `datasets` is missing.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.parquet")) or partition_files(path)
    import_datasets()  # raises, with what to install, before files are opened
    total = 0
    first: Facts | None = None
    index: dict[str, None] = {}
    for file in files:
        found = file.stat()
        facts = _parquet_facts(file, found.st_size, found.st_mtime_ns)
        first = first or facts
        _require_same_columns(file, facts, files[0], first)
        if facts.rows > found.st_size:
            raise InputError(f"{file} claims {facts.rows} rows, more than it has bytes: refused")
        if facts.values > max(FREE_VALUES, VALUES_PER_BYTE * found.st_size):
            raise InputError(
                f"{file} would unpack to {facts.values} values, more than {VALUES_PER_BYTE} times its bytes: refused; "
                f"write it without dictionaries"
            )
        total += facts.rows
        index |= dict.fromkeys(facts.index)
    if total == 0:
        raise InputError(f"{path} holds no rows")
    with reading_table(str(path)) as datasets:
        pieces = []
        for partition, members in itertools.groupby(files, lambda file: _partition(file, path)):
            piece = datasets.Dataset.from_parquet([str(file) for file in members], cache_dir=_scratch_folder())
            for name, value in partition:
                piece = piece.add_column(name, [value] * len(piece))
            pieces.append(piece)
        table = pieces[0] if len(pieces) == 1 else datasets.concatenate_datasets(pieces)
    table = _with_whole_numbers(table, [name for name, _ in _partition(files[0], path)])
    return without_index(table, str(path), list(index), keep)


def partition_files(path: Path) -> list[Path]:
    """Return the Parquet files in a folder that is partitioned by columns: path/label=cat/part-0.parquet and so on."""
    return sorted(file for file in path.glob("*=*/**/*.parquet") if file.is_file())


def _partition(file: Path, root: Path) -> tuple[tuple[str, str | None], ...]:
    """Return the columns and their values that the folders between `root` and a file stand for."""
    columns = []
    for part in file.relative_to(root).parts[:-1]:
        name, sign, value = part.partition("=")
        if sign:
            columns.append((unquote(name), None if value == NO_VALUE else unquote(value)))
    return tuple(columns)


def _with_whole_numbers(table: Any, columns: Sequence[str]) -> Any:
    """Return a table in which columns of texts that are all whole numbers, as they would be written, are numbers."""
    for name in columns:
        values = table.unique(name)
        if all(value is not None and WHOLE.fullmatch(value) for value in values):
            table = table.cast_column(name, import_datasets().Value("int64"))
    return table


def _require_same_columns(file: Path, facts: Facts, first_file: Path, first: Facts) -> None:
    if differing := differing_columns(facts.kinds, first.kinds):
        raise InputError(
            f"{file} {differing}, compared with {first_file}: all files of a folder must have the same columns"
        )
    for name, kind in facts.kinds.items():
        if kind != first.kinds[name]:
            raise InputError(
                f"column {name!r} holds {kind} in {file}, and {first.kinds[name]} in {first_file}: "
                f"all files of a folder must have the same columns"
            )


def without_index(table: Any, place: str, index: Sequence[str], keep: Collection[str]) -> Any:
    """Return a table without the columns that are an index of pandas, except those to be kept; say so.

    Args:
        table: a `datasets.Dataset`.
        place: where it comes from, for the message.
        index: columns that pandas says are its index. Those whose names say it themselves are known.
        keep: columns that stay.
    """
    names = [name for name in table.column_names if name in index or UNNAMED_INDEX.fullmatch(name)]
    names = [name for name in names if name not in keep]
    if not names:
        return table
    shown = ", ".join(map(repr, names))
    tell(f"{place}: left out {shown}, which pandas wrote as the index of the table: no feature, but a name for rows")
    return table.remove_columns(names)


# Run in a separate process: a damaged file can make pyarrow crash the process that inspects it.
LOOK_AT_PARQUET = """
import json, sys
from pyarrow import parquet
metadata = parquet.read_metadata(sys.argv[1])
groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
if any(group.num_columns != metadata.num_columns for group in groups):
    raise ValueError("its row groups have other columns than its schema")
values = sum(group.column(number).num_values for group in groups for number in range(metadata.num_columns))
schema = metadata.schema.to_arrow_schema()
index = (schema.pandas_metadata or {}).get("index_columns", [])
index = [name for name in index if isinstance(name, str)]
print(json.dumps([metadata.num_rows, values, schema.remove_metadata().serialize().to_pybytes().hex(), index]))
"""


@functools.lru_cache(maxsize=64)
def _parquet_facts(file: Path, size: int, changed: int) -> Facts:
    """Return what a Parquet file claims to hold.

    Args:
        file: the file.
        size: its size in bytes; with `changed`, the key under which the answer is cached.
        changed: time of its last change, in nanoseconds.

    Raises:
        InputError: if the file is damaged.
    """
    import pyarrow

    looked = subprocess.run(
        [sys.executable, "-P", "-c", LOOK_AT_PARQUET, str(file)], capture_output=True, text=True, errors="replace"
    )
    if looked.returncode:
        said = looked.stderr.strip().splitlines() or ["it ends the process that reads it"]
        raise InputError(f"cannot read {file}: {said[-1].removeprefix('pyarrow.lib.')}")
    rows, values, schema, index = json.loads(looked.stdout)
    fields = pyarrow.ipc.read_schema(pyarrow.py_buffer(bytes.fromhex(schema)))
    return Facts(rows, values, {field.name: kind_of(field.type) for field in fields}, tuple(index))


@functools.cache
def _scratch_folder() -> str:
    """Return a folder that is removed when the process ends: unpacked tables must not pile up in the user's home."""
    folder = tempfile.mkdtemp(prefix="lure-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def open_saved(path: Path, keep: Collection[str] = ()) -> Any:
    """Open a table written by `save_to_disk`; the index of pandas is left out as by `open_parquet`.

    Raises:
        InputError: if it is damaged or holds several tables, or `datasets` is missing.
    """
    with reading_table(str(path)) as datasets:
        table = datasets.load_from_disk(str(path))
    if isinstance(table, dict):
        raise InputError(f"{path} holds the tables {', '.join(table)}: name the folder of one")
    return without_index(table, str(path), (), keep)
