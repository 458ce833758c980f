"""Explain what the network sees of a photo and a painting, one picture after another."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

from impasto import images
from impasto.errors import memory_for
from impasto.events import Callbacks, Finished, StageDone, Started, Warned
from impasto.explanations import tasks
from impasto.explanations.experiments import CONTENT_SETTINGS, Experiments
from impasto.explanations.request import ExplainRequest
from impasto.explanations.results import CONTENT_LAYERS, DISTANCES, Explanation
from impasto.hardware import allocator, devices
from impasto.inputs import Inputs
from impasto.networks.vgg import STYLE_LAYERS
from impasto.objectives.style import STATISTICS
from impasto.optimize.runner import autograd_enabled
from impasto.planning.schedule import make_plan, painting_size
from impasto.recipe import loading
from impasto.session import Session


def run_experiments(
    request: ExplainRequest, callbacks: Callbacks | None = None
) -> Iterator[Explanation]:
    """Yield the explanation so far after every picture.

    The first has the numbers that need no optimization. To cancel, stop iterating. ``cancel``
    ends it with the pictures that are finished.

    Raises:
        OutOfMemory: memory ran out during the work.
    """
    callbacks = callbacks or Callbacks()
    begun = time.monotonic()
    with allocator.reused_memory():
        with memory_for("begin"), autograd_enabled():
            experiments, explanation = _prepare(request, callbacks)
            to_do = tasks.list_tasks(experiments, explanation)
            callbacks.on_event(tasks.estimate(experiments, explanation, to_do))
        for note in _notes(request):
            callbacks.on_event(Warned(note))
        seconds = time.monotonic() - begun
        yield (explanation := replace(explanation, planned=len(to_do), seconds=seconds))
        for task in to_do:
            callbacks.on_event(Started(task.index, task.size, request.iterations, task.name))
            entered = time.monotonic()
            with autograd_enabled():
                extended = experiments.run(task, explanation)
            if extended is None:
                done = f"Stopped after {explanation.done} of {len(to_do)} pictures; they are kept."
                callbacks.on_event(Warned(done))
                return
            callbacks.on_event(StageDone(task.index, task.size, time.monotonic() - entered))
            seconds = time.monotonic() - begun
            yield (explanation := replace(extended, done=task.index + 1, seconds=seconds))
    callbacks.on_event(Finished(experiments.evaluations, math.nan, {}, explanation.seconds))


def _prepare(request: ExplainRequest, callbacks: Callbacks) -> tuple[Experiments, Explanation]:
    """Read the network, and compute statistics and distances of the pictures."""
    session = _open_session(request, callbacks)
    experiments = Experiments(request, session.problem.network, callbacks)
    device = devices.describe(session.problem.device)
    explanation = Explanation(request, session.kernel, device)
    photo_moments = experiments.moments(explanation.photo)
    if request.painting is None:
        return experiments, replace(explanation, moments=(photo_moments,))
    painting = request.painting
    pixels = images.resize(painting.pixels, painting_size(painting.size, request.size))
    moments = (photo_moments, experiments.moments(pixels))
    distances = {
        name: {
            layer: float(STATISTICS[name](moments[0][layer], moments[1][layer]))
            for layer in STYLE_LAYERS
        }
        for name in DISTANCES
    }
    explanation = replace(explanation, painting=pixels, moments=moments, distances=distances)
    return experiments, explanation


def _open_session(request: ExplainRequest, callbacks: Callbacks) -> Session:
    """A session whose network has every layer that is needed."""
    layers = [*CONTENT_LAYERS, *(unit.layer for unit in request.units)]
    settings = {**CONTENT_SETTINGS, "content_layers": dict.fromkeys(layers, 1.0)}
    recipe = loading.with_settings(request.recipe, settings)
    paintings = (request.painting,) if request.painting is not None else ()
    plan = make_plan(recipe, request.photo.size)
    return Session.open(
        Inputs(recipe, plan, request.photo, paintings, None, None, ""), callbacks.progress
    )


def _notes(request: ExplainRequest) -> Iterator[str]:
    """What a person should know before the first picture."""
    for picture in (request.photo, request.painting):
        yield from [f"{picture.source}: {note}" for note in picture.notes] if picture else []
    if request.painting is None:
        yield (
            "Without a painting there are no style reconstructions and no distance to it: "
            "impasto explain PHOTO STYLE."
        )
