import shutil

import numpy as np
import pytest
import torch
from miniatures import write_image, write_restricted_imagenet
from PIL import Image

from lure.data.sources import load_dataset
from lure.data.sources.restricted_imagenet import FOLDERS, GROUPS
from lure.errors import InputError


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_restricted_imagenet(tmp_path_factory.mktemp("imagenet"))


def test_the_fourteen_groups_have_their_classes():
    assert len(GROUPS) == 14
    assert len({folder for _, folder in FOLDERS}) == 69
    assert [sum(label == group for label, _ in FOLDERS) for group in range(14)] == [5] * 10 + [4] + [5] * 3


def test_a_tree_gives_its_sixty_nine_classes_and_ignores_others(tree):
    dataset = load_dataset("restricted-imagenet:size=8", tree)
    assert dataset.train.labels.tolist() == [label for label, _ in FOLDERS]
    assert dataset.train.input_shape == (3, 8, 8)
    assert len(dataset.test) == 69
    assert dataset.test[[0, 68]].inputs.dtype == torch.uint8
    assert dataset.class_names[7] == "big cat"
    assert dataset.mean == (0.485, 0.456, 0.406)
    assert load_dataset("restricted-imagenet", tree).train.input_shape == (3, 224, 224)
    assert len(load_dataset("restricted-imagenet", tree.parent).train) == 69


def test_missing_parts_and_classes_are_named(tree, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    shutil.rmtree(copy / "val" / "n02487347")
    (copy / "val" / "n13052670" / "n13052670_0.JPEG").unlink()
    with pytest.raises(InputError, match=r"lacks images of 2 of its 69 classes in .*val: n02487347, n13052670$"):
        load_dataset("restricted-imagenet", copy)
    shutil.rmtree(copy / "val")
    with pytest.raises(InputError, match=r"restricted-imagenet lacks .*val"):
        load_dataset("restricted-imagenet", copy)
    with pytest.raises(InputError, match="pass the folder that holds train and val"):
        load_dataset("restricted-imagenet")


def test_images_of_any_size_and_mode_get_one_shape(tree, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    write_image(copy / "train" / "n01530575" / "n01530575_0.JPEG", 3, (50, 9), "CMYK")
    write_image(copy / "train" / "n01531178" / "n01531178_0.JPEG", 3, (3, 90), "L")
    inputs = load_dataset("restricted-imagenet:size=8", copy).train[:3].inputs
    assert inputs.shape == (3, 3, 8, 8)
    assert torch.equal(inputs[1, 0], inputs[1, 2])


def test_test_images_are_the_central_crop(tmp_path):
    tree = write_restricted_imagenet(tmp_path)
    file = tree / "val" / FOLDERS[0][1] / f"{FOLDERS[0][1]}_0.JPEG"
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    tested = load_dataset("restricted-imagenet", tree).test[[0]].inputs[0]
    assert torch.equal(tested, torch.from_numpy(pixels).permute(2, 0, 1)[:, 16:240, 38:262])
