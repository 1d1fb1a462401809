"""Named tensors <> one safetensors file: an 8-byte length, a JSON header, the bytes; no pickle anywhere.

Written here rather than by the safetensors package, whose order of the metadata changes from process to process: the same
content gives the same bytes. Reading is the package's; this file says in words what is wrong with a file that it refuses.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.files import write_atomically

TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "uint8": "U8", "bool": "BOOL"}
HEADER_LIMIT = 100_000_000  # the format's own


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts as one safetensors file, atomically; the memory needed is that of one array.

    arrays: C-contiguous or not, little-endian, of a type in TYPES. Raises as `write_atomically`.
    """
    # Widest types first, as the format wants them: every array then starts at a multiple of its own width.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        header[name] = {"dtype": TYPES[arrays[name].dtype.name], "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                file.write(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)

    write_atomically(path, write)


def read_tensors(path: Path, *, kind: str, hint: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a file's tensors, mapped into memory rather than read, and its metadata.

    kind, hint: what the file is called, and what to do without it, in the messages.
    Raises CheckpointError when it is missing, a folder, cut short or no safetensors file.
    """
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder, expected a {kind}", hint=hint)
        damage = find_damage(path)
        if damage:
            raise CheckpointError(f"{path} {damage}", hint=hint)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"no {kind} {path}", hint=hint) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}", hint=hint) from error


def find_damage(path: Path) -> str:
    """Say what is wrong with a file that safetensors cannot read, as the end of the sentence "FILE ..."; "" when nothing is.

    Raises OSError when the file cannot be read at all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, HEADER_LIMIT))
    if size == 0:
        return "is empty"
    if size < 8 or length > HEADER_LIMIT or not text.startswith(b"{"):
        return "is not a safetensors file"
    if len(text) < length:
        return f"is cut short: {size:,} bytes, expected at least {8 + length:,}"
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(text).items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return "is not a safetensors file: its header is damaged"
    if size < expected:
        return f"is cut short: {size:,} bytes, expected {expected:,}"
    return f"is damaged: {size:,} bytes, expected {expected:,}" if size > expected else ""
