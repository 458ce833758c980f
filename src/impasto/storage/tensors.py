"""Tensors that wait: in memory as they are, on disk until they are asked for again, or in a
safetensors file.

What a step reads once or twice need not lie in memory all the while: the photo's feature maps and
the memory of the search are most of what a large picture holds. It knows files and bytes; it
refuses to know what the tensors mean.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor


class StoredTensor(Protocol):
    """A tensor that waits."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def load(self) -> Tensor:
        """The tensor, not to be changed. Who lets go of this record gives up its place."""
        ...


class TensorStore(Protocol):
    """A place for tensors to wait in."""

    def keep(self, tensor: Tensor) -> StoredTensor:
        """Take a tensor in; whoever gives it does not change it any more."""
        ...


@dataclass(frozen=True)
class InMemoryTensor:
    """A tensor in memory, or one that waits elsewhere and is wanted on ``device``."""

    kept: Tensor | StoredTensor
    device: torch.device | None = None

    @property
    def shape(self) -> torch.Size:
        return self.kept.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.kept.dtype

    def load(self) -> Tensor:
        tensor = self.kept if isinstance(self.kept, Tensor) else self.kept.load()
        return tensor if self.device is None else tensor.to(self.device)


class MemoryStore:
    """Tensors stay where they are."""

    def keep(self, tensor: Tensor) -> StoredTensor:
        return InMemoryTensor(tensor)


class DiskStore:
    """Tensors wait in a file without a name in ``folder``; the system removes it however the
    program ends.

    The bytes come back as they went, layout included. What the disk has no room for stays in
    memory.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as this
        self._end = 0
        # Length in bytes -> offsets that may be used again.
        self._free: defaultdict[int, list[int]] = defaultdict(list)

    def keep(self, tensor: Tensor) -> StoredTensor:
        if not tensor.numel():
            return InMemoryTensor(tensor)  # as of a tile that owns no position of a coarse map
        plain, turned = _plain(tensor)
        count = plain.numel() * plain.element_size()
        free = self._free[count]
        reused = bool(free)
        offset = free.pop() if reused else self._end
        try:
            self._file.seek(offset)
            left = _raw(plain)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            if reused:
                self.free(offset, count)
            return InMemoryTensor(tensor)
        self._end = max(self._end, offset + count)
        return _DiskTensor(self, offset, plain.shape, plain.dtype, turned, tensor.device)

    def read(self, offset: int, count: int) -> Tensor:
        """``count`` bytes from ``offset`` as (count,) uint8."""
        self._file.seek(offset)
        return torch.from_numpy(np.fromfile(self._file, np.uint8, count))

    def free(self, offset: int, count: int) -> None:
        """What lies there may be written over."""
        self._free[count].append(offset)


@dataclass(frozen=True)
class _DiskTensor:
    scratch: DiskStore
    offset: int
    stored: torch.Size  # as it lies in the file
    dtype: torch.dtype
    turned: bool  # whether its channels lie last there
    device: torch.device

    @property
    def shape(self) -> torch.Size:
        return (
            torch.Size(self.stored[index] for index in (0, 3, 1, 2)) if self.turned else self.stored
        )

    @property
    def _count(self) -> int:
        return self.stored.numel() * self.dtype.itemsize

    def load(self) -> Tensor:
        plain = (
            self.scratch.read(self.offset, self._count)
            .view(self.dtype)
            .view(self.stored)
            .to(self.device)
        )
        return plain.permute(0, 3, 1, 2) if self.turned else plain

    def __del__(self) -> None:
        self.scratch.free(self.offset, self._count)  # nobody can ask for it any more


_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def written(
    tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file that holds these tensors."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, kept in tensors.items():
        start, end = end, end + kept.shape.numel() * kept.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[kept.dtype],
            "shape": list(kept.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start on multiples of eight bytes
    yield len(text).to_bytes(8, "little") + text
    for kept in tensors.values():
        yield _raw(kept.load().detach().cpu().contiguous())


def waiting(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a safetensors file, each read when it is asked for, and the file's metadata.

    Raises:
        OSError, SafetensorError, KeyError: it cannot be read, is none, or holds a type that is
            never written here.
    """
    with utf8_name(file) as name, safe_open(name, framework="pt") as opened:
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        found: dict[str, StoredTensor] = {
            name: _FileTensor(file, name, torch.Size(part.get_shape()), _DTYPES[part.get_dtype()])
            for name, part in parts.items()
        }
        return found, opened.metadata() or {}


@contextmanager
def utf8_name(file: Path) -> Iterator[str]:
    """A name of ``file`` for the safetensors library, which takes none that is not UTF-8: then that
    of an open descriptor.

    Raises OSError where there is no such file. Only Linux has such names, and there /proc.
    """
    try:
        str(file).encode()
    except UnicodeEncodeError:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield str(file)


@dataclass(frozen=True)
class _FileTensor:
    file: Path
    name: str
    shape: torch.Size
    dtype: torch.dtype

    def load(self) -> Tensor:
        with utf8_name(self.file) as name, safe_open(name, framework="pt") as opened:
            # Out of the file's mapping, which may be replaced.
            return opened.get_tensor(self.name).clone()


def _raw(tensor: Tensor) -> memoryview:
    """The bytes of a CPU tensor that lies in one run of memory, without a copy."""
    # Not view(-1), which keeps the stride of a single element, whatever it is.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data


def _plain(tensor: Tensor) -> tuple[Tensor, bool]:
    """The tensor on the CPU in one run of memory, and whether its channels were moved to the end
    for that.
    """
    tensor = tensor.detach()
    turned = (
        tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )
    return (tensor.permute(0, 2, 3, 1) if turned else tensor).cpu().contiguous(), turned
