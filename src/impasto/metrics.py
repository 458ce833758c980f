"""How good a stylised picture is, by networks that did not paint it and by plain arithmetic on its pixels.

It knows three kinds of figures: distances to the painting, distances to the photo, and traces of the method that belong to
neither. It refuses to know files, who painted and in which size to look: all that is given to it. No figure is quality by
itself; the photo and the painting are the two ends of the scale.

Sources: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(2018), for LPIPS; Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for Neural Texture Synthesis" (2021);
Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment" (2004), for SSIM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.networks import alexnet, vgg, weights
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.features import Network
from impasto.objectives.base import Where
from impasto.objectives.style import Moments, gram_relative, measure, summarise, wasserstein

Pixels = NDArray[np.float32]  # (H, W, 3), sRGB-encoded, 0..1
Progress = Callable[[str, int, int], None]  # an asset's name, bytes so far, bytes in all

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER = "relu4_2"
Judge = Literal["vgg16", "vgg19"]
OTHER: dict[Judge, Judge] = {"vgg19": "vgg16", "vgg16": "vgg19"}  # who judges what a network painted
LEAST_SIDE = 32  # of a picture that can be judged: AlexNet and the deepest maps see nothing in less


@dataclass(frozen=True)
class Figure:
    """What a score means: its short ``heading``, which direction is ``better``, and what it ``says``, with its unit.

    ``of``: "painting" and "photo" are distances to them; "method" are traces that belong to neither.
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
        "squared Wasserstein distance of the Gaussians of the judge's features over the painting's power, mean of relu1_1 "
        "to relu5_1; 0 is the painting",
    ),
    "gram": Figure(
        "gram",
        "painting",
        "lower",
        "squared distance of the judge's Gram matrices over the painting's squared length, same layers; 1 is black",
    ),
    "gram_painter": Figure(
        "gram own",
        "painting",
        "lower",
        "the same by the network that painted: near to what its search was asked for, and no sign of quality",
    ),
    "sliced": Figure(
        "sliced",
        "painting",
        "lower",
        "squared sliced Wasserstein distance of the judge's features over the painting's power, same layers; 1 is black",
    ),
    "colour": Figure(
        "colour",
        "painting",
        "lower",
        "Wasserstein distance of the histograms of L*, a* and b*, mean of the three, in CIELAB units",
    ),
    "content": Figure(
        "content",
        "photo",
        "lower",
        "squared difference of the judge's relu4_2 over the photo's variance; 1 is a map that knows nothing of it",
    ),
    "lpips_alexnet": Figure("LPIPS alex", "photo", "lower", "LPIPS 0.1 with AlexNet"),
    "lpips_vgg16": Figure("LPIPS vgg16", "photo", "lower", "LPIPS 0.1 with VGG-16"),
    "ssim": Figure("SSIM", "photo", "higher", "structural similarity of the luminance, -1 to 1"),
    "clipped": Figure("clipped", "method", "lower", "share of pixels with a channel at exactly 0 or 1"),
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
        "decibels by which periods of 2, 4, 8 and 16 px stand out of the spectrum, mean over both axes",
    ),
}


def artefacts(pixels: Pixels) -> dict[str, float]:
    """The scores that need neither photo nor painting, by their names in ``Scores``."""
    return {"clipped": clipped(pixels), "border": border(pixels), "periodic": periodic(pixels)}


