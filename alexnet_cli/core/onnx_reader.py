"""ONNX files > a Chain, by the onnx package (the extra `onnx`); what `onnx_writer` wrote comes back by its own metadata."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.chain import Chain, Step, refuse
from alexnet_cli.core.errors import AlexNetError, CheckpointError
from alexnet_cli.core.wire import shortest

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

HINT = "expected a network as one .onnx file with its weights inside, in floating-point numbers; get it anew if it should be one"
MOST_BYTES = 2_000_000_000  # the most that protocol buffers hold
PASSED_OVER = ("Identity", "Flatten", "Reshape", "Softmax")  # their place is what Gemm's and the last layer's shapes decide

FLOAT, INTEGER, TEXT, INTEGERS = 1, 2, 3, 7  # ONNX's numbers of kinds
ATTRIBUTES = {
    **dict.fromkeys(("alpha", "beta", "bias", "ratio"), FLOAT),
    **dict.fromkeys(("group", "transA", "transB", "ceil_mode", "size"), INTEGER),
    **dict.fromkeys(("kernel_shape", "strides", "pads", "dilations"), INTEGERS),
    "auto_pad": TEXT,
}


def require_onnx() -> None:
    """Raise AlexNetError where the package is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise AlexNetError("ONNX needs the package onnx, which is not installed", hint="pip install 'alexnet-cli[onnx]'") from error


def load_model(path: Path) -> "ModelProto":
    """Read an ONNX file and nothing beside it. Raises CheckpointError when it is damaged or keeps its weights elsewhere."""
    require_onnx()
    import onnx
    from google.protobuf.message import DecodeError

    if path.stat().st_size > MOST_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MOST_BYTES:,}", hint=HINT)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise CheckpointError(f"{path} is a damaged ONNX file, perhaps cut short", hint=HINT) from error
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in [*model.graph.initializer, *constants]:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise CheckpointError(
                f"{path} keeps {tensor.name!r} in another file, which is not read", hint="save it as one file, with onnx.save"
            )
    return model


