"""What waits comes back as it was: from memory, from disk, from a safetensors file; and nothing is
left behind.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import Tensor

from impasto.storage import tensors as scratch
from impasto.storage.tensors import (
    DiskStore,
    InMemoryTensor,
    MemoryStore,
    StoredTensor,
    TensorStore,
    open_safetensors,
    safetensors_parts,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8]


def raw(tensor: Tensor) -> bytes:
    return (
        tensor.new_empty(tensor.numel())
        .copy_(tensor.reshape(-1))
        .view(torch.uint8)
        .numpy()
        .tobytes()
    )


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits, NaNs among them, of any type and shape, in any layout."""
    shape = draw(
        st.lists(st.integers(0, 5), max_size=4) | st.tuples(st.just(1), *[st.integers(1, 6)] * 3)
    )
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    count = torch.Size(shape).numel() * dtype.itemsize
    made = (
        torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
        .view(dtype)
        .view(torch.Size(shape))
    )
    layouts: dict[str, Callable[[], Tensor]] = {"plain": lambda: made}
    if len(shape) == 4:
        layouts["channels last"] = lambda: made.contiguous(memory_format=torch.channels_last)
    if shape:
        layouts["turned"] = lambda: made.transpose(0, -1)
        layouts["a part"] = lambda: made[..., : shape[-1] // 2]
        layouts["spread"] = lambda: made[..., ::2]
    return layouts[draw(st.sampled_from(sorted(layouts)))]()


# ---- in memory and on disk -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MemoryStore, DiskStore])
@settings(max_examples=150)
@given(st.lists(tensors(), min_size=1, max_size=4))
def test_tensors_come_back_as_they_went(
    kind: type, tmp_path_factory: pytest.TempPathFactory, given: list[Tensor]
):
    place: TensorStore = (
        MemoryStore() if kind is MemoryStore else DiskStore(tmp_path_factory.getbasetemp())
    )
    kept = [place.store(tensor) for tensor in given]
    for tensor, record in reversed(list(zip(given, kept, strict=True))):
        assert (record.shape, record.dtype) == (tensor.shape, tensor.dtype)
        for _ in range(2):
            found = record.load()
            assert (found.shape, found.dtype) == (tensor.shape, tensor.dtype)
            assert raw(found) == raw(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_layout_of_a_map_comes_back(
    dtype: torch.dtype, form: torch.memory_format, tmp_path: Path
):
    """Sums over a map in another layout are taken in another order, and would not give the same
    bytes.
    """
    map_ = torch.rand(1, 6, 5, 7).to(dtype).contiguous(memory_format=form)
    record = DiskStore(tmp_path).store(map_)
    assert not isinstance(record, InMemoryTensor) and record.shape == map_.shape
    found = record.load()
    assert found.stride() == map_.stride()
    assert torch.equal(found, map_)


def test_a_tensor_with_a_graph_leaves_it_behind(tmp_path: Path):
    leaf = torch.rand(3, 4, requires_grad=True)
    found = DiskStore(tmp_path).store(leaf * 2).load()
    assert not found.requires_grad and torch.equal(found, (leaf * 2).detach())


def test_a_record_outlives_whoever_made_its_place(tmp_path: Path):
    place = DiskStore(tmp_path / "new" / "folder")
    tensor = torch.rand(50)
    record = place.store(tensor)
    del place
    gc.collect()
    assert torch.equal(record.load(), tensor)


class Watched(io.FileIO):
    """A file that takes few bytes at a time, and no more than ``room`` in all; then the disk is
    full.
    """

    room, chunk = 2**40, 2**40

    def write(self, data: Any) -> int:
        part = memoryview(data)[: min(self.chunk, max(0, self.room - self.tell()))]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(part)


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watched:
    """The file of the next ``DiskStore``."""
    opened = Watched(tmp_path / "watched", "x+")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: opened)
    return opened


def test_a_file_that_takes_a_few_bytes_at_a_time_gets_them_all(file: Watched, tmp_path: Path):
    file.chunk = 7
    tensor = torch.rand(31)
    assert torch.equal(DiskStore(tmp_path).store(tensor).load(), tensor)


def test_the_place_of_what_is_dropped_is_used_again(file: Watched, tmp_path: Path):
    place = DiskStore(tmp_path)
    records = [place.store(torch.full((100,), float(index))) for index in range(4)]
    assert os.fstat(file.fileno()).st_size == 4 * 400
    for index in range(4, 40):
        del records[0]
        records.append(place.store(torch.full((100,), float(index))))
    assert os.fstat(file.fileno()).st_size == 4 * 400
    assert [record.load().unique().tolist() for record in records] == [[36], [37], [38], [39]]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "drop", "share"]),
            st.integers(0, 99),
            st.sampled_from([8, 24, 64]),
        )
    )
)
def test_what_is_not_dropped_is_never_written_over(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, int]]
):
    place = DiskStore(tmp_path_factory.getbasetemp())
    alive: list[tuple[StoredTensor, Tensor]] = []
    for count, (action, choice, length) in enumerate(actions):
        if action == "keep":
            tensor = torch.full((length,), count, dtype=torch.int64)
            alive.append((place.store(tensor), tensor))
        elif alive and action == "drop":
            del alive[choice % len(alive)]
        elif alive:
            # A second owner: the place is given up by the last.
            alive.append(alive[choice % len(alive)])
        assert all(torch.equal(record.load(), tensor) for record, tensor in alive)


