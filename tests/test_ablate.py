"""Ablations: numbers by hand, and what is trained and tested once is not trained and tested again."""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.ablate import AblateOptions, Score, ablate, compare
from alexnet_cli.core.errors import DataError, RunError
from alexnet_cli.core.recipes import PRESETS, preset
from alexnet_cli.core.train import TrainOptions
from tests.networks import narrow
from tests.pictures import prepared
from tests.stores import change
from tests.test_train import Notes

COUNTS = {"train": {"cat": 9, "dog": 7}, "val": {"cat": 3, "dog": 2}}
NARROW = ["--set", "channels=[8,16,24,24,16]", "--set", "hidden=[32,32]", "--batch-size", "8", "--epochs", "1", "--device", "cpu"]
runner = CliRunner()


pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared store of 16 and 5 small photographs."""
    return prepared(tmp_path_factory.mktemp("prepared"), COUNTS)


def options(data: Path, runs: Path, names: str = "original,no-lrn", **changes) -> AblateOptions:
    """Return an ablation of narrow networks with two seeds of one epoch."""
    common = TrainOptions(data=data, runs=runs, device="cpu", precision="fp32", workers=1, log_every=1)
    recipes = {name: narrow(preset(name), epochs=1) for name in names.split(",")}
    return replace(AblateOptions(common, recipes, seeds=2), **changes)


def score(seed: int, top1: float, top5: float, speed: float | None = None) -> Score:
    """Return what one made-up training came to."""
    return Score(f"run-{seed}", seed, 100, 10, top1, top5, 5, 1.0, speed)


def log_of(runs: Path, run: str) -> str:
    """Return a run's log."""
    return (runs / run / "metrics.jsonl").read_text(encoding="utf-8")


def test_means_spreads_and_differences_by_hand():
    """Means, sample deviations (2, 4, 6: 2) and differences seed by seed; one seed has no spread, the first no difference."""
    base = [score(0, 0.2, 0.1, 100), score(1, 0.4, 0.1, 300), score(2, 0.6, 0.1)]
    other = [score(0, 0.3, 0.2), score(1, 0.4, 0.2), score(2, 0.5, 0.2)]
    first, second = compare({"original": base, "no-lrn": other}, {"original": 7, "no-lrn": 8})
    assert (first.top1.mean, first.top1.spread) == pytest.approx((0.4, 0.2))
    assert (first.top1_change, first.top5_change, first.images_per_second, first.parameters) == (None, None, 200, 7)
    assert (second.top1.mean, second.top1.spread) == pytest.approx((0.4, 0.1))
    assert second.top1_change is not None and second.top5_change is not None and second.images_per_second is None
    assert (second.top1_change.mean, second.top1_change.spread) == pytest.approx((0, 0.1))  # +0.1, 0, -0.1
    assert (second.top5_change.mean, second.top5_change.spread) == pytest.approx((0.1, 0))
    assert "+1.4 / +1.2 points" in second.published
    (alone,) = compare({"x": [score(0, 0.25, 0.125)]}, {"x": 1})
    assert (alone.top1.mean, alone.top1.spread, alone.published) == (0.25, None, "")


def test_nothing_is_trained_or_tested_twice(data, tmp_path):
    """A second call changes no file; another number of views tests again and trains no step."""
    first = ablate(options(data, tmp_path))
    runs = [f"ablate-{name}-{seed}" for name in ("original", "no-lrn") for seed in (0, 1)]
    assert [one.run for effect in first.effects for one in effect.scores] == runs
    assert {(one.images, one.crops) for effect in first.effects for one in effect.scores} == {(5, 10)}
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.rglob("*") if path.is_file()}
    notes = Notes()
    assert ablate(options(data, tmp_path), notes) == first
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.rglob("*") if path.is_file()} == before
    assert notes.steps == 0
    logs = [log_of(tmp_path, run) for run in runs]
    again = ablate(options(data, tmp_path, crops=1), notes)
    assert {one.crops for effect in again.effects for one in effect.scores} == {1}
    assert [log_of(tmp_path, run) for run in runs] == logs
    assert notes.steps == 4 * 5  # pictures tested


def test_an_interrupted_ablation_goes_on(data, tmp_path):
    """Stopped in its second training, it saves; repeated it makes the steps that were left, and ends like one never stopped."""
    whole = ablate(options(data, tmp_path / "whole"))
    # 2 steps of training, 5 pictures tested, then one step of the next run.
    stopped = ablate(options(data, tmp_path / "cut"), Notes(interrupt_after=2 + 5 + 1))
    assert (stopped.effects, stopped.stopped_by) == ((), signal.SIGINT)
    first = (tmp_path / "cut" / "ablate-original-0" / "last.safetensors").stat().st_mtime_ns
    ended = ablate(options(data, tmp_path / "cut"))
    assert (tmp_path / "cut" / "ablate-original-0" / "last.safetensors").stat().st_mtime_ns == first
    steps = [row["step"] for row in map(json.loads, log_of(tmp_path / "cut", "ablate-original-1").splitlines()) if "loss" in row]
    assert steps == [1, 2]
    for one, other in zip(ended.effects, whole.effects, strict=True):
        assert [(s.top1_error, s.loss) for s in one.scores] == [(s.top1_error, s.loss) for s in other.scores]


