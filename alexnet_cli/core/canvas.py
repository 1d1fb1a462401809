"""Where one unit is looked at: the square of the picture that it sees, or the whole of it, and what of the maps it sees."""

from dataclasses import dataclass

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.layers import receptive_field, require_layer
from alexnet_cli.core.recipe import Recipe


@dataclass(frozen=True)
class Canvas:
    """A square of the network's input, the same rows as columns, in which a layer's unit is looked at.

    first, size: where it begins in the whole input, and its side. tile: which rows of the canvas the unit sees; others only bring
    the layers' strides into step, or are the rest of the picture. unit: the unit's row and column in what the layer makes of
    the canvas; middle: in what it makes of the whole input. Both are None in a layer whose units have no place.
    """

    first: int
    size: int
    tile: range
    unit: int | None
    middle: int | None

    @property
    def seen(self) -> range:
        """The tile's rows in the whole input."""
        return range(self.first + self.tile.start, self.first + self.tile.stop)

    @property
    def around(self) -> tuple[int, int, int, int]:
        """What lies around the tile, as F.pad wants it: left, right, above, below."""
        return (self.tile.start, self.size - self.tile.stop) * 2


def canvas_of(recipe: Recipe, layer: str) -> Canvas:
    """Return where a layer's middle unit is looked at: no more than it sees, where that lies within the picture.

    Net #145: 11, 51, 99, 131 and 163 pixels; conv5 then costs half of what it costs in the whole picture. Raises AlexNetError
    where there is no such layer.
    """
    require_layer(recipe, layer)
    side = recipe.input_size
    if layer in recipe.full:
        return Canvas(0, side, range(side), None, None)
    field = receptive_field(recipe, layer)
    middle = next(row.output[1] for row in layer_table(recipe, 1) if row.name == layer) // 2
    seen = field.rows(middle)
    unit = -(field.start // field.stride)  # the first whose field does not begin before the canvas
    tile = field.rows(unit)
    first = seen.start - tile.start
    if first < 0 or seen.stop > side or _knows_places(recipe, layer):
        return Canvas(0, side, range(max(0, seen.start), min(side, seen.stop)), middle, middle)
    return Canvas(first, tile.stop, tile, unit, middle)


def reaches(recipe: Recipe, layer: str) -> dict[str, int]:
    """Return how far from a unit of a layer lies what it sees of the maps that the last layers read, to each side, by their names.

    That is of the layer itself and those before it back to a norm or pooling, as long as they keep the maps' size, such that
    the unit's row is the same in all of them. Net #145's conv5: conv5 1, conv4 2, conv3 3.
    """
    found: dict[str, int] = {}
    reach, index = 0, recipe.maps.index(layer)
    while index > 0 and recipe.maps[index] not in recipe.local:
        kernel, size_kept = recipe.kernels[index], 2 * recipe.paddings[index] == recipe.kernels[index] - 1
        if recipe.strides[index] != 1 or not size_kept:
            break
        reach += kernel // 2
        found[recipe.maps[index]] = reach
        index -= 1
        if recipe.operations(recipe.maps[index]) not in ((), (recipe.activation,)):
            break
    return found


def _knows_places(recipe: Recipe, layer: str) -> bool:
    """Say whether what a layer adds up differs from place to place: local layers have kernels for the whole picture's places."""
    return any(name in recipe.local for name in recipe.maps[: recipe.maps.index(layer) + 1])
