"""Measure `alexnet prepare` against FFCV's writer and a loop with Pillow, on pictures like ImageNet's, and print Markdown.

The three are measured in turns on the same files; the medians are compared. Then come the time of each part of the work, and
how far the pixels are from those of Pillow alone. FFCV lives in an environment of its own: --ffcv names its Python.
"""

import argparse
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features

from alexnet_cli.core.conversion import CHUNK, Conversion, convert
from alexnet_cli.core.images import decode_record, encode_jpeg, square
from alexnet_cli.core.jpeg import decode_plain, plain_size
from alexnet_cli.core.memory import reuse_memory
from alexnet_cli.core.places import FilePlace
from alexnet_cli.core.scaling import centre, scale_array, scale_picture
from alexnet_cli.core.store_writer import StoreWriter
from alexnet_cli.core.sums import PixelSums
from benchmarks.__main__ import machine
from benchmarks.photographs import jpeg, make_source, mosaic, photographs, resized

IMAGENET = 1_281_167
CORES = 16
SIZES = ((500, 375), (400, 533), (260, 300), (1024, 768), (3000, 2000))
PREPARE = """
import sys
from pathlib import Path
from alexnet_cli.core.prepare import prepare
print(prepare(sys.argv[1], Path(sys.argv[2]), workers=int(sys.argv[3])).seconds)
"""
PACKAGES = ("pillow", "simplejpeg", "cykooz-resizer", "lmdb", "numpy")


def pillow_square(source: Path | BytesIO) -> Image.Image:
    """Return a picture as the usual few lines make it: all of it decoded and scaled, then its centre."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    factor = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)
    left, top = (picture.width - 256) // 2, (picture.height - 256) // 2
    return picture.crop((left, top, left + 256, top + 256))


def pillow_seconds(paths: Sequence[Path]) -> float:
    """Return the seconds of the loop with Pillow in this process: open, scale, crop, save as JPEG 95 in memory."""
    began = time.perf_counter()
    for path in paths:
        pillow_square(path).save(BytesIO(), "JPEG", quality=95)
    return time.perf_counter() - began


def our_seconds(source: Path, workers: int) -> float:
    """Return the seconds of `prepare` in a process of its own, the start of its workers included, its imports not."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", PREPARE, str(source), f"{out}/data", str(workers)]
        return printed_seconds(command)


def ffcv_seconds(python: str, source: Path, workers: int) -> float:
    """Return the seconds of FFCV's writer, its imports not included."""
    with tempfile.TemporaryDirectory() as out:
        command = [python, str(Path(__file__).with_name("ffcv_writer.py")), str(source / "train"), f"{out}/ffcv", str(workers)]
        return printed_seconds(command)


def printed_seconds(command: Sequence[str]) -> float:
    """Run a command whose last word is a number of seconds."""
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def compare(source: Path, ffcv: str | None, workers: int, repeats: int) -> None:
    """Print the table of the three."""
    paths = sorted((source / "train").rglob("*.JPEG"))
    ways: dict[str, Callable[[], float]] = {f"`alexnet prepare`, {workers} workers": lambda: our_seconds(source, workers)}
    if ffcv:
        ways[f"FFCV DatasetWriter, {workers} workers"] = lambda: ffcv_seconds(ffcv, source, workers)
    ways["loop with Pillow, 1 process"] = lambda: pillow_seconds(paths)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, seconds in ways.items():
            rates[name].append(len(paths) / seconds())
    medians = [statistics.median(values) for values in rates.values()]
    print("| what | images/s | lowest to highest | ours is faster by |\n|---|---|---|---|")
    for (name, values), median in zip(rates.items(), medians, strict=True):
        print(f"| {name} | {median:.0f} | {min(values):.0f} to {max(values):.0f} | {medians[0] / median:.2f} |")
    rate = medians[0] / workers
    print(
        f"\n{rate:.0f} images/s per core; ImageNet's {IMAGENET:,} pictures on {CORES} cores: {IMAGENET / rate / CORES / 60:.1f} min"
    )


def best(work: Callable[[Any], object], items: Iterable[Any], repeats: int = 5) -> float:
    """Return the milliseconds per item of the fastest of several passes."""
    items, passes = list(items), []
    for _ in range(repeats):
        began = time.perf_counter()
        for item in items:
            work(item)
        passes.append((time.perf_counter() - began) / len(items) * 1000)
    return min(passes)


