"""A frozen VGG network: a picture in, named feature maps out, with gradients to the pixels."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Grid, Size
from impasto.networks import pooling, vgg
from impasto.networks.convolution import KERNELS, Convolution, Kernel
from impasto.recipe.choices import Padding, Pooling

Features = dict[str, Tensor]  # layer name -> (1, C, h, w); "input" is the picture itself


class Network:
    """A VGG configuration with weights, up to the deepest of its output layers.

    Args:
        weights: "conv1_1.weight" (O, I, 3, 3) and "conv1_1.bias" (O,) for every convolution, and
            "input.weight" (3, 3), "input.bias" (3,), the transform of an RGB pixel in 0..1 that
            the network was trained with.
        configuration: a key of ``vgg.CONFIGURATIONS``.
        outputs: names of the layers to return, in any order; "input" is the picture.
        pooling, padding: how maps are halved, and how they are padded at the border.
        kernel: how to convolve (see ``autotune``).
        gain: a factor on every map, as for a network that was trained on pixels in 0..255.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        configuration: str,
        outputs: Iterable[str],
        *,
        pooling: Pooling = "max",
        padding: Padding = "zero",
        kernel: Kernel = KERNELS["conv2d"],
        device: torch.device | str = "cpu",
        gain: float = 1.0,
    ) -> None:
        self.outputs = frozenset(outputs)
        self.layers = vgg.layers_up_to(configuration, self.outputs)
        self.pooling = pooling
        self.kernel = kernel
        # The first layer keeps full precision: bfloat16 would round pixels to 1/256 of the range.
        precise = (
            kernel
            if kernel.dtype != torch.bfloat16
            else replace(KERNELS["channels-last"], methods=kernel.methods)
        )
        self.precise_dtype = precise.dtype
        # Convolutions, ReLUs and pooling are homogeneous, so only the biases need the factor.
        self.input_weight = gain * weights["input.weight"].to(device, precise.dtype)  # (3, 3)
        self.input_bias = gain * weights["input.bias"].to(device, precise.dtype)  # (3,)
        self.convolutions = {
            layer.name: Convolution(
                weights[f"{layer.name}.weight"].to(device),
                gain * weights[f"{layer.name}.bias"].to(device),
                precise if layer.channels_in == 3 else kernel,
                padding,
            )
            for layer in self.layers
            if layer.kind == "conv"
        }

    @property
    def stride(self) -> int:
        """Picture pixels between two positions of the coarsest map."""
        return max(layer.stride for layer in self.layers)

    @property
    def mean_color(self) -> Tensor:
        """The mean color (3,) of the training pictures, RGB in 0..1 on the CPU."""
        return torch.linalg.solve(
            self.input_weight.cpu().double(), -self.input_bias.cpu().double()
        ).float()

    @property
    def halo(self) -> int:
        """Pixels that a tile needs on each side for exact feature maps of its own positions."""
        return vgg.halo(self.layers)

    def grid(self, size: Size, tile: int) -> Grid:
        """The tiles of a picture, of side ``tile`` (0: the whole picture), with their halo.

        The halo is at least one pixel, for differences between neighboring pixels. Tiles are
        aligned to the kernel's blocks in every map. Otherwise sums would round differently, and a
        value near 0 could change sign at a ReLU, and a gradient with it.
        """
        strides = [layer.stride for layer in self.layers if layer.kind == "conv"]
        step = math.lcm(self.stride, self.kernel.block * max(strides, default=1))
        return Grid(size, tile, max(self.halo, 1), step)

    def encoder(self, size: Size) -> Callable[[Tensor], Features]:
        """The network as a function of tiles of a picture of this size.

        Convolution methods are chosen by the size of the picture, not of the tile.
        """
        return partial(self, whole=size)

    def with_outputs(self, outputs: Iterable[str]) -> Network:
        """The network with other output layers, none deeper than this one's; weights are shared."""
        other = copy.copy(self)
        other.outputs = frozenset(outputs)
        deepest = max(
            index
            for index, layer in enumerate(self.layers)
            if layer.name in {"input", *other.outputs}
        )
        other.layers = self.layers[: deepest + 1]
        return other

    def layer(self, name: str) -> vgg.Layer:
        """The layer with this name."""
        return next(layer for layer in self.layers if layer.name == name)

    def __call__(self, picture: Tensor, whole: Size | None = None) -> Features:
        """The feature maps of a picture (1, 3, H, W), RGB, sRGB-encoded, 0..1; differentiable.

        The maps have the kernel's type and layout; sum over them in float32. ``whole``: the size
        of the picture that this one is a tile of.
        """
        names = [
            layer.name
            for layer in self.layers
            if layer.name in self.outputs and layer.kind != "input"
        ]
        whole = whole or Size(*picture.shape[-2:])
        maps = _Encode.apply(picture, self, names, whole) if names else ()
        features: Features = dict(zip(names, maps, strict=True))
        if "input" in self.outputs:
            features["input"] = picture
        return features

    # ---- forward

    def _forward(
        self, picture: Tensor, whole: Size, keep: bool
    ) -> tuple[Features, dict[str, _Saved]]:
        """The output maps, and what the backward pass needs of each layer if ``keep``.

        A ReLU passes a gradient where its output is positive. Before max pooling that output is
        not saved: gradients reach only the maxima, which are a quarter of it.
        """
        saved: dict[str, _Saved] = {}
        features: Features = {}
        is_tile = whole != Size(*picture.shape[-2:])
        x = torch.einsum("oi,bihw->bohw", self.input_weight, picture.to(self.precise_dtype))
        x = (x + self.input_bias[:, None, None]).contiguous(memory_format=self.kernel.memory_format)
        for layer, following in zip(self.layers[1:], (*self.layers[2:], None), strict=True):
            if layer.kind == "conv":
                x = self._convolve(x, layer, whole, relu=following is not None)
            elif layer.kind == "relu":
                x = functional.relu(x) if f"conv{layer.name[4:]}" in self.outputs else x
                if keep and (layer.name in self.outputs or not self._is_max_pool(following)):
                    saved[layer.name] = _Saved(x.shape, x.detach())
            else:
                shape = x.shape
                # Compact in tiles: the more of them fit in memory, the faster.
                x, positions = self._pool(x, keep, compact=is_tile)
                if keep:
                    saved[layer.name] = _Saved(shape, x.detach(), positions)
            if layer.name in self.outputs:
                features[layer.name] = x
        return features, saved

    def _convolve(self, x: Tensor, layer: vgg.Layer, whole: Size, relu: bool) -> Tensor:
        """A convolution, with the ReLU after it unless the map before that is an output."""
        convolution = self.convolutions[layer.name]
        fused = relu and layer.name not in self.outputs
        x = x.to(convolution.kernel.dtype)
        return convolution.forward(x, fused, _positions(whole, layer)).to(self.kernel.dtype)

    def _is_max_pool(self, layer: vgg.Layer | None) -> bool:
        return layer is not None and layer.kind == "pool" and self.pooling == "max"

    def _pool(self, x: Tensor, keep: bool, compact: bool) -> tuple[Tensor, Tensor | None]:
        if self.pooling == "average":
            return functional.avg_pool2d(x, 2), None
        return pooling.max_pool(x, keep, compact)

    # ---- backward

    def _backward(
        self, gradients: Mapping[str, Tensor | None], whole: Size, saved: dict[str, _Saved]
    ) -> Tensor:
        """The gradient with respect to the picture (1, 3, H, W), from those of the output maps.

        ``saved`` is emptied layer by layer, so that memory is freed on the way.
        """
        g: Tensor | None = None
        writable = False  # whether g may be overwritten in place
        for layer in reversed(self.layers[1:]):
            activations = saved.pop(layer.name, None)
            g, writable = self._add(g, gradients.get(layer.name), writable)
            if g is None:
                continue
            if layer.kind == "conv":
                g = self._convolution_gradient(g, layer, whole)
            elif layer.kind == "pool":
                assert activations is not None
                g = self._pool_gradient(g, writable, activations)
            elif activations is not None:
                dense = g.is_contiguous(memory_format=self.kernel.memory_format)
                g = _relu_gradient(g, activations.output, in_place=writable and dense)
            else:
                continue  # max pooling has applied the ReLU's gradient
            writable = True
        assert g is not None
        return torch.einsum("oi,bohw->bihw", self.input_weight, g)

    def _add(
        self, g: Tensor | None, gradient: Tensor | None, writable: bool
    ) -> tuple[Tensor | None, bool]:
        """The sum of two gradients, either of which may be None, and whether it is writable."""
        if gradient is None:
            return g, writable
        if g is None:
            return gradient.to(self.kernel.dtype), gradient.dtype != self.kernel.dtype
        return g.add_(gradient) if writable else g + gradient, True

    def _convolution_gradient(self, g: Tensor, layer: vgg.Layer, whole: Size) -> Tensor:
        convolution = self.convolutions[layer.name]
        positions = _positions(whole, layer)
        g = convolution.input_gradient(g.to(convolution.kernel.dtype), positions)
        return g.to(self.kernel.dtype) if layer.channels_in != 3 else g

    def _pool_gradient(self, g: Tensor, writable: bool, saved: _Saved) -> Tensor:
        memory_format = self.kernel.memory_format
        writable = writable and g.is_contiguous(memory_format=memory_format)
        g = g.contiguous(memory_format=memory_format)
        if saved.positions is not None:
            g = _relu_gradient(g, saved.output, in_place=writable)
            return pooling.gradient(g, saved.positions, saved.input_shape, memory_format)
        window, none = [2, 2], [0, 0]
        # Only its shape and layout are read.
        x = torch.empty(
            saved.input_shape, dtype=g.dtype, device=g.device, memory_format=memory_format
        )
        return torch.ops.aten.avg_pool2d_backward(g, x, window, window, none, False, True, None)


