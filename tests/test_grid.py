"""What is varied: how lists and ranges are read, what is refused, and how combinations are ordered
and called.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from impasto.errors import BadRecipe, BadRequest
from impasto.recipe.records import Recipe
from impasto.sweeps import grid

VALUES: dict[str, tuple[str, Any, list[Any]]] = {
    "a range and its count": ("strength", "10:90:5", [10, 30, 50, 70, 90]),
    "a range of whole numbers": ("seed", "0:4", [0, 1, 2, 3, 4]),
    "a range that falls": ("seed", "4:2", [4, 3, 2]),
    "whole numbers by count": ("size", "256:1024:4", [256, 512, 768, 1024]),
    "equal ratios": ("content-weight", "0.001:1:4:log", [0.001, 0.01, 0.1, 1]),
    "decimals without their dust": ("style-scale", "0.1:0.5:5", [0.1, 0.2, 0.3, 0.4, 0.5]),
    "a list": ("init", "content, noise", ["content", "noise"]),
    "a list with a range": ("strength", "5,10:30:3", [5, 10, 20, 30]),
    "values with commas": ("iterations", "40,35,30/20", [(40, 35, 30), (20,)]),
    "layers": (
        "content-layers",
        "relu2_1/relu3_1=2,relu4_1",
        [{"relu2_1": 1}, {"relu3_1": 2, "relu4_1": 1}],
    ),
    "flags": ("single-scale", "true,false", [True, False]),
    "choices": ("network", "vgg19,vgg16", ["vgg19", "vgg16"]),
    "choices among numbers": ("output-bits", "8,16", [8, 16]),
    "bytes": ("memory", "1GB,2GB", [10**9, 2 * 10**9]),
    "what is given twice": ("strength", "10,10.0,20", [10, 20]),
    "a list in Python": ("strength", [10, 20.5], [10, 20.5]),
    "a range in Python": ("seed", range(3), [0, 1, 2]),
    "tuples in Python": ("iterations", [(3, 2), (5,)], [(3, 2), (5,)]),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_are_read(case: str):
    name, written, values = VALUES[case]
    _, (axis,) = grid.axes(Recipe(), {name: written})
    assert axis.name == name
    assert list(axis.values) == values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", "30"),
        ("iterations", "40,35,31"),
        ("iterations", (3, 2)),
        ("strength", "30,30.0"),
    ],
)
def test_one_value_is_no_axis(name: str, value: Any):
    base, found = grid.axes(Recipe(), {name: value})
    assert found == ()
    assert base != Recipe()


@given(some.integers(-50, 50), some.integers(-50, 50), some.integers(2, 12))
def test_a_range_has_its_count_and_both_its_ends(first: int, last: int, count: int):
    values = grid._range(grid.options.recipe_options()["strength"], f"{first}:{last}:{count}")
    assert len(values) == count
    assert (values[0], values[-1]) == (first, last)
    steps = [after - before for before, after in itertools.pairwise(values)]
    assert steps == pytest.approx([(last - first) / (count - 1)] * (count - 1), abs=1e-3)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a setting that does not exist": ({"strenght": "1,2"}, "strength"),
    "a value out of range": ({"strength": "10,300"}, "strength is 300"),
    "a range out of range": ({"strength": "10:300:3"}, "strength is 155"),
    "a word": ({"strength": "10,much"}, "strength is 'much'"),
    "no value": ({"strength": ","}, "at least one value"),
    "an empty list": ({"strength": []}, "at least one value"),
    "no range": ({"strength": "10:"}, "strength 10: is no range"),
    "no count": ({"style-scale": "0.1:0.5"}, "does not say how many"),
    "a count of one": ({"strength": "10:20:1"}, "2 to"),
    "an endless count": ({"strength": "10:20:1000000000"}, "2 to"),
    "an endless range": ({"seed": "0:9007199254740991"}, "2 to"),
    "no whole numbers": ({"seed": "0:10:4"}, "gives 3.33333, but seed is a whole number"),
    "ratios through zero": ({"strength": "0:10:3:log"}, "above 0"),
    "a choice that is none": ({"network": "vgg19,resnet"}, "vgg16"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_value_is_refused(case: str):
    settings, words = BAD[case]
    with pytest.raises(BadRecipe, match=words):
        grid.axes(Recipe(), settings)


def test_every_combination_the_last_axis_first():
    base, varied = grid.axes(Recipe(), {"strength": "10,20", "size": 96, "init": "content,noise"})
    found = grid.combinations(base, varied)
    assert [tuple(one.settings.values()) for one in found] == [
        ("10", "content"), ("10", "noise"), ("20", "content"), ("20", "noise"),
    ]  # fmt: skip
    assert [one.indices for one in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(one.recipe.size == 96 for one in found)
    assert (found[1].recipe.strength, found[1].recipe.schedule.start) == (10, "noise")
    assert found[1].stem == "strength-10_init-noise"


def test_nothing_varied_and_too_much_are_refused():
    with pytest.raises(BadRequest, match="Nothing is varied"):
        grid.combinations(Recipe(), ())
    base, varied = grid.axes(Recipe(), {"seed": "0:50", "strength": "1,2"})
    with pytest.raises(BadRequest, match=r"102 pictures \(51 of seed x 2 of strength\)") as refused:
        grid.combinations(base, varied)
    assert "--yes" in refused.value.hint
    assert len(grid.combinations(base, varied, most=None)) == 102


def test_file_names_are_safe_and_tell_values_apart():
    def stems(name: str, values: Any) -> tuple[str, ...]:
        return grid.axes(Recipe(), {name: values})[1][0].stems

    assert stems("content-layers", "relu2_1/relu3_1=2,relu4_1") == (
        "relu2_1=1",
        "relu3_1=2,relu4_1=1",
    )
    assert stems("init", ["noise", "../other place/a b.png"]) == ("noise", "a-b.png")
    assert stems("init", ["a/one.png", "b/one.png"]) == ("a-one.png", "b-one.png")
    assert stems("init", ["a b.png", "a-b.png"]) == ("1", "2")
    assert stems("init", ["n" * 99, "noise"]) == ("1", "2")
    # Some disks do not tell them apart.
    assert stems("init", ["Noise.png", "noise.png"]) == ("1", "2")
    many = {
        name: [1.0, 2.0]
        for name in ("strength", "style-scale", "content-weight", "style-weight", "smooth-weight")
    }
    base, varied = grid.axes(
        Recipe(),
        {**many, "init": ["n" * 39, "o" * 39], "network-padding": "zero,reflect,replicate"},
    )
    found = grid.combinations(base, varied, most=None)
    assert len({one.stem for one in found}) == len(found) == 2**6 * 3
    assert max(len(one.stem) for one in found) <= 150
