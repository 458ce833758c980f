"""A run is a folder: recipe, events, state, preview, result, and a record that is written last and
marks it complete.

It knows file names and how to write them so that each is whole or absent. It refuses to know how
pictures are painted.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from impasto import events, images
from impasto.errors import BadRecipe, CannotResume, CannotWrite, UnknownName, ran_out_of_memory
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.runs import snapshots
from impasto.storage.files import claim, clear_all_parts, clear_parts, replace_file
from impasto.storage.names import json_text

if TYPE_CHECKING:
    from impasto.storage.tensors import StoredTensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


RECIPE, EVENTS, STATE = "recipe.toml", "events.jsonl", "state.safetensors"
PREVIEW, RECORD, SNAPSHOTS = "preview.jpg", "record.json", "snapshots"
_FICLONE = 0x40049409  # linux/fs.h: let one file share the blocks of another
_RESULTS = tuple(f"result{extension}" for extension in images.EXTENSIONS)
_FILES = {RECIPE, EVENTS, STATE, PREVIEW, RECORD, *_RESULTS}


def beside(output: Path) -> Path:
    """The run folder of an output: ``picture.png`` has ``picture.png.run``; where that is too long,
    a shortened name.
    """
    return output.with_name(images.shortened(output.name, ".run"))


ELSEWHERE = "Name another place with --run DIR, or keep none with --no-run."


class Occupied(CannotWrite):
    """The folder holds something else than a run, or a run that another program is writing."""


def check(folder: Path) -> None:
    """Look, before any work, whether a run may be written there; nothing is changed.

    Raises:
        CannotWrite: a file is in the way, the folder holds something and is not provably a run's,
            or another program is writing a run there.
    """
    nearest = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not nearest.is_dir():
        raise CannotWrite(
            f"The run folder {folder} cannot be made: {nearest} is a file.", ELSEWHERE
        )
    if nearest == folder.absolute():
        if reason := _not_a_run(folder):
            raise Occupied(
                f"{folder} is no run folder: {reason}. Nothing in it was touched.", ELSEWHERE
            )
        if (held := _claimed(folder)) is not None:
            held.close()


def _not_a_run(folder: Path) -> str:
    """Why a folder cannot be shown to be a run's; "" where it can, or where it is empty.

    Files are replaced and removed in a run's folder, so names that a run uses too prove nothing.
    Every run begins with a recipe that names its pictures by their hashes, and then writes its log,
    before any picture.
    """
    names = _visible(folder)
    shots = folder / SNAPSHOTS
    among = {
        f"{SNAPSHOTS}/{name}" for name in _visible(shots) if snapshots.evaluations_of(name) is None
    }
    strangers = {
        name for name in names if name not in _FILES and not (name == SNAPSHOTS and shots.is_dir())
    } | among
    if strangers:
        return f"it holds {min(strangers)}"
    if not names:
        return ""
    if _has_log(folder):
        return ""
    try:
        begun = recipe(folder)
    except CannotResume:
        return f"it holds {min(names)}, and neither recipe nor log of a run"
    if not all(each.sha256 for each in (begun.photo, *begun.paintings) if each is not None):
        return f"its {RECIPE} is not one that a run wrote"
    pictures = [name for name in names if name in (PREVIEW, SNAPSHOTS, *_RESULTS)]
    return f"it holds {min(pictures)}, and no log of a run" if pictures else ""


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


def _visible(folder: Path) -> list[str]:
    """The names in a folder, but for those with a dot: what a killed run left half-written, or the
    file manager's own.
    """
    return (
        [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if folder.is_dir()
        else []
    )


def _claimed(folder: Path) -> IO[bytes] | None:
    """The recipe of a run, open and held, so that no other program writes to that folder; None
    where that cannot be done.

    Raises:
        CannotWrite: another program holds it.
    """
    try:
        file = (folder / RECIPE).open("r+b")
    except OSError:
        return None
    if not claim(file):
        file.close()
        message = f"Another impasto is painting with the run folder {folder}."
        raise Occupied(
            message,
            "Wait for it or stop it, give the picture another name with -o, or use --no-run.",
        )
    return file


# Of a state that is written down. A state of another number is not gone on with: raise it whenever
# what a state holds, or the picture that comes of it, is no longer the same.
_FORMAT = 3
# What is written down with every state, and its type.
_FACTS = {"request": str, "recipe_sha256": str, "kernel": str, "seconds": float, "output": str}


@dataclass(frozen=True)
class Checkpoint:
    """A state as it was written down: named tensors, what goes with them as plain values, and the
    folder of the run.
    """

    tensors: Mapping[str, StoredTensor]
    facts: Mapping[str, Any]
    folder: Path = Path()

    def refused(self, reason: str) -> CannotResume:
        """The error that says why it cannot be gone on with."""
        return cannot_resume(self.folder, reason)


def cannot_resume(folder: Path, reason: str) -> CannotResume:
    """The error of a run that cannot be gone on with for this reason."""
    hint = "Give the command that began it again with --fresh, to start over; until then nothing of it is lost."
    return CannotResume(f"The run {folder} cannot be gone on with: {reason}.", hint)


def recipe(folder: Path) -> Recipe:
    """The recipe that a run began with, its pictures named.

    Raises:
        CannotResume: it is not there, or cannot be read.
    """
    try:
        found = loading.load(str(folder.absolute() / RECIPE))
    except (UnknownName, BadRecipe) as error:
        reason = (
            f"there is no {RECIPE} in it"
            if isinstance(error, UnknownName)
            else error.message.removesuffix(".")
        )
        raise cannot_resume(folder, reason) from None
    if found.photo is None or not found.paintings:
        raise cannot_resume(folder, f"its {RECIPE} names no photo or no painting")
    return found


def record(folder: Path) -> dict[str, Any]:
    """The record of a complete run; empty where there is none that can be read."""
    try:
        found = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def checkpoint(folder: Path) -> Checkpoint | None:
    """The last state that an unfinished run wrote; None where there is none, or where the run is
    complete.

    Raises:
        CannotResume: a state that cannot be read, or that another version of Impasto wrote.
    """
    if (folder / RECORD).exists() or not (folder / STATE).is_file():
        return None
    from safetensors import SafetensorError

    from impasto.storage import tensors as scratch

    try:
        tensors, metadata = scratch.waiting(folder / STATE)
        facts = json.loads(metadata["facts"])
        if not isinstance(facts, dict) or facts.pop("format", None) != _FORMAT:
            raise cannot_resume(folder, "its state was written by another version of Impasto")
        for name, kind in _FACTS.items():
            if type(facts.get(name)) is not kind:
                raise ValueError(f"{name} is {facts.get(name)!r}")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise cannot_resume(folder, f"its state cannot be read ({error})") from None
    return Checkpoint(tensors, facts, folder)


def result(folder: Path) -> Path | None:
    """The finished picture of a complete run."""
    found = (folder / name for name in _RESULTS if (folder / name).is_file())
    return next(found, None) if (folder / RECORD).exists() else None


def kept_snapshots(folder: Path) -> list[tuple[int, Path]]:
    """The evaluations and the files of a run's snapshots, in order."""
    shots = folder / SNAPSHOTS
    found = (
        [(snapshots.evaluations_of(path.name), path) for path in shots.iterdir()]
        if shots.is_dir()
        else []
    )
    return sorted((evaluations, path) for evaluations, path in found if evaluations is not None)


