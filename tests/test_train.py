"""Training: two ranks against one device, interrupted against straight through, and what a run leaves on disk."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import pytest
import torch
from safetensors.torch import load_file

from alexnet_cli.core import draws, pace, run_folder
from alexnet_cli.core import train as train_module
from alexnet_cli.core.checkpoint import load_weights
from alexnet_cli.core.config import read_config
from alexnet_cli.core.errors import CheckpointError, DataError, DeviceError, DiskFullError, RecipeError, RunError, StoreError
from alexnet_cli.core.lock import held
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.recipe import LAYERS
from alexnet_cli.core.recipes import original
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.resume import saved_steps
from alexnet_cli.core.train import TrainOptions, TrainResult, train
from tests.conftest import resize_disk
from tests.networks import narrow, narrow_small
from tests.pictures import make_source, prepared

COUNTS = {"train": {"cat": 20, "dog": 16}, "val": {"cat": 4, "dog": 3}}
STEPS_PER_EPOCH = 5  # 36 pictures in batches of 8: the last one has 4
# An improvement that cannot be, so that the second epoch brings the one drop.
PLATEAU = narrow_small(epochs=3, schedule="plateau", plateau_patience=1, plateau_improvement=0.99, plateau_drops=1)


class Notes(Reporter):
    """Keeps what is said, and can interrupt after a step."""

    def __init__(self, interrupt_after: int = 0) -> None:
        self.lines: list[str] = []
        self.steps = 0
        self.interrupt_after = interrupt_after

    def note(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    warn = note

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Count steps; send this process Ctrl-C after one of them."""
        self.steps += amount
        if amount and self.steps == self.interrupt_after:
            os.kill(os.getpid(), signal.SIGINT)


pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared store of 36 and 7 small photographs."""
    return prepared(tmp_path_factory.mktemp("prepared"), COUNTS)


def run(data: Path, runs: Path, name: str | None = "run", *, reporter: Reporter | None = None, **options: object) -> TrainResult:
    """Train on the CPU, logging every step."""
    settings: dict = {"recipe": narrow_small(epochs=3), "device": "cpu", "precision": "fp32", "log_every": 1, "workers": 2}
    return train(TrainOptions(data=data, runs=runs, run=name, **{**settings, **options}), reporter or Notes())


def rows(runs: Path, name: str = "run", kind: str = "step") -> list[dict]:
    """Return the rows of one kind of a run's log."""
    lines = (runs / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def losses(runs: Path, name: str = "run") -> list[float]:
    """Return the loss of every step."""
    return [row["loss"] for row in rows(runs, name)]


def without_times(row: dict) -> dict:
    """Return a row without what differs from run to run."""
    return {key: value for key, value in row.items() if key not in ("images_per_second", "data_wait", "val_seconds")}


# Two ranks ---------------------------------------------------------------------------------------------------------------------


def test_two_ranks_train_like_one_device_in_fp64(data, tmp_path):
    """Ten steps at the recipe's rates, with dropout, noise, crops and a short batch: losses equal to 1e-9."""
    recipe = narrow(epochs=20)
    assert recipe.learning_rate == 0.01 and recipe.colour_noise == 0.1 and recipe.mirror
    reporter = Notes()
    for gpus, name in ((1, "one"), (2, "two")):
        run(data, tmp_path, name, recipe=recipe, precision="fp64", gpus=gpus, limit_steps=10, reporter=reporter)
    assert len(losses(tmp_path, "one")) == 10
    assert losses(tmp_path, "two") == pytest.approx(losses(tmp_path, "one"), rel=1e-9)
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for tensor in one:
        torch.testing.assert_close(two[tensor], one[tensor], rtol=1e-5, atol=1e-7)
    assert any(line.startswith("tower a on rank 0: ") and line.endswith(" parameters (cpu, fp64)") for line in reporter.lines)
    assert any(line.startswith("tower b on rank 1 sent ") for line in reporter.lines)
    assert rows(tmp_path, "two", "epoch")[-1]["val_loss"] == pytest.approx(rows(tmp_path, "one", "epoch")[-1]["val_loss"])


@pytest.mark.parametrize(("gpus", "towers"), [(4, None), (3, 1)], ids=["two pairs", "three whole networks"])
def test_replicas_train_like_one_device(data, tmp_path, gpus, towers):
    """Copies that share every batch, also the short ones that leave some of them nothing: losses, tests and weights to 1e-9."""
    recipe = narrow(epochs=20)
    run(data, tmp_path, "one", recipe=recipe, precision="fp64", limit_steps=10)
    reporter = Notes()
    run(data, tmp_path, "many", recipe=recipe, precision="fp64", gpus=gpus, towers=towers, limit_steps=10, reporter=reporter)
    assert losses(tmp_path, "many") == pytest.approx(losses(tmp_path, "one"), rel=1e-9)
    one, many = (rows(tmp_path, name, "epoch") for name in ("one", "many"))
    assert [row["val_images"] for row in many] == [7, 7]
    for name in ("val_loss", "val_top1_error", "val_top5_error"):
        assert [row[name] for row in many] == pytest.approx([row[name] for row in one], rel=1e-9)
    tensors = [load_file(tmp_path / name / "last.safetensors") for name in ("one", "many")]
    for tensor in tensors[0]:
        torch.testing.assert_close(tensors[1][tensor], tensors[0][tensor], rtol=1e-5, atol=1e-7)
    assert any("of sums of gradients" in line for line in reporter.lines)


def test_two_ranks_train_like_one_device_in_fp32(data, tmp_path):
    """At a rate at which training is not chaotic, ten losses in fp32 agree to 1e-4."""
    recipe = narrow(epochs=20, learning_rate=0.0001)
    for gpus, name in ((1, "one"), (2, "two")):
        run(data, tmp_path, name, recipe=recipe, gpus=gpus, limit_steps=10)
    assert losses(tmp_path, "two") == pytest.approx(losses(tmp_path, "one"), rel=1e-4)


def test_a_run_goes_on_in_the_other_layout(data, tmp_path):
    """A run of two ranks is continued on one device: the losses are those of one device throughout."""
    recipe = narrow(epochs=4)
    run(data, tmp_path, "one", recipe=recipe, precision="fp64", limit_steps=8)
    run(data, tmp_path, "both", recipe=recipe, precision="fp64", gpus=2, limit_steps=4)
    reporter = Notes()
    run(data, tmp_path, "both", recipe=None, precision="fp64", resume=True, limit_steps=8, reporter=reporter)
    # The checkpoint holds float64 as it was.
    assert losses(tmp_path, "both") == pytest.approx(losses(tmp_path, "one"), rel=1e-9)
    assert reporter.lines[0] == "resuming at step 4"
    assert any(line.startswith("gpus is 1, was 2") for line in reporter.lines)


# Interrupted and continued -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "stop"),
    [(narrow_small(epochs=3), 7), (narrow(epochs=3), 8), (narrow(epochs=3), 12), (PLATEAU, 11)],
    ids=["mid-epoch", "at a drop of the rate", "with conv1 frozen", "after a drop at a plateau"],
)
def test_stopped_and_resumed_ends_bit_for_bit_the_same(data, tmp_path, recipe, stop):
    """Stopped anywhere and continued, a run ends with the very weights and rows of one without a stop."""
    run(data, tmp_path, "straight", seed=7, recipe=recipe)
    run(data, tmp_path, "stopped", seed=7, recipe=recipe, limit_steps=stop)
    first = (tmp_path / "stopped" / "metrics.jsonl").read_bytes()
    reporter = Notes()
    result = run(data, tmp_path, "stopped", recipe=None, resume=True, reporter=reporter)
    assert reporter.lines[0] == f"resuming at step {stop}"
    assert (result.step, result.total_steps) == (15, 15)
    for name in ("last", "best"):
        one, two = (load_file(tmp_path / run_name / f"{name}.safetensors") for run_name in ("straight", "stopped"))
        assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)
    for kind in ("step", "epoch"):
        logged = [[without_times(row) for row in rows(tmp_path, name, kind)] for name in ("straight", "stopped")]
        assert logged[0] == logged[1]
    assert (tmp_path / "stopped" / "metrics.jsonl").read_bytes().startswith(first)


def test_the_rate_drops_at_a_plateau(data, tmp_path):
    """The test after the second epoch finds no improvement: the third has a tenth of the rates, and a note says so."""
    reporter = Notes()
    run(data, tmp_path, recipe=PLATEAU, reporter=reporter)
    assert [row["learning_rate"] for row in rows(tmp_path)] == pytest.approx([0.01] * 10 + [0.001] * 5)
    assert [row["bias_learning_rate"] for row in rows(tmp_path)] == pytest.approx([0.02] * 10 + [0.002] * 5)
    assert "the error has stopped improving: the rates drop, time 1 of 1" in reporter.lines


