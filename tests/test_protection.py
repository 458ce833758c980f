"""The term of the faces: a correlation within the mask, exact in tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional

import impasto
from impasto import images
from impasto.events import Warned
from impasto.geometry import Region, Size
from impasto.networks.features import Network
from impasto.optimize import loss
from impasto.optimize.execution import Execution
from impasto.optimize.problem import Problem
from impasto.recipe.loading import with_settings
from impasto.regions.faces import face_mask
from tests.support.loss_setup import PLAN, make_problem, smooth_pixels

SIZE = PLAN.size
SETTINGS = {"protect": "faces", "protect_amount": 3, "content_scaling": "normalized"}


def problem_of(network_of: Callable[..., Network], **settings: object) -> Problem:
    """A problem with a face in its photo."""
    problem = make_problem(network_of)
    recipe = with_settings(problem.recipe, {**SETTINGS, **settings})
    mask = face_mask({Region(8, 10, 26, 28): 1.0}, Size(*problem.photo.shape[:2]))
    return replace(problem, recipe=recipe, protected=mask)


def by_formula(problem: Problem, picture: Tensor) -> Tensor:
    """2 (1 - r) with numbers drawn from the masked positions, written out."""
    [name] = problem.recipe.content.layers
    network = problem.network
    photo = images.to_tensor(images.resize(problem.photo, SIZE)).double()
    mask = torch.from_numpy(problem.protected)[None, None]
    mask = functional.interpolate(mask, size=tuple(SIZE), mode="area")
    w = functional.avg_pool2d(mask, network.layer(name).stride).double()
    w = w / w.sum()
    f, p = network(picture)[name], network(photo)[name]
    floor = 1e-5 * (w * p.square()).sum((2, 3)).mean()  # which is added to each variance
    f, p = (each - (each * w).sum((2, 3), keepdim=True) for each in (f, p))
    products, ours, theirs = ((w * each).sum((2, 3)) for each in (f * p, f * f, p * p))
    alive = theirs > 1e-3 * floor
    correlation = products[alive] / ((ours[alive] + floor) * (theirs[alive] + floor)).sqrt()
    weight = 0.05 * 3 * mask.double().mean()
    return weight * 2 * (1 - correlation).mean()


def test_the_term_is_that_of_the_formula(network_of: Callable[..., Network]):
    problem = problem_of(network_of)
    picture = images.to_tensor(smooth_pixels(*SIZE, 5)).double()
    value, gradient = loss.term_evaluations(SIZE, problem, Execution())["faces"](picture)
    leaf = picture.clone().requires_grad_()
    expected = by_formula(problem, leaf)
    expected.backward()  # type: ignore[no-untyped-call]
    # The term adds a hundred-thousandth of the mean square to each variance.
    assert value.total == pytest.approx(float(expected), rel=2e-3)
    torch.testing.assert_close(
        gradient, leaf.grad, rtol=0.02, atol=2e-3 * float(leaf.grad.abs().max())
    )


@pytest.mark.parametrize("tile", [16, 32])
@pytest.mark.parametrize("scaling", ["normalized", "relative"])
def test_tiles_give_the_loss_and_gradient_of_the_whole(
    network_of: Callable[..., Network], tile: int, scaling: str
):
    problem = problem_of(network_of, content_scaling=scaling)
    picture = images.to_tensor(smooth_pixels(*SIZE, 5)).double()
    whole, in_tiles = (
        loss.evaluation(SIZE, problem, Execution(tile=side))(picture) for side in (0, tile)
    )
    assert list(whole[0].terms) == ["content", "faces", "style", "smooth"]
    assert in_tiles[0].total == pytest.approx(whole[0].total, rel=1e-10)
    torch.testing.assert_close(in_tiles[1], whole[1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("settings", [{"protect": "none"}, {"protect_amount": 0}])
def test_nothing_is_protected_where_nothing_is_asked(
    network_of: Callable[..., Network], settings: dict[str, object]
):
    problem = problem_of(network_of, **settings)
    assert "faces" not in loss.term_evaluations(SIZE, problem, Execution())


def test_a_face_that_is_found_keeps_its_shape_and_a_note_says_so(pocket_pictures: None):
    photo = skimage.data.astronaut()
    settings = {"size": 128, "iterations": 3}
    session = impasto.prepare(photo, "painting.png", protect="faces", **settings)
    events = [event for event, _ in session.run()]
    assert any("Faces keep" in event.message for event in events if isinstance(event, Warned))
    mask = session.problem.protected
    assert mask is not None and mask.shape == session.inputs.photo.size
    assert impasto.prepare(photo, "painting.png", **settings).problem.protected is None
    flat = np.full((90, 120, 3), 200, np.uint8)
    flat[20:60, 30:80] = 30
    assert impasto.prepare(flat, "painting.png", protect="faces").problem.protected is None
