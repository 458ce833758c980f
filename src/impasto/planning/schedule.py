"""Turn a recipe and the photo's size into stages: sizes, coarse to fine, and evaluations.

Large forms converge fast in a small picture, and a network sees more of a picture that is small.
So the large sizes only have texture left to paint.
"""

from __future__ import annotations

from dataclasses import dataclass

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.recipe.records import Recipe

# Decades of content weight from strength 0 to strength 100.
_STRENGTH_DECADES = 3.0
_SETTLED_SIDE = 512  # from this long side on, the same weight looks the same at every size

# The coarsest layer of a VGG network halves the picture four times; below two of its positions
# there are no statistics.
LEAST_SIDE = 32
LARGEST_SIDE = 2**16  # the largest size of a recipe


@dataclass(frozen=True)
class Stage:
    """One size of the picture and its number of evaluations."""

    size: Size
    steps: int


@dataclass(frozen=True)
class Plan:
    """The stages, coarsest first, and the factor that strength and size put on content."""

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
        """Pixels times evaluations, over all stages."""
        return sum(stage.size.pixels * stage.steps for stage in self.stages)


def make_plan(recipe: Recipe, photo: Size) -> Plan:
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
    own = recipe.content.scaling in ("relative", "normalized")
    return Plan(tuple(stages), content_factor(recipe.strength, final, own))


def least_side(photo: Size, side: str = "long") -> int:
    """The smallest length of a ``side`` at which no side is too short for the network."""
    return -(-LEAST_SIDE * photo.side(side) // photo.short_side)


def content_factor(strength: float, final: Size, relative: bool = True) -> float:
    """The factor on the content weight: 1 at strength 50 for 512 px and more.

    Equal steps of strength are equal ratios. From 512 px on the same weight looks the same at
    every size. A smaller picture ends where a larger one is still at its bold first stages, so its
    content weight grows in proportion. That applies to Impasto's own content scalings
    only; the published formulas are left as they are.
    """
    by_strength = 10 ** (_STRENGTH_DECADES * (50 - strength) / 100)
    return float(by_strength * (max(1.0, _SETTLED_SIDE / final.long_side) if relative else 1.0))


def painting_size(
    painting: Size, picture: Size, scale: float = 1.0, sizing: str = "area", enlarge: bool = True
) -> Size:
    """The size at which a painting's statistics are measured, for a picture of some size.

    ``sizing``: what the size is relative to, times ``scale``: the picture's "area" or one of its
    sides ("long", "short", "height", "width"), or the painting's "own" size. The painting keeps
    its shape. "squash" gives it the picture's size and shape. No side is smaller than a network
    needs. Without ``enlarge`` a painting that keeps its shape is never enlarged.
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
    """Sizes that grow by the factor ``growth`` up to the final one.

    The first is the one nearest to the recipe's coarsest size.
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
