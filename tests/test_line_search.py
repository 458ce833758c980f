"""An accepted step meets the strong Wolfe conditions, and every line search ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.optimize.line_search import LEAST_DECREASE, MAX_EVALUATIONS, MOST_SLOPE, LineSearch

Line = Callable[[float], tuple[float, float]]  # distance -> value and slope

# All decrease from 0. The first two: Moré and Thuente, "Line Search Algorithms with Guaranteed
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
    """A finished search, and the distances of its trials."""
    search, trials = LineSearch.begin(*line(0.0), first, **bounds), []
    while not (search.accepted or search.failed):
        trials.append(search.distance)
        search = search.after(*line(search.distance))
    return search, trials


def meets(line: Line, distance: float) -> bool:
    (value, slope), (value_here, slope_here) = line(0.0), line(distance)
    return (
        value_here <= value + LEAST_DECREASE * distance * slope
        and abs(slope_here) <= -MOST_SLOPE * slope
    )


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("name", LINES)
def test_the_accepted_point_meets_the_conditions(name: str, first: float):
    search, trials = searched(LINES[name], first)
    assert search.accepted and not search.failed
    assert meets(LINES[name], search.distance)
    assert search.distance == trials[-1] and search.evaluations == len(trials) <= 20
    assert all(distance > 0 for distance in trials)


def test_a_first_trial_that_meets_the_conditions_is_accepted():
    search, trials = searched(LINES["parabola"], 2.0)
    assert trials == [2.0] and search.accepted


def test_the_second_trial_on_a_cubic_is_its_minimum():
    """The interpolation of a cubic is exact where nothing bounds it."""

    def cubic(t: float) -> tuple[float, float]:
        return 2 * t**3 - 9 * t**2 - 24 * t, 6 * (t - 4) * (t + 1)

    search = LineSearch.begin(*cubic(0.0), 8.0)
    assert search.after(*cubic(8.0)).distance == pytest.approx(4.0, rel=1e-12)


@given(st.floats(-5, 5), st.floats(0.1, 9), st.floats(-9, -0.01), st.floats(1e-4, 1e4))
def test_the_search_on_any_convex_quartic_meets_the_conditions(
    fourth: float, second: float, slope: float, first: float
):
    def quartic(t: float) -> tuple[float, float]:
        return slope * t + second * t * t + abs(fourth) * t**4, slope + 2 * second * t + 4 * abs(
            fourth
        ) * t**3

    search, trials = searched(quartic, first)
    assert search.accepted and meets(quartic, search.distance) and len(trials) <= MAX_EVALUATIONS


def test_an_endless_descent_is_followed_up_to_the_longest_step():
    def down(t: float) -> tuple[float, float]:
        return -t, -1.0

    search, trials = searched(down, 1.0)
    assert search.accepted and len(trials) == MAX_EVALUATIONS  # no trial meets the conditions
    assert trials == sorted(trials) and all(
        later <= 10 * sooner for sooner, later in pairwise(trials)
    )
    search, trials = searched(down, 1.0, longest=30.0)
    assert search.accepted and search.distance == trials[-1] == 30.0
    assert searched(down, 50.0, longest=30.0)[1] == [30.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["value", "slope", "both"])
def test_without_finite_values_trials_come_closer_and_the_search_fails(bad: float, which: str):
    def not_finite(t: float) -> tuple[float, float]:
        if t == 0:
            return 1.0, -1.0
        return (0.0 if which == "slope" else bad), (-1.0 if which == "value" else bad)

    search, trials = searched(not_finite, 1.0)
    assert search.failed and not search.accepted
    assert len(trials) == MAX_EVALUATIONS and trials == sorted(trials, reverse=True)
    assert len(searched(not_finite, 1.0, least=0.01)[1]) < MAX_EVALUATIONS


def test_a_search_on_a_line_that_only_rises_fails():
    search, trials = searched(lambda t: (t, -1.0), 1.0)
    assert search.failed and len(trials) == MAX_EVALUATIONS


def test_the_lowest_point_is_accepted_if_none_meets_the_conditions():
    """A kink has no slope near 0. The lowest trial is evaluated again and accepted."""

    def kink(t: float) -> tuple[float, float]:
        return (-t, -1.0) if t <= 1 else (-1 + 5 * (t - 1), 5.0)

    search, trials = searched(kink, 0.7)
    values = [kink(distance)[0] for distance in trials]
    assert search.accepted and not meets(kink, search.distance)
    assert kink(search.distance)[0] == min(values) < kink(0.0)[0]
    assert len(trials) in (MAX_EVALUATIONS, MAX_EVALUATIONS + 1)


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("name", LINES)
def test_a_search_continues_the_same_from_its_numbers(name: str, first: float):
    search, line = LineSearch.begin(*LINES[name](0.0), first, 500.0, 1e-9), LINES[name]
    while not search.accepted:
        again = LineSearch.from_numbers(json.loads(json.dumps(search.to_numbers())))
        assert repr(again) == repr(search)  # nan is not equal to itself
        value, slope = line(search.distance)
        assert repr(again.after(value, slope)) == repr(search.after(value, slope))
        search = search.after(value, slope)


def test_a_search_is_immutable():
    search = LineSearch.begin(*LINES["wall"](0.0), 4.0)
    before = repr(search)
    search.after(math.nan, math.nan)
    assert repr(search) == before
