"""A painting as it is given: a file, pixels, or the name of a museum painting, with a weight."""

from __future__ import annotations

import re
from dataclasses import dataclass

from impasto.assets import museum
from impasto.errors import BadRecipe
from impasto.storage.names import exists, expand_home, is_file

_WEIGHT = re.compile(r"\d+(\.\d*)?|\.\d+")
_PATH = re.compile(r"[/\\]|\.\w{2,5}$")  # a text that is a path, whether the file is there or not


@dataclass(frozen=True)
class StyleSource:
    """A painting that is not read yet.

    ``source``: a path, bytes, an open file, a PIL image, an array or a tensor. ``work``: the
    museum's painting, if it is one. ``weight``: the weight in the text, if there is one.
    ``note``: what the user should know about an ambiguous name.
    """

    source: object
    work: museum.Work | None
    weight: float | None
    note: str = ""


def parse_style(source: object) -> StyleSource:
    """Recognise a painting: "irises", "irises:0.7", a path, or anything else that has pixels.

    Raises:
        UnknownName: a name that is neither a file's nor a museum painting's.
        BadRecipe: a weight that is not above 0.
    """
    weight = None
    if isinstance(source, str) and not exists(expand_home(source)):
        name, colon, number = source.rpartition(":")
        if colon and name and _WEIGHT.fullmatch(number):
            source, weight = name, float(number)
            if weight <= 0:
                raise BadRecipe(
                    f"The weight of {name} is {number}, but it must be above 0.",
                    "Leave the painting out.",
                )
    work, note = _museum_work(source)
    return StyleSource(source, work, weight, note)


def _museum_work(source: object) -> tuple[museum.Work | None, str]:
    """The museum painting that is meant, if any, and a note if the name is ambiguous."""
    if not isinstance(source, str) or not source.strip():
        return None, ""
    path, named = expand_home(source), museum.named(source)
    if is_file(path):
        note = f"{source} is a file here; the museum's painting of that name was not taken."
        return None, note if named else ""
    if exists(path):
        note = f"{source} is the museum's painting; the folder of that name was not taken."
        return named, note if named else ""
    if _PATH.search(source):  # a missing file: reading it says so
        return None, ""
    return museum.find(source), ""
