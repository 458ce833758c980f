"""Networks are given maps of another scale: what they see stays, whatever scale they had before."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from impasto import images
from impasto.assets import museum
from impasto.errors import BadRecipe
from impasto.geometry import Size
from impasto.networks import rescale, vgg, weights
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.networks.rescale import MEAN_ACTIVATIONS, balanced_factors, rescaled

NAMES = [layer.name for layer in vgg.layers("E") if layer.kind == "conv"]
EVERY = [layer.name for layer in vgg.layers("E") if layer.kind != "input"]
Weights = dict[str, Tensor]
# The first biases of three layers of the VGG-19 of Simonyan and Zisserman.
PUBLISHED_BIASES = {
    "conv1_1": [0.7302, 0.0649, 0.0343, 0.8260, 0.2578, 0.5487],
    "conv3_1": [0.0320, -0.0031, 0.0262, 0.0334, -0.1621, 0.0010],
    "conv5_4": [0.7223, -0.4857, 0.4057, 0.1416, 0.4922, -0.2793],
}


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


def test_every_map_is_the_fetched_one_times_a_positive_factor_for_each_channel(
    narrow: Weights, picture_of: Callable[..., Tensor]
):
    picture = picture_of(48, 64)
    before, after = maps(narrow, picture), maps(rescaled(narrow, "vgg19", "torchvision"), picture)
    assert set(before) == set(after)
    for name, map in before.items():
        own, other = map[0].flatten(1), after[name][0].flatten(1)
        factor = (own * other).sum(1) / own.square().sum(1).clamp_min(1e-300)
        assert torch.allclose(
            other, factor[:, None] * own, rtol=1e-5, atol=1e-5 * float(other.abs().max())
        )
        assert (factor[own.abs().sum(1) > 0] > 0).all()


def test_filters_are_balanced_and_layers_as_large_as_is_known(narrow: Weights):
    found = balanced_factors([narrow[f"{name}.weight"] for name in NAMES], NAMES)
    after = rescaled(narrow, "vgg19", "torchvision")
    for name, factor in zip(NAMES, found, strict=True):
        if name in MEAN_ACTIVATIONS:
            assert float(factor.mean()) == pytest.approx(MEAN_ACTIVATIONS[name], rel=1e-4)
    for one, other in pairwise(NAMES):
        inward = after[f"{one}.weight"].double().square().sum((1, 2, 3))
        outward = after[f"{other}.weight"].double().square().sum((0, 2, 3))
        ratio = outward / inward
        # The same for all of a layer's filters, and 1 where no mean is known.
        assert float(ratio.log().std()) < 1e-3
        assert one in MEAN_ACTIVATIONS or float(ratio.mean()) == pytest.approx(1, rel=1e-3)


def test_what_filters_were_divided_by_does_not_matter_within_a_layer(narrow: Weights):
    one, other = (
        rescaled(weights, "vgg19", "torchvision") for weights in (narrow, scrambled(narrow, 5))
    )
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
        rescaled(narrow, "vgg19", "torchvision")


@pytest.mark.network
def test_the_vgg19_of_caffe_is_the_published_network():
    """Biases of Simonyan and Zisserman's network, and mean activations of the same order as a
    tutorial prints for Keras's copy and another picture: 34, 200, 231, 791 and 59.
    """
    published = rescaled(weights.load("vgg19"), "vgg19", "caffe")
    for name, biases in PUBLISHED_BIASES.items():
        found = published[f"{name}.bias"][: len(biases)]
        assert found.tolist() == pytest.approx(biases, rel=1e-3, abs=1e-3), name
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    network = Network(published, "E", layers, kernel=KERNELS["conv2d"])
    painting = images.resize(museum.find("irises").read(), Size(256, 320))
    maps = network(images.to_tensor(painting))
    means = [float(maps[name].mean()) for name in layers]
    for mean, printed in zip(means, (34, 200, 231, 791, 59), strict=True):
        assert printed / 2.5 < mean < printed * 2.5, means
