"""What was begun is never lost: a run that was stopped or killed goes on, and ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from test_api import paint_with_a_pocket_network, save_random

from impasto import api, images, recipe, runs
from impasto.errors import CannotResume
from impasto.events import Event, Stepped, Warned
from impasto.request import request

SETTINGS = {"size": 96, "iterations": "4,5", "schedule_coarsest": 48}


@pytest.fixture
def pocket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paint_with_a_pocket_network(monkeypatch, tmp_path)


def ask(folder: Path, **settings: object) -> api.Request:
    photo, painting = folder / "photo.png", folder / "painting.png"
    if not photo.exists():
        save_random(photo, 48, 64)
        save_random(painting, 50, 40, seed=1)
    return request(str(photo), str(painting), recipe.with_settings(recipe.Recipe(), {**SETTINGS, **settings}))


def stop_after(steps: int) -> tuple[api.Watch, list[Event]]:
    seen: list[Event] = []
    return api.Watch(seen.append, stop=lambda: sum(isinstance(event, Stepped) for event in seen) >= steps), seen


@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8])
def test_a_stopped_run_goes_on_to_the_bytes_of_an_undisturbed_one(tmp_path: Path, solver: str, steps: int):
    settings = {"solver": solver, "solver_rate": 1 if solver == "lbfgs" else 0.02}
    whole = api.paint(ask(tmp_path, **settings))
    watch, _ = stop_after(steps)
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    api.paint(ask(tmp_path, **settings), output=out, run=run, watch=watch)
    assert not (run / runs.RECORD).exists()
    seen: list[Event] = []
    resumed = api.paint(ask(tmp_path, **settings), output=out, run=run, watch=api.Watch(seen.append))
    assert resumed.pixels.tobytes() == whole.pixels.tobytes()
    assert sum(isinstance(event, Stepped) for event in seen) == 9 - steps
    assert any(isinstance(event, Warned) and f"after {steps} of 9" in event.message for event in seen)
    assert resumed.record["evaluations"] == whole.record["evaluations"] == 10
    assert (run / runs.RECORD).exists() and not (run / runs.STATE).exists()


@pytest.mark.usefixtures("pocket")
def test_resume_by_the_folder(tmp_path: Path):
    whole = api.paint(ask(tmp_path))
    watch, _ = stop_after(3)
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    api.paint(ask(tmp_path), output=out, run=run, watch=watch)
    out.unlink()
    assert api.resume(run).pixels.tobytes() == whole.pixels.tobytes()
    assert out.is_file()
    with pytest.raises(CannotResume, match="is complete"):
        api.resume(run)
    with pytest.raises(CannotResume, match="holds no state"):
        api.resume(tmp_path)


@pytest.mark.usefixtures("pocket")
def test_fresh_and_another_recipe_start_over(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    for more in ({"fresh": True}, {}):
        watch, _ = stop_after(3)
        api.paint(ask(tmp_path), output=out, run=run, watch=watch)
        seen: list[Event] = []
        strength = 50 if more else 70
        api.paint(ask(tmp_path, strength=strength), output=out, run=run, watch=api.Watch(seen.append), **more)
        assert sum(isinstance(event, Stepped) for event in seen) == 9


@pytest.mark.usefixtures("pocket")
def test_a_changed_photo_is_not_gone_on_with(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    watch, _ = stop_after(3)
    api.paint(ask(tmp_path), output=out, run=run, watch=watch)
    Image.fromarray(np.full((48, 64, 3), 7, np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(CannotResume, match="has changed"):
        api.resume(run)


@pytest.mark.usefixtures("pocket")
def test_a_damaged_state_says_so(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    watch, _ = stop_after(3)
    api.paint(ask(tmp_path), output=out, run=run, watch=watch)
    (run / runs.STATE).write_bytes(b"not a state")
    with pytest.raises(CannotResume, match="cannot be read") as found:
        api.paint(ask(tmp_path), output=out, run=run)
    assert "--fresh" in found.value.hint
    assert api.paint(ask(tmp_path), output=out, run=run, fresh=True).record["evaluations"] == 10


@pytest.mark.usefixtures("pocket")
def test_states_are_written_while_it_paints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []
    monkeypatch.setattr(runs.Run, "keep", lambda run, tensors, facts: written.append(facts["evaluations"]))
    run = tmp_path / "x.run"
    api.paint(ask(tmp_path), run=run, checkpoint_seconds=0)
    assert written == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9]  # each step, and the end of each stage
    written.clear()
    api.paint(ask(tmp_path), run=run, checkpoint_seconds=1e9)
    assert written == [4, 9]


@pytest.mark.network
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path):
    Image.fromarray(skimage.data.astronaut()[::4, ::4]).save(tmp_path / "photo.png")
    words = [sys.executable, "-m", "impasto", "stylize", "photo.png", "irises", "--size", "96", "--iterations", "12,10"]
    words += ["--schedule-coarsest", "48", "--checkpoint", "0", "-q"]
    subprocess.run([*words, "-o", "whole.png"], cwd=tmp_path, check=True, timeout=300)
    state = tmp_path / "killed.png.run" / runs.STATE
    for wait in (0.0, 0.35, 0.8):
        process = subprocess.Popen([*words, "-o", "killed.png"], cwd=tmp_path)
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(wait)
                break
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*words, "-o", "killed.png"], cwd=tmp_path, check=True, timeout=300)
    read = [images.read(tmp_path / name, max_megapixels=1).pixels for name in ("whole.png", "killed.png")]
    assert read[0].tobytes() == read[1].tobytes()
