"""Configuration files: TOML in, TOML out. What the fields mean is the recipe's business (no torch)."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.files import write_atomically

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration, for example a run's recipe.toml: the recipe's fields at the top, tables such as [run] beside them.

    Raises RecipeError when there is no such file or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"no configuration file {path}", hint="every run keeps its own in runs/NAME/recipe.toml") from error
    except OSError as error:
        raise RecipeError(f"cannot read configuration file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text file, expected TOML") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            f"{path} is not valid TOML: {error}", hint='lines look like: learning_rate = 0.01, name = "small"'
        ) from error


def read_value(text: str) -> Any:
    """Read one TOML value, such as 0.1, true, [30, 60] or "once"; a single word may stand without its quotes.

    Raises RecipeError when it is no TOML value.
    """
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        values = {"value": text.strip()} if re.fullmatch(r"\s*(?!True|False)[A-Za-z][\w-]*\s*", text) else {}
    if list(values) != ["value"]:
        raise RecipeError(
            f"{text!r} is not a TOML value", hint="""write 0.1, true, once, '[30, 60]' or '["conv", "pool", "relu"]', for example"""
        )
    return values["value"]


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values (numbers, texts, booleans, lists, tables) so that `read_config` gives the same; None does not exist."""
    text = tomli_w.dumps(values)
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
