"""The sections of a report that look inside the network: the first layer's kernels, towers, single units, similar pictures.

It must not import torch at its top. Legend: N kernels, C channels, H, W.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core import draws
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.inputs import StoredPictures
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.report_answers import first_name
from alexnet_cli.core.report_parts import Absent, Drawing, Drawings, Heading, Neighbours, Part, Picture, Pictures, Table, Text
from alexnet_cli.core.report_pictures import drawn, numbers, photograph
from alexnet_cli.core.report_sources import NO_STORE, Sources
from alexnet_cli.core.report_svg import to_svg
from alexnet_cli.core.specialisation import Specialisation, measure
from alexnet_cli.core.specialisation_picture import draw_emergence, draw_specialisation
from alexnet_cli.core.store import Store

if TYPE_CHECKING:
    from alexnet_cli.core.maximize import Maximized
    from alexnet_cli.core.similar import Neighbour, Similar
    from alexnet_cli.core.units import LayerUnits

EPOCHS = 6  # of the history, the first and the last among them
QUERIES, NEAREST = 5, 6  # the paper's figure 4
SQUARE, WIDE = (5.0, 5.0), (9.0, 5.0)  # inches of a drawing beside another, and of one alone
SIDE = 192  # pixels of a picture that stands beside others

UNITS_TEXT = (
    "The pictures to which single units respond most, found by climbing the gradient of what they add up, from noise on: no"
    " photographs, but what the network's weights ask for. The units stand evenly apart among those of their layer; those of the"
    " last layer are classes. A picture of a convolution has the pixels that its unit sees."
)

Content = Sequence[Part] | Absent


# The first layer -------------------------------------------------------------------------------------------------------------


def filters(sources: Sources) -> Content:
    """Show the first layer's kernels as they are now, and as they were after several epochs where the run has kept them."""
    if sources.weights is None:
        return Absent(sources.no_weights)
    recipe, layer = sources.weights.recipe, sources.weights.recipe.layers[0]
    if layer in recipe.local:
        return Absent(f"the kernels of {layer} differ from place to place")
    kernels = sources.weights.tensors[f"{layer}.weight"].numpy()
    count, side = len(kernels), kernels.shape[-1]
    rows = "tower a's above tower b's" if recipe.towers == 2 else "in rows of 16"
    text = (
        f"The {count} kernels of {layer}, {side}x{side} pixels in three colours, {rows}, all on one scale: the layer's smallest"
        " weight is black, its largest white. The paper's figure 3 shows those of the authors' net: one tower for edges, whatever"
        " their colour, the other for colours."
    )
    now = _kernels(kernels, recipe, f"After step {sources.weights.step:,}", f"The {count} kernels of {layer} as small pictures")
    return [Text(text), now, *_history(sources)]


def _kernels(kernels_NCHW: NDArray[np.float32], recipe: Recipe, caption: str, alt: str) -> Picture:
    from alexnet_cli.core.filters import draw_kernels

    return numbers(draw_kernels(kernels_NCHW, recipe), f"{alt}.", caption)


def _history(sources: Sources) -> list[Part]:
    history = _kept(sources)
    if isinstance(history, AlexNetError):
        return [Heading("How they came to be"), Text(_sentence(history))]
    chosen = [history[index] for index in spread(len(history), EPOCHS)]
    pictures = tuple(
        _kernels(
            kernels, sources.recipe, f"Epoch {epoch}" if epoch else "Before the first epoch", f"The kernels after epoch {epoch}"
        )
        for epoch, kernels in chosen
    )
    return [Heading("How they came to be"), Text("Each picture on a scale of its own."), Pictures(pictures, width=20)]


def _kept(sources: Sources) -> "list[tuple[int, NDArray[np.float32]]] | AlexNetError":
    """Return the kernels of the run's epochs, or why there are none."""
    from alexnet_cli.core.kernel_history import read_kernel_history

    try:
        return read_kernel_history(sources.options.folder, sources.recipe)
    except AlexNetError as error:
        return error


def spread(count: int, most: int) -> list[int]:
    """Return places among `count`, at most so many, evenly apart, the first and the last among them."""
    return sorted({round(place * (count - 1) / max(1, most - 1)) for place in range(most)}) if count > most else list(range(count))


# Towers, units, similar pictures ---------------------------------------------------------------------------------------------


def towers(sources: Sources) -> Content:
    """Say how much colour the kernels of each tower have, and since when, where the run has kept them."""
    if sources.weights is None:
        return Absent(sources.no_weights)
    recipe = sources.weights.recipe
    if recipe.towers != 2:
        return Absent("this network has one tower")
    found = measure(sources.weights.tensors[f"{recipe.layers[0]}.weight"].numpy(), recipe)
    text = (
        "The paper's figure 3 shows one tower whose kernels are largely colour-agnostic and another's that are colour-specific."
        f" Here, {found.of_all.in_words}, by the share of each kernel's energy that is off the grey axis."
    )
    rows = tuple(
        (f"tower {name}", f"{one.kernels}", f"{one.lower_quartile:.3f}", f"{one.median:.3f}", f"{one.upper_quartile:.3f}")
        for name, one in (("a", found.of_all.a), ("b", found.of_all.b))
    )
    header = ("tower", "kernels", "lower quartile", "median", "upper quartile")
    table = Table("Share of a kernel's energy that is colour, 0 to 1; noise has 2/3", header, rows)
    history = _kept(sources)
    name = sources.options.folder.path.name
    if isinstance(history, AlexNetError):
        return [Text(text), table, Drawings((_colours_now(found, name, WIDE),)), Text(_sentence(history))]
    return [Text(text), table, Drawings((_colours_now(found, name, SQUARE), _colours_since(history, sources.recipe, name)))]


