"""Convert settings between values and the text that people type: layers, memory, times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

from impasto.errors import BadRecipe
from impasto.storage.names import file_name_text, parse_file_name

MAX_WEIGHT = 1e15  # of a loss term: with larger ones gradients overflow in float32
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1)
_SECONDS |= dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60)
_SECONDS |= dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600)


def parse_counts(value: object) -> object:
    """Return "80,60,30" as (80, 60, 30) and 80 as (80,); other values as they are."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int | float) else value


def parse_weights(value: object) -> object:
    """Return "relu4_1=2,relu5_1" as {"relu4_1": 2, "relu5_1": 1}; other values as they are."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.replace(":", "=").split(",") if part.strip()]
        return {name.strip(): weight.strip() or 1.0 for name, _, weight in pairs}
    return value


def sort_by_name(weights: dict[str, float]) -> dict[str, float]:
    """Return the weights sorted by name.

    Floating-point sums depend on their order. JSON sorts names, and a recipe that has been through
    JSON must give the same bytes.
    """
    return dict(sorted(weights.items()))


def parse_integer(value: object) -> object:
    """Return "8" as 8, for choices among integers; other values as they are."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def parse_memory(value: object) -> object:
    """Return bytes: "4GB" as 4_000_000_000, "4GiB" and "4G" as 4_294_967_296.

    Raises:
        ValueError: a text that is no amount of memory.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?I?B?)", value.strip().upper())
    if match is None or match[2] not in _BYTES:
        raise ValueError("a number of bytes, such as 4GB or 900MB")
    return int(float(match[1]) * _BYTES[match[2]])


def bytes_text(count: float) -> str:
    """Return an amount of memory as ``parse_memory`` reads it: "350 MB", "1.2 GB"."""
    return f"{count / 1e6:.0f} MB" if count < 0.9995e9 else f"{count / 1e9:.1f} GB"


def parse_duration(text: float | str) -> float:
    """Return seconds from a number or a text: "90", "45s", "2m", "1h30m", "1:30", "1.5 hours".

    Raises:
        BadRecipe: it is no length of time, or not above zero.
    """
    typed = str(text).strip().lower()
    seconds = _clock_seconds(typed)
    if seconds is None:
        seconds = _unit_seconds(typed)
    if seconds is None:
        raise BadRecipe(
            f"{text!r} is no length of time.",
            "Write seconds, or such as 90s, 2m, 1h30m, '2 minutes'.",
        )
    if not 0 < seconds < 1e9:
        raise BadRecipe(f"{text!r} is no time to paint in.", "Give a minute or more: --time 2m.")
    return seconds


def _clock_seconds(text: str) -> float | None:
    """Return the seconds of h:mm:ss or m:ss, or None for another text."""
    clock = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):([0-5]\d)", text)
    return 3600.0 * int(clock[1] or 0) + 60 * int(clock[2]) + int(clock[3]) if clock else None


def _unit_seconds(text: str) -> float | None:
    """Return the seconds of numbers with units, or None for another text."""
    text = re.sub(r"\band\b|,(?=.)", " ", text)
    parts = [
        (number, unit or "s") for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    ]
    # "1h30" is one hour and thirty of the next smaller unit.
    if len(parts) > 1 and text[-1].isdigit():
        parts[-1] = (parts[-1][0], "m" if parts[-2][1][0] == "h" else "s")
    numbers_side_by_side = re.search(r"\d\s+\d", text)
    complete = re.fullmatch(r"(\d+(\.\d+)?\s*[a-z]*\s*)+", text)
    if numbers_side_by_side or not complete or any(unit not in _SECONDS for _, unit in parts):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def bound_text(bound: float) -> str:
    """Return one end of a range as text."""
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def value_text(value: Any) -> str:
    """Return a setting's value as it would be typed."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={weight:g}" for name, weight in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


Count = Annotated[int, Field(ge=1, le=100_000)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(parse_counts), Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
Weights = Annotated[
    dict[str, Weight],
    BeforeValidator(parse_weights),
    Field(min_length=1),
    AfterValidator(sort_by_name),
]
Bytes = Annotated[int, BeforeValidator(parse_memory)]
# Pydantic's own text refuses lone surrogates, by which Python spells a name that is not UTF-8.
FileName = Annotated[
    str, PlainValidator(parse_file_name), PlainSerializer(file_name_text, when_used="json")
]
