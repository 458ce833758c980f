"""Solvers converge, and an interrupted one ends at the same bytes as an uninterrupted one."""

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
from impasto.recipe.records import Solver as SolverSettings
from impasto.storage.files import replace_file
from impasto.storage.tensors import (
    DiskStore,
    InMemoryTensor,
    MemoryStore,
    StoredTensor,
    open_safetensors,
    safetensors_parts,
)

Function = Callable[[Tensor], tuple[float, Tensor]]  # pixels -> loss and gradient

SETTINGS = {
    "lbfgs": SolverSettings(name="lbfgs", history=3),
    "lbfgs, history of 1": SolverSettings(name="lbfgs", history=1),
    "lbfgs, slow": SolverSettings(name="lbfgs", rate=0.3),
    "torch's": SolverSettings(name="lbfgs", history=3, preconditioner="none"),
    "adam": SolverSettings(name="adam", rate=0.02),
    "adam, decaying rate": SolverSettings(
        name="adam", rate=0.02, rate_decay=0.5, rate_decay_steps=3, epsilon=0.1, clamp="no"
    ),
    "sgd": SolverSettings(name="sgd", rate=0.5, rate_decay=0.5, rate_decay_steps=10),
    "lbfgs, within 0..1": SolverSettings(name="lbfgs", history=3, clamp="yes"),
    "line search": SolverSettings(name="lbfgs", history=3, line_search="strong-wolfe"),
    "line search, torch's": SolverSettings(
        name="lbfgs", history=3, line_search="strong-wolfe", preconditioner="none"
    ),
}
STEPS = 9


