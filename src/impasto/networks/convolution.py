"""Frozen 3x3 convolutions by the kernels that torch ships: forward with the ReLU inside, and the
gradient of the input.

It knows four ways to convolve a map, what each wants of layout and weights, and which one is meant
for which shape. It refuses to know networks and clocks: what is fastest is found out in ``timing``.
A network that is never trained needs no gradient of its weights, so that of its input is one more
convolution: the kernel is flipped, its channel axes exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from impasto.recipe.choices import Padding

Shape = tuple[int, int, int]  # channels in, channels out, side of a square map (see ``side``)
Form = torch.memory_format

_WORKSPACE_BYTES = 256 * 2**20
_TRANSFORMED = 4 * 64 / 36  # bytes a position: 8 x 8 numbers stand for 6 x 6
_NNPACK_BLOCK = 6


# ---- the methods ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """How one map is convolved: ``convolve(x, weight, bias, padding, relu)``, with maps and weights
    of layout ``form``.

    ``plain`` is what stands in for it where it is missing.
    """

    convolve: Callable[[Tensor, Tensor, Tensor | None, int, bool], Tensor]
    form: Form
    plain: str

    def arranged(self, weight: Tensor) -> Tensor:
        """A weight as this method reads it."""
        weight = weight.contiguous(memory_format=self.form)
        if self.convolve is not _packed:
            return weight
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), [1, 1], [1, 1], [1, 1], 1
        )


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    y = functional.conv2d(x, weight, bias, padding=padding)
    return y.relu_() if relu else y


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    """oneDNN as torch's compiler calls it: weights in its own order, once and not at every call,
    and the ReLU inside.
    """
    then = "relu" if relu else "none"
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [padding] * 2, [1, 1], [1, 1], 1, then, [], ""
    )


def _nnpack(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    y = _in_bands(x, weight, bias, padding)
    return y.relu_() if relu else y


def _in_bands(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """NNPACK's convolution, in bands of rows where the map is large.

    It keeps its map and its output in the transformed domain, 64 / 36 of their size, in a workspace
    never given back.
    """
    channels, (height, width) = weight.shape[0] + x.shape[1], x.shape[-2:]
    rows = int(_WORKSPACE_BYTES // (channels * (width + 2 * padding) * _TRANSFORMED))
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


def has(method: str, device: torch.device) -> bool:
    """Whether a method can run on ``device``."""
    if method == "nnpack":
        # The question is also what initialises the library; without it every call fails.
        return device.type == "cpu" and torch._nnpack_available()
    if method == "packed":  # out of torch's private parts, which another torch may not have
        private = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(
            torch._C._nn, "mkldnn_reorder_conv2d_weight"
        )
        return device.type == "cpu" and torch.backends.mkldnn.is_available() and private
    return True


# ---- which method for which shape ----------------------------------------------------------------


def side(positions: int) -> int:
    """The power of 2 that is nearest to the side of a square map of so many positions: how large a
    map counts as.
    """
    return int(2 ** round(math.log2(max(positions, 1)) / 2))


@dataclass(frozen=True)
class Kernel:
    """How a network convolves: the type and layout of its maps between layers, and a method for
    every shape.

    ``methods`` hold what was found to be the fastest; ``default`` is for channels that they do not
    name. ``name`` is that of the kernel in ``KERNELS`` with the same type and layout.
    """

    name: str
    dtype: torch.dtype
    channels_last: bool
    default: str
    methods: Mapping[Shape, str] = field(default_factory=dict, hash=False)

    @property
    def memory_format(self) -> Form:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def block(self) -> int:
        """The side of the squares of positions that are computed together.

        Two cuts of a map give the same numbers, to the last bit, where their corners lie on whole
        blocks.
        """
        return _NNPACK_BLOCK if "nnpack" in {self.default, *self.methods.values()} else 1

    def method(self, channels_in: int, channels_out: int, positions: int) -> str:
        """The method for a map of so many positions: that of its own side, or of the nearest one
        that was timed.
        """
        sides = [shape[2] for shape in self.methods if shape[:2] == (channels_in, channels_out)]
        if not sides:
            return self.default
        nearest = min(sides, key=lambda timed: abs(math.log2(timed / side(positions))))
        return self.methods[channels_in, channels_out, nearest]

    def summary(self) -> str:
        """Which method has which channels, and maps of which sides where it has not all of them."""
        found: dict[str, dict[str, list[int]]] = {}
        sides: dict[str, int] = {}
        for (into, out, side), method in sorted(self.methods.items()):
            found.setdefault(method, {}).setdefault(f"{into}>{out}", []).append(side)
            sides[f"{into}>{out}"] = sides.get(f"{into}>{out}", 0) + 1
        rows = {
            method: (
                pair if len(of) == sides[pair] else f"{pair} at {'/'.join(map(str, of))}"
                for pair, of in pairs.items()
            )
            for method, pairs in found.items()
        }
        return "; ".join(f"{method}: {', '.join(row)}" for method, row in sorted(rows.items()))

    @property
    def text(self) -> str:
        """The kernel in one line, from which ``parse`` makes it again."""
        rows = (
            f"{into}>{out}@{side}={method}"
            for (into, out, side), method in sorted(self.methods.items())
        )
        return " ".join((self.name, *rows))

    @staticmethod
    def parse(text: str) -> Kernel:
        """The kernel of a line that ``text`` gave.

        Raises:
            ValueError: it is no such line.
        """
        name, *rows = text.split()
        methods: dict[Shape, str] = {}
        for row in rows:
            shape, _, method = row.partition("=")
            into, out, side = (int(number) for number in shape.replace("@", ">").split(">"))
            methods[into, out, side] = method
        if name not in KERNELS or not METHODS.keys() >= set(methods.values()):
            raise ValueError(f"no kernel: {text!r}")
        return replace(KERNELS[name], methods=methods)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("conv2d", torch.float32, False, "conv2d"),
        Kernel("channels-last", torch.float32, True, "channels-last"),
        Kernel("nnpack", torch.float32, False, "nnpack"),
        Kernel("bfloat16", torch.bfloat16, True, "channels-last"),
        Kernel("float64", torch.float64, False, "conv2d"),  # for proofs, never chosen by timing
    )
}


# ---- a convolution -------------------------------------------------------------------------------


class Convolution:
    """One frozen 3x3 convolution of stride 1 that keeps the size of its map.

    ``weight`` is (O, I, 3, 3), ``bias`` (O,). Maps are (1, C, h, w) in the kernel's type and
    layout.
    """

    def __init__(self, weight: Tensor, bias: Tensor, kernel: Kernel, padding: Padding) -> None:
        self.kernel = kernel
        self.padding = padding
        self.weight = weight.to(kernel.dtype)
        self.bias = bias.to(kernel.dtype)
        # By direction, for the method that came last.
        self._arranged: dict[bool, tuple[str, Tensor]] = {}

    def forward(self, x: Tensor, relu: bool, positions: int | None = None) -> Tensor:
        """(1, I, h, w) -> (1, O, h, w), with negative values set to 0 if ``relu``. The input is not
        kept.

        ``positions`` are those of the whole map, where this is a part of it: another method rounds
        otherwise, and a ReLU that falls on the other side changes a gradient.
        """
        if self.padding == "zero":
            return self._convolve(x, False, 1, relu, positions)
        return self._convolve(
            _pad(x, self.padding), False, 0, relu, positions or x.shape[-1] * x.shape[-2]
        )

    def input_gradient(self, gradient: Tensor, positions: int | None = None) -> Tensor:
        """(1, O, h, w) -> (1, I, h, w): the gradient of the loss with respect to this convolution's
        input.
        """
        if self.padding == "zero":
            return self._convolve(gradient, True, 1, False, positions)
        return _fold(self._convolve(gradient, True, 2, False, positions), self.padding)

    def _convolve(
        self, x: Tensor, back: bool, padding: int, relu: bool, positions: int | None
    ) -> Tensor:
        channels = self.weight.shape[0 if back else 1], self.weight.shape[1 if back else 0]
        name = self.kernel.method(*channels, positions or x.shape[-1] * x.shape[-2])
        name = name if has(name, x.device) else METHODS[name].plain
        method = METHODS[name]
        x = x.contiguous(memory_format=method.form)
        y = method.convolve(x, self._weight(back, name), None if back else self.bias, padding, relu)
        return y.contiguous(memory_format=self.kernel.memory_format)

    def _weight(self, back: bool, name: str) -> Tensor:
        kept = self._arranged.get(back)
        if kept is None or kept[0] != name:
            weight = self.weight.flip(2, 3).transpose(0, 1) if back else self.weight
            kept = self._arranged[back] = (name, METHODS[name].arranged(weight))
        return kept[1]


def workspace(kernel: Kernel, positions: int) -> int:
    """Bytes that a kernel keeps to itself for maps of 64 channels with so many positions."""
    return int(min(_WORKSPACE_BYTES, 2 * 64 * positions * _TRANSFORMED)) if kernel.block > 1 else 0


def _pad(x: Tensor, padding: Padding) -> Tensor:
    """One position more on each side. A map one position wide has no neighbour to reflect; its edge
    is repeated.
    """
    if padding == "reflect" and min(x.shape[-2:]) > 1:
        return functional.pad(x, (1, 1, 1, 1), mode="reflect")
    return functional.pad(x, (1, 1, 1, 1), mode="replicate")


def _fold(padded: Tensor, padding: Padding) -> Tensor:
    """The adjoint of ``_pad``: (1, C, h+2, w+2) -> (1, C, h, w), what fell on the border added
    where it came from.
    """
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    inner = 2 if padding == "reflect" and min(height, width) > 1 else 1
    padded[..., inner, :] += padded[..., 0, :]
    padded[..., height + 1 - inner, :] += padded[..., height + 1, :]
    padded[..., inner] += padded[..., 0]
    padded[..., width + 1 - inner] += padded[..., width + 1]
    return padded[..., 1:-1, 1:-1]
