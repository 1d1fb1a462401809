"""`alexnet info`: what a store, a weights file or a recipe is; `stores` says it of stores."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.exchange import alike, print_sent
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
    DEFAULT_RECIPE,
    RECIPE_HELP,
    WEIGHTS_HELP,
    DebugOption,
    JsonOption,
    PresetName,
    QuietOption,
    RunsOption,
    YesOption,
)
from alexnet_cli.cli.render import percent, print_facts, print_json, print_table
from alexnet_cli.cli.stores import show_stores
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.exchange import Spread, sent_per_step, spread_over
from alexnet_cli.core.public_weights import PUBLIC_WEIGHTS
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import preset
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.schedule import PlateauState, events_of

if TYPE_CHECKING:
    from alexnet_cli.core.architecture import LayerRow


def info(
    argument: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH", help=f"Store or folder of stores. {WEIGHTS_HELP}", show_default="none: the recipe of --recipe"
        ),
    ] = None,
    recipe: Annotated[PresetName, typer.Option("--recipe", help=RECIPE_HELP)] = DEFAULT_RECIPE,
    num_classes: Annotated[int, typer.Option("--classes", min=2, help="Classes of the network of --recipe.")] = 1000,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="Ranks of which to say what each sends in a step of training.", show_default="2"),
    ] = None,
    towers: Annotated[
        int | None,
        typer.Option(
            "--towers",
            min=1,
            max=2,
            help="1: both towers on each of these ranks.",
            show_default="2, a tower on each rank of a pair",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of a store, or of a folder of stores, and say what is damaged.")
    ] = False,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet",
            help="PNG file to draw: random pictures of a store, of train in a folder of stores, with their classes.",
            show_default="none",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice for --contact-sheet.")] = 0,
    runs: RunsOption = Path("runs"),
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Describe a store, a weights file or a recipe.

    Of a network it shows the layers: outputs, parameters, multiply-adds, what crosses between the towers, and what each rank
    sends in a step. Of a store it shows how it was made and how large its classes are.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        path = Path(argument) if argument is not None else None
        folders = _store_folders(path) if path else []
        if folders:
            show_stores(folders, verify=verify, contact_sheet=contact_sheet, seed=seed, as_json=as_json, reporter=reporter)
        elif verify or contact_sheet:
            raise _no_store(path, "--verify" if verify else "--contact-sheet")
        elif argument is None:
            _show_recipe(preset(recipe.value), num_classes, (gpus, towers), as_json)
        else:
            _show_weights(_weights_file(argument, runs, reporter, yes=yes), (gpus, towers), as_json)


def _no_store(path: Path | None, option: str) -> Exception:
    if path is None:
        return typer.BadParameter(f"{option} needs a PATH, a store or a folder of stores")
    found = "is not" if path.exists() else "does not exist, expected"
    return DataError(f"{path} {found} a store or a folder of stores, for {option}", hint='make one with "alexnet prepare SOURCE"')


def _store_folders(path: Path) -> list[Path]:
    """Return the stores at a path: itself, or those of its splits."""
    if path.name in ("", ".."):  # what lies beside a store is found by its folder's name
        path = Path(os.path.abspath(path))
    candidates = (path, *(path / split for split in ("train", "val", "test")))
    return [folder for folder in candidates if (folder / "data.mdb").is_file()]


def _show_recipe(recipe: Recipe, num_classes: int, ranks: tuple[int | None, int | None], as_json: bool) -> None:
    from alexnet_cli.core.architecture import layer_table

    layers, spread = layer_table(recipe, num_classes), spread_over(recipe, *ranks)
    if as_json:
        document = {"kind": "recipe", "recipe": recipe.to_dict(), "classes": num_classes}
        print_json({**document, **_network(layers), **_exchange(layers, spread)})
        return
    print_facts([("recipe", recipe.name), ("classes", f"{num_classes:,}"), *_training_facts(recipe)])
    print()
    _print_layers(layers)
    _print_exchange(layers, spread)


def _training_facts(recipe: Recipe) -> list[tuple[str, object]]:
    return [
        ("training", f"{recipe.epochs} epochs, batch {recipe.batch_size}, {_schedule(recipe)}"),
        ("rates", f"{recipe.learning_rate} for weights, {recipe.learning_rate * recipe.bias_rate_factor} for biases"),
        ("mirror", "yes" if recipe.mirror else "no"),
    ]


def _schedule(recipe: Recipe) -> str:
    if recipe.schedule == "plateau":
        return f"rates drop up to {recipe.plateau_drops} times, after {recipe.plateau_patience} epochs without improvement"
    return f"rates change at {', '.join(f'{event.at:.0%}' for event in events_of(recipe, PlateauState()))} of the steps"


def _network(layers: "tuple[LayerRow, ...]") -> dict[str, Any]:
    totals = {"parameters": sum(row.parameters for row in layers), "multiply_adds": sum(row.multiply_adds for row in layers)}
    return {"layers": [asdict(row) for row in layers], **totals}


def _print_layers(layers: "tuple[LayerRow, ...]") -> None:
    header = ("layer", "operations", "kernel", "inputs", "output", "hands on", "parameters", "multiply-adds", "crosses")
    parameters, multiply_adds = (f"{_network(layers)[name]:,}" for name in ("parameters", "multiply_adds"))
    total = ("total", "", "", "", "", "", parameters, multiply_adds, "")
    print_table(header, [*(_layer_cells(row) for row in layers), total], left=2)
    print("\nmultiply-adds: of one picture; crosses: numbers of one picture that a tower sends to the other before the layer")


def _exchange(layers: "tuple[LayerRow, ...]", spread: Spread) -> dict[str, Any]:
    ranks = [{"rank": rank, "name": spread.name(rank), **sent_per_step(layers, spread, rank)} for rank in range(spread.world)]
    return {"sent_per_step": {**asdict(spread), "ranks": ranks}}


def _print_exchange(layers: "tuple[LayerRow, ...]", spread: Spread) -> None:
    if spread.world == 1:
        return
    sent = [sent_per_step(layers, spread, rank) for rank in range(spread.world)]
    names, firsts = alike([spread.name(rank) for rank in range(spread.world)], sent)
    print()
    print_sent(names, [sent[first] for first in firsts], spread.precision)


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


def _weights_file(argument: str, runs: Path, reporter: Reporter, *, yes: bool) -> Path:
    brought = bring(argument, runs, reporter, yes=yes) or argument
    if not (Path(brought).exists() or (runs / brought).exists() or brought in PUBLIC_WEIGHTS):
        raise DataError(f"{argument} does not exist, expected a store, a folder of stores, a weights file or a run")
    from alexnet_cli.core.checkpoint import resolve_weights

    return resolve_weights(brought, runs)


def _show_weights(path: Path, ranks: tuple[int | None, int | None], as_json: bool) -> None:
    from alexnet_cli.core.architecture import layer_table
    from alexnet_cli.core.checkpoint import load_weights

    weights = load_weights(path)
    layers, spread = layer_table(weights.recipe, len(weights.classes)), spread_over(weights.recipe, *ranks)
    if as_json:
        training = {"recipe": weights.recipe.to_dict(), "step": weights.step, "epoch": weights.epoch, "accuracy": weights.accuracy}
        classes = {"classes": list(weights.classes), "words": list(weights.words)}
        print_json({"kind": "weights", "path": str(path), **training, **classes, **_network(layers), **_exchange(layers, spread)})
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
    _print_exchange(layers, spread)
