"""Which entries take part in a ranking: not those that the data cannot reach, whatever their values are.

A score of zero says that the loss does not depend on a weight. It says nothing where the pass over the data could not
have shown that it does: a tensor that no batch's loss is computed from (a head that only training uses, the head of
another task), an entry that a pruning mask removes, a row of an embedding table that no batch looks up, an input that
is zero in every batch (a one-hot category that no example has), a position of a kernel that only ever sees padding.
Those leave the ranking and the count. A unit that the data reach and that never fires (dead ReLU) scores zero and stays
in: there the zero is a finding.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from lure.distributed import sum_over_processes
from lure.errors import InputError
from lure.weights.layers import (
    Scope,
    computes_as_torch,
    embedding_tables,
    forgettable,
    input_weights,
    kernels,
    pruning_masks,
    trainable,
)
from lure.words import count

UnseenRows: TypeAlias = Literal["keep", "rank"]
ROUNDING = 1e-5  # of the largest gradient of a kernel


@dataclass
class Reach:
    """What the batches of a pass over the data reached; `snip_saliency`, `fisher` and `accumulate_gradients` fill it.

    Where it is not known what a layer reads, it is taken to read everything, and so has no entry in the last two.

    Attributes:
        tensors: parameter name -> whether the loss of any batch is computed from it.
        rows: name of an embedding table -> bool (rows,): which rows any batch looked up, or gave a gradient.
        inputs: name of a weight (outputs, inputs, ...) whose layer reads data, which is what needs no gradient -> bool
            (inputs,): which had a gradient in any batch, as all have that are not zero there.
        positions: name of a convolution's kernel -> bool (kernel size), on the CPU: which positions ever read more than
            padding, or had a gradient.
    """

    tensors: dict[str, bool] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    positions: dict[str, Tensor] = field(default_factory=dict)
    _reads_data: dict[str, bool] = field(default_factory=dict)  # weight -> whether its layer was given nothing else

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Run a block while it is noted what embedding tables are asked for, and what other layers read."""
        handles = []
        for name, layer in input_weights(model).items():
            handles.append(_hook(layer, self._note_inputs, name))
        for name, kernel in kernels(model).items():
            handles.append(_hook(kernel, self._note_positions, name))
        tables = embedding_tables(model)
        for name, layer in tables.items():
            self.rows[name] = torch.zeros(layer.num_embeddings, dtype=torch.bool, device=layer.weight.device)
            if computes_as_torch(layer):
                handles.append(_hook(layer, self._note_rows, name))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for name, layer in tables.items():
            if layer.padding_idx is not None:
                self.rows[name][layer.padding_idx] = False  # never trained

    def _note_rows(self, name: str, _: nn.Module, given: Tensor) -> None:
        with suppress(RuntimeError):  # a transform of functions, such as vmap; the gradients tell
            self.rows[name][given.detach().flatten().long()] = True

    def _note_inputs(self, name: str, _: nn.Module, given: Tensor | PackedSequence) -> None:
        given = given.data if isinstance(given, PackedSequence) else given
        self._reads_data[name] = self._reads_data.get(name, True) and not given.requires_grad

    def _note_positions(self, name: str, layer: Any, given: Tensor) -> None:
        sizes = given.shape[-len(layer.kernel_size) :]
        shape = zip(sizes, layer.kernel_size, layer.stride, layer.dilation, strict=True)
        axes = [positions_read(*each, *_padding(layer, axis)) for axis, each in enumerate(shape)]
        read = functools.reduce(lambda before, axis: before[..., None] & axis, axes)
        if layer.padding_mode != "zeros":  # what is mirrored or repeated is data
            read = torch.ones_like(read)
        self.positions[name] = self.positions[name] | read if name in self.positions else read

    def add(self, names: list[str], gradients: tuple[Tensor | None, ...]) -> None:
        """Note which parameters have a gradient, and what gets one where a weight is read elsewhere, too."""
        for name, gradient in zip(names, gradients, strict=True):
            self.tensors[name] = self.tensors.get(name, False) or gradient is not None
            if gradient is None:
                continue
            gradient = gradient.detach()
            if name in self.rows:
                self.rows[name] |= gradient.to_dense().ne(0).any(1)
            if self._reads_data.get(name):
                seen = _by_input(gradient.to_dense())
                self.inputs[name] = self.inputs[name] | seen if name in self.inputs else seen
            if name in self.positions and gradient.numel() and not bool(self.positions[name].all()):
                # Some algorithms round where there is only padding.
                size = gradient.abs()
                self.positions[name] |= (size > ROUNDING * size.max()).any(0).any(0).cpu()

    def join_processes(self, model: nn.Module, device: torch.device) -> None:
        """Make the notes of all processes one, where several train together; one of them may have read no batch."""
        names, weights, convolutions = list(trainable(model)), input_weights(model), kernels(model)
        unseen = {name: torch.zeros(model.get_parameter(name).shape[1]) for name in weights}
        unread = {name: torch.zeros(kernel.kernel_size) for name, kernel in convolutions.items()}
        flags = [
            torch.tensor([self.tensors.get(name, False) for name in names]),
            torch.tensor([self._reads_data.get(name) is False for name in weights]),
            *(self.inputs.get(name, zeros).cpu() for name, zeros in unseen.items()),
            *(self.positions.get(name, zeros).flatten() for name, zeros in unread.items()),
        ]
        together = torch.cat([each.float() for each in flags]).to(device)  # on a GPU, to ask for each would take long
        joined = iter((sum_over_processes(together) > 0).cpu().split_with_sizes([len(each) for each in flags]))
        self.tensors = dict(zip(names, next(joined).tolist(), strict=True))
        not_data = dict(zip(weights, next(joined).tolist(), strict=True))
        seen = {name: next(joined) for name in weights}
        read = {name: next(joined).view(kernel.kernel_size) for name, kernel in convolutions.items()}
        self.inputs = {name: each for name, each in seen.items() if bool(each.any()) and not not_data[name]}
        self.positions = {name: each for name, each in read.items() if bool(each.any())}
        self.rows = {name: sum_over_processes(looked_up.float()) > 0 for name, looked_up in self.rows.items()}


