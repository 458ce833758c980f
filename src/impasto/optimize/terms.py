"""The terms of the loss at one size, with their targets measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from impasto.errors import BadRecipe
from impasto.geometry import Region, Size
from impasto.objectives.base import Objective, TileContext
from impasto.objectives.bounds import Bounds
from impasto.objectives.content import Content
from impasto.objectives.histogram import Histogram
from impasto.objectives.laplacian import Laplacian
from impasto.objectives.moments import (
    Moments,
    mixture_moments,
    moment_sums,
    moments_from_sums,
    scaled_moments,
)
from impasto.objectives.nearest import Nearest
from impasto.objectives.normalized_content import NormalizedContent, Protected
from impasto.objectives.palette_distance import PaletteLoss
from impasto.objectives.smooth import Smooth
from impasto.objectives.style import Style
from impasto.optimize.execution import Execution
from impasto.optimize.matching import EncodedPicture, match_places, painting_bank
from impasto.optimize.octaves import halve, halved
from impasto.optimize.painting_histograms import (
    directions_of,
    mixture_histograms,
    painting_projections,
)
from impasto.optimize.problem import Pixels, Problem, resized
from impasto.optimize.tiling import (
    Encoder,
    store_features,
    total_stats,
)
from impasto.planning.schedule import LEAST_SIDE, painting_size
from impasto.recipe.records import Recipe
from impasto.storage.tensors import StoredTensor

Targets = Mapping[str, Mapping[Region, StoredTensor]]
Term = (
    Content
    | NormalizedContent
    | Protected
    | Style
    | Nearest
    | Histogram
    | Laplacian
    | PaletteLoss
    | Smooth
    | Bounds
)


def objective_types(recipe: Recipe) -> list[type[Term]]:
    """The classes of the terms with a weight above 0, in the order of ``make_objectives``."""
    normalized = recipe.content.scaling == "normalized"
    weights: list[tuple[type[Term], float]] = [
        (NormalizedContent if normalized else Content, recipe.content.weight),
        (Protected, _protected_weight(recipe)),
        (Style, recipe.style.weight),
        (Nearest, recipe.nearest.weight),
        (Histogram, recipe.histogram.weight),
        (Laplacian, recipe.laplacian.weight),
        (PaletteLoss, recipe.palette.weight),
        (Smooth, recipe.smooth.weight),
        (Bounds, recipe.bounds.weight),
    ]
    return [kind for kind, weight in weights if weight > 0]


def _protected_weight(recipe: Recipe) -> float:
    """The weight of protected parts that are the whole picture."""
    return recipe.content.weight * recipe.protect.amount * (recipe.protect.regions != "none")


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


def make_objectives(size: Size, problem: Problem, execution: Execution) -> list[Objective]:
    """Return the terms of the loss at this size, their targets measured."""
    recipe, network = problem.recipe, problem.network
    strides = {layer.name: layer.stride for layer in network.layers}
    targets = cache(lambda: _content_targets(size, problem, execution, strides))
    makers: dict[type[Term], Callable[[], Objective]] = {
        Content: lambda: _content(problem, targets(), strides),
        NormalizedContent: lambda: _content(problem, targets(), strides),
        Protected: lambda: _protected(size, problem, execution, targets(), strides),
        Style: lambda: style_term(size, problem, execution),
        Nearest: lambda: _nearest(size, problem, execution, strides),
        Histogram: lambda: _histogram(size, problem, execution, strides),
        Laplacian: lambda: _laplacian(size, problem, execution),
        PaletteLoss: lambda: _palette(problem),
        Smooth: lambda: Smooth(recipe.smooth.weight, recipe.smooth.measure, recipe.smooth.scaling),
        Bounds: lambda: Bounds(recipe.bounds.weight),
    }
    absent: set[type[Term]] = {Protected} if problem.protected is None else set()
    # At coarser sizes it would decide each pixel before the lines are there.
    last = size == problem.plan.size
    absent |= {PaletteLoss} if problem.palette is None or not last else set()
    return [makers[kind]() for kind in objective_types(recipe) if kind not in absent]


def _content_targets(
    size: Size, problem: Problem, execution: Execution, strides: Mapping[str, int]
) -> Targets:
    """The photo's feature maps in the content layers, by layer and core of a tile."""
    content, network = problem.recipe.content, problem.network
    photo = resized(problem.photo, size, problem, execution)
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