@pytest.mark.parametrize("gpus", [1, 2])
def test_all_but_the_last_layer_frozen(data, tmp_path, gpus):
    """With fc8 alone learning, which tower b does not have, all other weights end as the seed drew them."""
    recipe = narrow_small(layer_rates=dict.fromkeys(LAYERS[:-1], 0.0))
    run(data, tmp_path, recipe=recipe, gpus=gpus, limit_steps=3, seed=5)
    drawn = AlexNet(recipe, 2, seed=5).state_dict()
    trained = load_weights(tmp_path / "run" / "last.safetensors").tensors
    assert {name for name, value in trained.items() if not torch.equal(value, drawn[name])} == {"fc8.weight", "fc8.bias"}


# Starting from weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpus", [1, 2])
def test_taken_layers_are_the_files_and_others_the_seeds(data, tmp_path, gpus):
    """With all but fc8 frozen, conv1 to conv5 end as the file has them and fc6 and fc7 as the seed draws them, bit for bit."""
    recipe = narrow_small(layer_rates=dict.fromkeys(LAYERS[:-1], 0.0))
    run(data, tmp_path, "first", limit_steps=2, seed=1)
    run(data, tmp_path, "second", recipe=recipe, gpus=gpus, limit_steps=2, seed=5, init="first", init_layers="conv1-conv5")
    first, second = (load_weights(tmp_path / name / "last.safetensors").tensors for name in ("first", "second"))
    drawn = AlexNet(recipe, 2, seed=5).state_dict()
    for name, value in second.items():
        expected = first if name.startswith("conv") else drawn
        assert torch.equal(value, expected[name]) != name.startswith("fc8"), name
    assert not torch.equal(first["conv3.weight"], drawn["conv3.weight"])


