"""The search loop: same bytes, interrupted or not; bad losses; too little memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto import images
from impasto.events import Event, Failed, Finished, StageDone, Started, Stepped, Warned
from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.objectives.smooth import Smooth
from impasto.optimize import execution as execution_module
from impasto.optimize import first_order, lbfgs, loop, loss, solver_factory, upscale
from impasto.optimize.execution import Execution
from impasto.optimize.line_search import MAX_EVALUATIONS
from impasto.optimize.loop import MAX_HIGH_LOSSES, MAX_RESTARTS, iterate
from impasto.optimize.loss import Evaluate, evaluation
from impasto.optimize.problem import Problem, first_pixels
from impasto.optimize.solver import Solver
from impasto.optimize.state import State
from impasto.optimize.tiling import LossValue
from impasto.planning.schedule import Plan, Stage
from impasto.storage.tensors import DiskStore, InMemoryTensor, MemoryStore, StoredTensor
from tests.support.loss_setup import (
    LAYERS,
    PLAN,
    WrappedNetwork,
    make_problem,
    smooth_pixels,
    with_recipe,
)

Stream = list[tuple[Event, State]]


@pytest.fixture(scope="module")
def problem(network_of: Callable[..., Network]) -> Problem:
    return make_problem(network_of)


def with_solver(problem: Problem, solver: str, **settings: object) -> Problem:
    return with_recipe(
        problem, solver=solver, solver_rate=0.5 if solver == "lbfgs" else 0.02, **settings
    )


def frozen(state: State) -> State:
    """A copy: the loop overwrites the tensors of a state."""
    pictures = {name: getattr(state, name) for name in ("best", "reference", "average")}
    copies = {name: picture.clone() for name, picture in pictures.items() if picture is not None}
    memory = {name: InMemoryTensor(stored.load().clone()) for name, stored in state.memory.items()}
    return replace(state, pixels=state.pixels.clone(), memory=memory, **copies)


def watch(
    problem: Problem,
    state: State | None = None,
    plan: Plan = PLAN,
    execution: Execution | None = None,
) -> Stream:
    """The whole stream, with copies of the states."""
    ticks = iter(range(10_000))
    stream = iterate(
        replace(problem, plan=plan), execution, state, clock=lambda: float(next(ticks))
    )
    return [(event, frozen(state)) for event, state in stream]


def raw(state: State) -> bytes:
    return state.pixels.numpy().tobytes()


def losses(stream: Stream) -> list[float]:
    return [event.loss for event, _ in stream if isinstance(event, Stepped)]


def warnings(stream: Stream) -> list[str]:
    return [event.message for event, _ in stream if isinstance(event, Warned)]


def check_resuming(
    problem: Problem, plan: Plan = PLAN, uninterrupted: Stream | None = None, since: int = 0
) -> Stream:
    """Resumed after any event from ``since`` on, a run makes the same steps to the same end.

    Returns the uninterrupted stream.
    """
    uninterrupted = uninterrupted or watch(problem, plan=plan)
    end, steps = uninterrupted[-1], losses(uninterrupted)
    assert isinstance(end[0], Finished)
    for index, (event, state) in enumerate(uninterrupted[:-1]):
        if index < since:
            continue
        resumed = watch(problem, state, plan)
        last = resumed[-1][0]
        assert raw(resumed[-1][1]) == raw(end[1]), f"after {event}"
        assert isinstance(last, Finished)
        assert (last.loss, last.evaluations) == (end[0].loss, end[0].evaluations)
        assert losses(resumed) == steps[state.evaluations :]
    return uninterrupted


def kinds(stream: Stream) -> list[str]:
    return [type(event).__name__ for event, _ in stream]


# ---- the stream ----------------------------------------------------------------------------------


def test_events_come_in_order_with_their_states(problem: Problem):
    stream = watch(problem)
    assert kinds(stream) == [
        *("Started", *["Stepped"] * 4, "StageDone"),
        *("Started", *["Stepped"] * 5, "StageDone"),
        "Finished",
    ]
    sizes = [tuple(state.pixels.shape) for _, state in stream]
    assert sizes == [(1, 3, 20, 25)] * 6 + [(1, 3, 37, 45)] * 8
    assert stream[0][0] == Started(0, Size(20, 25), 4)
    assert stream[6][0] == Started(1, Size(37, 45), 5)
    steps = [event for event, _ in stream if isinstance(event, Stepped)]
    assert [(step.stage, step.step) for step in steps] == [
        *((0, n) for n in range(1, 5)),
        *((1, n) for n in range(1, 6)),
    ]
    assert [step.evaluations for step in steps] == list(range(1, 10))
    assert [step.seconds for step in steps] == sorted({step.seconds for step in steps})
    for event, state in stream:
        if isinstance(event, Stepped):
            assert (state.stage, state.step, state.evaluations) == (
                event.stage,
                event.step,
                event.evaluations,
            )
            assert state.loss.total == event.loss
            assert event.loss == pytest.approx(sum(event.terms.values()), rel=1e-6)
            assert set(event.terms) == {"content", "style", "smooth"}
        if isinstance(event, StageDone):
            assert (state.stage, state.step, state.memory) == (event.stage + 1, 0, {})


def test_a_step_is_one_evaluation(problem: Problem):
    counted = faulty(problem, 10**9, "nan")
    assert kinds(watch(counted)).count("Stepped") == PLAN.evaluations
    assert counted.network.calls == PLAN.evaluations + 1  # type: ignore[attr-defined] # and the final evaluation


def test_a_steps_loss_is_that_of_the_picture_before_it(problem: Problem):
    stream = watch(problem)
    evaluate = evaluation(Size(20, 25), problem, Execution())
    for (_, before), (event, _) in pairwise(stream[:5]):
        assert isinstance(event, Stepped)
        assert event.loss == evaluate(before.pixels)[0].total


def test_finished_is_the_loss_of_the_picture_as_it_will_be_written(problem: Problem):
    event, state = watch(problem)[-1]
    assert isinstance(event, Finished)
    assert state.pixels.min() >= 0 and state.pixels.max() <= 1
    value, _ = evaluation(Size(37, 45), problem, Execution())(state.pixels)
    assert (event.loss, event.terms) == (value.total, value.terms)
    assert state.loss == value
    assert event.evaluations == state.evaluations == 10


def test_overshoot_is_clamped_before_the_final_evaluation(problem: Problem):
    beyond = State(torch.linspace(-1, 2, 3 * 37 * 45).view(1, 3, 37, 45), stage=2, evaluations=9)
    ((event, state),) = watch(problem, beyond)
    assert isinstance(event, Finished)
    assert torch.equal(state.pixels, beyond.pixels.clamp(0, 1))
    assert (
        event.loss
        == evaluation(Size(37, 45), problem, Execution())(beyond.pixels.clamp(0, 1))[0].total
    )
    assert event.loss != evaluation(Size(37, 45), problem, Execution())(beyond.pixels)[0].total


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise", "style"])
def test_the_loss_falls(problem: Problem, solver: str, start: str):
    plan = Plan((Stage(Size(20, 25), 15), Stage(Size(37, 45), 15)), 1.0)
    stream = watch(
        with_recipe(
            problem, solver=solver, solver_rate=1 if solver == "lbfgs" else 0.02, init=start
        ),
        plan=plan,
    )
    first = [event.loss for event, _ in stream if isinstance(event, Stepped) and event.step == 1]
    last = stream[-1][0]
    assert isinstance(last, Finished)
    assert last.loss < 0.9 * min(first)


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
def test_a_search_in_tiles_finishes(problem: Problem, statistic: str):
    assert (
        kinds(watch(with_recipe(problem, style_statistics=statistic), execution=Execution(16)))[-1]
        == "Finished"
    )


def test_seconds_are_those_of_the_given_clock(problem: Problem):
    stream = [event for event, _ in iterate(problem, clock=lambda: 5.0)]
    assert {
        event.seconds for event in stream if isinstance(event, Stepped | StageDone | Finished)
    } == {0.0}


# ---- same seed, same bytes -----------------------------------------------------------------------


@pytest.mark.parametrize("start", ["content", "noise", "style"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_the_same_recipe_gives_the_same_bytes_whatever_torchs_seed(
    problem: Problem, solver: str, start: str
):
    changed = with_recipe(problem, solver=solver, solver_rate=0.1, init=start)
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        ends.append(raw(watch(changed)[-1][1]))
        assert torch.equal(torch.get_rng_state(), before)
    assert ends[0] == ends[1]


def test_the_input_pictures_are_not_changed(problem: Problem):
    # The arrays are read-only; a network that shares their memory could still change them.
    pictures = [problem.photo, *problem.paintings]
    copies = [array.copy() for array in pictures]
    same = Plan((Stage(Size(*problem.photo.shape[:2]), 3),), 1.0)  # where nothing is resized
    watch(problem, plan=same)
    assert all(np.array_equal(array, copy) for array, copy in zip(pictures, copies, strict=True))


def test_a_resumed_state_is_not_changed(problem: Problem):
    changed = with_recipe(problem, patience=2, solver_average=0.9)
    _, state = watch(changed)[3]
    copy = frozen(state)
    watch(changed, state)
    for name in ("pixels", "best", "reference", "average"):
        assert torch.equal(getattr(state, name), getattr(copy, name)), name
    assert set(state.memory) == set(copy.memory)
    assert all(
        torch.equal(state.memory[name].load(), copy.memory[name].load()) for name in copy.memory
    )


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_resumed_after_any_event_it_ends_with_the_same_bytes(problem: Problem, solver: str):
    changed = with_solver(problem, solver, solver_history=2)
    check_resuming(changed)


SETTINGS: dict[str, dict[str, object]] = {
    "sgd": {
        "solver": "sgd",
        "solver_rate": 100,
        "solver_rate_decay": 0.5,
        "solver_rate_decay_steps": 3,
    },
    "carried": {
        "solver": "adam",
        "solver_rate": 0.02,
        "solver_carry": True,
        "solver_rate_decay": 0.9,
    },
    "averaged": {
        "solver": "adam",
        "solver_rate": 0.02,
        "solver_average": 0.8,
        "solver_carry": True,
        "patience": 2,
    },
    "averaged lbfgs": {"solver_average": 0.5, "solver_clamp": "yes", "solver_history": 2},
    "searching": {"solver_line_search": "strong-wolfe", "solver_history": 2, "solver_rate": 5},
    "searching, averaged": {
        "solver_line_search": "strong-wolfe",
        "solver_average": 0.5,
        "solver_rate": 0.01,
    },
    "searching as torch": {
        "solver_line_search": "strong-wolfe",
        "solver_preconditioner": "none",
        "patience": 2,
    },
    "half noise": {"schedule_noise": 0.5, "schedule_noise_kind": "uniform", "solver_rate": 0.5},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_resumed_with_any_settings_it_ends_with_the_same_bytes(problem: Problem, name: str):
    changed = with_recipe(problem, **SETTINGS[name])
    uninterrupted = check_resuming(changed)
    assert raw(uninterrupted[-1][1]) != raw(watch(problem)[-1][1])
    assert raw(watch(changed)[-1][1]) == raw(uninterrupted[-1][1])


def test_stopping_the_iteration_stops_the_search(problem: Problem):
    stream = iterate(problem)
    assert isinstance(stream, Iterator)
    for event, state in stream:
        if isinstance(event, Stepped) and event.step == 2:
            stopped = frozen(state)
            break
    stream.close()  # type: ignore[attr-defined]
    assert raw(watch(problem, stopped)[-1][1]) == raw(watch(problem)[-1][1])


# ---- a search that diverges ----------------------------------------------------------------------


class Faulty(WrappedNetwork):
    """A network with a fault after ``good`` evaluations, in ``lasting`` of them.

    Calls without gradients, which measure targets, are not counted.
    """

    def __init__(
        self,
        network: Network,
        good: int,
        fault: Callable[[Tensor], Tensor],
        lasting: float = float("inf"),
    ) -> None:
        super().__init__(network)
        self.good, self.fault, self.lasting = good, fault, lasting
        self.calls = 0

    def __call__(self, picture: Tensor, **options: Any) -> Mapping[str, Tensor]:
        features = super().__call__(picture, **options)
        if not picture.requires_grad:
            return features
        self.calls += 1
        wrong = self.good < self.calls <= self.good + self.lasting
        return {name: self.fault(map) for name, map in features.items()} if wrong else features


def faulty(problem: Problem, good: int, fault: str, lasting: float = float("inf")) -> Problem:
    return replace(problem, network=Faulty(problem.network, good, FAULTS[fault], lasting))  # type: ignore[arg-type]


class _BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("nan")


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nan": lambda x: x * float("nan"),
    "inf": lambda x: x + float("inf"),
    "overflow": lambda x: x * 1e200,
    "far": lambda x: x * 1e3,
    "gradient": _BadGradient.apply,
}
NOT_FINITE = [name for name in FAULTS if name != "far"]
# The number of evaluations after which the search restarts.
EVALUATIONS = {name: MAX_HIGH_LOSSES if name == "far" else 1 for name in FAULTS}
LONG = Plan((Stage(Size(20, 25), 8), Stage(Size(37, 45), 12)), 1.0)


def check_loss(problem: Problem, state: State) -> None:
    """The state's loss is finite, and is that of its pixels."""
    assert torch.isfinite(state.pixels).all()
    value, _ = evaluation(Size(*state.pixels.shape[-2:]), problem, Execution())(state.pixels)
    assert value.finite
    assert value.total == state.loss.total


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("good", [1, 10])
def test_a_lasting_fault_ends_with_the_best_pixels_so_far(
    problem: Problem, statistic: str, solver: str, fault: str, good: int
):
    changed = with_solver(problem, solver, style_statistics=statistic)
    first, second = LONG.stages
    more = MAX_RESTARTS * MAX_HIGH_LOSSES
    plan = replace(
        LONG, stages=(replace(first, steps=8 + more * (good < 8)), replace(second, steps=12 + more))
    )
    stream = watch(faulty(changed, good, fault), plan=plan)
    event, state = stream[-1]
    assert isinstance(event, Failed)
    cause = "rose from" if fault == "far" else "stopped being a number"
    assert cause in event.message
    assert kinds(stream).count("Failed") == 1
    assert [cause in message for message in warnings(stream)] == [True] * MAX_RESTARTS
    # A bad gradient ends it too, before the pixels that it made are yielded.
    assert (
        kinds(stream).count("Stepped")
        == good + MAX_RESTARTS * EVALUATIONS[fault] + EVALUATIONS[fault] - 1
    )
    assert all(state.pixels.isfinite().all() for _, state in stream)
    check_loss(changed, state)
    assert all(np.isfinite(losses(stream)))
    assert state.loss.total == min(losses(stream)[0 if good < 8 else 8 :])
    if fault != "gradient":  # the picture itself had a loss
        assert state.loss.total == min(losses(stream)[0 if good < 8 else 8 : good])


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", NOT_FINITE)
def test_a_fault_in_the_first_step_of_a_size_ends_with_the_best_pixels_of_the_size_before(
    problem: Problem, statistic: str, solver: str, fault: str
):
    changed = with_solver(problem, solver, style_statistics=statistic)
    stream = watch(faulty(changed, 8, fault), plan=LONG)
    event, state = stream[-1]
    assert isinstance(event, Failed) and "stopped being a number" in event.message
    check_loss(changed, state)
    if fault == "gradient":
        assert tuple(state.pixels.shape[-2:]) == (37, 45)
        return
    assert warnings(stream) == [] and kinds(stream).count("Stepped") == 8
    assert state.loss.total == min(losses(stream)) and tuple(state.pixels.shape[-2:]) == (20, 25)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("good", [3, 13])
