"""Find the files that a recipe names by their hashes: weights, a start picture and a mask."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable
from pathlib import Path

from impasto.errors import BadRecipe
from impasto.recipe.records import Recipe
from impasto.storage.files import file_sha256
from impasto.storage.names import is_file

_MOST_HASHED = 200  # files of a folder whose hashes are compared


def with_located_files(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with the paths of its files, searched here and in ``folder``."""
    folders = (Path(), folder)
    network, schedule, protect = recipe.network, recipe.schedule, recipe.protect
    weights = _locate(network.weights, network.weights_sha256, folders)
    start = _locate(schedule.start, schedule.start_sha256, folders)
    mask = _locate(protect.regions, protect.mask_sha256, folders)
    return recipe.model_copy(
        update={
            "network": network.model_copy(update={"weights": weights}),
            "schedule": schedule.model_copy(update={"start": start}),
            "protect": protect.model_copy(update={"regions": mask}),
        }
    )


def weights_sha256(file: str) -> str:
    """The sha256 of a weights file.

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


def check_unchanged(option: str, name: str, recorded: str, sha256: str) -> None:
    """Raise BadRecipe for a file whose hash is not the one that the recipe recorded."""
    if recorded and recorded != sha256:
        raise BadRecipe(
            f"{name} is not the file that the recipe was made with: its contents differ.",
            f"Name the right one with --{option}, or say --{option} {name} to use this one.",
        )


def absolute(name: str) -> str:
    """The absolute path of a file; any other text, such as a museum name, unchanged."""
    return str(Path(name).resolve()) if name and is_file(name) else name


def _locate(name: str, sha256: str, folders: Iterable[Path]) -> str:
    """The path of the file with this hash, or ``name`` itself if it is not found.

    It is searched under its own name in each folder, then among the other files there with the
    same extension, because files are renamed.
    """
    if not sha256:
        return name
    places = list(dict.fromkeys(folder.absolute() for folder in folders if folder.is_dir()))
    same_name = [Path(name), *(folder / Path(name).name for folder in places)]
    pattern = f"*{glob.escape(Path(name).suffix)}"
    others = (path for folder in places for path in sorted(folder.glob(pattern)))
    for path in itertools.chain(same_name, itertools.islice(others, _MOST_HASHED)):
        try:
            if path.is_file() and file_sha256(path) == sha256:
                return str(path)
        except OSError:
            continue
    return name
