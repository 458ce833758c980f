"""Search methods: pixels and their gradient in, better pixels out, one step at a time, with all memory in plain tensors.

It knows torch's optimisers and how to grow a picture between sizes. It refuses to know what the loss is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from impasto.geometry import Size
from impasto.recipe import Solver as SolverChoice
from impasto.tiling import Value

Evaluate = Callable[[Tensor], tuple[Value, Tensor]]  # pixels -> loss and gradient


class Solver(Protocol):
    """A search over pixels (1, 3, H, W) that it owns and changes in place."""

    pixels: Tensor

    def step(self, evaluate: Evaluate) -> Value:
        """One evaluation and one move; the value is that of the pixels before the move."""
        ...

    def memory(self) -> dict[str, Tensor]:
        """Everything that the next step depends on besides the pixels, as named tensors (not copies)."""
        ...


class LBFGS:
    """torch's L-BFGS without line search, one iteration a step.

    Source: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization" (1989). The first step of a
    stage is torch's cautious one, 1 / sum |gradient|.
    """

    def __init__(self, pixels: Tensor, rate: float, history: int, memory: Mapping[str, Tensor] | None = None) -> None:
        self.pixels = pixels
        # The tolerances stop torch's inner loop, which is ours to stop; a loss near 1 keeps y.s above its threshold.
        self._optimiser = torch.optim.LBFGS(
            [pixels], lr=rate, max_iter=1, history_size=history, tolerance_grad=0.0, tolerance_change=0.0
        )
        if memory:
            self._recall(memory)

    def step(self, evaluate: Evaluate) -> Value:
        seen: list[Value] = []

        def closure() -> Tensor:
            value, self.pixels.grad = evaluate(self.pixels)
            seen.append(value)
            return torch.tensor(value.total, dtype=torch.float64)

        self._optimiser.step(closure)
        return seen[0]

    def memory(self) -> dict[str, Tensor]:
        state = self._state
        found = {name: state[name] for name in ("d", "prev_flat_grad", "H_diag", "ro") if state.get(name) is not None}
        memory: dict[str, Tensor] = {}
        for name, value in found.items():
            memory[name] = torch.stack(value) if isinstance(value, list) and value else torch.as_tensor(value)
        for name in ("old_dirs", "old_stps"):
            for index, vector in enumerate(state.get(name) or ()):
                memory[f"{name}.{index}"] = vector
        for name in ("t", "n_iter", "func_evals", "prev_loss"):
            if state.get(name) is not None:
                memory[name] = torch.tensor(float(state[name]), dtype=torch.float64)
        return memory

    def _recall(self, memory: Mapping[str, Tensor]) -> None:
        state = self._state
        for name in ("d", "prev_flat_grad", "H_diag"):
            if name in memory:
                state[name] = memory[name]
        state["ro"] = list(memory["ro"].unbind()) if memory.get("ro", torch.empty(0)).numel() else []
        for name in ("old_dirs", "old_stps"):
            count = sum(key.startswith(f"{name}.") for key in memory)
            state[name] = [memory[f"{name}.{index}"] for index in range(count)]
        state["al"] = [None] * self._optimiser.param_groups[0]["history_size"]
        for name, kind in (("t", float), ("n_iter", int), ("func_evals", int), ("prev_loss", float)):
            if name in memory:
                state[name] = kind(memory[name].item())

    @property
    def _state(self) -> dict[str, Any]:
        return self._optimiser.state[self.pixels]


class Adam:
    """torch's Adam, with the pixels kept within 0..1 after each step.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2014); betas 0.9 and 0.99 as K. Crowson has them.
    """

    def __init__(self, pixels: Tensor, rate: float, memory: Mapping[str, Tensor] | None = None) -> None:
        self.pixels = pixels
        self._optimiser = torch.optim.Adam([pixels], lr=rate, betas=(0.9, 0.99))
        if memory:
            self._optimiser.state[pixels].update(memory)

    def step(self, evaluate: Evaluate) -> Value:
        value, self.pixels.grad = evaluate(self.pixels)
        self._optimiser.step()
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        return value

    def memory(self) -> dict[str, Tensor]:
        return dict(self._optimiser.state[self.pixels])


def make(choice: SolverChoice, pixels: Tensor, memory: Mapping[str, Tensor] | None = None) -> Solver:
    """The solver that a recipe chose, over these pixels, going on from ``memory`` if there is one."""
    if choice.name == "adam":
        return Adam(pixels, choice.rate, memory)
    return LBFGS(pixels, choice.rate, choice.history, memory)


def grow(pixels: Tensor, size: Size) -> Tensor:
    """The picture (1, 3, h, w) enlarged to ``size`` for the next stage, within 0..1."""
    grown = torch.nn.functional.interpolate(pixels, size=tuple(size), mode="bicubic", align_corners=False)
    return grown.clamp(0, 1)
