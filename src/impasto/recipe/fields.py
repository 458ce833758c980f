"""What the fields of a recipe are made of: frozen records, and settings with help and range."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


def setting(
    default: Any,
    help: str,
    *,
    option: str = "",
    unit: str = "",
    common: bool = False,
    published_only: bool = False,
    published_choices: tuple[str, ...] = (),
    **bounds: Any,
) -> Any:
    """Return a pydantic field that is an option of the command line.

    Args:
        default: The only place where the default is written.
        help: One or two sentences: what it does to the picture, then how.
        option: The option's name, where it is not the path of the field with dashes.
        unit: The unit of a number.
        common: Whether ``impasto stylize --help`` shows it; ``--help-all`` shows every setting.
        published_only: Whether only the recipes of published systems need it.
        published_choices: The choices that only the recipes of published systems need.
        bounds: The range, as pydantic's ``ge``, ``gt``, ``le`` and ``lt``.
    """
    extra: JsonDict = {
        "option": option,
        "unit": unit,
        "common": common,
        "published_only": published_only,
        "published_choices": list(published_choices),
    }
    return Field(default, description=help, json_schema_extra=extra, **bounds)


class Record(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
