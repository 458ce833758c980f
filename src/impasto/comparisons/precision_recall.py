"""Patch precision and recall: whether a picture's patches exist in the painting, and the reverse.

A patch is the features of one place. Each patch of the painting has a radius. Precision is the
share of the picture's patches that lie within the radius of one of the painting's: an average of
different strokes, which is nowhere in the painting, scores low. Recall is the share of the
painting's patches with one of the picture's in their radius: a single stroke everywhere scores low.

Sources, where the points are whole pictures:
    Precision: Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved Precision and Recall Metric
    for Assessing Generative Models" (2019), equations 1 and 2.
    Recall: coverage in Naeem, Oh, Uh, Choi, Yoo, "Reliable Fidelity and Diversity Metrics for
    Generative Models" (2020). It takes the painting's radii too: with the picture's, a photo that
    has little in common with the painting has a recall above that of its precision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBORS = 3  # the k of the paper
MOST_PATCHES = 3_072  # that are compared, evenly distributed over a map


def sample(features: Tensor) -> Tensor:
    """The patches of a map (1, C, h, w): points (n, C) of length 1."""
    points = functional.normalize(features[0].flatten(1).T, dim=1)
    if len(points) <= MOST_PATCHES:
        return points
    return points[torch.linspace(0, len(points) - 1, MOST_PATCHES).long()]


class PatchTarget:
    """The patches of a painting, from its map (1, C, h, w)."""

    def __init__(self, features: Tensor) -> None:
        self._points = sample(features)
        nearest = min(NEIGHBORS + 1, len(self._points))  # the nearest of all is the point itself
        distances = torch.cdist(self._points, self._points)
        self._radii = distances.kthvalue(nearest, dim=1).values

    def precision_and_recall(self, features: Tensor) -> tuple[float, float]:
        """Of a picture with this map (1, C, h, w)."""
        near = torch.cdist(sample(features), self._points) <= self._radii
        precision, recall = near.any(1), near.any(0)
        return float(precision.double().mean()), float(recall.double().mean())
