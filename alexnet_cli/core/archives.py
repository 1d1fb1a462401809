"""ImageNet's official archives, read in place: an index of where in them each picture lies. Nothing is ever extracted.

ILSVRC2012_img_train.tar holds a tar for each class, ILSVRC2012_img_val.tar the validation pictures flat. Members are known by
name and read by offset; links, devices and names that lead out of the archive are refused and listed.
"""

import hashlib
import os
import tarfile
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.folders import FOLDERS, is_picture, label_flat, list_test, list_train, list_val
from alexnet_cli.core.imagenet import (
    SOLUTION,
    WNID,
    ClassOf,
    find_upwards,
    read_annotations,
    read_devkit,
    read_solution,
    read_words,
    unknown_class,
    words_of,
)
from alexnet_cli.core.places import LARGEST_PICTURE, Ranges
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import NO_LABEL, Source, Split, everything

TRAIN, VAL, TEST = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_img_test*.tar"
INNER_FOLDERS = ("train", "ILSVRC2012_img_train", ".")  # where the tars of the classes lie, once the outer one is extracted
MD5 = {  # published by the makers
    TRAIN: "1d675b47d978889d74fa0da5fadfb00e",
    VAL: "29b22e2961454d5413ddabcf34fc5622",
    "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
}
BLOCK = tarfile.BLOCKSIZE
HASHED_AT_A_TIME = 1 << 22
GZIP = b"\x1f\x8b"
TWO_OR_MORE = "expected the tars of two classes or more, named WNID.tar"


@dataclass
class Members:
    """Pictures in one or more archives: path inside the source, archive (index into files), offset and size in bytes."""

    files: list[Path] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    which: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def begin(self, file: Path) -> None:
        """Begin with another archive, which may be a part of the same file as the last one."""
        self.seen.clear()
        if not self.files or self.files[-1] != file:
            self.files.append(file)

    def add(self, member: tarfile.TarInfo, name: str, start: int) -> None:
        """Take a picture, refuse what could lead elsewhere, pass over folders and files that are no pictures.

        name: inside the source. start: of the archive in the newest file, bytes.
        """
        if not is_picture(Path(member.name).name) or member.isdir():
            return
        reason = _danger(member)
        if not reason and member.size > LARGEST_PICTURE:
            reason = f"a file of {member.size:,} bytes, more than {LARGEST_PICTURE:,}"
        if not reason and name in self.seen:
            name, reason = f"{name} (again)", "a second picture of this name"
        self.seen.add(name)
        if reason:
            self.refused.append((name, reason))
        else:
            self.paths.append(name)
            self.which.append(len(self.files) - 1)
            self.offsets.append(start + member.offset_data)
            self.sizes.append(member.size)

    def split(self, folder: str, labels: list[int]) -> Split:
        """Return them as a split."""
        which, offsets, sizes = (np.array(values, dtype=np.int64) for values in (self.which, self.offsets, self.sizes))
        listing = Ranges(self.files, which.astype(np.int32), offsets, sizes)
        return replace(everything(folder, self.paths, labels, sizes, listing), refused=tuple(self.refused))


def find_train(path: Path) -> list[Path]:
    """Return the training archive in a folder, or the classes' archives that it held; empty where there are none."""
    if (path / TRAIN).is_file():
        return [path / TRAIN]
    for folder in INNER_FOLDERS:
        found = sorted(file for file in (path / folder).glob("n*.tar") if WNID.fullmatch(file.stem))
        if found:
            return found
    return []


def list_archives(path: Path, reporter: Reporter) -> Source:
    """List the pictures of the official archives in a folder.

    The validation pictures may also be a folder, and the training archive may have been extracted once, to a tar per class.
    Raises SourceError when an archive is cut short, naming its last whole picture.
    """
    archives = find_train(path)
    if not archives:
        raise SourceError(f"{path} has no {TRAIN}, nor the tars of the classes", hint=TWO_OR_MORE)
    members, names = _train_members(path, archives, reporter)
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        raise SourceError(f"{archives[0]} has {len(classes)} class", hint=TWO_OR_MORE)
    labels = {name: label for label, name in enumerate(classes)}
    folder = TRAIN if archives == [path / TRAIN] else archives[0].parent.relative_to(path).as_posix()
    train = members.split(folder, [labels[name] for name in names])
    return _with_others("archives", path, train, classes)


