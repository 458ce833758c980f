"""Locks between programs: released in time, released by death, and never held twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from impasto.storage import locks
from impasto.storage.locks import is_locked, locked

HOLDS_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from impasto.storage.locks import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_once_and_leaves_nothing(tmp_path: Path):
    path = tmp_path / ".lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
        with pytest.raises(TimeoutError), locked(path, timeout=0):
            pass
        with pytest.raises(TimeoutError), locked(path, timeout=0.1):
            pass
        assert is_locked(path)
    assert not is_locked(path) and list(tmp_path.iterdir()) == []
    with locked(path, timeout=0):
        assert is_locked(path)


def test_an_error_releases_the_lock(tmp_path: Path):
    with pytest.raises(KeyError), locked(tmp_path / ".lock"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_lock_may_be_released_in_another_thread(tmp_path: Path):
    path, stack = tmp_path / ".lock", ExitStack()
    stack.enter_context(locked(path))
    thread = threading.Thread(target=stack.close)
    thread.start()
    thread.join()
    assert not is_locked(path)


def test_no_two_threads_hold_a_lock_at_once(tmp_path: Path):
    """Each holder removes the file, and the next must not lock the file that was removed."""
    inside, most, turns = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(50):
            with locked(tmp_path / ".lock"):
                inside += 1
                most = max(most, inside)
                turns += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 200) and list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_meanwhile_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, attempts = tmp_path / ".lock", []

    def remove_first(file: object) -> bool:
        attempts.append(file)
        if len(attempts) == 1:
            path.unlink()
        return True

    monkeypatch.setattr(locks, "try_lock", remove_first)
    with locked(path):
        assert len(attempts) == 2 and path.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_program_holds_no_lock(tmp_path: Path):
    path = tmp_path / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"locked\n"
    assert is_locked(path)
    process.kill()
    process.communicate()
    assert path.exists() and not is_locked(path)
    with locked(path, timeout=0):
        assert is_locked(path)
    assert list(tmp_path.iterdir()) == []


def test_where_no_lock_file_can_be_made_there_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing" / ".lock", timeout=0):
        pass
    assert not is_locked(tmp_path / "missing" / ".lock")
