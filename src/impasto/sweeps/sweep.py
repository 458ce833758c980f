"""Paint a photo with every combination of some settings, and show the results side by side.

The folder of a sweep holds a picture and a run for each combination, ``sweep.csv`` and
``poster.png``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto import images
from impasto.comparisons.scores import Scores
from impasto.comparisons.scoring import CachedEvaluator
from impasto.errors import AssetUnavailable, BadPicture, Diverged
from impasto.events import Callbacks, Event, Warned
from impasto.images.opening import Source
from impasto.images.recipe_source import load_recipe
from impasto.recipe import loading
from impasto.recipe.choices import NetworkName
from impasto.recipe.records import Recipe
from impasto.runs import folder as runs
from impasto.runs.destination import Target
from impasto.runs.paint import paint
from impasto.storage.files import replace_file
from impasto.sweeps import grid
from impasto.sweeps.grid import Combination
from impasto.sweeps.job import TABLE, Cell, Job, open_session, prepare
from impasto.sweeps.outcome import NOT_PAINTED, Result, Sweep
from impasto.sweeps.sweep_poster import Indices, picture_side, write_posters
from impasto.sweeps.sweep_table import table_text

if TYPE_CHECKING:
    from impasto.session import Session


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

    Pictures that are there already and were made by the same recipe are kept. One that was
    interrupted is continued.

    Args:
        content, style: as ``impasto.stylize`` takes them; one painting.
        most: the largest number of combinations; None for any number.
        overwrite: replace pictures there that were painted with other settings.
        settings: any setting of a recipe by its option name. Several values are a list, a
            ``range``, or a text such as "10,20,50" or "10:90:5" (see ``grid.axes``). All else is
            one value.

    Raises:
        BadRequest: an argument cannot be used, or there are too many combinations; nothing was
            painted.
        Failed: the work was started and could not be finished. What was painted is in the folder,
            and in poster and table.
    """
    callbacks = Callbacks.of(on_event, cancel)
    base, folder = load_recipe(recipe, {}), Path(output)
    job = prepare(content, style, folder, base, settings, callbacks, most=most, overwrite=overwrite)
    return paint_job(job, callbacks)


def paint_job(
    job: Job, callbacks: Callbacks, on_cell: Callable[[Cell], None] = lambda cell: None
) -> Sweep:
    """Paint the pending cells, evaluate all pictures, and write poster and table.

    ``on_cell`` is called before each picture. If the work is cancelled or fails, poster and table
    show what is done.

    Raises:
        Failed: memory or disk ran out. A search that diverges is no failure: its cell says so.
    """
    collector = _Collector(job, callbacks)
    try:
        for cell in job.cells:
            if cell.done:
                collector.add(cell, runs.read_record(cell.run))
        session = job.session
        for cell in job.pending:
            if callbacks.cancel():
                break
            on_cell(cell)
            existed = cell.file.exists()
            session = open_session(cell.inputs, callbacks, session)
            try:
                record = _paint_cell(cell, callbacks, session, job.overwrite)
            except Diverged as error:
                if not existed:  # the last good picture of a search that diverged is no result
                    cell.file.unlink(missing_ok=True)
                collector.add_failure(cell, error.message)
                continue
            if record is None:
                break
            collector.add(cell, record)
    finally:
        result = collector.finish()
    return result


def _paint_cell(
    cell: Cell, callbacks: Callbacks, session: Session, overwrite: bool
) -> dict[str, Any] | None:
    """Paint a cell and return its record.

    None if it was stopped: only the state from which it can continue stays.
    """
    target = Target(cell.file, cell.run, overwrite=overwrite)
    painting = paint(cell.inputs, target, callbacks=callbacks, reuse=session)
    if not painting.record["stopped"]:
        return painting.record
    if painting.record["output"]:
        cell.file.unlink(missing_ok=True)
    return None


class _Collector:
    """Evaluates pictures as they come, updates the table, and draws the posters at the end."""

    def __init__(self, job: Job, callbacks: Callbacks) -> None:
        inputs = job.cells[0].inputs
        self._job, self._callbacks = job, callbacks
        # None once the networks cannot be fetched.
        self._evaluator: CachedEvaluator | None = CachedEvaluator(
            inputs.photo, inputs.paintings[0], callbacks.progress
        )
        self._results: dict[Indices, Result] = {}
        self._thumbnails: dict[Indices, images.Pixels | str] = {}

    def add(self, cell: Cell, record: dict[str, Any]) -> None:
        """Add a cell whose picture is there."""
        recipe, combination = cell.inputs.recipe, cell.combination
        picture = images.read(cell.file, max_megapixels=recipe.max_megapixels)
        judge, scores, note = self._evaluate(picture, recipe.network.name)
        side = min(picture_side(self._job.axes), picture.size.long_side)
        self._thumbnails[combination.indices] = images.resize(
            picture.pixels, picture.size.with_long_side(side)
        )
        self._results[combination.indices] = Result(
            combination.settings, cell.file, picture.size, record, judge, scores, note
        )
        self._write_table()

    def add_failure(self, cell: Cell, note: str) -> None:
        """Add a cell that has no picture; ``note`` says why."""
        combination = cell.combination
        self._thumbnails[combination.indices] = note
        self._results[combination.indices] = Result(combination.settings, note=note)
        self._write_table()

    def finish(self) -> Sweep:
        """Write posters and table, and return what there is of every combination."""
        job = self._job
        posters = tuple(write_posters(job, self._thumbnails)) if self._results else ()
        self._write_table()
        ends = self._evaluator.ends if self._evaluator else {}
        rows = tuple(itertools.chain(*ends.values()))
        return Sweep(job.axes, tuple(self._all_results()), rows, posters, job.folder / TABLE)

    def _all_results(self) -> list[Result]:
        return [self._result(cell.combination) for cell in self._job.cells]

    def _result(self, combination: Combination) -> Result:
        missing = Result(combination.settings, note=NOT_PAINTED)
        return self._results.get(combination.indices, missing)

    def _evaluate(
        self, picture: images.Picture, painter: NetworkName
    ) -> tuple[str, Scores | None, str]:
        """The evaluating network, its scores, and a note if there are none."""
        if self._evaluator is None:
            return "", None, ""
        try:
            judge, row = self._evaluator(picture, painter)
        except BadPicture as error:
            return "", None, error.message
        except AssetUnavailable as error:
            self._evaluator = None
            self._callbacks.on_event(Warned(f"The pictures are not evaluated: {error}"))
            return "", None, ""
        return judge, row.scores, ""

    def _write_table(self) -> None:
        ends = self._evaluator.ends if self._evaluator else {}
        text = table_text(self._job.axes, self._all_results(), ends)
        replace_file(self._job.folder / TABLE, text.encode(errors="surrogateescape"))
