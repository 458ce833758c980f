"""A run looked at again: the photo and the paintings that it was made from, and how strongly each
term pulled.

It knows that only what is unchanged may be looked at. It refuses to know run folders and what is
made of the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from impasto import images
from impasto.assets import catalogue
from impasto.errors import BadPicture, BadRequest, ImpastoError, memory_for
from impasto.inputs import read_inputs, read_painting
from impasto.recipe.records import Input, Recipe


@dataclass(frozen=True)
class Given:
    """A picture that went in; ``picture`` is None where it is not here any more, and ``why`` says
    so.
    """

    role: Literal["photo", "painting"]
    name: str
    picture: images.Picture | None
    why: str = ""


def inputs(recipe: Recipe, fetch: catalogue.Progress = catalogue.silent) -> list[Given]:
    """The photo and the paintings of a recipe, each as it is if it is here and unchanged."""
    photos = [recipe.photo] if recipe.photo is not None else []
    return [*(_given("photo", one, recipe, fetch) for one in photos)] + [
        _given("painting", one, recipe, fetch) for one in recipe.paintings
    ]


def _given(
    role: Literal["photo", "painting"], one: Input, recipe: Recipe, fetch: catalogue.Progress
) -> Given:
    limit = recipe.max_megapixels
    try:
        found = (
            read_painting(one.path, limit, fetch)
            if role == "painting"
            else images.read(one.path, max_megapixels=limit)
        )
    except ImpastoError:
        return Given(role, one.path, None, "is not here any more")
    if one.sha256 and found.sha256 != one.sha256:
        return Given(role, one.path, None, "has changed since")
    return Given(role, one.path, found)


def gradients(
    recipe: Recipe, pictures: Sequence[images.Pixels], fetch: catalogue.Progress = catalogue.silent
) -> Iterator[dict[str, float]]:
    """How strongly each term of a recipe pulls at each of some pictures of its run (see
    ``wiring.gradients``).

    Each of the pictures, (H, W, 3), 0..1, has one of the sizes in which the recipe is painted.

    Raises:
        BadRequest: the recipe's photo, a painting or another of its files is not here, or has
            changed since.
        DoesNotFit: there is not enough memory.
        AssetUnavailable: the network could not be fetched.
    """
    if recipe.photo is None or not recipe.paintings:
        raise BadPicture("The recipe names no photo or no painting.")
    asked = read_inputs(recipe.photo.path, [one.path for one in recipe.paintings], recipe, fetch)
    if asked.recipe.sha256 != recipe.sha256:
        raise BadRequest("The photo or a painting has changed since.")
    from impasto.session import Session

    with memory_for("compute the gradients"):
        yield from Session.open(asked, fetch).gradient_norms(pictures)
