"""Faces are found where they are, at any size, and not where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from impasto import images
from impasto.geometry import Size
from impasto.regions.faces import find_faces


def as_pixels(name: str) -> np.ndarray:
    return getattr(skimage.data, name)().astype(np.float32) / 255


@pytest.mark.parametrize("side", [200, 512, 1500])
def test_a_face_is_found_where_it_is(side: int):
    photo = as_pixels("astronaut")
    scaled = images.resize(photo, Size(side, side))
    [face] = find_faces(scaled)
    eyes = np.array([116, 222]) * side / 512  # row and column between the eyes
    assert face.top < eyes[0] < face.bottom and face.left < eyes[1] < face.right
    assert 0.12 < face.size.height / side < 0.3


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_no_face_is_found_where_there_is_none(name: str):
    assert find_faces(as_pixels(name)) == []


def test_a_picture_smaller_than_a_face_has_none():
    assert find_faces(np.zeros((20, 300, 3), np.float32)) == []
    assert find_faces(np.zeros((1, 1, 3), np.float32)) == []
