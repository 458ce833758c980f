"""The maximum of every 2x2 square of a map, and the way of a gradient back to where that maximum
was.

It knows layouts: of contiguous maps on a CPU it compares slices and keeps one byte a square, where
torch keeps eight and takes several times as long; of others it keeps one byte where it is asked to.
It refuses to know networks; ties and odd edges are as torch has them: the first in reading order,
and left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def maxima(x: Tensor, keep: bool = True, compact: bool = False) -> tuple[Tensor, Tensor | None]:
    """(1, C, h, w) -> (1, C, h // 2, w // 2), and what ``gradient`` needs of where they were if
    ``keep``.

    ``compact``: in a byte a square whatever the layout, which costs a whole step 2% and saves a
    tenth of what it keeps.
    """
    if not (x.device.type == "cpu" and x.is_contiguous()):
        found, indices = functional.max_pool2d_with_indices(x, (2, 2))
        return found, _packed(indices, x.shape[-1]) if keep and compact else indices
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    left, right = x[..., :height, 0:width:2], x[..., :height, 1:width:2]
    of_rows = torch.maximum(left, right)
    upper, lower = of_rows[..., 0::2, :], of_rows[..., 1::2, :]
    if not keep:
        return torch.maximum(upper, lower), None
    # Which one it was: 0 and 1 in the upper row, 2 and 3 in the lower. Columns first, so that ties
    # fall as they should.
    at_right, below = (right > left).view(torch.uint8), (lower > upper).view(torch.uint8)
    in_upper, in_lower = at_right[..., 0::2, :], at_right[..., 1::2, :]
    which = (in_upper ^ in_lower).bitwise_and_(below).bitwise_xor_(in_upper)
    return torch.maximum(upper, lower), which.add_(below, alpha=2)


def gradient(g: Tensor, which: Tensor, shape: torch.Size, form: torch.memory_format) -> Tensor:
    """(1, C, h // 2, w // 2) -> (1, C, h, w): ``g`` where the maxima were, 0 elsewhere.

    ``shape`` and layout are those of the map that the maxima were taken of; ``g`` has its layout.
    """
    if which.dtype == torch.uint8:
        which = (_corners(which, shape[-1]) + (which & 1)).add_(which >> 1, alpha=shape[-1])
    # Its shape and layout alone are read.
    x = torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=form)
    return torch.ops.aten.max_pool2d_with_indices_backward(
        g, x, [2, 2], [2, 2], [0, 0], [1, 1], False, which
    )


def _packed(indices: Tensor, width: int) -> Tensor:
    """torch's indices into maps of a ``width``, which are used up, as 0 and 1 in the upper row and
    2 and 3 in the lower.
    """
    offset = indices.sub_(_corners(indices, width))
    below = (offset >= width).view(torch.uint8)
    return offset.sub_(below, alpha=width).to(torch.uint8).add_(below, alpha=2)


def _corners(of: Tensor, width: int) -> Tensor:
    """(h // 2, w // 2): torch's index of the upper left position of each square in a map of a
    ``width``.
    """
    rows, columns = (2 * torch.arange(count, device=of.device) for count in of.shape[-2:])
    return rows[:, None] * width + columns
