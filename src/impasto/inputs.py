"""What is asked, read and checked: a recipe with its pictures, refused here if it can be refused at
all.

It knows files, museum names, sizes and layer names, and checks them in that order of cost. It
refuses to know networks' weights, devices and how anything is painted: torch is not read here.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from impasto import images
from impasto.assets import catalogue, museum
from impasto.errors import BadPicture, BadRecipe
from impasto.geometry import Size
from impasto.images.opening import Opened, Source, opened, opened_work
from impasto.networks import vgg
from impasto.planning import schedule
from impasto.recipe.records import Input, Recipe
from impasto.storage import names
from impasto.storage.files import file_sha256

_LEAST_SIDE = 16  # of a photo or painting as it is read
# Px that are prepared for where a size is still to be chosen: twice as much is read.
_ANY_SIDE = 4096
_PIXEL_BYTES = 12  # of a picture that has been read
_SEARCHED = 200  # files of a folder, whose hashes are compared
_ENLARGED = 1.25  # times: from then on a painting's strokes are seen to be soft
_STRETCHED = 1.03  # times: from then on a picture is seen to be out of shape


@dataclass(frozen=True)
class Request:
    """A recipe with its pictures read and checked: all that can be refused has been."""

    recipe: Recipe
    plan: schedule.Plan
    photo: images.Picture
    paintings: tuple[images.Picture, ...]
    start: images.Picture | None
    credit: str
    remarks: tuple[str, ...] = ()
    reading_bytes: int = 0
    """About the memory that reading the pictures takes at its peak."""
    picture_bytes: int = 0
    """About the memory that the pictures take for as long as is painted."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the pictures, a sentence each."""
        pictures = (self.photo, *self.paintings, *([self.start] if self.start else []))
        notes = [f"{picture.source}: {note}" for picture in pictures for note in picture.notes]
        return tuple(dict.fromkeys([*self.remarks, *notes, *self._sizes()]))

    def _sizes(self) -> Iterator[str]:
        """What is enlarged or stretched."""
        size = self.plan.size
        photo = self.photo.full_size
        if size.pixels > photo.pixels:
            yield f"The photo is {photo}; it is enlarged to {size}."
        for painting in self.paintings if self.recipe.style.weight > 0 else ():
            full = painting.full_size
            factor = (_painting_size(self.recipe, self.plan, full).pixels / full.pixels) ** 0.5
            if factor > _ENLARGED:
                yield (
                    f"The painting {painting.source} is {full}; it is enlarged {factor:.2g} times. "
                    "A larger picture of it has finer strokes."
                )
        if self.start is not None:
            start = self.start.full_size
            stretch = size.width / size.height * start.height / start.width
            if not 1 / _STRETCHED < stretch < _STRETCHED:
                yield f"{self.start.source}, from which the search starts, is {start}; it is stretched to {size}."


@dataclass(frozen=True)
class _Style:
    """One painting as it was given: a file, pixels or a museum's work, and its weight where one was
    given with it.
    """

    source: Source
    work: museum.Work | None
    weight: float | None
    remark: str = ""


def request(
    content: Source,
    style: Source | Sequence[Source],
    recipe: Recipe,
    fetch: catalogue.Progress = catalogue.silent,
    *,
    any_size: bool = False,
) -> Request:
    """Read and check everything: names first, then files, then sizes. No network is read and
    nothing is written.

    ``any_size``: the recipe's is still to be chosen, and a photo that is too thin for it is taken
    at its own size, or at the largest there is.
    """
    sizes = [recipe.size, *((0, schedule.LARGEST_SIDE) if any_size else ())]
    each = [recipe.model_copy(update={"size": size}) for size in sizes]
    found = requests(content, style, each, fetch, side=_ANY_SIDE if any_size else None)
    return next(one for one in found if isinstance(one, Request))


