"""The Python API: what it accepts and returns, what it leaves alone, and how runs stop or fail."""

from __future__ import annotations

import copy
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import impasto
from impasto import api, events, images
from impasto.errors import (
    BadPicture,
    BadRecipe,
    BadRequest,
    CannotWrite,
    Diverged,
    DoesNotFit,
    Failed,
    UnknownName,
)
from impasto.events import Callbacks
from impasto.geometry import Size
from impasto.images.recipe_source import load_recipe
from impasto.inputs import Inputs, read_inputs, read_recipe_inputs
from impasto.networks import weights
from impasto.optimize import lbfgs, loop, solver_factory
from impasto.optimize import solver as solver_
from impasto.recipe import loading, records
from impasto.runs import folder as runs
from tests.support.pictures import random_pixels, save_random, stub_museum
from tests.support.pocket_network import return_nan_when, set_speed
from tests.support.small_runs import paint_to

QUICK: dict[str, Any] = {"size": 64, "iterations": 2}
TWO_STAGES: dict[str, Any] = {"size": 96, "iterations": (3, 3), "schedule_coarsest": 48}


pytestmark = pytest.mark.usefixtures("pocket_pictures")


def make_inputs(
    settings: dict[str, Any] | None = None,
    photo: object = "photo.png",
    style: object = "painting.png",
) -> Inputs:
    return read_inputs(photo, style, loading.with_settings(records.Recipe(), settings or QUICK))


# ---- what it takes -------------------------------------------------------------------------------


def _as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


SOURCES: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "array uint8": lambda a: a,
    "array float32": lambda a: a.astype(np.float32) / 255,
    "array float64": lambda a: a / 255,
    "array uint16": lambda a: a.astype(np.uint16) * 257,
    "PIL image": Image.fromarray,
    "tensor uint8": _as_tensor,
    "tensor float32": lambda a: _as_tensor(a).float() / 255,
    "tensor float64, batch of one": lambda a: _as_tensor(a).double()[None] / 255,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_picture_in_any_form_gives_the_same_painting_and_is_not_changed(kind: str):
    photo, painting = (
        SOURCES[kind](random_pixels(75, 100)),
        SOURCES[kind](random_pixels(60, 80, seed=1)),
    )
    before = [copy.deepcopy(photo), copy.deepcopy(painting)]
    found = impasto.stylize(photo, painting, **QUICK)
    expected = impasto.stylize("photo.png", Path("painting.png"), **QUICK)
    assert found.pixels.shape == (48, 64, 3) and found.pixels.dtype == np.float32
    np.testing.assert_allclose(found.pixels, expected.pixels, atol=1e-3)
    for was, source in zip(before, (photo, painting), strict=True):
        np.testing.assert_array_equal(np.asarray(was), np.asarray(source))


def test_arrays_that_may_not_be_written_to_are_taken():
    photo, painting = random_pixels(75, 100), random_pixels(60, 80, seed=1)
    photo.setflags(write=False)
    painting.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it is handed such an array
        assert impasto.stylize(photo, painting, **QUICK).pixels.shape == (48, 64, 3)


def test_a_tensor_that_takes_part_in_a_graph_is_taken():
    leaf = torch.rand(3, 75, 100, requires_grad=True)
    impasto.stylize(leaf * 1.0, "painting.png", **QUICK)
    assert leaf.grad is None


def test_a_museum_name_is_a_style_and_is_credited(monkeypatch: pytest.MonkeyPatch):
    stub_museum(monkeypatch)
    found = impasto.stylize("photo.png", "wheat-field-with-cypresses", **QUICK)
    assert found.credit.startswith("Vincent van Gogh, Wheat Field with Cypresses, 1889.")
    assert found.recipe.paintings[0].path == "wheat-field-with-cypresses"
    assert found.record["credit"] == found.credit


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_styles_are_blended(kind: type):
    save_random("other.png", 60, 80, seed=2)
    bold = {"size": 64, "iterations": 8, "strength": 90, "smooth_weight": 0}
    both = impasto.stylize("photo.png", kind(["painting.png", "other.png"]), **bold)
    alone = [impasto.stylize("photo.png", style, **bold) for style in ("painting.png", "other.png")]
    assert [Path(painting.path).name for painting in both.recipe.paintings] == [
        "painting.png",
        "other.png",
    ]
    for one in alone:
        assert np.abs(one.pixels - both.pixels).max() > 0.01
    swapped = impasto.stylize("photo.png", ["other.png", "painting.png"], **bold)
    np.testing.assert_allclose(swapped.pixels, both.pixels, atol=1e-3)


