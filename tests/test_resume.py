"""The states that a run can be continued from: whole or absent, the newest first, and never lost to a later one."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.resume import ResumeState, load_resume, save_resume, saved_steps


def state_of(step: int, size: int = 100) -> ResumeState:
    """A state with a tensor of every type that a training keeps."""
    tensors = {
        "weights/conv1.weight": torch.arange(size, dtype=torch.float32).reshape(-1, 2) + step,
        "velocity/conv1.weight": torch.full((size,), 1 / 3, dtype=torch.float64),
        "scale": torch.tensor(2.0**16),
        "count": torch.tensor([step], dtype=torch.int64),
    }
    return ResumeState(tensors, {"step": step, "best": None, "rates": {"conv1": 0.1 + 0.2}, "seconds": 1.5})


def assert_same(found: ResumeState, expected: ResumeState) -> None:
    """Compare progress, names, types and values."""
    assert found.progress == expected.progress
    assert found.tensors.keys() == expected.tensors.keys()
    for name, value in expected.tensors.items():
        assert found.tensors[name].dtype == value.dtype and torch.equal(found.tensors[name], value), name


def load(folder: Path) -> ResumeState:
    """Load what must be whole: nothing is warned of."""
    warnings: list[str] = []
    state = load_resume(folder, warnings.append)
    assert not warnings
    return state


def names(folder: Path) -> list[str]:
    """Return the files that are there."""
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, place: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_state_comes_back(tmp_path):
    """Tensors of every type and the progress come back as they were; nothing but two files is left."""
    save_resume(tmp_path / "resume", state_of(7))
    assert_same(load(tmp_path / "resume"), state_of(7))
    assert names(tmp_path / "resume") == ["7.json", "7.safetensors"]


@pytest.mark.parametrize(("keep", "left"), [(0, [9]), (1, [9, 8]), (3, [9, 8, 7, 5])])
def test_older_states_are_kept(tmp_path, keep, left):
    """Beside the newest state as many older ones stay as wanted; what a kill left behind is gone."""
    for step in (3, 5, 7, 8):
        save_resume(tmp_path, state_of(step), keep=9)
    (tmp_path / ".8.safetensors.partial").write_bytes(b"left")
    (tmp_path / "6.safetensors").write_bytes(b"left")
    (tmp_path / "notes.txt").write_bytes(b"the user's")
    save_resume(tmp_path, state_of(9), keep=keep)
    assert saved_steps(tmp_path) == left
    assert not (tmp_path / ".8.safetensors.partial").exists()
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {str(step) for step in left}
    assert (tmp_path / "notes.txt").exists()
    assert_same(load(tmp_path), state_of(9))


def test_kill_before_the_commit(tmp_path):
    """Newer tensors without their JSON are not believed."""
    save_resume(tmp_path, state_of(7))
    (tmp_path / "8.safetensors").write_bytes((tmp_path / "7.safetensors").read_bytes())
    assert_same(load(tmp_path), state_of(7))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "9.safetensors", -5),
        lambda folder: (folder / "9.safetensors").unlink(),
        lambda folder: (folder / "9.safetensors").write_bytes(b""),
        lambda folder: (folder / "9.json").write_text("{", encoding="utf-8"),
        lambda folder: (folder / "9.json").write_text((folder / "9.json").read_text().replace('"seconds": 1.5', '"seconds": 2.5')),
    ],
    ids=["one bit", "lost tensors", "empty tensors", "cut JSON", "changed JSON"],
)
def test_damaged_newest_falls_back(tmp_path, damage):
    """One damaged state costs the steps since the one before, with a warning that names the file; the next saving clears it."""
    save_resume(tmp_path, state_of(7))
    save_resume(tmp_path, state_of(9))
    damage(tmp_path)
    warnings: list[str] = []
    assert_same(load_resume(tmp_path, warnings.append), state_of(7))
    assert len(warnings) == 1 and "9." in warnings[0] and warnings[0].endswith("going back to step 7")
    save_resume(tmp_path, state_of(8))
    assert_same(load(tmp_path), state_of(8))
    assert saved_steps(tmp_path) == [8, 7]


def test_the_same_step_again_after_damage(tmp_path):
    """A continued run that comes to the damaged step once more replaces it."""
    save_resume(tmp_path, state_of(7))
    save_resume(tmp_path, state_of(9))
    flip(tmp_path / "9.safetensors", -1)
    save_resume(tmp_path, state_of(9))
    assert_same(load(tmp_path), state_of(9))
    assert saved_steps(tmp_path) == [9, 7]


FILL = """
    import sys
    from pathlib import Path
    import torch
    from alexnet_cli.core.errors import DiskFullError
    from alexnet_cli.core.resume import ResumeState, save_resume
    try:
        state = ResumeState({"a": torch.zeros(int(sys.argv[2]))}, {"step": 8, "text": "x" * int(sys.argv[3])})
        save_resume(Path(sys.argv[1]), state)
    except DiskFullError as error:
        print(error.message)
"""


@pytest.mark.parametrize(
    ("floats", "letters", "refused"), [(100_000, 1, "8.safetensors"), (10, 200_000, "8.json")], ids=["tensors", "commit"]
)
def test_full_disk_keeps_the_previous_states(tmp_path, floats, letters, refused):
    """When the disk refuses the tensors or the commit, the previous states are whole, alone, and can be resumed."""
    save_resume(tmp_path, state_of(6))
    save_resume(tmp_path, state_of(7))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    command = [sys.executable, "-c", limit + textwrap.dedent(FILL), str(tmp_path), str(floats), str(letters)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(f"the disk is full: {tmp_path / refused} could not be written")
    assert_same(load(tmp_path), state_of(7))
    assert names(tmp_path) == ["6.json", "6.safetensors", "7.json", "7.safetensors"]


def test_nothing_to_resume(tmp_path):
    """An empty or missing folder says how to start."""
    with pytest.raises(CheckpointError, match=r"nothing to resume in .*resume$") as caught:
        load(tmp_path / "resume")
    assert caught.value.hint == 'start with "alexnet train", without --resume'


def test_all_damaged(tmp_path):
    """Where no state is whole, the newest one's damage is told, with what to do."""
    save_resume(tmp_path, state_of(7))
    save_resume(tmp_path, state_of(9))
    for step in (7, 9):
        flip(tmp_path / f"{step}.safetensors", -1)
    with pytest.raises(CheckpointError, match=r"9\.safetensors is damaged: its checksum is not the one in 9\.json") as caught:
        load(tmp_path)
    assert caught.value.hint == "restore this folder from a copy, or start a new run under another --run NAME"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 3}', '{"step": "x", "checksum": ""}'])
def test_damaged_progress(tmp_path, text):
    """A JSON that is not what a training writes is an error that names it."""
    save_resume(tmp_path, state_of(7))
    (tmp_path / "7.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"7\.json is damaged: it is not the JSON that a training writes"):
        load(tmp_path)


def test_progress_is_plain(tmp_path):
    """The JSON can be read by anyone, and has the step and a checksum."""
    save_resume(tmp_path, state_of(7))
    progress = json.loads((tmp_path / "7.json").read_text(encoding="utf-8"))
    assert progress["step"] == 7 and len(progress["checksum"]) == 32
