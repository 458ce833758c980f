"""A run as one page that needs nothing else: its pictures, its curves, what it took, its recipe.

It knows HTML, and that a page which is passed on says nothing of its maker's folders. It refuses to know how a figure is
drawn and how a gradient is computed.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from impasto import assets, images, retrace, runs
from impasto import recipe as recipes
from impasto.errors import BadPicture, ImpastoError
from impasto.geometry import Size
from impasto.history import History
from impasto.images.writing import replace_file
from impasto.painting import without_folders
from impasto.reports import curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXTENSIONS = (".html", ".htm")
_LARGE, _SMALL = 560, 240  # long sides of pictures in the page
_MOST = 12  # pictures along the way, and gradients


@dataclass(frozen=True)
class Shot:
    """A picture of the run after so many evaluations: pixels (H, W, 3), 0..1; ``name`` where it has one of its own."""

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
    fetch: assets.Progress = assets.silent,
) -> None:
    """Write the page of a run to ``output``, and beside it each of its curves as PNG, named after it.

    ``gradients``: look at pictures of the run again with its network, one evaluation for each of them and each term.

    Raises:
        CannotWrite: a file cannot be written there.
    """
    shots = _shots(history)
    found = _gradients(history, shots, say, fetch) if gradients else Gradients({}, "They were left out.")
    figures = _figures(history, found.norms)
    given = retrace.inputs(history.recipe, fetch) if history.recipe is not None else []
    replace_file(output, _page(history, shots, given, found, figures).encode())
    for name, (light, _) in figures.items():
        replace_file(curve_file(output, name), curves.png(light))


def curve_file(output: Path, name: str) -> Path:
    """Where a curve of a page goes: ``painted.html`` has ``painted-loss.png``."""
    return output.with_name(f"{output.stem}-{name}.png")


def _figures(history: History, norms: curves.Norms) -> dict[str, tuple[Figure, Figure]]:
    """The curves that can be drawn, by name, each on light and on dark ground."""
    light, dark = curves.LIGHT, curves.DARK
    found: dict[str, tuple[Figure | None, Figure | None]] = {}
    if history.steps:
        found["loss"] = curves.loss(history, light), curves.loss(history, dark)
        found["layers"] = curves.layers(history, light), curves.layers(history, dark)
    if norms:
        found["gradients"] = curves.gradients(history, norms, light), curves.gradients(history, norms, dark)
    return {name: (one, other) for name, (one, other) in found.items() if one is not None and other is not None}


# ---- what is shown ---------------------------------------------------------------------------------------------------


def _shots(history: History) -> list[Shot]:
    """Some of the run's snapshots, evenly spread, and the finished picture or else the last preview."""
    result = runs.result(history.folder)
    kept = spread(runs.kept_snapshots(history.folder), _MOST - (result is not None))
    found = [Shot(evaluations, pixels) for evaluations, file in kept if (pixels := _pixels(file)) is not None]
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
        return images.read(file, max_megapixels=recipes.Recipe().max_megapixels).pixels
    except BadPicture:
        return None


def _gradients(history: History, shots: Sequence[Shot], say: Callable[[str], None], fetch: assets.Progress) -> Gradients:
    sizes = [tuple(size) for size, _ in history.planned.stages]
    looked = {shot.evaluations: shot.pixels for shot in shots if shot.pixels.shape[:2] in sizes}
    if history.recipe is None or not looked:
        return Gradients(
            {}, "There is no recipe in the folder." if history.recipe is None else "There is no picture to look at."
        )
    say(f"Looking at {len(looked)} pictures again, for the gradients; --no-gradients leaves them out.")
    try:
        norms = retrace.gradients(history.recipe, list(looked.values()), fetch)
        return Gradients(dict(zip(looked, norms, strict=True)))
    except ImpastoError as error:
        return Gradients({}, f"They could not be computed. {error.message}")


# ---- the page --------------------------------------------------------------------------------------------------------


def _page(
    history: History,
    shots: Sequence[Shot],
    given: Sequence[retrace.Given],
    found: Gradients,
    figures: Mapping[str, tuple[Figure, Figure]],
) -> str:
    name = history.folder.resolve().name.removesuffix(".run")
    drawn = {title: _curve(title, *both) for title, both in figures.items()}
    parts = [
        f"<h1>{escape(name)}</h1><p class=lead>{escape(_lead(history))}</p>",
        _inputs(given, shots),
        _section("Along the way", _along(history, shots)),
        _section("Loss", drawn.get("loss", "<p>No evaluation was made.</p>")),
        _section("Layers", drawn.get("layers", "<p>The log of this run does not tell the layers' shares.</p>")),
        _section("Gradients", _pulls(found, drawn.get("gradients", ""))),
        _section("What it took", _took(history)),
        _section("Recipe", _recipe(history.recipe)),
        _section("Notes", _notes(history)),
    ]
    style = resources.files("impasto.reports").joinpath("page.css").read_text("utf-8")
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1"><meta name=color-scheme content="light dark">'
        f"<title>{escape(name)}</title><style>{style}</style></head><body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    top = f"<thead><tr>{''.join(f'<th>{escape(cell)}' for cell in head)}</thead>" if head else ""
    return f"<table>{top}{''.join('<tr>' + ''.join(f'<td>{escape(cell)}' for cell in row) for row in rows)}</table>"


