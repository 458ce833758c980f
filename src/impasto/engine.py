"""The one loop: a plan, tools and a state in; a stream of (event, state) out.

It is a generator: to cancel is to stop iterating, to resume is to pass a state. It knows how a stage is set up, when a
search has run away or come to rest, and what to do when memory runs out. It refuses to know files and progress bars.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto import images, machine, solvers
from impasto.events import Event, Failed, Finished, StageDone, Started, Stepped, Warned
from impasto.geometry import Grid, Size
from impasto.networks.features import Network
from impasto.objectives.base import Objective
from impasto.objectives.content import Content
from impasto.objectives.smooth import Smooth
from impasto.objectives.style import Moments, Style, blend, measure, summarise
from impasto.recipe import Recipe
from impasto.schedule import Plan, painting_size
from impasto.scratch import Held, InMemory, Kept, Scratch
from impasto.tiling import Value, measured, targets, value_and_gradient

Evaluate = Callable[[Tensor], tuple[Value, Tensor]]  # pixels -> loss and gradient
Pixels = NDArray[np.float32]  # (H, W, 3), sRGB-encoded, 0..1

# A loss this many times the lowest of its stage is a search that has run away; in a sound one it hardly rises at all.
RUNAWAY = 3.0
# Of a loss this small nothing but rounding can be said; one that was reached to the letter may even lie below zero.
ROUNDING = 1e-6
# Each time, the search starts again from the best picture with half the step; after these it is not the step.
RESTARTS = 4
# Root mean square of the changes since the last look below which no eye sees one: half of an 8-bit level.
INVISIBLE = 0.5 / 255
# No tile is cut smaller than this when memory runs out.
LEAST_TILE = 128


@dataclass(frozen=True)
class Tools:
    """What the loop works with: the recipe, the network, the pictures as read, the device, and where tensors wait."""

    recipe: Recipe
    network: Network
    photo: Pixels
    paintings: tuple[Pixels, ...]
    start: Pixels | None = None  # the picture file to start from, where the recipe names one
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tile: int = 0  # largest side of a tile in pixels; 0: the whole picture at once
    targets: Scratch = field(default_factory=InMemory)  # for the photo's feature maps
    history: Scratch = field(default_factory=InMemory)  # for what the search remembers

    def grid(self, size: Size) -> Grid:
        """How a picture of this size is cut."""
        return self.network.grid(size, self.tile)


@dataclass(frozen=True)
class State:
    """The whole truth of a run: what the next step depends on, and what has been spent.

    ``pixels`` is (1, 3, H, W), sRGB-encoded, within 0..1 but for overshoot that is cut when the picture is written.
    ``step`` counts within ``stage``. ``best`` are the pixels of the stage's lowest loss and ``lowest`` is that loss;
    ``mark`` are those of the last look whether anything still changes. ``restarts`` counts in the stage. ``tile`` is the
    side in use. The tensors are the engine's own: a watcher that keeps them copies them.
    """

    pixels: Tensor
    stage: int = 0
    step: int = 0
    evaluations: int = 0
    memory: Mapping[str, Kept] = field(default_factory=dict)
    value: Value = field(default_factory=lambda: Value(math.nan, {}))
    best: Tensor | None = None
    lowest: Value = field(default_factory=lambda: Value(math.inf, {}))
    mark: Tensor | None = None
    restarts: int = 0
    tile: int = 0

    def pack(self) -> tuple[dict[str, Kept], dict[str, Any]]:
        """The state as named tensors and plain values, to be written down."""
        tensors = {f"memory.{name}": kept for name, kept in self.memory.items()}
        for name in ("pixels", "best", "mark"):
            if (tensor := getattr(self, name)) is not None:
                tensors[name] = Held(tensor)
        facts = {name: getattr(self, name) for name in ("stage", "step", "evaluations", "restarts", "tile")}
        losses = {name: [value.total, value.terms] for name, value in (("value", self.value), ("lowest", self.lowest))}
        return tensors, facts | losses | {"tensors": _listed(tensors)}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Kept], facts: Mapping[str, Any], device: torch.device) -> State:
        """The inverse of ``pack``.

        Raises:
            KeyError, TypeError, ValueError: these tensors and values were not made by it.
        """
        if _listed(tensors) != facts.get("tensors"):
            raise ValueError("tensors are missing, or of another shape")
        best, mark = (tensors[name].load().to(device) if name in tensors else None for name in ("best", "mark"))
        names = [name for name in tensors if name.startswith("memory.")]
        memory = {name.removeprefix("memory."): Held(tensors[name], device) for name in names}
        counts = {name: facts.get(name, -1) for name in ("stage", "step", "evaluations", "restarts", "tile")}
        for name, count in counts.items():
            if type(count) is not int or count < 0:
                raise ValueError(f"{name} is {count!r}")
        value, lowest = (_value(*facts[name]) for name in ("value", "lowest"))
        pixels = tensors["pixels"].load().to(device)
        return cls(pixels, memory=memory, value=value, lowest=lowest, best=best, mark=mark, **counts)

    def belongs_to(self, plan: Plan) -> bool:
        """Whether a run of this plan can have come to such a state."""
        if self.stage > len(plan.stages):
            return False
        before = [stage.size for stage in plan.stages[: self.stage][-1:]]
        now = [(stage.size, stage.steps) for stage in plan.stages[self.stage :][:1]]
        sizes = [size for size, steps in now if self.step <= steps] + (before if self.step == 0 else [])
        pictures = [picture.shape for picture in (self.pixels, self.best, self.mark) if picture is not None]
        return len(set(pictures)) == 1 and pictures[0] in [(1, 3, *size) for size in sizes]


def _value(total: float, terms: Mapping[str, float]) -> Value:
    """A value as it comes out of JSON, where all of it is numbers."""
    return Value(float(total), {name: float(term) for name, term in terms.items()})


def _listed(tensors: Mapping[str, Kept]) -> dict[str, list[object]]:
    """Which tensors there are, as plain values."""
    return {name: [str(kept.dtype), *kept.shape] for name, kept in tensors.items()}


def iterate(
    plan: Plan, tools: Tools, state: State | None = None, clock: Callable[[], float] = time.perf_counter
) -> Iterator[tuple[Event, State]]:
    """Paint: yields (event, state) at the start and end of each stage and after every step.

    A search that runs away, to a loss that is far above its lowest or no number, goes back to the best picture and on with
    half the step. One that has come to rest ends its stage. When memory runs out the step is made again in smaller tiles.
    ``Finished`` comes with the picture as it will be written, cut to 0..1, and with the loss of exactly that picture;
    ``Failed`` ends the stream with the best picture that there was.
    """
    begun = clock()
    state = _own(state) if state else State(first_pixels(plan, tools), tile=tools.tile)
    good: State | None = None  # the best of the size before, for as long as this one has none
    evaluate: _Evaluation | None = None
    for index in range(state.stage, len(plan.stages)):
        stage = plan.stages[index]
        evaluate = _Evaluation(stage.size, plan, tools, state.tile)
        if tuple(state.pixels.shape[-2:]) != tuple(stage.size):
            state = replace(state, pixels=solvers.grow(state.pixels, stage.size))
        yield Started(index, stage.size, stage.steps), state
        entered = clock()
        for event, latest in _search(index, plan, tools, state, evaluate, lambda: clock() - begun):
            state = latest
            if isinstance(event, Failed):
                yield event, (good if good and state.best is None else state)
                return
            yield event, state
        good = _last_good(state)
        done = State(state.pixels, index + 1, 0, state.evaluations, value=state.value, tile=state.tile)
        last = index == len(plan.stages) - 1
        state = replace(done, best=state.best, lowest=state.lowest) if last else done
        yield StageDone(index, stage.size, clock() - entered), state
    evaluate = evaluate or _Evaluation(plan.size, plan, tools, state.tile)
    yield from _finish(state, evaluate, lambda: clock() - begun)


def _search(
    index: int, plan: Plan, tools: Tools, state: State, evaluate: _Evaluation, seconds: Callable[[], float]
) -> Iterator[tuple[Event, State]]:
    """The steps of one stage, from where the state says that it stands."""
    stage = plan.stages[index]
    patience = tools.recipe.schedule.patience if tools.recipe.schedule.patience < stage.steps else 0
    caution = 0.5**state.restarts
    choice = tools.recipe.solver
    solver = solvers.make(choice, state.pixels.clone(), state.memory, caution=caution, scratch=tools.history)
    state = replace(state, stage=index, mark=state.pixels.clone() if patience and state.mark is None else state.mark)
    while state.step < stage.steps:
        found = evaluate(solver.pixels)
        if found is None:
            smaller = evaluate.cut()
            message = f"Memory ran out in step {state.step + 1} at {stage.size}"
            if smaller is None:
                yield Failed(f"{message}, even in tiles of {LEAST_TILE} px."), _last_good(state)
                return
            state = replace(state, tile=smaller)
            yield Warned(f"{message}: going on in tiles of {smaller} px, which give the same picture to rounding."), state
            continue
        value, gradient = found
        if value.finite and value.total <= state.lowest.total:
            state = replace(state, best=_copied(solver.pixels, state.best), lowest=value)
        sound = _sound(value, state.lowest)
        if sound:
            solver.move(gradient)
            sound = bool(solver.pixels.isfinite().all())
        del gradient, found  # the solver may let go of it before the next one comes
        restarted = rested = ""
        if not sound:
            best = state.best
            message = f"The loss {_ran_away(value, state.lowest)} in step {state.step + 1} of {stage.steps} at {stage.size}"
            if best is None or state.restarts == RESTARTS:
                yield Failed(f"{message}."), _last_good(state)
                return
            state = replace(state, restarts=state.restarts + 1)
            solver = solvers.make(choice, best.clone(), caution=0.5**state.restarts, scratch=tools.history)
            value = state.lowest
            restarted = f"{message}: going on from the best picture so far with half the step."
        state = replace(
            state,
            pixels=solver.pixels,
            step=state.step + 1,
            evaluations=state.evaluations + 1,
            memory=solver.memory(),
            value=value,
        )
        stepped = Stepped(index, state.step, state.evaluations, value.total, value.terms, seconds())
        if state.mark is not None and patience and state.step % patience == 0 and state.step < stage.steps:
            if _rms(solver.pixels, state.mark) < INVISIBLE:
                rested = f"Nothing visible has changed in {patience} evaluations at {stage.size}: this size is done after "
                rested += f"{state.step} of {stage.steps}."
                state = replace(state, step=stage.steps)  # which also holds where it is gone on with from here
            state = replace(state, mark=_copied(solver.pixels, state.mark))
        if restarted:
            yield Warned(restarted), state
        yield stepped, state
        if rested:
            yield Warned(rested), state


def _finish(state: State, evaluate: _Evaluation, seconds: Callable[[], float]) -> Iterator[tuple[Event, State]]:
    """The loss of the picture as it will be written; the best one stands in for a last move that ran away."""
    for pixels in (state.pixels, state.best):
        if pixels is None:
            continue
        pixels = pixels.clamp(0, 1)
        while (found := evaluate(pixels)) is None:
            if evaluate.cut() is None:
                yield Failed(f"Memory ran out at the last look, even in tiles of {LEAST_TILE} px."), _last_good(state)
                return
        value = found[0]
        state = replace(state, evaluations=state.evaluations + 1)
        if _sound(value, state.lowest):
            state = State(pixels, state.stage, 0, state.evaluations, value=value, tile=evaluate.tile)
            yield Finished(state.evaluations, value.total, value.terms, seconds()), state
            return
    yield Failed("The loss of the finished picture is not a number."), _last_good(state)


def _own(state: State) -> State:
    """The state with copies of what the loop writes into."""
    copies = {name: tensor.clone() for name in ("best", "mark") if (tensor := getattr(state, name)) is not None}
    return replace(state, **copies)


def _last_good(state: State) -> State:
    """The state with the best picture of its stage, for a fresh start from there; as it is where there is none."""
    if state.best is None:
        return replace(state, memory={})
    return replace(state, pixels=state.best, memory={}, value=state.lowest)


def _sound(value: Value, lowest: Value) -> bool:
    return value.finite and value.total <= RUNAWAY * max(lowest.total, 0.0) + ROUNDING


def _ran_away(value: Value, lowest: Value) -> str:
    if value.finite and not _sound(value, lowest):
        return f"rose from {lowest.total:.3g} to {value.total:.3g}"
    return "stopped being a number"


def _copied(pixels: Tensor, into: Tensor | None) -> Tensor:
    return pixels.clone() if into is None else into.copy_(pixels)


def _rms(one: Tensor, other: Tensor) -> float:
    return float((one - other).square_().mean().sqrt())


class _Evaluation:
    """The loss and its gradient as a function of a picture of one size; None where memory ran out."""

    def __init__(self, size: Size, plan: Plan, tools: Tools, tile: int) -> None:
        self._size, self._plan, self._tools = size, plan, tools
        self._evaluate: Evaluate | None = None
        self.tile = tile

    def __call__(self, pixels: Tensor) -> tuple[Value, Tensor] | None:
        try:
            if self._evaluate is None:
                self._evaluate = evaluation(self._size, self._plan, replace(self._tools, tile=self.tile))
                machine.give_back_memory()
            return self._evaluate(pixels)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
        self._evaluate = None
        if self._tools.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def cut(self) -> int | None:
        """Go on in tiles of half the side: the new side; None where that is too small."""
        smaller = min(self.tile or self._size.long_side, self._size.long_side) // 2
        if smaller < LEAST_TILE:
            return None
        self.tile = smaller
        return smaller


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocator gave up: torch has an exception of its own for GPUs, and words for CPUs."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def evaluation(size: Size, plan: Plan, tools: Tools) -> Evaluate:
    """The loss and its gradient as a function of a picture of this size."""
    objectives = objectives_for(size, plan, tools)
    grid = tools.grid(size)
    encode = tools.network.within(size)
    return lambda pixels: value_and_gradient(pixels, encode, objectives, grid)


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
        wanted = {name: strides[name] for name in recipe.content.layers}
        maps = targets(photo, network.within(size), wanted, tools.grid(size), tools.targets)
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
    encode = network.within(own)
    return summarise(measured(pixels, encode, lambda maps, where: measure(maps, strides, where), tools.grid(own)))
