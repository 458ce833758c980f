"""Files <-> pixels: rotation, colour profiles, alpha, 16 bit, resizing, and the recipe in the saved file.

It knows picture formats. It refuses to know networks, styles, and which size or format anyone wants.

The rooms inside: ``pixels`` (the Picture record, resizing, tensors), ``profiles`` (any colour space to
sRGB), ``decoding`` (a format's samples at their full depth), ``reading`` (the door in), ``embedding``
(recipe and credit as an XMP packet), ``writing`` (the door out), ``sheets`` (labelled contact sheets and posters).
"""

from impasto.images.embedding import embedded_credit, embedded_recipe
from impasto.images.pixels import Picture, Pixels, from_tensor, median, reduced, resize, to_tensor
from impasto.images.reading import read
from impasto.images.sheets import Heading, contact_sheet, poster
from impasto.images.writing import EXTENSIONS, check_file, check_output, replace_file, save, shortened

__all__ = [
    "EXTENSIONS",
    "Heading",
    "Picture",
    "Pixels",
    "check_file",
    "check_output",
    "contact_sheet",
    "embedded_credit",
    "embedded_recipe",
    "from_tensor",
    "median",
    "poster",
    "read",
    "reduced",
    "replace_file",
    "resize",
    "save",
    "shortened",
    "to_tensor",
]