def test_a_file_wins_over_a_painting_of_the_museum(monkeypatch: pytest.MonkeyPatch):
    stub_museum(monkeypatch)
    save_random("irises.png", 60, 80, seed=3)
    Path("irises").write_bytes(Path("irises.png").read_bytes())
    assert impasto.stylize("photo.png", "irises", **QUICK).credit == ""


# ---- what it refuses -----------------------------------------------------------------------------


def test_an_unknown_field_is_refused_with_a_suggestion():
    with pytest.raises(BadRecipe, match="strenght") as found:
        impasto.stylize("photo.png", "painting.png", strenght=70)
    assert "strength" in found.value.hint


def test_a_value_out_of_range_is_refused_with_the_range():
    with pytest.raises(BadRecipe, match="strength is 200") as found:
        impasto.stylize("photo.png", "painting.png", strength=200)
    assert "0 to 100" in found.value.hint


@pytest.mark.parametrize(
    "source", [None, 3, b"photo.png", np.zeros((5, 5, 7)), np.full((40, 40, 3), np.nan)]
)
def test_what_is_no_picture_is_refused(source: object):
    with pytest.raises(BadPicture):
        impasto.stylize(source, "painting.png", **QUICK)
    with pytest.raises(BadPicture):
        impasto.stylize("photo.png", [source], **QUICK)


def test_no_style_at_all_is_refused():
    with pytest.raises(BadPicture, match="No painting"):
        impasto.stylize("photo.png", [], **QUICK)


def test_a_painting_name_too_long_for_a_file_is_refused_like_any_other():
    with pytest.raises(UnknownName):
        impasto.stylize("photo.png", "a" * 300, **QUICK)


def test_a_recipe_that_weighs_nothing_is_refused():
    with pytest.raises(BadRequest):
        impasto.stylize(
            "photo.png", "painting.png", content_weight=0, style_weight=0, smooth_weight=0, **QUICK
        )


def test_a_line_search_goes_straight_and_is_not_kept_within_a_range():
    with pytest.raises(BadRecipe, match="solver-clamp") as found:
        impasto.stylize(
            "photo.png", "painting.png", solver_line_search="strong-wolfe", solver_clamp="yes"
        )
    assert "--solver-clamp" in found.value.hint


def test_nothing_is_loaded_before_everything_is_checked(monkeypatch: pytest.MonkeyPatch):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(weights, "load", load)
    for content, style, fields in (
        ("missing.png", "painting.png", {}),
        ("photo.png", "missing.png", {}),
        ("photo.png", "no such painting", {}),
        ("photo.png", "painting.png", {"content_layers": "relu9_9"}),
        ("photo.png", "painting.png", {"init": "missing.png"}),
        ("photo.png", "painting.png", {"device": "abacus"}),
        ("photo.png", np.full((50, 50, 3), 0.5), {}),
    ):
        with pytest.raises(BadRequest):
            impasto.stylize(content, style, **fields)
    with pytest.raises(AssertionError):  # and a good request does get there
        impasto.stylize("photo.png", "painting.png", **QUICK)


# ---- what it gives -------------------------------------------------------------------------------


def test_image_save_and_record(tmp_path: Path):
    painting = impasto.stylize("photo.png", "painting.png", **QUICK)
    assert painting.image.mode == "RGB" and painting.image.size == (64, 48)
    saved = painting.save("new/folder/out.png")
    assert saved == tmp_path / "new" / "folder" / "out.png"
    with Image.open(saved) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(painting.image))
    np.testing.assert_array_equal(
        np.asarray(painting.image), np.rint(painting.pixels * 255).astype(np.uint8)
    )
    assert painting.record["size"] == [64, 48]
    assert painting.record["evaluations"] == 3  # two steps, and the loss of the finished picture
    assert painting.record["recipe_sha256"] == painting.recipe.sha256
    loss = dict(painting.record["loss"])
    assert {"content", "style"} <= set(loss)
    assert loss.pop("total") == pytest.approx(sum(loss.values()))
    assert painting.recipe.size == 64 and painting.recipe.schedule.iterations == (2,)


