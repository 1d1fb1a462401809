"""`alexnet filters`: what the units of a layer look for, as a picture, by one of three methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.filters_options import (
    Attribution,
    AttributionOption,
    BatchSizeOption,
    ChannelsOption,
    LabelsOption,
    LayerOption,
    Method,
    MethodOption,
    Normalize,
    NormalizeOption,
    Order,
    OrderOption,
    OutOption,
    PatchesOption,
    PicturesOption,
    PlaceOption,
    ScaleOption,
    SeedOption,
    SplitsOption,
    StepsOption,
    TopUnitsOption,
    TowerOption,
    UnitOption,
    place_of,
    refuse_meaningless,
)
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
    DataOption,
    DebugOption,
    Device,
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QuietOption,
    RunsOption,
    WeightsOption,
    WorkersOption,
    YesOption,
)
from alexnet_cli.cli.render import print_json
from alexnet_cli.core.files import require_place
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from alexnet_cli.core import devices
    from alexnet_cli.core.checkpoint import Weights
    from alexnet_cli.core.store import Store
    from alexnet_cli.core.units import LayerUnits

MOST_UNITS = 16  # of maximize and patches, both towers together, unless others are asked for: each takes its time


def filters(
    context: typer.Context,
    layer: LayerOption = None,
    out: OutOption = Path("filters.png"),
    method: MethodOption = None,
    unit: UnitOption = None,
    tower: TowerOption = None,
    top: TopUnitsOption = None,
    labels: LabelsOption = None,
    scale: ScaleOption = None,
    normalize: NormalizeOption = Normalize.LAYER,
    order: OrderOption = Order.STORED,
    channels: ChannelsOption = None,
    place: PlaceOption = None,
    seed: SeedOption = 0,
    steps: StepsOption = None,
    patches: PatchesOption = None,
    attribution: AttributionOption = Attribution.DECONVOLUTION,
    data: DataOption = Path("data"),
    split: SplitsOption = "val",
    pictures: PicturesOption = None,
    weights: WeightsOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.FP32,
    batch_size: BatchSizeOption = None,
    workers: WorkersOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw what the units of a layer look for.

    The first layer's kernels themselves, like the paper's figure 3: tower a's above tower b's, on one common scale, nothing
    blurred. Of later layers, whose kernels say little, pictures that excite a unit most: made for it (maximize), or found among
    stored ones (patches).
    """
    given = _given(context)
    if method:
        refuse_meaningless(given, method, top=top is not None)
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.filters import is_coloured
        from alexnet_cli.core.mosaic import prepare_to_save, save_mosaic
        from alexnet_cli.core.units import layer_units

        require_place(out)
        prepare_to_save(out)
        loaded = _load(bring(weights, runs, reporter, yes=yes), runs, out, reporter)
        of = layer_units(loaded, layer or loaded.recipe.layers[0])
        if method is None:
            method = Method.WEIGHTS if is_coloured(loaded.recipe, of.layer) else Method.MAXIMIZE
            refuse_meaningless(given, method, top=top is not None)
        asked = _Asked(context.params, method, loaded, of, reporter)
        drawn = _METHODS[method](asked, _units(asked))
        save_mosaic(drawn.picture, out, sharp=not asked.labels and method is not Method.PATCHES)
        reporter.note(f"{out}: {drawn.description}")
        document = {"kind": "filters", "method": method.value, "layer": of.layer, "weights": str(loaded.path), "figure": str(out)}
        print_json({**document, "units": drawn.units}) if as_json else print(out)


def _load(weights: str | None, runs: Path, out: Path, reporter: Reporter) -> "Weights":
    from alexnet_cli.core.checkpoint import load_weights, resolve_weights

    path = resolve_weights(weights, runs)
    require_place(out, path)
    reporter.note(f"weights: {path}")
    return load_weights(path)


