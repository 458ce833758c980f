"""Devices, the remembered kernel, free memory and disk, and the allocator."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from impasto.errors import UnknownName
from impasto.hardware import allocator, devices, kernel_cache, system_memory
from impasto.hardware.threads import use_threads
from impasto.networks.autotune import FastestKernels
from impasto.networks.convolution import KERNELS

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(0, 0, "cpu"), (1, 0, "cuda"), (0, 1, "mps"), (1, 1, "cuda")]
)
def test_auto_takes_the_first_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: int, mps: int, expected: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    where, reason = devices.choose_device("auto")
    assert where.type == expected and torch.__version__ in reason
    assert devices.choose_device("cpu")[0] == CPU


@pytest.mark.parametrize("choice", ["cuda", "mps"])
@pytest.mark.parametrize("build", [None, "12.8"])
def test_a_device_that_is_not_there_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, choice: str, build: str | None
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(UnknownName, match=choice) as found:
        devices.choose_device(choice)
    assert "--device" in found.value.hint
    assert ("without CUDA" in found.value.hint) == (choice == "cuda" and build is None)


def test_a_device_is_described_with_its_threads():
    assert f"{torch.get_num_threads()} threads" in devices.describe(CPU)


# ---- the kernel ----------------------------------------------------------------------------------


class Timing:
    """Replaces ``autotune.time_kernels``: counts its calls, and returns what a test sets."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str = "channels-last", **milliseconds: float
    ) -> None:
        self.calls, self.name, self.milliseconds = 0, name, milliseconds
        monkeypatch.setattr(kernel_cache, "time_kernels", self)
        monkeypatch.setattr(kernel_cache, "_unsaved", {})
        monkeypatch.setattr(kernel_cache, "cores_are_busy", lambda: False)

    def __call__(self, where: torch.device) -> FastestKernels:
        self.calls += 1
        methods = {(3, 64, 128): "packed", (64, 64, 8): "conv2d"}
        float32, half = (
            replace(KERNELS[name], methods=methods) for name in (self.name, "bfloat16")
        )
        return FastestKernels(float32, half, {self.name: 2.0, **self.milliseconds})


def test_the_kernel_is_timed_once_and_kept_with_all_its_methods(
    monkeypatch: pytest.MonkeyPatch, cache: Path
):
    timing = Timing(monkeypatch)
    first = kernel_cache.fastest_kernels(CPU)
    timing.name = "conv2d"  # what another timing would find does not count any more
    assert kernel_cache.fastest_kernels(CPU) == first
    assert (
        kernel_cache.fastest_kernel("float32", CPU) == first.float32
        and first.float32.methods[3, 64, 128] == "packed"
    )
    assert timing.calls == 1
    assert {path.name for path in cache.iterdir()} == {"kernel.json"}