def requests(
    content: Source,
    style: Source | Sequence[Source],
    each: Sequence[Recipe],
    fetch: catalogue.Progress = catalogue.silent,
    *,
    side: int | None = None,
) -> list[Request | BadPicture]:
    """The same pictures by several recipes; where the photo cannot be painted at a recipe's size,
    that stands in its place, unless it is so with all of them.

    A picture that is much larger than needed is reduced while it is read. ``side`` is the long side
    in px that will be painted at most; None: that of each recipe.

    Raises:
        BadRequest: something that was given cannot be used.
        DoesNotFit: reading a picture takes more memory than a recipe allows.
    """
    styles = list(style) if isinstance(style, list | tuple) else [style]
    if not styles:
        raise BadPicture(
            "No painting was given.", "Name a file, or a painting of `impasto museum`."
        )
    for recipe in each:
        _check_terms(recipe)
    given = [_style(one) for one in styles]
    limit = min(recipe.max_megapixels for recipe in each)
    photo = opened(content, limit)
    _check_large_enough("photo", photo.source, photo.header.size)
    plans = [_plan(one, photo.header.size) for one in each]
    if isinstance(plans[0], BadPicture) and not any(
        isinstance(plan, schedule.Plan) for plan in plans
    ):
        raise plans[0]
    starts = {file: opened(file, limit) for file in _once(one.schedule.start for one in each)}
    paintings = [_opened(one, limit, fetch) for one in given]
    for painting in paintings:
        _check_large_enough("painting", painting.source, painting.header.size)
    hashes = {file: _hash(file) for file in _once(one.network.weights for one in each)}
    credit = "; ".join(one.work.credit for one in given if one.work is not None)

    def read(recipe: Recipe, plan: schedule.Plan) -> Request:
        start = starts.get(recipe.schedule.start)
        needed = [(photo, None if recipe.preparation.median else plan.size.long_side)]
        needed += [
            (one, _painting_size(recipe, plan, one.header.size).long_side) for one in paintings
        ]
        needed += [(start, plan.size.long_side)] if start else []
        sides = [most if side is None or most is None else side for _, most in needed]
        pictures = [
            one.read(at, recipe.compute.memory) for (one, _), at in zip(needed, sides, strict=True)
        ]
        # That will be read in the end.
        largest = [None if most is None else max(most, side or 0) for _, most in needed]
        first, shown, last = (
            pictures[0],
            tuple(pictures[1 : 1 + len(paintings)]),
            pictures[-1] if start else None,
        )
        for picture in shown:
            _check_not_flat("painting", picture)
        weights, remarks = _weights(recipe, given)
        inputs = [
            Input(path=_absolute(picture.source), sha256=picture.sha256, weight=weight)
            for picture, weight in zip((first, *shown), (1.0, *weights), strict=True)
        ]
        known = {**_files(recipe, last, hashes), "photo": inputs[0], "paintings": tuple(inputs[1:])}
        return Request(
            recipe.model_copy(update=known),
            plan,
            first,
            shown,
            last,
            credit,
            (*filter(None, (one.remark for one in given)), *remarks),
            max(one.header.decode_bytes(at) for (one, _), at in zip(needed, largest, strict=True)),
            sum(
                one.header.read_size(at).pixels * _PIXEL_BYTES
                for (one, _), at in zip(needed, largest, strict=True)
            ),
        )

    return [
        read(one, plan) if isinstance(plan, schedule.Plan) else plan
        for one, plan in zip(each, plans, strict=True)
    ]


def _files(
    recipe: Recipe, start: images.Picture | None, hashes: Mapping[str, str]
) -> dict[str, object]:
    """The recipe's fields that name files beside its pictures, with whole paths and hashes.

    Raises:
        BadRecipe: a file is not the one whose hash the recipe has.
    """
    network, plan = recipe.network, recipe.schedule
    if start is not None:
        _check_same("init", plan.start, plan.start_sha256, start.sha256)
    if network.weights:
        _check_same("weights", network.weights, network.weights_sha256, hashes[network.weights])
    of_start = (
        {"start": _absolute(start.source), "start_sha256": start.sha256}
        if start
        else {"start_sha256": ""}
    )
    of_weights = {
        "weights": _absolute(network.weights),
        "weights_sha256": hashes.get(network.weights, ""),
    }
    return {
        "network": network.model_copy(update=of_weights),
        "schedule": plan.model_copy(update=of_start),
    }


