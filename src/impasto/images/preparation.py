"""Prepare a photo as a recipe asks, before it is painted."""

from __future__ import annotations

from collections.abc import Sequence

from impasto import images
from impasto.images import color_transfer
from impasto.recipe.records import Recipe


def prepare_photo(
    photo: images.Pixels, paintings: Sequence[images.Pixels], recipe: Recipe
) -> images.Pixels:
    """The photo (H, W, 3) after the recipe's preparation; the array itself if there is none."""
    preparation = recipe.preparation
    if preparation.median:
        photo = images.median(photo, preparation.median)
    if preparation.colours:
        statistics = [color_transfer.color_statistics(painting) for painting in paintings]
        shares = [painting.weight for painting in recipe.paintings]
        target = color_transfer.mixture(statistics, shares)
        photo = color_transfer.transfer(photo, target, preparation.colours)
    return photo
