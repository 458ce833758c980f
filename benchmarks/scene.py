"""What the rows measure on: a photo and a painting at a size, ready to be evaluated by Impasto or
by the yardstick.

The yardstick runs in a process of its own, so that neither side has the other's memory or settings.
The two are asked in turn, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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

from benchmarks import yardstick
from impasto import images, session
from impasto.geometry import Size
from impasto.hardware import allocator
from impasto.inputs import Request, request
from impasto.networks import vgg, weights
from impasto.networks.convolution import KERNELS
from impasto.networks.features import Network
from impasto.optimize import loss as problem
from impasto.planning import memory as planning
from impasto.planning import schedule
from impasto.recipe import loading

PHOTO, PAINTING = "astronaut", "wheat-field-with-cypresses"
GRAM: dict[str, Any] = {
    "style_statistics": "gram-relative=1",
    "content_weight": 0.03,
    "content_layers": "relu4_2=1",
}
PLAIN: dict[str, Any] = {}  # the default recipe's own objective

LOSS_APART, GRADIENT_APART = 1e-4, 1e-3  # between the yardstick and Impasto, relative
CPU = torch.device("cpu")

Say = Callable[[str], None]


@dataclass(frozen=True)
class How:
    """How thoroughly to measure, whether the yardstick makes its long runs for real, where they are
    kept, whom to tell.
    """

    full: bool = False
    honest: bool = False
    keep: Path | None = None
    say: Say = lambda text: None

    @property
    def pairs(self) -> int:
        return 9 if self.full else 5


@dataclass(frozen=True)
class Scene:
    """A request with its tools, at the final size, and how they would be used here."""

    asked: Request
    tools: problem.Tools
    bench: session.Bench
    reuse: bool = True  # whether freed memory is kept

    @property
    def size(self) -> Size:
        return self.asked.plan.size

    def evaluation(self) -> Callable[[Tensor], tuple[float, Tensor]]:
        """Impasto's loss and gradient at this size; setting it up takes the targets' time."""
        evaluate = problem.evaluation(self.size, self.asked.plan, self.tools)

        def found(pixels: Tensor) -> tuple[float, Tensor]:
            value, gradient = evaluate(pixels)
            return value.total, gradient

        return found

    @property
    def photo(self) -> Tensor:
        """(1, 3, H, W) at this size."""
        return images.to_tensor(images.resize(self.asked.photo.pixels, self.size))

    @property
    def noisy(self) -> Tensor:
        """The photo with noise on it: in flat areas of the photo itself maxima tie, and gradients
        with them.
        """
        generator = torch.Generator().manual_seed(1)
        return self.photo + 0.05 * torch.randn((1, 3, *self.size), generator=generator)

    @property
    def memory(self) -> int:
        """Bytes that Impasto needs in all, as it says itself."""
        way = planning.ExecutionPlan(self.tools.tile, self.reuse, kept=self.tools.kept)
        return planning.memory(self.asked.plan, self.asked.recipe, self.tools.network, way)

    def cut(self, tile: int, kept: int = 1) -> Scene:
        """The same in tiles of this side, of so many the maps kept for the way back; 0: whole."""
        return replace(self, tools=replace(self.tools, tile=tile, kept=kept))

    def by(self, kernel: str) -> Scene:
        """The same with another way to convolve."""
        recipe, before = self.asked.recipe, self.tools.network
        if before.kernel.name == kernel:
            return self
        name = recipe.network.name
        network = Network(
            weights.load(name),
            vgg.CONFIGURATION_OF[name],
            before.wanted,
            pooling=recipe.network.pooling,
            padding=recipe.network.padding,
            kernel=KERNELS[kernel],
        )
        return replace(self, tools=replace(self.tools, network=network))

    def planned(self) -> Scene:
        """The same as Impasto would cut it now: whole, or in tiles that fit into the memory that is
        free.
        """
        way = self.bench.planned(self.asked)[1]
        return replace(self, tools=session.held(self.tools, way), reuse=way.reuse)

    @property
    def how(self) -> str:
        """How it is cut."""
        count, tools = len(self.tools.grid(self.size)), self.tools
        if count == 1:
            return "whole"
        afresh = "" if self.reuse else ", no freed memory"
        return f"{count} tiles of {tools.tile} px, the maps of {tools.kept} kept{afresh}"


def scene(
    size: int,
    photo: str | images.Pixels = PHOTO,
    painting: str = PAINTING,
    *,
    precision: str = "float32",
    **settings: Any,
) -> Scene:
    """A scene of this long side, in one stage, whole; ``photo`` is the name of one of
    scikit-image's, or pixels.
    """
    settings = {
        "size": size,
        "single_scale": True,
        "device": "cpu",
        "precision": precision,
        **settings,
    }
    source = getattr(skimage.data, photo)() if isinstance(photo, str) else photo
    asked = request(
        source, [painting], loading.with_settings(loading.load(loading.DEFAULT_RECIPE), settings)
    )
    bench = session.bench(asked, lambda name, done, total: None)
    return Scene(asked, bench.tools, bench)


# ---- the other side ------------------------------------------------------------------------------


class Rival:
    """The yardstick for a scene, in a process of its own; to be used in a ``with`` statement."""

    def __init__(self, scene: Scene) -> None:
        asked = scene.asked
        painting = asked.paintings[0].pixels
        size = schedule.painting_size(
            Size(*painting.shape[:2]), scene.size, asked.recipe.style.scale
        )
        given = (
            asked.recipe.to_json(),
            scene.photo.numpy(),
            images.to_tensor(images.resize(painting, size)).numpy(),
            asked.plan.content_factor,
            torch.get_num_threads(),
        )
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *given), daemon=True)
        self._process.start()
        other.close()
        self._answer()  # it is there, or says why not

    def __enter__(self) -> Rival:
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

    def look_at(self, pixels: Tensor) -> None:
        """The picture (1, 3, H, W) that is evaluated from now on."""
        self._ask("look_at", pixels.numpy())

    def evaluate(self) -> tuple[float, Tensor]:
        """Loss and gradient."""
        loss, gradient = self._ask("evaluate")
        return loss, torch.from_numpy(gradient)

    def seconds(self) -> float:
        """What an evaluation takes."""
        return float(self._ask("seconds"))

    def search(self, evaluations: int, say: Say) -> tuple[yardstick.Search, float]:
        """Its whole search from the photo, for real, and the seconds that it took."""
        self._pipe.send(("search", evaluations))
        while isinstance(answer := self._answer(), str):
            say(answer)
        losses, picture, seconds = answer
        return yardstick.Search(losses, torch.from_numpy(picture)), seconds

    def _ask(self, verb: str, *given: Any) -> Any:
        self._pipe.send((verb, *given))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the yardstick's process ended; perhaps memory ran out") from None
        if isinstance(answer, BaseException):
            raise RuntimeError(f"the yardstick failed: {answer}") from answer
        return answer


def _serve(
    pipe: Connection,
    recipe: str,
    photo: npt.NDArray[np.float32],
    painting: npt.NDArray[np.float32],
    content_factor: float,
    threads: int,
) -> None:
    """The rival's process: sets the yardstick up, says that it is there, and answers until it is
    ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process decides when this one ends
    torch.set_num_threads(threads)
    start = torch.from_numpy(photo)
    pixels = start
    chosen = loading.from_json(recipe)
    try:
        plain = yardstick.Yardstick(
            chosen,
            weights.load(chosen.network.name),
            start,
            torch.from_numpy(painting),
            content_factor,
        )
        pipe.send(True)
        while True:
            verb, *given = pipe.recv()
            if verb == "look_at":
                pixels = torch.from_numpy(given[0])
                pipe.send(True)
            elif verb == "evaluate":
                loss, gradient = plain(pixels)
                pipe.send((loss, gradient.numpy()))
            elif verb == "seconds":
                pipe.send(clocked(partial(plain, pixels)))
            elif verb == "search":
                begun = time.perf_counter()
                found = yardstick.search(plain, start, given[0], pipe.send)
                pipe.send((found.losses, found.picture.numpy(), time.perf_counter() - begun))
    except EOFError:
        return  # the asking process is gone
    except Exception as error:
        with suppress(OSError):
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


