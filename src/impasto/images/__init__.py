"""Files <-> pixels: rotation, color, alpha, 16 bit, resizing, and the recipe in the saved file.

``reading`` is where reading starts: ``sources`` opens what it was given, ``formats`` chooses a
decoder by content, the decoders (one file for each format) give ``decoding.Decoded``, and
``finishing`` makes a ``pixels.Picture`` of it. ``refusals`` has the sentences for what is no
picture, ``profiles`` and ``colorimetry`` the colors, ``exif`` the camera's data, ``silence`` the
guards around foreign decoders. ``writing`` saves, ``embedding`` knows recipe and credit as an XMP
packet. ``contact_sheet`` makes labeled contact sheets and posters: ``sheet`` is the surface,
``text_layout`` wraps and draws text, ``lettering`` finds which letters can be drawn by which font.
"""

from impasto.images.contact_sheet import Heading, contact_sheet, poster
from impasto.images.embedding import embedded_credit, embedded_recipe
from impasto.images.pixels import Picture, Pixels, from_tensor, median, reduced, resize, to_tensor
from impasto.images.probing import Header, probe
from impasto.images.reading import read
from impasto.images.sources import stream_contents as contents
from impasto.images.text_layout import shown_name
from impasto.images.writing import EXTENSIONS, check_output, save
from impasto.storage.files import replace_file
from impasto.storage.output_paths import check_file

__all__ = [
    "EXTENSIONS",
    "Header",
    "Heading",
    "Picture",
    "Pixels",
    "check_file",
    "check_output",
    "contact_sheet",
    "contents",
    "embedded_credit",
    "embedded_recipe",
    "from_tensor",
    "median",
    "poster",
    "probe",
    "read",
    "reduced",
    "replace_file",
    "resize",
    "save",
    "shown_name",
    "to_tensor",
]
