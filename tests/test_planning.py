"""What it will cost: devices, the remembered kernel, the memory model, the machine's limits, and the allocator."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_api import POCKET, pocket_weights

from impasto import planning, schedule
from impasto import recipe as recipes
from impasto.errors import UnknownName
from impasto.geometry import Size
from impasto.networks import vgg
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(vgg.CONFIGURATIONS, "E", POCKET)
    return tmp_path / "cache"


# ---- devices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(0, 0, "cpu"), (1, 0, "cuda"), (0, 1, "mps"), (1, 1, "cuda")])
def test_auto_takes_the_first_device_that_is_there(monkeypatch: pytest.MonkeyPatch, cuda: int, mps: int, expected: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    where, reason = planning.device("auto")
    assert where.type == expected and torch.__version__ in reason
    assert planning.device("cpu")[0] == CPU


@pytest.mark.parametrize("choice", ["cuda", "mps"])
@pytest.mark.parametrize("build", [None, "12.8"])
def test_a_device_that_is_not_there_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, choice: str, build: str | None
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(UnknownName, match=choice) as found:
        planning.device(choice)
    assert "--device" in found.value.hint
    assert ("without CUDA" in found.value.hint) == (choice == "cuda" and build is None)


def test_a_device_is_described_with_its_threads():
    assert f"{torch.get_num_threads()} threads" in planning.describe(CPU)


# ---- the kernel ----------------------------------------------------------------------------------------------


class Timing:
    """Stands for ``fastest``: counts how often it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "channels-last") -> None:
        self.calls, self.name = 0, name
        monkeypatch.setattr(planning, "fastest", self)

    def __call__(self, where: torch.device) -> Any:
        self.calls += 1
        return KERNELS[self.name], {self.name: 1.0}


def test_the_kernel_is_timed_once_and_kept(monkeypatch: pytest.MonkeyPatch, cache: Path):
    timing = Timing(monkeypatch)
    assert planning.kernel("float32", CPU).name == "channels-last"
    timing.name = "conv2d"  # what another timing would find does not count any more
    assert planning.kernel("float32", CPU).name == "channels-last"
    assert timing.calls == 1
    assert [path.name for path in cache.iterdir()] == ["kernel.json"]


@pytest.mark.parametrize("changed", ["torch", "device", "threads"])
def test_another_machine_is_timed_anew(monkeypatch: pytest.MonkeyPatch, cache: Path, changed: str):
    timing = Timing(monkeypatch)
    planning.kernel("float32", CPU)
    kept = json.loads((cache / "kernel.json").read_text())
    kept["mark"][changed] = "another"
    (cache / "kernel.json").write_text(json.dumps(kept))
    timing.name = "conv2d"
    assert planning.kernel("float32", CPU).name == "conv2d"
    assert timing.calls == 2


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"mark": 3}', b"\xff\xfe", b'{"mark": {}, "kernel": "x"}'])
def test_a_broken_note_of_the_kernel_is_made_anew(monkeypatch: pytest.MonkeyPatch, cache: Path, text: bytes):
    timing = Timing(monkeypatch)
    cache.mkdir()
    (cache / "kernel.json").write_bytes(text)
    assert planning.kernel("float32", CPU).name == "channels-last"
    assert planning.kernel("float32", CPU).name == "channels-last"
    assert timing.calls == 1


def test_a_note_of_a_kernel_that_does_not_exist_is_made_anew(monkeypatch: pytest.MonkeyPatch, cache: Path):
    timing = Timing(monkeypatch)
    planning.kernel("float32", CPU)
    kept = json.loads((cache / "kernel.json").read_text())
    (cache / "kernel.json").write_text(json.dumps({**kept, "kernel": "abacus"}))
    assert planning.kernel("float32", CPU).name == "channels-last"
    assert timing.calls == 2


