"""A search that is interrupted ends where an undisturbed one does, to the byte; and it gets there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from impasto import solvers
from impasto.geometry import Size
from impasto.images.writing import replace_file
from impasto.recipe import Solver as Choice
from impasto.scratch import Held, InMemory, Kept, OnDisk, waiting, written
from impasto.solvers import Solver, grow, make

Land = Callable[[Tensor], tuple[float, Tensor]]  # pixels -> height and gradient

CHOICES = {
    "lbfgs": Choice(name="lbfgs", history=3),
    "lbfgs, one step remembered": Choice(name="lbfgs", history=1),
    "lbfgs, slow": Choice(name="lbfgs", rate=0.3),
    "torch's": Choice(name="lbfgs", history=3, preconditioner="none"),
    "adam": Choice(name="adam", rate=0.02),
    "adam, ever slower": Choice(name="adam", rate=0.02, rate_decay=0.5, rate_decay_steps=3, epsilon=0.1, clamp="no"),
    "sgd": Choice(name="sgd", rate=0.5, rate_decay=0.5, rate_decay_steps=10),
    "lbfgs, within 0..1": Choice(name="lbfgs", history=3, clamp="yes"),
    "searching": Choice(name="lbfgs", history=3, line_search="strong-wolfe"),
    "searching, torch's": Choice(name="lbfgs", history=3, line_search="strong-wolfe", preconditioner="none"),
}
STEPS = 9


def start(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def valley(dtype: torch.dtype = torch.float64, steepness: float = 1.5) -> Land:
    """A quadratic whose curvatures are spread over two decades times ``steepness``, lowest at a picture within 0..1."""
    bottom = start(dtype, seed=1)
    curvature = torch.logspace(-2, 0, bottom.numel(), dtype=dtype).view_as(bottom) * steepness

    def evaluate(pixels: Tensor) -> tuple[float, Tensor]:
        apart = pixels.detach() - bottom
        return float((curvature * apart**2).sum() / 2), curvature * apart

    return evaluate


def bent(pixels: Tensor) -> tuple[float, Tensor]:
    """Not a quadratic: the curvature changes from step to step."""
    leaf = pixels.detach().requires_grad_()
    loss = ((leaf * 3).sin() + (leaf - 0.4) ** 4 * 8 + leaf.roll(1, -1) * leaf).sum() / leaf.numel()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


def slope(pixels: Tensor) -> tuple[float, Tensor]:
    """No curvature at all: nothing to learn from a step."""
    gradient = torch.linspace(-1, 1, pixels.numel(), dtype=pixels.dtype).view_as(pixels)
    return float((gradient * pixels).sum()), gradient


def walk(solver: Solver, land: Land, steps: int = 1) -> list[float]:
    """The heights from which a solver moves."""
    heights = []
    for _ in range(steps):
        height, gradient = land(solver.pixels)
        solver.move(gradient, height)
        heights.append(height)
    return heights


def through_a_file(memory: Mapping[str, Kept], folder: Path) -> dict[str, Kept]:
    """As a run's state goes."""
    replace_file(folder / "memory", written(memory, {}))
    return waiting(folder / "memory")[0]


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def pairs(solver: Solver) -> int:
    return sum(name.startswith("steps.") for name in solver.memory())


# ---- resuming ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("land", [bent, slope])
def test_interrupted_and_resumed_is_undisturbed_byte_for_byte(name: str, dtype: torch.dtype, land: Land, tmp_path: Path):
    undisturbed = make(CHOICES[name], start(dtype))
    heights = walk(undisturbed, land, STEPS)
    for stop in range(STEPS):
        first = make(CHOICES[name], start(dtype))
        walk(first, land, stop)
        held = through_a_file(first.memory(), tmp_path)
        second = make(CHOICES[name], first.iterate.clone(), held)
        assert walk(second, land, STEPS - stop) == heights[stop:]
        assert raw(second.pixels) == raw(undisturbed.pixels), f"after {stop} steps"
        ends = undisturbed.memory(), second.memory()
        assert set(ends[0]) == set(ends[1])
        assert all(raw(ends[0][key].load()) == raw(ends[1][key].load()) for key in ends[0])


