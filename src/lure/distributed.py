"""Several processes that train one model, started by `torchrun` or `accelerate launch`.

Every process runs the same program. Each batch is cut into shares, one for each process, and gradients are averaged so
that a step is the step of the whole batch. An unlearner's sums run over the union of the batches and its randomness is
the same everywhere, so every process draws the same mask and the same fresh weights. Only the first process writes the
run directory; the others work on private copies, which are deleted afterwards.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lure.errors import InputError


def number_of_processes() -> int:
    """Return how many processes train together; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def are_several() -> bool:
    """Tell whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(device: str, out: Path) -> Iterator[tuple[str, Path]]:
    """Join the processes that a launcher started; yield this one's device and its run directory.

    Alone, both are what was given. Among several, each process gets its own accelerator, and all but the first a
    private copy of the directory, removed afterwards.

    Args:
        device: "auto", "cpu" or "cuda".
        out: the run directory, which may not exist yet.
    """
    if not are_several():
        yield device, out
        return
    from accelerate import PartialState  # slow to import, and only this needs it

    state = PartialState(cpu=device == "cpu")
    try:
        with tempfile.TemporaryDirectory() as folder:
            mine = out if state.is_main_process else Path(folder) / "run"
            if mine != out and out.exists():
                shutil.copytree(out, mine, ignore=shutil.ignore_patterns(".lock"))
            state.wait_for_everyone()  # the first may write only when all have copied
            yield str(state.device), mine
    finally:
        state.destroy_process_group()


def in_parallel(model: nn.Module) -> nn.Module:
    """Return a model whose backward pass averages gradients over the processes; alone, the model itself."""
    if number_of_processes() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def my_share(batch: Tensor) -> Tensor:
    """Return the rows of a batch that this process takes.

    Example:
        >>> my_share(torch.arange(3)).tolist()  # alone, all of them
        [0, 1, 2]
    """
    return batch[process_rank() :: number_of_processes()]


def share_weight(batch: Tensor) -> float:
    """Return the factor of this process' mean loss that makes the average over processes the mean of the batch."""
    return len(my_share(batch)) * number_of_processes() / len(batch)


def check_sharing(batch_size: int, max_seconds: float | None) -> None:
    """Raise unless several processes can share the work: each gets two rows of a batch, and no time limit is set.

    Raises:
        InputError: naming the setting.
    """
    if number_of_processes() == 1:
        return
    if batch_size < 2 * number_of_processes():
        raise InputError(f"batch_size = {batch_size} is too small for {number_of_processes()} processes")
    if max_seconds is not None:
        raise InputError("max_seconds needs a single process: the clocks of several do not agree")


@torch.no_grad()
def agree_on_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first: running statistics differ, as each saw its own share."""
    if number_of_processes() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Add a tensor up over all processes, in place, and return it; alone, leave it as it is."""
    if number_of_processes() > 1:
        dist.all_reduce(tensor)
    return tensor
