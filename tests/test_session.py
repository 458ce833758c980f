"""The public functions: from threads and event loops, with events and cancellation; and how many
calls lie between a command and the network.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import itertools
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import impasto
from impasto import events
from impasto.assets import catalogue
from impasto.errors import BadRecipe, CannotResume, CannotWrite, DoesNotFit
from impasto.geometry import Size
from impasto.networks import weights
from impasto.networks.convolution import Convolution
from impasto.recipe import loading
from impasto.runs import folder as runs
from tests.support.pictures import random_pixels, read_pixels
from tests.support.pocket_network import (
    PAIR,
    pocket_weights,
    set_speed,
)
from tests.support.program import run_command

SOURCE = Path(impasto.__file__).parent
QUICK: dict[str, Any] = {"size": 64, "iterations": 2}
TWO_STAGES: dict[str, Any] = {"size": 96, "iterations": (3, 3), "schedule_coarsest": 48}

MOST_FRAMES, MOST_MODULES = 12, 5


pytestmark = pytest.mark.usefixtures("pocket_pictures")


def stylize(**settings: Any) -> impasto.Painting:
    return impasto.stylize(*PAIR, **{**QUICK, **settings})


# ---- from a command to the network ---------------------------------------------------------------


def test_few_calls_lie_between_a_command_and_the_network(monkeypatch: pytest.MonkeyPatch):
    calls: list[list[str]] = []
    forward = Convolution.forward

    def recorded(self: Convolution, *args: Any) -> torch.Tensor:
        calls.append(_files_before_the_network())
        return forward(self, *args)

    monkeypatch.setattr(Convolution, "forward", recorded)
    options = ("--size", "64", "--iterations", "2", "--no-run", "--quiet")
    assert run_command("stylize", *PAIR, "-o", "out.png", *options) == 0
    # Convolutions also happen before the search: while the machine is timed, and for the targets.
    evaluations = [files for files in calls if files[-1] == "optimize/tiling.py"]
    steps = [files for files in evaluations if files.count("optimize/loop.py") == 4]
    assert steps
    for files in steps:
        assert files[0] == "cli/__init__.py"
        assert len(files) <= MOST_FRAMES, files
        modules = {"cli" if file.startswith("cli/") else file for file in files}
        assert len(modules) <= MOST_MODULES, modules


def _files_before_the_network() -> list[str]:
    """The package's files on the stack, a file for each call, down to the first of networks/."""
    frames = [Path(frame.filename) for frame in traceback.extract_stack()]
    files = [str(path.relative_to(SOURCE)) for path in frames if path.is_relative_to(SOURCE)]
    return list(itertools.takewhile(lambda file: not file.startswith("networks/"), files))


# ---- stylize, wherever it is called --------------------------------------------------------------


def test_twice_in_one_process_and_from_a_thread_it_is_the_same_picture():
    first, second = stylize(), stylize()
    with ThreadPoolExecutor(1) as pool:
        threaded = pool.submit(stylize).result()
    for painting in (second, threaded):
        np.testing.assert_array_equal(painting.pixels, first.pixels)


def test_two_threads_at_once_paint_what_each_paints_alone():
    """With different thread counts of torch, which belong to the process."""
    before = torch.get_num_threads()
    settings: list[dict[str, Any]] = [
        {"strength": 20, "iterations": 6, "threads": 1},
        {"strength": 80, "iterations": 6, "solver": "adam", "solver_rate": 0.02},
    ]
    alone = [stylize(**each) for each in settings]
    with ThreadPoolExecutor(2) as pool:
        together = [pool.submit(stylize, **each) for each in settings]
    for one, other in zip(alone, together, strict=True):
        # The number of threads decides how sums are rounded.
        np.testing.assert_allclose(other.result().pixels, one.pixels, atol=1e-3)
    assert np.abs(alone[0].pixels - alone[1].pixels).max() > 0.01
    assert torch.get_num_threads() == before


def test_two_threads_of_the_same_settings_give_the_same_bytes():
    alone = stylize(iterations=6)
    with ThreadPoolExecutor(2) as pool:
        together = [pool.submit(stylize, iterations=6) for _ in range(2)]
    for future in together:
        np.testing.assert_array_equal(future.result().pixels, alone.pixels)


def test_inside_an_event_loop_that_runs():
    expected = stylize()

    async def paint() -> tuple[impasto.Painting, impasto.Painting]:
        return stylize(), await asyncio.to_thread(stylize)

    for painting in asyncio.run(paint()):
        np.testing.assert_array_equal(painting.pixels, expected.pixels)


