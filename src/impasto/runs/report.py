"""A run as one page that needs nothing else: its pictures, its curves, what it took, its recipe.

It knows what the template beside it asks for, and that a page which is passed on says nothing of
its maker's folders. It refuses to know how a figure is drawn and how a gradient is computed.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from impasto import images
from impasto.assets import catalogue
from impasto.errors import BadPicture, ImpastoError
from impasto.geometry import Size
from impasto.recipe import options, records
from impasto.recipe.values import bytes_text
from impasto.result import without_folders
from impasto.runs import curves, retrace
from impasto.runs import folder as runs
from impasto.runs.history import History
from impasto.storage import templates
from impasto.storage.files import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


EXTENSIONS = (".html", ".htm")
_LARGE, _SMALL = 560, 240  # long sides of pictures in the page
_MOST = 12  # pictures along the way, and gradients


@dataclass(frozen=True)
class Shot:
    """A picture of the run after so many evaluations: pixels (H, W, 3), 0..1; ``name`` where it has
    one of its own.
    """

    evaluations: int
    pixels: images.Pixels
    name: str = ""


@dataclass(frozen=True)
class Gradients:
    """Norms of each term's gradient by evaluations, or why there are none."""

    norms: curves.Norms
    why: str = ""


def write(
    history: History,
    output: Path,
    *,
    gradients: bool = True,
    say: Callable[[str], None] = lambda note: None,
    fetch: catalogue.Progress = catalogue.silent,
) -> None:
    """Write the page of a run to ``output``, and beside it each of its curves as PNG, named after
    it.

    ``gradients``: look at pictures of the run again with its network, one evaluation for each of
    them and each term.

    Raises:
        CannotWrite: a file cannot be written there.
    """
    shots = _shots(history)
    found = (
        _gradients(history, shots, say, fetch)
        if gradients
        else Gradients({}, "They were left out.")
    )
    figures = _figures(history, found.norms)
    given = retrace.inputs(history.recipe, fetch) if history.recipe is not None else []
    replace_file(output, _page(history, shots, given, found, figures).encode())
    for name, (light, _) in figures.items():
        replace_file(curve_file(output, name), curves.png(light))


def curve_files(output: Path) -> list[Path]:
    """Where all of a page's curves go."""
    return [curve_file(output, name) for name in ("loss", "layers", "gradients")]


def curve_file(output: Path, name: str) -> Path:
    """Where a curve of a page goes: ``painted.html`` has ``painted-loss.png``."""
    return output.with_name(f"{output.stem}-{name}.png")


def _figures(history: History, norms: curves.Norms) -> dict[str, tuple[Figure, Figure]]:
    """The curves that can be drawn, by name, each on light and on dark ground."""
    light, dark = curves.LIGHT, curves.DARK
    found: dict[str, tuple[Figure | None, Figure | None]] = {}
    if any(math.isfinite(step.loss) for step in history.steps):
        found["loss"] = curves.loss(history, light), curves.loss(history, dark)
    if history.steps:
        found["layers"] = curves.layers(history, light), curves.layers(history, dark)
    if any(_all_finite(each) for each in norms.values()):
        found["gradients"] = (
            curves.gradients(history, norms, light),
            curves.gradients(history, norms, dark),
        )
    return {
        name: (one, other)
        for name, (one, other) in found.items()
        if one is not None and other is not None
    }


def _shots(history: History) -> list[Shot]:
    """Some of the run's snapshots, evenly spread, and the finished picture or else the last
    preview.
    """
    result = runs.result_file(history.folder)
    kept = spread(runs.snapshot_files(history.folder), _MOST - (result is not None))
    found = [
        Shot(evaluations, pixels)
        for evaluations, file in kept
        if (pixels := _pixels(file)) is not None
    ]
    if result is not None and (pixels := _pixels(result)) is not None:
        found.append(Shot(history.made, pixels, "the result"))
    elif not found and (pixels := _pixels(history.folder / runs.PREVIEW)) is not None:
        found.append(Shot(history.made, pixels, "the last preview"))
    return found


