"""The ImageNet challenge's own form for answers: five class numbers a line, in the order of the pictures' numbers (no torch)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from alexnet_cli.core.errors import DataError, SourceError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.imagenet import NUM_CLASSES, read_devkit
from alexnet_cli.core.input_places import Nowhere
from alexnet_cli.core.inputs import Input
from alexnet_cli.core.store import Store

PICTURE = re.compile(r"ILSVRC20\d\d_(?:val|test)_(\d{8})(?!\d)")
EXAMPLE = "ILSVRC2012_test_00000001.JPEG"
PER_LINE = 5
MOST_LINES = 100_000  # pictures of ILSVRC-2012's test, the largest set of the challenge


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
        self._taken: set[int] = set()
        self._lines: dict[int, str] = {}
        self.filler = " ".join(str(number) for number in sorted(numbers.values())[:PER_LINE])

    def numbered(self, inputs: Iterable[Input]) -> Iterator[Input]:
        """Note the numbers of pictures before they are read, so that one that cannot be read has its line too.

        A picture whose name has no number, or one that is taken, becomes one that cannot be read, and says why.
        """
        for one in inputs:
            number = _number(one.name)
            reason = self._refusal(number)
            if number is not None and not reason:
                self._taken.add(number)
            yield replace(one, place=Nowhere(reason)) if reason and not isinstance(one.place, Nowhere) else one

    def add(self, name: str, classes: Sequence[str]) -> None:
        """Note the most probable classes of a picture that `numbered` gave."""
        number = _number(name)
        assert number in self._taken and number not in self._lines
        self._lines[number] = " ".join(str(self._numbers[class_id]) for class_id in classes[:PER_LINE])

    def write(self, path: Path) -> tuple[int, int]:
        """Write the lines, whole or not at all; return how many there are, and how many of them stand for missing pictures."""
        if not self._lines:
            raise DataError("no picture could be read, so there is nothing to submit")
        count = max(self._taken)
        text = "".join(f"{self._lines.get(number, self.filler)}\n" for number in range(1, count + 1))
        write_atomically(path, partial(_put, text=text))
        return count, count - len(self._lines)

    def _refusal(self, number: int | None) -> str:
        """Return why a picture with this number cannot have a line, "" where it can."""
        if number is None:
            return f"not named like the challenge's pictures, such as {EXAMPLE}"
        if number in self._taken:
            return f"the second picture with the number {number:,}"
        return "" if 1 <= number <= MOST_LINES else f"its number is {number:,}, expected 1 to {MOST_LINES:,}"


def require_names(store: Store) -> None:
    """Raise DataError when a store keeps no names, which the numbers of its pictures stand in."""
    if store.names() is None:
        raise DataError(
            f"{store.folder} was made by an earlier version, which kept no names of pictures",
            hint='make it anew with "alexnet prepare SOURCE --force" to use --submission',
        )


def _number(name: str) -> int | None:
    found = PICTURE.search(name.rpartition("/")[2])
    return int(found[1]) if found else None


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