def test_a_passing_fault_restarts_from_the_best_pixels_and_hardly_changes_the_result(
    problem: Problem, solver: str, fault: str, good: int
):
    changed, plan = with_solver(problem, solver), LONG
    if solver == "lbfgs":  # its restart needs time to learn again
        plan = replace(LONG, stages=(LONG.stages[0], replace(LONG.stages[1], steps=30)))
    uninterrupted, stream = (
        watch(changed, plan=plan),
        watch(faulty(changed, good, fault, lasting=EVALUATIONS[fault]), plan=plan),
    )
    (message,) = warnings(stream)
    assert ("rose from" in message) == (fault == "far") and "half the step" in message
    assert [kind for kind in kinds(stream) if kind != "Warned"] == kinds(uninterrupted)
    assert losses(stream)[:good] == losses(uninterrupted)[:good]
    measured = good + (fault == "gradient")  # the picture itself had a loss
    back = good + EVALUATIONS[fault] - 1
    assert losses(stream)[back] == min(losses(uninterrupted)[0 if good < 8 else 8 : measured])
    assert all(loss > 3 * losses(stream)[back] for loss in losses(stream)[good:back])
    end, expected = stream[-1][0], uninterrupted[-1][0]
    assert isinstance(end, Finished) and isinstance(expected, Finished)
    assert end.loss < 1.25 * expected.loss < 0.8 * losses(uninterrupted)[8]
    check_loss(changed, stream[-1][1])


