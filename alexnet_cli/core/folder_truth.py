"""The true class of a picture, from the folder that it lies in; it must not import torch."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from alexnet_cli.core.inputs import Input


def from_folders(inputs: Iterable[Input], classes: Sequence[str], words: Sequence[str]) -> Iterator[Input]:
    """Give pictures the class after which their folder is named: its id, all its words, or the first of them.

    Words that several classes share name none of them; a picture in another folder keeps what was known of it.
    """
    known = _names(classes, words)
    for one in inputs:
        truth = known.get(PurePath(one.name).parent.name)
        yield one if truth is None else replace(one, truth=truth)


def _names(classes: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    firsts = [text.split(",")[0] for text in words]
    for texts in (firsts, words):  # the later, the stronger
        counts = Counter(texts)
        named |= {text: name for text, name in zip(texts, classes, strict=True) if text and counts[text] == 1}
    return named | {name: name for name in classes}
