"""The command line: options made from the recipe's own fields, one line before the work, a bar during it, a path after it.

The only room that prints and exits. It knows words for people; it refuses to know how a picture is painted.
"""

from __future__ import annotations

import inspect
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from impasto import __version__, amounts, explain_command, making, sweep_command
from impasto import recipe as recipes
from impasto.errors import BadRequest, ImpastoError, ran_out_of_memory
from impasto.snapshots import check_kept, parse

if TYPE_CHECKING:
    from impasto.painting import Painting

SAMPLE = "wheat-field-with-cypresses"  # the painting of the demo

app = App(
    name="impasto",
    version=__version__,
    help="Paint a photo in the style of a painting.",
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a run that failed, 2 a request that cannot be met, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a title that the terminal cannot spell is no reason to stop
    try:
        given = sweep_command.in_order(sys.argv[1:] if arguments is None else arguments)
        if isinstance(said := app(given, exit_on_error=False, print_error=False), Path):
            print(said)
    except CycloptsError as error:
        _complain(str(error), "`impasto --help` lists the commands, `impasto COMMAND --help` their options.")
        sys.exit(2)
    except ImpastoError as error:
        _complain(error.message, error.hint)
        sys.exit(2 if isinstance(error, BadRequest) else 1)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        _complain("Memory ran out.", "Close other programs, or ask for a smaller --size.")
        sys.exit(1)
    except KeyboardInterrupt:
        _complain("Interrupted.", "")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away; there is nobody to tell
        sys.exit(1)


# -- painting ----------------------------------------------------------------------------------------------------------

_PAINT = Group("What to paint", sort_key=0)
_RECIPE = Group("The recipe", help="Every field has the value that --recipe gives it, or the default shown.", sort_key=2)


def _stylize(
    photo: str,
    style: tuple[str, ...],
    *,
    output: Path | None,
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

    check_kept(parse(snapshots), not no_run)
    given = {name: value for name, value in settings.items() if value is not None}
    chosen = api.load_recipe(recipe, given)
    target = output or Path(f"{Path(photo).stem}-{'-'.join(Path(each).stem for each in style)}"[:200] + ".png")
    _paint(
        photo,
        list(style),
        chosen,
        target,
        run,
        keep_run=not no_run,
        as_json=json_,
        quiet=quiet,
        fresh=fresh,
        checkpoint=checkpoint,
        within=amounts.duration(time) if time else None,
        fixed=frozenset(given),
        snapshots=snapshots,
    )


def _paint(
    photo: object,
    styles: list[str],
    recipe: recipes.Recipe,
    target: Path,
    run: Path | None,
    *,
    keep_run: bool,
    as_json: bool,
    quiet: bool,
    fresh: bool = False,
    checkpoint: float = recipes.CHECKPOINT_SECONDS,
    within: float | None = None,
    fixed: frozenset[str] = frozenset(),
    snapshots: str = "",
) -> Path:
    """Check, say what will be done, paint, and say where it is."""
    from impasto import api, images, runs
    from impasto.display import Display
    from impasto.request import request

    images.check_output(target, bits=recipe.output.bits)

    with Display(quiet) as display, _stopping() as stop:
        watch = api.Watch(event=display.event, fetch=display.fetch, stop=stop)
        asked = request(photo, styles, recipe, watch.fetch, any_size=within is not None and "size" not in fixed)
        display.request = asked
        folder = (run or runs.beside(target.absolute())) if keep_run else None
        painting = api.paint(
            asked,
            output=target,
            run=folder,
            watch=watch,
            fresh=fresh,
            checkpoint_seconds=checkpoint,
            within=within,
            fixed=fixed,
            snapshots=snapshots,
        )
    return _tell(painting, as_json)


def _tell(painting: Painting, as_json: bool) -> Path:
    """The last line: where the picture is, or the whole record."""
    path = Path(painting.record["output"])
    print(_json(painting.record) if as_json else path)
    return path


def _json(values: object) -> str:
    return json.dumps(values, ensure_ascii=False)


def _stylize_command() -> Callable[..., None]:
    """``stylize`` with one option for each setting of a recipe, made from the fields themselves."""

    def stylize(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = dict(bound.arguments)
        _stylize(named.pop("photo"), named.pop("style"), **named)

    def own(field: str, kind: Any, default: Any, help: str, **more: Any) -> inspect.Parameter:
        annotation = Annotated[kind, Parameter(help=help, group=_PAINT, **more)]
        return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def flag(field: str, help: str, *names: str) -> inspect.Parameter:
        return own(field, bool, False, help, name=names, negative="", show_default=False)

    nothing = inspect.Parameter.empty
    photo = own("photo", str, nothing, "The photo.").replace(kind=inspect.Parameter.POSITIONAL_ONLY)
    styles = own("style", str, nothing, "A painting: a file, or a name from `impasto museum`; several are blended.")
    parameters = [
        photo,
        styles.replace(kind=inspect.Parameter.VAR_POSITIONAL),
        own("output", Path | None, None, "Where it goes. [default: PHOTO-STYLE.png]", name=["--output", "-o"]),
        own("recipe", str, recipes.HOUSE, "A name from `impasto recipes`, a .toml file, or a picture painted by Impasto."),
        own("run", Path | None, None, "Folder of the run's log. [default: beside the picture]"),
        flag("fresh", "Start over where an unfinished run of the same recipe would be gone on with.", "--fresh"),
        own("checkpoint", float, recipes.CHECKPOINT_SECONDS, "Seconds between two saved states of the run; 0: each step."),
        own(
            "snapshots",
            str,
            "",
            "Keep the picture after these evaluations, such as 100,300 or every=50, in the run's folder.",
        ),
        own("time", str, "", "Paint the best picture in this time, such as 2m; size and iterations are chosen for it."),
        flag("no_run", "Keep no log.", "--no-run"),
        flag("json_", "Print one JSON object at the end.", "--json"),
        flag("quiet", "Print the path alone.", "--quiet", "-q"),
    ]
    for name, option in recipes.options().items():
        parameters.append(
            inspect.Parameter(
                name.replace("-", "_"), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(option)
            )
        )
    signature = inspect.Signature(parameters)
    stylize.__signature__ = signature  # type: ignore[attr-defined]
    stylize.__doc__ = "Paint a photo in the style of one or more paintings."
    return stylize


def _annotation(option: recipes.Option) -> Any:
    """How an option reads on the command line: a flag, a choice, or text that the recipe itself checks."""
    kind: Any = bool if option.is_flag else Literal[option.choices] if option.choices else Value
    shown = f" [default: {option.text}]" if option.text and option.default is not False else ""
    parameter = Parameter(name=f"--{option.name}", help=f"{option.help}{shown}", show_default=False, group=_RECIPE)
    return Annotated[kind | None, parameter]


class Value(str):
    """A value as it was typed: the recipe checks it, with the same words for every door."""


app.command(_stylize_command(), name="stylize", usage="Usage: impasto stylize PHOTO STYLE [STYLE...] [OPTIONS]")
app.command(making.report)
app.command(making.timelapse)


@app.command
def plan(
    photo: str,
    /,
    *style: str,
    size: tuple[int, ...] = (),
    recipe: str = recipes.HOUSE,
    memory: str = "",
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    json: bool = False,
) -> None:
    """Say what painting would take at several sizes, in time, memory and disk, without painting.

    :param photo: The photo.
    :param style: A painting: a file, or a name from `impasto museum`.
    :param size: Long sides in pixels, 0 for the photo's own. [default: 512, 1024, 2048, 4096 and the photo's own]
    :param recipe: A name from `impasto recipes`, a .toml file, or a picture painted by Impasto.
    :param memory: Most memory to use, such as 4GB.
    :param precision: Numbers between layers.
    :param device: Where to compute.
    :param json: Print a JSON list.
    """
    from impasto import api, events
    from impasto.display import Display, plan_table

    settings = {"memory": memory or None, "precision": precision, "device": device}
    chosen = api.load_recipe(recipe, {name: value for name, value in settings.items() if value is not None})
    asked = tuple(dict.fromkeys(size)) or (512, 1024, 2048, 4096, 0)
    with Display(quiet=False) as display:
        found = api.plans(photo, list(style), asked, chosen, api.Watch(fetch=display.fetch))
    if json:
        rows = [events.to_dict(one) if isinstance(one, events.Planned) else {"error": str(one)} for one in found]
        print(_json(rows))
        return
    plan_table(asked, found)


@app.command
def resume(run: Path, *, json: bool = False, quiet: bool = False) -> None:
    """Go on with a run that was stopped or killed.

    :param run: The run's folder, such as painted.png.run.
    :param json: Print one JSON object at the end.
    :param quiet: Print the path alone.
    """
    from impasto import api
    from impasto.display import Display

    with Display(quiet) as display, _stopping() as stop:
        painting = api.resume(run, api.Watch(event=display.event, fetch=display.fetch, stop=stop))
    _tell(painting, json)


@app.command
def demo(
    *, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("impasto-demo.png"), json: bool = False
) -> None:
    """Paint a sample photo in the style of a Van Gogh, to see that everything works.

    :param output: Where the picture goes.
    :param json: Print one JSON object at the end.
    """
    import skimage.data

    photo, recipe = skimage.data.astronaut(), recipes.load("demo")
    path = _paint(photo, [SAMPLE], recipe, output, None, keep_run=False, as_json=json, quiet=False)
    if not json:
        print(f"\nNow a photo of yours:\n  impasto stylize PHOTO.jpg {SAMPLE} -o painted.png")
        print(
            f"`impasto museum` lists other paintings; any picture file can be the style too.\nThe demo is in {path.name}."
        )


# -- judging -----------------------------------------------------------------------------------------------------------


@app.command(usage="Usage: impasto compare RESULT... [OPTIONS]")
def compare(
    *results: str,
    content: str | None = None,
    style: str | None = None,
    judge: Literal["vgg16", "vgg19"] | None = None,
    size: int | None = None,
    json: bool = False,
    csv: bool = False,
) -> None:
    """Judge finished pictures by networks that did not paint them, between the photo and the painting as ends of the scale.

    :param results: The pictures.
    :param content: The photo they were painted from. [default: what the pictures say]
    :param style: The painting: a file, or a name from `impasto museum`. [default: what the pictures say]
    :param judge: The network that judges style and content. [default: the one that did not paint]
    :param size: Long side in which the networks look. [default: the pictures' own, up to 1024]
    :param json: Print one JSON object.
    :param csv: Print comma-separated values.
    """
    from rich.console import Console

    from impasto import comparing
    from impasto.display import Display
    from impasto.reports import comparison as report

    with Display(quiet=json or csv) as display:
        found = comparing.compare(results, content, style, judge=judge, size=size or comparing.LARGEST, fetch=display.fetch)
    if json or csv:
        print(_json(report.as_values(found)) if json else report.as_csv(found), end="\n" if json else "")
        return
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(report.table(found))


# -- looking around ----------------------------------------------------------------------------------------------------


@app.command
def museum(*words: str, sheet: Path | None = None) -> None:
    """List the public-domain paintings that can be named as a style.

    :param words: Only those with all of these words in name, title, artist or date.
    :param sheet: Draw them into this picture file.
    """
    from rich.console import Console
    from rich.table import Column, Table

    from impasto import museum as gallery

    found = gallery.search(" ".join(words)) if words else list(gallery.all_paintings())
    if not found:
        gallery.find(" ".join(words))  # says so, with the nearest names
    if sheet is not None:
        from impasto import images
        from impasto.display import Display

        target = images.check_output(sheet)
        with Display(quiet=False) as display:
            pictures = [(work.read(progress=display.fetch), f"{work.slug}  {work.artist}") for work in found]
        images.save(target, images.contact_sheet(pictures, columns=min(8, len(found)), cell=220))
        print(target)
        return
    table = Table(Column("name", no_wrap=True), "artist", "title", "date", box=None, pad_edge=False, header_style="bold")
    for work in found:
        table.add_row(work.slug, work.artist, work.title, work.date)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(f"\n{len(found)} paintings, The Metropolitan Museum of Art, Open Access (CC0).")


@app.command(name="recipes")
def recipes_(name: str = "") -> None:
    """List the recipes, the house's own and those of published systems, or print one as TOML.

    :param name: A recipe's name, a recipe file, or a picture painted by Impasto.
    """
    if name:
        from impasto import api

        print(api.load_recipe(name, {}).to_toml(), end="")
        return
    from impasto.display import recipe_table

    recipe_table([recipes.load(each) for each in recipes.names()])


@app.command
def fetch(*, to: Path | None = None) -> None:
    """Fetch every network and the museum ahead of time.

    :param to: Into this folder; with IMPASTO_CACHE set to it, a machine without network can paint.
    """
    from impasto import assets
    from impasto.display import Display

    with Display(quiet=False) as display:
        paths = assets.fetch_all(progress=display.fetch, to=to)
    print(f"{len(paths)} files are in {paths[0].parent}")


@app.command
def licenses() -> None:
    """Say where every fetched file comes from and on what terms."""
    from impasto import assets

    for asset in assets.ASSETS.values():
        print(f"{asset.name}\n  terms:  {asset.licence}\n  origin: {asset.origin}")
        print(f"  from:   {asset.archive.project} {asset.archive.version} ({asset.archive.licence})\n")
    print("Impasto itself: MIT.")


@app.command
def doctor() -> None:
    """Say what is here, and the command that mends what is not."""
    from impasto import doctor as diagnosis

    findings = diagnosis.examine()
    for finding in findings:
        print(f"{'ok ' if finding.good else '-- '} {finding.subject:10} {finding.text}")
        if finding.remedy:
            print(f"               {finding.remedy}")


# -- talking -----------------------------------------------------------------------------------------------------------


def _complain(message: str, hint: str) -> None:
    print(f"impasto: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C once asks the run to stop after the step at hand and keep the picture; twice stops at once."""
    asked = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nStopping after this step; the picture so far is kept. Ctrl-C again stops at once.", file=sys.stderr)

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not the main thread, which alone may do so
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


app.command(sweep_command.made(_stopping, print), name="sweep", usage=sweep_command.USAGE)
app.command(explain_command.made(_stopping, print), name="explain", usage=explain_command.USAGE)