@pytest.mark.parametrize("name", CHOICES)
def test_memory_matters(name: str):
    """Otherwise the test above could not fail."""
    undisturbed, forgetful = make(CHOICES[name], start()), make(CHOICES[name], start())
    for step in range(STEPS):
        walk(undisturbed, bent)
        walk(forgetful, bent)
        if step == 4:
            forgetful = make(CHOICES[name], forgetful.iterate.clone())
    assert raw(undisturbed.pixels) != raw(forgetful.pixels)


@pytest.mark.parametrize("name", CHOICES)
def test_a_memory_that_was_gone_on_from_is_left_alone(name: str):
    first = make(CHOICES[name], start())
    walk(first, bent, 5)
    memory = {key: Held(kept.load().clone()) for key, kept in first.memory().items()}
    before = {key: raw(kept.load()) for key, kept in memory.items()}
    walk(make(CHOICES[name], first.iterate.clone(), memory), bent, 5)
    assert {key: raw(kept.load()) for key, kept in memory.items()} == before


@pytest.mark.parametrize("name", CHOICES)
def test_a_solver_that_has_not_begun_has_no_memory_worth_keeping(name: str):
    fresh = make(CHOICES[name], start())
    again = make(CHOICES[name], start(), fresh.memory())
    assert walk(fresh, bent, 3) == walk(again, bent, 3)


def test_history_is_as_long_as_asked():
    solver = make(Choice(name="lbfgs", history=3), start())
    walk(solver, bent, 8)
    memory = solver.memory()
    assert {key for key in memory if "." in key} == {f"{kind}.{n}" for kind in ("steps", "changes") for n in range(3)}
    assert memory["curvature"].shape == (4,)  # the scale, and one number for each pair


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs, one step remembered"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_memory_on_disk_gives_the_same_bytes(name: str, dtype: torch.dtype, tmp_path: Path):
    ends = []
    for scratch in (InMemory(), OnDisk(tmp_path)):
        first = make(CHOICES[name], start(dtype), scratch=scratch)
        walk(first, bent, 6)
        second = make(CHOICES[name], first.iterate.clone(), through_a_file(first.memory(), tmp_path), scratch=scratch)
        walk(second, bent, 6)
        assert isinstance(second.memory()["steps.0"], Held) == isinstance(scratch, InMemory)
        ends.append((raw(second.pixels), {key: raw(kept.load()) for key, kept in second.memory().items()}))
    assert ends[0] == ends[1]


# ---- searching -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHOICES)
def test_a_move_changes_the_pixels_in_their_place(name: str):
    solver = make(CHOICES[name], start())
    pixels = solver.pixels
    for _ in range(4):
        before = solver.pixels.clone()
        walk(solver, bent)
        assert solver.pixels is pixels and not torch.equal(pixels, before)


@pytest.mark.parametrize(("rate", "history"), [(1.0, 100), (1.0, 3), (0.4, 10), (0.7, 1)])
def test_lbfgs_makes_the_moves_of_torchs(rate: float, history: int):
    mine = make(Choice(name="lbfgs", rate=rate, history=history, preconditioner="none"), start())
    theirs = start().requires_grad_()
    torchs = torch.optim.LBFGS([theirs], lr=rate, history_size=history, max_iter=1, tolerance_grad=0, tolerance_change=0)

    def evaluate() -> float:
        height, theirs.grad = bent(theirs)
        return height

    for step in range(15):
        walk(mine, bent)
        torchs.step(evaluate)
        assert (mine.pixels - theirs.detach()).norm() < 1e-10, f"move {step + 1}"
    assert pairs(mine) == len(torchs.state[theirs]["old_dirs"]) == min(history, 14)
    assert (mine.pixels - start()).norm() > 0.1


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_the_scale_of_the_loss_is_nothing_to_lbfgs(scale: float):
    """torch's threshold on the curvature is absolute: where the loss is small, it learns nothing and hardly moves."""
    gradient = bent(start())[1]
    ends = []
    for factor in (1.0, scale):  # both after the same first move, since that one is cautious by the gradient's size
        begun = {"curvature": torch.ones(1), "step": -0.01 * gradient, "gradient": factor * gradient}
        memory = {name: Held(tensor) for name, tensor in begun.items()}
        solver = make(Choice(name="lbfgs", history=10), start() - 0.01 * gradient, memory)
        walk(solver, lambda pixels, factor=factor: (bent(pixels)[0], factor * bent(pixels)[1]), 12)
        assert pairs(solver) == 10
        ends.append(solver.pixels)
    assert (ends[0] - ends[1]).norm() < 1e-8 < (ends[0] - start()).norm()


