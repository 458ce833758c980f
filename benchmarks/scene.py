"""Scenes: a photo and a painting at one size, evaluated by Impasto or by the baseline.

The baseline runs in its own process, so that neither side has the other's memory or settings. The
two take turns, so that other load on the machine affects both.
"""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from torch import Tensor

from benchmarks import baseline
from impasto import images
from impasto.geometry import Size
from impasto.hardware import allocator
from impasto.inputs import Inputs, read_inputs
from impasto.networks import vgg, weights
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.optimize.execution import Execution, make_execution
from impasto.optimize.loss import evaluation
from impasto.optimize.problem import Problem
from impasto.planning import schedule
from impasto.planning.memory import ExecutionPlan, peak_bytes
from impasto.recipe import loading
from impasto.session import Session

PHOTO, PAINTING = "astronaut", "wheat-field-with-cypresses"
# One of the kind that most programs have: Gram matrices and one content layer.
GRAM: dict[str, Any] = {
    "style_statistics": "gram-relative=1",
    "style_octaves": 1,
    "content_scaling": "relative",
    "content_weight": 0.03,
    "content_layers": "relu4_2=1",
    "protect": "none",
}
# The objective of the default recipe; the baseline knows no faces.
PLAIN: dict[str, Any] = {"protect": "none"}

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3  # relative, between the baseline and Impasto
CPU = torch.device("cpu")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """The options of the command line.

    Args:
        full: measure at all sizes and with more repeats.
        honest: run the baseline's long runs in its own process.
        keep: folder in which they are stored.
        say: called with progress messages.
    """

    full: bool = False
    honest: bool = False
    keep: Path | None = None
    say: Say = lambda text: None

    @property
    def pairs(self) -> int:
        """Number of timed pairs."""
        return 9 if self.full else 5


@dataclass(frozen=True)
class Scene:
    """A photo and a painting at the final size, with what evaluates them."""

    inputs: Inputs
    problem: Problem
    execution: Execution = field(default_factory=Execution)
    session: Session | None = None

    @property
    def size(self) -> Size:
        return self.inputs.plan.size

    def evaluation(self) -> Callable[[Tensor], tuple[float, Tensor]]:
        """Impasto's loss and gradient as a function of the pixels. Computes the targets first."""
        evaluate = evaluation(self.size, self.problem, self.execution)

        def total(pixels: Tensor) -> tuple[float, Tensor]:
            value, gradient = evaluate(pixels)
            return value.total, gradient

        return total

    @property
    def photo(self) -> Tensor:
        """The photo (1, 3, H, W) at this size."""
        return images.to_tensor(images.resize(self.inputs.photo.pixels, self.size))

    @property
    def noisy_photo(self) -> Tensor:
        """The photo with noise. Without noise, maxima tie in flat areas and gradients differ."""
        generator = torch.Generator().manual_seed(1)
        return self.photo + 0.05 * torch.randn((1, 3, *self.size), generator=generator)

    @property
    def memory(self) -> int:
        """Bytes that Impasto predicts for this scene."""
        execution = ExecutionPlan(
            self.execution.tile,
            self.execution.reuse_memory,
            tiles_in_memory=self.execution.tiles_in_memory,
        )
        return peak_bytes(self.inputs.plan, self.inputs.recipe, self.problem.network, execution)

    @property
    def tile_count(self) -> int:
        """The number of tiles at this size."""
        return len(self.execution.grid(self.problem.network, self.size))

    def in_tiles(self, tile: int, stored: int = 1) -> Scene:
        """The scene in tiles of this side; 0 means whole. Maps of ``stored`` tiles are stored."""
        return replace(self, execution=replace(self.execution, tile=tile, tiles_in_memory=stored))

    def with_kernel(self, kernel: str) -> Scene:
        """The scene with another convolution kernel."""
        recipe, before = self.inputs.recipe, self.problem.network
        if before.kernel.name == kernel:
            return self
        name = recipe.network.name
        network = Network(
            weights.load(name),
            vgg.CONFIGURATION_OF[name],
            before.outputs,
            pooling=recipe.network.pooling,
            padding=recipe.network.padding,
            kernel=KERNELS[kernel],
        )
        return replace(self, problem=replace(self.problem, network=network))

    def planned(self) -> Scene:
        """The scene as Impasto plans it now: whole, or in tiles that fit into free memory."""
        assert self.session is not None
        return replace(self, execution=make_execution(self.session.plan_for(self.inputs)[1]))

    @property
    def tiling(self) -> str:
        """The tiling in words."""
        if self.tile_count == 1:
            return "whole"
        stored = f"feature maps of {self.execution.tiles_in_memory} stored"
        fresh = "" if self.execution.reuse_memory else ", freed memory not kept"
        return f"{self.tile_count} tiles of {self.execution.tile} px, {stored}{fresh}"


