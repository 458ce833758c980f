"""The loop: same seed, same bytes, interrupted or not; and a loss that is no number keeps the last good picture."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto import images
from impasto.engine import State, Tools, evaluation, first_pixels, iterate, objectives_for, painting_size
from impasto.events import Event, Failed, Finished, StageDone, Started, Stepped
from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.recipe import Input, Recipe, with_settings
from impasto.schedule import Plan, Stage
from impasto.tiling import assembled

LAYERS = ("input", "relu1_1", "relu2_1", "relu2_2", "relu3_1")
SETTINGS = {
    "solver": "lbfgs",
    "solver-rate": 1,
    "solver-history": 10,
    "content-scaling": "relative",
    "content-layers": "relu2_2=1",
    "style-statistics": "wasserstein",
    "style-weight": 1,
    "style-scale": 1,
    "style-layers": "relu1_1=0.5,relu2_1=0.3,relu3_1=0.2",
    "smooth-weight": 0.1,
    "content-weight": 0.05,
}
PLAN = Plan((Stage(Size(20, 25), 4), Stage(Size(37, 45), 5)), 1.0)
Stream = list[tuple[Event, State]]


def pixels(height: int, width: int, seed: int) -> NDArray[np.float32]:
    """A smooth picture with some grain; nobody may write to it."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / a + columns / b) for a, b in generator.uniform(2, 9, (3, 2))]
    made = 0.5 + 0.3 * np.stack(waves, -1) + generator.uniform(-0.2, 0.2, (height, width, 3))
    made = np.clip(made, 0, 1).astype(np.float32)
    made.flags.writeable = False
    return made


@pytest.fixture(scope="module")
def tools(network_of: Callable[..., Network]) -> Tools:
    base = Recipe(photo=Input(path="photo"), paintings=(Input(path="one"), Input(path="two", weight=2)))
    network = network_of(*LAYERS, padding="reflect")
    return Tools(with_settings(base, SETTINGS), network, pixels(41, 50, 0), (pixels(48, 40, 1), pixels(36, 60, 2)))


def changed(tools: Tools, **settings: object) -> Tools:
    return replace(tools, recipe=with_settings(tools.recipe, settings))


def watch(tools: Tools, state: State | None = None, plan: Plan = PLAN) -> Stream:
    """The whole stream, with copies of the states, which the loop goes on writing to."""
    ticks = iter(range(10_000))
    return [(event, copy.deepcopy(kept)) for event, kept in iterate(plan, tools, state, clock=lambda: float(next(ticks)))]


def raw(state: State) -> bytes:
    return state.pixels.numpy().tobytes()


def kinds(stream: Stream) -> list[str]:
    return [type(event).__name__ for event, _ in stream]


# ---- the stream ----------------------------------------------------------------------------------------------


def test_events_come_in_order_with_their_states(tools: Tools):
    stream = watch(tools)
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
    assert [(step.stage, step.step) for step in steps] == [*((0, n) for n in range(1, 5)), *((1, n) for n in range(1, 6))]
    assert [step.evaluations for step in steps] == list(range(1, 10))
    assert [step.seconds for step in steps] == sorted({step.seconds for step in steps})
    for event, state in stream:
        if isinstance(event, Stepped):
            assert (state.stage, state.step, state.evaluations) == (event.stage, event.step, event.evaluations)
            assert state.value.total == event.loss
            assert event.loss == pytest.approx(sum(event.terms.values()), rel=1e-6)
            assert set(event.terms) == {"content", "style", "smooth"}
        if isinstance(event, StageDone):
            assert (state.stage, state.step, state.memory) == (event.stage + 1, 0, {})


def test_a_steps_loss_is_that_of_the_picture_before_it(tools: Tools):
    stream = watch(tools)
    evaluate = evaluation(Size(20, 25), PLAN, tools)
    for (_, before), (event, _) in pairwise(stream[:5]):
        assert isinstance(event, Stepped)
        assert event.loss == evaluate(before.pixels)[0].total


def test_finished_is_the_loss_of_the_picture_as_it_will_be_written(tools: Tools):
    event, state = watch(tools)[-1]
    assert isinstance(event, Finished)
    assert state.pixels.min() >= 0 and state.pixels.max() <= 1
    value, _ = evaluation(Size(37, 45), PLAN, tools)(state.pixels)
    assert (event.loss, event.terms) == (value.total, value.terms)
    assert state.value == value
    assert event.evaluations == state.evaluations == 10


