"""The memory model, the choice of an execution, speed, and the best recipe for a given time."""

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
from impasto.planning import memory as memory_model
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


def network(**options: Any) -> Network:
    return Network(pocket_weights("E"), "E", {"relu1_1", "relu5_1"}, **options)


def planned(size: int = 256, **settings: Any) -> tuple[Plan, Recipe]:
    recipe = loading.with_settings(Recipe(), {"size": size, **settings})
    return schedule.make_plan(recipe, PHOTO), recipe


# ---- memory --------------------------------------------------------------------------------------


def memory(
    size: int = 256,
    net: Network | None = None,
    execution: ExecutionPlan = memory_model.WHOLE,
    **settings: Any,
) -> int:
    return memory_model.peak_bytes(*planned(size, **settings), net or network(), execution)


def disk(size: int, execution: ExecutionPlan, **settings: Any) -> int:
    return memory_model.disk_bytes(*planned(size, **settings), network(), execution)


def test_memory_grows_with_the_pixels():
    def of(size: int) -> int:
        return memory(size, iterations=20)

    program = of(64) - (of(128) - of(64)) / 3  # 3 more of the smaller picture's pixels
    for size in (256, 512, 2048):
        assert of(size) - program == pytest.approx((of(64) - program) * (size / 64) ** 2, rel=1e-3)


def test_memory_grows_with_history_and_stored_maps():
    long = {"iterations": 200}
    pair = 2 * 3 * 4 * 256 * 192
    assert memory(solver_history=100, **long) - memory(solver_history=10, **long) == 90 * pair
    assert memory(solver="adam") < memory()
    assert memory(net=network(kernel=KERNELS["bfloat16"])) < memory()
    # Maximum pooling stores the maximum and its index; average pooling needs the whole map.
    assert memory(net=network(pooling="max")) < memory(net=network(pooling="average"))
    assert memory(iterations=500) == memory(iterations=60)
    # There are no more pairs than steps.
    assert memory(iterations=10) - memory(iterations="80,4") == 6 * pair
    assert (
        memory(content_weight=0) < memory(content_layers="relu1_1") and memory(tile=64) == memory()
    )


def test_a_map_that_is_read_before_its_relu_is_counted_as_well():
    channels, *_ = POCKET["E"][0]
    without, with_it = (
        Network(pocket_weights("E"), "E", {"relu5_1", *more}) for more in ((), ("conv1_1",))
    )
    assert memory(net=with_it) - memory(net=without) == channels * 4 * 256 * 192


def test_the_reference_is_counted_where_convergence_is_checked():
    picture = 3 * 4 * 256 * 192
    assert memory(iterations=60, patience=50) - memory(iterations=60, patience=0) == picture
    assert memory(iterations=60, patience=60) == memory(iterations=60, patience=0)


def test_the_pictures_of_a_solver_are_counted():
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


def test_memory_that_is_not_reused_is_less():
    assert memory(execution=ExecutionPlan(reuse_memory=False)) < memory(
        execution=ExecutionPlan(reuse_memory=True)
    )


def on_disk(tile: int = 0, reuse_memory: bool = True) -> ExecutionPlan:
    """An execution that stores targets and history on disk."""
    return ExecutionPlan(
        tile, reuse_memory=reuse_memory, targets_on_disk=True, history_on_disk=True
    )


def test_tensors_on_disk_are_not_in_memory():
    targets, both = ExecutionPlan(targets_on_disk=True), on_disk()
    assert disk(512, ExecutionPlan()) == disk(512, ExecutionPlan(256)) == 0
    for execution in (targets, both):
        assert memory(512) - memory(512, execution=execution) == disk(512, execution) > 0
        assert disk(1024, execution) == 4 * disk(512, execution)
    # The pairs of the search.
    assert disk(512, both) - disk(512, targets) == 10 * 2 * 3 * 4 * 512 * 384
    assert disk(512, both, solver="adam") == disk(512, targets)
    assert disk(512, both, content_weight=0, solver="adam") == 0


def test_tiles_of_any_side_need_less_than_the_whole():
    sides = [memory(4000, execution=ExecutionPlan(side)) for side in (256, 512, 1024, 2048, 0)]
    assert sides == sorted(sides) and sides[-1] > 4 * sides[0]


# ---- execution -----------------------------------------------------------------------------------


def choose(
    plan: Plan, recipe: Recipe, budget: MemoryBudget, tile: int | None = None
) -> ExecutionPlan:
    return memory_model.choose_execution(plan, recipe, network(), budget, tile)


