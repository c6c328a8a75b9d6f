"""What is fetched from those who issue tokens: key sets, metadata, what a token is worth."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from app.ehr.outbound import LinkLocalError, tls, watch

_FRESH_SECONDS = 3600
_ASKED_AGAIN_SECONDS = 60
_MOST_BYTES = 262_144
_TIMEOUT_SECONDS = 3

Key = Mapping[str, Any]


class UnreadableError(Exception):
    """Something could not be fetched; the message says why."""


async def fetch(
    url: str,
    form: Mapping[str, str] | None = None,
    credentials: tuple[str, str] | None = None,
) -> bytes:
    """The JSON at an address, with a form the answer to a POST.

    UnreadableError where it is too large, too slow, elsewhere (a redirect), not https, or on a
    link-local address, where clouds tell their machines' secrets.
    """
    if not _is_safe(url):
        raise UnreadableError("its address is not https")
    body = bytearray()
    trusted = await asyncio.to_thread(tls)
    try:
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            httpx.AsyncClient(
                timeout=_TIMEOUT_SECONDS,
                trust_env=False,
                verify=trusted,
                event_hooks={"request": [watch]},
            ) as http,
            http.stream(
                "POST" if form else "GET",
                url,
                headers={"Accept": "application/json"},
                data=form,
                auth=credentials,
            ) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise UnreadableError(f"its address answers {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise UnreadableError("it is too large")
    except LinkLocalError:
        raise UnreadableError("its address is link-local") from None
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
        raise UnreadableError("its address does not answer") from None
    return bytes(body)


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return parts.scheme == "http" and loopback


class KeySet:
    """A JSON Web Key Set: fetched when it is needed, and kept."""

    def __init__(
        self,
        address: Callable[[], Awaitable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`address` tells where it is; UnreadableError where that cannot be told."""
        self.why = ""
        """Why it could not be read when it was last asked for; nothing where it could."""
        self._address = address
        self._clock = clock
        self._keys: Sequence[Key] = ()
        self._asked = self._fetched = float("-inf")
        self._lock = asyncio.Lock()

    async def found(self, kid: str | None) -> Sequence[Key]:
        """The keys of that id (None: of any) that are there to check signatures.

        The set is asked for anew where it is old or has none of that id, but never in haste. Where
        it cannot be read, the keys known before stay.
        """
        if self._should_ask(kid):
            async with self._lock:
                if self._should_ask(kid):
                    self._asked = self._clock()
                    await self._renew()
        return self._known(kid)

    def _known(self, kid: str | None) -> Sequence[Key]:
        return [key for key in self._keys if kid is None or key.get("kid") == kid]

    def _should_ask(self, kid: str | None) -> bool:
        now = self._clock()
        # A clock that is set back must not make what was fetched later good for ever.
        stale = abs(now - self._fetched) > _FRESH_SECONDS
        return (stale or not self._known(kid)) and abs(now - self._asked) >= _ASKED_AGAIN_SECONDS

    async def _renew(self) -> None:
        try:
            self._keys = keys_of(await fetch(await self._address()))
            self._fetched, self.why = self._asked, ""
        except UnreadableError as error:
            self.why = str(error)


def keys_of(body: bytes) -> Sequence[Key]:
    """The keys of a set that are there to check signatures; UnreadableError for what is no set."""
    try:
        listed = msgspec.json.decode(body)["keys"]
        keys = [one for one in listed if isinstance(one, dict) and _checks_signatures(one)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        raise UnreadableError("it is not a JSON Web Key Set") from None
    if not keys:
        raise UnreadableError("there is no key for signatures in its key set")
    return keys


def _checks_signatures(key: Key) -> bool:
    """Not one to encrypt with (RFC 7517, 4.2 and 4.3), nor a secret that both sides would know."""
    operations = key.get("key_ops", ["verify"])
    meant = key.get("use", "sig") == "sig" and "verify" in operations
    return bool(meant) and key.get("kty") in {"RSA", "EC", "OKP"}
