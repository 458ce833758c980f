"""The commands that paint: ``stylize``, ``plan``, ``resume`` and ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from cyclopts import Parameter

from impasto.cli.parameters import (
    File,
    Folder,
    Output,
    Quiet,
    Switch,
    Text,
    add_recipe_options,
)
from impasto.cli.terminal import Stop, stopping, time_of_start
from impasto.errors import BadPicture
from impasto.events import Callbacks
from impasto.recipe import loading, records, values
from impasto.recipe.choices import DeviceChoice, Precision
from impasto.runs import CHECKPOINT_SECONDS
from impasto.runs.snapshots import parse
from impasto.storage.names import json_text

if TYPE_CHECKING:
    from impasto.planning.time_budget import TimeBudget
    from impasto.result import Painting
    from impasto.runs.destination import Target


SAMPLE = "wheat-field-with-cypresses"  # the painting of the demo
USAGE = "Usage: impasto stylize PHOTO STYLE [STYLE...] [OPTIONS]"
_SETTINGS_HELP = "Every setting has the value that --recipe gives it, or the default shown."


@dataclass(frozen=True)
class StylizeOptions:
    """The options of ``stylize`` that are not settings of the recipe.

    :param output: Where the picture goes: a file, or a folder. [default: PHOTO-STYLE.png]
    :param overwrite: Replace the picture that is there; otherwise it is kept.
    :param recipe: A name from `impasto recipes`, a .toml file, or a picture painted by Impasto.
    :param time: Paint the best picture in this time, such as 2m: chooses size and iterations.
    :param run: Folder of the run's log. [default: beside the picture]
    :param no_run: Keep no log.
    :param fresh: Start over, even where the same picture is finished or was begun.
    :param json: Print one JSON object at the end.
    :param quiet: Print the path only.
    """

    output: Annotated[Text, Parameter(name=["--output", "-o"])] = ""
    overwrite: Switch = False
    recipe: str = loading.DEFAULT_RECIPE
    time: Text = ""
    run: File = None
    no_run: Switch = False
    fresh: Switch = False
    json: Switch = False
    quiet: Quiet = False


@dataclass(frozen=True)
class StateOptions:
    """What a run saves before it is finished.

    :param checkpoint: Seconds between two saved states of the run; 0 saves after each step.
    :param snapshots: Evaluations after which the run's folder keeps the picture: 100 or every=50.
    """

    checkpoint: float = CHECKPOINT_SECONDS
    snapshots: Text = ""


_STYLES_HELP = (
    "A painting: a file, or a name from `impasto museum`. Several are blended, with weights as in "
    "irises:0.7 other.jpg:0.3."
)
_OPTIONS, _STATE_OPTIONS = StylizeOptions(), StateOptions()  # where none are typed


def stylize_command(*, only_common: bool) -> Callable[..., None]:
    """Return ``stylize`` with an option for each setting; see ``add_recipe_options``."""
    more = " `impasto stylize --help-all` shows every setting." if only_common else ""
    return add_recipe_options(
        _stylize, only_common=only_common, help=_SETTINGS_HELP + more, rare=["state"]
    )


def _stylize(
    photo: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *style: Annotated[str, Parameter(help=_STYLES_HELP)],
    options: Annotated[StylizeOptions, Parameter(name="*")] = _OPTIONS,
    state: Annotated[StateOptions, Parameter(name="*")] = _STATE_OPTIONS,
    **settings: Any,
) -> None:
    """Paint a photo in the style of one or more paintings.

    :param photo: The photo; - reads it from standard input.
    """
    from impasto.images.recipe_source import load_recipe
    from impasto.planning.time_budget import TimeBudget
    from impasto.runs.destination import Target, output_path

    snapshots = parse(state.snapshots)
    recipe = load_recipe(options.recipe, settings)
    file, named = output_path(options.output, photo, style)
    target = Target(
        file,
        run=None if options.no_run else options.run,
        beside=not options.no_run,
        named=named,
        overwrite=options.overwrite,
        fresh=options.fresh,
        snapshots=snapshots,
    )
    budget = None
    if options.time:
        seconds = values.parse_duration(options.time)
        budget = TimeBudget(seconds, frozenset(settings), time_of_start())
    _paint(
        _stdin() if photo == "-" else photo,
        list(style),
        recipe,
        target,
        as_json=options.json,
        quiet=options.quiet,
        budget=budget,
        checkpoint_seconds=state.checkpoint,
    )


def _stdin() -> BinaryIO:
    """Return standard input, from which the photo is read."""
    if sys.stdin is None:
        raise BadPicture(
            "Standard input is closed: there is no photo in it.", "Give the photo's file."
        )
    return sys.stdin.buffer


def _paint(
    photo: object,
    styles: list[str],
    recipe: records.Recipe,
    target: Target,
    *,
    as_json: bool,
    quiet: bool,
    budget: TimeBudget | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Path:
    """Check, print the plan, paint, and print where the picture is."""
    from impasto.cli.display import Display

    names = f"{photo if isinstance(photo, str) else 'the photo'} and {', '.join(styles)}"
    with Display(quiet) as display, stopping() as stop:
        callbacks = Callbacks(display.with_start(f"Painting from {names}."), stop)
        with display.if_slow(f"Reading {names}."):
            from impasto import images
            from impasto.inputs import read_inputs
            from impasto.runs.destination import free_path
            from impasto.runs.paint import paint

            assert target.output is not None
            output = target.output if target.named else free_path(target.output)
            images.check_output(output, bits=recipe.output.bits)
            any_size = budget is not None and budget.chooses_size
            inputs = read_inputs(photo, styles, recipe, callbacks.progress, any_size=any_size)
        painting = paint(
            inputs,
            replace(target, output=target.output.absolute()),
            budget=budget,
            checkpoint_seconds=checkpoint_seconds,
            callbacks=callbacks,
        )
    return _tell(painting, as_json, stop)


def _tell(painting: Painting, as_json: bool, stop: Stop) -> Path:
    """Print the path of the picture or the record of the run; exit if the run was stopped."""
    output = painting.record["output"]
    if as_json or output:
        print(json_text(painting.record) if as_json else output)
    if painting.record["stopped"]:
        stop.exit()
    return Path(output)


def plan(
    photo: str,
    /,
    *style: str,
    size: Annotated[tuple[int, ...], Parameter(show_default=False)] = (),
    recipe: str = loading.DEFAULT_RECIPE,
    memory: Text = "",
    precision: Precision | None = None,
    device: DeviceChoice | None = None,
    json: Switch = False,
) -> None:
    """Estimate the time, memory and disk that painting takes at several sizes, without painting.

    :param photo: The photo.
    :param style: A painting: a file, or a name from `impasto museum`.
    :param size: Long sides in pixels, 0 for the photo's own. [default: 512, 1024, 2048, 4096, 0]
    :param recipe: A name from `impasto recipes`, a .toml file, or a picture painted by Impasto.
    :param memory: Most memory to use, such as 4GB.
    :param precision: Number format between layers.
    :param device: Device to compute on.
    :param json: Print a JSON list.
    """
    from impasto import api, events
    from impasto.cli.display import Display
    from impasto.cli.tables import print_plans
    from impasto.images.recipe_source import load_recipe

    settings = {"memory": memory or None, "precision": precision, "device": device}
    chosen = load_recipe(
        recipe, {name: value for name, value in settings.items() if value is not None}
    )
    sizes = tuple(dict.fromkeys(size)) or (512, 1024, 2048, 4096, 0)
    with (
        Display(quiet=False) as display,
        display.if_slow("Reading the pictures and timing this machine."),
    ):
        plans = api.plan_sizes(photo, list(style), sizes, chosen, on_event=display.event)
    if json:
        rows = [
            events.to_dict(plan)
            if isinstance(plan, events.Planned)
            else {"asked_size": side, "error": str(plan)}
            for side, plan in zip(sizes, plans, strict=True)
        ]
        print(json_text(rows))
    else:
        print_plans(sizes, plans)
    if not any(isinstance(plan, events.Planned) for plan in plans):
        sys.exit(2)


def resume(run: Folder, /, *, json: Switch = False, quiet: Quiet = False) -> None:
    """Continue a run that was stopped or killed.

    :param run: The run's folder, such as painted.png.run.
    :param json: Print one JSON object at the end.
    :param quiet: Print the path only.
    """
    from impasto import api
    from impasto.cli.display import Display

    with Display(quiet) as display, stopping() as stop:
        painting = api.resume(run, on_event=display.event, cancel=stop)
    _tell(painting, json, stop)


def demo(*, output: Output = None, overwrite: Switch = False, json: Switch = False) -> None:
    """Paint a sample photo in the style of a Van Gogh, to see that everything works.

    :param output: Where the picture goes. [default: impasto-demo.png]
    :param overwrite: Replace the picture that is there; otherwise it is kept.
    :param json: Print one JSON object at the end.
    """
    import skimage.data

    from impasto.runs.destination import Target

    photo, recipe = skimage.data.astronaut(), loading.load("demo")
    file = output or Path("impasto-demo.png")
    target = Target(file, named=output is not None, overwrite=overwrite)
    path = _paint(photo, [SAMPLE], recipe, target, as_json=json, quiet=False)
    if not json:
        print(f"\nNow a photo of yours:\n  impasto stylize PHOTO.jpg {SAMPLE} -o painted.png")
        print(
            f"`impasto museum` lists other paintings; any picture file can be the style too.\nThe "
            f"demo is in {path.name}."
        )
