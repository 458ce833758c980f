"""Choose the size and the number of evaluations for a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from impasto.geometry import Size
from impasto.planning.schedule import LARGEST_SIDE, least_side
from impasto.recipe.records import Recipe

_SIDES = (
    *(128, 192, 256, 320, 384, 448),
    *(int(factor * 2**power) for power in range(9, 14) for factor in (1, 1.25, 1.5, 1.75)),
)

# Shares of the recipe's evaluations. With less than the good share a smaller size makes the better
# picture. With less than the least share nothing is painted. More than the most is spent on a
# larger size.
_LEAST_EFFORT, _GOOD_EFFORT, _MOST_EFFORT = 0.15, 0.6, 3.0
# The share of the time that painting may take; the rest is for reading and writing.
_PAINTING_SHARE = 0.95


@dataclass(frozen=True)
class TimeBudget:
    """The time that a picture may take.

    ``seconds`` count from ``started``, a ``time.monotonic()``. ``fixed`` may hold "size" and
    "iterations": settings that the user gave, which are not chosen.
    """

    seconds: float
    fixed: frozenset[str] = frozenset()
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """The seconds that are left for painting."""
        return self.seconds * _PAINTING_SHARE - (time.monotonic() - self.started)

    @property
    def chooses_size(self) -> bool:
        return "size" not in self.fixed


def best_recipe(
    seconds: float,
    recipe: Recipe,
    photo: Size,
    cost: Callable[[Recipe], float],
    fixed: frozenset[str] = frozenset(),
) -> Recipe:
    """Change size and evaluations of a recipe to the best picture in ``seconds``.

    The size is as large as leaves a good share of the recipe's evaluations, up to the photo's own
    size. The remaining time is spent on more evaluations. ``cost`` gives the seconds of a recipe.
    ``fixed`` may hold "size" and "iterations", which stay.
    """
    if "size" not in fixed:
        recipe = recipe.model_copy(update={"side": "long"})  # the sizes below are long sides

    def changed(side: int, effort: float) -> Recipe:
        counts = recipe.schedule.iterations
        if "iterations" not in fixed:
            counts = tuple(max(1, round(count * effort)) for count in counts)
        schedule = recipe.schedule.model_copy(update={"iterations": counts})
        return recipe.model_copy(update={"schedule": schedule, "size": side})

    def fits(side: int, effort: float) -> bool:
        return cost(changed(side, effort)) <= seconds

    sides = [recipe.size] if "size" in fixed else list(_sides(photo))
    if "iterations" in fixed:
        return changed(next((side for side in reversed(sides) if fits(side, 1.0)), sides[0]), 1.0)
    for effort, candidates in ((_GOOD_EFFORT, sides), (_LEAST_EFFORT, sides[:1])):
        largest = next((side for side in reversed(candidates) if fits(side, effort)), None)
        if largest is not None:
            return changed(largest, _most_effort(partial(fits, largest), effort))
    return changed(sides[0], _LEAST_EFFORT)


def _sides(photo: Size) -> Iterable[int]:
    """Long sides to choose from: at most the photo's own, at least what the network needs."""
    least, most = least_side(photo), min(photo.long_side, LARGEST_SIDE)
    sides = sorted({side for side in (*_SIDES, most) if least <= side <= most})
    return sides or [least]


def _most_effort(fits: Callable[[float], bool], least: float) -> float:
    """The largest effort that fits, to a hundredth."""
    low, high = least, _MOST_EFFORT
    if fits(high):
        return high
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
