"""The commands about one run: ``report`` and ``timelapse``."""

from __future__ import annotations

from typing import Literal

from impasto.cli.parameters import Folder, Output, Quiet, Switch


def report(
    run: Folder,
    /,
    *,
    output: Output = None,
    overwrite: Switch = False,
    open: Literal["yes", "no"] = "no",
    gradients: bool = True,
    quiet: Quiet = False,
) -> None:
    """Show a run as one page: its pictures, its loss curves, its time and memory, its recipe.

    :param run: The run's folder, such as painted.png.run, or the picture beside it.
    :param output: The page; its curves go beside it as PNG. [default: painted.png.report.html]
    :param overwrite: Replace the file that --output names, if there is one.
    :param open: Show it in the browser.
    :param gradients: Compute the gradient norm of each loss term at pictures of the run.
    :param quiet: Print the path only.
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
    overwrite: Switch = False,
    fps: int = 24,
    size: int | None = None,
    seconds: float | None = None,
    hold: float = 2.0,
) -> None:
    """Make a film of how a picture was painted, from the snapshots of its run.

    :param run: The run's folder, such as painted.png.run, or the picture beside it.
    :param output: An .mp4, .gif or .webp. [default: painted.png.mp4, or .webp without PyAV]
    :param overwrite: Replace the file that --output names, if there is one.
    :param fps: Frames per second.
    :param size: Long side of the frames. [default: the picture's, up to 1920, WebP 960, GIF 480]
    :param seconds: Seconds until the last picture. [default: a frame per snapshot, at least 4 s]
    :param hold: Seconds for which the last picture is shown.
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
