"""Convert colors given by primaries, white points and transfer curves to sRGB.

Code points are those of ITU-T H.273, which PNG's cICP and HEIF's nclx use too. ICC profiles are in
``profiles``.
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
"""From encoded values to linear light, both 0..1."""

D65: Point = (0.3127, 0.3290)
D50: Point = (0.3457, 0.3585)
BT709: tuple[Point, Point, Point] = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
ADOBE: tuple[Point, Point, Point] = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_ILLUMINANT_C: Point = (0.310, 0.316)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

# H.273 table 2 (ColourPrimaries): name, red, green and blue, white.
_PRIMARIES: dict[int, tuple[str, tuple[Point, Point, Point], Point]] = {
    1: ("BT.709", BT709, D65),
    4: ("BT.470 M", ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08)), _ILLUMINANT_C),
    5: ("BT.601 625", ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), D65),
    6: ("BT.601 525", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    7: ("SMPTE 240M", ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), D65),
    8: ("generic film", ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049)), _ILLUMINANT_C),
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65),
    10: ("CIE XYZ", ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)), (1 / 3, 1 / 3)),
    11: ("DCI-P3", _P3, (0.314, 0.351)),
    12: ("Display P3", _P3, D65),
    22: ("EBU 3213", ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)), D65),
}
_TABLE_STEPS = 1 << 19
_UNCONVERTED = {16: "PQ", 18: "HLG"}  # high dynamic range, which does not fit into sRGB


def gamma(exponent: float) -> Curve:
    """The curve of a power function."""
    return lambda values: np.power(values, exponent)


def srgb_to_linear(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sRGB-encoded values, 0..1, as linear light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, np.power((values + 0.055) / 1.055, 2.4))


def linear_to_srgb(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Linear light, 0..1, as sRGB-encoded values (IEC 61966-2-1)."""
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


def _identity(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values


# H.273 table 3 (TransferCharacteristics); 11 and 12 differ from 1 outside 0..1 only.
_CURVES: dict[int, tuple[str, Curve]] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), ("BT.709 curve", _bt709)),
    4: ("gamma 2.2", gamma(2.2)),
    5: ("gamma 2.8", gamma(2.8)),
    7: ("SMPTE 240M curve", _smpte240),
    8: ("linear", _identity),
    9: ("logarithm of 100:1", _logarithm(2)),
    10: ("logarithm of 316:1", _logarithm(2.5)),
    13: ("sRGB curve", srgb_to_linear),
    17: ("SMPTE 428 curve", _st428),
}


