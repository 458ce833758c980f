"""Saving: pixels become a PNG, JPEG, WebP or TIFF file, whole or not at all.

What each format can hold is checked before any work is done.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin

from impasto.errors import CannotWrite, did_you_mean
from impasto.geometry import Size
from impasto.images.embedding import xmp_packet
from impasto.images.pixels import Pixels
from impasto.images.profiles import srgb_profile

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that is being written
    fcntl = None  # type: ignore[assignment]

Bits = Literal[8, 16]
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP", ".tif": "TIFF", ".tiff": "TIFF"}
EXTENSIONS = tuple(_KINDS)
"""The endings of a file name that a picture can be saved under."""
_LONGEST_SIDE = {"JPEG": 65_500, "WebP": 16_383}
_LONGEST_NAME = 255  # bytes, where the file system does not say
_TIFF_STRIP = 1 << 20  # bytes before compression: small enough for readers that go strip by strip


def check_output(path: str | os.PathLike[str], *, bits: Bits = 8, size: Size | None = None) -> Path:
    """The absolute path, once it is sure that a picture can be saved there; a missing folder is made.

    To be called before the work starts; what a killed program left half-written of this file is removed. Give
    ``bits`` and ``size`` where they are known: not every format holds them. Raises CannotWrite for an unknown
    extension, a folder or a write-protected file of that name, a folder that cannot be made or written to (tried
    with a real file, which is removed), 16 bits in JPEG or WebP, a side too long for it.
    """
    target = _named(path)
    kind = _kind_for(target, bits)
    if size is not None and size.long_side > _LONGEST_SIDE.get(kind, size.long_side):
        raise CannotWrite(
            f"{path} would be {size}, and a {kind} file holds at most {_LONGEST_SIDE[kind]} pixels a side.",
            f"Save it as {target.with_suffix('.png').name}.",
        )
    return _free(target)


def check_file(path: str | os.PathLike[str], extensions: tuple[str, ...]) -> Path:
    """The same for a file that is no picture, whose name ends in one of ``extensions``. Raises CannotWrite."""
    target = _named(path, f"out{extensions[0]}")
    if target.suffix.lower() not in extensions:
        was = f"ends in {target.suffix}" if target.suffix else "has no extension"
        raise CannotWrite(f"{target} {was}; it must be one of: {' '.join(extensions)}.", "Change the name after -o.")
    return _free(target)


def _named(path: str | os.PathLike[str], example: str = "out.png") -> Path:
    """The absolute path, if it can be a file's."""
    target = Path(os.path.abspath(path))
    if not os.fspath(path):
        raise CannotWrite("The name of the output is empty.", f"Give a file name such as {example}.")
    if len(os.fsencode(target.name)) > (longest := _longest_name(target.parent)):
        raise CannotWrite(
            f"The name {target.name[:40]}... is too long for a file: at most {longest} bytes are possible there.",
            "Give a shorter one with -o.",
        )
    if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
        raise CannotWrite(f"{path} is a folder, not a file name.", f"Give a file in it, such as {target / example}.")
    return target


def shortened(name: str, ending: str = "", longest: int = _LONGEST_NAME) -> str:
    """``name`` and ``ending`` together, in at most ``longest`` bytes: what is cut from the name a hash of it stands for."""
    if len(os.fsencode(name + ending)) <= longest:
        return name + ending
    mark = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{ending}"
    while len(os.fsencode(name + mark)) > longest:  # letter by letter: a letter may be several bytes
        name = name[:-1]
    return name + mark


def _longest_name(folder: Path) -> int:
    """Bytes that a file's name may have in ``folder``, which need not be there yet."""
    with suppress(OSError, AttributeError, ValueError, StopIteration):  # Windows has no such call
        return os.pathconf(next(path for path in (folder, *folder.parents) if path.exists()), "PC_NAME_MAX")
    return _LONGEST_NAME


def _free(target: Path) -> Path:
    """The path, once it is sure that it can be written."""
    if target.exists() or target.is_symlink():
        _check_replaceable(target)
    _check_folder(_followed(target))
    clear_parts(target)
    return target


