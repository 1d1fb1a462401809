"""The 1,797 handwritten digits that scikit-learn ships, as class folders of pictures (no torch).

They are real (UCI, 1998: the 13 writers of its test part), need no download, and are few enough to train the whole network
on in minutes.
"""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.recipe import STORED_SIZE
from alexnet_cli.core.reports import Reporter

NUM_VAL = 397
INK = 16  # the digits' values run from 0, the ground, to 16
SPLIT_SEED = 0  # fixed: whatever seed trains, the same digits are held out


def lay_out_digits(folder: Path, reporter: Reporter | None = None) -> None:
    """Write the digits as folder/train/0 to 9 (1,400 pictures) and folder/val/0 to 9 (397), grey PNG of 256x256.

    They are split with the same share of every class. A finished folder is left as it is; an interrupted one is not seen, as
    the folder gets its name last. Raises AlexNetError when scikit-learn is not installed.
    """
    if folder.is_dir():
        return
    reporter = reporter or Reporter()
    images, labels, held_out = _load_digits()
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    reporter.start("digits", len(images), "pictures")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = partial / ("val" if index in held_out else "train") / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        enlarge(image).save(path, compress_level=1)
        reporter.advance()
    reporter.finish()
    partial.rename(folder)


def enlarge(digit_HW: NDArray[np.float64]) -> Image.Image:
    """Enlarge a digit smoothly, white on black. digit_HW: 0-16, (8, 8). Returns a grey picture of 256x256."""
    grey = np.rint(digit_HW * (255 / INK)).astype(np.uint8)
    return Image.fromarray(grey).resize((STORED_SIZE, STORED_SIZE), Image.Resampling.BICUBIC)


def _load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64], frozenset[int]]:
    """Return images (N, 8, 8), labels (N,) and the positions that are held out."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise AlexNetError(
            "the demo's digits come with scikit-learn, which is not installed",
            hint="install the demo's packages: pip install 'alexnet-cli[demo]', or use `make demo`",
        ) from error
    digits = load_digits()
    positions = np.arange(len(digits.target))
    _, held_out = train_test_split(positions, test_size=NUM_VAL, stratify=digits.target, random_state=SPLIT_SEED)
    return digits.images, digits.target, frozenset(held_out.tolist())
