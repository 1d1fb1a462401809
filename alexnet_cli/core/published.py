"""What was published about ILSVRC-2012's validation images, to stand beside one's own result. It must not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from alexnet_cli.core.imagenet import NUM_CLASSES, WNID


@dataclass(frozen=True)
class Published:
    """A result: whose, top-1 and top-5 error (0-1), views of each image."""

    name: str
    top1_error: float
    top5_error: float
    crops: int


ROWS = (
    Published("paper, 1 CNN", 0.407, 0.182, 10),  # P table 2
    Published("paper, 5 CNNs", 0.381, 0.164, 10),
    Published("paper, 1 CNN* (pre-trained)", 0.390, 0.166, 10),
    Published("paper, 7 CNNs*", 0.367, 0.154, 10),
    Published("Caffe's bvlc_alexnet", 0.429, 0.198, 1),  # its model card: 57.1 and 80.2 % right, centre crop
    Published("cuda-convnet2, one GPU", 0.4042, 0.1815, 10),  # its wiki's training example
    Published("cuda-convnet2, one GPU", 0.4255, 0.1981, 1),
)


def is_ilsvrc2012_val(classes: Sequence[str], splits: Sequence[str]) -> bool:
    """Say whether these are the challenge's 1,000 classes, tested on val alone."""
    return tuple(splits) == ("val",) and len(classes) == NUM_CLASSES and all(WNID.fullmatch(name) for name in classes)


def published_rows(crops: int) -> list[Published]:
    """Return the results that were measured with so many views."""
    return [row for row in ROWS if row.crops == (1 if crops == 1 else 10)]
