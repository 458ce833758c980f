"""How soon: the time to the loss that the yardstick has after 500 evaluations at the final size
(row ``loss``).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import yardstick
from benchmarks.scene import (
    GRAM,
    LOSS_APART,
    PLAIN,
    Contest,
    How,
    Rival,
    Say,
    Scene,
    contest,
    scene,
)
from benchmarks.table import Row
from impasto import images
from impasto.events import Failed, Stepped
from impasto.hardware import allocator
from impasto.optimize import loop
from impasto.planning import schedule
from impasto.recipe import loading

# Impasto's side: how it gets there. The last size is gone on with until the loss is reached, LAST
# evaluations at most. Coarser sizes first are what makes a better picture, not a lower loss:
# docs/findings.md.
SCHEDULE: dict[str, Any] = {"single_scale": True, "patience": 0}
LAST = 250

ASKED, AIM = 8.0, 12.0  # how often Impasto's time fits into the yardstick's
LPIPS_ASKED = 1.05  # of the yardstick's distance to the photo

SIDE, EVALUATIONS = 512, 500
PAIRS = (
    ("chelsea", "irises"),
    ("coffee", "still-life-with-apples-and-a-pot-of-primroses"),
    ("rocket", "the-love-song"),
    ("astronaut", "wheat-field-with-cypresses"),
)
QUICK_SIDE, QUICK_EVALUATIONS = 256, 150
OBJECTIVES: dict[str, dict[str, Any]] = {"default": PLAIN, "Gram": GRAM}
CONTESTS = (*((*pair, "default") for pair in PAIRS), (*PAIRS[0], "Gram"))


def loss(how: How) -> Iterator[Row]:
    """Each pair of photo and painting; the yardstick's search is Impasto's evaluation in its place,
    unless ``honest``.
    """
    side, evaluations = (SIDE, EVALUATIONS) if how.full else (QUICK_SIDE, QUICK_EVALUATIONS)
    for photo, painting, objective in CONTESTS if how.full else CONTESTS[:1]:
        plain, made = (
            scene(side, photo, painting, precision=name, **OBJECTIVES[objective])
            for name in ("float32", "auto")
        )
        with contest(plain) as sides:
            theirs, seconds = _searched(how, sides, evaluations)

            def judged(picture: Tensor, rival: Rival = sides.rival) -> float:
                rival.look_at(picture)
                return rival.evaluate()[0]

            if seconds is not None:
                ours, way = painted(made, min(theirs.losses), judged, how.say), "run for real"
            else:
                clock = Clock(sides.rival.seconds)
                ours = painted(made, min(theirs.losses), judged, how.say, clock)
                clock.fill(how.pairs)
                seconds = evaluations * clock.median
                way = f"{evaluations} times {clock.median:.2f} s, the median of {clock.count} among Impasto's own"
                way += "; its losses by Impasto's evaluation"
        yield _row(
            how,
            made,
            f"{photo}, {painting}, {objective} objective",
            sides,
            theirs,
            seconds,
            way,
            ours,
        )


class Clock:
    """Looks now and then, while the other side works, what an evaluation takes on this one; the
    first look warms it up.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._last = 0.0
        self._pause = _PAUSE * seconds()
        self._found: list[float] = []

    def __call__(self, spent: float) -> None:
        """``spent``: seconds that the other side has worked so far."""
        if spent - self._last >= self._pause:
            self._last = spent
            self._found.append(self._seconds())

    def fill(self, count: int) -> None:
        """Look until there are so many."""
        while len(self._found) < count:
            self._found.append(self._seconds())

    @property
    def median(self) -> float:
        return statistics.median(self._found)

    @property
    def count(self) -> int:
        return len(self._found)


_NEAR = 1.001  # of the target: what bfloat16 may be off by
_PAUSE = 2.0  # evaluations of the yardstick's between two looks


def _searched(how: How, sides: Contest, evaluations: int) -> tuple[yardstick.Search, float | None]:
    """The yardstick's search, and its seconds where it was the yardstick itself that searched."""
    name = f"{sides.scene.asked.recipe.sha256[:16]}-{evaluations}{'-honest' * how.honest}.pt"
    file = how.keep / name if how.keep else None
    if file is not None and file.exists():
        losses, picture, seconds = torch.load(file, weights_only=True)
        # Still the same objective.
        if abs(sides.evaluate(picture)[0] / min(losses) - 1) <= LOSS_APART:
            how.say(f"the yardstick's search is taken from {file}")
            return yardstick.Search(losses, picture), seconds
    if how.honest:
        found, seconds = sides.rival.search(evaluations, how.say)
    else:
        with allocator.reused_memory():
            found, seconds = (
                yardstick.search(sides.evaluate, sides.scene.photo, evaluations, how.say),
                None,
            )
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save((found.losses, found.picture, seconds), file)
    return found, seconds


