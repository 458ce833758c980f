"""The preconditioner is symmetric and positive, fits the last pair, and learns the curvature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from impasto.geometry import Size
from impasto.optimize.dct import DCT
from impasto.optimize.lbfgs import FIRST_DECREASE, FIRST_MOVE, LONGEST_MOVE
from impasto.optimize.preconditioner import FREQUENCY_RANGE, POSITION_RANGE, Preconditioner
from impasto.optimize.solver_factory import make_solver
from impasto.recipe.records import Solver as SolverSettings

SIZE = Size(48, 64)


def noise(seed: int, size: Size = SIZE) -> Tensor:
    return torch.randn(
        (1, 3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def fresh(size: Size = SIZE) -> Preconditioner:
    return Preconditioner(size, torch.float64, torch.device("cpu"), {})


def dot(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum())


def scale_bands(picture: Tensor, factors: Tensor) -> Tensor:
    """The picture with each colour axis and octave band multiplied by a factor."""
    dct = DCT(Size(*picture.shape[-2:]), picture.dtype)
    return dct.picture(dct.scale(dct.coefficients(picture.clone()), factors))


def band_curvatures(size: Size = SIZE, decades: float = 3.0) -> Tensor:
    """Curvatures that rise with every octave, from 1, and differ between the axes."""
    bands = len(DCT(size).bands)
    rise = torch.logspace(0, decades, bands, dtype=torch.float64)
    return rise * torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)


def trained(count: int = 6, size: Size = SIZE) -> tuple[Preconditioner, Tensor, Tensor]:
    """A preconditioner with pairs of a curvature per band and position, and the last pair."""
    learned, amplitudes = fresh(size), torch.linspace(0.2, 3, size.width, dtype=torch.float64)
    for seed in range(count):
        step = noise(seed, size)
        change = amplitudes * scale_bands(amplitudes * step, band_curvatures(size))
        learned.learn(step, change, dot(step, change))
    return learned, step, change


def trained_on_bands(curvature: Tensor) -> Preconditioner:
    """A preconditioner with pairs of a curvature per band only."""
    learned = fresh()
    for seed in range(5):
        step = noise(seed)
        learned.learn(step, scale_bands(step, curvature), dot(step, scale_bands(step, curvature)))
    return learned


def test_without_pairs_it_is_the_identity():
    assert torch.equal(fresh()(noise(0)), noise(0))
    assert fresh().memory() == {}


@pytest.mark.parametrize("size", [SIZE, Size(7, 5), Size(1, 9), Size(33, 30)], ids=str)
def test_it_is_symmetric_and_positive_and_fits_the_last_pair(size: Size):
    learned, step, change = trained(size=size)
    one, other = noise(90, size), noise(91, size)
    assert dot(one, learned(other.clone())) == pytest.approx(
        dot(other, learned(one.clone())), rel=1e-9
    )
    assert dot(one, learned(one.clone())) > 0
    assert dot(change, learned(change.clone())) == pytest.approx(dot(step, change), rel=1e-9)


def test_it_learns_the_curvature_of_the_bands():
    curvature = band_curvatures(decades=2)
    learned = trained_on_bands(curvature)
    scaling = learned.memory()["scaling"].load()
    product = scaling * curvature  # constant if the scaling is the inverse curvature
    assert product.max() < 1.5 * product.min()
    restored = scale_bands(learned(noise(50)), curvature)
    assert (restored - noise(50)).norm() < 0.2 * noise(50).norm()  # close to the inverse


def test_it_learns_where_the_curvature_is_small():
    amplitudes = torch.ones(SIZE.width, dtype=torch.float64)
    amplitudes[: SIZE.width // 2] = 0.1  # a hundredth of the curvature on the left
    learned, few = fresh(), 0.0
    for seed in range(30):
        step = noise(seed)
        learned.learn(
            step, amplitudes * (amplitudes * step), dot(step, amplitudes * (amplitudes * step))
        )
        if seed == 2:  # a few pairs have little effect
            few = float(
                learned(torch.ones(1, 3, *SIZE, dtype=torch.float64))[..., 0, 0].abs().max()
            )
    moves = learned(torch.ones(1, 3, *SIZE, dtype=torch.float64)).abs().mean((0, 1, 2))
    left, right = moves[: SIZE.width // 2 - 8].mean(), moves[SIZE.width // 2 + 8 :].mean()
    assert 10 < left / right < POSITION_RANGE**2
    assert left > 2 * few


def test_the_scaling_stays_within_a_range_of_the_typical_one():
    """A band that hardly changes a gradient does not get an unlimited scaling."""
    scaling = trained_on_bands(band_curvatures(decades=12)).memory()["scaling"].load()
    assert float(scaling.max() / scaling.min()) <= FREQUENCY_RANGE**2 * 1.001


def test_bands_without_energy_teach_nothing():
    """Grey and flat steps and changes have no energy in most bands."""
    learned = fresh()
    flat = torch.ones(1, 3, *SIZE, dtype=torch.float64)
    learned.learn(flat, 2 * flat, dot(flat, 2 * flat))
    assert torch.allclose(learned(flat.clone()), flat / 2)
    assert learned(noise(3)).isfinite().all()


def test_no_move_is_longer_than_the_longest_move():
    """The first is not longer than the slope justifies, either."""
    for loss, longest in (
        (1e9, FIRST_MOVE),
        (1.0, FIRST_DECREASE / float((1000 * noise(1)).norm())),
    ):
        solver = make_solver(
            SolverSettings(name="lbfgs"), torch.zeros(1, 3, *SIZE, dtype=torch.float64)
        )
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
        assert length == pytest.approx(LONGEST_MOVE)  # the longest is reached


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_search_over_bands_of_different_curvature_is_several_times_shorter(dtype: torch.dtype):
    curvature, bottom = band_curvatures(), 0.05 * noise(7).to(dtype)

    def searched(preconditioned: bool) -> int:
        settings = SolverSettings(
            name="lbfgs", history=10, preconditioner="learned" if preconditioned else "none"
        )
        solver = make_solver(settings, torch.zeros(1, 3, *SIZE, dtype=dtype))
        first = None
        for move in range(400):
            difference = solver.pixels - bottom
            gradient = scale_bands(difference, curvature)
            loss = dot(difference, gradient)
            first = first or loss
            if loss < 1e-6 * first:
                return move
            solver.move(gradient)
        return 400

    assert 4 * searched(True) < searched(False)