def test_the_whole_picture_in_memory_is_chosen_where_it_fits():
    plan, recipe = planned(4000)
    whole = memory(4000)
    assert choose(plan, recipe, MemoryBudget(int(whole / 0.84))) == ExecutionPlan()
    assert choose(plan, recipe, MemoryBudget(int(whole / 0.84), disk=PLENTY)) == ExecutionPlan()
    assert choose(plan, recipe, MemoryBudget(PLENTY, limit=int(whole / 0.89))) == ExecutionPlan()
    assert choose(plan, recipe, MemoryBudget(PLENTY, limit=int(whole / 0.91))) != ExecutionPlan()


def tiles_of(side: int, tile: int) -> list[Tile]:
    return list(network().grid(planned(side)[0].size, tile))


def test_tiles_are_chosen_where_the_whole_does_not_fit():
    plan, recipe = planned(4000)
    whole = memory(4000)
    chosen = choose(plan, recipe, MemoryBudget(whole // 2))
    assert (
        chosen.tile and chosen.reuse_memory and memory(4000, execution=chosen) <= 0.85 * 0.5 * whole
    )
    # Nothing fits: the smallest is returned, and a warning comes before the start.
    assert memory(4000, execution=choose(plan, recipe, MemoryBudget(0))) == memory(
        4000, execution=ExecutionPlan(256, reuse_memory=False)
    )


def test_as_many_tiles_stay_in_memory_as_fit():
    plan, recipe = planned(4000, tile=1024)
    every = len(tiles_of(4000, 1024))
    assert choose(plan, recipe, MemoryBudget(PLENTY)) == ExecutionPlan(1024, tiles_in_memory=every)
    counts = []
    for quarters in range(8, 160):
        budget = MemoryBudget(quarters * 2**28)
        execution = choose(plan, recipe, budget)
        counts.append(execution.tiles_in_memory)
        fits = memory(4000, execution=execution, tile=1024) <= budget.usable
        assert fits or (execution.tiles_in_memory, execution.reuse_memory) == (1, False)
        if fits and execution.tiles_in_memory < every:
            assert (
                memory(
                    4000,
                    execution=replace(execution, tiles_in_memory=execution.tiles_in_memory + 1),
                    tile=1024,
                )
                > budget.usable
            )
    assert min(counts) == 1 and max(counts) == every and len(set(counts)) > 2


def test_a_tile_in_memory_takes_what_its_backward_pass_needs():
    one, two, three = (
        memory(4000, execution=ExecutionPlan(1024, tiles_in_memory=count)) for count in (1, 2, 3)
    )
    assert two - one == pytest.approx(three - two, rel=1e-6)
    # Its targets are loaded as well where they are stored on disk.
    on_disk = ExecutionPlan(1024, targets_on_disk=True)
    pixel = disk(4000, on_disk) / planned(4000)[0].size.pixels
    second_tile = memory(4000, execution=replace(on_disk, tiles_in_memory=2)) - memory(
        4000, execution=on_disk
    )
    assert second_tile - (two - one) == pytest.approx(
        pixel * tiles_of(4000, 1024)[0].outer.size.pixels, rel=1e-5
    )


def test_the_recipes_tile_is_chosen():
    plan, recipe = planned(4000, tile=700)
    assert choose(plan, recipe, MemoryBudget(PLENTY)) == ExecutionPlan(
        700, tiles_in_memory=len(tiles_of(4000, 700))
    )
    assert choose(plan, recipe, MemoryBudget(0)).tile == 700


def test_tiles_are_preferred_to_memory_that_is_not_reused():
    plan, recipe = planned(4000)
    budget = MemoryBudget(int(memory(4000, execution=ExecutionPlan(reuse_memory=False)) / 0.84))
    chosen = choose(plan, recipe, budget)
    assert chosen.tile and chosen.reuse_memory and chosen.tiles_in_memory > 1


def test_memory_is_not_reused_between_tiles_under_a_limit():
    limit = memory(4000) // 2
    plan, recipe = planned(4000, memory=limit)
    assert {
        (bool(execution.tile), execution.reuse_memory)
        for execution in memory_model._candidates(recipe, None)
    } == {
        (False, True),
        (False, False),
        (True, False),
    }
    chosen = choose(plan, recipe, MemoryBudget(PLENTY, limit=limit))
    assert chosen.tile and not chosen.reuse_memory


def test_the_disk_is_used_where_the_smallest_tiles_do_not_fit():
    plan, recipe = planned(4000)
    tiles = memory(4000, execution=ExecutionPlan(256, reuse_memory=False))
    chosen = choose(plan, recipe, MemoryBudget(int(tiles / 0.84)))
    assert (
        chosen.tile
        and not chosen.history_on_disk
        and tiles <= memory(4000, execution=chosen) <= 0.85 / 0.84 * tiles
    )
    little = choose(plan, recipe, MemoryBudget(int(tiles * 0.8), disk=PLENTY))
    assert little.history_on_disk and memory(4000, execution=little) <= 0.85 * 0.8 * tiles


def test_the_disk_is_preferred_to_tiles_that_cost_more():
    plan, recipe = planned(4000)
    small = MemoryBudget(int(memory(4000, execution=ExecutionPlan(256, reuse_memory=False)) / 0.84))
    chosen = choose(plan, recipe, MemoryBudget(small.free, disk=PLENTY))
    assert chosen.history_on_disk and chosen.tile > choose(plan, recipe, small).tile


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.2])
def test_a_disk_that_is_too_small_is_not_used(share: float):
    plan, recipe = planned(4000)
    needed = disk(4000, on_disk())
    memory_for_that = int(memory(4000, execution=on_disk(256, reuse_memory=False)) / 0.84)
    chosen = choose(plan, recipe, MemoryBudget(memory_for_that, disk=int(needed * share)))
    assert chosen.history_on_disk == (share > 1)


