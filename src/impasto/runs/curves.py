"""A run's losses, and what pulled at its pictures, as curves on light or dark ground.

It knows axes, colours that colour-blind eyes tell apart, and labels beside their lines. It refuses
to know where the numbers come from. Figures are matplotlib's own objects: nothing of its global
state is touched, and no window is opened.
"""

from __future__ import annotations

import io
import math
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
    """Colours of ground, letters and fine lines, and of the lines in order."""

    ground: str
    ink: str
    faint: str
    lines: tuple[str, ...]


# Paul Tol, "Colour Schemes" (SRON/EPS/TN/09-002): the vibrant scheme without grey, and its light
# one for dark ground.
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
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)))  # when the colours are used up
_LOW, _HIGH = 1e-100, 1e100  # between which matplotlib's logarithmic axes do not overflow
_LONGEST = 28  # letters of a label


def loss(history: History, theme: Theme) -> Figure:
    """The loss and each of its terms, over evaluations and over time."""
    lines = {"total": [step.loss for step in history.steps]}
    lines |= {
        term: [step.terms.get(term, math.nan) for step in history.steps]
        for term in history.steps[0].terms
    }
    figure, (left, right) = _figure(theme, columns=2)
    for axes, along, name in (
        (left, _evaluations(history), "evaluations"),
        (right, _seconds(history), "seconds"),
    ):
        _draw(axes, _Lines(along, lines, _stages(history), total=True), theme)
        _sizes(axes, history, along, theme)
        _named(axes, "loss by term" if axes is left else "the same over time", name, theme)
    return figure


def layers(history: History, theme: Theme) -> Figure | None:
    """Each layer's share of each term that has several, over evaluations; None where the log does
    not tell them.
    """
    told = next((step.layers for step in history.steps if step.layers), {})
    shown = {term: list(shares) for term, shares in told.items() if len(shares) > 1}
    if not shown:
        return None
    figure, panels = _figure(theme, columns=len(shown))
    along = _evaluations(history)
    for axes, (term, names) in zip(panels, shown.items(), strict=True):
        lines = {
            name: [step.layers.get(term, {}).get(name, math.nan) for step in history.steps]
            for name in names
        }
        _draw(axes, _Lines(along, lines, _stages(history)), theme)
        _sizes(axes, history, along, theme)
        _named(axes, f"{term} by layer", "evaluations", theme)
    return figure


def gradients(history: History, norms: Norms, theme: Theme) -> Figure:
    """Each term's share of the sum of the norms of their gradients, over the evaluations at which
    it was computed.
    """
    figure, (axes,) = _figure(theme, columns=1)
    names = list(dict.fromkeys(name for found in norms.values() for name in found))
    shares = {name: [100 * share(found, name) for found in norms.values()] for name in names}
    stage = {step.evaluations: step.stage for step in history.steps}
    groups = [stage.get(evaluations, len(history.planned.stages) - 1) for evaluations in norms]
    _draw(axes, _Lines(list(norms), shares, groups, log=False), theme)
    axes.set_xlim(0, 1.02 * max(history.made, *norms, 1))
    _sizes(axes, history, _evaluations(history), theme)
    _named(axes, "share of the pull at the pixels by term", "evaluations", theme)
    axes.set_ylabel("%", color=theme.ink)
    return figure


def share(norms: Mapping[str, float], name: str) -> float:
    """A term's share of the sum of the norms, 0..1; 0 where none pulls, no number where one of them
    is not finite.
    """
    if not all(map(math.isfinite, norms.values())):
        return math.nan
    # By which all are divided first: the sum of large ones may overflow.
    largest = max(norms.values(), default=0.0)
    if largest <= 0:
        return 0.0
    return norms.get(name, 0.0) / largest / sum(norm / largest for norm in norms.values())


def svg(figure: Figure) -> bytes:
    """A figure as SVG, its letters as outlines: the same wherever it is looked at."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def _figure(theme: Theme, columns: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure  # which draws by Agg where no window is asked for

    figure = Figure(figsize=(10, 3.9), layout="constrained", facecolor=theme.ground)
    panels = [figure.add_subplot(1, columns, number + 1) for number in range(columns)]
    for axes in panels:
        axes.set_facecolor(theme.ground)
        axes.tick_params(which="both", colors=theme.ink, labelsize=9)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(theme.faint)
        axes.grid(axis="y", color=theme.faint, linewidth=0.4, alpha=0.6)
    return figure, panels


@dataclass(frozen=True)
class _Lines:
    """Named lines over common places, broken where ``groups`` changes; ``total``: the first is the
    sum of the others.
    """

    along: Sequence[float]
    values: Mapping[str, Sequence[float]]
    groups: Sequence[int]
    total: bool = False
    log: bool = True

    @cached_property
    def scale(self) -> Literal["linear", "log", "powers"]:
        """How heights are drawn; "powers" is a linear axis of logarithms, where matplotlib's own
        would overflow.
        """
        positive = [
            value for values in self.values.values() for value in values if 0 < value < math.inf
        ]
        if not self.log or not positive:
            return "linear"
        return "log" if min(positive) > _LOW and max(positive) < _HIGH else "powers"

    def shows(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or self.scale == "linear")

    def place(self, value: float) -> float:
        """Where a value is along the axis; no number where it is not shown."""
        if not self.shows(value):
            return math.nan
        return math.log10(value) if self.scale == "powers" else value

    def foot(self) -> float:
        """Where the scale begins: a term that starts from nothing must not press all others
        together.
        """
        shown = [sorted(filter(self.shows, values)) for values in self.values.values()]
        lowest = min(values[len(values) // 10] for values in shown if values)
        return math.log10(lowest) - math.log10(1.5) if self.scale == "powers" else lowest / 1.5


def _named(axes: Axes, title: str, along: str, theme: Theme) -> None:
    axes.set_title(title, loc="left", pad=22, color=theme.ink, fontsize=11)
    axes.set_xlabel(along, color=theme.ink)


def _draw(axes: Axes, lines: _Lines, theme: Theme) -> None:
    """Lines with their names at their ends; the total in the letters' colour."""
    looks = {
        name: _look(number + (not lines.total), theme) for number, name in enumerate(lines.values)
    }
    few = not lines.log or len(lines.along) < 10
    edges = [index for index, (one, other) in enumerate(pairwise(lines.groups), 1) if one != other]
    for name, values in lines.values.items():
        colour, dash = looks[name]
        for first, end in pairwise([0, *edges, len(values)]):
            shown = [lines.place(value) for value in values[first:end]]
            look: dict[str, Any] = {"color": colour, "ls": dash, "lw": 1.7, "marker": "o"}
            marks = list(range(len(shown))) if few else _alone(shown)
            axes.plot(
                lines.along[first:end], shown, ms=4 if marks else 0, markevery=marks or None, **look
            )
    _scale(axes, lines)
    ends = {
        name: next(filter(lines.shows, reversed(values)), None)
        for name, values in lines.values.items()
    }
    places = {
        name: _height(axes, lines.place(value)) for name, value in ends.items() if value is not None
    }
    for name, height in _spread(places).items():
        label, how = lettering.for_figure(
            name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
        )
        how |= {"transform": axes.transAxes, "color": looks[name][0], "fontsize": 9, "va": "center"}
        axes.text(1.015, height, label, **how)


