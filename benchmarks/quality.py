"""How near to the painting, how far from the photo: recipes and strengths in the plane of a referee
that did not paint.

    python -m benchmarks.quality --quick|--full [--recipe NAME ...] [--strengths VALUES] [--out DIR]
    [--docs]

Every pair of sample photo and museum painting is painted by every recipe at every strength. For
each picture the referee gives LPIPS (AlexNet, which paints for nobody) to the photo and the style
distance to the painting (the VGG network that did not paint). Both are told as shares between the
two ends: LPIPS is 0 for the photo itself and 1 for the painting itself, the style distance is 1 for
the photo itself and 0 for the painting itself. A point is the mean over the pairs; those that no
other beats in both make the Pareto front. Pictures that are in DIR by the same recipe are not
painted again. With --docs page and picture are kept in docs/.
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
from impasto.compare.scoring import Row
from impasto.events import Warned
from impasto.recipe.records import Recipe
from impasto.sweep import sweep
from impasto.sweep.grid import Axis, axes

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PLANE = "quality.md", "quality.png"


@dataclass(frozen=True)
class Extent:
    """How much is painted: which pairs, at which long side, by which recipes and strengths where
    none are named.
    """

    pairs: tuple[tuple[str, str], ...]
    side: int
    recipes: tuple[str, ...]
    strengths: str


QUICK = Extent(PAIRS[:2], 192, ("draft", "default"), "20:80:3")
FULL = Extent(PAIRS, 512, ("draft", "default", "best"), "10:90:5")


@dataclass(frozen=True)
class Point:
    """A recipe at a strength: LPIPS and style distance as shares between the ends, means over the
    pairs, and seconds.
    """

    recipe: str
    strength: str
    lpips: float
    style: float
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit status: 130 after Ctrl-C, else 0."""
    given = _parser().parse_args(arguments)
    extent = FULL if given.full else QUICK
    names = given.recipe or list(extent.recipes)
    chosen = {name: impasto.load_recipe(name, {"size": extent.side}) for name in names}
    _, varied = axes(Recipe(), {"strength": given.strengths or extent.strengths})
    if not varied:
        raise SystemExit("--strengths: give two or more, such as 10:90:5")
    machine = table.machine()
    try:
        found = [
            point
            for name, recipe in chosen.items()
            for point in points(name, recipe, extent.pairs, varied[0], given.out)
        ]
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from here")
        return 130
    more = [f"--recipe {name}" for name in given.recipe or ()]
    more += [f"--strengths {given.strengths}"] if given.strengths else []
    command = " ".join(
        ["python -m benchmarks.quality", "--full" if given.full else "--quick", *more]
    )
    text = page(found, extent, command, machine)
    (given.out / PAGE).write_text(text, "utf-8")
    plane(found, given.out / PLANE)
    print(text)
    if given.docs:
        shutil.copyfile(given.out / PAGE, DOCS / PAGE)
        shutil.copyfile(given.out / PLANE, DOCS / "pictures" / PLANE)
    return 0


def points(
    name: str, recipe: Recipe, pairs: Sequence[tuple[str, str]], strengths: Axis, out: Path
) -> list[Point]:
    """The points of a recipe, one for each strength; its pictures lie in
    ``out``/PHOTO-PAINTING/RECIPE.
    """
    stem = Path(name).stem
    each = []
    for photo, painting in pairs:
        _say(f"{photo}, {painting}, {name}")
        watch = impasto.Watch(
            event=lambda event: (
                _say(f"note: {event.message}") if isinstance(event, Warned) else None
            )
        )
        found = impasto.sweep(
            _photo(photo, out), painting, out / f"{photo}-{painting}" / stem,
            recipe=recipe, most=None, watch=watch, strength=list(strengths.values),
        )  # fmt: skip
        each.append([_shares(result, found.ends) for result in found.results])
    means = np.array(each, float).mean(axis=0)  # (strengths, 3)
    return [
        Point(stem, text, *map(float, row))
        for text, row in zip(strengths.texts, means, strict=True)
    ]


