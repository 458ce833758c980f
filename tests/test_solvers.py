"""Solvers converge, and an interrupted one ends at the same bytes as an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from impasto.geometry import Size
from impasto.optimize import first_order, lbfgs, upscale
from impasto.optimize.lbfgs import LONGEST_MOVE
from impasto.optimize.line_search import MAX_EVALUATIONS
from impasto.optimize.solver import Solver, add_to_average
from impasto.optimize.solver_factory import make_solver
from impasto.optimize.upscale import upscale_pixels
from impasto.recipe.records import Solver as Choice
from impasto.storage.files import replace_file
from impasto.storage.tensors import (
    DiskStore,
    InMemoryTensor,
    MemoryStore,
    StoredTensor,
    open_safetensors,
    safetensors_parts,
)

Land = Callable[[Tensor], tuple[float, Tensor]]  # pixels -> height and gradient

CHOICES = {
    "lbfgs": Choice(name="lbfgs", history=3),
    "lbfgs, one step remembered": Choice(name="lbfgs", history=1),
    "lbfgs, slow": Choice(name="lbfgs", rate=0.3),
    "torch's": Choice(name="lbfgs", history=3, preconditioner="none"),
    "adam": Choice(name="adam", rate=0.02),
    "adam, ever slower": Choice(
        name="adam", rate=0.02, rate_decay=0.5, rate_decay_steps=3, epsilon=0.1, clamp="no"
    ),
    "sgd": Choice(name="sgd", rate=0.5, rate_decay=0.5, rate_decay_steps=10),
    "lbfgs, within 0..1": Choice(name="lbfgs", history=3, clamp="yes"),
    "searching": Choice(name="lbfgs", history=3, line_search="strong-wolfe"),
    "searching, torch's": Choice(
        name="lbfgs", history=3, line_search="strong-wolfe", preconditioner="none"
    ),
}
STEPS = 9


def start(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def valley(dtype: torch.dtype = torch.float64, steepness: float = 1.5) -> Land:
    """A quadratic whose curvatures are spread over two decades times ``steepness``, lowest at a
    picture within 0..1.
    """
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


def through_a_file(memory: Mapping[str, StoredTensor], folder: Path) -> dict[str, StoredTensor]:
    """As a run's state goes."""
    replace_file(folder / "memory", safetensors_parts(memory, {}))
    return open_safetensors(folder / "memory")[0]


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def pairs(solver: Solver) -> int:
    return sum(name.startswith("steps.") for name in solver.memory())


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("land", [bent, slope])
def test_interrupted_and_resumed_is_undisturbed_byte_for_byte(
    name: str, dtype: torch.dtype, land: Land, tmp_path: Path
):
    undisturbed = make_solver(CHOICES[name], start(dtype))
    heights = walk(undisturbed, land, STEPS)
    for stop in range(STEPS):
        first = make_solver(CHOICES[name], start(dtype))
        walk(first, land, stop)
        held = through_a_file(first.memory(), tmp_path)
        second = make_solver(CHOICES[name], first.iterate.clone(), held)
        assert walk(second, land, STEPS - stop) == heights[stop:]
        assert raw(second.pixels) == raw(undisturbed.pixels), f"after {stop} steps"
        ends = undisturbed.memory(), second.memory()
        assert set(ends[0]) == set(ends[1])
        assert all(raw(ends[0][key].load()) == raw(ends[1][key].load()) for key in ends[0])


@pytest.mark.parametrize("name", CHOICES)
def test_memory_matters(name: str):
    """Otherwise the test above could not fail."""
    undisturbed, forgetful = (
        make_solver(CHOICES[name], start()),
        make_solver(CHOICES[name], start()),
    )
    for step in range(STEPS):
        walk(undisturbed, bent)
        walk(forgetful, bent)
        if step == 4:
            forgetful = make_solver(CHOICES[name], forgetful.iterate.clone())
    assert raw(undisturbed.pixels) != raw(forgetful.pixels)


@pytest.mark.parametrize("name", CHOICES)
def test_a_memory_that_was_gone_on_from_is_left_alone(name: str):
    first = make_solver(CHOICES[name], start())
    walk(first, bent, 5)
    memory = {key: InMemoryTensor(kept.load().clone()) for key, kept in first.memory().items()}
    before = {key: raw(kept.load()) for key, kept in memory.items()}
    walk(make_solver(CHOICES[name], first.iterate.clone(), memory), bent, 5)
    assert {key: raw(kept.load()) for key, kept in memory.items()} == before


