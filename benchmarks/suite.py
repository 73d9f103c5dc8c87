"""The suite that judges: which policy, at which budget, on data like mine. Protocol version 1; docs/suite.md explains.

    python benchmarks/suite.py choose --data DIR     # the same small search for every rival, on settings of its own
    python benchmarks/suite.py judge --data DIR      # what was chosen, on the eight settings that judge
    python benchmarks/suite.py ablate --data DIR     # LURE taken apart, on two of them
    python benchmarks/suite.py page                  # docs/suite.md and a page, from the ledgers alone

DIR holds cifar-10-batches-bin, fashion-mnist and mnist. Each command goes on where it was interrupted, and with the
other runs where one fails; it then lists the failures and ends with exit code 1. `chosen` prints what a search found.
Add --settings, --policies, --seeds or --budgets for a part. Weights are removed as soon as a run is done.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from suite_page import search_text, write_document
from suite_protocol import PARTS

from lure.errors import InputError
from lure.recipe import Policy, load_experiment
from lure.settings import split_choice

DOCUMENT = Path(__file__).parents[1] / "docs" / "suite.md"
FOLDERS = {"cifar10": "cifar-10-batches-bin", "fashion-mnist": "fashion-mnist", "mnist": "mnist"}


def main(words: Sequence[str] | None = None) -> int:
    """Do one part of the suite; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=(*PARTS, "chosen", "page"))
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder that holds the official layouts")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("results/suite"), help="(default %(default)s)")
    parser.add_argument("--jobs", metavar="N", type=int, help="runs at once (default: one a core)")
    parser.add_argument("--settings", metavar="A,B", help="only these settings")
    parser.add_argument("--policies", metavar="A,B", help="only these policies, or all of a method: lure,dash:ema=none")
    parser.add_argument("--seeds", metavar="0,1", help="instead of the protocol's")
    parser.add_argument("--budgets", metavar="0.1,1", help="instead of the protocol's")
    arguments = parser.parse_args(words)
    try:
        failures = run_part(arguments) if arguments.part in PARTS else []
        if arguments.part in ("choose", "chosen"):
            print(search_text(arguments.out))
        elif arguments.part == "page":
            write_document(arguments.out, DOCUMENT, arguments.out / "page.html")
            print(f"written: {DOCUMENT}", file=sys.stderr)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def run_part(arguments: argparse.Namespace) -> list[str]:
    """Run what is not done yet of a part of the suite; return a line for each failure."""
    settings, texts, seeds, budgets, prefix = PARTS[arguments.part]
    policies = [Policy.read(text) for text in dict.fromkeys(texts)]
    if arguments.settings:
        settings = _only(arguments.settings, "setting", {name: [name] for name in settings})
    if arguments.policies:
        by_name: dict[str, list[Policy]] = {}
        for policy in policies:
            for name in {policy.name, split_choice(policy.name)[0]}:
                by_name.setdefault(name, []).append(policy)
        policies = _only(arguments.policies, "policy", by_name)
    if arguments.seeds:
        seeds = [int(word) for word in arguments.seeds.split(",")]
    if arguments.budgets:
        budgets = [float(word) for word in arguments.budgets.split(",")]
    failures = []
    for number, setting in enumerate(settings, start=1):
        out = arguments.out / f"{prefix}{setting}"
        print(f"setting {number} of {len(settings)}: {out}", file=sys.stderr, flush=True)
        failures += run_setting(setting, policies, seeds, budgets, out, arguments.data, arguments.jobs)
    return failures


def _only(text, what, known):
    names = text.split(",")
    for name in names:
        if name not in known:
            raise InputError(f"there is no {what} {name} here (there are: {', '.join(known)})")
    return [one for name in names for one in known[name]]


def run_setting(
    setting: str,
    policies: Sequence[Policy],
    seeds: Sequence[int],
    budgets: Sequence[float],
    out: Path,
    data: Path | None,
    jobs: int | None,
) -> list[str]:
    """Run what is not done yet of one setting; return a line for each failure."""
    from lure.experiment.compare import RunsFailed, compare, plan
    from lure.experiment.run import Placement
    from lure.report.progress import RunsProgress

    experiment = load_experiment(f"suite/{setting}")
    folder = data and data / FOLDERS[experiment.dataset]
    placement = Placement(data=folder if folder and folder.is_dir() else data, device="cpu")
    try:
        with RunsProgress(plan(experiment, policies, seeds, out, budgets)) as progress:

            def ended(run, problem):
                progress.run_ended(run, problem)
                if not problem:
                    remove_weights(run.directory)
                    print(f"done: {setting}: {run.label}", file=sys.stderr, flush=True)

            compare(
                experiment,
                policies,
                seeds,
                out,
                budgets=budgets,
                placement=placement,
                jobs=jobs,
                watch=progress.show,
                on_end=ended,
            )
    except RunsFailed as error:
        return [f"{setting}: {problem}" for problem in error.problems]
    except Exception as error:  # the other settings go on, whatever it was
        return [f"{setting}: {type(error).__name__}: {error}"]
    return []


def remove_weights(directory: Path) -> None:
    """Remove the weights of a run that is done: its ledger, recipe, result and evaluation stay."""
    shutil.rmtree(directory / "versions", ignore_errors=True)
    for name in ("initial.safetensors", ".lock"):
        (directory / name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