class Referee:
    """Judges pictures painted from one photo and one painting; the targets are prepared once.

    Args:
        photo: (H, W, 3) in the size of the pictures to be judged.
        painting: (H, W, 3) in the size at which it is looked at, of any shape; usually the photo's area.
        judge: the network for style and content; it should be the one that did not paint.
        directions: how many random directions the sliced Wasserstein distance takes in each layer, drawn on the CPU from
            ``seed``; the same for every picture.
        kernel: the way to convolve, of float32.

    Raises:
        BadPicture: a side below ``LEAST_SIDE``.
        AssetUnavailable: a network that cannot be had.
    """

    def __init__(
        self,
        photo: Pixels,
        painting: Pixels,
        judge: Judge = "vgg16",
        *,
        directions: int = 64,
        seed: int = 0,
        kernel: Kernel = KERNELS["conv2d"],
        progress: Progress | None = None,
    ) -> None:
        for role, pixels in (("photo", photo), ("painting", painting)):
            if min(pixels.shape[:2]) < LEAST_SIDE:
                size = Size(*pixels.shape[:2])
                raise BadPicture(f"The {role} is {size}: too small to judge by.", f"Each side needs {LEAST_SIDE} px.")
        self.size = Size(*photo.shape[:2])
        self.judge = judge
        self._kernel, self._progress = kernel, progress
        self._painting = painting
        self._painters: dict[str, tuple[Network, dict[str, Moments]]] = {}
        self._network = self._seeing(judge, {*STYLE_LAYERS, CONTENT_LAYER})
        self._strides = {name: self._network.layer(name).stride for name in STYLE_LAYERS}
        self._lpips = [Lpips("alexnet", progress=progress), Lpips("vgg16", kernel=kernel, progress=progress)]
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self._photo_maps = [lpips.maps(photo) for lpips in self._lpips]
            self._content = self._network(_tensor(photo))[CONTENT_LAYER]
            maps = self._network(_tensor(painting))
        self._directions = {name: unit_directions(directions, maps[name].shape[1], generator) for name in STYLE_LAYERS}
        self._moments = summarise(measure(maps, self._strides, Where.whole(Size(*painting.shape[:2]))))
        counts = {name: self.size.height // stride * (self.size.width // stride) for name, stride in self._strides.items()}
        self._slices = {name: ranked(projected(maps[name], self._directions[name]), counts[name]) for name in STYLE_LAYERS}
        self._light = luminance(photo)
        self._colours = ranked(colours(painting), self.size.pixels)

    def __call__(self, pixels: Pixels, painter: Judge | None = None) -> Scores:
        """The scores of a picture (H, W, 3) of the photo's size; ``painter`` is the network that painted it, where nothing
        is said the one that does not judge.

        Raises:
            ValueError: it has another size.
        """
        if pixels.shape != (*self.size, 3):
            raise ValueError(f"the picture is {pixels.shape}, the photo {(*self.size, 3)}")
        with torch.no_grad():
            maps = self._network(_tensor(pixels))
        found = summarise(measure(maps, self._strides, Where.whole(self.size)))
        pairs = {name: (found[name], self._moments[name]) for name in STYLE_LAYERS}
        along = {
            name: sliced_wasserstein(projected(maps[name], self._directions[name]), self._slices[name])
            for name in STYLE_LAYERS
        }
        by_lpips = [
            lpips.between(lpips.maps(pixels), of_photo)
            for lpips, of_photo in zip(self._lpips, self._photo_maps, strict=True)
        ]
        return Scores(
            style=_mean(wasserstein(*pair).clamp_min(0) for pair in pairs.values()),  # below 0 by rounding
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

    def _gram_of_painter(self, pixels: Pixels, painter: Judge) -> float:
        with torch.no_grad():
            if painter not in self._painters:
                network = self._network if painter == self.judge else self._seeing(painter, set(STYLE_LAYERS))
                self._painters[painter] = network, self._moments_by(network, self._painting)
            network, target = self._painters[painter]
            found = self._moments_by(network, pixels)
        return _mean(gram_relative(found[name], target[name]) for name in STYLE_LAYERS)

    def _seeing(self, name: Judge, wanted: set[str]) -> Network:
        tensors = weights.load(name, progress=self._progress)
        return Network(tensors, vgg.CONFIGURATION_OF[name], wanted, padding="reflect", kernel=self._kernel)

    def _moments_by(self, network: Network, pixels: Pixels) -> dict[str, Moments]:
        whole = Where.whole(Size(*pixels.shape[:2]))
        return summarise(measure(network(_tensor(pixels)), self._strides, whole))

    def _content_distance(self, found: Tensor) -> float:
        target = self._content.double()
        spread = (target - target.mean((-2, -1), keepdim=True)).square().sum()
        apart = (found.double() - target).square().sum()
        return float(apart / (spread if spread > 0 else target.square().sum().clamp_min(1e-12)))


# ---- LPIPS -----------------------------------------------------------------------------------------------------------


class Lpips:
    """LPIPS 0.1: how different two pictures look to a network whose channels were weighted by people's judgements.

    Unit-length features at every position, squared differences weighted by channel, mean over positions, sum over layers
    (equation 1). The networks see zeros beyond the border, as they did when the weights were found.
    """

    VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")

    def __init__(
        self,
        backbone: weights.HeadedName,
        *,
        kernel: Kernel = KERNELS["conv2d"],
        progress: Progress | None = None,
    ) -> None:
        self._heads = weights.load_heads(backbone, progress=progress)
        self._encode: Callable[[Tensor], Sequence[Tensor]]
        if backbone == "alexnet":
            tensors = weights.load_alexnet(progress=progress)
            self._encode = lambda picture: alexnet.forward(tensors, picture)
        else:
            tensors = weights.load(backbone, progress=progress)
            network = Network(tensors, vgg.CONFIGURATION_OF[backbone], self.VGG_LAYERS, kernel=kernel)
            in_order = itemgetter(*self.VGG_LAYERS)
            self._encode = lambda picture: in_order(network(picture))

    def maps(self, pixels: Pixels) -> list[Tensor]:
        """The five maps of a picture (H, W, 3), each (1, C, h, w), of unit length over the channels."""
        with torch.no_grad():
            maps = self._encode(_tensor(pixels))
            return [found / (found.square().sum(1, keepdim=True).sqrt() + 1e-10) for found in maps]

    def between(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """The distance of two pictures of one size by their ``maps``."""
        total = 0.0
        for one, other, head in zip(ours, theirs, self._heads, strict=True):
            by_channel = (one - other).square().mean((0, 2, 3))  # (C,): the head is linear, so the mean may come first
            total += float(by_channel.double() @ head.double())
        return total


def lpips(one: Pixels, other: Pixels, backbone: weights.HeadedName) -> float:
    """LPIPS 0.1 of two pictures (H, W, 3) of one size; ``Lpips`` does the same for many without loading anew."""
    if one.shape != other.shape:
        raise ValueError(f"the pictures are {one.shape} and {other.shape}")
    judge = Lpips(backbone)
    return judge.between(judge.maps(one), judge.maps(other))


# ---- distributions ---------------------------------------------------------------------------------------------------


def unit_directions(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """Random directions of unit length, (count, channels), uniform over the sphere."""
    drawn = torch.randn((count, channels), generator=generator)
    return drawn / drawn.norm(dim=1, keepdim=True)


def projected(features: Tensor, directions: Tensor) -> NDArray[np.float32]:
    """The features (1, C, h, w) less their mean along each direction (D, C), sorted: (D, h*w)."""
    along = directions @ features[0].flatten(1)
    along -= along.mean(1, keepdim=True)
    return np.sort(along.numpy(), axis=1)  # several times faster than torch's


def ranked(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Sorted ``values`` (D, n) as (D, count): their quantiles at the middles of ``count`` equal parts."""
    n = values.shape[1]
    return values if n == count else values[:, (2 * np.arange(count) + 1) * n // (2 * count)]


def sliced_wasserstein(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The squared Wasserstein-2 distance along a direction, mean over directions: sorted values (D, n) of the same ones."""
    return float(np.square(ours - theirs).mean(axis=1).mean(dtype=np.float64))


def _sliced_relative(found: Moments, target: Moments, along_directions: float) -> float:
    """The sliced distance over the painting's power, so that it means the same for every layer.

    The mean over all directions of the squared distance is that of the means, |m - n|^2 / C, and that of what is left when
    they are taken off. The first is known exactly; directions are drawn for the second alone, which at 64 of them leaves a
    spread of 2% between seeds instead of 5.
    """
    apart = float((found.mean - target.mean).square().sum())
    return (apart + target.channels * along_directions) / float(target.power)


def colours(pixels: Pixels) -> NDArray[np.float32]:
    """L*, a* and b* (D65) of every pixel, each sorted: (3, H*W)."""
    from skimage.color import rgb2lab

    return np.sort(rgb2lab(pixels).reshape(-1, 3).T.astype(np.float32), axis=1)


def colour_distance(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """The Wasserstein-1 distance of two ``colours``, mean of the three channels, in CIELAB units.

    How far the values of a channel must move on average to have the other's histogram; 2 or 3 units can just be seen.
    """
    return float(np.abs(ours - ranked(theirs, ours.shape[1])).mean(axis=1).mean(dtype=np.float64))


# ---- pixels ----------------------------------------------------------------------------------------------------------

_RING = 8  # px
_PERIODS = (2, 4, 8, 16)  # px: the strides of the network's maps, and of the coarse sizes that were grown
_ROUNDING = 1 / 255**2 / 12  # the variance that 8 bits leave; what is weaker is not seen


def luminance(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) -> (H, W): the luma of the encoded values by the weights of Rec. 709."""
    return pixels @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """SSIM of two luminances (H, W), with the Gaussian window of 1.5 px of the paper."""
    from skimage.metrics import structural_similarity

    found = structural_similarity(one, other, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return float(found)


def clipped(pixels: Pixels) -> float:
    """The share of pixels with a channel at exactly 0 or 1."""
    return float(((pixels <= 0) | (pixels >= 1)).any(axis=2).mean())


def border(pixels: Pixels) -> float:
    """The strongest edge along the border over the edges of the rest: about 1 where the border is like the rest.

    The mean squared slope of the luminance across each of the outer 8 lines that run around the picture, the largest of
    them, over that of everything further in. A frame or a rim is a step at one depth all the way round, so it is far above
    1 whatever is painted beside it; near 0, nothing was painted there.
    """
    light = luminance(pixels).astype(np.float64)
    depth = min(_RING, min(light.shape) // 2 - 1)
    lines, rest = np.zeros((depth, 2)), np.zeros(2)  # sums and counts
    for across in (light, light.T):
        slopes = np.square(np.diff(across, axis=0))
        ends = np.concatenate([slopes[:depth], slopes[::-1][:depth]], axis=1)  # both sides, by depth
        lines += np.stack([ends.sum(1), np.full(depth, ends.shape[1])], axis=1)
        inner = slopes[depth:-depth]
        rest += inner.sum(), inner.size
    strongest, inside = (lines[:, 0] / lines[:, 1]).max(), rest[0] / max(rest[1], 1)
    return float((strongest + _ROUNDING) / (inside + _ROUNDING))


def periodic(pixels: Pixels) -> float:
    """How far periods of 2, 4, 8 and 16 px stand out of the luminance's spectrum, in decibels: 0 is not at all.

    For rows and for columns: the power spectrum of each line under a Hann window, mean over the lines. A straight line
    through the logarithms of the neighbouring frequencies, 3 to 10 steps away, says how much power is to be expected at
    each of the four; the figure is the mean of the eight excesses, those below 0 counted as 0. What is weaker than the
    rounding to 8 bits counts as nothing. JPEG files, whose blocks are 8 px wide, have some of it too.
    """
    light = luminance(pixels).astype(np.float64)
    found = [_excess(lines, period) for lines in (light, light.T) for period in _PERIODS]
    return float(np.mean(found))


def _excess(lines: NDArray[np.float64], period: int) -> float:
    """The same for one direction and one period; ``lines`` are (count, length)."""
    length = lines.shape[1] // _PERIODS[-1] * _PERIODS[-1]  # so that each period falls on a step of the spectrum
    window = np.hanning(length + 1)[:-1]
    centred = lines[:, :length] - lines[:, :length].mean(1, keepdims=True)
    power = np.square(np.abs(np.fft.rfft(centred * window, axis=1))).mean(0) + _ROUNDING * np.square(window).sum()
    at = length // period
    steps = np.array([at + side * away for away in range(3, 11) for side in (-1, 1)])
    steps = steps[(steps >= 1) & (steps <= length // 2)]
    slope, level = np.polyfit(np.log(steps), np.log(power[steps]), 1)
    return max(0.0, float(np.log(power[at]) - (slope * np.log(at) + level)) * 10 / np.log(10))


# ---- small things ----------------------------------------------------------------------------------------------------


def _tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), np.float32, order="C"))[None]


def _mean(values: Iterable[Tensor | float]) -> float:
    return float(np.mean([float(value) for value in values]))
