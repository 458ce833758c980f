"""Read pictures from files and arrays, and save them: rotation, color, alpha, 16 bit, metadata.

Reading: ``sources`` opens the input, ``formats`` chooses a decoder by content, and the decoder (one
file for each format) returns ``decoding.Decoded``. ``finishing`` makes a ``pixels.Picture`` of it.
``probing`` reads only the header. ``refusals`` has the error messages, ``profiles`` and
``colorimetry`` convert colors, ``exif`` keeps camera data, and ``silence`` suppresses what decoders
print.

Saving: ``writing`` encodes, and ``embedding`` stores recipe and credit as an XMP packet.

``contact_sheet`` makes labeled contact sheets and posters: ``sheet`` is the surface,
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
