"""The result of an evaluation, as tables for a terminal."""

from typing import Any

from rich.table import Table

from lure.words import MISSING, percent

CALIBRATION = {
    "negative_log_likelihood": "negative log-likelihood",
    "brier_score": "Brier score",
    "expected_calibration_error": "ECE %",
    "expected_calibration_error_equal_mass": "ECE %, bins of equal mass",
}


def evaluation_tables(result: dict[str, Any], reliability: bool = False) -> list[tuple[str, Table]]:
    """Return (title, table) pairs: the whole set, each class, the change since the last version, corruptions, attacks.

    Args:
        result: what `lure.metrics.evaluate` or `lure.experiment.evaluate.evaluate_version` returned.
        reliability: a table of the reliability diagram, too.
    """
    tables = [_summary(result), _classes(result)]
    if "change" in result:
        tables += _change(result)
    if reliability:
        tables.append(_reliability(result))
    if "corruptions" in result:
        tables.append(_corruptions(result["corruptions"]))
    tables += [_attack(values) for norms in result.get("adversarial", {}).values() for values in norms.values()]
    return tables


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(columns[0])
    for name in columns[1:]:
        table.add_column(name, justify="right")
    return table


def _number(key: str, value: float) -> str:
    return percent(value, 2) if "calibration_error" in key else f"{value:.4f}"


def _name(row: dict[str, Any]) -> str:
    return str(row.get("name", row["label"]))


def _summary(result: dict[str, Any]) -> tuple[str, Table]:
    scaled = result.get("temperature_scaling")
    heading = [f"temperature {scaled['temperature']:.2f}"] if scaled else []
    table = _table("measure", "value", *heading)
    for key, name in (("accuracy", "accuracy %"), ("class_balanced_accuracy", "class-balanced accuracy %")):
        table.add_row(name, percent(result[key], 2))
    for key, name in CALIBRATION.items():
        table.add_row(name, _number(key, result[key]), *([_number(key, scaled[key])] if scaled else []))
    title = (f"version {result['version']}, " if "version" in result else "") + f"{result['examples']} examples"
    if scaled:
        title += f"; the temperature is fitted on {scaled['validation_examples']} validation examples"
        if "undetermined" in scaled:
            title += f", which do not determine it ({scaled['undetermined']}): 1 leaves the confidence as it is"
    return title, table


def _classes(result: dict[str, Any]) -> tuple[str, Table]:
    table = _table("class", "examples", "accuracy %", "precision %")
    for row in result["per_class"]:
        shares = (percent(row.get(key)) for key in ("accuracy", "precision"))
        table.add_row(_name(row), str(row["examples"]), *shares)
    return "by class", table


def _change(result: dict[str, Any]) -> list[tuple[str, Table]]:
    """Return what changed since the version before: which answers, and how far each tensor moved."""
    change = result["change"]
    test, before = change["paired_test"], change["from_version"]
    title = (
        f"answers since version {before}: {test['only_first_right']} became right, {test['only_second_right']} became "
        f"wrong (exact McNemar test, p = {test['p_value']:.2g})"
    )
    answers = _table("class", "became right", "became wrong", "another answer")
    for named, row in zip(result["per_class"], change["per_class"], strict=True):
        counts = (row[key] for key in ("became_right", "became_wrong", "changed_answer"))
        answers.add_row(_name(named), *map(str, counts))
    moved = _table("tensor", "entries", "changed %", "relative distance", "cosine")
    for row in change["weights"]:
        numbers = (MISSING if row[key] is None else f"{row[key]:.3f}" for key in ("relative_distance", "cosine"))
        moved.add_row(row["name"], str(row["entries"]), percent(row["changed_fraction"]), *numbers)
    return [(title, answers), (f"weights since version {before}", moved)]


def _reliability(result: dict[str, Any]) -> tuple[str, Table]:
    table = _table("confidence from", "to", "examples", "mean confidence %", "accuracy %")
    for row in result["reliability"]:
        shares = (percent(row.get(key)) for key in ("confidence", "accuracy"))
        table.add_row(f"{row['low']:.3f}", f"{row['high']:.3f}", str(row["examples"]), *shares)
    return "reliability", table


def _corruptions(corruptions: dict[str, Any]) -> tuple[str, Table]:
    title = (
        f"corruptions, {corruptions['examples']} examples: mean accuracy "
        f"{percent(corruptions['mean_corruption_accuracy'])} % (clean {percent(corruptions['clean_accuracy'])} %)"
    )
    table = _table("kind", "mean %", *(f"severity {s}" for s in range(1, 6)))
    for kind, values in corruptions["kinds"].items():
        name = f"{kind} (synthetic)" if values["synthetic"] else kind
        by_severity = {row["severity"]: percent(row["accuracy"]) for row in values["severities"]}
        table.add_row(name, percent(values["mean_accuracy"]), *(by_severity.get(s, MISSING) for s in range(1, 6)))
    return title, table


def _attack(values: dict[str, Any]) -> tuple[str, Table]:
    table = _table("epsilon", "accuracy %")
    for point in values["curve"]:
        table.add_row(f"{point['epsilon']:.4f}", percent(point["accuracy"]))
    title = f"{values['attack']} in {values['norm']}, {values['examples']} examples"
    return title + (f" (warning: {values['warning']})" if values["warning"] else ""), table
