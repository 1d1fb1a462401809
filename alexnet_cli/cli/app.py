"""The app: its commands and its global options."""

import sys
from typing import Annotated

import typer

from alexnet_cli import __version__
from alexnet_cli.cli.ablate import ablate
from alexnet_cli.cli.demo import demo
from alexnet_cli.cli.doctor import doctor
from alexnet_cli.cli.evaluate import evaluate
from alexnet_cli.cli.export import export
from alexnet_cli.cli.features import features
from alexnet_cli.cli.figure1 import figure1
from alexnet_cli.cli.filters import filters
from alexnet_cli.cli.importing import import_weights
from alexnet_cli.cli.info import info
from alexnet_cli.cli.plot import plot
from alexnet_cli.cli.predict import predict
from alexnet_cli.cli.prepare import prepare
from alexnet_cli.cli.push import push
from alexnet_cli.cli.recipes import recipes
from alexnet_cli.cli.report import report
from alexnet_cli.cli.similar import similar
from alexnet_cli.cli.towers import towers
from alexnet_cli.cli.train import train
from alexnet_cli.cli.weights import weights

# Without rich's panels: they take twice as long to start, and plain help reads the same in every terminal and in docs/cli.md.
app = typer.Typer(
    name="alexnet",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"alexnet {__version__}")
        raise typer.Exit


@app.callback(epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.")
def alexnet(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes, for every command.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, for every command.")] = False,
) -> None:
    """AlexNet (NIPS 2012), its two towers and all, on your own pictures.

    alexnet prepare PICTURES && alexnet train && alexnet evaluate && alexnet predict cat.jpg && alexnet filters
    """


for verb in (
    prepare,
    train,
    evaluate,
    predict,
    filters,
    features,
    similar,
    towers,
    export,
    push,
    plot,
    report,
    ablate,
    figure1,
    info,
    recipes,
    doctor,
    demo,
):
    app.command()(verb)
app.command("import")(import_weights)
app.command("visualize-filters", help="The same as `alexnet filters`.")(filters)
app.add_typer(weights)


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="alexnet")
    except SystemExit as ending:
        meeting = sys.modules.get("alexnet_cli.core.meeting")
        if meeting is not None and meeting.has_met and isinstance(ending.code, int):
            meeting.end_at_once(ending.code)
        raise
