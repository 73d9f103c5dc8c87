"""Small networks of every kind that the contract suite runs each unlearner on, each with a batch that it takes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Network:
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    needs_draw: bool = False  # some parameter is initialised by the network itself, not by a layer

    def batch(self, seed: int) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.inputs(), torch.randint(3, (12,))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 2),
        nn.Flatten(),
        nn.Linear(4 * 49, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


def channels_last() -> nn.Module:
    """The memory layout that convolutions are fastest in."""
    return convolutions().to(memory_format=torch.channels_last)


def without_bias() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 10, bias=False), nn.Tanh(), nn.Linear(10, 10, bias=False), nn.Tanh(), nn.Linear(10, 3, bias=False)
    )


class Encoder(nn.Module):
    """Tokens with a learnt position table, which no layer initialises."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.positions = nn.Parameter(0.1 * torch.randn(6, 8))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        )
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.encoder(self.tokens(tokens) + self.positions)
        return self.head(self.norm(hidden.mean(1)))


class Tied(nn.Module):
    """A language model whose decoder is its embedding; it predicts the last of three tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 6)
        self.first = nn.Linear(6, 9)
        self.second = nn.Linear(9, 6)
        self.decoder = nn.Linear(6, 3, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.second(torch.relu(self.first(self.embedding(tokens).mean(1)))))


def frozen() -> nn.Module:
    """Frozen first layer, and a BatchNorm that its owner keeps in eval mode."""
    net = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    net[0].requires_grad_(False)
    net[1].requires_grad_(False).eval()
    return net


def low_precision() -> nn.Module:
    return mlp().to(torch.bfloat16)


class Residual(nn.Module):
    """A residual block with group norm, of which only the inner convolution is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.outer = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        trunk = torch.relu(self.stem(images))
        trunk = torch.relu(trunk + self.outer(torch.relu(self.norm(self.inner(trunk)))))
        return self.head(trunk.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(4, 6, batch_first=True)
        self.hidden = nn.Linear(6, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.memory(sequences)[0][:, -1])))


class Scaled(nn.Module):
    """A layer of the user's own, which knows how to reset itself."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.empty(inputs, outputs))
        self.scale = nn.Parameter(torch.empty(outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.matrix, std=0.3)
        nn.init.ones_(self.scale)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.matrix * self.scale


def custom() -> nn.Module:
    return nn.Sequential(Scaled(5, 8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def normalised_weights() -> nn.Module:
    """Weights computed by parametrisations."""
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(5, 8)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


NETWORKS = {
    "mlp": Network(mlp, lambda: torch.randn(12, 5)),
    "convolutions": Network(convolutions, lambda: torch.randn(12, 2, 8, 8)),
    "channels-last": Network(channels_last, lambda: torch.randn(12, 2, 8, 8)),
    "without-bias": Network(without_bias, lambda: torch.randn(12, 5)),
    "encoder": Network(Encoder, lambda: torch.randint(11, (12, 6)), needs_draw=True),
    "tied": Network(Tied, lambda: torch.randint(3, (12, 2))),
    "frozen": Network(frozen, lambda: torch.randn(12, 5)),
    "low-precision": Network(low_precision, lambda: torch.randn(12, 5, dtype=torch.bfloat16)),
    "residual": Network(Residual, lambda: torch.randn(12, 2, 6, 6)),
    "recurrent": Network(Recurrent, lambda: torch.randn(12, 5, 4)),
    "custom": Network(custom, lambda: torch.randn(12, 5)),
    "normalised-weights": Network(normalised_weights, lambda: torch.randn(12, 5)),
}


def trained(network: Network, seed: int = 0) -> nn.Module:
    """A network after a few steps, so that its weights, norms and statistics are no fresh draw."""
    return copy.deepcopy(_trained(network, seed))


@cache
def _trained(network: Network, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network.build()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for step in range(3):
            inputs, labels = network.batch(100 + step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs).float(), labels).backward()
            optimizer.step()
        optimizer.zero_grad()
    return model