def _image(pixels: images.Pixels, side: int, caption: str) -> str:
    """A picture with a caption, no larger than ``side`` and never enlarged by more than the page does."""
    from PIL import Image

    size = Size(*pixels.shape[:2])
    small = images.resize(pixels, size.with_long_side(min(side, size.long_side)))
    buffer = BytesIO()
    Image.fromarray((small * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=88, subsampling=0)
    text = escape(caption)
    return (
        f'<figure><img alt="{text}" src="{_data("image/jpeg", buffer.getvalue())}"><figcaption>{text}</figcaption></figure>'
    )


def _curve(title: str, *both: Figure) -> str:
    """A figure for light and one for dark ground, of which the browser takes the one that suits."""
    light, dark = (_data("image/svg+xml", curves.svg(figure)) for figure in both)
    return (
        f'<picture class=curve><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(title)}" src="{light}"></picture>'
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _lead(history: History) -> str:
    planned = history.planned
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(history.begun)) if history.begun else "an unknown time"
    again = f", gone on with {_times(history.parts - 1)}" if history.parts > 1 else ""
    return f"{planned.size}, {history.standing}, {_seconds(history.seconds)}. Begun {begun}{again}."


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _inputs(given: Sequence[retrace.Given], shots: Sequence[Shot]) -> str:
    shown = [
        _image(one.picture.pixels, _LARGE, f"{one.role}: {_short(one.name)}")
        if one.picture is not None
        else f"<figure><p class=gone>The {one.role} {escape(_short(one.name))} {one.why}.</p></figure>"
        for one in given
    ]
    if shots:
        last = shots[-1]
        shown.append(_image(last.pixels, _LARGE, last.name or f"after {last.evaluations} evaluations"))
    return f"<div class=three>{''.join(shown)}</div>" if shown else ""


def _short(name: str) -> str:
    return Path(name).name


def _along(history: History, shots: Sequence[Shot]) -> str:
    if len(shots) < 2:
        return "<p>This run kept no snapshots; <code>--snapshots every=10</code> keeps some.</p>"
    shown = []
    for shot in shots:
        height, width = shot.pixels.shape[:2]
        finished = history.finished is not None and shot is shots[-1]
        loss = history.finished.loss if finished and history.finished else history.lowest(shot.evaluations)
        name = shot.name or f"after {shot.evaluations}"
        shown.append(_image(shot.pixels, _SMALL, f"{name} · {width}x{height} · loss {loss:.3g}"))
    return f"<div class=many>{''.join(shown)}</div>"


def _pulls(found: Gradients, figure: str) -> str:
    if not found.norms:
        return f"<p>There are none. {escape(found.why)}</p>"
    names = list(dict.fromkeys(name for norms in found.norms.values() for name in norms))
    rows = [
        [str(evaluations), *(f"{norms.get(name, 0):.3g} ({100 * curves.share(norms, name):.0f}%)" for name in names)]
        for evaluations, norms in found.norms.items()
    ]
    return (
        "<p>The length of each weighted term's own gradient with respect to the pixels, computed from the pictures above. "
        "Where the search has come to rest they cancel out.</p>"
        f"{figure}<details><summary>Figures</summary>{_table(rows, ['evaluations', *names])}</details>"
    )


def _took(history: History) -> str:
    planned, record = history.planned, history.record
    rows = [
        [
            str(spent.size),
            f"{spent.made} of {spent.planned}",
            _seconds(spent.seconds),
            _rate(spent.made, spent.seconds),
            f"{spent.loss:.4g}",
        ]
        for spent in history.stages
    ]
    head = ["size", "evaluations", "time", "evaluations a second", "last loss"]
    peak, whole = record.get("peak_memory_bytes"), record.get("seconds", history.seconds)
    taken = [
        ["time", _seconds(planned.seconds), _seconds(whole)],
        ["memory", _gigabytes(planned.memory_bytes), _gigabytes(peak) if peak else "not told"],
    ]
    shots = record.get("snapshots")
    tile = f"tiles of {planned.tile} px" if planned.tile else "whole"
    facts = [["device", planned.device], ["kernel", planned.kernel], ["held", tile]]
    facts += [["disk", _gigabytes(planned.disk_bytes)]] if planned.disk_bytes else []
    facts += [["snapshots", f"{shots['count']} in {shots['seconds']:.2f} s, which the times include"]] if shots else []
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    facts += [["versions", versions]] if versions else []
    return f"{_table(rows, head) if rows else ''}{_table(taken, ['', 'said', 'taken'])}{_table(facts)}"


def _recipe(recipe: recipes.Recipe | None) -> str:
    if recipe is None:
        return "<p>There is no recipe in the folder.</p>"
    plain = recipes.Recipe()
    rows = [
        [f"--{name}", option.of(recipe) or "none", option.of(plain) or "none"]
        for name, option in recipes.options().items()
        if option.of(recipe) != option.of(plain)
    ]
    changed = _table(rows, ["setting", "here", "default"]) if rows else "<p>Every setting has its default.</p>"
    shown = without_folders(recipe).to_toml() if recipe.photo is not None else recipe.to_toml()
    return f"{changed}<details><summary>The whole recipe</summary><pre>{escape(shown)}</pre></details>"


def _notes(history: History) -> str:
    rows = [[f"after {evaluations}", _without(note, history.recipe)] for evaluations, note in history.notes]
    rows += [["at the end", history.failed.message]] if history.failed is not None else []
    if history.unreadable:
        rows.append(["", f"{history.unreadable} lines of the log cannot be read; they were passed over."])
    return _table(rows) if rows else ""


def _without(note: str, recipe: recipes.Recipe | None) -> str:
    """A note without the folders of the pictures that went in."""
    given = [*([recipe.photo] if recipe and recipe.photo else []), *(recipe.paintings if recipe else ())]
    for folder in {str(Path(one.path).parent) for one in given} - {"."}:
        note = note.replace(f"{folder}{os.sep}", "")
    return note


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:.3g}" if seconds > 0 else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
