"""Writes docs/settings.md and docs/recipes.md from the recipes' own fields and comments: ``python
docs/generate.py``.

A test holds that both are current.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from impasto.cli import tables
from impasto.recipe import loading, options, records

HERE = Path(__file__).parent

SETTINGS = """# Settings

Made from the fields of `impasto/recipe.py` by `python docs/generate.py`; do not edit.

On the command line each is `--NAME VALUE` of `impasto stylize`, in Python `impasto.stylize(photo, style, NAME=VALUE)` with
underscores for dashes, in a recipe file the field that the third column names.

| name | default | field | meaning |
|---|---|---|---|
"""

RECIPES = """# Recipes of published systems

Made from `impasto/recipes/*.toml` by `python docs/generate.py`; do not edit.

`impasto stylize PHOTO STYLE --recipe NAME` paints as a published system does: its layers, weights, way with Gram
matrices, start, search, sizes and number of evaluations. `impasto recipes NAME` prints one, and every field of it can
be set beside it. What a system gives in pixels of 0..255 is given in pixels of 0..1, with the arithmetic in a comment.
`tests/test_published.py` writes out each system's loss in its own units and holds that the recipe's loss and its
gradient are the same to ten digits.

The house's own recipes are in [settings.md](settings.md).

![One portrait and Wheat Field with Cypresses, painted by every recipe](pictures/recipes.jpg)

*One pair by all of them, and by the default: 256 px, at most 250 evaluations of each size, which is fewer than many of them
have. Several are made for 400 to 800 px and do not come into their own here (`python docs/gallery.py DIR`).*

## What they have in common

**Networks.** Fetched are the VGG-19 that Gatys' own programs use, in which each filter is divided by the mean of its
map, and an ImageNet VGG-16. Others use VGG-19 as it was published, whose maps have means of 59 to 791 (Caffe and
Keras, pixels of 0..255), or torchvision's, which was trained anew. `network-scale` makes the fetched one's maps as
large, channel by channel. Weight decay makes the weights that go into a filter as large as those that come out of it;
of all networks that differ from the fetched one by a factor for each filter, one is balanced so, given the means of
five layers. Caffe's are those that TensorFlow's tutorial prints of Keras' copy. The largest values that it prints
beside them (836, 4626, 8789, 21566, 3189) are not used, and the network so found has 990, 6209, 10887, 22614 and 2800
(three paintings of the museum at 512 px, in the mean). torchvision's are taken from the VGG-16, which was trained in
the same way; its weights have not been seen. The VGG-16 itself is balanced to 3 to 5 % within a layer, and to 14 and
9 % in the first two. Where a system divides by no deviation, maps are 255 x 0.226 = 57.6 times as large:
`network-gain`. A file that is given by `--weights` is taken as it is.

**Content** is a factor times the sum of (F - P)^2, F of the picture and P of the photo: `sum` 1, `gatys` 1/2, `mean`
one over the number n of its values, `root` one over the root of n, `relative` one over the sum of (P - mean of P)^2 by
channel. The first four are as published at every size; `relative`, the house's, holds a picture below 512 px more
firmly.

**Style** compares sums over all positions of a map of C channels and M positions, G = X X^T of the picture with A of
the painting:

| `style-statistics` | what |
|---|---|
| `gram-gatys` | sum (G - A)^2 / (4 C^2 M^2), undivided: a painting of more positions weighs more |
| `gram` | sum (G/M - A/M')^2 / (4 C^2), each divided by its own count |
| `gram-mean` | the mean over C^2 of the same with G/(C M), A/(C M') |
| `gram-root` | sum (G/sqrt M - A/sqrt M')^2 / (4 C^2) |
| `gram-relative` | sum (G/M - A/M')^2 over sum (A/M')^2 |
| `mean-deviation-absolute` | mean squared difference of the means and of the deviations |
| `mean-deviation` | the sums of both over the painting's power |
| `wasserstein-absolute` | squared Wasserstein distance of the Gaussians over C |
| `wasserstein` | the same over the painting's power |

What a system divides by otherwise, such as powers of the number of channels, is in its layers' weights.

**The painting's size** is `style-scale` times the picture's area, one of its sides, its own size, or the picture's very
shape (`squash`): `style-sizing`.

**Smoothness** adds up, over pixels and channels, for differences d to the right and to the lower neighbour: `squared`
d^2, `absolute` |d|, `nine-point` 2/3 d^2 and 1/6 of the squares along both diagonals, `joint` (dx^2 + dy^2)^1.25 where
there are both, `blur` the square of the largest channel's distance to a 3x3 Gaussian blur. `mean` divides by 3 h w,
`sum` does not.

**L-BFGS** as torch has it goes as far as the gradient while it knows no curvature, and its first step changes the pixels
by 1 in all: in pixels of 0..255 other moves than in pixels of 0..1. `solver-pixel-range` says what white is to it.
From noise that is next to grey, neural-style's loss rises seventeen times and more within four evaluations, and has come
back at the next; a search is given up for lost when it stays away for three.

## The table

"""


def settings() -> str:
    rows = []
    for option in options.recipe_options().values():
        choices = f" One of {', '.join(map(str, option.choices))}." if option.choices else ""
        default = f"`{option.default_text}`" if option.default_text else ""
        rows.append(
            f"| `{option.name}` | {default} | `{'.'.join(option.path)}` | {option.help}{choices} |"
        )
    every = [loading.load(name) for name in loading.names()]
    named = [f"- `{one.name}`: {one.summary}" for one in every if not one.source]
    more = "Those of published systems are in [recipes.md](recipes.md)."
    return (
        SETTINGS + "\n".join(rows) + "\n\n## Named recipes\n\n" + "\n".join(named) + f"\n\n{more}\n"
    )


def recipes() -> str:
    found = [one for one in map(loading.load, loading.names()) if one.source]
    rows = [" | ".join(cells) for cells in (tables.RECIPE_COLUMNS, *map(tables.recipe_row, found))]
    rows.insert(1, " | ".join(["---"] * len(tables.RECIPE_COLUMNS)))
    table = "\n".join(f"| {row} |" for row in rows)
    return RECIPES + table + "\n\n" + "\n".join(map(_section, found))


def _section(one: records.Recipe) -> str:
    """What a recipe is, and the comments of its file."""
    text = resources.files("impasto.recipes").joinpath(f"{one.name}.toml").read_text("utf-8")
    title, *notes = _comments(text)
    listed = "".join(
        f"- {note}\n"
        for note in notes
        if re.search(r"\b(kept|mended|left out|filled in)\b", note, re.IGNORECASE)
    )
    return f"## {one.name}\n\n{title}\n\n{listed}".rstrip() + "\n"


def _comments(text: str) -> list[str]:
    """The comments of a TOML file, lines that follow each other as one."""
    found: list[str] = []
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        _, mark, comment = line.partition("#")
        if mark and line.startswith("#") and before.startswith("#"):
            found[-1] += f" {comment.strip()}"
        elif mark:
            found.append(comment.strip())
    return found


PAGES = {"settings.md": settings, "recipes.md": recipes}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (HERE / name).write_text(text(), encoding="utf-8")
