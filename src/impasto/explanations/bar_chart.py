"""The bar chart of an explanation: each layer's share of the style distance.

It is drawn by matplotlib, as all charts are. Grids of pictures are drawn by ``images.sheet``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from impasto import images
from impasto.explanations.results import DISTANCES, Explanation
from impasto.networks.vgg import STYLE_LAYERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_DPI = 120
_INK, _PAPER = "#1b1b1b", "#faf8f4"
_LABELS = ("Gram matrices", "Wasserstein, Impasto's own")
_COLORS = ("#3b6ea5", "#d98032")
_PAGE_INCHES = (7.5, 3.4)


def png(explanation: Explanation) -> bytes | None:
    """The chart as a PNG file; None without a painting."""
    if not explanation.distances:
        return None
    file = io.BytesIO()
    _figure(explanation, *_PAGE_INCHES).savefig(file, format="png", dpi=_DPI, facecolor=_PAPER)
    return file.getvalue()


def pixels(explanation: Explanation, height: int, width: int) -> images.Pixels:
    """The chart as pixels (height, width, 3), 0..1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(_figure(explanation, width / _DPI, height / _DPI))
    canvas.draw()
    return np.asarray(np.asarray(canvas.buffer_rgba())[..., :3], np.float32) / np.float32(255)


def _figure(explanation: Explanation, width: float, height: float) -> Figure:
    """The chart, ``width`` x ``height`` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_PAPER, layout="tight")
    axes = figure.add_subplot()
    places = np.arange(len(STYLE_LAYERS))
    for number, name in enumerate(DISTANCES):
        shares = [100 * explanation.shares[name][layer] for layer in STYLE_LAYERS]
        bars = axes.bar(
            places + 0.4 * number - 0.2, shares, 0.38, label=_LABELS[number], color=_COLORS[number]
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=9, color=_INK)
    axes.set_xticks(places, STYLE_LAYERS)
    axes.set_ylabel("percent")
    axes.set_title("Which layer carries the style distance", fontsize=12, color=_INK)
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    axes.margins(y=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_facecolor(_PAPER)
    return figure
