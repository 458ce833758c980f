"""A frozen network as a measuring instrument: picture in, named feature maps out, and gradients
back to the pixels.

It knows layer names, its own input scaling, pooling and padding. It refuses to know what is done
with the maps.
"""

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
    """A VGG configuration with weights, cut after the deepest layer asked for.

    Args:
        weights: "conv1_1.weight" (O, I, 3, 3) and "conv1_1.bias" (O,) for every convolution, and
            "input.weight" (3, 3), "input.bias" (3,): what the network wants done to an RGB pixel in
            0..1 first.
        configuration: a key of ``vgg.CONFIGURATIONS``.
        wanted: names of the layers to give, in any order; "input" is the picture.
        pooling, padding: how maps are halved, and what a convolution sees beyond the border.
        kernel: how to convolve (see ``timing.choose``).
        gain: a factor on every map: that of a network which sees pixels in other units, such as
            0..255.
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
        gain: float = 1.0,
    ) -> None:
        # Whether gradients may be asked for more than once of one pass, which takes more memory.
        self.retain = False
        self.wanted = frozenset(wanted)
        self.layers = vgg.cut(configuration, self.wanted)
        self.pooling = pooling
        self.kernel = kernel
        # The first layer reads pixels, which bfloat16 would round to 1/256 of the range: it keeps
        # full precision.
        precise = (
            kernel
            if kernel.dtype != torch.bfloat16
            else replace(KERNELS["channels-last"], methods=kernel.methods)
        )
        self.precise_dtype = precise.dtype
        # Convolutions, ReLUs and pooling pass a factor on; the biases alone must be given it.
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
    def mean(self) -> Tensor:
        """The colour (3,) that it takes for nought, RGB in 0..1 on the CPU: the mean of what it was
        trained on.
        """
        return torch.linalg.solve(
            self.input_weight.cpu().double(), -self.input_bias.cpu().double()
        ).float()

    @property
    def halo(self) -> int:
        """Pixels of true neighbours a tile needs on each side for exact features of its own
        positions.
        """
        return vgg.halo(self.layers)

    def grid(self, size: Size, tile: int) -> Grid:
        """A picture of this size cut for exact features: tiles of side ``tile`` (0: whole) with the
        halo they need.

        One pixel at least, for what compares neighbouring pixels. Tiles lie on whole blocks of the
        kernel in every map: a sum that is rounded otherwise falls on the other side of a ReLU here
        and there, and a gradient with it.
        """
        strides = [layer.stride for layer in self.layers if layer.kind == "conv"]
        step = math.lcm(self.stride, self.kernel.block * max(strides, default=1))
        return Grid(size, tile, max(self.halo, 1), step)

    def within(self, whole: Size) -> Callable[[Tensor], Features]:
        """The network as it looks at tiles of a picture of size ``whole``, in which kernels are
        chosen by the whole.
        """
        return partial(self, whole=whole)

    def giving(self, wanted: Iterable[str]) -> Network:
        """The same network with the same weights in memory, that gives other layers, none deeper
        than this one's last.
        """
        other = copy.copy(self)
        other.wanted = frozenset(wanted)
        deepest = max(
            index
            for index, layer in enumerate(self.layers)
            if layer.name in {"input", *other.wanted}
        )
        other.layers = self.layers[: deepest + 1]
        return other

    def layer(self, name: str) -> vgg.Layer:
        """The table's row for a layer name."""
        return next(layer for layer in self.layers if layer.name == name)

    def __call__(self, picture: Tensor, whole: Size | None = None) -> Features:
        """Feature maps of a picture (1, 3, H, W), RGB, sRGB-encoded, 0..1; differentiable with
        respect to it.

        The maps have the kernel's type and layout, the sums over them are to be taken in float32.
        """
        names = [
            layer.name
            for layer in self.layers
            if layer.name in self.wanted and layer.kind != "input"
        ]
        whole = whole or Size(*picture.shape[-2:])
        maps = _Encode.apply(picture, self, names, whole) if names else ()
        found: Features = dict(zip(names, maps, strict=True))
        if "input" in self.wanted:
            found["input"] = picture
        return found

    def _forward(
        self, picture: Tensor, whole: Size, keep: bool
    ) -> tuple[Features, dict[str, _Trace]]:
        """The wanted maps, and what the way back needs of each layer.

        A gradient passes a ReLU where its output is positive. Where a maximum is taken of that
        output, the maximum alone is kept, which is a quarter of it: gradients reach no other
        position.
        """
        traces: dict[str, _Trace] = {}
        found: Features = {}
        # One of several tiles, and the more of them fit the quicker it goes.
        part = whole != Size(*picture.shape[-2:])
        x = torch.einsum("oi,bihw->bohw", self.input_weight, picture.to(self.precise_dtype))
        x = (x + self.input_bias[:, None, None]).contiguous(memory_format=self.kernel.memory_format)
        for layer, following in zip(self.layers[1:], (*self.layers[2:], None), strict=True):
            if layer.kind == "conv":
                # The ReLU that follows is done in place, unless the map before it is wanted for
                # itself.
                fused = following is not None and layer.name not in self.wanted
                convolution = self.convolutions[layer.name]
                x = convolution.forward(
                    x.to(convolution.kernel.dtype), fused, _positions(whole, layer)
                ).to(self.kernel.dtype)
            elif layer.kind == "relu":
                x = functional.relu(x) if f"conv{layer.name[4:]}" in self.wanted else x
                if keep and (layer.name in self.wanted or not self._maximum_follows(following)):
                    traces[layer.name] = _Trace(x.shape, x.detach())
            else:
                before = x.shape
                x, which = self._pool(x, keep, part)
                if keep:
                    traces[layer.name] = _Trace(before, x.detach(), which)
            if layer.name in self.wanted:
                found[layer.name] = x
        return found, traces

    def _maximum_follows(self, following: vgg.Layer | None) -> bool:
        return following is not None and following.kind == "pool" and self.pooling == "max"

    def _pool(self, x: Tensor, keep: bool, compact: bool) -> tuple[Tensor, Tensor | None]:
        if self.pooling == "average":
            return functional.avg_pool2d(x, 2), None
        return pooling.maxima(x, keep, compact)

    def _backward(
        self, gradients: Mapping[str, Tensor | None], whole: Size, traces: dict[str, _Trace]
    ) -> Tensor:
        """From gradients by layer name to the gradient with respect to the picture (1, 3, H, W);
        ``traces`` are used up.
        """
        g: Tensor | None = None
        own = False  # whether g may be written to
        for layer in reversed(self.layers[1:]):
            trace = traces.pop(layer.name, None)
            given = gradients.get(layer.name)
            if given is not None:
                if g is None:
                    g, own = given.to(self.kernel.dtype), given.dtype != self.kernel.dtype
                else:
                    g, own = (g.add_(given) if own else g + given), True
            if g is None:
                continue
            if layer.kind == "conv":
                convolution = self.convolutions[layer.name]
                g = convolution.input_gradient(
                    g.to(convolution.kernel.dtype), _positions(whole, layer)
                )
                g = g.to(self.kernel.dtype) if layer.channels_in != 3 else g
            elif layer.kind == "pool":
                assert trace is not None
                g = self._pool_gradient(g, own, trace)
            elif trace is not None:
                own = own and g.is_contiguous(memory_format=self.kernel.memory_format)
                g = _relu_gradient(g, trace.output, in_place=own)
            else:
                continue  # the maximum that follows has done it
            own = True
        assert g is not None
        return torch.einsum("oi,bohw->bihw", self.input_weight, g)

    def _pool_gradient(self, g: Tensor, own: bool, trace: _Trace) -> Tensor:
        form = self.kernel.memory_format
        own = own and g.is_contiguous(memory_format=form)
        g = g.contiguous(memory_format=form)
        if trace.which is not None:
            g = _relu_gradient(g, trace.output, in_place=own)
            return pooling.gradient(g, trace.which, trace.before, form)
        window, none = [2, 2], [0, 0]
        # Its shape and layout alone are read.
        before = torch.empty(trace.before, dtype=g.dtype, device=g.device, memory_format=form)
        return torch.ops.aten.avg_pool2d_backward(
            g, before, window, window, none, False, True, None
        )