def start(dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 4, 5, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def quadratic(dtype: torch.dtype = torch.float64, steepness: float = 1.5) -> Function:
    """A quadratic with curvatures over two decades times ``steepness``; its minimum is in 0..1."""
    minimum = start(dtype, seed=1)
    curvature = torch.logspace(-2, 0, minimum.numel(), dtype=dtype).view_as(minimum) * steepness

    def evaluate(pixels: Tensor) -> tuple[float, Tensor]:
        difference = pixels.detach() - minimum
        return float((curvature * difference**2).sum() / 2), curvature * difference

    return evaluate


def nonlinear(pixels: Tensor) -> tuple[float, Tensor]:
    """A function whose curvature changes from step to step."""
    leaf = pixels.detach().requires_grad_()
    loss = ((leaf * 3).sin() + (leaf - 0.4) ** 4 * 8 + leaf.roll(1, -1) * leaf).sum() / leaf.numel()
    (gradient,) = torch.autograd.grad(loss, leaf)
    return float(loss.detach()), gradient


def linear(pixels: Tensor) -> tuple[float, Tensor]:
    """A function without curvature: nothing can be learned from a step."""
    gradient = torch.linspace(-1, 1, pixels.numel(), dtype=pixels.dtype).view_as(pixels)
    return float((gradient * pixels).sum()), gradient


def run_moves(solver: Solver, function: Function, steps: int = 1) -> list[float]:
    """Move a solver; return the loss before each move."""
    losses = []
    for _ in range(steps):
        loss, gradient = function(solver.pixels)
        solver.move(gradient, loss)
        losses.append(loss)
    return losses


def through_a_file(memory: Mapping[str, StoredTensor], folder: Path) -> dict[str, StoredTensor]:
    """The memory, written to a file and read back, as that of a run is."""
    replace_file(folder / "memory", safetensors_parts(memory, {}))
    return open_safetensors(folder / "memory")[0]


def raw(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def pairs(solver: Solver) -> int:
    return sum(name.startswith("steps.") for name in solver.memory())


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("function", [nonlinear, linear])
def test_an_interrupted_search_gives_the_same_bytes(
    name: str, dtype: torch.dtype, function: Function, tmp_path: Path
):
    uninterrupted = make_solver(SETTINGS[name], start(dtype))
    losses = run_moves(uninterrupted, function, STEPS)
    for stop in range(STEPS):
        first = make_solver(SETTINGS[name], start(dtype))
        run_moves(first, function, stop)
        stored = through_a_file(first.memory(), tmp_path)
        second = make_solver(SETTINGS[name], first.iterate.clone(), stored)
        assert run_moves(second, function, STEPS - stop) == losses[stop:]
        assert raw(second.pixels) == raw(uninterrupted.pixels), f"after {stop} steps"
        ends = uninterrupted.memory(), second.memory()
        assert set(ends[0]) == set(ends[1])
        assert all(raw(ends[0][key].load()) == raw(ends[1][key].load()) for key in ends[0])


@pytest.mark.parametrize("name", SETTINGS)
def test_memory_changes_the_result(name: str):
    """Otherwise the test above could not fail."""
    uninterrupted, without_memory = (
        make_solver(SETTINGS[name], start()),
        make_solver(SETTINGS[name], start()),
    )
    for step in range(STEPS):
        run_moves(uninterrupted, nonlinear)
        run_moves(without_memory, nonlinear)
        if step == 4:
            without_memory = make_solver(SETTINGS[name], without_memory.iterate.clone())
    assert raw(uninterrupted.pixels) != raw(without_memory.pixels)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_memory_is_not_changed(name: str):
    first = make_solver(SETTINGS[name], start())
    run_moves(first, nonlinear, 5)
    memory = {key: InMemoryTensor(stored.load().clone()) for key, stored in first.memory().items()}
    before = {key: raw(stored.load()) for key, stored in memory.items()}
    run_moves(make_solver(SETTINGS[name], first.iterate.clone(), memory), nonlinear, 5)
    assert {key: raw(stored.load()) for key, stored in memory.items()} == before


@pytest.mark.parametrize("name", SETTINGS)
def test_the_memory_before_the_first_move_changes_nothing(name: str):
    fresh = make_solver(SETTINGS[name], start())
    again = make_solver(SETTINGS[name], start(), fresh.memory())
    assert run_moves(fresh, nonlinear, 3) == run_moves(again, nonlinear, 3)


def test_history_has_the_requested_length():
    solver = make_solver(SolverSettings(name="lbfgs", history=3), start())
    run_moves(solver, nonlinear, 8)
    memory = solver.memory()
    assert {key for key in memory if "." in key} == {
        f"{kind}.{n}" for kind in ("steps", "changes") for n in range(3)
    }
    assert memory["curvature"].shape == (4,)  # the scale, and one number for each pair


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs, history of 1"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_memory_on_disk_gives_the_same_bytes(name: str, dtype: torch.dtype, tmp_path: Path):
    ends = []
    for store in (MemoryStore(), DiskStore(tmp_path)):
        first = make_solver(SETTINGS[name], start(dtype), store=store)
        run_moves(first, nonlinear, 6)
        second = make_solver(
            SETTINGS[name],
            first.iterate.clone(),
            through_a_file(first.memory(), tmp_path),
            store=store,
        )
        run_moves(second, nonlinear, 6)
        assert isinstance(second.memory()["steps.0"], InMemoryTensor) == isinstance(
            store, MemoryStore
        )
        ends.append(
            (
                raw(second.pixels),
                {key: raw(stored.load()) for key, stored in second.memory().items()},
            )
        )
    assert ends[0] == ends[1]


# ---- moves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_a_move_changes_the_pixels_in_place(name: str):
    solver = make_solver(SETTINGS[name], start())
    pixels = solver.pixels
    for _ in range(4):
        before = solver.pixels.clone()
        run_moves(solver, nonlinear)
        assert solver.pixels is pixels and not torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("rate", "history", "pixel_range"),
    [
        (1.0, 100, 1.0),
        (1.0, 3, 1.0),
        (0.4, 10, 1.0),
        (0.7, 1, 1.0),
        (1.0, 10, 255.0),
        (0.4, 3, 7.0),
    ],
)
def test_lbfgs_makes_the_moves_of_torch(rate: float, history: int, pixel_range: float):
    solver = make_solver(
        SolverSettings(
            name="lbfgs", rate=rate, history=history, preconditioner="none", pixel_range=pixel_range
        ),
        start(),
    )
    torch_pixels = (pixel_range * start()).requires_grad_()
    torch_solver = torch.optim.LBFGS(
        [torch_pixels],
        lr=rate,
        history_size=history,
        max_iter=1,
        tolerance_grad=0,
        tolerance_change=0,
    )

    # Steep, since torch stores no pair of a small curvature.
    def function(pixels: Tensor) -> tuple[float, Tensor]:
        loss, gradient = nonlinear(pixels)
        return pixel_range**2 * loss, pixel_range**2 * gradient

    def evaluate() -> float:
        loss, gradient = function(torch_pixels / pixel_range)
        torch_pixels.grad = gradient / pixel_range
        return loss

    for step in range(15):
        run_moves(solver, function)
        torch_solver.step(evaluate)
        assert (solver.pixels - torch_pixels.detach() / pixel_range).norm() < 1e-10, (
            f"move {step + 1}"
        )
    assert pairs(solver) == len(torch_solver.state[torch_pixels]["old_dirs"]) == min(history, 14)
    assert (solver.pixels - start()).norm() > 0.1


@pytest.mark.parametrize("pixel_range", [1.0, 255.0])
def test_without_known_curvature_a_move_is_as_long_as_the_gradient_in_the_pixel_range(
    pixel_range: float,
):
    solver = make_solver(SolverSettings(preconditioner="none", pixel_range=pixel_range), start())
    # No pair is stored for negative curvature.
    run_moves(solver, lambda pixels: (-float(pixels.square().sum()), -2 * pixels))
    before = solver.pixels.clone()
    solver.move(-2 * before)
    assert pairs(solver) == 0
    assert torch.allclose(solver.pixels - before, 2 * before / pixel_range**2, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
def test_lbfgs_does_not_depend_on_the_scale_of_the_loss(scale: float):
    """torch's threshold on the curvature is absolute: it hardly moves where the loss is small."""
    gradient = nonlinear(start())[1]
    ends = []
    # Both start after the same first move, whose length depends on the gradient.
    for factor in (1.0, scale):
        tensors = {
            "curvature": torch.ones(1),
            "step": -0.01 * gradient,
            "gradient": factor * gradient,
        }
        memory = {name: InMemoryTensor(tensor) for name, tensor in tensors.items()}
        solver = make_solver(
            SolverSettings(name="lbfgs", history=10), start() - 0.01 * gradient, memory
        )
        run_moves(
            solver,
            lambda pixels, factor=factor: (nonlinear(pixels)[0], factor * nonlinear(pixels)[1]),
            12,
        )
        assert pairs(solver) == 10
        ends.append(solver.pixels)
    assert (ends[0] - ends[1]).norm() < 1e-8 < (ends[0] - start()).norm()


def after_two_moves(
    gradient_after: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float64
) -> lbfgs.LBFGS:
    """A solver whose second gradient is computed from its first move and its first gradient."""
    solver = make_solver(SolverSettings(name="lbfgs"), start(dtype))
    assert isinstance(solver, lbfgs.LBFGS)
    gradient = nonlinear(start(dtype))[1]
    solver.move(gradient.clone())
    solver.move(gradient_after(solver.pixels - start(dtype), gradient))
    return solver


def orthogonal_to(step: Tensor) -> Tensor:
    """A tensor as long as a step and orthogonal to it."""
    other = start(step.dtype, seed=5)
    other = other - step * (other * step).sum() / (step * step).sum()
    return other * step.norm() / other.norm()


def test_a_pair_is_stored_where_the_gradient_changes_along_the_step():
    assert pairs(after_two_moves(lambda step, gradient: gradient + 2 * step)) == 1
    assert (
        pairs(after_two_moves(lambda step, gradient: gradient + 1e-3 * step + orthogonal_to(step)))
        == 1
    )


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("along", [0.0, 1e-5, -1e-5, -1.0])
def test_a_pair_of_rounding_or_negative_curvature_is_not_stored(along: float, scale: float):
    solver = after_two_moves(
        lambda step, gradient: gradient + scale * (along * step + orthogonal_to(step))
    )
    assert pairs(solver) == 0
    assert solver.memory()["curvature"].load().tolist() == [1.0]


def test_a_constant_gradient_gives_no_pair():
    solver = make_solver(SolverSettings(name="lbfgs"), start())
    run_moves(solver, linear, 5)
    assert pairs(solver) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_lbfgs_finds_the_minimum_of_a_quadratic(dtype: torch.dtype):
    evaluate = quadratic(dtype)
    solver = make_solver(SolverSettings(name="lbfgs", history=20), start(dtype))
    losses = run_moves(solver, evaluate, 81)
    assert losses[-1] < losses[0] * 1e-8
    steepest = start(dtype)
    for _ in range(81):  # gradient descent with the best fixed step
        steepest -= evaluate(steepest)[1] / 1.5
    assert losses[-1] < evaluate(steepest)[0] / 100


def test_adam_comes_close_to_the_minimum_and_stays_within_the_range():
    minimum = torch.full((1, 3, 4, 5), 1.5, dtype=torch.float64)
    minimum[:, 0] = 0.25
    solver = make_solver(SolverSettings(name="adam", rate=0.02), start())
    for _ in range(200):
        run_moves(
            solver, lambda pixels: (float(((pixels - minimum) ** 2).sum()), 2 * (pixels - minimum))
        )
        assert solver.pixels.min() >= 0 and solver.pixels.max() <= 1
    assert torch.allclose(solver.pixels[:, 0], minimum[:, 0], atol=0.01)
    assert torch.equal(solver.pixels[:, 1:], torch.ones_like(solver.pixels[:, 1:]))


def test_a_gradient_of_0_makes_no_move():
    for settings in SETTINGS.values():
        solver = make_solver(settings, start())
        run_moves(solver, lambda pixels: (1.0, torch.zeros_like(pixels)), 3)
        assert torch.equal(solver.pixels, start())


def test_the_settings_decide_the_class():
    kinds = {"adam": first_order.Adam, "sgd": first_order.SGD, "lbfgs": lbfgs.LBFGS}
    for name, kind in kinds.items():
        assert type(make_solver(SolverSettings(name=name), start())) is kind
    assert (
        type(make_solver(SolverSettings(line_search="strong-wolfe"), start()))
        is lbfgs.LineSearchLBFGS
    )
    assert (
        type(make_solver(SolverSettings(name="adam", line_search="strong-wolfe"), start()))
        is first_order.Adam
    )


def moves(settings: SolverSettings, step_scale: float = 1.0, steps: int = 1) -> Tensor:
    solver = make_solver(settings, start(), step_scale=step_scale)
    run_moves(solver, nonlinear, steps)
    return solver.pixels - start()


def test_rate_scales_the_first_steps():
    slow, quick = (moves(SolverSettings(name="lbfgs", rate=rate)) for rate in (0.25, 0.5))
    assert torch.allclose(quick, 2 * slow, rtol=1e-6)


@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("steps", [1, 6])
def test_step_scale_is_a_factor_on_the_rate(name: str, steps: int):
    settings = SolverSettings(name=name, rate=0.1)
    careful = moves(settings, step_scale=0.25, steps=steps)
    assert torch.equal(careful, moves(settings.model_copy(update={"rate": 0.025}), steps=steps))
    assert not torch.allclose(careful, moves(settings, steps=steps))


# ---- adam and sgd --------------------------------------------------------------------------------


def torch_steps(
    kind: type[torch.optim.Optimizer], steps: int, rates: Callable[[int], float], **options: Any
) -> list[Tensor]:
    """The pixels after each step of one of torch's optimisers on the quadratic."""
    pixels, function, recorded = start().requires_grad_(), quadratic(), []
    optimiser = kind([pixels], lr=1.0, **options)  # type: ignore[call-arg]
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rates(step)
        pixels.grad = function(pixels)[1]
        optimiser.step()
        recorded.append(pixels.detach().clone())
    return recorded


DECAYS = [{}, {"rate_decay": 0.5, "rate_decay_steps": 4}]


@pytest.mark.parametrize("decay", DECAYS, ids=str)
def test_sgd_makes_the_steps_of_torch(decay: dict[str, Any]):
    solver = make_solver(SolverSettings(name="sgd", rate=0.3, clamp="no", **decay), start())
    expected = torch_steps(
        torch.optim.SGD, 12, lambda step: 0.3 * (0.5 ** (step / 4) if decay else 1)
    )
    for step in range(12):
        run_moves(solver, quadratic())
        assert torch.allclose(solver.pixels, expected[step], rtol=1e-14, atol=0)


@pytest.mark.parametrize("decay", DECAYS, ids=str)
@pytest.mark.parametrize(
    ("first", "second", "epsilon"), [(0.9, 0.99, 1e-8), (0.99, 0.999, 0.1), (0.0, 0.5, 1e-3)]
)
def test_adam_makes_the_steps_of_torch(
    decay: dict[str, Any], first: float, second: float, epsilon: float
):
    settings = SolverSettings(
        name="adam",
        rate=0.05,
        clamp="no",
        first_decay=first,
        second_decay=second,
        epsilon=epsilon,
        **decay,
    )
    solver = make_solver(settings, start())
    rates = lambda step: 0.05 * (0.5 ** (step / 4) if decay else 1)  # noqa: E731
    expected = torch_steps(torch.optim.Adam, 12, rates, betas=(first, second), eps=epsilon)
    for step in range(12):
        run_moves(solver, quadratic())
        assert torch.equal(solver.pixels, expected[step])


def test_the_rate_decays_exponentially():
    settings = SolverSettings(name="sgd", rate=100, rate_decay=0.96, rate_decay_steps=100)
    assert first_order.decayed_rate(settings, 0) == 100
    assert first_order.decayed_rate(settings, 100) == pytest.approx(96, rel=1e-15)
    assert first_order.decayed_rate(settings, 50) == pytest.approx(100 * 0.96**0.5, rel=1e-15)
    assert [
        first_order.decayed_rate(SolverSettings(rate=0.3), moves) for moves in (0, 7, 10**6)
    ] == [0.3] * 3


# ---- clamping to 0..1 ----------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", ["auto", "yes", "no"])
@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pixels_are_clamped_if_the_settings_say_so(name: str, clamp: str, dtype: torch.dtype):
    def far_away(pixels: Tensor) -> tuple[float, Tensor]:
        return float((pixels - 3).square().sum()), 2 * (pixels - 3)

    clamped = clamp == "yes" or (clamp == "auto" and name != "lbfgs")
    settings = SolverSettings(
        name=name, rate=0.1 if name == "adam" else 0.4, clamp=clamp, preconditioner="none"
    )
    solver = make_solver(settings, start(dtype))
    run_moves(solver, far_away, 20)
    assert (float(solver.pixels.max()) <= 1) == clamped and solver.pixels.max() >= 1
    assert not clamped or torch.equal(solver.pixels, torch.ones_like(solver.pixels))


def test_lbfgs_learns_from_the_clamped_step():
    solver = make_solver(SolverSettings(clamp="yes", preconditioner="none", rate=100), start())
    before = solver.pixels.clone()
    run_moves(solver, lambda pixels: (float(pixels.sum()), torch.ones_like(pixels)))
    assert (
        torch.allclose(solver.memory()["step"].load(), solver.pixels - before)
        and solver.pixels.min() == 0
    )


# ---- line search ---------------------------------------------------------------------------------


def rosenbrock(pixels: Tensor) -> tuple[float, Tensor]:
    """Rosenbrock's function; its minimum is at ones."""
    leaf = pixels.detach().requires_grad_()
    flat = leaf.view(-1)
    loss = (100 * (flat[1:] - flat[:-1] ** 2) ** 2 + (1 - flat[:-1]) ** 2).sum()
    return float(loss.detach()), torch.autograd.grad(loss, leaf)[0]


def exponential(pixels: Tensor) -> tuple[float, Tensor]:
    """Convex, with a curvature for which any fixed step is too long or too short somewhere."""
    leaf = pixels.detach().requires_grad_()
    loss = ((8 * leaf - 4).exp() + (-3 * leaf).exp()).sum()
    return float(loss.detach()), torch.autograd.grad(loss, leaf)[0]


def torch_evaluations(function: Function, tolerance: float, most: int) -> tuple[int, Tensor]:
    """The evaluations until no gradient of torch's search is above ``tolerance``, and its end."""
    pixels, evaluations = start().requires_grad_(), 0

    def evaluate() -> float:
        nonlocal evaluations
        evaluations += 1
        loss, pixels.grad = function(pixels)
        return loss

    options: dict[str, Any] = {
        "tolerance_grad": tolerance,
        "tolerance_change": 0,
        "history_size": 10,
    }
    torch.optim.LBFGS(
        [pixels], max_iter=most, max_eval=most, line_search_fn="strong_wolfe", **options
    ).step(evaluate)
    return evaluations, pixels.detach()


@pytest.mark.parametrize(
    ("function", "tolerance"),
    [(rosenbrock, 1e-4), (exponential, 1e-6), (quadratic(), 1e-4), (nonlinear, 1e-6)],
)
def test_a_line_search_finds_torchs_minima_in_about_as_many_evaluations(
    function: Function, tolerance: float
):
    evaluations, minimum = torch_evaluations(function, tolerance, 800)
    solver = make_solver(SolverSettings(line_search="strong-wolfe", preconditioner="none"), start())
    loss, gradient = function(solver.pixels)
    count = 1
    while gradient.abs().max() > tolerance and count < 800:
        solver.move(gradient, loss)
        loss, gradient = function(solver.pixels)
        count += 1
    assert torch.allclose(solver.pixels, minimum, atol=100 * tolerance)
    assert abs(count - evaluations) <= 0.1 * evaluations + 2


@pytest.mark.parametrize("preconditioner", ["learned", "none"])
@pytest.mark.parametrize("function", [rosenbrock, exponential, nonlinear])
def test_every_accepted_step_meets_the_strong_wolfe_conditions(
    function: Function, preconditioner: str
):
    solver = make_solver(
        SolverSettings(line_search="strong-wolfe", preconditioner=preconditioner), start()
    )
    accepted = rejected = 0
    for _ in range(60):
        loss, gradient = function(solver.pixels)
        if gradient.abs().max() < 1e-5:
            break  # the rest is rounding
        before, tried = solver.iterate.clone(), solver.pixels.clone()
        accepts = solver.accepts(gradient.clone(), loss)
        solver.move(gradient.clone(), loss)
        assert torch.equal(solver.iterate, tried if accepts else before)
        rejected += not accepts
        step = tried - before
        if not accepts or not step.any():  # the first evaluation is at the start
            continue
        accepted += 1
        above, steepness = function(before)[0], float((function(before)[1] * step).sum())
        assert loss <= above + 1e-4 * steepness < above
        longest = (
            float(step.square().mean().sqrt()) >= 0.999 * LONGEST_MOVE
            and preconditioner == "learned"
        )
        assert abs(float((gradient * step).sum())) <= -0.9 * steepness * (1 + 1e-9) or longest
    assert accepted > 10 and (rejected > 0 or function is not rosenbrock)


def test_a_line_search_does_not_exceed_the_longest_move():
    solver = make_solver(SolverSettings(line_search="strong-wolfe"), start())
    for _ in range(20):
        run_moves(solver, linear)
        assert (solver.pixels - solver.iterate).square().mean().sqrt() <= LONGEST_MOVE * (1 + 1e-9)


def test_a_line_search_that_finds_nothing_lower_forgets_and_starts_again():
    solver = make_solver(SolverSettings(line_search="strong-wolfe"), start())
    run_moves(solver, nonlinear, 12)
    before = solver.iterate.clone()
    assert pairs(solver) > 0
    for _ in range(MAX_EVALUATIONS + 1):
        solver.move(torch.full_like(before, float("nan")), float("nan"))
    assert torch.equal(solver.pixels, before) and torch.equal(solver.iterate, before)
    assert pairs(solver) == 0 and set(solver.memory()) == {"curvature"}
    fresh = make_solver(SolverSettings(line_search="strong-wolfe"), before.clone())
    assert run_moves(solver, nonlinear, 9) == run_moves(fresh, nonlinear, 9)


def test_a_line_search_at_the_minimum_stays_there():
    minimum = start(seed=1)
    solver = make_solver(
        SolverSettings(line_search="strong-wolfe", preconditioner="none"), minimum.clone()
    )
    run_moves(solver, quadratic(), 5)
    assert torch.equal(solver.pixels, minimum) and set(solver.memory()) == {"curvature"}


# ---- averaging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_running_average_is_the_weighted_mean_of_all_pictures(decay: float):
    pictures = [start(seed=seed) for seed in range(12)]
    average = torch.full_like(pictures[0], 7.0)  # overwritten by the first
    for count, picture in enumerate(pictures, 1):
        assert add_to_average(average, picture, decay, count) is average
        weights = [decay ** (count - 1 - index) for index in range(count)]
        expected = sum(weight * one for weight, one in zip(weights, pictures, strict=False)) / sum(
            weights
        )
        assert torch.allclose(average, torch.as_tensor(expected), rtol=1e-12)
        # As K. Crowson writes it.
        value, remaining = torch.zeros_like(picture), 1.0
        for one in pictures[:count]:
            value = value * decay + (1 - decay) * one
            remaining *= decay
        assert torch.allclose(average, value / (1 - remaining), rtol=1e-12)


# ---- upscaling -----------------------------------------------------------------------------------


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 30), st.integers(1, 30), st.integers(0, 99)
)
def test_upscaling_gives_the_size_and_keeps_the_range(
    height: int, width: int, new_height: int, new_width: int, seed: int
):
    # Values of -1 and 2.
    pixels = (
        torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)).round() * 3
        - 1
    )
    copy = pixels.clone()
    grown = upscale_pixels(pixels, Size(new_height, new_width))
    assert grown.shape == (1, 3, new_height, new_width)
    assert grown.dtype == pixels.dtype
    assert grown.min() >= 0 and grown.max() <= 1
    assert torch.equal(pixels, copy)


