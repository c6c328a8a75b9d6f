"""Whether a FHIR server is there, for our readiness: its `metadata`, asked seldom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx

from app.ehr.outbound import connections

_SECONDS_TO_ANSWER = 2
_SECONDS_GOOD = 10
# Whether our credentials are good is told by the first call; that it asks for some, it is there.
_THERE = {200, 401, 403}


class Probe:
    """Asks a FHIR server for its `metadata`; what it answered holds for a while."""

    def __init__(self, base: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = f"{base.rstrip('/')}/metadata?_summary=true"
        self._clock = clock
        self._client = connections()
        self._lock = asyncio.Lock()
        self._fault = ""
        self._good_until = float("-inf")

    async def fault(self) -> str:
        """Why the server is not to be counted on; empty where it is. Callers share one request."""
        async with self._lock:
            if self._clock() >= self._good_until:
                self._fault = await self._asked()
                self._good_until = self._clock() + _SECONDS_GOOD
            return self._fault

    async def _asked(self) -> str:
        try:
            async with (
                asyncio.timeout(_SECONDS_TO_ANSWER),
                self._client.stream(
                    "GET", self._url, headers={"accept": "application/fhir+json"}
                ) as response,
            ):
                status = response.status_code
        except (httpx.TimeoutException, TimeoutError):
            return f"it did not answer within {_SECONDS_TO_ANSWER} seconds"
        except httpx.HTTPError:
            return "it cannot be reached"
        return "" if status in _THERE else f"it answered {status} to metadata"

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()
