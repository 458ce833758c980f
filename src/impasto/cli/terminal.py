"""What commands share at the terminal: error messages, any file name, Ctrl-C and SIGTERM."""

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


def print_error(message: str, hint: str = "") -> None:
    """Print what went wrong and what to do about it, on standard error."""
    print(f"impasto: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def set_up_streams() -> None:
    """Make standard output and error accept every text.

    Bytes of a file name that are not UTF-8 are written as they are, and letters that the encoding
    lacks as question marks. A closed stream is replaced by one that discards its text.
    """
    codecs.register_error("impasto", _name_or_question_mark)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (open until the program ends)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="impasto")


def _name_or_question_mark(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("replace")(error)


_LONGEST_START = 10.0  # seconds from the start of a process to its main function; more is wrong


def time_of_start() -> float:
    """Return when the process started, by ``time.monotonic()``; now where the system hides it."""
    now = time.monotonic()
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # since the machine was started
        start = ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return start if 0 <= now - start < _LONGEST_START else now


def discard_output() -> None:
    """Redirect the rest of standard output to nowhere.

    Otherwise the interpreter fails on it once more as it ends.
    """
    with suppress(OSError, ValueError):  # ValueError: it is closed, or not a file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


class Stop:
    """Whether a signal has asked the work to stop; call it for the answer."""

    def __init__(self) -> None:
        self._signal = 0

    def __call__(self) -> bool:
        return self._signal != 0

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take the first signal as a request to stop; a second one interrupts at once."""
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
        """Exit with the signal's code, 130 for Ctrl-C and 143 for SIGTERM, so that scripts stop
        too.
        """
        sys.exit(128 + self._signal)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Turn Ctrl-C and SIGTERM into a request to stop after the current step, with the picture kept.

    A second signal interrupts at once.
    """
    stop = Stop()
    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, stop.on_signal)
    except ValueError:  # only the main thread may change signal handlers
        pass
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
