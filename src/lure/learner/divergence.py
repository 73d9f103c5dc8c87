"""Why a loss stopped being finite: the column of the new data that lies furthest out, named in the error."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lure.data.examples import Examples
from lure.errors import InputError
from lure.learner.task import Task, name_column
from lure.training.fit import Diverged

FAR_OUT = 100.0  # standard deviations; nothing that is measured lies there, so the data are blamed before the rate


@contextmanager
def blaming_data(examples: Examples, task: Task | None) -> Iterator[None]:
    """Run a block; if the loss or the outputs in it stop being finite, say which column of the data is furthest out.

    Args:
        examples: the new mega-batch.
        task: holds the mean and spread that inputs are standardised with.

    Raises:
        InputError: in place of `Diverged`.
    """
    try:
        yield
    except Diverged as error:
        found = None if task is None else furthest_out(examples, task)
        if task is None or found is None:
            raise
        column, example, distance = found
        name = name_column(column, task.input_shape, task.input_names)
        if distance > FAR_OUT:
            raise InputError(
                f"{error.found}: {name} is {distance:.3g} standard deviations from its mean at example {example} of "
                f"the new data (mean and spread were fixed when the directory was begun): correct or scale it, or "
                f"begin a directory with a holdout that shows such values"
            ) from error
        raise InputError(
            f"{error}; furthest out is {name}, {distance:.3g} standard deviations from its mean at example {example}"
        ) from error


def furthest_out(examples: Examples, task: Task) -> tuple[int, int, float] | None:
    """Return channel or feature, example, and the largest standardised value; None for inputs that have no statistics.

    Example:
        >>> task = Task(num_classes=2, input_shape=(2,), input_dtype="float32", class_names=(), mean=(0, 0), std=(1, 2))
        >>> furthest_out(Examples(torch.tensor([[1.0, 0.0], [0.0, -6.0]]), torch.tensor([0, 1])), task)
        (1, 1, 3.0)
    """
    if not task.mean or not len(examples):
        return None
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (task.mean, task.std))
    scale = 255 if examples.input_dtype == torch.uint8 else 1
    best = 0, 0, -1.0
    for start in range(0, len(examples), 1024):
        values = examples[start : start + 1024].inputs.double().transpose(0, 1)
        distances = ((values.flatten(2) if values.dim() > 2 else values[..., None]) / scale - mean).div(std).abs()
        far = distances.amax(2)
        place = int(far.argmax())
        column, row = divmod(place, far.shape[1])
        if float(far[column, row]) > best[2]:
            best = column, start + row, float(far[column, row])
    return best
