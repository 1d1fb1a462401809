"""`alexnet filters`: what each option does, what is refused, and what the other methods are asked for."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.checkpoint import Weights, load_weights, save_weights
from alexnet_cli.core.filters import FilterOptions, draw_filters
from alexnet_cli.core.model import AlexNet
from tests.networks import narrow
from tests.stores import random_images, write_store
from tests.test_unit_variances import COUNT, everything

runner = CliRunner()
WORDS = ("running shoe, sneaker", "chair", "tench")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a narrow network of three classes, weights at random."""
    recipe = narrow(dropout=0.0)
    mean = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0)) * 255
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, Weights(recipe, ("x", "y", "z"), WORDS, dict(AlexNet(recipe, 3, seed=0).state_dict()), mean))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose splits val and train have seven pictures of noise together."""
    folder, images = tmp_path_factory.mktemp("data"), random_images(COUNT)
    write_store(folder / "val", images[:4], [0] * 4, ["x", "y", "z"])
    write_store(folder / "train", images[4:], [1] * 3, ["x", "y", "z"])
    return folder


def run(weights: Path, *arguments: object, **settings: str) -> Any:
    """Run the command and return its result."""
    return runner.invoke(app, ["filters", "--weights", str(weights), *map(str, arguments)], env=settings)


def done(weights: Path, out: Path, *arguments: object, **settings: str) -> Any:
    """Run the command, which must succeed, and return what it wrote and said."""
    result = run(weights, "--out", out, *arguments, **settings)
    assert result.exit_code == 0, result.stderr
    return result


def opened(path: Path) -> Image.Image:
    """Return a picture that was read to its end."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def test_figure_3_without_any_option(weights, tmp_path):
    """Without options it is the picture of the first layer that `draw_filters` makes, its name on stdout, what it is on stderr."""
    out = tmp_path / "f.png"
    result = done(weights, out)
    assert opened(out).tobytes() == draw_filters(load_weights(weights)).tobytes()
    assert result.stdout == f"{out}\n"
    assert result.stderr.splitlines() == [
        f"weights: {weights}",
        f"{out}: 8 of 8 kernels of conv1, 4 in a row, tower a above tower b",
    ]
    assert done(weights, out, "--quiet").stderr == ""
    again = runner.invoke(app, ["visualize-filters", "--weights", str(weights), "--out", str(tmp_path / "v.png"), "--labels"])
    assert again.exit_code == 0
    assert opened(tmp_path / "v.png").tobytes() == draw_filters(load_weights(weights), options=FilterOptions(labels=True)).tobytes()