def test_every_recipe_is_checked_first(data, tmp_path):
    """A last recipe that needs another store, or a run begun otherwise, fails before anything is written."""
    tiny = {"original": narrow(epochs=1), "tiny": PRESETS["tiny"]()}
    with pytest.raises(DataError, match="pictures of 256x256, recipe tiny expects 32x32"):
        ablate(options(data, tmp_path, recipes=tiny))
    with pytest.raises(DataError, match="expects warp"):
        ablate(options(data, tmp_path, recipes={"original": narrow(epochs=1), "bvlc": PRESETS["bvlc"]()}))
    assert not list(tmp_path.iterdir())
    ablate(options(data, tmp_path, "no-lrn", seeds=1))
    longer = {"original": narrow(epochs=1), "no-lrn": narrow(preset("no-lrn"), epochs=3)}
    with pytest.raises(RunError, match=r"ablate-no-lrn-0 was started with another epochs 1 \(now 3\)"):
        ablate(options(data, tmp_path, recipes=longer))
    assert not (tmp_path / "ablate-original-0").exists()


def test_what_cannot_be_tested_is_told_first(data, tmp_path, monkeypatch):
    """A split without labels, and a start by torchrun, fail before anything is trained."""
    shutil.copytree(data, tmp_path / "data")
    change(tmp_path / "data" / "val", b"labels", np.array([0, 1, -1, 0, 1], "<i4").tobytes())
    with pytest.raises(DataError, match="pictures without labels"):
        ablate(options(tmp_path / "data", tmp_path / "runs"))
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "localhost" if name == "MASTER_ADDR" else "1" if name.endswith("SIZE") else "0")
    with pytest.raises(RunError, match="under torchrun"):
        ablate(options(data, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_two_seeds_in_the_table(data, tmp_path):
    """With several seeds errors and differences have their deviations beside them."""
    arguments = ["ablate", "--recipes", "original,no-lrn", "--seeds", "2", "--data", str(data), "--runs", str(tmp_path), *NARROW]
    _, first, second = runner.invoke(app, arguments).stdout.splitlines()
    assert re.match(r"original +[\d.]+ ± [\d.]+ +0\.00 ± 0\.00 + - ", first)
    assert re.match(r"no-lrn +[\d.]+ ± [\d.]+ +0\.00 ± 0\.00 +[+-][\d.]+ ± [\d.]+ / \+0\.00 ± 0\.00 ", second)


def test_command_prints_a_table_and_json(data, tmp_path):
    """The command's table has a line for each recipe, its JSON every figure; percentages are those of the errors."""
    arguments = ["ablate", "--recipes", "original,no-dropout", "--data", str(data), "--runs", str(tmp_path), *NARROW]
    table = runner.invoke(app, arguments)
    assert table.exit_code == 0, table.stderr
    header, first, second = table.stdout.splitlines()
    assert header.split("  ")[0] == "recipe" and "top-2 error" in header
    document = json.loads(runner.invoke(app, [*arguments, "--json", "--quiet"]).stdout)
    assert (document["kind"], document["split"]) == ("ablation", "val")
    base, other = document["recipes"]
    assert first.split()[:4] == ["original", f"{100 * base['top1']['mean']:.2f}", "0.00", "-"]
    assert second.split()[:2] == ["no-dropout", f"{100 * other['top1']['mean']:.2f}"]
    change = other["scores"][0]["top1_error"] - base["scores"][0]["top1_error"]
    assert f"{100 * change:+.2f} / +0.00" in second
    assert "substantial overfitting" in second and other["top1"]["spread"] is None
    # conv1 to conv5: 8*363+8, 16*4*25+16, 24*16*9+24, 24*12*9+24, 16*12*9+16; fc6 to fc8: 576*32+32, 32*32+32, 32*2+2
    assert base["parameters"] == 2912 + 1616 + 3480 + 2616 + 1744 + 18464 + 1056 + 66


@pytest.mark.parametrize("names", ["", "original,original", "original,caffe"])
def test_unknown_recipes_are_wrong_usage(names):
    """A recipe that does not exist or is named twice is told with those that there are."""
    result = runner.invoke(app, ["ablate", "--recipes", names])
    assert result.exit_code == 2 and "no-lrn" in result.stderr


def test_ctrl_c_says_how_to_go_on(data, tmp_path, monkeypatch):
    """The command stopped by Ctrl-C exits with 130 and says that the same command goes on."""
    from alexnet_cli.cli import render

    monkeypatch.setattr(render.TerminalReporter, "advance", Notes(interrupt_after=1).advance)
    arguments = ["ablate", "--recipes", "original", "--data", str(data), "--runs", str(tmp_path), *NARROW]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 130
    assert "the same command again goes on" in result.stderr and not result.stdout
