"""The log of one run: metrics.jsonl, metrics.csv with the same rows, and TensorBoard's events when asked for (no torch at its top).

metrics.jsonl is the log; the others are derived from it and can be made again.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_cli.core.errors import RunError
from alexnet_cli.core.files import error_number, sync, write_atomically, write_error
from alexnet_cli.core.run_folder import RunFolder

if TYPE_CHECKING:
    from PIL import Image

    from alexnet_cli.core.events import Events

# Of every kind of row; a file that programs read keeps its columns in their order.
COLUMNS = (
    "kind",
    "step",
    "epoch",
    "loss",
    "top1_error",
    "learning_rate",
    "bias_learning_rate",
    "images_per_second",
    "data_wait",
    "val_top1_error",
    "val_top5_error",
    "val_loss",
    "val_images",
    "val_seconds",
    "parameter",
    "mean_weight",
    "mean_change",
    "ratio",
)


class MetricsLog:
    """Takes the rows of a training: they are appended and never changed; a resumed run cuts off what came after its checkpoint.

    kept_bytes: how much of an existing log stays, 0 for a new one. tensorboard: write events too. step: steps made at the start;
    later events of an interrupted run are hidden. Raises AlexNetError where TensorBoard is not installed.
    """

    def __init__(self, folder: RunFolder, kept_bytes: int = 0, *, tensorboard: bool = False, step: int = 0) -> None:
        self._path, self._table = folder.metrics, folder.table
        self._path.touch()
        os.truncate(self._path, _whole_lines(self._path, kept_bytes))
        write_atomically(self._table, self._rewrite_table)
        self._events = self._open_events(folder, step) if tensorboard else None

    def _open_events(self, folder: RunFolder, step: int) -> "Events":
        from alexnet_cli.core.events import Events

        return Events(folder.events, step, read_rows(self._path))

    def _rewrite_table(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write(_csv_line(COLUMNS))
            file.writelines(_table_line(row) for row in read_rows(self._path))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row: of kind step, epoch or weights. Raises DiskFullError."""
        _append(self._path, json.dumps(row) + "\n")
        _append(self._table, _table_line(row))
        if self._events:
            self._events.write(row)

    @property
    def takes_pictures(self) -> bool:
        """Whether `picture` keeps what it is given: only TensorBoard's events can hold pictures."""
        return self._events is not None

    def picture(self, name: str, image: "Image.Image", step: int) -> None:
        """Add a picture to TensorBoard's events; nothing without them."""
        if self._events:
            self._events.picture(name, image, step)

    def length(self) -> int:
        """Return how many bytes the log has."""
        return self._path.stat().st_size

    def sync(self) -> None:
        """Wait until the log is on the disk."""
        sync(self._path)

    def close(self) -> None:
        """Write out what is still held back."""
        if self._events:
            self._events.close()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Pass on the rows of a log; an unfinished last line, as of a run that goes on, is left out. Raises RunError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise RunError(f"line {number} of {path} is {line[:40]!r}, expected one JSON object", hint="remove the line")
            yield row


def _whole_lines(path: Path, kept_bytes: int) -> int:
    """Return the length of the whole lines in a file's first bytes: a power cut may have taken a part of one."""
    with path.open("rb") as file:
        return file.read(kept_bytes).rfind(b"\n") + 1


def _table_line(row: Mapping[str, Any]) -> str:
    return _csv_line(["" if row.get(column) is None else row[column] for column in COLUMNS])


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise write_error(path, error_number(error) or 0) from error
