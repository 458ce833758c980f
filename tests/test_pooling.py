"""Maxima and their gradient are torch's own, to the bit, whatever the layout, the size and the
ties.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from impasto.networks import pooling

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@pytest.mark.parametrize("size", [(2, 2), (2, 7), (9, 4), (5, 5), (30, 26)], ids=str)
# Few levels: most squares hold their maximum more than once.
@pytest.mark.parametrize("levels", [1, 2, 3, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compact", [False, True])
def test_maxima_and_gradient_are_torchs(
    compact: bool, layout: str, dtype: torch.dtype, levels: int, size: tuple[int, int]
):
    generator = torch.Generator().manual_seed(levels)
    form = LAYOUTS[layout]
    x = (
        (torch.randint(0, levels, (1, 3, *size), generator=generator) - levels / 2)
        .to(dtype)
        .contiguous(memory_format=form)
    )
    kept = x.clone()
    leaf = x.clone().requires_grad_()
    expected = functional.max_pool2d(leaf, 2)
    g = torch.rand(expected.shape, generator=generator).to(dtype).contiguous(memory_format=form)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, g)

    found, which = pooling.max_pool(x, compact=compact)
    assert which is not None and torch.equal(found, expected)
    assert which.dtype == (torch.uint8 if compact or layout == "contiguous" else torch.int64)
    found_gradient = pooling.gradient(g, which, x.shape, form)
    assert torch.equal(found_gradient, expected_gradient)
    assert found.is_contiguous(memory_format=form) and found_gradient.is_contiguous(
        memory_format=form
    )
    assert torch.equal(x, kept)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", range(4))
def test_every_place_of_a_square_is_found(place: int, layout: str):
    x = torch.zeros(1, 2, 2, 2).contiguous(memory_format=LAYOUTS[layout])
    x[0, :, place // 2, place % 2] = 1
    _, which = pooling.max_pool(x, compact=True)
    assert which is not None
    assert torch.equal(pooling.gradient(torch.ones(1, 2, 1, 1), which, x.shape, LAYOUTS[layout]), x)


def test_without_a_backward_pass_no_positions_are_kept():
    x = torch.rand(1, 2, 6, 8)
    found, which = pooling.max_pool(x, keep=False)
    assert which is None and torch.equal(found, functional.max_pool2d(x, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_byte_a_square_is_kept(layout: str):
    _, which = pooling.max_pool(
        torch.rand(1, 2, 6, 8).contiguous(memory_format=LAYOUTS[layout]), compact=True
    )
    assert which is not None and which.dtype == torch.uint8 and which.numel() == 2 * 3 * 4


def test_no_number_stays_no_number():
    x = torch.tensor([[1.0, float("nan")], [2.0, 0.0]]).reshape(1, 1, 2, 2)
    assert pooling.max_pool(x)[0].isnan().all()
