"""What units see at their places: cut out of stored pictures, and beside it what of it drives the unit.

Legend: P places, each of one unit in one picture, C channels, H, W.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet_cli.core.attribution import METHODS
from alexnet_cli.core.layers import receptive_field
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.store import Store, record_key
from alexnet_cli.core.strongest import Viewer

GREY = 128  # beyond the picture, and where nothing drives the unit
FULL_CONTRAST = 99.0  # per cent of a unit's attributions that its scale has room for; the rest is as bright as its ends

Pixels = NDArray[np.uint8]


class Spot(NamedTuple):
    """One place of a unit: what the unit adds up there, the picture's position in the stores, y and x of the map."""

    unit: int
    value: float
    position: int
    y: int
    x: int


@dataclass(frozen=True, eq=False)
class Seen:
    """What is seen from a place: rows and columns of the centre view, also beyond its edge, and their pixels, uint8 (h, w, 3), RGB.

    driving: which of them drive the unit, float (h, w, 3), or None.
    """

    spot: Spot
    rows: range
    columns: range
    pixels: Pixels
    driving: NDArray[np.floating] | None


class StoredPictures:
    """Pictures of several stores by their position, and what is known of each."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._ends = np.cumsum([len(store) for store in stores]).tolist()
        self._names = [store.names() for store in stores]

    def image(self, position: int) -> Pixels:
        """Return a picture as it is stored, uint8 (H, W, 3), RGB."""
        number, index = self._place(position)
        return self._stores[number].image(index)

    def known(self, position: int) -> dict[str, str]:
        """Return the split, name, class and class's words of a picture: its key where the store has no names, "" without class."""
        number, index = self._place(position)
        store, names = self._stores[number], self._names[number]
        label = int(store.labels[index])
        has_class = 0 <= label < len(store.classes)
        return {
            "split": store.folder.name,
            "picture": record_key(index).decode() if names is None else names[index],
            "class_id": store.classes[label] if has_class else "",
            "class_name": store.words[label] if has_class else "",
        }

    def _place(self, position: int) -> tuple[int, int]:
        number = bisect_right(self._ends, position)
        return number, position - (self._ends[number] - len(self._stores[number]))


def cut_out(
    viewer: Viewer, layer: str, spots: Sequence[Spot], pictures: StoredPictures, method: str | None, batch_size: int
) -> Iterator[Seen]:
    """Yield what is seen from each place; what drives the units, by one of METHODS or not at all, is computed by batches."""
    recipe = viewer.network.recipe
    edge, size = (recipe.stored_size - recipe.input_size) // 2, recipe.input_size
    for first in range(0, len(spots), batch_size):
        batch = spots[first : first + batch_size]
        images_PHWC = np.stack([pictures.image(spot.position) for spot in batch])
        driving = _driving(viewer, layer, batch, images_PHWC, method) if method else [None] * len(batch)
        for spot, image_HWC, driving_HWC in zip(batch, images_PHWC, driving, strict=True):
            rows, columns = _field(recipe, layer, spot)
            pixels = cut(image_HWC[edge : edge + size, edge : edge + size], rows, columns, beyond=GREY)
            yield Seen(spot, rows, columns, pixels, None if driving_HWC is None else cut(driving_HWC, rows, columns, beyond=0))


def _driving(
    viewer: Viewer, layer: str, spots: Sequence[Spot], images_PHWC: Pixels, method: str
) -> list[NDArray[np.floating] | None]:
    has_places = layer in viewer.network.recipe.maps
    places = [(spot.y, spot.x) if has_places else () for spot in spots]
    views_PCHW = viewer.views(torch.from_numpy(images_PHWC))
    driving_PCHW = METHODS[method](viewer.network, views_PCHW, layer, [spot.unit for spot in spots], places)
    return list(driving_PCHW.permute(0, 2, 3, 1).cpu().numpy())


def _field(recipe: Recipe, layer: str, spot: Spot) -> tuple[range, range]:
    """Return the rows and columns that a unit sees, of an fc layer all."""
    if layer not in recipe.maps:
        return range(recipe.input_size), range(recipe.input_size)
    field = receptive_field(recipe, layer)
    return field.rows(spot.y), field.rows(spot.x)


def cut(picture_HWC: NDArray[Any], rows: range, columns: range, *, beyond: int) -> NDArray[Any]:
    """Cut rows and columns out of a picture, with one value for all that lies beyond its edge."""
    y, x = np.array(rows), np.array(columns)
    height, width = picture_HWC.shape[:2]
    patch = picture_HWC[np.ix_(y.clip(0, height - 1), x.clip(0, width - 1))]
    patch[(y < 0) | (y >= height)] = beyond
    patch[:, (x < 0) | (x >= width)] = beyond
    return patch


def to_pixels(driving: Sequence[NDArray[np.floating]]) -> list[Pixels]:
    """Bring a unit's attributions to 1-255 on one scale, on which zero is grey.

    The scale has room for all but the largest hundredth of what is not zero: a few pixels would else leave the others no
    contrast.
    """
    sizes = np.abs(np.concatenate([one.ravel() for one in driving]))
    limit = float(np.percentile(sizes[sizes > 0], FULL_CONTRAST, method="lower")) if sizes.any() else 1.0
    most = 255 - GREY
    return [np.rint(GREY + np.clip(one * (most / limit), -most, most)).astype(np.uint8) for one in driving]