def _painting_size(recipe: Recipe, plan: schedule.Plan, painting: Size) -> Size:
    """The size in which a painting is compared with the finished picture."""
    style = recipe.style
    return schedule.painting_size(painting, plan.size, style.scale, style.sizing, style.enlarge)


def _once(files: Iterable[str]) -> list[str]:
    """The files among these names, each once; a start that is no file has a name of its own."""
    return list(
        dict.fromkeys(file for file in files if file not in ("", "content", "noise", "style"))
    )


def _check_terms(recipe: Recipe) -> None:
    """That something is asked for, of layers that there are, and by a search that can be made."""
    wanted = wanted_layers(recipe)
    if not wanted:
        raise BadRecipe(
            "The weights of content, style and smoothness are all 0: nothing is asked for.",
            "Raise one of them.",
        )
    if recipe.solver.uses_line_search and recipe.solver.clamp == "yes":
        raise BadRecipe(
            "solver-clamp is yes, but a line search goes straight, and not along the edge of what "
            "can be shown.",
            "Leave --solver-clamp or --solver-line-search out.",
        )
    vgg.cut(vgg.CONFIGURATION_OF[recipe.network.name], wanted)


def _plan(recipe: Recipe, photo: Size) -> schedule.Plan | BadPicture:
    try:
        return schedule.plan(recipe, photo)
    except BadPicture as error:
        return error


def replanned(asked: Request, recipe: Recipe) -> Request:
    """The same pictures by a recipe that differs in size, schedule or strength alone."""
    return replace(asked, recipe=recipe, plan=schedule.plan(recipe, asked.photo.full_size))


def wanted_layers(recipe: Recipe) -> set[str]:
    """The layers that a recipe looks at."""
    wanted = set(recipe.content.layers) if recipe.content.weight > 0 else set()
    wanted |= set(recipe.style.layers) if recipe.style.weight > 0 else set()
    return wanted | ({"input"} if recipe.smooth.weight > 0 or recipe.bounds.weight > 0 else set())


def painting(
    style: Source,
    max_megapixels: float,
    fetch: catalogue.Progress = catalogue.silent,
    side: int | None = None,
) -> images.Picture:
    """A painting as it is read: a museum's by its name, or a file or pixels like any other."""
    return _opened(_style(style), max_megapixels, fetch).read(side)


def pair(
    content: Source,
    style: Source | None,
    max_megapixels: float,
    fetch: catalogue.Progress,
    side: int,
) -> tuple[images.Picture, images.Picture | None]:
    """A photo, and a painting where one is named, read and checked, to be looked at in ``side`` px
    and not painted from.
    """
    named = _style(style) if style is not None else None
    photo = opened(content, max_megapixels).read(side)
    found = _opened(named, max_megapixels, fetch).read(side) if named is not None else None
    for role, picture in (("photo", photo), ("painting", found)):
        if picture is not None:
            _check_large_enough(role, picture.source, picture.full_size)
            _check_not_flat(role, picture)
    return photo, found


def _opened(style: _Style, max_megapixels: float, fetch: catalogue.Progress) -> Opened:
    return (
        opened(style.source, max_megapixels)
        if style.work is None
        else opened_work(style.work, fetch)
    )


def _style(given: Source) -> _Style:
    """A painting as it was given, read as far as its name goes.

    Raises:
        UnknownName: a name that is neither a file's nor a museum painting's.
        BadRecipe: a weight that is not above 0.
    """
    weight = None
    if isinstance(given, str) and not _exists(names.expand_home(given)):
        name, colon, number = given.rpartition(":")
        if colon and name and re.fullmatch(r"\d+(\.\d*)?|\.\d+", number):
            given, weight = name, float(number)
            if weight <= 0:
                raise BadRecipe(
                    f"The weight of {name} is {number}, but it must be above 0.",
                    "Leave the painting out.",
                )
    work, remark = _work(given)
    return _Style(given, work, weight, remark)


