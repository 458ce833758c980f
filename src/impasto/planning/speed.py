"""Measure how long an evaluation takes on this machine, and extrapolate to a schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.planning.memory import WHOLE, ExecutionPlan, evaluation_factor
from impasto.planning.schedule import Plan, least_side

# ``build(size)`` sets up a stage of that size and returns a function that makes one evaluation.
Build = Callable[[Size], Callable[[], object]]

# Long sides in pixels at which the machine is timed, as far as the time allows. At 64 px most of
# an evaluation is the part that does not grow with the picture, so two sizes give both parts.
_PROBE_SIDES = (64, 128, 256, 512)
_PROBES = 3  # timed evaluations at each size
_SETUP = 1  # setting up a stage takes about as long as so many evaluations


def multiplications(network: Network) -> float:
    """Multiplications per pixel of a network, to compare the cost of two networks."""
    return sum(
        9 * layer.channels_in * layer.channels / layer.stride**2
        for layer in network.layers
        if layer.kind == "conv"
    )


@dataclass(frozen=True)
class Speed:
    """Two points: pixels, seconds to set up a stage, and seconds of one evaluation.

    ``guessed``: whether they were not both measured.
    """

    small: tuple[int, float, float]
    large: tuple[int, float, float]
    guessed: bool = False

    def seconds(self, plan: Plan, network: Network, execution: ExecutionPlan = WHOLE) -> float:
        """The time that a schedule takes, the final evaluation included.

        The time of an evaluation is a constant and a part proportional to the pixels.
        """

        def evaluation(size: Size) -> float:
            grid = network.grid(size, execution.tile)
            return evaluation_factor(execution, grid) * self.evaluation(size)

        stages = sum(
            self._setup(stage.size) + evaluation(stage.size) * stage.steps for stage in plan.stages
        )
        return stages + evaluation(plan.size)

    def rough_seconds(self, plan: Plan) -> float:
        """The time of a schedule without tiles, without the final evaluation."""
        return sum(
            self._setup(stage.size) + self.evaluation(stage.size) * stage.steps
            for stage in plan.stages
        )

    def through(self, measured: tuple[int, float, float]) -> Speed:
        """These points, scaled so that the line goes through a measurement."""
        pixels, setup, evaluation = measured
        size = Size(1, pixels)
        by_setup, by_evaluation = setup / self._setup(size), evaluation / self.evaluation(size)
        small, large = (
            (at, by_setup * seconds, by_evaluation * one)
            for at, seconds, one in (self.small, self.large)
        )
        return Speed(small, large, self.guessed)

    def _setup(self, size: Size) -> float:
        return _line(size.pixels, self.small[0], self.small[1], self.large[0], self.large[1])

    def evaluation(self, size: Size) -> float:
        """Seconds of one evaluation without tiles."""
        return _line(size.pixels, self.small[0], self.small[2], self.large[0], self.large[2])


def measure_speed(
    size: Size, build: Build, device: torch.device, seconds: float = math.inf
) -> Speed:
    """Time this machine at small sizes of the shape of ``size``, in at most ``seconds``.

    The result has the smallest and the largest of them. Where there is time for one size only, the
    guessed speed is scaled to it. Where there is time for none, it is the guessed speed.

    What the first evaluation of a process takes longer does not count as time: the run would take
    it too.
    """
    least = least_side(size)
    sides = dict.fromkeys(min(max(side, least), size.long_side) for side in _PROBE_SIDES)
    measurements: list[tuple[int, float, float]] = []
    speed = guess_speed(size, device)
    for side in sides:
        probe = size.with_long_side(side)
        if (_PROBES + _SETUP) * speed.evaluation(probe) > seconds:
            break
        measurements.append(_measure(probe, build, device))
        _, setup, evaluation = measurements[-1]
        seconds -= setup + _PROBES * evaluation
        if len(measurements) == 1:
            speed = speed.through(measurements[0])
        else:
            speed = Speed(measurements[0], measurements[-1])
    return speed


def guess_speed(size: Size, device: torch.device) -> Speed:
    """The speed of two processor cores, or of a small GPU, before anything is measured.

    At 64 px most of an evaluation is the constant part: eigenvalues do not depend on the pixels.
    """
    constant, by_pixel = (0.03, 7e-6) if device.type == "cpu" else (0.01, 2e-7)

    def point(pixels: int) -> tuple[int, float, float]:
        evaluation = constant + by_pixel * pixels
        return pixels, _SETUP * evaluation, evaluation

    return Speed(point(1), point(max(size.pixels, 2)), guessed=True)


def _measure(size: Size, build: Build, device: torch.device) -> tuple[int, float, float]:
    """Pixels, seconds to set up, and seconds of the fastest evaluation."""
    start = time.perf_counter()
    evaluate = build(size)
    setup = time.perf_counter() - start
    fastest = math.inf
    for _ in range(_PROBES):
        start = time.perf_counter()
        evaluate()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - start)
    return size.pixels, setup, fastest


def _line(pixels: int, small: int, at_small: float, large: int, at_large: float) -> float:
    """The line through two measurements, at ``pixels``. It does not fall or start below 0."""
    slope = max(0.0, (at_large - at_small) / (large - small)) if large > small else at_large / large
    constant = max(0.0, at_large - slope * large)
    return constant + slope * pixels
