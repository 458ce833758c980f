"""Make the pictures of an explanation: reconstructions from a layer, and what activates a unit.

Sources: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), figure 1, for
reconstructions; Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them"
(2015); Olah et al. (2017), see ``feature_visualization``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from impasto import images
from impasto.errors import OutOfMemory, memory_for
from impasto.events import Callbacks, Event, Failed, StageDone, Stepped, Warned
from impasto.explanations.feature_visualization import Unit, maximize
from impasto.explanations.patches import patch_size
from impasto.explanations.request import ExplainRequest
from impasto.explanations.results import (
    SAMPLES,
    UNIT_LAYERS,
    UNITS_PER_LAYER,
    ContentReconstruction,
    Explanation,
    StyleReconstruction,
    UnitActivation,
)
from impasto.geometry import Size
from impasto.networks.features import Network
from impasto.networks.vgg import STYLE_LAYERS
from impasto.objectives.moments import Moments, moment_sums, moments_from_sums
from impasto.optimize.execution import Execution
from impasto.optimize.problem import Problem
from impasto.optimize.runner import run_problem
from impasto.optimize.tiling import total_stats
from impasto.planning.schedule import Plan, Stage
from impasto.recipe import loading, records
from impasto.recipe.records import Recipe

# The default smoothness keeps what late layers reconstruct from being lost in noise. It would
# remove the grain of a style.
CONTENT_SETTINGS = {"style_weight": 0.0, "content_weight": 1.0}
# Before the first pooling L-BFGS may take half its evaluations to leave the initial noise; Adam
# moves from the first.
_UNPOOLED_SETTINGS = {"solver": "adam", "solver_rate": 0.08}
_STYLE_SETTINGS = {
    "content_weight": 0.0,
    "style_statistics": {"gram-relative": 1.0},
    "smooth_weight": 0.02,
}


@dataclass(frozen=True)
class Task:
    """One picture to make: its number, its size and the layers that the network is cut to.

    ``unit`` is that of a picture of kind "unit".
    """

    index: int
    kind: Literal["content", "style", "unit"]
    size: Size
    layers: tuple[str, ...]
    unit: Unit | None = None

    @property
    def name(self) -> str:
        preposition = "to " if self.kind == "style" else ""
        return f"{self.kind} {preposition}{self.unit or self.layers[-1]}"


@dataclass
class Experiments:
    """Makes the pictures of one request. The network is read once and cut for each picture."""

    request: ExplainRequest
    network: Network
    callbacks: Callbacks
    evaluations: int = 0

    def __post_init__(self) -> None:
        self._photo = self._tensor(images.resize(self.request.photo.pixels, self.request.size))
        long_side = self.request.recipe.size
        self._samples = [
            self._tensor(images.resize(pixels, Size(*pixels.shape[:2]).with_long_side(long_side)))
            for pixels in _sample_photos()
        ]

    def _tensor(self, pixels: images.Pixels) -> Tensor:
        return images.to_tensor(pixels).to(self.network.input_weight.device)

    def problem(
        self, recipe: Recipe, layers: Sequence[str], pixels: images.Pixels, plan: Plan
    ) -> Problem:
        """An optimization by some layers; ``pixels`` is both photo and painting."""
        cut = self.network.with_outputs({*layers, "input"})
        device = self.network.input_weight.device
        return Problem(recipe, plan, cut, pixels, (pixels,), device=device)

    # ---- measuring -------------------------------------------------------------------------------

    def moments(self, pixels: images.Pixels) -> dict[str, Moments]:
        """The statistics of each style layer."""
        size = Size(*pixels.shape[:2])
        cut = self.network.with_outputs(STYLE_LAYERS)
        strides = {name: cut.layer(name).stride for name in STYLE_LAYERS}
        stats = total_stats(
            self._tensor(pixels),
            cut.encoder(size),
            lambda maps, context: moment_sums(maps, strides, context),
            cut.grid(size, 0),
        )
        return moments_from_sums(stats)

    def maps(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The feature maps (C, h, w) of a picture (1, 3, H, W), each after a ReLU."""
        with torch.no_grad():
            features = self.network.with_outputs(layers)(picture)
            return {name: maps[0].float().relu() for name, maps in features.items()}

    def most_active(self) -> tuple[Unit, ...]:
        """The channels of each unit layer that the photo activates most, relative to the samples.

        A channel's mean over the photo is divided by its mean over the sample photos. The mean of
        all channels is added to both, so that a channel that hardly ever activates is not chosen
        for its ratio.
        """
        photo = self._channel_means(self._photo)
        samples = [self._channel_means(sample) for sample in self._samples]
        units: list[Unit] = []
        for layer in UNIT_LAYERS:
            usual = torch.stack([means[layer] for means in samples]).mean(0)  # (C,)
            offset = usual.mean().clamp_min(1e-6)
            ratio = (photo[layer] + offset) / (usual + offset)
            best = ratio.topk(min(UNITS_PER_LAYER, len(ratio))).indices
            units += [Unit(layer, int(channel)) for channel in best]
        return tuple(units)

    def _channel_means(self, picture: Tensor) -> dict[str, Tensor]:
        return {name: maps.mean((1, 2)) for name, maps in self.maps(picture, UNIT_LAYERS).items()}

    # ---- making pictures -------------------------------------------------------------------------

    def run(self, task: Task, explanation: Explanation) -> Explanation | None:
        """The explanation with the picture of a task; None if it was stopped."""
        if task.unit is not None:
            return self._add_unit(task, task.unit, explanation)
        return (self._add_content if task.kind == "content" else self._add_style)(task, explanation)

    def _add_content(self, task: Task, explanation: Explanation) -> Explanation | None:
        """Optimize a picture from noise until its maps are those of the photo."""
        pooled = all(self.network.layer(name).stride > 1 for name in task.layers)
        recipe = self._recipe(
            {
                **CONTENT_SETTINGS,
                **({} if pooled else _UNPOOLED_SETTINGS),
                "content_layers": dict.fromkeys(task.layers, 1.0),
            }
        )
        pixels = self._optimized(task, recipe, explanation.photo)
        if pixels is None:
            return None
        error = float(np.sqrt(np.mean((pixels - explanation.photo) ** 2)))
        reconstruction = ContentReconstruction(task.layers, pixels, error)
        return replace(explanation, content=(*explanation.content, reconstruction))

    def _add_style(self, task: Task, explanation: Explanation) -> Explanation | None:
        """Optimize a picture from noise until its Gram matrices are those of the painting."""
        assert explanation.painting is not None
        weights = dict.fromkeys(task.layers, 1.0 / len(task.layers))
        recipe = self._recipe({**_STYLE_SETTINGS, "style_layers": weights})
        painting = records.Input(path=self.request.photo.source)
        recipe = recipe.model_copy(update={"paintings": (painting,)})
        pixels = self._optimized(task, recipe, explanation.painting)
        if pixels is None:
            return None
        side = patch_size(pixels, explanation.painting)
        reconstruction = StyleReconstruction(task.layers, pixels, side)
        return replace(explanation, style=(*explanation.style, reconstruction))

    def _add_unit(self, task: Task, unit: Unit, explanation: Explanation) -> Explanation | None:
        """Find the picture that activates a unit most, and compare with photos."""
        begun = time.monotonic()
        picture: Tensor | None = None
        steps, seed = self.request.iterations, self.request.recipe.seed
        ascent = maximize(self.network, unit, task.size, steps, seed)
        with memory_for(f"look for {unit}", OutOfMemory):
            for step, (value, picture) in enumerate(ascent, 1):  # noqa: B007 - the last is used
                seconds = time.monotonic() - begun
                if self._stopped(Stepped(task.index, step, step, -value, seconds=seconds)):
                    return None
        assert picture is not None
        activation = self._activation(unit, picture)
        return replace(explanation, activations=(*explanation.activations, activation))

    def _activation(self, unit: Unit, picture: Tensor) -> UnitActivation:
        own, photo, *samples = (
            self.maps(each, [unit.layer])[unit.layer][unit.channel]
            for each in (picture, self._photo, *self._samples)
        )
        return UnitActivation(
            unit,
            images.from_tensor(picture),
            photo.cpu().numpy(),
            float(own.mean()),
            float(own.max()),
            max(float(sample.mean()) for sample in samples),
            max(float(sample.max()) for sample in samples),
        )

    def _recipe(self, settings: Mapping[str, object]) -> Recipe:
        return loading.with_settings(self.request.recipe, settings)

    def _optimized(self, task: Task, recipe: Recipe, pixels: images.Pixels) -> images.Pixels | None:
        """The best picture of an optimization from noise (H, W, 3), 0..1; None if it was stopped.

        The final evaluation is left out: nobody needs the loss of the finished picture.
        """
        best = None
        plan = Plan((Stage(task.size, self.request.iterations),), 1.0)
        problem = self.problem(recipe, task.layers, pixels, plan)
        for event, state in run_problem(problem, Execution()):
            best = state.at_best()
            if isinstance(event, StageDone):
                break
            if isinstance(event, Failed):
                self._report_failure(task, event)
                break
            if isinstance(event, Stepped):
                event = replace(event, stage=task.index)
            if isinstance(event, Stepped | Warned) and self._stopped(event):
                return None
        assert best is not None
        return np.clip(images.from_tensor(best.pixels), 0, 1)

    def _report_failure(self, task: Task, event: Failed) -> None:
        if event.memory:
            hint = "Close other programs, or ask for a smaller --size."
            raise OutOfMemory(event.message, hint)
        self.callbacks.on_event(
            Warned(f"{task.name}: {event.message} The best picture so far is shown.")
        )

    def _stopped(self, event: Event) -> bool:
        """Pass on an event, and tell whether a stop is requested."""
        self.evaluations += isinstance(event, Stepped)
        self.callbacks.on_event(event)
        return self.callbacks.cancel()


def _sample_photos() -> list[images.Pixels]:
    import skimage.data

    return [
        np.asarray(getattr(skimage.data, name)(), np.float32) / np.float32(255) for name in SAMPLES
    ]
