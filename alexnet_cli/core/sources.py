"""What a path holds: one of the forms that ImageNet and other collections come in, recognised by looking, listed as splits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.core.archives import find_train, list_archives, list_imagenet
from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.folders import LAYOUT, has_class_folders, kaggle_base, list_folders, list_kaggle
from alexnet_cli.core.imagenet import WNID
from alexnet_cli.core.parquet import find_shards, list_parquet
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import Source
from alexnet_cli.core.torchvision_sets import PREFIX, list_data_set

HOLDOUT = "--holdout 0.05 holds back some of the training pictures instead"


@dataclass(frozen=True)
class Kind:
    """One form of a source: what it is called in a sentence, how it is recognised, and how it is listed."""

    description: str
    fits: Callable[[Path], bool]
    list: Callable[[Path, Reporter], Source]


def _has_archives(path: Path) -> bool:
    return bool(find_train(path))


def _has_kaggle(path: Path) -> bool:
    return kaggle_base(path) is not None


def _has_shards(path: Path) -> bool:
    return bool(find_shards(path))


def _has_wnids(path: Path) -> bool:
    train = path / "train"
    return train.is_dir() and any(entry.is_dir() and WNID.fullmatch(entry.name) for entry in train.iterdir())


def _has_folders(path: Path) -> bool:
    return (path / "train").is_dir() or has_class_folders(path)


# In the order in which they are tried. torchvision's data sets are named instead of found.
KINDS = {
    "archives": Kind("ImageNet's official archives, read in place", _has_archives, list_archives),
    "kaggle": Kind("Kaggle's layout of ImageNet", _has_kaggle, lambda path, reporter: list_kaggle(path)),
    "parquet": Kind("Hugging Face's parquet shards", _has_shards, list_parquet),
    "imagenet": Kind("ImageNet's extracted folders", _has_wnids, lambda path, reporter: list_imagenet(path)),
    "folders": Kind("class folders", _has_folders, lambda path, reporter: list_folders(path)),
    "torchvision": Kind("a data set of torchvision", lambda path: False, lambda path, reporter: _by_name(path)),
}


def find_source(
    source: str | Path, *, kind: str | None = None, downloads: Path = Path("downloads"), reporter: Reporter | None = None
) -> Source:
    """List the pictures of a source.

    source: a folder, or torchvision:NAME. kind: one of KINDS, None to recognise it. downloads: where data sets go that are had
    by name. Raises SourceError naming what is missing or superfluous.
    """
    reporter = reporter or Reporter()
    if str(source).startswith(PREFIX):
        if kind not in (None, "torchvision"):
            raise SourceError(f"{source} is not of kind {kind}", hint="leave out --source")
        _say("torchvision", reporter)
        return list_data_set(str(source).removeprefix(PREFIX), downloads, reporter)
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{path} does not exist, expected a folder of pictures", hint=LAYOUT)
    if not path.is_dir():
        raise SourceError(f"{path} is a file, expected a folder of pictures", hint=_hint_for_file(path))
    if kind is None:
        kind = next((name for name, form in KINDS.items() if form.fits(path)), "folders")
    _say(kind, reporter)
    try:
        return KINDS[kind].list(path, reporter)
    except OSError as error:
        raise SourceError(
            f"cannot read {error.filename or path}: {error.strerror or error}", hint="make it readable, or move it away"
        ) from error


def _say(kind: str, reporter: Reporter) -> None:
    reporter.note(f"source: {KINDS[kind].description} ({kind})")


def require_val(source: Source) -> None:
    """Raise SourceError when a source has no validation pictures."""
    if "val" not in source.splits:
        missing = {
            "archives": f"{source.path} has no ILSVRC2012_img_val.tar, nor a folder val/ or validation/",
            "parquet": f"{source.path} has no validation-*.parquet",
            "torchvision": "this data set of torchvision has no validation pictures",
        }.get(source.kind, f"{source.path} has no folder val/ or validation/")
        raise SourceError(missing, hint=f"{LAYOUT}; {HOLDOUT}" if source.kind == "folders" else HOLDOUT)


def _hint_for_file(path: Path) -> str:
    if path.suffix in (".tar", ".parquet"):
        return f"name the folder that holds it: {path.parent}"
    return f"unpack it and name the folder; {LAYOUT}" if path.suffix in (".zip", ".gz", ".tgz") else LAYOUT


def _by_name(path: Path) -> Source:
    raise SourceError(f"{path} is a folder, expected the name of a data set", hint=f"such as {PREFIX}Imagenette")
