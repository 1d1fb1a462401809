"""A training for TensorBoard, as TensorBoard's own reader finds it."""

import io
import sys

import pytest
from PIL import Image

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.events import find_writer
from alexnet_cli.core.metrics import MetricsLog
from alexnet_cli.core.run_folder import RunFolder


def step_row(step: int) -> dict:
    """Return a row whose loss is its step."""
    return {
        "kind": "step",
        "step": step,
        "epoch": 1,
        "loss": float(step),
        "top1_error": 0.5,
        "learning_rate": 0.25,
        "data_wait": None,
    }


def read(folder: RunFolder):
    """Return all that TensorBoard sees in a run."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.events), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def scalars(events, tag: str) -> list[tuple[int, float]]:
    """Return a curve as steps and values."""
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_tensorboard_sees_rows_and_pictures(tmp_path):
    """Figures of steps, tests and weights have a chart each, what is null has none, and the picture comes back."""
    pytest.importorskip("tensorboard")
    folder = RunFolder(tmp_path)
    log = MetricsLog(folder, tensorboard=True)
    log.write(step_row(20))
    log.write({"kind": "epoch", "step": 30, "epoch": 1, "val_loss": 2.25, "val_top1_error": 0.75, "val_top5_error": 0.5})
    log.write(
        {"kind": "weights", "step": 30, "epoch": 1, "parameter": "fc6.weight", "mean_weight": 0.5, "mean_change": 1, "ratio": 2}
    )
    log.picture("conv1", Image.new("RGB", (5, 4), (10, 20, 30)), 30)
    log.close()
    events = read(folder)
    assert scalars(events, "loss/train") == [(20, 20)] and scalars(events, "error/train") == [(20, 0.5)]
    assert scalars(events, "error/val") == [(30, 0.75)] and scalars(events, "error/val_top5") == [(30, 0.5)]
    assert scalars(events, "ratio/fc6.weight") == [(30, 2)] and scalars(events, "learning_rate/weights") == [(20, 0.25)]
    assert "speed/data_wait" not in events.Tags()["scalars"]
    (picture,) = events.Images("conv1")
    image = Image.open(io.BytesIO(picture.encoded_image_string))
    assert picture.step == 30 and image.size == (5, 4) and image.getpixel((0, 0)) == (10, 20, 30)


def test_a_resumed_run_takes_back_later_events(tmp_path):
    """Events after the checkpoint's step are gone once the run goes on, those of the step itself remain."""
    pytest.importorskip("tensorboard")
    folder = RunFolder(tmp_path)
    log = MetricsLog(folder, tensorboard=True)
    for step in (1, 2):
        log.write(step_row(step))
    kept = log.length()
    log.write({**step_row(3), "loss": 99.0})
    log.close()
    log = MetricsLog(folder, kept, tensorboard=True, step=2)
    log.write(step_row(3))
    log.close()
    assert scalars(read(folder), "loss/train") == [(1, 1), (2, 2), (3, 3)]


def test_events_that_are_asked_for_later_begin_with_the_run(tmp_path):
    """A run that began without events has them all once it goes on with them."""
    pytest.importorskip("tensorboard")
    folder = RunFolder(tmp_path)
    log = MetricsLog(folder)
    log.write(step_row(1))
    log = MetricsLog(folder, log.length(), tensorboard=True, step=1)
    log.write(step_row(2))
    log.close()
    assert scalars(read(folder), "loss/train") == [(1, 1), (2, 2)]


def test_missing_tensorboard_names_the_remedy(monkeypatch):
    """Where TensorBoard is not installed, one line says how to install it."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(AlexNetError, match="not installed") as caught:
        find_writer()
    assert caught.value.hint == "pip install 'alexnet-cli[tensorboard]'"
