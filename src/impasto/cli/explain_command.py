"""The command ``impasto explain``: its options, and what is done for them.

It knows words for people; it refuses to know what the network sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from impasto.cli.options import Output, Overwrite
from impasto.cli.terminal import stopping
from impasto.recipe import loading
from impasto.storage.names import json_text

USAGE = "Usage: impasto explain PHOTO [STYLE] [OPTIONS]"


def explain(
    photo: str,
    style: str | None = None,
    /,
    *,
    output: Output = None,
    overwrite: Overwrite = False,
    unit: tuple[str, ...] = (),
    size: int = loading.EXPLAIN_SIZE,
    network: Literal["vgg19", "vgg16"] = "vgg19",
    iterations: int = loading.EXPLAIN_ITERATIONS,
    seed: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Show what the network sees of a photo and a painting: a poster, a page and all pictures in a
    folder.

    :param photo: The photo.
    :param style: A painting: a file, or a name from `impasto museum`. Without it what is about
    style is left out.
    :param output: The folder. [default: PHOTO-STYLE-explained]
    :param overwrite: Replace the explanation in the folder that --output names.
    :param unit: A channel to look for, such as relu3_1:42; may be repeated. [default: those the
    photo speaks to most]
    :param size: Long side in pixels in which the photo is looked at.
    :param network: The network that looks.
    :param iterations: Steps of the search for each picture.
    :param seed: Number that decides every random choice.
    :param json: Print the figures as one JSON object.
    :param quiet: Print the path alone.
    """
    from impasto import api
    from impasto.cli.display import Display
    from impasto.explain import output_folder
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
