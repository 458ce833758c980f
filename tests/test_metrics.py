"""Evaluation: LPIPS against its published figures, distances against closed forms, and both ends
of every scale.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance
from torch.nn import functional

from impasto import images
from impasto.assets import catalogue
from impasto.comparisons import lpips as lpips_
from impasto.comparisons import metrics
from impasto.comparisons.evaluator import Evaluator, Pixels
from impasto.comparisons.scores import FIGURES, Scores
from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.networks import weights
from tests.support.pocket_network import use_pocket_evaluators


@pytest.fixture
def pocket(monkeypatch: pytest.MonkeyPatch) -> None:
    use_pocket_evaluators(monkeypatch)


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return skimage.data.astronaut()[::4, ::4].astype(np.float32) / 255  # (128, 128, 3)


@pytest.fixture(scope="module")
def painting() -> Pixels:
    return skimage.data.coffee()[::4, ::4].astype(np.float32) / 255  # (100, 150, 3)


def blurred(pixels: Pixels, sigma: float) -> Pixels:
    return gaussian_filter(pixels, (sigma, sigma, 0))


def noisy(pixels: Pixels, deviation: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, deviation, pixels.shape)
    return np.clip(pixels + noise, 0, 1).astype(np.float32)


# ---- LPIPS ---------------------------------------------------------------------------------------

_POOL = {"vgg16": (2, 2), "alexnet": (3, 2)}  # window and stride
# The convolutions that a pooling comes before.
_BEFORE = {"vgg16": {2, 4, 7, 10}, "alexnet": {1, 2}}
# The convolutions whose ReLUs are compared.
_LOOKED_AT = {"vgg16": (1, 3, 6, 9, 12), "alexnet": (0, 1, 2, 3, 4)}


def plain_lpips(one: Pixels, other: Pixels, backbone: str) -> float:
    """The formula of the paper written out on the arrays of the file."""
    with catalogue.fetch(f"{backbone}-lpips").open("rb") as file:
        arrays = weights.read_arrays(file)
    layers: dict[str, Any] = arrays["VGG16_0" if backbone == "vgg16" else "AlexNet_0"]
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    maps = []
    for pixels in (one, other):
        x = ((torch.from_numpy(pixels) * 2 - 1 - shift) / scale).permute(2, 0, 1)[None]
        found = []
        for number in range(len(layers)):
            if number in _BEFORE[backbone]:
                x = functional.max_pool2d(x, *_POOL[backbone])
            layer = layers[f"Conv_{number}"]
            # From (row, column, in, out).
            kernel = torch.from_numpy(layer["kernel"]).permute(3, 2, 0, 1)
            stride, padding = (4, 2) if kernel.shape[-1] == 11 else (1, kernel.shape[-1] // 2)
            x = torch.relu(
                functional.conv2d(x, kernel, torch.from_numpy(layer["bias"]), stride, padding)
            )
            if number in _LOOKED_AT[backbone]:
                found.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        maps.append(found)
    heads = [
        torch.from_numpy(arrays[f"NetLinLayer_{n}"]["Conv_0"]["kernel"]).permute(3, 2, 0, 1)
        for n in range(5)
    ]
    steps = [
        functional.conv2d((a - b) ** 2, head).mean()
        for a, b, head in zip(*maps, heads, strict=True)
    ]
    return float(sum(steps))


# Of the picture and its mirror image, by the authors' package lpips 0.1.4 with these networks'
# weights.
PUBLISHED = {"vgg16": 0.668657, "alexnet": 0.542314}


@pytest.mark.network
@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_lpips_is_the_published_one(backbone: weights.LpipsName, photo: Pixels, painting: Pixels):
    mirrored = np.ascontiguousarray(photo[:, ::-1])
    assert lpips_.lpips(photo, mirrored, backbone) == pytest.approx(PUBLISHED[backbone], abs=1e-4)
    one, other = photo[:75, :98], np.ascontiguousarray(painting[:75, :98])
    assert lpips_.lpips(one, other, backbone) == pytest.approx(
        plain_lpips(one, other, backbone), abs=1e-5
    )


@pytest.mark.network
@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_lpips_rises_with_blur_and_noise_from_nothing(backbone: weights.LpipsName, photo: Pixels):
    lpips = lpips_.Lpips(backbone)
    untouched = lpips.maps(photo)
    for changed in (blurred, noisy):
        found = [
            lpips.distance(lpips.maps(changed(photo, amount)), untouched)
            for amount in (0, 0.05, 0.2, 0.6, 2.0)
        ]
        assert found[0] == 0
        assert found[1:] == sorted(found[1:])
        assert found[-1] > 0.3


def test_lpips_is_of_two_pictures_of_one_size(photo: Pixels, painting: Pixels):
    with pytest.raises(ValueError, match="100, 150"):
        lpips_.lpips(photo, painting, "alexnet")


# ---- the evaluator -------------------------------------------------------------------------------


def assert_are_the_ends(of_photo: Scores, of_painting: Scores) -> None:
    """The figures of the photo itself and of a painting of its size."""
    assert (of_photo.content, of_photo.lpips_alexnet, of_photo.lpips_vgg16) == (0, 0, 0)
    assert of_photo.ssim == pytest.approx(1)
    for name in ("style", "gram", "sliced", "colour"):
        # The Wasserstein distance leaves out what of the painting is below a thousandth of its
        # strongest direction.
        assert 0 <= getattr(of_painting, name) < (2e-3 if name == "style" else 1e-5), name
        assert getattr(of_photo, name) > 1e-2, name
    for name in ("content", "lpips_alexnet", "lpips_vgg16"):
        assert getattr(of_painting, name) > 0.02, name
    assert of_painting.ssim < 0.9


@pytest.mark.parametrize("judge", ["vgg16", "vgg19"])
def test_the_photo_and_the_painting_are_the_ends(
    pocket: None, judge: Any, photo: Pixels, painting: Pixels
):
    same_size = images.resize(painting, Size(128, 128))
    evaluator = Evaluator(photo, same_size, judge)
    assert_are_the_ends(evaluator(photo), evaluator(same_size))


@pytest.mark.network
def test_real_networks_put_a_picture_between_the_ends(photo: Pixels, painting: Pixels):
    same_size = images.resize(painting, Size(128, 128))
    evaluator = Evaluator(photo, same_size)
    first, last = evaluator(photo), evaluator(same_size)
    assert_are_the_ends(first, last)
    mixed = evaluator(0.5 * photo + 0.5 * same_size)
    for name, figure in FIGURES.items():
        if figure.target != "method" and name != "face":
            low, high = sorted((getattr(first, name), getattr(last, name)))
            assert low < getattr(mixed, name) < high, name
    assert last.content > 0.8  # the painting knows nothing of the photo


def test_the_likeness_of_a_face_is_that_of_its_box_alone(pocket: None, painting: Pixels):
    portrait = skimage.data.astronaut()[::2, ::2].astype(np.float32) / 255
    evaluator = Evaluator(portrait, painting)
    assert evaluator(portrait).face == 0
    elsewhere, within = portrait.copy(), portrait.copy()
    elsewhere[150:] = 0.5
    within[40:75, 95:130] = 0.5
    assert evaluator(elsewhere).face == 0
    face = evaluator(within).face
    assert face is not None and face > 1e-3
    assert Evaluator(painting, painting)(painting).face is None


def test_the_distance_at_several_scales_is_the_mean_of_those(pocket: None, photo: Pixels):
    other = blurred(photo, 2)
    halves = [images.resize(each, Size(64, 64)) for each in (photo, other)]
    quarters = [images.resize(each, Size(32, 32)) for each in (photo, other)]
    each = [Evaluator(one, one)(two).sliced for one, two in ((photo, other), halves, quarters)]
    found = Evaluator(photo, photo)(other).sliced_scales
    assert found == pytest.approx(np.mean(each), rel=0.1)  # images.resize averages linear light


def test_the_painter_has_a_gram_distance_of_its_own(pocket: None, photo: Pixels, painting: Pixels):
    evaluator = Evaluator(photo, painting)
    found = evaluator(blurred(photo, 1))
    assert found.gram_painter != found.gram
    assert found == evaluator(blurred(photo, 1), "vgg19")
    assert found.gram_painter == pytest.approx(
        Evaluator(photo, painting, "vgg19")(blurred(photo, 1)).gram, rel=1e-6
    )
    own = evaluator(blurred(photo, 1), "vgg16")
    assert own.gram_painter == own.gram == found.gram


def test_a_painting_of_another_shape_is_a_target_too(pocket: None, photo: Pixels, painting: Pixels):
    other = images.resize(painting, Size(128, 128))
    evaluator = Evaluator(photo, painting)
    assert evaluator(other).sliced < 0.5 * evaluator(photo).sliced
    assert evaluator(other).colour < 0.1 * evaluator(photo).colour


def test_the_same_request_gives_the_same_scores_and_leaves_the_process_alone(
    pocket: None, photo: Pixels, painting: Pixels
):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = Evaluator(photo, painting)(blurred(photo, 1))
    assert asdict(first) == asdict(Evaluator(photo, painting)(blurred(photo, 1)))
    assert first.sliced != Evaluator(photo, painting, seed=1)(blurred(photo, 1)).sliced
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_what_cannot_be_judged_is_refused(pocket: None, photo: Pixels, painting: Pixels):
    with pytest.raises(BadPicture, match="photo is 128x31"):
        Evaluator(photo[:31], painting)
    with pytest.raises(BadPicture, match="painting is 20x100"):
        Evaluator(photo, painting[:, :20])
    with pytest.raises(ValueError, match="100, 150"):
        Evaluator(photo, painting)(painting)


def test_every_score_has_a_meaning_in_its_order():
    assert list(FIGURES) == [field.name for field in fields(Scores)]


# ---- distributions -------------------------------------------------------------------------------


def test_directions_have_unit_length_and_follow_the_seed():
    first, again = (
        metrics.unit_directions(64, 5, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    torch.testing.assert_close(first.norm(dim=1), torch.ones(64))
    assert torch.equal(first, again)
    # Uniform over the sphere: no direction of them all is preferred.
    many = metrics.unit_directions(20_000, 5, torch.Generator().manual_seed(3))
    torch.testing.assert_close(many.T @ many / 20_000, torch.eye(5) / 5, atol=5e-3, rtol=0)


def gaussian(
    mean: torch.Tensor, root: torch.Tensor, height: int, width: int, seed: int
) -> torch.Tensor:
    """A map (1, C, height, width) whose positions are drawn from N(mean, root root^T)."""
    drawn = torch.randn(len(mean), height * width, generator=torch.Generator().manual_seed(seed))
    return (mean[:, None] + root @ drawn).view(1, len(mean), height, width)


@pytest.mark.parametrize("shape", [(300, 300), (170, 330)])
def test_sliced_distance_of_gaussians_is_the_closed_form(shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    mean = torch.zeros(6)
    root, other = (torch.randn(6, 6, generator=generator) for _ in range(2))
    directions = metrics.unit_directions(40, 6, generator)
    ours = metrics.projections(gaussian(mean, root, 300, 300, 1), directions)
    # The means are taken off.
    theirs = metrics.projections(gaussian(mean + 5, other, *shape, 2), directions)
    deviations = [((directions @ r) ** 2).sum(1).sqrt() for r in (root, other)]
    expected = float((deviations[0] - deviations[1]).square().mean())
    found = metrics.sliced_wasserstein(ours, metrics.quantiles(theirs, ours.shape[1]))
    assert found == pytest.approx(expected, rel=0.02)


def test_ranks_are_quantiles():
    values = np.array([[1, 2, 3, 4]], np.float32)
    assert metrics.quantiles(values, 4).tolist() == [[1, 2, 3, 4]]
    assert metrics.quantiles(values, 8).tolist() == [[1, 1, 2, 2, 3, 3, 4, 4]]
    assert metrics.quantiles(values, 2).tolist() == [[2, 4]]
    assert metrics.quantiles(values, 1).tolist() == [[3]]


def test_colors_that_differ_in_lightness_alone():
    dark, light = np.full((40, 50, 3), 0.3, np.float32), np.full((30, 30, 3), 0.7, np.float32)
    lightness = [metrics.lab_values(pixels)[0, 0] for pixels in (dark, light)]
    found = metrics.color_distance(metrics.lab_values(dark), metrics.lab_values(light))
    assert found == pytest.approx((lightness[1] - lightness[0]) / 3, rel=1e-4)


def test_colors_do_not_know_where_they_are(photo: Pixels):
    shuffled = np.random.default_rng(0).permutation(photo.reshape(-1, 3)).reshape(photo.shape)
    assert metrics.color_distance(metrics.lab_values(photo), metrics.lab_values(shuffled)) == 0
    assert metrics.color_distance(metrics.lab_values(photo), metrics.lab_values(1 - photo)) > 10


def test_colors_of_pictures_of_two_sizes_are_compared_by_their_shares(
    photo: Pixels, painting: Pixels
):
    ours, theirs = metrics.lab_values(photo), metrics.lab_values(painting)
    expected = np.mean(
        [wasserstein_distance(*channels) for channels in zip(ours, theirs, strict=True)]
    )
    assert metrics.color_distance(ours, theirs) == pytest.approx(expected, rel=1e-3)


# ---- pixels --------------------------------------------------------------------------------------


def test_similarity_falls_with_noise(photo: Pixels):
    light = metrics.luminance(photo)
    found = [
        metrics.ssim(metrics.luminance(noisy(photo, amount)), light) for amount in (0, 0.05, 0.2)
    ]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)


def test_clipped_counts_pixels_with_a_channel_at_an_end():
    pixels = np.full((10, 20, 3), 0.5, np.float32)
    assert metrics.clipped(pixels) == 0
    pixels[0, :, 1] = 1  # a row
    pixels[:, 0, 2] = 0  # a column, one pixel of which is counted already
    assert metrics.clipped(pixels) == pytest.approx(29 / 200)
    assert metrics.clipped(np.clip(pixels, 1e-3, 1 - 1e-3)) == 0


def test_border_is_one_where_the_border_is_like_the_rest(photo: Pixels):
    grain = np.random.default_rng(0).random((120, 90, 3), np.float32)
    assert metrics.border(grain) == pytest.approx(1, abs=0.2)
    assert metrics.border(np.full((40, 40, 3), 0.3, np.float32)) == 1
    assert metrics.border(grain[:14]) == pytest.approx(1, abs=0.3)  # next to nothing but border
    empty = grain.copy()
    for side in (empty[:12], empty[-12:], empty[:, :12], empty[:, -12:]):
        side[:] = 0.5
    assert metrics.border(empty) < 1e-3


@pytest.mark.parametrize("wide", [1, 4, 8])
def test_border_rises_with_a_dark_frame(photo: Pixels, wide: int):
    framed = photo * 0.1
    framed[wide:-wide, wide:-wide] = photo[wide:-wide, wide:-wide]
    assert metrics.border(framed) > 2 * metrics.border(photo)


def test_grain_is_the_noise_that_the_painting_does_not_have(photo: Pixels, painting: Pixels):
    own = metrics.fine_detail(painting)
    assert metrics.grain(own, own) == 0
    found = [
        metrics.grain(metrics.fine_detail(noisy(painting, amount)), own)
        for amount in (0.01, 0.03, 0.1)
    ]
    assert 0 < found[0] < found[1] < found[2]
    assert metrics.grain(metrics.fine_detail(blurred(painting, 2)), own) == 0


def test_fine_detail_of_noise_is_what_a_gaussian_of_one_pixel_leaves_of_it():
    noise = np.random.default_rng(0).normal(0.5, 0.02, (400, 400, 1)).repeat(3, 2)
    impulse = np.zeros((21, 21))
    impulse[10, 10] = 1
    left = np.square(impulse - gaussian_filter(impulse, 1)).sum()
    found = metrics.fine_detail(noise.astype(np.float32))
    assert found == pytest.approx(0.02**2 * left, rel=0.03)


@pytest.mark.parametrize("period", [2, 4, 8, 16])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_grid_stands_out_of_the_spectrum(photo: Pixels, period: int, axis: int):
    large = images.resize(photo, Size(151, 203))  # no whole number of periods
    before = metrics.periodic(large)
    lines = [slice(None), slice(None)]
    lines[axis] = slice(3, None, period)
    gridded = large.copy()
    gridded[tuple(lines)] = np.clip(gridded[tuple(lines)] + 0.1, 0, 1)
    assert metrics.periodic(gridded) > before + 0.5
    both = gridded.copy()
    lines = lines[::-1]
    both[tuple(lines)] = np.clip(both[tuple(lines)] + 0.1, 0, 1)
    assert metrics.periodic(both) > before + 1


def test_other_periods_and_what_is_not_seen_are_no_grid(photo: Pixels):
    rows = np.arange(160)[:, None, None]
    flat = np.full((160, 160, 3), 0.5, np.float32)
    assert metrics.periodic(flat) == pytest.approx(0)
    assert metrics.periodic((flat + 0.2 * np.sin(rows * 2 * np.pi / 5)).astype(np.float32)) < 0.5
    assert metrics.periodic((flat + 0.2 * np.sin(rows * 2 * np.pi / 4)).astype(np.float32)) > 3
    assert metrics.periodic((flat + 1e-4 * np.sin(rows * 2 * np.pi / 4)).astype(np.float32)) < 0.5
    assert metrics.periodic(np.random.default_rng(0).random((160, 160, 3), np.float32)) < 0.5
    # Small, but there is an answer.
    assert metrics.periodic(images.resize(photo, Size(33, 40))) >= 0
