"""Recognize camera raw files, and develop them with LibRaw where rawpy is installed.

The ordinary picture in such a file is a preview, often tiny, so it is never used.
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

_SIGNATURES = {
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


_EXPORT_HINT = "develop it in a raw developer and export a TIFF."


def kind(data: bytes) -> str:
    """The kind of raw file, such as DNG or CR3; "" if it is none."""
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[4:12] == b"ftypcrx ":
        return "CR3"
    if not data.startswith(ifds.TIFF):
        return ""
    if data[8:10] == b"CR":
        return "CR2"
    directories = ifds.directories(data)
    if any(ifds.DNG_VERSION in directory.values for directory in directories):
        return "DNG"
    return "raw" if any(directory.is_raw for directory in directories) else ""


def size(data: bytes, name: str, task: Task) -> Size:
    """Height and width of the developed photo. Raises as ``decode`` does."""
    with _open(data, name, task) as photo:
        sensor = Size(photo.sizes.height, photo.sizes.width)
        return Size(*reversed(sensor)) if photo.sizes.flip & 4 else sensor


def decode(data: bytes, name: str, task: Task) -> Decoded:
    """Develop a photo at 16 bits with the camera's white balance, upright, in sRGB.

    Raises MissingExtra without rawpy, and BadPicture if LibRaw does not know the camera or the file
    is damaged.
    """
    with _open(data, name, task) as photo:
        task.check(Size(photo.sizes.height, photo.sizes.width))
        pixels = photo.postprocess(
            use_camera_wb=True,
            output_bps=16,
            # The sRGB curve; the primaries are sRGB by default.
            gamma=(2.4, 12.92),
        )
    task.check(Size(*pixels.shape[:2]))
    return decoded_arrays(
        pixels, "rgb", notes=[f"a {_description(name)}, developed with the camera's white balance"]
    )


@contextmanager
def _open(data: bytes, name: str, task: Task) -> Iterator[Any]:
    """The file, opened by LibRaw."""
    try:
        import rawpy
    except ImportError:
        raise MissingExtra(
            f"{task.label} is a {_description(name)}, and reading those needs rawpy.",
            f"pip install 'impasto[raw]', or {_EXPORT_HINT}",
        ) from None
    try:
        with no_stderr(), rawpy.imread(BytesIO(data)) as photo:
            yield photo
    except (rawpy.LibRawError, ValueError, OSError) as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("ascii", "replace") if isinstance(reason, bytes) else str(reason)
        raise BadPicture(
            f"{task.label} is a {_description(name)} that cannot be developed: "
            f"{reason.strip().rstrip('.')}.",
            f"To use it, {_EXPORT_HINT}",
        ) from None


def _description(name: str) -> str:
    return "camera raw file" if name == "raw" else f"camera raw file ({name})"
