"""What `lure init` fixed for a model that is kept current: `production.json`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lure.errors import InputError
from lure.store.durable import parsing, seal, unseal


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What every update must agree with.

    Attributes:
        holdout: fingerprint of the stored examples that decide on every version.
        independent: of those that are measured on, too, and decide nothing; None where there are none.
        class_names: the classes in the order of their labels.
        columns: the features in their order, where the data are a table.
        column_kinds: what each of them holds, such as "numbers"; [] where that was not recorded.
        table: what becomes of each column, where the data are a table; lure 0.1.0 did not record it.
        normalization: (mean, std) per channel or feature; None where the first chunk decides.
        gate: the fields of the gate.
        recipe: the fields of the recipe.
    """

    holdout: str
    independent: str | None
    class_names: list[str]
    columns: list[str]
    normalization: list[list[float]] | None
    gate: dict[str, Any]
    recipe: dict[str, Any]
    column_kinds: list[str] = dataclasses.field(default_factory=list)
    table: dict[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """Return the content of `production.json`, its checksum included."""
        return seal(dataclasses.asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            InputError: naming `path`, if it is damaged.
        """
        record = unseal(data)
        if record is None:
            raise InputError(f"{path} is damaged: restore it from a backup")
        with parsing(path):
            known = [field.name for field in dataclasses.fields(cls)]
            # A file from before a field was added lacks it, and has its default.
            return cls(**{name: value for name, value in record.items() if name in known})
