"""Time of one evaluation: speedup over the baseline (row ``step``), and time per megapixel (row
``growth``).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import skimage.data

from benchmarks import baseline
from benchmarks.scene import (
    CPU,
    GRAM,
    PLAIN,
    Options,
    Scene,
    build_scene,
    compare_with_baseline,
    seconds_of,
)
from benchmarks.table import Row
from impasto.hardware import allocator, kernel_cache, system_memory
from impasto.networks import weights

STEP_TARGET, STEP_GOAL = 1.8, 2.5
STEP_SIDES, STEP_SIDES_FULL = (256, 512), (256, 512, 1024, 2048)
STEP_SIDE = 512  # for what is measured at one size only
STEP_TARGET_FROM = 512  # px of long side; below it, fixed costs per layer weigh too much
GROWTH_TARGET = 1.15
GROWTH_MEGAPIXELS, GROWTH_MEGAPIXELS_FULL = (0.25, 1.0), (1.0, 4.0, 16.0)


def step(options: Options) -> Iterator[Row]:
    """Loss and pixel gradient of VGG-19 to relu5_1, in megapixel-iterations per second.

    Measured with precision ``auto``, and also in float32 where that is another kernel.
    """
    for side in STEP_SIDES_FULL if options.full else STEP_SIDES:
        yield _step(options, "Gram", GRAM, side, has_target=side >= STEP_TARGET_FROM)
    yield _step(options, "default", PLAIN, STEP_SIDE, has_target=False)
    if kernel_cache.fastest_kernel("auto", CPU) != kernel_cache.fastest_kernel("float32", CPU):
        yield _step(options, "Gram", GRAM, STEP_SIDE, has_target=False, precision="float32")


def _step(
    options: Options,
    objective: str,
    settings: dict[str, Any],
    side: int,
    *,
    has_target: bool,
    precision: str = "auto",
) -> Row:
    scene = build_scene(side, precision=precision, **settings).planned()
    kernel = scene.problem.network.kernel.name
    what = f"speedup of an evaluation at {scene.size}, {objective} objective, {kernel}"
    what += "" if scene.tiling == "whole" else f", {scene.tiling}"
    target = f"at least {STEP_TARGET}x (goal {STEP_GOAL}x)" if has_target else ""
    recipe = scene.inputs.recipe
    needed = baseline.needs(recipe, weights.load(recipe.network.name), scene.size.pixels)
    free = system_memory.free_memory(CPU)
    if needed > 0.95 * free:
        needs = f"the baseline needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free"
        return Row("step", what, target, f"skipped: {needs}")
    crowded = needed + scene.memory > 0.9 * free
    with compare_with_baseline(scene, crowded=crowded) as comparison:
        pairs = comparison.pairs(options.pairs, options.say)
    theirs, ours = (scene.size.pixels / 1e6 / seconds for seconds in pairs.medians)
    speeds = f"{ours:.3f} against {theirs:.3f} megapixel-iterations per second"
    measured = f"{pairs.ratio:.2f}x: {speeds}, {options.pairs} pairs; {comparison.agreement}"
    met = pairs.ratio >= STEP_TARGET if has_target else None
    return Row("step", what, target, measured, met if comparison.same else False)


def growth(options: Options) -> Iterator[Row]:
    """Seconds per megapixel, over growing and then shrinking sizes.

    A machine that slows down in the meantime thus affects all sizes.
    """
    sizes = GROWTH_MEGAPIXELS_FULL if options.full else GROWTH_MEGAPIXELS
    photo = skimage.data.coffee()
    seconds_at: dict[float, list[float]] = {megapixels: [] for megapixels in sizes}
    tilings: dict[float, str] = {}
    for megapixels in (*sizes, *reversed(sizes[:-1])):
        side = round((megapixels * 1e6 * photo.shape[1] / photo.shape[0]) ** 0.5)
        scene = build_scene(side, photo, precision="auto").planned()
        tilings[megapixels] = scene.tiling
        for seconds in _seconds(scene, 3):
            per_megapixel = seconds / scene.size.pixels * 1e6
            seconds_at[megapixels].append(per_megapixel)
            options.say(f"{megapixels:g} MP, {scene.tiling}: {per_megapixel:.2f} s per megapixel")
    typical = {megapixels: statistics.median(values) for megapixels, values in seconds_at.items()}
    spread = max(typical.values()) / min(typical.values())
    each = ", ".join(
        f"{value:.2f} at {megapixels:g} MP ({tilings[megapixels]})"
        for megapixels, value in typical.items()
    )
    yield Row(
        "growth",
        "seconds per megapixel of an evaluation, with the planned tiling",
        f"largest at most {GROWTH_TARGET}x the smallest",
        f"{spread:.2f}x: {each}",
        spread <= GROWTH_TARGET,
    )


def _seconds(scene: Scene, count: int) -> Iterator[float]:
    """Yield the seconds of ``count`` evaluations, after an untimed one."""
    with allocator.reused_memory(scene.execution.reuse_memory):
        evaluate, pixels = scene.evaluation(), scene.noisy_photo
        evaluate(pixels)
        for _ in range(count):
            yield seconds_of(lambda: evaluate(pixels))
