"""Read recipes by name, from TOML, from JSON, and change single settings."""

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
else:  # pragma: no cover - the same parser under its older name
    import tomli as tomllib

from impasto.recipe.options import options
from impasto.recipe.records import Recipe

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

CHECKPOINT_SECONDS = 30.0  # between two states of a run: what a power cut costs at most
EXPLAIN_SIZE, EXPLAIN_ITERATIONS = 256, 100  # of the pictures that show what the network sees
DEFAULT_RECIPE = "default"  # the recipe that is used where none is named: the fields' own defaults


def from_mapping(values: Mapping[str, Any], source: str = "The recipe") -> Recipe:
    """A recipe from nested plain values; what is missing has its default.

    Raises:
        BadRecipe: a field that does not exist or a value out of range, named.
    """
    try:
        recipe = Recipe.model_validate(values)
        recipe.to_json().encode()
    except ValidationError as error:
        raise _civil(error, source) from None
    except UnicodeEncodeError:
        raise BadRecipe(
            f"{source or 'The recipe'} holds text that no file can hold.",
            "Rename the file that it names.",
        ) from None
    return recipe


def from_toml(text: str, source: str = "The recipe") -> Recipe:
    """A recipe from TOML text; raises BadRecipe where it is not one."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRecipe(
            f"{source} is not TOML: {error}.", "`impasto recipes default` prints one to start from."
        ) from None
    return from_mapping(values, source)


def from_json(text: str, source: str = "The recipe") -> Recipe:
    """A recipe from JSON text; raises BadRecipe where it is not one."""
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
    """The recipe files of the package by name: our own and the published ones."""
    folders = [resources.files("impasto.recipe") / folder for folder in ("named", "published")]
    files = [file for folder in folders for file in folder.iterdir()]
    return {file.name.removesuffix(".toml"): file for file in files if file.name.endswith(".toml")}


def names() -> list[str]:
    """The named recipes, the default first."""
    return [DEFAULT_RECIPE, *sorted(_named_files())]


def load(name: str) -> Recipe:
    """A recipe by name, or from a .toml or .json file.

    Raises:
        UnknownName: neither a named recipe nor a file.
        BadRecipe: a file that is no recipe.
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
    """The recipe with some settings changed, each by its option name (dashes or underscores).

    Raises:
        BadRecipe: no such setting, or a value that it cannot have.
    """
    known = options()
    values = recipe.model_dump(mode="python", exclude_none=True)
    for given, value in settings.items():
        option = known.get(given.replace("_", "-"))
        if option is None:
            hint = (
                did_you_mean(given.replace("_", "-"), known)
                or f"The settings are {', '.join(known)}."
            )
            raise BadRecipe(f"There is no setting {given!r}.", hint)
        room = values
        for step in option.path[:-1]:
            room = room[step]
        room[option.path[-1]] = value
        if (recorded := f"{option.path[-1]}_sha256") in room:  # of the file that was named before
            room[recorded] = ""
    return from_mapping(values, "")


_RULES = {
    "too_short": "given with at least one value",
    "missing": "given",
    "model_type": "a table of fields",
}


def _civil(error: ValidationError, source: str) -> BadRecipe:
    """The first thing that is wrong, in one sentence."""
    first = error.errors()[0]
    where = tuple(part for part in first["loc"] if isinstance(part, str))
    names = {option.path: name for name, option in options().items()}
    given = first["input"]
    shown = (
        given
        if isinstance(given, str) and given.lstrip("-").replace(".", "", 1).isdigit()
        else repr(given)
    )
    prefix = f"{source}: " if source else ""
    if first["type"] == "extra_forbidden":
        known = [".".join(path) for path in names] + [
            "photo",
            "paintings",
            "name",
            "summary",
            "source",
            "version",
        ]
        hint = (
            did_you_mean(".".join(where), known) or "`impasto recipes default` prints every field."
        )
        return BadRecipe(f"{prefix}there is no field {'.'.join(where)!r}.", hint)
    path = next((path for path in names if where[: len(path)] == path), where)
    name = names.get(path, ".".join(path))
    rule = _RULES.get(first["type"]) or first["msg"].removeprefix("Input should be ").removeprefix(
        "Value error, "
    )
    allowed = options()[name].help if name in names.values() else ""
    return BadRecipe(
        f"{prefix}{name} is {shown}, but it must be {rule}.",
        f"{name}: {allowed}" if allowed else "",
    )
