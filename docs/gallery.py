"""One photo and one painting by the house's recipe and every published system's: ``python
docs/gallery.py DIR [NAME...]``.

Paints those that are not in DIR yet, small and with a part of the evaluations that were published
where those are many, which takes an hour all the same; draws what is there into
docs/pictures/recipes.jpg.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import skimage.data

import impasto
from impasto import images
from impasto.assets import museum
from impasto.recipe import loading

PAINTING = "wheat-field-with-cypresses"
SIDE = 256  # px, the long one
MOST = 250  # evaluations of each size
COLUMNS = 4
HERE = Path(__file__).parent


def paint(name: str, folder: Path) -> None:
    """The pair by one recipe; a search that runs away keeps the best that it had."""
    file = folder / f"{name}.png"
    begun = time.monotonic()
    counts = [min(count, MOST) for count in loading.load(name).schedule.iterations]
    painting = impasto.stylize(
        skimage.data.astronaut(), PAINTING, recipe=name, size=SIDE, side="long", iterations=counts
    )
    painting.save(file)
    print(
        f"{name}: {painting.record['evaluations']} evaluations, {time.monotonic() - begun:.0f} s",
        flush=True,
    )


def sheet(folder: Path) -> Path:
    """All that is there, with the photo and the painting first."""
    portrait = images.read(skimage.data.astronaut(), max_megapixels=1)
    photo = images.resize(portrait.pixels, portrait.size.with_long_side(SIDE))
    shown = [(photo, "the photo"), (museum.find(PAINTING).read(), "the painting")]
    for name in every():
        if (file := folder / f"{name}.png").exists():
            shown.append((images.read(file, max_megapixels=1).pixels, name))
    target = HERE / "pictures" / "recipes.jpg"
    images.save(target, images.contact_sheet(shown, columns=COLUMNS, cell=SIDE), quality=88)
    return target


def every() -> list[str]:
    """The default, and the published ones."""
    return [
        loading.DEFAULT_RECIPE,
        *(name for name in loading.names() if loading.load(name).source),
    ]


if __name__ == "__main__":
    where, *names = sys.argv[1:]
    Path(where).mkdir(parents=True, exist_ok=True)
    for each in names or every():
        if not (Path(where) / f"{each}.png").exists():
            paint(each, Path(where))
    print(sheet(Path(where)))
