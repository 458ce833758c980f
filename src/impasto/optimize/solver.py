"""The interface of a solver, and the running average of its pictures."""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from impasto.storage.tensors import StoredTensor


class Solver(Protocol):
    """A search method over pixels (1, 3, H, W), which it owns and changes in place.

    ``pixels``: where the loss is to be evaluated next.
    """

    pixels: Tensor

    @property
    def iterate(self) -> Tensor:
        """The current solution, to which ``memory`` belongs.

        It differs from ``pixels`` while a line search tries steps.
        """
        return self.pixels

    def accepts(self, gradient: Tensor, loss: float) -> bool:
        """Whether the pixels, with this gradient and loss, are an accepted step of the search.

        False for a trial of a line search that will be improved on. Nothing is changed.
        """
        return True

    def move(self, gradient: Tensor, loss: float = math.inf) -> None:
        """Move the pixels once, given gradient and loss there.

        The solver may keep and overwrite the gradient.
        """
        ...

    def memory(self) -> dict[str, StoredTensor]:
        """All that the next move depends on besides the iterate, by name, without copies."""
        ...


def add_to_average(average: Tensor, pixels: Tensor, decay: float, count: int) -> Tensor:
    """Add a picture to a running average in place; it is the ``count``-th, from 1.

    The average is corrected for its start: sum_i decay^(n-i) x_i / sum_i decay^(n-i), as in
    K. Crowson's style-transfer-pytorch. It is corrected at every step, which needs no second
    picture.
    """
    return average.lerp_(pixels, (1 - decay) / (1 - decay**count))
