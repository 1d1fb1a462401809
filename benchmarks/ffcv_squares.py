"""Writes pictures of one size as FFCV's files, one of JPEG and one of raw pictures. Run by the Python of an environment with ffcv.

usage: python benchmarks/ffcv_squares.py ARRAY.npy JPEG_OUTPUT RAW_OUTPUT WORKERS
"""

import sys

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter


class Squares:
    """The pictures of an array (N, S, S, 3), uint8, RGB, in the form that FFCV reads."""

    def __init__(self, path: str) -> None:
        self.images_NHWC = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.images_NHWC)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.asarray(self.images_NHWC[index]), 0


if __name__ == "__main__":
    for output, mode in ((sys.argv[2], "proportion"), (sys.argv[3], "raw")):
        image = RGBImageField(write_mode=mode, compress_probability=1.0, jpeg_quality=95)
        writer = DatasetWriter(output, {"image": image, "label": IntField()}, num_workers=int(sys.argv[4]))
        writer.from_indexed_dataset(Squares(sys.argv[1]))
