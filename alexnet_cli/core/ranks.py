"""Two processes, one tower each: this process is rank 0, the other one is started here."""

import json
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.core.devices import Precision, choose_device, choose_precision
from alexnet_cli.core.errors import AlexNetError, DeviceError, RunError
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.towers import Layout, join_ranks
from alexnet_cli.core.train_job import Job, TrainResult

Rank = Callable[[Job, Layout, Reporter, StopRequest], TrainResult]
MEETING, READY, FAILURE = "meeting", "ready", "failure"  # files in the ranks' common folder
STAND_IN = "use --device cpu: two processes stand in for the two GPUs"


def devices_for(gpus: int, device: str, precision: str) -> tuple[list[torch.device], Precision]:
    """Return one device per rank, and the arithmetic.

    gpus: 1, or 2 for a tower on each; on the CPU two processes stand in for them.
    Raises DeviceError when the machine has fewer GPUs, and for fp16 on two, whose loss scale both ranks would have to agree on.
    """
    if gpus not in (1, 2):
        raise DeviceError(f"--gpus {gpus}, expected 1 or 2: the network has two towers", hint="use --gpus 2")
    first = choose_device(device)
    arithmetic = choose_precision(precision, first)
    if gpus == 1:
        return [first], arithmetic
    if first.type == "mps" or (device == "auto" and first.type == "cpu"):
        raise DeviceError("--gpus 2 on a machine with no NVIDIA GPU", hint=STAND_IN)
    if arithmetic.name == "fp16":
        raise DeviceError("fp16 trains on one device only", hint="use --precision bf16 or tf32, or --gpus 1")
    if first.type == "cpu":
        return [first, first], arithmetic
    found = torch.cuda.device_count()
    if found < 2:
        raise DeviceError(f"--gpus 2 on a machine with {found} GPU", hint=STAND_IN)
    return [torch.device("cuda:0"), torch.device("cuda:1")], arithmetic


def train_on_two(rank: Rank, job: Job, devices: list[torch.device], reporter: Reporter, stop: StopRequest) -> TrainResult:
    """Run both ranks to their end and return rank 0's result; when one fails, both end."""
    threads = torch.get_num_threads()
    layout = None
    with tempfile.TemporaryDirectory(prefix="alexnet-") as name:
        folder = Path(name)
        share = max(1, threads // 2) if devices[0].type == "cpu" else threads
        other = _start_deaf(_second_rank, (rank, job, devices[1], folder, share))
        try:
            _wait_for(other, folder)
            torch.set_num_threads(share)
            layout = join_ranks(0, devices[0], str(folder / MEETING))
            result = rank(job, layout, reporter, stop)
            other.join(timeout=60)
            return result
        except RuntimeError as error:
            raise _explained(error, other, folder) from error
        finally:
            torch.set_num_threads(threads)
            if other.is_alive():
                other.kill()
            if layout is not None:
                layout.close()


def _start_deaf(target: Callable[..., None], arguments: tuple[Any, ...]) -> Any:
    """Start a process that never sees Ctrl-C, from its first instruction on: a blocked signal stays blocked in a child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
        process.start()
        return process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_for(other: Any, folder: Path) -> None:
    """Wait until the other rank is about to join; inside the transport's own waiting no Ctrl-C would be heard."""
    while not (folder / READY).exists():
        if not other.is_alive():
            raise _explained(RuntimeError("rank 1 never came"), other, folder)
        time.sleep(0.05)


def _explained(error: RuntimeError, other: Any, folder: Path) -> Exception:
    """Turn the transport's error into what happened, where the other rank has gone; other errors stay what they are."""
    other.join(timeout=2)
    if (folder / FAILURE).exists():
        message, hint = json.loads((folder / FAILURE).read_text(encoding="utf-8"))
        return RunError(message, hint=hint)
    if other.is_alive():
        return error
    return RunError(
        f"rank 1 (tower b) ended with exit code {other.exitcode} in the middle of the training",
        hint="continue from the last checkpoint with --resume",
    )


def _second_rank(rank: Rank, job: Job, device: torch.device, folder: Path, threads: int) -> None:
    """Run tower b: silent, as rank 0 decides when to stop and says what went wrong, here too."""
    torch.set_num_threads(threads)
    (folder / READY).touch()
    try:
        layout = join_ranks(1, device, str(folder / MEETING))
        rank(job, layout, Reporter(), StopRequest(lambda text: None))
        layout.close()
    except AlexNetError as error:
        (folder / FAILURE).write_text(json.dumps([error.message, error.hint]), encoding="utf-8")
        sys.exit(1)
    except RuntimeError as error:
        # Mostly the transport's, because rank 0 has ended; then nobody reads this.
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        (folder / FAILURE).write_text(json.dumps([f"rank 1 (tower b) failed: {text}", ""]), encoding="utf-8")
        sys.exit(1)
