"""The options of `alexnet filters` alone, and which of its methods each is for."""

import re
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.options import check_splits


class Method(str, Enum):
    """How to show what units look for."""

    WEIGHTS = "weights"
    MAXIMIZE = "maximize"
    PATCHES = "patches"


class Tower(str, Enum):
    """One of the two towers."""

    A = "a"
    B = "b"


class Normalize(str, Enum):
    """What shares a scale."""

    LAYER = "layer"
    FILTER = "filter"


class Order(str, Enum):
    """In which order kernels are drawn."""

    STORED = "stored"
    ORIENTATION = "orientation"
    HUE = "hue"


class Attribution(str, Enum):
    """What shows which pixels of a patch drive a unit."""

    DECONVOLUTION = "deconvolution"
    GUIDED = "guided"
    NONE = "none"


EVERY = frozenset(Method)
# By the parameter's name. To look for the units of greatest variance, --top, stored pictures and the network are needed too.
MEANT_FOR = {
    "normalize": {Method.WEIGHTS},
    "order": {Method.WEIGHTS},
    "channels": {Method.WEIGHTS},
    "place": {Method.WEIGHTS},
    "scale": {Method.WEIGHTS, Method.MAXIMIZE},
    "seed": {Method.MAXIMIZE},
    "steps": {Method.MAXIMIZE},
    "patches": {Method.PATCHES},
    "attribution": {Method.PATCHES},
}
PICTURES = ("data", "split", "pictures", "workers")
NETWORK = ("device", "precision", "batch_size")


def refuse_meaningless(given: set[str], method: Method, *, top: bool) -> None:
    """Raise typer.BadParameter for an option that means nothing for a method.

    given: names of the parameters that stand on the command line. top: whether --top is among them.
    """
    meant = {
        **MEANT_FOR,
        **dict.fromkeys(PICTURES, EVERY if top else {Method.PATCHES}),
        **dict.fromkeys(NETWORK, EVERY if top else {Method.MAXIMIZE, Method.PATCHES}),
    }
    for name in sorted(given & set(meant)):
        if method not in meant[name]:
            methods = " or ".join(one.value for one in Method if one in meant[name])
            also = ", or for --top" if name in (*PICTURES, *NETWORK) else ""
            raise typer.BadParameter(f"--{name.replace('_', '-')} is for --method {methods}{also}, not for {method.value}")


def place_of(text: str | None) -> tuple[int, int] | None:
    """Read y,x. Raises typer.BadParameter for something else."""
    if text is None:
        return None
    numbers = re.fullmatch(r"\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*", text)
    if numbers is None:
        raise typer.BadParameter(f"{text!r}, expected a row and a column with a comma between, such as 3,5")
    return int(numbers[1]), int(numbers[2])


def _check_place(value: str | None) -> str | None:
    place_of(value)
    return value


LayerOption = Annotated[str | None, typer.Option("--layer", help="Layer to look at.", show_default="the first, conv1")]
OutOption = Annotated[Path, typer.Option("--out", help="Picture to write: .png, .svg or .pdf.")]
MethodOption = Annotated[
    Method | None,
    typer.Option(
        "--method",
        help="weights: the kernels; maximize: pictures made to excite units; patches: what of stored pictures excites them.",
        show_default="weights for the first layer, maximize for the others",
    ),
]
UnitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unit",
        metavar="UNITS",
        help="Units: 3,17,40 or 0-15; of the last layer also classes by name or id.",
        show_default="all of the first layer, else the first",
    ),
]
TowerOption = Annotated[Tower | None, typer.Option("--tower", help="Units of this tower only.", show_default="both")]
TopUnitsOption = Annotated[
    int | None,
    typer.Option("--top", min=1, help="The units whose outputs vary most over stored pictures: so many.", show_default="none"),
]
NormalizeOption = Annotated[
    Normalize,
    typer.Option("--normalize", help="weights: one scale for the layer, or each kernel (filter) brought to the same spread."),
]
OrderOption = Annotated[
    Order, typer.Option("--order", help="weights: as stored, or the first layer's by the orientation of their stripes or by hue.")
]
ChannelsOption = Annotated[
    int | None, typer.Option("--channels", min=1, help="weights: slices of each kernel, the first.", show_default="48")
]
PlaceOption = Annotated[
    str | None,
    typer.Option(
        "--place",
        metavar="Y,X",
        help="weights: of a local layer, the place whose kernels to draw.",
        callback=_check_place,
        show_default="the middle",
    ),
]
ScaleOption = Annotated[
    int | None,
    typer.Option(
        "--scale", min=1, max=200, help="weights, maximize: repeat each pixel so often.", show_default="to 1,000 pixels or more"
    ),
]
LabelsOption = Annotated[
    bool | None,
    typer.Option("--labels/--no-labels", help="Name units and towers in the picture.", show_default="not for weights"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="maximize: of the pictures to begin with.")]
# Whose defaults belong to what computes, and are not known here without torch.
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="maximize: how long to go on.", show_default="64")]
PatchesOption = Annotated[
    int | None, typer.Option("--patches", min=1, max=100, help="patches: how many of each unit.", show_default="9")
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Pictures, of maximize units, in one pass through the network, at most.",
        show_default="128, of maximize 16",
    ),
]
AttributionOption = Annotated[
    Attribution, typer.Option("--attribution", help="patches: beside them, which of their pixels excite the unit.")
]
SplitsOption = Annotated[
    str,
    typer.Option("--split", help="patches, --top: train, val or test, or several with commas between.", callback=check_splits),
]
PicturesOption = Annotated[
    int | None,
    typer.Option("--pictures", min=1, help="patches, --top: look at so many stored pictures only.", show_default="all"),
]
