"""What a label is: the task that the first mega-batch fixes, to which classes may be added, and the network for it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from lure.data.examples import Examples, Split
from lure.data.sources.columns import TableForm
from lure.errors import InputError
from lure.models import build_model, counts_classes, ready_to_train, takes_num_classes
from lure.recipe import Recipe
from lure.weights.grown_layers import compute_in_blocks_
from lure.weights.growth import grow_head_
from lure.words import dtype_name

CHECKED_ROWS = 4096
LARGEST_VALUE = 1.8e19  # its square is the largest that float32 holds


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the first mega-batch fixes: classes, the shape of an input, and how inputs are normalised.

    Only classes may be added later. `columns` names the features in their order, where the data are a table; else it is
    empty. `column_kinds` says what each of them holds; empty where that is not on record. `grown` says of each layer
    that grew how many outputs it had at first, and how many came each time. `table` says what becomes of each column
    (`TableForm.as_dict`); None where the data are no table, or in a version of lure 0.1.0.
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
    grown: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; `grown` and `table` are left out where there are none, as lure 0.1.0 wrote them."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value or name not in ("grown", "table")}

    def names(self, labels: Iterable[int]) -> list[str]:
        """Return the names of classes; their numbers, where they have none."""
        return [self.class_names[label] if self.class_names else str(label) for label in labels]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task from the plain values of `as_dict`."""
        plain: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**plain)

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
            InputError: as `check_inputs`, or for a label that names no known class.
        """
        self.check_inputs(examples)
        if len(examples) and (label := int(examples.labels.max())) >= self.num_classes:
            known = ", ".join(self.class_names) or f"0 to {self.num_classes - 1}"
            raise InputError(
                f"label {label} is not one of the known classes: {known}; if it is a new class, let the head grow "
                f"(--new-classes grow)"
            )

    def check_inputs(self, examples: Examples) -> None:
        """Raise unless inputs fit the task, whatever their labels are.

        Raises:
            InputError: for another shape or type of input, or values that cannot be computed with.
        """
        found = dtype_name(examples.input_dtype)
        if examples.input_shape != self.input_shape or found != self.input_dtype:
            raise InputError(
                f"the inputs are {found} of shape {examples.input_shape}, "
                f"but the model takes {self.input_dtype} of shape {self.input_shape}"
            )
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


def build_network(recipe: Recipe, task: Task, builder: Callable[..., nn.Module] | None = None) -> nn.Module:
    """Build a freshly initialised network from torch's global random state: the user's own, or the recipe's.

    A user's builder that takes `num_classes` is told their number if it must be, or once the head has grown; the head
    of what another one builds grows here.
    """
    takes = _takes_classes(recipe, builder)
    if builder is None:
        model = build_model(recipe.model, task.num_classes, task.input_shape, task.mean or None, task.std or None)
    else:
        told = takes and (bool(task.grown) or takes_num_classes(builder, without_default=True))
        build = partial(builder, num_classes=task.num_classes) if told else builder
        model = ready_to_train(build(), recipe.model, task.input_shape)
    for name, blocks in task.grown.items():
        if not takes:
            grow_head_(model, task.num_classes, head=name)
        compute_in_blocks_(model.get_submodule(name), *blocks)
    return model


def builder_by_classes(
    recipe: Recipe, task: Task, builder: Callable[..., nn.Module] | None = None
) -> Callable[..., nn.Module] | None:
    """Return what builds the network for a number of classes; None where it is always built for the same."""
    if not _takes_classes(recipe, builder):
        return None

    def build(num_classes: int) -> nn.Module:
        if builder is None:
            return build_network(recipe, dataclasses.replace(task, num_classes=num_classes, grown={}))
        return ready_to_train(builder(num_classes=num_classes), recipe.model, task.input_shape)

    return build


def _takes_classes(recipe: Recipe, builder: Callable[..., nn.Module] | None) -> bool:
    return takes_num_classes(builder) if builder is not None else counts_classes(recipe.model)


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
