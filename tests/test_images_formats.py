"""Real files: what is beside the picture does not decide whether it is read, the picture meant is
the one read, and what is no picture is refused by name.
"""

from __future__ import annotations

import io
import json
import logging
import os
import random
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageFile

from impasto import images
from impasto.errors import BadPicture, MissingExtra
from impasto.geometry import Size
from tests.support.file_formats import bmff_box, png_chunk


def picture(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """Smooth with some noise: no part of it is like another one."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x / width, y / height, (x + y) / (height + width)], axis=-1) * 200
    return (smooth + np.random.default_rng(seed).integers(0, 55, (height, width, 3))).astype(
        np.uint8
    )


def saved(kind: str, samples: np.ndarray | None = None, **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture() if samples is None else samples).save(buffer, kind, **more)
    return buffer.getvalue()


def read(source: object, max_megapixels: float = 10) -> images.Picture:
    return images.read(source, max_megapixels=max_megapixels)


def same(found: images.Picture, samples: np.ndarray) -> bool:
    return np.array_equal(np.rint(found.pixels * 255), samples)


# ---- nothing but the listed decoders -------------------------------------------------------------

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 10
%%EndComments
(touched) (w) file closefile
showpage
%%EOF
"""


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, refuse)


@pytest.mark.parametrize("name", ["x.eps", "photo.jpg", "photo.png", "photo.tif"])
@pytest.mark.parametrize(
    "data",
    [
        EPS,
        b"\n\n  " + EPS,
        b"\x04" + EPS,
        bytes(128) + EPS,
        struct.pack("<4s6IH", b"\xc5\xd0\xd3\xc6", 32, len(EPS), 0, 0, 0, 0, 0xFFFF)
        + b"\0\0"
        + EPS,
    ],
)
def test_postscript_is_refused_by_name_and_nothing_is_started(tmp_path, no_programs, name, data):
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path / name, data, io.BytesIO(data)):
        with pytest.raises(BadPicture, match=r"PostScript document.*Export it as PNG or TIFF"):
            read(source)


@pytest.mark.parametrize("junk", [b"", b"\0junk\r\n", b"x" * 900])
def test_pdf_is_refused_by_name(tmp_path, junk):
    (tmp_path / "photo.jpg").write_bytes(junk + b"%PDF-1.4\n%\xe2\xe3\n" + bytes(2000))
    with pytest.raises(
        BadPicture,
        match=r"photo\.jpg is not a picture: it .* a PDF document.*Export the page as PNG",
    ):
        read(tmp_path / "photo.jpg")


def test_a_picture_that_speaks_of_pdf_is_a_picture():
    assert read(saved("JPEG", comment=b"%PDF-1.4")).size == Size(60, 90)
    assert read(saved("GIF", comment=b"%!PS-Adobe %PDF-")).size == Size(60, 90)


def test_an_image_of_pillow_that_is_postscript_is_refused_unless_it_is_decoded(
    tmp_path, no_programs
):
    (tmp_path / "x.eps").write_bytes(EPS)
    with Image.open(tmp_path / "x.eps") as image:
        assert image.format == "EPS"
        with pytest.raises(BadPicture, match=r"x\.eps.*PostScript"):
            read(image)
        read(Image.new("RGB", (3, 4)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"8BPS\0\2" + bytes(60), "PSB"),
        (b"gimp xcf file\0" + bytes(60), "XCF"),
        (b"\x76\x2f\x31\x01" + bytes(60), "OpenEXR"),
        (b"#?RADIANCE\n" + bytes(60), "Radiance"),
        (b"II\xbc\x01" + bytes(60), "JPEG XR"),
        (b"AT&TFORM" + bytes(60), "DjVu"),
        (b"BPG\xfb" + bytes(60), "bpgdec"),
        (b"FLIF" + bytes(60), "flif -d"),
        (b"DDS " + bytes(60), "DDS"),
        (b"SIMPLE  =      T" + bytes(60), "FITS"),
        (b"\x93NUMPY\x01\0" + bytes(60), "numpy.load"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "WMF"),
        (b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(20), "EMF"),
        (bytes(128) + b"DICM" + bytes(60), "DICOM"),
        (b"Rar!\x1a\x07" + bytes(60), "archive"),
        (b"\x1f\x8b\x08" + bytes(60), "archive"),
        (b"\xd0\xcf\x11\xe0" + bytes(60), "office document"),
        (b"{\\rtf1 x}", "RTF"),
        (b"\x7fELF" + bytes(60), "a program"),
        (b"P7\nWIDTH 3\n", "pamtopng"),
        (b"BMW is no picture, but a text.", "seems to be text"),
        (b"\xff\xd8\xff\xf7\x00\x0b\x08\x00\x05\x00\x05\x01\x01\x11\x00" + bytes(60), "JPEG-LS"),
        (
            b"\xff\xd8\xff\xc3\x00\x0b\x08\x00\x05\x00\x05\x01\x01\x11\x00" + bytes(60),
            "lossless JPEG",
        ),
        (b"\xff\xd8\xff\xc1\x00\x0b\x0c\x00\x05\x00\x05\x01\x01\x11\x00" + bytes(60), "12 bits"),
    ],
)
def test_what_is_known_is_named(data, words):
    with pytest.raises(BadPicture, match=words) as caught:
        read(data)
    assert caught.value.hint


