"""List the pictures of an explanation, and estimate the time and memory that they take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from impasto.events import Planned
from impasto.explanations.experiments import CONTENT_SETTINGS, Experiments, Task
from impasto.explanations.results import CONTENT_LAYERS, Explanation
from impasto.geometry import Size
from impasto.hardware import system_memory
from impasto.networks.vgg import STYLE_LAYERS
from impasto.planning import memory
from impasto.planning.schedule import LEAST_SIDE, Plan, Stage
from impasto.planning.speed import multiplications
from impasto.planning.speed_cache import allowance, guess_seconds
from impasto.recipe import loading
from impasto.session import measure_speed


def list_tasks(experiments: Experiments, explanation: Explanation) -> list[Task]:
    """Every picture of the explanation, in order."""
    request = experiments.request
    number = itertools.count()
    tasks = [Task(next(number), "content", request.size, (layer,)) for layer in CONTENT_LAYERS]
    if explanation.painting is not None:
        size = Size(*explanation.painting.shape[:2])
        tasks += [
            Task(next(number), "style", size, STYLE_LAYERS[:count])
            for count in range(1, len(STYLE_LAYERS) + 1)
        ]
    # The picture of a unit is a texture, for which half the size is enough.
    side = max(LEAST_SIDE, request.recipe.size // 2)
    return tasks + [
        Task(next(number), "unit", Size(side, side), (unit.layer,), unit)
        for unit in request.units or experiments.most_active()
    ]


def estimate(experiments: Experiments, explanation: Explanation, tasks: Sequence[Task]) -> Planned:
    """The time and memory of the tasks.

    One network is timed. An evaluation of fewer layers costs less in proportion to their work.
    """
    request, network = experiments.request, experiments.network
    recipe = loading.with_settings(
        request.recipe, {**CONTENT_SETTINGS, "content_layers": {CONTENT_LAYERS[-1]: 1.0}}
    )
    stages = [Stage(task.size, request.iterations) for task in tasks]
    deepest = Plan(tuple(stages[:1]), 1.0)
    problem = experiments.problem(recipe, CONTENT_LAYERS[-1:], explanation.photo, deepest)
    guess = guess_seconds(Plan(tuple(stages), 1.0), problem.device)
    speed = measure_speed(problem, allowance(guess))
    whole = multiplications(problem.network)
    seconds = sum(
        speed.seconds(Plan((stage,), 1.0), problem.network)
        * multiplications(network.with_outputs(task.layers))
        / whole
        for stage, task in zip(stages, tasks, strict=True)
    )
    needed = memory.peak_bytes(deepest, recipe, network)
    free = system_memory.free_memory(problem.device)
    sizes = tuple((stage.size, stage.steps) for stage in stages)
    device, kernel = explanation.device, network.kernel.name
    return Planned(request.size, sizes, device, kernel, round(seconds, 1), needed, free)
