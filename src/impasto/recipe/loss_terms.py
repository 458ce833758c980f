"""The settings of the four terms of the loss: content, style, smoothness and bounds."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from impasto.recipe.choices import (
    ContentScaling,
    Directions,
    HistogramScaling,
    Sizing,
    SmoothnessMeasure,
    SmoothnessScaling,
    Statistic,
)
from impasto.recipe.fields import Record, setting
from impasto.recipe.values import (
    MAX_WEIGHT,
    FileName,
    Weight,
    Weights,
    parse_integer,
    parse_weights,
    sort_by_name,
)

Statistics = Annotated[
    dict[Statistic, Weight],
    BeforeValidator(parse_weights),
    Field(min_length=1),
    AfterValidator(sort_by_name),
]
_OWN_STATISTICS = ("wasserstein", "gram-relative")
_PUBLISHED_STATISTICS = tuple(name for name in get_args(Statistic) if name not in _OWN_STATISTICS)


class ContentTerm(Record):
    """The content loss, which keeps the picture like the photo."""

    weight: float = setting(
        0.07,
        "Weight of the content loss at strength 50 and 512 px: a higher one keeps more of the "
        "photo.",
        ge=0,
        le=MAX_WEIGHT,
    )
    layers: Weights = setting(
        {"relu2_1": 1.0, "relu3_1": 1.0},
        "Layers at which feature maps are compared with the photo's, with a weight for each.",
    )
    scaling: ContentScaling = setting(
        "normalized",
        "Normalization of the content loss: relative to the photo's variation, or normalized: each "
        "channel at mean 0 and deviation 1; docs/recipes.md has the formulas.",
        published_choices=("mean", "gatys", "sum", "root"),
    )
    gain: float = setting(
        1.0,
        "Factor on the photo's activations: above 1 the picture gets more contrast than the photo.",
        published_only=True,
        gt=0,
        le=10,
    )


class ProtectTerm(Record):
    """Parts of the photo that keep more of their shape than the rest."""

    regions: FileName = setting(
        "faces",
        "What keeps its shape where the rest is painted freely: faces, the smaller the more "
        "firmly, from half of the picture's long side on not at all; none; or the file of a mask, "
        "white where the photo is protected. faces:2 is faces and an amount of 2.",
        option="protect",
        common=True,
    )
    mask_sha256: str = ""
    amount: float = setting(
        4.0,
        "How many times as firmly protected parts are held as the rest.",
        ge=0,
        le=100,
    )

    @model_validator(mode="before")
    @classmethod
    def _split_amount(cls, values: object) -> object:
        """A number after a colon is the amount."""
        regions = values.get("regions") if isinstance(values, dict) else None
        found = re.fullmatch(r"(.+):([\d.]+)", regions) if isinstance(regions, str) else None
        if not found or not isinstance(values, dict):
            return values
        return {**values, "regions": found[1], "amount": found[2]}


class NearestTerm(Record):
    """The nearest-neighbor loss, which gives each place the features of a place of the painting."""

    weight: float = setting(
        0.0,
        "Weight of the nearest-neighbor loss: a higher one makes each place more like a similar "
        "place of the painting.",
        ge=0,
        le=MAX_WEIGHT,
    )
    layers: Weights = setting(
        {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0},
        "Layers whose joined features are matched, with a weight for each.",
    )


class StyleTerm(Record):
    """The style loss, which makes the picture like the painting."""

    weight: float = setting(
        1.0,
        "Weight of the style loss: a higher one shows more of the painting.",
        ge=0,
        le=MAX_WEIGHT,
    )
    layers: Weights = setting(
        {"relu1_1": 0.2, "relu2_1": 0.2, "relu3_1": 0.2, "relu4_1": 0.2, "relu5_1": 0.2},
        "Layers at which statistics are compared with the painting's, with a weight for each.",
    )
    statistics: Statistics = setting(
        {"wasserstein": 1.0},
        "Statistics of the feature maps that are compared; those of several are added: "
        f"{', '.join(_OWN_STATISTICS)}. Only published recipes need "
        f"{', '.join(_PUBLISHED_STATISTICS)}.",
    )
    scale: float = setting(
        1.0,
        "Factor on the sides of the painting, after it is resized to the picture's area: above 1 "
        "gives broader strokes.",
        common=True,
        gt=0.05,
        le=8,
    )
    sizing: Sizing = setting(
        "area",
        "What `style-scale` is relative to: the picture's area, one of its sides, its exact shape "
        "(squash), or the painting's own size (own).",
        published_only=True,
    )
    enlarge: bool = setting(True, "Enlarge a painting that is smaller than `style-scale` needs.")
    octaves: int = setting(
        2,
        "Scales at which style is compared: at 2 also with both pictures at half their size, at 3 "
        "also at a quarter. More of them bring the painting's larger strokes.",
        ge=1,
        le=6,
    )
    gain: float = setting(
        1.0,
        "Factor on the painting's Gram matrices: above 1 the picture gets more contrast than the "
        "painting.",
        published_only=True,
        gt=0,
        le=10,
    )


class HistogramTerm(Record):
    """The histogram loss, which gives features the painting's distribution."""

    weight: float = setting(
        0.0,
        "Weight of the histogram loss: a higher one shows more of the painting.",
        published_only=True,
        ge=0,
        le=MAX_WEIGHT,
    )
    layers: Weights = setting(
        {"relu1_1": 1.0, "relu4_1": 1.0},
        "Layers whose distributions are compared with the painting's, with a weight for each.",
        published_only=True,
    )
    directions: Directions = setting(
        "random",
        "What the features are projected on: as many random directions as there are channels, or "
        "the channels.",
        published_only=True,
    )
    scaling: HistogramScaling = setting(
        "relative",
        "Normalization of the histogram loss: relative to the painting's mean squared feature, or "
        "the mean over projections.",
        published_only=True,
    )


