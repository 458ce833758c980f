"""Faces are found where they are, at any size, and not where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from impasto import images
from impasto.geometry import Region, Size
from impasto.regions.faces import face_mask, find_faces, protected_faces


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


def test_the_mask_has_a_faces_value_on_it_and_zero_away_from_it():
    mask = face_mask({Region(40, 60, 80, 100): 0.5}, Size(150, 200))
    assert mask.shape == (150, 200) and mask.dtype == np.float32
    assert mask[47:78, 70:90].min() == mask.max() == 0.5
    assert mask[:10].max() == mask[120:].max() == mask[:, :40].max() == mask[:, 125:].max() == 0
    assert 0 < mask[60, 107] < 0.5


def test_small_faces_are_protected_in_full():
    mask = protected_faces(as_pixels("astronaut"))
    assert mask is not None and mask[110, 222] == 1 and mask[400, 222] == 0
    assert protected_faces(as_pixels("coffee")) is None


def test_the_larger_a_face_the_less_it_is_protected():
    astronaut = as_pixels("astronaut")
    masks = [protected_faces(astronaut[20 : 20 + side, 120 : 120 + side]) for side in (300, 220)]
    assert masks[0] is not None and masks[1] is not None
    assert 1 > masks[0].max() > masks[1].max() > 0
    assert protected_faces(astronaut[40:200, 140:300]) is None  # it fills the picture
