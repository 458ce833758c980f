"""The commands that look around and judge: ``compare``, ``museum``, ``recipes``, ``fetch``,
``licenses`` and ``doctor``.

They print what other rooms have found, and refuse to know how it is found.
"""

from __future__ import annotations

import sys
from typing import Literal

from impasto.cli.options import File, Overwrite
from impasto.recipe import loading
from impasto.storage.names import json_text


def compare(
    *results: str,
    content: str | None = None,
    style: str | None = None,
    judge: Literal["vgg16", "vgg19"] | None = None,
    size: int | None = None,
    json: bool = False,
    csv: bool = False,
) -> None:
    """Judge finished pictures by networks that did not paint them, between the photo and the
    painting as ends of the scale.

    :param results: The pictures.
    :param content: The photo they were painted from. [default: what the pictures say]
    :param style: The painting: a file, or a name from `impasto museum`. [default: what the pictures
    say]
    :param judge: The network that judges style and content. [default: the one that did not paint]
    :param size: Long side in which the networks look. [default: the pictures' own, up to 1024]
    :param json: Print one JSON object.
    :param csv: Print comma-separated values.
    """
    from rich.console import Console

    from impasto.cli.display import Display
    from impasto.compare import scoring
    from impasto.compare import table as report

    with Display(quiet=json or csv) as display:
        found = scoring.compare(
            results, content, style, judge=judge, size=size or scoring.LARGEST, fetch=display.fetch
        )
    if json or csv:
        print(
            json_text(report.as_values(found)) if json else report.as_csv(found),
            end="\n" if json else "",
        )
        return
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(report.table(found))


def museum(
    *words: str, sheet: File = None, overwrite: Overwrite = False, json: bool = False
) -> None:
    """List the public-domain paintings that can be named as a style.

    :param words: Only those with all of these words in name, title, artist or date.
    :param sheet: Draw them into this picture file.
    :param overwrite: Replace the file that --sheet names, if there is one.
    :param json: Print a JSON list.
    """
    from rich.console import Console
    from rich.table import Column, Table

    from impasto.assets import museum as gallery

    found = gallery.search(" ".join(words)) if words else list(gallery.all_paintings())
    if not found:
        gallery.find(" ".join(words))  # says so, with the nearest names
    if sheet is not None:
        from impasto import images
        from impasto.cli.display import Display
        from impasto.runs.destination import check_free

        target = images.check_output(sheet)
        check_free(target, overwrite)
        with Display(quiet=False) as display:
            pictures = [
                (work.read(progress=display.fetch), f"{work.slug}  {work.artist}") for work in found
            ]
        images.save(target, images.contact_sheet(pictures, columns=min(8, len(found)), cell=220))
        print(target)
        return
    if json:
        told = ("title", "artist", "date", "year", "kind", "medium", "credit", "licence")
        print(
            json_text(
                [
                    {"name": work.slug, **{name: getattr(work, name) for name in told}}
                    for work in found
                ]
            )
        )
        return
    table = Table(
        Column("name", no_wrap=True),
        "artist",
        "title",
        "date",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for work in found:
        table.add_row(work.slug, work.artist, work.title, work.date)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    number = "1 painting" if len(found) == 1 else f"{len(found)} paintings"
    print(f"\n{number}, The Metropolitan Museum of Art, Open Access (CC0).")


def recipes_(name: str = "") -> None:
    """List the recipes, the house's own and those of published systems, or print one as TOML.

    :param name: A recipe's name, a recipe file, or a picture painted by Impasto.
    """
    if name:
        from impasto.images.recipe_source import load_recipe

        print(load_recipe(name, {}).to_toml(), end="")
        return
    from impasto.cli.display import recipe_table

    recipe_table([loading.load(each) for each in loading.names()])


def fetch(*, to: File = None) -> None:
    """Fetch every network and the museum ahead of time.

    :param to: Into this folder; with IMPASTO_CACHE set to it, a machine without network can paint.
    """
    from impasto.assets import catalogue
    from impasto.cli.display import Display

    with Display(quiet=False) as display:
        paths = catalogue.fetch_all(progress=display.fetch, to=to)
    print(f"{len(paths)} files are in {paths[0].parent}")


def licenses() -> None:
    """Say where every fetched file comes from and on what terms."""
    from impasto.assets import catalogue

    for asset in catalogue.ASSETS.values():
        print(f"{asset.name}\n  terms:  {asset.licence}\n  origin: {asset.origin}")
        print(
            f"  from:   {asset.archive.project} {asset.archive.version} ({asset.archive.licence})\n"
        )
    print("Impasto itself: MIT.")


def doctor() -> None:
    """Say what is here, and the command that mends what is not."""
    from impasto.cli import diagnosis

    findings = diagnosis.examine()
    for finding in findings:
        print(f"{'ok ' if finding.good else '-- '} {finding.subject:10} {finding.text}")
        if finding.remedy:
            print(f"               {finding.remedy}")
