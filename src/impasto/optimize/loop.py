"""The search: a generator of (event, state) pairs over all stages of a plan.

Stop iterating to cancel. Pass a state to resume.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from impasto.errors import ran_out_of_memory
from impasto.events import Event, Failed, Finished, StageDone, Started, Stepped, Warned
from impasto.geometry import Size
from impasto.hardware import allocator
from impasto.optimize import loss, solver_factory, upscale
from impasto.optimize.execution import LEAST_TILE, Execution
from impasto.optimize.octaves import Evaluate
from impasto.optimize.problem import Problem, first_pixels
from impasto.optimize.solver import Solver, add_to_average
from impasto.optimize.state import State
from impasto.optimize.terms import can_be_tiled
from impasto.optimize.tiling import LossValue
from impasto.planning.schedule import Stage
from impasto.recipe.records import Recipe

P = ParamSpec("P")
T = TypeVar("T")
Clock = Callable[[], float]

# A search diverges when its loss is this many times the lowest of its stage, so many evaluations
# in a row. A single step that was too long is normal: torch's L-BFGS begins so from noise.
DIVERGENCE_FACTOR, MAX_HIGH_LOSSES = 3.0, 3
# A loss this small is rounding; where every target is met it may even be below zero.
ROUNDING = 1e-6
# Each restart begins at the best pixels with half the step.
MAX_RESTARTS = 4
# Root mean square of a change that is invisible: half of an 8-bit level.
INVISIBLE = 0.5 / 255


def iterate(
    problem: Problem,
    execution: Execution | None = None,
    state: State | None = None,
    clock: Clock = time.perf_counter,
) -> Iterator[tuple[Event, State]]:
    """Search for the pixels of the lowest loss, stage by stage.

    Yields (event, state) at the start and the end of each stage and after every step. A step is
    one evaluation and one move of the solver. ``Finished`` comes with the picture as it will be
    written, clamped to 0..1, and its loss. ``Failed`` is the last event of a search that cannot go
    on, and comes with the best state.

    A diverging search restarts from its best pixels with half the step. A converged one ends its
    stage. The next stage starts from the stage's best pixels, or from its average. When memory
    runs out, the step is repeated in smaller tiles or with tensors stored on disk.
    """
    begin = clock()

    def seconds() -> float:
        return clock() - begin

    execution = execution or Execution()
    if state is None:
        state = State(first_pixels(problem, execution), tile=execution.tile)
    else:
        state = state.copied()
    evaluation = _Evaluation(problem, replace(execution, tile=state.tile), problem.plan.size)
    for index in range(state.stage, len(problem.plan.stages)):
        size = problem.plan.stages[index].size
        evaluation = _Evaluation(problem, evaluation.execution, size)
        after = yield from _stage(index, state, evaluation, seconds)
        if after is None:
            return
        state = after
    yield from _finish(state, evaluation, seconds)


class _Evaluation:
    """The loss of one size, built when it is first needed."""

    def __init__(self, problem: Problem, execution: Execution, size: Size) -> None:
        self.problem, self.execution, self.size = problem, execution, size
        self._function: Evaluate | None = None

    def function(self) -> Evaluate | None:
        """The function from pixels to loss and gradient; None if memory ran out building it."""
        if self._function is None:
            self._function = _attempt(loss.evaluation, self.size, self.problem, self.execution)
            allocator.give_back_memory()
        return self._function

    def reduce_memory(self, disk_first: bool = False) -> str:
        """Change to an execution that needs less memory; return the change in words, or ""."""
        self._function = None
        network, tiling = self.problem.network, can_be_tiled(self.problem.recipe)
        change = self.execution.reduced(network, self.size, disk_first, tiling)
        if change is None:
            return ""
        self.execution, message = change
        return message

    def out_of_memory(self, place: str) -> Failed:
        """The event of a search that ran out of memory and cannot use less."""
        tiles = f", even in tiles of {LEAST_TILE} px" if can_be_tiled(self.problem.recipe) else ""
        return Failed(f"Memory ran out in {place}{tiles}.", memory=True)


# ---- one stage -----------------------------------------------------------------------------------


def _stage(
    index: int, before: State, evaluation: _Evaluation, seconds: Clock
) -> Generator[tuple[Event, State], None, State | None]:
    """Run one stage; return the state after it, or None if it failed.

    Large tensors are freed as soon as they are not needed: locals of a generator stay alive.
    """
    stage, state = evaluation.problem.plan.stages[index], before
    allocator.give_back_memory()  # before this stage allocates
    if tuple(state.pixels.shape[-2:]) != tuple(stage.size):
        upscaled = _attempt(_upscaled, state, stage.size)
        if upscaled is None:
            message = f"Memory ran out before the first step at {stage.size}."
            yield Failed(message, memory=True), state
            return None
        state = upscaled
        del upscaled
    yield Started(index, stage.size, stage.steps), state
    started = seconds()
    steps = _steps(index, state, evaluation, seconds)
    for event, state in steps:
        if isinstance(event, Failed):
            yield event, (before if state.best is None else state)
            return None
        yield event, state
    last = index == len(evaluation.problem.plan.stages) - 1
    state = _after_stage(index, state, evaluation.problem.recipe, last)
    yield StageDone(index, stage.size, seconds() - started), state
    return state


def _upscaled(state: State, size: Size) -> State:
    """The state before the first step of a size, from the state of a smaller one."""
    pixels = upscale.upscale_pixels(state.pixels, size)
    return replace(state, pixels=pixels, memory=upscale.upscale_memory(state.memory, size))


def _after_stage(index: int, state: State, recipe: Recipe, last: bool) -> State:
    """The state after a stage.

    The pixels after the last move have not been evaluated. The last stage keeps them, with the best
    pixels as a fallback for the final evaluation. Any other stage, and a line search, which
    evaluates all that it accepts, ends with the best pixels.
    """
    end = state if last and not recipe.solver.uses_line_search else state.at_best()
    after = State(end.picture, index + 1, 0, end.evaluations, loss=end.loss, tile=end.tile)
    if last:
        return replace(after, best=end.best, lowest=end.lowest)
    return replace(after, memory=upscale.carried_memory(recipe.solver, state.memory))


def _steps(
    index: int, state: State, evaluation: _Evaluation, seconds: Clock
) -> Iterator[tuple[Event, State]]:
    """The steps of one stage, from the step of ``state`` on."""
    stage = evaluation.problem.plan.stages[index]
    patience = evaluation.problem.recipe.schedule.patience
    patience = patience if patience < stage.steps else 0
    state = replace(state, stage=index)
    search: _Search | None = None
    while state.step < stage.steps:
        place = f"step {state.step + 1} of {stage.steps} at {stage.size}"
        search = search or _attempt(_begin, state, evaluation, patience > 0)
        outcome = _step(state, search, evaluation) if search else None
        if outcome is None or outcome.moved is None:
            state, search, change = _with_less_memory(state, search, outcome, evaluation)
            if not change:
                yield evaluation.out_of_memory(place), state.at_best()
                return
            yield Warned(f"Memory ran out in {place}: continuing {change}."), state
            continue
        state, restart = outcome.state, ""
        if not outcome.moved:
            restart = f"The loss {_divergence(outcome.loss, state.lowest)} in {place}"
            if state.best is None or state.restarts == MAX_RESTARTS:
                yield Failed(f"{restart}."), state.at_best()
                return
            state, search = replace(state.at_best(), restarts=state.restarts + 1), None
        state = replace(state, step=state.step + 1, evaluations=state.evaluations + 1)
        stepped = _stepped(index, state, seconds())
        state, converged = _check_convergence(state, stage, patience)
        if restart:
            message = f"{restart}: continuing from the best pixels so far with half the step."
            yield Warned(message), state
        yield stepped, state
        if converged:
            yield Warned(converged), state
    if state.high_loss_streak:
        message = f"The loss {_divergence(state.loss, state.lowest)} in the last steps at "
        yield Warned(f"{message}{stage.size}; the best pixels are used."), state


def _with_less_memory(
    state: State, search: _Search | None, outcome: _Outcome | None, evaluation: _Evaluation
) -> tuple[State, _Search | None, str]:
    """The state and search to repeat a step with less memory, and the change in words, or ""."""
    if outcome is not None:  # a move that was broken off leaves the solver's memory inconsistent
        state = outcome.state.at_best()
    history = evaluation.execution.history
    change = evaluation.reduce_memory(disk_first=search is None or outcome is not None)
    if outcome is not None or evaluation.execution.history is not history:
        search = None
    return replace(state, tile=evaluation.execution.tile) if change else state, search, change


def _stepped(index: int, state: State, seconds: float) -> Stepped:
    value = state.loss
    return Stepped(
        index, state.step, state.evaluations, value.total, value.terms, seconds, value.layers
    )


# ---- one step ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Search:
    """The tensors that a stage allocates before its first step; they become the state's."""

    solver: Solver
    best: Tensor
    reference: Tensor | None
    average: Tensor | None
    decay: float  # of the average


