"""A run's folder: whole or absent, fresh at each start, and never in the way of the picture."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from impasto import events, images
from impasto.errors import BadRequest, CannotWrite
from impasto.events import Callbacks
from impasto.geometry import Size
from impasto.inputs import Inputs, read_inputs
from impasto.recipe import loading, records
from impasto.recipe.records import Recipe
from impasto.runs import folder as runs
from impasto.runs import writer
from impasto.runs.writer import RunWriter
from impasto.storage import files
from impasto.storage.tensors import InMemoryTensor
from tests.support.pictures import save_random
from tests.support.pocket_network import use_pocket_network
from tests.support.small_runs import paint_to

NAMED = Recipe(
    photo=records.Input(path="a.png", sha256="1"),
    paintings=(records.Input(path="b.png", sha256="2"),),
)
FACTS = {
    "request": "this",
    "recipe_sha256": "0",
    "kernel": "conv2d",
    "seconds": 1.5,
    "output": "x.png",
}
FINISHED = events.Finished(3, 0.25, {"content": 0.25}, 1.5)


pytestmark = pytest.mark.usefixtures("pocket")


def inputs(**settings: Any) -> Inputs:
    photo, painting = save_random("photo.png"), save_random("painting.png", 60, 80, seed=1)
    return read_inputs(
        photo, painting, loading.with_settings(Recipe(), {"size": 64, "iterations": 2, **settings})
    )


def test_the_folder_is_named_after_the_picture():
    assert runs.beside(Path("/a/b/picture.png")) == Path("/a/b/picture.png.run")


def test_a_run_written_by_hand_reads_back(tmp_path: Path):
    asked = Recipe(size=321, strength=12.5)
    run = RunWriter.start(tmp_path / "new" / "x.run", asked)
    assert loading.load(str(run.folder / runs.RECIPE)) == asked
    noted = [events.Started(0, Size(3, 4), 5), events.Warned("é \n two lines"), FINISHED]
    for event in noted:
        run.log(event)
    lines = (run.folder / runs.EVENTS).read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert all(values.pop("time") > 1.6e9 for values in found)
    assert [events.from_dict(values) for values in found] == noted
    run.save_preview(np.full((20, 30, 3), 0.5, np.float32))
    assert images.read(run.folder / runs.PREVIEW, max_megapixels=1).size == Size(20, 30)
    output = tmp_path / "x.PNG"
    output.write_bytes(b"the picture")
    assert not (run.folder / runs.RECORD).exists()
    run.finish(output, {"output": "x", "credit": "Cézanne"})
    assert (run.folder / "result.png").read_bytes() == b"the picture"
    assert json.loads((run.folder / runs.RECORD).read_text("utf-8")) == {
        "output": "x",
        "credit": "Cézanne",
    }
    assert not run.incomplete


def test_the_result_is_a_file_of_its_own(tmp_path: Path):
    """Who edits the picture in place, its metadata for instance, must not change the one in the
    run.
    """
    run = RunWriter.start(tmp_path / "x.run", Recipe())
    (tmp_path / "x.png").write_bytes(b"the picture")
    run.finish(tmp_path / "x.png", {})
    with (tmp_path / "x.png").open("r+b") as file:
        file.write(b"THE")
    assert (run.folder / "result.png").read_bytes() == b"the picture" and not run.incomplete
    assert (run.folder / runs.RECORD).exists()


def test_a_new_run_removes_what_an_earlier_one_left(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"old")
    old = RunWriter.start(tmp_path / "x.run", Recipe(size=100))
    old.log(FINISHED)
    old.save_preview(np.zeros((20, 30, 3), np.float32))
    old.finish(tmp_path / "x.png", {})
    old.close()
    new = RunWriter.start(tmp_path / "x.run", Recipe(size=200))
    new.close()
    assert [path.name for path in new.folder.iterdir()] == [runs.RECIPE]
    assert loading.load(str(new.folder / runs.RECIPE)).size == 200


def test_what_is_not_of_a_run_stays(tmp_path: Path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("result.txt", "result.psd", "notes.txt"):
        (folder / name).write_text("precious")
    with pytest.raises(CannotWrite, match=r"mine is no run folder: it holds notes\.txt") as found:
        RunWriter.start(folder, Recipe())
    assert "--run DIR" in found.value.hint
    assert {path.name for path in folder.iterdir()} == {"result.txt", "result.psd", "notes.txt"}


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(folder: str, tmp_path: Path):
    Path("file").write_text("in the way")
    with pytest.raises(CannotWrite, match="run folder") as found:
        RunWriter.start(Path(folder), Recipe())
    assert "--no-run" in found.value.hint
    with pytest.raises(CannotWrite):
        paint_to(inputs(), output=tmp_path / "out.png", run=Path(folder))
    assert not Path("out.png").exists() and Path("file").read_text() == "in the way"


def test_a_log_that_fails_in_the_middle_does_not_take_the_picture_with_it(tmp_path: Path):
    seen: list[events.Event] = []

    def event(happened: events.Event) -> None:
        seen.append(happened)
        if isinstance(happened, events.Started):  # from here on, nothing can be appended
            (tmp_path / "out.run" / runs.EVENTS).unlink()
            (tmp_path / "out.run" / runs.EVENTS).mkdir()

    painting = paint_to(
        inputs(), output=tmp_path / "out.png", run=tmp_path / "out.run", callbacks=Callbacks(event)
    )
    assert any(isinstance(happened, events.Finished) for happened in seen)
    notes = [happened.message for happened in seen if isinstance(happened, events.Warned)]
    assert len(notes) == 1 and "out.run" in notes[0] and "the picture is whole" in notes[0]
    assert images.read("out.png", max_megapixels=1).size == Size(48, 64)
    assert painting.record["output"] == str(tmp_path / "out.png")


@pytest.mark.parametrize("broken", ["log", "save_preview", "finish", "save_state"])
def test_every_part_of_the_log_may_fail_and_says_so(broken: str, tmp_path: Path):
    run = RunWriter.start(tmp_path / "x.run", Recipe())
    shutil.rmtree(run.folder)
    {
        "log": lambda: run.log(FINISHED),
        "save_preview": lambda: run.save_preview(np.zeros((20, 30, 3), np.float32)),
        "finish": lambda: run.finish(tmp_path / "x.png", {}),
        "save_state": lambda: run.save_state({"pixels": InMemoryTensor(torch.rand(3))}, {}),
    }[broken]()
    assert run.incomplete and not run.folder.exists()


def test_a_state_that_was_kept_comes_back(tmp_path: Path):
    run = RunWriter.start(tmp_path / "x.run", Recipe())
    assert runs.read_checkpoint(run.folder) is None
    tensors = {
        "pixels": torch.rand(1, 3, 5, 7),
        "memory.steps.0": torch.rand(9).double(),
        "memory.step": torch.tensor(3.0),
    }
    facts = {
        **FACTS,
        "stage": 1,
        "value": [0.1, {"style": 0.1}],
        "lowest": [float("inf"), {}],
        "output": "Cézanne.png",
    }
    for count in (1, 2):
        run.save_state(
            {name: InMemoryTensor(tensor * count) for name, tensor in tensors.items()},
            {**facts, "step": count},
        )
        kept = runs.read_checkpoint(run.folder)
        assert kept is not None and kept.values == {**facts, "step": count}
        assert {name: kept.tensors[name].load().tolist() for name in kept.tensors} == {
            name: (tensor * count).tolist() for name, tensor in tensors.items()
        }
    run.finish(tmp_path / "x.png", {})  # there is no such picture: it is not complete
    assert runs.read_checkpoint(run.folder) is not None and run.incomplete


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path):
    class Lost:
        shape, dtype = torch.Size([3]), torch.float32

        def load(self) -> torch.Tensor:
            raise OSError("the disk that it waited on is gone")

    run = RunWriter.start(tmp_path / "x.run", Recipe())
    run.save_state({"pixels": InMemoryTensor(torch.ones(3))}, {**FACTS, "step": 1})
    assert not run.incomplete
    run.save_state({"pixels": InMemoryTensor(torch.zeros(3)), "more": Lost()}, {"step": 2})
    kept = runs.read_checkpoint(run.folder)
    assert run.incomplete and kept is not None and kept.values == {**FACTS, "step": 1}
    assert kept.tensors["pixels"].load().tolist() == [1, 1, 1]
    assert {path.name for path in run.folder.iterdir()} == {runs.RECIPE, runs.STATE, runs.LOCK}
    run.close()
    assert {path.name for path in run.folder.iterdir()} == {runs.RECIPE, runs.STATE}


def test_a_disk_too_full_for_the_record_gives_up_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise a picture that is finished would be gone on with for ever."""
    run = RunWriter.start(tmp_path / "x.run", Recipe())
    run.save_state({"pixels": InMemoryTensor(torch.ones(3))}, FACTS)
    (tmp_path / "x.png").write_bytes(b"the picture")
    write = writer.replace_file

    def full(target: Path, data: bytes) -> None:
        if (run.folder / runs.STATE).exists():
            raise CannotWrite("No space left on device")
        write(target, data)

    monkeypatch.setattr(writer, "replace_file", full)
    run.finish(tmp_path / "x.png", {"size": [1, 2]})
    assert (
        json.loads((run.folder / runs.RECORD).read_text()) == {"size": [1, 2]}
        and not run.incomplete
    )
    assert not (run.folder / runs.STATE).exists()


