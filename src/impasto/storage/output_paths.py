"""Check, before any work is done, that an output file can be written."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from impasto.errors import CannotWrite
from impasto.storage.files import part_path, remove_abandoned_parts, resolve_link
from impasto.storage.names import MAX_NAME_BYTES


def check_file(path: str | os.PathLike[str], extensions: tuple[str, ...]) -> Path:
    """The absolute path of an output that is no picture, once it is sure that it can be written.

    Its name must end in one of ``extensions``. See ``check_writable`` for what is done.

    Raises:
        CannotWrite: the name or the folder is unusable.
    """
    target = absolute_file_path(path, f"out{extensions[0]}")
    if target.suffix.lower() not in extensions:
        problem = f"ends in {target.suffix}" if target.suffix else "has no extension"
        raise CannotWrite(
            f"{target} {problem}; it must be one of: {' '.join(extensions)}.",
            "Change the name after -o.",
        )
    return check_writable(target)


def absolute_file_path(path: str | os.PathLike[str], example: str = "out.png") -> Path:
    """The absolute path, if it can be that of a file. ``example`` is a file name for the hints.

    Raises:
        CannotWrite: the name is empty, too long, or that of a folder.
    """
    target = Path(os.path.abspath(path))
    if not os.fspath(path):
        raise CannotWrite(
            "The name of the output is empty.", f"Give a file name such as {example}."
        )
    max_bytes = _max_name_bytes(target.parent)
    if len(os.fsencode(target.name)) > max_bytes:
        raise CannotWrite(
            f"The name {target.name[:40]}... is too long for a file: at most {max_bytes} bytes are "
            f"possible there.",
            "Give a shorter one with -o.",
        )
    if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
        raise CannotWrite(
            f"{path} is a folder, not a file name.",
            f"Give a file in it, such as {target / example}.",
        )
    return target


def check_writable(target: Path) -> Path:
    """``target``, once it is sure that it can be written.

    A missing folder is made. Incomplete files that killed programs left of ``target`` are removed.

    Raises:
        CannotWrite: the folder cannot be made or written to, or the file cannot be replaced.
    """
    if target.exists() or target.is_symlink():
        _check_replaceable(target)
    _check_folder(resolve_link(target))
    remove_abandoned_parts(target)
    return target


def _max_name_bytes(folder: Path) -> int:
    """The bytes that a file's name may have in ``folder``, which need not exist yet."""
    with suppress(OSError, AttributeError, ValueError, StopIteration):  # Windows has no such call
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        return os.pathconf(nearest, "PC_NAME_MAX")
    return MAX_NAME_BYTES


def _check_replaceable(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise CannotWrite(f"{target} exists and is not a regular file.", "Choose another name.")
    try:
        # A rename replaces even a write-protected file, but its owner protected it for a reason.
        # The mode is checked because opening always works for the superuser.
        if not target.stat().st_mode & 0o222:
            raise PermissionError(errno.EACCES, "it is write-protected")
        # Changes nothing; fails where an attribute or another program prevents writing.
        with open(target, "r+b"):
            pass
    except OSError as error:
        raise CannotWrite(
            f"{target} exists and cannot be replaced: {error.strerror or error}.",
            "Choose another name.",
        ) from error


def _check_folder(target: Path) -> None:
    folder, trial = target.parent, part_path(target)
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise CannotWrite(
                f"{parent} is a file, so there can be no folder {folder}.", "Choose another folder."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # The only reliable test: permission bits mean nothing for the superuser or on a share.
            trial.write_bytes(b"\0")
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"The folder {folder} cannot be written to: {error.strerror or error}.",
            "Choose another folder.",
        ) from error
