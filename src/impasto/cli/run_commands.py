"""The commands that look at a run: its report and its film.

It knows options and where things go if nothing is said. It refuses to know pages and film files.
"""

from __future__ import annotations

from typing import Literal

from impasto.cli.options import Folder, Output, Overwrite


def report(
    run: Folder,
    /,
    *,
    output: Output = None,
    overwrite: Overwrite = False,
    open: Literal["yes", "no"] = "no",
    gradients: bool = True,
    quiet: bool = False,
) -> None:
    """Show a run as one page: its pictures, the curves of its loss, what it took, its recipe.

    :param run: The run's folder, such as painted.png.run, or the picture beside it.
    :param output: Where the page goes; the curves are beside it as PNG. [default:
    painted.png.report.html]
    :param overwrite: Replace the file that --output names, if there is one.
    :param open: Show it in the browser.
    :param gradients: Look at pictures of the run again for how strongly each term pulled at them.
    :param quiet: Print the path alone.
    """
    from impasto import api
    from impasto.cli.display import Display

    with Display(quiet) as display:
        target = api.report(
            run, output, overwrite=overwrite, gradients=gradients, on_event=display.event
        )
    if open == "yes":
        import webbrowser

        webbrowser.open(target.as_uri())
    print(target)


def timelapse(
    run: Folder,
    /,
    *,
    output: Output = None,
    overwrite: Overwrite = False,
    fps: int = 24,
    size: int | None = None,
    seconds: float | None = None,
    hold: float = 2.0,
) -> None:
    """Make a film of a picture's making from the snapshots of its run.

    :param run: The run's folder, such as painted.png.run, or the picture beside it.
    :param output: Where it goes: an .mp4, .gif or .webp. [default: painted.png.mp4, or .webp where
    PyAV is not installed]
    :param overwrite: Replace the file that --output names, if there is one.
    :param fps: Frames a second.
    :param size: Long side of the frames. [default: the picture's own, up to 1920 in MP4, 960 in
    WebP, 480 in GIF]
    :param seconds: How long the making takes. [default: a frame for each snapshot, and 4 s at
    least]
    :param hold: Seconds for which the last picture stays.
    """
    from impasto import api
    from impasto.cli.display import Display

    with Display(quiet=False) as display:
        target = api.timelapse(
            run,
            output,
            overwrite=overwrite,
            fps=fps,
            size=size,
            seconds=seconds,
            hold=hold,
            on_event=display.event,
        )
    print(target)
