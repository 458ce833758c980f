"""Options of commands: shared types, and one option for each setting of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from impasto.recipe.options import SECTIONS, Option, recipe_options
from impasto.storage.names import expand_home


def to_path(kind: Any, tokens: Sequence[Token]) -> Path:
    """Return a typed path; shells leave the ``~`` in ``--output=~/painted.png`` as it is."""
    return Path(expand_home(tokens[0].value))


File = Annotated[Path | None, Parameter(converter=to_path)]
Folder = Annotated[Path, Parameter(converter=to_path)]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"], converter=to_path)]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", show_default=False)]
# Text without a default to show in the help.
Text = Annotated[str, Parameter(show_default=False)]

_OWN_GROUP = Group("What to paint", sort_key=0)
_FIRST_SECTION = 1  # sort key of the first section of settings


class Value(str):
    """A setting as it was typed. The recipe checks it, with the same messages as the Python API."""


def add_recipe_options(
    command: Callable[..., None],
    *,
    only_common: bool,
    help: str,
    several_values: bool = False,
    rare: Sequence[str] = (),
) -> Callable[..., None]:
    """Return the command with one option for each setting of a recipe.

    Cyclopts reads the options of a command from its signature. The settings and their help stand in
    the records of ``impasto.recipe``, so they are not repeated here: the parameter ``**settings``
    of ``command`` is replaced by one keyword parameter for each setting. A setting that is not
    typed is not passed.

    Args:
        command: A function with the parameter ``**settings``.
        only_common: Whether to leave out all but the common settings, for the short help. Without
            it every setting is there, in sections.
        help: Text above the first settings.
        several_values: Whether a setting is text that may hold several values.
        rare: The command's own parameters that ``only_common`` leaves out.
    """

    def extended(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    own = [
        parameter.replace(annotation=Annotated[parameter.annotation, Parameter(group=_OWN_GROUP)])
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        and not (only_common and parameter.name in rare)
    ]
    if only_common:
        groups = dict.fromkeys(SECTIONS, Group("Settings", help=help, sort_key=_FIRST_SECTION))
    else:
        groups = _section_groups(help)
    settings = [
        _parameter(option, groups[option.section], several_values)
        for option in recipe_options().values()
        if option.is_common or not only_common
    ]
    extended.__name__, extended.__doc__ = command.__name__, command.__doc__
    extended.__signature__ = signature.replace(parameters=[*own, *settings])  # type: ignore[attr-defined]
    return extended


def _section_groups(help: str) -> dict[str, Group]:
    """Return the groups of the full help by section; the text stands above the first of them."""
    return {
        section: Group(section, help=help * (key == _FIRST_SECTION), sort_key=key)
        for key, section in enumerate(SECTIONS, _FIRST_SECTION)
    }


def _parameter(option: Option, group: Group, several_values: bool) -> inspect.Parameter:
    """Return the keyword parameter of a setting; its default is None, for "not typed"."""
    kind: Any = Value
    if not several_values and (option.is_flag or option.choices):
        kind = bool if option.is_flag else Literal[option.choices]
    parameter = Parameter(
        name=f"--{option.name}",
        help=_help(option, several_values),
        group=group,
        show_default=False,
        show_choices=False,
    )
    return inspect.Parameter(
        option.name.replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, parameter],
    )


def _help(option: Option, several_values: bool) -> str:
    """Return the help of a setting, with its choices and its default."""
    notes = [f"choices: {option.choices_text}"] if option.choices else []
    if option.default_text and (option.default is not False or several_values):
        notes.append(f"default: {option.default_text}")
    return " ".join([option.help, *(f"[{note}]" for note in notes)])
