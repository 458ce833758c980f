"""Threads do not spin while other programs hold the cores; processes that may not compute."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from impasto.hardware import contention
from impasto.hardware.contention import CpuTimes, SpinGuard, limit_spinning, read_cpu_times


def idle_threads() -> int:
    return sum(thread.name == "impasto-idle" for thread in threading.enumerate())


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Cores that others use from now on, of two that are here for two threads; half a second passes
    with each look.
    """
    busy, now, every = [0.0], [100.0], [50.0]

    def look() -> CpuTimes:
        now[0] += 0.5
        every[0] += 0.5 * (busy[0] + 1.5)  # this process uses one and a half
        return CpuTimes(now[0], (now[0] - 100) * 1.5, every[0])

    monkeypatch.setattr(contention, "read_cpu_times", look)
    monkeypatch.setattr(contention.time, "monotonic", lambda: now[0] + 0.5)
    monkeypatch.setattr(contention.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return busy


def test_threads_are_held_while_others_are_busy_and_let_go_when_they_are_not(others: list[float]):
    with limit_spinning() as guard:
        for busy, active in (
            (0.0, False),
            (0.3, False),
            (0.9, True),
            (0.3, True),
            (1.0, True),
            (0.1, False),
            (0.5, True),
        ):
            others[0] = busy
            guard.check()
            assert guard.active == active, busy
            assert idle_threads() == active
    assert idle_threads() == 0 and not guard.active


def test_cores_that_this_program_does_not_use_are_free_to_others(
    others: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        contention.os, "sched_getaffinity", lambda process: set(range(4)), raising=False
    )
    with limit_spinning() as guard:
        for busy, active in ((1.0, False), (2.3, False), (3.0, True), (2.0, False)):
            others[0] = busy
            guard.check()
            assert guard.active == active, busy


def test_one_thread_waits_for_nobody(others: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    others[0] = 2.0
    with limit_spinning() as guard:
        guard.check()
        assert not guard.active


def test_a_system_that_does_not_say_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contention, "read_cpu_times", lambda: None)
    guard = SpinGuard()
    guard.check()
    assert not guard.active


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_what_the_system_says_is_sensible():
    first = read_cpu_times()
    assert first is not None
    total = sum(range(2_000_000))  # some time of this process
    second = read_cpu_times()
    assert (
        total
        and second is not None
        and second.clock > first.clock
        and second.process > first.process
    )
    assert second.total >= first.total and 0 <= second.other_cores(first) <= 4 * (
        os.cpu_count() or 1
    )


def test_the_bytes_are_the_same_while_it_active():
    torch.set_num_threads(2)
    x = torch.rand(1, 8, 300, 300, generator=torch.Generator().manual_seed(0))
    free = torch.nn.functional.conv2d(x, torch.ones(8, 8, 3, 3)).sum(), (x @ x).sum()
    idle = contention._IdleThreads()
    try:
        held = torch.nn.functional.conv2d(x, torch.ones(8, 8, 3, 3)).sum(), (x @ x).sum()
    finally:
        idle.end()
    assert [float(one) for one in free] == [float(one) for one in held]


@pytest.mark.parametrize(("share", "busy"), [(0.5, True), (0.7, True), (0.9, False), (1.0, False)])
def test_threads_that_are_kept_from_the_cores_are_noticed(
    monkeypatch: pytest.MonkeyPatch, share: float, busy: bool
):
    now = 0.0

    def wall() -> float:
        nonlocal now
        now += 0.01
        return now

    clocks = SimpleNamespace(
        perf_counter=wall, process_time=lambda: now * share * torch.get_num_threads()
    )
    monkeypatch.setattr(contention, "time", clocks)
    assert contention.cores_are_busy() is busy


FORKED = """
import os, sys
import torch
torch.set_num_threads(int(sys.argv[1]))
from impasto.hardware import contention
from impasto.errors import BadRequest
contention.check_not_forked()
child = os.fork()
if child == 0:
    try:
        contention.check_not_forked()
    except BadRequest as error:
        print(error, flush=True)
        os._exit(3)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_process_forked_after_painting_is_refused_before_it_hangs():
    for threads, code in (("2", 3), ("1", 0)):
        found = subprocess.run(
            [sys.executable, "-c", FORKED, threads], capture_output=True, text=True, timeout=60
        )
        assert found.stdout.splitlines()[-1] == str(code), found.stderr
        assert ("spawn" in found.stdout) == (code == 3)
