"""The log of a run, and what is derived from it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.core.errors import RunError
from alexnet_cli.core.metrics import MetricsLog, read_rows
from alexnet_cli.core.run_folder import RunFolder

STEP = {"kind": "step", "step": 20, "epoch": 1, "loss": 2.5, "top1_error": 0.5, "learning_rate": 0.01, "images_per_second": None}
EPOCH = {"kind": "epoch", "step": 30, "epoch": 1, "val_loss": 2.25, "val_top1_error": 0.25}
WEIGHTS = {
    "kind": "weights",
    "step": 30,
    "epoch": 1,
    "parameter": "fc6.weight",
    "mean_weight": 0.5,
    "mean_change": 0.25,
    "ratio": 0.5,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Return an empty run."""
    return RunFolder(tmp_path)


def table(folder: RunFolder) -> list[dict]:
    """Return metrics.csv as Python's own reader understands it, without empty cells."""
    with folder.table.open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def as_text(row: dict) -> dict:
    """Return a row as a table holds it."""
    return {key: str(value) for key, value in row.items() if value is not None}


def test_both_files_have_the_same_rows(folder):
    """Every kind of row is a line of JSON and a line of the table, under the same names."""
    log = MetricsLog(folder)
    for row in (STEP, EPOCH, WEIGHTS):
        log.write(row)
    assert [json.loads(line) for line in folder.metrics.read_text().splitlines()] == [STEP, EPOCH, WEIGHTS]
    assert table(folder) == [as_text(STEP), as_text(EPOCH), as_text(WEIGHTS)]
    log.sync()
    assert log.length() == len(folder.metrics.read_bytes())


def test_a_resumed_log_ends_where_its_checkpoint_was(folder):
    """What came after the checkpoint goes from both files, also where the table has run ahead or lost its end."""
    log = MetricsLog(folder)
    log.write(STEP)
    kept = log.length()
    log.write(EPOCH)
    folder.table.write_text(folder.table.read_text() + "step,99")
    MetricsLog(folder, kept).write(WEIGHTS)
    assert list(read_rows(folder.metrics)) == [STEP, WEIGHTS]
    assert table(folder) == [as_text(STEP), as_text(WEIGHTS)]


def test_a_new_log_forgets_an_old_one(folder):
    """A run that never reached a checkpoint starts with empty files."""
    MetricsLog(folder).write(STEP)
    MetricsLog(folder)
    assert folder.metrics.read_bytes() == b"" and table(folder) == []


def test_half_a_row_is_cut_off(folder):
    """A power cut in the middle of a row costs that row alone: the next one stands on a line of its own."""
    log = MetricsLog(folder)
    log.write(STEP)
    log.write(EPOCH)
    length = log.length()
    with folder.metrics.open("r+b") as file:
        file.truncate(length - 5)
    MetricsLog(folder, length).write(WEIGHTS)
    assert list(read_rows(folder.metrics)) == [STEP, WEIGHTS]


def test_damaged_rows_are_named(folder):
    """An unfinished last line is left out; a line within that is no object is an error with its number."""
    folder.metrics.write_text(json.dumps(STEP) + '\n{"kind": "st')
    assert list(read_rows(folder.metrics)) == [STEP]
    folder.metrics.write_text(json.dumps(STEP) + "\n[1]\n" + json.dumps(STEP) + "\n")
    with pytest.raises(RunError, match=r"line 2 of .* expected one JSON object"):
        list(read_rows(folder.metrics))


def test_without_tensorboard_pictures_are_not_kept(folder):
    """A log without events takes no pictures, and leaves no folder of events."""
    log = MetricsLog(folder)
    log.picture("conv1", Image.new("RGB", (2, 2)), 1)
    log.close()
    assert not log.takes_pictures and not folder.events.exists()
    assert np.all([path.suffix in (".csv", ".jsonl") for path in folder.path.iterdir()])
