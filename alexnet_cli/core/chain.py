"""A network as other programs' files have it, one operation after another, and what recipe it is (no torch).

Readers of files make a Chain; `recipe_of` says it in the recipe's fields, or which operation cannot be said in them. Every number
that a test pass depends on comes from the chain; how the network was trained from the nearest recipe of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.architecture import parameter_shapes, pooled_size
from alexnet_cli.core.errors import CheckpointError, RecipeError
from alexnet_cli.core.recipe import LAYERS, STORED_SIZE, Recipe
from alexnet_cli.core.recipes import RELU_POOL_NORM, bvlc, caffenet

OTHER_NETWORK = (
    "AlexNet and its relatives alone can be taken over: convolutions with what follows them, then fully connected layers"
)
USUAL_SIZES = (227, 224)  # Caffe's files do not say theirs
MOST_LETTERS = 300  # of a message
ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True)
class Step:
    """One operation. kind: conv, fc, relu, tanh, lrn, pool or dropout. name: the file's own. numbers: what the kind needs.

    conv: stride, padding (before, after), groups. lrn: size, alpha, beta, k. pool: size, stride, and either padding, at the end
    with sizes rounded down, or rounds_up. dropout: ratio. weight, bias: float32, of conv (out, in, k, k), of fc (out, in).
    """

    kind: str
    name: str
    numbers: dict[str, Any] = field(default_factory=dict)
    weight: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Chain:
    """A network's operations in order. source: the file, for messages. input_size: None where the file does not say."""

    source: str
    steps: tuple[Step, ...]
    input_size: int | None = None

    def layers(self, kind: str) -> list[Step]:
        """Return the operations of a kind."""
        return [step for step in self.steps if step.kind == kind]


def refuse(source: str, step: str, problem: str) -> CheckpointError:
    """Return what to raise for an operation that no recipe expresses."""
    return CheckpointError(one_line(f"{source}: {step} {problem}"), hint=OTHER_NETWORK)


def one_line(text: str) -> str:
    """Return a text with names out of a file as one line for a terminal, whatever bytes they hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MOST_LETTERS]


def recipe_of(chain: Chain) -> tuple[Recipe, dict[str, NDArray[np.float32]]]:
    """Return the recipe of a chain, and its tensors by our names. Raises CheckpointError naming what does not fit."""
    convs, fulls = chain.layers("conv"), chain.layers("fc")
    if not convs or not fulls or chain.steps[0].kind != "conv":
        raise CheckpointError(
            f"{chain.source} has {len(convs)} convolutions and {len(fulls)} fully connected layers, "
            "expected some of both, the first a convolution",
            hint=OTHER_NETWORK,
        )
    names = [*(f"conv{index}" for index in range(1, len(convs) + 1)), *_full_names(len(convs), len(fulls))]
    size = _input_size(chain)
    changes = {
        **_shape(chain, names, size),
        **_norms(chain),
        **_pools(chain, names, size),
        **_dropout(chain),
        "follows": _follows(chain),
        "activation": _activation(chain),
    }
    try:
        recipe = replace(_base(chain, changes), **changes)
    except RecipeError as error:
        raise CheckpointError(f"{chain.source} is no network of ours: {error.message}", hint=OTHER_NETWORK) from error
    return recipe, _tensors(chain, recipe, names)


def _full_names(num_convs: int, num_fulls: int) -> list[str]:
    return [f"fc{num_convs + index}" for index in range(1, num_fulls + 1)]


def _base(chain: Chain, changes: dict[str, Any]) -> Recipe:
    """Return Caffe's recipe that is nearest, whose training fields fit any number of layers."""
    base = caffenet() if changes["follows"] == RELU_POOL_NORM else bvlc()
    count = len(changes["layers"])
    if changes["layers"] != base.layers:
        changes |= {"init_stdevs": (0.01,) * count, "init_biases": (0.0,) * count, "events": (), "name": "imported"}
    return base


