"""Time every convolution method on every shape of VGG, and choose the fastest.

Methods that are missing or wrong on this machine are left out.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from impasto.networks import vgg
from impasto.networks.convolution import KERNELS, METHODS, Convolution, Kernel, Shape, has_method

# Seconds for all shapes. After it only the shapes without which the choice is wrong are timed. With
# 8 s the choice was no better.
_SECONDS = 2.0
_ROUNDS = 3
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # relative to the largest value
_BFLOAT16_SPEEDUP = 1.3  # below it bfloat16 is not worth its rounding
# A processor emulates bfloat16 if it is this much slower than float32; the rest is then not timed.
_EMULATED_SLOWDOWN = 3.0
_EMULATED_SECONDS = 0.05  # timed before that is decided, as the first calls of a shape are slow
# Below it NNPACK is not worth its blocks, which round differently in tiles, and its slow pooling.
_NNPACK_SPEEDUP = 1.05
_PICTURE_SIDE = 512  # px, of the picture for which kernels are compared
_TIMED_SIDES = (128, 256, 512)  # px, of the pictures whose maps are timed
# px, of the picture whose maps are all timed however long it takes: smaller ones mislead.
_REQUIRED_SIDE = 256
_LARGE_MAP = 2**22  # values in a map; timings of this size hold for larger maps

# The methods by type. Within a row they replace each other: the first that works is timed.
_ALTERNATIVES = {
    torch.float32: (("conv2d",), ("nnpack",), ("packed", "channels-last")),
    torch.bfloat16: (("packed", "channels-last"),),
}
Clock = Callable[[], float]
Candidate = tuple[str, torch.dtype]  # a method and the type it computes in
Seconds = dict[Candidate, float]
Timings = dict[Shape, Seconds]


@dataclass(frozen=True)
class FastestKernels:
    """The fastest kernels of float32 and of bfloat16.

    ``milliseconds``: the time of one evaluation's convolutions by kernel name. It has no bfloat16
    if the processor emulates that.
    """

    float32: Kernel
    bfloat16: Kernel
    milliseconds: Mapping[str, float]

    @property
    def auto(self) -> Kernel:
        """The kernel for a recipe that names no precision."""
        bfloat16 = self.milliseconds.get(self.bfloat16.name, math.inf)
        faster = bfloat16 * _BFLOAT16_SPEEDUP <= self.milliseconds[self.float32.name]
        return self.bfloat16 if faster else self.float32

    def to_dict(self) -> dict[str, Any]:
        """The kernels as JSON values, from which ``from_dict`` restores them."""
        return {
            "float32": self.float32.text,
            "bfloat16": self.bfloat16.text,
            "milliseconds": dict(self.milliseconds),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> FastestKernels:
        """The kernels that ``to_dict`` returned.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the values are something else.
        """
        milliseconds = {name: float(taken) for name, taken in values["milliseconds"].items()}
        float32, bfloat16 = Kernel.parse(values["float32"]), Kernel.parse(values["bfloat16"])
        if float32.name not in milliseconds or bfloat16.name != "bfloat16":
            raise ValueError("the float32 kernel was not timed, or bfloat16 is another kernel")
        return FastestKernels(float32, bfloat16, milliseconds)


def time_kernels(device: torch.device, clock: Clock = time.perf_counter) -> FastestKernels:
    """Time the methods on ``device`` and choose the fastest.

    For each memory layout that is the fastest method of every shape; then the faster layout. A
    method with another layout than the maps have is charged for both conversions.
    """
    timer = _Timer(device, clock)
    with torch.no_grad():
        timings = timer.time_methods()
        kernels: dict[str, tuple[Kernel, float]] = {}
        for base in (KERNELS["conv2d"], KERNELS["channels-last"], KERNELS["bfloat16"]):
            methods, seconds = timer.fastest_methods(base, timings)
            if "nnpack" in methods.values():
                base = KERNELS["nnpack"]
            kernels[base.name] = replace(base, methods=methods), _evaluation_seconds(seconds)
    milliseconds = {
        name: round(seconds * 1e3, 1)
        for name, (_, seconds) in kernels.items()
        if math.isfinite(seconds)
    }
    factors = {"nnpack": _NNPACK_SPEEDUP}
    float32 = min(
        milliseconds.keys() - {"bfloat16"},
        key=lambda name: (milliseconds[name] * factors.get(name, 1.0), name),
    )
    return FastestKernels(kernels[float32][0], kernels["bfloat16"][0], milliseconds)


# ---- shapes --------------------------------------------------------------------------------------


def _shapes(side: int) -> Counter[Shape]:
    """How often an evaluation of a square picture convolves each shape.

    That is VGG-19 up to relu5_1, forward and backward.
    """
    uses: Counter[Shape] = Counter()
    for layer in vgg.layers_up_to("E", {"conv5_1"}):
        if layer.kind == "conv":
            uses[layer.channels_in, layer.channels, side // layer.stride] += 1
            uses[layer.channels, layer.channels_in, side // layer.stride] += 1
    return uses


def _timed_shapes() -> list[Shape]:
    """The shapes to time: the smallest of each pair of channels, then quick and frequent ones."""
    uses = sum((_shapes(side) for side in _TIMED_SIDES), Counter[Shape]())
    shapes = [
        shape for shape in uses if shape[2] ** 2 * max(shape[:2]) <= _LARGE_MAP or shape[2] <= 64
    ]
    smallest = {shape[:2]: shape[2] for shape in sorted(shapes, reverse=True)}
    return sorted(
        shapes,
        key=lambda shape: (shape[2] > smallest[shape[:2]], _cost(shape) / uses[shape], shape),
    )


def _cost(shape: Shape) -> float:
    """A rough cost of a shape: its multiplications, and reading and writing its maps."""
    channels_in, channels_out, side = shape
    return side**2 * (9 * channels_in * channels_out + 100 * (channels_in + channels_out))


def _dtype(shape: Shape, kernel: Kernel) -> torch.dtype:
    """The type in which a kernel computes a shape; pixels and their gradient are never bfloat16."""
    return torch.float32 if 3 in shape[:2] else kernel.dtype


def _evaluation_seconds(seconds: Mapping[Shape, float]) -> float:
    """Seconds of all convolutions of one evaluation.

    A shape that was not timed is scaled from the nearest one with its channels.
    """
    total = 0.0
    for shape, count in _shapes(_PICTURE_SIDE).items():
        sides = [timed[2] for timed in seconds if timed[:2] == shape[:2]]
        if not sides:
            return math.inf
        nearest = min(sides, key=lambda side: abs(math.log2(side / shape[2])))
        total += count * seconds[(*shape[:2], nearest)] * (shape[2] / nearest) ** 2
    return total


# ---- timing --------------------------------------------------------------------------------------


class _Timer:
    """Times convolutions and layout conversions on one device with one clock."""

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.device, self.clock = device, clock
        self.generator = torch.Generator().manual_seed(0)
        self._conversions: dict[tuple[int, int, bool], float] = {}

    def time_methods(self) -> Timings:
        """Seconds of every working method, shape by shape, until the time is up."""
        timings: Timings = {}
        dtypes = [torch.float32, torch.bfloat16] if self.device.type == "cpu" else [torch.float32]
        shapes, started = _timed_shapes(), self.clock()
        share, required = _SECONDS / sum(map(_cost, shapes)), _shapes(_REQUIRED_SIDE)
        pairs = set[tuple[int, int]]()
        totals = dict.fromkeys(dtypes, 0.0)
        for shape in shapes:
            late = self.clock() - started > _SECONDS
            if shape[:2] in pairs and shape not in required and late:
                continue
            pairs.add(shape[:2])
            timed = dtypes if 3 not in shape[:2] else dtypes[:1]
            timings[shape] = self._time_shape(shape, timed, share * _cost(shape))
            if _is_emulated(timings[shape], totals):
                dtypes = [torch.float32]
        return {
            shape: {key: taken for key, taken in seconds.items() if key[1] in dtypes}
            for shape, seconds in timings.items()
        }

    def fastest_methods(
        self, base: Kernel, timings: Timings
    ) -> tuple[dict[Shape, str], dict[Shape, float]]:
        """The fastest method of every shape for maps in the layout of ``base``, and its seconds.

        NNPACK is used in its own layout only. In another it gains little, and tiles would have to
        be aligned to its blocks.
        """
        methods: dict[Shape, str] = {}
        seconds: dict[Shape, float] = {}
        for shape, candidates in timings.items():
            for (name, dtype), taken in candidates.items():
                if name == "nnpack" and base.channels_last:
                    continue
                # Conversions are timed only for methods that would win without them.
                if dtype == _dtype(shape, base) and taken < seconds.get(shape, math.inf):
                    taken += self._conversion_seconds(shape, base, name)
                    if taken < seconds.get(shape, math.inf):
                        methods[shape], seconds[shape] = name, taken
        return methods, seconds

    def _time_shape(self, shape: Shape, dtypes: list[torch.dtype], limit: float) -> Seconds:
        """The best time of each method of one shape.

        The methods take turns, so that a disturbance affects all of them.
        """
        tensors = self._random_tensors(shape)
        reference = functional.conv2d(*tensors, padding=1).relu_()
        started = self.clock()
        calls, best = self._working_methods(tensors, reference, dtypes)
        for _ in range(_ROUNDS):
            if self.clock() - started > limit:
                break
            for candidate, call in calls.items():
                best[candidate] = min(best[candidate], self._time(call)[0])
        return best

    def _working_methods(
        self,
        tensors: tuple[Tensor, Tensor, Tensor],
        reference: Tensor,
        dtypes: list[torch.dtype],
    ) -> tuple[dict[Candidate, Callable[[], Tensor]], Seconds]:
        """The methods that give the right result, and the seconds of a first call."""
        x, weight, bias = tensors
        calls: dict[Candidate, Callable[[], Tensor]] = {}
        seconds: Seconds = {}
        for dtype in dtypes:
            for names in _ALTERNATIVES[dtype]:
                for name in names:
                    if not has_method(name, self.device):
                        continue
                    call = self._call(name, x.to(dtype), weight, bias)
                    taken = self._seconds_if_right(call, reference, _TOLERANCES[dtype])
                    if taken is not None:
                        calls[name, dtype], seconds[name, dtype] = call, taken
                        break
        return calls, seconds

    def _random_tensors(self, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
        """A map, a weight and a bias."""
        into, out, side = shape
        x = torch.rand(1, into, side, side, generator=self.generator)
        weight = (torch.rand(out, into, 3, 3, generator=self.generator) - 0.5) / into
        bias = torch.rand(out, generator=self.generator) / 10
        return x.to(self.device), weight.to(self.device), bias.to(self.device)

    def _call(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
        method = METHODS[name]
        kernel = Kernel(name, x.dtype, method.memory_format == torch.channels_last, name)
        convolution = Convolution(weight, bias, kernel, "zero")
        x = x.contiguous(memory_format=method.memory_format)
        return lambda: convolution.forward(x, relu=True)

    def _seconds_if_right(
        self, call: Callable[[], Tensor], reference: Tensor, tolerance: float
    ) -> float | None:
        """Seconds of a method, or None if it fails or differs from conv2d in float32."""
        try:
            taken, result = self._time(call)
        except (RuntimeError, AttributeError):
            return None
        error = (result.float() - reference).abs().max()
        return taken if error <= tolerance * reference.abs().max() else None

    def _time(self, call: Callable[[], Tensor]) -> tuple[float, Tensor]:
        self._synchronize()
        started = self.clock()
        result = call()
        self._synchronize()
        return self.clock() - started, result

    def _synchronize(self) -> None:
        """Wait for a GPU, which computes asynchronously."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _conversion_seconds(self, shape: Shape, base: Kernel, name: str) -> float:
        """Seconds to convert the map to a method's layout and the result back."""
        memory_format = METHODS[name].memory_format
        if memory_format == base.memory_format:
            return 0.0
        last = memory_format == torch.channels_last
        return self._copy(shape[0], shape[2], last) + self._copy(shape[1], shape[2], not last)

    def _copy(self, channels: int, side: int, to_channels_last: bool) -> float:
        """Seconds to convert a map to channels-last, or from it."""
        key = channels, side, to_channels_last
        if key not in self._conversions:
            formats = (torch.contiguous_format, torch.channels_last)
            before, after = formats if to_channels_last else formats[::-1]
            x = torch.empty((1, channels, side, side), device=self.device, memory_format=before)
            x.fill_(1.0)
            self._conversions[key] = min(
                self._time(lambda: x.contiguous(memory_format=after))[0] for _ in range(2)
            )
        return self._conversions[key]


def _is_emulated(seconds: Seconds, totals: dict[torch.dtype, float]) -> bool:
    """Whether bfloat16 is emulated, from all timings so far.

    ``totals`` are the seconds so far by type; the best of ``seconds`` are added if every type is
    among them.
    """
    if {dtype for _, dtype in seconds} != totals.keys():
        return False
    for dtype in totals:
        totals[dtype] += min(taken for (_, other), taken in seconds.items() if other == dtype)
    limit = max(_EMULATED_SECONDS, _EMULATED_SLOWDOWN * totals[torch.float32])
    return totals.get(torch.bfloat16, 0.0) > limit
