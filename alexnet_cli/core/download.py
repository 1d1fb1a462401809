"""Download of one large file: patience with the network, and a check before the file counts (stdlib only).

The caller holds the folder against a second process (core/lock.py).
"""

import hashlib
import ssl
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from alexnet_cli.core.connection import MEGABYTE, Remote, fetch, part_of, size_of, version_of
from alexnet_cli.core.errors import DownloadError
from alexnet_cli.core.files import sync
from alexnet_cli.core.reports import Reporter

TIMEOUT = 30.0  # seconds without a byte
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before another try
ENOUGH = 10 * MEGABYTE  # a try that brought so much is no failure of the server: the pauses begin anew
BUSY = (408, 425, 429)  # like all 5xx, answers that another try may better


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
    while remote.num_bytes is None or size_of(part) != remote.num_bytes:
        before = size_of(part)
        try:
            fetch(remote, part, reporter, timeout)
            break
        except (OSError, HTTPException) as error:
            reporter.finish()
            if isinstance(error, HTTPError):
                error.close()
            if not _may_pass(error):
                raise _refusal(remote, path, error) from error
            if size_of(part) - before >= ENOUGH:
                left = list(pauses)
            if not left:
                raise _failure(remote, path, error, tries=len(pauses) + 1) from error
            reporter.note(f"{_reason(error)}; trying again in {left[0]:g} s")
            time.sleep(left.pop(0))
    reporter.finish()
    _check(part, remote)
    sync(part)
    part.replace(path)
    version_of(part).unlink(missing_ok=True)
    sync(path.parent)


def find_mismatch(path: Path, remote: Remote) -> str:
    """Say in what a file differs from what was meant, as the end of the sentence "FILE ..."; "" where it does not."""
    size = size_of(path)
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
        version_of(part).unlink(missing_ok=True)
        raise DownloadError(
            f"what came from {remote.url} {mismatch}",
            hint="it was removed; run the same command again, and if that does not help the file there is another one now",
        )


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
    kept = size_of(part_of(path))
    so_far = f"; {kept / 1e6:,.1f} MB are kept, and the same command goes on from there" if kept else ""
    host = urlsplit(remote.url).hostname
    return DownloadError(f"no download from {host} in {tries} tries: {_reason(error)}{so_far}", hint=_by_hand(remote, path))


def _by_hand(remote: Remote, path: Path) -> str:
    return f"download {remote.url} on another machine, put it at {path}, and run the same command again"
