"""Inputs for small runs, painting them into files, and stopping them after a number of steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from impasto.events import Callbacks, Event, Stepped
from impasto.inputs import Inputs, read_inputs
from impasto.planning.time_budget import TimeBudget
from impasto.recipe import loading, records
from impasto.result import Painting
from impasto.runs import CHECKPOINT_SECONDS
from impasto.runs import snapshots as snapshot_lists
from impasto.runs.destination import Target
from impasto.runs.paint import paint

from .pictures import save_random

SETTINGS = {"size": 96, "iterations": "4,5", "schedule_coarsest": 48}


def make_inputs(folder: Path, **settings: object) -> Inputs:
    """Inputs for two stages of 4 and 5 steps; their pictures are made where they are missing."""
    photo, painting = folder / "photo.png", folder / "painting.png"
    if not photo.exists():
        save_random(photo, 48, 64)
        save_random(painting, 50, 40, seed=1)
    recipe = loading.with_settings(records.Recipe(), {**SETTINGS, **settings})
    return read_inputs(str(photo), str(painting), recipe)


def paint_to(
    inputs: Inputs,
    output: Path | None = None,
    run: Path | None = None,
    *,
    seconds: float | None = None,
    fixed: frozenset[str] = frozenset(),
    snapshots: str | Iterable[int] = "",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    callbacks: Callbacks | None = None,
    **target: Any,
) -> Painting:
    """Paint into files. ``target``: other fields of the target, such as ``fresh=True``."""
    return paint(
        inputs,
        Target(output, run, snapshots=snapshot_lists.parse(snapshots), **target),
        budget=None if seconds is None else TimeBudget(seconds, fixed),
        checkpoint_seconds=checkpoint_seconds,
        callbacks=callbacks,
    )


def stop_after(steps: int) -> tuple[Callbacks, list[Event]]:
    """Callbacks that stop a run after so many steps, and the list that receives its events."""
    seen: list[Event] = []

    def cancel() -> bool:
        return sum(isinstance(event, Stepped) for event in seen) >= steps

    return Callbacks(seen.append, cancel), seen
