"""What kind of file holds a network's weights, by its first bytes and not by its name (no torch)."""

import json
from pathlib import Path

from alexnet_cli.core.wire import BYTES, MOST_BYTES, VARINT, WireError, fields, mapped

OURS, SAFETENSORS, ONNX, CAFFE, TORCH = "ours", "safetensors", "onnx", "caffemodel", "torch"
FOREIGN = (SAFETENSORS, ONNX, CAFFE, TORCH)
# What people have in place of a network, and what it then is.
MISTAKEN = (
    (b"\x89HDF", "is an HDF5 file"),
    (b"version https://git-lfs", "is a pointer of Git LFS to the file, not the file itself"),
    (b"\x93NUMPY", "is a NumPy array"),
    (b"\x1f\x8b", "is compressed by gzip"),
)
OUR_FORMAT = "alexnet-weights"  # of a weights file's metadata
MOST_HEADER = 100_000_000  # bytes, safetensors' own limit
START = 4096


def kind_of(path: Path) -> tuple[str, str]:
    """Return a file's kind, one of OURS and FOREIGN, or "" and what it is instead, as the end of the sentence "FILE ...".

    Raises OSError when the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(START)
    for beginning, what in MISTAKEN:
        if start.startswith(beginning):
            return "", what
    if not start:
        return "", "is empty"
    if start.lstrip()[:1] == b"<":
        return "", "is a web page, not a network"
    size = path.stat().st_size
    if size > MOST_BYTES:
        return "", f"has {size:,} bytes, expected a network of at most {MOST_BYTES:,}"
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return TORCH, ""
    if start[8:9] == b"{":
        return _safetensors(path), ""
    return _protobuf(path)


def _safetensors(path: Path) -> str:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, MOST_HEADER))
    try:
        return OURS if json.loads(text)["__metadata__"]["format"] == OUR_FORMAT else SAFETENSORS
    except (ValueError, LookupError, TypeError, RecursionError):
        return SAFETENSORS


def _protobuf(path: Path) -> tuple[str, str]:
    """Tell ONNX (a version, then a graph as field 7) from Caffe (layers as field 2 or 100); both are protocol buffers."""
    found: set[tuple[int, int]] = set()
    problem = "is neither ONNX, a .caffemodel, a .pth nor safetensors"
    try:
        for number, wire_type, _ in fields(mapped(path)):
            found.add((number, wire_type))
    except WireError as error:
        problem = f"{problem}: {error}"
    if {(1, VARINT), (7, BYTES)} <= found:
        return ONNX, ""
    if {(2, BYTES), (100, BYTES)} & found and (1, VARINT) not in found:
        return CAFFE, ""
    return "", problem
