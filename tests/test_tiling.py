"""Tiles give the loss and gradient of the whole to rounding, whatever the objective and size."""

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
from torch.nn import functional

from impasto.geometry import Grid, Size
from impasto.networks.features import Network
from impasto.objectives.base import Objective, TileContext
from impasto.objectives.bounds import Bounds
from impasto.objectives.histogram import Histogram
from impasto.objectives.laplacian import Laplacian
from impasto.objectives.moments import moment_sums, moments_from_sums
from impasto.objectives.nearest import Nearest
from impasto.objectives.smooth import MEASURES, Smooth
from impasto.objectives.style import STATISTICS, Style
from impasto.optimize.matching import EncodedPicture, match_places, painting_bank
from impasto.optimize.painting_histograms import (
    directions_of,
    mixture_histograms,
    painting_projections,
)
from impasto.optimize.tiling import LossValue, store_features, total_stats, value_and_gradient
from impasto.recipe.choices import ContentScaling
from impasto.storage.tensors import (
    DiskStore,
    MemoryStore,
    TensorStore,
)
from tests.support.loss_setup import content_term, targets_by_tile

SCALINGS: tuple[ContentScaling, ...] = get_args(ContentScaling)
TERMS = [*STATISTICS, *SCALINGS, *MEASURES, "nearest", "histogram", "laplacian", "bounds"]
LAYERS = {"conv1_1": 0.5, "relu2_1": 1.0, "conv2_2": 2.0, "conv3_1": 0.25}


@dataclass(frozen=True)
class Setup:
    """A picture, a network that returns every map that is read, and the objectives for a grid."""

    picture: Tensor
    network: Network
    objectives: Callable[[Grid], list[Objective]]

    def grid(self, tile: int, halo: int) -> Grid:
        return Grid(Size(*self.picture.shape[-2:]), tile, halo, self.network.stride)

    def run(self, tile: int, halo: int) -> tuple[LossValue, Tensor]:
        grid = self.grid(tile, halo)
        return value_and_gradient(self.picture, self.network, self.objectives(grid), grid)


MakeSetup = Callable[..., Setup]


@pytest.fixture(scope="module")
def make_setup(network_of: Callable[..., Network], picture_of: Callable[..., Tensor]) -> MakeSetup:
    def make(
        term: str,
        size: tuple[int, int],
        *,
        layers: dict[str, float] = LAYERS,
        configuration: str = "pocket",
        **options: object,
    ) -> Setup:
        network = network_of(*layers, "input", configuration=configuration, **options)
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
            # A dead channel after a ReLU has no variance, and the root of a rounding error is
            # larger than rounding.
            alive = {
                name: weight
                for name, weight in layers.items()
                if term.startswith("gram") or "relu" not in name
            }
            target = moments_from_sums(
                moment_sums(
                    network(painting),
                    {n: strides[n] for n in alive},
                    TileContext.whole(Size(37, 42)),
                )
            )
            others.append(Style(target, strides, alive, dict.fromkeys(statistics, 1.0), 0.7))
        others += [Laplacian(photo, 2, 0.3)] if term in ("laplacian", "all") else []
        others += [Smooth(3.0, measure) for measure in MEASURES if term in (measure, "all")]
        others += [Bounds(2.0)] if term in ("bounds", "all") else []

        def nearest(grid: Grid) -> Objective:
            used = {name: strides[name] for name in layers}
            paintings = [EncodedPicture(painting, network, Grid(Size(37, 42)))]
            bank, places = painting_bank(paintings, used, layers)
            matches = match_places(
                EncodedPicture(photo, network, grid), bank, places, MemoryStore()
            )
            return Nearest(functional.normalize(bank), matches, places, 0.6)

        def histogram(grid: Grid) -> Objective:
            used = {name: strides[name] for name in layers}
            paintings = [EncodedPicture(painting, network, Grid(Size(37, 42)))]
            channels = {name: network.layer(name).channels for name in layers}
            drawn = {name: directions_of("random", count, 1) for name, count in channels.items()}
            projections = painting_projections(paintings, used, drawn)
            target, norms = mixture_histograms(paintings, [1.0], used, projections)
            return Histogram(projections, target, norms, used, layers, 0.4)

        def objectives(grid: Grid) -> list[Objective]:
            targets = {name: targets_by_tile(whole[name], strides[name], grid) for name in layers}
            scalings = [scaling for scaling in SCALINGS if term in (scaling, "all")]
            return [
                *(content_term(targets, strides, layers, scaling, 0.1) for scaling in scalings),
                *([nearest(grid)] if term in ("nearest", "all") else []),
                *([histogram(grid)] if term in ("histogram", "all") else []),
                *others,
            ]

        return Setup(picture, network, objectives)

    return make


def differences(
    result: tuple[LossValue, Tensor], expected: tuple[LossValue, Tensor]
) -> tuple[float, float]:
    """Relative differences of the value and of the gradient."""
    value = abs(result[0].total - expected[0].total) / abs(expected[0].total)
    return value, ((result[1] - expected[1]).norm() / expected[1].norm()).item()


