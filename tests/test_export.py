"""What is exported says in another program what our own network says, and comes back as it was."""

import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights, build_network, load_weights, save_weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError, CheckpointError
from alexnet_cli.core.evaluate import average_probabilities
from alexnet_cli.core.foreign import load_foreign
from alexnet_cli.core.onnx_writer import write_onnx
from alexnet_cli.core.program import write_program
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import PRESETS, preset
from tests.conftest import REAL_DATA, ROOT
from tests.foreign_files import photographs, random_arrays

CPU = torch.device("cpu")
FP32 = Precision("fp32")
TOLERANCE = 1e-4
TORCHVISION = Recipe(
    name="torchvision", towers=1, input_padding=(2, 2), channels=(8, 16, 24, 24, 16), hidden=(32, 32), pixel_scale=1 / 255,
    pixel_stdevs=(0.229, 0.224, 0.225), mean="channel", dropout_inverted=False, dropout_before=True, pools_rounded_down=("conv1",),
    follows=("activation pool", "activation pool", "activation", "activation", "activation pool"), test_crops=1,
)  # fmt: skip
ALL = [name for name in PRESETS if name != "tiny"]


def weights_of(recipe: Recipe, *, full_size: bool = False) -> Weights:
    """Random weights and a mean image; few channels unless the full size is asked for."""
    if not full_size:
        channels = tuple(16 if count < 300 else 24 for count in recipe.channels)
        recipe = replace(recipe, channels=channels, hidden=(32,) * len(recipe.hidden))
    arrays = random_arrays(parameter_shapes(recipe, 7))
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    mean = 90 + 60 * torch.rand(3, recipe.stored_size, recipe.stored_size, generator=torch.Generator().manual_seed(1))
    names = tuple(f"n{index}" for index in range(7))
    words = tuple(f"word {name} é" for name in names)
    weights = Weights(recipe, names, words, tensors, mean, 5, 2, {"val_top1_error": 0.25}, source="théirs, http://example.org")
    # Scores of a few units: of larger ones the softmax would say 0 or 1 whatever the layers did.
    with torch.no_grad():
        seen_BCHW = torch.from_numpy(seen(weights, squares(2, recipe.stored_size)))
        spread = build_network(weights, CPU, FP32)(seen_BCHW).std().item()
    for part in ("weight", "bias"):
        tensors[f"{recipe.full[-1]}.{part}"] /= spread
    return weights


def squares(count: int, side: int) -> torch.Tensor:
    """Photographs as stored squares, uint8 (B, side, side, 3)."""
    return (photographs(REAL_DATA / "clothing-small" / "test", count, side) + 110).permute(0, 2, 3, 1).to(torch.uint8)


def ours(weights: Weights, images: torch.Tensor) -> np.ndarray:
    """Our probabilities of the centre view, as predict and evaluate compute them."""
    network = build_network(weights, CPU, FP32)
    found = average_probabilities(network, images, weights.mean, weights.recipe, 1, FP32)
    assert found is not None
    return found.numpy()


def run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    """Run a file with onnxruntime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def seen(weights: Weights, images: torch.Tensor) -> np.ndarray:
    """What the network sees of a square, cut and scaled here by NumPy alone."""
    recipe = weights.recipe
    start = (recipe.stored_size - recipe.input_size) // 2
    end = start + recipe.input_size
    mean = weights.mean.numpy() if recipe.mean == "image" else weights.mean.numpy().mean((1, 2), keepdims=True)
    pixels = (images.numpy().transpose(0, 3, 1, 2).astype(np.float32) - mean)[:, :, start:end, start:end]
    pixels = pixels * recipe.pixel_scale / np.array(recipe.pixel_stdevs)[:, None, None]
    return np.ascontiguousarray(pixels[:, ::-1] if recipe.channel_order == "bgr" else pixels, dtype=np.float32)


@pytest.mark.parametrize("recipe", [*map(preset, ALL), TORCHVISION], ids=lambda recipe: recipe.name)
def test_onnxruntime_gives_our_probabilities(tmp_path, recipe):
    """For batches of one and of three pictures, with and without the preprocessing baked in."""
    weights = weights_of(recipe)
    images = squares(3, recipe.stored_size)
    expected = ours(weights, images)
    for baked in (False, True):
        write_onnx(tmp_path / "a.onnx", weights, bake_preprocessing=baked)
        onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)
        given = images.numpy() if baked else seen(weights, images)
        for count in (1, 3):
            difference = np.abs(run_onnx(tmp_path / "a.onnx", given[:count]) - expected[:count]).max()
            print(f"{recipe.name} baked={baked} batch={count}: {difference:.1e}")
            assert difference <= TOLERANCE
    assert expected.std() > 0.01 and expected.max() < 0.99  # the probabilities do say something


@pytest.mark.parametrize("name", ["original", "bvlc"])
def test_the_whole_network(tmp_path, name):
    """All sixty million weights: onnxruntime's probabilities are ours."""
    weights = weights_of(preset(name), full_size=True)
    images = squares(2, 256)
    write_onnx(tmp_path / "a.onnx", weights)
    difference = np.abs(run_onnx(tmp_path / "a.onnx", seen(weights, images)) - ours(weights, images)).max()
    print(f"{name}: {difference:.1e}")
    assert difference <= TOLERANCE


