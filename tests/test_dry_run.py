"""A training that is only foretold: what it says is what a real one does, and nothing is written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.cli.dry_run import list_warnings
from alexnet_cli.core.dry_run import DryRun, LoneLayout, dry_run
from alexnet_cli.core.errors import RecipeError, RunError
from alexnet_cli.core.train import TrainOptions, train
from tests.networks import NARROW, narrow_small
from tests.pictures import prepared
from tests.stores import change

COUNTS = {"train": {"cat": 20, "dog": 16}, "val": {"cat": 4, "dog": 3}}
RECIPE = narrow_small(epochs=3)


pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared store of 36 and 7 small photographs."""
    return prepared(tmp_path_factory.mktemp("prepared"), COUNTS)


def options(data: Path, runs: Path, **changes: Any) -> TrainOptions:
    """Return what trains a narrow network on the CPU."""
    settings = {"run": "run", "recipe": RECIPE, "device": "cpu", "precision": "fp32", "log_every": 1, "workers": 1}
    return TrainOptions(data=data, runs=runs, **{**settings, **changes})


def everything(folder: Path) -> dict[str, int]:
    """Return all files below a folder and when they were changed."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def found(data: Path, tmp_path_factory: pytest.TempPathFactory) -> DryRun:
    """Return what is foretold of a training on one device."""
    with torch.compiler.set_stance("force_eager"):
        return dry_run(options(data, tmp_path_factory.mktemp("nothing") / "runs"))


def test_nothing_is_written(data, tmp_path):
    """Neither the folder of runs nor anything beside the stores appears, on two ranks too."""
    before = everything(data.parent)
    dry_run(options(data, tmp_path / "runs", gpus=2))
    assert everything(data.parent) == before and not list(tmp_path.iterdir())


def test_facts_of_the_stores(found):
    """36 pictures in batches of 8 are five steps an epoch, and the size of a store is that of its file."""
    assert (found.classes, found.train.pictures, found.val.pictures, found.train.format) == (2, 36, 7, "jpeg")
    assert (found.course.steps_per_epoch, found.course.total_steps, found.course.tests_left) == (5, 15, 3)
    assert found.train.num_bytes == (found.train.folder / "data.mdb").stat().st_size
    assert found.measured.speed.step > 0 and found.measured.speed.test_pass > 0 and found.measured.speed.test_batch == 7
    assert found.duration.left == pytest.approx(15 * found.measured.speed.step + 3 * found.measured.speed.test_pass)


def test_a_real_run_takes_what_was_foretold(data, tmp_path):
    """Its folder has the files and sizes that were foretold, but for headers and what is written in between; so has its log."""
    wanted = options(data, tmp_path / "runs", keep=1, checkpoint_every="4steps")
    foretold = dry_run(wanted)
    assert train(wanted).total_steps == foretold.course.total_steps
    folder = tmp_path / "runs" / "run"
    weights = sum((folder / f"{name}.safetensors").stat().st_size for name in ("best", "last"))
    states = sum(path.stat().st_size for path in (folder / "resume").glob("*.safetensors"))
    assert 0 <= weights - foretold.disk["best and last weights"] < 20_000
    assert 0 <= states - foretold.disk["2 states for --resume"] < 20_000
    kernels = [path.stat().st_size for path in (folder / "kernels").iterdir()]
    assert 0 <= sum(kernels) - foretold.disk["kernels of each epoch"] < 300 * len(kernels)
    log = sum((folder / f"metrics.{kind}").stat().st_size for kind in ("jsonl", "csv"))
    assert log <= foretold.disk["log"] <= 1.6 * log


def test_a_run_to_be_continued(data, tmp_path, monkeypatch):
    """After 7 of 15 steps 8 are left, and two tests; the disk that its own files take counts as free."""
    train(options(data, tmp_path, limit_steps=7))
    before = everything(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    found = dry_run(options(data, tmp_path, resume=True, recipe=None))
    assert found.continued and found.recipe == RECIPE
    assert (found.course.done, found.course.steps_left, found.course.tests_left) == (7, 8, 2)
    own = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert found.free_disk == 1000 + own
    assert everything(tmp_path) == before


def test_without_labels_nothing_is_tested(data, tmp_path):
    """A val of unknown classes is neither measured nor reckoned with, and is warned of."""
    unknown = Path(shutil.copytree(data, tmp_path / "data"))
    change(unknown / "val", b"labels", np.full(7, -1, "<i4").tobytes())
    found = dry_run(options(unknown, tmp_path / "runs"))
    assert found.measured.speed.test_pass == 0
    assert found.duration.left == pytest.approx(15 * found.measured.speed.step)
    assert any("has no labels" in line for line in list_warnings(found))


def test_refusals_are_those_of_a_training(data, tmp_path):
    """A run that exists and a batch smaller than the ranks are refused before anything is measured."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(RunError, match="exists already"):
        dry_run(options(data, tmp_path))
    with pytest.raises(RecipeError, match="a batch of 8 for 16 ranks"):
        dry_run(options(data, tmp_path, run="other", gpus=16))


