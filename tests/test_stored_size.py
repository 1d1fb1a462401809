"""Stores of another size, or of warped pictures, through the real commands."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.store import open_store, read_stats


def alexnet(*arguments: object) -> tuple[int, str, str]:
    """Run one command; returns its exit code, output and errors."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Make twelve pictures of 40x20 of two classes: noise, with a red margin of eight columns at the left."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name in ("a", "b"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                picture = generator.integers(0, 60, (20, 40, 3), dtype=np.uint8)
                picture[:, :8] = (255, 0, 0)
                Image.fromarray(picture).save(folder / split / name / f"{index}.png")
    return folder


def test_a_small_store_from_end_to_end(source, tmp_path):
    """Recipe tiny trains, is tested and predicts on a store of 32x32."""
    data, runs = tmp_path / "data", tmp_path / "runs"
    assert alexnet("prepare", source, "--out", data, "--size", 32, "--format", "raw", "--workers", 1)[0] == 0
    store = open_store(data, "train")
    images = np.stack([store.image(index) for index in range(len(store))])
    assert images.shape == (8, 32, 32, 3)
    np.testing.assert_allclose(read_stats(data).mean, images.mean(axis=0).transpose(2, 0, 1), rtol=1e-6)
    code, _, errors = alexnet("train", "--data", data, "--runs", runs, "--recipe", "tiny", "--epochs", 1, "--batch-size", 4)
    assert code == 0, errors
    code, output, errors = alexnet("evaluate", "--runs", runs, "--data", data, "--json")
    assert code == 0, errors
    assert json.loads(output)["images"] == 4
    assert alexnet("predict", source / "val" / "a" / "0.png", "--runs", runs)[0] == 0
    assert alexnet("filters", "--runs", runs, "--out", tmp_path / "f.png")[0] == 0
    assert alexnet("info", data, "--verify", "--contact-sheet", tmp_path / "sheet.png")[0] == 0


def test_train_refuses_another_size(source, tmp_path):
    """A recipe for 256x256 does not begin on a store of 32x32, and the hint names the option."""
    assert alexnet("prepare", source, "--out", tmp_path / "data", "--size", 32, "--workers", 1)[0] == 0
    code, _, errors = alexnet("train", "--data", tmp_path / "data", "--runs", tmp_path / "runs", "--recipe", "original")
    assert code == 1
    assert "has pictures of 32x32, recipe original expects 256x256" in " ".join(errors.split())
    assert "alexnet prepare --size 256" in " ".join(errors.split())


def test_warped_pictures_are_whole(source, tmp_path):
    """A warped store keeps the margin that the centre's cut loses; train takes it only for a recipe that warps."""
    cut, warped = tmp_path / "cut", tmp_path / "warped"
    assert alexnet("prepare", source, "--out", cut, "--size", 32, "--workers", 1)[0] == 0
    assert alexnet("prepare", source, "--out", warped, "--size", 32, "--resize", "warp", "--workers", 1)[0] == 0
    stores = [open_store(folder, "train") for folder in (cut, warped)]
    assert [store.resize for store in stores] == ["short_side", "warp"]
    reds = [int(store.image(0)[:, 2, 0].min()) for store in stores]
    assert reds[0] < 100 and reds[1] > 200
    config = tmp_path / "warp.toml"
    config.write_text('resize = "warp"\n')
    asked = ("--runs", tmp_path / "runs", "--recipe", "tiny", "--config", config, "--epochs", 1)
    code, _, errors = alexnet("train", "--data", cut, *asked)
    assert code == 1
    assert "was prepared with --resize short-side, recipe tiny expects warp" in " ".join(errors.split())
    assert alexnet("train", "--data", warped, *asked)[0] == 0


def test_another_size_is_another_output(source, tmp_path):
    """A finished store is not taken for one of another size or another way to become square."""
    arguments = ("prepare", source, "--out", tmp_path / "data", "--workers", 1)
    assert alexnet(*arguments, "--size", 32)[0] == 0
    assert alexnet(*arguments, "--size", 32)[0] == 0
    assert alexnet(*arguments, "--size", 64)[0] == 1
    assert alexnet(*arguments, "--size", 32, "--resize", "warp")[0] == 1


def test_recipes_are_listed():
    """`alexnet recipes` knows every recipe; with a name it gives the fields that differ, in JSON too."""
    code, output, _ = alexnet("recipes")
    assert code == 0 and "no-lrn" in output and "42.03 / 19.36" in output
    code, output, _ = alexnet("recipes", "no-overlap", "--json")
    assert json.loads(output)["difference"] == {"paddings": [0, 1, 1, 1, 0], "pool_size": 2}
    code, output, _ = alexnet("recipes", "tanh")
    assert code == 0 and "activation" in output
