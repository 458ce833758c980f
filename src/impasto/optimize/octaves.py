"""The loss of a picture at several scales: of the picture itself and of reduced copies of it.

A layer sees a few dozen pixels. At half the size it sees forms twice as large. Each scale is a loss
of its own, with its own tiles, so tiles stay exact.

Source: Snelgrove, "High-Resolution Multi-Scale Neural Texture Synthesis" (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Size
from impasto.optimize.tiling import LossValue

Evaluate = Callable[[Tensor], tuple[LossValue, Tensor]]  # pixels -> loss and gradient


def halved(size: Size) -> Size:
    """The size of the next coarser scale: where a filter of five taps fits, every second time."""
    return Size((size.height - 5) // 2 + 1, (size.width - 5) // 2 + 1)


def halve(picture: Tensor) -> Tensor:
    """Reduce a picture (1, C, H, W) to ``halved`` of its size.

    It keeps every second pixel after a filter of five taps, without padding (Burt and Adelson, "The
    Laplacian Pyramid as a Compact Image Code", 1983, with a = 0.4). Averages of 2x2 pixels would
    leave a grid of 2 px in the picture: within each square nothing tells one pixel from another.
    """
    taps = _taps().to(picture)
    filters = torch.outer(taps, taps).expand(picture.shape[1], 1, 5, 5)
    return functional.conv2d(picture, filters, stride=2, groups=picture.shape[1])


@cache
def _taps() -> Tensor:
    return torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05], dtype=torch.float64)


def sum_over_scales(scales: Sequence[Evaluate]) -> Evaluate:
    """Return the sum of the losses of a picture, of the picture at half its size, and so on."""
    first, *coarser = scales

    def evaluate(picture: Tensor) -> tuple[LossValue, Tensor]:
        value, gradient = first(picture)
        pixels = picture.detach().requires_grad_()
        reduced = pixels
        for octave, scale in enumerate(coarser, 1):
            with torch.enable_grad():
                reduced = halve(reduced)
            part, in_reduced = scale(reduced.detach())
            gradient += torch.autograd.grad(reduced, pixels, in_reduced, retain_graph=True)[0]
            value = _sum(value, part, f" at 1/{2**octave}")
        return value, gradient

    return evaluate if coarser else first


def _sum(value: LossValue, other: LossValue, suffix: str) -> LossValue:
    """The sum of two losses; the second one's layers get a suffix."""
    layers = {term: dict(shares) for term, shares in value.layers.items()}
    for term, shares in other.layers.items():
        named = {f"{layer}{suffix}": share for layer, share in shares.items()}
        layers.setdefault(term, {}).update(named)
    terms = dict(value.terms)
    for term, part in other.terms.items():
        terms[term] = terms.get(term, 0.0) + part
    return LossValue(value.total + other.total, terms, layers)
