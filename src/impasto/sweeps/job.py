"""Prepare a sweep: read and check everything, and find what is painted already."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto import images
from impasto.errors import BadPicture, BadRecipe, CannotWrite, memory_for
from impasto.events import Callbacks
from impasto.images.opening import Source
from impasto.inputs import Inputs, read_inputs_each
from impasto.recipe import loading
from impasto.recipe.records import Recipe
from impasto.recipe.values import value_text
from impasto.runs import folder as runs
from impasto.runs.destination import (
    Destination,
    Target,
    check_paths,
    choose_destination,
    request_key,
)
from impasto.storage.names import is_file
from impasto.sweeps import grid
from impasto.sweeps.grid import Axis, Combination

if TYPE_CHECKING:
    from impasto.session import Session


TABLE, POSTER, RUNS = "sweep.csv", "poster", "runs"


@dataclass(frozen=True)
class Cell:
    """One combination with its inputs, its picture file and its run folder.

    ``done``: whether the picture is there already.
    """

    combination: Combination
    inputs: Inputs
    file: Path
    run: Path
    done: bool


@dataclass(frozen=True)
class Job:
    """A sweep that has been checked and not begun.

    ``fixed`` are the settings that do not vary, as text. ``seconds`` is the estimate for the
    pictures that are not done, and ``session`` one that has been opened for it.
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
        """The cells to paint, ordered so that few networks are loaded."""
        return sorted((cell for cell in self.cells if not cell.done), key=_network_and_size)


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
    """Read and check everything that a sweep needs, and estimate its time. Nothing is painted.

    Raises:
        BadRequest: an argument cannot be used, or the folder holds other pictures and ``overwrite``
            is False.
    """
    base, axes = grid.axes(base, settings)
    combinations = grid.combinations(base, axes, most=most)
    cells = _cells(content, style, folder, combinations, callbacks)
    _check_folder(folder, axes, overwrite)
    for cell in cells:
        if not cell.done:
            check_paths(Destination(cell.file, cell.run), cell.inputs, cell.inputs.plan.size)
            recipe, target = cell.inputs.recipe, Target(cell.file, cell.run, overwrite=overwrite)
            choose_destination(target, recipe, request_key(recipe))
    images.check_output(folder / f"{POSTER}.png")
    fixed = _fixed_settings(settings, axes)
    return _with_estimate(Job(folder, axes, fixed, tuple(cells), overwrite=overwrite), callbacks)


def open_session(inputs: Inputs, callbacks: Callbacks, reuse: Session | None) -> Session:
    """A session for some inputs that takes network and speed from another where it can."""
    from impasto.session import Session

    with memory_for("begin"):
        return Session.open(inputs, callbacks.progress, reuse=reuse)


def _cells(
    content: Source,
    style: Source,
    folder: Path,
    combinations: Sequence[Combination],
    callbacks: Callbacks,
) -> list[Cell]:
    recipes = [combination.recipe for combination in combinations]
    results = read_inputs_each(content, style, recipes, callbacks.progress)
    cells = []
    for combination, inputs in zip(combinations, results, strict=True):
        if not isinstance(inputs, Inputs):
            raise inputs
        file, run = folder / f"{combination.stem}.png", folder / RUNS / combination.stem
        cells.append(Cell(combination, inputs, file, run, _is_done(file, run, inputs.recipe)))
    return cells


def _is_done(file: Path, run: Path, recipe: Recipe) -> bool:
    """Whether the picture is there, made by this recipe, and not that of a stopped run."""
    if not is_file(str(file)) or (run / runs.STATE).exists():
        return False
    try:
        text = images.embedded_recipe(file)
        made = loading.from_json(text) if text is not None else None
    except (BadPicture, BadRecipe):
        return False
    return made is not None and (made.sha256, made.output) == (recipe.sha256, recipe.output)


def _check_folder(folder: Path, axes: Sequence[Axis], overwrite: bool) -> None:
    """Check that a poster and a table which would be replaced are those of the same axes.

    Raises:
        CannotWrite: they belong to no sweep, or to another one and ``overwrite`` is False.
    """
    poster, table = folder / f"{POSTER}.png", folder / TABLE
    if not poster.exists() and not table.exists():
        return
    names = _axis_names(table)
    if not names:
        there = poster.name if poster.exists() else TABLE
        raise CannotWrite(
            f"{folder} holds {there} and is no sweep's folder.", "Name another folder with -o."
        )
    if names != [axis.name for axis in axes] and not overwrite:
        raise CannotWrite(
            f"{folder} holds a sweep of {', '.join(names)}; its poster and table are kept.",
            "Name another folder with -o, or add --overwrite.",
        )


def _axis_names(table: Path) -> list[str]:
    """The names of the axes in a sweep's table; empty for another file."""
    try:
        header = next(csv.reader(table.read_text("utf-8", errors="replace").splitlines()), [])
    except OSError:
        return []
    is_sweep = {"width", "evaluations", "seconds"} <= set(header)
    return header[: header.index("width")] if is_sweep else []


def _fixed_settings(settings: Mapping[str, Any], axes: Sequence[Axis]) -> tuple[str, ...]:
    """The settings that do not vary, such as "size 256"."""
    varied = [axis.name for axis in axes]
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return tuple(
        f"{name} {value_text(value)}" for name, value in named.items() if name not in varied
    )


def _network_and_size(cell: Cell) -> tuple[object, ...]:
    """A sort key by which cells with the same network, layers and size come together."""
    recipe = cell.inputs.recipe
    return (
        repr(recipe.network),
        sorted(recipe.used_layers),
        recipe.compute.precision,
        cell.inputs.plan.size.pixels,
    )


def _with_estimate(job: Job, callbacks: Callbacks) -> Job:
    """The job with the seconds that its pending cells take, and the last session."""
    session, seconds = None, 0.0
    for cell in job.pending:
        session = open_session(cell.inputs, callbacks, session)
        seconds += session.plan.seconds
    return replace(job, seconds=seconds, session=session)