def changed(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Make this another machine."""
    if what == "torch":
        monkeypatch.setattr(torch, "__version__", "1.0")
    elif what == "processor":
        monkeypatch.setattr(kernel_cache, "processor_name", lambda where: "abacus")
    elif what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    elif what == "instructions of torch":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    else:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")


@pytest.mark.parametrize(
    "what", ["torch", "processor", "threads", "instructions of torch", "instructions of oneDNN"]
)
def test_another_machine_is_timed_anew_and_both_are_kept(
    monkeypatch: pytest.MonkeyPatch, what: str
):
    timing = Timing(monkeypatch)
    assert kernel_cache.fastest_kernel("float32", CPU).name == "channels-last"
    timing.name = "conv2d"
    with monkeypatch.context() as patch:
        changed(patch, what)
        assert kernel_cache.fastest_kernel("float32", CPU).name == "conv2d"
    # Back again, it is still known.
    assert kernel_cache.fastest_kernel("float32", CPU).name == "channels-last"
    with monkeypatch.context() as patch:
        changed(patch, what)
        assert kernel_cache.fastest_kernel("float32", CPU).name == "conv2d"
    assert timing.calls == 2


ROW = {"float32": "conv2d", "bfloat16": "bfloat16", "milliseconds": {"conv2d": 1.0}}


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b"{",
            b"[]",
            b"null",
            b"3",
            b"\xff\xfe",
            b'{"mark": 3}',
            b'{"mark": {}, "kernel": "conv2d"}',
        ),
        *(
            json.dumps({"MARK": {**ROW, key: value}}).encode()
            for key in ROW
            for value in ("abacus", 3, None, [1])
        ),
        *(
            json.dumps({"MARK": {key: ROW[key] for key in ROW if key != gone}}).encode()
            for gone in ROW
        ),
        json.dumps({"MARK": {**ROW, "milliseconds": {}}}).encode(),
    ],
)
def test_a_broken_note_of_the_kernel_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, cache: Path, text: bytes
):
    timing = Timing(monkeypatch)
    cache.mkdir()
    (cache / "kernel.json").write_bytes(
        text.replace(b"MARK", kernel_cache.machine_key(CPU).encode())
    )
    for _ in range(2):
        assert kernel_cache.fastest_kernel("float32", CPU).name == "channels-last"
        assert kernel_cache.fastest_kernel("auto", CPU).name == "channels-last"
    assert timing.calls == 1


def test_a_broken_row_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch, cache: Path):
    timing = Timing(monkeypatch)
    kernel_cache.fastest_kernels(CPU)
    rows = json.loads((cache / "kernel.json").read_text())
    (cache / "kernel.json").write_text(
        json.dumps({"elsewhere": 3, **rows, "later": {"float32": "abacus"}})
    )
    kernel_cache.fastest_kernels(CPU)
    assert timing.calls == 1


def test_a_cache_that_cannot_be_written_costs_a_timing_of_each_process(
    monkeypatch: pytest.MonkeyPatch, cache: Path
):
    timing = Timing(monkeypatch)
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        assert kernel_cache.fastest_kernel("float32", CPU).name == "channels-last"
    assert timing.calls == 1 and cache.is_file()


def test_a_note_that_cannot_be_replaced_leaves_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch, cache: Path
):
    timing = Timing(monkeypatch)
    (cache / "kernel.json").mkdir(parents=True)
    for _ in range(2):
        assert kernel_cache.fastest_kernel("float32", CPU).name == "channels-last"
    assert timing.calls == 1
    assert {path.name for path in cache.iterdir()} == {"kernel.json"}


STARTED_AT_ONCE = """
import os, sys, time, torch
from dataclasses import replace
from pathlib import Path
from impasto.hardware import kernel_cache
from impasto.networks.convolution import KERNELS
from impasto.networks.autotune import FastestKernels

def choose(where):
    name = sys.argv[1]
    Path(os.environ["IMPASTO_CACHE"], "timed-" + name).touch()
    time.sleep(0.5)
    return FastestKernels(KERNELS[name], KERNELS["bfloat16"], {name: 1.0})

kernel_cache.time_kernels = choose
print(kernel_cache.fastest_kernel("float32", torch.device("cpu")).name)
"""


@pytest.mark.slow
def test_programs_that_start_at_once_end_with_one_choice(cache: Path):
    cache.mkdir()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", STARTED_AT_ONCE, name], stdout=subprocess.PIPE, text=True
        )
        for name in ("conv2d", "channels-last", "nnpack")
    ]
    found = {process.communicate(timeout=60)[0].strip() for process in started}
    assert len(found) == 1 and found < {"conv2d", "channels-last", "nnpack"}
    assert len(list(cache.glob("timed-*"))) == 1  # the others waited


@pytest.mark.parametrize("busy", [True, False])
def test_one_thread_is_timed_while_other_programs_use_the_cores(
    monkeypatch: pytest.MonkeyPatch, busy: bool
):
    threads: list[int] = []
    timing = Timing(monkeypatch)

    def time_kernels(device: torch.device) -> FastestKernels:
        threads.append(torch.get_num_threads())
        return timing(device)

    monkeypatch.setattr(kernel_cache, "time_kernels", time_kernels)
    monkeypatch.setattr(kernel_cache, "cores_are_busy", lambda: busy)
    with use_threads(2):
        kernel_cache.fastest_kernels(CPU)
        assert threads == [1 if busy else 2]
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("half", "taken"), [(1.0, "bfloat16"), (1.6, "channels-last")])
def test_bfloat16_is_taken_where_it_pays_or_is_asked_for_and_never_where_float32_is(
    monkeypatch: pytest.MonkeyPatch, half: float, taken: str
):
    Timing(monkeypatch, bfloat16=half)
    assert kernel_cache.fastest_kernel("bfloat16", CPU).name == "bfloat16"
    assert kernel_cache.fastest_kernel("bfloat16", CPU).methods[3, 64, 128] == "packed"
    assert kernel_cache.fastest_kernel("float32", CPU).name == "channels-last"
    assert kernel_cache.fastest_kernel("auto", CPU).name == taken


@pytest.mark.parametrize("supported", [True, False])
def test_a_graphics_processor_is_asked_whether_it_has_units_for_bfloat16(
    monkeypatch: pytest.MonkeyPatch, supported: bool
):
    timing = Timing(monkeypatch, bfloat16=1e-3)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "a card")
    there = torch.device("cuda")
    assert (
        kernel_cache.fastest_kernel("bfloat16", there) == KERNELS["bfloat16"] and timing.calls == 0
    )
    assert kernel_cache.fastest_kernel("auto", there).name == (
        "bfloat16" if supported else "channels-last"
    )
    assert timing.calls == (not supported)


# ---- memory and disk -----------------------------------------------------------------------------


def fake_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    def read_text(self: Path, *_: Any, **__: Any) -> str:
        if self.as_posix() not in files:
            raise FileNotFoundError(self)
        return files[self.as_posix()]

    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 9.216 GB, 4.096 GB of them available."""
    memory = SimpleNamespace(total=9_216_000_000, available=4_096_000_000, free=1_024_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


V2, V1 = "/sys/fs/cgroup/memory.", "/sys/fs/cgroup/memory/memory."


@pytest.mark.usefixtures("available")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 4_096_000_000),
        ({V2 + "max": "max\n", V2 + "current": "5\n"}, 4_096_000_000),
        ({V2 + "max": "1000000000\n", V2 + "current": "400000000\n"}, 600_000_000),
        ({V2 + "max": "9000000000000\n", V2 + "current": "400000000\n"}, 4_096_000_000),
        ({V2 + "max": "1000\n", V2 + "current": "2000\n"}, 0),
        ({V1 + "limit_in_bytes": "1000000000", V1 + "usage_in_bytes": "300000000"}, 700_000_000),
        (
            {V1 + "limit_in_bytes": "9223372036854771712", V1 + "usage_in_bytes": "300000000"},
            4_096_000_000,
        ),
        ({V2 + "max": "1000000000\n"}, 4_096_000_000),
    ],
)
def test_free_memory_is_the_least_of_the_machine_and_its_container(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], expected: int
):
    fake_files(monkeypatch, limits)
    assert system_memory.free_memory(CPU) == expected


