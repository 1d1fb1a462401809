"""Lists of classes for weights that come without one: ILSVRC-2012's or a user's file (stdlib only)."""

from pathlib import Path

from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.imagenet import NUM_CLASSES, ClassList, ilsvrc_classes, parallel

MOST_BYTES = 10_000_000  # of a user's list


def read_classes(path: Path) -> ClassList:
    """Read a class a line, in the order of the outputs: its id, then perhaps its words, as in Caffe's synset_words.txt.

    Raises CheckpointError when the file is missing, no text, empty, or names a class twice.
    """
    hint = "expected a line for each output of the last layer: the class's id, then a space or a tab and its name"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, expected a list of classes", hint=hint)
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise CheckpointError(f"cannot read the classes {path}: {error.strerror or error}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is no UTF-8 text, expected a list of classes", hint=hint) from error
    classes, words = parallel(lines)
    twice = next((name for name in classes if classes.count(name) > 1), None) if len(set(classes)) < len(classes) else None
    if twice or not classes:
        raise CheckpointError(f"{path} names {twice} twice" if twice else f"{path} names no class", hint=hint)
    return classes, words


def choose_classes(count: int, path: Path | None) -> ClassList:
    """Return the classes of a network with that many outputs: a file's, or ILSVRC-2012's for 1,000. Raises CheckpointError."""
    if path is None and count != NUM_CLASSES:
        raise CheckpointError(
            f"the network has {count:,} outputs, and only the {NUM_CLASSES:,} of ILSVRC-2012 are known by themselves",
            hint="name a file with a class a line, in the order of the outputs: --classes classes.txt",
        )
    found = ilsvrc_classes() if path is None else read_classes(path)
    if len(found[0]) != count:
        raise CheckpointError(
            f"{path} has {len(found[0]):,} classes, but the network {count:,} outputs", hint="expected a line for each output"
        )
    return found
