"""What was begun is never lost: a run that was stopped or killed goes on, and ends with the bytes
of an undisturbed one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import impasto.session
from impasto import api, images
from impasto.errors import CannotResume, DoesNotFit, NotSaved, OutOfMemory
from impasto.events import Callbacks, Event, Planned, Stepped, Warned
from impasto.geometry import Size
from impasto.hardware import kernel_cache
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.features import Network
from impasto.optimize import lbfgs, loop, solver_factory, upscale
from impasto.optimize.state import State
from impasto.planning import memory as planning
from impasto.planning import network_choice, speed
from impasto.recipe import records
from impasto.runs import folder as runs
from impasto.runs.destination import Destination
from impasto.runs.recorder import Recorder
from impasto.runs.snapshots import Snapshots
from impasto.runs.writer import RunWriter
from impasto.session import Session
from impasto.storage import tensors as tensors_
from impasto.storage.tensors import InMemoryTensor
from tests.support.small_runs import make_inputs, paint_to, stop_after


@pytest.mark.slow
@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8])
def test_a_stopped_run_goes_on_to_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, solver: str, steps: int
):
    settings = {"solver": solver, "solver_rate": 1 if solver == "lbfgs" else 0.02}
    whole = paint_to(make_inputs(tmp_path, **settings))
    callbacks, _ = stop_after(steps)
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    paint_to(make_inputs(tmp_path, **settings), output=out, run=run, callbacks=callbacks)
    assert not (run / runs.RECORD).exists()
    seen: list[Event] = []
    resumed = paint_to(
        make_inputs(tmp_path, **settings), output=out, run=run, callbacks=Callbacks(seen.append)
    )
    assert resumed.pixels.tobytes() == whole.pixels.tobytes()
    assert sum(isinstance(event, Stepped) for event in seen) == 9 - steps
    assert any(
        isinstance(event, Warned) and f"after {steps} of 9" in event.message for event in seen
    )
    assert resumed.record["evaluations"] == whole.record["evaluations"] == 10
    assert (run / runs.RECORD).exists() and not (run / runs.STATE).exists()


SEARCHES: dict[str, dict[str, object]] = {
    "sgd": {"solver": "sgd", "solver_rate": 100, "solver_rate_decay": 0.9},
    "averaged and carried": {
        "solver": "adam",
        "solver_rate": 0.02,
        "solver_average": 0.9,
        "solver_carry": True,
    },
    "along a line": {"solver_line_search": "strong-wolfe", "solver_average": 0.5, "solver_rate": 4},
}


@pytest.mark.slow
@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("steps", [2, 4, 7])
def test_a_stopped_run_of_any_search_goes_on_to_the_same_bytes_and_shows_its_average(
    tmp_path: Path, search: str, steps: int
):
    whole = paint_to(make_inputs(tmp_path, **SEARCHES[search]))
    callbacks, _ = stop_after(steps)
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    stopped = paint_to(
        make_inputs(tmp_path, **SEARCHES[search]), output=out, run=run, callbacks=callbacks
    )
    tensors, _ = tensors_.open_safetensors(run / runs.STATE)
    shown = tensors["average" if "average" in tensors else "best"].load()
    assert ("average" in tensors) == ("solver_average" in SEARCHES[search])
    if shown.shape[-1] == 96:
        assert np.array_equal(stopped.pixels, images.from_tensor(shown).clip(0, 1))
    assert api.resume(run).pixels.tobytes() == whole.pixels.tobytes()


@pytest.mark.usefixtures("pocket")
def test_resume_by_the_folder(tmp_path: Path):
    whole = paint_to(make_inputs(tmp_path))
    callbacks, _ = stop_after(3)
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    out.unlink()
    assert api.resume(run).pixels.tobytes() == whole.pixels.tobytes()
    assert out.is_file()
    with pytest.raises(CannotResume, match="is complete"):
        api.resume(run)
    with pytest.raises(CannotResume, match="holds no state"):
        api.resume(tmp_path)


@pytest.mark.usefixtures("pocket")
def test_a_run_is_gone_on_with_by_the_methods_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever this machine would choose now: another method for one shape is another rounding."""
    begun = replace(KERNELS["conv2d"], methods={(3, 4, 64): "packed", (4, 4, 32): "conv2d"})
    used: list[Kernel] = []

    def made(*given: Any, kernel: Kernel, **more: Any) -> Network:
        used.append(kernel)
        return Network(*given, kernel=kernel, **more)

    monkeypatch.setattr(network_choice, "Network", made)
    monkeypatch.setattr(kernel_cache, "fastest_kernel", lambda precision, where: begun)
    whole = paint_to(make_inputs(tmp_path))
    callbacks, _ = stop_after(3)
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    monkeypatch.setattr(
        kernel_cache, "fastest_kernel", lambda precision, where: KERNELS["channels-last"]
    )
    assert api.resume(run).pixels.tobytes() == whole.pixels.tobytes()
    assert used == [begun] * 3
    paint_to(make_inputs(tmp_path), output=out, run=run, fresh=True)
    assert used[3:] == [KERNELS["channels-last"]]


