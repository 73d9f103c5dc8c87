"""Which entries take part in a ranking: not those that the data cannot reach, whatever their values are.

A score of zero says that the loss does not depend on a weight. It says nothing where the pass over the data could not
have shown that it does: a tensor that no batch's loss is computed from (a head that only training uses, the head of
another task), an entry that a pruning mask removes, a row of an embedding table that no batch looks up, an input that
is zero in every batch (a one-hot category that no example has), a position of a kernel that only ever sees padding.
Those leave the ranking and the count. A unit that the data reach and that never fires (dead ReLU) scores zero and stays
in: there the zero is a finding.
"""

import functools
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lure.distributed import sum_over_processes
from lure.errors import InputError
from lure.weights.layers import Scope, embedding_tables, forgettable, input_weights, kernels, pruning_masks
from lure.words import count

UnseenRows: TypeAlias = Literal["keep", "rank"]


@dataclass
class Reach:
    """What the batches of a pass over the data reached; `snip_saliency`, `fisher` and `accumulate_gradients` fill it.

    Attributes:
        tensors: parameter name -> whether the loss of any batch is computed from it.
        rows: name of an embedding table -> bool (rows,): which rows any batch looked up, or gave a gradient.
        inputs: name of a weight (outputs, inputs, ...) -> bool (inputs,): which were other than zero in any batch, or
            had a gradient; all of them, where the layer reads what trainable layers compute.
        positions: name of a convolution's kernel -> bool (kernel size), on the CPU: which positions ever read more than
            padding, or had a gradient.
    """

    tensors: dict[str, bool] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    positions: dict[str, Tensor] = field(default_factory=dict)
    _reads_data: dict[str, bool] = field(default_factory=dict)  # weight -> False once its layer read anything else

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Run a block while it is noted what embedding tables are asked for, and what other layers read."""
        handles = []
        for name, layer in input_weights(model).items():
            weight = model.get_parameter(name)
            self.inputs[name] = torch.zeros(weight.shape[1], dtype=torch.bool, device=weight.device)
            self._reads_data[name] = True
            note = functools.partial(self._note_inputs, name, 1 - weight.dim())
            handles.append(layer.register_forward_pre_hook(note, with_kwargs=True))
        for name, kernel in kernels(model).items():
            read = self.positions[name] = torch.zeros(kernel.kernel_size, dtype=torch.bool)  # on the CPU: no waiting
            handles.append(kernel.register_forward_pre_hook(_reading(read), with_kwargs=True))
        for name, layer in embedding_tables(model).items():
            table = self.rows[name] = torch.zeros(layer.num_embeddings, dtype=torch.bool, device=layer.weight.device)
            handles.append(layer.register_forward_pre_hook(_noting(table), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for name, layer in embedding_tables(model).items():
            if layer.padding_idx is not None:
                self.rows[name][layer.padding_idx] = False  # never trained

    def _note_inputs(
        self, name: str, dimension: int, layer: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        """Note what a layer is about to read; its features lie along a dimension, counted from the end."""
        if not self._reads_data[name]:
            return
        given = inputs[0] if inputs else keywords["input"]
        given = given.data if isinstance(given, PackedSequence) else given
        if given.requires_grad or given.layout != torch.strided:
            self._reads_data[name] = False
            self.inputs[name].fill_(True)
        else:
            self.inputs[name] |= given.ne(0)[None].movedim(dimension, -1).flatten(0, -2).any(0)

    def add(self, names: list[str], gradients: tuple[Tensor | None, ...]) -> None:
        """Note which parameters have a gradient, and which rows of a table that is read elsewhere, too."""
        for name, gradient in zip(names, gradients, strict=True):
            self.tensors[name] = self.tensors.get(name, False) or gradient is not None
            if gradient is not None and name in self.rows:
                self.rows[name] |= gradient.detach().to_dense().ne(0).any(1)
            # A weight may be read elsewhere, too.
            if gradient is not None and name in self.inputs and self._reads_data[name]:
                self.inputs[name] |= _more_than_rounding(gradient).transpose(0, 1).flatten(1).any(1)
            if gradient is not None and name in self.positions and not bool(self.positions[name].all()):
                self.positions[name] |= _more_than_rounding(gradient).any(0).any(0).cpu()

    def join_processes(self, names: list[str], device: torch.device) -> None:
        """Make the notes of all processes one, where several train together; one of them may have read no batch."""
        flags = torch.tensor([float(self.tensors.get(name, False)) for name in names], device=device)
        self.tensors = dict(zip(names, (sum_over_processes(flags) > 0).tolist(), strict=True))
        self.rows = {name: sum_over_processes(seen.float()) > 0 for name, seen in self.rows.items()}
        self.inputs = {name: sum_over_processes(seen.float()) > 0 for name, seen in self.inputs.items()}
        self.positions = {
            name: (sum_over_processes(read.to(device, torch.float32)) > 0).cpu()
            for name, read in self.positions.items()
        }


def _more_than_rounding(gradient: Tensor) -> Tensor:
    """Return where a gradient is not zero; some algorithms of convolution round where it is."""
    size = gradient.detach().abs()
    return size > 100 * torch.finfo(size.dtype).eps * size.max()


def _noting(table: Tensor) -> Any:
    def note(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        table[(inputs[0] if inputs else keywords["input"]).detach().flatten().long()] = True

    return note


def _reading(read: Tensor) -> Any:
    def note(layer: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if bool(read.all()):
            return
        if layer.padding_mode != "zeros":  # what is mirrored or repeated is data
            read.fill_(True)
            return
        sizes = (inputs[0] if inputs else keywords["input"]).shape[-read.dim() :]
        shape = zip(sizes, layer.kernel_size, layer.stride, layer.dilation, strict=True)
        axes = [positions_read(*each, *_padding(layer, axis)) for axis, each in enumerate(shape)]
        read.logical_or_(functools.reduce(lambda before, axis: before[..., None] & axis, axes))

    return note


def _padding(layer: Any, axis: int) -> tuple[int, int]:
    """Return how much a convolution pads along an axis, before and behind."""
    if layer.padding == "same":
        total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    return (0, 0) if layer.padding == "valid" else (layer.padding[axis], layer.padding[axis])


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
        unseen_rows: "keep" leaves embedding rows that no batch mentions, and features that are zero in every batch, out
            of the ranking; "rank" leaves them in, with the lowest score there is.
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
        if unseen_rows == "keep" and name in reach.inputs and not bool(reach.inputs[name].all()):
            seen = reach.inputs[name]
            zero = f"{int((~seen).sum())} of {len(seen)} inputs, which are zero in every batch"
            parts[zero] = seen.view(-1, *[1] * (parameter.dim() - 2))
        if name in reach.positions and not bool(reach.positions[name].all()):
            read = reach.positions[name]
            unread = f"{int((~read).sum())} of {read.numel()} kernel positions, which only see padding"
            parts[unread] = read.to(parameter.device)
        entries[name] = None
        if parts:
            entries[name] = functools.reduce(torch.logical_and, parts.values(), torch.ones_like(parameter).bool())
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
