"""What is minimised: the terms of the loss at one size, their targets, and the first pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from impasto import images
from impasto.errors import BadRecipe
from impasto.geometry import Region, Size
from impasto.networks.features import Network
from impasto.objectives.base import Objective, TileContext
from impasto.objectives.bounds import Bounds
from impasto.objectives.content import Content
from impasto.objectives.laplacian import Laplacian
from impasto.objectives.moments import (
    Moments,
    mixture_moments,
    moment_sums,
    moments_from_sums,
    scaled_moments,
)
from impasto.objectives.nearest import Nearest
from impasto.objectives.normalized_content import Faces, NormalizedContent
from impasto.objectives.smooth import Smooth
from impasto.objectives.style import Style
from impasto.optimize.execution import Execution
from impasto.optimize.matching import EncodedPicture, match_places, painting_bank
from impasto.optimize.octaves import Evaluate, halve, halved, sum_over_scales
from impasto.optimize.tiling import (
    Encoder,
    store_features,
    total_stats,
    value_and_gradient,
)
from impasto.planning.schedule import LEAST_SIDE, Plan, painting_size
from impasto.recipe.records import Recipe
from impasto.storage.tensors import StoredTensor

Pixels = images.Pixels
Targets = Mapping[str, Mapping[Region, StoredTensor]]
Term = Content | NormalizedContent | Faces | Style | Nearest | Laplacian | Smooth | Bounds


@dataclass(frozen=True)
class Problem:
    """What a loss is made from: recipe, stages, network, and the pictures as read.

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


def objective_types(recipe: Recipe) -> list[type[Term]]:
    """The classes of the terms with a weight above 0, in the order of ``make_objectives``."""
    normalized = recipe.content.scaling == "normalized"
    weights: list[tuple[type[Term], float]] = [
        (NormalizedContent if normalized else Content, recipe.content.weight),
        (Faces, _faces_weight(recipe)),
        (Style, recipe.style.weight),
        (Nearest, recipe.nearest.weight),
        (Laplacian, recipe.laplacian.weight),
        (Smooth, recipe.smooth.weight),
        (Bounds, recipe.bounds.weight),
    ]
    return [kind for kind, weight in weights if weight > 0]


def _faces_weight(recipe: Recipe) -> float:
    """The weight of the faces by the content weight of as many pixels."""
    return recipe.content.weight * recipe.protect.amount * (recipe.protect.regions == "faces")


def can_be_tiled(recipe: Recipe) -> bool:
    """Whether every term of the loss is additive over regions of the picture."""
    return all(kind.additive for kind in objective_types(recipe))


def check_tiling(recipe: Recipe) -> bool:
    """Whether the picture may be cut into tiles.

    Raises:
        BadRecipe: tiles are asked for, and a term of the loss is not additive over tiles.
    """
    whole = [kind.name for kind in objective_types(recipe) if not kind.additive]
    if whole and recipe.compute.tile:
        raise BadRecipe(
            f"The {whole[0]} term needs the whole picture at once, and --tile "
            f"{recipe.compute.tile} asks for tiles.",
            "Leave --tile out, or choose other terms.",
        )
    return not whole


def evaluation(size: Size, problem: Problem, execution: Execution) -> Evaluate:
    """Return the function that computes the loss and its gradient for a picture of this size."""
    return _evaluate(_terms_by_scale(size, problem, execution), size, problem, execution)


def term_evaluations(size: Size, problem: Problem, execution: Execution) -> dict[str, Evaluate]:
    """Return, by the name of each term of the loss, the same function for that term alone."""
    scales = _terms_by_scale(size, problem, execution)
    evaluations = {}
    for name in [term.name for term in scales[0]]:
        own = [[term for term in terms if term.name == name] for terms in scales]
        evaluations[name] = _evaluate(own, size, problem, execution)
    return evaluations


def _terms_by_scale(size: Size, problem: Problem, execution: Execution) -> list[list[Objective]]:
    """The terms of the loss for the picture, for the picture at half its size, and so on."""
    has_style = Style in objective_types(problem.recipe)
    coarser = range(1, _octaves(size, problem) if has_style else 1)
    scales: list[list[Objective]] = [make_objectives(size, problem, execution)]
    scales += [[_style(size, problem, execution, octave)] for octave in coarser]
    return scales