def test_whole_networks_go_on(data, tmp_path):
    """Taken whole, the weights give the loss on val that they had."""
    run(data, tmp_path, "first", limit_steps=2, seed=1)
    frozen = narrow_small(learning_rate=1e-12)
    run(data, tmp_path, "second", recipe=frozen, limit_steps=1, seed=5, init=str(tmp_path / "first" / "last.safetensors"))
    losses = [rows(tmp_path, name, "epoch")[-1]["val_loss"] for name in ("first", "second")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_start_is_recorded_and_not_looked_for_again(data, tmp_path):
    """recipe.toml names file, layers and checksum; continued, the run needs the file no more."""
    run(data, tmp_path, "first", limit_steps=2, seed=1)
    weights = shutil.copy(tmp_path / "first" / "last.safetensors", tmp_path / "gone.safetensors")
    begin: dict[str, Any] = {"init": str(weights), "init_layers": "conv1,conv2", "auto_resume": True}
    run(data, tmp_path, "second", limit_steps=2, **begin)
    run(data, tmp_path, "straight", limit_steps=4, **begin)
    checksum = hashlib.blake2b(weights.read_bytes(), digest_size=16).hexdigest()
    weights.unlink()
    told = {"init": str(weights), "init_layers": ["conv1", "conv2"], "init_checksum": f"blake2b:{checksum}"}
    for options in ({"resume": True, "limit_steps": 3}, {**begin, "limit_steps": 4, "override": True}):
        run(data, tmp_path, "second", **options)
        assert read_config(tmp_path / "second" / "recipe.toml")["run"].items() >= told.items()
    assert losses(tmp_path, "second") == losses(tmp_path, "straight")


def test_weights_that_do_not_fit_leave_nothing(data, tmp_path):
    """A start that is refused writes no run."""
    run(data, tmp_path, "first", limit_steps=1)
    with pytest.raises(CheckpointError, match=r"fc6.weight is \(32, 576\), expected \(64, 576\)"):
        run(data, tmp_path, "second", recipe=narrow_small(hidden=(64, 32)), init="first")
    with pytest.raises(CheckpointError, match="no weights file third"):
        run(data, tmp_path, "second", init="third")
    with pytest.raises(RunError, match="has its weights already"):
        run(data, tmp_path, "first", init="first", resume=True)
    assert not (tmp_path / "second").exists()


def test_a_loss_is_not_the_same_every_time(data, tmp_path):
    """Another seed trains otherwise, so that the equalities above say something."""
    run(data, tmp_path, "a", seed=1, limit_steps=3)
    run(data, tmp_path, "b", seed=2, limit_steps=3)
    assert losses(tmp_path, "a") != losses(tmp_path, "b")


def test_ctrl_c_once_saves_and_stops(data, tmp_path):
    """The step under way is finished, everything is on disk, and the run can go on from there."""
    reporter = Notes(interrupt_after=6)
    result = run(data, tmp_path, reporter=reporter)
    assert result.stopped_by == signal.SIGINT
    assert result.step == 6
    assert saved_steps(tmp_path / "run" / "resume")[0] == 6
    assert load_weights(tmp_path / "run" / "last.safetensors").step == 6
    assert any("once more" in line for line in reporter.lines)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_stopped_at_the_end_of_an_epoch(data, tmp_path):
    """A stop right after an epoch's last step leaves that epoch tested, and nothing is tested twice or left out."""
    run(data, tmp_path, "straight")
    run(data, tmp_path, "stopped", limit_steps=STEPS_PER_EPOCH)
    run(data, tmp_path, "stopped", recipe=None, resume=True)
    one, two = ([without_times(row) for row in rows(tmp_path, name, "epoch")] for name in ("straight", "stopped"))
    assert one == two


def test_rows_after_the_checkpoint_are_cut_off(data, tmp_path):
    """What was logged after the last checkpoint is written again, what came before stays byte for byte."""
    run(data, tmp_path, limit_steps=4)
    log = tmp_path / "run" / "metrics.jsonl"
    length = json.loads((tmp_path / "run" / "resume" / "4.json").read_text())["metrics_bytes"]
    kept = log.read_bytes()[:length]
    with log.open("a") as file:
        file.write('{"kind": "step", "step": 5, "loss": 99}\n')
    run(data, tmp_path, recipe=None, resume=True, limit_steps=6)
    assert log.read_bytes().startswith(kept)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert max(losses(tmp_path)) < 99


def test_log_table_and_events_agree_after_a_resume(data, tmp_path):
    """metrics.csv has each row, the rows of weights are those of the saved state, and TensorBoard has losses and pictures."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(data, tmp_path, limit_steps=7, tensorboard=True)
    run(data, tmp_path, recipe=None, resume=True, limit_steps=10, tensorboard=True)
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["kind"], row["step"]) for row in table] == [(row["kind"], str(row["step"])) for row in log]
    weights = rows(tmp_path, kind="weights")
    assert [row["step"] for row in weights] == [5] * 16 + [10] * 16
    saved = load_file(tmp_path / "run" / "resume" / "10.safetensors")
    rates = json.loads((tmp_path / "run" / "resume" / "10.json").read_text())["rates"]
    for row in weights[16:]:
        name = row["parameter"]
        change = rates[name] * saved[f"velocities/{name}"].double().abs().mean().item()
        assert row["mean_change"] == pytest.approx(change, rel=1e-4)
        assert row["ratio"] == pytest.approx(change / saved[f"weights/{name}"].double().abs().mean().item(), rel=1e-4)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("conv1")] == [5, 7, 10]  # each epoch, and where it was stopped
    assert [event.value for event in events.Scalars("loss/train")] == pytest.approx(losses(tmp_path))


def test_auto_resume_starts_then_continues_then_has_nothing_to_do(data, tmp_path):
    """The same command serves the first start, every restart, and the end."""
    steps = []
    for limit in (2, 4, None, None):
        reporter = Notes()
        steps.append(run(data, tmp_path, auto_resume=True, limit_steps=limit, reporter=reporter).step)
    assert steps == [2, 4, 15, 15]
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 16))
    assert any("nothing left to do" in line for line in reporter.lines)


def test_auto_resume_starts_over_what_never_reached_a_checkpoint(data, tmp_path):
    """A run that was killed before its first checkpoint begins anew under the same command."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')
    assert run(data, tmp_path, auto_resume=True, limit_steps=2).step == 2
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_checkpoints_by_steps(data, tmp_path):
    """`3steps` saves after steps 3, 6 and so on, and at the end."""
    run(data, tmp_path, checkpoint_every="3steps", limit_steps=7, log_every=100, keep=9)
    assert saved_steps(tmp_path / "run" / "resume") == [7, 6, 3]
    run(data, tmp_path, "second", checkpoint_every="3steps", limit_steps=7)
    assert saved_steps(tmp_path / "second" / "resume") == [7, 6]


def test_damaged_newest_checkpoint_costs_its_steps_alone(data, tmp_path):
    """A run whose newest state was damaged goes on from the one before, says so, and ends as if nothing had been."""
    run(data, tmp_path, "straight", limit_steps=9)
    run(data, tmp_path, checkpoint_every="3steps", limit_steps=6)
    newest = tmp_path / "run" / "resume" / "6.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    reporter = Notes()
    run(data, tmp_path, recipe=None, resume=True, limit_steps=9, reporter=reporter)
    assert "going back to step 3" in reporter.lines[0] and reporter.lines[1] == "resuming at step 3"
    assert losses(tmp_path) == losses(tmp_path, "straight")
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("straight", "run"))
    assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)


