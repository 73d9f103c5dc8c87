"""One self-contained HTML page on a set of runs: no network, no script, readable on a phone and on paper.

A model that is kept current has a part of its own; policies are compared where there are several. The values are
gathered in Python, and the templates beside it lay them out and escape every one of them. The numbers are those of
`page_data`. What was not measured has no section.
"""

from collections.abc import Iterable
from pathlib import Path

from lure.report.comparison import group_runs
from lure.report.kept import read_kept
from lure.report.page_comparison import TERMS as COMPARISON_TERMS
from lure.report.page_comparison import comparison_values
from lure.report.page_kept import TERMS as KEPT_TERMS
from lure.report.page_kept import kept_values
from lure.report.page_parts import write_template
from lure.report.records import RunRecord


def write_page(runs: Iterable[RunRecord], file: Path | str) -> None:
    """Write the report on some runs as one HTML file.

    Args:
        runs: what `read_runs` returns.
        file: where to write.

    Raises:
        InputError: if there is no run, two runs of one recipe and seed saw different data, or the file cannot be
            written.
    """
    runs = list(runs)
    groups = group_runs(runs)
    models = [model for run in runs if (model := read_kept(run))]
    kept = {id(model.run) for model in models}
    compared = [group for group in groups if len(group.policies) > 1 or not {id(run) for run in group.runs} <= kept]
    values = {
        "title": f"{models[0].run.directory.resolve().name}: a model that is kept current"
        if len(models) == 1 and not compared
        else "Policies compared"
        if compared and not models
        else "What the updates did",
        "models": [kept_values(model) for model in models],
        "comparison": comparison_values(compared) if compared else None,
        "terms": (KEPT_TERMS if models else {}) | (COMPARISON_TERMS if compared else {}),
    }
    write_template("page.html.jinja", file, values)