def copy(picture: Path, to: Path) -> None:
    """A second file of the same bytes, not a second name: editing one must not change the other.

    Where the file system can share blocks between files (Btrfs, XFS, APFS by its own copy) it takes
    no room.
    """
    to.unlink(missing_ok=True)
    with picture.open("rb") as source, to.open("xb") as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            return
        except (OSError, AttributeError):
            pass
        shutil.copyfileobj(source, target, 2**20)


def move_aside(folder: Path) -> Path:
    """Rename a run's folder to the first free of ``NAME-1``, ``NAME-2``, ...; gives the new path.

    Raises:
        CannotWrite: it cannot be renamed.
    """
    free = next(
        path
        for count in itertools.count(1)
        if not (path := folder.with_name(f"{folder.name}-{count}")).exists()
    )
    try:
        folder.rename(free)
    except OSError as error:
        raise CannotWrite(
            f"The run folder {folder} cannot be renamed: {error.strerror or error}.", ELSEWHERE
        ) from None
    return free


@dataclass
class Run:
    """A run that is being written; ``lost`` says whether something of it could not be.

    ``held`` keeps other programs out until it is closed.
    """

    folder: Path
    held: IO[bytes] | None = None
    lost: bool = False

    @classmethod
    def start(cls, folder: Path, recipe: Recipe) -> Run:
        """A fresh run: the folder made, what an earlier run left in it removed, and the recipe
        written.

        Raises:
            CannotWrite: the folder cannot be made or written, or holds what is not a run's.
        """
        check(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The mark of completion first; recipe and log last, since they show that the folder is
            # a run's.
            for name in (RECORD, PREVIEW, *_RESULTS, STATE):
                (folder / name).unlink(missing_ok=True)
                clear_parts(folder / name)
            for _, shot in kept_snapshots(folder):
                shot.unlink()
            clear_all_parts(folder / SNAPSHOTS)
            with contextlib.suppress(OSError):
                (folder / SNAPSHOTS).rmdir()
            (folder / EVENTS).unlink(missing_ok=True)
            replace_file(folder / RECIPE, recipe.to_toml().encode())
        except OSError as error:
            raise CannotWrite(
                f"The run folder {folder} cannot be written: {error.strerror or error}.",
                ELSEWHERE,
            ) from None
        return cls(folder, _claimed(folder))

    @classmethod
    def resume(cls, folder: Path, recipe: Recipe) -> Run:
        """An unfinished run, to be continued; what a killed run left half-written is removed.

        ``recipe`` may differ from the one that it began with in how the picture is written: it
        takes its place.
        """
        run = cls(folder, _claimed(folder))
        for name in _FILES:
            clear_parts(folder / name)
        clear_all_parts(folder / SNAPSHOTS)
        text = recipe.to_toml().encode()
        if text != (folder / RECIPE).read_bytes():
            with run.trying():
                replace_file(folder / RECIPE, text)
                run.close()  # it holds the file that was replaced
                run.held = _claimed(folder)
        return run

    def close(self) -> None:
        """Let others in again."""
        if self.held is not None:
            self.held.close()

    def keep(self, tensors: Mapping[str, StoredTensor], facts: Mapping[str, Any]) -> None:
        """Replace the state to go on from."""
        from impasto.storage import tensors as scratch

        with self.trying():
            text = json.dumps({"format": _FORMAT, **facts})
            replace_file(self.folder / STATE, scratch.written(tensors, {"facts": text}))

    def note(self, event: events.Event) -> None:
        """Append an event to the run's log."""
        line = json.dumps({**events.to_dict(event), "time": round(time.time(), 3)})
        with self.trying(), (self.folder / EVENTS).open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def preview(self, pixels: images.Pixels) -> None:
        """Replace the picture to look at while the run goes on: pixels (H, W, 3), 0..1."""
        with self.trying():
            images.save(self.folder / PREVIEW, pixels, quality=85)

    def snapshot(
        self, evaluations: int, pixels: images.Pixels, alpha: images.Pixels | None
    ) -> None:
        """Keep the picture after so many evaluations: pixels (H, W, 3) and alpha (H, W), 0..1.

        As PNG, which loses nothing: gradients are computed from it again, and the dots of a JPEG
        would be in them.
        """
        with self.trying():
            (self.folder / SNAPSHOTS).mkdir(exist_ok=True)
            images.save(
                self.folder / SNAPSHOTS / snapshots.file_name(evaluations), pixels, alpha=alpha
            )

    def finish(self, output: Path, record: dict[str, Any]) -> None:
        """Take the result in and write the record, the mark that the run is complete."""
        result = self.folder / f"result{output.suffix.lower()}"
        with self.trying():
            copy(output, result)
            text = (json_text(record, indent=2) + "\n").encode()
            try:
                replace_file(self.folder / RECORD, text)
            # For want of room, of which the state takes up much and is not needed any more.
            except CannotWrite:
                (self.folder / STATE).unlink(missing_ok=True)
                replace_file(self.folder / RECORD, text)
            (self.folder / STATE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def trying(self) -> Iterator[None]:
        """The log must not take the picture with it: a full disk or memory ends the log, not the
        run.
        """
        try:
            yield
        except (OSError, CannotWrite, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not ran_out_of_memory(error):
                raise
            self.lost = True
