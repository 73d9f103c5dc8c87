"""A model that is kept current, in a terminal: the answer, a row for each version, and what waits or was refused."""

from rich.table import Table

from lure.report.console import empty_table
from lure.report.kept import KeptModel, answer, chunk_name, day, flips, prequential_accuracy, reasons, waits
from lure.words import MISSING, percent

SHOWN = 3  # so many refusals are explained here; the page and `lure status` explain all


def kept_table(model: KeptModel) -> Table:
    """Return the table of versions, oldest first; readable at 80 columns."""
    tested = any(stage.independent for stage in model.run.stages)
    table = empty_table()
    table.title = (
        f"{model.run.directory.resolve().name}: {model.run.recipe.get('model', 'a network')}, {model.run.policy}"
    )
    table.add_column("version", overflow="fold")
    table.add_column("chunk and\nits day", overflow="fold")
    headings = [
        "on\narrival\n%",
        "holdout\n%",
        *(["test\nset\n%"] if tested else []),
        "lost",
        "won",
        "seconds",
    ]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in model.run.stages:
        lost_won = flips(stage)
        cells = [
            f"{stage.version}, {model.word_for(stage.version)}",
            f"{chunk_name(stage)}\n{day(stage)}",
            percent(prequential_accuracy(stage)),
            percent(stage.accuracy),
            *([percent((stage.independent or {}).get("accuracy"))] if tested else []),
            *(map(str, lost_won) if lost_won else [MISSING, MISSING]),
            f"{stage.train_seconds + stage.unlearn_seconds:.1f}",
        ]
        table.add_row(*cells, style="bold" if stage.version == model.standing.current else None)
    table.caption = (
        "On arrival: accuracy on the chunk, before training, of the version in use then. Lost: negative flips, holdout "
        "examples that it had right and the new version has wrong; won: the reverse."
    )
    return table


def kept_lines(model: KeptModel) -> tuple[str, list[str]]:
    """Return the answer, which comes before the table, and the lines below: what waits, and the last refusals."""
    below = waits(model)
    refusals = [(stage, why) for stage, why, _ in reasons(model) if why]
    for stage, why in reversed(refusals[:SHOWN]):
        below += [f"Version {stage.version} ({chunk_name(stage)}) was refused: {reason}" for reason in why]
    return answer(model), below
