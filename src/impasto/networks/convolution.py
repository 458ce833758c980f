"""The fastest frozen 3x3 convolution here: forward with the ReLU inside, and the gradient with respect to the input.

It knows the kernels that torch ships and picks one by a short timing. It refuses to know networks: one weight at a time.
A network that is never trained needs no gradient for its weights, so the gradient with respect to the input is one more
convolution, with the kernel flipped and its two channel axes exchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["zero", "reflect", "replicate"]

# Below this many positions of the whole map NNPACK's transform of the kernel, redone at every call, costs more than it
# saves. Not of a tile's: another kernel rounds otherwise, and a ReLU that falls on the other side changes a gradient.
_NNPACK_LEAST_POSITIONS = 48 * 48

_WORKSPACE_BYTES = 256 * 2**20
_TRANSFORMED = 4 * 64 / 36  # bytes a position: 8 x 8 numbers stand for 6 x 6


@dataclass(frozen=True)
class Kernel:
    """A way to convolve: its name, the type of the maps between layers, and their layout in memory.

    ``block`` is the side of the squares of positions that it computes together. Two cuts of a map give the same numbers, to
    the last bit, where their corners lie on whole blocks.
    """

    name: str
    dtype: torch.dtype
    channels_last: bool
    block: int = 1

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("conv2d", torch.float32, False),
        Kernel("channels-last", torch.float32, True),
        Kernel("nnpack", torch.float32, False, block=6),
        Kernel("bfloat16", torch.bfloat16, True),
        Kernel("float64", torch.float64, False),  # for proofs, never chosen by timing
    )
}


class Convolution:
    """One frozen 3x3 convolution of stride 1 that keeps the size of its map.

    ``weight`` is (O, I, 3, 3), ``bias`` (O,). Maps are (1, C, h, w) in the kernel's type and layout.
    """

    def __init__(self, weight: Tensor, bias: Tensor, kernel: Kernel, padding: Padding) -> None:
        form = kernel.memory_format
        if kernel.name == "nnpack":
            torch._nnpack_available()  # the question is what initialises the library; without it every call fails
        self.kernel = kernel
        self.padding = padding
        self.weight = weight.to(kernel.dtype).contiguous(memory_format=form)
        self.bias = bias.to(kernel.dtype)
        flipped = weight.flip(2, 3).transpose(0, 1)
        self.weight_back = flipped.to(kernel.dtype).contiguous(memory_format=form)
        self.no_bias = torch.zeros(weight.shape[1], dtype=kernel.dtype, device=weight.device)

    def forward(self, x: Tensor, relu: bool, positions: int | None = None) -> Tensor:
        """(1, I, h, w) -> (1, O, h, w), with negative values set to 0 if ``relu``. The input is not kept.

        ``positions`` are those of the whole map, where this one is a part of it.
        """
        if self.padding == "zero":
            y = self._convolve(x, self.weight, self.bias, 1, positions)
        else:
            y = self._convolve(_pad(x, self.padding), self.weight, self.bias, 0, positions)
        return y.relu_() if relu else y

    def input_gradient(self, gradient: Tensor, positions: int | None = None) -> Tensor:
        """(1, O, h, w) -> (1, I, h, w): the gradient of the loss with respect to this convolution's input."""
        if self.padding == "zero":
            return self._convolve(gradient, self.weight_back, self.no_bias, 1, positions)
        return _fold(self._convolve(gradient, self.weight_back, self.no_bias, 2, positions), self.padding)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor, padding: int, positions: int | None) -> Tensor:
        positions = x.shape[-1] * x.shape[-2] if positions is None else positions
        if self.kernel.name == "nnpack" and positions >= _NNPACK_LEAST_POSITIONS:
            return _nnpack(x, weight, bias, padding)
        return functional.conv2d(x, weight, bias, padding=padding)


