"""Other programs that want the same processor cores, and keeping OpenMP's threads from wasting
them.

Torch's CPU builds on Linux run on GNU OpenMP, whose threads wait for each other by spinning. Where
another program holds a core, they spin while the thread that they wait for is not running:
measured, an evaluation takes 4 to 12 times as long, and the other program gets half of its time.
GNU OpenMP spins 300 times less while a process has more threads than there are cores
("GOMP_SPINCOUNT" in its manual). So while others are busy, this module holds some idle threads.
They change how threads wait and not what they compute: the bytes are the same.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from impasto.errors import BadRequest

_SHORTEST = 0.25  # seconds between two samples: the system counts in hundredths
# Cores that others use: from the first on threads must not spin, below the second they may.
_BUSY, _QUIET = 0.4, 0.15


@dataclass(frozen=True)
class Sample:
    """Seconds at one moment: of the clock, of this process's threads on a core, and of all programs
    on these cores.
    """

    clock: float
    own: float
    every: float

    def others(self, before: Sample) -> float:
        """How many cores other programs used since an earlier sample."""
        return max(0.0, (self.every - before.every) - (self.own - before.own)) / max(
            self.clock - before.clock, 1e-9
        )


def sample() -> Sample | None:
    """What the system says now; None where it does not."""
    try:
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        rows = [line.split() for line in Path("/proc/stat").read_text("ascii").splitlines()]
        # user, nice, system, idle, iowait, irq, softirq, steal: a host that gives the core to
        # another machine counts too.
        ticks = sum(sum(map(int, row[1:4] + row[6:9])) for row in rows if row and row[0] in cores)
        return Sample(time.monotonic(), time.process_time(), ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, AttributeError):  # not Linux, or a container that hides it
        return None


class GoodNeighbour:
    """Watches whether other programs are busy, and holds idle OpenMP threads for as long as they
    are.
    """

    def __init__(self) -> None:
        self._last = sample()
        self._idle: _IdleThreads | None = None

    @property
    def gives_way(self) -> bool:
        """Whether threads are kept from spinning now."""
        return self._idle is not None

    def check(self) -> None:
        """Look again; called between evaluations. Nothing happens where less than a quarter of a
        second has passed.
        """
        before, now = self._last, None
        if (
            before is None
            or time.monotonic() - before.clock < _SHORTEST
            or (now := sample()) is None
        ):
            return
        self._last = now
        others, spare = now.others(before), len(os.sched_getaffinity(0)) - torch.get_num_threads()
        if self._idle is None and others > spare + _BUSY and torch.get_num_threads() > 1:
            self._idle = _IdleThreads()
        elif self._idle is not None and others < spare + _QUIET:
            self.close()

    def close(self) -> None:
        """Let threads spin again."""
        if self._idle is not None:
            self._idle.end()
            self._idle = None


# "here": this process's threads have computed; "parent": those of the one it was forked from.
_painted: set[str] = set()


def check_process() -> None:
    """Refuse to compute in a process forked from one that had computed: it would wait for threads
    that are not there.

    Raises:
        BadRequest: it was.
    """
    if "parent" in _painted:
        raise BadRequest(
            "This process was forked from one that had painted already; torch's threads do not "
            "outlive that.",
            "Start processes by multiprocessing.get_context('spawn'), or fork before anything is "
            "painted.",
        )
    if "here" not in _painted and torch.get_num_threads() > 1:
        _painted.add("here")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _painted.add("parent"))


@contextmanager
def good_neighbour() -> Iterator[GoodNeighbour]:
    """A watch that is closed at the end."""
    neighbour = GoodNeighbour()
    try:
        yield neighbour
    finally:
        neighbour.close()


class _IdleThreads:
    """A team of OpenMP threads that does nothing: a thread of its own made it, and keeps it until
    ``end``.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True, name="impasto-idle")
        self._thread.start()

    def _hold(self) -> None:
        torch.ones(2**18).add_(1)  # large enough to be shared out among threads
        self._ended.wait()

    def end(self) -> None:
        self._ended.set()
        if not sys.is_finalizing():
            self._thread.join()
