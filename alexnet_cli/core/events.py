"""A training for TensorBoard; the only file that imports it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_cli.core.errors import AlexNetError

if TYPE_CHECKING:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

# What TensorBoard calls the figures of a row; training and val share a chart's group, not a chart.
TAGS = {
    "loss": "loss/train",
    "val_loss": "loss/val",
    "top1_error": "error/train",
    "val_top1_error": "error/val",
    "val_top5_error": "error/val_top5",
    "learning_rate": "learning_rate/weights",
    "bias_learning_rate": "learning_rate/biases",
    "images_per_second": "speed/images_per_second",
    "data_wait": "speed/data_wait",
}


def find_writer() -> "type[SummaryWriter]":
    """Return torch's writer of events. Raises AlexNetError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise AlexNetError(
            "--tensorboard needs TensorBoard, which is not installed", hint="pip install 'alexnet-cli[tensorboard]'"
        ) from error
    return SummaryWriter


class Events:
    """Files of events in a folder.

    step: steps made at the start; what an interrupted run has written of later ones is hidden. rows: those of the log so far,
    which go into the events too where there are none yet.
    """

    def __init__(self, folder: Path, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        is_new = not any(folder.glob("events.out.tfevents.*"))
        self._writer = find_writer()(str(folder), purge_step=None if is_new else step + 1)
        for row in rows if is_new else ():
            self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add the figures of a row of the log."""
        for name, tag in TAGS.items():
            if row.get(name) is not None:
                self._writer.add_scalar(tag, row[name], row["step"])
        if row["kind"] == "weights":
            for name in ("mean_weight", "mean_change", "ratio"):
                self._writer.add_scalar(f"{name}/{row['parameter']}", row[name], row["step"])

    def picture(self, name: str, image: "Image.Image", step: int) -> None:
        """Add a picture."""
        self._writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is still held back."""
        self._writer.close()
