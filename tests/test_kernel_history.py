"""The first layer's kernels of every epoch: what a training keeps, and what comes of it when it is stopped."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

from alexnet_cli.core import resume
from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.errors import CheckpointError, DiskFullError, RunError
from alexnet_cli.core.kernel_history import cut_kernel_history, kept_bytes, read_kernel_history, why_not_kept
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipes import original, tiny
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.train import TrainOptions, TrainResult, train
from tests.conftest import ROOT
from tests.networks import narrow, narrow_small
from tests.pictures import prepared

COUNTS = {"train": {"cat": 20, "dog": 16}, "val": {"cat": 4, "dog": 3}}
STEPS_PER_EPOCH = 5  # 36 pictures in batches of 8
SHAPE = (8, 3, 11, 11)

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared store of 36 and 7 small photographs."""
    return prepared(tmp_path_factory.mktemp("prepared"), COUNTS)


def run(data: Path, runs: Path, name: str = "run", *, reporter: Reporter | None = None, **options: object) -> TrainResult:
    """Train on the CPU for three epochs."""
    settings: dict = {"recipe": narrow_small(epochs=3), "device": "cpu", "precision": "fp32", "workers": 2}
    return train(TrainOptions(data=data, runs=runs, run=name, **{**settings, **options}), reporter)


def files(runs: Path, name: str = "run") -> dict[str, bytes]:
    """Return the content of every file in the folder of kernels, hidden ones too."""
    folder = runs / name / "kernels"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def write_epoch(folder: Path, epoch: int, kernels: np.ndarray, **metadata: str) -> None:
    """Write a file of one epoch with the safetensors package."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {"conv1.weight": kernels},
        folder / f"epoch-{epoch:04}.safetensors",
        {"format": "alexnet-kernels", "epoch": str(epoch), **metadata},
    )


def test_a_training_keeps_each_epoch(data, tmp_path):
    """Epoch 0 has what the seed draws and the last one what the weights file has, bit for bit; each has its epoch and step."""
    run(data, tmp_path, seed=5)
    assert list(files(tmp_path)) == [f"epoch-000{epoch}.safetensors" for epoch in range(4)]
    history = read_kernel_history(RunFolder(tmp_path / "run"), narrow())
    assert [epoch for epoch, _ in history] == [0, 1, 2, 3]
    assert all(kernels.dtype == np.float32 and kernels.shape == SHAPE for _, kernels in history)
    drawn = AlexNet(narrow_small(epochs=3), 2, seed=5).get_parameter("conv1.weight").detach().numpy()
    assert np.array_equal(history[0][1], drawn)
    assert np.array_equal(history[3][1], load_file(tmp_path / "run" / "last.safetensors")["conv1.weight"])
    assert not any(np.array_equal(one[1], two[1]) for one, two in itertools.pairwise(history))
    with safe_open(tmp_path / "run" / "kernels" / "epoch-0002.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "alexnet-kernels", "format_version": "1", "epoch": "2", "step": "10"}


def test_epoch_0_of_a_start_from_weights(data, tmp_path):
    """Where conv1 is taken from a file, epoch 0 has the file's kernels and not the seed's."""
    run(data, tmp_path, "first", limit_steps=2, seed=1)
    run(data, tmp_path, "second", limit_steps=1, seed=5, init="first", init_layers="conv1")
    taken = load_file(tmp_path / "first" / "last.safetensors")["conv1.weight"]
    ((epoch, kernels),) = read_kernel_history(RunFolder(tmp_path / "second"), narrow())
    assert epoch == 0 and np.array_equal(kernels, taken)


def test_two_ranks_keep_what_one_device_keeps(data, tmp_path):
    """With a tower on each of two ranks the initial file is byte for byte that of one device, later ones equal to rounding."""
    for gpus, name in ((1, "one"), (2, "two")):
        run(data, tmp_path, name, recipe=narrow(epochs=3), precision="fp64", gpus=gpus, limit_steps=10)
    one, two = files(tmp_path, "one"), files(tmp_path, "two")
    assert one.keys() == two.keys() and len(one) == 3
    assert one["epoch-0000.safetensors"] == two["epoch-0000.safetensors"]
    histories = [read_kernel_history(RunFolder(tmp_path / name), narrow()) for name in ("one", "two")]
    for (_, mine), (_, other) in zip(*histories, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)


def test_stopped_and_resumed_keeps_the_same_bytes(data, tmp_path):
    """Stopped in an epoch and at the end of one, a run's kernels are those of an uninterrupted run, byte for byte."""
    run(data, tmp_path, "straight", seed=7)
    run(data, tmp_path, "stopped", seed=7, limit_steps=7)
    assert list(files(tmp_path, "stopped")) == ["epoch-0000.safetensors", "epoch-0001.safetensors"]
    run(data, tmp_path, "stopped", recipe=None, resume=True, limit_steps=10)
    run(data, tmp_path, "stopped", recipe=None, resume=True)
    assert files(tmp_path, "stopped") == files(tmp_path, "straight")


