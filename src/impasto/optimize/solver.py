"""The interface of a search method."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from impasto.storage.tensors import StoredTensor


class Solver(Protocol):
    """A search over pixels (1, 3, H, W) that it owns and changes in place: where the loss is to be
    found next.
    """

    pixels: Tensor

    @property
    def iterate(self) -> Tensor:
        """How far the search has come, from where ``memory`` goes on: the pixels, unless they are
        only tried.
        """
        return self.pixels

    def accepts(self, gradient: Tensor, loss: float) -> bool:
        """Whether the pixels are one of the search's steps, given gradient and loss there, and not
        a try that is to be bettered. Nothing is changed.
        """
        return True

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        """One move, given gradient and loss at the pixels; the solver may keep and change the
        gradient's tensor.
        """
        ...

    def memory(self) -> dict[str, StoredTensor]:
        """Everything that the next move depends on besides the iterate, by name (not copies)."""
        ...


def take_in(average: Tensor, pixels: Tensor, decay: float, count: int) -> Tensor:
    """The running average with one picture more, in its place; ``count`` pictures with this one,
    which is 1 or more.

    The average is corrected for its beginning, as K. Crowson's is: sum_i decay^(n - i) x_i / sum_i
    decay^(n - i). It is corrected at every step instead of when it is looked at, which takes no
    second picture.
    """
    return average.lerp_(pixels, (1 - decay) / (1 - decay**count))
