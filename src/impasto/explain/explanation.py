"""Explain what the network sees of a photo and a painting, one picture after another."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

from impasto import images, session
from impasto.api import Watch
from impasto.errors import memory_for
from impasto.events import Finished, StageDone, Started, Warned
from impasto.explain import tasks
from impasto.explain.experiments import Experiments
from impasto.explain.request import ExplainRequest
from impasto.explain.results import CONTENT_LAYERS, DISTANCES, STYLE_LAYERS, Explanation
from impasto.hardware import allocator, devices, kernel_cache
from impasto.objectives.moments import STATISTICS
from impasto.planning.schedule import painting_size


def explain(request: ExplainRequest, watch: Watch | None = None) -> Iterator[Explanation]:
    """Yield the explanation so far after every picture.

    The first has the numbers that need no optimization. To cancel, stop iterating. ``watch.stop``
    ends it with the pictures that are finished.

    Raises:
        OutOfMemory: memory ran out during the work.
    """
    watch = watch or Watch()
    begun = time.monotonic()
    with allocator.reused_memory():
        with memory_for("begin"), session.autograd():
            experiments, explanation = _prepare(request, watch)
            to_do = tasks.list_tasks(experiments, explanation)
            watch.event(tasks.estimate(experiments, explanation, to_do))
        for note in _notes(request):
            watch.event(Warned(note))
        seconds = time.monotonic() - begun
        yield (explanation := replace(explanation, planned=len(to_do), seconds=seconds))
        for task in to_do:
            watch.event(Started(task.index, task.size, request.iterations, task.name))
            entered = time.monotonic()
            with session.autograd():
                extended = experiments.run(task, explanation)
            if extended is None:
                done = f"Stopped after {explanation.done} of {len(to_do)} pictures; they are kept."
                watch.event(Warned(done))
                return
            watch.event(StageDone(task.index, task.size, time.monotonic() - entered))
            seconds = time.monotonic() - begun
            yield (explanation := replace(extended, done=task.index + 1, seconds=seconds))
    watch.event(Finished(experiments.evaluations, math.nan, {}, explanation.seconds))


def _prepare(request: ExplainRequest, watch: Watch) -> tuple[Experiments, Explanation]:
    """Read the network, and compute statistics and distances of the pictures."""
    recipe = request.recipe
    device, _ = devices.device(recipe.compute.device)
    kernel = kernel_cache.kernel(recipe.compute.precision, device)
    layers = [*CONTENT_LAYERS, *(unit.layer for unit in request.units)]
    network = session.network(recipe, layers, kernel, device, watch.fetch)
    experiments = Experiments(request, network, watch)
    explanation = Explanation(request, kernel.text, devices.describe(device))
    moments = (experiments.moments(explanation.photo),)
    if request.painting is None:
        return experiments, replace(explanation, moments=moments)
    painting = request.painting
    pixels = images.resize(painting.pixels, painting_size(painting.size, request.size))
    moments += (experiments.moments(pixels),)
    distances = {
        name: {
            layer: float(STATISTICS[name](moments[0][layer], moments[1][layer]))
            for layer in STYLE_LAYERS
        }
        for name in DISTANCES
    }
    explanation = replace(explanation, painting=pixels, moments=moments, distances=distances)
    return experiments, explanation


def _notes(request: ExplainRequest) -> Iterator[str]:
    """What a person should know before the first picture."""
    for picture in (request.photo, request.painting):
        yield from [f"{picture.source}: {note}" for note in picture.notes] if picture else []
    if request.painting is None:
        yield (
            "Without a painting there are no style reconstructions and no distance to it: "
            "impasto explain PHOTO STYLE."
        )
