"""Networks as other programs write them, made on the spot: ONNX graphs, Caffe's files by Google's own protobuf."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

Arrays = dict[str, NDArray[np.float32]]
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light/light_bvlc_alexnet.onnx"
GROUPS = {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
KERNELS = {"conv1": (11, 4, 0), "conv2": (5, 1, 2), "conv3": (3, 1, 1), "conv4": (3, 1, 1), "conv5": (3, 1, 1)}


def random_arrays(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Arrays:
    """Draw weights whose outputs stay of the size of their inputs, and small biases."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        arrays[name] = (scale * generator.standard_normal(shape, np.float32)).astype(np.float32)
    return arrays


def narrow_shapes(
    *, channels: tuple[int, ...] = (8, 16, 24, 24, 16), hidden: int = 32, classes: int = 5, side: int = 6
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of Caffe's network with few channels."""
    shapes: dict[str, tuple[int, ...]] = {}
    read = 3
    for layer, count in zip(GROUPS, channels, strict=True):
        shapes[f"{layer}.weight"] = (count, read // GROUPS[layer], KERNELS[layer][0], KERNELS[layer][0])
        shapes[f"{layer}.bias"] = (count,)
        read = count
    read *= side * side
    for layer, count in (("fc6", hidden), ("fc7", hidden), ("fc8", classes)):
        shapes[f"{layer}.weight"], shapes[f"{layer}.bias"] = (count, read), (count,)
        read = count
    return shapes


def filled_light(seed: int = 0) -> onnx.ModelProto:
    """Return the onnx package's BVLC AlexNet, which comes without weights, with random ones."""
    model = onnx.load(LIGHT)
    shapes = {tensor.name: tuple(numpy_helper.to_array(tensor).tolist()) for tensor in model.graph.initializer}
    made = {node.output[0]: shapes[node.input[0]] for node in model.graph.node if node.op_type == "ConstantOfShape"}
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in random_arrays(made, seed).items())
    for unused in [tensor for tensor in model.graph.initializer if tensor.name.endswith("__SHAPE")]:
        model.graph.initializer.remove(unused)
    for unused_input in [value for value in model.graph.input if value.name.endswith("__SHAPE")]:
        model.graph.input.remove(unused_input)
    return model


def caffenet_onnx(arrays: Arrays, *, side: int = 227, last_pad: int = 0) -> onnx.ModelProto:
    """Build CaffeNet: pooling before the normalisation."""
    nodes: list[Any] = []
    current = "data"

    def add(kind: str, *inputs: str, **attributes: Any) -> None:
        nonlocal current
        output = f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, [current, *inputs], [output], name=output, **attributes))
        current = output

    for layer, (kernel, stride, padding) in KERNELS.items():
        settings = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4, "group": GROUPS[layer]}
        add("Conv", f"{layer}.weight", f"{layer}.bias", **settings)
        add("Relu")
        if layer in ("conv1", "conv2", "conv5"):
            add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, last_pad, last_pad])
        if layer in ("conv1", "conv2"):
            add("LRN", size=5, alpha=1e-4, beta=0.75, bias=1.0)
    add("Flatten", axis=1)
    for layer in ("fc6", "fc7", "fc8"):
        add("Gemm", f"{layer}.weight", f"{layer}.bias", transB=1)
        if layer != "fc8":
            add("Relu")
    add("Softmax", axis=1)
    picture = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, side, side])
    scores = helper.make_tensor_value_info(current, TensorProto.FLOAT, None)
    initialisers = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "caffenet", [picture], [scores], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


# Caffe's files ---------------------------------------------------------------------------------------------------------------

