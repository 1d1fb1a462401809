"""Weights of other programs > ours: ONNX, Caffe, torchvision. Whatever differs becomes a field of the recipe.

The kind of a file is told by its content. Nothing is executed, and no file beside the named ones is read.
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.caffe import read_binaryproto, read_caffemodel
from alexnet_cli.core.chain import Chain, finite, recipe_of
from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.classes import choose_classes
from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.kinds import CAFFE, ONNX, OURS, TORCH, kind_of
from alexnet_cli.core.onnx_metadata import weights_of_model
from alexnet_cli.core.onnx_reader import load_model, read_onnx
from alexnet_cli.core.recipe import STORED_SIZE, Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.tensors import read_tensors
from alexnet_cli.core.torchvision_weights import MEAN, like_torchvision, read_pth, read_state

CAFFE_MEAN_BGR = (104.0, 117.0, 123.0)  # Caffe's, of ILSVRC-2012, by channel
HINT = "expected BVLC's AlexNet or CaffeNet as .onnx or .caffemodel, or torchvision's alexnet as .pth or safetensors"
HINT_MEAN = "expected Caffe's .binaryproto or .npy of shape (3, 256, 256) or (3), from 0 to 255, in the network's order of channels"
MEAN_LIMITS = (-1.0, 256.0)


@dataclass(frozen=True)
class _Mean:
    """RGB, 0-255, and whether it differs from pixel to pixel."""

    values_CHW: Tensor
    by_pixel: bool


def load_foreign(path: Path, *, mean: Path | None = None, classes: Path | None = None, reporter: Reporter | None = None) -> Weights:
    """Read a trained network of another program as ours.

    mean: Caffe's mean of the training pictures, .binaryproto or .npy; without it Caffe's means by channel, or torchvision's.
    classes: a file with a class a line; without it those of ILSVRC-2012, where there are 1,000.
    Raises CheckpointError when the file is damaged, is no such network, or is one of ours.
    """
    reporter = reporter or Reporter()
    kind = _kind(path)
    if kind == ONNX:
        model = load_model(path)
        ours = weights_of_model(model, path)
        if ours is not None:
            return ours
        chain = read_onnx(model, path.name)
    else:
        chain = _chain(path, kind)
    recipe, arrays = recipe_of(chain)
    if _is_torchvisions(recipe):
        recipe = replace(recipe, **like_torchvision(recipe))
    average = _mean(mean, recipe, reporter)
    recipe = replace(recipe, mean="image" if average.by_pixel else "channel")
    ids, words = choose_classes(len(arrays[f"{recipe.full[-1]}.bias"]), classes)
    _tell(recipe, reporter)
    tensors = {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}
    return Weights(recipe, ids, words, tensors, average.values_CHW, path=path)


def _kind(path: Path) -> str:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, expected a file with a network", hint=HINT)
    try:
        kind, instead = kind_of(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}", hint=HINT) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}", hint=HINT) from error
    if not kind:
        raise CheckpointError(f"{path} {instead}", hint=HINT)
    if kind == OURS:
        raise CheckpointError(
            f"{path} is already one of ours", hint=f"use it as it is: alexnet predict --weights {shlex.quote(str(path))}"
        )
    return kind


def _chain(path: Path, kind: str) -> Chain:
    if kind == CAFFE:
        return read_caffemodel(path)
    if kind == TORCH:
        return read_pth(path)
    tensors, _ = read_tensors(path, kind="network", hint=HINT)
    return read_state(tensors, path.name)


def _is_torchvisions(recipe: Recipe) -> bool:
    """Whether the network is of torchvision's kind, whose files say as little about their pictures as Caffe's do."""
    return recipe.towers == 1 and not any("lrn" in follows.split() for follows in recipe.follows)


def _tell(recipe: Recipe, reporter: Reporter) -> None:
    """Say what the file does not: how pictures become what the network sees."""
    scale = "0 to 255" if recipe.pixel_scale == 1 else "0 to 1, divided by ImageNet's deviations"
    reporter.note(
        f"recipe {recipe.name}: {recipe.input_size} pixels, {recipe.channel_order.upper()} of {scale}, resize {recipe.resize}; "
        "the file itself does not say how its pictures were made"
    )


# The mean --------------------------------------------------------------------------------------------------------------------


def _mean(path: Path | None, recipe: Recipe, reporter: Reporter) -> _Mean:
    if path is not None:
        return _read_mean(path, recipe)
    torchvisions = recipe.name == "torchvision"
    rgb = tuple(255 * value for value in MEAN) if torchvisions else CAFFE_MEAN_BGR[::-1]
    if not torchvisions:
        reporter.note("no --mean: Caffe's means of ILSVRC-2012 by channel, 104, 117, 123 (blue, green, red), are taken")
    return _Mean(_filled(np.array(rgb, np.float32)), by_pixel=False)


def _read_mean(path: Path, recipe: Recipe) -> _Mean:
    values = _mean_values(path)
    if values.shape not in ((3,), (3, 1, 1), (3, STORED_SIZE, STORED_SIZE)):
        raise CheckpointError(f"{path} is a mean of shape {values.shape}", hint=HINT_MEAN)
    values = finite(path.name, "the mean", values)
    if values.min() < MEAN_LIMITS[0] or values.max() > MEAN_LIMITS[1]:
        raise CheckpointError(f"{path} holds means from {values.min():g} to {values.max():g}", hint=HINT_MEAN)
    if recipe.channel_order == "bgr":
        values = values[::-1].copy()
    by_pixel = values.shape[1:] == (STORED_SIZE, STORED_SIZE)
    return _Mean(torch.from_numpy(values) if by_pixel else _filled(values.reshape(3)), by_pixel)


def _mean_values(path: Path) -> NDArray[np.float32]:
    try:
        with path.open("rb") as file:
            is_numpys = file.read(6) == b"\x93NUMPY"
    except OSError as error:
        raise CheckpointError(f"cannot read the mean {path}: {error.strerror or error}", hint=HINT_MEAN) from error
    if not is_numpys:
        return read_binaryproto(path)
    try:
        # Mapped, a header that promises more than the file has is an error and not that much memory.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        if values.size > 3 * STORED_SIZE**2:  # before all of it is read
            raise CheckpointError(f"{path} is a mean of shape {values.shape}", hint=HINT_MEAN)
        return np.array(values, dtype=np.float32)
    except CheckpointError:
        raise
    except Exception as error:  # the reader of its header raises nearly everything
        raise CheckpointError(f"{path} is no mean: {type(error).__name__} while reading it", hint=HINT_MEAN) from error


def _filled(rgb: NDArray[np.float32]) -> Tensor:
    """Return a mean image of one colour."""
    return torch.from_numpy(np.broadcast_to(rgb[:, None, None], (3, STORED_SIZE, STORED_SIZE)).copy())
