"""Read and check everything that is asked for, before any network is loaded.

torch is not imported here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from impasto import images
from impasto.assets import catalogue
from impasto.assets.museum import Work
from impasto.assets.style_source import StyleSource, parse_style
from impasto.errors import BadPicture, BadRecipe, did_you_mean
from impasto.geometry import Size
from impasto.images.opening import Opened, Source, opened
from impasto.networks import vgg
from impasto.planning import schedule
from impasto.planning.schedule import Plan
from impasto.recipe.located_files import absolute, check_unchanged, weights_sha256
from impasto.recipe.loss_terms import PaletteTerm
from impasto.recipe.records import Input, Recipe
from impasto.storage.names import is_file

_LEAST_SIDE = 16  # px, of a photo or painting
_ANY_SIDE = 4096  # px: the long side assumed while the size is still to be chosen
_BYTES_PER_PIXEL = 12  # of a picture that has been read
_NOTED_ENLARGEMENT = 1.25  # from this factor on, enlarged strokes look soft
_NOTED_STRETCH = 1.03  # from this factor on, a picture looks stretched


@dataclass(frozen=True)
class Inputs:
    """A recipe with its pictures, read and checked.

    ``recipe`` names its pictures by path and hash. ``plan``: the stages. ``start``: the picture
    file that the search starts from, ``mask``: that of the protected parts, if the recipe names
    them. ``credit``: of museum paintings.
    ``remarks``: what the user should know about names. ``reading_bytes``: about the peak memory
    of reading the pictures. ``picture_bytes``: about the memory that the pictures take afterwards.
    """

    recipe: Recipe
    plan: Plan
    photo: images.Picture
    paintings: tuple[images.Picture, ...]
    start: images.Picture | None
    mask: images.Picture | None
    credit: str
    remarks: tuple[str, ...] = ()
    reading_bytes: int = 0
    picture_bytes: int = 0

    def with_recipe(self, recipe: Recipe) -> Inputs:
        """The same pictures with a recipe that differs in size, schedule or strength only."""
        return replace(self, recipe=recipe, plan=schedule.make_plan(recipe, self.photo.full_size))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the pictures, a sentence each."""
        others = [picture for picture in (self.start, self.mask) if picture is not None]
        pictures = (self.photo, *self.paintings, *others)
        notes = [f"{picture.source}: {note}" for picture in pictures for note in picture.notes]
        return tuple(dict.fromkeys([*self.remarks, *notes, *self._size_notes()]))

    def _size_notes(self) -> Iterator[str]:
        """What is enlarged or stretched."""
        size, photo = self.plan.size, self.photo.full_size
        if size.pixels > photo.pixels:
            yield f"The photo is {photo}; it is enlarged to {size}."
        for painting in self.paintings if self.recipe.style.weight > 0 else ():
            full = painting.full_size
            factor = (_painting_size(self.recipe, self.plan, full).pixels / full.pixels) ** 0.5
            if factor > _NOTED_ENLARGEMENT:
                yield (
                    f"The painting {painting.source} is {full}; it is enlarged {factor:.2g} times. "
                    "A larger picture of it has finer strokes."
                )
        roles = {"from which the search starts": self.start, "the mask": self.mask}
        for role, picture in roles.items():
            full = picture.full_size if picture is not None else size
            stretch = size.width / size.height * full.height / full.width
            if picture is not None and not 1 / _NOTED_STRETCH < stretch < _NOTED_STRETCH:
                yield f"{picture.source}, {role}, is {full}; it is stretched to {size}."


def read_inputs(
    content: Source,
    style: Source | Sequence[Source],
    recipe: Recipe,
    progress: catalogue.Progress = catalogue.silent,
    *,
    any_size: bool = False,
) -> Inputs:
    """Read and check everything: names first, then files, then sizes. Nothing is written.

    ``any_size``: the size is still to be chosen. A photo that is too thin for the recipe's size
    is then taken at its own size, or at the largest possible one.

    Raises:
        BadRequest: something that was given cannot be used.
    """
    sizes = [recipe.size, *((0, schedule.LARGEST_SIDE) if any_size else ())]
    recipes = [recipe.model_copy(update={"size": size}) for size in sizes]
    side = _ANY_SIDE if any_size else None
    results = read_inputs_each(content, style, recipes, progress, side=side)
    return next(result for result in results if isinstance(result, Inputs))


