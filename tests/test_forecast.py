"""What is reckoned of a training beforehand: by hand, and against what PyTorch keeps between forward and backward."""

import pytest
import torch

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.dry_run import LoneLayout
from alexnet_cli.core.exchange import Spread
from alexnet_cli.core.forecast import Course, Speed, disk_terms, duration, kept_per_picture, memory_terms
from alexnet_cli.core.model import AlexNet, dropout_keys
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original, paper, tiny
from tests.networks import narrow

IMAGENET = Course(pictures=1_281_167, test_pictures=50_000, batch_size=128, epochs=91)
IMAGES = 17  # a number that no other dimension has


def test_steps_of_imagenet():
    """10,009 whole batches and a rest: 10,010 steps an epoch, 910,910 in all, and a test after each of 91 epochs."""
    assert (IMAGENET.steps_per_epoch, IMAGENET.total_steps, IMAGENET.last_step) == (10_010, 910_910, 910_910)
    assert (IMAGENET.steps_left, IMAGENET.tests_left) == (910_910, 91)


@pytest.mark.parametrize(
    ("done", "limit", "steps", "tests"),
    [(0, 3, 3, 1), (0, 5, 5, 1), (0, 12, 12, 2), (7, 12, 5, 1), (12, 12, 0, 0), (12, 7, 0, 0), (5, 7, 2, 0), (3, None, 17, 4)],
)
def test_what_is_left(done, limit, steps, tests):
    """Of four epochs of five steps: what a limit and an earlier part leave; a run that ends in its first epoch tests at its end."""
    course = Course(pictures=36, test_pictures=7, batch_size=8, epochs=4, done=done, limit=limit)
    assert (course.steps_left, course.tests_left) == (steps, tests)


def test_time_by_hand():
    """ImageNet at 0.1 s a step and 0.5 s for 100 pictures of a test on each of two copies: 1,001 + 125 s an epoch."""
    taken = duration(IMAGENET, Speed(step=0.1, test_pass=0.5, test_batch=100), replicas=2)
    assert taken.images_per_second == pytest.approx(1280)
    assert taken.test == pytest.approx(125)
    assert taken.epoch == pytest.approx(1126)
    assert taken.left == pytest.approx(91 * 1126)


def test_memory_by_hand():
    """One device, fp32: 60,965,224 numbers of four bytes, once as weights, gradients and velocities, four times for files."""
    terms = memory_terms(layer_table(original(), 1000), Spread(1, 1, 128, "fp32"), 0)
    numbers = 4 * 60_965_224
    assert (terms["weights"], terms["gradients"], terms["velocities"]) == (numbers,) * 3
    assert terms["copies for files"] == 4 * numbers and "weights in 16 bits" not in terms
    assert terms["pictures read ahead"] == 3 * 128 * 150_528
    assert terms["gradients of activations"] == 2 * 128 * 4 * 290_400


def test_memory_of_two_ranks_by_hand():
    """A tower each, bf16: half of the weights, in 16 bits once more; rank 0 has fc8 too and all copies for files."""
    table, spread = layer_table(original(), 1000), Spread(2, 2, 128, "bf16")
    a, b = (memory_terms(table, spread, rank) for rank in (0, 1))
    assert (a["weights"], b["weights"]) == (4 * 32_531_112, 4 * 28_434_112)
    assert (a["weights in 16 bits"], b["weights in 16 bits"]) == (2 * 32_531_112, 2 * 28_434_112)
    assert a["copies for files"] == 16 * 60_965_224 and "copies for files" not in b
    assert b["pictures read ahead"] == 3 * 64 * 150_528


def test_activations_of_conv1_by_hand():
    """Kept of a picture in conv1: what it reads, 227x227; 55x55x96 three times for the norm and the pooling; 27x27x96 twice."""
    table = layer_table(original(), 1000)
    whole = kept_per_picture(table, Spread(1, 1, 128, "fp32"), 0)
    assert whole["input"] == 4 * 150_528
    assert whole["conv1"] == 4 * 3 * 227 * 227 + 12 * 290_400 + (8 + 4) * 69_984
    tower = kept_per_picture(table, Spread(2, 2, 128, "bf16"), 1)
    assert tower["conv1"] == 2 * 3 * 227 * 227 + (2 + 4 + 2) * 145_200 + (8 + 2) * 34_992
    assert "fc8" not in tower


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", [narrow(), narrow(paper())], ids=["original", "paper"])
@pytest.mark.parametrize("rank", [None, 0, 1], ids=["one device", "tower a", "tower b"])
def test_activations_are_those_that_pytorch_keeps(recipe, precision, rank):
    """What autograd saves for the backward pass, each tensor counted once, is what the layers are reckoned to keep."""
    layout = LoneLayout() if rank is None else LoneLayout(rank, 2, towers=2)
    spread = Spread(layout.world, layout.towers, IMAGES, precision)
    reckoned = kept_per_picture(layer_table(recipe, 7), spread, layout.rank)
    del reckoned["input"]  # it is the caller's
    assert saved(recipe, precision, layout) == IMAGES * sum(reckoned.values())


def test_activations_of_local_layers_too():
    """The same for `tiny`, whose local layers keep every place's window; but conv1's own padding is reckoned, and not laid out."""
    spread = Spread(1, 1, IMAGES, "fp32")
    reckoned = kept_per_picture(layer_table(tiny(), 7), spread, 0)
    del reckoned["input"]
    padding = 4 * 3 * (36 * 36 - 32 * 32)
    assert saved(tiny(), "fp32", LoneLayout()) == IMAGES * (sum(reckoned.values()) - padding)


def saved(recipe: Recipe, precision: str, layout: LoneLayout) -> int:
    """Return the bytes of all tensors of images that autograd saves in a forward pass."""
    network = AlexNet(recipe, 7, seed=0, layout=layout).to(memory_format=torch.channels_last)
    kept: dict[int, torch.Tensor] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        if IMAGES in value.shape:
            kept[value.untyped_storage().data_ptr()] = value
        return value

    views_BCHW = torch.randn(IMAGES, 3, recipe.input_size, recipe.input_size).contiguous(memory_format=torch.channels_last)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), Precision(precision).autocast(layout.device):
        network(views_BCHW, dropout_keys(recipe, 0, 0, layout.device))
    return sum(value.untyped_storage().nbytes() for value in kept.values())


def test_disk_by_hand():
    """Two weights files with the mean image, two states and one that is being written, conv1 of 91 epochs and before, the log."""
    terms = disk_terms(
        layer_table(original(), 1000),
        Spread(2, 2, 128, "bf16"),
        IMAGENET,
        side=256,
        keep=1,
        log_every=20,
        weights_every=1000,
        kernels=139_392,
    )
    assert list(terms.values()) == [
        2 * (4 * 60_965_224 + 4 * 196_608),
        2 * 8 * 60_965_224,
        8 * 60_965_224,
        92 * 4 * 96 * 3 * 11 * 11,
        (45_545 + 92 + 16 * (910 + 92)) * 340,
    ]
    assert list(terms)[1] == "2 states for --resume"