def _given(context: typer.Context) -> set[str]:
    """Return the names of the parameters that stand on the command line, by whatever option."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


@dataclass(frozen=True)
class _Asked:
    """What is asked for: the command's parameters as Typer has read them, the weights and the layer's units; who is told of it."""

    parameters: dict[str, Any]
    method: Method
    weights: "Weights"
    of: "LayerUnits"
    reporter: Reporter

    def __getitem__(self, name: str) -> Any:
        value = self.parameters[name]
        return getattr(value, "value", value)

    def some(self, *names: str) -> dict[str, Any]:
        """Return the parameters of these names that are not None."""
        return {name: self[name] for name in names if self[name] is not None}

    @property
    def labels(self) -> bool:
        return self.method is not Method.WEIGHTS if self["labels"] is None else bool(self["labels"])

    def stores(self) -> "list[Store]":
        from alexnet_cli.core.store import open_store

        return [open_store(self["data"], split, sequential=True) for split in self["split"].split(",")]

    def computing(self) -> "tuple[torch.device, devices.Precision]":
        """Return where and in which arithmetic the network runs, and settle it."""
        from alexnet_cli.core.devices import choose_device, choose_precision, settle

        device = choose_device(self["device"])
        precision = choose_precision(self["precision"], device)
        settle(precision, device)
        return device, precision


@dataclass(frozen=True)
class _Drawn:
    """A picture, a line about it, and the figures of its units."""

    picture: "Image"
    description: str
    units: list[dict[str, Any]]


def _units(asked: _Asked) -> list[int]:
    """Return the units that are asked for, or as many as a picture has room for."""
    from alexnet_cli.core.filters import SLICED_UNITS, is_coloured
    from alexnet_cli.core.units import choose_units, first_of_each

    of = asked.of
    units = choose_units(of, asked["unit"] or (), asked["tower"])
    if asked["top"] is not None:
        return _most_varying(asked, units)
    if asked["unit"] or (asked.method is Method.WEIGHTS and is_coloured(asked.weights.recipe, of.layer)):
        return units
    towers = sum(1 for tower in of.by_tower(units) if tower)
    most = SLICED_UNITS * towers if asked.method is Method.WEIGHTS else MOST_UNITS
    if len(units) > most:
        units = first_of_each(of, units, most // towers)
        if asked.method is not Method.WEIGHTS:  # before the work that may take long
            asked.reporter.note(f"the first {len(units)} of {of.count:,} units; --unit, --tower and --top choose others")
    return units


def _most_varying(asked: _Asked, units: list[int]) -> list[int]:
    from alexnet_cli.core.unit_variances import most_varying, require_as_many, unit_variances

    require_as_many(units, asked["top"])
    device, precision = asked.computing()
    variances = unit_variances(
        asked.weights,
        asked.of.layer,
        asked.stores(),
        device=device,
        precision=precision,
        reporter=asked.reporter,
        **asked.some("pictures", "batch_size", "workers"),
    )
    return most_varying(variances, units, asked["top"])


# Methods ---------------------------------------------------------------------------------------------------------------------


def _weights(asked: _Asked, units: list[int]) -> _Drawn:
    from alexnet_cli.core.filters import FilterOptions, choose_filters, draw

    options = FilterOptions(
        normalize=asked["normalize"],
        order=asked["order"],
        channels=asked["channels"],
        place=place_of(asked["place"]),
        scale=asked["scale"],
        labels=asked.labels,
    )
    chosen = choose_filters(asked.weights, asked.of.layer, units, options)
    return _Drawn(draw(chosen), chosen.describe(), chosen.to_dicts())


def _maximize(asked: _Asked, units: list[int]) -> _Drawn:
    from alexnet_cli.core.canvas import canvas_of
    from alexnet_cli.core.maximize import MaximizeOptions, maximize
    from alexnet_cli.core.mosaic import columns_for, draw_mosaic, lay_out

    blocks, side = asked.of.by_tower(units), len(canvas_of(asked.weights.recipe, asked.of.layer).tile)
    counts = [len(block) for block in blocks]
    layout: dict[str, Any] = {
        "columns": columns_for(counts),
        "scale": asked["scale"],
        "labels": [[asked.of.label(unit) for unit in block] for block in blocks] if asked.labels else None,
        "titles": asked.of.titles() if asked.labels else None,
    }
    lay_out(counts, (side, side), **layout)  # before the work that may take long: whether there is room
    device, precision = asked.computing()
    options = MaximizeOptions(**asked.some("seed", "steps", "batch_size"))
    in_order = [unit for block in blocks for unit in block]
    found = maximize(asked.weights, asked.of.layer, in_order, options, device=device, precision=precision, reporter=asked.reporter)
    images = {one.unit: one.image for one in found}
    picture = draw_mosaic([[images[unit] for unit in block] for block in blocks], **layout)
    figures = [{**asked.of.to_dict(one.unit), **one.to_dict()} for one in found]
    return _Drawn(picture, _described(asked, units, "pictures made to excite", " above "), figures)


def _patches(asked: _Asked, units: list[int]) -> _Drawn:
    from alexnet_cli.core.patch_picture import draw_patches
    from alexnet_cli.core.patches import PatchOptions, strongest_patches

    device, precision = asked.computing()
    attribution = None if asked["attribution"] == "none" else asked["attribution"]
    options = PatchOptions(attribution=attribution, **asked.some("patches", "pictures", "batch_size", "workers"))
    found = strongest_patches(
        asked.weights,
        asked.of.layer,
        units,
        asked.stores(),
        options,
        device=device,
        precision=precision,
        reporter=asked.reporter,
    )
    picture = draw_patches(found, labels=asked.labels)
    figures = [{**asked.of.to_dict(one.unit), **one.to_dict()} for one in found]
    return _Drawn(picture, _described(asked, units, "the strongest patches of", " and "), figures)


def _described(asked: _Asked, units: list[int], what: str, between: str) -> str:
    """Say what is drawn. between: what stands between the towers' names."""
    towers = [title for title, block in zip(asked.of.titles(), asked.of.by_tower(units), strict=True) if title and block]
    return f"{what} {len(units):,} of {asked.of.count:,} units of {asked.of.layer}{', ' if towers else ''}{between.join(towers)}"


_METHODS = {Method.WEIGHTS: _weights, Method.MAXIMIZE: _maximize, Method.PATCHES: _patches}
