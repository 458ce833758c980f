"""Which letters of a text can be drawn, and by which fonts of this machine those that the usual one
does not have.

Fonts are those that matplotlib's font manager lists, opened only for letters that are missing. What
no font has is left out, so that no label shows boxes.
"""

from __future__ import annotations

import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_SIGNS: dict[int, str] = {
    ord(sign): plain for sign, plain in zip("–—‘’“”øØłŁđĐı", "--''\"\"oOlLdDi", strict=True)
} | {
    ord("…"): "...",
    ord("ß"): "ss",
    ord("æ"): "ae",
    ord("Æ"): "AE",
    ord("œ"): "oe",
    ord("Œ"): "OE",
}
_MOST = 6  # fonts for one text
# They draw boxes or nothing for every letter, or have signs in the place of letters.
_UNFIT = re.compile(
    r"\.?Last ?Resort|Adobe Blank|cm[a-z]+10$|STIX(NonUnicode|Size)|Wingdings|Webdings",
    re.IGNORECASE,
)
# Letters that are joined, reordered or written from the right: Hebrew to Myanmar, Tagalog to
# Mongolian, Syloti to Meetei.
_JOINED = ((0x0590, 0x109F), (0x1700, 0x18AF), (0xA800, 0xABFF))


@dataclass(frozen=True)
class Face:
    """A font of this machine: the name of its family, and its file."""

    family: str
    file: str


@dataclass(frozen=True)
class Drawable:
    """What can be drawn of a text: its letters, fonts for those that the usual font does not have,
    and whether letters or digits had to be left out.
    """

    text: str
    faces: tuple[Face, ...] = ()
    lost: bool = False

    def runs(self) -> Iterator[tuple[Face | None, str]]:
        """The text in parts of one font each, None for the usual one. Spaces and signs go with the
        letters around them.
        """
        face, run, between = None, "", ""
        for letter in self.text:
            if run and letter.isascii() and not letter.isalpha():
                between += letter
                continue
            own = (
                next((each for each in self.faces if _covered(each.file, letter)), None)
                if not letter.isascii()
                else None
            )
            if (
                run
                and own == face
                and (face is None or len(_covered(face.file, between)) == len(set(between)))
            ):
                run += between + letter
            elif run:
                yield face, run
                yield from [(None, between)] if between else []
                face, run = own, letter
            else:
                face, run = own, letter
            between = ""
        if face is None and run + between:
            yield face, run + between
        else:
            yield from [(face, run)] if run else []
            yield from [(None, between)] if between else []


@dataclass(frozen=True)
class Writer:
    """Who draws text: whether its usual font has a letter, and whether it joins letters and writes
    from the right.
    """

    has: Callable[[str], bool]
    joins: bool

    def drawable(self, text: str, tidy: bool = True) -> Drawable:
        """What can be drawn of a text, in one line. Accents are left out where the usual font has
        the bare letter alone.

        ``tidy``: without spaces at its ends, and with one where there are several.
        """
        letters = [
            part for letter in unicodedata.normalize("NFC", text) for part in self._as_drawn(letter)
        ]
        missing = "".join(
            sorted(
                {
                    letter
                    for letter in letters
                    if not self._usual(letter) and self._may_be_found(letter)
                }
            )
        )
        faces = _faces(missing)
        found = {letter for face in faces for letter in _covered(face.file, missing)}
        kept = [letter for letter in letters if self._usual(letter) or letter in found]
        lost = any(
            _counts(letter) and not self._usual(letter) and letter not in found
            for letter in letters
        )
        shown = "".join(kept)
        return Drawable(" ".join(shown.split()) if tidy else shown, faces, lost)

    def name(self, name: str, instead: str) -> str:
        """A file's name as it can be drawn, ``instead`` where letters of it cannot."""
        suffix = Path(name).suffix
        stem, ending = self.drawable(name.removesuffix(suffix)), self.drawable(suffix)
        if stem.lost or ending.lost or not any(map(str.isalnum, stem.text)):
            return instead
        return stem.text + ending.text

    def _as_drawn(self, letter: str) -> str:
        """A letter, or what stands for it in the usual font; nothing for what has no form of its
        own.
        """
        if letter.isspace():
            return " "
        if self._usual(letter):
            return letter
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cf") or 0xFE00 <= ord(letter) <= 0xFE0F or 0x300 <= ord(letter) <= 0x36F:
            return ""
        folded = unicodedata.normalize("NFKD", letter.translate(_SIGNS))
        folded = "".join(part for part in folded if not unicodedata.combining(part))
        return folded if folded and all(map(self._usual, folded)) else letter

    def _usual(self, letter: str) -> bool:
        return letter == " " or (
            letter.isprintable() and self.has(letter) and (self.joins or not _is_joined(letter))
        )

    def _may_be_found(self, letter: str) -> bool:
        return unicodedata.category(letter) not in ("Cs", "Co", "Cn") and (
            self.joins or not _is_joined(letter)
        )


