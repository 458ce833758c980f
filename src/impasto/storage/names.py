"""Handle file names: convert them to text and back (also if not UTF-8), shorten and test them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

MAX_NAME_BYTES = 255  # of a file's name, on nearly all file systems

_FILE = "file:"


def parse_file_name(value: object) -> str:
    """Return a file's name from a name, a path, or the text that ``file_name_text`` returned.

    Raises:
        ValueError: something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise ValueError("the name of a file")
    name = os.fsdecode(value)
    return (
        os.fsdecode(unquote_to_bytes(name.removeprefix(_FILE))) if name.startswith(_FILE) else name
    )


def file_name_text(name: str) -> str:
    """Return a file's name as text that JSON, TOML and XML can hold.

    File names are bytes. Python spells bytes that are not UTF-8 as lone surrogates (PEP 383), which
    text files cannot hold. Such a name is percent-encoded after ``file:`` as in RFC 8089; other
    names stay as they are.
    """
    return (
        _FILE + quote(os.fsencode(name)) if name.startswith(_FILE) or not _is_utf8(name) else name
    )


def expand_home(name: str | os.PathLike[str]) -> str:
    """Return a file's name with ``~`` replaced by the home folder, as a shell does it.

    A name stays as it is where a file of that very name exists.
    """
    name = os.fspath(name)
    return os.path.expanduser(name) if name.startswith("~") and not os.path.lexists(name) else name


def json_text(values: Any, indent: int | None = None) -> str:
    """Return plain values as JSON text.

    Letters outside ASCII are escaped only if a file's name in it is not UTF-8.
    """
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return text if _is_utf8(text) else json.dumps(values, indent=indent)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shorten_name(name: str, ending: str = "", max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return ``name`` and ``ending`` together, in at most ``max_bytes`` bytes.

    A part that is cut off is replaced by a hash of ``name``, so that different names stay
    different.
    """
    if len(os.fsencode(name + ending)) <= max_bytes:
        return name + ending
    suffix = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}{ending}"
    # Letter by letter, because a letter may be several bytes.
    while len(os.fsencode(name + suffix)) > max_bytes:
        name = name[:-1]
    return name + suffix


def exists(name: str) -> bool:
    """Whether there is a file or folder of this name; a text that cannot be a name is none."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def is_file(name: str) -> bool:
    """Whether there is a file of this name."""
    return exists(name) and Path(name).is_file()
