"""Did it help? Any training loop under every unlearner, with the same table, price and sentence as `lure compare`."""

import datetime
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from lure.comparison import Comparison
from lure.errors import InputError, require_within
from lure.randomness import derive_generator, draw_seed, forked_rng
from lure.recommended import COMPARED
from lure.report.records import RunRecord
from lure.store.stage import Stage
from lure.unlearn import UnlearnReport, unlearn_
from lure.unlearners import Context, build_unlearner, require_context
from lure.weights.layers import snapshot
from lure.weights.saliency import Batch, Loss

Model = TypeVar("Model", bound=nn.Module)
Chunk = TypeVar("Chunk")

IN_LOOP = tuple(name for name in COMPARED if name != "auto")  # it asks for pairs, and has no probe here
STEPS = 1000  # an accuracy that comes without the number of examples is taken to count to a thousandth


def compare_in_loop(
    build: Callable[[], Model],
    fit: Callable[..., Any],
    evaluate: Callable[[Model], "float | tuple[int, int]"],
    chunks: Sequence[Chunk],
    *,
    unlearners: Sequence[str] = IN_LOOP,
    seeds: Sequence[int] = (0, 1, 2),
    budgets: Sequence[float] = (),
    batches: Callable[[Chunk], Iterable[Batch]] | None = None,
    loss: Loss | None = None,
    on_stage: Callable[[str, int, Stage], None] | None = None,
) -> Comparison:
    """Run your own training loop under every unlearner; return the comparison, which prints as `lure compare` does.

    For every unlearner and seed it does this, with what it measures left out:

        model = build()
        for number, chunk in enumerate(chunks):
            if number:
                arrived = [batches(each) for each in chunks[: number + 1]]  # made when they are read
                lure.unlearn_(model, arrived[-1], method=unlearner, draw=build, chunks=arrived, ...)
            fit(model, chunks[: number + 1])
            accuracy = evaluate(model)

    torch's, NumPy's and Python's global random states are seeded before each call of your functions, from the seed and
    the number of the chunk and not from the unlearner, so that all see the same data in the same order; afterwards they
    are as before. Nothing is written: an interrupted comparison begins anew.

    Args:
        build: returns a freshly initialised model; it must not set a seed. The redrawn weights come from it, too, so a
            model that it loads pretrained is what `scratch` goes back to.
        fit: `fit(model, chunks)` trains the model in place on the chunks that have arrived, the new one last; how much
            of the old ones is replayed is yours. If it returns a whole number, that is taken as the number of examples
            that it trained on, and cost is counted in examples, those that the unlearner reads included. Otherwise cost
            is seconds. With `budgets` it is called as `fit(model, chunks, budget=0.3)`.
        evaluate: returns the accuracy of the model on your test set, in [0, 1], or a pair (right, examples).
        chunks: the data in order of arrival, in any form that `fit` takes.
        unlearners: choices such as "lure:forget_fraction=0.4". Without "scratch" among them there is no price.
        seeds: one run of each unlearner and budget for each; a price takes at least three.
        budgets: shares of the full training that `fit` is asked for, at every chunk but the first; in (0, 1].
        batches: chunk -> what the unlearner may read of it: anything that yields batches. None: the chunk itself, as it
            may be a `DataLoader`. Unlearners read the new chunk. Those that need the earlier ones, too
            (`dash:ema=chunk`, `auto`), get them all, however much of them `fit` replays; `auto` has no probe here.
        loss: (model, batch) -> mean loss, for unlearners that read data; cross-entropy of (inputs, labels) by default.
        on_stage: called with unlearner, seed and record after each chunk.

    Raises:
        InputError: for an unknown unlearner, one that needs what a loop does not have (`dash:shuffled=256`) or what
            `batches` does not give (`auto`: pairs), or a value out of range, before anything is trained; for what
            `evaluate` returns, if that is no accuracy; or from `unlearn_`.

    Example:
        >>> import torch
        >>> points = torch.randn(120, 2, generator=torch.Generator().manual_seed(0))
        >>> labels = (points[:, 0] > points[:, 1]).long()
        >>> chunks = [[(points[i : i + 30], labels[i : i + 30])] for i in (0, 30, 60)]  # lists of batches
        >>> def fit(model, chunks):
        ...     optimizer = torch.optim.SGD(model.parameters(), 0.5)
        ...     for inputs, targets in [batch for chunk in chunks for batch in chunk] * 20:
        ...         optimizer.zero_grad()
        ...         nn.functional.cross_entropy(model(inputs), targets).backward()
        ...         optimizer.step()
        >>> def evaluate(model):
        ...     return int((model(points[90:]).argmax(1) == labels[90:]).sum()), 30
        >>> answer = compare_in_loop(lambda: nn.Linear(2, 2), fit, evaluate, chunks, unlearners=["scratch", "lure"])
        >>> [(run.policy, run.seed, len(run.stages)) for run in answer.runs][:2]
        [('scratch', 0, 3), ('scratch', 1, 3)]
    """
    chunks, seeds, unlearners = list(chunks), list(dict.fromkeys(seeds)), list(dict.fromkeys(unlearners))
    for name, given in (("chunks", chunks), ("unlearners", unlearners), ("seeds", seeds)):
        if not given:
            raise InputError(f"give at least one of {name}")
    methods = [build_unlearner(unlearner) for unlearner in unlearners]
    for budget in budgets:
        require_within("budget", budget, 0, 1)
        if not budget:
            raise InputError("budget must be above 0 and at most 1, got 0")
    loop = _Loop(build, fit, evaluate, chunks, batches or _as_it_is, loss)
    with _seeded(seeds[0], 1):
        for method in methods:
            require_context(method, Context(batches=[], initial={}, chunks=[_Counted(loop, seeds[0], 1)]))
    tried: list[float | None] = list(dict.fromkeys(budgets)) or [None]
    records = [
        loop.run(unlearner, seed, budget, on_stage)
        for seed in seeds  # the outer loop, so that what is heard on the way can be compared early
        for unlearner in unlearners
        for budget in tried
    ]
    return Comparison(sorted(records, key=lambda record: (unlearners.index(record.policy), record.budget, record.seed)))