def _begin(state: State, evaluation: _Evaluation, checks_convergence: bool) -> _Search:
    settings, step_scale = evaluation.problem.recipe.solver, 0.5**state.restarts
    pixels = state.pixels.clone()
    solver = solver_factory.make_solver(
        settings,
        pixels,
        state.memory,
        step_scale=step_scale,
        store=evaluation.execution.history,
    )
    best = torch.empty_like(pixels) if state.best is None else state.best
    reference, average = state.reference, state.average
    if checks_convergence and reference is None:
        reference = state.picture.clone()
    if settings.average and average is None:
        average = pixels.clone()
    return _Search(solver, best, reference, average, settings.average)


@dataclass(frozen=True)
class _Outcome:
    """The state after one evaluation and one move, and the loss that was found.

    ``moved``: True; False if the loss diverged or the pixels stopped being numbers; None if memory
    ran out in the move.
    """

    state: State
    loss: LossValue
    moved: bool | None


def _step(state: State, search: _Search, evaluation: _Evaluation) -> _Outcome | None:
    """Evaluate and move once. Returns None if memory ran out in the evaluation."""
    solver = search.solver
    result = None
    if function := evaluation.function():
        with _out_of_memory_suppressed():
            result = function(solver.pixels)
    if result is None:
        return None
    evaluation.execution.release_memory()
    value, gradient = result
    state = replace(state, reference=search.reference)
    if value.finite and value.total <= state.lowest.total:
        state = replace(state, best=search.best.copy_(solver.pixels), lowest=value)
    if solver.accepts(gradient, value.total):  # a trial of a line search may be anywhere
        streak = 0 if _acceptable(value, state.lowest) else state.high_loss_streak + 1
        if streak == MAX_HIGH_LOSSES or not value.finite:
            return _Outcome(state, value, False)
        state = _averaged(replace(state, loss=value, high_loss_streak=streak), search)
    moved = _attempt(_move, solver, gradient, value.total)
    if moved:
        state = replace(state, pixels=solver.iterate, memory=solver.memory())
    return _Outcome(state, value, moved)


