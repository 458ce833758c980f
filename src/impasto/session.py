"""One picture to paint: inputs, network, device and execution plan. Everything is assembled here.

session = prepare("photo.jpg", "irises", size=512)
print(session.plan.seconds, session.plan.memory_bytes)
for event, state in session.run():
    ...
session.result(state).save("painted.png")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from safetensors import SafetensorError

from impasto import images, inputs
from impasto.assets import catalogue
from impasto.errors import DoesNotFit
from impasto.events import Event, Planned, Warned
from impasto.geometry import Size
from impasto.hardware import allocator, devices, system_memory
from impasto.hardware.contention import check_not_forked, limit_spinning
from impasto.hardware.threads import use_threads
from impasto.images.opening import Source
from impasto.images.palette import joint_palette
from impasto.images.preparation import prepare_photo
from impasto.images.recipe_source import load_recipe
from impasto.inputs import Inputs
from impasto.networks.convolution import Kernel
from impasto.networks.features import Network
from impasto.optimize import loss
from impasto.optimize.checkpoint import Checkpoint
from impasto.optimize.execution import Execution, disk_folder, make_execution
from impasto.optimize.octaves import Evaluate
from impasto.optimize.problem import Problem, first_pixels
from impasto.optimize.runner import autograd_enabled, run_problem
from impasto.optimize.state import State
from impasto.optimize.terms import check_tiling
from impasto.planning import memory, speed_cache, time_budget
from impasto.planning.memory import ExecutionPlan, MemoryBudget
from impasto.planning.network_choice import (
    choose_kernel,
    evaluation_key,
    load_network,
    network_key,
    saved_kernel,
)
from impasto.planning.speed import Speed
from impasto.planning.time_budget import TimeBudget
from impasto.recipe.loading import DEFAULT_RECIPE
from impasto.recipe.records import Recipe
from impasto.recipe.values import bytes_text
from impasto.regions.protection import protected_parts
from impasto.result import Painting, painting_from_state


def prepare(
    content: Source,
    style: Source | Sequence[Source],
    recipe: Recipe | str = DEFAULT_RECIPE,
    *,
    progress: catalogue.Progress = catalogue.silent,
    **settings: Any,
) -> Session:
    """Read the pictures, load the network, and choose device and convolution method.

    Args:
        content: a path, bytes, an open file, a PIL image, a numpy array (H, W, 3) or a torch
            tensor (3, H, W).
        style: the same, or the name of a museum painting; a list is blended.
        recipe: a recipe, the name of one, or a file that holds one.
        progress: called with an asset's name, bytes so far and all bytes while it is fetched.
        settings: any setting by its option name, such as ``size=1024``.

    Raises:
        BadRequest: something that was given cannot be used.
        AssetUnavailable: the network could not be fetched.
    """
    read = inputs.read_inputs(content, style, load_recipe(recipe, settings), progress)
    return Session.open(read, progress)


@dataclass(frozen=True)
class Session:
    """A picture that is ready to be painted.

    ``inputs``: the recipe and its pictures. ``problem``: what is minimised. ``checkpoint``: the
    saved state that ``run`` continues from. ``measured_speed``: the speed of this machine, if it
    is known already.
    """

    inputs: Inputs
    problem: Problem
    checkpoint: Checkpoint | None = None
    measured_speed: Speed | None = None

    @staticmethod
    def open(
        inputs: Inputs,
        progress: catalogue.Progress = catalogue.silent,
        *,
        checkpoint: Checkpoint | None = None,
        reuse: Session | None = None,
    ) -> Session:
        """Load the network, and choose device and convolution methods.

        A checkpoint's convolution methods are used again: only they give the same bytes. The
        network and speed of ``reuse`` are used again where they are the same.

        Raises:
            CannotResume: a convolution method of the checkpoint does not exist here.
        """
        check_not_forked()
        recipe = inputs.recipe
        with limit_spinning(), use_threads(recipe.compute.threads):
            device, _ = devices.choose_device(recipe.compute.device)
            kernel = _kernel(recipe, device, checkpoint)
            network = _reused_network(recipe, kernel, reuse)
            if network is None:
                network = load_network(recipe, recipe.used_layers, kernel, device, progress)
            style = tuple(painting.pixels for painting in inputs.paintings)
            mask = inputs.mask
            problem = Problem(
                recipe,
                inputs.plan,
                network,
                prepare_photo(inputs.photo.pixels, style, recipe),
                style,
                inputs.start.pixels if inputs.start is not None else None,
                device,
                protected_parts(
                    recipe.protect.regions,
                    inputs.photo.pixels,
                    mask.pixels if mask is not None else None,
                    mask.alpha if mask is not None else None,
                ),
                joint_palette(style) if recipe.palette.weight > 0 else None,
            )
        same_speed = (
            reuse is not None
            and network is reuse.problem.network
            and evaluation_key(reuse.inputs.recipe) == evaluation_key(recipe)
        )
        speed = reuse.speed if reuse is not None and same_speed else None
        return Session(inputs, problem, checkpoint, speed)

    # ---- planning

    @cached_property
    def plan(self) -> Planned:
        """What painting will take: size, stages, device, seconds, memory and tiles.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows.
        """
        return self._planned(self.inputs, self.execution_plan, self._available)

    @cached_property
    def execution_plan(self) -> ExecutionPlan:
        """Tiles, and what is stored on disk. The tiles are those of the saved state if they fit.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows.
        """
        tile = self._saved_state.tile if self._saved_state else None
        return self._choose_execution(self.inputs, self._available, tile)

    @cached_property
    def _available(self) -> MemoryBudget:
        """The memory and disk that were available when the plan was made."""
        return self.memory_budget()

    @cached_property
    def speed(self) -> Speed:
        """The speed of this machine, measured when it is first needed."""
        seconds = speed_cache.guess_seconds(self.inputs.plan, self.problem.device)
        return self.measured_speed or self._measure_speed(seconds)

    @property
    def kernel(self) -> str:
        """The convolution methods of the network in one line, as a recipe can name them."""
        return self.problem.network.kernel.text

    def memory_budget(self) -> MemoryBudget:
        """The memory and disk that are available now."""
        photo = self.problem.photo
        prepared = 0 if photo is self.inputs.photo.pixels else photo.nbytes
        return MemoryBudget(
            free=system_memory.free_memory(self.problem.device),
            limit=self.problem.recipe.compute.memory,
            disk=system_memory.free_disk(disk_folder()),
            inputs=self.inputs.picture_bytes + prepared,
        )

    def plan_for(
        self, inputs: Inputs, budget: MemoryBudget | None = None
    ) -> tuple[Planned, ExecutionPlan]:
        """What painting other inputs with this network and device will take.

        ``budget``: the memory that is available beside this session's own pictures, by default
        that of now.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows.
            BadRecipe: tiles are asked for, and a term of the loss cannot be computed in tiles.
        """
        budget = budget or self.memory_budget()
        difference = inputs.picture_bytes - self.inputs.picture_bytes
        budget = replace(budget, inputs=budget.inputs + difference)
        execution = self._choose_execution(inputs, budget)
        return self._planned(inputs, execution, budget), execution

    def _choose_execution(
        self, inputs: Inputs, budget: MemoryBudget, tile: int | None = None
    ) -> ExecutionPlan:
        """The fastest execution that fits; tiles of side ``tile`` are preferred."""
        plan, recipe, network = inputs.plan, inputs.recipe, self.problem.network
        tiling = check_tiling(recipe)
        return memory.choose_execution(plan, recipe, network, budget, tile, tiling)

    def _planned(self, inputs: Inputs, execution: ExecutionPlan, budget: MemoryBudget) -> Planned:
        """The event that says what an execution takes. The machine is timed for it."""
        plan, recipe, network = inputs.plan, inputs.recipe, self.problem.network
        tiled = len(network.grid(plan.size, execution.tile)) > 1
        needed = memory.peak_bytes(plan, recipe, network, execution) + budget.inputs
        with use_threads(recipe.compute.threads):
            device = devices.describe(self.problem.device)
        return Planned(
            plan.size,
            tuple((stage.size, stage.steps) for stage in plan.stages),
            device,
            network.kernel.name,
            round(self.speed.seconds(plan, network, execution), 1),
            max(needed, inputs.reading_bytes),
            budget.free,
            execution.tile if tiled else 0,
            memory.disk_bytes(plan, recipe, network, execution),
        )

    def for_time(self, budget: TimeBudget) -> Session:
        """The session with the size and evaluations of the best picture in a time budget.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows, even for the smallest picture.
        """
        recipe, photo, fixed = self.inputs.recipe, self.inputs.photo.size, budget.fixed
        least = time_budget.best_recipe(0, recipe, photo, lambda _: math.inf, fixed)
        available = self.memory_budget()
        self._choose_execution(self.inputs.with_recipe(least), available)
        measured = self.measured_speed or self._measure_speed(budget.seconds)
        session = replace(self, measured_speed=measured)
        available = session.memory_budget()  # the same for all candidates

        def cost(candidate: Recipe) -> float:
            try:
                planned, _ = session.plan_for(self.inputs.with_recipe(candidate), available)
            except DoesNotFit:
                return math.inf
            return planned.seconds

        chosen = time_budget.best_recipe(budget.left, recipe, photo, cost, fixed)
        return session._with_inputs(self.inputs.with_recipe(chosen))

    def _with_inputs(self, inputs: Inputs) -> Session:
        problem = replace(self.problem, recipe=inputs.recipe, plan=inputs.plan)
        return replace(self, inputs=inputs, problem=problem)

    def _measure_speed(self, seconds: float) -> Speed:
        """Measure in a share of ``seconds``, under the conditions of painting."""
        threads = self.inputs.recipe.compute.threads
        with use_threads(threads), allocator.reused_memory(), autograd_enabled():
            return measure_speed(self.problem, speed_cache.allowance(seconds))

    # ---- painting

    def run(self) -> Iterator[tuple[Event, State]]:
        """Paint: iterate over (event, state). Stop iterating to cancel.

        The first event is ``Planned``, the last ``Finished`` or ``Failed``. Gradients are computed
        whatever autograd mode the caller is in.

        Raises:
            DoesNotFit: more memory than the recipe's limit allows.
            CannotResume: the checkpoint is damaged, or of another plan.
        """
        saved = self._saved_state
        execution = make_execution(self.execution_plan)
        threads = use_threads(self.inputs.recipe.compute.threads)
        with threads, allocator.reused_memory(execution.reuse_memory), autograd_enabled():
            if saved is not None:
                state = replace(saved, tile=execution.tile)
            else:
                pixels = first_pixels(self.problem, execution)
                state = State(pixels, tile=execution.tile)
        events = [self.plan, *map(Warned, self._notes(state))]
        return run_problem(self.problem, execution, state, events)

    def result(self, state: State, seconds: float = 0.0) -> Painting:
        """The picture of a state in its final size; ``seconds``: the time that it took."""
        return painting_from_state(self.inputs, state, self.plan, seconds)

    def gradient_norms(self, pictures: Sequence[images.Pixels]) -> Iterator[dict[str, float]]:
        """Yield, for each picture, the gradient norm of each weighted term by the term's name.

        The pictures, (H, W, 3) in 0..1, have sizes of the plan's stages. The norm is Euclidean,
        over all pixels.
        """
        execution = make_execution(self.execution_plan)
        terms: dict[Size, dict[str, Evaluate]] = {}
        with allocator.reused_memory(execution.reuse_memory):
            for picture in pictures:
                size = Size(*picture.shape[:2])
                with autograd_enabled():
                    if size not in terms:  # the last size only: targets are large
                        terms = {size: loss.term_evaluations(size, self.problem, execution)}
                    pixels = images.to_tensor(picture).to(self.problem.device)
                    norms = {
                        name: float(evaluate(pixels)[1].double().norm())
                        for name, evaluate in terms[size].items()
                    }
                yield norms

    @cached_property
    def _saved_state(self) -> State | None:
        """The state of the checkpoint.

        Raises:
            CannotResume: it is damaged, or not a state of this plan.
        """
        if self.checkpoint is None:
            return None
        tensors, values = self.checkpoint.tensors, self.checkpoint.values
        try:
            state = State.unpack(tensors, values, self.problem.device)
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise self.checkpoint.rejected(f"its state cannot be read ({error})") from None
        if not state.belongs_to(self.inputs.plan):
            raise self.checkpoint.rejected("its state is not one of this recipe")
        return state

    def _notes(self, state: State) -> Iterator[str]:
        """What the user should know before the first step, a sentence each."""
        if self._saved_state is not None:
            done = f"{state.evaluations} of {self.inputs.plan.evaluations} evaluations"
            yield f"Continuing an unfinished run after {done}; --fresh starts over."
            if self._saved_state.tile != state.tile:
                yield (
                    f"There is less memory than before: continuing in tiles of {state.tile} px, "
                    "the same to rounding."
                )
        yield from self.inputs.notes
        if self.problem.protected is not None and self.inputs.mask is None:
            yield "Faces keep their shape; --protect none paints them like the rest."
        if self.plan.memory_bytes > self.plan.free_bytes:
            needed, free = bytes_text(self.plan.memory_bytes), bytes_text(self.plan.free_bytes)
            yield f"This needs about {needed} and {free} are free: a smaller --size is safer."


def _kernel(recipe: Recipe, device: torch.device, checkpoint: Checkpoint | None) -> Kernel:
    """The convolution methods of the checkpoint, or of the recipe."""
    if checkpoint is None:
        return choose_kernel(recipe, device)
    try:
        return saved_kernel(checkpoint.values["kernel"], device)
    except ValueError as error:
        raise checkpoint.rejected(str(error)) from None


def _reused_network(recipe: Recipe, kernel: Kernel, reuse: Session | None) -> Network | None:
    """The network of another session, if it is the one that this recipe needs."""
    if reuse is None or reuse.kernel != kernel.text:
        return None
    same = network_key(reuse.inputs.recipe) == network_key(recipe)
    return reuse.problem.network if same else None


def measure_speed(problem: Problem, seconds: float) -> Speed:
    """The speed of this machine for a problem, cached or measured in at most ``seconds``."""

    def build(size: Size) -> Callable[[], object]:
        pixels = images.to_tensor(images.resize(problem.photo, size)).to(problem.device)
        evaluate = loss.evaluation(size, problem, Execution())

        def checked() -> object:
            guard.check()  # as before each step of a run
            return evaluate(pixels)

        return checked

    recipe = problem.recipe
    work = (problem.network.kernel.text, network_key(recipe), evaluation_key(recipe))
    with limit_spinning() as guard:
        return speed_cache.cached_speed(problem.plan.size, build, problem.device, work, seconds)