@pytest.mark.parametrize("name", CHOICES)
def test_a_solver_that_has_not_begun_has_no_memory_worth_keeping(name: str):
    fresh = make_solver(CHOICES[name], start())
    again = make_solver(CHOICES[name], start(), fresh.memory())
    assert walk(fresh, bent, 3) == walk(again, bent, 3)


def test_history_is_as_long_as_asked():
    solver = make_solver(Choice(name="lbfgs", history=3), start())
    walk(solver, bent, 8)
    memory = solver.memory()
    assert {key for key in memory if "." in key} == {
        f"{kind}.{n}" for kind in ("steps", "changes") for n in range(3)
    }
    assert memory["curvature"].shape == (4,)  # the scale, and one number for each pair


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs, one step remembered"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_memory_on_disk_gives_the_same_bytes(name: str, dtype: torch.dtype, tmp_path: Path):
    ends = []
    for scratch in (MemoryStore(), DiskStore(tmp_path)):
        first = make_solver(CHOICES[name], start(dtype), scratch=scratch)
        walk(first, bent, 6)
        second = make_solver(
            CHOICES[name],
            first.iterate.clone(),
            through_a_file(first.memory(), tmp_path),
            scratch=scratch,
        )
        walk(second, bent, 6)
        assert isinstance(second.memory()["steps.0"], InMemoryTensor) == isinstance(
            scratch, MemoryStore
        )
        ends.append(
            (raw(second.pixels), {key: raw(kept.load()) for key, kept in second.memory().items()})
        )
    assert ends[0] == ends[1]


