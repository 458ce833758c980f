"""Where a picture and its run go, chosen so that nothing finished is replaced and nothing
unfinished is lost.

A request is known by its key (``request_key``). What lies at a place already is either of the same
request, which is then finished or is continued, or of another one, which is kept unless the caller
said to overwrite it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto import images
from impasto.errors import BadRequest, CannotResume, CannotWrite
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.runs import folder
from impasto.runs.folder import Checkpoint
from impasto.storage.files import file_sha256

_NAME_BYTES = 110  # of the photo's and of the paintings' part of a name that is made from theirs


@dataclass(frozen=True)
class Wanted:
    """Where the caller wants the picture and its run to go.

    ``output``: the picture's path; None to write none. ``run``: the run's folder; None to keep
    none, unless ``beside``: then it is the one beside the picture. ``named``: the caller named the
    output; where it is taken, that is an error. A made-up name gets a number instead.
    ``overwrite``: what is there may be replaced. ``fresh``: an unfinished run of the same request
    is started over. ``snapshots``: those that the run is to hold, as one types them; a finished run
    without them does not serve.
    """

    output: Path | None = None
    run: Path | None = None
    beside: bool = False
    named: bool = True
    overwrite: bool = False
    fresh: bool = False
    snapshots: str = ""


@dataclass(frozen=True)
class Place:
    """Where the picture and its run go, and what is there already.

    ``unfinished``: the state to continue from. ``record``: that of the same request, finished
    before. ``aside``: whether the run folder there is of another request and is to be renamed
    before a new one is begun. ``replaces``: whether a picture is there that is not just the picture
    so far of a run: only a finished one may take its place.
    """

    output: Path | None
    run: Path | None
    unfinished: Checkpoint | None = None
    record: dict[str, Any] | None = None
    aside: bool = False
    replaces: bool = False


def request_key(recipe: Recipe, within: float | None = None, fixed: Set[str] = frozenset()) -> str:
    """What a request is known by: the hash of what decides the pixels, and the time that was given
    for it.

    ``recipe`` names its pictures. ``fixed`` are the settings that the given time must not choose.
    """
    timed = [f"{within:g}", *sorted(fixed & {"size", "iterations"})] if within else []
    return " ".join([recipe.sha256, *timed])


def default_name(photo: str, paintings: Sequence[str], ending: str = ".png") -> str:
    """PHOTO-PAINTING.png, for sources as they were given; a part that is too long for a name is
    shortened.
    """
    parts = ["-".join(_stem(each) for each in group) for group in ([photo], paintings) if group]
    return "-".join(images.shortened(part, longest=_NAME_BYTES) for part in parts) + ending


def _stem(source: str) -> str:
    """A file's name without its ending, or a painting's; without the weight that was given with it."""
    return "stdin" if source == "-" else Path(re.sub(r":[\d.]+$", "", source)).stem


def settle(wanted: Wanted, recipe: Recipe, key: str) -> Place:
    """The place for a request; nothing is changed. ``recipe`` names its pictures, and ``key`` is
    its ``request_key``.

    Raises:
        CannotWrite: a finished picture or run of another request is there, or what is there is no
            run's folder.
        CannotResume: there is a state there that cannot be read.
    """
    if wanted.output is None or wanted.named:
        return _at(wanted.output, wanted, recipe, key)
    if wanted.run is not None:
        folder.check(wanted.run)
        before = _found(wanted.run, wanted.fresh)
        with suppress(_Taken):
            if before.is_of(key) and before.output:
                return _at(Path(before.output), wanted, recipe, key)
        return _at(free(wanted.output), wanted, recipe, key)
    for output in numbered(wanted.output):
        try:
            place = _at(output, wanted, recipe, key)
        except (_Taken, folder.Occupied):
            continue
        if not place.aside:
            return place
    raise AssertionError("numbers do not end")


def numbered(path: Path) -> Iterator[Path]:
    """The path itself, then ``NAME-2.png``, ``NAME-3.png`` and so on."""
    yield path
    for count in itertools.count(2):
        yield path.with_name(f"{path.stem}-{count}{path.suffix}")


def free(path: Path) -> Path:
    """The path, or the first numbered one where nothing is."""
    return next(each for each in numbered(path) if not _exists(each))


def identity(path: Path | None) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written to; None where there is none."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse to replace what is there.

    Raises:
        CannotWrite: something is there, and ``overwrite`` was not said.
    """
    if _exists(path) and not overwrite:
        raise _Taken(
            f"{path} exists already and is kept.", "Give another name with -o, or add --overwrite."
        )


