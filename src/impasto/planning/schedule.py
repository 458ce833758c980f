"""Coarse to fine as plain arithmetic: from a recipe and the photo's size to the sizes painted and
the steps of each.

It knows numbers; it refuses to know pixels, networks and memory. Why coarse to fine: large forms
are cheap to settle in a small picture, so that the large one has only texture left to do, and what
a network sees grows with the picture shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.recipe.records import Recipe

# Decades of content weight from strength 0 to strength 100.
_STRENGTH_DECADES = 3.0
_SETTLED_SIDE = 512  # long side from which on a picture looks the same at every size

# The coarsest layer of a VGG network halves the picture four times; below two of its positions
# there are no statistics.
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
    as_it_is = recipe.size == 0 or (not recipe.enlarge and photo.side(recipe.side) <= recipe.size)
    final = photo if as_it_is else photo.with_side(recipe.side, recipe.size)
    if final.short_side < LEAST_SIDE:
        needed = least_side(photo, recipe.side)
        raise BadPicture(
            f"A {photo} photo painted at {final} has a side below {LEAST_SIDE} px, too few for "
            f"the network to see.",
            f"Ask for --size {needed} or more, or crop the photo.",
        )
    sizes = [final] if recipe.schedule.single else _ladder(final, recipe)
    counts = recipe.schedule.iterations
    if recipe.schedule.single:
        counts = counts[-1:]
    stages = [Stage(size, counts[min(index, len(counts) - 1)]) for index, size in enumerate(sizes)]
    return Plan(
        tuple(stages), content_factor(recipe.strength, final, recipe.content.scaling == "relative")
    )


def least_side(photo: Size, side: str = "long") -> int:
    """The least length of a side, the long one where no other is named, at which none is too short
    for the network.
    """
    return -(-LEAST_SIDE * photo.side(side) // photo.short_side)


def content_factor(strength: float, final: Size, relative: bool = True) -> float:
    """A factor on the content weight: 1 at strength 50 for 512 px and more; equal steps of strength
    are equal ratios.

    From 512 px on the same weight looks the same at every size. A smaller picture is left where a
    larger one is still at its bold first stages, and has no finer stage to bring the photo back; it
    is held more firmly in proportion. That is for the house's ``relative`` content; a published
    formula is left as it is published.
    """
    by_strength = 10 ** (_STRENGTH_DECADES * (50 - strength) / 100)
    return float(by_strength * (max(1.0, _SETTLED_SIDE / final.long_side) if relative else 1.0))


def painting_size(
    painting: Size, picture: Size, scale: float = 1.0, sizing: str = "area", enlarge: bool = True
) -> Size:
    """The size at which a painting is looked at, for a picture of some size.

    ``sizing``: its "area", one of its sides ("long", "short", "height", "width"), or the painting's
    "own" size, times ``scale`` and in the painting's own shape; or "squash", the picture's size
    times ``scale``, whatever shape the painting is. No side is less than a network needs. Without
    ``enlarge`` a painting in its own shape is at most as large as it is.
    """
    if sizing == "squash":
        painting, factor = picture, scale
    else:
        whole = {"area": (picture.pixels / painting.pixels) ** 0.5, "own": 1.0}
        factor = scale * (
            whole[sizing] if sizing in whole else picture.side(sizing) / painting.side(sizing)
        )
        factor = factor if enlarge else min(factor, 1.0)
    return Size(
        max(LEAST_SIDE, round(painting.height * factor)),
        max(LEAST_SIDE, round(painting.width * factor)),
    )


def _ladder(final: Size, recipe: Recipe) -> list[Size]:
    """Sizes that grow by the factor ``growth``, down from the final one to the one nearest to the
    coarsest asked for.
    """
    schedule = recipe.schedule
    sizes = [final]
    side = final.side(recipe.side) / schedule.growth
    # A stage less than halfway (in ratio) above the coarsest would hardly differ from it.
    while side > schedule.coarsest * schedule.growth**-0.5:
        size = final.with_side(recipe.side, max(round(side), 1))
        if size.short_side < LEAST_SIDE:
            break
        sizes.append(size)
        side /= schedule.growth
    return sizes[::-1]
