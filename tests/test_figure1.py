"""The paper's figure 1: epochs to 25 % by hand, the choice of rates, what a repeated call does, and the picture."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.curves import first_epoch_at, training_errors
from alexnet_cli.core.errors import DataError, RunError
from alexnet_cli.core.figure1 import Figure1, Figure1Options, Learning, figure1
from alexnet_cli.core.plot import draw_training_errors
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import tiny
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.train import TrainOptions
from tests.pictures import prepared
from tests.test_train import Notes

COUNTS = {"train": {"cat": 9, "dog": 7}, "val": {"cat": 3, "dog": 2}}
runner = CliRunner()


pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared store of 16 and 5 photographs of 32x32."""
    return prepared(tmp_path_factory.mktemp("prepared"), COUNTS, size=32)


def narrow_tiny(**changes) -> Recipe:
    """Return the recipe with few channels; 16 pictures make two steps of 8."""
    return replace(tiny(), **{"channels": (4, 4, 4, 4), "batch_size": 8, "epochs": 4, **changes})


def options(data: Path, runs: Path, *rates: float, **changes) -> Figure1Options:
    """Return a small figure with these rates to choose from, after two epochs."""
    common = TrainOptions(data=data, runs=runs, device="cpu", precision="fp32", workers=1)
    return replace(Figure1Options(common, narrow_tiny(), {"relu": rates, "tanh": rates}, search_epochs=2), **changes)


def learning(reached: int | None) -> Learning:
    """Return a curve that came to 25 % in this epoch."""
    return Learning("relu", 0.1, "run", (0.5,), reached, {})


