"""What commands share at the terminal: Ctrl-C as a wish, complaints, and values as JSON."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


def complain(message: str, hint: str) -> None:
    """Say what went wrong, and what to do."""
    print(f"impasto: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def speak_any_name() -> None:
    """Let standard output and error take every text: a name that is not UTF-8 as its bytes, other
    letters as they can.
    """
    codecs.register_error("impasto", _name_or_question_mark)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (it was closed: nobody wants to hear it)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="impasto")


def _name_or_question_mark(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("replace")(error)


_LONGEST_START = 10.0  # seconds from the start of a program to its first line; more is no start


def time_of_start() -> float:
    """When the command was given, by ``time.monotonic()``: the start of the process where the
    system tells it, or now.
    """
    now = time.monotonic()
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # since the machine was started
        start = ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return start if 0 <= now - start < _LONGEST_START else now


def discard_output() -> None:
    """Send the rest of standard output nowhere, so that the interpreter does not fail on it as it
    ends.
    """
    with suppress(OSError, ValueError):  # ValueError: it is closed, or no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


class Stop:
    """Whether the user, or the system, has asked the work to stop; called for the answer."""

    def __init__(self) -> None:
        self._signal = 0

    def __call__(self) -> bool:
        return self._signal != 0

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take the first signal as a request; a second one stops at once."""
        if self._signal:
            raise KeyboardInterrupt
        self._signal = number
        with suppress(OSError):  # the terminal may be gone
            print(
                "\nStopping after this step; the picture so far is kept. Ctrl-C again stops "
                "at once.",
                file=sys.stderr,
            )

    def exit(self) -> None:
        """End the program as the signal would have: 130 for Ctrl-C, 143 for SIGTERM. Scripts stop
        there too.
        """
        sys.exit(128 + self._signal)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Ctrl-C or SIGTERM once asks the work to stop after the step at hand and keep the picture;
    twice stops at once.
    """
    stop = Stop()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop.on_signal)
    except ValueError:  # not the main thread, which alone may do so
        pass
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
