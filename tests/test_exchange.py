"""What each rank holds and sends in a step: by hand for the paper's network, and against what running ranks count."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import DeviceError, RecipeError
from alexnet_cli.core.exchange import Spread, held_tensors, sent_per_step, spread_over
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original, tiny
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_state import new_state, train_step
from alexnet_cli.core.views import Colours, draw_views, training_views
from tests.networks import narrow, on_ranks

COLOURS = Colours(torch.full((3, 256, 256), 120.0), torch.tensor([120.0, 40.0, 20.0]), torch.eye(3))


def counted(layout: Layout, recipe: Recipe, precision: str) -> dict[str, int]:
    """Return what a rank counts in one step, from the pictures it reads to the sums of gradients."""
    state = new_state(recipe, 7, Precision(precision), COLOURS, layout, seed=0)
    read, rows = layout.share(recipe.batch_size), layout.replica_share(recipe.batch_size)
    crops_BHWC = layout.exchange_rows(torch.zeros((len(read), 224, 224, 3), dtype=torch.uint8), len(rows))
    labels_B = layout.exchange_rows(torch.zeros(len(read), dtype=torch.int64), len(rows))
    drawn = draw_views(recipe, 0, 0, recipe.batch_size).part(rows)
    views_BCHW = training_views(crops_BHWC, drawn, COLOURS, recipe, recipe.colour_noise)
    train_step(state, views_BCHW, labels_B, rates_at(recipe, 0, 10), first_image=rows.start, share=len(rows) / recipe.batch_size)
    return dict(layout.sent_bytes)


@pytest.mark.parametrize(
    ("world", "towers", "batch_size", "precision"),
    [(2, 2, 5, "bf16"), (4, 2, 6, "fp32")],
    ids=["two towers in bf16", "two pairs"],
)
def test_ranks_send_what_is_reckoned(world, towers, batch_size, precision):
    """Processes that make one step count, each and by kind, the very bytes, also where the batch falls into unequal parts."""
    recipe = narrow(batch_size=batch_size)
    table, spread = layer_table(recipe, 7), Spread(world, towers, batch_size, precision)
    for rank, found in enumerate(on_ranks(world, towers, counted, recipe, precision)):
        assert found == {**sent_per_step(table, spread, rank), "weights": 0}
        assert any(found.values())


def test_two_ranks_of_the_paper_by_hand():
    """A batch of 128: 21,632 + 4,608 + 2,048 values of an image each way, 2,048 more from tower b, and half of the pictures."""
    table = layer_table(original(), 1000)
    both_ways = 128 * (21_632 + 4_608 + 2_048)
    pictures = 64 * (224 * 224 * 3 + 8)
    for precision, num_bytes in (("fp32", 4), ("bf16", 2), ("fp64", 8)):
        a, b = (sent_per_step(table, Spread(2, 2, 128, precision), rank) for rank in (0, 1))
        more = (both_ways + 128 * 2_048) * num_bytes
        assert list(a.values()) == [both_ways * num_bytes, more, 0, pictures]
        assert list(b.values()) == [more, both_ways * num_bytes, 0, pictures]


def test_replicas_of_the_paper_by_hand():
    """Two pairs exchange each parameter's gradient once, as a ring of two does; four whole networks one and a half times."""
    table = layer_table(original(), 1000)
    held = {0: 28_434_112 + 4_097_000, 1: 28_434_112, 2: 28_434_112 + 4_097_000, 3: 28_434_112}
    for rank, count in held.items():
        sent = sent_per_step(table, Spread(4, 2, 128, "bf16"), rank)
        assert sent["sums of gradients"] == 4 * count  # in fp32 whatever the arithmetic
        assert sent["pictures"] == 32 * (224 * 224 * 3 + 8)
        alone = sent_per_step(table, Spread(4, 1, 128, "fp32"), rank)
        assert alone == {"activations": 0, "gradients": 0, "sums of gradients": 6 * 60_965_224, "pictures": 0}
    assert not any(sent_per_step(table, Spread(1, 1, 128), 0).values())


@pytest.mark.parametrize(("world", "towers"), [(1, 1), (2, 2), (4, 2), (3, 1)])
def test_ranks_hold_what_is_reckoned(world, towers):
    """Every parameter of a network laid out on a rank has the size that is reckoned from the table."""
    for rank in range(world):
        with torch.device("meta"):
            network = AlexNet(original(), 10, layout=Layout(rank, world, towers=towers))
        sizes = held_tensors(layer_table(original(), 10), Spread(world, towers, 128), rank)
        assert sizes == [parameter.numel() for parameter in network.parameters()]


def test_local_layers_hold_biases_for_every_place():
    """Of `tiny` too, whose local layers have kernels and biases of their own at each place, sizes are the network's."""
    with torch.device("meta"):
        network = AlexNet(tiny(), 10)
    sizes = held_tensors(layer_table(tiny(), 10), Spread(1, 1, 128), 0)
    assert sizes == [parameter.numel() for parameter in network.parameters()]


def test_spread_of_a_recipe():
    """Towers are parted where the recipe has two and ranks are more than one, unless told otherwise."""
    assert spread_over(original(), 2, None) == Spread(2, 2, 128, "fp32")
    assert spread_over(original(), 1, 2) == Spread(1, 1, 128)
    assert spread_over(original(), 3, 1) == Spread(3, 1, 128)
    assert spread_over(replace(original(), lrn_crosses_towers=True), 2, None).towers == 1
    assert spread_over(original(), None, None).world == 2 and spread_over(narrow(batch_size=1), None, None).world == 1


def test_impossible_spreads():
    """An odd number of ranks in pairs, a recipe of one tower in two, and a batch smaller than the ranks are refused."""
    with pytest.raises(DeviceError, match="3 ranks cannot be paired"):
        spread_over(original(), 3, None)
    with pytest.raises(RecipeError, match="recipe original cannot be parted"):
        spread_over(replace(original(), lrn_crosses_towers=True), 2, 2)
    with pytest.raises(RecipeError, match="a batch of 2 for 4 ranks"):
        spread_over(narrow(batch_size=2), 4, None)
