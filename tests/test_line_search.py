"""A step that a line search accepts meets the strong Wolfe conditions, and every search comes to an
end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.optimize.line_search import LEAST_DECREASE, MAX_EVALUATIONS, MOST_SLOPE, LineSearch

Line = Callable[[float], tuple[float, float]]  # distance -> height and slope

# All go down from 0. The first two: Moré and Thuente, "Line Search Algorithms with Guaranteed
# Sufficient Decrease" (1994), equations 5.1 and 5.2.
LINES: dict[str, Line] = {
    "More and Thuente 1": lambda t: (-t / (t * t + 2), (t * t - 2) / (t * t + 2) ** 2),
    "More and Thuente 2": lambda t: (
        (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4,
        5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3,
    ),
    "wavy": lambda t: (
        -0.3 * t + 0.05 * t * t - 0.02 * math.sin(4 * t),
        -0.3 + 0.1 * t - 0.08 * math.cos(4 * t),
    ),
    "parabola": lambda t: ((t - 3) ** 2, 2 * (t - 3)),
    "steep": lambda t: (math.exp(min(8 * t, 600)) - 20 * t, 8 * math.exp(min(8 * t, 600)) - 20),
    "ends": lambda t: (t * t - t, 2 * t - 1) if t < 2 else (math.nan, math.nan),
    "wall": lambda t: (t * t - t, 2 * t - 1) if t < 2 else (math.inf, math.inf),
}
FIRSTS = (1e-3, 0.1, 1.0, 10.0, 1e3)


def searched(line: Line, first: float, **bounds: float) -> tuple[LineSearch, list[float]]:
    """A search to its end, and the distances that it looked at."""
    search, looks = LineSearch.begin(*line(0.0), first, **bounds), []
    while not (search.found or search.failed):
        looks.append(search.distance)
        search = search.after(*line(search.distance))
    return search, looks


def meets(line: Line, distance: float) -> bool:
    (height, slope), (here, left) = line(0.0), line(distance)
    return here <= height + LEAST_DECREASE * distance * slope and abs(left) <= -MOST_SLOPE * slope


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("name", LINES)
def test_what_is_found_meets_the_conditions(name: str, first: float):
    search, looks = searched(LINES[name], first)
    assert search.found and not search.failed
    assert meets(LINES[name], search.distance)
    assert search.distance == looks[-1] and search.evaluations == len(looks) <= 20
    assert all(distance > 0 for distance in looks)


def test_a_first_look_that_meets_them_is_the_only_one():
    search, looks = searched(LINES["parabola"], 2.0)
    assert looks == [2.0] and search.found


def test_a_cubic_is_met_at_its_minimum():
    """Where nothing bounds it: the interpolation is exact."""

    def cubic(t: float) -> tuple[float, float]:
        return 2 * t**3 - 9 * t**2 - 24 * t, 6 * (t - 4) * (t + 1)

    search = LineSearch.begin(*cubic(0.0), 8.0)
    assert search.after(*cubic(8.0)).distance == pytest.approx(4.0, rel=1e-12)


@given(st.floats(-5, 5), st.floats(0.1, 9), st.floats(-9, -0.01), st.floats(1e-4, 1e4))
def test_on_any_bowl_it_ends_at_a_step_that_meets_them(
    fourth: float, second: float, slope: float, first: float
):
    def bowl(t: float) -> tuple[float, float]:
        return slope * t + second * t * t + abs(fourth) * t**4, slope + 2 * second * t + 4 * abs(
            fourth
        ) * t**3

    search, looks = searched(bowl, first)
    assert search.found and meets(bowl, search.distance) and len(looks) <= MAX_EVALUATIONS


def test_a_line_without_end_is_followed_ever_farther_and_no_farther_than_allowed():
    def down(t: float) -> tuple[float, float]:
        return -t, -1.0

    search, looks = searched(down, 1.0)
    assert search.found and len(looks) == MAX_EVALUATIONS  # it falls; the conditions cannot be met
    assert looks == sorted(looks) and all(later <= 10 * sooner for sooner, later in pairwise(looks))
    search, looks = searched(down, 1.0, longest=30.0)
    assert search.found and search.distance == looks[-1] == 30.0
    assert searched(down, 50.0, longest=30.0)[1] == [30.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["height", "slope", "both"])
def test_where_there_are_no_numbers_it_comes_nearer_and_gives_up_in_the_end(
    value: float, which: str
):
    def nowhere(t: float) -> tuple[float, float]:
        if t == 0:
            return 1.0, -1.0
        return (0.0 if which == "slope" else value), (-1.0 if which == "height" else value)

    search, looks = searched(nowhere, 1.0)
    assert search.failed and not search.found
    assert len(looks) == MAX_EVALUATIONS and looks == sorted(looks, reverse=True)
    assert len(searched(nowhere, 1.0, least=0.01)[1]) < MAX_EVALUATIONS


def test_a_line_that_only_rises_is_given_up():
    search, looks = searched(lambda t: (t, -1.0), 1.0)
    assert search.failed and len(looks) == MAX_EVALUATIONS


def test_where_the_conditions_cannot_be_met_the_lowest_is_gone_back_to():
    """A kink: no slope near nought. The last look is at the lowest point that was seen, and it is
    taken.
    """

    def kink(t: float) -> tuple[float, float]:
        return (-t, -1.0) if t <= 1 else (-1 + 5 * (t - 1), 5.0)

    search, looks = searched(kink, 0.7)
    heights = [kink(distance)[0] for distance in looks]
    assert search.found and not meets(kink, search.distance)
    assert kink(search.distance)[0] == min(heights) < kink(0.0)[0]
    assert len(looks) in (MAX_EVALUATIONS, MAX_EVALUATIONS + 1)


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("name", LINES)
def test_written_down_and_read_back_it_goes_on_as_if_nothing_had_been(name: str, first: float):
    search, line = LineSearch.begin(*LINES[name](0.0), first, 500.0, 1e-9), LINES[name]
    while not search.found:
        again = LineSearch.from_numbers(json.loads(json.dumps(search.to_numbers())))
        assert repr(again) == repr(search)  # nan is not equal to itself
        height, slope = line(search.distance)
        assert repr(again.after(height, slope)) == repr(search.after(height, slope))
        search = search.after(height, slope)


def test_a_look_changes_nothing_but_the_search_after_it():
    search = LineSearch.begin(*LINES["wall"](0.0), 4.0)
    before = repr(search)
    search.after(math.nan, math.nan)
    assert repr(search) == before