def save(
    path: str | os.PathLike[str],
    pixels: Pixels,
    *,
    alpha: Pixels | None = None,
    exif: bytes = b"",
    recipe: str = "",
    credit: str = "",
    title: str = "",
    bits: Bits = 8,
    quality: int = 95,
) -> None:
    """Save (H, W, 3) sRGB ``pixels``, 0..1, as the format that the extension names, with an sRGB profile.

    ``alpha`` (H, W), 0..1, is kept, except in JPEG, which has none: there the picture is laid over white.
    Values are rounded to the nearest of ``bits`` bits (16: PNG and TIFF only); values outside 0..1 are
    clipped. ``exif`` is a block as in ``Picture.exif``; ``recipe``, ``credit`` and ``title`` are embedded
    as XMP in every format. ``quality`` (1..100) is for JPEG (always 4:4:4) and WebP (lossy, its colour
    always 4:2:0). Same arguments, same bytes.

    The file appears whole or not at all: on any failure what was there before stays, and nothing else is
    left behind. Raises CannotWrite (disk full, no permission, NaN or infinite pixels, metadata too long for
    a JPEG: 64 kB), and ValueError for arrays of the wrong shape.
    """
    target = Path(os.path.abspath(path))
    kind = _kind_for(target, bits)
    alpha_shape = None if alpha is None else alpha.shape
    if pixels.ndim != 3 or pixels.shape[2] != 3 or alpha_shape not in (None, pixels.shape[:2]):
        raise ValueError(f"expected (H, W, 3) pixels and (H, W) alpha, not {pixels.shape} and {alpha_shape}")
    if not np.isfinite(pixels).all() or (alpha is not None and not np.isfinite(alpha).all()):
        raise CannotWrite(f"{target} was not saved: some pixels are not numbers (NaN or infinite).")
    if alpha is not None and kind == "JPEG":
        pixels, alpha = pixels * alpha[..., None] + (1 - alpha[..., None]), None
    colour = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    samples = _rounded(colour, bits)
    xmp = xmp_packet(recipe, credit, title)
    try:
        if kind == "PNG":
            data = _png(samples, exif, xmp)
        elif kind == "TIFF":
            data = _tiff(samples, exif, xmp)
        else:
            data = _jpeg_or_webp(kind, samples, exif, xmp, quality)
    except (
        ValueError,
        OSError,
        struct.error,
    ) as error:  # too long a side, too much metadata, more than 4 GiB
        raise CannotWrite(
            f"{target} cannot be made: {kind} does not hold this picture ({error}).",
            f"Save it as {target.with_suffix('.png').name}.",
        ) from error
    replace_file(target, data)


