"""A network gives what a plain implementation gives, forward and backward, and leaves alone what it
is given.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from impasto.errors import UnknownName
from impasto.networks import vgg
from impasto.networks.features import Network

MODES = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
POOLINGS = {"max": functional.max_pool2d, "average": functional.avg_pool2d}
EVERY = [
    *("input", "conv1_1", "relu1_1", "pool1", "conv2_1", "relu2_1", "conv2_2", "relu2_2"),
    *("pool2", "conv3_1", "relu3_1", "pool3"),
]


def plain(
    weights: dict[str, Tensor], configuration: str, picture: Tensor, padding: str, pooling: str
) -> dict[str, Tensor]:
    """Every layer that the picture is large enough for, one torch function after the other."""
    x = functional.conv2d(picture, weights["input.weight"][:, :, None, None], weights["input.bias"])
    found = {"input": picture}
    for layer in vgg.layers(configuration)[1:]:
        if layer.kind == "conv":
            mode = (
                "replicate" if padding == "reflect" and min(x.shape[-2:]) == 1 else MODES[padding]
            )
            x = functional.pad(x, (1, 1, 1, 1), mode)
            x = functional.conv2d(x, weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"])
        elif layer.kind == "relu":
            x = functional.relu(x)
        elif min(x.shape[-2:]) > 1:
            x = POOLINGS[pooling](x, 2)
        else:
            break
        found[layer.name] = x
    return found


def recomputed(network: Network) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The network with a forward pass for every backward pass, of which gradcheck needs several."""

    class Recomputed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
            ctx.save_for_backward(x)
            return tuple(map_.detach().clone() for map_ in network(x).values())

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad():
                maps = tuple(network(leaf).values())
            return torch.autograd.grad(maps, leaf, gradients)[0]

    return Recomputed.apply


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@given(
    st.tuples(st.integers(4, 23), st.integers(4, 23)),
    st.sets(st.sampled_from(EVERY[:-1]), min_size=1),
    st.sampled_from(sorted(MODES)),
    st.sampled_from(sorted(POOLINGS)),
    st.integers(0, 9),
)
def test_maps_and_gradient_equal_the_plain_ones(
    weights_of: Callable[..., dict[str, Tensor]],
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
    size: tuple[int, int],
    wanted: set[str],
    padding: str,
    pooling: str,
    seed: int,
):
    picture = picture_of(*size, seed=seed)
    network = network_of(*wanted, padding=padding, pooling=pooling, seed=seed)
    mine, theirs = picture.clone().requires_grad_(), picture.clone().requires_grad_()
    found = network(mine)
    expected = plain(weights_of(seed=seed), "pocket", theirs, padding, pooling)
    assert set(found) == wanted
    for name in wanted:
        agree(found[name], expected[name])
    generator = torch.Generator().manual_seed(seed)
    toward = {
        name: torch.randn(expected[name].shape, dtype=torch.float64, generator=generator)
        for name in sorted(wanted)
    }
    (gradient,) = torch.autograd.grad([found[name] for name in toward], mine, list(toward.values()))
    (expected_gradient,) = torch.autograd.grad(
        [expected[name] for name in toward], theirs, list(toward.values())
    )
    agree(gradient, expected_gradient)


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_convolution_and_its_relu_can_both_be_had(
    padding: str,
    pooling: str,
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    found = network_of("conv2_1", "relu2_1", padding=padding, pooling=pooling)(picture_of(9, 11))
    assert (found["conv2_1"] < 0).any()
    assert torch.equal(found["relu2_1"], found["conv2_1"].relu())


def test_every_layer_at_once_and_in_any_order(
    weights_of: Callable[..., dict[str, Tensor]],
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    picture = picture_of(19, 17)
    found = network_of(*reversed(EVERY))(picture)
    for name, expected in plain(weights_of(), "pocket", picture, "zero", "max").items():
        agree(found[name], expected)


@pytest.mark.parametrize("kernel", ["conv2d", "channels-last", "nnpack", "bfloat16"])
@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_other_kernels_agree_to_their_precision(
    kernel: str,
    padding: str,
    pooling: str,
    weights_of: Callable[..., dict[str, Tensor]],
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    layers = ("conv2_1", "relu2_1", "relu3_1")
    network = network_of(*layers, padding=padding, pooling=pooling, kernel=kernel)
    picture = picture_of(101, 99)  # large enough for NNPACK up to the second block
    mine, theirs = picture.float().requires_grad_(), picture.clone().requires_grad_()
    found, expected = network(mine), plain(weights_of(), "pocket", theirs, padding, pooling)
    tolerance = 5e-2 if kernel == "bfloat16" else 1e-4
    for name in layers:
        assert found[name].dtype == network.kernel.dtype
        agree(found[name].detach(), expected[name].detach(), tolerance)
    (gradient,) = torch.autograd.grad([found[name].float().square().sum() for name in layers], mine)
    (wanted,) = torch.autograd.grad([expected[name].square().sum() for name in layers], theirs)
    assert gradient.dtype == torch.float32
    # A maximum or a zero crossing that falls the other way moves single pixels a lot, but not the
    # whole.
    assert (gradient.double() - wanted).norm() <= (
        0.1 if kernel == "bfloat16" else 1e-3
    ) * wanted.norm()


@pytest.mark.parametrize("kernel", ["float64", "nnpack"])
def test_a_gain_is_a_factor_on_every_map(
    kernel: str,
    weights_of: Callable[..., dict[str, Tensor]],
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    names = [name for name in EVERY if name != "input"]
    picture = picture_of(40, 36)
    found = network_of(*EVERY, gain=57.6, kernel=kernel, padding="reflect")(picture)
    expected = plain(weights_of(), "pocket", picture, "reflect", "max")
    for name in names:
        agree(found[name], 57.6 * expected[name], 1e-12 if kernel == "float64" else 1e-4)
    assert torch.equal(found["input"], picture)


@pytest.mark.slow
@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradcheck(
    padding: str,
    pooling: str,
    network_of: Callable[..., Network],
    picture_of: Callable[..., Tensor],
):
    network = network_of(
        "conv1_1", "relu1_1", "conv2_2", "relu3_1", "input", padding=padding, pooling=pooling
    )
    assert torch.autograd.gradcheck(recomputed(network), picture_of(6, 7).requires_grad_())


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_relu_that_is_wanted_and_pooled_is_passed_once(
    pooling: str, network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    """relu1_1 of the pocket network is what pool1 takes its maxima of."""
    network = network_of("relu1_1", "relu2_2", "relu3_1", pooling=pooling)
    assert torch.autograd.gradcheck(recomputed(network), picture_of(9, 8).requires_grad_())


def test_a_second_backward_pass_is_refused(
    network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    leaf = picture_of(8, 8).requires_grad_()
    loss = network_of("relu3_1")(leaf)["relu3_1"].sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="runs once"):
        loss.backward()


@pytest.mark.parametrize("kernel", ["float64", "conv2d", "channels-last"])
@pytest.mark.parametrize("padding", MODES)
def test_the_picture_and_the_maps_are_left_alone(
    kernel: str, padding: str, network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    picture = picture_of(12, 13).to(torch.float64 if kernel == "float64" else torch.float32)
    kept = picture.clone()
    leaf = picture.requires_grad_()
    found = network_of(
        "conv1_1",
        "relu1_1",
        "pool1",
        "relu2_1",
        "relu2_2",
        "relu3_1",
        padding=padding,
        kernel=kernel,
    )(leaf)
    maps = {name: map.detach().clone() for name, map in found.items()}
    toward = [torch.ones_like(map) for map in found.values()]
    torch.autograd.grad(list(found.values()), leaf, toward)
    assert torch.equal(picture.detach(), kept)
    assert all(torch.equal(found[name].detach(), map) for name, map in maps.items())
    assert all((given == 1).all() for given in toward)


def test_the_input_is_a_layer_like_any_other(
    network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    picture = picture_of(5, 6).requires_grad_()
    found = network_of("input", "relu1_1")(picture)
    assert torch.equal(found["input"], picture)
    only = network_of("input")
    assert only.halo == 0
    assert only.stride == 1
    (gradient,) = torch.autograd.grad(only(picture)["input"].square().sum(), picture)
    agree(gradient, 2 * picture.detach())


def test_what_is_not_wanted_is_not_computed(network_of: Callable[..., Network]):
    network = network_of("relu1_1", "conv2_1")
    assert [layer.name for layer in network.layers] == [
        "input",
        "conv1_1",
        "relu1_1",
        "pool1",
        "conv2_1",
    ]
    assert set(network.convolutions) == {"conv1_1", "conv2_1"}
    assert (network.stride, network.halo) == (2, 4)
    assert network.layer("conv2_1").receptive_field == 8


def test_a_layer_unused_by_the_loss_does_no_harm(
    network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    both, one = network_of("relu1_1", "relu2_1"), network_of("relu1_1")
    x, y = picture_of(8, 9).requires_grad_(), picture_of(8, 9).requires_grad_()
    (found,) = torch.autograd.grad(both(x)["relu1_1"].square().sum(), x)
    (expected,) = torch.autograd.grad(one(y)["relu1_1"].square().sum(), y)
    agree(found, expected)


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [("relu3_2", "relu3_1"), ("rely1_1", "relu1_1"), ("conv2-2", "conv2_2")],
)
def test_unknown_layers_are_refused_with_a_suggestion(
    wrong: str, suggestion: str, network_of: Callable[..., Network]
):
    with pytest.raises(UnknownName) as caught:
        network_of("relu1_1", wrong)
    assert repr(wrong) in caught.value.message
    assert suggestion in caught.value.hint


def test_maps_that_are_dropped_are_freed(
    network_of: Callable[..., Network], picture_of: Callable[..., Tensor]
):
    """Also without a backward pass: a step that failed must not keep its maps alive."""
    network = network_of("relu1_1", "relu3_1")
    maps = network(picture_of(16, 16).requires_grad_())
    watched = [weakref.ref(map) for map in maps.values()]
    del maps
    gc.collect()
    assert [reference() for reference in watched] == [None, None]
