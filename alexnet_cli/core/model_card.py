"""The card of a model on the Hugging Face Hub: what a weights file says of itself, for people, and as YAML for the Hub."""

from collections.abc import Sequence
from typing import Any

from alexnet_cli.core.checkpoint import Weights
from alexnet_cli.core.hub import client

TAGS = ("alexnet", "image-classification", "vision")
CLASSES_SHOWN = 20
FIGURES = (("val_top1_error", "top-1 accuracy, centre crop"), ("val_top5_error", "top-5 accuracy, centre crop"))


def write_card(weights: Weights, repo: str, *, licence: str | None = None, dataset: str | None = None) -> str:
    """Return the text of README.md for a repository.

    licence: as the Hub spells it, such as apache-2.0; without one the card names none. dataset: of the pictures that the accuracy
    was measured on. Raises AlexNetError without huggingface_hub.
    """
    name = repo.split("/")[-1]
    return "\n".join(
        [
            "---",
            _header(weights, name, licence, dataset),
            "---",
            "",
            f"# {name}",
            "",
            f"AlexNet (Krizhevsky, Sutskever, Hinton, NIPS 2012), recipe `{weights.recipe.name}` of alexnet-cli.",
            "",
            *_table(weights),
            "",
            "## Use",
            "",
            "```sh",
            "pip install 'alexnet-cli[hub]'",
            f"alexnet predict cat.jpg --weights hf://{repo}",
            "```",
            "",
            "The file holds all that is needed: recipe, classes and mean image are in it, as safetensors and JSON.",
            "",
            "## Classes",
            "",
            _classes(weights.words, weights.classes),
            "",
        ]
    )


def _header(weights: Weights, name: str, licence: str | None, dataset: str | None) -> str:
    hub = client()
    results = [
        hub.EvalResult(
            task_type="image-classification",
            dataset_type=dataset or "imagefolder",
            dataset_name=dataset or "validation pictures",
            metric_type="accuracy",
            metric_name=title,
            metric_value=round(1 - weights.accuracy[figure], 6),
        )
        for figure, title in FIGURES
        if figure in weights.accuracy
    ]
    more: dict[str, Any] = {"model_name": name, "eval_results": results, "metrics": ["accuracy"]} if results else {}
    card = hub.ModelCardData(
        license=licence, library_name="alexnet-cli", pipeline_tag="image-classification", tags=list(TAGS), **more
    )
    return str(card.to_yaml())


def _table(weights: Weights) -> list[str]:
    parameters = sum(tensor.numel() for tensor in weights.tensors.values())
    rows = [
        ("recipe", weights.recipe.name),
        ("parameters", f"{parameters:,}"),
        ("classes", f"{len(weights.classes):,}"),
        ("trained", f"{weights.epoch:,} epochs, {weights.step:,} steps"),
        *((title, f"{100 * (1 - weights.accuracy[figure]):.2f} %") for figure, title in FIGURES if figure in weights.accuracy),
        *([("source", weights.source)] if weights.source else []),
    ]
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _classes(words: Sequence[str], ids: Sequence[str]) -> str:
    names = [word or identity for word, identity in zip(words, ids, strict=True)]
    more = f", and {len(names) - CLASSES_SHOWN:,} more" if len(names) > CLASSES_SHOWN else ""
    return ", ".join(names[:CLASSES_SHOWN]) + more + "."