@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("more", [{"fresh": True}, {"strength": 70}])
def test_fresh_and_another_recipe_start_over(tmp_path: Path, more: dict[str, Any]):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    seen: list[Event] = []
    asked = make_inputs(tmp_path, strength=more.get("strength", 50))
    paint_to(asked, output=out, run=run, callbacks=Callbacks(seen.append), fresh="fresh" in more)
    assert sum(isinstance(event, Stepped) for event in seen) == 9


@pytest.mark.usefixtures("pocket")
def test_a_changed_photo_is_not_gone_on_with(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    Image.fromarray(np.full((48, 64, 3), 7, np.uint8)).save(tmp_path / "photo.png")
    with pytest.raises(CannotResume, match="has changed"):
        api.resume(run)


@pytest.mark.usefixtures("pocket")
def test_a_damaged_state_says_so(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    (run / runs.STATE).write_bytes(b"not a state")
    with pytest.raises(CannotResume, match="cannot be read") as found:
        paint_to(make_inputs(tmp_path), output=out, run=run)
    assert "--fresh" in found.value.hint
    assert (
        paint_to(make_inputs(tmp_path), output=out, run=run, fresh=True).record["evaluations"] == 10
    )


def _cut(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def _rewritten(
    change: Callable[[dict[str, InMemoryTensor], dict[str, Any]], object],
) -> Callable[[Path], None]:
    """The state with its tensors and facts changed, as another version or a wilful hand would leave
    it.
    """

    def rewrite(state: Path) -> None:
        waiting, metadata = tensors_.open_safetensors(state)
        tensors, facts = (
            {name: InMemoryTensor(kept.load()) for name, kept in waiting.items()},
            json.loads(metadata["facts"]),
        )
        change(tensors, facts)
        state.write_bytes(
            b"".join(tensors_.safetensors_parts(tensors, {"facts": json.dumps(facts)}))
        )

    return rewrite


def _older(state: Path) -> None:
    state.write_bytes(
        b"".join(
            tensors_.safetensors_parts(
                {"pixels": InMemoryTensor(torch.zeros(1, 3, 36, 48))}, {"state": "{}"}
            )
        )
    )


FACTS = (
    "stage",
    "step",
    "evaluations",
    "averaged",
    "high_loss_streak",
    "restarts",
    "tile",
    "loss",
    "lowest",
    "tensors",
    "format",
)
RUN_FACTS = ("request", "recipe_sha256", "kernel", "seconds", "output")
STRANGE: dict[str, Callable[[Path], None]] = {
    "cut short": _cut,
    "of an older version": _older,
    "of no version": _rewritten(lambda tensors, facts: facts.pop("format")),
    "no facts but a list": _rewritten(lambda tensors, facts: facts.clear()),
    **{
        f"no {name}": _rewritten(lambda t, facts, name=name: facts.pop(name))
        for name in (*FACTS, *RUN_FACTS)
    },
    **{
        f"strange {name}": _rewritten(lambda t, facts, name=name: facts.update({name: [1]}))
        for name in (*FACTS, *RUN_FACTS)
    },
    "stage of no plan": _rewritten(lambda tensors, facts: facts.update(stage=7)),
    "step of no stage": _rewritten(lambda tensors, facts: facts.update(step=70)),
    "below nought": _rewritten(lambda tensors, facts: facts.update(step=-1)),
    "a loss that is none": _rewritten(
        lambda tensors, facts: facts.update(loss=[1.0, {"style": "low"}])
    ),
    "another kernel": _rewritten(lambda tensors, facts: facts.update(kernel="abacus")),
    "no pixels": _rewritten(lambda tensors, facts: tensors.pop("pixels")),
    "no memory": _rewritten(lambda tensors, facts: tensors.pop("memory.curvature")),
    "pixels of another size": _rewritten(
        lambda tensors, facts: (
            tensors.update(pixels=InMemoryTensor(torch.zeros(1, 3, 9, 9))),
            facts["tensors"].update(pixels=["torch.float32", 1, 3, 9, 9]),
        )
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("strange", STRANGE)
def test_a_state_that_cannot_be_gone_on_with_says_what_to_do_and_loses_nothing(
    tmp_path: Path, strange: str
):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    STRANGE[strange](run / runs.STATE)
    before = {path: path.read_bytes() for path in (out, *run.iterdir())}
    for again in (
        lambda: paint_to(make_inputs(tmp_path), output=out, run=run),
        lambda: api.resume(run),
    ):
        with pytest.raises(CannotResume, match=r"out\.png\.run cannot be continued") as found:
            again()
        assert "--fresh" in found.value.hint
        assert {path: path.read_bytes() for path in (out, *run.iterdir())} == before
    assert (
        paint_to(make_inputs(tmp_path), output=out, run=run, fresh=True).record["evaluations"] == 10
    )


@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("text", [None, "size = = 3", "size = 700000", "size = 96"])
def test_a_run_without_the_recipe_that_it_began_with_is_not_gone_on_with(
    tmp_path: Path, text: str | None
):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks, **TIMED)
    (run / runs.RECIPE).unlink()
    if text is not None:
        (run / runs.RECIPE).write_text(text)
    for again in (
        lambda: paint_to(make_inputs(tmp_path), output=out, run=run, **TIMED),
        lambda: api.resume(run),
    ):
        with pytest.raises(CannotResume, match=r"recipe\.toml") as found:
            again()
        assert "--fresh" in found.value.hint and (run / runs.STATE).exists()


@pytest.mark.usefixtures("pocket")
def test_states_are_written_while_it_paints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []
    monkeypatch.setattr(
        RunWriter, "save_state", lambda run, tensors, facts: written.append(facts["evaluations"])
    )
    run = tmp_path / "x.run"
    paint_to(make_inputs(tmp_path), run=run, checkpoint_seconds=0)
    assert written == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9]  # each step, and the end of each stage
    written.clear()
    paint_to(make_inputs(tmp_path), run=run, checkpoint_seconds=1e9)
    assert written == [4, 9]


@pytest.mark.usefixtures("pocket")
def test_a_large_state_is_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that writing takes up no more than a hundredth of the time, however slow the disk is."""
    written: list[int] = []
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def keep(run: RunWriter, tensors: object, facts: dict[str, int]) -> None:
        written.append(facts["evaluations"])
        now[0] += 0.001

    monkeypatch.setattr(RunWriter, "save_state", keep)
    run = RunWriter.start(tmp_path / "x.run", records.Recipe())
    session = Session.open(make_inputs(tmp_path))
    place = Destination(None, run.folder)
    follow = Recorder(session, place, run, "", Snapshots(), 1e-3, lambda event: None)
    follow(Planned(Size(48, 64), (), "cpu", "conv2d", 1.0, 1, 1), State(torch.zeros(1, 3, 2, 2)))
    for step in range(1, 101):
        state = State(torch.zeros(1, 3, 2, 2), evaluations=step)
        follow(Stepped(0, step, step, 1.0, {}, seconds=0.01 * step), state)
    # Each took a tenth of a step: every tenth step, but for rounding.
    assert 9 <= len(written) <= 10 and all(
        later - earlier >= 10 for earlier, later in pairwise(written)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_state_may_lie_in_tiles_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solver: str
):
    """Stopped where memory was short, gone on with where it is plenty, and the other way round."""
    settings = {"solver": solver, "solver_rate": 1 if solver == "lbfgs" else 0.02, "tile": 48}
    whole = paint_to(make_inputs(tmp_path, **settings))
    for first in (True, False):
        out, run = tmp_path / f"{first}.png", tmp_path / f"{first}.png.run"
        for on_disk, steps in ((first, 3), (not first, 3), (first, 9)):
            way = planning.ExecutionPlan(48, targets_on_disk=on_disk, history_on_disk=on_disk)
            monkeypatch.setattr(planning, "choose_execution", lambda *_, way=way: way)
            callbacks, seen = stop_after(steps)
            painting = paint_to(
                make_inputs(tmp_path, **settings), output=out, run=run, callbacks=callbacks
            )
        assert len([event for event in seen if isinstance(event, Stepped)]) == 3
        assert painting.pixels.tobytes() == whole.pixels.tobytes()


@pytest.mark.usefixtures("pocket")
def test_another_limit_on_memory_is_no_other_run(tmp_path: Path):
    whole = paint_to(make_inputs(tmp_path))
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    for steps, memory in ((3, "4GB"), (3, "2GB"), (9, "0")):
        callbacks, seen = stop_after(steps)
        painting = paint_to(
            make_inputs(tmp_path, memory=memory), output=out, run=run, callbacks=callbacks
        )
    assert sum(isinstance(event, Stepped) for event in seen) == 3
    assert painting.pixels.tobytes() == whole.pixels.tobytes()


# ---- memory that runs out ------------------------------------------------------------------------

OUT = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate"
)


def lacking(
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    error: Exception,
    first: int = 1,
    last: int = 10**9,
) -> None:
    """There is no memory for some calls of a function, counted from 1."""
    work, calls = getattr(owner, name), [0]

    def lacks(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if first <= calls[0] <= last:
            raise error
        return work(*given, **named)

    monkeypatch.setattr(owner, name, lacks)


@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("error", [OUT, MemoryError()], ids=["torch", "python"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Network, "__init__"),
        (speed, "measure_speed"),
        (impasto.session, "first_pixels"),
        (images, "to_tensor"),
    ],
)
def test_memory_that_runs_out_before_the_first_step_is_said_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception
):
    asked = make_inputs(tmp_path)
    lacking(monkeypatch, owner, name, error)
    with pytest.raises(DoesNotFit, match="not enough memory") as found:
        paint_to(asked, output=tmp_path / "out.png", run=tmp_path / "out.png.run")
    assert "--size" in found.value.hint
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "out.png.run").exists()


@pytest.mark.usefixtures("pocket")
def test_memory_that_runs_out_when_a_run_is_gone_on_with_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = paint_to(make_inputs(tmp_path))
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks)
    with monkeypatch.context() as patch:
        lacking(patch, State, "unpack", OUT)
        with pytest.raises(DoesNotFit):
            paint_to(make_inputs(tmp_path), output=out, run=run)
    assert (
        paint_to(make_inputs(tmp_path), output=out, run=run).pixels.tobytes()
        == whole.pixels.tobytes()
    )


@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("error", [OUT, MemoryError()], ids=["torch", "python"])
def test_states_and_previews_that_memory_is_lacking_for_do_not_take_the_picture_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    whole = paint_to(make_inputs(tmp_path))
    lacking(monkeypatch, tensors_, "safetensors_parts", error)
    lacking(monkeypatch, images, "reduced", error, last=2)  # the preview after each size
    seen: list[Event] = []
    found = paint_to(
        make_inputs(tmp_path),
        output=tmp_path / "out.png",
        run=tmp_path / "out.run",
        callbacks=Callbacks(seen.append),
    )
    assert found.pixels.tobytes() == whole.pixels.tobytes() and (tmp_path / "out.png").exists()
    assert any(
        isinstance(event, Warned) and "could not be written in full" in event.message
        for event in seen
    )


@pytest.mark.slow
@pytest.mark.usefixtures("pocket")
@pytest.mark.parametrize("error", [OUT, MemoryError()], ids=["torch", "python"])
@pytest.mark.parametrize("where", ["grow", "make", "move", "pixels", "save"])
def test_a_run_that_memory_ran_out_in_is_gone_on_with_where_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
):
    whole = paint_to(make_inputs(tmp_path))
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    expected = OutOfMemory if where in ("grow", "make", "move") else NotSaved
    with monkeypatch.context() as patch:
        if where == "grow":
            lacking(patch, upscale, "upscale_pixels", error)
        elif where == "make":
            lacking(patch, solver_factory, "make_solver", error, first=2)
        elif where == "move":
            lacking(patch, lbfgs.LBFGS, "move", error, first=6)
        elif where == "pixels":
            lacking(patch, images, "from_tensor", error)
        else:
            lacking(patch, images, "save", error, first=3)
        with pytest.raises(expected) as found:
            paint_to(make_inputs(tmp_path), output=out, run=run)
    assert "emory" in found.value.message and "The same command continues" in found.value.hint
    assert out.exists() == (where in ("grow", "make", "move")) and not (run / runs.RECORD).exists()
    if out.exists():
        assert str(out) in found.value.hint and images.read(out, max_megapixels=1).size == Size(
            72, 96
        )
    seen: list[Event] = []
    again = paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=Callbacks(seen.append))
    assert again.pixels.tobytes() == whole.pixels.tobytes()
    assert sum(isinstance(event, Stepped) for event in seen) <= 5


@pytest.mark.usefixtures("pocket")
def test_a_move_without_memory_is_made_again_with_what_can_wait_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lacking(monkeypatch, lbfgs.LBFGS, "move", OUT, first=6, last=6)
    seen: list[Event] = []
    found = paint_to(
        make_inputs(tmp_path), run=tmp_path / "out.run", callbacks=Callbacks(seen.append)
    )
    assert [event.message for event in seen if isinstance(event, Warned)][-1].endswith(
        "with tensors stored on disk."
    )
    assert (
        found.record["evaluations"] == 10 and sum(isinstance(event, Stepped) for event in seen) == 9
    )


TIMED = {"seconds": 1000.0, "fixed": frozenset({"size", "iterations"})}


@pytest.mark.usefixtures("pocket")
def test_a_run_in_a_given_time_keeps_the_memory_that_is_given_now(tmp_path: Path):
    run = tmp_path / "out.png.run"
    callbacks, _ = stop_after(3)
    paint_to(make_inputs(tmp_path, memory="3GB"), run=run, callbacks=callbacks, **TIMED)
    with pytest.raises(DoesNotFit, match=r"allows 0\.1 GB"):
        paint_to(make_inputs(tmp_path, memory="100MB"), run=run, **TIMED)
    assert (
        paint_to(make_inputs(tmp_path, memory="2GB"), run=run, **TIMED).record["evaluations"] == 10
    )
    assert runs.read_recipe(run).compute.memory == 2_000_000_000


@pytest.mark.usefixtures("pocket")
def test_the_time_spent_before_an_interruption_counts_but_is_not_the_pace(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    for spent, expected in ((0.0, 3), (500.0, 3), (999.9999, 1)):
        callbacks, _ = stop_after(6)  # in the last size, with three steps to go
        paint_to(
            make_inputs(tmp_path), output=out, run=run, callbacks=callbacks, fresh=True, **TIMED
        )
        kept = runs.read_checkpoint(run)
        assert kept is not None
        tensors = {name: InMemoryTensor(tensor.load()) for name, tensor in kept.tensors.items()}
        RunWriter(run).save_state(tensors, {**kept.values, "seconds": spent})
        seen: list[Event] = []
        painting = paint_to(
            make_inputs(tmp_path), output=out, run=run, callbacks=Callbacks(seen.append), **TIMED
        )
        assert sum(isinstance(event, Stepped) for event in seen) == expected
        assert painting.record["seconds"] >= spent


@pytest.mark.usefixtures("pocket")
def test_a_run_in_a_given_time_is_gone_on_with_by_its_folder_and_by_its_command(tmp_path: Path):
    out, run = tmp_path / "out.png", tmp_path / "out.png.run"
    whole = paint_to(make_inputs(tmp_path))
    callbacks, _ = stop_after(2)
    paint_to(make_inputs(tmp_path), output=out, run=run, callbacks=callbacks, **TIMED)
    callbacks, _ = stop_after(3)
    api.resume(run, on_event=callbacks.on_event, cancel=callbacks.cancel)
    seen: list[Event] = []
    painting = paint_to(
        make_inputs(tmp_path), output=out, run=run, callbacks=Callbacks(seen.append), **TIMED
    )
    assert sum(isinstance(event, Stepped) for event in seen) == 4
    assert painting.pixels.tobytes() == whole.pixels.tobytes()


@pytest.mark.slow
@pytest.mark.usefixtures("pocket")
def test_a_restart_and_a_rest_survive_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What the guard and patience remember is in the state that is written down."""
    call, calls = Network.__call__, [0]

    def once(self: Network, picture: torch.Tensor, **how: Any) -> dict[str, torch.Tensor]:
        found = call(self, picture, **how)
        calls[0] += picture.requires_grad
        wrong = picture.requires_grad and 2 <= calls[0] < 2 + loop.MAX_HIGH_LOSSES
        return {name: map_ * 1e4 for name, map_ in found.items()} if wrong else found

    monkeypatch.setattr(Network, "__call__", once)
    monkeypatch.setattr(
        speed, "measure_speed", lambda *_: speed.Speed((100, 0.0, 1.0), (200, 0.0, 2.0))
    )
    settings = {"patience": 3, "solver_rate": 0.01, "iterations": "9,9", "style_statistics": "gram"}
    ends, said = [], []
    for stops in ((), (1, 1, 1, 1, 1, 1, 1, 1), (3, 3), (5, 2)):
        calls[0] = 0
        seen: list[Event] = []
        run = tmp_path / f"{len(ends)}.run"
        for steps in stops:
            callbacks, part = stop_after(steps)
            paint_to(make_inputs(tmp_path, **settings), run=run, callbacks=callbacks)
            seen += part
        ends.append(
            paint_to(make_inputs(tmp_path, **settings), run=run, callbacks=Callbacks(seen.append))
        )
        said.append([event.message for event in seen if isinstance(event, Warned)])
    assert any("half the step" in message for message in said[0])
    assert any("Nothing visible has changed in 3" in message for message in said[0])
    for end in ends:
        assert end.pixels.tobytes() == ends[0].pixels.tobytes()
        assert end.record["evaluations"] == ends[0].record["evaluations"] < 19


ROOT = Path(__file__).parents[1]  # where ``tests`` can be imported

# Paints in children of its own, each of which is killed at a call of any Python or C function,
# drawn at random.
KILLED_ANYWHERE = """
import os, random, signal, sys
from pathlib import Path
import pytest, torch
sys.path.insert(0, sys.argv[1])
from tests.support.pictures import save_random
from tests.support.pocket_network import use_pocket_network
from impasto import cli
from impasto.planning import network_choice, speed

torch.set_num_threads(1)
use_pocket_network(pytest.MonkeyPatch(), Path.cwd())
fixed = speed.Speed((100, 0.0, 1.0), (200, 0.0, 2.0))
pytest.MonkeyPatch().setattr(speed, "measure_speed", lambda *_: fixed)
save_random("photo.png", 48, 64)
save_random("painting.png", 50, 40, seed=1)
words = ["stylize", "photo.png", "painting.png", "--size", "64", "--schedule-coarsest", "45"]
words += ["--iterations", "4,5", "--checkpoint", "0", "--solver-history", "3"]
words += ["--patience", "4", "-q"]

def paint(output, kill_at):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    calls = 0
    def tick(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(tick)
    cli.main([*words, "-o", output])
    sys.setprofile(None)
    Path("calls").write_text(str(calls))
    os._exit(0)

cli.main([*words, "-o", "first.png"])  # what is imported on the way is here now
assert paint("whole.png", 0) == 0
calls, chance, killed = int(Path("calls").read_text()), random.Random(int(sys.argv[2])), 0
for _ in range(int(sys.argv[3])):
    status = paint("killed.png", chance.randint(1, calls))
    killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    if status == 0:  # it came to its end first: another beginning
        assert Path("killed.png").read_bytes() == Path("whole.png").read_bytes()
assert paint("killed.png", 0) == 0
print(killed)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="no fork or no SIGKILL here"
)
def test_killed_at_any_call_at_all_it_ends_with_the_same_bytes(tmp_path: Path):
    """Also in the midst of writing a state, the picture or the record."""
    words = [sys.executable, "-c", KILLED_ANYWHERE, str(ROOT), "0", "16"]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 5
    whole, killed = tmp_path / "whole.png", tmp_path / "killed.png"
    assert whole.read_bytes() == killed.read_bytes()
    run = tmp_path / "killed.png.run"
    assert (run / runs.RECORD).exists() and not (run / runs.STATE).exists()
    # Nothing half-written is left, beside the picture neither.
    assert [path.name for path in tmp_path.rglob(".*")] == []


@pytest.mark.network
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path):
    Image.fromarray(skimage.data.astronaut()[::4, ::4]).save(tmp_path / "photo.png")
    words = [
        sys.executable,
        "-m",
        "impasto",
        "stylize",
        "photo.png",
        "irises",
        "--size",
        "96",
        "--iterations",
        "12,10",
    ]
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
    read = [
        images.read(tmp_path / name, max_megapixels=1).pixels
        for name in ("whole.png", "killed.png")
    ]
    assert read[0].tobytes() == read[1].tobytes()
