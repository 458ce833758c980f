"""The results of an explanation: pictures and the numbers by which they are judged."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from impasto import images
from impasto.explanations.feature_visualization import Unit
from impasto.explanations.request import ExplainRequest
from impasto.objectives.moments import Moments
from impasto.recipe.choices import Statistic

# The layers of figure 1 of Gatys et al. (2015), and those on which paintings are compared. Both
# networks have them.
CONTENT_LAYERS = ("relu1_1", "relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
UNIT_LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
UNITS_PER_LAYER = 3  # where no unit is named
# The distance of the Gram matrices that are drawn, and that of the default recipe.
DISTANCES: tuple[Statistic, ...] = ("gram-relative", "wasserstein")
# Photos of scikit-image, to which the activations of the photo are compared.
SAMPLES = ("astronaut", "coffee", "chelsea", "rocket")


@dataclass(frozen=True)
class ContentReconstruction:
    """A picture (H, W, 3) optimized from noise to match the maps of ``layers``.

    ``pixel_error`` is the root mean square difference to the photo's pixels, 0..1.
    """

    layers: tuple[str, ...]
    pixels: images.Pixels
    pixel_error: float

    @property
    def deepest(self) -> str:
        return self.layers[-1]


@dataclass(frozen=True)
class StyleReconstruction:
    """A picture (H, W, 3) optimized from noise to match the Gram matrices of ``layers``.

    ``patch_size`` is the side in pixels of the patches of the painting that it contains.
    """

    layers: tuple[str, ...]
    pixels: images.Pixels
    patch_size: float

    @property
    def deepest(self) -> str:
        return self.layers[-1]


@dataclass(frozen=True)
class UnitActivation:
    """The picture that activates a unit most, and where the photo activates it.

    ``pixels`` (h, w, 3) is that picture, and ``map`` (h', w') the unit's map of the photo. ``mean``
    and ``peak`` are its activation over the positions of the picture. ``sample_mean`` and
    ``sample_peak`` are the largest over the sample photos.
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
    """All results so far: ``done`` of ``planned`` pictures, made in ``seconds``."""

    request: ExplainRequest
    kernel: str
    device: str
    painting: images.Pixels | None = None  # at the size at which it is explained
    # By layer: the photo's, and the painting's if there is one.
    moments: tuple[Mapping[str, Moments], ...] = ()
    # Statistic -> layer -> distance.
    distances: Mapping[Statistic, Mapping[str, float]] = field(default_factory=dict)
    content: tuple[ContentReconstruction, ...] = ()
    style: tuple[StyleReconstruction, ...] = ()
    activations: tuple[UnitActivation, ...] = ()
    done: int = 0
    planned: int = 0
    seconds: float = 0.0

    @cached_property
    def photo(self) -> images.Pixels:
        """The photo at the size at which it is explained."""
        return images.resize(self.request.photo.pixels, self.request.size)

    @property
    def network(self) -> str:
        """The network's name as people write it."""
        return self.request.recipe.network.name.upper().replace("VGG", "VGG-")

    @property
    def shares(self) -> dict[Statistic, dict[str, float]]:
        """Statistic -> layer -> its share of the distance from photo to painting; the sum is 1."""
        totals = {name: sum(layers.values()) or 1.0 for name, layers in self.distances.items()}
        return {
            name: {layer: value / totals[name] for layer, value in layers.items()}
            for name, layers in self.distances.items()
        }

    @property
    def checks(self) -> dict[str, bool]:
        """Whether the pictures show what is expected; a check without enough pictures is absent."""
        checks: dict[str, bool] = {}
        if len(self.content) > 1:
            errors = [each.pixel_error for each in self.content]
            checks["pixel_error_grows_with_depth"] = all(
                deep > shallow for shallow, deep in itertools.pairwise(errors)
            )
        if len(self.style) > 1:
            first, last = self.style[0], self.style[-1]
            checks["style_pieces_grow_with_depth"] = last.patch_size > first.patch_size
        if self.activations:
            checks["units_answer_more_than_to_any_sample_photo"] = all(
                each.mean > each.sample_mean for each in self.activations
            )
        return checks
