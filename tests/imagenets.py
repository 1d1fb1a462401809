"""Small ImageNets in each form that it comes in, laid without the package: archives, folders, Kaggle's, parquet shards.

Every picture is a 256x256 PNG with pixels of its own under an ImageNet name, so that a raw store of it can be searched for it.
"""

import io
import json
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from alexnet_cli.core.store import Store

# In the kit's own order, which is not that of the ids: its numbers are 1, 2, 3.
KIT_ORDER = ("n02119789", "n15075141", "n01440764")
WORDS = {"n02119789": "kit fox, Vulpes macrotis", "n01440764": "tench, Tinca tinca", "n15075141": "toilet tissue"}
TRAIN_COUNTS = {"n01440764": 3, "n02119789": 5, "n15075141": 4}
TRUTH = (1, 3, 2, 1, 1, 2)  # of val pictures 1 to 6, by the kit's numbers
VAL_NAMES = tuple(f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, len(TRUTH) + 1))
TEST_NAMES = tuple(f"ILSVRC2012_test_{number:08d}.JPEG" for number in (1, 2))
CLASSES = tuple(sorted(TRAIN_COUNTS))
# torchvision's Imagenette, as its own list has them, in the order of its labels.
IMAGENETTE = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079", "n03394916", "n03417042", "n03425413", "n03445777",
    "n03888257",
)  # fmt: skip


def pixels(name: str) -> np.ndarray:
    """Return the pixels of a picture, which its name decides, uint8 (256, 256, 3)."""
    seed = zlib.crc32(name.encode())
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)


def content(name: str) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels(name)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def train_names() -> dict[str, list[str]]:
    """Return the names of the training pictures by class."""
    return {wnid: [f"{wnid}_{number}.JPEG" for number in range(count)] for wnid, count in TRAIN_COUNTS.items()}


def truth() -> dict[str, str]:
    """Return the class of every labelled picture by its name."""
    train = {name: wnid for wnid, names in train_names().items() for name in names}
    return train | {name: KIT_ORDER[number - 1] for name, number in zip(VAL_NAMES, TRUTH, strict=True)}


def tar_of(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a tar archive of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def kit_files() -> dict[str, bytes]:
    """Return the files of a development kit like the real one: a struct array of synsets, and the ground truth."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, WORDS[wnid], 0) for number, wnid in enumerate(KIT_ORDER, start=1)]
    rows.append((4, "n00001740", "entity", 2))  # beyond the leaves, as in the real one
    file = io.BytesIO()
    savemat(file, {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
    return {
        "meta.mat": file.getvalue(),
        "ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in TRUTH).encode(),
    }


def write_kit(root: Path) -> None:
    """Lay the kit as it is extracted."""
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    for name, data in kit_files().items():
        (folder / name).write_bytes(data)


def make_archives(root: Path, *, kit: bool = True, test: bool = False) -> Path:
    """Lay the official archives."""
    root.mkdir(parents=True)
    inner = [(f"{wnid}.tar", tar_of([(name, content(name)) for name in names])) for wnid, names in train_names().items()]
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of([(name, content(name)) for name in VAL_NAMES]))
    if test:
        names = [(f"test/{name}", content(name)) for name in TEST_NAMES]
        (root / "ILSVRC2012_img_test_v10102019.tar").write_bytes(tar_of(names))
    if kit:
        with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
            for name, data in kit_files().items():
                info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return root


def write_train_folders(root: Path) -> None:
    """Lay the training pictures in class folders."""
    for wnid, names in train_names().items():
        (root / "train" / wnid).mkdir(parents=True)
        for name in names:
            (root / "train" / wnid / name).write_bytes(content(name))


def write_flat(folder: Path, names: Sequence[str]) -> None:
    """Lay pictures in a folder."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(content(name))


def make_kaggle(root: Path) -> Path:
    """Lay Kaggle's form."""
    place = root / "ILSVRC" / "Data" / "CLS-LOC"
    write_train_folders(place)
    write_flat(place / "val", VAL_NAMES)
    write_flat(place / "test", TEST_NAMES)
    rows = [f"{Path(name).stem},{truth()[name]} 1 2 3 4 {truth()[name]} 5 6 7 8 " for name in reversed(VAL_NAMES)]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows, ""]))
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {WORDS[wnid]}\n" for wnid in CLASSES))
    return root


def make_parquet(root: Path, *, rows_per_group: int = 2, wnids_in_names: bool = True) -> Path:
    """Lay two train shards, one for validation and one without labels, with labels in an order that is not that of the ids."""
    import pyarrow as pa
    from pyarrow import parquet

    (root / "data").mkdir(parents=True)
    train = [name for names in train_names().values() for name in names]
    half = len(train) // 2
    shards = {
        "train-00000-of-00002": train[:half],
        "train-00001-of-00002": train[half:],
        "validation-00000-of-00001": list(VAL_NAMES),
        "test-00000-of-00001": list(TEST_NAMES),
    }
    features = {"label": {"names": [WORDS[wnid] for wnid in KIT_ORDER], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for shard, names in shards.items():
        labels = [KIT_ORDER.index(truth()[name]) if name in truth() else -1 for name in names]
        images = [{"bytes": content(name), "path": name if wnids_in_names else None} for name in names]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {"image": pa.array(images, type=kind), "label": pa.array(labels, type=pa.int64())}
        table = pa.table(columns).replace_schema_metadata(metadata)
        parquet.write_table(table, root / "data" / f"{shard}.parquet", row_group_size=rows_per_group)
    return root


def found_in(store: Store) -> dict[str, str | None]:
    """Return the class id of every picture of a raw store by its name, None where it has no label."""
    names = {pixels(name).tobytes(): name for name in [*truth(), *TEST_NAMES]}
    labels = [store.classes[label] if label >= 0 else None for label in store.labels.tolist()]
    found = {names[store.record(index)]: label for index, label in enumerate(labels)}
    assert len(found) == len(store)
    return found
