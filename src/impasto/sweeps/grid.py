"""The grid of a sweep: settings with several values each, and every combination of them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from impasto.errors import BadRecipe, BadRequest
from impasto.recipe import loading, options
from impasto.recipe.options import Option
from impasto.recipe.records import Recipe
from impasto.recipe.values import value_text

MOST = 100  # combinations without --yes
_LONGEST_RANGE = 10_000
# Characters of one value in a file name, and of all of them.
_LONGEST_STEM, _LONGEST_NAME = 40, 150
_EXAMPLE = "10,20,50"
_RANGE_HINT = (
    "Write FROM:TO:COUNT, such as 10:90:5 for 10, 30, 50, 70, 90, or FROM:TO for whole numbers."
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER}):({_NUMBER})(?::(\d+)(?::(log))?)?\s*")


@dataclass(frozen=True)
class Axis:
    """A setting that varies: its option name, and its values as a recipe holds them, in order."""

    name: str
    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as one would type them; a file without its folder if that is unambiguous."""
        full = [value_text(value) or "none" for value in self.values]
        names = [
            Path(text).name if isinstance(value, str) else text
            for text, value in zip(full, self.values, strict=True)
        ]
        return tuple(names if len(set(names)) == len(names) else full)

    @property
    def stems(self) -> tuple[str, ...]:
        """A part of a file name for each value; their numbers if texts are unsuitable."""
        safe = [re.sub(r"[^\w.,=+-]+", "-", text).strip("-.") for text in self.texts]
        # Some file systems do not distinguish case.
        distinct = len({stem.lower() for stem in safe}) == len(safe)
        if distinct and all(0 < len(stem) <= _LONGEST_STEM for stem in safe):
            return tuple(safe)
        return tuple(str(number) for number in range(1, len(safe) + 1))


@dataclass(frozen=True)
class Combination:
    """One value of each axis.

    ``indices`` are the values' indices, ``settings`` their texts by the axes' names, ``recipe`` the
    recipe with them, and ``stem`` a name for its files.
    """

    indices: tuple[int, ...]
    settings: dict[str, str]
    recipe: Recipe
    stem: str


def axes(base: Recipe, settings: Mapping[str, Any]) -> tuple[Recipe, tuple[Axis, ...]]:
    """Separate settings with one value from settings with several.

    Returns the base recipe with the single values, and an axis for each setting that has several,
    in the order of ``settings``. Several values are

    - a list or a ``range``;
    - "10,20,50";
    - "10:90:5": five values from 10 to 90, both included;
    - "0:4": the whole numbers from 0 to 4, both included;
    - "0.001:1:4:log": four values in equal ratios.

    Values that are lists themselves ("40,35,30", "relu4_1=1,relu5_1=2") are separated by a slash. A
    tuple or a mapping is one value.

    Raises:
        BadRecipe: there is no such setting, it cannot have this value, or a range is malformed.
    """
    known = options.recipe_options()
    single: dict[str, Any] = {}
    several: dict[str, list[Any]] = {}
    for key, value in settings.items():
        name = key.replace("_", "-")
        values = _values(known[name], value) if name in known else [value]
        if not values:
            raise BadRecipe(
                f"{name} is {value!r}, but it must be given with at least one value.",
                f"--{name} {_EXAMPLE}",
            )
        if len(values) == 1:
            single[name] = values[0]
        else:
            several[name] = values
    base = loading.with_settings(base, single)
    all_axes = [_axis(base, known[name], values) for name, values in several.items()]
    # Values that were different as text may be the same: "10,10.0".
    equal = {axis.name: axis.values[0] for axis in all_axes if len(axis.values) == 1}
    axes = tuple(axis for axis in all_axes if len(axis.values) > 1)
    return loading.with_settings(base, equal), axes


def count(axes: Sequence[Axis]) -> int:
    """The number of combinations."""
    return math.prod(len(axis.values) for axis in axes)


