"""Load a recipe from wherever it may be: a name, a recipe file, or a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from impasto.errors import UnknownName
from impasto.images.embedding import embedded_recipe
from impasto.recipe import loading
from impasto.recipe.located_files import with_located_files
from impasto.recipe.records import Recipe
from impasto.storage.names import expand_home, is_file


def load_recipe(recipe: Recipe | str, settings: Mapping[str, object]) -> Recipe:
    """A recipe by name, from a recipe file, or from a picture that carries one, with changes.

    ``settings``: option names and their values.

    Raises:
        UnknownName: no recipe of that name, and no such file.
        BadRecipe: not a recipe, or a setting that does not exist or is out of range.
    """
    if isinstance(recipe, Recipe):
        return loading.with_settings(recipe, settings)
    name = str(recipe)
    if name in loading.names():
        return loading.with_settings(loading.load(name), settings)
    file = expand_home(name)
    path = Path(file)
    if path.suffix.lower() not in (".toml", ".json") and is_file(file):
        text = embedded_recipe(path)
        if text is None:
            raise UnknownName(
                f"{name} carries no recipe.",
                "Pictures painted by Impasto do; so do .toml and .json files.",
            )
        loaded = loading.from_json(text, name)
    else:
        loaded = loading.load(file)
    return loading.with_settings(with_located_files(loaded, path.parent), settings)
