import math

import pytest
import torch
from scipy import ndimage

from lure.metrics.corruptions import filters


def random_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("border", "name"), [("nearest", "nearest"), ("mirror", "mirror"), ("symmetric", "reflect")])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.4, 4.0), (2.0, 4.0), (6.4, 3.0)])
def test_smoothing_is_that_of_scipy(border, name, sigma, truncate):
    images = random_images(2, 3, 9, 12)
    ours = filters.gaussian_smooth(images, sigma, truncate, border)
    for image, smooth in zip(images.flatten(0, 1), ours.flatten(0, 1), strict=True):
        expected = ndimage.gaussian_filter(image.numpy(), sigma, truncate=truncate, mode=name)
        assert torch.allclose(smooth, torch.from_numpy(expected), atol=1e-5)


def test_zoom_is_that_of_scipy():
    image = random_images(1, 1, 32, 32)
    for factor in (1.03, 1.11, 1.25, 2.25):
        inner = math.ceil(32 / factor)
        top = (32 - inner) // 2
        grown = ndimage.zoom(image[0, 0, top : top + inner, top : top + inner].numpy(), factor, order=1)
        edge = (grown.shape[0] - 32) // 2
        expected = torch.from_numpy(grown[edge : edge + 32, edge : edge + 32])
        assert torch.allclose(filters.zoom_in(image, factor)[0, 0], expected, atol=1e-4)


def test_sampling_between_pixels_is_that_of_scipy():
    image = random_images(1, 1, 8, 10)
    y, x = random_images(1, 5, 6, seed=1) * 14 - 3, random_images(1, 5, 6, seed=2) * 16 - 3
    for border, name in (("symmetric", "reflect"), ("mirror", "mirror"), ("nearest", "nearest")):
        expected = ndimage.map_coordinates(image[0, 0].numpy(), [y[0].numpy(), x[0].numpy()], order=1, mode=name)
        assert torch.allclose(filters.sample(image, y, x, border)[0, 0], torch.from_numpy(expected), atol=1e-5)


def test_distances_are_those_of_scipy():
    marked = random_images(3, 1, 20, 17) < 0.02
    marked[2] = False
    ours = filters.distance_to(marked, 9)
    for image, distance in zip(marked[:2, 0], ours[:2, 0], strict=True):
        expected = torch.from_numpy(ndimage.distance_transform_edt(~image.numpy())).clamp_max(9)
        assert torch.allclose(distance, expected.float())
    assert (ours[2] == 9).all()


def test_a_moved_image_repeats_its_edge():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    moved = filters.move(image, torch.tensor([1]), torch.tensor([-1]))
    assert moved[0, 0].tolist() == [[3, 3, 4], [3, 3, 4]]


def test_smearing_keeps_brightness_and_has_one_direction():
    image = torch.zeros(2, 1, 9, 9)
    image[:, :, 4, 4] = 1
    smeared = filters.smear(image, 2, 1.5, torch.tensor([0.0, 90.0]))
    assert smeared.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])
    assert smeared[0, 0, 4, :5].min() > 0
    assert smeared[0, 0, 4, 5:].max() == 0
    assert smeared[1, 0, :5, 4].min() > 0


def test_clouds_fill_the_range_and_differ():
    clouds = filters.plasma(3, 32, 2.0, torch.Generator().manual_seed(0))
    assert clouds.shape == (3, 32, 32)
    assert clouds.amin(dim=(1, 2)).tolist() == [0, 0, 0]
    assert clouds.amax(dim=(1, 2)).tolist() == [1, 1, 1]
    assert not torch.equal(clouds[0], clouds[1])


def test_a_higher_decay_makes_smoother_clouds():
    rough, smooth = (filters.plasma(20, 32, decay, torch.Generator().manual_seed(0)) for decay in (1.5, 3.0))
    assert smooth.diff(dim=1).abs().mean() < 0.7 * rough.diff(dim=1).abs().mean()


def test_equalizing_flattens_the_histogram():
    levels = torch.floor(random_images(2, 1, 40, 40) ** 1.5 * 255)
    flat = filters.equalize(levels)
    assert flat.amin() == 0
    assert flat.amax() == 255
    assert 115 < flat.mean() < 140
    assert filters.equalize(torch.full((1, 1, 4, 4), 7.0)).unique().tolist() == [7]


def test_edges_of_a_square_are_its_outline():
    levels = torch.zeros(1, 1, 12, 12)
    levels[..., 4:8, 4:8] = 200
    edges = filters.canny_edges(levels, 50, 150)[0, 0]
    assert edges.sum() > 0
    assert not edges[5:7, 5:7].any()
    assert not edges[:3].any()
    assert not edges[9:].any()


def test_weak_edges_count_only_if_connected_to_strong_ones():
    levels = torch.zeros(2, 1, 12, 24)
    levels[0, :, 6:, :12] = 60
    levels[0, :, 6:, 12:] = 25
    levels[1, :, 6:] = 25
    joined, alone = filters.canny_edges(levels, 80, 200)[:, 0]
    assert joined[:, 14:22].any()
    assert not alone.any()
