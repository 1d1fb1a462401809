"""What an exported ONNX file carries beside its graph, so that it can be imported again: texts in the model's metadata."""

import base64
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.chain import finite
from alexnet_cli.core.checkpoint import Weights, from_texts, to_texts
from alexnet_cli.core.errors import CheckpointError, RecipeError

if TYPE_CHECKING:
    from onnx import ModelProto

PREFIX = "alexnet."
MARK = PREFIX + "format"
FORMAT = "alexnet-onnx-1"
HINT = "export it anew from its weights file"


def metadata_of(weights: Weights) -> dict[str, str]:
    """Return the texts for a model's metadata: JSON, and the mean as base64 of zlib of little-endian float32, (3, H, W), RGB."""
    mean = base64.b64encode(zlib.compress(weights.mean.numpy().astype("<f4").tobytes())).decode("ascii")
    return {MARK: FORMAT, **{PREFIX + name: text for name, text in to_texts(weights).items()}, PREFIX + "mean": mean}


def weights_of_model(model: "ModelProto", path: Path) -> Weights | None:
    """Return the weights of a file that we exported, None for another. Raises CheckpointError when its metadata are damaged."""
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if texts.get(MARK) != FORMAT:
        return None
    weights = from_texts({name.removeprefix(PREFIX): text for name, text in texts.items()}, path)
    try:
        weights.mean = _mean(texts[PREFIX + "mean"], weights.recipe.stored_size)
        shapes = parameter_shapes(weights.recipe, len(weights.classes))
    except (KeyError, ValueError, zlib.error, RecipeError) as error:
        raise CheckpointError(f"the metadata of {path} cannot be read: {error}", hint=HINT) from error
    weights.tensors = _tensors(model, shapes, path)
    return weights


def _tensors(model: "ModelProto", shapes: dict[str, tuple[int, ...]], path: Path) -> dict[str, Tensor]:
    from onnx.numpy_helper import to_array

    from alexnet_cli.core.onnx_reader import tensor_values

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors = {}
    for name, shape in shapes.items():
        if name not in held or tuple(held[name].dims) != shape:
            raise CheckpointError(f"{path} lacks {name} in the shape {shape} of its recipe", hint=HINT)
        values = finite(path.name, name, tensor_values(held[name], path.name, to_array))
        tensors[name] = torch.from_numpy(values.copy())
    return tensors


def _mean(text: str, side: int) -> Tensor:
    count = 3 * side * side
    unpacker = zlib.decompressobj()
    values = np.frombuffer(unpacker.decompress(base64.b64decode(text, validate=True), 4 * count), "<f4")
    return torch.from_numpy(finite("the metadata", "the mean", values.reshape(3, side, side)).copy())
