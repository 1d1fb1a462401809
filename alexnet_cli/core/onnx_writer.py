"""Weights > one plain ONNX graph, in operators of the standard alone and with our names; `onnx_reader` reads it back.

Legend: B batch, C channels, H, W, S input size, K classes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.architecture import LayerRow, layer_table
from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.onnx_metadata import metadata_of
from alexnet_cli.core.onnx_reader import MOST_BYTES, require_onnx
from alexnet_cli.core.recipe import Recipe

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, IR_VERSION = 17, 8  # of 2022: what runtimes of the last years read
INPUT, STORED_INPUT, SCORES, PROBABILITIES = "images", "pixels", "logits", "probabilities"


def write_onnx(path: Path, weights: Weights, *, bake_preprocessing: bool = False, logits: bool = False) -> None:
    """Write a graph that scores a batch of any size, atomically.

    bake_preprocessing: it takes uint8 (B, stored size, stored size, 3), RGB, and does what a test with the centre view does;
    else float32 (B, 3, S, S) as the network sees it, in its own order of channels, mean removed. logits: it gives the scores
    before the softmax instead of probabilities. Raises AlexNetError where the recipe has local layers, the file would be too
    large, or the package onnx is missing.
    """
    require_onnx()
    if weights.recipe.local:
        raise AlexNetError(
            f"{', '.join(weights.recipe.local)} have kernels of their own at every place, which ONNX has no operator for",
            hint="--format torch-export writes any recipe",
        )
    size = sum(value.numel() * 4 for value in weights.tensors.values())
    if size > MOST_BYTES:
        raise AlexNetError(f"{size:,} bytes of weights, an ONNX file holds {MOST_BYTES:,}", hint="use --format torch-export")
    model = build_model(weights, bake_preprocessing=bake_preprocessing, logits=logits)
    write_atomically(path, lambda partial: partial.write_bytes(model.SerializeToString(deterministic=True)))


def build_model(weights: Weights, *, bake_preprocessing: bool, logits: bool) -> "ModelProto":
    """Return the graph with its weights and metadata."""
    from onnx import TensorProto, helper

    recipe = weights.recipe
    graph = _Graph()
    for name, tensor in weights.tensors.items():
        graph.hold(name, tensor.numpy())
    if bake_preprocessing:
        side = recipe.stored_size
        picture = helper.make_tensor_value_info(STORED_INPUT, TensorProto.UINT8, ["batch", side, side, 3])
        graph.current = STORED_INPUT
        _preprocessing(graph, weights)
    else:
        side = recipe.input_size
        picture = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, side, side])
        graph.current = INPUT
    for row in layer_table(recipe, len(weights.classes))[1:]:
        _maps(graph, recipe, row) if row.kernel else _full(graph, recipe, row)
    if not logits:
        graph.add("Softmax", PROBABILITIES, axis=1)
    scores = helper.make_tensor_value_info(graph.current, TensorProto.FLOAT, ["batch", len(weights.classes)])
    made = helper.make_graph(graph.nodes, f"alexnet-{recipe.name}", [picture], [scores], graph.initialisers)
    model = helper.make_model(
        made, producer_name="alexnet-cli", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, metadata_of(weights))
    return model


class _Graph:
    """A graph that grows node by node; current: the name of what the last one gave."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []
        self.current = ""

    def hold(self, name: str, values: NDArray[Any]) -> str:
        """Put values into the file and return their name."""
        from onnx import numpy_helper

        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, output: str, *more: str, **attributes: Any) -> None:
        """Apply an operator to what there is, and to more inputs; node and output have one name."""
        self.put(operator, [self.current, *more], [output], **attributes)
        self.current = output

    def put(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Add a node with any inputs and outputs."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))


def _preprocessing(graph: _Graph, weights: Weights) -> None:
    """Make of stored squares what the network sees: less the mean, the centre, scaled, in its order of channels."""
    from onnx import TensorProto

    recipe = weights.recipe
    start = (recipe.stored_size - recipe.input_size) // 2
    mean = weights.mean.mean(dim=(1, 2), keepdim=True) if recipe.mean == "channel" else weights.mean
    graph.add("Cast", "pixels.float", to=TensorProto.FLOAT)
    graph.add("Transpose", "pixels.planes", perm=[0, 3, 1, 2])
    graph.add("Sub", "pixels.less_mean", graph.hold("mean", mean.numpy()[None]))
    if recipe.input_size < recipe.stored_size:
        bounds = {"starts": [start] * 2, "ends": [start + recipe.input_size] * 2, "axes": [2, 3]}
        graph.add("Slice", "pixels.centre", *(graph.hold(f"centre.{name}", np.array(value)) for name, value in bounds.items()))
    if recipe.pixel_scale != 1.0 or set(recipe.pixel_stdevs) != {1.0}:
        factors = (recipe.pixel_scale / np.array(recipe.pixel_stdevs)).astype(np.float32)
        graph.add("Mul", "pixels.scaled", graph.hold("pixel_factors", factors[None, :, None, None]))
    if recipe.channel_order == "bgr":
        graph.add("Gather", "pixels.bgr", graph.hold("bgr", np.array([2, 1, 0])), axis=1)


def _maps(graph: _Graph, recipe: Recipe, row: LayerRow) -> None:
    before, after = row.padding
    settings = {"kernel_shape": [row.kernel] * 2, "strides": [row.stride] * 2, "pads": [before, before, after, after]}
    graph.add("Conv", row.name, f"{row.name}.weight", f"{row.name}.bias", group=recipe.groups(row.name), **settings)
    for operation in row.operations[1:]:
        output = f"{row.name}.{operation}"
        if operation == "lrn":
            _norm(graph, recipe, output)
        elif operation == "spatial":
            _spatial_norm(graph, recipe, output)
        elif operation == "pool":
            _pool(graph, recipe, row, output)
        else:
            graph.add({"relu": "Relu", "tanh": "Tanh"}[operation], output)


def _norm(graph: _Graph, recipe: Recipe, output: str) -> None:
    """Normalise across maps; each tower by itself where windows do not cross. ONNX divides alpha by the size."""
    alpha = recipe.lrn_alpha if recipe.lrn_alpha_divided else recipe.lrn_alpha * recipe.lrn_size
    numbers = {"alpha": alpha, "beta": recipe.lrn_beta, "bias": recipe.lrn_k, "size": recipe.lrn_size}
    if recipe.towers == 1 or recipe.lrn_crosses_towers:
        graph.add("LRN", output, **numbers)
        return
    towers = ("a", "b")
    graph.put("Split", [graph.current], [f"{output}.{tower}_in" for tower in towers], axis=1)
    for tower in towers:
        graph.put("LRN", [f"{output}.{tower}_in"], [f"{output}.{tower}"], **numbers)
    graph.put("Concat", [f"{output}.{tower}" for tower in towers], [output], axis=1)
    graph.current = output


def _spatial_norm(graph: _Graph, recipe: Recipe, output: str) -> None:
    """Normalise across places: x / (k + alpha * mean of x * x over the window) ** beta, zeros beyond the borders counted."""
    maps, half = graph.current, recipe.spatial_size // 2
    numbers = (("alpha", recipe.spatial_alpha), ("k", recipe.spatial_k), ("beta", recipe.spatial_beta))
    alpha, k, beta = (graph.hold(f"{output}.{name}", np.array(value, np.float32)) for name, value in numbers)
    graph.put("Mul", [maps, maps], [f"{output}.squares"])
    graph.current = f"{output}.squares"
    window = {"kernel_shape": [recipe.spatial_size] * 2, "pads": [half] * 4}
    graph.add("AveragePool", f"{output}.energy", count_include_pad=1, **window)
    graph.add("Mul", f"{output}.scaled", alpha)
    graph.add("Add", f"{output}.base", k)
    graph.add("Pow", f"{output}.divisor", beta)
    graph.put("Div", [maps, graph.current], [output])
    graph.current = output


def _pool(graph: _Graph, recipe: Recipe, row: LayerRow, output: str) -> None:
    """Pool; where the size is rounded up, padding at the end says so in any version of ONNX, and is never a maximum."""
    missing = (row.pooled[1] - 1) * recipe.pool_stride + recipe.pool_size - row.output[1]
    pads = [0, 0, max(0, missing), max(0, missing)]
    graph.add("MaxPool", output, kernel_shape=[recipe.pool_size] * 2, strides=[recipe.pool_stride] * 2, pads=pads)


def _full(graph: _Graph, recipe: Recipe, row: LayerRow) -> None:
    """Multiply by the weights; units that are dropped in training are scaled by the share of kept ones, unless inverted."""
    scales = recipe.dropout > 0 and not recipe.dropout_inverted and row.name != recipe.full[-1]
    if row.name == recipe.full[0]:
        graph.add("Flatten", "flattened", axis=1)
    if scales and recipe.dropout_before:
        _keep(graph, recipe, f"{row.name}.kept")
    output = SCORES if row.name == recipe.full[-1] else row.name
    graph.add("Gemm", output, f"{row.name}.weight", f"{row.name}.bias", transB=1)
    if row.name != recipe.full[-1]:
        graph.add({"relu": "Relu", "tanh": "Tanh"}[recipe.activation], f"{row.name}.{recipe.activation}")
        if scales and not recipe.dropout_before:
            _keep(graph, recipe, f"{row.name}.kept")


def _keep(graph: _Graph, recipe: Recipe, output: str) -> None:
    share = graph.hold(f"{output}_share", np.array(1 - recipe.dropout, np.float32))
    graph.add("Mul", output, share)
