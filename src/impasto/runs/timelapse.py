"""The film of a picture's making: a run's snapshots one after another, the last one held.

It knows film files and that a film stands still but for what was painted: all frames have one size,
and one palette where there are few colours. It refuses to know how a snapshot came about.
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from impasto import images
from impasto.errors import BadRequest, MissingExtra
from impasto.geometry import Size
from impasto.runs import folder as runs
from impasto.runs.history import History
from impasto.storage.files import replace_file

Frame = npt.NDArray[np.uint8]  # (H, W, 3)
EXTENSIONS = (".mp4", ".gif", ".webp")
INSTALL = "pip install 'impasto[video]'"  # for films as MP4
# That a making is shown for where nothing is asked for: a few snapshots would be over in a blink.
_LEAST_SECONDS = 4.0
# Long side where nothing is asked for; a GIF is large in bytes.
_USUAL_SIDE = {".mp4": 1920, ".gif": 480, ".webp": 960}
_SIDES, _FPS, _SECONDS = (16, 4096), (1, 60), 3600.0
_LIMIT = 250.0  # megapixels of a picture that is read


@dataclass(frozen=True)
class Timing:
    """Frames a second, seconds of the making (None: a frame for each picture, and four seconds at
    least), and seconds for which the last picture stays.
    """

    fps: int
    seconds: float | None
    hold: float

    def check(self) -> None:
        """Raises BadRequest for a number out of range."""
        low, high = _FPS
        if not low <= self.fps <= high:
            raise BadRequest(
                f"fps is {self.fps}, but it must be {low} to {high}.", "24 is that of the cinema."
            )
        if self.seconds is not None and not 0 < self.seconds <= _SECONDS:
            raise BadRequest(
                f"seconds is {self.seconds:g}, but it must be above 0 and at most {_SECONDS:g}."
            )
        if not 0 <= self.hold <= _SECONDS:
            raise BadRequest(f"hold is {self.hold:g}, but it must be 0 to {_SECONDS:g} seconds.")

    def showing(self, pictures: int) -> list[tuple[int, int]]:
        """Which pictures are shown for how many frames, as (index, frames); where there are more of
        them, not all are.
        """
        seconds = (
            self.seconds if self.seconds is not None else max(_LEAST_SECONDS, pictures / self.fps)
        )
        frames = max(1, round(seconds * self.fps))
        # The last frame is the last picture's.
        shown = [
            pictures - 1 - (frames - 1 - frame) * pictures // frames for frame in range(frames)
        ]
        counts = Counter(shown)  # which keeps their order
        counts[pictures - 1] += round(self.hold * self.fps)
        return list(counts.items())


def film(history: History, output: Path, timing: Timing, size: int | None = None) -> None:
    """Write the film of a run to ``output``, an MP4 (H.264), an endless GIF or an endless WebP.

    ``size`` is the long side of the frames; where it is left out they have the picture's own size,
    but no more than 1920 pixels in an MP4, 960 in a WebP, 480 in a GIF. Smaller pictures are
    enlarged to it.

    Raises:
        BadRequest: the run kept no snapshots, or a number is out of range.
        MissingExtra: an MP4 without the library that writes it.
        CannotWrite: the file cannot be written there.
    """
    kind = output.suffix.lower()
    timing.check()
    if size is not None and not _SIDES[0] <= size <= _SIDES[1]:
        raise BadRequest(f"size is {size}, but it must be {_SIDES[0]} to {_SIDES[1]} px.")
    if kind == ".mp4" and not writes_mp4():
        hint = f"{INSTALL}, or name the film .webp or .gif, which need nothing more."
        raise MissingExtra("An MP4 needs PyAV, which is not installed.", hint)
    files = _files(history)
    whole = history.planned.size
    side = size or min(whole.long_side, _USUAL_SIDE[kind])
    showing = timing.showing(len(files))
    scene = _Scene(
        [files[index] for index, _ in showing],
        [count for _, count in showing],
        whole.with_long_side(side),
    )
    replace_file(output, _WRITERS[kind](scene, timing.fps))


@dataclass(frozen=True)
class _Scene:
    """Picture files, for how many frames each is shown, and the size of them all."""

    files: list[Path]
    counts: list[int]
    size: Size

    def frames(self, size: Size | None = None) -> Iterator[Frame]:
        """The pictures one after another, each once."""
        for file in self.files:
            picture = images.read(file, max_megapixels=_LIMIT)
            pixels, alpha = picture.pixels, picture.alpha
            if alpha is not None:  # a film has no transparency
                pixels = pixels * alpha[..., None] + (1 - alpha[..., None])
            yield (images.resize(pixels, size or self.size) * 255).round().astype(np.uint8)


def _files(history: History) -> list[Path]:
    """The run's pictures in order: its snapshots that can be read, and the result, or a preview
    that is newer than they.

    Raises:
        BadRequest: there are no snapshots.
    """
    kept = [path for _, path in runs.snapshot_files(history.folder) if _reads(path)]
    if not kept:
        hint = "Paint it with --snapshots every=3, and --fresh where it is painted already."
        raise BadRequest(f"The run {history.folder} kept no snapshots to make a film of.", hint)
    last, preview = runs.result_file(history.folder), history.folder / runs.PREVIEW
    if last is None and preview.is_file() and preview.stat().st_mtime > kept[-1].stat().st_mtime:
        last = preview
    return kept + ([last] if last is not None else [])


def _reads(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def writes_mp4() -> bool:
    """Whether PyAV is there, without which no MP4 can be written."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def _mp4(scene: _Scene, fps: int) -> bytes:
    """H.264 in 4:2:0 by the colours of BT.709, which every player takes, its index first: it plays
    as it arrives.
    """
    import av

    size = Size(scene.size.height // 2 * 2, scene.size.width // 2 * 2)  # colour has half the pixels
    with tempfile.TemporaryDirectory() as folder:
        # The index is moved by reading the file again, which a buffer cannot do.
        file = Path(folder) / "film.mp4"
        with av.open(str(file), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream(
                "libx264", rate=fps, options={"crf": "17", "preset": "medium"}
            )
            stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = (
                1,
                1,
                1,
                1,
            )
            number = 0
            for pixels, count in zip(scene.frames(size), scene.counts, strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
                )
                for _ in range(count):
                    frame.pts, number = number, number + 1
                    container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return file.read_bytes()


def _webp(scene: _Scene, fps: int) -> bytes:
    frames = [Image.fromarray(pixels) for pixels in scene.frames()]
    return _animated(frames, "WEBP", _milliseconds(scene.counts, fps, 1), quality=88, method=4)


def _gif(scene: _Scene, fps: int) -> bytes:
    """One palette for the whole film and dots that stand still: colours of each frame's own would
    flicker.
    """
    palette = _palette(scene)
    height, width = scene.size
    dots = np.tile(_BAYER, (-(-height // 8), -(-width // 8)))[:height, :width, None] * _DOTS
    frames = []
    for pixels in scene.frames():
        dotted = (pixels + dots).round().clip(0, 255).astype(np.uint8)
        frames.append(Image.fromarray(dotted).quantize(palette=palette, dither=Image.Dither.NONE))
    return _animated(
        frames, "GIF", _milliseconds(scene.counts, fps, 10), optimize=False, disposal=1
    )


def _palette(scene: _Scene) -> Image.Image:
    """256 colours that suit all frames: of a strip of some of them, small."""
    files = [
        scene.files[round(place)]
        for place in np.linspace(0, len(scene.files) - 1, min(len(scene.files), 12))
    ]
    small = scene.size.with_long_side(min(160, scene.size.long_side))
    strip = np.concatenate(list(_Scene(files, [], small).frames()))
    return Image.fromarray(strip).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2)


def _bayer(order: int) -> npt.NDArray[np.float64]:
    """Thresholds -0.5..0.5 of ordered dithering, (2^order, 2^order) (Bayer, 1973)."""
    found = np.zeros((1, 1))
    for _ in range(order):
        found = np.block([[4 * found, 4 * found + 2], [4 * found + 3, 4 * found + 1]])
    return (found + 0.5) / found.size - 0.5


_BAYER = _bayer(3)
# 8-bit levels between which dots mediate: about what lies between two colours of such a palette.
_DOTS = 16.0


def _milliseconds(counts: list[int], fps: int, step: int) -> list[int]:
    """How long each picture is shown, in multiples of ``step``, with no error that adds up; at
    least two steps.
    """
    ends = [round(1000 * int(end) / fps / step) * step for end in np.cumsum(counts)]
    return [max(2 * step, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]


def _animated(
    frames: list[Image.Image], kind: str, milliseconds: list[int], **how: object
) -> bytes:
    """An endless animation."""
    buffer = io.BytesIO()
    first, *rest = frames
    first.save(
        buffer, kind, save_all=True, append_images=rest, duration=milliseconds, loop=0, **how
    )
    return buffer.getvalue()


_WRITERS: dict[str, Callable[[_Scene, int], bytes]] = {".mp4": _mp4, ".gif": _gif, ".webp": _webp}
