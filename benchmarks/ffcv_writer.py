"""Writes a folder of pictures with FFCV's DatasetWriter and prints the seconds. Run by the Python of an environment with ffcv.

usage: python benchmarks/ffcv_writer.py FOLDER OUTPUT WORKERS
"""

import sys
import time
from pathlib import Path

from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
from PIL import Image

LONGER_SIDE = 342  # FFCV limits the longer side: of 500x375 this leaves a shorter one of 256


class Pictures:
    """The files of class folders, in the form that FFCV reads."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(root.rglob("*.JPEG"))
        names = sorted({path.parent.name for path in self.paths})
        self.labels = {name: label for label, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path = self.paths[index]
        return Image.open(path).convert("RGB"), self.labels[path.parent.name]


if __name__ == "__main__":
    pictures = Pictures(Path(sys.argv[1]))
    began = time.perf_counter()
    image = RGBImageField(write_mode="jpg", max_resolution=LONGER_SIDE, jpeg_quality=95)
    writer = DatasetWriter(sys.argv[2], {"image": image, "label": IntField()}, num_workers=int(sys.argv[3]))
    writer.from_indexed_dataset(pictures)
    print("\n", time.perf_counter() - began)
