"""Layers whose outputs came in several goes: each block of outputs is computed by a product of its own.

A product with more columns may round the same sum in another way, for it is cut into other pieces. Computed in blocks,
the outputs that were there before a layer grew are the same product as before, so they are the same bits.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GrownLinear(nn.Linear):
    """A linear layer that grew; `blocks` are the numbers of its outputs in order of arrival."""

    blocks: tuple[int, ...]

    def forward(self, input: Tensor) -> Tensor:
        """Return (..., outputs)."""
        pieces = zip(*(_cut(each, self.blocks) for each in (self.weight, self.bias)), strict=True)
        return torch.cat([F.linear(input, weight, bias) for weight, bias in pieces], dim=-1)


class GrownConv2d(nn.Conv2d):
    """A convolution that grew; `blocks` are the numbers of its output channels in order of arrival."""

    blocks: tuple[int, ...]

    def forward(self, input: Tensor) -> Tensor:
        """Return (batch, channels, height, width)."""
        pieces = zip(*(_cut(each, self.blocks) for each in (self.weight, self.bias)), strict=True)
        return torch.cat([self._conv_forward(input, weight, bias) for weight, bias in pieces], dim=-3)


IN_BLOCKS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: GrownLinear, nn.Conv2d: GrownConv2d}


def _cut(tensor: Tensor | None, blocks: Sequence[int]) -> Sequence[Tensor | None]:
    return [None] * len(blocks) if tensor is None else torch.split(tensor, list(blocks))


def compute_in_blocks_(layer: nn.Module, *blocks: int) -> None:
    """Have a layer compute its outputs in blocks of so many; the object, its parameters and their names stay.

    Only plain linear layers and ungrouped 2D convolutions do; what another layer computes is not known here.

    Example:
        >>> layer = nn.Linear(2, 5)
        >>> compute_in_blocks_(layer, 3, 2)
        >>> layer, isinstance(layer, nn.Linear)
        (GrownLinear(in_features=2, out_features=5, bias=True), True)
    """
    if type(layer) in IN_BLOCKS and getattr(layer, "groups", 1) == 1:
        layer.__class__ = IN_BLOCKS[type(layer)]
    if isinstance(layer, GrownLinear | GrownConv2d):
        layer.blocks = blocks


def blocks_of(layer: nn.Module, count: int) -> tuple[int, ...]:
    """Return the blocks in which a layer of `count` outputs computes them."""
    return layer.blocks if isinstance(layer, GrownLinear | GrownConv2d) else (count,)
