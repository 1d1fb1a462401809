"""Download of one large file over http or https: it goes on where it broke off, and is checked before it counts (stdlib only).

What has arrived lies beside the file under NAME.part, and in NAME.part.version what the server calls that version of it, so that
two halves of different files are never joined. The caller holds the folder against a second process (core/lock.py).
"""

import contextlib
import hashlib
import re
import shutil
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from alexnet_cli import __version__
from alexnet_cli.core.errors import DiskFullError, DownloadError
from alexnet_cli.core.files import sync, write_error
from alexnet_cli.core.reports import Reporter

BLOCK = 1 << 16
MEGABYTE = 1_000_000
TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before another try
ENOUGH = 10 * MEGABYTE  # a try that brought so much is no failure of the server: the pauses begin anew
BUSY = (408, 425, 429)  # like all 5xx, answers that another try may better


@dataclass(frozen=True)
class Remote:
    """A file elsewhere.

    digest: "sha256:" or "sha1:" and its hexadecimal digits, all or the first ones. num_bytes: its size, where that is known.
    """

    url: str
    digest: str
    num_bytes: int | None = None


def download(
    remote: Remote,
    path: Path,
    *,
    reporter: Reporter | None = None,
    timeout: float = TIMEOUT,
    pauses: Sequence[float] = PAUSES,
) -> None:
    """Give a path the content of a file elsewhere, whole and checked, or leave what has arrived for the next call.

    timeout: seconds without a byte after which a connection counts as lost. pauses: seconds before each further try.
    Raises DownloadError when it cannot be had or is not the file that was meant, DiskFullError when there is no room.
    """
    reporter = reporter or Reporter()
    part = part_of(path)
    left = list(pauses)
    while remote.num_bytes is None or _size(part) != remote.num_bytes:
        before = _size(part)
        try:
            _fetch(remote, part, reporter, timeout)
            break
        except (OSError, HTTPException) as error:
            reporter.finish()
            if isinstance(error, HTTPError):
                error.close()
            if not _may_pass(error):
                raise _refusal(remote, path, error) from error
            if _size(part) - before >= ENOUGH:
                left = list(pauses)
            if not left:
                raise _failure(remote, path, error, tries=len(pauses) + 1) from error
            reporter.note(f"{_reason(error)}; trying again in {left[0]:g} s")
            time.sleep(left.pop(0))
    reporter.finish()
    _check(part, remote)
    sync(part)
    part.replace(path)
    _version_of(part).unlink(missing_ok=True)
    sync(path.parent)


def part_of(path: Path) -> Path:
    """Return where a file's beginning lies until all of it has arrived."""
    return path.with_name(f"{path.name}.part")


def find_mismatch(path: Path, remote: Remote) -> str:
    """Say in what a file differs from what was meant, as the end of the sentence "FILE ..."; "" where it does not."""
    size = _size(path)
    if remote.num_bytes is not None and size != remote.num_bytes:
        return f"has {size:,} bytes, expected {remote.num_bytes:,}"
    algorithm, _, expected = remote.digest.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    return "" if found.startswith(expected) else f"has the {algorithm} {found}, expected {expected}"


def _check(part: Path, remote: Remote) -> None:
    mismatch = find_mismatch(part, remote)
    if mismatch:
        part.unlink()
        _version_of(part).unlink(missing_ok=True)
        raise DownloadError(
            f"what came from {remote.url} {mismatch}",
            hint="it was removed; run the same command again, and if that does not help the file there is another one now",
        )


# One connection ----------------------------------------------------------------------------------------------------------------


def _fetch(remote: Remote, part: Path, reporter: Reporter, timeout: float) -> None:
    """Bring the rest of a file, or all of it where the server cannot continue or has another version.

    Raises OSError and HTTPException when the connection fails, DownloadError for another file, DiskFullError.
    """
    have = _size(part)
    try:
        response = _opener().open(_request(remote.url, part, have), timeout=timeout)
    except HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        if _total(error.headers, start=have) == have:  # it broke off between the last byte and the new name
            return
        part.unlink()
        return _fetch(remote, part, reporter, timeout)
    with response:
        start = _start(response, have)
        total = _total(response.headers, start)
        _require_meant(remote, response.headers, total)
        _require_room(part, total, start)
        if start == 0:
            _remember_version(part, response.headers)
        _write(response, part, start, total, reporter)


def _request(url: str, part: Path, have: int) -> Request:
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} is no address for a download, expected one that begins with http:// or https://")
    headers = {"User-Agent": f"alexnet-cli/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = _version_of(part)
        if version.is_file():
            headers["If-Range"] = version.read_text(encoding="latin-1")
    return Request(url, headers=headers)


class _WebOnly(HTTPRedirectHandler):
    """Follows a redirection to the web alone, and never from https to http."""

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        target = urljoin(req.full_url, headers.get("location") or headers.get("uri") or "")
        wanted = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(target).scheme not in wanted:
            expected = " or ".join(f"{scheme}://" for scheme in wanted)
            raise DownloadError(f"{req.full_url} leads to {target}, expected an address that begins with {expected}")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> OpenerDirector:
    return build_opener(_WebOnly)  # with the proxies of the environment


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
    free = shutil.disk_usage(part.parent).free + _size(part) - start
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


# What the server calls the version ---------------------------------------------------------------------------------------------


def _version_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _remember_version(part: Path, headers: Message) -> None:
    """Keep what If-Range may be asked with: an ETag that stands for the very bytes, else the date."""
    etag = headers.get("ETag", "")
    version = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
    with _writing(part):
        part.write_bytes(b"")  # first: the new version's name must never stand beside the old one's bytes
        if version:
            _version_of(part).write_text(version, encoding="latin-1")
        else:
            _version_of(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


# What went wrong ---------------------------------------------------------------------------------------------------------------


def _may_pass(error: Exception) -> bool:
    """Say whether another try may succeed."""
    if isinstance(error, HTTPError):
        return error.code >= 500 or error.code in BUSY
    return not isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)


def _reason(error: Exception) -> str:
    """Name what happened in a few words."""
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    text = (inner.strerror if isinstance(inner, OSError) else "") or str(inner) or type(inner).__name__
    return text.strip().rstrip(".")


def _refusal(remote: Remote, path: Path, error: Exception) -> DownloadError:
    if isinstance(error, HTTPError):
        return DownloadError(f"{remote.url} cannot be had: {_reason(error)}", hint=_by_hand(remote, path))
    host = urlsplit(remote.url).hostname
    return DownloadError(
        f"the certificate of {host} cannot be verified: {_reason(error)}",
        hint="check the clock, or let SSL_CERT_FILE name the certificates of your network",
    )


def _failure(remote: Remote, path: Path, error: Exception, *, tries: int) -> DownloadError:
    kept = _size(part_of(path))
    so_far = f"; {kept / 1e6:,.1f} MB are kept, and the same command goes on from there" if kept else ""
    host = urlsplit(remote.url).hostname
    return DownloadError(f"no download from {host} in {tries} tries: {_reason(error)}{so_far}", hint=_by_hand(remote, path))


def _by_hand(remote: Remote, path: Path) -> str:
    return f"or download {remote.url} on another machine, put it at {path}, and run the same command again"
