"""Find which letters of a text can be drawn, and the installed fonts for those that the default
font lacks.

Fonts are those that matplotlib's font manager lists. They are opened only for missing letters. A
letter that no font has is left out, so that no label shows boxes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from impasto.images.silence import no_messages

_ASCII: dict[int, str] = {
    ord(sign): plain for sign, plain in zip("–—‘’“”øØłŁđĐı", "--''\"\"oOlLdDi", strict=True)
} | {
    ord("…"): "...",
    ord("ß"): "ss",
    ord("æ"): "ae",
    ord("Æ"): "AE",
    ord("œ"): "oe",
    ord("Œ"): "OE",
}
_NOT_CHARACTERS = ("Cs", "Co", "Cn")  # surrogates, private use, unassigned
_MOST_FONTS = 6  # for one text
# These fonts draw boxes or nothing for every letter, or symbols in place of letters.
_UNUSABLE = re.compile(
    r"\.?Last ?Resort|Adobe Blank|cm[a-z]+10$|STIX(NonUnicode|Size)|Wingdings|Webdings",
    re.IGNORECASE,
)
# Scripts that need shaping (letters are joined, reordered or written from the right): Hebrew to
# Myanmar, Tagalog to Mongolian, Syloti to Meetei.
_SHAPED = ((0x0590, 0x109F), (0x1700, 0x18AF), (0xA800, 0xABFF))


@dataclass(frozen=True)
class Face:
    """An installed font: the name of its family, and its file."""

    family: str
    file: str


@dataclass(frozen=True)
class Drawable:
    """The part of a text that can be drawn.

    ``faces`` are fonts for letters that the default font lacks. ``incomplete``: whether letters or
    digits had to be left out.
    """

    text: str
    faces: tuple[Face, ...] = ()
    incomplete: bool = False

    def runs(self) -> Iterator[tuple[Face | None, str]]:
        """The text in parts of one font each, None for the default font.

        Spaces and signs belong to the letters around them.
        """
        face, run, signs = None, "", ""
        for letter in self.text:
            if run and letter.isascii() and not letter.isalpha():
                signs += letter
                continue
            letter_face = self._face_of(letter)
            if run and letter_face == face and _covers(face, signs):
                run += signs + letter
            else:
                yield from _as_runs(face, run, signs)
                face, run = letter_face, letter
            signs = ""
        yield from _as_runs(face, run, signs, last=True)

    def _face_of(self, letter: str) -> Face | None:
        if letter.isascii():
            return None
        return next((each for each in self.faces if _covered(each.file, letter)), None)


def _covers(face: Face | None, letters: str) -> bool:
    return face is None or len(_covered(face.file, letters)) == len(set(letters))


def _as_runs(
    face: Face | None, run: str, signs: str, last: bool = False
) -> Iterator[tuple[Face | None, str]]:
    """A run and the signs after it, which the default font draws."""
    if face is None and last:
        run, signs = run + signs, ""
    if run:
        yield face, run
    if signs:
        yield None, signs


@dataclass(frozen=True)
class TextRenderer:
    """What a drawing library can do with text.

    ``has``: whether its default font has a letter. ``shapes``: whether it joins letters and writes
    from the right.
    """

    has: Callable[[str], bool]
    shapes: bool

    def drawable(self, text: str, tidy: bool = True) -> Drawable:
        """The part of a text that can be drawn, in one line.

        An accent is left out where the default font has the bare letter alone. ``tidy``: strip the
        ends and join repeated spaces.
        """
        normalized = unicodedata.normalize("NFC", text)
        letters = [part for letter in normalized for part in self._substitute(letter)]
        missing = "".join(sorted({each for each in letters if self._needs_font(each)}))
        faces = _faces(missing)
        found = {letter for face in faces for letter in _covered(face.file, missing)}
        drawn = [letter for letter in letters if self._in_default(letter) or letter in found]
        incomplete = any(
            _is_essential(letter) and not self._in_default(letter) and letter not in found
            for letter in letters
        )
        shown = "".join(drawn)
        return Drawable(" ".join(shown.split()) if tidy else shown, faces, incomplete)

    def name(self, name: str, fallback: str) -> str:
        """A file's name as it can be drawn; ``fallback`` if some of its letters cannot."""
        suffix = Path(name).suffix
        stem, ending = self.drawable(name.removesuffix(suffix)), self.drawable(suffix)
        if stem.incomplete or ending.incomplete or not any(map(str.isalnum, stem.text)):
            return fallback
        return stem.text + ending.text

    def _substitute(self, letter: str) -> str:
        """A letter, or its equivalent in the default font; "" for an invisible character."""
        if letter.isspace():
            return " "
        if self._in_default(letter):
            return letter
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cf") or 0xFE00 <= ord(letter) <= 0xFE0F or 0x300 <= ord(letter) <= 0x36F:
            return ""
        plain = unicodedata.normalize("NFKD", letter.translate(_ASCII))
        plain = "".join(part for part in plain if not unicodedata.combining(part))
        return plain if plain and all(map(self._in_default, plain)) else letter

    def _in_default(self, letter: str) -> bool:
        return letter == " " or (
            letter.isprintable() and self.has(letter) and self._can_shape(letter)
        )

    def _needs_font(self, letter: str) -> bool:
        """Whether another font may have a letter that the default font lacks."""
        return (
            not self._in_default(letter)
            and unicodedata.category(letter) not in _NOT_CHARACTERS
            and self._can_shape(letter)
        )

    def _can_shape(self, letter: str) -> bool:
        return self.shapes or not _needs_shaping(letter)


