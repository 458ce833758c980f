"""How far to go along a line: the strong Wolfe conditions, looked for one evaluation at a time.

It knows heights and slopes at distances along the line, as plain numbers. It refuses to know what
lies there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

# Nocedal and Wright's numbers for quasi-Newton methods, which are torch's as well: of the fall that
# the first slope promises so much must come true, and of its steepness so much may be left.
LEAST_FALL, MOST_SLOPE = 1e-4, 0.9
MAX_EVALUATIONS = 25  # at one line, as torch has it
_FARTHEST = 10.0  # times as far as before, while nothing bounds the search
_EDGE = 0.1  # of a bracket, at either end, where no look is worth its while


@dataclass(frozen=True)
class Point:
    """A distance along the line, the height there, and the slope along the line."""

    distance: float
    height: float
    slope: float


NOWHERE = Point(math.inf, math.nan, math.nan)


@dataclass(frozen=True)
class LineSearch:
    """A search along a line that goes down from ``start``: where to look next, and what has been
    seen.

    Source: Nocedal and Wright, "Numerical Optimization" (2nd edition, 2006), algorithms 3.5 and 3.6
    with the cubic interpolation of equation 3.59. They are one here: until something bounds the
    search, ``high`` is infinitely far away. ``low`` is the lowest point that has fallen enough, at
    first the start, and the minimum lies between it and ``high``.

    ``distance`` is where to look next, or what has been found. No step is longer than ``longest``:
    one that fell enough is taken there, however steep it still is. A bracket narrower than
    ``least`` is not looked into any more.
    """

    start: Point
    distance: float
    longest: float = math.inf
    least: float = 0.0
    low: Point = NOWHERE
    high: Point = NOWHERE
    looks: int = 0
    returning: bool = False  # to ``low``, since nothing better is to be had
    found: bool = False
    failed: bool = False  # nothing is lower than the start

    @classmethod
    def along(
        cls,
        height: float,
        slope: float,
        first: float,
        longest: float = math.inf,
        least: float = 0.0,
    ) -> LineSearch:
        """A search from a point with this height and slope (below 0), ``first`` being the distance
        to look at first.
        """
        start = Point(0.0, height, slope)
        return cls(start, min(first, longest), longest, least, low=start)

    def after(self, height: float, slope: float) -> LineSearch:
        """The search after a look: height and slope as they are at ``distance``, numbers or not."""
        here, low, high = Point(self.distance, height, slope), self.low, self.high
        if not (math.isfinite(height) and math.isfinite(slope)) or self._too_high(here):
            high = here
        elif (
            self.returning
            or abs(slope) <= -MOST_SLOPE * self.start.slope
            or here.distance >= self.longest
        ):
            return replace(self, low=here, looks=self.looks + 1, found=True)
        else:
            if slope * (high.distance - low.distance) >= 0:
                high = low  # the minimum was passed on the way here
            low = here
        seen = replace(self, low=low, high=high, looks=self.looks + 1)
        if (
            self.returning
            or seen.looks >= MAX_EVALUATIONS
            or abs(high.distance - low.distance) <= self.least
        ):
            return seen._back(here)
        if math.isfinite(high.distance):
            return replace(seen, distance=_between(low, high))
        return replace(seen, distance=min(_beyond(self.low, low), self.longest))

    def numbers(self) -> list[float]:
        """Everything that it knows."""
        return [
            float(number)
            for value in astuple(self)
            for number in (value if isinstance(value, tuple) else (value,))
        ]

    @classmethod
    def of(cls, numbers: Sequence[float]) -> LineSearch:
        """The inverse of ``numbers``."""
        start, low, high = (Point(*numbers[at : at + 3]) for at in (0, 6, 9))
        distance, longest, least = numbers[3:6]
        looks, returning, found, failed = map(int, numbers[12:])
        return cls(
            start,
            distance,
            longest,
            least,
            low,
            high,
            looks,
            bool(returning),
            bool(found),
            bool(failed),
        )

    def _too_high(self, here: Point) -> bool:
        fallen = self.start.height + LEAST_FALL * here.distance * self.start.slope
        return here.height > fallen or (here.height >= self.low.height and not self.returning)

    def _back(self, here: Point) -> LineSearch:
        """The end of a search that comes to nothing better than ``low``, which is looked at again
        unless we are there.
        """
        if self.returning or self.low == self.start:
            return replace(self, failed=True)
        return replace(self, distance=self.low.distance, returning=True, found=self.low == here)


def _between(low: Point, high: Point) -> float:
    """Where to look in a bracket, not too near to its ends."""
    first, last = sorted((low.distance, high.distance))
    edge = _EDGE * (last - first)
    return _minimum(low, high, first + edge, last - edge)


def _beyond(before: Point, here: Point) -> float:
    """Where to look farther out."""
    least = here.distance + 0.01 * (here.distance - before.distance)
    return _minimum(before, here, least, _FARTHEST * here.distance)


def _minimum(one: Point, other: Point, least: float, most: float) -> float:
    """That of the cubic through two points, within bounds; the middle of these where it has none."""
    apart = other.distance - one.distance
    bend = one.slope + other.slope - 3 * (other.height - one.height) / apart
    square = bend * bend - one.slope * other.slope
    if not square >= 0:
        return (least + most) / 2
    root = math.copysign(math.sqrt(square), apart)
    across = other.slope - one.slope + 2 * root
    found = other.distance - apart * (other.slope + root - bend) / across if across else math.nan
    return min(max(found, least), most) if math.isfinite(found) else (least + most) / 2
