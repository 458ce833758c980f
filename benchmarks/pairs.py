"""Two recipes on sixteen pairs: scores at equal likeness to the photo, and a blind comparison.

    python -m benchmarks.pairs PHOTOS --before RECIPE --after RECIPE [--side PX] [--out DIR]
    [--only NAME ...] [--sheet FILE]

Pictures at one strength of two recipes do not compare: the one that is closer to the painting is
farther from the photo. So the recipe before is painted at three strengths, and its scores are
interpolated to the LPIPS (AlexNet) of the recipe after at strength 50. The networks that measure
did not paint.

PHOTOS is a folder with the photos that no package brings (``FILES``). Pictures that DIR already has
are not painted again. DIR/blind has the pictures of each pair side by side without names, in random
order; DIR/blind/key.json says which is which. --sheet writes the pairs whose photos may be shown,
with their names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import impasto
from impasto import images
from impasto.assets.catalogue import silent
from impasto.comparisons.scoring import CachedEvaluator
from impasto.images.pixels import Pixels
from impasto.inputs import read_painting

STRENGTHS = (35.0, 50.0, 65.0)  # of the recipe before
STRENGTH = 50.0  # of the recipe after
FIGURES = ("sliced_scales", "style", "precision", "recall", "face", "grain", "periodic")
# The photos that are read from the folder.
FILES = (
    "tubingen.jpg",
    "golden_gate.jpg",
    "hoovertowernight.jpg",
    "group.jpg",
    "china.jpg",
    "flower.jpg",
)
# Of these, the photos that may be published: from scikit-learn's package, CC BY 2.0.
FREE = ("china.jpg", "flower.jpg")


@dataclass(frozen=True)
class Pair:
    """A photo and a painting. Pairs of ``tuning`` chose the settings and do not judge them."""

    photo: str
    painting: str
    tuning: bool = False

    @property
    def name(self) -> str:
        return f"{Path(self.photo).stem}-{Path(self.painting).stem}"


PAIRS = (
    Pair("astronaut", "wheat-field-with-cypresses", tuning=True),
    Pair("tubingen.jpg", "circus-sideshow", tuning=True),
    Pair("chelsea", "irises", tuning=True),
    Pair("group.jpg", "the-love-song", tuning=True),
    Pair("coffee", "night-shining-white", tuning=True),
    Pair("grace_hopper", "circus-sideshow", tuning=True),
    Pair("golden_gate.jpg", "wheat-field-with-cypresses"),
    Pair("hoovertowernight.jpg", "whalers"),
    Pair("china.jpg", "summer-mountains"),
    Pair("flower.jpg", "shiva-and-parvati-playing-chaupar"),
    Pair("rocket", "the-love-song"),
    Pair("astronaut", "self-portrait"),
    Pair("grace_hopper", "self-portrait-with-a-straw-hat"),
    Pair("group.jpg", "mada-primavesi"),
    Pair("coffee", "great-indian-fruit-bat"),
    Pair("tubingen.jpg", "old-plum"),
)


@dataclass(frozen=True)
class Scored:
    """A painted picture, its scores by name, and the seconds that it took."""

    file: Path
    scores: Mapping[str, float | None]
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parsed = _parser().parse_args(arguments)
    rows = {}
    for pair in PAIRS:
        if parsed.only and pair.name not in parsed.only:
            continue
        before, after = measure(pair, parsed)
        rows[pair] = at_equal_likeness(before, after)
        print(row(pair, rows[pair]), flush=True)
        blind(pair, [before[len(before) // 2].file, after.file], parsed.out / "blind")
    print(summary(rows))
    if parsed.sheet:
        shown = [pair for pair in rows if pair.photo not in FILES or pair.photo in FREE]
        images.save(parsed.sheet, sheet(shown, parsed), quality=86)
    return 0


def measure(pair: Pair, request: argparse.Namespace) -> tuple[list[Scored], Scored]:
    """Paint and score a pair: the recipe before at each of ``STRENGTHS``, and the recipe after."""
    photo = photo_source(pair.photo, request.photos)
    read = images.read(photo, max_megapixels=250), read_painting(pair.painting, 250)
    evaluator = CachedEvaluator(*read, silent)

    def scored(role: str, recipe: str, strength: float) -> Scored:
        file = request.out / pair.name / f"{role}-{strength:g}.png"
        notes = file.with_suffix(".json")
        if not notes.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            settings = {"strength": strength, "size": request.side}
            start = time.perf_counter()
            impasto.stylize(photo, pair.painting, recipe=recipe, **settings).save(file)
            seconds = time.perf_counter() - start
            _, found = evaluator(images.read(file, max_megapixels=250), "vgg19")
            notes.write_text(json.dumps({"seconds": seconds, **asdict(found.scores)}), "utf-8")
        values = json.loads(notes.read_text("utf-8"))
        return Scored(file, values, values.pop("seconds"))

    before = [scored("before", request.before, strength) for strength in STRENGTHS]
    return before, scored("after", request.after, STRENGTH)


def photo_source(name: str, folder: Path) -> Path | Pixels:
    """A file of the folder, or a photo that scikit-image or matplotlib brings, (H, W, 3)."""
    if name in FILES:
        return folder / name
    if name == "grace_hopper":
        from matplotlib import cbook

        with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
            return np.asarray(image.convert("RGB"), np.float32) / 255
    pixels: Pixels = getattr(skimage.data, name)().astype(np.float32) / 255
    return pixels


def at_equal_likeness(
    before: Sequence[Scored], after: Scored
) -> dict[str, tuple[float | None, float | None]]:
    """Each figure of the recipe before, interpolated to the LPIPS of the one after, and after's.

    Beyond the strengths that were painted the line through the nearest two goes on. "time" has the
    seconds of both at the middle strength.
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    likeness = _value(after, "lpips_alexnet")
    for name in FIGURES:
        values = [scored.scores[name] for scored in before]
        points = [
            (_value(scored, "lpips_alexnet"), value)
            for scored, value in zip(before, values, strict=True)
            if value is not None
        ]
        whole = len(points) == len(before)
        expected = _on_line(sorted(points), likeness) if whole else None
        found[name] = expected, after.scores[name]
    found["time"] = before[len(before) // 2].seconds, after.seconds
    return found


def _value(scored: Scored, name: str) -> float:
    value = scored.scores[name]
    assert value is not None
    return value


def _on_line(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at ``x`` of the line through the two points around it, or the nearest two."""
    (x0, y0), (x1, y1) = min(pairwise(points), key=lambda ends: max(ends[0][0] - x, x - ends[1][0]))
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else (y0 + y1) / 2


Figures = Mapping[str, tuple[float | None, float | None]]


def row(pair: Pair, figures: Figures) -> str:
    """A line of the table: each figure before and after, at equal likeness."""
    texts = [
        "-" if before is None or after is None else f"{before:.3f} > {after:.3f}"
        for before, after in figures.values()
    ]
    return f"| {pair.name}{' (tuning)' * pair.tuning} | {' | '.join(texts)} |"


def summary(rows: Mapping[Pair, Figures]) -> str:
    """The geometric mean of after / before, of all pairs and of those that judge."""
    lines = []
    groups: dict[str, Callable[[Pair], bool]] = {
        "all pairs": lambda pair: True,
        "pairs that judge": lambda pair: not pair.tuning,
    }
    for group, belongs in groups.items():
        chosen = [figures for pair, figures in rows.items() if belongs(pair)]
        for name in ("sliced_scales", "style", "precision", "recall", "face", "time"):
            pairs = [figures[name] for figures in chosen]
            ratios = [after / before for before, after in pairs if before and after]
            if ratios:
                mean = float(np.exp(np.mean(np.log(ratios))))
                lines.append(
                    f"{group}: {name} x {mean:.3f} (worst {max(ratios):.3f}, best {min(ratios):.3f}"
                    f", {len(ratios)} pairs)"
                )
    return "\n".join(lines)


def blind(pair: Pair, files: Sequence[Path], folder: Path) -> None:
    """Write both pictures side by side in random order, and the order to key.json."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key.json"
    orders = json.loads(key.read_text("utf-8")) if key.exists() else {}
    order = orders.get(pair.name) or np.random.default_rng().permutation(2).tolist()
    shown = [images.read(files[index], max_megapixels=250).pixels for index in order]
    gap = np.ones((shown[0].shape[0], 16, 3), np.float32)
    images.save(folder / f"{pair.name}.png", np.concatenate([shown[0], gap, shown[1]], axis=1))
    orders[pair.name] = order
    key.write_text(json.dumps(orders), "utf-8")


def sheet(pairs: Sequence[Pair], request: argparse.Namespace) -> Pixels:
    """The contact sheet: photo, painting, before and after of each pair."""
    cells: list[tuple[Pixels, str]] = []
    for pair in pairs:
        photo = images.read(photo_source(pair.photo, request.photos), max_megapixels=250)
        cells += [
            (photo.pixels, Path(pair.photo).stem),
            (read_painting(pair.painting, 250).pixels, pair.painting),
        ]
        for role, strength in (("before", STRENGTHS[len(STRENGTHS) // 2]), ("after", STRENGTH)):
            file = request.out / pair.name / f"{role}-{strength:g}.png"
            cells.append((images.read(file, max_megapixels=250).pixels, role))
    return images.contact_sheet(cells, columns=4, cell=request.side // 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="folder with " + ", ".join(FILES))
    parser.add_argument("--before", required=True, help="recipe: a name or a file")
    parser.add_argument("--after", required=True, help="recipe: a name or a file")
    parser.add_argument("--side", type=int, default=512, help="long side in pixels")
    parser.add_argument("--out", type=Path, default=Path("pairs"), help="folder of the pictures")
    parser.add_argument("--only", nargs="*", help="names of pairs")
    parser.add_argument("--sheet", type=Path, help="file of the contact sheet")
    return parser


if __name__ == "__main__":
    sys.exit(main())
