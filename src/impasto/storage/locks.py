"""Lock files against other programs; a lock ends with the program, even if that is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_POLL_SECONDS = 0.05


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False if somebody else holds the lock.

    On file systems that have no locks, as on some network shares, the answer is always True.
    """
    from filelock import lock_descriptor

    try:
        return lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        return True


@contextmanager
def locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold a lock inside the context; ``path`` is a file for this lock alone, removed at the end.

    ``timeout``: the seconds to wait for another holder; None: as long as it takes.

    Raises:
        TimeoutError: another holder did not release the lock in time.
        OSError: the file cannot be made.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while (file := _open_locked(path)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"{path} is locked by another program")
        time.sleep(_POLL_SECONDS)
    with file:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove open files
                path.unlink()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock ``path`` at this moment. Nothing is changed."""
    try:
        with path.open("r+b") as file:
            return not try_lock(file)
    except OSError:  # it does not exist, or may not be written
        return False


def _open_locked(path: Path) -> IO[bytes] | None:
    """The file ``path``, locked; None if somebody else holds the lock."""
    file = path.open("ab")
    try:
        # A holder may have removed the file after it was opened here. Then the lock is worthless.
        if try_lock(file) and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return file
    except FileNotFoundError:
        pass
    file.close()
    return None
