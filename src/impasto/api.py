"""The desk: everything a program asks of Impasto, and the only place that wires the rooms together.

It knows in which order things are checked: every file, name and number before any network is read. It prints nothing,
and leaves no seed, thread count or other setting of the process changed.
"""

from __future__ import annotations

import itertools
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from impasto import assets, images, runs
from impasto import recipe as recipes
from impasto.errors import BadPicture, CannotResume, CannotWrite, Diverged, NotSaved, UnknownName
from impasto.events import Event, Failed, Finished, Planned, StageDone, Stepped, Warned
from impasto.geometry import Size
from impasto.networks import vgg
from impasto.recipe import Recipe
from impasto.request import Request, Source, is_file, request, wanted_layers

if TYPE_CHECKING:
    import PIL.Image

    from impasto.engine import State, Tools

_PREVIEW_SECONDS = 20.0


@dataclass(frozen=True)
class Watch:
    """How a caller follows the work and stops it: each is called from the same thread, between steps.

    ``event``: with everything that happens. ``fetch``: with an asset's name, bytes so far, bytes in all. ``stop``: true
    ends the run after the step at hand, with the picture so far.
    """

    event: Callable[[Event], None] = lambda event: None
    fetch: assets.Progress = lambda name, done, total: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Painting:
    """A finished picture and how it was made.

    ``pixels`` is float32 (H, W, 3), sRGB-encoded, 0..1; ``alpha`` (H, W) is the photo's, if it has one. ``record`` holds
    sizes, times, losses, hashes and versions as plain values.
    """

    pixels: images.Pixels
    alpha: images.Pixels | None
    recipe: Recipe
    record: dict[str, Any]
    exif: bytes = b""
    credit: str = ""

    @property
    def image(self) -> PIL.Image.Image:
        """The picture as an 8-bit PIL image, RGB, or RGBA where the photo had transparency."""
        from PIL import Image

        parts = [self.pixels] if self.alpha is None else [self.pixels, self.alpha[..., None]]
        return Image.fromarray((np.concatenate(parts, -1) * 255).round().astype(np.uint8))

    def save(self, path: str | Path) -> Path:
        """Write the picture with its recipe and credit inside; gives the absolute path.

        Raises:
            CannotWrite: the folder, the name's extension, or the disk.
        """
        bits = self.recipe.output.bits
        target = images.check_output(path, bits=bits, size=Size(*self.pixels.shape[:2]))
        images.save(
            target,
            self.pixels,
            alpha=self.alpha,
            exif=self.exif,
            recipe=_without_folders(self.recipe).to_json(),
            credit=self.credit,
            bits=bits,
            quality=self.recipe.output.quality,
        )
        return target


def stylize(
    content: Source, style: Source | Sequence[Source], *, recipe: Recipe | str = recipes.HOUSE, **fields: Any
) -> Painting:
    """The photo ``content`` painted in the style of ``style``.

    Args:
        content: a path, a PIL image, a numpy array (H, W, 3) or a torch tensor (3, H, W).
        style: the same, or a museum name such as "wheat-field-with-cypresses"; a list of them is blended.
        recipe: a recipe, the name of one, or a file that holds one.
        fields: any setting of ``impasto.recipe`` by its option name, such as ``size=1024, strength=70``.

    Raises:
        BadRequest: something that was given cannot be used; nothing was started.
        Failed: the work was started and could not be ended.
    """
    return paint(request(content, style, load_recipe(recipe, fields)))


def iterate(recipe: Recipe, watch: Watch | None = None) -> Iterator[tuple[Event, State]]:
    """The stream of (event, state) that painting a recipe gives off; the recipe names its photo and paintings.

    The first event is ``Planned``, the last ``Finished`` or ``Failed``. To cancel is to stop iterating.
    """
    if recipe.photo is None or not recipe.paintings:
        raise BadPicture("The recipe names no photo or no painting.", "Set photo and paintings, or use impasto.stylize.")
    watch = watch or Watch()
    asked = request(recipe.photo.path, [painting.path for painting in recipe.paintings], recipe, watch.fetch)
    return _stream(asked, watch)


