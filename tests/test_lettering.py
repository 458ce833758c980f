"""Labels in any script: drawn by an installed font that has their letters, else left out; never
boxes or a warning.

Which fonts are installed is simulated: none but those that matplotlib brings, or one more that is
made here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from impasto import images
from impasto.images import lettering
from tests.support.pictures import save_random

OWN = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # what matplotlib brings: no CJK
CJK, HANGUL = "東京写真", "한국"
EMPTY = "絵"  # a letter that the made font lists and has no outline for
SQUARE = [(50, 0), (50, 700), (650, 700), (650, 0)]
Install = Callable[..., str]


def make_font(file: Path, family: str, letters: str, empty: str = "") -> None:
    """A font with a full square for each letter."""
    builder = FontBuilder(1000, isTTF=True)
    names = {ord(letter): f"g{ord(letter):X}" for letter in letters + empty}
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo(SQUARE[0])
    for point in SQUARE[1:]:
        pen.lineTo(point)
    pen.closePath()
    square, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    blank = {names[ord(letter)] for letter in empty}
    builder.setupGlyf(
        {name: nothing if name in blank else square for name in [".notdef", *names.values()]}
    )
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (700, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)


@pytest.fixture(autouse=True)
def none_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No fonts but matplotlib's own."""
    monkeypatch.chdir(tmp_path)
    manager = font_manager.fontManager
    monkeypatch.setattr(
        manager, "ttflist", [entry for entry in manager.ttflist if Path(entry.fname).parent == OWN]
    )


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """A function that installs a made font for the test, under a name of its own."""

    def made(letters: str, empty: str = "", family: str = "Made Sans") -> str:
        family = f"{family} {abs(hash((letters, str(tmp_path)))) % 10**8}"
        file = tmp_path / f"{family}.ttf"
        make_font(file, family, letters, empty)
        font_manager.fontManager.addfont(str(file))
        return family

    return made


@pytest.fixture(params=["pillow", "matplotlib_figure"])
def renderer(request: pytest.FixtureRequest) -> lettering.TextRenderer:
    return getattr(lettering, request.param)()


# ---- which letters, and by which font ------------------------------------------------------------


def test_letters_that_no_font_has_are_left_out(renderer: lettering.TextRenderer):
    for text, left, lost in [
        ("plain text", "plain text", False),
        (f"{CJK} Foto", "Foto", True),
        ("sun \U0001faf6 rise", "sun rise", False),  # a sign, not a letter
        ("caf\udce9", "caf", True),
        ("a\nb\tc\x1b d\u200d\ufe0f", "a b c d", False),
        ("\ue000\U000e1234", "", True),
        ("", "", False),
    ]:
        found = renderer.drawable(text)
        assert (found.text, found.faces, found.incomplete) == (left, (), lost), text


def test_accents_stay_where_the_font_has_them():
    assert lettering.pillow().drawable("Été – Łódź, e\u0301 x\u0302 ß").text == "Ete - Lodz, e x ss"
    assert (
        lettering.matplotlib_figure().drawable("Été – Łódź, e\u0301 x\u0302 ß").text
        == "Été – Łódź, é x̂ ß"
    )


def test_a_font_that_has_the_letters_is_taken(renderer: lettering.TextRenderer, install: Install):
    family = install(CJK + "o", empty=EMPTY)
    found = renderer.drawable(f"{CJK} Foto")
    assert (
        found.text == f"{CJK} Foto"
        and not found.incomplete
        and [face.family for face in found.faces] == [family]
    )
    assert renderer.name(f"{CJK}.jpg", "the photo") == f"{CJK}.jpg"
    assert renderer.drawable(EMPTY).incomplete  # listed, but nothing would be seen
    assert renderer.drawable(HANGUL).text == ""


def test_the_font_that_has_most_is_taken_first_and_others_for_the_rest(
    renderer: lettering.TextRenderer, install: Install
):
    first, most, other = install("東"), install(CJK), install(HANGUL)
    found = renderer.drawable(CJK + HANGUL)
    assert (
        [face.family for face in found.faces] == [most, other]
        and not found.incomplete
        and first not in str(found.faces)
    )
    assert renderer.drawable("東").text == "東"


def test_a_font_of_boxes_is_not_taken(renderer: lettering.TextRenderer, install: Install):
    for family in ("Last Resort High-Efficiency", "LastResort", ".LastResort", "Adobe Blank"):
        install(CJK, family=family)
    assert renderer.drawable(CJK).text == ""
    Path("broken.ttf").write_bytes(b"\0\1\0\0 no font")
    entry = font_manager.FontEntry(fname="broken.ttf", name="Broken")
    font_manager.fontManager.ttflist.append(entry)
    assert renderer.drawable(CJK).text == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tower.jpg", "tower.jpg"),
        (f"{CJK}.jpg", "the photo"),
        (f"tower {CJK}.jpg", "the photo"),
        ("sunset \U0001faf6.jpg", "sunset.jpg"),
        ("\U0001faf6.jpg", "the photo"),
        ("caf\udce9.jpg", "the photo"),
        ("\udc93\udc8c.jpg", "the photo"),
        ("_-_.jpg", "the photo"),
        ("photo", "photo"),
        ("", "the photo"),
    ],
)
def test_a_name_that_cannot_be_drawn_has_another_word_in_its_place(
    renderer: lettering.TextRenderer, name: str, shown: str
):
    assert renderer.name(name, "the photo") == shown


def test_joined_scripts_are_left_out_by_what_cannot_join_them():
    arabic = "برج"
    joins = lettering.TextRenderer(str.isascii, True).drawable(arabic)  # DejaVu has the letters
    assert joins.text == arabic and [face.family for face in joins.faces] == ["DejaVu Sans"]
    assert lettering.TextRenderer(str.isascii, False).drawable(arabic).incomplete
    assert lettering.TextRenderer(lambda letter: True, False).drawable(f"a {arabic}").text == "a"


