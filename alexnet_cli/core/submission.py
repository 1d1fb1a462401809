"""The ImageNet challenge's own form for answers: five class numbers a line, in the order of the pictures' numbers (no torch)."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from alexnet_cli.core.errors import DataError, SourceError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.imagenet import NUM_CLASSES, read_devkit

PICTURE = re.compile(r"ILSVRC20\d\d_(?:val|test)_(\d{8})(?!\d)")
PER_LINE = 5


def class_numbers(kit: Path, classes: Sequence[str]) -> dict[str, int]:
    """Return the number that the development kit gives each class, 1 to 1,000, whose order is not that of the ids.

    kit: its folder or archive. Raises SourceError when it is no kit or does not know a class.
    """
    found = read_devkit(kit) if kit.exists() else None
    if found is None:
        raise SourceError(f"no development kit in {kit}", hint="name ILSVRC2012_devkit_t12.tar.gz or the folder that holds it")
    numbers = {class_id: number for number, class_id in found.wnids.items() if 1 <= number <= NUM_CLASSES}
    unknown = [name for name in classes if name not in numbers]
    if unknown:
        raise SourceError(
            f"the development kit {kit} has no number for {len(unknown):,} of {len(classes):,} classes, such as {unknown[0]!r}",
            hint="a submission needs weights whose classes are ILSVRC-2012's, by their WordNet ids",
        )
    if len(classes) < PER_LINE:
        raise SourceError(f"{len(classes)} classes, a line of a submission has {PER_LINE} different ones")
    return {name: numbers[name] for name in classes}


class Submission:
    """Collects a submission's lines as predictions come, in any order.

    numbers: of each class. filler: the line of a picture that is missing; it is counted as wrong or, by chance, as right.
    """

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers
        self._lines: dict[int, str] = {}
        self.filler = " ".join(str(number) for number in sorted(numbers.values())[:PER_LINE])

    def add(self, name: str, classes: Sequence[str]) -> None:
        """Note the most probable classes of a picture; raises DataError where its name has no number, or one for a second time."""
        found = PICTURE.search(name.rpartition("/")[2])
        if found is None:
            raise DataError(
                f"{name!r} is not named like the challenge's pictures, ILSVRC2012_test_00000001.JPEG",
                hint="keep the names; a store of an earlier version has none: make it anew with alexnet prepare --force",
            )
        number = int(found[1])
        if number in self._lines or number < 1:
            raise DataError(f"{name!r} is the second picture with the number {number}" if number else f"{name!r} has number 0")
        self._lines[number] = " ".join(str(self._numbers[class_id]) for class_id in classes[:PER_LINE])

    def write(self, path: Path) -> tuple[int, int]:
        """Write the lines, whole or not at all; return how many there are, and how many of them stand for missing pictures."""
        count = max(self._lines, default=0)
        if not count:
            raise DataError("no picture could be read, so there is nothing to submit")
        text = "".join(f"{self._lines.get(number, self.filler)}\n" for number in range(1, count + 1))
        write_atomically(path, partial(_put, text=text))
        return count, count - len(self._lines)


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
