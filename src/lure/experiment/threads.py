"""How many CPU threads a run takes where its recipe leaves that open (`threads = 0`).

The number is part of a run's identity: sums are added up in another order under another. So it is chosen once, before
the run begins, and recorded. It does not depend on how many runs go side by side.
"""

from contextlib import suppress

import torch

from lure.data.examples import Split
from lure.data.sources import Dataset
from lure.learner.opening import choose_device
from lure.learner.task import build_network, fix_task
from lure.randomness import forked_rng
from lure.recipe import Experiment
from lure.training.loader import Loader
from lure.training.predict import count_flops

# Floating-point operations of an optimiser step below which a second thread gains little on an idle machine, and makes
# the step several times slower on a busy one, where threads wait for each other (measured: docs/scaling.md).
LARGE_STEP = 1e9


def choose_threads(experiment: Experiment, dataset: Dataset, device: str) -> int:
    """Return the threads of a new run: one for a small network on the CPU, otherwise as many as torch would take.

    Args:
        experiment: its own `threads` counts where it is not 0.
        dataset: says what the network's inputs are.
        device: as for `Placement`.
    """
    if experiment.threads:
        return experiment.threads
    if choose_device(device).type == "cpu":
        two = dataset.test[:2]
        # A network that does not fit such inputs is refused later, with a message.
        with suppress(Exception), forked_rng(None):
            normalization = None if dataset.mean is None or dataset.std is None else (dataset.mean, dataset.std)
            task = fix_task(Split(train=two, validation=two[:0]), (), dataset.class_names, dataset.form, normalization)
            model = build_network(experiment, task)
            if count_flops(model, Loader(two, "cpu")) * experiment.batch_size < LARGE_STEP:
                return 1
    return torch.get_num_threads()
