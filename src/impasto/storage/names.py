"""File names as text, also those that are not UTF-8."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_FILE = "file:"


def file_name(value: object) -> str:
    """A file's name from itself, from a path, or from the text that ``file_text`` made of it."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError("the name of a file")
    name = os.fsdecode(value)
    return (
        os.fsdecode(unquote_to_bytes(name.removeprefix(_FILE))) if name.startswith(_FILE) else name
    )


def file_text(name: str) -> str:
    """A file's name as text that JSON, TOML and XML can hold.

    A name is bytes; what is not UTF-8 in it comes as lone surrogates (PEP 383), which no text file
    may hold. Such a name is written percent-encoded after ``file:``, as RFC 8089 does, and every
    other one as it is.
    """
    return (
        _FILE + quote(os.fsencode(name)) if name.startswith(_FILE) or not _is_utf8(name) else name
    )


def expanded(name: str | os.PathLike[str]) -> str:
    """A file's name with ``~`` replaced by the home folder, as a shell would have done, unless a
    file is called so.
    """
    name = os.fspath(name)
    return os.path.expanduser(name) if name.startswith("~") and not os.path.lexists(name) else name


def json_text(values: Any, indent: int | None = None) -> str:
    """Plain values as JSON; all letters are escaped where a file's name is not UTF-8 (see
    ``file_text``).
    """
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return text if _is_utf8(text) else json.dumps(values, indent=indent)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def exists(name: str) -> bool:
    """Whether there is a file or folder of this name; a text that cannot be a name is none."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def is_file(name: str) -> bool:
    """Whether there is a file of this name."""
    return exists(name) and Path(name).is_file()