SIZES = st.tuples(st.integers(32, 54), st.integers(32, 54))
PADDINGS = st.sampled_from(["zero", "reflect", "replicate"])
POOLINGS = st.sampled_from(["max", "average"])


@pytest.mark.slow
@pytest.mark.parametrize("term", TERMS)
@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS, st.integers(0, 9))
def test_tiles_give_the_loss_and_gradient_of_the_whole(
    make_setup: MakeSetup,
    term: str,
    size: tuple[int, int],
    tile: int,
    padding: str,
    pooling: str,
    seed: int,
):
    setup = make_setup(term, size, padding=padding, pooling=pooling, seed=seed)
    assert len(setup.grid(tile, setup.network.halo)) > 1
    value, gradient = differences(setup.run(tile, setup.network.halo), setup.run(0, 0))
    assert value < 1e-12
    assert gradient < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("deepest", ["conv1_1", "relu2_1", "pool1", "relu2_2", "pool2", "relu3_1"])
@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS)
def test_the_halo_computed_for_any_deepest_layer_is_enough(
    make_setup: MakeSetup,
    deepest: str,
    size: tuple[int, int],
    tile: int,
    padding: str,
    pooling: str,
):
    setup = make_setup("gram", size, layers={deepest: 1.0}, padding=padding, pooling=pooling)
    value, gradient = differences(setup.run(tile, setup.network.halo), setup.run(0, 0))
    assert value < 1e-12
    assert gradient < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("term", [*STATISTICS, *SCALINGS, "nearest"])
@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
def test_a_halo_one_stride_too_small_is_not_exact(make_setup: MakeSetup, term: str, padding: str):
    """Otherwise the tests above could not fail."""
    setup = make_setup(term, (40, 48), padding=padding)
    value, gradient = differences(
        setup.run(16, setup.network.halo - setup.network.stride), setup.run(0, 0)
    )
    assert value > 1e-9
    assert gradient > 1e-7


def test_the_smooth_term_without_a_halo_is_not_exact(make_setup: MakeSetup):
    setup = make_setup("squared", (40, 48))
    assert differences(setup.run(16, 0), setup.run(0, 0))[1] > 1e-3
    assert differences(setup.run(16, 1), setup.run(0, 0))[1] < 1e-12


@pytest.mark.parametrize("configuration", ["narrow A", "narrow E"])
def test_the_published_geometry_needs_its_halo_and_no_more(
    make_setup: MakeSetup, configuration: str
):
    layers = {"relu1_1": 1.0, "relu4_1": 1.0, "relu5_1": 1.0}
    setup = make_setup(
        "gram",
        (179, 211),
        layers=layers,
        configuration=configuration,
        padding="reflect",
        positive=True,
    )
    expected = setup.run(0, 0)
    assert setup.network.halo == {"narrow A": 64, "narrow E": 80}[configuration]
    assert differences(setup.run(64, setup.network.halo), expected)[1] < 1e-12
    # One position sees (reach - stride) / 2 pixels to its left: 43 and 70.
    assert (
        differences(setup.run(64, {"narrow A": 32, "narrow E": 64}[configuration]), expected)[1]
        > 1e-9
    )


