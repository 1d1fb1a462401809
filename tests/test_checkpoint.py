import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file

from alexnet_cli.core.architecture import layer_table, parameter_shapes
from alexnet_cli.core.checkpoint import (
    Weights,
    build_network,
    find_weights,
    load_weights,
    resolve_weights,
    save_weights,
)
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original
from alexnet_cli.core.towers import Layout

CPU = torch.device("cpu")
TINY = Recipe(name="tiny", channels=(8, 16, 24, 24, 16), hidden=(32, 32))


def tiny_weights(seed: int = 0, *, classes: tuple[str, ...] = ("n01", "n02", "n03")) -> Weights:
    """Weights of a small two-tower network, random, with a random mean."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in parameter_shapes(TINY, len(classes)).items()}
    words = tuple(f"word, {name} é" for name in classes)
    mean = 255 * torch.rand(3, 256, 256, generator=generator)
    return Weights(TINY, classes, words, tensors, mean, step=110, epoch=10, accuracy={"val_top1_error": 0.048})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One weights file, to be copied before it is damaged."""
    path = tmp_path_factory.mktemp("saved") / "best.safetensors"
    save_weights(path, tiny_weights())
    return path


def altered(saved: Path, folder: Path, alter: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> Path:
    """Re-save a weights file with plain safetensors after `alter(tensors, metadata)` has changed it."""
    with safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(saved)
    alter(tensors, metadata)
    save_file(tensors, folder / "altered.safetensors", metadata)
    return folder / "altered.safetensors"


# Weights ---------------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(saved):
    """Every field comes back as it was, the tensors bit for bit."""
    expected, found = tiny_weights(), load_weights(saved)
    for name in ("recipe", "classes", "words", "step", "epoch", "accuracy"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.path == saved
    assert torch.equal(found.mean, expected.mean)
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in expected.tensors.items())


def test_any_program_reads_the_file(saved):
    """The safetensors package alone finds float32 tensors in the documented shapes, and JSON in the metadata."""
    tensors = load_file(saved)
    assert {name: tuple(value.shape) for name, value in tensors.items()} == {
        "conv1.weight": (8, 3, 11, 11),
        "conv1.bias": (8,),
        "conv2.weight": (16, 4, 5, 5),
        "conv2.bias": (16,),
        "conv3.weight": (24, 16, 3, 3),
        "conv3.bias": (24,),
        "conv4.weight": (24, 12, 3, 3),
        "conv4.bias": (24,),
        "conv5.weight": (16, 12, 3, 3),
        "conv5.bias": (16,),
        "fc6.weight": (32, 576),
        "fc6.bias": (32,),
        "fc7.weight": (32, 32),
        "fc7.bias": (32,),
        "fc8.weight": (3, 32),
        "fc8.bias": (3,),
        "mean": (3, 256, 256),
    }
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    with safe_open(saved, framework="np") as file:
        metadata = file.metadata()
    assert metadata["format"] == "alexnet-weights" and metadata["format_version"] == "1"
    assert json.loads(metadata["recipe"])["channels"] == [8, 16, 24, 24, 16]
    assert json.loads(metadata["classes"]) == ["n01", "n02", "n03"]
    assert json.loads(metadata["words"])[0] == "word, n01 é"
    assert json.loads(metadata["accuracy"]) == {"val_top1_error": 0.048}
    assert (json.loads(metadata["step"]), json.loads(metadata["epoch"])) == (110, 10)


def test_header_is_aligned(saved):
    """The bytes of the tensors begin at a multiple of 8, as the format asks for."""
    assert int.from_bytes(saved.read_bytes()[:8], "little") % 8 == 0


def test_same_weights_same_bytes(saved, tmp_path):
    """Another process writes the same file from the same weights, byte for byte."""
    code = """
        import sys
        from pathlib import Path
        from alexnet_cli.core.checkpoint import load_weights, save_weights
        save_weights(Path(sys.argv[2]), load_weights(Path(sys.argv[1])))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), saved, tmp_path / "again"], check=True, timeout=120)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_resaved_by_safetensors_alone(saved, tmp_path):
    """A file that another program has changed and saved with its metadata kept is loaded, with the change."""

    def alter(tensors, metadata):
        tensors["fc8.bias"] = tensors["fc8.bias"] + 1
        tensors["notes"] = torch.zeros(2)

    found = load_weights(altered(saved, tmp_path, alter))
    assert torch.equal(found.tensors["fc8.bias"], tiny_weights().tensors["fc8.bias"] + 1)
    assert "notes" not in found.tensors


def test_resaved_as_half_precision(saved, tmp_path):
    """A file made smaller with float16 is loaded as float32."""

    def alter(tensors, metadata):
        tensors["fc6.weight"] = tensors["fc6.weight"].half()

    found = load_weights(altered(saved, tmp_path, alter)).tensors["fc6.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, tiny_weights().tensors["fc6.weight"].half().float())


def test_channels_last_and_parameters_can_be_saved(tmp_path):
    """Weights that lie channels last, need gradients or are slices of larger tensors are saved by value."""
    weights = tiny_weights()
    plain = {name: value.clone() for name, value in weights.tensors.items()}
    weights.tensors["conv2.weight"] = torch.nn.Parameter(plain["conv2.weight"].to(memory_format=torch.channels_last))
    weights.tensors["fc7.weight"] = torch.cat([plain["fc7.weight"], plain["fc7.weight"]])[:32]
    weights.tensors["fc8.weight"] = plain["fc8.weight"].double()
    save_weights(tmp_path / "w", weights)
    found = load_weights(tmp_path / "w").tensors
    assert all(torch.equal(found[name], value) for name, value in plain.items())


def test_missing_file(tmp_path):
    """A missing file is named, with what was expected."""
    with pytest.raises(CheckpointError, match=re.escape(f"no weights file {tmp_path / 'no.safetensors'}")) as caught:
        load_weights(tmp_path / "no.safetensors")
    assert caught.value.hint == "expected a file that alexnet train wrote, such as runs/latest/best.safetensors"


def test_folder(tmp_path):
    """A folder is no weights file."""
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path} is a folder, expected a weights file")):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(200), "is not a safetensors file"),
        (b"\x80\x02}q\x00.", "is not a safetensors file"),
        (b"\x10\0\0\0\0\0\0\0{not json at all", "is not a safetensors file: its header is damaged"),
        (b"\x10\0\0\0\0\0\0\0[1, 2, 3, 4, 56]", "is not a safetensors file"),
        (b'\x10\0\0\0\0\0\0\0{"a": [1,2,34]} ', "is not a safetensors file: its header is damaged"),
    ],
    ids=["empty", "zip", "pickle", "no_json", "list", "no_offsets"],
)
def test_not_safetensors(tmp_path, content, message):
    """What is no safetensors file is called so, before any of it is believed."""
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"w.safetensors {message}") + "$"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("kept", [20, 3000, 400_000])
def test_cut_short(saved, tmp_path, kept):
    """A file cut in its header or in its tensors is called cut short, with both sizes."""
    (tmp_path / "w.safetensors").write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=rf"w\.safetensors is cut short: {kept:,} bytes, expected (at least )?[\d,]+$"):
        load_weights(tmp_path / "w.safetensors")


def test_bytes_too_many(saved, tmp_path):
    """A file with something after its end is damaged."""
    (tmp_path / "w.safetensors").write_bytes(saved.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"w\.safetensors is damaged: [\d,]+ bytes, expected [\d,]+$"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("metadata", "found"), [(None, "no format"), ({"format": "pt"}, "format 'pt'")])
def test_another_program(tmp_path, metadata, found):
    """A safetensors file without our mark is another program's; the message says what it lacks."""
    save_file({"conv1.weight": torch.zeros(8, 3, 11, 11)}, tmp_path / "w", metadata)
    message = f"w is a safetensors file of another program: its metadata has {found}, expected 'alexnet-weights'"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_weights(tmp_path / "w")


@pytest.mark.parametrize("key", ["recipe", "classes", "words", "step", "epoch", "accuracy"])
def test_missing_metadata(saved, tmp_path, key):
    """Metadata lost on the way is named."""
    with pytest.raises(CheckpointError, match=f"lacks the metadata '{key}'") as caught:
        load_weights(altered(saved, tmp_path, lambda tensors, metadata: metadata.pop(key)))
    assert caught.value.hint.startswith("keep the metadata when you save the file again")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": "{"}, "cannot be read: Expecting property name"),
        ({"recipe": '{"depth": 5}'}, "cannot be read: unknown recipe fields: depth"),
        ({"recipe": "[]"}, "cannot be read"),
        ({"classes": '"n01"'}, "cannot be read: classes and words must be lists of texts"),
        ({"classes": "[1, 2, 3]"}, "cannot be read: classes and words must be lists of texts"),
        ({"step": "null"}, "cannot be read"),
        ({"accuracy": "0.5"}, "cannot be read"),
        ({"words": '["one"]'}, "has 1 words for 3 classes, expected one for each"),
        ({"format_version": "2"}, "has format version 2, this program reads version 1"),
    ],
)
def test_damaged_metadata(saved, tmp_path, changed, message):
    """Metadata that is not what the format says is refused with the reason."""
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_weights(altered(saved, tmp_path, lambda tensors, metadata: metadata.update(changed)))


