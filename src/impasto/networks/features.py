"""A frozen network as a measuring instrument: picture in, named feature maps out, and gradients back to the pixels.

It knows layer names, its own input scaling, pooling and padding. It refuses to know what is done with the maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Grid, Size
from impasto.networks import vgg
from impasto.networks.convolution import KERNELS, Convolution, Kernel, Padding

Pooling = Literal["max", "average"]
Features = dict[str, Tensor]  # layer name -> (1, C, h, w); "input" is the picture itself


class Network:
    """A VGG configuration with weights, cut after the deepest layer asked for.

    Args:
        weights: "conv1_1.weight" (O, I, 3, 3) and "conv1_1.bias" (O,) for every convolution, and "input.weight" (3, 3),
            "input.bias" (3,): what the network wants done to an RGB pixel in 0..1 first.
        configuration: a key of ``vgg.CONFIGURATIONS``.
        wanted: names of the layers to give, in any order; "input" is the picture.
        pooling, padding: how maps are halved, and what a convolution sees beyond the border.
        kernel: a way to convolve (see ``convolution.fastest``).
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        configuration: str,
        wanted: Iterable[str],
        *,
        pooling: Pooling = "max",
        padding: Padding = "zero",
        kernel: Kernel = KERNELS["conv2d"],
        device: torch.device | str = "cpu",
    ) -> None:
        self.wanted = frozenset(wanted)
        self.layers = vgg.cut(configuration, self.wanted)
        self.pooling = pooling
        self.kernel = kernel
        # The first layer reads pixels, which bfloat16 would round to 1/256 of the range: it keeps full precision.
        precise = kernel if kernel.dtype != torch.bfloat16 else KERNELS["channels-last"]
        self.precise_dtype = precise.dtype
        self.input_weight = weights["input.weight"].to(device, precise.dtype)  # (3, 3)
        self.input_bias = weights["input.bias"].to(device, precise.dtype)  # (3,)
        self.convolutions = {
            layer.name: Convolution(
                weights[f"{layer.name}.weight"].to(device),
                weights[f"{layer.name}.bias"].to(device),
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
    def halo(self) -> int:
        """Pixels of true neighbours a tile needs on each side for exact features of its own positions."""
        return vgg.halo(self.layers)

    def grid(self, size: Size, tile: int) -> Grid:
        """A picture of this size cut for exact features: tiles of side ``tile`` (0: whole) with the halo they need.

        One pixel at least, for what compares neighbouring pixels.
        """
        return Grid(size, tile, max(self.halo, 1), self.stride)

    def layer(self, name: str) -> vgg.Layer:
        """The table's row for a layer name."""
        return next(layer for layer in self.layers if layer.name == name)

    def __call__(self, picture: Tensor) -> Features:
        """Feature maps of a picture (1, 3, H, W), RGB, sRGB-encoded, 0..1; differentiable with respect to it.

        The maps have the kernel's type and layout, the sums over them are to be taken in float32.
        """
        names = [layer.name for layer in self.layers if layer.name in self.wanted and layer.kind != "input"]
        maps = _Encode.apply(picture, self, names) if names else ()
        found: Features = dict(zip(names, maps, strict=True))
        if "input" in self.wanted:
            found["input"] = picture
        return found

    def _forward(self, picture: Tensor, keep: bool) -> tuple[Features, dict[str, Tensor]]:
        """The wanted maps, and what the backward pass needs: the maps after each ReLU and the indices of each pooling."""
        kept: dict[str, Tensor] = {}
        found: Features = {}
        x = torch.einsum("oi,bihw->bohw", self.input_weight, picture.to(self.precise_dtype))
        x = (x + self.input_bias[:, None, None]).contiguous(memory_format=self.kernel.memory_format)
        for layer, following in zip(self.layers[1:], (*self.layers[2:], None), strict=True):
            if layer.kind == "conv":
                # The ReLU that follows is done in place, unless the map before it is wanted for itself.
                fused = following is not None and layer.name not in self.wanted
                convolution = self.convolutions[layer.name]
                x = convolution.forward(x.to(convolution.kernel.dtype), relu=fused).to(self.kernel.dtype)
            elif layer.kind == "relu":
                x = functional.relu(x) if f"conv{layer.name[4:]}" in self.wanted else x
                if keep:
                    kept[layer.name] = x
            else:
                x, indices = self._pool(x)
                if keep:
                    kept[layer.name] = indices
            if layer.name in self.wanted:
                found[layer.name] = x
        return found, kept

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.pooling == "average":
            return functional.avg_pool2d(x, 2), torch.empty(0)
        pooled, indices = functional.max_pool2d_with_indices(x, (2, 2))
        return pooled, indices

    def _backward(self, gradients: Mapping[str, Tensor | None], kept: Mapping[str, Tensor]) -> Tensor:
        """From gradients by layer name to the gradient with respect to the picture (1, 3, H, W)."""
        g: Tensor | None = None
        own = False  # whether g may be written to
        for index in range(len(self.layers) - 1, 0, -1):
            layer = self.layers[index]
            given = gradients.get(layer.name)
            if given is not None:
                if g is None:
                    g, own = given.to(self.kernel.dtype), given.dtype != self.kernel.dtype
                else:
                    g, own = (g.add_(given) if own else g + given), True
            if g is None:
                continue
            if layer.kind == "relu":
                own = own and g.is_contiguous(memory_format=self.kernel.memory_format)
                g = _relu_gradient(g, kept[layer.name], in_place=own)
            elif layer.kind == "conv":
                convolution = self.convolutions[layer.name]
                g = convolution.input_gradient(g.to(convolution.kernel.dtype))
                g = g.to(self.kernel.dtype) if layer.channels_in != 3 else g
            else:
                g = self._pool_gradient(g, kept[self.layers[index - 1].name], kept[layer.name])
            own = True
        assert g is not None
        return torch.einsum("oi,bohw->bihw", self.input_weight, g)

    def _pool_gradient(self, g: Tensor, before: Tensor, indices: Tensor) -> Tensor:
        g = g.contiguous(memory_format=self.kernel.memory_format)
        if self.pooling == "average":
            return torch.ops.aten.avg_pool2d_backward(g, before, [2, 2], [2, 2], [0, 0], False, True, None)
        return torch.ops.aten.max_pool2d_with_indices_backward(g, before, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)


def _relu_gradient(g: Tensor, output: Tensor, in_place: bool) -> Tensor:
    if in_place:
        return torch.ops.aten.threshold_backward.grad_input(g, output, 0, grad_input=g)
    return torch.ops.aten.threshold_backward(g, output, 0)


class _Encode(torch.autograd.Function):
    """The whole frozen network as one node of the graph: it keeps what its backward pass needs and nothing else."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, network: Network, names: list[str]) -> tuple[Tensor, ...]:
        found, kept = network._forward(picture, keep=ctx.needs_input_grad[0])
        ctx.network, ctx.names, ctx.kept, ctx.dtype = network, names, tuple(kept), picture.dtype
        ctx.save_for_backward(*kept.values())
        return tuple(found[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None]:
        by_name = dict(zip(ctx.names, gradients, strict=True))
        kept = dict(zip(ctx.kept, ctx.saved_tensors, strict=True))
        gradient = ctx.network._backward(by_name, kept)
        return gradient.to(ctx.dtype), None, None
