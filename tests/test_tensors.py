"""Tensors are loaded unchanged from memory, disk and safetensors files; no file is left behind."""

from __future__ import annotations

import copy
import dataclasses
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
    """Random bytes, also NaNs, of any type and shape, in any memory layout."""
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
        layouts["transposed"] = lambda: made.transpose(0, -1)
        layouts["sliced"] = lambda: made[..., : shape[-1] // 2]
        layouts["strided"] = lambda: made[..., ::2]
    return layouts[draw(st.sampled_from(sorted(layouts)))]()


# ---- in memory and on disk -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MemoryStore, DiskStore])
@settings(max_examples=150)
@given(st.lists(tensors(), min_size=1, max_size=4))
def test_stored_tensors_are_loaded_unchanged(
    kind: type, tmp_path_factory: pytest.TempPathFactory, originals: list[Tensor]
):
    store: TensorStore = (
        MemoryStore() if kind is MemoryStore else DiskStore(tmp_path_factory.getbasetemp())
    )
    stored = [store.store(tensor) for tensor in originals]
    for tensor, stored_tensor in reversed(list(zip(originals, stored, strict=True))):
        assert (stored_tensor.shape, stored_tensor.dtype) == (tensor.shape, tensor.dtype)
        for _ in range(2):
            loaded = stored_tensor.load()
            assert (loaded.shape, loaded.dtype) == (tensor.shape, tensor.dtype)
            assert raw(loaded) == raw(tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_loaded_map_has_the_same_memory_layout(
    dtype: torch.dtype, form: torch.memory_format, tmp_path: Path
):
    """Another layout would change the order of sums, and with it the bytes of results."""
    map_ = torch.rand(1, 6, 5, 7).to(dtype).contiguous(memory_format=form)
    stored_tensor = DiskStore(tmp_path).store(map_)
    assert not isinstance(stored_tensor, InMemoryTensor) and stored_tensor.shape == map_.shape
    loaded = stored_tensor.load()
    assert loaded.stride() == map_.stride()
    assert torch.equal(loaded, map_)


def test_a_loaded_tensor_has_no_graph(tmp_path: Path):
    leaf = torch.rand(3, 4, requires_grad=True)
    loaded = DiskStore(tmp_path).store(leaf * 2).load()
    assert not loaded.requires_grad and torch.equal(loaded, (leaf * 2).detach())


def test_a_stored_tensor_outlives_the_last_reference_to_its_store(tmp_path: Path):
    store = DiskStore(tmp_path / "new" / "folder")
    tensor = torch.rand(50)
    stored_tensor = store.store(tensor)
    del store
    gc.collect()
    assert torch.equal(stored_tensor.load(), tensor)


class SmallFile(io.FileIO):
    """A file that takes ``chunk`` bytes at a time and ``capacity`` in all, like a full disk."""

    capacity, chunk = 2**40, 2**40

    def write(self, data: Any) -> int:
        part = memoryview(data)[: min(self.chunk, max(0, self.capacity - self.tell()))]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(part)


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SmallFile:
    """The file of the next ``DiskStore``."""
    opened = SmallFile(tmp_path / "small-file", "x+")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: opened)
    return opened


def test_partial_writes_are_completed(file: SmallFile, tmp_path: Path):
    file.chunk = 7
    tensor = torch.rand(31)
    assert torch.equal(DiskStore(tmp_path).store(tensor).load(), tensor)


def test_the_slot_of_a_dropped_tensor_is_used_again(file: SmallFile, tmp_path: Path):
    store = DiskStore(tmp_path)
    stored = [store.store(torch.full((100,), float(index))) for index in range(4)]
    assert os.fstat(file.fileno()).st_size == 4 * 400
    for index in range(4, 40):
        del stored[0]
        stored.append(store.store(torch.full((100,), float(index))))
    assert os.fstat(file.fileno()).st_size == 4 * 400
    assert [stored_tensor.load().unique().tolist() for stored_tensor in stored] == [
        [36],
        [37],
        [38],
        [39],
    ]


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
def test_a_referenced_tensor_is_never_overwritten(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, int]]
):
    store = DiskStore(tmp_path_factory.getbasetemp())
    alive: list[tuple[StoredTensor, Tensor]] = []
    for count, (action, choice, length) in enumerate(actions):
        if action == "keep":
            tensor = torch.full((length,), count, dtype=torch.int64)
            alive.append((store.store(tensor), tensor))
        elif alive and action == "drop":
            del alive[choice % len(alive)]
        elif alive:
            # A second reference: the slot is freed with the last one.
            alive.append(alive[choice % len(alive)])
        assert all(torch.equal(stored_tensor.load(), tensor) for stored_tensor, tensor in alive)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, dataclasses.replace, lambda stored: copy.deepcopy([stored])[0]],
    ids=["copy", "deepcopy", "replace", "deepcopy of a list"],
)
def test_a_copy_of_a_stored_tensor_shares_its_slot(
    copied: Callable[[Any], Any], file: SmallFile, tmp_path: Path
):
    """A slot that is freed twice, or too early, would be given to another tensor."""
    store = DiskStore(tmp_path)
    first = torch.rand(60)
    original = store.store(first)
    twin = copied(original)
    assert not isinstance(original, InMemoryTensor) and twin is not original
    assert torch.equal(twin.load(), first)
    del original  # the copy still needs the slot
    second = torch.rand(60)
    other = store.store(second)
    assert torch.equal(twin.load(), first) and torch.equal(other.load(), second)
    assert os.fstat(file.fileno()).st_size == 2 * 240
    del twin  # the slot is free now, for one tensor only
    third, fourth = torch.rand(60), torch.rand(60)
    stored = [store.store(third), store.store(fourth)]
    assert [torch.equal(a.load(), b) for a, b in zip(stored, (third, fourth), strict=True)] == [
        True,
        True,
    ]
    assert torch.equal(other.load(), second)
    assert os.fstat(file.fileno()).st_size == 3 * 240