def build_scene(
    size: int,
    photo: str | images.Pixels = PHOTO,
    painting: str = PAINTING,
    *,
    precision: str = "float32",
    **settings: Any,
) -> Scene:
    """A scene of this long side, in one stage and whole.

    ``photo`` is pixels or the name of a photo of scikit-image.
    """
    settings = {
        "size": size,
        "single_scale": True,
        "device": "cpu",
        "precision": precision,
        **settings,
    }
    source = getattr(skimage.data, photo)() if isinstance(photo, str) else photo
    recipe = loading.with_settings(loading.load(loading.DEFAULT_RECIPE), settings)
    session = Session.open(read_inputs(source, [painting], recipe))
    return Scene(session.inputs, session.problem, session=session)


# ---- the baseline's process ----------------------------------------------------------------------


class BaselineProcess:
    """The baseline for a scene, in its own process. Use it in a ``with`` statement."""

    def __init__(self, scene: Scene) -> None:
        inputs = scene.inputs
        painting = inputs.paintings[0].pixels
        size = schedule.painting_size(
            Size(*painting.shape[:2]), scene.size, inputs.recipe.style.scale
        )
        arguments = (
            inputs.recipe.to_json(),
            scene.photo.numpy(),
            images.to_tensor(images.resize(painting, size)).numpy(),
            inputs.plan.content_factor,
            torch.get_num_threads(),
        )
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()
        self._answer()  # ready, or raises the error of its start

    def __enter__(self) -> BaselineProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def set_picture(self, pixels: Tensor) -> None:
        """Set the picture (1, 3, H, W) that is evaluated from now on."""
        self._ask("set_picture", pixels.numpy())

    def evaluate(self) -> tuple[float, Tensor]:
        """Loss and gradient at the picture."""
        loss, gradient = self._ask("evaluate")
        return loss, torch.from_numpy(gradient)

    def seconds(self) -> float:
        """Seconds of one evaluation."""
        return float(self._ask("seconds"))

    def search(self, evaluations: int, say: Say) -> tuple[baseline.Search, float]:
        """Run the whole search from the photo; returns it with its seconds."""
        self._pipe.send(("search", evaluations))
        while isinstance(answer := self._answer(), str):
            say(answer)
        losses, picture, seconds = answer
        return baseline.Search(losses, torch.from_numpy(picture)), seconds

    def _ask(self, command: str, *arguments: Any) -> Any:
        self._pipe.send((command, *arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError(
                "the baseline's process ended; it may have run out of memory"
            ) from None
        if isinstance(answer, BaseException):
            raise RuntimeError(f"the baseline failed: {answer}") from answer
        return answer


def _serve(
    pipe: Connection,
    recipe: str,
    photo: npt.NDArray[np.float32],
    painting: npt.NDArray[np.float32],
    content_factor: float,
    threads: int,
) -> None:
    """Build the baseline and answer commands until the parent process ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process decides when this one ends
    torch.set_num_threads(threads)
    start = torch.from_numpy(photo)
    pixels = start
    chosen = loading.from_json(recipe)
    try:
        plain = baseline.Baseline(
            chosen,
            weights.load(chosen.network.name),
            start,
            torch.from_numpy(painting),
            content_factor,
        )
        pipe.send(True)
        while True:
            command, *arguments = pipe.recv()
            if command == "set_picture":
                pixels = torch.from_numpy(arguments[0])
                pipe.send(True)
            elif command == "evaluate":
                loss, gradient = plain(pixels)
                pipe.send((loss, gradient.numpy()))
            elif command == "seconds":
                pipe.send(seconds_of(partial(plain, pixels)))
            elif command == "search":
                begin = time.perf_counter()
                result = baseline.search(plain, start, arguments[0], pipe.send)
                pipe.send((result.losses, result.picture.numpy(), time.perf_counter() - begin))
    except EOFError:
        return  # the parent process is gone
    except Exception as error:
        with suppress(OSError):
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


# ---- side by side --------------------------------------------------------------------------------


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Pairs:
    """Seconds of two functions that took turns."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """First over second: the median over the pairs."""
        return statistics.median(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def medians(self) -> tuple[float, float]:
        """Median seconds of the first and of the second."""
        return statistics.median(self.first), statistics.median(self.second)

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.first + other.first, self.second + other.second)


def alternate(
    first: Callable[[], float], second: Callable[[], float], count: int, say: Say
) -> Pairs:
    """Call two functions in turn, ``count`` times each after a warm-up; both return seconds."""
    say("warming up")
    first(), second()
    pairs = Pairs((), ())
    for index in range(count):
        pairs += Pairs((first(),), (second(),))
        say(f"pair {index + 1} of {count}: {pairs.first[-1]:.2f} s and {pairs.second[-1]:.2f} s")
    return pairs


@dataclass(frozen=True)
class Difference:
    """Relative differences of loss and gradient at one picture."""

    loss: float
    gradient: float

    def __str__(self) -> str:
        return f"loss differs by {self.loss:.0e} and gradient by {self.gradient:.0e}"


def relative_difference(actual: tuple[float, Tensor], expected: tuple[float, Tensor]) -> Difference:
    """Relative difference of two (loss, gradient)."""
    gradient = (actual[1] - expected[1]).norm() / expected[1].norm()
    return Difference(abs(actual[0] - expected[0]) / abs(expected[0]), float(gradient))


class Comparison:
    """Impasto and the baseline at one scene.

    ``same`` says whether both have the same objective, and ``agreement`` says it in words. The
    gradients are compared with conv2d, the baseline's kernel: another kernel rounds differently, so
    that pooling sometimes picks another maximum. The losses must agree with both kernels.

    Impasto keeps freed memory between evaluations, as in a run. If that leaves the baseline too
    little (``crowded``), it is released after each evaluation. An untimed evaluation then allocates
    it again.
    """

    def __init__(self, scene: Scene, process: BaselineProcess, crowded: bool = False) -> None:
        self.scene, self.process, self._crowded = scene, process, crowded
        self.pixels = scene.noisy_photo
        process.set_picture(self.pixels)
        expected = process.evaluate()
        with allocator.reused_memory():
            by_conv2d = relative_difference(
                scene.with_kernel("conv2d").evaluation()(self.pixels), expected
            )
        with allocator.reused_memory():
            self.evaluate = scene.evaluation()
            timed = relative_difference(self.evaluate(self.pixels), expected)
        kernel = scene.problem.network.kernel
        rounds = kernel.dtype == torch.bfloat16  # by more than the tolerance
        self.same = by_conv2d.loss <= LOSS_TOLERANCE and by_conv2d.gradient <= GRADIENT_TOLERANCE
        self.same = self.same and (timed.loss <= LOSS_TOLERANCE or rounds)
        self.agreement = f"{by_conv2d}" + (
            f" ({timed.loss:.0e} and {timed.gradient:.0e} with {kernel.name})"
            if kernel.name != "conv2d"
            else ""
        )
        if not self.same:
            self.agreement = f"NOT THE SAME OBJECTIVE: {self.agreement}"

    def pairs(self, count: int, say: Say) -> Pairs:
        """Seconds of the baseline and of Impasto."""
        if self._crowded:
            return alternate(self.process.seconds, self._seconds_after_warmup, count, say)
        with allocator.reused_memory():
            return alternate(self.process.seconds, self._seconds, count, say)

    def _seconds(self) -> float:
        return seconds_of(lambda: self.evaluate(self.pixels))

    def _seconds_after_warmup(self) -> float:
        with allocator.reused_memory():
            self.evaluate(self.pixels)
            return self._seconds()


@contextmanager
def compare_with_baseline(scene: Scene, crowded: bool = False) -> Iterator[Comparison]:
    """Impasto and the baseline at a scene, ready to be timed."""
    with BaselineProcess(scene) as process:
        yield Comparison(scene, process, crowded)
