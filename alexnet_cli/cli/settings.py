"""Which recipe, seed and precision a command line means: flags and --set over configuration file over preset (no torch)."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import PRESETS, preset

FIELDS = frozenset(field.name for field in dataclasses.fields(Recipe))
HINT_FIELDS = '"alexnet train --print-config" shows every field there is'
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
    assignments: Sequence[str] = (),
    run: Mapping[str, Any] | None = None,
) -> Settings:
    """Bring together what was asked for.

    preset_name: as given; None for the preset that the configuration names, else `original`. config: a TOML file with any of
    the recipe's fields and perhaps a table [run]. fields, run: flags; None values were not given. assignments: FIELD=VALUE or
    FIELD.KEY=VALUE, in order; they and the flags must not contradict one another.
    Raises RecipeError for a file or values that cannot be used.
    """
    from alexnet_cli.core.config import read_config

    written = read_config(config) if config else {}
    table = written.pop("run", {})
    _refuse_unknown(written, config)
    base = preset(preset_name or (written["name"] if written.get("name") in PRESETS else "original"))
    given = {name: value for name, value in (fields or {}).items() if value is not None}
    recipe = Recipe.from_dict(_assigned({**base.to_dict(), **written, **given}, assignments, settled=given))
    chosen = {name: _first((run or {}).get(name), table.get(name), default) for name, default in RUN_DEFAULTS.items()}
    for name, value in chosen.items():
        if type(value) is not type(RUN_DEFAULTS[name]):
            raise RecipeError(f"{config}: [run] {name} is {value!r}, expected something like {RUN_DEFAULTS[name]!r}")
    return Settings(recipe, chosen["seed"], chosen["precision"])


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _assigned(values: Mapping[str, Any], assignments: Iterable[str], *, settled: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's plain values after assignments. settled: what flags have said, which these may only repeat."""
    from alexnet_cli.core.config import read_value

    result, settled = dict(values), dict(settled)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        path = path.strip()
        if not equals or not path:
            raise RecipeError(f"--set {assignment}: expected FIELD=VALUE", hint="for example --set lrn_k=1")
        value = read_value(text)
        if settled.setdefault(path, value) != value:
            raise RecipeError(f"{path} is set to both {settled[path]!r} and {value!r}", hint="say it once, by a flag or by --set")
        name, dot, key = path.partition(".")
        if name not in FIELDS:
            raise RecipeError(f"--set {assignment}: the recipe has no field {name!r}", hint=_suggestion(name))
        before = result.get(name)
        if dot and not isinstance(before, Mapping):
            raise RecipeError(f"--set {assignment}: {name} has no parts", hint=f"set it as a whole: --set {name}=...")
        result[name] = {**before, key: value} if isinstance(before, Mapping) and dot else value
    return result


def _suggestion(name: str) -> str:
    if name in RUN_DEFAULTS:
        return f"use --{name}"
    close = difflib.get_close_matches(name, sorted(FIELDS), n=1)
    return f"did you mean {close[0]}?" if close else HINT_FIELDS


def _refuse_unknown(written: Mapping[str, Any], config: Path | None) -> None:
    unknown = sorted(set(written) - FIELDS)
    if unknown:
        raise RecipeError(
            f"{config} has unknown fields: {', '.join(unknown)}", hint=_suggestion(unknown[0]) if len(unknown) == 1 else HINT_FIELDS
        )
