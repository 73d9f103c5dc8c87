"""Natural corruptions of images: the 15 kinds of CIFAR-10-C and its 4 extra ones, at five severities.

Each kind is a function of (images, one set of parameters, generator). `KINDS` holds five sets of parameters for each:
those of the CIFAR-10-C files, for images of 32 pixels. For larger images, lengths grow in proportion to the shorter
side, so that a blur looks equally strong; for smaller images they stay the same. Images are floats in [0, 1]. Random
kinds draw from one generator, so every model gets the same images for the same seed.

Differences from the published files: the result is not rounded to 8 bits; frost is synthetic, because its photographs
are not ours to distribute; `glass_blur` moves all pixels of a pass at once; `spatter` uses exact distances. Random
draws come in another order, so random kinds agree in distribution, not pixel by pixel.

Reference: Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lure.errors import InputError, require_within, unknown_name
from lure.metrics.corruptions import filters
from lure.randomness import derive_generator
from lure.words import dtype_name

SEVERITIES = (1, 2, 3, 4, 5)
LUMINANCE = (0.299, 0.587, 0.114)
REFERENCE_SIZE = 32


def _scale(images: Tensor) -> float:
    return max(1.0, min(images.shape[-2:]) / REFERENCE_SIZE)


def _normal(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=generator).to(images.device)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _grey(images: Tensor) -> Tensor:
    """Return the luminance, (batch, 1, height, width)."""
    if images.shape[1] == 1:
        return images
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMINANCE))[:, None]


def _layer(images: Tensor, mean: float, deviation: float, sigma: float, generator: torch.Generator) -> Tensor:
    """Return smooth normal noise (batch, 1, height, width), drawn at 32 pixels and enlarged with its grain."""
    scale = _scale(images)
    height, width = images.shape[-2:]
    shape = len(images), 1, math.ceil(height / scale), math.ceil(width / scale)
    noise = mean + deviation * torch.randn(shape, generator=generator)
    noise = filters.gaussian_smooth(noise, sigma)
    return F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False).to(images.device)


def gaussian_noise(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of standard deviation `sigma`."""
    return images + sigma * _normal(images, generator)


