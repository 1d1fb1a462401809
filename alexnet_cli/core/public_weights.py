"""Weights that others have published: a table of them by name, and where they lie once downloaded (stdlib only).

Every figure is its authors' own: Caffe's from the readme files of its models bvlc_alexnet and bvlc_reference_caffenet, the model
zoo's from ONNX's README and the file's entry in its repository, torchvision's from AlexNet_Weights. Of torchvision's SHA-256 the
authors publish the first eight digits, in the file's name; the others are those of every copy of it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.core.connection import Remote
from alexnet_cli.core.errors import CheckpointError

CACHE_VARIABLE = "ALEXNET_CACHE"


@dataclass(frozen=True)
class PublicWeights:
    """Weights that can be had by a name.

    remote: address, checksum and exact size, where that is published. top1, top5: published accuracies, in %. views: of what.
    megabytes: the size, rounded, for tables.
    """

    name: str
    title: str
    remote: Remote
    top1: float
    top5: float
    views: str
    licence: str
    megabytes: int

    @property
    def filename(self) -> str:
        """The name that the file has at its authors'."""
        return self.remote.url.rsplit("/", 1)[-1]


ENTRIES = (
    PublicWeights(
        name="bvlc",
        title="Caffe's AlexNet: two groups, no colour noise, biases of 0.1",
        remote=Remote(
            "http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel", "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377"
        ),
        top1=57.1,
        top5=80.2,
        views="centre crop",
        licence="unrestricted use",
        megabytes=244,
    ),
    PublicWeights(
        name="bvlc-onnx",
        title="the same, as ONNX's model zoo holds it",
        remote=Remote(
            "https://github.com/onnx/models/raw/main/validated/vision/classification/alexnet/model/bvlcalexnet-8.onnx",
            "sha256:9a4dc22fd706a19462aaec3b08e027e0ef89daf63d123824f20b59b6de9a727b",
            243_863_542,
        ),
        top1=57.1,
        top5=80.2,
        views="centre crop",
        licence="BSD-3-Clause",
        megabytes=244,
    ),
    PublicWeights(
        name="caffenet",
        title="Caffe's CaffeNet: pooling before normalisation",
        remote=Remote(
            "http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel", "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46"
        ),
        top1=57.4,
        top5=80.4,
        views="centre crop",
        licence="unrestricted use",
        megabytes=244,
    ),
    PublicWeights(
        name="torchvision",
        title="torchvision's alexnet: the network of 2014, one tower, no normalisation",
        remote=Remote(
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            244_408_911,
        ),
        top1=56.522,
        top5=79.066,
        views="centre crop",
        licence="none stated; torchvision's is BSD-3-Clause",
        megabytes=244,
    ),
)
PUBLIC_WEIGHTS = {entry.name: entry for entry in ENTRIES}


def named(name: str) -> PublicWeights:
    """Return the weights of a name. Raises CheckpointError when the table has none."""
    if name not in PUBLIC_WEIGHTS:
        raise CheckpointError(f"no public weights {name!r}, expected one of {', '.join(PUBLIC_WEIGHTS)}")
    return PUBLIC_WEIGHTS[name]


def cache_folder() -> Path:
    """Return where downloads lie: $ALEXNET_CACHE, else $XDG_CACHE_HOME/alexnet, else ~/.cache/alexnet."""
    own, common = os.environ.get(CACHE_VARIABLE), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser()
    return (Path(common) if common and Path(common).is_absolute() else Path.home() / ".cache") / "alexnet"


def original_path(entry: PublicWeights) -> Path:
    """Return where the file as its authors published it lies, or will."""
    return cache_folder() / entry.name / entry.filename


def weights_path(entry: PublicWeights) -> Path:
    """Return where the weights file made of it lies, or will; it is written last, so that it is there only once all is done."""
    return cache_folder() / entry.name / f"{entry.name}.safetensors"


def require_pulled(name: str) -> Path:
    """Return the weights file of a name of the table. Raises CheckpointError, with the way to it, when it is not here yet."""
    path = weights_path(PUBLIC_WEIGHTS[name])
    if not path.is_file():
        raise CheckpointError(f"{name} is not here: no {path}", hint=f"alexnet weights pull {name}")
    return path
