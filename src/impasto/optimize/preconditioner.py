"""A preconditioner for L-BFGS: a scaling per frequency and per position, learned from its pairs.

A network responds to long wavelengths so much less than to short ones that the curvatures differ
by four decades, and they differ between flat and textured parts of a picture. L-BFGS starts from a
single number instead. It either does not move the long wavelengths or overshoots in the short ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Size
from impasto.optimize.dct import DCT
from impasto.storage.tensors import InMemoryTensor, StoredTensor

# A band's scaling is at most this many times the typical one, and at least its inverse share.
FREQUENCY_RANGE = 1000.0
# The same for positions, once that many pairs were seen: a few pairs say little about so many.
POSITION_RANGE = 30.0
_PAIRS = 5  # the latest pairs, from which the frequency scaling is computed
_KEEP = 0.5  # the share of the position energies that remains at every pair
_CELL = 4  # px: the side of a cell, within which the position scaling is measured


class Preconditioner:
    """The linear map c A D' S D A with position amplitudes A, the DCT D, and band scaling S.

    It is symmetric and positive definite. The scaling of a band (or position) is the square root
    of the energy of the last steps over that of the changes of gradient. The number c makes the
    latest pair fit (the secant equation), as L-BFGS's single number does.
    """

    # Energies of the last pairs, over the squared norm of the step: (pairs, 2, 3, bands), where 2
    # are step and change of gradient.
    _energy_history: Tensor | None
    _scaling: Tensor | None  # (3, bands), c included
    # (2, 1, cells down, cells across): energies of step and change with equalised frequencies.
    _position_energies: Tensor | None
    _amplitudes: Tensor | None  # (1, 1, H, W)
    _pairs_seen: int

    def __init__(
        self,
        size: Size,
        dtype: torch.dtype,
        device: torch.device,
        memory: Mapping[str, StoredTensor],
    ) -> None:
        self._dct = DCT(size, dtype, device)
        self.forget()
        if "energy_history" in memory:
            self._energy_history = memory["energy_history"].load()
            self._scaling = memory["scaling"].load()
            self._position_energies = memory["position_energies"].load()
            self._pairs_seen = int(memory["pairs_seen"].load())
            self._amplitudes = self._position_amplitudes(self._position_energies)

    def forget(self) -> None:
        """Forget all pairs."""
        self._energy_history = self._scaling = None
        self._position_energies = self._amplitudes = None
        self._pairs_seen = 0

    def __call__(self, gradient: Tensor) -> Tensor:
        """Apply to a gradient (1, 3, H, W), overwritten in place; the identity without pairs."""
        if self._scaling is None or self._amplitudes is None:
            return gradient
        coefficients = self._dct.coefficients(gradient.mul_(self._amplitudes))
        scaled = self._dct.scale(coefficients, self._scaling)
        return self._dct.picture(scaled).mul_(self._amplitudes)

    def learn(self, step: Tensor, change: Tensor, product: float) -> None:
        """Learn from a step and its change of gradient; ``product``: their dot product, above 0."""
        steps = self._dct.coefficients(step.clone())
        changes = self._dct.coefficients(change.clone())
        energies = torch.stack([self._dct.energies(steps), self._dct.energies(changes)])
        square = energies[0].sum()
        latest = (energies / square)[None]
        if self._energy_history is not None:
            latest = torch.cat([self._energy_history, latest])[-_PAIRS:]
        self._energy_history = latest
        scaling = _band_scaling(*self._energy_history.sum(0))
        # Equalise the frequencies of both, so that only differences of position remain.
        cells = [
            self._cell_energies(steps, scaling.rsqrt()),
            self._cell_energies(changes, scaling.sqrt()),
        ]
        cell_energies = torch.cat(cells) / square.to(step)
        del steps, changes, cells
        self._pairs_seen += 1
        if self._position_energies is not None:
            cell_energies = self._position_energies.lerp(cell_energies, 1 - _KEEP)
        self._position_energies = cell_energies
        self._amplitudes = self._position_amplitudes(self._position_energies)
        preconditioned = self._dct.energies(self._dct.coefficients(change * self._amplitudes))
        self._scaling = scaling * (product / (scaling * preconditioned).sum())

    def memory(self) -> dict[str, StoredTensor]:
        """All that was learned, without copies."""
        learned = {
            "energy_history": self._energy_history,
            "scaling": self._scaling,
            "position_energies": self._position_energies,
        }
        memory: dict[str, StoredTensor] = {
            name: InMemoryTensor(tensor) for name, tensor in learned.items() if tensor is not None
        }
        if memory:
            memory["pairs_seen"] = InMemoryTensor(torch.tensor(self._pairs_seen))
        return memory

    def _cell_energies(self, coefficients: Tensor, factors: Tensor) -> Tensor:
        """(1, 1, cells down, cells across): the mean square per cell after scaling the bands.

        The coefficients are overwritten in place.
        """
        picture = self._dct.picture(self._dct.scale(coefficients, factors))
        squares = picture.square_().sum(1, keepdim=True)
        return functional.avg_pool2d(squares, _CELL, ceil_mode=True, count_include_pad=False)

    def _position_amplitudes(self, energies: Tensor) -> Tensor:
        """The amplitudes (1, 1, H, W): square roots of the position scaling, with median 1."""
        scaling = _root_ratio(energies[:1], energies[1:])
        scaling = scaling / scaling.median().clamp_min(torch.finfo(scaling.dtype).tiny)
        limit = min(POSITION_RANGE, float(self._pairs_seen))
        coarse = scaling.clamp(1 / limit, limit).sqrt()
        size = [_CELL * side for side in coarse.shape[-2:]]
        fine = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        return fine[..., : self._dct.size.height, : self._dct.size.width].contiguous()


def _band_scaling(steps: Tensor, changes: Tensor) -> Tensor:
    """(3, bands) from the energies of steps and changes, within a range of the typical scaling."""
    scaling = _root_ratio(steps, changes)
    typical = (scaling * changes).sum() / changes.sum()
    return scaling.clamp(typical / FREQUENCY_RANGE, typical * FREQUENCY_RANGE)


def _root_ratio(steps: Tensor, changes: Tensor) -> Tensor:
    """The square root of steps over changes; where both are 0, that of their sums."""
    tiny = torch.finfo(steps.dtype).tiny
    roots = (steps / changes.clamp_min(tiny)).sqrt()
    overall = (steps.sum() / changes.sum().clamp_min(tiny)).sqrt()
    return torch.where((steps > 0) | (changes > 0), roots, overall)
