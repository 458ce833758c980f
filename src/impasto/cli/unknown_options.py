"""Say what to use instead of an option that does not exist."""

from __future__ import annotations

import re

# Names of options in other programs of this kind.
_SYNONYMS = {
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
_OPTION_BY_SYNONYM = {word: name for name, words in _SYNONYMS.items() for word in words.split()}
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
        "The colors come from the painting; no setting keeps the photo's.",
    ),
    **dict.fromkeys(
        ("style-blend-weights", "style-weights", "blend"),
        "Weights follow the paintings: irises:0.7 wheat-fields.jpg:0.3",
    ),
}


def unknown_option(message: str) -> tuple[str, str] | None:
    """Return a message and a hint for cyclopts' message about an unknown option.

    None if the message is about something else, or there is nothing better to say.
    """
    if message.startswith("Unknown option: -."):
        return (
            "- is no file here.",
            "impasto stylize reads the photo, its first argument, from standard input as -.",
        )
    match = re.match(r"Unknown option: (--?([\w-]+))", message)
    if match is None:
        return None
    name = match[2].replace("_", "-").lower()
    synonym = _OPTION_BY_SYNONYM.get(name)
    hint = f"Did you mean --{synonym}?" if synonym else _HINTS.get(name, "")
    return (f"There is no option {match[1]}.", hint) if hint else None
