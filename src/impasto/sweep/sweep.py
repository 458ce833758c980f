"""A sweep: one photo and one painting by every combination of some settings, and what came of them
as a poster and a table.

It knows the folder of a sweep: a picture and a run for each combination, ``sweep.csv`` and
``poster.png``. It refuses to know how a picture is painted, how it is judged, and what is said
meanwhile.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from impasto import images
from impasto.comparisons.scores import FIGURES, Scores
from impasto.comparisons.scoring import CachedEvaluator, Row
from impasto.errors import (
    AssetUnavailable,
    BadPicture,
    BadRecipe,
    CannotWrite,
    Diverged,
    memory_for,
)
from impasto.events import Callbacks, Event, Warned
from impasto.geometry import Size
from impasto.images.opening import Source
from impasto.images.recipe_source import load_recipe
from impasto.inputs import Inputs, read_inputs_each
from impasto.recipe import loading, values
from impasto.recipe.choices import NetworkName
from impasto.recipe.records import Recipe
from impasto.runs import folder as runs
from impasto.runs.destination import Target, check_paths, choose_destination, request_key
from impasto.runs.paint import paint
from impasto.storage.files import replace_file
from impasto.storage.names import is_file
from impasto.sweep import grid
from impasto.sweep.grid import Axis, Combination

if TYPE_CHECKING:
    from impasto.session import Session


TABLE, POSTER, RUNS = "sweep.csv", "poster", "runs"
# Px: the long side of a picture on a poster, and of a poster with many of them.
_CELL, _WIDEST = 256, 8000
_FOLDED = 8  # pictures of a single axis that stand side by side
_MISSING = "not painted"


@dataclass(frozen=True)
class Cell:
    """One combination: its request, where its picture and the log of its run go, and whether the
    picture is there.
    """

    combination: Combination
    inputs: Inputs
    file: Path
    run: Path
    done: bool


@dataclass(frozen=True)
class Job:
    """A sweep that has been checked and not begun: what is varied, what else was set, and the cells
    by combination.

    ``seconds`` are those that painting what is not there yet will take, and ``ready`` the bench
    that said so.
    """

    folder: Path
    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]
    cells: tuple[Cell, ...]
    seconds: float = 0.0
    session: Session | None = None
    overwrite: bool = False

    @property
    def pending(self) -> list[Cell]:
        """What is to be painted, so ordered that one network and one referee serve many in a row."""
        return sorted((cell for cell in self.cells if not cell.done), key=_alike)


@dataclass(frozen=True)
class Result:
    """What came of one combination: the values of the axes by name, the picture, its record, and
    how it was judged.

    ``file`` is None where nothing came of it: ``note`` says why. ``record`` is the run's, empty
    where its log is gone.
    """

    settings: dict[str, str]
    file: Path | None = None
    size: Size | None = None
    record: dict[str, Any] = field(default_factory=dict)
    judge: str = ""
    scores: Scores | None = None
    note: str = ""


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep: a result for every combination, in their order, the photo itself and
    the painting itself as the judges sees them in each size, the poster's pages and the table.
    """

    axes: tuple[Axis, ...]
    results: tuple[Result, ...]
    ends: tuple[Row, ...]
    posters: tuple[Path, ...]
    table: Path

    @property
    def complete(self) -> bool:
        """Whether there is a picture for every combination."""
        return all(result.file is not None for result in self.results)


