"""Measure what is promised, print it as a table, and keep the table as a page.

    python -m benchmarks --quick|--full [--only ROW,...] [--honest] [--keep DIR] [--out FILE]

The exit status is 1 where the ratio to the yardstick (512 px and more) or the exactness of tiles
falls short or could not be measured, 130 after Ctrl-C, else 0. Only a whole table replaces
docs/benchmarks.md, and its short form in the README; with --only, or after Ctrl-C, the table is
printed and goes where --out says.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import loss, memory, program, speed, table, tiles
from benchmarks.scene import How
from benchmarks.table import Row

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
README = PAGE.parent.parent / "README.md"

ROWS: dict[str, Callable[[How], Iterator[Row]]] = {
    "step": speed.step,
    "exact": tiles.exact,
    "loss": loss.loss,
    "tiles": tiles.tiles,
    "memory": memory.memory,
    "growth": speed.growth,
    "overhead": program.overhead,
    "start": program.start,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    given = _parser().parse_args(arguments)
    machine = table.machine()
    rows: list[Row] = []
    interrupted = False
    try:
        for row in measured(given.only, How(given.full, given.honest, given.keep)):
            rows.append(row)
            _say(row.name, f"{row.what}: {row.measured}")
    except KeyboardInterrupt:
        interrupted = True
        _say("Ctrl-C", "the rows so far:")
    command = " ".join(
        ["python -m benchmarks", *(sys.argv[1:] if arguments is None else arguments)]
    )
    text = table.page(rows, command, machine)
    print(text)
    whole = not interrupted and set(given.only) == set(ROWS)
    page = given.out or (PAGE if whole else None)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, "utf-8")
        _say("table", f"kept as {page}")
    if page == PAGE:
        README.write_text(table.within(README.read_text("utf-8"), table.summary(rows)), "utf-8")
    return 130 if interrupted else table.status(rows)


def measured(names: list[str], how: How) -> Iterator[Row]:
    """The rows of these names; one that fails says so and lets the others be measured."""
    for name in names:
        _say(name, "...")
        begun = time.perf_counter()
        try:
            yield from ROWS[name](replace(how, say=partial(_say, name)))
        except Exception as error:
            yield table.failed(name, error)
        _say(name, f"done in {time.perf_counter() - begun:.0f} s")


def _say(name: str, text: str) -> None:
    print(f"{name:9} {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=form
    )
    extent = parser.add_mutually_exclusive_group(required=True)
    extent.add_argument(
        "--quick",
        action="store_true",
        help="small pictures, few pairs: under ten minutes on two cores",
    )
    extent.add_argument("--full", action="store_true", help="everything, for some hours")
    parser.add_argument(
        "--only", type=_names, default=list(ROWS), metavar="ROW,...", help=f"of {', '.join(ROWS)}"
    )
    parser.add_argument(
        "--honest",
        action="store_true",
        help="let the yardstick make its own long runs in the row loss",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep the yardstick's long runs there for another time",
    )
    parser.add_argument(
        "--out", type=Path, help=f"where the page goes [default: {PAGE.parent.name}/{PAGE.name}]"
    )
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(
            f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
