"""Search methods: a gradient in, better pixels out, one move at a time, with all memory in plain tensors.

It knows Adam, L-BFGS and how to grow a picture between sizes. It refuses to know what the loss is made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from impasto.geometry import Size
from impasto.preconditioner import Preconditioner
from impasto.recipe import Solver as SolverChoice
from impasto.scratch import Held, InMemory, Kept, Scratch

# A curvature pair whose step and change of gradient are this near to a right angle is rounding, not curvature.
_LEAST_CURVATURE = 1e-4

# Root mean square of a preconditioned search's moves, in 8-bit levels: of the first, or less where that promises to take
# away more than such a part of the loss; and of any, since a longer one now and then ends in a valley that is a dead end.
FIRST_MOVE, FIRST_FALL = 1 / 255, 0.01
LONGEST_MOVE = 5 / 255


class Solver(Protocol):
    """A search over pixels (1, 3, H, W) that it owns and changes in place."""

    pixels: Tensor

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        """One move, given gradient and loss at the pixels; the solver may keep and change the gradient's tensor."""
        ...

    def memory(self) -> dict[str, Kept]:
        """Everything that the next move depends on besides the pixels, by name (not copies)."""
        ...


class LBFGS:
    """L-BFGS without line search, one move at a time: torch's, or one that is preconditioned.

    Source: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization" (1989), algorithm 2.1 with the
    two-loop recursion. Without ``preconditioner`` the moves are those of ``torch.optim.LBFGS``, the cautious first one
    included, which changes the pixels by ``rate`` in all, or by less. With it, the recursion does not start from one number
    times the identity but from what the preconditioner has learned of the same pairs.

    Two things differ from torch's in either case. A pair of step and change of gradient is kept where the two point the
    same way by more than rounding, whatever the scale of the loss; torch's threshold is absolute, and too high for a loss
    that is small. And pairs can wait in ``scratch``, out of memory: at 24 megapixels ten of them are 5.8 GB.
    """

    def __init__(
        self,
        pixels: Tensor,
        rate: float,
        history: int,
        memory: Mapping[str, Kept] | None = None,
        scratch: Scratch | None = None,
        preconditioner: Preconditioner | None = None,
    ) -> None:
        self.pixels = pixels
        self._rate, self._history = rate, history
        self._scratch = scratch or InMemory()
        self._preconditioner = preconditioner
        self._pairs: list[tuple[Kept, Kept, float]] = []  # step, change of gradient, 1 / their product
        self._step: Tensor | None = None  # the last move
        self._gradient: Tensor | None = None  # before it
        self._scale = 1.0
        if memory:
            self._recall(memory)

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        step, before = self._step, self._gradient
        self._step = self._gradient = None
        first = step is None
        if step is not None and before is not None:
            self._learn(step, before.neg_().add_(gradient))
        del step, before  # which wait elsewhere now, if the search remembers them
        direction = self._direction(gradient)
        if first:
            direction *= self._first(gradient, loss)
        elif self._preconditioner is not None:
            direction *= min(1.0, LONGEST_MOVE * direction.numel() ** 0.5 / max(float(direction.norm()), 1e-30))
        direction *= self._rate
        self.pixels += direction
        self._step, self._gradient = direction, gradient

    def _first(self, gradient: Tensor, loss: float) -> float:
        """The factor on the very first move, before which no curvature is known."""
        if self._preconditioner is None:
            return min(1.0, 1.0 / max(float(gradient.abs().sum(dtype=torch.float64)), 1e-30))
        steep = max(float(gradient.norm()), 1e-30)
        return min(FIRST_MOVE * gradient.numel() ** 0.5 / steep, FIRST_FALL * max(loss, 0.0) / steep**2)

    def _learn(self, step: Tensor, change: Tensor) -> None:
        """Take in how the gradient changed over the last move; the oldest pair is forgotten."""
        product, steep, long = _dot(step, change), _dot(change, change), _dot(step, step)
        if not product > _LEAST_CURVATURE * (steep * long) ** 0.5:
            return
        if len(self._pairs) == self._history:
            self._pairs.pop(0)
        self._pairs.append((self._scratch.keep(step), self._scratch.keep(change), 1.0 / product))
        self._scale = product / steep
        if self._preconditioner is not None:
            self._preconditioner.learn(step, change, product)

    def _direction(self, gradient: Tensor) -> Tensor:
        """Minus the inverse Hessian, as far as the pairs tell of it, times the gradient."""
        direction = gradient.neg()
        shares: list[float] = []
        for step, change, inverse in reversed(self._pairs):
            shares.append(_dot(step.load(), direction) * inverse)
            direction.add_(change.load(), alpha=-shares[-1])
        if self._preconditioner is None:
            direction *= self._scale
        else:
            direction = self._preconditioner(direction)
        for (step, change, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            direction.add_(step.load(), alpha=share - _dot(change.load(), direction) * inverse)
        return direction

    def memory(self) -> dict[str, Kept]:
        inverses = [inverse for _, _, inverse in self._pairs]
        memory: dict[str, Kept] = {"curvature": Held(torch.tensor([self._scale, *inverses], dtype=torch.float64))}
        if self._step is not None and self._gradient is not None:
            memory |= {"step": Held(self._step), "gradient": Held(self._gradient)}
        for index, (step, change, _) in enumerate(self._pairs):
            memory |= {f"steps.{index}": step, f"changes.{index}": change}
        return memory | (self._preconditioner.memory() if self._preconditioner else {})

    def _recall(self, memory: Mapping[str, Kept]) -> None:
        self._scale, *inverses = memory["curvature"].load().tolist()
        if "step" in memory:
            self._step, self._gradient = memory["step"].load(), memory["gradient"].load().clone()
        for index, inverse in enumerate(inverses):
            step, change = (self._scratch.keep(memory[f"{name}.{index}"].load()) for name in ("steps", "changes"))
            self._pairs.append((step, change, inverse))


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.view(-1), other.view(-1)))


