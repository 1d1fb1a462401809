"""Trainings that are compared with one another: each a run by its own name, all checked before the first is begun.

A run is continued where it stopped, so that the same command repeated trains nothing twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from alexnet_cli.core.batches import require_prepared
from alexnet_cli.core.errors import DataError, RunError
from alexnet_cli.core.ranks import plan_ranks
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.run_recipe import begun_with, changes
from alexnet_cli.core.store import open_store
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.train import require_data, require_trainable, train
from alexnet_cli.core.train_job import TrainOptions, TrainResult


@dataclass(frozen=True)
class Trial:
    """One of the trainings: its run's name, recipe and seed."""

    run: str
    recipe: Recipe
    seed: int

    def folder(self, common: TrainOptions) -> RunFolder:
        """Return where its run is."""
        return RunFolder(common.runs / self.run)

    def train(self, common: TrainOptions, reporter: Reporter) -> TrainResult:
        """Start it, or continue it to its end or to the step that limits it; quick where that is reached."""
        return train(_own(self, common), reporter)


def _own(trial: Trial, common: TrainOptions) -> TrainOptions:
    return replace(common, run=trial.run, recipe=trial.recipe, seed=trial.seed, auto_resume=True)


def check_trials(trials: Iterable[Trial], common: TrainOptions, splits: Sequence[str] = ()) -> None:
    """Raise what would stop one of the trainings, or a test on these splits after it, before anything is trained.

    Raises DataError, RecipeError, DeviceError, and RunError where a run of that name was begun with another recipe or seed.
    """
    if place_from():
        raise RunError("several trainings under torchrun", hint="start without it: --gpus N begins the processes of each")
    ranks, _ = plan_ranks(common.gpus, common.towers, common.device, common.precision, None)
    stores = {split: open_store(common.data, split) for split in ("train", "val", *splits)}
    for split in splits:
        if not stores[split].is_labelled:
            raise DataError(f"{stores[split].folder} has pictures without labels", hint="test on another --split")
    for trial in trials:
        require_trainable(trial.recipe, ranks)
        require_data(trial.recipe, stores["train"], stores["val"])
        for split in splits:
            require_prepared(stores[split], trial.recipe)
        _require_same(trial, common)


def _require_same(trial: Trial, common: TrainOptions) -> None:
    folder = trial.folder(common)
    if not folder.can_continue:
        return
    found = changes(*begun_with(folder), _own(trial, common))
    if found:
        raise RunError(
            f"run {folder.path} was started with another {found}",
            hint="repeat the command that began it, or name another folder by --runs",
        )
