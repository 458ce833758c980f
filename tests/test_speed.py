"""The speed of a machine is measured within an allowance and cached for a while."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto.geometry import Size
from impasto.hardware import contention
from impasto.planning import schedule, speed, speed_cache
from impasto.planning.speed import Speed
from impasto.recipe.records import Recipe

CPU, SIZE = torch.device("cpu"), Size(300, 400)
MEASURED = Speed((12_288, 0.1, 0.2), (49_152, 0.3, 0.5))


@pytest.fixture
def allowances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """The allowance of each measurement that was made."""
    seconds_allowed: list[float] = []

    def measure(size: Size, build: Any, device: torch.device, seconds: float) -> Speed:
        seconds_allowed.append(seconds)
        return MEASURED

    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speed, "measure_speed", measure)
    monkeypatch.setattr(contention, "read_cpu_times", lambda: None)
    return seconds_allowed


def cached(work: object = "work", seconds: float = 2.0) -> Speed:
    return speed_cache.cached_speed(SIZE, lambda size: lambda: None, CPU, work, seconds)


def test_a_measurement_may_take_5_percent_of_the_time_and_3_seconds():
    assert [speed_cache.allowance(seconds) for seconds in (1, 10, 60, 1e6)] == [0.05, 0.5, 3.0, 3.0]


def test_the_guess_has_the_right_order_of_magnitude():
    plan = schedule.make_plan(Recipe(), Size(384, 512))
    assert (
        30 < speed_cache.guess_seconds(plan, CPU) < 300
        and speed_cache.guess_seconds(plan, torch.device("cuda")) < 5
    )


def test_each_kind_of_work_is_measured_once(allowances: list[float]):
    assert cached() == cached() == MEASURED and allowances == [2.0]
    assert cached("other work", 1.0) == MEASURED and allowances == [2.0, 1.0]
    assert cached() == cached("other work") == MEASURED and len(allowances) == 2


def test_a_measurement_is_valid_for_two_weeks(
    allowances: list[float], monkeypatch: pytest.MonkeyPatch
):
    cached()
    now = speed_cache.time.time()
    for days, count in ((13, 1), (15, 2), (-1, 3)):
        monkeypatch.setattr(speed_cache.time, "time", lambda days=days: now + days * 86_400)
        cached()
        assert len(allowances) == count


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"time": 1e12, "small": [1], "large": [2]}}']
)
def test_a_file_that_cannot_be_read_is_replaced(text: str, allowances: list[float], tmp_path: Path):
    cached()
    file = tmp_path / "cache" / speed_cache.FILE
    [key] = json.loads(file.read_text())
    file.write_text(text.replace("KEY", key))
    assert (
        cached() == MEASURED
        and len(allowances) == 2
        and cached() == MEASURED
        and len(allowances) == 2
    )


def test_a_disturbed_measurement_is_used_and_not_cached(
    allowances: list[float], monkeypatch: pytest.MonkeyPatch
):
    samples = iter([contention.CpuTimes(0, 0, 0), contention.CpuTimes(1, 0.5, 1.5)] * 2)
    monkeypatch.setattr(contention, "read_cpu_times", lambda: next(samples))
    assert cached() == cached() == MEASURED and len(allowances) == 2


def test_a_guess_is_not_cached(
    allowances: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(
        speed, "measure_speed", lambda size, build, device, seconds: speed.guess_speed(size, device)
    )
    cached()
    assert not (tmp_path / "cache" / speed_cache.FILE).exists()


def test_a_cache_that_cannot_be_written_costs_a_measurement(
    allowances: list[float], tmp_path: Path
):
    (tmp_path / "cache").write_text("a file")
    assert cached() == cached() == MEASURED and len(allowances) == 2


@pytest.mark.parametrize(
    ("allowed", "sides"),
    [
        (0.0, []),
        (0.3, [64]),
        (1.5, [64, 128]),
        (3.0, [64, 128, 256]),
        (math.inf, [64, 128, 256, 400]),
    ],
)
def test_measuring_stays_within_the_allowance(
    allowed: float, sides: list[int], monkeypatch: pytest.MonkeyPatch
):
    """At the guessed speed an evaluation takes 0.06, 0.14, 0.49 and 1.15 s at these sizes."""
    now, timed = [0.0], list[int]()

    def build(size: Size) -> Any:
        timed.append(size.long_side)
        now[0] += 0.03 + 7e-6 * size.pixels

        def evaluate() -> None:
            now[0] += 0.03 + 7e-6 * size.pixels

        return evaluate

    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    measured = speed.measure_speed(SIZE, build, CPU, allowed)
    assert timed == sides and now[0] <= max(allowed, 0) * 1.01
    plan = schedule.make_plan(Recipe(size=400), SIZE)
    expected = speed.guess_speed(SIZE, CPU).rough_seconds(plan)
    assert measured.rough_seconds(plan) == pytest.approx(expected, rel=0.01)
