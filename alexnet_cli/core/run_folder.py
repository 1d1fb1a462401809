"""The folder of one training run: what it is called and what lies in it (stdlib only).

runs/NAME/{recipe.toml, metrics.jsonl, metrics.csv, tensorboard/, best.safetensors, last.safetensors, kernels/, evaluation.json,
resume/}, and runs/latest, a link to the newest.
"""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.core.errors import RunError

LATEST = "latest"


@dataclass(frozen=True)
class RunFolder:
    """Where the files of one run are."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Return the resolved recipe, which `--config` accepts."""
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """Return the log, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def table(self) -> Path:
        """Return the log as a table for other programs."""
        return self.path / "metrics.csv"

    @property
    def events(self) -> Path:
        """Return the folder of TensorBoard's events."""
        return self.path / "tensorboard"

    @property
    def best(self) -> Path:
        """Return the weights with the lowest top-1 error so far."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Return the newest weights."""
        return self.path / "last.safetensors"

    @property
    def kernels(self) -> Path:
        """Return the folder of the first layer's kernels after each epoch."""
        return self.path / "kernels"

    @property
    def evaluation(self) -> Path:
        """Return what a comparison of runs measured of the newest weights."""
        return self.path / "evaluation.json"

    @property
    def resume(self) -> Path:
        """Return the folder of the state that a resumed run starts from."""
        return self.path / "resume"

    @property
    def can_continue(self) -> bool:
        """Whether a state to continue from has been committed."""
        return bool(self.resume.is_dir() and any(path.stem.isdigit() for path in self.resume.glob("*.json")))


def choose_folder(runs: Path, name: str | None, *, resume: bool, auto_resume: bool) -> tuple[RunFolder, bool]:
    """Return the run's folder and whether the run is continued there; nothing is written.

    name: the run's; None for the latest where one is continued, else for the time of day.
    Raises RunError where there is nothing to continue, and where a new run would meet an existing one.
    """
    if name is not None and (not re.fullmatch(r"[\w.+=@][\w.+=@ -]*", name) or name in (LATEST, ".", "..")):
        raise RunError(f"{name!r} cannot be the name of a run", hint="use letters, digits, dots, dashes and underscores")
    named = RunFolder(runs / name) if name else _latest(runs) if resume or auto_resume else None
    if named is not None and (resume or auto_resume) and named.can_continue:
        return named, True
    if resume:
        place = named.path if named else f"{runs}: it has no run"
        raise RunError(f"nothing to continue in {place}", hint="start with the same command without --resume, or use --auto-resume")
    if named is None:
        return RunFolder(_free_name(runs)), False
    if not auto_resume and named.path.exists() and (not named.path.is_dir() or any(named.path.iterdir())):
        way = (
            "continue it with --resume" if named.can_continue else "start it over with --auto-resume: it never reached a checkpoint"
        )
        raise RunError(f"run {named.path} exists already", hint=f"{way}, or choose another --run NAME")
    return named, False


def _latest(runs: Path) -> RunFolder | None:
    link = runs / LATEST
    return RunFolder(runs / link.resolve().name) if link.is_dir() else None


def _free_name(runs: Path) -> Path:
    """Name a run by the time: 2012-09-30-235900, with a number behind it in the unlikely case."""
    stem = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    return next(runs / name for name in names if not (runs / name).exists())


def point_latest(folder: RunFolder) -> None:
    """Let runs/latest point to this run, in one step."""
    runs = folder.path.parent
    link = runs / f".{LATEST}.partial"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.path.name, target_is_directory=True)
    link.replace(runs / LATEST)