def _shares(result: sweep.Result, ends: Sequence[Row]) -> tuple[float, float, float]:
    """LPIPS and style distance of a picture between those of the photo and the painting, and its
    seconds.
    """
    if result.scores is None:
        raise SystemExit(f"{result.settings}: {result.note or 'not judged'}")
    photo, painting = (
        next(end.scores for end in ends if end.role == role) for role in ("photo", "painting")
    )
    seconds = result.record.get("seconds", float("nan"))
    style = (result.scores.style - painting.style) / (photo.style - painting.style)
    return result.scores.lpips_alexnet / painting.lpips_alexnet, style, seconds


def _photo(name: str, out: Path) -> Path:
    """One of scikit-image's photos as a file, so that pictures name it."""
    path = out / f"{name}.png"
    if not path.exists():
        images.save(
            images.check_output(path), getattr(skimage.data, name)().astype(np.float32) / 255
        )
    return path


def front(found: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, from the photo to the painting."""
    best = [p for p in found if not any(_beats(other, p) for other in found)]
    return sorted(best, key=lambda point: point.lpips)


def _beats(one: Point, other: Point) -> bool:
    no_worse = one.lpips <= other.lpips and one.style <= other.style
    return no_worse and (one.lpips, one.style) != (other.lpips, other.style)


# ---- telling -------------------------------------------------------------------------------------


def page(found: Sequence[Point], extent: Extent, command: str, machine: str) -> str:
    """The points as a page in Markdown."""
    ahead = front(found)
    lines = [
        "| recipe | strength | LPIPS to the photo | style distance | seconds | front |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["| photo itself |  | 0.000 | 1.000 |  |  |"]
    for point in found:
        row = [
            point.recipe,
            point.strength,
            f"{point.lpips:.3f}",
            f"{point.style:.3f}",
            f"{point.seconds:.0f}",
        ]
        lines.append(f"| {' | '.join([*row, 'yes' if point in ahead else ''])} |")
    lines += ["| painting itself |  | 1.000 | 0.000 |  |  |"]
    pairs = "; ".join(f"{photo}, {painting}" for photo, painting in extent.pairs)
    made = f"`{command}`, {date.today():%Y-%m-%d}, impasto {impasto.__version__}."
    return (
        f"# Quality\n\n{made}\n\n{machine}\n\n![The referee's plane](pictures/{PLANE})\n\n"
        f"Means over {len(extent.pairs)} pairs at {extent.side} px ({pairs}).\n{_ABOUT}\n"
        + "\n".join(lines)
        + "\n"
    )


_ABOUT = """\
LPIPS (AlexNet) and the style distance (by the VGG network that did not paint) are told between their ends: the photo itself
has 0 and 1, the painting itself 1 and 0. Neither is quality: what comes closer to the painting leaves the photo. But of two
pictures of which one is nearer to both, that one has lost less on the way; the front is what no other point is ahead of.
Few pairs were painted: small distances between points may change places with another photo.
"""


def plane(found: Sequence[Point], target: Path) -> None:
    """Draw the plane: a line for each recipe through its strengths, the Pareto front, and the two
    ends.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 6.5), dpi=120)
    ahead = front(found)
    axis.plot([p.lpips for p in ahead], [p.style for p in ahead], color="0.75", linewidth=9, solid_capstyle="round",
              zorder=1, label="Pareto front")  # fmt: skip
    for name in dict.fromkeys(point.recipe for point in found):
        own = [point for point in found if point.recipe == name]
        axis.plot([p.lpips for p in own], [p.style for p in own], marker="o", zorder=2, label=name)
        for point in own:
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
    axis.set(xlabel="LPIPS to the photo (1: the "
                    "painting)", ylabel="style distance to the painting (1: the photo)",
             xlim=(-0.1, 1.12), ylim=(-0.05, 1.1))  # fmt: skip
    axis.grid(alpha=0.3)
    axis.legend(title="recipe, numbers are strengths", loc="upper right")
    figure.tight_layout()
    figure.savefig(target)
    pyplot.close(figure)


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
    extent.add_argument("--full", action="store_true", help="all pairs at 512 px: an hour and more")
    parser.add_argument(
        "--recipe",
        action="append",
        metavar="NAME",
        help="a named recipe or a file; again for several",
    )
    parser.add_argument("--strengths", help="such as 20,50,80 or 10:90:5")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("quality"),
        help="where pictures and page go [default: quality]",
    )
    parser.add_argument("--docs", action="store_true", help=f"keep the page as {DOCS.name}/{PAGE}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