def _as_it_is(chunk: Any) -> Any:
    return chunk


@dataclass(frozen=True)
class _Loop:
    """The user's functions, and what they are called with."""

    build: Callable[[], Any]
    fit: Callable[..., Any]
    evaluate: Callable[[Any], Any]
    chunks: list[Any]
    batches: Callable[[Any], Iterable[Batch]]
    loss: Loss | None

    def run(
        self,
        unlearner: str,
        seed: int,
        budget: float | None,
        on_stage: Callable[[str, int, Stage], None] | None,
    ) -> RunRecord:
        """Train over all chunks, and return the record."""
        with _seeded(seed, 0):
            model = self.build()
        if not isinstance(model, nn.Module):
            raise InputError(f"build must return a torch.nn.Module, got {type(model).__name__}")
        initial = snapshot(model)
        stages: list[Stage] = []
        for number in range(1, len(self.chunks) + 1):
            report, read = None, 0
            if number > 1:
                arrived = [_Counted(self, seed, each) for each in range(1, number + 1)]
                new = arrived[-1]
                method_seed = draw_seed(derive_generator(seed, number, "unlearn"))
                with _seeded(seed, number):
                    report = unlearn_(model, new, unlearner, None, self.loss, method_seed, initial, self.build, arrived)
                read = sum(each.rows for each in arrived)
            began = time.perf_counter()
            with _seeded(seed, number):
                asked = {} if budget is None else {"budget": 1.0 if number == 1 else budget}
                returned = self.fit(model, self.chunks[:number], **asked)
            seconds = time.perf_counter() - began
            with _seeded(seed, number):
                measured = self.evaluate(model)
            examples = returned if isinstance(returned, int) and not isinstance(returned, bool) else None
            stage = _stage(number, unlearner, seed, report, read, examples, seconds, measured, stages)
            stages.append(stage)
            if on_stage:
                on_stage(unlearner, seed, stage)
        return RunRecord(
            directory=Path(unlearner) / f"seed-{seed}",
            policy=unlearner,
            seed=seed,
            stages=tuple(stages),
            lines=tuple(stage.as_dict() for stage in stages),
            recipe={"unlearner": unlearner, "seed": seed, "budget": 1.0 if budget is None else budget},
            current=len(stages),
            result={},
            counts_examples=all(stage.train_examples for stage in stages),
        )


