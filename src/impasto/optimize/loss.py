"""What is to be minimised: the terms of the loss of one size of a picture, and the pixels that a
search sets out from.

It knows the recipe, the network and the pictures as read, and what of them becomes a target. It
refuses to know the search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from impasto import images
from impasto.geometry import Grid, Size
from impasto.hardware import allocator
from impasto.networks.features import Network
from impasto.objectives.base import Objective
from impasto.objectives.content import Content
from impasto.objectives.moments import Moments, Style, blend, exaggerated, measure, summarise
from impasto.objectives.smooth import Bounds, Smooth
from impasto.optimize.tiling import Value, measured, targets, value_and_gradient
from impasto.planning.schedule import Plan, painting_size
from impasto.recipe.records import Recipe
from impasto.storage.tensors import MemoryStore, TensorStore

Evaluate = Callable[[Tensor], tuple[Value, Tensor]]  # pixels -> loss and gradient


@dataclass(frozen=True)
class Tools:
    """What there is to work with: the recipe, the network, the pictures as read, the device, and
    where tensors wait.
    """

    recipe: Recipe
    network: Network
    photo: images.Pixels
    paintings: tuple[images.Pixels, ...]
    start: images.Pixels | None = None  # the picture file to start from, where the recipe names one
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tile: int = 0  # largest side of a tile in pixels; 0: the whole picture at once
    kept: int = 1  # tiles whose maps wait for the way back
    reuse: bool = True  # whether freed memory is kept for the next evaluation
    targets: TensorStore = field(default_factory=MemoryStore)  # for the photo's feature maps
    history: TensorStore = field(default_factory=MemoryStore)  # for what the search remembers
    disk: Callable[[], TensorStore] | None = (
        None  # makes a place for either, for when memory runs out
    )

    def grid(self, size: Size) -> Grid:
        """How a picture of this size is cut."""
        return self.network.grid(size, self.tile)

    def tidy(self) -> None:
        """Between maps and whole pictures: give back what the one has left before the other takes
        more.
        """
        if not self.reuse:
            allocator.give_back_memory()


def evaluation(size: Size, plan: Plan, tools: Tools) -> Evaluate:
    """The loss and its gradient as a function of a picture of this size."""
    objectives = objectives_for(size, plan, tools)
    grid = tools.grid(size)
    encode = tools.network.within(size)
    return lambda pixels: value_and_gradient(pixels, encode, objectives, grid, tools.kept)


def first_pixels(plan: Plan, tools: Tools) -> Tensor:
    """What the search starts from, in the size of the first stage and within 0..1: the photo,
    noise, the painting, or a picture, of which the recipe's share gives way to noise.

    Noise is drawn on the CPU from the recipe's seed, so that it is the same on every device.
    """
    size, schedule = plan.stages[0].size, tools.recipe.schedule
    if schedule.start == "noise":
        return _noise(size, tools).clamp(0, 1).to(tools.device)
    source = {"content": tools.photo, "style": tools.paintings[0]}.get(schedule.start, tools.start)
    assert source is not None
    pixels = _scaled(source, size, tools)
    if schedule.noise:
        pixels = torch.lerp(pixels, _noise(size, tools).to(pixels), schedule.noise).clamp(0, 1)
    return pixels


def _noise(size: Size, tools: Tools) -> Tensor:
    """(1, 3, H, W) on the CPU, as the recipe wants it spread; not cut to 0..1."""
    schedule = tools.recipe.schedule
    generator = torch.Generator().manual_seed(tools.recipe.seed)
    if schedule.noise_kind == "normal":
        drawn = torch.randn((1, 3, *size), generator=generator)
    else:
        drawn = torch.rand((1, 3, *size), generator=generator) * 2 - 1
    centre = tools.network.mean.view(1, 3, 1, 1) if schedule.noise_centre == "mean" else 0.5
    return drawn * schedule.noise_spread + centre


def objectives_for(size: Size, plan: Plan, tools: Tools) -> list[Objective]:
    """The terms of the loss for a picture of this size, their targets measured at it."""
    recipe, network = tools.recipe, tools.network
    strides = {layer.name: layer.stride for layer in network.layers}
    objectives: list[Objective] = []
    if recipe.content.weight > 0:
        wanted = {name: strides[name] for name in recipe.content.layers}
        encode, gain = network.within(size), recipe.content.gain
        seen = (
            encode
            if gain == 1
            else lambda pixels: {name: map * gain for name, map in encode(pixels).items()}
        )
        maps = targets(
            _scaled(tools.photo, size, tools), seen, wanted, tools.grid(size), tools.targets
        )
        weight = recipe.content.weight * plan.content_factor
        objectives.append(
            Content(maps, strides, recipe.content.layers, recipe.content.scaling, weight)
        )
    if recipe.style.weight > 0:
        found = [_moments(painting, size, tools) for painting in tools.paintings]
        target = blend(found, [painting.weight for painting in recipe.paintings])
        style = recipe.style
        target = exaggerated(target, style.gain) if style.gain != 1 else target
        objectives.append(Style(target, strides, style.layers, style.statistics, style.weight))
    if recipe.smooth.weight > 0:
        objectives.append(
            Smooth(recipe.smooth.weight, recipe.smooth.measure, recipe.smooth.scaling)
        )
    if recipe.bounds.weight > 0:
        objectives.append(Bounds(recipe.bounds.weight))
    return objectives


def _scaled(pixels: images.Pixels, size: Size, tools: Tools) -> Tensor:
    tools.tidy()
    return images.to_tensor(images.resize(pixels, size)).to(tools.device)


def _moments(painting: images.Pixels, size: Size, tools: Tools) -> dict[str, Moments]:
    """The statistics of a painting at the size that the recipe gives it beside a picture of this
    size.
    """
    style, network = tools.recipe.style, tools.network
    strides = {name: network.layer(name).stride for name in style.layers}
    own = painting_size(Size(*painting.shape[:2]), size, style.scale, style.sizing, style.enlarge)
    pixels = _scaled(painting, own, tools)
    encode = network.within(own)
    # A plan's memory is reckoned for the picture: a much larger painting is looked at in tiles of
    # the picture's size.
    grid = network.grid(own, tools.tile or (size.long_side if own.pixels > 4 * size.pixels else 0))
    return summarise(
        measured(pixels, encode, lambda maps, where: measure(maps, strides, where), grid)
    )
