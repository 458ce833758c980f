"""The commands that look at a run: its report and its film.

It knows options and where things go if nothing is said. It refuses to know pages and film files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from impasto.cli.options import Folder, Output, Overwrite
from impasto.errors import CannotWrite


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
    :param gradients: Compute each term's gradient norm at pictures of the run.
    :param quiet: Print the path alone.
    """
    from impasto import events, images
    from impasto.cli.display import Display
    from impasto.runs import history
    from impasto.runs import report as page
    from impasto.runs.destination import check_free

    found = history.read(run)
    target = images.check_file(output or _beside(found.folder, ".report.html"), page.EXTENSIONS)
    _check_outside(target, found.folder)
    if output is not None:
        for each in (target, *page.curve_files(target)):
            check_free(each, overwrite)
    with Display(quiet) as display:
        page.write(
            found,
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
    from impasto import events, images
    from impasto.cli.display import Display
    from impasto.runs import history
    from impasto.runs import timelapse as films
    from impasto.runs.destination import check_free

    found = history.read(run)
    usual = ".mp4" if films.writes_mp4() else ".webp"
    target = images.check_file(output or _beside(found.folder, usual), films.EXTENSIONS)
    _check_outside(target, found.folder)
    if output is not None:
        check_free(target, overwrite)
    films.write_film(found, target, films.Timing(fps, seconds, hold), size)
    if output is None and usual == ".webp":
        with Display(quiet=False) as display:
            display.event(
                events.Warned(f"The film is a WebP, since an MP4 needs PyAV: {films.INSTALL}.")
            )
    print(target)


def _beside(folder: Path, ending: str) -> Path:
    """``painted.png.run`` has ``painted.png.report.html`` beside it."""
    folder = folder.resolve()
    return folder.with_name(folder.name.removesuffix(".run") + ending)


def _check_outside(target: Path, folder: Path) -> None:
    """Raises CannotWrite for a file in a run's folder, which would be no run's any more."""
    if folder.resolve() in target.resolve().parents:
        raise CannotWrite(
            f"{target} would lie in the run's folder.", "Name a place beside it with -o."
        )
