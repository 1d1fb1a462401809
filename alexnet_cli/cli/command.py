"""What surrounds every command: its reporter, its errors as text, its exit code.

It sits inside each command instead of in `main`, because the test runner calls commands and would not see it there.
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from alexnet_cli.cli.render import TerminalReporter, print_error
from alexnet_cli.core.errors import AlexNetError, ElsewhereError

FAILED, USAGE, SIGNALLED = 1, 2, 128  # the shell's convention: 128 + the signal's number
INTERRUPTED, TERMINATED = SIGNALLED + signal.SIGINT, SIGNALLED + signal.SIGTERM


@contextmanager
def running(*, quiet: bool = False, debug: bool = False) -> Iterator[TerminalReporter]:
    """Run a command's body: it gets the reporter, and what it raises becomes `error:` and `hint:` on stderr and an exit code.

    debug: print the traceback too. Raises typer.Exit with FAILED, or INTERRUPTED after Ctrl-C; SystemExit with TERMINATED after
    SIGTERM; usage errors pass through.
    """
    reporter = TerminalReporter(quiet=quiet)
    before = _stop_on_sigterm()
    try:
        yield reporter
        reporter.finish()
        sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        reporter.finish()
        print_error("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except ElsewhereError as error:
        reporter.finish()
        raise typer.Exit(FAILED) from error
    except Exception as error:
        reporter.finish()
        if debug:
            traceback.print_exc()
        print_error(*describe(error))
        raise typer.Exit(FAILED) from error
    finally:
        reporter.finish()
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def describe(error: Exception) -> tuple[str, str]:
    """Return what to tell the user of an error: message and hint."""
    if isinstance(error, AlexNetError):
        return error.message, error.hint
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return f"out of memory: {_first_line(error)}", "a smaller --batch-size needs less"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {error}", "free some space and run the same command again"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, ""
    kind = type(error).__name__
    return f"unexpected {kind}: {_first_line(error)}", "this is a fault of alexnet; --debug shows the traceback to report"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _stop_on_sigterm() -> Any:
    """Let SIGTERM unwind the command, so that temporary files and workers go; return the handler before, None if not set."""
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker has nothing to tidy up and must not run the parent's
            os._exit(TERMINATED)
        sys.exit(TERMINATED)

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may: elsewhere, as in a notebook, the caller's handling stands
        return None
