"""Color by numbers: primaries, white points and transfer curves, and the conversion from them to
sRGB.

It knows ITU-T H.273 (the code points that PNG's cICP, HEIF's nclx and others share) and the
formulas behind them. ICC profiles are in ``profiles``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from impasto.images.pixels import Pixels

Point = tuple[float, float]
Curve = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Encoded values to linear light, both 0..1."""

D65: Point = (0.3127, 0.3290)
D50: Point = (0.3457, 0.3585)
BT709: tuple[Point, Point, Point] = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
ADOBE: tuple[Point, Point, Point] = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_C: Point = (0.310, 0.316)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

# H.273 table 2 (ColorPrimaries): name, red, green and blue, white.
_PRIMARIES: dict[int, tuple[str, tuple[Point, Point, Point], Point]] = {
    1: ("BT.709", BT709, D65),
    4: ("BT.470 M", ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), _C),
    5: ("BT.601 625", ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: ("BT.601 525", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: ("SMPTE 240M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    8: ("generic film", ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049)), _C),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    10: ("CIE XYZ", ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)), (1 / 3, 1 / 3)),
    11: ("DCI-P3", _P3, (0.314, 0.351)),
    12: ("Display P3", _P3, D65),
    22: ("EBU 3213", ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), D65),
}
_STEPS = 1 << 19
_UNCONVERTED = {16: "PQ", 18: "HLG"}  # scene and display brightness that sRGB has no place for


def gamma(exponent: float) -> Curve:
    """The curve of a pure power."""
    return lambda values: np.power(values, exponent)


def srgb_to_linear(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, np.power((values + 0.055) / 1.055, 2.4))


def linear_to_srgb(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """IEC 61966-2-1, the other way; 0..1."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * np.power(values, 1 / 2.4) - 0.055)


def _bt709(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    alpha, beta = 1.09929682680944, 0.018053968510807
    return np.where(
        values < 4.5 * beta, values / 4.5, np.power((values + alpha - 1) / alpha, 1 / 0.45)
    )


def _smpte240(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(values < 4 * 0.0228, values / 4, np.power((values + 0.1115) / 1.1115, 1 / 0.45))


def _logarithm(decades: float) -> Curve:
    return lambda values: np.where(values <= 0, 0.0, np.power(10.0, decades * (values - 1)))


def _st428(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.minimum(np.power(values, 2.6) * 52.37 / 48, 1)


def _same(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values


# H.273 table 3 (TransferCharacteristics); 11 and 12 differ from 1 outside 0..1 only.
_CURVES: dict[int, tuple[str, Curve]] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), ("BT.709 curve", _bt709)),
    4: ("gamma 2.2", gamma(2.2)),
    5: ("gamma 2.8", gamma(2.8)),
    7: ("SMPTE 240M curve", _smpte240),
    8: ("linear", _same),
    9: ("logarithm of 100:1", _logarithm(2)),
    10: ("logarithm of 316:1", _logarithm(2.5)),
    13: ("sRGB curve", srgb_to_linear),
    17: ("SMPTE 428 curve", _st428),
}


@dataclass(frozen=True)
class Colorimetry:
    """What the numbers of a picture mean: three curves, three primaries and a white point."""

    name: str
    curves: tuple[Curve, Curve, Curve] = (srgb_to_linear, srgb_to_linear, srgb_to_linear)
    primaries: tuple[Point, Point, Point] = BT709
    white: Point = D65
    narrow: bool = False
    """Whether black is at 16/255 and white at 235/255, as in video."""

    def to_srgb(self, encoded: Pixels) -> Pixels:
        """(N, M, 3) or gray (N, M, 1) encoded values, 0..1, as sRGB of the same shape; clipped to
        the gamut.
        """
        return self.of_linear(self.linear(encoded))

    def linear(self, encoded: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Encoded values, 0..1, as linear light in these primaries. Gray (one channel) follows the
        green curve.
        """
        values = encoded.astype(np.float64)
        if self.narrow:
            values = np.clip((values * 255 - 16) / 219, 0, 1)
        gray = values.shape[-1] == 1
        curves = (self.curves[1],) if gray else self.curves
        planes = [curve(values[..., channel]) for channel, curve in enumerate(curves)]
        return np.stack(planes, axis=-1).astype(np.float32)

    def of_linear(self, linear: npt.NDArray[np.float32]) -> Pixels:
        """Linear light in these primaries as sRGB, by relative colorimetry (white stays white)."""
        if linear.shape[-1] == 3 and self._moves:
            linear = linear @ self.matrix.T.astype(np.float32)
        encoded: Pixels = _encoded()[
            np.rint(np.clip(linear, 0, 1) * np.float32(_STEPS)).astype(np.int32)
        ]
        return encoded

    @property
    def _moves(self) -> bool:
        return (self.primaries, self.white) != (BT709, D65)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """3 x 3, from linear light in these primaries to linear sRGB, white adapted by Bradford's
        method.
        """
        adapted = _adaptation(self.white, D65) @ to_xyz(self.primaries, self.white)
        return np.linalg.inv(to_xyz(BT709, D65)) @ adapted

    @property
    def is_srgb(self) -> bool:
        """Whether it moves no color of a 9 x 9 x 9 lattice, nor any gray, by more than one 8-bit
        step.
        """
        ramp = np.linspace(0, 1, 9, dtype=np.float32)
        lattice = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"), axis=-1).reshape(1, -1, 3)
        grays = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[None, :, None], 3, axis=2)
        return all(
            bool(np.abs(self.to_srgb(each) - each).max() <= 1.01 / 255) for each in (lattice, grays)
        )


@cache
def _encoded() -> Pixels:
    """sRGB of linear light at even steps: a tenth of the time of powers, and within 2e-5 of them."""
    table: Pixels = linear_to_srgb(np.linspace(0, 1, _STEPS + 1)).astype(np.float32)
    return table


@cache
def to_xyz(primaries: tuple[Point, Point, Point], white: Point) -> npt.NDArray[np.float64]:
    """The 3 x 3 matrix from linear RGB of these primaries to XYZ. ValueError if they span no
    colors.
    """
    columns = np.array([(x, y, 1 - x - y) for x, y in primaries]).T
    if white[1] <= 0 or abs(np.linalg.det(columns)) < 1e-6:
        raise ValueError("its primaries are no colors")
    light = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    return columns * np.linalg.solve(columns, light)


def _adaptation(white: Point, target: Point) -> npt.NDArray[np.float64]:
    source, goal = (_BRADFORD @ [x / y, 1, (1 - x - y) / y] for x, y in (white, target))
    return np.linalg.inv(_BRADFORD) @ np.diag(goal / source) @ _BRADFORD


def of_lab(lab: npt.NDArray[Any], white: Point) -> Pixels:
    """CIE L*a*b* (H, W, 3) relative to a white point as sRGB pixels, clipped to the gamut (CIE 15)."""
    height = (lab[..., 0].astype(np.float64) + 16) / 116
    curve = np.stack([height + lab[..., 1] / 500, height, height - lab[..., 2] / 200], axis=-1)
    relative = np.where(curve > 6 / 29, curve**3, (curve - 4 / 29) * 3 * (6 / 29) ** 2)
    light = relative * [white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]]
    linear = light @ (np.linalg.inv(to_xyz(BT709, D65)) @ _adaptation(white, D65)).T
    return linear_to_srgb(np.clip(linear, 0, 1)).astype(np.float32)


