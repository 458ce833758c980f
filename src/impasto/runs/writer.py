"""Write the folder of a run, so that each file is whole or absent."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto import events, images
from impasto.errors import CannotWrite, ran_out_of_memory
from impasto.recipe.records import Recipe
from impasto.runs import folder as files
from impasto.runs import snapshots
from impasto.storage.files import remove_abandoned_parts, remove_all_abandoned_parts, replace_file
from impasto.storage.names import json_text

if TYPE_CHECKING:
    from impasto.storage.tensors import StoredTensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FICLONE = 0x40049409  # linux/fs.h: let one file share the blocks of another
_PREVIEW_QUALITY = 85  # of a JPEG


@dataclass
class RunWriter:
    """A run that is being written.

    ``lock`` keeps other programs out until ``close``. ``incomplete``: whether something could not
    be written.
    """

    folder: Path
    lock: ExitStack = field(default_factory=ExitStack)
    incomplete: bool = False

    @classmethod
    def start(cls, folder: Path, recipe: Recipe) -> RunWriter:
        """Begin a run: make the folder, remove an earlier run in it, and write the recipe.

        Raises:
            CannotWrite: the folder cannot be made or written, or is not a run's.
        """
        files.check(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = files.lock_run(folder)
            _remove_run(folder)
            replace_file(folder / files.RECIPE, recipe.to_toml().encode())
        except OSError as error:
            reason = error.strerror or error
            message = f"The run folder {folder} cannot be written: {reason}."
            raise CannotWrite(message, files.ELSEWHERE) from None
        return cls(folder, lock)

    @classmethod
    def resume(cls, folder: Path, recipe: Recipe) -> RunWriter:
        """Continue an unfinished run; remove what a killed run left half-written.

        ``recipe`` may differ from the run's in how the picture is written. It replaces it.
        """
        run = cls(folder, files.lock_run(folder))
        for name in files.FILES:
            remove_abandoned_parts(folder / name)
        remove_all_abandoned_parts(folder / files.SNAPSHOTS)
        text = recipe.to_toml().encode()
        if text != (folder / files.RECIPE).read_bytes():
            with run.errors_recorded():
                replace_file(folder / files.RECIPE, text)
        return run

    def close(self) -> None:
        """Release the lock."""
        self.lock.close()

    def save_state(self, tensors: Mapping[str, StoredTensor], values: Mapping[str, Any]) -> None:
        """Replace the saved state."""
        from impasto.storage.tensors import safetensors_parts

        with self.errors_recorded():
            text = json.dumps({"format": files.FORMAT, **values})
            parts = safetensors_parts(tensors, {"facts": text})
            replace_file(self.folder / files.STATE, parts)

    def log(self, event: events.Event) -> None:
        """Append an event to the log."""
        line = json.dumps({**events.to_dict(event), "time": round(time.time(), 3)})
        with (
            self.errors_recorded(),
            (self.folder / files.EVENTS).open("a", encoding="utf-8") as log,
        ):
            log.write(line + "\n")

    def save_preview(self, pixels: images.Pixels) -> None:
        """Replace the preview: pixels (H, W, 3), 0..1."""
        with self.errors_recorded():
            images.save(self.folder / files.PREVIEW, pixels, quality=_PREVIEW_QUALITY)

    def save_snapshot(
        self, evaluations: int, pixels: images.Pixels, alpha: images.Pixels | None
    ) -> None:
        """Save the picture after ``evaluations``: pixels (H, W, 3) and alpha (H, W), 0..1.

        As PNG, which is lossless: gradients are computed from it again, and would contain the
        artefacts of a JPEG.
        """
        with self.errors_recorded():
            shots = self.folder / files.SNAPSHOTS
            shots.mkdir(exist_ok=True)
            images.save(shots / snapshots.file_name(evaluations), pixels, alpha=alpha)

    def finish(self, output: Path, record: dict[str, Any]) -> None:
        """Copy the result and write the record, which marks the run as complete."""
        state = self.folder / files.STATE
        with self.errors_recorded():
            copy_file(output, self.folder / f"result{output.suffix.lower()}")
            text = (json_text(record, indent=2) + "\n").encode()
            try:
                replace_file(self.folder / files.RECORD, text)
            except CannotWrite:  # the disk is full: the state is large and not needed any more
                state.unlink(missing_ok=True)
                replace_file(self.folder / files.RECORD, text)
            state.unlink(missing_ok=True)

    @contextlib.contextmanager
    def errors_recorded(self) -> Iterator[None]:
        """Set ``incomplete`` where disk or memory is full: the log must not stop the painting."""
        try:
            yield
        except (OSError, CannotWrite, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not ran_out_of_memory(error):
                raise
            self.incomplete = True


def copy_file(picture: Path, to: Path) -> None:
    """Make a second file with the same contents, which can be changed independently.

    It shares blocks with the first on file systems that can do that (Btrfs, XFS), and takes no
    room there.
    """
    to.unlink(missing_ok=True)
    with picture.open("rb") as source, to.open("xb") as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            return
        except (OSError, AttributeError):
            pass
        shutil.copyfileobj(source, target, 2**20)


def _remove_run(folder: Path) -> None:
    """Remove the files of an earlier run.

    The mark of completion goes first. The recipe and the log go last, because they prove that the
    folder is a run's.
    """
    for name in (files.RECORD, files.PREVIEW, *files.RESULTS, files.STATE):
        (folder / name).unlink(missing_ok=True)
        remove_abandoned_parts(folder / name)
    for _, shot in files.snapshot_files(folder):
        shot.unlink()
    remove_all_abandoned_parts(folder / files.SNAPSHOTS)
    with contextlib.suppress(OSError):
        (folder / files.SNAPSHOTS).rmdir()
    (folder / files.EVENTS).unlink(missing_ok=True)