def test_disk_that_fills_up_during_training(data, tmp_path, small_disk):
    """A training that the disk stops says so and loses nothing that it had saved; with room it ends as if nothing had been."""
    run(data, tmp_path, "straight", limit_steps=7)
    resize_disk(small_disk, "8m")
    run(data, small_disk, limit_steps=3)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 100_000))
    before = {path.name: path.read_bytes() for path in (small_disk / "run").glob("*.safetensors")}
    with pytest.raises(DiskFullError, match=r"the disk is full: .* could not be written"):
        run(data, small_disk, recipe=None, resume=True, limit_steps=7)
    assert {path.name: path.read_bytes() for path in (small_disk / "run").glob("*.safetensors")} == before
    assert not list((small_disk / "run").rglob("*.partial"))
    filler.unlink()
    assert run(data, small_disk, recipe=None, resume=True, limit_steps=7).step == 7
    one, two = (load_file(place / "last.safetensors") for place in (tmp_path / "straight", small_disk / "run"))
    assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)
    assert losses(small_disk) == losses(tmp_path, "straight")


# What is refused ---------------------------------------------------------------------------------------------------------------


def test_existing_name_is_refused(data, tmp_path):
    """A new run never writes into an old one."""
    run(data, tmp_path, limit_steps=1)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match="exists already") as caught:
        run(data, tmp_path, limit_steps=1)
    assert "--resume" in caught.value.hint and "--run NAME" in caught.value.hint
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "conv5 makes maps of 1 pixels, expected 3 or more"),
        ({"paddings": (0,) * 5}, "conv2 makes maps of 0 pixels, expected 3"),
    ],
)
def test_an_impossible_network_is_refused(data, tmp_path, changes, message):
    """No run is begun where nothing is left to pool: of 32 pixels conv1 makes 7, pooled 3; conv2 makes of these 1 or none."""
    with pytest.raises(RecipeError, match=message) as caught:
        run(data, tmp_path / "runs", recipe=narrow(input_size=32, **changes))
    assert "input_size" in caught.value.hint
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["run", None])
def test_nothing_to_resume(data, tmp_path, name):
    """--resume fails where there is nothing to continue, and writes nothing."""
    with pytest.raises(RunError, match="nothing to continue in"):
        run(data, tmp_path / "runs", name, resume=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["latest", "a/b", "..", "-x"])
def test_impossible_names(data, tmp_path, name):
    """A run's name is one plain file name."""
    with pytest.raises(RunError, match="cannot be the name of a run"):
        run(data, tmp_path, name)


def test_a_run_has_one_writer(data, tmp_path):
    """A second training of the same run is refused while the first one goes on, and touches nothing of it."""
    run(data, tmp_path, limit_steps=1)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with (
        held(tmp_path / "run", RunError("held twice")),
        pytest.raises(RunError, match="another alexnet train is writing to") as caught,
    ):
        run(data, tmp_path, auto_resume=True)
    assert "--run NAME" in caught.value.hint
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert run(data, tmp_path, auto_resume=True, limit_steps=2).step == 2


