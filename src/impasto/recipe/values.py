"""Values as a person types them: lists of counts, layers with weights, amounts of memory, lengths
of time.

It knows text and numbers, both ways; it refuses to know what they are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

from impasto.errors import BadRecipe
from impasto.storage.names import file_name, file_text

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
    "T": 2**40,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
HEAVIEST = 1e15  # weight of a term: gradients of much larger ones are no numbers in float32
_SPANS = dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1)
_SPANS |= dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60)
_SPANS |= dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600)


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
    """By name: sums round by their order, and a recipe that has been through JSON must give the
    same bytes.
    """
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


def bytes_text(count: float) -> str:
    """An amount of memory as people are told of it, in the units that ``memory`` reads: "350 MB",
    "1.2 GB".
    """
    return f"{count / 1e6:.0f} MB" if count < 0.9995e9 else f"{count / 1e9:.1f} GB"


def duration(text: float | str) -> float:
    """Seconds from a number or a text such as "90", "45s", "2m", "1h30m", "1:30" or "1.5 hours".

    Raises:
        BadRecipe: it is no length of time, or not above zero.
    """
    value = str(text).strip().lower()
    clock = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):([0-5]\d)", value)  # h:mm:ss or m:ss
    if clock:
        total = 3600.0 * int(clock[1] or 0) + 60 * int(clock[2]) + int(clock[3])
    else:
        value = re.sub(r"\band\b|,(?=.)", " ", value)
        parts = [
            (number, unit or "s")
            for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value)
        ]
        # "1h30" is an hour and thirty of the next smaller unit.
        if len(parts) > 1 and value[-1].isdigit():
            parts[-1] = (parts[-1][0], "m" if parts[-2][1][0] == "h" else "s")
        bare = re.search(r"\d\s+\d", value)
        complete = re.fullmatch(r"(\d+(\.\d+)?\s*[a-z]*\s*)+", value)
        if bare or not complete or any(unit not in _SPANS for _, unit in parts):
            raise BadRecipe(
                f"{text!r} is no length of time.",
                "Write seconds, or such as 90s, 2m, 1h30m, '2 minutes'.",
            )
        total = sum(float(number) * _SPANS[unit] for number, unit in parts)
    if not 0 < total < 1e9:
        raise BadRecipe(f"{text!r} is no time to paint in.", "Give a minute or more: --time 2m.")
    return total


def bound(value: float) -> str:
    """The end of a range as people read it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def typed(value: Any) -> str:
    """A setting's value as one would type it."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={weight:g}" for name, weight in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


Count = Annotated[int, Field(ge=1, le=100_000)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(numbers), Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
Weights = Annotated[
    dict[str, Weight], BeforeValidator(weights), Field(min_length=1), AfterValidator(in_order)
]
Bytes = Annotated[int, BeforeValidator(memory)]
# Pydantic's own text refuses lone surrogates, by which Python spells a name that is not UTF-8.
FileName = Annotated[str, PlainValidator(file_name), PlainSerializer(file_text, when_used="json")]
