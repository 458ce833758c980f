"""The scores of a picture and what each of them means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scores:
    """The scores of one picture; ``FIGURES`` says what each means."""

    style: float
    gram: float
    gram_painter: float
    sliced: float
    sliced_scales: float
    precision: float
    recall: float
    colour: float
    content: float
    lpips_alexnet: float
    lpips_vgg16: float
    face: float | None
    ssim: float
    grain: float
    clipped: float
    border: float
    periodic: float


@dataclass(frozen=True)
class Figure:
    """What a score means.

    ``heading``: a short name for tables. ``target``: "painting" and "photo" are distances to them,
    "method" is an artifact of the method. ``better``: which values are good. ``meaning``: a
    sentence with the unit.
    """

    heading: str
    target: Literal["painting", "photo", "method"]
    better: Literal["lower", "higher", "near 1"]
    meaning: str


FIGURES: dict[str, Figure] = {
    "style": Figure(
        "style",
        "painting",
        "lower",
        "squared Wasserstein distance of the Gaussians of the independent network's features over "
        "the painting's mean squared norm, mean of relu1_1 to relu5_1; 0 is the painting",
    ),
    "gram": Figure(
        "gram",
        "painting",
        "lower",
        "squared distance of the independent network's Gram matrices over the painting's squared "
        "norm, same layers; 1 is black",
    ),
    "gram_painter": Figure(
        "gram own",
        "painting",
        "lower",
        "the same with the network that painted: close to the loss that was minimized, so no "
        "evidence of quality",
    ),
    "sliced": Figure(
        "sliced",
        "painting",
        "lower",
        "squared sliced Wasserstein distance of the independent network's features over the "
        "painting's mean squared norm, same layers; 1 is black",
    ),
    "sliced_scales": Figure(
        "sliced x3",
        "painting",
        "lower",
        "the same, mean over both pictures at their size, at half and at a quarter of it: also "
        "strokes larger than a layer sees",
    ),
    "precision": Figure(
        "patch precision",
        "painting",
        "higher",
        "share of the picture's patches (relu3_1) that lie near one of the painting's; an average "
        "of strokes that is nowhere in the painting scores low",
    ),
    "recall": Figure(
        "patch recall",
        "painting",
        "higher",
        "share of the painting's patches (relu3_1) near which the picture has one; the same "
        "stroke everywhere scores low",
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
        "squared difference of the independent network's relu4_2 over the photo's variance; 1 is "
        "a constant feature map",
    ),
    "lpips_alexnet": Figure("LPIPS alex", "photo", "lower", "LPIPS 0.1 with AlexNet"),
    "lpips_vgg16": Figure("LPIPS vgg16", "photo", "lower", "LPIPS 0.1 with VGG-16"),
    "face": Figure(
        "face",
        "photo",
        "lower",
        "LPIPS 0.1 with AlexNet within the faces that are found in the photo; empty without a face",
    ),
    "ssim": Figure("SSIM", "photo", "higher", "structural similarity of the luminance, -1 to 1"),
    "grain": Figure(
        "grain",
        "method",
        "lower",
        "decibels by which the finest detail in flat parts exceeds the painting's there",
    ),
    "clipped": Figure(
        "clipped", "method", "lower", "share of pixels with a channel at exactly 0 or 1"
    ),
    "border": Figure(
        "border",
        "method",
        "near 1",
        "mean squared gradient across the strongest of the outer 8 lines over that of the rest",
    ),
    "periodic": Figure(
        "grid",
        "method",
        "lower",
        "decibels by which periods of 2, 4, 8 and 16 px exceed the rest of the spectrum, mean over "
        "both axes",
    ),
}
