"""Training, from what a user asks for to a finished run: one device, or one tower on each of two."""

from alexnet_cli.core.config import read_config, write_config
from alexnet_cli.core.errors import RecipeError, RunError
from alexnet_cli.core.lock import held
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.ranks import devices_for, train_on_two
from alexnet_cli.core.recipe import Recipe, original
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder, choose_folder, point_latest
from alexnet_cli.core.session import train_rank
from alexnet_cli.core.store import open_store, read_stats
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_job import Job, TrainOptions, TrainResult

__all__ = ["TrainOptions", "TrainResult", "train"]


def train(options: TrainOptions, reporter: Reporter | None = None) -> TrainResult:
    """Train a network, from its initial weights or from where a run stopped.

    Raises DataError, RunError, DeviceError, CheckpointError, RecipeError before anything is written, and DiskFullError or
    RunError (a loss that is no number) later, with the last checkpoint in place.
    """
    reporter = reporter or Reporter()
    devices, precision = devices_for(options.gpus, options.device, options.precision)
    for split in ("train", "val"):
        open_store(options.data, split)
    read_stats(options.data)
    folder, continued = choose_folder(options.runs, options.run, resume=options.resume, auto_resume=options.auto_resume)
    recipe, seed = _settled(options, folder, continued)
    _require_trainable(recipe, options.gpus)
    job = Job(options, recipe, seed, folder, continued, precision)
    busy = RunError(f"another alexnet train is writing to {folder.path}", hint="wait for it, or choose another --run NAME")
    with held(folder.path, busy):
        _lay_out(job)
        with StopRequest(reporter.warn).watching() as stop:
            if len(devices) == 2:
                return train_on_two(train_rank, job, devices, reporter, stop)
            return train_rank(job, Layout(device=devices[0]), reporter, stop)


def _settled(options: TrainOptions, folder: RunFolder, continued: bool) -> tuple[Recipe, int]:
    """Return recipe and seed: what was asked for, or what the continued run was started with if that is the same."""
    if not continued:
        return options.recipe or original(), options.seed or 0
    saved = read_config(folder.recipe)
    seed = int(saved.pop("run", {}).get("seed", 0))
    recipe = Recipe.from_dict(saved)
    asked, begun = (options.recipe or recipe).to_dict(), recipe.to_dict()
    names = [name for name in {**begun, **asked} if begun.get(name) != asked.get(name)]
    changed = [name if name == "events" else f"{name} {begun.get(name)} (now {asked.get(name)})" for name in names]
    changed += [f"seed {seed} (now {options.seed})"] if options.seed not in (None, seed) else []
    if changed:
        raise RunError(
            f"run {folder.path} was started with another {', '.join(sorted(changed))}",
            hint="continue it without these options, or start another run with --run NAME",
        )
    return recipe, seed


def _require_trainable(recipe: Recipe, gpus: int) -> None:
    """Refuse what a recipe can say of other networks, but this training cannot do."""
    if gpus == 2 and (recipe.towers != 2 or recipe.lrn_crosses_towers):
        raise RecipeError("--gpus 2 needs a recipe of two towers whose normalisation does not cross them", hint="use --gpus 1")
    if recipe.resize != "short_side":
        raise RecipeError(f"resize is {recipe.resize!r}, but stores are prepared with 'short_side'", hint="remove it from --config")


def _lay_out(job: Job) -> None:
    """Begin the files of a new run; a folder that never reached a checkpoint is started over."""
    if job.folder.can_continue != job.continued:
        raise RunError(f"another alexnet train has just written {job.folder.path}", hint="repeat the command")
    if not job.continued:
        run = {"seed": job.seed, "gpus": job.options.gpus, "precision": job.precision.name, "data": str(job.options.data)}
        write_config(job.folder.recipe, {**job.recipe.to_dict(), "run": run})
    point_latest(job.folder)
