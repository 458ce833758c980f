"""The page: every picture with what it shows, in words for someone who has never seen inside a network.

It knows the template beside it. It refuses to know files: pictures come as the bytes of PNG files and are written into the
page, which asks for nothing from outside.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from impasto.exhibit import pictures
from impasto.explanation import SAMPLES, STYLE_LAYERS, Explanation


def text(found: Explanation, files: Mapping[str, bytes], bars: bytes | None) -> str:
    """The page as HTML; ``files`` are the pictures by name."""
    from jinja2 import Environment, StrictUndefined

    template = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    asked = found.asked
    network = "VGG-19" if asked.recipe.network.name == "vgg19" else "VGG-16"
    return environment.from_string(template).render(
        found=found,
        photo=Path(asked.photo.source).name,
        painting=Path(asked.painting.source).name if asked.painting is not None else "",
        network=network,
        layers=STYLE_LAYERS,
        samples=", ".join(SAMPLES),
        names=pictures,
        bars=_source(bars) if bars else "",
        source=lambda name: _source(files[name]),
        checks={name.replace("_", " "): passed for name, passed in found.checks.items()},
    )


def _source(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
