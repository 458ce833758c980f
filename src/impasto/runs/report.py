"""Write the report of a run: one HTML page that needs nothing else, and its curves as PNG files.

A page may be passed on, so it does not show the folders of the person who painted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impasto.assets import catalogue
from impasto.errors import ImpastoError
from impasto.result import without_folders
from impasto.runs import curves, gradient_norms, report_pictures, report_tables
from impasto.runs.history import History
from impasto.runs.report_pictures import RunPicture
from impasto.runs.run_inputs import RunInput, read_inputs
from impasto.storage import templates
from impasto.storage.files import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


EXTENSIONS = (".html", ".htm")


@dataclass(frozen=True)
class Gradients:
    """Each term's gradient norm by evaluations, or the reason why there are none."""

    norms: curves.Norms
    reason: str = ""


def write(
    history: History,
    output: Path,
    *,
    gradients: bool = True,
    say: Callable[[str], None] = lambda note: None,
    fetch: catalogue.Progress = catalogue.silent,
) -> None:
    """Write the page of a run to ``output``, and each of its curves as PNG beside it.

    ``gradients``: compute gradient norms at pictures of the run. This takes one evaluation of the
    network for each picture and term.

    Raises:
        CannotWrite: a file cannot be written there.
    """
    pictures = report_pictures.read_pictures(history)
    computed = Gradients({}, "They were left out.")
    if gradients:
        computed = _gradients(history, pictures, say, fetch)
    drawn = _draw_curves(history, computed.norms)
    inputs = read_inputs(history.recipe, fetch) if history.recipe is not None else []
    replace_file(output, _page(history, pictures, inputs, computed, drawn).encode())
    for name, figure in drawn.items():
        replace_file(curve_file(output, name), curves.png(figure))


def curve_files(output: Path) -> list[Path]:
    """The files of all curves that a page can have."""
    return [curve_file(output, name) for name in ("loss", "layers", "gradients")]


def curve_file(output: Path, name: str) -> Path:
    """The file of a curve of a page: ``painted-loss.png`` for ``painted.html``."""
    return output.with_name(f"{output.stem}-{name}.png")


def _draw_curves(history: History, norms: curves.Norms) -> dict[str, Figure]:
    """The curves that can be drawn."""
    drawn: dict[str, Figure | None] = {}
    if any(math.isfinite(step.loss) for step in history.steps):
        drawn["loss"] = curves.loss(history)
    if history.steps:
        drawn["layers"] = curves.layers(history)
    if any(report_tables.all_finite(each) for each in norms.values()):
        drawn["gradients"] = curves.gradients(history, norms)
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _gradients(
    history: History,
    pictures: Sequence[RunPicture],
    say: Callable[[str], None],
    fetch: catalogue.Progress,
) -> Gradients:
    if history.recipe is None:
        return Gradients({}, "There is no recipe in the folder.")
    sizes = [tuple(size) for size, _ in history.planned.stages]
    usable = {each.evaluations: each.pixels for each in pictures if each.pixels.shape[:2] in sizes}
    if not usable:
        return Gradients({}, "There is no picture at which they could be computed.")
    say(f"Computing gradients at {len(usable)} pictures; --no-gradients leaves them out.")
    try:
        norms = gradient_norms.gradient_norms(history.recipe, list(usable.values()), fetch)
        return Gradients(dict(zip(usable, norms, strict=True)))
    except ImpastoError as error:
        return Gradients({}, f"They could not be computed. {error.message}")


def _page(
    history: History,
    pictures: Sequence[RunPicture],
    inputs: Sequence[RunInput],
    gradients: Gradients,
    drawn: Mapping[str, Figure],
) -> str:
    norms, head = report_tables.gradient_norms(gradients.norms)
    recipe = history.recipe
    return templates.fill(
        "impasto.runs",
        "report.html",
        name=history.folder.resolve().name.removesuffix(".run"),
        summary=report_tables.summary(history),
        input_and_result=report_pictures.input_and_result(inputs, pictures),
        progress=report_pictures.progress(history, pictures) if len(pictures) > 1 else (),
        # Each on a light and on a dark background; the browser takes the one that suits.
        curves={name: _svg_urls(curves.svg(figure)) for name, figure in drawn.items()},
        norms=norms,
        norms_head=head,
        no_norms_reason=gradients.reason,
        left_out=report_tables.left_out(history, gradients.norms),
        stages=report_tables.stages(history),
        resources=report_tables.resources(history),
        environment=report_tables.environment(history),
        changed=report_tables.changed_settings(recipe) if recipe is not None else (),
        recipe=_recipe_text(history),
        notes=report_tables.notes(history),
    )


def _recipe_text(history: History) -> str:
    recipe = history.recipe
    if recipe is None:
        return ""
    return (recipe if recipe.photo is None else without_folders(recipe)).to_toml()


def _svg_urls(svg: bytes) -> dict[str, str]:
    pictures = {"light": svg, "dark": curves.on_dark(svg)}
    return {name: templates.data_url("image/svg+xml", each) for name, each in pictures.items()}