# ---- side by side --------------------------------------------------------------------------------


def clocked(work: Callable[[], object]) -> float:
    """The seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Pairs:
    """Seconds of two sides that took turns."""

    first: tuple[float, ...]
    second: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How often the second fits into the first: the median over the pairs."""
        return statistics.median(a / b for a, b in zip(self.first, self.second, strict=True))

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.first), statistics.median(self.second)

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.first + other.first, self.second + other.second)


def in_turn(first: Callable[[], float], second: Callable[[], float], count: int, say: Say) -> Pairs:
    """Two sides, each of which gives its seconds, one after the other so many times, after a
    warm-up of both.
    """
    say("warming up")
    first(), second()
    pairs = Pairs((), ())
    for index in range(count):
        pairs += Pairs((first(),), (second(),))
        say(f"pair {index + 1} of {count}: {pairs.first[-1]:.2f} s and {pairs.second[-1]:.2f} s")
    return pairs


@dataclass(frozen=True)
class Agreement:
    """How far the two sides are apart at one picture, relatively: their losses, their gradients."""

    loss: float
    gradient: float

    def __str__(self) -> str:
        return f"loss {self.loss:.0e} and gradient {self.gradient:.0e} apart"


def apart(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> Agreement:
    """Relative differences of two (loss, gradient)."""
    gradient = (found[1] - expected[1]).norm() / expected[1].norm()
    return Agreement(abs(found[0] - expected[0]) / abs(expected[0]), float(gradient))


class Contest:
    """Impasto and the yardstick at one scene, their objectives compared first: ``same``, and in
    words ``agreement``.

    They are compared by the yardstick's own way to convolve as well: another one rounds
    differently, which here and there makes another pixel the maximum that pooling picks, and sends
    its gradient there. The losses must agree either way.

    Impasto keeps its memory between evaluations, as it does in a run; where that leaves the
    yardstick too little, it gives it back after each, and takes it again with an evaluation that is
    not timed.
    """

    def __init__(self, scene: Scene, rival: Rival, crowded: bool = False) -> None:
        self.scene, self.rival, self._crowded = scene, rival, crowded
        self.pixels = scene.noisy
        rival.look_at(self.pixels)
        expected = rival.evaluate()
        with allocator.reused_memory():
            by_conv2d = apart(scene.by("conv2d").evaluation()(self.pixels), expected)
        with allocator.reused_memory():
            self.evaluate = scene.evaluation()
            timed = apart(self.evaluate(self.pixels), expected)
        kernel = scene.tools.network.kernel
        rounds = kernel.dtype == torch.bfloat16  # by more than that
        self.same = by_conv2d.loss <= LOSS_APART and by_conv2d.gradient <= GRADIENT_APART
        self.same = self.same and (timed.loss <= LOSS_APART or rounds)
        self.agreement = f"{by_conv2d}" + (
            f" ({timed.loss:.0e} and {timed.gradient:.0e} by {kernel.name})"
            if kernel.name != "conv2d"
            else ""
        )
        if not self.same:
            self.agreement = f"NOT THE SAME OBJECTIVE: {self.agreement}"

    def pairs(self, count: int, say: Say) -> Pairs:
        """The yardstick's seconds and Impasto's."""
        if self._crowded:
            return in_turn(self.rival.seconds, self._seconds_from_nothing, count, say)
        with allocator.reused_memory():
            return in_turn(self.rival.seconds, self._seconds, count, say)

    def _seconds(self) -> float:
        return clocked(lambda: self.evaluate(self.pixels))

    def _seconds_from_nothing(self) -> float:
        with allocator.reused_memory():
            self.evaluate(self.pixels)
            return self._seconds()


@contextmanager
def contest(scene: Scene, crowded: bool = False) -> Iterator[Contest]:
    """Impasto against the yardstick at a scene."""
    with Rival(scene) as rival:
        yield Contest(scene, rival, crowded)