def _stage(
    number: int,
    unlearner: str,
    seed: int,
    report: UnlearnReport | None,
    read: int,
    examples: int | None,
    seconds: float,
    measured: Any,
    earlier: Sequence[Stage],
) -> Stage:
    """Return the record of a round; what nobody measured is None, or 0 where a number must stand."""
    accuracy, wrong, tested = _accuracy(measured)
    return Stage(
        stage=number,
        parent=number - 1,
        unlearner=unlearner,
        seed=seed,
        train_examples=examples or 0,
        validation_examples=0,
        test_examples=tested,
        error_count=wrong,
        accuracy=accuracy,
        error_rate=1 - accuracy,
        cumulative_errors=None if wrong is None else wrong + sum(stage.error_count or 0 for stage in earlier),
        train_accuracy=float("nan"),
        validation_accuracy=None,
        generalization_gap=None,
        expected_calibration_error=None,
        negative_log_likelihood=None,
        changed_fraction=report.changed_fraction if report else 0.0,
        relative_distance=report.relative_distance if report else 0.0,
        forgotten={tensor.name: tensor.changed_fraction for tensor in report.tensors} if report else {},
        unlearn_seconds=report.seconds if report else 0.0,
        train_seconds=seconds,
        examples_seen=(examples or 0) + read,
        train_flops=0,
        unlearn_flops=0,
        epochs_run=0,
        kept_epoch=0,
        data_fingerprint="",
        data_examples=0,
        data_validation=None,
        data_stored=False,
        taken_in=[number],
        stopped_by="",
        exact=False,
        accepted=True,
        arrival=None,
        decision=None,
        independent=None,
        committed_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment={},
        files={},
        choices=[dict(choice) for choice in report.choices] if report else [],
    )


def _accuracy(measured: Any) -> tuple[float, int | None, int]:
    """Return accuracy, number of errors where it is known, and number of test examples."""
    if isinstance(measured, tuple) and len(measured) == 2:
        right, tested = (int(value) for value in measured)
        if tested < 1 or not 0 <= right <= tested:
            raise InputError(f"evaluate must return (right, examples), got {measured!r}")
        return right / tested, tested - right, tested
    try:
        accuracy = float(measured)
    except (TypeError, ValueError):
        accuracy = -1.0
    if not 0 <= accuracy <= 1:
        raise InputError(
            f"evaluate must return an accuracy in [0, 1], or a pair (right, examples), got {measured!r:.60}"
        )
    return accuracy, None, STEPS


@dataclass
class _Counted:
    """The batches of a chunk, made when they are read, and how many examples were read of them."""

    loop: _Loop
    seed: int
    number: int
    rows: int = 0

    def __iter__(self) -> Iterator[Batch]:
        with _seeded(self.seed, self.number):
            batches = self.loop.batches(self.loop.chunks[self.number - 1])
        for batch in batches:
            self.rows += _rows(batch)
            yield batch


def _rows(batch: Any) -> int:
    """Return the number of examples in a batch: the length of its first tensor."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 0
    if hasattr(batch, "values"):
        batch = list(batch.values())
    if isinstance(batch, Sized) and len(batch) and not isinstance(batch, str):
        return _rows(next(iter(batch)))  # type: ignore[call-overload]
    return 0


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    """Run a block with all global random states seeded, and restore them."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's code may use it
    generator = derive_generator(seed, number, "model")
    first = draw_seed(generator) % 2**32
    random.seed(first)
    np.random.seed(first)  # noqa: NPY002
    try:
        with forked_rng(generator):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
