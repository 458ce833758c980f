"""Adam and gradient descent over pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.optimize.solver import Solver
from impasto.recipe.records import Solver as SolverSettings
from impasto.storage.tensors import InMemoryTensor, StoredTensor


class Adam(Solver):
    """torch's Adam, with the pixels clamped to 0..1 after each move unless the settings say no.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2014).
    """

    def __init__(
        self,
        pixels: Tensor,
        settings: SolverSettings,
        step_scale: float = 1.0,
        memory: Mapping[str, StoredTensor] | None = None,
    ) -> None:
        self.pixels = pixels
        self._settings, self._step_scale = settings, step_scale
        self._adam = torch.optim.Adam(
            [pixels],
            lr=settings.rate,
            betas=(settings.first_decay, settings.second_decay),
            eps=settings.epsilon,
        )
        if memory:
            moments = {name: stored.load().clone() for name, stored in memory.items()}
            self._adam.state[pixels].update(moments)

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        moves = int(self._adam.state[self.pixels].get("step", 0))
        self._adam.param_groups[0]["lr"] = decayed_rate(self._settings, moves) * self._step_scale
        self.pixels.grad = gradient
        self._adam.step()
        self.pixels.grad = None
        if clamps(self._settings):
            self.pixels.clamp_(0, 1)

    def memory(self) -> dict[str, StoredTensor]:
        state = self._adam.state[self.pixels]
        return {name: InMemoryTensor(tensor) for name, tensor in state.items()}


class SGD(Solver):
    """Gradient descent, for published recipes only: pixels minus rate times gradient.

    The name is the one that libraries use; nothing is stochastic here. The pixels are clamped to
    0..1 after each move unless the settings say no.
    """

    def __init__(
        self,
        pixels: Tensor,
        settings: SolverSettings,
        step_scale: float = 1.0,
        memory: Mapping[str, StoredTensor] | None = None,
    ) -> None:
        self.pixels = pixels
        self._settings, self._step_scale = settings, step_scale
        self._moves = int(memory["step"].load()) if memory else 0

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        rate = decayed_rate(self._settings, self._moves) * self._step_scale
        self.pixels.add_(gradient, alpha=-rate)
        if clamps(self._settings):
            self.pixels.clamp_(0, 1)
        self._moves += 1

    def memory(self) -> dict[str, StoredTensor]:
        return {"step": InMemoryTensor(torch.tensor(self._moves))}


def decayed_rate(settings: SolverSettings, moves: int) -> float:
    """The step length of Adam and SGD after ``moves`` moves: exponential decay, not in stairs.

    Source: Keras' ``ExponentialDecay``.
    """
    return settings.rate * settings.rate_decay ** (moves / settings.rate_decay_steps)


def clamps(settings: SolverSettings) -> bool:
    """Whether the pixels are clamped to 0..1 after each move."""
    return settings.clamp == "yes" or (settings.clamp == "auto" and settings.name != "lbfgs")
