"""What is minimised at one size: where the search sets out from, which terms there are, and what
they are compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto import images
from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.objectives.style import Style
from impasto.optimize.loss import Tools, evaluation, first_pixels, objectives_for
from impasto.planning.schedule import Plan, Stage, painting_size
from impasto.recipe.records import Input
from tests.support.loss_setup import PLAN, WrappedNetwork, make_tools, smooth_pixels, with_recipe


@pytest.fixture(scope="module")
def tools(network_of: Callable[..., Network]) -> Tools:
    return make_tools(network_of)


class Watched(WrappedNetwork):
    """A network that notes the sides of what it looks at."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, picture: Tensor, **how: Any) -> Mapping[str, Tensor]:
        self.seen.append(tuple(picture.shape[-2:]))
        return super().__call__(picture, **how)


# ---- where the search sets out from --------------------------------------------------------------


def test_another_seed_is_another_noise_and_only_noise_feels_it(tools: Tools):
    def begun(**settings: object) -> Tensor:
        return first_pixels(PLAN, with_recipe(tools, **settings))

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
    drawn = smooth_pixels(30, 30, 9)
    mine = replace(tools, start=drawn)
    for start, source in (
        ("content", tools.photo),
        ("style", tools.paintings[0]),
        ("drawn.png", drawn),
    ):
        found = first_pixels(PLAN, with_recipe(mine, init=start))
        assert torch.equal(found, images.to_tensor(images.resize(source, size)))


def drawn(tools: Tools, **settings: object) -> Tensor:
    wide = Plan((Stage(Size(120, 150), 1),), 1.0)
    named = {
        name if name == "seed" else f"schedule_{name}": value
        for name, value in settings.items()
        if name != "init"
    }
    return first_pixels(wide, with_recipe(tools, init=settings.get("init", "noise"), **named))


def test_noise_is_spread_as_it_is_asked_to_be(tools: Tools):
    assert drawn(tools).std().item() == pytest.approx(0.1, rel=0.02)
    even = drawn(tools, noise_kind="uniform", noise_spread=0.2)
    assert (even.min().item(), even.max().item()) == pytest.approx((0.3, 0.7), abs=1e-3)
    assert even.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)
    assert torch.equal(drawn(tools, noise_spread=0), torch.full((1, 3, 120, 150), 0.5))
    wide = drawn(tools, noise_spread=1)
    assert wide.min() == 0 and wide.max() == 1  # cut, as every picture is that is begun with


def test_noise_may_be_spread_about_what_the_network_takes_for_nought(tools: Tools):
    weight, bias = tools.network.input_weight, tools.network.input_bias
    assert torch.allclose(
        weight @ tools.network.mean_color.double() + bias, torch.zeros(3).double(), atol=1e-6
    )
    network = replace_input(
        tools.network, torch.eye(3).flip(0) * 255, -torch.tensor([103.939, 116.779, 123.68])
    )
    found = drawn(replace(tools, network=network), noise_centre="mean", noise_spread=0)
    expected = torch.tensor([123.68, 116.779, 103.939]) / 255
    assert torch.allclose(found, expected.view(1, 3, 1, 1).expand_as(found), atol=1e-6)


def replace_input(network: Network, weight: Tensor, bias: Tensor) -> Network:
    other = copy.copy(network)
    other.input_weight, other.input_bias = weight, bias
    return other


def test_a_share_of_noise_gives_way_to_what_is_started_from(tools: Tools):
    noise, photo = drawn(tools, noise_kind="uniform"), drawn(tools, init="content")
    mixed = drawn(tools, init="content", noise=0.6, noise_kind="uniform")
    assert torch.allclose(mixed, 0.6 * noise + 0.4 * photo, atol=1e-6)
    assert torch.equal(drawn(tools, init="content", noise=1, noise_kind="uniform"), noise)
    # Of which there is no share.
    assert torch.equal(drawn(tools, init="noise", noise=0.3, noise_kind="uniform"), noise)
    assert torch.equal(drawn(tools, init="content", seed=4), photo)
    assert not torch.equal(
        drawn(tools, init="style", noise=0.1, seed=4), drawn(tools, init="style", noise=0.1)
    )


# ---- the terms -----------------------------------------------------------------------------------


def test_weights_of_nought_leave_their_terms_out(tools: Tools):
    def names(**settings: object) -> list[str]:
        return [
            objective.name
            for objective in objectives_for(Size(20, 25), PLAN, with_recipe(tools, **settings))
        ]

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
        paintings = tuple(
            Input(path=str(index), weight=weight) for index, weight in enumerate(weights)
        )
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


def test_a_painting_much_larger_than_the_picture_is_looked_at_in_tiles_of_the_pictures_size(
    tools: Tools,
):
    large = with_recipe(tools, style_scale=3)
    network = Watched(large.network)
    in_tiles = objectives_for(Size(60, 80), PLAN, replace(large, network=network))  # type: ignore[arg-type]
    assert max(map(max, network.seen)) <= 80 + 2 * 2 * large.network.halo
    whole = objectives_for(Size(60, 80), PLAN, replace(large, tile=10_000))
    (one,), (other,) = (
        [each for each in found if isinstance(each, Style)] for found in (in_tiles, whole)
    )
    for name, target in other.target.items():
        assert torch.allclose(one.target[name].second, target.second, rtol=1e-4), name


def test_paintings_are_looked_at_in_the_size_that_the_recipe_gives_them(tools: Tools):
    network, picture = Watched(tools.network), Size(60, 80)
    objectives_for(picture, PLAN, with_recipe(replace(tools, network=network), style_scale=1.5))  # type: ignore[arg-type]
    assert network.seen == [
        (60, 80),
        *(tuple(painting_size(Size(*p.shape[:2]), picture, 1.5)) for p in tools.paintings),
    ]


@pytest.mark.parametrize("statistic", ["gram", "wasserstein"])
def test_in_tiles_the_loss_is_that_of_the_whole(tools: Tools, statistic: str):
    mine = with_recipe(tools, style_statistics=statistic)
    size, picture = Size(37, 45), images.to_tensor(smooth_pixels(37, 45, 5))
    assert len(replace(mine, tile=16).grid(size)) > len(replace(mine, tile=0).grid(size)) == 1
    value, gradient = evaluation(size, PLAN, mine)(picture)
    tiled, tiled_gradient = evaluation(size, PLAN, replace(mine, tile=16))(picture)
    assert tiled.total == pytest.approx(value.total, rel=1e-6)
    assert (tiled_gradient - gradient).norm() < 1e-5 * gradient.norm()
