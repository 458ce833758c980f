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
import torch

import impasto
from impasto import api, images, museum
from impasto.geometry import Grid, Size
from impasto.networks import weights
from impasto.networks.features import Network
from impasto.objectives.base import Where
from impasto.objectives.content import Content
from impasto.objectives.style import measure, summarise, wasserstein
from impasto.tiling import measured

SIDE = 256
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class Judge:
    """Distances by VGG-16 at 256 px of long side."""

    def __init__(self, photo: images.Pixels, painting: images.Pixels) -> None:
        self.network = Network(weights.load("vgg16"), "D", {*LAYERS, "relu4_2"}, padding="reflect")
        self.strides = {layer.name: layer.stride for layer in self.network.layers}
        self.photo = self._maps(photo)
        self.size = Size(*photo.shape[:2]).with_long_side(SIDE)
        self.painting = self._moments(painting)

    def content(self, pixels: images.Pixels) -> float:
        weights_ = {"relu4_2": 1.0}
        content = Content(self.photo, self.strides, weights_, "relative", 1.0)
        return float(content.score(content.measure(self._maps(pixels), Where.whole(self.size))))

    def style(self, pixels: images.Pixels) -> float:
        found = self._moments(pixels)
        return sum(float(wasserstein(found[layer], self.painting[layer])) for layer in LAYERS) / len(LAYERS)

    def _maps(self, pixels: images.Pixels) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return self.network(self._shrunk(pixels))

    def _moments(self, pixels: images.Pixels) -> dict:
        strides = {layer: self.strides[layer] for layer in LAYERS}
        shrunk = self._shrunk(pixels)
        grid = Grid(Size(*shrunk.shape[-2:]))
        return summarise(measured(shrunk, self.network, lambda maps, where: measure(maps, strides, where), grid))

    def _shrunk(self, pixels: images.Pixels) -> torch.Tensor:
        return images.to_tensor(images.resize(pixels, Size(*pixels.shape[:2]).with_long_side(SIDE)))


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
    judge = Judge(photo.pixels, museum.find(given.style).read())
    recipe = api.load_recipe(given.recipe, {})
    print("| size | strength | content | style | seconds |\n|---|---|---|---|---|")
    cases = [(512, float(strength)) for strength in given.strengths.split(",") if strength]
    cases += [(int(size), 50.0) for size in given.sizes.split(",") if size and (int(size), 50.0) not in cases]
    for size, strength in cases:
        source = given.photo or skimage.data.astronaut()
        painting = impasto.stylize(source, given.style, recipe=recipe, size=size, strength=strength)
        row = (judge.content(painting.pixels), judge.style(painting.pixels), painting.record["seconds"])
        print(f"| {size} | {strength:g} | {row[0]:.3f} | {row[1]:.3f} | {row[2]:.0f} |", flush=True)
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            painting.save(given.out / f"{size}-{strength:g}.png")


if __name__ == "__main__":
    main()
