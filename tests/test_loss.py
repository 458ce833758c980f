"""The loss of one size: the first pixels, the terms, and their targets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import impasto
from impasto import images
from impasto.errors import BadRecipe
from impasto.geometry import Size
from impasto.hardware import system_memory
from impasto.networks.features import Network
from impasto.objectives.bounds import Bounds
from impasto.objectives.content import Content
from impasto.objectives.normalized_content import NormalizedContent
from impasto.objectives.smooth import Smooth
from impasto.objectives.style import Style
from impasto.optimize.execution import Execution
from impasto.optimize.loss import evaluation
from impasto.optimize.problem import Problem, first_pixels
from impasto.optimize.terms import Term, can_be_tiled, make_objectives, objective_types
from impasto.planning.schedule import Plan, Stage, painting_size
from impasto.recipe.records import Input
from tests.support.loss_setup import PLAN, WrappedNetwork, make_problem, smooth_pixels, with_recipe
from tests.support.pocket_network import use_pocket_network_and_pictures


@pytest.fixture(scope="module")
def problem(network_of: Callable[..., Network]) -> Problem:
    return make_problem(network_of)


class Recorder(WrappedNetwork):
    """A network that records the sizes of its inputs."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, picture: Tensor, **options: Any) -> Mapping[str, Tensor]:
        self.sizes.append(tuple(picture.shape[-2:]))
        return super().__call__(picture, **options)


# ---- the first pixels ----------------------------------------------------------------------------


def test_another_seed_is_other_noise_and_changes_only_noise(problem: Problem):
    def first(**settings: object) -> Tensor:
        return first_pixels(with_recipe(problem, **settings), Execution())

    one, other = first(init="noise", seed=1), first(init="noise", seed=2)
    assert not torch.equal(one, other)
    assert torch.equal(one, first(init="noise", seed=1))
    assert torch.equal(first(init="content", seed=1), first(init="content", seed=2))
    assert one.shape == (1, 3, 20, 25)
    assert one.dtype == torch.float32
    assert one.min() >= 0 and one.max() <= 1
    assert one.mean().item() == pytest.approx(0.5, abs=0.02)
    assert 0.05 < one.std().item() < 0.2


def test_the_search_starts_from_the_chosen_picture(problem: Problem):
    size = Size(20, 25)
    start_picture = smooth_pixels(30, 30, 9)
    changed = replace(problem, start=start_picture)
    for start, source in (
        ("content", problem.photo),
        ("style", problem.paintings[0]),
        ("start.png", start_picture),
    ):
        pixels = first_pixels(with_recipe(changed, init=start), Execution())
        assert torch.equal(pixels, images.to_tensor(images.resize(source, size)))


def wide_start(problem: Problem, **settings: object) -> Tensor:
    wide = Plan((Stage(Size(120, 150), 1),), 1.0)
    named = {
        name if name == "seed" else f"schedule_{name}": value
        for name, value in settings.items()
        if name != "init"
    }
    changed = with_recipe(problem, init=settings.get("init", "noise"), **named)
    return first_pixels(replace(changed, plan=wide), Execution())


def test_noise_has_the_requested_distribution(problem: Problem):
    assert wide_start(problem).std().item() == pytest.approx(0.1, rel=0.02)
    even = wide_start(problem, noise_kind="uniform", noise_spread=0.2)
    assert (even.min().item(), even.max().item()) == pytest.approx((0.3, 0.7), abs=1e-3)
    assert even.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)
    assert torch.equal(wide_start(problem, noise_spread=0), torch.full((1, 3, 120, 150), 0.5))
    wide = wide_start(problem, noise_spread=1)
    assert wide.min() == 0 and wide.max() == 1  # clamped, as all first pixels are


def test_noise_may_be_centred_on_the_mean_of_the_network(problem: Problem):
    weight, bias = problem.network.input_weight, problem.network.input_bias
    assert torch.allclose(
        weight @ problem.network.mean_color.double() + bias, torch.zeros(3).double(), atol=1e-6
    )
    network = replace_input(
        problem.network, torch.eye(3).flip(0) * 255, -torch.tensor([103.939, 116.779, 123.68])
    )
    centre = wide_start(replace(problem, network=network), noise_centre="mean", noise_spread=0)
    expected = torch.tensor([123.68, 116.779, 103.939]) / 255
    assert torch.allclose(centre, expected.view(1, 3, 1, 1).expand_as(centre), atol=1e-6)