def load_recipe(given: Recipe | str, settings: dict[str, Any]) -> Recipe:
    """A recipe by name, from a recipe file or from a picture that carries one, with some settings changed."""
    if isinstance(given, Recipe):
        return recipes.with_settings(given, settings)
    given = str(given)
    path = Path(given)
    if given not in recipes.names() and path.suffix.lower() not in (".toml", ".json") and is_file(given):
        text = images.embedded_recipe(path)
        if text is None:
            raise UnknownName(f"{given} carries no recipe.", "Pictures painted by Impasto do; so do .toml and .json files.")
        return recipes.with_settings(recipes.from_json(text, given), settings)
    return recipes.with_settings(recipes.load(given), settings)


def paint(
    asked: Request,
    *,
    output: Path | None = None,
    run: Path | None = None,
    watch: Watch | None = None,
    fresh: bool = False,
    checkpoint_seconds: float = recipes.CHECKPOINT_SECONDS,
) -> Painting:
    """Paint a request; write the picture to ``output`` and the run's folder to ``run`` where they are given.

    A run of the same recipe that was stopped or killed is gone on with from the state in its folder, and ends with the
    bytes of an undisturbed one, unless ``fresh``. The state is written every ``checkpoint_seconds`` and after each stage.

    Raises:
        Diverged: the loss stopped being a number. The last good picture is in ``output``, if one was asked for.
    """
    watch = watch or Watch()
    if output is not None:
        output = images.check_output(output, bits=asked.recipe.output.bits, size=asked.plan.size)
        _check_not_an_input(output, asked)
    if run is not None:
        runs.check(run)
    kept = runs.checkpoint(run) if run is not None and not fresh else None
    if kept is not None and kept.facts["recipe_sha256"] != asked.recipe.sha256:
        kept = None  # another recipe under the same name: a fresh start is what was asked for
    stream = _stream(asked, watch, kept)
    first = next(stream)  # the network is there and the plan is made: from here on something may be written
    log = None
    if run is not None:
        log = runs.Run.start(run, asked.recipe) if kept is None else runs.Run.resume(run)
    follow = _Follow(log, asked, str(output or ""), checkpoint_seconds, spent=kept.facts["seconds"] if kept else 0.0)
    failed, stopped = "", False
    for event, state in itertools.chain([first], stream):
        follow(event, state)
        watch.event(event)
        failed = event.message if isinstance(event, Failed) else ""
        if isinstance(event, Stepped) and watch.stop():
            stopped = True
            again = " The same command goes on from here." if log is not None else ""
            note = Warned(f"Stopped after {event.evaluations} of {asked.plan.evaluations} evaluations.{again}")
            follow(note, state)
            follow.keep(state)
            watch.event(note)
            break
    painting = _painting(asked, state, follow)
    if output is not None:
        output = _save(painting, output)
        painting.record["output"] = str(output)
    if failed:
        where = f"The last good picture is in {output}." if output is not None else ""
        raise Diverged(failed, f"{where} Try a smaller --solver-rate, or --solver adam --solver-rate 0.02.".strip())
    if log is not None:
        if output is not None and not stopped:
            log.finish(output, painting.record)
        if log.lost:
            watch.event(Warned(f"The run folder {log.folder} could not be written in full; the picture is whole."))
    return painting


def resume(run: Path, watch: Watch | None = None) -> Painting:
    """Go on with an unfinished run from its folder, and write the picture where it was to go.

    Raises:
        CannotResume: no run there, one that is complete, or one whose photo or painting has changed since.
    """
    kept = runs.checkpoint(run)
    if kept is None:
        complete = (run / runs.RECORD).exists()
        state = "is complete" if complete else "holds no state to go on from"
        raise CannotResume(f"The run {run} {state}.", "" if complete else "Give the command that started it again.")
    recipe = recipes.load(str(run / runs.RECIPE))
    assert recipe.photo is not None
    asked = request(recipe.photo.path, [painting.path for painting in recipe.paintings], recipe)
    if asked.recipe.sha256 != kept.facts["recipe_sha256"]:
        raise CannotResume(f"The photo or a painting of the run {run} has changed since.", "Start over with the command.")
    output = Path(kept.facts["output"]) if kept.facts["output"] else None
    return paint(asked, output=output, run=run, watch=watch)


