"""The command in scripts and in careless hands: exit codes, streams, repeated and misremembered
options, lines for logs.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto import images
from impasto.cli import display
from impasto.networks.features import Network
from impasto.planning import network_choice
from impasto.recipe import loading
from tests.support.pictures import random_pixels, read_pixels, save_random, stub_museum
from tests.support.pocket_network import PAIR, set_speed
from tests.support.program import folder_contents, run_command, run_stylize

OUT = ("-o", "out.png")
QUICK = ("--size", "64", "--iterations", "2")
Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("pocket_pictures")


# ---- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_picture_and_ends_as_the_signal_would(
    number: signal.Signals, code: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(number)
    call, calls = Network.__call__, [0]

    def pressed(self: Network, picture: torch.Tensor, **how: Any) -> dict[str, torch.Tensor]:
        calls[0] += picture.requires_grad
        if calls[0] == 3:
            signal.raise_signal(number)
        return call(self, picture, **how)

    monkeypatch.setattr(Network, "__call__", pressed)
    assert (
        run_command("stylize", *PAIR, *OUT, "--size", "64", "--iterations", "30", "--json") == code
    )
    record = json.loads(capsys.readouterr().out)
    assert record["stopped"] is True and record["output"] == str(Path("out.png").absolute())
    assert any("Stopped after" in note for note in record["notes"])
    assert read_pixels("out.png").shape == (48, 64, 3) and signal.getsignal(number) is before


def test_a_run_that_comes_to_its_end_says_so(capsys: Captured):
    assert run_command("stylize", *PAIR, *OUT, *QUICK, "--json") == 0
    assert json.loads(capsys.readouterr().out)["stopped"] is False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
@pytest.mark.parametrize(
    "command", ["museum", "--version", "recipes", "licenses", "stylize --help"]
)
def test_an_output_that_cannot_be_written_is_one_sentence(command: str):
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "impasto", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        "impasto: The output could not be written: No space left on device."
    ]


def test_a_reader_that_goes_away_is_no_error_to_speak_of():
    command = f"{sys.executable} -m impasto museum | head -n 1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert found.stderr == "" and len(found.stdout.splitlines()) == 1


# ---- streams -------------------------------------------------------------------------------------


def test_the_photo_comes_from_standard_input(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    whole, *_ = run_stylize(capsys, *PAIR, *OUT, *QUICK)

    class Stdin:
        buffer = io.BytesIO(Path("photo.png").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stdin())
    path, *_ = run_stylize(capsys, "-", "painting.png", *QUICK)
    assert path.name == "stdin-painting.png" and (read_pixels(path) == read_pixels(whole)).all()


# ---- options -------------------------------------------------------------------------------------


def test_of_an_option_that_is_given_twice_the_last_one_counts(capsys: Captured):
    path, *_ = run_stylize(capsys, *PAIR, "-o", "a.png", "--size", "80", *QUICK, "-o", "b.png")
    assert path.name == "b.png" and read_pixels(path).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--image-size", "Did you mean --size?"),
        ("--num_iterations", "Did you mean --iterations?"),
        ("--tv-weight", "Did you mean --smooth-weight?"),
        ("--optimizer", "Did you mean --solver?"),
        ("--style-blend-weights", "Weights follow the paintings: irises:0.7"),
        ("--content-image", "it comes first"),
        ("--style-image", "it comes after the photo"),
        ("--preserve-color", "no setting keeps the photo's"),
        ("--strenght", "--strength"),
    ],
)
def test_what_other_programs_call_it_is_understood(option: str, hint: str, capsys: Captured):
    before = folder_contents()
    assert run_command("stylize", *PAIR, option, "3") == 2
    out, err = capsys.readouterr()
    assert (
        option.partition("=")[0] in err
        and hint in err
        and out == ""
        and folder_contents() == before
    )


@pytest.mark.parametrize("given", ["2 minutes", "1:30", "90s", "1 min 30 sec"])
def test_a_time_as_people_say_it(given: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    set_speed(monkeypatch, 1e-4)
    run_stylize(capsys, *PAIR, *OUT, "--time", given, "--size", "64", "--iterations", "1")


def test_paintings_have_their_weights_with_them(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    stub_museum(monkeypatch)
    path, *_ = run_stylize(
        capsys, "photo.png", "painting.png:0.7", "other.png", "irises:.3", *OUT, *QUICK
    )
    kept = loading.from_json(images.embedded_recipe(path) or "")
    assert [(one.path, one.weight) for one in kept.paintings] == [
        ("painting.png", 0.7),
        ("other.png", 1),
        ("irises", 0.3),
    ]
    Path("painting.png").rename("paint:0.5")  # a file of that very name
    path, *_ = run_stylize(capsys, "photo.png", "paint:0.5", "-o", "b.png", *QUICK)
    assert loading.from_json(images.embedded_recipe(path) or "").paintings[0].weight == 1
    for wrong in ("other.png:0", "other.png:0.0"):
        assert run_command("stylize", "photo.png", wrong, "-o", "c.png", *QUICK) == 2
        assert "must be above 0" in capsys.readouterr().err


def test_weights_of_a_recipe_that_count_for_nothing_are_said(capsys: Captured):
    run_stylize(capsys, "photo.png", "painting.png:0.7", "other.png:0.3", *OUT, *QUICK)
    _, _, err = run_stylize(capsys, *PAIR, "-o", "b.png", "--recipe", "out.png", quiet=False)
    assert "The recipe weighs 2 paintings and 1 were given: their weights are equal." in err


def test_threads_and_kernel_are_those_that_are_named(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    before, seen = torch.get_num_threads(), list[int]()
    call = Network.__call__
    monkeypatch.setattr(
        Network,
        "__call__",
        lambda *a, **k: (seen.append(torch.get_num_threads()), call(*a, **k))[1],
    )
    assert (
        run_command(
            "stylize", *PAIR, *OUT, *QUICK, "--threads", "3", "--kernel", "channels-last", "--json"
        )
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert set(seen) == {3} and torch.get_num_threads() == before
    assert record["kernel"] == "channels-last"
    again = ("-o", "b.png", *QUICK, "--threads", "3", "--kernel", record["kernel"])
    path, *_ = run_stylize(capsys, *PAIR, *again)
    assert path.read_bytes() == Path("out.png").read_bytes().replace(b"out.png", b"b.png")
    for wrong in ("abacus", "conv2d 3>4@5=abacus"):
        assert run_command("stylize", *PAIR, "-o", "c.png", *QUICK, "--kernel", wrong) == 2
        assert "names no kernel" in capsys.readouterr().err
    monkeypatch.setattr(network_choice, "has_method", lambda name, where: name != "nnpack")
    assert run_command("stylize", *PAIR, "-o", "c.png", *QUICK, "--kernel", "nnpack") == 2
    assert "'nnpack', which is not here" in capsys.readouterr().err


# ---- what scripts read ---------------------------------------------------------------------------


def test_a_plan_in_which_nothing_fits_is_a_refusal_that_names_the_sizes(capsys: Captured):
    assert (
        run_command("plan", *PAIR, "--size", "64", "--size", "96", "--memory", "130MB", "--json")
        == 2
    )
    rows = json.loads(capsys.readouterr().out)
    assert [row["asked_size"] for row in rows] == [64, 96] and all(
        "needs" in row["error"] for row in rows
    )
    assert run_command("plan", *PAIR, "--size", "64", "--memory", "130MB") == 2
    assert run_command("plan", *PAIR, "--size", "64", "--size", "60000", "--json") == 0


def test_the_museum_as_json(capsys: Captured):
    assert run_command("museum", "gogh", "irises", "--json") == 0
    [work] = json.loads(capsys.readouterr().out)
    assert (
        work["name"] == "irises"
        and work["artist"] == "Vincent van Gogh"
        and work["licence"].startswith("CC0")
    )
    assert run_command("museum", "gogh", "irises") == 0
    assert "1 painting, The" in capsys.readouterr().out


def test_progress_is_told_where_there_is_no_terminal(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(display, "_LINE_SECONDS", 0.0)
    _, _, err = run_stylize(capsys, *PAIR, *OUT, "--size", "64", "--iterations", "4", quiet=False)
    lines = [line for line in err.splitlines() if "done, loss" in line]
    assert len(lines) == 4 and re.fullmatch(
        r"painting 64x48: 25% done, loss [\d.]+  \d+ s left", lines[0]
    )
    _, _, err = run_stylize(capsys, *PAIR, "-o", "b.png", "--size", "64", "--iterations", "4")
    assert err == ""


def test_reading_that_takes_long_is_said(capsys: Captured, monkeypatch: pytest.MonkeyPatch):
    read = images.read

    def slow(*given: Any, **named: Any) -> images.Picture:
        time.sleep(0.2)
        return read(*given, **named)

    monkeypatch.setattr(images, "read", slow)
    monkeypatch.setattr(display, "_SLOW_SECONDS", 0.05)
    _, _, err = run_stylize(capsys, *PAIR, *OUT, *QUICK, quiet=False)
    assert err.splitlines()[:2] == [
        "Reading photo.png and painting.png.",
        "Painting from photo.png and painting.png.",
    ]


# ---- files that a recipe names -------------------------------------------------------------------


def test_a_file_that_a_recipe_names_is_compared_and_found_by_its_hash(
    capsys: Captured, tmp_path: Path
):
    Path("made").mkdir()
    save_random("made/start.png", 48, 64, seed=6)
    first, *_ = run_stylize(capsys, *PAIR, "-o", "made/out.png", *QUICK, "--init", "made/start.png")

    save_random("start.png", 48, 64, seed=7)  # another one of that name, here
    again, *_ = run_stylize(capsys, *PAIR, "-o", "a.png", "--recipe", "made/out.png")
    assert again.read_bytes() == first.read_bytes()  # that of the recipe's own folder was taken

    Path("made/start.png").rename("made/renamed.png")
    again, *_ = run_stylize(capsys, *PAIR, "-o", "b.png", "--recipe", "made/out.png")
    assert (read_pixels(again) == read_pixels(first)).all()

    Path("made/renamed.png").unlink()
    before = folder_contents()
    assert run_command("stylize", *PAIR, "-o", "c.png", "--recipe", "made/out.png") == 2
    err = capsys.readouterr().err
    assert (
        "start.png is not the file that the recipe was made with" in err
        and "--init" in err
        and folder_contents() == before
    )
    other, *_ = run_stylize(
        capsys, *PAIR, "-o", "c.png", "--recipe", "made/out.png", "--init", "start.png"
    )
    assert (read_pixels(other) != read_pixels(first)).any()


def test_an_init_of_another_shape_and_a_small_painting_are_said(capsys: Captured):
    save_random("start.png", 64, 64, seed=6)
    _, _, err = run_stylize(
        capsys,
        *PAIR,
        *OUT,
        "--size",
        "128",
        "--iterations",
        "1",
        "--init",
        "start.png",
        quiet=False,
    )
    assert "start.png, from which the search starts, is 64x64; it is stretched to 128x96." in err
    assert "The painting painting.png is 80x60; it is enlarged 1.6 times." in err


@pytest.mark.parametrize(
    "option", ["--style-weight", "--content-weight", "--smooth-weight", "--bounds-weight"]
)
def test_a_weight_that_no_gradient_can_have_is_refused(option: str, capsys: Captured):
    assert run_command("stylize", *PAIR, *OUT, option, "1e20") == 2
    assert (
        f"{option[2:]} is '1e20', but it must be less than or equal to" in capsys.readouterr().err
    )


def test_a_picture_of_many_pixels_is_read_once_and_reduced(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    save_random("photo.png", 900, 1200)
    read, seen = images.read, list[tuple[str, images.Picture]]()

    def watched(source: Any, **named: Any) -> images.Picture:
        picture = read(source, **named)
        seen.append((os.path.basename(source), picture))
        return picture

    monkeypatch.setattr(images, "read", watched)
    path, *_ = run_stylize(
        capsys, *PAIR, *OUT, "--size", "96", "--schedule-coarsest", "48", "--iterations", "1"
    )
    assert [name for name, _ in seen] == ["photo.png", "painting.png"]
    assert seen[0][1].full_size == (900, 1200) and 192 <= seen[0][1].size.long_side < 400
    assert read_pixels(path).shape == (72, 96, 3)


def test_a_picture_too_large_to_read_is_refused_before_it_is(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    save_random("photo.png", 3000, 4000)
    monkeypatch.setattr(images, "read", lambda *_, **__: pytest.fail("it was read"))
    assert run_command("stylize", *PAIR, *OUT, "--size", "0", "--memory", "200MB") == 2
    err = capsys.readouterr().err
    assert re.search(
        r"Reading photo\.png \(4000x3000\) takes about \d+ MB, and --memory allows 200 MB\.", err
    )
    assert re.search(r"Ask for --memory 0\.\dGB", err)


def test_notes_are_in_what_the_library_gives():
    import impasto

    found = impasto.stylize(random_pixels(40, 60), "painting.png", size=128, iterations=1)
    assert (
        found.size == (85, 128) and "The photo is 60x40; it is enlarged to 128x85." in found.notes
    )
    assert found.notes == tuple(found.record["notes"])


def test_the_library_takes_bytes_and_open_files():
    import impasto

    settings: dict[str, Any] = {"size": 64, "iterations": 2}
    expected = impasto.stylize("photo.png", "painting.png", **settings).pixels.tobytes()
    data = Path("photo.png").read_bytes()
    with open("photo.png", "rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            assert (
                impasto.stylize(
                    source, io.BytesIO(Path("painting.png").read_bytes()), **settings
                ).pixels.tobytes()
                == expected
            )
