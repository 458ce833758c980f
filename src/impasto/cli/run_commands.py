"""The commands about one run: ``report`` and ``timelapse``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from impasto.cli.options import Folder, Output, Switch
from impasto.errors import CannotWrite


def report(
    run: Folder,
    /,
    *,
    output: Output = None,
    overwrite: Switch = False,
    open: Literal["yes", "no"] = "no",
    gradients: bool = True,
    quiet: bool = False,
) -> None:
    """Show a run as one page: its pictures, its loss curves, its time and memory, its recipe.

    :param run: The run's folder, such as painted.png.run, or the picture beside it.
    :param output: The page; its curves go beside it as PNG. [default: painted.png.report.html]
    :param overwrite: Replace the file that --output names, if there is one.
    :param open: Show it in the browser.
    :param gradients: Compute the gradient norm of each loss term at pictures of the run.
    :param quiet: Print the path only.
    """
    from impasto import events, images
    from impasto.cli.display import Display
    from impasto.runs import history
    from impasto.runs import report as page
    from impasto.runs.destination import check_free

    log = history.read(run)
    target = images.check_file(output or _beside(log.folder, ".report.html"), page.EXTENSIONS)
    _check_outside(target, log.folder)
    if output is not None:
        for file in (target, *page.curve_files(target)):
            check_free(file, overwrite)
    with Display(quiet) as display:
        page.write(
            log,
            target,
            gradients=gradients,
            say=lambda note: display.event(events.Warned(note)),
            fetch=display.fetch,
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
    :param seconds: Seconds before the last picture. [default: a frame per snapshot, at least 4 s]
    :param hold: Seconds for which the last picture is shown.
    """
    from impasto import events, images
    from impasto.cli.display import Display
    from impasto.runs import history
    from impasto.runs import timelapse as film
    from impasto.runs.destination import check_free

    log = history.read(run)
    ending = ".mp4" if film.writes_mp4() else ".webp"
    target = images.check_file(output or _beside(log.folder, ending), film.EXTENSIONS)
    _check_outside(target, log.folder)
    if output is not None:
        check_free(target, overwrite)
    film.film(log, target, film.Timing(fps, seconds, hold), size)
    if output is None and ending == ".webp":
        with Display(quiet=False) as display:
            display.event(
                events.Warned(f"The film is a WebP, since an MP4 needs PyAV: {film.INSTALL}.")
            )
    print(target)


def _beside(folder: Path, ending: str) -> Path:
    """Return the path beside a run's folder: painted.png.report.html for painted.png.run."""
    folder = folder.resolve()
    return folder.with_name(folder.name.removesuffix(".run") + ending)


def _check_outside(target: Path, folder: Path) -> None:
    """Raise CannotWrite for a file in a run's folder, which holds only the run's own files."""
    if folder.resolve() in target.resolve().parents:
        raise CannotWrite(
            f"{target} would lie in the run's folder.", "Name a place beside it with -o."
        )