# ---- metadata are no damage ----------------------------------------------------------------------


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    return data[:33] + b"".join(chunks) + data[33:]


def compressed_text(keyword: bytes, length: int) -> bytes:
    return png_chunk(b"iTXt", keyword + b"\0\1\0\0\0" + zlib.compress(b"a" * length))


def test_texts_that_are_too_long_are_dropped_with_a_note():
    data = saved("PNG")
    for text in (
        compressed_text(b"workflow", 2_000_000),
        png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 2_000_000)),
        png_chunk(b"tEXt", b"prompt\0" + b"a" * 2_000_000),
        # 160 MB in all.
        b"".join(compressed_text(b"x%d" % index, 2_000_000) for index in range(80)),
    ):
        found = read(with_chunks(data, text))
        assert same(found, picture()) and found.notes == (
            "a text in it is too long and is not kept",
        )
    assert read(with_chunks(data, compressed_text(b"x", 1000))).notes == ()


@pytest.mark.parametrize("name", [b"tEXt", b"iTXt", b"iCCP", b"eXIf", b"pHYs", b"tIME", b"zzZz"])
def test_a_wrong_checksum_of_metadata_is_no_damage(name):
    bad = png_chunk(name, b"some contents")[:-1] + b"\xff"
    found = read(with_chunks(saved("PNG"), bad))
    assert same(found, picture()) and found.notes == (
        "some of its metadata are damaged and are not kept",
    )


def test_a_wrong_checksum_of_the_picture_is_damage_unless_the_pixels_are_right():
    data = saved("PNG")
    at = data.index(b"IDAT")
    length = struct.unpack_from(">I", data, at - 4)[0]
    found = read(data[: at + 4 + length] + b"\0\0\0\0" + data[at + 8 + length :])
    assert same(found, picture()) and "checksum" in found.notes[0]
    with pytest.raises(BadPicture, match=r"do not unpack|cannot be read"):
        read(data[: at + 200] + bytes([data[at + 200] ^ 16]) + data[at + 201 :])
    with pytest.raises(BadPicture, match="IHDR"):
        read(data[:29] + b"\0\0\0\0" + data[33:])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "16"])
def test_a_png_without_its_end_mark_is_whole(mode, tmp_path):
    if mode == "16":
        images.save(tmp_path / "x.png", picture() / np.float32(255), bits=16)
        data = (tmp_path / "x.png").read_bytes()
    else:
        buffer = io.BytesIO()
        Image.fromarray(picture()).convert(mode).save(buffer, "PNG")
        data = buffer.getvalue()
    for cut in (8, 12):
        found = read(data[:-cut])
        assert (
            found.size == Size(60, 90)
            and found.notes[-1] == "its end mark is missing, but the picture is whole"
        )
        assert np.array_equal(found.pixels, read(data).pixels)
    for cut in (40, 200):
        with pytest.raises(BadPicture, match="is cut short"):
            read(data[:-cut])


