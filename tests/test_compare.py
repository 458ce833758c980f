"""Comparisons: the inputs that pictures name, the independent network, the table, and errors."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import impasto
from impasto import images
from impasto.comparisons import evaluator, metrics, scoring, table
from impasto.comparisons.scores import FIGURES, Scores
from impasto.geometry import Size
from impasto.recipe.records import Input, Recipe
from impasto.runs import folder as runs
from tests.support.pictures import random_pixels, save_random, stub_museum
from tests.support.program import run_command

Captured = pytest.CaptureFixture[str]

PAIR = ("--content", "photo.png", "--style", "painting.png")
SIZES = {"small.png": [64, 48], "large.png": [128, 96]}
ENDS = ["photo itself", "painting itself"]


pytestmark = pytest.mark.usefixtures("pocket_evaluators")


def paint(
    name: str, *, height: int = 48, width: int = 64, seed: int = 2, bits: Any = 8, **recipe: Any
) -> str:
    """A picture as if it were painted, with a recipe inside that says so."""
    told: dict[str, Any] = {
        "photo": Input(path="photo.png"),
        "paintings": (Input(path="painting.png"),),
        **recipe,
    }
    pixels = random_pixels(height, width, seed=seed).astype(np.float32) / 255
    images.save(name, pixels, recipe=Recipe(**told).to_json(), bits=bits)
    return name


def sha256(name: str) -> str:
    return images.read(name, max_megapixels=1).sha256


def compared(capsys: Captured, *arguments: str) -> dict[str, Any]:
    """The JSON object of a command that must succeed."""
    assert run_command("compare", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


# ---- what is shown -------------------------------------------------------------------------------


def test_a_row_for_each_picture_and_two_for_the_ends(capsys: Captured):
    save_random("one.png", 48, 64, seed=3)
    save_random("two[b].png", 48, 64, seed=4)
    assert run_command("compare", "one.png", "two[b].png", *PAIR) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert [line for line in lines if line.startswith("one.png ")]
    assert [line for line in lines if line.startswith("two[b].png ")]  # no markup
    assert "64x48" in lines[0]
    assert "VGG-16" in lines[0]
    ends = [next(line for line in lines if line.startswith(end)) for end in ENDS]
    assert lines.index(ends[1]) == lines.index(ends[0]) + 1
    headings = " ".join(lines[: lines.index(ends[0])])
    assert headings.count("↓") == sum(figure.better == "lower" for figure in FIGURES.values())
    assert headings.count("↑") == sum(figure.better == "higher" for figure in FIGURES.values())
    assert headings.count("→1") == sum(figure.better == "near 1" for figure in FIGURES.values())
    assert "lower is better" in out
    assert "No figure is quality by itself" in out


@pytest.mark.parametrize(("width", "tables"), [(80, 4), (110, 3), (180, 1)])
def test_a_narrow_terminal_gets_several_tables_and_every_digit(width: int, tables: int):
    scores = Scores(*(12.5 + index for index in range(len(FIGURES))))
    row = scoring.Row("a name of twenty.png", "result", Size(48, 64), scores)
    found = scoring.Comparison(
        "", "", (scoring.Scale("vgg19", Size(48, 64), (row,)),), ("a [b] note",)
    )
    console = Console(width=width, file=io.StringIO())
    console.print(table.table(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("a name of twenty.png") == tables
    assert all(text.count(f"{score:.3f}") == 1 for score in asdict(scores).values())
    assert "VGG-19" in text
    assert "note: a [b] note" in text


def test_json_says_what_the_figures_mean(capsys: Captured):
    save_random("one.png", 48, 64, seed=3)
    found = compared(capsys, "one.png", *PAIR)
    assert [row["picture"] for row in found["pictures"]] == ["one.png", *ENDS]
    assert [row["role"] for row in found["pictures"]] == ["result", "photo", "painting"]
    assert {row["judge"] for row in found["pictures"]} == {"vgg16"}
    assert all(row["size"] == row["judged_size"] == [64, 48] for row in found["pictures"])
    assert all(list(row["scores"]) == list(FIGURES) for row in found["pictures"])
    assert set(found["figures"]) == set(FIGURES)
    _, photo, painting = (row["scores"] for row in found["pictures"])
    assert photo["content"] == photo["lpips_alexnet"] == 0
    assert photo["ssim"] == pytest.approx(1)
    assert painting["colour"] < photo["colour"]
    assert (found["photo"], found["painting"]) == ("photo.png", "painting.png")


def test_csv_has_the_directions_in_its_headings(capsys: Captured):
    save_random("a, b.png", 48, 64, seed=3)
    assert run_command("compare", "a, b.png", *PAIR, "--csv") == 0
    headings, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert [row[0] for row in rows] == ["a, b.png", *ENDS]
    assert {"content (lower)", "ssim (higher)", "border (near 1)"} <= set(headings)
    assert {len(row) for row in rows} == {len(headings)}


def test_from_python_pictures_need_no_files():
    photo, painting, result = (random_pixels(48, 64, seed=seed) for seed in range(3))
    [scale] = impasto.compare([result], photo, painting).scales
    assert [row.role for row in scale.rows] == ["result", "photo", "painting"]
    network = evaluator.Evaluator(photo / np.float32(255), painting / np.float32(255))
    assert scale.rows[0].scores == network(result / np.float32(255))


# ---- by which network, and at which size ---------------------------------------------------------


def test_the_evaluator_is_the_network_that_did_not_paint(capsys: Captured):
    judges = {}
    for painter in ("vgg19", "vgg16"):
        found = compared(capsys, paint(f"{painter}.png", network={"name": painter}))
        judges[painter] = {row["judge"] for row in found["pictures"]}
    assert judges == {"vgg19": {"vgg16"}, "vgg16": {"vgg19"}}
    found = compared(capsys, "vgg19.png", "vgg16.png")
    names = [row["picture"] for row in found["pictures"]]
    assert names == ["vgg19.png", *ENDS, "vgg16.png", *ENDS]  # each judge has its own scale
    assert any("do not compare" in note for note in found["notes"])
    assert any("painted by VGG-16" in note for note in found["notes"])
    found = compared(capsys, "vgg19.png", "vgg16.png", "--judge", "vgg16")
    assert [row["picture"] for row in found["pictures"]] == ["vgg19.png", "vgg16.png", *ENDS]


def test_pictures_of_several_sizes_have_scales_of_their_own_unless_one_is_asked_for(
    capsys: Captured,
):
    paint("small.png")
    paint("large.png", height=96, width=128)
    found = compared(capsys, "small.png", "large.png")
    looked_at = [(row["picture"], row["judged_size"]) for row in found["pictures"]]
    small, large = ([(name, size) for name in (result, *ENDS)] for result, size in SIZES.items())
    assert looked_at == [*small, *large]
    found = compared(capsys, "small.png", "large.png", "--size", "64")
    assert [row["picture"] for row in found["pictures"]] == ["small.png", "large.png", *ENDS]
    assert all(row["judged_size"] == [64, 48] for row in found["pictures"])
    ends = found["pictures"][2:]
    assert ends[0]["scores"]["content"] == 0
    assert all(end["size"] == [128, 96] for end in ends)
    # The traces of the method are those of every pixel, not of a picture that was shrunk.
    own = metrics.artifacts(images.read("large.png", max_megapixels=1).pixels)
    large = next(row for row in found["pictures"] if row["picture"] == "large.png")
    assert large["size"] == [128, 96]
    assert {name: large["scores"][name] for name in own} == own


def test_no_picture_is_enlarged_and_the_largest_size_is_the_one_in_the_help(capsys: Captured):
    result = images.Picture(np.zeros((300, 200, 3), np.float32), None, b"", "", "", "")
    assert scoring._evaluation_size(result, 1024) == Size(300, 200)
    assert scoring._evaluation_size(result, 150) == Size(150, 100)
    assert run_command("compare", "--help") == 0
    assert f"up to {scoring.MAX_SIDE}]" in " ".join(re.findall(r"[^\s│]+", capsys.readouterr().out))


def test_a_picture_of_another_shape_is_noted(capsys: Captured):
    found = compared(capsys, paint("tall.png", height=64, width=48))
    assert any(
        "tall.png is 48x64; the photo, 100x75, is stretched" in note for note in found["notes"]
    )


# ---- what pictures say they were painted from ----------------------------------------------------


def test_a_picture_names_its_photo_and_painting(capsys: Captured):
    found = compared(capsys, paint("result.png"))
    assert (found["photo"], found["painting"]) == ("photo.png", "painting.png")


def test_they_are_looked_for_beside_the_picture_too(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    photo = Input(path="photo.png", sha256=sha256("photo.png"))
    paint("result.png", photo=photo)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    save_random("photo.png", 75, 100, seed=8)  # another picture of that name
    found = compared(capsys, "../result.png")
    assert found["photo"] == str(Path("..") / "photo.png")


def test_the_log_of_the_run_knows_the_folders(capsys: Captured):
    Path("photos").mkdir()
    Path("photo.png").rename("photos/photo.png")
    told = {"photo": Input(path="photo.png", sha256=sha256("photos/photo.png"))}
    paint("result.png", **told)
    assert run_command("compare", "result.png") == 2
    capsys.readouterr()
    log = runs.beside(Path("result.png"))
    log.mkdir()
    whole = told["photo"].model_copy(update={"path": str(Path("photos/photo.png").resolve())})
    (log / runs.RECIPE).write_text(Recipe(photo=whole).to_toml())
    assert compared(capsys, "result.png")["photo"] == whole.path
    (log / runs.RECIPE).write_text("no = recipe")
    assert run_command("compare", "result.png") == 2


def test_a_painting_of_the_museum_is_known_by_name(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    stub_museum(monkeypatch)
    found = compared(capsys, paint("result.png", paintings=(Input(path="irises"),)))
    assert found["painting"] == "irises"
    assert compared(capsys, "result.png", "--style", "wheat-field-with-cypresses")[
        "painting"
    ].startswith("wheat")


def test_a_recipe_of_another_version_is_no_recipe(capsys: Captured):
    pixels = random_pixels(48, 64).astype(np.float32) / 255
    images.save("strange.png", pixels, recipe='{"version": 7, "brush": "wide"}')
    assert run_command("compare", "strange.png") == 2
    assert "does not say from which photo" in capsys.readouterr().err
    assert compared(capsys, "strange.png", *PAIR)["pictures"][0]["judge"] == "vgg16"


# ---- what is refused -----------------------------------------------------------------------------

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "No picture was given"),
    "a picture that is missing": (("missing.png", *PAIR), "missing.png does not exist"),
    "a picture that is none": (("text.txt", *PAIR), "is not a picture"),
    "a photo that is missing": (
        ("told.png", "--content", "missing.png"),
        "missing.png does not exist",
    ),
    "a painting that nobody knows": (("told.png", "--style", "xyzzy"), "no painting 'xyzzy'"),
    "a picture that says nothing": (("silent.png",), "--content PHOTO"),
    "a picture that says nothing of its painting": (
        ("silent.png", "--content", "photo.png"),
        "--style STYLE",
    ),
    "a photo that is gone": (("gone.png",), "the photo away.png, which is not here"),
    "a photo that has changed": (("changed.png",), "the photo photo.png, which is not here"),
    "a painting that is gone": (("unhung.png",), "the painting away.png, which is not here"),
    "two paintings": (("blend.png",), "name several paintings: painting.png, other.png"),
    "two photos": (("told.png", "gone.png"), "name several photos"),
    "a judge that is none": (("told.png", "--judge", "resnet"), "vgg16"),
    "a size that is too small": (("told.png", "--size", "16"), "32 px"),
    "a picture that is too small": (("tiny.png", *PAIR), "30x40"),
    "a picture that is too thin": (("told.png", "--size", "40"), "40x30"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_in_one_sentence_before_any_network(
    case: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    arguments, words = BAD[case]
    Path("text.txt").write_text("Dear diary")
    save_random("silent.png", 48, 64)
    save_random("tiny.png", 40, 30)
    paint("told.png")
    paint("gone.png", photo=Input(path="away.png"))
    paint("changed.png", photo=Input(path="photo.png", sha256="0" * 64))
    paint("unhung.png", paintings=(Input(path="away.png"),))
    paint("blend.png", paintings=(Input(path="painting.png"), Input(path="other.png")))
    monkeypatch.setattr(evaluator, "Evaluator", None)
    monkeypatch.setattr(scoring, "Evaluator", None)
    assert run_command("compare", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) <= 2
