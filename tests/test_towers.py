"""Two ranks against one device: the same function of the same weights, and what crosses between them."""

from dataclasses import replace

import pytest
import torch

from alexnet_cli.core.devices import Precision
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import original
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.towers import ONE_DEVICE, Ballot, Layout
from alexnet_cli.core.train_state import new_state, train_step
from alexnet_cli.core.views import Colours, draw_views, training_views
from tests.networks import narrow, on_ranks, on_two_ranks

COLOURS = Colours(torch.full((3, 256, 256), 120.0), torch.tensor([120.0, 40.0, 20.0]), torch.eye(3))
LABELS = torch.tensor([0, 3, 6, 2, 2, 5])


def views(recipe: Recipe, dtype: torch.dtype) -> torch.Tensor:
    """Return six random pictures as a training step sees them: cropped, mirrored, without the mean, with colour noise."""
    drawn = draw_views(replace(recipe, crop_chunk=2), seed=3, epoch=1, num_images=len(LABELS))
    pictures_BHWC = torch.randint(0, 256, (len(LABELS), 256, 256, 3), generator=torch.Generator().manual_seed(4)).to(torch.uint8)
    places = zip(pictures_BHWC, drawn.y, drawn.x, strict=True)
    crops_BHWC = torch.stack([picture[y : y + 224, x : x + 224] for picture, y, x in places])
    assert recipe.colour_noise and drawn.mirrored.any() and len(set(drawn.y)) > 1
    colours = Colours(*(part.to(dtype) for part in vars(COLOURS).values()))
    return training_views(crops_BHWC, drawn, colours, recipe, recipe.colour_noise)


def gradients(layout: Layout, recipe: Recipe, precision: str) -> dict[str, torch.Tensor]:
    """Return every gradient of one training step, gathered on rank 0."""
    found: dict[str, torch.Tensor] = {}
    state = new_state(recipe, 7, Precision(precision), COLOURS, layout, seed=0)

    def keep(scaler: object = None) -> None:
        found.update(layout.gather({name: p.grad.clone() for name, p in state.network.named_parameters() if p.grad is not None}))

    state.update.step = keep  # type: ignore[method-assign]
    rows = layout.replica_share(len(LABELS))
    part = slice(rows.start, rows.stop)
    everything = views(recipe, Precision(precision).dtype)
    share = len(rows) / len(LABELS)
    train_step(state, everything[part], LABELS[part], rates_at(recipe, 0, 10), first_image=rows.start, share=share)
    return found


def crossing(layout: Layout) -> dict[str, int]:
    """Return the bytes a rank sends in one step of the full-width network with 6 images, by kind."""
    recipe = original()
    state = new_state(recipe, 10, Precision("fp32"), COLOURS, layout, seed=0)
    train_step(state, views(recipe, torch.float32), LABELS, rates_at(recipe, 0, 10))
    return dict(layout.sent_bytes)


def exchanged(layout: Layout) -> tuple[list[torch.Tensor], torch.Tensor, list[float], list[int]]:
    """Return what rows, sums, gathered numbers and decisions look like on this rank."""
    rows = []
    for total in (5, 4, 1):
        everything = torch.arange(total * 2).view(total, 2)
        rows.append(layout.exchange_rows(everything[layout.share(total).start : layout.share(total).stop], total))
    ballot = Ballot(layout)
    decisions = [ballot.cast(wish if layout.rank == voter else 0) for wish, voter in ((0, 0), (1, 1), (2, 0), (0, 0))]
    return rows, layout.total(torch.tensor([10.0 + layout.rank])), layout.numbers(20.0 + layout.rank), [*decisions, ballot.close()]


@pytest.mark.parametrize(("precision", "bound"), [("fp64", 1e-11), ("fp32", 1e-5)])
def test_gradients_of_two_ranks_are_those_of_one_device(precision, bound):
    """With dropout, crops, mirroring and colour noise: every gradient of the first step is the same to rounding."""
    expected = gradients(ONE_DEVICE, narrow(), precision)
    found = on_two_ranks(gradients, narrow(), precision)[0]
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= bound * gradient.norm(), name


