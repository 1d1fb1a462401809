"""Protocol buffers on the wire: a message's fields, without a schema and without copying what they hold (stdlib and numpy).

Enough for Caffe's files, which then need no package: each field is a number, and either a whole number, four or eight bytes,
or a run of bytes that is a text, numbers or a message in turn.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # wire types; 3 and 4, groups, are in none of these files
MOST_FIELDS = 100_000  # of one message: Caffe's networks have some hundreds
MOST_INTEGERS = 1000  # of one field: settings and shapes have a handful
MOST_BYTES = 4_000_000_000  # of a file: AlexNet's have a sixteenth of that
Value = int | memoryview


class WireError(ValueError):
    """Bytes that are no message; the text is the reason alone."""


class Message:
    """A message's fields by number, each with all its values in order; the bytes stay where they are."""

    def __init__(self, data: memoryview) -> None:
        self._values: dict[int, list[tuple[int, Value]]] = {}
        for number, wire_type, value in fields(data):
            self._values.setdefault(number, []).append((wire_type, value))

    def has(self, number: int) -> bool:
        """Whether the field is there at all."""
        return number in self._values

    def messages(self, number: int) -> list["Message"]:
        """Return the messages in a field. Raises WireError where it holds something else."""
        return [Message(part) for part in self._runs(number)]

    def message(self, number: int) -> "Message":
        """Return the last message in a field, an empty one without."""
        parts = self._runs(number)
        return Message(parts[-1]) if parts else Message(memoryview(b""))

    def texts(self, number: int) -> list[str]:
        """Return the texts in a field."""
        return [bytes(part).decode("utf-8", "replace") for part in self._runs(number)]

    def text(self, number: int) -> str:
        """Return the last text in a field, an empty one without."""
        return (self.texts(number) or [""])[-1]

    def integers(self, number: int) -> list[int]:
        """Return the whole numbers in a field, written one by one or packed into runs."""
        found: list[int] = []
        for wire_type, value in self._values.get(number, []):
            if isinstance(value, int) and wire_type == VARINT:
                found.append(_signed(value))
            elif isinstance(value, memoryview):
                found += islice(_packed(value), MOST_INTEGERS + 1)
            else:
                raise WireError(f"field {number} holds no whole number")
            if len(found) > MOST_INTEGERS:
                raise WireError(f"field {number} holds more than {MOST_INTEGERS:,} whole numbers")
        return found

    def integer(self, number: int, default: int = 0) -> int:
        """Return the last whole number in a field, or the default."""
        return (self.integers(number) or [default])[-1]

    def number(self, number: int, default: float = 0.0) -> float:
        """Return the last 32-bit float in a field, or the default; 0.0001 is that, not the nearest float's 64 bits."""
        found = self._values.get(number)
        if not found:
            return default
        wire_type, value = found[-1]
        if not isinstance(value, int) or wire_type != FOUR_BYTES:
            raise WireError(f"field {number} holds no float")
        return shortest(struct.unpack("<f", struct.pack("<I", value))[0])

    def floats(self, number: int, dtype: str = "<f4") -> NDArray[np.floating]:
        """Return packed floats, the runs joined, as one flat array; of a single run without copying."""
        runs = [np.frombuffer(part, dtype) for part in self._runs(number, width=np.dtype(dtype).itemsize)]
        return runs[0] if len(runs) == 1 else np.concatenate([np.empty(0, dtype), *runs])

    def _runs(self, number: int, width: int = 1) -> list[memoryview]:
        found = [value for _, value in self._values.get(number, []) if isinstance(value, memoryview)]
        if len(found) != len(self._values.get(number, [])) or any(len(run) % width for run in found):
            raise WireError(f"field {number} is of another kind")
        return found


def mapped(path: Path) -> memoryview:
    """Return a file's bytes, mapped into memory rather than read. Raises WireError when it is far too large, OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise WireError(f"it has {size:,} bytes, expected at most {MOST_BYTES:,}")
        if size == 0:  # which cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def shortest(value: float) -> float:
    """Return the shortest decimal number that a 32-bit float stands for."""
    return float(str(np.float32(value)))


def fields(data: memoryview) -> Iterator[tuple[int, int, Value]]:
    """Go through a message: each field's number, wire type, and value or bytes. Raises WireError where it is none."""
    place = 0
    for _ in range(MOST_FIELDS):
        if place == len(data):
            return
        key, place = _varint(data, place)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise WireError("a field has no number")
        if wire_type == VARINT:
            value, place = _varint(data, place)
            yield number, wire_type, value
            continue
        width, place = _varint(data, place) if wire_type == BYTES else (_width(wire_type), place)
        if width > len(data) - place:
            raise WireError(f"it is cut short: a field of {width:,} bytes where {len(data) - place:,} remain")
        run, place = data[place : place + width], place + width
        yield number, wire_type, run if wire_type == BYTES else int.from_bytes(run, "little")
    if place != len(data):
        raise WireError(f"a message has more than {MOST_FIELDS:,} fields")


def _width(wire_type: int) -> int:
    if wire_type not in (FOUR_BYTES, EIGHT_BYTES):
        raise WireError(f"a field is of kind {wire_type}")
    return 4 if wire_type == FOUR_BYTES else 8


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place + index + 1
    raise WireError("it is cut short" if len(data) - place < 10 else "a number has more than 64 bits")


def _packed(data: memoryview) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield _signed(value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