def write_log(path: Path, errors: list[float], first: int = 1) -> RunFolder:
    """Write a log with a row for each step, among rows of other kinds."""
    path.mkdir()
    rows: list[dict] = [{"kind": "step", "step": step, "epoch": 1, "top1_error": e} for step, e in enumerate(errors, start=first)]
    rows.insert(1, {"kind": "epoch", "step": 1, "epoch": 1, "val_top1_error": 1.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFolder(path)


def test_training_errors_by_hand(tmp_path):
    """Ten pictures in batches of 4, 4, 2: an epoch's error weighs the steps by their pictures; an unfinished epoch has none."""
    folder = write_log(tmp_path / "a", [1.0, 0.5, 0.0, 0.25, 0.25, 0.5, 0.75])
    assert training_errors(folder, 10, 4) == pytest.approx((0.6, 0.3))
    assert training_errors(RunFolder(tmp_path / "none"), 10, 4) == ()


def test_a_log_with_gaps_has_no_epochs(tmp_path):
    """A run that did not log every step is refused: its mean would not be that of the epoch."""
    with pytest.raises(RunError, match="does not have every step"):
        training_errors(write_log(tmp_path / "a", [0.5, 0.5], first=20), 10, 4)


def test_epochs_to_a_quarter_by_hand():
    """The first epoch at 25 % or below counts, whatever comes later; without one there is none, and no ratio."""
    assert first_epoch_at([0.75, 0.5, 0.25, 0.5], 0.25) == 3
    assert first_epoch_at([0.2], 0.25) == 1
    assert first_epoch_at([0.75, 0.2501], 0.25) is None
    assert Figure1((learning(2), learning(12))).ratio == 6
    assert Figure1((learning(2), learning(None))).ratio is None


def test_the_best_rate_goes_on_and_nothing_is_trained_twice(data, tmp_path):
    """Each rate is tried for two epochs and the one with the lower training error goes on to four; repeated, nothing happens."""
    first = figure1(options(data, tmp_path, 0.0005, 1e-9))  # with 1e-9 nothing is learned
    assert [(one.activation, one.learning_rate, len(one.errors)) for one in first.learnings] == [
        ("relu", 0.0005, 4),
        ("tanh", 0.0005, 4),
    ]
    steps = {path.parent.name: path.read_text().count('"kind": "step"') for path in tmp_path.glob("figure1-*/metrics.jsonl")}
    assert steps == {
        "figure1-relu-0.0005-0": 8,
        "figure1-tanh-0.0005-0": 8,
        "figure1-relu-1e-09-0": 4,
        "figure1-tanh-1e-09-0": 4,
    }
    for one in first.learnings:
        assert one.searched[0.0005] == one.errors[1]
    notes = Notes()
    assert figure1(options(data, tmp_path, 0.0005, 1e-9), notes) == first and notes.steps == 0
    assert any("the end of the rates tried" in line for line in notes.lines)


def test_only_the_activation_differs(data, tmp_path):
    """A given rate is not searched for; the runs' recipes differ in nothing but the activation, and nothing is regularised."""
    result = figure1(options(data, tmp_path, 0.001))
    assert [one.searched for one in result.learnings] == [{}, {}]
    recipes = [(tmp_path / one.run / "recipe.toml").read_text() for one in result.learnings]
    assert recipes[0].replace('"relu"', '"tanh"') == recipes[1] != recipes[0]
    assert "weight_decay = 0.0\n" in recipes[0] and "dropout = 0.0\n" in recipes[0] and "mirror = false\n" in recipes[0]


def test_a_rate_that_diverges_loses(data, tmp_path):
    """A loss that is no number counts as the worst; where all are, the command says so."""
    notes = Notes()
    wild = narrow_tiny(init_stdevs=(1.0,) * 5)
    result = figure1(options(data, tmp_path, 1e-9, 1e6, recipe=wild, rates={"relu": (1e-9, 1e6)}), notes)
    assert (result.learnings[0].learning_rate, result.learnings[0].searched[1e6]) == (1e-9, None)
    with pytest.raises(RunError, match="at every rate"):
        figure1(options(data, tmp_path, recipe=wild, rates={"relu": (1e6, 1e7)}))
    with pytest.raises(RunError, match=r"relu at 1e\+06: the loss is .* at step") as caught:
        figure1(options(data, tmp_path, recipe=wild, rates={"relu": (1e6,)}))
    assert "--relu-rate" in caught.value.hint


def test_an_interrupted_figure_goes_on(data, tmp_path):
    """Stopped by Ctrl-C it saves; repeated, it ends with the curves of one that was never stopped."""
    whole = figure1(options(data, tmp_path / "whole", 0.001))
    stopped = figure1(options(data, tmp_path / "cut", 0.001), Notes(interrupt_after=5))
    assert (stopped.learnings, stopped.stopped_by) == ((), signal.SIGINT)
    assert figure1(options(data, tmp_path / "cut", 0.001)) == whole


def test_other_stores_are_refused_first(data, tmp_path):
    """Pictures of another size than 32x32 are told before anything is trained, with the way to make a store."""
    with pytest.raises(DataError, match="pictures of 32x32, recipe tiny expects 16x16") as caught:
        figure1(options(data, tmp_path, 0.001, recipe=narrow_tiny(stored_size=16, input_size=16)))
    assert "--size 16" in caught.value.hint and not list(tmp_path.iterdir())


def test_drawn_like_the_papers():
    """Solid and dashed black over epochs from 1 on, up to an error of 0.75, with a dotted line at 25 %."""
    pytest.importorskip("matplotlib")
    axes = draw_training_errors([("ReLU", (0.7, 0.5, 0.2)), ("tanh", (0.7, 0.6))], 0.25).axes[0]
    curves: list = axes.get_lines()
    relu, tanh, level = curves
    assert [line.get_linestyle() for line in (relu, tanh, level)] == ["-", "--", ":"]
    assert {line.get_color() for line in (relu, tanh, level)} == {"black"}
    assert (relu.get_xdata().tolist(), relu.get_ydata().tolist()) == ([1, 2, 3], [0.7, 0.5, 0.2])
    assert list(level.get_ydata()) == [0.25, 0.25]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xlim(), axes.get_ylim()) == (
        "Epochs",
        "Training error rate",
        (0, 3),
        (0, 0.75),
    )


def test_command_draws_and_tells(data, tmp_path):
    """The command writes the picture and says for both activations when they reached 25 %; JSON has the curves."""
    pytest.importorskip("matplotlib")
    out = tmp_path / "f.png"
    arguments = ["figure1", "--data", str(data), "--runs", str(tmp_path / "runs"), "--out", str(out), "--device", "cpu"]
    arguments += ["--relu-rate", "0.001", "--tanh-rate", "1e-9", "--epochs", "2", "--batch-size", "8", "--precision", "fp32"]
    arguments += ["--set", "channels=[4,4,4,4]"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    relu, tanh, ratio, paper, figure = result.stdout.splitlines()
    assert tanh.startswith("tanh    never at 25 % training error, ") and tanh.endswith(" after 2, learning rate 1e-09")
    assert relu.startswith("relu ") and "not known" in ratio and "six times" in paper and figure.endswith(str(out))
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.size == (600, 660)
    document = json.loads(runner.invoke(app, [*arguments, "--json", "--quiet"]).stdout)
    assert (document["kind"], document["ratio"]) == ("figure1", None)
    assert [len(curve["errors"]) for curve in document["curves"]] == [2, 2]
    assert all(math.isclose(error * 16, round(error * 16)) for curve in document["curves"] for error in curve["errors"])


@pytest.mark.parametrize(
    "arguments", [["--rates", "a"], ["--rates", "0"], ["--rates", "1,1"], ["--tanh-rate", "0"], ["--relu-rate", "nan"]]
)
def test_rates_that_are_none(arguments):
    """A rate that is no number above 0, or stands twice, is wrong usage."""
    assert runner.invoke(app, ["figure1", *arguments]).exit_code == 2


def test_contradictions_are_told(data, tmp_path):
    """--set cannot take over what the command itself sets."""
    result = runner.invoke(app, ["figure1", "--data", str(data), "--runs", str(tmp_path), "--set", "activation=tanh"])
    assert result.exit_code == 1 and "activation is set to both" in result.stderr
