"""Which recipe, seed and precision a command line means: flag over configuration file over the preset (no torch)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import PRESETS, preset

FIELDS = frozenset(field.name for field in dataclasses.fields(Recipe))
RUN_DEFAULTS = {"seed": 0, "precision": "auto"}  # what decides a run's result beside its recipe


@dataclass(frozen=True)
class Settings:
    """What a run is made of, resolved."""

    recipe: Recipe
    seed: int
    precision: str

    def to_config(self) -> dict[str, Any]:
        """Return plain values that `--config` accepts: the recipe's fields at the top and a table [run]."""
        return {**self.recipe.to_dict(), "run": {"seed": self.seed, "precision": self.precision}}


def resolve(
    preset_name: str | None = None,
    *,
    config: Path | None = None,
    fields: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> Settings:
    """Bring together what was asked for.

    preset_name: as given; None for the preset that the configuration names, else `original`. config: a TOML file with any of
    the recipe's fields and perhaps a table [run]. fields, run: flags; None values were not given.
    Raises RecipeError for a file or values that cannot be used.
    """
    from alexnet_cli.core.config import read_config

    written = read_config(config) if config else {}
    table = written.pop("run", {})
    _refuse_unknown(written, config)
    base = preset(preset_name or (written["name"] if written.get("name") in PRESETS else "original"))
    given = {name: value for name, value in (fields or {}).items() if value is not None}
    recipe = Recipe.from_dict({**base.to_dict(), **written, **given})
    chosen = {name: _first((run or {}).get(name), table.get(name), default) for name, default in RUN_DEFAULTS.items()}
    for name, value in chosen.items():
        if type(value) is not type(RUN_DEFAULTS[name]):
            raise RecipeError(f"{config}: [run] {name} is {value!r}, expected something like {RUN_DEFAULTS[name]!r}")
    return Settings(recipe, chosen["seed"], chosen["precision"])


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _refuse_unknown(written: Mapping[str, Any], config: Path | None) -> None:
    unknown = sorted(set(written) - FIELDS)
    if unknown:
        raise RecipeError(
            f"{config} has unknown fields: {', '.join(unknown)}", hint='"alexnet train --print-config" shows every field there is'
        )
