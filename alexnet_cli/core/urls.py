"""A picture from the web: its bytes, within limits of size and time (stdlib only)."""

import contextlib
import socket
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Timer
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from alexnet_cli import __version__
from alexnet_cli.core.connection import WebOnly
from alexnet_cli.core.errors import DownloadError, ImageError
from alexnet_cli.core.images import begins_like_picture

LARGEST = 1 << 26  # bytes: 64 MiB, more than any photograph
PATIENCE = 10.0  # seconds without a sign of life
DEADLINE = 60.0  # seconds for one picture
PIECE = 1 << 16  # bytes read at a time
SAFE = "%/:=&?~#+!$,;'@()*[]"  # what an address may hold as it is


def fetch(url: str, *, largest: int = LARGEST, patience: float = PATIENCE, deadline: float = DEADLINE) -> bytes:
    """Return what lies at an http or https address; it may lead to another such one, but not from https to http.

    largest: bytes. patience, deadline: seconds without an answer, and for all of it.
    Raises ImageError with the reason, without the address.
    """
    ends = time.monotonic() + deadline
    try:
        asked = request.Request(quote(url, safe=SAFE), headers={"User-Agent": f"alexnet-cli/{__version__}"})
        with _opened_until(ends) as opened, _opener(opened).open(asked, timeout=patience) as answer:
            content = _content(answer, largest, ends, deadline)
            kind = answer.headers.get_content_type()
    except HTTPError as error:
        error.close()
        raise ImageError(f"the server answered {error.code} {' '.join(str(error.reason).split())}") from error
    except DownloadError as error:
        raise ImageError(f"not followed: {error.message}") from error
    except (OSError, HTTPException, ValueError) as error:
        if time.monotonic() >= ends:
            raise ImageError(f"too slow: no whole picture in {deadline:g} seconds") from error
        cause = error.reason if isinstance(error, URLError) else error
        raise ImageError(_no_answer(cause, patience)) from error
    if kind.startswith("text/") and not begins_like_picture(content):
        raise ImageError(f"not a picture: the server sent {kind}")
    return content


def _content(answer: HTTPResponse, largest: int, ends: float, deadline: float) -> bytes:
    """Read piece by piece, as a slow server or an endless answer would else never let go."""
    expected = answer.length or 0
    if expected > largest:
        raise ImageError(f"too large: {expected:,} bytes, more than {largest:,}")
    pieces, received = [], 0
    while piece := answer.read1(PIECE):
        pieces.append(piece)
        received += len(piece)
        if received > largest:
            raise ImageError(f"too large: more than {largest:,} bytes")
        if time.monotonic() >= ends:
            break
    if time.monotonic() >= ends:
        raise ImageError(f"too slow: {received:,} bytes in {deadline:g} seconds")
    if received < expected:
        raise ImageError(f"cut short: {received:,} of {expected:,} bytes came")
    return b"".join(pieces)


def _no_answer(cause: object, patience: float) -> str:
    if isinstance(cause, TimeoutError):
        return f"no answer within {patience:g} seconds"
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return f"cannot be fetched: {reason}"


@contextlib.contextmanager
def _opened_until(ends: float) -> Iterator[list[socket.socket]]:
    """Give a list for connections, which are shut when the time is over: none of their reads waits on, however short it is."""
    opened: list[socket.socket] = []

    def shut() -> None:
        for connection in opened:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    timer = Timer(ends - time.monotonic(), shut)
    timer.daemon = True
    timer.start()
    try:
        yield opened
    finally:
        timer.cancel()
        for connection in opened:  # a refused redirection leaves its own open
            if (number := connection.detach()) >= 0:
                socket.close(number)


class _Connection(HTTPConnection):
    """A connection that puts its socket into a list."""

    def __init__(self, *given: Any, opened: list[socket.socket], **named: Any) -> None:
        super().__init__(*given, **named)
        self._opened = opened

    def connect(self) -> None:
        """Connect."""
        super().connect()
        self._opened.append(self.sock)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Handler(request.HTTPHandler, request.HTTPSHandler):
    """Opens the connections of both schemes, so that their list is kept."""

    def __init__(self, opened: list[socket.socket]) -> None:
        super().__init__()
        self._opened = opened

    def http_open(self, req: request.Request) -> HTTPResponse:
        """Ask for an http address."""
        return self.do_open(partial(_Connection, opened=self._opened), req)

    def https_open(self, req: request.Request) -> HTTPResponse:
        """Ask for an https address."""
        return self.do_open(partial(_SecureConnection, opened=self._opened), req)


def _opener(opened: list[socket.socket]) -> request.OpenerDirector:
    """Return an opener for http and https alone: an answer may lead to neither a file nor FTP. opened: gets its connections."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.UnknownHandler(),
        _Handler(opened),
        request.HTTPDefaultErrorHandler(),
        WebOnly(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
