"""The command ``impasto explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from impasto.cli.parameters import Output, Quiet, Switch
from impasto.cli.terminal import stopping
from impasto.recipe.choices import NetworkName
from impasto.recipe.defaults import EXPLAIN_ITERATIONS, EXPLAIN_SIZE
from impasto.storage.names import json_text

USAGE = "Usage: impasto explain PHOTO [STYLE] [OPTIONS]"


def explain(
    photo: str,
    style: str | None = None,
    /,
    *,
    output: Output = None,
    overwrite: Switch = False,
    unit: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    size: int = EXPLAIN_SIZE,
    network: NetworkName = "vgg19",
    iterations: int = EXPLAIN_ITERATIONS,
    seed: int = 0,
    json: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Show what the network sees in a photo and a painting: a folder with a poster, a page and all
    pictures.

    :param photo: The photo.
    :param style: A painting: a file or a museum name. Without it the part about style is left out.
    :param output: The folder. [default: PHOTO-STYLE-explained]
    :param overwrite: Replace the explanation in the folder that --output names.
    :param unit: A channel to visualize, such as relu3_1:42; repeatable. [default: the most active]
    :param size: Long side in pixels at which the network sees the photo.
    :param network: The network to explain.
    :param iterations: Optimization steps for each picture.
    :param seed: Seed of every random choice.
    :param json: Print the figures as one JSON object.
    :param quiet: Print the path only.
    """
    from impasto import api
    from impasto.cli.display import Display
    from impasto.explanations import output_folder
    from impasto.runs.destination import default_name, free_path

    default = Path(default_name(photo, [style] if style else [], "-explained"))
    folder = (output or free_path(default)).absolute()
    with Display(quiet) as display, stopping() as stop:
        explanation = api.explain(
            photo,
            style,
            output=folder,
            overwrite=overwrite,
            units=unit,
            network=network,
            size=size,
            iterations=iterations,
            seed=seed,
            on_event=display.event,
            cancel=stop,
        )
    if json:
        print(json_text(output_folder.to_dict(explanation)))
    else:
        print(folder / output_folder.PAGE)
    if explanation.done < explanation.planned and stop():
        stop.exit()
