"""Draw the posters of a sweep: rows by the first axis, columns by the second, pages by others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from impasto import images
from impasto.sweeps.grid import Axis
from impasto.sweeps.job import POSTER, Job
from impasto.sweeps.outcome import NOT_PAINTED

# Px: the long side of a picture, and of a poster with many of them.
_PICTURE, _WIDEST = 256, 8000
_LONGEST_ROW = 8  # pictures of a single axis side by side
Indices = tuple[int, ...]
Thumbnails = Mapping[Indices, "images.Pixels | str"]
"""By combination: the picture, or a text that says why there is none."""


def picture_side(axes: tuple[Axis, ...]) -> int:
    """The long side of each picture on the posters, in pixels."""
    longest = max(len(axis.values) for axis in axes[:2]) if len(axes) > 1 else _LONGEST_ROW
    return max(64, min(_PICTURE, _WIDEST // longest))


def write_posters(job: Job, thumbnails: Thumbnails) -> Iterator[Path]:
    """Write a page for every combination of the axes after the second, and yield its path."""
    pages = job.axes[2:]
    for indices in itertools.product(*(range(len(axis.values)) for axis in pages)):
        chosen = list(zip(pages, indices, strict=True))
        stems = [f"{axis.name}-{axis.stems[index]}" for axis, index in chosen]
        settings = [f"{axis.name} {axis.texts[index]}" for axis, index in chosen]
        file = job.folder / f"{'_'.join([POSTER, *stems])}.png"
        images.save(file, _page(job, thumbnails, indices, settings))
        yield file


def _page(job: Job, thumbnails: Thumbnails, page: Indices, settings: list[str]) -> images.Pixels:
    heading = _heading(job, settings)
    labels = [[f"{axis.name} {text}" for text in axis.texts] for axis in job.axes[:2]]
    if len(labels) == 1:
        return _rows_of_one_axis(job, thumbnails, labels[0], heading)
    rows, columns = labels
    cells = [
        [thumbnails.get((row, column, *page), NOT_PAINTED) for column in range(len(columns))]
        for row in range(len(rows))
    ]
    return images.poster(cells, rows, columns, heading, picture_side(job.axes))


def _heading(job: Job, settings: list[str]) -> images.Heading:
    inputs = job.cells[0].inputs
    photo, painting = inputs.photo, inputs.paintings[0]
    photo_name = images.shown_name(Path(photo.source).stem, "the photo")
    painting_name = images.shown_name(Path(painting.source).stem, "the painting")
    return images.Heading(
        f"{photo_name} in the style of {painting_name}",
        tuple(filter(None, [", ".join(settings), ", ".join(job.fixed)])),
        ((photo.pixels, "photo"), (painting.pixels, "painting")),
    )


def _rows_of_one_axis(
    job: Job, thumbnails: Thumbnails, labels: list[str], heading: images.Heading
) -> images.Pixels:
    """The poster of a single axis, in as few rows of equal length as are needed."""
    rows = -(-len(labels) // _LONGEST_ROW)
    length = -(-len(labels) // rows)
    strips = []
    for start in range(0, len(labels), length):
        names = labels[start : start + length]
        cells = [thumbnails.get((start + index,), NOT_PAINTED) for index in range(len(names))]
        empty = [""] * (length - len(names))
        above = heading if start == 0 else images.Heading("")
        side = picture_side(job.axes)
        strips.append(images.poster([[*cells, *empty]], [""], [*names, *empty], above, side))
    return np.concatenate(strips)
