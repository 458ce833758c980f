"""What happened: small frozen records of numbers and words, without tensors, and as JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from impasto.geometry import Size


@dataclass(frozen=True)
class Event:
    """Anything that happened."""


@dataclass(frozen=True)
class Planned(Event):
    """What will be done: the final size, stages as (size, evaluations), expected seconds and bytes,
    and the largest side of a tile, 0 for the whole picture at once, and bytes that wait on disk.
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
    """A stage begins; stages count from 0. ``name`` says what it makes where that is not the
    picture itself.
    """

    stage: int
    size: Size
    steps: int
    name: str = ""


@dataclass(frozen=True)
class Stepped(Event):
    """One step was taken. ``loss``, ``terms`` and each layer's share of a term, ``layers``, are
    those of the picture before it; ``seconds`` since the start.
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
    """Something a person should know; the run goes on."""

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
    """The run could not go on; the best picture is in the state. ``memory``: it ran out."""

    message: str
    memory: bool = False


@dataclass(frozen=True)
class InputsChecked(Event):
    """All that can be checked before the network is loaded has been checked."""


@dataclass(frozen=True)
class Downloading(Event):
    """An asset is being fetched: its name, bytes so far, and all bytes."""

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
    """The inverse of ``to_dict``, also after a way through JSON."""
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

    def progress(self, name: str, bytes_done: int, bytes_total: int) -> None:
        """Report the progress of a download as an event."""
        self.on_event(Downloading(name, bytes_done, bytes_total))