def _shape(chain: Chain, names: list[str], size: int) -> dict[str, Any]:
    convs, fulls = chain.layers("conv"), chain.layers("fc")
    for conv in convs:
        _check_conv(chain, conv, first=conv is convs[0])
    weights = [conv.weight for conv in convs]
    first, *others = [conv.numbers["padding"] for conv in convs]
    towers = max(conv.numbers["groups"] for conv in convs)
    full_names = tuple(names[len(convs) :])
    joined = tuple(name for name, conv in zip(names[1:], convs[1:], strict=False) if conv.numbers["groups"] == 1)
    reading = Recipe().reads_both_towers if towers == 1 and tuple(names) == LAYERS else (*joined, *full_names)
    return {
        "layers": tuple(names),
        "towers": towers,
        "channels": tuple(len(weight) for weight in weights if weight is not None),
        "kernels": tuple(weight.shape[2] for weight in weights if weight is not None),
        "strides": tuple(conv.numbers["stride"] for conv in convs),
        "paddings": (0, *(padding[0] for padding in others)),
        "input_padding": first,
        "input_size": size,
        "hidden": tuple(len(full.weight) for full in fulls[:-1] if full.weight is not None),
        "reads_both_towers": reading,
    }


def _check_conv(chain: Chain, conv: Step, *, first: bool) -> None:
    assert conv.weight is not None
    shape, padding, groups = conv.weight.shape, conv.numbers["padding"], conv.numbers["groups"]
    if len(shape) != 4 or shape[2] != shape[3] or min(shape) < 1:
        raise refuse(chain.source, conv.name, f"has weights {shape}, expected (outputs, inputs, k, k)")
    if first and (shape[1] != 3 or groups != 1):
        raise refuse(
            chain.source, conv.name, f"reads {shape[1] * groups} channels in {groups} groups, expected a colour picture's 3"
        )
    if not first and padding[0] != padding[1]:
        raise refuse(chain.source, conv.name, f"pads {padding[0]} before and {padding[1]} after, expected the same")
    if groups not in (1, 2):
        raise refuse(chain.source, conv.name, f"is in {groups} groups, expected 1 or 2")


def _follows(chain: Chain) -> tuple[str, ...]:
    """Return what comes after each convolution, and check the order of what comes after the fully connected layers."""
    follows: list[list[str]] = []
    fulls = 0
    activated = True
    for step in chain.steps:
        is_activation = step.kind in ACTIVATIONS
        if step.kind == "conv" and fulls == 0:
            follows.append([])
        elif step.kind == "fc":
            if not activated:
                raise refuse(chain.source, step.name, "comes after a fully connected layer without an activation")
            fulls, activated = fulls + 1, False
        elif fulls == 0 and step.kind != "dropout":
            follows[-1].append("activation" if is_activation else step.kind)
        elif is_activation and not activated and fulls < len(chain.layers("fc")):
            activated = True
        elif step.kind != "dropout":
            raise refuse(chain.source, step.name, f"is a {step.kind} where none can be")
    return tuple(" ".join(operations) for operations in follows)


def _activation(chain: Chain) -> str:
    kinds = {step.kind for step in chain.steps} & set(ACTIVATIONS)
    if len(kinds) != 1:
        raise CheckpointError(f"{chain.source} has the activations {sorted(kinds)}, expected one kind", hint=OTHER_NETWORK)
    return kinds.pop()


def _norms(chain: Chain) -> dict[str, Any]:
    norms = chain.layers("lrn")
    _require_alike(chain, norms)
    if not norms:
        return {}
    numbers = norms[0].numbers
    names = {"size": "lrn_size", "alpha": "lrn_alpha", "beta": "lrn_beta", "k": "lrn_k"}
    return {ours: numbers[theirs] for theirs, ours in names.items()}


def _require_alike(chain: Chain, steps: Sequence[Step], *names: str) -> None:
    """Refuse the first operation that differs from the first of its kind: a recipe has one size for all."""
    for step in steps[1:]:
        for name in names or step.numbers:
            if step.numbers[name] != steps[0].numbers[name]:
                found, expected = step.numbers[name], steps[0].numbers[name]
                raise refuse(chain.source, step.name, f"has {name} {found}, expected {expected} as {steps[0].name}")