def test_a_restart_begins_at_the_best_pixels_with_an_empty_memory(problem: Problem):
    stream = watch(faulty(problem, 13, "far", lasting=MAX_HIGH_LOSSES), plan=LONG)
    position = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    before, after = stream[position - 1][1], stream[position][1]
    best = min(losses(stream)[8:13])
    assert after.loss.total == after.lowest.total == best
    assert after.best is not None and torch.equal(after.pixels, after.best)
    assert not torch.equal(after.pixels, before.pixels)
    assert "step" in before.memory and "step" not in after.memory
    assert (before.restarts, after.restarts) == (0, 1)
    # The next move is half as long as that of a search that starts there.
    alone = replace(after, restarts=0, memory={})
    streams = (watch(problem, state, LONG) for state in (alone, after))
    full, half = (
        next(state for event, state in stream if isinstance(event, Stepped)) for stream in streams
    )
    assert torch.allclose(half.pixels - after.pixels, (full.pixels - after.pixels) / 2, atol=1e-7)
    assert not torch.allclose(half.pixels, after.pixels, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("good", [3, 10])
def test_resumed_after_a_restart_it_ends_with_the_same_bytes(
    problem: Problem, solver: str, good: int
):
    changed = with_solver(problem, solver)
    stream = watch(faulty(changed, good, "far", lasting=MAX_HIGH_LOSSES), plan=LONG)
    since = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    check_resuming(changed, LONG, stream, since)


def test_each_restart_halves_the_step_until_the_next_size(problem: Problem):
    plan = replace(LONG, stages=(replace(LONG.stages[0], steps=12), LONG.stages[1]))
    stream = watch(faulty(problem, 3, "far", lasting=2 * MAX_HIGH_LOSSES), plan=plan)
    assert len(warnings(stream)) == 2
    restarts = [state.restarts for event, state in stream if isinstance(event, Stepped)]
    assert (
        restarts
        == [0] * (2 + MAX_HIGH_LOSSES)
        + [1] * MAX_HIGH_LOSSES
        + [2] * (10 - 2 * MAX_HIGH_LOSSES)
        + [0] * 12
    )
    assert isinstance(stream[-1][0], Finished)


def test_a_size_that_ends_with_a_high_loss_warns_and_its_best_pixels_are_used(problem: Problem):
    stream = watch(faulty(problem, 7, "far", lasting=1), plan=LONG)
    (message,) = warnings(stream)
    assert (
        "rose from" in message and "in the last steps at 25x20; the best pixels are used" in message
    )
    done = next(state for event, state in stream if isinstance(event, StageDone))
    assert done.loss.total == min(losses(stream)[:8])


def test_a_last_move_that_diverged_is_replaced_by_the_best_pixels(problem: Problem):
    for fault in ("far", "nan", "gradient"):
        changed = with_recipe(problem, style_statistics="gram")
        stream = watch(faulty(changed, LONG.evaluations, fault, lasting=1), plan=LONG)
        event, state = stream[-1]
        assert isinstance(event, Finished)
        if fault == "gradient":  # the last gradient is not used
            assert event.evaluations == LONG.evaluations + 1
            continue
        best = stream[-2][1].best
        assert best is not None and torch.equal(state.pixels, best.clamp(0, 1))
        assert not torch.equal(state.pixels, stream[-2][1].pixels.clamp(0, 1))
        assert event.evaluations == LONG.evaluations + 2
        check_loss(changed, state)
        assert event.loss < 1.1 * min(losses(stream)[8:])


class DivergingSolver:
    """A solver whose move of one number leads far away but stays finite."""

    moves = 0

    def __init__(self, solver: Solver, diverging_move: int) -> None:
        self.solver, self.diverging_move = solver, diverging_move

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)

    def move(self, gradient: Tensor, loss: float = 0.0) -> None:
        self.solver.move(gradient, loss)
        type(self).moves += 1
        if type(self).moves == self.diverging_move:
            self.solver.pixels.mul_(-40)


