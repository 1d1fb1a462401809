"""How the two towers live, and how many copies of them: one mesh of ranks, data x tower, and what the ranks exchange.

Activations cross before the layers that read both towers, gradients come back on the same edges and are summed where the
activation was born, as the authors' two GPUs did. fc8 and the loss are on tower a's rank alone (net #145's `fc8` names gpu=0).
Copies ("replicas") see different images of a batch; the sums of their gradients are taken over all of them.
Legend: B batch, C channels, U units; H, W.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from alexnet_cli.core.mesh import Mesh

Anything = TypeVar("Anything")


class Layout:
    """Where this process stands among `world` ranks.

    towers: 1 where each rank holds both, 2 where ranks 0 and 1 are towers a and b of the first replica, 2 and 3 of the second,
    and so on; None for 2 wherever the ranks can be paired. groups: torch's mesh of the dimensions data and tower; None where there
    is one replica, or where nothing is exchanged.
    sent_bytes: what this rank has sent so far, by kind: activations and their gradients to the other tower, sums of gradients
    to the other replicas, pictures (and labels), weights (and velocities, gathered for files).
    """

    def __init__(
        self,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
        *,
        towers: int | None = None,
        groups: DeviceMesh | None = None,
    ) -> None:
        self.rank = rank
        self.device = device or torch.device("cpu")
        self.mesh = Mesh(world, towers or (2 if world % 2 == 0 else 1))
        assert world % self.towers == 0
        self.replica, self.tower_index = divmod(rank, self.towers)
        self._groups = groups
        self.sent_bytes = {"activations": 0, "gradients": 0, "sums of gradients": 0, "pictures": 0, "weights": 0}

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self.mesh.world

    @property
    def towers(self) -> int:
        """2 for a tower on each rank of a pair, 1 for both on each rank."""
        return self.mesh.towers

    @property
    def replicas(self) -> int:
        """Copies of the network."""
        return self.mesh.replicas

    @property
    def split(self) -> bool:
        """Whether the towers are on two ranks."""
        return self.mesh.split

    @property
    def scores(self) -> bool:
        """Whether this rank holds fc8 and the loss."""
        return self.mesh.scores(self.rank)

    @property
    def tower(self) -> str:
        """Name of what is held here: "a", "b", or "a+b" on one device."""
        return "ab"[self.tower_index] if self.split else "a+b"

    def rows(self, layer: str, count: int) -> slice:
        """Return which of a layer's `count` outputs are held here: its tower's half; all of fc8 with tower a, none with b."""
        if not self.split:
            return slice(0, count)
        if layer == "fc8":
            return slice(0, count if self.scores else 0)
        return slice(self.tower_index * count // 2, (self.tower_index + 1) * count // 2)

    # What the network needs -------------------------------------------------------------------------------------------------

    def join(self, own: Tensor) -> Tensor:
        """Put both towers' values side by side, (B, C, ...) to (B, 2 C, ...), a before b; gradients are summed at the owner."""
        return _Join.apply(own, self) if self.split else own

    def join_on_first(self, own_BU: Tensor) -> Tensor:
        """Put both towers' values side by side with tower a; tower b gets a zero whose gradient travels back to it."""
        return _JoinOnFirst.apply(own_BU, self) if self.split else own_BU

    # What training and evaluation need --------------------------------------------------------------------------------------

    def share(self, total: int) -> range:
        """Return which rows of a batch of `total` this rank reads."""
        return self.mesh.share(self.rank, total)

    def replica_share(self, total: int) -> range:
        """Return which rows of a batch of `total` this replica computes."""
        return self.mesh.replica_share(self.rank, total)

    def exchange_rows(self, own: Tensor, total: int) -> Tensor:
        """Return the replica's `total` rows from what each of its ranks has read."""
        if not self.split:
            return own
        other = own.new_empty((total - len(own), *own.shape[1:]))
        self.swap(own.contiguous(), other, "pictures")
        return torch.cat([own, other] if self.scores else [other, own])

    def sum_over_replicas(self, values: Tensor) -> "dist.Work | None":
        """Begin to add up a tensor, in place, with those of the same tower's other replicas; None where there is only one.

        values: dense in memory, in whatever order of dimensions, the same on all.
        """
        if self.replicas == 1:
            return None
        assert self._groups is not None
        self.sent_bytes["sums of gradients"] += 2 * (self.replicas - 1) * values.nbytes // self.replicas  # as a ring does
        flat = values.as_strided((values.numel(),), (1,))
        return dist.all_reduce(flat, group=self._groups.get_group("data"), async_op=True)

    def total(self, own: Tensor) -> Tensor:
        """Return the sum of all ranks' small tensors, float64 on the CPU, on every rank."""
        values = own.detach().to("cpu", torch.float64)
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def numbers(self, own: float) -> list[float]:
        """Return each rank's number, on all ranks."""
        if self.world == 1:
            return [own]
        values = [torch.zeros(1, dtype=torch.float64) for _ in range(self.world)]
        dist.all_gather(values, torch.tensor([own], dtype=torch.float64))
        return [float(value.item()) for value in values]

    def from_first(self, value: Anything) -> Anything:
        """Return rank 0's object, which can be pickled, on all ranks."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return rank 0's named tensors, on the CPU, on all ranks; what the others give is not looked at."""
        if self.world == 1:
            return dict(tensors)
        kinds = self.from_first({name: (tuple(value.shape), value.dtype) for name, value in tensors.items()})
        whole = {}
        for name, (shape, dtype) in kinds.items():
            whole[name] = tensors[name].to("cpu").contiguous() if self.rank == 0 else torch.empty(shape, dtype=dtype)
            dist.broadcast(whole[name], src=0)
        return whole

    def gather(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the halves of named tensors on rank 0, in the shapes of the one-device network; other ranks get none."""
        if self.replica > 0:
            return {}
        if not self.split:
            return {name: value.detach() for name, value in own.items()}
        return {name: whole for name, value in own.items() if (whole := self._gather_one(name, value.detach())) is not None}

    def _gather_one(self, name: str, own: Tensor) -> Tensor | None:
        if name.startswith("fc8"):
            return own if self.scores else None
        if not self.scores:
            self.send(own.contiguous(), "weights")
            return None
        other = torch.empty_like(own, memory_format=torch.contiguous_format)
        self.receive(other)
        return torch.cat([own, other])

    # Transport between the towers -------------------------------------------------------------------------------------------

    @property
    def _peer(self) -> int:
        return self.rank ^ 1

    def swap(self, outgoing: Tensor, incoming: Tensor, kind: str) -> None:
        """Send to the other tower and receive from it at once; an empty tensor is neither sent nor waited for."""
        transfers = [dist.P2POp(dist.isend, outgoing, self._peer)] if outgoing.numel() else []
        transfers += [dist.P2POp(dist.irecv, incoming, self._peer)] if incoming.numel() else []
        # Both ranks name the message of tower a first, which keeps the pairs in one order on every backend.
        for work in dist.batch_isend_irecv(transfers if self.scores else transfers[::-1]) if transfers else ():
            work.wait()
        self.sent_bytes[kind] += outgoing.nbytes

    def send(self, values: Tensor, kind: str) -> None:
        """Send a tensor to the other tower, which knows its shape; an empty one is not sent."""
        if values.numel():
            dist.send(values, self._peer)
        self.sent_bytes[kind] += values.nbytes

    def receive(self, values: Tensor) -> None:
        """Fill a tensor with what the other tower sends."""
        if values.numel():
            dist.recv(values, self._peer)


ONE_DEVICE = Layout()


class GradientSums:
    """Adds up gradients over the replicas, each as soon as backward has made it, while backward goes on.

    parameters: those of this rank, in the same order on every replica. Where there is one replica it does nothing.
    """

    def __init__(self, layout: Layout, parameters: Sequence[nn.Parameter]) -> None:
        self._layout = layout
        self._running: list[dist.Work] = []
        if layout.replicas > 1:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._begin)

    def _begin(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        work = self._layout.sum_over_replicas(parameter.grad)
        if work is not None:
            self._running.append(work)

    def finish(self) -> None:
        """Wait until every sum is there."""
        for work in self._running:
            work.wait()
        self._running.clear()


class Ballot:
    """What all ranks agree on after each step: the largest of their wishes, known one step later.

    It travels while the next step is computed, over the CPU's own connections, so that no GPU is waited for.
    """

    def __init__(self, layout: Layout) -> None:
        self._alone = layout.world == 1
        self._pending: tuple[dist.Work, Tensor] | None = None

    def cast(self, wish: int) -> int:
        """Give this rank's wish, and return the largest one of the step before; alone, one's own at once."""
        if self._alone:
            return wish
        decided = self.close()
        value = torch.tensor([wish])
        self._pending = (dist.all_reduce(value, dist.ReduceOp.MAX, async_op=True), value)
        return decided

    def close(self) -> int:
        """Return what is still to be known, 0 where nothing is; every rank must call it."""
        if self._pending is None:
            return 0
        work, value = self._pending
        self._pending = None
        work.wait()
        return int(value.item())


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
        return torch.cat([wire, other] if layout.scores else [other, wire], dim=-1).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layout: Layout = ctx.layout
        halves = _to_wire(gradients[0]).chunk(2, dim=-1)
        received = torch.empty_like(halves[0], memory_format=torch.contiguous_format)
        layout.swap(halves[1 - layout.tower_index].contiguous(), received, "gradients")
        return (halves[layout.tower_index] + received).movedim(-1, 1), None


class _JoinOnFirst(torch.autograd.Function):
    """Forward: tower b's values go to tower a. Backward: their gradient comes back."""

    @staticmethod
    def forward(ctx: Any, own_BU: Tensor, layout: Layout) -> Tensor:
        ctx.layout, ctx.shape = layout, own_BU.shape
        if not layout.scores:
            layout.send(own_BU.contiguous(), "activations")
            return own_BU.new_zeros(())
        other_BU = torch.empty_like(own_BU)
        layout.receive(other_BU)
        return torch.cat([own_BU, other_BU], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        layout: Layout = ctx.layout
        if not layout.scores:
            received_BU = gradients[0].new_empty(ctx.shape)
            layout.receive(received_BU)
            return received_BU, None
        own_BU, other_BU = gradients[0].chunk(2, dim=1)
        layout.send(other_BU.contiguous(), "gradients")
        return own_BU, None
