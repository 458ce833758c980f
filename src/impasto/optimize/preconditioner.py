"""What a search takes the inverse Hessian for before pairs correct it: gains by wave and by place,
found as it goes.

It knows steps and the changes of gradient that they brought. It refuses to know the search and what
is searched for.

What a network sees of a long wave is so much less than of a short one that the curvatures lie four
decades apart, and in a flat part of a picture less than in a lively one. A single number in their
place, which is what L-BFGS begins with, either does not move the long waves or throws the short
ones about.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from impasto.geometry import Size
from impasto.optimize.dct import Spectrum
from impasto.storage.tensors import InMemoryTensor, StoredTensor

# A shell's gain is at most this many times the typical one, and at least this part of it.
WAVE_RANGE = 1000.0
# And a place's, once as many pairs are known: the first few say little of so many places.
PLACE_RANGE = 30.0
_PAIRS = 5  # from which the gains of waves are found
_KEEP = 0.5  # of what is known of the places, at every pair
_CELL = 4  # px: the side of a place


class Preconditioner:
    """c A W' G W A: amplitudes A by place, gains G by axis of colour and shell of waves W, and a
    number c.

    Symmetric and positive definite. A gain is the root of how much the last steps had of a wave (or
    at a place) over how much the changes of gradient had; c is what makes the last pair fit, as
    L-BFGS's single number does (the secant equation).
    """

    # What the last pairs had in each shell, steps and changes, over the square of the step: (pairs,
    # 2, 3, shells)
    _heard: Tensor | None
    _gains: Tensor | None  # (3, shells), c included
    # (2, 1, cells down, cells across): as heard, without the difference of waves.
    _places: Tensor | None
    _amplitudes: Tensor | None  # (1, 1, H, W)
    _learned: int  # pairs

    def __init__(
        self,
        size: Size,
        dtype: torch.dtype,
        device: torch.device,
        memory: Mapping[str, StoredTensor],
    ) -> None:
        self._spectrum = Spectrum(size, dtype, device)
        self.forget()
        if "heard" in memory:
            self._heard, self._gains, self._places = (
                memory[name].load() for name in ("heard", "gains", "places")
            )
            self._learned = int(memory["learned"].load())
            self._amplitudes = self._found(self._places)

    def forget(self) -> None:
        """Begin anew."""
        self._heard = self._gains = self._places = self._amplitudes = None
        self._learned = 0

    def __call__(self, gradient: Tensor) -> Tensor:
        """(1, 3, H, W) -> the same: how far to go for that gradient, which is spent. As it is,
        where nothing has been learned.
        """
        if self._gains is None or self._amplitudes is None:
            return gradient
        waves = self._spectrum.scale(
            self._spectrum.waves(gradient.mul_(self._amplitudes)), self._gains
        )
        return self._spectrum.picture(waves).mul_(self._amplitudes)

    def learn(self, step: Tensor, change: Tensor, product: float) -> None:
        """Take in how the gradient changed over a step; ``product`` is that of the two, and above
        0.
        """
        steps, changes = self._spectrum.waves(step.clone()), self._spectrum.waves(change.clone())
        energies = torch.stack([self._spectrum.energies(steps), self._spectrum.energies(changes)])
        square = energies[0].sum()
        latest = (energies / square)[None]
        self._heard = latest if self._heard is None else torch.cat([self._heard, latest])[-_PAIRS:]
        gains = _gains(*self._heard.sum(0))
        # With the difference of waves taken out of both, what is left is that of places.
        seen = torch.cat(
            [self._cells(steps, gains.rsqrt()), self._cells(changes, gains.sqrt())]
        ) / square.to(step)
        del steps, changes
        self._learned += 1
        self._places = seen if self._places is None else self._places.lerp(seen, 1 - _KEEP)
        self._amplitudes = self._found(self._places)
        across = self._spectrum.energies(self._spectrum.waves(change * self._amplitudes))
        self._gains = gains * (product / (gains * across).sum())

    def memory(self) -> dict[str, StoredTensor]:
        """Everything that is known (not copies)."""
        known = (("heard", self._heard), ("gains", self._gains), ("places", self._places))
        found: dict[str, StoredTensor] = {
            name: InMemoryTensor(tensor) for name, tensor in known if tensor is not None
        }
        return found | ({"learned": InMemoryTensor(torch.tensor(self._learned))} if found else {})

    def _cells(self, waves: Tensor, factors: Tensor) -> Tensor:
        """(1, 1, cells down, cells across): the mean square of each cell, the waves scaled first,
        and spent.
        """
        squares = (
            self._spectrum.picture(self._spectrum.scale(waves, factors))
            .square_()
            .sum(1, keepdim=True)
        )
        return functional.avg_pool2d(squares, _CELL, ceil_mode=True, count_include_pad=False)

    def _found(self, places: Tensor) -> Tensor:
        """The amplitudes (1, 1, H, W): the roots of the gains of places, 1 in the median."""
        gains = _roots(places[:1], places[1:])
        gains = gains / gains.median().clamp_min(torch.finfo(gains.dtype).tiny)
        reach = min(PLACE_RANGE, float(self._learned))
        rough = gains.clamp(1 / reach, reach).sqrt()
        size = [_CELL * side for side in rough.shape[-2:]]
        fine = functional.interpolate(rough, size=size, mode="bilinear", align_corners=False)
        return fine[..., : self._spectrum.size.height, : self._spectrum.size.width].contiguous()


def _gains(steps: Tensor, changes: Tensor) -> Tensor:
    """(3, shells) from the energies of steps and changes, not too far from the typical one."""
    gains = _roots(steps, changes)
    typical = (gains * changes).sum() / changes.sum()
    return gains.clamp(typical / WAVE_RANGE, typical * WAVE_RANGE)


def _roots(steps: Tensor, changes: Tensor) -> Tensor:
    """The root of the one over the other; where neither has anything, that of the sums."""
    tiny = torch.finfo(steps.dtype).tiny
    roots = (steps / changes.clamp_min(tiny)).sqrt()
    return torch.where(
        (steps > 0) | (changes > 0), roots, (steps.sum() / changes.sum().clamp_min(tiny)).sqrt()
    )
