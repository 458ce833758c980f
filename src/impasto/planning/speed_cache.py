"""Measure the speed of this machine within an allowance, and cache it.

A measurement counts as part of the time that a picture takes. It may take 5 % of that time and at
most 3 seconds. It is kept in the cache for two weeks, unless other programs were busy while it was
made.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import suppress
from typing import Any

import torch

from impasto.assets import catalogue
from impasto.errors import CannotWrite
from impasto.geometry import Size
from impasto.hardware import contention, kernel_cache
from impasto.planning import speed
from impasto.planning.schedule import Plan
from impasto.planning.speed import Build, Speed
from impasto.storage.files import replace_file

FILE = "speed.json"  # in the cache
_SHARE, _MOST_SECONDS = 0.05, 3.0
_VALID_SECONDS = 14 * 86_400.0
_BUSY_CORES = 0.2  # with more cores used by other programs a measurement is not cached
_MOST_ROWS = 100


def allowance(seconds: float) -> float:
    """Seconds that a measurement may take for work that takes ``seconds``."""
    return min(_MOST_SECONDS, _SHARE * seconds)


def guess_seconds(plan: Plan, device: torch.device) -> float:
    """A first guess of the time of a schedule, before anything is measured."""
    return speed.guess_speed(plan.size, device).rough_seconds(plan)


def cached_speed(
    size: Size, build: Build, device: torch.device, work: object, seconds: float
) -> Speed:
    """The speed of this machine for pictures of the shape of ``size``, cached or measured now.

    ``work`` is what decides, on one machine, how long an evaluation takes; its ``repr`` is part of
    the key. ``seconds``: how long the measurement may take.
    """
    key = hashlib.sha256(f"{kernel_cache.machine_key(device)} {work!r}".encode()).hexdigest()[:24]
    rows = _read_rows()
    with suppress(KeyError, TypeError, ValueError):
        row = rows[key]
        if 0 <= time.time() - float(row["time"]) < _VALID_SECONDS:
            return Speed(_parse_point(row["small"]), _parse_point(row["large"]))
    before = contention.read_cpu_times()
    measured = speed.measure_speed(size, build, device, seconds)
    after = contention.read_cpu_times()
    quiet = before is None or after is None or after.other_cores(before) < _BUSY_CORES
    if quiet and not measured.guessed:
        point = {"small": measured.small, "large": measured.large, "time": int(time.time())}
        _write_rows(rows | {key: point})
    return measured


def _parse_point(row: Any) -> tuple[int, float, float]:
    """Pixels, seconds to set up a stage, seconds of one evaluation.

    Raises TypeError or ValueError for anything else.
    """
    pixels, setup, evaluation = int(row[0]), float(row[1]), float(row[2])
    if pixels < 1 or not (0 <= setup < math.inf and 0 < evaluation < math.inf):
        raise ValueError("not a measurement")
    return pixels, setup, evaluation


def _read_rows() -> dict[str, Any]:
    try:
        rows = json.loads((catalogue.cache_dir() / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return rows if isinstance(rows, dict) else {}


def _write_rows(rows: dict[str, Any]) -> None:
    """Write the newest measurements. A cache that cannot be written only costs time."""

    def age(row: tuple[str, Any]) -> Any:
        return row[1].get("time", 0) if isinstance(row[1], dict) else 0

    newest = sorted(rows.items(), key=age)[-_MOST_ROWS:]
    with suppress(CannotWrite, OSError):
        folder = catalogue.cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, json.dumps(dict(newest)).encode())