def test_spaces_and_signs_stay_with_the_letters_around_them(install: Install):
    install(CJK + " -")
    runs = [
        (face is not None, run)
        for face, run in lettering.pillow().drawable("a 東京 - 写真.jpg 東(京)").runs()
    ]
    assert "".join(run for _, run in runs) == "a 東京 - 写真.jpg 東(京)"
    assert runs[0] == (False, "a") and (True, "東京 - 写真") in runs
    assert all(run.isascii() != drawn for drawn, run in runs)


@given(st.text(alphabet=st.characters(codec=None), max_size=20))
def test_any_text_can_be_asked_for(text: str):
    for renderer in (lettering.pillow(), lettering.matplotlib_figure()):
        found = renderer.drawable(text)
        assert "".join(run for _, run in found.runs()) == found.text
        assert found.text.isprintable() and not renderer.drawable(found.text).incomplete
        assert renderer.name(text, "x")


# ---- what is drawn -------------------------------------------------------------------------------


def drawn(text: str) -> np.ndarray:
    """A figure with the text, in which matplotlib may neither warn nor log."""
    figure = Figure(figsize=(6, 1), dpi=80)
    shown, how = lettering.for_figure(text)
    figure.text(0.02, 0.4, shown, fontsize=20, **how)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0] < 128


@pytest.mark.parametrize("installed", [False, True])
def test_figures_never_warn(installed: bool, install: Install, caplog: pytest.LogCaptureFixture):
    if installed:
        install(CJK)
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        for text in (
            f"{CJK} a",
            f"{EMPTY}{HANGUL} a",
            "\U0001faf6 a",
            "caf\udce9 a",
            "$x^2$ \\frac a",
            "a\x00b\x07",
        ):
            assert drawn(text).any()
        with_letters, without = drawn(f"a{CJK}").sum(), drawn("a").sum()
    assert (with_letters > 4 * without) == installed and (with_letters == without) != installed
    assert not [record for record in caplog.records if record.name.startswith("matplotlib")]


@pytest.mark.parametrize("installed", [False, True])
def test_sheets_and_posters_have_letters_or_nothing_in_their_place(
    installed: bool, install: Install, capfd: pytest.CaptureFixture[str]
):
    if installed:
        install(CJK)
    black = np.zeros((30, 40, 3), np.float32)

    def letters(label: str) -> np.ndarray:
        return images.contact_sheet([(black, label)], 1, 96).min(axis=2) > 0.9

    plain, labelled = letters("a.jpg"), letters(f"a {CJK}.jpg")
    if installed:
        assert labelled.sum() > 4 * plain.sum()
    else:
        assert np.array_equal(letters(f"{CJK}a.jpg"), plain)
    assert not letters(f"{HANGUL}\U0001faf6\udce9").any()

    def poster(*rows: str, title: str = "") -> np.ndarray:
        return images.poster([[black]] * len(rows), list(rows), ["a"], images.Heading(title), 96)

    if installed:
        assert not np.array_equal(poster(f"init {CJK}"), poster("init"))
        assert np.array_equal(poster("a", title=f"{CJK}"), poster("a", title=CJK + HANGUL))
    else:  # rows of which letters are left out are told apart by their numbers
        assert np.array_equal(
            poster(f"init {CJK}", "init", f"init {HANGUL}"), poster("init (1)", "init", "init (3)")
        )
    assert images.shown_name(f"{CJK}.jpg", "the photo") == (
        f"{CJK}.jpg" if installed else "the photo"
    )
    assert capfd.readouterr().err == ""


def test_a_font_stays_within_the_line_and_its_box(install: Install):
    """Letters of another font begin on the same line, are as high, and wrapped and cut like all
    others.
    """
    install(CJK)
    black = np.zeros((96, 96, 3), np.float32)
    sheet = (
        images.contact_sheet([(black, f"{CJK * 30} {CJK * 30}"), (black, "a")], 2, 96).min(axis=2)
        > 0.9
    )
    assert sheet[100:, 4:100].any() and not sheet[:100].any() and not sheet[:, 100:104].any()
    assert not sheet[-1].any()


def test_ascii_does_not_list_the_fonts(monkeypatch: pytest.MonkeyPatch):
    class Listed:
        @property
        def ttflist(self) -> list[Any]:
            pytest.fail("the installed fonts were listed")

    monkeypatch.setattr(font_manager, "fontManager", Listed())
    black = np.zeros((30, 40, 3), np.float32)
    images.poster([[black]], ["a"], ["Été"], images.Heading("title"), 96)
    assert lettering.matplotlib_figure().drawable("Été").faces == ()


# ---- the posters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [False, True])
def test_the_poster_of_an_explanation_names_its_pictures_or_says_what_they_are(
    installed: bool, install: Install
):
    from impasto.explanations import poster

    if installed:
        install(CJK)
    save_random("photo.png", 8, 8)
    assert poster._source_name(f"{CJK}.jpg", "the photo") == (
        f"{CJK}.jpg" if installed else "the photo"
    )
    long = poster._source_name("a" * 200 + ".jpg", "the photo")
    assert poster._TEXT_FONT.width(long) <= poster._LONGEST_NAME and long.endswith("...")


def test_matplotlib_is_left_as_it_was():
    names = ("matplotlib", "matplotlib.font_manager")
    before: list[Any] = [logging.getLogger(name).disabled for name in names]
    parameters = dict(matplotlib.rcParams)
    lettering.matplotlib_figure().drawable(CJK)
    assert [logging.getLogger(name).disabled for name in names] == before and dict(
        matplotlib.rcParams
    ) == parameters
