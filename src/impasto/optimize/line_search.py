"""A line search for the strong Wolfe conditions, one evaluation at a time, on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

# Nocedal and Wright's constants for quasi-Newton methods, which are torch's as well: the share of
# the predicted decrease that must be reached, and the share of the slope that may remain.
LEAST_DECREASE, MOST_SLOPE = 1e-4, 0.9
MAX_EVALUATIONS = 25  # on one line; torch's value
_EXPANSION = 10.0  # the next trial is at most so many times as far while nothing bounds the search
_EDGE = 0.1  # share of a bracket, at either end, in which no trial is made


@dataclass(frozen=True)
class Point:
    """A distance along the line, the value of the function there, and its slope."""

    distance: float
    value: float
    slope: float


NOWHERE = Point(math.inf, math.nan, math.nan)


@dataclass(frozen=True)
class LineSearch:
    """A search along a line on which the function decreases from ``start``.

    Source: Nocedal and Wright, "Numerical Optimization" (2nd edition, 2006), algorithms 3.5 and
    3.6 with the cubic interpolation of equation 3.59. They are one here: until something bounds
    the search, ``high`` is infinitely far away. ``low`` is the lowest point that decreased enough,
    at first the start, and the minimum lies between it and ``high``.

    ``distance``: that of the next trial, or of the accepted point. ``longest``: no step is longer;
    one that decreased enough is accepted there whatever its slope. ``least``: a bracket narrower
    than this is not divided. ``returning``: whether the next evaluation is ``low`` again, because
    nothing better was found. ``failed``: nothing is lower than the start.
    """

    start: Point
    distance: float
    longest: float = math.inf
    least: float = 0.0
    low: Point = NOWHERE
    high: Point = NOWHERE
    evaluations: int = 0
    returning: bool = False
    accepted: bool = False
    failed: bool = False

    @classmethod
    def begin(
        cls,
        value: float,
        slope: float,
        first: float,
        longest: float = math.inf,
        least: float = 0.0,
    ) -> LineSearch:
        """Start at a point with this value and slope (below 0); ``first``: the first distance."""
        start = Point(0.0, value, slope)
        return cls(start, min(first, longest), longest, least, low=start)

    def after(self, value: float, slope: float) -> LineSearch:
        """The search after an evaluation at ``distance``; value and slope may be no numbers."""
        here, low, high = Point(self.distance, value, slope), self.low, self.high
        if not (math.isfinite(value) and math.isfinite(slope)) or self._too_high(here):
            high = here
        elif self._acceptable(here):
            return replace(self, low=here, evaluations=self.evaluations + 1, accepted=True)
        else:
            if slope * (high.distance - low.distance) >= 0:
                high = low  # the minimum lies behind
            low = here
        search = replace(self, low=low, high=high, evaluations=self.evaluations + 1)
        if search._exhausted:
            return search._return_to_low(here)
        if math.isfinite(high.distance):
            return replace(search, distance=_between(low, high))
        return replace(search, distance=min(_beyond(self.low, low), self.longest))

    def to_numbers(self) -> list[float]:
        """The complete state as numbers."""
        return [
            float(number)
            for value in astuple(self)
            for number in (value if isinstance(value, tuple) else (value,))
        ]

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> LineSearch:
        """The inverse of ``to_numbers``."""
        start, low, high = (Point(*numbers[index : index + 3]) for index in (0, 6, 9))
        distance, longest, least = numbers[3:6]
        returning, accepted, failed = (bool(number) for number in numbers[13:])
        evaluations = int(numbers[12])
        return cls(
            *(start, distance, longest, least, low, high),
            *(evaluations, returning, accepted, failed),
        )

    @property
    def _exhausted(self) -> bool:
        """Whether no further trial is worth an evaluation."""
        narrow = abs(self.high.distance - self.low.distance) <= self.least
        return self.returning or self.evaluations >= MAX_EVALUATIONS or narrow

    def _too_high(self, here: Point) -> bool:
        enough = self.start.value + LEAST_DECREASE * here.distance * self.start.slope
        return here.value > enough or (here.value >= self.low.value and not self.returning)

    def _acceptable(self, here: Point) -> bool:
        flat = abs(here.slope) <= -MOST_SLOPE * self.start.slope
        return self.returning or flat or here.distance >= self.longest

    def _return_to_low(self, here: Point) -> LineSearch:
        """End with ``low``, which is evaluated again unless it is the point just evaluated."""
        if self.returning or self.low == self.start:
            return replace(self, failed=True)
        accepted = self.low == here
        return replace(self, distance=self.low.distance, returning=True, accepted=accepted)


def _between(low: Point, high: Point) -> float:
    """The next trial inside a bracket, not too close to its ends."""
    first, last = sorted((low.distance, high.distance))
    edge = _EDGE * (last - first)
    return _minimum(low, high, first + edge, last - edge)


def _beyond(before: Point, here: Point) -> float:
    """The next trial farther out."""
    least = here.distance + 0.01 * (here.distance - before.distance)
    return _minimum(before, here, least, _EXPANSION * here.distance)


def _minimum(one: Point, other: Point, least: float, most: float) -> float:
    """The minimum of the cubic through two points, within bounds; their middle if it has none."""
    distance = other.distance - one.distance
    d1 = one.slope + other.slope - 3 * (other.value - one.value) / distance
    square = d1 * d1 - one.slope * other.slope
    if not square >= 0:
        return (least + most) / 2
    d2 = math.copysign(math.sqrt(square), distance)
    divisor = other.slope - one.slope + 2 * d2
    minimum = other.distance - distance * (other.slope + d2 - d1) / divisor if divisor else math.nan
    return min(max(minimum, least), most) if math.isfinite(minimum) else (least + most) / 2