def _check_not_an_input(output: Path, asked: Request) -> None:
    recipe = asked.recipe
    inputs = [recipe.photo, *recipe.paintings]
    files = [each.path for each in inputs if each is not None] + [recipe.schedule.start]
    if output.resolve() in [Path(file).resolve() for file in files if is_file(file)]:
        raise CannotWrite(f"{output} is one of the pictures that go in; it would be lost.", "Give the result another name.")


def _save(painting: Painting, output: Path) -> Path:
    """Write the finished picture; where that fails, elsewhere, so that the work is not lost.

    Raises:
        NotSaved: it could not be written to ``output``. The hint says where it is instead.
    """
    try:
        return painting.save(output)
    except CannotWrite as error:
        for folder in (Path(tempfile.gettempdir()), Path.home()):
            try:
                kept = painting.save(folder / f"impasto-{painting.recipe.sha256[:8]}-{output.name}")
            except CannotWrite:
                continue
            raise NotSaved(error.message, f"The picture is kept as {kept}.") from None
        raise NotSaved(error.message, "It could not be kept anywhere else either. Make room, and run it again.") from None


@dataclass
class _Follow:
    """Keeps what the record needs of the stream, and writes the run's log, state and preview.

    ``spent``: seconds of the run before it was interrupted, if it was.
    """

    log: runs.Run | None
    asked: Request
    output: str
    checkpoint_seconds: float
    spent: float = 0.0
    planned: Planned | None = None
    seconds: float = 0.0
    shown: float = 0.0
    kept: float = 0.0

    def __call__(self, event: Event, state: State) -> None:
        if isinstance(event, Planned):
            self.planned = event
        if isinstance(event, Stepped | Finished):
            self.seconds = self.spent + event.seconds
        if self.log is None:
            return
        self.log.note(event)
        stepped, staged = isinstance(event, Stepped), isinstance(event, StageDone)
        if staged or (stepped and self.seconds - self.kept >= self.checkpoint_seconds):
            self.keep(state)
        if staged or (stepped and self.seconds - self.shown > _PREVIEW_SECONDS):
            self.shown = self.seconds
            self.log.preview(np.clip(images.from_tensor(state.pixels), 0, 1))

    def keep(self, state: State) -> None:
        """Write the state down, with what must be the same when it is gone on with."""
        if self.log is None or self.planned is None:
            return
        self.kept = self.seconds
        tensors, facts = state.pack()
        facts |= {"recipe_sha256": self.asked.recipe.sha256, "kernel": self.planned.kernel, "tile": self.planned.tile}
        self.log.keep(tensors, {**facts, "seconds": self.seconds, "output": self.output})


def _stream(asked: Request, watch: Watch, kept: runs.Checkpoint | None = None) -> Iterator[tuple[Event, State]]:
    """The whole stream, each step under autograd whatever mode the caller is in, and the caller's mode between steps."""
    import torch

    stream = _wired(asked, watch, kept)
    while True:
        with torch.inference_mode(False), torch.enable_grad():
            try:
                found = next(stream)
            except StopIteration:
                return
        yield found


