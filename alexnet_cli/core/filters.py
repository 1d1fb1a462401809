"""The learned kernels as a picture: the first layer's in colour, like the paper's figure 3, those of other layers slice by slice.

As the authors' `shownet.py --show-filters` draws them. Legend: N kernels, C channels, H, W a kernel's rows and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.kernel_measures import KernelMeasures, measure
from alexnet_cli.core.mosaic import COLUMNS, draw_mosaic
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.units import LayerUnits, first_of_each, layer_units, require_units

# Of layers whose kernels are drawn slice by slice, of each tower, unless others are asked for.
SLICED_UNITS = 24  # shownet.py's rows
SLICED_CHANNELS = 48  # as many as conv2 reads

Kernels = NDArray[np.float32]


@dataclass(frozen=True)
class FilterOptions:
    """How kernels are drawn.

    normalize: "layer" for one scale over all weights of the layer; "filter" first brings each kernel to mean 0 and variance 1.
    order: "stored", or of the first layer's "orientation" or "hue", within each tower. channels: how many slices of each kernel,
    the first; None for SLICED_CHANNELS. place: (y, x), whose kernels to draw of a local layer; None for the middle. scale: as
    for `draw_mosaic`. labels: whether units and towers are named in the picture.
    """

    normalize: Literal["layer", "filter"] = "layer"
    order: Literal["stored", "orientation", "hue"] = "stored"
    channels: int | None = None
    place: tuple[int, int] | None = None
    scale: int | None = None
    labels: bool = False


@dataclass(frozen=True, eq=False)
class Filters:
    """Kernels of one layer that are to be drawn.

    kernels_NCHW: all of the layer's, as stored. chosen: which, in the order of the picture. recipe, options: as given.
    place: of a local layer's kernels, else None. measures: of the first layer's, by unit.
    """

    recipe: Recipe
    of: LayerUnits
    kernels_NCHW: Kernels
    chosen: Sequence[int]
    options: FilterOptions
    place: tuple[int, int] | None = None
    measures: dict[int, KernelMeasures] = field(default_factory=dict)

    @property
    def coloured(self) -> bool:
        """Whether a kernel is one tile in colour, or else a row of slices."""
        return is_coloured(self.recipe, self.of.layer)

    @property
    def channels(self) -> int:
        """How many channels of each kernel are drawn."""
        there_are = self.kernels_NCHW.shape[1]
        return there_are if self.coloured else min(there_are, self.options.channels or SLICED_CHANNELS)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the figures of each kernel in the picture's order, for JSON; None where there is none to give."""
        return [self._figures(unit, self.kernels_NCHW[unit].astype(np.float64)) for unit in self.chosen]

    def _figures(self, unit: int, kernel_CHW: NDArray[np.float64]) -> dict[str, Any]:
        sizes = {"min": float(kernel_CHW.min()), "max": float(kernel_CHW.max()), "norm": float(np.linalg.norm(kernel_CHW))}
        return {"unit": unit, "tower": self.of.tower(unit), **sizes, **(vars(self.measures[unit]) if self.coloured else {})}

    def describe(self) -> str:
        """Say in a line what the picture shows."""
        blocks = [block for block in self.of.by_tower(self.chosen) if block]
        towers = sorted({self.of.tower(unit) or "" for unit in self.chosen})
        where = f", tower {' above tower '.join(towers)}" if towers != [""] else ""
        kernels = f"{len(self.chosen):,} of {self.of.count:,} kernels of {self.of.layer}"
        if self.coloured:
            return f"{kernels}, {min(COLUMNS, max(map(len, blocks)))} in a row{where}"
        at = f" at place {self.place[0]},{self.place[1]}" if self.place else ""
        return f"{kernels}{at}, one in a row{where}; channels 0 to {self.channels - 1} of {self.kernels_NCHW.shape[1]:,}"


def draw_filters(
    weights: Weights, layer: str = "conv1", units: Sequence[int] | None = None, options: FilterOptions | None = None
) -> Image.Image:
    """Draw the kernels of a layer: tower a's above tower b's, on one scale, black between them.

    The layer's smallest weight is black and its largest white; pixels are repeated, never blended. The first layer's kernels are
    in colour, 16 in a row, RGB whatever the network's own order; of another layer each is a row of its channels, in grey.
    units, options, errors: as for `choose_filters`.
    Source: paper, figure 3; the scale and the slices: shownet.py's defaults.
    """
    return draw(choose_filters(weights, layer, units, options))


def draw_kernels(kernels_NCHW: Kernels, recipe: Recipe) -> Image.Image:
    """Draw kernels of three channels, as `draw_filters` does, without a weights file: while a network is trained."""
    tiles = _to_pixels(_in_colour(kernels_NCHW, recipe))
    return draw_mosaic([list(tower) for tower in np.split(tiles, recipe.towers)])


def is_coloured(recipe: Recipe, layer: str) -> bool:
    """Say whether a layer's kernels have the three channels of a picture."""
    return layer == recipe.layers[0]  # of maps, as every network begins with one


