"""Public weights from a name to a weights file: download, check, conversion; each step is made once and kept."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.download import download, find_mismatch
from alexnet_cli.core.errors import AlexNetError, DownloadError
from alexnet_cli.core.lock import held
from alexnet_cli.core.onnx_reader import require_onnx
from alexnet_cli.core.public_weights import PublicWeights, cache_folder, original_path, weights_path
from alexnet_cli.core.reports import Reporter


def pull(
    entry: PublicWeights,
    *,
    convert: Callable[[Path], Weights] | None = None,
    url: str | None = None,
    again: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Return the weights file of public weights, after what is still missing of download and conversion.

    convert: reads the original file; None for the program's own reader of foreign formats. url: another place that has the same
    file. again: convert although that was done before. A file that was put in the place of the original by hand is taken when its
    checksum is right.
    Raises DownloadError, DiskFullError, what `convert` raises, and AlexNetError when another process is at it, or when the package
    that reads ONNX files is wanted and not installed.
    """
    reporter = reporter or Reporter()
    original, target = original_path(entry), weights_path(entry)
    if target.is_file() and not again:
        return target
    if original.suffix == ".onnx":  # before the download
        require_onnx()
    with held(target.parent, _busy(entry)):
        remote = replace(entry.remote, url=url or entry.remote.url)
        if not original.is_file():
            reporter.note(f"{entry.name}: {remote.url} > {original}")
            download(remote, original, reporter=reporter)
        else:
            mismatch = find_mismatch(original, remote)
            if mismatch:
                raise DownloadError(f"{original} {mismatch}", hint=f"alexnet weights remove {entry.name}, then pull it again")
        weights = (convert or _reader(reporter))(original)
        weights.source = f"{entry.name}, {entry.remote.url}, {entry.remote.digest}"
        save_weights(target, weights)
    return target


def remove(entry: PublicWeights) -> bool:
    """Delete what the cache holds of public weights; return whether there was anything."""
    folder = cache_folder() / entry.name
    if not folder.is_dir():
        return False
    with held(folder, _busy(entry)):
        shutil.rmtree(folder)
    return True


def _reader(reporter: Reporter) -> Callable[[Path], Weights]:
    from alexnet_cli.core.foreign import load_foreign

    return partial(load_foreign, reporter=reporter)


def _busy(entry: PublicWeights) -> AlexNetError:
    return AlexNetError(f"another process is pulling {entry.name}", hint="wait for it, then run the same command again")