def _dropout(chain: Chain) -> dict[str, Any]:
    """Return where units are dropped: the inputs of all fc layers but the first are the outputs of all but the last."""
    dropped, ratios, pending = [], set(), False
    for step in chain.steps:
        if step.kind == "dropout":
            ratios.add(step.numbers["ratio"])
            pending = True
        elif step.kind in ("conv", "fc"):
            dropped.append(pending)
            pending = False
    num_convs, after = len(chain.layers("conv")), len(chain.layers("fc")) - 1
    places = dropped[num_convs:]
    usual, before = [False, *[True] * after], [*[True] * after, False]
    if not ratios:
        return {}
    if any(dropped[:num_convs]) or places not in (usual, before) or pending or len(ratios) > 1:
        raise CheckpointError(f"{chain.source} drops units elsewhere, or at different rates, than AlexNet does", hint=OTHER_NETWORK)
    return {"dropout": ratios.pop(), "dropout_before": places == before, "dropout_inverted": True}


def _pools(chain: Chain, names: list[str], size: int) -> dict[str, Any]:
    pools = chain.layers("pool")
    _require_alike(chain, pools, "size", "stride")
    if not pools:
        return {}
    down = tuple(names[index] for index, rounds_up in _trace(chain, size)[1].items() if not rounds_up)
    numbers = pools[0].numbers
    return {"pool_size": numbers["size"], "pool_stride": numbers["stride"], "pools_rounded_down": down}


def _trace(chain: Chain, size: int) -> tuple[int, dict[int, bool]]:
    """Follow the side of the maps: return the last one, and whether each layer's pooling rounds up, where that matters."""
    rounding: dict[int, bool] = {}
    layer = -1
    for step in chain.steps:
        numbers = step.numbers
        if step.kind == "conv":
            layer += 1
            assert step.weight is not None
            size = (size + sum(numbers["padding"]) - step.weight.shape[2]) // numbers["stride"] + 1
        elif step.kind == "pool":
            up, down = (pooled_size(size, numbers["size"], numbers["stride"], rounds_up=rounds_up) for rounds_up in (True, False))
            made = up if numbers.get("rounds_up") else (size + numbers.get("padding", 0) - numbers["size"]) // numbers["stride"] + 1
            if made not in (up, down):
                raise refuse(chain.source, step.name, f"makes {size} pixels to {made}, expected {up} or {down}")
            rounding[layer] = made == up
            size = made
        if size < 1:
            raise refuse(chain.source, step.name, "has a picture too small for it")
    return size, rounding


def _input_size(chain: Chain) -> int:
    """Return the side of the pictures: what the file says, or the usual one that gives as many values as the first fc reads."""
    first = next(step for step in chain.steps if step.kind == "fc")
    last = chain.layers("conv")[-1]
    assert first.weight is not None and last.weight is not None
    for size in (chain.input_size,) if chain.input_size else USUAL_SIZES:
        if size > STORED_SIZE:
            raise CheckpointError(
                f"{chain.source} takes pictures of {size} pixels, expected at most {STORED_SIZE}", hint=OTHER_NETWORK
            )
        side = _trace(chain, size)[0]
        if first.weight.shape[1] == len(last.weight) * side * side:
            return size
    raise refuse(
        chain.source,
        first.name,
        f"reads {first.weight.shape[1]:,} values, which no picture of {chain.input_size or 'usual'} pixels gives",
    )


def _tensors(chain: Chain, recipe: Recipe, names: list[str]) -> dict[str, NDArray[np.float32]]:
    """Return weights and biases by our names, in our shapes, all finite."""
    weighted = [*chain.layers("conv"), *chain.layers("fc")]
    tensors: dict[str, NDArray[np.float32]] = {}
    last = weighted[-1].weight
    assert last is not None
    shapes = parameter_shapes(recipe, len(last))
    for name, step in zip(names, weighted, strict=True):
        for part, values in (("weight", step.weight), ("bias", step.bias)):
            assert values is not None
            expected = shapes[f"{name}.{part}"]
            if values.shape != expected:
                raise refuse(chain.source, step.name, f"has a {part} of shape {values.shape}, expected {expected}")
            tensors[f"{name}.{part}"] = finite(chain.source, f"the {part} of {step.name}", values)
    return tensors


def finite(source: str, what: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return values as float32. Raises CheckpointError where one of them is no number."""
    narrow = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(narrow.min(initial=0)) or not np.isfinite(narrow.max(initial=0)):
        raise CheckpointError(f"{source}: {what} holds numbers that are not finite", hint="get the file anew")
    return narrow
