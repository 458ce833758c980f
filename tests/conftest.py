"""Fixtures that all tests share: small networks with random weights, and random pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from impasto.networks import vgg
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from tests.support.pocket_network import (
    use_pocket_network,
    use_pocket_network_and_pictures,
    use_pocket_painter_and_evaluators,
)

settings.register_profile(
    "impasto", deadline=None, max_examples=25, derandomize=True, database=None
)
settings.load_profile("impasto")

# A pocket network, and networks with the geometry of configurations A and E but next to no
# channels.
SMALL = {
    "pocket": ((4,), (6, 6), (8,)),
    "narrow A": ((2,), (2,), (2, 2), (2, 2), (2, 2)),
    "narrow E": ((2, 2), (2, 2), (2,) * 4, (2,) * 4, (2,) * 4),
}

Weights = dict[str, Tensor]

THREADS = torch.get_num_threads()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Use one thread for small feature maps: waiting for a second takes longer than the work."""
    torch.set_num_threads(1 if item.get_closest_marker("network") is None else THREADS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real networks are slow: ``-m "not slow"`` leaves them out too."""
    for item in items:
        if item.get_closest_marker("network") is not None:
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def small_configurations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, blocks in SMALL.items():
            patch.setitem(vgg.CONFIGURATIONS, name, blocks)
        yield


@pytest.fixture(scope="session")
def weights_of() -> Callable[..., Weights]:
    """A function: configuration -> random float64 weights.

    With ``positive`` weights every feature map is above zero.
    """

    def make(configuration: str = "pocket", seed: int = 0, positive: bool = False) -> Weights:
        generator = torch.Generator().manual_seed(seed)

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, dtype=torch.float64, generator=generator)

        def spread(*shape: int) -> Tensor:
            return rand(*shape) + 0.1 if positive else rand(*shape) * 2 - 1

        weights = {
            "input.weight": torch.eye(3).double().flip(0) + spread(3, 3) / 4,
            "input.bias": spread(3) / 4,
        }
        for layer in vgg.layers(configuration):
            if layer.kind == "conv":
                size = (3 * layer.channels_in) ** 0.5 * (2 if positive else 1)
                weights[f"{layer.name}.weight"] = (
                    spread(layer.channels, layer.channels_in, 3, 3) / size
                )
                weights[f"{layer.name}.bias"] = spread(layer.channels) / 4
        return weights

    return make


@pytest.fixture(scope="session")
def network_of(weights_of: Callable[..., Weights]) -> Callable[..., Network]:
    """A function: layer names -> a network with random weights, in float64 by default."""

    def make(
        *wanted: str,
        configuration: str = "pocket",
        seed: int = 0,
        positive: bool = False,
        kernel: str = "float64",
        **how: object,
    ) -> Network:
        weights = weights_of(configuration, seed, positive)
        return Network(weights, configuration, wanted, kernel=KERNELS[kernel], **how)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def picture_of() -> Callable[..., Tensor]:
    """A function: height, width -> a random picture (1, 3, height, width) in float64, 0..1."""

    def make(height: int, width: int, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(1, 3, height, width, dtype=torch.float64, generator=generator)

    return make


@pytest.fixture
def pocket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pocket network paints, and ``tmp_path`` is the working folder."""
    use_pocket_network(monkeypatch, tmp_path)


@pytest.fixture
def pocket_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same, with photo.png, painting.png and other.png in the folder."""
    use_pocket_network_and_pictures(monkeypatch, tmp_path)


@pytest.fixture
def pocket_evaluators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pocket networks paint and evaluate; photo.png and painting.png are in the folder."""
    use_pocket_painter_and_evaluators(monkeypatch, tmp_path)
