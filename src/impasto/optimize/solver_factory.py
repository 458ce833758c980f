"""Make the solver that a recipe chooses."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from impasto.geometry import Size
from impasto.optimize.first_order import SGD, Adam, _clamps
from impasto.optimize.lbfgs import LBFGS, LineSearchLBFGS
from impasto.optimize.preconditioner import Preconditioner
from impasto.optimize.solver import Solver
from impasto.recipe.records import Solver as SolverChoice
from impasto.storage.tensors import StoredTensor, TensorStore


def make(
    choice: SolverChoice,
    pixels: Tensor,
    memory: Mapping[str, StoredTensor] | None = None,
    *,
    step_scale: float = 1.0,
    scratch: TensorStore | None = None,
) -> Solver:
    """The solver that a recipe chose, going on from these pixels, an iterate, and ``memory`` if
    there is one.

    ``step_scale`` is a factor on the rate; ``scratch`` is where a long memory waits.
    """
    if choice.name != "lbfgs":
        return {"adam": Adam, "sgd": SGD}[choice.name](pixels, choice, step_scale, memory)
    size = Size(*pixels.shape[-2:])
    gains = (
        Preconditioner(size, pixels.dtype, pixels.device, memory or {})
        if choice.preconditioner == "learned"
        else None
    )
    length = choice.rate * step_scale
    if choice.uses_line_search:
        return LineSearchLBFGS(
            pixels, length, choice.history, choice.pixel_range, memory, scratch, gains
        )
    return LBFGS(
        pixels, length, choice.history, choice.pixel_range, memory, scratch, gains, _clamps(choice)
    )
