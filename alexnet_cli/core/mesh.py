"""The mesh of a training's ranks, data x tower: who holds what, and which pictures of a batch are whose (stdlib only)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mesh:
    """Ranks of a training: `world` of them, towers on pairs of them (2) or both on each (1).

    Ranks 0 and 1 are towers a and b of the first replica, 2 and 3 of the second, and so on.
    """

    world: int
    towers: int

    @property
    def split(self) -> bool:
        """Whether the towers are on two ranks."""
        return self.towers == 2

    @property
    def replicas(self) -> int:
        """Copies of the network."""
        return self.world // self.towers

    def scores(self, rank: int) -> bool:
        """Whether a rank holds the last layer and the loss."""
        return rank % self.towers == 0

    def name(self, rank: int) -> str:
        """Name what a rank holds, for messages: "tower b on rank 1"."""
        return f"tower {'ab'[rank % 2]} on rank {rank}" if self.split else f"both towers on rank {rank}"

    def share(self, rank: int, total: int) -> range:
        """Return which rows of a batch of `total` a rank reads; the first ranks' shares are the larger ones."""
        return self._part(total, rank, rank + 1)

    def replica_share(self, rank: int, total: int) -> range:
        """Return which rows of a batch of `total` a rank's replica computes: what its ranks read."""
        first = rank - rank % self.towers
        return self._part(total, first, first + self.towers)

    def _part(self, total: int, first: int, end: int) -> range:
        each = -(-total // self.world)
        return range(min(first * each, total), min(end * each, total))
