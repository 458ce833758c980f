"""Suppress the output of decoders, and restore the process's settings afterwards."""

from __future__ import annotations

import logging
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from PIL import Image, ImageFile

# Everything here changes settings of the whole process. The lock lets one thread at a time do so,
# since two that overlap would restore each other's changes.
_LOCK = threading.RLock()
_DECODER_LOGGERS = ("tifffile", "PIL.TiffImagePlugin")


@contextmanager
def quiet(limit: float) -> Iterator[None]:
    """Suppress the messages of decoders, and make Pillow strict, inside the context.

    Pillow refuses files that are cut short, and pictures of more than twice ``limit`` million
    pixels.
    """
    with no_messages(*_DECODER_LOGGERS):
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        # Sizes in headers are checked elsewhere, with a better message. Pillow's own check is for
        # containers whose header does not have the size of their contents.
        Image.MAX_IMAGE_PIXELS = max(1, int(limit * 1e6)) if math.isfinite(limit) else None
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def no_messages(*loggers: str) -> Iterator[None]:
    """Suppress Python warnings and the messages of these loggers inside the context."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = {name: logging.getLogger(name).disabled for name in loggers}
        for name in loggers:
            logging.getLogger(name).disabled = True
        try:
            yield
        finally:
            for name, was_disabled in before.items():
                logging.getLogger(name).disabled = was_disabled


@contextmanager
def no_stderr() -> Iterator[None]:
    """Discard what C libraries write to the file descriptor of stderr inside the context.

    libtiff, libpng, libheif and LibRaw print messages for errors that are reported in other words.
    Other threads' output is discarded too, so the context should be short.
    """
    with _LOCK:
        try:
            original = os.dup(2)
        except OSError:  # closed: nothing can be written there
            yield
            return
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, 2)
            finally:
                os.close(null)
            yield
        finally:
            with suppress(OSError):
                os.dup2(original, 2)
            os.close(original)
