"""Columns that name the chunk: the same in all of its rows, though they vary in the holdout, such as a week number."""

from collections.abc import Iterator

import torch

from lure.data.examples import Examples
from lure.data.sources.columns import TableForm

PIECE = 4096
WARNING_LEVEL = 0.01  # one false alarm in a hundred chunks for each column


def constant_columns(chunk: Examples, holdout: Examples, form: TableForm | None) -> Iterator[str]:
    """Yield a sentence for each column that is the same in a whole chunk and varies in the holdout.

    What is learnt from such a column may hold for one chunk only. Chance makes a column constant, too: n rows drawn
    from a holdout in which the values have the shares s are all the same with probability sum(s ** n). A column is
    named where that is below `WARNING_LEVEL`.

    Args:
        chunk: the new examples.
        holdout: what every version is measured on.
        form: what becomes of columns; None where the data are no table, and there is nothing to say.

    Example:
        >>> form = TableForm.of_names(["week", "size"])
        >>> week, holdout = torch.full((9,), 31.0), torch.arange(18.0).view(9, 2)
        >>> chunk = Examples(torch.stack([week, holdout[:, 1]], 1), torch.zeros(9, dtype=torch.int64))
        >>> next(constant_columns(chunk, Examples(holdout, chunk.labels), form))[:58]
        "column 'week' is 31 in all 9 examples, and has 9 values in"
    """
    if form is None:
        return
    ends = [(rows.amin(0), rows.amax(0)) for rows in _pieces(chunk)]
    lowest, highest = torch.stack([low for low, _ in ends]).amin(0), torch.stack([high for _, high in ends]).amax(0)
    first = 0
    for column in form.columns:
        inputs = slice(first, first + len(column.inputs))
        first = inputs.stop
        if not torch.equal(lowest[inputs], highest[inputs]):
            continue
        there = torch.cat([rows[:, inputs] for rows in _pieces(holdout)])
        counts = torch.unique(there, dim=0, return_counts=True)[1].double()
        if float((counts / len(there)).pow(len(chunk)).sum()) < WARNING_LEVEL:
            shown = column.shown(lowest[inputs].tolist())
            yield (
                f"column {column.name!r} is {shown} in all {len(chunk)} examples, and has {len(counts)} values in the "
                f"holdout: if it is so in every chunk, it names the chunk, and what is learnt from it does not hold "
                f"for the next; leave it out (lure init --ignore {column.name})"
            )


def _pieces(examples: Examples) -> Iterator[torch.Tensor]:
    for start in range(0, len(examples), PIECE):
        yield examples[start : start + PIECE].inputs