def _colours_now(found: Specialisation, name: str, inches: tuple[float, float]) -> Drawing:
    figure = draw_specialisation([(name, found)])
    figure.set_size_inches(*inches)
    medians = f"tower a {found.of_all.a.median:.2f}, tower b {found.of_all.b.median:.2f}"
    alt = f"The colour of each kernel of the two towers; medians: {medians}."
    return Drawing(to_svg(figure, "towers"), alt, "Each kernel's share of colour, with medians and quartiles")


def _colours_since(history: Sequence[tuple[int, NDArray[np.float32]]], recipe: Recipe, name: str) -> Drawing:
    comparisons = [measure(kernels, recipe, f"epoch {epoch}").of_all for epoch, kernels in history]
    figure = draw_emergence([epoch for epoch, _ in history], comparisons, name)
    figure.set_size_inches(*SQUARE)
    figure.axes[0].set_title("")
    ends = " to ".join(f"{one.a.median:.2f} and {one.b.median:.2f}" for one in (comparisons[0], comparisons[-1]))
    alt = f"Medians of tower a and b over the epochs, from {ends}."
    return Drawing(to_svg(figure, "emergence"), alt, "Medians and quartiles over the epochs")


def units(sources: Sources) -> Content:
    """Show the pictures to which a few units of each layer behind the first respond most."""
    if sources.weights is None:
        return Absent(sources.no_weights)
    from alexnet_cli.core.maximize import maximize
    from alexnet_cli.core.units import layer_units

    weights, model = sources.weights, sources.model
    parts: list[Part] = [Text(UNITS_TEXT)]
    for layer in weights.recipe.layers[1:]:
        of = layer_units(weights, layer)
        chosen = spread(of.count, sources.options.units)
        found = maximize(weights, layer, chosen, device=model.device, precision=model.precision, reporter=sources.reporter)
        pictures = tuple(_unit_picture(of, one) for one in found)
        parts += [Heading(layer), Pictures(pictures, width=10)]
    return parts


def _unit_picture(of: "LayerUnits", found: "Maximized") -> Picture:
    name = unit_name(of, found.unit)
    return drawn(found.image, f"Picture to which {name} of {of.layer} responds with {found.activation:.3g}", name)


def unit_name(of: "LayerUnits", unit: int) -> str:
    """Return what a unit is called: its class in the last layer, else its number and tower."""
    if of.classes is not None:
        return first_name(of.name(unit))
    tower = of.tower(unit)
    return f"unit {unit}, tower {tower}" if tower else f"unit {unit}"


def similar(sources: Sources) -> Content:
    """Show some pictures, each with those that are nearest to it by the last hidden layer."""
    if sources.weights is None:
        return Absent(sources.no_weights)
    if sources.store is None:
        return Absent(f"{NO_STORE} pictures with those that are most like them")
    from alexnet_cli.core.similar import Search, Similar

    options, store, model = sources.options, sources.store, sources.model
    search = Search(model, store, batch_size=options.batch_size, workers=options.workers, reporter=sources.reporter)
    chosen = set(draws.permutation(len(store), 0, "report similar")[:QUERIES].tolist())
    asked = [one for index, one in enumerate(StoredPictures(store)) if index in chosen]
    described = model.features(asked, layer=search.layer, batch_size=options.batch_size, num_images=len(asked))
    found = list(search.answers(described, top=NEAREST, exclude_self=True))
    text = (
        f"Pictures of {options.split}, drawn by lot, each with those {NEAREST} of the others that are nearest to it, the nearest"
        f" first: by the distance between what {search.layer} hands on for the two, as in the paper's figure 4, right."
    )
    return [Text(text), Neighbours(tuple(_neighbours(one, store) for one in found if isinstance(one, Similar)))]


def _neighbours(similar: "Similar", store: Store) -> tuple[Picture, tuple[Picture, ...]]:
    assert similar.image is not None  # as many were asked for as there are
    name = first_name(similar.truth_name or "no known class")
    asked = photograph(similar.image, SIDE, f"Picture of {name}, to which those after it are compared", name)
    return asked, tuple(_neighbour(one, store) for one in similar.neighbours)


def _neighbour(one: "Neighbour", store: Store) -> Picture:
    name = first_name(one.name or "no known class")
    return photograph(store.image(one.record), SIDE, f"Picture of {name}, at distance {one.distance:.3g}", name)


def _sentence(error: AlexNetError) -> str:
    return error.message[:1].upper() + error.message[1:] + (f" ({error.hint})." if error.hint else ".")