def test_a_painting_of_16_bits_is_saved_with_16_bits_or_not_at_all():
    painting = impasto.stylize("photo.png", "painting.png", output_bits=16, **QUICK)
    deep = images.read(painting.save("out.png"), max_megapixels=1).pixels
    assert (
        np.abs(deep - painting.pixels).max() < 1e-5 < np.abs(deep * 255 - np.rint(deep * 255)).max()
    )
    with pytest.raises(CannotWrite):
        painting.save("out.jpg")


def test_transparency_comes_back():
    photo = random_pixels(48, 64, channels=4)
    painting = impasto.stylize(photo, "painting.png", size=0, iterations=2)
    np.testing.assert_allclose(painting.alpha, photo[..., 3] / 255, atol=1e-6)
    assert painting.image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(painting.image)[..., 3], photo[..., 3])


def test_the_picture_is_painted_and_the_loss_falls():
    events_seen: list[events.Event] = []
    painting = paint_to(
        make_inputs({"size": 64, "iterations": 10, "strength": 80}),
        callbacks=Callbacks(events_seen.append),
    )
    first = next(event for event in events_seen if isinstance(event, events.Stepped))
    assert painting.record["loss"]["total"] < first.loss
    photo = images.resize(images.read("photo.png", max_megapixels=1).pixels, Size(48, 64))
    assert np.abs(painting.pixels - photo).mean() > 0.005
    assert painting.pixels.min() >= 0 and painting.pixels.max() <= 1


@pytest.mark.parametrize("name", ["best", "draft"])
def test_a_recipe_by_name_with_fields_changed(name: str):
    asked = load_recipe(name, {"size": 64, "iterations": 2})
    found = impasto.stylize("photo.png", "painting.png", recipe=name, **QUICK)
    assert found.recipe.name == name == asked.name
    assert found.recipe.schedule == asked.schedule and found.recipe.size == 64


@pytest.mark.parametrize("name", ["default", "draft"])
def test_a_file_that_is_called_like_a_recipe_does_not_stand_in_its_way(name: str):
    Path(name).write_text("not a recipe")
    assert load_recipe(name, {}).name == name
    impasto.stylize("photo.png", "painting.png", recipe=name, **QUICK)


def test_a_session_yields_planned_first_and_finished_last():
    stream = list(impasto.prepare("photo.png", "painting.png", **TWO_STAGES).run())
    kinds = [type(event).__name__ for event, _ in stream]
    stage = ["Started", "Stepped", "Stepped", "Stepped", "StageDone"]
    assert kinds == ["Planned", *stage, *stage, "Finished"]
    planned = stream[0][0]
    assert isinstance(planned, events.Planned) and planned.size == Size(72, 96)
    assert planned.stages == ((Size(36, 48), 3), (Size(72, 96), 3))
    assert planned.memory_bytes > 0 and planned.free_bytes > 0 and planned.seconds >= 0
    pixels = images.from_tensor(stream[-1][1].pixels)
    np.testing.assert_array_equal(
        pixels, impasto.stylize("photo.png", "painting.png", **TWO_STAGES).pixels
    )


def test_a_session_can_be_left_and_a_recipe_must_name_pictures():
    session = impasto.Session.open(read_recipe_inputs(make_inputs(TWO_STAGES).recipe))
    steps = session.run()
    assert isinstance(next(steps)[0], events.Planned)
    steps.close()  # type: ignore[attr-defined]
    with pytest.raises(BadPicture):
        read_recipe_inputs(records.Recipe())


def test_a_recipe_whose_picture_has_changed_is_refused():
    recipe = make_inputs(TWO_STAGES).recipe
    read_recipe_inputs(recipe)
    save_random("painting.png", 60, 80, seed=2)
    with pytest.raises(BadPicture, match="its contents differ"):
        read_recipe_inputs(recipe)


