"""The one loop: a plan, tools and a state in; a stream of (event, state) out.

It is a generator: to cancel is to stop iterating, to resume is to pass a state. It knows how a stage is set up and when a
loss stopped being a number. It refuses to know files, progress bars and what the machine can hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto import images, solvers
from impasto.events import Event, Failed, Finished, StageDone, Started, Stepped
from impasto.geometry import Grid, Size
from impasto.networks.features import Network
from impasto.objectives.base import Objective
from impasto.objectives.content import Content
from impasto.objectives.smooth import Smooth
from impasto.objectives.style import Moments, Style, blend, measure, summarise
from impasto.recipe import Recipe
from impasto.schedule import Plan
from impasto.tiling import Value, assembled, measured, value_and_gradient

Pixels = NDArray[np.float32]  # (H, W, 3), sRGB-encoded, 0..1


@dataclass(frozen=True)
class Tools:
    """What the loop works with: the recipe, the network, the pictures as read, and the device."""

    recipe: Recipe
    network: Network
    photo: Pixels
    paintings: tuple[Pixels, ...]
    start: Pixels | None = None  # the picture file to start from, where the recipe names one
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tile: int = 0  # largest side of a tile in pixels; 0: the whole picture at once

    def grid(self, size: Size) -> Grid:
        """How a picture of this size is cut."""
        return self.network.grid(size, self.tile)


@dataclass(frozen=True)
class State:
    """The whole truth of a run: what the next step depends on, and what has been spent.

    ``pixels`` is (1, 3, H, W), sRGB-encoded, within 0..1 but for overshoot that is cut when the picture is written.
    ``step`` counts within ``stage``. The tensors are the engine's own: a watcher that keeps them copies them.
    """

    pixels: Tensor
    stage: int = 0
    step: int = 0
    evaluations: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)
    value: Value = field(default_factory=lambda: Value(float("nan"), {}))

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state as named tensors and plain values, to be written down."""
        tensors = {"pixels": self.pixels, **{f"memory.{name}": tensor for name, tensor in self.memory.items()}}
        facts = {"stage": self.stage, "step": self.step, "evaluations": self.evaluations}
        return tensors, {**facts, "loss": self.value.total, "terms": self.value.terms}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], device: torch.device) -> State:
        """The inverse of ``pack``."""
        memory = {name.removeprefix("memory."): tensor for name, tensor in tensors.items() if name != "pixels"}
        return cls(
            tensors["pixels"].to(device),
            facts["stage"],
            facts["step"],
            facts["evaluations"],
            {name: tensor.to(device) for name, tensor in memory.items()},
            Value(facts["loss"], facts["terms"]),
        )


def iterate(
    plan: Plan, tools: Tools, state: State | None = None, clock: Callable[[], float] = time.perf_counter
) -> Iterator[tuple[Event, State]]:
    """Paint: yields (event, state) at the start and end of each stage and after every step.

    ``Finished`` comes with the picture as it will be written, cut to 0..1, and with the loss of exactly that picture. A
    loss that is no number ends the stream with ``Failed`` and the last state whose picture had one.
    """
    begun = clock()
    state = state or State(first_pixels(plan, tools))
    good = state
    for index in range(state.stage, len(plan.stages)):
        stage = plan.stages[index]
        if tuple(state.pixels.shape[-2:]) != tuple(stage.size):
            state = replace(state, pixels=solvers.grow(state.pixels, stage.size))
        yield Started(index, stage.size, stage.steps), state
        entered = clock()
        evaluate = evaluation(stage.size, plan, tools)
        memory = {name: tensor.clone() for name, tensor in state.memory.items()}
        solver = solvers.make(tools.recipe.solver, state.pixels.clone(), memory)
        for step in range(state.step, stage.steps):
            before = solver.pixels.clone()
            value = solver.step(evaluate)
            if value.finite:
                good = State(before, index, step, state.evaluations, {}, value)
            if not value.finite or not solver.pixels.isfinite().all():
                message = f"The loss stopped being a number in step {step + 1} of {stage.steps} at {stage.size}."
                yield Failed(message), good
                return
            state = State(solver.pixels, index, step + 1, state.evaluations + 1, solver.memory(), value)
            yield Stepped(index, step + 1, state.evaluations, value.total, value.terms, clock() - begun), state
        state = State(solver.pixels, index + 1, 0, state.evaluations, {}, state.value)
        yield StageDone(index, stage.size, clock() - entered), state
    pixels = state.pixels.clamp(0, 1)
    value, _ = evaluation(plan.size, plan, tools)(pixels)
    if not value.finite:
        yield Failed("The loss of the finished picture is not a number."), good
        return
    state = replace(state, pixels=pixels, evaluations=state.evaluations + 1, value=value)
    yield Finished(state.evaluations, value.total, value.terms, clock() - begun), state