def test_missing_tensors(saved, tmp_path):
    """The first missing tensors are named, and how many there are."""

    def alter(tensors, metadata):
        del tensors["conv3.weight"], tensors["mean"]

    with pytest.raises(CheckpointError, match=r"lacks 2 of 17 tensors: conv3\.weight, mean"):
        load_weights(altered(saved, tmp_path, alter))


def test_tensor_of_another_shape(saved, tmp_path):
    """A tensor that does not fit the file's own recipe is named with both shapes."""

    def alter(tensors, metadata):
        tensors["conv2.weight"] = torch.zeros(16, 8, 5, 5)

    message = "is torch.float32 (16, 8, 5, 5), expected float32 (16, 4, 5, 5) for its recipe and classes"
    with pytest.raises(CheckpointError, match=r"conv2\.weight in .* " + re.escape(message)):
        load_weights(altered(saved, tmp_path, alter))


def test_other_number_of_classes(saved, tmp_path):
    """Classes that were edited without the last layer do not fit it."""

    def alter(tensors, metadata):
        metadata.update(classes='["a", "b"]', words='["a", "b"]')

    with pytest.raises(CheckpointError, match=re.escape("is torch.float32 (3, 32), expected float32 (2, 32)")):
        load_weights(altered(saved, tmp_path, alter))


