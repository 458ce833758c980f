"""Netpbm pictures of 16 bits (PPM, PGM) and of floats (PFM), which Pillow reads at 8 bits or not at
all.
"""

from __future__ import annotations

import re
import sys

import numpy as np

from impasto.geometry import Size
from impasto.images.decoding import Decoded, Task, decoded_arrays, full_scale
from impasto.images.refusals import cut_short

_HEADER = re.compile(rb"(P[56Ff])" + rb"(?:\s|#[^\n]*\n)+(-?[\d.eE+-]+)" * 3 + rb"\s")
_CHANNELS = {b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}


def is_deep(head: bytes) -> bool:
    """Whether these are the first bytes of a picture that is read here."""
    match = _HEADER.match(head)
    return match is not None and (
        match[1] in (b"Pf", b"PF") or (match[4].isdigit() and 255 < int(match[4]) < 65536)
    )


def size(data: bytes) -> Size:
    """Height and width in the header. Raises ValueError where it makes no sense."""
    match = _HEADER.match(data[:4096])
    if match is None:
        raise ValueError("its header makes no sense")
    return Size(int(match[3]), int(match[2]))


def decode(data: bytes, task: Task) -> Decoded:
    """The samples, 16 bits or floats 0..1; rows of a PFM are from the bottom up."""
    match = _HEADER.match(data)
    if match is None:
        raise ValueError("its header makes no sense")
    shape = size(data)
    task.check(shape)
    floats = match[1] in (b"Pf", b"PF")
    scale = float(match[4])
    kind = np.dtype(("<f4" if scale < 0 else ">f4") if floats else ">u2")
    count = shape.pixels * _CHANNELS[match[1]]
    if len(data) - match.end() < count * kind.itemsize:
        raise cut_short(task.label)
    samples = np.frombuffer(data, kind, count, match.end()).reshape(*shape, _CHANNELS[match[1]])
    samples = samples.astype(kind.newbyteorder("<" if sys.byteorder == "little" else ">"))
    notes: list[str] = []
    if floats:
        samples = full_scale(samples[::-1], notes)
    elif scale != 65535:
        samples = np.rint(np.minimum(samples, scale) * (65535 / scale)).astype(np.uint16)
    return decoded_arrays(samples, "gray" if samples.shape[2] == 1 else "rgb", notes=notes)
