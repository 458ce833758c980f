"""Event logs of runs that never took place."""

from __future__ import annotations

import json
from pathlib import Path

from impasto import events
from impasto.events import Event, Planned, Stepped
from impasto.geometry import Size
from impasto.runs import folder as runs

PLANNED = Planned(
    Size(48, 64), ((Size(24, 32), 3), (Size(48, 64), 3)), "cpu", "conv2d", 9.0, 10, 100
)


def stepped(number: int, seconds: float, loss: float = 1.0) -> Stepped:
    """The event of one evaluation in a plan of two stages of three steps."""
    stage = int(number > 3)
    shares = {"style": {"relu1_1": loss / 4, "relu2_1": loss / 4}}
    return Stepped(
        stage,
        number - 3 * stage,
        number,
        loss,
        {"content": loss / 2, "style": loss / 2},
        seconds,
        shares,
    )


def write_log(folder: Path, *entries: Event | str) -> Path:
    """Write events, or lines as they are, as the log of a run; returns the run's folder."""
    folder.mkdir(exist_ok=True)
    lines = [
        entry
        if isinstance(entry, str)
        else json.dumps({**events.to_dict(entry), "time": 1e9}) + "\n"
        for entry in entries
    ]
    (folder / runs.EVENTS).write_text("".join(lines), "utf-8")
    return folder
