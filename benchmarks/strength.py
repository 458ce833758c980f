"""Does strength mean what it says? Content and style distances over strengths, and at one strength over sizes.

    python -m benchmarks.strength [--photo FILE] [--style NAME] [--out DIR]

The judge is VGG-16, which did not paint, looking at every result shrunk to 256 px: the relative content distance of
relu4_2 to the photo, and the mean relative Wasserstein distance of relu1_1 to relu5_1 to the painting. Rising strength
must raise the first; at one strength both should be the same at every size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import skimage.data

import impasto
from impasto import api, images, museum
from impasto.geometry import Size
from impasto.metrics import Referee

SIDE = 256


def referee(photo: images.Pixels, painting: images.Pixels) -> Referee:
    """VGG-16, looking at everything at 256 px of long side."""
    return Referee(_shrunk(photo), _shrunk(painting), "vgg16")


def _shrunk(pixels: images.Pixels) -> images.Pixels:
    return images.resize(pixels, Size(*pixels.shape[:2]).with_long_side(SIDE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", help="default: a sample photo")
    parser.add_argument("--style", default="wheat-field-with-cypresses")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--strengths", default="10,30,50,70,90")
    parser.add_argument("--sizes", default="256,512,1024")
    parser.add_argument("--out", type=Path, help="folder to keep the pictures in")
    given = parser.parse_args()
    photo = images.read(given.photo or skimage.data.astronaut(), max_megapixels=100)
    judge = referee(photo.pixels, museum.find(given.style).read())
    recipe = api.load_recipe(given.recipe, {})
    print("| size | strength | content | style | seconds |\n|---|---|---|---|---|")
    cases = [(512, float(strength)) for strength in given.strengths.split(",") if strength]
    cases += [(int(size), 50.0) for size in given.sizes.split(",") if size and (int(size), 50.0) not in cases]
    for size, strength in cases:
        source = given.photo or skimage.data.astronaut()
        painting = impasto.stylize(source, given.style, recipe=recipe, size=size, strength=strength)
        scores = judge(images.resize(painting.pixels, judge.size))
        seconds = painting.record["seconds"]
        print(f"| {size} | {strength:g} | {scores.content:.3f} | {scores.style:.3f} | {seconds:.0f} |", flush=True)
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            painting.save(given.out / f"{size}-{strength:g}.png")


if __name__ == "__main__":
    main()
