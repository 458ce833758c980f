"""Time of everything but painting: the run's folder (row ``overhead``) and the start (row
``start``).
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

from benchmarks.scene import PAINTING, PHOTO, Options, seconds_of
from benchmarks.table import Row
from impasto.events import Callbacks, Finished
from impasto.inputs import read_inputs
from impasto.recipe import loading
from impasto.runs import CHECKPOINT_SECONDS
from impasto.runs import paint as painting
from impasto.runs.destination import Target

OVERHEAD_TARGET = 0.03
OVERHEAD_SIDE = 512
QUICK_SHARE = 1 / 4  # of the run's evaluations and of the seconds between two states

HELP_TARGET, IMPORT_TARGET = 0.4, 0.2  # seconds
REPEATS = 7


def overhead(options: Options) -> Iterator[Row]:
    """Time of writing the log, the states and the previews of a run, relative to the run's rest.

    Two runs, one with a folder and one without, differ by more than that on any machine. The time
    is therefore measured within one run.
    """
    length = 1.0 if options.full else QUICK_SHARE
    settings = {"size": OVERHEAD_SIDE, "device": "cpu"}
    recipe = loading.load(loading.DEFAULT_RECIPE)
    iterations = tuple(max(1, round(count * length)) for count in recipe.schedule.iterations)
    recipe = loading.with_settings(recipe, {**settings, "iterations": iterations})
    inputs = read_inputs(getattr(skimage.data, PHOTO)(), [PAINTING], recipe)
    ends: list[float] = []

    def note_end(event: Any) -> None:
        if isinstance(event, Finished):
            ends.append(event.seconds)

    with tempfile.TemporaryDirectory() as name, _timed_recorder() as recording:
        painting.paint(
            inputs,
            Target(Path(name) / "out.png", Path(name) / "out.run"),
            callbacks=Callbacks(note_end),
            checkpoint_seconds=CHECKPOINT_SECONDS * length,
        )
    rest = ends[0] - recording.seconds
    share = recording.seconds / rest
    measured = f"{share:.1%}: {recording.seconds:.2f} s in addition to {rest:.1f} s, "
    measured += f"{recording.states} states written"
    yield Row(
        "overhead",
        f"log, states and previews of a run at {inputs.plan.size}, {inputs.plan.evaluations} "
        f"evaluations, a state every {CHECKPOINT_SECONDS * length:g} s and after each size",
        f"below {OVERHEAD_TARGET:.0%}",
        measured,
        share < OVERHEAD_TARGET,
    )


@dataclass
class Recording:
    """Seconds spent recording a run, and the number of states written."""

    seconds: float = 0.0
    states: int = 0


@contextmanager
def _timed_recorder() -> Iterator[Recording]:
    """Time the recorder of all runs within the ``with`` statement."""
    recording = Recording()

    class Timed(painting.Recorder):
        def __call__(self, event: Any, state: Any) -> None:
            start = time.perf_counter()
            super().__call__(event, state)
            recording.seconds += time.perf_counter() - start

        def save_state(self, state: Any) -> None:
            super().save_state(state)
            recording.states += 1

    original = painting.Recorder
    painting.Recorder = Timed  # type: ignore[misc]
    try:
        yield recording
    finally:
        painting.Recorder = original  # type: ignore[misc]


def start(options: Options) -> Iterator[Row]:
    """Wall time of the smallest commands, including the start of the interpreter."""
    script = Path(sys.executable).parent / "impasto"
    entry = [str(script)] if script.exists() else [sys.executable, "-m", "impasto"]
    python = _median([sys.executable, "-c", "pass"])
    for what, command, target in (
        ("`impasto --help`", [*entry, "--help"], HELP_TARGET),
        ("`import impasto`", [sys.executable, "-c", "import impasto"], IMPORT_TARGET),
    ):
        seconds = _median(command)
        measured = (
            f"{seconds:.2f} s, including {python:.2f} s for Python itself; median of {REPEATS}"
        )
        yield Row("start", what, f"below {target:g} s", measured, seconds < target)


def _median(command: list[str]) -> float:
    """Median seconds of a command, after one call that loads its files into memory."""

    def once() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    once()
    return statistics.median(seconds_of(once) for _ in range(REPEATS))