def _alone(shown: Sequence[float]) -> list[int]:
    """Where a value stands between two that are not shown: no line leads to it."""
    seen = [False, *map(math.isfinite, shown), False]
    return [
        index
        for index in range(len(shown))
        if seen[index + 1] and not seen[index] and not seen[index + 2]
    ]


def _scale(axes: Axes, lines: _Lines) -> None:
    """The limits of both axes, and what is written at the left one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(*_limits(lines.along))
    if lines.scale == "linear":
        # Where the scale should be logarithmic, all that is shown is zero.
        axes.set_ylim(0, 1 if lines.log else 100)
        return
    foot = lines.foot()
    head = max(
        place
        for values in lines.values.values()
        for place in map(lines.place, values)
        if place >= foot
    )
    if lines.scale == "log":
        axes.set_yscale("log")
        axes.set_ylim(foot, head * (head / foot) ** 0.05)
    else:
        axes.set_ylim(foot, head + 0.05 * (head - foot))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=head - foot > 3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda power, _: _power(power)))


def _limits(along: Sequence[float]) -> tuple[float, float]:
    """Where an axis begins and ends: a little beyond what is shown along it."""
    known = [place for place in along if math.isfinite(place)] or [0.0]
    low, high = min(known), max(known)
    beyond = 0.02 * (high - low) or 0.5 * abs(high) or 1.0
    return low - beyond, high + beyond


def _power(power: float) -> str:
    """A power of ten as it is written at an axis; the number itself may be too large or too small
    for arithmetic.
    """
    exponent = math.floor(power + 1e-9)
    factor = 10 ** (power - exponent)
    return (
        rf"$\mathdefault{{10^{{{exponent}}}}}$"
        if abs(factor - 1) < 1e-6
        else f"{factor:.3g}e{exponent}"
    )


def _look(number: int, theme: Theme) -> tuple[str, object]:
    """Colour and dashes of a line; number 0 is the total."""
    if number == 0:
        return theme.ink, "-"
    turn, place = divmod(number - 1, len(theme.lines))
    return theme.lines[place], _DASHES[turn % len(_DASHES)]


def _height(axes: Axes, value: float) -> float:
    """Where a value is in the panel: 0 at its foot, 1 at its head; a value below the foot is named
    at it.
    """
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _spread(heights: Mapping[str, float], apart: float = 0.06) -> dict[str, float]:
    """The heights moved upwards as little as keeps labels apart, and all of them down where they
    leave the panel.
    """
    found: dict[str, float] = {}
    before = -math.inf
    for name in sorted(heights, key=lambda name: heights[name]):
        found[name] = before = max(heights[name], before + apart)
    limit = math.inf
    for name in reversed(found):
        found[name] = limit = min(found[name], limit - apart, 1.0)
    return found


def _sizes(axes: Axes, history: History, along: Sequence[float], theme: Theme) -> None:
    """A line where each size begins, and the size above it."""
    from matplotlib.transforms import blended_transform_factory

    place = blended_transform_factory(axes.transData, axes.transAxes)
    left, right = axes.get_xlim()
    before, level = -math.inf, 0
    for stage in history.stages:
        index = next(
            index for index, step in enumerate(history.steps) if step.evaluations == stage.first
        )
        at = max(left, along[index] if index == 0 else (along[index - 1] + along[index]) / 2)
        if not math.isfinite(at):
            continue
        level = 1 - level if (at - before) / (right - left) < 0.16 else 0
        before = at
        if index:
            axes.axvline(at, color=theme.faint, linewidth=0.9)
        axes.text(
            at,
            1.02 + 0.055 * level,
            str(stage.size),
            transform=place,
            color=theme.ink,
            fontsize=8,
            ha="left",
        )


def _evaluations(history: History) -> list[float]:
    return [float(step.evaluations) for step in history.steps]


def _seconds(history: History) -> list[float]:
    return [step.seconds if abs(step.seconds) < _HIGH else math.nan for step in history.steps]


def _stages(history: History) -> list[int]:
    return [step.stage for step in history.steps]