class LaplacianTerm(Record):
    """The Laplacian loss, which keeps the photo's edges at a coarser scale."""

    weight: float = setting(
        0.0,
        "Weight of the Laplacian loss: a higher one keeps more of the photo's edges.",
        published_only=True,
        ge=0,
        le=MAX_WEIGHT,
    )
    pool: Annotated[Literal[1, 2, 4, 8, 16], BeforeValidator(parse_integer)] = setting(
        4,
        "Side of the squares over which pixels are averaged before the Laplacian.",
        unit="px",
        published_only=True,
    )


class PaletteTerm(Record):
    """The palette loss, which keeps the colors of a painting of few colors flat."""

    weight: float = setting(
        5.0,
        "Weight of the palette loss, for paintings of few colors, such as woodcuts and posters: a "
        "higher one keeps colors flat and edges hard. Other paintings have no such loss.",
        ge=0,
        le=MAX_WEIGHT,
    )


class SmoothTerm(Record):
    """The smoothness loss, which suppresses noise."""

    weight: float = setting(
        2.0,
        "Weight of the smoothness loss (total variation): a higher one gives less noise and less "
        "detail.",
        ge=0,
        le=MAX_WEIGHT,
    )
    measure: SmoothnessMeasure = setting(
        "squared",
        "Measure of the difference between adjacent pixels; docs/recipes.md has the formulas.",
        published_only=True,
    )
    scaling: SmoothnessScaling = setting(
        "mean",
        "Whether the differences are averaged over the picture or summed.",
        published_only=True,
    )


class BoundsTerm(Record):
    """The bounds loss, which keeps pixels within 0..1 where the solver does not clamp them."""

    weight: float = setting(
        0.0,
        "Weight of a loss on pixels outside 0..1: the mean distance by which they are outside.",
        published_only=True,
        ge=0,
        le=MAX_WEIGHT,
    )
