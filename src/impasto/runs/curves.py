"""Draw a run's losses and gradient norms as curves, for a light or a dark background.

Figures are matplotlib objects. Its global state is not touched, and no window is opened.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from impasto.images import lettering
from impasto.runs.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Norms = Mapping[int, Mapping[str, float]]  # evaluations -> term -> norm of its gradient


@dataclass(frozen=True)
class Theme:
    """Colors of background, text and fine lines, and of the curves in order."""

    background: str
    ink: str
    faint: str
    curves: tuple[str, ...]

    @property
    def colors(self) -> tuple[str, ...]:
        return self.background, self.ink, self.faint, *self.curves


# Distinct for color-blind readers: Paul Tol, "Colour Schemes" (SRON/EPS/TN/09-002), the vibrant
# scheme without grey, and the light one for a dark background.
LIGHT = Theme(
    "#ffffff",
    "#1c1c1e",
    "#b9b9c0",
    ("#0077BB", "#CC3311", "#009988", "#EE7733", "#AA3377", "#33BBEE"),
)
DARK = Theme(
    "#17181c",
    "#ececf0",
    "#5a5b64",
    ("#77AADD", "#EE8866", "#44BB99", "#EEDD88", "#FFAABB", "#99DDFF"),
)
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # when the colors are used up
_LOW, _HIGH = 1e-100, 1e100  # beyond these matplotlib's logarithmic axes may overflow
_LONGEST_LABEL = 28  # characters


def loss(history: History) -> Figure:
    """The loss and each of its terms, over evaluations and over time."""
    lines = {"total": [step.loss for step in history.steps]}
    lines |= {
        term: [step.terms.get(term, math.nan) for step in history.steps]
        for term in history.steps[0].terms
    }
    figure, (left, right) = _figure(columns=2)
    for axes, x, title, name in (
        (left, _evaluations(history), "loss by term", "evaluations"),
        (right, _seconds(history), "the same over time", "seconds"),
    ):
        _draw(axes, _Curves(x, lines, _stages(history), has_total=True))
        _mark_sizes(axes, history, x)
        _set_titles(axes, title, name)
    return figure


def layers(history: History) -> Figure | None:
    """Each layer's share of each term that has several layers, over evaluations.

    None if the log has no such shares.
    """
    logged = next((step.layers for step in history.steps if step.layers), {})
    terms = {term: list(shares) for term, shares in logged.items() if len(shares) > 1}
    if not terms:
        return None
    figure, panels = _figure(columns=len(terms))
    x = _evaluations(history)
    for axes, (term, names) in zip(panels, terms.items(), strict=True):
        lines = {
            name: [step.layers.get(term, {}).get(name, math.nan) for step in history.steps]
            for name in names
        }
        _draw(axes, _Curves(x, lines, _stages(history)))
        _mark_sizes(axes, history, x)
        _set_titles(axes, f"{term} by layer", "evaluations")
    return figure


def gradients(history: History, norms: Norms) -> Figure:
    """Each term's share of the sum of the terms' gradient norms, over evaluations."""
    figure, (axes,) = _figure(columns=1)
    names = list(dict.fromkeys(name for by_term in norms.values() for name in by_term))
    shares = {name: [100 * share(by_term, name) for by_term in norms.values()] for name in names}
    stage = {step.evaluations: step.stage for step in history.steps}
    last = len(history.planned.stages) - 1
    stages = [stage.get(evaluations, last) for evaluations in norms]
    _draw(axes, _Curves(list(norms), shares, stages, log=False))
    axes.set_xlim(0, 1.02 * max(history.evaluations_made, *norms, 1))
    _mark_sizes(axes, history, _evaluations(history))
    _set_titles(axes, "share of the gradient norm by term", "evaluations")
    axes.set_ylabel("%", color=LIGHT.ink)
    return figure


def share(norms: Mapping[str, float], name: str) -> float:
    """A term's share of the sum of the norms, 0..1.

    0 if all are 0, NaN if one is not finite.
    """
    if not all(map(math.isfinite, norms.values())):
        return math.nan
    # All are divided by it first: the sum of large ones may overflow.
    largest = max(norms.values(), default=0.0)
    if largest <= 0:
        return 0.0
    return norms.get(name, 0.0) / largest / sum(norm / largest for norm in norms.values())


def on_dark(svg: bytes) -> bytes:
    """A figure's SVG with the colors for a dark background."""
    pairs = zip(LIGHT.colors, DARK.colors, strict=True)
    dark = {one.lower().encode(): other.encode() for one, other in pairs}
    return re.sub(rb"#[0-9a-f]{6}\b", lambda found: dark.get(found[0], found[0]), svg)


