"""The settings of a recipe as options: name, help, range, choices and section."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from impasto.recipe.fields import Record
from impasto.recipe.records import Recipe
from impasto.recipe.values import bound_text, value_text

PUBLISHED_SECTION = "Only for published recipes"
# The section of a setting by the recipe's field that holds it; of its own fields "Picture".
_SECTIONS = {
    "network": "Network",
    "content": "Content",
    "style": "Style",
    "protect": "Content",
    "nearest": "Style",
    "histogram": "Style",
    "laplacian": "Content",
    "palette": "Style",
    "smooth": "Smoothness",
    "solver": "Search",
    "schedule": "Schedule",
    "compute": "Compute",
    "output": "Output",
}
SECTIONS = tuple(dict.fromkeys(("Picture", *_SECTIONS.values(), PUBLISHED_SECTION)))


@dataclass(frozen=True)
class Option:
    """A setting of a recipe: its name without dashes, its path in the recipe, and its field."""

    name: str
    path: tuple[str, ...]
    field: FieldInfo

    @property
    def default(self) -> Any:
        return self.field.default

    @property
    def help(self) -> str:
        """What the setting does, with its unit and range."""
        unit = self._metadata["unit"]
        lowest, highest = self._bound("ge", "gt"), self._bound("le", "lt")
        limits = f"{lowest} to {highest}" if lowest and highest else ""
        notes = ", ".join(note for note in (unit, limits) if note)
        return f"{self.field.description}" + (f" ({notes})" if notes else "")

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values of a choice; empty for other settings."""
        kind = self.field.annotation
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def choices_text(self) -> str:
        """The allowed values as text, those that only published recipes need last."""
        published = self._metadata["published_choices"]
        own = ", ".join(str(choice) for choice in self.choices if choice not in published)
        return f"{own}; only for published recipes: {', '.join(published)}" if published else own

    @property
    def is_flag(self) -> bool:
        return self.field.annotation is bool

    @property
    def is_common(self) -> bool:
        """Whether the short help shows the setting."""
        return self._metadata["common"]

    @property
    def section(self) -> str:
        """The section of the help, one of ``SECTIONS``."""
        if self._metadata["published_only"]:
            return PUBLISHED_SECTION
        return _SECTIONS[self.path[0]] if len(self.path) > 1 else SECTIONS[0]

    @property
    def default_text(self) -> str:
        """The default as it would be typed."""
        return value_text(self.default)

    def value_text(self, recipe: Recipe) -> str:
        """Return the recipe's value as it would be typed."""
        value: Any = recipe
        for name in self.path:
            value = getattr(value, name)
        return value_text(value)

    def _bound(self, *kinds: str) -> str:
        """Return the first bound of these kinds as text, or "" if there is none."""
        bounds = (getattr(limit, kind, None) for limit in self.field.metadata for kind in kinds)
        return next((bound_text(bound) for bound in bounds if bound is not None), "")

    @property
    def _metadata(self) -> dict[str, Any]:
        return self.field.json_schema_extra  # type: ignore[return-value]


def recipe_options() -> dict[str, Option]:
    """Return every setting by its name on the command line, in the order of the records."""
    return {option.name: option for option in _options(Recipe, ())}


def _options(record: type[BaseModel], path: tuple[str, ...]) -> Iterator[Option]:
    """Yield the settings of a record and of the records in it; ``path`` leads to the record."""
    for name, field in record.model_fields.items():
        field_path = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Record):
            yield from _options(field.annotation, field_path)
        elif isinstance(field.json_schema_extra, dict):
            option = field.json_schema_extra["option"] or "-".join(field_path).replace("_", "-")
            yield Option(str(option), field_path, field)
