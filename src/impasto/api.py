"""The Python interface: a function for everything that the command line can do.

Each function works from any thread and prints nothing. Process settings are restored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto import images
from impasto.assets import catalogue
from impasto.assets import museum as paintings
from impasto.errors import BadRequest, CannotResume, CannotWrite, DoesNotFit
from impasto.events import Callbacks, Event, Planned, Warned
from impasto.images.opening import Source
from impasto.images.recipe_source import load_recipe
from impasto.inputs import Inputs, read_inputs, read_inputs_each
from impasto.planning.time_budget import TimeBudget
from impasto.recipe import loading, values
from impasto.recipe.choices import NetworkName
from impasto.recipe.defaults import EXPLAIN_ITERATIONS, EXPLAIN_SIZE
from impasto.recipe.loading import DEFAULT_RECIPE
from impasto.recipe.records import Recipe
from impasto.result import Painting
from impasto.runs import CHECKPOINT_SECONDS
from impasto.runs import folder as runs
from impasto.runs import history as histories
from impasto.runs import snapshots as snapshot_lists
from impasto.runs.destination import Target, beside, check_free, check_outside, output_path
from impasto.runs.paint import paint
from impasto.storage.names import expand_home

if TYPE_CHECKING:
    from impasto.assets.museum import Work
    from impasto.explanations.results import Explanation

OnEvent = Callable[[Event], None]
Cancel = Callable[[], bool]

_PLANNED_SIDE = 512  # px: pictures are read in this size for a plan


def stylize(
    content: Source,
    style: Source | Sequence[Source],
    *,
    output: str | os.PathLike[str] | None = None,
    run: str | os.PathLike[str] | bool | None = None,
    recipe: Recipe | str = DEFAULT_RECIPE,
    time: float | str | None = None,
    overwrite: bool = False,
    fresh: bool = False,
    snapshots: str | Iterable[int] = "",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    on_event: OnEvent | None = None,
    cancel: Cancel | None = None,
    **settings: Any,
) -> Painting:
    """Paint the photo ``content`` in the style of ``style``.

    Args:
        content: a path, bytes, an open file, a PIL image, a numpy array (H, W, 3) or a torch
            tensor (3, H, W).
        style: the same, or the name of a museum painting such as "wheat-field-with-cypresses"; a
            list is blended.
        output: the file to write, or a folder; None writes none.
        run: the folder of the run's log and saved states; True for one beside the output; None
            keeps none. An unfinished run of the same request there is continued.
        recipe: a recipe, the name of one, or a file that holds one.
        time: seconds, or a text such as "2m": paint the best picture in this time. Size and
            iterations are chosen unless ``settings`` has them.
        overwrite: replace a picture that exists.
        fresh: start again instead of returning a finished picture or continuing.
        snapshots: evaluations after which the picture is kept in the run folder, such as
            "100,300", "every=50" or a list of numbers.
        checkpoint_seconds: seconds between two saved states; 0 saves each step.
        on_event: called with every ``impasto.events.Event``.
        cancel: asked after each step; True ends the work with the picture so far.
        settings: any setting by its option name, such as ``size=1024, strength=70``.

    Raises:
        BadRequest: something that was given cannot be used; nothing was started.
        Failed: the work was started and could not be finished.
    """
    file, named = _output_path(output, content, style)
    target = _target(Target(file, None, False, named, overwrite, fresh), run, snapshots)
    budget = (
        TimeBudget(values.parse_duration(time), frozenset(settings)) if time is not None else None
    )
    callbacks = Callbacks.of(on_event, cancel)
    inputs = read_inputs(
        content,
        style,
        load_recipe(recipe, settings),
        callbacks.progress,
        any_size=budget is not None and budget.chooses_size,
    )
    return paint(inputs, target, budget, checkpoint_seconds, callbacks)


def resume(
    run: str | os.PathLike[str],
    *,
    on_event: OnEvent | None = None,
    cancel: Cancel | None = None,
) -> Painting:
    """Continue an unfinished run from its folder; write the picture where it was to go.

    Raises:
        CannotResume: there is no run, it is complete, its photo or painting has changed, or its
            state cannot be read.
    """
    folder = Path(expand_home(run))
    checkpoint = runs.read_checkpoint(folder)
    if checkpoint is None:
        if (folder / runs.RECORD).exists():
            raise CannotResume(f"The run {folder} is complete.")
        raise CannotResume(
            f"The run {folder} holds no state to continue from.",
            "Give the command that started it again.",
        )
    recipe = runs.read_recipe(folder)
    assert recipe.photo is not None
    callbacks = Callbacks.of(on_event, cancel)
    paintings = [painting.path for painting in recipe.paintings]
    inputs = read_inputs(recipe.photo.path, paintings, recipe, callbacks.progress)
    if inputs.recipe.sha256 != checkpoint.values["recipe_sha256"]:
        raise checkpoint.rejected("its photo or a painting has changed since")
    output = Path(checkpoint.values["output"]) if checkpoint.values["output"] else None
    shots = snapshot_lists.parse(checkpoint.values.get("snapshots", ""))
    target = Target(output, folder, named=False, snapshots=shots)
    return paint(inputs, target, callbacks=callbacks)


def plan(
    content: Source,
    style: Source | Sequence[Source],
    *,
    recipe: Recipe | str = DEFAULT_RECIPE,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Planned:
    """What painting would take: size, stages, seconds, memory. Nothing is painted.

    The arguments are those of ``stylize``. The machine is timed for up to three seconds.

    Raises:
        BadRequest: something that was given cannot be used, or does not fit into memory.
    """
    chosen = load_recipe(recipe, settings)
    (planned,) = plan_sizes(content, style, [chosen.size], chosen, on_event=on_event)
    if not isinstance(planned, Planned):
        raise planned
    return planned


def plan_sizes(
    content: Source,
    style: Source | Sequence[Source],
    sizes: Sequence[int],
    recipe: Recipe | str = DEFAULT_RECIPE,
    *,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> list[Planned | BadRequest]:
    """What painting would take at each of several sizes (long sides; 0: the photo's own).

    Where a size does not fit into the limit on memory, or the photo is too thin for it, the error
    stands in its place.
    """
    progress = Callbacks.of(on_event).progress
    base = load_recipe(recipe, settings)
    recipes = [loading.with_settings(base, {"size": size}) for size in sizes]
    results = read_inputs_each(content, style, recipes, progress, side=_PLANNED_SIDE)
    first = next(result for result in results if isinstance(result, Inputs))
    from impasto.session import Session  # torch is not needed before

    session = Session.open(first, progress)
    available = session.memory_budget()
    plans: list[Planned | BadRequest] = []
    for result in results:
        try:
            planned = (
                session.plan_for(result, available)[0] if isinstance(result, Inputs) else result
            )
            plans.append(planned)
        except DoesNotFit as error:
            plans.append(error)
    return plans


def explain(
    content: Source,
    style: Source | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    units: Sequence[str] = (),
    network: NetworkName = "vgg19",
    size: int = EXPLAIN_SIZE,
    iterations: int = EXPLAIN_ITERATIONS,
    seed: int = 0,
    on_event: OnEvent | None = None,
    cancel: Cancel | None = None,
) -> Explanation:
    """Show what the network sees of a photo and, if one is given, of a painting.

    Args:
        content, style: as ``stylize`` takes them.
        output: the folder for pictures, a poster, a page and the figures; None writes nothing.
        overwrite: replace an explanation that is there.
        units: channels such as "relu3_1:42"; by default those that the photo activates most.
        size: long side of the photo in pixels.
        iterations: evaluations for each picture.

    Raises:
        BadRequest: something that was given cannot be used.
        OutOfMemory: memory ran out.
    """
    from impasto.explanations import output_folder
    from impasto.explanations.explanation import run_experiments
    from impasto.explanations.request import read_request

    callbacks = Callbacks.of(on_event, cancel)
    request = read_request(
        content,
        style,
        units=units,
        network=network,
        size=size,
        iterations=iterations,
        seed=seed,
        progress=callbacks.progress,
    )
    if output is None:
        explanations = list(run_experiments(request, callbacks))
        return explanations[-1]
    folder = output_folder.check(Path(output), overwrite)
    return output_folder.write(run_experiments(request, callbacks), folder)


def report(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    gradients: bool = True,
    on_event: OnEvent | None = None,
) -> Path:
    """Write a page about a run: pictures, loss curves, time, recipe. Return its path.

    Args:
        run: the run's folder, or the picture beside it.
        output: the page; the curves are beside it as PNG. By default PICTURE.report.html.
        overwrite: replace the file that ``output`` names.
        gradients: compute the gradient norm of each term at pictures of the run.

    Raises:
        BadRequest: there is no run, or the page cannot be written.
    """
    from impasto.runs import report as reports

    callbacks = Callbacks.of(on_event)
    history = histories.read(Path(run))
    target = images.check_file(output or beside(history.folder, ".report.html"), reports.EXTENSIONS)
    check_outside(target, history.folder)
    if output is not None:
        for file in (target, *reports.curve_files(target)):
            check_free(file, overwrite)
    reports.write(
        history,
        target,
        gradients=gradients,
        say=lambda note: callbacks.on_event(Warned(note)),
        fetch=callbacks.progress,
    )
    return target


def timelapse(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    fps: int = 24,
    size: int | None = None,
    seconds: float | None = None,
    hold: float = 2.0,
    on_event: OnEvent | None = None,
) -> Path:
    """Make a film of the snapshots of a run. Return its path.

    Args:
        run: the run's folder, or the picture beside it.
        output: an .mp4, .gif or .webp; by default PICTURE.mp4, or .webp without PyAV.
        overwrite: replace the file that ``output`` names.
        fps: frames per second.
        size: long side of the frames in pixels; by default the picture's, up to a limit.
        seconds: the duration before the last picture; by default a frame for each snapshot.
        hold: seconds for which the last picture stays.

    Raises:
        BadRequest: there is no run, it has no snapshots, or the film cannot be written.
    """
    from impasto.runs import timelapse as films

    history = histories.read(Path(run))
    default = ".mp4" if films.writes_mp4() else ".webp"
    target = images.check_file(output or beside(history.folder, default), films.EXTENSIONS)
    check_outside(target, history.folder)
    if output is not None:
        check_free(target, overwrite)
    films.write_film(history, target, films.Timing(fps, seconds, hold), size)
    if output is None and default == ".webp":
        note = f"The film is a WebP, since an MP4 needs PyAV: {films.INSTALL}."
        Callbacks.of(on_event).on_event(Warned(note))
    return target


def museum(words: str = "") -> list[Work]:
    """The public-domain paintings that can be named as a style.

    ``words``: only those with all of these words in name, title, artist or date.
    """
    return paintings.search(words) if words.strip() else list(paintings.all_paintings())


def recipes() -> dict[str, Recipe]:
    """The named recipes, the default first."""
    return {name: loading.load(name) for name in loading.names()}


def fetch(
    to: str | os.PathLike[str] | None = None, *, on_event: OnEvent | None = None
) -> list[Path]:
    """Fetch every network and the museum ahead of time; return the files.

    ``to``: a folder instead of the cache. With IMPASTO_CACHE set to it, a machine without a
    network connection can paint.
    """
    folder = Path(to) if to is not None else None
    return catalogue.fetch_all(progress=Callbacks.of(on_event).progress, to=folder)


def _target(
    target: Target, run: str | os.PathLike[str] | bool | None, snapshots: str | Iterable[int]
) -> Target:
    """The target with its run folder and snapshots."""
    shots = snapshot_lists.parse(snapshots)
    if run is True and target.output is None:
        raise CannotWrite(
            "run is True, but there is no output that the folder could be beside.",
            "Give output, or a folder as run.",
        )
    folder = None if run is None or isinstance(run, bool) else Path(expand_home(run))
    return replace(target, run=folder, beside=run is True, snapshots=shots)


def _output_path(
    output: str | os.PathLike[str] | None, content: Source, style: Source | Sequence[Source]
) -> tuple[Path | None, bool]:
    """The path of the picture, and whether the caller named it."""
    if output is None:
        return None, True
    styles = list(style) if isinstance(style, list | tuple) else [style]
    return output_path(os.fspath(output), _name(content), [_name(source) for source in styles])


def _name(source: Source) -> str:
    """The name that a default file name is made from."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "picture"
