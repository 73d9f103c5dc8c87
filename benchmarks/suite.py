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
from lure.recipe import Experiment, Policy, load_experiment
from lure.settings import parse_value

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
    parser.add_argument("--policies", metavar="A,B", help="only these policies, or all that begin so")
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
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def run_part(arguments: argparse.Namespace) -> list[str]:
    """Run what is not done yet of a part of the suite; return a line for each failure."""
    settings, texts, seeds, budgets, prefix = PARTS[arguments.part]
    policies = [Policy.read(text) for text in dict.fromkeys(texts)]
    if arguments.settings:
        words = arguments.settings.split(",")
        settings = tuple(name for word in words for name in _named(word, settings, "setting"))
    if arguments.policies:
        by_name = {policy.name: policy for policy in policies}
        words = arguments.policies.split(",")
        policies = [by_name[name] for word in words for name in _named(word, tuple(by_name), "policy")]
    if arguments.seeds:
        seeds = parse_value(arguments.seeds, tuple[int, ...], "--seeds")
    if arguments.budgets:
        budgets = parse_value(arguments.budgets, tuple[float, ...], "--budgets")
    failures = []
    for number, setting in enumerate(settings, start=1):
        out = arguments.out / f"{prefix}{setting}"
        print(f"setting {number} of {len(settings)}: {out}", file=sys.stderr, flush=True)
        experiment = load_experiment(f"suite/{setting}")
        problems = run_setting(experiment, policies, seeds, budgets, out, arguments.data, arguments.jobs)
        failures += [f"{out.name}: {problem}" for problem in problems]
    return failures


def _named(word: str, known: Sequence[str], what: str) -> list[str]:
    """Return the name that a word is, or all that begin with it."""
    if found := [name for name in known if name == word] or [name for name in known if name.startswith(word)]:
        return found
    raise InputError(f"there is no {what} {word!r} here (there are: {', '.join(known)})")


def run_setting(
    experiment: Experiment,
    policies: Sequence[Policy],
    seeds: Sequence[int],
    budgets: Sequence[float],
    out: Path,
    data: Path | None,
    jobs: int | None,
) -> list[str]:
    """Run what is not done yet of one setting; return a line for each failure."""
    from lure.experiment.compare import RunsFailed, compare, plan
    from lure.experiment.job import PlannedRun
    from lure.experiment.run import Placement
    from lure.report.progress import RunsProgress

    folder = data and data / FOLDERS.get(experiment.dataset, "")
    placement = Placement(data=folder if folder and folder.is_dir() else data, device="cpu")
    try:
        with RunsProgress(plan(experiment, policies, seeds, out, budgets)) as progress:

            def ended(run: PlannedRun, problem: str) -> None:
                progress.run_ended(run, problem)
                if not problem:
                    remove_weights(run.directory)
                    print(f"done: {out.name}: {run.label}", file=sys.stderr, flush=True)

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
        return error.problems
    except InputError as error:
        return [str(error)]
    except Exception as error:  # the other settings go on, whatever it was
        return [f"{type(error).__name__}: {error}"]
    return []


def remove_weights(directory: Path) -> None:
    """Remove the weights of a run that is done: its ledger, recipe, result and evaluation stay."""
    shutil.rmtree(directory / "versions", ignore_errors=True)
    for name in ("initial.safetensors", ".lock"):
        (directory / name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
