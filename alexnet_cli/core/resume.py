"""The folder that `--resume` starts from: whole states of a training, the newest and some older ones.

resume/STEP.safetensors holds the tensors, resume/STEP.json the rest and the checksum of both; the latter's renaming is the
commit. A state is complete or absent, and one that was damaged later is passed over for the one before. docs/formats.md
specifies both files.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from alexnet_cli.core.errors import CheckpointError
from alexnet_cli.core.files import checksum, write_atomically
from alexnet_cli.core.tensors import read_tensors, write_tensors

STATE = re.compile(r"\.?(\d+)\.(safetensors|json)(\..*)?")  # also what a kill left of one


@dataclass
class ResumeState:
    """What a training needs to go on: tensors by name (weights, velocities, ...) and its progress as plain JSON values.

    progress: at least "step", the steps made so far.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def saved_steps(folder: Path) -> list[int]:
    """Return the steps whose states have been committed, the newest first."""
    return sorted((int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()), reverse=True)


def save_resume(folder: Path, state: ResumeState, *, keep: int = 1) -> None:
    """Commit a state, and delete all but the `keep` ones before it.

    Until the commit the states before stand, whatever happens. What is later than this state, from a damaged or abandoned
    continuation, goes too. Raises DiskFullError.
    """
    step = int(state.progress["step"])
    path = folder / f"{step}.safetensors"
    (folder / f"{step}.json").unlink(missing_ok=True)  # only a damaged state is ever saved again
    try:
        write_tensors(path, {name: value.detach().cpu().contiguous().numpy() for name, value in state.tensors.items()}, {})
        text = json.dumps({**state.progress, "checksum": _checksum(path, state.progress)}, indent=1)
        write_atomically(folder / f"{step}.json", lambda partial: partial.write_text(text + "\n", encoding="utf-8"))
    finally:
        steps = [saved for saved in saved_steps(folder) if saved <= step]
        _delete_all_but(folder, steps[: keep + 1])


def _delete_all_but(folder: Path, steps: list[int]) -> None:
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):  # .json before .safetensors: never one without its other
        found = STATE.fullmatch(path.name)
        if found and (path.name.startswith(".") or int(found[1]) not in steps):
            path.unlink(missing_ok=True)


def load_resume(folder: Path, warn: Callable[[str], object]) -> ResumeState:
    """Read the newest state that is whole. warn: told of each damaged one that is passed over.

    Raises CheckpointError when there is none, or when all are damaged.
    """
    steps = saved_steps(folder)
    if not steps:
        raise CheckpointError(f"nothing to resume in {folder}", hint='start with "alexnet train", without --resume')
    damage: list[CheckpointError] = []
    for step in steps:
        try:
            state = _load(folder, step)
        except CheckpointError as error:
            damage.append(error)
            continue
        for found in damage:
            warn(f"{found.message}; going back to step {step}")
        return state
    raise damage[0]


def _load(folder: Path, step: int) -> ResumeState:
    record, path = folder / f"{step}.json", folder / f"{step}.safetensors"
    hint = "restore this folder from a copy, or start a new run under another --run NAME"
    try:
        progress = json.loads(record.read_text(encoding="utf-8"))
        expected = progress.pop("checksum")
        int(progress["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{record} is damaged: it is not the JSON that a training writes", hint=hint) from error
    if not path.is_file():
        raise CheckpointError(f"{record} belongs to {path.name}, which is not there", hint=hint)
    if _checksum(path, progress) != expected:
        raise CheckpointError(f"{path} is damaged: its checksum is not the one in {record.name}", hint=hint)
    return ResumeState(read_tensors(path, kind="state file", hint=hint)[0], progress)


def _checksum(path: Path, progress: dict[str, Any]) -> str:
    return checksum(path, json.dumps(progress, sort_keys=True).encode())
