"""The examples of docs/python.md run as written, with pocket networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import impasto
from impasto.assets import catalogue
from tests.support.pictures import save_random, stub_museum
from tests.support.pocket_network import use_pocket_painter_and_evaluators

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures that the examples name."""
    use_pocket_painter_and_evaluators(monkeypatch, tmp_path)
    stub_museum(monkeypatch)
    monkeypatch.setattr(catalogue, "fetch_all", lambda progress, to: [tmp_path / "network"])
    save_random("photo.jpg", 75, 100)
    save_random("other.jpg", 75, 100, seed=3)
    save_random("painting.jpg", 60, 80, seed=1)
    return tmp_path


def _quicker(example: str) -> str:
    """An example with a smaller picture and less time; nothing else is changed."""
    return re.sub(r"size=(768|1024|256)", "size=96", example).replace('"20s"', '"2s"')


@pytest.mark.slow
def test_the_examples_run_in_their_order(folder: Path):
    names: dict[str, Any] = {}
    for number, example in enumerate(EXAMPLES):
        code = compile(_quicker(example), f"example {number}", "exec")
        exec(code, names)
    assert len(EXAMPLES) >= 15
    assert names["painting"].record["evaluations"] > 0 and names["page"].exists()
    for file in ("drafted.png", "painted.tif", "long.png", "film.gif", "explained", "tried"):
        assert (folder / file).exists(), file


def test_the_page_shows_every_public_function():
    functions = [name for name in impasto.__all__ if name.islower() and name != "__version__"]
    for name in functions:
        assert f"impasto.{name}(" in PAGE, name