def replace_input(network: Network, weight: Tensor, bias: Tensor) -> Network:
    other = copy.copy(network)
    other.input_weight, other.input_bias = weight, bias
    return other


def test_a_share_of_noise_is_mixed_with_the_start(problem: Problem):
    noise, photo = wide_start(problem, noise_kind="uniform"), wide_start(problem, init="content")
    mixed = wide_start(problem, init="content", noise=0.6, noise_kind="uniform")
    assert torch.allclose(mixed, 0.6 * noise + 0.4 * photo, atol=1e-6)
    assert torch.equal(wide_start(problem, init="content", noise=1, noise_kind="uniform"), noise)
    # A start of noise alone ignores the share.
    assert torch.equal(wide_start(problem, init="noise", noise=0.3, noise_kind="uniform"), noise)
    assert torch.equal(wide_start(problem, init="content", seed=4), photo)
    assert not torch.equal(
        wide_start(problem, init="style", noise=0.1, seed=4),
        wide_start(problem, init="style", noise=0.1),
    )


# ---- the terms -----------------------------------------------------------------------------------


def test_terms_with_a_weight_of_0_are_left_out(problem: Problem):
    def names(**settings: object) -> list[str]:
        changed = with_recipe(problem, **settings)
        return [objective.name for objective in make_objectives(Size(20, 25), changed, Execution())]

    assert names() == ["content", "style", "smooth"]
    assert names(content_weight=0) == ["style", "smooth"]
    assert names(style_weight=0, smooth_weight=0) == ["content"]


def test_the_content_weight_includes_the_plans_factor(problem: Problem):
    for factor in (1.0, 0.25):
        changed = replace(problem, plan=replace(PLAN, content_factor=factor))
        content, *others = make_objectives(Size(20, 25), changed, Execution())
        assert content.weight == pytest.approx(0.05 * factor)
        assert [other.weight for other in others] == [1.0, 0.1]


def test_the_content_term_of_the_photo_is_0(problem: Problem):
    photo = images.to_tensor(images.resize(problem.photo, Size(20, 25)))
    value, gradient = evaluation(Size(20, 25), problem, Execution())(photo)
    assert value.terms["content"] == 0
    assert value.terms["style"] > 0
    assert gradient.shape == photo.shape


def test_paintings_are_blended_by_their_weights(problem: Problem):
    first = first_pixels(problem, Execution())

    def style_term(changed: Problem) -> float:
        value, _ = evaluation(Size(20, 25), changed, Execution())(first)
        return value.terms["style"]

    def style(*weights: float) -> float:
        paintings = tuple(
            Input(path=str(index), weight=weight) for index, weight in enumerate(weights)
        )
        changed = replace(
            problem, recipe=problem.recipe.model_copy(update={"paintings": paintings})
        )
        return style_term(changed)

    assert style(1, 2) == pytest.approx(style(2, 4), rel=1e-9)
    assert style(1, 2) != pytest.approx(style(2, 1), rel=1e-3)
    only = replace(
        problem,
        recipe=problem.recipe.model_copy(update={"paintings": (Input(path="one"),)}),
        paintings=problem.paintings[:1],
    )
    alone = style_term(only)
    assert style(1, 1e-9) == pytest.approx(alone, rel=1e-6)


def test_a_much_larger_painting_is_measured_in_tiles_of_the_pictures_size(
    problem: Problem,
):
    large = with_recipe(problem, style_scale=3)
    network = Recorder(large.network)
    in_tiles = make_objectives(Size(60, 80), replace(large, network=network), Execution())  # type: ignore[arg-type]
    assert max(map(max, network.sizes)) <= 80 + 2 * 2 * large.network.halo
    whole = make_objectives(Size(60, 80), large, Execution(tile=10_000))
    (tiled_style,), (whole_style,) = (
        [term for term in objectives if isinstance(term, Style)] for objectives in (in_tiles, whole)
    )
    for name, target in whole_style.target.items():
        assert torch.allclose(tiled_style.target[name].second, target.second, rtol=1e-4), name


