"""A small optimization problem: a pocket network, a photo, two paintings and a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto import images
from impasto.geometry import Grid, Region, Size
from impasto.networks.features import Network
from impasto.objectives.base import TileContext
from impasto.objectives.content import Content
from impasto.objectives.normalized_content import NormalizedContent
from impasto.optimize import loss
from impasto.optimize.execution import Execution
from impasto.optimize.problem import Problem
from impasto.planning.schedule import Plan, Stage
from impasto.recipe.choices import ContentScaling
from impasto.recipe.loading import with_settings
from impasto.recipe.records import Input, Recipe
from impasto.storage.tensors import InMemoryTensor, StoredTensor


def content_term(
    targets: Mapping[str, Mapping[Region, StoredTensor]],
    strides: Mapping[str, int],
    weights: Mapping[str, float],
    scaling: ContentScaling,
    weight: float = 1.0,
) -> Content | NormalizedContent:
    """The content term of a scaling."""
    if scaling == "normalized":
        return NormalizedContent(targets, strides, weights, weight)
    return Content(targets, strides, weights, scaling, weight)


LAYERS = ("input", "relu1_1", "relu2_1", "relu2_2", "relu3_1")
SETTINGS = {
    "solver": "lbfgs",
    "solver-rate": 1,
    "solver-history": 10,
    "content-scaling": "relative",
    "content-layers": "relu2_2=1",
    "style-statistics": "wasserstein",
    "style-weight": 1,
    "style-scale": 1,
    "style-octaves": 1,
    "style-layers": "relu1_1=0.5,relu2_1=0.3,relu3_1=0.2",
    "smooth-weight": 0.1,
    "content-weight": 0.05,
}
PLAN = Plan((Stage(Size(20, 25), 4), Stage(Size(37, 45), 5)), 1.0)


def smooth_pixels(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """A smooth picture with some grain, read-only."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    sines = [np.sin(rows / a + columns / b) for a, b in generator.uniform(2, 9, (3, 2))]
    pixels = 0.5 + 0.3 * np.stack(sines, -1) + generator.uniform(-0.2, 0.2, (height, width, 3))
    pixels = np.clip(pixels, 0, 1).astype(np.float32)
    pixels.flags.writeable = False
    return pixels


def make_problem(network_of: Callable[..., Network]) -> Problem:
    """Two small stages with a pocket network, a photo and two paintings."""
    base = Recipe(
        photo=Input(path="photo"), paintings=(Input(path="one"), Input(path="two", weight=2))
    )
    network = network_of(*LAYERS, padding="reflect")
    return Problem(
        with_settings(base, SETTINGS),
        PLAN,
        network,
        smooth_pixels(41, 50, 0),
        (smooth_pixels(48, 40, 1), smooth_pixels(36, 60, 2)),
    )


def with_recipe(problem: Problem, **settings: object) -> Problem:
    """The same problem with some settings of the recipe changed."""
    return replace(problem, recipe=with_settings(problem.recipe, settings))


class WrappedNetwork:
    """A network whose calls a subclass may change by overriding ``__call__``."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def encoder(self, whole: Size) -> Callable[[Tensor], Mapping[str, Tensor]]:
        return partial(self, whole=whole)

    def __call__(self, picture: Tensor, **options: Any) -> Mapping[str, Tensor]:
        return self.network(picture, **options)


def targets_by_tile(feature_map: Tensor, stride: int, grid: Grid) -> dict[Region, StoredTensor]:
    """A whole feature map cut into the target of each tile."""
    return {
        tile.core: InMemoryTensor(
            feature_map[(..., *TileContext(tile, grid.size).region(stride).slices)]
        )
        for tile in grid
    }


def check_tiles(problem: Problem, term: str) -> None:
    """The loss with this term and its gradient are the same in tiles as whole."""
    picture = images.to_tensor(smooth_pixels(*PLAN.size, 5)).double()
    whole, in_tiles = (
        loss.evaluation(PLAN.size, problem, Execution(tile=tile))(picture) for tile in (0, 16)
    )
    assert whole[0].terms[term] > 0
    assert in_tiles[0].total == pytest.approx(whole[0].total, rel=1e-10)
    torch.testing.assert_close(in_tiles[1], whole[1], rtol=1e-7, atol=1e-10)
