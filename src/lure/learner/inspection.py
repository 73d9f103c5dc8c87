"""Inspecting a new mega-batch before training on it: what repeats, and how the version in use does on it."""

import numpy as np

from lure.learner.arrival import Arrival, KnownRows, Repeats, examine
from lure.learner.constant_columns import constant_columns
from lure.learner.mega_batch import MegaBatch
from lure.learner.opening import Opened
from lure.learner.state import WorkingState
from lure.store.chunks import Digests
from lure.training.predict import predict


class Inspection:
    """What earlier chunks hold, read once; new chunks are compared with it and with the holdout.

    Args:
        opened: what the learner works with; it has a gate, so every chunk is stored.
    """

    def __init__(self, opened: Opened) -> None:
        self._chunks = opened.directory.chunks
        earlier = dict.fromkeys(stage.data_fingerprint for stage in opened.directory.stages)
        self._known = KnownRows(map(self._chunks.row_digests, earlier))
        self._inspected: Digests | None = None  # the rows of the mega-batch that was inspected last

    def inspect(self, arrived: MegaBatch, state: WorkingState) -> Arrival:
        """Return what a mega-batch looks like on arrival.

        Args:
            arrived: the mega-batch, stored.
            state: holds the version in use, if there is one.
        """
        opened, directory = state.opened, state.opened.directory
        test, task = opened.test, state.task
        if test is None or task is None:
            raise AssertionError("a gate has a holdout, and the task is fixed before a chunk is inspected")
        rows = self._chunks.row_digests(arrived.whole.fingerprint)
        holdout = np.concatenate([self._chunks.row_digests(part) for part in opened.holdout])
        self._inspected = rows
        correct = hits = None
        if current := directory.standing.current:
            logits, labels = predict(state.trained_model(), state.place(arrived.whole), opened.recipe)
            correct, hits = logits.argmax(1) == labels, directory.versions.read_hits(directory.stages[current - 1])
        wider = state.task_for(arrived)
        names = wider.names(range(wider.num_classes))
        known = wider.num_classes if state.num_known is None else state.num_known
        repeats = Repeats.of(rows, holdout, self._known)
        constant = constant_columns(arrived.whole, test, task.form)
        return examine(arrived.whole, test, repeats, names, correct, hits, arrived.name, constant, known)

    def add_inspected(self) -> None:
        """Add the mega-batch that was inspected last, which is committed now, to what is known."""
        if self._inspected is not None:  # kept, for after a commit nothing may fail
            self._known.add(self._inspected)
            self._inspected = None