def test_tensors_stay_in_memory_when_the_disk_is_full(file: SmallFile, tmp_path: Path):
    file.capacity = 1000
    store = DiskStore(tmp_path)
    originals = [torch.rand(60) + index for index in range(6)]  # 240 bytes each
    stored = [store.store(tensor) for tensor in originals]
    assert [isinstance(stored_tensor, InMemoryTensor) for stored_tensor in stored] == [
        False
    ] * 4 + [True] * 2
    assert all(
        torch.equal(stored_tensor.load(), tensor)
        for stored_tensor, tensor in zip(stored, originals, strict=True)
    )
    assert stored[4].load() is originals[4]
    smaller = torch.rand(5)
    assert torch.equal(store.store(smaller).load(), smaller)  # over the incomplete tensor
    assert all(
        torch.equal(stored_tensor.load(), tensor)
        for stored_tensor, tensor in zip(stored, originals, strict=True)
    )


def test_a_disk_with_free_space_again_is_used_again(file: SmallFile, tmp_path: Path):
    """Also the slot of a dropped tensor, after a failed write to it."""
    store = DiskStore(tmp_path)
    stored = [store.store(torch.rand(60)) for _ in range(2)]
    del stored[0]
    file.capacity = 0
    assert isinstance(store.store(torch.rand(60)), InMemoryTensor)
    file.capacity = 2**40
    tensor = torch.rand(60)
    stored.append(store.store(tensor))
    assert not isinstance(stored[-1], InMemoryTensor) and torch.equal(stored[-1].load(), tensor)
    assert os.fstat(file.fileno()).st_size == 2 * 240


# ---- no file is left -----------------------------------------------------------------------------


