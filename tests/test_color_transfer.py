"""Colors of one picture brought nearer to another's, against CIELAB written out."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.images import color_transfer

Array = npt.NDArray[np.float64]

# IEC 61966-2-1, and D65 for the 2 degree observer
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def to_lab(pixels: Array) -> Array:
    """sRGB to CIELAB, from the standards."""
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    ratio = linear @ TO_XYZ.T / WHITE
    x, y, z = np.moveaxis(
        np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def to_rgb(lab: Array) -> Array:
    """CIELAB to sRGB, cut to what can be shown."""
    y = (lab[..., 0] + 16) / 116
    each = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(each > 6 / 29, each**3, 3 * (6 / 29) ** 2 * (each - 4 / 29)) * WHITE
    linear = np.clip(xyz @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return np.clip(
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055), 0, 1
    )


def picture(
    seed: int, height: int = 30, width: int = 41, low: float = 0.3, high: float = 0.7
) -> color_transfer.Pixels:
    grain = np.random.default_rng(seed)
    edges = grain.uniform(low, high, (2, 3))
    mixed = (
        edges[0]
        + (edges[1] - edges[0]) * grain.random((height, width, 1))
        + grain.normal(0, 0.03, (height, width, 3))
    )
    return mixed.clip(0, 1).astype(np.float32)


def moments(pixels: Array) -> tuple[Array, Array]:
    lab = to_lab(pixels)
    return lab.mean((0, 1)), lab.std((0, 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mean_and_deviation_are_those_of_cielab(seed: int):
    pixels = picture(seed)
    mean, deviation = moments(pixels.astype(np.float64))
    found = color_transfer.color_statistics(pixels)
    np.testing.assert_allclose(found.mean, mean, atol=0.01)
    np.testing.assert_allclose(found.deviation, deviation, atol=0.01)


def test_bands_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    pixels, wanted = picture(3), color_transfer.color_statistics(picture(4))
    whole, painted = (
        color_transfer.color_statistics(pixels),
        color_transfer.transfer(pixels, wanted, 0.6),
    )
    for band in (1, 100, 41 * 30 - 1):
        monkeypatch.setattr(color_transfer, "_BAND", band)
        parts = color_transfer.color_statistics(pixels)
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-9)
        np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-7)
        np.testing.assert_allclose(color_transfer.transfer(pixels, wanted, 0.6), painted, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_colors_go_their_share_of_the_way(share: float):
    """Independently: lab * (1 - share) + ((lab - mean) / deviation * wanted deviation + wanted
    mean) * share.
    """
    pixels, example = picture(5), picture(6)
    exact = pixels.astype(np.float64)
    lab, (mean, deviation) = to_lab(exact), moments(exact)
    aim, aim_deviation = moments(example.astype(np.float64))
    expected = to_rgb(lab * (1 - share) + ((lab - mean) / deviation * aim_deviation + aim) * share)
    kept = pixels.copy()
    found = color_transfer.transfer(pixels, color_transfer.color_statistics(example), share)
    assert found.dtype == np.float32 and found.shape == pixels.shape
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_array_equal(pixels, kept)
    if share == 1:
        np.testing.assert_allclose(
            color_transfer.color_statistics(found).mean,
            color_transfer.color_statistics(example).mean,
            atol=0.2,
        )


def test_a_gray_photo_takes_the_mean_color_and_is_not_blown_up():
    gray = np.repeat(picture(7)[..., :1], 3, axis=2)
    example = picture(8)
    found = color_transfer.color_statistics(
        color_transfer.transfer(gray, color_transfer.color_statistics(example), 1.0)
    )
    np.testing.assert_allclose(found.mean, color_transfer.color_statistics(example).mean, atol=0.6)
    assert (found.deviation[1:] < 1).all()  # its hues are as alike as they were


def test_several_paintings_have_their_weighted_mean():
    spreads = [color_transfer.color_statistics(picture(seed)) for seed in (9, 10)]
    found = color_transfer.mixture(spreads, [3.0, 1.0])
    np.testing.assert_allclose(found.mean, 0.75 * spreads[0].mean + 0.25 * spreads[1].mean)
    np.testing.assert_allclose(
        found.deviation, 0.75 * spreads[0].deviation + 0.25 * spreads[1].deviation
    )


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1))
def test_whatever_the_colors_a_picture_comes_back_and_nothing_is_complained_of(
    seed: int, other: int, share: float
):
    pixels, example = picture(seed, 9, 7, 0, 1), picture(other, 5, 8, 0, 1)
    example[0, 0], pixels[0, 0] = [0, 0, 1], [1, 1, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = color_transfer.transfer(pixels, color_transfer.color_statistics(example), share)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
