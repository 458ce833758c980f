"""Store recipe, credit and title in a picture file as an XMP packet, and read them.

XMP is ISO 16684-1. PNG, JPEG, WebP and TIFF can hold it, and photo programs show and keep it.
"""

from __future__ import annotations

import os
import re
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from impasto.errors import BadPicture
from impasto.images import formats, heif, png, sources, webp

_NS = "urn:impasto:ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# Characters that XML cannot hold: control characters, and lone surrogates, which Python uses for
# undecodable file names.
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def xmp_packet(recipe: str, credit: str, title: str) -> bytes:
    """The packet to save: credit as dc:rights, title as dc:title; empty if all texts are empty."""
    if not (recipe or credit or title):
        return b""
    lines = ["   <xmp:CreatorTool>Impasto</xmp:CreatorTool>"]
    for name, text in (("title", title), ("rights", credit)):
        if text:
            item = f'<rdf:li xml:lang="x-default">{_escaped(text)}</rdf:li>'
            lines.append(f"   <dc:{name}><rdf:Alt>{item}</rdf:Alt></dc:{name}>")
    if recipe:
        lines.append(f"   <impasto:recipe>{_escaped(recipe)}</impasto:recipe>")
    body = "\n".join(lines)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="{_DC}"'
        f' xmlns:impasto="{_NS}">\n{body}\n'
        "  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    ).encode()


def embedded_recipe(path: str | bytes | os.PathLike[Any]) -> str | None:
    """The recipe text in a picture, as it was given to ``save``; None if there is none.

    No pixels are decoded. Raises BadPicture if the file is missing or no picture.
    """
    return _text(path, f"{{{_NS}}}recipe")


def embedded_credit(path: str | bytes | os.PathLike[Any]) -> str | None:
    """The credit line (dc:rights) in a picture, whoever wrote it; None if there is none.

    Raises BadPicture if the file is missing or no picture.
    """
    return _text(path, f"{{{_DC}}}rights")


def _text(path: str | bytes | os.PathLike[Any], tag: str) -> str | None:
    with sources.open_source(path) as (file, label, name):
        formats.refuse_early(file, label)
        packet = _packet(sources.contents(file, label, name).data, label)
    # XMP has no DOCTYPE; in a malicious file it could expand without end.
    if not packet or b"<!DOCTYPE" in packet:
        return None
    try:
        root = ElementTree.fromstring(packet.strip(b"\0 \n"))
    except ElementTree.ParseError:
        return None
    for description in root.iter(f"{{{_RDF}}}Description"):
        # Other programs write simple properties as attributes.
        if tag in description.attrib:
            return description.attrib[tag]
        element = description.find(tag)
        if element is not None:
            item = element.find(f".//{{{_RDF}}}li")
            return (element if item is None else item).text
    return None


def _packet(data: bytes, label: str) -> bytes:
    """The XMP packet of a file; empty if there is none."""
    if data.startswith(png.SIGNATURE):
        return png.xmp(png.read_chunks(data, label))
    if heif.kind(data[: sources.HEAD]) == "heic":
        info: dict[Any, Any] = heif.header(data, label).info
    else:
        try:
            info = formats.header(
                webp.repaired(data)[0] if webp.is_webp(data) else data, label
            ).info
        except BadPicture:
            if formats.is_beyond_pillow(data):
                return b""  # a picture, but without a header that Pillow reads
            raise
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return packet.encode() if isinstance(packet, str) else bytes(packet)


def _escaped(text: str) -> str:
    # XML parsers turn a plain carriage return into a line feed.
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})
