"""How often one caller may ask."""

from __future__ import annotations

import ipaddress
import math
import time

from app.fhir.outcome import Fault, RequestError


class Rates:
    """Counts the requests of each caller, in this process."""

    def __init__(self, limit: str) -> None:
        """`limit` is such as `600/minute`."""
        from limits import parse  # noqa: PLC0415 slow to import
        from limits.aio.storage import MemoryStorage  # noqa: PLC0415
        from limits.aio.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415

        self._limit = parse(limit)
        self._said = limit
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, caller: str) -> None:
        """RequestError 429 where the caller has asked as often as he may."""
        if await self._counter.hit(self._limit, caller):
            return
        stats = await self._counter.get_window_stats(self._limit, caller)
        seconds = max(1, math.ceil(stats.reset_time - time.time()))
        text = f"You have asked as often as one caller may ({self._said}, MAA_RATE_LIMIT)."
        raise RequestError(429, Fault("throttled", text), retry_after=seconds)


def name_of(address: str) -> str:
    """An address as one caller's: of IPv6 the network, whose addresses are all one subscriber's."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"address:{address}"
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return f"address:{ipaddress.ip_network((ip, 64), strict=False)}"
    return f"address:{ip}"
