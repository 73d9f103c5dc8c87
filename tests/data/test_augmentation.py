import pytest
import torch

from lure.data.augmentation import augment
from lure.errors import InputError


def images(count=16, channels=3, height=8, width=10):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def padded_crop(image, down, right, flip):
    """Pad by four, crop at one place, mirror: the batch version must give the same."""
    channels, height, width = image.shape
    canvas = torch.zeros(channels, height + 8, width + 8, dtype=torch.uint8)
    canvas[:, 4 : 4 + height, 4 : 4 + width] = image
    cut = canvas[:, down : down + height, right : right + width]
    return cut.flip(2) if flip else cut


@pytest.mark.parametrize("kind", ["crop", "crop-flip"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_crops_are_those_of_a_loop_over_images(kind, layout):
    batch = images().to(memory_format=layout)
    augmented = augment(batch, kind, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    downs, rights = torch.randint(0, 9, (2, 16, 1), generator=generator)
    flips = torch.rand(16, generator=generator) < 0.5 if kind == "crop-flip" else torch.zeros(16)
    for number in range(16):
        expected = padded_crop(batch[number], int(downs[number]), int(rights[number]), bool(flips[number]))
        assert torch.equal(augmented[number], expected)
    assert augmented.dtype == torch.uint8
    assert augmented.shape == batch.shape


@pytest.mark.parametrize(("kind", "expected"), [("crop", 81), ("crop-flip", 162)])
def test_every_place_is_drawn_about_equally_often(kind, expected):
    # The new place of the centre pixel shows the shift; a second pixel beside it shows the flip.
    image = torch.zeros(1, 1, 17, 17, dtype=torch.uint8)
    image[0, 0, 8, 8], image[0, 0, 8, 9] = 1, 2
    augmented = augment(image.expand(8100, -1, -1, -1), kind, torch.Generator().manual_seed(0))
    _, counts = torch.unique(augmented.flatten(1), dim=0, return_counts=True)
    assert len(counts) == expected
    mean = 8100 / expected
    assert abs(counts - mean).max() < 5 * mean**0.5


@pytest.mark.parametrize("kind", ["none", "crop", "crop-flip", "imagenet"])
def test_the_generator_decides_everything_and_inputs_are_not_changed(kind):
    batch = images()
    before = batch.clone()
    state = torch.get_rng_state()
    first, again, other = (augment(batch, kind, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (kind == "none")
    assert torch.equal(batch, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_imagenet_crops_are_parts_of_the_image_at_the_old_size():
    # One ramp in x and one in y: in any part, values rise evenly, or fall where the part is mirrored.
    ramp = torch.arange(64).mul(4).to(torch.uint8)
    batch = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)])[None].expand(200, -1, -1, -1)
    crops = augment(batch, "imagenet", torch.Generator().manual_seed(0))
    assert crops.shape == batch.shape
    assert crops.dtype == torch.uint8
    spans_x = crops[:, 0, 32, -3].float() - crops[:, 0, 32, 2].float()
    spans_y = crops[:, 1, -3, 32].float() - crops[:, 1, 2, 32].float()
    assert bool((spans_y > 0).all())
    assert 60 < int((spans_x < 0).sum()) < 140
    areas = (spans_x.abs() / (59 * 4)) * (spans_y / (59 * 4))
    assert 0.06 < float(areas.min()) < 0.15
    assert 0.85 < float(areas.max()) < 1.02
    aspects = spans_x.abs() / spans_y
    assert float(aspects.min()) > 0.7
    assert float(aspects.max()) < 1.4


def test_unusable_requests_are_refused():
    with pytest.raises(InputError, match="unknown augmentation 'flip-crop': did you mean 'crop'"):
        augment(images(), "flip-crop")
    with pytest.raises(InputError, match="needs uint8 images"):
        augment(images().float(), "crop")
    with pytest.raises(InputError, match="needs uint8 images"):
        augment(images()[0], "crop")
