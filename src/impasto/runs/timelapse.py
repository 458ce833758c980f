"""Make a film of a run: its snapshots one after another, then the finished picture for a while.

All frames have one size, and in a GIF one palette, so that nothing moves but what was painted.
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
INSTALL = "pip install 'impasto[video]'"  # which writes MP4
_LEAST_SECONDS = 4.0  # by default: a few snapshots would be over too soon
_DEFAULT_SIDE = {".mp4": 1920, ".gif": 480, ".webp": 960}  # long side; a GIF is large in bytes
_SIDES, _FPS, _MOST_SECONDS = (16, 4096), (1, 60), 3600.0
_MOST_MEGAPIXELS = 250.0  # of a picture that is read


@dataclass(frozen=True)
class Timing:
    """How fast a film is.

    ``fps`` are frames per second. ``seconds`` is the time until the last picture; None means one
    frame for each picture and at least four seconds. ``hold`` is the time for which the last
    picture stays, in seconds.
    """

    fps: int
    seconds: float | None
    hold: float

    def check(self) -> None:
        """Raise BadRequest for a number out of range."""
        low, high = _FPS
        if not low <= self.fps <= high:
            raise BadRequest(
                f"fps is {self.fps}, but it must be {low} to {high}.", "Films in cinemas have 24."
            )
        if self.seconds is not None and not 0 < self.seconds <= _MOST_SECONDS:
            raise BadRequest(
                f"seconds is {self.seconds:g}, but it must be above 0 and at most "
                f"{_MOST_SECONDS:g}."
            )
        if not 0 <= self.hold <= _MOST_SECONDS:
            raise BadRequest(
                f"hold is {self.hold:g}, but it must be 0 to {_MOST_SECONDS:g} seconds."
            )

    def frame_counts(self, pictures: int) -> list[tuple[int, int]]:
        """Pictures and the number of frames for each, as (index, frames).

        If there are more pictures than frames, some pictures are left out.
        """
        seconds = (
            self.seconds if self.seconds is not None else max(_LEAST_SECONDS, pictures / self.fps)
        )
        frames = max(1, round(seconds * self.fps))
        # The last frame is the last picture's.
        shown = [
            pictures - 1 - (frames - 1 - frame) * pictures // frames for frame in range(frames)
        ]
        counts = Counter(shown)  # in the order of the film
        counts[pictures - 1] += round(self.hold * self.fps)
        return list(counts.items())


def write_film(history: History, output: Path, timing: Timing, size: int | None = None) -> None:
    """Write the film of a run as an MP4 (H.264), an endless GIF or an endless WebP.

    The format follows from the extension of ``output``. ``size`` is the long side of the frames in
    pixels. By default it is that of the picture, but at most 1920 in an MP4, 960 in a WebP and 480
    in a GIF. Smaller pictures are enlarged to it.

    Raises:
        BadRequest: the run has no snapshots, or a number is out of range.
        MissingExtra: the library that writes MP4 is not installed.
        CannotWrite: the file cannot be written there.
    """
    extension = output.suffix.lower()
    timing.check()
    if size is not None and not _SIDES[0] <= size <= _SIDES[1]:
        raise BadRequest(f"size is {size}, but it must be {_SIDES[0]} to {_SIDES[1]} px.")
    if extension == ".mp4" and not writes_mp4():
        hint = f"{INSTALL}, or name the film .webp or .gif, which need nothing more."
        raise MissingExtra("An MP4 needs PyAV, which is not installed.", hint)
    files = _files(history)
    whole = history.planned.size
    side = size or min(whole.long_side, _DEFAULT_SIDE[extension])
    counts = timing.frame_counts(len(files))
    sequence = _Sequence(
        [files[index] for index, _ in counts],
        [count for _, count in counts],
        whole.with_long_side(side),
    )
    replace_file(output, _WRITERS[extension](sequence, timing.fps))


@dataclass(frozen=True)
class _Sequence:
    """Picture files, the number of frames for each, and the size of all frames."""

    files: list[Path]
    counts: list[int]
    size: Size

    def frames(self, size: Size | None = None) -> Iterator[Frame]:
        """Each picture once, at ``size`` or the sequence's own."""
        for file in self.files:
            picture = images.read(file, max_megapixels=_MOST_MEGAPIXELS)
            pixels, alpha = picture.pixels, picture.alpha
            if alpha is not None:  # a film has no transparency
                pixels = pixels * alpha[..., None] + (1 - alpha[..., None])
            yield (images.resize(pixels, size or self.size) * 255).round().astype(np.uint8)