def test_a_photo_that_is_enlarged_is_said():
    seen: list[events.Event] = []
    paint_to(make_inputs({"size": 128, "iterations": 1}), callbacks=Callbacks(seen.append))
    assert [event.message for event in seen if isinstance(event, events.Warned)] == [
        "The photo is 100x75; it is enlarged to 128x96.",
        "The painting painting.png is 80x60; it is enlarged 1.6 times. A larger picture of it has "
        "finer strokes.",
    ]


# ---- planned, and in a given time ----------------------------------------------------------------


def test_plans_say_what_painting_would_take_without_painting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    set_speed(monkeypatch, 1e-4)
    before = [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts]
    recipe = loading.with_settings(records.Recipe(), {"memory": "700MB", "iterations": "5,3"})
    small, own, large = api.plan_sizes("photo.png", "painting.png", [64, 0, 8000], recipe)
    assert isinstance(small, events.Planned) and isinstance(own, events.Planned)
    assert (small.size, own.size) == (Size(48, 64), Size(75, 100))
    assert small.stages == ((Size(48, 64), 5),) and small.seconds == round(1e-4 * 6 * 48 * 64, 1)
    assert isinstance(large, DoesNotFit) and "8000x6000" in large.message
    # How fast it is, is kept.
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before


@pytest.mark.parametrize("sizes", [[20, 96, 0], [512, 1024, 0]])
def test_a_size_at_which_a_photo_is_too_thin_is_said_in_its_place(sizes: list[int]):
    save_random("photo.png", *((75, 100) if sizes[0] == 20 else (50, 1600)))
    thin, *others = api.plan_sizes("photo.png", "painting.png", sizes, records.Recipe())
    assert (
        isinstance(thin, BadPicture)
        and "too few for the network" in thin.message
        and "--size" in thin.hint
    )
    assert [type(one) for one in others] == [events.Planned] * 2
    assert [one.size.long_side for one in others] == [
        sizes[1],
        max(100, 16 * (sizes[0] == 512) * 100),
    ]  # type: ignore[union-attr]


def test_plans_refuse_what_painting_refuses():
    for sizes in ([64, -5], [64, 70_000], [20], [20, 30]):
        with pytest.raises(BadRequest, match="20x15" if sizes[0] == 20 else "size is"):
            api.plan_sizes("photo.png", "painting.png", sizes, records.Recipe())
    with pytest.raises(BadPicture):
        api.plan_sizes("missing.png", "painting.png", [64], records.Recipe())


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [20, 20.0, "20", "20s"])
def test_a_picture_in_a_given_time(monkeypatch: pytest.MonkeyPatch, seconds: float | str):
    set_speed(monkeypatch, 1e-4)
    photo = random_pixels(300, 400)
    found = impasto.stylize(photo, "painting.png", time=seconds, single_scale=True)
    assert found.recipe.size == 128 and found.pixels.shape == (96, 128, 3)
    count = found.recipe.schedule.iterations[-1]
    assert 15 < (count + 1) * 1e-4 * 96 * 128 < 20
    assert found.record["evaluations"] == count + 1
    assert found.recipe.schedule.single and found.recipe.sha256 == found.record["recipe_sha256"]
    kept = impasto.stylize(photo, "painting.png", time=seconds, **QUICK)
    assert kept.recipe.size == 64 and kept.recipe.schedule.iterations == (2,)


@pytest.mark.parametrize(
    ("shape", "size"), [((50, 1600), (48, 1536)), ((17, 23), (32, 43)), ((20, 1600), (32, 2560))]
)
def test_a_thin_photo_is_painted_in_a_given_time_at_a_size_that_it_can_have(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], size: tuple[int, int]
):
    set_speed(monkeypatch, 1e-4)
    photo = random_pixels(*shape)
    found = impasto.stylize(photo, "painting.png", time=100, iterations=1)
    assert found.pixels.shape[1] in (size[1], size[1] + 1, shape[1]) and found.pixels.shape[0] >= 32
    with pytest.raises(BadPicture):
        impasto.stylize(photo, "painting.png", time=100, size=30)


def test_a_size_that_a_time_allows_and_the_file_does_not_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("impasto.images.writing._MAX_SIDE", {"WebP": 99})
    seen: list[events.Event] = []
    with pytest.raises(CannotWrite, match="a WebP file holds at most 99"):
        paint_to(
            make_inputs(),
            output=tmp_path / "out.webp",
            seconds=1000,
            callbacks=Callbacks(seen.append),
        )
    assert seen == [events.InputsChecked()] and not (tmp_path / "out.webp").exists()


