"""Draw docs/corruptions.png: one picture under all corruptions at all severities.

Run from the root of the repository: python docs/contact_sheet.py. The picture is the portrait of Grace Hopper by James
S. Davis, US Navy, in the public domain, which comes with matplotlib; it is cut and shrunk to 32 x 32 pixels.
"""

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from lure.report.contact_sheet import plot_contact_sheet

with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as portrait:
    picture = np.array(portrait.convert("RGB").crop((60, 40, 460, 440)).resize((32, 32)))
plot_contact_sheet(torch.from_numpy(picture).permute(2, 0, 1) / 255, "docs/corruptions.png")
