"""Tables in CSV files: UTF-8, commas, quotes where they are needed, and a first line that names the columns.

pyarrow reads the cells as text. Where nobody says what a column holds, it holds numbers, times or truth values if all
its cells do, and text if not. A number that begins with a needless zero, such as "01234", is a code, and so text.
"""

import csv
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from lure.data.sources.column_kinds import NUMBERS, TEXT, TRUTH_VALUES
from lure.data.sources.parquet import import_datasets
from lure.errors import InputError
from lure.words import count

# What a cell of a column of numbers may hold in place of a number; an empty cell is missing everywhere.
NO_NUMBER = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None")
CODE = r"^[+-]?0\d"
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def open_csv(path: Path, kinds: Mapping[str, str], leave_out: Collection[str] = ()) -> Any:
    """Read a CSV file as a table of `datasets`, in memory. Spaces around a cell mean nothing.

    Args:
        path: the file.
        kinds: what some columns hold ("numbers", "truth values" or "text"), whatever their cells look like.
        leave_out: columns that are not wanted.

    Raises:
        InputError: naming file and line: for another encoding than UTF-8, another delimiter, a line with more or fewer
            cells than the first, two columns of one name, or a cell that is not what its column holds. Also if
            `datasets`, which brings pyarrow, is missing.
    """
    datasets = import_datasets()
    import pyarrow
    from pyarrow import compute
    from pyarrow import csv as arrow_csv

    _require_utf_8(path)
    raw_names = _require_header(path)
    nothing = pyarrow.scalar(None, pyarrow.string())
    try:
        cells = arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(raw_names, pyarrow.string())),
        )
    except pyarrow.ArrowInvalid as error:
        _require_equal_lines(path, len(raw_names))
        raise InputError(f"cannot read {path}: {error}") from error
    columns = {}
    for raw_name, column in zip(raw_names, cells.columns, strict=True):
        name = raw_name.strip()
        if name not in leave_out:
            texts = compute.utf8_trim_whitespace(column)
            texts = compute.if_else(compute.equal(texts, ""), nothing, texts)
            columns[name] = _typed(texts, kinds.get(name, ""), name, path)
    return datasets.Dataset(pyarrow.table(columns))


def line_of(path: Path, row: int) -> int:
    """Return the line in which a row of a CSV file begins, both from where people count them: line 1 is the header.

    Args:
        path: the file.
        row: from 0, as `open_csv` counts them.
    """
    return next(line for number, (line, _) in enumerate(_records(path)) if number == row + 1)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not an empty line, with the line in which it begins."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader, begins = csv.reader(file), 1
        while True:
            try:
                record = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{path}, line {begins}: {error}") from error
            if record is None:
                return
            if record:
                yield begins, record
            begins = reader.line_num + 1


def _require_utf_8(path: Path) -> None:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: the byte {line[error.start]:#04x} is not UTF-8: save the file as UTF-8"
                ) from error
            if "\0" in text:
                raise InputError(f"{path}, line {number}: a zero byte, so this is no text: save the file as UTF-8")


def _require_header(path: Path) -> list[str]:
    """Return the names in the first line, as they stand there."""
    records = _records(path)
    line, names = next(records, (1, []))
    if not names:
        raise InputError(f"{path} is empty: its first line should name the columns")
    for delimiter, word in OTHER_DELIMITERS.items():
        if len(names) == 1 and delimiter in names[0]:
            raise InputError(f"{path}, line {line}: {word} between the names: a CSV file should have commas")
    bare = [name.strip() for name in names]
    if twice := [name for name in bare if bare.count(name) > 1]:
        raise InputError(f"{path}, line {line}: several columns are named {twice[0]!r}")
    if next(records, None) is None:
        raise InputError(f"{path} holds no rows")
    return names


def _require_equal_lines(path: Path, expected: int) -> None:
    for line, record in _records(path):
        if len(record) != expected:
            cells, columns = count(len(record), "cell"), count(expected, "column")
            raise InputError(f"{path}, line {line}: {cells}, and the first line names {columns}")


def _typed(texts: Any, kind: str, name: str, path: Path) -> Any:
    """Return a column of texts as what it holds: the kind that is asked for, or else what fits all its cells."""
    import pyarrow
    from pyarrow import compute

    missing = compute.is_in(texts, value_set=pyarrow.array(NO_NUMBER))
    numbers = compute.if_else(missing, pyarrow.scalar(None, pyarrow.string()), texts)
    if kind == TEXT:
        return texts
    number_types, truth_types = (pyarrow.int64(), pyarrow.float64()), (pyarrow.bool_(),)
    wanted = {NUMBERS: number_types, TRUTH_VALUES: truth_types}.get(kind)
    if wanted is not None:
        found = _cast(numbers, *wanted)
        if found is None:
            row, text = next(
                (row, text)
                for row, text in enumerate(numbers.to_pylist())
                if _cast(pyarrow.chunked_array([[text]], pyarrow.string()), *wanted) is None
            )
            raise InputError(f"{path}, line {line_of(path, row)}: column {name!r} should hold {kind}, got {text!r}")
        return found
    if numbers.null_count == len(numbers):
        return pyarrow.nulls(len(numbers))
    if compute.any(compute.match_substring_regex(texts, CODE)).as_py():
        return texts
    # Written as 0 and 1, truth values are numbers.
    found = _cast(numbers, *number_types, pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC"), *truth_types)
    return texts if found is None else found


def _cast(texts: Any, *types: Any) -> Any:
    """Return texts as the first of some types that fits all of them; None if none does."""
    import pyarrow

    for each in types:
        try:
            return texts.cast(each)
        except pyarrow.ArrowInvalid:
            continue
    return None