def test_recipe_and_credit_are_found_beside_damaged_and_long_metadata(tmp_path):
    path = tmp_path / "x.png"
    images.save(path, picture() / np.float32(255), recipe="the recipe", credit="the credit")
    bad = png_chunk(b"tEXt", b"x\0y")[:-1] + b"\0"
    path.write_bytes(
        with_chunks(path.read_bytes(), compressed_text(b"workflow", 2_000_000), bad)[:-12]
    )
    assert (
        images.embedded_recipe(path) == "the recipe"
        and images.embedded_credit(path) == "the credit"
    )
    assert images.embedded_recipe(bytes(path)) == "the recipe"
    images.save(tmp_path / "y.jpg", picture() / np.float32(255), recipe="again")
    (tmp_path / "y.jpg").write_bytes((tmp_path / "y.jpg").read_bytes()[:-2])
    assert images.embedded_recipe(tmp_path / "y.jpg") == "again"


def test_pictures_that_pillow_does_not_know_hold_no_recipe():
    lab = io.BytesIO()
    tifffile.imwrite(lab, np.zeros((4, 5, 3), np.uint16), photometric="cielab")
    jxl = bytes(imagecodecs.jpegxl_encode(picture(), lossless=True))
    for data in (lab.getvalue(), jxl, b"PF\n1 1\n-1.0\n" + bytes(12)):
        assert images.embedded_recipe(data) is None and images.embedded_credit(data) is None
        assert images.probe(data, 10).size == read(data).size


def test_exif_as_imagemagick_writes_it_turns_the_picture():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    block = exif.tobytes()
    text = b"Raw profile type exif\0\0" + zlib.compress(
        b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    )
    assert read(with_chunks(saved("PNG"), png_chunk(b"zTXt", text))).size == Size(90, 60)


def test_pixels_that_are_not_square_are_said():
    assert (
        "not square"
        in read(with_chunks(saved("PNG"), png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)))).notes[
            0
        ]
    )


# ---- the end mark of other formats ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 100, "subsampling": 0},
        {"quality": 80, "progressive": True},
        {"quality": 80, "restart_marker_blocks": 3},
        {"quality": 80, "optimize": True},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_mark_is_whole_and_one_without_data_is_not(mode, options):
    buffer = io.BytesIO()
    Image.fromarray(picture(61, 93)).convert(mode).save(buffer, "JPEG", **options)
    data = buffer.getvalue()
    for cut in (1, 2):
        found = read(data[:-cut])
        assert "its end mark is missing, but the picture is whole" in found.notes
        assert np.array_equal(found.pixels, read(data).pixels)
    for part in (0.5, 0.8, 0.97):
        short = data[: int(len(data) * part)]
        with pytest.raises(BadPicture, match="is cut short"):
            read(short)
        # Some programs put the mark there all the same.
        if part < 0.9 and "progressive" not in options:
            with pytest.raises(BadPicture, match="is cut short"):
                read(short + b"\xff\xd9")


def test_a_progressive_jpeg_without_its_last_scan_is_cut_short():
    data = saved("JPEG", progressive=True, quality=85)
    for count in (1, 2, 4):
        at = len(data)
        for _ in range(count):
            at = data.rindex(b"\xff\xda", 0, at)
        # The tables of the scan, too.
        while data[:at].rfind(b"\xff\xc4") > data[:at].rfind(b"\xff\xda", 0, at):
            at = data[:at].rfind(b"\xff\xc4")
        with pytest.raises(BadPicture, match="is cut short"):
            read(data[:at])


def test_a_jpeg_with_a_plain_gray_corner_is_no_damage():
    samples = picture()
    samples[-20:, -20:] = 128
    assert read(saved("JPEG", samples)).notes == ()


def test_a_gif_without_its_trailer():
    data = saved("GIF")
    assert data[-1:] == b";"
    assert np.array_equal(read(data[:-1]).pixels, read(data).pixels)
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    moving = buffer.getvalue()
    for cut in (1, 100):  # the second: within the last frame
        assert np.array_equal(read(moving[:-cut]).pixels, read(moving).pixels)


