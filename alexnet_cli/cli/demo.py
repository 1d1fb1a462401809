"""`alexnet demo`: the five commands on real handwritten digits, each printed so that it can be repeated."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from alexnet_cli.cli.command import INTERRUPTED, TERMINATED, running
from alexnet_cli.cli.options import DebugOption, QuietOption
from alexnet_cli.cli.render import duration, paint, percent, print_facts
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.reports import Reporter


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the training; the digits held out stay the same.")] = 0,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the five commands on real handwritten digits.

    It takes four to twenty minutes, by the processor: 1,797 digits from 13 hands, which come with scikit-learn.
    Repeated, it continues where it was interrupted; a finished training is not done again.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.digits import lay_out_digits

        began = time.monotonic()
        _tell_where_alexnet_is(reporter)
        lay_out_digits(out / "source", reporter)
        shell = Shell(reporter, quiet=quiet)
        evaluation = _five_commands(shell, out, seed)
        summary = {
            "top1_error": evaluation["top1_error"],
            "images": evaluation["images"],
            "steps": _steps(out, seed),
            "seconds": round(time.monotonic() - began, 1),
        }
        text = json.dumps(summary, indent=2) + "\n"
        write_atomically(out / "summary.json", lambda partial: _write_text(partial, text))
        _print(summary, out, _run_name(seed))


class Shell:
    """Runs `alexnet` commands in processes of their own, printing each as a user would type it."""

    def __init__(self, reporter: Reporter, *, quiet: bool = False) -> None:
        self._reporter = reporter
        self._quiet = quiet

    def run(self, *arguments: object, capture: bool = False) -> str:
        """Run one command; its output goes where ours goes, its results are returned too with `capture`.

        Raises AlexNetError when it fails, KeyboardInterrupt and SystemExit(TERMINATED) when it was stopped.
        """
        words = [str(argument) for argument in arguments]
        self._reporter.note(paint(f"\n$ {shlex.join(['alexnet', *words])}", "bold", sys.stderr))
        flags = ["--quiet"] if self._quiet else []
        command = [sys.executable, "-m", "alexnet_cli", *flags, *words]
        output, code = _attend(command, capture=capture)
        print(output, end="", flush=True)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == TERMINATED:
            sys.exit(TERMINATED)
        if code:
            raise AlexNetError(
                f"alexnet {words[0]} failed with exit code {code}", hint="its own message is above; then repeat this command"
            )
        return output


def _attend(command: Sequence[str], *, capture: bool) -> tuple[str, int]:
    """Run a command to its end. Ctrl-C reaches it as well as us: it saves and stops, and we wait for that.

    SIGTERM reaches us alone and is passed on.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE if capture else None, text=True)
    try:
        while True:
            try:
                output, _ = process.communicate()
                return output or "", process.returncode
            except KeyboardInterrupt:
                continue
    except SystemExit:
        process.terminate()
        process.wait()
        raise


def _five_commands(shell: Shell, out: Path, seed: int) -> dict[str, Any]:
    """Prepare, train, evaluate, predict, draw; return what `evaluate --json` said."""
    name = _run_name(seed)
    best = out / "runs" / name / "best.safetensors"
    shell.run("prepare", out / "source", "--out", out / "data")
    settings = ["--recipe", "small", "--no-mirror", "--batch-size", 128, "--epochs", 10, "--seed", seed]
    shell.run("train", "--data", out / "data", "--runs", out / "runs", "--run", name, *settings, "--auto-resume")
    evaluation = shell.run("evaluate", best, "--data", out / "data", "--json", capture=True)
    shell.run("predict", _one_picture(out / "source" / "val"), "--weights", best)
    shell.run("filters", "--weights", best, "--out", out / "filters.png")
    return json.loads(evaluation)


def _run_name(seed: int) -> str:
    return "digits" if seed == 0 else f"digits-{seed}"


def _one_picture(val: Path) -> Path:
    return min((val / "7").iterdir())


def _steps(out: Path, seed: int) -> int:
    from alexnet_cli.core.checkpoint import load_weights

    return load_weights(out / "runs" / _run_name(seed) / "last.safetensors").step


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _tell_where_alexnet_is(reporter: Reporter) -> None:
    if shutil.which("alexnet") is None:
        folder = Path(sys.executable).parent
        reporter.note(f"to repeat a command below, type {folder / 'alexnet'} for alexnet, or first: source {folder / 'activate'}")


def _print(summary: dict[str, Any], out: Path, run: str) -> None:
    print()
    print_facts(
        [
            ("top-1 error", f"{percent(summary['top1_error'])} of {summary['images']} digits that it was not trained on"),
            ("training", f"{summary['steps']} steps; the demo took {duration(summary['seconds'])}"),
            ("pictures", f"{out / 'source'}, as they were prepared: {out / 'data'}"),
            ("weights, log", out / "runs" / run),
            ("filters", f"{out / 'filters.png'}: what conv1 has learned"),
            ("summary", out / "summary.json"),
        ]
    )