def test_overshoot_is_cut_before_the_last_look(tools: Tools):
    beyond = State(torch.linspace(-1, 2, 3 * 37 * 45).view(1, 3, 37, 45), stage=2, evaluations=9)
    ((event, state),) = watch(tools, beyond)
    assert isinstance(event, Finished)
    assert torch.equal(state.pixels, beyond.pixels.clamp(0, 1))
    assert event.loss == evaluation(Size(37, 45), PLAN, tools)(beyond.pixels.clamp(0, 1))[0].total
    assert event.loss != evaluation(Size(37, 45), PLAN, tools)(beyond.pixels)[0].total


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise", "style"])
def test_the_loss_falls(tools: Tools, solver: str, start: str):
    plan = Plan((Stage(Size(20, 25), 15), Stage(Size(37, 45), 15)), 1.0)
    stream = watch(changed(tools, solver=solver, solver_rate=1 if solver == "lbfgs" else 0.02, init=start), plan=plan)
    first = [event.loss for event, _ in stream if isinstance(event, Stepped) and event.step == 1]
    last = stream[-1][0]
    assert isinstance(last, Finished)
    assert last.loss < 0.9 * min(first)


def test_a_clock_may_be_lent_and_seconds_are_its(tools: Tools):
    stream = [event for event, _ in iterate(PLAN, tools, clock=lambda: 5.0)]
    assert {event.seconds for event in stream if isinstance(event, Stepped | StageDone | Finished)} == {0.0}


# ---- same seed, same bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["content", "noise", "style"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_same_recipe_same_bytes_whatever_torchs_own_seed(tools: Tools, solver: str, start: str):
    mine = changed(tools, solver=solver, solver_rate=0.1, init=start)
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        ends.append(raw(watch(mine)[-1][1]))
        assert torch.equal(torch.get_rng_state(), before)
    assert ends[0] == ends[1]


def test_another_seed_is_another_noise_and_only_noise_feels_it(tools: Tools):
    def begun(**settings: object) -> Tensor:
        return first_pixels(PLAN, changed(tools, **settings))

    one, other = begun(init="noise", seed=1), begun(init="noise", seed=2)
    assert not torch.equal(one, other)
    assert torch.equal(one, begun(init="noise", seed=1))
    assert torch.equal(begun(init="content", seed=1), begun(init="content", seed=2))
    assert one.shape == (1, 3, 20, 25)
    assert one.dtype == torch.float32
    assert one.min() >= 0 and one.max() <= 1
    assert one.mean().item() == pytest.approx(0.5, abs=0.02)
    assert 0.05 < one.std().item() < 0.2


def test_what_the_search_starts_from(tools: Tools):
    size = Size(20, 25)
    drawn = pixels(30, 30, 9)
    mine = replace(tools, start=drawn)
    for start, source in (("content", tools.photo), ("style", tools.paintings[0]), ("drawn.png", drawn)):
        found = first_pixels(PLAN, changed(mine, init=start))
        assert torch.equal(found, images.to_tensor(images.resize(source, size)))


def test_the_given_pictures_are_left_alone(tools: Tools):
    # They cannot be written to (see above); a network that shares their memory could still do so.
    given = [tools.photo, *tools.paintings]
    kept = [array.copy() for array in given]
    same = Plan((Stage(Size(*tools.photo.shape[:2]), 3),), 1.0)  # where nothing is resized
    watch(tools, plan=same)
    assert all(np.array_equal(array, copy) for array, copy in zip(given, kept, strict=True))


def test_a_state_given_is_left_alone(tools: Tools):
    _, state = watch(tools)[3]
    kept = copy.deepcopy(state)
    watch(tools, state)
    assert torch.equal(state.pixels, kept.pixels)
    assert set(state.memory) == set(kept.memory)
    assert all(torch.equal(state.memory[name], kept.memory[name]) for name in kept.memory)


# ---- resuming ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_resumed_after_any_event_it_ends_with_the_same_bytes(tools: Tools, solver: str):
    mine = changed(tools, solver=solver, solver_rate=0.5 if solver == "lbfgs" else 0.02, solver_history=2)
    undisturbed = watch(mine)
    end, losses = undisturbed[-1], [event.loss for event, _ in undisturbed if isinstance(event, Stepped)]
    for index, (event, state) in enumerate(undisturbed[:-1]):
        resumed = watch(mine, state)
        assert raw(resumed[-1][1]) == raw(end[1]), f"after {event}"
        assert isinstance(resumed[-1][0], Finished) and isinstance(end[0], Finished)
        assert (resumed[-1][0].loss, resumed[-1][0].evaluations) == (end[0].loss, end[0].evaluations)
        taken = [kind for kind in kinds(undisturbed[: index + 1]) if kind == "Stepped"]
        assert [event.loss for event, _ in resumed if isinstance(event, Stepped)] == losses[len(taken) :]


