"""The histogram loss is the sliced Wasserstein distance of sorted features, to a bin's width."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Grid, Size
from impasto.networks.features import Network
from impasto.objectives.base import TileContext
from impasto.objectives.histogram import BINS, Histogram, Projection, bins_of, squared_distance
from impasto.optimize.matching import EncodedPicture
from impasto.optimize.painting_histograms import (
    directions_of,
    mixture_histograms,
    painting_projections,
)
from impasto.recipe.choices import Directions
from tests.support.loss_setup import check_tiles, make_problem, with_recipe

SIZE = Size(24, 30)


def maps(seed: int, spread: float = 1.0) -> Tensor:
    """(1, 6, 24, 30), not negative, as after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(1, 6, *SIZE, dtype=torch.float64, generator=generator)
    return (drawn * spread + 0.2).relu()


def picture_of(features: Tensor) -> EncodedPicture:
    return EncodedPicture(features, lambda pixels: {"maps": pixels}, Grid(SIZE))


def term(painting: Tensor, directions: Directions, norm: float | None = None) -> Histogram:
    pictures, strides = [picture_of(painting)], {"maps": 1}
    drawn = {"maps": directions_of(directions, 6, seed=3)}
    projections = painting_projections(pictures, strides, drawn)
    target, norms = mixture_histograms(pictures, [2.0], strides, projections)
    factors = {"maps": 6 / norms["maps"] if norm is None else norm}
    return Histogram(projections, target, factors, strides, {"maps": 0.5}, 1.0)


def value_of(objective: Histogram, features: Tensor) -> Tensor:
    context = TileContext.whole(SIZE)
    [value] = objective.score(objective.measure({"maps": features}, context)).values()
    return value


@pytest.mark.parametrize("directions", ["random", "channels"])
def test_the_loss_and_its_gradient_are_those_of_sorted_projections(directions: Directions):
    painting, picture = maps(1, 1.3), maps(2)
    drawn = directions_of(directions, 6, seed=3)
    axes = torch.eye(6, dtype=torch.float64) if drawn is None else drawn.double()
    found, expected = picture.clone().requires_grad_(), picture.clone().requires_grad_()
    value = value_of(term(painting, directions, norm=1.0), found)
    value.backward()  # type: ignore[no-untyped-call]
    ours, theirs = ((axes @ each[0].flatten(1)).sort(1).values for each in (expected, painting))
    plain = 0.5 * (ours - theirs).square().mean()
    plain.backward()  # type: ignore[no-untyped-call]
    assert value.item() == pytest.approx(plain.item(), rel=0.01)
    assert found.grad is not None and expected.grad is not None
    # Equal values, such as the zeros after a ReLU, are sorted in any order; moving them all
    # together is the same to the pixels.
    alive = picture > 0
    likeness = functional.cosine_similarity(found.grad[alive], expected.grad[alive], 0)
    assert likeness > 0.99
    lengths = [float(grad[alive].norm()) for grad in (found.grad, expected.grad)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.05)


def test_the_loss_of_the_painting_itself_is_zero_and_of_black_is_one():
    painting = maps(1)
    objective = term(painting, "random")
    assert value_of(objective, painting).item() == pytest.approx(0, abs=1e-12)
    black = value_of(objective, torch.zeros_like(painting)).item()
    assert 0.5 * 0.8 < black < 0.5 * 1.2  # with the weight; exact for directions at right angles


def test_a_gaussian_statistic_cannot_tell_what_the_histogram_tells():
    generator = torch.Generator().manual_seed(0)
    two = torch.randint(0, 2, (1, 6, *SIZE), generator=generator).double()
    normal = torch.randn(1, 6, *SIZE, dtype=torch.float64, generator=generator) * 0.5 + 0.5
    assert value_of(term(two, "channels"), normal) > 10 * value_of(
        term(two, "channels"), two[:, :, torch.randperm(SIZE.height)]
    )


def test_the_distance_of_two_histograms_is_that_of_their_quantiles():
    masses = torch.zeros(2, BINS, dtype=torch.float64)
    target = torch.zeros(2, BINS, dtype=torch.float64)
    masses[0, 10], target[0, 14] = 1, 1  # all of it four bins away
    masses[1, 10], masses[1, 20] = 0.5, 0.5
    target[1, 10], target[1, 22] = 0.25, 0.75  # a quarter goes twelve bins, a half two
    found = squared_distance(masses, target)
    assert found.tolist() == pytest.approx([16.0, 0.25 * 144 + 0.5 * 4])


def test_a_value_beyond_the_bins_is_drawn_back():
    low, width = bins_of(torch.tensor([0.0]), torch.tensor([1.0]))
    projection = Projection(None, low, width)
    values = torch.tensor([[[[-3.0, 0.5, 9.0]]]], requires_grad=True)
    target = projection.masses(torch.full((1, 1, 1, 3), 0.5)) / 3
    squared_distance(projection.masses(values) / 3, target).sum().backward()
    assert values.grad is not None
    below, within, above = values.grad[0, 0, 0].tolist()
    assert below < -abs(within) and above > abs(within)


def test_several_paintings_are_mixed_by_their_weights():
    pictures, strides = [picture_of(maps(1)), picture_of(maps(2, 3.0))], {"maps": 1}
    projections = painting_projections(pictures, strides, {"maps": None})
    target, norms = mixture_histograms(pictures, [1.0, 3.0], strides, projections)
    alone = [mixture_histograms([each], [1.0], strides, projections) for each in pictures]
    expected = 0.25 * alone[0][0]["maps"] + 0.75 * alone[1][0]["maps"]
    torch.testing.assert_close(target["maps"], expected)
    assert target["maps"].sum(1).tolist() == pytest.approx([1.0] * 6)
    assert norms["maps"] == pytest.approx(0.25 * alone[0][1]["maps"] + 0.75 * alone[1][1]["maps"])


@pytest.mark.parametrize("scaling", ["relative", "mean"])
def test_the_term_is_part_of_the_loss_and_exact_in_tiles(
    network_of: Callable[..., Network], scaling: str
):
    problem = make_problem(network_of)
    layers = dict(problem.recipe.style.layers)
    problem = with_recipe(
        problem, histogram_weight=0.5, histogram_layers=layers, histogram_scaling=scaling
    )
    check_tiles(problem, "histogram")
