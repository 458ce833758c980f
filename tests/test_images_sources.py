"""Where pictures come from: bytes, streams, names of any bytes, arrays of any type; and the notes
about them.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from impasto import images
from impasto.errors import BadPicture
from impasto.geometry import Size

SAMPLES = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SAMPLES).save(buffer, "PNG")
    return buffer.getvalue()


def read(source: object) -> images.Picture:
    return images.read(source, max_megapixels=10)


def right(picture: images.Picture) -> bool:
    return np.array_equal(np.rint(picture.pixels * 255), SAMPLES)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_a_picture(kind):
    picture = read(kind(png()))
    assert right(picture) and picture.source == "bytes"
    assert picture.sha256 == read(io.BytesIO(png())).sha256


def test_streams_are_read_from_where_they_stand(tmp_path):
    stream = io.BytesIO(b"before" + png())
    stream.seek(6)
    picture = read(stream)
    assert right(picture) and picture.source == "stream"
    (tmp_path / "x.png").write_bytes(b"before" + png())
    with open(tmp_path / "x.png", "rb") as file:
        file.seek(6)
        picture = read(file)
    assert right(picture) and picture.source == str(tmp_path / "x.png")
    with (
        open(tmp_path / "x.png", "rb", buffering=0) as file,
        pytest.raises(BadPicture, match=r"x\.png"),
    ):
        read(file)


def test_a_stream_that_cannot_go_back(tmp_path):
    taken, given = os.pipe()
    with os.fdopen(given, "wb") as end:
        end.write(png())
    with os.fdopen(taken, "rb") as stream:
        picture = read(stream)
    assert right(picture) and picture.source == "stream"


def test_streams_that_hold_no_picture(tmp_path):
    with pytest.raises(BadPicture, match=r"stream is empty \(0 bytes\)"):
        read(io.BytesIO(b""))
    with pytest.raises(BadPicture, match=r"memory is empty"):
        read(b"")
    with pytest.raises(BadPicture, match=r"is open as text.*mode 'rb'"):
        read(io.StringIO("text"))
    (tmp_path / "x.txt").write_text("Dear diary, today I painted.")
    with (
        open(tmp_path / "x.txt") as file,
        pytest.raises(BadPicture, match=r"x\.txt is open as text"),
    ):
        read(file)
    closed = io.BytesIO(png())
    closed.close()
    with pytest.raises(BadPicture, match="cannot be read"):
        read(closed)
    with pytest.raises(BadPicture, match="in memory is not a picture"):
        read(b"Dear diary, today I painted.")


NAME = b"bad\xff \xe9t\xe9.png"


def test_names_of_any_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/" + NAME
    try:
        with open(path, "wb") as file:
            file.write(png())
    except OSError:
        pytest.skip("no such names on this file system")
    text = os.fsdecode(path)
    for source in (path, text, Path(text)):
        picture = read(source)
        assert right(picture) and picture.source == text and os.fsencode(picture.source) == path
        assert images.embedded_recipe(source) is None
        assert images.probe(source, 10).size == Size(8, 9)
    with open(path, "rb") as file:
        assert read(file).source == text
    with Image.open(text) as image:
        assert read(image).source == text
    with open(path, "wb") as file:
        file.write(png()[:60])
    for source in (path, text, Path(text)):
        with pytest.raises(BadPicture, match=r"bad\\xff") as caught:
            read(source)
        str(caught.value).encode("utf-8")  # any terminal takes it
    os.unlink(path)
    for source in (
        text,
        Path(text),
        text.replace("bad", "sad"),
        text + "/x.png",
        os.path.dirname(text),
    ):
        with pytest.raises(BadPicture) as caught:
            read(source)
        str(caught.value).encode("utf-8")
    os.mkdir(path)
    for source in (path, text):
        with pytest.raises(BadPicture, match="is a folder"):
            read(source)


def test_a_neighbour_of_a_name_that_is_no_text_is_suggested(tmp_path):
    with open(os.fsencode(tmp_path) + b"/sunflowers\xff.jpg", "wb") as file:
        file.write(b"x")
    with pytest.raises(BadPicture, match=r"Did you mean sunflowers\\xff\.jpg") as caught:
        read(tmp_path / "sunflower.jpg")
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "f2", "f4", "f8"])
def test_arrays_of_any_byte_order_and_float(order, kind):
    values = SAMPLES / 255
    array = (
        np.rint(values * 65535).astype(order + kind)
        if kind == "u2"
        else values.astype(order + kind)
    )
    before = array.copy()
    picture = read(array)
    assert np.abs(picture.pixels - values).max() < (0.001 if kind == "f2" else 1e-5)
    assert picture.pixels.dtype == np.float32 and picture.pixels.dtype.isnative
    assert np.array_equal(array, before) and array.dtype == before.dtype


def test_truth_values_are_black_and_white():
    array = SAMPLES > 100
    assert np.array_equal(read(array).pixels, array.astype(np.float32))
    assert np.array_equal(read(array[..., 0]).pixels[..., 1], array[..., 0])
    assert np.array_equal(read(torch.from_numpy(array.transpose(2, 0, 1).copy())).pixels, array)


@pytest.mark.parametrize(
    ("kind", "top", "white"),
    [("i4", 255, 255), ("u4", 4095, 65535), ("i8", 65535, 65535), ("i2", 9, 255)],
)
def test_advice_on_other_integers_keeps_values(kind, top, white):
    array = np.full((3, 4, 3), top, kind)
    with pytest.raises(BadPicture) as caught:
        read(array)
    hint = caught.value.hint
    assert f"array.astype('float32') / {white}" in hint and "uint8" not in hint
    assert array.dtype.name in caught.value.message
    assert read(array.astype("float32") / white).pixels.max() == pytest.approx(top / white)
    with pytest.raises(BadPicture, match=rf"tensor\.to\(torch\.float32\) / {white}"):
        read(torch.full((3, 4, 5), top, dtype=torch.int32))


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 3), complex), np.full((3, 4, 3), None), np.full((3, 4), "x")]
)
def test_arrays_that_hold_no_numbers(array):
    with pytest.raises(BadPicture, match="Give numbers"):
        read(array)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_long_exif_is_said_once(kind):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 61_000
    buffer = io.BytesIO()
    Image.fromarray(SAMPLES).save(buffer, kind, exif=exif)
    picture = read(buffer.getvalue())
    assert picture.exif == b"" and picture.notes == ("its EXIF data are too long and are not kept",)


def test_probing_says_what_the_header_says(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for kind in (
        "PNG",
        "JPEG",
        "WEBP",
        "TIFF",
        "GIF",
        "BMP",
        "JPEG2000",
        "AVIF",
        "QOI",
        "PPM",
        "TGA",
    ):
        buffer = io.BytesIO()
        turns = kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
        Image.fromarray(SAMPLES).save(buffer, kind, **({"exif": exif} if turns else {}))
        header = images.probe(buffer.getvalue(), 10)
        assert (
            header.size == read(buffer.getvalue()).size == (Size(9, 8) if turns else Size(8, 9))
        ), kind
        assert header.decode_bytes() >= header.decode_bytes(1) > 0 and header.file_bytes == len(
            buffer.getvalue()
        )
        with pytest.raises(BadPicture, match="megapixels"):
            images.probe(buffer.getvalue(), 0.00001)
    with pytest.raises(BadPicture, match="seems to be text"):
        images.probe(b"Dear diary, today I painted.", 10)


def test_probing_what_is_in_memory():
    planes = torch.from_numpy(SAMPLES.transpose(2, 0, 1).copy())
    for source in (SAMPLES, SAMPLES[..., 0], planes, planes[None], Image.fromarray(SAMPLES)):
        header = images.probe(source, 10)
        assert header.size == read(source).size == Size(8, 9) and header.decode_bytes() >= 12 * 72
        with pytest.raises(BadPicture, match="megapixels"):
            images.probe(source, 0.00001)
    with pytest.raises(BadPicture, match="int"):
        images.probe(42, 10)


def test_probing_heic(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(buffer, quality=50)
    assert images.probe(buffer.getvalue(), 10).size == Size(48, 64)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(images.reading.MissingExtra, match="pillow-heif"):
        images.probe(buffer.getvalue(), 10)
