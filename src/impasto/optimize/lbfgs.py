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

# A pair whose step and change of gradient are this close to a right angle is rounding.
_LEAST_CURVATURE = 1e-4

# Root mean square of the preconditioned first move: one 8-bit level, or less where that promises
# to reduce the loss by more than a hundredth.
FIRST_MOVE, FIRST_DECREASE = 1 / 255, 0.01
# Root mean square of the longest preconditioned move. A longer one sometimes ends in a bad minimum.
LONGEST_MOVE = 5 / 255

# A line search does not divide a bracket in which no pixel changes by more than torch's value.
_LEAST_CHANGE = 1e-9


class LBFGS(Solver):
    """L-BFGS without line search, one move at a time: torch's, or preconditioned.

    Source: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization"
    (1989), algorithm 2.1 with the two-loop recursion. Without ``preconditioner`` the moves are
    those of ``torch.optim.LBFGS`` over pixels of 0..``pixel_range``. Its first move changes the
    pixels by ``rate`` in all at most: until a curvature is known, a move is as long as the
    gradient, which depends on the range. With the preconditioner, the recursion starts from a
    scaling that is learned from the same pairs, instead of one number times the identity. With
    ``clamp`` the pixels stay within 0..1, and a step is the part of a move that was made.

    There are two differences from torch's. A pair of step and change of gradient is kept if the
    two point the same way by more than rounding, at any scale of the loss. torch's threshold is
    absolute, and too high for a small loss. And pairs can be stored in ``store``: ten pairs take
    5.8 GB at 24 megapixels.
    """

    def __init__(
        self,
        pixels: Tensor,
        rate: float,
        history: int,
        pixel_range: float,
        memory: Mapping[str, StoredTensor] | None = None,
        store: TensorStore | None = None,
        preconditioner: Preconditioner | None = None,
        clamp: bool = False,
    ) -> None:
        self.pixels = pixels
        self._rate, self._history, self._clamp = rate, history, clamp
        self._range = pixel_range
        self._store = store or MemoryStore()
        self._preconditioner = preconditioner
        # Step, change of gradient, and the inverse of their product.
        self._pairs: list[tuple[StoredTensor, StoredTensor, float]] = []
        self._step: Tensor | None = None  # the last move
        self._gradient: Tensor | None = None  # before the last move
        self._scale = pixel_range**-2
        if memory:
            self._restore(memory)

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        last, before = self._step, self._gradient
        self._step = self._gradient = None
        first = last is None
        if last is not None and before is not None:
            self._add_pair(last, before.neg_().add_(gradient))
        del last, before  # free them, if they are stored elsewhere now
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
        """The direction, scaled in place to a move that is not too long."""
        if first:
            direction *= self._first_factor(gradient, loss)
        elif self._preconditioner is not None:
            direction *= min(1.0, _longest_factor(direction))
        return direction

    def _first_factor(self, gradient: Tensor, loss: float) -> float:
        """The factor on the first move, before any curvature is known."""
        if self._preconditioner is None:
            size = float(gradient.abs().sum(dtype=torch.float64))
            return min(1.0, self._range / max(size, 1e-30))
        norm = max(float(gradient.norm()), 1e-30)
        longest = FIRST_MOVE * gradient.numel() ** 0.5 / norm
        return min(longest, FIRST_DECREASE * max(loss, 0.0) / norm**2)

    def _add_pair(self, step: Tensor, change: Tensor) -> None:
        """Add the last step and its change of gradient; forget the oldest pair."""
        product = _dot(step, change)
        change_square, step_square = _dot(change, change), _dot(step, step)
        if not product > _LEAST_CURVATURE * (change_square * step_square) ** 0.5:
            return
        if len(self._pairs) == self._history:
            self._pairs.pop(0)
        pair = self._store.store(step), self._store.store(change)
        self._pairs.append((*pair, 1.0 / product))
        self._scale = product / change_square
        if self._preconditioner is not None:
            self._preconditioner.learn(step, change, product)

    def _direction(self, gradient: Tensor) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient."""
        direction = gradient.neg()
        alphas: list[float] = []
        for step, change, inverse in reversed(self._pairs):
            alphas.append(_dot(step.load(), direction) * inverse)
            direction.add_(change.load(), alpha=-alphas[-1])
        if self._preconditioner is None:
            direction *= self._scale
        else:
            direction = self._preconditioner(direction)
        for (step, change, inverse), alpha in zip(self._pairs, reversed(alphas), strict=True):
            beta = _dot(change.load(), direction) * inverse
            direction.add_(step.load(), alpha=alpha - beta)
        return direction

    def memory(self) -> dict[str, StoredTensor]:
        curvature = torch.tensor(
            [self._scale, *(inverse for _, _, inverse in self._pairs)], dtype=torch.float64
        )
        memory: dict[str, StoredTensor] = {"curvature": InMemoryTensor(curvature)}
        if self._step is not None and self._gradient is not None:
            memory["step"] = InMemoryTensor(self._step)
            memory["gradient"] = InMemoryTensor(self._gradient)
        for index, (step, change, _) in enumerate(self._pairs):
            memory |= {f"steps.{index}": step, f"changes.{index}": change}
        return memory | (self._preconditioner.memory() if self._preconditioner else {})

    def _restore(self, memory: Mapping[str, StoredTensor]) -> None:
        self._scale, *inverses = memory["curvature"].load().tolist()
        if "step" in memory:
            self._step, self._gradient = memory["step"].load(), memory["gradient"].load().clone()
        for index, inverse in enumerate(inverses):
            step, change = (
                self._store.store(memory[f"{name}.{index}"].load()) for name in ("steps", "changes")
            )
            self._pairs.append((step, change, inverse))


class LineSearchLBFGS(LBFGS):
    """L-BFGS whose steps meet the strong Wolfe conditions: torch's ``"strong_wolfe"``.

    One evaluation is one move. ``pixels`` is often a trial; ``iterate`` is the last accepted step.
    With the preconditioner a step may be lengthened up to the longest move. A line search that
    finds nothing lower has met rounding, or pairs that mislead it: all pairs are forgotten, and
    the iterate is evaluated again.

    There are two differences from torch's. No trial is closer to an end of a bracket than a tenth
    of it. And where no trial meets the conditions, the lowest that decreased enough is evaluated
    again, so that its gradient need not be stored.
    """

    def __init__(
        self,
        pixels: Tensor,
        rate: float,
        history: int,
        pixel_range: float,
        memory: Mapping[str, StoredTensor] | None = None,
        store: TensorStore | None = None,
        preconditioner: Preconditioner | None = None,
    ) -> None:
        self._iterate = pixels
        # Along the step, whose length is the distance of the first trial.
        self._line_search: LineSearch | None = None
        super().__init__(pixels.clone(), rate, history, pixel_range, memory, store, preconditioner)

    @property
    def iterate(self) -> Tensor:
        return self._iterate

    def accepts(self, gradient: Tensor, loss: float) -> bool:
        return self._line_search is None or self._after_trial(gradient, loss).accepted

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        if self._line_search is not None and self._step is not None and self._gradient is not None:
            self._line_search = self._after_trial(gradient, loss)
            if self._line_search.failed:
                self._forget()
                return
            if not self._line_search.accepted:
                self._place_trial()
                return
            self._iterate.copy_(self.pixels)
            step = self._step.mul_(self._line_search.distance)
            self._add_pair(step, self._gradient.neg_().add_(gradient))
        self._start_line_search(gradient, loss)

    def _start_line_search(self, gradient: Tensor, loss: float) -> None:
        """Start at the iterate, given gradient and loss there."""
        step = self._bounded(self._direction(gradient), gradient, loss, first=self._step is None)
        slope = _dot(gradient, step)
        if not slope < 0:  # a gradient of 0, or rounding
            self._forget()
            return
        longest = math.inf if self._preconditioner is None else _longest_factor(step)
        least = _LEAST_CHANGE / max(float(step.norm(math.inf)), 1e-30)
        self._line_search = LineSearch.begin(loss, slope, self._rate, longest, least)
        self._step, self._gradient = step, gradient
        self._place_trial()

    def _after_trial(self, gradient: Tensor, loss: float) -> LineSearch:
        assert self._line_search is not None and self._step is not None
        return self._line_search.after(loss, _dot(gradient, self._step))

    def _place_trial(self) -> None:
        """Put the pixels where the line search wants the next evaluation."""
        assert self._line_search is not None and self._step is not None
        distance = self._line_search.distance
        torch.add(self._iterate, self._step, alpha=distance, out=self.pixels)

    def _forget(self) -> None:
        self._pairs, self._scale = [], self._range**-2
        self._step = self._gradient = self._line_search = None
        if self._preconditioner is not None:
            self._preconditioner.forget()
        self.pixels.copy_(self._iterate)

    def memory(self) -> dict[str, StoredTensor]:
        if self._line_search is None:
            return super().memory()
        numbers = torch.tensor(self._line_search.to_numbers(), dtype=torch.float64)
        return super().memory() | {"search": InMemoryTensor(numbers)}

    def _restore(self, memory: Mapping[str, StoredTensor]) -> None:
        super()._restore(memory)
        if "search" in memory and self._step is not None:
            self._line_search = LineSearch.from_numbers(memory["search"].load().tolist())
            self._step = self._step.clone()  # it is shortened in place
            self._place_trial()


def _longest_factor(move: Tensor) -> float:
    """The factor by which a move becomes the longest allowed."""
    return LONGEST_MOVE * move.numel() ** 0.5 / max(float(move.norm()), 1e-30)


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.view(-1), other.view(-1)))
