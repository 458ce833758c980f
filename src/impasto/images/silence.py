"""Decoders under our own limits: silent, strict, one at a time, and their global settings restored
afterwards.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from PIL import Image, ImageFile

_LOCK = threading.RLock()


@contextmanager
def quiet(limit: float) -> Iterator[None]:
    """Within it, Pillow refuses more than twice ``limit`` million pixels and truncated files;
    warnings are off.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        loggers = [logging.getLogger(name) for name in ("tifffile", "PIL.TiffImagePlugin")]
        were_disabled = [logger.disabled for logger in loggers]
        for logger in loggers:  # they say on stderr what becomes a sentence of our own
            logger.disabled = True
        # Headers are checked before, by a check that can say how large the picture is. Pillow's own
        # check stays as a net under containers whose header does not tell the size of what is
        # inside.
        Image.MAX_IMAGE_PIXELS = max(1, int(limit * 1e6)) if math.isfinite(limit) else None
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before
            for logger, was in zip(loggers, were_disabled, strict=True):
                logger.disabled = was


@contextmanager
def no_stderr() -> Iterator[None]:
    """Within it, what C libraries write to the file descriptor of stderr is dropped.

    libtiff, libpng, libheif and LibRaw print on their own what becomes a sentence of our own. The
    descriptor belongs to the whole process, so this is held as briefly as possible, under the same
    lock.
    """
    with _LOCK:
        try:
            kept = os.dup(2)
        except OSError:  # closed: nothing can be written there
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, 2)
            finally:
                os.close(nowhere)
            yield
        finally:
            with suppress(OSError):
                os.dup2(kept, 2)
            os.close(kept)