def spread(kept: Sequence[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """At most so many of them, the first and the last among them."""
    if len(kept) <= most:
        return list(kept)
    return [kept[round(place)] for place in np.linspace(0, len(kept) - 1, most)]


def _pixels(file: Path) -> images.Pixels | None:
    try:
        return images.read(file, max_megapixels=records.Recipe().max_megapixels).pixels
    except BadPicture:
        return None


def _gradients(
    history: History, shots: Sequence[Shot], say: Callable[[str], None], fetch: catalogue.Progress
) -> Gradients:
    sizes = [tuple(size) for size, _ in history.planned.stages]
    looked = {shot.evaluations: shot.pixels for shot in shots if shot.pixels.shape[:2] in sizes}
    if history.recipe is None or not looked:
        return Gradients(
            {},
            "There is no recipe in the folder."
            if history.recipe is None
            else "There is no picture to look at.",
        )
    say(
        f"Looking at {len(looked)} pictures again, for the gradients; --no-gradients leaves "
        f"them out."
    )
    try:
        norms = retrace.gradients(history.recipe, list(looked.values()), fetch)
        return Gradients(dict(zip(looked, norms, strict=True)))
    except ImpastoError as error:
        return Gradients({}, f"They could not be computed. {error.message}")


@dataclass(frozen=True)
class _Shown:
    """A picture of the page with its caption, which stands alone where the picture is gone."""

    caption: str
    source: str = ""


def _page(
    history: History,
    shots: Sequence[Shot],
    given: Sequence[retrace.Given],
    found: Gradients,
    figures: Mapping[str, tuple[Figure, Figure]],
) -> str:
    recipe, norms = history.recipe, found.norms
    terms = list(dict.fromkeys(name for each in norms.values() for name in each))
    return templates.fill(
        "impasto.runs",
        "report.html",
        name=history.folder.resolve().name.removesuffix(".run"),
        lead=_lead(history),
        ends=_ends(given, shots),
        along=_along(history, shots) if len(shots) > 1 else (),
        # One for light and one for dark ground, of which the browser takes the one that suits.
        curves={
            name: {"light": _drawn(light), "dark": _drawn(dark)}
            for name, (light, dark) in figures.items()
        },
        pulls=[
            [str(evaluations), *(_pull(each, term) for term in terms)]
            for evaluations, each in norms.items()
        ],
        pulls_head=["evaluations", *terms],
        why=found.why,
        left_out=_left_out(history, norms),
        stages=_stages(history),
        taken=_taken(history),
        facts=_facts(history),
        changed=_changed(recipe) if recipe is not None else (),
        recipe=(without_folders(recipe) if recipe.photo is not None else recipe).to_toml()
        if recipe is not None
        else "",
        notes=_notes(history),
    )


def _image(pixels: images.Pixels, side: int, caption: str) -> _Shown:
    """A picture with a caption, no larger than ``side`` and never enlarged by more than the page
    does.
    """
    from PIL import Image

    size = Size(*pixels.shape[:2])
    small = images.resize(pixels, size.with_long_side(min(side, size.long_side)))
    buffer = BytesIO()
    Image.fromarray((small * 255).round().astype(np.uint8)).save(
        buffer, "JPEG", quality=88, subsampling=0
    )
    return _Shown(caption, templates.data_url("image/jpeg", buffer.getvalue()))


def _drawn(figure: Figure) -> str:
    return templates.data_url("image/svg+xml", curves.svg(figure))


def _lead(history: History) -> str:
    planned = history.planned
    begun = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(history.begun))
        if history.begun
        else "an unknown time"
    )
    again = f", gone on with {_times(history.parts - 1)}" if history.parts > 1 else ""
    return f"{planned.size}, {history.standing}, {_seconds(history.seconds)}. Begun {begun}{again}."


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _ends(given: Sequence[retrace.Given], shots: Sequence[Shot]) -> list[_Shown]:
    """What went in, and what came out last."""
    shown = [
        _image(one.picture.pixels, _LARGE, f"{one.role}: {_short(one.name)}")
        if one.picture is not None
        else _Shown(f"The {one.role} {_short(one.name)} {one.why}.")
        for one in given
    ]
    if shots:
        last = shots[-1]
        shown.append(
            _image(last.pixels, _LARGE, last.name or f"after {last.evaluations} evaluations")
        )
    return shown


def _short(name: str) -> str:
    return Path(name).name