ADOBE_RGB = Colorimetry("Adobe RGB (1998)", (gamma(563 / 256),) * 3, ADOBE)


def of_h273(primaries: int, transfer: int, *, full: bool = True) -> tuple[Colorimetry | None, str]:
    """The colors that H.273's code points mean, and a note on what cannot be converted ("" if
    nothing).

    Code 2 (unspecified) of either is taken as sRGB's. None where there is nothing to convert.
    """
    if transfer in _UNCONVERTED:
        return (
            None,
            f"its brightness is coded as {_UNCONVERTED[transfer]} (HDR), which is not converted",
        )
    name, triangle, white = _PRIMARIES.get(1 if primaries == 2 else primaries, ("", BT709, D65))
    curve_name, curve = _CURVES.get(13 if transfer == 2 else transfer, ("", srgb_to_linear))
    if not (name and curve_name):
        return (
            None,
            f"its color code points ({primaries}, {transfer}) are not known and were ignored",
        )
    label = name if transfer in (2, 13) else f"{name} with {curve_name}"
    found = Colorimetry(label, (curve,) * 3, triangle, white, not full)
    return (None if found.is_srgb else found), ""


def of_gamma(
    exponent: float | None, points: tuple[Point, Point, Point, Point] | None
) -> Colorimetry | None:
    """From the exponent of decoding and the points white, red, green, blue, either of which may be
    missing.

    None if that is sRGB, or no colors at all. An exponent of 2.2 with sRGB's primaries, or with
    none, is sRGB: the PNG specification gives it as the value that stands for the sRGB curve.
    """
    white, *triangle = points or (D65, *BT709)
    primaries = (triangle[0], triangle[1], triangle[2])
    if np.allclose([white, *primaries], [D65, *BT709], atol=0.002):
        white, primaries = D65, BT709
    standard = exponent is None or (abs(exponent - 2.2) < 0.005 and primaries == BT709)
    curve = srgb_to_linear if standard or exponent is None else gamma(exponent)
    words = ([] if standard else [f"gamma {exponent:.3g}"]) + (
        [] if primaries == BT709 else ["primaries of its own"]
    )
    found = Colorimetry(" and ".join(words) or "sRGB", (curve,) * 3, primaries, white)
    try:
        return None if found.is_srgb else found
    except (ValueError, np.linalg.LinAlgError):
        return None


def of_table(table: npt.NDArray[Any]) -> Curve:
    """The curve through (N,) 16-bit values at equal steps, as TIFF's TransferFunction has it."""
    values = table.astype(np.float64) / 65535
    return lambda encoded: np.interp(encoded, np.linspace(0, 1, len(values)), values)
