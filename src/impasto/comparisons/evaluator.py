"""How good a stylised picture is, by networks that did not paint it and by plain arithmetic on its
pixels.

It knows three kinds of figures: distances to the painting, distances to the photo, and traces of
the method that belong to neither. It refuses to know files, who painted and in which size to look:
all that is given to it. No figure is quality by itself; the photo and the painting are the two ends
of the scale.

Sources: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric" (2018), for LPIPS; Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss
for Neural Texture Synthesis" (2021); Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment"
(2004), for SSIM.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from impasto.assets.catalogue import Progress
from impasto.comparisons.lpips import Lpips, picture_tensor
from impasto.comparisons.metrics import (
    _sliced_relative,
    artefacts,
    colour_distance,
    colours,
    luminance,
    projected,
    ranked,
    similarity,
    sliced_wasserstein,
    unit_directions,
)
from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images.pixels import Pixels
from impasto.networks import vgg, weights
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.features import Network
from impasto.networks.vgg import STYLE_LAYERS
from impasto.objectives.base import TileContext
from impasto.objectives.moments import Moments, moment_sums, moments_from_sums
from impasto.objectives.style import gram_relative, wasserstein
from impasto.recipe.choices import NetworkName

CONTENT_LAYER = "relu4_2"
# Who judges what a network painted.
OTHER: dict[NetworkName, NetworkName] = {"vgg19": "vgg16", "vgg16": "vgg19"}
LEAST_SIDE = 32  # of a picture that can be judged: AlexNet and the deepest maps see nothing in less


@dataclass(frozen=True)
class Figure:
    """What a score means: its short ``heading``, which direction is ``better``, and what it
    ``says``, with its unit.

    ``of``: "painting" and "photo" are distances to them; "method" are traces that belong to
    neither.
    """

    heading: str
    of: Literal["painting", "photo", "method"]
    better: Literal["lower", "higher", "near 1"]
    says: str


@dataclass(frozen=True)
class Scores:
    """The figures of one picture; ``FIGURES`` says what each means."""

    style: float
    gram: float
    gram_painter: float
    sliced: float
    colour: float
    content: float
    lpips_alexnet: float
    lpips_vgg16: float
    ssim: float
    clipped: float
    border: float
    periodic: float


FIGURES: dict[str, Figure] = {
    "style": Figure(
        "style",
        "painting",
        "lower",
        "squared Wasserstein distance of the Gaussians of the judge's features over the "
        "painting's power, mean of relu1_1 "
        "to relu5_1; 0 is the painting",
    ),
    "gram": Figure(
        "gram",
        "painting",
        "lower",
        "squared distance of the judge's Gram matrices over the painting's squared length, same "
        "layers; 1 is black",
    ),
    "gram_painter": Figure(
        "gram own",
        "painting",
        "lower",
        "the same by the network that painted: near to what its search was asked for, and no sign "
        "of quality",
    ),
    "sliced": Figure(
        "sliced",
        "painting",
        "lower",
        "squared sliced Wasserstein distance of the judge's features over the painting's power, "
        "same layers; 1 is black",
    ),
    "colour": Figure(
        "colour",
        "painting",
        "lower",
        "Wasserstein distance of the histograms of L*, a* and b*, mean of the three, in "
        "CIELAB units",
    ),
    "content": Figure(
        "content",
        "photo",
        "lower",
        "squared difference of the judge's relu4_2 over the photo's variance; 1 is a map that "
        "knows nothing of it",
    ),
    "lpips_alexnet": Figure("LPIPS alex", "photo", "lower", "LPIPS 0.1 with AlexNet"),
    "lpips_vgg16": Figure("LPIPS vgg16", "photo", "lower", "LPIPS 0.1 with VGG-16"),
    "ssim": Figure("SSIM", "photo", "higher", "structural similarity of the luminance, -1 to 1"),
    "clipped": Figure(
        "clipped", "method", "lower", "share of pixels with a channel at exactly 0 or 1"
    ),
    "border": Figure(
        "border",
        "method",
        "near 1",
        "mean squared slope across the strongest of the outer 8 lines over that of the rest",
    ),
    "periodic": Figure(
        "grid",
        "method",
        "lower",
        "decibels by which periods of 2, 4, 8 and 16 px stand out of the spectrum, mean over "
        "both axes",
    ),
}


class Evaluator:
    """Judges pictures painted from one photo and one painting; the targets are prepared once.

    Args:
        photo: (H, W, 3) in the size of the pictures to be judged.
        painting: (H, W, 3) in the size at which it is looked at, of any shape; usually the photo's
            area.
        judge: the network for style and content; it should be the one that did not paint.
        directions: how many random directions the sliced Wasserstein distance takes in each layer,
            drawn on the CPU from ``seed``; the same for every picture.
        kernel: the way to convolve, of float32.

    Raises:
        BadPicture: a side below ``LEAST_SIDE``.
        AssetUnavailable: a network that cannot be had.
    """

    def __init__(
        self,
        photo: Pixels,
        painting: Pixels,
        judge: NetworkName = "vgg16",
        *,
        directions: int = 64,
        seed: int = 0,
        kernel: Kernel = KERNELS["conv2d"],
        progress: Progress | None = None,
    ) -> None:
        for role, pixels in (("photo", photo), ("painting", painting)):
            if min(pixels.shape[:2]) < LEAST_SIDE:
                size = Size(*pixels.shape[:2])
                raise BadPicture(
                    f"The {role} is {size}: too small to judge by.",
                    f"Each side needs {LEAST_SIDE} px.",
                )
        self.size = Size(*photo.shape[:2])
        self.judge = judge
        self._kernel, self._progress = kernel, progress
        self._painting = painting
        self._painters: dict[str, tuple[Network, dict[str, Moments]]] = {}
        self._network = self._seeing(judge, {*STYLE_LAYERS, CONTENT_LAYER})
        self._strides = {name: self._network.layer(name).stride for name in STYLE_LAYERS}
        self._lpips = [
            Lpips("alexnet", progress=progress),
            Lpips("vgg16", kernel=kernel, progress=progress),
        ]
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self._photo_maps = [lpips.maps(photo) for lpips in self._lpips]
            self._content = self._network(picture_tensor(photo))[CONTENT_LAYER]
            maps = self._network(picture_tensor(painting))
        self._directions = {
            name: unit_directions(directions, maps[name].shape[1], generator)
            for name in STYLE_LAYERS
        }
        self._moments = moments_from_sums(
            moment_sums(maps, self._strides, TileContext.whole(Size(*painting.shape[:2])))
        )
        counts = {
            name: self.size.height // stride * (self.size.width // stride)
            for name, stride in self._strides.items()
        }
        self._slices = {
            name: ranked(projected(maps[name], self._directions[name]), counts[name])
            for name in STYLE_LAYERS
        }
        self._light = luminance(photo)
        self._colours = ranked(colours(painting), self.size.pixels)

    def __call__(self, pixels: Pixels, painter: NetworkName | None = None) -> Scores:
        """The scores of a picture (H, W, 3) of the photo's size; ``painter`` is the network that
        painted it, where nothing is said the one that does not judge.

        Raises:
            ValueError: it has another size.
        """
        if pixels.shape != (*self.size, 3):
            raise ValueError(f"the picture is {pixels.shape}, the photo {(*self.size, 3)}")
        with torch.no_grad():
            maps = self._network(picture_tensor(pixels))
        found = moments_from_sums(moment_sums(maps, self._strides, TileContext.whole(self.size)))
        pairs = {name: (found[name], self._moments[name]) for name in STYLE_LAYERS}
        along = {
            name: sliced_wasserstein(
                projected(maps[name], self._directions[name]), self._slices[name]
            )
            for name in STYLE_LAYERS
        }
        by_lpips = [
            lpips.between(lpips.maps(pixels), of_photo)
            for lpips, of_photo in zip(self._lpips, self._photo_maps, strict=True)
        ]
        return Scores(
            # Below 0 by rounding.
            style=_mean(wasserstein(*pair).clamp_min(0) for pair in pairs.values()),
            gram=_mean(gram_relative(*pair) for pair in pairs.values()),
            gram_painter=self._gram_of_painter(pixels, painter or OTHER[self.judge]),
            sliced=_mean(_sliced_relative(*pairs[name], along[name]) for name in STYLE_LAYERS),
            colour=colour_distance(colours(pixels), self._colours),
            content=self._content_distance(maps[CONTENT_LAYER]),
            lpips_alexnet=by_lpips[0],
            lpips_vgg16=by_lpips[1],
            ssim=similarity(luminance(pixels), self._light),
            **artefacts(pixels),
        )

    def _gram_of_painter(self, pixels: Pixels, painter: NetworkName) -> float:
        with torch.no_grad():
            if painter not in self._painters:
                network = (
                    self._network
                    if painter == self.judge
                    else self._seeing(painter, set(STYLE_LAYERS))
                )
                self._painters[painter] = network, self._moments_by(network, self._painting)
            network, target = self._painters[painter]
            found = self._moments_by(network, pixels)
        return _mean(gram_relative(found[name], target[name]) for name in STYLE_LAYERS)

    def _seeing(self, name: NetworkName, wanted: set[str]) -> Network:
        tensors = weights.load(name, progress=self._progress)
        return Network(
            tensors, vgg.CONFIGURATION_OF[name], wanted, padding="reflect", kernel=self._kernel
        )

    def _moments_by(self, network: Network, pixels: Pixels) -> dict[str, Moments]:
        whole = TileContext.whole(Size(*pixels.shape[:2]))
        return moments_from_sums(moment_sums(network(picture_tensor(pixels)), self._strides, whole))

    def _content_distance(self, found: Tensor) -> float:
        target = self._content.double()
        spread = (target - target.mean((-2, -1), keepdim=True)).square().sum()
        apart = (found.double() - target).square().sum()
        return float(apart / (spread if spread > 0 else target.square().sum().clamp_min(1e-12)))


def _mean(values: Iterable[Tensor | float]) -> float:
    return float(np.mean([float(value) for value in values]))
