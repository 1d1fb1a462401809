import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from alexnet_cli.core.errors import AlexNetError, DiskFullError
from alexnet_cli.core.files import error_number, require_place, write_atomically


def run_limited(limit_bytes: int, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose files cannot grow beyond a limit: the kernel refuses the write, as a full disk does."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
    command = [sys.executable, "-c", limit + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_writes_content_and_missing_folders(tmp_path):
    """The path has the written content, its folders are made, and nothing lies beside it."""
    path = tmp_path / "a" / "b" / "picture.bin"
    write_atomically(path, lambda partial: partial.write_bytes(b"new"))
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_partial_file_lies_in_the_same_folder(tmp_path):
    """The unfinished file is in the folder of the finished one: a rename across file systems would not be atomic."""
    seen = []

    def write(partial: Path) -> None:
        seen.append(partial)
        partial.write_bytes(b"x")

    write_atomically(tmp_path / "f", write)
    assert seen[0].parent == tmp_path and seen[0].name != "f"


def test_failed_write_leaves_the_old_file(tmp_path):
    """An error in the middle of writing keeps the old content and removes the unfinished file."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def write(partial: Path) -> None:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_left_over_partial_file_is_overwritten(tmp_path):
    """What a killed process left is taken over by the next writing, however long it was."""
    lengths = []

    def write(partial: Path) -> None:
        lengths.append(partial.stat().st_size)
        (tmp_path / ".f.partial").write_bytes(b"longer than what comes next")
        partial.write_bytes(b"short")

    (tmp_path / ".f.partial").write_bytes(b"left over")
    write_atomically(tmp_path / "f", write)
    assert lengths == [0]
    assert (tmp_path / "f").read_bytes() == b"short"


def test_file_gets_the_usual_mode(tmp_path):
    """A writer that makes private files does not make the result private: the mode is that of any new file."""
    (tmp_path / "usual").write_bytes(b"")

    def write(partial: Path) -> None:
        partial.write_bytes(b"x")
        partial.chmod(0o600)

    write_atomically(tmp_path / "f", write)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_full_disk_is_named_and_keeps_the_old_file(tmp_path):
    """When the system refuses to let the file grow, the message names it and what stood before still stands."""
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    done = run_limited(
        100_000,
        """
        import sys
        from pathlib import Path
        from alexnet_cli.core.errors import DiskFullError
        from alexnet_cli.core.files import write_atomically
        try:
            write_atomically(Path(sys.argv[1]), lambda partial: partial.write_bytes(bytes(200_000)))
        except DiskFullError as error:
            print(error.message, "|", error.hint)
        """,
        path,
    )
    assert done.stdout.startswith(f"the disk is full: {path} could not be written ("), done.stderr
    assert done.stdout.rstrip().endswith("| free some space, then run the same command again")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_kind_of_full_disk_is_one_error(tmp_path, number):
    """No space, an exhausted quota and a file-size limit are all a DiskFullError."""

    def write(partial: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match="the disk is full"):
        write_atomically(tmp_path / "f", write)


def test_folder_in_the_way(tmp_path):
    """A folder of that name is not replaced, and the message says why."""
    (tmp_path / "f").mkdir()
    with pytest.raises(AlexNetError, match=r"cannot write .*f: (Is a directory|.*)") as caught:
        write_atomically(tmp_path / "f", lambda partial: partial.write_bytes(b"x"))
    assert caught.value.hint == "choose another place for it"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_file_where_a_folder_is_needed(tmp_path):
    """A path through a file is refused with the system's reason."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AlexNetError, match=r"cannot write .*: (File exists|Not a directory)"):
        write_atomically(tmp_path / "file" / "f", lambda partial: None)


def test_what_is_read_is_not_replaced(tmp_path):
    """A place that is one of the files to be read is refused, also by another name; a device or a pipe is never replaced."""
    read, link, pipe = tmp_path / "read", tmp_path / "link", tmp_path / "pipe"
    read.write_bytes(b"x")
    link.symlink_to(read)
    os.mkfifo(pipe)
    require_place(tmp_path / "other", read)
    require_place(read)
    for place in (read, link, tmp_path / "." / "read"):
        with pytest.raises(AlexNetError, match="is the file to be read"):
            require_place(place, read)
    for place in (pipe, Path(os.devnull)):
        with pytest.raises(AlexNetError, match="it is no ordinary file"):
            require_place(place)


def test_other_errors_pass(tmp_path):
    """An error that is not the system's passes through as it is."""

    def write(partial: Path) -> None:
        raise ValueError("own bug")

    with pytest.raises(ValueError, match="own bug"):
        write_atomically(tmp_path / "f", write)


def test_error_number_inside_a_text():
    """The reason of a library written in Rust is found in its text."""
    assert error_number(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")) == errno.ENOSPC
    assert error_number(RuntimeError("something else")) is None
    assert error_number(OSError(errno.EACCES, "no")) == errno.EACCES
