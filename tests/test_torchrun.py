"""The processes that torchrun starts: two nodes like one device, a killed rank, and a stop that is not started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from alexnet_cli.core.config import write_config
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.resume import saved_steps
from alexnet_cli.core.torchrun import Place, place_from
from tests.networks import narrow
from tests.pictures import make_source
from tests.test_journey import surroundings

COUNTS = {"train": {"cat": 20, "dog": 16}, "val": {"cat": 4, "dog": 3}}
TRAIN = ["train", "--config", "narrow.toml", "--device", "cpu", "--log-every", "1", "--checkpoint-every", "3steps"]
ENVIRONMENT = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store and the configuration of a narrow network in fp64."""
    folder = tmp_path_factory.mktemp("torchrun")
    prepare(make_source(folder / "source", COUNTS), folder / "data", workers=1)
    write_config(folder / "narrow.toml", {**narrow(epochs=4).to_dict(), "run": {"seed": 0, "precision": "fp64"}})
    return folder


def start(place: Path, name: str, *torchrun: str) -> subprocess.Popen[str]:
    """Start torchrun on the training; what it says goes to one text."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *torchrun,
        "-m",
        "alexnet_cli",
        *TRAIN,
        "--name",
        name,
        "--auto-resume",
    ]
    environment = surroundings(OMP_NUM_THREADS="1")
    return subprocess.Popen(
        command, cwd=place, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for torchrun and return its exit code and what was said."""
    try:
        output, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output


def port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def rows(place: Path, name: str) -> list[dict[str, Any]]:
    """Return the log of a run without what differs from run to run."""
    lines = (place / "runs" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    timed = ("images_per_second", "data_wait", "val_seconds")
    return [{key: value for key, value in json.loads(line).items() if key not in timed} for line in lines]


def worker(process: subprocess.Popen[str], place: Path, name: str) -> psutil.Process:
    """Return rank 1 of the training, once a checkpoint has been written."""
    deadline = time.monotonic() + 120
    while not saved_steps(place / "runs" / name / "resume") and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children()
    return next(child for child in children if child.environ().get("RANK") == "1")


@pytest.mark.parametrize("missing", [None, *ENVIRONMENT])
def test_what_torchrun_says(missing: str | None) -> None:
    """All of torchrun's variables together name a place; a cluster's that happen to be there do not."""
    environment: Mapping[str, str] = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    assert place_from(environment) == (Place(5, 8, 1, 4) if missing is None else None)
    assert place_from({**ENVIRONMENT, "RANK": "x"}) is None


def test_two_nodes_train_like_one_device(place: Path) -> None:
    """Two nodes of two processes, two copies of the pair of towers: the losses and tests of one device, said by rank 0 alone."""
    subprocess.run([sys.executable, "-m", "alexnet_cli", *TRAIN, "--run", "one"], cwd=place, env=surroundings(), check=True)
    meeting = ["--nnodes", "2", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port()]
    nodes = [start(place, "four", *meeting, "--node-rank", str(node)) for node in (0, 1)]
    (code, first), (other_code, second) = (ended(node) for node in nodes)
    assert (code, other_code) == (0, 0), first + second
    assert "tower b on rank 3: " in first and "best top-1 error" in first
    assert "tower" not in second and "best top-1 error" not in second
    for one, four in zip(rows(place, "one"), rows(place, "four"), strict=True):
        assert [four.pop(name, None) for name in ("kind", "parameter")] == [one.pop(name, None) for name in ("kind", "parameter")]
        assert four == pytest.approx(one, rel=1e-6 if "ratio" in one else 1e-9)  # ratios are reckoned in float32


def test_a_killed_rank_is_started_again(place: Path) -> None:
    """With --max-restarts and --auto-resume a kill costs the steps since the checkpoint: the same log, the same weights."""
    assert ended(start(place, "straight", "--nproc-per-node", "2", "--master-port", port()))[0] == 0
    process = start(place, "killed", "--nproc-per-node", "2", "--master-port", port(), "--max-restarts", "2")
    worker(process, place, "killed").kill()
    code, output = ended(process)
    assert code == 0, output
    assert "resuming at step" in output
    assert "error: rank 0 has lost the others, of which one has failed or was killed" in output
    assert rows(place, "killed") == rows(place, "straight")
    weights = [(place / "runs" / name / "last.safetensors").read_bytes() for name in ("killed", "straight")]
    assert weights[0] == weights[1]


def test_a_stop_is_not_started_again(place: Path) -> None:
    """SIGTERM to any rank: all save after the same step and end well, so that torchrun has no reason to start them again."""
    process = start(place, "stopped", "--nproc-per-node", "2", "--master-port", port(), "--max-restarts", "2")
    worker(process, place, "stopped").send_signal(signal.SIGTERM)
    code, output = ended(process)
    assert code == 0, output
    assert "resuming" not in output and "Traceback" not in output
    saved = saved_steps(place / "runs" / "stopped" / "resume")[0]
    assert 3 < saved < 20 and f"{saved} of 20" in output


def test_what_rank_0_refuses_is_said_once(place: Path) -> None:
    """A run that cannot begin ends all processes with one message."""
    (place / "runs" / "there").mkdir(parents=True)
    (place / "runs" / "there" / "notes.txt").write_text("mine")
    command = [*TRAIN, "--name", "there"]
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port(), "-m", "alexnet_cli"]
    result = subprocess.run(
        [*run, *command], cwd=place, env=surroundings(OMP_NUM_THREADS="1"), check=False, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("error:")] == ["error: run runs/there exists already"]
