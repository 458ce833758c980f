"""Damaged files of every format: each is read or refused in a sentence, in silence, in little time
and memory.

Every format has a process of its own, which a crash of a decoder would end, and which may not take
much memory.
"""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from impasto import images
from impasto.errors import BadPicture, MissingExtra

VARIANTS = 200
LIMIT = 1.1  # megapixels
SLOWEST = 5.0  # seconds
MEMORY = 1 << 30  # bytes, beside what the process holds when it begins


def samples(channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:24, 0:32]
    planes = [x * 8, y * 10, (x + y) * 4, 255 - x * 4]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def by_pillow(kind: str, channels: int = 3, **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples(channels)).save(buffer, kind, **more)
    return buffer.getvalue()


def described() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Brownie"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ColorSpace: 65535}
    return exif


def by_tifffile(**more: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples().astype(np.uint16) * 257, photometric="rgb", **more)
    return buffer.getvalue()


def deep_png() -> bytes:
    return bytes(imagecodecs.png_encode(samples(4).astype(np.uint16) * 257))


def moving_gif() -> bytes:
    frames = [Image.fromarray(np.roll(samples(), step, axis=1)) for step in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def heic() -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(samples()).resize((64, 64))).save(buffer, quality=60)
    return buffer.getvalue()


def dng() -> bytes:
    buffer = io.BytesIO()
    tags = [(50706, "B", 4, (1, 4, 0, 0), True), (271, "s", 0, "Test", True)]
    cfa = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(samples(), photometric="rgb", subfiletype=1, subifds=1, extratags=tags)
        writer.write(
            samples(1)[..., 0].astype(np.uint16) * 200,
            photometric="cfa",
            extratags=cfa,
            subfiletype=0,
        )
    return buffer.getvalue()


def fax() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(samples()[..., 0] > 100).save(buffer, "TIFF", compression="group4")
    return buffer.getvalue()


def pfm() -> bytes:
    return b"PF\n32 24\n-1.0\n" + (samples() / 255).astype("<f4").tobytes()


FORMATS: dict[str, Callable[[], bytes]] = {
    "png": lambda: by_pillow(
        "PNG", 4, icc_profile=bytes(imagecodecs.cms_profile("adobergb")), exif=described()
    ),
    "deep png": deep_png,
    "jpeg": lambda: by_pillow(
        "JPEG", icc_profile=bytes(imagecodecs.cms_profile("adobergb")), exif=described()
    ),
    "progressive jpeg": lambda: by_pillow("JPEG", progressive=True, quality=90),
    "gif": moving_gif,
    "webp": lambda: by_pillow("WEBP", 4, exif=described()),
    "tiff": lambda: by_tifffile(compression="lzw", predictor=True, rowsperstrip=7),
    "tiled tiff": lambda: by_tifffile(compression="zlib", tile=(16, 16)),
    "libtiff": lambda: by_pillow("TIFF", compression="jpeg"),
    "fax": fax,
    "bmp": lambda: by_pillow("BMP", 4),
    "tga": lambda: by_pillow("TGA", 4, compression="tga_rle"),
    "qoi": lambda: by_pillow("QOI", 4),
    "ppm": lambda: by_pillow("PPM"),
    "pfm": pfm,
    "ico": lambda: by_pillow("ICO", 4, sizes=[(16, 16), (24, 24)]),
    "icns": lambda: by_pillow("ICNS", 4),
    "psd": lambda: (
        struct.pack(">4sH6xHIIHHIII", b"8BPS", 1, 3, 24, 32, 8, 3, 0, 0, 0)
        + b"\0\0"
        + samples().transpose(2, 0, 1).tobytes()
    ),
    "jpeg 2000": lambda: by_pillow("JPEG2000", 4),
    "deep jpeg 2000": lambda: bytes(
        imagecodecs.jpeg2k_encode(samples().astype(np.uint16) * 257, codecformat="jp2")
    ),
    "jpeg xl": lambda: bytes(imagecodecs.jpegxl_encode(samples(), level=80)),
    "avif": lambda: by_pillow("AVIF", exif=described()),
    "heic": heic,
    "dng": dng,
    "pcx": lambda: by_pillow("PCX"),
    "sgi": lambda: by_pillow("SGI"),
}


def damaged(data: bytes, seed: int) -> bytes:
    """One of several ways to damage a file; the beginning, where headers are, is hit more often."""
    choose = random.Random(seed)
    body = bytearray(data)
    way = seed % 6
    if way == 0:  # single bits
        for _ in range(choose.choice((1, 1, 3, 10))):
            body[choose.randrange(len(body))] ^= 1 << choose.randrange(8)
    elif way == 1:  # bits of the header
        for _ in range(choose.choice((1, 2, 4))):
            body[choose.randrange(min(len(body), 200))] ^= 1 << choose.randrange(8)
    elif way == 2:  # cut short
        del body[choose.randrange(1, len(body)) :]
    elif way in (3, 4):  # a number, maybe a length or a side, is nothing, or huge
        at = choose.randrange(max(1, min(len(body), 300 if way == 3 else len(body)) - 4))
        body[at : at + 4] = choose.choice(
            (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\0\x10\0\0")
        )
    else:  # a piece is missing, or comes twice
        at = choose.randrange(len(body))
        piece = body[at : at + choose.randrange(1, 100)]
        body[at : at + choose.choice((0, len(piece)))] = piece if choose.random() < 0.5 else b""
    return bytes(body)


def outcomes(name: str) -> Iterator[tuple[int, str]]:
    """The seed of each damaged file that was neither read nor refused as it should be, and what
    happened.
    """
    data = FORMATS[name]()
    with suppress(MissingExtra):  # then all of its damaged forms are refused
        images.read(data, max_megapixels=LIMIT)  # it is whole, and everything is imported
    for seed in range(VARIANTS):
        variant, side = damaged(data, seed), None if seed % 2 else 5
        start = time.perf_counter()
        try:
            picture = images.read(variant, max_megapixels=LIMIT, side=side)
        except (BadPicture, MissingExtra) as error:
            if not error.message or "\n" in error.message or "object at 0x" in error.message:
                yield seed, f"says {error.message!r}"
        except BaseException as error:
            yield seed, f"{type(error).__name__}: {error}"
        else:
            if not np.isfinite(picture.pixels).all() or picture.full_size.pixels > LIMIT * 1e6:
                yield seed, f"is {picture.full_size}"
        if time.perf_counter() - start > SLOWEST:
            yield seed, f"takes {time.perf_counter() - start:.1f} s"
        try:
            images.probe(variant, LIMIT).decode_bytes(side)
        except (BadPicture, MissingExtra):
            pass
        except BaseException as error:
            yield seed, f"probe: {type(error).__name__}: {error}"


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_read_or_refused(name):
    if name == "heic":
        pytest.importorskip("pillow_heif")
    command = [sys.executable, __file__, name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def main(name: str) -> None:
    if sys.platform.startswith("linux"):
        import resource

        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    for seed, what in outcomes(name):
        print(f"{name}, seed {seed}: {what}")


if __name__ == "__main__":
    main(sys.argv[1])
