"""`alexnet recipes`: every recipe there is, what tells it from net #145, and what is published of it."""

from typing import Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import DebugOption, JsonOption, PresetName, QuietOption
from alexnet_cli.cli.render import print_facts, print_json, print_table
from alexnet_cli.core.recipes import ENTRIES, difference, spoken

FIELDS_SHOWN = 3  # in the list; with a NAME all are


def recipes(
    name: Annotated[
        PresetName | None,
        typer.Argument(metavar="NAME", help="Recipe of which to show every difference.", show_default="all, in short"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List the recipes: how each differs from original, and its published effect.

    Errors are in %, top-1 / top-5; what one change costs is in points. "alexnet info --recipe NAME" shows the layers.
    """
    with running(quiet=quiet, debug=debug):
        chosen = [name.value] if name else list(ENTRIES)
        if as_json:
            documents = [_document(one) for one in chosen]
            print_json(documents[0] if name else {"kind": "recipes", "recipes": documents})
        elif name:
            _print_one(name.value)
        else:
            print_table(("recipe", "differs from original in", "published"), [_row(one) for one in chosen], left=3)


def _document(name: str) -> dict[str, Any]:
    recipe = ENTRIES[name].build()
    values = recipe.to_dict()
    changed = {field: values.get(field) for field in difference(recipe)}
    return {"kind": "recipe", "name": name, "difference": changed, "published": ENTRIES[name].effect}


def _row(name: str) -> tuple[str, str, str]:
    fields = list(difference(ENTRIES[name].build()))
    more = f" and {len(fields) - FIELDS_SHOWN} more" if len(fields) > FIELDS_SHOWN else ""
    return name, ", ".join(fields[:FIELDS_SHOWN]) + more or "-", ENTRIES[name].effect or "-"


def _print_one(name: str) -> None:
    recipe = ENTRIES[name].build()
    print_facts([("recipe", name), ("published", ENTRIES[name].effect or "nothing")])
    rows = [(field, spoken(field, own), spoken(field, base)) for field, (own, base) in difference(recipe).items()]
    if rows:
        print()
        print_table(("field", name, "original"), rows, left=3)