def pillow() -> TextRenderer:
    """Pillow with its bundled font, which has the letters of ASCII."""
    from PIL import features

    return TextRenderer(str.isascii, bool(features.check("raqm")))


def matplotlib_figure() -> TextRenderer:
    """matplotlib with its default font. It shapes text from version 3.11 on."""
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont

    file = str(findfont(FontProperties()))
    return TextRenderer(
        lambda letter: bool(_covered(file, letter)),
        tuple(matplotlib.__version_info__[:2]) >= (3, 11),
    )


def for_figure(text: str) -> tuple[str, dict[str, Any]]:
    """A text as a figure can draw it, and the keyword arguments for ``Figure.text``."""
    import matplotlib

    drawable = matplotlib_figure().drawable(text)
    options: dict[str, Any] = {"parse_math": False}
    if drawable.faces:
        families = [face.family for face in drawable.faces]
        options["fontfamily"] = [*matplotlib.rcParams["font.family"], *families]
    return drawable.text, options


# ---- fonts ---------------------------------------------------------------------------------------


def _needs_shaping(letter: str) -> bool:
    code = ord(letter)
    in_range = any(low <= code <= high for low, high in _SHAPED)
    return in_range or unicodedata.bidirectional(letter) in ("R", "AL")


def _is_essential(letter: str) -> bool:
    """Whether a text means something else without it: letters, digits, undecodable bytes."""
    kind = unicodedata.category(letter)
    return kind[0] in "LNM" or kind in _NOT_CHARACTERS


def _faces(missing: str) -> tuple[Face, ...]:
    """The fewest installed fonts that have most of these letters."""
    if not missing:
        return ()
    with no_messages("matplotlib", "matplotlib.font_manager"):
        return _chosen(_candidates(), missing)


def _candidates() -> tuple[Face, ...]:
    """One font of each family: upright ones first, then regular weight, then sans serif."""
    from matplotlib.font_manager import fontManager, weight_dict

    def preference(entry: Any) -> tuple[object, ...]:
        named = isinstance(entry.weight, str)
        weight = weight_dict.get(entry.weight, 400) if named else entry.weight
        sans = "sans" in entry.name.lower()
        return entry.style != "normal", abs(weight - 400), not sans, entry.name, entry.fname

    usable = [
        entry
        for entry in fontManager.ttflist
        if not getattr(entry, "index", 0) and not _UNUSABLE.match(entry.name)
    ]
    by_family: dict[str, Face] = {}
    for entry in sorted(usable, key=preference):
        by_family.setdefault(entry.name, Face(entry.name, str(entry.fname)))
    return tuple(by_family.values())


@lru_cache(maxsize=256)
def _chosen(candidates: tuple[Face, ...], missing: str) -> tuple[Face, ...]:
    """One font with all of the letters, else fonts greedily by how many letters each adds."""
    covered: dict[Face, set[str]] = {}
    for candidate in candidates:
        if _covered(candidate.file, missing) and (face := _as_matched(candidate)) is not None:
            covered[face] = set(_covered(face.file, missing))
            if len(covered[face]) == len(missing):
                return (face,)
    chosen: list[Face] = []
    left = set(missing)
    while covered and len(chosen) < _MOST_FONTS:
        best = max(covered, key=lambda face: len(covered[face] & left))  # the first of equals
        if not covered[best] & left:
            break
        chosen.append(best)
        left -= covered.pop(best)
    return tuple(chosen)


def _as_matched(face: Face) -> Face | None:
    """The font with the file that matplotlib uses for its family."""
    from matplotlib.font_manager import FontProperties, findfont

    try:
        file = findfont(FontProperties(family=[face.family]), fallback_to_default=False)
    except ValueError:
        return None
    return Face(face.family, str(file)) if not getattr(file, "face_index", 0) else None


@lru_cache(maxsize=8192)
def _covered(file: str, letters: str) -> str:
    """The letters for which a font file has an outline; "" if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        font.set_size(12, 72)
        return "".join(dict.fromkeys(letter for letter in letters if _has_outline(font, letter)))
    except (OSError, RuntimeError, ValueError, TypeError):
        return ""


def _has_outline(font: Any, letter: str) -> bool:
    if not font.get_char_index(ord(letter)):
        return False
    font.load_char(ord(letter))
    return letter.isspace() or len(font.get_path()[0]) > 0 or unicodedata.category(letter) == "Zs"
