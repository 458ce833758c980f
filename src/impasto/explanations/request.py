"""Read and check the request for an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from impasto import images
from impasto.assets import catalogue
from impasto.errors import BadRequest
from impasto.explanations.feature_visualization import Unit
from impasto.geometry import Size
from impasto.images.opening import Source
from impasto.inputs import read_pair
from impasto.networks import vgg
from impasto.planning.schedule import make_plan
from impasto.recipe import loading
from impasto.recipe.choices import NetworkName
from impasto.recipe.defaults import EXPLAIN_ITERATIONS, EXPLAIN_SIZE
from impasto.recipe.records import Recipe

LEAST_SIZE, LARGEST_SIZE = 64, 1024


@dataclass(frozen=True)
class ExplainRequest:
    """A photo, perhaps a painting, and how to explain them; everything has been checked.

    ``units``: empty means those that the photo activates most. ``recipe`` has size, seed and
    network; other settings differ from picture to picture. ``size`` is the photo's.
    """

    photo: images.Picture
    painting: images.Picture | None
    units: tuple[Unit, ...]
    recipe: Recipe
    iterations: int
    size: Size


def read_request(
    photo: Source,
    painting: Source | None = None,
    *,
    units: Sequence[str] = (),
    network: NetworkName = "vgg19",
    size: int = EXPLAIN_SIZE,
    iterations: int = EXPLAIN_ITERATIONS,
    seed: int = 0,
    progress: catalogue.Progress = catalogue.silent,
) -> ExplainRequest:
    """Check names and numbers, then read the files. No network is read, nothing is written.

    Args:
        photo, painting: as ``impasto.stylize`` takes them.
        units: such as "relu3_1:42", channel 42 of a layer.
        size: long side of the photo in pixels. The painting gets the same area.
        iterations: evaluations of each reconstruction, and steps of each unit's picture.

    Raises:
        BadRequest: an argument cannot be used.
    """
    settings = {
        "network": network,
        "size": size,
        "seed": seed,
        "single_scale": True,
        "iterations": str(iterations),
    }
    recipe = loading.with_settings(Recipe(), {**settings, "precision": "float32", "init": "noise"})
    if not LEAST_SIZE <= recipe.size <= LARGEST_SIZE:
        raise BadRequest(
            f"The size is {size}, but it must be {LEAST_SIZE} to {LARGEST_SIZE} px.",
        )
    configuration = vgg.CONFIGURATION_OF[network]
    parsed = tuple(dict.fromkeys(Unit.parse(text, configuration) for text in units))
    limit = recipe.max_megapixels
    picture, model = read_pair(photo, painting, limit, progress, recipe.size)
    size_of_photo = make_plan(recipe, picture.size).size
    return ExplainRequest(picture, model, parsed, recipe, iterations, size_of_photo)
