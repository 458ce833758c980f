"""Pictures as waves: the orthonormal basis in which coarse and fine, light and colour stand apart.

It knows cosines, three axes of colour, and shells of waves of like length. It refuses to know what
they are used for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property, reduce

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from impasto.geometry import Size

# Light, red against blue, green against both: orthogonal, and near to the axes along which photos
# vary.
_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
# Positions of a map that are worked on at a time, so that what is made on the way stays small.
_STRIP = 2**17


class Spectrum:
    """The waves of pictures of one size.

    Each axis of colour is expanded into cosines that go on evenly beyond the border (DCT-II), so
    that no wave runs from one edge of the picture into the opposite one. Dot products are those of
    the pixels. A shell holds the waves whose shorter length, across or down, lies within one
    octave; the first holds the longest.
    """

    def __init__(
        self, size: Size, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self.size = size
        axes = torch.tensor(_AXES, dtype=torch.float64)
        self._axes = (axes / axes.norm(dim=1, keepdim=True)).to(device, dtype)  # (3, 3)

    def waves(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W), by colour and position -> (1, 3, H, W), by axis and wave. The picture is
        spent: its memory is written over, since a copy more is 290 MB at 24 megapixels.
        """
        return self._cosines(_mixed(picture, self._axes), back=False)

    def picture(self, waves: Tensor) -> Tensor:
        """The inverse of ``waves``, which are spent likewise."""
        return _mixed(self._cosines(waves, back=True), self._axes.T)

    def energies(self, waves: Tensor) -> Tensor:
        """(3, shells), float64: the sums of the squares of each axis and shell."""
        sums = [sum(_squares(waves[part]) for part in shell) for shell in self.shells]
        return torch.stack(sums, 1)  # type: ignore[arg-type]

    def scale(self, waves: Tensor, factors: Tensor) -> Tensor:
        """The waves, each multiplied in place by the factor (3, shells) of its axis and shell."""
        for shell, factor in zip(self.shells, factors.to(waves).unbind(1), strict=True):
            for part in shell:
                waves[part] *= factor[:, None, None]
        return waves

    @cached_property
    def shells(self) -> list[list[tuple[slice | int, ...]]]:
        """The parts of an array of waves that each shell is made of: two strips around the shell
        before.
        """
        corners = list(_corners(self.size))
        return [
            [
                (0, slice(None), slice(top, bottom), slice(0, right)),
                (0, slice(None), slice(0, top), slice(left, right)),
            ]
            for (top, left), (bottom, right) in zip([(0, 0), *corners[:-1]], corners, strict=True)
        ]

    def _cosines(self, maps: Tensor, back: bool) -> Tensor:
        if maps.device.type != "cpu":
            down, across = self._matrices
            return down.T @ maps @ across if back else down @ maps @ across.T
        transform = fft.idctn if back else fft.dctn
        found = transform(
            maps.numpy(),
            axes=(-2, -1),
            norm="ortho",
            overwrite_x=True,
            workers=torch.get_num_threads(),
        )
        return torch.from_numpy(np.ascontiguousarray(found))

    @cached_property
    def _matrices(self) -> tuple[Tensor, Tensor]:
        """The cosines of each side, (H, H) and (W, W), a wave a row: a product of matrices is what
        a GPU does best.
        """
        down, across = (_matrix(side).to(self._axes) for side in self.size)
        return down, across


def _matrix(side: int) -> Tensor:
    wave, place = (
        torch.arange(side, dtype=torch.float64)[:, None],
        torch.arange(side, dtype=torch.float64),
    )
    cosines = torch.cos(math.pi / side * wave * (place + 0.5)) * math.sqrt(2 / side)
    cosines[0] *= math.sqrt(0.5)
    return cosines


def _corners(size: Size) -> Iterator[tuple[int, int]]:
    """Where shells end, down and across: at the waves of 2 pixels, 4, 8, ... until one is as long
    as the longer side.
    """
    octaves = max(1, math.ceil(math.log2(size.long_side)))
    before = (0, 0)
    for octave in range(octaves, -1, -1):
        corner = (math.ceil(size.height / 2**octave), math.ceil(size.width / 2**octave))
        if corner != before:
            yield corner
        before = corner


def _mixed(maps: Tensor, matrix: Tensor) -> Tensor:
    """(1, 3, H, W), its three maps replaced by their mixtures, a row of ``matrix`` (3, 3) for each."""
    for rows in _strips(maps):
        rows.copy_(torch.einsum("ac,bchw->bahw", matrix, rows))
    return maps


def _squares(part: Tensor) -> Tensor:
    strips = (rows.square().sum((-2, -1), dtype=torch.float64) for rows in _strips(part))
    return reduce(torch.add, strips)


def _strips(maps: Tensor) -> tuple[Tensor, ...]:
    """The maps (..., h, w) cut across into a few rows each."""
    return maps.split(max(1, _STRIP // max(1, maps.shape[-1])), -2)