def svg(figure: Figure) -> bytes:
    """A figure as SVG, with text as outlines, so that it looks the same everywhere."""
    return _saved(figure, format="svg", metadata={"Date": None, "Creator": None})


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    return _saved(figure, format="png", dpi=160)


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, **options)
    # Laying out takes as long as drawing. Saved again, the panels stay where they are.
    figure.set_layout_engine("none")
    return buffer.getvalue()


def _figure(columns: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure  # without pyplot, so no window is opened

    figure = Figure(figsize=(10, 3.9), layout="constrained", facecolor=LIGHT.background)
    panels = [figure.add_subplot(1, columns, number + 1) for number in range(columns)]
    for axes in panels:
        axes.set_facecolor(LIGHT.background)
        axes.tick_params(which="both", colors=LIGHT.ink, labelsize=9)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(LIGHT.faint)
        axes.grid(axis="y", color=LIGHT.faint, linewidth=0.4, alpha=0.6)
    return figure, panels


@dataclass(frozen=True)
class _Curves:
    """Named curves over common x values, broken where the stage changes.

    ``has_total``: the first curve is the sum of the others. ``log``: the y axis is logarithmic.
    """

    x: Sequence[float]
    values: Mapping[str, Sequence[float]]
    stages: Sequence[int]
    has_total: bool = False
    log: bool = True

    @cached_property
    def scale(self) -> Literal["linear", "log", "powers"]:
        """The scale of the y axis.

        "powers" is a linear axis of logarithms, for values at which matplotlib's logarithmic axis
        would overflow.
        """
        positive = [
            value for values in self.values.values() for value in values if 0 < value < math.inf
        ]
        if not self.log or not positive:
            return "linear"
        return "log" if min(positive) > _LOW and max(positive) < _HIGH else "powers"

    def is_visible(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or self.scale == "linear")

    def y(self, value: float) -> float:
        """A value's coordinate; NaN if it cannot be shown."""
        if not self.is_visible(value):
            return math.nan
        return math.log10(value) if self.scale == "powers" else value

    def lower_limit(self) -> float:
        """The lowest y that is shown: below the 10th percentile of every curve.

        The minimum would not do, since a term that starts near zero would flatten all others.
        """
        shown = [sorted(filter(self.is_visible, values)) for values in self.values.values()]
        lowest = min(values[len(values) // 10] for values in shown if values)
        return math.log10(lowest) - math.log10(1.5) if self.scale == "powers" else lowest / 1.5


def _set_titles(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", pad=22, color=LIGHT.ink, fontsize=11)
    axes.set_xlabel(x_label, color=LIGHT.ink)


def _draw(axes: Axes, curves: _Curves) -> None:
    """Draw curves with their names at their ends."""
    styles = {
        name: _line_style(number + (not curves.has_total))
        for number, name in enumerate(curves.values)
    }
    few = not curves.log or len(curves.x) < 10
    breaks = [index for index, (a, b) in enumerate(pairwise(curves.stages), 1) if a != b]
    for name, values in curves.values.items():
        color, dashes = styles[name]
        style: dict[str, Any] = {"color": color, "ls": dashes, "lw": 1.7, "marker": "o"}
        for first, end in pairwise([0, *breaks, len(values)]):
            y = [curves.y(value) for value in values[first:end]]
            marked = list(range(len(y))) if few else _isolated(y)
            size = 4 if marked else 0
            axes.plot(curves.x[first:end], y, ms=size, markevery=marked or None, **style)
    _set_limits(axes, curves)
    _write_names(axes, curves, {name: color for name, (color, _) in styles.items()})


def _write_names(axes: Axes, curves: _Curves, colors: Mapping[str, str]) -> None:
    """Write the name of each curve at the height of its last visible value."""
    last = {
        name: next(filter(curves.is_visible, reversed(values)), None)
        for name, values in curves.values.items()
    }
    heights = {
        name: _height(axes, curves.y(value)) for name, value in last.items() if value is not None
    }
    for name, height in _separated(heights).items():
        short = name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 3] + "..."
        label, options = lettering.for_figure(short)
        options |= {"transform": axes.transAxes, "color": colors[name], "fontsize": 9}
        axes.text(1.015, height, label, va="center", **options)


def _isolated(y: Sequence[float]) -> list[int]:
    """The indices of finite values that no line joins: the values next to them are not finite."""
    finite = [False, *map(math.isfinite, y), False]
    return [
        index
        for index in range(len(y))
        if finite[index + 1] and not finite[index] and not finite[index + 2]
    ]


def _set_limits(axes: Axes, curves: _Curves) -> None:
    """Set the limits of both axes, and the scale and tick labels of the y axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(*_x_limits(curves.x))
    if curves.scale == "linear":
        # With a logarithmic scale this happens if every value is 0.
        axes.set_ylim(0, 1 if curves.log else 100)
        return
    low = curves.lower_limit()
    places = (curves.y(value) for values in curves.values.values() for value in values)
    high = max(y for y in places if y >= low)
    if curves.scale == "log":
        axes.set_yscale("log")
        axes.set_ylim(low, high * (high / low) ** 0.05)
    else:
        axes.set_ylim(low, high + 0.05 * (high - low))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=high - low > 3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda power, _: _power_label(power)))


def _x_limits(x: Sequence[float]) -> tuple[float, float]:
    """The range of the finite values and a little more."""
    finite = [value for value in x if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = 0.02 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _power_label(power: float) -> str:
    """The label of 10^``power``, which may itself be too large or too small for a float."""
    exponent = math.floor(power + 1e-9)
    factor = 10 ** (power - exponent)
    if abs(factor - 1) < 1e-6:
        return rf"$\mathdefault{{10^{{{exponent}}}}}$"
    return f"{factor:.3g}e{exponent}"


def _line_style(number: int) -> tuple[str, object]:
    """Color and dashes of a curve; number 0 is the total."""
    if number == 0:
        return LIGHT.ink, "-"
    turn, place = divmod(number - 1, len(LIGHT.curves))
    return LIGHT.curves[place], _DASHES[turn % len(_DASHES)]


def _height(axes: Axes, y: float) -> float:
    """A y coordinate as a fraction of the panel's height, limited to 0..1."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        low, high, y = math.log(low), math.log(high), math.log(y)
    return min(max((y - low) / (high - low), 0.0), 1.0)


def _separated(heights: Mapping[str, float], distance: float = 0.06) -> dict[str, float]:
    """Heights of labels moved until they are ``distance`` apart, none above the panel.

    They are moved upwards as little as possible, then downwards from the top of the panel.
    """
    moved: dict[str, float] = {}
    below = -math.inf
    for name in sorted(heights, key=lambda name: heights[name]):
        moved[name] = below = max(heights[name], below + distance)
    above = math.inf
    for name in reversed(moved):
        moved[name] = above = min(moved[name], above - distance, 1.0)
    return moved


def _mark_sizes(axes: Axes, history: History, x: Sequence[float]) -> None:
    """Draw a vertical line where each size begins, and write the size above it."""
    from matplotlib.transforms import blended_transform_factory

    transform = blended_transform_factory(axes.transData, axes.transAxes)
    left, right = axes.get_xlim()
    previous, level = -math.inf, 0
    for stage in history.stages:
        index = next(i for i, step in enumerate(history.steps) if step.evaluations == stage.first)
        start = max(left, x[index] if index == 0 else (x[index - 1] + x[index]) / 2)
        if not math.isfinite(start):
            continue
        # Labels that would overlap alternate between two heights.
        level = 1 - level if (start - previous) / (right - left) < 0.16 else 0
        previous = start
        if index:
            axes.axvline(start, color=LIGHT.faint, linewidth=0.9)
        style: dict[str, Any] = {"color": LIGHT.ink, "fontsize": 8, "ha": "left"}
        axes.text(start, 1.02 + 0.055 * level, str(stage.size), transform=transform, **style)


def _evaluations(history: History) -> list[float]:
    return [float(step.evaluations) for step in history.steps]


def _seconds(history: History) -> list[float]:
    return [step.seconds if abs(step.seconds) < _HIGH else math.nan for step in history.steps]


def _stages(history: History) -> list[int]:
    return [step.stage for step in history.steps]
