"""Tables on standard output: what each size takes, and the recipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from impasto.cli.display import duration_text
from impasto.errors import ImpastoError
from impasto.events import Planned
from impasto.recipe.records import Recipe
from impasto.recipe.values import bytes_text

RECIPE_COLUMNS = ("name", "network", "content", "style", "solver", "size: evaluations", "source")


def print_plans(sizes: Sequence[int], plans: Sequence[Planned | ImpastoError]) -> None:
    """Print what painting at each size would take, or why it cannot be done."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    columns = [
        Column(name, justify="right", no_wrap=True)
        for name in ("size", "megapixels", "time", "memory", "disk")
    ]
    table = Table(*columns, "how", box=None, pad_edge=False, header_style="bold")
    for side, plan in zip(sizes, plans, strict=True):
        if isinstance(plan, Planned):
            table.add_row(*_plan_row(plan))
        else:
            table.add_row(f"{side or 'own'}", "", "", "", "", str(plan))
    console.print(table)
    first = next((plan for plan in plans if isinstance(plan, Planned)), None)
    if first is not None:
        free = bytes_text(first.free_bytes)
        console.print(f"\nOn {first.device} [{first.kernel}], {free} of memory free.", markup=False)


def _plan_row(plan: Planned) -> tuple[str, ...]:
    stages = " > ".join(f"{size.long_side}:{steps}" for size, steps in plan.stages)
    tiles = f"in tiles of {plan.tile} px" if plan.tile else "whole"
    excess = "" if plan.memory_bytes <= plan.free_bytes else ", more than is free"
    return (
        str(plan.size),
        f"{plan.size.pixels / 1e6:.2f}",
        duration_text(plan.seconds),
        bytes_text(plan.memory_bytes),
        bytes_text(plan.disk_bytes) if plan.disk_bytes else "-",
        f"{tiles}{excess}; stages {stages}",
    )


def recipe_row(recipe: Recipe) -> tuple[str, ...]:
    """Return a recipe's values for ``RECIPE_COLUMNS``, a few words for each."""
    network, solver, counts = recipe.network, recipe.solver, recipe.schedule.iterations
    pooling = " average" if network.pooling == "average" else ""
    size = {"long": f"{recipe.size}", "short": f"short {recipe.size}"}.get(
        recipe.side, f"{recipe.size} {recipe.side}"
    )
    return (
        recipe.name,
        f"{network.name}{pooling}",
        " ".join(recipe.content.layers),
        f"{' '.join(recipe.style.statistics)}, {len(recipe.style.layers)} layers",
        solver.name if solver.name == "lbfgs" else f"{solver.name} {solver.rate:.2g}",
        f"{size if recipe.size else 'own'}: {' '.join(map(str, counts))}",
        recipe.source,
    )


def print_recipes(recipes: Sequence[Recipe]) -> None:
    """Print Impasto's own recipes with their purpose, and the published ones with their values."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    own, published = _recipe_table("what it is for"), _recipe_table(*RECIPE_COLUMNS[1:])
    for recipe in recipes:
        if recipe.source:
            published.add_row(*recipe_row(recipe))
        else:
            own.add_row(recipe.name, recipe.summary)
    console.print(own)
    console.print(
        "\nPublished systems; `impasto recipes NAME` prints one, docs/recipes.md says what was "
        "kept and what was corrected.\n"
    )
    console.print(published)


def _recipe_table(*columns: str) -> Table:
    name = Column("name", no_wrap=True)
    return Table(name, *columns, box=None, pad_edge=False, header_style="bold")
