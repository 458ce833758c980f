"""The first guess of the inverse Hessian is symmetric, positive, fits the last pair, and finds
where curvature is small.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from impasto.geometry import Size
from impasto.optimize.dct import DCT
from impasto.optimize.lbfgs import FIRST_DECREASE, FIRST_MOVE, LONGEST_MOVE
from impasto.optimize.preconditioner import FREQUENCY_RANGE, POSITION_RANGE, Preconditioner
from impasto.optimize.solver_factory import make_solver
from impasto.recipe.records import Solver as Choice

SIZE = Size(48, 64)


def noise(seed: int, size: Size = SIZE) -> Tensor:
    return torch.randn(
        (1, 3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def fresh(size: Size = SIZE) -> Preconditioner:
    return Preconditioner(size, torch.float64, torch.device("cpu"), {})


def dot(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum())


def by_wave(picture: Tensor, factors: Tensor) -> Tensor:
    """A curvature that is a number for each axis and shell of waves."""
    spectrum = DCT(Size(*picture.shape[-2:]), picture.dtype)
    return spectrum.picture(spectrum.scale(spectrum.coefficients(picture.clone()), factors))


def steep(size: Size = SIZE, decades: float = 3.0) -> Tensor:
    """Curvatures that rise with every octave, from 1, and differ between the axes."""
    shells = len(DCT(size).bands)
    rise = torch.logspace(0, decades, shells, dtype=torch.float64)
    return rise * torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)


def taught(count: int = 6, size: Size = SIZE) -> tuple[Preconditioner, Tensor, Tensor]:
    """One that has learned pairs of a curvature by wave and by place, and the last of them."""
    learned, place = fresh(size), torch.linspace(0.2, 3, size.width, dtype=torch.float64)
    for seed in range(count):
        step = noise(seed, size)
        change = place * by_wave(place * step, steep(size))
        learned.learn(step, change, dot(step, change))
    return learned, step, change


def taught_by_wave(curvature: Tensor) -> Preconditioner:
    """One that has learned pairs of a curvature by wave alone."""
    learned = fresh()
    for seed in range(5):
        step = noise(seed)
        learned.learn(step, by_wave(step, curvature), dot(step, by_wave(step, curvature)))
    return learned


def test_one_that_knows_nothing_changes_nothing():
    assert torch.equal(fresh()(noise(0)), noise(0))
    assert fresh().memory() == {}


@pytest.mark.parametrize("size", [SIZE, Size(7, 5), Size(1, 9), Size(33, 30)], ids=str)
def test_it_is_symmetric_and_positive_and_fits_the_last_pair(size: Size):
    learned, step, change = taught(size=size)
    one, other = noise(90, size), noise(91, size)
    assert dot(one, learned(other.clone())) == pytest.approx(
        dot(other, learned(one.clone())), rel=1e-9
    )
    assert dot(one, learned(one.clone())) > 0
    assert dot(change, learned(change.clone())) == pytest.approx(dot(step, change), rel=1e-9)


def test_it_finds_the_curvature_of_waves():
    curvature = steep(decades=2)
    learned = taught_by_wave(curvature)
    gains = learned.memory()["gains"].load()
    found = gains * curvature  # the same everywhere, where every gain is what it should be
    assert found.max() < 1.5 * found.min()
    undone = by_wave(learned(noise(50)), curvature)
    assert (undone - noise(50)).norm() < 0.2 * noise(50).norm()  # close to the inverse


def test_it_finds_where_a_picture_is_flat():
    place = torch.ones(SIZE.width, dtype=torch.float64)
    place[: SIZE.width // 2] = 0.1  # a hundredth of the curvature on the left
    learned, few = fresh(), 0.0
    for seed in range(30):
        step = noise(seed)
        learned.learn(step, place * (place * step), dot(step, place * (place * step)))
        if seed == 2:  # of which little is made yet
            few = float(
                learned(torch.ones(1, 3, *SIZE, dtype=torch.float64))[..., 0, 0].abs().max()
            )
    far = learned(torch.ones(1, 3, *SIZE, dtype=torch.float64)).abs().mean((0, 1, 2))
    left, right = far[: SIZE.width // 2 - 8].mean(), far[SIZE.width // 2 + 8 :].mean()
    assert 10 < left / right < POSITION_RANGE**2
    assert left > 2 * few


def test_gains_stay_in_reach_of_the_typical_one():
    """A wave that hardly changes a gradient is not gone along without end."""
    gains = taught_by_wave(steep(decades=12)).memory()["gains"].load()
    assert float(gains.max() / gains.min()) <= FREQUENCY_RANGE**2 * 1.001


def test_what_is_not_there_is_not_learned_from():
    """Grey and flat steps and changes: no energy in most shells."""
    learned = fresh()
    flat = torch.ones(1, 3, *SIZE, dtype=torch.float64)
    learned.learn(flat, 2 * flat, dot(flat, 2 * flat))
    assert torch.allclose(learned(flat.clone()), flat / 2)
    assert learned(noise(3)).isfinite().all()


def test_no_move_is_longer_than_some_levels():
    """Nor is the first longer than a slope can be believed."""
    for loss, longest in (
        (1e9, FIRST_MOVE),
        (1.0, FIRST_DECREASE / float((1000 * noise(1)).norm())),
    ):
        solver = make_solver(Choice(name="lbfgs"), torch.zeros(1, 3, *SIZE, dtype=torch.float64))
        before = torch.zeros_like(solver.pixels)
        for move in range(12):
            solver.move(1000 * (noise(1) + 1e-4 * solver.pixels), loss)
            length = float((solver.pixels - before).square().mean().sqrt())
            if move == 0:
                expected = (
                    longest if longest == FIRST_MOVE else longest / solver.pixels.numel() ** 0.5
                )
                assert length == pytest.approx(expected, rel=1e-6)
            assert length <= LONGEST_MOVE * 1.000001
            before = solver.pixels.clone()
        assert length == pytest.approx(LONGEST_MOVE)  # which it would like to be longer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_search_over_waves_of_unlike_curvature_is_several_times_shorter(dtype: torch.dtype):
    curvature, bottom = steep(), 0.05 * noise(7).to(dtype)

    def searched(preconditioned: bool) -> int:
        choice = Choice(
            name="lbfgs", history=10, preconditioner="learned" if preconditioned else "none"
        )
        solver = make_solver(choice, torch.zeros(1, 3, *SIZE, dtype=dtype))
        first = None
        for move in range(400):
            apart = solver.pixels - bottom
            gradient = by_wave(apart, curvature)
            height = dot(apart, gradient)
            first = first or height
            if height < 1e-6 * first:
                return move
            solver.move(gradient)
        return 400

    assert 4 * searched(True) < searched(False)
