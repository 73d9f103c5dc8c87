"""How the columns of a table become the inputs of a network: fixed when a model is begun, the same ever after.

Numbers and truth values are one input each. Where the first table lacked some of them, its mean stands in, and a second
input says that it does. A column of text is a category: one input for each of its levels, the texts that the first
table shows, and one for every other text and for none.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lure.data.sources.column_kinds import CATEGORIES, LISTS, NUMBERS, TEXT, TRUTH_VALUES
from lure.errors import some
from lure.words import count

MAX_LEVELS = 100  # a column with more texts holds names or notes, not categories


@dataclass(frozen=True, kw_only=True)
class Column:
    """One feature of a table.

    Attributes:
        name: of the column.
        kind: what it holds, as `column_kinds` says; "" where that is not on record.
        width: how many inputs its values are: more than 1 for lists only.
        mean: what stands in where there is no number; None where there must be one.
        levels: the texts that have an input of their own, in order; () where the column is no text.
    """

    name: str
    kind: str = ""
    width: int = 1
    mean: float | None = None
    levels: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """What to call each of its inputs.

        Example:
            >>> Column(name="age", mean=40.5).inputs, Column(name="colour", levels=("blue", "red")).inputs
            (('age', 'age is missing'), ('colour = blue', 'colour = red', 'colour is another'))
        """
        if self.levels:
            return (*(f"{self.name} = {level}" for level in self.levels), f"{self.name} is another")
        names = [self.name] if self.width == 1 else [f"{self.name}[{number}]" for number in range(self.width)]
        return (*names, f"{self.name} is missing") if self.mean is not None else tuple(names)

    def shown(self, values: Sequence[float]) -> str:
        """Return what stood in the table, from the values of the inputs, for messages.

        Example:
            >>> Column(name="age", mean=4.5).shown([4.5, 1.0]), Column(name="colour", levels=("red",)).shown([1.0, 0.0])
            ('missing', 'red')
        """
        if self.levels:
            return (*self.levels, "another")[list(values).index(1)]
        if self.mean is not None and values[-1]:
            return "missing"
        return ", ".join(f"{value:g}" for value in values[: self.width])


@dataclass(frozen=True, kw_only=True)
class TableForm:
    """What each column of a table is for.

    Attributes:
        columns: the features, in the order of the inputs; () where the inputs are images.
        label: the column of the labels; None where that is not on record.
        label_kind: what it holds, as `column_kinds` says.
        image: the column of the images, where one was named.
        id: the column that names the rows, and is no feature.
        ignore: columns that are left out.
    """

    columns: tuple[Column, ...] = ()
    label: str | None = None
    label_kind: str = ""
    image: str | None = None
    id: str | None = None
    ignore: tuple[str, ...] = ()

    @classmethod
    def of_names(cls, names: Sequence[str], kinds: Sequence[str] = ()) -> Self | None:
        """Return the form of a table of which only names and perhaps kinds of the features are known; None for none."""
        kinds = kinds or [""] * len(names)
        columns = tuple(Column(name=name, kind=kind) for name, kind in zip(names, kinds, strict=True))
        return cls(columns=columns) if columns else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the form from the plain values of `as_dict`.

        Raises:
            TypeError: if they are something else; so may ValueError and KeyError.
        """
        plain = {name: value for name, value in values.items() if name != "inputs"}
        columns = tuple(Column(**column | {"levels": tuple(column["levels"])}) for column in plain.pop("columns"))
        return cls(columns=columns, **plain | {"ignore": tuple(plain["ignore"])})

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; `inputs` says in words what each input of the network is, for other programs."""
        columns = [dataclasses.asdict(column) | {"levels": list(column.levels)} for column in self.columns]
        plain = dataclasses.asdict(self) | {"columns": columns, "ignore": list(self.ignore)}
        return plain | {"inputs": list(self.inputs)}

    @property
    def names(self) -> tuple[str, ...]:
        """The features by name, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each feature holds; () where that is not on record."""
        kinds = tuple(column.kind for column in self.columns)
        return kinds if all(kinds) else ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """What to call each input of the network, in order."""
        return tuple(name for column in self.columns for name in column.inputs)

    def describe(self) -> list[str]:
        r"""Return a line for each thing that becomes of columns, naming them.

        Example:
            >>> form = TableForm(
            ...     columns=(Column(name="age", kind="numbers"), Column(name="size", kind="text", levels=("L", "S"))),
            ...     label="bought",
            ...     ignore=("note",),
            ... )
            >>> print("\n".join(form.describe()))
            label: bought
            left out: note
            numbers: age
            text, an input for each of these and one for any other: size (L, S)
            4 inputs in all
        """
        lines = [f"label: {self.label}"]
        if self.id is not None:
            lines.append(f"id, carried through to predictions: {self.id}")
        if self.ignore:
            lines.append(f"left out: {some(self.ignore)}")
        if not self.columns:
            return lines
        told = {NUMBERS: "numbers", TRUTH_VALUES: "truth values, as 0 and 1", LISTS: "lists of numbers"}
        whole = [column for column in self.columns if column.mean is None]
        for kind, words in told.items():
            if names := [column.name for column in whole if column.kind == kind]:
                lines.append(f"{words}: {some(names)}")
        if names := [column.name for column in whole if column.kind.startswith(CATEGORIES)]:
            lines.append(f"declared categories, as their numbers: {some(names)}")
        if names := [f"{c.name} ({c.mean:.4g})" for c in self.columns if c.mean is not None]:
            lines.append(f"may be missing; then the mean, and an input that says so: {some(names)}")
        if names := [f"{c.name} ({some(c.levels)})" for c in self.columns if c.kind == TEXT]:
            lines.append(f"text, an input for each of these and one for any other: {some(names)}")
        return [*lines, f"{count(len(self.inputs), 'input')} in all"]
