"""The file boundary: what is read is what was meant, what is saved can be read back, and refusals
are civil.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageFile, TiffImagePlugin, TiffTags

from impasto import images
from impasto.errors import BadPicture, CannotWrite, MissingExtra
from impasto.geometry import Size
from impasto.images.profiles import srgb_profile
from impasto.storage import files as files_
from impasto.storage.files import replace_file

FORMATS = [("png", 8), ("png", 16), ("tif", 8), ("tif", 16), ("jpg", 8), ("webp", 8)]
LOSSLESS = FORMATS[:4]
RECIPE = json.dumps({"style": "神奈川沖浪裏", "é <&> \"'": [1.5, None, "🎨\n"]}, ensure_ascii=False)


def ramp(height: int = 11, width: int = 17, channels: int = 3) -> np.ndarray:
    """Smooth, different in every channel and direction: survives lossy formats, and no turn or swap
    is hidden.
    """
    y, x = np.mgrid[0:height, 0:width]
    planes = [x / width, y / height, (x + y) / (height + width), 0.2 + 0.8 * x / width]
    return np.stack(planes[:channels], axis=-1).astype(np.float32)


def noise(height: int, width: int, channels: int, bits: int, seed: int = 0) -> np.ndarray:
    kind = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, (height, width, channels), dtype=kind)


def read(source: object, max_megapixels: float = 10) -> images.Picture:
    return images.read(source, max_megapixels=max_megapixels)


def png_file(
    width: int, height: int, depth: int, color: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def wide_gamut() -> bytes:
    return bytes(imagecodecs.cms_profile("adobergb"))


# ---- round trips ---------------------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(LOSSLESS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    has_alpha=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_lossless_formats_keep_every_bit(tmp_path, kind, height, width, has_alpha, seed):
    extension, bits = kind
    samples = noise(height, width, 4, bits, seed)
    samples[..., 3] |= 1  # nowhere invisible, since colors there are replaced on purpose
    samples[0, 0, 3] = 7  # nor everywhere opaque
    full = np.float32(2**bits - 1)
    pixels, alpha = samples[..., :3] / full, samples[..., 3] / full if has_alpha else None
    path = tmp_path / f"x.{extension}"
    images.save(path, pixels, alpha=alpha, bits=bits)
    picture = read(path)
    assert picture.pixels.dtype == np.float32 and picture.pixels.flags.c_contiguous
    assert np.array_equal(np.rint(picture.pixels * full), samples[..., :3])
    if has_alpha:
        assert np.array_equal(np.rint(picture.alpha * full), samples[..., 3])
    else:
        assert picture.alpha is None
    assert picture.size == Size(height, width)
    assert picture.notes == () and picture.profile == ""


@pytest.mark.parametrize(("extension", "bits"), FORMATS)
def test_every_format_keeps_picture_profile_exif_recipe_and_credit(tmp_path, extension, bits):
    path = tmp_path / f"é {bits}.{extension}"
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Brownie"
    exif[ExifTags.Base.Orientation] = 1
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.01}
    images.save(
        path,
        ramp(),
        exif=exif.tobytes(),
        recipe=RECIPE,
        credit="Hokusai & <co>",
        title="波",
        bits=bits,
    )
    picture = read(path)
    assert np.abs(picture.pixels - ramp()).max() < (
        0.6 / (2**bits - 1) if (extension, bits) in LOSSLESS else 0.1
    )
    assert images.embedded_recipe(path) == RECIPE
    assert images.embedded_credit(path) == "Hokusai & <co>"
    with Image.open(path) as image:
        assert image.info["icc_profile"] == srgb_profile()
    again = Image.Exif()
    again.load(picture.exif)
    assert again[ExifTags.Base.Make] == "Brownie"
    assert float(again.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime]) == 0.01
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.source == str(path)


@pytest.mark.parametrize(("extension", "bits"), FORMATS)
def test_same_arguments_same_bytes_at_any_time(tmp_path, extension, bits, monkeypatch):
    first, second = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    images.save(first, ramp(), recipe=RECIPE, bits=bits)
    make = ImageCms.ImageCmsProfile.tobytes

    def made_later(profile: ImageCms.ImageCmsProfile) -> bytes:
        data = make(profile)
        # The date in the header.
        return data[:24] + struct.pack(">6H", 2031, 12, 30, 1, 2, 3) + data[36:]

    with monkeypatch.context() as patch:
        patch.setattr(ImageCms.ImageCmsProfile, "tobytes", made_later)
        srgb_profile.cache_clear()
        images.save(second, ramp(), recipe=RECIPE, bits=bits)
    srgb_profile.cache_clear()
    assert first.read_bytes() == second.read_bytes()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    recipe=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\t\n\r<&>]\"'")
    )
)
@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tiff"])
def test_any_recipe_comes_back(tmp_path, extension, recipe):
    # The two characters that XML has not.
    recipe = recipe.replace("\ufffe", "").replace("\uffff", "") or "x"
    path = tmp_path / f"x.{extension}"
    images.save(path, ramp(3, 4), recipe=recipe)
    assert images.embedded_recipe(path) == recipe


def test_texts_that_xml_cannot_hold_do_not_stop_a_save(tmp_path):
    path = tmp_path / "x.png"
    images.save(path, ramp(), recipe="a\x00b\udc80c")  # \udc80: an undecodable byte of a file name
    assert images.embedded_recipe(path) == "a\ufffdb\ufffdc"


def test_embedded_texts_of_others(tmp_path):
    path = tmp_path / "x.png"
    images.save(path, ramp())
    assert images.embedded_recipe(path) is None and images.embedded_credit(path) is None
    namespaces = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:i="urn:impasto:ns#"'
    packets = {
        # As others rewrite it.
        f'<rdf:RDF {namespaces}><rdf:Description i:recipe="again"/></rdf:RDF>': "again",
        f'<!DOCTYPE x [<!ENTITY a "b">]><rdf:RDF {namespaces}><rdf:Description '
        f'i:recipe="&a;"/></rdf:RDF>': None,
        "<not xml": None,
    }
    for packet, expected in packets.items():
        Image.new("RGB", (4, 4)).save(tmp_path / "y.webp", xmp=packet.encode())
        assert images.embedded_recipe(tmp_path / "y.webp") == expected
    with pytest.raises(BadPicture, match=r"gone\.png"):
        images.embedded_recipe(tmp_path / "gone.png")


def test_rounding_is_to_nearest_and_clips(tmp_path):
    values = np.array([[-0.5, 0.0, 0.499 / 255, 0.501 / 255, 254.501 / 255, 7.0]], np.float32)
    images.save(tmp_path / "x.png", np.repeat(values[..., None], 3, axis=2))
    assert np.asarray(Image.open(tmp_path / "x.png"))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_jpeg_is_444_and_laid_over_white(tmp_path):
    alpha = np.zeros((16, 16), np.float32)
    alpha[:8] = 1
    images.save(tmp_path / "x.jpg", np.zeros((16, 16, 3), np.float32), alpha=alpha)
    with Image.open(tmp_path / "x.jpg") as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    pixels = read(tmp_path / "x.jpg").pixels
    assert pixels[:7].max() < 0.02 and pixels[9:].min() > 0.98


def test_big_tiffs_have_many_strips_and_others_can_read_them(tmp_path):
    samples = noise(700, 513, 3, 16)
    images.save(tmp_path / "x.tif", samples / np.float32(65535), bits=16)
    with tifffile.TiffFile(tmp_path / "x.tif") as tiff:
        assert len(tiff.pages[0].dataoffsets) > 1
        assert np.array_equal(tiff.asarray(), samples)
    images.save(tmp_path / "y.tif", (samples >> 8) / np.float32(255))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "y.tif")), samples >> 8)


# ---- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "png16", "tif", "tif16", "tif palette", "webp"])
def test_all_exif_orientations_are_applied(tmp_path, orientation, kind):
    turned = (ramp(8, 13) * 255).round().astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"x.{kind.split()[0].removesuffix('16')}"
    if kind == "png16":
        rows = b"".join(b"\0" + row.tobytes() for row in (turned.astype(">u2") * 257))
        path.write_bytes(png_file(13, 8, 16, 2, rows, (b"eXIf", exif.tobytes()[6:])))
    elif kind == "tif16":
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(path, turned.astype(np.uint16) * 257, photometric="rgb", extratags=[tag])
    else:
        image = Image.fromarray(turned)
        # A TIFF with a palette is read by Pillow.
        image = image.quantize(256) if "palette" in kind else image
        image.save(path, exif=exif, quality=100, subsampling=0, lossless=True)
    # What each value means, in the words of the standard: where the picture's first row and column
    # are stored.
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation](turned / 255)
    picture = read(path)
    assert picture.pixels.shape == upright.shape
    assert np.abs(picture.pixels - upright).max() < 0.05
    assert picture.pixels.flags.c_contiguous
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept.get(ExifTags.Base.Orientation, 1) == 1


def test_exif_without_place_thumbnail_and_maker_notes(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Box"
    exif[ExifTags.Base.ImageWidth] = 9999
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.MakerNote: b"secret",
        ExifTags.Base.ColorSpace: 65535,
        ExifTags.Base.DateTimeOriginal: "2020:01:02 03:04:05",
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitude: (48.0, 51.0, 24.0)}
    block = exif.tobytes()[6:]
    entries = struct.unpack_from(">H", block, 8)[0]
    # Where the first directory says where the second one, the thumbnail's, is.
    after_entries = 10 + 12 * entries
    thumbnail = struct.pack(">HHHIIII", 1, 0x0201, 4, 1, 0, 0, 0)
    block = (
        block[:after_entries]
        + struct.pack(">I", len(block))
        + block[after_entries + 4 :]
        + thumbnail
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + block)
    with Image.open(tmp_path / "x.jpg") as image:  # they are there
        assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo) and image.getexif().get_ifd(
            ExifTags.IFD.IFD1
        )
    kept = Image.Exif()
    kept.load(read(tmp_path / "x.jpg").exif)
    assert kept[ExifTags.Base.Model] == "Box"
    assert set(kept) == {ExifTags.Base.Model, ExifTags.Base.Orientation, ExifTags.IFD.Exif}
    assert kept.get_ifd(ExifTags.IFD.Exif) == {
        ExifTags.Base.ColorSpace: 1,
        ExifTags.Base.DateTimeOriginal: "2020:01:02 03:04:05",
    }
    assert not kept.get_ifd(ExifTags.IFD.GPSInfo) and not kept.get_ifd(ExifTags.IFD.IFD1)


def test_exif_that_cannot_be_kept_still_turns_the_picture(tmp_path):
    details = TiffImagePlugin.ImageFileDirectory_v2()
    details[ExifTags.Base.Orientation] = 6
    details.tagtype[ExifTags.Base.Make] = TiffTags.RATIONAL  # a text is due here
    details[ExifTags.Base.Make] = 0.5
    buffer = io.BytesIO()
    details.save(buffer)
    Image.new("RGB", (8, 5)).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + buffer.getvalue())
    picture = read(tmp_path / "x.jpg")
    assert picture.exif == b"" and "EXIF data are damaged" in picture.notes[0]
    assert picture.size == Size(8, 5)


def test_exif_too_long_for_a_jpeg_is_not_kept(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 61_000
    Image.new("RGB", (8, 5)).save(tmp_path / "x.png", exif=exif)
    picture = read(tmp_path / "x.png")
    assert picture.exif == b"" and "too long" in picture.notes[0]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "PA", "RGBA", "I;16", "I", "F"]
)
def test_every_mode_becomes_rgb(tmp_path, mode):
    gray = (ramp(channels=3)[..., 0] * 255).round().astype(np.uint8)
    image = Image.fromarray(np.dstack([gray] * 3))
    if mode in ("I;16", "I"):
        image = Image.fromarray(gray.astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray((gray / 255).astype(np.float32))
    elif mode == "PA":
        image = image.convert("P").convert("PA")
    else:
        image = image.convert(mode)
    assert image.mode == mode
    before = image.tobytes()
    picture = read(image)
    assert image.tobytes() == before
    assert picture.source == "image" and picture.alpha is None
    tolerance = {"1": 1.0, "P": 0.2, "PA": 0.2}.get(mode, 0.006)
    assert np.abs(picture.pixels - (gray / 255)[..., None]).max() <= tolerance
    if mode == "1":
        assert set(np.unique(picture.pixels)) == {0.0, 1.0}


def test_sixteen_bits_are_sixteen_bits(tmp_path):
    samples = noise(9, 14, 4, 16)
    samples[..., 3] |= 1
    be = samples.astype(">u2")

    def rows(channels):
        return b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in be[..., channels])

    files = {
        "gray.png": (png_file(14, 9, 16, 0, rows([0])), [0, 0, 0], False),
        "gray alpha.png": (png_file(14, 9, 16, 4, rows([0, 3])), [0, 0, 0], True),
        "rgb.png": (png_file(14, 9, 16, 2, rows([0, 1, 2])), [0, 1, 2], False),
        "rgba.png": (png_file(14, 9, 16, 6, rows([0, 1, 2, 3])), [0, 1, 2], True),
    }
    tiff = {"photometric": "minisblack"}, {"photometric": "rgb"}
    for name, array, channels, options in [
        ("gray", samples[..., 0], [0, 0, 0], tiff[0]),
        ("rgb", samples[..., :3], [0, 1, 2], tiff[1]),
        ("big-endian", samples[..., :3], [0, 1, 2], {**tiff[1], "byteorder": ">"}),
        (
            "planar",
            samples[..., :3].transpose(2, 0, 1),
            [0, 1, 2],
            {**tiff[1], "planarconfig": "separate"},
        ),
        ("lzw", samples[..., :3], [0, 1, 2], {**tiff[1], "compression": "lzw", "predictor": True}),
        ("rgba", samples, [0, 1, 2], {**tiff[1], "extrasamples": ["unassalpha"]}),
        ("rgb+other", samples, [0, 1, 2], {**tiff[1], "extrasamples": ["unspecified"]}),
        ("tiled", samples[..., :3], [0, 1, 2], {**tiff[1], "tile": (16, 16)}),
    ]:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **options)
        files[f"{name}.tif"] = (buffer.getvalue(), channels, name == "rgba")
    for name, (data, channels, has_alpha) in files.items():
        (tmp_path / name).write_bytes(data)
        picture = read(tmp_path / name)
        assert np.array_equal(np.rint(picture.pixels * 65535), samples[..., channels]), name
        assert (picture.alpha is not None) == has_alpha, name
        if has_alpha:
            assert np.array_equal(np.rint(picture.alpha * 65535), samples[..., 3]), name


def test_odd_tiffs(tmp_path):
    path = tmp_path / "x.tif"
    values = ramp()
    for bits in (8, 16):
        positive = noise(4, 5, 1, bits)[..., 0]
        tifffile.imwrite(path, 2**bits - 1 - positive, photometric="miniswhite")
        assert np.array_equal(np.rint(read(path).pixels[..., 1] * (2**bits - 1)), positive)
    Image.fromarray(positive > 30000).save(path)  # one bit, by Pillow
    assert np.array_equal(read(path).pixels[..., 1], positive > 30000)
    tifffile.imwrite(path, values, photometric="rgb")  # 32-bit float: Pillow cannot open it
    picture = read(path)
    assert np.array_equal(picture.pixels, values) and "floating point" in picture.notes[0]
    tifffile.imwrite(path, values * 255, photometric="rgb")
    with pytest.raises(BadPicture, match=r"x\.tif.* values go from .* and floats must be 0\.\.1"):
        read(path)
    premultiplied = np.full((3, 3, 4), 32768, np.uint16)
    tifffile.imwrite(path, premultiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert read(path).pixels == pytest.approx(1)
    ink = np.zeros((3, 3, 4), np.uint16)
    ink[..., 0] = 65535
    tifffile.imwrite(path, ink, photometric="separated")
    assert np.array_equal(read(path).pixels[0, 0], [0, 1, 1])
    tifffile.imwrite(path, np.array([[0, 70000]], np.uint32))
    with pytest.raises(BadPicture, match=r"x\.tif.*0 to 70000"):
        read(path)


def test_transparency_of_every_sort_is_alpha(tmp_path):
    path = tmp_path / "x.png"
    red, key = [(65535, 0, 0), (1, 2, 3)]
    rows = b"\0" + struct.pack(">6H", *red, *key)
    path.write_bytes(png_file(2, 1, 16, 2, rows, (b"tRNS", struct.pack(">3H", *key))))
    deep = read(path)
    path.write_bytes(
        png_file(2, 1, 8, 2, bytes([0, 255, 0, 0, 1, 2, 3]), (b"tRNS", struct.pack(">3H", *key)))
    )
    shallow = read(path)
    palette = (b"PLTE", bytes([255, 0, 0, 9, 9, 9])), (b"tRNS", bytes([255, 0]))
    path.write_bytes(png_file(2, 1, 8, 3, bytes([0, 0, 1]), *palette))
    for picture in (deep, shallow, read(path)):
        assert picture.alpha.tolist() == [[1, 0]]
        assert picture.pixels[0, 1].tolist() == [1, 0, 0], (
            "the invisible pixel takes the visible color"
        )
    path.write_bytes(png_file(2, 1, 8, 0, bytes([0, 255, 7]), (b"tRNS", struct.pack(">H", 7))))
    assert read(path).alpha.tolist() == [[1, 0]]


def test_invisible_pixels_take_the_nearest_visible_color():
    rgba = np.zeros((6, 9, 4), np.uint8)
    rgba[:, :3] = (10, 20, 30, 255)
    rgba[:, -1] = (200, 100, 50, 1)
    rgba[:, 3:-1, :3] = 77  # what was cut away
    pixels = np.rint(read(rgba).pixels * 255)
    assert (pixels[:, :5] == [10, 20, 30]).all() and (pixels[:, 6:] == [200, 100, 50]).all()
    rgba[..., 3] = 0
    with pytest.raises(BadPicture, match="transparent everywhere"):
        read(rgba)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_used_and_said(tmp_path, kind):
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    path = tmp_path / "x"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], lossless=kind == "WEBP")
    picture = read(path)
    assert picture.pixels[5, 5].tolist() == [1, 0, 0]
    word = "pages" if kind == "TIFF" else "frames"
    assert picture.notes == (f"has 3 {word}; the first one is used",)


# ---- color --------------------------------------------------------------------------------------


def adobe_rgb_to_srgb(values: np.ndarray) -> np.ndarray:
    """By the published matrices (Adobe RGB 1998, IEC 61966-2-1; both D65), clipped to the gamut."""
    to_xyz = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    to_rgb = [
        [3.24045, -1.53714, -0.49853],
        [-0.96927, 1.87601, 0.04156],
        [0.05564, -0.20403, 1.05723],
    ]
    linear = np.clip(values ** (563 / 256) @ np.transpose(to_xyz) @ np.transpose(to_rgb), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["8.jpg", "8.png", "16.png", "16.tif"])
def test_wide_gamut_is_converted_to_srgb(tmp_path, kind):
    path, values = tmp_path / kind, np.rint((0.1 + 0.8 * ramp()) * 255) / 255
    if kind == "16.tif":
        samples = np.rint(values * 65535).astype(np.uint16)
        tifffile.imwrite(path, samples, photometric="rgb", iccprofile=wide_gamut())
    elif kind == "16.png":
        rows = b"".join(b"\0" + row.tobytes() for row in np.rint(values * 65535).astype(">u2"))
        path.write_bytes(
            png_file(17, 11, 16, 2, rows, (b"iCCP", b"x\0\0" + zlib.compress(wide_gamut())))
        )
    else:
        image = Image.fromarray(np.rint(values * 255).astype(np.uint8))
        image.save(path, icc_profile=wide_gamut(), quality=100, subsampling=0)
    picture = read(path)
    expected = adobe_rgb_to_srgb(values)
    assert np.abs(expected - values).max() > 0.1, "the conversion is not a small matter"
    # The gamut; at its border methods differ.
    inside = ((expected > 0.02) & (expected < 0.98)).all(axis=2)
    assert inside.mean() > 0.5
    tolerance = {"8.jpg": 0.04, "8.png": 0.006}.get(kind, 0.001)
    assert np.abs(picture.pixels - expected)[inside].max() < tolerance
    assert "Adobe RGB" in picture.profile and "converted from Adobe RGB" in picture.notes[0]
    images.save(path, picture.pixels)  # and once saved, it is sRGB
    assert read(path).profile == ""


def test_gray_profiles(tmp_path):
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    linear = bytes(imagecodecs.cms_profile("gray", gamma=1.0))
    Image.fromarray(gray).save(tmp_path / "x.png", icc_profile=linear)
    picture = read(tmp_path / "x.png")
    assert picture.pixels[8, 0] == pytest.approx(0.737, abs=0.01)  # linear 128/255, encoded
    assert "gray, converted" in picture.notes[0]
    # An RGB profile on a gray picture.
    Image.fromarray(gray).save(tmp_path / "x.png", icc_profile=wide_gamut())
    picture = read(tmp_path / "x.png")
    assert np.abs(picture.pixels - (gray / 255)[..., None]).max() < 0.06
    assert np.ptp(picture.pixels, axis=2).max() < 0.01


def test_cmyk_and_lab(tmp_path):
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[:4, :, 1] = 255  # magenta
    inks[4:, :, 3] = 128  # half black
    Image.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100)
    picture = read(tmp_path / "x.jpg")
    assert picture.pixels[1, 4] == pytest.approx([1, 0, 1], abs=0.02)
    assert picture.pixels[6, 4] == pytest.approx([0.5] * 3, abs=0.02)
    assert "CMYK without" in picture.notes[0]
    # L* a* b* of sRGB red and mid gray, as Lab TIFFs store them: L of 255, a and b as signed bytes
    lab = np.array([[[136, 81, 70], [136, 0, 0]]], np.int16).astype(np.uint8)
    Image.frombytes("LAB", (2, 1), lab.tobytes()).save(tmp_path / "x.tif")
    picture = read(tmp_path / "x.tif")
    assert picture.pixels[0, 0] == pytest.approx([1, 0, 0], abs=0.05)
    assert picture.pixels[0, 1] == pytest.approx([0.497] * 3, abs=0.01)
    assert picture.profile == "Lab" and picture.notes == ("Lab, converted to sRGB",)


def test_bad_and_foreign_profiles_are_ignored_with_a_note(tmp_path):
    samples = noise(5, 6, 3, 8)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for icc, word in [
        (b"rubbish" * 40, "damaged"),
        (wide_gamut()[:300], "damaged"),
        (lab, "not for RGB"),
    ]:
        Image.fromarray(samples).save(tmp_path / "x.png", icc_profile=icc)
        picture = read(tmp_path / "x.png")
        assert (
            word in picture.notes[0] and "ignored" in picture.notes[0] and len(picture.notes) == 1
        )
        assert picture.profile == ""
        assert np.array_equal(np.rint(picture.pixels * 255), samples)


def test_an_srgb_profile_by_any_name_changes_no_bit():
    samples = noise(30, 31, 3, 8)
    image = Image.fromarray(samples)
    image.info["icc_profile"] = bytes(imagecodecs.cms_profile("srgb"))
    picture = read(image)
    assert image.info["icc_profile"] != srgb_profile()
    assert np.array_equal(picture.pixels, samples / np.float32(255)) and picture.notes == ()


# ---- arrays and tensors --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 7), (4, 7, 1), (4, 7, 3), (4, 7, 4)])
def test_arrays_and_tensors(dtype, shape):
    values = ramp(4, 7, 4)[..., : shape[2] if len(shape) == 3 else 1].reshape(shape)
    full = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    array = (values * full).astype(dtype)
    before = array.copy()
    planes = np.atleast_3d(array).transpose(2, 0, 1)
    sources = [array, torch.from_numpy(planes.copy()), torch.from_numpy(planes.copy())[None]]
    sources += [np.asfortranarray(array)]
    pictures = [read(source) for source in sources]
    for picture in pictures:
        color = values[..., :3] if len(shape) == 3 else values[..., None]
        assert np.abs(picture.pixels - color).max() < 0.005
        assert (picture.alpha is not None) == (shape[-1] == 4)
        assert picture.pixels.dtype == np.float32 and picture.pixels.flags.c_contiguous
        assert picture.sha256 == pictures[0].sha256
        picture.pixels[:] = 0.5  # its own memory
    assert np.array_equal(array, before)
    assert [picture.source for picture in pictures] == ["array", "tensor", "tensor", "array"]
    assert read(1 - np.float64(values)).sha256 != pictures[0].sha256


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"\(3, 8, 9\).*transpose"),
        (np.zeros((8, 9, 2), np.uint8), r"\(8, 9, 2\)"),
        (np.zeros(8, np.uint8), r"\(8,\)"),
        (np.zeros((0, 9, 3), np.uint8), "no pixels"),
        (np.zeros((8, 9, 3), np.int64), "int64.*astype"),
        (np.full((8, 9, 3), np.nan), "not numbers"),
        (np.full((8, 9, 3), np.inf), "not numbers"),
        (np.full((8, 9, 3), 255.0), "0 to 255|255 to 255.*0..1"),
        (np.full((8, 9, 3), -0.5), "-0.5.*0..1"),
        (torch.zeros(8, 9, 3), r"\(8, 9, 3\)"),
        (torch.zeros(2, 3, 8, 9), r"\(2, 3, 8, 9\)"),
        (torch.full((3, 8, 9), float("nan")), "tensor.*not numbers"),
        (42, "int"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_no_pictures(source, words):
    with pytest.raises(BadPicture, match=words):
        read(source)


def test_tensor_conversions_are_inverse_and_exact():
    pixels = ramp(5, 8)
    tensor = images.to_tensor(pixels)
    assert tensor.shape == (1, 3, 5, 8) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert torch.equal(tensor[0, 1], torch.from_numpy(pixels[..., 1].copy()))
    back = images.from_tensor(tensor.requires_grad_())
    assert np.array_equal(back, pixels) and back.flags.c_contiguous
    back[:] = 0
    assert tensor.detach().max() > 0 and pixels.max() > 0
    assert images.from_tensor(tensor[0].double()).dtype == np.float32
    assert images.to_tensor(pixels[..., 0]).shape == (1, 1, 5, 8)
    with pytest.raises(ValueError, match=r"\(1, 1, 5, 8\)"):
        images.from_tensor(tensor[:, :1])


# ---- refusals ------------------------------------------------------------------------------------


def test_missing_files_and_folders(tmp_path):
    (tmp_path / "sunflowers.jpg").write_bytes(b"x")
    with pytest.raises(
        BadPicture, match=r"sunflower\.jpg does not exist.*Did you mean sunflowers\.jpg"
    ):
        read(tmp_path / "sunflower.jpg")
    with pytest.raises(BadPicture, match=r"a\.jpg does not exist: there is no folder .*nowhere"):
        read(tmp_path / "nowhere" / "a.jpg")
    with pytest.raises(BadPicture, match=f"{tmp_path.name} is a folder"):
        read(str(tmp_path))
    with pytest.raises(BadPicture, match="is an address"):
        read("https://example.org/a.jpg")
    with pytest.raises(BadPicture, match="cannot be opened"):
        read("a\0b.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(BadPicture, match=r"pipe\.jpg is not a regular file"):
        read(tmp_path / "pipe.jpg")


def test_permission_denied(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    images.save(path, ramp())

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # The tests may run as the superuser, whom no mode stops.
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(BadPicture, match=r"x\.png may not be read: permission denied"):
        read(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "seems to be a web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"Dear diary, today I painted.", "seems to be text"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"PK\x03\x04\x14\0\0\0", "ZIP"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video"),
        (bytes(range(200)), "not a picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "damaged or cut short"),
        (b"II*\0\x08\0\0\0", "damaged or cut short"),
        (png_file(0, 5, 8, 2, b""), "x.jpg"),
    ],
)
def test_what_is_no_picture(tmp_path, data, words):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(BadPicture, match=words) as caught:
        read(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG16", "WEBP", "GIF", "TIFF", "TIFF16", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path, kind, part, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # some programs set it
    path = tmp_path / "x.jpg"
    if kind.endswith("16"):
        saved = tmp_path / ("a.png" if kind == "PNG16" else "a.tif")
        images.save(saved, noise(60, 70, 3, 8) / np.float32(255), bits=16)
        data = saved.read_bytes()
    else:
        buffer = io.BytesIO()
        Image.fromarray(noise(60, 70, 3, 8)).save(buffer, kind)
        data = buffer.getvalue()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BadPicture, match=r"x\.jpg") as caught:
        read(path)
    if kind in ("JPEG", "PNG", "PNG16"):
        assert "is cut short" in caught.value.message
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    path.write_bytes(data)
    assert read(path).size == Size(60, 70)


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, kind, monkeypatch):
    # Pillow's own limit neither decides nor is changed.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / f"x.{kind}"
    images.save(path, ramp(50, 60))
    assert read(path, max_megapixels=0.003).size == Size(50, 60)
    with monkeypatch.context() as patch:
        patch.setattr("impasto.images.reading._decode", None)
        with pytest.raises(
            BadPicture, match=r"0\.003 megapixels \(60x50\), and the limit is 0\.0029"
        ) as caught:
            read(path, max_megapixels=0.0029)
    assert str(path) in caught.value.message and "--max-megapixels 1" in caught.value.hint
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(BadPicture, match="megapixels"):
        read(ramp(50, 60), max_megapixels=0.0029)
    with pytest.raises(BadPicture, match="megapixels"):
        read(Image.new("RGB", (60, 50)), max_megapixels=0.0029)


def test_a_bomb_of_a_few_bytes(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_file(60_000, 50_000, 1, 0, bytes(1000)))
    with pytest.raises(
        BadPicture, match=r"bomb\.png has 3000 megapixels \(60000x50000\), and the limit is 200"
    ):
        read(tmp_path / "bomb.png", max_megapixels=200)


def test_an_icon_whose_header_lies(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (1500, 1500)).save(buffer, "PNG")
    inner = buffer.getvalue()
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 24, len(inner), 22)
    (tmp_path / "x.ico").write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + inner)
    with pytest.raises(BadPicture, match=r"x\.ico"):
        read(tmp_path / "x.ico", max_megapixels=1)


def test_heic_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    with pytest.raises(MissingExtra, match=r"x\.heic.*pip install 'impasto\[heif\]'"):
        read(tmp_path / "x.heic")


def test_heic_with_its_extra(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "x.heic", quality=90)
    picture = read(tmp_path / "x.heic")
    assert picture.size == Size(48, 64)
    assert picture.pixels[20, 20] == pytest.approx([1, 0, 0], abs=0.05)
    with pytest.raises(BadPicture, match=r"x\.heic"):
        read(tmp_path / "x.heic", max_megapixels=0.001)


# ---- resizing ------------------------------------------------------------------------------------


def test_resize_keeps_precision_means_and_the_identity():
    pixels = ramp(40, 60)
    assert images.resize(pixels, Size(40, 60)) is pixels
    small = images.resize(pixels, Size(7, 11))
    assert small.shape == (7, 11, 3) and small.dtype == np.float32
    assert small.mean(axis=(0, 1)) == pytest.approx(pixels.mean(axis=(0, 1)), abs=2e-3)
    stripes = np.zeros((30, 90), np.float32)
    stripes[:, ::2] = 1
    # Antialiased: no moiré.
    assert images.resize(stripes, Size(10, 30)) == pytest.approx(0.5, abs=0.1)
    faint = np.full((9, 9, 3), 0.123456, np.float32)
    # Never through 8 bits.
    assert images.resize(faint, Size(20, 5)) == pytest.approx(0.123456, abs=1e-6)
    edge = np.zeros((8, 8), np.float32)
    edge[:, 4:] = 1
    large = images.resize(edge, Size(64, 64))
    assert large.min() == 0 and large.max() == 1
    assert np.array_equal(large, images.resize(edge, Size(64, 64)))
    for wrong in (Size(0, 5), Size(5, -1)):
        with pytest.raises(ValueError, match="cannot resize"):
            images.resize(edge, wrong)


# ---- the door out --------------------------------------------------------------------------------


def test_check_output_makes_the_folder_and_leaves_nothing_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = images.check_output("new/deeper/x.PNG")
    assert path == tmp_path / "new" / "deeper" / "x.PNG" and path.is_absolute()
    assert list(path.parent.iterdir()) == []
    path.write_bytes(b"old")
    assert images.check_output(path) == path and path.read_bytes() == b"old"
    assert images.check_output(path, bits=16, size=Size(100_000, 3)) == path


def test_check_output_refuses(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    protected = tmp_path / "protected.png"
    protected.write_bytes(b"x")
    protected.chmod(0o444)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone" / "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "folder.png": r"folder\.png is a folder",
        "new/": "is a folder",
        "x": r"x has no extension.*\.png \.jpg \.jpeg \.webp \.tif \.tiff.*Call it x\.png",
        "x.jpgg": r"x\.jpgg ends in \.jpgg.*Did you mean \.jpg",
        "x.gif": r"x\.gif ends in \.gif",
        "file/x.png": r"file is a file, so there can be no folder",
        "file/deeper/x.png": r"file is a file, so there can be no folder",
        "protected.png": r"protected\.png exists and cannot be replaced.*write-protected",
        "pipe.png": r"pipe\.png exists and is not a regular file",
        "dangling.png": r"dangling\.png exists and cannot be replaced",
    }.items():
        with pytest.raises(CannotWrite, match=words):
            images.check_output(f"{tmp_path}/{name}")
    assert not (tmp_path / "new").exists()
    with pytest.raises(CannotWrite, match=r"x\.jpg cannot have 16 bits.*x\.png or x\.tif"):
        images.check_output(tmp_path / "x.jpg", bits=16)
    with pytest.raises(CannotWrite, match=r"x\.webp would be 20000x10.*16383.*x\.png"):
        images.check_output(tmp_path / "x.webp", size=Size(10, 20_000))


def test_check_output_tries_to_write(tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        CannotWrite, match=f"{tmp_path.name} cannot be written to: Read-only file system"
    ):
        images.check_output(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, step, extension):
    path = tmp_path / f"x.{extension}"
    path.write_bytes(b"the old picture")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(
            CannotWrite, match=rf"x\.{extension} could not be saved: No space left.*Free .* MB"
        ):
            images.save(path, ramp())
    assert path.read_bytes() == b"the old picture"
    assert list(tmp_path.iterdir()) == [path]
    images.save(path, ramp())
    assert read(path).size == Size(11, 17)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_written_in_parts(tmp_path):
    path = tmp_path / "x"
    replace_file(path, b"whole")
    assert path.read_bytes() == b"whole"
    replace_file(
        path,
        (
            part
            for part in (b"one ", memoryview(b"two "), np.frombuffer(b"three", np.uint8).data, b"")
        ),
    )
    assert path.read_bytes() == b"one two three"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("no such part")]
)
def test_parts_that_end_too_soon_leave_what_was_there(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(b"before")

    def parts():
        yield bytes(3_000_000)
        raise error

    expected = CannotWrite if isinstance(error, OSError) else ValueError
    with pytest.raises(expected, match=r"No space left|no such part") as found:
        replace_file(path, parts())
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    if isinstance(found.value, CannotWrite):
        assert "Free 3 MB or more" in found.value.hint


def test_an_interruption_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        images.save(tmp_path / "x.png", ramp())
    assert list(tmp_path.iterdir()) == []


WRITES_UNTIL_KILLED = """
import os, signal, sys, time
from pathlib import Path
from impasto.storage.files import replace_file