def read_recipe_inputs(recipe: Recipe, progress: catalogue.Progress = catalogue.silent) -> Inputs:
    """Read the pictures that a recipe names.

    Raises:
        BadPicture: the recipe names no photo or no painting, or the contents of one have changed.
    """
    if recipe.photo is None or not recipe.paintings:
        raise BadPicture(
            "The recipe names no photo or no painting.",
            "Set photo and paintings, or use impasto.stylize.",
        )
    named = [recipe.photo, *recipe.paintings]
    paths = [picture.path for picture in recipe.paintings]
    inputs = read_inputs(recipe.photo.path, paths, recipe, progress)
    for before, picture in zip(named, [inputs.photo, *inputs.paintings], strict=True):
        if before.sha256 not in ("", picture.sha256):
            raise BadPicture(
                f"{before.path} is not the picture that the recipe names: its contents differ."
            )
    return inputs


def read_inputs_each(
    content: Source,
    style: Source | Sequence[Source],
    recipes: Sequence[Recipe],
    progress: catalogue.Progress = catalogue.silent,
    *,
    side: int | None = None,
) -> list[Inputs | BadPicture]:
    """Read the same pictures for several recipes.

    Where the photo cannot be painted at a recipe's size, the error stands in its place, unless
    that is so for all recipes. A picture that is much larger than needed is reduced while it is
    read. ``side``: the long side in pixels that will be painted at most; None: that of each recipe.

    Raises:
        BadRequest: something that was given cannot be used.
        DoesNotFit: reading a picture takes more memory than a recipe allows.
    """
    styles = list(style) if isinstance(style, list | tuple) else [style]
    if not styles:
        raise BadPicture(
            "No painting was given.", "Name a file, or a painting of `impasto museum`."
        )
    for recipe in recipes:
        _check_terms(recipe)
        _check_protected(recipe)
    sources = [parse_style(source) for source in styles]
    limit = min(recipe.max_megapixels for recipe in recipes)
    photo = opened(content, limit)
    _check_large_enough("photo", photo.source, photo.header.size)
    plans = [_plan(recipe, photo.header.size) for recipe in recipes]
    if isinstance(plans[0], BadPicture) and not any(isinstance(plan, Plan) for plan in plans):
        raise plans[0]
    files = _Files(photo, sources, recipes, limit, progress, side)
    return [
        files.read(recipe, plan) if isinstance(plan, Plan) else plan
        for recipe, plan in zip(recipes, plans, strict=True)
    ]


