"""Networks are given maps of another scale: what they see stays, whatever scale they had before."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from impasto.errors import BadRecipe
from impasto.networks import rescale, vgg
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.networks.rescale import MEAN_ACTIVATIONS, log_factors, rescaled

NAMES = [layer.name for layer in vgg.layers("E") if layer.kind == "conv"]
EVERY = [layer.name for layer in vgg.layers("E") if layer.kind != "input"]
Weights = dict[str, Tensor]


@pytest.fixture
def narrow(weights_of: Callable[..., Weights]) -> Weights:
    return {name: tensor.float() for name, tensor in weights_of("narrow E", positive=True).items()}


def scrambled(weights: Weights, seed: int, names: list[str] = NAMES) -> Weights:
    """The same network, each filter times a factor of its own."""
    generator = torch.Generator().manual_seed(seed)
    found, before = dict(weights), torch.ones(3)
    for name in names:
        factor = torch.randn(len(weights[f"{name}.bias"]), generator=generator).exp()
        found[f"{name}.weight"] = (
            weights[f"{name}.weight"] * factor[:, None, None, None] / before[:, None, None]
        )
        found[f"{name}.bias"] = weights[f"{name}.bias"] * factor
        before = factor
    return found


def maps(weights: Weights, picture: Tensor) -> dict[str, Tensor]:
    return dict(Network(weights, "narrow E", EVERY, kernel=KERNELS["float64"])(picture.double()))


@pytest.mark.parametrize("scale", MEAN_ACTIVATIONS)
def test_every_map_is_the_fetched_one_times_a_positive_factor_for_each_channel(
    narrow: Weights, picture_of: Callable[..., Tensor], scale: str
):
    picture = picture_of(48, 64)
    before, after = maps(narrow, picture), maps(rescaled(narrow, "vgg19", scale), picture)  # type: ignore[arg-type]
    assert set(before) == set(after)
    for name, map in before.items():
        own, other = map[0].flatten(1), after[name][0].flatten(1)
        factor = (own * other).sum(1) / own.square().sum(1).clamp_min(1e-300)
        assert torch.allclose(
            other, factor[:, None] * own, rtol=1e-5, atol=1e-5 * float(other.abs().max())
        )
        assert (factor[own.abs().sum(1) > 0] > 0).all()


@pytest.mark.parametrize("scale", MEAN_ACTIVATIONS)
def test_filters_are_balanced_and_layers_as_large_as_is_known(narrow: Weights, scale: str):
    weights = [narrow[f"{name}.weight"] for name in NAMES]
    found = [each.exp() for each in log_factors(weights, NAMES, scale)]
    after = rescaled(narrow, "vgg19", scale)  # type: ignore[arg-type]
    for name, factor in zip(NAMES, found, strict=True):
        if name in MEAN_ACTIVATIONS[scale]:
            assert float(factor.mean()) == pytest.approx(MEAN_ACTIVATIONS[scale][name], rel=1e-4)
    for one, other in pairwise(NAMES):
        inward = after[f"{one}.weight"].double().square().sum((1, 2, 3))
        outward = after[f"{other}.weight"].double().square().sum((0, 2, 3))
        ratio = outward / inward
        # The same for all of a layer's filters, and 1 where no mean is known.
        assert float(ratio.log().std()) < 1e-3
        assert one in MEAN_ACTIVATIONS[scale] or float(ratio.mean()) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("scale", MEAN_ACTIVATIONS)
def test_what_filters_were_divided_by_does_not_matter_within_a_layer(narrow: Weights, scale: str):
    one, other = (rescaled(weights, "vgg19", scale) for weights in (narrow, scrambled(narrow, 5)))  # type: ignore[arg-type]
    assert set(one) == set(narrow)
    for name, tensor in one.items():
        ratio = other[name] / tensor
        assert tensor.dtype == narrow[name].dtype
        assert torch.allclose(ratio, ratio.mean(), rtol=1e-3), name


def test_the_fetched_scale_is_left_as_it_is(narrow: Weights):
    assert rescaled(narrow, "vgg19", "fetched") == narrow
    assert rescaled(narrow, "vgg16", "torchvision") == narrow


def test_a_vgg16_of_caffe_sees_larger_pixels(narrow: Weights, picture_of: Callable[..., Tensor]):
    picture = picture_of(32, 32)
    before, after = maps(narrow, picture), maps(rescaled(narrow, "vgg16", "caffe"), picture)
    for name, map in before.items():
        assert torch.allclose(after[name], rescale.CAFFE * map, rtol=1e-6)


def test_a_filter_without_weights_is_refused(narrow: Weights):
    narrow["conv3_2.weight"] = narrow["conv3_2.weight"].clone()
    narrow["conv3_2.weight"][0] = 0
    with pytest.raises(BadRecipe, match="without weights"):
        rescaled(narrow, "vgg19", "caffe")
