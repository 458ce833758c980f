"""A search that is interrupted ends where an undisturbed one does, to the byte; and it gets there."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from impasto import solvers
from impasto.geometry import Size
from impasto.recipe import Solver as Choice
from impasto.solvers import Evaluate, grow, make
from impasto.tiling import Value

CHOICES = {
    "lbfgs": Choice(name="lbfgs", history=3),
    "lbfgs, one step remembered": Choice(name="lbfgs", history=1),
    "lbfgs, slow": Choice(name="lbfgs", rate=0.3),
    "adam": Choice(name="adam", rate=0.02),
}
STEPS = 9


def start(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def valley(dtype: torch.dtype = torch.float64, steepness: float = 1.5) -> Evaluate:
    """A quadratic whose curvatures are spread over two decades times ``steepness``, lowest at a picture within 0..1."""
    bottom = start(dtype, seed=1)
    curvature = torch.logspace(-2, 0, bottom.numel(), dtype=dtype).view_as(bottom) * steepness

    def evaluate(pixels: Tensor) -> tuple[Value, Tensor]:
        apart = pixels.detach() - bottom
        return Value(float((curvature * apart**2).sum() / 2), {}), curvature * apart

    return evaluate


def bent(pixels: Tensor) -> tuple[Value, Tensor]:
    """Not a quadratic: the curvature changes from step to step."""
    leaf = pixels.detach().requires_grad_()
    loss = ((leaf * 3).sin() + (leaf - 0.4) ** 4 * 8 + leaf.roll(1, -1) * leaf).sum() / leaf.numel()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return Value(float(loss.detach()), {}), gradient


def slope(pixels: Tensor) -> tuple[Value, Tensor]:
    """No curvature at all: nothing to learn from a step."""
    gradient = torch.linspace(-1, 1, pixels.numel(), dtype=pixels.dtype).view_as(pixels)
    return Value(float((gradient * pixels).sum()), {}), gradient


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


# ---- resuming ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("land", [bent, slope])
def test_interrupted_and_resumed_is_undisturbed_byte_for_byte(name: str, dtype: torch.dtype, land: Evaluate):
    undisturbed = make(CHOICES[name], start(dtype))
    values = [undisturbed.step(land) for _ in range(STEPS)]
    for stop in range(STEPS):
        first = make(CHOICES[name], start(dtype))
        for _ in range(stop):
            first.step(land)
        # Through a file, as a run's state goes.
        held = load(save({key: tensor.clone().contiguous() for key, tensor in first.memory().items()}))
        second = make(CHOICES[name], first.pixels.clone(), held)
        resumed = [second.step(land) for _ in range(STEPS - stop)]
        assert resumed == values[stop:]
        assert raw(second.pixels) == raw(undisturbed.pixels), f"after {stop} steps"
        ends = undisturbed.memory(), second.memory()
        assert set(ends[0]) == set(ends[1])
        assert all(raw(ends[0][key]) == raw(ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("name", CHOICES)
def test_memory_matters(name: str):
    """Otherwise the test above could not fail."""
    undisturbed, forgetful = make(CHOICES[name], start()), make(CHOICES[name], start())
    for step in range(STEPS):
        undisturbed.step(bent)
        forgetful.step(bent)
        if step == 4:
            forgetful = make(CHOICES[name], forgetful.pixels.clone())
    assert raw(undisturbed.pixels) != raw(forgetful.pixels)


@pytest.mark.parametrize("name", CHOICES)
def test_a_solver_that_has_not_begun_has_no_memory_worth_keeping(name: str):
    fresh = make(CHOICES[name], start())
    again = make(CHOICES[name], start(), fresh.memory())
    assert [fresh.step(bent) for _ in range(3)] == [again.step(bent) for _ in range(3)]


def test_history_is_as_long_as_asked():
    solver = make(Choice(name="lbfgs", history=3), start())
    for _ in range(8):
        solver.step(bent)
    memory = solver.memory()
    assert sum(key.startswith("old_dirs.") for key in memory) == 3
    assert sum(key.startswith("old_stps.") for key in memory) == 3
    assert memory["ro"].shape == (3,)


# ---- searching -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs, one step remembered", "lbfgs, slow", "adam"])
def test_a_step_is_one_evaluation_of_the_pixels_before_it_moves_them(name: str):
    solver = make(CHOICES[name], start())
    pixels = solver.pixels
    seen: list[Tensor] = []

    def evaluate(given: Tensor) -> tuple[Value, Tensor]:
        seen.append(given.clone())
        return bent(given)

    for count in range(1, 5):
        before = solver.pixels.clone()
        value = solver.step(evaluate)
        assert len(seen) == count
        assert torch.equal(seen[-1], before)
        assert value == bent(before)[0]
        assert solver.pixels is pixels
        assert not torch.equal(solver.pixels, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lbfgs_finds_the_bottom_of_a_quadratic(dtype: torch.dtype):
    evaluate = valley(dtype)
    solver = make(Choice(name="lbfgs", history=20), start(dtype))
    first = solver.step(evaluate).total
    for _ in range(80):
        last = solver.step(evaluate).total
    assert last < first * 1e-8
    steepest = start(dtype)
    for _ in range(81):  # the best that a fixed step along the gradient does
        steepest -= evaluate(steepest)[1] / 1.5
    assert last < evaluate(steepest)[0].total / 100


def test_adam_comes_close_to_the_bottom_and_keeps_within_the_range():
    bottom = torch.full((1, 3, 4, 5), 1.5, dtype=torch.float64)
    bottom[:, 0] = 0.25
    solver = make(Choice(name="adam", rate=0.02), start())
    for _ in range(200):
        solver.step(lambda pixels: (Value(float(((pixels - bottom) ** 2).sum()), {}), 2 * (pixels - bottom)))
        assert solver.pixels.min() >= 0 and solver.pixels.max() <= 1
    assert torch.allclose(solver.pixels[:, 0], bottom[:, 0], atol=0.01)
    assert torch.equal(solver.pixels[:, 1:], torch.ones_like(solver.pixels[:, 1:]))


def test_no_gradient_is_no_move():
    for choice in CHOICES.values():
        solver = make(choice, start())
        for _ in range(3):
            value = solver.step(lambda pixels: (Value(1.0, {}), torch.zeros_like(pixels)))
        assert value.total == 1.0
        assert torch.equal(solver.pixels, start())


def test_a_value_that_is_no_number_is_handed_back():
    for choice in CHOICES.values():
        solver = make(choice, start())
        value = solver.step(lambda pixels: (Value(math.nan, {}), torch.zeros_like(pixels)))
        assert not value.finite


def test_the_recipe_decides_which():
    assert isinstance(make(Choice(name="adam"), start()), solvers.Adam)
    assert isinstance(make(Choice(name="lbfgs"), start()), solvers.LBFGS)


def test_rate_scales_the_first_steps():
    moves = {}
    for rate in (0.25, 0.5):
        solver = make(Choice(name="lbfgs", rate=rate), start())
        solver.step(bent)
        moves[rate] = solver.pixels - start()
    assert torch.allclose(moves[0.5], 2 * moves[0.25], rtol=1e-6)


# ---- growing -------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_growing_gives_the_size_and_keeps_the_range(height: int, width: int, new_height: int, new_width: int, seed: int):
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)).round() * 3 - 1  # -1 and 2
    kept = pixels.clone()
    grown = grow(pixels, Size(new_height, new_width))
    assert grown.shape == (1, 3, new_height, new_width)
    assert grown.dtype == pixels.dtype
    assert grown.min() >= 0 and grown.max() <= 1
    assert torch.equal(pixels, kept)


def test_growing_keeps_what_is_where():
    ramp = torch.linspace(0.1, 0.9, 8).view(1, 1, 8, 1).expand(1, 3, 8, 6)  # darker above
    grown = grow(ramp, Size(16, 12))
    assert torch.allclose(grown, grown[..., :1].expand_as(grown), atol=1e-6)
    assert (grown[..., 1:, 0] - grown[..., :-1, 0] > -0.02).all()
    assert grown.mean().item() == pytest.approx(ramp.mean().item(), abs=1e-3)
    assert torch.allclose(torch.nn.functional.avg_pool2d(grown, 2), ramp, atol=0.03)
    assert torch.allclose(grow(torch.full((1, 3, 5, 7), 0.3), Size(11, 13)), torch.tensor(0.3))
