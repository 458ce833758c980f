"""Check, write and lock files: each is written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from impasto.errors import CannotWrite

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that is being written
    fcntl = None  # type: ignore[assignment]


_LONGEST_NAME = 255  # bytes, where the file system does not say


def check_file(path: str | os.PathLike[str], extensions: tuple[str, ...]) -> Path:
    """The same for a file that is no picture, whose name ends in one of ``extensions``. Raises
    CannotWrite.
    """
    target = _named(path, f"out{extensions[0]}")
    if target.suffix.lower() not in extensions:
        was = f"ends in {target.suffix}" if target.suffix else "has no extension"
        raise CannotWrite(
            f"{target} {was}; it must be one of: {' '.join(extensions)}.",
            "Change the name after -o.",
        )
    return _free(target)


def _named(path: str | os.PathLike[str], example: str = "out.png") -> Path:
    """The absolute path, if it can be a file's."""
    target = Path(os.path.abspath(path))
    if not os.fspath(path):
        raise CannotWrite(
            "The name of the output is empty.", f"Give a file name such as {example}."
        )
    if len(os.fsencode(target.name)) > (longest := _longest_name(target.parent)):
        raise CannotWrite(
            f"The name {target.name[:40]}... is too long for a file: at most {longest} bytes are "
            f"possible there.",
            "Give a shorter one with -o.",
        )
    if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
        raise CannotWrite(
            f"{path} is a folder, not a file name.",
            f"Give a file in it, such as {target / example}.",
        )
    return target


def shortened(name: str, ending: str = "", longest: int = _LONGEST_NAME) -> str:
    """``name`` and ``ending`` together, in at most ``longest`` bytes: what is cut from the name a
    hash of it stands for.
    """
    if len(os.fsencode(name + ending)) <= longest:
        return name + ending
    mark = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{ending}"
    # Letter by letter: a letter may be several bytes.
    while len(os.fsencode(name + mark)) > longest:
        name = name[:-1]
    return name + mark


def _longest_name(folder: Path) -> int:
    """Bytes that a file's name may have in ``folder``, which need not be there yet."""
    with suppress(OSError, AttributeError, ValueError, StopIteration):  # Windows has no such call
        return os.pathconf(
            next(path for path in (folder, *folder.parents) if path.exists()), "PC_NAME_MAX"
        )
    return _LONGEST_NAME


def _free(target: Path) -> Path:
    """The path, once it is sure that it can be written."""
    if target.exists() or target.is_symlink():
        _check_replaceable(target)
    _check_folder(_followed(target))
    clear_parts(target)
    return target


def replace_file(target: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Put ``data``, whole or in parts, at ``target`` in one step, safe against crashes and power
    cuts. A link stays one.

    Raises:
        CannotWrite: and what was there before is untouched.
    """
    place = _followed(target)
    temporary = _part(place)
    count = 0
    try:
        try:
            with open(temporary, "xb") as file:
                claim(file)
                for part in (data,) if isinstance(data, bytes) else data:
                    count += len(part)
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CannotWrite(
            f"{target} could not be saved: {error.strerror or error}; what was there before is "
            f"untouched.",
            f"Free {count / 1e6:.3g} MB or more, or save elsewhere."
            if full
            else "Save it elsewhere.",
        ) from error
    # Makes the new name last through a power cut; Windows has no such call.
    with suppress(OSError, AttributeError):
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _followed(target: Path) -> Path:
    """The file itself, where the name is that of a link to it."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def clear_parts(target: Path) -> None:
    """Remove what killed programs left half-written of ``target``; what another one is writing now
    stays.
    """
    place = _followed(target)
    _clear(place.parent, _mark(place))


def clear_all_parts(folder: Path) -> None:
    """Remove what killed programs left half-written of any file in ``folder``, which need not be
    there.
    """
    _clear(folder, f".impasto-{_HEX}")


_HEX = "[0-9a-f]" * 16


def _clear(folder: Path, mark: str) -> None:
    for part in folder.glob(f"{mark}-{_HEX}.part"):
        with suppress(OSError):
            with open(part, "r+b") as file:
                abandoned = claim(file)
            if abandoned:
                part.unlink()


def claim(file: IO[bytes]) -> bool:
    """Hold an open file for as long as it is open or the program runs; False where another one
    holds it.

    Where files cannot be held, on Windows and on some shares, they never are.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _part(target: Path) -> Path:
    """A new name for what ``target`` is written as: beside it, since a rename is atomic only within
    one file system.
    """
    return target.parent / f"{_mark(target)}-{secrets.token_hex(8)}.part"


def _mark(target: Path) -> str:
    """How the names begin by which ``target`` is written and no other file; short, as its own may
    be as long as can be.
    """
    return f".impasto-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}"


def _check_replaceable(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise CannotWrite(f"{target} exists and is not a regular file.", "Choose another name.")
    try:
        # A rename would replace a write-protected file all the same; its owner protected it for a
        # reason. (Looking at the mode, because for the superuser opening always works.)
        if not target.stat().st_mode & 0o222:
            raise PermissionError(errno.EACCES, "it is write-protected")
        # Changes nothing; fails where an attribute or another program holds the file.
        with open(target, "r+b"):
            pass
    except OSError as error:
        raise CannotWrite(
            f"{target} exists and cannot be replaced: {error.strerror or error}.",
            "Choose another name.",
        ) from error


def _check_folder(target: Path) -> None:
    folder, trial = target.parent, _part(target)
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise CannotWrite(
                f"{parent} is a file, so there can be no folder {folder}.", "Choose another folder."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # The only sure test: permission bits say nothing for the superuser or a share.
            trial.write_bytes(b"\0")
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"The folder {folder} cannot be written to: {error.strerror or error}.",
            "Choose another folder.",
        ) from error