@pytest.mark.parametrize(
    ("output", "run"), [("x.png", "x.png"), ("x/result.png", "x"), ("x.png", "x.png/run")]
)
def test_a_picture_and_a_run_in_each_others_way_are_refused(tmp_path: Path, output: str, run: str):
    with pytest.raises(CannotWrite, match="in each other's way") as found:
        paint_to(make_inputs(), output=Path(output), run=Path(run))
    assert (
        "--run DIR" in found.value.hint
        and not Path(output).exists()
        and not (tmp_path / run).is_file()
    )


@pytest.mark.parametrize("pause", [-1.0, float("nan")])
def test_a_pause_that_is_none_is_refused(pause: float):
    with pytest.raises(BadRecipe, match="0 or more seconds"):
        paint_to(make_inputs(), checkpoint_seconds=pause)


@pytest.mark.parametrize("seconds", ["soon", 0, -1, "", float("nan")])
def test_what_is_no_time_is_refused(seconds: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "read", None)  # before anything is read
    with pytest.raises(BadRecipe):
        impasto.stylize("photo.png", "painting.png", time=seconds)


def test_when_the_time_is_up_the_picture_so_far_is_the_finished_one(tmp_path: Path):
    """Of its full size: sizes before the last are painted to their end."""
    seen: list[events.Event] = []
    output, run = tmp_path / "out.png", tmp_path / "out.run"
    fixed = frozenset({"size", "iterations"})
    painting = paint_to(
        make_inputs(TWO_STAGES),
        output=output,
        run=run,
        callbacks=Callbacks(seen.append),
        seconds=1e-6,
        fixed=fixed,
    )
    assert sum(isinstance(event, events.Stepped) for event in seen) == 4
    assert isinstance(seen[-1], events.Warned) and "The time is up after 4 of 6" in seen[-1].message
    assert (
        painting.pixels.shape == (72, 96, 3)
        and (run / runs.RECORD).exists()
        and not (run / runs.STATE).exists()
    )
    with Image.open(output) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(painting.image))
    assert "The time is up" in (run / runs.EVENTS).read_text("utf-8").splitlines()[-1]


def test_with_time_enough_it_is_not_up():
    seen: list[events.Event] = []
    fixed = frozenset({"size", "iterations"})
    found = paint_to(
        make_inputs(TWO_STAGES), callbacks=Callbacks(seen.append), seconds=1000, fixed=fixed
    )
    assert isinstance(seen[-1], events.Finished)
    np.testing.assert_array_equal(
        found.pixels, impasto.stylize("photo.png", "painting.png", **TWO_STAGES).pixels
    )


# ---- what it leaves alone ------------------------------------------------------------------------


def _settings() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.random.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "errors": np.geterr(),
        "filters": list(warnings.filters),
    }


def test_nothing_of_the_process_is_changed_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    torch.manual_seed(5)
    np.random.seed(5)
    before = _settings()
    here = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for init in ("noise", "content"):
            impasto.stylize("photo.png", "painting.png", init=init, seed=3, **QUICK)
    assert _settings() == before
    assert [str(each.message) for each in warned] == []
    assert capfd.readouterr() == ("", "")
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == here


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_paints_where_the_caller_has_switched_gradients_off(mode: Callable[[], Any]):
    expected = impasto.stylize("photo.png", "painting.png", **QUICK)
    with mode():
        found = impasto.stylize("photo.png", "painting.png", **QUICK)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(found.pixels, expected.pixels)


# ---- stopped, and failed -------------------------------------------------------------------------


def test_a_stopped_run_leaves_a_picture_of_the_full_size(tmp_path: Path):
    seen: list[events.Event] = []
    callbacks = Callbacks(
        seen.append, cancel=lambda: sum(isinstance(event, events.Stepped) for event in seen) >= 2
    )
    painting = paint_to(
        make_inputs(TWO_STAGES),
        output=tmp_path / "out.png",
        run=tmp_path / "out.run",
        callbacks=callbacks,
    )
    assert sum(isinstance(event, events.Stepped) for event in seen) == 2
    assert isinstance(seen[-1], events.Warned) and "2 of 6" in seen[-1].message
    assert painting.pixels.shape == (72, 96, 3) and painting.record["evaluations"] == 2
    with Image.open("out.png") as image:
        assert image.size == (96, 72)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(painting.image))
    photo = images.resize(images.read("photo.png", max_megapixels=1).pixels, Size(72, 96))
    assert np.abs(painting.pixels - photo).mean() < 0.3  # and it is a picture of the photo


