"""The complete state of a search, and how it is saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from impasto.optimize.tiling import LossValue
from impasto.planning.schedule import Plan
from impasto.storage.tensors import InMemoryTensor, StoredTensor

_PICTURES = ("best", "reference", "average")  # optional pictures besides the pixels
_COUNTS = ("stage", "step", "evaluations", "averaged", "high_loss_streak", "restarts", "tile")


@dataclass(frozen=True)
class State:
    """Everything that the next step depends on, and the evaluations so far.

    The tensors belong to the loop, which overwrites them: a consumer that stores them copies them.

    ``pixels``: (1, 3, H, W), sRGB-encoded, within 0..1 except for overshoot that is clamped when
    the picture is written. ``stage`` and ``step``: steps count within a stage. ``memory``: the
    solver's memory. ``loss``: that of the last evaluated pixels. ``best`` and ``lowest``: the
    pixels with the lowest loss of the stage, and that loss. ``reference``: the picture of the last
    check for convergence. ``average``: the running average of ``averaged`` accepted pictures of
    the stage, if the recipe asks for one. ``high_loss_streak``: the latest consecutive losses that
    were far too high. ``restarts``: how often the stage restarted from its best pixels. ``tile``:
    the tile side in use.
    """

    pixels: Tensor
    stage: int = 0
    step: int = 0
    evaluations: int = 0
    memory: Mapping[str, StoredTensor] = field(default_factory=dict)
    loss: LossValue = field(default_factory=lambda: LossValue(math.nan, {}))
    best: Tensor | None = None
    lowest: LossValue = field(default_factory=lambda: LossValue(math.inf, {}))
    reference: Tensor | None = None
    average: Tensor | None = None
    averaged: int = 0
    high_loss_streak: int = 0
    restarts: int = 0
    tile: int = 0

    @property
    def picture(self) -> Tensor:
        """The picture to show: the average if there is one, otherwise the pixels."""
        return self.pixels if self.average is None else self.average

    def pack(self) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
        """Return the state as named tensors and plain values."""
        tensors = {f"memory.{name}": stored for name, stored in self.memory.items()}
        for name in ("pixels", *_PICTURES):
            if (tensor := getattr(self, name)) is not None:
                tensors[name] = InMemoryTensor(tensor)
        values: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        for name, loss in (("loss", self.loss), ("lowest", self.lowest)):
            values[name] = [loss.total, loss.terms]
        return tensors, values | {"tensors": _types_and_shapes(tensors)}

    @classmethod
    def unpack(
        cls, tensors: Mapping[str, StoredTensor], values: Mapping[str, Any], device: torch.device
    ) -> State:
        """The inverse of ``pack``.

        Raises:
            KeyError, TypeError, ValueError: these tensors and values were not made by ``pack``.
        """
        if _types_and_shapes(tensors) != values.get("tensors"):
            raise ValueError("tensors are missing, or of another shape")
        pictures: dict[str, Any] = {
            name: tensors[name].load().to(device) for name in _PICTURES if name in tensors
        }
        memory = {
            name.removeprefix("memory."): InMemoryTensor(tensors[name], device)
            for name in tensors
            if name.startswith("memory.")
        }
        counts = {name: values.get(name, -1) for name in _COUNTS}
        for name, count in counts.items():
            if type(count) is not int or count < 0:
                raise ValueError(f"{name} is {count!r}")
        loss, lowest = (_loss_value(*values[name]) for name in ("loss", "lowest"))
        pixels = tensors["pixels"].load().to(device)
        return cls(pixels, memory=memory, loss=loss, lowest=lowest, **pictures, **counts)

    def at_best(self) -> State:
        """The state with the best pixels of its stage and an empty solver memory.

        The pixels after the last step have not been evaluated. An average consists of evaluated
        pictures and stays. Before the first evaluation the pixels stay, too.
        """
        if self.best is None:
            return replace(self, memory={}, high_loss_streak=0)
        return replace(self, pixels=self.best, memory={}, loss=self.lowest, high_loss_streak=0)

    def copied(self) -> State:
        """The state with copies of the tensors that the loop overwrites."""
        copies = {
            name: tensor.clone()
            for name in _PICTURES
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **copies)

    def belongs_to(self, plan: Plan) -> bool:
        """Whether a run of this plan can have reached such a state."""
        if self.stage > len(plan.stages):
            return False
        before = [stage.size for stage in plan.stages[: self.stage][-1:]]
        now = [(stage.size, stage.steps) for stage in plan.stages[self.stage :][:1]]
        sizes = [size for size, steps in now if self.step <= steps]
        sizes += before if self.step == 0 else []
        shapes = {
            picture.shape
            for name in ("pixels", *_PICTURES)
            if (picture := getattr(self, name)) is not None
        }
        return len(shapes) == 1 and tuple(shapes.pop()) in [(1, 3, *size) for size in sizes]


def _loss_value(total: float, terms: Mapping[str, float]) -> LossValue:
    """A loss from JSON values."""
    return LossValue(float(total), {name: float(term) for name, term in terms.items()})


def _types_and_shapes(tensors: Mapping[str, StoredTensor]) -> dict[str, list[object]]:
    return {name: [str(stored.dtype), *stored.shape] for name, stored in tensors.items()}
