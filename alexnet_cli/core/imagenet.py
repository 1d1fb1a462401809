"""What is known of ILSVRC-2012: its development kit, its words, the labels of its validation pictures. No picture is read here.

Ground truth is given as numbers of the kit's own, whose order is not that of the WordNet ids: it is always translated to the
id first, and from there to a label.
"""

import csv
import io
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.core.errors import SourceError

NUM_CLASSES, NUM_VAL = 1000, 50_000
WNID = re.compile(r"(?<![A-Za-z0-9])n\d{8}(?!\d)")
VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.")
META, GROUND_TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
KIT_FOLDERS = ("data", "*/data", "*/*/data")
KIT_ARCHIVES = ("ILSVRC2012_devkit*.tar.gz", "ILSVRC2012_devkit*.tgz", "ILSVRC2012_devkit*.tar")
KIT_WANTED = "put ILSVRC2012_devkit_t12.tar.gz beside it for them"
SOLUTION, MAPPING = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
BUILT_IN = Path(__file__).with_name("ilsvrc2012.txt")
WORDS_FILES = ("synset_words.txt", MAPPING, "words.txt")

ClassList = tuple[tuple[str, ...], tuple[str, ...]]  # ids and words, in parallel
# From a picture's file name to its class id, None where it is unknown.
ClassOf = Callable[[str], str | None]


@dataclass(frozen=True)
class Devkit:
    """The development kit. wnids: by the kit's own number, 1 to 1,000 and beyond. words: by id. truth: of each val picture."""

    wnids: dict[int, str]
    words: dict[str, str]
    truth: tuple[int, ...]

    def class_of(self, name: str) -> str | None:
        """Return the class id of a validation picture, ILSVRC2012_val_%08d.JPEG; None for another name or number."""
        found = VAL_NAME.search(name)
        number = int(found[1]) if found else 0
        return self.wnids.get(self.truth[number - 1]) if 1 <= number <= len(self.truth) else None


def read_devkit(path: Path) -> Devkit | None:
    """Read the kit in a folder, extracted or as the archive that it comes in, or that archive; None where there is none.

    Raises SourceError when it is damaged.
    """
    if path.is_file():
        return _read_kit(path, lambda: _archived(path))
    for place in (path, *(place for pattern in KIT_FOLDERS for place in sorted(path.glob(pattern)))):
        if (place / META).is_file() and (place / GROUND_TRUTH).is_file():
            return _read_kit(place, lambda: {name: (place / name).read_bytes() for name in (META, GROUND_TRUTH)})  # noqa: B023
    archives = [archive for pattern in KIT_ARCHIVES for archive in sorted(path.glob(pattern))]
    return _read_kit(archives[0], lambda: _archived(archives[0])) if archives else None


def _archived(archive: Path) -> dict[str, bytes]:
    """Return the kit's files from its archive; they are read, never written, so where members would lie does not matter."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if member.isreg() and name in (META, GROUND_TRUTH):
                file = tar.extractfile(member)
                assert file is not None
                found[name] = file.read()
    return found


def _read_kit(place: Path, content: Callable[[], dict[str, bytes]]) -> Devkit:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        files = content()
        synsets = loadmat(io.BytesIO(files[META]), squeeze_me=True)["synsets"]
        numbers, wnids, words = (synsets[name].tolist() for name in ("ILSVRC2012_ID", "WNID", "words"))
        truth = tuple(int(line) for line in files[GROUND_TRUTH].split())
    except (OSError, EOFError, zlib.error, LookupError, ValueError, TypeError, MatReadError, tarfile.TarError) as error:
        raise SourceError(
            f"the development kit {place} cannot be read: {error}", hint="get it anew, or move it away to prepare without it"
        ) from error
    return Devkit(dict(zip(numbers, wnids, strict=True)), dict(zip(wnids, words, strict=True)), truth)


def find_upwards(path: Path, name: str, levels: int = 3) -> Path | None:
    """Return the file of that name in a folder or one of those that hold it, None where there is none."""
    return next((folder / name for folder in (path, *path.resolve().parents[:levels]) if (folder / name).is_file()), None)


def unknown_class(name: str) -> None:
    """Return None: nothing is known of a picture's class."""
    return None


def read_solution(path: Path) -> ClassOf:
    """Read Kaggle's labels of the validation pictures: rows ImageId, groups of id and box; the first id is the label.

    Raises SourceError when it is no such file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(row["ImageId"], (row["PredictionString"] or "").split()) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {error!r}", hint="expected the columns ImageId and PredictionString") from error
    labels = {name: predicted[0] for name, predicted in rows if predicted}
    return lambda name: labels.get(Path(name).stem)


def read_annotations(path: Path) -> ClassOf:
    """Read Tiny ImageNet's labels of the validation pictures: lines of name, id and box. Raises SourceError."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    labels = {parts[0]: parts[1] for line in lines if len(parts := line.split("\t")) > 1}
    if not labels:
        raise SourceError(f"{path} has no lines of name and class id", hint="get it anew")
    return lambda name: labels.get(Path(name).name)


def read_words(path: Path) -> dict[str, str]:
    """Return the words of class ids from the file in a folder that has them; empty where there is none."""
    for name in WORDS_FILES:
        if (path / name).is_file():
            lines = (path / name).read_text(encoding="utf-8", errors="replace").splitlines()
            return dict(id_and_words(line) for line in lines if line.strip())
    return {}


def id_and_words(line: str) -> tuple[str, str]:
    """Split a line at the first tab, as class ids may hold spaces, or else at the first blank; the id is its own words if alone."""
    name, _, words = line.strip().partition("\t" if "\t" in line.strip() else " ")
    return name, words.strip() or name


def parallel(lines: Sequence[str]) -> ClassList:
    """Return the ids and the words of lines that have both."""
    pairs = [id_and_words(line) for line in lines]
    return tuple(name for name, _ in pairs), tuple(words for _, words in pairs)


def ilsvrc_classes() -> ClassList:
    """Return ILSVRC-2012's 1,000 WordNet ids, sorted, and their words: the order of Caffe's and torchvision's outputs."""
    return parallel([line for line in BUILT_IN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")])


def known_words(classes: Sequence[str]) -> dict[str, str]:
    """Return a name for each of ILSVRC-2012's 1,000 classes, where these are they; else nothing.

    The name is the first of the class's words, all of them where another class has the same first.
    """
    ids, words = ilsvrc_classes() if len(classes) == NUM_CLASSES else ((), ())
    if tuple(classes) != ids:
        return {}
    firsts = [text.split(",")[0] for text in words]
    shared = {first for first, count in Counter(firsts).items() if count > 1}
    return {name: text if first in shared else first for name, text, first in zip(ids, words, firsts, strict=True)}


def words_of(classes: Sequence[str], *known: dict[str, str]) -> tuple[str, ...]:
    """Return the words of each class, from the first of these that has any; a class that it lacks is called by its id."""
    found = next((words for words in known if words), None) or known_words(classes)
    return tuple(found.get(name, name) for name in classes)
