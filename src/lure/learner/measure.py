"""What a trained version is worth: its outputs on every set, read once."""

import sys
from importlib.metadata import version

import torch


def environment(device: torch.device) -> dict[str, str]:
    """Return the versions and the device that a stage was made with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"python": sys.version.split()[0], "torch": torch.__version__, "lure": version("lure-torch"), "device": name}
