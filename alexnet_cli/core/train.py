"""Training, from what a user asks for to a finished run: on one device, or on a mesh of replicas and towers."""

from contextlib import ExitStack

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.batches import require_prepared
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import AlexNetError, DataError, ElsewhereError, RecipeError, RunError
from alexnet_cli.core.events import find_writer
from alexnet_cli.core.initial import Initial, choose_initial
from alexnet_cli.core.lock import held
from alexnet_cli.core.meeting import leave_ranks
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.ranks import Ranks, join_torchrun, plan_ranks, run_among_others, run_together
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder, choose_folder, point_latest
from alexnet_cli.core.run_recipe import begun_with, changes, write_run_recipe
from alexnet_cli.core.schedule import require_possible
from alexnet_cli.core.session import train_rank
from alexnet_cli.core.store import Store, open_store, read_stats
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_job import Job, TrainOptions, TrainResult
from alexnet_cli.core.truths import match_classes

__all__ = ["TrainOptions", "TrainResult", "plan_job", "require_data", "require_trainable", "train"]


def train(options: TrainOptions, reporter: Reporter | None = None) -> TrainResult:
    """Train a network, from its initial weights or from where a run stopped.

    Under torchrun every one of its processes calls this; only rank 0 needs the folder of runs.
    Raises DataError, RunError, DeviceError, CheckpointError, RecipeError before anything is written, and DiskFullError or
    RunError (a loss that is no number) later, with the last checkpoint in place; ElsewhereError on ranks that another one's
    failure has ended.
    """
    reporter = reporter or Reporter()
    ranks, precision = plan_ranks(options.gpus, options.towers, options.device, options.precision, place_from())
    for split in ("train", "val"):
        open_store(options.data, split)
    read_stats(options.data)
    if ranks.place:
        return _train_under_torchrun(options, ranks, precision, reporter)
    with ExitStack() as stack:
        job = _begin(options, ranks, precision, stack, reporter)
        stop = stack.enter_context(StopRequest(reporter.warn).watching())
        if ranks.world > 1:
            return run_together(train_rank, job, ranks, reporter, stop)
        return train_rank(job, Layout(device=ranks.devices[0]), reporter, stop)


def _train_under_torchrun(options: TrainOptions, ranks: Ranks, precision: Precision, reporter: Reporter) -> TrainResult:
    try:
        layout = join_torchrun(ranks)
        with ExitStack() as stack:
            job, failure = None, None
            if layout.rank == 0:
                try:
                    job = _begin(options, ranks, precision, stack, reporter)
                except AlexNetError as error:
                    failure = error
            job = layout.from_first(job)
            if failure:
                raise failure
            if job is None:
                raise ElsewhereError("rank 0 could not begin")
            announce = reporter.warn if layout.rank == 0 else lambda text: None
            stop = stack.enter_context(StopRequest(announce).watching())
            return run_among_others(train_rank, job, layout, reporter, stop)
    finally:
        leave_ranks()


def _begin(options: TrainOptions, ranks: Ranks, precision: Precision, stack: ExitStack, reporter: Reporter) -> Job:
    """Settle what is trained, hold its folder as long as the stack lasts, and lay out its files."""
    job = plan_job(options, ranks, precision, reporter)
    busy = RunError(f"another alexnet train is writing to {job.folder.path}", hint="wait for it, or choose another --run NAME")
    stack.enter_context(held(job.folder.path, busy))
    _lay_out(job, ranks)
    return job


def plan_job(options: TrainOptions, ranks: Ranks, precision: Precision, reporter: Reporter) -> Job:
    """Choose the run's folder and settle recipe and seed; nothing is written. Raises RunError, CheckpointError, RecipeError."""
    folder, continued = choose_folder(options.runs, options.run, resume=options.resume, auto_resume=options.auto_resume)
    recipe, seed = _settled(options, folder, continued, reporter)
    require_trainable(recipe, ranks)
    if options.tensorboard:
        find_writer()
    require_data(recipe, open_store(options.data, "train"), open_store(options.data, "val"))
    initial = _initial(options, recipe, continued, reporter)
    return Job(options, recipe, seed, folder, continued, precision, initial)


def require_data(recipe: Recipe, train_store: Store, val_store: Store) -> None:
    """Refuse stores that a recipe cannot be trained and tested on; some of it would else be found after hours.

    Raises DataError for pictures of another size, resize or other classes and for training pictures without one, RecipeError
    for a schedule that needs labels which val does not have.
    """
    for store in (train_store, val_store):
        require_prepared(store, recipe)
    require_possible(recipe, labelled=val_store.is_labelled)
    labels, count = train_store.labels, len(train_store.classes)
    wrong = int(((labels < 0) | (labels >= count)).sum())
    if wrong:
        raise DataError(
            f"{train_store.folder} has no class for {wrong:,} of {len(labels):,} pictures", hint="train on a source with labels"
        )
    if val_store.is_labelled:
        match_classes(val_store, train_store.classes)


def _initial(options: TrainOptions, recipe: Recipe, continued: bool, reporter: Reporter) -> Initial | None:
    """Return what a new run starts from; a continued one no longer asks for it."""
    if options.init and options.resume:
        raise RunError(
            "a run that is continued has its weights already", hint="leave out --init, or start another run without --resume"
        )
    if options.init is None or continued:
        return None
    classes = open_store(options.data, "train").classes
    return choose_initial(options.init, options.init_layers, runs=options.runs, recipe=recipe, classes=classes, reporter=reporter)


def _settled(options: TrainOptions, folder: RunFolder, continued: bool, reporter: Reporter) -> tuple[Recipe, int]:
    """Return recipe and seed: what was asked for, or what the continued run was started with if that is the same."""
    if not continued:
        return options.recipe or original(), options.seed or 0
    recipe, seed = begun_with(folder)
    changed = changes(recipe, seed, options)
    if not changed:
        return recipe, seed
    if not options.override:
        raise RunError(
            f"run {folder.path} was started with another {changed}",
            hint="continue it without these options, go on with them by --override, or start another run with --run NAME",
        )
    reporter.warn(f"going on with another {changed}")
    return options.recipe or recipe, seed if options.seed is None else options.seed


def require_trainable(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse what a recipe can say of other networks, but this training cannot do."""
    layer_table(recipe, 1)  # refuses layers to which nothing is left to read, whatever the classes
    if ranks.split and (recipe.towers != 2 or recipe.lrn_crosses_towers):
        raise RecipeError(
            "a tower on each rank needs a recipe of two towers whose normalisation does not cross them, which"
            f" {recipe.name} is not",
            hint="use --towers 1, which puts the whole network on each rank, or --gpus 1",
        )
    if recipe.batch_size < ranks.world:
        raise RecipeError(f"a batch of {recipe.batch_size} for {ranks.world} ranks", hint="use a larger --batch-size")


def _lay_out(job: Job, ranks: Ranks) -> None:
    """Begin the files of a new run; a folder that never reached a checkpoint is started over."""
    if job.folder.can_continue != job.continued:
        raise RunError(f"another alexnet train has just written {job.folder.path}", hint="repeat the command")
    if not job.continued:  # one that is continued with another recipe writes it when the saved state has been taken up
        write_run_recipe(job, ranks.world, ranks.towers)
    point_latest(job.folder)