def evaluation(size: Size, plan: Plan, tools: Tools) -> solvers.Evaluate:
    """The loss and its gradient as a function of a picture of this size."""
    objectives = objectives_for(size, plan, tools)
    grid = tools.grid(size)
    return lambda pixels: value_and_gradient(pixels, tools.network, objectives, grid)


def first_pixels(plan: Plan, tools: Tools) -> Tensor:
    """What the search starts from, in the size of the first stage: the photo, noise, the painting, or a picture.

    Noise is drawn on the CPU from the recipe's seed, so that it is the same on every device.
    """
    size = plan.stages[0].size
    start = tools.recipe.schedule.start
    if start == "noise":
        generator = torch.Generator().manual_seed(tools.recipe.seed)
        noise = torch.randn((1, 3, *size), generator=generator) * 0.1 + 0.5
        return noise.clamp(0, 1).to(tools.device)
    source = {"content": tools.photo, "style": tools.paintings[0]}.get(start, tools.start)
    assert source is not None
    return images.to_tensor(images.resize(source, size)).to(tools.device)


def objectives_for(size: Size, plan: Plan, tools: Tools) -> list[Objective]:
    """The terms of the loss for a picture of this size, their targets measured at it."""
    recipe, network = tools.recipe, tools.network
    strides = {layer.name: layer.stride for layer in network.layers}
    objectives: list[Objective] = []
    if recipe.content.weight > 0:
        photo = images.to_tensor(images.resize(tools.photo, size)).to(tools.device)
        maps = assembled(photo, network, {name: strides[name] for name in recipe.content.layers}, tools.grid(size))
        weight = recipe.content.weight * plan.content_factor
        objectives.append(Content(maps, strides, recipe.content.layers, recipe.content.scaling, weight))
    if recipe.style.weight > 0:
        found = [_moments(painting, size, tools) for painting in tools.paintings]
        target = blend(found, [painting.weight for painting in recipe.paintings])
        style = recipe.style
        objectives.append(Style(target, strides, style.layers, style.statistics, style.weight))
    if recipe.smooth.weight > 0:
        objectives.append(Smooth(recipe.smooth.weight))
    return objectives


def _moments(painting: Pixels, size: Size, tools: Tools) -> dict[str, Moments]:
    """The statistics of a painting shrunk or enlarged to the area of the picture, in its own shape."""
    recipe, network = tools.recipe, tools.network
    strides = {name: network.layer(name).stride for name in recipe.style.layers}
    own = painting_size(Size(*painting.shape[:2]), size, recipe.style.scale)
    pixels = images.to_tensor(images.resize(painting, own)).to(tools.device)
    return summarise(measured(pixels, network, lambda maps, where: measure(maps, strides, where), tools.grid(own)))


def painting_size(painting: Size, picture: Size, scale: float) -> Size:
    """The size at which a painting is looked at: the picture's area times ``scale`` squared, the painting's own shape."""
    factor = scale * (picture.pixels / painting.pixels) ** 0.5
    return Size(max(32, round(painting.height * factor)), max(32, round(painting.width * factor)))