def _nnpack(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """NNPACK's convolution, in bands of rows where the map is large.

    It keeps its map and its output in the transformed domain, 64 / 36 of their size, in a workspace never given back.
    """
    channels, (height, width) = weight.shape[0] + x.shape[1], x.shape[-2:]
    rows = int(_WORKSPACE_BYTES // (channels * (width + 2 * padding) * _TRANSFORMED))
    out = height + 2 * padding - 2
    if rows >= out:
        return torch._nnpack_spatial_convolution(x, weight, bias, padding=padding)
    block = KERNELS["nnpack"].block
    rows = max(block, rows // block * block)
    x = functional.pad(x, (padding,) * 4) if padding else x
    y = x.new_empty(1, weight.shape[0], out, width + 2 * padding - 2)
    for top in range(0, out, rows):
        bottom = min(top + rows, out)
        band = x[..., top : bottom + 2, :].contiguous()
        y[..., top:bottom, :] = torch._nnpack_spatial_convolution(band, weight, bias, padding=0)
    return y


def workspace(kernel: Kernel, positions: int) -> int:
    """Bytes that a kernel keeps to itself for maps of 64 channels with so many positions."""
    return int(min(_WORKSPACE_BYTES, 2 * 64 * positions * _TRANSFORMED)) if kernel.name == "nnpack" else 0


def _pad(x: Tensor, padding: Padding) -> Tensor:
    """One position more on each side. A map one position wide has no neighbour to reflect; its edge is repeated."""
    if padding == "reflect" and min(x.shape[-2:]) > 1:
        return functional.pad(x, (1, 1, 1, 1), mode="reflect")
    return functional.pad(x, (1, 1, 1, 1), mode="replicate")


def _fold(padded: Tensor, padding: Padding) -> Tensor:
    """The adjoint of ``_pad``: (1, C, h+2, w+2) -> (1, C, h, w), what fell on the border added where it came from."""
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    inner = 2 if padding == "reflect" and min(height, width) > 1 else 1
    padded[..., inner, :] += padded[..., 0, :]
    padded[..., height + 1 - inner, :] += padded[..., height + 1, :]
    padded[..., inner] += padded[..., 0]
    padded[..., width + 1 - inner] += padded[..., width + 1]
    return padded[..., 1:-1, 1:-1]


def available(device: torch.device) -> list[Kernel]:
    """The float32 and bfloat16 kernels that can run on ``device``."""
    if device.type != "cpu":
        return [KERNELS["conv2d"], KERNELS["channels-last"], KERNELS["bfloat16"]]
    found = [KERNELS["conv2d"], KERNELS["channels-last"]]
    if torch._nnpack_available():
        found.append(KERNELS["nnpack"])
    return found


def fastest(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> tuple[Kernel, dict[str, float]]:
    """The fastest float32 kernel on this machine and the milliseconds of each candidate.

    Two shapes that stand for the network, one wide and one deep, forward and input gradient, the best of three after a
    warm-up. A candidate that deviates from conv2d by more than 1e-4 is passed over.
    """
    times: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    candidates = [kernel for kernel in available(device) if kernel.dtype == torch.float32]
    with torch.no_grad():
        for channels, side in ((64, 224), (256, 56)):
            x = torch.rand(1, channels, side, side, generator=generator).to(device)
            weight = (torch.rand(channels, channels, 3, 3, generator=generator) - 0.5).to(device)
            bias = torch.zeros(channels, device=device)
            reference = functional.conv2d(x, weight, bias, padding=1)
            for kernel in candidates:
                convolution = Convolution(weight, bias, kernel, "zero")
                source = x.contiguous(memory_format=kernel.memory_format)
                error = (convolution.forward(source, relu=False) - reference).abs().max() / reference.abs().max()
                if not error <= 1e-4:
                    times[kernel.name] = float("inf")
                    continue
                best = float("inf")
                for _ in range(3):
                    start = clock()
                    convolution.input_gradient(convolution.forward(source, relu=False))
                    best = min(best, clock() - start)
                times[kernel.name] = times.get(kernel.name, 0.0) + best * 1e3
    return KERNELS[min(times, key=lambda name: times[name])], times