def _hook(layer: nn.Module, note: Callable[..., None], *facts: Any) -> RemovableHandle:
    """Let `note(*facts, layer, what it is given)` run before a layer does."""

    def before(layer: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        note(*facts, layer, inputs[0] if inputs else keywords["input"])

    return layer.register_forward_pre_hook(before, with_kwargs=True)


def _by_input(weight: Tensor) -> Tensor:
    """Return for each input of a weight (outputs, inputs, ...) whether any of its entries is other than zero."""
    return weight.transpose(0, 1).flatten(1).any(1)


def _padding(layer: Any, axis: int) -> tuple[int, int]:
    """Return how much a convolution pads along an axis, before and behind."""
    if layer.padding == "same":
        total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    return (0, 0) if layer.padding == "valid" else (layer.padding[axis], layer.padding[axis])


@functools.lru_cache(maxsize=1000)
def positions_read(size: int, length: int, stride: int, dilation: int, before: int, behind: int) -> Tensor:
    """Return which positions of a kernel, along one axis, ever read more than padding: bool (length,).

    Args:
        size: of the input along this axis.
        length: of the kernel.
        stride: of the convolution.
        dilation: of the convolution.
        before: how much is padded before the input.
        behind: how much is padded behind it.

    Example:
        >>> positions_read(1, 3, 1, 1, 1, 1).tolist()  # one pixel, and padding on both sides
        [False, True, False]
        >>> positions_read(2, 3, 2, 1, 1, 1).tolist()
        [False, True, True]
    """
    outputs = (size + before + behind - dilation * (length - 1) - 1) // stride + 1
    at_first_output = dilation * torch.arange(length) - before  # what each position reads, as an index of the input
    steps = (stride - 1 - at_first_output).clamp(min=0) // stride  # until it leaves the padding before the input
    return (steps < outputs) & (at_first_output + stride * steps < size)


def ranked_entries(
    model: nn.Module,
    scope: Scope = "weights",
    reach: Reach | None = None,
    unseen_rows: UnseenRows = "keep",
    left_out: MutableMapping[str, str] | None = None,
) -> dict[str, Tensor | None]:
    """Return what a ranking is over, for `lowest_fraction(..., among=...)`.

    Args:
        model: the network.
        scope: as for `forgettable`.
        reach: what a pass over the data reached; None for a score that needs no data.
        unseen_rows: "keep" leaves embedding rows that no batch mentions, and inputs of the network that are zero in
            every batch, out of the ranking; "rank" leaves them in, with the lowest score there is.
        left_out: gets parameter name -> why it, or part of it, takes no part.

    Returns:
        parameter name -> bool tensor of its shape, True = ranked; None where all entries are.

    Raises:
        InputError: if there is nothing to rank.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        >>> from torch.nn.utils import prune
        >>> _ = prune.l1_unstructured(net[0], "weight", amount=2)
        >>> entries = ranked_entries(net)
        >>> int(entries["0.weight_orig"].sum()), entries["1.weight"]
        (4, None)
    """
    entries: dict[str, Tensor | None] = {}
    notes: dict[str, str] = {}
    pruned = pruning_masks(model)
    reach = Reach() if reach is None else reach
    for name, parameter in forgettable(model, scope).items():
        if not reach.tensors.get(name, True):
            notes[name] = "no batch reaches it"
            continue
        parts: dict[str, Tensor] = {}  # what is left out -> which entries are not, in any shape that broadcasts
        if name in pruned:
            parts[count(int((~pruned[name]).sum()), "pruned entry", "pruned entries")] = pruned[name]
        if unseen_rows == "keep" and name in reach.rows and not bool(reach.rows[name].all()):
            seen = reach.rows[name]
            parts[f"{count(int((~seen).sum()), 'row')} that no batch mentions"] = seen[:, None]
        if unseen_rows == "keep" and name in reach.inputs:
            seen = reach.inputs[name].to(parameter.device)
            if name in pruned:
                seen = seen | ~_by_input(pruned[name])  # what is pruned has no gradient, whatever its input
            if not bool(seen.all()):
                zero = f"{int((~seen).sum())} of {len(seen)} inputs, which are zero in every batch"
                parts[zero] = seen.view(-1, *[1] * (parameter.dim() - 2))
        if name in reach.positions and not bool(reach.positions[name].all()):
            read = reach.positions[name]
            unread = f"{int((~read).sum())} of {read.numel()} kernel positions, which only see padding"
            parts[unread] = read.to(parameter.device)
        entries[name] = None
        if parts:
            entries[name] = functools.reduce(
                torch.logical_and, parts.values(), torch.ones_like(parameter, dtype=torch.bool)
            )
            notes[name] = "; ".join(parts)
    if not entries:
        raise InputError("no batch reaches any weight that could be forgotten: does the loss use the model's output?")
    if left_out is not None:
        left_out.update(notes)
    return entries


def among_ranked(scores: Mapping[str, Tensor], entries: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return the scores that are ranked; a tensor of which only part is comes flat."""
    return {name: scores[name] if part is None else scores[name][part] for name, part in entries.items()}


def over_all(masks: Mapping[str, Tensor], entries: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return masks over whole tensors from those over the ranked entries, as `among_ranked` gave them."""
    whole = {}
    for name, part in entries.items():
        whole[name] = masks[name] if part is None else torch.zeros_like(part).masked_scatter_(part, masks[name])
    return whole
