"""Every kind of event goes through JSON and comes back the same."""

from __future__ import annotations

import dataclasses
import json

import pytest

from impasto import events
from impasto.events import (
    Downloading,
    Event,
    Failed,
    Finished,
    InputsChecked,
    Planned,
    StageDone,
    Started,
    Stepped,
    Warned,
)
from impasto.geometry import Size

SIZE = Size(384, 512)

EXAMPLES: list[Event] = [
    Planned(SIZE, ((Size(96, 128), 60), (SIZE, 30)), "cpu", "nnpack", 105.5, 2**31, 2**33),
    Planned(SIZE, ((SIZE, 30),), "cuda", "conv2d", 1.0, 2**31, 2**33, 1024, 2**34),
    Started(1, SIZE, 60),
    Stepped(
        1,
        7,
        67,
        0.123456789012345,
        {"content": 0.1, "style": 0.02},
        12.5,
        {"content": {"relu4_2": 0.1}},
    ),
    Stepped(0, 1, 1, 1e-300),
    StageDone(1, SIZE, 30.25),
    Warned("The photo is larger than it needs to be: a “quote”, a ü and a\nline."),
    Finished(180, 0.01, {"style": 0.01}, 99.0),
    Failed("The loss stopped being a number."),
    InputsChecked(),
    Downloading("vgg19-normalised", 65536, 80_102_481),
]


def test_there_is_an_example_of_every_kind():
    assert {type(event).__name__ for event in EXAMPLES} == set(events.KINDS)
    assert set(events.KINDS.values()) == set(Event.__subclasses__())


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_goes_through_json(event: Event):
    line = json.dumps(events.to_dict(event), allow_nan=False)
    assert "\n" not in line
    parsed = events.from_dict(json.loads(line))
    assert type(parsed) is type(event)
    assert parsed == event
    for field in dataclasses.fields(event):
        assert type(getattr(parsed, field.name)) is type(getattr(event, field.name)), field.name
    assert json.loads(line)["event"] == type(event).__name__


def test_the_sizes_of_a_plan_come_back_as_sizes():
    parsed = events.from_dict(json.loads(json.dumps(events.to_dict(EXAMPLES[0]))))
    assert isinstance(parsed, Planned)
    assert str(parsed.size) == "512x384"
    assert [(str(size), steps) for size, steps in parsed.stages] == [
        ("128x96", 60),
        ("512x384", 30),
    ]


def test_from_dict_leaves_its_argument_alone():
    values = events.to_dict(EXAMPLES[0])
    events.from_dict(values)
    assert values == events.to_dict(EXAMPLES[0])


def test_events_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Started(0, SIZE, 1).stage = 1  # type: ignore[misc]
