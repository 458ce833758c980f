"""Frozen 3x3 convolutions by one of several methods, with a fused ReLU, and their input gradient.

A frozen network needs no gradient of its weights. The gradient of its input is one more
convolution, with the kernel flipped and its channel axes exchanged.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from impasto.recipe.choices import Padding

Shape = tuple[int, int, int]  # channels in, channels out, side of a square map

_WORKSPACE_BYTES = 256 * 2**20
_WINOGRAD_BYTES = 4 * 64 / 36  # per position: 8 x 8 float32 values represent 6 x 6
_NNPACK_BLOCK = 6
_ROW = re.compile(r"(?P<into>\d+)>(?P<out>\d+)@(?P<side>\d+)=(?P<method>\S+)")


# ---- the methods ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One implementation of a convolution, for maps and weights in ``memory_format``.

    ``convolve``: the function (x, weight, bias, padding, relu) -> y. ``fallback``: the method that
    replaces it where it is missing.
    """

    convolve: Callable[[Tensor, Tensor, Tensor | None, int, bool], Tensor]
    memory_format: torch.memory_format
    fallback: str

    def prepare_weight(self, weight: Tensor) -> Tensor:
        """A weight in the layout that this method needs."""
        weight = weight.contiguous(memory_format=self.memory_format)
        if self.convolve is not _packed:
            return weight
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), [1, 1], [1, 1], [1, 1], 1
        )


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    y = functional.conv2d(x, weight, bias, padding=padding)
    return y.relu_() if relu else y


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    """oneDNN as torch's compiler calls it: weights are reordered once, the ReLU is fused."""
    activation = "relu" if relu else "none"
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [padding] * 2, [1, 1], [1, 1], 1, activation, [], ""
    )


