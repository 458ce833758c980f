"""The commands that paint: ``stylize`` with options made from the recipe's own fields, ``plan``,
``resume`` and ``demo``.

They check, say what will be done, paint and say where it is. They refuse to know how a picture is
painted.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from cyclopts import Group

from impasto.cli.options import Folder, Output, Overwrite, as_path, option, setting
from impasto.cli.terminal import Stop, stopping, time_of_start
from impasto.errors import BadPicture
from impasto.recipe import loading, options, records, values
from impasto.runs.snapshots import check_kept, parse
from impasto.storage import names as names_
from impasto.storage.names import json_text

if TYPE_CHECKING:
    from impasto.result import Painting


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
    from impasto import api
    from impasto.runs.destination import default_name

    check_kept(parse(snapshots), not no_run)
    given = {name: value for name, value in settings.items() if value is not None}
    chosen = api.load_recipe(recipe, given)
    target = Path(names_.expanded(output))
    named = bool(output) and not (output.endswith(("/", os.sep)) or os.path.isdir(target))
    if not named:
        target /= default_name(photo, style)
    _paint(
        _stdin() if photo == "-" else photo,
        list(style),
        chosen,
        target,
        run,
        keep_run=not no_run,
        named=named,
        overwrite=overwrite,
        as_json=json_,
        quiet=quiet,
        fresh=fresh,
        checkpoint=checkpoint,
        within=values.duration(time) if time else None,
        fixed=frozenset(given),
        snapshots=snapshots,
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
    target: Path,
    run: Path | None,
    *,
    keep_run: bool,
    as_json: bool,
    quiet: bool,
    named: bool = False,
    overwrite: bool = False,
    fresh: bool = False,
    checkpoint: float = loading.CHECKPOINT_SECONDS,
    within: float | None = None,
    fixed: frozenset[str] = frozenset(),
    snapshots: str = "",
) -> Path:
    """Check, say what will be done, paint, and say where it is."""
    from impasto.cli.display import Display

    begun = time_of_start()
    with Display(quiet) as display, stopping() as stop:
        names = f"{photo if isinstance(photo, str) else 'the photo'} and {', '.join(styles)}"
        with display.if_slow(f"Reading {names}."):
            from impasto import api, images
            from impasto.inputs import request
            from impasto.runs.destination import free

            images.check_output(target if named else free(target), bits=recipe.output.bits)
            watch = api.Watch(
                display.event, display.fetch, stop, lambda: display.say(f"Painting from {names}.")
            )
            asked = request(
                photo,
                styles,
                recipe,
                watch.fetch,
                any_size=within is not None and "size" not in fixed,
            )
        painting = api.paint(
            asked,
            output=target.absolute(),
            run=run if keep_run else None,
            beside=keep_run,
            named=named,
            overwrite=overwrite,
            watch=watch,
            fresh=fresh,
            checkpoint_seconds=checkpoint,
            within=within,
            fixed=fixed,
            snapshots=snapshots,
            begun=begun,
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

    settings = {"memory": memory or None, "precision": precision, "device": device}
    chosen = api.load_recipe(
        recipe, {name: value for name, value in settings.items() if value is not None}
    )
    asked = tuple(dict.fromkeys(size)) or (512, 1024, 2048, 4096, 0)
    with (
        Display(quiet=False) as display,
        display.if_slow("Reading the pictures and timing this machine."),
    ):
        found = api.plans(photo, list(style), asked, chosen, api.Watch(fetch=display.fetch))
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
        painting = api.resume(run, api.Watch(event=display.event, fetch=display.fetch, stop=stop))
    _tell(painting, json, stop)


def demo(*, output: Output = None, overwrite: Overwrite = False, json: bool = False) -> None:
    """Paint a sample photo in the style of a Van Gogh, to see that everything works.

    :param output: Where the picture goes. [default: impasto-demo.png]
    :param overwrite: Replace the picture that is there; otherwise it is kept.
    :param json: Print one JSON object at the end.
    """
    import skimage.data

    photo, recipe = skimage.data.astronaut(), loading.load("demo")
    target, named = output or Path("impasto-demo.png"), output is not None
    path = _paint(
        photo,
        [SAMPLE],
        recipe,
        target,
        None,
        keep_run=False,
        as_json=json,
        quiet=False,
        named=named,
        overwrite=overwrite,
    )
    if not json:
        print(f"\nNow a photo of yours:\n  impasto stylize PHOTO.jpg {SAMPLE} -o painted.png")
        print(
            f"`impasto museum` lists other paintings; any picture file can be the style too.\nThe "
            f"demo is in {path.name}."
        )
