"""Caffe's files: a trained network (.caffemodel) with its layers' settings, and a mean image (.binaryproto); no caffe needed.

Both forms of layers are read, `layer` and the older `layers`, and both forms of a blob's shape. Field numbers are those of
Caffe's caffe.proto.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.chain import Chain, Step, refuse
from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.wire import Message, WireError, mapped

NET = {"layers": 2, "input_dim": 4, "input_shape": 8, "layer": 100}
# Of a layer in either form, by what it says; the older form's types are numbers.
LAYER = {"name": 1, "type": 2, "bottom": 3, "top": 4, "blobs": 7, "include": 8, "transform": 100, "conv": 106, "data": 107,
         "dropout": 108, "fc": 117, "lrn": 118, "pool": 121, "relu": 123, "input": 143}  # fmt: skip
OLD_LAYER = {"bottom": 2, "top": 3, "name": 4, "type": 5, "blobs": 6, "include": 32, "conv": 10, "data": 11, "dropout": 12,
             "fc": 17, "lrn": 18, "pool": 19, "relu": 30, "transform": 36, "input": 143}  # fmt: skip
OLD_TYPES = {1: "Accuracy", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 9: "HDF5Data", 12: "ImageData",
             14: "InnerProduct", 15: "LRN", 16: "SoftmaxWithLoss", 17: "Pooling", 18: "ReLU", 20: "Softmax", 21: "SoftmaxWithLoss",
             22: "Split", 23: "TanH", 24: "WindowData", 29: "MemoryData", 32: "DummyData", 36: "Silence"}  # fmt: skip
SOURCES = ("Data", "HDF5Data", "ImageData", "WindowData", "MemoryData", "DummyData", "Input")
ENDS = ("Accuracy", "Softmax", "SoftmaxWithLoss", "Silence")
MOST_EXTENTS = 4  # of a blob
HINT = "expected a .caffemodel, such as bvlc_alexnet.caffemodel; get it anew if it should be one"


@dataclass(frozen=True)
class Layer:
    """A layer of either form. number: where the form keeps what."""

    message: Message
    number: dict[str, int]
    source: str

    @property
    def name(self) -> str:
        """The layer's own name."""
        return self.message.text(self.number["name"]) or "a layer without a name"

    @property
    def type(self) -> str:
        """The layer's type, in the newer form's words."""
        if self.number is LAYER:
            return self.message.text(self.number["type"])
        kind = self.message.integer(self.number["type"])
        return OLD_TYPES.get(kind, f"layer of type {kind}")

    def settings(self, what: str) -> Message:
        """Return its settings of a kind, an empty message where it has none."""
        return self.message.message(self.number[what])

    def texts(self, what: str) -> list[str]:
        """Return its names of a kind: bottom or top."""
        return self.message.texts(self.number[what])

    def blobs(self) -> list[NDArray[np.float32]]:
        """Return its weights and biases in the shapes that the file gives them."""
        return [_blob(blob) for blob in self.message.messages(self.number["blobs"])]

    def refuse(self, problem: str) -> CheckpointError:
        """Return what to raise."""
        return refuse(self.source, f"layer {self.name}", problem)


def read_caffemodel(path: Path) -> Chain:
    """Read a trained network. Raises CheckpointError when it is cut short, damaged, or holds a layer that is none of AlexNet's."""
    return _reading(path, _network)


def read_binaryproto(path: Path) -> NDArray[np.float32]:
    """Read a mean image, (C, H, W) in the file's own order of channels. Raises CheckpointError when it is none."""
    return _reading(path, lambda message, _: _image(_blob(message)))


def _reading(path: Path, read: Callable[[Message, str], Any]) -> Any:
    try:
        return read(Message(mapped(path)), path.name)
    except (WireError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} cannot be read as a file of Caffe's: {error}", hint=HINT) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}", hint=HINT) from error


def _network(net: Message, source: str) -> Chain:
    new, old = net.messages(NET["layer"]), net.messages(NET["layers"])
    if any(layer.has(1) for layer in old):
        raise CheckpointError(
            f"{source} is of Caffe's first form, of 2013", hint="upgrade it with Caffe's upgrade_net_proto_binary"
        )
    layers = [*(Layer(message, LAYER, source) for message in new), *(Layer(message, OLD_LAYER, source) for message in old)]
    steps: list[Step] = []
    current: set[str] = set()
    for layer in layers:
        if layer.type in (*SOURCES, *ENDS):
            continue
        bottoms, tops = layer.texts("bottom"), layer.texts("top")
        if layer.type == "Split":
            current |= set(tops) if set(bottoms) & current else set()
            continue
        if steps and (len(bottoms) != 1 or bottoms[0] not in current):
            raise layer.refuse(f"reads {', '.join(bottoms)}, expected what comes just before it: the network branches")
        step = _step(layer)
        steps += [step] if step else []
        current = set(tops)
    return Chain(source, tuple(steps), _told_size(net, layers))


def _step(layer: Layer) -> Step | None:
    makers: dict[str, Callable[[Layer], Step]] = {
        "Convolution": _conv,
        "InnerProduct": _full,
        "LRN": _norm,
        "Pooling": _pool,
        "ReLU": _relu,
        "TanH": lambda layer: Step("tanh", layer.name),
        "Dropout": lambda layer: Step("dropout", layer.name, {"ratio": layer.settings("dropout").number(1, 0.5)}),
    }
    if layer.type == "Flatten":
        return None
    if layer.type not in makers:
        raise layer.refuse(f"is of type {layer.type or 'none'}, which AlexNet does not have")
    return makers[layer.type](layer)