def test_to_stop_is_to_stop_iterating(tools: Tools):
    stream = iterate(PLAN, tools)
    assert isinstance(stream, Iterator)
    for event, state in stream:
        if isinstance(event, Stepped) and event.step == 2:
            kept = copy.deepcopy(state)
            break
    stream.close()  # type: ignore[attr-defined]
    assert raw(watch(tools, kept)[-1][1]) == raw(watch(tools)[-1][1])


# ---- a loss that is no number --------------------------------------------------------------------------------


class Faulty:
    """A network that goes wrong from one evaluation on; targets are measured without gradients and not counted."""

    def __init__(self, network: Network, good: int, fault: Callable[[Tensor], Tensor]) -> None:
        self.network, self.good, self.fault = network, good, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, picture: Tensor) -> Mapping[str, Tensor]:
        found = self.network(picture)
        self.good -= picture.requires_grad
        return {name: self.fault(map) for name, map in found.items()} if self.good < 0 else found


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
    "gradient": _BadGradient.apply,
}


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("good", [1, 4, 6])
def test_a_loss_that_is_no_number_ends_with_the_last_good_picture(
    tools: Tools, statistic: str, solver: str, fault: str, good: int
):
    mine = changed(tools, solver=solver, solver_rate=0.1, style_statistics=statistic)
    broken = replace(mine, network=Faulty(mine.network, good, FAULTS[fault]))  # type: ignore[arg-type]
    stream = watch(broken)
    event, state = stream[-1]
    assert isinstance(event, Failed)
    assert "not a number" in event.message or "stopped being a number" in event.message
    assert kinds(stream).count("Failed") == 1
    # A bad gradient ends it too, before the picture that it made is given to anyone.
    assert kinds(stream).count("Stepped") == good
    assert all(state.pixels.isfinite().all() for _, state in stream)
    assert torch.isfinite(state.pixels).all()
    value, _ = evaluation(Size(*state.pixels.shape[-2:]), PLAN, mine)(state.pixels)
    assert value.finite
    assert value.total == state.value.total
    assert all(np.isfinite(event.loss) for event, _ in stream if isinstance(event, Stepped))


def test_a_finished_picture_whose_loss_is_no_number_is_not_called_finished(tools: Tools):
    broken = replace(tools, network=Faulty(tools.network, 9, FAULTS["nan"]))  # type: ignore[arg-type]
    mine = replace(broken, recipe=with_settings(tools.recipe, {"style-statistics": "gram"}))
    stream = watch(mine)
    assert kinds(stream)[-1] == "Failed"
    assert kinds(stream).count("StageDone") == 2
    assert torch.isfinite(stream[-1][1].pixels).all()


def test_a_first_step_that_fails_gives_back_what_it_started_from(tools: Tools):
    mine = changed(tools, style_statistics="gram")
    broken = replace(mine, network=Faulty(mine.network, 0, FAULTS["nan"]))  # type: ignore[arg-type]
    stream = watch(broken)
    assert kinds(stream) == ["Started", "Failed"]
    assert torch.equal(stream[-1][1].pixels, first_pixels(PLAN, mine))


def test_a_failed_run_can_go_on_from_the_state_it_left(tools: Tools):
    mine = changed(tools, style_statistics="gram")
    broken = replace(mine, network=Faulty(mine.network, 6, FAULTS["nan"]))  # type: ignore[arg-type]
    _, state = watch(broken)[-1]
    assert kinds(watch(mine, state))[-1] == "Finished"


# ---- the terms -----------------------------------------------------------------------------------------------


def test_weights_of_nought_leave_their_terms_out(tools: Tools):
    def names(**settings: object) -> list[str]:
        return [objective.name for objective in objectives_for(Size(20, 25), PLAN, changed(tools, **settings))]

    assert names() == ["content", "style", "smooth"]
    assert names(content_weight=0) == ["style", "smooth"]
    assert names(style_weight=0, smooth_weight=0) == ["content"]


