"""Curves as a picture."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.curves import Curve, RunCurves
from alexnet_cli.core.plot import draw_curves


def run_curves(name: str, *, steps_per_epoch: float | None = 10) -> RunCurves:
    """Return a run of three steps and two tests."""
    return RunCurves(
        name,
        Curve(np.array([5.0, 10, 20]), np.array([0.75, 0.5, 0.25])),
        Curve(np.array([10.0, 20]), np.array([0.5, 0.375])),
        steps_per_epoch,
    )


def lines(figure) -> list:
    """Return the curves of a figure as matplotlib has them."""
    return figure.axes[0].get_lines()


def test_one_run_is_black_and_red_over_epochs():
    """Training is black, validation red and held until the next test; errors are percentages, steps epochs."""
    pytest.importorskip("matplotlib")
    figure = draw_curves([run_curves("first")], "error")
    train, val = lines(figure)
    assert (train.get_color(), val.get_color(), val.get_drawstyle()) == ("black", "#d62728", "steps-post")
    assert train.get_xdata().tolist() == [0.5, 1, 2] and train.get_ydata().tolist() == [75, 50, 25]
    assert val.get_xdata().tolist() == [1, 2] and val.get_ydata().tolist() == [50, 37.5]
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("epoch", "top-1 error (%)", "first")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]


def test_several_runs_have_a_colour_each():
    """Both curves of a run share its colour, which no other run has; the legend names them."""
    pytest.importorskip("matplotlib")
    figure = draw_curves([run_curves("a"), run_curves("b")], "loss")
    colours = [line.get_color() for line in lines(figure)]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [line.get_label() for line in lines(figure)] == ["a, training", "a, validation", "b, training", "b, validation"]
    assert [line.is_dashed() for line in lines(figure)] == [True, False, True, False]
    assert lines(figure)[0].get_ydata().tolist() == [0.75, 0.5, 0.25]


def test_steps_where_an_epoch_has_no_length_yet():
    """One run in its first epoch puts all of them over steps."""
    pytest.importorskip("matplotlib")
    figure = draw_curves([run_curves("a"), run_curves("b", steps_per_epoch=None)], "error")
    assert figure.axes[0].get_xlabel() == "step" and lines(figure)[0].get_xdata().tolist() == [5, 10, 20]


def test_command_writes_a_picture(tmp_path):
    """`alexnet plot` names the PNG file that it wrote, in colours, whatever its ending."""
    pytest.importorskip("matplotlib")
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    rows = [{"kind": "step", "step": step, "epoch": 1, "loss": 1.0, "top1_error": 0.5} for step in (1, 2)]
    rows.append({"kind": "epoch", "step": 2, "epoch": 1, "val_loss": 1.0, "val_top1_error": 0.25, "val_top5_error": 0.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "curves.picture"
    result = CliRunner().invoke(app, ["plot", "a", "--runs", str(tmp_path / "runs"), "--out", str(out)])
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.size == (1080, 660)
        assert {(0, 0, 0), (214, 39, 40)} <= {colour for _, colour in picture.convert("RGB").getcolors(1080 * 660) or ()}


def test_missing_matplotlib_names_the_remedy(tmp_path, monkeypatch):
    """Where matplotlib is not installed, the command fails with one line and how to install it."""
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "loss": 1.0, "top1_error": 0.5}\n')
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    result = CliRunner().invoke(app, ["plot", "a", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "x.png")])
    assert result.exit_code == 1
    assert "curves are drawn by matplotlib, which is not installed" in result.stderr
    assert "pip install 'alexnet-cli[plot]'" in result.stderr and not (tmp_path / "x.png").exists()