def go_wild(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let one move lead far away, to a picture of numbers that nobody has looked at yet."""
    move, moves = lbfgs.LBFGS.move, [0]

    def wild(self: lbfgs.LBFGS, gradient: torch.Tensor, loss: float) -> None:
        move(self, gradient, loss)
        moves[0] += 1
        if moves[0] == step:
            self.pixels.mul_(-40)

    monkeypatch.setattr(lbfgs.LBFGS, "move", wild)


@pytest.mark.parametrize("step", [2, 3, 5])
@pytest.mark.parametrize("why", ["stopped", "time"])
def test_a_picture_that_was_broken_off_is_the_best_that_was_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, why: str, step: int
):
    seen: list[events.Event] = []

    def stepped() -> list[float]:
        return [event.loss for event in seen if isinstance(event, events.Stepped)]

    within = None
    if why == "time":
        step, within = 4, 1e-6  # the first step of the last stage is always made
    callbacks = Callbacks(seen.append, cancel=lambda: why == "stopped" and len(stepped()) == step)
    go_wild(monkeypatch, step)
    run = tmp_path / "out.run"
    fixed = frozenset({"size", "iterations"})
    found = paint_to(
        make_inputs(TWO_STAGES),
        output=tmp_path / "out.png",
        run=run,
        callbacks=callbacks,
        seconds=within,
        fixed=fixed,
    )
    assert len(stepped()) == step
    assert found.record["loss"]["total"] == min(stepped()[0 if step <= 3 else 3 :])
    assert 0.1 < found.pixels.mean() < 0.9  # where it went, all is 0
    with Image.open("out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(found.image))


@pytest.mark.parametrize("statistics", ["wasserstein", "gram", "mean-deviation"])
def test_a_loss_that_is_no_number_leaves_the_last_good_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, statistics: str
):
    moved: list[np.ndarray[Any, Any]] = []  # the pixels after each move
    made = solver_factory.make_solver

    def make(*how: Any, **more: Any) -> solver_.Solver:
        solver = made(*how, **more)
        move = solver.move

        def watched(gradient: torch.Tensor, loss: float) -> None:
            move(gradient, loss)
            moved.append(images.from_tensor(solver.pixels).clip(0, 1))

        monkeypatch.setattr(solver, "move", watched)
        return solver

    monkeypatch.setattr(loop.solver_factory, "make_solver", make)
    return_nan_when(monkeypatch, lambda: len(moved) >= 3)
    seen: list[events.Event] = []
    asked = make_inputs({"size": 64, "iterations": 9, "style_statistics": statistics})
    with pytest.raises(Diverged, match="stopped being a number") as found:
        paint_to(
            asked,
            output=tmp_path / "out.png",
            run=tmp_path / "out.run",
            callbacks=Callbacks(seen.append),
        )
    assert isinstance(found.value, Failed) and "out.png" in found.value.hint
    assert isinstance(seen[-1], events.Failed)
    assert (
        sum(isinstance(event, events.Warned) for event in seen) == loop.MAX_RESTARTS
        and len(moved) == 3
    )
    losses = [event.loss for event in seen if isinstance(event, events.Stepped)]
    # Those of the first picture and of two moves; the third move's picture has none.
    best = moved[int(np.argmin(losses[1:3]))]
    with Image.open("out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(best * 255).astype(np.uint8))
    assert not (tmp_path / "out.run" / runs.RECORD).exists()  # a run that failed is not complete


@pytest.mark.parametrize("statistics", ["wasserstein", "gram"])
def test_a_network_of_no_numbers_at_all_is_a_failure_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, statistics: str
):
    return_nan_when(monkeypatch, lambda: True)
    with pytest.raises(Failed):
        impasto.stylize("photo.png", "painting.png", style_statistics=statistics, **QUICK)