def combinations(
    base: Recipe, axes: Sequence[Axis], *, most: int | None = MOST
) -> list[Combination]:
    """Every combination; the last axis varies fastest.

    Raises:
        BadRequest: no axis, or more than ``most`` combinations.
    """
    if not axes:
        raise BadRequest(
            "Nothing is varied.",
            "Give a setting several values, such as --strength 10:90:5 or --init content,noise.",
        )
    if most is not None and count(axes) > most:
        product = " x ".join(f"{len(axis.values)} of {axis.name}" for axis in axes)
        raise BadRequest(
            f"These are {count(axes)} pictures ({product}), and more than {most} may be a mistake.",
            "Leave out values, or give --yes.",
        )
    result = []
    for indices in itertools.product(*(range(len(axis.values)) for axis in axes)):
        chosen = list(zip(axes, indices, strict=True))
        settings = {axis.name: axis.values[index] for axis, index in chosen}
        texts = {axis.name: axis.texts[index] for axis, index in chosen}
        stem = "_".join(f"{axis.name}-{axis.stems[index]}" for axis, index in chosen)
        result.append(Combination(indices, texts, loading.with_settings(base, settings), stem))
    if any(len(each.stem) > _LONGEST_NAME for each in result):
        result = [replace(each, stem=f"{number:04d}") for number, each in enumerate(result, 1)]
    return result


def _axis(base: Recipe, option: Option, values: Sequence[Any]) -> Axis:
    """An axis with its values checked, as the recipe holds them, each once."""
    distinct: list[Any] = []
    for value in values:
        stored: Any = loading.with_settings(base, {option.name: value})
        for attribute in option.path:
            stored = getattr(stored, attribute)
        if stored not in distinct:
            distinct.append(stored)
    return Axis(option.name, tuple(distinct))


def _values(option: Option, given: Any) -> list[Any]:
    """The values in a list, a range, a text or a single value (see ``axes``)."""
    if isinstance(given, list | range):
        return list(given)
    if not isinstance(given, str):
        return [given]
    is_list = isinstance(option.default, tuple | Mapping)
    parts = [part.strip() for part in given.split("/" if is_list else ",") if part.strip()]
    is_number = type(option.default) in (int, float) and not option.choices
    return [
        value
        for part in parts
        for value in (_range(option, part) if is_number and ":" in part else [part])
    ]


def _range(option: Option, text: str) -> list[float]:
    """The values of a range.

    "10:90:5" -> 10, 30, 50, 70, 90; "0:4" -> 0, 1, 2, 3, 4; "0.001:1:4:log" -> 0.001, 0.01, 0.1, 1.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise BadRecipe(f"{option.name} {text} is no range.", _RANGE_HINT)
    first, last, logarithmic = float(match[1]), float(match[2]), bool(match[4])
    number = _range_length(option, text, first, last, match[3])
    if logarithmic and not (first > 0 and last > 0):
        raise BadRecipe(
            f"{option.name} {text} has no ratios: both ends must be above 0.", _RANGE_HINT
        )
    shares = [index / (number - 1) for index in range(number)]
    values = [
        first * (last / first) ** share if logarithmic else first + (last - first) * share
        for share in shares
    ]
    # 0.3 and not 0.30000000000000004.
    values = [float(f"{value:.6g}") if value % 1 else value for value in values]
    return _as_integers(option, text, values) if type(option.default) is int else values


def _range_length(option: Option, text: str, first: float, last: float, count: str | None) -> int:
    """The number of values of a range, by its third part if it has one."""
    if count is None and (first % 1 or last % 1):
        raise BadRecipe(
            f"{option.name} {text} does not say how many values are meant.", _RANGE_HINT
        )
    number = int(abs(last - first)) + 1 if count is None else int(count)
    if not 2 <= number <= _LONGEST_RANGE:
        raise BadRecipe(
            f"{option.name} {text} has {number} values, but a range has 2 to {_LONGEST_RANGE}.",
            _RANGE_HINT,
        )
    return number


def _as_integers(option: Option, text: str, values: Sequence[float]) -> list[float]:
    fraction = next((value for value in values if value % 1), None)
    if fraction is not None:
        raise BadRecipe(
            f"{option.name} {text} gives {fraction:g}, but {option.name} is a whole number.",
            "Give another number of values, or list them with commas.",
        )
    return [int(value) for value in values]
