"""L-BFGS over pixels, with and without a line search."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.optimize.line_search import LineSearch
from impasto.optimize.preconditioner import Preconditioner
from impasto.optimize.solver import Solver
from impasto.storage.tensors import InMemoryTensor, MemoryStore, StoredTensor, TensorStore

# A curvature pair whose step and change of gradient are this near to a right angle is rounding, not
# curvature.
_LEAST_CURVATURE = 1e-4

# Root mean square of a preconditioned search's moves, in 8-bit levels: of the first, or less where
# that promises to take away more than such a part of the loss; and of any, since a longer one now
# and then ends in a valley that is a dead end.
FIRST_MOVE, FIRST_FALL = 1 / 255, 0.01
LONGEST_MOVE = 5 / 255

# A line search does not look into a bracket in which no pixel changes by more than that; torch's
# number.
_LEAST_CHANGE = 1e-9


class LBFGS(Solver):
    """L-BFGS without line search, one move at a time: torch's, or one that is preconditioned.

    Source: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization"
    (1989), algorithm 2.1 with the two-loop recursion. Without ``preconditioner`` the moves are
    those of ``torch.optim.LBFGS`` over pixels of 0 to ``pixel_range``, the cautious first one
    included, which changes them by ``rate`` in all, or less. Until a curvature is known a move is
    as long as the gradient, which means another move in every range. With the preconditioner, the
    recursion does not start from one number times the identity but from what has been learned of
    the same pairs.

    With ``clamp`` the pixels are kept within 0..1, and a step is what of a move was made.

    Two things differ from torch's in either case. A pair of step and change of gradient is kept
    where the two point the same way by more than rounding, whatever the scale of the loss; torch's
    threshold is absolute, and too high for a loss that is small. And pairs can wait in ``scratch``,
    out of memory: at 24 megapixels ten of them are 5.8 GB.
    """

    def __init__(
        self,
        pixels: Tensor,
        rate: float,
        history: int,
        pixel_range: float,
        memory: Mapping[str, StoredTensor] | None = None,
        scratch: TensorStore | None = None,
        preconditioner: Preconditioner | None = None,
        clamp: bool = False,
    ) -> None:
        self.pixels = pixels
        self._rate, self._history, self._clamp, self._range = rate, history, clamp, pixel_range
        self._scratch = scratch or MemoryStore()
        self._preconditioner = preconditioner
        # Step, change of gradient, 1 / their product.
        self._pairs: list[tuple[StoredTensor, StoredTensor, float]] = []
        self._step: Tensor | None = None  # the last move
        self._gradient: Tensor | None = None  # before it
        self._scale = pixel_range**-2
        if memory:
            self._recall(memory)

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        last, before = self._step, self._gradient
        self._step = self._gradient = None
        first = last is None
        if last is not None and before is not None:
            self._learn(last, before.neg_().add_(gradient))
        del last, before  # which wait elsewhere now, if the search remembers them
        step = self._bounded(self._direction(gradient), gradient, loss, first=first)
        step *= self._rate
        if self._clamp:
            step += self.pixels
            step.clamp_(0, 1).sub_(self.pixels)
        self.pixels += step
        if self._clamp:
            self.pixels.clamp_(0, 1)  # against rounding
        self._step, self._gradient = step, gradient

    def _bounded(self, direction: Tensor, gradient: Tensor, loss: float, *, first: bool) -> Tensor:
        """The direction, spent, made a move that is not too long."""
        if first:
            direction *= self._first(gradient, loss)
        elif self._preconditioner is not None:
            direction *= min(1.0, _longest(direction))
        return direction

    def _first(self, gradient: Tensor, loss: float) -> float:
        """The factor on the very first move, before which no curvature is known."""
        if self._preconditioner is None:
            return min(
                1.0, self._range / max(float(gradient.abs().sum(dtype=torch.float64)), 1e-30)
            )
        steep = max(float(gradient.norm()), 1e-30)
        return min(
            FIRST_MOVE * gradient.numel() ** 0.5 / steep, FIRST_FALL * max(loss, 0.0) / steep**2
        )

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

    def memory(self) -> dict[str, StoredTensor]:
        inverses = [inverse for _, _, inverse in self._pairs]
        memory: dict[str, StoredTensor] = {
            "curvature": InMemoryTensor(torch.tensor([self._scale, *inverses], dtype=torch.float64))
        }
        if self._step is not None and self._gradient is not None:
            memory |= {
                "step": InMemoryTensor(self._step),
                "gradient": InMemoryTensor(self._gradient),
            }
        for index, (step, change, _) in enumerate(self._pairs):
            memory |= {f"steps.{index}": step, f"changes.{index}": change}
        return memory | (self._preconditioner.memory() if self._preconditioner else {})

    def _recall(self, memory: Mapping[str, StoredTensor]) -> None:
        self._scale, *inverses = memory["curvature"].load().tolist()
        if "step" in memory:
            self._step, self._gradient = memory["step"].load(), memory["gradient"].load().clone()
        for index, inverse in enumerate(inverses):
            step, change = (
                self._scratch.keep(memory[f"{name}.{index}"].load())
                for name in ("steps", "changes")
            )
            self._pairs.append((step, change, inverse))


class LineSearchLBFGS(LBFGS):
    """L-BFGS whose every step meets the strong Wolfe conditions: torch's with
    ``line_search_fn="strong_wolfe"``.

    A look is a move. The pixels are where the loss is wanted next, often a mere try; ``iterate`` is
    the last step that was accepted. With the preconditioner a step may be lengthened up to the
    longest move. A search that finds nothing lower has met with rounding, or with pairs that
    mislead it: everything is forgotten, and the iterate looked at again.

    Two things differ from torch's. No look is nearer to an end of a bracket than a tenth of it. And
    where no look meets the conditions, the lowest that fell enough is gone back to at one look
    more, so that its gradient need not be kept.
    """

    def __init__(
        self,
        pixels: Tensor,
        rate: float,
        history: int,
        pixel_range: float,
        memory: Mapping[str, StoredTensor] | None = None,
        scratch: TensorStore | None = None,
        preconditioner: Preconditioner | None = None,
    ) -> None:
        self._iterate = pixels
        # Along the step, which is as long as the first look is far.
        self._search: LineSearch | None = None
        super().__init__(
            pixels.clone(), rate, history, pixel_range, memory, scratch, preconditioner
        )

    @property
    def iterate(self) -> Tensor:
        return self._iterate

    def accepts(self, gradient: Tensor, loss: float) -> bool:
        return self._search is None or self._seen(gradient, loss).found

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        if self._search is not None and self._step is not None and self._gradient is not None:
            self._search = self._seen(gradient, loss)
            if self._search.failed:
                self._forget()
                return
            if not self._search.found:
                self._look()
                return
            self._iterate.copy_(self.pixels)
            self._learn(
                self._step.mul_(self._search.distance), self._gradient.neg_().add_(gradient)
            )
        self._set_out(gradient, loss)

    def _set_out(self, gradient: Tensor, loss: float) -> None:
        """Begin a search from the iterate, of which gradient and loss are given."""
        step = self._bounded(self._direction(gradient), gradient, loss, first=self._step is None)
        slope = _dot(gradient, step)
        if not slope < 0:  # a gradient of nought, or rounding
            self._forget()
            return
        longest = math.inf if self._preconditioner is None else _longest(step)
        least = _LEAST_CHANGE / max(float(step.norm(math.inf)), 1e-30)
        self._search = LineSearch.along(loss, slope, self._rate, longest, least)
        self._step, self._gradient = step, gradient
        self._look()

    def _seen(self, gradient: Tensor, loss: float) -> LineSearch:
        assert self._search is not None and self._step is not None
        return self._search.after(loss, _dot(gradient, self._step))

    def _look(self) -> None:
        """Put the pixels where the search wants to look."""
        assert self._search is not None and self._step is not None
        torch.add(self._iterate, self._step, alpha=self._search.distance, out=self.pixels)

    def _forget(self) -> None:
        self._pairs, self._scale = [], self._range**-2
        self._step = self._gradient = self._search = None
        if self._preconditioner is not None:
            self._preconditioner.forget()
        self.pixels.copy_(self._iterate)

    def memory(self) -> dict[str, StoredTensor]:
        if self._search is None:
            return super().memory()
        return super().memory() | {
            "search": InMemoryTensor(torch.tensor(self._search.numbers(), dtype=torch.float64))
        }

    def _recall(self, memory: Mapping[str, StoredTensor]) -> None:
        super()._recall(memory)
        if "search" in memory and self._step is not None:
            self._search = LineSearch.of(memory["search"].load().tolist())
            self._step = self._step.clone()  # which is shortened in its place
            self._look()


def _longest(move: Tensor) -> float:
    """How many times a move the longest of a preconditioned search is."""
    return LONGEST_MOVE * move.numel() ** 0.5 / max(float(move.norm()), 1e-30)


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.view(-1), other.view(-1)))