STAT = {"/sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 300000000\nactive_file 7\n"}
STAT_V1 = {
    "/sys/fs/cgroup/memory/memory.stat": "cache 5\ninactive_file 9\ntotal_inactive_file 300000000\n"
}


@pytest.mark.usefixtures("available")
@pytest.mark.parametrize("stat", [STAT, STAT_V1], ids=["v2", "v1"])
def test_files_in_a_containers_cache_are_no_use_of_memory(
    monkeypatch: pytest.MonkeyPatch, stat: dict[str, str]
):
    limits = {V2 + "max": "1000000000", V2 + "current": "900000000"}
    if stat is STAT_V1:
        limits = {V1 + "limit_in_bytes": "1000000000", V1 + "usage_in_bytes": "900000000"}
    fake_files(monkeypatch, {**limits, **stat})
    assert system_memory.free_memory(CPU) == 400_000_000


@pytest.mark.usefixtures("available")
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 9_216_000_000),
        ({V2 + "max": "max"}, 9_216_000_000),
        ({V2 + "max": "1000000000"}, 1_000_000_000),
        ({V1 + "limit_in_bytes": "2000000000"}, 2_000_000_000),
        ({V1 + "limit_in_bytes": "9223372036854771712"}, 9_216_000_000),
    ],
)
def test_total_memory_is_the_least_of_the_machine_and_its_container(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], expected: int
):
    fake_files(monkeypatch, limits)
    assert system_memory.total_memory() == expected


