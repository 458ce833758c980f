"""Find the picture that activates a unit of the network most, starting from faint noise.

Source: Olah, Mordvintsev, Schubert, "Feature Visualization" (2017). Gradient ascent on pixels ends
in a fine pattern that only the network sees. So the parameters are DCT coefficients of decorrelated
color channels: low frequencies get larger steps than high ones, and luminance larger steps than
color. At every step the picture is randomly shifted, rotated and scaled, so that no pattern that
depends on exact pixels survives. L-BFGS needs the same objective at every step, so Adam is used.
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
from impasto.optimize.dct import DCT
from impasto.optimize.tiling import value_and_gradient

# Adam's learning rate and the standard deviation of the initial noise, as in the paper's own code.
_RATE, _NOISE = 0.05, 0.01
# Standard deviations of photos along the color axes of ``Spectrum``, relative to the first, which
# is luminance.
_COLOR_SCALES = (1.0, 0.27, 0.13)
# The largest random transformation in either direction.
_DEGREES, _SCALE, _SHIFT_PX = 10.0, 0.1, 12.0


@dataclass(frozen=True)
class Unit:
    """A channel of a layer, counted from 0; written "relu3_1:42"."""

    layer: str
    channel: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.channel}"

    @property
    def convolution(self) -> str:
        """The layer before its ReLU."""
        return f"conv{self.layer[4:]}"

    @classmethod
    def parse(cls, text: str, configuration: str) -> Unit:
        """The unit of a VGG configuration ("D" or "E") that a text names.

        Raises:
            BadRequest: the text names no convolution or ReLU layer, or no channel of it.
        """
        layer, colon, number = text.strip().partition(":")
        table = {row.name: row for row in vgg.layers(configuration) if row.kind in ("conv", "relu")}
        if layer not in table:
            names = ", ".join(name for name in table if name.startswith("relu"))
            raise UnknownName(
                f"There is no layer {layer!r} whose channels could be shown.",
                did_you_mean(layer, table) or f"The layers are {names}.",
            )
        last = table[layer].channels - 1
        if not colon or not number.isdecimal() or int(number) > last:
            problem = f"no channel {number!r}" if colon else "many channels"
            raise BadRequest(
                f"{layer} has {problem}.",
                f"{layer} has channels 0-{last}: write such as {layer}:{last // 2}.",
            )
        return cls(layer, int(number))


def maximize(
    network: Network, unit: Unit, size: Size, steps: int, seed: int
) -> Iterator[tuple[float, Tensor]]:
    """Gradient ascent on a unit's mean activation, ``steps`` times.

    Yields the mean activation of the transformed picture before the step, and the picture after it.
    Pictures are (1, 3, H, W), sRGB-encoded, 0..1. The network must reach the unit's convolution.
    The same seed gives the same pictures.
    """
    device = network.input_weight.device
    dct, generator = DCT(size, device=device), torch.Generator().manual_seed(seed)
    scales = _frequency_scales(dct).to(device)
    coefficients = (torch.randn((1, 3, *size), generator=generator) * _NOISE).to(device)
    optimizer = torch.optim.Adam([coefficients], lr=_RATE)
    cut = network.with_outputs({unit.convolution})
    objective = Activation(unit.convolution, cut.layer(unit.convolution).stride, unit.channel)

    def pixels() -> Tensor:
        return torch.sigmoid(dct.picture(dct.scale(coefficients.clone(), scales)))

    picture = pixels()
    for _ in range(steps):
        transform = _random_transform(size, generator).to(device)

        def encode(picture: Tensor, transform: Tensor = transform) -> Mapping[str, Tensor]:
            return cut(_transformed(picture, transform))

        value, gradient = value_and_gradient(picture, encode, [objective], Grid(size))
        # The DCT is orthonormal, so its transpose, which the backward pass needs, is its inverse.
        in_logits = gradient * picture * (1 - picture)
        coefficients.grad = dct.scale(dct.coefficients(in_logits), scales)
        optimizer.step()
        picture = pixels()
        yield -value.total, picture


def _frequency_scales(dct: DCT) -> Tensor:
    """(3, bands): the scale of each color axis and octave band; 1/f, as in spectra of photos."""
    # In half waves across the picture.
    centers = [max(2.0, 0.75 * 2.0**band) for band in range(len(dct.bands))]
    colors = torch.tensor(_COLOR_SCALES)[:, None]
    return colors * dct.size.long_side / 2 / torch.tensor(centers)


def _random_transform(size: Size, generator: torch.Generator) -> Tensor:
    """A small random rotation, scaling and shift: (1, 2, 3), in coordinates of ``affine_grid``."""
    turn, scale, down, right = (torch.rand(4, generator=generator) * 2 - 1).tolist()
    angle, factor = math.radians(_DEGREES * turn), 1 + _SCALE * scale
    cosine, sine = math.cos(angle) * factor, math.sin(angle) * factor
    ratio = size.height / size.width
    x, y = 2 * _SHIFT_PX * right / size.width, 2 * _SHIFT_PX * down / size.height
    return torch.tensor([[[cosine, -sine * ratio, x], [sine / ratio, cosine, y]]])


def _transformed(picture: Tensor, transform: Tensor) -> Tensor:
    grid = functional.affine_grid(transform, list(picture.shape), align_corners=False)
    return functional.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
