"""The texts and tables of a run's report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from impasto.recipe import options, records
from impasto.recipe.values import bytes_text
from impasto.runs import curves
from impasto.runs.history import History

Table = list[list[str]]


def summary(history: History) -> str:
    """Size, status, duration and beginning of a run, in one line."""
    begun = "an unknown time"
    if history.begun:
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(history.begun))
    continued = f", continued {_times(history.parts - 1)}" if history.parts > 1 else ""
    duration = _duration(history.seconds)
    return f"{history.planned.size}, {history.status}, {duration}. Begun {begun}{continued}."


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def left_out(history: History, norms: curves.Norms) -> str:
    """How many values the curves leave out because they are not finite; "" if none."""
    steps = sum(
        not all_finite({"": step.loss, **step.terms})
        or not all(all_finite(shares) for shares in step.layers.values())
        or not math.isfinite(step.seconds)
        for step in history.steps
    )
    pictures = sum(not all_finite(each) for each in norms.values())
    counts = [
        _counted(steps, "evaluation", "evaluations"),
        _counted(pictures, "picture's gradients", "pictures' gradients"),
    ]
    text = " and ".join(filter(None, counts))
    return f"Values that are not finite, of {text}, are left out of the curves." if text else ""


def _counted(count: int, singular: str, plural: str) -> str:
    return f"{count} {singular if count == 1 else plural}" if count else ""


def all_finite(values: Mapping[str, float]) -> bool:
    return all(map(math.isfinite, values.values()))


def gradient_norms(norms: curves.Norms) -> tuple[Table, list[str]]:
    """Rows of evaluations and each term's gradient norm with its share, and the head above them."""
    terms = list(dict.fromkeys(term for by_term in norms.values() for term in by_term))
    rows = [
        [str(evaluations), *(_norm_and_share(by_term, term) for term in terms)]
        for evaluations, by_term in norms.items()
    ]
    return rows, ["evaluations", *terms]


def _norm_and_share(norms: Mapping[str, float], term: str) -> str:
    norm, share = norms.get(term, 0.0), curves.share(norms, term)
    if not math.isfinite(norm):
        return "-"
    return f"{norm:.3g} ({100 * share:.0f}%)" if math.isfinite(share) else f"{norm:.3g}"


def stages(history: History) -> Table:
    """Size, evaluations, time, rate and last loss of each stage."""
    return [
        [
            str(stage.size),
            f"{stage.made} of {stage.planned}",
            _duration(stage.seconds),
            _rate(stage.made, stage.seconds),
            f"{stage.loss:.4g}" if math.isfinite(stage.loss) else "-",
        ]
        for stage in history.stages
    ]


def resources(history: History) -> Table:
    """Time and memory, estimated and taken."""
    planned, record = history.planned, history.record
    peak, seconds = record.get("peak_memory_bytes"), record.get("seconds", history.seconds)
    return [
        ["time", _duration(planned.seconds), _duration(seconds)],
        ["memory", bytes_text(planned.memory_bytes), bytes_text(peak) if peak else "unknown"],
    ]


def environment(history: History) -> Table:
    """Device, kernel, tiles, disk, snapshots and versions."""
    planned, record = history.planned, history.record
    tiles = f"of {planned.tile} px" if planned.tile else "none, the whole picture at once"
    rows = [["device", planned.device], ["kernel", planned.kernel], ["tiles", tiles]]
    if planned.disk_bytes:
        rows.append(["disk", bytes_text(planned.disk_bytes)])
    if snapshots := record.get("snapshots"):
        seconds = f"{snapshots['seconds']:.2f} s, which the times include"
        rows.append(["snapshots", f"{snapshots['count']} in {seconds}"])
    if versions := record.get("versions", {}):
        rows.append(["versions", ", ".join(f"{name} {each}" for name, each in versions.items())])
    return rows


def changed_settings(recipe: records.Recipe) -> Table:
    """The settings that differ from the default: name, value here, default."""
    default = records.Recipe()
    return [
        [f"--{name}", option.value_text(recipe) or "none", option.value_text(default) or "none"]
        for name, option in options.recipe_options().items()
        if option.value_text(recipe) != option.value_text(default)
    ]


def notes(history: History) -> Table:
    """Warnings, each with the number of evaluations before it, and how the run failed."""
    rows = [
        [f"after {evaluations}", _without_folders(note, history.recipe)]
        for evaluations, note in history.notes
    ]
    if history.failed is not None:
        rows.append(["at the end", history.failed.message])
    if history.unreadable_lines:
        count = history.unreadable_lines
        rows.append(["", f"{count} lines of the log cannot be read; they were skipped."])
    return rows


def _without_folders(note: str, recipe: records.Recipe | None) -> str:
    """A note without the folders of the run's photo and paintings."""
    inputs = [
        *([recipe.photo] if recipe and recipe.photo else []),
        *(recipe.paintings if recipe else ()),
    ]
    for folder in {str(Path(each.path).parent) for each in inputs} - {"."}:
        note = note.replace(f"{folder}{os.sep}", "")
    return note


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:.3g}" if 0 < seconds < math.inf else ""


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
