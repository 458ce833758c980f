"""Every published system's recipe is that system's own formula: its constants, its units, its way
with Gram matrices.

Each formula below is written out as the system has it, on maps that one torch function after the
other makes, and knows nothing of recipes and objectives. Maps f of the picture, p of the photo, a
of the painting are (1, C, h, w); x is the picture, RGB in 0..1, and ``255 * x`` what most of the
systems work on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from impasto import images
from impasto.geometry import Size
from impasto.networks import vgg
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.optimize import loss
from impasto.optimize.execution import Execution
from impasto.optimize.painting_histograms import directions_of
from impasto.optimize.problem import Problem
from impasto.planning import schedule
from impasto.recipe import loading, records

Maps = dict[str, Tensor]
Formula = Callable[[Tensor, Maps, Maps, Maps], Tensor]

# How much larger maps are where pixels of 0..255 go in without division by a deviation.
CAFFE = 57.6
FIVE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

# ---- what the systems have in common -------------------------------------------------------------


def mse(one: Tensor, other: Tensor) -> Tensor:
    return ((one - other) ** 2).mean()


def sse(one: Tensor, other: Tensor) -> Tensor:
    return ((one - other) ** 2).sum()


def gram(f: Tensor) -> Tensor:
    """Undivided (C, C)."""
    flat = f[0].flatten(1)
    return flat @ flat.T


def channels(f: Tensor) -> int:
    return f.shape[1]


def positions(f: Tensor) -> int:
    return f.shape[2] * f.shape[3]


def gatys(f: Tensor, a: Tensor) -> Tensor:
    """E_l of the first paper, N filters, M the positions of the picture's map."""
    return sse(gram(f), gram(a)) / (4 * channels(f) ** 2 * positions(f) ** 2)


def down(x: Tensor) -> Tensor:
    return x[..., 1:, :] - x[..., :-1, :]


def right(x: Tensor) -> Tensor:
    return x[..., 1:] - x[..., :-1]