# ---- searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHOICES)
def test_a_move_changes_the_pixels_in_their_place(name: str):
    solver = make_solver(CHOICES[name], start())
    pixels = solver.pixels
    for _ in range(4):
        before = solver.pixels.clone()
        walk(solver, bent)
        assert solver.pixels is pixels and not torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("rate", "history", "white"),
    [
        (1.0, 100, 1.0),
        (1.0, 3, 1.0),
        (0.4, 10, 1.0),
        (0.7, 1, 1.0),
        (1.0, 10, 255.0),
        (0.4, 3, 7.0),
    ],
)
def test_lbfgs_makes_the_moves_of_torchs(rate: float, history: int, white: float):
    mine = make_solver(
        Choice(name="lbfgs", rate=rate, history=history, preconditioner="none", pixel_range=white),
        start(),
    )
    theirs = (white * start()).requires_grad_()
    torchs = torch.optim.LBFGS(
        [theirs], lr=rate, history_size=history, max_iter=1, tolerance_grad=0, tolerance_change=0
    )

    # Steep, since torch learns nothing of what is flat.
    def land(pixels: Tensor) -> tuple[float, Tensor]:
        height, gradient = bent(pixels)
        return white**2 * height, white**2 * gradient

    def evaluate() -> float:
        height, gradient = land(theirs / white)
        theirs.grad = gradient / white
        return height

    for step in range(15):
        walk(mine, land)
        torchs.step(evaluate)
        assert (mine.pixels - theirs.detach() / white).norm() < 1e-10, f"move {step + 1}"
    assert pairs(mine) == len(torchs.state[theirs]["old_dirs"]) == min(history, 14)
    assert (mine.pixels - start()).norm() > 0.1


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_while_no_curvature_is_known_a_move_is_as_long_as_the_gradient_in_the_range_of_the_pixels(
    white: float,
):
    solver = make_solver(Choice(preconditioner="none", pixel_range=white), start())
    # Bent down, which teaches nothing.
    walk(solver, lambda pixels: (-float(pixels.square().sum()), -2 * pixels))
    before = solver.pixels.clone()
    solver.move(-2 * before)
    assert pairs(solver) == 0
    assert torch.allclose(solver.pixels - before, 2 * before / white**2, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_the_scale_of_the_loss_is_nothing_to_lbfgs(scale: float):
    """torch's threshold on the curvature is absolute: where the loss is small, it learns nothing
    and hardly moves.
    """
    gradient = bent(start())[1]
    ends = []
    # Both after the same first move, since that one is cautious by the gradient's size.
    for factor in (1.0, scale):
        begun = {
            "curvature": torch.ones(1),
            "step": -0.01 * gradient,
            "gradient": factor * gradient,
        }
        memory = {name: InMemoryTensor(tensor) for name, tensor in begun.items()}
        solver = make_solver(Choice(name="lbfgs", history=10), start() - 0.01 * gradient, memory)
        walk(solver, lambda pixels, factor=factor: (bent(pixels)[0], factor * bent(pixels)[1]), 12)
        assert pairs(solver) == 10
        ends.append(solver.pixels)
    assert (ends[0] - ends[1]).norm() < 1e-8 < (ends[0] - start()).norm()


def change_of(
    gradient_after: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float64
) -> lbfgs.LBFGS:
    """A search whose second gradient is made from its first move and its first gradient."""
    solver = make_solver(Choice(name="lbfgs"), start(dtype))
    assert isinstance(solver, lbfgs.LBFGS)
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
    solver = make_solver(Choice(name="lbfgs"), start())
    walk(solver, slope, 5)
    assert pairs(solver) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lbfgs_finds_the_bottom_of_a_quadratic(dtype: torch.dtype):
    evaluate = valley(dtype)
    solver = make_solver(Choice(name="lbfgs", history=20), start(dtype))
    heights = walk(solver, evaluate, 81)
    assert heights[-1] < heights[0] * 1e-8
    steepest = start(dtype)
    for _ in range(81):  # the best that a fixed step along the gradient does
        steepest -= evaluate(steepest)[1] / 1.5
    assert heights[-1] < evaluate(steepest)[0] / 100


def test_adam_comes_close_to_the_bottom_and_keeps_within_the_range():
    bottom = torch.full((1, 3, 4, 5), 1.5, dtype=torch.float64)
    bottom[:, 0] = 0.25
    solver = make_solver(Choice(name="adam", rate=0.02), start())
    for _ in range(200):
        walk(solver, lambda pixels: (float(((pixels - bottom) ** 2).sum()), 2 * (pixels - bottom)))
        assert solver.pixels.min() >= 0 and solver.pixels.max() <= 1
    assert torch.allclose(solver.pixels[:, 0], bottom[:, 0], atol=0.01)
    assert torch.equal(solver.pixels[:, 1:], torch.ones_like(solver.pixels[:, 1:]))


def test_no_gradient_is_no_move():
    for choice in CHOICES.values():
        solver = make_solver(choice, start())
        walk(solver, lambda pixels: (1.0, torch.zeros_like(pixels)), 3)
        assert torch.equal(solver.pixels, start())


def test_the_recipe_decides_which():
    kinds = {"adam": first_order.Adam, "sgd": first_order.SGD, "lbfgs": lbfgs.LBFGS}
    for name, kind in kinds.items():
        assert type(make_solver(Choice(name=name), start())) is kind
    assert type(make_solver(Choice(line_search="strong-wolfe"), start())) is lbfgs.LineSearchLBFGS
    assert (
        type(make_solver(Choice(name="adam", line_search="strong-wolfe"), start()))
        is first_order.Adam
    )


def moves(choice: Choice, step_scale: float = 1.0, steps: int = 1) -> Tensor:
    solver = make_solver(choice, start(), step_scale=step_scale)
    walk(solver, bent, steps)
    return solver.pixels - start()


def test_rate_scales_the_first_steps():
    slow, quick = (moves(Choice(name="lbfgs", rate=rate)) for rate in (0.25, 0.5))
    assert torch.allclose(quick, 2 * slow, rtol=1e-6)


@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("steps", [1, 6])
def test_caution_is_a_factor_on_the_rate(name: str, steps: int):
    choice = Choice(name=name, rate=0.1)
    careful = moves(choice, step_scale=0.25, steps=steps)
    assert torch.equal(careful, moves(choice.model_copy(update={"rate": 0.025}), steps=steps))
    assert not torch.allclose(careful, moves(choice, steps=steps))


# ---- adam and sgd --------------------------------------------------------------------------------


def torchs(
    kind: type[torch.optim.Optimizer], steps: int, rates: Callable[[int], float], **how: Any
) -> list[Tensor]:
    """The pixels after each step of one of torch's optimisers in the valley."""
    pixels, land, seen = start().requires_grad_(), valley(), []
    optimiser = kind([pixels], lr=1.0, **how)  # type: ignore[call-arg]
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rates(step)
        pixels.grad = land(pixels)[1]
        optimiser.step()
        seen.append(pixels.detach().clone())
    return seen


DECAYS = [{}, {"rate_decay": 0.5, "rate_decay_steps": 4}]


@pytest.mark.parametrize("decay", DECAYS, ids=str)
def test_sgd_makes_the_steps_of_torchs(decay: dict[str, Any]):
    solver = make_solver(Choice(name="sgd", rate=0.3, clamp="no", **decay), start())
    expected = torchs(torch.optim.SGD, 12, lambda step: 0.3 * (0.5 ** (step / 4) if decay else 1))
    for step in range(12):
        walk(solver, valley())
        assert torch.allclose(solver.pixels, expected[step], rtol=1e-14, atol=0)


@pytest.mark.parametrize("decay", DECAYS, ids=str)
@pytest.mark.parametrize(
    ("first", "second", "epsilon"), [(0.9, 0.99, 1e-8), (0.99, 0.999, 0.1), (0.0, 0.5, 1e-3)]
)
def test_adam_makes_the_steps_of_torchs(
    decay: dict[str, Any], first: float, second: float, epsilon: float
):
    choice = Choice(
        name="adam",
        rate=0.05,
        clamp="no",
        first_decay=first,
        second_decay=second,
        epsilon=epsilon,
        **decay,
    )
    solver = make_solver(choice, start())
    rates = lambda step: 0.05 * (0.5 ** (step / 4) if decay else 1)  # noqa: E731
    expected = torchs(torch.optim.Adam, 12, rates, betas=(first, second), eps=epsilon)
    for step in range(12):
        walk(solver, valley())
        assert torch.equal(solver.pixels, expected[step])


def test_the_rate_decays_bit_by_bit():
    choice = Choice(name="sgd", rate=100, rate_decay=0.96, rate_decay_steps=100)
    assert first_order.rate(choice, 0) == 100
    assert first_order.rate(choice, 100) == pytest.approx(96, rel=1e-15)
    assert first_order.rate(choice, 50) == pytest.approx(100 * 0.96**0.5, rel=1e-15)
    assert [first_order.rate(Choice(rate=0.3), moves) for moves in (0, 7, 10**6)] == [0.3] * 3


# ---- keeping within 0..1 -------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", ["auto", "yes", "no"])
@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pixels_are_kept_within_the_range_where_that_is_asked_for(
    name: str, clamp: str, dtype: torch.dtype
):
    def far(pixels: Tensor) -> tuple[float, Tensor]:
        return float((pixels - 3).square().sum()), 2 * (pixels - 3)

    kept = clamp == "yes" or (clamp == "auto" and name != "lbfgs")
    choice = Choice(
        name=name, rate=0.1 if name == "adam" else 0.4, clamp=clamp, preconditioner="none"
    )
    solver = make_solver(choice, start(dtype))
    walk(solver, far, 20)
    assert (float(solver.pixels.max()) <= 1) == kept and solver.pixels.max() >= 1
    assert not kept or torch.equal(solver.pixels, torch.ones_like(solver.pixels))


def test_lbfgs_learns_from_the_step_that_was_made_within_the_range():
    solver = make_solver(Choice(clamp="yes", preconditioner="none", rate=100), start())
    before = solver.pixels.clone()
    walk(solver, lambda pixels: (float(pixels.sum()), torch.ones_like(pixels)))
    assert (
        torch.allclose(solver.memory()["step"].load(), solver.pixels - before)
        and solver.pixels.min() == 0
    )


# ---- searching along a line ----------------------------------------------------------------------


def rosenbrock(pixels: Tensor) -> tuple[float, Tensor]:
    """The banana-shaped valley, whose bottom is at ones."""
    leaf = pixels.detach().requires_grad_()
    flat = leaf.view(-1)
    loss = (100 * (flat[1:] - flat[:-1] ** 2) ** 2 + (1 - flat[:-1]) ** 2).sum()
    return float(loss.detach()), torch.autograd.grad(loss, leaf)[0]


def steep(pixels: Tensor) -> tuple[float, Tensor]:
    """Convex, and ever steeper: a fixed step is now too long and now too short."""
    leaf = pixels.detach().requires_grad_()
    loss = ((8 * leaf - 4).exp() + (-3 * leaf).exp()).sum()
    return float(loss.detach()), torch.autograd.grad(loss, leaf)[0]


def looks_of_torchs(land: Land, enough: float, most: int) -> tuple[int, Tensor]:
    """How many evaluations torch's search takes until no gradient is above ``enough``, and where it
    ends.
    """
    pixels, looks = start().requires_grad_(), 0

    def evaluate() -> float:
        nonlocal looks
        looks += 1
        height, pixels.grad = land(pixels)
        return height

    how: dict[str, Any] = {"tolerance_grad": enough, "tolerance_change": 0, "history_size": 10}
    torch.optim.LBFGS(
        [pixels], max_iter=most, max_eval=most, line_search_fn="strong_wolfe", **how
    ).step(evaluate)
    return looks, pixels.detach()


@pytest.mark.parametrize(
    ("land", "enough"), [(rosenbrock, 1e-4), (steep, 1e-6), (valley(), 1e-4), (bent, 1e-6)]
)
def test_a_search_comes_to_the_minima_of_torchs_in_about_as_many_looks(land: Land, enough: float):
    looks, bottom = looks_of_torchs(land, enough, 800)
    solver = make_solver(Choice(line_search="strong-wolfe", preconditioner="none"), start())
    height, gradient = land(solver.pixels)
    mine = 1
    while gradient.abs().max() > enough and mine < 800:
        solver.move(gradient, height)
        height, gradient = land(solver.pixels)
        mine += 1
    assert torch.allclose(solver.pixels, bottom, atol=100 * enough)
    assert abs(mine - looks) <= 0.1 * looks + 2


@pytest.mark.parametrize("preconditioner", ["learned", "none"])
@pytest.mark.parametrize("land", [rosenbrock, steep, bent])
def test_every_step_that_is_accepted_meets_the_strong_wolfe_conditions(
    land: Land, preconditioner: str
):
    solver = make_solver(Choice(line_search="strong-wolfe", preconditioner=preconditioner), start())
    accepted = rejected = 0
    for _ in range(60):
        height, gradient = land(solver.pixels)
        if gradient.abs().max() < 1e-5:
            break  # what is left is rounding
        before, tried = solver.iterate.clone(), solver.pixels.clone()
        good = solver.accepts(gradient.clone(), height)
        solver.move(gradient.clone(), height)
        assert torch.equal(solver.iterate, tried if good else before)
        rejected += not good
        step = tried - before
        if not good or not step.any():  # the first look is at where it stands
            continue
        accepted += 1
        above, steepness = land(before)[0], float((land(before)[1] * step).sum())
        assert height <= above + 1e-4 * steepness < above
        longest = (
            float(step.square().mean().sqrt()) >= 0.999 * LONGEST_MOVE
            and preconditioner == "learned"
        )
        assert abs(float((gradient * step).sum())) <= -0.9 * steepness * (1 + 1e-9) or longest
    assert accepted > 10 and (rejected > 0 or land is not rosenbrock)


def test_a_search_goes_no_farther_than_the_longest_move():
    solver = make_solver(Choice(line_search="strong-wolfe"), start())
    for _ in range(20):
        walk(solver, slope)
        assert (solver.pixels - solver.iterate).square().mean().sqrt() <= LONGEST_MOVE * (1 + 1e-9)


def test_a_search_that_finds_nothing_lower_forgets_and_looks_again_where_it_stands():
    solver = make_solver(Choice(line_search="strong-wolfe"), start())
    walk(solver, bent, 12)
    before = solver.iterate.clone()
    assert pairs(solver) > 0
    for _ in range(MAX_EVALUATIONS + 1):
        solver.move(torch.full_like(before, float("nan")), float("nan"))
    assert torch.equal(solver.pixels, before) and torch.equal(solver.iterate, before)
    assert pairs(solver) == 0 and set(solver.memory()) == {"curvature"}
    fresh = make_solver(Choice(line_search="strong-wolfe"), before.clone())
    assert walk(solver, bent, 9) == walk(fresh, bent, 9)


def test_a_search_at_the_bottom_stays_there():
    bottom = start(seed=1)
    solver = make_solver(Choice(line_search="strong-wolfe", preconditioner="none"), bottom.clone())
    walk(solver, valley(), 5)
    assert torch.equal(solver.pixels, bottom) and set(solver.memory()) == {"curvature"}


# ---- averaging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_running_average_is_the_weighted_mean_of_all_pictures(decay: float):
    pictures = [start(seed=seed) for seed in range(12)]
    average = torch.full_like(pictures[0], 7.0)  # of nothing: it goes with the first
    for count, picture in enumerate(pictures, 1):
        assert add_to_average(average, picture, decay, count) is average
        weights = [decay ** (count - 1 - index) for index in range(count)]
        expected = sum(weight * one for weight, one in zip(weights, pictures, strict=False)) / sum(
            weights
        )
        assert torch.allclose(average, torch.as_tensor(expected), rtol=1e-12)
        # As K. Crowson writes it.
        value, left = torch.zeros_like(picture), 1.0
        for one in pictures[:count]:
            value, left = value * decay + (1 - decay) * one, left * decay
        assert torch.allclose(average, value / (1 - left), rtol=1e-12)


# ---- growing -------------------------------------------------------------------------------------


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30), st.integers(0, 99)
)
def test_growing_gives_the_size_and_keeps_the_range(
    height: int, width: int, new_height: int, new_width: int, seed: int
):
    # -1 and 2.
    pixels = (
        torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)).round() * 3
        - 1
    )
    kept = pixels.clone()
    grown = upscale_pixels(pixels, Size(new_height, new_width))
    assert grown.shape == (1, 3, new_height, new_width)
    assert grown.dtype == pixels.dtype
    assert grown.min() >= 0 and grown.max() <= 1
    assert torch.equal(pixels, kept)