@dataclass(frozen=True)
class Colorimetry:
    """The meaning of a picture's RGB values: three curves, three primaries and a white point."""

    name: str
    curves: tuple[Curve, Curve, Curve] = (srgb_to_linear, srgb_to_linear, srgb_to_linear)
    primaries: tuple[Point, Point, Point] = BT709
    white: Point = D65
    narrow: bool = False
    """Whether black is 16/255 and white 235/255, as in video."""

    def to_srgb(self, encoded: Pixels) -> Pixels:
        """Encoded values as sRGB of the same shape, clipped to its gamut.

        ``encoded``: (N, M, 3), or (N, M, 1) for gray; 0..1.
        """
        return self.from_linear(self.linear(encoded))

    def linear(self, encoded: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Encoded values, 0..1, as linear light in these primaries.

        Gray (one channel) uses the green curve.
        """
        values = encoded.astype(np.float64)
        if self.narrow:
            values = np.clip((values * 255 - 16) / 219, 0, 1)
        gray = values.shape[-1] == 1
        curves = (self.curves[1],) if gray else self.curves
        planes = [curve(values[..., channel]) for channel, curve in enumerate(curves)]
        return np.stack(planes, axis=-1).astype(np.float32)

    def from_linear(self, linear: npt.NDArray[np.float32]) -> Pixels:
        """Linear light in these primaries as sRGB, by relative colorimetry (white stays white)."""
        if linear.shape[-1] == 3 and self._differs_from_srgb:
            linear = linear @ self.matrix.T.astype(np.float32)
        encoded: Pixels = _srgb_table()[
            np.rint(np.clip(linear, 0, 1) * np.float32(_TABLE_STEPS)).astype(np.int32)
        ]
        return encoded

    @property
    def _differs_from_srgb(self) -> bool:
        return (self.primaries, self.white) != (BT709, D65)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """The 3 x 3 matrix from linear light in these primaries to linear sRGB.

        The white point is adapted by the Bradford method.
        """
        adapted = _adaptation(self.white, D65) @ to_xyz(self.primaries, self.white)
        return np.linalg.inv(to_xyz(BT709, D65)) @ adapted

    @property
    def is_srgb(self) -> bool:
        """Whether the conversion to sRGB changes no value by more than one 8-bit step.

        It is tested for a 9 x 9 x 9 lattice of colors and for 256 grays.
        """
        ramp = np.linspace(0, 1, 9, dtype=np.float32)
        lattice = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"), axis=-1).reshape(1, -1, 3)
        grays = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[None, :, None], 3, axis=2)
        return all(
            bool(np.abs(self.to_srgb(each) - each).max() <= 1.01 / 255) for each in (lattice, grays)
        )


@cache
def _srgb_table() -> Pixels:
    """sRGB-encoded values of linear light at equal steps.

    A table takes a tenth of the time of computing powers, with errors below 2e-5.
    """
    table: Pixels = linear_to_srgb(np.linspace(0, 1, _TABLE_STEPS + 1)).astype(np.float32)
    return table


@cache
def to_xyz(primaries: tuple[Point, Point, Point], white: Point) -> npt.NDArray[np.float64]:
    """The 3 x 3 matrix from linear RGB of these primaries to XYZ.

    Raises ValueError if the primaries are on one line.
    """
    columns = np.array([(x, y, 1 - x - y) for x, y in primaries]).T
    if white[1] <= 0 or abs(np.linalg.det(columns)) < 1e-6:
        raise ValueError("its primaries are invalid")
    light = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    return columns * np.linalg.solve(columns, light)


def _adaptation(white: Point, target: Point) -> npt.NDArray[np.float64]:
    source, goal = (_BRADFORD @ [x / y, 1, (1 - x - y) / y] for x, y in (white, target))
    return np.linalg.inv(_BRADFORD) @ np.diag(goal / source) @ _BRADFORD


def lab_to_srgb(lab: npt.NDArray[Any], white: Point) -> Pixels:
    """CIE L*a*b* (H, W, 3) relative to a white point as sRGB pixels, clipped to the gamut.

    Source: CIE 15.
    """
    lightness = (lab[..., 0].astype(np.float64) + 16) / 116
    curve = np.stack(
        [lightness + lab[..., 1] / 500, lightness, lightness - lab[..., 2] / 200], axis=-1
    )
    relative = np.where(curve > 6 / 29, curve**3, (curve - 4 / 29) * 3 * (6 / 29) ** 2)
    light = relative * [white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]]
    linear = light @ (np.linalg.inv(to_xyz(BT709, D65)) @ _adaptation(white, D65)).T
    return linear_to_srgb(np.clip(linear, 0, 1)).astype(np.float32)


ADOBE_RGB = Colorimetry("Adobe RGB (1998)", (gamma(563 / 256),) * 3, ADOBE)


def from_h273(
    primaries: int, transfer: int, *, full: bool = True
) -> tuple[Colorimetry | None, str]:
    """The colorimetry of H.273's code points, and a note on what cannot be converted, or "".

    Code 2 (unspecified) is taken as sRGB's. None: nothing has to be converted.
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
    result = Colorimetry(label, (curve,) * 3, triangle, white, not full)
    return (None if result.is_srgb else result), ""


def from_gamma(
    exponent: float | None, points: tuple[Point, Point, Point, Point] | None
) -> Colorimetry | None:
    """The colorimetry of a decoding exponent and of the points white, red, green and blue.

    Either may be missing. None: it is sRGB, or invalid. An exponent of 2.2 with sRGB's primaries,
    or without primaries, is sRGB: the PNG specification uses it for the sRGB curve.
    """
    white, *triangle = points or (D65, *BT709)
    primaries = (triangle[0], triangle[1], triangle[2])
    if np.allclose([white, *primaries], [D65, *BT709], atol=0.002):
        white, primaries = D65, BT709
    has_srgb_curve = exponent is None or (abs(exponent - 2.2) < 0.005 and primaries == BT709)
    curve = srgb_to_linear if has_srgb_curve or exponent is None else gamma(exponent)
    parts = ([] if has_srgb_curve else [f"gamma {exponent:.3g}"]) + (
        [] if primaries == BT709 else ["custom primaries"]
    )
    result = Colorimetry(" and ".join(parts) or "sRGB", (curve,) * 3, primaries, white)
    try:
        return None if result.is_srgb else result
    except (ValueError, np.linalg.LinAlgError):
        return None


def curve_of_table(table: npt.NDArray[Any]) -> Curve:
    """The curve through (N,) 16-bit values at equal steps, as in TIFF's TransferFunction."""
    values = table.astype(np.float64) / 65535
    return lambda encoded: np.interp(encoded, np.linspace(0, 1, len(values)), values)
