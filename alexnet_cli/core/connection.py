"""One connection for one file: the rest of it where the server can continue, else all of it (stdlib only).

What has arrived lies beside the file under NAME.part, and in NAME.part.version what the server calls that version of it, so that
two halves of different files are never joined.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage, InvalidURL
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from alexnet_cli import __version__
from alexnet_cli.core.errors import DiskFullError, DownloadError
from alexnet_cli.core.files import write_error
from alexnet_cli.core.reports import Reporter

BLOCK = 1 << 16
MEGABYTE = 1_000_000
ADDRESS = "expected one such as https://mirror.example/file, as a browser copies it: %20 for a space, %C3%BC for ü"


@dataclass(frozen=True)
class Remote:
    """A file elsewhere.

    digest: "sha256:" or "sha1:" and its hexadecimal digits, all or the first ones. num_bytes: its size, where that is known.
    """

    url: str
    digest: str
    num_bytes: int | None = None


def part_of(path: Path) -> Path:
    """Return where a file's beginning lies until all of it has arrived."""
    return path.with_name(f"{path.name}.part")


def version_of(part: Path) -> Path:
    """Return where the server's name for the version of a part lies."""
    return part.with_name(f"{part.name}.version")


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def fetch(remote: Remote, part: Path, reporter: Reporter, timeout: float) -> None:
    """Bring the rest of a file, or all of it where the server cannot continue or has another version.

    Raises OSError and HTTPException when the connection fails, DownloadError for another file, DiskFullError.
    """
    have = size_of(part)
    try:
        response = _opener().open(_request(remote.url, part, have), timeout=timeout)
    except (ValueError, InvalidURL) as error:  # of its parts, or of what it leads to
        raise DownloadError(f"{remote.url} is no address for a download: {error}", hint=ADDRESS) from error
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        if _total(error.headers, start=have) == have:  # it broke off between the last byte and the new name
            return
        part.unlink()
        return fetch(remote, part, reporter, timeout)
    with response:
        start = _start(response, have)
        total = _total(response.headers, start)
        _require_meant(remote, response.headers, total)
        _require_room(part, total, start)
        if start == 0:
            _remember_version(part, response.headers)
        _write(response, part, start, total, reporter)


def _request(url: str, part: Path, have: int) -> Request:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise DownloadError(f"{url} is no address for a download, expected one that begins with http:// or https://")
    if not parts.hostname or parts.port == 0:  # the number is looked at here as well: a ValueError where it is none
        raise ValueError("it names no server")
    headers = {"User-Agent": f"alexnet-cli/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = version_of(part)
        if version.is_file():
            headers["If-Range"] = version.read_text(encoding="latin-1")
    return Request(url, headers=headers)


class WebOnly(HTTPRedirectHandler):
    """Follows a redirection to the web alone, and never from https to http."""

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        """Raise DownloadError where it leads elsewhere."""
        target = urljoin(req.full_url, headers.get("location") or headers.get("uri") or "")
        wanted = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(target).scheme not in wanted:
            expected = " or ".join(f"{scheme}://" for scheme in wanted)
            raise DownloadError(f"{req.full_url} leads to {target}, expected an address that begins with {expected}")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> OpenerDirector:
    return build_opener(WebOnly)  # with the proxies of the environment


def _start(response: Any, have: int) -> int:
    """Return at which byte of the file the answer begins."""
    if response.status != 206:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    start = int(found[1]) if found else -1
    if start != have:
        raise ConnectionError(f"the server continued at byte {start:,}, not at {have:,}")
    return start


def _total(headers: Message, start: int) -> int | None:
    """Return the size of the whole file, where the server says it."""
    said = re.search(r"/(\d+)\s*$", headers.get("Content-Range", ""))
    if said:
        return int(said[1])
    length = headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _require_meant(remote: Remote, headers: Message, total: int | None) -> None:
    """Refuse, before the part is touched, what cannot be the file: another size, or the page of a network that wants a login."""
    if headers.get("Content-Type", "").startswith("text/html"):
        raise DownloadError(
            f"{remote.url} answers with a web page, expected the file", hint="open it in a browser: the network may want a login"
        )
    if remote.num_bytes is not None and total is not None and total != remote.num_bytes:
        raise DownloadError(
            f"{remote.url} has {total:,} bytes, expected {remote.num_bytes:,}", hint="the file there is another one"
        )


def _require_room(part: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(part.parent).free + size_of(part) - start
    if total is not None and total - start > free:
        raise DiskFullError(
            f"{part.parent} needs {(total - start) / 1e6:,.1f} MB more, {free / 1e6:,.1f} MB are free",
            hint="free some space, or set ALEXNET_CACHE to a folder on another disk, then run the same command again",
        )


def _write(response: Any, part: Path, start: int, total: int | None, reporter: Reporter) -> None:
    whole = round((total or 0) / MEGABYTE)
    shown = start // MEGABYTE
    reporter.start("download", whole, "MB", done=shown)
    end = start
    with _writing(part), part.open("r+b" if start else "wb") as file:
        file.seek(start)
        while block := _read(response):
            file.write(block)
            end += len(block)
            if end // MEGABYTE > shown:
                reporter.advance(end // MEGABYTE - shown)
                shown = end // MEGABYTE
    if total is not None and end < total:
        raise ConnectionError(f"the connection was closed after {end:,} of {total:,} bytes")


class _ReadError(Exception):
    """A failure of the network inside a block whose OSErrors are the disk's."""


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read(BLOCK))
    except (OSError, HTTPException) as error:
        raise _ReadError from error


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except _ReadError as error:
        assert error.__cause__ is not None
        raise error.__cause__ from None
    except OSError as error:
        raise write_error(part, error.errno or 0) from error


def _remember_version(part: Path, headers: Message) -> None:
    """Keep what If-Range may be asked with: an ETag that stands for the very bytes, else the date."""
    etag = headers.get("ETag", "")
    version = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
    with _writing(part):
        part.write_bytes(b"")  # first: the new version's name must never stand beside the old one's bytes
        if version:
            version_of(part).write_text(version, encoding="latin-1")
        else:
            version_of(part).unlink(missing_ok=True)
