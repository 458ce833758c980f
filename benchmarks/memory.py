"""Predicted and measured memory and time of the command line in a new process (row ``memory``)."""

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

from benchmarks.scene import PAINTING, Options
from benchmarks.table import Row
from impasto import images
from impasto.geometry import Size

TARGET = 0.15  # largest relative difference between prediction and measurement
EVALUATIONS = 6  # per size
LIMIT = 4e9  # bytes
LARGE = Size(4000, 6000)


def memory(options: Options) -> Iterator[Row]:
    """Runs of a few evaluations, and with --full a large picture under a memory limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coffee = skimage.data.coffee().astype("float32") / 255
        photo, large = folder / "photo.png", folder / "large.png"
        images.save(photo, coffee)
        for side in (512, 1024) if options.full else (512,):
            options.say(f"a run at {side} px")
            taken = run(folder, photo, "--size", str(side), "--iterations", str(EVALUATIONS))
            yield from _prediction_rows(f"{side} px, {EVALUATIONS} evaluations per size", taken)
        if options.full:
            images.save(large, images.resize(coffee, LARGE))
            options.say(f"a run at {LARGE} in {LIMIT / 1e9:g} GB")
            limits = ("--size", "0", "--iterations", "1", "--memory", f"{LIMIT / 1e9:g}GB")
            taken = run(folder, large, *limits)
            large_run = f"{LARGE.pixels / 1e6:g} megapixels with --memory {LIMIT / 1e9:g}GB"
            measured = f"{taken.peak / 1e9:.2f} GB in {taken.record['seconds'] / 60:.0f} minutes"
            yield Row(
                "memory",
                f"peak memory of {large_run}, 1 evaluation per size",
                f"at most {LIMIT / 1e9:g} GB, and it finishes",
                measured,
                taken.peak <= LIMIT,
            )
            yield from _prediction_rows(large_run, taken)


@dataclass(frozen=True)
class MeasuredRun:
    """A run of the command line: its record, and the peak memory of its process in bytes."""

    record: dict[str, Any]
    peak: int


# Runs the command line and writes the peak of its own process at the end, when no other process can
# read it any more. The peak in the record can be too high, because it includes the memory of the
# process that started this one.
_PROGRAM = """
import sys
from impasto.cli import main
try:
    main(sys.argv[2:])
finally:
    with open("/proc/self/status") as status, open(sys.argv[1], "w") as peak:
        peak.write(next(line.split()[1] for line in status if line.startswith("VmHWM:")))
"""


def run(folder: Path, photo: Path, *options: str, painting: str = PAINTING) -> MeasuredRun:
    """Paint a photo with the command line in a new process.

    Raises:
        RuntimeError: the command failed.
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
            f"impasto stylize {' '.join(options)} ended with exit code {done.returncode}: "
            f"{_error_line(done.stderr)}"
        )
    record = json.loads(done.stdout)
    peak_bytes = (
        int(peak.read_text()) * 1024
        if peak.exists() and peak.read_text()
        else int(record["peak_memory_bytes"])
    )
    return MeasuredRun(record, peak_bytes)


def _error_line(text: str) -> str:
    """The error message in ``text``, or its last line."""
    lines: Sequence[str] = [
        line for line in text.splitlines() if line.startswith("impasto:")
    ] or text.splitlines()[-1:]
    return lines[0] if lines else "no message"


def _prediction_rows(what: str, run: MeasuredRun) -> Iterator[Row]:
    """Predicted and measured memory, and predicted and measured time."""
    target = f"within {TARGET:.0%}"
    predicted, peak = run.record["expected_memory_bytes"], run.peak
    yield Row(
        "memory",
        f"predicted and measured memory, {what}",
        target,
        f"{predicted / 1e9:.2f} and {peak / 1e9:.2f} GB ({_difference(predicted, peak)})",
        _within_target(predicted, peak),
    )
    predicted, seconds = run.record["expected_seconds"], run.record["seconds"]
    yield Row(
        "memory",
        f"predicted and measured time, {what}",
        target,
        f"{predicted:.1f} and {seconds:.1f} s ({_difference(predicted, seconds)})",
        _within_target(predicted, seconds),
    )


def _within_target(predicted: float, measured: float) -> bool:
    return abs(measured - predicted) <= TARGET * predicted


def _difference(predicted: float, measured: float) -> str:
    return f"{measured / predicted - 1:+.0%}"
