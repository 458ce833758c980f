"""What has been asked about a photo and a painting, and what has been found: pictures with the figures that judge them.

It knows what each figure means and what the pictures should show. It refuses to know how they are made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from impasto import images
from impasto.geometry import Size
from impasto.maximising import Unit
from impasto.objectives.style import Moments
from impasto.recipe import Recipe, Statistic
from impasto.spectrum import Spectrum

# Those of Gatys' figure 1, and those on which a painting is compared; both networks have them.
CONTENT_LAYERS = ("relu1_1", "relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
UNIT_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
UNITS_EACH = 3  # of each of these layers where no unit is named
DISTANCES: tuple[Statistic, ...] = ("gram-relative", "wasserstein")  # the Gram matrices that are drawn; the house recipe's
SAMPLES = ("astronaut", "coffee", "chelsea", "rocket")  # photographs of scikit-image: what a channel answers otherwise


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

    ``figure``: of content, the root mean square difference to the photo's pixels (0..1); of style, the length of its waves
    in pixels (see ``wavelength``).
    """

    layers: tuple[str, ...]
    pixels: images.Pixels
    figure: float


@dataclass(frozen=True)
class Answer:
    """What a unit looks for, and where the photo has it.

    ``pixels`` (h, w, 3) is the picture that it answers to most, ``map`` (h', w') its map of the photo. ``mean`` and
    ``peak`` are its activation over the positions of that picture, ``sample_mean`` and ``sample_peak`` the largest over the
    sample photos.
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
    moments: tuple[Mapping[str, Moments], ...] = ()  # the photo's, and the painting's if there is one, by layer
    distances: Mapping[Statistic, Mapping[str, float]] = field(default_factory=dict)  # statistic -> layer -> distance
    content: tuple[Reconstruction, ...] = ()
    style: tuple[Reconstruction, ...] = ()
    answers: tuple[Answer, ...] = ()
    done: int = 0
    planned: int = 0
    seconds: float = 0.0

    @property
    def photo(self) -> images.Pixels:
        """The photo as it is looked at."""
        return images.resize(self.asked.photo.pixels, self.asked.size)

    @property
    def painting_wavelength(self) -> float:
        """What the waves of the style reconstructions may be compared with, in pixels."""
        return wavelength(self.painting) if self.painting is not None else math.nan

    @property
    def shares(self) -> dict[Statistic, dict[str, float]]:
        """Statistic -> layer -> its part of the distance from the photo to the painting; each statistic's sum is 1."""
        totals = {name: sum(layers.values()) or 1.0 for name, layers in self.distances.items()}
        return {name: {at: value / totals[name] for at, value in of.items()} for name, of in self.distances.items()}

    @property
    def checks(self) -> dict[str, bool]:
        """What the pictures should show, and whether they do, where there is enough of them to say."""
        found: dict[str, bool] = {}
        if len(self.content) > 1:
            found["pixel_error_grows_with_depth"] = _grows(self.content)
        if len(self.style) > 1:
            found["style_waves_lengthen_with_depth"] = _lengthens(self.style)
        if self.answers:
            found["units_answer_more_than_to_any_sample_photo"] = all(a.mean > a.sample_mean for a in self.answers)
        return found


def _grows(each: Sequence[Reconstruction]) -> bool:
    return all(deep.figure > shallow.figure for shallow, deep in itertools.pairwise(each))


def _lengthens(each: Sequence[Reconstruction]) -> bool:
    return each[-1].figure > each[0].figure


def wavelength(pixels: images.Pixels) -> float:
    """The typical length in pixels of a picture's waves of light: their centroid in octaves, each by its energy.

    The mean brightness, which is no wave, does not count.
    """
    spectrum = Spectrum(Size(*pixels.shape[:2]))
    energies = spectrum.energies(spectrum.waves(images.to_tensor(pixels)))[0, 1:]
    octaves = torch.arange(1, len(energies) + 1, dtype=torch.float64)
    centroid = float((octaves * energies).sum() / energies.sum().clamp_min(1e-12))
    # The last shell's waves are 2 to 4 px long, and each one's before it twice as long.
    return 2.0 ** (1.5 + len(octaves) - centroid)