def test_what_a_killed_run_left_half_written_is_removed_when_it_goes_on(tmp_path: Path):
    run = RunWriter.start(tmp_path / "x.run", Recipe())
    run.close()
    for begin in (
        lambda: RunWriter.resume(run.folder, NAMED),
        lambda: RunWriter.start(run.folder, NAMED),
    ):
        for name in (runs.STATE, runs.PREVIEW, runs.RECORD):
            files.part_path(run.folder / name).write_bytes(b"half")
        begin().close()
        assert {path.name for path in run.folder.iterdir()} == {runs.RECIPE}


def test_a_run_that_is_complete_survives_a_request_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    output, folder = tmp_path / "out.png", tmp_path / "out.run"
    paint_to(inputs(), output=output, run=folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.undo()
    use_pocket_network(monkeypatch, tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadRequest):
        paint_to(inputs(device="cuda"), output=output, run=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


PAINTS_FOR_EVER = """
import sys, time
from pathlib import Path
from impasto.runs.writer import RunWriter
from impasto.recipe.records import Input, Recipe
named = Recipe(photo=Input(path="a.png", sha256="1"), paintings=(Input(path="b.png", sha256="2"),))
run = RunWriter.start(Path(sys.argv[1]), named)
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_two_programs_do_not_write_to_one_run(tmp_path: Path):
    output, folder = tmp_path / "out.png", tmp_path / "out.run"
    other = subprocess.Popen(
        [sys.executable, "-c", PAINTS_FOR_EVER, str(folder)], stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"begun\n"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    begun: list[Callable[[], object]] = [
        lambda: paint_to(inputs(), output=output, run=folder),
        lambda: paint_to(inputs(), output=output, run=folder, fresh=True),
        lambda: RunWriter.resume(folder, NAMED),
    ]
    for begin in begun:
        with pytest.raises(
            CannotWrite, match="Another impasto is painting with the run folder"
        ) as found:
            begin()
        assert "-o" in found.value.hint and not output.exists()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    paint_to(inputs(), output=output)  # without a run nobody is in the way
    other.kill()
    other.communicate()
    for _ in range(2):  # and one's own earlier run is in nobody's way, however it ended
        paint_to(inputs(), output=output, run=folder, overwrite=True)
        with pytest.raises(ZeroDivisionError):
            paint_to(
                inputs(),
                output=output,
                run=folder,
                overwrite=True,
                callbacks=Callbacks(cancel=lambda: bool(1 / 0)),
            )


def test_a_stopped_run_is_told_from_a_finished_one_in_its_folder(tmp_path: Path):
    paint_to(
        inputs(),
        output=tmp_path / "out.png",
        run=tmp_path / "out.run",
        callbacks=Callbacks(cancel=lambda: True),
    )
    lines = (tmp_path / "out.run" / runs.EVENTS).read_text("utf-8").splitlines()
    last = events.from_dict({k: v for k, v in json.loads(lines[-1]).items() if k != "time"})
    assert isinstance(last, events.Warned) and "Stopped" in last.message