def test_a_run_that_was_begun_meanwhile_is_not_begun_again(data, tmp_path, monkeypatch):
    """What another process has saved between the choice of the folder and its lock is not started over."""
    choose = run_folder.choose_folder

    def choose_then_lose(*arguments: Any, **options: Any) -> Any:
        chosen = choose(*arguments, **options)
        monkeypatch.setattr(train_module, "choose_folder", choose)
        run(data, tmp_path, limit_steps=1)
        return chosen

    monkeypatch.setattr(train_module, "choose_folder", choose_then_lose)
    with pytest.raises(RunError, match="has just written"):
        run(data, tmp_path, auto_resume=True)
    assert [row["step"] for row in rows(tmp_path)] == [1]


def test_resume_with_other_settings_is_refused(data, tmp_path):
    """A run goes on with the recipe it began with; the message names what differs."""
    run(data, tmp_path, limit_steps=1)
    with pytest.raises(RunError, match=r"was started with another learning_rate 0\.01 \(now 0\.02\)"):
        run(data, tmp_path, resume=True, recipe=narrow_small(epochs=3, learning_rate=0.02))
    with pytest.raises(RunError, match=r"seed 0 \(now 5\)") as caught:
        run(data, tmp_path, resume=True, seed=5)
    assert "--override" in caught.value.hint


def test_override_goes_on_with_other_settings(data, tmp_path):
    """With --override a run goes on with what is asked for now, says so, and keeps it for the next resume."""
    run(data, tmp_path, limit_steps=1)
    reporter = Notes()
    recipe = narrow_small(epochs=3, learning_rate=0.02)
    run(data, tmp_path, resume=True, override=True, recipe=recipe, limit_steps=2, reporter=reporter)
    assert "going on with another learning_rate 0.01 (now 0.02)" in reporter.lines
    assert [row["learning_rate"] for row in rows(tmp_path)] == [0.01, 0.02]
    run(data, tmp_path, recipe=None, resume=True, limit_steps=3)
    assert rows(tmp_path)[-1]["learning_rate"] == 0.02


def test_failed_override_leaves_the_run_as_it_was(data, tmp_path):
    """What cannot be continued with another recipe can still be continued with its own."""
    run(data, tmp_path, limit_steps=1)
    with pytest.raises(RunError, match="the saved state is not that of this run's recipe"):
        run(data, tmp_path, resume=True, override=True, recipe=replace(narrow_small(epochs=3), hidden=(64, 64)))
    assert run(data, tmp_path, recipe=None, resume=True, limit_steps=2).step == 2


def test_pictures_without_a_class_are_not_trained_on(data, tmp_path):
    """A training set with an unknown label, and a val of other classes, are refused before anything is written."""
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    with lmdb.open(str(copy / "train")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"labels", b"\xff" * 4 + bytes(4 * 35))
    with pytest.raises(DataError, match="has no class for 1 of 36 pictures"):
        run(copy, tmp_path / "runs")
    other = make_source(tmp_path / "other", {"train": {"cat": 2, "cow": 2}, "val": {"cat": 1, "cow": 1}})
    prepare(other, tmp_path / "cows", workers=1)
    shutil.rmtree(copy / "train")
    shutil.copytree(tmp_path / "cows" / "train", copy / "train")
    with pytest.raises(DataError, match="classes"):
        run(copy, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_one_saving_for_one_time(data, tmp_path, monkeypatch):
    """Ranks that agree one step later save once when the time has come, not after each step until they agree."""
    due = iter([False, True, *[False] * 100])
    monkeypatch.setattr(pace.CheckpointTimer, "due", lambda self, step: next(due))
    run(data, tmp_path, gpus=2, limit_steps=6, keep=9)
    assert saved_steps(tmp_path / "run" / "resume") == [6, 3]


def test_resume_on_other_data_is_refused(data, tmp_path):
    """A run does not go on with pictures it was not trained on."""
    run(data, tmp_path / "runs", limit_steps=1)
    counts = {"train": {"cat": 3, "dog": 3}, "val": {"cat": 1, "dog": 1}}
    prepare(make_source(tmp_path / "other", counts), tmp_path / "data", workers=1)
    with pytest.raises(
        RunError, match=r"is not the data that run .* was trained on: train's count 36 then, 6 now, train's labels"
    ) as caught:
        run(tmp_path / "data", tmp_path / "runs", resume=True)
    assert "--override" in caught.value.hint
    reporter = Notes()
    assert run(tmp_path / "data", tmp_path / "runs", resume=True, override=True, limit_steps=2, reporter=reporter).step == 2
    assert any(line.startswith("going on with other data: ") for line in reporter.lines)


def test_damaged_state_is_refused(data, tmp_path):
    """A state that was changed on disk is not continued from."""
    run(data, tmp_path, limit_steps=2)
    state = next((tmp_path / "run" / "resume").glob("*.safetensors"))
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        run(data, tmp_path, resume=True)


def test_loss_that_is_no_number_stops(data, tmp_path):
    """A diverged training ends with what to do, and says at which step."""
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d+: batch \d+ of epoch \d+$") as caught:
        run(data, tmp_path, recipe=narrow_small(epochs=3, learning_rate=1e6))
    assert "--learning-rate" in caught.value.hint
    seen = int(re.findall(r"step (\d+)", str(caught.value))[0])
    with pytest.raises(RunError, match=f"the loss is .* at step {seen}: "):
        run(data, tmp_path, "seldom", recipe=narrow_small(epochs=3, learning_rate=1e6), log_every=1000)


def test_nothing_of_a_diverged_training_reaches_the_disk(data, tmp_path):
    """Between two lines of the log too: neither a checkpoint nor weights that are no numbers are written."""
    with pytest.raises(RunError, match=r"the weights are no longer finite|the loss is"):
        recipe = narrow_small(epochs=3, learning_rate=1e6)
        run(data, tmp_path, recipe=recipe, log_every=1000, checkpoint_every="1steps")
    for file in (tmp_path / "run").rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values()), file
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("changes", [{"towers": 1}, {"lrn_crosses_towers": True}])
def test_two_ranks_need_two_separate_towers(data, tmp_path, changes):
    """A recipe whose network would be another one on two ranks is refused there."""
    with pytest.raises(RecipeError, match="needs a recipe of two towers") as caught:
        run(data, tmp_path, gpus=2, recipe=narrow_small(**changes))
    assert "--towers 1" in caught.value.hint


