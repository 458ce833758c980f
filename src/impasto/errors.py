"""Every error that Impasto raises on purpose.

ImpastoError
├── BadRequest            a request that cannot be met; nothing was started
│   ├── BadRecipe         a field that does not exist, a value out of range, not a recipe file
│   ├── BadPicture        a file that cannot be read as a picture
│   ├── UnknownName       no painting, recipe, layer or device of that name
│   ├── CannotWrite       the output's folder, name or format
│   ├── DoesNotFit        more memory is needed than there is
│   ├── CannotResume      a run folder that does not belong to this request
│   └── MissingExtra      an optional dependency that is not installed
└── Failed                the work was started and could not be finished
    ├── AssetUnavailable  a file could not be fetched, or is not what it should be
    ├── Diverged          the loss stopped being a number
    ├── OutOfMemory       memory ran out
    └── NotSaved          the finished picture could not be written

A message says in one sentence what was given and what is allowed. The hint says what to do now.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class ImpastoError(Exception):
    """An error for a person: ``message`` is one sentence, ``hint`` (may be empty) says what to do
    now.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadRequest(ImpastoError):
    """What was asked cannot be done as asked; nothing was started."""


class BadRecipe(BadRequest):
    """A field that does not exist, a value out of range, or a file that is no recipe."""


class BadPicture(BadRequest):
    """A file that cannot be read as a picture."""


class UnknownName(BadRequest):
    """No painting, recipe, layer or device of that name."""


class CannotWrite(BadRequest):
    """The output's folder, name or format is unusable."""


class DoesNotFit(BadRequest):
    """More memory is needed than there is."""


class CannotResume(BadRequest):
    """A run folder that does not belong to this request, or is damaged."""


class MissingExtra(BadRequest):
    """An optional dependency that is not installed."""


class Failed(ImpastoError):
    """The work was started and could not be ended."""


class AssetUnavailable(Failed):
    """A file that is fetched could not be had, or is not what it should be."""


class Diverged(Failed):
    """The loss stopped being a number."""


class OutOfMemory(Failed):
    """Memory ran out on the way."""


class NotSaved(Failed):
    """The finished picture could not be written where it was wanted."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: Python's and numpy's raise an error of their own, torch's say
    so in words.
    """
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    # The whole of what oneDNN says then; what it says of a convolution that it does not have is
    # longer.
    whole = (
        "could not create a primitive",
        "could not create a memory object",
        "could not execute a primitive",
    )
    words = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "bad_alloc",
        "ALLOC_FAILED",
    )
    return str(error) in whole or any(word in str(error) for word in words)


@contextmanager
def memory_for(work: str, kind: type[ImpastoError] = DoesNotFit, hint: str = "") -> Iterator[None]:
    """Within it, memory that runs out is an error for a person: there was not enough to do this
    work.
    """
    try:
        yield
        return
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
    # Out here, where nothing holds on to what the work held.
    raise kind(
        f"There is not enough memory to {work}.",
        hint or "Close other programs, or ask for a smaller --size.",
    )


def did_you_mean(given: str, known: Iterable[str], limit: int = 3) -> str:
    """A hint with up to ``limit`` of the ``known`` names that look like ``given``; empty if none
    does.
    """
    names = list(known)
    close = difflib.get_close_matches(given.lower(), names, n=limit, cutoff=0.5)
    close += [
        name for name in names if len(given) > 2 and given.lower() in name and name not in close
    ]
    return f"Did you mean {', '.join(close[:limit])}?" if close else ""
