"""A run is a folder: recipe, events, state, preview, result, and a record that is written last and marks it complete.

It knows file names and how to write them so that each is whole or absent. It refuses to know how pictures are painted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto import events, images
from impasto.errors import CannotResume, CannotWrite
from impasto.images.writing import clear_parts, replace_file
from impasto.recipe import Recipe

if TYPE_CHECKING:
    from impasto.scratch import Kept

RECIPE, EVENTS, STATE = "recipe.toml", "events.jsonl", "state.safetensors"
PREVIEW, RECORD = "preview.jpg", "record.json"
_RESULTS = tuple(f"result{extension}" for extension in images.EXTENSIONS)
_FILES = {RECIPE, EVENTS, STATE, PREVIEW, RECORD, *_RESULTS}


def beside(output: Path) -> Path:
    """The run folder of an output: ``picture.png`` has ``picture.png.run``."""
    return output.with_name(f"{output.name}.run")


_ELSEWHERE = "Name another place with --run DIR, or keep none with --no-run."


def check(folder: Path) -> None:
    """Look, before any work, whether a run may be written there; nothing is changed.

    Raises:
        CannotWrite: a file is in the way, or the folder holds what is not a run's.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise CannotWrite(f"The run folder {folder} cannot be made: {nearest} is a file.", _ELSEWHERE)
    if nearest == folder.absolute():
        # What starts with a dot is a half-written file of a run that was killed, or the file manager's own.
        strangers = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - _FILES
        if strangers:
            raise CannotWrite(f"{folder} is no run folder: it holds {min(strangers)}.", _ELSEWHERE)


@dataclass(frozen=True)
class Checkpoint:
    """A state as it was written down: named tensors, and what goes with them as plain values."""

    tensors: Mapping[str, Kept]
    facts: Mapping[str, Any]


def checkpoint(folder: Path) -> Checkpoint | None:
    """The last state that an unfinished run wrote; None where there is none, or where the run is complete.

    Raises:
        CannotResume: a state that cannot be read.
    """
    if (folder / RECORD).exists() or not (folder / STATE).is_file():
        return None
    from safetensors import SafetensorError

    from impasto import scratch

    try:
        tensors, metadata = scratch.waiting(folder / STATE)
        return Checkpoint(tensors, json.loads(metadata["facts"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        message = f"The state of the run {folder} cannot be read: {error}."
        raise CannotResume(message, "Start over with --fresh.") from None


@dataclass
class Run:
    """A run that is being written; ``lost`` says whether something of it could not be."""

    folder: Path
    lost: bool = False

    @classmethod
    def start(cls, folder: Path, recipe: Recipe) -> Run:
        """A fresh run: the folder made, what an earlier run left in it removed, and the recipe written.

        Raises:
            CannotWrite: the folder cannot be made or written, or holds what is not a run's.
        """
        check(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (RECORD, *sorted(_FILES)):  # the mark of completion first
                (folder / name).unlink(missing_ok=True)
                clear_parts(folder / name)
            replace_file(folder / RECIPE, recipe.to_toml().encode(errors="replace"))
        except OSError as error:
            raise CannotWrite(
                f"The run folder {folder} cannot be written: {error.strerror or error}.",
                _ELSEWHERE,
            ) from None
        return cls(folder)

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """An unfinished run, to be gone on with; what a killed run left half-written is removed."""
        for name in _FILES:
            clear_parts(folder / name)
        return cls(folder)

    def keep(self, tensors: Mapping[str, Kept], facts: Mapping[str, Any]) -> None:
        """Replace the state to go on from."""
        from impasto import scratch

        with self._may_fail():
            replace_file(self.folder / STATE, scratch.written(tensors, {"facts": json.dumps(facts)}))

    def note(self, event: events.Event) -> None:
        """Append an event to the run's log."""
        line = json.dumps({**events.to_dict(event), "time": round(time.time(), 3)})
        with self._may_fail(), (self.folder / EVENTS).open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def preview(self, pixels: images.Pixels) -> None:
        """Replace the picture to look at while the run goes on: pixels (H, W, 3), 0..1."""
        with self._may_fail():
            images.save(self.folder / PREVIEW, pixels, quality=85)

    def finish(self, output: Path, record: dict[str, Any]) -> None:
        """Take the result in and write the record, the mark that the run is complete."""
        result = self.folder / f"result{output.suffix.lower()}"
        with self._may_fail():
            try:
                result.unlink(missing_ok=True)
                os.link(output, result)  # the same bytes, no second copy
            except OSError:
                shutil.copyfile(output, result)
            replace_file(self.folder / RECORD, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
            (self.folder / STATE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _may_fail(self) -> Iterator[None]:
        """The log must not take the picture with it: a full disk ends the log, not the run."""
        try:
            yield
        except (OSError, CannotWrite):
            self.lost = True
