"""What becomes of a run's events: its record in memory, and in its folder log, state, previews and
snapshots.

It is a consumer of the stream of events and states; painting does not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from impasto import images
from impasto.events import Event, Finished, Planned, StageDone, Stepped, Warned
from impasto.geometry import Size
from impasto.inputs import Request
from impasto.runs import folder
from impasto.runs.snapshots import Snapshots

if TYPE_CHECKING:
    from impasto.optimize.state import State


_PREVIEW_SECONDS, _PREVIEW_SIDE = 20.0, 1600  # between two, and the longest side of one in pixels
# Of a run's time, that states and previews may each take up: large ones are written less often.
_WRITING_SHARE = 0.01


@dataclass
class Recorder:
    """Keeps what the record of a run needs, and writes the run's log, state and previews.

    ``log``: the run's folder, or None. ``output``: where the picture is to go; ``there`` identifies
    the file there before, and ``replaces`` says whether it is one that only a finished picture may
    replace. ``key``: the ``destination.request_key``. ``spent``: seconds of the run before it was
    interrupted. ``kernel``: how it convolves. ``wanted``: the snapshots, and ``shooting`` the
    seconds that they took. ``pace``: seconds of the last step. ``notes``: what was told on the way.
    """

    log: folder.Run | None
    asked: Request
    output: str
    checkpoint_seconds: float
    key: str
    spent: float = 0.0
    kernel: str = ""
    wanted: Snapshots = field(default_factory=Snapshots)
    shooting: float = 0.0
    planned: Planned | None = None
    seconds: float = 0.0
    pace: float = 0.0
    next_keep: float = 0.0
    next_preview: float = _PREVIEW_SECONDS
    notes: list[str] = field(default_factory=list)
    there: tuple[int, ...] | None = None
    replaces: bool = False

    def __post_init__(self) -> None:
        self.seconds = self.spent
        self.next_keep = self.spent + self.checkpoint_seconds

    def __call__(self, event: Event, state: State) -> None:
        if isinstance(event, Planned):
            self.planned = event
        if isinstance(event, Warned):
            self.notes.append(event.message)
        if isinstance(event, Stepped | Finished):
            now = self.spent + event.seconds
            self.seconds, self.pace = now, now - self.seconds
        if self.log is None:
            return
        self.log.note(event)
        stepped, staged = isinstance(event, Stepped), isinstance(event, StageDone)
        if isinstance(event, Stepped) and event.evaluations in self.wanted:
            self.shoot(event.evaluations, state)  # before the state, from which a run is continued
        if staged or (stepped and self.seconds >= self.next_keep):
            self.keep(state)
        if staged or (stepped and self.seconds >= self.next_preview):
            begun = time.monotonic()
            with self.log.trying():
                self.log.preview(images.reduced(state.picture, _PREVIEW_SIDE))
            self.next_preview = self.seconds + max(
                _PREVIEW_SECONDS, (time.monotonic() - begun) / _WRITING_SHARE
            )

    def shoot(self, evaluations: int, state: State) -> None:
        """Keep the picture of a state for later."""
        assert self.log is not None
        begun = time.monotonic()
        with self.log.trying():
            pixels = np.clip(images.from_tensor(state.good().picture), 0, 1)
            alpha = self.asked.photo.alpha
            alpha = images.resize(alpha, Size(*pixels.shape[:2])) if alpha is not None else None
            self.log.snapshot(evaluations, pixels, alpha)
        self.shooting += time.monotonic() - begun

    def say(self, message: str, state: State, tell: Callable[[Event], None]) -> None:
        """Tell the log and whoever watches."""
        self(Warned(message), state)
        tell(Warned(message))

    def keep(self, state: State) -> None:
        """Write the state down, with what must be the same when it is continued."""
        if self.log is None or self.planned is None:
            return
        begun = time.monotonic()
        tensors, facts = state.pack()
        facts |= {
            "recipe_sha256": self.asked.recipe.sha256,
            "request": self.key,
            "kernel": self.kernel,
        }
        facts |= {"snapshots": str(self.wanted), "snapshot_seconds": self.shooting}
        self.log.keep(tensors, {**facts, "seconds": self.seconds, "output": self.output})
        pause = (
            max(self.checkpoint_seconds, (time.monotonic() - begun) / _WRITING_SHARE)
            if self.checkpoint_seconds
            else 0
        )
        self.next_keep = self.seconds + pause
