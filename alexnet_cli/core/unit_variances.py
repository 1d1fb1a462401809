"""How much each unit of a layer varies over stored pictures, and so which ones have most to say about them.

Legend: B images, C channels, H, W, U units, N values of each unit so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.layers import outputs, require_finite, require_layer
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store
from alexnet_cli.core.strongest import count_pictures, first_pictures, load_viewer


def most_varying(variances_U: NDArray[np.float64], units: Sequence[int], count: int) -> list[int]:
    """Return the `count` units of greatest variance among some, greatest first; of equals the one that is named first.

    Raises AlexNetError where there are fewer.
    """
    require_as_many(units, count)
    return sorted(units, key=lambda unit: -variances_U[unit])[:count]


def require_as_many(units: Sequence[int], count: int) -> None:
    """Raise AlexNetError where there are fewer units, before they are looked at."""
    if count > len(units):
        raise AlexNetError(f"{count:,} units were asked for among {len(units):,}", hint=f"--top {len(units)} takes them all")


@torch.no_grad()
def unit_variances(
    weights: Weights,
    layer: str,
    stores: Sequence[Store],
    *,
    device: torch.device,
    precision: Precision,
    pictures: int | None = None,
    batch_size: int = 128,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> NDArray[np.float64]:
    """Return the variance of what each unit of a layer hands on, over pictures and, in a layer of maps, over places; float64 (U,).

    The centre view of each picture counts. pictures: how many of the stores' first, which are in random order; None for all.
    batch_size: pictures in one pass. workers: threads that read, None for one per core.
    Raises AlexNetError where there is no such layer or values overflow, DataError where there is no picture or one of another size.
    """
    reporter = reporter or Reporter()
    require_layer(weights.recipe, layer)
    total = count_pictures(stores, weights.recipe, pictures, reporter)
    viewer, spread = load_viewer(weights, device, precision), _Spread()
    reporter.start("variances", total, "pictures")
    for _, images_BHWC in first_pictures(stores, total, batch_size, workers, pin=device.type == "cuda"):
        with precision.autocast(device):
            handed_on = outputs(viewer.network, viewer.views(images_BHWC), layer)
        require_finite(handed_on, layer)
        spread.add(handed_on.transpose(0, 1).flatten(1).cpu().double())
        reporter.advance(len(images_BHWC))
    reporter.finish()
    return spread.variances_U()


@dataclass
class _Spread:
    """Means and sums of squared differences from them, joined batch by batch without losing digits (Chan, Golub, LeVeque 1979)."""

    count: int = 0
    mean_U: Tensor | None = None
    squares_U: Tensor | None = None

    def add(self, values_UN: Tensor) -> None:
        count, mean_U = values_UN.shape[1], values_UN.mean(dim=1)
        squares_U = (values_UN - mean_U[:, None]).square().sum(dim=1)
        if self.mean_U is None or self.squares_U is None:
            self.count, self.mean_U, self.squares_U = count, mean_U, squares_U
            return
        apart_U, total = mean_U - self.mean_U, self.count + count
        self.squares_U += squares_U + apart_U.square() * (self.count * count / total)
        self.mean_U += apart_U * (count / total)
        self.count = total

    def variances_U(self) -> NDArray[np.float64]:
        assert self.squares_U is not None
        return (self.squares_U / self.count).numpy()
