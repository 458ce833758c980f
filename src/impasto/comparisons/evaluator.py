"""Score pictures of one photo and one painting with independent networks.

Sources:
    LPIPS: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features
    as a Perceptual Metric" (2018).
    SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment" (2004).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from impasto import images
from impasto.assets.catalogue import Progress
from impasto.comparisons.lpips import Lpips, picture_tensor
from impasto.comparisons.metrics import (
    artifacts,
    color_distance,
    fine_detail,
    grain,
    lab_values,
    luminance,
    quantiles,
    ssim,
)
from impasto.comparisons.precision_recall import PatchTarget
from impasto.comparisons.scores import Scores
from impasto.comparisons.style_target import StyleFeatures, StyleTarget, gram_distance
from impasto.errors import BadPicture
from impasto.geometry import Region, Size
from impasto.images.pixels import Pixels
from impasto.networks import vgg, weights
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.features import Network
from impasto.networks.vgg import STYLE_LAYERS
from impasto.objectives.moments import Moments
from impasto.recipe.choices import NetworkName
from impasto.regions.faces import find_faces

CONTENT_LAYER = "relu4_2"
PATCH_LAYER = "relu3_1"
FACE_SIDE = 64  # px, the least side at which LPIPS sees a face
# The factors by which both pictures are reduced for the sliced distance at several scales.
SCALES = (1, 2, 4)
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
        self._lpips = [
            Lpips("alexnet", progress=progress),
            Lpips("vgg16", kernel=kernel, progress=progress),
        ]
        self._measure_photo(photo)
        self._measure_painting(photo, directions, seed)

    def _measure_photo(self, photo: Pixels) -> None:
        self._photo_maps = [lpips.maps(photo) for lpips in self._lpips]
        self._luminance = luminance(photo)
        self._faces = [_around(box, self.size) for box in find_faces(photo)]
        self._face_maps = [self._lpips[0].maps(_cut(photo, face)) for face in self._faces]

    def _measure_painting(self, photo: Pixels, directions: int, seed: int) -> None:
        smallest = min(*photo.shape[:2], *self._painting.shape[:2])
        self._scales = [scale for scale in SCALES if smallest >= scale * LEAST_SIDE]
        self._targets = []
        for scale in self._scales:
            target, of_photo = (self._features(each, scale) for each in (self._painting, photo))
            self._targets.append(StyleTarget(target, of_photo, directions, seed))
            if scale == 1:
                self._patches = PatchTarget(target.maps[PATCH_LAYER])
                self._content = of_photo.maps[CONTENT_LAYER]
        self._lab = quantiles(lab_values(self._painting), self.size.pixels)
        self._fine_detail = fine_detail(self._painting)

    def __call__(self, pixels: Pixels, painter: NetworkName | None = None) -> Scores:
        """The scores of a picture (H, W, 3) of the photo's size.

        ``painter``: the network that painted it, by default the other of the two.

        Raises:
            ValueError: it has another size.
        """
        if pixels.shape != (*self.size, 3):
            raise ValueError(f"the picture is {pixels.shape}, the photo {(*self.size, 3)}")
        by_scale = [self._features(pixels, scale) for scale in self._scales]
        features, target = by_scale[0], self._targets[0]
        sliced = [
            target.sliced(picture) for target, picture in zip(self._targets, by_scale, strict=True)
        ]
        precision, recall = self._patches.precision_and_recall(features.maps[PATCH_LAYER])
        lpips_alexnet, lpips_vgg16 = (
            lpips.distance(lpips.maps(pixels), photo_maps)
            for lpips, photo_maps in zip(self._lpips, self._photo_maps, strict=True)
        )
        return Scores(
            style=target.wasserstein(features),
            gram=gram_distance(features.moments, target.moments),
            gram_painter=self._gram_of_painter(pixels, features, painter or OTHER[self.judge]),
            sliced=sliced[0],
            sliced_scales=sum(sliced) / len(sliced),
            precision=precision,
            recall=recall,
            colour=color_distance(lab_values(pixels), self._lab),
            content=self._content_distance(features.maps[CONTENT_LAYER]),
            lpips_alexnet=lpips_alexnet,
            lpips_vgg16=lpips_vgg16,
            face=self._face_distance(pixels),
            ssim=ssim(luminance(pixels), self._luminance),
            grain=grain(fine_detail(pixels), self._fine_detail),
            **artifacts(pixels),
        )

    def _features(self, pixels: Pixels, scale: int = 1) -> StyleFeatures:
        picture = picture_tensor(pixels)
        return StyleFeatures.of(
            self._network, functional.avg_pool2d(picture, scale) if scale > 1 else picture
        )

    def _face_distance(self, pixels: Pixels) -> float | None:
        """LPIPS of the largest faces and their surroundings, mean by area."""
        if not self._faces:
            return None
        lpips, areas = self._lpips[0], [face.size.pixels for face in self._faces]
        distances = [
            lpips.distance(lpips.maps(_cut(pixels, face)), maps)
            for face, maps in zip(self._faces, self._face_maps, strict=True)
        ]
        return sum(a * d for a, d in zip(areas, distances, strict=True)) / sum(areas)

    def _gram_of_painter(
        self, pixels: Pixels, features: StyleFeatures, painter: NetworkName
    ) -> float:
        """The distance of the Gram matrices of the network that painted.

        ``features``: those of the network that evaluates.
        """
        if painter == self.judge:
            return gram_distance(features.moments, self._targets[0].moments)
        if painter not in self._painters:
            network = self._load(painter, set(STYLE_LAYERS))
            target = StyleFeatures.of(network, picture_tensor(self._painting)).moments
            self._painters[painter] = network, target
        network, target = self._painters[painter]
        return gram_distance(StyleFeatures.of(network, picture_tensor(pixels)).moments, target)

    def _load(self, name: NetworkName, outputs: set[str]) -> Network:
        tensors = weights.load(name, progress=self._progress)
        return Network(
            tensors, vgg.CONFIGURATION_OF[name], outputs, padding="reflect", kernel=self._kernel
        )

    def _content_distance(self, features: Tensor) -> float:
        target = self._content.double()
        variation = (target - target.mean((-2, -1), keepdim=True)).square().sum()
        if not variation > 0:  # a photo of one flat color
            variation = target.square().sum().clamp_min(1e-12)
        return float((features.double() - target).square().sum() / variation)


def _around(box: Region, size: Size) -> Region:
    """A face's box enlarged by a quarter of its side on every side, within the picture."""
    more = box.size.height // 4
    return Region(
        max(0, box.top - more),
        max(0, box.left - more),
        min(size.height, box.bottom + more),
        min(size.width, box.right + more),
    )


def _cut(pixels: Pixels, region: Region) -> Pixels:
    """A part of a picture, enlarged to ``FACE_SIDE`` where it is smaller."""
    part = np.ascontiguousarray(pixels[region.slices])
    if region.size.short_side >= FACE_SIDE:
        return part
    return images.resize(part, region.size.with_side("short", FACE_SIDE))


def _check_side(role: str, pixels: Pixels) -> None:
    size = Size(*pixels.shape[:2])
    if size.short_side < LEAST_SIDE:
        raise BadPicture(
            f"The {role} is {size} px, which is too small to be evaluated.",
            f"Each side needs at least {LEAST_SIDE} px.",
        )
