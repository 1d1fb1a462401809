"""Two processes, one tower each: this process is rank 0, the other one is started here."""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.core.devices import Precision, choose_device, choose_precision
from alexnet_cli.core.errors import DeviceError, RunError
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.towers import Layout, join_ranks
from alexnet_cli.core.train_job import Job, TrainResult

Rank = Callable[[Job, Layout, Reporter, StopRequest], TrainResult]
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
    context = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        meeting_file = str(Path(folder, "meeting"))
        other = context.Process(target=_second_rank, args=(rank, job, devices[1], meeting_file), daemon=True)
        other.start()
        try:
            _share_processor(devices[0])
            layout = join_ranks(0, devices[0], meeting_file)
            result = rank(job, layout, reporter, stop)
            other.join(timeout=60)
            layout.close()
            return result
        except RuntimeError as error:
            raise _explained(error, other) from error
        finally:
            torch.set_num_threads(threads)
            if other.is_alive():
                other.kill()


def _explained(error: RuntimeError, other: Any) -> Exception:
    """Turn the transport's error into what happened, where the other rank has gone; other errors stay what they are."""
    other.join(timeout=2)
    if other.is_alive():
        return error
    return RunError(
        f"rank 1 (tower b) ended with exit code {other.exitcode} in the middle of the training",
        hint="continue from the last checkpoint with --resume",
    )


def _second_rank(rank: Rank, job: Job, device: torch.device, meeting_file: str) -> None:
    """Run tower b: silent, and deaf to Ctrl-C, as rank 0 decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _share_processor(device)
    layout = join_ranks(1, device, meeting_file)
    rank(job, layout, Reporter(), StopRequest(lambda text: None))
    layout.close()


def _share_processor(device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