def test_a_cache_that_cannot_be_written_costs_a_timing_and_no_more(monkeypatch: pytest.MonkeyPatch, cache: Path):
    timing = Timing(monkeypatch)
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        assert planning.kernel("float32", CPU).name == "channels-last"
    assert timing.calls == 2 and cache.is_file()


def test_a_note_that_cannot_be_replaced_leaves_nothing_beside_it(monkeypatch: pytest.MonkeyPatch, cache: Path):
    Timing(monkeypatch)
    (cache / "kernel.json").mkdir(parents=True)
    assert planning.kernel("float32", CPU).name == "channels-last"
    assert [path.name for path in cache.iterdir()] == ["kernel.json"]


def test_bfloat16_is_taken_where_it_is_asked_for_and_never_where_float32_is(monkeypatch: pytest.MonkeyPatch):
    timing = Timing(monkeypatch)
    assert planning.kernel("bfloat16", CPU).name == "bfloat16"
    assert timing.calls == 0
    assert planning.kernel("float32", CPU).dtype == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert planning.kernel("auto", CPU).name == "bfloat16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert planning.kernel("auto", CPU).dtype == torch.float32
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # as in an older torch
    assert planning.kernel("auto", CPU).dtype == torch.float32


# ---- memory --------------------------------------------------------------------------------------------------


def network(**how: Any) -> Network:
    return Network(pocket_weights(), "E", {"relu1_1", "relu5_1"}, **how)


def memory(size: int = 256, net: Network | None = None, **settings: Any) -> int:
    recipe = recipes.with_settings(recipes.Recipe(), {"size": size, **settings})
    return planning.memory(schedule.plan(recipe, Size(300, 400)), recipe, net or network())


def test_memory_grows_with_the_pixels():
    program = memory(64) - (memory(128) - memory(64)) / 3  # 3 more of the smaller picture's pixels
    for size in (256, 512, 2048):
        assert memory(size) - program == pytest.approx((memory(64) - program) * (size / 64) ** 2, rel=1e-3)


def test_memory_grows_with_what_is_kept():
    assert memory(solver_history=100) - memory(solver_history=10) == 2 * 90 * 3 * 4 * 256 * 192
    assert memory(solver="adam") < memory()
    assert memory(net=network(kernel=KERNELS["bfloat16"])) < memory()
    assert memory(net=network(pooling="average")) < memory(net=network(pooling="max"))
    assert memory(iterations=500) == memory(iterations=5)


def test_tiles_are_taken_where_the_whole_does_not_fit():
    recipe = recipes.with_settings(recipes.Recipe(), {"size": 4000})
    plan, net = schedule.plan(recipe, Size(300, 400)), network()
    whole = planning.memory(plan, recipe, net)
    assert planning.tile(plan, recipe, net, int(whole / 0.79)) == 0
    chosen = planning.tile(plan, recipe, net, int(whole * 0.9))
    assert 0 < chosen < 4000
    assert planning.memory(plan, recipe, net, chosen) <= 0.8 * 0.9 * whole
    assert planning.memory(plan, recipe, net, 256) < planning.memory(plan, recipe, net, 1024) < whole
    assert planning.tile(plan, recipe, net, 0) == 256  # nothing fits: the smallest, and a warning before it starts
    mine = recipes.with_settings(recipe, {"tile": 700})
    assert planning.tile(plan, mine, net, 2**60) == 700


def fake_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    def read_text(self: Path, *_: Any, **__: Any) -> str:
        if self.as_posix() not in files:
            raise FileNotFoundError(self)
        return files[self.as_posix()]

    monkeypatch.setattr(Path, "read_text", read_text)


