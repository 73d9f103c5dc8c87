"""Make the embedded sample of Fashion-MNIST from the official files.

    python benchmarks/embed_sample.py FOLDER

The sample is the first 3,000 training images and the first 1,000 test images, with their labels.
"""

import argparse
from pathlib import Path

import numpy as np

from lure.data.sources import load_dataset

TARGET = Path(__file__).parents[1] / "src/lure/data/sources/fashion_mnist_sample.npz"


def main() -> None:
    """Read the official files, and write the sample into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the four official files")
    dataset = load_dataset("fashion-mnist", parser.parse_args().folder)
    arrays = {}
    for part, examples, count in (("train", dataset.train, 3000), ("test", dataset.test, 1000)):
        chosen = examples[:count]
        arrays[f"{part}_inputs"] = chosen.inputs.numpy()
        arrays[f"{part}_labels"] = chosen.labels.numpy().astype(np.uint8)
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
