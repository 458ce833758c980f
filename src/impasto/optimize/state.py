"""The whole truth of a run at one moment, and how it is written down and read back.

It knows tensors by name, and whether they can be those of a plan. It refuses to know how one state
follows another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from impasto.optimize.tiling import Value
from impasto.planning.schedule import Plan
from impasto.storage.tensors import InMemoryTensor, StoredTensor

_PICTURES = ("best", "mark", "average")  # besides the pixels, where there are any
_COUNTS = ("stage", "step", "evaluations", "averaged", "high_loss_streak", "restarts", "tile")


@dataclass(frozen=True)
class State:
    """The whole truth of a run: what the next step depends on, and what has been spent.

    ``pixels`` is (1, 3, H, W), sRGB-encoded, within 0..1 but for overshoot that is cut when the
    picture is written. ``step`` counts within ``stage``. ``best`` are the pixels of the stage's
    lowest loss and ``lowest`` is that loss; ``average`` is the running one of ``averaged`` pictures
    of the stage, those that were looked at and gone on from, where one is kept. ``mark`` is the
    picture of the last look whether anything still changes. ``high_loss_streak`` counts the latest looks in a
    row whose loss was far too high, ``restarts`` how often the stage went back to its best picture.
    ``tile`` is the side in use. The tensors are the engine's own: a watcher that keeps them copies
    them.
    """

    pixels: Tensor
    stage: int = 0
    step: int = 0
    evaluations: int = 0
    memory: Mapping[str, StoredTensor] = field(default_factory=dict)
    value: Value = field(default_factory=lambda: Value(math.nan, {}))
    best: Tensor | None = None
    lowest: Value = field(default_factory=lambda: Value(math.inf, {}))
    mark: Tensor | None = None
    average: Tensor | None = None
    averaged: int = 0
    high_loss_streak: int = 0
    restarts: int = 0
    tile: int = 0

    @property
    def picture(self) -> Tensor:
        """What there is to be looked at: the average, where one is kept, and the pixels otherwise."""
        return self.pixels if self.average is None else self.average

    def pack(self) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
        """The state as named tensors and plain values, to be written down."""
        tensors = {f"memory.{name}": kept for name, kept in self.memory.items()}
        for name in ("pixels", *_PICTURES):
            if (tensor := getattr(self, name)) is not None:
                tensors[name] = InMemoryTensor(tensor)
        facts = {name: getattr(self, name) for name in _COUNTS}
        losses = {
            name: [value.total, value.terms]
            for name, value in (("value", self.value), ("lowest", self.lowest))
        }
        return tensors, facts | losses | {"tensors": _listed(tensors)}

    @classmethod
    def unpack(
        cls, tensors: Mapping[str, StoredTensor], facts: Mapping[str, Any], device: torch.device
    ) -> State:
        """The inverse of ``pack``.

        Raises:
            KeyError, TypeError, ValueError: these tensors and values were not made by it.
        """
        if _listed(tensors) != facts.get("tensors"):
            raise ValueError("tensors are missing, or of another shape")
        pictures: dict[str, Any] = {
            name: tensors[name].load().to(device) for name in _PICTURES if name in tensors
        }
        names = [name for name in tensors if name.startswith("memory.")]
        memory = {
            name.removeprefix("memory."): InMemoryTensor(tensors[name], device) for name in names
        }
        counts = {name: facts.get(name, -1) for name in _COUNTS}
        for name, count in counts.items():
            if type(count) is not int or count < 0:
                raise ValueError(f"{name} is {count!r}")
        value, lowest = (_value(*facts[name]) for name in ("value", "lowest"))
        pixels = tensors["pixels"].load().to(device)
        return cls(pixels, memory=memory, value=value, lowest=lowest, **pictures, **counts)

    def good(self) -> State:
        """The state with the best picture of its stage and an empty memory; as it is where no
        picture has been looked at.

        A move is made after the look at the picture before it: at what the last one made, nobody
        has looked. An average is of pictures that were looked at alone, and stays.
        """
        if self.best is None:
            return replace(self, memory={}, high_loss_streak=0)
        return replace(self, pixels=self.best, memory={}, value=self.lowest, high_loss_streak=0)

    def own(self) -> State:
        """The state with copies of what the loop writes into."""
        copies = {
            name: tensor.clone()
            for name in _PICTURES
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **copies)

    def belongs_to(self, plan: Plan) -> bool:
        """Whether a run of this plan can have come to such a state."""
        if self.stage > len(plan.stages):
            return False
        before = [stage.size for stage in plan.stages[: self.stage][-1:]]
        now = [(stage.size, stage.steps) for stage in plan.stages[self.stage :][:1]]
        sizes = [size for size, steps in now if self.step <= steps] + (
            before if self.step == 0 else []
        )
        pictures = [
            picture.shape
            for name in ("pixels", *_PICTURES)
            if (picture := getattr(self, name)) is not None
        ]
        return len(set(pictures)) == 1 and pictures[0] in [(1, 3, *size) for size in sizes]


def _value(total: float, terms: Mapping[str, float]) -> Value:
    """A value as it comes out of JSON, where all of it is numbers."""
    return Value(float(total), {name: float(term) for name, term in terms.items()})


def _listed(tensors: Mapping[str, StoredTensor]) -> dict[str, list[object]]:
    """Which tensors there are, as plain values."""
    return {name: [str(kept.dtype), *kept.shape] for name, kept in tensors.items()}