def test_a_lone_rank_receives_zeros():
    """Without the other tower, its half of what both read is zero."""
    own = torch.ones(2, 3, 1, 1)
    joined = LoneLayout(1, 2, towers=2).join(own)
    assert joined.shape == (2, 6, 1, 1)
    assert joined[:, :3].eq(0).all() and joined[:, 3:].eq(1).all()


def test_warnings(found):
    """What is too small is warned of, with both sizes; what is large enough is not."""
    assert not [line for line in list_warnings(found) if "memory" in line or "disk" in line]
    small = replace(found, free_memory=1_000_000, free_disk=2_000_000, free_for_pictures=0)
    lines = list_warnings(small)
    assert sum("of memory, 1 MB are free: a smaller --batch-size" in line for line in lines) == 1
    assert sum("of disk, 2 MB are free" in line for line in lines) == 1
    assert sum("--shuffle block" in line for line in lines) == 1
    by_blocks = replace(small, recipe=replace(RECIPE, shuffle="block"))
    assert not any("--shuffle block" in line for line in list_warnings(by_blocks))


def command(data: Path, folder: Path, *arguments: str, code: int = 0) -> Any:
    """Run `alexnet train --dry-run` with the narrow recipe as a configuration."""
    config = folder / "narrow.toml"
    config.write_text("".join(f"{name} = {list(value)}\n" for name, value in NARROW.items()) + "batch_size = 8\nepochs = 3\n")
    words = ["--data", str(data), "--runs", str(folder / "runs"), "--device", "cpu", "--precision", "fp32", "--config", str(config)]
    result = CliRunner().invoke(app, ["train", *words, *arguments])
    assert result.exit_code == code, result.output
    return result


def test_command(data, tmp_path):
    """Two ranks: the text names steps, ranks, what crosses, disk and the end; only its own configuration is there afterwards."""
    text = command(data, tmp_path, "--dry-run", "--gpus", "2", "--quiet").stdout
    for part in ("5 an epoch, 15 in all", "tower a on rank 0", "tower b on rank 1", "sent in a step", "disk in all", "would end"):
        assert part in text
    assert "rank 0's share alone, without the exchange" in text
    assert [path.name for path in tmp_path.iterdir()] == ["narrow.toml"]


def test_command_in_json(data, tmp_path):
    """The same as one document; the narrow conv3 reads 8 maps of 13x13 of each of 8 pictures from the other tower."""
    document = json.loads(command(data, tmp_path, "--dry-run", "--json", "--quiet", "--gpus", "2").stdout)
    assert document["steps"]["total_steps"] == 15 and document["recipe"]["batch_size"] == 8
    both_ways = 8 * 13 * 13 + 8 * 6 * 6 + 16
    assert [rank["sent"]["activations"] for rank in document["ranks"]] == [4 * 8 * both_ways, 4 * 8 * (both_ways + 16)]
    assert document["store_fits"] is True and document["measured"]["speed"]["step"] > 0


def test_wrong_usage(data, tmp_path):
    """`--json` without `--dry-run`, and `--synthetic` with it, are wrong usage."""
    assert "exclude each other" in command(data, tmp_path, "--dry-run", "--synthetic", code=2).stderr
    assert "--json is for --dry-run" in command(data, tmp_path, "--json", code=2).stderr


def test_other_ranks_of_torchrun_are_silent(data, tmp_path, monkeypatch):
    """Started by torchrun, rank 0 alone foretells; the others end at once and say nothing."""
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**place, "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    result = command(data, tmp_path, "--dry-run")
    assert (result.stdout, result.stderr) == ("", "")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "tower b on rank 1" in command(data, tmp_path, "--dry-run").stdout
