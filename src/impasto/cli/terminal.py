"""What commands share at the terminal: Ctrl-C as a wish, complaints, and values as JSON."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def complain(message: str, hint: str) -> None:
    """Say what went wrong, and what to do."""
    print(f"impasto: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def in_json(values: object) -> str:
    """Plain values as one line."""
    return json.dumps(values, ensure_ascii=False)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
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