class Adam:
    """torch's Adam, with the pixels kept within 0..1 after each move.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2014); betas 0.9 and 0.99 as K. Crowson has them.
    """

    def __init__(self, pixels: Tensor, rate: float, memory: Mapping[str, Kept] | None = None) -> None:
        self.pixels = pixels
        self._optimiser = torch.optim.Adam([pixels], lr=rate, betas=(0.9, 0.99))
        if memory:
            self._optimiser.state[pixels].update({name: kept.load().clone() for name, kept in memory.items()})

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        self.pixels.grad = gradient
        self._optimiser.step()
        self.pixels.grad = None
        self.pixels.clamp_(0, 1)

    def memory(self) -> dict[str, Kept]:
        return {name: Held(tensor) for name, tensor in self._optimiser.state[self.pixels].items()}


def make(
    choice: SolverChoice,
    pixels: Tensor,
    memory: Mapping[str, Kept] | None = None,
    *,
    caution: float = 1.0,
    scratch: Scratch | None = None,
) -> Solver:
    """The solver that a recipe chose, over these pixels, going on from ``memory`` if there is one.

    ``caution`` is a factor on the rate; ``scratch`` is where a long memory waits.
    """
    if choice.name == "adam":
        return Adam(pixels, choice.rate * caution, memory)
    size = Size(*pixels.shape[-2:])
    gains = Preconditioner(size, pixels.dtype, pixels.device, memory or {}) if choice.preconditioner == "learned" else None
    return LBFGS(pixels, choice.rate * caution, choice.history, memory, scratch, gains)


def grow(pixels: Tensor, size: Size) -> Tensor:
    """The picture (1, 3, h, w) enlarged to ``size`` for the next stage, within 0..1."""
    grown = torch.nn.functional.interpolate(pixels, size=tuple(size), mode="bicubic", align_corners=False)
    return grown.clamp(0, 1)
