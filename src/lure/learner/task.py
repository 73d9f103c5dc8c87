"""What a label is: the task that the first mega-batch fixes for ever, and the network built for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lure.data.examples import Examples, Split
from lure.data.sources.columns import TableForm
from lure.errors import InputError
from lure.models import build_model, ready_to_train
from lure.recipe import Recipe
from lure.words import dtype_name

CHECKED_ROWS = 4096
LARGEST_VALUE = 1.8e19  # its square is the largest that float32 holds


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the first mega-batch fixes for ever: classes, the shape of an input, and how inputs are normalised.

    `columns` names the features in their order, where the data are a table; else it is empty. `column_kinds` says what
    each of them holds; empty where that is not on record. `table` says what becomes of each (`TableForm.as_dict`); None
    where the data are no table, or in a version of lure 0.1.0.
    """

    num_classes: int
    input_shape: tuple[int, ...]
    input_dtype: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    columns: tuple[str, ...] = ()
    column_kinds: tuple[str, ...] = ()
    table: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task from the plain values of `as_dict`."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; without `table`, where there is none."""
        return {name: value for name, value in asdict(self).items() if name != "table" or value is not None}

    @property
    def form(self) -> TableForm | None:
        """What becomes of the columns of a table; None where the data are none."""
        return (
            TableForm.of_names(self.columns, self.column_kinds)
            if self.table is None
            else TableForm.from_dict(self.table)
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """What to call the inputs, where the data are a table; else empty."""
        form = self.form
        return () if form is None else form.inputs

    def check_augmentation(self, augment: str) -> None:
        """Raise if inputs that are not images are to be augmented like images.

        Raises:
            InputError: naming the recipe's field.
        """
        if augment != "none" and (len(self.input_shape) != 3 or self.input_dtype != "uint8"):
            raise InputError(f"augment = {augment} needs images (uint8, 3 dimensions): use augment = none")

    def check(self, examples: Examples) -> None:
        """Raise unless examples fit the task.

        Raises:
            InputError: for another shape or type of input, values that cannot be computed with, or a label that names
                no known class.
        """
        found = dtype_name(examples.input_dtype)
        if examples.input_shape != self.input_shape or found != self.input_dtype:
            raise InputError(
                f"the inputs are {found} of shape {examples.input_shape}, "
                f"but the model takes {self.input_dtype} of shape {self.input_shape}"
            )
        if len(examples) and int(examples.labels.max()) >= self.num_classes:
            known = ", ".join(self.class_names) or f"0 to {self.num_classes - 1}"
            raise InputError(f"label {int(examples.labels.max())} is not one of the known classes: {known}")
        check_values(examples, self.input_names)


def name_column(number: int, input_shape: Sequence[int], names: Sequence[str]) -> str:
    """Return what to call a channel or feature in a message, by its number from 0.

    Example:
        >>> name_column(0, (3, 8, 8), ()), name_column(1, (2,), ()), name_column(1, (2,), ("age", "income"))
        ('channel 0', 'feature 1', "column 'income'")
    """
    if number < len(names):
        return f"column {names[number]!r}"
    return f"{'channel' if len(input_shape) > 1 else 'feature'} {number}"


def check_values(examples: Examples, names: Sequence[str], place: str = "") -> None:
    """Raise unless all inputs are finite, and small enough that float32 holds their squares.

    Args:
        examples: any; integers are always good.
        names: of the inputs, where the data are a table.
        place: what holds the examples, for the message.

    Raises:
        InputError: naming the first example that is not, and its channel or feature.
    """
    if not examples.input_dtype.is_floating_point:
        return
    for start in range(0, len(examples), CHECKED_ROWS):
        values = examples[start : start + CHECKED_ROWS].inputs.flatten(2 if len(examples.input_shape) > 1 else 1)
        good = values.abs() <= LARGEST_VALUE  # NaN is not
        if not bool(good.all()):
            row, column = torch.nonzero(~good)[0, :2].tolist()
            raise InputError(
                f"{place and f'{place}: '}inputs hold NaN, infinity or a number too large for float32 to square "
                f"(above {LARGEST_VALUE:.2g}) at example {start + row}, "
                f"{name_column(column, examples.input_shape, names)}"
            )


def fix_task(
    split: Split,
    other_labels: Sequence[Tensor],
    class_names: Sequence[str],
    form: TableForm | None,
    normalization: tuple[Sequence[float], Sequence[float]] | None,
) -> Task:
    """Return the task that the first mega-batch fixes.

    Args:
        split: the first mega-batch.
        other_labels: labels of the test set, and of later mega-batches where they are known.
        class_names: the classes in the order of their labels; () counts them by the largest label.
        form: what becomes of columns, where the data are a table.
        normalization: (mean, std) per channel or feature; None takes those of the training examples.
    """
    labels = [values for values in (split.train.labels, split.validation.labels, *other_labels) if len(values)]
    mean, std = normalization if normalization is not None else channel_statistics(split.train)
    return Task(
        num_classes=len(class_names) or max(int(values.max()) for values in labels) + 1,
        input_shape=split.train.input_shape,
        input_dtype=dtype_name(split.train.input_dtype),
        class_names=tuple(class_names),
        mean=tuple(mean),
        std=tuple(std),
        columns=() if form is None else form.names,
        column_kinds=() if form is None else form.kinds,
        table=None if form is None else form.as_dict(),
    )


def build_network(recipe: Recipe, task: Task, builder: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Build a freshly initialised network from torch's global random state: the user's own, or the recipe's."""
    if builder is not None:
        return ready_to_train(builder(), recipe.model, task.input_shape)
    return build_model(recipe.model, task.num_classes, task.input_shape, task.mean or None, task.std or None)


def channel_statistics(examples: Examples) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel or feature; images count in [0, 1]; () for integers.

    A constant channel gets standard deviation 1; so does one that varies by less than float32 can tell.

    Example:
        >>> channel_statistics(Examples(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([0, 1])))
        ((2.0, 5.0), (1.0, 1.0))
    """
    dtype = examples.input_dtype
    if not (dtype.is_floating_point or dtype == torch.uint8):
        return (), ()
    channels = examples.input_shape[0]
    total, squares, count = torch.zeros(channels).double(), torch.zeros(channels).double(), 0
    for start in range(0, len(examples), 1024):
        values = examples[start : start + 1024].inputs.double().transpose(0, 1).reshape(channels, -1)
        total, squares, count = total + values.sum(1), squares + values.square().sum(1), count + values.shape[1]
    scale = 255 if dtype == torch.uint8 else 1
    mean, variance = total / count / scale, squares / count / scale**2 - (total / count / scale).square()
    std = variance.clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(std > (1e-7 * mean.abs()).clamp(min=1e-8), std, 1.0).tolist())
