"""Load recipes by name, from TOML and from JSON, and change single settings."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from impasto.errors import BadRecipe, UnknownName, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the same parser, under its older name
    import tomli as tomllib

from impasto.recipe.options import recipe_options
from impasto.recipe.records import Recipe
from impasto.recipe.validation import to_bad_recipe

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT_RECIPE = "default"  # the name of the recipe in which every field has its default


def from_mapping(values: Mapping[str, Any], source: str = "The recipe") -> Recipe:
    """Return a recipe from nested plain values; missing ones get their defaults.

    Args:
        values: The values by field.
        source: What the values come from, for messages: a file's name, or "".

    Raises:
        BadRecipe: a field that does not exist or a value out of range, named.
    """
    try:
        recipe = Recipe.model_validate(values)
        recipe.to_json().encode()
    except ValidationError as error:
        raise to_bad_recipe(error, source) from None
    except UnicodeEncodeError:
        raise BadRecipe(
            f"{source or 'The recipe'} holds text that no file can hold.",
            "Rename the file that it names.",
        ) from None
    return recipe


def from_toml(text: str, source: str = "The recipe") -> Recipe:
    """Return the recipe of a TOML text; raises BadRecipe if it is not one."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecipe(
            f"{source} is not TOML: {error}.", "`impasto recipes default` prints one to start from."
        ) from None
    return from_mapping(values, source)


def from_json(text: str, source: str = "The recipe") -> Recipe:
    """Return the recipe of a JSON text; raises BadRecipe if it is not one."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecipe(f"{source} is not JSON: {error}.") from None
    if not isinstance(values, dict):
        raise BadRecipe(
            f"{source} is not a recipe: it holds {type(values).__name__}, not named fields."
        )
    return from_mapping(values, source)


def _named_files() -> dict[str, Traversable]:
    """Return the recipe files of the package by name: Impasto's own and the published ones."""
    folders = [resources.files("impasto.recipe") / folder for folder in ("named", "published")]
    files = [file for folder in folders for file in folder.iterdir()]
    return {file.name.removesuffix(".toml"): file for file in files if file.name.endswith(".toml")}


def names() -> list[str]:
    """Return the names of the recipes, the default first."""
    return [DEFAULT_RECIPE, *sorted(_named_files())]


def load(name: str) -> Recipe:
    """Return a recipe by its name, or from a .toml or .json file.

    Raises:
        UnknownName: the name of neither a recipe nor a file.
        BadRecipe: a file that is not a recipe.
    """
    if name == DEFAULT_RECIPE:
        return Recipe()
    if name in names():
        return from_toml(_named_files()[name].read_text("utf-8"), name)
    try:
        text = Path(name).read_text("utf-8")
        return from_json(text, name) if name.lower().endswith(".json") else from_toml(text, name)
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise BadRecipe(f"{name} cannot be read as a recipe: it is not text.") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise BadRecipe(f"{name} cannot be read as a recipe: {error.strerror}.") from None
    hint = did_you_mean(name, names()) or f"The named ones are {', '.join(names())}."
    raise UnknownName(f"There is no recipe named {name!r}, and no such file.", hint)


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with some settings changed, by option name (dashes or underscores).

    Raises:
        BadRecipe: a setting that does not exist, or a value that it cannot have.
    """
    options = recipe_options()
    values = recipe.model_dump(mode="python", exclude_none=True)
    for setting, value in settings.items():
        name = setting.replace("_", "-")
        if name not in options:
            hint = did_you_mean(name, options) or f"The settings are {', '.join(options)}."
            raise BadRecipe(f"There is no setting {setting!r}.", hint)
        *parents, field = options[name].path
        record = values
        for parent in parents:
            record = record[parent]
        record[field] = value
        if f"{field}_sha256" in record:  # the hash is that of the previous file
            record[f"{field}_sha256"] = ""
    return from_mapping(values, "")
