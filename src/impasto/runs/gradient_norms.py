"""Compute the gradient norm of each term of the loss at pictures of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from impasto import images
from impasto.assets import catalogue
from impasto.errors import BadPicture, BadRequest, memory_for
from impasto.inputs import read_inputs
from impasto.recipe.records import Recipe


def gradient_norms(
    recipe: Recipe, pictures: Sequence[images.Pixels], fetch: catalogue.Progress = catalogue.silent
) -> Iterator[dict[str, float]]:
    """Yield, for each picture, the norm of each term's gradient with respect to the pixels.

    Pictures are (H, W, 3), 0..1, of one of the sizes in which the recipe is painted.

    Raises:
        BadRequest: the photo, a painting or another file of the recipe is gone or has changed.
        DoesNotFit: there is not enough memory.
        AssetUnavailable: the network could not be fetched.
    """
    if recipe.photo is None or not recipe.paintings:
        raise BadPicture("The recipe names no photo or no painting.")
    paintings = [each.path for each in recipe.paintings]
    inputs = read_inputs(recipe.photo.path, paintings, recipe, fetch)
    if inputs.recipe.sha256 != recipe.sha256:
        raise BadRequest("The photo or a painting has changed since.")
    from impasto.session import Session

    with memory_for("compute the gradients"):
        yield from Session.open(inputs, fetch).gradient_norms(pictures)