def list_imagenet(path: Path) -> Source:
    """List ImageNet with extracted training pictures: train/WNID/, the others in class folders, flat, or in their archives.

    Tiny ImageNet is laid out like it, with a file of its own for val's labels.
    """
    train, classes = list_train(path)
    return _with_others("imagenet", path, train, classes)


def _with_others(kind: str, path: Path, train: Split, classes: tuple[str, ...]) -> Source:
    """Add the validation and test pictures in a folder to the training pictures."""
    kit, annotations, solution = read_devkit(path), path / "val" / "val_annotations.txt", find_upwards(path, SOLUTION)
    class_of: ClassOf = unknown_class
    if kit:
        class_of = kit.class_of
    elif annotations.is_file():
        class_of = read_annotations(annotations)
    elif solution:
        class_of = read_solution(solution)
    val, lacks = _val(path, classes, class_of)
    splits = {"train": train, **val, **_test(path, classes)}
    return Source(kind, path, splits, classes, words_of(classes, kit.words if kit else {}, read_words(path)), lacks)


def verify_archives(path: Path, reporter: Reporter) -> list[str]:
    """Compare the archives in a folder with their published MD5 sums; return the names that were compared.

    Raises SourceError naming the first that differs.
    """
    present = [name for name in MD5 if (path / name).is_file()]
    for name in present:
        file = path / name
        digest = hashlib.md5(usedforsecurity=False)
        reporter.start(f"MD5 of {name}", file.stat().st_size >> 20, "MiB")
        with file.open("rb") as content:
            while block := content.read(HASHED_AT_A_TIME):
                digest.update(block)
                reporter.advance(len(block) >> 20)
        reporter.finish()
        if digest.hexdigest() != MD5[name]:
            raise SourceError(f"{file} has MD5 {digest.hexdigest()}, expected {MD5[name]}", hint="download it again")
    return present


def _train_members(path: Path, archives: list[Path], reporter: Reporter) -> tuple[Members, list[str]]:
    """Return the training pictures, and the class of each."""
    members, names = Members(), []
    inner = [one for archive in archives for one in _inner_archives(path, archive)]
    twice = [name for name, count in Counter(name for _, name, _, _ in inner).items() if count > 1]
    if twice:
        raise SourceError(f"{archives[0]} has {twice[0]} twice", hint="get the archive again")
    reporter.start("reading archives", len(inner), "classes")
    for file, name, start, size in inner:
        members.begin(file)
        before = len(members.paths)
        for member in _walk(file, name, start, size, before=members.paths[-1] if members.paths else ""):
            members.add(member, f"{name}/{_plain(member)}", start)
        if len(members.paths) == before:
            raise SourceError(f"{path / name} has no pictures", hint="every class must have pictures; get the archive again")
        names += [Path(name).stem] * (len(members.paths) - before)
        reporter.advance()
    reporter.finish()
    for archive in archives:
        if archive.name == TRAIN:
            deque(_walk(archive, TRAIN, 0, archive.stat().st_size), maxlen=0)  # its end mark, once all classes are whole
    return members, names


def _inner_archives(path: Path, archive: Path) -> Iterator[tuple[Path, str, int, int]]:
    """Return the archive of each class: its file, its name inside the source, where in the file it starts, and its size."""
    name, size = archive.relative_to(path).as_posix(), archive.stat().st_size
    if archive.name != TRAIN:
        yield archive, name, 0, size
        return
    # A cut archive ends within its last inner one, which then names the last whole picture.
    for member in _walk(archive, name, 0, size, cut=True):
        if WNID.fullmatch(Path(member.name).stem) and member.name.endswith(".tar"):
            if _danger(member):
                raise SourceError(f"{name}/{_plain(member)} is {_danger(member)}", hint="get the archive again")
            yield archive, f"{name}/{_plain(member)}", member.offset_data, min(member.size, size - member.offset_data)


