"""Open paths, bytes and streams, and read their bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.errors import BadPicture, did_you_mean
from impasto.images.refusals import shown

HEAD = 4096
"""Bytes by which a file's kind is recognized."""
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True)
class Contents:
    """The bytes of one file."""

    data: bytes
    label: str
    """The name in messages."""
    source: str
    """The path as it was given, or "bytes" or "stream"."""


def is_file(source: object) -> bool:
    """Whether a source is a path, bytes or a stream."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(
        source, "read"
    )


@contextmanager
def open_source(source: Any) -> Iterator[tuple[Any, str, str]]:
    """An open binary file at the beginning of the picture, its label and its source.

    Bytes are the picture itself, or the absolute path of an existing file.

    Raises:
        BadPicture: it does not exist, is empty, or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview) and not _is_path(source):
        yield _BytesFile(bytes(source)), "The picture in memory", "bytes"
    elif isinstance(source, str | os.PathLike | bytes):
        path = os.fsdecode(source)
        with open_picture(path) as file:
            yield file, shown(path), path
    else:
        yield _labeled_stream(source)


def contents(file: Any, label: str, source: str) -> Contents:
    """The bytes of an open file from its current position on.

    Raises BadPicture if there are none.
    """
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise BadPicture(
            f"{label} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from None
    if isinstance(data, str):
        raise BadPicture(
            f"{label} is open as text, and a picture is bytes.", "Open it with mode 'rb'."
        )
    if not data:
        raise BadPicture(f"{label} is empty (0 bytes).", "Copy or download it again.")
    return Contents(bytes(data), label, source)


def stream_contents(stream: Any) -> Contents:
    """The bytes of an open binary file from its current position on.

    Raises BadPicture if there are none.
    """
    return contents(*_labeled_stream(stream))


def _is_path(source: bytes | bytearray | memoryview) -> bool:
    if not isinstance(source, bytes) or not 0 < len(source) <= _MAX_PATH_BYTES or b"\0" in source:
        return False
    try:
        return os.path.isabs(source) and os.path.exists(source)
    except (OSError, ValueError):
        return False


def _labeled_stream(source: Any) -> tuple[Any, str, str]:
    name = getattr(source, "name", None)  # a number for files that were opened by descriptor
    if isinstance(name, str | bytes) and name:
        return source, shown(os.fsdecode(name)), os.fsdecode(name)
    return source, "The picture in the stream", "stream"


class _BytesFile:
    """Bytes as a file, without a copy of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data


@contextmanager
def open_picture(path: str) -> Iterator[Any]:
    """The open binary file, at its start. Raises BadPicture if it is missing or empty."""
    label = shown(path)
    if path.lower().startswith(("http://", "https://")):
        raise BadPicture(f"{label} is an address, not a file.", "Download the picture first.")
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            raise BadPicture(f"{label} is a folder, not a picture.", "Give one file in it.")
        if not stat.S_ISREG(info.st_mode):
            raise BadPicture(f"{label} is not a regular file.")
        if info.st_size == 0:
            raise BadPicture(f"{label} is empty (0 bytes).", "Copy or download it again.")
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise _missing(path) from None
    except PermissionError:
        raise BadPicture(
            f"{label} may not be read: permission denied.", "Change its permissions, or copy it."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise BadPicture(
            f"{label} cannot be opened: {getattr(error, 'strerror', None) or error}."
        ) from None
    with file:
        yield file


def _missing(path: str) -> BadPicture:
    folder = Path(path).parent
    label, where = shown(path), shown(str(folder))
    if not folder.is_dir():
        return BadPicture(f"{label} does not exist: there is no folder {where}.")
    try:
        names = [shown(name) for name in sorted(os.listdir(folder))]
    except OSError:
        names = []
    hint = (
        did_you_mean(shown(Path(path).name), names) or f"Looked in {shown(str(folder.resolve()))}."
    )
    return BadPicture(f"{label} does not exist.", hint)
