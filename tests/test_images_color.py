"""Color as the file means it: patches of known values, against the published formulas."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from impasto import images
from tests.support.file_formats import bmff_box, png_chunk

STEP = 2 / 255

PATCHES = np.array(
    [
        [255, 26, 26],
        [26, 230, 51],
        [51, 26, 230],
        [230, 230, 51],
        [128, 128, 128],
        [200, 150, 100],
        [20, 30, 12],
    ],
    np.uint8,
)
P3 = [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)]
BT2020 = [(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)]
BT601 = [(0.630, 0.340), (0.310, 0.595), (0.155, 0.070)]
ADOBE = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]
SRGB = [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)]
D65 = (0.3127, 0.3290)


def png(*chunks: tuple[bytes, bytes], samples: np.ndarray = PATCHES[None]) -> bytes:
    """A PNG of (H, W, 3) or (H, W, 1), 8 or 16 bits, with chunks before its pixels."""
    height, width, channels = samples.shape
    bits, color = 8 * samples.dtype.itemsize, {1: 0, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in samples)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def xyz(primaries: list[tuple[float, float]], white: tuple[float, float] = D65) -> np.ndarray:
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = white
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


def expected(linear: np.ndarray, primaries: list[tuple[float, float]]) -> np.ndarray:
    """Linear light in primaries of the white of D65 as sRGB."""
    light = np.clip(linear @ (np.linalg.inv(xyz(SRGB)) @ xyz(primaries)).T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def bt709(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** (1 / 0.45))


def power(exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values**exponent


def gama(exponent: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100_000 / exponent))


def chrm(primaries: list[tuple[float, float]]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(
        ">8I", *(round(value * 100_000) for point in (D65, *primaries) for value in point)
    )


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, matrix, full])


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def read(data: bytes) -> images.Picture:
    return images.read(data, max_megapixels=10)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("chunks", "curve", "primaries", "words"),
    [
        ([gama(1)], power(1), SRGB, "gamma 1"),
        ([gama(1.8)], power(1.8), SRGB, "gamma 1.8"),
        ([chrm(P3)], srgb, P3, "primaries"),
        ([gama(1.8), chrm(ADOBE)], power(1.8), ADOBE, "gamma 1.8 and custom primaries"),
        ([gama(2.2), chrm(P3)], power(2.2), P3, "gamma 2.2 and custom primaries"),
        ([cicp(12, 13)], srgb, P3, "Display P3"),
        ([cicp(9, 13)], srgb, BT2020, "BT.2020"),
        ([cicp(9, 1)], bt709, BT2020, "BT.2020 with BT.709 curve"),
        ([cicp(9, 14)], bt709, BT2020, "BT.2020 with BT.709 curve"),
        ([cicp(6, 6)], bt709, BT601, "BT.601 525 with BT.709 curve"),
        ([cicp(1, 4)], power(2.2), SRGB, "gamma 2.2"),
        ([cicp(1, 5)], power(2.8), SRGB, "gamma 2.8"),
        ([cicp(12, 8)], power(1), P3, "Display P3 with linear"),
        ([cicp(22, 13)], srgb, [(0.630, 0.340), (0.295, 0.605), (0.155, 0.077)], "EBU 3213"),
    ],
)
def test_a_png_says_what_its_colors_are(depth, chunks, curve, primaries, words):
    samples = PATCHES if depth == 8 else PATCHES.astype(np.uint16) * 257
    picture = read(png(*chunks, samples=samples[None]))
    assert np.abs(picture.pixels[0] - expected(curve(PATCHES / 255), primaries)).max() < STEP
    assert words in picture.profile and picture.notes == (
        f"RGB, converted from {picture.profile} to sRGB",
    )


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [gama(2.2)],
        [gama(2.2), chrm(SRGB)],
        [chrm(SRGB)],
        [(b"sRGB", b"\0"), gama(1.0)],
        [cicp(1, 13)],
        [cicp(2, 2)],
    ],
)
def test_what_is_srgb_by_another_name_changes_no_bit(chunks):
    picture = read(png(*chunks))
    assert (
        np.array_equal(picture.pixels[0], PATCHES / np.float32(255))
        and picture.notes == ()
        and picture.profile == ""
    )


def test_order_of_precedence_in_a_png():
    adobe = iccp(bytes(imagecodecs.cms_profile("adobergb")))
    by_code = read(png(cicp(12, 13), adobe, (b"sRGB", b"\0"), gama(1)))
    by_profile = read(png(adobe, (b"sRGB", b"\0"), gama(1)))
    assert by_code.profile == "Display P3" and "Adobe" in by_profile.profile
    damaged = (b"iCCP", b"x\0\0rubbish")
    fallen_back = read(png(damaged, gama(1.8)))
    assert "profile is damaged" in fallen_back.notes[0] and fallen_back.profile == "gamma 1.8"
    wrong = read(png(cicp(12, 13, matrix=1), gama(1.8)))
    assert "ignored" in wrong.notes[0] and wrong.profile == "gamma 1.8"


def test_narrow_range():
    samples = np.array([[[16] * 3, [235] * 3, [126] * 3]], np.uint8)
    picture = read(png(cicp(1, 13, full=0), samples=samples))
    assert np.abs(picture.pixels[0, :, 0] - [0, 1, 110 / 219]).max() < STEP


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_not_converted_and_said(transfer, name):
    picture = read(png(cicp(9, transfer)))
    assert np.array_equal(picture.pixels[0], PATCHES / np.float32(255))
    assert (
        name in picture.notes[0] and "not converted" in picture.notes[0] and len(picture.notes) == 1
    )


def test_unknown_code_points_are_said():
    assert "(99, 13) are not known" in read(png(cicp(99, 13))).notes[0]


def test_gray_follows_the_gamma():
    gray = np.arange(0, 256, 17, dtype=np.uint8)[None, :, None]
    picture = read(png(gama(1), samples=gray))
    assert (
        np.abs(picture.pixels[0] - expected((gray[0] / 255).repeat(3, axis=1), SRGB)).max() < STEP
    )
    assert "gray, converted" in picture.notes[0]


def jpeg(exif: Image.Exif, **more: object) -> bytes:
    blocks = np.repeat(np.repeat(PATCHES[None], 16, axis=0), 16, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(blocks).save(buffer, "JPEG", quality=100, subsampling=0, exif=exif, **more)
    return buffer.getvalue()


def dcf(space: int | None, index: str = "") -> Image.Exif:
    exif = Image.Exif()
    details: dict[int, object] = {} if space is None else {ExifTags.Base.ColorSpace: space}
    if index:
        details[ExifTags.IFD.Interop] = {1: index}
    exif[ExifTags.IFD.Exif] = details
    return exif


@pytest.mark.parametrize(("space", "index"), [(65535, "R03"), (65535, ""), (2, "")])
def test_adobe_rgb_by_exif(space, index):
    picture = read(jpeg(dcf(space, index)))
    right = expected(power(563 / 256)(PATCHES / 255), ADOBE)
    # And what a JPEG loses.
    assert np.abs(picture.pixels[8, 8::16] - right)[:, :].max() < STEP + 2 / 255
    assert picture.profile == "Adobe RGB (1998)" and "converted from Adobe RGB" in picture.notes[0]
    assert np.abs(np.mean(picture.pixels[8, 8::16] - right)) < 1 / 255


@pytest.mark.parametrize(("space", "index"), [(1, ""), (None, ""), (65535, "R98"), (1, "R98")])
def test_other_exif_is_srgb(space, index):
    picture = read(jpeg(dcf(space, index)))
    assert picture.notes == () and np.abs(picture.pixels[8, 8::16] - PATCHES / 255).max() < STEP


def test_a_profile_counts_more_than_exif():
    picture = read(jpeg(dcf(65535), icc_profile=images.profiles.srgb_profile()))
    assert picture.profile == "" and picture.notes == ()


def test_an_incomplete_profile_of_a_jpeg_is_said():
    profile = bytes(imagecodecs.cms_profile("adobergb")) + bytes(70_000)
    data = jpeg(Image.Exif(), icc_profile=profile)
    at = data.index(b"\xff\xe2", data.index(b"ICC_PROFILE\0\x01"))  # the second part
    length = struct.unpack_from(">H", data, at + 2)[0]
    picture = read(data[:at] + data[at + 2 + length :])
    assert picture.notes == ("its color profile is incomplete and was ignored",)
    assert "Adobe RGB" in read(data).profile


def tiff(samples: np.ndarray, *tags: tuple[object, ...], **more: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, extratags=tags, **more)
    return buffer.getvalue()


def fractions(*values: float) -> tuple[int, ...]:
    return tuple(number for value in values for number in (round(value * 10_000), 10_000))


def test_tags_of_a_tiff():
    primaries = (319, "2I", 6, fractions(*(value for point in ADOBE for value in point)), True)
    white = (318, "2I", 2, fractions(*D65), True)
    picture = read(tiff(PATCHES[None], primaries, white, photometric="rgb"))
    assert np.abs(picture.pixels[0] - expected(srgb(PATCHES / 255), ADOBE)).max() < STEP
    curve = tuple(round(65535 * (value / 255) ** 1.8) for value in range(256))
    for number in (1, 3):
        table = (301, "H", 256 * number, curve * number, True)
        picture = read(tiff(PATCHES[None], table, photometric="rgb"))
        assert np.abs(picture.pixels[0] - expected(power(1.8)(PATCHES / 255), SRGB)).max() < STEP
        assert "tags" in picture.profile


def lab_of(values: np.ndarray) -> np.ndarray:
    """CIE Lab relative to D50 of sRGB values, by Bradford's method."""
    to_d50 = [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
    light = srgb(values) @ (np.array(to_d50) @ xyz(SRGB)).T / [0.96422, 1, 0.82521]
    curve = np.where(light > (6 / 29) ** 3, np.cbrt(light), light / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(curve, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@pytest.mark.parametrize("kind", ["cielab8", "cielab16", "icclab8", "icclab16"])
def test_lab_tiffs(kind):
    inside = (
        np.array(
            [[[128, 128, 128], [200, 150, 100], [90, 120, 60], [60, 80, 150], [250, 250, 250]]]
        )
        / 255
    )
    lab = lab_of(inside)
    if kind == "cielab8":
        samples = (
            np.concatenate([lab[..., :1] * 2.55, lab[..., 1:]], axis=2)
            .round()
            .astype(np.int16)
            .astype(np.uint8)
        )
    elif kind == "cielab16":
        parts = [lab[..., :1] * 655.35, lab[..., 1:] * 256]
        samples = np.concatenate(parts, axis=2).round().astype(np.int32).astype(np.uint16)
    elif kind == "icclab8":
        samples = (
            np.concatenate([lab[..., :1] * 2.55, lab[..., 1:] + 128], axis=2)
            .round()
            .astype(np.uint8)
        )
    else:
        samples = (
            np.concatenate([lab[..., :1] * 652.8, (lab[..., 1:] + 128) * 256], axis=2)
            .round()
            .astype(np.uint16)
        )
    photometric = "cielab" if kind.startswith("cielab") else "icclab"
    picture = read(tiff(samples, photometric=photometric))
    tolerance = STEP if kind.endswith("16") else 4 / 255  # a step of a or b is more than one of red
    assert np.abs(picture.pixels - inside).max() < tolerance
    assert picture.profile == ("" if kind == "" else "Lab") and picture.notes == (
        "Lab, converted to sRGB",
    )


def test_lab_of_another_white_point():
    from skimage.color import rgb2lab

    lab = rgb2lab(PATCHES[None] / 255, illuminant="D65")
    samples = (
        np.concatenate([lab[..., :1] * 655.35, lab[..., 1:] * 256], axis=2)
        .round()
        .astype(np.int32)
        .astype(np.uint16)
    )
    picture = read(tiff(samples, (318, "2I", 2, fractions(*D65), True), photometric="cielab"))
    assert np.abs(picture.pixels[0] - PATCHES / 255).max() < STEP and picture.notes == (
        "Lab, converted to sRGB",
    )


def bmp(version: int, fields: bytes, after: bytes = b"") -> bytes:
    """A BMP of the patches, its header of 108 or 124 bytes; ``fields`` begin at the color space."""
    pixels = PATCHES[:, ::-1].tobytes() + bytes(-len(PATCHES) * 3 % 4)
    info = struct.pack(
        "<IiiHHIIiiII", version, len(PATCHES), 1, 1, 24, 0, len(pixels), 0, 0, 0, 0
    ) + bytes(16)
    header = (info + fields).ljust(version, b"\0")
    return (
        struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(pixels), 0, 0, 14 + len(header))
        + header
        + pixels
        + after
    )


def test_a_calibrated_bmp():
    ends = xyz(ADOBE).T.ravel()
    fields = struct.pack(
        "<I9I3I", 0, *(round(value * (1 << 30)) for value in ends), *[round(1.8 * 65536)] * 3
    )
    picture = read(bmp(108, fields))
    assert np.abs(picture.pixels[0] - expected(power(1.8)(PATCHES / 255), ADOBE)).max() < STEP
    assert picture.profile == "calibrated RGB"
    assert read(bmp(108, b"BGRs")).notes == () and read(bmp(108, bytes(4))).notes == ()


def test_a_bmp_with_a_profile_in_it():
    profile = bytes(imagecodecs.cms_profile("adobergb"))
    place = 124 + len(PATCHES) * 3 + (-len(PATCHES) * 3) % 4
    fields = b"DEBM" + bytes(48) + struct.pack("<III", 4, place, len(profile))
    picture = read(bmp(124, fields, profile))
    assert "Adobe RGB" in picture.profile
    assert np.abs(picture.pixels[0] - expected(power(563 / 256)(PATCHES / 255), ADOBE)).max() < 0.02


def test_a_linear_qoi_is_said():
    buffer = io.BytesIO()
    Image.fromarray(PATCHES[None]).save(buffer, "QOI")
    data = bytearray(buffer.getvalue())
    for mark in (0, 1):
        data[13] = mark
        picture = read(bytes(data))
        assert np.array_equal(picture.pixels[0], PATCHES / np.float32(255))
        assert len(picture.notes) == mark and all("linear light" in note for note in picture.notes)


def avif(blocks: np.ndarray, **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(blocks).save(buffer, "AVIF", quality=100, subsampling="4:4:4", **more)
    return buffer.getvalue()


def with_nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_the_code_points_of_an_avif():
    blocks = np.repeat(np.repeat(PATCHES[None], 16, axis=0), 16, axis=1)
    data = avif(blocks)
    assert (
        np.abs(read(data).pixels[8, 8::16] - PATCHES / 255).max() < 2 * STEP
        and read(data).notes == ()
    )
    picture = read(with_nclx(data, 12, 13))
    assert (
        np.abs(picture.pixels[8, 8::16] - expected(srgb(read(data).pixels[8, 8::16]), P3)).max()
        < STEP
    )
    assert picture.profile == "Display P3"
    assert "PQ" in read(with_nclx(data, 9, 16)).notes[0]
    wide = read(avif(blocks, icc_profile=bytes(imagecodecs.cms_profile("adobergb"))))
    assert "Adobe RGB" in wide.profile


def jp2(samples: np.ndarray, color: bytes | None = None, *boxes: bytes, **more: object) -> bytes:
    """A lossless JP2; ``color`` in the place of its colr box's contents, and more boxes in the
    header.
    """
    data = bytes(
        imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="jp2", **more)
    )
    if color is None and not boxes:
        return data
    start = data.index(b"jp2h") - 4
    length = struct.unpack_from(">I", data, start)[0]
    at = data.index(b"colr") - 4
    inside = (
        data[start + 8 : at]
        + bmff_box(b"colr", color or data[at + 8 : start + length])
        + b"".join(boxes)
    )
    return data[:start] + bmff_box(b"jp2h", inside) + data[start + length :]


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("bare", [False, True])
def test_jpeg_2000_of_any_depth(bits, bare):
    values = np.repeat(np.repeat(PATCHES[None], 8, axis=0), 8, axis=1) / 255
    samples = np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    more = {} if bits in (8, 16) else {"bitspersample": bits}
    data = jp2(samples, **more)
    if bare:
        data = data[data.index(b"\xff\x4f\xff\x51") :]
    picture = read(data)
    assert np.abs(picture.pixels - values).max() < 1 / 255 and picture.alpha is None
    if bits == 16:
        assert np.array_equal(np.rint(picture.pixels * 65535), samples)
    assert picture.pixels[4, 4, 0] == 1


def test_gray_deep_jpeg_2000_and_one_that_pillow_has_opened(tmp_path):
    gray = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    picture = read(jp2(gray))
    assert np.array_equal(np.rint(picture.pixels[..., 1] * 65535), gray)
    (tmp_path / "x.jp2").write_bytes(jp2(np.full((8, 8, 3), 65535, np.uint16)))
    with Image.open(tmp_path / "x.jp2") as image:
        assert images.read(image, max_megapixels=1).pixels.min() == 1


def test_boxes_of_a_jpeg_2000():
    samples = np.repeat(PATCHES[None].astype(np.uint16) * 257, 8, axis=0)
    adobe = bytes(imagecodecs.cms_profile("adobergb"))
    picture = read(jp2(samples, b"\2\0\0" + adobe))
    right = expected(power(563 / 256)(PATCHES / 255), ADOBE)
    within = ((right > 0.02) & (right < 0.98)).all(axis=1)
    assert (
        within.sum() >= 3
        and np.abs(picture.pixels[4] - right)[within].max() < STEP
        and "Adobe" in picture.profile
    )
    shallow = read(jp2((samples >> 8).astype(np.uint8), b"\2\0\0" + adobe))
    assert np.abs(shallow.pixels[4] - right)[within].max() < STEP and "Adobe" in shallow.profile


@pytest.mark.parametrize("bits", [8, 16])
def test_sycc_of_a_jpeg_2000(bits):
    top = 2**bits - 1
    red, green, blue = PATCHES[None].repeat(8, axis=0).transpose(2, 0, 1) / 255
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [
        light,
        (blue - light) / 1.772 + 0.5 + 0.5 / top,
        (red - light) / 1.402 + 0.5 + 0.5 / top,
    ]
    samples = np.clip(np.rint(np.stack(planes, axis=-1) * top), 0, top).astype(
        np.uint8 if bits == 8 else np.uint16
    )
    picture = read(jp2(samples, b"\1\0\0" + struct.pack(">I", 18), mct=False))
    assert np.abs(picture.pixels[4] - PATCHES / 255).max() < STEP


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [1, 2])
def test_alpha_of_a_jpeg_2000(bits, kind):
    top = 2**bits - 1
    samples = np.zeros((8, 8, 4), np.uint8 if bits == 8 else np.uint16)
    samples[..., 0], samples[..., 3] = top // 2, top // 2
    definition = struct.pack(">H12H", 4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, kind, 0)
    picture = read(jp2(samples, None, bmff_box(b"cdef", definition)))
    assert picture.alpha is not None and np.abs(picture.alpha - 0.5).max() < STEP
    assert np.abs(picture.pixels[..., 0] - (0.5 if kind == 1 else 1)).max() < STEP


@pytest.mark.parametrize("depth", [8, 16])
def test_the_palette_of_a_jpeg_2000(depth):
    top = 2**depth - 1
    colors = np.rint(PATCHES / 255 * top).astype(int)
    values = b"".join(struct.pack(">3B" if depth == 8 else ">3H", *color) for color in colors)
    palette = struct.pack(">HB3B", len(PATCHES), 3, *[depth - 1] * 3) + values
    mapping = b"".join(struct.pack(">HBB", 0, 1, column) for column in range(3))
    numbers = np.arange(7, dtype=np.uint8)[None].repeat(8, axis=0)
    data = jp2(
        numbers,
        b"\1\0\0" + struct.pack(">I", 16),
        bmff_box(b"pclr", palette),
        bmff_box(b"cmap", mapping),
    )
    picture = read(data)
    assert picture.pixels.shape == (8, 7, 3)
    assert np.abs(picture.pixels[4] - PATCHES / 255).max() < STEP


def test_a_palette_tiff_has_16_bits():
    colors = np.rint(np.linspace(0, 1, 256)[:, None] ** [1, 2, 3] * 65535).astype(np.uint16)
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = read(tiff(numbers, photometric="palette", colormap=colors.T))
    assert np.array_equal(np.rint(picture.pixels.reshape(-1, 3) * 65535), colors)
    # As some programs write them.
    few = read(tiff(numbers, photometric="palette", colormap=colors.T >> 8))
    assert np.abs(few.pixels.reshape(-1, 3) - colors / 65535).max() < STEP
    eight = Image.fromarray(PATCHES[None]).quantize(7)
    buffer = io.BytesIO()
    eight.save(buffer, "TIFF")  # Pillow writes 256 times the 8-bit values
    assert np.array_equal(
        np.rint(read(buffer.getvalue()).pixels * 255), np.asarray(eight.convert("RGB"))
    )


def test_an_image_of_pillow_keeps_its_gamma():
    with Image.open(io.BytesIO(png(gama(1)))) as image:
        picture = images.read(image, max_megapixels=1)
    assert np.abs(picture.pixels[0] - expected(PATCHES / 255, SRGB)).max() < STEP


def test_a_profile_of_a_few_megabytes_is_used():
    profile = bytearray(
        ImageCms.ImageCmsProfile(io.BytesIO(bytes(imagecodecs.cms_profile("adobergb")))).tobytes()
    )
    profile += bytes(3_000_000)
    profile[:4] = struct.pack(">I", len(profile))
    picture = read(png(iccp(bytes(profile))))
    right = expected(power(563 / 256)(PATCHES / 255), ADOBE)
    within = ((right > 0.02) & (right < 0.98)).all(axis=1)
    assert np.abs(picture.pixels[0] - right)[within].max() < STEP and "Adobe RGB" in picture.profile
    profile += bytes(40_000_000)
    assert (
        "too large" in read(png(iccp(bytes(profile)))).notes[0]
        or "damaged" in read(png(iccp(bytes(profile)))).notes[0]
    )


@pytest.mark.parametrize("kind", ["lossy", "lossless"])
def test_jpeg_xl(kind):
    blocks = np.repeat(np.repeat(PATCHES[None], 16, axis=0), 16, axis=1)
    data = bytes(
        imagecodecs.jpegxl_encode(
            blocks, lossless=kind == "lossless", level=None if kind == "lossless" else 95
        )
    )
    picture = read(data)
    assert np.abs(picture.pixels[8, 8::16] - PATCHES / 255).max() < (
        1e-6 if kind == "lossless" else 5 * STEP
    )
    assert picture.notes == ()
