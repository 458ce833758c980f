"""The command line: bad requests end in one sentence and no trace, good ones in a picture and its
path.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image

import impasto
from impasto import events, images
from impasto.assets import catalogue, museum
from impasto.cli import display, stylize_command, tables
from impasto.errors import DoesNotFit
from impasto.networks import weights
from impasto.recipe import loading, records, values
from impasto.recipe import options as options_
from impasto.runs import folder as runs
from tests.support.file_formats import png_chunk
from tests.support.pictures import random_pixels, read_pixels, save_random, stub_museum
from tests.support.pocket_network import (
    PAIR,
    return_nan_when,
    set_speed,
)
from tests.support.program import folder_contents, interrupt_at, run_command, run_stylize

QUICK = ("--size", "64", "--iterations", "2")
REAL_LOAD = weights.load

Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("pocket_pictures")


# ---- bad requests --------------------------------------------------------------------------------


def lay_traps() -> None:
    """Everything that people hand over instead of a picture."""
    Path("folder").mkdir()
    Path("file").write_text("in the way")
    Path("text.txt").write_text("Dear diary")
    Path("text.jpg").write_text("Dear diary")
    Path("empty.png").write_bytes(b"")
    Image.fromarray(random_pixels(75, 100)).save("whole.jpg")
    Path("cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:1500])
    Image.new("RGB", (1, 1), (90, 10, 10)).save("one.png")
    Image.fromarray(random_pixels(3, 5000)).save("thin.png")
    Image.new("RGB", (90, 70), (90, 10, 10)).save("flat.png")
    Image.fromarray(np.zeros((70, 90, 4), np.uint8)).save("nothing.png")
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    body = (
        png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(999)))
        + png_chunk(b"IEND", b"")
    )
    Path("bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    Path("wrong.toml").write_text("[content]\nwieght = 1\n")
    Path("broken.toml").write_text("size = = 3")
    Path("high.json").write_text('{"strength": 300}')


OUT = ("-o", "out.png")
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "photo missing": (("missing.png", "painting.png", *OUT), "missing.png does not exist"),
    "photo misspelt": (("phooto.png", "painting.png", *OUT), "Did you mean photo.png"),
    "photo folder missing": (("nowhere/photo.png", "painting.png", *OUT), "no folder nowhere"),
    "photo is a folder": (("folder", "painting.png", *OUT), "is a folder"),
    "photo is text": (("text.txt", "painting.png", *OUT), "is not a picture"),
    "photo is text by a false name": (("text.jpg", "painting.png", *OUT), "is not a picture"),
    "photo is cut short": (("cut.jpg", "painting.png", *OUT), "cut short"),
    "photo is empty": (("empty.png", "painting.png", *OUT), "empty (0 bytes)"),
    "photo of one pixel": (("one.png", "painting.png", *OUT), "1x1"),
    "photo thin": (("thin.png", "painting.png", *OUT), "5000x3"),
    "photo all transparent": (("nothing.png", "painting.png", *OUT), "transparent everywhere"),
    "photo is a bomb": (("bomb.png", "painting.png", *OUT), "--max-megapixels 10000"),
    "photo is an address": (
        ("https://example.org/photo.png", "painting.png", *OUT),
        "is an address",
    ),
    "photo too large": ((*PAIR, *OUT, "--max-megapixels", "0.001"), "--max-megapixels 1"),
    "photo too small at this size": ((*PAIR, *OUT, "--size", "20"), "Ask for --size 43"),
    "no arguments": ((), "PHOTO"),
    "style missing": (("photo.png", "missing.png", *OUT), "missing.png does not exist"),
    "style is a folder": (("photo.png", "folder", *OUT), "is a folder"),
    "style is text": (("photo.png", "text.txt", *OUT), "is not a picture"),
    "style is a bomb": (("photo.png", "bomb.png", *OUT), "--max-megapixels"),
    "style of one colour": (("photo.png", "flat.png", *OUT), "one flat colour"),
    "style of one pixel": (("photo.png", "one.png", *OUT), "1x1"),
    "style thin": (("photo.png", "thin.png", *OUT), "5000x3"),
    "second style missing": ((*PAIR, "missing.png", *OUT), "missing.png does not exist"),
    "no style": (("photo.png", *OUT), "No painting was given"),
    "museum name misspelt": (
        ("photo.png", "wheat-feild-with-cypresses", *OUT),
        "Did you mean wheat-field-with-cypresses",
    ),
    "museum name ambiguous": (("photo.png", "gogh", *OUT), "4 paintings match"),
    "museum name unknown": (("photo.png", "xyzzy", *OUT), "no painting 'xyzzy'"),
    "museum name endless": (("photo.png", "a" * 300, *OUT), "no painting"),
    "option unknown": ((*PAIR, *OUT, "--strenght", "3"), "--strength"),
    "option not a number": ((*PAIR, *OUT, "--strength", "much"), "strength"),
    "option not finite": ((*PAIR, *OUT, "--strength", "nan"), "strength"),
    "option not whole": ((*PAIR, *OUT, "--size", "64.9"), "size"),
    "option out of range": ((*PAIR, *OUT, "--strength", "200"), "0 to 100"),
    "option negative": ((*PAIR, *OUT, "--size", "-64"), "size is -64"),
    "option not one of a few": ((*PAIR, *OUT, "--network", "resnet"), "vgg19"),
    "option without a value": ((*PAIR, *OUT, "--size"), "size"),
    "iterations zero": ((*PAIR, *OUT, "--iterations", "0"), "iterations"),
    "iterations words": ((*PAIR, *OUT, "--iterations", "many,few"), "iterations is 'many'"),
    "iterations none": ((*PAIR, *OUT, "--iterations", ","), "iterations"),
    "statistic unknown": ((*PAIR, *OUT, "--style-statistics", "grm"), "gram"),
    "content layer unknown": ((*PAIR, *OUT, "--content-layers", "relu9_9"), "no layer 'relu9_9'"),
    "style layer unknown": ((*PAIR, *OUT, "--style-layers", "relu1_1,conv1-1"), "conv1_1"),
    "nothing to do": (
        (*PAIR, *OUT, "--content-weight", "0", "--style-weight", "0", "--smooth-weight", "0"),
        "weight",
    ),
    "device not there": ((*PAIR, *OUT, "--device", "cuda"), "--device"),
    "start missing": ((*PAIR, *OUT, "--init", "missing.png"), "missing.png does not exist"),
    "start no picture": ((*PAIR, *OUT, "--init", "text.txt"), "is not a picture"),
    "recipe unknown": ((*PAIR, *OUT, "--recipe", "drafft"), "Did you mean draft"),
    "recipe endless": ((*PAIR, *OUT, "--recipe", "a" * 300), "no recipe named"),
    "recipe file missing": ((*PAIR, *OUT, "--recipe", "missing.toml"), "missing.toml"),
    "recipe file with an unknown field": (
        (*PAIR, *OUT, "--recipe", "wrong.toml"),
        "no field 'content.wieght'",
    ),
    "recipe file broken": ((*PAIR, *OUT, "--recipe", "broken.toml"), "is not TOML"),
    "recipe file out of range": (
        (*PAIR, *OUT, "--recipe", "high.json"),
        "high.json: strength is 300",
    ),
    "recipe of a picture that has none": (
        (*PAIR, *OUT, "--recipe", "other.png"),
        "carries no recipe",
    ),
    "output under a file": ((*PAIR, "-o", "file/out.png"), "is a file"),
    "output of an unknown kind": ((*PAIR, "-o", "out.xyz"), ".png .jpg"),
    "output without a kind": ((*PAIR, "-o", "out"), "Call it out.png"),
    "output with an endless name": ((*PAIR, "-o", "a" * 300 + ".png"), "name"),
    "output of 16 bits as JPEG": ((*PAIR, "-o", "out.jpg", "--output-bits", "16"), "JPEG holds 8"),
    "output is the photo": ((*PAIR, "-o", "photo.png"), "photo.png"),
    "output is the painting": ((*PAIR, "-o", "./painting.png"), "painting.png"),
    "run folder under a file": ((*PAIR, *OUT, "--run", "file/below"), "--no-run"),
    "memory words": ((*PAIR, *OUT, "--memory", "much"), "memory is 'much'"),
    "memory of an unknown unit": ((*PAIR, *OUT, "--memory", "4XB"), "such as 4GB"),
    "memory negative": ((*PAIR, *OUT, "--memory", "-4GB"), "memory"),
    "time words": ((*PAIR, *OUT, "--time", "soon"), "'soon' is no length of time"),
    "time of an unknown unit": ((*PAIR, *OUT, "--time", "2 moons"), "90s, 2m, 1h30m"),
    "time none": ((*PAIR, *OUT, "--time", "0"), "no time to paint in"),
    "time negative": ((*PAIR, *OUT, "--time", "-2m"), "time"),
    "time without a value": ((*PAIR, *OUT, "--time"), "time"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_one_sentence_and_a_hint_and_leaves_no_trace(
    case: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the network was loaded")

    lay_traps()
    monkeypatch.setattr(weights, "load", load)
    monkeypatch.setattr(catalogue, "fetch", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments, words = BAD[case]
    before = folder_contents()
    assert run_command("stylize", *arguments) == 2
    out, err = capsys.readouterr()
    check_complaint(out, err, words)
    assert folder_contents() == before


def check_complaint(out: str, err: str, words: str) -> None:
    lines = err.splitlines()
    # What only torch or a network can tell is found after it.
    if lines[0] == "Painting from photo.png and painting.png.":
        del lines[0]
    assert out == ""
    assert lines[0].startswith("impasto: ") and len(lines[0]) > 20 and lines[0][-1] in ".?"
    assert len(lines) <= 2 and all(line.startswith("  ") and line.strip() for line in lines[1:])
    assert words in err
    assert "Traceback" not in err


NO_WEIGHTS = {
    "missing": None,
    "text": b"no weights",
    "damaged": b"\x10" + bytes(7) + b"{}" + b" " * 30,
    "empty": b"",
}


@pytest.mark.parametrize("content", NO_WEIGHTS.values(), ids=list(NO_WEIGHTS))
def test_a_weights_file_that_is_none_is_refused(
    content: bytes | None, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(weights, "load", REAL_LOAD)
    monkeypatch.setattr(catalogue, "fetch", fetch)
    if content is not None:
        Path("weights.pth").write_bytes(content)
    before = folder_contents()
    assert run_command("stylize", *PAIR, *OUT, "--weights", "weights.pth") == 2
    check_complaint(*capsys.readouterr(), "weights.pth")
    assert folder_contents() == before


def test_a_missing_output_folder_is_made_and_is_all_that_a_bad_request_leaves(capsys: Captured):
    before = folder_contents()
    assert run_command("stylize", "missing.png", "painting.png", "-o", "new/folder/out.png") == 2
    assert {
        name: data for name, data in folder_contents().items() if not name.startswith("new")
    } == before
    assert [path for path in Path("new").rglob("*") if path.is_file()] == []
    capsys.readouterr()
    path, _, _ = run_stylize(capsys, *PAIR, "-o", "new/folder/out.png", *QUICK)
    assert path == Path("new/folder/out.png").absolute() and path.is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nosuch",),
        ("recipes", "drafft"),
        ("museum", "xyzzy"),
        ("museum", "--nosuch"),
        ("museum", "gogh", "--sheet", "sheet.xyz"),
        ("demo", "--output", "demo.xyz"),
        ("plan",),
        ("plan", "photo.png"),
        ("plan", "missing.png", "painting.png"),
        ("plan", "photo.png", "xyzzy"),
        ("plan", *PAIR, "--size", "large"),
        ("plan", *PAIR, "--size", "-5"),
        ("plan", *PAIR, "--size", "20"),
        ("plan", *PAIR, "--size", "512", "--size", "70000"),
        ("plan", *PAIR, "--memory", "much"),
        ("plan", *PAIR, "--recipe", "drafft"),
        ("plan", *PAIR, "--precision", "float8"),
        ("plan", *PAIR, "--nosuch"),
        ("resume", "nowhere"),
    ],
)
def test_the_other_commands_complain_alike(arguments: tuple[str, ...], capsys: Captured):
    before = folder_contents()
    assert run_command(*arguments) == 2
    check_complaint(*capsys.readouterr(), "")
    assert folder_contents() == before


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "impasto", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["photo missing", "photo is a bomb", "option unknown", "recipe file broken"]
)
def test_the_real_command_shows_no_traceback(case: str):
    lay_traps()
    arguments, words = BAD[case]
    done = command("stylize", *arguments)
    assert done.returncode == 2
    check_complaint(done.stdout, done.stderr, words)
    assert not Path("cache").exists()


def test_the_museum_can_be_listed_where_only_ascii_can_be_shown():
    done = command("museum", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and done.stderr == ""
    assert "wheat-field-with-cypresses" in done.stdout


def test_a_fetch_that_fails_is_a_failure(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    def fetch(*_: object, **__: object) -> None:
        raise impasto.errors.AssetUnavailable("vgg19 could not be had.", "Copy it by hand.")

    monkeypatch.setattr(weights, "load", fetch)
    assert run_command("stylize", *PAIR, *OUT, "--no-run") == 1
    check_complaint(*capsys.readouterr(), "Copy it by hand.")
    assert not Path("out.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--no-run",), ("--time", "2m"), ("--size", "64", "--run", "mine")]
)
def test_a_limit_on_memory_that_is_too_low_is_refused_before_anything_is_written(
    options: tuple[str, ...], capsys: Captured
):
    before = folder_contents()
    assert run_command("stylize", *PAIR, *OUT, "--memory", "100MB", *options) == 2
    out, err = capsys.readouterr()
    check_complaint(out, err, "--memory allows 0.1 GB")
    assert folder_contents() == before
    enough = re.search(r"for --memory (\S+)\.$", err.rstrip())
    assert enough, err
    size = () if "--time" not in options else ("--size", "64")
    run_stylize(capsys, *PAIR, *OUT, "--memory", enough[1], "--iterations", "1", *options, *size)


# ---- good runs -----------------------------------------------------------------------------------


def test_a_picture_of_exactly_the_asked_size_and_its_path(capsys: Captured, tmp_path: Path):
    path, out, err = run_stylize(capsys, *PAIR, "-o", "out.png", *QUICK, quiet=False)
    assert path == tmp_path / "out.png" and out == f"{path}\n"
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 48))
    first, second, *_ = err.splitlines()
    assert (
        first == "Painting from photo.png and painting.png."
        and second.startswith("64x48 on cpu")
        and "stages 64x48:2" in err
        and " MB of " in err
        and "about" in err
    )
    assert "Traceback" not in err


def test_the_default_name_is_made_of_both_and_lies_here(capsys: Captured, tmp_path: Path):
    Path("sub").mkdir()
    save_random("sub/some.day.png")
    path, _, _ = run_stylize(
        capsys, "sub/some.day.png", "painting.png", "other.png", *QUICK, "--no-run"
    )
    assert path == tmp_path / "some.day-painting-other.png" and path.is_file()


def test_json_is_one_object_on_the_last_line(capsys: Captured, tmp_path: Path):
    for extra in ([], ["--quiet"]):
        assert run_command("stylize", *PAIR, *OUT, *QUICK, "--json", *extra) == 0
        out, _ = capsys.readouterr()
        record = json.loads(out.splitlines()[-1])
        wanted = "output size seconds evaluations device loss peak_memory_bytes recipe_sha256"
        assert set(wanted.split()) <= set(record)
        assert record["output"] == str(tmp_path / "out.png") and record["size"] == [64, 48]
        assert record["evaluations"] == 3 and record["seconds"] > 0 and record["loss"]["total"] > 0
        assert re.fullmatch("[0-9a-f]{64}", record["recipe_sha256"])


def test_quiet_prints_the_path_alone(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    assert run_command("stylize", *PAIR, *OUT, *QUICK, "--quiet") == 0
    assert capfd.readouterr() == (f"{tmp_path / 'out.png'}\n", "")


def test_no_run_leaves_the_picture_alone(capsys: Captured):
    before = set(folder_contents())
    run_stylize(capsys, *PAIR, *OUT, *QUICK, "--no-run")
    assert {name for name in folder_contents() if not name.startswith("cache")} == before | {
        "out.png"
    }


@pytest.mark.parametrize("folder", [None, "logs/of/it"])
def test_the_run_folder(capsys: Captured, folder: str | None):
    options = [] if folder is None else ["--run", folder]
    _, out, _ = run_stylize(capsys, *PAIR, *OUT, *QUICK, "--strength", "70", "--json", *options)
    record = json.loads(out)
    home = Path(folder or "out.png.run")
    assert {file.name for file in home.iterdir()} == {
        "recipe.toml", "events.jsonl", "preview.jpg", "result.png", "record.json"
    }  # fmt: skip
    kept = loading.load(str(home / "recipe.toml"))
    assert kept.sha256 == record["recipe_sha256"] and kept.strength == 70 and kept.size == 64
    assert kept.photo is not None and kept.photo.path == str(Path("photo.png").absolute())
    assert loading.from_toml(kept.to_toml()) == kept
    lines = [json.loads(line) for line in (home / "events.jsonl").read_text("utf-8").splitlines()]
    happened = [events.from_dict({k: v for k, v in line.items() if k != "time"}) for line in lines]
    assert isinstance(happened[0], events.Planned) and isinstance(happened[-1], events.Finished)
    assert sum(isinstance(event, events.Stepped) for event in happened) == 2
    assert (home / "result.png").read_bytes() == Path("out.png").read_bytes()
    assert json.loads((home / "record.json").read_text("utf-8")) == record
    assert read_pixels(home / "preview.jpg").shape == (48, 64, 3)


def test_several_styles_are_blended(capsys: Captured):
    one = read_pixels(run_stylize(capsys, *PAIR, "-o", "one.png", *QUICK, "--no-run")[0])
    two = read_pixels(
        run_stylize(capsys, *PAIR, "other.png", "-o", "two.png", *QUICK, "--no-run")[0]
    )
    assert one.shape == two.shape
    recipe = json.loads(images.embedded_recipe("two.png") or "")
    assert [painting["path"] for painting in recipe["paintings"]] == ["painting.png", "other.png"]


def test_where_the_search_starts(capsys: Captured):
    found = {}
    for init in ("content", "noise", "style", "other.png"):
        path, _, _ = run_stylize(
            capsys, *PAIR, "-o", f"from-{init}.png", "--init", init, *QUICK, "--no-run"
        )
        found[init] = read_pixels(path).astype(int)
        assert found[init].shape == (48, 64, 3)

    def distance(init: str, other: np.ndarray[Any, Any]) -> float:
        return float(np.abs(found[init] - other).mean())

    names = list(found)
    assert all(distance(a, found[b]) > 5 for a in names for b in names if a != b)
    # After two steps, each is still nearest to what it started from.
    start = {"content": "photo.png", "style": "painting.png", "other.png": "other.png"}
    for init, file in start.items():
        near = (
            images.resize(images.read(file, max_megapixels=1).pixels, impasto.geometry.Size(48, 64))
            * 255
        )
        assert min(found, key=lambda name, near=near: distance(name, near)) == init


def test_single_scale_paints_one_stage(capsys: Captured):
    options = ("--size", "96", "--schedule-coarsest", "48", "--iterations", "2")
    stages = []
    for extra in ([], ["--single-scale"]):
        run_stylize(capsys, *PAIR, *OUT, *options, *extra, "--overwrite")
        first = Path("out.png.run/events.jsonl").read_text("utf-8").splitlines()[0]
        stages.append(json.loads(first)["stages"])
    assert stages == [[[[36, 48], 2], [[72, 96], 2]], [[[72, 96], 2]]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gif", "grey", "cmyk", "deep", "palette"])
def test_photos_of_every_kind(kind: str, capsys: Captured):
    pixels, notes, mode = random_pixels(60, 80, channels=4), "", "RGB"
    colour = Image.fromarray(pixels[..., :3])
    if kind == "gif":
        photo, notes = "photo.gif", "has 3 frames; the first one is used"
        others = [Image.fromarray(random_pixels(60, 80, seed=seed)) for seed in (4, 5)]
        colour.save(photo, save_all=True, append_images=others)
    elif kind == "grey":
        photo = "grey.png"
        Image.fromarray(pixels[..., 0]).save(photo)
    elif kind == "cmyk":
        photo, notes = "ink.jpg", "CMYK"
        Image.frombytes("CMYK", (80, 60), pixels.tobytes()).save(photo, quality=95)
    elif kind == "deep":
        photo = "deep.png"
        Path(photo).write_bytes(imagecodecs.png_encode(pixels[..., :3].astype(np.uint16) * 257, 1))
    else:
        photo, mode = "palette.png", "RGBA"
        few = colour.quantize(8)
        few.save(photo, transparency=3)
        clear = np.asarray(few) == 3
        assert clear.any()
    path, _, err = run_stylize(
        capsys, photo, "painting.png", *OUT, "--size", "48", "--iterations", "2", quiet=False
    )
    with Image.open(path) as image:
        assert (image.mode, image.size) == (mode, (48, 36))
        if kind == "palette":
            assert np.asarray(image)[..., 3].min() == 0
    assert notes in err and (notes != "") == ("note:" in err)
    read = (
        images.resize(images.read(photo, max_megapixels=1).pixels, impasto.geometry.Size(36, 48))
        * 255
    )
    # Two steps from that photo, right way up.
    assert np.abs(read_pixels(path)[..., :3] - read).mean() < 25


def test_transparency_is_put_back(capsys: Captured):
    Image.fromarray(random_pixels(48, 64, channels=4)).save("clear.png")
    path, _, _ = run_stylize(
        capsys, "clear.png", "painting.png", *OUT, "--size", "0", "--iterations", "2"
    )
    np.testing.assert_array_equal(read_pixels(path)[..., 3], read_pixels("clear.png")[..., 3])
    flat, _, _ = run_stylize(
        capsys, "clear.png", "painting.png", "-o", "flat.jpg", "--size", "0", "--iterations", "2"
    )
    assert read_pixels(flat).shape == (48, 64, 3)


def test_the_museum_is_credited_in_the_picture(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    stub_museum(monkeypatch)
    for extension in ("png", "jpg", "webp", "tif"):
        path, _, _ = run_stylize(
            capsys, "photo.png", "Irises van Gogh", "-o", f"out.{extension}", *QUICK, "--no-run"
        )
        assert images.embedded_credit(path) == museum.find("irises").credit
        recipe = json.loads(images.embedded_recipe(path) or "")
        assert recipe["paintings"][0]["path"] == "irises"


# ---- stopped, and failed -------------------------------------------------------------------------


def test_ctrl_c_keeps_the_picture_so_far(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    before = signal.getsignal(signal.SIGINT)
    interrupt_at(monkeypatch, (12,))
    options = ("--size", "96", "--schedule-coarsest", "48", "--iterations", "30,30")
    path, _, err = run_stylize(capsys, *PAIR, *OUT, *options, quiet=False, code=130)
    assert read_pixels(path).shape == (72, 96, 3)
    assert "Stopping after this step" in err and re.search(
        r"note: Stopped after \d+ of 60 evaluations", err
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_stops_at_once(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    before = signal.getsignal(signal.SIGINT)
    interrupt_at(monkeypatch, (1, 1))
    assert run_command("stylize", *PAIR, *OUT, *QUICK) == 130
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1] == "impasto: Interrupted." and "Traceback" not in err
    assert not Path("out.png").exists() and signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("statistics", ["wasserstein", "gram"])
def test_a_loss_that_is_no_number_is_a_failure_that_keeps_the_picture(
    statistics: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    seen = [0]

    def failing() -> bool:
        seen[0] += 1
        return seen[0] > 25

    return_nan_when(monkeypatch, failing)
    options = ("--size", "64", "--iterations", "40", "--style-statistics", statistics, "--quiet")
    assert run_command("stylize", *PAIR, *OUT, *options) == 1
    out, err = capsys.readouterr()
    check_complaint(out, err, "stopped being a number")
    assert str(Path("out.png").absolute()) in err
    assert read_pixels("out.png").shape == (48, 64, 3)
    assert not Path("out.png.run", runs.RECORD).exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")]
)
def test_memory_that_runs_out_is_said_without_a_trace(
    error: Exception, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    def read(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(images, "read", read)
    assert run_command("stylize", *PAIR, *OUT, *QUICK) == 1
    check_complaint(*capsys.readouterr(), "Memory ran out")


# ---- planned, and in a given time ----------------------------------------------------------------


def test_a_plan_is_a_table_of_sizes_and_paints_nothing(capsys: Captured):
    before = folder_contents()
    assert run_command("plan", *PAIR, "--size", "64", "--size", "128", "--size", "0") == 0
    out, err = capsys.readouterr()
    assert err == "" and folder_contents() == before
    lines = out.splitlines()
    assert lines[0].split() == ["size", "megapixels", "time", "memory", "disk", "how"]
    assert [line.split()[0] for line in lines[1:4]] == ["64x48", "128x96", "100x75"]
    assert all(re.search(r"\d s +\d+ MB +- +whole; stages \d+:40", line) for line in lines[1:4])
    assert (
        lines[-1].startswith("On cpu")
        and "[conv2d]" in lines[-1]
        and lines[-1].endswith("GB of memory free.")
    )


def test_the_sizes_that_are_planned_where_none_is_named(capsys: Captured):
    assert run_command("plan", *PAIR) == 0
    assert re.findall(r"^ *(\d+x\d+)", capsys.readouterr().out, re.M) == [
        *("512x384", "1024x768", "2048x1536", "4096x3072", "100x75")
    ]


def test_a_plan_as_json_is_a_list_of_events(capsys: Captured):
    assert (
        run_command("plan", *PAIR, "--size", "64", "--size", "96", "--json", "--recipe", "draft")
        == 0
    )
    out, _ = capsys.readouterr()
    assert len(out.splitlines()) == 1
    rows = [events.from_dict(row) for row in json.loads(out)]
    assert all(isinstance(row, events.Planned) for row in rows)
    assert [row.size.long_side for row in rows] == [64, 96]  # type: ignore[attr-defined]
    drafted = loading.load("draft").schedule.iterations[0]
    assert all(row.stages[0][1] == drafted for row in rows)  # type: ignore[attr-defined]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_size_that_does_not_fit_is_said_in_its_place(as_json: bool, capsys: Captured):
    limits = ("--size", "64", "--size", "8000", "--memory", "700MB")
    assert run_command("plan", *PAIR, *limits, *(["--json"] if as_json else [])) == 0
    out, _ = capsys.readouterr()
    words = "8000x6000 needs"
    if as_json:
        small, large = json.loads(out)
        assert (
            small["event"] == "Planned"
            and set(large) == {"asked_size", "error"}
            and words in large["error"]
        )
    else:
        assert "64x48" in out and re.search(rf"^ *8000 .*{words}", out, re.M) and "--memory" in out


def test_a_thin_photo_is_planned_at_the_sizes_that_it_can_have(capsys: Captured):
    save_random("photo.png", 50, 1600)
    assert run_command("plan", *PAIR) == 0
    out, err = capsys.readouterr()
    assert err == "" and re.search(r"^ *512 .*too few for the network", out, re.M)
    assert re.findall(r"^ *(\d+x\d+)", out, re.M) == ["1024x32", "2048x64", "4096x128", "1600x50"]
    assert run_command("plan", *PAIR, "--size", "100") == 2


def test_a_plan_keeps_to_the_limit_on_memory(capsys: Captured):
    found = []
    for limit in ("0", "2GB"):
        assert run_command("plan", *PAIR, "--size", "2048", "--memory", limit, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)[0])
    assert found[1]["memory_bytes"] <= 2e9 * 0.9 < found[0]["memory_bytes"]
    assert found[1]["tile"] > 0 and found[1]["seconds"] > found[0]["seconds"]


def stages() -> list[tuple[str, int]]:
    first = json.loads(Path("out.png.run/events.jsonl").read_text("utf-8").splitlines()[0])
    return [(f"{width}x{height}", steps) for (height, width), steps in first["stages"]]


@pytest.mark.slow
def test_a_time_chooses_the_size_and_the_evaluations(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    set_speed(monkeypatch, 1e-4)
    save_random("photo.png", 200, 270)
    found = {}
    for time in ("20s", "100s", "1h"):
        path, _, err = run_stylize(
            capsys, *PAIR, *OUT, "--time", time, "--single-scale", "--overwrite", quiet=False
        )
        (size, steps), *_ = stages()
        seconds = 1e-4 * (steps + 1) * np.prod([int(side) for side in size.split("x")])
        assert (
            0.7 * values.parse_duration(time) < seconds <= values.parse_duration(time)
            or time == "1h"
        )
        with Image.open(path) as image:
            assert "{}x{}".format(*image.size) == size
        assert f"stages {size}:{steps}" in err
        kept = loading.from_json(images.embedded_recipe(path) or "")
        assert f"{kept.size}x" in size and kept.schedule.iterations[-1] == steps
        found[time] = (kept.size, steps)
    assert found["20s"][0] < found["100s"][0] < found["1h"][0] == 270
    assert found["1h"][1] == 90  # three times what the recipe has


@pytest.mark.slow
@pytest.mark.parametrize("fixed", ["size", "iterations"])
def test_what_is_named_beside_a_time_stays(
    fixed: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    set_speed(monkeypatch, 1e-4)
    save_random("photo.png", 300, 400)
    value = {"size": "64", "iterations": "2"}[fixed]
    run_stylize(capsys, *PAIR, *OUT, "--time", "20s", f"--{fixed}", value)
    (size, steps) = stages()[-1]
    assert (size == "64x48") == (fixed == "size") and (steps == 2) == (fixed == "iterations")


@pytest.mark.slow
def test_a_run_in_a_given_time_that_was_stopped_goes_on_with_the_same_command(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    set_speed(monkeypatch, 1e-4)
    save_random("photo.png", 300, 400)
    command = (*PAIR, *OUT, "--time", "30s", "--schedule-coarsest", "64", "--checkpoint", "0")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, (30,))
        run_stylize(capsys, *command, quiet=False, code=130)
    begun, told = stages(), Path("out.png.run/events.jsonl").read_text("utf-8")
    assert not Path("out.png.run", runs.RECORD).exists() and len(begun) > 1
    _, _, err = run_stylize(capsys, *command, quiet=False)
    total = sum(steps for _, steps in begun)
    assert re.search(rf"note: Continuing an unfinished run after \d+ of {total} evaluations", err)
    assert Path("out.png.run/events.jsonl").read_text("utf-8").startswith(told)
    resumed = Path("out.png").read_bytes()
    run_stylize(capsys, *PAIR, *OUT, "--recipe", "out.png.run/recipe.toml", "--overwrite")
    assert stages() == begun
    assert Path("out.png").read_bytes() == resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("--time", "30s"), ("--time", "31s")),
        (("--time", "30s"), ("--time", "30s", "--size", "512")),
        (("--time", "30s"), ()),
        ((), ("--time", "30s")),
    ],
)
def test_another_wish_under_the_same_name_is_a_fresh_start(
    first: tuple[str, ...],
    second: tuple[str, ...],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    set_speed(monkeypatch, 1e-4)
    for wish in (first, second):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, (5,))
            _, _, err = run_stylize(capsys, *PAIR, *OUT, *wish, quiet=False, code=130)
    assert "Continuing" not in err and "Stopped after" in err
    assert "held the run of another request: it is kept as out.png.run-1" in err
    assert runs.read_checkpoint(Path("out.png.run-1")) is not None


# ---- looking around ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [*options_.recipe_options()])
def test_every_option_takes_its_own_default(name: str, monkeypatch: pytest.MonkeyPatch):
    """The default that the help shows can be typed, and gives the recipe without the option."""
    asked = []

    def take(
        photo: object, styles: object, recipe: records.Recipe, *_: object, **__: object
    ) -> None:
        asked.append(recipe)

    monkeypatch.setattr(stylize_command, "_paint", take)
    option = options_.recipe_options()[name]
    typed = (
        [f"--no-{name}" if option.default is True else f"--{name}"]
        if option.is_flag
        else [f"--{name}", option.default_text]
    )
    arguments = [] if option.is_flag or not option.default_text else typed
    assert run_command("stylize", *PAIR, *arguments) == 0
    assert asked[0] == records.Recipe()
    if option.is_flag:
        assert run_command("stylize", *PAIR, *typed) == 0
        assert (
            asked[1]
            == loading.with_settings(records.Recipe(), {name: not option.default})
            != asked[0]
        )


def test_the_museum_is_listed_and_searched(capsys: Captured):
    assert run_command("museum") == 0
    out = capsys.readouterr().out
    assert all(work.slug in out for work in museum.all_paintings()) and "174 paintings" in out
    assert run_command("museum", "van", "gogh") == 0
    out = capsys.readouterr().out
    assert "irises" in out and "wheat-field-with-cypresses" in out and "4 paintings" in out
    assert "ruisdael" not in out.lower()


def test_the_museum_on_a_sheet(capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stub_museum(monkeypatch)
    assert run_command("museum", "gogh", "--sheet", "sheet.png") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'sheet.png'}\n"
    height, width, _ = read_pixels("sheet.png").shape
    assert width > 4 * 200 and 220 < height < 400  # four in a row


def test_recipes_are_listed_printed_and_read_back(capsys: Captured):
    assert run_command("recipes") == 0
    first = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [word for word in first if word in loading.names()] == sorted(
        loading.names(), key=lambda name: bool(loading.load(name).source)
    )
    for name in loading.names():
        assert run_command("recipes", name) == 0
        printed = capsys.readouterr().out
        assert loading.from_toml(printed) == loading.load(name)
        Path("mine.toml").write_text(printed)
        assert run_command("recipes", "mine.toml") == 0
        assert capsys.readouterr().out == printed
    run_stylize(capsys, *PAIR, *OUT, *QUICK, "--strength", "77")
    assert run_command("recipes", "out.png") == 0
    assert loading.from_toml(capsys.readouterr().out).strength == 77


def test_the_table_of_recipes_says_what_each_one_compares(capsys: Captured):
    assert run_command("recipes") == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("cysmith"))
    for word in (
        "vgg19 average",
        "conv4_2",
        "gram-gatys, 5 layers",
        "lbfgs",
        "512: 1000",
        "github.com/cysmith",
    ):
        assert word in row
    row = next(line for line in out.splitlines() if line.startswith("keras-example"))
    for word in ("relu5_2", "sgd 0.0015", "400 height: 4000"):
        assert word in row
    assert (
        next(line for line in out.splitlines() if line.startswith("spst")).count(
            "own: 620 220 80 40"
        )
        == 1
    )


def test_licenses_name_every_fetched_file(capsys: Captured):
    assert run_command("licenses") == 0
    out = capsys.readouterr().out
    for asset in catalogue.ASSETS.values():
        assert (
            asset.name in out
            and asset.licence in out
            and asset.origin in out
            and asset.archive.licence in out
        )


@pytest.mark.parametrize("to", [None, "there"])
def test_fetch_fetches_everything(
    to: str | None, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def fetch_all(progress: Any = None, to: Path | None = None) -> list[Path]:
        asked.append(to)
        for done in (0, 50, 100):
            progress("museum", done, 100)
        return [Path("somewhere/a"), Path("somewhere/b")]

    monkeypatch.setattr(catalogue, "fetch_all", fetch_all)
    assert run_command("fetch", *([] if to is None else ["--to", to])) == 0
    assert asked == [None if to is None else Path(to)]
    assert "2 files are in somewhere" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demo_paints(capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    stub_museum(monkeypatch)
    load = loading.load
    quick = loading.with_settings(load("draft"), {"iterations": 1})
    monkeypatch.setattr(loading, "load", lambda name: quick if name == "draft" else load(name))
    assert run_command("demo", "--output", "demo.png", "--json") == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["size"] == [512, 512] and record["output"] == str(tmp_path / "demo.png")
    assert read_pixels("demo.png").shape == (512, 512, 3)


def planned(**more: Any) -> events.Planned:
    size = impasto.geometry.Size(300, 400)
    return events.Planned(
        size, ((size, 30),), "cpu, 2 threads", "nnpack", 105.5, 3 * 10**9, 8 * 10**9, **more
    )


def test_tiles_and_a_disk_are_said_before_the_work():
    assert "tiles" not in display.plan_sentence(planned()) and "disk" not in display.plan_sentence(
        planned()
    )
    said = display.plan_sentence(planned(tile=256, disk_bytes=1_500_000_000))
    assert said.startswith("400x300 in tiles of 256 px on cpu, 2 threads [nnpack]")
    assert "about 1 min 46 s and 3.0 GB of 8.0 GB free and 1.5 GB of disk" in said


def test_tiles_and_a_disk_are_in_the_table(capsys: Captured):
    rows = [
        planned(),
        planned(tile=256, disk_bytes=1_500_000_000),
        planned(tile=128),
        DoesNotFit("That is too much.", "Less."),
    ]
    rows[2] = dataclasses.replace(rows[2], memory_bytes=16 * 10**9)
    tables.print_plans([400, 401, 402, 9000], rows)
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"3\.0 GB +- +whole; stages 400:30$", lines[1].rstrip())
    assert re.search(r"3\.0 GB +1\.5 GB +in tiles of 256 px; stages", lines[2])
    assert re.search(r"16\.0 GB +- +in tiles of 128 px, more than is free; stages", lines[3])
    assert re.search(r"^ *9000 +That is too much\. Less\.", lines[4])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (99.4, "99 s"),
        (99.6, "1 min 40 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_durations_are_said_for_people(seconds: float, text: str):
    assert display.duration_text(seconds) == text
