"""Score finished pictures with an independent network, between the photo and the painting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from impasto import images
from impasto.assets import catalogue
from impasto.comparisons import evaluator, metrics
from impasto.comparisons.evaluator import OTHER, Evaluator
from impasto.comparisons.picture_inputs import (
    MAX_MEGAPIXELS,
    PaintedPicture,
    read_result,
    recorded_input,
)
from impasto.comparisons.scores import Scores
from impasto.errors import BadPicture, BadRequest
from impasto.geometry import Size
from impasto.hardware import allocator, kernel_cache
from impasto.images.opening import Source
from impasto.inputs import read_painting
from impasto.planning.schedule import painting_size
from impasto.recipe.choices import NetworkName

MAX_SIDE = 1024  # long side at which pictures are evaluated by default
Role = Literal["result", "photo", "painting"]


@dataclass(frozen=True)
class Row:
    """The scores of a picture. ``size`` is its own; ``role`` marks the photo and the painting."""

    picture: str
    role: Role
    size: Size
    scores: Scores


@dataclass(frozen=True)
class Scale:
    """Pictures with comparable scores: evaluated at one ``size`` by one network, ``judge``.

    The last two rows are the photo and the painting themselves.
    """

    judge: NetworkName
    size: Size
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """The names of the photo and the painting, the scores, and notes for the reader."""

    photo: str
    painting: str
    scales: tuple[Scale, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Targets:
    """The photo and the painting that pictures are compared with."""

    photo: images.Picture
    painting: images.Picture
    fetch: catalogue.Progress

    def evaluator(self, judge: NetworkName, size: Size) -> Evaluator:
        kernel = kernel_cache.fastest_kernel("float32", torch.device("cpu"))
        scaled = painting_size(self.painting.size, size)
        return Evaluator(
            images.resize(self.photo.pixels, size),
            images.resize(self.painting.pixels, scaled),
            judge,
            kernel=kernel,
            progress=self.fetch,
        )

    def rows(self, network: Evaluator, size: Size, painter: NetworkName | None) -> list[Row]:
        """The scores of the photo and of the painting, with their artifacts at ``size``."""
        return [
            _row(network, "photo", self.photo, size, painter),
            _row(network, "painting", self.painting, size, painter),
        ]


def compare(
    results: Sequence[Source],
    content: Source | None = None,
    style: Source | None = None,
    *,
    judge: NetworkName | None = None,
    size: int = MAX_SIDE,
    fetch: catalogue.Progress = catalogue.silent,
) -> Comparison:
    """Score finished pictures of one photo and one painting.

    Args:
        results: paths, PIL images, numpy arrays (H, W, 3) or torch tensors (3, H, W).
        content, style: the photo and the painting, as ``impasto.stylize`` takes them; by default
            those that the results name in their recipes.
        judge: the network that scores style and content. The default is the one of the two that
            did not paint, VGG-16 if that is unknown.
        size: long side at which the networks see the pictures. Larger pictures are scaled down,
            smaller ones are not enlarged. Clipping, border and grid are always those of the
            picture at its own size.

    Raises:
        BadRequest: something that was given cannot be used, or is missing; nothing was computed.
        AssetUnavailable: a network could not be fetched.
    """
    if not results:
        raise BadRequest("No picture was given.", "Name the pictures to compare.")
    if size < evaluator.LEAST_SIDE:
        raise BadRequest(
            f"The size is {size}, but the networks need at least {evaluator.LEAST_SIDE} px.",
            f"Give --size {evaluator.LEAST_SIDE} or more.",
        )
    pictures = [read_result(source) for source in results]
    targets = _read_targets(pictures, content, style, fetch)
    groups: dict[tuple[NetworkName, Size], list[PaintedPicture]] = {}
    for picture in pictures:
        key = judge or OTHER[picture.painter or "vgg19"], _evaluation_size(picture.picture, size)
        groups.setdefault(key, []).append(picture)
    scales = tuple(_scale(*key, group, targets) for key, group in groups.items())
    notes = tuple(_notes(scales, pictures, targets.photo))
    return Comparison(targets.photo.source, targets.painting.source, scales, notes)


def _read_targets(
    pictures: Sequence[PaintedPicture],
    content: Source | None,
    style: Source | None,
    fetch: catalogue.Progress,
) -> _Targets:
    """Read the photo and the painting, those that are given or those that the pictures name."""
    if content is not None:
        photo = images.read(content, max_megapixels=MAX_MEGAPIXELS)
    else:
        photo = recorded_input(pictures, "photo", fetch)
    if style is not None:
        painting = read_painting(style, MAX_MEGAPIXELS, fetch)
    else:
        painting = recorded_input(pictures, "painting", fetch)
    return _Targets(photo, painting, fetch)


def _scale(
    judge: NetworkName, size: Size, results: Sequence[PaintedPicture], targets: _Targets
) -> Scale:
    """The scores of pictures that one network evaluates at one size, and of the targets."""
    with allocator.reused_memory():
        network = targets.evaluator(judge, size)
        largest = max((result.picture.size for result in results), key=lambda each: each.pixels)
        rows = [
            _row(network, "result", each.picture, each.picture.size, each.painter)
            for each in results
        ]
        rows += targets.rows(network, largest, results[0].painter)
    return Scale(judge, size, tuple(rows))


@dataclass
class CachedEvaluator:
    """Scores pictures of one photo and one painting one by one, as ``compare`` does.

    ``ends`` collects the scores of the photo and the painting themselves, by network and size. The
    last evaluator is kept, so pictures of one size and one painter should follow each other.
    """

    photo: images.Picture
    painting: images.Picture
    fetch: catalogue.Progress
    ends: dict[tuple[NetworkName, Size], list[Row]] = field(default_factory=dict)
    _last: tuple[tuple[NetworkName, Size], Evaluator] | None = None

    def __call__(self, picture: images.Picture, painter: NetworkName) -> tuple[NetworkName, Row]:
        """The network that evaluated a picture that ``painter`` painted, and the scores.

        Raises:
            BadPicture: the picture is too small.
        """
        targets = _Targets(self.photo, self.painting, self.fetch)
        key = (OTHER[painter], _evaluation_size(picture, MAX_SIDE))
        with allocator.reused_memory():
            if self._last is None or self._last[0] != key:
                self._last = (key, targets.evaluator(*key))
            network = self._last[1]
            if key not in self.ends:
                self.ends[key] = targets.rows(network, picture.size, painter)
            return key[0], _row(network, "result", picture, picture.size, painter)


def _row(
    network: Evaluator, role: Role, picture: images.Picture, own: Size, painter: NetworkName | None
) -> Row:
    """The scores of a picture; its artifacts are measured at the size ``own``.

    Scaling down would blur them, and clip pixels that were not clipped.
    """
    scores = network(images.resize(picture.pixels, network.size), painter)
    if own != network.size:
        scores = replace(scores, **metrics.artifacts(images.resize(picture.pixels, own)))
    return Row(picture.source if role == "result" else f"{role} itself", role, own, scores)


def _evaluation_size(picture: images.Picture, size: int) -> Size:
    scaled = picture.size if picture.size.long_side <= size else picture.size.with_long_side(size)
    if scaled.short_side < evaluator.LEAST_SIDE:
        raise BadPicture(
            f"{picture.source} is evaluated at {scaled} px, which is too small.",
            f"Each side needs at least {evaluator.LEAST_SIDE} px.",
        )
    return scaled


def _notes(
    scales: Sequence[Scale], results: Sequence[PaintedPicture], photo: images.Picture
) -> Iterator[str]:
    for result in results:
        yield from (f"{result.picture.source}: {note}" for note in result.picture.notes)
    for result in results:
        size = result.picture.size
        stretch = size.width / size.height * photo.size.height / photo.size.width
        if not 0.97 < stretch < 1.03:
            yield (
                f"{result.picture.source} is {size}; the photo, {photo.size}, is stretched to "
                f"its shape."
            )
        if result.painter == "vgg16":
            yield (
                f"{result.picture.source} was painted by VGG-16, so of its two LPIPS scores only "
                f"that of AlexNet is independent."
            )
    if len(scales) > 1:
        yield (
            "Scores at different sizes or by different networks do not compare; --size and --judge "
            "make them the same."
        )
