"""The page: every picture with what it shows, in words for someone who has never seen inside a
network.

It knows the template beside it. It refuses to know files: pictures come as the bytes of PNG files
and are written into the page, which asks for nothing from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from impasto.explain import illustrations
from impasto.explain.results import SAMPLES, STYLE_LAYERS, Explanation
from impasto.storage import templates


def text(found: Explanation, files: Mapping[str, bytes], bars: bytes | None) -> str:
    """The page as HTML; ``files`` are the pictures by name."""
    asked = found.asked
    return templates.fill(
        "impasto.explain",
        "explanation.html",
        found=found,
        photo=Path(asked.photo.source).name,
        painting=Path(asked.painting.source).name if asked.painting is not None else "",
        network="VGG-19" if asked.recipe.network.name == "vgg19" else "VGG-16",
        layers=STYLE_LAYERS,
        samples=", ".join(SAMPLES),
        names=illustrations,
        bars=_source(bars) if bars else "",
        source=lambda name: _source(files[name]),
        checks={name.replace("_", " "): passed for name, passed in found.checks.items()},
    )


def _source(png: bytes) -> str:
    return templates.embedded("image/png", png)
