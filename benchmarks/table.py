"""The table: rows, how they are written down, and what they say about the exit status."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import torch

import impasto
from impasto.hardware import devices, kernel_cache

GATING = frozenset({"step", "exact"})  # the rows that decide the exit status

BEGIN, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"  # around the table in the README

_HEAD = "| row | what | asked | measured | holds |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """One line: which row it belongs to, what was measured, what was asked of it, what came out.

    ``holds`` is None where nothing was asked or nothing could be measured; ``measured`` says which.
    """

    name: str
    what: str
    asked: str
    measured: str
    holds: bool | None = None

    def __str__(self) -> str:
        """As a line of a markdown table."""
        holds = {True: "yes", False: "**no**", None: "–"}[self.holds]
        cells = (self.name, self.what, self.asked or "–", self.measured, holds)
        return f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |"


def failed(name: str, error: BaseException) -> Row:
    """The row of a measurement that could not be ended."""
    return Row(name, "the measurement failed", "", f"{type(error).__name__}: {error}"[:300], False)


def status(rows: Iterable[Row]) -> int:
    """The exit status: 1 where a row that gates falls short or failed, else 0."""
    return int(any(row.holds is False and row.name in GATING for row in rows))


def lines(rows: Iterable[Row]) -> str:
    """The rows as a markdown table."""
    return "\n".join([_HEAD, *map(str, rows)])


def summary(rows: Iterable[Row]) -> str:
    """The rows in brief, for a reader in a hurry: what, and the first figure."""
    brief = (f"| {row.what} | {re.split('[:;,(]', row.measured)[0].strip()} |" for row in rows)
    return "\n".join(["| what | measured |\n|---|---|", *brief])


def within(text: str, brief: str) -> str:
    """A document with the table between its marks replaced.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{brief}\n{END}{after}"


def page(rows: Iterable[Row], command: str, machine: str) -> str:
    """The whole page: how it was made, on what, how things are compared, and the rows."""
    made = f"`{command}`, {date.today():%Y-%m-%d}, impasto {impasto.__version__}."
    return f"# Benchmarks\n\n{made}\n\n{machine}\n\n{_ABOUT}\n{lines(rows)}\n"


def machine() -> str:
    """Processor, threads, memory, versions and kernels, in one paragraph."""
    where = torch.device("cpu")
    found = [
        f"Machine: {devices.describe(where)}, {_cores()} cores, {_memory() / 1e9:.1f} GB of memory",
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}",
    ]
    kernels = {
        precision: kernel_cache.kernel(precision, where).name for precision in ("float32", "auto")
    }
    chosen = f"kernel {kernels['float32']}, the fastest of float32"
    if kernels["auto"] != kernels["float32"]:
        chosen += f" ({kernels['auto']} with precision auto)"
    try:
        load = f"; load before the start {os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):  # Windows
        load = ""
    return ", ".join([*found, chosen]) + load + "."


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


_ABOUT = """\
The yardstick is `benchmarks/yardstick.py`: the same objective in plain PyTorch, at the final size alone, from the photo,
with torch's L-BFGS as it comes, in a process of its own. "Gram" is the objective `style_statistics="gram-relative=1",
content_weight=0.03, content_layers="relu4_2=1"` with the other defaults, "default" that of the default recipe. Ratios are
medians over pairs of evaluations that follow each other, one of the yardstick's and one of Impasto's, after a warm-up.
Before they are timed, the two must have the same loss (to 1e-4) and the same gradient (to 1e-3) at the photo with noise.
"""
