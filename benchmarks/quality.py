"""Recipes and strengths by their distances to the painting and to the photo.

    python -m benchmarks.quality --quick|--full [--recipe NAME ...] [--strengths VALUES] [--out DIR]
    [--docs]

Every pair of sample photo and museum painting is painted with every recipe at every strength. Two
distances are measured with networks that did not paint: LPIPS (AlexNet) to the photo, and the style
distance to the painting (the other VGG network). Both are scaled to their ends. LPIPS is 0 for the
photo and 1 for the painting. The style distance is 1 for the photo and 0 for the painting. A point
is the mean over the pairs. The Pareto front consists of the points that no other point is better
than in both distances. Pictures that DIR has already from the same recipe are not painted again.
With --docs the page and the plot are copied to docs/.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import skimage.data

import impasto
from benchmarks import table
from benchmarks.loss import PAIRS
from impasto import images
from impasto.comparisons.scoring import Row
from impasto.events import Event, Warned
from impasto.recipe.records import Recipe
from impasto.sweeps import sweep
from impasto.sweeps.grid import Axis, axes

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PLOT = "quality.md", "quality.png"


@dataclass(frozen=True)
class Extent:
    """Pairs and long side to paint, and the default recipes and strengths."""

    pairs: tuple[tuple[str, str], ...]
    side: int
    recipes: tuple[str, ...]
    strengths: str


QUICK = Extent(PAIRS[:2], 192, ("draft", "default"), "20:80:3")
FULL = Extent(PAIRS, 512, ("draft", "default", "best"), "10:90:5")


@dataclass(frozen=True)
class Point:
    """A recipe at a strength: scaled LPIPS, scaled style distance and seconds, means over pairs."""

    recipe: str
    strength: str
    lpips: float
    style: float
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. The exit status is 130 after Ctrl-C, else 0."""
    parsed = _parser().parse_args(arguments)
    extent = FULL if parsed.full else QUICK
    names = parsed.recipe or list(extent.recipes)
    chosen = {name: impasto.load_recipe(name, {"size": extent.side}) for name in names}
    _, varied = axes(Recipe(), {"strength": parsed.strengths or extent.strengths})
    if not varied:
        raise SystemExit("--strengths needs two or more values, such as 10:90:5")
    machine = table.machine()
    try:
        results = [
            point
            for name, recipe in chosen.items()
            for point in measure_recipe(name, recipe, extent.pairs, varied[0], parsed.out)
        ]
    except KeyboardInterrupt:
        _say("stopped; the same command continues")
        return 130
    extra = [f"--recipe {name}" for name in parsed.recipe or ()]
    extra += [f"--strengths {parsed.strengths}"] if parsed.strengths else []
    command = " ".join(
        ["python -m benchmarks.quality", "--full" if parsed.full else "--quick", *extra]
    )
    text = page(results, extent, command, machine)
    (parsed.out / PAGE).write_text(text, "utf-8")
    plot(results, parsed.out / PLOT)
    print(text)
    if parsed.docs:
        shutil.copyfile(parsed.out / PAGE, DOCS / PAGE)
        shutil.copyfile(parsed.out / PLOT, DOCS / "pictures" / PLOT)
    return 0


def measure_recipe(
    name: str, recipe: Recipe, pairs: Sequence[tuple[str, str]], strengths: Axis, out: Path
) -> list[Point]:
    """The points of a recipe, one per strength. Pictures go to ``out``/PHOTO-PAINTING/RECIPE."""
    stem = Path(name).stem
    scores = []
    for photo, painting in pairs:
        _say(f"{photo}, {painting}, {name}")
        result = sweep.sweep(
            _photo(photo, out), painting, out / f"{photo}-{painting}" / stem,
            recipe=recipe, most=None, on_event=_say_warning, strength=list(strengths.values),
        )  # fmt: skip
        scores.append([_relative_scores(one, result.ends) for one in result.results])
    means = np.array(scores, float).mean(axis=0)  # (strengths, 3)
    return [
        Point(stem, text, *map(float, row))
        for text, row in zip(strengths.texts, means, strict=True)
    ]


def _relative_scores(result: sweep.Result, ends: Sequence[Row]) -> tuple[float, float, float]:
    """Scaled LPIPS and style distance of a picture, and its seconds."""
    if result.scores is None:
        raise SystemExit(f"{result.settings}: {result.note or 'not evaluated'}")
    photo, painting = (
        next(end.scores for end in ends if end.role == role) for role in ("photo", "painting")
    )
    seconds = result.record.get("seconds", float("nan"))
    style = (result.scores.style - painting.style) / (photo.style - painting.style)
    return result.scores.lpips_alexnet / painting.lpips_alexnet, style, seconds


