"""Turns at a few places: in order, and so that one caller leaves room for another."""

from __future__ import annotations

import asyncio
from collections import Counter


class FullError(Exception):
    """As many wait as may."""


class Turns:
    """Places, and who waits for one.

    A caller who is known by name gets at most all places but one, and at most half of the room to
    wait; of those who wait, he comes first who has the fewest places, then who came first.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self._free = places
        self._waiting = waiting
        self._most_of_one = max(1, places - 1)
        self._taken: Counter[str] = Counter()
        # In the order they came.
        self._queue: list[tuple[str | None, asyncio.Future[None]]] = []

    async def acquire(self, caller: str | None) -> None:
        """Returns when it is the caller's turn; FullError where he may not even wait."""
        if not self._queue and self._may(caller):
            self._give(caller)
            return
        ours = sum(name == caller for name, _ in self._queue) if caller else 0
        if len(self._queue) >= self._waiting or (caller and 2 * ours >= self._waiting):
            raise FullError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((caller, turn))
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # His turn came as he went.
                self.release(caller)
            else:
                self._queue = [one for one in self._queue if one[1] is not turn]
            raise

    def release(self, caller: str | None) -> None:
        """Gives the place back."""
        self._free += 1
        if caller:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]
        self._next()

    def _may(self, caller: str | None) -> bool:
        return self._free > 0 and (not caller or self._taken[caller] < self._most_of_one)

    def _give(self, caller: str | None) -> None:
        self._free -= 1
        if caller:
            self._taken[caller] += 1

    def _next(self) -> None:
        """Gives the free places to those who wait."""
        # Who was cancelled still stands in the queue until he is told so.
        while able := [one for one in self._queue if not one[1].done() and self._may(one[0])]:
            first = min(able, key=lambda one: self._taken[one[0]] if one[0] else 0)
            self._queue.remove(first)
            self._give(first[0])
            first[1].set_result(None)