def test_stores_are_not_warped(data, tmp_path):
    """A recipe that wants its pictures scaled otherwise than the store has them is refused."""
    with pytest.raises(DataError, match="was prepared with --resize short-side, recipe small expects warp"):
        run(data, tmp_path, recipe=narrow_small(resize="warp"))


def test_failure_of_the_second_rank_is_told(data, tmp_path, capfd):
    """A damaged record that rank 1 alone reads ends both ranks with the record's name, without a traceback."""
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    record = int(draws.permutation(36, 0, "order", 0)[5])  # the first batch's sixth: in the second half
    with lmdb.open(str(copy / "train")) as environment, environment.begin(write=True) as transaction:
        transaction.put(f"{record:08d}".encode(), b"no picture")
    with pytest.raises(RunError, match=f"record {record} "):
        run(copy, tmp_path, gpus=2)
    assert "Traceback" not in capfd.readouterr().err
    assert run(data, tmp_path, "next", gpus=2, limit_steps=1).step == 1  # the group of processes was left


def test_ctrl_c_stops_both_ranks(data, tmp_path):
    """Two ranks stop after the same step, and the run can be continued."""
    result = run(data, tmp_path, gpus=2, reporter=Notes(interrupt_after=2))
    assert (result.stopped_by, result.step) == (signal.SIGINT, 3)  # agreed on while the step after it was made
    assert run(data, tmp_path, recipe=None, gpus=2, resume=True, limit_steps=4).step == 4


def test_shortened_log_does_not_stop_a_resume(data, tmp_path):
    """A log that lost its end in a power cut costs its rows, not the run."""
    run(data, tmp_path, limit_steps=3)
    os.truncate(tmp_path / "run" / "metrics.jsonl", 0)
    assert run(data, tmp_path, recipe=None, resume=True, limit_steps=4).step == 4
    assert [row["step"] for row in rows(tmp_path)] == [4]


def test_two_gpus_need_two_gpus(data, tmp_path):
    """Without GPUs, --gpus 2 names the CPU as the way out."""
    if torch.cuda.device_count() >= 2:
        pytest.skip("this machine has two GPUs")
    with pytest.raises(DeviceError, match="--gpus 2") as caught:
        run(data, tmp_path, device="auto", gpus=2)
    assert "--device cpu" in caught.value.hint


