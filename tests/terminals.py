"""A terminal that keeps what is written to it."""

import os
import pty
import re
import sys
from collections.abc import Callable

import pytest


def shown_on_a_terminal(write: Callable[[], None], columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what ``write`` shows on standard error, a terminal of a width, without the codes for colour and cursor."""
    parent, child = pty.openpty()
    with os.fdopen(child, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "stderr", stream)
        write()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", _read_all(parent))


def _read_all(terminal: int) -> str:
    # The kernel hands over what was written piece by piece, and one read may come before the last piece.
    chunks = []
    try:
        while chunk := os.read(terminal, 65536):
            chunks.append(chunk)
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(terminal)
    return b"".join(chunks).decode()
