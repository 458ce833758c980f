"""Nothing finished is replaced, nothing unfinished is lost, and what is not provably a run's is not
touched.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import impasto
from impasto import images
from impasto.errors import CannotWrite
from impasto.networks.features import Network
from impasto.recipe import loading
from impasto.runs import folder as runs
from impasto.runs.destination import default_name
from impasto.runs.writer import RunWriter
from impasto.session import Session
from tests.support.pictures import read_pixels, save_random, stub_museum
from tests.support.pocket_network import PAIR
from tests.support.program import folder_contents, interrupt_at, run_command, run_stylize

QUICK = ("--size", "64", "--iterations", "2")
LONG = ("--size", "96", "--schedule-coarsest", "48", "--iterations", "16,16")
Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("pocket_pictures")


def stopped(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, *arguments: str, evaluation: int = 12
) -> str:
    """Paint, with Ctrl-C in the middle; gives the lines on standard error."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, (evaluation,))
        return run_stylize(capsys, *arguments, quiet=False, code=130)[2]


# ---- folders that are not provably a run's -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("result.jpg", "preview.jpg"),
        ("preview.jpg",),
        ("record.json",),
        ("state.safetensors", "result.png"),
        ("events.jsonl", "result.png"),
        ("recipe.toml", "result.png"),
        ("recipe.toml",),
        ("snapshots/evaluation-000100.png",),
        ("holiday.jpg",),
    ],
)
@pytest.mark.parametrize("more", [(), ("--fresh",), ("--overwrite",)])
def test_a_folder_of_the_users_own_files_is_refused_and_not_touched(
    names: tuple[str, ...], more: tuple[str, ...], capsys: Captured
):
    for name in names:
        Path("mine", name).parent.mkdir(parents=True, exist_ok=True)
        Path("mine", name).write_text("strength = 20" if name == "recipe.toml" else "precious")
    before = folder_contents()
    assert run_command("stylize", *PAIR, "-o", "out.png", "--run", "mine", *QUICK, *more) == 2
    err = capsys.readouterr().err
    assert "mine is no run folder" in err and "--run DIR" in err
    assert folder_contents() == before


def test_the_folder_of_an_earlier_run_is_known_by_its_recipe_or_its_log(capsys: Captured):
    for damage in ("", "recipe", "log"):
        run_stylize(
            capsys, *PAIR, "-o", "out.png", *QUICK, "--overwrite", "--seed", str(len(damage))
        )
        folder = Path("out.png.run")
        if damage == "recipe":
            (folder / runs.RECIPE).write_text("size = = 3")
        if damage == "log":
            for file in folder.iterdir():
                if file.name not in (runs.RECIPE, runs.RECORD):
                    file.unlink()
        runs.check(folder)


# ---- what is there already -----------------------------------------------------------------------


def test_two_requests_of_one_name_leave_two_pictures(capsys: Captured):
    first, *_ = run_stylize(capsys, *PAIR, *QUICK, "--strength", "20")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    second, *_ = run_stylize(capsys, *PAIR, *QUICK, "--strength", "90")
    assert (first.name, second.name) == ("photo-painting.png", "photo-painting-2.png")
    assert {path: path.read_bytes() for path in before} == before
    assert (read_pixels(first) != read_pixels(second)).any()


@pytest.mark.parametrize("out", [(), ("-o", "out.png")])
def test_the_same_command_says_that_it_is_done_and_where(out: tuple[str, ...], capsys: Captured):
    first, *_ = run_stylize(capsys, *PAIR, *QUICK, *out)
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    again, _, err = run_stylize(capsys, *PAIR, *QUICK, *out, quiet=False)
    assert (
        again == first
        and f"It was painted before, in {first}" in err
        and "--fresh paints it again" in err
    )
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_a_finished_picture_that_is_gone_is_put_back_from_its_run(capsys: Captured):
    path, *_ = run_stylize(capsys, *PAIR, *QUICK)
    data = path.read_bytes()
    path.unlink()
    again, _, err = run_stylize(capsys, *PAIR, *QUICK, quiet=False)
    assert again == path and "put back" in err and path.read_bytes() == data


