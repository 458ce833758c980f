"""The tables have the published layers; strides and reaches are those worked out by hand, and those
that pixels feel.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.errors import UnknownName
from impasto.networks import vgg
from impasto.networks.features import Network

# Simonyan and Zisserman, table 1: weight layers without the three fully connected ones.
CONVOLUTIONS = {"A": 8, "B": 10, "D": 13, "E": 16}
BLOCKS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_layer_counts_and_channels(name: str):
    table = vgg.layers(name)
    kinds = [layer.kind for layer in table]
    assert kinds.count("conv") == kinds.count("relu") == CONVOLUTIONS[name]
    assert kinds.count("pool") == 5
    assert kinds.count("input") == 1
    assert len(table) == 1 + 2 * CONVOLUTIONS[name] + 5
    expected, before = ["input"], 3
    for block, depth in enumerate(BLOCKS[name], start=1):
        for index in range(1, depth + 1):
            expected += [f"conv{block}_{index}", f"relu{block}_{index}"]
        expected.append(f"pool{block}")
    assert [layer.name for layer in table] == expected
    for layer in table[1:]:
        block = int(layer.name[4])
        assert layer.channels == CHANNELS[block - 1]
        assert layer.channels_in == before
        before = layer.channels
        assert layer.stride == 2 ** (block if layer.kind == "pool" else block - 1)


# Worked out by hand: + 2 strides for a 3x3 window, + 1 stride for a 2x2 one, which then doubles the
# stride.
REACHES = {
    "E": {
        "input": (1, 1),
        "conv1_1": (1, 3),
        "relu1_1": (1, 3),
        "relu1_2": (1, 5),
        "pool1": (2, 6),
        "relu2_1": (2, 10),
        "relu2_2": (2, 14),
        "pool2": (4, 16),
        "relu3_1": (4, 24),
        "relu3_4": (4, 48),
        "pool3": (8, 52),
        "relu4_1": (8, 68),
        "relu4_2": (8, 84),
        "relu4_4": (8, 116),
        "pool4": (16, 124),
        "relu5_1": (16, 156),
        "relu5_4": (16, 252),
        "pool5": (32, 268),
    },
    "D": {
        "relu3_3": (4, 40),
        "relu4_1": (8, 60),
        "relu4_2": (8, 76),
        "relu5_1": (16, 132),
        "pool5": (32, 212),
    },
    "B": {"relu5_1": (16, 108)},
    "A": {"relu1_1": (1, 3), "relu2_1": (2, 8), "relu3_1": (4, 18), "relu5_1": (16, 102)},
}


@pytest.mark.parametrize("name", REACHES)
def test_strides_and_reaches_by_hand(name: str):
    table = {layer.name: layer for layer in vgg.layers(name)}
    found = {layer: (table[layer].stride, table[layer].receptive_field) for layer in REACHES[name]}
    assert found == REACHES[name]


@pytest.mark.parametrize(
    ("name", "deepest", "halo"),
    [
        ("E", "relu5_1", 80),
        ("E", "relu4_2", 48),
        ("E", "relu1_1", 1),
        ("E", "input", 0),
        ("D", "relu5_1", 80),
        ("D", "relu4_2", 40),
        ("A", "relu5_1", 64),
    ],
)
def test_halos(name: str, deepest: str, halo: int):
    assert vgg.halo(vgg.layers_up_to(name, ["input", deepest])) == halo


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_halo_is_whole_strides_and_holds_what_every_layer_sees_beyond_its_cell(name: str):
    for deepest in vgg.layers(name):
        table = vgg.layers_up_to(name, [deepest.name])
        halo = vgg.halo(table)
        assert halo % max(layer.stride for layer in table) == 0
        assert all(halo >= (layer.receptive_field - layer.stride) / 2 for layer in table)
        assert (
            halo < deepest.receptive_field / 2 + deepest.stride
        )  # and no more than rounding asks for


def test_a_network_is_cut_after_the_deepest_layer_in_any_order():
    assert [layer.name for layer in vgg.layers_up_to("E", ["relu2_1", "conv1_1"])] == [
        *("input", "conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1", "relu2_1"),
    ]
    assert vgg.layers_up_to("E", ["relu1_1", "pool5"]) == vgg.layers("E")
    assert [layer.name for layer in vgg.layers_up_to("E", [])] == ["input"]


@pytest.mark.parametrize("wrong", ["relu5_5", "relu4-2", "conv6_1"])
def test_unknown_layers_are_refused_with_a_suggestion(wrong: str):
    with pytest.raises(UnknownName) as caught:
        vgg.layers_up_to("E", ["relu1_1", wrong])
    assert wrong in caught.value.message
    assert caught.value.hint.startswith("Did you mean ")
    assert wrong[:4] in caught.value.hint


def test_a_layer_like_none_is_told_all_there_are():
    with pytest.raises(UnknownName) as caught:
        vgg.layers_up_to("E", ["xyz"])
    assert "relu1_1" in caught.value.hint
    assert "pool5" in caught.value.hint


# ---- what pixels feel ----------------------------------------------------------------------------


def felt(network: Network, picture: Tensor, layer: str, position: tuple[int, int]) -> Tensor:
    """(H, W): which pixels one position of a map depends on."""
    leaf = picture.clone().requires_grad_()
    row, column = position
    network(leaf)[layer][..., row, column].sum().backward()
    assert leaf.grad is not None
    return leaf.grad[0].ne(0).any(0)


def square(layer: vgg.Layer, position: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    expected = torch.zeros(shape, dtype=torch.bool)
    margin = (layer.receptive_field - layer.stride) // 2
    top, left = (place * layer.stride - margin for place in position)
    assert (
        top > 0
        and left > 0
        and top + layer.receptive_field < shape[0]
        and left + layer.receptive_field < shape[1]
    )
    expected[top : top + layer.receptive_field, left : left + layer.receptive_field] = True
    return expected


CASES = [
    *(
        ("pocket", layer, (60, 68))
        for layer in ("conv1_1", "relu1_1", "pool1", "relu2_1", "relu2_2", "pool2", "relu3_1")
    ),
    ("narrow A", "relu5_1", (230, 250)),
    ("narrow E", "relu4_2", (190, 210)),
    ("narrow E", "relu5_1", (330, 350)),
]


@pytest.mark.parametrize(("name", "layer", "shape"), CASES)
def test_a_position_depends_on_exactly_its_reach(
    name: str,
    layer: str,
    shape: tuple[int, int],
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    network = network_of(layer, configuration=name, positive=True, pooling="average")
    row = network.layer(layer)
    position = (shape[0] // row.stride // 2, shape[1] // row.stride // 2)
    found = felt(network, picture_of(*shape), layer, position)
    assert torch.equal(found, square(row, position, shape))


@pytest.mark.parametrize(("name", "layer", "shape"), CASES)
def test_with_maxima_it_depends_on_nothing_else(
    name: str,
    layer: str,
    shape: tuple[int, int],
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    # Random signs leave some of a deep map dead; two channels would die out.
    tap = layer.replace("relu", "conv")
    network = network_of(
        tap, configuration=name, positive=name != "pocket", pooling="max", padding="reflect"
    )
    row = network.layer(tap)
    position = (shape[0] // row.stride // 2, shape[1] // row.stride // 2)
    found = felt(network, picture_of(*shape), row.name, position)
    assert found.any()
    assert not (found & ~square(row, position, shape)).any()
