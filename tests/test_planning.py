"""What it will cost: the memory model, the ways to hold a plan, a machine's pace, and the picture
of a given time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from impasto.errors import BadRecipe, DoesNotFit
from impasto.geometry import Size, Tile
from impasto.networks import vgg
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.planning import memory as planning
from impasto.planning import schedule, speed, time_budget
from impasto.planning.memory import ExecutionPlan, MemoryBudget
from impasto.planning.schedule import LEAST_SIDE, Plan
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from tests.support.pocket_network import POCKET, pocket_weights

CPU = torch.device("cpu")
PHOTO = Size(300, 400)
PLENTY = 2**50


@pytest.fixture(autouse=True, scope="module")
def pocket() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vgg.CONFIGURATIONS, "E", POCKET["E"])
        yield


def network(**how: Any) -> Network:
    return Network(pocket_weights("E"), "E", {"relu1_1", "relu5_1"}, **how)


def planned(size: int = 256, **settings: Any) -> tuple[Plan, Recipe]:
    recipe = loading.with_settings(Recipe(), {"size": size, **settings})
    return schedule.plan(recipe, PHOTO), recipe


# ---- memory --------------------------------------------------------------------------------------


def memory(
    size: int = 256,
    net: Network | None = None,
    way: ExecutionPlan = planning.WHOLE,
    **settings: Any,
) -> int:
    return planning.peak_bytes(*planned(size, **settings), net or network(), way)


def disk(size: int, way: ExecutionPlan, **settings: Any) -> int:
    return planning.disk_bytes(*planned(size, **settings), network(), way)


def test_memory_grows_with_the_pixels():
    def of(size: int) -> int:
        return memory(size, iterations=20)

    program = of(64) - (of(128) - of(64)) / 3  # 3 more of the smaller picture's pixels
    for size in (256, 512, 2048):
        assert of(size) - program == pytest.approx((of(64) - program) * (size / 64) ** 2, rel=1e-3)


def test_memory_grows_with_what_is_kept():
    long = {"iterations": 200}
    pair = 2 * 3 * 4 * 256 * 192
    assert memory(solver_history=100, **long) - memory(solver_history=10, **long) == 90 * pair
    assert memory(solver="adam") < memory()
    assert memory(net=network(kernel=KERNELS["bfloat16"])) < memory()
    # Of what a maximum is taken of, the maximum and its place are kept; an average needs all of it.
    assert memory(net=network(pooling="max")) < memory(net=network(pooling="average"))
    assert memory(iterations=500) == memory(iterations=60)
    # No more is remembered than was done.
    assert memory(iterations=10) - memory(iterations="80,4") == 6 * pair
    assert (
        memory(content_weight=0) < memory(content_layers="relu1_1") and memory(tile=64) == memory()
    )


def test_a_map_that_is_looked_at_before_its_relu_is_kept_as_well():
    channels, *_ = POCKET["E"][0]
    without, with_it = (
        Network(pocket_weights("E"), "E", {"relu5_1", *more}) for more in ((), ("conv1_1",))
    )
    assert memory(net=with_it) - memory(net=without) == channels * 4 * 256 * 192


def test_a_picture_to_look_back_to_is_kept_where_anyone_looks():
    picture = 3 * 4 * 256 * 192
    assert memory(iterations=60, patience=50) - memory(iterations=60, patience=0) == picture
    assert memory(iterations=60, patience=60) == memory(iterations=60, patience=0)


def test_what_a_search_keeps_is_counted():
    picture = 3 * 4 * 256 * 192
    assert (
        memory(solver_average=0.99) - memory()
        == memory(solver_line_search="strong-wolfe") - memory()
        == picture
    )
    assert memory(solver="adam") - memory(solver="sgd") == 2 * picture
    assert memory(solver="adam", solver_line_search="strong-wolfe") == memory(solver="adam")
    assert memory(solver="sgd", solver_history=100, iterations=200) == memory(
        solver="sgd", iterations=200
    )


def test_memory_that_is_not_kept_for_the_next_step_is_less():
    assert memory(way=ExecutionPlan(reuse_memory=False)) < memory(
        way=ExecutionPlan(reuse_memory=True)
    )


def on_disk(tile: int = 0, reuse: bool = True) -> ExecutionPlan:
    """Everything that can wait there does."""
    return ExecutionPlan(tile, reuse_memory=reuse, targets_on_disk=True, history_on_disk=True)


def test_what_is_on_disk_is_not_in_memory():
    targets, both = ExecutionPlan(targets_on_disk=True), on_disk()
    assert disk(512, ExecutionPlan()) == disk(512, ExecutionPlan(256)) == 0
    for way in (targets, both):
        assert memory(512) - memory(512, way=way) == disk(512, way) > 0
        assert disk(1024, way) == 4 * disk(512, way)
    # The pairs of the search.
    assert disk(512, both) - disk(512, targets) == 10 * 2 * 3 * 4 * 512 * 384
    assert disk(512, both, solver="adam") == disk(512, targets)
    assert disk(512, both, content_weight=0, solver="adam") == 0


def test_tiles_of_any_side_need_less_than_the_whole():
    sides = [memory(4000, way=ExecutionPlan(side)) for side in (256, 512, 1024, 2048, 0)]
    assert sides == sorted(sides) and sides[-1] > 4 * sides[0]


# ---- holding -------------------------------------------------------------------------------------


def hold(plan: Plan, recipe: Recipe, room: MemoryBudget, first: int | None = None) -> ExecutionPlan:
    return planning.choose_execution(plan, recipe, network(), room, first)


def test_the_whole_is_held_in_memory_where_it_fits():
    plan, recipe = planned(4000)
    whole = memory(4000)
    assert hold(plan, recipe, MemoryBudget(int(whole / 0.84))) == ExecutionPlan()
    assert hold(plan, recipe, MemoryBudget(int(whole / 0.84), disk=PLENTY)) == ExecutionPlan()
    assert hold(plan, recipe, MemoryBudget(PLENTY, limit=int(whole / 0.89))) == ExecutionPlan()
    assert hold(plan, recipe, MemoryBudget(PLENTY, limit=int(whole / 0.91))) != ExecutionPlan()


def tiles_of(side: int, tile: int) -> list[Tile]:
    return list(network().grid(planned(side)[0].size, tile))


def test_tiles_are_taken_where_the_whole_does_not_fit():
    plan, recipe = planned(4000)
    whole = memory(4000)
    chosen = hold(plan, recipe, MemoryBudget(whole // 2))
    assert chosen.tile and chosen.reuse and memory(4000, way=chosen) <= 0.85 * 0.5 * whole
    # Nothing fits: the least there is, and a warning before it starts.
    assert memory(4000, way=hold(plan, recipe, MemoryBudget(0))) == memory(
        4000, way=ExecutionPlan(256, reuse_memory=False)
    )


def test_as_many_tiles_maps_are_kept_as_there_is_room_for():
    plan, recipe = planned(4000, tile=1024)
    every = len(tiles_of(4000, 1024))
    assert hold(plan, recipe, MemoryBudget(PLENTY)) == ExecutionPlan(1024, tiles_in_memory=every)
    kept = []
    for quarters in range(8, 160):
        room = MemoryBudget(quarters * 2**28)
        way = hold(plan, recipe, room)
        kept.append(way.tiles_in_memory)
        fits = memory(4000, way=way, tile=1024) <= room.usable
        assert fits or (way.tiles_in_memory, way.reuse_memory) == (1, False)
        if fits and way.tiles_in_memory < every:
            assert (
                memory(4000, way=replace(way, kept=way.tiles_in_memory + 1), tile=1024)
                > room.usable
            )
    assert min(kept) == 1 and max(kept) == every and len(set(kept)) > 2


def test_a_tile_whose_maps_wait_takes_what_the_way_back_needs_of_it():
    one, two, three = (
        memory(4000, way=ExecutionPlan(1024, tiles_in_memory=kept)) for kept in (1, 2, 3)
    )
    assert two - one == pytest.approx(three - two, rel=1e-6)
    # And with it what it was compared with, where that is on disk otherwise.
    on_disk = ExecutionPlan(1024, targets_on_disk=True)
    pixel = disk(4000, on_disk) / planned(4000)[0].size.pixels
    waiting = memory(4000, way=replace(on_disk, kept=2)) - memory(4000, way=on_disk)
    assert waiting - (two - one) == pytest.approx(
        pixel * tiles_of(4000, 1024)[0].outer.size.pixels, rel=1e-5
    )


def test_a_tile_that_is_asked_for_is_taken():
    plan, recipe = planned(4000, tile=700)
    assert hold(plan, recipe, MemoryBudget(PLENTY)) == ExecutionPlan(
        700, tiles_in_memory=len(tiles_of(4000, 700))
    )
    assert hold(plan, recipe, MemoryBudget(0)).tile == 700


def test_a_picture_is_cut_rather_than_asking_for_all_its_memory_anew():
    plan, recipe = planned(4000)
    room = MemoryBudget(int(memory(4000, way=ExecutionPlan(reuse_memory=False)) / 0.84))
    found = hold(plan, recipe, room)
    assert found.tile and found.reuse and found.kept > 1


def test_under_a_limit_no_freed_memory_is_kept_between_tiles():
    limit = memory(4000) // 2
    plan, recipe = planned(4000, memory=limit)
    assert {(bool(way.tile), way.reuse_memory) for way in planning._ways(recipe, None)} == {
        (False, True),
        (False, False),
        (True, False),
    }
    chosen = hold(plan, recipe, MemoryBudget(PLENTY, limit=limit))
    assert chosen.tile and not chosen.reuse


def test_the_disk_is_taken_where_memory_is_too_small_even_for_tiles():
    plan, recipe = planned(4000)
    tiles = memory(4000, way=ExecutionPlan(256, reuse_memory=False))
    found = hold(plan, recipe, MemoryBudget(int(tiles / 0.84)))
    assert (
        found.tile
        and not found.history_on_disk
        and tiles <= memory(4000, way=found) <= 0.85 / 0.84 * tiles
    )
    little = hold(plan, recipe, MemoryBudget(int(tiles * 0.8), disk=PLENTY))
    assert little.history_on_disk and memory(4000, way=little) <= 0.85 * 0.8 * tiles


def test_the_disk_is_taken_before_tiles_so_small_that_they_cost_more_than_it():
    plan, recipe = planned(4000)
    small = MemoryBudget(int(memory(4000, way=ExecutionPlan(256, reuse_memory=False)) / 0.84))
    found = hold(plan, recipe, MemoryBudget(small.free, disk=PLENTY))
    assert found.history_on_disk and found.tile > hold(plan, recipe, small).tile


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.2])
def test_a_disk_that_is_too_small_is_left_alone(share: float):
    plan, recipe = planned(4000)
    needed = disk(4000, on_disk())
    memory_for_that = int(memory(4000, way=on_disk(256, reuse=False)) / 0.84)
    found = hold(plan, recipe, MemoryBudget(memory_for_that, disk=int(needed * share)))
    assert found.history_on_disk == (share > 1)


def test_the_pictures_as_read_count():
    plan, recipe = planned(4000)
    whole = memory(4000)
    room = MemoryBudget(int(whole / 0.84))
    assert (
        hold(plan, recipe, room)
        == ExecutionPlan()
        != hold(plan, recipe, MemoryBudget(room.free, inputs=whole // 10))
    )


def test_a_tile_of_an_earlier_part_of_the_run_is_preferred():
    plan, recipe = planned(4000)
    for first in (0, 300, 1024):
        assert hold(plan, recipe, MemoryBudget(PLENTY, disk=PLENTY), first).tile == first
    small = MemoryBudget(
        int(memory(4000, way=ExecutionPlan(256, reuse_memory=False)) / 0.84), disk=PLENTY
    )
    assert hold(plan, recipe, small, 300).tile == 300  # on disk rather than in other tiles
    assert hold(plan, recipe, small, 4096).tile < 4096  # but not where it does not fit at all


def test_a_limit_that_is_too_low_is_refused_with_one_that_is_enough():
    plan, recipe = planned(4000)
    low = int(0.8 * memory(4000, way=on_disk(256, reuse=False)))
    with pytest.raises(DoesNotFit, match=f"allows {low / 1e9:.3g} GB".replace(".", "[.]")) as found:
        hold(plan, recipe, MemoryBudget(PLENTY, limit=low, disk=PLENTY))
    assert str(plan.size) in found.value.message and "--size" in found.value.hint
    advised = found.value.hint.partition("--memory ")[2].rstrip(".")
    limit = loading.with_settings(recipe, {"memory": advised}).compute.memory
    hold(plan, recipe, MemoryBudget(PLENTY, limit=limit, disk=PLENTY))
    with pytest.raises(DoesNotFit):
        hold(plan, recipe, MemoryBudget(PLENTY, limit=limit - 100_000_000, disk=PLENTY))
    # Memory that happens to be short is another matter: it is said, and tried.
    hold(plan, recipe, MemoryBudget(0, limit=limit, disk=PLENTY))


@given(
    st.integers(64, 6000),
    st.integers(2**28, 2**36),
    st.none() | st.integers(2**28, 2**35),
    st.integers(0, 2**33),
    st.integers(0, 2**28),
    st.none() | st.sampled_from([0, 137, 512]),
)
def test_a_plan_is_held_in_the_quickest_way_that_fits(
    size: int, free: int, limit: int | None, space: int, inputs: int, first: int | None
):
    (plan, recipe), net = planned(size), network()
    room = MemoryBudget(free, limit or 0, space, inputs)

    def needed(way: ExecutionPlan) -> int:
        return planning.peak_bytes(plan, recipe, net, way) + inputs

    allowed = [
        way
        for way in planning._ways(recipe, first)
        if planning.disk_bytes(plan, recipe, net, way) <= space
    ]
    try:
        found = planning.choose_execution(plan, recipe, net, room, first)
    except DoesNotFit as error:
        assert limit and min(needed(way) for way in allowed) > 0.9 * limit
        enough = loading.with_settings(
            recipe, {"memory": error.hint.partition("--memory ")[2].rstrip(".")}
        ).compute.memory
        planning.choose_execution(
            plan, recipe, net, MemoryBudget(PLENTY, enough, space, inputs), first
        )
        return
    assert replace(found, kept=1) in allowed
    if limit:
        assert needed(found) <= 0.9 * limit
    fitting = [way for way in allowed if needed(way) <= room.usable]
    if fitting:
        assert needed(found) <= room.usable
        if first is None or all(way.tile != first for way in fitting):
            safe = [
                way for way in fitting if planning.disk_bytes(plan, recipe, net, way) <= 0.9 * space
            ]
            full = (planning._fullest(way, plan, recipe, net, room) for way in safe)
            longer = [planning._overhead(way, net, plan.size) for way in (found, *full)]
            assert longer[0] == min(longer)
        else:
            assert found.tile == first or all(
                planning.disk_bytes(plan, recipe, net, way) > 0.9 * space
                for way in fitting
                if way.tile == first
            )


# ---- time ----------------------------------------------------------------------------------------


def test_tiles_take_as_much_longer_as_there_is_more_to_compute():
    net = network()
    assert planning.tiling_factor(net.grid(Size(1000, 1000), 0)) == 1
    grid = net.grid(Size(320, 160), 160)
    assert len(grid) == 2
    area = sum(tile.outer.size.pixels for tile in grid) / Size(320, 160).pixels
    # Forward, back, and forward again, but for the last tile's maps, which serve twice: 5 passes in
    # place of 4.
    assert area > 1 and planning.tiling_factor(grid) == pytest.approx(area * 5 / 4)
    for kept in (2, 3):  # and where every tile's do, there is no third pass
        assert planning.tiling_factor(grid, kept) == pytest.approx(area)


@pytest.mark.parametrize(
    "way",
    [
        ExecutionPlan(),
        ExecutionPlan(320),
        ExecutionPlan(320, tiles_in_memory=3),
        ExecutionPlan(320, reuse_memory=False),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("size", "iterations"), [(512, (60, 30, 8)), (2048, (10, 10)), (128, (7,)), (64, (7,))]
)
def test_time_is_the_line_through_two_timings(
    monkeypatch: pytest.MonkeyPatch, size: int, iterations: tuple[int, ...], way: ExecutionPlan
):
    """The estimate is exact where time is linear in pixels and the first call is far slower."""
    now, calls = [0.0], [0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def setup(pixels: int) -> float:
        return 0.5 + 3e-6 * pixels

    def step(pixels: int) -> float:
        return 0.01 + 1e-6 * pixels

    def prepare(at: Size) -> Any:
        now[0] += setup(at.pixels)
        calls[0] = 0

        def evaluate() -> None:
            calls[0] += 1
            now[0] += step(at.pixels) + (5.0 if calls[0] == 1 else 0.0)

        return evaluate

    recipe = loading.with_settings(Recipe(), {"size": size, "iterations": iterations})
    plan, net = schedule.plan(recipe, Size(400, 400)), network()

    def factor(at: Size) -> float:
        return planning.tiling_factor(net.grid(at, way.tile), way.tiles_in_memory) * (
            1 if way.reuse_memory else planning.FRESH_MEMORY_FACTOR
        )

    expected = sum(
        setup(stage.size.pixels) + factor(stage.size) * step(stage.size.pixels) * stage.steps
        for stage in plan.stages
    )
    expected += factor(plan.size) * step(plan.size.pixels)  # the last look
    # At one small size there are no two timings; then all of it is taken to grow with the pixels.
    found = speed.measure_speed(plan.size, prepare, CPU)
    assert found.seconds(plan, net, way) == pytest.approx(expected, rel=1e-6)


def test_a_thin_picture_is_timed_no_smaller_than_the_network_can_see():
    seen: list[Size] = []

    def prepare(at: Size) -> Any:
        seen.append(at)
        return lambda: None

    speed.measure_speed(Size(64, 2048), prepare, CPU)
    speed.measure_speed(Size(40, 200), prepare, CPU)
    assert seen == [Size(32, 1024), Size(32, 160), Size(40, 200)]


def test_a_machine_that_is_no_slower_at_more_pixels_is_not_thought_to_be_quicker():
    found = speed.Speed((100, 2.0, 3.0), (400, 1.0, 1.0))
    plan, _ = planned(1024, iterations=2, single_scale=True)
    assert found.seconds(plan, network()) == 1.0 + 3 * 1.0


# ---- the best picture in a given time ------------------------------------------------------------


def costs(
    photo: Size, constant: float = 0.002, pixel: float = 1e-7, setup: float = 0.05
) -> Callable[[Recipe], float]:
    """A machine that takes so long for an evaluation, a pixel of it, and a stage."""

    def cost(recipe: Recipe) -> float:
        plan = schedule.plan(recipe, photo)
        return sum(
            setup + stage.steps * (constant + pixel * stage.size.pixels) for stage in plan.stages
        )

    return cost


def evaluations(recipe: Recipe) -> int:
    return sum(recipe.schedule.iterations)


@pytest.mark.parametrize("seconds", [3, 10, 60, 600, 3600, 1e6])
def test_the_time_is_used_and_kept(seconds: float):
    photo = Size(3000, 4000)
    found = time_budget.best_recipe(seconds, Recipe(), photo, costs(photo))
    spent = costs(photo)(found)
    assert spent <= seconds
    # Three times as many is the most.
    assert spent > 0.9 * seconds or found.schedule.iterations == (120, 105, 90)
    assert evaluations(found) >= 0.15 * evaluations(Recipe())


def test_more_time_is_a_larger_picture_up_to_the_photos_own_size():
    photo = Size(1500, 2000)
    sizes = [
        time_budget.best_recipe(seconds, Recipe(), photo, costs(photo)).size
        for seconds in (0.5, 1, 2, 4, 1e5)
    ]
    assert sizes == sorted(set(sizes)) and sizes[0] < 512 and sizes[-1] == 2000


@pytest.mark.parametrize(
    "photo", [Size(3000, 4000), Size(300, 400), Size(90, 100), Size(3, 4), Size(16, 4000)]
)
def test_with_all_the_time_there_is_the_photos_own_size_is_painted_where_it_can_be(photo: Size):
    found = time_budget.best_recipe(1e9, Recipe(), photo, costs(photo))
    final = schedule.plan(found, photo).size
    assert final == photo if photo.short_side >= LEAST_SIDE else final.short_side == LEAST_SIDE


@pytest.mark.parametrize("fixed", [{"size"}, {"iterations"}, {"size", "iterations"}])
@pytest.mark.parametrize("seconds", [0.1, 5, 60, 1e6])
def test_what_is_fixed_stays(fixed: set[str], seconds: float):
    photo = Size(3000, 4000)
    recipe = loading.with_settings(Recipe(), {"size": 700, "iterations": "9,8"})
    found = time_budget.best_recipe(seconds, recipe, photo, costs(photo), fixed)
    if "size" in fixed:
        assert found.size == 700
    if "iterations" in fixed:
        assert found.schedule.iterations == (9, 8)
    if fixed == {"size", "iterations"}:
        assert found == recipe


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e-9])
def test_with_no_time_at_all_the_least_is_painted(seconds: float):
    photo = Size(3000, 4000)
    found = time_budget.best_recipe(seconds, Recipe(), photo, costs(photo))
    assert found.size == 128 and found.schedule.iterations == (6, 5, 4)


def test_no_larger_size_is_chosen_than_a_recipe_can_name():
    photo = Size(100, 70_000)
    found = time_budget.best_recipe(1e9, Recipe(), photo, costs(photo))
    assert found.size == schedule.LARGEST_SIDE == loading.with_settings(found, {}).size
    with pytest.raises(BadRecipe):
        loading.with_settings(found, {"size": schedule.LARGEST_SIDE + 1})


def test_nothing_else_of_the_recipe_is_changed():
    recipe = loading.with_settings(Recipe(), {"strength": 70, "seed": 5})
    photo = Size(600, 800)
    found = time_budget.best_recipe(30, recipe, photo, costs(photo))
    back = {"size": recipe.size, "schedule": recipe.schedule}
    assert found.model_copy(update=back) == recipe
    assert (
        found.schedule.model_copy(update={"iterations": recipe.schedule.iterations})
        == recipe.schedule
    )


@settings(max_examples=100)
@given(
    st.integers(40, 5000),
    st.floats(0.1, 10),
    st.floats(-0.5, 2),
    st.floats(1, 2),
    st.floats(0, 0.01),
    st.floats(1e-8, 1e-6),
)
@example(side=3000, shape=4 / 3, power=0.474, more=1.003, constant=0.002, pixel=1e-7)
def test_more_time_never_makes_less(
    side: int, shape: float, power: float, more: float, constant: float, pixel: float
):
    photo = Size(side, max(40, round(side * shape)))
    assume(photo.short_side >= LEAST_SIDE)
    cost = costs(photo, constant, pixel, setup=10 * constant)
    least = time_budget.best_recipe(0, Recipe(), photo, cost)
    seconds = cost(least) * 10**power
    little, much = (
        time_budget.best_recipe(time, Recipe(), photo, cost) for time in (seconds, more * seconds)
    )
    for time, found in ((seconds, little), (more * seconds, much)):
        assert cost(found) <= time or (found == least and time < cost(least))
        assert found.size <= max(photo.long_side, least.size)
        assert schedule.plan(found, photo).size.short_side >= LEAST_SIDE
    assert much.size >= little.size
    if much.size == little.size:
        pairs = zip(much.schedule.iterations, little.schedule.iterations, strict=True)
        assert all(many >= few for many, few in pairs)
