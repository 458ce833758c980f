"""Measure Impasto against its targets, print a table and write it as a page.

    python -m benchmarks --quick|--full [--only ROW,...] [--honest] [--keep DIR] [--out FILE]

The exit status is 1 if the speedup over the baseline (512 px and more) or the exactness of tiles
misses its target or cannot be measured, 130 after Ctrl-C, else 0. Only a complete table replaces
docs/benchmarks.md and its short form in the README. With --only or after Ctrl-C the table is
printed, and written where --out says.
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
from benchmarks.scene import Options
from benchmarks.table import Row

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
README = PAGE.parent.parent / "README.md"

ROWS: dict[str, Callable[[Options], Iterator[Row]]] = {
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
    """Run the command line and return the exit status."""
    parsed = _parser().parse_args(arguments)
    machine = table.machine()
    rows: list[Row] = []
    interrupted = False
    try:
        for row in measure(parsed.only, Options(parsed.full, parsed.honest, parsed.keep)):
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
    complete = not interrupted and set(parsed.only) == set(ROWS)
    page = parsed.out or (PAGE if complete else None)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, "utf-8")
        _say("table", f"written to {page}")
    if page == PAGE:
        README.write_text(
            table.replace_table(README.read_text("utf-8"), table.summary(rows)), "utf-8"
        )
    return 130 if interrupted else table.status(rows)


def measure(names: list[str], options: Options) -> Iterator[Row]:
    """Yield the rows of these names. A row that fails reports its error, and the others follow."""
    for name in names:
        _say(name, "...")
        start = time.perf_counter()
        try:
            yield from ROWS[name](replace(options, say=partial(_say, name)))
        except Exception as error:
            yield table.failed(name, error)
        _say(name, f"done in {time.perf_counter() - start:.0f} s")


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
        help="small pictures, few repeats: under ten minutes on two cores",
    )
    extent.add_argument("--full", action="store_true", help="everything: some hours")
    parser.add_argument(
        "--only",
        type=_names,
        default=list(ROWS),
        metavar="ROW,...",
        help=f"some of {', '.join(ROWS)}",
    )
    parser.add_argument(
        "--honest",
        action="store_true",
        help="run the baseline's long runs in its own process (row loss)",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="store the baseline's long runs here and reuse them",
    )
    parser.add_argument(
        "--out", type=Path, help=f"file of the page [default: {PAGE.parent.name}/{PAGE.name}]"
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