def _evaluate(
    scales: Sequence[Sequence[Objective]], size: Size, problem: Problem, execution: Execution
) -> Evaluate:
    evaluations: list[Evaluate] = []
    for objectives in scales:
        if objectives:
            encode, grid = problem.network.encoder(size), execution.grid(problem.network, size)
            evaluations.append(
                partial(
                    value_and_gradient,
                    encode=encode,
                    objectives=objectives,
                    grid=grid,
                    tiles_in_memory=execution.tiles_in_memory,
                )
            )
        size = halved(size)
    return sum_over_scales(evaluations)


def make_objectives(size: Size, problem: Problem, execution: Execution) -> list[Objective]:
    """Return the terms of the loss at this size, their targets measured."""
    recipe, network = problem.recipe, problem.network
    strides = {layer.name: layer.stride for layer in network.layers}
    targets = cache(lambda: _content_targets(size, problem, execution, strides))
    makers: dict[type[Term], Callable[[], Objective]] = {
        Content: lambda: _content(problem, targets(), strides),
        NormalizedContent: lambda: _content(problem, targets(), strides),
        Faces: lambda: _faces(size, problem, execution, targets(), strides),
        Style: lambda: _style(size, problem, execution),
        Nearest: lambda: _nearest(size, problem, execution, strides),
        Laplacian: lambda: _laplacian(size, problem, execution),
        Smooth: lambda: Smooth(recipe.smooth.weight, recipe.smooth.measure, recipe.smooth.scaling),
        Bounds: lambda: Bounds(recipe.bounds.weight),
    }
    absent = {Faces} if problem.protected is None else set()
    return [makers[kind]() for kind in objective_types(recipe) if kind not in absent]


def _content_targets(
    size: Size, problem: Problem, execution: Execution, strides: Mapping[str, int]
) -> Targets:
    """The photo's feature maps in the content layers, by layer and core of a tile."""
    content, network = problem.recipe.content, problem.network
    photo = _resized(problem.photo, size, problem, execution)
    layers = {name: strides[name] for name in content.layers}
    encode = _scaled_encoder(network.encoder(size), content.gain)
    return store_features(photo, encode, layers, execution.grid(network, size), execution.targets)


def _content(
    problem: Problem, targets: Targets, strides: Mapping[str, int]
) -> Content | NormalizedContent:
    content = problem.recipe.content
    weight = content.weight * problem.plan.content_factor
    if content.scaling == "normalized":
        return NormalizedContent(targets, strides, content.layers, weight)
    return Content(targets, strides, content.layers, content.scaling, weight)


def _faces(
    size: Size,
    problem: Problem,
    execution: Execution,
    targets: Targets,
    strides: Mapping[str, int],
) -> Faces:
    """The term of the faces, with the weight that content has there times the amount."""
    assert problem.protected is not None
    mask = torch.from_numpy(problem.protected)[None, None].to(problem.device)
    mask = functional.interpolate(mask, size=tuple(size), mode="area")
    layers = problem.recipe.content.layers
    by_layer: dict[str, dict[Region, Tensor]] = {}
    for name in layers:
        whole = functional.avg_pool2d(mask, strides[name])[0, 0]
        by_layer[name] = {
            tile.core: whole[TileContext(tile, size).region(strides[name]).slices]
            for tile in execution.grid(problem.network, size)
        }
    weight = _faces_weight(problem.recipe) * problem.plan.content_factor * float(mask.mean())
    return Faces(targets, strides, layers, weight, by_layer)


def _laplacian(size: Size, problem: Problem, execution: Execution) -> Laplacian:
    term, network = problem.recipe.laplacian, problem.network
    in_tiles = len(execution.grid(network, size)) > 1
    if in_tiles and (network.stride % term.pool or network.halo < term.pool):
        raise BadRecipe(
            f"Squares of {term.pool} px of the Laplacian term do not fit tiles of these layers.",
            "Compare deeper layers, or leave --tile out.",
        )
    photo = _resized(problem.photo, size, problem, execution)
    return Laplacian(photo, term.pool, term.weight * problem.plan.content_factor)


