"""The help of the commands: the short one for most people, the full one with every setting."""

from __future__ import annotations

import re

import pytest

from impasto import images
from impasto.recipe import loading
from impasto.recipe import options as options_
from tests.support.pocket_network import PAIR
from tests.support.program import run_command, run_stylize

OUT = ("-o", "out.png")
QUICK = ("--size", "64", "--iterations", "2")

Captured = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("pocket_pictures")


OWN_OPTIONS = {
    "stylize": "output overwrite recipe time run no-run fresh checkpoint snapshots json quiet",
    "sweep": "output overwrite recipe axes yes quiet",
}


def help_sections(command: str, flag: str, capsys: Captured) -> dict[str, list[str]]:
    """The names of the options that the help shows, by the title of their box."""
    assert run_command(command, flag) == 0
    sections: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("╭─ "):
            names = sections.setdefault(line.strip("╭─╮ "), [])
        elif option := re.match(r"│\W*--([a-z-]+)", line):
            names.append(option[1])
    return sections


@pytest.mark.parametrize("command", OWN_OPTIONS)
def test_the_full_help_shows_every_option_once_and_in_sections(command: str, capsys: Captured):
    sections = help_sections(command, "--help-all", capsys)
    assert list(sections) == ["What to paint", *options_.SECTIONS]
    own = sections.pop("What to paint")
    assert sorted(own) == sorted(OWN_OPTIONS[command].split())
    shown = [(name, section) for section, names in sections.items() for name in names]
    continued = {"no-style-enlarge", "no-single-scale", "no-solver-carry"}  # on a second line
    assert sorted(pair for pair in shown if pair[0] not in continued) == sorted(
        (name, option.section) for name, option in options_.recipe_options().items()
    )


@pytest.mark.parametrize("command", OWN_OPTIONS)
def test_the_short_help_shows_what_people_need_and_names_the_full_one(
    command: str, capsys: Captured
):
    sections = help_sections(command, "--help", capsys)
    assert set(sections["What to paint"]) == set(OWN_OPTIONS[command].split()) - {
        "checkpoint",
        "snapshots",
    }
    assert sections["Settings"] == [
        *("size", "strength", "seed", "style-scale", "protect", "iterations", "device", "memory")
    ]
    assert run_command(command, "-h") == 0
    words = " ".join(re.findall(r"[^\s│]+", capsys.readouterr().out))
    assert f"`impasto {command} --help-all` shows every setting." in words


@pytest.mark.parametrize(
    ("flag", "section"), [("--help", "Settings"), ("--help-all", "Only for published recipes")]
)
def test_help_may_follow_settings_that_the_short_help_leaves_out(
    flag: str, section: str, capsys: Captured
):
    assert run_command("stylize", *PAIR, "--smooth-measure", "blur", "--snapshots", "3", flag) == 0
    out, err = capsys.readouterr()
    assert section in out and err == ""


def test_a_setting_that_the_short_help_leaves_out_is_accepted(capsys: Captured):
    options = ("--smooth-measure", "blur", "--solver-average", "0.5", "--checkpoint", "0")
    run_stylize(capsys, *PAIR, *OUT, *QUICK, *options)
    recipe = loading.from_json(images.embedded_recipe("out.png") or "")
    assert recipe.smooth.measure == "blur" and recipe.solver.average == 0.5


def test_choices_of_published_recipes_are_told_apart(capsys: Captured):
    assert run_command("stylize", "--help-all") == 0
    words = " ".join(re.findall(r"[^\s│]+", capsys.readouterr().out))
    assert "[choices: lbfgs, adam; only for published recipes: sgd] [default: lbfgs]" in words
    assert "[choices: max, average] [default: max]" in words
