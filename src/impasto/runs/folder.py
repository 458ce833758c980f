"""Read and check the folder of a run.

A run folder holds the recipe, the event log, the last saved state, a preview, snapshots, the
result, and a record that is written last and marks the run as complete.
"""

from __future__ import annotations

import itertools
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from impasto import events, images
from impasto.errors import BadRecipe, CannotResume, CannotWrite, UnknownName
from impasto.optimize.checkpoint import Checkpoint, cannot_resume
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.runs import snapshots
from impasto.storage.locks import is_locked, locked
from impasto.storage.names import shorten_name

RECIPE, EVENTS, STATE = "recipe.toml", "events.jsonl", "state.safetensors"
PREVIEW, RECORD, SNAPSHOTS = "preview.jpg", "record.json", "snapshots"
RESULTS = tuple(f"result{extension}" for extension in images.EXTENSIONS)
LOCK = ".lock"  # is there while a program writes the run, and after it was killed
FILES = {RECIPE, EVENTS, STATE, PREVIEW, RECORD, *RESULTS}
ELSEWHERE = "Name another place with --run DIR, or keep none with --no-run."

# The version of a saved state. Raise it whenever the contents of a state change, or the picture
# that comes of it. A state of another version is not continued.
FORMAT = 4
# The values that are saved with every state, and their types.
_VALUES = {"request": str, "recipe_sha256": str, "kernel": str, "seconds": float, "output": str}


class Occupied(CannotWrite):
    """The folder holds something other than a run, or another program is writing a run there."""


# ---- where a run may be written ------------------------------------------------------------------


def beside(output: Path) -> Path:
    """The run folder of a picture: ``picture.png.run``, shortened if the name is too long."""
    return output.with_name(shorten_name(output.name, ".run"))


def check(folder: Path) -> None:
    """Check, before any work, that a run may be written to ``folder``. Nothing is changed.

    Raises:
        CannotWrite: a file is in the way, the folder is not provably a run's, or another program
            is writing a run there.
    """
    absolute = folder.absolute()
    nearest = next(path for path in (absolute, *absolute.parents) if path.exists())
    if not nearest.is_dir():
        raise CannotWrite(
            f"The run folder {folder} cannot be made: {nearest} is a file.", ELSEWHERE
        )
    if nearest == absolute:
        if reason := _why_not_a_run(folder):
            message = f"{folder} is no run folder: {reason}. Nothing in it was touched."
            raise Occupied(message, ELSEWHERE)
        if is_locked(folder / LOCK):
            raise _in_use(folder)


def lock_run(folder: Path) -> ExitStack:
    """Lock a run folder for this program; the lock lasts until the returned object is closed.

    Where no lock file can be made, as in a folder that may not be written, nothing is locked.

    Raises:
        CannotWrite: another program holds the lock.
    """
    stack = ExitStack()
    try:
        stack.enter_context(locked(folder / LOCK, timeout=0))
    except TimeoutError:
        raise _in_use(folder) from None
    except OSError:
        pass
    return stack


def _in_use(folder: Path) -> Occupied:
    return Occupied(
        f"Another impasto is painting with the run folder {folder}.",
        "Wait for it or stop it, give the picture another name with -o, or use --no-run.",
    )


def move_aside(folder: Path) -> Path:
    """Rename a run folder to the first free of ``NAME-1``, ``NAME-2``, ...; return the new path.

    Raises:
        CannotWrite: it cannot be renamed.
    """
    numbered = (folder.with_name(f"{folder.name}-{count}") for count in itertools.count(1))
    free = next(path for path in numbered if not path.exists())
    try:
        folder.rename(free)
    except OSError as error:
        reason = error.strerror or error
        message = f"The run folder {folder} cannot be renamed: {reason}."
        raise CannotWrite(message, ELSEWHERE) from None
    return free


def _why_not_a_run(folder: Path) -> str:
    """Why a folder cannot be proved to be a run's; "" if it can, or if it is empty.

    Files in a run folder are replaced and removed, so file names alone prove nothing. Every run
    begins with a recipe that names its pictures by their hashes, and then a log, before any
    picture.
    """
    names = _visible_names(folder)
    if unknown := _unknown_names(folder, names):
        return f"it holds {min(unknown)}"
    if not names or _has_log(folder):
        return ""
    try:
        recipe = read_recipe(folder)
    except CannotResume:
        return f"it holds {min(names)}, and neither recipe nor log of a run"
    inputs = [picture for picture in (recipe.photo, *recipe.paintings) if picture is not None]
    if not all(picture.sha256 for picture in inputs):
        return f"its {RECIPE} is not one that a run wrote"
    pictures = [name for name in names if name in (PREVIEW, SNAPSHOTS, *RESULTS)]
    return f"it holds {min(pictures)}, and no log of a run" if pictures else ""


def _unknown_names(folder: Path, names: list[str]) -> set[str]:
    """The names in a folder that no run writes."""
    shots = folder / SNAPSHOTS
    among_shots = {
        f"{SNAPSHOTS}/{name}"
        for name in _visible_names(shots)
        if snapshots.evaluations_of(name) is None
    }
    known = FILES | ({SNAPSHOTS} if shots.is_dir() else set())
    return {name for name in names if name not in known} | among_shots


def _has_log(folder: Path) -> bool:
    """Whether the folder's log begins as a run's does."""
    try:
        with (folder / EVENTS).open(encoding="utf-8") as log:
            line = json.loads(log.readline())
            line.pop("time")
            events.from_dict(line)
            return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _visible_names(folder: Path) -> list[str]:
    """The names in a folder without those that begin with a dot.

    These are left by a killed run or belong to a file manager.
    """
    if not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


# ---- what a run holds ----------------------------------------------------------------------------


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run, which names its pictures.

    Raises:
        CannotResume: it is missing or cannot be read.
    """
    try:
        recipe = loading.load(str(folder.absolute() / RECIPE))
    except UnknownName:
        raise cannot_resume(folder, f"there is no {RECIPE} in it") from None
    except BadRecipe as error:
        raise cannot_resume(folder, error.message.removesuffix(".")) from None
    if recipe.photo is None or not recipe.paintings:
        raise cannot_resume(folder, f"its {RECIPE} names no photo or no painting")
    return recipe


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a complete run; empty if there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The last state that an unfinished run saved; None if there is none, or the run is complete.

    Raises:
        CannotResume: the state cannot be read, or another version of Impasto wrote it.
    """
    if (folder / RECORD).exists() or not (folder / STATE).is_file():
        return None
    from safetensors import SafetensorError

    from impasto.storage.tensors import open_safetensors

    try:
        tensors, metadata = open_safetensors(folder / STATE)
        values = json.loads(metadata["facts"])
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise cannot_resume(folder, "its state was written by another version of Impasto")
        for name, kind in _VALUES.items():
            if type(values.get(name)) is not kind:
                raise ValueError(f"{name} is {values.get(name)!r}")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise cannot_resume(folder, f"its state cannot be read ({error})") from None
    return Checkpoint(tensors, values, folder)


def result_file(folder: Path) -> Path | None:
    """The finished picture of a complete run."""
    files = (folder / name for name in RESULTS if (folder / name).is_file())
    return next(files, None) if (folder / RECORD).exists() else None


def snapshot_files(folder: Path) -> list[tuple[int, Path]]:
    """The snapshots of a run as (evaluations, file), in order."""
    shots = folder / SNAPSHOTS
    if not shots.is_dir():
        return []
    numbered = [(snapshots.evaluations_of(path.name), path) for path in shots.iterdir()]
    return sorted((count, path) for count, path in numbered if count is not None)
