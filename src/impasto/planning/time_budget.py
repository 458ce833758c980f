"""Choose the size and the number of evaluations for a given time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from functools import partial

from impasto.geometry import Size
from impasto.planning.schedule import LARGEST_SIDE, least_side
from impasto.recipe.records import Recipe

_SIDES = (
    128,
    192,
    256,
    320,
    384,
    448,
    *(factor * 2**power for power in range(9, 14) for factor in (1, 1.25, 1.5, 1.75)),
)

# Of the recipe's evaluations: fewer than this share in a smaller size makes the better picture,
# more than the last is spent on a larger one, and with less than the least nothing is painted.
_LEAST_EFFORT, _GOOD_EFFORT, _MOST_EFFORT = 0.15, 0.6, 3.0


def within(
    seconds: float,
    recipe: Recipe,
    photo: Size,
    cost: Callable[[Recipe], float],
    fixed: Set[str] = frozenset(),
) -> Recipe:
    """The recipe with the size and the evaluations that make the best picture in ``seconds``.

    As large as leaves a good share of the recipe's evaluations, up to the photo's own size; what
    time is left over goes into more of them. ``cost`` gives the seconds of a recipe; ``fixed`` may
    hold "size" and "iterations", which stay.
    """

    if "size" not in fixed:
        recipe = recipe.model_copy(update={"side": "long"})  # by which the sizes below are measured

    def changed(side: int, effort: float) -> Recipe:
        counts = recipe.schedule.iterations
        if "iterations" not in fixed:
            counts = tuple(max(1, round(count * effort)) for count in counts)
        new = recipe.schedule.model_copy(update={"iterations": counts})
        return recipe.model_copy(update={"schedule": new, "size": side})

    def fits(side: int, effort: float) -> bool:
        return cost(changed(side, effort)) <= seconds

    sides = [recipe.size] if "size" in fixed else list(_possible(photo))
    if "iterations" in fixed:
        return changed(next((side for side in reversed(sides) if fits(side, 1.0)), sides[0]), 1.0)
    for effort, among in ((_GOOD_EFFORT, sides), (_LEAST_EFFORT, sides[:1])):
        side = next((side for side in reversed(among) if fits(side, effort)), None)
        if side is not None:
            return changed(side, _most(partial(fits, side), effort))
    return changed(sides[0], _LEAST_EFFORT)


def _possible(photo: Size) -> Iterable[int]:
    """Long sides to choose from: up to the photo's own, and no short side too small for the
    network.
    """
    least, most = least_side(photo), min(photo.long_side, LARGEST_SIDE)
    sides = sorted({int(side) for side in (*_SIDES, most) if least <= side <= most})
    return sides or [least]


def _most(fits: Callable[[float], bool], least: float) -> float:
    """The largest effort that fits, to a hundredth."""
    low, high = least, _MOST_EFFORT
    if fits(high):
        return high
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
