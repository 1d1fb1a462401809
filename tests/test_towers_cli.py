"""`alexnet towers`: the towers' colours as text, JSON and a picture."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from alexnet_cli.cli.app import app
from alexnet_cli.cli.towers import _names
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.config import write_config
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import one_gpu, tiny
from alexnet_cli.core.specialisation import measure
from alexnet_cli.core.specialisation_picture import draw_emergence, draw_specialisation
from tests.networks import narrow
from tests.test_kernel_history import write_epoch
from tests.test_specialisation import grey, noise

RECIPE = narrow(channels=(96, 16, 24, 24, 16))


def towers(*arguments: object, code: int = 0) -> Result:
    """Run the command."""
    result = CliRunner().invoke(app, ["towers", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def planted(coloured: str, learned: int = 48) -> np.ndarray:
    """Return 96 kernels: grey in one tower, of all colours in the other; the last of each are as they were drawn."""
    kernels, halves = noise(7), [grey(1, learned), noise(2, learned, 0.1)]
    for start, half in zip((0, 48), halves if coloured == "b" else halves[::-1], strict=True):
        kernels[start : start + learned] = half
    return kernels


def save(path: Path, kernels: np.ndarray | None = None, recipe: Recipe = RECIPE) -> Path:
    """Write weights whose conv1 is as given."""
    tensors = dict(AlexNet(recipe, 2, seed=0).state_dict())
    if kernels is not None:
        tensors["conv1.weight"] = torch.from_numpy(kernels)
    side = recipe.stored_size
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, Weights(recipe, ("a", "b"), ("a", "b"), tensors, torch.zeros(3, side, side)))
    return path


def save_run(runs: Path, epochs: dict[int, np.ndarray], recipe: Recipe = RECIPE) -> Path:
    """Write a run's folder with the kernels of some epochs."""
    folder = runs / "first"
    folder.mkdir(parents=True)
    write_config(folder / "recipe.toml", recipe.to_dict())
    (folder / "metrics.jsonl").write_text("")
    for epoch, kernels in epochs.items():
        write_epoch(folder / "kernels", epoch, kernels)
    return folder


# Trained networks ----------------------------------------------------------------------------------------------------------------


def test_one_network(tmp_path):
    """Of 24 learned kernels in each tower, grey in a: the text has both medians, both comparisons and the picture's name."""
    pytest.importorskip("matplotlib")
    path, out = save(tmp_path / "net.safetensors", planted("b", 24)), tmp_path / "towers.png"
    lines = dict(line.split("  ", 1) for line in towers(path, "--out", out).stdout.splitlines())
    facts = {name: text.strip() for name, text in lines.items()}
    assert facts["weights"] == str(path) and facts["figure"] == str(out)
    assert facts["in words"].startswith("tower b is the more coloured one: p = ")
    assert facts["learned"] == "48 of 96 kernels have 2 times the initial noise's energy (24 of tower a, 24 of tower b)"
    assert "b is the more coloured in 100.00 % of pairs; tower b is the more coloured one: p = " in facts["by those"]
    assert facts["noise"].startswith("66.67 %") and "(P 6.1)" in facts["paper"]
    with Image.open(out) as picture:
        assert picture.format == "PNG" and picture.size == (1900, 1000)


def test_json_of_one_network(tmp_path):
    """The document has each kernel's share, by tower, null for one of zeros, and what was compared, 47 with 48."""
    pytest.importorskip("matplotlib")
    kernels = planted("a")
    kernels[50] = 0
    path = save(tmp_path / "net.safetensors", kernels)
    found = json.loads(towers(path, "--out", tmp_path / "t.png", "--json").stdout)
    assert (found["kind"], found["noise_share"], found["level"]) == ("towers", pytest.approx(2 / 3), 0.05)
    (network,) = found["networks"]
    assert network["weights"] == str(path) and network["coloured"] == "a" and network["b_above_a"] == 0
    assert (network["a"]["kernels"], network["b"]["kernels"]) == (48, 47)
    assert network["shares"]["b"][2] is None and len(network["shares"]["a"]) == len(network["shares"]["b"]) == 48
    assert network["a"]["median"] == pytest.approx(np.median(network["shares"]["a"]))
    assert network["difference"] == pytest.approx(network["b"]["median"] - network["a"]["median"])
    assert found["in_words"] == network["in_words"] and "tower a is the more coloured one" in found["in_words"]


