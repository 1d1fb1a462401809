"""Weights files: what a training leaves for everything else, one safetensors file with all that predict and evaluate ask for.

It has no checksum, so that a file edited with safetensors alone stays valid. docs/formats.md specifies it.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import CheckpointError, RecipeError
from alexnet_cli.core.kinds import FOREIGN, OUR_FORMAT, kind_of
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.public_weights import PUBLIC_WEIGHTS, require_pulled
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.tensors import find_damage, read_tensors, write_tensors
from alexnet_cli.core.towers import ONE_DEVICE, Layout

FORMAT = OUR_FORMAT
FORMAT_VERSION = 1
TOLD = ("recipe", "classes", "words", "step", "epoch", "accuracy", "source")  # beside the tensors
WEIGHTS_FILES = ("best.safetensors", "last.safetensors")  # in the order in which they are taken
LATEST = "latest"  # name of the link to the newest run


@dataclass
class Weights:
    """A trained network: all that is in a weights file.

    classes: ids in the order of fc8's outputs; words: their names, in parallel. tensors: float32 on the CPU, "conv1.weight" to
    "fc8.bias" in the shapes of the one-device network. mean: float32 (3, H, W) of the stored size, RGB whatever the recipe's order.
    step, epoch: how far the training was. accuracy: what it measured, fractions 0-1. path: where it was read from. source: of
    weights that were not trained by this program, whose they are and from where.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    words: tuple[str, ...]
    tensors: dict[str, Tensor]
    mean: Tensor
    step: int = 0
    epoch: int = 0
    accuracy: dict[str, float] = field(default_factory=dict)
    path: Path | None = None
    source: str = ""


def save_weights(path: Path, weights: Weights) -> None:
    """Write a weights file, atomically; the same weights give the same bytes. Raises DiskFullError."""
    arrays = {name: _on_cpu(value).to(torch.float32).numpy() for name, value in {**weights.tensors, "mean": weights.mean}.items()}
    write_tensors(path, arrays, {"format": FORMAT, "format_version": str(FORMAT_VERSION), **to_texts(weights)})


def to_texts(weights: Weights) -> dict[str, str]:
    """Return what a file says of its weights, as JSON by name; a source only where there is one."""
    values = {name: getattr(weights, name) for name in TOLD if name != "source" or weights.source}
    values["recipe"] = weights.recipe.to_dict()
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def from_texts(texts: Mapping[str, str], path: Path) -> Weights:
    """Return weights as far as `to_texts` tells of them, without tensors and mean.

    Raises CheckpointError where a text is missing or cannot be read.
    """
    try:
        values = {name: json.loads(texts[name]) for name in TOLD if name != "source" or "source" in texts}
        found = Weights(
            Recipe.from_dict(values["recipe"]),
            _strings(values["classes"]),
            _strings(values["words"]),
            {},
            torch.empty(0),
            int(values["step"]),
            int(values["epoch"]),
            dict(values["accuracy"]),
            path,
            str(values.get("source", "")),
        )
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the metadata {error}", hint=_HINT_KEEP_METADATA) from error
    except (ValueError, TypeError, AttributeError, RecipeError) as error:
        raise CheckpointError(f"the metadata of {path} cannot be read: {error}", hint=_HINT_KEEP_METADATA) from error
    if len(found.words) != len(found.classes):
        raise CheckpointError(
            f"{path} has {len(found.words)} words for {len(found.classes)} classes, expected one for each",
            hint=_HINT_KEEP_METADATA,
        )
    return found


def load_weights(path: Path) -> Weights:
    """Read a weights file.

    Raises CheckpointError when it is missing, no safetensors file, cut short, of another program, without a tensor, or when a
    tensor does not have the shape that the file's own recipe and classes ask for or holds numbers that are not finite.
    """
    try:
        tensors, metadata = read_tensors(path, kind="weights file", hint="")
    except CheckpointError as error:
        error.hint = _hint(path)  # only now: it looks into the file once more
        raise
    _require_ours(path, metadata)
    weights = from_texts(metadata, path)
    side = weights.recipe.stored_size
    tensors = _fitting(path, tensors, {**parameter_shapes(weights.recipe, len(weights.classes)), "mean": (3, side, side)})
    weights.mean = tensors.pop("mean")
    weights.tensors = tensors
    return weights


def holds(path: Path, weights: Weights) -> bool:
    """Say whether a file is what `save_weights` would write of these weights."""
    try:
        found = load_weights(path)
    except CheckpointError:
        return False
    same = all(getattr(found, name) == getattr(weights, name) for name in TOLD) and found.tensors.keys() == weights.tensors.keys()
    return same and all(
        torch.equal(value, _on_cpu(other).to(torch.float32))
        for value, other in [(found.mean, weights.mean), *((value, weights.tensors[name]) for name, value in found.tensors.items())]
    )


def _hint(path: Path) -> str:
    """Return what to do with a file that is no weights file: another program's network can be imported."""
    try:
        foreign = path.is_file() and kind_of(path)[0] in FOREIGN
    except OSError:
        foreign = False
    return f"alexnet import {shlex.quote(str(path))} --out weights.safetensors" if foreign else _HINT_OURS


_HINT_KEEP_METADATA = "keep the metadata when you save the file again with another program (see docs/formats.md)"
_HINT_OURS = "expected a file that alexnet train wrote, such as runs/latest/best.safetensors"


