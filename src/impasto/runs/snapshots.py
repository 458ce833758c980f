"""Which evaluations of a run get a snapshot, and what the snapshots' files are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from impasto.errors import BadRequest, CannotWrite

_USAGE = "--snapshots 100,300 for these evaluations, or --snapshots every=50"


@dataclass(frozen=True)
class Snapshots:
    """Evaluations of the whole run, counted from 1, after which the picture is saved.

    These are ``numbers`` and the multiples of ``every``, where 0 means none.
    """

    numbers: tuple[int, ...] = ()
    every: int = 0

    def __contains__(self, evaluations: int) -> bool:
        return evaluations in self.numbers or bool(self.every and evaluations % self.every == 0)

    def __bool__(self) -> bool:
        return bool(self.numbers or self.every)

    def __str__(self) -> str:
        """The text that ``parse`` reads; "" for none."""
        return ",".join([*map(str, self.numbers), *([f"every={self.every}"] if self.every else [])])

    def beyond(self, evaluations: int) -> str:
        """The snapshots that a run of so many evaluations never reaches, as text; "" if none."""
        numbers = tuple(number for number in self.numbers if number > evaluations)
        return str(Snapshots(numbers, self.every if self.every > evaluations else 0))


def parse(given: str | Iterable[int]) -> Snapshots:
    """The snapshots in "100,300", in "every=50", in both joined by a comma, or in whole numbers.

    Raises:
        BadRequest: a part is no positive whole number, or ``every=`` stands twice.
    """
    parts = given.split(",") if isinstance(given, str) else map(str, given)
    numbers, every = set(), 0
    for part in filter(None, (part.strip() for part in parts)):
        match = re.fullmatch(r"(every\s*=\s*)?0*([1-9]\d{0,8})", part)
        if match is None:
            raise BadRequest(
                f"snapshots has {part!r}, but it must be whole numbers from 1 on.",
                f"Write {_USAGE}.",
            )
        number = int(match[2])
        if not match[1]:
            numbers.add(number)
        elif every:
            raise BadRequest("snapshots has every= more than once.", f"Write {_USAGE}.")
        else:
            every = number
    return Snapshots(tuple(sorted(numbers)), every)


def check_kept(snapshots: Snapshots, has_folder: bool) -> None:
    """Raise CannotWrite if there are snapshots and no run folder to save them in."""
    if snapshots and not has_folder:
        raise CannotWrite(
            "Snapshots are saved in the run's folder, and this run keeps none.",
            "Leave out --no-run.",
        )


def file_name(evaluations: int) -> str:
    """The file name of the snapshot after so many evaluations."""
    return f"evaluation-{evaluations:06d}.png"


def evaluations_of(name: str) -> int | None:
    """The number of evaluations in a snapshot's file name; None for another file."""
    match = re.fullmatch(r"evaluation-(\d{6,})\.png", name)
    return int(match[1]) if match else None
