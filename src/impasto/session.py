"""Wires the rooms together for one request: network, device, speed, plan and engine, and the stream
that they give.

It knows in which order they are set up and what is said about it. It refuses to know output files,
run folders' layout and options.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from impasto import images
from impasto.assets import catalogue
from impasto.errors import BadRecipe, DoesNotFit
from impasto.events import Event, Planned, Warned
from impasto.geometry import Size
from impasto.hardware import allocator, devices, kernel_cache, system_memory
from impasto.hardware.contention import check_process, good_neighbour
from impasto.images import color_transfer
from impasto.inputs import Request, replanned, wanted_layers
from impasto.networks import rescale, vgg, weights
from impasto.networks.convolution import KERNELS, Kernel, has
from impasto.networks.features import Network
from impasto.objectives.base import Objective
from impasto.optimize import loop, loss
from impasto.optimize.loss import Tools
from impasto.optimize.state import State
from impasto.optimize.tiling import value_and_gradient
from impasto.planning import memory, time_budget
from impasto.planning import speed as speed_
from impasto.planning.schedule import Plan
from impasto.planning.speed_cache import allowance, expected, measured
from impasto.recipe.records import Recipe
from impasto.recipe.values import bytes_text
from impasto.storage.tensors import DiskStore, MemoryStore, TensorStore

if TYPE_CHECKING:
    from impasto.runs.folder import Checkpoint


@dataclass(frozen=True)
class Bench:
    """A request's tools, and how fast they are here."""

    asked: Request
    tools: Tools
    known: speed_.Speed | None = None

    @cached_property
    def speed(self) -> speed_.Speed:
        """How fast these tools are here; measured when it is first asked for, in a share of the
        plan's time.
        """
        return self.known or self._measured(expected(self.asked.plan, self.tools.device))

    def measured_for(self, seconds: float, fixed: Set[str]) -> Bench:
        """The same, its speed measured in a share of so many seconds, in which ``fixed`` settings
        stay.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows, even for the smallest picture.
        """
        least = time_budget.within(
            0, self.asked.recipe, self.asked.photo.size, lambda recipe: math.inf, fixed
        )
        memory.holding(replanned(self.asked, least).plan, least, self.tools.network, self.room())
        return replace(self, known=self.known or self._measured(seconds))

    def _measured(self, seconds: float) -> speed_.Speed:
        with (
            good_neighbour(),
            using_threads(self.asked.recipe.compute.threads),
            allocator.reused_memory(),
            autograd(),
        ):
            return timed(self.asked.plan, self.tools, allowance(seconds))

    @property
    def kernel(self) -> str:
        """How its network convolves, every shape of it, in one line."""
        return self.tools.network.kernel.text

    def room(self) -> memory.MemoryBudget:
        """What there is to work with now."""
        return _room(self.asked, self.tools)

    def planned(
        self, asked: Request, first: int | None = None, room: memory.MemoryBudget | None = None
    ) -> tuple[Planned, memory.ExecutionPlan]:
        """What painting a request with these tools will take; with tiles of side ``first`` where
        they fit, within ``room`` or what there is now.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows.
        """
        network, plan, room = self.tools.network, asked.plan, room or self.room()
        room = replace(room, inputs=room.inputs - self.asked.picture_bytes + asked.picture_bytes)
        way = memory.holding(plan, asked.recipe, network, room, first)
        tiles = len(network.grid(plan.size, way.tile)) > 1
        planned = Planned(
            plan.size,
            tuple((stage.size, stage.steps) for stage in plan.stages),
            devices.describe(self.tools.device),
            network.kernel.name,
            round(self.speed.seconds(plan, network, way), 1),
            max(memory.memory(plan, asked.recipe, network, way) + room.inputs, asked.reading_bytes),
            room.free,
            way.tile if tiles else 0,
            memory.disk(plan, asked.recipe, network, way),
        )
        return planned, way

    def within(self, seconds: float, fixed: Set[str]) -> Request:
        """The request changed to the best picture that can be painted in ``seconds``; ``fixed``
        settings stay.
        """

        room = self.room()  # once for all candidates, which are to be compared

        def cost(recipe: Recipe) -> float:
            try:
                return self.planned(replanned(self.asked, recipe), room=room)[0].seconds
            except DoesNotFit:
                return math.inf  # a smaller one may

        recipe = time_budget.within(seconds, self.asked.recipe, self.asked.photo.size, cost, fixed)
        return replanned(self.asked, recipe)


def bench(
    asked: Request,
    fetch: catalogue.Progress,
    kept: Checkpoint | None = None,
    like: Bench | None = None,
) -> Bench:
    """Read the network, and choose device and kernel; the kernel of a state to continue from is
    kept to.

    The network of a bench ``like`` it is taken over where it is the same, and its speed where as
    much is to be done.

    Raises:
        CannotResume: there is no such kernel here.
    """
    check_process()
    with good_neighbour(), using_threads(asked.recipe.compute.threads):
        tools = _tools(asked, fetch, kept, like)
    same = (
        like is not None
        and tools.network is like.tools.network
        and _effort(like.asked.recipe) == _effort(asked.recipe)
    )
    return Bench(asked, tools, like.speed if like is not None and same else None)


