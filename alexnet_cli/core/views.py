"""What the network sees of a stored picture: a random view in training, ten views in a test.

The mean that is removed is its centre crop, whatever the view's place and mirroring, unless the recipe says otherwise. Data
order, files and the network are not its business. Legend: B batch, V views, C channels (RGB, or BGR where the recipe says so),
H, W stored size, S input size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core import draws
from alexnet_cli.core.recipe import Recipe


@dataclass(frozen=True)
class ViewDraws:
    """How each picture of one epoch is seen, by its position in the epoch's order.

    y, x: int64 (N,), corner of the crop, 0 to H - S. mirrored: bool (N,). colours: float64 (N, 3), standard normal, one for
    each principal component.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    colours: NDArray[np.float64]

    def part(self, positions: range) -> "ViewDraws":
        """Return the draws of consecutive positions, such as those of one batch."""
        of = slice(positions.start, positions.stop)
        return ViewDraws(self.y[of], self.x[of], self.mirrored[of], self.colours[of])


@dataclass(frozen=True)
class Colours:
    """The mean and the principal components of the training pictures' colours, on the device that trains.

    mean_CHW: float (3, H, W), RGB, 0-255. stdevs_3: standard deviation along each component. components_33: the components
    as rows, RGB.
    """

    mean_CHW: Tensor
    stdevs_3: Tensor
    components_33: Tensor


