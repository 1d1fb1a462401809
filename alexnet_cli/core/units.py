"""The units of a layer: how many there are, in which tower each is, what they are called, and which ones a user means."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.layers import require_layer
from alexnet_cli.core.plot import short_name
from alexnet_cli.core.truths import ClassNames

TOWERS = ("a", "b")
FORMS = "expected numbers and ranges, such as 3,17,40 or 0-15"
SHOWN = 10  # classes in a hint


@dataclass(frozen=True)
class LayerUnits:
    """The units of one layer, numbered from 0: kernels of a convolution, or the units of an fc layer.

    towers: how many the layer is spread over, half of the units in each: 1 where the network has one, and in the last layer.
    classes: of the last layer, whose units are the classes; of the others None.
    """

    layer: str
    count: int
    towers: int
    classes: ClassNames | None = None

    def tower(self, unit: int) -> str | None:
        """Return a unit's tower, "a" or "b", None where there is one for all."""
        return TOWERS[unit * self.towers // self.count] if self.towers > 1 else None

    def by_tower(self, units: Sequence[int]) -> list[list[int]]:
        """Return the units of each tower, in the order in which they are given."""
        return [[unit for unit in units if unit * self.towers // self.count == tower] for tower in range(self.towers)]

    def titles(self) -> list[str]:
        """Return what to write above each tower's units: nothing where there is one."""
        return [f"tower {tower}" for tower in TOWERS] if self.towers > 1 else [""]

    def label(self, unit: int) -> str:
        """Return what a unit is called in a picture: its class's first name in the last layer, else its number."""
        return short_name(self.name(unit)) or str(unit)

    def name(self, unit: int) -> str:
        """Return the words of a unit's class in the last layer, or its id where it has none; "" in others."""
        return "" if self.classes is None else self.classes.words[unit] or self.classes.ids[unit]

    def to_dict(self, unit: int) -> dict[str, Any]:
        """Return a unit's number, tower and name, for JSON; None where it has none."""
        return {"unit": unit, "tower": self.tower(unit), "name": self.name(unit) or None}


def layer_units(weights: Weights, layer: str) -> LayerUnits:
    """Return the units of a layer. Raises AlexNetError where there is no such layer."""
    recipe = weights.recipe
    require_layer(recipe, layer)
    row = next(row for row in layer_table(recipe, len(weights.classes)) if row.name == layer)
    last = layer == recipe.layers[-1]
    classes = ClassNames(weights.classes, weights.words) if last else None
    return LayerUnits(layer, row.output[0], 1 if last else recipe.towers, classes)


def choose_units(of: LayerUnits, wanted: Sequence[str] = (), tower: str | None = None) -> list[int]:
    """Return the units that a user means, in the user's order and each once; without a wish all.

    wanted: texts of numbers and ranges with commas between, such as "3,17,40" or "0-15"; in the last layer also classes, by id or
    name. tower: only this one's, "a" or "b".
    Raises AlexNetError for what is no unit of the layer, or none of the tower.
    """
    named = list(dict.fromkeys(unit for text in wanted for unit in _named(of, text)))
    if tower is None:
        return named or list(range(of.count))
    if of.towers == 1:
        reason = "its units are in no tower" if of.classes is not None else "this network has one tower"
        raise AlexNetError(f"{of.layer} has no tower {tower}: {reason}", hint="leave --tower out")
    outside = [unit for unit in named if of.tower(unit) != tower]
    if outside:
        raise AlexNetError(f"unit {outside[0]} of {of.layer} is not in tower {tower}", hint=_extent(of))
    return named or of.by_tower(range(of.count))[TOWERS.index(tower)]


def require_units(of: LayerUnits, units: Sequence[int]) -> None:
    """Raise AlexNetError where a layer does not have these units, or where they are none."""
    wrong = [unit for unit in units if not 0 <= unit < of.count]
    if wrong or not units:
        raise AlexNetError(f"{of.layer} has no unit {wrong[0]}" if wrong else f"no unit of {of.layer} is named", hint=_extent(of))


def first_of_each(of: LayerUnits, units: Sequence[int], count: int) -> list[int]:
    """Return the first `count` units of each tower, in the order given."""
    return [unit for tower in of.by_tower(units) for unit in tower[:count]]


def _named(of: LayerUnits, text: str) -> list[int]:
    """Return the units of one text: a class's id or words as a whole, which may have commas, or parts with commas between."""
    if of.classes and "," in text and of.classes.namesakes(text):
        return [_class(of, text)]
    return [unit for part in text.split(",") for unit in _part(of, part.strip())]


def _part(of: LayerUnits, part: str) -> list[int]:
    numbers = re.fullmatch(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", part)
    if numbers is None:
        return [_class(of, part)]
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if last < first:
        raise AlexNetError(f"{part} is a range that ends before it begins", hint=f"write {last}-{first}")
    if last >= of.count:
        raise AlexNetError(f"{of.layer} has no unit {last}", hint=_extent(of))
    return list(range(first, last + 1))


def _class(of: LayerUnits, name: str) -> int:
    if of.classes is None:
        raise AlexNetError(f"{name!r} is no unit of {of.layer}, {FORMS}", hint="only the units of the last layer have names")
    namesakes = of.classes.namesakes(name)
    if len(namesakes) > 1 and name not in of.classes.ids:
        ids = ", ".join(of.classes.ids[unit] for unit in namesakes)
        raise AlexNetError(f"{len(namesakes)} classes are called {name!r}", hint=f"name them by id: {ids}")
    place = of.classes.place(name)
    if place is None:
        raise AlexNetError(f"{name!r} is no unit of {of.layer}, {FORMS}, or a class's id or name", hint=_nearest(of.classes, name))
    return place


def _nearest(classes: ClassNames, name: str) -> str:
    """Return a hint: the class that was probably meant, or what there is to choose from."""
    known = [short_name(words or id) for id, words in zip(classes.ids, classes.words, strict=True)]
    near = difflib.get_close_matches(name, [*known, *classes.ids], n=1)
    if near:
        return f"did you mean {near[0]}?"
    more = f" and {len(known) - SHOWN:,} more" if len(known) > SHOWN else ""
    return f"its classes are {', '.join(known[:SHOWN])}{more}"


def _extent(of: LayerUnits) -> str:
    whole = f"its units are 0 to {of.count - 1}"
    half = of.count // 2
    return whole if of.towers == 1 else f"{whole}, of which tower a has 0 to {half - 1} and tower b {half} to {of.count - 1}"
