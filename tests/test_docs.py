"""What the documents say is what the program does."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import get_args

import pytest

import impasto
from benchmarks import table
from impasto.recipe import loading, records
from impasto.recipe import options as options_
from impasto.recipe.choices import Statistic
from impasto.sweeps import grid

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["settings.md", "recipes.md"])
def test_a_generated_page_is_current(name: str):
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"][name]()
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert page == made, "run `python docs/generate.py`"


def test_the_picture_of_the_layers_is_current():
    drawn = runpy.run_path(str(ROOT / "docs" / "layers.py"))["draw"]()
    picture = (ROOT / "docs" / "pictures" / "layers.svg").read_text("utf-8")
    assert picture == drawn, "run `python docs/layers.py`"


def test_the_recipes_page_names_every_choice_of_a_formula():
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    for option in ("content-scaling", "smooth-measure", "smooth-scaling"):
        for choice in options_.recipe_options()[option].choices:
            assert f"`{choice}`" in page, choice
    for statistic in get_args(Statistic):
        assert f"| `{statistic}` |" in page


def test_the_readme_names_what_is_there():
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in re.findall(r"--recipe ([a-z]+)\b", readme):
        assert name in loading.names() or name == "painted", name
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
    options = set(options_.recipe_options())
    own = {
        "help",
        "help-all",
        "sheet",
        "to",
        "recipe",
        "json",
        "no-run",
        "quiet",
        "output",
        "time",
        "snapshots",
        "overwrite",
    } | {"quick"}  # the last is of the benchmarks
    for option in re.findall(r"--([a-z][a-z-]+)", readme):
        assert option in options | own, option


def test_the_page_on_sweeps_shows_commands_that_can_be_read():
    page = (ROOT / "docs" / "sweeps.md").read_text("utf-8").replace("\\\n", "")
    commands = [
        shlex.split(line) for line in page.splitlines() if line.startswith("impasto sweep ")
    ]
    assert len(commands) >= 3
    for command in commands:
        words = command[4:]
        given = dict(zip(words[::2], words[1::2], strict=True))
        settings = {name.removeprefix("--"): value for name, value in given.items() if name != "-o"}
        base, varied = grid.axes(records.Recipe(), settings)
        assert len(grid.combinations(base, varied)) >= 8, command
    for written, meant in re.findall(r"^\| `--(.+?)` \| (.+?) \|$", page, re.MULTILINE):
        name, _, value = written.partition(" ")
        axis = grid.axes(records.Recipe(), {name: value})[1]
        listed = meant.partition(": ")[2].split(", ")
        if listed[-1].replace(".", "").isdigit() and axis:
            assert list(axis[0].texts) == listed, written


def test_the_version_is_one():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{impasto.__version__}"' in project


def test_nothing_names_a_package_registry_or_a_place_of_one_machine():
    forbidden = re.compile(r"pypi\.(org|python)|files\.pythonhosted|/work/|/root/|/tmp/w\b")
    this = Path(__file__).resolve()
    for path in [
        *ROOT.glob("*.*"),
        *(p for d in ("src", "tests", "docs", "benchmarks") for p in (ROOT / d).rglob("*")),
    ]:
        if path.suffix in (".py", ".md", ".toml", ".json") and path.resolve() != this:
            assert not forbidden.search(path.read_text("utf-8")), path


def test_the_readme_shows_the_last_table():
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(rows) > 5
    brief = table.summary(
        table.Row(name, what, asked, measured) for name, what, asked, measured, *_ in rows
    )
    readme = (ROOT / "README.md").read_text("utf-8")
    assert table.replace_table(readme, brief) == readme
    with pytest.raises(ValueError, match="benchmarks"):
        table.replace_table("nothing", brief)