def test_several_networks(tmp_path):
    """A row each, and one statement: in each of two the towers differ, in one the other way round; with a third, in 2 of 3."""
    pytest.importorskip("matplotlib")
    paths = [save(tmp_path / f"{name}.safetensors", planted(name)) for name in "ab"]
    drawn = save(tmp_path / "drawn.safetensors", noise(0))
    lines = towers(*paths, "--out", tmp_path / "t.svg").stdout.splitlines()
    assert lines[0].split()[:5] == ["weights", "a", "b", "b", "above"] and [line.split()[0] for line in lines[1:3]] == list(
        map(str, paths)
    )
    assert "in each of 2 networks one tower is the more coloured one (tower a in 1, tower b in 1): p = " in lines[3]
    assert (tmp_path / "t.svg").read_text().lstrip().startswith("<?xml")
    found = json.loads(towers(*paths, drawn, "--out", tmp_path / "t.pdf", "--json").stdout)
    assert [network["coloured"] for network in found["networks"]] == ["a", "b", None]
    assert found["networks"][2]["learned"] is None
    assert found["in_words"].startswith("in 2 of 3 networks")
    assert (tmp_path / "t.pdf").read_bytes().startswith(b"%PDF")


def test_the_newest_run_without_arguments(tmp_path):
    """Without a name the newest run's best weights are measured, and a note says which."""
    pytest.importorskip("matplotlib")
    path = save(tmp_path / "runs" / "first" / "best.safetensors", planted("b"))
    result = towers("--runs", tmp_path / "runs", "--out", tmp_path / "t.png")
    assert f"weights: {path}" in result.stderr and "tower b is the more coloured one" in result.stdout


def test_bgr_and_other_pixels_change_nothing(tmp_path):
    """A network of BGR pixels between 0 and 1 has the shares of the same kernels in RGB."""
    pytest.importorskip("matplotlib")
    other = replace(RECIPE, channel_order="bgr", pixel_scale=1 / 255)
    paths = [
        save(tmp_path / "rgb.safetensors", planted("b")),
        save(tmp_path / "bgr.safetensors", planted("b")[:, ::-1].copy(), other),
    ]
    found = [json.loads(towers(path, "--out", tmp_path / "t.png", "--json").stdout)["networks"][0] for path in paths]
    assert found[0]["shares"]["a"] == pytest.approx(found[1]["shares"]["a"]) and found[0]["p"] == found[1]["p"]