@pytest.mark.usefixtures("available")
@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_free_memory_of_windows_and_macos_is_what_is_available(
    monkeypatch: pytest.MonkeyPatch, platform: str, device: str
):
    fake_files(monkeypatch, {})
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert system_memory.free_memory(torch.device(device)) == 4_096_000_000
    assert system_memory.total_memory() == 9_216_000_000


def test_where_a_container_hides_proc_all_physical_memory_counts_as_free(
    monkeypatch: pytest.MonkeyPatch,
):
    def hidden() -> Any:
        raise PermissionError("/proc/meminfo")

    fake_files(monkeypatch, {})
    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert system_memory.free_memory(CPU) == system_memory.total_memory() == 4_096_000


def test_peak_memory_of_windows_is_that_of_its_working_set(monkeypatch: pytest.MonkeyPatch):
    information = SimpleNamespace(rss=5_000, peak_wset=7_000)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: information))
    assert system_memory.peak_memory(CPU) == 7_000


def test_peak_memory_of_linux_is_its_own_and_not_that_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(sys, "platform", "linux")
    fake_files(monkeypatch, {"/proc/self/status": "VmPeak: 900 kB\nVmHWM:\t   300 kB\n"})
    assert system_memory.peak_memory(CPU) == 300 * 1024


@pytest.mark.parametrize(("platform", "unit"), [("darwin", 1), ("freebsd", 1024)])
def test_peak_memory_of_other_systems_is_that_of_getrusage(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
):
    resource = pytest.importorskip("resource")
    fake_files(monkeypatch, {})
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=4_000))
    assert system_memory.peak_memory(CPU) == 4_000 * unit


def test_free_disk_is_that_of_where_the_folder_would_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked: list[Path] = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        return SimpleNamespace(free=77)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert system_memory.free_disk(tmp_path / "a" / "b") == 77
    assert asked == [tmp_path]
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert system_memory.free_disk(tmp_path / "a" / "b") == 77
    assert asked[-1] == tmp_path / "a" / "b"


def test_where_nothing_can_be_written_no_disk_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").write_text("in the way")
    assert (
        system_memory.free_disk(tmp_path / "file" / "scratch")
        == system_memory.free_disk(tmp_path / "file")
        == 0
    )
    assert system_memory.free_disk(tmp_path) > 0
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert system_memory.free_disk(tmp_path) == 0


def test_a_disk_that_cannot_be_asked_is_not_counted_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def usage(folder: Path) -> Any:
        raise OSError("stale file handle")

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert system_memory.free_disk(tmp_path) == 0


def test_free_memory_here_is_a_sensible_number():
    assert 2**20 < system_memory.free_memory(CPU) <= system_memory.total_memory() < 2**50
    assert 10 * 2**20 < system_memory.peak_memory(CPU) < 2**45  # the units: bytes, not kilobytes


# ---- the allocator -------------------------------------------------------------------------------


