"""Read finished pictures, and the photo and painting that their recipes name."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impasto import images
from impasto.assets import catalogue, museum
from impasto.errors import BadRecipe, BadRequest
from impasto.images.opening import Source
from impasto.inputs import read_painting
from impasto.recipe import loading
from impasto.recipe.choices import NetworkName
from impasto.recipe.records import Input, Recipe
from impasto.runs import folder
from impasto.storage.names import is_file

MAX_MEGAPIXELS = Recipe().max_megapixels  # of a picture that is read
InputRole = Literal["photo", "painting"]
_OPTIONS = {"photo": "--content PHOTO", "painting": "--style STYLE"}


@dataclass(frozen=True)
class PaintedPicture:
    """A picture to be scored, and the recipe that is embedded in it, if there is one."""

    picture: images.Picture
    recipe: Recipe | None

    @property
    def path(self) -> Path:
        return Path(self.picture.source)

    @property
    def painter(self) -> NetworkName | None:
        """The network that painted it, if it has a recipe."""
        return self.recipe.network.name if self.recipe else None


def read_result(source: Source) -> PaintedPicture:
    """Read a picture with its recipe. Recipes of other programs or versions are ignored."""
    picture = images.read(source, max_megapixels=MAX_MEGAPIXELS)
    text = images.embedded_recipe(picture.source) if isinstance(source, str | Path) else None
    try:
        return PaintedPicture(picture, loading.from_json(text) if text else None)
    except BadRecipe:
        return PaintedPicture(picture, None)


def recorded_input(
    results: Sequence[PaintedPicture], role: InputRole, fetch: catalogue.Progress
) -> images.Picture:
    """Read the photo or the painting that the recipes of the results name.

    Raises:
        BadRequest: they name none, several, or one that is gone or has changed.
    """
    result, source = _named_input(results, role)
    for candidate in _candidates(result, source, role):
        picture = read_painting(candidate, MAX_MEGAPIXELS, fetch)
        if source.sha256 in ("", picture.sha256):
            return picture
    raise BadRequest(
        f"{result.picture.source} was painted from the {role} {source.path}, which is not here.",
        f"Name it: {_OPTIONS[role]}.",
    )


def _named_input(
    results: Sequence[PaintedPicture], role: InputRole
) -> tuple[PaintedPicture, Input]:
    """The one photo or painting that the recipes name, with the first result that names it."""
    named: dict[str, tuple[PaintedPicture, Input]] = {}
    for result in results:
        for source in _inputs(result.recipe, role):
            named.setdefault(source.sha256 or source.path, (result, source))
    if not named:
        first = results[0].picture.source
        raise BadRequest(
            f"{first} does not say from which {role} it was painted.",
            f"Name it: {_OPTIONS[role]}.",
        )
    if len(named) > 1:
        names = ", ".join(source.path for _, source in named.values())
        raise BadRequest(
            f"The pictures name several {role}s: {names}.",
            f"Name the one to compare with: {_OPTIONS[role]}.",
        )
    [pair] = named.values()
    return pair


def _inputs(recipe: Recipe | None, role: InputRole) -> tuple[Input, ...]:
    if recipe is None:
        return ()
    if role == "painting":
        return recipe.paintings
    return (recipe.photo,) if recipe.photo is not None else ()


def _candidates(result: PaintedPicture, source: Input, role: InputRole) -> list[str]:
    """Where a photo or painting can be, in the order in which to look.

    These are the path in the run's folder, the name in the current folder, the name beside the
    result, and the museum. The recipe in a picture names files without their folders; that in the
    run's folder has them.
    """
    recorded: Recipe | None = None
    with contextlib.suppress(BadRequest):
        recorded = loading.load(str(folder.beside(result.path) / folder.RECIPE))
    paths = [each.path for each in _inputs(recorded, role) if each.sha256 == source.sha256]
    paths += [source.path, str(result.path.parent / Path(source.path).name)]
    slugs = [work.slug for work in museum.all_paintings()] if role == "painting" else []
    return [path for path in paths if is_file(path)] + [
        slug for slug in slugs if slug == source.path
    ]
