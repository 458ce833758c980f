"""Writes docs/settings.md from the recipe's own fields: ``python docs/generate.py``. A test holds that it is current."""

from __future__ import annotations

from pathlib import Path

from impasto import recipe

TARGET = Path(__file__).with_name("settings.md")

HEAD = """# Settings

Made from the fields of `impasto/recipe.py` by `python docs/generate.py`; do not edit.

On the command line each is `--NAME VALUE` of `impasto stylize`, in Python `impasto.stylize(photo, style, NAME=VALUE)` with
underscores for dashes, in a recipe file the field that the third column names.

| name | default | field | meaning |
|---|---|---|---|
"""


def text() -> str:
    rows = []
    for option in recipe.options().values():
        choices = f" One of {', '.join(map(str, option.choices))}." if option.choices else ""
        default = f"`{option.text}`" if option.text else ""
        rows.append(f"| `{option.name}` | {default} | `{'.'.join(option.path)}` | {option.help}{choices} |")
    named = [f"- `{name}`: {recipe.load(name).summary}" for name in recipe.names()]
    return HEAD + "\n".join(rows) + "\n\n## Named recipes\n\n" + "\n".join(named) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
