"""The finished picture: its pixels, how it was made, and how it is saved."""

from __future__ import annotations

import io
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
from impasto.inputs import Inputs
from impasto.recipe.records import Recipe

if TYPE_CHECKING:
    import PIL.Image

    from impasto.optimize.state import State

_NOTEBOOK_SIDE = 1024  # px: the long side of a picture that a notebook shows


@dataclass(frozen=True)
class Painting:
    """A finished picture and how it was made.

    ``pixels``: float32 (H, W, 3), sRGB-encoded, 0..1. ``alpha``: the photo's (H, W), or None.
    ``record``: sizes, times, losses, hashes and versions as plain values. ``credit``: of museum
    paintings. A notebook shows the picture.
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
        """What the user should know about the pictures and the run, a sentence each."""
        return tuple(self.record.get("notes", ()))

    @property
    def image(self) -> PIL.Image.Image:
        """The picture as an 8-bit PIL image: RGB, or RGBA where the photo had transparency."""
        from PIL import Image

        parts = [self.pixels] if self.alpha is None else [self.pixels, self.alpha[..., None]]
        return Image.fromarray((np.concatenate(parts, -1) * 255).round().astype(np.uint8))

    def save(self, path: str | Path) -> Path:
        """Write the picture with its recipe and credit inside; return the absolute path.

        Raises:
            CannotWrite: the folder, the file name's extension, or the disk.
        """
        bits = self.recipe.output.bits
        inputs = [
            picture.path for picture in (self.recipe.photo, *self.recipe.paintings) if picture
        ]
        if os.path.realpath(path) in map(os.path.realpath, inputs):
            raise CannotWrite(
                f"{path} is one of the input pictures; it would be lost.", "Give another name."
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

    def save_somewhere(self, path: Path) -> Path:
        """``save``; if that fails, save to a temporary folder, so that the work is not lost.

        Raises:
            NotSaved: it could not be written to ``path``. The hint says where it is instead.
        """
        try:
            return self.save(path)
        except CannotWrite as error:
            name = f"impasto-{self.recipe.sha256[:8]}-{path.name}"
            for folder in (Path(tempfile.gettempdir()), Path.home()):
                try:
                    saved = self.save(folder / name)
                except CannotWrite:
                    continue
                raise NotSaved(error.message, f"The picture is kept as {saved}.") from None
            hint = "It could not be kept anywhere else either. Make room, and run it again."
            raise NotSaved(error.message, hint) from None

    def _repr_png_(self) -> bytes:
        """The picture as PNG, reduced for the screen, for notebooks."""
        image = self.image
        image.thumbnail((_NOTEBOOK_SIDE, _NOTEBOOK_SIDE))
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()


def painting_from_state(
    inputs: Inputs, state: State, planned: Planned | None, seconds: float
) -> Painting:
    """Return the picture of a state in its final size, with its record.

    ``seconds``: the time that it took.
    """
    import torch

    from impasto import __version__
    from impasto.hardware import devices, system_memory

    recipe, size = inputs.recipe, inputs.plan.size
    pixels = images.from_tensor(state.picture)
    np.clip(pixels, 0, 1, out=pixels)  # in place: a copy takes 290 MB at 24 megapixels
    if pixels.shape[:2] != tuple(size):  # stopped before the last stage
        pixels = images.resize(pixels, size)
    alpha = inputs.photo.alpha
    alpha = images.resize(alpha, size) if alpha is not None else None
    device, _ = devices.choose_device(recipe.compute.device)
    record = {
        "output": None,
        "size": [size.width, size.height],
        "seconds": round(seconds, 2),
        "evaluations": state.evaluations,
        "device": device.type,
        "processor": planned.device if planned else "",
        "kernel": planned.kernel if planned else "",
        "loss": {"total": state.loss.total, **state.loss.terms},
        "expected_seconds": planned.seconds if planned else None,
        "expected_memory_bytes": planned.memory_bytes if planned else None,
        "peak_memory_bytes": system_memory.peak_memory(device),
        "recipe_sha256": recipe.sha256,
        "recipe": recipe.name,
        "credit": inputs.credit,
        "versions": {
            "impasto": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    return Painting(pixels, alpha, recipe, record, inputs.photo.exif, inputs.credit)


def painting_from_file(file: Path, inputs: Inputs, record: dict[str, Any]) -> Painting:
    """Return a picture that was painted before, from its file and the record of its run."""
    picture = images.read(file, max_megapixels=math.inf)
    return Painting(
        picture.pixels, picture.alpha, inputs.recipe, record, inputs.photo.exif, inputs.credit
    )


def without_folders(recipe: Recipe) -> Recipe:
    """The recipe with file names in place of paths, so that it does not reveal folders."""
    assert recipe.photo is not None

    def name(path: str) -> str:
        return Path(path).name

    network, schedule, photo = recipe.network, recipe.schedule, recipe.photo
    protect = recipe.protect
    return recipe.model_copy(
        update={
            "network": network.model_copy(update={"weights": name(network.weights)}),
            "schedule": schedule.model_copy(update={"start": name(schedule.start)}),
            "protect": protect.model_copy(update={"regions": name(protect.regions)}),
            "photo": photo.model_copy(update={"path": name(photo.path)}),
            "paintings": tuple(
                painting.model_copy(update={"path": name(painting.path)})
                for painting in recipe.paintings
            ),
        }
    )
