"""What is asked, read and checked: a recipe with its pictures, refused here if it can be refused at all.

It knows files, museum names, sizes and layer names, and checks them in that order of cost. It refuses to know networks'
weights, devices and how anything is painted: torch is not read here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from impasto import assets, images, museum, schedule
from impasto.errors import BadPicture, BadRecipe
from impasto.geometry import Size
from impasto.networks import vgg
from impasto.recipe import Input, Recipe

_LEAST_SIDE = 16  # of a photo or painting as it is read

Source = object  # a path, a museum name, a PIL image, a numpy array or a torch tensor (see ``images.read``)


@dataclass(frozen=True)
class Request:
    """A recipe with its pictures read and checked: all that can be refused has been."""

    recipe: Recipe
    plan: schedule.Plan
    photo: images.Picture
    paintings: tuple[images.Picture, ...]
    start: images.Picture | None
    credit: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the pictures."""
        pictures = (self.photo, *self.paintings)
        notes = [f"{picture.source}: {note}" for picture in pictures for note in picture.notes]
        if self.plan.size.pixels > self.photo.size.pixels:
            notes.append(f"The photo is {self.photo.size}; it is enlarged to {self.plan.size}.")
        return tuple(notes)


def request(
    content: Source,
    style: Source | Sequence[Source],
    recipe: Recipe,
    fetch: assets.Progress = assets.silent,
    *,
    any_size: bool = False,
) -> Request:
    """Read and check everything: names first, then files, then sizes. No network is read and nothing is written.

    ``any_size``: the recipe's is still to be chosen, and a photo that is too thin for it is taken at its own size, or at
    the largest there is.
    """
    sizes = [recipe.size, *((0, schedule.LARGEST_SIDE) if any_size else ())]
    found = requests(content, style, [recipe.model_copy(update={"size": size}) for size in sizes], fetch)
    return next(one for one in found if isinstance(one, Request))


def requests(
    content: Source, style: Source | Sequence[Source], each: Sequence[Recipe], fetch: assets.Progress = assets.silent
) -> list[Request | BadPicture]:
    """The same pictures by several recipes, read once; where the photo cannot be painted at a recipe's size, that stands in
    its place, unless it is so with all of them.
    """
    styles = list(style) if isinstance(style, list | tuple) else [style]
    if not styles:
        raise BadPicture("No painting was given.", "Name a file, or a painting of `impasto museum`.")
    for recipe in each:
        _check_terms(recipe)
    works = [_work(each) for each in styles]
    limit = min(recipe.max_megapixels for recipe in each)
    photo = images.read(content, max_megapixels=limit)
    _check_large_enough("photo", photo)
    plans = [_plan(one, photo.size) for one in each]
    if isinstance(plans[0], BadPicture) and not any(isinstance(plan, schedule.Plan) for plan in plans):
        raise plans[0]
    starts = {file: images.read(file, max_megapixels=limit) for file in _once(one.schedule.start for one in each)}
    paintings = tuple(
        images.read(each, max_megapixels=limit) if work is None else _hung(work, fetch)
        for each, work in zip(styles, works, strict=True)
    )
    for painting in paintings:
        _check_large_enough("painting", painting)
        _check_not_flat("painting", painting)
    hashes = {file: _hash(file) for file in _once(one.network.weights for one in each)}
    given = Input(path=_absolute(photo.source), sha256=photo.sha256)
    hung = [Input(path=_absolute(painting.source), sha256=painting.sha256) for painting in paintings]
    credit = "; ".join(work.credit for work in works if work is not None)

    def read(recipe: Recipe, plan: schedule.Plan) -> Request:
        start = starts.get(recipe.schedule.start)
        weights = [painting.weight for painting in recipe.paintings]
        weights = weights if len(weights) == len(hung) else [1.0] * len(hung)
        known = {
            "network": recipe.network.model_copy(update={"weights_sha256": hashes.get(recipe.network.weights, "")}),
            "schedule": recipe.schedule.model_copy(update={"start_sha256": start.sha256 if start else ""}),
            "photo": given,
            "paintings": tuple(
                one.model_copy(update={"weight": weight}) for one, weight in zip(hung, weights, strict=True)
            ),
        }
        return Request(recipe.model_copy(update=known), plan, photo, paintings, start, credit)

    return [read(one, plan) if isinstance(plan, schedule.Plan) else plan for one, plan in zip(each, plans, strict=True)]