@dataclass(frozen=True)
class _Trace:
    """What the way back needs of a layer: the shape of its input, its output, and which one each
    maximum was.
    """

    before: torch.Size
    output: Tensor
    which: Tensor | None = None


def _positions(whole: Size, layer: vgg.Layer) -> int:
    return (whole.height // layer.stride) * (whole.width // layer.stride)


def _relu_gradient(g: Tensor, output: Tensor, in_place: bool) -> Tensor:
    if in_place:
        return torch.ops.aten.threshold_backward.grad_input(g, output, 0, grad_input=g)
    return torch.ops.aten.threshold_backward(g, output, 0)


class _Encode(torch.autograd.Function):
    """The whole frozen network as one node of the graph: it keeps what its backward pass needs and
    nothing else.

    Traces are not given to autograd to save, which would hold them all until the end; each is let
    go of once it is used.
    """

    @staticmethod
    def forward(
        ctx: Any, picture: Tensor, network: Network, names: list[str], whole: Size
    ) -> tuple[Tensor, ...]:
        found, traces = network._forward(picture, whole, keep=ctx.needs_input_grad[0])
        ctx.network, ctx.names, ctx.traces, ctx.dtype, ctx.whole = (
            network,
            names,
            traces,
            picture.dtype,
            whole,
        )
        return tuple(found[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None, None]:
        if ctx.traces is None:
            raise RuntimeError(
                "The way back through a network can be gone once; set its retain for more."
            )
        traces = dict(ctx.traces) if ctx.network.retain else ctx.traces
        if not ctx.network.retain:
            ctx.traces = None
        gradient = ctx.network._backward(
            dict(zip(ctx.names, gradients, strict=True)), ctx.whole, traces
        )
        return gradient.to(ctx.dtype), None, None, None
