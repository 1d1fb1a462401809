"""How a training is spread over ranks, what each of them holds, and how many bytes it sends in a step (stdlib only).

It is reckoned from the layer table; the ranks themselves count the same while they run, in `towers.Layout.sent_bytes`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from alexnet_cli.core.architecture import LayerRow
from alexnet_cli.core.errors import DeviceError, RecipeError
from alexnet_cli.core.mesh import Mesh
from alexnet_cli.core.recipe import Recipe

KINDS = ("activations", "gradients", "sums of gradients", "pictures")
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp64": 8}  # of an activation, by the name of the arithmetic
LABEL_BYTES = 8  # a label travels with its picture


@dataclass(frozen=True)
class Spread(Mesh):
    """A mesh of ranks and what goes over it.

    batch_size: pictures of a step, over all ranks. precision: name of the arithmetic.
    """

    batch_size: int
    precision: str = "fp32"

    @property
    def value_bytes(self) -> int:
        """Bytes of an activation."""
        return BYTES[self.precision]

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight, of its gradient and of its velocity."""
        return max(4, self.value_bytes)

    def read(self, rank: int) -> int:
        """Return how many pictures of a batch a rank reads."""
        return len(self.share(rank, self.batch_size))

    def computed(self, rank: int) -> int:
        """Return how many pictures of a batch a rank computes: its replica's share, and one where that is nothing."""
        return max(1, len(self.replica_share(rank, self.batch_size)))


def spread_over(recipe: Recipe, gpus: int | None, towers: int | None, precision: str = "fp32") -> Spread:
    """Return how `train` would spread a recipe over so many ranks.

    gpus: None for two, as the paper's, or one for a batch that cannot be shared. towers: 2, 1, or None for 2 where the recipe
    has two that can be parted. Raises DeviceError for an odd number of ranks that are to be paired, RecipeError for a recipe
    that cannot be parted, or whose batch has fewer pictures than there are ranks.
    """
    parts = recipe.towers == 2 and not recipe.lrn_crosses_towers
    if towers == 2 and not parts:
        raise RecipeError(f"recipe {recipe.name} cannot be parted into two towers", hint="use --towers 1")
    gpus = gpus or min(2, recipe.batch_size)
    towers = 1 if gpus == 1 else towers or (2 if parts else 1)
    if gpus % towers:
        raise DeviceError(f"{gpus} ranks cannot be paired, a tower on each", hint="use an even number, or --towers 1")
    if recipe.batch_size < gpus:
        raise RecipeError(f"a batch of {recipe.batch_size} for {gpus} ranks", hint="use fewer --gpus")
    return Spread(gpus, towers, recipe.batch_size, precision)


def held_tensors(table: Sequence[LayerRow], spread: Spread, rank: int) -> list[int]:
    """Return how many numbers each parameter held by a rank has: half of each layer where the towers are parted.

    The last layer is whole with tower a and not with tower b.
    """
    sizes = []
    for row in table[1:]:
        whole = not spread.split or row is table[-1]
        if row is not table[-1] or spread.scores(rank):
            biases = math.prod(row.output) if row.operations[0] == "local" else row.output[0]
            sizes += [(row.parameters - biases) // (1 if whole else 2), biases // (1 if whole else 2)]
    return sizes


def sent_per_step(table: Sequence[LayerRow], spread: Spread, rank: int) -> dict[str, int]:
    """Return the bytes that a rank sends in a training step of a whole batch, by kind, as long as no layer is frozen.

    Activations cross before the layers that read both towers, and their gradients come back; before the last layer only
    tower b sends, and only tower a sends back. Sums of gradients are those over the replicas, as a ring exchanges them.
    """
    both_ways = sum(row.crossing for row in table if row.crosses_back)
    one_way = sum(row.crossing for row in table if not row.crosses_back)
    values = spread.computed(rank) * spread.value_bytes if spread.split else 0
    first = spread.scores(rank)
    ring = 2 * (spread.replicas - 1)
    held = (size * spread.weight_bytes for size in held_tensors(table, spread, rank))
    picture = math.prod(table[0].output) + LABEL_BYTES  # a byte a colour
    sent = (
        (both_ways + (0 if first else one_way)) * values,
        (both_ways + (one_way if first else 0)) * values,
        sum(ring * num_bytes // spread.replicas for num_bytes in held),
        spread.read(rank) * picture if spread.split else 0,
    )
    return dict(zip(KINDS, sent, strict=True))