_TYPES = {"s": 9, "f": 2, "i": 5, "l": 3, "u": 13, "b": 8, "m": 11, "d": 1}  # FieldDescriptorProto.Type
# message > field > (number, type, repeated, packed); a message's type is its own name.
_SCHEMA: dict[str, dict[str, tuple[int, str, bool, bool]]] = {
    "BlobShape": {"dim": (1, "l", True, True)},
    "Blob": {
        "num": (1, "i", False, False),
        "channels": (2, "i", False, False),
        "height": (3, "i", False, False),
        "width": (4, "i", False, False),
        "data": (5, "f", True, True),
        "shape": (7, "BlobShape", False, False),
        "double_data": (8, "d", True, True),
    },
    "Conv": {
        "num_output": (1, "u", False, False),
        "pad": (3, "u", True, False),
        "kernel_size": (4, "u", True, False),
        "group": (5, "u", False, False),
        "stride": (6, "u", True, False),
    },
    "Full": {"num_output": (1, "u", False, False)},
    "Norm": {"local_size": (1, "u", False, False), "alpha": (2, "f", False, False), "beta": (3, "f", False, False)},
    "Pool": {"pool": (1, "i", False, False), "kernel_size": (2, "u", False, False), "stride": (3, "u", False, False)},
    "Drop": {"dropout_ratio": (1, "f", False, False)},
    "Transform": {"crop_size": (3, "u", False, False)},
    "Layer": {
        "name": (1, "s", False, False),
        "type": (2, "s", False, False),
        "bottom": (3, "s", True, False),
        "top": (4, "s", True, False),
        "blobs": (7, "Blob", True, False),
        "transform": (100, "Transform", False, False),
        "conv": (106, "Conv", False, False),
        "drop": (108, "Drop", False, False),
        "full": (117, "Full", False, False),
        "norm": (118, "Norm", False, False),
        "pool": (121, "Pool", False, False),
    },
    "OldLayer": {
        "bottom": (2, "s", True, False),
        "top": (3, "s", True, False),
        "name": (4, "s", False, False),
        "type": (5, "i", False, False),
        "blobs": (6, "Blob", True, False),
        "conv": (10, "Conv", False, False),
        "drop": (12, "Drop", False, False),
        "full": (17, "Full", False, False),
        "norm": (18, "Norm", False, False),
        "pool": (19, "Pool", False, False),
        "transform": (36, "Transform", False, False),
    },
    "Net": {"name": (1, "s", False, False), "layers": (2, "OldLayer", True, False), "layer": (100, "Layer", True, False)},
}
_OLD_TYPES = {
    "Data": 5, "Convolution": 4, "ReLU": 18, "LRN": 15, "Pooling": 17, "InnerProduct": 14, "Dropout": 6,
    "SoftmaxWithLoss": 21, "Split": 22, "Concat": 3,
}  # fmt: skip


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_for_tests.proto", package="caffe_for_tests", syntax="proto2")
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, repeated, packed) in fields.items():
            field = described.field.add(name=name, number=number, label=3 if repeated else 1, type=_TYPES.get(kind, 11))
            if kind not in _TYPES:
                field.type_name = f".caffe_for_tests.{kind}"
            if packed:
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe_for_tests.{name}")) for name in _SCHEMA}


CAFFE = _classes()


def _blob(values: NDArray[np.float32], *, legacy: bool) -> Any:
    blob = CAFFE["Blob"](data=values.reshape(-1).tolist())
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (1, 1, 1, 1, *values.shape)[-4:]
    else:
        blob.shape.dim.extend(values.shape)
    return blob


def mean_blob(values: NDArray[np.float32]) -> bytes:
    """Return a .binaryproto's bytes."""
    return CAFFE["Blob"](data=values.reshape(-1).tolist(), num=1, channels=3, height=256, width=256).SerializeToString()


def caffemodel(arrays: Arrays, *, old: bool, norm_last: bool = False, extra: str = "") -> bytes:
    """Write Caffe's network, in the older form of layers and shapes or in the newer; extra: the type of a layer put after conv3."""
    net = CAFFE["Net"](name="AlexNet")
    layers = net.layers if old else net.layer
    current = "data"

    def add(kind: str, name: str, *, in_place: bool = False, **settings: Any) -> None:
        nonlocal current
        top = current if in_place else name
        layer = layers.add(name=name, type=_OLD_TYPES[kind] if old else kind, top=[top])
        if kind != "Data":
            layer.bottom.append(current)
        for what, values in settings.items():
            getattr(layer, what).SetInParent()
            for key, value in values.items():
                field = getattr(getattr(layer, what), key)
                field.extend([value]) if hasattr(field, "extend") else setattr(getattr(layer, what), key, value)
        for part in ("weight", "bias") if f"{name}.weight" in arrays else ():
            layer.blobs.append(_blob(arrays[f"{name}.{part}"], legacy=old))
        current = top

    add("Data", "data", transform={"crop_size": 227})
    for layer, (kernel, stride, padding) in KERNELS.items():
        settings = {"kernel_size": kernel, "stride": stride, "pad": padding, "group": GROUPS[layer]}
        add("Convolution", layer, conv={**settings, "num_output": len(arrays[f"{layer}.weight"])})
        add("ReLU", f"relu_{layer}", in_place=True)
        after = ["LRN", "Pooling"] if layer in ("conv1", "conv2") else ["Pooling"] if layer == "conv5" else []
        for kind in reversed(after) if norm_last else after:
            norm = {"local_size": 5, "alpha": 1e-4, "beta": 0.75}
            add(kind, f"{kind}_{layer}", **({"norm": norm} if kind == "LRN" else {"pool": {"kernel_size": 3, "stride": 2}}))
        if extra and layer == "conv3":
            add(extra, "odd")
    for layer in ("fc6", "fc7", "fc8"):
        add("InnerProduct", layer, full={"num_output": len(arrays[f"{layer}.weight"])})
        if layer != "fc8":
            add("ReLU", f"relu_{layer}", in_place=True)
            add("Dropout", f"drop_{layer}", in_place=True, drop={"dropout_ratio": 0.5})
    add("SoftmaxWithLoss", "loss")
    return net.SerializeToString()


def photographs(folder: Path | None, count: int, side: int) -> Tensor:
    """Return real photographs where they are, else soft blobs of colour, less 110: float32 (B, 3, S, S)."""
    from alexnet_cli.core.images import square
    from tests.pictures import photo, saved

    files = sorted(folder.rglob("*.jpg"))[:count] if folder is not None and folder.is_dir() else []
    squares = [square(path) for path in files] or [square(saved(photo(300, 280, seed), "PNG")) for seed in range(count)]
    return torch.from_numpy(np.stack(squares)[:, :side, :side]).permute(0, 3, 1, 2).float().contiguous() - 110
