"""What has been asked about a photo and a painting, and what has been found: pictures with the
figures that judge them.

It knows what each figure means and what the pictures should show. It refuses to know how they are
made.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from impasto import images
from impasto.explain.feature_visualization import Unit
from impasto.geometry import Size
from impasto.objectives.moments import Moments
from impasto.recipe.records import Recipe, Statistic

# Those of Gatys' figure 1, and those on which a painting is compared; both networks have them.
CONTENT_LAYERS = ("relu1_1", "relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
UNIT_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
UNITS_EACH = 3  # of each of these layers where no unit is named
# The Gram matrices that are drawn; the house recipe's.
DISTANCES: tuple[Statistic, ...] = ("gram-relative", "wasserstein")
# Photographs of scikit-image: what a channel answers otherwise.
SAMPLES = ("astronaut", "coffee", "chelsea", "rocket")


@dataclass(frozen=True)
class Question:
    """A photo, perhaps a painting, and how closely to look; all that can be refused has been."""

    photo: images.Picture
    painting: images.Picture | None
    units: tuple[Unit, ...]  # none: those that the photo speaks to most
    recipe: Recipe  # size, seed and network; the rest is set for each picture
    iterations: int
    size: Size  # in which the photo is looked at


@dataclass(frozen=True)
class Reconstruction:
    """A picture (H, W, 3) found from noise by what some layers keep.

    ``figure``: of content, the root mean square difference to the photo's pixels (0..1); of style,
    the side in pixels of the painting's pieces that it has (see ``piece``).
    """

    layers: tuple[str, ...]
    pixels: images.Pixels
    figure: float


@dataclass(frozen=True)
class Answer:
    """What a unit looks for, and where the photo has it.

    ``pixels`` (h, w, 3) is the picture that it answers to most, ``map`` (h', w') its map of the
    photo. ``mean`` and ``peak`` are its activation over the positions of that picture,
    ``sample_mean`` and ``sample_peak`` the largest over the sample photos.
    """

    unit: Unit
    pixels: images.Pixels
    map: NDArray[np.float32]
    mean: float
    peak: float
    sample_mean: float
    sample_peak: float


@dataclass(frozen=True)
class Explanation:
    """All that has been found so far; ``done`` of ``planned`` pictures, in ``seconds``."""

    asked: Question
    kernel: str
    device: str
    painting: images.Pixels | None = None  # as it is looked at
    # The photo's, and the painting's if there is one, by layer.
    moments: tuple[Mapping[str, Moments], ...] = ()
    # Statistic -> layer -> distance.
    distances: Mapping[Statistic, Mapping[str, float]] = field(default_factory=dict)
    content: tuple[Reconstruction, ...] = ()
    style: tuple[Reconstruction, ...] = ()
    answers: tuple[Answer, ...] = ()
    done: int = 0
    planned: int = 0
    seconds: float = 0.0

    @cached_property
    def photo(self) -> images.Pixels:
        """The photo as it is looked at."""
        return images.resize(self.asked.photo.pixels, self.asked.size)

    @property
    def shares(self) -> dict[Statistic, dict[str, float]]:
        """Statistic -> layer -> its part of the distance from the photo to the painting; each
        statistic's sum is 1.
        """
        totals = {name: sum(layers.values()) or 1.0 for name, layers in self.distances.items()}
        return {
            name: {at: value / totals[name] for at, value in of.items()}
            for name, of in self.distances.items()
        }

    @property
    def checks(self) -> dict[str, bool]:
        """What the pictures should show, and whether they do, where there is enough of them to say."""
        found: dict[str, bool] = {}
        if len(self.content) > 1:
            found["pixel_error_grows_with_depth"] = _grows(self.content)
        if len(self.style) > 1:
            found["style_pieces_grow_with_depth"] = self.style[-1].figure > self.style[0].figure
        if self.answers:
            found["units_answer_more_than_to_any_sample_photo"] = all(
                a.mean > a.sample_mean for a in self.answers
            )
        return found


def _grows(each: Sequence[Reconstruction]) -> bool:
    return all(deep.figure > shallow.figure for shallow, deep in itertools.pairwise(each))


def piece(pixels: images.Pixels, painting: images.Pixels) -> float:
    """How large what comes back is: the side, in pixels, of the squares of a painting that a
    picture has (both (h, w, 3)).

    Of the variance of a square of the picture a part is left over when the likest square of the
    painting is taken away, the mean of either set aside. The larger the squares, the larger that
    part; where it comes to ``_LEFT_OVER`` is the side.
    """
    picture, model = (images.to_tensor(each) for each in (pixels, painting))
    most = min(*picture.shape[-2:], *model.shape[-2:])
    before: tuple[float, float] | None = None
    for side in (side for side in _SIDES if side <= most):
        left = _left_over(picture, model, side)
        if left >= _LEFT_OVER:
            if before is None:
                return side * _LEFT_OVER / left
            share = (_LEFT_OVER - before[1]) / (left - before[1])
            return float(before[0] * (side / before[0]) ** share)  # between two sides, in octaves
        before = (side, left)
    return float(before[0]) if before else float(most)


def _left_over(picture: Tensor, model: Tensor, side: int) -> float:
    """What part of the variance of the picture's squares their likest in ``model`` does not account
    for.
    """
    own, others = (
        functional.unfold(each, side, stride=max(1, side // part))[0].T
        for each, part in ((picture, 2), (model, 4))
    )
    # (squares, 3 side^2).
    own, others = own - own.mean(1, keepdim=True), others - others.mean(1, keepdim=True)
    left = sum(
        float(torch.cdist(some, others).min(1).values.square().sum())
        for some in own.split(_AT_ONCE)
    )
    return left / max(float(own.square().sum()), 1e-12)


_SIDES = (4, 8, 16, 32, 64)
_LEFT_OVER = 0.7
_AT_ONCE = 256  # squares: their distances to all others take 50 MB at 256 px
