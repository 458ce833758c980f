"""Fill HTML templates, and embed files in a page so that it needs nothing else."""

from __future__ import annotations

import base64
from importlib import resources


def fill(package: str, template: str, **values: object) -> str:
    """A Jinja template of a package with these values, which are escaped.

    A value that the template needs and does not get is an error. Characters that UTF-8 cannot hold,
    which come from undecodable file names, become question marks.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = resources.files(package).joinpath(template).read_text("utf-8")
    page = environment.from_string(source).render(values)
    return page.encode(errors="replace").decode()


def data_url(media_type: str, content: bytes) -> str:
    """A file as a data URL; ``media_type`` is such as "image/png"."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