class _Files:
    """The opened files of a request, read for each recipe in the size that it needs."""

    def __init__(
        self,
        photo: Opened,
        sources: Sequence[StyleSource],
        recipes: Sequence[Recipe],
        limit: float,
        progress: catalogue.Progress,
        side: int | None,
    ) -> None:
        self._photo, self._sources, self._side = photo, sources, side
        named = (name for recipe in recipes for name in _pictures_of(recipe).values())
        self._named = {file: opened(file, limit) for file in dict.fromkeys(named)}
        self._paintings = [_open_style(source, limit, progress) for source in sources]
        for painting in self._paintings:
            _check_large_enough("painting", painting.source, painting.header.size)
        weights = _file_names(recipe.network.weights for recipe in recipes)
        self._weights = {file: weights_sha256(file) for file in weights}
        self._credit = "; ".join(source.work.credit for source in sources if source.work)

    def read(self, recipe: Recipe, plan: Plan) -> Inputs:
        """The inputs of one recipe."""
        needed = self._needed_sides(recipe, plan)
        reading = [side if self._side is None or side is None else self._side for _, side in needed]
        # What will be read in the end, at most.
        largest = [None if side is None else max(side, self._side or 0) for _, side in needed]
        pictures = [
            file.read(side, recipe.compute.memory)
            for (file, _), side in zip(needed, reading, strict=True)
        ]
        photo, paintings = pictures[0], tuple(pictures[1 : 1 + len(self._paintings)])
        others = dict(zip(_pictures_of(recipe), pictures[1 + len(paintings) :], strict=True))
        for painting in paintings:
            _check_not_flat("painting", painting)
        weights, remarks = _painting_weights(recipe, self._sources)
        named = [
            Input(path=absolute(picture.source), sha256=picture.sha256, weight=weight)
            for picture, weight in zip((photo, *paintings), (1.0, *weights), strict=True)
        ]
        fields = {**self._named_files(recipe, others), "photo": named[0]}
        headers = [(file.header, side) for (file, _), side in zip(needed, largest, strict=True)]
        return Inputs(
            recipe.model_copy(update={**fields, "paintings": tuple(named[1:])}),
            plan,
            photo,
            paintings,
            others.get("init"),
            others.get("protect"),
            self._credit,
            (*(source.note for source in self._sources if source.note), *remarks),
            max(header.decode_bytes(side) for header, side in headers),
            sum(header.read_size(side).pixels * _BYTES_PER_PIXEL for header, side in headers),
        )

    def _needed_sides(self, recipe: Recipe, plan: Plan) -> list[tuple[Opened, int | None]]:
        """Photo, paintings, start and mask with the long side that is needed; None: all of it."""
        side = None if recipe.preparation.median else plan.size.long_side
        needed: list[tuple[Opened, int | None]] = [(self._photo, side)]
        for painting in self._paintings:
            size = _painting_size(recipe, plan, painting.header.size)
            needed.append((painting, size.long_side))
        others = _pictures_of(recipe).values()
        return needed + [(self._named[file], plan.size.long_side) for file in others]

    def _named_files(
        self, recipe: Recipe, others: Mapping[str, images.Picture]
    ) -> dict[str, object]:
        """The recipe's fields that name other files, with absolute paths and hashes.

        Raises:
            BadRecipe: a file is not the one whose hash the recipe has.
        """
        network, plan, protect = recipe.network, recipe.schedule, recipe.protect
        of_start, of_mask = {"start_sha256": ""}, {"mask_sha256": ""}
        if start := others.get("init"):
            check_unchanged("init", plan.start, plan.start_sha256, start.sha256)
            of_start = {"start": absolute(start.source), "start_sha256": start.sha256}
        if mask := others.get("protect"):
            check_unchanged("protect", protect.regions, protect.mask_sha256, mask.sha256)
            of_mask = {"regions": absolute(mask.source), "mask_sha256": mask.sha256}
        sha256 = self._weights.get(network.weights, "")
        if network.weights:
            check_unchanged("weights", network.weights, network.weights_sha256, sha256)
        of_weights = {"weights": absolute(network.weights), "weights_sha256": sha256}
        return {
            "network": network.model_copy(update=of_weights),
            "schedule": plan.model_copy(update=of_start),
            "protect": protect.model_copy(update=of_mask),
        }


def read_painting(
    style: Source,
    max_megapixels: float,
    progress: catalogue.Progress = catalogue.silent,
    side: int | None = None,
) -> images.Picture:
    """Read a painting: a museum painting by name, a file, or pixels."""
    return _open_style(parse_style(style), max_megapixels, progress).read(side)


def read_pair(
    content: Source,
    style: Source | None,
    max_megapixels: float,
    progress: catalogue.Progress,
    side: int,
) -> tuple[images.Picture, images.Picture | None]:
    """Read and check a photo, and a painting if one is named, reduced to about ``side`` px."""
    source = parse_style(style) if style is not None else None
    photo = opened(content, max_megapixels).read(side)
    painting = None
    if source is not None:
        painting = _open_style(source, max_megapixels, progress).read(side)
    for role, picture in (("photo", photo), ("painting", painting)):
        if picture is not None:
            _check_large_enough(role, picture.source, picture.full_size)
            _check_not_flat(role, picture)
    return photo, painting


def _open_style(style: StyleSource, max_megapixels: float, progress: catalogue.Progress) -> Opened:
    if style.work is None:
        return opened(style.source, max_megapixels)
    return _open_museum_painting(style.work, progress)


