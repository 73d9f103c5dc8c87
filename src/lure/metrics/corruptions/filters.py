"""Image filters on batches, for the corruptions: blurs, zooms, sampling between pixels, clouds.

They match the tools that made the published corruptions (SciPy, scikit-image, OpenCV, ImageMagick, Pillow), borders
included, so equal parameters give equal images. Images are (batch, channels, height, width); unless a docstring says
otherwise, a filter returns a new tensor of that shape.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# How a row continues beyond its ends. For a b c d: nearest aa|abcd|dd; mirror cb|abcd|cb; symmetric ba|abcd|dc.
Border = Literal["nearest", "mirror", "symmetric"]


def border_index(index: Tensor, size: int, border: Border) -> Tensor:
    """Map positions that may be outside a row of this size to the positions inside whose values they get.

    Example:
        >>> row = torch.arange(-2, 6)
        >>> border_index(row, 4, "mirror").tolist(), border_index(row, 4, "symmetric").tolist()
        ([2, 1, 0, 1, 2, 3, 2, 1], [1, 0, 0, 1, 2, 3, 3, 2])
    """
    if border == "nearest" or size == 1:
        return index.clamp(0, size - 1)
    period = 2 * (size - 1) if border == "mirror" else 2 * size
    index = index % period
    return torch.minimum(index, (period if border == "mirror" else period - 1) - index)


def extend(images: Tensor, rows: int, columns: int, border: Border) -> Tensor:
    """Return the images extended by `rows` above and below and by `columns` on the left and right."""
    height, width = images.shape[-2:]
    down = border_index(torch.arange(-rows, height + rows, device=images.device), height, border)
    across = border_index(torch.arange(-columns, width + columns, device=images.device), width, border)
    return images[..., down, :][..., across]


def correlate(images: Tensor, kernel: Tensor, border: Border) -> Tensor:
    """Return each channel correlated with the same kernel (odd height, odd width)."""
    wide = extend(images, kernel.shape[0] // 2, kernel.shape[1] // 2, border)
    channels = images.shape[1]
    weights = kernel.to(images).expand(channels, 1, *kernel.shape)
    return F.conv2d(wide, weights, groups=channels)


def gaussian_weights(sigma: float, radius: int) -> Tensor:
    """Return 2 * radius + 1 weights of a Gaussian, float64, which sum to 1."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def gaussian_smooth(images: Tensor, sigma: float, truncate: float = 4.0, border: Border = "nearest") -> Tensor:
    """Return the images smoothed with a Gaussian, as by SciPy and scikit-image.

    Args:
        images: (batch, channels, height, width).
        sigma: standard deviation in pixels; 0 changes nothing.
        truncate: radius of the kernel, in standard deviations.
        border: how the images continue beyond their edges.
    """
    radius = int(truncate * sigma + 0.5)
    if sigma == 0 or radius == 0:
        return images
    weights = gaussian_weights(sigma, radius)
    return correlate(correlate(images, weights[:, None], border), weights[None, :], border)


def disk_kernel(radius: float, alias_blur: float) -> Tensor:
    """Return a disk (odd size, float64), its edge blurred with a Gaussian of 3 x 3, or 5 x 5 for a radius above 8."""
    reach = math.floor(radius)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    disk = (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).double()
    soft = gaussian_weights(alias_blur, 1 if radius <= 8 else 2)
    width = len(soft) // 2
    wide = F.pad(disk / disk.sum(), (2 * width,) * 4)
    return F.conv2d(wide[None, None], (soft[:, None] * soft[None, :])[None, None])[0, 0]


