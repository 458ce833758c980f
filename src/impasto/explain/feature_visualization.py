"""The picture that a unit of the network answers to most, found from faint noise.

Source: Olah, Mordvintsev, Schubert, "Feature Visualization" (2017). Pixels that climb freely end in
a fine pattern that only the network sees. So it is waves that climb, long ones further than short
ones and colours less far than light; and at every step the network sees the picture shifted, turned
and scaled a little, so that what depends on the exact pixel is lost. A picture that is seen
otherwise at every step is no task for L-BFGS, so this search is not the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import BadRequest, UnknownName, did_you_mean
from impasto.geometry import Grid, Size
from impasto.networks import vgg
from impasto.networks.features import Network
from impasto.objectives.activation import Activation
from impasto.optimize.dct import Spectrum
from impasto.optimize.tiling import value_and_gradient

_RATE = 0.05  # of Adam, and the noise of the start: both of the paper's own code
_NOISE = 0.01
# Standard deviations of photos along the axes of colour of ``spectrum``, light first, over that of
# light.
_COLOURS = (1.0, 0.27, 0.13)
# At most, to either side: degrees, part of the size, pixels.
_DEGREES, _SCALE, _SHIFT = 10.0, 0.1, 12.0


@dataclass(frozen=True)
class Unit:
    """A channel of a layer, counted from 0; written "relu3_1:42"."""

    layer: str
    channel: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.channel}"

    @property
    def convolution(self) -> str:
        """The layer's map before its ReLU."""
        return f"conv{self.layer[4:]}"

    @classmethod
    def parse(cls, text: str, configuration: str) -> Unit:
        """The unit of a VGG configuration that a text names.

        Raises:
            BadRequest: it names no layer of convolutions or of their ReLUs, or no channel of it.
        """
        layer, colon, number = text.strip().partition(":")
        table = {row.name: row for row in vgg.layers(configuration) if row.kind in ("conv", "relu")}
        if layer not in table:
            hint = (
                did_you_mean(layer, table)
                or f"The layers are {', '.join(name for name in table if name[0] == 'r')}."
            )
            raise UnknownName(
                f"There is no layer {layer!r} whose channels could be looked at.", hint
            )
        last = table[layer].channels - 1
        if not colon or not number.isdecimal() or int(number) > last:
            given = f"no channel {number!r}" if colon else "many channels"
            raise BadRequest(
                f"{layer} has {given}.",
                f"{layer} has channels 0-{last}: write such as {layer}:{last // 2}.",
            )
        return cls(layer, int(number))


def maximise(
    network: Network, unit: Unit, size: Size, steps: int, seed: int
) -> Iterator[tuple[float, Tensor]]:
    """Climb: yields (the mean of the unit's map as the step saw it, the picture after the step),
    ``steps`` times.

    The network is cut at the unit's convolution or deeper; pictures are (1, 3, H, W), sRGB-encoded,
    within 0..1. The same seed gives the same picture.
    """
    device = network.input_weight.device
    spectrum, generator = Spectrum(size, device=device), torch.Generator().manual_seed(seed)
    gains = _gains(spectrum).to(device)
    waves = (torch.randn((1, 3, *size), generator=generator) * _NOISE).to(device)
    optimiser = torch.optim.Adam([waves], lr=_RATE)
    cut = network.giving({unit.convolution})
    objective = Activation(unit.convolution, cut.layer(unit.convolution).stride, unit.channel)

    def pixels() -> Tensor:
        return torch.sigmoid(spectrum.picture(spectrum.scale(waves.clone(), gains)))

    picture = pixels()
    for _ in range(steps):
        view = _view(size, generator).to(device)

        def encode(seen: Tensor, view: Tensor = view) -> Mapping[str, Tensor]:
            return cut(_seen(seen, view))

        value, slope = value_and_gradient(picture, encode, [objective], Grid(size))
        # The cosines are orthonormal: the way back through them is the way there.
        waves.grad = spectrum.scale(spectrum.waves(slope * picture * (1 - picture)), gains)
        optimiser.step()
        picture = pixels()
        yield -value.total, picture


def _gains(spectrum: Spectrum) -> Tensor:
    """(3, shells): how far each axis of colour and shell of waves climbs; 1/f, as the amplitudes of
    photos are.
    """
    # Half waves across the picture.
    middles = [max(2.0, 0.75 * 2.0**shell) for shell in range(len(spectrum.shells))]
    return torch.tensor(_COLOURS)[:, None] * spectrum.size.long_side / 2 / torch.tensor(middles)


def _view(size: Size, generator: torch.Generator) -> Tensor:
    """A small turn, scaling and shift by chance, (1, 2, 3), in the coordinates of ``affine_grid``."""
    turn, scale, down, right = (torch.rand(4, generator=generator) * 2 - 1).tolist()
    angle, factor = math.radians(_DEGREES * turn), 1 + _SCALE * scale
    cosine, sine, ratio = (
        math.cos(angle) * factor,
        math.sin(angle) * factor,
        size.height / size.width,
    )
    across, along = 2 * _SHIFT * right / size.width, 2 * _SHIFT * down / size.height
    return torch.tensor([[[cosine, -sine * ratio, across], [sine / ratio, cosine, along]]])


def _seen(picture: Tensor, view: Tensor) -> Tensor:
    grid = functional.affine_grid(view, list(picture.shape), align_corners=False)
    return functional.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
