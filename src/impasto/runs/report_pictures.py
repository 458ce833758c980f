"""The pictures of a run's report: what went in, snapshots, and the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np

from impasto import images
from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.recipe import records
from impasto.runs import folder as runs
from impasto.runs.history import History
from impasto.runs.run_inputs import RunInput
from impasto.storage import templates

_LARGE, _SMALL = 560, 240  # long sides in pixels
_MOST = 12  # snapshots and result

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class RunPicture:
    """A picture of the run after so many evaluations: pixels (H, W, 3), 0..1.

    ``name`` is empty for a snapshot.
    """

    evaluations: int
    pixels: images.Pixels
    name: str = ""


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture as a data URL with its caption; the caption alone if the picture is gone."""

    caption: str
    source: str = ""


def read_pictures(history: History) -> list[RunPicture]:
    """Up to 12 pictures of the run, in order.

    They are evenly spaced snapshots and then the result. Without either it is the last preview.
    """
    result = runs.result_file(history.folder)
    snapshots = evenly_spaced(runs.snapshot_files(history.folder), _MOST - (result is not None))
    pictures = [
        RunPicture(evaluations, pixels)
        for evaluations, file in snapshots
        if (pixels := _pixels(file)) is not None
    ]
    made = history.evaluations_made
    if result is not None and (pixels := _pixels(result)) is not None:
        pictures.append(RunPicture(made, pixels, "the result"))
    elif not pictures and (pixels := _pixels(history.folder / runs.PREVIEW)) is not None:
        pictures.append(RunPicture(made, pixels, "the last preview"))
    return pictures


def evenly_spaced(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most so many of the items, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


def input_and_result(
    inputs: Sequence[RunInput], pictures: Sequence[RunPicture]
) -> list[CaptionedPicture]:
    """What went into a run, and the last picture that came out of it."""
    shown = [
        _captioned(each.picture.pixels, _LARGE, f"{each.role}: {Path(each.name).name}")
        if each.picture is not None
        else CaptionedPicture(f"The {each.role} {Path(each.name).name} {each.problem}.")
        for each in inputs
    ]
    if pictures:
        last = pictures[-1]
        caption = last.name or f"after {last.evaluations} evaluations"
        shown.append(_captioned(last.pixels, _LARGE, caption))
    return shown


def progress(history: History, pictures: Sequence[RunPicture]) -> list[CaptionedPicture]:
    """Every picture of a run with its size and loss."""
    shown = []
    for picture in pictures:
        height, width = picture.pixels.shape[:2]
        loss = history.lowest_loss(picture.evaluations)
        if history.finished is not None and picture is pictures[-1]:
            loss = history.finished.loss
        name = picture.name or f"after {picture.evaluations}"
        loss_text = f" · loss {loss:.3g}" if math.isfinite(loss) else ""
        caption = f"{name} · {width}x{height}{loss_text}"
        shown.append(_captioned(picture.pixels, _SMALL, caption))
    return shown


def _pixels(file: Path) -> images.Pixels | None:
    try:
        return images.read(file, max_megapixels=records.Recipe().max_megapixels).pixels
    except BadPicture:
        return None


def _captioned(pixels: images.Pixels, side: int, caption: str) -> CaptionedPicture:
    """A picture as JPEG, its long side at most ``side`` pixels."""
    from PIL import Image

    size = Size(*pixels.shape[:2])
    small = images.resize(pixels, size.with_long_side(min(side, size.long_side)))
    buffer = BytesIO()
    image = Image.fromarray((small * 255).round().astype(np.uint8))
    image.save(buffer, "JPEG", quality=88, subsampling=0)
    return CaptionedPicture(caption, templates.data_url("image/jpeg", buffer.getvalue()))
