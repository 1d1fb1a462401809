"""`alexnet towers`: whether one tower's first kernels see colour and the other's do not."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import WEIGHTS_HELP, DebugOption, JsonOption, QuietOption, RunsOption, YesOption, check_picture
from alexnet_cli.cli.render import percent, print_facts, print_json, print_table
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import require_place
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alexnet_cli.core.checkpoint import Weights
    from alexnet_cli.core.specialisation import Comparison, Specialisation, Spread

PAPER = "one GPU's kernels largely colour-agnostic, the other's colour-specific, in every run (P 6.1)"
WEIGHTS_NAMES = ("best", "last")  # files that say less of themselves than their folders


def towers(
    weights: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WEIGHTS",
            help=f"{WEIGHTS_HELP[:-1]}; several are compared.",
            show_default="the best of the newest run",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="Name or folder of a run: epoch by epoch.", show_default="trained weights"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Picture to write: .png, .svg or .pdf.", callback=check_picture)] = Path(
        "towers.png"
    ),
    runs: RunsOption = Path("runs"),
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure whether one tower of conv1 sees colour and the other does not.

    The paper says so of every run. Of each kernel the share of its energy that is colour is taken, 0 for grey, and the towers'
    shares are compared by the test of Mann and Whitney. Needs alexnet-cli[plot].
    """
    if run is not None and weights:
        raise typer.BadParameter("--run and WEIGHTS exclude each other: epochs of one training, or trained networks")
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.plot import require_matplotlib

        require_place(out)
        require_matplotlib("towers")
        if run is not None:
            return _show_run(run, runs, out, as_json)
        paths = _given(weights, runs, reporter, yes=yes)
        require_place(out, *paths)
        _show_networks(paths, out, as_json)


# Trained networks ------------------------------------------------------------------------------------------------------------


def _given(arguments: Sequence[str] | None, runs: Path, reporter: Reporter, *, yes: bool) -> list[Path]:
    from alexnet_cli.core.checkpoint import resolve_weights

    paths = [resolve_weights(bring(name, runs, reporter, yes=yes), runs) for name in arguments or (None,)]
    for path in paths:
        reporter.note(f"weights: {path}")
    folders = [path.resolve().parent for path in paths if path.stem in WEIGHTS_NAMES]
    for folder in sorted({folder for folder in folders if folders.count(folder) > 1}):
        reporter.warn(f"several weights of run {folder.name} are one network at different times, yet each counts as a network")
    return paths


def _show_networks(paths: Sequence[Path], out: Path, as_json: bool) -> None:
    from alexnet_cli.core.checkpoint import load_weights
    from alexnet_cli.core.plot import save_figure
    from alexnet_cli.core.specialisation import measure
    from alexnet_cli.core.specialisation_picture import DOTS_PER_INCH, draw_specialisation

    found = []
    seen: dict[bytes, Path] = {}
    for path in paths:
        weights = load_weights(path)
        kernels = _kernels(weights)
        found.append(measure(kernels, weights.recipe, str(path)))
        _refuse_twice(path, seen.setdefault(kernels.tobytes(), path))
    drawn = list(zip(_names(paths), found, strict=True))
    save_figure(draw_specialisation(drawn, kernels if len(paths) == 1 else None), out, dpi=DOTS_PER_INCH)
    if as_json:
        return print_json(_document(paths, found, out))
    _print_one(paths[0], found[0], out) if len(paths) == 1 else _print_all(paths, found, out)


def _kernels(weights: "Weights") -> "NDArray[np.float32]":
    """Return the first layer's kernels, RGB whatever the network's own order."""
    kernels = weights.tensors[f"{weights.recipe.layers[0]}.weight"].numpy()
    return kernels[:, ::-1] if weights.recipe.channel_order == "bgr" else kernels


def _refuse_twice(path: Path, first: Path) -> None:
    """Raise AlexNetError for a path whose kernels are those of another one before it, be it by a copy or by a link."""
    if path is not first:
        what = f"{path} is given twice" if path == first else f"{path} has the same kernels as {first}"
        raise AlexNetError(f"{what}: it would count as two networks", hint="name each network once")


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what networks are called in the picture: as short as tells them apart."""
    for name in (_short, _with_folder):
        names = list(map(name, paths))
        if len(set(names)) == len(names):
            return names
    return list(map(str, paths))


def _short(path: Path) -> str:
    return path.absolute().parent.name if path.stem in WEIGHTS_NAMES else path.stem


def _with_folder(path: Path) -> str:
    return f"{path.absolute().parent.name}/{path.name}"


def _document(paths: Sequence[Path], found: "Sequence[Specialisation]", out: Path) -> dict[str, Any]:
    from alexnet_cli.core.specialisation import all_in_words

    networks = [{"weights": str(path), **_figures(one)} for path, one in zip(paths, found, strict=True)]
    words = found[0].of_all.in_words if len(found) == 1 else all_in_words([one.of_all for one in found])
    return {**_constants(), "networks": networks, "in_words": words, "figure": str(out)}


def _constants() -> dict[str, Any]:
    from alexnet_cli.core.specialisation import LEARNED, LEVEL, NOISE_SHARE

    return {"kind": "towers", "noise_share": NOISE_SHARE, "level": LEVEL, "learned_above": LEARNED}


def _figures(found: "Specialisation") -> dict[str, Any]:
    """Return what was measured as JSON: by all kernels and by the learned ones, then each kernel's share, null for zeros."""
    shares = [None if share != share else share for share in found.shares_N.tolist()]
    half = len(shares) // 2
    return {
        **_compared(found.of_all),
        "learned": _compared(found.of_learned) if found.of_learned else None,
        "shares": {"a": shares[:half], "b": shares[half:]},
    }