@dataclass(frozen=True)
class _Saved:
    """What the backward pass needs of a layer; ``positions`` are those of the maxima."""

    input_shape: torch.Size
    output: Tensor
    positions: Tensor | None = None


def _positions(whole: Size, layer: vgg.Layer) -> int:
    """The number of positions of a layer's map of the whole picture."""
    return (whole.height // layer.stride) * (whole.width // layer.stride)


def _relu_gradient(g: Tensor, output: Tensor, in_place: bool) -> Tensor:
    if in_place:
        return torch.ops.aten.threshold_backward.grad_input(g, output, 0, grad_input=g)
    return torch.ops.aten.threshold_backward(g, output, 0)


class _Encode(torch.autograd.Function):
    """The whole network as one node of the graph.

    Its saved tensors are not given to autograd, which would hold them until the end. Each is freed
    once it has been used.
    """

    @staticmethod
    def forward(
        ctx: Any, picture: Tensor, network: Network, names: list[str], whole: Size
    ) -> tuple[Tensor, ...]:
        features, saved = network._forward(picture, whole, keep=ctx.needs_input_grad[0])
        ctx.network, ctx.names, ctx.saved = network, names, saved
        ctx.dtype, ctx.whole = picture.dtype, whole
        return tuple(features[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None, None]:
        if ctx.saved is None:
            raise RuntimeError(
                "The backward pass of a network runs once: it frees the saved feature maps."
            )
        saved, ctx.saved = ctx.saved, None
        by_name = dict(zip(ctx.names, gradients, strict=True))
        gradient = ctx.network._backward(by_name, ctx.whole, saved)
        return gradient.to(ctx.dtype), None, None, None