def _scaled_encoder(encode: Encoder, gain: float) -> Encoder:
    """The encoder with every feature map multiplied by ``gain``."""
    if gain == 1:
        return encode
    return lambda pixels: {name: features * gain for name, features in encode(pixels).items()}


def _style(size: Size, problem: Problem, execution: Execution, octave: int = 0) -> Style:
    """The style term of the picture halved ``octave`` times, with its share of the weight."""
    style = problem.recipe.style
    strides = {name: problem.network.layer(name).stride for name in style.layers}
    moments = [
        _moments(painting, size, problem, execution, octave) for painting in problem.paintings
    ]
    target = mixture_moments(moments, [painting.weight for painting in problem.recipe.paintings])
    target = scaled_moments(target, style.gain) if style.gain != 1 else target
    weight = style.weight / _octaves(size, problem)
    return Style(target, strides, style.layers, style.statistics, weight)


def _octaves(size: Size, problem: Problem) -> int:
    """How often style is compared: as often as the recipe says and both pictures are large enough.

    The picture and the paintings halved for the last time need ``LEAST_SIDE`` px.
    """
    wanted = problem.recipe.style.octaves
    sizes = [_painting_size(painting, size, problem.recipe) for painting in problem.paintings]
    smallest = min((size, *sizes), key=lambda each: each.short_side)
    for octaves in range(1, wanted):
        smallest = halved(smallest)
        if smallest.short_side < LEAST_SIDE:
            return octaves
    return wanted


def _moments(
    painting: Pixels, size: Size, problem: Problem, execution: Execution, octave: int
) -> dict[str, Moments]:
    """The statistics of a painting, at the size that it has for a picture of ``size``, halved."""
    strides = {name: problem.network.layer(name).stride for name in problem.recipe.style.layers}
    scaled = _scaled_painting(painting, size, problem, execution, octave)
    stats = total_stats(
        scaled.pixels,
        scaled.encode,
        lambda features, context: moment_sums(features, strides, context),
        scaled.grid,
    )
    return moments_from_sums(stats)


def _nearest(
    size: Size, problem: Problem, execution: Execution, strides: Mapping[str, int]
) -> Nearest:
    nearest, network = problem.recipe.nearest, problem.network
    layers = {name: strides[name] for name in nearest.layers}
    paintings = [_scaled_painting(each, size, problem, execution) for each in problem.paintings]
    bank, places = painting_bank(paintings, layers, nearest.layers)
    del paintings
    photo = EncodedPicture(
        _resized(problem.photo, size, problem, execution),
        network.encoder(size),
        execution.grid(network, size),
    )
    matches = match_places(photo, bank, places, execution.targets)
    return Nearest(functional.normalize(bank, dim=1), matches, places, nearest.weight)


def _scaled_painting(
    painting: Pixels, size: Size, problem: Problem, execution: Execution, octave: int = 0
) -> EncodedPicture:
    """A painting at the size that it has for a picture of ``size``, halved ``octave`` times."""
    network = problem.network
    scaled = _painting_size(painting, size, problem.recipe)
    # The planned memory is that of the picture, so a much larger painting is measured in tiles.
    much_larger = Style.additive and scaled.pixels > 4 * size.pixels
    pixels = _resized(painting, scaled, problem, execution)
    for _ in range(octave):
        pixels, scaled = halve(pixels), halved(scaled)
    grid = network.grid(scaled, execution.tile or (size.long_side if much_larger else 0))
    return EncodedPicture(pixels, network.encoder(scaled), grid)


def _painting_size(painting: Pixels, size: Size, recipe: Recipe) -> Size:
    """The size that a painting has for a picture of ``size``."""
    style, original = recipe.style, Size(*painting.shape[:2])
    return painting_size(original, size, style.scale, style.sizing, style.enlarge)


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
    pixels = _resized(source, size, problem, execution)
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


def _resized(pixels: Pixels, size: Size, problem: Problem, execution: Execution) -> Tensor:
    execution.release_memory()
    return images.to_tensor(images.resize(pixels, size)).to(problem.device)