def _compared(comparison: "Comparison") -> dict[str, Any]:
    return {**asdict(comparison), "coloured": comparison.coloured or None, "in_words": comparison.in_words}


def _print_one(path: Path, found: "Specialisation", out: Path) -> None:
    from alexnet_cli.core.specialisation import NOISE_SHARE

    of_all, learned = found.of_all, found.of_learned
    print_facts(
        [
            ("weights", path),
            ("tower a", _spread(of_all.a)),
            ("tower b", _spread(of_all.b)),
            ("difference", _difference(of_all)),
            ("in words", of_all.in_words),
            *_learned(found, learned),
            ("noise", f"{percent(NOISE_SHARE)} in colour, as kernels are drawn"),
            ("paper", PAPER),
            ("figure", out),
        ]
    )


def _learned(found: "Specialisation", learned: "Comparison | None") -> list[tuple[str, str]]:
    """Say what the learned kernels alone show, where there are others too."""
    from alexnet_cli.core.specialisation import LEARNED

    if found.learned_N.all():
        return []
    count = f"{found.learned_N.sum()} of {len(found.learned_N)} kernels have {LEARNED:g} times the initial noise's energy"
    if learned is None:
        return [("learned", f"{count}: too few to compare the towers by them alone")]
    sizes = f"{learned.a.kernels} of tower a, {learned.b.kernels} of tower b"
    return [("learned", f"{count} ({sizes})"), ("by those", f"{_difference(learned)}; {learned.in_words}")]


def _spread(spread: "Spread") -> str:
    quartiles = f"quartiles {100 * spread.lower_quartile:.1f} to {100 * spread.upper_quartile:.1f}"
    return f"{percent(spread.median)} in colour, the median of {spread.kernels} kernels ({quartiles})"


def _difference(comparison: "Comparison") -> str:
    return (
        f"{100 * comparison.difference:+.1f} points, b less a; b is the more coloured in {percent(comparison.b_above_a)} of pairs"
    )


def _print_all(paths: Sequence[Path], found: "Sequence[Specialisation]", out: Path) -> None:
    from alexnet_cli.core.specialisation import all_in_words

    header = ("weights", "a", "b", "b above a", "p", "coloured", "learned: b above a", "p")
    rows = [
        (str(path), *_cells(one.of_all), one.of_all.coloured or "-", *(_cells(one.of_learned)[2:] if one.of_learned else "--"))
        for path, one in zip(paths, found, strict=True)
    ]
    print_table(header, rows)
    print_facts([("in words", all_in_words([one.of_all for one in found])), ("paper", PAPER), ("figure", out)])


def _cells(comparison: "Comparison") -> tuple[str, ...]:
    return (
        percent(comparison.a.median),
        percent(comparison.b.median),
        percent(comparison.b_above_a),
        f"{comparison.p:.2g}",
    )


# Over a training -------------------------------------------------------------------------------------------------------------


def _show_run(run: str, runs: Path, out: Path, as_json: bool) -> None:
    from alexnet_cli.core.curves import find_run
    from alexnet_cli.core.kernel_history import read_kernel_history
    from alexnet_cli.core.plot import save_figure
    from alexnet_cli.core.run_recipe import begun_with
    from alexnet_cli.core.specialisation import measure, require_towers
    from alexnet_cli.core.specialisation_picture import DOTS_PER_INCH, draw_emergence

    folder = find_run(run, runs)
    recipe, _ = begun_with(folder)
    require_towers(recipe, f"run {folder.path}")
    history = read_kernel_history(folder, recipe)
    found = [measure(kernels, recipe, f"epoch {epoch} of {folder.path}") for epoch, kernels in history]
    epochs, comparisons = [epoch for epoch, _ in history], [one.of_all for one in found]
    save_figure(draw_emergence(epochs, comparisons, folder.path.name), out, dpi=DOTS_PER_INCH)
    if as_json:
        rows = [{"epoch": epoch, **_figures(one)} for epoch, one in zip(epochs, found, strict=True)]
        return print_json({**_constants(), "run": str(folder.path), "epochs": rows, "in_words": _last(found), "figure": str(out)})
    header = ("epoch", "a", "quartiles", "b", "quartiles", "b above a", "p", "coloured")
    print_table(header, [(str(epoch), *_epoch(one)) for epoch, one in zip(epochs, comparisons, strict=True)])
    print_facts([("in words", f"epoch {epochs[-1]}: {_last(found)}"), ("paper", PAPER), ("figure", out)])


def _last(found: "Sequence[Specialisation]") -> str:
    return found[-1].of_all.in_words


def _epoch(comparison: "Comparison") -> tuple[str, ...]:
    a, b, *rest = _cells(comparison)
    return (a, _quartiles(comparison.a), b, _quartiles(comparison.b), *rest, comparison.coloured or "-")


def _quartiles(spread: "Spread") -> str:
    return f"{100 * spread.lower_quartile:.1f}-{100 * spread.upper_quartile:.1f}"
