"""The ranks of a training or an evaluation: which there are, and how they are run.

This process is alone, or starts the others here, or torchrun has started all.

Where they are started here, this process is rank 0.
"""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import torch

from alexnet_cli.core.devices import Precision, choose_device, choose_precision
from alexnet_cli.core.errors import AlexNetError, DeviceError, ElsewhereError, RunError
from alexnet_cli.core.meeting import end_at_once, join_ranks, leave_ranks
from alexnet_cli.core.mesh import Mesh
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.torchrun import Place
from alexnet_cli.core.towers import Layout

Result = TypeVar("Result")
Work = TypeVar("Work")  # what all ranks are given, which can be pickled
Rank = Callable[[Work, Layout, Reporter, StopRequest], Result]
MEETING = "meeting"  # file in the ranks' common folder
STAND_IN = "use --device cpu: processes stand in for the GPUs"
GRACE = 10.0  # seconds in which rank 0 may notice by itself that another rank has gone; NCCL never does
CONTINUE = "continue from the last checkpoint with --resume"


@dataclass(frozen=True)
class Ranks(Mesh):
    """All ranks of a training. devices: of those on this machine.

    place: where torchrun has put this process, None where it did not start it.
    """

    devices: tuple[torch.device, ...]
    place: Place | None = None


def plan_ranks(
    gpus: int, towers: int | None, device: str, precision: str, place: Place | None, *, trains: bool = True
) -> tuple[Ranks, Precision]:
    """Return the ranks of a training or an evaluation, and its arithmetic.

    gpus: ranks to be started here, unless torchrun (place) has started them. towers: 2, 1, or None for 2 wherever ranks can be
    paired. trains: whether there are gradients. On the CPU processes stand in for GPUs.
    Raises DeviceError when the machine has fewer GPUs, when an odd number is to be paired, and for fp16 on several, whose loss
    scale all ranks would have to agree on.
    """
    world, here = (place.world, place.local_world) if place else (gpus, gpus)
    if world < 1:
        raise DeviceError(f"--gpus {world}, expected at least 1")
    if world > 1 and world % 2 and towers != 1:
        raise DeviceError(
            f"{world} ranks cannot be paired, a tower on each", hint="use an even number, or --towers 1 for both towers on each"
        )
    first = choose_device(device)
    arithmetic = choose_precision(precision, first)
    if world == 1 and towers == 2:
        raise DeviceError(
            "--towers 2 puts a tower on each of two GPUs, but there is one rank", hint="use --gpus 2, or leave it out"
        )
    if world == 1:
        return Ranks(1, 1, (torch.device("cuda", 0) if first.type == "cuda" else first,), place), arithmetic
    if first.type == "mps" or (device == "auto" and first.type == "cpu"):
        raise DeviceError(f"--gpus {world} on a machine with no NVIDIA GPU", hint=STAND_IN)
    if trains and arithmetic.name == "fp16":
        raise DeviceError("fp16 trains on one device only", hint="use --precision bf16 or tf32, or --gpus 1")
    return Ranks(world, 1 if towers == 1 else 2, _devices(first, here), place), arithmetic


def _devices(first: torch.device, count: int) -> tuple[torch.device, ...]:
    if first.type == "cpu":
        return (first,) * count
    found = torch.cuda.device_count()
    if found < count:
        raise DeviceError(
            f"{count} ranks on a machine with {found} GPU{'s' * (found != 1)}", hint=f"use --gpus {found}, or {STAND_IN[4:]}"
        )
    return tuple(torch.device("cuda", index) for index in range(count))


# Started by torchrun ---------------------------------------------------------------------------------------------------------


def join_torchrun(ranks: Ranks) -> Layout:
    """Meet the other ranks that torchrun has started, and return where this one stands."""
    assert ranks.place is not None
    return join_ranks(ranks.place.rank, ranks.devices[ranks.place.local_rank], world=ranks.world, towers=ranks.towers)


def run_among_others(
    rank: Rank[Work, Result], job: Work, layout: Layout, reporter: Reporter, stop: StopRequest, *, hint: str = CONTINUE
) -> Result:
    """Run this process's rank to its end; a failure of another rank is told by that one, and torchrun ends the rest."""
    try:
        return rank(job, layout, reporter, stop)
    except RuntimeError as error:
        if layout.world == 1 or not _is_transport(error):
            raise
        raise RunError(f"rank {layout.rank} has lost the others, of which one has failed or was killed", hint=hint) from error


def _is_transport(error: RuntimeError) -> bool:
    """Say whether an error is that of a broken connection: torch gives those no class of their own."""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("gloo", "nccl", "connection", "socket", "distbackend", "distnetwork", "broken pipe"))


# Started here ----------------------------------------------------------------------------------------------------------------


