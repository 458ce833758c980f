"""A session: memory budget, plan, the picture of a time budget, and what the user is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import impasto.session
from impasto import images
from impasto.errors import DoesNotFit
from impasto.events import Event, Finished, Planned, Stepped, Warned
from impasto.geometry import Size
from impasto.hardware import system_memory
from impasto.images import color_transfer
from impasto.inputs import Inputs, read_inputs
from impasto.optimize import loss
from impasto.optimize.checkpoint import Checkpoint
from impasto.optimize.execution import Execution
from impasto.optimize.state import State
from impasto.planning import memory as planning
from impasto.planning import schedule, speed
from impasto.planning.time_budget import TimeBudget
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.session import Session
from impasto.storage.tensors import DiskStore
from tests.support.pictures import save_random
from tests.support.pocket_network import set_speed, use_pocket_network

QUICK: dict[str, Any] = {"size": 96, "iterations": "3,3", "schedule_coarsest": 48}


@pytest.fixture(autouse=True)
def pocket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_pocket_network(monkeypatch, tmp_path)
    save_random("photo.png", 480, 640)
    save_random("painting.png", 60, 80, seed=1)


def free(monkeypatch: pytest.MonkeyPatch, memory: int = 2**40, disk: int = 2**40) -> None:
    monkeypatch.setattr(system_memory, "free_memory", lambda where: memory)
    monkeypatch.setattr(system_memory, "free_disk", lambda folder: disk)


def make_inputs(**settings: Any) -> Inputs:
    recipe = loading.with_settings(Recipe(), {**QUICK, **settings})
    return read_inputs("photo.png", "painting.png", recipe, any_size=True)


def open_session(checkpoint: Checkpoint | None = None, **settings: Any) -> Session:
    return Session.open(make_inputs(**settings), checkpoint=checkpoint)


def run(session: Session) -> list[tuple[Event, State]]:
    return list(session.run())


def notes(steps: list[tuple[Event, State]]) -> list[str]:
    return [event.message for event, _ in steps if isinstance(event, Warned)]


def choose(session: Session, seconds: float, fixed: frozenset[str] = frozenset()) -> Inputs:
    """The inputs with the size and evaluations chosen for a time."""
    return session.for_time(TimeBudget(seconds, fixed)).inputs


# ---- the plan ------------------------------------------------------------------------------------


def test_the_memory_budget_is_what_is_free_and_what_the_pictures_take(
    monkeypatch: pytest.MonkeyPatch,
):
    free(monkeypatch, 123, 456)
    save_random("start.png", 50, 50)
    budget = open_session(memory="3GB", init="start.png").memory_budget()
    assert budget == planning.MemoryBudget(
        123, 3_000_000_000, 456, 4 * 3 * (480 * 640 + 60 * 80 + 50 * 50)
    )
    assert open_session().memory_budget().limit == 0
    prepared = 4 * 3 * 480 * 640  # beside the photo as it was read
    assert (
        open_session(photo_median=3).memory_budget().inputs
        == open_session().memory_budget().inputs + prepared
    )


@pytest.mark.parametrize(
    "settings",
    [{"photo_median": 3}, {"photo_colours": 0.3}, {"photo_median": 5, "photo_colours": 1}],
)
def test_the_photo_is_prepared_as_the_recipe_wants_it(settings: dict[str, Any]):
    inputs = make_inputs(**settings)
    kept = inputs.photo.pixels.copy()
    expected = inputs.photo.pixels
    if median := settings.get("photo_median"):
        expected = images.median(expected, median)
    if share := settings.get("photo_colours"):
        expected = color_transfer.transfer(
            expected, color_transfer.color_statistics(inputs.paintings[0].pixels), share
        )
    prepared = Session.open(inputs).problem.photo
    np.testing.assert_array_equal(prepared, expected)
    assert not np.array_equal(prepared, inputs.photo.pixels)
    np.testing.assert_array_equal(inputs.photo.pixels, kept)


def test_a_photo_that_is_not_to_be_prepared_is_not_copied():
    session = open_session()
    assert session.problem.photo is session.inputs.photo.pixels


def test_what_is_planned_is_what_will_be_done(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    free(monkeypatch, 2**40)
    session = open_session()
    planned, execution = session.plan, session.execution_plan
    assert (planned, execution) == session.plan_for(session.inputs)
    assert execution == planning.ExecutionPlan() and planned.tile == planned.disk_bytes == 0
    assert planned.size == Size(72, 96) and planned.stages == ((Size(36, 48), 3), (Size(72, 96), 3))
    assert (
        planned.kernel == "conv2d"
        and planned.device.startswith("cpu")
        and planned.free_bytes == 2**40
    )
    expected = 1e-6 * (3 * 36 * 48 + 4 * 72 * 96)
    assert planned.seconds == round(expected, 1)
    inputs, network = session.inputs, session.problem.network
    needed = planning.peak_bytes(inputs.plan, inputs.recipe, network)
    assert planned.memory_bytes == needed + session.memory_budget().inputs


def test_the_network_has_the_recipes_gain():
    plain, louder = (
        open_session().problem.network,
        open_session(network_gain=3).problem.network,
    )
    assert torch.equal(louder.input_weight, 3 * plain.input_weight)
    for name, convolution in louder.convolutions.items():
        assert torch.equal(convolution.bias, 3 * plain.convolutions[name].bias)
        assert torch.equal(convolution.weight, plain.convolutions[name].weight)


def test_little_memory_makes_tiles_and_a_disk(monkeypatch: pytest.MonkeyPatch):
    session = open_session(size=640)
    network, inputs = session.problem.network, session.inputs
    least = planning.ExecutionPlan(256, False, targets_on_disk=True, history_on_disk=True)
    needed = planning.peak_bytes(inputs.plan, inputs.recipe, network, least)
    needed += session.memory_budget().inputs
    free(monkeypatch, int(needed / 0.85) + 10)
    planned, execution = session.plan_for(inputs)
    assert execution == least and planned.tile == 256
    assert planned.disk_bytes > 0
    assert planned.disk_bytes == planning.disk_bytes(inputs.plan, inputs.recipe, network, least)
    assert planned.memory_bytes == needed
    free(monkeypatch, int(needed / 0.85) + 10, disk=0)
    assert session.plan_for(inputs)[1] == planning.ExecutionPlan(256, reuse_memory=False)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_waits_on_disk_waits_below_the_cache_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, on_disk: bool, tmp_path: Path
):
    expected = run(open_session())[-1][1].pixels
    made: list[Path] = []
    keep = DiskStore.__init__

    def init(self: DiskStore, folder: Path) -> None:
        made.append(folder)
        keep(self, folder)

    monkeypatch.setattr(DiskStore, "__init__", init)
    execution = planning.ExecutionPlan(targets_on_disk=on_disk, history_on_disk=on_disk)
    monkeypatch.setattr(planning, "choose_execution", lambda *_: execution)
    found = run(open_session())[-1][1].pixels
    assert made == [tmp_path / "cache" / "scratch"] * (2 if on_disk else 0)
    assert torch.equal(found, expected)
    assert not on_disk or list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_a_limit_that_is_too_low_is_refused_before_anything_is_painted():
    session = open_session(memory="100MB")
    with pytest.raises(DoesNotFit, match=r"--memory allows 0\.1 GB"):
        session.run()


# ---- running -------------------------------------------------------------------------------------


def test_the_plan_comes_first_and_the_end_last():
    stream = run(open_session())
    assert isinstance(stream[0][0], Planned) and isinstance(stream[-1][0], Finished)
    assert sum(isinstance(event, Planned) for event, _ in stream) == 1
    assert notes(stream) == []


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_each_step_has_gradients_whatever_the_caller_does_between_them(mode: Callable[[], Any]):
    expected = run(open_session())[-1][1].pixels
    with mode():
        steps = open_session().run()
        states = [state for _, state in steps if not torch.is_grad_enabled()]
    assert torch.equal(states[-1].pixels, expected)


def test_more_than_is_free_is_said_before_the_first_step(monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 2**20, disk=0)
    stream = run(open_session())
    assert isinstance(stream[1][0], Warned)
    assert (
        "1 MB are free: a smaller --size is safer" in notes(stream)[0] and len(notes(stream)) == 1
    )
    assert isinstance(stream[-1][0], Finished)  # and it is tried


def checkpoint(session: Session, steps: int, tile: int | None = None) -> Checkpoint:
    """The checkpoint of a run that was interrupted after so many steps."""
    for event, state in session.run():
        if isinstance(event, Stepped) and event.evaluations == steps:
            state = replace(state, tile=state.tile if tile is None else tile)
            tensors, values = state.pack()
            return Checkpoint(tensors, {**values, "kernel": session.kernel})
    raise AssertionError(f"there is no step {steps}")


def test_an_unfinished_run_is_gone_on_with_and_said():
    whole = run(open_session())
    stream = run(open_session(checkpoint(open_session(), 4)))
    assert notes(stream) == [
        "Continuing an unfinished run after 4 of 6 evaluations; --fresh starts over."
    ]
    assert sum(isinstance(event, Stepped) for event, _ in stream) == 2
    assert torch.equal(stream[-1][1].pixels, whole[-1][1].pixels)


@pytest.mark.slow
def test_an_unfinished_run_keeps_its_tiles_where_they_fit_and_says_so_where_not(
    monkeypatch: pytest.MonkeyPatch,
):
    free(monkeypatch)
    kept = checkpoint(open_session(size=640, iterations="2,1", schedule_coarsest=320), 3, tile=400)
    stream = run(open_session(kept, size=640, iterations="2,1", schedule_coarsest=320))
    assert (
        stream[-1][1].tile == 400
        and len(notes(stream)) == 2
        and "is enlarged 8 times" in notes(stream)[1]
    )
    planned = stream[0][0]
    assert isinstance(planned, Planned) and planned.tile == 400
    session = open_session(kept, size=640, iterations="2,1", schedule_coarsest=320)
    least = planning.peak_bytes(
        session.inputs.plan,
        session.inputs.recipe,
        session.problem.network,
        planning.ExecutionPlan(256, reuse_memory=False),
    )
    free(monkeypatch, int((least + session.memory_budget().inputs) / 0.85) + 10, disk=0)
    stream = run(session)
    assert stream[-1][1].tile == 256
    assert "There is less memory than before: continuing in tiles of 256 px" in notes(stream)[1]


# ---- in a given time -----------------------------------------------------------------------------


def cost(session: Session, inputs: Inputs) -> float:
    return session.speed.seconds(inputs.plan, session.problem.network)


@pytest.mark.parametrize("seconds", [10, 50, 500, 1e5])
def test_the_size_and_the_evaluations_fit_into_the_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float
):
    set_speed(monkeypatch, 1e-4)
    free(monkeypatch)
    session = open_session()
    found = choose(session, seconds)
    assert cost(session, found) <= seconds + 0.05  # the plan is rounded to 0.1 s
    assert found.plan == schedule.make_plan(found.recipe, session.inputs.photo.size)
    assert found.recipe.size <= 640 and found.photo is session.inputs.photo
    assert (found.recipe.size == 640) == (seconds > 100)


def test_free_memory_is_the_same_for_all_candidates(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    session, calls = open_session(), [0]

    def changing(device: torch.device) -> int:
        calls[0] += 1
        return 2**40

    monkeypatch.setattr(system_memory, "free_memory", changing)
    choose(session, 1000)
    assert calls == [2]  # for the smallest picture, and for all candidates


def test_a_size_that_is_chosen_is_of_the_long_side_and_one_that_is_named_of_the_side_it_was(
    monkeypatch: pytest.MonkeyPatch,
):
    set_speed(monkeypatch, 1e-6)
    session = open_session(side="short", size=60)
    chosen, named = choose(session, 5.0), choose(session, 5.0, frozenset({"size"}))
    assert chosen.recipe.side == "long" and chosen.plan.size.long_side == chosen.recipe.size
    assert named.recipe.side == "short" and named.plan.size.short_side == 60


def test_what_is_named_stays(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    free(monkeypatch)
    session = open_session(size=200)
    assert choose(session, 1000, frozenset({"size", "strength"})).recipe.size == 200
    assert choose(session, 1000, frozenset({"iterations"})).recipe.schedule.iterations == (3, 3)


def test_a_size_that_the_memory_does_not_allow_is_not_chosen(monkeypatch: pytest.MonkeyPatch):
    """However much time there is; and nothing is refused for a size that nobody asked for."""
    set_speed(monkeypatch, 1e-6)
    free(monkeypatch, disk=0)
    roomy = open_session()
    small = planning.peak_bytes(
        schedule.make_plan(loading.with_settings(Recipe(), {"size": 256}), Size(480, 640)),
        Recipe(),
        roomy.problem.network,
    )
    limited = open_session(memory=math.ceil((small + roomy.memory_budget().inputs) / 0.9) + 1)
    found = choose(limited, 1000)
    assert 128 < found.recipe.size < 640 == choose(roomy, 1000).recipe.size
    limited.plan_for(found)
    too_large = replace(found, plan=schedule.make_plan(Recipe(size=640), Size(480, 640)))
    with pytest.raises(DoesNotFit):
        limited.plan_for(too_large)


def test_where_no_size_is_allowed_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    session = open_session(memory="1MB")
    with pytest.raises(DoesNotFit):
        choose(session, 1000)


def test_timing_a_machine_leaves_the_problem_as_it_was():
    session = open_session()
    problem, inputs = session.problem, session.inputs
    assert session.speed.seconds(inputs.plan, problem.network) > 0
    assert session.problem is problem and session.inputs is inputs
    size = Size(36, 48)
    value, _ = loss.evaluation(size, problem, Execution())(torch.zeros(1, 3, *size))
    assert np.isfinite(value.total)


def test_gradient_norms_and_the_execution_do_not_time_the_machine(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the machine was timed")

    monkeypatch.setattr(speed, "measure_speed", refuse)
    session = open_session()
    assert session.execution_plan == planning.ExecutionPlan()
    [norms] = session.gradient_norms([images.resize(session.inputs.photo.pixels, Size(72, 96))])
    assert norms["content"] >= 0 and norms["style"] > 0


def test_the_threads_of_the_recipe_are_used_from_the_first_pixels_on(
    monkeypatch: pytest.MonkeyPatch,
):
    before, counts = torch.get_num_threads(), []
    first_pixels = impasto.session.first_pixels

    def watched(*args: Any) -> torch.Tensor:
        counts.append(torch.get_num_threads())
        return first_pixels(*args)

    monkeypatch.setattr(impasto.session, "first_pixels", watched)
    session = open_session(threads=before + 1)
    session.run()
    assert f"{before + 1} threads" in session.plan.device
    assert counts == [before + 1] and torch.get_num_threads() == before
