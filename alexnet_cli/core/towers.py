"""How the two towers live: both on one device, or one on each of two ranks, and what the ranks exchange.

Activations cross before the layers that read both towers, gradients come back on the same edges and are summed where the
activation was born, as the authors' two GPUs did. fc8 and the loss are on rank 0 alone (net #145's `fc8` names gpu=0).
Legend: B batch, C channels, U units; H, W.
"""

import datetime
import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from alexnet_cli.core.errors import DeviceError

TIMEOUT = datetime.timedelta(minutes=30)  # one rank alone writes files and compiles; the other waits


class Layout:
    """Where this process stands: rank 0 (tower a, fc8 and the loss) or 1 (tower b) of `world` processes.

    sent_bytes: what this rank has sent to the other so far, by kind: activations and their gradients, pictures (and labels),
    weights (and velocities, gathered for files).
    """

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | None = None) -> None:
        self.rank = rank
        self.world = world
        self.device = device or torch.device("cpu")
        self.sent_bytes = {"activations": 0, "gradients": 0, "pictures": 0, "weights": 0}

    @property
    def split(self) -> bool:
        """Whether the towers are on two ranks."""
        return self.world == 2

    @property
    def tower(self) -> str:
        """Name of what is held here: "a", "b", or "a+b" on one device."""
        return "ab"[self.rank] if self.split else "a+b"

    def rows(self, layer: str, count: int) -> slice:
        """Return which of a layer's `count` outputs are held here: its tower's half; all of fc8 on rank 0, none on rank 1."""
        if not self.split:
            return slice(0, count)
        if layer == "fc8":
            return slice(0, count if self.rank == 0 else 0)
        return slice(self.rank * count // 2, (self.rank + 1) * count // 2)

    # What the network needs -------------------------------------------------------------------------------------------------

    def join(self, own: Tensor) -> Tensor:
        """Put both towers' values side by side, (B, C, ...) to (B, 2 C, ...), a before b; gradients are summed at the owner."""
        return _Join.apply(own, self) if self.split else own

    def join_on_first(self, own_BU: Tensor) -> Tensor:
        """Put both towers' values side by side on rank 0; rank 1 gets a zero whose gradient travels back to it."""
        return _JoinOnFirst.apply(own_BU, self) if self.split else own_BU

    # What training and evaluation need --------------------------------------------------------------------------------------

    def share(self, total: int) -> range:
        """Return which rows of a batch of `total` this rank loads: the first half, rounded up, is rank 0's."""
        first = -(-total // self.world)
        return range(0, first) if self.rank == 0 else range(first, total)

    def exchange_rows(self, own: Tensor, total: int) -> Tensor:
        """Return the whole batch of `total` rows from each rank's share of it."""
        if not self.split:
            return own
        other = own.new_empty((total - len(own), *own.shape[1:]))
        self.swap(own.contiguous(), other, "pictures")
        return torch.cat([own, other] if self.rank == 0 else [other, own])

    def agree(self, number: float) -> float:
        """Return rank 0's number on both ranks."""
        if not self.split:
            return number
        value = torch.tensor([number], dtype=torch.float64, device=self.device)
        dist.broadcast(value, src=0)
        return float(value.item())

    def numbers(self, own: float) -> list[float]:
        """Return each rank's number, on all ranks."""
        if not self.split:
            return [own]
        values = [torch.zeros(1, dtype=torch.float64, device=self.device) for _ in range(self.world)]
        dist.all_gather(values, torch.tensor([own], dtype=torch.float64, device=self.device))
        return [float(value.item()) for value in values]

    def gather(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join both ranks' halves of named tensors on rank 0, in the shapes of the one-device network; rank 1 gets none."""
        if not self.split:
            return {name: value.detach() for name, value in own.items()}
        return {name: whole for name, value in own.items() if (whole := self._gather_one(name, value.detach())) is not None}

    def _gather_one(self, name: str, own: Tensor) -> Tensor | None:
        if name.startswith("fc8"):
            return own if self.rank == 0 else None
        if self.rank == 1:
            self.send(own.contiguous(), "weights")
            return None
        other = torch.empty_like(own, memory_format=torch.contiguous_format)
        self.receive(other)
        return torch.cat([own, other])

    # Transport --------------------------------------------------------------------------------------------------------------

    def swap(self, outgoing: Tensor, incoming: Tensor, kind: str) -> None:
        """Send and receive at once; an empty tensor is neither sent nor waited for."""
        peer = 1 - self.rank
        transfers = [dist.P2POp(dist.isend, outgoing, peer)] if outgoing.numel() else []
        transfers += [dist.P2POp(dist.irecv, incoming, peer)] if incoming.numel() else []
        # Both ranks name the message of rank 0 first, which keeps the pairs in one order on every backend.
        for work in dist.batch_isend_irecv(transfers if self.rank == 0 else transfers[::-1]) if transfers else ():
            work.wait()
        self.sent_bytes[kind] += outgoing.nbytes

    def send(self, values: Tensor, kind: str) -> None:
        """Send a tensor to the other rank, which knows its shape; an empty one is not sent."""
        if values.numel():
            dist.send(values, 1 - self.rank)
        self.sent_bytes[kind] += values.nbytes

    def receive(self, values: Tensor) -> None:
        """Fill a tensor with what the other rank sends."""
        if values.numel():
            dist.recv(values, 1 - self.rank)

    def close(self) -> None:
        """Leave the group of processes."""
        if self.split and dist.is_initialized():
            dist.destroy_process_group()


ONE_DEVICE = Layout()


def join_ranks(rank: int, device: torch.device, meeting_file: str) -> Layout:
    """Meet the other rank over a file and return the layout of two ranks.

    device: this rank's own; NCCL carries the exchange between GPUs, gloo between processes on the CPU.
    meeting_file: a path that both can write and that does not exist yet.
    Raises DeviceError when the ranks cannot reach each other.
    """
    # Both processes are on this machine: its host name need not resolve.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(backend, init_method=f"file://{meeting_file}", rank=rank, world_size=2, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"the two ranks could not meet over {backend}: {error}", hint="try --gpus 1") from error
    return Layout(rank, 2, device)


def _to_wire(values: Tensor) -> Tensor:
    """Lay channels last, as the network's activations are in memory, so that no copy is needed."""
    return values.movedim(1, -1).contiguous()


class _Join(torch.autograd.Function):
    """Forward: both towers' channels on both ranks. Backward: each half's gradients are summed on the rank that owns it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        wire = _to_wire(own)
        other = torch.empty_like(wire)
        layout.swap(wire, other, "activations")
        return torch.cat([wire, other] if layout.rank == 0 else [other, wire], dim=-1).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layout: Layout = ctx.layout
        halves = _to_wire(gradients[0]).chunk(2, dim=-1)
        received = torch.empty_like(halves[0], memory_format=torch.contiguous_format)
        layout.swap(halves[1 - layout.rank].contiguous(), received, "gradients")
        return (halves[layout.rank] + received).movedim(-1, 1), None


class _JoinOnFirst(torch.autograd.Function):
    """Forward: tower b's values go to rank 0. Backward: their gradient comes back to rank 1."""

    @staticmethod
    def forward(ctx: Any, own_BU: Tensor, layout: Layout) -> Tensor:
        ctx.layout, ctx.shape = layout, own_BU.shape
        if layout.rank == 1:
            layout.send(own_BU.contiguous(), "activations")
            return own_BU.new_zeros(())
        other_BU = torch.empty_like(own_BU)
        layout.receive(other_BU)
        return torch.cat([own_BU, other_BU], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layout: Layout = ctx.layout
        if layout.rank == 1:
            received_BU = gradients[0].new_empty(ctx.shape)
            layout.receive(received_BU)
            return received_BU, None
        own_BU, other_BU = gradients[0].chunk(2, dim=1)
        layout.send(other_BU.contiguous(), "gradients")
        return own_BU, None
