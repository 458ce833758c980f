"""How fast a machine is: measured within an allowance, kept for a while, and made anew where it
cannot be trusted.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto.geometry import Size
from impasto.hardware import contention
from impasto.planning import memory, schedule, speed, speed_cache
from impasto.planning.speed import Speed
from impasto.recipe.records import Recipe

CPU, SIZE = torch.device("cpu"), Size(300, 400)
FOUND = Speed((12_288, 0.1, 0.2), (49_152, 0.3, 0.5))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """The allowances of the measurements that were made."""
    made: list[float] = []

    def measure(size: Size, prepare: Any, where: torch.device, allowed: float) -> Speed:
        made.append(allowed)
        return FOUND

    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speed, "speed", measure)
    monkeypatch.setattr(contention, "read_cpu_times", lambda: None)
    return made


def ask(work: object = "work", allowed: float = 2.0) -> Speed:
    return speed_cache.measured(SIZE, lambda size: lambda: None, CPU, work, allowed)


def test_measuring_may_take_a_twentieth_of_the_plan_and_two_seconds_at_most():
    assert [speed_cache.allowance(seconds) for seconds in (1, 10, 40, 1e6)] == [0.05, 0.5, 2.0, 2.0]


def test_the_guess_of_a_plan_is_of_its_order():
    plan = schedule.plan(Recipe(), Size(384, 512))
    assert (
        30 < speed_cache.expected(plan, CPU) < 300
        and speed_cache.expected(plan, torch.device("cuda")) < 5
    )


def test_it_is_measured_once_for_each_kind_of_work(measured: list[float]):
    assert ask() == ask() == FOUND and measured == [2.0]
    assert ask("other work", 1.0) == FOUND and measured == [2.0, 1.0]
    assert ask() == ask("other work") == FOUND and len(measured) == 2


def test_it_is_trusted_for_two_weeks(measured: list[float], monkeypatch: pytest.MonkeyPatch):
    ask()
    now = speed_cache.time.time()
    for days, count in ((13, 1), (15, 2), (-1, 3)):
        monkeypatch.setattr(speed_cache.time, "time", lambda days=days: now + days * 86_400)
        ask()
        assert len(measured) == count


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"time": 1e12, "small": [1], "large": [2]}}']
)
def test_notes_that_cannot_be_read_are_made_anew(text: str, measured: list[float], tmp_path: Path):
    ask()
    file = tmp_path / "cache" / speed_cache.FILE
    [key] = json.loads(file.read_text())
    file.write_text(text.replace("KEY", key))
    assert ask() == FOUND and len(measured) == 2 and ask() == FOUND and len(measured) == 2


def test_what_others_disturbed_serves_now_and_is_not_kept(
    measured: list[float], monkeypatch: pytest.MonkeyPatch
):
    samples = iter([contention.CpuTimes(0, 0, 0), contention.CpuTimes(1, 0.5, 1.5)] * 2)
    monkeypatch.setattr(contention, "read_cpu_times", lambda: next(samples))
    assert ask() == ask() == FOUND and len(measured) == 2


def test_a_guess_is_not_kept(
    measured: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(
        speed, "speed", lambda size, prepare, where, allowed: speed.guess(size, where)
    )
    ask()
    assert not (tmp_path / "cache" / speed_cache.FILE).exists()


def test_a_cache_that_cannot_be_written_costs_a_measurement(measured: list[float], tmp_path: Path):
    (tmp_path / "cache").write_text("a file")
    assert ask() == ask() == FOUND and len(measured) == 2


@pytest.mark.parametrize(
    ("allowed", "sides"), [(0.0, []), (1.5, [128]), (100.0, [128, 256]), (math.inf, [128, 256])]
)
def test_no_more_is_timed_than_the_allowance_lets(
    allowed: float, sides: list[int], monkeypatch: pytest.MonkeyPatch
):
    """On a machine with the speed of the guess, an evaluation takes 0.12 s at 128 px and 0.49 s at
    256 px.
    """
    now, seen = [0.0], list[int]()

    def prepare(at: Size) -> Any:
        seen.append(at.long_side)
        now[0] += 2e-5 * at.pixels

        def evaluate() -> None:
            now[0] += 1e-5 * at.pixels

        return evaluate

    monkeypatch.setattr(memory.time, "perf_counter", lambda: now[0])
    found = speed.speed(SIZE, prepare, CPU, allowed)
    assert seen == sides and now[0] <= max(allowed, 0) * 1.01
    plan = schedule.plan(Recipe(size=400), SIZE)
    assert found.typical(plan) == pytest.approx(speed.guess(SIZE, CPU).typical(plan), rel=0.01)
