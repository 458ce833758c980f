"""Options of the commands that have one for each setting of a recipe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from impasto.recipe import options
from impasto.storage.names import expanded


def as_path(kind: Any, tokens: Sequence[Token]) -> Path:
    """A path as it was typed; a shell leaves ``~`` alone in ``--output=~/painted.png``."""
    return Path(expanded(tokens[0].value))


Output = Annotated[Path | None, Parameter(name=["--output", "-o"], converter=as_path)]
File = Annotated[Path | None, Parameter(converter=as_path)]
Folder = Annotated[Path, Parameter(converter=as_path)]
Overwrite = Annotated[bool, Parameter(negative="", show_default=False)]

# What other programs of this kind, and people, call our options.
_SAME = {
    "size": "image-size img-size output-size resolution width height max-size pixels resize "
    "scale-to",
    "iterations": "num-iterations n-iter max-iter num-steps n-steps steps epochs iters",
    "output": "output-image output-path out save result dest destination",
    "init": "init-image initial start-from",
    "solver": "optimizer optimiser",
    "solver-rate": "learning-rate lr rate step-size",
    "smooth-weight": "tv-weight tv total-variation smoothness",
    "network": "model net architecture",
    "network-pooling": "pooling",
    "device": "gpu cuda cpu mps use-gpu no-cuda backend",
    "strength": "style-strength intensity amount alpha opacity",
    "style-scale": "brush-size stroke-size stroke",
    "time": "seconds minutes time-limit timeout max-time",
    "memory": "max-memory ram vram memory-limit",
    "quiet": "silent",
    "overwrite": "force yes replace clobber",
    "seed": "random-seed",
}
_MEANT = {word: name for name, words in _SAME.items() for word in words.split()}
_HINTS = {
    **dict.fromkeys(
        ("content", "content-image", "photo", "input", "image"),
        "The photo needs no option: it comes first.",
    ),
    **dict.fromkeys(
        ("style", "style-image", "painting"),
        "The painting needs no option: it comes after the photo.",
    ),
    **dict.fromkeys(
        (
            "preserve-color",
            "preserve-colors",
            "original-colors",
            "original-colours",
            "keep-colors",
            "keep-colours",
        ),
        "The colours come from the painting; no setting keeps the photo's.",
    ),
    **dict.fromkeys(
        ("style-blend-weights", "style-weights", "blend"),
        "Weights follow the paintings: irises:0.7 wheat-fields.jpg:0.3",
    ),
}


def unknown_option(message: str) -> tuple[str, str] | None:
    """For a complaint about an option that there is not: what to say, and what to use instead."""
    if message.startswith("Unknown option: -."):
        return (
            "- is no file here.",
            "impasto stylize reads the photo, its first argument, from standard input as -.",
        )
    found = re.match(r"Unknown option: (--?([\w-]+))", message)
    if found is None:
        return None
    name = found[2].replace("_", "-").lower()
    hint = f"Did you mean --{_MEANT[name]}?" if name in _MEANT else _HINTS.get(name, "")
    return (f"There is no option {found[1]}.", hint) if hint else None


def option(field: str, kind: Any, default: Any, help: str, **more: Any) -> inspect.Parameter:
    """An option of a command; ``more`` is cyclopts' own."""
    annotation = Annotated[kind, Parameter(help=help, **more)]
    return inspect.Parameter(
        field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def setting(one: options.Option, kind: Any, group: Group, shown: str) -> inspect.Parameter:
    """The option of a setting, None where it is not given; ``shown`` is the default that its help
    tells, if any.
    """
    help = f"{one.help} [default: {shown}]" if shown else one.help
    field = one.name.replace("-", "_")
    return option(
        field, kind | None, None, help, name=f"--{one.name}", show_default=False, group=group
    )
