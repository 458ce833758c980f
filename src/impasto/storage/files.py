"""Write files atomically, and compute their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from impasto.errors import CannotWrite
from impasto.storage.locks import try_lock

_HEX_DIGITS = 16
_HEX = "[0-9a-f]" * _HEX_DIGITS
_HASH_BLOCK = 1 << 20  # bytes


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return stream_sha256(file)


def stream_sha256(file: IO[bytes]) -> str:
    """The SHA-256 of an open file from its position to its end, in hexadecimal digits."""
    digest = hashlib.sha256()
    while block := file.read(_HASH_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def replace_file(target: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write ``data``, whole or in parts, to ``target`` in one atomic step.

    Raises:
        CannotWrite: the file could not be written; what was there before is untouched.
    """
    count = 0
    try:
        with atomic_file(target) as file:
            for part in (data,) if isinstance(data, bytes) else data:
                count += len(part)
                file.write(part)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CannotWrite(
            f"{target} could not be saved: {error.strerror or error}; what was there before is "
            f"untouched.",
            f"Free {count / 1e6:.3g} MB or more, or save elsewhere."
            if is_full
            else "Save it elsewhere.",
        ) from error


@contextmanager
def atomic_file(target: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces ``target`` at the end of the context, unless there is an error.

    It is safe against crashes and power cuts. A symbolic link stays one, and the file that it
    points to is replaced. The file is open for writing and reading.

    Raises:
        OSError: the file could not be written; what was there before is untouched.
    """
    final = resolve_link(target)
    part = part_path(final)
    try:
        with open(part, "x+b") as file:
            try_lock(file)  # tells ``remove_abandoned_parts`` that the file is in use
            yield file
            file.flush()
            os.fsync(file.fileno())
        _rename(part, final)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def publish(part: Path, final: Path) -> None:
    """Give a complete file of the same folder its final name, safe against power cuts.

    Raises OSError.
    """
    with open(part, "r+b") as file:
        os.fsync(file.fileno())
    _rename(part, final)


def _rename(part: Path, final: Path) -> None:
    os.replace(part, final)
    # Makes the new name survive a power cut; Windows has no such call.
    with suppress(OSError, AttributeError):
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def resolve_link(target: Path) -> Path:
    """The file that a symbolic link points to; any other path as it is."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def part_path(target: Path) -> Path:
    """A new name under which ``target`` is written until it is complete.

    It is in the same folder, because a rename is atomic only within one file system.
    """
    return target.parent / f"{_part_prefix(target)}-{secrets.token_hex(_HEX_DIGITS // 2)}.part"


def remove_abandoned_parts(target: Path) -> None:
    """Remove incomplete files of ``target`` that killed programs left.

    A file that another program is writing now stays.
    """
    final = resolve_link(target)
    _remove_abandoned(final.parent, _part_prefix(final))


def remove_all_abandoned_parts(folder: Path) -> None:
    """Remove incomplete files that killed programs left in ``folder``, which need not exist."""
    _remove_abandoned(folder, f".impasto-{_HEX}")


def _part_prefix(target: Path) -> str:
    """The beginning of the names of incomplete files of ``target``, and of no other file.

    It is short, because the name of ``target`` may have the greatest length already.
    """
    return f".impasto-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:_HEX_DIGITS]}"


def _remove_abandoned(folder: Path, prefix: str) -> None:
    for part in folder.glob(f"{prefix}-{_HEX}.part"):
        with suppress(OSError):
            with open(part, "r+b") as file:
                is_abandoned = try_lock(file)
            if is_abandoned:
                part.unlink()