@pytest.mark.parametrize(("world", "towers"), [(4, 2), (3, 1)], ids=["two pairs", "three whole networks"])
def test_gradients_of_replicas_are_those_of_one_device(world, towers):
    """Each replica sees its images alone; the sums over all are the gradients of the batch, also where the shares differ."""
    assert [len(Layout(rank, world, towers=towers).replica_share(len(LABELS))) for rank in (0, world - 1)] in ([4, 2], [2, 2])
    expected = gradients(ONE_DEVICE, narrow(), "fp64")
    found = on_ranks(world, towers, gradients, narrow(), "fp64")[0]
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-11 * gradient.norm(), name


def test_every_image_has_one_replica():
    """Whatever the batch and the mesh, the replicas' shares follow one another and make the batch, as do the ranks' own ones."""
    for world, towers in ((1, 1), (2, 2), (2, 1), (3, 1), (4, 2), (8, 2), (8, 1)):
        for total in range(20):
            layouts = [Layout(rank, world, towers=towers) for rank in range(world)]
            read = [row for layout in layouts for row in layout.share(total)]
            computed = [row for layout in layouts if layout.scores for row in layout.replica_share(total)]
            assert read == computed == list(range(total))


def test_the_mesh():
    """Ranks 2r and 2r + 1 are towers a and b of replica r."""
    found = [(layout.replica, layout.tower, layout.scores) for layout in (Layout(rank, 4) for rank in range(4))]
    assert found == [(0, "a", True), (0, "b", False), (1, "a", True), (1, "b", False)]
    assert [(layout.replica, layout.tower) for layout in (Layout(rank, 2, towers=1) for rank in range(2))] == [
        (0, "a+b"),
        (1, "a+b"),
    ]


def test_what_crosses_is_what_the_paper_says():
    """Per image: 21,632 + 4,608 + 2,048 values each way before conv3, fc6 and fc7, and tower b's 2,048 before fc8."""
    first, second = on_two_ranks(crossing)
    both_ways = 21_632 + 4_608 + 2_048
    assert first["activations"] == 6 * 4 * both_ways
    assert second["activations"] == 6 * 4 * (both_ways + 2_048)
    assert first["gradients"] == 6 * 4 * (both_ways + 2_048)
    assert second["gradients"] == 6 * 4 * both_ways


def test_rows_and_numbers():
    """Halves of a batch, also uneven or empty ones, make the whole on both ranks; sums and numbers are known to both."""
    for rows, total, numbers, decisions in on_two_ranks(exchanged):
        for size, whole in zip((5, 4, 1), rows, strict=True):
            assert torch.equal(whole, torch.arange(size * 2).view(size, 2))
        assert total.item() == 21.0
        assert numbers == [20.0, 21.0]
        assert decisions == [0, 0, 1, 2, 0]  # each known one step later, whoever wished it


def test_each_rank_holds_its_tower_alone():
    """Half of every layer on each rank, fc8 whole on rank 0: 32,511,112 and 28,454,112 parameters of 60,965,224."""
    counts = []
    for rank in (0, 1):
        with torch.device("meta"):
            network = AlexNet(original(), 1000, layout=Layout(rank, 2))
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
    # By hand: (34,944 + 307,456 + 885,120 + 663,936 + 442,624 + 37,752,832 + 16,781,312) / 2, and 4,097,000 for fc8.
    assert counts == [28_434_112 + 4_097_000, 28_434_112]


def test_halves_are_the_wholes_rows():
    """From one seed, the ranks' initial weights are the first and second half of the one device's."""
    whole = dict(AlexNet(narrow(), 7, seed=5).named_parameters())
    for rank in (0, 1):
        for name, half in AlexNet(narrow(), 7, layout=Layout(rank, 2), seed=5).named_parameters():
            expected = whole[name] if name.startswith("fc8") else whole[name].chunk(2)[rank]
            assert torch.equal(half, expected), name


def test_one_device_sends_nothing():
    """On one device the layout changes nothing and costs nothing."""
    x = torch.randn(2, 3)
    assert ONE_DEVICE.join(x) is x and ONE_DEVICE.join_on_first(x) is x and ONE_DEVICE.exchange_rows(x, 2) is x
    assert ONE_DEVICE.total(torch.tensor([3.5])).item() == 3.5 and ONE_DEVICE.tower == "a+b"
    assert ONE_DEVICE.sum_over_replicas(x) is None and Ballot(ONE_DEVICE).cast(2) == 2