def change_of(gradient_after: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float64) -> solvers.LBFGS:
    """A search whose second gradient is made from its first move and its first gradient."""
    solver = make(Choice(name="lbfgs"), start(dtype))
    assert isinstance(solver, solvers.LBFGS)
    gradient = bent(start(dtype))[1]
    solver.move(gradient.clone())
    solver.move(gradient_after(solver.pixels - start(dtype), gradient))
    return solver


def across(step: Tensor) -> Tensor:
    """As long as a step and at right angles to it."""
    other = start(step.dtype, seed=5)
    other = other - step * (other * step).sum() / (step * step).sum()
    return other * step.norm() / other.norm()


def test_a_pair_is_learned_where_the_gradient_changes_along_the_step():
    assert pairs(change_of(lambda step, gradient: gradient + 2 * step)) == 1
    assert pairs(change_of(lambda step, gradient: gradient + 1e-3 * step + across(step))) == 1


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("along", [0.0, 1e-5, -1e-5, -1.0])
def test_a_pair_that_is_rounding_or_bends_down_is_refused(along: float, scale: float):
    solver = change_of(lambda step, gradient: gradient + scale * (along * step + across(step)))
    assert pairs(solver) == 0
    assert solver.memory()["curvature"].load().tolist() == [1.0]


def test_a_gradient_that_does_not_change_teaches_nothing():
    solver = make(Choice(name="lbfgs"), start())
    walk(solver, slope, 5)
    assert pairs(solver) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lbfgs_finds_the_bottom_of_a_quadratic(dtype: torch.dtype):
    evaluate = valley(dtype)
    solver = make(Choice(name="lbfgs", history=20), start(dtype))
    heights = walk(solver, evaluate, 81)
    assert heights[-1] < heights[0] * 1e-8
    steepest = start(dtype)
    for _ in range(81):  # the best that a fixed step along the gradient does
        steepest -= evaluate(steepest)[1] / 1.5
    assert heights[-1] < evaluate(steepest)[0] / 100


def test_adam_comes_close_to_the_bottom_and_keeps_within_the_range():
    bottom = torch.full((1, 3, 4, 5), 1.5, dtype=torch.float64)
    bottom[:, 0] = 0.25
    solver = make(Choice(name="adam", rate=0.02), start())
    for _ in range(200):
        walk(solver, lambda pixels: (float(((pixels - bottom) ** 2).sum()), 2 * (pixels - bottom)))
        assert solver.pixels.min() >= 0 and solver.pixels.max() <= 1
    assert torch.allclose(solver.pixels[:, 0], bottom[:, 0], atol=0.01)
    assert torch.equal(solver.pixels[:, 1:], torch.ones_like(solver.pixels[:, 1:]))


def test_no_gradient_is_no_move():
    for choice in CHOICES.values():
        solver = make(choice, start())
        walk(solver, lambda pixels: (1.0, torch.zeros_like(pixels)), 3)
        assert torch.equal(solver.pixels, start())


def test_the_recipe_decides_which():
    assert isinstance(make(Choice(name="adam"), start()), solvers.Adam)
    assert isinstance(make(Choice(name="lbfgs"), start()), solvers.LBFGS)


def moves(choice: Choice, caution: float = 1.0, steps: int = 1) -> Tensor:
    solver = make(choice, start(), caution=caution)
    walk(solver, bent, steps)
    return solver.pixels - start()


def test_rate_scales_the_first_steps():
    slow, quick = (moves(Choice(name="lbfgs", rate=rate)) for rate in (0.25, 0.5))
    assert torch.allclose(quick, 2 * slow, rtol=1e-6)


@pytest.mark.parametrize("name", ["lbfgs", "adam"])
@pytest.mark.parametrize("steps", [1, 6])
def test_caution_is_a_factor_on_the_rate(name: str, steps: int):
    choice = Choice(name=name, rate=0.1)
    careful = moves(choice, caution=0.25, steps=steps)
    assert torch.equal(careful, moves(choice.model_copy(update={"rate": 0.025}), steps=steps))
    assert not torch.allclose(careful, moves(choice, steps=steps))


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