def test_whole_numbers(saved, tmp_path):
    """A tensor of whole numbers is refused."""

    def alter(tensors, metadata):
        tensors["fc8.bias"] = torch.zeros(3, dtype=torch.int64)

    with pytest.raises(CheckpointError, match=re.escape("is torch.int64 (3,), expected float32 (3,)")):
        load_weights(altered(saved, tmp_path, alter))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["fc6.weight", "mean"])
def test_not_finite(saved, tmp_path, name, value):
    """One number that is not finite is found and its tensor named."""

    def alter(tensors, metadata):
        tensors[name].view(-1)[-1] = value

    with pytest.raises(CheckpointError, match=f"{name} in .* holds numbers that are not finite") as caught:
        load_weights(altered(saved, tmp_path, alter))
    assert caught.value.hint == "its training diverged: train again with a lower --learning-rate"


# The network -----------------------------------------------------------------------------------------------------------------


def test_shapes_agree_with_the_layer_table():
    """The full network's shapes hold exactly the parameters that the layer table counts, 60,965,224 for 1,000 classes."""
    shapes = parameter_shapes(original(), 1000)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 60_965_224
    for row in layer_table(original(), 1000):
        own = [int(np.prod(shape)) for name, shape in shapes.items() if name.split(".")[0] == row.name]
        assert sum(own) == row.parameters


def test_network_has_the_file_s_weights(saved):
    """The network built from a file holds its tensors, in eval mode, and needs no gradients."""
    weights = load_weights(saved)
    network = build_network(weights, CPU, Precision("fp32"))
    assert not network.training
    found = dict(network.named_parameters())
    assert found.keys() == weights.tensors.keys()
    assert all(torch.equal(found[name], value) and not found[name].requires_grad for name, value in weights.tensors.items())
    assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 3)


def test_network_in_fp64(saved):
    """fp64 widens the weights without changing their values."""
    weights = load_weights(saved)
    network = build_network(weights, CPU, Precision("fp64"))
    assert {value.dtype for value in network.parameters()} == {torch.float64}
    assert torch.equal(dict(network.named_parameters())["conv4.weight"], weights.tensors["conv4.weight"].double())


def test_ranks_share_the_file(saved):
    """Of two ranks each takes its own tower's half, and the first all of fc8."""
    weights = load_weights(saved)
    halves = [dict(build_network(weights, CPU, Precision("fp32"), Layout(rank, 2)).named_parameters()) for rank in (0, 1)]
    for name, whole in weights.tensors.items():
        if name.startswith("fc8"):
            assert torch.equal(halves[0][name], whole) and name not in halves[1]
        else:
            assert torch.equal(torch.cat([halves[0][name], halves[1][name]]), whole)


