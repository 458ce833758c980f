"""How fast this machine is for one kind of work: measured within an allowance, and remembered for a
while.

A measurement counts as part of the time that a plan takes. So it may take a twentieth of the plan,
and two seconds at most (``allowance``), and is kept in the cache for two weeks. One that was made
while other programs were busy serves now and is not kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from impasto.assets import catalogue
from impasto.errors import CannotWrite
from impasto.geometry import Size
from impasto.hardware import contention, kernel_cache
from impasto.planning import speed
from impasto.planning.schedule import Plan
from impasto.planning.speed import Speed
from impasto.storage.files import replace_file

FILE = "speed.json"  # in the cache
_SHARE, _MOST = 0.05, 2.0  # of a plan's time, and seconds, that measuring may take
_TRUSTED = 14 * 86_400.0  # seconds
_DISTURBED = 0.2  # cores that others use: more, and what was measured is not kept
_KEPT = 100  # measurements; the oldest go


def allowance(seconds: float) -> float:
    """Seconds that may be spent on measuring for work that takes so many."""
    return min(_MOST, _SHARE * seconds)


def expected(plan: Plan, where: torch.device) -> float:
    """A first guess at the seconds of a plan, before anything is measured."""
    return speed.guess(plan.size, where).typical(plan)


def measured(
    size: Size,
    prepare: Callable[[Size], Callable[[], object]],
    where: torch.device,
    work: object,
    allowed: float,
) -> Speed:
    """The speed of this machine at pictures of the shape of ``size``: as it is remembered, or
    measured now.

    ``work`` is what decides, on one machine, how long an evaluation takes: its ``repr`` tells
    measurements apart. ``prepare(size)`` sets up a stage of that size and gives what one evaluation
    of it is. ``allowed``: seconds.
    """
    key = hashlib.sha256(f"{kernel_cache.mark(where)} {work!r}".encode()).hexdigest()[:24]
    known = _known()
    with suppress(KeyError, TypeError, ValueError):
        row = known[key]
        if 0 <= time.time() - float(row["time"]) < _TRUSTED:
            return Speed(*(_point(row[name]) for name in ("small", "large")))
    before = contention.sample()
    found = speed.speed(size, prepare, where, allowed)
    after = contention.sample()
    quiet = before is None or after is None or after.others(before) < _DISTURBED
    if quiet and found.small[0] < found.large[0]:
        _keep(known | {key: {"small": found.small, "large": found.large, "time": int(time.time())}})
    return found


def _point(row: Any) -> tuple[int, float, float]:
    """Pixels, seconds to set a stage up, seconds of one evaluation; raises TypeError or ValueError
    for anything else.
    """
    pixels, setup, evaluation = int(row[0]), float(row[1]), float(row[2])
    if pixels < 1 or not (0 <= setup < math.inf and 0 < evaluation < math.inf):
        raise ValueError("no measurement")
    return pixels, setup, evaluation


def _known() -> dict[str, Any]:
    try:
        found = json.loads((catalogue.cache_dir() / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(rows: dict[str, Any]) -> None:
    """Write measurements down, the newest ``_KEPT``; a cache that cannot be written only costs
    time.
    """
    newest = sorted(
        rows.items(), key=lambda row: row[1].get("time", 0) if isinstance(row[1], dict) else 0
    )[-_KEPT:]
    with suppress(CannotWrite, OSError):
        folder = catalogue.cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, json.dumps(dict(newest)).encode())