def profile(source: Path) -> None:
    """Print what each part takes for a picture, in one process, with Pillow's time for the same beside it."""
    reuse_memory()
    paths = sorted((source / "train").rglob("*.JPEG"))[:200]
    contents = [path.read_bytes() for path in paths]
    arrays = [np.array(Image.open(BytesIO(content))) for content in contents]
    pictures = [Image.fromarray(array) for array in arrays]
    squares = [square(content) for content in contents]
    records = [encode_jpeg(image, 95) for image in squares]
    sums = PixelSums.of_few()
    rows: list[tuple[str, float, float | None]] = [
        ("read the file", best(Path.read_bytes, paths), None),
        ("decode it", best(lambda it: decode_plain(it, plain_size(it) or (0, 0)), contents), best(by_pillow, contents)),
        (
            "scale and cut",
            best(lambda it: scale_array(it, centre(it.shape[1], it.shape[0], 256), 256), arrays),
            best(lambda it: scale_picture(it, centre(it.width, it.height, 256), 256), pictures),
        ),
        ("encode", best(lambda it: encode_jpeg(it, 95), squares), None),
        ("decode the record", best(lambda it: decode_record(it, "jpeg"), records), best(by_pillow, records)),
        ("add to the sums", best(sums.add, squares[:50]), None),
        ("hand to another process", passing(source, paths), None),
        ("checksum and write", writing(records), None),
    ]
    print("\n| part, of one picture | ours, ms | Pillow, ms |\n|---|---|---|")
    for name, ours, theirs in rows:
        print(f"| {name} | {ours:.2f} | {f'{theirs:.2f}' if theirs else 'the same'} |")
    all_ours, all_theirs = sum(row[1] for row in rows), sum(row[2] or row[1] for row in rows)
    print(f"| all | {all_ours:.2f} | {all_theirs:.2f} |")
    limit = 1000 / (rows[0][1] + rows[1][1])
    print(f"\nOne core: {1000 / all_ours:.0f} images/s with all parts; {limit:.0f} if it only read and decoded.")


def by_pillow(content: bytes) -> np.ndarray:
    """Decode a JPEG file by Pillow into an array."""
    return np.array(Image.open(BytesIO(content)))


def passing(source: Path, paths: Sequence[Path]) -> float:
    """Return the milliseconds to pack and unpack what a worker sends for a picture."""
    chunk = [(path.name, FilePlace(path.parent, path.name)) for path in paths[:CHUNK]]
    converted = convert(chunk, Conversion(source, "jpeg", 95, with_sums=True))
    return best(lambda it: pickle.loads(pickle.dumps(it)), [converted] * 20) / CHUNK


def writing(records: Sequence[bytes]) -> float:
    """Return the milliseconds to add a record to a store, synced to disk at the end."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, StoreWriter(Path(folder) / "store", len(records) + 1) as writer:
        for record in records:
            writer.add([record], [], None)
        writer.add([], [("none", "the last")], None)
        writer.finish(np.zeros(len(records), np.int32), [""] * len(records), {"count": len(records)})
    return (time.perf_counter() - began) / len(records) * 1000


def accuracy(folder: Path | None, count: int) -> None:
    """Print how far our squares are from those that Pillow makes of the same files, in grey levels."""
    print("\n| size | pictures | mean difference | worst picture's mean | largest of a pixel |\n|---|---|---|---|---|")
    for width, height in SIZES:
        source = photographs(folder, seed=1)
        number = count if width < 1000 else count // 10
        large = (mosaic(source, width, height) for _ in range(number))
        small = (resized(picture, width, height) for picture in islice(source, number))
        means, largest = [], 0
        for picture in small if width < 1000 else large:
            content = jpeg(picture, 95)
            whole = Image.open(BytesIO(content))
            theirs = scale_picture(whole, centre(whole.width, whole.height, 256), 256)
            difference = np.abs(square(content).astype(int) - theirs)
            means.append(difference.mean())
            largest = max(largest, int(difference.max()))
        print(f"| {width}x{height} | {number} | {np.mean(means):.2f} | {max(means):.2f} | {largest} |")


def versions() -> str:
    """Name the versions of what decodes and scales."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return f"{', '.join(found)}; libjpeg-turbo {features.version('libjpeg_turbo')} in Pillow"


def main() -> None:
    """Print machine, versions and tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder of photographs to make them from (default: generated ones)")
    parser.add_argument("--ffcv", help="the Python of an environment with ffcv (default: FFCV is left out)")
    parser.add_argument("--count", type=int, default=2000, help="pictures (default: 2000)")
    parser.add_argument("--bytes", type=int, default=110_000, help="of each, about (default: 110000)")
    parser.add_argument("--workers", type=int, default=2, help="processes of ours and of FFCV's (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each (default: 5)")
    parser.add_argument("--accuracy", type=int, default=300, help="pictures to compare with Pillow's (default: 300)")
    arguments = parser.parse_args()
    print(f"{machine(torch.device('cpu'))}; {versions()}\n")
    with tempfile.TemporaryDirectory() as folder:
        size = make_source(Path(folder), arguments.pictures, arguments.count, arguments.bytes)
        print(
            f"{arguments.count} JPEG files of 500x375, {size / 1000:.0f} KB on average; {arguments.repeats} measurements of each\n"
        )
        compare(Path(folder), arguments.ffcv, arguments.workers, arguments.repeats)
        profile(Path(folder))
    accuracy(arguments.pictures, arguments.accuracy)


if __name__ == "__main__":
    main()