def _photo(name: str, out: Path) -> Path:
    """A photo of scikit-image as a file, so that pictures can name it."""
    path = out / f"{name}.png"
    if not path.exists():
        images.save(
            images.check_output(path), getattr(skimage.data, name)().astype(np.float32) / 255
        )
    return path


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other point dominates, from the photo to the painting."""
    best = [p for p in points if not any(_dominates(other, p) for other in points)]
    return sorted(best, key=lambda point: point.lpips)


def _dominates(point: Point, other: Point) -> bool:
    no_worse = point.lpips <= other.lpips and point.style <= other.style
    return no_worse and (point.lpips, point.style) != (other.lpips, other.style)


# ---- output --------------------------------------------------------------------------------------


def page(points: Sequence[Point], extent: Extent, command: str, machine: str) -> str:
    """The points as a page in Markdown."""
    front = pareto_front(points)
    lines = [
        "| recipe | strength | LPIPS to the photo | style distance | seconds | front |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["| photo itself |  | 0.000 | 1.000 |  |  |"]
    for point in points:
        row = [
            point.recipe,
            point.strength,
            f"{point.lpips:.3f}",
            f"{point.style:.3f}",
            f"{point.seconds:.0f}",
        ]
        lines.append(f"| {' | '.join([*row, 'yes' if point in front else ''])} |")
    lines += ["| painting itself |  | 1.000 | 0.000 |  |  |"]
    pairs = "; ".join(f"{photo}, {painting}" for photo, painting in extent.pairs)
    made = f"`{command}`, {date.today():%Y-%m-%d}, impasto {impasto.__version__}."
    return (
        f"# Quality\n\n{_INTRODUCTION}\n{made}\n\n{machine}\n\n"
        f"![LPIPS to the photo and style distance to the painting](pictures/{PLOT})\n\n"
        f"Means over {len(extent.pairs)} pairs at {extent.side} px ({pairs}).\n{_ABOUT}\n"
        + "\n".join(lines)
        + "\n"
    )


_INTRODUCTION = """\
How do recipes and strengths compare? To measure your own choice:

```sh
python -m benchmarks.quality --quick --recipe draft --strengths 20,50,80
```
"""

_ABOUT = """
- LPIPS (AlexNet) is scaled: 0 for the photo, 1 for the painting.
- The style distance is measured with the VGG network that did not paint. It is scaled too: 1 for
  the photo, 0 for the painting.
- Neither is quality: a picture closer to the painting is farther from the photo. But a picture that
  is closer to both than another one has lost less.
- "Front" marks the Pareto front: no other point is better in both.
- Only a few pairs were painted, so another photo may reverse small differences.
"""


def plot(points: Sequence[Point], target: Path) -> None:
    """Plot a line per recipe through its strengths, the Pareto front and the two ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 6.5), dpi=120)
    front = pareto_front(points)
    axis.plot(
        [p.lpips for p in front],
        [p.style for p in front],
        color="0.75",
        linewidth=9,
        solid_capstyle="round",
        zorder=1,
        label="Pareto front",
    )
    for name in dict.fromkeys(point.recipe for point in points):
        line = [point for point in points if point.recipe == name]
        axis.plot(
            [p.lpips for p in line], [p.style for p in line], marker="o", zorder=2, label=name
        )
        for point in line:
            axis.annotate(
                point.strength,
                (point.lpips, point.style),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=9,
            )
    for end, place in (("photo itself", (0.0, 1.0)), ("painting itself", (1.0, 0.0))):
        axis.scatter(*place, marker="s", color="black", zorder=3)
        axis.annotate(
            end, place, xytext=(0, 8), textcoords="offset points", ha="center", fontsize=10
        )
    axis.set(
        xlabel="LPIPS to the photo (1: the painting)",
        ylabel="style distance to the painting (1: the photo)",
        xlim=(-0.1, 1.12),
        ylim=(-0.05, 1.1),
    )
    axis.grid(alpha=0.3)
    axis.legend(title="recipe, numbers are strengths", loc="upper right")
    figure.tight_layout()
    figure.savefig(target)
    pyplot.close(figure)


def _say_warning(event: Event) -> None:
    if isinstance(event, Warned):
        _say(f"note: {event.message}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.quality", description=__doc__, formatter_class=form
    )
    extent = parser.add_mutually_exclusive_group(required=True)
    extent.add_argument(
        "--quick", action="store_true", help="two pairs at 192 px: some minutes on two cores"
    )
    extent.add_argument(
        "--full", action="store_true", help="all pairs at 512 px: more than an hour"
    )
    parser.add_argument(
        "--recipe",
        action="append",
        metavar="NAME",
        help="a named recipe or a file; may be repeated",
    )
    parser.add_argument("--strengths", help="such as 20,50,80 or 10:90:5")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("quality"),
        help="folder of pictures and page [default: quality]",
    )
    parser.add_argument("--docs", action="store_true", help=f"copy the page to {DOCS.name}/{PAGE}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