class Libc:
    """Stands for the C library: keeps the last value of each option."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, option: int, value: int) -> int:
        self.options[option] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.trimmed += 1
        return 1


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Libc:
    found = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: found)
    monkeypatch.setattr(sys, "platform", "linux")
    return found


KEPT = {-1: -1, -2: 64 * 2**20, -4: 0}  # never trimmed, never mapped by itself
# The defaults of the C library's manual.
RETURNED = {-1: 128 * 1024, -2: 128 * 1024, -3: 128 * 1024, -4: 65_536}
USUAL = {**RETURNED, -1: 64 * 2**20, -3: 32 * 2**20}


def test_the_allocator_is_put_back_as_often_as_it_is_changed(libc: Libc):
    for time in (1, 2):
        with allocator.reused_memory():
            assert libc.options.items() >= KEPT.items()
        assert libc.options.items() >= USUAL.items() and libc.trimmed == time
    with pytest.raises(ZeroDivisionError), allocator.reused_memory():
        raise ZeroDivisionError
    assert libc.options.items() >= USUAL.items()


def test_what_keeps_memory_within_what_does_not_leaves_it_as_it_was(libc: Libc):
    with allocator.reused_memory(False):
        assert libc.options.items() >= RETURNED.items()
        with allocator.reused_memory():
            assert libc.options.items() >= KEPT.items()
        assert libc.options.items() >= RETURNED.items() and libc.trimmed == 1
    with allocator.reused_memory():
        trimmed = libc.trimmed
        with allocator.reused_memory():
            pass
        assert libc.options.items() >= KEPT.items() and libc.trimmed == trimmed
    assert libc.options.items() >= USUAL.items()


REUSED, MAPPED = KEPT.items(), RETURNED.items()


class Painter(threading.Thread):
    """A thread that opens a context and closes it when it is told to."""

    def __init__(self, reuse: bool) -> None:
        super().__init__(daemon=True)
        self._reuse, self._opened, self._closing = reuse, threading.Event(), threading.Event()
        self.start()
        assert self._opened.wait(10)

    def run(self) -> None:
        with allocator.reused_memory(self._reuse):
            self._opened.set()
            self._closing.wait(10)

    def close(self) -> None:
        self._closing.set()
        self.join(10)
        assert not self.is_alive()


@pytest.mark.parametrize("wishes", [(True, False), (False, True)])
def test_memory_is_kept_only_while_all_threads_want_that(libc: Libc, wishes: tuple[bool, bool]):
    painters = [Painter(wish) for wish in wishes]
    assert libc.options.items() >= MAPPED
    painters[wishes.index(False)].close()
    assert libc.options.items() >= REUSED
    painters[wishes.index(True)].close()
    assert libc.options.items() >= USUAL.items()


def test_contexts_of_one_thread_may_close_in_any_order(libc: Libc):
    """As those of two runs whose events are read in turn."""
    first, second = allocator.reused_memory(), allocator.reused_memory(False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert libc.options.items() >= MAPPED
    second.__exit__(None, None, None)
    assert libc.options.items() >= USUAL.items()


@pytest.mark.parametrize("wishes", [(True, False), (False, True), (True, True), (False, False)])
def test_a_thread_that_leaves_first_does_not_change_the_settings_of_the_other(
    libc: Libc, wishes: tuple[bool, bool]
):
    first, second = (Painter(wish) for wish in wishes)
    first.close()
    assert libc.options.items() >= (REUSED if wishes[1] else MAPPED)
    second.close()
    assert libc.options.items() >= USUAL.items()


def test_many_threads_leave_the_defaults(libc: Libc):
    def paint(seed: int) -> None:
        for turn in range(50):
            with allocator.reused_memory((seed + turn) % 2 == 0):
                pass

    threads = [threading.Thread(target=paint, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert libc.options.items() >= USUAL.items()


@pytest.mark.skipif(allocator._glibc() is None, reason="another C library")
def test_a_program_that_has_painted_allocates_as_before():
    """Blocks of a few megabytes are not mapped anew each time, as they would be at the thresholds
    of the manual.
    """

    def faults() -> int:
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])

    with allocator.reused_memory():
        torch.ones(1 << 20)
    torch.ones(1 << 20)
    before = faults()
    for _ in range(50):
        torch.ones(1 << 20)  # 4 MiB, 1024 pages
    assert faults() - before < 10_000


def test_memory_is_given_back_between_the_parts_of_the_work(libc: Libc):
    with allocator.reused_memory():
        kept = dict(libc.options)
        allocator.give_back_memory()
        assert libc.trimmed == 1 and libc.options == kept


def test_an_older_library_without_these_calls_is_let_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(sys, "platform", "linux")
    allocator.give_back_memory()
    with allocator.reused_memory():
        entered = True
    assert entered


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_without_that_library_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(sys, "platform", platform)
    allocator.give_back_memory()
    with allocator.reused_memory():
        entered = True
    assert entered


def test_the_real_allocator_can_be_changed_twice():
    for _ in range(2):
        with allocator.reused_memory():
            total = float(torch.ones(1 << 20).sum())
        assert total == 1 << 20