def test_arrays_pil_images_and_tensors_are_taken():
    photo, style = random_pixels(75, 100), random_pixels(60, 80, seed=1)
    expected = impasto.stylize(photo, style, **QUICK).pixels
    pil = impasto.stylize(Image.fromarray(photo), Image.fromarray(style), **QUICK)
    tensors = [torch.from_numpy(pixels).permute(2, 0, 1) for pixels in (photo, style)]
    np.testing.assert_array_equal(pil.pixels, expected)
    np.testing.assert_array_equal(impasto.stylize(*tensors, **QUICK).pixels, expected)


# ---- events, files and time ----------------------------------------------------------------------


def test_every_event_is_told_in_the_order_of_the_work():
    seen: list[events.Event] = []
    stylize(on_event=seen.append)
    names = [type(event).__name__ for event in seen]
    steps = ["Started", "Stepped", "Stepped", "StageDone"]
    assert names == ["InputsChecked", "Planned", *steps, "Finished"]


def test_cancel_ends_the_work_with_the_picture_so_far():
    seen: list[events.Event] = []
    painting = impasto.stylize(
        *PAIR, **TWO_STAGES, on_event=seen.append, cancel=lambda: len(_steps(seen)) == 2
    )
    assert len(_steps(seen)) == 2 and painting.record["stopped"] is True
    assert painting.size == Size(72, 96) and "Stopped after 2 of 6" in painting.notes[-1]


def test_a_callback_that_fails_ends_the_work_and_frees_the_run(tmp_path: Path):
    def fail(event: events.Event) -> None:
        if isinstance(event, events.Stepped):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stylize(output="out.png", run=True, on_event=fail)
    assert not Path("out.png").exists()
    assert stylize(output="out.png", run=True).record["output"] == str(tmp_path / "out.png")


def test_an_output_and_its_run_are_written(tmp_path: Path):
    painting = stylize(output="out.png", run=True, snapshots=[1])
    run = tmp_path / "out.png.run"
    assert painting.record["output"] == str(tmp_path / "out.png")
    np.testing.assert_array_equal(read_pixels("out.png"), np.asarray(painting.image))
    assert runs.read_record(run)["request"] == painting.recipe.sha256
    assert [count for count, _ in runs.snapshot_files(run)] == [1]
    again = stylize(output="out.png", run=True)
    assert any("painted before" in str(event) for event in _warnings(output="out.png", run=True))
    np.testing.assert_array_equal(np.asarray(again.image), np.asarray(painting.image))
    with pytest.raises(CannotWrite, match="exists already"):
        stylize(output="out.png", run=True, strength=20)
    changed = stylize(output="out.png", run=True, strength=20, overwrite=True)
    np.testing.assert_array_equal(read_pixels("out.png"), np.asarray(changed.image))


def test_a_folder_as_output_takes_a_name_from_the_sources(tmp_path: Path):
    first = impasto.stylize(*PAIR, output=f"{tmp_path}/made/", **QUICK)
    assert first.record["output"] == str(tmp_path / "made" / "photo-painting.png")
    pixels = random_pixels(75, 100)
    second = impasto.stylize(pixels, ["painting.png"], output=tmp_path / "made", **QUICK)
    assert second.record["output"] == str(tmp_path / "made" / "picture-painting.png")


def test_a_run_may_be_a_folder_of_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    stylize(output="~/out.png", run="~/log")
    assert Path("home/out.png").is_file() and Path("home/log", runs.RECORD).is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize("options", [{"run": True}, {"snapshots": "1"}, {"checkpoint_seconds": -1}])
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any]):
    with pytest.raises((CannotWrite, BadRecipe)):
        stylize(**options)


def test_a_text_as_time_chooses_size_and_evaluations(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-4)
    photo = random_pixels(300, 400)
    painting = impasto.stylize(photo, "painting.png", time="20 s", single_scale=True)
    assert painting.recipe.size == 128 and painting.recipe.schedule.iterations != (2,)
    assert painting.record["evaluations"] == painting.recipe.schedule.iterations[-1] + 1


def test_a_notebook_shows_a_png_of_at_most_1024_px():
    small = stylize()
    with Image.open(io.BytesIO(small._repr_png_())) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(small.image))
    pixels = np.random.default_rng(0).random((600, 1500, 3), np.float32)
    large = dataclasses.replace(small, pixels=pixels)
    with Image.open(io.BytesIO(large._repr_png_())) as image:
        assert image.format == "PNG" and image.size == (1024, 410)


def _steps(seen: list[events.Event]) -> list[events.Event]:
    return [event for event in seen if isinstance(event, events.Stepped)]


def _warnings(**options: Any) -> list[events.Event]:
    seen: list[events.Event] = []
    stylize(on_event=seen.append, **options)
    return [event for event in seen if isinstance(event, events.Warned)]


# ---- the other functions -------------------------------------------------------------------------


