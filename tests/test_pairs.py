"""Two recipes on pairs: figures at equal likeness, and pictures without names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import pairs
from impasto import images
from tests.support.pictures import stub_museum
from tests.support.pocket_network import use_pocket_painter_and_evaluators


def scored(lpips: float, **scores: float | None) -> pairs.Scored:
    values = dict.fromkeys(pairs.FIGURES, 0.5) | {"lpips_alexnet": lpips, **scores}
    return pairs.Scored(Path("x.png"), values, 10.0)


def test_figures_are_interpolated_to_the_likeness_of_the_other_recipe():
    before = [scored(0.2, style=0.8), scored(0.4, style=0.4), scored(0.6, style=0.3)]
    for lpips, style in ((0.3, 0.6), (0.5, 0.35), (0.1, 1.0), (0.7, 0.25)):
        found = pairs.at_equal_likeness(before, scored(lpips, style=0.2))
        assert found["style"] == (pytest.approx(style), 0.2)
    none = [scored(each, face=None) for each in (0.2, 0.4, 0.6)]
    assert pairs.at_equal_likeness(none, scored(0.3, face=None))["face"] == (None, None)


def test_the_summary_says_the_mean_change_and_the_worst_pair():
    judged, tuned = pairs.Pair("coffee", "irises"), pairs.Pair("rocket", "irises", tuning=True)
    rows = {
        judged: dict.fromkeys((*pairs.FIGURES, "time"), (0.5, 0.4)),
        tuned: dict.fromkeys((*pairs.FIGURES, "time"), (0.5, 0.1)),
    }
    text = pairs.summary(rows)
    assert "all pairs: style x 0.400 (worst 0.800, best 0.200, 2 pairs)" in text
    assert "pairs that judge: style x 0.800" in text


def test_two_recipes_are_painted_scored_and_shown_without_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
):
    use_pocket_painter_and_evaluators(monkeypatch, tmp_path)
    stub_museum(monkeypatch)
    pair = pairs.Pair("coffee", "irises")
    monkeypatch.setattr(pairs, "PAIRS", (pair,))
    monkeypatch.setattr(pairs, "STRENGTHS", (20.0, 80.0))
    command = [".", "--before", "default", "--after", "draft", "--side", "64", "--out", "out"]
    assert pairs.main([*command, "--sheet", "sheet.png"]) == 0
    names = sorted(path.name for path in Path("out/coffee-irises").iterdir())
    painted = ("after-50", "before-20", "before-80")
    assert names == [f"{name}.{kind}" for name in painted for kind in ("json", "png")]
    order = json.loads(Path("out/blind/key.json").read_text())["coffee-irises"]
    shown = images.read("out/blind/coffee-irises.png", max_megapixels=1).pixels
    file = Path("out/coffee-irises", ("before-80.png", "after-50.png")[order[0]])
    first = images.read(file, max_megapixels=1).pixels
    assert np.abs(shown[:, : first.shape[1]] - first).max() < 1 / 255
    assert Path("sheet.png").exists()
    before = {path: path.stat().st_mtime_ns for path in Path("out/coffee-irises").iterdir()}
    capsys.readouterr()
    assert pairs.main(command) == 0
    assert "pairs that judge: style x" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
