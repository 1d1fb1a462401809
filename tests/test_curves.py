"""Curves out of the logs of runs."""

import json

import numpy as np
import pytest

from alexnet_cli.core.curves import Curve, find_run, read_curves
from alexnet_cli.core.errors import RunError
from alexnet_cli.core.run_folder import RunFolder


def make_run(path, rows, *, ending: str = "") -> RunFolder:
    """Write a log with these rows."""
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + ending)
    return RunFolder(path)


def step_row(step: int, loss: float) -> dict:
    """Return a step's row."""
    return {"kind": "step", "step": step, "epoch": 1 + (step - 1) // 4, "loss": loss, "top1_error": loss / 10}


def epoch_row(epoch: int, step: int, loss: float) -> dict:
    """Return an epoch's row."""
    return {"kind": "epoch", "step": step, "epoch": epoch, "val_loss": loss, "val_top1_error": 0.5, "val_top5_error": 0.25}


def points(curve: Curve) -> list[tuple[float, float]]:
    """Return a curve as pairs."""
    return list(zip(curve.steps_N.tolist(), curve.values_N.tolist(), strict=True))


def test_each_figure_from_its_rows(tmp_path):
    """Training comes from steps, validation from epochs; other rows and an unfinished last one do not count."""
    weights = {"kind": "weights", "step": 4, "epoch": 1, "parameter": "conv1.weight", "ratio": 1}
    folder = make_run(tmp_path / "a", [step_row(2, 5.0), step_row(4, 3.0), weights, epoch_row(1, 4, 4.0)], ending='{"kind": "step"')
    loss, error, top5 = (read_curves(folder, what) for what in ("loss", "error", "top5"))
    assert (points(loss.train), points(loss.val)) == ([(2, 5), (4, 3)], [(4, 4)])
    assert (points(error.train), points(error.val)) == ([(2, 0.5), (4, 0.3)], [(4, 0.5)])
    assert (points(top5.train), points(top5.val)) == ([], [(4, 0.25)])
    assert loss.name == "a" and loss.steps_per_epoch == 4


def test_an_epoch_has_no_length_before_its_end(tmp_path):
    """Neither a first epoch under way nor the test of a run stopped in it tells how many steps an epoch has."""
    folder = make_run(tmp_path / "a", [step_row(2, 5.0), epoch_row(0, 3, 4.0)])
    found = read_curves(folder, "loss")
    assert found.steps_per_epoch is None and points(found.val) == [(3, 4)]


def test_long_curves_become_means_of_equal_parts():
    """Six values in three bins of equally many steps are three means, of steps and of values; short curves stay."""
    curve = Curve(np.array([0.0, 1, 2, 3, 8, 9]), np.array([1.0, 3, 5, 5, 7, 9]))
    assert points(curve.binned(3)) == [(1, 3), (3, 5), (8.5, 8)]
    assert curve.binned(6) is curve


def test_runs_are_found_by_name_folder_and_link(tmp_path):
    """A name in the folder of runs, a path, and latest all lead to the run under its own name."""
    make_run(tmp_path / "runs" / "a", [step_row(2, 5.0)])
    (tmp_path / "runs" / "latest").symlink_to("a")
    for name in ("a", "latest", str(tmp_path / "runs" / "a")):
        assert find_run(name, tmp_path / "runs").path == tmp_path / "runs" / "a"
    with pytest.raises(RunError, match="no run b in") as caught:
        find_run("b", tmp_path / "runs")
    assert caught.value.hint == "runs there: a"


def test_a_run_without_rows_says_what_to_wait_for(tmp_path):
    """A log without the figure that is asked for is an error with its remedy."""
    folder = make_run(tmp_path / "a", [step_row(2, 5.0)])
    with pytest.raises(RunError, match="has no row with val_top5_error") as caught:
        read_curves(folder, "top5")
    assert "first epoch" in caught.value.hint
    with pytest.raises(RunError, match="has no row with loss or val_loss"):
        read_curves(make_run(tmp_path / "b", []), "loss")