def test_nothing_is_left_in_the_folder(tmp_path: Path):
    store = DiskStore(tmp_path / "scratch")
    stored_tensor = store.store(torch.rand(1000))
    assert len(stored_tensor.load()) == 1000
    del store, stored_tensor
    gc.collect()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_program_leaves_nothing(tmp_path: Path):
    program = (
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from impasto.storage.tensors import DiskStore\n"
        "stored = DiskStore(Path(sys.argv[1])).store(torch.rand(1000))\n"
        "assert len(stored.load()) == 1000\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "scratch")], timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "scratch").iterdir()) == []


# ---- safetensors ---------------------------------------------------------------------------------


def write(path: Path, originals: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.write_bytes(
        b"".join(
            bytes(part)
            for part in safetensors_parts(
                {n: InMemoryTensor(t) for n, t in originals.items()}, metadata
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
def test_a_written_file_is_read_by_the_library_and_by_impasto(
    tmp_path_factory: pytest.TempPathFactory, originals: dict[str, Tensor], metadata: dict[str, str]
):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    write(path, originals, metadata)
    theirs = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as opened:
        assert (opened.metadata() or {}) == metadata
    read_back, read_metadata = open_safetensors(path)
    assert read_metadata == metadata
    assert set(theirs) == set(read_back) == set(originals)
    for name, tensor in originals.items():
        assert (read_back[name].shape, read_back[name].dtype) == (tensor.shape, tensor.dtype)
        for read in (theirs[name], read_back[name].load()):
            assert (read.shape, read.dtype) == (tensor.shape, tensor.dtype)
            assert raw(read) == raw(tensor)


def test_a_file_of_the_library_is_read(tmp_path: Path):
    originals = {"a": torch.rand(3, 4), "b": torch.arange(5), "c": torch.rand(2).bfloat16()}
    safetensors.torch.save_file(originals, tmp_path / "theirs", {"key": "value"})
    loaded, metadata = open_safetensors(tmp_path / "theirs")
    assert metadata == {"key": "value"}
    assert all(torch.equal(loaded[name].load(), tensor) for name, tensor in originals.items())


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


def test_a_loaded_tensor_does_not_change_with_the_file(tmp_path: Path):
    path = tmp_path / "state"
    write(path, {"a": torch.ones(1000)}, {})
    loaded = open_safetensors(path)[0]["a"].load()
    with path.open("r+b") as stream:
        stream.write(b"\xff" * path.stat().st_size)
    assert torch.equal(loaded, torch.ones(1000))


@pytest.mark.parametrize("content", [b"", b"short", bytes(100)])
def test_another_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises((OSError, SafetensorError)):
        open_safetensors(tmp_path / "state")


def test_a_truncated_file_is_refused(tmp_path: Path):
    write(tmp_path / "state", {"a": torch.ones(1000)}, {})
    whole = (tmp_path / "state").read_bytes()
    for count in (len(whole) - 1, len(whole) // 2, 20):
        (tmp_path / "state").write_bytes(whole[:count])
        with pytest.raises(SafetensorError):
            open_safetensors(tmp_path / "state")


def test_another_tensor_type_is_refused(tmp_path: Path):
    safetensors.torch.save_file({"a": torch.rand(3).half()}, tmp_path / "theirs")
    with pytest.raises(KeyError):
        open_safetensors(tmp_path / "theirs")
    with pytest.raises(KeyError):
        next(safetensors_parts({"a": InMemoryTensor(torch.rand(3).half())}, {}))


def test_a_stored_tensor_is_loaded_on_the_named_device(tmp_path: Path):
    tensor = torch.rand(2, 3)
    waits = InMemoryTensor(DiskStore(tmp_path).store(tensor), torch.device("meta"))
    assert (waits.shape, waits.dtype) == (tensor.shape, tensor.dtype)
    assert waits.load().device.type == "meta"
    assert (
        torch.equal(InMemoryTensor(DiskStore(tmp_path).store(tensor)).load(), tensor)
        and InMemoryTensor(tensor).load() is tensor
    )
