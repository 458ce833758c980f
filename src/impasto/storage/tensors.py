"""Store tensors in memory, in a temporary file, or in a safetensors file, and load them on demand.

The photo's feature maps and the solver's memory are read once or twice per evaluation. At 24
megapixels they are most of the memory that a picture needs, so they can be stored on disk.
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
    """A tensor that can be loaded when it is needed."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def load(self) -> Tensor:
        """Return the tensor. The caller must not change it."""
        ...


class TensorStore(Protocol):
    """A place where tensors are stored."""

    def store(self, tensor: Tensor) -> StoredTensor:
        """Store a tensor. The caller must not change it afterwards."""
        ...


@dataclass(frozen=True)
class InMemoryTensor:
    """A tensor in memory, or a stored tensor that is moved to ``device`` when it is loaded."""

    tensor: Tensor | StoredTensor
    device: torch.device | None = None

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def load(self) -> Tensor:
        tensor = self.tensor if isinstance(self.tensor, Tensor) else self.tensor.load()
        return tensor if self.device is None else tensor.to(self.device)


class MemoryStore:
    """Store tensors as they are, in memory."""

    def store(self, tensor: Tensor) -> StoredTensor:
        return InMemoryTensor(tensor)


class DiskStore:
    """Store tensors in an unnamed temporary file in ``folder``.

    The system removes the file however the program ends. A tensor is loaded with the same bytes
    and the same memory layout. When the disk is full, tensors stay in memory.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The file lives as long as this object.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._end = 0
        # Length in bytes -> offsets of slots that may be used again.
        self._free: defaultdict[int, list[int]] = defaultdict(list)

    def store(self, tensor: Tensor) -> StoredTensor:
        if not tensor.numel():  # a tile that owns no position of a coarse feature map
            return InMemoryTensor(tensor)
        plain, channels_last = _contiguous(tensor)
        count = plain.numel() * plain.element_size()
        reused = bool(self._free[count])
        offset = self._free[count].pop() if reused else self._end
        try:
            self._file.seek(offset)
            remaining = _raw_bytes(plain)
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
        except OSError:
            if reused:
                self.free(offset, count)
            return InMemoryTensor(tensor)
        self._end = max(self._end, offset + count)
        slot = _Slot(self, offset, count)
        return _DiskTensor(slot, plain.shape, plain.dtype, channels_last, tensor.device)

    def read(self, offset: int, count: int) -> Tensor:
        """Read ``count`` bytes from ``offset`` as a tensor (count,) of uint8."""
        self._file.seek(offset)
        return torch.from_numpy(np.fromfile(self._file, np.uint8, count))

    def free(self, offset: int, count: int) -> None:
        """Allow this part of the file to be overwritten."""
        self._free[count].append(offset)


class _Slot:
    """A part of the file of a ``DiskStore``, freed once, when nothing refers to it any more.

    Copies of a stored tensor share one slot: a slot that was freed twice would be given to two
    tensors.
    """

    def __init__(self, owner: DiskStore, offset: int, count: int) -> None:
        self._owner, self._offset, self._count = owner, offset, count

    def read(self) -> Tensor:
        return self._owner.read(self._offset, self._count)

    def __copy__(self) -> _Slot:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> _Slot:
        return self

    def __del__(self) -> None:
        self._owner.free(self._offset, self._count)


@dataclass(frozen=True)
class _DiskTensor:
    slot: _Slot
    stored_shape: torch.Size
    dtype: torch.dtype
    channels_last: bool  # whether the channels are the last axis of the stored tensor
    device: torch.device

    @property
    def shape(self) -> torch.Size:
        if not self.channels_last:
            return self.stored_shape
        return torch.Size(self.stored_shape[axis] for axis in (0, 3, 1, 2))

    def load(self) -> Tensor:
        stored = self.slot.read().view(self.dtype).view(self.stored_shape).to(self.device)
        return stored.permute(0, 3, 1, 2) if self.channels_last else stored


# ---- safetensors files ---------------------------------------------------------------------------
# The library's own writer needs all tensors in memory at once, as bytes. These functions write and
# read one tensor at a time.

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def safetensors_parts(
    tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield the consecutive parts of a safetensors file that holds these tensors."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, stored in tensors.items():
        start, end = end, end + stored.shape.numel() * stored.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start on multiples of eight bytes
    yield len(text).to_bytes(8, "little") + text
    for stored in tensors.values():
        yield _raw_bytes(stored.load().detach().cpu().contiguous())


def open_safetensors(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors of a safetensors file, each read when it is loaded, and the metadata.

    Raises:
        OSError, SafetensorError, KeyError: the file cannot be read, is not a safetensors file, or
            holds a type that Impasto does not write.
    """
    with utf8_name(file) as name, safe_open(name, framework="pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        tensors: dict[str, StoredTensor] = {
            name: _FileTensor(file, name, torch.Size(part.get_shape()), _DTYPES[part.get_dtype()])
            for name, part in slices.items()
        }
        return tensors, opened.metadata() or {}


@contextmanager
def utf8_name(file: Path) -> Iterator[str]:
    """Provide a UTF-8 name of ``file`` for the safetensors library, which takes no other name.

    A name that is not UTF-8 exists on Linux only; the name of an open descriptor in /proc stands
    for it. Raises OSError when there is no such file.
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
            # A copy: the file that the library maps into memory may be replaced.
            return opened.get_tensor(self.name).clone()


def _raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy."""
    # view(-1) would keep the stride of a single element, whatever it is.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data


def _contiguous(tensor: Tensor) -> tuple[Tensor, bool]:
    """The tensor on the CPU, contiguous, and whether its channels were moved to the last axis."""
    tensor = tensor.detach()
    channels_last = (
        tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )
    tensor = tensor.permute(0, 2, 3, 1) if channels_last else tensor
    return tensor.cpu().contiguous(), channels_last
