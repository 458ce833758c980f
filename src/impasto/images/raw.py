"""Camera raw files: told by what is in them, and developed by LibRaw where rawpy is installed.

The ordinary picture in such a file is a preview, often tiny, so it is never taken for the photo.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from impasto.errors import BadPicture, MissingExtra
from impasto.geometry import Size
from impasto.images import ifds
from impasto.images.decoding import Decoded, Task, decoded_arrays
from impasto.images.silence import no_stderr

_BEGINNINGS = {
    b"FUJIFILMCCD-RAW": "RAF",
    b"II\x1a\0\0\0HEAPCCDR": "CRW",
    b"\0MRM": "MRW",
    b"FOVb": "X3F",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"MMOR": "ORF",
    b"IIU\0": "RW2",
    b"IIII": "IIQ",
    b"ARRI\x12\x34\x56\x78": "ARI",
}


_ADVICE = "develop it in a raw developer and export a TIFF."


def kind(data: bytes) -> str:
    """The kind of raw file that these bytes are, such as DNG or CR3; empty if they are none."""
    for beginning, name in _BEGINNINGS.items():
        if data.startswith(beginning):
            return name
    if data[4:12] == b"ftypcrx ":
        return "CR3"
    if not data.startswith(ifds.TIFF):
        return ""
    if data[8:10] == b"CR":
        return "CR2"
    found = ifds.directories(data)
    if any(ifds.DNG_VERSION in each.values for each in found):
        return "DNG"
    return "raw" if any(each.is_raw for each in found) else ""


def size(data: bytes, name: str, task: Task) -> Size:
    """Height and width of the developed photo. Raises as ``decode`` does."""
    with _opened(data, name, task) as photo:
        found = Size(photo.sizes.height, photo.sizes.width)
        return Size(*reversed(found)) if photo.sizes.flip & 4 else found


def decode(data: bytes, name: str, task: Task) -> Decoded:
    """The photo, developed at 16 bits with the camera's white balance, upright, in sRGB.

    Raises MissingExtra without rawpy, BadPicture if LibRaw does not know the camera or the file is
    damaged.
    """
    with _opened(data, name, task) as photo:
        task.check(Size(photo.sizes.height, photo.sizes.width))
        pixels = photo.postprocess(
            use_camera_wb=True,
            output_bps=16,
            # The sRGB curve; the primaries are sRGB's unless something else is asked for.
            gamma=(2.4, 12.92),
        )
    task.check(Size(*pixels.shape[:2]))
    return decoded_arrays(
        pixels, "rgb", notes=[f"a {_what(name)}, developed with the camera's white balance"]
    )


@contextmanager
def _opened(data: bytes, name: str, task: Task) -> Iterator[Any]:
    """The file in LibRaw's hands."""
    try:
        import rawpy
    except ImportError:
        raise MissingExtra(
            f"{task.label} is a {_what(name)}, and reading those needs rawpy.",
            f"pip install 'impasto[raw]', or {_ADVICE}",
        ) from None
    try:
        with no_stderr(), rawpy.imread(BytesIO(data)) as photo:
            yield photo
    except (rawpy.LibRawError, ValueError, OSError) as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("ascii", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadPicture(
            f"{task.label} is a {_what(name)} that cannot be developed: "
            f"{reason.strip().rstrip('.')}.",
            f"To use it, {_ADVICE}",
        ) from None


def _what(name: str) -> str:
    return "camera raw file" if name == "raw" else f"camera raw file ({name})"