def parts(last):
    yield b"half"
    print("begun", flush=True)
    time.sleep(60)

replace_file(Path(sys.argv[1]), parts(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_what_a_killed_program_left_half_written_is_removed_by_the_next_and_nothing_else_is(
    tmp_path,
):
    path = tmp_path / "x.png"
    alike = [
        ".impasto-0123456789abcdef.part",
        f".impasto-{'0' * 16}-{'1' * 16}.part",
        "x.png.part",
        ".x.png.part",
    ]
    alike += [f"{files_._part_prefix(path)}-mine.part", files_.part_path(tmp_path / "y.png").name]
    for name in alike:
        (tmp_path / name).write_bytes(b"precious")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    images.check_output(path)
    # It may still come to its end.
    (part,) = {each.name for each in tmp_path.iterdir()} - set(alike)
    process.kill()
    process.communicate()
    assert (tmp_path / part).exists()
    images.check_output(path)
    assert {each.name for each in tmp_path.iterdir()} == set(alike)
    assert all((tmp_path / name).read_bytes() == b"precious" for name in alike)


def test_a_link_stays_a_link_and_what_it_leads_to_is_written(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "file.png", tmp_path / "link.png"
    file.write_bytes(b"old")
    link.symlink_to(Path("there") / "file.png")
    left = file.with_name(f"{files_._part_prefix(file)}-{'0' * 16}.part")
    left.write_bytes(b"half")
    assert images.check_output(link) == link and not left.exists()
    images.save(link, np.zeros((3, 4, 3), np.float32))
    assert link.is_symlink() and not file.is_symlink()
    assert images.read(file, max_megapixels=1).pixels.shape == (3, 4, 3)
    assert [path.name for path in file.parent.iterdir()] == ["file.png"]
    tried, write = [], Path.write_bytes

    def note(path: Path, data: bytes) -> int:
        tried.append(path.parent)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", note)
    images.check_output(link)
    assert tried == [file.parent]  # where it will be written, not where the link is


def test_saved_files_have_ordinary_permissions_and_any_name(tmp_path):
    umask = os.umask(0o022)
    try:
        path = tmp_path / ("é" * 125 + ".png")  # 254 bytes: no room for a longer temporary name
        images.save(path, ramp())
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    finally:
        os.umask(umask)


def test_save_refuses(tmp_path):
    pixels = ramp()
    bad = pixels.copy()
    bad[3, 4, 1] = np.nan
    for path, array, options, error, words in [
        ("x.png", bad, {}, CannotWrite, r"x\.png was not saved: some pixels are not numbers"),
        ("x.png", pixels, {"alpha": bad[..., 1]}, CannotWrite, "not numbers"),
        ("x.webp", pixels, {"bits": 16}, CannotWrite, r"x\.webp cannot have 16 bits"),
        ("x.png", pixels, {"bits": 12}, CannotWrite, "12 bits"),
        ("x.bmp", pixels, {}, CannotWrite, r"x\.bmp ends in \.bmp"),
        ("none/x.png", pixels, {}, CannotWrite, r"x\.png could not be saved: No such file"),
        ("x.jpg", pixels, {"recipe": "x" * 70_000}, CannotWrite, r"x\.jpg.*JPEG does not hold"),
        (
            "x.webp",
            np.zeros((2, 17_000, 3), np.float32),
            {},
            CannotWrite,
            r"x\.webp.*WebP does not hold",
        ),
        ("x.png", pixels[..., 0], {}, ValueError, r"\(11, 17\)"),
        ("x.png", pixels, {"alpha": pixels}, ValueError, r"\(11, 17, 3\) and \(11, 17, 3\)"),
    ]:
        with pytest.raises(error, match=words):
            images.save(tmp_path / path, array, **options)
    assert list(tmp_path.iterdir()) == []


# ---- contact sheets ------------------------------------------------------------------------------


def test_contact_sheet_places_pictures_and_labels():
    red = np.zeros((30, 60, 3), np.float32) + np.float32([1, 0, 0])
    blue = np.zeros((60, 20, 3), np.float32) + np.float32([0, 0, 1])
    pictures = [
        (red, "Red"),
        (blue, "a very long label " * 20),
        (red, "unbreakable" * 30),
        (blue, ""),
    ]
    accented = images.contact_sheet([(red, "Été – “Monet”")], 1, 96)
    assert np.array_equal(accented, images.contact_sheet([(red, 'Ete - "Monet"')], 1, 96))
    sheet = images.contact_sheet(pictures, columns=3, cell=96)
    assert sheet.dtype == np.float32 and sheet.shape[1] == 3 * 96 + 4 * 4
    assert sheet.min() >= 0 and sheet.max() <= 1
    is_red, is_blue = (np.abs(sheet - color).max(axis=2) < 0.01 for color in ([1, 0, 0], [0, 0, 1]))
    assert is_red.sum() == 2 * 96 * 48 and is_blue.sum() == 2 * 96 * 32  # fitted, never stretched
    rows, columns = np.nonzero(is_red)
    assert (rows.min(), columns.min()) == (4 + 24, 4)
    letters = sheet.min(axis=2) > 0.6
    for column in range(3):  # each label is there, and stays under its own picture
        left = 4 + column * 100
        assert letters[100:, left : left + 96].any()
        assert not letters[:, left + 96 : left + 100].any()
    assert not letters[: 4 + 96].any()
    alone = images.contact_sheet([(red, "")], columns=5, cell=96)
    assert alone.shape[1] == 96 + 8 and not (alone.min(axis=2) > 0.6).any()
    for wrong in [([], 3, 96), (pictures, 0, 96), (pictures, 3, 5)]:
        with pytest.raises(ValueError, match="no sheet"):
            images.contact_sheet(*wrong)


def test_a_poster_is_a_table_of_pictures():
    red = np.zeros((30, 60, 3), np.float32) + np.float32([1, 0, 0])
    blue = np.zeros((60, 60, 3), np.float32) + np.float32([0, 0, 1])
    green = np.zeros((40, 40, 3), np.float32) + np.float32([0, 1, 0])
    heading = images.Heading("Été " * 40, ("a line",), ((green, "photo"),))
    cells: list[list[Any]] = [[red, red, "not painted"], [red, blue, red]]
    poster = images.poster(cells, ["one", "two " * 60], ["a", "b", "c"], heading, 96)
    assert poster.dtype == np.float32 and poster.min() >= 0 and poster.max() <= 1
    is_red, is_blue, is_green = (
        np.abs(poster - color).max(axis=2) < 0.01 for color in np.eye(3)[[0, 2, 1]]
    )
    assert is_red.sum() == 4 * 96 * 48  # all boxes have the shape of the first picture
    assert is_blue.sum() == 48 * 48  # fitted, never stretched
    assert is_green.sum() == 48 * 48  # half a cell
    down, right = np.nonzero(is_red)
    rows, columns = sorted({int(n) for n in down}), sorted({int(n) for n in right})
    assert len(rows) == 2 * 48 and len(columns) == 3 * 96
    letters = poster.min(axis=2) > 0.6
    assert letters[: rows[0], columns[0] :].any() and letters[rows[0] :, : columns[0]].any()
    assert letters[rows[0] : rows[47] + 1, columns[2 * 96] :].any()  # what is not there says so
    assert not (letters & (is_red | is_blue | is_green)).any()
    alone = images.poster([["nothing"]], [""], [""], images.Heading(""), 64)
    assert (alone.min(axis=2) > 0.6).any()
    for wrong in [
        ([[red]], [], ["a"]),
        ([[red]], ["one"], ["a", "b"]),
        ([[red], [red, red]], ["one", "two"], ["a"]),
    ]:
        with pytest.raises(ValueError, match="no poster"):
            images.poster(*wrong, heading, 96)
    with pytest.raises(ValueError, match="cells of 20"):
        images.poster([[red]], [""], [""], heading, 20)


# ---- the room ------------------------------------------------------------------------------------


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, impasto.images; "
        "print([m for m in ('torch', 'scipy', 'tifffile', 'imagecodecs') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]" and ran.stderr == ""


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_is_that_of_a_square_about_each_pixel_of_each_channel(side: int):
    pixels = np.random.default_rng(0).random((9, 7, 3)).astype(np.float32)
    kept, reach = pixels.copy(), side // 2
    found = images.median(pixels, side)
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    for row in range(9):
        for column in range(7):
            square = padded[row : row + side, column : column + side].reshape(-1, 3)
            np.testing.assert_array_equal(found[row, column], np.median(square, axis=0))
    np.testing.assert_array_equal(pixels, kept)
    assert found.dtype == np.float32 and found.flags.c_contiguous


def test_a_reduced_picture_is_the_mean_of_what_it_covers_and_is_cut():
    rows = torch.tensor([0.0, 1.0, 3.0, 5.0]).repeat_interleave(2)
    tensor = rows.view(1, 1, 8, 1).expand(1, 3, 8, 12).contiguous()
    small = images.reduced(tensor, 6)
    assert small.shape == (4, 6, 3) and small.dtype == np.float32
    np.testing.assert_allclose(small[:, 0, 0], [0, 1, 1, 1])
    assert images.reduced(tensor, 12).shape == (8, 12, 3)  # nothing to do
