"""The pictures of a store, and the places in them, at which a layer's units add up most: one pass, and memory for the best alone.

Legend: B pictures of a batch, U units, N the strongest places of each, C channels, H, W.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from alexnet_cli.core.batches import require_size, resize_mismatch, stored_batches
from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.layers import require_finite, sums
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store
from alexnet_cli.core.views import test_views

# Sums this close, relatively, count as equal. The same picture has other last digits at another place of a batch, and the same
# pixels at another place of a picture: what comes first must not hang on them.
EQUAL = 2.0**-17


@dataclass(frozen=True)
class Viewer:
    """A network that looks at the centre of stored pictures. mean_CHW: (3, H, W), RGB, 0-255, on its device and in its type."""

    network: AlexNet
    mean_CHW: Tensor
    precision: Precision

    def views(self, images_BHWC: Tensor) -> Tensor:
        """Return what the network reads of pictures, uint8 (B, H, W, 3): (B, 3, S, S)."""
        images_BHWC = images_BHWC.to(self.mean_CHW.device, non_blocking=True)
        views_BCHW = test_views(images_BHWC, self.mean_CHW, self.network.recipe, 1)[:, 0]
        return views_BCHW.contiguous(memory_format=torch.channels_last)

    def sums(self, images_BHWC: Tensor, layer: str) -> Tensor:
        """Return what a layer's units add up of pictures: (B, C, H, W), of an fc layer (B, C)."""
        with torch.no_grad(), self.precision.autocast(self.mean_CHW.device):
            return sums(self.network, self.views(images_BHWC), layer)


def load_viewer(weights: Weights, device: torch.device, precision: Precision) -> Viewer:
    """Build the network of a weights file, to look at pictures on a device."""
    return Viewer(build_network(weights, device, precision), weights.mean.to(device, precision.dtype), precision)


class Places(NamedTuple):
    """Places of units, the strongest first, all (U, N), on the CPU.

    values_UN: float64, what the unit adds up. positions_UN: of the pictures, in the order of the stores. y_UN, x_UN: of the
    unit's map, 0 in an fc layer.
    """

    values_UN: Tensor
    positions_UN: Tensor
    y_UN: Tensor
    x_UN: Tensor


def find_strongest(
    viewer: Viewer,
    layer: str,
    units: Sequence[int],
    stores: Sequence[Store],
    *,
    most: int,
    pictures: int,
    batch_size: int,
    workers: int | None,
    reporter: Reporter,
) -> Places:
    """Find the places at which units are strongest, `most` of each or fewer, at most one in a picture.

    pictures: how many of the stores' first are looked at, 1 or more. Of equal places the first counts: of the stores, then of the
    rows, then of the columns. Raises AlexNetError where sums overflow.
    """
    units_U = torch.tensor(units, device=viewer.mean_CHW.device)
    held: list[Places] = []
    reporter.start("patches", pictures, "pictures")
    for first, images_BHWC in first_pictures(stores, pictures, batch_size, workers, pin=units_U.is_cuda):
        sums_BUHW = viewer.sums(images_BHWC, layer)[:, units_U]
        require_finite(sums_BUHW, layer)
        new = _best_of_each(sums_BUHW, first)
        held = [_strongest([*held, new], most)]
        reporter.advance(len(images_BHWC))
    reporter.finish()
    return held[0]


def count_pictures(stores: Sequence[Store], recipe: Recipe, limit: int | None, reporter: Reporter) -> int:
    """Return how many pictures are to be looked at: all of the stores, or `limit` where that is fewer.

    Warns of stores whose pictures became squares in another way than a recipe expects. Raises DataError where there is no picture,
    or one of another size.
    """
    for store in stores:
        require_size(store, recipe)
        if mismatch := resize_mismatch(store, recipe):
            reporter.warn(mismatch)
    total = sum(len(store) for store in stores)
    wanted = total if limit is None else min(limit, total)
    if wanted < 1:
        raise DataError(f"no picture is to be looked at, of {total:,} that there are", hint="take a split that has some")
    return wanted


def first_pictures(
    stores: Sequence[Store], pictures: int, batch_size: int, workers: int | None, *, pin: bool
) -> Iterator[tuple[int, Tensor]]:
    """Yield batches of the stores' first pictures, uint8 (B, H, W, 3), and the position of each batch's first."""
    with stored_batches(stores, batch_size=min(batch_size, pictures), workers=workers, pin=pin) as batches:
        for batch in batches:
            yield batch.positions.start, batch.images_BHWC[: pictures - batch.positions.start]
            if batch.positions.stop >= pictures:
                return


def _best_of_each(sums_BUHW: Tensor, first: int) -> Places:
    """Return each unit's best place in each picture: the pictures are the N."""
    width = sums_BUHW.shape[3] if sums_BUHW.ndim == 4 else 1
    sums_UBP = sums_BUHW.reshape(*sums_BUHW.shape[:2], -1).transpose(0, 1)
    most_UB1 = sums_UBP.amax(dim=2, keepdim=True)
    at_UB1 = (sums_UBP >= most_UB1 - EQUAL * most_UB1.abs()).byte().argmax(dim=2, keepdim=True)  # the first of them
    values_UB = sums_UBP.gather(2, at_UB1).squeeze(2).cpu().double()
    at_UB = at_UB1.squeeze(2).cpu()
    positions_UB = torch.arange(first, first + len(sums_BUHW)).expand_as(at_UB)
    return Places(values_UB, positions_UB, at_UB // width, at_UB % width)


def _strongest(parts: Sequence[Places], most: int) -> Places:
    """Put each unit's places of all parts in order, and keep the first; of equal ones the earlier stays before the later."""
    places = Places(*(torch.cat(numbers, dim=1) for numbers in zip(*parts, strict=True)))
    order_UN = _rounded(places.values_UN).sort(dim=1, descending=True, stable=True).indices[:, :most]
    return Places(*(numbers.gather(1, order_UN) for numbers in places))


def _rounded(values: Tensor) -> Tensor:
    """Return values rounded to parts of EQUAL of the next power of two."""
    mantissas, exponents = torch.frexp(values)
    return torch.ldexp(torch.round(mantissas / EQUAL) * EQUAL, exponents)
