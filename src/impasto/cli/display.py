"""What a person sees on standard error while the work goes on: one line before it, a bar during it,
notes as they come.

It knows events and words; it refuses to know options and exit codes.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from impasto import events
from impasto.errors import ImpastoError
from impasto.recipe.values import bytes_text

if TYPE_CHECKING:
    from impasto.recipe.records import Recipe

_MOMENT = 0.5  # seconds after which a person should see that something is going on
_LINE_SECONDS = 20.0  # between two lines of progress where there is no terminal to draw a bar on


class Display:
    """What a person sees on standard error: one line before the work, a bar during it, warnings as
    they come.
    """

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.heading = ""  # the line before the work, where it is not what the plan says
        self._bar: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._work = (0.0, 1.0)  # seconds expected for the stages done, and in all
        self._begun = self._told = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def fetch(self, name: str, done: int, total: int) -> None:
        if self.quiet:
            return
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
            )
            self._bar = Progress(
                *columns, console=self.console, disable=not self.console.is_terminal
            )
            self._bar.start()
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(f"fetching {name}", total=total)
        self._bar.update(self._tasks[name], completed=done, total=total)

    @contextmanager
    def if_slow(self, line: str) -> Iterator[None]:
        """Say the line if what is done within takes longer than a moment."""
        timer = threading.Timer(_MOMENT, self.say, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def say(self, line: str) -> None:
        if not self.quiet:
            self._close()
            self.console.print(line, markup=False)

    def event(self, event: events.Event) -> None:
        if self.quiet:
            return
        if isinstance(event, events.Downloading):
            self.fetch(event.name, event.bytes_done, event.bytes_total)
        elif isinstance(event, events.Warned):
            self.console.print(f"note: {event.message}", markup=False)
        elif isinstance(event, events.Planned):
            self._close()
            self.console.print(self.heading or _sentence(event), markup=False)
            self._open(event)
        elif isinstance(event, events.Started):
            self._stage = f"{event.name or 'painting'} {event.size}"
        elif isinstance(event, events.Stepped):
            self._advance(event)
        elif isinstance(event, events.Finished | events.Failed):
            self._close()

    def with_start(self, line: str) -> Callable[[events.Event], None]:
        """``event``, with a line said before the network is loaded, which takes seconds."""

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.InputsChecked):
                self.say(line)
            else:
                self.event(event)

        return on_event

    def _open(self, planned: Any) -> None:
        self._stages = planned.stages
        self._total = sum(size.pixels * steps for size, steps in planned.stages)
        self._expected = planned.seconds
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        )
        self._tasks = {"paint": self._bar.add_task("painting", total=self._total, note="")}
        self._bar.start()
        self._begun = self._told = time.monotonic()

    def _advance(self, event: Any) -> None:
        if self._bar is None:
            return
        done = sum(size.pixels * steps for size, steps in self._stages[: event.stage])
        done += self._stages[event.stage][0].pixels * event.step
        left = _left(done / self._total, time.monotonic() - self._begun, self._expected)
        note = f"loss {event.loss:.4f}  {duration(left)} left"
        self._bar.update(self._tasks["paint"], completed=done, description=self._stage, note=note)
        if not self.console.is_terminal and time.monotonic() - self._told > _LINE_SECONDS:
            self._told = time.monotonic()
            self.console.print(
                f"{self._stage}: {done / self._total:.0%} done, {note}", markup=False
            )

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
    runs = [(stage, len(list(same))) for stage, same in itertools.groupby(planned.stages)]
    stages = " > ".join(
        f"{f'{count} times ' * (count > 1)}{size}:{steps}" for (size, steps), count in runs
    )
    needed, free = bytes_text(planned.memory_bytes), bytes_text(planned.free_bytes)
    tiles = f" in tiles of {planned.tile} px" if planned.tile else ""
    disk = f" and {bytes_text(planned.disk_bytes)} of disk" if planned.disk_bytes else ""
    return (
        f"{planned.size}{tiles} on {planned.device} [{planned.kernel}], stages {stages}, "
        f"about {duration(planned.seconds)} and {needed} of {free} free{disk}"
    )


def plan_table(sizes: Sequence[int], found: Sequence[events.Planned | ImpastoError]) -> None:
    """What each size would take, as a table on standard output."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    right = {"justify": "right", "no_wrap": True}
    columns = [Column(name, **right) for name in ("size", "megapixels", "time", "memory", "disk")]  # type: ignore[arg-type]
    table = Table(*columns, "how", box=None, pad_edge=False, header_style="bold")
    first = next((one for one in found if isinstance(one, events.Planned)), None)
    for side, one in zip(sizes, found, strict=True):
        if not isinstance(one, events.Planned):
            table.add_row(f"{side or 'own'}", "", "", "", "", str(one))
            continue
        stages = " > ".join(f"{size.long_side}:{steps}" for size, steps in one.stages)
        how = f"in tiles of {one.tile} px" if one.tile else "whole"
        fits = "" if one.memory_bytes <= one.free_bytes else ", more than is free"
        disk = bytes_text(one.disk_bytes) if one.disk_bytes else "-"
        memory = bytes_text(one.memory_bytes)
        mega = f"{one.size.pixels / 1e6:.2f}"
        table.add_row(
            str(one.size),
            mega,
            duration(one.seconds),
            memory,
            disk,
            f"{how}{fits}; stages {stages}",
        )
    console.print(table)
    if first is not None:
        free = bytes_text(first.free_bytes)
        console.print(f"\nOn {first.device} [{first.kernel}], {free} of memory free.", markup=False)


RECIPE_COLUMNS = ("name", "network", "content", "style", "solver", "size: evaluations", "source")


def recipe_row(recipe: Recipe) -> tuple[str, ...]:
    """What a recipe compares, searches with and paints, in a few words for each of
    ``RECIPE_COLUMNS``.
    """
    network, solver, counts = recipe.network, recipe.solver, recipe.schedule.iterations
    pooling = " average" if network.pooling == "average" else ""
    size = {"long": f"{recipe.size}", "short": f"short {recipe.size}"}.get(
        recipe.side, f"{recipe.size} {recipe.side}"
    )
    return (
        recipe.name,
        f"{network.name}{pooling}",
        " ".join(recipe.content.layers),
        f"{' '.join(recipe.style.statistics)}, {len(recipe.style.layers)} layers",
        solver.name if solver.name == "lbfgs" else f"{solver.name} {solver.rate:.2g}",
        f"{size if recipe.size else 'own'}: {' '.join(map(str, counts))}",
        recipe.source,
    )


def recipe_table(recipes: Sequence[Recipe]) -> None:
    """The recipes on standard output: the house's with what they are for, the published systems'
    with what they do.
    """
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    house = Table(
        Column("name", no_wrap=True),
        "what it is for",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    first, *others = RECIPE_COLUMNS
    published = Table(
        Column(first, no_wrap=True), *others, box=None, pad_edge=False, header_style="bold"
    )
    for recipe in recipes:
        if recipe.source:
            published.add_row(*recipe_row(recipe))
        else:
            house.add_row(recipe.name, recipe.summary)
    console.print(house)
    console.print(
        "\nPublished systems; `impasto recipes NAME` prints one, docs/recipes.md says what was "
        "kept and what was mended.\n"
    )
    console.print(published)


def duration(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "1 h 05 min"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
