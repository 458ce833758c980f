"""Write an explanation to a folder: single pictures, a poster, a page and the numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from impasto import __version__, images
from impasto.errors import CannotWrite, NotSaved
from impasto.explanations import bar_chart, page
from impasto.explanations.illustrations import new_pictures
from impasto.explanations.poster import draw_poster
from impasto.explanations.results import DISTANCES, Explanation
from impasto.networks.vgg import STYLE_LAYERS
from impasto.storage.names import json_text

POSTER, PAGE, FIGURES = "poster.png", "index.html", "figures.json"


def check(folder: Path, overwrite: bool = False) -> Path:
    """Create the folder and return its absolute path, once something can be written there.

    Raises:
        CannotWrite: a file is in the way, the folder cannot be written to, it holds something else
            than an explanation, or it holds an explanation and ``overwrite`` is False.
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
    """Whether the folder has a file of numbers such as ``write`` writes."""
    try:
        values = json.loads((folder / FIGURES).read_text("utf-8"))
        return {"photo", "network", "checks"} <= values.keys()
    except (OSError, ValueError, AttributeError):
        return False


def write(explanations: Iterable[Explanation], folder: Path) -> Explanation:
    """Write each picture as soon as it is made, then poster, page and numbers.

    Returns the last explanation.

    Raises:
        NotSaved: something could not be written; what was written before stays.
    """
    written: dict[str, images.Pixels] = {}
    explanation: Explanation | None = None
    try:
        for explanation in explanations:
            for name, pixels in new_pictures(explanation, set(written)).items():
                images.save(folder / f"{name}.png", pixels)
                written[name] = pixels
        if explanation is None:
            raise ValueError("there is no explanation to write")
        _write_summary(explanation, written, folder)
    except (CannotWrite, OSError) as error:
        reason = (
            error.message
            if isinstance(error, CannotWrite)
            else f"{folder}: {error.strerror or error}."
        )
        raise NotSaved(reason, f"What was written before is in {folder}.") from None
    return explanation


def _write_summary(
    explanation: Explanation, pictures: dict[str, images.Pixels], folder: Path
) -> None:
    images.save(folder / POSTER, draw_poster(explanation, pictures))
    files = {name: (folder / f"{name}.png").read_bytes() for name in pictures}
    html = page.html(explanation, files, bar_chart.png(explanation))
    images.replace_file(folder / PAGE, html.encode())
    numbers = json_text(to_dict(explanation), indent=1) + "\n"
    images.replace_file(folder / FIGURES, numbers.encode())


def to_dict(explanation: Explanation) -> dict[str, Any]:
    """Everything that was measured, as JSON values; sizes are [width, height]."""
    request = explanation.request
    return {
        "photo": Path(request.photo.source).name,
        "painting": Path(request.painting.source).name if request.painting else None,
        "network": request.recipe.network.name,
        "size": [request.size.width, request.size.height],
        "iterations": request.iterations,
        "seed": request.recipe.seed,
        "pictures": {"done": explanation.done, "planned": explanation.planned},
        "checks": explanation.checks,
        "content": [
            {"layer": each.deepest, "pixel_error": _round(each.pixel_error)}
            for each in explanation.content
        ],
        "style": [
            {"layers": list(each.layers), "piece_px": _round(each.patch_size)}
            for each in explanation.style
        ],
        "units": [
            {
                "unit": str(each.unit),
                "mean": _round(each.mean),
                "peak": _round(each.peak),
                "largest_mean_of_samples": _round(each.sample_mean),
                "largest_peak_of_samples": _round(each.sample_peak),
            }
            for each in explanation.activations
        ],
        "distances": _distances(explanation),
        "seconds": round(explanation.seconds, 1),
        "device": explanation.device,
        "kernel": explanation.kernel,
        "impasto": __version__,
    }


def _distances(explanation: Explanation) -> dict[str, Any]:
    """Statistic -> layer -> distance and share."""
    return {
        name: {
            layer: {
                "distance": _round(explanation.distances[name][layer]),
                "share": _round(explanation.shares[name][layer]),
            }
            for layer in STYLE_LAYERS
        }
        for name in DISTANCES
        if name in explanation.distances
    }


def _round(value: float) -> float:
    return float(f"{value:.5g}")
