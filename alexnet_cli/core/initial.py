"""Starting a training from trained weights: which layers are taken from a weights file, and whether they fit.

The other layers are drawn from the seed as always, and the mean is that of the new pictures. Legend: K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights, load_weights, resolve_weights
from alexnet_cli.core.errors import CheckpointError, RecipeError
from alexnet_cli.core.files import checksum
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter

ALL = "all"
# Fields that say how a network is begun, trained and tested, or whose effect the tensors' shapes show; all others change what
# trained layers compute.
UNRELATED = {
    *(
        "name",
        "stored_size",
        "channels",
        "hidden",
        "init_stdevs",
        "init_biases",
        "batch_size",
        "epochs",
        "learning_rate",
        "bias_rate_factor",
    ),
    *("momentum", "weight_decay", "bias_weight_decay", "rate_inside_velocity", "layer_rates", "schedule", "events", "milestones"),
    *("milestone_factor", "plateau_factor", "plateau_patience", "plateau_improvement", "plateau_drops", "mirror", "crop_chunk"),
    *("colour_noise", "colour_noise_scale", "colour_noise_rescale", "shuffle", "test_crops"),
}


@dataclass(frozen=True)
class Initial:
    """What a training starts from.

    path: the weights file. checksum: of its bytes. layers: those that are taken. class_order: for each output of the last layer
    here, which of the file's it is; empty where they stand in the same order or the last layer is not taken.
    """

    path: Path
    checksum: str
    layers: tuple[str, ...]
    class_order: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a run's recipe.toml."""
        return {"init": str(self.path), "init_layers": list(self.layers), "init_checksum": self.checksum}


def choose_initial(
    argument: str, layers: str, *, runs: Path, recipe: Recipe, classes: Sequence[str], reporter: Reporter | None = None
) -> Initial:
    """Return what to take from trained weights, and say what that leaves out or changes.

    argument: a weights file, a run or its name in `runs`. layers: "all", or names and ranges such as "conv1-conv5,fc6".
    recipe, classes: those of the training to come. With "all" the last layer is left out where the classes are others; the same
    classes in another order are put in order. Raises CheckpointError where there are no such weights or they do not fit,
    RecipeError for layers that do not exist.
    """
    reporter = reporter or Reporter()
    path = resolve_weights(argument, runs).resolve()  # the new run takes the link `latest` over
    weights = load_weights(path)
    shapes = parameter_shapes(recipe, len(classes))
    names = list(dict.fromkeys(name.split(".")[0] for name in shapes))
    taken, last = parse_layers(layers, names), names[-1]
    known = set(weights.classes) == set(classes)
    if last in taken and not known:
        if layers != ALL:
            raise CheckpointError(
                f"{last} in {path} is for other classes than the {len(classes)} here", hint=f"leave {last} out of --init-layers"
            )
        taken = taken[:-1]
    _require_fitting(weights, {name: shape for name, shape in shapes.items() if name.split(".")[0] in taken})
    moved = last in taken and tuple(weights.classes) != tuple(classes)
    order = tuple(map(weights.classes.index, classes)) if moved else ()
    reporter.note(_told(taken, names, path, known=known, moved=moved))
    changes = differences(weights.recipe, recipe)
    if changes:
        reporter.warn(f"the layers of {path} were trained with {changes}: here they compute something else")
    return Initial(path, f"blake2b:{checksum(path)}", taken, order)


def parse_layers(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that a text such as "all", "conv1,conv2" or "conv1-conv5,fc6" names, in the network's order."""
    if text == ALL:
        return tuple(names)
    wanted: set[str] = set()
    for part in text.split(","):
        first, dash, final = (piece.strip() for piece in part.partition("-"))
        final = final if dash else first
        if not {first, final} <= set(names) or names.index(first) > names.index(final):
            raise RecipeError(
                f"no layers {part.strip()!r}, expected some of {', '.join(names)}", hint="write all, conv1,conv2 or conv1-conv5"
            )
        wanted.update(names[names.index(first) : names.index(final) + 1])
    return tuple(name for name in names if name in wanted)


def differences(weights: Recipe, here: Recipe) -> str:
    """Say which fields that change what trained layers compute differ, with both values; "" where none does."""
    names = [field.name for field in fields(Recipe) if field.name not in UNRELATED]
    pairs = [(name, getattr(weights, name), getattr(here, name)) for name in names]
    return ", ".join(f"{name} {_spoken(there)} (here {_spoken(own)})" for name, there, own in pairs if there != own)


def _spoken(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def initial_tensors(initial: Initial) -> dict[str, Tensor]:
    """Return the taken layers' weights and biases, float32 on the CPU, in the shapes of the one-device network."""
    weights = load_weights(initial.path)
    if f"blake2b:{checksum(initial.path)}" != initial.checksum:
        raise CheckpointError(f"{initial.path} has just been changed", hint="name weights that no training is writing to")
    tensors = {name: value for name, value in weights.tensors.items() if name.split(".")[0] in initial.layers}
    for name in tensors if initial.class_order else ():
        if name.startswith(f"{initial.layers[-1]}."):
            tensors[name] = tensors[name][list(initial.class_order)]  # the rows of fc8 are the classes
    return tensors


def start_from(network: AlexNet, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of the one-device network into what of it is held here."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in tensors:
                rows = network.layout.rows(name.split(".")[0], len(tensors[name]))
                parameter.copy_(tensors[name][rows])


def _require_fitting(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    found = {name: tuple(weights.tensors[name].shape) if name in weights.tensors else None for name in shapes}
    wrong = [f"{name} is {found[name] or 'missing'}, expected {shape}" for name, shape in shapes.items() if found[name] != shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{weights.path} does not fit this recipe: {'; '.join(wrong[:3])}{more}",
            hint="take fitting layers alone, such as --init-layers conv1-conv5, or the recipe of the weights",
        )


def _told(taken: Sequence[str], names: Sequence[str], path: Path, *, known: bool, moved: bool) -> str:
    new = [name for name in names if name not in taken]
    text = f"{', '.join(taken)} start from {path}"
    if new:
        text += f"; new: {', '.join(new)}"
    if names[-1] in new and not known:
        text += " (the classes are others)"
    return f"{text}; {names[-1]}'s outputs are put in this data's order of classes" if moved else text
