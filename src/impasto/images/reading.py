"""Read a picture from a file, bytes, an array, a tensor or a Pillow image.

The format is recognized by content, never by name. The size is checked before decoding.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image, ImageFile

from impasto.errors import BadPicture, MissingExtra
from impasto.geometry import Size
from impasto.images import colorimetry, decoding, formats, jpeg2000, probing, refusals, sources
from impasto.images.decoding import Decoded, Task, decoded_arrays
from impasto.images.finishing import to_picture
from impasto.images.pixels import Picture
from impasto.images.profiles import Samples
from impasto.images.silence import quiet

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")


def read(source: object, *, max_megapixels: float, side: int | None = None) -> Picture:
    """Read a picture, upright and in sRGB.

    ``source`` is one of these:

    - a path (str, Path, or an absolute one as bytes); - the bytes of a file (bytes, bytearray,
    memoryview); - a binary stream, read from its current position; - a ``PIL.Image``; - a numpy
    array (H, W) or (H, W, 1 | 3 | 4); - a torch tensor (C, H, W) or (1, C, H, W) of 1, 3 or 4
    channels.

    Arrays and tensors are uint8, uint16, bool or float 0..1, of any byte order, and sRGB-encoded; a
    fourth channel is alpha. The caller's data are never changed.

    Files are PNG, JPEG, WebP, TIFF, JPEG 2000, JPEG XL, AVIF, GIF, BMP, PSD and older formats; HEIC
    with the extra ``heif``, camera raw files with the extra ``raw``. Files of 16 bits are read at
    16 bits. The largest page of a TIFF and the first frame of an animation are used.

    ``side`` is the largest long side in pixels that will be needed. A larger picture is reduced
    while it is read, by averaging squares of pixels, to no less than twice ``side``.
    ``Picture.full_size`` is the size before that. None: every pixel is kept.

    Raises:
        BadPicture: missing, empty, damaged, no picture, values out of range, or more than
            ``max_megapixels`` million pixels (checked before anything is decoded).
        MissingExtra: HEIC and raw files without their extras.
    """
    if side is not None and side < 1:
        raise ValueError(f"side is {side}; it must be 1 or more")
    task = Task("", max_megapixels, side)
    if sources.is_file(source):
        with sources.open_source(source) as (file, label, name):
            return _read_file(file, Task(label, max_megapixels, side), name)
    if isinstance(source, Image.Image):
        return _read_image(source, task)
    if isinstance(source, np.ndarray):
        # A numpy.matrix keeps two dimensions however it is sliced, so it is made an array.
        return _read_array(np.asarray(source), "array", task)
    torch = sys.modules.get("torch")  # imported already if the source is a tensor
    if torch is not None and isinstance(source, torch.Tensor):
        return _read_array(_array_of_tensor(source), "tensor", task)
    raise BadPicture(
        f"A picture cannot be read from a {type(source).__name__}.",
        "Give a path, bytes, an open file, a PIL image, a numpy array (H, W, 3) or a torch tensor "
        "(3, H, W).",
    )


# ---- files ---------------------------------------------------------------------------------------


def _read_file(file: Any, task: Task, source: str) -> Picture:
    formats.refuse_early(file, task.label)
    data = sources.contents(file, task.label, source).data
    size = probing.stored_size(data)
    if size is not None:
        task.check(size)
    decoded = _guarded(task, _decode, data, task)
    digest = hashlib.sha256(data).hexdigest()
    del data  # frees memory for the pixels
    return _guarded(task, to_picture, decoded, task, source=source, sha256=digest)


def _decode(data: bytes, task: Task) -> Decoded:
    """The decoded samples of a file of any kind."""
    decoder = formats.decoder(data)
    if decoder is None:
        raise refusals.not_a_picture(task.label, data[: sources.HEAD])
    return decoder(data, task)


def _guarded(task: Task, work: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
    """Call ``work``, and turn what decoders raise into BadPicture."""
    with quiet(task.limit):
        try:
            return work(*arguments, **options)
        except (BadPicture, MissingExtra, MemoryError):
            raise
        except Exception as error:  # decoders raise any exception for damaged files
            raise refusals.damaged(task.label, error) from error


# ---- other sources -------------------------------------------------------------------------------


def _read_image(image: Image.Image, task: Task) -> Picture:
    name = getattr(image, "filename", "") or "image"
    source = os.fsdecode(name) if isinstance(name, str | bytes) else "image"
    task = Task(refusals.shown(source), task.limit, task.side)
    is_lazy = isinstance(image, ImageFile.ImageFile) and bool(getattr(image, "tile", None))
    if (image.format == "EPS" and is_lazy) or isinstance(image, ImageFile.StubImageFile):
        # Loading it would start Ghostscript or another registered program.
        raise BadPicture(
            f"{task.label} is not a picture: it is a PostScript or other document.",
            "Export it as PNG first.",
        )
    task.check(Size(image.height, image.width))

    def decode() -> Decoded:
        if is_lazy and image.format == "JPEG2000":  # Pillow reads more than 8 bits incorrectly
            return _read_jpeg2000(image, task)
        decoded = decoding.decode_pillow(image, task)
        if not decoded.icc and "srgb" not in image.info:
            decoded.numbers = _png_colorimetry(image)
        decoded.take_exif(image)
        return decoded

    return _guarded(task, to_picture, _guarded(task, decode), task, source=source)


def _read_jpeg2000(image: Any, task: Task) -> Decoded:
    position = image.fp.tell()
    image.fp.seek(0)
    try:
        return jpeg2000.decode(image.fp.read(), task)
    finally:
        image.fp.seek(position)


def _png_colorimetry(image: Image.Image) -> colorimetry.Colorimetry | None:
    """The colorimetry of gAMA and cHRM, which Pillow reads from a PNG."""
    gamma, points = image.info.get("gamma"), image.info.get("chromaticity")
    if not (gamma or points):
        return None
    pairs = (
        [(float(points[index]), float(points[index + 1])) for index in range(0, 8, 2)]
        if points
        else None
    )
    return colorimetry.from_gamma(
        1 / gamma if gamma else None, (pairs[0], pairs[1], pairs[2], pairs[3]) if pairs else None
    )


def _read_array(array: Samples, source: str, task: Task) -> Picture:
    def refuse(reason: str, hint: str = "") -> BadPicture:
        return BadPicture(
            f"The {source} of shape {array.shape} and type {array.dtype} {reason}.", hint
        )

    samples = array[..., None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 3, 4):
        is_channels_first = (
            source == "array" and samples.ndim == 3 and samples.shape[0] in (1, 3, 4)
        )
        raise refuse(
            "is not a picture: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is expected",
            "Move the channels last: array.transpose(1, 2, 0)." if is_channels_first else "",
        )
    task = Task(f"The {source}", task.limit, task.side)
    task.check(Size(*samples.shape[:2]))
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.dtype.kind == "f":
        try:
            decoding.check_floats(samples)
        except ValueError as error:
            raise refuse(
                f"cannot be used: {error}",
                "Floats are taken as 0..1: scale them, and fill in what is no number.",
            ) from None
    elif samples.dtype.kind == "b":
        samples = decoding.full_scale(samples, [])
    elif samples.dtype not in (np.uint8, np.uint16):
        raise refuse("is not uint8, uint16, bool or float 0..1", _scaling_hint(samples, source))
    has_alpha = samples.shape[2] == 4
    color = samples[..., :3] if has_alpha else samples
    decoded = decoded_arrays(
        color, "gray" if color.shape[2] == 1 else "rgb", samples[..., 3] if has_alpha else None
    )
    return to_picture(decoded, task, source=source)


def _scaling_hint(samples: Samples, source: str) -> str:
    """How to convert the samples without losing values."""
    if samples.dtype.kind not in "iu":
        return "Give numbers."
    white = 255 if samples.max(initial=0) <= 255 else 65535
    to_float = f"{source}.{'astype' if source == 'array' else 'to'}"
    kind = "'float32'" if source == "array" else "torch.float32"
    return f"Divide it by the value of white: {to_float}({kind}) / {white} if white is {white}."


def _array_of_tensor(tensor: torch.Tensor) -> Samples:
    """A (C, H, W) or (1, C, H, W) tensor as an array (H, W, C)."""
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or len(planes) not in (1, 3, 4):
        raise BadPicture(
            f"The tensor of shape {tuple(tensor.shape)} is not a picture: (3, H, W) is expected.",
            "One, three or four channels come before height and width; a batch holds one picture.",
        )
    try:
        planes = planes.detach().cpu()
        array: Samples = (planes.float() if planes.is_floating_point() else planes).numpy()
    # The tensor is sparse, quantized, or has no data.
    except (TypeError, NotImplementedError, RuntimeError) as error:
        raise BadPicture(
            f"The tensor cannot be read: {str(error).rstrip('.')}.",
            "Give a dense tensor (3, H, W) of numbers.",
        ) from None
    return array.transpose(1, 2, 0)
