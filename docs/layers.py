"""Draw docs/pictures/layers.svg from the import contract: ``python docs/layers.py``.

The layers stand in pyproject.toml, and each one's text is the first line of its docstring.
"""

from __future__ import annotations

import ast
import html
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "layers.svg"

WIDTH, ROW, GAP, MARGIN = 1000, 46, 8, 16
FONT = "font-family='system-ui, sans-serif'"
COLORS = ("#e3eefb", "#e6f4ea", "#fdf3dc", "#f7e8f2")


def layers() -> list[list[str]]:
    """The modules of each layer, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    return [[name.strip() for name in row.split("|")] for row in rows if row != "__main__"]


def summary(name: str) -> str:
    """The first line of a module's docstring."""
    module = ROOT / "src" / "impasto" / name
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0]


def draw() -> str:
    """The picture as SVG."""
    rows = layers()
    height = 2 * MARGIN + len(rows) * (ROW + GAP) - GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
    ]
    for index, names in enumerate(rows):
        top = MARGIN + index * (ROW + GAP)
        width = (WIDTH - 2 * MARGIN - (len(names) - 1) * GAP) / len(names)
        color = COLORS[index * len(COLORS) // len(rows)]
        for column, name in enumerate(names):
            left = MARGIN + column * (width + GAP)
            parts.append(box(name, left, top, width, color, alone=len(names) == 1))
    return "\n".join([*parts, "</svg>", ""])


def box(name: str, left: float, top: float, width: float, color: str, alone: bool) -> str:
    """One module: its name, and its summary beside it or, in a shared row, below."""
    text = html.escape(summary(name))
    across, down, size = (left + 150, top + 28, 14) if alone else (left + 14, top + 38, 11)
    return (
        f"<rect x='{left:g}' y='{top:g}' width='{width:g}' height='{ROW}' rx='6' fill='{color}' "
        "stroke='#9aa5b1'/>"
        f"<text x='{left + 14:g}' y='{top + (28 if alone else 20):g}' font-size='16' "
        f"font-weight='600' {FONT}>{html.escape(name)}</text>"
        f"<text x='{across:g}' y='{down:g}' font-size='{size}' fill='#3c4652' {FONT}>{text}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