# Which file ------------------------------------------------------------------------------------------------------------------


def add_run(saved: Path, folder: Path, *names: str, time: int) -> Path:
    """Make a run's folder with these weights files, all of them last changed at `time`."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text("", encoding="utf-8")
    for name in names:
        (folder / name).write_bytes(saved.read_bytes())
    for path in folder.iterdir():
        os.utime(path, (time, time))
    return folder


def test_best_of_the_newest_run(saved, tmp_path):
    """The newest run's best is taken, not an older run's, nor its last."""
    add_run(saved, tmp_path / "b", "best.safetensors", "last.safetensors", time=1000)
    add_run(saved, tmp_path / "a", "best.safetensors", "last.safetensors", time=2000)
    assert find_weights(tmp_path) == tmp_path / "a" / "best.safetensors"


def test_last_where_there_is_no_best(saved, tmp_path):
    """A run that has only its last weights gives those."""
    add_run(saved, tmp_path / "a", "last.safetensors", time=1000)
    assert find_weights(tmp_path) == tmp_path / "a" / "last.safetensors"


def test_link_to_the_latest_goes_first(saved, tmp_path):
    """Where the link `latest` points is the newest, whatever the times say, and the answer has the run's own name."""
    add_run(saved, tmp_path / "old", "best.safetensors", time=1000)
    add_run(saved, tmp_path / "new", "best.safetensors", time=2000)
    (tmp_path / "latest").symlink_to("old")
    assert find_weights(tmp_path) == tmp_path / "old" / "best.safetensors"


@pytest.mark.parametrize("latest", ["gone", "unfinished"])
def test_run_without_weights_is_passed_over(saved, tmp_path, latest):
    """A run that has no whole weights file yet, or is gone, does not hide the one before it."""
    add_run(saved, tmp_path / "done", "best.safetensors", time=1000)
    unfinished = add_run(saved, tmp_path / "unfinished", time=2000)
    (unfinished / "best.safetensors").write_bytes(saved.read_bytes()[:5000])
    (tmp_path / "latest").symlink_to(latest)
    assert find_weights(tmp_path) == tmp_path / "done" / "best.safetensors"


def test_no_runs(tmp_path):
    """Without any run the way to one is named."""
    with pytest.raises(CheckpointError, match=re.escape(f"no runs in {tmp_path / 'runs'}: there is no such folder")) as caught:
        find_weights(tmp_path / "runs")
    assert "alexnet train" in caught.value.hint


def test_no_run_has_weights(saved, tmp_path):
    """Runs without weights are not enough."""
    add_run(saved, tmp_path / "a", time=1000)
    with pytest.raises(
        CheckpointError, match=r"no run in .* has a whole weights file yet \(best\.safetensors or last\.safetensors\)"
    ) as caught:
        find_weights(tmp_path)
    assert "alexnet train" in caught.value.hint


def test_argument_of_every_kind(saved, tmp_path):
    """A user may name a file, a run's folder, a run by its name, a folder of runs, or nothing."""
    best = add_run(saved, tmp_path / "runs" / "a", "best.safetensors", time=1000) / "best.safetensors"
    for argument in (str(best), str(best.parent), "a", str(tmp_path / "runs"), None):
        assert resolve_weights(argument, tmp_path / "runs") == best


def test_argument_that_is_nothing(tmp_path):
    """A name that is neither a file nor a run is named with where it was looked for."""
    with pytest.raises(CheckpointError, match=re.escape(f"no weights file other, nor a run of that name in {tmp_path}")):
        resolve_weights("other", tmp_path)


def test_named_run_without_weights(saved, tmp_path):
    """A run that was asked for and has no weights is an error: another run's would be a surprise."""
    add_run(saved, tmp_path / "done", "best.safetensors", time=1000)
    add_run(saved, tmp_path / "started", time=2000)
    with pytest.raises(CheckpointError, match=r"run .*started has no whole weights file yet") as caught:
        resolve_weights("started", tmp_path)
    assert caught.value.hint == 'continue it with "alexnet train --run started --resume"'


def test_saved_by_numpy_is_another_program_s(tmp_path):
    """A file of NumPy's safetensors without metadata is told from ours."""
    save_numpy({"mean": np.zeros((3, 256, 256), np.float32)}, tmp_path / "stats.safetensors")
    with pytest.raises(CheckpointError, match=r"stats\.safetensors is a safetensors file of another program"):
        load_weights(tmp_path / "stats.safetensors")