@pytest.mark.parametrize(
    ("arguments", "layer", "units", "options"),
    [
        (["--normalize", "filter"], "conv1", None, {"normalize": "filter"}),
        (["--order", "hue", "--scale", "3"], "conv1", None, {"order": "hue", "scale": 3}),
        (["--unit", "6,1-2", "--unit", "0", "--labels"], "conv1", [6, 1, 2, 0], {"labels": True}),
        (["--tower", "b"], "conv1", [4, 5, 6, 7], {}),
        (["--layer", "conv2", "--method", "weights", "--channels", "2"], "conv2", None, {"channels": 2}),
        (["--layer", "conv3", "--method", "weights", "--tower", "b"], "conv3", list(range(12, 24)), {}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_options_of_weights(arguments, layer, units, options, weights, tmp_path):
    """Each option does what it does from Python."""
    done(weights, tmp_path / "f.png", *arguments)
    expected = draw_filters(load_weights(weights), layer, units, FilterOptions(**options))
    assert opened(tmp_path / "f.png").tobytes() == expected.tobytes()


def test_numbers(weights, tmp_path):
    """--json prints each unit's figures in the picture's order, and nothing else on stdout."""
    document = json.loads(done(weights, tmp_path / "f.svg", "--json", "--unit", "5,2", "--order", "orientation").stdout)
    assert {key: document[key] for key in ("kind", "method", "layer", "weights", "figure")} == {
        "kind": "filters",
        "method": "weights",
        "layer": "conv1",
        "weights": str(weights),
        "figure": str(tmp_path / "f.svg"),
    }
    assert [(one["unit"], one["tower"]) for one in document["units"]] == [(2, "a"), (5, "b")]
    kernel = load_weights(weights).tensors["conv1.weight"][5]
    assert document["units"][1]["max"] == kernel.max().item()
    assert (tmp_path / "f.svg").read_bytes()[:5] == b"<?xml" and b"pixelated" in (tmp_path / "f.svg").read_bytes()
    done(weights, tmp_path / "f.svg", "--labels")
    assert b"pixelated" not in (tmp_path / "f.svg").read_bytes()  # letters would be ragged


@pytest.mark.parametrize("splits", ["val", "val,train"])
def test_top_takes_those_that_vary_most(splits, weights, data, tmp_path):
    """--top takes the units of greatest variance over the splits' pictures, within the tower that is asked for."""
    arguments = ["--layer", "conv2", "--method", "weights", "--json", "--data", data, "--split", splits, "--batch-size", 3]
    result = done(weights, tmp_path / "f.png", *arguments, "--top", 3, "--tower", "b", "--device", "cpu", "--precision", "fp64")
    values = everything(load_weights(weights), "conv2")[: 4 if splits == "val" else 7]
    variances = values.var(axis=(0, 2, 3))
    expected = [int(unit) for unit in np.argsort(-variances, kind="stable") if unit >= 8][:3]
    assert [one["unit"] for one in json.loads(result.stdout)["units"]] == expected


# The other methods, asked through stand-ins ------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put stand-ins in the place of both methods, and return what they are asked for."""
    calls: list[dict[str, Any]] = []

    def note(method: str, image: np.ndarray):
        def called(weights, layer, units, *rest, device, precision, reporter):
            *stores, options = rest
            where = {
                "device": device.type,
                "precision": precision.name,
                "stores": [str(s.folder.name) for s in (stores or [[]])[0]],
            }
            calls.append({"method": method, "layer": layer, "units": list(units), **vars(options), **where})
            return [SimpleNamespace(unit=unit, image=image * unit, to_dict=lambda unit=unit: {"unit": unit}) for unit in units]

        return called

    def picture(found, *, labels):
        calls.append({"drawn": [one.unit for one in found], "labels": labels})
        return Image.new("RGB", (7, 5))

    maximize = SimpleNamespace(MaximizeOptions=SimpleNamespace, maximize=note("maximize", np.ones((20, 20, 3), np.uint8)))
    patches = SimpleNamespace(PatchOptions=SimpleNamespace, strongest_patches=note("patches", np.ones((2, 2, 3), np.uint8)))
    monkeypatch.setitem(sys.modules, "alexnet_cli.core.maximize", maximize)
    monkeypatch.setitem(sys.modules, "alexnet_cli.core.patches", patches)
    monkeypatch.setitem(sys.modules, "alexnet_cli.core.patch_picture", SimpleNamespace(draw_patches=picture))
    return calls


@pytest.mark.parametrize(
    ("arguments", "method", "units"),
    [
        (["--layer", "conv2"], "maximize", list(range(16))),
        (["--layer", "conv3"], "maximize", [*range(8), *range(12, 20)]),
        (["--layer", "conv3", "--tower", "b"], "maximize", list(range(12, 24))),
        (["--layer", "fc8"], "maximize", [0, 1, 2]),
        (["--layer", "fc8", "--unit", "sneaker,2"], "maximize", [0, 2]),
        (["--method", "maximize"], "maximize", list(range(8))),
        (["--method", "patches", "--layer", "fc7", "--unit", "0-19"], "patches", list(range(20))),
        (["--method", "patches", "--layer", "fc7"], "patches", [*range(8), *range(16, 24)]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_methods_by_layer(arguments, method, units, weights, data, asked, tmp_path):
    """Later layers are maximized unless told otherwise, sixteen of their units unless others are named."""
    result = done(weights, tmp_path / "f.png", *arguments, **{"ALEXNET_DATA": str(data)})
    assert (asked[0]["method"], asked[0]["units"]) == (method, units)
    cut = len(units) == 16 and "conv2" not in arguments
    assert ("--unit, --tower and --top choose others" in result.stderr) == cut


def test_maximize_is_asked_and_drawn(weights, asked, tmp_path):
    """Seed, steps, batch size, device and precision reach it; its pictures are laid by tower, as large as --scale says."""
    out = tmp_path / "f.png"
    arguments = ["--layer", "conv2", "--unit", "9,2,3", "--seed", 4, "--steps", 7, "--batch-size", 5, "--precision", "fp64"]
    result = done(weights, out, *arguments, "--device", "cpu", "--json", "--no-labels", "--scale", 2)
    assert asked == [
        {
            "method": "maximize",
            "layer": "conv2",
            "units": [2, 3, 9],
            "seed": 4,
            "steps": 7,
            "batch_size": 5,
            "device": "cpu",
            "precision": "fp64",
            "stores": [],
        }
    ]
    pixels = np.asarray(opened(out))[..., 0]
    assert pixels.shape == (2 * (22 + 1 + 22), 2 * 43)
    assert [pixels[2, 2], pixels[2, 44], pixels[48, 2]] == [2, 3, 9]
    expected = [{"unit": unit, "tower": tower, "name": None} for unit, tower in ((2, "a"), (3, "a"), (9, "b"))]
    assert json.loads(result.stdout)["units"] == expected  # in the order of the picture
    assert f"{out}: pictures made to excite 3 of 16 units of conv2, tower a above tower b" in result.stderr


@pytest.mark.parametrize("arguments", [["--layer", "fc8", "--scale", "20"], ["--layer", "fc7", "--unit", ",".join(["0-31"] * 2)]])
def test_a_picture_too_large_is_refused_before_the_work(arguments, weights, asked, tmp_path, monkeypatch):
    """Pictures for which there is no room in one are not looked for: 3 of 224 pixels 20 times, and 32 where few are the most."""
    monkeypatch.setattr("alexnet_cli.core.mosaic.MOST_PIXELS", 1_000_000)
    result = run(weights, "--out", tmp_path / "f.png", *arguments)
    assert result.exit_code == 1 and "the picture would have" in result.stderr
    assert asked == [] and list(tmp_path.iterdir()) == []


def test_classes_are_named(weights, data, asked, tmp_path):
    """Of the last layer each unit's class is told as JSON, by both methods, and that it is in no tower."""
    for arguments in ([], ["--method", "patches", "--data", data]):
        units = json.loads(done(weights, tmp_path / "f.png", "--layer", "fc8", "--json", "--unit", "tench,0", *arguments).stdout)[
            "units"
        ]
        assert units == [{"unit": 2, "tower": None, "name": "tench"}, {"unit": 0, "tower": None, "name": "running shoe, sneaker"}]


def test_labels_of_maximize(weights, asked, tmp_path):
    """Its pictures have labels unless told otherwise: the picture is higher by them."""
    for name, arguments in (("a", []), ("b", ["--labels"]), ("c", ["--no-labels"])):
        done(weights, tmp_path / f"{name}.png", "--layer", "fc8", *arguments)
    with_labels, told, without = (opened(tmp_path / f"{name}.png").size for name in "abc")
    assert with_labels == told and with_labels[0] == without[0] and with_labels[1] > without[1] + 10


@pytest.mark.parametrize(("attribution", "wanted"), [("deconvolution", "deconvolution"), ("guided", "guided"), ("none", None)])
def test_patches_are_asked_and_drawn(attribution, wanted, weights, data, asked, tmp_path):
    """Stores, their limit, the number of patches and the attribution reach it; the picture is its own."""
    arguments = [
        "--method",
        "patches",
        "--layer",
        "conv5",
        "--unit",
        "1,9",
        "--data",
        data,
        "--split",
        "val,train",
        "--pictures",
        6,
    ]
    arguments += [
        "--patches",
        4,
        "--attribution",
        attribution,
        "--batch-size",
        32,
        "--workers",
        1,
        "--device",
        "cpu",
        "--no-labels",
    ]
    result = done(weights, tmp_path / "f.png", *arguments)
    assert asked == [
        {
            "method": "patches",
            "layer": "conv5",
            "units": [1, 9],
            "patches": 4,
            "pictures": 6,
            "attribution": wanted,
            "batch_size": 32,
            "workers": 1,
            "device": "cpu",
            "precision": "fp32",
            "stores": ["val", "train"],
        },
        {"drawn": [1, 9], "labels": False},
    ]
    assert "strongest patches of 2 of 16 units of conv5, tower a and tower b" in result.stderr
    assert opened(tmp_path / "f.png").size == (7, 5)


def test_defaults_are_theirs(weights, data, asked, tmp_path):
    """What is not said is left to the methods, and the help says what they take then."""
    done(weights, tmp_path / "f.png", "--layer", "fc8")
    done(weights, tmp_path / "f.png", "--layer", "fc8", "--method", "patches", "--data", data)
    own = {"method", "layer", "units", "device", "precision", "stores", "seed", "attribution"}
    assert [set(call) - own for call in (asked[0], asked[1])] == [set(), set()]
    assert (asked[0]["seed"], asked[1]["attribution"]) == (0, "deconvolution")


def test_the_help_knows_their_defaults():
    """The numbers in the help are those of the methods' own options."""
    maximize = pytest.importorskip("alexnet_cli.core.maximize").MaximizeOptions()
    patches = pytest.importorskip("alexnet_cli.core.patches").PatchOptions()
    text = " ".join(runner.invoke(app, ["filters", "--help"], env={"COLUMNS": "300"}).stdout.split())
    assert f"how long to go on. [default: ({maximize.steps}); x>=1]" in text
    assert f"how many of each unit. [default: ({patches.patches}); 1<=x<=100]" in text
    assert f"[default: ({patches.batch_size}, of maximize {maximize.batch_size}); x>=1]" in text
    assert (maximize.seed, patches.attribution, patches.pictures) == (0, "deconvolution", None)


# Refusals ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "3"], "--steps is for --method maximize, not for weights"),
        (["--seed", "3"], "--seed is for --method maximize, not for weights"),
        (["--attribution", "none"], "--attribution is for --method patches, not for weights"),
        (["--layer", "conv2", "--patches", "3"], "--patches is for --method patches, not for maximize"),
        (["--layer", "conv2", "--order", "hue"], "--order is for --method weights, not for maximize"),
        (["--layer", "conv2", "--normalize", "layer"], "--normalize is for --method weights, not for maximize"),
        (["--method", "patches", "--scale", "3"], "--scale is for --method weights or maximize, not for patches"),
        (["--method", "maximize", "--channels", "3"], "--channels is for --method weights, not for maximize"),
        (["--method", "patches", "--place", "3,3"], "--place is for --method weights, not for patches"),
        (["--data", "data"], "--data is for --method patches, or for --top, not for weights"),
        (["--method", "maximize", "--split", "val"], "--split is for --method patches, or for --top, not for maximize"),
        (["--pictures", "5"], "--pictures is for --method patches, or for --top, not for weights"),
        (["--workers", "1"], "--workers is for --method patches, or for --top, not for weights"),
        (["--device", "cpu"], "--device is for --method maximize or patches, or for --top, not for weights"),
        (["--precision", "fp32"], "--precision is for --method maximize or patches, or for --top, not for weights"),
        (["--batch-size", "2"], "--batch-size is for --method maximize or patches, or for --top, not for weights"),
        (["--layer", "local1", "--place", "3"], "'3', expected a row and a column with a comma between, such as 3,5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_means_nothing_is_refused(arguments, message, weights, tmp_path):
    """An option that the method has no use for is wrong usage, told with what it is for, also where it says the default."""
    result = run(weights, "--out", tmp_path / "f.png", *arguments, COLUMNS="300")
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_not_refused(weights, data, tmp_path):
    """Settings that stand in the environment for all commands are no options of this call."""
    done(weights, tmp_path / "f.png", ALEXNET_DEVICE="cpu", ALEXNET_DATA=str(data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv9"], "no layer named 'conv9'"),
        (["--layer", "fc6", "--method", "weights"], "the weights of fc6 are no pictures"),
        (["--layer", "conv2", "--method", "weights", "--order", "hue"], "not in conv2"),
        (["--unit", "8"], "conv1 has no unit 8"),
        (["--unit", "sneaker"], "'sneaker' is no unit of conv1"),
        (["--top", "9", "--data", "{data}"], "9 units were asked for among 8"),
        (["--top", "2", "--data", "{data}", "--split", "test"], "has no split test"),
        (["--top", "2", "--data", "missing"], "missing does not exist"),
        (["--place", "3,3"], "the kernels of conv1 are the same at every place"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_an_error(arguments, message, weights, data, tmp_path):
    """What there is not is an error line, one of them, and no picture is written."""
    result = run(weights, "--out", tmp_path / "f.png", *(part.format(data=data) for part in arguments))
    assert result.exit_code == 1 and message in result.stderr and result.stdout == ""
    assert "pictures/s" not in result.stderr  # before any work
    assert result.stderr.count("error: ") == 1 and "Traceback" not in result.stderr and list(tmp_path.iterdir()) == []


def test_places_are_checked_first(weights, tmp_path):
    """A folder where the picture should go is told before anything is computed."""
    result = run(weights, "--out", tmp_path)
    assert result.exit_code == 1 and "cannot write" in result.stderr and "weights:" not in result.stderr


def test_the_weights_are_not_replaced(weights, tmp_path):
    """A picture that would take the place of the weights that it is drawn from is refused, and they stay."""
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(weights.read_bytes())
    result = run(mine, "--out", mine)
    assert result.exit_code == 1 and "is the file to be read" in result.stderr
    assert mine.read_bytes() == weights.read_bytes() and list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
    "arguments",
    [["--steps", 2], ["--method", "patches", "--data", "{data}"], ["--top", 2, "--data", "{data}", "--method", "weights"]],
)
def test_sums_that_overflow(arguments, data, tmp_path):
    """Finite weights whose sums are not give an error, not a picture of nothing, nor NaN as JSON."""
    recipe = narrow()
    tensors = {name: value * (1e22 if value.ndim > 1 else 1) for name, value in AlexNet(recipe, 3, seed=0).state_dict().items()}
    save_weights(tmp_path / "w.safetensors", Weights(recipe, ("x", "y", "z"), WORDS, tensors, torch.zeros(3, 256, 256)))
    parts = [str(part).format(data=data) for part in arguments]
    result = run(tmp_path / "w.safetensors", "--layer", "conv3", "--json", "--out", tmp_path / "f.png", "--device", "cpu", *parts)
    assert result.exit_code == 1 and "what units of conv3 make of a picture is not finite" in result.stderr
    assert result.stdout == "" and not (tmp_path / "f.png").exists()
