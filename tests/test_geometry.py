"""Tiles equal written-out lists, every pixel is owned once, and sizes are texts for people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.geometry import Grid, Region, Size

# ---- sizes ---------------------------------------------------------------------------------------


def test_a_size_is_height_first_and_its_text_is_width_first():
    size = Size(384, 512)
    assert (size.height, size.width) == tuple(size) == (384, 512)
    assert str(size) == f"{size}" == "512x384"
    assert size.pixels == 196_608
    assert (size.long_side, size.short_side) == (512, 384)
    assert (Size(512, 384).long_side, Size(512, 384).short_side) == (512, 384)


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        (Size(3000, 4000), 512, Size(384, 512)),
        (Size(4000, 3000), 512, Size(512, 384)),
        (Size(100, 100), 7, Size(7, 7)),
        (Size(333, 500), 512, Size(341, 512)),  # 340.99
        (Size(500, 333), 512, Size(512, 341)),
        (Size(1000, 1), 10, Size(10, 1)),  # 0.01, but no side is less than 1
        (Size(1, 1000), 10, Size(1, 10)),
    ],
)
def test_with_long_side(size: Size, long_side: int, expected: Size):
    assert size.with_long_side(long_side) == expected


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from(["long", "short", "height", "width"]),
)
def test_with_side_is_exact_and_keeps_the_shape(height: int, width: int, length: int, which: str):
    before = Size(height, width)
    scaled = before.with_side(which, length)
    factor = length / before.side(which)
    assert length in scaled
    assert which in ("long", "short") or scaled.side(which) == length
    assert abs(scaled.height - max(1, height * factor)) <= 0.5 + 1e-9
    assert abs(scaled.width - max(1, width * factor)) <= 0.5 + 1e-9


@given(st.integers(200, 5000), st.integers(200, 5000), st.integers(100, 5000))
def test_a_size_by_area_has_as_many_pixels(height: int, width: int, length: int):
    scaled = Size(height, width).with_side("area", length)
    assert scaled.side("area") == pytest.approx(length, abs=3)
    assert scaled.height / scaled.width == pytest.approx(height / width, rel=0.06)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_with_long_side_is_exact_and_keeps_the_shape(height: int, width: int, long_side: int):
    scaled = Size(height, width).with_long_side(long_side)
    assert isinstance(scaled, Size)
    assert scaled.long_side == long_side
    factor = long_side / max(height, width)
    assert abs(scaled.height - max(1, height * factor)) <= 0.5 + 1e-9
    assert abs(scaled.width - max(1, width * factor)) <= 0.5 + 1e-9


# ---- regions -------------------------------------------------------------------------------------


def test_a_region_cuts_an_array_and_knows_itself_within_another():
    region = Region(2, 3, 7, 11)
    rows, columns = region.slices
    array = np.arange(200).reshape(10, 20)
    assert array[rows, columns].shape == tuple(region.size) == (5, 8)
    outer = Region(1, 1, 9, 15)
    assert region.within(outer) == Region(1, 2, 6, 10)
    rows_within, columns_within = region.within(outer).slices
    assert np.array_equal(array[outer.slices][rows_within, columns_within], array[rows, columns])


@pytest.mark.parametrize(
    ("region", "stride", "map_size", "expected"),
    [
        (Region(0, 0, 32, 48), 1, Size(64, 64), Region(0, 0, 32, 48)),
        (Region(16, 32, 32, 48), 16, Size(4, 4), Region(1, 2, 2, 3)),
        # The cells cut off by the border are on no map.
        (Region(16, 32, 37, 53), 16, Size(2, 3), Region(1, 2, 2, 3)),
        (Region(0, 0, 37, 53), 4, Size(9, 13), Region(0, 0, 9, 13)),
        (Region(36, 52, 37, 53), 4, Size(9, 13), Region(9, 13, 9, 13)),  # owns no position
        # A cell is owned with its first pixel,.
        (Region(4, 6, 8, 12), 4, Size(9, 9), Region(1, 2, 2, 3)),
        (Region(0, 0, 5, 8), 4, Size(9, 9), Region(0, 0, 2, 2)),  # be it the region's last
    ],
)
def test_divided(region: Region, stride: int, map_size: Size, expected: Region):
    assert region.divided(stride, map_size) == expected


# ---- grids ---------------------------------------------------------------------------------------

WRITTEN_OUT = {
    "two": (
        Grid(Size(32, 64), tile=32, halo=16, stride=16),
        [((0, 0, 32, 32), (0, 0, 32, 48)), ((0, 32, 32, 64), (0, 16, 32, 64))],
    ),
    "three": (
        Grid(Size(32, 96), tile=32, halo=16, stride=16),
        [
            ((0, 0, 32, 32), (0, 0, 32, 64)),
            ((0, 32, 32, 48), (0, 16, 32, 80)),
            ((0, 48, 32, 96), (0, 32, 32, 96)),
        ],
    ),
    "uneven": (
        Grid(Size(37, 50), tile=24, halo=4, stride=4),
        [
            ((0, 0, 16, 16), (0, 0, 25, 26)),
            ((0, 16, 16, 28), (0, 12, 25, 38)),
            ((0, 28, 16, 50), (0, 24, 25, 50)),
            ((16, 0, 37, 16), (12, 0, 37, 26)),
            ((16, 16, 37, 28), (12, 12, 37, 38)),
            ((16, 28, 37, 50), (12, 24, 37, 50)),
        ],
    ),
    "one tile": (
        Grid(Size(37, 51), tile=0, halo=80, stride=16),
        [((0, 0, 37, 51), (0, 0, 37, 51))],
    ),
    "a tile as large as the picture": (
        Grid(Size(37, 51), tile=51, halo=8),
        [((0, 0, 37, 51), (0, 0, 37, 51))],
    ),
    "halo rounded up and cut at every border": (
        Grid(Size(3, 48), tile=16, halo=5, stride=8),
        [
            ((0, 0, 3, 16), (0, 0, 3, 32)),
            ((0, 16, 3, 24), (0, 8, 3, 40)),
            ((0, 24, 3, 48), (0, 16, 3, 48)),
        ],
    ),
    "a halo that overlaps all": (
        Grid(Size(37, 51), tile=8, halo=20, stride=8),
        [((0, 0, 37, 51), (0, 0, 37, 51))],
    ),
    "a tile below one stride is one stride": (
        Grid(Size(8, 20), tile=3, halo=0, stride=8),
        [((0, 0, 8, 8), (0, 0, 8, 12)), ((0, 8, 8, 20), (0, 8, 8, 20))],
    ),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_grid_equals_its_written_out_list(name: str):
    grid, expected = WRITTEN_OUT[name]
    assert [(tile.core, tile.outer) for tile in grid] == [
        (Region(*core), Region(*outer)) for core, outer in expected
    ]
    assert len(grid) == len(expected)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(0, 70),
    st.integers(0, 40),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
)
def test_each_pixel_is_owned_once_by_tiles_of_one_size(
    height: int, width: int, tile: int, halo: int, stride: int
):
    owned = np.zeros((height, width), int)
    grid = Grid(Size(height, width), tile, halo, stride)
    tiles = list(grid)
    assert len(tiles) == len(grid)
    rounded = -(-halo // stride) * stride
    assert {part.outer.size for part in tiles} == {grid.outer}
    for part in tiles:
        core, outer = part.core, part.outer
        assert core.size.short_side >= 1
        owned[core.slices] += 1
        assert (
            core.top % stride
            == core.left % stride
            == outer.top % stride
            == outer.left % stride
            == 0
        )
        # The halo is whole, or ends where the picture ends.
        assert outer.top <= max(0, core.top - rounded) and outer.left <= max(0, core.left - rounded)
        assert outer.bottom >= min(height, core.bottom + rounded) and outer.right >= min(
            width, core.right + rounded
        )
        assert (
            outer.top >= 0 and outer.left >= 0 and outer.bottom <= height and outer.right <= width
        )
    assert (owned == 1).all()


@given(
    st.integers(1, 90), st.integers(1, 70), st.integers(0, 40), st.sampled_from([1, 2, 3, 4, 8, 16])
)
def test_tiles_are_as_many_as_cores_are_needed_and_as_small_as_can_be(
    length: int, tile: int, halo: int, stride: int
):
    """The side of a tile against every one, tried in turn."""
    grid = Grid(Size(1, length), tile, halo, stride)
    strides, rest = divmod(length, stride)
    halos, core = -(-halo // stride), max(stride, tile // stride * stride)
    count = 1 if tile >= length else max(1, min(-(-length // core), strides - 2 * halos))
    assert len(grid) == count
    # From one tile to the next it is a core's worth further.
    least = next(
        side for side in range(1, strides + 2) if side + (count - 1) * (side - 2 * halos) >= strides
    )
    assert grid.outer.width == (length if count == 1 else least * stride + rest)


@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(0, 70), st.sampled_from([1, 2, 4, 8, 16])
)
def test_each_position_of_each_map_is_owned_once(height: int, width: int, tile: int, stride: int):
    grid = Grid(Size(height, width), tile, 0, stride)
    for coarse in (1, 2, 4, 8, 16):
        if coarse > stride:
            break
        size = Size(height // coarse, width // coarse)
        owned = np.zeros(tuple(size), int)
        for part in grid:
            owned[part.core.divided(coarse, size).slices] += 1
        assert (owned == 1).all()


@pytest.mark.parametrize(
    "wrong",
    [{"size": Size(0, 5)}, {"size": Size(5, -1)}, {"tile": -1}, {"halo": -1}, {"stride": 0}],
    ids=str,
)
def test_what_is_no_grid_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValueError, match="not a grid"):
        Grid(**{"size": Size(10, 10), **wrong})  # type: ignore[arg-type]
