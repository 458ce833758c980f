"""What tiles cost: how far tiled is from whole (row ``exact``), and how much longer it takes (row
``tiles``).
"""

from __future__ import annotations

from collections.abc import Iterator

import skimage.data

from benchmarks.scene import CPU, How, apart, clocked, in_turn, scene
from benchmarks.table import Row
from impasto.hardware import allocator, system_memory

# And of NNPACK, which computes blocks of positions together and is itself rounded by 5e-6 a layer:
# its way back adds the same parts in another order when they are cut otherwise (docs/findings.md,
# "Tiles").
EXACT_ASKED, EXACT_ASKED_OF_BLOCKS = 1e-5, 1e-4
EXACT_TILES = (128, 256)
TIME_ASKED = 1.9
TIME_SIDES, TIME_SIDES_FULL = (1024, 512), (2048, 1024)  # of the picture, of a tile


def exact(how: How) -> Iterator[Row]:
    """Value and gradient of the default recipe in tiles and whole, in float32: by the kernel chosen
    here, and by conv2d.
    """
    chosen = scene(512, skimage.data.coffee()[:, :533])  # 512x384
    pixels = chosen.noisy
    for kernel in dict.fromkeys((chosen.tools.network.kernel.name, "conv2d")):
        made = chosen.by(kernel)
        asked = EXACT_ASKED if made.tools.network.kernel.block == 1 else EXACT_ASKED_OF_BLOCKS
        with allocator.reused_memory():
            whole = made.evaluation()(pixels)
            for tile in EXACT_TILES if made is chosen or how.full else EXACT_TILES[-1:]:
                how.say(f"tiles of {tile} px by {kernel}")
                found = apart(made.cut(tile).evaluation()(pixels), whole)
                yield Row(
                    "exact",
                    f"tiles of {tile} px against whole at {made.size}, default objective, {kernel}",
                    f"at most {asked:.0e} apart",
                    str(found),
                    max(found.loss, found.gradient) <= asked,
                )


def tiles(how: How) -> Iterator[Row]:
    """The time of an evaluation in tiles over that of the whole: with one tile's maps kept, and
    with all.
    """
    side, tile = TIME_SIDES_FULL if how.full else TIME_SIDES
    whole = scene(side, "coffee", precision="auto")
    count = len(whole.cut(tile).tools.grid(whole.size))
    what = f"one evaluation at {whole.size} in {count} tiles of {tile} px against whole, default objective, "
    what += whole.tools.network.kernel.name
    # Of smaller tiles the halo is a larger part.
    wish = f"at most {TIME_ASKED} times as long" if how.full else ""
    free = system_memory.free_memory(CPU)
    if whole.memory > free:
        needed = f"whole needs {whole.memory / 1e9:.1f} GB, {free / 1e9:.1f} are free"
        yield Row("tiles", what, wish, f"skipped: {needed}")
        return
    pixels = whole.noisy
    with allocator.reused_memory():
        at_once = whole.evaluation()
        for kept in (1, count):
            in_tiles = whole.cut(tile, kept).evaluation()
            pairs = in_turn(
                lambda ours=in_tiles: clocked(lambda: ours(pixels)),
                lambda: clocked(lambda: at_once(pixels)),
                how.pairs,
                how.say,
            )
            taken = f"{pairs.medians[0]:.2f} s against {pairs.medians[1]:.2f} s, {how.pairs} pairs"
            maps = "one tile's maps kept" if kept == 1 else "every tile's"
            holds = pairs.ratio <= TIME_ASKED if how.full else None
            yield Row("tiles", f"{what}, {maps}", wish, f"{pairs.ratio:.2f} times: {taken}", holds)
