"""Sweeps: pictures, poster and table, the order of axes, continuing, and what is refused."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

import impasto
from impasto import events, images
from impasto.comparisons import evaluator, scoring
from impasto.errors import AssetUnavailable, BadPicture, BadRequest, CannotWrite
from impasto.geometry import Size
from impasto.networks import weights
from impasto.runs import folder as runs
from impasto.session import Session
from impasto.sweeps import grid, sweep
from impasto.sweeps.outcome import Sweep
from tests.support.pictures import random_pixels, save_random, stub_museum
from tests.support.pocket_network import PAIR
from tests.support.program import run_command

Captured = pytest.CaptureFixture[str]

TWO = {"strength": [20, 80], "init": "content,noise"}
QUICK: dict[str, Any] = {"size": 64, "iterations": 2}
NAMES = ["20_init-content", "20_init-noise", "80_init-content", "80_init-noise"]


pytestmark = pytest.mark.usefixtures("pocket_evaluators")


def swept(**settings: Any) -> Sweep:
    return impasto.sweep("photo.png", "painting.png", "out", **{**QUICK, **settings})


def table(folder: str = "out") -> list[dict[str, str]]:
    with Path(folder, "sweep.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pictures(folder: str = "out") -> list[str]:
    return sorted(
        path.name for path in Path(folder).glob("*.png") if not path.name.startswith("poster")
    )


# ---- what comes of it ----------------------------------------------------------------------------


def test_a_picture_for_every_combination_a_poster_and_a_table():
    found = swept(**TWO)
    assert found.complete
    assert pictures() == [f"strength-{name}.png" for name in NAMES]
    rows = table()
    assert [row["file"] for row in rows] == [*pictures(), "photo itself", "painting itself"]
    assert [(row["strength"], row["init"]) for row in rows[:4]] == [
        ("20", "content"), ("20", "noise"), ("80", "content"), ("80", "noise"),
    ]  # fmt: skip
    for row, result in zip(rows, found.results, strict=False):
        terms = [float(row[f"{term} loss"]) for term in ("content", "style", "smooth")]
        assert float(row["loss"]) == pytest.approx(sum(terms), rel=1e-4)
        assert float(row["loss"]) == result.record["loss"]["total"]
        assert int(row["evaluations"]) >= 2
        assert float(row["seconds"]) >= 0
        assert row["judge"] == "vgg16"
        assert result.scores is not None
        assert float(row["lpips_vgg16 (lower)"]) == result.scores.lpips_vgg16
    assert float(rows[4]["lpips_alexnet (lower)"]) == 0
    with Image.open("out/poster.png") as poster:
        assert poster.height > 2 * 192 and poster.width > 2 * 256


def test_the_pictures_are_those_of_stylize_and_carry_their_recipes():
    swept(**TWO)
    for name, strength, init in (
        ("20_init-noise", 20, "noise"),
        ("80_init-content", 80, "content"),
    ):
        alone = impasto.stylize("photo.png", "painting.png", strength=strength, init=init, **QUICK)
        with Image.open(f"out/strength-{name}.png") as image:
            assert np.array_equal(np.asarray(image), np.asarray(alone.image))
        assert impasto.load_recipe(f"out/strength-{name}.png", {}).strength == strength


def test_the_figures_are_those_of_compare():
    found = swept(strength=[20, 80])
    files = [result.file for result in found.results]
    [scale] = impasto.compare([file for file in files if file], "photo.png", "painting.png").scales
    assert [row.scores for row in scale.rows[:2]] == [result.scores for result in found.results]
    assert scale.rows[2].scores.style == float(table()[2]["style (lower)"])


def test_who_painted_does_not_judge_and_each_scale_has_its_ends():
    swept(network="vgg19,vgg16", size="48,64")
    rows = table()
    assert [(row["network"], row["judge"], row["width"]) for row in rows] == [
        ("vgg19", "vgg16", "48"),
        ("vgg16", "vgg19", "48"),
        ("vgg19", "vgg16", "64"),
        ("vgg16", "vgg19", "64"),
        *[("", "vgg19", "48")] * 2,
        *[("", "vgg19", "64")] * 2,
        *[("", "vgg16", "48")] * 2,
        *[("", "vgg16", "64")] * 2,
    ]


def test_the_poster_shows_each_picture_where_its_values_stand(monkeypatch: pytest.MonkeyPatch):
    drawn: list[Any] = []
    monkeypatch.setattr(
        images, "poster", lambda *given: drawn.append(given) or np.zeros((9, 9, 3), np.float32)
    )
    found = swept(**TWO, seed=[1, 2])
    assert [path.name for path in found.posters] == ["poster_seed-1.png", "poster_seed-2.png"]
    cells, rows, columns, heading, _ = drawn[1]
    assert rows == ["strength 20", "strength 80"]
    assert columns == ["init content", "init noise"]
    assert heading.title == "photo in the style of painting"
    assert heading.lines == ("seed 2", "size 64, iterations 2")
    shown = images.read("out/strength-80_init-noise_seed-2.png", max_megapixels=1).pixels
    assert np.abs(cells[1][1] - images.resize(shown, Size(*cells[1][1].shape[:2]))).max() < 1e-6


def test_a_name_that_no_font_has_is_not_in_the_title(monkeypatch: pytest.MonkeyPatch):
    drawn: list[Any] = []
    monkeypatch.setattr(
        images, "poster", lambda *given: drawn.append(given) or np.zeros((9, 9, 3), np.float32)
    )
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    Path("photo.png").rename("東京.png")
    impasto.sweep("東京.png", "painting.png", "out", strength=[20, 80], **QUICK)
    assert drawn[0][3].title == "the photo in the style of painting"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "shape"), [(3, (1, 3)), (8, (1, 8)), (9, (2, 5)), (17, (3, 6))])
def test_a_single_axis_is_folded_where_it_is_long(
    count: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    strips: list[Any] = []
    monkeypatch.setattr(
        images, "poster", lambda *given: strips.append(given) or np.zeros((9, 9, 3), np.float32)
    )
    swept(strength=f"1:{count}:{count}", iterations=1, size=43)
    assert (len(strips), {len(strip[2]) for strip in strips}) == (shape[0], {shape[1]})
    labels = [label for strip in strips for label in strip[2] if label]
    assert labels == [f"strength {number}" for number in range(1, count + 1)]


def test_the_network_is_read_once(monkeypatch: pytest.MonkeyPatch):
    read, reads = weights.load, []
    monkeypatch.setattr(
        weights, "load", lambda name, **more: reads.append(name) or read(name, **more)
    )
    photos = images.read
    monkeypatch.setattr(
        images, "read", lambda source, **more: reads.append(str(source)) or photos(source, **more)
    )
    swept(**TWO)
    assert reads.count("photo.png") == reads.count("painting.png") == 1
    assert reads.count("vgg19") == 2  # to paint, and to say how far its own Gram matrices are off


def test_a_painting_of_the_museum_and_pictures_without_files(monkeypatch: pytest.MonkeyPatch):
    stub_museum(monkeypatch)
    found = impasto.sweep(
        random_pixels(75, 100), "irises", "here", seed=range(2), init="noise", **QUICK
    )
    assert found.complete
    assert "irises" in impasto.load_recipe("here/seed-0.png", {}).paintings[0].path


# ---- what is there already -----------------------------------------------------------------------


def times() -> dict[str, int]:
    return {name: Path("out", name).stat().st_mtime_ns for name in pictures()}


def test_what_is_there_is_kept_and_its_figures_too():
    swept(**TWO)
    before, rows = times(), table()
    Path("out/strength-80_init-noise.png").unlink()
    found = swept(**TWO, on_event=lambda event: None)
    assert found.complete
    after = times()
    assert [name for name in before if before[name] != after[name]] == [
        "strength-80_init-noise.png"
    ]
    same = [name for name in rows[0] if name != "seconds"]
    assert [[row[name] for name in same] for row in table()] == [
        [row[name] for name in same] for row in rows
    ]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["size", "photo", "another picture"])
def test_what_was_painted_otherwise_is_painted_anew(change: str):
    swept(strength=[20, 80])
    before = times()
    if change == "photo":
        save_random("photo.png", 75, 100, seed=5)
    elif change == "another picture":
        save_random("out/strength-20.png", 48, 64, seed=5)
    size, there = 48 if change == "size" else 64, times()
    with pytest.raises(CannotWrite, match=r"strength-20\.png exists already and is kept") as found:
        swept(strength=[20, 80], size=size)
    assert "--overwrite" in found.value.hint and times() == there
    swept(strength=[20, 80], size=size, overwrite=True)
    after = times()
    changed = [name for name in before if before[name] != after[name]]
    assert changed == (["strength-20.png"] if change == "another picture" else list(before))


def test_a_value_more_paints_what_is_new():
    swept(strength=[20, 80])
    before = times()
    swept(strength="20:80:3")
    assert {name: times()[name] for name in before} == before
    assert [row["strength"] for row in table()[:3]] == ["20", "50", "80"]


def stop_after(steps: int) -> dict[str, Any]:
    """Arguments that stop a sweep after so many steps."""
    seen: list[events.Event] = []
    return {
        "on_event": lambda event: seen.append(event) if isinstance(event, events.Stepped) else None,
        "cancel": lambda: len(seen) >= steps,
    }


def warnings_into(notes: list[str]) -> Any:
    """A function that appends the message of each warning."""
    return lambda event: notes.append(event.message) if isinstance(event, events.Warned) else None


@pytest.mark.slow
def test_a_sweep_that_is_stopped_leaves_poster_and_table_and_goes_on_with_the_same_bytes():
    whole = {
        "strength": [20, 80],
        "init": ["content", "noise"],
        "iterations": 6,
        "schedule_coarsest": 64,
    }
    swept(**whole)
    expected = {name: Path("out", name).read_bytes() for name in pictures()}
    Path("out").rename("undisturbed")
    found = swept(**stop_after(10), **whole)
    assert not found.complete
    assert [result.note for result in found.results] == [
        "",
        "not painted",
        "not painted",
        "not painted",
    ]
    assert pictures() == ["strength-20_init-content.png"]  # the half of a picture is none
    assert [row["note"] for row in table()[:4]] == [result.note for result in found.results]
    assert Path("out/poster.png").exists()
    assert (Path("out/runs/strength-20_init-noise") / runs.STATE).exists()
    notes: list[str] = []
    assert swept(on_event=warnings_into(notes), **whole).complete
    assert any("Continuing an unfinished run after" in note for note in notes)
    assert {name: Path("out", name).read_bytes() for name in pictures()} == expected


def test_an_interrupt_leaves_poster_and_table_too():
    def interrupt(event: events.Event) -> None:
        if isinstance(event, events.Finished):
            done.append(event)
        if len(done) == 2:
            raise KeyboardInterrupt

    done: list[events.Event] = []
    with pytest.raises(KeyboardInterrupt):
        swept(on_event=interrupt, **TWO)
    assert [row["file"] for row in table()[:4]] == ["strength-20_init-content.png", "", "", ""]
    assert Path("out/poster.png").exists()


def test_a_search_that_fails_is_said_in_its_cell_and_the_others_are_painted(
    monkeypatch: pytest.MonkeyPatch,
):
    run = Session.run

    def failing_run(session: Session) -> Any:
        for event, state in run(session):
            if session.inputs.recipe.strength == 20 and isinstance(event, events.Stepped):
                yield events.Failed("The loss stopped being a number."), state
                return
            yield event, state

    monkeypatch.setattr(Session, "run", failing_run)
    found = swept(strength=[20, 80])
    assert [result.note for result in found.results] == ["The loss stopped being a number.", ""]
    assert pictures() == ["strength-80.png"]
    assert table()[0]["note"] == "The loss stopped being a number."


def test_a_sweep_is_painted_even_if_it_cannot_be_evaluated(monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object, **__: object) -> None:
        raise AssetUnavailable("No network.", "Fetch it.")

    monkeypatch.setattr(scoring, "Evaluator", gone)
    notes: list[str] = []
    found = swept(strength=[20, 80], on_event=warnings_into(notes))
    assert found.complete
    assert [note for note in notes if "not evaluated" in note] == [
        "The pictures are not evaluated: No network. Fetch it."
    ]
    assert table()[0]["ssim (higher)"] == ""


# ---- the command ---------------------------------------------------------------------------------

FAST = ("--size", "64", "--iterations", "2")


@pytest.mark.slow
def test_the_command_says_before_what_it_will_paint_and_after_where_it_is(capsys: Captured):
    assert (
        run_command(
            "sweep", *PAIR, "--init", "content,noise", "--strength=20,80", *FAST, "-o", "out"
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(Path("out/poster.png")), str(Path("out/sweep.csv"))]
    lines = err.splitlines()
    assert lines[0].startswith("4 pictures (2 of init x 2 of strength), about ")
    assert lines[1] == "1 of 4: init content, strength 20"  # the order in which they were typed
    assert len([line for line in lines if line.startswith("note:")]) <= 1
    assert [row["init"] for row in table()[:4]] == ["content", "content", "noise", "noise"]
    assert (
        run_command(
            "sweep", *PAIR, "--init", "content,noise", "--strength=20,80", *FAST, "-o", "out"
        )
        == 0
    )
    assert "4 of them there already" in capsys.readouterr().err
    assert (
        run_command(
            "sweep",
            *PAIR,
            "--init",
            "content,noise",
            "--seed",
            "0:1",
            *FAST,
            "--axes",
            "seed",
            "-q",
        )
        == 0
    )
    assert capsys.readouterr() == (f"{Path('photo-painting-sweep/poster.png')}\n", "")
    assert [row["seed"] for row in table("photo-painting-sweep")[:4]] == ["0", "0", "1", "1"]


def test_control_c_ends_a_sweep_in_a_poster(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    original = sweep.paint
    calls: list[Any] = []

    def paint(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*given, **named)

    monkeypatch.setattr(sweep, "paint", paint)
    assert run_command("sweep", *PAIR, "--strength", "10:90:5", *FAST, "-o", "out") == 130
    out, err = capsys.readouterr()
    assert "Stopping after this step" in err
    assert "1 of 5 pictures are done. The same command continues from here." in err
    assert pictures() == ["strength-10.png"]
    assert out.splitlines()[0] == str(Path("out/poster.png"))


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing varied": ((*PAIR, "--strength", "20"), "Nothing is varied"),
    "no painting": (("photo.png", "--strength", "10,20"), "STYLE"),
    "too many": ((*PAIR, "--strength", "0:100", "--seed", "0:99"), "10100 pictures"),
    "a photo that is missing": (
        ("missing.png", "painting.png", "--seed", "0:1"),
        "missing.png does not exist",
    ),
    "a painting that nobody knows": (
        ("photo.png", "xyzzy", "--seed", "0:1"),
        "no painting 'xyzzy'",
    ),
    "a value out of range": ((*PAIR, "--strength", "10,200"), "strength is 200"),
    "a range that is none": ((*PAIR, "--strength", "10:x:5"), "no range"),
    "a start that is missing": (
        (*PAIR, "--init", "content,missing.png"),
        "missing.png does not exist",
    ),
    "a layer that is not there": ((*PAIR, "--content-layers", "relu4_2/relu9_9"), "relu9_9"),
    "a size at which the photo is too thin": ((*PAIR, "--size", "20,64"), "Ask for --size 43"),
    "nothing asked for": (
        (*PAIR, "--style-weight", "0,1", "--content-weight", "0", "--smooth-weight", "0"),
        "are all 0",
    ),
    "a misspelt setting": ((*PAIR, "--strenght", "1,2"), "--strength"),
    "axes without values": ((*PAIR, "--strength", "10,20", "--axes", "init"), "given no values"),
    "a file in the way": ((*PAIR, "--seed", "0:1", "-o", "file"), "is a file"),
    "a picture that goes in": (
        (str(Path("in/seed-0.png")), "painting.png", "--seed", "0:1", "-o", "in"),
        "it would be lost",
    ),
    "a recipe that nobody knows": (
        (*PAIR, "--seed", "0:1", "--recipe", "drafft"),
        "Did you mean draft",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_one_sentence_before_any_network(
    case: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the network was loaded")

    Path("file").write_text("in the way")
    Path("in").mkdir()
    save_random("in/seed-0.png")
    monkeypatch.setattr(weights, "load", load)
    arguments, words = BAD[case]
    before = sorted(str(path) for path in Path().rglob("*"))
    assert run_command("sweep", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) <= 2
    assert sorted(str(path) for path in Path().rglob("*")) == before


def test_more_than_a_hundred_are_painted_where_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
):
    monkeypatch.setattr(grid, "MOST", 2)
    assert run_command("sweep", *PAIR, "--seed", "0:2", *FAST) == 2
    assert "--yes" in capsys.readouterr().err
    assert run_command("sweep", *PAIR, "--seed", "0:2", *FAST, "--yes", "-o", "out") == 0
    assert len(pictures()) == 3


def test_a_picture_too_thin_to_be_judged_is_painted_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluator, "LEAST_SIDE", 60)
    found = swept(strength=[20, 80])
    assert found.complete
    assert "which is too small" in found.results[0].note


def test_from_python_too_much_is_refused_and_a_picture_of_no_use():
    with pytest.raises(BadRequest, match="more than 3"):
        swept(seed=range(4), most=3)
    with pytest.raises(BadPicture, match="flat colour"):
        impasto.sweep("photo.png", np.zeros((64, 64, 3), np.uint8), "out", seed=range(2))
    assert not Path("out").exists()