def sweep(
    content: Source,
    style: Source,
    output: str | Path,
    *,
    recipe: Recipe | str = loading.DEFAULT_RECIPE,
    on_event: Callable[[Event], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    most: int | None = grid.MOST,
    overwrite: bool = False,
    **settings: Any,
) -> Sweep:
    """Paint every combination of the settings that have several values, into the folder ``output``.

        impasto.sweep("photo.jpg", "irises", "tried", strength=[20, 50, 80], init="content,noise",
        size=256)

    Pictures that are there already and were painted by the same recipe are kept, and one that was
    broken off is gone on with.

    Args:
        content, style: as ``impasto.stylize`` takes them; one painting.
        most: how many combinations are taken; None for any number.
        overwrite: whether pictures there that were painted with other settings may be replaced.
        settings: any setting of ``impasto.recipe`` by its option name. A list or ``range`` is
            several values, and so are the texts "10,20,50" and "10:90:5" (see ``axes.axes``); all
            else is one value.

    Raises:
        BadRequest: something that was given cannot be used, or there are too many combinations;
            nothing was painted.
        Failed: the work was started and could not be ended. What was painted is in the folder, in
            poster and table too.
    """
    callbacks = Callbacks(on_event or (lambda event: None), cancel or (lambda: False))
    base = load_recipe(recipe, {})
    return paint_job(
        prepare(
            content, style, Path(output), base, settings, callbacks, most=most, overwrite=overwrite
        ),
        callbacks,
    )


def prepare(
    content: Source,
    style: Source,
    folder: Path,
    base: Recipe,
    settings: Mapping[str, Any],
    callbacks: Callbacks,
    *,
    most: int | None = grid.MOST,
    overwrite: bool = False,
) -> Job:
    """Read and check everything that a sweep needs, and find out how long it will take. Nothing is
    painted.

    Raises:
        BadRequest: something that was given cannot be used, or the folder holds other pictures and
            ``overwrite`` was not said.
    """
    base, varied = grid.axes(base, settings)
    combined = grid.combinations(base, varied, most=most)
    each = read_inputs_each(content, style, [one.recipe for one in combined], callbacks.progress)
    cells = []
    for one, asked in zip(combined, each, strict=True):
        if not isinstance(asked, Inputs):
            raise asked
        file, run = folder / f"{one.stem}.png", folder / RUNS / one.stem
        cells.append(Cell(one, asked, file, run, _is_done(file, run, asked.recipe)))
    _check_is_a_sweep(folder, varied, overwrite)
    for cell in cells:
        if not cell.done:
            recipe, target = cell.inputs.recipe, Target(cell.file, cell.run, overwrite=overwrite)
            destination = choose_destination(target, recipe, request_key(recipe))
            check_paths(destination, cell.inputs, cell.inputs.plan.size)
    images.check_output(folder / f"{POSTER}.png")
    several = [axis.name for axis in varied]
    given = {name.replace("_", "-"): value for name, value in settings.items()}
    fixed = tuple(
        f"{name} {values.value_text(value)}" for name, value in given.items() if name not in several
    )
    return _timed(Job(folder, varied, fixed, tuple(cells), overwrite=overwrite), callbacks)


def paint_job(
    job: Job, callbacks: Callbacks, tell: Callable[[Cell], None] = lambda cell: None
) -> Sweep:
    """Paint what is not there yet, judge everything, and write poster and table; ``tell`` hears of
    each picture before.

    A stop that is asked for, and whatever else breaks it off, leaves poster and table of what is
    done.

    Raises:
        Failed: memory or disk ran out. A search that diverges is no failure: its cell says so.
    """
    book = _Book(job, callbacks)
    try:
        for cell in job.cells:
            if cell.done:
                book.enter(cell, runs.read_record(cell.run))
        session = job.session
        for cell in job.pending:
            if callbacks.cancel():
                break
            tell(cell)
            before = cell.file.exists()
            session = _open_session(cell.inputs, callbacks, session)
            try:
                record = _painted(cell, callbacks, session, job.overwrite)
            except Diverged as error:
                if not before:  # the last good picture of a search that failed is no answer
                    cell.file.unlink(missing_ok=True)
                book.enter(cell, {}, error.message)
                continue
            if record is None:
                break
            book.enter(cell, record)
    finally:
        found = book.close()
    return found


def _is_done(file: Path, run: Path, recipe: Recipe) -> bool:
    """Whether the picture is there, by the same recipe, and not the half of one that was stopped."""
    if not is_file(str(file)) or (run / runs.STATE).exists():
        return False
    try:
        text = images.embedded_recipe(file)
        found = loading.from_json(text) if text is not None else None
        return found is not None and (found.sha256, found.output) == (recipe.sha256, recipe.output)
    except (BadPicture, BadRecipe):
        return False


def _check_is_a_sweep(folder: Path, axes: Sequence[Axis], overwrite: bool) -> None:
    """Refuse a folder whose poster or table, which are replaced, are not a sweep's of the same
    settings.

    Raises:
        CannotWrite: they are another sweep's and ``overwrite`` was not said, or no sweep's.
    """
    page, table = folder / f"{POSTER}.png", folder / TABLE
    if not page.exists() and not table.exists():
        return
    try:
        header = next(csv.reader(table.read_text("utf-8", errors="replace").splitlines()), [])
    except OSError:
        header = []
    names = (
        header[: header.index("width")]
        if {"width", "evaluations", "seconds"} <= set(header)
        else []
    )
    if not names:
        there = page.name if page.exists() else TABLE
        raise CannotWrite(
            f"{folder} holds {there} and is no sweep's folder.", "Name another folder with -o."
        )
    if names != [axis.name for axis in axes] and not overwrite:
        raise CannotWrite(
            f"{folder} holds a sweep of {', '.join(names)}; its poster and table are kept.",
            "Name another folder with -o, or add --overwrite.",
        )


def _alike(cell: Cell) -> tuple[object, ...]:
    """Cells of one network and one size come together."""
    recipe = cell.inputs.recipe
    return (
        repr(recipe.network),
        sorted(recipe.used_layers),
        recipe.compute.precision,
        cell.inputs.plan.size.pixels,
    )


def _open_session(inputs: Inputs, callbacks: Callbacks, reuse: Session | None) -> Session:
    from impasto.session import Session

    with memory_for("begin"):
        return Session.open(inputs, callbacks.progress, reuse=reuse)


def _timed(job: Job, callbacks: Callbacks) -> Job:
    """The job with the seconds that it will take, and the last session."""
    session, seconds = None, 0.0
    for cell in job.pending:
        session = _open_session(cell.inputs, callbacks, session)
        seconds += session.plan.seconds
    return replace(job, seconds=seconds, session=session)


def _painted(
    cell: Cell, callbacks: Callbacks, session: Session, overwrite: bool
) -> dict[str, Any] | None:
    """Paint a cell; gives its record, or None where it was stopped: then only the state to go on
    from is left of it.
    """
    target = Target(cell.file, cell.run, overwrite=overwrite)
    painting = paint(cell.inputs, target, callbacks=callbacks, reuse=session)
    if not painting.record["stopped"]:
        return painting.record
    if painting.record["output"]:
        cell.file.unlink(missing_ok=True)
    return None


class _Book:
    """Judges pictures as they come and keeps the table up to date; the poster is drawn when it is
    closed.
    """

    def __init__(self, job: Job, callbacks: Callbacks) -> None:
        first = job.cells[0].inputs
        self._job, self._callbacks = job, callbacks
        self._jury: CachedEvaluator | None = CachedEvaluator(
            first.photo, first.paintings[0], callbacks.progress
        )
        self._results: dict[tuple[int, ...], Result] = {}
        self._small: dict[tuple[int, ...], images.Pixels] = {}
        longest = max(len(axis.values) for axis in job.axes[:2]) if len(job.axes) > 1 else _FOLDED
        self._cell = max(64, min(_CELL, _WIDEST // longest))

    def enter(self, cell: Cell, record: dict[str, Any], note: str = "") -> None:
        """A cell whose picture is there, or that failed as the note says."""
        result = Result(cell.combination.settings, record=record, note=note)
        if not note:
            picture = images.read(cell.file, max_megapixels=cell.inputs.recipe.max_megapixels)
            judge, scores, note = self._judged(picture, cell.inputs.recipe.network.name)
            result = replace(
                result, file=cell.file, size=picture.size, judge=judge, scores=scores, note=note
            )
            side = min(self._cell, picture.size.long_side)
            self._small[cell.combination.indices] = images.resize(
                picture.pixels, picture.size.with_long_side(side)
            )
        self._results[cell.combination.indices] = result
        self._write_table()

    def close(self) -> Sweep:
        """Draw the poster, and give what there is of every combination."""
        results = tuple(self._result(cell.combination) for cell in self._job.cells)
        posters = tuple(self._write_posters()) if self._results else ()
        self._write_table()
        ends = tuple(itertools.chain(*self._jury.ends.values())) if self._jury else ()
        return Sweep(self._job.axes, results, ends, posters, self._job.folder / TABLE)

    def _result(self, one: Combination) -> Result:
        return self._results.get(one.indices) or Result(one.settings, note=_MISSING)

    def _judged(
        self, picture: images.Picture, painter: NetworkName
    ) -> tuple[str, Scores | None, str]:
        if self._jury is None:
            return "", None, ""
        try:
            judge, row = self._jury(picture, painter)
        except BadPicture as error:
            return "", None, error.message
        except AssetUnavailable as error:
            self._jury = None
            self._callbacks.on_event(Warned(f"The pictures are not judged: {error}"))
            return "", None, ""
        return judge, row.scores, ""

    # ---- the table -------------------------------------------------------------------------------

    def _write_table(self) -> None:
        rows = [self._result(cell.combination) for cell in self._job.cells]
        terms = list(dict.fromkeys(term for row in rows for term in row.record.get("loss", {})))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        figures = [f"{name} ({figure.better})" for name, figure in FIGURES.items()]
        losses = ["loss" if term == "total" else f"{term} loss" for term in terms]
        names = [axis.name for axis in self._job.axes]
        writer.writerow(
            [
                *names,
                "width",
                "height",
                *losses,
                "evaluations",
                "seconds",
                "judge",
                *figures,
                "file",
                "note",
            ]
        )
        for row in rows:
            size = [row.size.width, row.size.height] if row.size else ["", ""]
            told = [row.record.get("loss", {}).get(term, "") for term in terms]
            told += [row.record.get(name, "") for name in ("evaluations", "seconds")]
            file = row.file.name if row.file else ""
            writer.writerow(
                [
                    *row.settings.values(),
                    *size,
                    *told,
                    row.judge,
                    *_figures(row.scores),
                    file,
                    row.note,
                ]
            )
        for (judge, looked), ends in (self._jury.ends if self._jury else {}).items():
            for end in ends:
                told = [
                    *[""] * len(names),
                    looked.width,
                    looked.height,
                    *[""] * (len(terms) + 2),
                    judge,
                ]
                writer.writerow([*told, *_figures(end.scores), end.picture, ""])
        replace_file(self._job.folder / TABLE, text.getvalue().encode(errors="surrogateescape"))

    # ---- the poster ------------------------------------------------------------------------------

    def _write_posters(self) -> Iterator[Path]:
        """A page for every combination of what is beyond the first two axes."""
        rest = self._job.axes[2:]
        for indices in itertools.product(*(range(len(axis.values)) for axis in rest)):
            page = [
                f"{axis.name} {axis.texts[index]}"
                for axis, index in zip(rest, indices, strict=True)
            ]
            stems = [
                f"{axis.name}-{axis.stems[index]}"
                for axis, index in zip(rest, indices, strict=True)
            ]
            target = self._job.folder / f"{'_'.join([POSTER, *stems])}.png"
            images.save(target, self._poster(indices, page))
            yield target

    def _poster(self, page: tuple[int, ...], settings: list[str]) -> images.Pixels:
        first, second = (*self._job.axes, None)[:2]
        asked = self._job.cells[0].inputs
        photo, painting = asked.photo, asked.paintings[0]
        names = [
            images.shown_name(Path(picture.source).stem, f"the {role}")
            for role, picture in (("photo", photo), ("painting", painting))
        ]
        heading = images.Heading(
            f"{names[0]} in the style of {names[1]}",
            tuple(filter(None, [", ".join(settings), ", ".join(self._job.fixed)])),
            ((photo.pixels, "photo"), (painting.pixels, "painting")),
        )
        labels = [
            [f"{axis.name} {text}" for text in axis.texts] for axis in (first, second) if axis
        ]
        if second is None:
            return self._folded(labels[0], heading)
        rows = [
            [self._shown((i, j, *page)) for j in range(len(labels[1]))]
            for i in range(len(labels[0]))
        ]
        return images.poster(rows, labels[0], labels[1], heading, self._cell)

    def _folded(self, labels: list[str], heading: images.Heading) -> images.Pixels:
        """The poster of a single axis: side by side, or in as many rows of the same length as it
        takes.
        """
        rows = -(-len(labels) // _FOLDED)
        length = -(-len(labels) // rows)
        strips = []
        for start in range(0, len(labels), length):
            cells = [self._shown((i,)) for i in range(start, min(start + length, len(labels)))]
            missing = length - len(cells)
            names = labels[start : start + length] + [""] * missing
            above = heading if start == 0 else images.Heading("")
            strips.append(
                images.poster([[*cells, *[""] * missing]], [""], names, above, self._cell)
            )
        return np.concatenate(strips)

    def _shown(self, indices: tuple[int, ...]) -> images.Pixels | str:
        if indices in self._small:
            return self._small[indices]
        return self._results[indices].note if indices in self._results else _MISSING


def _figures(scores: Scores | None) -> list[float | str]:
    return list(asdict(scores).values()) if scores else [""] * len(FIGURES)
