"""`alexnet info`: what a store, a weights file or a recipe is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DEFAULT_RECIPE, RECIPE_HELP, DebugOption, JsonOption, PresetName, QuietOption
from alexnet_cli.cli.render import percent, print_facts, print_json, print_table, size
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.recipe import Recipe, preset

if TYPE_CHECKING:
    from alexnet_cli.core.architecture import LayerRow
    from alexnet_cli.core.store import Store

CLASSES_SHOWN = 10


def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="Store, folder of stores, weights file or run.", show_default="none: the recipe of --recipe"
        ),
    ] = None,
    recipe: Annotated[PresetName, typer.Option("--recipe", help=RECIPE_HELP)] = DEFAULT_RECIPE,
    num_classes: Annotated[int, typer.Option("--classes", min=2, help="Classes of the network of --recipe.")] = 1000,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Describe a store, a weights file or a recipe.

    Of a network it shows the layers: outputs, parameters, multiply-adds, and what crosses between the towers.
    """
    with running(quiet=quiet, debug=debug):
        if path is None:
            _show_recipe(preset(recipe.value), num_classes, as_json)
        elif not path.exists():
            raise DataError(f"{path} does not exist, expected a store, a folder of stores, a weights file or a run")
        elif _store_folders(path):
            _show_stores(path, as_json)
        else:
            _show_weights(path, as_json)


def _store_folders(path: Path) -> list[Path]:
    """Return the stores at a path: itself, or those of its splits."""
    candidates = (path, *(path / split for split in ("train", "val", "test")))
    return [folder for folder in candidates if (folder / "data.mdb").is_file()]


def _show_recipe(recipe: Recipe, num_classes: int, as_json: bool) -> None:
    from alexnet_cli.core.architecture import layer_table

    layers = layer_table(recipe, num_classes)
    if as_json:
        print_json({"kind": "recipe", "recipe": recipe.to_dict(), "classes": num_classes, **_network(layers)})
        return
    print_facts([("recipe", recipe.name), ("classes", f"{num_classes:,}"), *_training_facts(recipe)])
    print()
    _print_layers(layers)


def _training_facts(recipe: Recipe) -> list[tuple[str, object]]:
    drops = ", ".join(f"{event.at:.0%}" for event in recipe.events)
    return [
        ("training", f"{recipe.epochs} epochs, batch {recipe.batch_size}, rates change at {drops} of the steps"),
        ("rates", f"{recipe.learning_rate} for weights, {recipe.learning_rate * recipe.bias_rate_factor} for biases"),
        ("mirror", "yes" if recipe.mirror else "no"),
    ]


def _network(layers: "tuple[LayerRow, ...]") -> dict[str, Any]:
    totals = {"parameters": sum(row.parameters for row in layers), "multiply_adds": sum(row.multiply_adds for row in layers)}
    return {"layers": [asdict(row) for row in layers], **totals}


def _print_layers(layers: "tuple[LayerRow, ...]") -> None:
    header = ("layer", "operations", "kernel", "inputs", "output", "hands on", "parameters", "multiply-adds", "crosses")
    parameters, multiply_adds = (f"{_network(layers)[name]:,}" for name in ("parameters", "multiply_adds"))
    total = ("total", "", "", "", "", "", parameters, multiply_adds, "")
    print_table(header, [*(_layer_cells(row) for row in layers), total], left=2)
    print("\nmultiply-adds: of one picture; crosses: numbers of one picture that a tower sends to the other before the layer")


def _layer_cells(row: "LayerRow") -> tuple[str, ...]:
    return (
        row.name,
        " ".join(row.operations),
        f"{row.kernel}x{row.kernel}/{row.stride}" if row.kernel else "",
        f"{row.inputs:,}" if row.inputs else "",
        _shape(row.output),
        _shape(row.pooled) if row.pooled != row.output else "",
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        f"{row.crossing:,} {'each way' if row.crosses_back else 'one way'}" if row.crossing else "",
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(extent) for extent in (shape if shape[1:] != (1, 1) else shape[:1]))


def _show_stores(path: Path, as_json: bool) -> None:
    from alexnet_cli.core.store import Store

    stores = [Store(folder) for folder in _store_folders(path)]
    if as_json:
        print_json({"kind": "store", "stores": [{"folder": str(store.folder), **store.meta} for store in stores]})
        return
    for store in stores:
        print_facts(_store_facts(store))
        print()
    _print_classes(stores[0])


def _store_facts(store: "Store") -> list[tuple[str, object]]:
    meta = store.meta
    coded = f"JPEG, quality {meta['quality']}" if store.format == "jpeg" else "raw RGB"
    return [
        ("store", store.folder),
        ("pictures", f"{len(store):,} of {meta['size']}x{meta['size']}, {coded}"),
        ("file", size((store.folder / "data.mdb").stat().st_size)),
        ("classes", f"{len(store.classes):,}"),
        ("seed", meta["seed"]),
        ("made with", ", ".join(f"{name} {version}" for name, version in meta["versions"].items())),
    ]


def _print_classes(store: "Store") -> None:
    counts = [0] * len(store.classes)
    for label in store.labels.tolist():
        counts[label] += 1
    shown = list(zip(store.classes, store.words, counts, strict=True))[:CLASSES_SHOWN]
    print_table(("class", "name", f"in {store.folder.name}"), [(one, words, f"{count:,}") for one, words, count in shown], left=2)
    if len(store.classes) > len(shown):
        print(f"... and {len(store.classes) - len(shown):,} more; --json lists them all")


def _show_weights(path: Path, as_json: bool) -> None:
    from alexnet_cli.core import checkpoint
    from alexnet_cli.core.architecture import layer_table

    path = checkpoint.resolve_weights(str(path), path)
    weights = checkpoint.load_weights(path)
    layers = layer_table(weights.recipe, len(weights.classes))
    if as_json:
        training = {"recipe": weights.recipe.to_dict(), "step": weights.step, "epoch": weights.epoch, "accuracy": weights.accuracy}
        classes = {"classes": list(weights.classes), "words": list(weights.words)}
        print_json({"kind": "weights", "path": str(path), **training, **classes, **_network(layers)})
        return
    accuracy = ", ".join(
        f"{name.replace('_', ' ')} {percent(value)}" for name, value in weights.accuracy.items() if name.endswith("error")
    )
    facts: list[tuple[str, object]] = [
        ("weights", path),
        ("recipe", weights.recipe.name),
        ("trained", f"{weights.step:,} steps, {weights.epoch} epochs"),
    ]
    print_facts([*facts, ("accuracy", accuracy or "not measured"), ("classes", f"{len(weights.classes):,}")])
    print()
    _print_layers(layers)