def test_paintings_are_measured_at_the_size_of_the_recipe(problem: Problem):
    network, picture = Recorder(problem.network), Size(60, 80)
    recorded = replace(problem, network=network)  # type: ignore[arg-type]
    make_objectives(picture, with_recipe(recorded, style_scale=1.5), Execution())
    assert network.sizes == [
        (60, 80),
        *(tuple(painting_size(Size(*p.shape[:2]), picture, 1.5)) for p in problem.paintings),
    ]


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
def test_the_loss_in_tiles_is_that_of_the_whole(problem: Problem, statistic: str):
    changed = with_recipe(problem, style_statistics=statistic)
    size, picture = Size(37, 45), images.to_tensor(smooth_pixels(37, 45, 5))
    tiled, whole = (Execution(tile=tile).grid(changed.network, size) for tile in (16, 0))
    assert len(tiled) > len(whole) == 1
    value, gradient = evaluation(size, changed, Execution())(picture)
    tiled_value, tiled_gradient = evaluation(size, changed, Execution(tile=16))(picture)
    assert tiled_value.total == pytest.approx(value.total, rel=1e-6)
    assert (tiled_gradient - gradient).norm() < 1e-5 * gradient.norm()


# ---- terms that are not additive -----------------------------------------------------------------

WEIGHTS = {
    Content: "content_weight",
    Style: "style_weight",
    Smooth: "smooth_weight",
    Bounds: "bounds_weight",
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_loss_can_be_tiled_if_all_its_terms_are_additive(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, kind: type[Term]
):
    changed = with_recipe(problem, bounds_weight=1, protect="none", palette_weight=0)
    made = make_objectives(Size(20, 25), changed, Execution())
    assert [type(term) for term in made] == objective_types(changed.recipe) == list(WEIGHTS)
    assert can_be_tiled(changed.recipe)
    monkeypatch.setattr(kind, "additive", False)
    assert not can_be_tiled(changed.recipe)
    assert can_be_tiled(with_recipe(changed, **{WEIGHTS[kind]: 0}).recipe)


def test_a_much_larger_painting_is_measured_whole_if_style_is_not_additive(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Style, "additive", False)
    network, picture = Recorder(problem.network), Size(60, 80)
    recorded = replace(problem, network=network)  # type: ignore[arg-type]
    make_objectives(picture, with_recipe(recorded, style_scale=3), Execution())
    assert network.sizes[1:] == [
        tuple(painting_size(Size(*p.shape[:2]), picture, 3)) for p in problem.paintings
    ]


@pytest.mark.parametrize(
    ("kind", "name"), [(NormalizedContent, "content"), (Style, "style"), (Smooth, "smooth")]
)
def test_tiles_for_a_term_that_is_not_additive_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[Term], name: str
):
    use_pocket_network_and_pictures(monkeypatch, tmp_path)
    settings = {"size": 512, "iterations": 1, "single_scale": True}
    assert impasto.prepare("photo.png", "painting.png", tile=128, **settings).plan.tile == 128
    monkeypatch.setattr(kind, "additive", False)
    for ask in (lambda session: session.plan, lambda session: list(session.run())):
        with pytest.raises(BadRecipe) as caught:
            ask(impasto.prepare("photo.png", "painting.png", tile=128, **settings))
        assert f"The {name} term" in caught.value.message and "--tile 128" in caught.value.message
        assert "Leave --tile out" in caught.value.hint


def test_a_term_that_is_not_additive_is_never_cut_into_tiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    use_pocket_network_and_pictures(monkeypatch, tmp_path)
    monkeypatch.setattr(system_memory, "free_memory", lambda device: 0)
    settings = {"size": 1024, "iterations": 1, "single_scale": True}
    assert impasto.prepare("photo.png", "painting.png", **settings).plan.tile > 0
    monkeypatch.setattr(Style, "additive", False)
    session = impasto.prepare("photo.png", "painting.png", **settings)
    assert session.plan.tile == 0 and session.execution_plan.tile == 0