def _conv(layer: Layer) -> Step:
    settings = layer.settings("conv")
    stride = _square(layer, settings, "stride", (6, 13, 14), 1)
    padding = _square(layer, settings, "pad", (3, 9, 10), 0)
    if set(settings.integers(18)) - {1}:
        raise layer.refuse("is dilated")
    weight, bias = _weight_and_bias(layer)
    if stride < 1 or weight.ndim != 4:
        raise layer.refuse(f"has a stride of {stride} and weights of shape {weight.shape}")
    numbers = {"stride": stride, "padding": (padding, padding), "groups": settings.integer(5, 1)}
    return Step("conv", f"layer {layer.name}", numbers, weight, bias)


def _full(layer: Layer) -> Step:
    settings = layer.settings("fc")
    if settings.integer(6) or settings.integer(5, 1) != 1:
        raise layer.refuse("is transposed, or joins other axes than all behind the first")
    weight, bias = _weight_and_bias(layer)
    weight = weight.reshape(weight.shape[-2:]) if weight.ndim == 4 and weight.shape[:2] == (1, 1) else weight
    if weight.ndim != 2:
        raise layer.refuse(f"has weights of shape {weight.shape}, expected two extents")
    return Step("fc", f"layer {layer.name}", {}, weight, bias)


def _weight_and_bias(layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    blobs = layer.blobs()
    if len(blobs) not in (1, 2):
        raise layer.refuse(f"has {len(blobs)} blobs, expected weights and biases: is this a trained network?")
    weight = blobs[0]
    outputs = (
        weight.shape[-2] if weight.ndim == 4 and weight.shape[:2] == (1, 1) and layer.type == "InnerProduct" else weight.shape[0]
    )
    bias = blobs[1].reshape(-1) if len(blobs) == 2 else np.zeros(outputs, np.float32)
    return weight, bias


def _norm(layer: Layer) -> Step:
    settings = layer.settings("lrn")
    if settings.integer(4):
        raise layer.refuse("normalises within channels")
    numbers = {"size": settings.integer(1, 5), "alpha": settings.number(2, 1.0), "beta": settings.number(3, 0.75)}
    return Step("lrn", f"layer {layer.name}", {**numbers, "k": settings.number(5, 1.0)})


def _pool(layer: Layer) -> Step:
    settings = layer.settings("pool")
    if settings.integer(1) or settings.integer(12):
        raise layer.refuse("does not take maxima of windows")
    if _square(layer, settings, "pad", (4, 9, 10), 0):
        raise layer.refuse("pads what it pools")
    size, stride = _square(layer, settings, "kernel_size", (2, 5, 6), 0), _square(layer, settings, "stride", (3, 7, 8), 1)
    if min(size, stride) < 1:
        raise layer.refuse(f"pools windows of {size} at stride {stride}")
    return Step("pool", f"layer {layer.name}", {"size": size, "stride": stride, "rounds_up": settings.integer(13) == 0})


def _relu(layer: Layer) -> Step:
    if layer.settings("relu").number(1):
        raise layer.refuse("is a leaky ReLU")
    return Step("relu", f"layer {layer.name}")


def _square(layer: Layer, settings: Message, what: str, numbers: tuple[int, int, int], default: int) -> int:
    """Return a setting that has one number for both sides, or one for each, which must be equal."""
    found = {value for number in numbers for value in settings.integers(number)} or {default}
    if len(found) > 1:
        raise layer.refuse(f"has a {what} that differs between rows and columns")
    value = found.pop()
    if not 0 <= value <= 1000:
        raise layer.refuse(f"has a {what} of {value}")
    return value


def _blob(blob: Message) -> NDArray[np.float32]:
    values = blob.floats(5) if blob.has(5) or not blob.has(8) else blob.floats(8, "<f8")
    shape = blob.message(7).integers(1) if blob.has(7) else [blob.integer(number, 1) for number in (1, 2, 3, 4)]
    if len(shape) > MOST_EXTENTS:
        raise WireError(f"a blob has {len(shape)} extents, expected at most {MOST_EXTENTS}")
    count = math.prod(shape)
    if min(shape, default=1) < 1 or count != values.size:
        raise WireError(f"a blob has the shape {tuple(shape)} and {values.size:,} values")
    return values.astype(np.float32).reshape(shape)


def _image(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[0] if values.ndim == 4 and len(values) == 1 else values


def _told_size(net: Message, layers: list[Layer]) -> int | None:
    """Return the side of the pictures where the file says it: the input's shape, or the crop of its data layer."""
    shapes = [net.integers(NET["input_dim"])[:4], *(shape.integers(1) for shape in net.messages(NET["input_shape"]))]
    for layer in layers:
        if layer.type == "Input":
            shapes += [shape.integers(1) for shape in layer.settings("input").messages(1)]
        crop = layer.settings("transform").integer(3) or layer.settings("data").integer(5) if layer.type in SOURCES else 0
        shapes += [[0, 0, crop, crop]] if crop else []
    found = [shape[2] for shape in shapes if len(shape) == 4 and shape[2] == shape[3] and shape[2] > 0]
    return found[0] if found else None
