"""Read the photo and the paintings of a finished run again, if they are unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from impasto import images
from impasto.assets import catalogue
from impasto.errors import ImpastoError
from impasto.inputs import read_painting
from impasto.recipe.records import Input, Recipe

Role = Literal["photo", "painting"]


@dataclass(frozen=True)
class RunInput:
    """A photo or painting of a run.

    ``picture`` is None if it is gone or has changed; ``problem`` says which.
    """

    role: Role
    name: str
    picture: images.Picture | None
    problem: str = ""


def read_inputs(recipe: Recipe, fetch: catalogue.Progress = catalogue.silent) -> list[RunInput]:
    """The photo and the paintings of a recipe, in this order."""
    photos = [recipe.photo] if recipe.photo is not None else []
    return [
        *(_read("photo", each, recipe, fetch) for each in photos),
        *(_read("painting", each, recipe, fetch) for each in recipe.paintings),
    ]


def _read(role: Role, source: Input, recipe: Recipe, fetch: catalogue.Progress) -> RunInput:
    limit = recipe.max_megapixels
    try:
        if role == "painting":
            picture = read_painting(source.path, limit, fetch)
        else:
            picture = images.read(source.path, max_megapixels=limit)
    except ImpastoError:
        return RunInput(role, source.path, None, "is not here any more")
    if source.sha256 and picture.sha256 != source.sha256:
        return RunInput(role, source.path, None, "has changed since")
    return RunInput(role, source.path, picture)
