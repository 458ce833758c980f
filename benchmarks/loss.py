"""Time until Impasto reaches the baseline's loss after 500 evaluations (row ``loss``)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import baseline
from benchmarks.scene import (
    GRAM,
    LOSS_TOLERANCE,
    PLAIN,
    BaselineProcess,
    Comparison,
    Options,
    Say,
    Scene,
    build_scene,
    compare_with_baseline,
)
from benchmarks.table import Row
from impasto import images
from impasto.events import Failed, Stepped
from impasto.hardware import allocator
from impasto.optimize import loop
from impasto.planning import schedule
from impasto.recipe import loading

# Impasto paints at the final size only, until it reaches the loss or LAST evaluations. Coarser
# sizes first make a better picture, not a lower loss (docs/findings.md, "Schedule").
SCHEDULE: dict[str, Any] = {"single_scale": True, "patience": 0}
LAST = 250

TARGET, GOAL = 8.0, 12.0  # the baseline's time over Impasto's
LPIPS_TARGET = 1.05  # largest LPIPS to the photo, relative to the baseline's

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


def loss(options: Options) -> Iterator[Row]:
    """One row per pair of photo and painting.

    Unless ``options.honest``, the baseline's search runs with Impasto's evaluation, and its time is
    computed from the median time of the baseline's evaluation.
    """
    side, evaluations = (SIDE, EVALUATIONS) if options.full else (QUICK_SIDE, QUICK_EVALUATIONS)
    for photo, painting, objective in CONTESTS if options.full else CONTESTS[:1]:
        plain, scene = (
            build_scene(side, photo, painting, precision=name, **OBJECTIVES[objective])
            for name in ("float32", "auto")
        )
        with compare_with_baseline(plain) as comparison:
            theirs, seconds = _baseline_search(options, comparison, evaluations)

            def baseline_loss(
                picture: Tensor, process: BaselineProcess = comparison.process
            ) -> float:
                process.set_picture(picture)
                return process.evaluate()[0]

            if seconds is not None:
                ours = run_impasto(scene, min(theirs.losses), baseline_loss, options.say)
                basis = "measured"
            else:
                timer = BaselineTimer(comparison.process.seconds)
                ours = run_impasto(scene, min(theirs.losses), baseline_loss, options.say, timer)
                timer.fill(options.pairs)
                seconds = evaluations * timer.median
                basis = f"{evaluations} x {timer.median:.2f} s, the median of {timer.count} taken "
                basis += "during Impasto's run; losses from Impasto's evaluation"
        pair = f"{photo}, {painting}, {objective} objective"
        yield _row(options, scene, pair, comparison, theirs, seconds, basis, ours)


class BaselineTimer:
    """Times the baseline's evaluation now and then, while Impasto paints.

    The first call of ``seconds`` is a warm-up.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._last = 0.0
        self._pause = _PAUSE * seconds()
        self._measured: list[float] = []

    def __call__(self, spent: float) -> None:
        """Time an evaluation if one is due. ``spent``: seconds that Impasto has painted so far."""
        if spent - self._last >= self._pause:
            self._last = spent
            self._measured.append(self._seconds())

    def fill(self, count: int) -> None:
        """Time evaluations until there are ``count``."""
        while len(self._measured) < count:
            self._measured.append(self._seconds())

    @property
    def median(self) -> float:
        """Median seconds of an evaluation."""
        return statistics.median(self._measured)

    @property
    def count(self) -> int:
        """Number of timed evaluations."""
        return len(self._measured)


_ROUNDING = 1.001  # of the target: the error that bfloat16 may have
_PAUSE = 2.0  # evaluations of the baseline between two timings


def _baseline_search(
    options: Options, comparison: Comparison, evaluations: int
) -> tuple[baseline.Search, float | None]:
    """The baseline's search, and its seconds if the baseline itself ran it."""
    scene = comparison.scene
    name = f"{scene.inputs.recipe.sha256[:16]}-{evaluations}{'-honest' * options.honest}.pt"
    file = options.keep / name if options.keep else None
    if file is not None and file.exists():
        losses, picture, seconds = torch.load(file, weights_only=True)
        # Use it only if the objective is still the same.
        if abs(comparison.evaluate(picture)[0] / min(losses) - 1) <= LOSS_TOLERANCE:
            options.say(f"the baseline's search is read from {file}")
            return baseline.Search(losses, picture), seconds
    if options.honest:
        result, seconds = comparison.process.search(evaluations, options.say)
    else:
        seconds = None
        with allocator.reused_memory():
            result = baseline.search(comparison.evaluate, scene.photo, evaluations, options.say)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save((result.losses, result.picture, seconds), file)
    return result, seconds