def test_resume_continues_a_run_and_tells_its_events():
    whole = impasto.stylize(*PAIR, **TWO_STAGES)
    seen: list[events.Event] = []
    options: dict[str, Any] = {"output": "out.png", "run": True}
    impasto.stylize(*PAIR, **TWO_STAGES, **options, cancel=lambda: True)
    stopped = impasto.resume("out.png.run", on_event=seen.append, cancel=lambda: True)
    assert stopped.record["stopped"] and len(_steps(seen)) == 1
    painting = impasto.resume("out.png.run", on_event=seen.append)
    assert len(_steps(seen)) == 5
    np.testing.assert_array_equal(painting.pixels, whole.pixels)
    np.testing.assert_array_equal(read_pixels("out.png"), np.asarray(whole.image))
    with pytest.raises(CannotResume):
        impasto.resume("out.png.run")


def test_plan_is_what_the_session_plans_and_writes_nothing(monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-4)
    before = set(Path().iterdir())
    planned = impasto.plan(*PAIR, **TWO_STAGES)
    assert planned.size == Size(72, 96)
    assert planned.stages == ((Size(36, 48), 3), (Size(72, 96), 3))
    session = impasto.prepare(*PAIR, **TWO_STAGES)
    assert (session.plan.size, session.plan.stages) == (planned.size, planned.stages)
    assert (session.plan.seconds, session.plan.kernel) == (planned.seconds, planned.kernel)
    assert set(Path().iterdir()) - before <= {Path("cache")}
    with pytest.raises(DoesNotFit):
        impasto.plan(*PAIR, size=8000, memory="500MB")


def test_prepare_run_and_result_are_stylize():
    session = impasto.prepare(*PAIR, "draft", **QUICK)
    assert isinstance(session, impasto.Session)
    *_, (last, state) = session.run()
    assert isinstance(last, events.Finished)
    painting = session.result(state, last.seconds)
    expected = stylize(recipe="draft")
    np.testing.assert_array_equal(painting.pixels, expected.pixels)
    assert painting.recipe == expected.recipe and painting.record["loss"] == expected.record["loss"]
    again = [state for _, state in session.run()][-1]  # a session can be run again
    assert torch.equal(again.pixels, state.pixels)


def test_museum_and_recipes_list_what_there_is():
    works = impasto.museum()
    assert len(works) > 100 and {"irises"} <= {work.slug for work in works}
    assert [work.slug for work in impasto.museum("gogh irises")] == ["irises"]
    assert impasto.museum("no such painting at all") == []
    recipes = impasto.recipes()
    assert next(iter(recipes)) == loading.DEFAULT_RECIPE and {"draft", "best"} <= set(recipes)
    assert all(isinstance(recipe, impasto.Recipe) for recipe in recipes.values())
    assert impasto.load_recipe("draft", {"size": 64}).size == 64


@pytest.mark.slow
def test_a_report_and_a_film_of_a_run(tmp_path: Path):
    impasto.stylize(*PAIR, **TWO_STAGES, output="out.png", run=True, snapshots="every=1")
    page = impasto.report("out.png.run", gradients=False)
    assert page == tmp_path / "out.png.report.html" and "<html" in page.read_text("utf-8")
    film = impasto.timelapse("out.png", "film.gif", fps=5, size=48)
    with Image.open(film) as image:
        assert (image.format, max(image.size)) == ("GIF", 48)
    with pytest.raises(CannotWrite, match=r"film\.gif exists already"):
        impasto.timelapse("out.png", "film.gif")
    assert impasto.timelapse("out.png", "film.gif", size=64, overwrite=True) == film
    with pytest.raises(impasto.BadRequest):
        impasto.report("photo.png")


def test_fetch_tells_the_progress_of_each_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folders: list[Path | None] = []

    def fetch_all(progress: catalogue.Progress, to: Path | None) -> list[Path]:
        folders.append(to)
        progress("vgg19", 5, 10)
        return [tmp_path / "vgg19"]

    monkeypatch.setattr(catalogue, "fetch_all", fetch_all)
    seen: list[events.Event] = []
    assert impasto.fetch(str(tmp_path), on_event=seen.append) == [tmp_path / "vgg19"]
    assert seen == [events.Downloading("vgg19", 5, 10)]
    assert impasto.fetch() == [tmp_path / "vgg19"] and folders == [tmp_path, None]


def test_a_download_is_told_while_a_picture_is_read(monkeypatch: pytest.MonkeyPatch):
    def load(name: str, progress: catalogue.Progress, **_: object) -> dict[str, torch.Tensor]:
        progress(name, 1, 2)
        return pocket_weights("E")

    monkeypatch.setattr(weights, "load", load)
    seen: list[events.Event] = []
    stylize(on_event=seen.append)
    assert seen[1] == events.Downloading("vgg19", 1, 2)
