"""Pictures of few colors are found, and the loss draws each pixel to its closest color."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch

import impasto
from impasto import images
from impasto.geometry import Size
from impasto.images.palette import joint_palette, palette_of, palette_share
from impasto.networks.features import Network
from impasto.objectives.base import TileContext
from impasto.objectives.palette_distance import PaletteLoss
from impasto.optimize import loss
from impasto.optimize.execution import Execution
from tests.support.loss_setup import PLAN, check_tiles, make_problem, with_recipe

INK, PAPER, RED = (0.1, 0.08, 0.08), (0.93, 0.88, 0.76), (0.75, 0.2, 0.15)


def stripes(*colors: tuple[float, float, float], width: int = 7) -> np.ndarray:
    """(240, 320, 3): slanted stripes of these colors."""
    rows, columns = np.mgrid[:240, :320]
    index = (rows // 2 + columns) // width % len(colors)
    return np.array(colors, np.float32)[index]


@pytest.mark.parametrize("side", [320, 213, 120])
def test_a_woodcut_has_a_palette_at_any_size(side: int):
    pixels = images.resize(stripes(INK, PAPER, width=20), Size(240, 320).with_long_side(side))
    found = palette_of(pixels)
    assert found is not None and len(found.colors) == 2
    apart = np.abs(found.colors[:, None] - np.array([INK, PAPER], np.float32)).max(2).min(1)
    assert apart.max() < 2 / 255
    assert found.share == pytest.approx(palette_share(pixels, found.colors))


def test_the_noise_of_a_file_is_no_color():
    noise = np.random.default_rng(0).normal(0, 1.5 / 255, (240, 320, 3))
    pixels = (stripes(INK, PAPER, RED, width=24) + noise).clip(0, 1).astype(np.float32)
    found = palette_of(pixels)
    assert found is not None and len(found.colors) == 3


def test_a_photo_a_shading_and_one_color_have_none():
    assert palette_of(skimage.data.coffee().astype(np.float32) / 255) is None
    shading = np.broadcast_to(np.linspace(0, 1, 320, dtype=np.float32)[:, None], (240, 320, 3))
    assert palette_of(np.ascontiguousarray(shading)) is None
    assert palette_of(np.full((60, 80, 3), 0.5, np.float32)) is None


def test_a_dark_ground_alone_is_no_palette():
    """Most of it has one color or two, and the rest has all."""
    pixels = stripes(INK, (0.3, 0.28, 0.25), width=60)
    rows, columns = np.mgrid[:120, :160]
    hues = np.stack([columns / 160, np.ones((120, 160)), 0.4 + rows / 240], axis=2)
    pixels[60:180, 100:260] = skimage.color.hsv2rgb(hues)
    assert palette_of(pixels) is None


def test_several_paintings_have_the_colors_of_all_or_none():
    one, other = stripes(INK, PAPER, width=20), stripes(RED, PAPER, width=20)
    joint = joint_palette([one, other])
    assert joint is not None and joint.shape == (4, 3)
    assert joint_palette([]) is None
    assert joint_palette([one, skimage.data.coffee().astype(np.float32) / 255]) is None


def test_the_loss_is_the_distance_to_the_closest_color_over_their_variance():
    colors = torch.tensor([INK, PAPER, RED])
    picture = torch.rand((1, 3, 9, 12), generator=torch.Generator().manual_seed(0))
    objective = PaletteLoss(colors, 1.0)
    leaf = picture.clone().requires_grad_()
    stats = objective.measure({"input": leaf}, TileContext.whole(Size(9, 12)))
    [value] = objective.score(stats).values()
    value.backward()  # type: ignore[no-untyped-call]
    apart = (picture[0].flatten(1).T[:, None] - colors).square().sum(2).min(1)
    variance = (colors - colors.mean(0)).square().sum(1).mean()
    assert value.item() == pytest.approx((apart.values.mean() / variance).item(), rel=1e-5)
    assert leaf.grad is not None
    expected = 2 * (picture[0].flatten(1).T - colors[apart.indices]) / variance / 108
    torch.testing.assert_close(leaf.grad[0].flatten(1).T, expected)


def test_the_term_is_part_of_the_last_size_alone_and_exact_in_tiles(
    network_of: Callable[..., Network],
):
    problem = with_recipe(make_problem(network_of), palette_weight=2)
    assert "palette" not in loss.term_evaluations(PLAN.size, problem, Execution())
    problem = replace(problem, palette=np.array([INK, PAPER], np.float32))
    assert "palette" not in loss.term_evaluations(PLAN.stages[0].size, problem, Execution())
    check_tiles(problem, "palette")


def test_only_a_painting_of_few_colors_has_the_term(pocket_pictures: None):
    flat = stripes(INK, PAPER, width=20)
    settings = {"size": 96, "iterations": 2}
    assert impasto.prepare("photo.png", flat, **settings).problem.palette is not None
    assert impasto.prepare("photo.png", "painting.png", **settings).problem.palette is None
    off = impasto.prepare("photo.png", flat, palette_weight=0, **settings)
    assert off.problem.palette is None
