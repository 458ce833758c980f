"""How fast: an evaluation against the yardstick's (row ``step``), and over growing pictures (row
``growth``).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import skimage.data

from benchmarks import yardstick
from benchmarks.scene import CPU, GRAM, PLAIN, How, Scene, clocked, contest, scene
from benchmarks.table import Row
from impasto.hardware import allocator, kernel_cache, system_memory
from impasto.networks import weights

STEP_ASKED, STEP_AIM = 1.8, 2.5
STEP_SIDES, STEP_SIDES_FULL = (256, 512), (256, 512, 1024, 2048)
STEP_SIDE = 512  # of what is measured at one size alone
STEP_ASKED_FROM = 512  # px of long side; below, what is done once for a layer weighs too much
GROWTH_ASKED = 1.15
GROWTH_MEGAPIXELS, GROWTH_MEGAPIXELS_FULL = (0.25, 1.0), (1.0, 4.0, 16.0)


def step(how: How) -> Iterator[Row]:
    """Value and pixel gradient of VGG-19 to relu5_1, in megapixel-iterations a second.

    As Impasto does it where nobody asks for a precision; in float32 besides, where that is not the
    same.
    """
    for side in STEP_SIDES_FULL if how.full else STEP_SIDES:
        yield _step(how, "Gram", GRAM, side, asked=side >= STEP_ASKED_FROM)
    yield _step(how, "default", PLAIN, STEP_SIDE, asked=False)
    if kernel_cache.kernel("auto", CPU) != kernel_cache.kernel("float32", CPU):
        yield _step(how, "Gram", GRAM, STEP_SIDE, asked=False, precision="float32")


def _step(
    how: How,
    objective: str,
    settings: dict[str, Any],
    side: int,
    *,
    asked: bool,
    precision: str = "auto",
) -> Row:
    made = scene(side, precision=precision, **settings).planned()
    how_cut = "" if made.how == "whole" else f", {made.how}"
    what = f"one evaluation at {made.size}, {objective} objective, {made.tools.network.kernel.name}{how_cut}"
    wish = f"at least {STEP_ASKED}x (aim {STEP_AIM}x)" if asked else ""
    recipe = made.asked.recipe
    needed = yardstick.needs(recipe, weights.load(recipe.network.name), made.size.pixels)
    free = system_memory.free_memory(CPU)
    if needed > 0.95 * free:
        needs = f"the yardstick needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free"
        return Row("step", what, wish, f"skipped: {needs}")
    with contest(made, crowded=needed + made.memory > 0.9 * free) as sides:
        pairs = sides.pairs(how.pairs, how.say)
    theirs, ours = (made.size.pixels / 1e6 / seconds for seconds in pairs.medians)
    speeds = f"{ours:.3f} against {theirs:.3f} megapixel-iterations a second"
    measured = f"{pairs.ratio:.2f}x: {speeds}, {how.pairs} pairs; {sides.agreement}"
    holds = pairs.ratio >= STEP_ASKED if asked else None
    return Row("step", what, wish, measured, holds if sides.same else False)


def growth(how: How) -> Iterator[Row]:
    """Seconds for a megapixel, up the sizes and down again: a machine that slows down meanwhile
    does so for all of them.
    """
    wanted = GROWTH_MEGAPIXELS_FULL if how.full else GROWTH_MEGAPIXELS
    photo = skimage.data.coffee()
    found: dict[float, list[float]] = {megapixels: [] for megapixels in wanted}
    cuts: dict[float, str] = {}
    for megapixels in (*wanted, *reversed(wanted[:-1])):
        side = round((megapixels * 1e6 * photo.shape[1] / photo.shape[0]) ** 0.5)
        made = scene(side, photo, precision="auto").planned()
        cuts[megapixels] = made.how
        for seconds in _seconds(made, 3):
            found[megapixels].append(seconds / made.size.pixels * 1e6)
            how.say(
                f"{megapixels:g} MP, {cuts[megapixels]}: {found[megapixels][-1]:.2f} s a megapixel"
            )
    typical = {megapixels: statistics.median(values) for megapixels, values in found.items()}
    spread = max(typical.values()) / min(typical.values())
    each = ", ".join(
        f"{value:.2f} at {megapixels:g} MP ({cuts[megapixels]})"
        for megapixels, value in typical.items()
    )
    yield Row(
        "growth",
        "seconds a megapixel of one evaluation, cut as Impasto plans it",
        f"the most at most {GROWTH_ASKED} times the least",
        f"{spread:.2f} times: {each}",
        spread <= GROWTH_ASKED,
    )


def _seconds(made: Scene, count: int) -> Iterator[float]:
    """The seconds of so many evaluations, after one that is not timed."""
    with allocator.reused_memory(made.reuse):
        evaluate, pixels = made.evaluation(), made.noisy
        evaluate(pixels)
        for _ in range(count):
            yield clocked(lambda: evaluate(pixels))