def test_the_content_weight_carries_the_plans_factor(tools: Tools):
    for factor in (1.0, 0.25):
        content, *others = objectives_for(Size(20, 25), replace(PLAN, content_factor=factor), tools)
        assert content.weight == pytest.approx(0.05 * factor)
        assert [other.weight for other in others] == [1.0, 0.1]


def test_at_the_photo_its_content_is_nought(tools: Tools):
    photo = images.to_tensor(images.resize(tools.photo, Size(20, 25)))
    value, gradient = evaluation(Size(20, 25), PLAN, tools)(photo)
    assert value.terms["content"] == 0
    assert value.terms["style"] > 0
    assert gradient.shape == photo.shape


def test_paintings_are_blended_by_their_weights(tools: Tools):
    def style(*weights: float) -> float:
        paintings = tuple(Input(path=str(index), weight=weight) for index, weight in enumerate(weights))
        mine = replace(tools, recipe=tools.recipe.model_copy(update={"paintings": paintings}))
        return evaluation(Size(20, 25), PLAN, mine)(first_pixels(PLAN, tools))[0].terms["style"]

    assert style(1, 2) == pytest.approx(style(2, 4), rel=1e-9)
    assert style(1, 2) != pytest.approx(style(2, 1), rel=1e-3)
    only = replace(
        tools,
        recipe=tools.recipe.model_copy(update={"paintings": (Input(path="one"),)}),
        paintings=tools.paintings[:1],
    )
    alone = evaluation(Size(20, 25), PLAN, only)(first_pixels(PLAN, tools))[0].terms["style"]
    assert style(1, 1e-9) == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(
    ("painting", "picture", "scale", "expected"),
    [
        (Size(400, 400), Size(200, 200), 1.0, Size(200, 200)),
        (Size(400, 100), Size(200, 200), 1.0, Size(400, 100)),
        (Size(400, 100), Size(200, 200), 2.0, Size(800, 200)),
        (Size(300, 400), Size(150, 200), 0.5, Size(75, 100)),
        (Size(1000, 100), Size(40, 40), 1.0, Size(126, 32)),  # no side below what a network needs
    ],
)
def test_a_painting_is_looked_at_in_the_pictures_area_and_its_own_shape(
    painting: Size, picture: Size, scale: float, expected: Size
):
    assert painting_size(painting, picture, scale) == expected


def test_the_engine_looks_at_paintings_at_that_size(tools: Tools):
    sizes: list[tuple[int, ...]] = []

    class Watched(Faulty):
        def __call__(self, picture: Tensor) -> Mapping[str, Tensor]:
            sizes.append(tuple(picture.shape[-2:]))
            return super().__call__(picture)

    seen = replace(tools, network=Watched(tools.network, 10**9, torch.clone))  # type: ignore[arg-type]
    objectives_for(Size(60, 80), PLAN, changed(seen, style_scale=1.5))
    picture = Size(60, 80)
    assert sizes == [(60, 80), *(tuple(painting_size(Size(*p.shape[:2]), picture, 1.5)) for p in tools.paintings)]


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
def test_in_tiles_it_paints_what_it_paints_whole(tools: Tools, statistic: str):
    mine = changed(tools, style_statistics=statistic)
    size, picture = Size(37, 45), images.to_tensor(pixels(37, 45, 5))
    assert len(replace(mine, tile=16).grid(size)) > len(replace(mine, tile=0).grid(size)) == 1
    value, gradient = evaluation(size, PLAN, mine)(picture)
    tiled, tiled_gradient = evaluation(size, PLAN, replace(mine, tile=16))(picture)
    assert tiled.total == pytest.approx(value.total, rel=1e-6)
    assert (tiled_gradient - gradient).norm() < 1e-5 * gradient.norm()
    assert kinds(watch(replace(mine, tile=16)))[-1] == "Finished"


def test_content_targets_are_put_together_from_tiles(tools: Tools):
    size = Size(37, 45)
    photo = images.to_tensor(images.resize(tools.photo, size))
    strides = {layer.name: layer.stride for layer in tools.network.layers if layer.name in tools.recipe.content.layers}
    whole, tiled = (assembled(photo, tools.network, strides, replace(tools, tile=tile).grid(size)) for tile in (0, 16))
    assert whole.keys() == tiled.keys() == set(tools.recipe.content.layers)
    for name in whole:
        assert torch.allclose(whole[name], tiled[name], rtol=1e-6, atol=1e-7)