def test_a_graph_anyone_can_read(tmp_path):
    """Norms are LRN, one for each tower where they do not cross; weights have our names; logits have no softmax."""
    write_onnx(tmp_path / "a.onnx", weights_of(preset("original")), logits=True)
    graph = onnx.load(tmp_path / "a.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("LRN") == 4 and kinds.count("Conv") == 5 and kinds.count("Gemm") == 3 and "Softmax" not in kinds
    assert {tensor.name for tensor in graph.initializer} >= set(parameter_shapes(preset("original"), 7))
    write_onnx(tmp_path / "a.onnx", weights_of(preset("bvlc")))
    kinds = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
    assert kinds.count("LRN") == 2 and "Split" not in kinds and kinds[-1] == "Softmax"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("baked", [False, True])
def test_an_export_comes_back(tmp_path, name, baked):
    """Recipe, classes, words, mean, progress and every weight survive export and import bit for bit."""
    weights = weights_of(preset(name))
    write_onnx(tmp_path / "a.onnx", weights, bake_preprocessing=baked)
    back = load_foreign(tmp_path / "a.onnx")
    for field in ("recipe", "classes", "words", "step", "epoch", "accuracy", "source"):
        assert getattr(back, field) == getattr(weights, field), field
    assert torch.equal(back.mean, weights.mean)
    assert back.tensors.keys() == weights.tensors.keys()
    assert all(torch.equal(back.tensors[key], value) for key, value in weights.tensors.items())


@pytest.mark.parametrize(
    ("key", "value"), [("alexnet.recipe", "{}"), ("alexnet.recipe", "no"), ("alexnet.mean", "AAAA"), ("alexnet.words", "[]")]
)
def test_damaged_metadata(tmp_path, key, value):
    """An export whose metadata were changed is refused, not imported as something else."""
    write_onnx(tmp_path / "a.onnx", weights_of(preset("one-gpu")))
    model = onnx.load(tmp_path / "a.onnx")
    next(entry for entry in model.metadata_props if entry.key == key).value = value
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(CheckpointError):
        load_foreign(tmp_path / "a.onnx")


def test_weights_of_our_own_have_no_source(tmp_path):
    """What was trained here comes back without one, as do exports from before there was any."""
    write_onnx(tmp_path / "a.onnx", replace(weights_of(preset("one-gpu")), source=""))
    assert all(entry.key != "alexnet.source" for entry in onnx.load(tmp_path / "a.onnx").metadata_props)
    assert load_foreign(tmp_path / "a.onnx").source == ""


def test_local_layers_are_refused(tmp_path):
    """ONNX has no operator for them; nothing is written."""
    with pytest.raises(AlexNetError, match="local3, local4 have kernels of their own") as caught:
        write_onnx(tmp_path / "a.onnx", weights_of(preset("tiny")))
    assert "torch-export" in caught.value.hint and not list(tmp_path.iterdir())


def test_same_weights_same_bytes(tmp_path):
    """Two exports of the same weights are the same file."""
    for name in ("a", "b"):
        write_onnx(tmp_path / name, weights_of(preset("bvlc")))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.filterwarnings("ignore")  # torch.export warns about itself
@pytest.mark.parametrize("recipe", [*map(preset, ("original", "caffenet", "tiny", "paper")), TORCHVISION], ids=lambda r: r.name)
def test_programs_of_torch(tmp_path, recipe):
    """A program gives our probabilities for other batch sizes than it was traced with, preprocessing baked in or not."""
    weights = weights_of(recipe)
    images = squares(3, recipe.stored_size)
    expected = ours(weights, images)
    for baked in (False, True):
        write_program(tmp_path / "a.pt2", weights, bake_preprocessing=baked)
        program = torch.export.load(tmp_path / "a.pt2").module()
        given = images if baked else torch.from_numpy(seen(weights, images))
        for count in (1, 3):
            difference = (program(given[:count]) - torch.from_numpy(expected[:count])).abs().max().item()
            assert difference <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
def test_a_program_needs_torch_alone(tmp_path):
    """A process that cannot import this package loads and runs it."""
    write_program(tmp_path / "a.pt2", weights_of(preset("original")), logits=True)
    code = """
import sys, torch
sys.modules["alexnet_cli"] = None
print(tuple(torch.export.load(sys.argv[1]).module()(torch.zeros(4, 3, 224, 224)).shape))
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "a.pt2")]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.strip() == "(4, 7)"


def test_the_commands(tmp_path, monkeypatch):
    """export, then import, on the command line; a file is never its own source, and errors are one line."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    save_weights(Path("w.safetensors"), weights_of(preset("bvlc")))
    assert runner.invoke(app, ["export", "w.safetensors", "--quiet"]).stdout == "alexnet.onnx\n"
    assert runner.invoke(app, ["import", "alexnet.onnx", "--out", "back.safetensors", "--quiet"]).stdout == "back.safetensors\n"
    assert Path("back.safetensors").read_bytes() == Path("w.safetensors").read_bytes()
    assert load_weights(Path("back.safetensors")).words[0] == "word n0 é"
    again = runner.invoke(app, ["import", "alexnet.onnx", "--out", "back.safetensors", "--quiet"])
    assert again.stdout == "back.safetensors\n"  # it holds that already
    for command in (["export", "w.safetensors", "--out", "w.safetensors"], ["import", "alexnet.onnx", "--out", "alexnet.onnx"]):
        result = runner.invoke(app, command)
        assert result.exit_code == 1 and "is the file to be read" in result.stderr
    result = runner.invoke(app, ["import", "w.safetensors", "--out", "new.safetensors"])
    assert result.exit_code == 1 and "already one of ours" in result.stderr and not Path("new.safetensors").exists()


@pytest.mark.parametrize("there", ["a weights file", "another file", "other progress"])
def test_import_replaces_nothing_unasked(tmp_path, monkeypatch, there):
    """Weights that somebody has are replaced with --force alone where there is no terminal, and remain untouched without."""
    monkeypatch.chdir(tmp_path)
    runner, weights, out = CliRunner(), weights_of(preset("bvlc")), Path("weights.safetensors")
    write_onnx(Path("a.onnx"), weights)
    if there == "another file":
        out.write_bytes(b"mine")
    else:
        changed = {"step": 6} if there == "other progress" else {"mean": weights.mean + 1}
        save_weights(out, replace(weights, **changed))
    mine = out.read_bytes()
    result = runner.invoke(app, ["import", "a.onnx"])
    assert result.exit_code == 1 and "weights.safetensors is there already" in result.stderr and "--force" in result.stderr
    assert out.read_bytes() == mine
    assert runner.invoke(app, ["import", "a.onnx", "--force"]).exit_code == 0
    assert torch.equal(load_weights(out).mean, weights.mean) and load_weights(out).step == 5


@pytest.mark.parametrize(("answer", "exit_code"), [(b"y\n", 0), (b"\n", 1)])
def test_import_asks_on_a_terminal(tmp_path, answer, exit_code):
    """Only a yes replaces what is there."""
    write_onnx(tmp_path / "a.onnx", weights_of(preset("bvlc")))
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    parent, child = pty.openpty()
    os.write(parent, answer)
    result = subprocess.run(
        [sys.executable, "-m", "alexnet_cli", "import", "a.onnx"],
        stdin=child, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    os.close(parent)
    os.close(child)
    assert result.returncode == exit_code and "weights.safetensors is there already" in result.stderr, result.stderr
    assert ((tmp_path / "weights.safetensors").read_bytes() == b"mine") == (exit_code == 1)
