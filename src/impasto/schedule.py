"""Coarse to fine as plain arithmetic: from a recipe and the photo's size to the sizes painted and the steps of each.

It knows numbers; it refuses to know pixels, networks and memory. Why coarse to fine: large forms are cheap to settle in a
small picture, so that the large one has only texture left to do, and what a network sees grows with the picture shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.recipe import Recipe

# Decades of content weight from strength 0 to strength 100.
_STRENGTH_DECADES = 3.0

_SETTLED_SIDE = 512  # long side from which on a picture looks the same at every size

# The coarsest layer of a VGG network halves the picture four times; below two of its positions there are no statistics.
LEAST_SIDE = 32
LARGEST_SIDE = 2**16  # that a recipe can name


@dataclass(frozen=True)
class Stage:
    """One size of the picture, and how many evaluations are spent on it."""

    size: Size
    steps: int


@dataclass(frozen=True)
class Plan:
    """The stages, coarsest first, and the factor that strength and size put on the content weight."""

    stages: tuple[Stage, ...]
    content_factor: float

    @property
    def size(self) -> Size:
        """The size of the finished picture."""
        return self.stages[-1].size

    @property
    def evaluations(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def work(self) -> int:
        """Pixels evaluated in all."""
        return sum(stage.size.pixels * stage.steps for stage in self.stages)


def plan(recipe: Recipe, photo: Size) -> Plan:
    """The stages for a photo of this size.

    Raises:
        BadPicture: the finished picture would have a side too short for the network.
    """
    final = photo if recipe.size == 0 else photo.with_long_side(recipe.size)
    if final.short_side < LEAST_SIDE:
        needed = least_side(photo)
        raise BadPicture(
            f"A {photo} photo painted at {final} has a side below {LEAST_SIDE} px, too few for the network to see.",
            f"Ask for --size {needed} or more, or crop the photo.",
        )
    sizes = [final] if recipe.schedule.single else _ladder(final, recipe)
    counts = recipe.schedule.iterations
    if recipe.schedule.single:
        counts = counts[-1:]
    stages = [Stage(size, counts[min(index, len(counts) - 1)]) for index, size in enumerate(sizes)]
    return Plan(tuple(stages), content_factor(recipe.strength, final))


def least_side(photo: Size) -> int:
    """The least long side at which the short one is not too short for the network."""
    return -(-LEAST_SIDE * photo.long_side // photo.short_side)


def content_factor(strength: float, final: Size) -> float:
    """A factor on the content weight: 1 at strength 50 for 512 px and more; equal steps of strength are equal ratios.

    From 512 px on the same weight looks the same at every size. A smaller picture is left where a larger one is still at
    its bold first stages, and has no finer stage to bring the photo back; it is held more firmly in proportion.
    """
    by_strength = 10 ** (_STRENGTH_DECADES * (50 - strength) / 100)
    return float(by_strength * max(1.0, _SETTLED_SIDE / final.long_side))


def painting_size(painting: Size, picture: Size, scale: float = 1.0) -> Size:
    """The size at which a painting is looked at: the picture's area times ``scale`` squared, the painting's own shape."""
    factor = scale * (picture.pixels / painting.pixels) ** 0.5
    return Size(max(LEAST_SIDE, round(painting.height * factor)), max(LEAST_SIDE, round(painting.width * factor)))


def _ladder(final: Size, recipe: Recipe) -> list[Size]:
    """Sizes that grow by the factor ``growth``, down from the final one to the one nearest to the coarsest asked for."""
    schedule = recipe.schedule
    sizes = [final]
    side = final.long_side / schedule.growth
    # A stage less than halfway (in ratio) above the coarsest would hardly differ from it.
    while side > schedule.coarsest * schedule.growth**-0.5:
        size = final.with_long_side(max(round(side), 1))
        if size.short_side < LEAST_SIDE:
            break
        sizes.append(size)
        side /= schedule.growth
    return sizes[::-1]
