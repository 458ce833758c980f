"""Every error that Impasto raises on purpose.

ImpastoError
├── BadRequest            the request cannot be met; nothing was started
│   ├── BadRecipe         a field that does not exist, a value out of range, no recipe file
│   ├── BadPicture        a file that cannot be read as a picture
│   ├── UnknownName       no painting, recipe, layer or device of that name
│   ├── CannotWrite       the output's folder, name or format is unusable
│   ├── DoesNotFit        more memory is needed than there is
│   ├── CannotResume      a run folder that does not belong to this request
│   └── MissingExtra      an optional dependency that is not installed
└── Failed                the work was started and could not be finished
    ├── AssetUnavailable  weights or a painting that cannot be fetched, or have the wrong contents
    ├── Diverged          the loss is no longer finite
    ├── OutOfMemory       memory ran out during the work
    └── NotSaved          the finished picture could not be written

A message says in one sentence what was given and what is allowed. The hint says what to do now.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class ImpastoError(Exception):
    """An error for a person.

    ``message`` is one sentence; ``hint`` says what to do now, and may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadRequest(ImpastoError):
    """The request cannot be met; nothing was started."""


class BadRecipe(BadRequest):
    """A field that does not exist, a value out of range, or a file that is no recipe."""


class BadPicture(BadRequest):
    """A file that cannot be read as a picture."""


class UnknownName(BadRequest):
    """No painting, recipe, layer or device of that name."""


class CannotWrite(BadRequest):
    """The folder, name or format of an output is unusable."""


class DoesNotFit(BadRequest):
    """More memory is needed than there is."""


class CannotResume(BadRequest):
    """A run folder that does not belong to this request, or is damaged."""


class MissingExtra(BadRequest):
    """An optional dependency that is not installed."""


class Failed(ImpastoError):
    """The work was started and could not be finished."""


class AssetUnavailable(Failed):
    """A file cannot be fetched, or has the wrong contents."""


class Diverged(Failed):
    """The loss is no longer finite."""


class OutOfMemory(Failed):
    """Memory ran out during the work."""


class NotSaved(Failed):
    """The finished picture could not be written."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that an allocation failed.

    Python and numpy raise a MemoryError then. Torch raises a RuntimeError with a text.
    """
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    # The exact texts of oneDNN. Texts about unsupported convolutions begin alike and are longer.
    exact_texts = (
        "could not create a primitive",
        "could not create a memory object",
        "could not execute a primitive",
    )
    parts = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "bad_alloc",
        "ALLOC_FAILED",
    )
    return str(error) in exact_texts or any(part in str(error) for part in parts)


@contextmanager
def memory_for(work: str, kind: type[ImpastoError] = DoesNotFit, hint: str = "") -> Iterator[None]:
    """Turn an out-of-memory error inside the context into an error for a person.

    ``work`` completes the sentence "There is not enough memory to ...".
    """
    try:
        yield
        return
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
    # Raised outside of the except block, so that the traceback's memory is free already.
    raise kind(
        f"There is not enough memory to {work}.",
        hint or "Close other programs, or ask for a smaller --size.",
    )


def did_you_mean(given: str, known: Iterable[str], limit: int = 3) -> str:
    """A hint with up to ``limit`` of the ``known`` names that resemble ``given``, or ""."""
    names = list(known)
    close = difflib.get_close_matches(given.lower(), names, n=limit, cutoff=0.5)
    close += [
        name for name in names if len(given) > 2 and given.lower() in name and name not in close
    ]
    return f"Did you mean {', '.join(close[:limit])}?" if close else ""