def test_upscaling_keeps_positions():
    ramp = torch.linspace(0.1, 0.9, 8).view(1, 1, 8, 1).expand(1, 3, 8, 6)  # darker at the top
    grown = upscale_pixels(ramp, Size(16, 12))
    assert torch.allclose(grown, grown[..., :1].expand_as(grown), atol=1e-6)
    assert (grown[..., 1:, 0] - grown[..., :-1, 0] > -0.02).all()
    assert grown.mean().item() == pytest.approx(ramp.mean().item(), abs=1e-3)
    assert torch.allclose(torch.nn.functional.avg_pool2d(grown, 2), ramp, atol=0.03)
    assert torch.allclose(
        upscale_pixels(torch.full((1, 3, 5, 7), 0.3), Size(11, 13)), torch.tensor(0.3)
    )


def test_adams_moments_are_upscaled():
    solver = make_solver(SolverSettings(name="adam", rate=0.02, carry=True), start())
    run_moves(solver, nonlinear, 5)
    memory = solver.memory()
    grown = upscale.upscale_memory(
        upscale.carried_memory(SolverSettings(name="adam", carry=True), memory), Size(7, 9)
    )
    resized = torch.nn.functional.interpolate
    first, second = memory["exp_avg"].load(), memory["exp_avg_sq"].load()
    assert torch.equal(grown["exp_avg"].load(), resized(first, (7, 9), mode="bicubic"))
    assert torch.equal(grown["exp_avg_sq"].load(), resized(second, (7, 9), mode="bilinear"))
    assert grown["exp_avg_sq"].load().min() >= 0 and int(grown["step"].load()) == 5
    larger = make_solver(
        SolverSettings(name="adam", rate=0.02),
        upscale.upscale_pixels(solver.pixels, Size(7, 9)),
        grown,
    )
    run_moves(larger, nonlinear)
    assert int(larger.memory()["step"].load()) == 6 and int(memory["step"].load()) == 5


@pytest.mark.parametrize("name", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("carry", [True, False])
def test_only_memories_of_first_order_solvers_are_carried(name: str, carry: bool):
    settings = SolverSettings(name=name, rate=0.02, carry=carry)
    solver = make_solver(settings, start())
    run_moves(solver, nonlinear, 3)
    assert bool(upscale.carried_memory(settings, solver.memory())) == (carry and name != "lbfgs")