def smear(images: Tensor, radius: float, sigma: float, angles: Tensor) -> Tensor:
    """Return the images blurred along one direction each, as by ImageMagick's motion blur.

    The pixels on one side along the direction are weighted by half a Gaussian; positions are rounded to whole pixels.

    Args:
        images: (batch, channels, height, width).
        radius: the blur reaches 2 * radius pixels.
        sigma: standard deviation of the half Gaussian, in pixels.
        angles: (batch,) degrees, clockwise from the right.
    """
    width = 2 * math.ceil(radius) + 1
    weights = torch.exp(-0.5 * (torch.arange(width, dtype=torch.float64) / sigma) ** 2)
    weights = weights / weights.sum()
    radians = torch.deg2rad(angles.double())
    down, across = torch.sin(radians), torch.cos(radians)
    result = torch.zeros_like(images)
    for step, weight in enumerate(weights.tolist()):
        moved = move(images, torch.ceil(step * down - 0.5).long(), torch.ceil(step * across - 0.5).long())
        result += weight * moved
    return result


def move(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return images whose pixel (y, x) is the old pixel (y + down, x + across); edges are repeated.

    Args:
        images: (batch, channels, height, width).
        down: int64 (batch,), or (batch, height, width) for one shift per pixel.
        across: as `down`.
    """
    count, _, height, width = images.shape
    down, across = (
        shift.to(images.device).reshape(count, 1, 1) if shift.dim() == 1 else shift.to(images.device)
        for shift in (down, across)
    )
    y = border_index(torch.arange(height, device=images.device)[None, :, None] + down, height, "nearest")
    x = border_index(torch.arange(width, device=images.device)[None, None, :] + across, width, "nearest")
    return pick(images, y, x)


def pick(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Return the pixels at rows `y` and columns `x`, int64 and broadcastable to (batch, height, width)."""
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[which, y, x].permute(0, 3, 1, 2)


def sample(images: Tensor, y: Tensor, x: Tensor, border: Border) -> Tensor:
    """Return the images sampled between pixels, by bilinear interpolation.

    Args:
        images: (batch, channels, height, width).
        y: row of each new pixel in the old image, floats (batch, height, width).
        x: column of each new pixel.
        border: how the images continue beyond their edges.
    """
    height, width = images.shape[-2:]
    top, left = torch.floor(y), torch.floor(x)
    weight_y, weight_x = (y - top)[:, None].to(images.dtype), (x - left)[:, None].to(images.dtype)
    rows = [border_index(top.long() + step, height, border) for step in (0, 1)]
    columns = [border_index(left.long() + step, width, border) for step in (0, 1)]
    upper, lower = (
        pick(images, row, columns[0]) * (1 - weight_x) + pick(images, row, columns[1]) * weight_x for row in rows
    )
    return upper * (1 - weight_y) + lower * weight_y


def zoom_in(images: Tensor, factor: float) -> Tensor:
    """Return the centre of the images, magnified by a factor of at least 1 to the old size."""
    height, width = images.shape[-2:]
    inner = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    cut = images[..., top : top + inner[0], left : left + inner[1]]
    larger = (round(inner[0] * factor), round(inner[1] * factor))
    grown = F.interpolate(cut, size=larger, mode="bilinear", align_corners=True)
    top, left = (larger[0] - height) // 2, (larger[1] - width) // 2
    return grown[..., top : top + height, left : left + width]


def resize_boxes(images: Tensor, height: int, width: int) -> Tensor:
    """Return the images resized with a box filter, as by Pillow: means when shrinking, repeats when enlarging.

    Values are rounded to multiples of 1/255 (halves up) after each direction; the horizontal one is first.
    """
    down, across = (
        _box_weights(old, new).to(images) for old, new in zip(images.shape[-2:], (height, width), strict=True)
    )
    levels = torch.floor(255 * images @ across.T + 0.5)
    return torch.floor(down @ levels + 0.5) / 255


def _box_weights(old: int, new: int) -> Tensor:
    scale = old / new
    reach = max(scale, 1.0)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * scale
    away = (torch.arange(old, dtype=torch.float64) + 0.5 - centres[:, None]) / reach
    weights = ((away > -0.5) & (away <= 0.5)).double()
    return weights / weights.sum(dim=1, keepdim=True)


def plasma(count: int, size: int, decay: float, generator: torch.Generator) -> Tensor:
    """Return clouds (count, size, size) in [0, 1], made by the diamond-square algorithm; they tile seamlessly.

    Args:
        count: number of clouds.
        size: pixels per side, a power of two.
        decay: how much weaker each finer level of detail is; above 1, and the higher, the smoother.
        generator: the source of randomness, on the CPU.
    """
    cloud = torch.zeros(count, size, size)
    step, swing = size, 100.0

    def settle(total: Tensor) -> Tensor:
        noise = 2 * torch.rand(total.shape, generator=generator) - 1
        return total / 4 + swing**2 * noise

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        square = corners + corners.roll(-1, 1)
        cloud[:, half::step, half::step] = settle(square + square.roll(-1, 2))
        centres = cloud[:, half::step, half::step]
        cloud[:, ::step, half::step] = settle(centres + centres.roll(1, 1) + corners + corners.roll(-1, 2))
        cloud[:, half::step, ::step] = settle(centres + centres.roll(1, 2) + corners + corners.roll(-1, 1))
        step, swing = half, swing / decay
    cloud -= cloud.amin(dim=(1, 2), keepdim=True)
    return cloud / cloud.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def distance_to(marked: Tensor, limit: int) -> Tensor:
    """Return the distance from each pixel to the nearest marked one, in pixels, at most `limit`; (batch, 1, H, W)."""
    far = float(limit**2)
    squares = torch.where(marked, 0.0, far)
    for dim in (2, 3):
        nearest = squares.clone()
        size = squares.shape[dim]
        for step in range(1, min(limit, size - 1) + 1):
            for one, other in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
                index = (slice(None),) * dim
                nearest[(*index, one)] = torch.minimum(nearest[(*index, one)], squares[(*index, other)] + step**2)
        squares = nearest
    return squares.sqrt()


def equalize(levels: Tensor) -> Tensor:
    """Return 8-bit levels (batch, 1, H, W; floats 0 to 255) with equalised histograms, as by OpenCV."""
    flat = levels.round().long().flatten(1)
    histogram = torch.zeros(len(flat), 256, device=levels.device).scatter_add_(1, flat, torch.ones_like(flat).float())
    below = histogram.cumsum(1)
    lowest = below.gather(1, flat.amin(dim=1, keepdim=True))
    table = (255 * (below - lowest) / (flat.shape[1] - lowest).clamp_min(1)).round().clamp(0, 255)
    uniform = lowest == flat.shape[1]
    return torch.where(uniform, flat.float(), table.gather(1, flat)).view_as(levels)


def canny_edges(levels: Tensor, low: float, high: float) -> Tensor:
    """Return the edges (bool) of 8-bit levels (batch, 1, H, W; floats 0 to 255), by Canny's method.

    The gradient is Sobel's, and its size |dx| + |dy|. The crest of each ridge is kept where it is above `high`, or
    above `low` and connected to such a place.
    """
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    across, down = correlate(levels, slope, "nearest"), correlate(levels, slope.T, "nearest")
    size = across.abs() + down.abs()
    wide = F.pad(size, (1, 1, 1, 1))
    height, width = levels.shape[-2:]

    def neighbour(y: int, x: int) -> Tensor:
        return wide[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width]

    flat, steep = down.abs() < 0.41421356 * across.abs(), down.abs() > 2.41421356 * across.abs()
    same_sign = across * down >= 0
    crest = torch.where(
        flat,
        (size > neighbour(0, -1)) & (size >= neighbour(0, 1)),
        torch.where(
            steep,
            (size > neighbour(-1, 0)) & (size >= neighbour(1, 0)),
            torch.where(
                same_sign,
                (size > neighbour(-1, -1)) & (size > neighbour(1, 1)),
                (size > neighbour(-1, 1)) & (size > neighbour(1, -1)),
            ),
        ),
    )
    weak, edges = crest & (size > low), crest & (size > high)
    while True:
        grown = weak & (F.max_pool2d(edges.float(), 3, stride=1, padding=1) > 0)
        if torch.equal(grown, edges):
            return edges
        edges = grown
