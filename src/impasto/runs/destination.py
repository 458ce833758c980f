"""Choose where a picture and its run are written.

Nothing finished is replaced and nothing unfinished is lost. A request has a key (``request_key``).
What is there already belongs to the same request, and is then finished or continued, or to another
one, and is kept unless the caller asked to overwrite it.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from impasto import images
from impasto.errors import BadRequest, CannotResume, CannotWrite
from impasto.geometry import Size
from impasto.inputs import Inputs
from impasto.optimize.checkpoint import Checkpoint
from impasto.planning.time_budget import TimeBudget
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.runs import folder as runs
from impasto.runs.snapshots import Snapshots, check_kept
from impasto.storage.files import file_sha256
from impasto.storage.names import expand_home, is_file, shorten_name

_NAME_BYTES = 110  # of the photo's part, and of the paintings' part, of a default name


@dataclass(frozen=True)
class Target:
    """Where the caller wants the picture and its run.

    ``output``: the picture's path; None writes no picture. ``run``: the run folder. ``beside``:
    without ``run``, whether there is a run folder beside the picture. ``named``: whether the user
    named the output. A name that is taken is an error; a default name gets a number instead.
    ``overwrite``: replace what is there. ``fresh``: start an unfinished run of the same request
    again. ``snapshots``: the snapshots that the run is to hold; a finished run without them does
    not count.

    Raises:
        CannotWrite: snapshots without a run folder.
    """

    output: Path | None = None
    run: Path | None = None
    beside: bool = False
    named: bool = True
    overwrite: bool = False
    fresh: bool = False
    snapshots: Snapshots = field(default_factory=Snapshots)

    def __post_init__(self) -> None:
        check_kept(self.snapshots, self.run is not None or self.beside)


@dataclass(frozen=True)
class Destination:
    """Where the picture and its run go, and what is there.

    ``checkpoint``: the state to continue from. ``record``: that of the same request, finished
    before. ``move_aside``: whether the run folder belongs to another request and must be renamed.
    ``replaces``: whether there is a picture other than an unfinished one of the same run. Only a
    finished picture may replace it.
    """

    output: Path | None
    run: Path | None
    checkpoint: Checkpoint | None = None
    record: dict[str, Any] | None = None
    move_aside: bool = False
    replaces: bool = False


def request_key(recipe: Recipe, budget: TimeBudget | None = None) -> str:
    """The key of a request: the hash of what decides the pixels, and the time budget.

    ``recipe`` names its pictures.
    """
    if budget is None:
        return recipe.sha256
    fixed = sorted(budget.fixed & {"size", "iterations"})
    return " ".join([recipe.sha256, f"{budget.seconds:g}", *fixed])


def default_name(photo: str, paintings: Sequence[str], ending: str = ".png") -> str:
    """PHOTO-PAINTING.png for sources as they were given; parts that are too long are shortened."""
    parts = ["-".join(_stem(source) for source in group) for group in ([photo], paintings) if group]
    return "-".join(shorten_name(part, max_bytes=_NAME_BYTES) for part in parts) + ending


def _stem(source: str) -> str:
    """A file name without its ending, or a painting's name, without the weight."""
    return "stdin" if source == "-" else Path(re.sub(r":[\d.]+$", "", source)).stem


def choose_destination(target: Target, recipe: Recipe, key: str) -> Destination:
    """The destination of a request. Nothing is changed.

    ``recipe`` names its pictures, and ``key`` is its ``request_key``.

    Raises:
        CannotWrite: a finished picture or run of another request is there, or the folder is not a
            run's.
        CannotResume: there is a state that cannot be read.
    """
    if target.output is None or target.named:
        return _destination(target.output, target, recipe, key)
    if target.run is not None:
        runs.check(target.run)
        existing = _existing_run(target.run, target.fresh)
        with suppress(_Taken):
            if existing.is_of(key) and existing.output:
                return _destination(Path(existing.output), target, recipe, key)
        return _destination(free_path(target.output), target, recipe, key)
    for output in _numbered(target.output):
        try:
            destination = _destination(output, target, recipe, key)
        except (_Taken, runs.Occupied):
            continue
        if not destination.move_aside:
            return destination
    raise AssertionError("numbers do not end")


