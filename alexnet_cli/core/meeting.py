"""How the ranks of a training find each other: the group of processes, and its mesh of replicas and towers."""

import datetime
import os

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from alexnet_cli.core.errors import DeviceError
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Layout

TIMEOUT = datetime.timedelta(minutes=30)  # the other ranks wait while the first compiles or a slow disk is read


def join_ranks(
    rank: int, device: torch.device, meeting_file: str | None = None, *, world: int = 2, towers: int | None = None
) -> Layout:
    """Meet the other ranks and return the layout of all.

    device: this rank's own; NCCL carries the exchange between GPUs, gloo between processes on the CPU. meeting_file: a path
    that all ranks can write and that does not exist yet; None to meet where torchrun says. towers: 2 for a tower on each rank
    of a pair, 1 for both on each rank.
    Raises DeviceError when the ranks cannot reach each other.
    """
    _stay_on_this_machine()
    cuda = device.type == "cuda"
    try:
        if cuda:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=f"file://{meeting_file}" if meeting_file else "env://",
            rank=rank,
            world_size=world,
            timeout=TIMEOUT,
        )
        layout = Layout(rank, world, device, towers=towers)
        mesh = init_device_mesh(device.type, (layout.replicas, layout.towers), mesh_dim_names=("data", "tower"))
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"the {world} ranks could not meet: {error}", hint="try --gpus 1") from error
    return Layout(rank, world, device, towers=towers, mesh=mesh)


def leave_ranks() -> None:
    """Leave the group of processes, where there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _stay_on_this_machine() -> None:
    """Let gloo talk over the loopback where all processes are on this machine, whose host name need not resolve then."""
    place = place_from()
    if place is None or place.local_world == place.world:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
