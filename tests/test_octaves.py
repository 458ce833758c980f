"""Style at several scales: the sum of the losses of a picture and of its reduced copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import Tensor
from torch.nn import functional

from impasto import images
from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.objectives.base import TileContext
from impasto.objectives.moments import moment_sums, moments_from_sums
from impasto.objectives.style import wasserstein
from impasto.optimize import loss, terms
from impasto.optimize.execution import Execution
from impasto.optimize.octaves import halve, halved
from impasto.optimize.problem import Problem
from impasto.planning.schedule import Plan, Stage
from impasto.recipe.loading import with_settings
from tests.support.loss_setup import make_problem, smooth_pixels

SIZE = Size(70, 83)  # odd and even


def problem_of(network_of: Callable[..., Network], **settings: object) -> Problem:
    """A problem of one size, with one painting, at which three scales are possible."""
    problem = make_problem(network_of)
    recipe = with_settings(problem.recipe, settings)
    recipe = recipe.model_copy(update={"paintings": recipe.paintings[:1]})
    pictures = smooth_pixels(90, 110, 1), (smooth_pixels(140, 150, 2),)
    plan = Plan((Stage(SIZE, 3),), 1.0)
    return replace(problem, recipe=recipe, plan=plan, photo=pictures[0], paintings=pictures[1])


def pyramid_level(picture: Tensor) -> Tensor:
    """The next level of a Gaussian pyramid, rows and columns one after the other."""
    taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05], dtype=torch.float64)
    rows = functional.conv2d(picture.movedim(1, 0), taps.view(1, 1, 5, 1), stride=(2, 1))
    return functional.conv2d(rows, taps.view(1, 1, 1, 5), stride=(1, 2)).movedim(0, 1)


def style_by_formula(problem: Problem, picture: Tensor, octaves: int) -> Tensor:
    """The style term, its statistics computed for each scale on its own."""
    style, network = problem.recipe.style, problem.network
    strides = {name: network.layer(name).stride for name in style.layers}
    scaled = images.resize(problem.paintings[0], Size(*_painting_shape(problem)))
    painting = images.to_tensor(scaled).double()
    total = picture.new_zeros(())
    for octave in range(octaves):
        pictures = [picture, painting]
        for _ in range(octave):
            pictures = [pyramid_level(each) for each in pictures]
        moments = []
        for each in pictures:
            size = Size(*each.shape[-2:])
            sums = moment_sums(network(each), strides, TileContext.whole(size))
            moments.append(moments_from_sums(sums))
        for name, weight in style.layers.items():
            total = total + weight * wasserstein(moments[0][name], moments[1][name])
    return style.weight * total / octaves


def _painting_shape(problem: Problem) -> Size:
    return terms._painting_size(problem.paintings[0], SIZE, problem.recipe)


@pytest.mark.parametrize("octaves", [1, 2])
def test_loss_and_gradient_are_those_of_the_formula(
    network_of: Callable[..., Network], octaves: int
):
    problem = problem_of(network_of, style_octaves=octaves)
    evaluate = loss.term_evaluations(SIZE, problem, Execution())["style"]
    picture = images.to_tensor(smooth_pixels(*SIZE, 5)).double()
    value, gradient = evaluate(picture)
    leaf = picture.clone().requires_grad_()
    expected = style_by_formula(problem, leaf, octaves)
    expected.backward()  # type: ignore[no-untyped-call]
    assert value.total == pytest.approx(float(expected), rel=1e-6)
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-4, atol=1e-9)
    assert len(value.layers["style"]) == 3 * octaves


@pytest.mark.parametrize("tile", [16, 40])
def test_tiles_give_the_loss_and_gradient_of_the_whole(
    network_of: Callable[..., Network], tile: int
):
    problem = problem_of(network_of, style_octaves=2)
    picture = images.to_tensor(smooth_pixels(*SIZE, 5)).double()
    whole, in_tiles = (
        loss.evaluation(SIZE, problem, Execution(tile=side))(picture) for side in (0, tile)
    )
    assert in_tiles[0].total == pytest.approx(whole[0].total, rel=1e-10)
    torch.testing.assert_close(in_tiles[1], whole[1], rtol=1e-7, atol=1e-10)


def test_the_terms_add_up_to_the_loss(network_of: Callable[..., Network]):
    problem = problem_of(network_of, style_octaves=2)
    picture = images.to_tensor(smooth_pixels(*SIZE, 5)).double()
    value, gradient = loss.evaluation(SIZE, problem, Execution())(picture)
    by_term = loss.term_evaluations(SIZE, problem, Execution())
    parts = [evaluate(picture) for evaluate in by_term.values()]
    assert list(by_term) == ["content", "style", "smooth"]
    assert value.total == pytest.approx(sum(part.total for part, _ in parts), rel=1e-12)
    torch.testing.assert_close(gradient, torch.stack([each for _, each in parts]).sum(0))


@pytest.mark.parametrize(("octaves", "expected"), [(1, 1), (2, 2), (6, 2)])
def test_no_scale_is_smaller_than_the_network_needs(
    network_of: Callable[..., Network], octaves: int, expected: int
):
    problem = problem_of(network_of, style_octaves=octaves)
    value, _ = loss.evaluation(SIZE, problem, Execution())(
        images.to_tensor(smooth_pixels(*SIZE, 5)).double()
    )
    suffixes = {name.partition(" at ")[2] for name in value.layers["style"]}
    assert len(suffixes) == expected


def test_without_style_there_is_one_scale(network_of: Callable[..., Network]):
    problem = problem_of(network_of, style_octaves=3, style_weight=0)
    assert "style" not in loss.term_evaluations(SIZE, problem, Execution())


def test_the_gaussian_is_that_of_burt_and_adelson():
    picture = np.random.default_rng(0).random((9, 12))
    taps = np.array([0.05, 0.25, 0.4, 0.25, 0.05])
    expected = convolve(picture, np.outer(taps, taps), mode="constant")[2:-2:2, 2:-2:2]
    found = halve(torch.from_numpy(picture)[None, None])
    assert halved(Size(9, 12)) == found.shape[-2:]
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-12)