def test_bgr_kernels_are_drawn_in_rgb(tmp_path):
    """The picture of a BGR network is, byte for byte, that of the same kernels in RGB."""
    pytest.importorskip("matplotlib")
    pictures = []
    for recipe, kernels in ((RECIPE, planted("b")), (replace(RECIPE, channel_order="bgr"), planted("b")[:, ::-1].copy())):
        folder = tmp_path / recipe.channel_order
        towers(save(folder / "net.safetensors", kernels, recipe), "--out", folder / "t.png")
        pictures.append((folder / "t.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("recipe", [narrow(one_gpu()), tiny()], ids=["one-gpu", "tiny"])
def test_one_tower_is_refused(tmp_path, recipe):
    """A network of one tower is an error of one line, and no picture is written."""
    pytest.importorskip("matplotlib")
    path = save(tmp_path / "one.safetensors", recipe=recipe)
    result = towers(path, "--out", tmp_path / "t.png", code=1)
    assert f"error: {path} has one tower: there are no two to be compared\nhint: weights of two towers" in result.stderr
    assert not (tmp_path / "t.png").exists()


def test_a_network_counts_once(tmp_path):
    """The same file twice, a link to it and a copy of it are refused: they are no second network."""
    pytest.importorskip("matplotlib")
    path = save(tmp_path / "net.safetensors", planted("b"))
    (tmp_path / "link.safetensors").symlink_to(path)
    (tmp_path / "copy.safetensors").write_bytes(path.read_bytes())
    for other, said in (
        (path, "is given twice"),
        (tmp_path / "link.safetensors", "has the same kernels as"),
        (tmp_path / "copy.safetensors", "has the same kernels as"),
    ):
        result = towers(path, other, "--out", tmp_path / "t.png", code=1)
        assert f"error: {other} {said}" in result.stderr and "it would count as two networks" in result.stderr
    assert not (tmp_path / "t.png").exists()


def test_best_and_last_of_a_run_are_warned_of(tmp_path):
    """Two times of one training are measured, with a warning; the best of two trainings are two networks."""
    pytest.importorskip("matplotlib")
    paths = [
        save(tmp_path / name, planted("b", learned)) for name, learned in (("x/best.safetensors", 40), ("x/last.safetensors", 44))
    ]
    other = save(tmp_path / "y" / "best.safetensors", planted("a"))
    assert "of run x are one network at different times" in towers(*paths, "--out", tmp_path / "t.png").stderr
    assert "one network" not in towers(paths[0], other, "--out", tmp_path / "t.png").stderr


def test_networks_are_told_apart(tmp_path):
    """Columns have the shortest names that differ: file or run, with the folder before it, or the whole path."""
    best, last, copy = (tmp_path / name for name in ("x/best.safetensors", "x/last.safetensors", "z/x/best.safetensors"))
    assert _names([best, tmp_path / "y" / "best.safetensors", tmp_path / "net.safetensors"]) == ["x", "y", "net"]
    assert _names([best, last]) == ["x/best.safetensors", "x/last.safetensors"]
    assert _names([best, copy]) == [str(best), str(copy)]


def test_wrong_usage(tmp_path):
    """Epochs of a run and trained networks exclude each other; a picture has an ending that is known."""
    assert "exclude each other" in towers("net.safetensors", "--run", "first", code=2).stderr
    assert ".png, .svg, .pdf" in towers("--out", tmp_path / "towers.jpg", code=2).stderr


def test_without_matplotlib_nothing_is_begun(tmp_path, monkeypatch):
    """Where matplotlib is not installed the remedy comes before any work."""
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    result = towers(tmp_path / "missing.safetensors", "--out", tmp_path / "t.png", code=1)
    assert "towers are drawn by matplotlib, which is not installed" in result.stderr


# Over a training -----------------------------------------------------------------------------------------------------------------


def test_over_a_training(tmp_path):
    """A row for each epoch kept: alike as they are drawn, then one tower grey; the words are of the last one."""
    pytest.importorskip("matplotlib")
    folder = save_run(tmp_path, {0: noise(0), 1: planted("b", 12), 3: planted("b")})
    out = tmp_path / "t.png"
    lines = towers("--run", "first", "--runs", tmp_path, "--out", out).stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["epoch", "0", "1", "3"]
    assert lines[1].split()[-1] == "-" and lines[3].split()[-1] == "b"
    assert lines[4].startswith("in words  epoch 3: tower b is the more coloured one: p = ")
    with Image.open(out) as picture:
        assert picture.size == (1600, 960)
    found = json.loads(towers("--run", folder, "--runs", tmp_path, "--out", out, "--json").stdout)
    assert found["run"] == str(folder) and [row["epoch"] for row in found["epochs"]] == [0, 1, 3]
    assert found["epochs"][1]["learned"]["b"]["kernels"] == 12 and found["epochs"][0]["learned"] is None
    assert found["in_words"] == found["epochs"][-1]["in_words"]


def test_a_run_without_kernels(tmp_path):
    """A run of an earlier version is an error that says what is missing and what to do."""
    pytest.importorskip("matplotlib")
    save_run(tmp_path, {})
    result = towers("--run", "first", "--runs", tmp_path, "--out", tmp_path / "t.png", code=1)
    assert "has no kernels of its epochs" in result.stderr and "runs of earlier versions" in result.stderr
    result = towers("--run", "second", "--runs", tmp_path, "--out", tmp_path / "t.png", code=1)
    assert "no run second" in result.stderr and "runs there: first" in result.stderr


def test_a_run_of_one_tower(tmp_path):
    """A run of one tower is refused with its name."""
    pytest.importorskip("matplotlib")
    folder = save_run(tmp_path, {0: noise(0, 64)}, one_gpu())
    assert f"run {folder} has one tower" in towers("--run", folder, "--out", tmp_path / "t.png", code=1).stderr


# The picture ---------------------------------------------------------------------------------------------------------------------


def points(axes: Any) -> list[np.ndarray]:
    """Return the places of an axes' points, group by group."""
    offsets = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    return [part for part in offsets if len(part) > 1]


def test_every_kernel_is_drawn_at_its_share():
    """Each tower's points are its kernels' shares, filled where learned; medians and noise are lines at their heights."""
    pytest.importorskip("matplotlib")
    kernels = planted("b", 24)
    kernels[5] = 0
    found = measure(kernels, RECIPE)
    axes = draw_specialisation([("net", found)]).axes[0]
    heights = [part[:, 1].tolist() for part in points(axes)]
    expected = np.split(found.shares_N, 2)
    assert sorted(heights[0] + heights[1]) == pytest.approx(sorted(share for share in expected[0] if share == share))
    assert sorted(heights[2] + heights[3]) == pytest.approx(sorted(expected[1]))
    assert [len(part) for part in heights] == [23, 24, 24, 24]
    lines = [np.asarray(line.get_ydata())[0] for line in axes.get_lines()]
    assert lines == pytest.approx([found.of_all.a.median, found.of_all.b.median, 2 / 3])


def test_points_do_not_cover_each_other():
    """No two points of a tower have nearly the same place, also where several shares are equal."""
    pytest.importorskip("matplotlib")
    colour = np.array([1, -1, 0], np.float32)[:, None, None]
    kernels = np.stack([np.full((3, 11, 11), 1, np.float32) + colour * np.float32(0.6 + index // 4 / 30) for index in range(96)])
    found = measure(kernels, RECIPE)
    axes = draw_specialisation([("net", found)]).axes[0]
    places = np.concatenate(points(axes))
    apart = np.abs(places[:, None] - places) / np.array([0.08, 0.018])
    assert (apart.max(axis=2)[~np.eye(96, dtype=bool)] > 1).all()


def test_swatches_are_sorted():
    """Beside the points the kernels go from the least coloured to the most: grey first, then the planted red."""
    pytest.importorskip("matplotlib")
    kernels = noise(0)
    kernels[17], kernels[3] = grey(0, 1)[0], np.array([1, -1, 0], np.float32)[:, None, None]
    figure = draw_specialisation([("net", measure(kernels, RECIPE))], kernels)
    picture = np.asarray(figure.axes[1].images[0].get_array())
    assert picture.shape == (4 * 13 - 2, 12 * 13 - 2, 3)  # 48 kernels of 11 pixels in rows of 12, two pixels between
    first, last = picture[:11, :11], picture[39:50, 143:154]
    assert np.abs(first - first[..., :1]).max() < 1e-6
    assert last.reshape(-1, 3).tolist() == [[1, 0, 0.5]] * 121


def test_curves_are_the_medians():
    """Over a training each tower's curve is its medians at its epochs, one solid and one dashed."""
    pytest.importorskip("matplotlib")
    found = [measure(kernels, RECIPE).of_all for kernels in (noise(0), planted("b"))]
    curve_a, curve_b = draw_emergence([0, 4], found, "first").axes[0].get_lines()[:2]
    assert np.asarray(curve_a.get_xydata()).tolist() == [[0, found[0].a.median], [4, found[1].a.median]]
    assert np.asarray(curve_b.get_xydata()).tolist() == [[0, found[0].b.median], [4, found[1].b.median]]
    assert curve_b.is_dashed() and not curve_a.is_dashed()


def test_weights_are_not_replaced_by_the_picture(tmp_path):
    """--out that is the weights file is refused, and the file stays as it was."""
    path = save(tmp_path / "weights.png", planted("b"))  # whatever its name
    before = path.read_bytes()
    result = towers(path, "--out", path, code=1)
    assert f"error: {path} is the file to be read" in result.stderr.splitlines()
    assert path.read_bytes() == before
