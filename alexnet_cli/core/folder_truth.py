"""The true class of a picture, from the folder that it lies in; it must not import torch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from alexnet_cli.core.inputs import Input
from alexnet_cli.core.truths import ClassNames


def from_folders(inputs: Iterable[Input], classes: Sequence[str], words: Sequence[str]) -> Iterator[Input]:
    """Give pictures the class after which their folder is named: its id, or a name that no other class has.

    A picture in another folder keeps what was known of it.
    """
    known = ClassNames(classes, words)
    for one in inputs:
        folder = PurePath(one.name).parent.name
        place = known.place(folder) if folder else None  # a class without words has none too
        yield one if place is None else replace(one, truth=classes[place])