def test_a_webp_whose_metadata_are_cut_off():
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 500
    data = saved("WEBP", lossless=True, exif=exif, xmp=b"<x/>" * 100)
    found = read(data[:-300])
    assert same(found, picture()) and found.notes == ("its metadata are cut off and are not kept",)
    assert same(read(data), picture()) and read(data).notes == ()
    with pytest.raises(BadPicture):
        read(data[: len(data) // 2])
    wrong = data[:4] + struct.pack("<I", len(data) + 1000) + data[8:]
    assert same(read(wrong), picture()) and "length is wrong" in read(wrong).notes[0]


# ---- the picture that is meant -------------------------------------------------------------------


def mosaic(photometric: int = 32803, **more: object) -> bytes:
    """A small DNG: a preview, and the mosaic under it."""
    height, width = 96, 144
    preview = np.full((8, 12, 3), 200, np.uint8)
    raw = np.random.default_rng(1).integers(3000, 60000, (height, width), dtype=np.uint16)
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Test Camera", True),
        (271, "s", 0, "Test", True),
        (272, "s", 0, "Camera", True),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
    ]
    inner = [
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50717, "H", 1, 65535, True),
    ]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        dng = tags if not more else tags[2:4]
        writer.write(preview, photometric="rgb", subfiletype=1, subifds=1, extratags=dng)
        kind = "cfa" if photometric == 32803 else "linear_raw"
        raw = raw if kind == "cfa" else raw[..., None].repeat(3, axis=2)
        writer.write(raw, photometric=kind, extratags=inner, subfiletype=0)
    return buffer.getvalue()


RAW = {
    "DNG": mosaic(),
    "raw": mosaic(plain=True),
    "linear": mosaic(34892, plain=True),
    "CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(200),
    "ORF": b"IIRO\x08\0\0\0" + bytes(100),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(100),
    "MRW": b"\0MRM" + bytes(100),
    "X3F": b"FOVb" + bytes(100),
    "CRW": b"II\x1a\0\0\0HEAPCCDR" + bytes(100),
}


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("name", ["x.dng", "x.tif", "x.jpg"])
def test_camera_raw_files_are_never_read_as_their_preview(tmp_path, monkeypatch, kind, name):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    (tmp_path / name).write_bytes(RAW[kind])
    label = kind if kind.isupper() else "raw"
    with pytest.raises(
        MissingExtra, match=rf"is a camera raw file.*{label if kind.isupper() else ''}"
    ) as caught:
        read(tmp_path / name)
    assert (
        "pip install 'impasto[raw]'" in caught.value.hint and "export a TIFF" in caught.value.hint
    )


def test_camera_raw_files_are_developed_with_the_extra():
    pytest.importorskip("rawpy")
    found = read(RAW["DNG"])
    assert found.size == Size(96, 144) and found.notes == (
        "a camera raw file (DNG), developed with the camera's white balance",
    )
    assert len(np.unique(found.pixels)) > 256  # more than 8 bits
    with pytest.raises(BadPicture, match="megapixels"):
        read(RAW["DNG"], 0.001)
    with pytest.raises(BadPicture, match=r"RAF.*cannot be developed.*raw developer"):
        read(RAW["RAF"])


def pages(*shapes: tuple[int, int], **more: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **more) as writer:
        for index, shape in enumerate(shapes):
            writer.write(
                np.full((*shape, 3), 40 * (index + 1), np.uint8), photometric="rgb", metadata=None
            )
    return buffer.getvalue()


@pytest.mark.parametrize("more", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_the_largest_page_of_a_tiff_is_read(more):
    found = read(pages((10, 20), (30, 60), (30, 60), (5, 6), **more))
    assert found.size == Size(30, 60) and found.notes == (
        "has 4 pages; page 2 is the largest and is used",
    )
    assert np.all(np.rint(found.pixels * 255) == 80)
    found = read(pages((30, 60), (30, 60), **more))
    assert found.notes == ("has 2 pages; the first one is used",) and np.all(
        np.rint(found.pixels * 255) == 40
    )
    with pytest.raises(BadPicture, match="megapixels"):
        read(pages((10, 20), (30, 60), **more), 0.001)


def test_masks_and_reduced_copies_are_not_the_picture():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(
            np.zeros((90, 90), np.uint8), photometric="minisblack", subfiletype=1, metadata=None
        )
        writer.write(picture(), photometric="rgb", subifds=1, metadata=None)
        writer.write(picture(30, 45), photometric="rgb", subfiletype=1, metadata=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        data[file.pages[0].tags[254].valueoffset] = 4  # a transparency mask
    assert same(read(bytes(data)), picture())


def test_other_formats_of_several_pictures(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), "red").save(buffer, "ICO", sizes=[(16, 16), (64, 64), (32, 32)])
    assert read(buffer.getvalue()).size == Size(64, 64)
    buffer = io.BytesIO()
    Image.new("RGBA", (256, 256), "red").save(buffer, "ICNS")
    assert read(buffer.getvalue()).size.long_side >= 256
    buffer = io.BytesIO()
    first, second = Image.fromarray(picture(60, 90)), Image.fromarray(picture(30, 40))
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    assert read(buffer.getvalue()).size == Size(60, 90) and read(buffer.getvalue()).notes == ()


def test_the_primary_picture_of_a_heic():
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red"))
    file.add_from_pillow(Image.new("RGB", (128, 96), "blue"))
    buffer = io.BytesIO()
    file.save(buffer, quality=90, primary_index=1)
    found = read(buffer.getvalue())
    assert found.size == Size(96, 128) and found.pixels[40, 40] == pytest.approx(
        [0, 0, 1], abs=0.05
    )


def clap(width: int, height: int, right: int = 0, down: int = 0) -> bytes:
    return bmff_box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, right, 1, down, 1))


