"""Carry pixels and solver memory from one size to the next, larger one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from impasto.geometry import Size
from impasto.recipe.records import Solver as SolverSettings
from impasto.storage.tensors import InMemoryTensor, StoredTensor


def upscale_pixels(pixels: Tensor, size: Size) -> Tensor:
    """Enlarge a picture (1, 3, h, w) to ``size``, within 0..1."""
    return _resized(pixels, size, "bicubic").clamp(0, 1)


def carried_memory(
    settings: SolverSettings, memory: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """The part of a solver's memory that the next size starts with, at the old size.

    L-BFGS starts anew at each size.
    """
    return dict(memory) if settings.carry and settings.name != "lbfgs" else {}


def upscale_memory(memory: Mapping[str, StoredTensor], size: Size) -> dict[str, StoredTensor]:
    """Enlarge a carried memory to ``size``: Adam's moments (1, 3, h, w), the second kept >= 0.

    Source: K. Crowson's style-transfer-pytorch.
    """
    enlarged = dict(memory)
    if "exp_avg" in memory:
        first = _resized(memory["exp_avg"].load(), size, "bicubic")
        second = _resized(memory["exp_avg_sq"].load(), size, "bilinear").relu_()
        enlarged["exp_avg"] = InMemoryTensor(first)
        enlarged["exp_avg_sq"] = InMemoryTensor(second)
    return enlarged


def _resized(tensor: Tensor, size: Size, mode: str) -> Tensor:
    return functional.interpolate(tensor, size=tuple(size), mode=mode, align_corners=False)