def run_together(
    rank: Rank[Work, Result], job: Work, ranks: Ranks, reporter: Reporter, stop: StopRequest, *, hint: str = CONTINUE
) -> Result:
    """Start the other ranks, run all to their end and return rank 0's result; when one fails, all end within seconds.

    hint: what to do when a rank was lost.
    """
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="alexnet-") as name:
        folder = Path(name)
        share = max(1, threads // ranks.world) if ranks.devices[0].type == "cpu" else threads
        others = Others(rank, job, ranks, folder, share, hint)
        guard = _Guard(others, reporter)
        try:
            others.wait_until_ready()
            torch.set_num_threads(share)
            with guard:
                layout = join_ranks(0, ranks.devices[0], str(folder / MEETING), world=ranks.world, towers=ranks.towers)
                result = rank(job, layout, reporter, stop)
            others.join(60)
            return result
        except (RuntimeError, ElsewhereError, DeviceError) as error:
            raise others.explained(error) from error
        finally:
            torch.set_num_threads(threads)
            others.kill()
            leave_ranks()


class Others:
    """The processes of ranks 1 and up, which this process starts and ends."""

    def __init__(self, rank: Rank[Work, Any], job: Work, ranks: Ranks, folder: Path, threads: int, hint: str) -> None:
        self._folder, self.hint = folder, hint
        self._names = {number: ranks.name(number) for number in range(1, ranks.world)}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
        try:
            # Deaf to signals from their first instruction on, as a blocked signal stays blocked in a child: rank 0 tells them.
            self._processes = [_start((rank, job, ranks, number, folder, threads)) for number in range(1, ranks.world)]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait_until_ready(self) -> None:
        """Wait until all are about to join; inside the transport's own waiting no Ctrl-C would be heard."""
        while not all((self._folder / f"ready-{number}").exists() for number in self._names):
            if self.failed():
                raise RuntimeError("a rank never came")
            time.sleep(0.05)

    def failed(self) -> bool:
        """Whether one has ended otherwise than well."""
        return any(process.exitcode not in (None, 0) for process in self._processes)

    def join(self, seconds: float) -> None:
        """Give them time to end by themselves."""
        deadline = time.monotonic() + seconds
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """End those that are still there."""
        for process in self._processes:
            if process.is_alive():
                process.kill()

    def explained(self, error: Exception) -> Exception:
        """Turn the transport's error into what happened, where another rank has gone; other errors stay what they are."""
        self.join(2)
        told = sorted(self._folder.glob("failure-*"), key=lambda path: path.stat().st_mtime_ns)
        for path in told:
            message, hint, elsewhere = json.loads(path.read_text(encoding="utf-8"))
            if not elsewhere:
                return RunError(message, hint=hint)
        for name, process in zip(self._names.values(), self._processes, strict=True):
            if process.exitcode not in (None, 0, 1):
                return RunError(f"{name} ended with exit code {process.exitcode} in the middle of the work", hint=self.hint)
        return error


class _Guard:
    """Ends this process when another rank has gone and the training does not notice, as it may wait for it inside a GPU's queue."""

    def __init__(self, others: Others, reporter: Reporter) -> None:
        self._others, self._reporter = others, reporter
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            if self._others.failed():
                if self._done.wait(GRACE):
                    return
                error = self._others.explained(RunError("another rank has failed", hint=self._others.hint))
                self._others.kill()
                self._reporter.fail(getattr(error, "message", str(error)), getattr(error, "hint", ""))
                os._exit(1)

    def __enter__(self) -> "_Guard":
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._done.set()


def _start(arguments: tuple[Any, ...]) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=_other_rank, args=arguments, daemon=True)
    process.start()
    return process


def _other_rank(rank: Rank[Work, Any], job: Work, ranks: Ranks, number: int, folder: Path, threads: int) -> None:
    """Run a rank that is silent, as rank 0 decides when to stop and says what went wrong, here too."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    (folder / f"ready-{number}").touch()
    try:
        layout = join_ranks(number, ranks.devices[number], str(folder / MEETING), world=ranks.world, towers=ranks.towers)
        rank(job, layout, Reporter(), StopRequest(lambda text: None))
        leave_ranks()
        end_at_once(0)
    except AlexNetError as error:
        _tell(folder, number, error.message, error.hint, elsewhere=isinstance(error, ElsewhereError))
    except Exception as error:  # whatever it is, rank 0 tells it in one line
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Mostly the transport's, because another rank has ended; then that one's own words count.
        _tell(
            folder, number, f"rank {number} failed: {text}", "", elsewhere=isinstance(error, RuntimeError) and _is_transport(error)
        )


def _tell(folder: Path, number: int, message: str, hint: str, *, elsewhere: bool) -> None:
    partial = folder / f".failure-{number}"
    partial.write_text(json.dumps([message, hint, elsewhere]), encoding="utf-8")
    partial.replace(folder / f"failure-{number}")
    sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
