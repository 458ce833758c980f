"""Patch precision and recall, against the paper's definition and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from impasto.comparisons import precision_recall
from impasto.comparisons.precision_recall import PatchTarget


def drawn(count: int, center: list[float], spread: float, seed: int) -> torch.Tensor:
    """A map (1, 3, 1, count) of features around a direction."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.tensor(center)[:, None] + spread * torch.randn(3, count, generator=generator)
    return points.view(1, 3, 1, count)


def by_definition(current: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    """Both shares point by point, for features of length 1."""
    rows = [each[0].flatten(1).T.double().numpy() for each in (current, target)]
    points, others = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in rows)
    radii = np.sort(cdist(others, others), axis=1)[:, precision_recall.NEIGHBORS]
    precision = np.mean([(cdist(point[None], others)[0] <= radii).any() for point in points])
    recall = np.mean(
        [
            (cdist(points, other[None])[:, 0] <= r).any()
            for other, r in zip(others, radii, strict=True)
        ]
    )
    return float(precision), float(recall)


def test_the_shares_are_those_of_the_papers():
    one, other = drawn(150, [1, 1, 0], 0.4, 0), drawn(190, [1, 0.3, 0.4], 0.3, 1)
    found = PatchTarget(other).precision_and_recall(one)
    assert found == pytest.approx(by_definition(one, other), abs=0.02)
    assert all(0.02 < each < 0.98 for each in found)


def test_a_picture_has_all_patches_of_itself():
    own = drawn(200, [1, 1, 0], 0.4, 0)
    assert PatchTarget(own).precision_and_recall(own) == (1, 1)


def test_an_average_lacks_precision_and_a_wallpaper_recall():
    strokes = torch.cat([drawn(200, [1, 0, 0], 0.05, 0), drawn(200, [0, 1, 0], 0.05, 1)], 3)
    painting = PatchTarget(strokes)
    average, wallpaper = drawn(400, [1, 1, 0], 0.05, 2), drawn(400, [1, 0, 0], 0.05, 3)
    assert painting.precision_and_recall(average)[0] < 0.05
    precision, recall = painting.precision_and_recall(wallpaper)
    assert precision > 0.8 and recall < 0.55


def test_a_large_map_is_sampled_evenly_and_a_tiny_one_is_enough():
    assert precision_recall.sample(torch.rand(1, 4, 80, 90)).shape == (
        precision_recall.MOST_PATCHES,
        4,
    )
    tiny = torch.rand(1, 4, 1, 2)
    assert PatchTarget(tiny).precision_and_recall(tiny) == (1, 1)