def build_network(
    weights: Weights, device: torch.device, precision: Precision, layout: Layout = ONE_DEVICE, *, cast: bool = False
) -> AlexNet:
    """Return the network with these weights on a device, ready for test passes; on two ranks each takes its own tower's rows.

    cast: hold weights in the type of the products, for passes under `precision.autocast` alone: it would cast them anew for each
    pass, with the same result. On the CPU in fp32 the weights are shared with `weights`, not copied.
    """
    with torch.device("meta"):
        network = AlexNet(weights.recipe, len(weights.classes), layout=layout)
    own = {name: _rows(layout, name, weights.tensors[name]) for name, _ in network.named_parameters()}
    dtypes = {"weight": precision.product_dtype if cast else precision.dtype, "bias": precision.dtype}
    network.load_state_dict({name: value.to(device, dtypes[name.split(".")[1]]) for name, value in own.items()}, assign=True)
    return network.requires_grad_(False).eval()


def _rows(layout: Layout, name: str, whole: Tensor) -> Tensor:
    return whole[layout.rows(name.split(".")[0], len(whole))]


# Which file ------------------------------------------------------------------------------------------------------------------


def find_weights(runs: Path) -> Path:
    """Return the best weights of the newest run, or its last where there is no best.

    The newest is the one that the link `latest` names, then by the time of its files; a run without a whole weights file is
    passed over. Raises CheckpointError when no run has one.
    """
    hint = 'train a network with "alexnet train", or name a weights file; "alexnet weights pull bvlc" brings one, named bvlc'
    if not runs.is_dir():
        raise CheckpointError(f"no runs in {runs}: there is no such folder", hint=hint)
    folders = [folder for folder in runs.iterdir() if folder.is_dir() and not folder.is_symlink()]
    folders.sort(key=lambda folder: (_last_change(folder), folder.name), reverse=True)
    for folder in [runs / LATEST, *folders]:
        found = _weights_of(folder)
        if found is not None:
            # The run's own name says more to a reader than "latest", which the next run takes over.
            return runs / folder.resolve().name / found.name if folder.name == LATEST and _is_inside(folder, runs) else found
    raise CheckpointError(f"no run in {runs} has a whole weights file yet ({' or '.join(WEIGHTS_FILES)})", hint=hint)


def resolve_weights(argument: str | None, runs: Path) -> Path:
    """Return the weights file that a user means.

    argument: a file, a run's folder, a folder of runs, the name of a run in `runs`, or of public weights that have been pulled;
    None for the newest run's.
    Raises CheckpointError when there is none.
    """
    if argument is None:
        return find_weights(runs)
    path = next((path for path in (Path(argument), runs / argument) if path.exists()), None)
    if path is None:
        if argument in PUBLIC_WEIGHTS:
            return require_pulled(argument)
        raise CheckpointError(f"no weights file {argument}, nor a run of that name in {runs}", hint=_HINT_OURS)
    if not path.is_dir():
        return path
    found = _weights_of(path)
    if found is not None:
        return found
    if (path / "recipe.toml").exists():
        raise CheckpointError(
            f"run {path} has no whole weights file yet", hint=f'continue it with "alexnet train --run {path.name} --resume"'
        )
    return find_weights(path)


def _weights_of(folder: Path) -> Path | None:
    whole = (folder / name for name in WEIGHTS_FILES if (folder / name).is_file() and not find_damage(folder / name))
    return next(whole, None)


def _last_change(folder: Path) -> float:
    files = [folder / name for name in (*WEIGHTS_FILES, "recipe.toml") if (folder / name).exists()]
    return max((path.stat().st_mtime for path in files), default=0.0)


def _is_inside(folder: Path, runs: Path) -> bool:
    return folder.resolve().parent == runs.resolve()


# Reading ---------------------------------------------------------------------------------------------------------------------


def _on_cpu(value: Tensor) -> Tensor:
    return value.detach().to("cpu").contiguous()


def _require_ours(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        found = f"its metadata has format {metadata['format']!r}" if "format" in metadata else "its metadata has no format"
        raise CheckpointError(f"{path} is a safetensors file of another program: {found}, expected {FORMAT!r}", hint=_hint(path))
    version = metadata.get("format_version", "none")
    if version != str(FORMAT_VERSION):
        raise CheckpointError(
            f"{path} has format version {version}, this program reads version {FORMAT_VERSION}",
            hint="update with: pip install -U alexnet-cli",
        )


def _strings(values: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("classes and words must be lists of texts")
    return tuple(values)


def _fitting(path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the tensors of these names as float32, or say which is missing, of another shape or not finite."""
    missing = [name for name in shapes if name not in tensors]
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} of {len(shapes)} tensors: {', '.join(missing[:3])}", hint=_HINT_OURS)
    fitting = {}
    for name, shape in shapes.items():
        found = tensors[name]
        if tuple(found.shape) != shape or not found.is_floating_point():
            raise CheckpointError(
                f"{name} in {path} is {found.dtype} {tuple(found.shape)}, expected float32 {shape} for its recipe and classes",
                hint=_HINT_OURS,
            )
        fitting[name] = found.to(torch.float32)
        if not all(bool(bound.isfinite()) for bound in fitting[name].aminmax()):  # NaN passes through minimum and maximum
            raise CheckpointError(
                f"{name} in {path} holds numbers that are not finite",
                hint="its training diverged: train again with a lower --learning-rate",
            )
    return fitting
