"""A training for TensorBoard; the only file that imports it."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import error_number, write_error

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
OF_WEIGHTS = ("mean_weight", "mean_change", "ratio")  # a chart for each parameter


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
        self._folder = folder
        with self._writing():
            self._writer = find_writer()(str(folder), purge_step=None if is_new else step + 1)
        for row in rows if is_new else ():
            self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add the figures of a row of the log."""
        tags = {name: f"{name}/{row['parameter']}" for name in OF_WEIGHTS} if row["kind"] == "weights" else TAGS
        with self._writing():
            for name, tag in tags.items():
                if row.get(name) is not None:
                    self._writer.add_scalar(tag, row[name], row["step"])

    def picture(self, name: str, image: "Image.Image", step: int) -> None:
        """Add a picture."""
        with self._writing():
            self._writer.add_image(name, np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is still held back."""
        with self._writing():
            self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise DiskFullError where the disk refuses, which the writer's own thread finds and its next call raises."""
        try:
            yield
        except OSError as error:
            raise write_error(self._folder, error_number(error) or 0) from error
