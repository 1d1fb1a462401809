"""How much each unit of a layer varies over stored pictures, and so which ones have most to say about them.

Legend: B images, C channels, H, W, U units, N values of each unit so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.batches import require_size, resize_mismatch, stored_batches
from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError, DataError
from alexnet_cli.core.layers import outputs, require_finite, require_layer
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store
from alexnet_cli.core.views import test_views


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
    total = _count(stores, weights.recipe, pictures, reporter)
    network, mean_CHW = build_network(weights, device, precision), weights.mean.to(device, precision.dtype)
    spread, left = _Spread(), total
    reporter.start("variances", total, "pictures")
    with stored_batches(stores, batch_size=min(batch_size, total), workers=workers) as batches:
        for batch in batches:
            views_BCHW = test_views(batch.images_BHWC[:left], mean_CHW, weights.recipe, 1).flatten(0, 1)
            with precision.autocast(device):
                handed_on = outputs(network, views_BCHW, layer)
            require_finite(handed_on, layer)
            spread.add(handed_on.transpose(0, 1).flatten(1).cpu().double())
            reporter.advance(len(views_BCHW))
            left -= len(views_BCHW)
            if not left:
                break
    reporter.finish()
    return spread.variances_U()


def _count(stores: Sequence[Store], recipe: Recipe, pictures: int | None, reporter: Reporter) -> int:
    """Return how many pictures are looked at."""
    for store in stores:
        require_size(store, recipe)
        if mismatch := resize_mismatch(store, recipe):
            reporter.warn(mismatch)
    total = sum(len(store) for store in stores)
    if not total:
        raise DataError("there is no picture to look at", hint="take another --split")
    return total if pictures is None else min(pictures, total)


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