def pillow() -> Writer:
    """Pillow with the font that it brings, which has the letters of ASCII."""
    from PIL import features

    return Writer(str.isascii, bool(features.check("raqm")))


def figures(weight: str = "normal") -> Writer:
    """matplotlib with the font that it takes where none is named. It joins letters from its version
    3.11 on.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont

    file = str(findfont(FontProperties(weight=weight)))
    return Writer(
        lambda letter: bool(_covered(file, letter)),
        tuple(matplotlib.__version_info__[:2]) >= (3, 11),
    )


def for_figure(text: str, weight: str = "normal") -> tuple[str, dict[str, Any]]:
    """A text as a figure can draw it, and what ``Figure.text`` and ``Axes.text`` must be told
    beside it.
    """
    import matplotlib

    found = figures(weight).drawable(text)
    how: dict[str, Any] = {"fontweight": weight, "parse_math": False}
    if found.faces:
        how["fontfamily"] = [
            *matplotlib.rcParams["font.family"],
            *(face.family for face in found.faces),
        ]
    return found.text, how


# ---- fonts ---------------------------------------------------------------------------------------


def _is_joined(letter: str) -> bool:
    code = ord(letter)
    return any(low <= code <= high for low, high in _JOINED) or unicodedata.bidirectional(
        letter
    ) in ("R", "AL")


def _counts(letter: str) -> bool:
    """Whether a text says something else without it: letters, digits, and what no text can hold."""
    return unicodedata.category(letter)[0] in "LNM" or unicodedata.category(letter) in (
        "Cs",
        "Co",
        "Cn",
    )


def _faces(missing: str) -> tuple[Face, ...]:
    """The fonts of this machine that have most of these letters, as few as it takes."""
    if not missing:
        return ()
    with _silence():
        return _chosen(_candidates(), missing)


def _candidates() -> tuple[Face, ...]:
    """A font for each family, those first that are upright, of usual weight, and without serifs."""
    from matplotlib.font_manager import fontManager, weight_dict

    def unlike(entry: Any) -> tuple[object, ...]:
        weight = (
            weight_dict.get(entry.weight, 400) if isinstance(entry.weight, str) else entry.weight
        )
        return (
            entry.style != "normal",
            abs(weight - 400),
            "sans" not in entry.name.lower(),
            entry.name,
            entry.fname,
        )

    fit = [
        entry
        for entry in fontManager.ttflist
        if not getattr(entry, "index", 0) and not _UNFIT.match(entry.name)
    ]
    found: dict[str, Face] = {}
    for entry in sorted(fit, key=unlike):
        found.setdefault(entry.name, Face(entry.name, str(entry.fname)))
    return tuple(found.values())


@lru_cache(maxsize=256)
def _chosen(candidates: tuple[Face, ...], missing: str) -> tuple[Face, ...]:
    covered: dict[Face, set[str]] = {}
    for candidate in candidates:
        if _covered(candidate.file, missing) and (face := _as_found(candidate)) is not None:
            covered[face] = set(_covered(face.file, missing))
            if len(covered[face]) == len(missing):
                return (face,)
    found: list[Face] = []
    left = set(missing)
    while covered and len(found) < _MOST:
        best = max(covered, key=lambda face: len(covered[face] & left))  # the first of them
        if not covered[best] & left:
            break
        found.append(best)
        left -= covered.pop(best)
    return tuple(found)


def _as_found(face: Face) -> Face | None:
    """The font with the file that matplotlib takes for its family."""
    from matplotlib.font_manager import FontProperties, findfont

    try:
        file = findfont(FontProperties(family=[face.family]), fallback_to_default=False)
    except ValueError:
        return None
    return Face(face.family, str(file)) if not getattr(file, "face_index", 0) else None


@lru_cache(maxsize=8192)
def _covered(file: str, letters: str) -> str:
    """Those of the letters that a font file can draw: it has an outline for them. Empty where it
    cannot be read.
    """
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        font.set_size(12, 72)
        return "".join(dict.fromkeys(letter for letter in letters if _is_drawn(font, letter)))
    except (OSError, RuntimeError, ValueError, TypeError):
        return ""


def _is_drawn(font: Any, letter: str) -> bool:
    if not font.get_char_index(ord(letter)):
        return False
    font.load_char(ord(letter))
    return letter.isspace() or len(font.get_path()[0]) > 0 or unicodedata.category(letter) == "Zs"


@contextmanager
def _silence() -> Iterator[None]:
    """Within it, matplotlib does not say that it lists the fonts or where it keeps the list."""
    loggers = [logging.getLogger(name) for name in ("matplotlib", "matplotlib.font_manager")]
    were_disabled = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, was in zip(loggers, were_disabled, strict=True):
            logger.disabled = was