def _along(history: History, shots: Sequence[Shot]) -> list[_Shown]:
    shown = []
    for shot in shots:
        height, width = shot.pixels.shape[:2]
        finished = history.finished is not None and shot is shots[-1]
        loss = (
            history.finished.loss
            if finished and history.finished
            else history.lowest(shot.evaluations)
        )
        name = shot.name or f"after {shot.evaluations}"
        told = f" · loss {loss:.3g}" if math.isfinite(loss) else ""
        shown.append(_image(shot.pixels, _SMALL, f"{name} · {width}x{height}{told}"))
    return shown


def _left_out(history: History, norms: curves.Norms) -> str:
    """What is not drawn because it is no finite number, as one sentence; empty where everything is
    drawn.
    """
    steps = sum(
        not _all_finite({"": step.loss, **step.terms})
        or not all(_all_finite(shares) for shares in step.layers.values())
        or not math.isfinite(step.seconds)
        for step in history.steps
    )
    pictures = sum(not _all_finite(each) for each in norms.values())
    counts = [
        _counted(steps, "evaluation"),
        _counted(pictures, "picture's gradients", "pictures' gradients"),
    ]
    told = " and ".join(filter(None, counts))
    return f"Values that are not finite, of {told}, are left out of the curves." if told else ""


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}" if count else ""


def _all_finite(values: Mapping[str, float]) -> bool:
    return all(map(math.isfinite, values.values()))


def _pull(norms: Mapping[str, float], term: str) -> str:
    norm, share = norms.get(term, 0.0), curves.share(norms, term)
    if not math.isfinite(norm):
        return "-"
    return f"{norm:.3g} ({100 * share:.0f}%)" if math.isfinite(share) else f"{norm:.3g}"


def _stages(history: History) -> list[list[str]]:
    return [
        [
            str(spent.size),
            f"{spent.made} of {spent.planned}",
            _seconds(spent.seconds),
            _rate(spent.made, spent.seconds),
            f"{spent.loss:.4g}" if math.isfinite(spent.loss) else "-",
        ]
        for spent in history.stages
    ]


def _taken(history: History) -> list[list[str]]:
    planned, record = history.planned, history.record
    peak, whole = record.get("peak_memory_bytes"), record.get("seconds", history.seconds)
    return [
        ["time", _seconds(planned.seconds), _seconds(whole)],
        ["memory", bytes_text(planned.memory_bytes), bytes_text(peak) if peak else "not told"],
    ]


def _facts(history: History) -> list[list[str]]:
    planned, record = history.planned, history.record
    shots = record.get("snapshots")
    tile = f"tiles of {planned.tile} px" if planned.tile else "whole"
    facts = [["device", planned.device], ["kernel", planned.kernel], ["held", tile]]
    facts += [["disk", bytes_text(planned.disk_bytes)]] if planned.disk_bytes else []
    facts += (
        [["snapshots", f"{shots['count']} in {shots['seconds']:.2f} s, which the times include"]]
        if shots
        else []
    )
    versions = ", ".join(
        f"{name} {version}" for name, version in record.get("versions", {}).items()
    )
    return facts + ([["versions", versions]] if versions else [])


def _changed(recipe: records.Recipe) -> list[list[str]]:
    """The settings that are not the default's, beside it."""
    plain = records.Recipe()
    return [
        [f"--{name}", option.value_text(recipe) or "none", option.value_text(plain) or "none"]
        for name, option in options.recipe_options().items()
        if option.value_text(recipe) != option.value_text(plain)
    ]


def _notes(history: History) -> list[list[str]]:
    rows = [
        [f"after {evaluations}", _without(note, history.recipe)]
        for evaluations, note in history.notes
    ]
    rows += [["at the end", history.failed.message]] if history.failed is not None else []
    if history.unreadable:
        rows.append(
            ["", f"{history.unreadable} lines of the log cannot be read; they were passed over."]
        )
    return rows


def _without(note: str, recipe: records.Recipe | None) -> str:
    """A note without the folders of the pictures that went in."""
    given = [
        *([recipe.photo] if recipe and recipe.photo else []),
        *(recipe.paintings if recipe else ()),
    ]
    for folder in {str(Path(one.path).parent) for one in given} - {"."}:
        note = note.replace(f"{folder}{os.sep}", "")
    return note


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:.3g}" if 0 < seconds < math.inf else ""


def _seconds(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    return (
        f"{seconds:.1f} s"
        if seconds < 100
        else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    )