def test_what_a_full_disk_has_no_room_for_stays_in_memory(file: Watched, tmp_path: Path):
    file.room = 1000
    place = DiskStore(tmp_path)
    given = [torch.rand(60) + index for index in range(6)]  # 240 bytes each
    records = [place.store(tensor) for tensor in given]
    assert [isinstance(record, InMemoryTensor) for record in records] == [False] * 4 + [True] * 2
    assert all(
        torch.equal(record.load(), tensor) for record, tensor in zip(records, given, strict=True)
    )
    assert records[4].load() is given[4]
    smaller = torch.rand(5)
    assert torch.equal(place.store(smaller).load(), smaller)  # over what was half written
    assert all(
        torch.equal(record.load(), tensor) for record, tensor in zip(records, given, strict=True)
    )


def test_a_disk_with_room_again_is_used_again(file: Watched, tmp_path: Path):
    """Also the place of what was dropped, where writing to it failed in between."""
    place = DiskStore(tmp_path)
    records = [place.store(torch.rand(60)) for _ in range(2)]
    del records[0]
    file.room = 0
    assert isinstance(place.store(torch.rand(60)), InMemoryTensor)
    file.room = 2**40
    tensor = torch.rand(60)
    records.append(place.store(tensor))
    assert not isinstance(records[-1], InMemoryTensor) and torch.equal(records[-1].load(), tensor)
    assert os.fstat(file.fileno()).st_size == 2 * 240


# ---- nothing left --------------------------------------------------------------------------------


def test_nothing_is_left_in_the_folder(tmp_path: Path):
    place = DiskStore(tmp_path / "scratch")
    record = place.store(torch.rand(1000))
    assert len(record.load()) == 1000
    del place, record
    gc.collect()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_nothing_is_left_by_a_program_that_is_killed(tmp_path: Path):
    program = (
        "import os, signal, sys, torch\nfrom pathlib import Path\nfrom impasto.storage.tensors "
        "import OnDisk\n"
        "record = OnDisk(Path(sys.argv[1])).store(torch.rand(1000))\nassert len(record.load()) "
        "== 1000\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "scratch")], timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "scratch").iterdir()) == []


# ---- safetensors ---------------------------------------------------------------------------------


def write(path: Path, given: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.write_bytes(
        b"".join(
            bytes(part)
            for part in safetensors_parts(
                {n: InMemoryTensor(t) for n, t in given.items()}, metadata
            )
        )
    )


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=6).filter(lambda name: name != "__metadata__"),
        tensors(),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=2),
)
def test_a_written_file_is_read_by_the_library_and_by_us(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, Tensor], metadata: dict[str, str]
):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    write(path, given, metadata)
    theirs = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as opened:
        assert (opened.metadata() or {}) == metadata
    mine, found = open_safetensors(path)
    assert found == metadata
    assert set(theirs) == set(mine) == set(given)
    for name, tensor in given.items():
        assert (mine[name].shape, mine[name].dtype) == (tensor.shape, tensor.dtype)
        for read in (theirs[name], mine[name].load()):
            assert (read.shape, read.dtype) == (tensor.shape, tensor.dtype)
            assert raw(read) == raw(tensor)


def test_what_the_library_writes_is_read(tmp_path: Path):
    given = {"a": torch.rand(3, 4), "b": torch.arange(5), "c": torch.rand(2).bfloat16()}
    safetensors.torch.save_file(given, tmp_path / "theirs", {"key": "value"})
    found, metadata = open_safetensors(tmp_path / "theirs")
    assert metadata == {"key": "value"}
    assert all(torch.equal(found[name].load(), tensor) for name, tensor in given.items())


def test_one_tensor_at_a_time_is_in_memory_while_a_file_is_written():
    alive: list[str] = []

    class Counted:
        shape, dtype = torch.Size([10]), torch.float32

        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> Tensor:
            alive.append(self.name)
            return torch.zeros(10)

    parts = safetensors_parts({name: Counted(name) for name in "abc"}, {})
    next(parts)
    for count, _ in enumerate(parts):
        assert alive == list("abc"[: count + 1])
    assert alive == list("abc")


def test_a_tensor_that_was_read_does_not_change_with_the_file(tmp_path: Path):
    path = tmp_path / "state"
    write(path, {"a": torch.ones(1000)}, {})
    found = open_safetensors(path)[0]["a"].load()
    with path.open("r+b") as stream:
        stream.write(b"\xff" * path.stat().st_size)
    assert torch.equal(found, torch.ones(1000))


@pytest.mark.parametrize("content", [b"", b"short", bytes(100)])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises((OSError, SafetensorError)):
        open_safetensors(tmp_path / "state")


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path):
    write(tmp_path / "state", {"a": torch.ones(1000)}, {})
    whole = (tmp_path / "state").read_bytes()
    for count in (len(whole) - 1, len(whole) // 2, 20):
        (tmp_path / "state").write_bytes(whole[:count])
        with pytest.raises(SafetensorError):
            open_safetensors(tmp_path / "state")


def test_a_type_that_is_never_written_is_refused(tmp_path: Path):
    safetensors.torch.save_file({"a": torch.rand(3).half()}, tmp_path / "theirs")
    with pytest.raises(KeyError):
        open_safetensors(tmp_path / "theirs")
    with pytest.raises(KeyError):
        next(scratch.safetensors_parts({"a": InMemoryTensor(torch.rand(3).half())}, {}))


def test_a_tensor_that_waits_elsewhere_is_given_out_on_the_device_that_was_named(tmp_path: Path):
    tensor = torch.rand(2, 3)
    waits = InMemoryTensor(DiskStore(tmp_path).store(tensor), torch.device("meta"))
    assert (waits.shape, waits.dtype) == (tensor.shape, tensor.dtype)
    assert waits.load().device.type == "meta"
    assert (
        torch.equal(InMemoryTensor(DiskStore(tmp_path).store(tensor)).load(), tensor)
        and InMemoryTensor(tensor).load() is tensor
    )
