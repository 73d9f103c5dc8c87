import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lure.errors import InputError
from lure.metrics.corruptions import EXTRA, KINDS, corrupt, corruption_generator, filters

# Some pixels (row, column) at each severity, made from the test card below by the CIFAR-10-C authors' script.
PUBLISHED = json.loads((Path(__file__).parent / "published_corruptions.json").read_text())
FIXED = (
    "gaussian_blur",
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "saturate",
    "jpeg_compression",
    "pixelate",
)
RANDOM = sorted(set(KINDS) - set(FIXED))


def card():
    """A test card of 32 x 32 pixels with ramps, edges and flat areas in three colours."""
    y, x = np.mgrid[0:32, 0:32]
    disk = ((x - 16) ** 2 + (y - 12) ** 2 < 90) * 180 + ((x // 4 + y // 4) % 2) * 60
    levels = np.stack([(x * 7 + y * 3) % 256, (x * x // 3 + y * 11) % 256, disk]).astype(np.uint8)
    return torch.from_numpy(levels)[None].float() / 255


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_there_are_fifteen_usual_and_four_extra_kinds():
    assert len(KINDS) == 19
    assert len(EXTRA) == 4


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", FIXED)
def test_deterministic_kinds_match_the_published_definition(kind, severity):
    made = 255 * corrupt(card(), kind, severity)[0]
    for (row, column), values in zip(PUBLISHED["pixels"], PUBLISHED[kind][severity - 1], strict=True):
        assert made[:, row, column].tolist() == pytest.approx(values, abs=1)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_motion_blur_matches_the_published_definition_at_a_known_angle(severity):
    radius, sigma = KINDS["motion_blur"].parameters[severity - 1]
    made = 255 * filters.smear(card(), radius, sigma, torch.tensor([27.0]))[0]
    for (row, column), values in zip(
        PUBLISHED["pixels"], PUBLISHED["motion_blur_27_degrees"][severity - 1], strict=True
    ):
        assert made[:, row, column].tolist() == pytest.approx(values, abs=1.01)


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 1, 28, 28), (2, 3, 20, 45), (1, 3, 96, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size_keeps_shape_type_and_range(kind, shape):
    images = torch.rand(shape, generator=generator(), dtype=torch.float64)
    before = images.clone()
    for severity in (1, 5):
        made = corrupt(images, kind, severity)
        assert made.shape == images.shape
        assert made.dtype == torch.float64
        assert torch.isfinite(made).all()
        assert made.min() >= 0
        assert made.max() <= 1
        assert torch.equal(images, before)
        if not (kind == "saturate" and shape[1] == 1):
            assert not torch.allclose(made, images)


def test_saturation_does_not_change_grey_images():
    images = torch.rand(2, 1, 8, 8, generator=generator())
    assert torch.equal(corrupt(images, "saturate", 5), images)


@pytest.mark.parametrize("kind", KINDS)
def test_black_and_white_images_give_finite_results(kind):
    images = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])
    assert torch.isfinite(corrupt(images, kind, 5)).all()


@pytest.mark.parametrize("kind", RANDOM)
def test_the_seed_decides_and_the_global_state_does_not(kind):
    images = card().expand(3, -1, -1, -1)
    state = torch.get_rng_state()
    first = corrupt(images, kind, 4, generator(1))
    torch.manual_seed(99)
    assert torch.equal(first, corrupt(images, kind, 4, generator(1)))
    assert torch.equal(corrupt(images, kind, 4), corrupt(images, kind, 4, generator(0)))
    assert not torch.equal(first, corrupt(images, kind, 4, generator(2)))
    assert not torch.equal(first[0], first[1])
    torch.set_rng_state(state)
    corrupt(images, kind, 4, generator(1))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "kind",
    sorted(set(KINDS) - {"elastic_transform", "frost", "glass_blur", "motion_blur", "pixelate", "saturate", "spatter"}),
)
def test_a_higher_severity_changes_the_image_more(kind):
    images = card().expand(20, -1, -1, -1)
    away = [float((corrupt(images, kind, severity) - images).abs().mean()) for severity in (1, 2, 3, 4, 5)]
    assert all(less < more for less, more in pairwise(away))


def test_noise_has_its_parameters():
    grey = torch.full((20, 3, 32, 32), 0.5)
    for severity, sigma in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1):
        assert float(corrupt(grey, "gaussian_noise", severity).std()) == pytest.approx(sigma, rel=0.03)
    for severity, photons in enumerate((500, 250, 100, 75, 50), 1):
        assert float(corrupt(grey, "shot_noise", severity).var()) == pytest.approx(0.5 / photons, rel=0.05)
    for severity, sigma in enumerate((0.06, 0.1, 0.12, 0.16, 0.2), 1):
        assert float(corrupt(grey, "speckle_noise", severity).std()) == pytest.approx(0.5 * sigma, rel=0.03)
    for severity, amount in enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1):
        made = corrupt(grey, "impulse_noise", severity)
        assert float((made == 1).float().mean()) == pytest.approx(amount / 2, rel=0.15)
        assert float((made == 0).float().mean()) == pytest.approx(amount / 2, rel=0.15)


def test_glass_blur_takes_pixels_from_above_and_left():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 10, 10] = 1
    seen = sum(corrupt(image, "glass_blur", 1, generator(seed))[0, 0] for seed in range(30))
    assert set(map(tuple, torch.nonzero(seen > 0.01).tolist())) == {(10, 10), (10, 11), (11, 10), (11, 11)}


def test_mud_covers_and_water_brightens():
    image = torch.full((20, 3, 32, 32), 0.3)
    assert float((corrupt(image, "spatter", 3) - image).min()) >= 0
    mud = corrupt(image, "spatter", 5)
    assert float((mud - image).max()) <= 0
    assert (mud[:, 0] < 0.299).float().mean() > 0.02


def test_blur_grows_with_the_image():
    small, large = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 128, 128)
    small[..., :16], large[..., :64] = 1, 1
    blurred = corrupt(large, "gaussian_blur", 5)[..., 2::4, 2::4]
    assert torch.allclose(corrupt(small, "gaussian_blur", 5), blurred, atol=0.08)
    assert float((corrupt(large, "gaussian_blur", 5) - large).abs().max()) > 0.4


def test_frost_is_marked_as_synthetic_and_nothing_else_is():
    assert [kind for kind, corruption in KINDS.items() if corruption.synthetic] == ["frost"]


def test_each_chunk_has_a_generator_of_its_own():
    numbers = {
        int(torch.randint(2**60, (), generator=corruption_generator(seed, kind, severity, chunk)))
        for seed in (0, 1)
        for kind in ("fog", "snow")
        for severity in (1, 2)
        for chunk in (0, 1)
    }
    assert len(numbers) == 16


@pytest.mark.parametrize(
    ("images", "kind", "severity", "message"),
    [
        (torch.zeros(1, 3, 8, 8), "gausian_noise", 1, "did you mean 'gaussian_noise'"),
        (torch.zeros(1, 3, 8, 8), "fog", 6, r"severity must lie in \[1, 5\], got 6"),
        (torch.zeros(1, 2, 8, 8), "fog", 1, "1 or 3 channels"),
        (torch.zeros(1, 3, 8), "fog", 1, "1 or 3 channels"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "fog", 1, "must be floats"),
    ],
)
def test_bad_requests_are_refused(images, kind, severity, message):
    with pytest.raises(InputError, match=message):
        corrupt(images, kind, severity)
