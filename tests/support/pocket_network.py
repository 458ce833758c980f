"""Networks of a few channels with random weights in place of the real ones.

Nothing is fetched, and a picture takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto.hardware import kernel_cache
from impasto.networks import alexnet, vgg, weights
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.planning import speed

from .pictures import save_random

PAIR = ("photo.png", "painting.png")  # the photo and painting in the working folder
POCKET = {
    "D": ((4, 4), (6, 6), (8,) * 3, (8,) * 3, (8,) * 3),
    "E": ((4, 4), (6, 6), (8,) * 4, (8,) * 4, (8,) * 4),
}


def use_pocket_network(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Paint with a pocket VGG-19, time no kernel, and keep the cache and working folder in
    ``folder``.
    """
    monkeypatch.setitem(vgg.CONFIGURATIONS, "E", POCKET["E"])
    monkeypatch.setattr(weights, "load", lambda name, **_: pocket_weights("E"))
    monkeypatch.setattr(kernel_cache, "fastest_kernel", lambda precision, where: KERNELS["conv2d"])
    monkeypatch.setenv("IMPASTO_CACHE", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(folder)


def use_pocket_network_and_pictures(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The same, with photo.png, painting.png and other.png in the folder."""
    use_pocket_network(monkeypatch, folder)
    save_random("photo.png", 75, 100, seed=0)
    save_random("painting.png", 60, 80, seed=1)
    save_random("other.png", 60, 80, seed=2)


def use_pocket_evaluators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate with pocket versions of VGG-16, VGG-19 and AlexNet, and uniform LPIPS weights."""
    for name, blocks in POCKET.items():
        monkeypatch.setitem(vgg.CONFIGURATIONS, name, blocks)
    widths = {
        "vgg16": (4, 6, 8, 8, 8),
        "alexnet": tuple(layer.channels for layer in alexnet.LAYERS),
    }
    monkeypatch.setattr(
        weights, "load", lambda name, **_: pocket_weights(vgg.CONFIGURATION_OF[name])
    )
    monkeypatch.setattr(weights, "load_alexnet", lambda **_: pocket_alexnet())
    monkeypatch.setattr(
        weights,
        "load_heads",
        lambda name, **_: tuple(torch.full((n,), 1 / n) for n in widths[name]),
    )


def use_pocket_painter_and_evaluators(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Paint and evaluate with pocket networks; photo.png and painting.png are in the folder."""
    use_pocket_network(monkeypatch, folder)
    use_pocket_evaluators(monkeypatch)
    save_random("photo.png", 75, 100)
    save_random("painting.png", 60, 80, seed=1)


def pocket_weights(configuration: str) -> dict[str, torch.Tensor]:
    """Random weights for a VGG configuration, the same at each call."""
    return _random_weights(
        [
            (layer.name, layer.channels, layer.channels_in, 3)
            for layer in vgg.layers(configuration)
            if layer.kind == "conv"
        ]
    )


def pocket_alexnet() -> dict[str, torch.Tensor]:
    """Random weights for AlexNet, the same at each call."""
    return _random_weights(
        [(layer.name, layer.channels, layer.channels_in, layer.window) for layer in alexnet.LAYERS]
    )


def _random_weights(layers: list[tuple[str, int, int, int]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    tensors = {"input.weight": torch.eye(3) * 2, "input.bias": -torch.ones(3)}
    for name, channels, channels_in, window in layers:
        scale = (2 / (window**2 * channels_in)) ** 0.5
        shape = (channels, channels_in, window, window)
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale
        tensors[f"{name}.bias"] = torch.randn(channels, generator=generator) / 10
    return tensors


def set_speed(monkeypatch: pytest.MonkeyPatch, seconds_per_pixel: float) -> None:
    """Report this time for each pixel of an evaluation, and none for anything else."""
    fixed = speed.Speed(
        (10_000, 0.0, 10_000 * seconds_per_pixel), (20_000, 0.0, 20_000 * seconds_per_pixel)
    )
    monkeypatch.setattr(speed, "measure_speed", lambda *_: fixed)


def return_nan_when(monkeypatch: pytest.MonkeyPatch, failing: Callable[[], bool]) -> None:
    """Make every feature map NaN while ``failing`` returns true."""
    call = Network.__call__

    def broken(self: Network, picture: torch.Tensor, **options: Any) -> dict[str, torch.Tensor]:
        factor = float("nan") if failing() else 1.0
        return {name: map_ * factor for name, map_ in call(self, picture, **options).items()}

    monkeypatch.setattr(Network, "__call__", broken)
