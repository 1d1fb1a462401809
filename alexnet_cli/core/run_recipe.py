"""What a run keeps of how it was begun: recipe.toml, which `--config` accepts (no torch)."""

from alexnet_cli.core.config import read_config, write_config
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.train_job import Job, TrainOptions


def begun_with(folder: RunFolder) -> tuple[Recipe, int]:
    """Return recipe and seed that a run was begun with. Raises RecipeError."""
    saved = read_config(folder.recipe)
    seed = int(saved.pop("run", {}).get("seed", 0))
    return Recipe.from_dict(saved), seed


def changes(recipe: Recipe, seed: int, options: TrainOptions) -> str:
    """Say in what the options differ from what a run was begun with."""
    asked, begun = (options.recipe or recipe).to_dict(), recipe.to_dict()
    names = [name for name in {**begun, **asked} if begun.get(name) != asked.get(name)]
    differences = [name if name == "events" else f"{name} {begun.get(name)} (now {asked.get(name)})" for name in names]
    differences += [f"seed {seed} (now {options.seed})"] if options.seed not in (None, seed) else []
    return ", ".join(sorted(differences))


def write_run_recipe(job: Job, world: int, towers: int) -> None:
    """Write the run's recipe and its table [run]; what a continued run keeps of where its weights began stays."""
    run = {"seed": job.seed, "gpus": world, "towers": towers, "precision": job.precision.name}
    begun = read_config(job.folder.recipe).get("run", {}) if job.continued else {}
    start = job.initial.to_dict() if job.initial else {name: value for name, value in begun.items() if name.startswith("init")}
    write_config(job.folder.recipe, {**job.recipe.to_dict(), "run": {**run, "data": str(job.options.data), **start}})
