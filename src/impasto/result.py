"""A finished picture: its pixels, how it was made, and its file.

It knows what is told of a run in a picture and in its record. It refuses to know how pictures are
painted, and when.
"""

from __future__ import annotations

import math
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from impasto import images
from impasto.errors import CannotWrite, NotSaved
from impasto.events import Planned
from impasto.geometry import Size
from impasto.inputs import Request
from impasto.recipe.records import Recipe

if TYPE_CHECKING:
    import PIL.Image

    from impasto.optimize.state import State


@dataclass(frozen=True)
class Painting:
    """A finished picture and how it was made.

    ``pixels`` is float32 (H, W, 3), sRGB-encoded, 0..1; ``alpha`` (H, W) is the photo's, if it has
    one. ``record`` holds sizes, times, losses, hashes and versions as plain values.
    """

    pixels: images.Pixels
    alpha: images.Pixels | None
    recipe: Recipe
    record: dict[str, Any]
    exif: bytes = b""
    credit: str = ""

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return Size(*self.pixels.shape[:2])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the pictures that went in and about the run, a sentence
        each.
        """
        return tuple(self.record.get("notes", ()))

    @property
    def image(self) -> PIL.Image.Image:
        """The picture as an 8-bit PIL image, RGB, or RGBA where the photo had transparency."""
        from PIL import Image

        parts = [self.pixels] if self.alpha is None else [self.pixels, self.alpha[..., None]]
        return Image.fromarray((np.concatenate(parts, -1) * 255).round().astype(np.uint8))

    def save(self, path: str | Path) -> Path:
        """Write the picture with its recipe and credit inside; gives the absolute path.

        Raises:
            CannotWrite: the folder, the name's extension, or the disk.
        """
        bits = self.recipe.output.bits
        inputs = [
            each.path for each in (self.recipe.photo, *self.recipe.paintings) if each is not None
        ]
        if os.path.realpath(path) in map(os.path.realpath, inputs):
            raise CannotWrite(
                f"{path} is one of the pictures that went in; it would be lost.",
                "Give another name.",
            )
        target = images.check_output(path, bits=bits, size=self.size)
        images.save(
            target,
            self.pixels,
            alpha=self.alpha,
            exif=self.exif,
            recipe=without_folders(self.recipe).to_json(),
            credit=self.credit,
            bits=bits,
            quality=self.recipe.output.quality,
        )
        return target


def of(asked: Request, state: State, planned: Planned | None, seconds: float) -> Painting:
    """The picture of a state, in the size asked for, and what there is to tell of it."""
    import torch

    from impasto import __version__
    from impasto.hardware import devices, system_memory

    recipe, size = asked.recipe, asked.plan.size
    pixels = images.from_tensor(state.picture)
    np.clip(pixels, 0, 1, out=pixels)  # a copy more is 290 MB at 24 megapixels
    # Stopped before the last stage: the picture so far, in the size asked for.
    if pixels.shape[:2] != tuple(size):
        pixels = images.resize(pixels, size)
    alpha = images.resize(asked.photo.alpha, size) if asked.photo.alpha is not None else None
    where, _ = devices.device(recipe.compute.device)
    record = {
        "output": None,
        "size": [size.width, size.height],
        "seconds": round(seconds, 2),
        "evaluations": state.evaluations,
        "device": where.type,
        "processor": planned.device if planned else "",
        "kernel": planned.kernel if planned else "",
        "loss": {"total": state.value.total, **state.value.terms},
        "expected_seconds": planned.seconds if planned else None,
        "expected_memory_bytes": planned.memory_bytes if planned else None,
        "peak_memory_bytes": system_memory.peak_memory(where),
        "recipe_sha256": recipe.sha256,
        "recipe": recipe.name,
        "credit": asked.credit,
        "versions": {
            "impasto": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    return Painting(pixels, alpha, recipe, record, asked.photo.exif, asked.credit)


def read(file: Path, asked: Request, record: dict[str, Any]) -> Painting:
    """A picture that was painted before, from its file, with the record of its run."""
    picture = images.read(file, max_megapixels=math.inf)
    return Painting(
        picture.pixels, picture.alpha, asked.recipe, record, asked.photo.exif, asked.credit
    )


def save(painting: Painting, output: Path) -> Path:
    """Write the finished picture; where that fails, elsewhere, so that the work is not lost.

    Raises:
        NotSaved: it could not be written to ``output``. The hint says where it is instead.
    """
    try:
        return painting.save(output)
    except CannotWrite as error:
        for folder in (Path(tempfile.gettempdir()), Path.home()):
            try:
                kept = painting.save(folder / f"impasto-{painting.recipe.sha256[:8]}-{output.name}")
            except CannotWrite:
                continue
            raise NotSaved(error.message, f"The picture is kept as {kept}.") from None
        raise NotSaved(
            error.message, "It could not be kept anywhere else either. Make room, and run it again."
        ) from None


def without_folders(recipe: Recipe) -> Recipe:
    """The recipe with file names in place of paths: a picture that is passed on says nothing of its
    maker's folders.
    """
    assert recipe.photo is not None
    return recipe.model_copy(
        update={
            "network": recipe.network.model_copy(
                update={"weights": Path(recipe.network.weights).name}
            ),
            "schedule": recipe.schedule.model_copy(
                update={"start": Path(recipe.schedule.start).name}
            ),
            "photo": recipe.photo.model_copy(update={"path": Path(recipe.photo.path).name}),
            "paintings": tuple(
                painting.model_copy(update={"path": Path(painting.path).name})
                for painting in recipe.paintings
            ),
        }
    )