def choose_filters(
    weights: Weights, layer: str, units: Sequence[int] | None = None, options: FilterOptions | None = None
) -> Filters:
    """Return the kernels to draw, in the order of the picture.

    units: which, None for all of the first layer and the first SLICED_UNITS of each tower of another.
    Raises AlexNetError for a layer that has none, for units that it does not have, and for options that mean nothing for it.
    """
    options = options or FilterOptions()
    of = layer_units(weights, layer)
    coloured = is_coloured(weights.recipe, layer)
    _refuse_meaningless(weights.recipe, layer, options, coloured=coloured)
    kernels_NCHW, place = _kernels(weights, layer, options.place)
    if units is None:
        units = first_of_each(of, range(of.count), of.count if coloured else SLICED_UNITS)
    require_units(of, units)
    measures: dict[int, KernelMeasures] = {}
    if coloured:
        kernels_NHWC = _in_colour(kernels_NCHW, weights.recipe)
        measures = {unit: measure(kernels_NHWC[unit]) for unit in units}
    ordered = [unit for tower in of.by_tower(units) for unit in _in_order(tower, measures, options.order)]
    return Filters(weights.recipe, of, kernels_NCHW, ordered, options, place, measures)


def draw(filters: Filters) -> Image.Image:
    """Draw kernels that were chosen."""
    kernels_NCHW, labels = _scaled(filters.kernels_NCHW, filters.options.normalize), filters.options.labels
    blocks, titles = filters.of.by_tower(filters.chosen), filters.of.titles()
    names = [[filters.of.label(unit) for unit in block] for block in blocks]
    titles, scale = titles if labels else [""] * len(blocks), filters.options.scale
    if filters.coloured:
        tiles = _to_pixels(_in_colour(kernels_NCHW, filters.recipe))
        return draw_mosaic([list(tiles[block]) for block in blocks], scale=scale, labels=names if labels else None, titles=titles)
    slices = _to_pixels(kernels_NCHW)[:, : filters.channels, :, :, None].repeat(3, axis=4)
    rows = [list(slices[block].reshape(-1, *slices.shape[2:])) for block in blocks]
    return draw_mosaic(rows, columns=filters.channels, scale=scale, titles=titles, row_names=names if labels else None)


def _refuse_meaningless(recipe: Recipe, layer: str, options: FilterOptions, *, coloured: bool) -> None:
    if layer in recipe.full:
        raise AlexNetError(
            f"the weights of {layer} are no pictures: each of its units has one for every value that it reads",
            hint="see what its units respond to: --method maximize or --method patches",
        )
    if options.order != "stored" and not coloured:
        raise AlexNetError(
            f"kernels are ordered by {options.order} only where they have the three channels of a picture, not in {layer}",
            hint=f"draw {recipe.layers[0]}, or take --order stored",
        )
    if options.channels is not None and coloured:
        raise AlexNetError(f"the kernels of {layer} are drawn in colour, their three channels in one", hint="leave --channels out")
    if options.place is not None and layer not in recipe.local:
        raise AlexNetError(f"the kernels of {layer} are the same at every place", hint="leave --place out")


def _kernels(weights: Weights, layer: str, place: tuple[int, int] | None) -> tuple[Kernels, tuple[int, int] | None]:
    """Return a layer's kernels, of a local one those of one place, and that place."""
    kernels = weights.tensors[f"{layer}.weight"].numpy()
    if layer not in weights.recipe.local:
        return kernels, None
    height, width = kernels.shape[4:]
    y, x = place or (height // 2, width // 2)
    if not (0 <= y < height and 0 <= x < width):
        raise AlexNetError(f"{layer} has no place {y},{x}", hint=f"its places are 0,0 to {height - 1},{width - 1}")
    return kernels[..., y, x], (y, x)


def _in_order(units: Sequence[int], measures: dict[int, KernelMeasures], order: str) -> list[int]:
    if order == "orientation":
        return sorted(units, key=lambda unit: measures[unit].by_orientation())
    if order == "hue":
        return sorted(units, key=lambda unit: measures[unit].by_hue())
    return list(units)


def _in_colour(kernels_NCHW: Kernels, recipe: Recipe) -> Kernels:
    """Return kernels of three channels as pictures are laid, RGB."""
    kernels_NHWC = kernels_NCHW.transpose(0, 2, 3, 1)
    return kernels_NHWC[..., ::-1] if recipe.channel_order == "bgr" else kernels_NHWC


def _scaled(kernels_NCHW: Kernels, normalize: str) -> NDArray[np.floating]:
    """Return the kernels as they are, or each with mean 0 and variance 1 over its own weights; a flat one is 0 throughout."""
    if normalize == "layer":
        return kernels_NCHW
    kernels = kernels_NCHW.astype(np.float64)
    centred = kernels - kernels.mean(axis=(1, 2, 3), keepdims=True)
    spreads = kernels.std(axis=(1, 2, 3), keepdims=True)
    flat = spreads <= 1e-7 * np.abs(kernels).max()  # what rounding leaves is no spread
    return np.where(flat, 0.0, centred / np.where(flat, 1.0, spreads))


def _to_pixels(kernels: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Bring all weights together to 0-255; where all are equal there is nothing to see, and grey shows it."""
    low, high = float(kernels.min()), float(kernels.max())
    if low == high:
        return np.full(kernels.shape, 128, dtype=np.uint8)
    return np.rint((kernels.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
