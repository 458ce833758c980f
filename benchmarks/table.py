"""Rows of the benchmark table, the page made from them, and the exit status."""

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
BRIEF = frozenset({"step", "memory", "start"})  # the rows that the README shows

BEGIN, END = "<!-- benchmarks -->", "<!-- end of benchmarks -->"  # around the table in the README

_HEAD = "| row | what | target | measured | met |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """One line of the table: the row's name, what was measured, its target and the result.

    ``met`` is None where there is no target or nothing could be measured; ``measured`` says which.
    """

    name: str
    what: str
    target: str
    measured: str
    met: bool | None = None

    def __str__(self) -> str:
        """The row as a line of a markdown table."""
        met = {True: "yes", False: "**no**", None: "–"}[self.met]
        cells = (self.name, self.what, self.target or "–", self.measured, met)
        return f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |"


def failed(name: str, error: BaseException) -> Row:
    """The row of a measurement that failed."""
    return Row(name, "the measurement failed", "", f"{type(error).__name__}: {error}"[:300], False)


def status(rows: Iterable[Row]) -> int:
    """The exit status: 1 if a row of ``GATING`` misses its target or failed, else 0."""
    return int(any(row.met is False and row.name in GATING for row in rows))


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a markdown table."""
    return "\n".join([_HEAD, *map(str, rows)])


def summary(rows: Iterable[Row]) -> str:
    """The README's short table: what was measured, and the first figure."""
    lines = (
        f"| {row.what} | {re.split('[:;,(]', row.measured)[0].strip()} |"
        for row in rows
        if row.name in BRIEF
    )
    return "\n".join(["| what | measured |\n|---|---|", *lines])


def replace_table(text: str, table: str) -> str:
    """``text`` with the table between the marks ``BEGIN`` and ``END`` replaced.

    Raises:
        ValueError: the text has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def page(rows: Iterable[Row], command: str, machine: str) -> str:
    """The page: command, date, machine, method and rows."""
    made = f"`{command}`, {date.today():%Y-%m-%d}, impasto {impasto.__version__}."
    return f"# Benchmarks\n\n{_INTRODUCTION}\n{made}\n\n{machine}\n\n{_ABOUT}\n{markdown(rows)}\n"


def machine() -> str:
    """Processor, threads, memory, versions and kernels, as one paragraph."""
    device = torch.device("cpu")
    facts = [
        f"Machine: {devices.describe(device)}, {_cores()} cores",
        f"{_memory() / 1e9:.1f} GB of memory",
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}",
    ]
    kernels = {
        precision: kernel_cache.fastest_kernel(precision, device).name
        for precision in ("float32", "auto")
    }
    fastest = f"fastest float32 kernel {kernels['float32']}"
    if kernels["auto"] != kernels["float32"]:
        fastest += f" (precision auto: {kernels['auto']})"
    try:
        load = f"; load before the start {os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):  # Windows
        load = ""
    return ", ".join([*facts, fastest]) + load + "."


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


_INTRODUCTION = """\
How fast and how exact is Impasto, and how much memory does it need? To measure your machine:

```sh
python -m benchmarks --quick
```
"""

_ABOUT = """\
The baseline is `benchmarks/baseline.py`: the same objective in plain PyTorch, with torch's L-BFGS
and its defaults. It paints in one size, starts at the photo and runs in its own process.

- "Gram objective" means `style_statistics="gram-relative=1"`, `content_weight=0.03` and
  `content_layers="relu4_2=1"`, with the other defaults. "Default objective" is that of the default
  recipe.
- Impasto and the baseline take turns. Speedups are medians over pairs of evaluations, after a
  warm-up.
- Before they are timed, both must have the same loss (to 1e-4) and gradient (to 1e-3) at the photo
  with noise.
"""
