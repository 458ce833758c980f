"""The command ``impasto sweep``: its options, and what it prints before and during the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from impasto import events
from impasto.cli.parameters import Output, Quiet, Switch, Text, add_recipe_options
from impasto.cli.terminal import stopping
from impasto.errors import BadRecipe, did_you_mean
from impasto.recipe import loading, options
from impasto.sweeps import grid

if TYPE_CHECKING:
    from impasto.cli.display import Display
    from impasto.sweeps.job import Cell, Job
    from impasto.sweeps.outcome import Sweep


USAGE = "Usage: impasto sweep PHOTO STYLE --SETTING VALUES... [OPTIONS]"
_VALUES_HELP = (
    "Each takes one value or several: 10,20,50; or FROM:TO:COUNT, as 10:90:5 for 10, 30, 50, 70, "
    "90; or FROM:TO for whole numbers, both included; or FROM:TO:COUNT:log for equal ratios. "
    "Values that have commas themselves are separated by a slash: 40,35,30/20,20,20."
)


def sweep_command(*, only_common: bool) -> Callable[..., None]:
    """Return ``sweep`` with an option for each setting; see ``add_recipe_options``."""
    more = " `impasto sweep --help-all` shows every setting." if only_common else ""
    return add_recipe_options(
        _sweep, only_common=only_common, help=_VALUES_HELP + more, several_values=True
    )


def _sweep(
    photo: str,
    style: str,
    /,
    *,
    output: Output = None,
    overwrite: Switch = False,
    recipe: str = loading.DEFAULT_RECIPE,
    axes: Text = "",
    yes: Annotated[Switch, Parameter(help=f"Paint more than {grid.MOST} pictures.")] = False,
    quiet: Quiet = False,
    **settings: str,
) -> None:
    """Paint a photo with every combination of some settings: a poster of the pictures and a table.

    :param photo: The photo.
    :param style: The painting: a file, or a name from `impasto museum`.
    :param output: Folder of pictures, poster and table. [default: PHOTO-STYLE-sweep]
    :param overwrite: Replace pictures there that were painted with other settings.
    :param recipe: A name from `impasto recipes`, a .toml file, or a picture painted by Impasto.
    :param axes: Settings of rows, columns, pages: strength,init,seed. [default: as they were typed]
    :param quiet: Print the path of the poster only.
    """
    from impasto.cli.display import Display
    from impasto.images.recipe_source import load_recipe
    from impasto.runs.destination import default_name
    from impasto.sweeps.job import prepare

    varied = _in_axis_order(settings, axes)
    folder = output or Path(default_name(photo, [style], "-sweep"))
    with stopping() as stop:
        with Display(quiet) as display:
            callbacks = events.Callbacks(_without_repeats(display), stop)
            job = prepare(
                photo,
                style,
                folder,
                load_recipe(recipe, {}),
                varied,
                callbacks,
                most=None if yes else grid.MOST,
                overwrite=overwrite,
            )
            display.say(_plan_line(job))
            from impasto.sweeps.sweep import paint_job  # torch is not needed before

            result = paint_job(job, callbacks, _heading_writer(job, display))
            if not result.complete:
                display.say(_unfinished_line(result))
        for path in (*result.posters, *([] if quiet else [result.table])):
            print(path)
        if not result.complete and stop():
            stop.exit()


def _without_repeats(display: Display) -> Callable[[events.Event], None]:
    """Return the display's listener, which shows each warning once.

    Every picture of a sweep repeats the warnings about the same photo.
    """
    shown: set[str] = set()

    def show(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            if event.message in shown:
                return
            shown.add(event.message)
        display.event(event)

    return show


def _heading_writer(job: Job, display: Display) -> Callable[[Cell], None]:
    """Return a function that heads a cell's progress with its number and its settings."""
    numbers = {id(cell): number for number, cell in enumerate(job.pending, 1)}

    def write(cell: Cell) -> None:
        values = ", ".join(f"{name} {value}" for name, value in cell.combination.settings.items())
        display.heading = f"{numbers[id(cell)]} of {len(numbers)}: {values}"

    return write


def _unfinished_line(result: Sweep) -> str:
    """Return the line that ends an unfinished sweep: how much is done, and how to continue."""
    done = sum(picture.file is not None for picture in result.results)
    return (
        f"{done} of {len(result.results)} pictures are done. The same command continues from here."
    )


def add_axes_option(words: Sequence[str]) -> list[str]:
    """Return the words of a command; a sweep without ``--axes`` gets one in the typed order.

    Cyclopts binds options in the order of the function's parameters, and its tokens have no public
    position.
    """
    names = [word.partition("=")[0] for word in words]
    if not names or names[0] != "sweep" or "--axes" in names:
        return list(words)
    known = options.recipe_options()
    axes = dict.fromkeys(
        name.removeprefix("--")
        for name in names
        if name.startswith("--") and name.removeprefix("--") in known
    )
    return [*words, *([f"--axes={','.join(axes)}"] if axes else [])]


def _in_axis_order(settings: Mapping[str, str], axes: str) -> dict[str, str]:
    """Return the settings by option name, those that ``axes`` names first and in its order.

    Raises:
        BadRecipe: ``axes`` names a setting that has no values.
    """
    values = {name.replace("_", "-"): value for name, value in settings.items()}
    order = [name.strip() for name in axes.split(",") if name.strip()]
    for name in order:
        if name not in values:
            hint = did_you_mean(name, values) or "Name settings that are given."
            raise BadRecipe(f"--axes names {name!r}, which is given no values.", hint)
    return {name: values[name] for name in dict.fromkeys([*order, *values])}


def _plan_line(job: Job) -> str:
    """Return what will be painted, in one line."""
    from impasto.cli.display import duration_text

    varied = " x ".join(f"{len(axis.values)} of {axis.name}" for axis in job.axes)
    pending = len(job.pending)
    done = len(job.cells) - pending
    finished = f", {done} of them there already" if done else ""
    time = f", about {duration_text(job.seconds)} of painting in all" if pending else ""
    return f"{len(job.cells)} pictures ({varied}){finished}{time}, into {job.folder}"