def test_growing_keeps_what_is_where():
    ramp = torch.linspace(0.1, 0.9, 8).view(1, 1, 8, 1).expand(1, 3, 8, 6)  # darker above
    grown = upscale_pixels(ramp, Size(16, 12))
    assert torch.allclose(grown, grown[..., :1].expand_as(grown), atol=1e-6)
    assert (grown[..., 1:, 0] - grown[..., :-1, 0] > -0.02).all()
    assert grown.mean().item() == pytest.approx(ramp.mean().item(), abs=1e-3)
    assert torch.allclose(torch.nn.functional.avg_pool2d(grown, 2), ramp, atol=0.03)
    assert torch.allclose(
        upscale_pixels(torch.full((1, 3, 5, 7), 0.3), Size(11, 13)), torch.tensor(0.3)
    )


def test_adams_moments_are_carried_into_the_next_size():
    solver = make_solver(Choice(name="adam", rate=0.02, carry=True), start())
    walk(solver, bent, 5)
    memory = solver.memory()
    grown = upscale.upscale_memory(
        upscale.carried_memory(Choice(name="adam", carry=True), memory), Size(7, 9)
    )
    resized = torch.nn.functional.interpolate
    first, second = memory["exp_avg"].load(), memory["exp_avg_sq"].load()
    assert torch.equal(grown["exp_avg"].load(), resized(first, (7, 9), mode="bicubic"))
    assert torch.equal(grown["exp_avg_sq"].load(), resized(second, (7, 9), mode="bilinear"))
    assert grown["exp_avg_sq"].load().min() >= 0 and int(grown["step"].load()) == 5
    larger = make_solver(
        Choice(name="adam", rate=0.02), upscale.upscale_pixels(solver.pixels, Size(7, 9)), grown
    )
    walk(larger, bent)
    assert int(larger.memory()["step"].load()) == 6 and int(memory["step"].load()) == 5


@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("carry", [True, False])
def test_what_is_carried_and_what_is_not(name: str, carry: bool):
    choice = Choice(name=name, rate=0.02, carry=carry)
    solver = make_solver(choice, start())
    walk(solver, bent, 3)
    assert bool(upscale.carried_memory(choice, solver.memory())) == (carry and name != "lbfgs")
