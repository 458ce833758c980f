"""The loop: same seed, same bytes, interrupted or not; and a loss that is no number keeps the last
good picture.
"""

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
from impasto.optimize import execution as execution_
from impasto.optimize import first_order, lbfgs, solver_factory, upscale
from impasto.optimize import loss as loss_
from impasto.optimize import solver as solver_
from impasto.optimize.execution import Execution
from impasto.optimize.line_search import MAX_EVALUATIONS
from impasto.optimize.loop import MAX_HIGH_LOSSES, MAX_RESTARTS, iterate
from impasto.optimize.loss import Evaluate, Problem
from impasto.optimize.state import State
from impasto.optimize.tiling import LossValue
from impasto.planning.schedule import Plan, Stage
from impasto.storage.tensors import DiskStore, InMemoryTensor, MemoryStore, StoredTensor
from tests.support.loss_setup import (
    LAYERS,
    PLAN,
    Setup,
    WrappedNetwork,
    make_setup,
    smooth_pixels,
    with_recipe,
)

Stream = list[tuple[Event, State]]


@pytest.fixture(scope="module")
def setup(network_of: Callable[..., Network]) -> Setup:
    return make_setup(network_of)


def with_solver(setup: Setup, solver: str, **settings: object) -> Setup:
    return with_recipe(
        setup, solver=solver, solver_rate=0.5 if solver == "lbfgs" else 0.02, **settings
    )


def frozen(state: State) -> State:
    """A copy, as the loop goes on writing to the tensors of a state."""
    pictures = {name: getattr(state, name) for name in ("best", "reference", "average")}
    copies = {name: picture.clone() for name, picture in pictures.items() if picture is not None}
    memory = {name: InMemoryTensor(kept.load().clone()) for name, kept in state.memory.items()}
    return replace(state, pixels=state.pixels.clone(), memory=memory, **copies)


def watch(setup: Setup, state: State | None = None, plan: Plan = PLAN) -> Stream:
    """The whole stream, with copies of the states."""
    ticks = iter(range(10_000))
    return [
        (event, frozen(kept))
        for event, kept in iterate(
            setup.problem(plan), setup.execution, state, clock=lambda: float(next(ticks))
        )
    ]


def raw(state: State) -> bytes:
    return state.pixels.numpy().tobytes()


def losses(stream: Stream) -> list[float]:
    return [event.loss for event, _ in stream if isinstance(event, Stepped)]


def warnings(stream: Stream) -> list[str]:
    return [event.message for event, _ in stream if isinstance(event, Warned)]


def check_resuming(
    mine: Setup, plan: Plan = PLAN, undisturbed: Stream | None = None, since: int = 0
) -> Stream:
    """Gone on with after any event from one on, a run makes the same steps to the same end; gives
    the undisturbed one.
    """
    undisturbed = undisturbed or watch(mine, plan=plan)
    end, steps = undisturbed[-1], losses(undisturbed)
    assert isinstance(end[0], Finished)
    for index, (event, state) in enumerate(undisturbed[:-1]):
        if index < since:
            continue
        resumed = watch(mine, state, plan)
        last = resumed[-1][0]
        assert raw(resumed[-1][1]) == raw(end[1]), f"after {event}"
        assert isinstance(last, Finished)
        assert (last.loss, last.evaluations) == (end[0].loss, end[0].evaluations)
        assert losses(resumed) == steps[state.evaluations :]
    return undisturbed


def kinds(stream: Stream) -> list[str]:
    return [type(event).__name__ for event, _ in stream]


# ---- the stream ----------------------------------------------------------------------------------


def test_events_come_in_order_with_their_states(setup: Setup):
    stream = watch(setup)
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


def test_a_step_is_one_evaluation(setup: Setup):
    counted = faulty(setup, 10**9, "nan")
    assert kinds(watch(counted)).count("Stepped") == PLAN.evaluations
    assert counted.network.seen == PLAN.evaluations + 1  # type: ignore[attr-defined] # and the last look


def test_a_steps_loss_is_that_of_the_picture_before_it(setup: Setup):
    stream = watch(setup)
    evaluate = setup.evaluation(Size(20, 25), PLAN)
    for (_, before), (event, _) in pairwise(stream[:5]):
        assert isinstance(event, Stepped)
        assert event.loss == evaluate(before.pixels)[0].total


def test_finished_is_the_loss_of_the_picture_as_it_will_be_written(setup: Setup):
    event, state = watch(setup)[-1]
    assert isinstance(event, Finished)
    assert state.pixels.min() >= 0 and state.pixels.max() <= 1
    value, _ = setup.evaluation(Size(37, 45), PLAN)(state.pixels)
    assert (event.loss, event.terms) == (value.total, value.terms)
    assert state.loss == value
    assert event.evaluations == state.evaluations == 10


def test_overshoot_is_cut_before_the_last_look(setup: Setup):
    beyond = State(torch.linspace(-1, 2, 3 * 37 * 45).view(1, 3, 37, 45), stage=2, evaluations=9)
    ((event, state),) = watch(setup, beyond)
    assert isinstance(event, Finished)
    assert torch.equal(state.pixels, beyond.pixels.clamp(0, 1))
    assert event.loss == setup.evaluation(Size(37, 45), PLAN)(beyond.pixels.clamp(0, 1))[0].total
    assert event.loss != setup.evaluation(Size(37, 45), PLAN)(beyond.pixels)[0].total


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise", "style"])
def test_the_loss_falls(setup: Setup, solver: str, start: str):
    plan = Plan((Stage(Size(20, 25), 15), Stage(Size(37, 45), 15)), 1.0)
    stream = watch(
        with_recipe(setup, solver=solver, solver_rate=1 if solver == "lbfgs" else 0.02, init=start),
        plan=plan,
    )
    first = [event.loss for event, _ in stream if isinstance(event, Stepped) and event.step == 1]
    last = stream[-1][0]
    assert isinstance(last, Finished)
    assert last.loss < 0.9 * min(first)


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
def test_in_tiles_it_paints_to_the_end(setup: Setup, statistic: str):
    assert (
        kinds(watch(with_recipe(setup, style_statistics=statistic).executed(tile=16)))[-1]
        == "Finished"
    )


