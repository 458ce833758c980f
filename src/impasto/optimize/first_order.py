"""Adam and gradient descent over pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.optimize.solver import Solver
from impasto.recipe.records import Solver as SolverChoice
from impasto.storage.tensors import InMemoryTensor, StoredTensor


class Adam(Solver):
    """torch's Adam, with the pixels kept within 0..1 after each move unless the choice says
    otherwise.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2014); betas 0.9 and 0.99
    as K. Crowson has them.
    """

    def __init__(
        self,
        pixels: Tensor,
        choice: SolverChoice,
        step_scale: float = 1.0,
        memory: Mapping[str, StoredTensor] | None = None,
    ) -> None:
        self.pixels = pixels
        self._choice, self._caution = choice, step_scale
        betas = (choice.first_decay, choice.second_decay)
        self._optimiser = torch.optim.Adam(
            [pixels], lr=choice.rate, betas=betas, eps=choice.epsilon
        )
        if memory:
            self._optimiser.state[pixels].update(
                {name: kept.load().clone() for name, kept in memory.items()}
            )

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        moves = int(self._optimiser.state[self.pixels].get("step", 0))
        self._optimiser.param_groups[0]["lr"] = rate(self._choice, moves) * self._caution
        self.pixels.grad = gradient
        self._optimiser.step()
        self.pixels.grad = None
        if _clamps(self._choice):
            self.pixels.clamp_(0, 1)

    def memory(self) -> dict[str, StoredTensor]:
        return {
            name: InMemoryTensor(tensor)
            for name, tensor in self._optimiser.state[self.pixels].items()
        }


class SGD(Solver):
    """Gradient descent: the rate times the gradient, and the pixels within 0..1 unless the choice
    says otherwise.

    What remains of stochastic gradient descent (Robbins and Monro 1951) where nothing is drawn; the
    name is the libraries'.
    """

    def __init__(
        self,
        pixels: Tensor,
        choice: SolverChoice,
        step_scale: float = 1.0,
        memory: Mapping[str, StoredTensor] | None = None,
    ) -> None:
        self.pixels = pixels
        self._choice, self._caution = choice, step_scale
        self._moves = int(memory["step"].load()) if memory else 0

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        self.pixels.add_(gradient, alpha=-rate(self._choice, self._moves) * self._caution)
        if _clamps(self._choice):
            self.pixels.clamp_(0, 1)
        self._moves += 1

    def memory(self) -> dict[str, StoredTensor]:
        return {"step": InMemoryTensor(torch.tensor(self._moves))}


def rate(choice: SolverChoice, moves: int) -> float:
    """The step length of adam and sgd after so many moves: it decays exponentially, and not in
    stairs.

    Source: Keras' ``ExponentialDecay``.
    """
    return choice.rate * choice.rate_decay ** (moves / choice.rate_decay_steps)


def _clamps(choice: SolverChoice) -> bool:
    return choice.clamp == "yes" or (choice.clamp == "auto" and choice.name != "lbfgs")
