"""The real networks on a real photo, evaluated by an independent network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch

import impasto
from impasto import images
from impasto.assets import museum
from impasto.comparisons.evaluator import Evaluator
from impasto.events import Failed, Stepped, Warned
from impasto.geometry import Grid, Size
from impasto.networks import weights
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.features import Network
from impasto.objectives.content import Content
from impasto.objectives.moments import moment_sums, moments_from_sums
from impasto.objectives.smooth import Smooth
from impasto.objectives.style import Style
from impasto.optimize.tiling import LossValue, total_stats, value_and_gradient
from impasto.recipe import loading
from tests.support.loss_setup import targets_by_tile

pytestmark = pytest.mark.network

LAYERS = {"relu1_1": 0.2, "relu2_1": 0.2, "relu3_1": 0.2, "relu4_1": 0.2, "relu5_1": 0.2}
PAINTING = "wheat-field-with-cypresses"
SIDE = 128


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return skimage.data.astronaut()[::4, ::4]  # (128, 128, 3)


@pytest.fixture(scope="module")
def evaluator(photo: np.ndarray) -> Evaluator:
    """Evaluation by VGG-16, which does not paint here, at 128 px of long side."""
    painting = museum.find(PAINTING).read()
    near = images.resize(painting, Size(*painting.shape[:2]).with_long_side(SIDE))
    return Evaluator(photo / np.float32(255), near, "vgg16")


def test_style_comes_closer_and_strength_trades_style_for_content(
    photo: np.ndarray, evaluator: Evaluator
):
    original = np.asarray(photo, np.float32) / 255
    results = {
        strength: impasto.stylize(
            photo, PAINTING, size=SIDE, strength=strength, iterations=12
        ).pixels
        for strength in (10, 50, 90)
    }
    scores = {strength: evaluator(pixels) for strength, pixels in results.items()}
    styles = {strength: score.style for strength, score in scores.items()}
    contents = {strength: score.content for strength, score in scores.items()}
    untouched = evaluator(original).style
    assert styles[90] < styles[50] < styles[10] < untouched
    assert contents[10] < contents[50] < contents[90]
    assert styles[50] < 0.6 * untouched
    shuffled = original[::-1, ::-1].copy()  # the same colours, none of the content in its place
    assert contents[90] < evaluator(shuffled).content


def test_the_same_request_gives_the_same_bytes(photo: np.ndarray):
    settings = {"size": 96, "iterations": "8,6", "schedule_coarsest": 48}
    first, second = (impasto.stylize(photo, PAINTING, **settings) for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()
    assert first.record["recipe_sha256"] == second.record["recipe_sha256"]


# The rate of keras-example fits the size and the pictures that it was made for: here its search
# restarts with half the step.
PUBLISHED = [
    name for name in loading.names() if loading.load(name).source and name != "keras-example"
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_starts_and_does_not_diverge(photo: np.ndarray, name: str):
    """In its first steps, before a search from noise has learned how long a step may be."""
    # From a nearly flat grey, the first line search of snelgrove takes a dozen evaluations.
    evaluations = 16 if name == "snelgrove" else 8
    small = loading.with_settings(
        loading.load(name), {"size": SIDE, "side": "long", "iterations": evaluations}
    )
    session = impasto.prepare(photo, PAINTING, small)
    events = [event for event, _ in session.run()]
    messages = [event.message for event in events if isinstance(event, Warned | Failed)]
    assert not any("half the step" in message for message in messages) and not isinstance(
        events[-1], Failed
    )
    losses = [event.loss for event in events if isinstance(event, Stepped) and event.stage == 0]
    assert min(losses) < losses[0]


@pytest.mark.parametrize(
    ("kernel", "value_error", "gradient_error"),
    [
        (KERNELS["float64"], 1e-9, 1e-12),
        *((KERNELS[name], 1e-5, 1e-5) for name in ("conv2d", "channels-last")),
        (replace(KERNELS["channels-last"], default="packed"), 1e-5, 1e-5),
        # Its backward pass adds the parts of a block in another order.
        (KERNELS["nnpack"], 1e-5, 1e-4),
        # Another method for small maps than for large ones; a tile uses that of the whole.
        (
            replace(
                KERNELS["nnpack"], methods={(256, 256, 32): "conv2d", (256, 256, 64): "nnpack"}
            ),
            1e-5,
            1e-4,
        ),
        (
            replace(
                KERNELS["channels-last"],
                methods={(64, 64, 256): "nnpack", (512, 512, 16): "packed"},
            ),
            1e-5,
            1e-5,
        ),
    ],
    ids=lambda value: value.text if isinstance(value, Kernel) else "",
)
def test_tiles_equal_the_whole_on_the_real_network(
    photo: np.ndarray, kernel: Kernel, value_error: float, gradient_error: float
):
    # The sides are no multiples of NNPACK's blocks. float64 takes several times as long.
    size = Size(109, 247) if kernel.dtype == torch.float64 else Size(171, 405)
    network = Network(
        weights.load("vgg19"), "E", {*LAYERS, "relu4_2", "input"}, padding="reflect", kernel=kernel
    )
    strides = {layer.name: layer.stride for layer in network.layers}
    picture = images.to_tensor(images.resize(np.asarray(photo, np.float32) / 255, size)).to(
        kernel.dtype
    )
    painting = images.to_tensor(images.resize(museum.find(PAINTING).read(), Size(160, 200))).to(
        kernel.dtype
    )
    layers = {name: strides[name] for name in LAYERS}
    target = moments_from_sums(
        total_stats(
            painting,
            network,
            lambda features, context: moment_sums(features, layers, context),
            Grid(Size(160, 200)),
        )
    )
    with torch.no_grad():
        maps = network(picture.flip(-1))

    def evaluated(tile: int) -> tuple[LossValue, torch.Tensor]:
        grid = network.grid(size, tile)
        objectives = [
            Content(
                {"relu4_2": targets_by_tile(maps["relu4_2"], strides["relu4_2"], grid)},
                strides,
                {"relu4_2": 1.0},
                "relative",
                0.1,
            ),
            Style(target, strides, LAYERS, {"gram-relative": 1.0}, 1.0),
            Smooth(2.0),
        ]
        return value_and_gradient(picture, network.encoder(size), objectives, grid)

    assert len(network.grid(size, 96)) > 1
    (whole, gradient), (tiled, tiles_gradient) = evaluated(0), evaluated(96)
    assert abs(tiled.total - whole.total) < value_error * whole.total
    assert (tiles_gradient - gradient).norm() < gradient_error * gradient.norm()
