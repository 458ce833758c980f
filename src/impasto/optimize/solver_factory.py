"""Make the solver that a recipe chooses."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from impasto.geometry import Size
from impasto.optimize.first_order import SGD, Adam, clamps
from impasto.optimize.lbfgs import LBFGS, LineSearchLBFGS
from impasto.optimize.preconditioner import Preconditioner
from impasto.optimize.solver import Solver
from impasto.recipe.records import Solver as SolverSettings
from impasto.storage.tensors import StoredTensor, TensorStore


def make_solver(
    settings: SolverSettings,
    pixels: Tensor,
    memory: Mapping[str, StoredTensor] | None = None,
    *,
    step_scale: float = 1.0,
    store: TensorStore | None = None,
) -> Solver:
    """Make the solver of a recipe, starting at ``pixels`` (1, 3, H, W).

    ``memory`` is what ``Solver.memory`` returned at this iterate. ``step_scale`` is a factor on
    the step length. ``store`` is where L-BFGS stores its history.
    """
    if settings.name != "lbfgs":
        return {"adam": Adam, "sgd": SGD}[settings.name](pixels, settings, step_scale, memory)
    preconditioner = None
    if settings.preconditioner == "learned":
        size = Size(*pixels.shape[-2:])
        preconditioner = Preconditioner(size, pixels.dtype, pixels.device, memory or {})
    rate = settings.rate * step_scale
    shared = (pixels, rate, settings.history, settings.pixel_range, memory, store, preconditioner)
    return (
        LineSearchLBFGS(*shared) if settings.uses_line_search else LBFGS(*shared, clamps(settings))
    )
