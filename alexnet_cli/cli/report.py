"""`alexnet report`: all that can be said of a training, as one page."""

from pathlib import Path
from typing import Annotated

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.options import (
    SPLITS,
    BatchSizeOption,
    CropsOption,
    DebugOption,
    Device,
    DeviceOption,
    Precision,
    PrecisionOption,
    QuietOption,
    RunsOption,
    WorkersOption,
)
from alexnet_cli.cli.render import size
from alexnet_cli.core.files import require_place
from alexnet_cli.core.report_parts import TITLES, UNITS
from alexnet_cli.core.run_folder import LATEST


def _check_sections(value: str | None) -> str | None:
    names = [name.strip() for name in value.split(",")] if value else []
    if any(name not in TITLES for name in names):
        raise typer.BadParameter(f"{value!r}, expected some of {', '.join(TITLES)}, with commas between")
    return ",".join(names) or None


def _check_split(value: str) -> str:
    name = "val" if value == "validation" else value
    if name not in SPLITS:
        raise typer.BadParameter(f"{value!r}, expected one of {', '.join(SPLITS)}")
    return name


WithoutOption = Annotated[
    str | None,
    typer.Option(
        "--without",
        metavar="SECTIONS",
        help=f"Sections to leave out, with commas between: {', '.join(TITLES)}.",
        callback=_check_sections,
        show_default="none",
    ),
]


def report(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Name or folder of a run.", show_default="the newest run")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")] = Path("report.html"),
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder that `alexnet prepare` wrote, for all that is about pictures.", show_default="none"),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="Which pictures of --data: train, val or test.", callback=_check_split)
    ] = "val",
    crops: CropsOption = None,
    units: Annotated[int, typer.Option("--units", min=1, help="Units of each layer to show.")] = UNITS,
    without: WithoutOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    batch_size: BatchSizeOption = 128,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write all that can be said of a training as one HTML page.

    Its curves, errors, classes, mistakes, filters and units, recipe, data and machine. The page needs no other file, no network and
    no script. Needs alexnet-cli[plot]. A run that is still going on is reported on as far as it has come.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.curves import find_run
        from alexnet_cli.core.plot import require_matplotlib
        from alexnet_cli.core.report import make_report
        from alexnet_cli.core.report_page import write_page
        from alexnet_cli.core.report_sources import ReportOptions

        require_place(out)
        require_matplotlib()
        options = ReportOptions(
            folder=find_run(run or LATEST, runs),
            data=data,
            split=split,
            crops=int(crops.value) if crops else None,
            units=units,
            without=frozenset(without.split(",")) if without else frozenset(),
            device=device.value,
            precision=precision.value,
            batch_size=batch_size,
            workers=workers,
        )
        num_bytes = write_page(make_report(options, reporter), out)
        reporter.note(f"{size(num_bytes)}, complete in itself")
        print(out)