def _nnpack(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    y = _in_bands(x, weight, bias, padding)
    return y.relu_() if relu else y


def _in_bands(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """NNPACK's convolution, in bands of rows if the map is large.

    NNPACK stores the transformed map and output, 64 / 36 of their size, in a workspace that it
    never frees.
    """
    channels, (height, width) = weight.shape[0] + x.shape[1], x.shape[-2:]
    rows = int(_WORKSPACE_BYTES // (channels * (width + 2 * padding) * _WINOGRAD_BYTES))
    out = height + 2 * padding - 2
    if rows >= out:
        return torch._nnpack_spatial_convolution(x, weight, bias, padding=padding)
    rows = max(_NNPACK_BLOCK, rows // _NNPACK_BLOCK * _NNPACK_BLOCK)
    x = functional.pad(x, (padding,) * 4) if padding else x
    y = x.new_empty(1, weight.shape[0], out, width + 2 * padding - 2)
    for top in range(0, out, rows):
        bottom = min(top + rows, out)
        band = x[..., top : bottom + 2, :].contiguous()
        y[..., top:bottom, :] = torch._nnpack_spatial_convolution(band, weight, bias, padding=0)
    return y


METHODS = {
    "conv2d": Method(_conv2d, torch.contiguous_format, "conv2d"),
    "channels-last": Method(_conv2d, torch.channels_last, "channels-last"),
    "packed": Method(_packed, torch.channels_last, "channels-last"),
    "nnpack": Method(_nnpack, torch.contiguous_format, "conv2d"),
}


def has_method(method: str, device: torch.device) -> bool:
    """Whether a method can run on ``device``."""
    if method == "nnpack":
        # This call also initializes the library; without it every convolution fails.
        return device.type == "cpu" and torch._nnpack_available()
    if method == "packed":  # private functions, which another version of torch may not have
        private = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(
            torch._C._nn, "mkldnn_reorder_conv2d_weight"
        )
        return device.type == "cpu" and torch.backends.mkldnn.is_available() and private
    return True


# ---- the methods of a network --------------------------------------------------------------------


def nominal_side(positions: int) -> int:
    """The power of 2 nearest to the side of a square map with this number of positions."""
    return int(2 ** round(math.log2(max(positions, 1)) / 2))


@dataclass(frozen=True)
class Kernel:
    """How a network convolves: the type and layout of its maps, and a method for every shape.

    ``methods``: the fastest method by shape. ``default``: the method for other channels. ``name``:
    that of the kernel in ``KERNELS`` with the same type and layout.
    """

    name: str
    dtype: torch.dtype
    channels_last: bool
    default: str
    methods: Mapping[Shape, str] = field(default_factory=dict, hash=False)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def block(self) -> int:
        """The side of the squares of positions that are computed together.

        Two crops of a map give the same values, to the last bit, if both are aligned to blocks.
        """
        return _NNPACK_BLOCK if "nnpack" in {self.default, *self.methods.values()} else 1

    def method(self, channels_in: int, channels_out: int, positions: int) -> str:
        """The method for a map with this number of positions: that of the nearest timed side."""
        sides = [shape[2] for shape in self.methods if shape[:2] == (channels_in, channels_out)]
        if not sides:
            return self.default
        nearest = min(sides, key=lambda timed: abs(math.log2(timed / nominal_side(positions))))
        return self.methods[channels_in, channels_out, nearest]

    def summary(self) -> str:
        """The channels of each method in one line, with sides if it has not all sides of a pair.

        For example "conv2d: 64>64 at 16; packed: 3>64".
        """
        sides: dict[str, dict[str, list[int]]] = {}  # method -> channels -> sides
        counts = Counter(f"{into}>{out}" for into, out, _ in self.methods)
        for (into, out, side), method in sorted(self.methods.items()):
            sides.setdefault(method, {}).setdefault(f"{into}>{out}", []).append(side)

        def entry(pair: str, timed: list[int]) -> str:
            complete = len(timed) == counts[pair]
            return pair if complete else f"{pair} at {'/'.join(map(str, timed))}"

        return "; ".join(
            f"{method}: {', '.join(entry(*item) for item in pairs.items())}"
            for method, pairs in sorted(sides.items())
        )

    @property
    def text(self) -> str:
        """The kernel as one line of text, from which ``parse`` restores it."""
        rows = (
            f"{into}>{out}@{side}={method}"
            for (into, out, side), method in sorted(self.methods.items())
        )
        return " ".join((self.name, *rows))

    @staticmethod
    def parse(text: str) -> Kernel:
        """The kernel that ``text`` describes.

        Raises:
            ValueError: it is not such a line.
        """
        name, *rows = text.split() or [""]
        matches = [_ROW.fullmatch(row) for row in rows]
        methods = {
            (int(match["into"]), int(match["out"]), int(match["side"])): match["method"]
            for match in matches
            if match is not None
        }
        known = name in KERNELS and METHODS.keys() >= set(methods.values())
        if None in matches or not known:
            raise ValueError(f"no kernel: {text!r}")
        return replace(KERNELS[name], methods=methods)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("conv2d", torch.float32, False, "conv2d"),
        Kernel("channels-last", torch.float32, True, "channels-last"),
        Kernel("nnpack", torch.float32, False, "nnpack"),
        Kernel("bfloat16", torch.bfloat16, True, "channels-last"),
        Kernel("float64", torch.float64, False, "conv2d"),  # for tests, never chosen by timing
    )
}


# ---- a convolution -------------------------------------------------------------------------------


class Convolution:
    """A frozen 3x3 convolution of stride 1 whose output has the size of its input.

    ``weight`` is (O, I, 3, 3), ``bias`` (O,). Maps are (1, C, h, w) in the kernel's type and
    layout.
    """

    def __init__(self, weight: Tensor, bias: Tensor, kernel: Kernel, padding: Padding) -> None:
        self.kernel = kernel
        self.padding = padding
        self.weight = weight.to(kernel.dtype)
        self.bias = bias.to(kernel.dtype)
        # By direction (backward or not), for the method used last.
        self._prepared: dict[bool, tuple[str, Tensor]] = {}

    def forward(self, x: Tensor, relu: bool, positions: int | None = None) -> Tensor:
        """(1, I, h, w) -> (1, O, h, w), with negative values set to 0 if ``relu``.

        ``positions``: the number of positions of the whole map, if this is a tile of it. It decides
        the method, so that tiles round like the whole: otherwise a value near 0 can change sign,
        and a gradient with it.
        """
        if self.padding == "zero":
            return self._convolve(x, False, 1, relu, positions)
        return self._convolve(
            _pad(x, self.padding), False, 0, relu, positions or x.shape[-1] * x.shape[-2]
        )

    def input_gradient(self, gradient: Tensor, positions: int | None = None) -> Tensor:
        """(1, O, h, w) -> (1, I, h, w): the gradient with respect to the input."""
        if self.padding == "zero":
            return self._convolve(gradient, True, 1, False, positions)
        return _fold(self._convolve(gradient, True, 2, False, positions), self.padding)

    def _convolve(
        self, x: Tensor, backward: bool, padding: int, relu: bool, positions: int | None
    ) -> Tensor:
        channels = self.weight.shape[0 if backward else 1], self.weight.shape[1 if backward else 0]
        name = self.kernel.method(*channels, positions or x.shape[-1] * x.shape[-2])
        name = name if has_method(name, x.device) else METHODS[name].fallback
        method = METHODS[name]
        x = x.contiguous(memory_format=method.memory_format)
        weight, bias = self._weight(backward, name), None if backward else self.bias
        y = method.convolve(x, weight, bias, padding, relu)
        return y.contiguous(memory_format=self.kernel.memory_format)

    def _weight(self, backward: bool, name: str) -> Tensor:
        prepared = self._prepared.get(backward)
        if prepared is None or prepared[0] != name:
            weight = self.weight.flip(2, 3).transpose(0, 1) if backward else self.weight
            prepared = self._prepared[backward] = (name, METHODS[name].prepare_weight(weight))
        return prepared[1]


def workspace_bytes(kernel: Kernel, positions: int) -> int:
    """Bytes of a kernel's workspace for maps of 64 channels with this number of positions."""
    return (
        int(min(_WORKSPACE_BYTES, 2 * 64 * positions * _WINOGRAD_BYTES)) if kernel.block > 1 else 0
    )


def _pad(x: Tensor, padding: Padding) -> Tensor:
    """Pad by one position on each side. A map one position wide cannot be reflected; its edge is
    replicated.
    """
    if padding == "reflect" and min(x.shape[-2:]) > 1:
        return functional.pad(x, (1, 1, 1, 1), mode="reflect")
    return functional.pad(x, (1, 1, 1, 1), mode="replicate")


def _fold(padded: Tensor, padding: Padding) -> Tensor:
    """The adjoint of ``_pad``: (1, C, h+2, w+2) -> (1, C, h, w).

    Gradients of padded positions are added to the positions that they were copied from.
    """
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    inner = 2 if padding == "reflect" and min(height, width) > 1 else 1
    padded[..., inner, :] += padded[..., 0, :]
    padded[..., height + 1 - inner, :] += padded[..., height + 1, :]
    padded[..., inner] += padded[..., 0]
    padded[..., width + 1 - inner] += padded[..., width + 1]
    return padded[..., 1:-1, 1:-1]
