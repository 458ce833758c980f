"""The Wasserstein distance of the Gaussians with given means and covariances.

Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions" (1982).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from impasto.objectives.moments import RANK_TOLERANCE, Moments
from impasto.objectives.symmetric_eigen import eigh


def squared_wasserstein(current: Moments, target: Moments) -> Tensor:
    """The squared Wasserstein-2 distance of two Gaussians (0-d).

    |m - n|^2 + tr B + tr A - 2 tr (A^1/2 B A^1/2)^1/2, with mean m and covariance B of
    ``current``, and mean n and covariance A of ``target``.
    """
    means = (current.mean - target.mean).square().sum()
    traces = current.covariance.diagonal().sum() + target.covariance.diagonal().sum()
    return means + traces - 2 * _RootFidelity.apply(current.covariance, target.covariance_factor)


class _RootFidelity(torch.autograd.Function):
    """tr (A^1/2 B A^1/2)^1/2 for covariances B (C, C) and A = R R^T with R (C, r).

    The gradient in B has a closed form. R^T B R has the nonzero eigenvalues of A^1/2 B A^1/2.
    """

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, factor: Tensor) -> Tensor:
        product = factor.T @ covariance @ factor  # (r, r)
        if product.isfinite().all():
            values, vectors = eigh(product)
        else:  # the loss becomes NaN; eigh would raise an error
            values, vectors = torch.full_like(product[0], torch.nan), product
        # Eigenvalues below the rounding of float32 sums count as 0, also in the gradient. They
        # come in rising order. A flat target has none.
        largest = values[-1:].clamp_min(0)
        values = torch.where(values <= largest * RANK_TOLERANCE, torch.zeros_like(values), values)
        ctx.save_for_backward(factor, values, vectors)
        return values.sqrt().sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        factor, values, vectors = ctx.saved_tensors
        inverse = torch.where(values > 0, values.rsqrt(), values)
        side = factor @ vectors  # (C, r)
        return gradient * 0.5 * (side * inverse) @ side.T, None
