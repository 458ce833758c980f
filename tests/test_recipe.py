"""A recipe goes through TOML and JSON unchanged, and what is wrong with one is said by name, with
what is allowed.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from impasto.errors import BadRecipe, UnknownName
from impasto.recipe import loading
from impasto.recipe import options as options_
from impasto.recipe.choices import Statistic
from impasto.recipe.fields import Record, setting
from impasto.recipe.loading import from_json, from_mapping, from_toml, load, with_settings
from impasto.recipe.options import Option, recipe_options
from impasto.recipe.records import Input, Recipe
from impasto.recipe.values import parse_duration

OPTIONS = recipe_options()
# What names a recipe, and what goes in.
NOT_OPTIONS = {"version", "name", "summary", "source", "photo", "paintings"}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
STATISTICS = get_args(Statistic)
NAMES = {
    "style-statistics": STATISTICS,
    "layers": ["relu1_1", "relu2_1", "conv4_2", "relu5_1", "input"],
}
INPUTS = st.builds(Input, path=TEXTS, sha256=TEXTS, weight=st.floats(1e-6, 1e6))


def bounds(option: Option) -> tuple[float, float]:
    """The lowest and the highest value that may be given; a bound that is itself excluded is moved
    inwards.
    """
    low, high = 0.0, 1e6
    for bound in option.field.metadata:
        for name, value in (
            (name, getattr(bound, name, None)) for name in ("ge", "gt", "le", "lt")
        ):
            if value is not None and name in ("ge", "gt"):
                low = value + (name == "gt") * 1e-9
            elif value is not None:
                high = value - (name == "lt") * 1e-9
    return low, high


def values(option: Option) -> st.SearchStrategy[Any]:
    """Values that an option may have."""
    if option.choices:
        return st.sampled_from(option.choices)
    if option.is_flag:
        return st.booleans()
    kind = option.field.annotation
    if kind is int:
        low, high = bounds(option)
        return st.integers(int(low), int(high))
    if kind is float:
        return st.floats(*bounds(option))
    if kind is str:
        return TEXTS
    if isinstance(option.default, dict):
        names = NAMES.get(option.name, NAMES["layers"])
        return st.dictionaries(st.sampled_from(names), st.floats(0, 1e6), min_size=1)
    assert isinstance(option.default, tuple), option.name
    return st.lists(st.integers(1, 100_000), min_size=1, max_size=5).map(tuple)


SETTINGS = st.fixed_dictionaries(
    {}, optional={name: values(option) for name, option in OPTIONS.items()}
)


@st.composite
def a_recipe(draw: st.DrawFn) -> Recipe:
    base = Recipe(
        name=draw(TEXTS),
        summary=draw(TEXTS),
        photo=draw(st.none() | INPUTS),
        paintings=tuple(draw(st.lists(INPUTS, max_size=3))),
    )
    return with_settings(base, draw(SETTINGS))


# ---- texts ---------------------------------------------------------------------------------------


@given(a_recipe())
def test_toml_and_json_bring_back_the_same(made: Recipe):
    for found in (from_toml(made.to_toml()), from_json(made.to_json())):
        assert found == made
        assert found.sha256 == made.sha256
        assert found.model_dump() == made.model_dump()


def test_the_default_goes_through_texts_too():
    assert from_toml(Recipe().to_toml()) == Recipe() == from_json(Recipe().to_json())
    assert from_toml("") == from_json("{}") == from_mapping({}) == Recipe()


def test_a_text_holds_every_field():
    held = json.loads(Recipe().to_json())
    for option in OPTIONS.values():
        room = held
        for step in option.path:
            room = room[step]
        assert room == (
            list(option.default) if isinstance(option.default, tuple) else option.default
        )


def test_two_orders_of_the_same_layers_are_one_recipe_in_every_respect():
    """Sums of floats depend on their order, so equal recipes must order their layers alike."""
    one = with_settings(Recipe(), {"style-layers": {"relu5_1": 1, "relu1_1": 2}})
    other = with_settings(Recipe(), {"style-layers": {"relu1_1": 2, "relu5_1": 1}})
    assert one == other
    assert one.sha256 == other.sha256
    assert (
        list(one.style.layers)
        == list(other.style.layers)
        == list(from_json(one.to_json()).style.layers)
    )


@given(SETTINGS)
def test_settings_are_what_was_set(settings: dict[str, Any]):
    made = with_settings(Recipe(), settings)
    for name, option in OPTIONS.items():
        found: Any = made
        for step in option.path:
            found = getattr(found, step)
        assert found == settings.get(name, option.default), name


def test_settings_take_underscores_and_leave_the_rest_alone():
    base = with_settings(Recipe(), {"strength": 70})
    made = with_settings(base, {"style_weight": 2, "single_scale": True, "iterations": 7})
    assert (made.strength, made.style.weight, made.schedule.single, made.schedule.iterations) == (
        70,
        2,
        True,
        (7,),
    )
    assert base == with_settings(Recipe(), {"strength": 70})


@pytest.mark.parametrize(
    ("given", "expected"),
    [("80,60, 30", (80, 60, 30)), ("80", (80,)), (80, (80,)), ([80, 60], (80, 60))],
)
def test_counts_as_one_would_type_them(given: Any, expected: tuple[int, ...]):
    assert with_settings(Recipe(), {"iterations": given}).schedule.iterations == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("relu4_1=2,relu5_1", {"relu4_1": 2.0, "relu5_1": 1.0}),
        (" relu4_1 : 0.5 ", {"relu4_1": 0.5}),
        ({"relu4_1": 3}, {"relu4_1": 3.0}),
    ],
)
def test_weights_as_one_would_type_them(given: Any, expected: dict[str, float]):
    assert with_settings(Recipe(), {"content-layers": given}).content.layers == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0", 0),
        ("123", 123),
        ("4GB", 4_000_000_000),
        ("4 gb", 4_000_000_000),
        (" 4GB ", 4_000_000_000),
        ("4G", 2**32),
        ("4GiB", 2**32),
        ("1.5gib", 3 * 2**29),
        ("900MB", 900_000_000),
        ("900M", 900 * 2**20),
        ("64KiB", 65_536),
        ("64kB", 64_000),
        ("2TB", 2 * 10**12),
        ("512B", 512),
        ("3.GB", 3_000_000_000),
        (4_000_000_000, 4_000_000_000),
    ],
)
def test_memory_as_one_would_type_it(given: Any, expected: int):
    recipe = with_settings(Recipe(), {"memory": given})
    assert recipe.compute.memory == expected
    assert (
        from_toml(recipe.to_toml()).compute.memory
        == from_json(recipe.to_json()).compute.memory
        == expected
    )


@pytest.mark.parametrize(
    "given",
    [
        "",
        "much",
        "4X",
        "4GI",
        "4IB",
        "GB",
        "-4GB",
        "-1",
        -1,
        "1e9",
        "4,5GB",
        "4 GB free",
        "nan",
        "inf",
        4.5,
        "4G B",
    ],
)
def test_what_is_no_amount_of_memory_is_refused(given: Any):
    with pytest.raises(BadRecipe, match="memory is ") as found:
        with_settings(Recipe(), {"memory": given})
    assert "4GB" in str(found.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        ("90s", 90),
        ("45 sec", 45),
        ("2m", 120),
        (" 2 MIN ", 120),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("2m30", 150),
        ("1h30", 5400),
        ("2 minutes", 120),
        ("1 hour and 5 minutes", 3900),
        ("1 hr, 5 min", 3900),
        ("1:30", 90),
        ("1:02:03", 3723),
    ],
)
def test_a_time_as_one_would_type_it(given: Any, expected: float):
    assert parse_duration(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "soon",
        "m",
        "2x",
        "2 days",
        "-5",
        "-2m",
        "1:90",
        "1 2",
        "1e3",
        "1.5.2m",
        "m2",
        "2m,",
        "nan",
        "inf",
        float("nan"),
        None,
        True,
    ],
)
def test_what_is_no_time_is_refused(given: Any):
    with pytest.raises(BadRecipe, match="no length of time") as found:
        parse_duration(given)
    assert repr(given) in found.value.message and "2m" in found.value.hint


@pytest.mark.parametrize("given", [0, "0", "0s", "0h0m", "9" * 12])
def test_no_time_and_eternity_are_refused(given: Any):
    with pytest.raises(BadRecipe, match="no time to paint in"):
        parse_duration(given)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_can_be_typed(name: str):
    assert with_settings(Recipe(), {name: OPTIONS[name].default_text}) == Recipe()


# ---- hashes --------------------------------------------------------------------------------------


# Limits, and how the file is written.
NOT_OF_THE_PICTURE = {"memory", "max-megapixels", "output-bits", "output-quality"}


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - NOT_OF_THE_PICTURE))
def test_the_hash_changes_with_every_option(name: str):
    option = OPTIONS[name]
    if option.choices or option.is_flag or isinstance(option.default, str | dict):
        low, high = 0.0, 0.0
    else:
        low, high = (1, 9) if isinstance(option.default, tuple) else bounds(option)
    numbers = [int(low) + 1, int(high), (low + high) / 2]
    others = [
        *option.choices,
        not option.default,
        {"relu1_2": 1.0},
        {"gram": 1.0},
        "x",
        *numbers,
        (7,),
    ]
    for value in others:
        if value != option.default or type(value) is not type(option.default):
            try:
                changed = with_settings(Recipe(), {name: value})
            except BadRecipe:
                continue
            if changed != Recipe():
                assert changed.sha256 != Recipe().sha256
                return
    pytest.fail(f"no other value found for {name}")


def test_the_hash_does_not_change_with_what_there_is_to_work_with():
    """An unfinished run is gone on with where more memory is given, or less."""
    hashes = {
        with_settings(Recipe(), {"memory": text}).sha256 for text in ("0", "900MB", "4GB", "1TiB")
    }
    assert hashes == {Recipe().sha256}
    assert with_settings(Recipe(), {"memory": "4GB"}) != Recipe()


def test_the_hash_changes_with_what_goes_in():
    hashes = [
        Recipe().sha256,
        Recipe(photo=Input(path="a.png")).sha256,
        Recipe(photo=Input(path="a.png", sha256="0" * 64)).sha256,
        Recipe(paintings=(Input(path="a.png"),)).sha256,
        Recipe(paintings=(Input(path="a.png"), Input(path="b.png"))).sha256,
        Recipe(paintings=(Input(path="b.png"), Input(path="a.png"))).sha256,
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_same_said_otherwise_has_the_same_hash():
    assert (
        from_toml("strength = 70\nsize = 256").sha256
        == from_json('{"size": 256, "strength": 70.0}').sha256
    )


# ---- options -------------------------------------------------------------------------------------


def leaves(record: type[Record], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, field in record.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Record):
            found += leaves(kind, (*path, name))
        else:
            found.append((*path, name))
    return found


def test_every_field_is_an_option_or_an_input():
    paths = [option.path for option in options_._options(Recipe, ())]
    asked = [
        path
        for path in leaves(Recipe)
        if path[0] not in NOT_OPTIONS and not path[-1].endswith("sha256")
    ]
    assert sorted(paths) == sorted(asked)  # hashes are found, not asked for


def test_option_names_are_unique():
    names = [option.name for option in options_._options(Recipe, ())]
    assert len(names) == len(set(names)) == len(OPTIONS)
    assert all(name == name.lower().replace("_", "-") for name in names)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_help_with_its_unit_and_range(name: str):
    option = OPTIONS[name]
    assert option.field.description
    assert option.field.description[0].isupper()
    assert option.field.description.endswith(".")
    assert option.help.startswith(option.field.description.rstrip("."))
    assert option.default == option.field.default
    if option.choices:
        assert option.default in option.choices


def test_help_says_unit_and_range():
    assert "px" in OPTIONS["size"].help
    assert "0 to 65536" in OPTIONS["size"].help
    assert "0 to 100" in OPTIONS["strength"].help
    assert "0.05 to 8" in OPTIONS["style-scale"].help


def test_a_section_holds_the_settings_of_a_record_but_for_those_of_published_recipes():
    sections = {name: option.section for name, option in OPTIONS.items()}
    assert set(sections.values()) == set(options_.SECTIONS)
    assert sections["size"] == sections["strength"] == "Picture"
    assert sections["iterations"] == sections["init"] == "Schedule"
    assert sections["smooth-weight"] == "Smoothness" and sections["solver"] == "Search"
    published = "Only for published recipes"
    for name in ("photo-median", "network-scale", "bounds-weight", "solver-pixel-range"):
        assert sections[name] == published


def test_impastos_own_recipes_need_nothing_that_is_marked_as_for_published_ones():
    for recipe in (recipe for recipe in map(load, loading.names()) if not recipe.source):
        for name, option in OPTIONS.items():
            if option.section == options_.PUBLISHED_SECTION:
                assert option.value_text(recipe) == option.default_text, (recipe.name, name)


def test_common_settings_are_not_for_published_recipes():
    common = [option for option in OPTIONS.values() if option.is_common]
    assert common and all(option.section != options_.PUBLISHED_SECTION for option in common)


def test_choices_of_published_recipes_come_last_and_are_choices():
    assert OPTIONS["solver"].choices_text == "lbfgs, adam; only for published recipes: sgd"
    assert OPTIONS["network"].choices_text == "vgg19, vgg16"
    assert OPTIONS["strength"].choices_text == ""
    for option in OPTIONS.values():
        words = option.choices_text.replace("only for published recipes:", "")
        assert set(re.findall(r"[\w-]+", words)) == {str(choice) for choice in option.choices}


def test_choices_flags_and_texts():
    assert OPTIONS["network-pooling"].choices == ("max", "average")
    assert OPTIONS["output-bits"].choices == (8, 16)
    assert OPTIONS["strength"].choices == ()
    flags = ["enlarge", "style-enlarge", "solver-carry", "single-scale"]
    assert [name for name, option in OPTIONS.items() if option.is_flag] == flags
    for default, text in (
        ((80, 60), "80,60"),
        ({"relu3_1": 0.5, "relu4_2": 1.0}, "relu3_1=0.5,relu4_2=1"),
        (50.0, "50"),
        (0.125, "0.125"),
        (7, "7"),
        ("auto", "auto"),
    ):
        assert Option("x", ("x",), setting(default, "Help.")).default_text == text


# ---- frozen --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OPTIONS, "name", "photo"])
def test_records_are_frozen(name: str):
    path = OPTIONS[name].path if name in OPTIONS else (name,)
    room: Any = Recipe()
    for step in path[:-1]:
        room = getattr(room, step)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(room, path[-1], getattr(room, path[-1]))


def test_one_recipes_layers_are_not_anothers():
    Recipe().style.layers["relu1_2"] = 9.0
    assert "relu1_2" not in Recipe().style.layers
    base = Recipe()
    with_settings(base, {"strength": 60}).style.layers["relu1_2"] = 9.0
    assert "relu1_2" not in base.style.layers


def test_an_option_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        OPTIONS["size"].name = "x"  # type: ignore[misc]


# ---- what is refused -----------------------------------------------------------------------------

OUT_OF_RANGE = {
    "size": [-1, 65_537, 12.5, "big"],
    "strength": [-0.1, 100.1, float("nan"), "x"],
    "seed": [-1, 2**63],
    "content-weight": [-1, float("inf")],
    "style-scale": [0.05, 8.1, 0],
    "solver-rate": [0, 1_000_001],
    "solver-history": [0, 1001],
    "schedule-coarsest": [15, 65_537],
    "schedule-growth": [1.05, 16.5],
    "output-quality": [0, 101],
    "output-bits": [12, "x"],
    "max-megapixels": [0],
    "iterations": [0, "60,0", 100_001, [], "60,x"],
    "style-layers": ["relu1_1=-1", {}, "relu1_1=x", 3],
    "style-statistics": ["gramm=1", {}, {"gram": -1}],
    "network": ["vgg11"],
    "network-pooling": ["min"],
    "content-scaling": ["huge"],
    "solver": ["newton"],
    "solver-line-search": ["armijo"],
    "solver-first-decay": [-0.1, 1],
    "solver-epsilon": [0],
    "solver-rate-decay": [0, 1.1],
    "solver-rate-decay-steps": [0],
    "solver-clamp": ["maybe"],
    "solver-average": [-0.1, 1],
    "schedule-noise": [-0.1, 1.1],
    "schedule-noise-kind": ["pink"],
    "schedule-noise-spread": [-0.1, 1.1],
    "network-gain": [0, 1001],
    "side": ["diagonal"],
    "style-sizing": ["huge"],
    "style-gain": [0, 11],
    "content-gain": [0, 11],
    "smooth-measure": ["cubed"],
    "smooth-scaling": ["median"],
    "bounds-weight": [-1],
    "device": ["gpu"],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, wrong in OUT_OF_RANGE.items() for value in wrong],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_name_with_what_is_allowed(name: str, value: Any):
    option = OPTIONS[name]
    with pytest.raises(BadRecipe) as caught:
        with_settings(Recipe(), {name: value})
    message, hint = caught.value.message, caught.value.hint
    assert message.startswith(f"{name} is ")
    assert option.field.description in hint or option.field.description.rstrip(".") in hint
    for choice in option.choices:
        assert str(choice) in message
    if not option.choices and isinstance(option.default, int | float):
        limits = [str(value) for bound in option.field.metadata for value in vars_of(bound)]
        assert any(limit in message + hint for limit in limits)
    assert "Value should" not in message
    assert message.count("must be") == 1


def vars_of(bound: Any) -> list[Any]:
    return [getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)]


@pytest.mark.parametrize(
    ("values", "field", "suggestion"),
    [
        ({"strenght": 3}, "strenght", "strength"),
        ({"style": {"wieght": 3}}, "style.wieght", "style.weight"),
        ({"schedule": {"iteration": 3}}, "schedule.iteration", "schedule.iterations"),
        ({"painting": []}, "painting", "paintings"),
    ],
)
def test_a_field_that_does_not_exist_is_refused_with_a_suggestion(
    values: dict[str, Any], field: str, suggestion: str
):
    with pytest.raises(BadRecipe) as caught:
        from_mapping(values, "mine.toml")
    assert caught.value.message.startswith("mine.toml")
    assert repr(field) in caught.value.message
    assert suggestion in caught.value.hint


def test_a_field_like_none_is_told_where_to_look():
    with pytest.raises(BadRecipe, match="'qqqq'") as caught:
        from_mapping({"qqqq": 1})
    assert "impasto recipes" in caught.value.hint


def test_a_setting_that_does_not_exist_is_refused_with_a_suggestion():
    with pytest.raises(BadRecipe, match="'style_wieght'") as caught:
        with_settings(Recipe(), {"style_wieght": 1})
    assert "style-weight" in caught.value.hint
    with pytest.raises(BadRecipe, match="'qqqq'") as caught:
        with_settings(Recipe(), {"qqqq": 1})
    assert all(name in caught.value.hint for name in OPTIONS)


@pytest.mark.parametrize(
    "values",
    [
        {"version": 2},
        {"photo": {}},
        {"photo": {"path": "a", "weight": 0}},
        {"paintings": [{"path": 3}]},
        {"style": 3},
    ],
    ids=str,
)
def test_other_wrong_values_are_refused_in_one_civil_sentence(values: dict[str, Any]):
    with pytest.raises(BadRecipe) as caught:
        from_mapping(values)
    assert next(iter(values)) in caught.value.message
    assert "Field required" not in caught.value.message
    assert "instance of" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "text", ["a = ", "= 3", "[style", 'x = "', "seed = " + "1" * 5000, "a = " + "[" * 100_000]
)
def test_what_is_not_toml_is_refused(text: str):
    with pytest.raises(BadRecipe, match=r"mine\.toml is not TOML"):
        from_toml(text, "mine.toml")


@pytest.mark.parametrize(
    "text", ["{", "", "nonsense", '{"seed": ' + "1" * 5000 + "}", '{"a":' * 100_000]
)
def test_what_is_not_json_is_refused(text: str):
    with pytest.raises(BadRecipe, match=r"mine\.json is not JSON"):
        from_json(text, "mine.json")


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"text"'])
def test_json_that_is_no_record_is_refused(text: str):
    with pytest.raises(BadRecipe, match="not a recipe"):
        from_json(text)


def test_text_that_no_file_can_hold_is_refused():
    with pytest.raises(BadRecipe):
        from_json('{"summary": "\\ud800"}')


# ---- named recipes and files ---------------------------------------------------------------------


@pytest.mark.parametrize("name", loading.names())
def test_every_named_recipe_can_be_loaded(name: str):
    assert isinstance(load(name), Recipe)


def test_the_default_is_the_first_name():
    assert loading.names()[0] == "default"
    assert load("default") == Recipe()


def test_recipes_are_loaded_from_files(tmp_path: Path):
    made = with_settings(Recipe(name="mine"), {"strength": 77, "style-layers": "relu1_1=2"})
    (tmp_path / "a.toml").write_text(made.to_toml(), "utf-8")
    (tmp_path / "b.JSON").write_text(made.to_json(), "utf-8")
    assert load(str(tmp_path / "a.toml")) == load(str(tmp_path / "b.JSON")) == made


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRecipe, match=r"a\.toml cannot be read"):
        load(str(tmp_path / "a.toml"))


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(UnknownName, match="'defualt'") as caught:
        load("defualt")
    assert caught.value.hint.startswith("Did you mean default")
    with pytest.raises(UnknownName) as caught:
        load("qqqq")
    assert all(name in caught.value.hint for name in loading.names())


def test_literal_settings_have_a_default_among_their_choices():
    for option in OPTIONS.values():
        assert option.choices == (get_args(option.field.annotation) if option.choices else ())
