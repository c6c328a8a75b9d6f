"""What is worked out of callers' texts is kept for one request, so that nothing of theirs stays.

Only what is made of our own words (codes, units, their names) and of numbers outlives it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from functools import _lru_cache_wrapper, lru_cache
from hashlib import blake2b
from typing import Generic, TypeVar
from urllib.parse import urlsplit

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_KEY = os.urandom(32)
LONGEST = 2000
"""A longer text is not worth its place in memory."""
# The standard library keeps the addresses that it was asked to split, with the patients in them.
_forgetting: list[Callable[[], None]] = [getattr(urlsplit, "cache_clear", lambda: None)]


def digest(text: bytes) -> bytes:
    """A name for a text, from which nothing of it can be had back: the key is this process's."""
    return blake2b(text, digest_size=16, key=_KEY).digest()


def forget() -> None:
    """Let go of everything that came with a request."""
    for one in _forgetting:
        one()


def for_a_request(most: int) -> Callable[[Callable[..., V]], _lru_cache_wrapper[V]]:
    """As `lru_cache`, until the request has been answered."""

    def decorate(function: Callable[..., V]) -> _lru_cache_wrapper[V]:
        cached = lru_cache(maxsize=most)(function)
        _forgetting.append(cached.cache_clear)
        return cached

    return decorate


class Kept(dict[K, V], Generic[K, V]):
    """What was found by a text: for good where the text is made of our own words."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._passing: list[K] = []
        _forgetting.append(self.forget)

    def keep(self, text: K, found: V, ours: bool) -> V:
        """Keep what was found, unless there is too much already."""
        if len(self) >= self._most:
            self.forget()
        if len(self) < self._most:
            self[text] = found
            if not ours:
                self._passing.append(text)
        return found

    def forget(self) -> None:
        """Let go of all that is not made of our own words."""
        for text in self._passing:
            self.pop(text, None)
        self._passing.clear()