def _averaged(state: State, search: _Search) -> State:
    """The state with the evaluated pixels added to its average, if it has one."""
    if search.average is None or state.high_loss_streak:
        return state
    count = state.averaged + 1
    average = add_to_average(search.average, search.solver.pixels, search.decay, count)
    return replace(state, average=average, averaged=count)


def _move(solver: Solver, gradient: Tensor, loss_value: float) -> bool:
    """Whether the solver's move led to finite pixels."""
    solver.move(gradient, loss_value)
    return bool(solver.pixels.isfinite().all())


def _check_convergence(state: State, stage: Stage, patience: int) -> tuple[State, str]:
    """Compare with the reference every ``patience`` steps.

    Returns the state, at its last step if nothing visible has changed, and a message if so.
    """
    due = patience and not state.step % patience and state.step != stage.steps
    if state.reference is None or state.high_loss_streak or not due:
        return state, ""
    distance = _attempt(torch.dist, state.picture, state.reference)
    step, message = state.step, ""
    if distance is not None and float(distance) < INVISIBLE * state.reference.numel() ** 0.5:
        message = f"Nothing visible has changed in {patience} evaluations at {stage.size}: this "
        message += f"size is done after {step} of {stage.steps}."
        step = stage.steps  # a run that resumes here does not continue the stage either
    return replace(state, step=step, reference=state.reference.copy_(state.picture)), message


# ---- the final evaluation ------------------------------------------------------------------------


def _finish(state: State, evaluation: _Evaluation, seconds: Clock) -> Iterator[tuple[Event, State]]:
    """Evaluate the picture as it will be written, or the best pixels if the last move diverged.

    The best pixels only need a finite loss: clamping to 0..1 may multiply a loss that is almost 0.
    """
    for pixels in (state.pixels, state.best):
        if pixels is None:
            continue
        while (result := _evaluate_clamped(pixels, evaluation)) is None:
            change = evaluation.reduce_memory()
            if not change:
                yield evaluation.out_of_memory("the final evaluation"), state.at_best()
                return
            state = replace(state, tile=evaluation.execution.tile)
            message = f"Memory ran out in the final evaluation: continuing {change}."
            yield Warned(message), state
        clamped, value = result
        state = replace(state, evaluations=state.evaluations + 1)
        if _acceptable(value, state.lowest) or (pixels is state.best and value.finite):
            tile = evaluation.execution.tile
            state = State(clamped, state.stage, 0, state.evaluations, loss=value, tile=tile)
            yield Finished(state.evaluations, value.total, value.terms, seconds()), state
            return
    yield Failed("The loss of the finished picture is not a number."), state.at_best()


def _evaluate_clamped(pixels: Tensor, evaluation: _Evaluation) -> tuple[Tensor, LossValue] | None:
    """The pixels clamped to 0..1 and their loss; None if memory ran out."""
    clamped = _attempt(torch.clamp, pixels, 0.0, 1.0)
    function = evaluation.function() if clamped is not None else None
    result = _attempt(function, clamped) if function and clamped is not None else None
    if clamped is None or result is None:
        return None
    evaluation.execution.release_memory()
    return clamped, result[0]


def _acceptable(value: LossValue, lowest: LossValue) -> bool:
    return value.finite and value.total <= DIVERGENCE_FACTOR * max(lowest.total, 0.0) + ROUNDING


def _divergence(value: LossValue, lowest: LossValue) -> str:
    if value.finite and not _acceptable(value, lowest):
        return f"rose from {lowest.total:.3g} to {value.total:.3g}"
    return "stopped being a number"


def _attempt(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """The result of ``work``, or None if memory ran out; what ``work`` held is freed then."""
    with _out_of_memory_suppressed():
        return work(*args, **kwargs)
    return None


@contextmanager
def _out_of_memory_suppressed() -> Iterator[None]:
    """Suppress the errors of an allocation that failed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
