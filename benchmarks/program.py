"""What comes on top of painting: the run's folder (row ``overhead``), and the time until it starts
(row ``start``).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import skimage.data

from benchmarks.scene import PAINTING, PHOTO, How, clocked
from benchmarks.table import Row
from impasto import api
from impasto.events import Finished
from impasto.inputs import request
from impasto.recipe import loading
from impasto.runs import CHECKPOINT_SECONDS

OVERHEAD_ASKED = 0.03
OVERHEAD_SIDE = 512
QUICK_SHARE = 1 / 4  # of the run's evaluations, and of the seconds between two states

HELP_ASKED, IMPORT_ASKED = 0.4, 0.2  # seconds
STARTS = 7


def overhead(how: How) -> Iterator[Row]:
    """The time that goes into the log, the states and the previews of a run, over that of the bare
    search.

    Two runs, one with a folder and one without, differ by more than that on any machine; so the
    time is taken inside one.
    """
    share = 1.0 if how.full else QUICK_SHARE
    settings = {"size": OVERHEAD_SIDE, "device": "cpu"}
    recipe = loading.load(loading.DEFAULT_RECIPE)
    iterations = tuple(max(1, round(count * share)) for count in recipe.schedule.iterations)
    recipe = loading.with_settings(recipe, {**settings, "iterations": iterations})
    asked = request(getattr(skimage.data, PHOTO)(), [PAINTING], recipe)
    ends: list[float] = []

    def watch(event: Any) -> None:
        if isinstance(event, Finished):
            ends.append(event.seconds)

    with tempfile.TemporaryDirectory() as name, _followed() as spent:
        api.paint(
            asked,
            output=Path(name) / "out.png",
            run=Path(name) / "out.run",
            watch=api.Watch(event=watch),
            checkpoint_seconds=CHECKPOINT_SECONDS * share,
        )
    bare = ends[0] - spent.seconds
    measured = f"{spent.seconds / bare:.1%}: {spent.seconds:.2f} s on top of {bare:.1f} s, {spent.states} states written"
    yield Row(
        "overhead",
        f"log, states and previews of a run at {asked.plan.size}, {asked.plan.evaluations} "
        f"evaluations, "
        f"a state every {CHECKPOINT_SECONDS * share:g} s and after each size",
        f"below {OVERHEAD_ASKED:.0%}",
        measured,
        spent.seconds / bare < OVERHEAD_ASKED,
    )


@dataclass
class Spent:
    """Seconds spent following a run, and how many states were written."""

    seconds: float = 0.0
    states: int = 0


@contextmanager
def _followed() -> Iterator[Spent]:
    """Within it, the time is taken that runs spend on what follows them."""
    spent = Spent()

    class Timed(api.Recorder):
        def __call__(self, event: Any, state: Any) -> None:
            begun = time.perf_counter()
            super().__call__(event, state)
            spent.seconds += time.perf_counter() - begun

        def keep(self, state: Any) -> None:
            super().keep(state)
            spent.states += 1

    kept = api.Recorder
    api.Recorder = Timed  # type: ignore[misc]
    try:
        yield spent
    finally:
        api.Recorder = kept  # type: ignore[misc]


def start(how: How) -> Iterator[Row]:
    """The wall time of the least that one can ask for, the interpreter's own start included."""
    script = Path(sys.executable).parent / "impasto"
    entry = [str(script)] if script.exists() else [sys.executable, "-m", "impasto"]
    bare = _median([sys.executable, "-c", "pass"])
    for what, command, asked in (
        ("`impasto --help`", [*entry, "--help"], HELP_ASKED),
        ("`import impasto`", [sys.executable, "-c", "import impasto"], IMPORT_ASKED),
    ):
        seconds = _median(command)
        measured = f"{seconds:.2f} s, of which Python's own start {bare:.2f} s; median of {STARTS}"
        yield Row("start", what, f"below {asked:g} s", measured, seconds < asked)


def _median(command: list[str]) -> float:
    """Seconds of a command, after one that brings its files into memory."""

    def once() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    once()
    return statistics.median(clocked(once) for _ in range(STARTS))