def read_onnx(model: "ModelProto", source: str) -> Chain:
    """Follow the graph from its picture to its scores. Raises CheckpointError naming a node that AlexNet does not have."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {
        node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant" and node.attribute and node.output
    }
    pictures = [value for value in graph.input if value.name not in tensors]
    if len(pictures) != 1:
        raise CheckpointError(f"{source} has {len(pictures)} inputs, expected one, the picture", hint=HINT)
    nodes = [node for node in graph.node if node.op_type not in ("Constant", "ConstantOfShape")]
    steps: list[Step] = []
    current = pictures[0].name
    for node in nodes:
        if not node.output:
            raise refuse(source, f"node {node.name} ({node.op_type})", "gives nothing")
        label = f"node {node.name or node.output[0]} ({node.op_type})"
        if not node.input or node.input[0] != current or current in node.input[1:]:
            raise refuse(source, label, "does not read what comes just before it: the network branches")
        if node.op_type not in PASSED_OVER:
            steps.append(_Node(node, label, source, tensors).step())
        current = node.output[0]
    return Chain(source, tuple(steps), _side(pictures[0], source))


class _Node:
    """One node of a graph, and the weights that it may read."""

    def __init__(self, node: "NodeProto", label: str, source: str, tensors: "dict[str, TensorProto]") -> None:
        from onnx.helper import get_attribute_value

        self.node, self.label, self.source, self.tensors = node, label, source, tensors
        self.numbers: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.type != ATTRIBUTES.get(attribute.name, attribute.type):
                raise self._refuse(f"has a {attribute.name} of another kind than ONNX's")
            if attribute.name not in ATTRIBUTES:
                continue
            value = get_attribute_value(attribute)
            self.numbers[attribute.name] = shortest(value) if isinstance(value, float) else value

    def step(self) -> Step:
        """Return what the node does."""
        makers: dict[str, Callable[[], Step]] = {
            "Conv": self._conv,
            "Gemm": self._full,
            "LRN": self._norm,
            "MaxPool": self._pool,
            "Relu": lambda: Step("relu", self.label),
            "Tanh": lambda: Step("tanh", self.label),
            "Dropout": self._dropout,
        }
        if self.node.op_type not in makers or self.node.domain not in ("", "ai.onnx"):
            raise self._refuse("is no operation of AlexNet")
        return makers[self.node.op_type]()

    def _refuse(self, problem: str) -> CheckpointError:
        return refuse(self.source, self.label, problem)

    def _conv(self) -> Step:
        weight = self._tensor(1)
        stride, padding = self._square("strides", 1), self._padding()
        if self._square("dilations", 1) != 1:
            raise self._refuse("is dilated")
        if weight.ndim != 4:
            raise self._refuse(f"has weights of shape {weight.shape}, expected four extents")
        numbers = {"stride": stride, "padding": padding, "groups": self.numbers.get("group", 1)}
        return Step("conv", self.label, numbers, weight, self._bias(len(weight)))

    def _full(self) -> Step:
        if self.numbers.get("transA", 0) or self.numbers.get("alpha", 1.0) != 1 or self.numbers.get("beta", 1.0) != 1:
            raise self._refuse("transposes or scales what it reads")
        weight = self._tensor(1)
        if weight.ndim != 2:
            raise self._refuse(f"has weights of shape {weight.shape}, expected two extents")
        weight = weight if self.numbers.get("transB", 0) else np.ascontiguousarray(weight.T)
        return Step("fc", self.label, {}, weight, self._bias(len(weight)))

    def _norm(self) -> Step:
        if "size" not in self.numbers:
            raise self._refuse("has no size")
        numbers = {name: self.numbers.get(theirs, default) for name, theirs, default in _NORM}
        return Step("lrn", self.label, numbers)

    def _pool(self) -> Step:
        before, after = self._padding()
        if before or self._square("dilations", 1) != 1:
            raise self._refuse("is dilated, or pads the beginning of what it pools")
        if not self.numbers.get("kernel_shape"):
            raise self._refuse("has no kernel_shape")
        numbers = {"size": self._square("kernel_shape", 1), "stride": self._square("strides", 1), "padding": after}
        if self.numbers.get("ceil_mode", 0) and after:
            raise self._refuse("rounds up and pads as well")
        return Step("pool", self.label, {**numbers, "rounds_up": bool(self.numbers.get("ceil_mode", 0))})

    def _dropout(self) -> Step:
        ratio = self.numbers.get("ratio", 0.5)
        if len(self.node.input) > 1 and self.node.input[1]:
            ratio = shortest(float(self._tensor(1).reshape(-1)[:1].sum()))
        return Step("dropout", self.label, {"ratio": ratio})

    def _padding(self) -> tuple[int, int]:
        """Return zeros before and after, alike for rows and columns."""
        if self.numbers.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID", b""):
            raise self._refuse(f"pads by itself ({self.numbers['auto_pad'].decode('utf-8', 'replace')}), expected numbers")
        pads = list(self.numbers.get("pads", [0, 0, 0, 0]))
        if len(pads) != 4 or pads[0] != pads[1] or pads[2] != pads[3] or min(pads) < 0:
            raise self._refuse(f"has the pads {pads}, expected the same for rows and columns")
        return pads[0], pads[2]

    def _square(self, name: str, default: int) -> int:
        values = list(self.numbers.get(name, [default, default]))
        if len(values) != 2 or values[0] != values[1] or values[0] < 1:
            raise self._refuse(f"has the {name} {values}, expected two equal ones")
        return int(values[0])

    def _bias(self, outputs: int) -> NDArray[np.float32]:
        if len(self.node.input) < 3 or not self.node.input[2]:
            return np.zeros(outputs, np.float32)
        return self._tensor(2).reshape(-1)

    def _tensor(self, index: int) -> NDArray[np.float32]:
        from onnx.numpy_helper import to_array

        name = self.node.input[index] if index < len(self.node.input) else ""
        if name not in self.tensors:
            raise self._refuse(f"reads the weights {name!r}, which are not in the file")
        return tensor_values(self.tensors[name], self.source, to_array)


_NORM = (("size", "size", 5), ("alpha", "alpha", 1e-4), ("beta", "beta", 0.75), ("k", "bias", 1.0))  # defaults: ONNX's own


def tensor_values(tensor: "TensorProto", source: str, to_array: Callable[..., Any]) -> NDArray[np.float32]:
    """Return an initialiser's values as float32. Raises CheckpointError when they are none, or not as many as its shape says."""
    try:
        values = np.asarray(to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{source}: the tensor {tensor.name!r} is damaged: {error}", hint=HINT) from error
    if values.dtype.kind != "f" or tuple(tensor.dims) != values.shape:
        raise CheckpointError(f"{source}: the tensor {tensor.name!r} is {values.dtype}, expected floating-point numbers", hint=HINT)
    return np.asarray(values, dtype=np.float32)


def _side(picture: Any, source: str) -> int | None:
    extents = [extent.dim_value for extent in picture.type.tensor_type.shape.dim]
    if len(extents) != 4 or extents[1] not in (0, 3) or extents[2] != extents[3]:
        raise CheckpointError(f"{source} takes {extents}, expected a batch of square colour pictures, (B, 3, H, W)", hint=HINT)
    return extents[2] or None
