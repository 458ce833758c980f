"""How much it says that it needs, and takes: memory and time of the command line in a fresh process
(row ``memory``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import skimage.data

from benchmarks.scene import PAINTING, How
from benchmarks.table import Row
from impasto import images
from impasto.geometry import Size

ASKED = 0.15  # between what is said and what is taken
EVALUATIONS = 6  # of each size
LIMIT = 4e9  # bytes
LARGE = Size(4000, 6000)


def memory(how: How) -> Iterator[Row]:
    """Runs of a few evaluations, and a large one that is given little memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coffee = skimage.data.coffee().astype("float32") / 255
        photo, large = folder / "photo.png", folder / "large.png"
        images.save(photo, coffee)
        for side in (512, 1024) if how.full else (512,):
            how.say(f"a run at {side} px")
            taken = run(folder, photo, "--size", str(side), "--iterations", str(EVALUATIONS))
            yield from _said(f"{side} px, {EVALUATIONS} evaluations a size", taken)
        if how.full:
            images.save(large, images.resize(coffee, LARGE))
            how.say(f"a run at {LARGE} in {LIMIT / 1e9:g} GB")
            limits = ("--size", "0", "--iterations", "1", "--memory", f"{LIMIT / 1e9:g}GB")
            taken = run(folder, large, *limits)
            what = f"peak memory of {LARGE.pixels / 1e6:g} megapixels with --memory {LIMIT / 1e9:g}GB, 1 evaluation a size"
            measured = f"{taken.peak / 1e9:.2f} GB in {taken.record['seconds'] / 60:.0f} minutes"
            yield Row(
                "memory",
                what,
                f"at most {LIMIT / 1e9:g} GB, and it ends",
                measured,
                taken.peak <= LIMIT,
            )
            yield from _said(
                f"{LARGE.pixels / 1e6:g} megapixels, --memory {LIMIT / 1e9:g}GB", taken
            )


@dataclass(frozen=True)
class Taken:
    """A run of the command line: its record, and the most bytes that its process held."""

    record: dict[str, Any]
    peak: int


# The command line itself, and at its end what the system says that it held; another process cannot
# ask any more then. What the record has for it can be too high: it counts what the process that
# started this one held.
_PROGRAM = """
import sys
from impasto.cli import main
try:
    main(sys.argv[2:])
finally:
    with open("/proc/self/status") as status, open(sys.argv[1], "w") as peak:
        peak.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def run(folder: Path, photo: Path, *options: str, painting: str = PAINTING) -> Taken:
    """Paint a photo by the command line in a process of its own.

    Raises:
        RuntimeError: it did not end well.
    """
    peak = folder / "peak"
    peak.unlink(missing_ok=True)
    output = ["--output", str(folder / "out.png"), "--no-run", "--json", "--device", "cpu"]
    command = [
        sys.executable,
        "-c",
        _PROGRAM,
        str(peak),
        "stylize",
        str(photo),
        painting,
        *output,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"impasto stylize {' '.join(options)} ended with {done.returncode}: "
            f"{_last(done.stderr)}"
        )
    record = json.loads(done.stdout)
    held = (
        int(peak.read_text()) * 1024
        if peak.exists() and peak.read_text()
        else int(record["peak_memory_bytes"])
    )
    return Taken(record, held)


def _last(text: str) -> str:
    """What went wrong, in one line."""
    lines: Sequence[str] = [
        line for line in text.splitlines() if line.startswith("impasto:")
    ] or text.splitlines()[-1:]
    return lines[0] if lines else "it said nothing"


def _said(what: str, taken: Taken) -> Iterator[Row]:
    """Memory and time: what was said before the start, and what it came to."""
    said, wish = taken.record["expected_memory_bytes"], f"within {ASKED:.0%}"
    yield Row(
        "memory",
        f"memory said and taken, {what}",
        wish,
        f"{said / 1e9:.2f} GB and {taken.peak / 1e9:.2f} ({_more(said, taken.peak)})",
        _near(said, taken.peak),
    )
    said, spent = taken.record["expected_seconds"], taken.record["seconds"]
    yield Row(
        "memory",
        f"time said and taken, {what}",
        wish,
        f"{said:.1f} s and {spent:.1f} ({_more(said, spent)})",
        _near(said, spent),
    )


def _near(said: float, taken: float) -> bool:
    return abs(taken - said) <= ASKED * said


def _more(said: float, taken: float) -> str:
    return f"{taken / said - 1:+.0%}"