class _Taken(CannotWrite):
    """There is another picture of that name."""


@dataclass(frozen=True)
class _Found:
    """What a run's folder holds: the record of a finished run, the state of an unfinished one, or
    neither.
    """

    record: dict[str, Any] | None = None
    state: Checkpoint | None = None

    def is_of(self, key: str) -> bool:
        """Whether it is the run of a request; one in a given time may be continued by the settings
        chosen for it, too.
        """
        return self._told.get("request") == key or (
            self.state is not None and self.state.facts["recipe_sha256"] == key
        )

    @property
    def recipe(self) -> str:
        """The hash of the recipe that is painted, which a given time may have chosen."""
        return str(self._told.get("recipe_sha256", ""))

    @property
    def output(self) -> str:
        return str(self._told.get("output") or "")

    @property
    def snapshots(self) -> str:
        """After which evaluations a finished run kept its picture."""
        return str((self.record or {}).get("snapshots", {}).get("after", ""))

    @property
    def _told(self) -> Mapping[str, Any]:
        return (
            self.record
            if self.record is not None
            else self.state.facts
            if self.state is not None
            else {}
        )


def _found(run: Path, fresh: bool) -> _Found:
    if (run / folder.RECORD).exists():
        return _Found(record=folder.record(run))
    try:
        return _Found(state=folder.checkpoint(run))
    except CannotResume:
        if fresh:
            return _Found()
        raise


def _at(output: Path | None, wanted: Wanted, recipe: Recipe, key: str) -> Place:
    """The place with this output.

    Raises:
        _Taken: another picture is there.
    """
    run = wanted.run or (folder.beside(output) if wanted.beside and output is not None else None)
    if run is None:
        if output is not None:
            check_free(output, wanted.overwrite)
        return Place(output, None, replaces=output is not None and _exists(output))
    folder.check(run)
    found = _found(run, wanted.fresh)
    same = found.is_of(key)
    done = same and found.record is not None and _is_done(output, run, recipe, found.record)
    if (
        done
        and not (wanted.overwrite or wanted.fresh)
        and wanted.snapshots in ("", found.snapshots)
    ):
        return Place(output, run, record=found.record)
    anew = wanted.overwrite or (done and wanted.fresh)
    kept = found.state if same and not wanted.fresh else None
    mine = (
        found.recipe
        if found.state
        else recipe.sha256
        if wanted.fresh and found.record is None
        else ""
    )
    so_far = output is None or bool(mine and _carries(output, mine))
    if output is not None and not done and not so_far:
        check_free(output, wanted.overwrite)
    if output is not None and done and not anew and _exists(output):
        raise _Taken(
            f"{output} is finished already, without these snapshots; it is kept.",
            "Add --fresh to paint it again.",
        )
    if found.record is not None and wanted.run is not None and not anew:
        raise CannotWrite(
            f"{run} holds the run of a finished picture and is kept.",
            "Name another one with --run, or add --overwrite.",
        )
    # A run of another request that was stopped, or the log of a picture that is not there any more.
    aside = (found.state is not None and not same) or (found.record is not None and not anew)
    there = output is not None and _exists(output)
    return Place(output, run, unfinished=kept, aside=aside, replaces=there and not so_far)


def _is_done(output: Path | None, run: Path, recipe: Recipe, record: dict[str, Any]) -> bool:
    """Whether a finished run's picture is written as the recipe says, and is there or can be copied
    from the run.
    """
    result = folder.result(run)
    file = output if output is not None and _exists(output) else result
    if file is None or (output is not None and output.suffix.lower() != file.suffix.lower()):
        return False
    return folder.recipe(run).output == recipe.output and file_sha256(file) == record.get(
        "output_sha256"
    )


def _carries(output: Path, recipe: str) -> bool:
    """Whether nothing is there, or a picture that carries the recipe of this hash: the picture so
    far of its run.
    """
    if not _exists(output):
        return True
    try:
        text = images.embedded_recipe(output)
        return text is not None and loading.from_json(text).sha256 == recipe
    except BadRequest:
        return False


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
