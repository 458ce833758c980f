"""Snapshots of a run: parsing, contents, and the same set after a kill and a resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from impasto import api, images
from impasto.errors import BadRequest, CannotWrite
from impasto.events import Callbacks, Event, Warned
from impasto.inputs import read_inputs
from impasto.recipe import loading, records
from impasto.runs import folder, snapshots
from impasto.runs.snapshots import Snapshots
from impasto.runs.writer import RunWriter
from tests.support.pictures import random_pixels, save_random
from tests.support.program import run_command
from tests.support.small_runs import make_inputs, paint_to, stop_after

Captured = pytest.CaptureFixture[str]
OUT = Path("out.png")
RUN = Path("out.png.run")


pytestmark = pytest.mark.usefixtures("pocket")


def kept() -> dict[int, bytes]:
    return {evaluations: path.read_bytes() for evaluations, path in folder.snapshot_files(RUN)}


@pytest.mark.parametrize(
    ("given", "found", "text"),
    [
        ("", Snapshots(), ""),
        ("100,300,3300", Snapshots((100, 300, 3300)), "100,300,3300"),
        (" 7 , 3,3,", Snapshots((3, 7)), "3,7"),
        ("every=50", Snapshots(every=50), "every=50"),
        ("1, every = 20", Snapshots((1,), 20), "1,every=20"),
        ([5, 2], Snapshots((2, 5)), "2,5"),
    ],
)
def test_what_can_be_asked_for(given: str | list[int], found: Snapshots, text: str):
    assert snapshots.parse(given) == found
    assert str(found) == text and snapshots.parse(text) == found


def test_which_evaluations_are_meant():
    wanted = snapshots.parse("3,every=10")
    assert [number for number in range(25) if number in wanted and number] == [3, 10, 20]
    assert (
        wanted.beyond(10) == ""
        and wanted.beyond(9) == "every=10"
        and wanted.beyond(2) == "3,every=10"
    )
    assert Snapshots((3, 30)).beyond(10) == "30"
    assert not snapshots.parse("") and wanted


@pytest.mark.parametrize(
    "bad",
    ["0", "-3", "x", "1.5", "every=", "every=0", "each=3", "every=3,every=4", "1;2", "9" * 5000],
)
def test_a_bad_number_is_refused_before_anything_is_read(bad: str, capsys: Captured):
    assert run_command("stylize", "nowhere.png", "nothing.png", f"--snapshots={bad}") == 2
    assert "snapshots" in capsys.readouterr().err
    assert not list(Path().glob("*.run"))


def test_snapshots_need_a_folder(capsys: Captured):
    assert run_command("stylize", "nowhere.png", "nothing.png", "--no-run", "--snapshots", "3") == 2
    assert "--no-run" in capsys.readouterr().err
    with pytest.raises(CannotWrite):
        paint_to(make_inputs(Path()), snapshots=[3])


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_snapshot_is_the_picture_of_a_run_that_was_stopped_there(stop: int):
    whole = paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots=range(1, 10))
    assert [evaluations for evaluations, _ in folder.snapshot_files(RUN)] == list(range(1, 10))
    assert (
        whole.record["snapshots"]["count"] == 9
        and 0 < whole.record["snapshots"]["seconds"] < whole.record["seconds"]
    )
    shot = images.read(folder.snapshot_files(RUN)[stop - 1][1], max_megapixels=1)
    assert max(shot.size) == (48 if stop <= 4 else 96)
    callbacks, _ = stop_after(stop)
    paint_to(
        make_inputs(Path()),
        output=Path("short.png"),
        run=Path("short.png.run"),
        callbacks=callbacks,
    )
    stopped = images.read("short.png", max_megapixels=1)
    assert np.abs(images.resize(shot.pixels, stopped.size) - stopped.pixels).max() < (
        1.5 / 255 if stop <= 4 else 1e-6
    )


def test_snapshots_do_not_change_the_picture():
    plain = paint_to(make_inputs(Path()), output=OUT, run=RUN)
    assert "snapshots" not in plain.record and not (RUN / folder.SNAPSHOTS).exists()
    with pytest.raises(
        CannotWrite, match="finished already, without these snapshots; it is kept"
    ) as found:
        paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots="every=2")
    assert "--fresh" in found.value.hint
    again = paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots="every=2", fresh=True)
    assert again.pixels.tobytes() == plain.pixels.tobytes() and len(kept()) > 0
    assert (
        paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots="every=2").record["seconds"]
        == again.record["seconds"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", [1, 3, 5])
def test_a_kill_and_a_resume_leave_the_same_set(state: int):
    """The state is of ``state``; the log and the snapshots go on to evaluation 7, where the program
    is killed.
    """

    class Killed(BaseException):
        pass

    paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots="every=2,5")
    whole = kept()
    assert list(whole) == [2, 4, 5, 6, 8]
    keep = RunWriter.save_state
    seen: list[Event] = []

    def event(happened: Event) -> None:
        seen.append(happened)
        if getattr(happened, "evaluations", 0) == 7:
            raise Killed

    def at_once(log: RunWriter, tensors: object, facts: dict[str, int]) -> None:
        if facts["evaluations"] == state:
            keep(log, tensors, facts)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "save_state", at_once)
        with pytest.raises(Killed):
            paint_to(
                make_inputs(Path()),
                output=OUT,
                run=RUN,
                snapshots="every=2,5",
                checkpoint_seconds=0,
                callbacks=Callbacks(event),
                fresh=True,
            )
    assert list(kept()) == [2, 4, 5, 6]
    (RUN / folder.SNAPSHOTS / f".impasto-{'0' * 16}-{'1' * 16}.part").write_bytes(b"half")
    api.resume(RUN)  # which remembers what was asked for
    assert kept() == whole
    assert len(list((RUN / folder.SNAPSHOTS).iterdir())) == len(whole)


def test_a_fresh_run_removes_those_of_an_earlier_one():
    paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots="every=2")
    paint_to(make_inputs(Path()), output=OUT, run=RUN, snapshots="5", fresh=True)
    assert list(kept()) == [5]
    (RUN / folder.SNAPSHOTS / "mine.png").write_bytes(b"precious")
    with pytest.raises(CannotWrite, match=r"it holds snapshots/mine\.png"):
        paint_to(make_inputs(Path()), output=OUT, run=RUN)
    assert list(kept()) == [5] and (RUN / folder.SNAPSHOTS / "mine.png").exists()


def test_what_never_comes_is_said_before_the_start():
    seen: list[Event] = []
    paint_to(
        make_inputs(Path()),
        output=OUT,
        run=RUN,
        snapshots="2,300,every=50",
        callbacks=Callbacks(seen.append),
    )
    assert (
        isinstance(seen[2], Warned)
        and "has 9 evaluations: there will be no snapshot for 300,every=50" in seen[2].message
    )
    assert list(kept()) == [2]


def test_a_folder_that_cannot_be_written_does_not_take_the_picture_with_it():
    seen: list[Event] = []

    def event(happened: Event) -> None:
        seen.append(happened)
        if isinstance(happened, Warned) or len(seen) > 2 or not RUN.exists():
            return
        (RUN / folder.SNAPSHOTS).write_text("in the way")

    paint_to(
        make_inputs(Path()), output=OUT, run=RUN, snapshots="every=2", callbacks=Callbacks(event)
    )
    assert OUT.is_file() and "could not be written in full" in str(seen[-1])


def test_a_transparent_photo_has_transparent_snapshots():
    Image.fromarray(random_pixels(48, 64, channels=4)).save("cut.png")
    painting = save_random("other.png", 50, 40, seed=1)
    inputs = read_inputs(
        "cut.png", painting, loading.with_settings(records.Recipe(), {"size": 64, "iterations": 2})
    )
    paint_to(inputs, output=OUT, run=RUN, snapshots=[1])
    assert images.read(folder.snapshot_files(RUN)[0][1], max_megapixels=1).alpha is not None


def test_the_command_keeps_them(capsys: Captured):
    save_random("photo.png")
    save_random("painting.png", 60, 80, seed=1)
    command = (
        "stylize",
        "photo.png",
        "painting.png",
        "-o",
        "out.png",
        "--size",
        "64",
        "--iterations",
        "4",
        "--json",
    )
    assert run_command(*command, "--snapshots", "every=2") == 0
    assert json.loads(capsys.readouterr().out)["snapshots"]["count"] == 2
    assert list(kept()) == [2, 4]
    with pytest.raises(BadRequest):
        snapshots.parse("no")
