"""Tiled is whole: value and gradient agree to rounding for every objective, size, tile, padding and
pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from impasto.geometry import Grid, Size
from impasto.networks.features import Network
from impasto.objectives.base import Objective, TileContext
from impasto.objectives.content import Content
from impasto.objectives.moments import STATISTICS, Style, measure, summarise
from impasto.objectives.smooth import MEASURES, Bounds, Smooth
from impasto.optimize.tiling import Value, measured, targets, value_and_gradient
from impasto.recipe.choices import ContentScaling
from impasto.storage.tensors import (
    DiskStore,
    MemoryStore,
    TensorStore,
)
from tests.support.loss_setup import targets_by_tile

SCALINGS: tuple[ContentScaling, ...] = get_args(ContentScaling)
TERMS = [*STATISTICS, *SCALINGS, *MEASURES, "bounds"]
LAYERS = {"conv1_1": 0.5, "relu2_1": 1.0, "conv2_2": 2.0, "conv3_1": 0.25}


@dataclass(frozen=True)
class Bench:
    """A picture, a network and objectives for a grid; every map that an objective reads is one that
    the network gives.
    """

    picture: Tensor
    network: Network
    objectives: Callable[[Grid], list[Objective]]

    def grid(self, tile: int, halo: int) -> Grid:
        return Grid(Size(*self.picture.shape[-2:]), tile, halo, self.network.stride)

    def run(self, tile: int, halo: int) -> tuple[Value, Tensor]:
        grid = self.grid(tile, halo)
        return value_and_gradient(self.picture, self.network, self.objectives(grid), grid)


Setup = Callable[..., Bench]


@pytest.fixture(scope="module")
def bench(network_of: Callable[..., Network], picture_of: Callable[..., Tensor]) -> Setup:
    def make(
        term: str,
        size: tuple[int, int],
        *,
        layers: dict[str, float] = LAYERS,
        configuration: str = "pocket",
        **how: object,
    ) -> Bench:
        network = network_of(*layers, "input", configuration=configuration, **how)
        strides = {layer.name: layer.stride for layer in network.layers}
        picture, photo, painting = (
            picture_of(*size) * 1.5 - 0.25,
            picture_of(*size, seed=2),
            picture_of(37, 42, seed=3),
        )
        statistics = [name for name in STATISTICS if term in (name, "all")]
        whole = network(photo)
        others: list[Objective] = []
        if statistics:
            # A channel that a ReLU leaves dead has no variance, and the root of a rounding error is
            # no rounding error.
            alive = {
                name: weight
                for name, weight in layers.items()
                if term.startswith("gram") or "relu" not in name
            }
            target = summarise(
                measure(
                    network(painting),
                    {n: strides[n] for n in alive},
                    TileContext.whole(Size(37, 42)),
                )
            )
            others.append(Style(target, strides, alive, dict.fromkeys(statistics, 1.0), 0.7))
        others += [Smooth(3.0, measure) for measure in MEASURES if term in (measure, "all")]
        others += [Bounds(2.0)] if term in ("bounds", "all") else []

        def objectives(grid: Grid) -> list[Objective]:
            targets = {name: targets_by_tile(whole[name], strides[name], grid) for name in layers}
            scalings = [scaling for scaling in SCALINGS if term in (scaling, "all")]
            return [
                *(Content(targets, strides, layers, scaling, 0.1) for scaling in scalings),
                *others,
            ]

        return Bench(picture, network, objectives)

    return make


def apart(found: tuple[Value, Tensor], expected: tuple[Value, Tensor]) -> tuple[float, float]:
    """Relative differences of the value and of the gradient."""
    value = abs(found[0].total - expected[0].total) / abs(expected[0].total)
    return value, ((found[1] - expected[1]).norm() / expected[1].norm()).item()


SIZES = st.tuples(st.integers(32, 54), st.integers(32, 54))
PADDINGS = st.sampled_from(["zero", "reflect", "replicate"])
POOLINGS = st.sampled_from(["max", "average"])


@pytest.mark.parametrize("term", TERMS)
@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS, st.integers(0, 9))
def test_tiled_is_whole(
    bench: Setup, term: str, size: tuple[int, int], tile: int, padding: str, pooling: str, seed: int
):
    made = bench(term, size, padding=padding, pooling=pooling, seed=seed)
    assert len(made.grid(tile, made.network.halo)) > 1
    value, gradient = apart(made.run(tile, made.network.halo), made.run(0, 0))
    assert value < 1e-12
    assert gradient < 1e-12


@pytest.mark.parametrize("deepest", ["conv1_1", "relu2_1", "pool1", "relu2_2", "pool2", "relu3_1"])
@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS)
def test_the_halo_computed_for_any_deepest_layer_is_enough(
    bench: Setup, deepest: str, size: tuple[int, int], tile: int, padding: str, pooling: str
):
    made = bench("gram", size, layers={deepest: 1.0}, padding=padding, pooling=pooling)
    value, gradient = apart(made.run(tile, made.network.halo), made.run(0, 0))
    assert value < 1e-12
    assert gradient < 1e-12


@pytest.mark.parametrize("term", [*STATISTICS, *SCALINGS])
@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
def test_a_halo_one_stride_too_small_is_not_exact(bench: Setup, term: str, padding: str):
    """Otherwise the tests above could not fail."""
    made = bench(term, (40, 48), padding=padding)
    value, gradient = apart(made.run(16, made.network.halo - made.network.stride), made.run(0, 0))
    assert value > 1e-9
    assert gradient > 1e-7


def test_smoothness_without_a_halo_is_not_exact(bench: Setup):
    made = bench("squared", (40, 48))
    assert apart(made.run(16, 0), made.run(0, 0))[1] > 1e-3
    assert apart(made.run(16, 1), made.run(0, 0))[1] < 1e-12


@pytest.mark.parametrize("configuration", ["narrow A", "narrow E"])
def test_the_published_geometry_needs_its_halo_and_no_more(bench: Setup, configuration: str):
    layers = {"relu1_1": 1.0, "relu4_1": 1.0, "relu5_1": 1.0}
    made = bench(
        "gram",
        (179, 211),
        layers=layers,
        configuration=configuration,
        padding="reflect",
        positive=True,
    )
    expected = made.run(0, 0)
    assert made.network.halo == {"narrow A": 64, "narrow E": 80}[configuration]
    assert apart(made.run(64, made.network.halo), expected)[1] < 1e-12
    # One position sees (reach - stride) / 2 pixels to its left: 43 and 70.
    assert apart(made.run(64, {"narrow A": 32, "narrow E": 64}[configuration]), expected)[1] > 1e-9


@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS)
def test_measured_in_tiles_is_measured_whole(
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
    size: tuple[int, int],
    tile: int,
    padding: str,
    pooling: str,
):
    network = network_of(*LAYERS, padding=padding, pooling=pooling)
    strides = {name: network.layer(name).stride for name in LAYERS}
    picture = picture_of(*size).requires_grad_()
    found, expected = (
        measured(picture, network, lambda maps, where: measure(maps, strides, where), grid)
        for grid in (Grid(Size(*size), tile, network.halo, network.stride), Grid(Size(*size)))
    )
    assert set(found) == set(expected)
    for name, stat in expected.items():
        assert not found[name].requires_grad
        assert (found[name] - stat).norm() <= 1e-12 * stat.norm(), name
    assert expected["conv2_2.count"] == (size[0] // 2) * (size[1] // 2)


@pytest.mark.parametrize("where", ["memory", "disk"])
@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS)
def test_targets_in_tiles_are_the_parts_of_the_whole_map(
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
    tmp_path_factory: pytest.TempPathFactory,
    where: str,
    size: tuple[int, int],
    tile: int,
    padding: str,
    pooling: str,
):
    network = network_of(*LAYERS, padding=padding, pooling=pooling)
    strides = {name: network.layer(name).stride for name in LAYERS}
    photo, grid = (
        picture_of(*size).requires_grad_(),
        Grid(Size(*size), tile, network.halo, network.stride),
    )
    scratch: TensorStore = (
        MemoryStore() if where == "memory" else DiskStore(tmp_path_factory.getbasetemp())
    )
    found, whole = targets(photo, network, strides, grid, scratch), network(photo)
    assert set(found) == set(LAYERS)
    for name, stride in strides.items():
        expected = targets_by_tile(whole[name], stride, grid)
        assert set(found[name]) == set(expected) == {tile.core for tile in grid}
        for core, part in expected.items():
            kept = found[name][core].load()
            assert kept.shape == part.shape and not kept.requires_grad
            assert (kept - part.load()).norm() <= 1e-12 * whole[name].norm(), name


def test_the_parts_of_a_map_do_not_keep_the_whole_of_it_in_memory(
    network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    network = network_of("conv1_1", "relu2_1")
    grid = network.grid(Size(64, 80), 32)
    assert len(grid) > 4
    for parts_of in targets(
        picture_of(64, 80), network, {"conv1_1": 1, "relu2_1": 2}, grid, MemoryStore()
    ).values():
        for part in parts_of.values():
            tensor = part.load()
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_the_last_tiles_maps_serve_both_passes(bench: Setup):
    """A grid of n tiles goes forward 2 n - 1 times, and n times of these for a gradient; one tile
    once.
    """
    made = bench("all", (40, 48))
    seen: list[bool] = []

    def encode(picture: Tensor) -> Mapping[str, Tensor]:
        seen.append(picture.requires_grad)
        return made.network(picture)

    for tile in (0, 16):
        grid = made.grid(tile, made.network.halo)
        objectives = made.objectives(grid)
        seen.clear()
        value_and_gradient(made.picture, encode, objectives, grid)
        assert len(seen) == 2 * len(grid) - 1 and sum(seen) == len(grid)
    assert len(grid) == 9


@pytest.mark.parametrize("kept", [2, 5, 9, 100])
def test_the_maps_of_several_tiles_may_serve_both_passes_and_change_no_byte(
    bench: Setup, kept: int
):
    made = bench("all", (40, 48))
    grid = made.grid(16, made.network.halo)
    seen: list[bool] = []

    def encode(picture: Tensor) -> Mapping[str, Tensor]:
        seen.append(picture.requires_grad)
        return made.network(picture)

    expected = value_and_gradient(made.picture, made.network, made.objectives(grid), grid)
    found = value_and_gradient(made.picture, encode, made.objectives(grid), grid, kept)
    assert found[0] == expected[0] and torch.equal(found[1], expected[1])
    assert len(seen) == 2 * len(grid) - min(kept, len(grid)) and sum(seen) == len(grid) == 9


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_gradient_of_what_a_tile_owns_lies_in_memory_as_its_map_does(form: torch.memory_format):
    tile = [*Grid(Size(56, 64), 16, 8, 4)][4]
    height, width = (side // 2 for side in tile.outer.size)
    map = (
        torch.rand(1, 3, height, width, dtype=torch.float64)
        .contiguous(memory_format=form)
        .requires_grad_()
    )
    own = TileContext(tile, Size(56, 64)).own(map, 2)
    rows, columns = (
        tile.core.divided(2, Size(28, 32)).within(tile.outer.divided(2, Size(28, 32))).slices
    )
    assert torch.equal(own, map[..., rows, columns]) and own.numel() < map.numel()
    given = torch.rand_like(own)
    (found,) = torch.autograd.grad(own, map, given)
    (expected,) = torch.autograd.grad(map[..., rows, columns], map, given)
    assert torch.equal(found, expected) and found.is_contiguous(memory_format=form)


# ---- what is given back --------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [0, 16])
def test_the_gradient_is_that_of_plain_autograd(bench: Setup, tile: int):
    made = bench("all", (29, 34), padding="reflect")
    leaf = made.picture.clone().requires_grad_()
    features = made.network(leaf)
    place = TileContext.whole(Size(29, 34))
    objectives = made.objectives(made.grid(0, 0))
    terms = [
        objective.weight * sum(objective.score(objective.measure(features, place)).values())
        for objective in objectives
    ]
    total = torch.stack(terms).sum()
    (expected,) = torch.autograd.grad(total, leaf)
    value, gradient = made.run(tile, made.network.halo)
    assert value.total == pytest.approx(total.item(), rel=1e-12)
    assert (gradient - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("tile", [0, 16])
def test_terms_carry_their_weights_and_add_up(bench: Setup, tile: int):
    made = bench("all", (29, 34))
    value, _ = made.run(tile, made.network.halo)
    assert set(value.terms) == {"content", "style", "smooth", "bounds"}
    assert value.total == pytest.approx(sum(value.terms.values()), rel=1e-14)
    assert list(value.layers["smooth"]) == ["input"]
    assert len(value.layers["content"]) > 1 < len(value.layers["style"])
    for name, layers in value.layers.items():
        assert value.terms[name] == pytest.approx(sum(layers.values()), rel=1e-14)
    for name, chosen in (
        ("smooth", slice(-1 - len(MEASURES), -1)),
        ("content", slice(len(SCALINGS))),
    ):
        some = replace(made, objectives=lambda grid, chosen=chosen: made.objectives(grid)[chosen])
        alone, _ = some.run(tile, made.network.halo)
        assert value.terms[name] == pytest.approx(alone.total, rel=1e-12)


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("kernel", ["float64", "conv2d"])
def test_the_picture_is_left_alone(bench: Setup, tile: int, kernel: str):
    made = bench("all", (29, 34), kernel=kernel)
    picture = made.picture.to(made.network.precise_dtype)
    kept = picture.clone()
    grid = made.grid(tile, made.network.halo)
    _, gradient = value_and_gradient(picture, made.network, made.objectives(grid), grid)
    assert torch.equal(picture, kept)
    assert not picture.requires_grad
    assert picture.grad is None
    assert not gradient.requires_grad
    assert (gradient.shape, gradient.dtype) == (picture.shape, picture.dtype)


def test_a_value_says_whether_it_is_a_number():
    assert Value(0.5, {}).finite
    assert not Value(math.nan, {}).finite
    assert not Value(math.inf, {}).finite
