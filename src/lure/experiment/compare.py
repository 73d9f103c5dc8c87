"""Compare policies: the same experiment for several unlearners and seeds, each pair in a run directory of its own."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lure.experiment.run import Placement, _open, open_dataset, run
from lure.learner.opening import require_same_recipe
from lure.recipe import Experiment, policy_name
from lure.store.stage import Stage
from lure.training.fit import Progress


def compare(
    experiment: Experiment,
    unlearners: Sequence[str],
    seeds: Sequence[int],
    out: Path | str,
    *,
    placement: Placement | None = None,
    watch: Callable[[str, int, Progress], None] | None = None,
    on_stage: Callable[[str, int, Stage], None] | None = None,
) -> list[Path]:
    """Run an experiment for every pair of unlearner and seed, each in `out`/POLICY/seed-N.

    All pairs are checked before the first one runs, and each policy is tried on two examples. The seeds are the outer
    loop, so that an interrupted comparison holds whole seeds.

    Args:
        experiment: what all pairs share; its own unlearner and seed do not count.
        unlearners: choices such as "lure" or "lure:forget_fraction=0.4".
        seeds: one run of each unlearner for each.
        out: the directory that holds them all.
        placement: data path, device, workers and tracker.
        watch: called now and then while training, with the unlearner and the seed.
        on_stage: called with each stage as it is committed, with the unlearner and the seed.

    Returns:
        The run directories.

    Raises:
        InputError: for an unknown unlearner, data that cannot be used, or a pair's directory that was begun with
            another recipe.
    """
    placement = placement or Placement()
    pairs = [
        (dataclasses.replace(experiment, unlearner=unlearner, seed=seed), pair_directory(out, unlearner, seed))
        for unlearner, seed in pairs_of(unlearners, seeds)
    ]
    for pair, directory in pairs:
        _ = pair.method  # an unlearner of the user's own is imported here
        require_same_recipe(directory, pair)
    dataset = open_dataset(experiment, placement)
    for pair, directory in pairs:
        if pair.seed == pairs[0][0].seed and not directory.exists():
            with _open(pair, directory, placement, dataset, ()) as learner:
                learner.rehearse()
    for pair, directory in pairs:
        if is_complete(directory):
            continue
        run(
            pair,
            directory,
            placement=placement,
            dataset=dataset,
            watch=_named(watch, pair),
            on_stage=_named(on_stage, pair),
        )
    return [directory for _, directory in pairs]


def _named(callback: Callable[[str, int, Any], None] | None, pair: Experiment) -> Callable[[Any], None] | None:
    if callback is None:
        return None
    return lambda event: callback(pair.unlearner, pair.seed, event)


def pairs_of(unlearners: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return the pairs of unlearner and seed that a comparison runs, in order; what is named twice counts once.

    Example:
        >>> pairs_of(["lure", "dash", "lure"], [0, 1])
        [('lure', 0), ('dash', 0), ('lure', 1), ('dash', 1)]
    """
    return [(unlearner, seed) for seed in dict.fromkeys(seeds) for unlearner in dict.fromkeys(unlearners)]


def pair_directory(out: Path | str, unlearner: str, seed: int) -> Path:
    """Return the run directory of one pair."""
    return Path(out) / policy_name(unlearner) / f"seed-{seed}"


def is_complete(directory: Path) -> bool:
    """Tell whether a run reached the end of its stream."""
    return (directory / "result.json").exists()
