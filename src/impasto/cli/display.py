"""Progress on standard error: one line before the work, a bar during it, warnings as they come."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from impasto import events
from impasto.geometry import Size
from impasto.recipe.values import bytes_text

_SLOW_SECONDS = 0.5  # work that takes longer is announced
_LINE_SECONDS = 20.0  # between two lines of progress where there is no terminal for a bar


class Display:
    """The progress of a command on standard error; nothing of it if ``quiet``.

    ``heading``, where it is not empty, replaces the line with the plan before the work.
    """

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.heading = ""
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stages: tuple[tuple[Size, int], ...] = ()
        self._stage = ""  # the name and the size of the current stage
        self._expected_seconds = 0.0
        self._started = self._last_line = 0.0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def fetch(self, name: str, done: int, total: int) -> None:
        """Show the progress of a download, in bytes."""
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
        """Print the line if the work within takes longer than half a second."""
        timer = threading.Timer(_SLOW_SECONDS, self.say, (line,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def say(self, line: str) -> None:
        """Print a line."""
        if not self.quiet:
            self._close()
            self.console.print(line, markup=False)

    def event(self, event: events.Event) -> None:
        """Show what an event of a run means for the progress."""
        if self.quiet:
            return
        if isinstance(event, events.Downloading):
            self.fetch(event.name, event.bytes_done, event.bytes_total)
        elif isinstance(event, events.Warned):
            self.console.print(f"note: {event.message}", markup=False)
        elif isinstance(event, events.Planned):
            self._close()
            self.console.print(self.heading or plan_sentence(event), markup=False)
            self._open(event)
        elif isinstance(event, events.Started):
            self._stage = f"{event.name or 'painting'} {event.size}"
        elif isinstance(event, events.Stepped):
            self._advance(event)
        elif isinstance(event, events.Finished | events.Failed):
            self._close()

    def with_start(self, line: str) -> Callable[[events.Event], None]:
        """Return ``event`` with a line printed before the slow loading of the network."""

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.InputsChecked):
                self.say(line)
            else:
                self.event(event)

        return on_event

    def _open(self, planned: events.Planned) -> None:
        """Start the bar of a run."""
        self._stages = planned.stages
        self._expected_seconds = planned.seconds
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        )
        total = _pixel_steps(self._stages)
        self._tasks = {"paint": self._bar.add_task("painting", total=total, note="")}
        self._bar.start()
        self._started = self._last_line = time.monotonic()

    def _advance(self, event: events.Stepped) -> None:
        """Move the bar; where there is no terminal, print a line from time to time."""
        if self._bar is None:
            return
        current_size = self._stages[event.stage][0]
        done = _pixel_steps(self._stages[: event.stage]) + current_size.pixels * event.step
        share = done / _pixel_steps(self._stages)
        left = _seconds_left(share, time.monotonic() - self._started, self._expected_seconds)
        note = f"loss {event.loss:.4f}  {duration_text(left)} left"
        self._bar.update(self._tasks["paint"], completed=done, description=self._stage, note=note)
        if not self.console.is_terminal and time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            self.console.print(f"{self._stage}: {share:.0%} done, {note}", markup=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._tasks = None, {}


def _pixel_steps(stages: tuple[tuple[Size, int], ...]) -> int:
    """Return the sum of pixels times steps, which the time is proportional to."""
    return sum(size.pixels * steps for size, steps in stages)


def _seconds_left(share: float, elapsed: float, expected: float) -> float:
    """Return the seconds left: the plan's estimate at first, later what this run's speed gives."""
    by_speed = elapsed / share * (1 - share)
    return share * by_speed + (1 - share) * max(0.0, expected - elapsed)


def plan_sentence(planned: events.Planned) -> str:
    """Return the line before the work: size, device, stages, time and memory."""
    runs = [(stage, len(list(same))) for stage, same in itertools.groupby(planned.stages)]
    stages = " > ".join(
        f"{f'{count} times ' * (count > 1)}{size}:{steps}" for (size, steps), count in runs
    )
    needed, free = bytes_text(planned.memory_bytes), bytes_text(planned.free_bytes)
    tiles = f" in tiles of {planned.tile} px" if planned.tile else ""
    disk = f" and {bytes_text(planned.disk_bytes)} of disk" if planned.disk_bytes else ""
    return (
        f"{planned.size}{tiles} on {planned.device} [{planned.kernel}], stages {stages}, "
        f"about {duration_text(planned.seconds)} and {needed} of {free} free{disk}"
    )


def duration_text(seconds: float) -> str:
    """Return a duration as "45 s", "3 min 20 s" or "1 h 05 min"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
