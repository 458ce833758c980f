"""Finished pictures side by side: what each was painted from, who may judge it, and its scores
between two ends.

It knows how a picture says what it was made of, and that pictures are compared in one size by one
network that painted none of them. It refuses to know what a score means and how a table is drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from impasto import images
from impasto.assets import catalogue, museum
from impasto.comparisons import evaluator, metrics
from impasto.comparisons.evaluator import OTHER, Evaluator, Scores
from impasto.errors import BadPicture, BadRecipe, BadRequest
from impasto.geometry import Size
from impasto.hardware import allocator, kernel_cache
from impasto.images.opening import Source
from impasto.inputs import read_painting
from impasto.planning.schedule import painting_size
from impasto.recipe import loading
from impasto.recipe.choices import NetworkName
from impasto.recipe.records import Input, Recipe
from impasto.runs import folder
from impasto.storage.names import is_file

LARGEST = 1024  # long side in which pictures are looked at, where nothing is said
Role = Literal["result", "photo", "painting"]
_LIMIT = Recipe().max_megapixels  # of a picture that is read


@dataclass(frozen=True)
class Row:
    """A picture, its own size, and its scores; ``role`` tells the results from the two ends of the
    scale.
    """

    picture: str
    role: Role
    size: Size
    scores: Scores


@dataclass(frozen=True)
class Scale:
    """Pictures whose figures may be compared: looked at in one ``size`` by one ``judge``; the last
    two are its ends.
    """

    judge: NetworkName
    size: Size
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """The photo and the painting that pictures were compared with, the pictures, and what a reader
    should know.
    """

    photo: str
    painting: str
    scales: tuple[Scale, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Result:
    """A picture to be judged, and the recipe that it carries, if it does."""

    picture: images.Picture
    recipe: Recipe | None

    @property
    def path(self) -> Path:
        return Path(self.picture.source)

    @property
    def painter(self) -> NetworkName | None:
        """The network that painted it, if it says so."""
        return self.recipe.network.name if self.recipe else None


def compare(
    results: Sequence[Source],
    content: Source | None = None,
    style: Source | None = None,
    *,
    judge: NetworkName | None = None,
    size: int = LARGEST,
    fetch: catalogue.Progress = catalogue.silent,
) -> Comparison:
    """Judge finished pictures of one photo and one painting.

    Args:
        results: paths, PIL images, numpy arrays (H, W, 3) or torch tensors (3, H, W).
        content, style: the photo and the painting, as ``impasto.stylize`` takes them; where they
            are left out, those that the results say they were painted from.
        judge: the network that judges; where it is left out, the one of the two that did not paint,
            VGG-16 if unknown.
        size: long side in which the networks look. A larger picture is shrunk for them; none is
            enlarged. Clipping, border and grid are always those of the picture in its own size.

    Raises:
        BadRequest: something that was given cannot be used, or is missing; nothing was computed.
        AssetUnavailable: a network could not be fetched.
    """
    if not results:
        raise BadRequest("No picture was given.", "Name the pictures to compare.")
    if size < evaluator.LEAST_SIDE:
        raise BadRequest(
            f"The size is {size}, but no network sees anything in less than "
            f"{evaluator.LEAST_SIDE} px."
        )
    found = [_read(each) for each in results]
    photo = (
        images.read(content, max_megapixels=_LIMIT)
        if content is not None
        else _told(found, "photo", fetch)
    )
    work = (
        read_painting(style, _LIMIT, fetch)
        if style is not None
        else _told(found, "painting", fetch)
    )
    scales: dict[tuple[NetworkName, Size], list[_Result]] = {}
    for result in found:
        looked = _looked_at(result.picture, size)
        scales.setdefault((judge or OTHER[result.painter or "vgg19"], looked), []).append(result)
    judged = [
        _scale(who, looked, group, photo, work, fetch) for (who, looked), group in scales.items()
    ]
    return Comparison(photo.source, work.source, tuple(judged), tuple(_notes(judged, found, photo)))


def _scale(
    judge: NetworkName,
    looked: Size,
    results: Sequence[_Result],
    photo: images.Picture,
    work: images.Picture,
    fetch: catalogue.Progress,
) -> Scale:
    """The scores of pictures that are looked at in one size by one judge, and those of the two
    ends.
    """
    with allocator.reused_memory():
        referee = _referee(judge, looked, photo, work, fetch)
        largest = max((result.picture.size for result in results), key=lambda size: size.pixels)
        rows = [
            _row(referee, "result", one.picture, one.picture.size, one.painter) for one in results
        ]
        rows += _ends(referee, photo, work, largest, results[0].painter)
    return Scale(judge, looked, tuple(rows))


def _referee(
    judge: NetworkName,
    looked: Size,
    photo: images.Picture,
    work: images.Picture,
    fetch: catalogue.Progress,
) -> Evaluator:
    kernel = kernel_cache.kernel("float32", torch.device("cpu"))
    near = images.resize(work.pixels, painting_size(work.size, looked))
    return Evaluator(
        images.resize(photo.pixels, looked), near, judge, kernel=kernel, progress=fetch
    )


def _ends(
    referee: Evaluator,
    photo: images.Picture,
    work: images.Picture,
    own: Size,
    painter: NetworkName | None,
) -> list[Row]:
    """The photo itself and the painting itself, with their traces as in a picture of the size
    ``own``.
    """
    return [
        _row(referee, "photo", photo, own, painter),
        _row(referee, "painting", work, own, painter),
    ]


@dataclass
class CachedEvaluator:
    """Judges pictures one by one as ``compare`` does, those of one photo and one painting; ``ends``
    gathers the two ends of each scale on the way. The last referee is kept: pictures of one size
    and one painter are best judged in a row.
    """

    photo: images.Picture
    work: images.Picture
    fetch: catalogue.Progress
    ends: dict[tuple[NetworkName, Size], list[Row]] = field(default_factory=dict)
    _last: tuple[tuple[NetworkName, Size], Evaluator] | None = None

    def __call__(self, picture: images.Picture, painter: NetworkName) -> tuple[NetworkName, Row]:
        """The judge of a picture that the network ``painter`` painted, and its scores.

        Raises:
            BadPicture: it is too small to be judged.
        """
        key = (OTHER[painter], _looked_at(picture, LARGEST))
        with allocator.reused_memory():
            if self._last is None or self._last[0] != key:
                self._last = (key, _referee(*key, self.photo, self.work, self.fetch))
            referee = self._last[1]
            if key not in self.ends:
                self.ends[key] = _ends(referee, self.photo, self.work, picture.size, painter)
            return key[0], _row(referee, "result", picture, picture.size, painter)


def _row(
    referee: Evaluator, role: Role, picture: images.Picture, own: Size, painter: NetworkName | None
) -> Row:
    """A picture's scores; ``own`` is the size in which the traces of the method are looked for.

    Shrinking to the referee's size would blur them, and clip what was not clipped.
    """
    scores = referee(images.resize(picture.pixels, referee.size), painter)
    if own != referee.size:
        scores = replace(scores, **metrics.artefacts(images.resize(picture.pixels, own)))
    return Row(picture.source if role == "result" else f"{role} itself", role, own, scores)


def _looked_at(picture: images.Picture, size: int) -> Size:
    looked = picture.size if picture.size.long_side <= size else picture.size.with_long_side(size)
    if looked.short_side < evaluator.LEAST_SIDE:
        raise BadPicture(
            f"{picture.source} is looked at in {looked}, which is too small to judge.",
            f"Each side needs {evaluator.LEAST_SIDE} px.",
        )
    return looked


def _notes(scales: Sequence[Scale], results: Sequence[_Result], photo: images.Picture) -> list[str]:
    notes = [
        f"{result.picture.source}: {note}" for result in results for note in result.picture.notes
    ]
    for result in results:
        size = result.picture.size
        stretch = size.width / size.height * photo.size.height / photo.size.width
        if not 0.97 < stretch < 1.03:
            notes.append(
                f"{result.picture.source} is {size}; the photo, {photo.size}, is stretched to "
                f"its shape."
            )
        if result.recipe is not None and result.recipe.network.name == "vgg16":
            notes.append(
                f"{result.picture.source} was painted by VGG-16: of its two LPIPS only AlexNet's "
                f"is a stranger's."
            )
    if len(scales) > 1:
        notes.append(
            "Figures of different sizes or judges do not compare; --size and --judge make them "
            "the same."
        )
    return notes


def _read(source: Source) -> _Result:
    """A picture with the recipe that it carries; a recipe of a stranger or of another version is
    none.
    """
    picture = images.read(source, max_megapixels=_LIMIT)
    text = images.embedded_recipe(picture.source) if isinstance(source, str | Path) else None
    try:
        return _Result(picture, loading.from_json(text) if text else None)
    except BadRecipe:
        return _Result(picture, None)


def _told(
    results: Sequence[_Result], role: Literal["photo", "painting"], fetch: catalogue.Progress
) -> images.Picture:
    """The photo or the painting that the results' recipes name, if it is here and the same.

    Raises:
        BadRequest: they name none, several, or one that is not here.
    """
    option = {"photo": "--content PHOTO", "painting": "--style STYLE"}[role]
    told: dict[str, tuple[_Result, Input]] = {}
    for result in results:
        for given in _inputs(result.recipe, role):
            told.setdefault(given.sha256 or given.path, (result, given))
    if not told:
        first = results[0].picture.source
        raise BadRequest(
            f"{first} does not say from which {role} it was painted.", f"Name it: {option}."
        )
    if len(told) > 1:
        names = ", ".join(given.path for _, given in told.values())
        raise BadRequest(
            f"There are several {role}s here: {names}.", f"Name the one to compare with: {option}."
        )
    [(result, given)] = told.values()
    for candidate in _candidates(result, given, role):
        picture = read_painting(candidate, _LIMIT, fetch)
        if given.sha256 in ("", picture.sha256):
            return picture
    raise BadRequest(
        f"{result.picture.source} was painted from the {role} {given.path}, which is not here.",
        f"Name it: {option}.",
    )


def _inputs(recipe: Recipe | None, role: Literal["photo", "painting"]) -> tuple[Input, ...]:
    if recipe is None:
        return ()
    if role == "painting":
        return recipe.paintings
    return (recipe.photo,) if recipe.photo is not None else ()


def _candidates(result: _Result, given: Input, role: Literal["photo", "painting"]) -> list[str]:
    """Where the photo or painting of a result may be: where the run's log says, here, beside the
    result, in the museum.

    The recipe in a picture names files without their folders; the log of its run, if it is there,
    knows the folders.
    """
    kept: Recipe | None = None
    with contextlib.suppress(BadRequest):
        kept = loading.load(str(folder.beside(result.path) / folder.RECIPE))
    paths = [each.path for each in _inputs(kept, role) if each.sha256 == given.sha256]
    paths += [given.path, str(result.path.parent / Path(given.path).name)]
    found = [path for path in paths if is_file(path)]
    return found + [
        work.slug
        for work in museum.all_paintings()
        if work.slug == given.path and role == "painting"
    ]
