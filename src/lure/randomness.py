"""Random numbers: every random choice has its own generator, derived from (seed, stage, purpose).

So a change in one place never shifts what is drawn in another: two runs that differ only in their unlearner see the
data in the same order. Code that cannot take a generator (dropout, a layer's `reset_parameters`, the constructor of a
network) runs inside `forked_rng`, which seeds torch's global random state and restores the caller's afterwards.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Purpose = Literal[
    "stream",
    "noise",
    "split",
    "replay",
    "init",
    "grow",
    "unlearn",
    "probe",
    "shuffle",
    "augment",
    "validate",
    "sample",
    "model",
    "holdout",
    "evaluate",
]


def derive_generator(seed: int, stage: int, purpose: Purpose, epoch: int = 0, rank: int = 0) -> torch.Generator:
    """Return the CPU generator for one purpose in one stage (and epoch) of a run.

    The arguments are hashed, so neighbouring seeds and stages give unrelated numbers.

    Args:
        seed: the run's seed, any integer.
        stage: 1 for the first mega-batch; 0 for what happens before it, such as cutting the stream.
        purpose: what the numbers are used for.
        epoch: 1 for the first epoch of the stage; 0 where the purpose has no epochs.
        rank: number of the process, from 0, where several processes train one model and must draw different numbers
            (dropout).

    Example:
        >>> first, again = derive_generator(0, 1, "shuffle"), derive_generator(0, 1, "shuffle")
        >>> torch.equal(torch.randperm(5, generator=first), torch.randperm(5, generator=again))
        True
    """
    name = f"{seed}/{stage}/{purpose}/{epoch}" + (f"/{rank}" if rank else "")
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_seed(generator: torch.Generator | None) -> int:
    """Draw a seed for torch's global random state from `generator`; None means a generator with seed 0."""
    if generator is None:
        # Not the seed 0 itself: a model built with seed 0 would be redrawn with its own initial weights.
        generator = torch.Generator().manual_seed(0)
    return int(torch.randint(2**62, (), generator=generator, device=generator.device).item())


@contextmanager
def forked_rng(generator: torch.Generator | None) -> Iterator[None]:
    """Run a block with torch's global random state seeded from `generator`, then restore the caller's state.

    Example:
        >>> before = torch.get_rng_state()
        >>> with forked_rng(torch.Generator().manual_seed(3)):
        ...     _ = torch.rand(4)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    seed = draw_seed(generator)
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if in_use else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