@dataclass(frozen=True)
class Painted:
    """Impasto's run: whether the loss was reached, its lowest, when it ended, and the picture (1,
    3, H, W) of that loss.
    """

    reached: bool
    loss: float
    seconds: float
    evaluations: int  # at the last size
    picture: Tensor
    stages: str


def painted(
    made: Scene,
    target: float,
    judged: Callable[[Tensor], float],
    say: Say,
    aside: Callable[[float], None] = lambda spent: None,
) -> Painted:
    """Impasto's run until a picture of the final size has the loss ``target``; stages' set-up
    included.

    Its own loss may be rounded, so the last word on a picture's is that of ``judged``, the
    yardstick's. ``aside`` is called with the seconds so far after each event. What the two take
    does not count.
    """
    recipe = loading.with_settings(made.asked.recipe, SCHEDULE)
    plan = schedule.plan(recipe, made.asked.photo.full_size)
    plan = replace(plan, stages=(*plan.stages[:-1], replace(plan.stages[-1], steps=LAST)))
    last = len(plan.stages) - 1
    stages = ", ".join(f"{stage.size.long_side}:{stage.steps}" for stage in plan.stages[:-1])
    found = Painted(False, float("inf"), 0.0, 0, made.photo, stages)
    with allocator.reused_memory():
        seconds, begun = 0.0, time.perf_counter()
        for event, state in loop.iterate(plan, replace(made.tools, recipe=recipe)):
            seconds += time.perf_counter() - begun
            if isinstance(event, Failed):
                raise RuntimeError(event.message)
            if isinstance(event, Stepped) and event.stage == last:
                assert state.best is not None
                found = Painted(False, state.lowest.total, seconds, event.step, state.best, stages)
                if event.loss <= target * _NEAR and event.loss == state.lowest.total:
                    lowest = judged(state.best)
                    found = replace(found, reached=lowest <= target, loss=lowest)
                if event.step % 10 == 0:
                    say(
                        f"Impasto, evaluation {event.step} at {plan.size}: loss {event.loss:.5f}, "
                        f"{target:.5f} is wanted"
                    )
                if found.reached:
                    break
            aside(seconds)
            begun = time.perf_counter()
    return found


def _row(
    how: How,
    made: Scene,
    pair: str,
    sides: Contest,
    theirs: yardstick.Search,
    seconds: float,
    way: str,
    ours: Painted,
) -> Row:
    ratio, least = seconds / ours.seconds, min(theirs.losses)
    end = f"evaluation {ours.evaluations}" + (
        f" of the last size after {ours.stages}" if ours.stages else ""
    )
    reached = (
        f"1/{ratio:.1f}: {ours.seconds:.1f} s"
        if ours.reached
        else f"NOT REACHED in {ours.seconds:.1f} s"
    )
    holds: bool | None = ours.reached and ratio >= ASKED
    far = _lpips_apart(made, theirs.picture, ours.picture)
    if far is None:
        distance, holds = "LPIPS not measured", None if holds else False
    else:
        distance = (
            f"LPIPS to the photo {far[0]:.3f} against {far[1]:.3f} ({far[0] / far[1] - 1:+.1%})"
        )
        holds = holds and far[0] <= LPIPS_ASKED * far[1]
    measured = (
        f"{reached} ({end}) against {seconds:.0f} s ({way}); "
        f"loss {ours.loss:.5f} against {least:.5f}; {distance}; {sides.agreement}"
    )
    wish = (
        f"1/{ASKED:g} of its time (aim 1/{AIM:g}), LPIPS at most {LPIPS_ASKED - 1:.0%} above"
        if how.full
        else ""
    )
    what = f"time to the yardstick's loss after {len(theirs.losses)} evaluations at {made.size}: {pair}"
    what += f", {made.tools.network.kernel.name}"
    return Row("loss", what, wish, measured, (holds if how.full else None) if sides.same else False)


def _lpips_apart(made: Scene, theirs: Tensor, ours: Tensor) -> tuple[float, float] | None:
    """LPIPS (AlexNet) of Impasto's picture and of the yardstick's to the photo; None where it
    cannot be measured.
    """
    try:
        from impasto.compare.lpips import lpips
    except ImportError:
        return None
    photo = images.from_tensor(made.photo)
    with torch.no_grad():
        near, far = (float(lpips(_shown(each), photo, "alexnet")) for each in (ours, theirs))
    return near, far


def _shown(picture: Tensor) -> images.Pixels:
    """The picture as it would be written: cut to 0..1."""
    return np.clip(images.from_tensor(picture), 0, 1)
