"""The desk: everything a program asks of Impasto, and the only place that wires the rooms together.

It knows in which order things are checked: every file, name and number before any network is read.
It prints nothing, and leaves no seed, thread count or other setting of the process changed.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impasto import images
from impasto import result as paintings
from impasto.assets import catalogue
from impasto.errors import (
    BadPicture,
    BadRecipe,
    BadRequest,
    CannotResume,
    CannotWrite,
    Diverged,
    DoesNotFit,
    NotSaved,
    OutOfMemory,
    UnknownName,
    memory_for,
)
from impasto.events import Event, Failed, Planned, Stepped, Warned
from impasto.geometry import Size
from impasto.images.opening import Source
from impasto.inputs import Request, is_file, replanned, request, requests, with_its_files
from impasto.recipe import loading, values
from impasto.recipe.records import Recipe
from impasto.result import Painting
from impasto.runs import CHECKPOINT_SECONDS, destination
from impasto.runs import folder as runs
from impasto.runs import snapshots as shots
from impasto.runs.destination import Place, Wanted
from impasto.runs.recorder import Recorder
from impasto.runs.snapshots import Snapshots
from impasto.storage import names
from impasto.storage.files import file_sha256

if TYPE_CHECKING:
    from impasto.optimize.state import State
    from impasto.session import Bench

_PLANNED_SIDE = 512  # px: of pictures that are read for a plan, by which the machine is timed


@dataclass(frozen=True)
class Watch:
    """How a caller follows the work and stops it: each is called from the same thread, between
    steps.

    ``event``: with everything that happens. ``fetch``: with an asset's name, bytes so far, bytes in
    all. ``stop``: true ends the run after the step at hand, with the picture so far. ``checked``:
    once all is checked that can be before torch is imported, which takes seconds.
    """

    event: Callable[[Event], None] = lambda event: None
    fetch: catalogue.Progress = catalogue.silent
    stop: Callable[[], bool] = lambda: False
    checked: Callable[[], None] = lambda: None


def stylize(
    content: Source,
    style: Source | Sequence[Source],
    *,
    recipe: Recipe | str = loading.DEFAULT_RECIPE,
    seconds: float | str | None = None,
    **fields: Any,
) -> Painting:
    """The photo ``content`` painted in the style of ``style``.

    Args:
        content: a path, a PIL image, a numpy array (H, W, 3) or a torch tensor (3, H, W).
        style: the same, or a museum name such as "wheat-field-with-cypresses"; a list of them is
            blended.
        recipe: a recipe, the name of one, or a file that holds one.
        seconds: a number, or a text such as "2m": the best picture that can be painted in that
            time; size and iterations are chosen for it where ``fields`` do not name them.
        fields: any setting of ``impasto.recipe`` by its option name, such as ``size=1024,
            strength=70``.

    Raises:
        BadRequest: something that was given cannot be used; nothing was started.
        Failed: the work was started and could not be ended.
    """
    within = values.parse_duration(seconds) if seconds is not None else None
    any_size = within is not None and "size" not in fields
    asked = request(content, style, load_recipe(recipe, fields), any_size=any_size)
    return paint(asked, within=within, fixed=frozenset(fields))


def plans(
    content: Source,
    style: Source | Sequence[Source],
    sizes: Sequence[int],
    recipe: Recipe,
    watch: Watch | None = None,
) -> list[Planned | BadRequest]:
    """What painting would take at each of some sizes (long sides; 0 is the photo's own), without
    painting.

    The machine is timed for a few seconds. A size that the limit on memory does not allow, or at
    which the photo is too thin, is an error in its place.
    """
    from impasto import session

    watch = watch or Watch()
    sized = [loading.with_settings(recipe, {"size": size}) for size in sizes]
    each = requests(content, style, sized, watch.fetch, side=_PLANNED_SIDE)
    ready = session.bench(next(one for one in each if isinstance(one, Request)), watch.fetch)
    room = ready.room()
    found: list[Planned | BadRequest] = []
    for one in each:
        try:
            found.append(ready.planned(one, room=room)[0] if isinstance(one, Request) else one)
        except DoesNotFit as error:
            found.append(error)
    return found


def iterate(recipe: Recipe, watch: Watch | None = None) -> Iterator[tuple[Event, State]]:
    """The stream of (event, state) that painting a recipe gives off; the recipe names its photo and
    paintings.

    The first event is ``Planned``, the last ``Finished`` or ``Failed``. To cancel is to stop
    iterating.
    """
    if recipe.photo is None or not recipe.paintings:
        raise BadPicture(
            "The recipe names no photo or no painting.",
            "Set photo and paintings, or use impasto.stylize.",
        )
    watch = watch or Watch()
    asked = request(
        recipe.photo.path, [painting.path for painting in recipe.paintings], recipe, watch.fetch
    )
    for given, found in zip(
        [recipe.photo, *recipe.paintings], [asked.photo, *asked.paintings], strict=True
    ):
        if given.sha256 not in ("", found.sha256):
            raise BadPicture(
                f"{given.path} is not the picture that the recipe names: its contents differ."
            )
    return _lazily(asked, watch)


def _lazily(asked: Request, watch: Watch) -> Iterator[tuple[Event, State]]:
    from impasto import session

    yield from session.stream(session.bench(asked, watch.fetch))


def load_recipe(given: Recipe | str, settings: dict[str, Any]) -> Recipe:
    """A recipe by name, from a recipe file or from a picture that carries one, with some settings
    changed.
    """
    if isinstance(given, Recipe):
        return loading.with_settings(given, settings)
    given = str(given)
    path = Path(names.expand_home(given))
    if given in loading.names():
        return loading.with_settings(loading.load(given), settings)
    if path.suffix.lower() not in (".toml", ".json") and is_file(str(path)):
        text = images.embedded_recipe(path)
        if text is None:
            raise UnknownName(
                f"{given} carries no recipe.",
                "Pictures painted by Impasto do; so do .toml and .json files.",
            )
        found = loading.from_json(text, given)
    else:
        found = loading.load(str(path))
    return loading.with_settings(with_its_files(found, path.parent), settings)


def paint(
    asked: Request,
    *,
    output: Path | None = None,
    run: Path | None = None,
    beside: bool = False,
    named: bool = True,
    overwrite: bool = False,
    watch: Watch | None = None,
    fresh: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    within: float | None = None,
    fixed: Set[str] = frozenset(),
    snapshots: str | Iterable[int] = (),
    like: Bench | None = None,
    begun: float | None = None,
) -> Painting:
    """Paint a request; write the picture to ``output`` and the run's folder to ``run`` where they
    are given.

    ``beside``, ``named``, ``overwrite`` and ``fresh`` are those of ``destination.Wanted``: nothing
    finished is replaced unless the caller says so. A request that is finished there already is not
    painted again: its picture is given. An unfinished run of the same request is continued from the
    state in its folder, and ends with the bytes of an undisturbed one. The state is written every
    ``checkpoint_seconds`` (0: after each step), less often where that would take up a hundredth of
    the time, and after each stage. ``within`` seconds, counted from ``begun`` (a
    ``time.monotonic()``), the best picture is painted: size and iterations are chosen, but for
    those that ``fixed`` names. ``snapshots`` ("100,300", "every=50", or numbers) are the
    evaluations after which the picture is kept in the run's folder, as it would be written if the
    run were stopped there, in the size of its stage. ``like``: a bench whose network and speed are
    reused where they serve.

    Raises:
        CannotWrite: another picture is there, or a folder that is no run's.
        DoesNotFit: the recipe's limit on memory is too low.
        Diverged, OutOfMemory: the search could not be brought to a sound end. The best picture so
            far is in ``output``.
    """
    begun = time.monotonic() if begun is None else begun
    watch = watch or Watch()
    if not checkpoint_seconds >= 0:
        raise BadRecipe(
            f"checkpoint is {checkpoint_seconds:g}, but it must be 0 or more seconds.",
            "0 saves each step.",
        )
    wanted = shots.parse(snapshots)
    shots.check_kept(wanted, run is not None or beside)
    key = destination.request_key(asked.recipe, within, fixed)
    wish, recipe = Wanted(output, run, beside, named, overwrite, fresh, str(wanted)), asked.recipe
    place = destination.settle(wish, recipe, key)
    output = check_paths(
        place.output, place.run, asked, asked.plan.size if within is None else None
    )
    if place.record is not None:
        return _painted_before(place, asked, watch)
    watch.checked()
    from impasto import session

    run, kept, place_key = place.run, place.unfinished, key
    key = kept.facts["request"] if kept else key
    spent = kept.facts["seconds"] if kept else 0.0
    with memory_for("begin"):
        ready = session.bench(asked, watch.fetch, kept, like)
        if within is not None:
            ready = ready.measured_for(within, fixed)
            left = within * 0.95 - (time.monotonic() - begun)
            asked = (
                ready.within(left, fixed)
                if kept is None
                else replanned(asked, runs.recipe(kept.folder))
            )
            ready = replace(ready, asked=asked)
            check_paths(output, run, asked, asked.plan.size)
        stream = session.stream(ready, kept)
        # The network is there and the plan is made: from here on something may be written.
        first = next(stream)
    # Another program may have begun or finished meanwhile.
    place = destination.settle(wish, recipe, place_key)
    if place.record is not None:
        return _painted_before(place, asked, watch)
    if (place.unfinished is None) != (kept is None):
        raise CannotWrite(
            f"Another impasto has begun or ended the same picture, {place.output}.",
            "Give the command again.",
        )
    run = place.run
    output = check_paths(place.output, run, asked, asked.plan.size)
    log, said = _log(place, asked)
    follow = Recorder(
        log, asked, str(output or ""), checkpoint_seconds, key, spent, ready.kernel, wanted
    )
    follow.there, follow.replaces = destination.identity(output), place.replaces
    follow.shooting = kept.facts.get("snapshot_seconds", 0.0) if kept else 0.0
    events = [(Warned(note), first[1]) for note in (*said, *_never(wanted, asked.plan.evaluations))]
    deadline = begun + within - spent if within is not None else math.inf
    with nullcontext() if log is None else closing(log):
        return _ended(_from([first, *events], stream), follow, watch, output, deadline)


def _log(place: Place, asked: Request) -> tuple[runs.Run | None, list[str]]:
    """The run's folder, made or opened, and what is to be said of what was there."""
    said: list[str] = []
    if place.run is None:
        return None, said
    if place.aside:
        said.append(
            f"{place.run} held the run of another request: it is kept as "
            f"{runs.move_aside(place.run).name}."
        )
    begin = runs.Run.resume if place.unfinished is not None else runs.Run.start
    return begin(place.run, asked.recipe), said


def _painted_before(place: Place, asked: Request, watch: Watch) -> Painting:
    """The finished picture of the same request, copied from its run where it is not where it was."""
    assert place.run is not None and place.record is not None
    result, output = runs.result(place.run), place.output
    if output is not None and not output.exists():
        assert result is not None
        images.replace_file(output, result.read_bytes())
        note = f"It was painted before: the picture is put back from {place.run}."
    else:
        note = (
            f"It was painted before{f', in {output}' if output else ''}; --fresh paints it again."
        )
    watch.event(Warned(note))
    record = {**place.record, "output": str(output) if output else None}
    picture = output or result
    assert picture is not None
    return paintings.read(picture, asked, record)


def _from(
    first: Iterable[tuple[Event, State]], stream: Iterator[tuple[Event, State]]
) -> Generator[tuple[Event, State], None, None]:
    """A stream whose first events have been taken, or are put before it."""
    yield from first
    yield from stream


def _ended(
    stream: Generator[tuple[Event, State], None, None],
    follow: Recorder,
    watch: Watch,
    output: Path | None,
    deadline: float,
) -> Painting:
    """Follow the stream to where it ends and write what has come of it."""
    log = follow.log
    state, failed, stopped = _watched(stream, follow, watch, deadline)
    again = (
        "The same command goes on from the last state that was saved." if log is not None else ""
    )
    with memory_for("write the picture", NotSaved, again):
        painting = paintings.of(follow.asked, state, follow.planned, follow.seconds)
        told = {
            "request": follow.key,
            "kernel": follow.kernel,
            "stopped": stopped,
            "notes": follow.notes,
        }
        painting.record.update(told)
        if output is not None and (stopped or failed is not None) and follow.replaces:
            watch.event(Warned(f"{output} is kept as it was; this picture is not finished."))
            output = None  # what is replaced is replaced by a finished picture alone
        elif output is not None:
            if destination.identity(output) != follow.there:
                other, output = output, destination.free(output)
                watch.event(
                    Warned(
                        f"{other} was written by another program meanwhile; the picture is "
                        f"{output.name}."
                    )
                )
            output = paintings.save(painting, output)
            painting.record.update({"output": str(output), "output_sha256": file_sha256(output)})
        if log is not None and follow.wanted:
            taken = len(runs.kept_snapshots(log.folder))
            painting.record["snapshots"] = {
                "after": str(follow.wanted),
                "count": taken,
                "seconds": round(follow.shooting, 3),
            }
    if failed is not None:
        where = f"The last good picture is in {output}. " if output is not None else ""
        if failed.memory:
            raise OutOfMemory(
                failed.message,
                f"{where}Close other programs, or ask for a smaller --size. {again}".strip(),
            )
        raise Diverged(
            failed.message,
            f"{where}Try a smaller --solver-rate, or --solver adam --solver-rate 0.02.",
        )
    if log is not None:
        if output is not None and not stopped:
            log.finish(output, painting.record)
        if log.lost:
            watch.event(
                Warned(
                    f"The run folder {log.folder} could not be written in full; the picture "
                    f"is whole."
                )
            )
    return painting


def _watched(
    stream: Generator[tuple[Event, State], None, None],
    follow: Recorder,
    watch: Watch,
    deadline: float,
) -> tuple[State, Failed | None, bool]:
    """Follow the stream to its end, to a stop that is asked for, or to the deadline within the last
    stage.

    Gives the state to be written as a picture, the failure that ended it, and whether it was
    stopped. Where it was broken off, that is the best picture of its stage: at the last move's
    nobody has looked.
    """
    plan = follow.asked.plan
    failed = None
    # A search that is broken off lets go of what it held, before the picture is written.
    with closing(stream):
        for event, state in stream:
            follow(event, state)
            watch.event(event)
            failed = event if isinstance(event, Failed) else None
            if not isinstance(event, Stepped):
                continue
            done = f"after {event.evaluations} of {plan.evaluations} evaluations"
            if watch.stop():
                again = " The same command goes on from here." if follow.log is not None else ""
                follow.keep(state)
                follow.say(f"Stopped {done}.{again}", state, watch.event)
                return state.good(), None, True
            if (
                event.stage == len(plan.stages) - 1
                and deadline - time.monotonic() < 1.5 * follow.pace
            ):
                follow.say(f"The time is up {done}.", state, watch.event)
                return state.good(), None, False
    return state, failed, False


def _never(wanted: Snapshots, evaluations: int) -> list[str]:
    """What a person should know of snapshots that the run never comes to."""
    beyond = wanted.beyond(evaluations)
    return (
        [f"The run has {evaluations} evaluations: there will be no snapshot for {beyond}."]
        if beyond
        else []
    )


def resume(run: Path, watch: Watch | None = None) -> Painting:
    """Go on with an unfinished run from its folder, and write the picture where it was to go.

    Raises:
        CannotResume: no run there, one that is complete, one whose photo or painting has changed
            since, or one whose state cannot be read.
    """
    kept = runs.checkpoint(run)
    if kept is None:
        complete = (run / runs.RECORD).exists()
        state = "is complete" if complete else "holds no state to go on from"
        raise CannotResume(
            f"The run {run} {state}.", "" if complete else "Give the command that started it again."
        )
    recipe = runs.recipe(run)
    assert recipe.photo is not None
    asked = request(recipe.photo.path, [painting.path for painting in recipe.paintings], recipe)
    if asked.recipe.sha256 != kept.facts["recipe_sha256"]:
        raise kept.refused("its photo or a painting has changed since")
    output = Path(kept.facts["output"]) if kept.facts["output"] else None
    return paint(
        asked,
        output=output,
        run=run,
        named=False,
        watch=watch,
        snapshots=kept.facts.get("snapshots", ""),
    )


def check_paths(
    output: Path | None, run: Path | None, asked: Request, size: Size | None
) -> Path | None:
    """The output's whole path, once it and the run can be written where they are to go; ``size``
    where that is known.
    """
    if output is not None:
        output = images.check_output(output, bits=asked.recipe.output.bits, size=size)
        _check_not_an_input(output, asked)
    if run is not None:
        runs.check(run)
    if output is not None and run is not None:
        picture, folder = (Path(os.path.realpath(path)) for path in (output, run))
        if picture == folder or picture in folder.parents or folder in picture.parents:
            raise CannotWrite(
                f"The picture {output} and its run folder {run} are in each other's way.",
                runs.ELSEWHERE,
            )
    return output


def _check_not_an_input(output: Path, asked: Request) -> None:
    recipe = asked.recipe
    inputs = [recipe.photo, *recipe.paintings]
    files = [each.path for each in inputs if each is not None] + [recipe.schedule.start]
    if os.path.realpath(output) in [os.path.realpath(file) for file in files if is_file(file)]:
        raise CannotWrite(
            f"{output} is one of the pictures that go in; it would be lost.",
            "Give the result another name.",
        )