def with_property(data: bytes, extra: bytes) -> bytes:
    """An AVIF with one more property of its first item: boxes grow, and offsets into the data with
    them.
    """
    boxes = {name: (at, end) for name, at, end in images.bmff.boxes(data)}
    meta_start, meta_end = boxes[b"meta"][0] - 8, boxes[b"meta"][1]
    body = bytearray(data[meta_start:meta_end])
    ipco = body.index(b"ipco") - 4
    ipco_length = struct.unpack_from(">I", body, ipco)[0]
    count = sum(1 for _ in images.bmff.boxes(bytes(body), ipco + 8, ipco + ipco_length))
    body[ipco + ipco_length : ipco + ipco_length] = extra
    struct.pack_into(">I", body, ipco, ipco_length + len(extra))
    ipma = body.index(b"ipma") - 4
    number = body[ipma + 18]  # of the first item
    body[ipma + 18] += 1
    body.insert(ipma + 19 + number, 0x80 | (count + 1))
    struct.pack_into(">I", body, ipma, struct.unpack_from(">I", body, ipma)[0] + 1)
    grown = len(extra) + 1
    for name in (b"iprp", b"meta"):
        at = body.index(name) - 4
        struct.pack_into(">I", body, at, struct.unpack_from(">I", body, at)[0] + grown)
    iloc = body.index(b"iloc") - 4
    items, at = struct.unpack_from(">H", body, iloc + 14)[0], iloc + 16
    for _ in range(items):  # version 0, offsets and lengths of four bytes, no base
        extents = struct.unpack_from(">H", body, at + 4)[0]
        for extent in range(extents):
            place = at + 6 + 8 * extent
            struct.pack_into(">I", body, place, struct.unpack_from(">I", body, place)[0] + grown)
        at += 6 + 8 * extents
    return data[:meta_start] + bytes(body) + data[meta_end:]


def test_the_clean_aperture_of_an_avif():
    data = saved("AVIF", picture(64, 96), quality=100, subsampling="4:4:4")
    whole = read(data)
    found = read(with_property(data, clap(40, 20, right=8, down=-4)))
    left, top = (96 - 40) // 2 + 8, (64 - 20) // 2 - 4
    assert found.size == Size(20, 40) and found.notes == ()
    assert np.array_equal(found.pixels, whole.pixels[top : top + 20, left : left + 40])
    odd = read(with_property(data, clap(400, 20)))
    assert odd.size == Size(64, 96) and "crop is invalid" in odd.notes[0]


# ---- other formats -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 14, 16, 32])
def test_tiffs_of_any_depth(bits):
    top = min(2**bits - 1, 65535)
    values = (
        (np.linspace(0, top, 96).reshape(8, 12))
        .round()
        .astype(np.uint8 if bits <= 8 else np.uint32)
    )
    if 8 < bits <= 16:
        values = values.astype(np.uint16)
    buffer = io.BytesIO()
    more = {"bitspersample": bits} if bits not in (8, 16, 32) else {}
    tifffile.imwrite(buffer, values, photometric="minisblack", **more)
    found = read(buffer.getvalue())
    assert np.abs(found.pixels[..., 0] - values / top).max() < 1 / 500


@pytest.mark.parametrize(
    "compression", ["lzw", "zlib", "packbits", "zstd", "lzma", "jpeg", "webp", "png", "jpeg2000"]
)
def test_tiffs_of_any_compression(compression):
    buffer = io.BytesIO()
    more = {"compressionargs": {"level": 100}} if compression in ("jpeg", "webp") else {}
    tifffile.imwrite(
        buffer, picture(), photometric="rgb", compression=compression, tile=(32, 32), **more
    )
    found = read(buffer.getvalue())
    assert np.abs(found.pixels - picture() / 255).mean() < (
        0.05 if compression in ("jpeg", "webp") else 1e-6
    )


