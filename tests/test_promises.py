"""Promises to the user, tested on the whole program: each test is named after its promise."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import impasto
from impasto import cli, images
from impasto.errors import CannotWrite, ImpastoError
from impasto.recipe import loading
from tests.support.pictures import random_pixels, read_pixels, save_random, stub_museum
from tests.support.pocket_network import PAIR

QUICK = ("--size", "64", "--iterations", "3")


pytestmark = pytest.mark.usefixtures("pocket_pictures")


def paint(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    cli.main(["stylize", *arguments, "--json"])
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def loaded(program: str) -> list[str]:
    """Which of the heavy libraries a program has loaded at its end."""
    ask = (
        "\nimport sys\n"
        "heavy = {'torch', 'numpy', 'PIL', 'scipy', 'skimage'}\n"
        "print(*heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + ask],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("stylize", "missing.png", "painting.png"),
        ("stylize", "photo.png", "no-such-painting"),
        ("stylize", "photo.png", "painting.png", "--size", "20"),
        ("plan", "missing.png", "painting.png"),
        ("sweep", "missing.png", "painting.png", "--strength", "10,90"),
        ("resume", "missing.run"),
    ],
)
def test_a_refusal_loads_no_torch(arguments: tuple[str, ...]):
    """It takes two seconds to import."""
    program = (
        f"from impasto import cli\ntry: cli.main({list(arguments)!r})\n"
        "except SystemExit as end: assert end.code == 2"
    )
    assert not {"torch", "scipy", "skimage"} & set(loaded(program))


# ---- importing costs nothing, and says nothing ---------------------------------------------------


@pytest.mark.slow
def test_importing_loads_no_torch_and_prints_nothing():
    words = ("errors", "events", "geometry", "recipe.records", "planning.schedule")
    assert loaded(f"import impasto, {', '.join(f'impasto.{name}' for name in words)}") == []
    done = subprocess.run(
        [sys.executable, "-c", "import impasto"], capture_output=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert "torch" in loaded("import torch")  # and the question can be answered with yes


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["--help"], ["stylize", "--help"], ["--version"], ["recipes"], ["museum"]]
)
def test_looking_around_loads_no_torch(command: list[str]):
    run = (
        "from impasto import cli\n"
        f"try:\n    cli.main({command!r})\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert loaded(run) == []


def test_the_public_list():
    assert impasto.__all__ == sorted(impasto.__all__) == dir(impasto)
    assert len(set(impasto.__all__)) == len(impasto.__all__) <= 20
    for name in impasto.__all__:
        assert getattr(impasto, name) is not None
    everything: dict[str, Any] = {}
    exec("from impasto import *", everything)
    assert {name for name in everything if name != "__builtins__"} == set(impasto.__all__)
    with pytest.raises(AttributeError, match="paint"):
        impasto.paint  # noqa: B018
    assert impasto.ImpastoError is ImpastoError
    assert issubclass(impasto.BadRequest, ImpastoError) and issubclass(impasto.Failed, ImpastoError)


# ---- same input, same picture --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [(), ("--init", "noise", "--seed", "4"), ("--solver", "adam", "--solver-rate", "0.02")],
)
def test_the_same_command_twice_gives_the_same_bytes(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    first = paint(capsys, *PAIR, "-o", "a.png", *QUICK, *options)
    second = paint(capsys, *PAIR, "-o", "b.png", *QUICK, *options)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert first["recipe_sha256"] == second["recipe_sha256"] and first["loss"] == second["loss"]
    other = paint(capsys, *PAIR, "-o", "c.png", *QUICK, *options, "--strength", "60")
    assert other["recipe_sha256"] != first["recipe_sha256"]


def test_another_seed_is_another_noise(capsys: pytest.CaptureFixture[str]):
    for seed in ("4", "5"):
        paint(capsys, *PAIR, "-o", f"{seed}.png", *QUICK, "--init", "noise", "--seed", seed)
    assert (read_pixels("4.png") != read_pixels("5.png")).mean() > 0.5


def test_the_folder_does_not_matter_but_the_bytes_do(capsys: pytest.CaptureFixture[str]):
    Path("elsewhere").mkdir()
    for name in PAIR:
        Path("elsewhere", name).write_bytes(Path(name).read_bytes())
    here = paint(capsys, *PAIR, "-o", "a.png", *QUICK)
    there = paint(capsys, *[f"elsewhere/{name}" for name in PAIR], "-o", "b.png", *QUICK)
    assert here["recipe_sha256"] == there["recipe_sha256"]
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    save_random("photo.png", seed=5)
    assert paint(capsys, *PAIR, "-o", "c.png", *QUICK)["recipe_sha256"] != here["recipe_sha256"]


def test_a_start_picture_counts_by_its_bytes_too(capsys: pytest.CaptureFixture[str]):
    Path("elsewhere").mkdir()
    save_random("start.png", seed=6)
    Path("elsewhere/start.png").write_bytes(Path("start.png").read_bytes())
    hashes = []
    for name, start in (("a.png", "start.png"), ("b.png", "elsewhere/start.png")):
        hashes.append(paint(capsys, *PAIR, "-o", name, *QUICK, "--init", start)["recipe_sha256"])
    save_random("start.png", seed=7)
    hashes.append(
        paint(capsys, *PAIR, "-o", "c.png", *QUICK, "--init", "start.png")["recipe_sha256"]
    )
    assert hashes[0] == hashes[1] != hashes[2]


# ---- every picture carries how it was made -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif"])
def test_a_picture_is_painted_again_from_itself(extension: str, capsys: pytest.CaptureFixture[str]):
    made = f"made.{extension}"
    settings = ("--strength", "80", "--style-statistics", "gram=2,mean-deviation", "--seed", "9")
    first = paint(capsys, *PAIR, "-o", made, *QUICK, *settings)
    again = paint(capsys, *PAIR, "-o", f"again.{extension}", "--recipe", made)
    assert again["recipe_sha256"] == first["recipe_sha256"]
    assert Path(made).read_bytes() == Path(f"again.{extension}").read_bytes()
    changed = paint(capsys, *PAIR, "-o", "changed.png", "--recipe", made, "--strength", "20")
    assert changed["recipe_sha256"] != first["recipe_sha256"]
    kept = loading.load("changed.png.run/recipe.toml")
    assert (
        kept.strength == 20
        and kept.seed == 9
        and kept.style.statistics == {"gram": 2, "mean-deviation": 1}
    )


@pytest.mark.parametrize("option", ["photo", "--init", "--protect", "--weights"])
def test_a_picture_tells_nobody_about_its_makers_folders(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    secret = tmp_path / "secret-folder"
    secret.mkdir()
    for name in PAIR:
        (secret / name).write_bytes(Path(name).read_bytes())
    more = [] if option == "photo" else [option, str(secret / "photo.png")]
    paint(capsys, *[str(secret / name) for name in PAIR], "-o", "out.png", *QUICK, *more)
    text = images.embedded_recipe("out.png") or ""
    recipe = loading.from_json(text)
    assert (
        recipe.photo is not None
        and recipe.photo.path == "photo.png"
        and len(recipe.photo.sha256) == 64
    )
    assert [painting.path for painting in recipe.paintings] == ["painting.png"]
    assert "secret-folder" not in text and str(tmp_path) not in text
    assert b"secret-folder" not in Path("out.png").read_bytes()


def test_the_recipe_in_the_picture_is_that_of_the_run(capsys: pytest.CaptureFixture[str]):
    record = paint(capsys, *PAIR, "-o", "out.png", *QUICK, "--strength", "33")
    inside, beside = (
        loading.from_json(images.embedded_recipe("out.png") or ""),
        loading.load("out.png.run/recipe.toml"),
    )
    assert inside.sha256 == beside.sha256 == record["recipe_sha256"]
    folders = {"photo": {"path"}, "paintings": {"__all__": {"path"}}}
    assert inside.model_dump(exclude=folders) == beside.model_dump(exclude=folders)


# ---- it says before it starts --------------------------------------------------------------------


def test_size_device_time_and_memory_are_said_before_and_kept(capsys: pytest.CaptureFixture[str]):
    cli.main(
        [
            "stylize",
            *PAIR,
            "-o",
            "out.png",
            "--size",
            "128",
            "--schedule-coarsest",
            "64",
            "--iterations",
            "2,1",
        ]
    )
    first, said, *_ = capsys.readouterr().err.splitlines()
    assert first == "Painting from photo.png and painting.png."
    stages = "stages 64x48:2 > 128x96:1"
    found = re.match(
        rf"(\d+)x(\d+) on cpu.*{stages}, about \d+ s and ([\d.]+) MB of ([\d.]+) GB free", said
    )
    assert found, said
    with Image.open("out.png") as image:
        assert image.size == (int(found[1]), int(found[2])) == (128, 96)
    assert 0 < float(found[3]) < 2000


@pytest.mark.parametrize("shape", [(75, 100), (100, 75), (64, 64), (61, 97), (33, 40)])
@pytest.mark.parametrize("size", [0, 64, 85])
def test_the_size_is_the_one_asked_for(shape: tuple[int, int], size: int):
    height, width = shape
    painting = impasto.stylize(
        random_pixels(*shape), "painting.png", size=size, iterations=1, schedule_coarsest=32
    )
    found = painting.pixels.shape[:2]
    if size == 0:
        assert found == shape
    else:
        assert max(found) == size
        assert abs(found[0] / found[1] - height / width) < 1 / min(found)


# ---- it never loses work -------------------------------------------------------------------------


def test_a_disk_that_is_full_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    painting = impasto.stylize(*PAIR, size=64, iterations=1)
    Path("out.png").write_bytes(b"the picture of yesterday")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="No space left"):
        painting.save("out.png")
    assert Path("out.png").read_bytes() == b"the picture of yesterday"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_picture_that_cannot_be_saved_is_a_failed_run_and_not_a_bad_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as end:
        cli.main(["stylize", *PAIR, "-o", "out.png", *QUICK, "--no-run"])
    assert end.value.code == 1
    assert "No space left" in capsys.readouterr().err and not Path("out.png").exists()


# ---- private -------------------------------------------------------------------------------------


def test_nothing_leaves_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def connect(*_: object) -> None:
        raise AssertionError("a connection was opened")

    stub_museum(monkeypatch)
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    record = paint(capsys, "photo.png", "irises", "-o", "out.png", *QUICK)
    assert record["credit"].startswith("Vincent van Gogh")
