"""The term of protected parts: a correlation within a mask, exact in tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import impasto
from impasto import images
from impasto.errors import BadRecipe, CannotWrite
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
    mask = functional.interpolate(mask, size=tuple(SIZE), mode="bilinear", antialias=True)
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
    value, gradient = loss.term_evaluations(SIZE, problem, Execution())["protected"](picture)
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
    assert list(whole[0].terms) == ["content", "protected", "style", "smooth"]
    assert in_tiles[0].total == pytest.approx(whole[0].total, rel=1e-10)
    torch.testing.assert_close(in_tiles[1], whole[1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("settings", [{"protect": "none"}, {"protect_amount": 0}])
def test_nothing_is_protected_where_nothing_is_asked(
    network_of: Callable[..., Network], settings: dict[str, object]
):
    problem = problem_of(network_of, **settings)
    assert "protected" not in loss.term_evaluations(SIZE, problem, Execution())


def test_a_face_that_is_found_keeps_its_shape_and_a_note_says_so(pocket_pictures: None):
    photo = skimage.data.astronaut()
    settings = {"size": 128, "iterations": 3}
    session = impasto.prepare(photo, "painting.png", protect="faces", **settings)
    events = [event for event, _ in session.run()]
    assert any("Faces keep" in event.message for event in events if isinstance(event, Warned))
    mask = session.problem.protected
    assert mask is not None and mask.shape == session.inputs.photo.size
    unprotected = impasto.prepare(photo, "painting.png", protect="none", **settings)
    assert unprotected.problem.protected is None
    flat = np.full((90, 120, 3), 200, np.uint8)
    flat[20:60, 30:80] = 30
    assert impasto.prepare(flat, "painting.png", protect="faces").problem.protected is None


# ---- a mask from a file --------------------------------------------------------------------------

QUICK = {"size": 96, "iterations": 3}


def save_mask(name: str, side: tuple[int, int] = (48, 64), mode: str = "L") -> None:
    """White in the left half."""
    pixels = np.zeros(side, np.uint8)
    pixels[:, : side[1] // 2] = 255
    image = Image.fromarray(pixels)
    if mode == "LA":  # white everywhere, and opaque in the left half
        image = Image.merge("LA", (Image.new("L", image.size, 255), image))
    image.convert(mode).save(name)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "LA"])
def test_a_mask_of_any_kind_protects_what_is_white(pocket_pictures: None, mode: str):
    save_mask("mask.png", mode=mode)
    mask = impasto.prepare("photo.png", "painting.png", protect="mask.png").problem.protected
    assert mask is not None and mask.shape == (48, 64)
    assert mask[:, :32].min() == 1 and mask[:, 32:].max() == 0


def test_the_part_under_the_mask_stays_closer_to_the_photo(pocket_pictures: None):
    save_mask("mask.png")
    settings = {**QUICK, "iterations": 12, "style_weight": 30}
    photo = images.read("photo.png", max_megapixels=10).pixels
    free, held = (
        impasto.stylize("photo.png", "painting.png", protect=protect, **settings).pixels
        for protect in ("none", "mask.png:100")
    )
    size = Size(*free.shape[:2])
    apart = [np.abs(each - images.resize(photo, size)).mean(2) for each in (free, held)]
    half = size.width // 2
    left, right = (slice(None), slice(0, half)), (slice(None), slice(half, None))
    gains = [apart[0][side].mean() / apart[1][side].mean() for side in (left, right)]
    assert gains[0] > 1.1 * gains[1]


def test_a_picture_with_a_mask_carries_the_masks_hash_and_is_made_again(pocket_pictures: None):
    save_mask("mask.png")
    first = impasto.stylize(
        "photo.png", "painting.png", output="one.png", protect="mask.png:3", **QUICK
    )
    assert first.recipe.protect.mask_sha256 and first.recipe.protect.amount == 3
    Path("mask.png").rename("moved.png")  # it is found by its hash
    recipe = impasto.load_recipe("one.png", {})
    assert Path(recipe.protect.regions).name == "moved.png"
    again = impasto.stylize("photo.png", "painting.png", recipe=recipe)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert again.recipe.sha256 == first.recipe.sha256
    save_mask("moved.png", side=(10, 10))
    with pytest.raises(BadRecipe, match="contents differ"):
        impasto.stylize("photo.png", "painting.png", recipe=again.recipe)


def test_a_black_mask_protects_nothing(pocket_pictures: None):
    Image.new("L", (20, 20)).save("mask.png")
    session = impasto.prepare("photo.png", "painting.png", protect="mask.png")
    assert session.problem.protected is None


@pytest.mark.parametrize(
    ("given", "said"),
    [("fases", "none, faces, or the file"), ("faces:101", "100"), ("mask.png:x", "mask.png:x")],
)
def test_what_cannot_be_protected_is_refused(pocket_pictures: None, given: str, said: str):
    with pytest.raises(BadRecipe, match=said):
        impasto.prepare("photo.png", "painting.png", protect=given)


def test_a_mask_is_not_overwritten_and_a_stretched_one_is_noted(pocket_pictures: None):
    save_mask("mask.png", side=(20, 80))
    with pytest.raises(CannotWrite, match="input"):
        impasto.stylize(
            "photo.png",
            "painting.png",
            output="mask.png",
            overwrite=True,
            protect="mask.png",
            **QUICK,
        )
    notes = impasto.prepare("photo.png", "painting.png", protect="mask.png", **QUICK).inputs.notes
    assert any("mask.png, the mask" in note and "stretched" in note for note in notes)
