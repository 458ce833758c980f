"""Waves are an orthonormal basis, their shells are whole octaves, and each wave lies in one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from impasto.geometry import Size
from impasto.optimize.dct import DCT

SIZES = [Size(1, 1), Size(1, 9), Size(5, 7), Size(32, 32), Size(33, 64)]
sides = st.integers(1, 40)


def noise(size: Size, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(
        (1, 3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def spectrum(size: Size) -> DCT:
    return DCT(size, torch.float64)


@given(sides, sides, st.integers(0, 99))
def test_there_and_back_and_dot_products_stay(height: int, width: int, seed: int):
    size = Size(height, width)
    one, other = noise(size, seed), noise(size, seed + 1)
    basis = spectrum(size)
    kept = one.clone()
    waves = basis.coefficients(one.clone())
    assert torch.equal(one, kept)  # the picture is not written to
    assert torch.allclose(basis.picture(waves.clone()), one)
    assert float((waves * basis.coefficients(other.clone())).sum()) == pytest.approx(
        float((one * other).sum()), abs=1e-9
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_waves_are_cosines(size: Size):
    """By the textbook sum over all positions."""
    picture = noise(size)
    found = spectrum(size).coefficients(picture.clone())
    light = picture[0].sum(0) / math.sqrt(3)
    for down, across in {(0, 0), (size.height - 1, 0), (size.height // 2, size.width // 3)}:
        rows = torch.cos(
            math.pi / size.height * down * (torch.arange(size.height, dtype=torch.float64) + 0.5)
        )
        columns = torch.cos(
            math.pi / size.width * across * (torch.arange(size.width, dtype=torch.float64) + 0.5)
        )
        wave = torch.outer(rows, columns)
        assert float(found[0, 0, down, across]) == pytest.approx(
            float((light * wave).sum() / wave.norm()), abs=1e-9
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_of_matrices_give_the_same_waves(size: Size):
    """What a device other than the CPU does."""
    basis, picture = spectrum(size), noise(size)
    down, across = basis._matrices
    turned = torch.einsum("ac,bchw->bahw", basis._axes, picture)
    assert torch.allclose(down @ turned @ across.T, basis.coefficients(picture.clone()))


def test_grey_has_no_colour_and_flat_has_no_shape():
    basis = spectrum(Size(12, 20))
    grey = basis.energies(
        basis.coefficients(noise(Size(12, 20))[:, :1].expand(1, 3, 12, 20).clone())
    )
    assert grey[0].min() > 0 and grey[1:].max() < 1e-20
    flat = basis.energies(basis.coefficients(noise(Size(1, 1)).expand(1, 3, 12, 20).clone()))
    assert flat[:, 0].min() > 0 and flat[:, 1:].max() < 1e-20


@given(sides, sides)
def test_each_wave_lies_in_one_shell(height: int, width: int):
    size = Size(height, width)
    basis, waves = spectrum(size), noise(Size(height, width))
    count = torch.zeros_like(waves)
    for shell in basis.bands:
        for part in shell:
            count[part] += 1
    assert torch.equal(count, torch.ones_like(count))
    assert torch.allclose(basis.energies(waves).sum(1), waves.square().sum((0, 2, 3)))


def test_shells_are_octaves():
    """A period of 3 pixels lies in the last band, of 5 in the one before, of 64 near the first."""
    size = Size(96, 128)
    place = torch.arange(size.width, dtype=torch.float64)
    for length, back in ((3, 1), (5, 2), (10, 3), (64, 5)):
        stripes = torch.cos(2 * math.pi / length * (place + 0.5)).expand(1, 3, *size)
        for picture, basis in (
            (stripes, spectrum(size)),
            (stripes.mT, spectrum(Size(size.width, size.height))),
        ):
            energies = basis.energies(basis.coefficients(picture.contiguous()))
            assert int(energies[0].argmax()) == len(basis.bands) - back, length
            assert energies[0].max() > 0.9 * energies[0].sum()


def test_factors_are_by_axis_and_shell():
    basis = spectrum(Size(24, 17))
    waves = noise(Size(24, 17))
    factors = (
        torch.rand(
            3, len(basis.bands), dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        + 0.5
    )
    before = basis.energies(waves)
    found = basis.scale(waves, factors)
    assert found is waves  # in place
    assert torch.allclose(basis.energies(found), before * factors.square())


def test_single_precision_stays_single():
    basis = DCT(Size(30, 21))
    waves = basis.coefficients(noise(Size(30, 21), dtype=torch.float32))
    assert waves.dtype == torch.float32 and basis.picture(waves.clone()).dtype == torch.float32
    assert basis.energies(waves).dtype == torch.float64
