import re

import pytest

from alexnet_cli.core.config import read_config, write_config
from alexnet_cli.core.errors import RecipeError
from alexnet_cli.core.recipe import Event, Recipe
from alexnet_cli.core.recipes import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_recipe_survives_the_file(tmp_path, name):
    """A preset written with a [run] table beside it comes back equal, field by field."""
    path = tmp_path / "recipe.toml"
    write_config(path, {**PRESETS[name]().to_dict(), "run": {"seed": 3, "precision": "bf16"}})
    values = read_config(path)
    assert values.pop("run") == {"seed": 3, "precision": "bf16"}
    assert Recipe.from_dict(values) == PRESETS[name]()


def test_every_kind_of_field_survives(tmp_path):
    """PyTorch's defaults (None), events of one layer or none, tables and uneven numbers come back as they were."""
    recipe = Recipe(
        init_stdevs=(None,) * 8,
        init_biases=(0.1,) * 8,
        learning_rate=1 / 3,
        events=(Event(0.5, layers=("conv1",), bias_factor=0.25), Event(0.75, layers=(), colour_noise=0.0)),
        schedule="milestones",
        milestones=(30, 60),
        layer_rates={"conv1": 0.1, "fc8": 2.0},
    )
    write_config(tmp_path / "recipe.toml", recipe.to_dict())
    assert Recipe.from_dict(read_config(tmp_path / "recipe.toml")) == recipe


def test_written_by_hand(tmp_path):
    """TOML from a text editor, with comments, is read by the language's rules."""
    path = tmp_path / "mine.toml"
    path.write_text('# mine\nname = "digits"  # no mirroring\nmirror = false\nepochs = 1_0\n\n[run]\nseed = 7\n', encoding="utf-8")
    assert read_config(path) == {"name": "digits", "mirror": False, "epochs": 10, "run": {"seed": 7}}


def test_names_outside_ascii(tmp_path):
    """Texts are UTF-8 whatever the machine's language."""
    write_config(tmp_path / "c.toml", {"run": {"data": "données/été"}})
    assert "données/été".encode() in (tmp_path / "c.toml").read_bytes()
    assert read_config(tmp_path / "c.toml")["run"]["data"] == "données/été"


def test_missing_file(tmp_path):
    """A missing file is named, with where such files come from."""
    with pytest.raises(RecipeError, match=re.escape(f"no configuration file {tmp_path / 'no.toml'}")) as caught:
        read_config(tmp_path / "no.toml")
    assert caught.value.hint == "every run keeps its own in runs/NAME/recipe.toml"


def test_folder(tmp_path):
    """A folder is named with the system's reason."""
    with pytest.raises(RecipeError, match=r"cannot read configuration file .*: Is a directory"):
        read_config(tmp_path)


def test_not_toml(tmp_path):
    """A mistake is named with its line."""
    path = tmp_path / "c.toml"
    path.write_text("epochs = 3\nlearning rate: 0.01\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"c\.toml is not valid TOML: .*line 2"):
        read_config(path)


def test_binary_file(tmp_path):
    """A file that is no text at all is refused as such."""
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeError, match=r"c\.toml is not a text file, expected TOML"):
        read_config(path)