def test_ycbcr_and_fax_tiffs():
    buffer = io.BytesIO()
    Image.fromarray(picture()).convert("YCbCr").save(buffer, "TIFF")
    assert np.abs(read(buffer.getvalue()).pixels - picture() / 255).max() < 0.02
    bilevel = Image.fromarray(picture()[..., 0] > 120)
    for compression in ("group3", "group4", "raw"):
        buffer = io.BytesIO()
        bilevel.save(buffer, "TIFF", compression=compression)
        assert np.array_equal(read(buffer.getvalue()).pixels[..., 0] > 0.5, np.asarray(bilevel))


def test_tiffs_of_other_colors_are_named():
    for photometric, name in ((10, "ITU Lab"), (32845, "LogLuv")):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, picture(), photometric="rgb")
        data = bytearray(buffer.getvalue())
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            place = file.pages[0].tags[262].valueoffset
        struct.pack_into("<H", data, place, photometric)
        with pytest.raises(BadPicture, match=name):
            read(bytes(data))


@pytest.mark.parametrize("kind", ["PPM", "PGM"])
@pytest.mark.parametrize("top", [1023, 65535])
def test_deep_netpbm(kind, top):
    channels = 3 if kind == "PPM" else 1
    values = np.random.default_rng(0).integers(0, top + 1, (6, 7, channels))
    data = (
        b"P%d\n# a comment\n7 6\n%d\n" % (6 if channels == 3 else 5, top)
        + values.astype(">u2").tobytes()
    )
    assert np.abs(read(data).pixels - values / top).max() < 1 / 65535
    with pytest.raises(BadPicture, match="cut short"):
        read(data[:-3])


@pytest.mark.parametrize("order", ["<", ">"])
def test_float_netpbm(order):
    values = np.random.default_rng(0).random((6, 7, 3)).astype(np.float32)
    scale = b"-1.0" if order == "<" else b"1.0"
    data = b"PF\n7 6\n" + scale + b"\n" + values[::-1].astype(f"{order}f4").tobytes()
    assert np.array_equal(read(data).pixels, values)