def _work(style: Source) -> tuple[museum.Work | None, str]:
    """The museum's painting that is meant, or None where a file or pixels are; and what to say if
    it could be either.
    """
    if not isinstance(style, str) or not style.strip():
        return None, ""
    path = names.expand_home(style)
    named = museum.named(style)
    if is_file(path):
        return (
            None,
            f"{style} is a file here; the museum's painting of that name was not taken."
            if named
            else "",
        )
    if _exists(path):
        return (
            named,
            f"{style} is the museum's painting; the folder of that name was not taken."
            if named
            else "",
        )
    # A path to a file that is missing, which reading it will say.
    if re.search(r"[/\\]|\.\w{2,5}$", style):
        return None, ""
    return museum.find(style), ""


def _weights(recipe: Recipe, styles: Sequence[_Style]) -> tuple[list[float], list[str]]:
    """The weight of each painting, and what to say of weights that count for nothing."""
    if any(style.weight is not None for style in styles):
        return [style.weight if style.weight is not None else 1.0 for style in styles], []
    weights = [one.weight for one in recipe.paintings]
    if len(weights) == len(styles):
        return weights, []
    unequal = len(set(weights)) > 1
    remark = f"The recipe weighs {len(weights)} paintings and {len(styles)} were given: their weights are equal."
    return [1.0] * len(styles), [remark] if unequal else []


def _check_same(option: str, name: str, recorded: str, digest: str) -> None:
    """Raises BadRecipe for a file that is not the one whose hash a recipe recorded."""
    if recorded and recorded != digest:
        raise BadRecipe(
            f"{name} is not the file that the recipe was made with: its contents differ.",
            f"Name the right one with --{option}, or say --{option} {name} to use this one.",
        )


def _absolute(source: str) -> str:
    """A file's whole path; a museum name or a word such as "array" as it is."""
    return str(Path(source).resolve()) if source and is_file(source) else source


def with_its_files(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the files that it names by their hashes found: here, or in the ``folder``
    that it was read from.
    """
    places = (Path(), folder)
    network, plan = recipe.network, recipe.schedule
    weights = _found_by_hash(network.weights, network.weights_sha256, places)
    start = _found_by_hash(plan.start, plan.start_sha256, places)
    known = {"network": network.model_copy(update={"weights": weights})}
    return recipe.model_copy(update={**known, "schedule": plan.model_copy(update={"start": start})})


def _found_by_hash(name: str, digest: str, folders: Iterable[Path]) -> str:
    """The file that a recipe names, where it lies now; the name itself where it is not found.

    It is looked for under its own name in each of ``folders``, and then, since files are renamed,
    among the others there with the same ending.
    """
    if not digest:
        return name
    places = list(dict.fromkeys(folder.absolute() for folder in folders if folder.is_dir()))
    own = [Path(name), *(folder / Path(name).name for folder in places)]
    others = (
        path
        for folder in places
        for path in sorted(folder.glob(f"*{glob.escape(Path(name).suffix)}"))
    )
    for path in itertools.chain(own, itertools.islice(others, _SEARCHED)):
        try:
            if path.is_file() and file_sha256(path) == digest:
                return str(path)
        except OSError:
            continue
    return name


def is_file(name: str) -> bool:
    return _exists(name) and Path(name).is_file()


def _exists(name: str) -> bool:
    """Whether there is such a file or folder; a text that cannot be a name of one is none."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def _hash(file: str) -> str:
    """The sha256 of a file of weights.

    Raises:
        BadRecipe: there is no such file.
    """
    try:
        return file_sha256(Path(file))
    except OSError as error:
        raise BadRecipe(
            f"The weights {file} cannot be read: {error.strerror}.",
            "Leave --weights out to fetch them.",
        ) from None


def _check_large_enough(role: str, source: str, size: Size) -> None:
    if size.short_side < _LEAST_SIDE:
        raise BadPicture(
            f"The {role} {source} is {size}: too small to be painted from.",
            f"Each side must have {_LEAST_SIDE} px or more; 500 px is a good size.",
        )


def _check_not_flat(role: str, picture: images.Picture) -> None:
    if float(np.ptp(picture.pixels, axis=(0, 1)).max()) < 1 / 255:
        what = "style" if role == "painting" else "content"
        raise BadPicture(
            f"The {role} {picture.source} is one flat colour: there is no {what} in it.",
            "Take a picture with strokes or texture; `impasto museum` lists some."
            if role == "painting"
            else "Take one that shows something.",
        )
