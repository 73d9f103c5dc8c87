"""Checkpoints of the running stage: written between epochs when they are worth the time, and gone on from.

A checkpoint belongs to one stage of one run on one chunk. What it must agree in stands in it, so one that an earlier
attempt left on other data, or from another version, is thrown away and never used.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lure.learner.mega_batch import MegaBatch
from lure.learner.opening import Opened
from lure.learner.record import Running, Unlearned
from lure.store.durable import parsing
from lure.training.schedule import build_optimizer
from lure.training.state import FitState, restore_training, training_tensors

ASIDE = ("kept", "regularizers")  # fields of `FitState` that hold tensors


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a checkpoint must agree in.

    Attributes:
        stage: number of the running stage.
        parent: the version that training started from.
        waiting: stages whose chunks are taken in, too.
        data_fingerprint: of the new mega-batch.
    """

    stage: int
    parent: int
    waiting: list[int]
    data_fingerprint: str

    @classmethod
    def of(cls, opened: Opened, arrived: MegaBatch) -> "Attempt":
        """Return that of the next stage."""
        standing = opened.directory.standing
        return cls(
            stage=arrived.stage,
            parent=standing.current,
            waiting=list(standing.waiting),
            data_fingerprint=arrived.whole.fingerprint,
        )


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        opened: where they are written, and the recipe.
        attempt: what they must agree in.
        share: at most this share of the time goes into writing them.
    """

    def __init__(self, opened: Opened, attempt: Attempt, share: float) -> None:
        self._progress, self._recipe = opened.directory.progress, opened.recipe
        self._attempt, self._share = attempt, share
        self._unsaved: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None

    def resume(self, model: nn.Module) -> Running | None:
        """Restore a model, and a new optimiser, from the last checkpoint; None if there is none of this attempt.

        Raises:
            InputError: naming the file, if the checkpoint is damaged.
        """
        stored = self._progress.read()
        attempt = dataclasses.asdict(self._attempt)
        if stored is None or {name: stored[1].get(name) for name in attempt} != attempt:
            self._progress.clear()
            return None
        tensors, record = stored
        aside: dict[str, dict[str, Tensor]] = {group: {} for group in ASIDE}
        for name in list(tensors):
            group, _, rest = name.partition(".")
            if group == "average":  # written when there was one regularizer with a state
                group, rest = "regularizers", f"hare-tortoise/{rest}"
            if group in aside:
                aside[group][rest] = tensors.pop(name)
        with parsing(self._progress.folder):
            optimizer = build_optimizer(model, self._recipe)
            restore_training(model, optimizer, tensors)
            fitted = {field.name: record[field.name] for field in dataclasses.fields(FitState) if field.name in record}
            return Running(optimizer, FitState(**fitted | aside), Unlearned(**record["unlearned"]))

    def saver(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, unlearned: Unlearned
    ) -> Callable[[FitState], None]:
        """Return what `fit` calls after each epoch: it keeps a checkpoint, and writes it when it is worth the time."""
        cost, last = 0.0, time.perf_counter()

        def save(state: FitState) -> None:
            nonlocal cost, last
            began = time.perf_counter()
            tensors = training_tensors(model, optimizer)
            for group in ASIDE:
                tensors |= {f"{group}.{name}": value for name, value in getattr(state, group).items()}
            fitted = dataclasses.asdict(dataclasses.replace(state, kept={}, regularizers={}))
            record = {**dataclasses.asdict(self._attempt), **fitted, "unlearned": dataclasses.asdict(unlearned)}
            self._unsaved = tensors, record
            # After the last epoch the stage is about to be committed.
            if state.epoch == self._recipe.epochs_of(self._attempt.stage) or began - last < cost / self._share:
                return
            self.flush()
            last = time.perf_counter()
            cost = last - began

        return save

    def flush(self) -> None:
        """Write the last epoch's checkpoint, unless it is on disk already."""
        if self._unsaved is not None:
            self._progress.save(*self._unsaved)
            self._unsaved = None