def shot_noise(images: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Count photons: Poisson noise, where a value of 1 is `photons` photons."""
    return (torch.poisson(images.cpu() * photons, generator=generator) / photons).to(images.device)


def impulse_noise(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Set a share `amount` of all values to 0 or 1, with equal probability."""
    draw = torch.rand(images.shape, generator=generator).to(images.device)
    salt = torch.rand(images.shape, generator=generator).to(images.device)
    return torch.where(draw < amount, (salt < 0.5).to(images.dtype), images)


def speckle_noise(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add normal noise whose standard deviation is `sigma` times the value."""
    return images + images * sigma * _normal(images, generator)


def gaussian_blur(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Smooth with a Gaussian of `sigma` pixels."""
    return filters.gaussian_smooth(images, sigma * _scale(images))


def defocus_blur(images: Tensor, sizes: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Spread every pixel over a disk: (radius, blur of the disk's edge), both in pixels."""
    radius, alias_blur = (size * _scale(images) for size in sizes)
    return filters.correlate(images, filters.disk_kernel(radius, alias_blur), "mirror")


def glass_blur(images: Tensor, sizes: tuple[float, int, int], generator: torch.Generator) -> Tensor:
    """Look through frosted glass: smooth, move pixels at random, smooth: (sigma, way, passes).

    In each pass every pixel takes the value of one that is up to `way` pixels up or left, or up to `way` - 1 down or
    right, which is the effect of the published code; pixels at the border stay.
    """
    scale = _scale(images)
    sigma, way, passes = sizes[0] * scale, round(sizes[1] * scale), sizes[2]
    images = torch.floor(filters.gaussian_smooth(images, sigma) * 255) / 255
    count, _, height, width = images.shape
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[way + 1 : height - way + 1, way + 1 : width - way + 1] = True
    for _ in range(passes):
        down, across = (
            torch.randint(-way, way, (count, height, width), generator=generator) * inside for _ in range(2)
        )
        images = filters.move(images, down, across)
    return filters.gaussian_smooth(images, sigma)


def motion_blur(images: Tensor, sizes: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Blur along a direction drawn from -45 to 45 degrees: (reach, sigma), in pixels."""
    radius, sigma = (size * _scale(images) for size in sizes)
    return filters.smear(images, radius, sigma, _uniform((len(images),), -45, 45, generator))


def zoom_blur(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Average the image with `count` copies, magnified by 1.00, 1.01, 1.02, ..."""
    total = images.clone()
    step = (1 + 0.01) - 1  # as in NumPy's arange: its rounding error makes 1.25 a little larger, which is visible
    for number in range(count):
        total += filters.zoom_in(images, 1 + number * step)
    return total / (count + 1)


def _cloud(images: Tensor, decay: float, generator: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    size = 2 ** math.ceil(math.log2(max(height, width, 2)))
    return filters.plasma(len(images), size, decay, generator)[:, None, :height, :width].to(images.device)


def fog(images: Tensor, strength: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Add a cloud and scale the sum to the old maximum: (amount, decay of detail)."""
    amount, decay = strength
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    return (images + amount * _cloud(images, decay, generator)) * brightest / (brightest + amount)


def frost(images: Tensor, strength: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Add ice to the dimmed image: (weight of the image, weight of the ice). Synthetic, not the published photographs.

    The bluish ice is a smooth cloud, with bright needles along the ridges of a rough cloud.
    """
    needles = (1 - (2 * _cloud(images, 1.4, generator) - 1).abs()) ** 4
    ice = 0.2 + 0.3 * _cloud(images, 2.0, generator) + 0.7 * needles
    tint = images.new_tensor((0.86, 0.95, 1.0) if images.shape[1] == 3 else (0.94,))[:, None, None]
    return strength[0] * images + strength[1] * (ice * tint).clamp(0, 1)


def snow(
    images: Tensor, flakes: tuple[float, float, float, float, float, float, float], generator: torch.Generator
) -> Tensor:
    """Add snow to a whitened image: (mean, deviation, zoom, threshold, reach, sigma, weight of the image).

    The flakes are normal noise, magnified, set to 0 below the threshold, and blurred downwards. The same layer, rotated
    by 180 degrees, is added again.
    """
    mean, deviation, zoom, threshold, reach, sigma, weight = flakes
    scale = _scale(images)
    layer = filters.zoom_in(_layer(images, mean, deviation, 0, generator), zoom)
    layer = torch.where(layer < threshold, 0.0, layer).clamp(0, 1)
    layer = torch.floor(layer * 255) / 255
    layer = filters.smear(layer, reach * scale, sigma * scale, _uniform((len(images),), -135, -45, generator))
    white = torch.maximum(images, 1.5 * _grey(images) + 0.5)
    return weight * images + (1 - weight) * white + layer + layer.rot90(2, (2, 3))


def spatter(
    images: Tensor, drops: tuple[float, float, float, float, float, bool], generator: torch.Generator
) -> Tensor:
    """Spatter with water or mud: (mean, deviation, sigma, threshold, strength, mud).

    There is liquid wherever smooth noise is above the threshold: pale turquoise water with bright edges, or opaque
    brown mud whose edge is blurred by `strength` pixels.
    """
    mean, deviation, sigma, threshold, strength, mud = drops
    layer = _layer(images, mean, deviation, sigma, generator)
    layer = torch.where(layer < threshold, 0.0, layer)
    colour = images.new_tensor((63, 42, 20) if mud else (175, 238, 238)) / 255
    if images.shape[1] == 1:
        colour = (colour * colour.new_tensor(LUMINANCE)).sum()[None]
    colour = colour[:, None, None]
    if mud:
        cover = filters.gaussian_smooth((layer > threshold).to(images.dtype), strength * _scale(images))
        cover = torch.where(cover < 0.8, 0.0, cover)
        return images * (1 - cover) + cover * colour
    levels = torch.floor(layer.clamp(0, 1) * 255)
    mean3 = torch.full((3, 3), 1 / 9)
    away = filters.distance_to(filters.canny_edges(levels, 50, 150), 20)
    away = filters.equalize(torch.floor(filters.correlate(away, mean3, "mirror")))
    relief = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    away = filters.correlate(away, relief, "mirror").round().clamp(0, 255)
    wet = levels * filters.correlate(away, mean3, "mirror")
    wet = strength * wet / wet.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return images + wet * colour


def contrast(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Multiply the distance of every value from the mean of its channel by `factor`."""
    means = images.mean(dim=(2, 3), keepdim=True)
    return (images - means) * factor + means


def brightness(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Add `amount` to the value of HSV (the largest channel); hue and saturation stay the same."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + amount).clamp(0, 1)
    return torch.where(value > 0, images * brighter / value.clamp_min(1e-12), brighter)


def saturate(images: Tensor, change: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Multiply the saturation of HSV, then add to it: (factor, summand). Grey images stay the same.

    By the convention of HSV, a grey pixel of a colour image has the hue red, so a summand tints it.
    """
    if images.shape[1] == 1:
        return images
    factor, summand = change
    value = images.amax(dim=1, keepdim=True)
    away = value - images
    saturation = away.amax(dim=1, keepdim=True) / value.clamp_min(1e-12)
    wanted = (saturation * factor + summand).clamp(0, 1)
    red = images.new_tensor((0.0, 1.0, 1.0))[:, None, None] * value
    direction = torch.where(saturation > 0, away / saturation.clamp_min(1e-12), red)
    return value - wanted * direction


def jpeg_compression(images: Tensor, quality: int, generator: torch.Generator) -> Tensor:
    """Compress as JPEG at this quality (1 to 100) and read it back."""
    from PIL import Image

    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    read = []
    for level in levels:
        file = io.BytesIO()
        Image.fromarray(level[..., 0] if level.shape[2] == 1 else level).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            read.append(np.asarray(image).reshape(level.shape))
    return (torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).to(images.dtype) / 255).to(images.device)


def pixelate(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Shrink to `factor` of the size and enlarge again, both with box filters."""
    height, width = images.shape[-2:]
    small = filters.resize_boxes(images, max(1, int(height * factor)), max(1, int(width * factor)))
    return filters.resize_boxes(small, height, width)


def elastic_transform(images: Tensor, shares: tuple[float, float, float], generator: torch.Generator) -> Tensor:
    """Distort like rubber: (strength, smoothness, shift of three points), as shares of the image's side.

    An affine map moves three points by up to the shift; then every pixel gets a smooth random displacement.
    """
    count, _, height, width = images.shape
    side = min(height, width)
    strength, sigma, shift = (share * side for share in shares)
    middle = torch.tensor([height // 2, width // 2], dtype=torch.float32)
    square = side // 3
    points = torch.stack(
        [middle + square, torch.stack([middle[0] + square, middle[1] - square]), middle - square]
    ).expand(count, 3, 2)
    moved = points + _uniform((count, 3, 2), -shift, shift, generator)
    ones = torch.ones(count, 3, 1)
    back = torch.linalg.solve(torch.cat([moved, ones], dim=2), points)  # (batch, 3, 2): new (x, y, 1) to old (x, y)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(torch.float32)
    old = torch.einsum("hwi,bij->bhwj", grid, back).to(images.device)
    images = filters.sample(images, old[..., 1], old[..., 0], "mirror")
    away = _uniform((count, 2, height, width), -1, 1, generator)
    away = (strength * filters.gaussian_smooth(away, sigma, truncate=3.0, border="symmetric")).to(images.device)
    return filters.sample(images, y.to(away) + away[:, 1], x.to(away) + away[:, 0], "symmetric")


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind: its function, its parameters at severities 1 to 5, and whether it only imitates the published one."""

    make: Callable[[Tensor, Any, torch.Generator], Tensor]
    parameters: tuple[Any, Any, Any, Any, Any]
    synthetic: bool = False


KINDS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": Corruption(motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Corruption(zoom_blur, (7, 12, 16, 21, 26)),
    "snow": Corruption(
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": Corruption(frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), synthetic=True),
    "fog": Corruption(fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        elastic_transform, ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    ),
    "pixelate": Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(jpeg_compression, (80, 65, 58, 50, 40)),
    "speckle_noise": Corruption(speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Corruption(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "spatter": Corruption(
        spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    ),
    "saturate": Corruption(saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
}
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # not part of the usual mean over 15 kinds


@torch.no_grad()
def corrupt(images: Tensor, kind: str, severity: int, generator: torch.Generator | None = None) -> Tensor:
    """Return the images with one corruption.

    Args:
        images: floats in [0, 1], (batch, 1 or 3 channels, height, width), any size; not changed.
        kind: a name in `KINDS`; the files of CIFAR-10-C have the same names.
        severity: 1 to 5.
        generator: the source of randomness, on the CPU; None means seed 0. Deterministic kinds ignore it.

    Returns:
        floats in [0, 1], of the images' shape, type and device.

    Raises:
        InputError: if the kind or severity is unknown, or `images` are not such images.

    Example:
        >>> images = torch.full((1, 3, 32, 32), 0.5)
        >>> round(corrupt(images, "brightness", 3)[0, 0, 0, 0].item(), 3)
        0.65

    Reference:
        Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
        ICLR 2019.
    """
    if kind not in KINDS:
        raise unknown_name("corruption", kind, KINDS)
    require_within("severity", severity, 1, 5)
    if images.dim() != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise InputError(
            f"images must be floats (batch, 1 or 3 channels, height, width), "
            f"got {dtype_name(images.dtype)} of shape {tuple(images.shape)}"
        )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    corruption = KINDS[kind]
    made = corruption.make(images.float(), corruption.parameters[severity - 1], generator)
    return made.clamp(0, 1).to(images.dtype)


def corruption_generator(seed: int, kind: str, severity: int, chunk: int) -> torch.Generator:
    """Return the generator for one chunk of test images: the same for every model, whatever else was drawn."""
    number = list(KINDS).index(kind) * len(SEVERITIES) + severity
    return derive_generator(seed, number, "evaluate", chunk)
