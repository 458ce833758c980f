"""Keep OpenMP threads from spinning while other programs use the processor cores.

PyTorch's CPU builds for Linux use GNU OpenMP. Its threads wait for each other by spinning. If the
machine is oversubscribed, they spin while the thread that they wait for is not running: an
evaluation takes 4 to 12 times as long, and the other program gets half of its time. GNU OpenMP
spins 300 times less while a process has more threads than there are cores (see GOMP_SPINCOUNT in
its manual). So while other programs are busy, this module holds some idle OpenMP threads. They
change how threads wait and not what they compute: the bytes are the same.
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
from torch.nn import functional

from impasto.errors import BadRequest
from impasto.hardware.threads import use_threads

_LEAST_SECONDS = 0.25  # between two samples: the system counts in hundredths of a second
# Cores used by other programs: above the first threads must not spin, below the second they may.
_BUSY_CORES, _QUIET_CORES = 0.4, 0.15
_TEST_SECONDS = 0.1  # for ``cores_are_busy``
_UNDISTURBED = 0.75  # share of the elapsed time that undisturbed threads run


@dataclass(frozen=True)
class CpuTimes:
    """Seconds at one moment: the clock, the run time of this process's threads, and of all
    programs on the cores that this process may use.
    """

    clock: float
    process: float
    total: float

    def other_cores(self, before: CpuTimes) -> float:
        """The mean number of cores that other programs used since an earlier sample."""
        others = (self.total - before.total) - (self.process - before.process)
        return max(0.0, others) / max(self.clock - before.clock, 1e-9)


def read_cpu_times() -> CpuTimes | None:
    """The times of now; None if the system does not say."""
    try:
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        rows = [line.split() for line in Path("/proc/stat").read_text("ascii").splitlines()]
        # user, nice, system, idle, iowait, irq, softirq, steal. Steal counts too: the host gave
        # the core to another machine.
        ticks = sum(sum(map(int, row[1:4] + row[6:9])) for row in rows if row and row[0] in cores)
        seconds = ticks / os.sysconf("SC_CLK_TCK")
        return CpuTimes(time.monotonic(), time.process_time(), seconds)
    except (OSError, ValueError, AttributeError):  # not Linux, or a container that hides it
        return None


class SpinGuard:
    """Holds idle OpenMP threads while other programs are busy; ``check`` finds out whether."""

    def __init__(self) -> None:
        self._last = read_cpu_times()
        self._idle: _IdleThreads | None = None

    @property
    def active(self) -> bool:
        """Whether threads are kept from spinning now."""
        return self._idle is not None

    def check(self) -> None:
        """Measure the load again; to be called between evaluations.

        Within a quarter of a second after the last measurement nothing happens.
        """
        before, now = self._last, None
        if (
            before is None
            or time.monotonic() - before.clock < _LEAST_SECONDS
            or (now := read_cpu_times()) is None
        ):
            return
        self._last = now
        others = now.other_cores(before)
        spare = len(os.sched_getaffinity(0)) - torch.get_num_threads()
        if self._idle is None and others > spare + _BUSY_CORES and torch.get_num_threads() > 1:
            self._idle = _IdleThreads()
        elif self._idle is not None and others < spare + _QUIET_CORES:
            self.close()

    def close(self) -> None:
        """Let threads spin again."""
        if self._idle is not None:
            self._idle.end()
            self._idle = None


@contextmanager
def limit_spinning() -> Iterator[SpinGuard]:
    """A spin guard that is closed at the end of the context."""
    guard = SpinGuard()
    try:
        yield guard
    finally:
        guard.close()


class _IdleThreads:
    """A team of OpenMP threads that does nothing. A thread of its own keeps it until ``end``."""

    def __init__(self) -> None:
        self._ended, self._threads = threading.Event(), torch.get_num_threads()
        self._thread = threading.Thread(target=self._hold, daemon=True, name="impasto-idle")
        self._thread.start()

    def _hold(self) -> None:
        with use_threads(self._threads):
            torch.ones(2**18).add_(1)  # large enough to be computed in parallel
        self._ended.wait()

    def end(self) -> None:
        self._ended.set()
        if not sys.is_finalizing():
            self._thread.join()


def cores_are_busy() -> bool:
    """Whether other programs keep the threads of a convolution from running; takes 0.1 s."""
    x, weight = torch.ones(1, 64, 64, 64), torch.ones(64, 64, 3, 3)
    functional.conv2d(x, weight)
    started, ran = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < _TEST_SECONDS:
        functional.conv2d(x, weight)
    available = torch.get_num_threads() * (time.perf_counter() - started)
    return time.process_time() - ran < _UNDISTURBED * available


# "here": this process's threads have computed; "parent": those of the process that forked it have.
_computed: set[str] = set()


def check_not_forked() -> None:
    """Refuse to compute in a process forked from one that has computed.

    OpenMP's threads do not exist in the forked process, which would wait for them forever.

    Raises:
        BadRequest: the parent has computed.
    """
    if "parent" in _computed:
        raise BadRequest(
            "This process was forked from one that had painted already; torch's threads do not "
            "survive that.",
            "Start processes by multiprocessing.get_context('spawn'), or fork before anything is "
            "painted.",
        )
    if "here" not in _computed and torch.get_num_threads() > 1:
        _computed.add("here")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: _computed.add("parent"))
