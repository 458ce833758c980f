"""Say in one sentence what is wrong with the values of a recipe."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from impasto.errors import BadRecipe, did_you_mean
from impasto.recipe.options import recipe_options

# Pydantic's types of errors whose own message is about Python and not about the recipe.
_RULES = {
    "too_short": "given with at least one value",
    "missing": "given",
    "model_type": "a table of fields",
}
_OTHER_FIELDS = ("photo", "paintings", "name", "summary", "source", "version")


def to_bad_recipe(error: ValidationError, source: str) -> BadRecipe:
    """Return pydantic's first error as one sentence and a hint."""
    first = error.errors()[0]
    prefix = f"{source}: " if source else ""
    path = tuple(part for part in first["loc"] if isinstance(part, str))
    if first["type"] == "extra_forbidden":
        fields = [".".join(option.path) for option in recipe_options().values()]
        hint = did_you_mean(".".join(path), [*fields, *_OTHER_FIELDS])
        return BadRecipe(
            f"{prefix}there is no field {'.'.join(path)!r}.",
            hint or "`impasto recipes default` prints every field.",
        )
    # The path of a value in a list or a mapping goes on below that of the setting.
    option = next(
        (option for option in recipe_options().values() if path[: len(option.path)] == option.path),
        None,
    )
    name = option.name if option else ".".join(path)
    return BadRecipe(
        f"{prefix}{name} is {_shown(first['input'])}, but it must be {_rule(first)}.",
        f"{name}: {option.help}" if option else "",
    )


def _shown(value: object) -> str:
    """Return a value for a message: numbers bare, also where they are text, others as Python's."""
    if isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit():
        return value
    return repr(value)


def _rule(error: ErrorDetails) -> str:
    """Return what a value must be."""
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return _RULES.get(error["type"]) or message