@pytest.mark.slow
@pytest.mark.parametrize("run_options", [(), ("--no-run",), ("--run", "log")])
@pytest.mark.parametrize("there", ["a picture of the user's", "a painting by other settings"])
def test_a_named_picture_that_is_there_is_kept_unless_it_may_be_overwritten(
    there: str, run_options: tuple[str, ...], capsys: Captured
):
    if there == "a picture of the user's":
        save_random("out.png", seed=7)
    else:
        run_stylize(capsys, *PAIR, "-o", "out.png", *QUICK, "--strength", "20")
    before = folder_contents()
    assert run_command("stylize", *PAIR, "-o", "out.png", *QUICK, *run_options) == 2
    err = capsys.readouterr().err
    assert "out.png exists already and is kept" in err and "--overwrite" in err
    assert folder_contents() == before
    path, *_ = run_stylize(capsys, *PAIR, "-o", "out.png", *QUICK, *run_options, "--overwrite")
    assert loading.from_json(images.embedded_recipe(path) or "").strength == 50


def test_a_named_run_of_a_finished_picture_is_kept(capsys: Captured):
    run_stylize(capsys, *PAIR, "-o", "a.png", "--run", "log", *QUICK)
    before = folder_contents()
    assert (
        run_command(
            "stylize",
            *PAIR,
            "-o",
            "b.png",
            "--run",
            "log",
            *QUICK,
            "--seed",
            "1",
            "--init",
            "noise",
        )
        == 2
    )
    assert "log holds the run of a finished picture" in capsys.readouterr().err
    assert folder_contents() == before


def test_the_picture_of_another_file_type_is_another_picture(capsys: Captured):
    run_stylize(capsys, *PAIR, "-o", "a.jpg", *QUICK)
    assert run_command("stylize", *PAIR, "-o", "a.jpg", *QUICK, "--output-quality", "60") == 2
    assert "exists already" in capsys.readouterr().err
    name, *_ = run_stylize(capsys, *PAIR, *QUICK)
    other, *_ = run_stylize(capsys, *PAIR, *QUICK, "--output-bits", "16")
    assert (name.name, other.name) == ("photo-painting.png", "photo-painting-2.png")


