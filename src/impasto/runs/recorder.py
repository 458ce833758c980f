"""Record a run: a consumer of the (event, state) pairs of a session.

It writes the log, states, previews and snapshots to the run folder, and the picture at the end.
Painting does not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from impasto import images
from impasto.errors import NotSaved, memory_for
from impasto.events import Event, Failed, Finished, StageDone, Stepped, Warned
from impasto.geometry import Size
from impasto.runs import destination as destinations
from impasto.runs import folder as runs
from impasto.runs.destination import Destination
from impasto.runs.snapshots import Snapshots
from impasto.runs.writer import RunWriter
from impasto.storage.files import file_sha256

if TYPE_CHECKING:
    from impasto.optimize.state import State
    from impasto.result import Painting
    from impasto.session import Session

_PREVIEW_SECONDS, _PREVIEW_SIDE = 20.0, 1600  # between two previews; long side in px
# The share of a run's time that states and previews may each take: large ones are written less
# often.
_WRITING_SHARE = 0.01


@dataclass
class Recorder:
    """Records one run of a session.

    ``run``: the writer of the run folder, or None. ``key``: the ``request_key``. ``earlier``:
    seconds of the run before it was interrupted. ``checkpoint_seconds``: seconds between two saved
    states; 0 saves each step. ``step_seconds``: the duration of the last step. ``notes``: the
    warnings so far. ``on_event`` is told what happens while the picture is written.
    """

    session: Session
    destination: Destination
    run: RunWriter | None
    key: str
    snapshots: Snapshots
    checkpoint_seconds: float
    on_event: Callable[[Event], None]
    seconds: float = 0.0
    step_seconds: float = 0.0
    snapshot_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        checkpoint = self.destination.checkpoint
        if checkpoint is not None:
            self.seconds = checkpoint.values["seconds"]
            self.snapshot_seconds = checkpoint.values.get("snapshot_seconds", 0.0)
        self._earlier = self.seconds
        self._next_state = self.seconds + self.checkpoint_seconds
        self._next_preview = _PREVIEW_SECONDS
        self._output = self.destination.output
        self._identity = destinations.identity(self._output)

    def __call__(self, event: Event, state: State) -> None:
        """Record an event and its state."""
        if isinstance(event, Warned):
            self.notes.append(event.message)
        if isinstance(event, Stepped | Finished):
            now = self._earlier + event.seconds
            self.seconds, self.step_seconds = now, now - self.seconds
        if self.run is None:
            return
        self.run.log(event)
        stepped, staged = isinstance(event, Stepped), isinstance(event, StageDone)
        if isinstance(event, Stepped) and event.evaluations in self.snapshots:
            # Before the state: a run that continues from the state has the snapshot already.
            self._save_snapshot(event.evaluations, state)
        if staged or (stepped and self.seconds >= self._next_state):
            self.save_state(state)
        if staged or (stepped and self.seconds >= self._next_preview):
            self._save_preview(state)

    def note(self, message: str, state: State) -> None:
        """Record a warning, and tell it."""
        self(Warned(message), state)
        self.on_event(Warned(message))

    def save_state(self, state: State) -> None:
        """Save a state, with the values that must be the same when it is continued."""
        if self.run is None:
            return
        begin = time.monotonic()
        tensors, values = state.pack()
        self.run.save_state(
            tensors,
            {
                **values,
                "recipe_sha256": self.session.inputs.recipe.sha256,
                "request": self.key,
                "kernel": self.session.kernel,
                "snapshots": str(self.snapshots),
                "snapshot_seconds": self.snapshot_seconds,
                "seconds": self.seconds,
                "output": str(self._output or ""),
            },
        )
        pause = 0.0
        if self.checkpoint_seconds:
            pause = max(self.checkpoint_seconds, (time.monotonic() - begin) / _WRITING_SHARE)
        self._next_state = self.seconds + pause

    def _save_preview(self, state: State) -> None:
        assert self.run is not None
        begin = time.monotonic()
        with self.run.errors_recorded():
            self.run.save_preview(images.reduced(state.picture, _PREVIEW_SIDE))
        pause = max(_PREVIEW_SECONDS, (time.monotonic() - begin) / _WRITING_SHARE)
        self._next_preview = self.seconds + pause

    def _save_snapshot(self, evaluations: int, state: State) -> None:
        assert self.run is not None
        begin = time.monotonic()
        with self.run.errors_recorded():
            pixels = np.clip(images.from_tensor(state.at_best().picture), 0, 1)
            alpha = self.session.inputs.photo.alpha
            if alpha is not None:
                alpha = images.resize(alpha, Size(*pixels.shape[:2]))
            self.run.save_snapshot(evaluations, pixels, alpha)
        self.snapshot_seconds += time.monotonic() - begin

    # ---- the end of a run

    def finish(self, state: State, failed: Failed | None, stopped: bool) -> Painting:
        """Write the picture of the last state and complete the run; return the picture.

        ``failed``: the event that ended the run early. ``stopped``: whether the user stopped it.
        """
        hint = continue_hint(self.run)
        with memory_for("write the picture", NotSaved, hint):
            painting = self.session.result(state, self.seconds)
            painting.record.update(
                request=self.key, kernel=self.session.kernel, stopped=stopped, notes=self.notes
            )
            self._output = self._write_picture(painting, complete=not stopped and failed is None)
            if self.run is not None and self.snapshots:
                painting.record["snapshots"] = {
                    "after": str(self.snapshots),
                    "count": len(runs.snapshot_files(self.run.folder)),
                    "seconds": round(self.snapshot_seconds, 3),
                }
        if self.run is not None and failed is None:
            if self._output is not None and not stopped:
                self.run.finish(self._output, painting.record)
            if self.run.incomplete:
                folder = self.run.folder
                message = f"The run folder {folder} could not be written in full; the picture is "
                self.on_event(Warned(f"{message}whole."))
        return painting

    def _write_picture(self, painting: Painting, complete: bool) -> Path | None:
        """Write the picture; return its path, or None if none was written.

        An unfinished picture never replaces another picture. A file that another program wrote
        meanwhile is kept.
        """
        output = self._output
        if output is None:
            return None
        if not complete and self.destination.replaces:
            message = f"{output} is kept as it was; this picture is not finished."
            self.on_event(Warned(message))
            return None
        if destinations.identity(output) != self._identity:
            taken, output = output, destinations.free_path(output)
            message = f"{taken} was written by another program meanwhile; the picture is "
            self.on_event(Warned(f"{message}{output.name}."))
        output = painting.save_somewhere(output)
        painting.record.update(output=str(output), output_sha256=file_sha256(output))
        return output


def continue_hint(run: RunWriter | None) -> str:
    """How to continue a run that has a folder; "" without one."""
    return "The same command continues from the last state that was saved." if run else ""