def _once(files: Iterable[str]) -> list[str]:
    """The files among these names, each once; a start that is no file has a name of its own."""
    return list(dict.fromkeys(file for file in files if file not in ("", "content", "noise", "style")))


def _check_terms(recipe: Recipe) -> None:
    """That something is asked for, of layers that there are, and by a search that can be made."""
    wanted = wanted_layers(recipe)
    if not wanted:
        raise BadRecipe(
            "The weights of content, style and smoothness are all 0: nothing is asked for.", "Raise one of them."
        )
    if recipe.solver.searches and recipe.solver.clamp == "yes":
        raise BadRecipe(
            "solver-clamp is yes, but a line search goes straight, and not along the edge of what can be shown.",
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
    return replace(asked, recipe=recipe, plan=schedule.plan(recipe, asked.photo.size))


def wanted_layers(recipe: Recipe) -> set[str]:
    """The layers that a recipe looks at."""
    wanted = set(recipe.content.layers) if recipe.content.weight > 0 else set()
    wanted |= set(recipe.style.layers) if recipe.style.weight > 0 else set()
    return wanted | ({"input"} if recipe.smooth.weight > 0 or recipe.bounds.weight > 0 else set())


def painting(style: Source, max_megapixels: float, fetch: assets.Progress = assets.silent) -> images.Picture:
    """A painting as it is read: a museum's by its name, or a file or pixels like any other."""
    work = _work(style)
    return images.read(style, max_megapixels=max_megapixels) if work is None else _hung(work, fetch)


def pair(
    content: Source, style: Source | None, max_megapixels: float, fetch: assets.Progress = assets.silent
) -> tuple[images.Picture, images.Picture | None]:
    """A photo, and a painting where one is named, read and checked, to be looked at rather than painted from."""
    work = _work(style)
    photo = images.read(content, max_megapixels=max_megapixels)
    found = None
    if style is not None:
        found = images.read(style, max_megapixels=max_megapixels) if work is None else _hung(work, fetch)
    for role, picture in (("photo", photo), ("painting", found)):
        if picture is not None:
            _check_large_enough(role, picture)
            _check_not_flat(role, picture)
    return photo, found


def _work(style: Source) -> museum.Work | None:
    """The museum's painting that is meant, or None where a file or pixels are."""
    if not isinstance(style, str) or not style.strip() or _exists(style):
        return None
    if re.search(r"[/\\]|\.\w{2,5}$", style):  # a path to a file that is missing, which reading it will say
        return None
    return museum.find(style)


def _hung(work: museum.Work, fetch: assets.Progress) -> images.Picture:
    """A museum's painting as a picture like any other."""
    pixels = work.read(progress=fetch)
    digest = hashlib.sha256(work.read_bytes()).hexdigest()
    return images.Picture(pixels, alpha=None, exif=b"", profile="", source=work.slug, sha256=digest)


def _absolute(source: str) -> str:
    """A file's whole path; a museum name or a word such as "array" as it is."""
    path = str(Path(source).resolve()) if is_file(source) else source
    # A name that is not Unicode is shown as far as it goes; the hash beside it says which file it was.
    return path.encode(errors="surrogateescape").decode(errors="replace")


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
        with Path(file).open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(2**20):
                digest.update(block)
    except OSError as error:
        raise BadRecipe(
            f"The weights {file} cannot be read: {error.strerror}.", "Leave --weights out to fetch them."
        ) from None
    return digest.hexdigest()


def _check_large_enough(role: str, picture: images.Picture) -> None:
    if picture.size.short_side < _LEAST_SIDE:
        raise BadPicture(
            f"The {role} {picture.source} is {picture.size}: too small to be painted from.",
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