def _val(path: Path, classes: tuple[str, ...], class_of: ClassOf) -> tuple[dict[str, Split], tuple[str, ...]]:
    if (path / VAL).is_file():
        split, lacks = _flat(path, path / VAL, classes, class_of)
        return {"val": split}, lacks
    for folder in FOLDERS["val"]:
        if (path / folder).is_dir():
            split, lacks = list_val(path, folder, classes, class_of)
            return {"val": split}, lacks
    return {}, ()


def _test(path: Path, classes: tuple[str, ...]) -> dict[str, Split]:
    archives = sorted(path.glob(TEST))
    if len(archives) > 1:
        raise SourceError(f"{path} has both {archives[0].name} and {archives[1].name}, expected one of them", hint="move one away")
    if archives:
        return {"test": _flat(path, archives[0], classes, unknown_class)[0]}
    return {"test": list_test(path, "test", classes)} if (path / "test").is_dir() else {}


def _flat(path: Path, archive: Path, classes: tuple[str, ...], class_of: ClassOf) -> tuple[Split, tuple[str, ...]]:
    members = Members()
    members.begin(archive)
    name = archive.relative_to(path).as_posix()
    for member in _walk(archive, name, 0, archive.stat().st_size):
        members.add(member, f"{name}/{_plain(member)}", 0)
    if not members.paths:
        raise SourceError(f"{archive} has no pictures", hint="download it again")
    labels, lacks = label_flat(name, [class_of(one) for one in members.paths], classes)
    split = members.split(name, [NO_LABEL if label is None else label for label in labels])
    kept = [index for index, label in enumerate(labels) if label is not None]
    return split.take(np.array(kept, dtype=np.int64)), lacks


def _danger(member: tarfile.TarInfo) -> str:
    """Say why a member is not to be read, "" where it may be."""
    if member.issym() or member.islnk():
        return "a link, which is never followed"
    if member.isdev():
        return "a device, which is never opened"
    if member.issparse():
        return "a sparse file, whose bytes do not lie in one piece"
    if member.name.startswith("/") or ".." in Path(member.name).parts:
        return "a name that leads out of the archive"
    return ""


def _plain(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")


class _Part:
    """A part of a file, as tarfile reads it."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        content = os.pread(self._descriptor, left if count < 0 else min(count, left), self._start + self._at)
        self._at += len(content)
        return content

    def seek(self, to: int, whence: int = os.SEEK_SET) -> int:
        self._at = to + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _walk(file: Path, name: str, start: int, size: int, *, before: str = "", cut: bool = False) -> Iterator[tarfile.TarInfo]:
    """Return the members of the tar in a part of a file.

    cut: return a last member that is not all there too. Else raises SourceError where the tar ends before its end mark, naming
    its last whole member, or `before`, the last one of the archive before.
    """
    descriptor = os.open(file, os.O_RDONLY)
    whole, end = "", 0  # the last member that is all there, and where its content ends
    try:
        part = _Part(descriptor, start, size)
        with tarfile.open(fileobj=part, mode="r:") as tar:  # type: ignore[call-overload]
            for member in tar:
                tar.members.clear()  # else it keeps all of them
                end = member.offset_data + (-(-member.size // BLOCK) * BLOCK if member.isreg() else 0)
                if end > size and not cut:
                    raise tarfile.ReadError("unexpected end of data")
                whole = _plain(member)
                yield member
        part.seek(end)
        if part.read(BLOCK) != bytes(BLOCK) and not cut:
            raise tarfile.ReadError("no end mark")
    except tarfile.TarError as error:
        if cut and whole:
            return
        if os.pread(descriptor, len(GZIP), start) == GZIP:
            raise SourceError(
                f"{file}: {name} is compressed by gzip, expected a plain tar", hint="unpack it with gunzip"
            ) from error
        last = f"{name}/{whole}" if whole else before
        last = f"its last whole member is {last}" if last else f"{name} has no whole member"
        raise SourceError(f"{file} is cut short or damaged: {last}", hint="download it again") from error
    finally:
        os.close(descriptor)
