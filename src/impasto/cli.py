"""The command line: options made from the recipe's own fields, one line before the work, a bar during it, a path after it.

The only room that prints and exits. It knows words for people; it refuses to know how a picture is painted.
"""

from __future__ import annotations

import inspect
import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from impasto import __version__
from impasto import recipe as recipes
from impasto.errors import BadRequest, ImpastoError

if TYPE_CHECKING:
    from rich.progress import Progress

    from impasto.events import Event
    from impasto.request import Request

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
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _complain(str(error), "`impasto --help` lists the commands, `impasto COMMAND --help` their options.")
        sys.exit(2)
    except ImpastoError as error:
        _complain(error.message, error.hint)
        sys.exit(2 if isinstance(error, BadRequest) else 1)
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
    **settings: Any,
) -> None:
    from impasto import api

    chosen = api.load_recipe(recipe, {name: value for name, value in settings.items() if value is not None})
    target = output or Path(f"{Path(photo).stem}-{'-'.join(Path(each).stem for each in style)}"[:200] + ".png")
    folder = None if no_run else (run or None)
    _paint(photo, list(style), chosen, target, folder, keep_run=not no_run, as_json=json_, quiet=quiet)


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
) -> Path:
    """Check, say what will be done, paint, and say where it is."""
    from impasto import api, images, runs
    from impasto.request import request

    images.check_output(target, bits=recipe.output.bits)
    with _Display(quiet) as display, _stopping() as stop:
        watch = api.Watch(event=display.event, fetch=display.fetch, stop=stop)
        asked = request(photo, styles, recipe, watch.fetch)
        display.request = asked
        folder = (run or runs.beside(target.absolute())) if keep_run else None
        painting = api.paint(asked, output=target, run=folder, watch=watch)
    path = Path(painting.record["output"])
    if as_json:
        print(json.dumps(painting.record, ensure_ascii=False))
    else:
        print(path)
    return path


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
    shown = f" [default: {option.text}]" if option.text and not option.is_flag else ""
    parameter = Parameter(name=f"--{option.name}", help=f"{option.help}{shown}", show_default=False, group=_RECIPE)
    return Annotated[kind | None, parameter]


class Value(str):
    """A value as it was typed: the recipe checks it, with the same words for every door."""


app.command(_stylize_command(), name="stylize", usage="Usage: impasto stylize PHOTO STYLE [STYLE...] [OPTIONS]")


@app.command
def demo(
    *, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("impasto-demo.png"), json: bool = False
) -> None:
    """Paint a sample photo in the style of a Van Gogh, to see that everything works.

    Parameters
    ----------
    output: Where the picture goes.
    json: Print one JSON object at the end.
    """
    import skimage.data

    photo, recipe = skimage.data.astronaut(), recipes.load("demo")
    path = _paint(photo, [SAMPLE], recipe, output, None, keep_run=False, as_json=json, quiet=False)
    if not json:
        print(f"\nNow a photo of yours:\n  impasto stylize PHOTO.jpg {SAMPLE} -o painted.png")
        print(
            f"`impasto museum` lists other paintings; any picture file can be the style too.\nThe demo is in {path.name}."
        )


# -- looking around ----------------------------------------------------------------------------------------------------


@app.command
def museum(*words: str, sheet: Path | None = None) -> None:
    """List the public-domain paintings that can be named as a style.

    Parameters
    ----------
    words: Only those with all of these words in name, title, artist or date.
    sheet: Draw them into this picture file.
    """
    from rich.console import Console
    from rich.table import Column, Table

    from impasto import museum as gallery

    found = gallery.search(" ".join(words)) if words else list(gallery.all_paintings())
    if not found:
        gallery.find(" ".join(words))  # says so, with the nearest names
    if sheet is not None:
        from impasto import images

        target = images.check_output(sheet)
        with _Display(quiet=False) as display:
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
    """List the recipes, or print one as TOML.

    Parameters
    ----------
    name: A recipe's name, a recipe file, or a picture painted by Impasto.
    """
    if name:
        from impasto import api

        print(api.load_recipe(name, {}).to_toml(), end="")
        return
    for each in recipes.names():
        print(f"{each:10}{recipes.load(each).summary}")


@app.command
def fetch(*, to: Path | None = None) -> None:
    """Fetch every network and the museum ahead of time.

    Parameters
    ----------
    to: Into this folder; with IMPASTO_CACHE set to it, a machine without network can paint.
    """
    from impasto import assets

    with _Display(quiet=False) as display:
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


class _Display:
    """What a person sees on standard error: one line before the work, a bar during it, warnings as they come."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.request: Request | None = None
        self._bar: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._work = (0.0, 1.0)  # seconds expected for the stages done, and in all
        self._begun = 0.0

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def fetch(self, name: str, done: int, total: int) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        if self.quiet:
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
            self._bar.start()
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(f"fetching {name}", total=total)
        self._bar.update(self._tasks[name], completed=done, total=total)

    def event(self, event: Event) -> None:
        from impasto import events

        if self.quiet:
            return
        if isinstance(event, events.Warned):
            self.console.print(f"note: {event.message}", markup=False)
        elif isinstance(event, events.Planned):
            self._close()
            self.console.print(_sentence(event), markup=False)
            self._open(event)
        elif isinstance(event, events.Started):
            self._stage = f"{event.size}"
        elif isinstance(event, events.Stepped):
            self._advance(event)
        elif isinstance(event, events.Finished | events.Failed):
            self._close()

    def _open(self, planned: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._stages = planned.stages
        self._total = sum(size.pixels * steps for size, steps in planned.stages)
        self._expected = planned.seconds
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._tasks = {"paint": self._bar.add_task("painting", total=self._total, note="")}
        self._bar.start()
        self._begun = time.monotonic()

    def _advance(self, event: Any) -> None:
        if self._bar is None:
            return
        done = sum(size.pixels * steps for size, steps in self._stages[: event.stage])
        done += self._stages[event.stage][0].pixels * event.step
        left = _left(done / self._total, time.monotonic() - self._begun, self._expected)
        note = f"loss {event.loss:.4f}  {_duration(left)} left"
        self._bar.update(self._tasks["paint"], completed=done, description=f"painting {self._stage}", note=note)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._tasks = None, {}


def _left(share: float, elapsed: float, expected: float) -> float:
    """Seconds left: the plan's estimate at first, and more and more what this run has shown."""
    shown = elapsed / share * (1 - share)
    return share * shown + (1 - share) * max(0.0, expected - elapsed)


def _sentence(planned: Any) -> str:
    """The one line before the work."""
    stages = " > ".join(f"{size}:{steps}" for size, steps in planned.stages)
    needed, free = planned.memory_bytes / 2**30, planned.free_bytes / 2**30
    return (
        f"{planned.size} on {planned.device} [{planned.kernel}], stages {stages}, "
        f"about {_duration(planned.seconds)} and {needed:.1f} GiB of {free:.1f} GiB free"
    )


def _duration(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "1 h 05 min"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