def matched(f: Tensor, a: Tensor, directions: Tensor) -> Tensor:
    """What each projection, in order of size, lacks to the one of the same rank of the painting.

    Both are repeated until they are equally many.
    """
    count = math.lcm(positions(f), positions(a))
    ours, theirs = (
        (directions @ each[0].flatten(1))
        .sort(1)
        .values.repeat_interleave(count // positions(each), 1)
        for each in (f, a)
    )
    return ours - theirs


def absolute(x: Tensor) -> Tensor:
    return down(x).abs().sum() + right(x).abs().sum()


def chollet(x: Tensor) -> Tensor:
    """Keras' total variation, over all but the last row and column."""
    a = (x[..., :-1, :-1] - x[..., 1:, :-1]) ** 2
    b = (x[..., :-1, :-1] - x[..., :-1, 1:]) ** 2
    return ((a + b) ** 1.25).sum()


# ---- the systems ---------------------------------------------------------------------------------


def gatys_2015(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    style = sum(0.2 * gatys(f[name], a[name]) for name in FIVE)
    return 1.0 * 0.5 * sse(f["relu4_2"], p["relu4_2"]) + 1e3 * style


def gatys_2016(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = mse(f["relu4_2"], p["relu4_2"])
    for name in FIVE:
        apart = mse(gram(f[name]) / positions(f[name]), gram(a[name]) / positions(a[name]))
        loss = loss + 1e3 / channels(f[name]) ** 2 * apart
    return loss


def pastiche(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = 0.01 * mse(f["relu4_2"], p["relu4_2"])
    for name in FIVE:
        apart = mse(gram(f[name]) / positions(f[name]), gram(a[name]) / positions(a[name]))
        loss = loss + 10 / channels(f[name]) ** 2 * apart
    return loss


def lapstyle(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    filters = torch.zeros(1, 3, 3, 3, dtype=torch.float64)
    filters[0, :] = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    edges, of_photo = (
        functional.conv2d(functional.avg_pool2d(255 * pixels, 4), filters)
        for pixels in (x, p["input"])
    )
    return neural_style(x, f, p, a) + 100 * mse(edges, of_photo)


def snelgrove(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = x.new_zeros(())
    for octave in ("", *OCTAVES):
        for name in (f"pool1{octave}", f"relu3_2{octave}"):
            loss = loss + sse(gram(f[name]) / f[name].numel(), gram(a[name]) / a[name].numel())
    return loss


def sliced(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = x.new_zeros(())
    for block, count in ((1, 2), (2, 2), (3, 4), (4, 4)):
        for name in (f"relu{block}_{number}" for number in range(1, count + 1)):
            drawn = directions_of("random", channels(f[name]), 0)
            assert drawn is not None
            loss = loss + (matched(f[name], a[name], drawn.double())).square().mean()
    return loss


def risser(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    half = 1 / (2 * channels(f["conv4_2"]) ** 0.5 * positions(f["conv4_2"]) ** 0.5)
    style = sum(0.2 * gatys(f[name], a[name]) for name in FIVE) / 5
    histogram = sum(
        0.5 * matched(f[name], a[name], torch.eye(channels(f[name])).double()).square().mean()
        for name in ("relu1_1", "relu4_1")
    )
    height, width = x.shape[2:]
    rough = down(255 * x).square().sum() / (3 * height * (width - 1))
    rough = rough + right(255 * x).square().sum() / (3 * (height - 1) * width)
    content = 5 * half * sse(f["conv4_2"], p["conv4_2"])
    return content + 1e4 * style + 1e6 * histogram / 2 + 1e-3 * rough


def johnson(f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = 5 * mse(f["relu4_2"], p["relu4_2"])
    for name in FIVE:
        loss = loss + 100 * mse(gram(f[name]) / f[name].numel(), gram(a[name]) / a[name].numel())
    return loss


def neural_style(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    """Mended: smoothness over the whole picture."""
    pixels = 255 * x
    return johnson(f, p, a) + 1e-3 * 0.5 * ((down(pixels) ** 2).sum() + (right(pixels) ** 2).sum())


def neural_style_pt(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    return johnson(f, p, a) + 1e-3 * absolute(255 * x)


def crowson(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    """Mended: nothing is added to the covariances, and no diagonal leaves the picture."""
    loss = 0.015 * mse(f["relu4_2"], p["relu4_2"])
    for name, weight in zip(FIVE, (256, 64, 16, 4, 1), strict=True):
        means, covariances = zip(*(mean_and_covariance(maps[name]) for maps in (f, a)), strict=True)
        values, vectors = torch.linalg.eigh(covariances[1])
        root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
        fidelity = torch.linalg.eigvalsh(root @ covariances[0] @ root).sqrt()
        traces = covariances[0].diagonal() + covariances[1].diagonal()
        loss = loss + weight / 341 * (mse(*means) + (traces - 2 * fidelity).mean())
    count = x.numel()
    straight = ((down(x) ** 2).sum() + (right(x) ** 2).sum()) / count / 3
    falling, rising = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]
    diagonal = ((falling**2).sum() + (rising**2).sum()) / count / 12
    return loss + 2.0 * 2 * (straight + diagonal)


def mean_and_covariance(f: Tensor) -> tuple[Tensor, Tensor]:
    mean = f.mean((0, 2, 3))
    return mean, gram(f) / positions(f) - torch.outer(mean, mean)


def pystiche(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    style = [
        mse(gram(f[name]) / positions(f[name]), gram(a[name]) / positions(a[name])) for name in FIVE
    ]
    return mse(f["relu4_2"], p["relu4_2"]) + 1e3 * torch.stack(style).mean()


def gordicaleksa(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    style = (
        sum(sse(gram(f[name]) / f[name].numel(), gram(a[name]) / a[name].numel()) for name in FIVE)
        / 5
    )
    return 1e5 * mse(f["relu4_2"], p["relu4_2"]) + 3e4 * style + 1.0 * absolute(255 * x)


def pytorch_tutorial(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = mse(f["conv2_2"], p["conv2_2"])
    for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"):
        loss = loss + 1e6 * mse(gram(f[name]) / f[name].numel(), gram(a[name]) / a[name].numel())
    return loss


def tensorflow_tutorial(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    style = sum(
        mse(gram(f[name]) / positions(f[name]), gram(a[name]) / positions(a[name])) for name in FIVE
    )
    return 1e4 * mse(f["relu5_2"], p["relu5_2"]) + 1e-2 / 5 * style + 30 * absolute(x)


def chollet_style(x: Tensor, f: Maps, a: Maps) -> Tensor:
    height, width = x.shape[-2:]
    return sum(
        sse(gram(f[name]), gram(a[name])) / (4 * 3**2 * (height * width) ** 2) for name in FIVE
    )  # type: ignore[return-value]


def keras_example(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    content = 2.5e-8 * sse(f["relu5_2"], p["relu5_2"])
    return content + 1e-6 / 5 * chollet_style(x, f, a) + 1e-6 * chollet(255 * x)


def titu(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    return joshi(x, f, p, a) + 8.5e-5 * chollet(255 * x)


def joshi(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    return 0.025 * sse(f["relu5_2"], p["relu5_2"]) + 1 / 5 * chollet_style(x, f, a)


def anishathalye(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    """Mended: smoothness is a mean over all pixels."""
    style = sum(
        0.2 * mse(gram(f[name]) / f[name].numel(), gram(a[name]) / a[name].numel()) for name in FIVE
    )
    pixels = 255 * x
    smooth = ((down(pixels) ** 2).sum() + (right(pixels) ** 2).sum()) / pixels.numel()
    return 5 * mse(f["relu4_2"], p["relu4_2"]) + 500 * style + 100 * smooth


def cysmith(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    half = 1 / (2 * channels(f["conv4_2"]) ** 0.5 * positions(f["conv4_2"]) ** 0.5)
    style = sum(0.2 * gatys(f[name], a[name]) for name in FIVE) / 5
    return 5 * half * sse(f["conv4_2"], p["conv4_2"]) + 1e4 * style + 1e-3 * absolute(255 * x)


def course(f: Maps, p: Maps, a: Maps) -> Tensor:
    content = sse(f["relu4_2"], p["relu4_2"]) / (4 * f["relu4_2"].numel())
    return 10 * content + 40 * sum(0.2 * gatys(f[name], a[name]) for name in FIVE)


def artificial_artwork(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    return course(f, p, a)


def picasso_me(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    return course(f, p, a)


def spst(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    loss = gatys_2016(x, f, p, a)
    for name in FIVE:
        weight = 1e3 / channels(f[name]) ** 2 * channels(f[name]) ** 2 * 1000 / 100
        means, covariances = zip(*(mean_and_covariance(maps[name]) for maps in (f, a)), strict=True)
        # The root has a derivative.
        assert all((covariance.diagonal() > 1e-6).all() for covariance in covariances)
        loss = (
            loss
            + weight * mse(*means)
            + weight * mse(*(covariance.diagonal().sqrt() for covariance in covariances))
        )
    return loss


def nst_vgg19(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    """Mended: beyond the border the blur sees the edge."""
    k = 4 / (100 + 20) ** 0.2
    loss = sum(1e-3 * mse(f[name], k * p[name]) for name in ("conv2_1", "conv3_2", "conv3_3"))
    for name in ("conv1_2", "conv2_2", "conv3_2", "conv3_3", "conv4_1"):
        loss = loss + 1e-6 * mse(
            gram(f[name]) / f[name].numel() ** 0.5, k * gram(a[name]) / a[name].numel() ** 0.5
        )
    loss = loss + 28 / 100**1.2 * 100 * (functional.relu(-x).mean() + functional.relu(x - 1).mean())
    axis = torch.linspace(-1, 1, 3, dtype=x.dtype)
    kernel = torch.exp(-(axis[:, None] ** 2 + axis**2) / 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 3, 3)
    blurred = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    furthest = (blurred - x).abs().max(dim=1, keepdim=True)[0]
    return loss + 5 * k * ((furthest * 1.2) ** 2).mean() / 1.2**2


def berkeley(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    """The article's weights of means, carried over to sums at 512x384."""
    values = 512 * 32 * 24
    return 1e3 / values * sse(f["relu5_2"], p["relu5_2"]) + 1e-2 * 4 / 5 * sum(
        gatys(f[name], a[name]) for name in FIVE
    )


def haslam(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    content = sse(f["relu4_2"], p["relu4_2"]) / (
        4 * channels(f["relu4_2"]) * positions(f["relu4_2"])
    )
    style = sum(
        w * gatys(f[name], a[name]) for name, w in zip(FIVE, (0.5, 1.0, 1.5, 3.0, 4.0), strict=True)
    )
    return 5 * content + 100 * style


def vgg_pytorch(x: Tensor, f: Maps, p: Maps, a: Maps) -> Tensor:
    return 0.5 * sse(f["relu4_2"], p["relu4_2"]) + 1e6 * sum(
        0.2 * gatys(f[name], a[name]) for name in FIVE
    )


@dataclass(frozen=True)
class System:
    """A formula, the network that it is for, and how a painting of 96x80 (rows first) is shown
    beside a picture of 64x96.

    ``real``: the recipe's numbers hold for the real network's channels alone; pictures are then
    half as large. ``scale``: the pictures are so many times as large. ``octaves``: the formula
    takes maps of the pictures halved once, twice and three times too.
    """

    formula: Formula
    painting: tuple[int, int]
    gain: float = 1.0
    pooling: str = "max"
    network: str = "vgg19"
    padding: str = "zero"
    real: bool = False
    tolerance: float = 1e-10
    scale: float = 1.0
    octaves: bool = False


LONG, SHORT, HEIGHT, WIDTH, SQUASHED, AREA = (
    (96, 80),
    (77, 64),
    (64, 53),
    (115, 96),
    (64, 96),
    (86, 72),
)

SYSTEMS = {
    "anishathalye": System(anishathalye, WIDTH, CAFFE),
    "artificial-artwork": System(artificial_artwork, SQUASHED, CAFFE, "average"),
    "berkeley": System(berkeley, AREA, CAFFE),
    # Roots of small eigenvalues keep half of their digits.
    "crowson": System(crowson, LONG, padding="replicate", tolerance=1e-8),
    "cysmith": System(cysmith, SQUASHED, CAFFE, "average"),
    "gatys-2015": System(gatys_2015, AREA, CAFFE, "average"),
    "gatys-2016": System(gatys_2016, SHORT),
    "gordicaleksa": System(gordicaleksa, HEIGHT, CAFFE),
    "haslam": System(haslam, SQUASHED, CAFFE, "average"),
    "joshi": System(joshi, (32, 48), CAFFE, network="vgg16", real=True),
    "keras-example": System(keras_example, (32, 48), CAFFE, real=True),
    # The photo's squares are averaged in float32.
    "lapstyle": System(lapstyle, LONG, CAFFE, tolerance=1e-6),
    "neural-style": System(neural_style, LONG, CAFFE),
    "neural-style-pt": System(neural_style_pt, LONG, CAFFE),
    "nst-vgg19": System(nst_vgg19, (48, 40), real=True),
    "pastiche": System(pastiche, AREA, CAFFE),
    "picasso-me": System(picasso_me, SQUASHED, CAFFE, "average"),
    "pystiche": System(pystiche, SHORT),
    "pytorch-tutorial": System(pytorch_tutorial, SHORT),
    # Projections are sorted into bins.
    "risser": System(risser, SQUASHED, CAFFE, "average", tolerance=0.01),
    "sliced": System(sliced, AREA, pooling="average", padding="reflect", tolerance=0.01),
    # The painting is halved in float32.
    "snelgrove": System(
        snelgrove, (429, 358), pooling="average", tolerance=1e-6, scale=5, octaves=True
    ),
    "spst": System(spst, SHORT),
    "tensorflow-tutorial": System(tensorflow_tutorial, LONG, CAFFE),
    "titu": System(titu, (32, 48), CAFFE, network="vgg16", real=True),
    "vgg-pytorch": System(vgg_pytorch, AREA),
}

OCTAVES = (" at 1/2", " at 1/4", " at 1/8")
NARROW = {
    "vgg19": ((4, 4), (5, 5), (6,) * 4, (7,) * 4, (8,) * 4),
    "vgg16": ((4, 4), (5, 5), (6,) * 3, (7,) * 3, (8,) * 3),
}

# ---- the networks --------------------------------------------------------------------------------


@cache
def random_weights(configuration: str) -> Maps:
    """In float64; the input step is that of the network of Gatys, which sees BGR * 255 - mean, in
    maps of about 1.
    """
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator) * 2 - 1

    mean = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)
    weights = {"input.weight": 255 * torch.eye(3).double().flip(0) / 60, "input.bias": -mean / 60}
    for layer in vgg.layers_up_to(configuration, ["relu5_2"]):
        if layer.kind == "conv":
            scale = (9 * layer.channels_in / 6) ** 0.5  # which keeps maps as large as they are
            kernels = rand(layer.channels, layer.channels_in, 3, 3) / scale
            # Kernels that answer little to what is flat, and biases above 0: no channel is dead.
            weights[f"{layer.name}.weight"] = kernels - 0.9 * kernels.mean((2, 3), keepdim=True)
            weights[f"{layer.name}.bias"] = rand(layer.channels) / 4 + 0.5
    return weights


def plain(x: Tensor, configuration: str, deepest: str, system: System) -> Maps:
    """Every map up to the deepest."""
    weights = random_weights(configuration)
    found: Maps = {"input": x.double()}
    for octave, reduced in octaves_of(x) if system.octaves else ():
        maps = plain(reduced, configuration, deepest, replace(system, octaves=False))
        found |= {f"{name}{octave}": features for name, features in maps.items()}
    x = functional.conv2d(
        x.double(), weights["input.weight"][:, :, None, None], weights["input.bias"]
    )
    for layer in vgg.layers_up_to(configuration, [deepest])[1:]:
        if layer.kind == "conv":
            mode = "constant" if system.padding == "zero" else system.padding
            x = functional.pad(x, (1, 1, 1, 1), mode)
            x = functional.conv2d(x, weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"])
        elif layer.kind == "relu":
            x = x.relu()
        else:
            x = (
                functional.max_pool2d(x, 2)
                if system.pooling == "max"
                else functional.avg_pool2d(x, 2)
            )
        found[layer.name] = system.gain * x
    return found


def octaves_of(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A Gaussian pyramid, rows and columns one after the other."""
    taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05], dtype=torch.float64)
    for octave in OCTAVES:
        rows = functional.conv2d(x.double().movedim(1, 0), taps.view(1, 1, 5, 1), stride=(2, 1))
        x = functional.conv2d(rows, taps.view(1, 1, 1, 5), stride=(1, 2)).movedim(0, 1)
        yield octave, x


def picture(height: int, width: int, seed: int) -> images.Pixels:
    """Blobs over noise, as pictures have large and small forms."""
    random = np.random.default_rng(seed)
    coarse = images.resize(
        random.random((height // 8, width // 8, 3), np.float32), Size(height, width)
    )
    return (0.7 * coarse + 0.3 * random.random((height, width, 3), np.float32)).astype(np.float32)


# ---- they agree ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_recipe_is_its_systems_formula(name: str, monkeypatch: pytest.MonkeyPatch):
    system, made = SYSTEMS[name], loading.load(name)
    monkeypatch.setitem(vgg.CONFIGURATIONS, "narrow", NARROW[system.network])
    configuration = vgg.CONFIGURATION_OF[system.network] if system.real else "narrow"
    scale = 0.5 if system.real else system.scale
    shape, painting_shape = ((int(a * scale), int(b * scale)) for a, b in ((64, 96), (96, 80)))
    photo, painting = picture(*shape, 1), picture(*painting_shape, 2)
    # Outside 0..1 here and there.
    x = 1.2 * images.to_tensor(picture(*shape, 3)).double() - 0.1
    assert made.network.name == system.network

    size = Size(*photo.shape[:2])
    network = Network(
        random_weights(configuration),
        configuration,
        made.used_layers,
        pooling=made.network.pooling,
        padding=made.network.padding,
        kernel=KERNELS["float64"],
        # The weights are random ones.
        gain=made.network.gain * (CAFFE if made.network.scale == "caffe" else 1),
    )
    made = made.model_copy(update={"paintings": (records.Input(path="painting"),)})
    problem = Problem(made, schedule.make_plan(made, size), network, photo, (painting,))
    value, gradient = loss.evaluation(size, problem, Execution())(x)

    deepest = max(
        network.layers, key=lambda layer: (layer.stride, layer.name[4:], layer.kind == "relu")
    ).name
    shown = images.resize(painting, Size(*system.painting))
    p, a = (
        plain(images.to_tensor(pixels), configuration, deepest, system) for pixels in (photo, shown)
    )
    leaf = x.clone().requires_grad_()
    expected_loss = system.formula(leaf, plain(leaf, configuration, deepest, system), p, a)
    (expected,) = torch.autograd.grad(expected_loss, leaf)

    assert value.total == pytest.approx(expected_loss.item(), rel=system.tolerance)
    assert (gradient - expected).norm() <= 10 * system.tolerance * expected.norm()


def test_every_recipe_with_a_source_has_its_formula_here():
    published = {name for name in loading.names() if loading.load(name).source}
    assert published == set(SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_recipe_says_what_it_is(name: str):
    file = resources.files("impasto.recipe").joinpath("published", f"{name}.toml")
    text = file.read_text("utf-8")
    made = loading.load(name)
    assert text.startswith("# ")
    assert made.name == name
    assert made.summary.endswith(".") and made.source
    assert made.schedule.patience == 0  # it ends when the system would
    assert made.strength == 50
    if made.network.gain != 1:
        assert "57.6" in text.replace(f"gain = {made.network.gain}", "", 1)  # and why
    # Which are for the very network.
    assert (made.network.scale == "fetched") == (
        name in ("gatys-2016", "sliced", "snelgrove", "spst")
    )
    assert loading.from_toml(made.to_toml()) == made