def output_path(output: str, photo: str, paintings: Sequence[str]) -> tuple[Path, bool]:
    """The path of a picture, and whether the user named it.

    ``output``: a file; or a folder or "", where a default name is made from the sources.
    """
    path = Path(expand_home(output))
    named = bool(output) and not (output.endswith(("/", os.sep)) or os.path.isdir(path))
    return (path if named else path / default_name(photo, paintings)), named


def check_paths(destination: Destination, inputs: Inputs, size: Size | None) -> Destination:
    """Check that picture and run can be written; return the destination with absolute paths.

    ``size``: that of the picture, if it is known.

    Raises:
        CannotWrite: the folder or format, an input picture of that name, or paths that overlap.
    """
    output, run = destination.output, destination.run
    if output is not None:
        output = images.check_output(output, bits=inputs.recipe.output.bits, size=size)
        _check_not_an_input(output, inputs.recipe)
    if run is not None:
        runs.check(run)
    if output is not None and run is not None:
        picture, folder = (Path(os.path.realpath(path)) for path in (output, run))
        if picture == folder or picture in folder.parents or folder in picture.parents:
            raise CannotWrite(
                f"The picture {output} and its run folder {run} are in each other's way.",
                runs.ELSEWHERE,
            )
    return replace(destination, output=output)


def _check_not_an_input(output: Path, recipe: Recipe) -> None:
    pictures = [recipe.photo, *recipe.paintings]
    files = [picture.path for picture in pictures if picture is not None]
    files += [recipe.schedule.start, recipe.protect.regions]
    files = [file for file in files if is_file(file)]
    if os.path.realpath(output) in map(os.path.realpath, files):
        raise CannotWrite(
            f"{output} is one of the input pictures; it would be lost.",
            "Give the result another name.",
        )


def beside(run: Path, ending: str) -> Path:
    """A file beside a run folder: ``painted.png.report.html`` for ``painted.png.run``."""
    run = run.resolve()
    return run.with_name(run.name.removesuffix(".run") + ending)


def check_outside(target: Path, run: Path) -> None:
    """Raise CannotWrite for a file inside a run folder, which only holds what a run writes."""
    if run.resolve() in target.resolve().parents:
        raise CannotWrite(
            f"{target} would lie in the run's folder.", "Name a place beside it with -o."
        )


def free_path(path: Path) -> Path:
    """The path itself, or the first numbered one where nothing exists."""
    return next(candidate for candidate in _numbered(path) if not _exists(candidate))


def check_free(path: Path, overwrite: bool) -> None:
    """Check that a path may be written.

    Raises:
        CannotWrite: something exists there, and ``overwrite`` is False.
    """
    if _exists(path) and not overwrite:
        message = f"{path} exists already and is kept."
        raise _Taken(message, "Give another name with -o, or add --overwrite.")


def identity(path: Path | None) -> tuple[int, ...] | None:
    """Values that change when a file is replaced or written; None if there is no file."""
    try:
        stat = path.stat() if path is not None else None
    except OSError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else None


class _Taken(CannotWrite):
    """Another picture of that name exists."""


@dataclass(frozen=True)
class _ExistingRun:
    """What a run folder holds: the record of a finished run, a checkpoint, or neither."""

    record: dict[str, Any] | None = None
    checkpoint: Checkpoint | None = None

    def is_of(self, key: str) -> bool:
        """Whether it is the run of this request.

        A run with a time budget may also be continued by its chosen settings.
        """
        if self._values.get("request") == key:
            return True
        return self.checkpoint is not None and self.checkpoint.values["recipe_sha256"] == key

    @property
    def recipe_sha256(self) -> str:
        """The hash of the recipe that is painted, which a time budget may have chosen."""
        return str(self._values.get("recipe_sha256", ""))

    @property
    def output(self) -> str:
        return str(self._values.get("output") or "")

    @property
    def snapshots(self) -> str:
        """The snapshots of a finished run, as one types them."""
        return str((self.record or {}).get("snapshots", {}).get("after", ""))

    @property
    def _values(self) -> Mapping[str, Any]:
        if self.record is not None:
            return self.record
        return self.checkpoint.values if self.checkpoint is not None else {}


