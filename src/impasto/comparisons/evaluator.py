"""Score pictures of one photo and one painting with independent networks.

Sources:
    LPIPS: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features
    as a Perceptual Metric" (2018).
    Sliced Wasserstein distance: Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for
    Neural Texture Synthesis" (2021).
    SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment" (2004).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from impasto.assets.catalogue import Progress
from impasto.comparisons.lpips import Lpips, picture_tensor
from impasto.comparisons.metrics import (
    artifacts,
    color_distance,
    lab_values,
    luminance,
    projections,
    quantiles,
    sliced_wasserstein,
    sliced_wasserstein_relative,
    ssim,
    unit_directions,
)
from impasto.comparisons.scores import Scores
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
# The independent network for pictures that a network painted.
OTHER: dict[NetworkName, NetworkName] = {"vgg19": "vgg16", "vgg16": "vgg19"}
LEAST_SIDE = 32  # px, of a picture: AlexNet and the deepest layers need it


class Evaluator:
    """Scores pictures that were painted from one photo and one painting.

    The targets are computed once.

    Args:
        photo: (H, W, 3) at the size of the pictures to be scored.
        painting: (H, W, 3) at the size at which its features are measured, usually with the
            photo's area; any shape.
        judge: the network for style and content; it should be the one that did not paint.
        directions: number of random directions of the sliced Wasserstein distance in each layer.
            They are drawn on the CPU from ``seed`` and are the same for every picture.
        kernel: the convolution methods, in float32.

    Raises:
        BadPicture: a side below ``LEAST_SIDE``.
        AssetUnavailable: a network could not be fetched.
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
        _check_side("photo", photo)
        _check_side("painting", painting)
        self.size = Size(*photo.shape[:2])
        self.judge = judge
        self._kernel, self._progress = kernel, progress
        self._painting = painting
        self._painters: dict[str, tuple[Network, dict[str, Moments]]] = {}
        self._network = self._load(judge, {*STYLE_LAYERS, CONTENT_LAYER})
        self._strides = {name: self._network.layer(name).stride for name in STYLE_LAYERS}
        self._lpips = [
            Lpips("alexnet", progress=progress),
            Lpips("vgg16", kernel=kernel, progress=progress),
        ]
        self._measure_photo(photo)
        self._measure_painting(painting, directions, seed)

    def _measure_photo(self, photo: Pixels) -> None:
        with torch.no_grad():
            self._photo_maps = [lpips.maps(photo) for lpips in self._lpips]
            self._content = self._network(picture_tensor(photo))[CONTENT_LAYER]
        self._luminance = luminance(photo)

    def _measure_painting(self, painting: Pixels, directions: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            maps = self._network(picture_tensor(painting))
        self._directions = {
            name: unit_directions(directions, maps[name].shape[1], generator)
            for name in STYLE_LAYERS
        }
        self._moments = self._moments_of(maps, Size(*painting.shape[:2]))
        counts = {
            name: self.size.height // stride * (self.size.width // stride)
            for name, stride in self._strides.items()
        }
        self._projections = {
            name: quantiles(projections(maps[name], self._directions[name]), counts[name])
            for name in STYLE_LAYERS
        }
        self._lab = quantiles(lab_values(painting), self.size.pixels)

    def __call__(self, pixels: Pixels, painter: NetworkName | None = None) -> Scores:
        """The scores of a picture (H, W, 3) of the photo's size.

        ``painter``: the network that painted it, by default the other of the two.

        Raises:
            ValueError: it has another size.
        """
        if pixels.shape != (*self.size, 3):
            raise ValueError(f"the picture is {pixels.shape}, the photo {(*self.size, 3)}")
        with torch.no_grad():
            maps = self._network(picture_tensor(pixels))
        moments = self._moments_of(maps, self.size)
        pairs = {name: (moments[name], self._moments[name]) for name in STYLE_LAYERS}
        lpips_alexnet, lpips_vgg16 = (
            lpips.distance(lpips.maps(pixels), photo_maps)
            for lpips, photo_maps in zip(self._lpips, self._photo_maps, strict=True)
        )
        return Scores(
            # Rounding can make it negative.
            style=_mean(wasserstein(*pair).clamp_min(0) for pair in pairs.values()),
            gram=_mean(gram_relative(*pair) for pair in pairs.values()),
            gram_painter=self._gram_of_painter(pixels, painter or OTHER[self.judge]),
            sliced=self._sliced(maps, pairs),
            colour=color_distance(lab_values(pixels), self._lab),
            content=self._content_distance(maps[CONTENT_LAYER]),
            lpips_alexnet=lpips_alexnet,
            lpips_vgg16=lpips_vgg16,
            ssim=ssim(luminance(pixels), self._luminance),
            **artifacts(pixels),
        )

    def _sliced(
        self, maps: Mapping[str, Tensor], pairs: Mapping[str, tuple[Moments, Moments]]
    ) -> float:
        def distance(name: str) -> float:
            current = projections(maps[name], self._directions[name])
            centered = sliced_wasserstein(current, self._projections[name])
            return sliced_wasserstein_relative(*pairs[name], centered)

        return _mean(distance(name) for name in STYLE_LAYERS)

    def _gram_of_painter(self, pixels: Pixels, painter: NetworkName) -> float:
        """The distance of the Gram matrices of the network that painted."""
        with torch.no_grad():
            if painter not in self._painters:
                same = painter == self.judge
                network = self._network if same else self._load(painter, set(STYLE_LAYERS))
                self._painters[painter] = network, self._moments_by(network, self._painting)
            network, target = self._painters[painter]
            current = self._moments_by(network, pixels)
        return _mean(gram_relative(current[name], target[name]) for name in STYLE_LAYERS)

    def _load(self, name: NetworkName, outputs: set[str]) -> Network:
        tensors = weights.load(name, progress=self._progress)
        return Network(
            tensors, vgg.CONFIGURATION_OF[name], outputs, padding="reflect", kernel=self._kernel
        )

    def _moments_by(self, network: Network, pixels: Pixels) -> dict[str, Moments]:
        return self._moments_of(network(picture_tensor(pixels)), Size(*pixels.shape[:2]))

    def _moments_of(self, maps: Mapping[str, Tensor], size: Size) -> dict[str, Moments]:
        return moments_from_sums(moment_sums(maps, self._strides, TileContext.whole(size)))

    def _content_distance(self, features: Tensor) -> float:
        target = self._content.double()
        variation = (target - target.mean((-2, -1), keepdim=True)).square().sum()
        if not variation > 0:  # a photo of one flat color
            variation = target.square().sum().clamp_min(1e-12)
        return float((features.double() - target).square().sum() / variation)


def _check_side(role: str, pixels: Pixels) -> None:
    size = Size(*pixels.shape[:2])
    if size.short_side < LEAST_SIDE:
        raise BadPicture(
            f"The {role} is {size} px, which is too small to be evaluated.",
            f"Each side needs at least {LEAST_SIDE} px.",
        )


def _mean(values: Iterable[Tensor | float]) -> float:
    return float(np.mean([float(value) for value in values]))
