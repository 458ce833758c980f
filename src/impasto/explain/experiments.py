"""What the network sees of a photo and a painting: what each layer keeps of them, and what its
channels look for.

It knows which pictures and figures show that, and in which order they are made; each comes with the
number by which it can be judged. It refuses to know how they are hung, written and described.

Sources: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style" (2015), figure 1, for
reconstructions; Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them"
(2015); Olah et al. (2017), see ``maximising``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from impasto import images, session
from impasto.api import Watch
from impasto.errors import BadRequest, OutOfMemory, memory_for
from impasto.events import Event, Failed, Finished, Planned, StageDone, Started, Stepped, Warned
from impasto.explain import DEFAULT_ITERATIONS, DEFAULT_SIZE
from impasto.explain.feature_visualization import Unit, maximise
from impasto.explain.results import (
    CONTENT_LAYERS,
    DISTANCES,
    SAMPLES,
    STYLE_LAYERS,
    UNIT_LAYERS,
    UNITS_EACH,
    Answer,
    Explanation,
    Question,
    Reconstruction,
    piece,
)
from impasto.geometry import Size
from impasto.hardware import allocator, devices, kernel_cache, system_memory
from impasto.images.opening import Source
from impasto.inputs import pair
from impasto.networks import vgg
from impasto.networks.features import Network
from impasto.objectives.moments import STATISTICS, Moments, measure, summarise
from impasto.optimize import loop
from impasto.optimize.loss import Tools
from impasto.optimize.tiling import measured
from impasto.planning import memory
from impasto.planning import speed as speed_
from impasto.planning.schedule import LEAST_SIDE, Plan, Stage, painting_size, plan
from impasto.planning.speed_cache import allowance, expected
from impasto.recipe import loading, records
from impasto.recipe.records import Recipe

NetworkName = Literal["vgg19", "vgg16"]
LEAST_SIZE, LARGEST_SIZE = 64, 1024

# The house's smoothness keeps what late layers give back from being lost in noise. Of a style it
# would take away the grain.
_CONTENT = {"style_weight": 0.0, "content_weight": 1.0}
# Before the first pooling L-BFGS may take half its evaluations to leave the noise of the start;
# Adam starts at once.
_UNPOOLED = {"solver": "adam", "solver_rate": 0.08}
_STYLE = {"content_weight": 0.0, "style_statistics": {"gram-relative": 1.0}, "smooth_weight": 0.02}


def question(
    photo: Source,
    painting: Source | None = None,
    *,
    units: Sequence[str] = (),
    network: NetworkName = "vgg19",
    size: int = DEFAULT_SIZE,
    iterations: int = DEFAULT_ITERATIONS,
    seed: int = 0,
    watch: Watch | None = None,
) -> Question:
    """Read and check everything: names and numbers first, then files. No network is read and
    nothing is written.

    Args:
        photo, painting: as ``impasto.stylize`` takes them.
        units: such as "relu3_1:42", the channel 42 of a layer.
        size: long side in pixels in which the photo is looked at; a painting is looked at in the
            same area.
        iterations: evaluations of each reconstruction, and steps of each unit's picture.

    Raises:
        BadRequest: something that was given cannot be used.
    """
    settings = {
        "network": network,
        "size": size,
        "seed": seed,
        "single_scale": True,
        "iterations": str(iterations),
    }
    recipe = loading.with_settings(Recipe(), {**settings, "precision": "float32", "init": "noise"})
    if not LEAST_SIZE <= recipe.size <= LARGEST_SIZE:
        raise BadRequest(f"The size is {size}, but it must be {LEAST_SIZE} to {LARGEST_SIZE} px.")
    configuration = vgg.CONFIGURATION_OF[network]
    parsed = tuple(dict.fromkeys(Unit.parse(text, configuration) for text in units))
    found, work = pair(
        photo, painting, recipe.max_megapixels, (watch or Watch()).fetch, recipe.size
    )
    return Question(found, work, parsed, recipe, iterations, plan(recipe, found.size).size)


@dataclass(frozen=True)
class _Task:
    """One picture to be made: what it shows, its size, which cut of the network it needs, and how
    it is made.
    """

    name: str
    size: Size
    layers: tuple[str, ...]
    make: Callable[[Explanation, _Task, int], Explanation | None]


def explain(asked: Question, watch: Watch | None = None) -> Iterator[Explanation]:
    """What has been found so far, again after every picture; the first has the figures that need no
    search.

    To cancel is to stop iterating. ``watch.stop`` ends it with the pictures that are finished.

    Raises:
        OutOfMemory: memory ran out on the way.
    """
    watch = watch or Watch()
    begun = time.monotonic()
    with allocator.reused_memory():
        with memory_for("begin"), session.autograd():
            work, found, tasks = _begun(asked, watch)
            watch.event(_planned(work, found, tasks))
        for note in _notes(asked):
            watch.event(Warned(note))
        yield (found := replace(found, planned=len(tasks), seconds=time.monotonic() - begun))
        for index, task in enumerate(tasks):
            watch.event(Started(index, task.size, asked.iterations, task.name))
            entered = time.monotonic()
            with session.autograd():
                more = task.make(found, task, index)
            if more is None:
                watch.event(
                    Warned(f"Stopped after {found.done} of {len(tasks)} pictures; they are kept.")
                )
                return
            watch.event(StageDone(index, task.size, time.monotonic() - entered))
            yield (found := replace(more, done=index + 1, seconds=time.monotonic() - begun))
    watch.event(Finished(work.evaluations, math.nan, {}, found.seconds))


def _begun(asked: Question, watch: Watch) -> tuple[_Work, Explanation, list[_Task]]:
    """The network read, the pictures looked at, and what is to be made."""
    recipe = asked.recipe
    where, _ = devices.device(recipe.compute.device)
    kernel = kernel_cache.kernel(recipe.compute.precision, where)
    deepest = [*CONTENT_LAYERS, *(unit.layer for unit in asked.units)]
    network = session.network(recipe, deepest, kernel, where, watch.fetch)
    work = _Work(asked, network, watch)
    found = Explanation(asked, kernel.text, devices.describe(where))
    pictures = [found.photo]
    if asked.painting is not None:
        painting = images.resize(
            asked.painting.pixels, painting_size(asked.painting.size, asked.size)
        )
        found = replace(found, painting=painting)
        pictures.append(painting)
    moments = tuple(work.moments(pixels) for pixels in pictures)
    if len(moments) > 1:
        apart = {
            name: {
                at: float(STATISTICS[name](moments[0][at], moments[1][at])) for at in STYLE_LAYERS
            }
            for name in DISTANCES
        }
        found = replace(found, distances=apart)
    units = asked.units or work.most_active()
    tasks = [
        _Task(f"content {layer}", asked.size, (layer,), work.content) for layer in CONTENT_LAYERS
    ]
    if found.painting is not None:
        size = Size(*found.painting.shape[:2])
        sets = [STYLE_LAYERS[: count + 1] for count in range(len(STYLE_LAYERS))]
        tasks += [_Task(f"style to {layers[-1]}", size, layers, work.style) for layers in sets]
    side = max(LEAST_SIDE, recipe.size // 2)  # a unit's picture is a texture, which needs no more
    tasks += [
        _Task(f"unit {unit}", Size(side, side), (unit.layer,), partial(work.answer, unit))
        for unit in units
    ]
    return work, replace(found, moments=moments), tasks


def _planned(work: _Work, found: Explanation, tasks: Sequence[_Task]) -> Planned:
    """What it will take; a look through fewer layers is cheaper by what they multiply."""
    asked, network = work.asked, work.network
    recipe = loading.with_settings(
        asked.recipe, {**_CONTENT, "content_layers": {CONTENT_LAYERS[-1]: 1.0}}
    )
    stages = [Stage(task.size, asked.iterations) for task in tasks]
    deepest = Plan(tuple(stages[:1]), 1.0)
    tools = work.tools(recipe, CONTENT_LAYERS[-1:], found.photo)
    speed = session.timed(
        deepest, tools, allowance(expected(Plan(tuple(stages), 1.0), tools.device))
    )
    whole = speed_.work(tools.network)
    seconds = sum(
        speed.seconds(Plan((stage,), 1.0), tools.network)
        * speed_.work(network.giving(task.layers))
        / whole
        for stage, task in zip(stages, tasks, strict=True)
    )
    needed = memory.memory(deepest, recipe, network)
    free = system_memory.free_memory(tools.device)
    sizes = tuple((stage.size, stage.steps) for stage in stages)
    return Planned(
        asked.size, sizes, found.device, network.kernel.name, round(seconds, 1), needed, free
    )


def _notes(asked: Question) -> Iterator[str]:
    """What a person should know before the first picture."""
    for picture in (asked.photo, asked.painting):
        yield from [f"{picture.source}: {note}" for note in picture.notes] if picture else []
    if asked.painting is None:
        yield "Without a painting there are no style reconstructions and no distance to it: impasto explain PHOTO STYLE."


@dataclass
class _Work:
    """Makes the pictures of one question; the network is read once and cut for each."""

    asked: Question
    network: Network
    watch: Watch
    evaluations: int = 0

    def __post_init__(self) -> None:
        self._samples = [self._tensor(images.resize(pixels, Size(*pixels.shape[:2]).with_long_side(self.asked.recipe.size)))
                         for pixels in _sample_photos()]  # fmt: skip
        self._photo = self._tensor(images.resize(self.asked.photo.pixels, self.asked.size))

    def _tensor(self, pixels: images.Pixels) -> Tensor:
        return images.to_tensor(pixels).to(self.network.input_weight.device)

    def tools(self, recipe: Recipe, layers: Sequence[str], pixels: images.Pixels) -> Tools:
        """The tools to find a picture by some layers of ``pixels``, as photo or as painting."""
        cut = self.network.giving({*layers, "input"})
        return Tools(recipe, cut, pixels, (pixels,), device=self.network.input_weight.device)

    # -- looking

    def moments(self, pixels: images.Pixels) -> dict[str, Moments]:
        """The statistics of each style layer."""
        size = Size(*pixels.shape[:2])
        cut = self.network.giving(STYLE_LAYERS)
        strides = {name: cut.layer(name).stride for name in STYLE_LAYERS}
        stats = measured(
            self._tensor(pixels),
            cut.within(size),
            lambda maps, at: measure(maps, strides, at),
            cut.grid(size, 0),
        )
        return summarise(stats)

    def maps(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The maps (C, h, w) of a picture (1, 3, H, W), none below 0: a convolution's as its ReLU
        lets them through.
        """
        with torch.no_grad():
            return {
                name: found[0].float().relu()
                for name, found in self.network.giving(layers)(picture).items()
            }

    def most_active(self) -> tuple[Unit, ...]:
        """The channels of each depth that the photo speaks to most, compared with how the sample
        photos do.

        A channel's mean over the photo is divided by its mean over the samples; the mean of all
        channels is added to both, so that one that hardly ever answers is not taken for its ratio.
        """
        photo = {
            name: found.mean((1, 2)) for name, found in self.maps(self._photo, UNIT_LAYERS).items()
        }
        every = [
            {name: found.mean((1, 2)) for name, found in self.maps(one, UNIT_LAYERS).items()}
            for one in self._samples
        ]
        units: list[Unit] = []
        for layer in UNIT_LAYERS:
            usual = torch.stack([each[layer] for each in every]).mean(0)  # (C,)
            floor = usual.mean().clamp_min(1e-6)
            ratio = (photo[layer] + floor) / (usual + floor)
            units += [
                Unit(layer, int(channel))
                for channel in ratio.topk(min(UNITS_EACH, len(ratio))).indices
            ]
        return tuple(units)

    # -- making

    def content(self, found: Explanation, task: _Task, index: int) -> Explanation | None:
        """The picture whose map is the photo's, from noise: what a layer forgets is what it does
        not bring back.
        """
        pooled = all(self.network.layer(name).stride > 1 for name in task.layers)
        settings = {
            **_CONTENT,
            **({} if pooled else _UNPOOLED),
            "content_layers": dict.fromkeys(task.layers, 1.0),
        }
        recipe = self._recipe(settings)
        pixels = self._searched(recipe, task, index, found.photo)
        if pixels is None:
            return None
        error = float(np.sqrt(np.mean((pixels - found.photo) ** 2)))
        return replace(found, content=(*found.content, Reconstruction(task.layers, pixels, error)))

    def style(self, found: Explanation, task: _Task, index: int) -> Explanation | None:
        """A picture with the painting's Gram matrices up to some layer, from noise."""
        assert found.painting is not None
        weights = dict.fromkeys(task.layers, 1.0 / len(task.layers))
        recipe = self._recipe({**_STYLE, "style_layers": weights})
        recipe = recipe.model_copy(
            update={"paintings": (records.Input(path=self.asked.photo.source),)}
        )
        pixels = self._searched(recipe, task, index, found.painting)
        if pixels is None:
            return None
        return replace(
            found,
            style=(
                *found.style,
                Reconstruction(task.layers, pixels, piece(pixels, found.painting)),
            ),
        )

    def answer(self, unit: Unit, found: Explanation, task: _Task, index: int) -> Explanation | None:
        """The picture that a unit answers to most, beside how it answers to photos."""
        begun = time.monotonic()
        picture: Tensor | None = None
        climb = maximise(
            self.network, unit, task.size, self.asked.iterations, self.asked.recipe.seed
        )
        with memory_for(f"look for {unit}", OutOfMemory):
            for step, (value, picture) in enumerate(climb, 1):  # noqa: B007 - the last one is what was sought
                if self._stopped(
                    Stepped(index, step, step, -value, seconds=time.monotonic() - begun)
                ):
                    return None
        assert picture is not None
        own, photo, *others = (
            self.maps(each, [unit.layer])[unit.layer][unit.channel]
            for each in (picture, self._photo, *self._samples)
        )
        answer = Answer(
            unit,
            images.from_tensor(picture),
            photo.cpu().numpy(),
            float(own.mean()),
            float(own.max()),
            max(float(other.mean()) for other in others),
            max(float(other.max()) for other in others),
        )
        return replace(found, answers=(*found.answers, answer))

    def _recipe(self, settings: Mapping[str, object]) -> Recipe:
        return loading.with_settings(self.asked.recipe, settings)

    def _searched(
        self, recipe: Recipe, task: _Task, index: int, pixels: images.Pixels
    ) -> images.Pixels | None:
        """The best picture of a search from noise (H, W, 3), within 0..1; None where it was told to
        stop.

        The engine's last look is left out: nobody asks for the loss of the finished picture.
        """
        tools = self.tools(recipe, task.layers, pixels)
        best = None
        for event, state in loop.iterate(
            Plan((Stage(task.size, self.asked.iterations),), 1.0), tools
        ):
            best = state.good()
            if isinstance(event, StageDone):
                break
            if isinstance(event, Failed) and event.memory:
                raise OutOfMemory(
                    event.message, "Close other programs, or ask for a smaller --size."
                )
            if isinstance(event, Failed):
                self.watch.event(
                    Warned(f"{task.name}: {event.message} The best picture so far is shown.")
                )
                break
            if isinstance(event, Stepped | Warned) and self._stopped(
                replace(event, stage=index) if isinstance(event, Stepped) else event
            ):
                return None
        assert best is not None
        return np.clip(images.from_tensor(best.pixels), 0, 1)

    def _stopped(self, event: Event) -> bool:
        """Tell of a step, and ask whether it was the last."""
        self.evaluations += isinstance(event, Stepped)
        self.watch.event(event)
        return self.watch.stop()


def _sample_photos() -> list[images.Pixels]:
    import skimage.data

    return [
        np.asarray(getattr(skimage.data, name)(), np.float32) / np.float32(255) for name in SAMPLES
    ]