def _existing_run(run: Path, fresh: bool) -> _ExistingRun:
    if (run / runs.RECORD).exists():
        return _ExistingRun(record=runs.read_record(run))
    try:
        return _ExistingRun(checkpoint=runs.read_checkpoint(run))
    except CannotResume:
        if fresh:
            return _ExistingRun()
        raise


def _destination(output: Path | None, target: Target, recipe: Recipe, key: str) -> Destination:
    """The destination with this output.

    Raises:
        _Taken: another picture is there.
    """
    run = target.run
    if run is None and target.beside and output is not None:
        run = runs.beside(output)
    exists = output is not None and _exists(output)
    if run is None:
        if output is not None:
            check_free(output, target.overwrite)
        return Destination(output, None, replaces=exists)
    runs.check(run)
    existing = _existing_run(run, target.fresh)
    same = existing.is_of(key)
    finished = (
        same and existing.record is not None and _is_finished(output, run, recipe, existing.record)
    )
    repaint = target.overwrite or target.fresh
    if finished and not repaint and str(target.snapshots) in ("", existing.snapshots):
        return Destination(output, run, record=existing.record)
    replace_finished = target.overwrite or (finished and target.fresh)
    unfinished = output is None or _is_unfinished(output, existing, recipe, target.fresh)
    if output is not None:
        _check_output_free(output, target, finished, unfinished, replace_finished)
    if existing.record is not None and target.run is not None and not replace_finished:
        raise CannotWrite(
            f"{run} holds the run of a finished picture and is kept.",
            "Name another one with --run, or add --overwrite.",
        )
    # An unfinished run of another request, or the log of a picture that is not there any more.
    other_run = existing.checkpoint is not None and not same
    move_aside = other_run or (existing.record is not None and not replace_finished)
    checkpoint = existing.checkpoint if same and not target.fresh else None
    return Destination(
        output, run, checkpoint, move_aside=move_aside, replaces=exists and not unfinished
    )


def _check_output_free(
    output: Path, target: Target, finished: bool, unfinished: bool, replace_finished: bool
) -> None:
    """Raise _Taken for a picture that must not be replaced."""
    if not finished and not unfinished:
        check_free(output, target.overwrite)
    if finished and not replace_finished and _exists(output):
        message = f"{output} is finished already, without these snapshots; it is kept."
        raise _Taken(message, "Add --fresh to paint it again.")


def _is_finished(output: Path | None, run: Path, recipe: Recipe, record: dict[str, Any]) -> bool:
    """Whether a run's picture exists, at ``output`` or in the run, and is written as asked."""
    result = runs.result_file(run)
    file = output if output is not None and _exists(output) else result
    if file is None:
        return False
    if output is not None and output.suffix.lower() != file.suffix.lower():
        return False
    same_format = runs.read_recipe(run).output == recipe.output
    return same_format and file_sha256(file) == record.get("output_sha256")


def _is_unfinished(output: Path, existing: _ExistingRun, recipe: Recipe, fresh: bool) -> bool:
    """Whether the output does not exist, or is the unfinished picture of the run."""
    if existing.checkpoint is not None:
        sha256 = existing.recipe_sha256
    else:
        sha256 = recipe.sha256 if fresh and existing.record is None else ""
    return bool(sha256) and _carries_recipe(output, sha256)


def _carries_recipe(output: Path, sha256: str) -> bool:
    """Whether the file does not exist, or is a picture that carries the recipe of this hash."""
    if not _exists(output):
        return True
    try:
        text = images.embedded_recipe(output)
        return text is not None and loading.from_json(text).sha256 == sha256
    except BadRequest:
        return False


def _numbered(path: Path) -> Iterator[Path]:
    """The path itself, then ``NAME-2.png``, ``NAME-3.png`` and so on."""
    yield path
    for count in itertools.count(2):
        yield path.with_name(f"{path.stem}-{count}{path.suffix}")


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
