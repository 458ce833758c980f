"""Pages that need nothing else: a template filled in, and files written into what it makes.

It knows HTML's templates, and that words which come from outside are escaped. It refuses to know
what a page shows.
"""

from __future__ import annotations

import base64
from importlib import resources


def fill(package: str, template: str, **values: object) -> str:
    """The template of that name in a package, with these values. One that it asks for and is not
    given is an error.

    What no text can hold, of names that are not UTF-8, becomes question marks.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.from_string(
        resources.files(package).joinpath(template).read_text("utf-8")
    ).render(values)
    return page.encode(errors="replace").decode()


def embedded(kind: str, content: bytes) -> str:
    """A file as an address that holds it; ``kind`` is its media type, as image/png."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
