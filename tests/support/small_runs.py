"""Requests for small runs, and stopping them after a number of steps."""

from __future__ import annotations

from pathlib import Path

from impasto import api
from impasto.events import Event, Stepped
from impasto.inputs import request
from impasto.recipe import loading, records

from .pictures import save_random

SETTINGS = {"size": 96, "iterations": "4,5", "schedule_coarsest": 48}


def make_request(folder: Path, **settings: object) -> api.Request:
    """A request for two stages of 4 and 5 steps; its pictures are made where they are missing."""
    photo, painting = folder / "photo.png", folder / "painting.png"
    if not photo.exists():
        save_random(photo, 48, 64)
        save_random(painting, 50, 40, seed=1)
    return request(
        str(photo), str(painting), loading.with_settings(records.Recipe(), {**SETTINGS, **settings})
    )


def stop_after(steps: int) -> tuple[api.Watch, list[Event]]:
    """A watch that stops a run after so many steps, and the list that receives its events."""
    seen: list[Event] = []
    return api.Watch(
        seen.append, stop=lambda: sum(isinstance(event, Stepped) for event in seen) >= steps
    ), seen