def _files(history: History) -> list[Path]:
    """The readable snapshots in order, then the result or a preview newer than the snapshots.

    Raises:
        BadRequest: there are no snapshots.
    """
    snapshots = [path for _, path in runs.snapshot_files(history.folder) if _is_readable(path)]
    if not snapshots:
        hint = "Paint it with --snapshots every=3, and add --fresh if it is painted already."
        raise BadRequest(f"The run {history.folder} has no snapshots to make a film of.", hint)
    last, preview = runs.result_file(history.folder), history.folder / runs.PREVIEW
    if last is None and preview.is_file():
        newer = preview.stat().st_mtime > snapshots[-1].stat().st_mtime
        last = preview if newer else None
    return snapshots + ([last] if last is not None else [])


def _is_readable(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def writes_mp4() -> bool:
    """Whether PyAV is installed, which writes MP4."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def _mp4(sequence: _Sequence, fps: int) -> bytes:
    """H.264 in 4:2:0 with BT.709 colors, which every player reads.

    Its index comes first, so that it plays while it is still being downloaded.
    """
    import av

    # Chroma has half the resolution, so both sides must be even.
    size = Size(sequence.size.height // 2 * 2, sequence.size.width // 2 * 2)
    with tempfile.TemporaryDirectory() as folder:
        # Moving the index needs to read the file again, which a buffer cannot do.
        file = Path(folder) / "film.mp4"
        with av.open(str(file), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream(
                "libx264", rate=fps, options={"crf": "17", "preset": "medium"}
            )
            stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
            context = stream.codec_context
            # 1 is BT.709, and of the range the limited one.
            context.color_primaries = context.color_trc = context.colorspace = 1
            context.color_range = 1
            number = 0
            for pixels, count in zip(sequence.frames(size), sequence.counts, strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
                )
                for _ in range(count):
                    frame.pts, number = number, number + 1
                    container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return file.read_bytes()


def _webp(sequence: _Sequence, fps: int) -> bytes:
    frames = [Image.fromarray(pixels) for pixels in sequence.frames()]
    return _animation(frames, "WEBP", _durations(sequence.counts, fps, 1), quality=88, method=4)


def _gif(sequence: _Sequence, fps: int) -> bytes:
    """One palette for all frames and ordered dithering, so that unchanged pixels do not flicker."""
    palette = _palette(sequence)
    height, width = sequence.size
    tiles = np.tile(_BAYER, (-(-height // 8), -(-width // 8)))
    dither = tiles[:height, :width, None] * _DITHER_LEVELS
    frames = []
    for pixels in sequence.frames():
        dithered = (pixels + dither).round().clip(0, 255).astype(np.uint8)
        frames.append(Image.fromarray(dithered).quantize(palette=palette, dither=Image.Dither.NONE))
    durations = _durations(sequence.counts, fps, 10)
    return _animation(frames, "GIF", durations, optimize=False, disposal=1)


def _palette(sequence: _Sequence) -> Image.Image:
    """256 colors for all frames, computed from up to 12 reduced frames."""
    last = len(sequence.files) - 1
    places = np.linspace(0, last, min(len(sequence.files), 12))
    files = [sequence.files[round(place)] for place in places]
    small = sequence.size.with_long_side(min(160, sequence.size.long_side))
    strip = np.concatenate(list(_Sequence(files, [], small).frames()))
    return Image.fromarray(strip).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2)


def _bayer(order: int) -> npt.NDArray[np.float64]:
    """Thresholds of ordered dithering, -0.5..0.5, (2^order, 2^order) (Bayer, 1973)."""
    matrix = np.zeros((1, 1))
    for _ in range(order):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return (matrix + 0.5) / matrix.size - 0.5


_BAYER = _bayer(3)
_DITHER_LEVELS = 16.0  # of 256: about the distance between two colors of such a palette


def _durations(counts: list[int], fps: int, step: int) -> list[int]:
    """Milliseconds for each picture: a multiple of ``step``, at least two steps.

    Rounding errors do not add up over the film.
    """
    ends = [round(1000 * int(end) / fps / step) * step for end in np.cumsum(counts)]
    return [max(2 * step, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]


def _animation(
    frames: list[Image.Image], format: str, durations: list[int], **options: object
) -> bytes:
    """An endless animation."""
    buffer = io.BytesIO()
    first, *rest = frames
    first.save(
        buffer, format, save_all=True, append_images=rest, duration=durations, loop=0, **options
    )
    return buffer.getvalue()


_WRITERS: dict[str, Callable[[_Sequence, int], bytes]] = {
    ".mp4": _mp4,
    ".gif": _gif,
    ".webp": _webp,
}
