"""After which evaluations of a run its picture is kept, and what the file of each is called.

It knows numbers and names. It refuses to know how a picture is painted, and who writes it where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from impasto.errors import BadRequest, CannotWrite

HOW = "--snapshots 100,300 for these evaluations, or --snapshots every=50"


@dataclass(frozen=True)
class Snapshots:
    """The evaluations of the whole run, counted from 1, after which the picture is kept: those of
    ``at``, and the multiples of ``every`` (0: of nothing).
    """

    at: tuple[int, ...] = ()
    every: int = 0

    def __contains__(self, evaluations: int) -> bool:
        return evaluations in self.at or bool(self.every and evaluations % self.every == 0)

    def __bool__(self) -> bool:
        return bool(self.at or self.every)

    def __str__(self) -> str:
        """As one would type it; "" for none."""
        return ",".join([*map(str, self.at), *([f"every={self.every}"] if self.every else [])])

    def beyond(self, evaluations: int) -> str:
        """What is asked for and never comes in a run of so many evaluations, as text; "" where all
        of it comes.
        """
        at = tuple(number for number in self.at if number > evaluations)
        return str(Snapshots(at, self.every if self.every > evaluations else 0))


def parse(given: str | Iterable[int]) -> Snapshots:
    """From "100,300", "every=50", both in one text, or whole numbers.

    Raises:
        BadRequest: a number that is none of an evaluation.
    """
    parts = [
        part.strip() for part in (given.split(",") if isinstance(given, str) else map(str, given))
    ]
    at, every = set(), 0
    for part in filter(None, parts):
        found = re.fullmatch(r"(every\s*=\s*)?0*([1-9]\d{0,8})", part)
        if found is None:
            raise BadRequest(
                f"snapshots has {part!r}, but it must be whole numbers from 1 on.", f"Write {HOW}."
            )
        number = int(found[2])
        if not found[1]:
            at.add(number)
        elif every:
            raise BadRequest("snapshots says every= more than once.", f"Write {HOW}.")
        else:
            every = number
    return Snapshots(tuple(sorted(at)), every)


def check_kept(wanted: Snapshots, anywhere: bool) -> None:
    """Raises CannotWrite where snapshots are wanted and there is no run folder to keep them in."""
    if wanted and not anywhere:
        raise CannotWrite(
            "Snapshots are kept in the run's folder, and there is none.", "Leave --no-run out."
        )


def file_name(evaluations: int) -> str:
    return f"evaluation-{evaluations:06d}.png"


def evaluations_of(name: str) -> int | None:
    """The number in a file's name; None for a file that is no snapshot."""
    found = re.fullmatch(r"evaluation-(\d{6,})\.png", name)
    return int(found[1]) if found else None
