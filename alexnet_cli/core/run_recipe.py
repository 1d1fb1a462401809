"""What a run keeps of how it was begun: recipe.toml, which `--config` accepts (no torch)."""

from alexnet_cli.core.config import read_config, write_config
from alexnet_cli.core.train_job import Job


def write_run_recipe(job: Job, world: int, towers: int) -> None:
    """Write the run's recipe and its table [run]; what a continued run keeps of where its weights began stays."""
    run = {"seed": job.seed, "gpus": world, "towers": towers, "precision": job.precision.name}
    begun = read_config(job.folder.recipe).get("run", {}) if job.continued else {}
    start = job.initial.to_dict() if job.initial else {name: value for name, value in begun.items() if name.startswith("init")}
    write_config(job.folder.recipe, {**job.recipe.to_dict(), "run": {**run, "data": str(job.options.data), **start}})