@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS)
def test_stats_in_tiles_are_those_of_the_whole(
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
    result, expected = (
        total_stats(
            picture,
            network,
            lambda features, context: moment_sums(features, strides, context),
            grid,
        )
        for grid in (Grid(Size(*size), tile, network.halo, network.stride), Grid(Size(*size)))
    )
    assert set(result) == set(expected)
    for name, stat in expected.items():
        assert not result[name].requires_grad
        assert (result[name] - stat).norm() <= 1e-12 * stat.norm(), name
    assert expected["conv2_2.count"] == (size[0] // 2) * (size[1] // 2)


@pytest.mark.parametrize("kind", ["memory", "disk"])
@given(SIZES, st.integers(8, 27), PADDINGS, POOLINGS)
def test_features_stored_in_tiles_are_the_parts_of_the_whole_map(
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
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
    store: TensorStore = (
        MemoryStore() if kind == "memory" else DiskStore(tmp_path_factory.getbasetemp())
    )
    stored, whole = store_features(photo, network, strides, grid, store), network(photo)
    assert set(stored) == set(LAYERS)
    for name, stride in strides.items():
        expected = targets_by_tile(whole[name], stride, grid)
        assert set(stored[name]) == set(expected) == {tile.core for tile in grid}
        for core, part in expected.items():
            loaded = stored[name][core].load()
            assert loaded.shape == part.shape and not loaded.requires_grad
            assert (loaded - part.load()).norm() <= 1e-12 * whole[name].norm(), name


def test_a_stored_part_does_not_keep_the_whole_map_in_memory(
    network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    network = network_of("conv1_1", "relu2_1")
    grid = network.grid(Size(64, 80), 32)
    assert len(grid) > 4
    for parts_of in store_features(
        picture_of(64, 80), network, {"conv1_1": 1, "relu2_1": 2}, grid, MemoryStore()
    ).values():
        for part in parts_of.values():
            tensor = part.load()
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_the_maps_of_the_last_tile_are_used_in_both_passes(make_setup: MakeSetup):
    """A grid of n tiles has 2 n - 1 forward passes, n of them for a gradient; one tile has one."""
    setup = make_setup("all", (40, 48))
    tracked: list[bool] = []

    def encode(picture: Tensor) -> Mapping[str, Tensor]:
        tracked.append(picture.requires_grad)
        return setup.network(picture)

    for tile in (0, 16):
        grid = setup.grid(tile, setup.network.halo)
        objectives = setup.objectives(grid)
        tracked.clear()
        value_and_gradient(setup.picture, encode, objectives, grid)
        assert len(tracked) == 2 * len(grid) - 1 and sum(tracked) == len(grid)
    assert len(grid) == 9


@pytest.mark.parametrize("tiles_in_memory", [2, 5, 9, 100])
def test_the_maps_of_several_tiles_in_memory_change_no_byte(
    make_setup: MakeSetup, tiles_in_memory: int
):
    setup = make_setup("all", (40, 48))
    grid = setup.grid(16, setup.network.halo)
    tracked: list[bool] = []

    def encode(picture: Tensor) -> Mapping[str, Tensor]:
        tracked.append(picture.requires_grad)
        return setup.network(picture)

    expected = value_and_gradient(setup.picture, setup.network, setup.objectives(grid), grid)
    result = value_and_gradient(
        setup.picture, encode, setup.objectives(grid), grid, tiles_in_memory
    )
    assert result[0] == expected[0] and torch.equal(result[1], expected[1])
    assert (
        len(tracked) == 2 * len(grid) - min(tiles_in_memory, len(grid))
        and sum(tracked) == len(grid) == 9
    )


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_gradient_of_a_tiles_own_part_has_the_layout_of_its_map(form: torch.memory_format):
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
    output_gradient = torch.rand_like(own)
    (result,) = torch.autograd.grad(own, map, output_gradient)
    (expected,) = torch.autograd.grad(map[..., rows, columns], map, output_gradient)
    assert torch.equal(result, expected) and result.is_contiguous(memory_format=form)


# ---- what is given back --------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [0, 16])
def test_the_gradient_is_that_of_plain_autograd(make_setup: MakeSetup, tile: int):
    setup = make_setup("all", (29, 34), padding="reflect")
    leaf = setup.picture.clone().requires_grad_()
    features = setup.network(leaf)
    context = TileContext.whole(Size(29, 34))
    objectives = setup.objectives(setup.grid(0, 0))
    terms = [
        objective.weight * sum(objective.score(objective.measure(features, context)).values())
        for objective in objectives
    ]
    total = torch.stack(terms).sum()
    (expected,) = torch.autograd.grad(total, leaf)
    value, gradient = setup.run(tile, setup.network.halo)
    assert value.total == pytest.approx(total.item(), rel=1e-12)
    assert (gradient - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("tile", [0, 16])
def test_terms_include_their_weights_and_add_up(make_setup: MakeSetup, tile: int):
    setup = make_setup("all", (29, 34))
    value, _ = setup.run(tile, setup.network.halo)
    assert set(value.terms) == {
        *("content", "nearest", "histogram", "laplacian", "style", "smooth", "bounds")
    }
    assert value.total == pytest.approx(sum(value.terms.values()), rel=1e-14)
    assert list(value.layers["smooth"]) == ["input"]
    assert len(value.layers["content"]) > 1 < len(value.layers["style"])
    for name, layers in value.layers.items():
        assert value.terms[name] == pytest.approx(sum(layers.values()), rel=1e-14)
    for name, chosen in (
        ("smooth", slice(-1 - len(MEASURES), -1)),
        ("content", slice(len(SCALINGS))),
    ):
        some = replace(setup, objectives=lambda grid, chosen=chosen: setup.objectives(grid)[chosen])
        alone, _ = some.run(tile, setup.network.halo)
        assert value.terms[name] == pytest.approx(alone.total, rel=1e-12)


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("kernel", ["float64", "conv2d"])
def test_the_picture_is_not_changed(make_setup: MakeSetup, tile: int, kernel: str):
    setup = make_setup("all", (29, 34), kernel=kernel)
    picture = setup.picture.to(setup.network.precise_dtype)
    copy = picture.clone()
    grid = setup.grid(tile, setup.network.halo)
    _, gradient = value_and_gradient(picture, setup.network, setup.objectives(grid), grid)
    assert torch.equal(picture, copy)
    assert not picture.requires_grad
    assert picture.grad is None
    assert not gradient.requires_grad
    assert (gradient.shape, gradient.dtype) == (picture.shape, picture.dtype)


def test_a_loss_value_knows_whether_it_is_finite():
    assert LossValue(0.5, {}).finite
    assert not LossValue(math.nan, {}).finite
    assert not LossValue(math.inf, {}).finite