def test_the_fourth_channel_of_a_targa():
    rgba = np.dstack([picture(), np.zeros((60, 90), np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "TGA")
    data = bytearray(buffer.getvalue())[:-26]  # without the footer, as old programs write it
    data[17] &= 0xF0
    found = read(bytes(data))
    assert (
        found.alpha is None
        and same(found, picture())
        and "fourth channel is empty" in found.notes[0]
    )


def psd(bits: int = 8, merged: int = 1) -> bytes:
    planes = picture(8, 10).transpose(2, 0, 1).tobytes()
    info = struct.pack(">4sHHIIB", b"8BIM", 1057, 0, 5, 1, merged) + b"\0"
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 8, 10, bits, 3)
    return (
        head
        + struct.pack(">I", 0)
        + struct.pack(">I", len(info))
        + info
        + struct.pack(">IH", 0, 0)
        + planes
    )


@pytest.mark.parametrize(
    "kind", ["BMP", "GIF", "QOI", "PPM", "TGA", "PCX", "SGI", "WEBP", "AVIF", "JPEG2000", "ICNS"]
)
def test_too_many_pixels_are_no_damage(kind):
    data = saved(kind, picture(256, 256))
    for limit in (0.06, 0.01, 0.0001):  # Pillow's own limit is at twice ours
        with pytest.raises(BadPicture, match=r"megapixels .*, and the limit is"):
            read(data, limit)
        with pytest.raises(BadPicture, match=r"megapixels .*, and the limit is"):
            images.probe(data, limit)


def test_photoshop_documents():
    assert same(read(psd()), picture(8, 10))
    with pytest.raises(BadPicture, match=r"16 bits a channel.*Save it as TIFF"):
        read(psd(16))
    with pytest.raises(BadPicture, match="without its merged picture"):
        read(psd(merged=0))


def test_jpeg_xl_that_cannot_be_read_is_named(monkeypatch):
    data = bytes(imagecodecs.jpegxl_encode(picture(), lossless=True))
    assert same(read(data), picture())

    def missing(*_: object, **__: object) -> None:
        raise ImportError("not built")

    monkeypatch.setattr(imagecodecs, "jpegxl_decode", missing)
    with pytest.raises(BadPicture, match=r"JPEG XL picture.*djxl in\.jxl out\.png"):
        read(data)


@pytest.mark.parametrize(
    "shape", [(60, 90), (60, 90, 3), (60, 90, 4), (64, 64, 3), (40, 60, 3), (7, 1000, 3)]
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_jpeg_xl_of_any_shape(shape, kind):
    samples = np.random.default_rng(0).integers(1, np.iinfo(kind).max, shape, kind, endpoint=True)
    data = bytes(imagecodecs.jpegxl_encode(samples, lossless=True))
    found = read(data)
    top = np.iinfo(kind).max
    color = samples[..., :3] if samples.ndim == 3 else samples[..., None].repeat(3, axis=2)
    right = color / top
    if kind is np.uint16:  # which imagecodecs marks as linear light
        right = np.where(right <= 0.0031308, 12.92 * right, 1.055 * right ** (1 / 2.4) - 0.055)
    assert np.abs(found.pixels - right).max() < 1e-5 and (found.alpha is not None) == (
        shape[-1] == 4
    )
    with pytest.raises(BadPicture, match="megapixels"):
        read(data, 0.0001)


# ---- silence -------------------------------------------------------------------------------------


def test_damaged_tiffs_say_nothing_of_their_own(tmp_path, capfd):
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits", "group4", "raw"):
        buffer = io.BytesIO()
        source = Image.fromarray(picture()).convert("1" if compression == "group4" else "RGB")
        source.save(buffer, "TIFF", compression=compression)
        for seed in range(30):
            data = bytearray(buffer.getvalue())
            places = np.random.default_rng(seed).integers(8, len(data), 20)
            for place in places:
                data[place] ^= 1 << seed % 8
            try:
                read(bytes(data))
            except (BadPicture, MissingExtra):
                continue
    captured = capfd.readouterr()
    assert captured.err == "" and captured.out == ""


def test_stderr_is_given_back(capfd):
    with images.silence.no_stderr():
        subprocess.run(
            [sys.executable, "-c", "import sys; print('noise', file=sys.stderr)"], check=True
        )
    print("kept", file=sys.stderr)
    assert capfd.readouterr().err == "kept\n"


def test_threads_that_silence_at_once_restore_what_was_there():
    """Each thread enters while another one is inside, and leaves in another order."""
    loggers = [
        logging.getLogger(name) for name in ("tifffile", "PIL.TiffImagePlugin", "matplotlib")
    ]

    def settings() -> tuple[object, ...]:
        return (
            Image.MAX_IMAGE_PIXELS,
            ImageFile.LOAD_TRUNCATED_IMAGES,
            list(warnings.filters),
            [logger.disabled for logger in loggers],
            os.fstat(2).st_ino,
        )

    def work(seed: int) -> None:
        pauses = random.Random(seed)
        for _ in range(20):
            with images.silence.quiet(1 + seed):
                assert int((1 + seed) * 1e6) == Image.MAX_IMAGE_PIXELS
                time.sleep(pauses.random() / 1000)
                with images.silence.no_stderr(), images.silence.no_messages("matplotlib"):
                    time.sleep(pauses.random() / 1000)
                assert int((1 + seed) * 1e6) == Image.MAX_IMAGE_PIXELS

    before = settings()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert settings() == before


def test_what_is_global_is_given_back(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    before = dict(Image.OPEN)
    read(saved("JPEG"))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True and {*before} <= {*Image.OPEN}


def test_notes_are_short(tmp_path):
    text = json.dumps({"x": 1})
    images.save(tmp_path / "x.png", picture() / np.float32(255), recipe=text)
    data = with_chunks(Path(tmp_path / "x.png").read_bytes(), compressed_text(b"w", 2_000_000))[
        :-12
    ]
    for note in read(data).notes:
        assert len(note) < 90 and "\n" not in note and not note.endswith(".")


def test_avif_with_a_pillow_that_is_too_old(monkeypatch):
    data = saved("AVIF")
    monkeypatch.delitem(Image.OPEN, "AVIF")
    monkeypatch.setattr(Image, "init", lambda: True)
    with pytest.raises(BadPicture, match=r"AVIF picture.*pip install --upgrade pillow"):
        read(data)
