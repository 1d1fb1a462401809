"""A picture from the web: its bytes, within limits of size and time (stdlib only)."""

import time
from http.client import HTTPException, HTTPResponse
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from alexnet_cli import __version__
from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.images import begins_like_picture

LARGEST = 1 << 26  # bytes: 64 MiB, more than any photograph
PATIENCE = 10.0  # seconds without a sign of life
DEADLINE = 60.0  # seconds for one picture
PIECE = 1 << 16  # bytes read at a time
SAFE = "%/:=&?~#+!$,;'@()*[]"  # what an address may hold as it is


def fetch(url: str, *, largest: int = LARGEST, patience: float = PATIENCE, deadline: float = DEADLINE) -> bytes:
    """Return what lies at an http or https address; other schemes are not followed either.

    largest: bytes. patience, deadline: seconds without an answer, and for all of it.
    Raises ImageError with the reason, without the address.
    """
    ends = time.monotonic() + deadline
    try:
        asked = request.Request(quote(url, safe=SAFE), headers={"User-Agent": f"alexnet-cli/{__version__}"})
        with _opener().open(asked, timeout=patience) as answer:
            content = _content(answer, largest, ends, deadline)
            kind = answer.headers.get_content_type()
    except HTTPError as error:
        error.close()
        raise ImageError(f"the server answered {error.code} {' '.join(str(error.reason).split())}") from error
    except (OSError, HTTPException, ValueError) as error:
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
        if time.monotonic() > ends:
            raise ImageError(f"too slow: {received:,} bytes in {deadline:g} seconds")
    if received < expected:
        raise ImageError(f"cut short: {received:,} of {expected:,} bytes came")
    return b"".join(pieces)


def _no_answer(cause: object, patience: float) -> str:
    if isinstance(cause, TimeoutError):
        return f"no answer within {patience:g} seconds"
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return f"cannot be fetched: {reason}"


def _opener() -> request.OpenerDirector:
    """Return an opener for http and https alone: an answer may redirect to neither a file nor FTP."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
