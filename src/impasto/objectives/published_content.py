"""Scalings of the content loss that only the recipes of published systems use."""

from __future__ import annotations

from typing import Literal

PublishedScaling = Literal["mean", "gatys", "sum", "root"]


def published_factor(scaling: PublishedScaling, count: int) -> float:
    """The factor on the sum of (F - P)^2 over ``count`` values of a feature map.

    "sum": 1. "gatys": 1/2 (equation 1 of the paper). "mean": 1 / count, the mean over positions
    and channels. "root": 1 / sqrt(count).
    """
    return {"sum": 1.0, "gatys": 0.5, "mean": 1.0 / count, "root": count**-0.5}[scaling]
