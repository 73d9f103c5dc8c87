"""The picture of all corruptions in the documentation, drawn by docs/contact_sheet.py."""

import importlib.util
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from lure.errors import InputError
from lure.metrics import corrupt
from lure.metrics.corruptions import KINDS

FILE = Path(__file__).parents[1] / "docs" / "contact_sheet.py"
spec = importlib.util.spec_from_file_location("contact_sheet", FILE)
assert spec is not None
assert spec.loader is not None
contact_sheet = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contact_sheet)


def picture(channels=3):
    return torch.linspace(0, 1, 32 * 32).view(1, 32, 32).expand(channels, -1, -1)


def test_every_kind_has_a_name(tmp_path):
    contact_sheet.plot_contact_sheet(picture(), tmp_path / "sheet.svg")
    text = (tmp_path / "sheet.svg").read_text()
    for kind in KINDS:
        assert f">{kind.replace('_', ' ')}{' (synthetic)' if kind == 'frost' else ''}<" in text


def test_grey_images_are_drawn_grey(tmp_path):
    contact_sheet.plot_contact_sheet(picture(1), tmp_path / "sheet.png")
    pixels = matplotlib.image.imread(tmp_path / "sheet.png")[..., :3]
    assert float(np.ptp(pixels, axis=2).max()) < 0.01
    assert 0.2 < float(pixels.mean()) < 0.95


def test_each_severity_has_its_picture():
    image = picture()
    row = contact_sheet.row_of(image, "contrast", seed=0)
    for place, severity in enumerate((1, 2, 3, 4, 5)):
        expected = corrupt(image[None], "contrast", severity)[0]
        assert torch.equal(row[:, :32, 33 * place : 33 * place + 32], expected)


def test_what_cannot_be_drawn_or_written_is_refused(tmp_path):
    with pytest.raises(InputError, match="1 or 3 channels"):
        contact_sheet.plot_contact_sheet(torch.zeros(2, 8, 8), tmp_path / "sheet.png")
    with pytest.raises(InputError, match="cannot write the picture"):
        contact_sheet.plot_contact_sheet(picture(), tmp_path / "nowhere" / "sheet.png")
