"""Tiles against the whole picture: exactness (row ``exact``) and time (row ``tiles``)."""

from __future__ import annotations

from collections.abc import Iterator

import skimage.data

from benchmarks.scene import CPU, Options, alternate, build_scene, relative_difference, seconds_of
from benchmarks.table import Row
from impasto.hardware import allocator, system_memory

# NNPACK computes blocks of positions together and rounds by 5e-6 per layer. Its backward pass sums
# in another order when a map is divided otherwise, hence the second target (docs/findings.md,
# "Tiles").
EXACT_TARGET, EXACT_TARGET_OF_BLOCKS = 1e-5, 1e-4
EXACT_TILES = (128, 256)
TIME_TARGET = 1.9
TIME_SIDES, TIME_SIDES_FULL = (1024, 512), (2048, 1024)  # long side of the picture, of a tile


def exact(options: Options) -> Iterator[Row]:
    """Difference of loss and gradient between tiles and whole, for the default recipe in float32.

    Measured with the kernel selected on this machine and with conv2d.
    """
    chosen = build_scene(512, skimage.data.coffee()[:, :533])  # 512x384
    pixels = chosen.noisy_photo
    for kernel in dict.fromkeys((chosen.problem.network.kernel.name, "conv2d")):
        scene = chosen.with_kernel(kernel)
        target = EXACT_TARGET if scene.problem.network.kernel.block == 1 else EXACT_TARGET_OF_BLOCKS
        with allocator.reused_memory():
            whole = scene.evaluation()(pixels)
            for tile in EXACT_TILES if scene is chosen or options.full else EXACT_TILES[-1:]:
                options.say(f"tiles of {tile} px with {kernel}")
                difference = relative_difference(scene.in_tiles(tile).evaluation()(pixels), whole)
                yield Row(
                    "exact",
                    f"tiles of {tile} px at {scene.size}, default objective, {kernel}",
                    f"difference at most {target:.0e}",
                    str(difference),
                    max(difference.loss, difference.gradient) <= target,
                )


def tiles(options: Options) -> Iterator[Row]:
    """Time of an evaluation in tiles relative to the whole, with the maps of one or all stored."""
    side, tile = TIME_SIDES_FULL if options.full else TIME_SIDES
    whole = build_scene(side, "coffee", precision="auto")
    count = whole.in_tiles(tile).tile_count
    what = f"relative time at {whole.size} in {count} tiles of {tile} px, default objective, "
    what += whole.problem.network.kernel.name
    # The halo is a larger part of small tiles, so only --full has a target.
    target = f"at most {TIME_TARGET}x" if options.full else ""
    free = system_memory.free_memory(CPU)
    if whole.memory > free:
        needed = f"whole needs {whole.memory / 1e9:.1f} GB, {free / 1e9:.1f} are free"
        yield Row("tiles", what, target, f"skipped: {needed}")
        return
    pixels = whole.noisy_photo
    with allocator.reused_memory():
        evaluate_whole = whole.evaluation()
        for stored in (1, count):
            evaluate_tiles = whole.in_tiles(tile, stored).evaluation()
            pairs = alternate(
                lambda evaluate=evaluate_tiles: seconds_of(lambda: evaluate(pixels)),
                lambda: seconds_of(lambda: evaluate_whole(pixels)),
                options.pairs,
                options.say,
            )
            taken = (
                f"{pairs.medians[0]:.2f} s against {pairs.medians[1]:.2f} s, {options.pairs} pairs"
            )
            maps = f"maps of {'one tile' if stored == 1 else 'all tiles'} stored"
            met = pairs.ratio <= TIME_TARGET if options.full else None
            yield Row("tiles", f"{what}, {maps}", target, f"{pairs.ratio:.2f}x: {taken}", met)
