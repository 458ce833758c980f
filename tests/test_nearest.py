"""The nearest-neighbor loss is its formula, and each place is matched with the most similar one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Grid, Region, Size
from impasto.networks.features import Network
from impasto.objectives.base import TileContext
from impasto.objectives.nearest import Nearest, Places, closest_rows
from impasto.optimize import matching
from impasto.optimize.matching import EncodedPicture, match_places, painting_bank
from impasto.storage.tensors import InMemoryTensor, MemoryStore

STRIDES = {"a": 1, "b": 2, "c": 4, "d": 8}
SCALES = {"a": 0.5, "b": 2.0, "c": 1.0, "d": 3.0}
SIZE = Size(21, 30)  # neither side is a multiple of the coarsest stride
PLACES = Places(STRIDES, SCALES)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def feature_maps(seed: int = 0) -> dict[str, Tensor]:
    return {
        name: rand(1, 3 + number, SIZE.height // stride, SIZE.width // stride, seed=seed + number)
        for number, (name, stride) in enumerate(STRIDES.items())
    }


def plain_joined(maps: dict[str, Tensor]) -> Tensor:
    """The maps at stride 4, below the coarsest one: 4x6 places."""
    parts = [
        functional.avg_pool2d(maps["a"], 4)[..., :4, :6] * 0.5,
        functional.avg_pool2d(maps["b"], 2)[..., :4, :6] * 2.0,
        maps["c"][..., :4, :6],
        functional.interpolate(maps["d"], scale_factor=2, mode="nearest") * 3.0,
    ]
    return torch.cat(parts, 1)[0].flatten(1).T


def test_features_are_joined_at_common_places():
    maps = feature_maps()
    found = PLACES.joined(maps, TileContext.whole(SIZE))
    assert torch.allclose(found, plain_joined(maps), rtol=1e-13)


def test_the_loss_and_its_gradient_are_those_of_the_formula():
    maps = {name: map_.requires_grad_() for name, map_ in feature_maps().items()}
    bank = rand(7, 3 + 4 + 5 + 6, seed=9)
    match = torch.arange(24, dtype=torch.int32) % 7
    objective = Nearest(
        functional.normalize(bank), {Region(0, 0, *SIZE): InMemoryTensor(match)}, PLACES, 1.0
    )
    found = sum(objective.score(objective.measure(maps, TileContext.whole(SIZE))).values())
    plain = 1 - functional.cosine_similarity(plain_joined(maps), bank[match.long()]).mean()
    assert float(found) == pytest.approx(plain.item(), rel=1e-12)
    gradients = torch.autograd.grad(found, list(maps.values()))
    for one, other in zip(gradients, torch.autograd.grad(plain, list(maps.values())), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def test_the_closest_row_has_the_largest_centered_cosine():
    queries, bank = rand(1300, 5) + 2, rand(40, 5, seed=1) - 1
    mean = queries.mean(0)
    cosines = functional.cosine_similarity(
        (queries - mean)[:, None], (bank - bank.mean(0))[None], dim=2
    )
    assert torch.equal(closest_rows(queries, mean, bank), cosines.argmax(1).int())


@pytest.fixture
def network(network_of: Callable[..., Network]) -> Network:
    return network_of("relu1_1", "relu2_1", "relu3_1", configuration="pocket")


def encoded(network: Network, picture: Tensor, tile: int = 0) -> EncodedPicture:
    size = Size(*picture.shape[-2:])
    return EncodedPicture(picture, network, Grid(size, tile, network.halo, network.stride))


LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0}
LAYER_STRIDES = {"relu1_1": 1, "relu2_1": 2, "relu3_1": 4}


def test_a_photo_that_is_the_painting_matches_itself(
    network: Network, picture_of: Callable[..., Tensor]
):
    picture = encoded(network, picture_of(40, 48))
    bank, places = painting_bank([picture], LAYER_STRIDES, LAYERS)
    matches = match_places(picture, bank, places, MemoryStore())
    [match] = matches.values()
    # Two places may have the same features.
    assert torch.allclose(bank[match.load()], bank, rtol=1e-9)
    objective = Nearest(functional.normalize(bank), matches, places, 1.0)
    features = network(picture.pixels)
    stats = objective.measure(features, TileContext.whole(Size(40, 48)))
    assert float(objective.score(stats)["nearest"]) == pytest.approx(0, abs=1e-12)


def test_layers_have_equal_shares_of_a_similarity(
    network: Network, picture_of: Callable[..., Tensor]
):
    picture = encoded(network, picture_of(40, 48))
    _, places = painting_bank([picture], LAYER_STRIDES, {**LAYERS, "relu2_1": 4.0})
    features = network(picture.pixels)
    for name, scale in places.scales.items():
        squared_norm = (features[name] * scale).square().sum(1).mean()
        assert float(squared_norm) == pytest.approx(4.0 if name == "relu2_1" else 1.0, rel=1e-9)


def test_a_bank_is_the_same_in_tiles_and_never_much_too_large(
    network: Network, picture_of: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(matching, "MOST_ROWS", 30)
    picture = picture_of(72, 80)
    whole, tiled = (
        painting_bank([encoded(network, picture, tile)], LAYER_STRIDES, LAYERS)[0]
        for tile in (0, 16)
    )
    assert len(whole) == len(tiled) <= 36

    def ordered(rows: Tensor) -> Tensor:
        return rows[rows[:, 0].argsort()]

    assert torch.allclose(ordered(whole), ordered(tiled), rtol=1e-9)


def test_several_paintings_share_the_bank(network: Network, picture_of: Callable[..., Tensor]):
    pictures = [encoded(network, picture_of(40, 48, seed=seed)) for seed in (1, 2)]
    bank, _ = painting_bank(pictures, LAYER_STRIDES, LAYERS)
    assert len(bank) == 2 * 10 * 12
