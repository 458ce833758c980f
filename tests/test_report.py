"""Reports of runs: their contents, that a page needs nothing else, and what it says is missing."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

import impasto
from impasto import images
from impasto.errors import BadRequest
from impasto.events import Event, Stepped
from impasto.inputs import read_inputs
from impasto.recipe import loading, records
from impasto.runs import curves, gradient_norms, history
from impasto.runs import folder as runs
from impasto.runs import report as page
from tests.support.pictures import save_random, stub_museum
from tests.support.pocket_network import use_pocket_network
from tests.support.program import run_command
from tests.support.run_logs import PLANNED, stepped, write_log

Captured = pytest.CaptureFixture[str]
OUT, RUN, PAGE = Path("out.png"), Path("out.png.run"), Path("out.png.report.html")


@pytest.fixture(autouse=True)
def pocket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_pocket_network(monkeypatch, tmp_path)
    save_random("photo.png", 48, 64)
    save_random("painting.png", 50, 40, seed=1)


def paint(stop_after: float = math.inf, style: str = "painting.png", **settings: Any) -> None:
    """Paint two stages of 4 and 5 steps with snapshots; stop after so many steps."""
    seen: list[Event] = []
    impasto.stylize(
        "photo.png",
        style,
        output=OUT,
        run=RUN,
        snapshots="every=2",
        on_event=seen.append,
        cancel=lambda: sum(isinstance(event, Stepped) for event in seen) >= stop_after,
        **{"size": 96, "iterations": "4,5", "schedule_coarsest": 48, "strength": 61, **settings},
    )


def report(*options: str) -> str:
    assert run_command("report", str(RUN), *options, "--quiet") == 0
    return PAGE.read_text("utf-8")


@pytest.mark.slow
def test_a_page_holds_everything_and_needs_nothing(capsys: Captured):
    paint()
    text = report()
    assert Path(capsys.readouterr().out.strip()) == PAGE.resolve()
    assert "finished after 9 of 9 evaluations" in text
    assert (
        not re.search(r'(?:src|href|srcset)="(?!data:)', text)
        and "<script" not in text
        and "@import" not in text
    )
    assert "url(" not in text and "http" not in re.sub(r"data:[^\"]*", "", text)
    assert str(Path.cwd()) not in text  # which is nobody's business
    # Photo, painting, result; four snapshots and the result.
    assert text.count("image/jpeg") == 3 + 5
    assert text.count('prefers-color-scheme: dark)" srcset') == 3
    assert "<td>--strength<td>61<td>50" in text.replace("</td>", "").replace("\n", "")
    assert "48x36 · loss" in text and "96x72 · loss" in text
    for name in ("loss", "layers", "gradients"):
        with Image.open(page.curve_file(PAGE, name)) as image:
            assert image.format == "PNG" and image.width > 1000


@pytest.mark.slow
def test_without_gradients_and_with_another_name(capsys: Captured):
    paint()
    assert (
        run_command("report", str(OUT), "-o", "new/mine.html", "--no-gradients", "--open", "no")
        == 0
    )
    assert "They were left out" in Path("new/mine.html").read_text("utf-8")
    names = {path.name for path in Path("new").iterdir()}
    assert (
        names == {"mine.html", "mine-loss.png", "mine-layers.png"}
        and "note" not in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_photo_that_is_gone_or_another_is_said(change: str):
    paint()
    Path("photo.png").unlink()
    if change == "another":
        save_random("photo.png", 48, 64, seed=5)
    text = report()
    said = "is not here any more" if change == "gone" else "has changed since"
    assert f"The photo photo.png {said}" in text and "They could not be computed" in text
    assert not page.curve_file(PAGE, "gradients").exists()


@pytest.mark.slow
def test_a_painting_of_the_museum_is_shown(monkeypatch: pytest.MonkeyPatch):
    stub_museum(monkeypatch)
    paint(style="irises")
    assert "painting: irises" in report("--no-gradients")


@pytest.mark.slow
def test_an_unfinished_run_says_where_it_stopped():
    paint(stop_after=5)
    text = report()
    assert (
        "stopped after 5 of 9 evaluations" in text and "Stopped after 5 of 9 evaluations." in text
    )
    assert "4 of 4" in text and "1 of 5" in text
    paint()
    assert (
        "finished after 9 of 9 evaluations" in (text := report("--no-gradients"))
        and "continued once" in text
    )


def test_a_log_without_layers_and_a_folder_without_anything_else():
    folder = write_log(
        Path("<b>old&.run"), PLANNED, *(stepped(number, float(number)) for number in range(1, 7))
    )
    lines = [json.loads(line) for line in (folder / runs.EVENTS).read_text().splitlines()]
    for values in lines:
        values.pop("layers", None)
    (folder / runs.EVENTS).write_text("\n".join(map(json.dumps, lines)))
    assert run_command("report", str(folder), "-o", "old.html") == 0
    text = Path("old.html").read_text("utf-8")
    assert "has no losses by layer" in text and "There is no recipe in the folder" in text
    assert "<h1>&lt;b&gt;old&amp;</h1>" in text and "<b>" not in text
    assert "has no snapshots" in text


def test_a_run_that_was_killed_before_its_first_step():
    folder = write_log(Path("new.run"), PLANNED)
    assert run_command("report", str(folder), "-o", "new.html") == 0
    assert "No evaluation was made" in Path("new.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "does not exist"),
        ((".",), "holds no log of a run"),
        (("some.run", "-o", "page.pdf"), "must be one of: .html .htm"),
        (("some.run", "-o", "some.run/page.html"), "lie in the run's folder"),
        (("some.run", "--open", "maybe"), "open"),
        ((), "RUN"),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments: tuple[str, ...], said: str, capsys: Captured):
    write_log(Path("some.run"), PLANNED)
    before = sorted(Path().rglob("*"))
    assert run_command("report", *arguments) == 2
    assert said in capsys.readouterr().err and sorted(Path().rglob("*")) == before


LARGEST = sys.float_info.max
FAR = {
    "near the largest": [1.7e308, 1e308, 1e307, 9e306, 1e306, 1e305],
    "near 1e300": [1.01e300, 1.005e300, 1e300, 9.9e299, 9.8e299, 9.7e299],
    "the largest": [LARGEST] * 6,
    "small": [1e-300, 1e-301, 1e-302, 1e-303, 1e-304, 1e-305],
    "denormal": [5e-324] * 6,
    "all equal": [3.0] * 6,
    "nothing": [0.0] * 6,
    "one evaluation": [1e300],
    "one small evaluation": [1e-310],
    "from end to end": [LARGEST, 1e200, 1.0, 1e-100, 1e-300, 5e-324],
    "a single peak": [2.0, 1.0, LARGEST, 1.0, 1.0, 1e-9],
    "at the edge of the usual scale": [9e99, 1.1e100, 1e-100, 1.0, 1.0, 1.0],
    "not finite": [math.inf, math.nan, -math.inf, math.nan, math.inf, math.nan],
    "partly not finite": [math.nan, 3.0, math.inf, 2.0, math.nan, 1.0],
}


def logged(losses: Sequence[float], seconds: float = 1.0, folder: str = "far.run") -> Path:
    """A run of these losses; each term is a half of them and each layer a quarter."""
    steps = [stepped(number, number * seconds, loss) for number, loss in enumerate(losses, 1)]
    return write_log(Path(folder), PLANNED, *steps)


@pytest.mark.slow
@pytest.mark.parametrize("losses", FAR.values(), ids=FAR)
@pytest.mark.filterwarnings("error")
def test_every_loss_is_drawn_without_a_word(
    losses: list[float], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    folder = logged(losses)
    assert run_command("report", str(folder), "-o", "far.html") == 0
    out, err = capfd.readouterr()
    assert err == "" and out.strip() == str(Path("far.html").resolve())
    norms = {number: {"content": loss, "style": loss} for number, loss in enumerate(losses, 1)}
    found = history.read(folder)
    for figure in (curves.loss(found), curves.layers(found)):
        assert figure is not None and _lines_within(figure)
    assert curves.svg(curves.gradients(found, norms)).startswith(b"<?xml")
    assert capfd.readouterr().err == "" and not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1e-300, 1e300, math.nan, math.inf])
@pytest.mark.filterwarnings("error")
def test_every_time_is_drawn_without_a_word(seconds: float, capfd: pytest.CaptureFixture[str]):
    assert (
        run_command(
            "report", str(logged([3.0, 2.0, 1.0, 3.0, 2.0, 1.0], seconds)), "-o", "far.html"
        )
        == 0
    )
    assert capfd.readouterr().err == ""


def _lines_within(figure: Figure) -> bool:
    """Whether every panel shows the last value of each of its lines."""
    for axes in figure.axes:
        low, high = axes.get_ylim()
        drawn = [
            line for line in axes.lines if len(line.get_xdata()) != 2 or line.get_marker() == "o"
        ]
        ends = [float(line.get_ydata()[-1]) for line in drawn]
        if not all(low <= end <= high for end in ends if math.isfinite(end)):
            return False
    return True


@pytest.mark.slow
@given(
    st.lists(st.floats(min_value=0, max_value=LARGEST, exclude_min=True), min_size=1, max_size=6)
)
@settings(max_examples=12)
@pytest.mark.filterwarnings("error")
def test_any_positive_losses_are_drawn(losses: list[float]):
    figure = curves.loss(history.read(logged(losses)))
    curves.png(figure)
    for axes in figure.axes:
        assert all(map(math.isfinite, (*axes.get_xlim(), *axes.get_ylim())))


@pytest.mark.slow
def test_what_is_not_finite_is_left_out_and_said_once():
    logged([math.nan, 3.0, math.inf, 2.0, math.nan, 1.0])
    assert run_command("report", "far.run", "-o", "far.html", "--overwrite") == 0
    text = re.sub(r"data:[^\"]*", "", Path("far.html").read_text("utf-8"))
    assert text.count("not finite") == 1 and "not finite, of 3 evaluations, are left out" in text
    assert not re.search(r"\b(nan|inf)\b", text)
    logged([math.nan] * 6)
    assert run_command("report", "far.run", "-o", "far.html", "--overwrite") == 0
    text = re.sub(r"data:[^\"]*", "", Path("far.html").read_text("utf-8"))
    assert (
        text.count("not finite") == 1
        and "No evaluation was made" not in text
        and "<td>-</td>" in text
    )
    logged([3.0, 2.0])
    assert run_command("report", "far.run", "-o", "far.html", "--overwrite") == 0
    assert "not finite" not in Path("far.html").read_text("utf-8")


@pytest.mark.slow
def test_gradients_that_are_not_finite_are_left_out_and_said_once(monkeypatch: pytest.MonkeyPatch):
    paint()
    count = len(runs.snapshot_files(RUN)) + 1
    norms = [
        {"content": math.inf, "style": 1.0},
        *[{"content": 1e308, "style": 1e308}] * (count - 1),
    ]
    monkeypatch.setattr(gradient_norms, "gradient_norms", lambda *_: norms)
    text = re.sub(r"data:[^\"]*", "", report())
    assert (
        "not finite, of 1 picture&#39;s gradients, are left out" in text
        and text.count("not finite") == 1
    )
    assert "1e+308 (50%)" in text and not re.search(r"\b(nan|inf)\b", text)


def test_a_value_between_two_that_are_left_out_is_seen():
    happened = [
        Stepped(0, number, number, 1.0 if number % 4 else math.inf, {}, number)
        for number in range(1, 24, 2)
    ]
    happened += [Stepped(1, 1, 25, 1.0, {}, 25.0)]
    lines = curves.loss(history.read(write_log(Path("x.run"), PLANNED, *happened))).axes[0].lines
    assert [line.get_markersize() for line in lines if line.get_marker() == "o"] == [0, 4]
    assert (
        curves._isolated([1.0, math.nan, 2.0, 3.0, math.nan, math.nan, 4.0]) == [0, 6]
        and curves._isolated([]) == []
    )


def test_a_share_of_norms_does_not_overflow():
    assert curves.share({"a": LARGEST, "b": LARGEST}, "a") == 0.5
    assert curves.share({"a": 5e-324, "b": 5e-324, "c": 0.0}, "a") == 0.5
    assert curves.share({"a": 0.0}, "a") == 0 and curves.share({}, "a") == 0
    assert math.isnan(curves.share({"a": math.inf, "b": 1.0}, "b"))


def test_a_label_far_below_the_scale_stays_beside_the_panel():
    happened = [
        Stepped(
            0, number, number, 1.0, {"style": 1.0, "smooth": 1e-90 if number == 30 else 1.0}, number
        )
        for number in range(1, 31)
    ]
    figure = curves.loss(history.read(write_log(Path("x.run"), PLANNED, *happened)))
    for axes in figure.axes:
        assert all(0 <= text.get_position()[1] <= 1.1 for text in axes.texts)


def test_the_gradient_norm_of_a_term_is_that_of_its_own_gradient():
    """Smoothness alone has a gradient that can be written down: twice the weight over the count,
    times the Laplacian.
    """
    chosen = loading.with_settings(
        records.Recipe(), {"size": 64, "iterations": 2, "smooth_weight": 3}
    )
    inputs = read_inputs("photo.png", "painting.png", chosen)
    pixels = np.asarray(images.resize(inputs.photo.pixels, inputs.plan.size)) * 0.9
    [norms, again] = gradient_norms.gradient_norms(inputs.recipe, [pixels, pixels])
    leaf = torch.from_numpy(pixels).double().requires_grad_()
    down, across = (
        (leaf[1:] - leaf[:-1]).square().sum(),
        (leaf[:, 1:] - leaf[:, :-1]).square().sum(),
    )
    (3 * (down + across) / leaf.numel()).backward()
    assert leaf.grad is not None
    assert norms["smooth"] == pytest.approx(float(leaf.grad.norm()), rel=1e-5)
    assert (
        list(norms) == ["content", "style", "smooth"] and norms == again and min(norms.values()) > 0
    )
    assert sum(curves.share(norms, name) for name in norms) == pytest.approx(1)
    with pytest.raises(BadRequest):
        list(gradient_norms.gradient_norms(records.Recipe(), [pixels]))


def test_curves_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = curves.loss(history.read(write_log(Path("x.run"), PLANNED, stepped(1, 1.0))))
    assert curves.svg(figure).startswith(b"<?xml") and dict(matplotlib.rcParams) == before
    assert impasto.__version__


def test_a_dark_background_has_colors_of_its_own():
    steps = [stepped(number, number, 1 / number) for number in range(1, 5)]
    light = curves.svg(curves.loss(history.read(write_log(Path("x.run"), PLANNED, *steps))))
    dark = curves.on_dark(light)
    assert curves.DARK.ink.encode() in dark and curves.DARK.background.encode() in dark
    left = set(re.findall(rb"#[0-9a-f]{6}\b", dark.lower()))
    assert not left & {color.lower().encode() for color in curves.LIGHT.colors}
    assert len(light) == len(dark)


def test_labels_keep_apart():
    places = curves._separated({"a": 0.5, "b": 0.51, "c": 0.98, "d": 0.99})
    heights = sorted(places.values())
    assert (
        min(one - other for one, other in zip(heights[1:], heights, strict=False)) >= 0.0599
        and heights[-1] <= 1
    )
    assert places["a"] == 0.5
