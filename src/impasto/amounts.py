"""Values as a person types them: lists of counts, layers with weights, amounts of memory, lengths of time.

It knows text and numbers, both ways; it refuses to know what they are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from impasto.errors import BadRecipe

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

_SPANS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}


def numbers(value: object) -> object:
    """ "80,60,30" or 80 -> (80, 60, 30) or (80,)."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int | float) else value


def weights(value: object) -> object:
    """ "relu4_1=2,relu5_1" -> {"relu4_1": 2, "relu5_1": 1}."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.replace(":", "=").split(",") if part.strip()]
        return {name.strip(): weight.strip() or 1.0 for name, _, weight in pairs}
    return value


def in_order(value: dict[str, float]) -> dict[str, float]:
    """By name: sums round by their order, and a recipe that has been through JSON must give the same bytes."""
    return dict(sorted(value.items()))


def whole(value: object) -> object:
    """ "8" -> 8, for choices among numbers."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def memory(value: object) -> object:
    """Bytes: "4GB" -> 4_000_000_000, "4GiB" and "4G" -> 4_294_967_296."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?I?B?)", value.strip().upper())
    if found is None or found[2] not in _UNITS:
        raise ValueError("a number of bytes, such as 4GB or 900MB")
    return int(float(found[1]) * _UNITS[found[2]])


def duration(text: float | str) -> float:
    """Seconds from a number or a text such as "90", "45s", "2m", "1h30m" or "1.5h".

    Raises:
        BadRecipe: it is no time, or none that is above zero.
    """
    value = str(text).strip().lower().replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d*)?)([a-z]*)", value)
    complete = "".join(number + unit for number, unit in parts) == value
    if not complete or not parts or any(unit not in _SPANS for _, unit in parts):
        raise BadRecipe(f"{text!r} is no length of time.", "Write seconds, or such as 90s, 2m, 1h30m.")
    total = sum(float(number) * _SPANS[unit] for number, unit in parts)
    if not 0 < total < 1e9:
        raise BadRecipe(f"{text!r} is no time to paint in.", "Give a minute or more: --time 2m.")
    return total


def typed(value: Any) -> str:
    """A setting's value as one would type it."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={weight:g}" for name, weight in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---- fields that take them -------------------------------------------------------------------------------------------

Count = Annotated[int, Field(ge=1, le=100_000)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(numbers), Field(min_length=1)]
Weight = Annotated[float, Field(ge=0)]
Weights = Annotated[dict[str, Weight], BeforeValidator(weights), Field(min_length=1), AfterValidator(in_order)]
Bytes = Annotated[int, BeforeValidator(memory)]
