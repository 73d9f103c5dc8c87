"""Draw docs/corruptions.png: one picture under all corruptions, a row for each kind, a column for each severity.

Run from the root of the repository: python docs/contact_sheet.py. The picture is the portrait of Grace Hopper by James
S. Davis, US Navy, in the public domain, which comes with matplotlib; it is cut and shrunk to 32 x 32 pixels.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lure.errors import InputError
from lure.metrics.corruptions import KINDS, SEVERITIES, corrupt
from lure.report.plots import SETTINGS

BLOCKS = (tuple(KINDS)[:10], tuple(KINDS)[10:])


def plot_contact_sheet(image: Tensor, file: Path | str, seed: int = 0) -> None:
    """Draw one image under every corruption at every severity; what is synthetic is marked so.

    Args:
        image: floats in [0, 1], (1 or 3 channels, height, width).
        file: where to write; .png, .svg or .pdf.
        seed: of the random kinds.

    Raises:
        InputError: if the image does not fit, or the file cannot be written.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9.2, 6.4), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        for kinds, axes in zip(BLOCKS, figure.subplots(1, len(BLOCKS)), strict=True):
            sheet = torch.cat([row_of(image, kind, seed) for kind in kinds], dim=1).permute(1, 2, 0).squeeze(2)
            axes.imshow(
                sheet.numpy(),
                cmap="gray",
                vmin=0,
                vmax=1,
                interpolation="nearest",
                extent=(0.5, len(SEVERITIES) + 0.5, len(kinds) - 0.5, -0.5),
                aspect=image.shape[1] / image.shape[2],
            )
            names = [kind.replace("_", " ") + (" (synthetic)" if KINDS[kind].synthetic else "") for kind in kinds]
            axes.set_yticks(range(len(kinds)), names)
            axes.set_xticks(SEVERITIES)
            axes.set_ylim(max(map(len, BLOCKS)) - 0.5, -0.5)
            axes.tick_params(length=0, labelsize=8, top=False, labeltop=True, labelbottom=False)
            axes.spines[:].set_visible(False)
            axes.grid(False)
        try:
            figure.savefig(file, metadata={"Date": None} if str(file).endswith(".svg") else None)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot write the picture {file}: {error}") from None


def row_of(image: Tensor, kind: str, seed: int) -> Tensor:
    """Return the image at all severities side by side, with a white gap below and right of each."""
    pictures = []
    gap = max(1, round(0.04 * min(image.shape[1:])))
    for severity in SEVERITIES:
        made = corrupt(image[None], kind, severity, torch.Generator().manual_seed(seed))[0]
        pictures.append(torch.nn.functional.pad(made, (0, gap, 0, gap), value=1.0))
    return torch.cat(pictures, dim=2)


if __name__ == "__main__":
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as portrait:
        picture = np.array(portrait.convert("RGB").crop((60, 40, 460, 440)).resize((32, 32)))
    plot_contact_sheet(torch.from_numpy(picture).permute(2, 0, 1) / 255, "docs/corruptions.png")
