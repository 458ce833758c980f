"""The film of a run: its frames, how long each is shown, and what is refused."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto import images
from impasto.errors import BadRequest
from impasto.geometry import Size
from impasto.runs import folder, snapshots
from impasto.runs.timelapse import Timing
from tests.support.pictures import random_pixels
from tests.support.program import run_command
from tests.support.run_logs import PLANNED, stepped, write_log

Captured = pytest.CaptureFixture[str]
FOLDER = Path("a.png.run")
GREYS = (40, 90, 140, 190)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run of 45x61 px: two coarse snapshots, two in full, each of one grey with a frame of noise,
    and a result.
    """
    monkeypatch.chdir(tmp_path)
    write_log(FOLDER, PLANNED, *(stepped(number, float(number)) for number in range(1, 7)))
    for number, grey in enumerate(GREYS, 1):
        size = Size(24, 32) if number <= 2 else Size(48, 64)
        shot(FOLDER / folder.SNAPSHOTS / snapshots.file_name(number), grey, size)
    shot(FOLDER / "result.png", 230, Size(48, 64))
    (FOLDER / folder.RECORD).write_text("{}")


def shot(path: Path, grey: int, size: Size) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.full((*size, 3), grey / 255, np.float32)
    pixels[: size.height // 4] = random_pixels(
        size.height // 4, size.width, seed=grey
    ) / np.float32(255)
    images.save(path, pixels)


def film(*options: str) -> Path:
    assert run_command("timelapse", str(FOLDER), *options) == 0
    return Path(options[options.index("-o") + 1]) if "-o" in options else Path("a.png.mp4")


