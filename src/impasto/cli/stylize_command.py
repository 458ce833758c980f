"""The commands that paint: ``stylize`` with options made from the recipe's own fields, ``plan``,
``resume`` and ``demo``.

They check, say what will be done, paint and say where it is. They refuse to know how a picture is
painted.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from cyclopts import Group

from impasto.cli.options import Folder, Output, Overwrite, as_path, option, setting
from impasto.cli.terminal import Stop, stopping, time_of_start
from impasto.errors import BadPicture
from impasto.events import Callbacks
from impasto.recipe import loading, options, records, values
from impasto.runs.snapshots import check_kept, parse
from impasto.storage.names import json_text

if TYPE_CHECKING:
    from impasto.planning.time_budget import TimeBudget
    from impasto.result import Painting
    from impasto.runs.destination import Target


SAMPLE = "wheat-field-with-cypresses"  # the painting of the demo
USAGE = "Usage: impasto stylize PHOTO STYLE [STYLE...] [OPTIONS]"
_PAINT = Group("What to paint", sort_key=0)
_RECIPE = Group(
    "The recipe",
    help="Every field has the value that --recipe gives it, or the default shown.",
    sort_key=2,
)


def _stylize(
    photo: str,
    style: tuple[str, ...],
    *,
    output: str,
    overwrite: bool,
    recipe: str,
    run: Path | None,
    no_run: bool,
    json_: bool,
    quiet: bool,
    fresh: bool,
    checkpoint: float,
    time: str,
    snapshots: str,
    **settings: Any,
) -> None:
    from impasto.images.recipe_source import load_recipe
    from impasto.planning.time_budget import TimeBudget
    from impasto.runs.destination import Target, output_path

    shots = parse(snapshots)
    check_kept(shots, not no_run)
    given = {name: value for name, value in settings.items() if value is not None}
    chosen = load_recipe(recipe, given)
    file, named = output_path(output, photo, style)
    folder = None if no_run else run
    target = Target(file, folder, not no_run, named, overwrite, fresh, shots)
    budget = None
    if time:
        budget = TimeBudget(values.duration(time), frozenset(given), time_of_start())
    _paint(
        _stdin() if photo == "-" else photo,
        list(style),
        chosen,
        target,
        as_json=json_,
        quiet=quiet,
        budget=budget,
        checkpoint_seconds=checkpoint,
    )


def _stdin() -> BinaryIO:
    """Standard input, which the photo is read from."""
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
    checkpoint_seconds: float = loading.CHECKPOINT_SECONDS,
) -> Path:
    """Check, say what will be done, paint, and say where the picture is."""
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
    """The last line: where the picture is, or the whole record. The program ends with it where the
    run was stopped.
    """
    output = painting.record["output"]
    if as_json or output:
        print(json_text(painting.record) if as_json else output)
    if painting.record["stopped"]:
        stop.exit()
    return Path(output)


def stylize_command() -> Callable[..., None]:
    """``stylize`` with one option for each setting of a recipe, made from the fields themselves."""

    def stylize(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = dict(bound.arguments)
        _stylize(named.pop("photo"), named.pop("style"), **named)

    own = partial(option, group=_PAINT)

    def flag(field: str, help: str, *names: str) -> inspect.Parameter:
        return own(field, bool, False, help, name=names, negative="", show_default=False)

    nothing = inspect.Parameter.empty
    photo = own(
        "photo",
        str,
        nothing,
        "The photo; - reads it from standard input.",
        allow_leading_hyphen=True,
    )
    photo = photo.replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    styles = own(
        "style",
        str,
        nothing,
        "A painting: a file, or a name from `impasto museum`; several are blended, irises:0.7 "
        "other.jpg:0.3 by weights.",
    )
    parameters = [
        photo,
        styles.replace(kind=inspect.Parameter.VAR_POSITIONAL),
        own(
            "output",
            str,
            "",
            "Where the picture goes: a file, or a folder. [default: PHOTO-STYLE.png]",
            name=["--output", "-o"],
            show_default=False,
        ),
        flag(
            "overwrite", "Replace the picture that is there; otherwise it is kept.", "--overwrite"
        ),
        own(
            "recipe",
            str,
            loading.DEFAULT_RECIPE,
            "A name from `impasto recipes`, a .toml file, or a picture painted by Impasto.",
        ),
        own(
            "run",
            Path | None,
            None,
            "Folder of the run's log. [default: beside the picture]",
            converter=as_path,
        ),
        flag("fresh", "Paint anew what is finished or was begun with the same recipe.", "--fresh"),
        own(
            "checkpoint",
            float,
            loading.CHECKPOINT_SECONDS,
            "Seconds between two saved states of the run; 0: each step.",
        ),
        own(
            "snapshots",
            str,
            "",
            "Keep the picture after these evaluations, such as 100,300 or every=50, in the "
            "run's folder.",
        ),
        own(
            "time",
            str,
            "",
            "Paint the best picture in this time, such as 2m; size and iterations are "
            "chosen for it.",
        ),
        flag("no_run", "Keep no log.", "--no-run"),
        flag("json_", "Print one JSON object at the end.", "--json"),
        flag("quiet", "Print the path alone.", "--quiet", "-q"),
    ]
    parameters += [_setting(one) for one in options.options().values()]
    signature = inspect.Signature(parameters)
    stylize.__signature__ = signature  # type: ignore[attr-defined]
    stylize.__doc__ = "Paint a photo in the style of one or more paintings."
    return stylize


def _setting(one: options.Option) -> inspect.Parameter:
    """How a setting reads on the command line: a flag, a choice, or text that the recipe itself
    checks.
    """
    kind: Any = bool if one.is_flag else Literal[one.choices] if one.choices else Value
    return setting(one, kind, _RECIPE, one.text if one.default is not False else "")


class Value(str):
    """A value as it was typed: the recipe checks it, with the same words for every door."""


def plan(
    photo: str,
    /,
    *style: str,
    size: tuple[int, ...] = (),
    recipe: str = loading.DEFAULT_RECIPE,
    memory: str = "",
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    json: bool = False,
) -> None:
    """Say what painting would take at several sizes, in time, memory and disk, without painting.

    :param photo: The photo.
    :param style: A painting: a file, or a name from `impasto museum`.
    :param size: Long sides in pixels, 0 for the photo's own. [default: 512, 1024, 2048, 4096 and
    the photo's own]
    :param recipe: A name from `impasto recipes`, a .toml file, or a picture painted by Impasto.
    :param memory: Most memory to use, such as 4GB.
    :param precision: Numbers between layers.
    :param device: Where to compute.
    :param json: Print a JSON list.
    """
    from impasto import api, events
    from impasto.cli.display import Display, plan_table
    from impasto.images.recipe_source import load_recipe

    settings = {"memory": memory or None, "precision": precision, "device": device}
    chosen = load_recipe(
        recipe, {name: value for name, value in settings.items() if value is not None}
    )
    asked = tuple(dict.fromkeys(size)) or (512, 1024, 2048, 4096, 0)
    with (
        Display(quiet=False) as display,
        display.if_slow("Reading the pictures and timing this machine."),
    ):
        found = api.plan_sizes(photo, list(style), asked, chosen, on_event=display.event)
    if json:
        rows = [
            events.to_dict(one)
            if isinstance(one, events.Planned)
            else {"asked_size": side, "error": str(one)}
            for side, one in zip(asked, found, strict=True)
        ]
        print(json_text(rows))
    else:
        plan_table(asked, found)
    if not any(isinstance(one, events.Planned) for one in found):
        sys.exit(2)


def resume(run: Folder, /, *, json: bool = False, quiet: bool = False) -> None:
    """Go on with a run that was stopped or killed.

    :param run: The run's folder, such as painted.png.run.
    :param json: Print one JSON object at the end.
    :param quiet: Print the path alone.
    """
    from impasto import api
    from impasto.cli.display import Display

    with Display(quiet) as display, stopping() as stop:
        painting = api.resume(run, on_event=display.event, cancel=stop)
    _tell(painting, json, stop)


def demo(*, output: Output = None, overwrite: Overwrite = False, json: bool = False) -> None:
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
