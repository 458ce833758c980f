"""An explanation hung up to be looked at: single pictures, a poster, a page and the figures, in one
folder.

It knows names of files and what is written when. It refuses to know how anything is found. The
rooms inside: ``pictures`` (each as pixels), ``poster`` (all on one sheet), ``page`` (all with
explanations).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from impasto import __version__, images
from impasto.errors import CannotWrite, NotSaved
from impasto.explain import figure, page
from impasto.explain.illustrations import pictures
from impasto.explain.results import DISTANCES, STYLE_LAYERS, Explanation
from impasto.storage.names import json_text

POSTER, PAGE, FIGURES = "poster.png", "index.html", "figures.json"


def check(folder: Path, overwrite: bool = False) -> Path:
    """The folder's whole path, once it is made and something can be written there.

    Raises:
        CannotWrite: a file is in the way, the folder cannot be written to, it holds something that
            is no explanation, or it holds an explanation and ``overwrite`` was not said.
    """
    if folder.is_file():
        raise CannotWrite(
            f"{folder} is a file; pictures and a page need a folder.", "Name another one with -o."
        )
    there = (
        sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
        if folder.is_dir()
        else []
    )
    if there and not _is_explanation(folder):
        raise CannotWrite(
            f"{folder} holds {there[0]} and is no explanation.", "Name another folder with -o."
        )
    if there and not overwrite:
        raise CannotWrite(
            f"{folder} holds an explanation already; it is kept.",
            "Name another folder with -o, or add --overwrite.",
        )
    return images.check_output(folder / POSTER).parent


def _is_explanation(folder: Path) -> bool:
    """Whether the folder's figures are those that ``write`` writes."""
    try:
        return {"photo", "network", "checks"} <= json.loads(
            (folder / FIGURES).read_text("utf-8")
        ).keys()
    except (OSError, ValueError, AttributeError):
        return False


def write(stream: Iterable[Explanation], folder: Path) -> Explanation:
    """Write pictures as they are found, and at the end poster, page and figures of what there is;
    gives the last.

    Raises:
        NotSaved: something could not be written; what was written before stays.
    """
    written: dict[str, images.Pixels] = {}
    found: Explanation | None = None
    try:
        for found in stream:
            for name, pixels in pictures(found, set(written)).items():
                images.save(folder / f"{name}.png", pixels)
                written[name] = pixels
        if found is None:
            raise ValueError("nothing was found")
        images.save(folder / POSTER, figure.drawn(found, written))
        files = {name: (folder / f"{name}.png").read_bytes() for name in written}
        images.replace_file(folder / PAGE, page.text(found, files, figure.bars(found)).encode())
        images.replace_file(folder / FIGURES, (json_text(values(found), indent=1) + "\n").encode())
    except (CannotWrite, OSError) as error:
        reason = (
            error.message
            if isinstance(error, CannotWrite)
            else f"{folder}: {error.strerror or error}."
        )
        raise NotSaved(reason, f"What was written before is in {folder}.") from None
    return found


def values(found: Explanation) -> dict[str, Any]:
    """Everything that was measured, as plain values; sizes are [width, height]."""
    asked = found.asked
    return {
        "photo": Path(asked.photo.source).name,
        "painting": Path(asked.painting.source).name if asked.painting else None,
        "network": asked.recipe.network.name,
        "size": [asked.size.width, asked.size.height],
        "iterations": asked.iterations,
        "seed": asked.recipe.seed,
        "pictures": {"done": found.done, "planned": found.planned},
        "checks": found.checks,
        "content": [
            {"layer": each.layers[-1], "pixel_error": _round(each.figure)} for each in found.content
        ],
        "style": [
            {"layers": list(each.layers), "piece_px": _round(each.figure)} for each in found.style
        ],
        "units": [
            {
                "unit": str(each.unit),
                "mean": _round(each.mean),
                "peak": _round(each.peak),
                "largest_mean_of_samples": _round(each.sample_mean),
                "largest_peak_of_samples": _round(each.sample_peak),
            }
            for each in found.answers
        ],
        "distances": {
            name: {
                at: {
                    "distance": _round(found.distances[name][at]),
                    "share": _round(found.shares[name][at]),
                }
                for at in STYLE_LAYERS
            }
            for name in DISTANCES
            if name in found.distances
        },
        "seconds": round(found.seconds, 1),
        "device": found.device,
        "kernel": found.kernel,
        "impasto": __version__,
    }


def _round(value: float) -> float:
    return float(f"{value:.5g}")
