"""Settings as options: name, help, range and choices, derived from the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from impasto.recipe import values
from impasto.recipe.records import Recipe, Record


@dataclass(frozen=True)
class Option:
    """A setting as a person meets it: its name without dashes, where it lives, and its field."""

    name: str
    path: tuple[str, ...]
    field: FieldInfo

    @property
    def default(self) -> Any:
        return self.field.default

    @property
    def help(self) -> str:
        """What it means, with unit and range."""
        notes = [self._extra["unit"]] if self._extra["unit"] else []
        limits = {type(bound).__name__: bound for bound in self.field.metadata}
        low = next(
            (values.bound(getattr(limits[k], k.lower())) for k in ("Ge", "Gt") if k in limits), ""
        )
        high = next(
            (values.bound(getattr(limits[k], k.lower())) for k in ("Le", "Lt") if k in limits), ""
        )
        if low and high:
            notes.append(f"{low} to {high}")
        return f"{self.field.description}" + (f" ({', '.join(notes)})" if notes else "")

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values where there are few; empty otherwise."""
        return (
            get_args(self.field.annotation) if get_origin(self.field.annotation) is Literal else ()
        )

    @property
    def is_flag(self) -> bool:
        return self.field.annotation is bool

    @property
    def text(self) -> str:
        """The default as one would type it."""
        return values.typed(self.default)

    def of(self, recipe: Recipe) -> str:
        """A recipe's value as one would type it."""
        value: Any = recipe
        for step in self.path:
            value = getattr(value, step)
        return values.typed(value)

    @property
    def _extra(self) -> dict[str, str]:
        return self.field.json_schema_extra  # type: ignore[return-value]


def options() -> dict[str, Option]:
    """Every setting by the name it has on the command line and in ``impasto.stylize``, in the order
    of the records.
    """
    return {option.name: option for option in _options(Recipe, ())}


def _options(record: type[BaseModel], path: tuple[str, ...]) -> Iterator[Option]:
    for name, field in record.model_fields.items():
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Record):
            yield from _options(field.annotation, here)
        elif isinstance(field.json_schema_extra, dict):
            chosen = str(field.json_schema_extra["option"]) or "-".join(here).replace("_", "-")
            yield Option(chosen, here, field)