def draw_views(recipe: Recipe, seed: int, epoch: int, num_images: int) -> ViewDraws:
    """Draw crop, mirroring and colour noise of an epoch; crop and mirroring are shared by `crop_chunk` neighbours.

    Source: paper 4.1; chunks of 32 and offsets 0 to 32 inclusive: the 2012 code.
    """
    chunks = -(-num_images // recipe.crop_chunk)
    places = recipe.stored_size - recipe.input_size + 1

    def per_image(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.repeat(numbers, recipe.crop_chunk)[:num_images]

    mirrored = per_image(draws.integers(chunks, 2, seed, "mirror", epoch)).astype(bool)
    return ViewDraws(
        y=per_image(draws.integers(chunks, places, seed, "crop y", epoch)),
        x=per_image(draws.integers(chunks, places, seed, "crop x", epoch)),
        mirrored=mirrored & recipe.mirror,
        colours=np.asarray(draws.normals(3 * num_images, seed, "colour", epoch)).reshape(num_images, 3),
    )


def training_views(crops_BHWC: Tensor, drawn: ViewDraws, colours: Colours, recipe: Recipe, noise: float) -> Tensor:
    """Mirror, remove the mean and add colour noise.

    crops_BHWC: uint8 (B, S, S, 3), RGB, cut at the drawn places. drawn: that batch's part of the epoch's draws.
    noise: strength of the colour noise now, 0 for none. Returns views_BCHW in the type of `colours.mean_CHW`, channels last.
    """
    device, dtype = colours.mean_CHW.device, colours.mean_CHW.dtype
    pixels_BCHW = crops_BHWC.to(device, non_blocking=True).permute(0, 3, 1, 2).to(dtype)
    mirrored_B111 = torch.from_numpy(drawn.mirrored).to(device)[:, None, None, None]
    mean_BCHW = _mean_crops(colours.mean_CHW, recipe, drawn.y, drawn.x)
    if recipe.mean_crop == "centre":
        views_BCHW = torch.where(mirrored_B111, pixels_BCHW.flip(3), pixels_BCHW) - mean_BCHW
    else:
        views_BCHW = pixels_BCHW - mean_BCHW
        views_BCHW = torch.where(mirrored_B111, views_BCHW.flip(3), views_BCHW)
    if noise > 0:
        views_BCHW = _add_noise(views_BCHW, torch.from_numpy(drawn.colours).to(device, dtype), colours, recipe, noise)
    return _as_network_wants(views_BCHW, recipe)


def _add_noise(views_BCHW: Tensor, normals_B3: Tensor, colours: Colours, recipe: Recipe, noise: float) -> Tensor:
    """Shift every pixel of a view by one random colour along the principal components (paper 4.1)."""
    # DEPARTS paper-colour-units: the text's eigenvalues are those of pixels from 0 to 1, the only reading that leaves a picture.
    magnitudes_3 = colours.stdevs_3 if recipe.colour_noise_scale == "stdev" else colours.stdevs_3**2 / 255
    shifts_BC = noise * (normals_B3 * magnitudes_3) @ colours.components_33
    shifted_BCHW = views_BCHW + shifts_BC[:, :, None, None]
    return shifted_BCHW / (1 + noise) if recipe.colour_noise_rescale else shifted_BCHW


def test_views(images_BHWC: Tensor, mean_CHW: Tensor, recipe: Recipe, crops: int) -> Tensor:
    """Cut the four corners and the centre, mirror each, and remove the mean.

    images_BHWC: uint8 (B, H, W, 3), RGB. mean_CHW: float (3, H, W), RGB, 0-255; its type and device are the result's.
    crops: 10, or 1 for the centre alone. Returns views_BVCHW: V is 10 (0-4 plain, 5-9 mirrored), 5 where the recipe does not
    mirror, or 1. Source: paper 4.1; the 2012 code's order of the corners, and no noise and no scaling.
    """
    images_BCHW = images_BHWC.to(mean_CHW.device, non_blocking=True).permute(0, 3, 1, 2)
    size, corners = recipe.input_size, test_corners(recipe, crops)
    views = []
    for mirrored in (False, True) if num_views(recipe, crops) == 10 else (False,):
        for y, x in corners:
            crop_BCHW = images_BCHW[:, :, y : y + size, x : x + size]
            mean_1CHW = _mean_crops(mean_CHW, recipe, np.array([y]), np.array([x]))
            if mirrored:
                crop_BCHW = crop_BCHW.flip(3)
                mean_1CHW = mean_1CHW.flip(3) if recipe.mean_crop == "aligned" else mean_1CHW
            view_BCHW = _as_network_wants(crop_BCHW.to(mean_CHW.dtype) - mean_1CHW, recipe)
            views.append(view_BCHW.permute(0, 2, 3, 1))
    # Stacked with the channels last in memory, as the network wants them.
    return torch.stack(views, dim=1).permute(0, 1, 4, 2, 3)


def test_corners(recipe: Recipe, crops: int) -> list[tuple[int, int]]:
    """Return where the views of a test begin, (y, x), before any is mirrored: the corners, in their midst the centre."""
    far = recipe.stored_size - recipe.input_size
    centre = (far // 2, far // 2)
    return [(0, 0), (0, far), centre, (far, 0), (far, far)] if crops == 10 else [centre]


def num_views(recipe: Recipe, crops: int) -> int:
    """Return how many views a test of that many crops takes of each picture."""
    return 1 if crops == 1 else 10 if recipe.mirror else 5


def pixel_differences(views_BCHW: Tensor, recipe: Recipe) -> Tensor:
    """Return views as differences from the mean in pixel values, RGB, of the scale 0-255: what `test_views` did is undone.

    views_BCHW: float, of any size, in the network's own scale and order of channels; gradients are another matter.
    """
    if recipe.channel_order == "bgr":
        views_BCHW = views_BCHW.flip(1)
    stdevs_C11 = torch.tensor(recipe.pixel_stdevs, dtype=views_BCHW.dtype, device=views_BCHW.device)[:, None, None]
    return views_BCHW * stdevs_C11 / recipe.pixel_scale


def from_pixel_differences(differences_BCHW: Tensor, recipe: Recipe) -> Tensor:
    """Return what the network reads of differences from the mean, RGB, of the scale 0-255: the way back."""
    return _as_network_wants(differences_BCHW, recipe)


def centre_mean(mean_CHW: Tensor, recipe: Recipe) -> Tensor:
    """Return the mean that is removed from the centre view, RGB, 0-255: (1, 3, S, S), or (1, 3, 1, 1) where it is by channel."""
    centre = np.array([(recipe.stored_size - recipe.input_size) // 2])
    return _mean_crops(mean_CHW, recipe, centre, centre)


def _mean_crops(mean_CHW: Tensor, recipe: Recipe, y: NDArray[np.int64], x: NDArray[np.int64]) -> Tensor:
    """Return the part of the mean image that belongs to each crop, (1 or B, 3, S, S) or (1, 3, 1, 1)."""
    if recipe.mean == "channel":
        return mean_CHW.mean(dim=(1, 2))[None, :, None, None]
    size, centre = recipe.input_size, (recipe.stored_size - recipe.input_size) // 2
    places = [(centre, centre)] if recipe.mean_crop == "centre" else zip(y, x, strict=True)
    return torch.stack([mean_CHW[:, top : top + size, left : left + size] for top, left in places])


def _as_network_wants(views_BCHW: Tensor, recipe: Recipe) -> Tensor:
    if recipe.pixel_scale != 1.0 or set(recipe.pixel_stdevs) != {1.0}:
        stdevs_C11 = torch.tensor(recipe.pixel_stdevs, dtype=views_BCHW.dtype, device=views_BCHW.device)[:, None, None]
        views_BCHW = views_BCHW * recipe.pixel_scale / stdevs_C11
    return views_BCHW.flip(1) if recipe.channel_order == "bgr" else views_BCHW