def _wired(asked: Request, watch: Watch, kept: runs.Checkpoint | None) -> Iterator[tuple[Event, State]]:
    """Wire the network, the plan and the engine together, and give the engine's stream with ``Planned`` before it."""
    from impasto import engine, planning

    recipe, plan = asked.recipe, asked.plan
    where, _ = planning.device(recipe.compute.device)
    tools = _tools(asked, watch, kept.facts["kernel"] if kept else "")
    tile = kept.facts["tile"] if kept else planning.tile(plan, recipe, tools.network, planning.free_memory(where))
    tools = replace(tools, tile=tile)
    with planning.reused_memory():

        def prepare(size: Size) -> Callable[[], object]:
            pixels = images.to_tensor(images.resize(asked.photo.pixels, size)).to(where)
            evaluate = engine.evaluation(size, plan, tools)
            return lambda: evaluate(pixels)

        cost = planning.cost(plan, recipe, tools.network, where, prepare, tile)
        stages = tuple((stage.size, stage.steps) for stage in plan.stages)
        planned = Planned(
            plan.size,
            stages,
            planning.describe(where),
            tools.network.kernel.name,
            round(cost.seconds, 1),
            cost.memory_bytes,
            cost.free_bytes,
            tile if len(tools.grid(plan.size)) > 1 else 0,
        )
        if kept is None:
            state = engine.State(engine.first_pixels(plan, tools))
        else:
            state = engine.State.unpack(kept.tensors, kept.facts, where)
        yield planned, state
        if kept is not None:
            done = f"{state.evaluations} of {plan.evaluations} evaluations"
            yield Warned(f"Going on from an unfinished run after {done}; --fresh starts over."), state
        for note in asked.notes:
            yield Warned(note), state
        if cost.memory_bytes > cost.free_bytes:
            needed, free = cost.memory_bytes / 2**30, cost.free_bytes / 2**30
            yield (
                Warned(f"This needs about {needed:.1f} GiB and {free:.1f} GiB are free: a smaller --size is safer."),
                state,
            )
        yield from engine.iterate(plan, tools, state)


def _tools(asked: Request, watch: Watch, kernel: str = "") -> Tools:
    """The engine's tools; ``kernel`` names the one that an earlier part of the run used, which alone gives its bytes."""
    from impasto import engine, planning
    from impasto.networks import weights
    from impasto.networks.convolution import KERNELS
    from impasto.networks.features import Network

    recipe = asked.recipe
    where, _ = planning.device(recipe.compute.device)
    file = Path(recipe.network.weights) if recipe.network.weights else None
    network = Network(
        weights.load(recipe.network.name, progress=watch.fetch, file=file),
        vgg.CONFIGURATION_OF[recipe.network.name],
        wanted_layers(recipe),
        pooling=recipe.network.pooling,
        padding=recipe.network.padding,
        kernel=KERNELS[kernel] if kernel else planning.kernel(recipe.compute.precision, where),
        device=where,
    )
    start = asked.start.pixels if asked.start is not None else None
    paintings = tuple(painting.pixels for painting in asked.paintings)
    return engine.Tools(recipe, network, asked.photo.pixels, paintings, start, where)


def _painting(asked: Request, state: State, follow: _Follow) -> Painting:
    import torch

    from impasto import __version__, planning

    recipe, size = asked.recipe, asked.plan.size
    pixels = np.clip(images.from_tensor(state.pixels), 0, 1)
    if pixels.shape[:2] != tuple(size):  # stopped before the last stage: the picture so far, in the size asked for
        pixels = images.resize(pixels, size)
    alpha = images.resize(asked.photo.alpha, size) if asked.photo.alpha is not None else None
    where, _ = planning.device(recipe.compute.device)
    planned = follow.planned
    record = {
        "output": None,
        "size": [size.width, size.height],
        "seconds": round(follow.seconds, 2),
        "evaluations": state.evaluations,
        "device": where.type,
        "processor": planned.device if planned else "",
        "kernel": planned.kernel if planned else "",
        "loss": {"total": state.value.total, **state.value.terms},
        "expected_seconds": planned.seconds if planned else None,
        "expected_memory_bytes": planned.memory_bytes if planned else None,
        "peak_memory_bytes": planning.peak_memory(where),
        "recipe_sha256": recipe.sha256,
        "recipe": recipe.name,
        "credit": asked.credit,
        "versions": {"impasto": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    return Painting(pixels, alpha, recipe, record, asked.photo.exif, asked.credit)


def _without_folders(recipe: Recipe) -> Recipe:
    """The recipe with file names in place of paths: a picture that is passed on says nothing of its maker's folders."""
    assert recipe.photo is not None
    return recipe.model_copy(
        update={
            "network": recipe.network.model_copy(update={"weights": Path(recipe.network.weights).name}),
            "schedule": recipe.schedule.model_copy(update={"start": Path(recipe.schedule.start).name}),
            "photo": recipe.photo.model_copy(update={"path": Path(recipe.photo.path).name}),
            "paintings": tuple(
                painting.model_copy(update={"path": Path(painting.path).name}) for painting in recipe.paintings
            ),
        }
    )
