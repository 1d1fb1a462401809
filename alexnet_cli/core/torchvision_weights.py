"""torchvision's AlexNet, from its .pth or from safetensors of the same names > a Chain."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.chain import Chain, Step, one_line, refuse
from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.recipe import Recipe

# By its place in torchvision's lists: name, kernel, stride, padding, and whether pooling follows.
CONVS = (("features.0", 11, 4, 2, True), ("features.3", 5, 1, 2, True), ("features.6", 3, 1, 1, False),
         ("features.8", 3, 1, 1, False), ("features.10", 3, 1, 1, True))  # fmt: skip
FULLS = ("classifier.1", "classifier.4", "classifier.6")
HINT = "expected torchvision's alexnet, such as alexnet-owt-7be5be79.pth: a state dict, features.0.weight to classifier.6.bias"
MEAN = (0.485, 0.456, 0.406)  # torchvision's, of pixels from 0 to 1, RGB
STDEVS = (0.229, 0.224, 0.225)


def like_torchvision(recipe: Recipe) -> dict[str, Any]:
    """Return the fields of torchvision's pictures and training that are not those of Caffe; its shape is the recipe's own."""
    count = len(recipe.layers)
    return {
        "name": "torchvision",
        "resize": "short_side",
        "channel_order": "rgb",
        "pixel_scale": 1 / 255,
        "pixel_stdevs": STDEVS,
        "mean": "channel",
        "lrn_crosses_towers": False,
        "init_stdevs": (None,) * count,
        "init_biases": (None,) * count,
        "bias_rate_factor": 1.0,
        "weight_decay": 0.0001,
        "bias_weight_decay": 0.0001,
        "rate_inside_velocity": False,
        "schedule": "milestones",
        "milestones": (30, 60),
        "events": (),
        "shuffle": "full",
    }


def read_pth(path: Path) -> Chain:
    """Read a state dict that torch.save wrote. Raises CheckpointError for more than tensors, or another network."""
    try:
        _require_plain(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is more than tensors: it would run code, and is not loaded", hint=HINT) from error
    except Exception as error:  # the reader raises nearly everything on a damaged file
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} while reading it", hint=HINT) from error
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(inner, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected tensors by name", hint=HINT)
    return read_state(inner, path.name)


def _require_plain(path: Path) -> None:
    """Refuse what would unpack to more than it is: torch.save does not compress."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(member.file_size > member.compress_size for member in archive.infolist()):
            raise CheckpointError(f"{path} is a compressed archive, not a file of torch.save", hint=HINT)


def read_state(state: Mapping[Any, Any], source: str) -> Chain:
    """Return the network of a state dict. Raises CheckpointError when it is not torchvision's AlexNet."""
    # DataParallel, as in PyTorch's ImageNet example, puts "module." before or into the names.
    named = {str(name).replace("module.", ""): value for name, value in state.items()}
    expected = {f"{layer}.{part}" for layer in (*(conv[0] for conv in CONVS), *FULLS) for part in ("weight", "bias")}
    if set(named) != expected:
        odd = sorted(set(named) ^ expected)
        raise CheckpointError(one_line(f"{source} is another network, by {', '.join(odd[:3])}"), hint=HINT)
    steps: list[Step] = []
    for name, kernel, stride, padding, pooled in CONVS:
        weight, bias = _values(named, name, source, 4)
        if weight.shape[2:] != (kernel, kernel):
            raise refuse(source, name, f"has weights {weight.shape}, expected kernels of {kernel}x{kernel}")
        steps.append(Step("conv", name, {"stride": stride, "padding": (padding, padding), "groups": 1}, weight, bias))
        steps.append(Step("relu", f"behind {name}"))
        steps += [Step("pool", f"behind {name}", {"size": 3, "stride": 2, "padding": 0})] if pooled else []
    for name in FULLS:
        steps += [Step("dropout", f"before {name}", {"ratio": 0.5})] if name != FULLS[-1] else []
        steps.append(Step("fc", name, {}, *_values(named, name, source, 2)))
        steps += [Step("relu", f"behind {name}")] if name != FULLS[-1] else []
    return Chain(source, tuple(steps), 224)


def _values(named: Mapping[str, Any], name: str, source: str, extents: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    arrays = []
    for part, count in (("weight", extents), ("bias", 1)):
        value = named[f"{name}.{part}"]
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided or value.ndim != count:
            raise refuse(source, f"{name}.{part}", f"is not a tensor of {count} extents of floating-point numbers")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():  # one value, said to be many
            raise refuse(source, f"{name}.{part}", "has fewer values than its shape says")
        arrays.append(value.detach().to(torch.float32).contiguous().numpy())
    return arrays[0], arrays[1]