def test_the_pictures_as_read_are_counted():
    plan, recipe = planned(4000)
    whole = memory(4000)
    budget = MemoryBudget(int(whole / 0.84))
    assert (
        choose(plan, recipe, budget)
        == ExecutionPlan()
        != choose(plan, recipe, MemoryBudget(budget.free, inputs=whole // 10))
    )


def test_the_given_tile_is_preferred():
    plan, recipe = planned(4000)
    for tile in (0, 300, 1024):
        assert choose(plan, recipe, MemoryBudget(PLENTY, disk=PLENTY), tile).tile == tile
    small = MemoryBudget(
        int(memory(4000, execution=ExecutionPlan(256, reuse_memory=False)) / 0.84), disk=PLENTY
    )
    assert choose(plan, recipe, small, 300).tile == 300  # on disk rather than in other tiles
    assert choose(plan, recipe, small, 4096).tile < 4096  # but not where it does not fit at all


@pytest.mark.parametrize("tile", [None, 0, 512])
def test_without_tiling_the_picture_is_never_cut(tile: int | None):
    plan, recipe = planned(4000)
    for quarters in range(40):
        for disk_space in (0, PLENTY):
            budget = MemoryBudget(quarters * 2**28, disk=disk_space)
            chosen = memory_model.choose_execution(
                plan, recipe, network(), budget, tile, tiling=False
            )
            assert (chosen.tile, chosen.tiles_in_memory) == (0, 1)
    assert choose(plan, recipe, MemoryBudget(2**30)).tile > 0


def test_a_limit_below_the_whole_is_refused_without_tiling():
    plan, recipe = planned(4000)
    limit = memory(4000, execution=on_disk(reuse_memory=False)) // 2
    budget = MemoryBudget(PLENTY, limit=limit, disk=PLENTY)
    assert choose(plan, recipe, budget).tile > 0
    with pytest.raises(DoesNotFit, match="cannot be cut into tiles") as caught:
        memory_model.choose_execution(plan, recipe, network(), budget, tiling=False)
    advised = caught.value.hint.partition("--memory ")[2].rstrip(".")
    enough = loading.with_settings(recipe, {"memory": advised}).compute.memory
    budget = replace(budget, limit=enough)
    assert memory_model.choose_execution(plan, recipe, network(), budget, tiling=False).tile == 0


def test_too_low_a_limit_is_refused_with_one_that_is_enough():
    plan, recipe = planned(4000)
    low = int(0.8 * memory(4000, execution=on_disk(256, reuse_memory=False)))
    with pytest.raises(
        DoesNotFit, match=f"allows {low / 1e9:.3g} GB".replace(".", "[.]")
    ) as caught:
        choose(plan, recipe, MemoryBudget(PLENTY, limit=low, disk=PLENTY))
    assert str(plan.size) in caught.value.message and "--size" in caught.value.hint
    advised = caught.value.hint.partition("--memory ")[2].rstrip(".")
    limit = loading.with_settings(recipe, {"memory": advised}).compute.memory
    choose(plan, recipe, MemoryBudget(PLENTY, limit=limit, disk=PLENTY))
    with pytest.raises(DoesNotFit):
        choose(plan, recipe, MemoryBudget(PLENTY, limit=limit - 100_000_000, disk=PLENTY))
    # Too little free memory is not refused: there is a warning.
    choose(plan, recipe, MemoryBudget(0, limit=limit, disk=PLENTY))


@given(
    st.integers(64, 6000),
    st.integers(2**28, 2**36),
    st.none() | st.integers(2**28, 2**35),
    st.integers(0, 2**33),
    st.integers(0, 2**28),
    st.none() | st.sampled_from([0, 137, 512]),
)
def test_the_fastest_execution_that_fits_is_chosen(
    size: int, free: int, limit: int | None, space: int, inputs: int, tile: int | None
):
    (plan, recipe), net = planned(size), network()
    budget = MemoryBudget(free, limit or 0, space, inputs)

    def needed(execution: ExecutionPlan) -> int:
        return memory_model.peak_bytes(plan, recipe, net, execution) + inputs

    allowed = [
        execution
        for execution in memory_model._candidates(recipe, tile)
        if memory_model.disk_bytes(plan, recipe, net, execution) <= space
    ]
    try:
        chosen = memory_model.choose_execution(plan, recipe, net, budget, tile)
    except DoesNotFit as error:
        assert limit and min(needed(execution) for execution in allowed) > 0.9 * limit
        enough = loading.with_settings(
            recipe, {"memory": error.hint.partition("--memory ")[2].rstrip(".")}
        ).compute.memory
        memory_model.choose_execution(
            plan, recipe, net, MemoryBudget(PLENTY, enough, space, inputs), tile
        )
        return
    assert replace(chosen, tiles_in_memory=1) in allowed
    if limit:
        assert needed(chosen) <= 0.9 * limit
    fitting = [execution for execution in allowed if needed(execution) <= budget.usable]
    if fitting:
        assert needed(chosen) <= budget.usable
        if tile is None or all(execution.tile != tile for execution in fitting):
            safe = [
                execution
                for execution in fitting
                if memory_model.disk_bytes(plan, recipe, net, execution) <= 0.9 * space
            ]
            full = (
                memory_model._with_most_tiles(execution, plan, recipe, net, budget)
                for execution in safe
            )
            longer = [
                memory_model._relative_time(execution, net, plan.size)
                for execution in (chosen, *full)
            ]
            assert longer[0] == min(longer)
        else:
            assert chosen.tile == tile or all(
                memory_model.disk_bytes(plan, recipe, net, execution) > 0.9 * space
                for execution in fitting
                if execution.tile == tile
            )


# ---- time ----------------------------------------------------------------------------------------


def test_the_tiling_factor_is_the_additional_computation():
    net = network()
    assert memory_model.tiling_factor(net.grid(Size(1000, 1000), 0)) == 1
    grid = net.grid(Size(320, 160), 160)
    assert len(grid) == 2
    area = sum(tile.outer.size.pixels for tile in grid) / Size(320, 160).pixels
    # Each tile has a forward and a backward pass, the first one a second forward pass: 5 in place
    # of 4. The maps of the last tile stay in memory.
    assert area > 1 and memory_model.tiling_factor(grid) == pytest.approx(area * 5 / 4)
    for count in (2, 3):  # with all tiles in memory there is no third pass
        assert memory_model.tiling_factor(grid, count) == pytest.approx(area)


@pytest.mark.parametrize(
    "execution",
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
def test_time_is_the_line_through_two_measurements(
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    iterations: tuple[int, ...],
    execution: ExecutionPlan,
):
    """The estimate is exact where time is linear in pixels and the first call is far slower."""
    now, calls = [0.0], [0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def setup(pixels: int) -> float:
        return 0.5 + 3e-6 * pixels

    def step(pixels: int) -> float:
        return 0.01 + 1e-6 * pixels

    def build(size: Size) -> Any:
        now[0] += setup(size.pixels)
        calls[0] = 0

        def evaluate() -> None:
            calls[0] += 1
            now[0] += step(size.pixels) + (5.0 if calls[0] == 1 else 0.0)

        return evaluate

    recipe = loading.with_settings(Recipe(), {"size": size, "iterations": iterations})
    plan, net = schedule.make_plan(recipe, Size(400, 400)), network()

    def factor(size: Size) -> float:
        return memory_model.tiling_factor(
            net.grid(size, execution.tile), execution.tiles_in_memory
        ) * (1 if execution.reuse_memory else memory_model.FRESH_MEMORY_FACTOR)

    expected = sum(
        setup(stage.size.pixels) + factor(stage.size) * step(stage.size.pixels) * stage.steps
        for stage in plan.stages
    )
    expected += factor(plan.size) * step(plan.size.pixels)  # the final evaluation
    # A small picture has one measurement only, which is at its own size.
    measured = speed.measure_speed(plan.size, build, CPU)
    assert measured.seconds(plan, net, execution) == pytest.approx(expected, rel=1e-6)


def test_a_thin_picture_is_not_timed_below_the_least_side():
    sizes: list[Size] = []

    def build(size: Size) -> Any:
        sizes.append(size)
        return lambda: None

    speed.measure_speed(Size(64, 2048), build, CPU)
    speed.measure_speed(Size(40, 200), build, CPU)
    assert sizes == [Size(32, 1024), Size(32, 160), Size(40, 200)]


def test_more_pixels_are_never_expected_to_take_less_time():
    measured = speed.Speed((100, 2.0, 3.0), (400, 1.0, 1.0))
    plan, _ = planned(1024, iterations=2, single_scale=True)
    assert measured.seconds(plan, network()) == 1.0 + 3 * 1.0


# ---- the best picture in a given time ------------------------------------------------------------


def costs(
    photo: Size, constant: float = 0.002, pixel: float = 1e-7, setup: float = 0.05
) -> Callable[[Recipe], float]:
    """The cost on a machine: seconds per evaluation, per pixel of it, and per stage."""

    def cost(recipe: Recipe) -> float:
        plan = schedule.make_plan(recipe, photo)
        return sum(
            setup + stage.steps * (constant + pixel * stage.size.pixels) for stage in plan.stages
        )

    return cost


def evaluations(recipe: Recipe) -> int:
    return sum(recipe.schedule.iterations)


@pytest.mark.parametrize("seconds", [3, 10, 60, 600, 3600, 1e6])
def test_the_time_is_used_and_not_exceeded(seconds: float):
    photo = Size(3000, 4000)
    best = time_budget.best_recipe(seconds, Recipe(), photo, costs(photo))
    spent = costs(photo)(best)
    assert spent <= seconds
    # Three times as many is the most.
    assert spent > 0.9 * seconds or best.schedule.iterations == (120, 105, 90)
    assert evaluations(best) >= 0.15 * evaluations(Recipe())


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
def test_unlimited_time_paints_the_photos_own_size_if_it_is_possible(photo: Size):
    best = time_budget.best_recipe(1e9, Recipe(), photo, costs(photo))
    final = schedule.make_plan(best, photo).size
    assert final == photo if photo.short_side >= LEAST_SIDE else final.short_side == LEAST_SIDE


@pytest.mark.parametrize("fixed", [{"size"}, {"iterations"}, {"size", "iterations"}])
@pytest.mark.parametrize("seconds", [0.1, 5, 60, 1e6])
def test_fixed_settings_do_not_change(fixed: set[str], seconds: float):
    photo = Size(3000, 4000)
    recipe = loading.with_settings(Recipe(), {"size": 700, "iterations": "9,8"})
    best = time_budget.best_recipe(seconds, recipe, photo, costs(photo), frozenset(fixed))
    if "size" in fixed:
        assert best.size == 700
    if "iterations" in fixed:
        assert best.schedule.iterations == (9, 8)
    if fixed == {"size", "iterations"}:
        assert best == recipe


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e-9])
def test_no_time_at_all_paints_the_smallest_picture(seconds: float):
    photo = Size(3000, 4000)
    best = time_budget.best_recipe(seconds, Recipe(), photo, costs(photo))
    assert best.size == 128 and best.schedule.iterations == (6, 5, 4)


def test_no_size_above_the_largest_of_a_recipe_is_chosen():
    photo = Size(100, 70_000)
    best = time_budget.best_recipe(1e9, Recipe(), photo, costs(photo))
    assert best.size == schedule.LARGEST_SIDE == loading.with_settings(best, {}).size
    with pytest.raises(BadRecipe):
        loading.with_settings(best, {"size": schedule.LARGEST_SIDE + 1})


def test_no_other_setting_is_changed():
    recipe = loading.with_settings(Recipe(), {"strength": 70, "seed": 5})
    photo = Size(600, 800)
    best = time_budget.best_recipe(30, recipe, photo, costs(photo))
    back = {"size": recipe.size, "schedule": recipe.schedule}
    assert best.model_copy(update=back) == recipe
    assert (
        best.schedule.model_copy(update={"iterations": recipe.schedule.iterations})
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
def test_more_time_never_makes_a_smaller_picture_or_fewer_evaluations(
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
    for time, best in ((seconds, little), (more * seconds, much)):
        assert cost(best) <= time or (best == least and time < cost(least))
        assert best.size <= max(photo.long_side, least.size)
        assert schedule.make_plan(best, photo).size.short_side >= LEAST_SIDE
    assert much.size >= little.size
    if much.size == little.size:
        pairs = zip(much.schedule.iterations, little.schedule.iterations, strict=True)
        assert all(many >= few for many, few in pairs)