def _protected(
    size: Size,
    problem: Problem,
    execution: Execution,
    targets: Targets,
    strides: Mapping[str, int],
) -> Protected:
    """The term of protected parts, with the weight that content has there times the amount."""
    assert problem.protected is not None
    mask = torch.from_numpy(problem.protected)[None, None].to(problem.device)
    mask = functional.interpolate(mask, size=tuple(size), mode="bilinear", antialias=True)
    layers = problem.recipe.content.layers
    by_layer: dict[str, dict[Region, Tensor]] = {}
    for name in layers:
        whole = functional.avg_pool2d(mask, strides[name])[0, 0]
        by_layer[name] = {
            tile.core: whole[TileContext(tile, size).region(strides[name]).slices]
            for tile in execution.grid(problem.network, size)
        }
    weight = _protected_weight(problem.recipe) * problem.plan.content_factor * float(mask.mean())
    return Protected(targets, strides, layers, weight, by_layer)


def _laplacian(size: Size, problem: Problem, execution: Execution) -> Laplacian:
    term, network = problem.recipe.laplacian, problem.network
    in_tiles = len(execution.grid(network, size)) > 1
    if in_tiles and (network.stride % term.pool or network.halo < term.pool):
        raise BadRecipe(
            f"Squares of {term.pool} px of the Laplacian term do not fit tiles of these layers.",
            "Compare deeper layers, or leave --tile out.",
        )
    photo = resized(problem.photo, size, problem, execution)
    return Laplacian(photo, term.pool, term.weight * problem.plan.content_factor)


def _palette(problem: Problem) -> PaletteLoss:
    assert problem.palette is not None
    colors = torch.from_numpy(problem.palette).to(problem.device)
    return PaletteLoss(colors, problem.recipe.palette.weight)


def _scaled_encoder(encode: Encoder, gain: float) -> Encoder:
    """The encoder with every feature map multiplied by ``gain``."""
    if gain == 1:
        return encode
    return lambda pixels: {name: features * gain for name, features in encode(pixels).items()}


def style_term(size: Size, problem: Problem, execution: Execution, octave: int = 0) -> Style:
    """The style term of the picture halved ``octave`` times, with its share of the weight."""
    style = problem.recipe.style
    strides = {name: problem.network.layer(name).stride for name in style.layers}
    moments = [
        _moments(painting, size, problem, execution, octave) for painting in problem.paintings
    ]
    target = mixture_moments(moments, [painting.weight for painting in problem.recipe.paintings])
    target = scaled_moments(target, style.gain) if style.gain != 1 else target
    weight = style.weight / octaves_at(size, problem)
    return Style(target, strides, style.layers, style.statistics, weight)


def octaves_at(size: Size, problem: Problem) -> int:
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
        resized(problem.photo, size, problem, execution),
        network.encoder(size),
        execution.grid(network, size),
    )
    matches = match_places(photo, bank, places, execution.targets)
    return Nearest(functional.normalize(bank, dim=1), matches, places, nearest.weight)


def _histogram(
    size: Size, problem: Problem, execution: Execution, strides: Mapping[str, int]
) -> Histogram:
    term, network = problem.recipe.histogram, problem.network
    layers = {name: strides[name] for name in term.layers}
    directions = {
        name: directions_of(term.directions, network.layer(name).channels, problem.recipe.seed)
        for name in layers
    }
    paintings = [_scaled_painting(each, size, problem, execution) for each in problem.paintings]
    shares = [painting.weight for painting in problem.recipe.paintings]
    projections = painting_projections(paintings, layers, directions)
    target, norms = mixture_histograms(paintings, shares, layers, projections)
    relative = term.scaling == "relative"
    factors = {
        name: network.layer(name).channels / max(norm, 1e-24) if relative else 1.0
        for name, norm in norms.items()
    }
    return Histogram(projections, target, factors, layers, term.layers, term.weight)


def _scaled_painting(
    painting: Pixels, size: Size, problem: Problem, execution: Execution, octave: int = 0
) -> EncodedPicture:
    """A painting at the size that it has for a picture of ``size``, halved ``octave`` times."""
    network = problem.network
    scaled = _painting_size(painting, size, problem.recipe)
    # The planned memory is that of the picture, so a much larger painting is measured in tiles.
    much_larger = Style.additive and scaled.pixels > 4 * size.pixels
    pixels = resized(painting, scaled, problem, execution)
    for _ in range(octave):
        pixels, scaled = halve(pixels), halved(scaled)
    grid = network.grid(scaled, execution.tile or (size.long_side if much_larger else 0))
    return EncodedPicture(pixels, network.encoder(scaled), grid)


def _painting_size(painting: Pixels, size: Size, recipe: Recipe) -> Size:
    """The size that a painting has for a picture of ``size``."""
    style, original = recipe.style, Size(*painting.shape[:2])
    return painting_size(original, size, style.scale, style.sizing, style.enlarge)
