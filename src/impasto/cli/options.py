"""Options of the commands that have one for each setting of a recipe."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from cyclopts import Group, Parameter

from impasto import recipe as recipes


def option(field: str, kind: Any, default: Any, help: str, **more: Any) -> inspect.Parameter:
    """An option of a command; ``more`` is cyclopts' own."""
    annotation = Annotated[kind, Parameter(help=help, **more)]
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def setting(one: recipes.Option, kind: Any, group: Group, shown: str) -> inspect.Parameter:
    """The option of a setting, None where it is not given; ``shown`` is the default that its help tells, if any."""
    help = f"{one.help} [default: {shown}]" if shown else one.help
    field = one.name.replace("-", "_")
    return option(field, kind | None, None, help, name=f"--{one.name}", show_default=False, group=group)
