"""Every objective is its textbook formula, and its gradient the closed form where the paper gives
one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from impasto.geometry import Region, Size, Tile
from impasto.objectives import base, moments, style
from impasto.objectives.base import Objective, TileContext
from impasto.objectives.bounds import Bounds
from impasto.objectives.content import Content
from impasto.objectives.moments import (
    Moments,
    mixture_moments,
    moment_sums,
    moments_from_sums,
    scaled_moments,
    sum_and_outer,
)
from impasto.objectives.smooth import MEASURES, Smooth
from impasto.objectives.style import STATISTICS, Style
from impasto.recipe.choices import ContentScaling
from impasto.recipe.options import recipe_options
from impasto.storage.tensors import InMemoryTensor, StoredTensor
from tests.support.loss_setup import content_term

SCALINGS: tuple[ContentScaling, ...] = get_args(ContentScaling)
Array = NDArray[np.float64]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def value(objective: Objective, features: Mapping[str, Tensor]) -> Tensor:
    """The score of whole maps of stride 1."""
    size = Size(*next(iter(features.values())).shape[-2:])
    return torch.stack(
        list(objective.score(objective.measure(features, TileContext.whole(size))).values())
    ).sum()


def gradient(objective: Objective, features: Mapping[str, Tensor], leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value(objective, features), leaf)[0]


def held(maps: Mapping[str, Tensor]) -> dict[str, dict[Region, StoredTensor]]:
    """Whole maps of stride 1, as the targets of one tile."""
    return {
        name: {Region(0, 0, *map.shape[-2:]): InMemoryTensor(map)} for name, map in maps.items()
    }


def moments_of(features: Tensor) -> Moments:
    return moments_from_sums(
        moment_sums({"l": features}, {"l": 1}, TileContext.whole(Size(*features.shape[-2:])))
    )["l"]


def matrix(features: Tensor) -> Tensor:
    """(1, N, h, w) -> F (N, M), as the papers write it."""
    return features.detach()[0].flatten(1)


def test_the_recipe_offers_what_there_is():
    assert set(SCALINGS) == set(recipe_options()["content-scaling"].choices)
    for name in STATISTICS:
        assert name in recipe_options()["style-statistics"].help


# ---- content -------------------------------------------------------------------------------------


def test_gatys_content_loss_and_gradient_to_the_letter():
    before = rand(1, 5, 4, 7).requires_grad_()  # what the ReLU is given
    target = rand(1, 5, 4, 7, seed=1).relu()
    f = before.relu()
    objective = Content(held({"l": target}), {"l": 1}, {"l": 1.0}, "gatys", 1.0)
    difference = matrix(f) - matrix(target)
    # Eq. 1.
    assert value(objective, {"l": f}).item() == pytest.approx(
        0.5 * (difference**2).sum().item(), rel=1e-13
    )
    expected = torch.where(matrix(f) > 0, difference, 0)  # eq. 2
    found = gradient(objective, {"l": f}, before)
    assert torch.allclose(matrix(found), expected, rtol=1e-13, atol=0)
    assert (expected == 0).any() and (expected != 0).any()


@pytest.mark.parametrize(
    ("scaling", "divisor"), [("sum", 1.0), ("gatys", 2.0), ("root", 140**0.5), ("mean", 140.0)]
)
def test_plain_scalings_divide_the_sum(scaling: ContentScaling, divisor: float):
    f, p = rand(1, 5, 4, 7), rand(1, 5, 4, 7, seed=1)
    objective = Content(held({"l": p}), {"l": 1}, {"l": 1.0}, scaling, 1.0)
    assert value(objective, {"l": f}).item() == pytest.approx(
        ((f - p) ** 2).sum().item() / divisor, rel=1e-13
    )


def test_mean_content_is_the_mean_squared_error():
    f, p = rand(1, 5, 4, 7), rand(1, 5, 4, 7, seed=1)
    objective = Content(held({"l": p}), {"l": 1}, {"l": 1.0}, "mean", 1.0)
    assert value(objective, {"l": f}).item() == pytest.approx(
        torch.nn.functional.mse_loss(f, p).item(), rel=1e-13
    )


def test_relative_content_is_0_for_the_photo_and_1_for_what_knows_nothing_of_it():
    p = rand(1, 5, 4, 7) + 3
    objective = Content(held({"l": p}), {"l": 1}, {"l": 1.0}, "relative", 1.0)
    assert value(objective, {"l": p}).item() == 0
    ignorant = p.mean((-2, -1), keepdim=True).expand_as(p)
    assert value(objective, {"l": ignorant}).item() == pytest.approx(1, rel=1e-13)
    f = rand(1, 5, 4, 7, seed=1)
    spread = sum(((channel - channel.mean()) ** 2).sum() for channel in p[0])
    assert value(objective, {"l": f}).item() == pytest.approx(
        (((f - p) ** 2).sum() / spread).item(), rel=1e-13
    )


@given(st.floats(1e-3, 1e3))
def test_relative_content_does_not_feel_a_common_factor(factor: float):
    f, p = rand(1, 3, 4, 5), rand(1, 3, 4, 5, seed=1)
    plain = Content(held({"l": p}), {"l": 1}, {"l": 1.0}, "relative", 1.0)
    scaled = Content(held({"l": p * factor}), {"l": 1}, {"l": 1.0}, "relative", 1.0)
    assert value(scaled, {"l": f * factor}).item() == pytest.approx(
        value(plain, {"l": f}).item(), rel=1e-12
    )


def test_relative_content_of_a_flat_photo_is_a_number():
    for target in (torch.full((1, 2, 3, 3), 0.5), torch.zeros(1, 2, 3, 3)):
        objective = Content(held({"l": target}), {"l": 1}, {"l": 1.0}, "relative", 1.0)
        assert torch.isfinite(value(objective, {"l": torch.rand(1, 2, 3, 3)}))


@pytest.mark.parametrize("level", [0.1, 1e-3, 1e4])
def test_the_spread_of_a_flat_photo_is_not_what_rounding_makes_of_it(level: float):
    p, f = torch.full((1, 2, 30, 50), level, dtype=torch.float64), rand(1, 2, 30, 50)
    objective = Content(held({"l": p}), {"l": 1}, {"l": 1.0}, "relative", 1.0)
    expected = ((f - p) ** 2).sum() / (p**2).sum()
    assert value(objective, {"l": f}).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_targets_in_parts_weigh_what_the_whole_does(scaling: ContentScaling):
    """Also where a tile owns no position of a map, as at the lower border of coarse maps."""
    p, f = rand(1, 3, 6, 5, seed=1) + 2, rand(1, 3, 6, 5)
    rows = ((0, 2), (2, 6), (6, 6))
    split = {
        "l": {
            Region(top, 0, bottom, 5): InMemoryTensor(p[..., top:bottom, :]) for top, bottom in rows
        }
    }
    one, many = (
        content_term(targets, {"l": 1}, {"l": 1.0}, scaling) for targets in (held({"l": p}), split)
    )
    stats: base.Stats = {}
    for region in split["l"]:
        tile = TileContext(Tile(region, region), Size(6, 5))
        stats = base.add(stats, many.measure({"l": f[(..., *region.slices)]}, tile))
    assert sum(many.score(stats).values()).item() == pytest.approx(
        value(one, {"l": f}).item(), rel=1e-13
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_content_layers_are_added_by_weight(scaling: ContentScaling):
    maps = {"a": rand(1, 3, 4, 5), "b": rand(1, 2, 4, 5, seed=1)}
    targets = held(
        {"a": rand(1, 3, 4, 5, seed=2), "b": rand(1, 2, 4, 5, seed=3), "unused": rand(1, 1, 4, 5)}
    )
    strides = {"a": 1, "b": 1, "unused": 1}
    both = content_term(targets, strides, {"a": 0.25, "b": 3.0}, scaling)
    alone = {
        name: value(content_term(targets, strides, {name: 1.0}, scaling), maps).item()
        for name in maps
    }
    assert value(both, maps).item() == pytest.approx(0.25 * alone["a"] + 3 * alone["b"], rel=1e-13)
    assert set(both.layers) == {"a", "b"}


def normalized(features: Tensor) -> Tensor:
    mean = features.mean((2, 3), keepdim=True)
    return (features - mean) / features.std((2, 3), correction=0, keepdim=True)


def test_normalized_content_is_the_mean_squared_difference_of_normalized_maps():
    """As instance normalization without its epsilon; its own share of the variance is 1e-5."""
    f, p = rand(1, 4, 9, 8).requires_grad_(), 2 * rand(1, 4, 9, 8, seed=1) + 3
    objective = content_term(held({"l": p}), {"l": 1}, {"l": 1.0}, "normalized")
    plain = ((normalized(f) - normalized(p)) ** 2).mean()
    assert value(objective, {"l": f}).item() == pytest.approx(plain.item(), rel=1e-3)
    (expected,) = torch.autograd.grad(plain, f)
    found = gradient(objective, {"l": f}, f)
    assert (found - expected).norm() < 1e-3 * expected.norm()


def test_normalized_content_leaves_brightness_and_contrast_of_channels_to_the_style():
    f, p = rand(1, 3, 9, 8), rand(1, 3, 9, 8, seed=1)
    objective = content_term(held({"l": p}), {"l": 1}, {"l": 1.0}, "normalized")
    before = value(objective, {"l": f}).item()
    changed = f * torch.tensor([0.5, 3.0, 1.0])[:, None, None] + 2
    assert value(objective, {"l": changed}).item() == pytest.approx(before, rel=1e-3)
    assert value(objective, {"l": p}).item() == pytest.approx(0, abs=1e-4)
    assert value(objective, {"l": -p}).item() == pytest.approx(4, abs=1e-3)


def test_normalized_content_leaves_out_channels_in_which_the_photo_is_flat():
    p = rand(1, 3, 9, 8)
    p[:, 1] = 0.7
    f = rand(1, 3, 9, 8, seed=1)
    kept = [0, 2]
    objective, alone = (
        content_term(held({"l": maps}), {"l": 1}, {"l": 1.0}, "normalized")
        for maps in (p, p[:, kept])
    )
    found = value(objective, {"l": f}).item()
    assert found == pytest.approx(value(alone, {"l": f[:, kept]}).item(), rel=1e-3)
    # A picture that is flat where the photo is not, and a photo that is flat everywhere.
    flat = torch.full_like(f, 0.3).requires_grad_()
    assert gradient(objective, {"l": flat}, flat).isfinite().all()
    nothing = content_term(held({"l": torch.zeros_like(p)}), {"l": 1}, {"l": 1.0}, "normalized")
    assert value(nothing, {"l": f}).item() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_gradient_of_normalized_content_has_the_type_of_its_map(dtype: torch.dtype):
    f, p = rand(1, 3, 9, 8).to(dtype).requires_grad_(), rand(1, 3, 9, 8, seed=1).to(dtype)
    objective = content_term(held({"l": p}), {"l": 1}, {"l": 1.0}, "normalized")
    found = gradient(objective, {"l": f}, f)
    wide = f.detach().double().requires_grad_()
    exact = content_term(held({"l": p.double()}), {"l": 1}, {"l": 1.0}, "normalized")
    expected = gradient(exact, {"l": wide}, wide)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.01}[dtype]
    assert found.dtype == dtype
    assert (found.double() - expected).norm() < tolerance * expected.norm()


def test_half_precision_maps_are_summed_in_single():
    f, p = torch.full((1, 4, 64, 64), 2.0), torch.full((1, 4, 64, 64), 1.0)
    objective = Content(held({"l": p.bfloat16()}), {"l": 1}, {"l": 1.0}, "mean", 1.0)
    found = value(objective, {"l": f.bfloat16()})
    assert (found.dtype, found.item()) == (torch.float32, 1.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_gradient_of_content_is_that_of_plain_autograd_and_holds_no_copy(dtype: torch.dtype):
    f, p = rand(1, 3, 4, 5).to(dtype).requires_grad_(), rand(1, 3, 4, 5, seed=1).to(dtype)
    stats = Content(held({"l": p}), {"l": 1}, {"l": 1.0}, "sum", 1.0).measure(
        {"l": f}, TileContext.whole(Size(4, 5))
    )
    held_back = [saved.data_ptr() for saved in stats["l"].grad_fn.saved_tensors]  # type: ignore[union-attr]
    assert held_back == [f.data_ptr(), p.data_ptr()]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    (expected,) = torch.autograd.grad(
        ((f.to(wide) - p.to(wide)) ** 2).sum(), f, torch.tensor(3.0, dtype=wide)
    )
    (found,) = torch.autograd.grad(stats["l"], f, torch.tensor(3.0, dtype=wide))
    assert found.dtype == dtype and torch.equal(found, expected)


# ---- moments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("widened", [1, 9, 30, 2**19])
def test_moments_of_half_precision_maps_are_those_of_the_same_map_in_single(
    monkeypatch: pytest.MonkeyPatch, form: torch.memory_format, cut: bool, widened: int
):
    monkeypatch.setattr(moments, "_FLOAT32_VALUES", widened)
    features = rand(1, 3, 6, 7).bfloat16().contiguous(memory_format=form)
    features = features[..., 1:4, 2:7] if cut else features
    total, outer = sum_and_outer(features)
    f = matrix(features.double())
    assert total.dtype == outer.dtype == torch.float32
    assert torch.allclose(total.double(), f.sum(1), rtol=1e-6) and torch.allclose(
        outer.double(), f @ f.T, rtol=1e-6
    )


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("cut", [False, True])
def test_moments_are_sums_over_positions(form: torch.memory_format, cut: bool):
    features = rand(1, 3, 6, 7).contiguous(memory_format=form)
    features = features[..., 1:4, 2:7] if cut else features
    total, outer = sum_and_outer(features)
    f = matrix(features)
    assert torch.allclose(total, f.sum(1), rtol=1e-13)
    assert torch.allclose(outer, f @ f.T, rtol=1e-13)
    assert torch.autograd.gradcheck(
        sum_and_outer, features.clone(memory_format=torch.preserve_format).requires_grad_()
    )


def test_moments_of_no_positions_are_zero():
    features = rand(1, 3, 0, 7).requires_grad_()
    total, outer = sum_and_outer(features)
    assert not total.any() and not outer.any()
    assert torch.autograd.grad(outer.sum() + total.sum(), features)[0].shape == features.shape


def test_mean_covariance_and_mean_squared_norm():
    features = rand(1, 3, 6, 7)
    found, f = moments_of(features), matrix(features)
    assert found.count.item() == 42
    assert found.channels == 3
    assert torch.allclose(found.mean, f.mean(1), rtol=1e-12)
    assert torch.allclose(found.covariance, torch.cov(f, correction=0), rtol=1e-12)
    assert found.mean_squared_norm.item() == pytest.approx((f**2).sum(0).mean().item(), rel=1e-12)
    assert torch.allclose(
        found.covariance_factor @ found.covariance_factor.T, found.covariance, rtol=1e-12
    )


def test_stats_add_up():
    one, other = (
        {"a": torch.ones(2), "b": torch.tensor(2.0)},
        {"a": torch.ones(2) * 4, "b": torch.tensor(5.0)},
    )
    total = base.add(base.add({}, one), other)
    assert total["a"].tolist() == [5, 5]
    assert total["b"].item() == 7
    assert one["a"].tolist() == [1, 1]


# ---- style: Gatys --------------------------------------------------------------------------------


def gatys(f: Tensor, a: Tensor) -> float:
    """E_l, equation 4: G and A the undivided Gram matrices, N the filters, M the positions of the
    picture's map.
    """
    n, m = f.shape
    return (((f @ f.T - a @ a.T) ** 2).sum() / (4 * n**2 * m**2)).item()


@pytest.mark.parametrize("painting", [(4, 7), (6, 3)], ids=str)
def test_gatys_style_loss_and_gradient_to_the_letter(painting: tuple[int, int]):
    before = rand(1, 5, 4, 7).requires_grad_()
    target = rand(1, 5, *painting, seed=1).relu()
    f = before.relu()
    objective = Style({"l": moments_of(target)}, {"l": 1}, {"l": 1.0}, {"gram-gatys": 1.0}, 1.0)
    assert value(objective, {"l": f}).item() == pytest.approx(
        gatys(matrix(f), matrix(target)), rel=1e-12
    )
    flat = matrix(f)
    n, m = flat.shape
    apart = flat @ flat.T - matrix(target) @ matrix(target).T
    expected = torch.where(flat > 0, (flat.T @ apart).T / (n**2 * m**2), 0)  # eq. 6
    found = matrix(gradient(objective, {"l": f}, before))
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-15)
    assert (expected == 0).any() and (expected != 0).any()


def test_gatys_layers_are_added_by_weight():
    maps = {"a": rand(1, 3, 4, 5), "b": rand(1, 2, 4, 5, seed=1)}
    paintings = {"a": rand(1, 3, 4, 5, seed=2), "b": rand(1, 2, 4, 5, seed=3)}
    target = {name: moments_of(map) for name, map in paintings.items()}
    objective = Style(target, {"a": 1, "b": 1}, {"a": 0.2, "b": 0.7}, {"gram-gatys": 1.0}, 5.0)
    expected = sum(
        w * gatys(matrix(maps[name]), matrix(paintings[name]))
        for name, w in (("a", 0.2), ("b", 0.7))
    )
    # Eq. 5; the term's own weight is apart.
    assert value(objective, maps).item() == pytest.approx(expected, rel=1e-12)
    assert objective.weight == 5.0


# ---- style: every statistic ----------------------------------------------------------------------


def gram(f: Array, p: Array) -> float:
    return float(((f @ f.T / f.shape[1] - p @ p.T / p.shape[1]) ** 2).sum() / (4 * len(f) ** 2))


def gram_mean(f: Array, p: Array) -> float:
    return float(((f @ f.T / f.size - p @ p.T / p.size) ** 2).mean())


def gram_root(f: Array, p: Array) -> float:
    roots = f.shape[1] ** 0.5, p.shape[1] ** 0.5
    return float(((f @ f.T / roots[0] - p @ p.T / roots[1]) ** 2).mean() / 4)


def gram_relative(f: Array, p: Array) -> float:
    target = p @ p.T / p.shape[1]
    return float(((f @ f.T / f.shape[1] - target) ** 2).sum() / (target**2).sum())


def mean_deviation_absolute(f: Array, p: Array) -> float:
    return float(((f.mean(1) - p.mean(1)) ** 2).mean() + ((f.std(1) - p.std(1)) ** 2).mean())


def mean_deviation(f: Array, p: Array) -> float:
    return mean_deviation_absolute(f, p) * len(f) / float((p**2).sum(0).mean())


def wasserstein(f: Array, p: Array) -> float:
    """tr (A^1/2 B A^1/2)^1/2 is the sum of the roots of the eigenvalues of A B, which is similar to
    it.
    """
    a, b = np.cov(f, bias=True), np.cov(p, bias=True)
    fidelity = np.sqrt(np.linalg.eigvals(a @ b).astype(complex)).real.sum()
    apart = ((f.mean(1) - p.mean(1)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * fidelity
    return float(apart)


FORMULAS: dict[str, Callable[[Array, Array], float]] = {
    "gram": gram,
    "gram-gatys": lambda f, p: gatys(torch.from_numpy(f), torch.from_numpy(p)),
    "gram-mean": gram_mean,
    "gram-relative": gram_relative,
    "gram-root": gram_root,
    "mean-deviation": mean_deviation,
    "mean-deviation-absolute": mean_deviation_absolute,
    "wasserstein": lambda f, p: wasserstein(f, p) / float((p**2).sum(0).mean()),
    "wasserstein-absolute": lambda f, p: wasserstein(f, p) / len(f),
}


def test_every_statistic_has_its_formula_here():
    assert set(FORMULAS) == set(STATISTICS)


@pytest.mark.parametrize("name", STATISTICS)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_a_statistic_is_its_formula(name: str, seed: int, channels: int):
    f, p = rand(1, channels, 5, 6, seed=seed) + 0.5, rand(1, channels, 7, 5, seed=seed + 1) * 2
    objective = Style({"l": moments_of(p)}, {"l": 1}, {"l": 1.0}, {name: 1.0}, 1.0)
    expected = FORMULAS[name](matrix(f).numpy(), matrix(p).numpy())
    assert value(objective, {"l": f}).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistics_gradient_is_that_of_finite_differences(name: str):
    f, p = rand(1, 3, 4, 5) + 0.5, rand(1, 3, 5, 6, seed=1)
    objective = Style({"l": moments_of(p)}, {"l": 1}, {"l": 1.0}, {name: 1.0}, 1.0)
    assert torch.autograd.gradcheck(
        lambda x: value(objective, {"l": x}), f.requires_grad_(), rtol=1e-6
    )


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_0_where_the_statistics_agree(name: str):
    p = rand(1, 4, 6, 6)
    # The same positions elsewhere: a different picture with the same statistics.
    f = p.flatten(2)[..., torch.randperm(36, generator=torch.Generator().manual_seed(0))].view_as(p)
    objective = Style({"l": moments_of(p)}, {"l": 1}, {"l": 1.0}, {name: 1.0}, 1.0)
    assert abs(value(objective, {"l": f}).item()) < 1e-12
    assert value(objective, {"l": f * 1.1}).item() > 1e-4


@pytest.mark.parametrize("name", ["gram-relative", "mean-deviation", "wasserstein"])
def test_relative_statistics_do_not_feel_a_common_factor(name: str):
    f, p = rand(1, 3, 4, 5), rand(1, 3, 5, 6, seed=1)
    found = [
        value(
            Style({"l": moments_of(p * k)}, {"l": 1}, {"l": 1.0}, {name: 1.0}, 1.0), {"l": f * k}
        ).item()
        for k in (1, 30)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_several_statistics_are_added():
    f, p = rand(1, 3, 4, 5), rand(1, 3, 5, 6, seed=1)
    target = {"l": moments_of(p)}
    alone = {
        name: value(Style(target, {"l": 1}, {"l": 1.0}, {name: 1.0}, 1.0), {"l": f}).item()
        for name in STATISTICS
    }
    both = Style(target, {"l": 1}, {"l": 0.5}, {"gram": 2.0, "wasserstein": 3.0}, 1.0)
    expected = 0.5 * (2 * alone["gram"] + 3 * alone["wasserstein"])
    assert value(both, {"l": f}).item() == pytest.approx(expected, rel=1e-12)


# ---- style: Wasserstein --------------------------------------------------------------------------


def gaussian(mean: list[float], deviations: list[float]) -> Moments:
    m = torch.tensor(mean, dtype=torch.float64)
    covariance = torch.diag(torch.tensor(deviations, dtype=torch.float64) ** 2)
    return Moments(torch.tensor(10.0), m, covariance + torch.outer(m, m))


def test_wasserstein_of_one_channel_is_the_difference_of_means_and_deviations():
    found, target = gaussian([2.0], [3.0]), gaussian([-1.0], [0.5])
    assert style.wasserstein(found, target).item() == pytest.approx(
        (3**2 + 2.5**2) / (1 + 0.25), rel=1e-12
    )


def test_wasserstein_of_commuting_covariances_is_that_of_their_deviations():
    found, target = gaussian([1, 2, 3], [1, 0.5, 2]), gaussian([1, 0, 3], [2, 0.25, 1])
    expected = (4 + 1 + 0.0625 + 1) / (1 + 9 + 4 + 0.0625 + 1)
    assert style.wasserstein(found, target).item() == pytest.approx(expected, rel=1e-12)
    # The same two, turned: a distance does not depend on the axes.
    turn = torch.linalg.qr(rand(3, 3)).Q
    found, target = (
        Moments(m.count, turn @ m.mean, turn @ m.second @ turn.T) for m in (found, target)
    )
    assert style.wasserstein(found, target).item() == pytest.approx(expected, rel=1e-12)


def test_wasserstein_is_symmetric_but_for_its_denominator():
    one, other = moments_of(rand(1, 4, 6, 6)), moments_of(rand(1, 4, 6, 6, seed=1) * 2 + 1)
    there, back = (
        style.wasserstein(one, other) * other.mean_squared_norm,
        style.wasserstein(other, one) * one.mean_squared_norm,
    )
    assert there.item() == pytest.approx(back.item(), rel=1e-11)


def test_wasserstein_and_its_gradient_are_numbers_where_channels_are_dead_or_positions_few():
    p = rand(1, 6, 8, 8)
    p[:, 2] = 0  # a channel that never fires
    few = rand(1, 6, 2, 2, seed=1).requires_grad_()  # rank 4 at most
    flat = torch.full((1, 6, 4, 4), 0.5, dtype=torch.float64).requires_grad_()
    for target in (p, rand(1, 6, 1, 2), torch.ones(1, 6, 4, 4, dtype=torch.float64)):
        objective = Style(
            {"l": moments_of(target)}, {"l": 1}, {"l": 1.0}, {"wasserstein": 1.0}, 1.0
        )
        for leaf in (few, flat):
            found = value(objective, {"l": leaf})
            assert torch.isfinite(found)
            assert found.item() >= -1e-9
            assert torch.isfinite(torch.autograd.grad(found, leaf)[0]).all()


def test_a_step_against_the_wasserstein_gradient_comes_closer():
    f, p = rand(1, 8, 2, 3).requires_grad_(), rand(1, 8, 9, 9, seed=1)
    objective = Style({"l": moments_of(p)}, {"l": 1}, {"l": 1.0}, {"wasserstein": 1.0}, 1.0)
    before = value(objective, {"l": f})
    (toward,) = torch.autograd.grad(before, f)
    after = value(objective, {"l": (f - 0.1 * toward / toward.norm()).detach()})
    assert after < before


def test_statistics_that_are_no_numbers_give_no_number():
    """Not an error: the loop looks at the loss, and keeps the last good picture."""
    p = moments_of(rand(1, 3, 5, 5))
    broken = moments_of(torch.full((1, 3, 4, 4), float("nan"), dtype=torch.float64))
    for name, statistic in STATISTICS.items():
        assert not torch.isfinite(statistic(broken, p)), name


# ---- blend ---------------------------------------------------------------------------------------


def test_a_blend_of_one_painting_is_itself():
    target = {"a": moments_of(rand(1, 3, 5, 5)), "b": moments_of(rand(1, 2, 3, 3))}
    blended = mixture_moments([target], [7.0])
    assert set(blended) == {"a", "b"}
    for name, each in blended.items():
        assert torch.equal(each.mean, target[name].mean)
        assert torch.equal(each.second, target[name].second)
        assert torch.equal(each.count, target[name].count)


def test_a_blend_of_two_has_the_moments_of_the_mixture():
    one, other = rand(1, 3, 5, 4), rand(1, 3, 5, 4, seed=1) + 2
    blended = mixture_moments([{"l": moments_of(one)}, {"l": moments_of(other)}], [1.0, 3.0])["l"]
    mixture = moments_of(torch.cat([one, other, other, other], -1))
    assert torch.allclose(blended.mean, mixture.mean, rtol=1e-12)
    assert torch.allclose(blended.second, mixture.second, rtol=1e-12)
    assert torch.allclose(blended.covariance, mixture.covariance, rtol=1e-12)


def test_a_blend_does_not_depend_on_how_large_the_paintings_are():
    one, other = rand(1, 3, 5, 4), rand(1, 3, 5, 4, seed=1) + 2
    large = torch.cat([other] * 5, -1)
    small = mixture_moments([{"l": moments_of(one)}, {"l": moments_of(other)}], [1.0, 1.0])["l"]
    found = mixture_moments([{"l": moments_of(one)}, {"l": moments_of(large)}], [1.0, 1.0])["l"]
    assert torch.allclose(found.second, small.second, rtol=1e-12)


def test_an_exaggerated_target_is_that_of_maps_times_the_root_of_the_gain():
    p = rand(1, 3, 5, 4)
    found, expected = scaled_moments({"l": moments_of(p)}, 2.5)["l"], moments_of(p * 2.5**0.5)
    assert torch.allclose(found.mean, expected.mean, rtol=1e-12)
    assert torch.allclose(found.second, moments_of(p).second * 2.5, rtol=1e-12)
    assert torch.allclose(found.covariance, expected.covariance, rtol=1e-12)


# ---- smoothness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (4, 5)], ids=str)
def test_smoothness_is_a_loop_over_right_and_lower_neighbours(size: tuple[int, int]):
    x = rand(1, 3, *size)
    height, width = size
    total = 0.0
    for channel in range(3):
        for row in range(height):
            for column in range(width):
                here = x[0, channel, row, column].item()
                if row + 1 < height:
                    total += (x[0, channel, row + 1, column].item() - here) ** 2
                if column + 1 < width:
                    total += (x[0, channel, row, column + 1].item() - here) ** 2
    found = value(Smooth(4.0), {"input": x}).item()
    assert found == pytest.approx(total / (3 * height * width), rel=1e-12)


def padded(x: Tensor) -> Array:
    """(3, H + 2, W + 2), the edge repeated."""
    return np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")


def nine_point(x: Tensor) -> float:
    """Each difference within the picture once, those along a diagonal by a quarter of the others'
    weight.
    """
    a = x[0].numpy()
    straight = (np.diff(a, axis=1) ** 2).sum() + (np.diff(a, axis=2) ** 2).sum()
    diagonal = ((a[:, 1:, 1:] - a[:, :-1, :-1]) ** 2).sum() + (
        (a[:, 1:, :-1] - a[:, :-1, 1:]) ** 2
    ).sum()
    return float(2 * (straight / 3 + diagonal / 12))


def joint(x: Tensor) -> float:
    a = x[0].numpy()
    down, right = a[:, 1:, :-1] - a[:, :-1, :-1], a[:, :-1, 1:] - a[:, :-1, :-1]
    return float(((down**2 + right**2) ** 1.25).sum())


def blur(x: Tensor) -> float:
    weights = np.exp(-np.array([[2, 1, 2], [1, 0, 1], [2, 1, 2]]) / 2)
    weights /= weights.sum()
    a, total = padded(x), 0.0
    for row, column in np.ndindex(*x.shape[-2:]):
        window = a[:, row : row + 3, column : column + 3]
        total += float(np.abs((window * weights).sum((1, 2)) - window[:, 1, 1]).max() ** 2)
    return total


MEASURE_FORMULAS: dict[str, Callable[[Tensor], float]] = {
    "squared": lambda x: float(
        (np.diff(x[0], axis=1) ** 2).sum() + (np.diff(x[0], axis=2) ** 2).sum()
    ),
    "absolute": lambda x: float(
        np.abs(np.diff(x[0], axis=1)).sum() + np.abs(np.diff(x[0], axis=2)).sum()
    ),
    "nine-point": nine_point,
    "joint": joint,
    "blur": blur,
}


def test_every_measure_of_smoothness_is_offered_and_has_its_formula_here():
    assert set(MEASURES) == set(MEASURE_FORMULAS) == set(recipe_options()["smooth-measure"].choices)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (4, 5)], ids=str)
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_of_smoothness_is_its_formula(name: Any, size: tuple[int, int]):
    x = rand(1, 3, *size)
    total = MEASURE_FORMULAS[name](x)
    assert value(Smooth(1.0, name, "sum"), {"input": x}).item() == pytest.approx(total, rel=1e-12)
    assert value(Smooth(1.0, name), {"input": x}).item() == pytest.approx(
        total / (3 * size[0] * size[1]), rel=1e-12
    )


@pytest.mark.parametrize("name", MEASURES)
def test_smoothness_gradient(name: Any):
    assert torch.autograd.gradcheck(
        lambda x: value(Smooth(1.0, name), {"input": x}), rand(1, 3, 4, 5).requires_grad_()
    )


def test_pixels_within_bounds_cost_nothing_and_others_their_distance():
    x = (
        torch.tensor([0.0, 0.5, 1.0, -0.25, 1.5, 0.9], dtype=torch.float64)
        .view(1, 1, 2, 3)
        .expand(1, 3, 2, 3)
    )
    assert value(Bounds(1.0), {"input": x}).item() == pytest.approx(0.75 / 6, rel=1e-14)
    x = rand(1, 3, 4, 5)
    assert torch.autograd.gradcheck(lambda x: value(Bounds(1.0), {"input": x}), x.requires_grad_())


# ---- the contract --------------------------------------------------------------------------------


def test_every_objective_says_what_the_loop_asks():
    target = {"l": moments_of(rand(1, 3, 4, 4))}
    made: list[Objective] = [
        Content(held({"l": rand(1, 3, 4, 4)}), {"l": 4}, {"l": 1.0}, "mean", 2.0),
        Style(target, {"l": 4}, {"l": 1.0}, {"gram": 1.0}, 3.0),
        Smooth(4.0),
        Bounds(5.0),
    ]
    assert [objective.name for objective in made] == ["content", "style", "smooth", "bounds"]
    assert [objective.weight for objective in made] == [2, 3, 4, 5]
    assert [dict(objective.layers) for objective in made] == [
        {"l": 4},
        {"l": 4},
        {"input": 1},
        {"input": 1},
    ]
    assert all(objective.additive for objective in made)
