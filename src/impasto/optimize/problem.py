"""What is minimised: the recipe, the network and the pictures; and the first pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto import images
from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.optimize.execution import Execution
from impasto.planning.schedule import Plan
from impasto.recipe.records import Recipe

Pixels = images.Pixels


@dataclass(frozen=True)
class Problem:
    """What a loss is made from: recipe, stages, network, and the pictures as read.

    ``palette`` (K, 3) are the colors of a painting of few colors; None for others.
    ``protected`` (H, W) is the mask of the parts of the photo that keep their shape, 0..1; None if
    there are none.

    Pictures are float32 (H, W, 3), sRGB-encoded, 0..1. ``start`` is the picture file that the
    search starts from, where the recipe names one.
    """

    recipe: Recipe
    plan: Plan
    network: Network
    photo: Pixels
    paintings: tuple[Pixels, ...]
    start: Pixels | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    protected: NDArray[np.float32] | None = None
    palette: NDArray[np.float32] | None = None


def first_pixels(problem: Problem, execution: Execution) -> Tensor:
    """Return the pixels that the search starts from, (1, 3, H, W) at the size of the first stage.

    They are the photo, noise, the painting or a picture file, mixed with the recipe's share of
    noise and within 0..1. Noise is drawn on the CPU, so that it is the same on every device.
    """
    size, schedule = problem.plan.stages[0].size, problem.recipe.schedule
    if schedule.start == "noise":
        return _noise(size, problem).clamp(0, 1).to(problem.device)
    sources = {"content": problem.photo, "style": problem.paintings[0]}
    source = sources.get(schedule.start, problem.start)
    assert source is not None
    pixels = resized(source, size, problem, execution)
    if schedule.noise:
        noise = _noise(size, problem).to(pixels)
        pixels = torch.lerp(pixels, noise, schedule.noise).clamp(0, 1)
    return pixels


def _noise(size: Size, problem: Problem) -> Tensor:
    """(1, 3, H, W) on the CPU, from the recipe's seed and distribution, not clamped to 0..1."""
    schedule = problem.recipe.schedule
    generator = torch.Generator().manual_seed(problem.recipe.seed)
    if schedule.noise_kind == "normal":
        noise = torch.randn((1, 3, *size), generator=generator)
    else:
        noise = torch.rand((1, 3, *size), generator=generator) * 2 - 1
    mean = problem.network.mean_color.view(1, 3, 1, 1)
    return noise * schedule.noise_spread + (mean if schedule.noise_centre == "mean" else 0.5)


def resized(pixels: Pixels, size: Size, problem: Problem, execution: Execution) -> Tensor:
    execution.release_memory()
    return images.to_tensor(images.resize(pixels, size)).to(problem.device)
