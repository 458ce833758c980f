"""What is varied: settings with several values each, and every combination of them.

It knows how lists and ranges are written and how a combination is called. It refuses to know what
is done with one.
"""

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
from impasto.recipe import values as amounts
from impasto.recipe.options import Option
from impasto.recipe.records import Recipe

MOST = 100  # combinations that are taken without being asked for twice
_LONGEST_RANGE = 10_000
_LONGEST_STEM, _LONGEST_NAME = 40, 150  # of a value in a file's name, of all of them
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER}):({_NUMBER})(?::(\d+)(?::(log))?)?\s*")


@dataclass(frozen=True)
class Axis:
    """A setting that is varied, by its option name, and its values in order, each as the recipe
    holds it.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as one would type them; of a file its name, where that tells it from the
        others.
        """
        whole = [amounts.value_text(value) or "none" for value in self.values]
        names = [
            Path(text).name if isinstance(value, str) else text
            for text, value in zip(whole, self.values, strict=True)
        ]
        return tuple(names if len(set(names)) == len(names) else whole)

    @property
    def stems(self) -> tuple[str, ...]:
        """The values as parts of file names, each another."""
        safe = [re.sub(r"[^\w.,=+-]+", "-", text).strip("-.") for text in self.texts]
        plain = len({stem.lower() for stem in safe}) == len(safe) and all(
            0 < len(stem) <= _LONGEST_STEM for stem in safe
        )
        return tuple(safe if plain else [f"{number}" for number in range(1, len(safe) + 1)])


@dataclass(frozen=True)
class Combination:
    """One value of each axis: their indices, the values as texts by the axes' names, the recipe
    that they make, and a name for its files.
    """

    indices: tuple[int, ...]
    settings: dict[str, str]
    recipe: Recipe
    stem: str


def axes(base: Recipe, settings: Mapping[str, Any]) -> tuple[Recipe, tuple[Axis, ...]]:
    """Settings by option name, sorted: those of one value change the recipe, those of several are
    axes, in their order.

    A list or ``range`` holds several values, and so does a text: "10,20,50"; "10:90:5" for five
    values from 10 to 90, both included; "0:4" for the whole numbers from 0 to 4, both included;
    "0.001:1:4:log" for equal ratios. Where a value is itself a list ("40,35,30",
    "relu4_1=1,relu5_1=2") values are divided by a slash. A tuple or a mapping is one value.

    Raises:
        BadRecipe: no such setting, a value that it cannot have, or a range that is none.
    """
    known = options.recipe_options()
    single: dict[str, Any] = {}
    several: dict[str, list[Any]] = {}
    for given, value in settings.items():
        name = given.replace("_", "-")
        spread = _spread(known[name], value) if name in known else [value]
        if not spread:
            raise BadRecipe(
                f"{name} is {value!r}, but it must be given with at least one value.",
                f"--{name} {_EXAMPLE}",
            )
        if len(spread) == 1:
            single[name] = spread[0]
        else:
            several[name] = spread
    base = loading.with_settings(base, single)
    found = (_axis(base, known[name], values) for name, values in several.items())
    kept = [axis for axis in found if len(axis.values) > 1]
    same = {
        name: values[0]
        for name, values in several.items()
        if name not in [axis.name for axis in kept]
    }
    return loading.with_settings(base, same), tuple(kept)


def count(axes: Sequence[Axis]) -> int:
    """How many combinations there are."""
    return math.prod(len(axis.values) for axis in axes)


def combinations(
    base: Recipe, axes: Sequence[Axis], *, most: int | None = MOST
) -> list[Combination]:
    """Every combination, the last axis varying first.

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
            f"These are {count(axes)} pictures ({product}), and more than {most} are not meant "
            f"by chance.",
            "Leave values out, or give --yes.",
        )
    found = []
    for indices in itertools.product(*(range(len(axis.values)) for axis in axes)):
        chosen = list(zip(axes, indices, strict=True))
        settings = {axis.name: axis.values[index] for axis, index in chosen}
        texts = {axis.name: axis.texts[index] for axis, index in chosen}
        stem = "_".join(f"{axis.name}-{axis.stems[index]}" for axis, index in chosen)
        found.append(Combination(indices, texts, loading.with_settings(base, settings), stem))
    if any(len(each.stem) > _LONGEST_NAME for each in found):
        found = [replace(each, stem=f"{number:04d}") for number, each in enumerate(found, 1)]
    return found


_EXAMPLE = "10,20,50"


def _axis(base: Recipe, option: Option, values: Sequence[Any]) -> Axis:
    """Each value checked and as the recipe holds it; what is given twice counts once."""
    held: list[Any] = []
    for value in values:
        room: Any = loading.with_settings(base, {option.name: value})
        for step in option.path:
            room = getattr(room, step)
        if room not in held:
            held.append(room)
    return Axis(option.name, tuple(held))


def _spread(option: Option, given: Any) -> list[Any]:
    if isinstance(given, list | range):
        return list(given)
    if not isinstance(given, str):
        return [given]
    listed = isinstance(option.default, tuple | Mapping)
    parts = [part.strip() for part in given.split("/" if listed else ",") if part.strip()]
    numeric = type(option.default) in (int, float) and not option.choices
    return [
        value
        for part in parts
        for value in (_range(option, part) if numeric and ":" in part else [part])
    ]


def _range(option: Option, text: str) -> list[float]:
    """ "10:90:5" -> 10, 30, 50, 70, 90; "0:4" -> 0, 1, 2, 3, 4; "0.001:1:4:log" -> 0.001, 0.01,
    0.1, 1.
    """
    found = _RANGE.fullmatch(text)
    example = "FROM:TO:COUNT, such as 10:90:5 for 10, 30, 50, 70, 90, or FROM:TO for whole numbers."
    if found is None:
        raise BadRecipe(f"{option.name} {text} is no range.", f"Write {example}")
    first, last, many = float(found[1]), float(found[2]), found[3]
    whole = type(option.default) is int
    if many is None:
        if first % 1 or last % 1:
            raise BadRecipe(
                f"{option.name} {text} does not say how many values are meant.", f"Write {example}"
            )
        many = str(int(abs(last - first)) + 1)
    number = int(many)
    if not 2 <= number <= _LONGEST_RANGE:
        raise BadRecipe(
            f"{option.name} {text} has {number} values, but a range has 2 to {_LONGEST_RANGE}.",
            f"Write {example}",
        )
    if found[4] and not (first > 0 and last > 0):
        raise BadRecipe(
            f"{option.name} {text} has no ratios: both ends must be above 0.", f"Write {example}"
        )
    shares = [index / (number - 1) for index in range(number)]
    values = [
        first * (last / first) ** share if found[4] else first + (last - first) * share
        for share in shares
    ]
    # 0.3 and not 0.30000000000000004.
    values = [float(f"{value:.6g}") if value % 1 else value for value in values]
    if whole and any(value % 1 for value in values):
        raise BadRecipe(
            f"{option.name} {text} gives {next(v for v in values if v % 1):g}, but {option.name} "
            f"is a whole number.",
            "Give another number of values, or list them with commas.",
        )
    return [int(value) for value in values] if whole else values
