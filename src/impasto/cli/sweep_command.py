"""The command ``impasto sweep``: its options, made from the recipe's own, and what is said before
and during.

It knows words for people; it refuses to know what a sweep's folder holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Group

from impasto import events
from impasto.cli.options import as_path, option, setting
from impasto.cli.terminal import stopping
from impasto.errors import BadRecipe, did_you_mean
from impasto.recipe import loading, options
from impasto.sweep import grid

if TYPE_CHECKING:
    from impasto.sweep.sweep import Cell, Job, Sweep


USAGE = "Usage: impasto sweep PHOTO STYLE --SETTING VALUES... [OPTIONS]"
_SWEEP = Group("What to paint", sort_key=0)
_VARIED = Group(
    "The recipe",
    help="Each takes one value or several: 10,20,50; or FROM:TO:COUNT, as 10:90:5 for 10, 30, 50, "
    "70, 90; or FROM:TO for "
    "whole numbers, both included; or FROM:TO:COUNT:log for equal ratios. Values that have commas "
    "themselves are divided "
    "by a slash: 40,35,30/20,20,20.",
    sort_key=2,
)


def made() -> Callable[..., None]:
    """The command, with an option for each setting."""

    def sweep(*args: Any, **given: Any) -> None:
        photo, style = args
        with stopping() as stop:
            found = run(photo, style, given, stop)
        for path in (*found.posters, *([] if given.get("quiet") else [found.table])):
            print(path)
        if not found.complete and stop():
            stop.exit()

    sweep.__signature__ = signature()  # type: ignore[attr-defined]
    sweep.__doc__ = "Paint a photo by every combination of some settings: a poster of the pictures, a table of their figures."
    return sweep


def signature() -> inspect.Signature:
    """``sweep`` with an option for each setting of a recipe, every one a text of one value or
    several.
    """

    own = partial(option, group=_SWEEP)
    nothing, first = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_ONLY
    parameters = [
        own("photo", str, nothing, "The photo.").replace(kind=first),
        own("style", str, nothing, "The painting: a file, or a name from `impasto "
                                   "museum`.").replace(kind=first),
        own("output", Path | None, None, "Folder of pictures, poster and table. [default: "
                                         "PHOTO-STYLE-sweep]",
            name=["--output", "-o"], converter=as_path),
        own("overwrite", bool, False, "Replace pictures there that were painted with other "
                                      "settings.", negative="",
            show_default=False),
        own("recipe", str, loading.DEFAULT_RECIPE, "A name from `impasto recipes`, a .toml file, or a "
                                          "picture painted by Impasto."),
        own("axes", str, "", "Settings of rows, columns, pages: strength,init,seed. [default: as "
                             "they were typed]",
            show_default=False),
        own("yes", bool, False, f"Paint more than {grid.MOST} "
                                f"pictures.", negative="", show_default=False),
        own("quiet", bool, False, "Print the "
                                  "poster alone.", name=["--quiet", "-q"], negative="", show_default=False),
    ]  # fmt: skip
    return inspect.Signature(
        [*parameters, *(setting(one, str, _VARIED, one.text) for one in options.options().values())]
    )


def in_order(typed: Sequence[str]) -> list[str]:
    """The words of a command, with those of a sweep followed by the order of its settings: parsing
    them forgets it.
    """
    words = [word.partition("=")[0] for word in typed]
    if not words or words[0] != "sweep" or "--axes" in words:
        return list(typed)
    known = options.options()
    found = dict.fromkeys(word[2:] for word in words if word.startswith("--") and word[2:] in known)
    return [*typed, *([f"--axes={','.join(found)}"] if found else [])]


def run(photo: str, style: str, given: Mapping[str, Any], stop: Callable[[], bool]) -> Sweep:
    """Check, say what will be painted, and paint it; ``given`` are the options that were typed."""
    from impasto.cli.display import Display
    from impasto.images.recipe_source import load_recipe
    from impasto.runs.destination import default_name
    from impasto.sweep import sweep as sweeping

    settings = _ordered(given)
    folder = given.get("output") or Path(default_name(photo, [style], "-sweep"))
    with Display(bool(given.get("quiet"))) as display:
        said: set[str] = set()

        def event(one: events.Event) -> None:
            if isinstance(one, events.Warned):
                # What there is to say of the photo is said with each picture.
                if one.message in said:
                    return
                said.add(one.message)
            display.event(one)

        callbacks = events.Callbacks(event, stop)
        base = load_recipe(given.get("recipe", loading.DEFAULT_RECIPE), {})
        most = None if given.get("yes") else grid.MOST
        job = sweeping.prepare(
            photo,
            style,
            folder,
            base,
            settings,
            callbacks,
            most=most,
            overwrite=bool(given.get("overwrite")),
        )
        display.say(_before(job))
        place = {id(cell): number for number, cell in enumerate(job.pending, 1)}

        def tell(cell: Cell) -> None:
            values = ", ".join(
                f"{name} {value}" for name, value in cell.combination.settings.items()
            )
            display.heading = f"{place[id(cell)]} of {len(place)}: {values}"

        found = sweeping.paint_job(job, callbacks, tell)
        if not found.complete:
            done = sum(result.file is not None for result in found.results)
            display.say(
                f"{done} of {len(found.results)} pictures are done. The same command goes on "
                f"from here."
            )
        return found


def _ordered(given: Mapping[str, Any]) -> dict[str, str]:
    """The settings that were given by option name, in the order of the axes."""
    known = options.options()
    settings = {
        name.replace("_", "-"): value
        for name, value in given.items()
        if name.replace("_", "-") in known
    }
    order = [name.strip() for name in given.get("axes", "").split(",") if name.strip()]
    for name in order:
        if name not in settings:
            hint = did_you_mean(name, settings) or "Name settings that are given."
            raise BadRecipe(f"--axes names {name!r}, which is given no values.", hint)
    return {name: settings[name] for name in dict.fromkeys([*order, *settings])}


def _before(job: Job) -> str:
    """What will be done, in one line."""
    from impasto.cli.display import duration

    varied = " x ".join(f"{len(axis.values)} of {axis.name}" for axis in job.axes)
    pending = len(job.pending)
    there = len(job.cells) - pending
    kept = f", {there} of them there already" if there else ""
    time = f", about {duration(job.seconds)} of painting in all" if pending else ""
    return f"{len(job.cells)} pictures ({varied}){kept}{time}, into {job.folder}"