def test_a_clock_may_be_lent_and_seconds_are_its(setup: Setup):
    stream = [event for event, _ in iterate(setup.problem(), setup.execution, clock=lambda: 5.0)]
    assert {
        event.seconds for event in stream if isinstance(event, Stepped | StageDone | Finished)
    } == {0.0}


# ---- same seed, same bytes -----------------------------------------------------------------------


@pytest.mark.parametrize("start", ["content", "noise", "style"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_same_recipe_same_bytes_whatever_torchs_own_seed(setup: Setup, solver: str, start: str):
    mine = with_recipe(setup, solver=solver, solver_rate=0.1, init=start)
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        ends.append(raw(watch(mine)[-1][1]))
        assert torch.equal(torch.get_rng_state(), before)
    assert ends[0] == ends[1]


def test_the_given_pictures_are_left_alone(setup: Setup):
    # They cannot be written to (see above); a network that shares their memory could still do so.
    given = [setup.photo, *setup.paintings]
    kept = [array.copy() for array in given]
    same = Plan((Stage(Size(*setup.photo.shape[:2]), 3),), 1.0)  # where nothing is resized
    watch(setup, plan=same)
    assert all(np.array_equal(array, copy) for array, copy in zip(given, kept, strict=True))


def test_a_state_given_is_left_alone(setup: Setup):
    mine = with_recipe(setup, patience=2, solver_average=0.9)
    _, state = watch(mine)[3]
    kept = frozen(state)
    watch(mine, state)
    for name in ("pixels", "best", "reference", "average"):
        assert torch.equal(getattr(state, name), getattr(kept, name)), name
    assert set(state.memory) == set(kept.memory)
    assert all(
        torch.equal(state.memory[name].load(), kept.memory[name].load()) for name in kept.memory
    )


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_resumed_after_any_event_it_ends_with_the_same_bytes(setup: Setup, solver: str):
    mine = with_solver(setup, solver, solver_history=2)
    check_resuming(mine)


CHOICES: dict[str, dict[str, object]] = {
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
@pytest.mark.parametrize("name", CHOICES)
def test_resumed_with_any_choice_of_the_search_it_ends_with_the_same_bytes(setup: Setup, name: str):
    mine = with_recipe(setup, **CHOICES[name])
    undisturbed = check_resuming(mine)
    assert raw(undisturbed[-1][1]) != raw(watch(setup)[-1][1])
    assert raw(watch(mine)[-1][1]) == raw(undisturbed[-1][1])


def test_to_stop_is_to_stop_iterating(setup: Setup):
    stream = iterate(setup.problem(), setup.execution)
    assert isinstance(stream, Iterator)
    for event, state in stream:
        if isinstance(event, Stepped) and event.step == 2:
            kept = frozen(state)
            break
    stream.close()  # type: ignore[attr-defined]
    assert raw(watch(setup, kept)[-1][1]) == raw(watch(setup)[-1][1])


# ---- a search that runs away ---------------------------------------------------------------------


class Faulty(WrappedNetwork):
    """A network that goes wrong from one evaluation on, ``lasting`` times; targets, without
    gradients, are not counted.
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
        self.seen = 0

    def __call__(self, picture: Tensor, **how: Any) -> Mapping[str, Tensor]:
        found = super().__call__(picture, **how)
        if not picture.requires_grad:
            return found
        self.seen += 1
        wrong = self.good < self.seen <= self.good + self.lasting
        return {name: self.fault(map) for name, map in found.items()} if wrong else found


def faulty(setup: Setup, good: int, fault: str, lasting: float = float("inf")) -> Setup:
    return replace(setup, network=Faulty(setup.network, good, FAULTS[fault], lasting))  # type: ignore[arg-type]


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
NO_NUMBER = [name for name in FAULTS if name != "far"]
# After which the search is given up.
LOOKS = {name: MAX_HIGH_LOSSES if name == "far" else 1 for name in FAULTS}
LONG = Plan((Stage(Size(20, 25), 8), Stage(Size(37, 45), 12)), 1.0)


def check_sound(mine: Setup, state: State, plan: Plan) -> None:
    """The state's value is that of its picture, as the network itself sees it, and is a number."""
    assert torch.isfinite(state.pixels).all()
    value, _ = mine.evaluation(Size(*state.pixels.shape[-2:]), plan)(state.pixels)
    assert value.finite
    assert value.total == state.loss.total


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("good", [1, 10])
def test_a_fault_that_stays_ends_with_the_best_picture_so_far(
    setup: Setup, statistic: str, solver: str, fault: str, good: int
):
    mine = with_solver(setup, solver, style_statistics=statistic)
    first, second = LONG.stages
    more = MAX_RESTARTS * MAX_HIGH_LOSSES
    plan = replace(
        LONG, stages=(replace(first, steps=8 + more * (good < 8)), replace(second, steps=12 + more))
    )
    stream = watch(faulty(mine, good, fault), plan=plan)
    event, state = stream[-1]
    assert isinstance(event, Failed)
    words = "rose from" if fault == "far" else "stopped being a number"
    assert words in event.message
    assert kinds(stream).count("Failed") == 1
    assert [words in message for message in warnings(stream)] == [True] * MAX_RESTARTS
    # A bad gradient ends it too, before the picture that it made is given to anyone.
    assert kinds(stream).count("Stepped") == good + MAX_RESTARTS * LOOKS[fault] + LOOKS[fault] - 1
    assert all(state.pixels.isfinite().all() for _, state in stream)
    check_sound(mine, state, plan)
    assert all(np.isfinite(losses(stream)))
    assert state.loss.total == min(losses(stream)[0 if good < 8 else 8 :])
    if fault != "gradient":  # which was found at a picture that had a loss
        assert state.loss.total == min(losses(stream)[0 if good < 8 else 8 : good])


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", NO_NUMBER)
def test_a_fault_in_the_first_step_of_a_size_ends_with_the_best_picture_of_the_size_before(
    setup: Setup, statistic: str, solver: str, fault: str
):
    mine = with_solver(setup, solver, style_statistics=statistic)
    stream = watch(faulty(mine, 8, fault), plan=LONG)
    event, state = stream[-1]
    assert isinstance(event, Failed) and "stopped being a number" in event.message
    check_sound(mine, state, LONG)
    if fault == "gradient":
        assert tuple(state.pixels.shape[-2:]) == (37, 45)
        return
    assert warnings(stream) == [] and kinds(stream).count("Stepped") == 8
    assert state.loss.total == min(losses(stream)) and tuple(state.pixels.shape[-2:]) == (20, 25)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("good", [3, 13])
def test_a_fault_that_passes_is_gone_back_on_and_hardly_felt(
    setup: Setup, solver: str, fault: str, good: int
):
    mine, plan = with_solver(setup, solver), LONG
    if solver == "lbfgs":  # which learns anew: time to do so
        plan = replace(LONG, stages=(LONG.stages[0], replace(LONG.stages[1], steps=30)))
    undisturbed, stream = (
        watch(mine, plan=plan),
        watch(faulty(mine, good, fault, lasting=LOOKS[fault]), plan=plan),
    )
    (message,) = warnings(stream)
    assert ("rose from" in message) == (fault == "far") and "half the step" in message
    assert [kind for kind in kinds(stream) if kind != "Warned"] == kinds(undisturbed)
    assert losses(stream)[:good] == losses(undisturbed)[:good]
    measured = good + (fault == "gradient")  # which was found at a picture that had a loss
    back = good + LOOKS[fault] - 1
    assert losses(stream)[back] == min(losses(undisturbed)[0 if good < 8 else 8 : measured])
    assert all(loss > 3 * losses(stream)[back] for loss in losses(stream)[good:back])
    end, expected = stream[-1][0], undisturbed[-1][0]
    assert isinstance(end, Finished) and isinstance(expected, Finished)
    assert end.loss < 1.25 * expected.loss < 0.8 * losses(undisturbed)[8]
    check_sound(mine, stream[-1][1], plan)


def test_a_search_goes_on_from_its_best_picture_with_an_empty_memory(setup: Setup):
    stream = watch(faulty(setup, 13, "far", lasting=MAX_HIGH_LOSSES), plan=LONG)
    at = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    before, after = stream[at - 1][1], stream[at][1]
    best = min(losses(stream)[8:13])
    assert after.loss.total == after.lowest.total == best
    assert after.best is not None and torch.equal(after.pixels, after.best)
    assert not torch.equal(after.pixels, before.pixels)
    assert "step" in before.memory and "step" not in after.memory
    assert (before.restarts, after.restarts) == (0, 1)
    # The next move is half as long as that of a search that begins there.
    alone = replace(after, restarts=0, memory={})
    streams = (watch(setup, begun, LONG) for begun in (alone, after))
    full, half = (
        next(state for event, state in stream if isinstance(event, Stepped)) for stream in streams
    )
    assert torch.allclose(half.pixels - after.pixels, (full.pixels - after.pixels) / 2, atol=1e-7)
    assert not torch.allclose(half.pixels, after.pixels, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("good", [3, 10])
def test_resumed_after_a_restart_it_ends_with_the_same_bytes(setup: Setup, solver: str, good: int):
    mine = with_solver(setup, solver)
    stream = watch(faulty(mine, good, "far", lasting=MAX_HIGH_LOSSES), plan=LONG)
    since = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    check_resuming(mine, LONG, stream, since)


def test_each_restart_halves_the_step_and_a_new_size_begins_afresh(setup: Setup):
    plan = replace(LONG, stages=(replace(LONG.stages[0], steps=12), LONG.stages[1]))
    stream = watch(faulty(setup, 3, "far", lasting=2 * MAX_HIGH_LOSSES), plan=plan)
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


def test_a_size_that_ends_astray_says_so_and_its_best_picture_is_grown(setup: Setup):
    stream = watch(faulty(setup, 7, "far", lasting=1), plan=LONG)
    (message,) = warnings(stream)
    assert "rose from" in message and "25x20; the best pixels are used" in message
    done = next(state for event, state in stream if isinstance(event, StageDone))
    assert done.loss.total == min(losses(stream)[:8])


def test_a_last_move_that_ran_away_gives_place_to_the_best_picture(setup: Setup):
    for fault in ("far", "nan", "gradient"):
        mine = with_recipe(setup, style_statistics="gram")
        stream = watch(faulty(mine, LONG.evaluations, fault, lasting=1), plan=LONG)
        event, state = stream[-1]
        assert isinstance(event, Finished)
        if fault == "gradient":  # nobody asks for the last one
            assert event.evaluations == LONG.evaluations + 1
            continue
        best = stream[-2][1].best
        assert best is not None and torch.equal(state.pixels, best.clamp(0, 1))
        assert not torch.equal(state.pixels, stream[-2][1].pixels.clamp(0, 1))
        assert event.evaluations == LONG.evaluations + 2
        check_sound(mine, state, LONG)
        assert event.loss < 1.1 * min(losses(stream)[8:])


class Wild:
    """A solver whose move of one number leads far away, to numbers; nobody sees it but who looks at
    the picture.
    """

    moves = 0

    def __init__(self, solver: solver_.Solver, wild: int) -> None:
        self.solver, self.wild = solver, wild

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)

    def move(self, gradient: Tensor, loss: float = 0.0) -> None:
        self.solver.move(gradient, loss)
        type(self).moves += 1
        if type(self).moves == self.wild:
            self.solver.pixels.mul_(-40)


def go_wild(monkeypatch: pytest.MonkeyPatch, move: int) -> None:
    made = solver_factory.make_solver
    monkeypatch.setattr(Wild, "moves", 0)
    monkeypatch.setattr(
        solver_factory, "make_solver", lambda *how, **more: Wild(made(*how, **more), move)
    )


def test_what_is_grown_is_the_best_picture_that_was_looked_at(setup: Setup):
    stream = watch(setup, plan=LONG)
    at = kinds(stream).index("StageDone")
    done, before = stream[at][1], stream[at - 1][1]
    check_sound(setup, done, LONG)
    assert done.loss.total == min(losses(stream)[:8]) and not torch.equal(
        done.pixels, before.pixels
    )
    assert torch.equal(stream[at + 1][1].pixels, upscale.upscale_pixels(done.pixels, Size(37, 45)))


def test_a_size_whose_last_move_ran_away_is_not_grown_from_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
):
    expected = watch(setup, plan=LONG)
    go_wild(monkeypatch, 8)
    stream = watch(setup, plan=LONG)
    at = kinds(stream).index("StageDone")
    assert stream[at - 1][1].pixels.abs().max() > 10 >= stream[at][1].pixels.abs().max()
    assert raw(stream[-1][1]) == raw(expected[-1][1]) and losses(stream) == losses(expected)


def test_a_best_picture_that_cutting_makes_much_worse_is_finished_all_the_same(setup: Setup):
    mine = with_recipe(setup, style_statistics="gram")
    stream = watch(faulty(mine, LONG.evaluations, "far", lasting=2), plan=LONG)
    event, state = stream[-1]
    best = stream[-2][1].best
    assert (
        isinstance(event, Finished)
        and event.loss == state.loss.total > 100 * stream[-2][1].lowest.total
    )
    assert best is not None and torch.equal(state.pixels, best.clamp(0, 1))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_the_good_state_is_the_best_that_was_looked_at(setup: Setup, solver: str):
    stream = watch(with_solver(setup, solver), plan=LONG)
    for index, (event, state) in enumerate(stream):
        if isinstance(event, Stepped):
            check_sound(setup, state.at_best(), LONG)
            assert state.at_best().loss.total == min(
                losses(stream[: index + 1])[0 if event.stage == 0 else 8 :]
            )
            assert state.at_best().memory == {}


def test_a_finished_picture_whose_loss_is_no_number_is_not_called_finished(setup: Setup):
    mine = with_recipe(setup, style_statistics="gram")
    stream = watch(faulty(mine, 9, "nan"))
    event, state = stream[-1]
    assert isinstance(event, Failed) and "not a number" in event.message
    assert kinds(stream).count("StageDone") == 2
    check_sound(mine, state, PLAN)
    assert state.loss.total == min(losses(stream)[4:])


def test_a_first_step_that_fails_gives_back_what_it_started_from(setup: Setup):
    mine = with_recipe(setup, style_statistics="gram")
    stream = watch(faulty(mine, 0, "nan"))
    assert kinds(stream) == ["Started", "Failed"]
    assert torch.equal(stream[-1][1].pixels, mine.first_pixels(PLAN))


@pytest.mark.parametrize("good", [2, 4, 6])
def test_a_failed_run_can_go_on_from_the_state_it_left(setup: Setup, good: int):
    mine = with_recipe(setup, style_statistics="gram")
    plan = Plan(tuple(Stage(stage.size, stage.steps + MAX_RESTARTS) for stage in PLAN.stages), 1.0)
    event, state = watch(faulty(mine, good if good < 4 else good + MAX_RESTARTS, "nan"), plan=plan)[
        -1
    ]
    assert isinstance(event, Failed)
    assert kinds(watch(mine, state, plan))[-1] == "Finished"


def scripted(monkeypatch: pytest.MonkeyPatch, heights: Callable[[int], float]) -> None:
    """Every evaluation has the loss that the script gives it, and a gradient of nought."""
    count = iter(range(10_000))

    def made(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        return lambda pixels: (LossValue(heights(next(count)), {}), torch.zeros_like(pixels))

    monkeypatch.setattr(loss_, "evaluation", made)


@pytest.mark.parametrize(
    "height",
    [lambda n: 0.0, lambda n: (-1) ** n * 1e-15 * n, lambda n: -1e-15, lambda n: 1e-12 * n],
)
def test_what_is_reached_to_the_letter_does_not_run_away(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, height: Callable[[int], float]
):
    scripted(monkeypatch, height)
    stream = watch(setup)
    assert kinds(stream)[-1] == "Finished" and warnings(stream) == []


def test_a_loss_may_rise_a_little(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    scripted(monkeypatch, lambda n: 2.9 if n % 2 else 1.0)
    assert warnings(watch(setup)) == []


def test_a_search_that_went_too_far_for_once_goes_on_from_where_it_is(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, lambda n: 3.1 if n in (3, 4) else 1.0)
    stream = watch(setup, plan=LONG)
    assert MAX_HIGH_LOSSES == 3 and warnings(stream) == []
    states = [state for event, state in stream if isinstance(event, Stepped)]
    assert [state.high_loss_streak for state in states] == [0] * 3 + [1, 2] + [0] * 15
    assert losses(stream)[3:5] == [3.1, 3.1] and not any(state.restarts for state in states)
    scripted(monkeypatch, lambda n: 3.1 if n in (3, 4, 5) else 1.0)
    stream = watch(setup, plan=LONG)
    assert len(warnings(stream)) == 1 and losses(stream)[3:7] == [3.1, 3.1, 1.0, 1.0]


# ---- a search along a line, averages, what is carried --------------------------------------------

SEARCHING = {"solver_line_search": "strong-wolfe", "style_statistics": "gram"}


def test_a_look_that_is_rejected_is_no_runaway(setup: Setup):
    """However high the loss is there, and whether it is a number; it is not told as the search's
    either.
    """
    mine = with_recipe(setup, **SEARCHING)
    for fault in FAULTS:
        stream = watch(faulty(mine, 10, fault, lasting=1), plan=LONG)
        assert warnings(stream) == [] and kinds(stream) == kinds(watch(mine, plan=LONG))
        assert losses(stream)[10] == losses(stream)[9]
        assert losses(stream)[8:] == sorted(losses(stream)[8:], reverse=True)
        assert all(state.pixels.isfinite().all() for _, state in stream)


def test_a_fault_that_stays_ends_a_search_along_a_line_too(setup: Setup):
    mine, plan = with_recipe(setup, patience=0, **SEARCHING), Plan((Stage(Size(20, 25), 60),), 1.0)
    stream = watch(faulty(mine, 6, "nan"), plan=plan)
    event, state = stream[-1]
    assert isinstance(event, Failed) and "stopped being a number" in event.message
    assert len(warnings(stream)) == MAX_RESTARTS
    assert (
        6 + 10 + MAX_RESTARTS < kinds(stream).count("Stepped") <= 6 + MAX_EVALUATIONS + MAX_RESTARTS
    )
    assert state.loss.total == min(losses(stream))


@pytest.mark.parametrize("steps", [3, 4, 5, 9])
def test_what_a_search_along_a_line_ends_with_is_the_best_that_it_looked_at(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, steps: int
):
    looked: list[tuple[float, Tensor]] = []
    made = loss_.evaluation

    def noting(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        evaluate = made(size, problem, execution)

        def noted(picture: Tensor) -> tuple[LossValue, Tensor]:
            found = evaluate(picture)
            looked.append((found[0].total, picture.clone()))
            return found

        return noted

    monkeypatch.setattr(loss_, "evaluation", noting)
    # Whose first looks go ever farther.
    mine = with_recipe(setup, solver_preconditioner="none", **SEARCHING)
    end = watch(mine, plan=Plan((Stage(Size(20, 25), steps),), 1.0))[-1][1]
    assert torch.equal(end.pixels, min(looked[:steps], key=lambda one: one[0])[1].clamp(0, 1))
    assert len(looked) == steps + 1


def test_an_average_is_of_the_pictures_that_were_looked_at_and_is_what_is_shown_grown_and_written(
    setup: Setup,
):
    mine = with_recipe(setup, solver="adam", solver_rate=0.02, solver_average=0.7)
    stream = watch(mine, plan=LONG)
    for stage in (0, 1):
        looked = [
            state.pixels
            for event, state in stream
            if isinstance(event, Started) and event.stage == stage
        ]
        for event, state in stream:
            if isinstance(event, Stepped) and event.stage == stage:
                weights = [0.7 ** (len(looked) - 1 - index) for index in range(len(looked))]
                mean = sum(weight * one for weight, one in zip(weights, looked, strict=True)) / sum(
                    weights
                )
                assert torch.allclose(state.picture, torch.as_tensor(mean), atol=1e-6)
                assert state.averaged == len(looked) and not torch.equal(
                    state.picture, state.pixels
                )
                looked.append(state.pixels)
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
    check_sound(mine, stream[-1][1], LONG)


def test_an_average_takes_in_no_picture_that_ran_away(setup: Setup):
    mine = with_recipe(setup, solver="adam", solver_rate=0.02, solver_average=0.9)
    stream = watch(faulty(mine, 13, "far", lasting=MAX_HIGH_LOSSES), plan=LONG)
    at = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    before, after = stream[at - 1][1], stream[at][1]
    assert before.average is not None and after.average is not None
    assert torch.equal(before.average, after.average) and before.averaged == after.averaged == 5
    check_resuming(mine, LONG, stream, at)


def test_without_an_average_none_is_kept(setup: Setup):
    assert all(state.average is None and state.averaged == 0 for _, state in watch(setup))


def test_what_adam_knows_is_carried_into_the_next_size(setup: Setup):
    mine = with_recipe(setup, solver="adam", solver_rate=0.02, solver_carry=True)
    stream, afresh = watch(mine, plan=LONG), watch(with_recipe(mine, solver_carry=False), plan=LONG)
    at = kinds(stream).index("StageDone")
    last, done, started, stepped = (state for _, state in stream[at - 1 : at + 3])
    assert {name: kept.load().tolist() for name, kept in done.memory.items()} == {
        name: kept.load().tolist() for name, kept in last.memory.items()
    }
    assert (
        started.memory["exp_avg"].shape == (1, 3, 37, 45)
        and int(stepped.memory["step"].load()) == 9
    )
    assert (
        raw(stream[at][1]) == raw(afresh[at][1])
        and afresh[at][1].memory == {} == stream[-1][1].memory
    )
    assert losses(stream)[:9] == losses(afresh)[:9] and losses(stream)[9] != losses(afresh)[9]


# ---- a search at rest ----------------------------------------------------------------------------


def in_a_valley(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a picture is its distance to another, weighed by pixel: a search comes to rest
    there in a few steps.
    """

    def made(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        bottom = images.to_tensor(images.resize(smooth_pixels(41, 50, 7), size))
        curvature = torch.logspace(-1, 0, bottom.numel()).view_as(bottom)

        def evaluate(picture: Tensor) -> tuple[LossValue, Tensor]:
            apart = picture - bottom
            return LossValue(float((curvature * apart**2).sum() / 2), {}), curvature * apart

        return evaluate

    monkeypatch.setattr(loss_, "evaluation", made)


LONGER = Plan((Stage(Size(20, 25), 40), Stage(Size(37, 45), 40)), 1.0)


def test_a_search_at_rest_ends_its_stage_and_says_so(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    in_a_valley(monkeypatch)
    mine, patient = (with_recipe(setup, patience=patience) for patience in (5, 0))
    stream, whole = watch(mine, plan=LONGER), watch(patient, plan=LONGER)
    words = (
        r"Nothing visible has changed in 5 evaluations at .*: this size is done after (\d+) of 40\."
    )
    said = [re.fullmatch(words, message) for message in warnings(stream)]
    assert len(said) == 2 and all(said)
    taken = [int(found[1]) for found in said if found]
    assert all(count % 5 == 0 and 5 < count < 40 for count in taken)
    assert [
        sum(isinstance(e, Stepped) and e.stage == stage for e, _ in stream) for stage in (0, 1)
    ] == taken
    assert losses(stream)[: taken[0]] == losses(whole)[: taken[0]]
    assert isinstance(stream[-1][0], Finished) and kinds(stream).count("StageDone") == 2
    apart = (stream[-1][1].pixels - whole[-1][1].pixels).square().mean().sqrt()
    assert apart < 1 / 255  # what was spared would not have been seen
    assert warnings(whole) == [] and len(losses(whole)) == 80


def test_a_search_that_moves_is_let_go_on(setup: Setup):
    moving = with_recipe(setup, patience=2, init="noise", solver="adam", solver_rate=0.02)
    assert warnings(watch(moving)) == []
    # By this much less, it is at rest.
    resting = with_recipe(moving, solver_rate=0.0002)
    assert len(warnings(watch(resting))) == 2


@pytest.mark.parametrize(("levels", "rests"), [(0.49, True), (0.51, False)])
def test_half_of_an_8_bit_level_is_what_an_eye_sees(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, levels: float, rests: bool
):
    """Adam in a constant gradient moves every pixel by its rate, here by so much in two steps."""

    def made(size: Size, problem: Problem, execution: Execution) -> Evaluate:
        return lambda pixels: (LossValue(float(pixels.mean()), {}), torch.ones_like(pixels))

    monkeypatch.setattr(loss_, "evaluation", made)
    mine = with_recipe(
        setup, solver="adam", solver_rate=levels / 255 / 2, patience=2, init="grey.png"
    )
    stream = watch(replace(mine, start=np.full((41, 50, 3), 0.5, np.float32)))
    assert [message.startswith("Nothing visible") for message in warnings(stream)] == [
        True
    ] * 2 * rests
    assert losses(stream)[0] - losses(stream)[1] == pytest.approx(levels / 255 / 2, rel=1e-3)


def test_no_picture_is_kept_to_look_back_to_where_nobody_looks(setup: Setup):
    """A whole picture more is much where memory is short; the plan does not count it there."""
    for patience, expected in ((0, set()), (5, set()), (4, {1})):
        stream = watch(with_recipe(setup, patience=patience))  # stages of 4 and of 5 steps
        assert {
            event.stage
            for event, state in stream
            if isinstance(event, Stepped) and state.reference is not None
        } == expected


def test_a_search_that_never_moves_rests_at_the_first_look(setup: Setup):
    still = {"content_weight": 1, "style_weight": 0, "smooth_weight": 0}
    stream = watch(with_recipe(setup, patience=3, **still), plan=LONGER)
    assert [event.step for event, _ in stream if isinstance(event, Stepped)][:3] == [1, 2, 3]
    assert kinds(stream)[4] == "Warned" and kinds(stream)[5] == "StageDone"
    assert warnings(watch(with_recipe(setup, patience=0, **still), plan=LONGER)) == []


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.6, 1.0])
@pytest.mark.parametrize("patience", [2, 5])
def test_resumed_with_patience_it_ends_with_the_same_bytes(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, rate: float, patience: int
):
    in_a_valley(monkeypatch)
    mine = with_recipe(setup, solver_rate=rate, patience=patience)
    undisturbed = check_resuming(mine, LONGER)
    assert len(warnings(undisturbed)) == 2  # otherwise this could not fail


# ---- a state written down ------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_state_that_was_packed_and_unpacked_is_the_same(setup: Setup, solver: str):
    mine = with_recipe(setup, solver=solver, solver_rate=0.02, patience=2, solver_average=0.5)
    for _, state in watch(mine):
        tensors, facts = state.pack()
        found = State.unpack(tensors, json.loads(json.dumps(facts)), torch.device("cpu"))
        for name in ("pixels", "best", "reference", "average"):
            one, other = getattr(found, name), getattr(state, name)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other), name
        assert {name: kept.load().tolist() for name, kept in found.memory.items()} == {
            name: kept.load().tolist() for name, kept in state.memory.items()
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
            assert getattr(found, name) == getattr(state, name)
        assert found.loss == state.loss or np.isnan(state.loss.total)


# ---- out of memory -------------------------------------------------------------------------------


class Narrow(Faulty):
    """A network that has no memory for a picture of more than so many pixels."""

    def __init__(self, network: Network, most: float, error: Exception, good: int = 0) -> None:
        super().__init__(network, good, torch.clone, 0)
        self.most, self.error = most, error

    def __call__(self, picture: Tensor, **how: Any) -> Mapping[str, Tensor]:
        if self.seen >= self.good and picture.shape[-1] * picture.shape[-2] > self.most:
            raise self.error
        return super().__call__(picture, **how)


OUT: dict[str, Exception] = {
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
    monkeypatch.setattr(execution_, "LEAST_TILE", 10)


def narrow(setup: Setup, most: float, error: str = "cpu", good: int = 0) -> Setup:
    return replace(setup, network=Narrow(setup.network, most, OUT[error], good))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("error", OUT)
@pytest.mark.parametrize("good", [0, 6])
def test_where_memory_runs_out_it_goes_on_in_tiles_to_the_same_picture(
    setup: Setup, error: str, good: int
):
    """At the start of a stage, and within one, where the current step is repeated."""
    whole, stream = watch(setup, plan=WIDE), watch(narrow(setup, MOST, error, good), plan=WIDE)
    assert len(setup.grid(Size(90, 110))) == 1
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
def test_where_memory_runs_out_with_the_maps_of_several_tiles_one_at_a_time_is_kept_first(
    setup: Setup, good: int
):
    several = setup.executed(tile=27, tiles_in_memory=3)
    expected, stream = (
        watch(several, plan=WIDE),
        watch(narrow(several, MOST, good=10**9), plan=WIDE),
    )
    assert warnings(stream) == [] and raw(stream[-1][1]) == raw(expected[-1][1])
    # What fails once passes as soon as less is held.
    once = replace(several, network=Faulty(setup.network, 6 * good, _no_memory, lasting=1))  # type: ignore[arg-type]
    stream = watch(once, plan=WIDE)
    (message,) = warnings(stream)
    assert "continuing with the feature maps of one tile at a time" in message
    # Not a byte is another.
    assert raw(stream[-1][1]) == raw(expected[-1][1]) and losses(stream) == losses(expected)


def _no_memory(x: Tensor) -> Tensor:
    raise OUT["cpu"]


@pytest.mark.usefixtures("small_tiles")
def test_tiles_are_halved_for_as_long_as_it_takes(setup: Setup):
    stream = watch(narrow(setup, 2900), plan=WIDE)
    assert [re.findall(r"tiles of (\d+) px", message) for message in warnings(stream)] == [
        ["55"],
        ["27"],
    ]
    assert isinstance(stream[-1][0], Finished)


@pytest.mark.usefixtures("small_tiles")
def test_memory_that_runs_out_at_the_last_look_is_no_end(setup: Setup):
    stream = watch(narrow(setup, MOST, good=WIDE.evaluations), plan=WIDE)
    assert isinstance(stream[-1][0], Finished) and stream[-1][1].tile == 55
    assert stream[-1][0].loss == pytest.approx(watch(setup, plan=WIDE)[-1][0].loss, rel=1e-5)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("error", OUT)
@pytest.mark.parametrize("good", [0, 3, 4, 6, 9])
def test_where_there_is_no_memory_at_all_the_best_picture_is_kept(
    setup: Setup, error: str, good: int
):
    stream = watch(narrow(setup, 0, error, good), plan=WIDE)
    event, state = stream[-1]
    assert (
        isinstance(event, Failed) and "Memory ran out" in event.message and "10 px" in event.message
    )
    assert kinds(stream).count("Stepped") == good
    if good == 0:
        assert torch.equal(state.pixels, setup.first_pixels(WIDE))
        return
    check_sound(setup, state, WIDE)
    assert state.loss.total == min(losses(stream)[0 if good <= 4 else 4 :])


def test_tiles_do_not_become_smaller_than_they_are_worth(setup: Setup):
    stream = watch(narrow(setup, 0), plan=Plan((Stage(Size(200, 300), 2),), 1.0))
    assert [message.partition("in tiles of ")[2][:3] for message in warnings(stream)] == ["150"]
    assert isinstance(stream[-1][0], Failed) and "tiles of 128 px" in stream[-1][0].message


@pytest.mark.usefixtures("small_tiles")
def test_resumed_after_memory_ran_out_it_ends_with_the_same_bytes(setup: Setup):
    mine = narrow(setup, MOST, good=6)
    stream = watch(mine, plan=WIDE)
    since = next(index for index, (event, _) in enumerate(stream) if isinstance(event, Warned))
    check_resuming(setup, WIDE, stream, since)  # where there is memory again, the tiles stay


# ---- out of memory outside an evaluation ---------------------------------------------------------


class Greedy:
    """Stands before a function and has no memory for some of its calls, counted from 1."""

    def __init__(
        self, work: Callable[..., Any], failing: Callable[[int], bool], error: Exception
    ) -> None:
        self.work, self.failing, self.error, self.calls = work, failing, error, 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls += 1
        if self.failing(self.calls):
            raise self.error
        return self.work(*given, **named)


def greedy_moves(
    monkeypatch: pytest.MonkeyPatch, solver: str, failing: Callable[[int], bool], error: str
) -> None:
    """Some moves break off in the middle, when the solver's memory has been changed already."""
    kind = {"lbfgs": lbfgs.LBFGS, "adam": first_order.Adam}[solver]
    move, count = kind.move, iter(range(1, 10_000))

    def broken(self: Any, gradient: Tensor, loss: float) -> None:
        if failing(next(count)):
            for kept in self.memory().values():
                kept.load().neg_()
            raise OUT[error]
        move(self, gradient, loss)

    monkeypatch.setattr(kind, "move", broken)


class Counting(DiskStore):
    """A place on disk that knows how many tensors it took."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kept: list[StoredTensor] = []

    @property
    def taken(self) -> int:
        return len(self.kept)

    def store(self, tensor: Tensor) -> StoredTensor:
        self.kept.append(super().store(tensor))
        return self.kept[-1]


def spacious(setup: Setup, folder: Path) -> tuple[Setup, list[Counting]]:
    """Setup that may put on disk what can wait there, and the places that they come to make."""
    places: list[Counting] = []

    def disk() -> Counting:
        places.append(Counting(folder))
        return places[-1]

    return setup.executed(make_disk_store=disk), places


@pytest.mark.slow
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("error", OUT)
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("failing", [1, 3, 7])
def test_memory_that_runs_out_in_a_move_goes_back_to_the_best_picture_and_on_with_a_disk(
    setup: Setup,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: str,
    solver: str,
    failing: int,
):
    mine, places = spacious(with_solver(setup, solver), tmp_path)
    whole = watch(mine, plan=WIDE)
    greedy_moves(monkeypatch, solver, lambda call: call == failing, error)
    stream = watch(mine, plan=WIDE)
    (message,) = warnings(stream)
    step = failing if failing <= 4 else failing - 4
    assert f"Memory ran out in step {step} of" in message and message.endswith(
        "continuing with tensors stored on disk."
    )
    assert [kind for kind in kinds(stream) if kind != "Warned"] == kinds(whole)
    state = stream[kinds(stream).index("Warned")][1]
    check_sound(mine, state, WIDE)
    assert state.memory == {} and state.loss.total <= min(
        losses(stream)[0 if failing <= 4 else 4 : failing - 1] or [9.0]
    )
    assert [place.taken > 0 for place in places] == [True, solver == "lbfgs"]
    end, expected = stream[-1][0], whole[-1][0]
    assert (
        isinstance(end, Finished)
        and isinstance(expected, Finished)
        and end.loss < 1.3 * expected.loss
    )


@pytest.mark.usefixtures("small_tiles")
def test_resumed_after_memory_ran_out_in_a_move_it_ends_with_the_same_bytes(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with monkeypatch.context() as patch:
        greedy_moves(patch, "lbfgs", lambda call: call == 7, "cpu")
        stream = watch(spacious(setup, tmp_path)[0], plan=WIDE)
    check_resuming(setup, WIDE, stream, kinds(stream).index("Warned"))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("call", [1, 2])
def test_memory_that_runs_out_before_the_first_step_of_a_size_changes_nothing_but_where_things_wait(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: int
):
    mine, places = spacious(setup, tmp_path)
    whole = watch(mine, plan=WIDE)
    monkeypatch.setattr(
        solver_factory,
        "make_solver",
        Greedy(solver_factory.make_solver, lambda calls: calls == call, OUT["cpu"]),
    )
    stream = watch(mine, plan=WIDE)
    (message,) = warnings(stream)
    assert (
        "ran out in step 1 of" in message
        and "on disk" in message
        and all(place.taken for place in places)
    )
    assert losses(stream) == losses(whole) and raw(stream[-1][1]) == raw(whole[-1][1])


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("good", [0, 1, 5])
def test_where_no_move_can_be_made_at_all_the_best_picture_is_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: int
):
    greedy_moves(monkeypatch, "lbfgs", lambda call: call > good, "cuda")
    stream = watch(spacious(setup, tmp_path)[0], plan=WIDE)
    event, state = stream[-1]
    assert isinstance(event, Failed) and event.memory and "Memory ran out in step" in event.message
    assert "on disk" in warnings(stream)[0] and all(
        "tiles" in message for message in warnings(stream)[1:]
    )
    assert kinds(stream).count("Stepped") == good
    value, _ = setup.evaluation(Size(*state.pixels.shape[-2:]), WIDE)(state.pixels)
    assert value.total == pytest.approx(state.loss.total, rel=1e-6)  # tiles round otherwise


def test_a_picture_that_cannot_be_grown_ends_with_the_one_of_the_size_before(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        upscale, "upscale_pixels", Greedy(upscale.upscale_pixels, lambda call: True, OUT["cpu"])
    )
    stream = watch(setup, plan=WIDE)
    event, state = stream[-1]
    assert (
        isinstance(event, Failed)
        and event.memory
        and "before the first step at 110x90" in event.message
    )
    check_sound(setup, state, WIDE)
    assert torch.equal(state.pixels, stream[-2][1].pixels) and tuple(state.pixels.shape[-2:]) == (
        40,
        50,
    )
    monkeypatch.undo()
    assert raw(watch(setup, state, WIDE)[-1][1]) == raw(watch(setup, plan=WIDE)[-1][1])


@pytest.mark.usefixtures("small_tiles")
def test_the_disk_is_taken_where_the_smallest_tiles_are_not_enough(setup: Setup, tmp_path: Path):
    mine, places = spacious(narrow(setup, 0, good=6), tmp_path)
    stream = watch(mine, plan=WIDE)
    assert ["on disk" in message for message in warnings(stream)] == [False] * (
        len(warnings(stream)) - 1
    ) + [True]
    assert isinstance(stream[-1][0], Failed) and len(places) == 2


@pytest.mark.usefixtures("small_tiles")
def test_pairs_that_are_remembered_go_to_disk_in_the_midst_of_a_size(setup: Setup, tmp_path: Path):
    mine, places = spacious(narrow(setup, 0, good=7), tmp_path)
    whole = watch(setup, plan=WIDE)
    stream = iterate(WIDE, mine)
    for event, _ in stream:
        if isinstance(event, Warned) and "on disk" in event.message:
            mine.network.most = 1e9  # type: ignore[attr-defined]
        if isinstance(event, Stepped) and event.evaluations == 8:
            break
    pairs = sum(not isinstance(kept, InMemoryTensor) for kept in places[1].kept)
    assert pairs == 2 * 3  # two that were recalled, and the one that the eighth gradient told
    assert isinstance(event, Stepped) and event.loss == pytest.approx(losses(whole)[7], rel=1e-5)


@pytest.mark.parametrize("name", ["dist", "clamp"])
def test_memory_that_runs_out_in_passing_ends_nothing(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, name: str
):
    mine = with_recipe(setup, patience=2, init="noise", solver="adam", solver_rate=0.02)
    whole = watch(mine)
    monkeypatch.setattr(
        torch, name, Greedy(getattr(torch, name), lambda call: call == 1, OUT["cpu"])
    )
    monkeypatch.setattr(execution_, "LEAST_TILE", 10)
    stream = watch(mine)
    assert isinstance(stream[-1][0], Finished) and losses(stream) == losses(whole)
    assert torch.allclose(stream[-1][1].pixels, whole[-1][1].pixels)
    assert [("at the last look" in message) for message in warnings(stream)] == [True] * (
        name == "clamp"
    )


def test_a_disk_that_cannot_be_had_is_no_crash(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    def disk() -> DiskStore:
        raise OSError("read-only file system")

    greedy_moves(monkeypatch, "lbfgs", lambda call: call == 3, "cpu")
    stream = watch(setup.executed(make_disk_store=disk), plan=WIDE)
    # No tile is left to be cut either.
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
def test_any_other_error_is_not_taken_for_it(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setitem(OUT, "other", error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        watch(narrow(setup, 0, "other"))


# ---- on disk -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["float64", "channels-last", "bfloat16"])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_what_waits_on_disk_makes_no_other_picture(
    setup: Setup,
    network_of: Callable[..., Network],
    tmp_path: Path,
    kernel: str,
    tile: int,
    solver: str,
):
    mine = with_solver(setup, solver, solver_history=2)
    network = network_of(*LAYERS, padding="reflect", kernel=kernel)
    mine = replace(mine, network=network).executed(tile=tile)
    places = Counting(tmp_path), Counting(tmp_path)
    disk = watch(mine.executed(targets=places[0], history=places[1]))
    memory = watch(mine)
    assert places[0].taken == sum(len(mine.grid(stage.size)) for stage in PLAN.stages)
    assert (places[1].taken > 0) == (solver == "lbfgs")
    assert losses(disk) == losses(memory)
    assert raw(disk[-1][1]) == raw(memory[-1][1])


def test_resumed_from_memory_it_goes_on_on_disk_and_the_other_way_round(
    setup: Setup, tmp_path: Path
):
    places = {"targets": DiskStore(tmp_path), "history": DiskStore(tmp_path)}
    whole = watch(setup)
    for first, second in ((setup, setup.executed(**places)), (setup.executed(**places), setup)):
        for index in (3, 8):
            assert raw(watch(second, watch(first)[index][1])[-1][1]) == raw(whole[-1][1])


def test_tensors_stay_in_memory_where_nothing_else_is_said(setup: Setup):
    assert isinstance(setup.execution.targets, MemoryStore) and isinstance(
        setup.execution.history, MemoryStore
    )
