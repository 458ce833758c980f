"""Which way to convolve is the fastest on this machine: every method on every shape that VGG has,
timed once.

It knows the shapes of the networks and a clock, and passes over a method that is missing or wrong.
It refuses to know where a choice is kept.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from impasto.networks import vgg
from impasto.networks.convolution import KERNELS, METHODS, Convolution, Kernel, Shape, has

# For all shapes; after it only those without which the choice is wrong: measured, 8 s choose no
# better.
_SECONDS = 2.0
_ROUNDS = 3
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest value
_WORTH = 1.3  # how much faster bfloat16 must be to be worth its rounding
# How much slower than float32 it may be before it is given up: the processor emulates it.
_HOPELESS = 3.0
_ENOUGH = 0.05  # seconds of it before that is said; the first calls of a shape are slow by either
# How much faster NNPACK must be: its blocks round differently in tiles, and its layout pools
# slowly.
_WORTH_BLOCKS = 1.05
_LOOKING = 0.1  # seconds to see whether other programs hold the cores
_UNDISTURBED = 0.75  # of the threads' time is spent on a core
_SIDE = 512  # of the picture for which kernels are compared
_SIDES = (128, 256, 512)  # of the pictures whose maps are timed
# That of a picture all of whose maps are timed: smaller maps tell wrong of larger ones.
_ALWAYS = 256
_LARGE = 2**22  # numbers in a map; what holds for this many holds for more

# The methods by type, as they stand in for each other: of each row the first that is there and
# right is timed.
_ROWS = {
    torch.float32: (("conv2d",), ("nnpack",), ("packed", "channels-last")),
    torch.bfloat16: (("packed", "channels-last"),),
}
Clock = Callable[[], float]
Candidate = tuple[str, torch.dtype]  # a method and the type it computes in
Times = dict[Shape, dict[Candidate, float]]  # seconds


@dataclass(frozen=True)
class Choice:
    """The fastest kernel of float32, that of bfloat16, and the milliseconds of one evaluation's
    convolutions by kernel.

    ``milliseconds`` has no bfloat16 where it was given up.
    """

    float32: Kernel
    bfloat16: Kernel
    milliseconds: Mapping[str, float]

    @property
    def auto(self) -> Kernel:
        """What is taken where nobody asks for a precision."""
        half = self.milliseconds.get(self.bfloat16.name, math.inf)
        return (
            self.bfloat16 if half * _WORTH <= self.milliseconds[self.float32.name] else self.float32
        )

    @property
    def plain(self) -> dict[str, Any]:
        """The choice as plain values, from which ``of`` makes it again."""
        return {
            "float32": self.float32.text,
            "bfloat16": self.bfloat16.text,
            "milliseconds": dict(self.milliseconds),
        }

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Choice:
        """The choice of what ``plain`` gave.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is no such thing.
        """
        milliseconds = {name: float(taken) for name, taken in plain["milliseconds"].items()}
        float32, bfloat16 = Kernel.parse(plain["float32"]), Kernel.parse(plain["bfloat16"])
        if float32.name not in milliseconds or bfloat16.name != "bfloat16":
            raise ValueError("the chosen kernel has no time, or another place")
        return Choice(float32, bfloat16, milliseconds)


def choose(device: torch.device, clock: Clock = time.perf_counter) -> Choice:
    """Time what there is on ``device``: in each layout the fastest method of every shape, and then
    the faster layout.

    A method that wants another layout than the maps have pays for the way there and back. Where
    other programs hold the cores, one thread is timed: several would wait for each other, many
    times as long as any method takes.
    """
    bench = _Bench(device, clock)
    with torch.no_grad(), _one_thread() if device.type == "cpu" and _disturbed() else nullcontext():
        times = bench.times()
        found: dict[str, tuple[Kernel, float]] = {}
        for base in (KERNELS["conv2d"], KERNELS["channels-last"], KERNELS["bfloat16"]):
            methods, seconds = bench.fastest(base, times)
            if "nnpack" in methods.values():
                base = KERNELS["nnpack"]
            found[base.name] = replace(base, methods=methods), _evaluation(seconds)
    milliseconds = {
        name: round(seconds * 1e3, 1)
        for name, (_, seconds) in found.items()
        if math.isfinite(seconds)
    }
    worth = {"nnpack": _WORTH_BLOCKS}
    float32 = min(
        milliseconds.keys() - {"bfloat16"},
        key=lambda name: (milliseconds[name] * worth.get(name, 1.0), name),
    )
    return Choice(found[float32][0], found["bfloat16"][0], milliseconds)


def _disturbed() -> bool:
    """Whether the threads of a convolution do not get the cores that they should have."""
    x, weight = torch.ones(1, 64, 64, 64), torch.ones(64, 64, 3, 3)
    functional.conv2d(x, weight)
    begun, spent = time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < _LOOKING:
        functional.conv2d(x, weight)
    return time.process_time() - spent < _UNDISTURBED * torch.get_num_threads() * (
        time.perf_counter() - begun
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _shapes(picture: int) -> Counter[Shape]:
    """How often an evaluation of a square picture convolves each shape: VGG-19 up to relu5_1,
    forward and back.
    """
    found: Counter[Shape] = Counter()
    for layer in vgg.cut("E", {"conv5_1"}):
        if layer.kind == "conv":
            found[layer.channels_in, layer.channels, picture // layer.stride] += 1
            found[layer.channels, layer.channels_in, picture // layer.stride] += 1
    return found


def _timed() -> list[Shape]:
    """The shapes to be timed: of each pair of channels the smallest, then the others, quick and
    much used ones first.
    """
    uses = sum((_shapes(picture) for picture in _SIDES), Counter[Shape]())
    found = [shape for shape in uses if shape[2] ** 2 * max(shape[:2]) <= _LARGE or shape[2] <= 64]
    smallest = {(into, out): side for into, out, side in sorted(found, reverse=True)}
    return sorted(
        found, key=lambda shape: (shape[2] > smallest[shape[:2]], _work(shape) / uses[shape], shape)
    )


def _work(shape: Shape) -> float:
    """About how long a shape takes: its multiplications, and what it costs to read and write its
    maps.
    """
    into, out, side = shape
    return side**2 * (9 * into * out + 100 * (into + out))


def _dtype(shape: Shape, kernel: Kernel) -> torch.dtype:
    """The type in which a kernel computes a shape: pixels, and their gradient, are never rounded to
    bfloat16.
    """
    return torch.float32 if 3 in shape[:2] else kernel.dtype


def _evaluation(seconds: Mapping[Shape, float]) -> float:
    """Seconds of all convolutions of one evaluation; a shape that was not timed goes by the nearest
    of its channels.
    """
    total = 0.0
    for shape, count in _shapes(_SIDE).items():
        sides = [timed[2] for timed in seconds if timed[:2] == shape[:2]]
        if not sides:
            return math.inf
        nearest = min(sides, key=lambda side: abs(math.log2(side / shape[2])))
        total += count * seconds[(*shape[:2], nearest)] * (shape[2] / nearest) ** 2
    return total


class _Bench:
    """One device and one clock, and what they have shown so far of copies from one layout into the
    other.
    """

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.device, self.clock = device, clock
        self.generator = torch.Generator().manual_seed(0)
        self._copies: dict[tuple[int, int, bool], float] = {}

    def times(self) -> Times:
        """Seconds of every method that is there and right, shape by shape, until the time is up."""
        found: Times = {}
        dtypes = [torch.float32, torch.bfloat16] if self.device.type == "cpu" else [torch.float32]
        shapes, begun = _timed(), self.clock()
        share, always = _SECONDS / sum(map(_work, shapes)), _shapes(_ALWAYS)
        pairs = set[tuple[int, int]]()
        spent = dict.fromkeys(dtypes, 0.0)
        for shape in shapes:
            if shape[:2] in pairs and shape not in always and self.clock() - begun > _SECONDS:
                continue
            pairs.add(shape[:2])
            row = found[shape] = self._shape(
                shape, dtypes if 3 not in shape[:2] else dtypes[:1], share * _work(shape)
            )
            if {dtype for _, dtype in row} == spent.keys():
                for dtype in dtypes:
                    spent[dtype] += min(taken for (_, of), taken in row.items() if of == dtype)
                if spent[dtypes[-1]] > max(_ENOUGH, _HOPELESS * spent[torch.float32]):
                    dtypes = dtypes[:1]
        return {
            shape: {key: taken for key, taken in row.items() if key[1] in dtypes}
            for shape, row in found.items()
        }

    def fastest(self, base: Kernel, times: Times) -> tuple[dict[Shape, str], dict[Shape, float]]:
        """The fastest method of every shape for maps in the layout of ``base``, and its seconds.

        NNPACK is for its own layout alone: for the little that it gains in another, tiles would
        have to lie on its blocks.
        """
        methods: dict[Shape, str] = {}
        seconds: dict[Shape, float] = {}
        for shape, row in times.items():
            for (name, dtype), taken in row.items():
                if name == "nnpack" and base.channels_last:
                    continue
                # The way there and back is timed only for what would win without it.
                if dtype == _dtype(shape, base) and taken < seconds.get(shape, math.inf):
                    taken += self._there_and_back(shape, base, name)
                    if taken < seconds.get(shape, math.inf):
                        methods[shape], seconds[shape] = name, taken
        return methods, seconds

    def _shape(
        self, shape: Shape, dtypes: list[torch.dtype], share: float
    ) -> dict[Candidate, float]:
        """The methods of one shape in turn, so that what disturbs one disturbs all, and the best
        time of each.
        """
        into, out, side = shape
        x = torch.rand(1, into, side, side, generator=self.generator).to(self.device)
        weight = ((torch.rand(out, into, 3, 3, generator=self.generator) - 0.5) / into).to(
            self.device
        )
        bias = (torch.rand(out, generator=self.generator) / 10).to(self.device)
        reference = functional.conv2d(x, weight, bias, padding=1).relu_()
        calls: dict[Candidate, Callable[[], Tensor]] = {}
        best: dict[Candidate, float] = {}
        begun = self.clock()
        for dtype in dtypes:
            for row in _ROWS[dtype]:
                for name in row:
                    call = self._call(name, x.to(dtype), weight, bias)
                    taken = (
                        self._right(call, reference, _TOLERANCES[dtype])
                        if has(name, self.device)
                        else None
                    )
                    if taken is not None:
                        calls[name, dtype], best[name, dtype] = call, taken
                        break
        for _ in range(_ROUNDS):
            if self.clock() - begun > share:
                break
            for candidate, call in calls.items():
                best[candidate] = min(best[candidate], self._seconds(call)[0])
        return best

    def _call(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
        method = METHODS[name]
        kernel = Kernel(name, x.dtype, method.form == torch.channels_last, name)
        convolution = Convolution(weight, bias, kernel, "zero")
        x = x.contiguous(memory_format=method.form)
        return lambda: convolution.forward(x, relu=True)

    def _right(
        self, call: Callable[[], Tensor], reference: Tensor, tolerance: float
    ) -> float | None:
        """Seconds of a method that gives what conv2d gives in float32. One that fails is as good as
        missing.
        """
        try:
            taken, found = self._seconds(call)
        except (RuntimeError, AttributeError):
            return None
        error = (found.float() - reference).abs().max()
        return taken if error <= tolerance * reference.abs().max() else None

    def _seconds(self, call: Callable[[], Tensor]) -> tuple[float, Tensor]:
        self._wait()
        begun = self.clock()
        found = call()
        self._wait()
        return self.clock() - begun, found

    def _wait(self) -> None:
        """A device that is not the processor is told what to do and does it later."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _there_and_back(self, shape: Shape, base: Kernel, name: str) -> float:
        form = METHODS[name].form
        if form == base.memory_format:
            return 0.0
        last = form == torch.channels_last
        return self._copy(shape[0], shape[2], last) + self._copy(shape[1], shape[2], not last)

    def _copy(self, channels: int, side: int, last: bool) -> float:
        """Seconds to put a map into channels-last order, or out of it."""
        key = channels, side, last
        if key not in self._copies:
            forms = (
                (torch.contiguous_format, torch.channels_last)
                if last
                else (torch.channels_last, torch.contiguous_format)
            )
            x = torch.empty(
                (1, channels, side, side), device=self.device, memory_format=forms[0]
            ).fill_(1.0)
            self._copies[key] = min(
                self._seconds(lambda: x.contiguous(memory_format=forms[1]))[0] for _ in range(2)
            )
        return self._copies[key]