@dataclass(frozen=True)
class ImpastoRun:
    """Impasto's run until it reached the loss or its last evaluation.

    Args:
        reached: whether the target was reached.
        loss: the lowest loss.
        seconds: time until ``loss`` was reached or the run ended.
        evaluations: evaluations at the last size.
        picture: (1, 3, H, W), the picture with this loss.
        stages: the sizes before the last, in words.
    """

    reached: bool
    loss: float
    seconds: float
    evaluations: int
    picture: Tensor
    stages: str


def run_impasto(
    scene: Scene,
    target: float,
    baseline_loss: Callable[[Tensor], float],
    say: Say,
    after_event: Callable[[float], None] = lambda spent: None,
) -> ImpastoRun:
    """Run Impasto until a picture of the final size has the loss ``target``.

    The time includes the setup of the stages. Impasto's own loss may be rounded, so
    ``baseline_loss`` decides whether a picture has reached the target. ``after_event`` is called
    with the seconds so far after each event. The time of both functions does not count.
    """
    recipe = loading.with_settings(scene.inputs.recipe, SCHEDULE)
    plan = schedule.make_plan(recipe, scene.inputs.photo.full_size)
    plan = replace(plan, stages=(*plan.stages[:-1], replace(plan.stages[-1], steps=LAST)))
    last = len(plan.stages) - 1
    stages = ", ".join(f"{stage.size.long_side}:{stage.steps}" for stage in plan.stages[:-1])
    result = ImpastoRun(False, float("inf"), 0.0, 0, scene.photo, stages)
    with allocator.reused_memory():
        seconds, start = 0.0, time.perf_counter()
        problem = replace(scene.problem, recipe=recipe, plan=plan)
        for event, state in loop.iterate(problem, scene.execution):
            seconds += time.perf_counter() - start
            if isinstance(event, Failed):
                raise RuntimeError(event.message)
            if isinstance(event, Stepped) and event.stage == last:
                assert state.best is not None
                result = ImpastoRun(
                    False, state.lowest.total, seconds, event.step, state.best, stages
                )
                if event.loss <= target * _ROUNDING and event.loss == state.lowest.total:
                    lowest = baseline_loss(state.best)
                    result = replace(result, reached=lowest <= target, loss=lowest)
                if event.step % 10 == 0:
                    say(
                        f"Impasto: evaluation {event.step} at {plan.size}, loss {event.loss:.5f}, "
                        f"target {target:.5f}"
                    )
                if result.reached:
                    break
            after_event(seconds)
            start = time.perf_counter()
    return result


def _row(
    options: Options,
    scene: Scene,
    pair: str,
    comparison: Comparison,
    theirs: baseline.Search,
    seconds: float,
    basis: str,
    ours: ImpastoRun,
) -> Row:
    speedup, lowest = seconds / ours.seconds, min(theirs.losses)
    end = f"evaluation {ours.evaluations}"
    end += f" of the last size after {ours.stages}" if ours.stages else ""
    outcome = f"{speedup:.1f}x: " if ours.reached else "NOT REACHED in "
    met: bool | None = ours.reached and speedup >= TARGET
    lpips = _lpips_to_photo(scene, ours.picture, theirs.picture)
    if lpips is None:
        distance, met = "LPIPS not measured", None if met else False
    else:
        relative = lpips[0] / lpips[1]
        distance = f"LPIPS to the photo {lpips[0]:.3f} against {lpips[1]:.3f} ({relative - 1:+.1%})"
        met = met and relative <= LPIPS_TARGET
    measured = (
        f"{outcome}{ours.seconds:.1f} s ({end}) against {seconds:.0f} s ({basis}); "
        f"loss {ours.loss:.5f} against {lowest:.5f}; {distance}; {comparison.agreement}"
    )
    target = f"at least {TARGET:g}x (goal {GOAL:g}x), LPIPS at most {LPIPS_TARGET - 1:.0%} higher"
    what = (
        f"speedup to the baseline's loss after {len(theirs.losses)} evaluations at {scene.size}: "
    )
    what += f"{pair}, {scene.problem.network.kernel.name}"
    if not comparison.same:
        return Row("loss", what, target if options.full else "", measured, False)
    return (
        Row("loss", what, target, measured, met)
        if options.full
        else Row("loss", what, "", measured)
    )


def _lpips_to_photo(scene: Scene, ours: Tensor, theirs: Tensor) -> tuple[float, float] | None:
    """LPIPS (AlexNet) of both pictures to the photo; None where it cannot be measured."""
    try:
        from impasto.comparisons.lpips import lpips
    except ImportError:
        return None
    photo = images.from_tensor(scene.photo)
    with torch.no_grad():
        near, far = (float(lpips(_clipped(each), photo, "alexnet")) for each in (ours, theirs))
    return near, far


def _clipped(picture: Tensor) -> images.Pixels:
    """The picture as it is written: clipped to 0..1."""
    return np.clip(images.from_tensor(picture), 0, 1)
