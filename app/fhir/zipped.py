"""Gzip in pieces, within bounds: a few zipped bytes may become any number of plain ones."""

from __future__ import annotations

import zlib

ENCODINGS = {"gzip", "x-gzip"}
"""The names of a Content-Encoding that is unpacked."""


class NoGzipError(Exception):
    """Bytes that are not the gzip they are said to be."""


class Unzipping:
    """One gzip that is being unpacked."""

    def __init__(self) -> None:
        self._unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def piece(self, zipped: bytes, most_bytes: int) -> bytes:
        """What the next bytes hold; of more than may be only one byte more.

        Raises NoGzipError.
        """
        try:
            return self._unzip.decompress(zipped, most_bytes + 1)
        except zlib.error:
            raise NoGzipError from None

    @property
    def ended(self) -> bool:
        """Whether it came whole."""
        return self._unzip.eof

    @property
    def is_followed(self) -> bool:
        """Whether something else comes behind it."""
        return bool(self._unzip.unused_data)
