"""The DCT is orthonormal, and its coefficients are divided into octave bands."""

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


def dct_of(size: Size) -> DCT:
    return DCT(size, torch.float64)


@given(sides, sides, st.integers(0, 99))
def test_the_inverse_restores_the_picture_and_dot_products_are_kept(
    height: int, width: int, seed: int
):
    size = Size(height, width)
    one, other = noise(size, seed), noise(size, seed + 1)
    dct = dct_of(size)
    copy = one.clone()
    coefficients = dct.coefficients(one.clone())
    assert torch.equal(one, copy)  # the picture is not written to
    assert torch.allclose(dct.picture(coefficients.clone()), one)
    assert float((coefficients * dct.coefficients(other.clone())).sum()) == pytest.approx(
        float((one * other).sum()), abs=1e-9
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_coefficients_are_those_of_the_textbook_sum(size: Size):
    picture = noise(size)
    coefficients = dct_of(size).coefficients(picture.clone())
    light = picture[0].sum(0) / math.sqrt(3)
    for down, across in {(0, 0), (size.height - 1, 0), (size.height // 2, size.width // 3)}:
        rows = torch.cos(
            math.pi / size.height * down * (torch.arange(size.height, dtype=torch.float64) + 0.5)
        )
        columns = torch.cos(
            math.pi / size.width * across * (torch.arange(size.width, dtype=torch.float64) + 0.5)
        )
        wave = torch.outer(rows, columns)
        assert float(coefficients[0, 0, down, across]) == pytest.approx(
            float((light * wave).sum() / wave.norm()), abs=1e-9
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matrix_products_give_the_same_coefficients(size: Size):
    """Devices other than the CPU use matrix products."""
    dct, picture = dct_of(size), noise(size)
    down, across = dct._matrices
    mixed = torch.einsum("ac,bchw->bahw", dct._axes, picture)
    assert torch.allclose(down @ mixed @ across.T, dct.coefficients(picture.clone()))


def test_grey_has_no_colour_energy_and_flat_only_the_first_band():
    dct = dct_of(Size(12, 20))
    grey = dct.energies(dct.coefficients(noise(Size(12, 20))[:, :1].expand(1, 3, 12, 20).clone()))
    assert grey[0].min() > 0 and grey[1:].max() < 1e-20
    flat = dct.energies(dct.coefficients(noise(Size(1, 1)).expand(1, 3, 12, 20).clone()))
    assert flat[:, 0].min() > 0 and flat[:, 1:].max() < 1e-20


@given(sides, sides)
def test_each_coefficient_lies_in_one_band(height: int, width: int):
    size = Size(height, width)
    dct, coefficients = dct_of(size), noise(Size(height, width))
    count = torch.zeros_like(coefficients)
    for band in dct.bands:
        for part in band:
            count[part] += 1
    assert torch.equal(count, torch.ones_like(count))
    assert torch.allclose(dct.energies(coefficients).sum(1), coefficients.square().sum((0, 2, 3)))


def test_bands_are_octaves():
    """A period of 3 pixels lies in the last band, of 5 in the one before, of 64 near the first."""
    size = Size(96, 128)
    position = torch.arange(size.width, dtype=torch.float64)
    for length, back in ((3, 1), (5, 2), (10, 3), (64, 5)):
        stripes = torch.cos(2 * math.pi / length * (position + 0.5)).expand(1, 3, *size)
        for picture, dct in (
            (stripes, dct_of(size)),
            (stripes.mT, dct_of(Size(size.width, size.height))),
        ):
            energies = dct.energies(dct.coefficients(picture.contiguous()))
            assert int(energies[0].argmax()) == len(dct.bands) - back, length
            assert energies[0].max() > 0.9 * energies[0].sum()


def test_factors_are_per_axis_and_band():
    dct = dct_of(Size(24, 17))
    coefficients = noise(Size(24, 17))
    factors = (
        torch.rand(
            3, len(dct.bands), dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        + 0.5
    )
    before = dct.energies(coefficients)
    scaled = dct.scale(coefficients, factors)
    assert scaled is coefficients  # in place
    assert torch.allclose(dct.energies(scaled), before * factors.square())


def test_float32_stays_float32():
    dct = DCT(Size(30, 21))
    coefficients = dct.coefficients(noise(Size(30, 21), dtype=torch.float32))
    assert (
        coefficients.dtype == torch.float32
        and dct.picture(coefficients.clone()).dtype == torch.float32
    )
    assert dct.energies(coefficients).dtype == torch.float64