def timed(plan: Plan, tools: Tools, allowed: float) -> speed_.Speed:
    """How fast these tools are here at a plan, measured in so many seconds or remembered (see
    ``speed``).

    Autograd is on, and freed memory kept, as while a picture is painted.
    """

    def prepare(size: Size) -> Callable[[], object]:
        pixels = images.to_tensor(images.resize(tools.photo, size)).to(tools.device)
        evaluate = loss.evaluation(size, plan, tools)
        return lambda: evaluate(pixels)

    work = (tools.network.kernel.text, _network_of(tools.recipe), _effort(tools.recipe))
    return measured(plan.size, prepare, tools.device, work, allowed)


def gradients(
    asked: Request, pictures: Sequence[images.Pixels], fetch: catalogue.Progress = catalogue.silent
) -> Iterator[dict[str, float]]:
    """How strongly each term pulls at each of some pictures (H, W, 3), 0..1, of the sizes that the
    request is painted in.

    Gives, picture by picture, the Euclidean norm of the gradient of each weighted term alone with
    respect to the pixels, by the term's name, held as the plan would be now.
    """
    tools = _tools(asked, fetch)
    way = memory.holding(asked.plan, asked.recipe, tools.network, _room(asked, tools))
    tools = held(tools, way)
    kept: dict[Size, list[Objective]] = {}
    with allocator.reused_memory(way.reuse):
        for picture in pictures:
            size = Size(*picture.shape[:2])
            with autograd():
                if size not in kept:
                    kept = {size: loss.objectives_for(size, asked.plan, tools)}
                pixels = images.to_tensor(picture).to(tools.device)
                grid, encode = tools.grid(size), tools.network.within(size)
                norms = {}
                for objective in kept[size]:
                    _, gradient = value_and_gradient(pixels, encode, [objective], grid, tools.kept)
                    norms[objective.name] = float(gradient.double().norm())
            yield norms


def held(tools: Tools, way: memory.ExecutionPlan) -> Tools:
    """The tools that hold evaluations in this way."""
    return replace(
        tools, tile=way.tile, kept=way.kept, reuse=way.reuse, targets=_scratch(way.targets_on_disk)
    )


def _room(asked: Request, tools: Tools) -> memory.MemoryBudget:
    prepared = 0 if tools.photo is asked.photo.pixels else tools.photo.nbytes
    return memory.MemoryBudget(
        free=system_memory.free_memory(tools.device),
        limit=tools.recipe.compute.memory,
        disk=system_memory.free_disk(_scratch_folder()),
        inputs=asked.picture_bytes + prepared,
    )


def _tools(
    asked: Request,
    fetch: catalogue.Progress,
    kept: Checkpoint | None = None,
    like: Bench | None = None,
) -> Tools:
    """Network, device and kernel of a request; the kernel of a state to go on from is kept to, as
    is the network of a bench that is like it.
    """
    recipe = asked.recipe
    where, _ = devices.device(recipe.compute.device)
    kernel = _kept_kernel(kept, where) if kept else _kernel(recipe, where)
    if (
        like is not None
        and _network_of(like.asked.recipe) == _network_of(recipe)
        and like.kernel == kernel.text
    ):
        seen = like.tools.network
    else:
        seen = network(recipe, wanted_layers(recipe), kernel, where, fetch)
    start = asked.start.pixels if asked.start is not None else None
    paintings = tuple(painting.pixels for painting in asked.paintings)
    return Tools(recipe, seen, _prepared(asked), paintings, start, where)


def _prepared(asked: Request) -> images.Pixels:
    """The photo as the recipe wants it before anything else; itself where it wants nothing."""
    photo, wish = asked.photo.pixels, asked.recipe.preparation
    if wish.median:
        photo = images.median(photo, wish.median)
    if wish.colours:
        spreads = [color_transfer.spread(painting.pixels) for painting in asked.paintings]
        weights = [painting.weight for painting in asked.recipe.paintings]
        photo = color_transfer.towards(photo, color_transfer.mixed(spreads, weights), wish.colours)
    return photo


def network(
    recipe: Recipe,
    wanted: Iterable[str],
    kernel: Kernel,
    where: torch.device,
    fetch: catalogue.Progress,
) -> Network:
    """The network that a recipe chose, cut after the deepest layer wanted."""
    file = Path(recipe.network.weights) if recipe.network.weights else None
    tensors = weights.load(recipe.network.name, progress=fetch, file=file)
    return Network(
        # A file is what it is.
        tensors if file else rescale.rescaled(tensors, recipe.network.name, recipe.network.scale),
        vgg.CONFIGURATION_OF[recipe.network.name],
        wanted,
        pooling=recipe.network.pooling,
        padding=recipe.network.padding,
        kernel=kernel,
        device=where,
        gain=recipe.network.gain,
    )


