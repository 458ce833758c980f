"""Events of a run: frozen records of numbers and words, without tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from impasto.geometry import Size


@dataclass(frozen=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True)
class Planned(Event):
    """What will be done.

    ``stages``: (size, evaluations) of each. ``tile``: the longest side of a tile, 0 for the whole
    picture at once. ``disk_bytes``: tensors that are stored on disk.
    """

    size: Size
    stages: tuple[tuple[Size, int], ...]
    device: str
    kernel: str
    seconds: float
    memory_bytes: int
    free_bytes: int
    tile: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Started(Event):
    """A stage begins.

    ``stage`` counts from 0. ``name``: what the stage makes, unless it is the picture itself.
    """

    stage: int
    size: Size
    steps: int
    name: str = ""


@dataclass(frozen=True)
class Stepped(Event):
    """A step was taken.

    ``loss``, its ``terms`` and each layer's share of a term, ``layers``, are those of the picture
    before the step. ``seconds`` counts from the start.
    """

    stage: int
    step: int
    evaluations: int
    loss: float
    terms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    layers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class StageDone(Event):
    """A stage ended."""

    stage: int
    size: Size
    seconds: float


@dataclass(frozen=True)
class Warned(Event):
    """Something that a person should know; the run continues."""

    message: str


@dataclass(frozen=True)
class Finished(Event):
    """The run reached its end."""

    evaluations: int
    loss: float
    terms: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Failed(Event):
    """The run could not continue; the best picture is in the state. ``memory``: it ran out."""

    message: str
    memory: bool = False


@dataclass(frozen=True)
class InputsChecked(Event):
    """All that can be checked before the network is loaded has been checked."""


@dataclass(frozen=True)
class Downloading(Event):
    """An asset is being fetched: its name, the bytes so far, and all bytes."""

    name: str
    bytes_done: int
    bytes_total: int


_KINDS = (
    *(Planned, Started, Stepped, StageDone, Warned, Finished, Failed),
    *(InputsChecked, Downloading),
)
KINDS = {kind.__name__: kind for kind in _KINDS}


def to_dict(event: Event) -> dict[str, Any]:
    """An event as plain values, its kind under "event"."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}


def from_dict(values: dict[str, Any]) -> Event:
    """The inverse of ``to_dict``; the values may have been written to JSON and read again."""
    fields = dict(values)
    kind = KINDS[fields.pop("event")]
    if "size" in fields:
        fields["size"] = Size(*fields["size"])
    if "stages" in fields:
        fields["stages"] = tuple((Size(*size), steps) for size, steps in fields["stages"])
    return kind(**fields)


@dataclass(frozen=True)
class Callbacks:
    """How a caller follows the work and stops it. Both are called from the working thread.

    ``on_event``: called with everything that happens. ``cancel``: asked between steps; the work
    ends after the current step if it returns True.
    """

    on_event: Callable[[Event], None] = lambda event: None
    cancel: Callable[[], bool] = lambda: False

    @classmethod
    def of(
        cls,
        on_event: Callable[[Event], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Callbacks:
        """The callbacks of a caller who may leave either out."""
        return cls(on_event or cls.on_event, cancel or cls.cancel)

    def progress(self, name: str, bytes_done: int, bytes_total: int) -> None:
        """Report the progress of a download as an event."""
        self.on_event(Downloading(name, bytes_done, bytes_total))