# ---- unfinished runs -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        ("--output-quality", "90"),
        ("--output-bits", "16"),
        ("--max-megapixels", "3"),
        ("--memory", "6GB"),
    ],
)
@pytest.mark.parametrize("out", [(), ("-o", "out.png")])
def test_settings_that_do_not_decide_the_pixels_do_not_start_a_run_over(
    changed: tuple[str, str],
    out: tuple[str, ...],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    stopped(capsys, monkeypatch, *PAIR, *out, *LONG)
    path, _, err = run_stylize(capsys, *PAIR, *out, *LONG, *changed, quiet=False)
    assert "Continuing an unfinished run after" in err
    whole, *_ = run_stylize(capsys, *PAIR, "-o", "whole.png", *LONG, *changed)
    assert path.read_bytes() == whole.read_bytes()
    kept = loading.load(f"{path}.run/recipe.toml")
    assert kept == loading.load("whole.png.run/recipe.toml")


@pytest.mark.slow
def test_an_unfinished_run_of_another_request_is_kept_under_another_name(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    stopped(capsys, monkeypatch, *PAIR, "-o", "out.png", *LONG)
    state = Path("out.png.run", runs.STATE).read_bytes()
    _, _, err = run_stylize(capsys, *PAIR, "-o", "out.png", *LONG, "--strength", "20", quiet=False)
    assert re.search(
        r"note: .*out\.png\.run held the run of another request: it is kept as out\.png\.run-1\.",
        err,
    )
    assert Path("out.png.run-1", runs.STATE).read_bytes() == state
    finished = Path("out.png").read_bytes()
    assert run_command("resume", "out.png.run-1", "--quiet") == 0
    resumed = Path(capsys.readouterr().out.strip())
    assert resumed.name == "out-2.png" and Path("out.png").read_bytes() == finished
    whole, *_ = run_stylize(capsys, *PAIR, "-o", "whole.png", *LONG)
    assert resumed.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_with_a_made_up_name_an_unfinished_run_of_another_request_stays_where_it_is(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    stopped(capsys, monkeypatch, *PAIR, *LONG)
    other, *_ = run_stylize(capsys, *PAIR, *LONG, "--strength", "20")
    assert other.name == "photo-painting-2.png"
    path, _, err = run_stylize(capsys, *PAIR, *LONG, quiet=False)
    assert path.name == "photo-painting.png" and "Continuing" in err


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems refuse names that are not Unicode"
)
def test_names_that_are_not_utf_8_are_painted_resumed_and_told(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    odd = os.fsdecode(b"bad\xff.png")
    for name in ("photo", "painting", "start"):
        Path(f"{name}.png" if name != "start" else "other.png").rename(f"{name}-{odd}")
    names = (
        f"photo-{odd}",
        f"painting-{odd}",
        "--init",
        f"start-{odd}",
        *LONG,
        "--json",
        "--quiet",
    )
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, (12,))
        assert run_command("stylize", *names) == 130
    assert json.loads(capsysbinary.readouterr().out)["stopped"] is True
    [folder] = Path().glob("*.run")
    kept = loading.load(str(folder / runs.RECIPE))
    assert kept.photo is not None and kept.photo.path == str(tmp_path / f"photo-{odd}")
    assert kept.schedule.start == str(tmp_path / f"start-{odd}")
    assert run_command("resume", str(folder), "--json", "--quiet") == 0
    record = json.loads(capsysbinary.readouterr().out)
    path = Path(record["output"])
    assert (
        os.fsencode(path.name) == b"photo-bad\xff-painting-bad\xff.png"
        and record["stopped"] is False
    )
    assert json.loads((folder / runs.RECORD).read_text("utf-8"))["output"] == str(path)
    assert run_command("stylize", *names, "-o", odd) == 0
    assert path.read_bytes() == Path(odd).read_bytes()
    inside = loading.from_json(images.embedded_recipe(path) or "")
    assert inside.photo is not None and inside.photo.path == f"photo-{odd}"
    assert (
        run_command("stylize", *names[:2], "--recipe", str(path), "-o", "again.png", "--quiet") == 0
    )
    assert Path("again.png").read_bytes() == path.read_bytes()
    assert run_command("report", str(folder), "-o", "page.html", "--no-gradients", "--quiet") == 0


def test_the_path_of_such_a_picture_comes_out_as_its_bytes(tmp_path: Path):
    program = (
        "from impasto.cli.terminal import set_up_streams; set_up_streams(); "
        "print('bad\\udcff.png \\u00e9 \\u6f22')"
    )
    for coding, expected in (("utf-8", "é 漢".encode()), ("ascii", b"? ?")):
        environment = {**os.environ, "PYTHONIOENCODING": coding}
        found = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, env=environment, check=True
        )
        assert found.stdout == b"bad\xff.png " + expected + os.linesep.encode()


@pytest.mark.parametrize("letter", ["a", "漢"])
def test_names_as_long_as_can_be(letter: str, capsys: Captured):
    longest = letter * ((255 - 4) // len(letter.encode()))
    Path("photo.png").rename(f"{longest}.png")
    path, *_ = run_stylize(capsys, f"{longest}.png", "painting.png", *QUICK)
    assert path.name.endswith("-painting.png") and Path(f"{path}.run").is_dir()
    named, *_ = run_stylize(
        capsys, f"{longest}.png", "painting.png", "-o", f"{longest}.png"[1:], *QUICK
    )
    assert named.name == f"{longest}.png"[1:]
    assert (
        len([each for each in Path().iterdir() if each.is_dir() and (each / runs.RECORD).exists()])
        == 2
    )


def test_made_up_names_tell_long_names_apart():
    one, other = ("x" * 240 + end for end in "ab")
    names = {
        default_name(f"{photo}.jpg", [f"{style}.jpg"])
        for photo in (one, other)
        for style in (one, other, "irises:0.7")
    }
    assert len(names) == 6 and all(len(name) < 235 for name in names)
    assert (
        default_name("a/photo.jpg", ["irises:0.7", "b/other.png:0.3"]) == "photo-irises-other.png"
    )


@pytest.mark.parametrize("given", ["made/", "made"])
def test_a_folder_as_output_takes_the_made_up_name(given: str, capsys: Captured):
    if given == "made":
        Path(given).mkdir()
    path, *_ = run_stylize(capsys, *PAIR, "-o", given, *QUICK)
    assert path == Path("made/photo-painting.png").absolute() and path.is_file()


def test_a_tilde_that_no_shell_replaced_is_the_home_folder(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    Path("photo.png").rename("home/photo.png")
    path, *_ = run_stylize(
        capsys, "~/photo.png", "painting.png", "--output=~/x.png", "--run=~/log", *QUICK
    )
    assert path == tmp_path / "home/x.png" and not Path("~").exists()
    assert Path("home/log", runs.RECORD).exists()


def test_a_folder_does_not_hide_a_painting_of_the_museum(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    stub_museum(monkeypatch)
    Path("irises").mkdir()
    _, _, err = run_stylize(capsys, "photo.png", "irises", *QUICK, quiet=False)
    assert "irises is the museum's painting; the folder of that name was not taken." in err
    Path("irises").rmdir()
    with Image.open("other.png") as image:
        image.save("irises", "PNG")
    _, _, err = run_stylize(capsys, "photo.png", "irises", "-o", "file.png", *QUICK, quiet=False)
    assert "irises is a file here; the museum's painting of that name was not taken." in err


def test_an_output_and_a_run_that_are_the_users_own_links_stay_links(capsys: Captured):
    Path("real").mkdir()
    Path("link").symlink_to("real")
    run_stylize(capsys, *PAIR, "-o", "link/out.png", *QUICK)
    assert Path("link").is_symlink() and Path("real/out.png").is_file()


def test_editing_the_picture_in_place_leaves_the_one_of_the_run(capsys: Captured):
    path, *_ = run_stylize(capsys, *PAIR, *QUICK)
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(b"changed")
    assert Path(f"{path}.run/result.png").read_bytes() == data
    other, *_ = run_stylize(
        capsys, *PAIR, *QUICK
    )  # what is there is not what was painted: it is kept
    assert other.name == "photo-painting-2.png" and path.read_bytes().startswith(b"changed")


# ---- several at once, and what is replaced by intent ---------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--overwrite",), ("--fresh",)])
def test_a_finished_picture_is_replaced_by_a_finished_one_alone(
    more: tuple[str, ...], capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    settings = LONG if more == ("--fresh",) else QUICK
    run_stylize(capsys, *PAIR, "-o", "out.png", *settings)
    before = Path("out.png").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, (5,))
        assert run_command("stylize", *PAIR, "-o", "out.png", *LONG, *more) == 130
    out, err = capsys.readouterr()
    assert "out.png is kept as it was; this picture is not finished." in err and out == ""
    assert Path("out.png").read_bytes() == before
    run_stylize(capsys, *PAIR, "-o", "out.png", *LONG, "--overwrite")
    assert (Path("out.png").read_bytes() == before) == (more == ("--fresh",))


def test_snapshots_of_a_finished_picture_are_no_reason_to_replace_it(capsys: Captured):
    run_stylize(capsys, *PAIR, "-o", "out.png", *QUICK, "--output-bits", "16")
    before = folder_contents()
    for more in ((), ("--output-bits", "16")):
        assert (
            run_command("stylize", *PAIR, "-o", "out.png", *QUICK, *more, "--snapshots", "1") == 2
        )
        assert re.search(
            r"out\.png (exists|is finished) already.* is kept\.", capsys.readouterr().err
        )
        assert folder_contents() == before
    other, *_ = run_stylize(capsys, *PAIR, *QUICK)
    again, *_ = run_stylize(capsys, *PAIR, *QUICK, "--snapshots", "1")
    assert (other.name, again.name) == ("photo-painting.png", "photo-painting-2.png")


def test_an_edited_picture_is_kept_whatever_recipe_it_still_carries(capsys: Captured):
    run_stylize(capsys, *PAIR, "-o", "out.png", *QUICK)
    with Image.open("out.png") as image:
        image.load()
        image.crop((0, 0, 32, 32)).save("out.png", xmp=image.info.get("xmp"))
    before = Path("out.png").read_bytes()
    for more in ((), ("--fresh",), ("--snapshots", "1")):
        assert run_command("stylize", *PAIR, "-o", "out.png", *QUICK, *more) == 2
        assert "exists already and is kept" in capsys.readouterr().err
        assert Path("out.png").read_bytes() == before


@pytest.mark.parametrize("run_options", [(), ("--no-run",)])
@pytest.mark.parametrize("out", [(), ("-o", "photo-painting.png")])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    run_options: tuple[str, ...],
    out: tuple[str, ...],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    call, calls = Network.__call__, [0]

    def meanwhile(self: Network, picture: torch.Tensor, **how: Any) -> dict[str, torch.Tensor]:
        calls[0] += picture.requires_grad
        if calls[0] == 2:
            Path("photo-painting.png").write_bytes(b"of another program")
        return call(self, picture, **how)

    monkeypatch.setattr(Network, "__call__", meanwhile)
    path, _, err = run_stylize(capsys, *PAIR, *QUICK, *out, *run_options, quiet=False)
    assert path.name == "photo-painting-2.png" and "was written by another program meanwhile" in err
    assert Path("photo-painting.png").read_bytes() == b"of another program" and read_pixels(
        path
    ).shape == (48, 64, 3)


def test_another_program_that_is_at_work_has_its_name(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    """It began while this one read the network."""
    open_session = Session.open

    def meanwhile(*args: Any, **options: Any) -> Session:
        session = open_session(*args, **options)
        if not held:
            folder = Path("photo-painting.png.run").absolute()
            held.append(RunWriter.start(folder, session.inputs.recipe))
        return session

    held: list[RunWriter] = []
    monkeypatch.setattr(Session, "open", meanwhile)
    path, *_ = run_stylize(capsys, *PAIR, *QUICK)
    assert (
        path.name == "photo-painting-2.png"
        and Path("photo-painting-2.png.run", runs.RECORD).exists()
    )
    assert not Path("photo-painting.png").exists()
    assert run_command("stylize", *PAIR, "-o", "photo-painting.png", *QUICK) == 2
    assert "Another impasto is painting with the run folder" in capsys.readouterr().err
    held[0].close()


def test_a_picture_is_not_saved_over_what_it_was_painted_from():
    before = Path("photo.png").read_bytes()
    found = impasto.stylize("photo.png", "painting.png", size=64, iterations=1)
    with pytest.raises(CannotWrite, match="one of the input pictures"):
        found.save("photo.png")
    assert Path("photo.png").read_bytes() == before
    assert found.save("other-name.png").is_file()


def test_a_sweep_of_other_settings_keeps_poster_and_table(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
):
    Path("own/runs").mkdir(parents=True)
    Path("own/sweep.csv").write_text("mine")
    Path("own/poster.png").write_text("mine")
    Path("swept/runs").mkdir(parents=True)
    Path("swept/sweep.csv").write_text(
        "strength,width,height,loss,evaluations,seconds,judge,file,note\n"
    )
    before = folder_contents()
    for folder, words in (("own", "is no sweep's folder"), ("swept", "holds a sweep of strength")):
        assert run_command("sweep", *PAIR, *QUICK, "--init", "content,noise", "-o", folder) == 2
        assert words in capsys.readouterr().err and folder_contents() == before


@pytest.mark.parametrize("command", ["report", "timelapse", "explain"])
def test_what_a_command_makes_does_not_replace_what_is_there(command: str, capsys: Captured):
    run_stylize(capsys, *PAIR, "-o", "out.png", *QUICK, "--snapshots", "every=1")
    Path("film.webp").write_text("mine")
    Path("x-loss.png").write_text("mine")
    Path("page").mkdir()
    Path("page/poster.png").write_text("mine")
    before = folder_contents()
    arguments = {"report": ("out.png", "-o", "x.html"), "timelapse": ("out.png", "-o", "film.webp")}
    assert run_command(command, *arguments.get(command, ("photo.png", "-o", "page"))) == 2
    assert (
        re.search("is kept|no explanation", capsys.readouterr().err) and folder_contents() == before
    )