def _network_of(recipe: Recipe) -> object:
    """What decides the network, but for its kernel."""
    return recipe.network, sorted(wanted_layers(recipe)), recipe.compute.device


def _effort(recipe: Recipe) -> object:
    """What decides, for one network, how long an evaluation takes."""
    style = recipe.style
    terms = sorted(recipe.content.layers), sorted(style.layers), sorted(style.statistics)
    return terms, (style.scale, style.sizing, style.enlarge)


def _kernel(recipe: Recipe, where: torch.device) -> Kernel:
    """The kernel that a recipe names, or else the fastest here.

    Raises:
        BadRecipe: a line that names no kernel, or one with a method that is not here.
    """
    named = recipe.compute.kernel
    if named == "auto":
        return kernel_cache.kernel(recipe.compute.precision, where)
    hint = f"Give auto, one of {', '.join(KERNELS)}, or the line that a run's record has as kernel."
    try:
        kernel = Kernel.parse(named)
    except ValueError:
        raise BadRecipe(f"kernel is {named!r}, which names no kernel.", hint) from None
    if missing := _missing(kernel, where):
        raise BadRecipe(f"kernel needs the convolution {missing!r}, which is not here.", hint)
    return kernel


def _missing(kernel: Kernel, where: torch.device) -> str:
    """A convolution method of a kernel that this device has not; "" if it has all."""
    return min(
        (name for name in {kernel.default, *kernel.methods.values()} if not has(name, where)),
        default="",
    )


def _kept_kernel(kept: Checkpoint, where: torch.device) -> Kernel:
    """The kernel that a state was made with, which alone gives its bytes."""
    try:
        kernel = Kernel.parse(kept.facts["kernel"])
    except ValueError:
        raise kept.refused("this version has not its convolutions") from None
    if missing := _missing(kernel, where):
        raise kept.refused(f"this machine has not its convolution, {missing}")
    return kernel


def stream(ready: Bench, kept: Checkpoint | None = None) -> Iterator[tuple[Event, State]]:
    """The whole stream, ``Planned`` first, each step under autograd whatever mode the caller is in.

    ``kept`` is a state to go on from; its tile and kernel are kept to, which alone give its bytes.
    """
    found = _wired(ready, kept)
    threads = ready.asked.recipe.compute.threads
    with good_neighbour() as neighbour:
        while True:
            with autograd(), using_threads(threads):
                neighbour.check()
                try:
                    event, state = next(found)
                except StopIteration:
                    return
            yield event, state


def _wired(ready: Bench, kept: Checkpoint | None) -> Iterator[tuple[Event, State]]:
    asked, tools = ready.asked, ready.tools
    begun = _unpacked(kept, asked.plan, tools.device) if kept else None
    before = begun.tile if begun else None
    planned, way = ready.planned(asked, before)
    disk = None if way.targets_on_disk and way.history_on_disk else partial(_scratch, True)
    tools = replace(
        held(tools, way), recipe=asked.recipe, history=_scratch(way.history_on_disk), disk=disk
    )
    with allocator.reused_memory(way.reuse):
        state = (
            replace(begun, tile=way.tile)
            if begun
            else State(loss.first_pixels(asked.plan, tools), tile=way.tile)
        )
        yield planned, state
        for note in _notes(ready, planned, before, state):
            yield Warned(note), state
        yield from loop.iterate(asked.plan, tools, state)


def _unpacked(kept: Checkpoint, plan: Plan, where: torch.device) -> State:
    """The state that was written down.

    Raises:
        CannotResume: it is damaged, or no state of this plan.
    """
    try:
        state = State.unpack(kept.tensors, kept.facts, where)
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise kept.refused(f"its state cannot be read ({error})") from None
    if not state.belongs_to(plan):
        raise kept.refused("its state is not one of this recipe")
    return state


def _notes(ready: Bench, planned: Planned, before: int | None, state: State) -> Iterator[str]:
    """What a person should know before the first step."""
    if before is not None:
        done = f"{state.evaluations} of {ready.asked.plan.evaluations} evaluations"
        yield f"Going on from an unfinished run after {done}; --fresh starts over."
        if before != state.tile:
            yield f"There is less memory than before: going on in tiles of {state.tile} px, the same to rounding."
    yield from ready.asked.notes
    if planned.memory_bytes > planned.free_bytes:
        needed, free = bytes_text(planned.memory_bytes), bytes_text(planned.free_bytes)
        yield f"This needs about {needed} and {free} are free: a smaller --size is safer."


def _scratch_folder() -> Path:
    return catalogue.cache_dir() / "scratch"


def _scratch(on_disk: bool) -> TensorStore:
    return DiskStore(_scratch_folder()) if on_disk else MemoryStore()


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """So many of torch's threads within it, and the caller's number after it; 0 changes nothing."""
    before = torch.get_num_threads()
    if count in (0, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def autograd() -> Iterator[None]:
    """Gradients are tracked, also within a caller's ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