def test_missing_store(tmp_path):
    """Without prepared data nothing is written."""
    with pytest.raises(StoreError):
        run(tmp_path / "data", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# What a run leaves -------------------------------------------------------------------------------------------------------------


def test_the_log(data, tmp_path):
    """Step rows have the documented keys, count from 1, and carry the rates that were used."""
    run(data, tmp_path, recipe=narrow_small(epochs=2))
    steps, epochs = rows(tmp_path), rows(tmp_path, kind="epoch")
    assert list(steps[0]) == [
        "kind", "step", "epoch", "loss", "top1_error", "learning_rate", "bias_learning_rate", "images_per_second", "data_wait",
    ]  # fmt: skip
    assert [row["step"] for row in steps] == list(range(1, 11))
    assert [row["epoch"] for row in steps] == [1] * 5 + [2] * 5
    assert [row["learning_rate"] for row in steps] == pytest.approx([0.01] * 7 + [0.001] * 2 + [0.0001])
    assert [row["bias_learning_rate"] for row in steps] == pytest.approx([0.02] * 7 + [0.002] * 2 + [0.0002])
    assert steps[0]["images_per_second"] is None  # the first step of a size compiles
    assert steps[1]["images_per_second"] > 0 and 0 <= steps[1]["data_wait"] <= 1
    assert [(row["epoch"], row["step"], row["val_images"]) for row in epochs] == [(1, 5, 7), (2, 10, 7)]
    assert all({"val_top1_error", "val_top5_error", "val_loss"} <= set(row) for row in epochs)


def test_the_weights_files(data, tmp_path):
    """Best is that of the epoch with the lowest top-1 error, last that of the last step, both with classes and mean."""
    result = run(data, tmp_path)
    errors = [row["val_top1_error"] for row in rows(tmp_path, kind="epoch")]
    best, last = (load_weights(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "last"))
    assert best.epoch == errors.index(min(errors)) + 1
    assert best.accuracy["val_top1_error"] == min(errors) == result.best_top1_error
    assert (last.epoch, last.step) == (3, 15)
    assert best.classes == ("cat", "dog")
    assert last.mean.shape == (3, 256, 256)
    assert (tmp_path / "latest").resolve() == tmp_path / "run"


def test_less_than_an_epoch_leaves_both_files(data, tmp_path):
    """A run that ends early is still tested once, and can be used."""
    run(data, tmp_path, limit_steps=2)
    assert [(row["epoch"], row["step"]) for row in rows(tmp_path, kind="epoch")] == [(0, 2)]
    for name in ("best", "last"):
        assert "val_top1_error" in load_weights(tmp_path / "run" / f"{name}.safetensors").accuracy


def test_without_labels_to_test_on(data, tmp_path):
    """Where val's labels are unknown training goes on without tests, says so, and best is the newest."""
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    with lmdb.open(str(copy / "val")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"labels", b"\xff" * 4 * 7)
    reporter = Notes()
    result = run(copy, tmp_path, recipe=narrow_small(epochs=2), reporter=reporter)
    assert result.best_top1_error is None
    assert any("has no labels: no test after each epoch" in line for line in reporter.lines)
    assert [(row["epoch"], row["step"], "val_loss" in row) for row in rows(tmp_path, kind="epoch")] == [
        (1, 5, False),
        (2, 10, False),
    ]
    best, last = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    trained = load_weights(tmp_path / "run" / "best.safetensors")
    assert (trained.epoch, trained.accuracy) == (2, {})


def test_training_set_smaller_than_a_batch(data, tmp_path):
    """One short batch per epoch."""
    result = run(data, tmp_path, recipe=replace(narrow_small(epochs=2), batch_size=128))
    assert (result.step, result.total_steps) == (2, 2)


def test_first_loss_is_the_mean_over_the_batch(data, tmp_path):
    """The first row's loss is that of the initial network: about ln 2 for two classes."""
    run(data, tmp_path, recipe=narrow(original(), epochs=1), limit_steps=1)
    assert losses(tmp_path)[0] == pytest.approx(0.693, abs=0.2)


def test_runs_without_a_name(data, tmp_path):
    """A run without a name is named by the time, and --resume finds it."""
    result = run(data, tmp_path, None, limit_steps=1)
    assert result.folder.name[:2] == "20"
    assert run(data, tmp_path, None, recipe=None, resume=True, limit_steps=2).folder == result.folder
