"""Decode Netpbm pictures of 16 bits (PPM, PGM) and of floats (PFM).

Pillow reads these at 8 bits or not at all.
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
    """Whether these are the first bytes of such a picture."""
    match = _HEADER.match(head)
    return match is not None and (
        match[1] in (b"Pf", b"PF") or (match[4].isdigit() and 255 < int(match[4]) < 65536)
    )


def size(data: bytes) -> Size:
    """Height and width in the header. Raises ValueError if it is invalid."""
    match = _HEADER.match(data[:4096])
    if match is None:
        raise ValueError("its header is invalid")
    return Size(int(match[3]), int(match[2]))


def decode(data: bytes, task: Task) -> Decoded:
    """The samples, 16 bits or floats 0..1. The rows of a PFM are stored from the bottom up."""
    match = _HEADER.match(data)
    if match is None:
        raise ValueError("its header is invalid")
    picture_size = size(data)
    task.check(picture_size)
    is_float = match[1] in (b"Pf", b"PF")
    scale = float(match[4])
    dtype = np.dtype(("<f4" if scale < 0 else ">f4") if is_float else ">u2")
    count = picture_size.pixels * _CHANNELS[match[1]]
    if len(data) - match.end() < count * dtype.itemsize:
        raise cut_short(task.label)
    samples = np.frombuffer(data, dtype, count, match.end()).reshape(
        *picture_size, _CHANNELS[match[1]]
    )
    samples = samples.astype(dtype.newbyteorder("<" if sys.byteorder == "little" else ">"))
    notes: list[str] = []
    if is_float:
        samples = full_scale(samples[::-1], notes)
    elif scale != 65535:
        samples = np.rint(np.minimum(samples, scale) * (65535 / scale)).astype(np.uint16)
    return decoded_arrays(samples, "gray" if samples.shape[2] == 1 else "rgb", notes=notes)