def diverge_at_move(monkeypatch: pytest.MonkeyPatch, move: int) -> None:
    made = solver_factory.make_solver
    monkeypatch.setattr(DivergingSolver, "moves", 0)
    monkeypatch.setattr(
        solver_factory,
        "make_solver",
        lambda *args, **options: DivergingSolver(made(*args, **options), move),
    )


def test_the_best_evaluated_pixels_are_upscaled(problem: Problem):
    stream = watch(problem, plan=LONG)
    position = kinds(stream).index("StageDone")
    done, before = stream[position][1], stream[position - 1][1]
    check_loss(problem, done)
    assert done.loss.total == min(losses(stream)[:8]) and not torch.equal(
        done.pixels, before.pixels
    )
    assert torch.equal(
        stream[position + 1][1].pixels, upscale.upscale_pixels(done.pixels, Size(37, 45))
    )


def test_pixels_of_a_last_move_that_diverged_are_not_upscaled(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
):
    expected = watch(problem, plan=LONG)
    diverge_at_move(monkeypatch, 8)
    stream = watch(problem, plan=LONG)
    position = kinds(stream).index("StageDone")
    assert stream[position - 1][1].pixels.abs().max() > 10 >= stream[position][1].pixels.abs().max()
    assert raw(stream[-1][1]) == raw(expected[-1][1]) and losses(stream) == losses(expected)


def test_best_pixels_that_clamping_makes_much_worse_are_still_finished(problem: Problem):
    changed = with_recipe(problem, style_statistics="gram")
    stream = watch(faulty(changed, LONG.evaluations, "far", lasting=2), plan=LONG)
    event, state = stream[-1]
    best = stream[-2][1].best
    assert (
        isinstance(event, Finished)
        and event.loss == state.loss.total > 100 * stream[-2][1].lowest.total
    )
    assert best is not None and torch.equal(state.pixels, best.clamp(0, 1))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_at_best_returns_the_best_evaluated_pixels(problem: Problem, solver: str):
    stream = watch(with_solver(problem, solver), plan=LONG)
    for index, (event, state) in enumerate(stream):
        if isinstance(event, Stepped):
            check_loss(problem, state.at_best())
            assert state.at_best().loss.total == min(
                losses(stream[: index + 1])[0 if event.stage == 0 else 8 :]
            )
            assert state.at_best().memory == {}


def test_a_final_loss_that_is_not_a_number_fails(problem: Problem):
    changed = with_recipe(problem, style_statistics="gram")
    stream = watch(faulty(changed, 9, "nan"))
    event, state = stream[-1]
    assert isinstance(event, Failed) and "not a number" in event.message
    assert kinds(stream).count("StageDone") == 2
    check_loss(changed, state)
    assert state.loss.total == min(losses(stream)[4:])


def test_a_first_step_that_fails_returns_the_first_pixels(problem: Problem):
    changed = with_recipe(problem, style_statistics="gram")
    stream = watch(faulty(changed, 0, "nan"))
    assert kinds(stream) == ["Started", "Failed"]
    assert torch.equal(stream[-1][1].pixels, first_pixels(changed, Execution()))


@pytest.mark.parametrize("good", [2, 4, 6])
def test_a_failed_run_can_be_resumed_from_its_last_state(problem: Problem, good: int):
    changed = with_recipe(problem, style_statistics="gram")
    plan = Plan(tuple(Stage(stage.size, stage.steps + MAX_RESTARTS) for stage in PLAN.stages), 1.0)
    event, state = watch(
        faulty(changed, good if good < 4 else good + MAX_RESTARTS, "nan"), plan=plan
    )[-1]
    assert isinstance(event, Failed)
    assert kinds(watch(changed, state, plan))[-1] == "Finished"