MEMINFO = {"/proc/meminfo": "MemTotal: 9000000 kB\nMemFree: 1000 kB\nMemAvailable: 4000000 kB\n"}
V2, V1 = "/sys/fs/cgroup/memory.", "/sys/fs/cgroup/memory/memory."


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 4_096_000_000),
        ({V2 + "max": "max\n", V2 + "current": "5\n"}, 4_096_000_000),
        ({V2 + "max": "1000000000\n", V2 + "current": "400000000\n"}, 600_000_000),
        ({V2 + "max": "9000000000000\n", V2 + "current": "400000000\n"}, 4_096_000_000),
        ({V2 + "max": "1000\n", V2 + "current": "2000\n"}, 0),
        ({V1 + "limit_in_bytes": "1000000000", V1 + "usage_in_bytes": "300000000"}, 700_000_000),
        ({V1 + "limit_in_bytes": "9223372036854771712", V1 + "usage_in_bytes": "300000000"}, 4_096_000_000),
        ({V2 + "max": "1000000000\n"}, 4_096_000_000),
    ],
)
def test_free_memory_is_the_least_of_the_machine_and_its_container(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], expected: int
):
    fake_files(monkeypatch, {**MEMINFO, **limits})
    assert planning.free_memory(CPU) == expected


def test_free_memory_here_is_a_sensible_number():
    assert 2**20 < planning.free_memory(CPU) <= 2**63 - 1
    assert 10 * 2**20 < planning.peak_memory(CPU) < 2**45  # the units: bytes, not kilobytes


# ---- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "iterations"), [(512, (60, 30, 8)), (2048, (10, 10)), (128, (7,)), (64, (7,))])
def test_time_is_the_line_through_two_timings(monkeypatch: pytest.MonkeyPatch, size: int, iterations: tuple[int, ...]):
    """On a machine whose time is known, and much too long on the first call, the estimate is exact."""
    now, calls = [0.0], [0]
    monkeypatch.setattr(planning, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(planning, "free_memory", lambda where: 77)

    def setup(pixels: int) -> float:
        return 0.5 + 3e-6 * pixels

    def step(pixels: int) -> float:
        return 0.01 + 1e-6 * pixels

    def prepare(at: Size) -> Any:
        now[0] += setup(at.pixels)
        calls[0] = 0

        def evaluate() -> None:
            calls[0] += 1
            now[0] += step(at.pixels) + (5.0 if calls[0] == 1 else 0.0)

        return evaluate

    recipe = recipes.with_settings(recipes.Recipe(), {"size": size, "iterations": iterations})
    plan = schedule.plan(recipe, Size(400, 400))
    expected = sum(setup(stage.size.pixels) + step(stage.size.pixels) * stage.steps for stage in plan.stages)
    expected += setup(plan.size.pixels) + step(plan.size.pixels)
    found = planning.cost(plan, recipe, network(), CPU, prepare)
    # At one small size there are no two timings; then all of it is taken to grow with the pixels.
    assert found.seconds == pytest.approx(expected, rel=1e-6)
    assert found.memory_bytes == planning.memory(plan, recipe, network()) and found.free_bytes == 77


# ---- the allocator -------------------------------------------------------------------------------------------


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


DEFAULTS = {-1: 128 * 1024, -2: 128 * 1024, -3: 128 * 1024, -4: 65_536}  # of the C library's manual


def test_the_allocator_is_put_back_as_often_as_it_is_changed(monkeypatch: pytest.MonkeyPatch):
    libc = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(planning.sys, "platform", "linux")
    for time in (1, 2):
        with planning.reused_memory():
            assert libc.options[-4] == 0 and libc.options[-1] == 2**31 - 1
        assert {**DEFAULTS, **libc.options} == DEFAULTS and libc.trimmed == time
    with pytest.raises(ZeroDivisionError), planning.reused_memory():
        raise ZeroDivisionError
    assert {**DEFAULTS, **libc.options} == DEFAULTS


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_without_that_library_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(planning.sys, "platform", platform)
    with planning.reused_memory():
        entered = True
    assert entered


def test_the_real_allocator_can_be_changed_twice():
    for _ in range(2):
        with planning.reused_memory():
            total = float(torch.ones(1 << 20).sum())
        assert total == 1 << 20
