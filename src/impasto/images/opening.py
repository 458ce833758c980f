"""Input pictures whose headers are read first, and their pixels later at the needed size.

So a request that cannot be met is refused before anything is decoded, and a picture that is much
larger than needed is never in memory as a whole.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace

from impasto import images
from impasto.errors import DoesNotFit
from impasto.images import Header, Picture
from impasto.recipe import values
from impasto.storage import names

_PROGRAM_BYTES = 120 * 10**6  # Python and its libraries, before torch
# Bytes. Smaller pictures are not checked here: the plan for torch's memory decides.
_UNCHECKED_BYTES = 64 * 10**6
# A path, bytes, an open file, a museum name, a PIL image, a numpy array or a torch tensor.
Source = object


@dataclass
class Opened:
    """A picture whose header has been read.

    ``whole``: its pixels, if they are in memory already.
    """

    source: str
    header: Header
    input: Source
    max_megapixels: float
    whole: Picture | None = None
    _read: dict[int | None, Picture] = field(default_factory=dict)

    def read(self, side: int | None, memory: int = 0) -> Picture:
        """The picture, reduced to no less than twice the long ``side`` in px that is needed.

        None: every pixel is kept.

        Raises:
            BadPicture: it is damaged.
            DoesNotFit: reading it takes more than ``memory`` bytes, unless that is 0.
        """
        if self.whole is not None:
            return self.whole
        if side not in self._read:
            decoding = self.header.decode_bytes(side)
            needed = decoding + _PROGRAM_BYTES
            if memory and needed > memory and decoding > _UNCHECKED_BYTES:
                raise DoesNotFit(
                    f"Reading {self.source} ({self.header.size}) takes about "
                    f"{values.bytes_text(needed)}, and --memory allows "
                    f"{values.bytes_text(memory)}.",
                    f"Ask for --memory {math.ceil(needed / 1e8) / 10:g}GB, or make the file "
                    f"smaller.",
                )
            picture = images.read(self.input, max_megapixels=self.max_megapixels, side=side)
            self._read[side] = (
                replace(picture, source=self.source) if picture.source == "bytes" else picture
            )
        return self._read[side]


def opened(source: Source, max_megapixels: float) -> Opened:
    """A picture of any source; a stream is read to its end, because it cannot be read twice.

    Raises:
        BadPicture, MissingExtra: as ``images.probe`` does.
    """
    name = "bytes" if isinstance(source, bytes | bytearray | memoryview) else "picture"
    if isinstance(source, str | os.PathLike):
        source = name = names.expand_home(source)
    elif hasattr(source, "read"):
        contents = images.contents(source)
        name, source = contents.source, contents.data
    return Opened(name, images.probe(source, max_megapixels), source, max_megapixels)
