"""How the ranks of a training find each other: the group of processes, and its mesh of replicas and towers."""

import datetime
import os
import sys
import time
import uuid
from typing import NoReturn

import torch
import torch.distributed as dist
from torch.distributed import FileStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.rendezvous import rendezvous

from alexnet_cli.core.errors import DeviceError
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Layout

has_met = False  # whether this process has been one of several ranks
TIMEOUT = datetime.timedelta(minutes=10)  # the other ranks wait while one compiles or reads a slow disk


def join_ranks(
    rank: int, device: torch.device, meeting_file: str | None = None, *, world: int = 2, towers: int | None = None
) -> Layout:
    """Meet the other ranks and return the layout of all.

    device: this rank's own; NCCL carries the exchange between GPUs, gloo between processes on the CPU. meeting_file: a path
    that all ranks can write and that does not exist yet; None to meet where torchrun says. towers: 2 for a tower on each rank
    of a pair, 1 for both on each rank.
    Raises DeviceError when the ranks cannot reach each other.
    """
    global has_met
    _stay_on_this_machine()
    cuda = device.type == "cuda"
    try:
        if cuda:
            torch.cuda.set_device(device)
        store = FileStore(meeting_file, world) if meeting_file else _torchruns_store(rank, world)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
        shape = Layout(rank, world, device, towers=towers).mesh
        groups = init_device_mesh(device.type, (shape.replicas, shape.towers), mesh_dim_names=("data", "tower"))
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"the {world} ranks could not meet: {error}", hint="try --gpus 1") from error
    has_met = True
    return Layout(rank, world, device, towers=towers, groups=groups)


def _torchruns_store(rank: int, world: int) -> Store:
    """Return torchrun's store of keys, for this attempt alone.

    Restarted processes may find the keys, and so the addresses, of those before them (torchrun's static rendezvous keeps its
    store), and torchrun's count of restarts is not the same on all machines. So rank 0 makes up a name for the attempt, and
    each other rank learns it as the answer to a name of its own that no process before it had.
    """
    shared, _, _ = next(rendezvous("env://", rank, world, timeout=TIMEOUT))
    if rank > 0:
        own = uuid.uuid4().hex
        shared.set(f"alexnet/{rank}", own)
        attempt = shared.get(f"alexnet/{own}").decode()  # waits for it
        shared.set(f"alexnet/{attempt}/{rank}", "here")
        return PrefixStore(attempt, shared)
    attempt, missing = uuid.uuid4().hex, set(range(1, world))
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while missing:
        for other in sorted(missing):
            if shared.check([f"alexnet/{other}"]):
                shared.set(f"alexnet/{shared.get(f'alexnet/{other}').decode()}", attempt)
        missing = {other for other in missing if not shared.check([f"alexnet/{attempt}/{other}"])}
        if time.monotonic() > deadline:
            raise RuntimeError(f"ranks {sorted(missing)} never came")
        time.sleep(0.05)
    return PrefixStore(attempt, shared)


def leave_ranks() -> None:
    """Leave the group of processes, where there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def end_at_once(code: int) -> NoReturn:
    """End a process that was one of several ranks, when all is said and written.

    In the interpreter's own ending a thread of gloo's, still there at times, aborts the process; torchrun would start all again.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _stay_on_this_machine() -> None:
    """Let gloo talk over the loopback where all processes are on this machine, whose host name need not resolve then."""
    place = place_from()
    if place is None or place.local_world == place.world:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
