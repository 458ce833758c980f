"""The commands ``compare``, ``museum``, ``recipes``, ``fetch``, ``licenses`` and ``doctor``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from impasto.cli.parameters import File, Switch
from impasto.recipe import loading
from impasto.recipe.choices import NetworkName
from impasto.storage.names import json_text

if TYPE_CHECKING:
    from impasto.assets.museum import Work


def compare(
    *results: str,
    content: str | None = None,
    style: str | None = None,
    judge: NetworkName | None = None,
    size: int | None = None,
    json: Switch = False,
    csv: Switch = False,
) -> None:
    """Score finished pictures with networks that did not paint them, on a scale from the photo to
    the painting.

    :param results: The pictures.
    :param content: The photo they were painted from. [default: as recorded in the pictures]
    :param style: The painting: a file or a museum name. [default: as recorded in the pictures]
    :param judge: The network that scores style and content. [default: the one that did not paint]
    :param size: Long side at which the networks see the pictures. [default: their own, up to 1024]
    :param json: Print one JSON object.
    :param csv: Print comma-separated values.
    """
    from rich.console import Console

    from impasto.cli.display import Display
    from impasto.comparisons import scoring, table

    with Display(quiet=json or csv) as display:
        comparison = scoring.compare(
            results, content, style, judge=judge, size=size or scoring.MAX_SIDE, fetch=display.fetch
        )
    if json or csv:
        print(
            json_text(table.as_values(comparison)) if json else table.as_csv(comparison),
            end="\n" if json else "",
        )
        return
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table.table(comparison))


def museum(
    *words: str, sheet: File = None, overwrite: Switch = False, json: Switch = False
) -> None:
    """List the public-domain paintings that can be named as a style.

    :param words: Only those with all of these words in name, title, artist or date.
    :param sheet: Draw them into this picture file.
    :param overwrite: Replace the file that --sheet names, if there is one.
    :param json: Print a JSON list.
    """
    from impasto.assets import museum as gallery

    paintings = gallery.search(" ".join(words)) if words else list(gallery.all_paintings())
    if not paintings:
        gallery.find(" ".join(words))  # raises UnknownName with the nearest names
    if sheet is not None:
        _save_museum_sheet(paintings, sheet, overwrite)
    elif json:
        fields = ("title", "artist", "date", "year", "kind", "medium", "credit", "licence")
        rows = [
            {"name": work.slug, **{name: getattr(work, name) for name in fields}}
            for work in paintings
        ]
        print(json_text(rows))
    else:
        _print_museum_table(paintings)


def _save_museum_sheet(paintings: Sequence[Work], sheet: Path, overwrite: bool) -> None:
    """Draw the paintings with their names into one picture file, and print its path."""
    from impasto import images
    from impasto.cli.display import Display
    from impasto.runs.destination import check_free

    target = images.check_output(sheet)
    check_free(target, overwrite)
    with Display(quiet=False) as display:
        pictures = [
            (work.read(progress=display.fetch), f"{work.slug}  {work.artist}") for work in paintings
        ]
    columns = min(8, len(paintings))
    images.save(target, images.contact_sheet(pictures, columns=columns, cell=220))
    print(target)


def _print_museum_table(paintings: Sequence[Work]) -> None:
    """Print the paintings with name, artist, title and date."""
    from rich.console import Console
    from rich.table import Column, Table

    name = Column("name", no_wrap=True)
    table = Table(name, "artist", "title", "date", box=None, pad_edge=False, header_style="bold")
    for work in paintings:
        table.add_row(work.slug, work.artist, work.title, work.date)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    number = "1 painting" if len(paintings) == 1 else f"{len(paintings)} paintings"
    print(f"\n{number}, The Metropolitan Museum of Art, Open Access (CC0).")


def recipes_(name: str = "") -> None:
    """List the recipes, Impasto's own and those of published systems, or print one as TOML.

    :param name: A recipe's name, a recipe file, or a picture painted by Impasto.
    """
    if name:
        from impasto.images.recipe_source import load_recipe

        print(load_recipe(name, {}).to_toml(), end="")
        return
    from impasto.cli.tables import print_recipes

    print_recipes([loading.load(recipe) for recipe in loading.names()])


def fetch(*, to: File = None) -> None:
    """Download every network and the museum's paintings ahead of time.

    :param to: Folder for the files. Elsewhere, set the environment variable IMPASTO_CACHE to it.
    """
    from impasto.assets import catalogue
    from impasto.cli.display import Display

    with Display(quiet=False) as display:
        paths = catalogue.fetch_all(progress=display.fetch, to=to)
    print(f"{len(paths)} files are in {paths[0].parent}")


def licenses() -> None:
    """List where every downloaded file comes from and on what terms."""
    from impasto.assets import catalogue

    for asset in catalogue.ASSETS.values():
        print(f"{asset.name}\n  terms:  {asset.licence}\n  origin: {asset.origin}")
        print(
            f"  from:   {asset.archive.project} {asset.archive.version} ({asset.archive.licence})\n"
        )
    print("Impasto itself: MIT.")


def doctor() -> None:
    """Check the installation, and print a command for everything that is missing."""
    from impasto.cli import diagnosis

    findings = diagnosis.examine()
    for finding in findings:
        print(f"{'ok ' if finding.good else '-- '} {finding.subject:10} {finding.text}")
        if finding.remedy:
            print(f"               {finding.remedy}")