def replace_file(target: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Put ``data``, whole or in parts, at ``target`` in one step, safe against crashes and power cuts. A link stays one.

    Raises:
        CannotWrite: and what was there before is untouched.
    """
    place = _followed(target)
    temporary = _part(place)
    count = 0
    try:
        try:
            with open(temporary, "xb") as file:
                claim(file)
                for part in (data,) if isinstance(data, bytes) else data:
                    count += len(part)
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CannotWrite(
            f"{target} could not be saved: {error.strerror or error}; what was there before is untouched.",
            f"Free {count / 1e6:.3g} MB or more, or save elsewhere." if full else "Save it elsewhere.",
        ) from error
    with suppress(OSError, AttributeError):  # makes the new name last through a power cut; Windows has no such call
        folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _followed(target: Path) -> Path:
    """The file itself, where the name is that of a link to it."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def clear_parts(target: Path) -> None:
    """Remove what killed programs left half-written of ``target``; what another one is writing now stays."""
    place = _followed(target)
    _clear(place.parent, _mark(place))


def clear_all_parts(folder: Path) -> None:
    """Remove what killed programs left half-written of any file in ``folder``, which need not be there."""
    _clear(folder, f".impasto-{_HEX}")


_HEX = "[0-9a-f]" * 16


def _clear(folder: Path, mark: str) -> None:
    for part in folder.glob(f"{mark}-{_HEX}.part"):
        with suppress(OSError):
            with open(part, "r+b") as file:
                abandoned = claim(file)
            if abandoned:
                part.unlink()


def claim(file: IO[bytes]) -> bool:
    """Hold an open file for as long as it is open or the program runs; False where another one holds it.

    Where files cannot be held, on Windows and on some shares, they never are.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _part(target: Path) -> Path:
    """A new name for what ``target`` is written as: beside it, since a rename is atomic only within one file system."""
    return target.parent / f"{_mark(target)}-{secrets.token_hex(8)}.part"


def _mark(target: Path) -> str:
    """How the names begin by which ``target`` is written and no other file; short, as its own may be as long as can be."""
    return f".impasto-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}"


def _kind_for(target: Path, bits: Bits) -> str:
    extension = target.suffix.lower()
    if extension not in _KINDS:
        known = " ".join(_KINDS)
        was = f"ends in {target.suffix}" if extension else "has no extension"
        hint = did_you_mean(extension, _KINDS) if extension else f"Call it {target.name}.png."
        raise CannotWrite(f"{target} {was}, and a picture is saved as one of: {known}.", hint)
    kind = _KINDS[extension]
    if bits not in (8, 16):
        raise CannotWrite(f"{target} cannot have {bits} bits a channel; 8 and 16 are possible.")
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise CannotWrite(
            f"{target} cannot have 16 bits a channel: {kind} holds 8.",
            f"Save it as {target.with_suffix('.png').name} or {target.with_suffix('.tif').name}.",
        )
    return kind


def _check_replaceable(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise CannotWrite(f"{target} exists and is not a regular file.", "Choose another name.")
    try:
        # A rename would replace a write-protected file all the same; its owner protected it for a reason.
        # (Looking at the mode, because for the superuser opening always works.)
        if not target.stat().st_mode & 0o222:
            raise PermissionError(errno.EACCES, "it is write-protected")
        with open(target, "r+b"):  # changes nothing; fails where an attribute or another program holds the file
            pass
    except OSError as error:
        raise CannotWrite(
            f"{target} exists and cannot be replaced: {error.strerror or error}.", "Choose another name."
        ) from error


def _check_folder(target: Path) -> None:
    folder, trial = target.parent, _part(target)
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise CannotWrite(f"{parent} is a file, so there can be no folder {folder}.", "Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trial.write_bytes(b"\0")  # the only sure test: permission bits say nothing for the superuser or a share
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"The folder {folder} cannot be written to: {error.strerror or error}.", "Choose another folder."
        ) from error


def _rounded(colour: Pixels, bits: Bits) -> npt.NDArray[Any]:
    full = np.float32(2**bits - 1)
    scaled: npt.NDArray[Any] = np.clip(colour, 0, 1)
    np.rint(np.multiply(scaled, full, out=scaled), out=scaled)
    return scaled.astype(np.uint8 if bits == 8 else np.uint16)


def _png(samples: npt.NDArray[Any], exif: bytes, xmp: bytes) -> bytes:
    import imagecodecs  # Pillow writes no 16-bit colour

    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(samples), 6))
    chunks = [(b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile()))]
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp:  # keyword, not compressed, no language, no translated keyword
        chunks.append((b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp))
    after_header = 8 + 25  # signature and IHDR; ours have to come before the pixels
    return data[:after_header] + b"".join(_chunk(*chunk) for chunk in chunks) + data[after_header:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _jpeg_or_webp(kind: str, samples: npt.NDArray[Any], exif: bytes, xmp: bytes, quality: int) -> bytes:
    options: dict[str, Any] = {"icc_profile": srgb_profile(), "quality": quality}
    options |= {"exif": exif} if exif else {}
    options |= {"xmp": xmp} if xmp else {}
    # 4:4:4, since paintings live on saturated edges; exact keeps the colours under transparent pixels.
    options |= {"subsampling": 0, "optimize": True} if kind == "JPEG" else {"exact": True}
    buffer = BytesIO()
    Image.fromarray(samples).save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def _tiff(samples: npt.NDArray[Any], exif: bytes, xmp: bytes) -> bytes:
    """A little-endian TIFF: deflated strips of horizontal differences (Pillow writes no 16-bit colour)."""
    height, width, channels = samples.shape
    differences = samples.astype(samples.dtype.newbyteorder("<"))
    differences[:, 1:] -= samples[:, :-1]  # wraps around, as it should
    rows = max(1, _TIFF_STRIP // differences[0].nbytes)
    strips = [zlib.compress(differences[top : top + rows].tobytes()) for top in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    kept = Image.Exif()
    kept.load(exif)
    for tag in kept:
        ifd[tag] = kept[tag]
    if details := kept.get_ifd(ExifTags.IFD.Exif):
        ifd[ExifTags.IFD.Exif] = details
    for tag, value in {
        ExifTags.Base.ImageWidth: width,
        ExifTags.Base.ImageLength: height,
        ExifTags.Base.BitsPerSample: (samples.dtype.itemsize * 8,) * channels,
        ExifTags.Base.Compression: 8,  # deflate
        ExifTags.Base.PhotometricInterpretation: 2,  # RGB
        # Pillow makes these absolute when it saves the directory.
        ExifTags.Base.StripOffsets: tuple(accumulate(lengths[:-1], initial=0)),
        ExifTags.Base.SamplesPerPixel: channels,
        ExifTags.Base.RowsPerStrip: rows,
        ExifTags.Base.StripByteCounts: tuple(lengths),
        ExifTags.Base.PlanarConfiguration: 1,  # RGBRGB...
        ExifTags.Base.Predictor: 2,  # horizontal differences
        ExifTags.Base.InterColorProfile: srgb_profile(),
        **({ExifTags.Base.ExtraSamples: 2} if channels == 4 else {}),  # alpha, not premultiplied
        **({ExifTags.Base.XMLPacket: xmp} if xmp else {}),
    }.items():
        ifd[tag] = value
    buffer = BytesIO()
    ifd.save(buffer)
    buffer.write(b"".join(strips))
    return buffer.getvalue()
