"""One line in your own training loop: `lure.unlearn_` before each new fit.

Three chunks of a small classification task arrive one after another, and a fifth of the labels are wrong. The loop is
plain PyTorch; the only line of lure re-initialises the least salient weights before each chunk but the first, and
clears the optimiser's momentum for these weights alone.

    python examples/one_line.py
"""

import torch
from torch import Tensor, nn

import lure

generator = torch.Generator().manual_seed(0)
CENTRES = torch.randn(3, 20, generator=generator)  # (classes, features)


def draw(count: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return `count` points around the centres and their labels, a share `noise` of them replaced by chance."""
    labels = torch.randint(3, (count,), generator=generator)
    inputs = CENTRES[labels] + torch.randn(count, 20, generator=generator)
    wrong = torch.rand(count, generator=generator) < noise
    return inputs, torch.where(wrong, torch.randint(3, (count,), generator=generator), labels)


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
test_inputs, test_labels = draw(500, noise=0.0)

for number in range(3):
    inputs, labels = draw(320, noise=0.2)
    loader = list(zip(inputs.split(32), labels.split(32), strict=True))  # any iterable of batches will do
    if number:
        report = lure.unlearn_(model, loader, "lure", optimizer=optimizer, seed=number, forget_fraction=0.2)
        print(f"before chunk {number + 1}: {report.changed_fraction:.1%} of the parameters were redrawn")
    for _ in range(5):
        for batch, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(test_inputs).argmax(1) == test_labels).float().mean()
    print(f"after chunk {number + 1}: test accuracy {accuracy:.1%}")

print(report)  # the last one, tensor by tensor
