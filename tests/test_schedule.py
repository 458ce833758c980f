"""The sizes of the stages equal written-out lists and end at exactly the requested size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.planning.schedule import (
    LEAST_SIDE,
    Plan,
    Stage,
    content_factor,
    make_plan,
    painting_size,
)
from impasto.recipe.loading import with_settings
from impasto.recipe.records import Recipe

PHOTO = Size(3000, 4000)


def recipe(**settings: object) -> Recipe:
    return with_settings(Recipe(), {"schedule_coarsest": 128, "schedule_growth": 2, **settings})


def texts(schedule: Plan) -> list[str]:
    return [f"{stage.size}:{stage.steps}" for stage in schedule.stages]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (128, ["128x96:80"]),
        (256, ["128x96:80", "256x192:60"]),
        (512, ["128x96:80", "256x192:60", "512x384:30"]),
        (1024, ["128x96:80", "256x192:60", "512x384:30", "1024x768:30"]),
        (300, ["150x112:80", "300x225:60"]),
        (182, ["91x68:80", "182x136:60"]),  # 91 is just above halfway, in ratio, from 64 to 128 ...
        (180, ["180x135:80"]),  # ... and 90 just below
    ],
)
def test_written_out_ladders(size: int, expected: list[str]):
    assert texts(make_plan(recipe(size=size, iterations="80,60,30"), PHOTO)) == expected


def test_an_upright_photo_has_the_same_ladder_upright():
    assert texts(make_plan(recipe(size=256, iterations=9), Size(4000, 3000))) == [
        "96x128:9",
        "192x256:9",
    ]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (512, ["512x51:80"]),
        (1024, ["512x51:80", "1024x102:60"]),
        (2048, ["512x51:80", "1024x102:60", "2048x205:30"]),
    ],
)
def test_a_strip_of_ten_to_one_starts_where_its_short_side_is_long_enough(
    size: int, expected: list[str]
):
    assert texts(make_plan(recipe(size=size, iterations="80,60,30"), Size(400, 4000))) == expected


def test_growth_and_coarsest_are_applied():
    schedule = make_plan(
        recipe(size=900, iterations=5, schedule_growth=3, schedule_coarsest=100), Size(1000, 1000)
    )
    assert texts(schedule) == ["100x100:5", "300x300:5", "900x900:5"]


def test_size_0_is_the_photos_own_size():
    assert make_plan(recipe(size=0), Size(251, 333)).size == Size(251, 333)


@pytest.mark.parametrize(
    ("photo", "side", "size", "expected"),
    [
        (PHOTO, "short", 512, ["171x128:9", "342x256:9", "683x512:9"]),
        (PHOTO, "height", 400, ["133x100:9", "266x200:9", "533x400:9"]),
        (PHOTO, "width", 400, ["100x75:9", "200x150:9", "400x300:9"]),
        (Size(4000, 3000), "short", 300, ["150x200:9", "300x400:9"]),
        (Size(4000, 3000), "height", 400, ["75x100:9", "150x200:9", "300x400:9"]),
    ],
)
def test_sizes_are_measured_by_the_side_that_is_named(
    photo: Size, side: str, size: int, expected: list[str]
):
    assert texts(make_plan(recipe(side=side, size=size, iterations=9), photo)) == expected


def test_a_photo_that_is_not_to_be_enlarged_is_painted_at_most_at_its_own_size():
    small = Size(300, 400)
    assert make_plan(recipe(size=512, enlarge=False), small).size == small
    assert make_plan(recipe(size=350, side="short", enlarge=False), small).size == small
    assert make_plan(recipe(size=256, enlarge=False), small).size == Size(192, 256)
    assert make_plan(recipe(size=512), small).size == Size(384, 512)


@given(
    st.integers(40, 3000),
    st.integers(40, 3000),
    st.integers(128, 2000),
    st.floats(1.1, 5),
    st.integers(16, 600),
)
def test_the_last_size_is_the_requested_one_and_the_others_grow_towards_it(
    height: int, width: int, size: int, growth: float, coarsest: int
):
    photo = Size(height, width)
    if photo.with_long_side(size).short_side < LEAST_SIDE:
        return
    schedule = make_plan(
        recipe(size=size, schedule_growth=growth, schedule_coarsest=coarsest), photo
    )
    assert schedule.size == photo.with_long_side(size)
    assert schedule.size.long_side == size
    sides = [stage.size.long_side for stage in schedule.stages]
    assert sides == sorted(set(sides))
    for smaller, larger in pairwise(sides):
        # Up to rounding to whole pixels.
        assert abs(larger / smaller - growth) < growth * 1.5 / smaller + 1e-9
    assert all(stage.size.short_side >= LEAST_SIDE for stage in schedule.stages)
    assert sides[0] >= min(size, coarsest * growth**-0.5 - 0.5)


def test_counts_beyond_the_last_stage_are_not_used():
    assert texts(make_plan(recipe(size=256, iterations="9,8,7,6"), PHOTO)) == [
        "128x96:9",
        "256x192:8",
    ]


def test_fewer_counts_than_stages_repeat_the_last_one():
    assert texts(make_plan(recipe(size=512, iterations="9,8"), PHOTO)) == [
        "128x96:9",
        "256x192:8",
        "512x384:8",
    ]


def test_a_single_scale_is_the_final_size_with_the_last_count():
    assert texts(make_plan(recipe(size=512, iterations="9,8,7", single_scale=True), PHOTO)) == [
        "512x384:7"
    ]


def test_work_and_evaluations_are_sums():
    schedule = Plan((Stage(Size(2, 3), 5), Stage(Size(4, 6), 7)), 1.0)
    assert schedule.evaluations == 12
    assert schedule.work == 6 * 5 + 24 * 7
    assert schedule.size == Size(4, 6)


@pytest.mark.parametrize(
    ("photo", "size"),
    [(Size(31, 31), 0), (Size(400, 4000), 300), (Size(3000, 4000), 41), (Size(100, 109), 30)],
)
def test_too_short_a_side_is_refused_with_a_size_that_is_enough(photo: Size, size: int):
    with pytest.raises(BadPicture) as caught:
        make_plan(recipe(size=size), photo)
    assert str(photo) in caught.value.message
    assert str(LEAST_SIDE) in caught.value.message
    advised = int(caught.value.hint.partition("--size ")[2].split()[0])
    assert make_plan(recipe(size=advised), photo).size.short_side == LEAST_SIDE


def test_the_size_that_is_enough_is_that_of_the_named_side():
    with pytest.raises(BadPicture) as caught:
        make_plan(recipe(size=50, side="width"), Size(500, 2000))
    assert "--size 128 " in caught.value.hint
    assert make_plan(recipe(size=128, side="width"), Size(500, 2000)).size == Size(32, 128)


def test_the_least_side_is_enough():
    assert make_plan(recipe(size=0), Size(32, 40)).size == Size(32, 40)


SETTLED = Size(384, 512)


def factor(strength: float, size: Size = SETTLED) -> float:
    return content_factor(strength, size)


def test_strength_50_leaves_the_content_weight_alone_from_512_px_on():
    assert factor(50) == factor(50, Size(2000, 1000)) == 1.0
    assert make_plan(recipe(strength=50), PHOTO).content_factor == 1.0
    assert make_plan(recipe(strength=80), PHOTO).content_factor == factor(80)


def test_a_smaller_picture_has_more_content_weight_in_proportion():
    assert factor(50, Size(256, 100)) == 2.0
    assert factor(50, Size(96, 128)) == 4.0
    assert make_plan(recipe(strength=50, size=256), PHOTO).content_factor == 2.0


@pytest.mark.parametrize("scaling", ["mean", "sum"])
def test_a_published_content_term_has_its_published_weight_at_every_size(scaling: str):
    for size in (96, 256, 512):
        assert make_plan(recipe(size=size, content_scaling=scaling), PHOTO).content_factor == 1.0
    assert make_plan(
        recipe(size=96, content_scaling=scaling, strength=80), PHOTO
    ).content_factor == factor(80)


def test_equal_steps_of_strength_are_equal_ratios_over_three_decades():
    assert factor(0) / factor(100) == pytest.approx(1000)
    assert factor(20) / factor(30) == pytest.approx(factor(70) / factor(80))


@given(st.floats(0, 100), st.floats(0, 100))
def test_more_strength_is_less_content(one: float, other: float):
    low, high = sorted((one, other))
    assert factor(low) >= factor(high) > 0
    if high - low > 1e-6:
        assert factor(low) > factor(high)


@pytest.mark.parametrize(
    ("painting", "picture", "scale", "expected"),
    [
        (Size(400, 400), Size(200, 200), 1.0, Size(200, 200)),
        (Size(400, 100), Size(200, 200), 1.0, Size(400, 100)),
        (Size(400, 100), Size(200, 200), 2.0, Size(800, 200)),
        (Size(300, 400), Size(150, 200), 0.5, Size(75, 100)),
        (
            Size(1000, 100),
            Size(40, 40),
            1.0,
            Size(126, 32),
        ),  # no side is shorter than a network needs
    ],
)
def test_a_painting_is_measured_with_the_pictures_area_and_its_own_shape(
    painting: Size, picture: Size, scale: float, expected: Size
):
    assert painting_size(painting, picture, scale) == expected


@pytest.mark.parametrize(
    ("painting", "sizing", "scale", "enlarge", "expected"),
    [
        (Size(800, 600), "long", 1.0, True, Size(400, 300)),
        (Size(800, 600), "short", 1.0, True, Size(267, 200)),
        (Size(800, 600), "height", 1.0, True, Size(200, 150)),
        (Size(800, 600), "width", 1.0, True, Size(533, 400)),
        (Size(800, 600), "width", 0.5, True, Size(267, 200)),
        (Size(800, 600), "squash", 1.0, True, Size(200, 400)),
        (Size(800, 600), "squash", 1.5, True, Size(300, 600)),
        (Size(800, 600), "own", 1.0, True, Size(800, 600)),
        (Size(800, 600), "own", 0.5, True, Size(400, 300)),
        (Size(80, 60), "long", 1.0, True, Size(400, 300)),
        (Size(80, 60), "long", 1.0, False, Size(80, 60)),
        (Size(80, 60), "own", 2.0, False, Size(80, 60)),
        (Size(80, 60), "area", 1.0, False, Size(80, 60)),
        # "squash" always has the picture's shape.
        (Size(80, 60), "squash", 1.0, False, Size(200, 400)),
        (Size(20, 60), "own", 1.0, True, Size(32, 60)),
    ],
)
def test_a_painting_is_measured_at_the_size_of_the_recipe(
    painting: Size, sizing: str, scale: float, enlarge: bool, expected: Size
):
    assert painting_size(painting, Size(200, 400), scale, sizing, enlarge) == expected
