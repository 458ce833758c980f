"""Carry pixels and solver memory from one size to the next, larger one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.geometry import Size
from impasto.recipe.records import Solver as SolverChoice
from impasto.storage.tensors import InMemoryTensor, StoredTensor


def grow(pixels: Tensor, size: Size) -> Tensor:
    """The picture (1, 3, h, w) enlarged to ``size`` for the next stage, within 0..1."""
    return _enlarged(pixels, size, "bicubic").clamp(0, 1)


def carried(choice: SolverChoice, memory: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """What of a memory the next size is begun with: L-BFGS's is one of this size alone."""
    return dict(memory) if choice.carry and choice.name != "lbfgs" else {}


def grow_memory(memory: Mapping[str, StoredTensor], size: Size) -> dict[str, StoredTensor]:
    """A memory that is carried, enlarged to ``size``: moments (1, 3, h, w), of which the second
    stays above 0.

    Source: K. Crowson's style-transfer-pytorch, which warms Adam up for the next size in this way.
    """
    grown = dict(memory)
    if "exp_avg" in memory:
        grown["exp_avg"] = InMemoryTensor(_enlarged(memory["exp_avg"].load(), size, "bicubic"))
        grown["exp_avg_sq"] = InMemoryTensor(
            _enlarged(memory["exp_avg_sq"].load(), size, "bilinear").relu_()
        )
    return grown


def _enlarged(tensor: Tensor, size: Size, mode: str) -> Tensor:
    return torch.nn.functional.interpolate(tensor, size=tuple(size), mode=mode, align_corners=False)
