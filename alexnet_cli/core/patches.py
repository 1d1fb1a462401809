"""What makes each unit of a layer strong: the patches of stored pictures at which it adds up most, and what of them drives it.

A patch is what the unit sees, its receptive field. `strongest` finds the places, `patch_cuts` cuts them out, `attribution` says
what drives a unit, and `patch_picture` draws it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from alexnet_cli.core.attribution import METHODS
from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.patch_cuts import Pixels, Seen, Spot, StoredPictures, cut_out, to_pixels
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store
from alexnet_cli.core.strongest import Places, count_pictures, find_strongest, load_viewer
from alexnet_cli.core.units import layer_units, require_units

PATCHES = 9  # Zeiler and Fergus 2014, figure 2
MOST_PATCHES = 5_000  # at once, with all units of any layer of maps among them: those of fc6, whole pictures, take 1.5 GB


@dataclass(frozen=True)
class PatchOptions:
    """What a user asks for.

    patches: of each unit, at most. pictures: how many of the stores' first are looked at, None for all. attribution: a name of
    METHODS, None for patches alone. batch_size: pictures in one pass. workers: threads that read, None for one per core.
    """

    patches: int = PATCHES
    pictures: int | None = None
    attribution: str | None = "deconvolution"
    batch_size: int = 128
    workers: int | None = None

    def __post_init__(self) -> None:
        """Raise AlexNetError for what makes no picture."""
        for name in ("patches", "batch_size"):
            if getattr(self, name) < 1:
                raise AlexNetError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.attribution is not None and self.attribution not in METHODS:
            raise AlexNetError(f"no attribution named {self.attribution!r}, expected one of {', '.join(METHODS)}")


@dataclass(frozen=True)
class Patch:
    """One place of a picture at which a unit is strong.

    value: what the unit adds up there. split, picture: where the picture is stored, and the name that its store keeps of it, or
    else its key. class_id, class_name: its class, "" where that is not known. place: (y, x) of the unit's map, () in an fc layer.
    rows, columns: what the unit sees of the centre view, also beyond its edge. pixels: that, uint8 (rows, columns, 3), RGB, grey
    beyond the edge. attribution: what of it drives the unit, likewise, grey where nothing does.
    """

    value: float
    split: str
    picture: str
    class_id: str
    class_name: str
    place: tuple[int, ...]
    rows: range
    columns: range
    pixels: Pixels = field(compare=False, repr=False)
    attribution: Pixels | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the pixels, for JSON."""
        return {
            "value": self.value,
            "split": self.split,
            "picture": self.picture,
            "class": self.class_id or None,
            "name": self.class_name or None,
            "place": list(self.place) or None,
            "rows": [self.rows.start, self.rows.stop],
            "columns": [self.columns.start, self.columns.stop],
        }


@dataclass(frozen=True)
class UnitPatches:
    """A unit's patches, strongest first, each of another picture. name: of the last layer's units, the class's; of others ""."""

    unit: int
    name: str
    patches: tuple[Patch, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all but the pixels, for JSON."""
        return {"unit": self.unit, "name": self.name or None, "patches": [patch.to_dict() for patch in self.patches]}


def strongest_patches(
    weights: Weights,
    layer: str,
    units: Sequence[int],
    stores: Sequence[Store],
    options: PatchOptions,
    *,
    device: torch.device,
    precision: Precision,
    reporter: Reporter | None = None,
) -> list[UnitPatches]:
    """Find the patches at which units of a layer are strongest, in one pass over stored pictures, and what drives them there.

    Of each picture the centre view is looked at, and one place for each unit counts, that of the largest sum before what follows.
    Of equal ones the first counts: of the stores, then of the rows, then of the columns. Memory does not grow with the number of
    pictures. Attributions are computed in the weights' type; those of a unit are on one scale.
    Raises AlexNetError for a layer or units that there are not, DataError where there is no picture or one of another size.
    """
    reporter = reporter or Reporter()
    of = layer_units(weights, layer)
    require_units(of, units)
    _require_room(units, options.patches)
    total = count_pictures(stores, weights.recipe, options.pictures, reporter)
    viewer = load_viewer(weights, device, precision)
    places = find_strongest(
        viewer,
        layer,
        units,
        stores,
        most=options.patches,
        pictures=total,
        batch_size=options.batch_size,
        workers=options.workers,
        reporter=reporter,
    )
    of_units, pictures = _spots(units, places), StoredPictures(stores)
    flat = [spot for spots in of_units for spot in spots]
    seen = cut_out(viewer, layer, flat, pictures, options.attribution, options.batch_size)
    reporter.start("attributions" if options.attribution else "cutting out", len(units), "units")
    found = []
    for unit, spots in zip(units, of_units, strict=True):
        own = list(islice(seen, len(spots)))
        found.append(_unit_patches(unit, of.name(unit), own, pictures, has_places=layer in weights.recipe.maps))
        reporter.advance()
    reporter.finish()
    return found


def _require_room(units: Sequence[int], patches: int) -> None:
    """Raise AlexNetError for more patches than are to be held at once."""
    if len(units) * patches > MOST_PATCHES:
        raise AlexNetError(
            f"{len(units):,} units with {patches} patches each are {len(units) * patches:,}, expected {MOST_PATCHES:,} at most",
            hint="name some of the units",
        )


def _spots(units: Sequence[int], places: Places) -> list[list[Spot]]:
    """Return each unit's places, strongest first."""
    lists = [numbers.tolist() for numbers in places]
    return [[Spot(unit, *each) for each in zip(*rows, strict=True)] for unit, *rows in zip(units, *lists, strict=True)]


def _unit_patches(unit: int, name: str, seen: Sequence[Seen], pictures: StoredPictures, *, has_places: bool) -> UnitPatches:
    driving = [one.driving for one in seen if one.driving is not None]
    attributions: Sequence[Pixels | None] = to_pixels(driving) if driving else [None] * len(seen)
    patches = [
        Patch(
            value=one.spot.value,
            **pictures.known(one.spot.position),
            place=(one.spot.y, one.spot.x) if has_places else (),
            rows=one.rows,
            columns=one.columns,
            pixels=one.pixels,
            attribution=attribution,
        )
        for one, attribution in zip(seen, attributions, strict=True)
    ]
    return UnitPatches(unit, name, tuple(patches))
