"""Paint one photo and one painting with every recipe: ``python docs/gallery.py DIR [NAME...]``.

Pictures that DIR already has are not painted again. They are small and have at most ``MOST``
evaluations per size; painting all of them takes about an hour. The contact sheet is written to
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
SIDE = 256  # long side in px
MOST = 250  # evaluations per size
COLUMNS = 4
HERE = Path(__file__).parent


def paint(name: str, folder: Path) -> None:
    """Paint the pair with one recipe. A run that diverges keeps its best picture."""
    file = folder / f"{name}.png"
    start = time.monotonic()
    counts = [min(count, MOST) for count in loading.load(name).schedule.iterations]
    painting = impasto.stylize(
        skimage.data.astronaut(), PAINTING, recipe=name, size=SIDE, side="long", iterations=counts
    )
    painting.save(file)
    print(
        f"{name}: {painting.record['evaluations']} evaluations, {time.monotonic() - start:.0f} s",
        flush=True,
    )


def sheet(folder: Path) -> Path:
    """Write the contact sheet: photo, painting, then every picture in ``folder``."""
    portrait = images.read(skimage.data.astronaut(), max_megapixels=1)
    photo = images.resize(portrait.pixels, portrait.size.with_long_side(SIDE))
    pictures = [(photo, "the photo"), (museum.find(PAINTING).read(), "the painting")]
    painted = [name for name in recipe_names() if (folder / f"{name}.png").exists()]
    for name in painted:
        picture = images.read(folder / f"{name}.png", max_megapixels=1)
        pictures.append((picture.pixels, name))
    target = HERE / "pictures" / "recipes.jpg"
    images.save(target, images.contact_sheet(pictures, columns=COLUMNS, cell=SIDE), quality=88)
    return target


def recipe_names() -> list[str]:
    """The default recipe and the published ones."""
    return [
        loading.DEFAULT_RECIPE,
        *(name for name in loading.names() if loading.load(name).source),
    ]


if __name__ == "__main__":
    target_folder = Path(sys.argv[1])
    target_folder.mkdir(parents=True, exist_ok=True)
    for recipe_name in sys.argv[2:] or recipe_names():
        if not (target_folder / f"{recipe_name}.png").exists():
            paint(recipe_name, target_folder)
    print(sheet(target_folder))
