"""How long an evaluation takes on this machine, measured at two small sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.planning.memory import FRESH_MEMORY_FACTOR, WHOLE, ExecutionPlan, tiled
from impasto.planning.schedule import Plan, least_side

_PROBE_SIDES = (128, 256)  # long sides at which the machine is timed
# Evaluations that are timed, and as many as setting a stage up takes as long as.
_PROBES, _SETUP = 3, 2


def work(network: Network) -> float:
    """Multiplications of one look at a pixel: how much one cut of a network costs, against another."""
    return sum(
        9 * row.channels_in * row.channels / row.stride**2
        for row in network.layers
        if row.kind == "conv"
    )


@dataclass(frozen=True)
class Speed:
    """What two small sizes took on this machine: pixels, seconds to set a stage up, and seconds of
    one evaluation.
    """

    small: tuple[int, float, float]
    large: tuple[int, float, float]

    def seconds(self, plan: Plan, network: Network, way: ExecutionPlan = WHOLE) -> float:
        """The time that a plan will take; an evaluation's is a constant and a part that grows with
        the pixels.
        """

        def evaluation(size: Size) -> float:
            grid = network.grid(size, way.tile)
            return (
                tiled(grid, way.kept)
                * (1 if way.reuse else FRESH_MEMORY_FACTOR)
                * self._evaluation(size)
            )

        stages = sum(
            self._setup(stage.size) + evaluation(stage.size) * stage.steps for stage in plan.stages
        )
        return stages + evaluation(plan.size)  # the finished picture is evaluated once more

    def typical(self, plan: Plan) -> float:
        """The time of a plan that is held whole, roughly."""
        return sum(
            self._setup(stage.size) + self._evaluation(stage.size) * stage.steps
            for stage in plan.stages
        )

    def _setup(self, size: Size) -> float:
        return _along(size.pixels, self.small[0], self.small[1], self.large[0], self.large[1])

    def _evaluation(self, size: Size) -> float:
        return _along(size.pixels, self.small[0], self.small[2], self.large[0], self.large[2])


def speed(
    size: Size,
    prepare: Callable[[Size], Callable[[], object]],
    where: torch.device,
    allowed: float = math.inf,
) -> Speed:
    """Time this machine at two small sizes of the shape of ``size``, as far as that takes no more
    than ``allowed`` seconds.

    ``prepare(size)`` sets up a stage of that size and gives what one evaluation of it is. Where
    there is no time for either size, the speed is guessed; where there is time for one, it is taken
    to be in proportion to the pixels.
    """
    least = least_side(size)
    sides = dict.fromkeys(min(max(side, least), size.long_side) for side in _PROBE_SIDES)
    found: list[tuple[int, float, float]] = []
    pixel = guess(size, where).large[2] / size.pixels
    for side in sides:
        at = size.with_long_side(side)
        if (_PROBES + _SETUP) * pixel * at.pixels > allowed:
            break
        begun = time.perf_counter()
        found.append(_timed(at, prepare, where))
        allowed -= time.perf_counter() - begun
        pixel = found[-1][2] / at.pixels
    return Speed(found[0], found[-1]) if found else guess(size, where)


def guess(size: Size, where: torch.device) -> Speed:
    """A machine's speed before anything is timed: that of two processor cores, or of a small
    graphics processor.
    """
    evaluation = size.pixels * (1e-5 if where.type == "cpu" else 2e-7)
    point = (size.pixels, _SETUP * evaluation, evaluation)
    return Speed(point, point)


def _timed(
    size: Size, prepare: Callable[[Size], Callable[[], object]], where: torch.device
) -> tuple[int, float, float]:
    """Pixels, seconds to set up, and seconds of one evaluation: the better of two after a warm-up."""
    start = time.perf_counter()
    evaluate = prepare(size)
    setup = time.perf_counter() - start
    best = float("inf")
    for _ in range(_PROBES):
        start = time.perf_counter()
        evaluate()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        best = min(best, time.perf_counter() - start)
    return size.pixels, setup, best


def _along(pixels: int, small: int, at_small: float, large: int, at_large: float) -> float:
    """The line through two measurements, at ``pixels``; it neither falls nor starts below 0."""
    slope = max(0.0, (at_large - at_small) / (large - small)) if large > small else at_large / large
    constant = max(0.0, at_large - slope * large)
    return constant + slope * pixels
