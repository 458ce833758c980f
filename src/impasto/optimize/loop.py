"""The one loop: a plan, tools and a state in; a stream of (event, state) out.

It is a generator: to cancel is to stop iterating, to resume is to pass a state. It knows when a
search has run away or come to rest, and what to do when memory runs out. It refuses to know what is
minimised, files and progress bars.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from impasto.errors import ran_out_of_memory
from impasto.events import Event, Failed, Finished, StageDone, Started, Stepped, Warned
from impasto.geometry import Size
from impasto.hardware import allocator
from impasto.optimize import loss as problem
from impasto.optimize import solver as solver_
from impasto.optimize import solver_factory, upscale
from impasto.optimize.loss import Evaluate, Tools
from impasto.optimize.solver import take_in
from impasto.optimize.state import State
from impasto.optimize.tiling import Value
from impasto.planning.schedule import Plan, Stage
from impasto.recipe.records import Recipe

P = ParamSpec("P")
T = TypeVar("T")

# A loss this many times the lowest of its stage, looked at so many times in a row, is a search that
# has run away. One that went too far for once has learned of it and comes back, as torch's L-BFGS
# does in its first steps from noise.
DIVERGENCE_FACTOR, MAX_HIGH_LOSSES = 3.0, 3
# Of a loss this small nothing but rounding can be said; one that was reached to the letter may even
# lie below zero.
ROUNDING = 1e-6
# Each time, the search starts again from the best picture with half the step; after these it is not
# the step.
RESTARTS = 4
# Root mean square of the changes since the last look below which no eye sees one: half of an 8-bit
# level.
INVISIBLE = 0.5 / 255
# No tile is cut smaller than this when memory runs out.
LEAST_TILE = 128


def iterate(
    plan: Plan,
    tools: Tools,
    state: State | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[Event, State]]:
    """Paint: yields (event, state) at the start and end of each stage and after every step.

    A search that runs away, to losses that stay far above its lowest or to no number, goes back to
    the best picture and on with half the step. One that has come to rest ends its stage. What is
    grown for the next is a stage's best picture, nobody having looked at what its last move made,
    or where one is kept the average of those that were looked at. When memory runs out the step is
    made again in smaller tiles, or with what can wait on disk. ``Finished`` comes with the picture
    as it will be written, cut to 0..1, and with the loss of exactly that picture; ``Failed`` ends
    the stream with the best picture that there was.
    """
    begun = clock()

    def seconds() -> float:
        return clock() - begun

    state = state.own() if state else State(problem.first_pixels(plan, tools), tile=tools.tile)
    evaluate = _Evaluation(plan.size, plan, tools, state.tile)
    for index in range(state.stage, len(plan.stages)):
        evaluate = _Evaluation(plan.stages[index].size, plan, evaluate.tools, state.tile)
        painted = yield from _stage(index, plan, state, evaluate, seconds)
        if painted is None:
            return
        state = painted
    yield from _finish(state, evaluate, seconds)


def _stage(
    index: int, plan: Plan, before: State, evaluate: _Evaluation, seconds: Callable[[], float]
) -> Generator[tuple[Event, State], None, State | None]:
    """One stage from the state before it; gives the state after it, None where it failed.

    Large pictures are let go of as soon as they are not needed: what this function held is gone
    when it returns.
    """
    stage, state = plan.stages[index], before
    allocator.give_back_memory()  # what the stage before had, before this one takes more
    if tuple(state.pixels.shape[-2:]) != tuple(stage.size):
        grown = _attempt(_grown, state, stage.size)
        if grown is None:
            yield (
                Failed(f"Memory ran out before the first step at {stage.size}.", memory=True),
                state,
            )
            return None
        state = grown
        del grown
    yield Started(index, stage.size, stage.steps), state
    entered = seconds()
    search = _search(index, plan, state, evaluate, seconds)
    for event, state in search:
        if isinstance(event, Failed):
            yield event, (before if state.best is None else state)
            return None
        yield event, state
    state = _done(index, state, evaluate.tools.recipe, last=index == len(plan.stages) - 1)
    yield StageDone(index, stage.size, seconds() - entered), state
    return state


def _grown(state: State, size: Size) -> State:
    """The state before the first step of a size, from that of the size before."""
    return replace(
        state,
        pixels=upscale.grow(state.pixels, size),
        memory=upscale.grow_memory(state.memory, size),
    )


def _done(index: int, state: State, recipe: Recipe, last: bool) -> State:
    """The state after a stage: its picture, and what is carried into the next size or stands by for
    the last look.

    At what the last move made nobody has looked. After the last stage somebody will, and the best
    picture stands by; but a line search has looked at all that it made, and the best is what it
    came to.
    """
    end = state if last and not recipe.solver.uses_line_search else state.good()
    done = State(end.picture, index + 1, 0, end.evaluations, value=end.value, tile=end.tile)
    if last:
        return replace(done, best=end.best, lowest=end.lowest)
    return replace(done, memory=upscale.carried(recipe.solver, state.memory))


def _search(
    index: int, plan: Plan, state: State, evaluate: _Evaluation, seconds: Callable[[], float]
) -> Iterator[tuple[Event, State]]:
    """The steps of one stage, from where the state says that it stands."""
    stage, patience = plan.stages[index], evaluate.tools.recipe.schedule.patience
    patience = patience if patience < stage.steps else 0
    state = replace(state, stage=index)
    begun: _Begun | None = None
    while state.step < stage.steps:
        at = f"step {state.step + 1} of {stage.steps} at {stage.size}"
        begun = begun or _attempt(_begin, state, evaluate.tools, patience > 0)
        step = _step(state, begun, evaluate) if begun else None
        if step is None or step.sound is None:
            # A move that broke off has left the memory in disorder.
            state = step.state.good() if step else state
            tools, looked = evaluate.tools, step is not None
            lighter = evaluate.reduce_memory(disk_first=begun is None or looked)
            if not lighter:
                yield (
                    Failed(
                        f"Memory ran out in {at}, even in tiles of {LEAST_TILE} px.", memory=True
                    ),
                    state.good(),
                )
                return
            begun = None if looked or evaluate.tools is not tools else begun
            state = replace(state, tile=evaluate.tile)
            yield Warned(f"Memory ran out in {at}: going on {lighter}."), state
            continue
        restarted = ""
        if not step.sound:
            restarted = f"The loss {_ran_away(step.value, step.state.lowest)} in {at}"
            if step.state.best is None or state.restarts == RESTARTS:
                yield Failed(f"{restarted}."), step.state.good()
                return
            state, begun = replace(step.state.good(), restarts=state.restarts + 1), None
        else:
            state = step.state
        state = replace(state, step=state.step + 1, evaluations=state.evaluations + 1)
        value = state.value
        stepped = Stepped(
            index, state.step, state.evaluations, value.total, value.terms, seconds(), value.layers
        )
        state, rested = _looked_back(state, stage, patience)
        if restarted:
            yield (
                Warned(f"{restarted}: going on from the best picture so far with half the step."),
                state,
            )
        yield stepped, state
        if rested:
            yield Warned(rested), state
    if state.high_loss_streak:
        yield (
            Warned(
                f"The loss {_ran_away(state.value, state.lowest)} in the end at {stage.size}; the "
                f"best stays."
            ),
            state,
        )


@dataclass(frozen=True)
class _Begun:
    """What a search takes up room for before its first step; ``best``, ``mark`` and ``average``
    become the state's.
    """

    solver: solver_.Solver
    best: Tensor
    mark: Tensor | None
    average: Tensor | None
    decay: float  # of the average


def _begin(state: State, tools: Tools, marked: bool) -> _Begun:
    choice, step_scale = tools.recipe.solver, 0.5**state.restarts
    pixels = state.pixels.clone()
    solver = solver_factory.make(
        choice, pixels, state.memory, step_scale=step_scale, scratch=tools.history
    )
    best = torch.empty_like(pixels) if state.best is None else state.best
    mark = state.picture.clone() if marked and state.mark is None else state.mark
    average = pixels.clone() if choice.average and state.average is None else state.average
    return _Begun(solver, best, mark, average, choice.average)


@dataclass(frozen=True)
class _Step:
    """The state after one evaluation and one move, and the value found; ``sound`` is None where the
    move lacked memory.
    """

    state: State
    value: Value
    sound: bool | None


def _step(state: State, begun: _Begun, evaluate: _Evaluation) -> _Step | None:
    """One step, which is not counted yet; None where memory ran out in the evaluation, and nothing
    has changed.
    """
    solver = begun.solver
    found = evaluate(solver.pixels)
    if found is None:
        return None
    value, gradient = found
    state = replace(state, mark=begun.mark)
    if value.finite and value.total <= state.lowest.total:
        state = replace(state, best=begun.best.copy_(solver.pixels), lowest=value)
    accepted = solver.accepts(gradient, value.total)
    if accepted:  # and not a line search's try, which may lie anywhere
        high_loss_streak = 0 if _sound(value, state.lowest) else state.high_loss_streak + 1
        if high_loss_streak == MAX_HIGH_LOSSES or not value.finite:
            return _Step(state, value, False)
        state = _averaged(replace(state, value=value, high_loss_streak=high_loss_streak), begun)
    sound = _attempt(_move, solver, gradient, value.total)
    if sound:
        state = replace(state, pixels=solver.iterate, memory=solver.memory())
    return _Step(state, value, sound)


def _averaged(state: State, begun: _Begun) -> State:
    """The state with one picture more in its average, where one is kept: the one just looked at,
    and found sound.
    """
    if begun.average is None or state.high_loss_streak:
        return state
    count = state.averaged + 1
    average = take_in(begun.average, begun.solver.pixels, begun.decay, count)
    return replace(state, average=average, averaged=count)


def _move(solver: solver_.Solver, gradient: Tensor, loss: float) -> bool:
    """Whether the move led to numbers."""
    solver.move(gradient, loss)
    return bool(solver.pixels.isfinite().all())


def _looked_back(state: State, stage: Stage, patience: int) -> tuple[State, str]:
    """The state after a look whether anything still changes, where it is time for one, and what is
    said if nothing does.
    """
    if (
        state.mark is None
        or state.high_loss_streak
        or not patience
        or state.step % patience
        or state.step == stage.steps
    ):
        return state, ""
    apart = _attempt(torch.dist, state.picture, state.mark)
    step, rested = state.step, ""
    if apart is not None and float(apart) < INVISIBLE * state.mark.numel() ** 0.5:
        rested = f"Nothing visible has changed in {patience} evaluations at {stage.size}: this size is done after "
        rested += f"{step} of {stage.steps}."
        step = stage.steps  # which also holds where it is gone on with from here
    return replace(state, step=step, mark=state.mark.copy_(state.picture)), rested


def _finish(
    state: State, evaluate: _Evaluation, seconds: Callable[[], float]
) -> Iterator[tuple[Event, State]]:
    """The loss of the picture as it will be written; the best one stands in for a last move that
    ran away.

    Of that one no more is asked than a number: of next to nothing, cutting to 0..1 may make many
    times as much.
    """
    for pixels in (state.pixels, state.best):
        if pixels is None:
            continue
        while (looked := _look(pixels, evaluate)) is None:
            lighter = evaluate.reduce_memory()
            if not lighter:
                message = f"Memory ran out at the last look, even in tiles of {LEAST_TILE} px."
                yield Failed(message, memory=True), state.good()
                return
            state = replace(state, tile=evaluate.tile)
            yield Warned(f"Memory ran out at the last look: going on {lighter}."), state
        cut, value = looked
        state = replace(state, evaluations=state.evaluations + 1)
        if _sound(value, state.lowest) or (pixels is state.best and value.finite):
            state = State(cut, state.stage, 0, state.evaluations, value=value, tile=evaluate.tile)
            yield Finished(state.evaluations, value.total, value.terms, seconds()), state
            return
    yield Failed("The loss of the finished picture is not a number."), state.good()


def _look(pixels: Tensor, evaluate: _Evaluation) -> tuple[Tensor, Value] | None:
    """The picture cut to 0..1 and its loss; None where memory ran out."""
    cut = _attempt(torch.clamp, pixels, 0.0, 1.0)
    found = evaluate(cut) if cut is not None else None
    return (cut, found[0]) if cut is not None and found is not None else None


def _sound(value: Value, lowest: Value) -> bool:
    return value.finite and value.total <= DIVERGENCE_FACTOR * max(lowest.total, 0.0) + ROUNDING


def _ran_away(value: Value, lowest: Value) -> str:
    if value.finite and not _sound(value, lowest):
        return f"rose from {lowest.total:.3g} to {value.total:.3g}"
    return "stopped being a number"


class _Evaluation:
    """The loss and its gradient as a function of a picture of one size; None where memory ran out.

    ``tools`` and ``tile`` are what it works with now.
    """

    def __init__(self, size: Size, plan: Plan, tools: Tools, tile: int) -> None:
        self._size, self._plan = size, plan
        self._evaluate: Evaluate | None = None
        self.tools, self.tile = tools, tile

    def __call__(self, pixels: Tensor) -> tuple[Value, Tensor] | None:
        return _attempt(self._found, pixels)

    def _found(self, pixels: Tensor) -> tuple[Value, Tensor]:
        if self._evaluate is None:
            self._evaluate = problem.evaluation(
                self._size, self._plan, replace(self.tools, tile=self.tile)
            )
            allocator.give_back_memory()
        found = self._evaluate(pixels)
        self.tools.tidy()
        return found

    def reduce_memory(self, disk_first: bool = False) -> str:
        """Hold less from here on, by the first way that is left, and say how; "" where none is."""
        self._evaluate = None
        allocator.give_back_memory()
        return self._keep_one() or (
            (self._to_disk() or self._cut()) if disk_first else (self._cut() or self._to_disk())
        )

    def _keep_one(self) -> str:
        if self.tools.kept == 1 or len(self.tools.network.grid(self._size, self.tile)) == 1:
            return ""
        self.tools = replace(self.tools, kept=1)
        return "with the maps of one tile at a time"

    def _cut(self) -> str:
        smaller = min(self.tile or self._size.long_side, self._size.long_side) // 2
        if smaller < LEAST_TILE:
            return ""
        self.tile = smaller
        return f"in tiles of {smaller} px, which give the same picture to rounding"

    def _to_disk(self) -> str:
        if self.tools.disk is None:
            return ""
        try:
            targets, history = self.tools.disk(), self.tools.disk()
        except OSError:  # as where the cache cannot be written
            self.tools = replace(self.tools, disk=None)
            return ""
        self.tools = replace(self.tools, targets=targets, history=history, disk=None)
        return "with what can wait on disk"


def _attempt(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T | None:
    """What the work gives; None where memory ran out in it, and all that it held is let go of."""
    try:
        return work(*given, **named)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    return None