def greys(frames: list[Any]) -> list[int]:
    return [round(float(np.median(np.asarray(frame)[frame.shape[0] // 2 :]))) for frame in frames]


def test_how_long_each_picture_is_shown():
    assert Timing(10, 1.0, 0.5).frame_counts(5) == [(0, 2), (1, 2), (2, 2), (3, 2), (4, 7)]
    assert Timing(10, 0.3, 0).frame_counts(9) == [(2, 1), (5, 1), (8, 1)]
    assert Timing(24, None, 0).frame_counts(240) == [(index, 1) for index in range(240)]
    assert sum(count for _, count in Timing(24, None, 2).frame_counts(3)) == 24 * 6
    assert Timing(1, 0.1, 0).frame_counts(4) == [(3, 1)]
    assert Timing(7, 3.3, 0).frame_counts(1) == [(0, 23)]


@pytest.mark.parametrize(
    "wrong",
    [Timing(0, 1, 1), Timing(61, 1, 1), Timing(24, 0, 1), Timing(24, -1, 1), Timing(24, None, -1)],
)
def test_numbers_out_of_range_are_refused(wrong: Timing):
    with pytest.raises(BadRequest, match="must be"):
        wrong.check()


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_an_animation_is_endless_and_all_of_one_size(ending: str):
    path = film("-o", f"film.{ending}", "--seconds", "2", "--hold", "1.5")
    with Image.open(path) as image:
        frames, shown = [], []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            shown.append(image.info["duration"])
        assert image.info["loop"] == 0 and image.size == (64, 48)
    assert np.abs(np.array(greys(frames)) - [*GREYS, 230]).max() <= 6
    assert sum(shown) == pytest.approx(3500, abs=20) and shown[-1] > 1500


def test_what_was_painted_once_does_not_flicker_in_a_gif():
    """Two pictures that are the same but for their upper quarter: of the rest not a dot moves."""
    for path in (FOLDER / folder.SNAPSHOTS).iterdir():
        path.unlink()
    for number, seed in ((4, 1), (5, 2)):
        pixels = (
            np.full((48, 64, 3), 0.3, np.float32)
            + np.linspace(0, 0.4, 64, dtype=np.float32)[None, :, None]
        )
        pixels[:12] = random_pixels(12, 64, seed=seed) / np.float32(255)
        images.save(FOLDER / folder.SNAPSHOTS / snapshots.file_name(number), pixels)
    with Image.open(film("-o", "film.gif")) as image:
        first = np.asarray(image.convert("RGB"))
        image.seek(1)
        second = np.asarray(image.convert("RGB"))
    assert np.array_equal(first[12:], second[12:]) and not np.array_equal(first[:12], second[:12])


def test_an_mp4_plays_everywhere():
    av = pytest.importorskip("av")
    path = film("--fps", "10", "--seconds", "1", "--hold", "0.5", "--size", "63")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == (
            "h264",
            "yuv420p",
            10,
        )
    assert {frame.shape for frame in frames} == {(46, 62, 3)}
    assert len(frames) == 15
    assert (
        np.abs(np.array(greys(frames)) - np.array([*np.repeat([*GREYS, 230], 2), *[230] * 5])).max()
        <= 3
    )
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_an_unfinished_run_ends_with_its_last_snapshot_or_a_newer_preview():
    (FOLDER / folder.RECORD).unlink()
    with Image.open(film("-o", "film.webp")) as image:
        assert image.n_frames == 4
    shot(FOLDER / "preview.jpg", 250, Size(48, 64))
    with Image.open(film("-o", "film.webp", "--overwrite")) as image:
        assert image.n_frames == 5


def test_a_snapshot_that_was_cut_short_is_left_out():
    path = FOLDER / folder.SNAPSHOTS / snapshots.file_name(2)
    path.write_bytes(path.read_bytes()[:80])
    with Image.open(film("-o", "film.webp")) as image:
        assert image.n_frames == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "film.avi"), "must be one of: .mp4 .gif .webp"),
        (("-o", "film"), "has no extension"),
        (("-o", "a.png.run/film.gif"), "lie in the run's folder"),
        (("-o", "film.gif", "--size", "5"), "16 to 4096"),
        (("-o", "film.gif", "--fps", "0"), "fps is 0"),
        (("-o", "film.gif", "--fps", "x"), "fps"),
        (("-o", "film.gif", "--hold", "nan"), "hold is nan"),
        (("-o", "film.gif", "--seconds", "inf"), "seconds is inf"),
    ],
)
def test_what_cannot_be_made_is_refused(options: tuple[str, ...], said: str, capsys: Captured):
    before = sorted(Path().rglob("*"))
    assert run_command("timelapse", str(FOLDER), *options) == 2
    assert said in capsys.readouterr().err and sorted(Path().rglob("*")) == before


def test_a_run_without_snapshots_is_refused_with_what_to_do(capsys: Captured):
    for path in (FOLDER / folder.SNAPSHOTS).iterdir():
        path.unlink()
    assert run_command("timelapse", "a.png.run", "-o", "film.gif") == 2
    assert "--snapshots every=3" in capsys.readouterr().err


@pytest.fixture
def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV is not installed."""
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)


def test_a_missing_library_is_named(without_av: None, capsys: Captured):
    assert run_command("timelapse", "a.png.run", "-o", "film.mp4") == 2
    assert "impasto[video]" in capsys.readouterr().err and not Path("film.mp4").exists()


def test_without_a_name_and_the_library_the_film_is_a_webp_and_one_note_says_so(
    without_av: None, capsys: Captured
):
    assert run_command("timelapse", "a.png.run") == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()) == Path("a.png.webp").resolve() and not Path("a.png.mp4").exists()
    assert err.count("note:") == 1 and "pip install 'impasto[video]'" in err
    with Image.open("a.png.webp") as image:
        assert image.format == "WEBP" and image.n_frames == 5
    assert run_command("timelapse", "a.png.run", "-o", "film.webp") == 0
    assert capsys.readouterr().err == ""


def test_without_a_name_the_film_is_an_mp4_where_one_can_be_written(capsys: Captured):
    pytest.importorskip("av")
    assert run_command("timelapse", "a.png.run") == 0
    out, err = capsys.readouterr()
    assert (
        Path(out.strip()) == Path("a.png.mp4").resolve()
        and err == ""
        and not Path("a.png.webp").exists()
    )