def script_losses(monkeypatch: pytest.MonkeyPatch, loss_at: Callable[[int], float]) -> None:
    """Every evaluation returns the loss of its index, and a gradient of zeros."""
    count = iter(range(10_000))

    def made(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        return lambda pixels: (LossValue(loss_at(next(count)), {}), torch.zeros_like(pixels))

    monkeypatch.setattr(loss, "evaluation", made)


@pytest.mark.parametrize(
    "loss_at",
    [lambda n: 0.0, lambda n: (-1) ** n * 1e-15 * n, lambda n: -1e-15, lambda n: 1e-12 * n],
)
def test_losses_that_are_rounding_do_not_diverge(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, loss_at: Callable[[int], float]
):
    script_losses(monkeypatch, loss_at)
    stream = watch(problem)
    assert kinds(stream)[-1] == "Finished" and warnings(stream) == []


def test_a_loss_may_rise_a_little(problem: Problem, monkeypatch: pytest.MonkeyPatch):
    script_losses(monkeypatch, lambda n: 2.9 if n % 2 else 1.0)
    assert warnings(watch(problem)) == []


def test_a_short_streak_of_high_losses_causes_no_restart(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
):
    script_losses(monkeypatch, lambda n: 3.1 if n in (3, 4) else 1.0)
    stream = watch(problem, plan=LONG)
    assert MAX_HIGH_LOSSES == 3 and warnings(stream) == []
    states = [state for event, state in stream if isinstance(event, Stepped)]
    assert [state.high_loss_streak for state in states] == [0] * 3 + [1, 2] + [0] * 15
    assert losses(stream)[3:5] == [3.1, 3.1] and not any(state.restarts for state in states)
    script_losses(monkeypatch, lambda n: 3.1 if n in (3, 4, 5) else 1.0)
    stream = watch(problem, plan=LONG)
    assert len(warnings(stream)) == 1 and losses(stream)[3:7] == [3.1, 3.1, 1.0, 1.0]


# ---- line search, averages, carried memory -------------------------------------------------------

SEARCHING = {"solver_line_search": "strong-wolfe", "style_statistics": "gram"}


@pytest.mark.slow
def test_a_rejected_trial_is_not_divergence(problem: Problem):
    """A trial may have any loss, also NaN, and it is not reported as that of a step."""
    changed = with_recipe(problem, **SEARCHING)
    for fault in FAULTS:
        stream = watch(faulty(changed, 10, fault, lasting=1), plan=LONG)
        assert warnings(stream) == [] and kinds(stream) == kinds(watch(changed, plan=LONG))
        assert losses(stream)[10] == losses(stream)[9]
        assert losses(stream)[8:] == sorted(losses(stream)[8:], reverse=True)
        assert all(state.pixels.isfinite().all() for _, state in stream)


def test_a_lasting_fault_ends_a_line_search_too(problem: Problem):
    changed, plan = (
        with_recipe(problem, patience=0, **SEARCHING),
        Plan((Stage(Size(20, 25), 60),), 1.0),
    )
    stream = watch(faulty(changed, 6, "nan"), plan=plan)
    event, state = stream[-1]
    assert isinstance(event, Failed) and "stopped being a number" in event.message
    assert len(warnings(stream)) == MAX_RESTARTS
    assert (
        6 + 10 + MAX_RESTARTS < kinds(stream).count("Stepped") <= 6 + MAX_EVALUATIONS + MAX_RESTARTS
    )
    assert state.loss.total == min(losses(stream))


@pytest.mark.parametrize("steps", [3, 4, 5, 9])
def test_a_line_search_ends_with_the_best_evaluated_pixels(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, steps: int
):
    evaluated: list[tuple[float, Tensor]] = []
    made = loss.evaluation

    def recording(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        evaluate = made(size, problem, execution)

        def recorded(picture: Tensor) -> tuple[LossValue, Tensor]:
            value, gradient = evaluate(picture)
            evaluated.append((value.total, picture.clone()))
            return value, gradient

        return recorded

    monkeypatch.setattr(loss, "evaluation", recording)
    # Its first trials go farther and farther.
    changed = with_recipe(problem, solver_preconditioner="none", **SEARCHING)
    end = watch(changed, plan=Plan((Stage(Size(20, 25), steps),), 1.0))[-1][1]
    assert torch.equal(end.pixels, min(evaluated[:steps], key=lambda one: one[0])[1].clamp(0, 1))
    assert len(evaluated) == steps + 1


def test_the_average_of_the_evaluated_pictures_is_shown_upscaled_and_written(
    problem: Problem,
):
    changed = with_recipe(problem, solver="adam", solver_rate=0.02, solver_average=0.7)
    stream = watch(changed, plan=LONG)
    for stage in (0, 1):
        evaluated = [
            state.pixels
            for event, state in stream
            if isinstance(event, Started) and event.stage == stage
        ]
        for event, state in stream:
            if isinstance(event, Stepped) and event.stage == stage:
                weights = [0.7 ** (len(evaluated) - 1 - index) for index in range(len(evaluated))]
                mean = sum(
                    weight * one for weight, one in zip(weights, evaluated, strict=True)
                ) / sum(weights)
                assert torch.allclose(state.picture, torch.as_tensor(mean), atol=1e-6)
                assert state.averaged == len(evaluated) and not torch.equal(
                    state.picture, state.pixels
                )
                evaluated.append(state.pixels)
                shown = state.picture
            if isinstance(event, StageDone) and event.stage == stage:
                assert torch.equal(state.picture, shown) and state.average is None
                if stage == 0:
                    grown = upscale.upscale_pixels(shown, Size(37, 45))
    assert torch.equal(
        next(state for event, state in stream if event == Started(1, Size(37, 45), 12)).pixels,
        grown,
    )
    assert torch.equal(stream[-1][1].pixels, shown.clamp(0, 1))
    check_loss(changed, stream[-1][1])


def test_an_average_leaves_out_pictures_that_diverged(problem: Problem):
    changed = with_recipe(problem, solver="adam", solver_rate=0.02, solver_average=0.9)
    stream = watch(faulty(changed, 13, "far", lasting=MAX_HIGH_LOSSES), plan=LONG)
    position = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    before, after = stream[position - 1][1], stream[position][1]
    assert before.average is not None and after.average is not None
    assert torch.equal(before.average, after.average) and before.averaged == after.averaged == 5
    check_resuming(changed, LONG, stream, position)


def test_no_average_is_stored_by_default(problem: Problem):
    assert all(state.average is None and state.averaged == 0 for _, state in watch(problem))


def test_adams_memory_is_carried_into_the_next_size(problem: Problem):
    changed = with_recipe(problem, solver="adam", solver_rate=0.02, solver_carry=True)
    stream, afresh = (
        watch(changed, plan=LONG),
        watch(with_recipe(changed, solver_carry=False), plan=LONG),
    )
    position = kinds(stream).index("StageDone")
    last, done, started, stepped = (state for _, state in stream[position - 1 : position + 3])
    assert {name: stored.load().tolist() for name, stored in done.memory.items()} == {
        name: stored.load().tolist() for name, stored in last.memory.items()
    }
    assert (
        started.memory["exp_avg"].shape == (1, 3, 37, 45)
        and int(stepped.memory["step"].load()) == 9
    )
    assert (
        raw(stream[position][1]) == raw(afresh[position][1])
        and afresh[position][1].memory == {} == stream[-1][1].memory
    )
    assert losses(stream)[:9] == losses(afresh)[:9] and losses(stream)[9] != losses(afresh)[9]


# ---- convergence ---------------------------------------------------------------------------------


def use_quadratic_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is a weighted squared distance to a fixed picture: a search converges fast."""

    def made(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        bottom = images.to_tensor(images.resize(smooth_pixels(41, 50, 7), size))
        curvature = torch.logspace(-1, 0, bottom.numel()).view_as(bottom)

        def evaluate(picture: Tensor) -> tuple[LossValue, Tensor]:
            difference = picture - bottom
            return LossValue(
                float((curvature * difference**2).sum() / 2), {}
            ), curvature * difference

        return evaluate

    monkeypatch.setattr(loss, "evaluation", made)


LONGER = Plan((Stage(Size(20, 25), 40), Stage(Size(37, 45), 40)), 1.0)


def test_a_converged_search_ends_its_stage_and_says_so(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
):
    use_quadratic_loss(monkeypatch)
    changed, patient = (with_recipe(problem, patience=patience) for patience in (5, 0))
    stream, whole = watch(changed, plan=LONGER), watch(patient, plan=LONGER)
    expected = (
        r"Nothing visible has changed in 5 evaluations at .*: this size is done after (\d+) of 40\."
    )
    matches = [re.fullmatch(expected, message) for message in warnings(stream)]
    assert len(matches) == 2 and all(matches)
    taken = [int(match[1]) for match in matches if match]
    assert all(count % 5 == 0 and 5 < count < 40 for count in taken)
    assert [
        sum(isinstance(e, Stepped) and e.stage == stage for e, _ in stream) for stage in (0, 1)
    ] == taken
    assert losses(stream)[: taken[0]] == losses(whole)[: taken[0]]
    assert isinstance(stream[-1][0], Finished) and kinds(stream).count("StageDone") == 2
    difference = (stream[-1][1].pixels - whole[-1][1].pixels).square().mean().sqrt()
    assert difference < 1 / 255  # the steps that were left out change nothing visible
    assert warnings(whole) == [] and len(losses(whole)) == 80


def test_a_search_that_still_moves_is_continued(problem: Problem):
    moving = with_recipe(problem, patience=2, init="noise", solver="adam", solver_rate=0.02)
    assert warnings(watch(moving)) == []
    # With a hundredth of the rate nothing visible changes.
    resting = with_recipe(moving, solver_rate=0.0002)
    assert len(warnings(watch(resting))) == 2


@pytest.mark.parametrize(("levels", "converges"), [(0.49, True), (0.51, False)])
def test_a_change_below_half_of_an_8_bit_level_has_converged(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, levels: float, converges: bool
):
    """Adam moves every pixel by its rate in a constant gradient: by ``levels`` in two steps."""

    def made(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        return lambda pixels: (LossValue(float(pixels.mean()), {}), torch.ones_like(pixels))

    monkeypatch.setattr(loss, "evaluation", made)
    changed = with_recipe(
        problem, solver="adam", solver_rate=levels / 255 / 2, patience=2, init="grey.png"
    )
    stream = watch(replace(changed, start=np.full((41, 50, 3), 0.5, np.float32)))
    assert [message.startswith("Nothing visible") for message in warnings(stream)] == [
        True
    ] * 2 * converges
    assert losses(stream)[0] - losses(stream)[1] == pytest.approx(levels / 255 / 2, rel=1e-3)


def test_no_reference_is_stored_where_convergence_is_not_checked(problem: Problem):
    """The memory model does not count the reference there."""
    for patience, expected in ((0, set()), (5, set()), (4, {1})):
        stream = watch(with_recipe(problem, patience=patience))  # stages of 4 and of 5 steps
        assert {
            event.stage
            for event, state in stream
            if isinstance(event, Stepped) and state.reference is not None
        } == expected


def test_a_search_that_never_moves_converges_at_the_first_check(problem: Problem):
    still = {"content_weight": 1, "style_weight": 0, "smooth_weight": 0}
    stream = watch(with_recipe(problem, patience=3, **still), plan=LONGER)
    assert [event.step for event, _ in stream if isinstance(event, Stepped)][:3] == [1, 2, 3]
    assert kinds(stream)[4] == "Warned" and kinds(stream)[5] == "StageDone"
    assert warnings(watch(with_recipe(problem, patience=0, **still), plan=LONGER)) == []


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.6, 1.0])
@pytest.mark.parametrize("patience", [2, 5])
def test_resumed_with_patience_it_ends_with_the_same_bytes(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, rate: float, patience: int
):
    use_quadratic_loss(monkeypatch)
    changed = with_recipe(problem, solver_rate=rate, patience=patience)
    uninterrupted = check_resuming(changed, LONGER)
    assert len(warnings(uninterrupted)) == 2  # otherwise this could not fail


# ---- a packed state ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_packed_and_unpacked_state_is_the_same(problem: Problem, solver: str):
    changed = with_recipe(problem, solver=solver, solver_rate=0.02, patience=2, solver_average=0.5)
    for _, state in watch(changed):
        tensors, values = state.pack()
        unpacked = State.unpack(tensors, json.loads(json.dumps(values)), torch.device("cpu"))
        for name in ("pixels", "best", "reference", "average"):
            one, other = getattr(unpacked, name), getattr(state, name)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other), name
        assert {name: stored.load().tolist() for name, stored in unpacked.memory.items()} == {
            name: stored.load().tolist() for name, stored in state.memory.items()
        }
        for name in (
            "stage",
            "step",
            "evaluations",
            "averaged",
            "high_loss_streak",
            "restarts",
            "tile",
            "lowest",
        ):
            assert getattr(unpacked, name) == getattr(state, name)
        assert unpacked.loss == state.loss or np.isnan(state.loss.total)


# ---- out of memory -------------------------------------------------------------------------------


class LimitedMemory(Faulty):
    """A network that runs out of memory for a picture of more than ``most`` pixels."""

    def __init__(self, network: Network, most: float, error: Exception, good: int = 0) -> None:
        super().__init__(network, good, torch.clone, 0)
        self.most, self.error = most, error

    def __call__(self, picture: Tensor, **options: Any) -> Mapping[str, Tensor]:
        if self.calls >= self.good and picture.shape[-1] * picture.shape[-2] > self.most:
            raise self.error
        return super().__call__(picture, **options)


MEMORY_ERRORS: dict[str, Exception] = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: 12"
    ),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 4.00 GB)."),
    "windows": RuntimeError(
        "DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes."
    ),
    "onednn": RuntimeError("could not create a primitive"),
    "numpy": MemoryError("Unable to allocate 1.00 GiB for an array"),
}
WIDE = Plan((Stage(Size(40, 50), 4), Stage(Size(90, 110), 5)), 1.0)
# Pixels: less than the second stage's picture, more than a tile of half its side with its halo.
MOST = 5500


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    set_least_tile(monkeypatch, 10)


def set_least_tile(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    for module in (execution_module, loop):  # the one halves tiles, the other names the smallest
        monkeypatch.setattr(module, "LEAST_TILE", side)


def with_little_memory(problem: Problem, most: float, error: str = "cpu", good: int = 0) -> Problem:
    network = LimitedMemory(problem.network, most, MEMORY_ERRORS[error], good)
    return replace(problem, network=network)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("error", MEMORY_ERRORS)
@pytest.mark.parametrize("good", [0, 6])
def test_out_of_memory_continues_in_tiles_to_the_same_picture(
    problem: Problem, error: str, good: int
):
    """At the start of a stage, and within one, where the current step is repeated."""
    whole, stream = (
        watch(problem, plan=WIDE),
        watch(with_little_memory(problem, MOST, error, good), plan=WIDE),
    )
    assert len(Execution().grid(problem.network, Size(90, 110))) == 1
    (message,) = warnings(stream)
    assert "Memory ran out in step" in message and "tiles of 55 px" in message
    assert f"step {max(good - 4, 0) + 1} of" in message
    assert [kind for kind in kinds(stream) if kind != "Warned"] == kinds(whole)
    assert losses(stream) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(stream)[: max(4, good)] == losses(whole)[: max(4, good)]
    assert torch.allclose(stream[-1][1].pixels, whole[-1][1].pixels, atol=1e-4)
    assert stream[-1][1].tile == 55
    assert stream[-1][1].evaluations == whole[-1][1].evaluations


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("good", [2, 9])
def test_out_of_memory_first_reduces_the_tiles_in_memory_to_one(problem: Problem, good: int):
    several = Execution(tile=27, tiles_in_memory=3)
    expected, stream = (
        watch(problem, plan=WIDE, execution=several),
        watch(with_little_memory(problem, MOST, good=10**9), plan=WIDE, execution=several),
    )
    assert warnings(stream) == [] and raw(stream[-1][1]) == raw(expected[-1][1])
    # What fails once succeeds with the maps of fewer tiles in memory.
    once = replace(problem, network=Faulty(problem.network, 6 * good, _no_memory, lasting=1))  # type: ignore[arg-type]
    stream = watch(once, plan=WIDE, execution=several)
    (message,) = warnings(stream)
    assert "continuing with the feature maps of one tile at a time" in message
    # The bytes are the same.
    assert raw(stream[-1][1]) == raw(expected[-1][1]) and losses(stream) == losses(expected)


def _no_memory(x: Tensor) -> Tensor:
    raise MEMORY_ERRORS["cpu"]


@pytest.mark.usefixtures("small_tiles")
def test_tiles_are_halved_until_they_fit(problem: Problem):
    stream = watch(with_little_memory(problem, 2900), plan=WIDE)
    assert [re.findall(r"tiles of (\d+) px", message) for message in warnings(stream)] == [
        ["55"],
        ["27"],
    ]
    assert isinstance(stream[-1][0], Finished)


@pytest.mark.usefixtures("small_tiles")
def test_out_of_memory_in_the_final_evaluation_continues_in_tiles(problem: Problem):
    stream = watch(with_little_memory(problem, MOST, good=WIDE.evaluations), plan=WIDE)
    assert isinstance(stream[-1][0], Finished) and stream[-1][1].tile == 55
    assert stream[-1][0].loss == pytest.approx(watch(problem, plan=WIDE)[-1][0].loss, rel=1e-5)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("error", MEMORY_ERRORS)
@pytest.mark.parametrize("good", [0, 3, 4, 6, 9])
def test_without_any_memory_the_best_pixels_are_returned(problem: Problem, error: str, good: int):
    stream = watch(with_little_memory(problem, 0, error, good), plan=WIDE)
    event, state = stream[-1]
    assert (
        isinstance(event, Failed) and "Memory ran out" in event.message and "10 px" in event.message
    )
    assert kinds(stream).count("Stepped") == good
    if good == 0:
        assert torch.equal(state.pixels, first_pixels(replace(problem, plan=WIDE), Execution()))
        return
    check_loss(problem, state)
    assert state.loss.total == min(losses(stream)[0 if good <= 4 else 4 :])


def test_tiles_have_a_least_side(problem: Problem):
    stream = watch(with_little_memory(problem, 0), plan=Plan((Stage(Size(200, 300), 2),), 1.0))
    assert [message.partition("in tiles of ")[2][:3] for message in warnings(stream)] == ["150"]
    assert isinstance(stream[-1][0], Failed) and "tiles of 128 px" in stream[-1][0].message


@pytest.mark.usefixtures("small_tiles")
def test_resumed_after_memory_ran_out_it_ends_with_the_same_bytes(problem: Problem):
    changed = with_little_memory(problem, MOST, good=6)
    stream = watch(changed, plan=WIDE)
    since = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    check_resuming(problem, WIDE, stream, since)  # the tiles stay when there is memory again


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("good", [0, 6, 9])
def test_out_of_memory_makes_no_tiles_of_a_term_that_is_not_additive(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: int
):
    monkeypatch.setattr(Smooth, "additive", False)
    execution, stores = with_disk(tmp_path)
    changed = with_little_memory(problem, MOST, good=good)
    stream = watch(changed, plan=WIDE, execution=execution)
    event, state = stream[-1]
    assert isinstance(event, Failed) and event.memory
    assert event.message.startswith("Memory ran out in") and "tiles" not in event.message
    (message,) = warnings(stream)
    assert "on disk" in message and len(stores) == 2
    assert {state.tile for _, state in stream} == {0}
    check_loss(problem, state)
    # The same search is cut into tiles if the term is not part of the loss.
    others = watch(with_recipe(changed, smooth_weight=0), plan=WIDE)
    assert isinstance(others[-1][0], Finished) and others[-1][1].tile == 55


@pytest.mark.parametrize("disk_first", [False, True])
def test_an_execution_without_tiling_is_only_reduced_in_other_ways(
    problem: Problem, tmp_path: Path, disk_first: bool
):
    execution, _ = with_disk(tmp_path)
    size = Size(1200, 1600)
    reduced = execution.reduced(problem.network, size, disk_first, tiling=False)
    assert reduced is not None and "on disk" in reduced[1]
    assert reduced[0].tile == 0 and isinstance(reduced[0].history, RecordingStore)
    assert reduced[0].reduced(problem.network, size, disk_first, tiling=False) is None
    tiled = reduced[0].reduced(problem.network, size, disk_first)
    assert tiled is not None and tiled[0].tile == 800


# ---- out of memory outside an evaluation ---------------------------------------------------------


class OutOfMemoryCalls:
    """A function that runs out of memory in some of its calls, counted from 1."""

    def __init__(
        self, work: Callable[..., Any], failing: Callable[[int], bool], error: Exception
    ) -> None:
        self.work, self.failing, self.error, self.calls = work, failing, error, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.failing(self.calls):
            raise self.error
        return self.work(*args, **options)


def break_moves(
    monkeypatch: pytest.MonkeyPatch, solver: str, failing: Callable[[int], bool], error: str
) -> None:
    """Some moves run out of memory halfway, when the solver's memory has changed already."""
    kind = {"lbfgs": lbfgs.LBFGS, "adam": first_order.Adam}[solver]
    move, count = kind.move, iter(range(1, 10_000))

    def broken(self: Any, gradient: Tensor, loss: float) -> None:
        if failing(next(count)):
            for stored in self.memory().values():
                stored.load().neg_()
            raise MEMORY_ERRORS[error]
        move(self, gradient, loss)

    monkeypatch.setattr(kind, "move", broken)


class RecordingStore(DiskStore):
    """A store on disk that records the tensors that it stored."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stored: list[StoredTensor] = []

    def store(self, tensor: Tensor) -> StoredTensor:
        self.stored.append(super().store(tensor))
        return self.stored[-1]


def with_disk(folder: Path) -> tuple[Execution, list[RecordingStore]]:
    """An execution that may store tensors on disk, and the stores that it makes."""
    stores: list[RecordingStore] = []

    def make_disk_store() -> RecordingStore:
        stores.append(RecordingStore(folder))
        return stores[-1]

    return Execution(make_disk_store=make_disk_store), stores


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("error", MEMORY_ERRORS)
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("failing", [1, 3, 7])
def test_out_of_memory_in_a_move_continues_from_the_best_pixels_with_a_disk(
    problem: Problem,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: str,
    solver: str,
    failing: int,
):
    changed, (execution, stores) = with_solver(problem, solver), with_disk(tmp_path)
    whole = watch(changed, plan=WIDE, execution=execution)
    break_moves(monkeypatch, solver, lambda call: call == failing, error)
    stream = watch(changed, plan=WIDE, execution=execution)
    (message,) = warnings(stream)
    step = failing if failing <= 4 else failing - 4
    assert f"Memory ran out in step {step} of" in message and message.endswith(
        "continuing with tensors stored on disk."
    )
    assert [kind for kind in kinds(stream) if kind != "Warned"] == kinds(whole)
    state = stream[kinds(stream).index("Warned")][1]
    check_loss(changed, state)
    assert state.memory == {} and state.loss.total <= min(
        losses(stream)[0 if failing <= 4 else 4 : failing - 1] or [9.0]
    )
    assert [len(store.stored) > 0 for store in stores] == [True, solver == "lbfgs"]
    end, expected = stream[-1][0], whole[-1][0]
    assert (
        isinstance(end, Finished)
        and isinstance(expected, Finished)
        and end.loss < 1.3 * expected.loss
    )


@pytest.mark.usefixtures("small_tiles")
def test_resumed_after_memory_ran_out_in_a_move_it_ends_with_the_same_bytes(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with monkeypatch.context() as patch:
        break_moves(patch, "lbfgs", lambda call: call == 7, "cpu")
        stream = watch(problem, plan=WIDE, execution=with_disk(tmp_path)[0])
    check_resuming(problem, WIDE, stream, kinds(stream).index("Warned"))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("call", [1, 2])
def test_out_of_memory_before_the_first_step_of_a_size_only_changes_the_stores(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: int
):
    execution, stores = with_disk(tmp_path)
    whole = watch(problem, plan=WIDE, execution=execution)
    monkeypatch.setattr(
        solver_factory,
        "make_solver",
        OutOfMemoryCalls(
            solver_factory.make_solver, lambda calls: calls == call, MEMORY_ERRORS["cpu"]
        ),
    )
    stream = watch(problem, plan=WIDE, execution=execution)
    (message,) = warnings(stream)
    assert "ran out in step 1 of" in message and "on disk" in message
    assert stores and all(store.stored for store in stores)
    assert losses(stream) == losses(whole) and raw(stream[-1][1]) == raw(whole[-1][1])


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("good", [0, 1, 5])
def test_without_memory_for_any_move_the_best_pixels_are_returned(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: int
):
    break_moves(monkeypatch, "lbfgs", lambda call: call > good, "cuda")
    stream = watch(problem, plan=WIDE, execution=with_disk(tmp_path)[0])
    event, state = stream[-1]
    assert isinstance(event, Failed) and event.memory and "Memory ran out in step" in event.message
    assert "on disk" in warnings(stream)[0] and all(
        "tiles" in message for message in warnings(stream)[1:]
    )
    assert kinds(stream).count("Stepped") == good
    value, _ = evaluation(Size(*state.pixels.shape[-2:]), problem, Execution())(state.pixels)
    assert value.total == pytest.approx(state.loss.total, rel=1e-6)  # tiles round differently


def test_pixels_that_cannot_be_upscaled_fail_with_those_of_the_size_before(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        upscale,
        "upscale_pixels",
        OutOfMemoryCalls(upscale.upscale_pixels, lambda call: True, MEMORY_ERRORS["cpu"]),
    )
    stream = watch(problem, plan=WIDE)
    event, state = stream[-1]
    assert (
        isinstance(event, Failed)
        and event.memory
        and "before the first step at 110x90" in event.message
    )
    check_loss(problem, state)
    assert torch.equal(state.pixels, stream[-2][1].pixels) and tuple(state.pixels.shape[-2:]) == (
        40,
        50,
    )
    monkeypatch.undo()
    assert raw(watch(problem, state, WIDE)[-1][1]) == raw(watch(problem, plan=WIDE)[-1][1])


@pytest.mark.usefixtures("small_tiles")
def test_the_disk_is_used_when_the_smallest_tiles_do_not_fit(problem: Problem, tmp_path: Path):
    execution, stores = with_disk(tmp_path)
    stream = watch(with_little_memory(problem, 0, good=6), plan=WIDE, execution=execution)
    assert ["on disk" in message for message in warnings(stream)] == [False] * (
        len(warnings(stream)) - 1
    ) + [True]
    assert isinstance(stream[-1][0], Failed) and len(stores) == 2


@pytest.mark.usefixtures("small_tiles")
def test_lbfgs_pairs_move_to_disk_within_a_size(problem: Problem, tmp_path: Path):
    changed, (execution, stores) = with_little_memory(problem, 0, good=7), with_disk(tmp_path)
    whole = watch(problem, plan=WIDE)
    stream = iterate(replace(changed, plan=WIDE), execution)
    for event, _ in stream:
        if isinstance(event, Warned) and "on disk" in event.message:
            changed.network.most = 1e9  # type: ignore[attr-defined]
        if isinstance(event, Stepped) and event.evaluations == 8:
            break
    pairs = sum(not isinstance(tensor, InMemoryTensor) for tensor in stores[1].stored)
    assert pairs == 2 * 3  # two that were restored, and the one of the eighth gradient
    assert isinstance(event, Stepped) and event.loss == pytest.approx(losses(whole)[7], rel=1e-5)


@pytest.mark.parametrize("name", ["dist", "clamp"])
def test_out_of_memory_in_an_optional_computation_ends_nothing(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, name: str
):
    changed = with_recipe(problem, patience=2, init="noise", solver="adam", solver_rate=0.02)
    whole = watch(changed)
    monkeypatch.setattr(
        torch,
        name,
        OutOfMemoryCalls(getattr(torch, name), lambda call: call == 1, MEMORY_ERRORS["cpu"]),
    )
    set_least_tile(monkeypatch, 10)
    stream = watch(changed)
    assert isinstance(stream[-1][0], Finished) and losses(stream) == losses(whole)
    assert torch.allclose(stream[-1][1].pixels, whole[-1][1].pixels)
    assert [("in the final evaluation" in message) for message in warnings(stream)] == [True] * (
        name == "clamp"
    )


def test_a_disk_store_that_cannot_be_made_is_reported_as_out_of_memory(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
):
    def make_disk_store() -> DiskStore:
        raise OSError("read-only file system")

    break_moves(monkeypatch, "lbfgs", lambda call: call == 3, "cpu")
    stream = watch(problem, plan=WIDE, execution=Execution(make_disk_store=make_disk_store))
    # The tiles cannot be smaller either.
    assert isinstance(stream[-1][0], Failed) and stream[-1][0].memory


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b"),
        RuntimeError(
            "could not create a primitive descriptor for the convolution forward propagation "
            "primitive."
        ),
        ValueError("no"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_not_taken_for_out_of_memory(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setitem(MEMORY_ERRORS, "other", error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        watch(with_little_memory(problem, 0, "other"))


# ---- on disk -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["float64", "channels-last", "bfloat16"])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_tensors_on_disk_give_the_same_picture(
    problem: Problem,
    network_of: Callable[..., Network],
    tmp_path: Path,
    kernel: str,
    tile: int,
    solver: str,
):
    changed = with_solver(problem, solver, solver_history=2)
    changed = replace(changed, network=network_of(*LAYERS, padding="reflect", kernel=kernel))
    targets, history = RecordingStore(tmp_path), RecordingStore(tmp_path)
    disk = watch(changed, execution=Execution(tile=tile, targets=targets, history=history))
    memory = watch(changed, execution=Execution(tile=tile))
    tiles = [len(changed.network.grid(stage.size, tile)) for stage in PLAN.stages]
    assert len(targets.stored) == sum(tiles)
    assert (len(history.stored) > 0) == (solver == "lbfgs")
    assert losses(disk) == losses(memory)
    assert raw(disk[-1][1]) == raw(memory[-1][1])


def test_a_run_is_resumed_from_memory_on_disk_and_from_disk_in_memory(
    problem: Problem, tmp_path: Path
):
    memory = Execution()
    disk = Execution(targets=DiskStore(tmp_path), history=DiskStore(tmp_path))
    whole = watch(problem)
    for first, second in ((memory, disk), (disk, memory)):
        for index in (3, 8):
            state = watch(problem, execution=first)[index][1]
            assert raw(watch(problem, state, execution=second)[-1][1]) == raw(whole[-1][1])


def test_tensors_stay_in_memory_by_default():
    assert isinstance(Execution().targets, MemoryStore)
    assert isinstance(Execution().history, MemoryStore)