def test_later_epochs_than_the_state_are_cut_off(data, tmp_path):
    """Kernels that were written after the state a run goes on from are gone at once, and with them what a kill left half."""
    run(data, tmp_path, "straight", seed=7)
    run(data, tmp_path, seed=7, checkpoint_every="4steps", limit_steps=8)
    folder = tmp_path / "run"
    shutil.copy(folder / "kernels" / "epoch-0001.safetensors", folder / "kernels" / "epoch-0002.safetensors")
    shutil.copy(folder / "kernels" / "epoch-0001.safetensors", folder / "kernels" / "epoch-0009.safetensors")
    (folder / "kernels" / ".epoch-0003.safetensors.partial").write_bytes(b"half")
    (folder / "kernels" / "notes.txt").write_text("mine")
    run(data, tmp_path, recipe=None, resume=True, limit_steps=9)
    assert list(files(tmp_path)) == ["epoch-0000.safetensors", "epoch-0001.safetensors", "notes.txt"]
    run(data, tmp_path, recipe=None, resume=True)
    assert {name: content for name, content in files(tmp_path).items() if name != "notes.txt"} == files(tmp_path, "straight")


def test_killed_and_resumed_keeps_the_same_bytes(data, tmp_path):
    """After a kill without warning in the second epoch, a run that goes on ends with an uninterrupted run's kernels."""
    arguments = ["--data", str(data), "--runs", str(tmp_path), "--device", "cpu", "--precision", "fp32", "--workers", "1"]
    sets = [part for field in ("channels=[8,16,24,24,16]", "hidden=[32,32]") for part in ("--set", field)]
    arguments += ["--recipe", "small", *sets, "--batch-size", "8", "--epochs", "60", "--seed", "7", "--checkpoint-every", "3steps"]
    recipe = narrow_small(epochs=60)
    command = [sys.executable, "-m", "alexnet_cli", "train", *arguments, "--run", "killed", "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TORCH_COMPILE_DISABLE": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    try:
        while process.poll() is None and not list((tmp_path / "killed" / "kernels").glob("epoch-0002.*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    begun = resume.saved_steps(tmp_path / "killed" / "resume")[0]
    epochs = -(-begun // STEPS_PER_EPOCH) + 1
    assert begun < 60 * STEPS_PER_EPOCH, "it was over before the kill"
    for name, options in (("straight", {"recipe": recipe, "seed": 7}), ("killed", {"recipe": None, "resume": True})):
        run(data, tmp_path, name, limit_steps=epochs * STEPS_PER_EPOCH, checkpoint_every="3steps", **options)
    assert len(files(tmp_path, "straight")) == epochs + 1
    assert files(tmp_path, "killed") == files(tmp_path, "straight")


def test_a_run_begun_anew_forgets_the_first_one(data, tmp_path):
    """Where a run never reached a state, what it kept of its epochs goes when it is begun anew."""
    write_epoch(tmp_path / "run" / "kernels", 7, np.zeros(SHAPE, np.float32))
    run(data, tmp_path, auto_resume=True, limit_steps=2)
    assert list(files(tmp_path)) == ["epoch-0000.safetensors"]


def test_a_full_disk_leaves_whole_files(data, tmp_path, small_disk):
    """Without room for an epoch's kernels the training says so, no half of a file stays, and with room it ends as ever."""
    run(data, tmp_path, "straight", limit_steps=10)
    run(data, tmp_path, limit_steps=5)
    before, folder = files(tmp_path), tmp_path / "run" / "kernels"
    shutil.move(folder, small_disk / "kernels")
    folder.symlink_to(small_disk / "kernels")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 5_000))
    with pytest.raises(DiskFullError, match=r"the disk is full: .*epoch-0002\.safetensors could not be written"):
        run(data, tmp_path, recipe=None, resume=True, limit_steps=10)
    assert files(tmp_path) == before
    filler.unlink()
    run(data, tmp_path, recipe=None, resume=True, limit_steps=10)
    assert files(tmp_path) == files(tmp_path, "straight")


def test_a_diverged_epoch_is_not_kept(data, tmp_path):
    """Kernels that are no numbers never reach the disk."""
    with pytest.raises(RunError):
        run(data, tmp_path, recipe=narrow_small(epochs=3, learning_rate=1e6))
    assert all(np.isfinite(kernels).all() for _, kernels in read_kernel_history(RunFolder(tmp_path / "run"), narrow()))


def test_large_first_layers_are_not_kept(data, tmp_path):
    """400 kernels of 11x11x3 take 580,800 bytes and are kept, 800 take more than a million and are not: a note says why."""
    assert why_not_kept(narrow(channels=(400, 16, 24, 24, 16))) == ""
    wide = narrow_small(channels=(800, 16, 24, 24, 16), epochs=1)
    assert why_not_kept(wide) == "take 1.2 MB, more than 1 MB for each epoch" and kept_bytes(wide) == 0
    lines: list[str] = []

    class Notes(Reporter):
        def note(self, text: str) -> None:
            lines.append(text)

    run(data, tmp_path, recipe=wide, limit_steps=1, reporter=Notes())
    assert "the kernels of conv1 take 1.2 MB, more than 1 MB for each epoch: they are not kept by epoch" in lines
    assert not (tmp_path / "run" / "kernels").exists()


@pytest.mark.parametrize("recipe", [original(), tiny(), narrow()], ids=["original", "tiny", "narrow"])
def test_foretold_bytes_are_the_tensors(recipe):
    """What the disk is reckoned with is the first layer's weights in float32."""
    assert kept_bytes(recipe) == 4 * np.prod(parameter_shapes(recipe, 10)["conv1.weight"])


def test_local_first_layers_are_not_kept():
    """Kernels that differ from place to place have no picture."""
    local = replace(
        tiny(),
        layers=("local1", "fc2"),
        channels=(4,),
        kernels=(5,),
        strides=(4,),
        paddings=(2,),
        follows=("activation",),
        reads_both_towers=("fc2",),
        init_stdevs=(0.01, 0.01),
        init_biases=(0.0, 0.0),
    )
    assert why_not_kept(local) == "differ from place to place"


# Reading -------------------------------------------------------------------------------------------------------------------------


def test_epochs_are_read_in_order(tmp_path):
    """Epochs come by number, beyond 9999 too; other files and folders are passed over."""
    for epoch in (10_000, 2, 0):
        write_epoch(tmp_path / "kernels", epoch, np.full(SHAPE, epoch, np.float32))
    (tmp_path / "kernels" / "epoch-1.safetensors").write_bytes(b"")
    (tmp_path / "kernels" / ".epoch-0003.safetensors.partial").write_bytes(b"")
    history = read_kernel_history(RunFolder(tmp_path), narrow())
    assert [(epoch, kernels[0, 0, 0, 0]) for epoch, kernels in history] == [(0, 0), (2, 2), (10_000, 10_000)]


def test_cutting_leaves_the_epochs_before(tmp_path):
    """Cut at epoch 2, epochs 0 to 2 stay; cut at -1, none."""
    for epoch in (0, 1, 2, 3, 12_345):
        write_epoch(tmp_path / "kernels", epoch, np.zeros(SHAPE, np.float32))
    cut_kernel_history(RunFolder(tmp_path), 2)
    assert [epoch for epoch, _ in read_kernel_history(RunFolder(tmp_path), narrow())] == [0, 1, 2]
    cut_kernel_history(RunFolder(tmp_path), -1)
    assert not list((tmp_path / "kernels").iterdir())


def test_a_run_without_kernels(tmp_path):
    """A run of an earlier version has none: one line says so, and a hint why."""
    with pytest.raises(RunError, match="has no kernels of its epochs") as caught:
        read_kernel_history(RunFolder(tmp_path), narrow())
    assert caught.value.hint.startswith("runs of earlier versions")


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "not ours", "not four dimensions", "no number", "another recipe", "another epoch"]
)
def test_damaged_files_are_named(tmp_path, damage):
    """A file that is not an epoch's kernels is named, and the hint says that the others can be read without it."""
    write_epoch(tmp_path / "kernels", 0, np.zeros(SHAPE, np.float32))
    write_epoch(tmp_path / "kernels", 1, np.zeros(SHAPE, np.float32))
    path = tmp_path / "kernels" / "epoch-0001.safetensors"
    if damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 500 if damage == "cut" else 0])
    elif damage == "not ours":
        save_file({"conv1.weight": np.zeros(SHAPE, np.float32)}, path)
    elif damage == "not four dimensions":
        write_epoch(path.parent, 1, np.zeros((8, 363), np.float32))
    elif damage == "no number":
        write_epoch(path.parent, 1, np.full(SHAPE, np.nan, np.float32))
    elif damage == "another recipe":
        write_epoch(path.parent, 1, np.zeros((8, 3, 5, 5), np.float32))
    else:
        shutil.copy(path.with_name("epoch-0000.safetensors"), path)
    with pytest.raises(CheckpointError, match="kernels") as caught:
        read_kernel_history(RunFolder(tmp_path), narrow())
    assert "epoch-0001.safetensors" in caught.value.message
    assert caught.value.hint == "remove it: the other epochs can be read without it"


def test_half_precision_is_read(tmp_path):
    """A reader takes what another program has made smaller, as float32."""
    write_epoch(tmp_path / "kernels", 0, np.full(SHAPE, 0.5, np.float16))
    ((_, kernels),) = read_kernel_history(RunFolder(tmp_path), narrow())
    assert kernels.dtype == np.float32 and (kernels == 0.5).all()


def test_fp64_is_kept_as_float32(data, tmp_path):
    """A training in double precision keeps the float32 numbers of its weights file."""
    run(data, tmp_path, precision="fp64", limit_steps=5)
    kept = load_torch(tmp_path / "run" / "kernels" / "epoch-0001.safetensors")["conv1.weight"]
    whole = load_torch(tmp_path / "run" / "last.safetensors")["conv1.weight"]
    assert kept.dtype == torch.float32 and torch.equal(kept, whole)
