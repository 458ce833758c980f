"""What is set up for a request, and what is said about it: room, plan, the picture of a given time,
and notes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from impasto import images, session
from impasto.errors import DoesNotFit
from impasto.events import Event, Finished, Planned, Stepped, Warned
from impasto.geometry import Size
from impasto.hardware import system_memory
from impasto.images import color_transfer
from impasto.inputs import Request, request
from impasto.optimize import loss
from impasto.optimize.state import State
from impasto.planning import memory as planning
from impasto.planning import schedule
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.runs.folder import Checkpoint
from impasto.storage.tensors import DiskStore, MemoryStore
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


def ask(**settings: Any) -> Request:
    recipe = loading.with_settings(Recipe(), {**QUICK, **settings})
    return request("photo.png", "painting.png", recipe, any_size=True)


def bench(**settings: Any) -> session.Bench:
    return session.bench(ask(**settings), lambda name, done, total: None)


def seen(ready: session.Bench, kept: Checkpoint | None = None) -> list[tuple[Event, State]]:
    return list(session.stream(ready, kept))


def notes(stream: list[tuple[Event, State]]) -> list[str]:
    return [event.message for event, _ in stream if isinstance(event, Warned)]


# ---- room ----------------------------------------------------------------------------------------


def test_the_room_is_what_is_free_and_what_the_pictures_take(monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 123, 456)
    save_random("start.png", 50, 50)
    room = bench(memory="3GB", init="start.png").room()
    assert room == planning.MemoryBudget(
        123, 3_000_000_000, 456, 4 * 3 * (480 * 640 + 60 * 80 + 50 * 50)
    )
    assert bench().room().limit == 0
    prepared = 4 * 3 * 480 * 640  # beside the photo as it was read
    assert bench(photo_median=3).room().inputs == bench().room().inputs + prepared


@pytest.mark.parametrize(
    "settings",
    [{"photo_median": 3}, {"photo_colours": 0.3}, {"photo_median": 5, "photo_colours": 1}],
)
def test_the_photo_is_prepared_as_the_recipe_wants_it(settings: dict[str, Any]):
    asked = ask(**settings)
    kept = asked.photo.pixels.copy()
    expected = asked.photo.pixels
    if median := settings.get("photo_median"):
        expected = images.median(expected, median)
    if share := settings.get("photo_colours"):
        expected = color_transfer.transfer(
            expected, color_transfer.color_statistics(asked.paintings[0].pixels), share
        )
    tools = session.bench(asked, lambda name, done, total: None).tools
    np.testing.assert_array_equal(tools.photo, expected)
    assert not np.array_equal(tools.photo, asked.photo.pixels)
    np.testing.assert_array_equal(asked.photo.pixels, kept)


def test_a_photo_that_is_not_to_be_prepared_is_not_copied():
    ready = bench()
    assert ready.tools.photo is ready.asked.photo.pixels


def test_what_is_planned_is_what_will_be_done(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    free(monkeypatch, 2**40)
    ready = bench()
    planned, way = ready.planned(ready.asked)
    assert way == planning.ExecutionPlan() and planned.tile == planned.disk_bytes == 0
    assert planned.size == Size(72, 96) and planned.stages == ((Size(36, 48), 3), (Size(72, 96), 3))
    assert (
        planned.kernel == "conv2d"
        and planned.device.startswith("cpu")
        and planned.free_bytes == 2**40
    )
    expected = 1e-6 * (3 * 36 * 48 + 4 * 72 * 96)
    assert planned.seconds == round(expected, 1)
    inputs = ready.room().inputs
    assert (
        planned.memory_bytes
        == planning.memory(ready.asked.plan, ready.asked.recipe, ready.tools.network) + inputs
    )


def test_the_network_has_the_recipes_gain():
    plain, louder = bench().tools.network, bench(network_gain=3).tools.network
    assert torch.equal(louder.input_weight, 3 * plain.input_weight)
    for name, convolution in louder.convolutions.items():
        assert torch.equal(convolution.bias, 3 * plain.convolutions[name].bias)
        assert torch.equal(convolution.weight, plain.convolutions[name].weight)


def test_little_memory_makes_tiles_and_a_disk(monkeypatch: pytest.MonkeyPatch):
    ready = bench(size=640)
    network, asked = ready.tools.network, ready.asked
    least = planning.ExecutionPlan(256, reuse=False, targets_on_disk=True, history_on_disk=True)
    needed = planning.memory(asked.plan, asked.recipe, network, least) + ready.room().inputs
    free(monkeypatch, int(needed / 0.85) + 10)
    planned, way = ready.planned(asked)
    assert way == least and planned.tile == 256
    assert planned.disk_bytes == planning.disk(asked.plan, asked.recipe, network, way) > 0
    assert planned.memory_bytes == needed
    free(monkeypatch, int(needed / 0.85) + 10, disk=0)
    assert ready.planned(asked)[1] == planning.ExecutionPlan(256, reuse=False)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_waits_on_disk_waits_below_the_cache_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, on_disk: bool, tmp_path: Path
):
    expected = seen(bench())[-1][1].pixels
    made: list[Path] = []
    keep = DiskStore.__init__

    def init(self: DiskStore, folder: Path) -> None:
        made.append(folder)
        keep(self, folder)

    monkeypatch.setattr(DiskStore, "__init__", init)
    way = planning.ExecutionPlan(targets_on_disk=on_disk, history_on_disk=on_disk)
    monkeypatch.setattr(planning, "holding", lambda *_: way)
    found = seen(bench())[-1][1].pixels
    assert made == [tmp_path / "cache" / "scratch"] * (2 if on_disk else 0)
    assert torch.equal(found, expected)
    assert not on_disk or list((tmp_path / "cache" / "scratch").iterdir()) == []


def test_a_limit_that_is_too_low_is_refused_before_anything_is_painted():
    ready = bench(memory="100MB")
    with pytest.raises(DoesNotFit, match=r"--memory allows 0\.1 GB"):
        next(session.stream(ready))


# ---- the stream ----------------------------------------------------------------------------------


def test_the_plan_comes_first_and_the_end_last():
    stream = seen(bench())
    assert isinstance(stream[0][0], Planned) and isinstance(stream[-1][0], Finished)
    assert sum(isinstance(event, Planned) for event, _ in stream) == 1
    assert notes(stream) == []


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_each_step_has_gradients_whatever_the_caller_does_between_them(mode: Callable[[], Any]):
    expected = seen(bench())[-1][1].pixels
    with mode():
        ready = bench()
        stream = session.stream(ready)
        states = [state for _, state in stream if not torch.is_grad_enabled()]
    assert torch.equal(states[-1].pixels, expected)


def test_more_than_is_free_is_said_before_the_first_step(monkeypatch: pytest.MonkeyPatch):
    free(monkeypatch, 2**20, disk=0)
    stream = seen(bench())
    assert isinstance(stream[1][0], Warned)
    assert (
        "1 MB are free: a smaller --size is safer" in notes(stream)[0] and len(notes(stream)) == 1
    )
    assert isinstance(stream[-1][0], Finished)  # and it is tried


def checkpoint(ready: session.Bench, steps: int, tile: int | None = None) -> Checkpoint:
    """What a run that was interrupted after so many steps has written down."""
    for event, state in session.stream(ready):
        if isinstance(event, Stepped) and event.evaluations == steps:
            state = replace(state, tile=state.tile if tile is None else tile)
            tensors, facts = state.pack()
            return Checkpoint(tensors, facts)
    raise AssertionError(f"there is no step {steps}")


def test_an_unfinished_run_is_gone_on_with_and_said():
    whole = seen(bench())
    stream = seen(bench(), checkpoint(bench(), 4))
    assert notes(stream) == [
        "Going on from an unfinished run after 4 of 6 evaluations; --fresh starts over."
    ]
    assert sum(isinstance(event, Stepped) for event, _ in stream) == 2
    assert torch.equal(stream[-1][1].pixels, whole[-1][1].pixels)


def test_an_unfinished_run_keeps_its_tiles_where_they_fit_and_says_so_where_not(
    monkeypatch: pytest.MonkeyPatch,
):
    free(monkeypatch)
    kept = checkpoint(bench(size=640, iterations="2,1", schedule_coarsest=320), 3, tile=400)
    stream = seen(bench(size=640, iterations="2,1", schedule_coarsest=320), kept)
    assert (
        stream[-1][1].tile == 400
        and len(notes(stream)) == 2
        and "is enlarged 8 times" in notes(stream)[1]
    )
    planned = stream[0][0]
    assert isinstance(planned, Planned) and planned.tile == 400
    ready = bench(size=640, iterations="2,1", schedule_coarsest=320)
    least = planning.memory(
        ready.asked.plan,
        ready.asked.recipe,
        ready.tools.network,
        planning.ExecutionPlan(256, reuse=False),
    )
    free(monkeypatch, int((least + ready.room().inputs) / 0.85) + 10, disk=0)
    stream = seen(ready, kept)
    assert stream[-1][1].tile == 256
    assert "There is less memory than before: going on in tiles of 256 px" in notes(stream)[1]


# ---- in a given time -----------------------------------------------------------------------------


def cost(ready: session.Bench, asked: Request) -> float:
    return ready.speed.seconds(asked.plan, ready.tools.network)


@pytest.mark.parametrize("seconds", [10, 50, 500, 1e5])
def test_the_size_and_the_evaluations_fit_into_the_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float
):
    set_speed(monkeypatch, 1e-4)
    free(monkeypatch)
    ready = bench()
    found = ready.within(seconds, frozenset())
    assert cost(ready, found) <= seconds + 0.05  # what is said is rounded to a tenth
    assert found.plan == schedule.plan(found.recipe, ready.asked.photo.size)
    assert found.recipe.size <= 640 and found.photo is ready.asked.photo
    assert (found.recipe.size == 640) == (seconds > 100)


def test_the_machine_is_asked_once_for_all_candidates(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    ready, asked = bench(), [0]

    def changing(where: torch.device) -> int:
        asked[0] += 1
        return 2**40

    monkeypatch.setattr(system_memory, "free_memory", changing)
    ready.within(1000, frozenset())
    assert asked == [1]


def test_a_size_that_is_chosen_is_of_the_long_side_and_one_that_is_named_of_the_side_it_was(
    monkeypatch: pytest.MonkeyPatch,
):
    set_speed(monkeypatch, 1e-6)
    ready = bench(side="short", size=60)
    chosen, named = ready.within(5.0, set()), ready.within(5.0, {"size"})
    assert chosen.recipe.side == "long" and chosen.plan.size.long_side == chosen.recipe.size
    assert named.recipe.side == "short" and named.plan.size.short_side == 60


def test_what_is_named_stays(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    free(monkeypatch)
    ready = bench(size=200)
    assert ready.within(1000, frozenset({"size", "strength"})).recipe.size == 200
    assert ready.within(1000, frozenset({"iterations"})).recipe.schedule.iterations == (3, 3)


def test_a_size_that_the_memory_does_not_allow_is_not_chosen(monkeypatch: pytest.MonkeyPatch):
    """However much time there is; and nothing is refused for a size that nobody asked for."""
    set_speed(monkeypatch, 1e-6)
    free(monkeypatch, disk=0)
    roomy = bench()
    small = planning.memory(
        schedule.plan(loading.with_settings(Recipe(), {"size": 256}), Size(480, 640)),
        Recipe(),
        roomy.tools.network,
    )
    limited = bench(memory=math.ceil((small + roomy.room().inputs) / 0.9) + 1)
    found = limited.within(1000, frozenset())
    assert 128 < found.recipe.size < 640 == roomy.within(1000, frozenset()).recipe.size
    limited.planned(found)
    with pytest.raises(DoesNotFit):
        limited.planned(replace(found, plan=schedule.plan(Recipe(size=640), Size(480, 640))))


def test_where_no_size_is_allowed_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-6)
    ready = bench(memory="1MB")
    with pytest.raises(DoesNotFit):
        ready.planned(ready.within(1000, frozenset()))


def test_timing_a_machine_leaves_the_tools_as_they_were():
    ready = bench()
    assert isinstance(ready.tools.targets, MemoryStore) and isinstance(
        ready.tools.history, MemoryStore
    )
    assert ready.tools.tile == 0
    size = Size(36, 48)
    value, _ = loss.evaluation(size, ready.asked.plan, ready.tools)(torch.zeros(1, 3, *size))
    assert np.isfinite(value.total)