def _open_museum_painting(work: Work, progress: catalogue.Progress) -> Opened:
    """A museum painting. It is small, so it is read at once."""
    pixels = work.read(progress=progress)
    sha256 = hashlib.sha256(work.read_bytes()).hexdigest()
    picture = images.Picture(
        pixels, alpha=None, exif=b"", profile="", source=work.slug, sha256=sha256
    )
    return Opened(work.slug, images.probe(pixels, math.inf), pixels, math.inf, picture)


def _painting_size(recipe: Recipe, plan: Plan, painting: Size) -> Size:
    """The size at which a painting is compared with the finished picture."""
    style = recipe.style
    return schedule.painting_size(painting, plan.size, style.scale, style.sizing, style.enlarge)


def _plan(recipe: Recipe, photo: Size) -> Plan | BadPicture:
    try:
        return schedule.make_plan(recipe, photo)
    except BadPicture as error:
        return error


def _pictures_of(recipe: Recipe) -> dict[str, str]:
    """The files of other pictures that a recipe names, by the option that names them."""
    named = {"init": recipe.schedule.start, "protect": recipe.protect.regions}
    return {option: name for option, name in named.items() if _file_names([name])}


def _check_protected(recipe: Recipe) -> None:
    regions = recipe.protect.regions
    if "protect" in _pictures_of(recipe) and not is_file(regions):
        raise BadRecipe(
            f"protect is {regions!r}, but it must be none, faces, or the file of a mask.",
            did_you_mean(regions, ["none", "faces"]) or "A mask is white where the photo is kept.",
        )


def _file_names(values: Iterable[str]) -> list[str]:
    """The values that name files, each once."""
    keywords = ("", "content", "noise", "style", "faces", "none")
    return list(dict.fromkeys(value for value in values if value not in keywords))


def _painting_weights(
    recipe: Recipe, sources: Sequence[StyleSource]
) -> tuple[list[float], list[str]]:
    """The weight of each painting, and a remark if the recipe's weights do not apply."""
    if any(source.weight is not None for source in sources):
        return [source.weight if source.weight is not None else 1.0 for source in sources], []
    weights = [painting.weight for painting in recipe.paintings]
    if len(weights) == len(sources):
        return weights, []
    remark = (
        f"The recipe weighs {len(weights)} paintings and {len(sources)} were given: their weights "
        "are equal."
    )
    return [1.0] * len(sources), [remark] if len(set(weights)) > 1 else []


def _check_terms(recipe: Recipe) -> None:
    """Check that a loss is asked for, of existing layers, and a search that is possible."""
    layers = recipe.used_layers
    # Most paintings have no palette.
    if not recipe.model_copy(update={"palette": PaletteTerm(weight=0)}).used_layers:
        raise BadRecipe(
            "The weights of content, style and smoothness are all 0: there is nothing to minimise.",
            "Raise one of them.",
        )
    if recipe.solver.uses_line_search and recipe.solver.clamp == "yes":
        raise BadRecipe(
            "solver-clamp is yes, but a line search follows a straight line and cannot clamp.",
            "Leave --solver-clamp or --solver-line-search out.",
        )
    vgg.layers_up_to(vgg.CONFIGURATION_OF[recipe.network.name], layers)


def _check_large_enough(role: str, source: str, size: Size) -> None:
    if size.short_side < _LEAST_SIDE:
        raise BadPicture(
            f"The {role} {source} is {size}: too small to be painted from.",
            f"Each side must have {_LEAST_SIDE} px or more; 500 px is a good size.",
        )


def _check_not_flat(role: str, picture: images.Picture) -> None:
    if float(np.ptp(picture.pixels, axis=(0, 1)).max()) >= 1 / 255:
        return
    if role == "painting":
        what, hint = "style", "Take a picture with strokes or texture; `impasto museum` lists some."
    else:
        what, hint = "content", "Take one that shows something."
    raise BadPicture(
        f"The {role} {picture.source} is one flat colour: there is no {what} in it.", hint
    )
