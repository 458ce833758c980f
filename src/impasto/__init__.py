"""Impasto: a photo and a painting in, the photo painted in that style out.

    import impasto
    impasto.stylize("photo.jpg", "wheat-field-with-cypresses").save("painted.png")

The names below are the whole public list. They are bound when they are first asked for, so that
importing the package reads no torch and takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impasto.api import explain as explain
    from impasto.api import fetch as fetch
    from impasto.api import museum as museum
    from impasto.api import plan as plan
    from impasto.api import recipes as recipes
    from impasto.api import report as report
    from impasto.api import resume as resume
    from impasto.api import stylize as stylize
    from impasto.api import timelapse as timelapse
    from impasto.comparisons.scoring import compare as compare
    from impasto.errors import BadRequest as BadRequest
    from impasto.errors import Failed as Failed
    from impasto.errors import ImpastoError as ImpastoError
    from impasto.images.recipe_source import load_recipe as load_recipe
    from impasto.recipe.records import Recipe as Recipe
    from impasto.result import Painting as Painting
    from impasto.session import Session as Session
    from impasto.session import prepare as prepare
    from impasto.sweeps.sweep import sweep as sweep

__version__ = "0.1.0"

_MODULES = {
    "BadRequest": "impasto.errors",
    "Failed": "impasto.errors",
    "ImpastoError": "impasto.errors",
    "Painting": "impasto.result",
    "Recipe": "impasto.recipe.records",
    "Session": "impasto.session",
    "compare": "impasto.comparisons.scoring",
    "explain": "impasto.api",
    "fetch": "impasto.api",
    "load_recipe": "impasto.images.recipe_source",
    "museum": "impasto.api",
    "plan": "impasto.api",
    "prepare": "impasto.session",
    "recipes": "impasto.api",
    "report": "impasto.api",
    "resume": "impasto.api",
    "stylize": "impasto.api",
    "sweep": "impasto.sweeps.sweep",
    "timelapse": "impasto.api",
}

__all__ = [
    "BadRequest",
    "Failed",
    "ImpastoError",
    "Painting",
    "Recipe",
    "Session",
    "__version__",
    "compare",
    "explain",
    "fetch",
    "load_recipe",
    "museum",
    "plan",
    "prepare",
    "recipes",
    "report",
    "resume",
    "stylize",
    "sweep",
    "timelapse",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'impasto' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
